/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A first-fit allocator over one range of guest addresses: a sorted array of free extents that
 * never accesses the memory itself. It is meant for the setup of tests and loads, not for use on
 * each request.
 */
#include "guest_alloc.h"

#include "frontend/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int make_room(struct gw_guest_alloc *a)
{
    unsigned n = a->n_room ? a->n_room * 2 : 8;
    struct gw_guest_extent *e;

    if (a->n_extents < a->n_room)
        return 0;
    e = realloc(a->extents, n * sizeof(*e));
    if (!e)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    a->extents = e;
    a->n_room = n;
    return 0;
}

static void remove_extent(struct gw_guest_alloc *a, unsigned i)
{
    a->n_extents--;
    memmove(&a->extents[i], &a->extents[i + 1], (a->n_extents - i) * sizeof(*a->extents));
}

/* The caller has called make_room. */
static void insert_extent(struct gw_guest_alloc *a, unsigned i, gw_gpa_t start, uint64_t length)
{
    memmove(&a->extents[i + 1], &a->extents[i], (a->n_extents - i) * sizeof(*a->extents));
    a->extents[i] = (struct gw_guest_extent){.start = start, .length = length};
    a->n_extents++;
}

int gw_guest_alloc_init(struct gw_guest_alloc *a, gw_gpa_t start, uint64_t length)
{
    int r;

    memset(a, 0, sizeof(*a));
    r = make_room(a);
    if (r == 0 && length)
        insert_extent(a, 0, start, length);
    return r;
}

int gw_guest_alloc_copy(struct gw_guest_alloc *a, const struct gw_guest_alloc *from)
{
    memset(a, 0, sizeof(*a));
    a->extents = malloc(from->n_room * sizeof(*a->extents));
    if (!a->extents)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    memcpy(a->extents, from->extents, from->n_extents * sizeof(*a->extents));
    a->n_extents = from->n_extents;
    a->n_room = from->n_room;
    return 0;
}

void gw_guest_alloc_done(struct gw_guest_alloc *a)
{
    free(a->extents);
    memset(a, 0, sizeof(*a));
}

int gw_guest_alloc_take(struct gw_guest_alloc *a, uint64_t length, uint64_t align, gw_gpa_t *ret)
{
    int r = make_room(a); /* one extent may become two */

    if (r < 0)
        return r;
    for (unsigned i = 0; i < a->n_extents; i++) {
        struct gw_guest_extent *e = &a->extents[i];
        uint64_t skip = (0 - e->start) & (align - 1);
        uint64_t rest;

        if (skip > e->length || e->length - skip < length)
            continue;
        *ret = e->start + skip;
        rest = e->length - skip - length;
        e->length = skip;
        if (rest)
            insert_extent(a, i + 1, *ret + length, rest);
        if (!skip)
            remove_extent(a, i);
        return 0;
    }
    return -ENOSPC;
}

int gw_guest_alloc_give(struct gw_guest_alloc *a, gw_gpa_t start, uint64_t length)
{
    unsigned i = 0;
    int r = make_room(a);

    if (r < 0)
        return r;
    while (i < a->n_extents && a->extents[i].start < start)
        i++;
    insert_extent(a, i, start, length);
    if (i + 1 < a->n_extents && start + length == a->extents[i + 1].start) {
        a->extents[i].length += a->extents[i + 1].length;
        remove_extent(a, i + 1);
    }
    if (i > 0 && a->extents[i - 1].start + a->extents[i - 1].length == start) {
        a->extents[i - 1].length += a->extents[i].length;
        remove_extent(a, i);
    }
    return 0;
}
