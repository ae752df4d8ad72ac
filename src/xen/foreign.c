/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Maps frames, and records which of them could not be mapped.
 *
 * The library returns an address even if it could not map a single frame; only the error of each
 * frame counts. Kernels do not support changes to such a mapping: it cannot be remapped in part,
 * moved, or given another protection. So the address range is reserved first and filled piece by
 * piece; each piece is one mapping, which is only replaced as a whole.
 */
#include "foreign.h"

#include "base/cleanup.h"
#include "base/log_i.h"
#include "xen_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum {
    PAGE_SHIFT = 12,
    PIECE = 1 << 18,     /* frames in one call: 1 GiB, with 3 MiB of lists */
    EMPTY_PIECES = 4,    /* in a row; a machine may have such a hole below 4 GiB */
    PAGED_TRIES = 5,     /* for frames that Xen has paged out */
    PAGED_FIRST_MS = 10, /* the pause after the first try; it doubles */
};

struct lists {
    xen_pfn_t *frames;
    int *errors;
};

static void pause_ms(unsigned ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    (void)nanosleep(&ts, NULL);
}

static bool some_are_paged_out(const int *errors, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (abs(errors[i]) == ENOENT)
            return true;
    return false;
}

/* Frames that are still paged out after all tries become holes. */
static int map_piece(struct gw_foreign *f, uint32_t domid, const struct lists *lists, size_t n)
{
    void *at = f->base + (f->n_mapped << PAGE_SHIFT);
    unsigned wait_ms = PAGED_FIRST_MS;

    for (unsigned i = 0; i < PAGED_TRIES; i++) {
        memset(lists->errors, 0, n * sizeof(lists->errors[0]));
        /* Replaces the mapping of an earlier try as a whole. */
        if (!xenforeignmemory_map2(f->handle, domid, at, PROT_READ | PROT_WRITE, MAP_FIXED, n,
                                   lists->frames, lists->errors))
            return -errno;
        if (!some_are_paged_out(lists->errors, n) || i + 1 == PAGED_TRIES)
            break;
        pause_ms(wait_ms);
        wait_ms *= 2;
    }
    return 0;
}

static int note_holes(struct gw_foreign *f, const int *errors, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t frame = f->n_mapped + i;

        if (errors[i] == 0)
            continue;
        if (!f->holes)
            f->holes = calloc(1, f->n_frames / 8 + 1);
        if (!f->holes)
            return -ENOMEM;
        f->holes[frame / 8] |= (uint8_t)(1u << frame % 8);
        if (f->n_holes++ == 0)
            f->hole_error = -abs(errors[i]);
    }
    return 0;
}

/*
 * The front-end waits for this. The time must depend on how much memory the domain has, not on the
 * size that the front-end claims, so a long run of missing frames ends the mapping with an error.
 */
static int map_pieces(struct gw_foreign *f, uint32_t domid, uint64_t first, struct lists *lists)
{
    unsigned n_empty = 0;
    int r = 0;

    while (r == 0 && f->n_mapped < f->n_frames) {
        uint64_t left = f->n_frames - f->n_mapped, n_holes = f->n_holes;
        size_t n = left < PIECE ? (size_t)left : PIECE;

        if (n_empty == EMPTY_PIECES)
            return f->hole_error;
        for (size_t i = 0; i < n; i++)
            lists->frames[i] = first + f->n_mapped + i;
        r = map_piece(f, domid, lists, n);
        if (r == 0) {
            r = note_holes(f, lists->errors, n);
            f->n_mapped += n;
            n_empty = f->n_holes - n_holes == n ? n_empty + 1 : 0;
        }
    }
    return r;
}

/* Opens a handle that, if the kernel supports it, can only reach this domain. */
static int open_for(struct gw_foreign *f, uint32_t domid)
{
    f->handle = xenforeignmemory_open(&gw_xen_log, 0);
    if (!f->handle)
        return gw_fail(-ENODEV, "frames of domain %u cannot be mapped: /dev/xen/privcmd: %s", domid,
                       strerror(errno));
    (void)xenforeignmemory_restrict(f->handle, (domid_t)domid);
    return 0;
}

static int reserve(struct gw_foreign *f)
{
    void *base = MAP_FAILED;

    errno = ENOMEM;
    if (f->n_frames <= (UINT64_MAX >> 1) >> PAGE_SHIFT)
        base = mmap(NULL, f->n_frames << PAGE_SHIFT, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return gw_fail(-errno, "cannot reserve addresses for %#" PRIx64 " frames: %s", f->n_frames,
                       strerror(errno));
    f->base = base;
    return 0;
}

int gw_foreign_map(struct gw_foreign *f, uint32_t domid, uint64_t first, uint64_t n_frames)
{
    size_t n = n_frames < PIECE ? (size_t)n_frames : PIECE;
    gw_cleanup_free xen_pfn_t *frames = calloc(n, sizeof(*frames));
    gw_cleanup_free int *errors = calloc(n, sizeof(*errors));
    struct lists lists = {.frames = frames, .errors = errors};
    int r;

    *f = (struct gw_foreign){.n_frames = n_frames};
    if (!frames || !errors)
        return gw_fail(-ENOMEM, "no memory for a list of %zu frames", n);
    r = open_for(f, domid);
    if (r == 0)
        r = reserve(f);
    if (r == 0) {
        r = map_pieces(f, domid, first, &lists);
        if (r == 0 && f->n_holes == f->n_frames)
            r = f->hole_error;
        if (r < 0)
            gw_fail(r, "%#" PRIx64 " frames from %#" PRIx64 " of domain %u cannot be mapped: %s",
                    n_frames, first, domid, strerror(-r));
    }
    if (r < 0)
        gw_foreign_unmap(f);
    return r;
}

void gw_foreign_unmap(struct gw_foreign *f)
{
    if (!f->handle)
        return;
    for (uint64_t at = 0; at < f->n_mapped; at += PIECE) {
        uint64_t left = f->n_mapped - at;

        (void)xenforeignmemory_unmap(f->handle, f->base + (at << PAGE_SHIFT),
                                     left < PIECE ? (size_t)left : PIECE);
    }
    if (f->base && f->n_mapped < f->n_frames)
        (void)munmap(f->base + (f->n_mapped << PAGE_SHIFT), (f->n_frames - f->n_mapped)
                                                                << PAGE_SHIFT);
    (void)xenforeignmemory_close(f->handle);
    free(f->holes);
    *f = (struct gw_foreign){0};
}

bool gw_foreign_has(const struct gw_foreign *f, uint64_t first, uint64_t n)
{
    for (uint64_t i = first; f->holes && i < first + n; i++)
        if (f->holes[i / 8] & 1u << i % 8)
            return false;
    return true;
}
