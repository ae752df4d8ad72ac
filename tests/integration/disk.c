/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "disk.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BATCH  16
#define SECTOR 512

struct op {
    struct gw_io io;
    struct gw_timer *timer;
    struct gw_request *req;
    struct disk *disk;
    uint8_t *status;
    uint64_t offset;
    uint64_t length;
    uint32_t type;
};

size_t disk_request_size(void)
{
    return sizeof(struct op);
}

static uint64_t features(void *dev)
{
    (void)dev;
    return UINT64_C(1) << VIRTIO_BLK_F_FLUSH;
}

static int get_config(void *dev, uint32_t off, void *buf, uint32_t len)
{
    uint8_t config[DISK_CONFIG] = {0};
    uint64_t sectors = DISK_SIZE / SECTOR;

    (void)dev;
    memcpy(config, &sectors, sizeof(sectors));
    if (off > sizeof(config) || len > sizeof(config) - off)
        return -EINVAL;
    memcpy(buf, config + off, len);
    return 0;
}

static int set_config(void *dev, uint32_t off, const void *buf, uint32_t len, bool migration)
{
    (void)dev;
    (void)buf;
    (void)migration;
    return off > DISK_CONFIG || len > DISK_CONFIG - off ? -EINVAL : 0;
}

/* `length` bytes of data were moved, or `r` tells why not. */
static void complete(struct op *op, int r)
{
    uint32_t written = op->type == VIRTIO_BLK_T_IN && r == 0 ? (uint32_t)op->length : 0;

    if (op->status)
        *op->status = r == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
    gw_request_complete(op->req, op->status ? written + 1 : 0);
}

static void copy_ram(struct disk *disk, void *to, const void *from, size_t len)
{
    pthread_mutex_lock(&disk->ram_lock);
    memcpy(to, from, len);
    pthread_mutex_unlock(&disk->ram_lock);
}

/* By way of the stack: who waits for a page of the guest holds no lock. */
static int do_ram(struct op *op)
{
    uint8_t *at = op->disk->ram + op->offset, *end = at + op->length;
    uint8_t piece[4096];

    for (size_t n; at < end; at += n) {
        n = (size_t)(end - at) < sizeof(piece) ? (size_t)(end - at) : sizeof(piece);
        if (op->type == VIRTIO_BLK_T_IN) {
            copy_ram(op->disk, piece, at, n);
            gw_request_write(op->req, piece, n);
        } else if (op->type == VIRTIO_BLK_T_OUT) {
            gw_request_read(op->req, piece, n);
            copy_ram(op->disk, at, piece, n);
        }
    }
    return 0;
}

static void io_done(struct gw_io *io, int res)
{
    struct op *op = (struct op *)(void *)io;

    complete(op, res == (op->type == VIRTIO_BLK_T_FLUSH ? 0 : (int)op->length) ? 0 : -EIO);
}

static void do_file(struct op *op)
{
    struct gw_worker *w = gw_queue_worker(op->req->queue);
    int64_t offset = (int64_t)op->offset;
    struct gw_request *req = op->req;

    op->io.done = io_done;
    if (op->type == VIRTIO_BLK_T_IN)
        gw_io_preadv(w, &op->io, op->disk->fd, req->in, req->n_in, offset);
    else if (op->type == VIRTIO_BLK_T_OUT)
        gw_io_pwritev(w, &op->io, op->disk->fd, req->out, req->n_out, offset, 0);
    else
        gw_io_fdatasync(w, &op->io, op->disk->fd);
}

static void delay_is_over(void *arg)
{
    struct op *op = arg;

    gw_timer_free(op->timer);
    complete(op, do_ram(op));
}

static void do_slow(struct op *op)
{
    uint64_t delay_ms = __atomic_load_n(&op->disk->delay_ms, __ATOMIC_RELAXED);

    if (gw_timer_new(&op->timer, gw_queue_worker(op->req->queue), delay_is_over, op) < 0)
        complete(op, -ENOMEM);
    else
        gw_timer_start(op->timer, delay_ms * 1000000, 0);
}

/* Returns: 0 when there is something to do; a negative errno for what the guest got wrong. */
static int parse(struct op *op, struct gw_request *req)
{
    struct virtio_blk_outhdr header;

    op->req = req;
    op->status = gw_request_take_status(req);
    op->type = UINT32_MAX;
    if (!op->status || gw_request_read(req, &header, sizeof(header)) != sizeof(header))
        return -EINVAL;
    op->type = header.type;
    if (header.sector > DISK_SIZE / SECTOR)
        return -EINVAL;
    op->offset = header.sector * SECTOR;
    op->length = op->type == VIRTIO_BLK_T_IN ? req->in_len : req->out_len;
    if (op->length > DISK_SIZE - op->offset)
        return -EINVAL;
    return op->type == VIRTIO_BLK_T_IN || op->type == VIRTIO_BLK_T_OUT ||
                   op->type == VIRTIO_BLK_T_FLUSH
               ? 0
               : -EOPNOTSUPP;
}

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct disk *disk = dev;
    struct gw_request *reqs[BATCH];
    int n = gw_queue_pop(q, reqs, BATCH);

    for (int i = 0; i < n; i++) {
        struct op *op = gw_request_private(reqs[i]);
        int r = parse(op, reqs[i]);

        op->disk = disk;
        if (r < 0)
            complete(op, r);
        else if (disk->kind == DISK_RAM)
            complete(op, do_ram(op));
        else if (disk->kind == DISK_FILE)
            do_file(op);
        else
            do_slow(op);
    }
    return 0;
}

static int disk_queue_start(void *dev, struct gw_queue *q)
{
    struct disk *disk = dev;

    return __atomic_exchange_n(&disk->refuses, false, __ATOMIC_RELAXED) ? -EBUSY : 0;
}

const struct gw_device_ops disk_ops = {
    .size = sizeof(struct gw_device_ops),
    .queue_start = disk_queue_start,
    .features = features,
    .get_config = get_config,
    .set_config = set_config,
    .queue_ready = queue_ready,
};

int disk_init(struct disk *disk, enum disk_kind kind, unsigned delay_ms)
{
    *disk = (struct disk){.kind = kind, .delay_ms = delay_ms, .fd = -1};
    pthread_mutex_init(&disk->ram_lock, NULL);
    if (kind != DISK_FILE) {
        disk->ram = calloc(1, DISK_SIZE);
        return disk->ram ? 0 : -ENOMEM;
    }
    disk->fd = memfd_create("disk", MFD_CLOEXEC);
    if (disk->fd < 0 || ftruncate(disk->fd, (off_t)DISK_SIZE) < 0)
        return -errno;
    return 0;
}

void disk_done(struct disk *disk)
{
    free(disk->ram);
    pthread_mutex_destroy(&disk->ram_lock);
    if (disk->fd >= 0)
        close(disk->fd);
}
