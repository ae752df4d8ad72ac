/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What must be the same at both ends. The destination makes its own guest from the options and the
 * seed of the source. It reports a difference at once: in the options, or, between two versions of
 * godwit, in the resulting guest.
 */
#include "guest/migrate_blk.h"
#include "migrate_remote.h"

#include "base/proto.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(struct link_hello *hello, const char *name, uint64_t value)
{
    struct link_option *o = &hello->options[hello->n_options++];

    memset(o, 0, sizeof(*o));
    snprintf(o->name, sizeof(o->name), "%s", name);
    o->value = value;
}

void migration_agree_options(const struct migration *m, struct link_hello *hello)
{
    const struct migration_options *o = &m->o;

    hello->n_options = 0;
    add(hello, "device", o->device);
    add(hello, "memory", o->memory);
    add(hello, "memory-top", o->memory_top);
    add(hello, "hugetlb", o->hugetlb);
    add(hello, "devices", o->n_devices);
    add(hello, "queues", o->n_queues);
    add(hello, "queue-size", o->queue_size);
    add(hello, "packed", o->packed);
    add(hello, "in-order", o->in_order);
    add(hello, "depth", o->depth);
    add(hello, "block-size", o->block_size);
    add(hello, "writes", o->write_percent);
    add(hello, "flushes", o->flush_percent);
    add(hello, "read-only", o->read_only);
    add(hello, "disk-size", o->disk_bytes);
    add(hello, "features", o->features);
    add(hello, "swap-call-fds-every", o->call_fd_ms);
}

bool migration_agree_check(const struct migration *m, const struct link_hello *source, char *why)
{
    struct link_hello *own = calloc(1, sizeof(*own));
    bool agrees = own != NULL;

    why[0] = '\0';
    if (!own) {
        snprintf(why, LINK_TEXT_MAX, "out of memory");
        return false;
    }
    migration_agree_options(m, own);
    if (own->n_options != source->n_options)
        agrees = false;
    for (unsigned i = 0; agrees && i < own->n_options; i++) {
        const struct link_option *here = &own->options[i], *there = &source->options[i];

        agrees = strcmp(here->name, there->name) == 0;
        if (!agrees || here->value == there->value)
            continue;
        snprintf(why, LINK_TEXT_MAX,
                 "--%s is %" PRIu64 " at the source and %" PRIu64
                 " at the destination: start both halves with the same value",
                 here->name, there->value, here->value);
        agrees = false;
    }
    if (!agrees && !why[0])
        snprintf(why, LINK_TEXT_MAX,
                 "the source knows other options: use the same godwit at both ends");
    free(own);
    return agrees;
}

/* ---- Layout ---- */

static int append(struct link_hello *hello, uint64_t value)
{
    if (hello->n_layout == LINK_LAYOUT_MAX)
        return -E2BIG;
    hello->layout[hello->n_layout++] = value;
    return 0;
}

static uint64_t sum_of(const uint8_t *bytes, size_t len)
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < len; i++)
        sum = (sum ^ bytes[i]) * UINT64_C(0x100000001b3);
    return sum;
}

/* The saved state covers the positions of rings and buffers, and all that depends on the seed. */
static int append_state(struct link_hello *hello, int r, void *state, size_t len)
{
    if (r == 0)
        r = append(hello, state ? sum_of(state, len) : 0);
    if (r == 0 || r == -E2BIG)
        free(state);
    return r;
}

int migration_agree_layout(struct migration *m, struct link_hello *hello)
{
    struct gw_guest_region region;
    void *state = NULL;
    size_t len = 0;
    int r;

    hello->n_layout = 0;
    r = append(hello, m->n_units);
    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        r = append(hello, m->units[i].wanted);
        if (r == 0)
            r = append(hello, m->units[i].disk.sectors);
    }
    for (unsigned i = 0; r == 0 && gw_guest_mem_region(m->mem, i, &region) == 0; i++) {
        r = append(hello, region.gpa);
        if (r == 0)
            r = append(hello, region.length);
    }
    for (unsigned i = 0; r == 0 && i < m->n_drivers; i++) {
        r = gw_driver_save(m->drivers[i], &state, &len);
        r = append_state(hello, r, state, len);
    }
    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        r = migration_load_save(m, i, &state, &len);
        r = append_state(hello, r, state, len);
    }
    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "the layout of the guest: %s",
                                strerror(-r));
    return 0;
}

bool migration_agree_units(struct migration *m, const struct link_hello *source)
{
    if (source->n_layout < 1 + 2 * m->n_units || source->layout[0] != m->n_units)
        return false;
    for (unsigned i = 0; i < m->n_units; i++) {
        m->units[i].wanted = source->layout[1 + 2 * i];
        /* Without protocol features the log cannot be passed. */
        if (!(m->units[i].wanted >> GW_F_PROTOCOL_FEATURES & 1))
            return false;
        m->units[i].disk.sectors = source->layout[2 + 2 * i];
        if (m->o.device == MIGRATION_DEVICE_BLK &&
            migration_blk_blocks(m, m->units[i].disk.sectors) == 0)
            return false;
    }
    return true;
}
