/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Opening files and block devices that godwit-blk's store meets: their alignment for O_DIRECT,
 * their topology, and what they can discard. A real file, for which the system calls give such
 * answers.
 */
#include "store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define DEVICE 0x1203 /* 18:3 */

/* What the system says about the file. */
struct disk_kind {
    bool is_device;
    bool has_dio; /* statx says: */
    uint32_t dio_offset, dio_memory;
    unsigned readable_from; /* O_DIRECT needs this alignment; 0: open(2) refuses it */
    long fs_type;
    int sector, physical, io_min, io_opt, misaligned, read_only; /* ioctls; -1: they fail */
    const char *max, *granularity, *alignment;                   /* in sysfs; NULL: none */
    unsigned folder;                                             /* of the three in which it is */
    long file_block;
};

static struct disk_kind kind;

int __real_stat64(const char *name, struct stat *st);
int __wrap_stat64(const char *name, struct stat *st);
int __real_fstat64(int fd, struct stat *st);
int __wrap_fstat64(int fd, struct stat *st);
int __wrap_statx(int fd, const char *name, int flags, unsigned mask, struct statx *stx);
int __wrap_ioctl(int fd, unsigned long request, void *arg);
int __wrap_fstatfs64(int fd, struct statfs *fs);
int __real_open64(const char *name, int flags, int mode);
int __wrap_open64(const char *name, int flags, int mode);
ssize_t __real_pread64(int fd, void *buf, size_t n, off_t offset);
ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t offset);
FILE *__real_fopen64(const char *name, const char *mode);
FILE *__wrap_fopen64(const char *name, const char *mode);

static int disguise(int r, struct stat *st)
{
    if (r == 0 && kind.is_device) {
        st->st_mode = S_IFBLK | 0600;
        st->st_rdev = DEVICE;
    }
    if (kind.file_block > 0)
        st->st_blksize = kind.file_block;
    return r;
}

int __wrap_stat64(const char *name, struct stat *st)
{
    return disguise(__real_stat64(name, st), st);
}

int __wrap_fstat64(int fd, struct stat *st)
{
    return disguise(__real_fstat64(fd, st), st);
}

int __wrap_statx(int fd, const char *name, int flags, unsigned mask, struct statx *stx)
{
    *stx = (struct statx){.stx_mask = kind.has_dio ? STATX_DIOALIGN : 0,
                          .stx_dio_offset_align = kind.dio_offset,
                          .stx_dio_mem_align = kind.dio_memory};
    return 0;
}

int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
    int value = request == BLKSSZGET     ? kind.sector
                : request == BLKPBSZGET  ? kind.physical
                : request == BLKIOMIN    ? kind.io_min
                : request == BLKIOOPT    ? kind.io_opt
                : request == BLKALIGNOFF ? kind.misaligned
                : request == BLKROGET    ? kind.read_only
                                         : -1;

    memcpy(arg, &value, sizeof(value));
    errno = ENOTTY;
    return value < 0 ? -1 : 0;
}

int __wrap_fstatfs64(int fd, struct statfs *fs)
{
    fs->f_type = kind.fs_type;
    return 0;
}

static bool is_direct;

int __wrap_open64(const char *name, int flags, int mode)
{
    is_direct = (flags & O_DIRECT) != 0;
    if (is_direct && kind.readable_from == 0) {
        errno = EINVAL;
        return -1;
    }
    return __real_open64(name, flags & ~O_DIRECT, mode);
}

ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t offset)
{
    if (is_direct && ((uintptr_t)buf | n | (size_t)offset) % kind.readable_from != 0) {
        errno = EINVAL;
        return -1;
    }
    return __real_pread64(fd, buf, n, offset);
}

FILE *__wrap_fopen64(const char *name, const char *mode)
{
    static const char *const folders[] = {"queue", "../queue", "."};
    const char *names[] = {"discard_max_bytes", "discard_granularity", "discard_alignment"};
    const char *texts[] = {kind.max, kind.granularity, kind.alignment};
    char path_of[100];

    for (unsigned i = 0; i < 3; i++) {
        snprintf(path_of, sizeof(path_of), "/sys/dev/block/18:3/%s/%s", folders[kind.folder],
                 names[i]);
        if (strcmp(name, path_of) == 0 && texts[i] != NULL)
            return fmemopen((void *)(uintptr_t)texts[i], strlen(texts[i]), "r");
    }
    if (strncmp(name, "/sys/", 5) != 0)
        return __real_fopen64(name, mode);
    errno = ENOENT;
    return NULL;
}

static struct store_file *file(void)
{
    return (struct store_file *)(void *)((char *)s - offsetof(struct store_file, base));
}

/* ---- O_DIRECT ---- */

static void test_open_finds_the_alignment_of_direct_io(void **state)
{
    static const struct {
        struct disk_kind kind;
        uint32_t block_size;
        enum store_mode direct;
        int result;
        uint32_t memory_align;
        unsigned n_errors;
    } cases[] = {
        {{.has_dio = true, .dio_offset = 512, .dio_memory = 4, .readable_from = 1},
         512,
         STORE_ON,
         0,
         4,
         0},
        {{.has_dio = true, .dio_offset = 0, .dio_memory = 4, .readable_from = 1},
         512,
         STORE_ON,
         -EOPNOTSUPP,
         0,
         1},
        {{.has_dio = true, .dio_offset = 512, .dio_memory = 0, .readable_from = 1},
         512,
         STORE_ON,
         -EOPNOTSUPP,
         0,
         1},
        {{.has_dio = true, .dio_offset = 0, .dio_memory = 0, .readable_from = 1},
         512,
         STORE_AUTO,
         0,
         0,
         0},
        {{.has_dio = true, .dio_offset = 1, .dio_memory = 1, .readable_from = 1},
         512,
         STORE_ON,
         0,
         1,
         0},
        {{.has_dio = true, .dio_offset = 1024, .dio_memory = 4, .readable_from = 1},
         512,
         STORE_ON,
         -EINVAL,
         0,
         1},
        {{.has_dio = true, .dio_offset = 1024, .dio_memory = 4, .readable_from = 1},
         512,
         STORE_AUTO,
         0,
         0,
         0},
        {{.readable_from = 512}, 512, STORE_ON, 0, 512, 0},
        {{.readable_from = 2048}, 4096, STORE_ON, 0, 2048, 0},
        {{.readable_from = 4096}, 4096, STORE_ON, 0, 4096, 0},
        {{.readable_from = 4096}, 512, STORE_ON, -EINVAL, 0, 1},
        {{.readable_from = 8192}, 4096, STORE_ON, -EOPNOTSUPP, 0, 1},
        {{.readable_from = 8192}, 4096, STORE_AUTO, 0, 0, 0},
        {{.readable_from = 0}, 512, STORE_ON, -EINVAL, 0, 1},
        {{.readable_from = 0}, 512, STORE_AUTO, 0, 0, 0},
        {{.readable_from = 1}, 512, STORE_OFF, 0, 0, 0},
        {{.sector = 4096, .readable_from = 1}, 512, STORE_ON, 0, 512, 0}, /* a file */
        {{.is_device = true, .sector = 1024, .readable_from = 1}, 4096, STORE_ON, 0, 1024, 0},
        {{.is_device = true, .sector = 1, .readable_from = 1}, 4096, STORE_ON, 0, 1, 0},
        {{.is_device = true, .sector = 0, .readable_from = 2048}, 4096, STORE_ON, 0, 2048, 0},
        {{.is_device = true, .sector = -1, .readable_from = 512}, 4096, STORE_ON, 0, 512, 0},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int r;

        memset(&fake, 0, sizeof(fake));
        kind = cases[i].kind;
        s = NULL;
        r = open_store(cases[i].direct, cases[i].block_size);
        if (r != cases[i].result || fake.n_errors != cases[i].n_errors)
            fail_msg("case %u: %d, %u errors", i, r, fake.n_errors);
        if (r < 0)
            continue;
        if (file()->memory_align != cases[i].memory_align)
            fail_msg("case %u: %u", i, file()->memory_align);
        assert_true(file()->fd >= 0);
        s->ops->free(s);
    }
    s = NULL;
}

/* Only then does a successful durable write say nothing about others. */
static void test_open_finds_what_bypasses_the_page_cache(void **state)
{
    static const struct {
        struct disk_kind kind;
        enum store_mode direct;
        bool bypasses;
    } cases[] = {
        {{.is_device = true, .sector = 512, .readable_from = 1}, STORE_ON, true},
        {{.is_device = true, .sector = 512, .readable_from = 1}, STORE_OFF, false},
        {{.has_dio = true,
          .dio_offset = 512,
          .dio_memory = 4,
          .readable_from = 1,
          .fs_type = EXT4_SUPER_MAGIC},
         STORE_ON,
         true},
        {{.has_dio = true,
          .dio_offset = 512,
          .dio_memory = 4,
          .readable_from = 1,
          .fs_type = XFS_SUPER_MAGIC},
         STORE_ON,
         true},
        {{.has_dio = true,
          .dio_offset = 512,
          .dio_memory = 4,
          .readable_from = 1,
          .fs_type = XFS_SUPER_MAGIC},
         STORE_OFF,
         false},
        {{.has_dio = true,
          .dio_offset = 512,
          .dio_memory = 4,
          .readable_from = 1,
          .fs_type = BTRFS_SUPER_MAGIC},
         STORE_ON,
         false},
        {{.readable_from = 512, .fs_type = EXT4_SUPER_MAGIC}, STORE_ON, false},
        {{.readable_from = 512, .dio_memory = 4, .fs_type = EXT4_SUPER_MAGIC}, STORE_ON, false},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        kind = cases[i].kind;
        assert_int_equal(open_store(cases[i].direct, 512), 0);
        if (file()->must_hold_writes == cases[i].bypasses)
            fail_msg("case %u", i);
        s->ops->free(s);
    }
    s = NULL;
}

/* ---- topology and ranges ---- */

static void test_open_finds_topology_and_ranges(void **state)
{
    static const struct {
        struct disk_kind kind;
        struct store_topology topology;
        uint32_t range_align, first_granule;
        bool can_unmap, is_read_only;
    } cases[] = {
        {{.file_block = 4096, .sector = 7, .physical = 7, .read_only = 1},
         {4096, 0, 4096, 0, 4096},
         1,
         0,
         true,
         false},
        {{.file_block = 512}, {512, 0, 512, 0, 512}, 1, 0, true, false},
        {{.file_block = 511}, {0, 0, 0, 0, 0}, 1, 0, true, false},
        {{.file_block = 65536}, {65536, 0, 65536, 0, 65536}, 1, 0, true, false},
        {{.file_block = 65537}, {0, 0, 0, 0, 0}, 1, 0, true, false},
        {{.is_device = true,
          .sector = 512,
          .physical = 4096,
          .io_min = 8192,
          .io_opt = 16384,
          .misaligned = 1024},
         {4096, 1024, 8192, 16384, 512},
         512,
         0,
         true,
         false},
        {{.is_device = true,
          .sector = -1,
          .physical = 4096,
          .io_min = -1,
          .io_opt = -1,
          .misaligned = -1,
          .read_only = -1},
         {4096, 0, 0, 0, 4096},
         1,
         0,
         true,
         false},
        {{.is_device = true, .sector = 0, .physical = -1}, {0, 0, 0, 0, 0}, 1, 0, true, false},
        {{.is_device = true, .sector = 512, .physical = 512, .misaligned = 1, .read_only = 1},
         {512, 1, 0, 0, 512},
         512,
         0,
         false,
         true},
        {{.is_device = true, .sector = 512, .max = "0\n"}, {0, 0, 0, 0, 512}, 512, 0, false, false},
        {{.is_device = true, .sector = 512, .max = "x"}, {0, 0, 0, 0, 512}, 512, 0, true, false},
        {{.is_device = true,
          .sector = 512,
          .max = "1",
          .granularity = "65536",
          .alignment = "4096",
          .folder = 1},
         {0, 0, 0, 0, 65536},
         512,
         4096,
         true,
         false},
        {{.is_device = true,
          .sector = 512,
          .max = "1",
          .granularity = "65536",
          .alignment = "69632",
          .folder = 2},
         {0, 0, 0, 0, 65536},
         512,
         4096,
         true,
         false},
        {{.is_device = true, .sector = 512, .granularity = "513", .alignment = "1"},
         {0, 0, 0, 0, 513},
         512,
         1,
         true,
         false},
        {{.is_device = true, .sector = 512, .granularity = "512", .alignment = "1"},
         {0, 0, 0, 0, 512},
         512,
         0,
         true,
         false},
        {{.is_device = true, .sector = 512, .granularity = "1073741824"},
         {0, 0, 0, 0, 1 << 30},
         512,
         0,
         true,
         false},
        {{.is_device = true, .sector = 512, .granularity = "1073741825", .alignment = "1"},
         {0, 0, 0, 0, 512},
         512,
         0,
         true,
         false},
        {{.is_device = true, .sector = 512, .granularity = "-", .alignment = "1"},
         {0, 0, 0, 0, 512},
         512,
         0,
         true,
         false},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct store_topology *t = &cases[i].topology;

        fake.n_said = 0;
        kind = cases[i].kind;
        assert_int_equal(open_store(STORE_OFF, 512), 0);
        if (memcmp(&s->topology, t, sizeof(*t)) != 0 ||
            file()->range_align != cases[i].range_align ||
            file()->first_granule != cases[i].first_granule)
            fail_msg("case %u: %u %u %u %u %u, %u %u", i, s->topology.physical_block,
                     s->topology.io_min, s->topology.io_opt, s->topology.alignment_offset,
                     s->topology.discard_align, file()->range_align, file()->first_granule);
        assert_int_equal(s->can_unmap, cases[i].can_unmap);
        assert_int_equal(s->is_read_only, cases[i].is_read_only);
        assert_int_equal(fake.n_said, cases[i].is_read_only);
        assert_int_equal(atomic_load(&file()->is_dirty), !cases[i].is_read_only);
        if (kind.is_device)
            assert_true(s->id.device == DEVICE && s->id.file == UINT64_MAX);
        else
            assert_true(s->id.device != DEVICE && s->id.file != UINT64_MAX && s->id.file != 0);
        s->ops->free(s);
    }
    s = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_open_finds_the_alignment_of_direct_io),
        STORE_TEST(test_open_finds_what_bypasses_the_page_cache),
        STORE_TEST(test_open_finds_topology_and_ranges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
