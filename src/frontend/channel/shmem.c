/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A shared memory region of a device: reserved addresses, and a sorted array of the mappings in
 * them. Where nothing is mapped, an inaccessible mapping of our own keeps the addresses.
 */
#include "base/checked.h"
#include "fd/peer_fd.h"
#include "frontend/error.h"

#include <errno.h>
#include <godwit/frontend/channel.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct map {
    uint64_t offset;
    uint64_t len;
};

struct gw_frontend_shmem {
    char *base;
    uint64_t size;
    struct map *maps; /* by offset, not overlapping */
    unsigned n, room;
};

static uint64_t page_size(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Returns: 0; -ENOMEM, and the range is as before. */
static int reserve(const struct gw_frontend_shmem *s, uint64_t offset, uint64_t len)
{
    void *at = mmap(s->base + offset, len, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

    return at == MAP_FAILED ? gw_frontend_fail(-ENOMEM,
                                               "shared memory region: %" PRIu64
                                               " bytes at %#" PRIx64 " cannot be unmapped: %s",
                                               len, offset, strerror(errno))
                            : 0;
}

int gw_frontend_shmem_new(struct gw_frontend_shmem **ret, uint64_t size)
{
    struct gw_frontend_shmem *s;
    void *at;
    int r;

    if (size == 0 || size % page_size() || size > SIZE_MAX)
        return gw_frontend_fail(
            -EINVAL, "shared memory region: size %#" PRIx64 " is not a multiple of the page size",
            size);
    s = calloc(1, sizeof(*s));
    if (!s)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    at = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        r = -errno;
        free(s);
        return gw_frontend_fail(r, "shared memory region of %" PRIu64 " bytes: %s", size,
                                strerror(-r));
    }
    s->base = at;
    s->size = size;
    *ret = s;
    return 0;
}

void gw_frontend_shmem_free(struct gw_frontend_shmem *s)
{
    if (!s)
        return;
    (void)munmap(s->base, s->size);
    free(s->maps);
    free(s);
}

/* Returns: the number of mappings that begin before `offset`. */
static unsigned find(const struct gw_frontend_shmem *s, uint64_t offset)
{
    unsigned low = 0, high = s->n;

    while (low < high) {
        unsigned mid = (low + high) / 2;

        if (s->maps[mid].offset < offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static int check_range(const struct gw_frontend_shmem *s, const struct gw_frontend_shmem_range *g)
{
    uint64_t page = page_size();

    if (g->len == 0 || g->shm_offset > s->size || g->len > s->size - g->shm_offset)
        return gw_frontend_fail(-EINVAL,
                                "shared memory region: %#" PRIx64 " bytes at %#" PRIx64
                                " are outside of %#" PRIx64,
                                g->len, g->shm_offset, s->size);
    if (g->len % page || g->shm_offset % page || g->fd_offset % page)
        return gw_frontend_fail(-EINVAL,
                                "shared memory region: %#" PRIx64 " bytes at %#" PRIx64
                                " of the file at %#" PRIx64 " are not whole pages",
                                g->len, g->shm_offset, g->fd_offset);
    return 0;
}

/* A page beyond the end of the file, or one that never arrives, would stop the guest's CPU. */
static int check_file(const struct gw_frontend_shmem_range *g, int fd)
{
    struct stat st;
    char why[160];
    int r = gw_peer_fd_check_memory(fd, why, sizeof(why));

    if (r < 0)
        return gw_frontend_fail(-EINVAL, "shared memory region: the file cannot be mapped: %s",
                                why);
    if (fstat(fd, &st) < 0)
        return gw_frontend_fail(-errno, "shared memory region: fstat: %s", strerror(errno));
    if (S_ISREG(st.st_mode) &&
        (g->fd_offset > (uint64_t)st.st_size || g->len > (uint64_t)st.st_size - g->fd_offset))
        return gw_frontend_fail(-EINVAL,
                                "shared memory region: %#" PRIx64 " bytes at %#" PRIx64
                                " are beyond the end of the file, %#" PRIx64,
                                g->len, g->fd_offset, (uint64_t)st.st_size);
    return 0;
}

/* Room for one more mapping. */
static int grow(struct gw_frontend_shmem *s)
{
    unsigned room = s->room ? s->room * 2 : 8;
    struct map *maps;

    if (s->n < s->room)
        return 0;
    if (s->n == GW_FRONTEND_SHMEM_MAPS_MAX)
        return gw_frontend_fail(-ENOSPC, "shared memory region: %d mappings exist",
                                GW_FRONTEND_SHMEM_MAPS_MAX);
    maps = realloc(s->maps, room * sizeof(*maps));
    if (!maps)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    s->maps = maps;
    s->room = room;
    return 0;
}

int gw_frontend_shmem_map(struct gw_frontend_shmem *s, const struct gw_frontend_shmem_range *g,
                          int fd)
{
    int prot = PROT_READ | (g->writable ? PROT_WRITE : 0);
    unsigned at;
    int r = check_range(s, g);

    if (r < 0)
        return r;
    at = find(s, g->shm_offset);
    if ((at < s->n && s->maps[at].offset < g->shm_offset + g->len) ||
        (at > 0 && s->maps[at - 1].offset + s->maps[at - 1].len > g->shm_offset))
        return gw_frontend_fail(
            -EEXIST, "shared memory region: %#" PRIx64 " bytes at %#" PRIx64 " overlap a mapping",
            g->len, g->shm_offset);
    r = check_file(g, fd);
    if (r == 0)
        r = grow(s);
    if (r < 0)
        return r;
    if (g->fd_offset > INT64_MAX ||
        mmap(s->base + g->shm_offset, g->len, prot, MAP_SHARED | MAP_FIXED, fd,
             (off_t)g->fd_offset) == MAP_FAILED) {
        r = g->fd_offset > INT64_MAX ? -EINVAL : -errno;
        (void)reserve(s, g->shm_offset, g->len); /* the attempt may have removed ours */
        return gw_frontend_fail(r, "shared memory region: mmap: %s", strerror(-r));
    }
    memmove(&s->maps[at + 1], &s->maps[at], (s->n - at) * sizeof(s->maps[0]));
    s->maps[at] = (struct map){.offset = g->shm_offset, .len = g->len};
    s->n++;
    return 0;
}

int gw_frontend_shmem_unmap(struct gw_frontend_shmem *s, const struct gw_frontend_shmem_range *g)
{
    unsigned at = find(s, g->shm_offset);
    int r;

    if (at == s->n || s->maps[at].offset != g->shm_offset || s->maps[at].len != g->len)
        return gw_frontend_fail(
            -ENOENT, "shared memory region: no mapping has %#" PRIx64 " bytes at %#" PRIx64, g->len,
            g->shm_offset);
    r = reserve(s, g->shm_offset, g->len);
    if (r < 0)
        return r;
    s->n--;
    memmove(&s->maps[at], &s->maps[at + 1], (s->n - at) * sizeof(s->maps[0]));
    return 0;
}

int gw_frontend_shmem_reset(struct gw_frontend_shmem *s)
{
    int r = s->n ? reserve(s, 0, s->size) : 0;

    if (r == 0)
        s->n = 0;
    return r;
}

void *gw_frontend_shmem_base(const struct gw_frontend_shmem *s)
{
    return s->base;
}

uint64_t gw_frontend_shmem_size(const struct gw_frontend_shmem *s)
{
    return s->size;
}

unsigned gw_frontend_shmem_n_maps(const struct gw_frontend_shmem *s)
{
    return s->n;
}
