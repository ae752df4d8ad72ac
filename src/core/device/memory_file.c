/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Copies between a file and guest memory. The kernel accesses guest memory directly; only memory
 * without a fixed address goes through a buffer.
 */
#include "memory_i.h"

#include <inttypes.h>
#include <string.h>

enum {
    BUFFER = 16384, /* on the stack */
    IOV_BATCH = 64
};

/* Below what the kernel copies in one call at most (2 GiB less a page). */
#define CALL_MAX (UINT64_C(1) << 30)

/* A copy in progress. */
struct transfer {
    struct gw_memory *m;
    gw_gpa_t gpa;
    uint64_t len;
    uint64_t done;
    int fd;
    gw_off_t offset;
    bool to_guest;
};

/* As preadv(2) or pwritev(2) from what is done so far; negative errno. */
static ssize_t transfer_iov(const struct transfer *t, const struct iovec *iov, unsigned n_iov)
{
    off_t offset = (off_t)(t->offset + t->done);
    ssize_t n;

    do {
        if (t->offset == GW_OFF_CURRENT)
            n = t->to_guest ? readv(t->fd, iov, (int)n_iov) : writev(t->fd, iov, (int)n_iov);
        else
            n = t->to_guest ? preadv(t->fd, iov, (int)n_iov, offset)
                            : pwritev(t->fd, iov, (int)n_iov, offset);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/*
 * Returns: bytes copied; a negative errno. Before an error, the kernel may have written some of the
 * piece, so all of it is marked then.
 */
static ssize_t copy_directly(const struct transfer *t, const struct iovec *iov, unsigned n_iov,
                             uint64_t len)
{
    ssize_t n = transfer_iov(t, iov, n_iov);

    if (t->to_guest && n != 0)
        gw_queue_mark_write(t->m->queue, t->gpa + t->done, n < 0 ? len : (uint64_t)n);
    return n < 0 ? gw_fail((int)n, "guest memory at %#" PRIx64 " and fd %d: %s", t->gpa + t->done,
                           t->fd, strerror((int)-n))
                 : n;
}

/* The same for memory without a fixed address. */
static ssize_t copy_buffered(const struct transfer *t)
{
    uint8_t buffer[BUFFER];
    uint64_t len = t->len - t->done < BUFFER ? t->len - t->done : BUFFER;
    struct iovec iov = {.iov_base = buffer, .iov_len = len};
    ssize_t n;
    int r;

    if (!t->to_guest) {
        r = gw_memory_read(t->m, t->gpa + t->done, buffer, len);
        if (r < 0)
            return r;
    }
    n = transfer_iov(t, &iov, 1);
    if (n < 0)
        return gw_fail((int)n, "guest memory at %#" PRIx64 " and fd %d: %s", t->gpa + t->done,
                       t->fd, strerror((int)-n));
    r = t->to_guest && n > 0 ? gw_memory_write(t->m, t->gpa + t->done, buffer, (size_t)n) : 0;
    return r < 0 ? r : n;
}

static ssize_t copy_some(const struct transfer *t, uint64_t *ret_tried)
{
    uint64_t left = t->len - t->done;
    struct iovec iov[IOV_BATCH];
    unsigned n = gw_map_gather(gw_memory_map(t->m), &t->m->last_region, t->gpa + t->done,
                               left < CALL_MAX ? left : CALL_MAX, iov, IOV_BATCH, ret_tried);

    if (n > 0)
        return copy_directly(t, iov, n, *ret_tried);
    *ret_tried = left < BUFFER ? left : BUFFER;
    return copy_buffered(t);
}

static int64_t transfer(struct transfer *t)
{
    ssize_t n = 0;
    uint64_t tried;
    int r = gw_memory_check(t->m, t->gpa, t->len);

    if (r < 0)
        return r;
    if (t->offset != GW_OFF_CURRENT && (t->offset > INT64_MAX || t->len > INT64_MAX - t->offset))
        return gw_fail(-EINVAL, "offset %#" PRIx64 " of fd %d is too large", t->offset, t->fd);
    while (t->done < t->len) {
        n = copy_some(t, &tried);
        if (n <= 0)
            break;
        t->done += (uint64_t)n;
        if ((uint64_t)n < tried)
            break;
    }
    return t->done > 0 || n >= 0 ? (int64_t)t->done : n;
}

int64_t gw_memory_from_file(struct gw_memory *m, gw_gpa_t gpa, uint64_t len, int fd,
                            gw_off_t offset)
{
    struct transfer t = {
        .m = m, .gpa = gpa, .len = len, .fd = fd, .offset = offset, .to_guest = true};

    return transfer(&t);
}

int64_t gw_memory_to_file(struct gw_memory *m, gw_gpa_t gpa, uint64_t len, int fd, gw_off_t offset)
{
    struct transfer t = {.m = m, .gpa = gpa, .len = len, .fd = fd, .offset = offset};

    return transfer(&t);
}
