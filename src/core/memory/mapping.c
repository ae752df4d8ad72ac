/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Checks and maps a piece of a file. Pieces may begin and end anywhere, mappings only at pages. */
#include "mapping.h"

#include "base/checked.h"
#include "base/log_i.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Limits for addresses that the front-end chooses; no stack of ours grows beyond STACK_ROOM. */
#define LOWEST_ADDRESS (UINT64_C(1) << 32)
#define STACK_ROOM     (UINT64_C(1) << 30)

/*
 * Defined by the ThreadSanitizer runtime. Its mmap maps page 0 instead if root requests an address
 * that the runtime reserves for itself.
 */
extern void __tsan_init(void) __attribute__((weak));

/* The alignment of a mapping's offset and length: on hugetlbfs, the size of its huge pages. */
static uint64_t granule_of(int fd)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct statfs fs;

    if (fstatfs(fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC && fs.f_bsize > 0 &&
        (uint64_t)fs.f_bsize > page && gw_is_power_of_two((uint64_t)fs.f_bsize))
        return (uint64_t)fs.f_bsize;
    return page;
}

/* Refuses a piece beyond the end of its file, because an access to it would raise SIGBUS. */
static int check_file(uint64_t *ret_size, const char *what, int fd, gw_off_t offset, uint64_t size)
{
    struct stat st;
    char why[160];
    int r;

    if (size == 0 || size > INT64_MAX || offset > INT64_MAX - size)
        return gw_fail(-EINVAL, "%s of %#" PRIx64 " bytes at offset %#" PRIx64 ": invalid range",
                       what, size, offset);
    /* This check precedes all calls that the file system may answer. */
    r = gw_peer_fd_check_memory(fd, why, sizeof(why));
    if (r < 0)
        return gw_fail(r, "%s: %s", what, why);
    if (fstat(fd, &st) < 0)
        return gw_fail(-errno, "%s: fstat: %s", what, strerror(errno));
    if (S_ISREG(st.st_mode) && offset + size > (uint64_t)st.st_size)
        return gw_fail(-EINVAL, "%s needs %#" PRIx64 " bytes of its file, which has %#" PRIx64,
                       what, offset + size, (uint64_t)st.st_size);
    *ret_size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    return 0;
}

/*
 * May the front-end choose this address, provided that it is free? Not in the low 4 GiB: our use of
 * a null pointer, with or without an offset, must fault, and a root process may map page 0. Not
 * near the main thread's stack or above it: the kernel keeps no gap between the two, and the stack
 * could not grow. The stacks of other threads have their full size from the start.
 */
static bool is_harmless(uintptr_t base, uint64_t length)
{
    uintptr_t stack = getauxval(AT_RANDOM); /* an address at the top of the stack */

    return !__tsan_init && stack > STACK_ROOM && base >= LOWEST_ADDRESS &&
           base < stack - STACK_ROOM && length <= stack - STACK_ROOM - base;
}

/*
 * MAP_FIXED_NOREPLACE never replaces an existing mapping. If the kernel does not know the flag
 * (before 4.17), or a sanitizer's mmap does not accept the address, the address is only a hint:
 * callers must check where the mapping is.
 */
static void *map_at(uintptr_t base, uint64_t length, uint64_t granule, int flags, int fd,
                    off_t offset)
{
    if (base % granule || !is_harmless(base, length))
        return MAP_FAILED;
    return mmap((void *)base, length, PROT_READ | PROT_WRITE, flags | MAP_FIXED_NOREPLACE, fd,
                offset);
}

int gw_mapping_init(struct gw_mapping *m, const char *what, int fd, gw_off_t offset, uint64_t size,
                    int flags)
{
    return gw_mapping_init_at(m, what, fd, offset, size, flags, 0);
}

int gw_mapping_init_at(struct gw_mapping *m, const char *what, int fd, gw_off_t offset,
                       uint64_t size, int flags, uintptr_t address)
{
    uint64_t file_size = 0, granule, residual, length;
    void *base;
    int r = check_file(&file_size, what, fd, offset, size);

    if (r < 0)
        return r;
    granule = granule_of(fd);
    residual = offset % granule;
    /* Cannot overflow: offset + size is below 2^63. */
    length = gw_align_down(residual + size + granule - 1, granule);
    flags |= MAP_SHARED;
    base = map_at(address - residual, length, granule, flags, fd, (off_t)(offset - residual));
    if (base == MAP_FAILED)
        base = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, (off_t)(offset - residual));
    if (base == MAP_FAILED) {
        r = -errno;
        return gw_fail(r, "%s of %#" PRIx64 " bytes: mmap: %s%s", what, size, strerror(-r),
                       r == -EACCES ? " (its file must be open for writing)" : "");
    }
    /* A process that closes a front-end's file may live for ever: no copy there (sacrificial.c). */
    (void)madvise(base, length, MADV_DONTFORK);
    *m = (struct gw_mapping){
        .at = (uint8_t *)base + residual,
        .offset = offset,
        .file_size = file_size,
        .range = {.base = (uintptr_t)base, .length = length, .granule = granule},
    };
    return 0;
}

void gw_mapping_done(struct gw_mapping *m)
{
    if (!m->at)
        return;
    gw_sigbus_unregister(&m->range);
    (void)munmap((void *)m->range.base, m->range.length);
    m->at = NULL;
}

void gw_mapping_guard(struct gw_mapping *m, struct gw_loss *loss)
{
    if (loss && m->at)
        gw_sigbus_register(&m->range, loss);
}

int gw_mapping_check(const struct gw_mapping *m, const char *what)
{
    uintptr_t lost_at = __atomic_load_n(&m->range.lost_at, __ATOMIC_RELAXED);

    if (lost_at == 0)
        return 0;
    return gw_fail(-EIO,
                   "%s: the page at offset %#" PRIx64 " of its file is gone: the file, of %#" PRIx64
                   " bytes when it was mapped, was truncated, or its huge pages or disk ran out",
                   what, m->offset + (lost_at - (uintptr_t)m->at), m->file_size);
}
