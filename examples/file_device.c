/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A read-only disk ("Block Device", virtio 1.3, 5.2) that reads a file asynchronously. It serves
 * one front-end, then ends:
 *
 *     cc -o file_device file_device.c $(pkg-config --cflags --libs godwit)
 *     godwit bench './file_device {socket} {file}'
 */
#include <endian.h>
#include <fcntl.h>
#include <godwit.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <sys/stat.h>

#define SECTOR 512

struct disk {
    int fd;
    uint64_t size; /* bytes, a multiple of SECTOR */
    struct virtio_blk_config config;
};

/* The private part of each request. The library allocates it with the request. */
struct read {
    struct gw_io io; /* first, so that read_done can cast */
    struct gw_request *req;
    size_t data_len;
};

static uint64_t features(void *dev)
{
    return UINT64_C(1) << VIRTIO_BLK_F_RO;
}

static int get_config(void *dev, uint32_t off, void *buf, uint32_t len)
{
    struct disk *disk = dev;

    return gw_config_read(&disk->config, sizeof(disk->config), off, buf, len);
}

/* The worker calls this with the result of preadv. A short read means that the file has shrunk. */
static void read_done(struct gw_io *io, int res)
{
    struct read *read = (struct read *)io;

    gw_request_complete_status(read->req,
                               res == (int)read->data_len ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
}

/* Check a request. Returns: its status, and if that is OK, where in the file it begins. */
static uint8_t parse(const struct disk *disk, struct gw_request *req, int64_t *ret_offset)
{
    struct virtio_blk_outhdr header; /* a copy, because the guest can change the original */
    uint64_t sector;

    if (!gw_request_take_status(req) ||
        gw_request_read(req, &header, sizeof(header)) != sizeof(header))
        return VIRTIO_BLK_S_IOERR;
    if (le32toh(header.type) == VIRTIO_BLK_T_OUT)
        return VIRTIO_BLK_S_IOERR; /* as the specification demands of a read-only disk */
    if (le32toh(header.type) != VIRTIO_BLK_T_IN)
        return VIRTIO_BLK_S_UNSUPP;
    sector = le64toh(header.sector);
    if (req->writable_len % SECTOR != 0 || req->writable_len > disk->size ||
        sector > (disk->size - req->writable_len) / SECTOR)
        return VIRTIO_BLK_S_IOERR;
    *ret_offset = (int64_t)(sector * SECTOR);
    return VIRTIO_BLK_S_OK;
}

static void start(const struct disk *disk, struct gw_request *req)
{
    struct read *read = gw_request_private(req);
    int64_t offset;
    uint8_t status = parse(disk, req, &offset);

    *read = (struct read){.io.done = read_done, .req = req, .data_len = req->writable_len};
    if (status != VIRTIO_BLK_S_OK)
        gw_request_complete_status(req, status);
    else
        gw_io_preadv(gw_queue_worker(req->queue), &read->io, disk->fd, req->writable,
                     req->n_writable, offset);
}

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct gw_request *reqs[16];
    unsigned n = gw_queue_pop(q, reqs, 16);

    for (unsigned i = 0; i < n; i++)
        start(dev, reqs[i]);
    return 0;
}

/* Returns: 0, or -1 with a message on stderr. */
static int open_disk(struct disk *disk, const char *path)
{
    struct stat st;

    disk->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (disk->fd < 0 || fstat(disk->fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        fprintf(stderr, "file_device: cannot open %s as a regular file\n", path);
        return -1;
    }
    disk->config.capacity = htole64((uint64_t)st.st_size / SECTOR);
    disk->size = (uint64_t)st.st_size / SECTOR * SECTOR;
    return 0;
}

int main(int argc, char **argv)
{
    static const struct gw_device_ops ops = {.size = sizeof(ops),
                                             .features = features,
                                             .get_config = get_config,
                                             .queue_ready = queue_ready};
    const struct gw_daemon_config cfg = {
        .size = sizeof(cfg),
        .name = "file_device",
        .request_size = sizeof(struct read),
        .handle_sigbus = true, /* so that no front-end can end the process */
    };
    struct gw_daemon *d = NULL;
    struct disk disk = {0};
    int r;

    if (argc != 3) {
        fprintf(stderr, "usage: file_device SOCKET FILE\n");
        return 1;
    }
    if (open_disk(&disk, argv[2]) < 0)
        return 1;
    r = gw_daemon_new(&d, &cfg, &ops, &disk);
    if (r < 0 || (r = gw_daemon_serve(d, argv[1])) < 0)
        fprintf(stderr, "file_device: %s\n", gw_last_error());
    gw_daemon_free(d);
    return r < 0;
}
