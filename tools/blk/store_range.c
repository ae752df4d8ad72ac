/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Discard and write zeroes on a file or block device. Several methods exist for each, and file
 * systems, devices and system call filters reject some of them, always or for some ranges. So each
 * range is processed in pieces, each with the best method that has not been rejected: aligned
 * pieces by the file system or device, the unaligned ends by writing zeroes.
 *
 * A discard is advice: space that cannot be freed is left unchanged.
 */
#include "store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#define ZERO_BYTES (256U * 1024U)
#define PIECE_MAX  (UINT64_C(64) << 20) /* per call */

/* The bits of `refused`, best method first. */
enum way {
    WAY_DISCARD = 1,    /* BLKDISCARD */
    WAY_PUNCH = 2,      /* fallocate: a hole */
    WAY_ZERO_RANGE = 4, /* fallocate: allocated zeroes */
    WAY_WRITE = 8,
};

/* Never written; untouched pages use no memory. */
static uint8_t zeroes[ZERO_BYTES] __attribute__((aligned(4096)));

/* Returns: the methods for this operation that have not been rejected. */
static unsigned ways_of(struct store_file *f, const struct store_io *io)
{
    unsigned refused = io->refused | atomic_load_explicit(&f->refused, memory_order_relaxed);
    unsigned ways = WAY_ZERO_RANGE | WAY_WRITE;

    if (io->op.kind == GW_BLK_DISCARD)
        ways = f->is_block_device ? WAY_DISCARD : WAY_PUNCH;
    else if (io->op.may_unmap)
        ways |= WAY_PUNCH;
    return ways & ~refused;
}

/*
 * The alignment that a method needs. A device frees whole granules only, and some devices
 * (scsi_debug) do not zero the rest of such a range.
 */
static uint64_t align_of(const struct store_file *f, unsigned way)
{
    if (way == WAY_WRITE)
        return 1;
    if (way == WAY_PUNCH && f->is_block_device)
        return f->base.topology.discard_align;
    return f->range_align;
}

/* Bytes from `offset` to the next multiple of `align`. */
static uint64_t bytes_before(uint64_t offset, uint64_t align)
{
    return (align - offset % align) % align;
}

/* Bytes from the current offset to the first point where the method can start. */
static uint64_t bytes_before_way(const struct store_file *f, const struct store_io *io,
                                 unsigned way)
{
    uint64_t align = align_of(f, way);
    uint64_t first = way == WAY_PUNCH ? f->first_granule : 0;

    return bytes_before(io->op.offset + align - first, align);
}

/* Whether another method may succeed. Medium errors are not in this list. */
static bool is_refusal(int res)
{
    switch (-res) {
    case EOPNOTSUPP:
    case ENOSYS:
    case ENODEV:
    case ENOTTY:
    case EPERM:
    case EACCES:
    case EINVAL:
    case EBUSY:
    case ENOSPC: /* for the metadata of a hole */
    case EDQUOT:
    case EREMOTEIO: /* a SCSI target that rejects the command */
        return true;
    default:
        return false;
    }
}

/* Errors that depend on the range, or on concurrent use of the file. */
static bool may_work_later(int res)
{
    return res == -EINVAL || res == -EBUSY || res == -ENOSPC || res == -EDQUOT;
}

static void start_range(struct store_io *io);

static void piece_is_done(struct store_io *io)
{
    io->op.offset += io->piece;
    io->op.length -= io->piece;
    if (io->op.length > 0)
        store_file_go_on(io, start_range);
    else if (io->op.is_durable)
        store_file_go_on(io, store_sync_start);
    else
        store_file_finish(io, 0);
}

static void way_done(struct gw_io *gw, int res)
{
    struct store_io *io = io_of(gw);
    struct store_file *f = file_of(io->store);

    if (res == 0) {
        piece_is_done(io);
        return;
    }
    if (is_refusal(res)) {
        io->refused |= io->way;
        if (!may_work_later(res))
            atomic_fetch_or_explicit(&f->refused, io->way, memory_order_relaxed);
    } else if (res != -EINTR) {
        store_file_finish(io, res);
        return;
    }
    store_file_go_on(io, start_range);
}

static void write_done(struct gw_io *gw, int res)
{
    struct store_io *io = io_of(gw);

    if (res != -EINTR && (res <= 0 || (uint64_t)res > io->piece)) {
        store_file_finish(io, res < 0 ? res : -EIO);
        return;
    }
    io->piece = res < 0 ? 0 : (uint64_t)res;
    piece_is_done(io);
}

static void start_write(struct store_io *io, uint64_t length)
{
    io->piece = length < ZERO_BYTES ? length : ZERO_BYTES;
    io->own_iov = (struct iovec){zeroes, io->piece};
    io->gw.done = write_done;
    gw_io_pwritev(io->op.worker, &io->gw, file_of(io->store)->fd, &io->own_iov, 1,
                  (int64_t)io->op.offset, 0);
}

static void start_way(struct store_io *io, unsigned way, uint64_t length)
{
    int fd = file_of(io->store)->fd;

    if (way == WAY_WRITE) {
        start_write(io, length);
        return;
    }
    io->way = way;
    io->piece = length;
    io->gw.done = way_done;
    if (way == WAY_DISCARD)
        gw_io_discard(io->op.worker, &io->gw, fd, (int64_t)io->op.offset, (int64_t)length);
    else
        gw_io_fallocate(io->op.worker, &io->gw, fd,
                        FALLOC_FL_KEEP_SIZE |
                            (way == WAY_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE),
                        (int64_t)io->op.offset, (int64_t)length);
}

/* Start the next piece with the best method possible here, up to where a better one can start. */
static void start_range_with(struct store_io *io, unsigned ways)
{
    struct store_file *f = file_of(io->store);
    uint64_t length = io->op.length;

    for (unsigned way = WAY_DISCARD; way <= WAY_WRITE; way *= 2) {
        uint64_t align = align_of(f, way), before = bytes_before_way(f, io, way);

        if ((ways & way) == 0)
            continue;
        if (before == 0 && length >= align) {
            /* A call cannot be cancelled, and is slow if the kernel writes the zeroes. */
            if (length > PIECE_MAX && align <= PIECE_MAX)
                length = PIECE_MAX;
            start_way(io, way, length - length % align);
            return;
        }
        if (before > 0 && before < length)
            length = before;
    }
    io->piece = io->op.length; /* all methods of a discard were rejected: skip it */
    piece_is_done(io);
}

static void start_range(struct store_io *io)
{
    start_range_with(io, ways_of(file_of(io->store), io));
}

/* Reduce a discard to its aligned part, possibly empty. */
static void trim(const struct store_file *f, struct store_io *io)
{
    uint64_t before = bytes_before(io->op.offset, f->range_align);

    if (before > io->op.length)
        before = io->op.length;
    io->op.offset += before;
    io->op.length -= before;
    io->op.length -= io->op.length % f->range_align;
}

int store_range_submit(struct store_file *f, struct store_io *io)
{
    unsigned ways;

    io->bounce = NULL;
    io->refused = 0;
    if (io->op.kind == GW_BLK_DISCARD)
        trim(f, io);
    /* Only once: another worker may add to f->refused, and `done` must not be called in here. */
    ways = ways_of(f, io);
    if (io->op.length == 0 || ways == 0)
        return 0;
    start_range_with(io, ways);
    return -EINPROGRESS;
}
