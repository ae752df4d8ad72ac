/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Describes a byte of guest memory for people, and for the counts by use: the ring, or the request,
 * that it belongs to. The load is paused.
 */
#include "guest/migrate_load.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static enum migration_use name_ring(const struct gw_driver *d, gw_gpa_t gpa, char *text,
                                    size_t size)
{
    unsigned i, q = gw_driver_index(d);

    switch (gw_driver_find(d, gpa, &i)) {
    case GW_DRIVER_PLACE_DESC:
        snprintf(text, size, "a descriptor table of queue %u, which the device only reads", q);
        return MIGRATION_USE_DESC;
    case GW_DRIVER_PLACE_AVAIL:
        snprintf(text, size, "the available ring of queue %u, which the device only reads", q);
        return MIGRATION_USE_AVAIL;
    case GW_DRIVER_PLACE_USED_FLAGS:
        snprintf(text, size, "flags of the used ring of queue %u", q);
        return MIGRATION_USE_USED_FLAGS;
    case GW_DRIVER_PLACE_USED_IDX:
        snprintf(text, size, "index of the used ring of queue %u, which is %u", q,
                 gw_driver_used_idx(d));
        return MIGRATION_USE_USED_IDX;
    case GW_DRIVER_PLACE_USED_ELEMENT:
        snprintf(text, size, "element %u of the used ring of queue %u, whose index is %u", i, q,
                 gw_driver_used_idx(d));
        return MIGRATION_USE_USED_ELEMENT;
    case GW_DRIVER_PLACE_AVAIL_EVENT:
        snprintf(text, size, "avail_event behind the used ring of queue %u", q);
        return MIGRATION_USE_AVAIL_EVENT;
    case GW_DRIVER_PLACE_PACKED_DESC:
        snprintf(text, size, "descriptor %u of the packed ring of queue %u, written back", i, q);
        return MIGRATION_USE_PACKED_DESC;
    case GW_DRIVER_PLACE_DRIVER_EVENT:
        snprintf(text, size, "the driver event area of queue %u, which the device only reads", q);
        return MIGRATION_USE_DRIVER_EVENT;
    case GW_DRIVER_PLACE_DEVICE_EVENT:
        snprintf(text, size, "the device event area of queue %u", q);
        return MIGRATION_USE_DEVICE_EVENT;
    default:
        return MIGRATION_USE_OUTSIDE;
    }
}

static const char *type_name(uint32_t type)
{
    return type == GW_DRIVER_BLK_READ ? "read" : type == GW_DRIVER_BLK_WRITE ? "write" : "flush";
}

static enum migration_use name_request(const struct migration *m,
                                       const struct gw_guest_load_place *p, char *text, size_t size)
{
    static const char *const parts[] = {"", "header", "status byte", "data buffer"};
    static const enum migration_use uses[] = {MIGRATION_USE_OUTSIDE, MIGRATION_USE_HEADER,
                                              MIGRATION_USE_STATUS, MIGRATION_USE_DATA};
    char where[32] = "";
    const char *state = p->in_flight ? "in flight" : "completed";

    if (p->part != GW_GUEST_LOAD_PART_STATUS)
        snprintf(where, sizeof(where), "byte %" PRIu64 " of the ", p->offset);
    if (!p->is_used)
        snprintf(text, size, "%s%s that was not in use yet", where, parts[p->part]);
    else if (m->o.device == MIGRATION_DEVICE_RNG)
        snprintf(text, size, "%sbuffer for random bytes, %s", where, state);
    else
        snprintf(text, size,
                 "%s%s of a %s of sector %" PRIu64 ", generation %" PRIu32 ", queue %u, %s%s",
                 where, parts[p->part], type_name(p->type), p->sector, p->generation, p->queue,
                 state, p->is_held ? ", left alone since" : "");
    return uses[p->part];
}

/* Append the number of the device if there are several. */
static enum migration_use add_unit(const struct migration *m, unsigned unit, enum migration_use use,
                                   char *text, size_t size)
{
    size_t len = strlen(text);

    if (m->n_units > 1)
        snprintf(text + len, size - len, ", device %u", unit + 1);
    return use;
}

enum migration_use migration_name(struct migration *m, gw_gpa_t gpa, char *text, size_t size,
                                  uint64_t *ret_skip)
{
    struct gw_guest_load_place place;
    enum migration_use use = MIGRATION_USE_OUTSIDE;
    unsigned unit;

    *ret_skip = 1;
    for (unsigned i = 0; use == MIGRATION_USE_OUTSIDE && i < m->n_drivers; i++) {
        use = name_ring(m->drivers[i], gpa, text, size);
        unit = i / m->o.n_queues;
    }
    if (use != MIGRATION_USE_OUTSIDE)
        return add_unit(m, unit, use, text, size);
    if (migration_load_find(m, gpa, &place, &unit)) {
        *ret_skip = place.left;
        return add_unit(m, unit, name_request(m, &place, text, size), text, size);
    }
    snprintf(text, size, "memory that was not passed to the device");
    return MIGRATION_USE_OUTSIDE;
}
