/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The file store from open to close: a regular file or block device, its size and topology,
 * and whether O_DIRECT works for all of it. Messages about a rejected file say what to do about it.
 * The I/O is in store_file_io.c, its users and its lock in store_users.c.
 */
#include "store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PROBE_MAX         4096U
#define DISCARD_ALIGN_MAX (1U << 30)

static void file_free(struct store *s)
{
    struct store_file *f = file_of(s);

    store_users_done(f);
    if (f->fd >= 0)
        close(f->fd);
    store_sync_done(f);
    free(f->path);
    free(f);
}

/* Check the type first: opening a FIFO blocks, and opening a device node may have side effects. */
static int check_type(struct store_file *f)
{
    struct stat st;

    if (stat(f->path, &st) < 0) {
        int r = -errno;
        backend_say(f->base.log, GW_LOG_ERROR, "%s: %s%s", f->path, strerror(-r),
                    r == -ENOENT ? "; create it first, for example with truncate -s 10G" : "");
        return r;
    }
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        backend_say(f->base.log, GW_LOG_ERROR, "%s: neither a regular file nor a block device",
                    f->path);
        return -ENOTBLK;
    }
    f->is_block_device = S_ISBLK(st.st_mode);
    return 0;
}

static int open_fd(struct store_file *f, int extra_flags)
{
    int flags = (f->base.is_read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | extra_flags;
    int fd = open(f->path, flags);

    return fd < 0 ? -errno : fd;
}

static void say_open_failed(const struct store_file *f, int r)
{
    const char *remedy = "";

    if (!f->base.is_read_only && (r == -EACCES || r == -EROFS || r == -EPERM))
        remedy = "; use --read-only if the guest does not need to write";
    backend_say(f->base.log, GW_LOG_ERROR, "%s: cannot open %s: %s%s", f->path,
                f->base.is_read_only ? "for reading" : "for reading and writing", strerror(-r),
                remedy);
}

/* Whether reading `len` bytes into memory aligned to `len` works on an O_DIRECT descriptor. */
static bool can_read(int fd, uint32_t len)
{
    uint8_t *buf = aligned_alloc(PROBE_MAX, 2 * (size_t)PROBE_MAX);
    ssize_t n = buf == NULL ? -1 : pread(fd, buf + len, len, len); /* aligned to no more than len */

    free(buf);
    return n >= 0;
}

/*
 * The alignment of offsets and memory that O_DIRECT requires, in bytes: from statx(2) if the file
 * system reports it, otherwise from the device or by trial. Returns: 0; -EOPNOTSUPP if O_DIRECT
 * cannot be used.
 */
static int find_alignment(const struct store_file *f, int fd, uint32_t *ret_offset,
                          uint32_t *ret_memory)
{
    struct statx stx;
    int sector_size;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
        (stx.stx_mask & STATX_DIOALIGN) != 0) {
        if (stx.stx_dio_offset_align == 0 || stx.stx_dio_mem_align == 0)
            return -EOPNOTSUPP;
        *ret_offset = stx.stx_dio_offset_align;
        *ret_memory = stx.stx_dio_mem_align;
        return 0;
    }
    if (f->is_block_device && ioctl(fd, BLKSSZGET, &sector_size) == 0 && sector_size > 0) {
        *ret_offset = *ret_memory = (uint32_t)sector_size;
        return 0;
    }
    for (uint32_t align = 512; align <= PROBE_MAX; align *= 2) {
        if (can_read(fd, align)) {
            *ret_offset = *ret_memory = align;
            return 0;
        }
    }
    return -EOPNOTSUPP;
}

/* Open with O_DIRECT. Returns: a descriptor; a negative errno, an error message only if `must`. */
static int open_direct(struct store_file *f, bool must)
{
    uint32_t offset_align = 0, memory_align = 0;
    int fd = open_fd(f, O_DIRECT);
    int r = fd < 0 ? fd : find_alignment(f, fd, &offset_align, &memory_align);

    if (r >= 0 && offset_align <= f->base.block_size) {
        f->memory_align = memory_align;
        return fd;
    }
    if (fd >= 0)
        close(fd);
    if (r >= 0) {
        backend_say(f->base.log, must ? GW_LOG_ERROR : GW_LOG_INFO,
                    "%s: O_DIRECT needs blocks of %u bytes here, but the logical block "
                    "size is %u; use --logical-block-size=%u for O_DIRECT",
                    f->path, offset_align, f->base.block_size, offset_align);
        return -EINVAL;
    }
    if (must && (r == -EINVAL || r == -EOPNOTSUPP))
        backend_say(f->base.log, GW_LOG_ERROR,
                    "%s: O_DIRECT is not supported on this file system; use "
                    "--direct=auto",
                    f->path);
    else if (must)
        say_open_failed(f, r);
    return r;
}

static int open_file(struct store_file *f, enum store_mode direct)
{
    if (direct != STORE_OFF) {
        f->fd = open_direct(f, direct == STORE_ON);
        if (f->fd >= 0 || direct == STORE_ON)
            return f->fd < 0 ? f->fd : 0;
    }
    f->fd = open_fd(f, 0);
    if (f->fd < 0)
        say_open_failed(f, f->fd);
    return f->fd < 0 ? f->fd : 0;
}

/*
 * Whether writes bypass the page cache. O_DIRECT alone does not ensure that: btrfs writes data that
 * has checksums through the page cache (Linux 6.15), and overlayfs may be on top of it.
 */
static bool bypasses_cache(const struct store_file *f)
{
    struct statfs st;
    struct statx stx;

    if (f->memory_align == 0)
        return false;
    if (f->is_block_device)
        return true;
    /* ext4 buffers such writes with data=journal or encryption, and then reports no alignment. */
    return fstatfs(f->fd, &st) == 0 &&
           (st.f_type == EXT4_SUPER_MAGIC || st.f_type == XFS_SUPER_MAGIC) &&
           statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
           (stx.stx_mask & STATX_DIOALIGN) != 0 && stx.stx_dio_mem_align != 0;
}

static int file_resize(struct store *s)
{
    struct store_file *f = file_of(s);
    off_t size = lseek(f->fd, 0, SEEK_END); /* nothing uses the file position */
    uint64_t rest;

    if (size < 0) {
        int r = -errno;
        backend_say(f->base.log, GW_LOG_ERROR, "%s: cannot determine its size: %s", f->path,
                    strerror(-r));
        return r;
    }
    rest = (uint64_t)size % s->block_size;
    if (rest != 0)
        backend_say(f->base.log, GW_LOG_WARNING,
                    "%s: the last %llu bytes are less than a block of %u bytes and are ignored",
                    f->path, (unsigned long long)rest, s->block_size);
    else if (size == 0)
        backend_say(f->base.log, GW_LOG_WARNING, "%s: the disk is empty", f->path);
    atomic_store(&s->size, (uint64_t)size - rest);
    return 0;
}

/*
 * Read an attribute of a block device or its queue from sysfs(5); a partition has the queue of its
 * disk. Returns: `unknown` if the attribute does not exist.
 */
static uint64_t sysfs_number(const struct stat *st, const char *name, uint64_t unknown)
{
    static const char *const folders[] = {"queue", "../queue", "."};
    unsigned long long value = unknown;
    char path[128];

    for (unsigned i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        FILE *in;

        snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s/%s", major(st->st_rdev),
                 minor(st->st_rdev), folders[i], name);
        in = fopen(path, "re");
        if (in == NULL)
            continue;
        if (fscanf(in, "%llu", &value) != 1)
            value = unknown;
        fclose(in);
        break;
    }
    return value;
}

/* Find out what can be discarded, and zeroed without writing. Call after find_topology. */
static void find_ranges(struct store_file *f)
{
    struct store_topology *t = &f->base.topology;
    int sector_size = 0;
    uint64_t granularity;
    struct stat st;

    f->range_align = 1;
    f->base.can_unmap = !f->base.is_read_only;
    t->discard_align = t->physical_block;
    if (!f->is_block_device)
        return;
    if (ioctl(f->fd, BLKSSZGET, &sector_size) == 0 && sector_size > 0)
        f->range_align = t->discard_align = (uint32_t)sector_size;
    if (fstat(f->fd, &st) < 0)
        return;
    if (sysfs_number(&st, "discard_max_bytes", UINT64_MAX) == 0)
        f->base.can_unmap = false;
    granularity = sysfs_number(&st, "discard_granularity", 0);
    if (granularity <= t->discard_align || granularity > DISCARD_ALIGN_MAX)
        return;
    t->discard_align = (uint32_t)granularity;
    f->first_granule = (uint32_t)(sysfs_number(&st, "discard_alignment", 0) % granularity);
}

/* open(2) for writing succeeds on a read-only device (blockdev --setro, losetup -r). */
static void find_read_only(struct store_file *f)
{
    int value = 0;

    if (f->base.is_read_only || !f->is_block_device || ioctl(f->fd, BLKROGET, &value) < 0 ||
        value == 0)
        return;
    f->base.is_read_only = true;
    backend_say(f->base.log, GW_LOG_WARNING,
                "%s: the device is read-only, so the disk is read-only, too", f->path);
}

static void find_id(struct store_file *f)
{
    struct stat st;

    if (fstat(f->fd, &st) < 0)
        return;
    f->base.id = f->is_block_device ? (struct store_id){.device = st.st_rdev, .file = UINT64_MAX}
                                    : (struct store_id){.device = st.st_dev, .file = st.st_ino};
}

static void find_topology(struct store_file *f)
{
    struct store_topology *t = &f->base.topology;
    struct stat st;
    unsigned value;
    int alignment;

    if (!f->is_block_device) {
        if (fstat(f->fd, &st) == 0 && st.st_blksize >= 512 && st.st_blksize <= 65536)
            t->physical_block = t->io_min = (uint32_t)st.st_blksize;
        return;
    }
    if (ioctl(f->fd, BLKPBSZGET, &value) == 0)
        t->physical_block = value;
    if (ioctl(f->fd, BLKIOMIN, &value) == 0)
        t->io_min = value;
    if (ioctl(f->fd, BLKIOOPT, &value) == 0)
        t->io_opt = value;
    if (ioctl(f->fd, BLKALIGNOFF, &alignment) == 0 && alignment > 0)
        t->alignment_offset = (uint32_t)alignment;
}

static const struct store_ops file_ops = {
    .blk =
        {
            .size = sizeof(struct gw_blk_store_ops),
            .io_size = sizeof(struct store_io),
            .submit = store_file_submit,
            .cancel = store_file_cancel,
            .start = store_users_start,
            .cancel_start = store_users_cancel_start,
            .stop = store_users_stop,
        },
    .report = store_file_report,
    .resize = file_resize,
    .free = file_free,
};

int store_file_new(struct store **ret, const struct store_file_options *o)
{
    struct store_file *f = calloc(1, sizeof(*f));
    int r;

    if (f == NULL)
        return -ENOMEM;
    f->base.ops = &file_ops;
    f->base.block_size = o->block_size;
    f->base.is_read_only = o->is_read_only;
    f->base.log = o->log;
    f->locking = o->locking;
    f->lock_patience_ms = o->lock_patience_ms;
    f->fd = -1;
    store_users_init(f);
    store_sync_init(f);
    f->path = strdup(o->path);
    r = f->path == NULL ? -ENOMEM : check_type(f);
    if (r == 0)
        r = open_file(f, o->direct);
    if (r == 0)
        r = file_resize(&f->base);
    if (r < 0) {
        file_free(&f->base);
        return r;
    }
    find_read_only(f);
    f->must_hold_writes = !bypasses_cache(f);
    f->is_dirty = !f->base.is_read_only; /* an earlier process may have left unflushed writes */
    find_id(f);
    find_topology(f);
    find_ranges(f);
    backend_say(f->base.log, GW_LOG_INFO, "%s: %llu bytes, %s", f->path,
                (unsigned long long)f->base.size,
                f->memory_align != 0 ? "O_DIRECT" : "through the page cache");
    *ret = &f->base;
    return 0;
}
