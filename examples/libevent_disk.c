/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A disk ("Block Device", virtio 1.3, 5.2) in the loop of libevent. It reads and writes a file
 * asynchronously, and serves one front-end after another until SIGTERM or SIGINT:
 *
 *     cc -o libevent_disk libevent_disk.c $(pkg-config --cflags --libs godwit libevent_core)
 *     godwit migrate --backend='./libevent_disk {socket} {file}'
 */
#include <endian.h>
#include <event2/event.h>
#include <fcntl.h>
#include <godwit.h>
#include <linux/virtio_blk.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512

struct disk {
    int fd;
    uint64_t size; /* bytes, a multiple of SECTOR */
    struct virtio_blk_config config;
    struct event_base *base;
    struct gw_workers *workers;
    struct gw_worker *worker; /* the only one */
    struct gw_daemon *daemon;
};

/* The private part of each request. The library allocates it with the request. */
struct transfer {
    struct gw_io io; /* first, so that transfer_done can cast */
    struct gw_request *req;
    size_t len;
};

static int get_config(void *dev, uint32_t off, void *buf, uint32_t len)
{
    struct disk *disk = dev;

    return gw_config_read(&disk->config, sizeof(disk->config), off, buf, len);
}

/* gw_worker_run calls this with the result of preadv or pwritev. */
static void transfer_done(struct gw_io *io, int res)
{
    struct transfer *t = (struct transfer *)io;

    gw_request_complete_status(t->req, res == (int)t->len ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
}

/* Begin a transfer. Returns: VIRTIO_BLK_S_OK; the status of a request that is refused. */
static uint8_t begin(const struct disk *disk, struct gw_request *req)
{
    struct transfer *t = gw_request_private(req);
    struct virtio_blk_outhdr header; /* a copy, because the guest can change the original */
    uint64_t sector;
    bool is_read;

    if (!gw_request_take_status(req) ||
        gw_request_read(req, &header, sizeof(header)) != sizeof(header))
        return VIRTIO_BLK_S_IOERR;
    is_read = le32toh(header.type) == VIRTIO_BLK_T_IN;
    if (!is_read && le32toh(header.type) != VIRTIO_BLK_T_OUT)
        return VIRTIO_BLK_S_UNSUPP;
    sector = le64toh(header.sector);
    *t = (struct transfer){.io.done = transfer_done, .req = req};
    t->len = is_read ? req->writable_len : req->readable_len;
    if (t->len % SECTOR != 0 || t->len > disk->size || sector > (disk->size - t->len) / SECTOR)
        return VIRTIO_BLK_S_IOERR;
    if (is_read)
        gw_io_preadv(disk->worker, &t->io, disk->fd, req->writable, req->n_writable,
                     (int64_t)(sector * SECTOR));
    else
        gw_io_pwritev(disk->worker, &t->io, disk->fd, req->readable, req->n_readable,
                      (int64_t)(sector * SECTOR), 0);
    return VIRTIO_BLK_S_OK;
}

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct gw_request *reqs[16];
    unsigned n = gw_queue_pop(q, reqs, 16);

    for (unsigned i = 0; i < n; i++) {
        uint8_t status = begin(dev, reqs[i]);

        if (status != VIRTIO_BLK_S_OK)
            gw_request_complete_status(reqs[i], status);
    }
    return 0;
}

static void worker_ready(evutil_socket_t fd, short what, void *worker)
{
    gw_worker_run(worker, 0); /* calls queue_ready, transfer_done, and finally `ended` */
}

static void interrupted(evutil_socket_t signal, short what, void *daemon)
{
    gw_daemon_stop(daemon);
}

static void ended(void *base, int result)
{
    event_base_loopbreak(base);
}

static int make_device(struct disk *disk)
{
    static const struct gw_device_ops ops = {
        .size = sizeof(ops), .get_config = get_config, .queue_ready = queue_ready};
    const struct gw_workers_config workers_cfg = {.size = sizeof(workers_cfg), .external = true};
    struct gw_daemon_config cfg = {
        .size = sizeof(cfg),
        .request_size = sizeof(struct transfer),
        .handle_sigbus = true,
        .ended = ended,
        .ended_arg = disk->base,
    };
    int r = gw_workers_new(&disk->workers, &workers_cfg);

    if (r < 0)
        return r;
    disk->worker = gw_workers_get(disk->workers, 0);
    cfg.workers = &disk->worker; /* runs the queue, and */
    cfg.control = disk->worker;  /* handles the messages of the front-end */
    return gw_daemon_new(&disk->daemon, &cfg, &ops, disk);
}

static int run(struct disk *disk, const char *path)
{
    struct event *ready = event_new(disk->base, gw_worker_fd(disk->worker), EV_READ | EV_PERSIST,
                                    worker_ready, disk->worker);
    struct event *term = evsignal_new(disk->base, SIGTERM, interrupted, disk->daemon);
    struct event *intr = evsignal_new(disk->base, SIGINT, interrupted, disk->daemon);
    int r;

    event_add(ready, NULL);
    event_add(term, NULL);
    event_add(intr, NULL);
    r = gw_daemon_start_path(disk->daemon, path);
    if (r == 0)
        event_base_dispatch(disk->base);
    event_free(ready); /* before gw_workers_free closes the fd */
    event_free(term);
    event_free(intr);
    return r;
}

/* Returns: 0, or -1 with a message on stderr. */
static int open_disk(struct disk *disk, const char *path)
{
    struct stat st;

    /* O_DSYNC: a write ends when it is durable, because the disk does not offer to flush. */
    disk->fd = open(path, O_RDWR | O_DSYNC | O_CLOEXEC);
    if (disk->fd < 0 || fstat(disk->fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        fprintf(stderr, "libevent_disk: cannot open %s as a regular file\n", path);
        return -1;
    }
    disk->config.capacity = htole64((uint64_t)st.st_size / SECTOR);
    disk->size = (uint64_t)st.st_size / SECTOR * SECTOR;
    return 0;
}

int main(int argc, char **argv)
{
    struct disk disk = {0};
    int r;

    if (argc != 3) {
        fprintf(stderr, "usage: libevent_disk SOCKET FILE\n");
        return 1;
    }
    if (open_disk(&disk, argv[2]) < 0)
        return 1;
    disk.base = event_base_new();
    r = make_device(&disk);
    if (r == 0)
        r = run(&disk, argv[1]);
    if (r < 0)
        fprintf(stderr, "libevent_disk: %s\n", gw_last_error());
    gw_daemon_free(disk.daemon);
    gw_workers_free(disk.workers);
    event_base_free(disk.base);
    close(disk.fd);
    return r < 0;
}
