/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Bounce buffers. Each operation has one until it completes. */
#include "bounce.h"

#include "base/checked.h"
#include "loop.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* Limit per operation, in bytes, because a driver chooses how many there are and how long. */
#define BOUNCE_MAX   ((size_t)1 << 20)
#define BOUNCE_ALIGN 4096u /* sufficient for any file */

struct bounce {
    struct gw_io_i io;     /* performed instead of `outer` */
    struct gw_io_i *outer; /* its op is GW_IO_BOUNCED */
    struct iovec iov;
    bool is_read;
};

static size_t total(const struct gw_io_i *io)
{
    size_t len = 0;

    for (unsigned i = 0; i < io->n_iov; i++)
        len += io->iov[i].iov_len;
    return len;
}

/* Copies the first `len` bytes of the iovecs into the buffer, or back. */
static void copy(const struct gw_io_i *io, uint8_t *buffer, size_t len, bool into_buffer)
{
    for (unsigned i = 0; i < io->n_iov && len > 0; i++) {
        size_t n = io->iov[i].iov_len < len ? io->iov[i].iov_len : len;

        if (into_buffer)
            memcpy(buffer, io->iov[i].iov_base, n);
        else
            memcpy(io->iov[i].iov_base, buffer, n);
        buffer += n;
        len -= n;
    }
}

static void bounced(struct gw_io *io, int res)
{
    struct bounce *b = gw_container_of(gw_io_inside(io), struct bounce, io);
    struct gw_io_i *outer = b->outer;

    if (b->is_read && res > 0)
        copy(outer, b->iov.iov_base, (size_t)res, false);
    free(b->iov.iov_base);
    free(b);
    gw_io_done(outer, res);
}

static bool is_direct(const struct gw_io_i *io)
{
    int flags;

    if (io->op != GW_IO_PREADV && io->op != GW_IO_PWRITEV)
        return false;
    flags = fcntl(io->fd, F_GETFL);
    return flags >= 0 && (flags & O_DIRECT) != 0;
}

bool gw_bounce_start(struct gw_loop *loop, struct gw_io_i *io)
{
    size_t len;
    struct bounce *b;
    void *buffer;

    if (!is_direct(io))
        return false;
    len = total(io);
    len = len < BOUNCE_MAX ? len : BOUNCE_MAX;
    b = malloc(sizeof(*b));
    if (!b || posix_memalign(&buffer, BOUNCE_ALIGN, len) != 0) {
        free(b);
        return false; /* tried without a buffer; the kernel reports the result */
    }
    *b = (struct bounce){.io = *io,
                         .outer = io,
                         .iov = {.iov_base = buffer, .iov_len = len},
                         .is_read = io->op == GW_IO_PREADV};
    b->io.done = bounced;
    b->io.iov = &b->iov;
    b->io.n_iov = 1;
    if (!b->is_read)
        copy(io, buffer, len, true);
    io->op = GW_IO_BOUNCED;
    io->next = &b->io;
    loop->ops->io(loop, &b->io);
    return true;
}
