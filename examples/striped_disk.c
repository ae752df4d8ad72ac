/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A disk that is striped over several files: libgodwit-blk is the device, and this is its store. It
 * serves one front-end, then ends:
 *
 *     cc -o striped_disk striped_disk.c $(pkg-config --cflags --libs godwit-blk)
 *     truncate -s 32M one.img two.img
 *     godwit bench --writes=50 './striped_disk {socket} one.img two.img'
 */
#include <errno.h>
#include <fcntl.h>
#include <godwit.h>
#include <godwit/blk.h>
#include <stdio.h>
#include <sys/stat.h>

#define STRIPE    65536
#define FILES_MAX 16

struct stripes {
    int fds[FILES_MAX]; /* O_DSYNC: a write that has completed is durable */
    unsigned n_fds;
};

/* One operation, in the memory of its request. */
struct striped_io {
    struct gw_blk_io op; /* first */
    const struct stripes *stripes;
    struct gw_io gw; /* one file operation after the other */
    struct iovec part;
};

static void part_done(struct gw_io *gw, int res);

/* Transfer what is left of the first iovec, up to the end of its stripe. */
static void start_part(struct striped_io *io)
{
    const struct stripes *s = io->stripes;
    uint64_t stripe = io->op.offset / STRIPE, within = io->op.offset % STRIPE;
    int64_t at = (int64_t)(stripe / s->n_fds * STRIPE + within);
    int fd = s->fds[stripe % s->n_fds];

    while (io->op.iov->iov_len == 0)
        io->op.iov++;
    io->part = *io->op.iov;
    if (io->part.iov_len > STRIPE - within)
        io->part.iov_len = STRIPE - within;
    io->gw.done = part_done;
    if (io->op.kind == GW_BLK_READ)
        gw_io_preadv(io->op.worker, &io->gw, fd, &io->part, 1, at);
    else
        gw_io_pwritev(io->op.worker, &io->gw, fd, &io->part, 1, at, 0);
}

/* The worker calls this with the bytes transferred; 0: the file has shrunk. */
static void part_done(struct gw_io *gw, int res)
{
    struct striped_io *io =
        (struct striped_io *)(void *)((char *)gw - offsetof(struct striped_io, gw));

    if (res <= 0) {
        gw_blk_io_complete(&io->op, res < 0 ? res : -EIO);
        return;
    }
    io->op.iov->iov_base = (char *)io->op.iov->iov_base + res;
    io->op.iov->iov_len -= (size_t)res;
    io->op.offset += (uint64_t)res;
    io->op.length -= (uint64_t)res;
    if (io->op.length == 0)
        gw_blk_io_complete(&io->op, 0);
    else if (io->op.is_cancelled)
        gw_blk_io_complete(&io->op, -ECANCELED);
    else
        start_part(io);
}

static int submit(void *store, struct gw_blk_io *op)
{
    struct striped_io *io = (struct striped_io *)op;

    if (op->kind != GW_BLK_READ && op->kind != GW_BLK_WRITE)
        return op->kind == GW_BLK_FLUSH ? 0 : -EOPNOTSUPP;
    io->stripes = store;
    start_part(io);
    return -EINPROGRESS;
}

/* Nothing to do: the operation ends after its current part, because is_cancelled is set. */
static void cancel(void *store, struct gw_blk_io *op)
{
}

static const struct gw_blk_store_ops store_ops = {
    .size = sizeof(store_ops),
    .io_size = sizeof(struct striped_io),
    .submit = submit,
    .cancel = cancel,
};

/* Returns: the capacity, or 0 with a message on stderr. The smallest file limits all. */
static uint64_t open_files(struct stripes *s, char **paths)
{
    uint64_t least = UINT64_MAX;

    for (; *paths != NULL && s->n_fds < FILES_MAX; paths++, s->n_fds++) {
        int fd = open(*paths, O_RDWR | O_DSYNC | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < STRIPE) {
            fprintf(stderr, "striped_disk: cannot use %s: open fails, or less than 64 KiB\n",
                    *paths);
            return 0;
        }
        s->fds[s->n_fds] = fd;
        if ((uint64_t)st.st_size < least)
            least = (uint64_t)st.st_size;
    }
    return least / STRIPE * STRIPE * s->n_fds;
}

int main(int argc, char **argv)
{
    struct gw_blk_config disk = {.size = sizeof(disk), .no_write_zeroes = true};
    struct gw_daemon_config cfg = {
        .size = sizeof(cfg), .name = "striped_disk", .handle_sigbus = true};
    struct gw_daemon *d = NULL;
    struct gw_blk *blk = NULL;
    struct stripes s = {.n_fds = 0};
    int r;

    if (argc < 3) {
        fprintf(stderr, "usage: striped_disk SOCKET FILE...\n");
        return 1;
    }
    disk.capacity = open_files(&s, argv + 2);
    if (disk.capacity == 0 || gw_blk_new(&blk, &disk, &store_ops, &s) < 0)
        return 1;
    gw_blk_configure(blk, &cfg);
    r = gw_daemon_new(&d, &cfg, gw_blk_ops(), blk);
    if (r < 0 || (r = gw_daemon_serve(d, argv[1])) < 0)
        fprintf(stderr, "striped_disk: %s\n", gw_last_error());
    gw_daemon_free(d);
    gw_blk_free(blk);
    return r < 0;
}
