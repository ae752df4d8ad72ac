/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See power_cut.h: the shared memory, and a driver that checks every answer. */
#include "power_cut.h"

#include "core/memory/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define FLAG_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define FLAG_USED  (1u << VRING_PACKED_DESC_F_USED)

void power_cut_fixture_init(struct power_cut_fixture *fixture)
{
    struct gw_region_desc desc = {
        .gpa = POWER_CUT_GPA, .size = sizeof(struct power_cut_mem), .uva = POWER_CUT_UVA};
    int fd = memfd_create("power_cut", MFD_CLOEXEC);
    struct gw_region *region;

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, sizeof(struct power_cut_mem)), 0);
    assert_int_equal(gw_region_new(&region, &desc, fd), 0);
    assert_int_equal(gw_map_new(&fixture->map, &region, 1), 0);
    gw_region_put(region);
    fixture->mem = (struct power_cut_mem *)(void *)fixture->map->entries[0].hva;
    /* The single-stepped child needs this mapping, too. */
    assert_int_equal(madvise(fixture->mem, sizeof(struct power_cut_mem), MADV_DOFORK), 0);
}

void power_cut_fixture_done(struct power_cut_fixture *fixture)
{
    gw_map_free(fixture->map);
}

unsigned power_cut_random(unsigned *seed, unsigned n)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % n;
}

uint32_t power_cut_req_at(uint64_t addr)
{
    uint64_t offset = addr - POWER_CUT_GPA - offsetof(struct power_cut_mem, buf);

    return offset / 8 < POWER_CUT_REQS_MAX && offset % 8 == 0 ? (uint32_t)(offset / 8) : UINT32_MAX;
}

void power_cut_driver_init(struct power_cut_driver *d, const struct power_cut_config *cfg,
                           struct power_cut_state *state)
{
    memset(d, 0, sizeof(*d));
    d->cfg = cfg;
    d->state = state;
    d->n_free = cfg->size;
    d->avail = d->used = cfg->start;
    d->avail_wrap = d->used_wrap = true;
    memset(state, 0, sizeof(*state));
    if (cfg->packed) {
        /* Mark the slots before `start` as used in this lap; zeroes mean used in the last lap. */
        for (unsigned i = 0; i < cfg->start; i++)
            ((struct vring_packed_desc *)(void *)state->desc)[i].flags = FLAG_AVAIL | FLAG_USED;
    } else {
        ((struct vring_avail *)(void *)state->avail)->idx = cfg->start;
        ((struct vring_used *)(void *)state->used)->idx = cfg->start;
    }
}

/* ---- making requests ---- */

/* The address identifies the request, so that a copy of a descriptor does, too. */
static uint64_t addr_of(unsigned req)
{
    return POWER_CUT_GPA + offsetof(struct power_cut_mem, buf) + 8 * (uint64_t)req;
}

static void add_split(struct power_cut_driver *d, unsigned n)
{
    struct vring_desc *table = (void *)d->state->desc;
    struct vring_avail *avail = (void *)d->state->avail;
    uint16_t entries[POWER_CUT_CHAIN] = {0};
    unsigned found = 0;

    for (uint16_t i = 0; found < n; i++)
        if (!d->busy[i])
            entries[found++] = i;
    for (unsigned i = 0; i < n; i++) {
        d->busy[entries[i]] = true;
        d->entries_of[entries[0]][i] = entries[i];
        table[entries[i]] = (struct vring_desc){
            .addr = addr_of(d->n_made),
            .len = 8,
            .flags = VRING_DESC_F_WRITE | (i + 1 < n ? VRING_DESC_F_NEXT : 0),
            .next = i + 1 < n ? entries[i + 1] : 0,
        };
    }
    d->req_of[entries[0]] = (uint16_t)d->n_made;
    d->n_slots_of[entries[0]] = (uint16_t)n;
    avail->ring[d->avail % d->cfg->size] = entries[0];
    d->avail++;
    __atomic_store_n(&avail->idx, d->avail, __ATOMIC_RELEASE);
}

static void add_packed(struct power_cut_driver *d, unsigned n)
{
    struct vring_packed_desc *ring = (void *)d->state->desc;
    uint16_t id = 0, first = d->avail, first_flags = 0;

    while (d->n_slots_of[id])
        id++;
    for (unsigned i = 0; i < n; i++) {
        uint16_t flags = (uint16_t)(VRING_DESC_F_WRITE | (i + 1 < n ? VRING_DESC_F_NEXT : 0) |
                                    (d->avail_wrap ? FLAG_AVAIL : FLAG_USED));

        ring[d->avail].addr = addr_of(d->n_made);
        ring[d->avail].len = 8;
        ring[d->avail].id = id;
        if (i == 0)
            first_flags = flags;
        else
            ring[d->avail].flags = flags;
        if (++d->avail == d->cfg->size) {
            d->avail = 0;
            d->avail_wrap = !d->avail_wrap;
        }
    }
    d->req_of[id] = (uint16_t)d->n_made;
    d->n_slots_of[id] = (uint16_t)n;
    __atomic_store_n(&ring[first].flags, first_flags, __ATOMIC_RELEASE);
}

bool power_cut_driver_add(struct power_cut_driver *d, unsigned n)
{
    if (n > d->n_free || d->n_made == POWER_CUT_REQS_MAX)
        return false;
    if (d->cfg->packed)
        add_packed(d, n);
    else
        add_split(d, n);
    d->n_free -= n;
    d->n_made++;
    return true;
}

/* ---- taking answers ---- */

static const char *take_one(struct power_cut_driver *d, uint32_t id)
{
    if (id >= d->cfg->size || d->n_slots_of[id] == 0)
        return "an answer to nothing";
    d->answered[d->req_of[id]]++;
    d->n_answered++;
    d->n_free += d->n_slots_of[id];
    if (!d->cfg->packed)
        for (unsigned i = 0; i < d->n_slots_of[id]; i++)
            d->busy[d->entries_of[id][i]] = false;
    d->n_slots_of[id] = 0;
    return NULL;
}

static uint16_t id_of(const struct power_cut_driver *d, unsigned req)
{
    uint16_t id = 0;

    while (id < d->cfg->size && (d->n_slots_of[id] == 0 || d->req_of[id] != req))
        id++;
    return id;
}

/*
 * Take one used element, which with IN_ORDER may also answer all requests before it. Returns: the
 * error, or NULL with the number of answered requests in `n` and their descriptors in `n_slots`.
 */
static const char *take(struct power_cut_driver *d, uint32_t last, unsigned *n, unsigned *n_slots)
{
    const char *why = NULL;
    uint32_t id;

    *n = *n_slots = 0;
    do {
        id = d->cfg->in_order ? id_of(d, d->oldest) : last;
        if (id < d->cfg->size)
            *n_slots += d->n_slots_of[id];
        why = take_one(d, id);
        d->oldest++;
        (*n)++;
    } while (!why && id != last);
    return why;
}

static const char *take_split(struct power_cut_driver *d)
{
    const struct vring_used *used = (const void *)d->state->used;
    uint16_t idx = __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE);
    const char *why = NULL;
    unsigned n, n_slots;

    while (!why && d->used != idx) {
        uint16_t at = d->used;

        /* The used element of a batch is in the slot of its first request. */
        if (d->cfg->in_order) {
            uint16_t left = (uint16_t)(idx - d->used);

            why = take(d, used->ring[at % d->cfg->size].id, &n, &n_slots);
            if (!why && n > left)
                why = "an answer to more than the index says";
            d->used = (uint16_t)(d->used + n);
        } else {
            why = take_one(d, used->ring[at % d->cfg->size].id);
            d->used++;
        }
    }
    return why;
}

static const char *take_packed(struct power_cut_driver *d)
{
    const struct vring_packed_desc *ring = (const void *)d->state->desc;
    const char *why = NULL;

    while (!why) {
        uint16_t flags = __atomic_load_n(&ring[d->used].flags, __ATOMIC_ACQUIRE);
        unsigned n, n_slots;

        if (!!(flags & FLAG_AVAIL) != d->used_wrap || !!(flags & FLAG_USED) != d->used_wrap)
            return NULL;
        if (d->n_free == d->cfg->size)
            return "an answer while nothing is in flight";
        why = take(d, ring[d->used].id, &n, &n_slots);
        d->used = (uint16_t)(d->used + n_slots);
        if (d->used >= d->cfg->size) {
            d->used = (uint16_t)(d->used - d->cfg->size);
            d->used_wrap = !d->used_wrap;
        }
    }
    return why;
}

const char *power_cut_driver_take(struct power_cut_driver *d)
{
    return d->cfg->packed ? take_packed(d) : take_split(d);
}
