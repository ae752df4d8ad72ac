/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * I/O of the file store: one operation becomes one or several consecutive gw_io operations of its
 * worker, directly from and to guest memory. Ranges (discard, write zeroes) are in store_range.c,
 * syncs in store_sync.c.
 *
 * All I/O uses one descriptor, either O_DIRECT or not. A second one, so that each request could use
 * the suitable mode, would lose data: the page cache works in pages, so a small buffered write
 * keeps the old contents of the rest of its page, and writing that page back undoes a concurrent
 * direct write to a neighbouring sector. So unaligned requests use O_DIRECT as well: offsets and
 * lengths are multiples of the logical block, which store_file.c has checked to be sufficient, and
 * data in unaligned memory is copied through a bounce buffer, one piece at a time.
 */
#include "store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IOV_PER_IO   1024U          /* limit of gw_io_preadv */
#define BOUNCE_BYTES (128U * 1024U) /* maximum for one request */
#define BOUNCE_ALIGN 4096U

static const char *kind_name(enum gw_blk_kind kind)
{
    static const char *const names[] = {
        [GW_BLK_READ] = "read",
        [GW_BLK_WRITE] = "write",
        [GW_BLK_FLUSH] = "flush",
        [GW_BLK_DISCARD] = "discard",
        [GW_BLK_WRITE_ZEROES] = "write zeroes",
    };
    return names[kind];
}

static void count_failed(struct store_file *f, enum gw_blk_kind kind)
{
    atomic_fetch_add_explicit(&f->n_failed[kind], 1, memory_order_relaxed);
}

static bool is_failure(const struct store_io *io, int res)
{
    return res < 0 && !(io->op.is_cancelled && res == -ECANCELED);
}

void store_file_finish(struct store_io *io, int res)
{
    if (io->op.is_cancelled && res == -EINTR)
        res = -ECANCELED;
    if (is_failure(io, res))
        backend_say(io->store->log, GW_LOG_WARNING, "%s: %s at byte %llu: %s",
                    file_of(io->store)->path, kind_name(io->op.kind),
                    (unsigned long long)io->op.offset, strerror(-res));
    store_promise_end(io, res);
}

void store_file_complete(struct store_io *io, int res)
{
    struct store_file *f = file_of(io->store);
    bool is_promise = store_is_promise(io);

    free(io->bounce);
    io->bounce = NULL;
    if (res == 0 && is_promise && store_has_lost_data(f))
        res = -EIO;
    if (io->op.kind != GW_BLK_READ && (res < 0 || !is_promise) &&
        !atomic_load_explicit(&f->is_dirty, memory_order_relaxed))
        atomic_store_explicit(&f->is_dirty, true, memory_order_relaxed);
    if (is_failure(io, res))
        count_failed(f, io->op.kind);
    io->op.done(&io->op, res);
}

/* Continue with the next step, unless the operation has been cancelled. */
void store_file_go_on(struct store_io *io, void (*step)(struct store_io *io))
{
    if (io->op.is_cancelled)
        store_file_finish(io, -ECANCELED);
    else
        step(io);
}

/* Consume `n` bytes of the iovecs. If `bounce` is not NULL, copy them from or to it. */
static void advance(struct store_io *io, uint8_t *bounce, size_t n)
{
    while (n > 0 && io->op.n_iov > 0) {
        size_t part = io->op.iov->iov_len < n ? io->op.iov->iov_len : n;

        if (bounce != NULL && part > 0) {
            if (io->op.kind == GW_BLK_READ)
                memcpy(io->op.iov->iov_base, bounce, part);
            else
                memcpy(bounce, io->op.iov->iov_base, part);
            bounce += part;
        }
        io->op.iov->iov_base = (char *)io->op.iov->iov_base + part;
        io->op.iov->iov_len -= part;
        n -= part;
        if (io->op.iov->iov_len == 0) {
            io->op.iov++;
            io->op.n_iov--;
        }
    }
}

/* Start the next piece of a read or write, where the previous one ended. */
static void start_transfer(struct store_io *io)
{
    const struct iovec *iov = io->op.iov;
    unsigned n_iov = io->op.n_iov < IOV_PER_IO ? io->op.n_iov : IOV_PER_IO;

    if (io->bounce != NULL) {
        if (io->own_iov.iov_len == 0) {
            io->own_iov.iov_base = io->bounce;
            io->own_iov.iov_len = io->op.length < BOUNCE_BYTES ? io->op.length : BOUNCE_BYTES;
            if (io->op.kind == GW_BLK_WRITE)
                advance(io, io->bounce, io->own_iov.iov_len);
        }
        iov = &io->own_iov;
        n_iov = 1;
    }
    if (io->op.kind == GW_BLK_READ)
        gw_io_preadv(io->op.worker, &io->gw, file_of(io->store)->fd, iov, n_iov,
                     (int64_t)io->op.offset);
    else
        gw_io_pwritev(io->op.worker, &io->gw, file_of(io->store)->fd, iov, n_iov,
                      (int64_t)io->op.offset,
                      io->op.is_durable && io->durable_error == 0 ? RWF_DSYNC : 0);
}

/* Excludes errors of a write that did not start or that must be restarted. */
static bool may_be_sync_error(int res)
{
    return res < 0 && res != -EINTR && res != -ECANCELED && res != -EAGAIN && res != -ENOMEM &&
           res != -EFAULT;
}

/*
 * A durable write is a write and a sync, and its error does not show which of them failed. A failed
 * sync also drops data that other requests wrote. So the write is repeated without the sync, even
 * if it has been cancelled; if the repetition succeeds, the sync had failed.
 * Returns: true if the function has handled the result of a failed durable write.
 */
static bool is_settled(struct store_io *io, int res)
{
    if (io->op.kind == GW_BLK_READ || !io->op.is_durable)
        return false;
    if (io->durable_error == 0 && may_be_sync_error(res)) {
        io->durable_error = res;
        start_transfer(io);
        return true;
    }
    /* A cancelled repetition leaves the question open: assume that the sync failed. */
    if (io->durable_error != 0 &&
        (res > 0 || res == -ECANCELED || (res == -EINTR && io->op.is_cancelled))) {
        store_sync_failed(io, io->durable_error);
        return true;
    }
    return false;
}

static void transfer_done(struct gw_io *gw, int res)
{
    struct store_io *io = io_of(gw);

    if (is_settled(io, res))
        return;
    if (res == -EINTR) {
        store_file_go_on(io, start_transfer);
        return;
    }
    /* 0 bytes means end of file: the file has been truncated. */
    if (res <= 0 || (uint64_t)res > io->op.length) {
        store_file_finish(io, res < 0 ? res : -ENODATA);
        return;
    }
    if (io->bounce == NULL) {
        advance(io, NULL, (size_t)res);
    } else if (io->op.kind == GW_BLK_READ) {
        advance(io, io->bounce, (size_t)res);
        io->own_iov.iov_len = 0;
    } else {
        io->own_iov.iov_base = (char *)io->own_iov.iov_base + res;
        io->own_iov.iov_len -= (size_t)res;
    }
    io->op.offset += (uint64_t)res;
    io->op.length -= (uint64_t)res;
    if (io->op.length > 0)
        store_file_go_on(io, start_transfer);
    else
        store_file_finish(io, 0);
}

/* Whether O_DIRECT accepts the memory without a bounce buffer. */
static bool is_aligned(const struct store_file *f, const struct store_io *io)
{
    for (uint32_t i = 0; i < io->op.n_iov; i++) {
        if ((uintptr_t)io->op.iov[i].iov_base % f->memory_align != 0 ||
            io->op.iov[i].iov_len % f->base.block_size != 0)
            return false;
    }
    return true;
}

/* No larger than the request needs, because every request in flight may have such a buffer. */
static size_t bounce_size(uint64_t length)
{
    return length < BOUNCE_BYTES ? (length + BOUNCE_ALIGN - 1) / BOUNCE_ALIGN * BOUNCE_ALIGN
                                 : BOUNCE_BYTES;
}

static int submit_transfer(struct store_file *f, struct store_io *io)
{
    io->gw.done = transfer_done;
    io->bounce = NULL;
    if (f->memory_align != 0 && !is_aligned(f, io)) {
        io->own_iov = (struct iovec){0};
        io->bounce = aligned_alloc(BOUNCE_ALIGN, bounce_size(io->op.length));
        if (io->bounce == NULL)
            return -ENOMEM;
    }
    if (store_is_promise(io))
        store_promise_begin(io);
    start_transfer(io);
    return -EINPROGRESS;
}

int store_file_submit(void *store, struct gw_blk_io *op)
{
    struct store_io *io = store_io_of(op);
    struct store *s = store;
    struct store_file *f = file_of(s);

    io->store = s;
    io->durable_error = 0;
    store_promise_init(io);
    if (store_is_promise(io) && !s->is_read_only && store_has_lost_data(f)) {
        count_failed(f, io->op.kind);
        return -EIO;
    }
    switch (io->op.kind) {
    case GW_BLK_READ:
    case GW_BLK_WRITE:
        return submit_transfer(f, io);
    case GW_BLK_DISCARD:
    case GW_BLK_WRITE_ZEROES:
        return store_range_submit(f, io);
    case GW_BLK_FLUSH:
        break;
    }
    io->bounce = NULL;
    if (s->is_read_only)
        return 0;
    /* Writes that complete during the sync may or may not be covered: they set it dirty again. */
    atomic_store_explicit(&f->is_dirty, false, memory_order_relaxed);
    store_sync_start(io);
    return -EINPROGRESS;
}

void store_file_cancel(void *store, struct gw_blk_io *op)
{
    store_promise_cancel(store_io_of(op));
}

void store_file_report(struct store *s, FILE *out)
{
    struct store_file *f = file_of(s);
    int error = atomic_load(&f->sync_error);

    fprintf(out, "%s: failed:", f->path);
    for (unsigned kind = 0; kind < STORE_N_KINDS; kind++)
        fprintf(out, "%s %s %" PRIu64, kind == 0 ? "" : ",", kind_name(kind),
                atomic_load_explicit(&f->n_failed[kind], memory_order_relaxed));
    if (error != 0)
        fprintf(out, "; data lost: %s", strerror(-error));
    fputc('\n', out);
}
