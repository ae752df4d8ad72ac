/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Memory tables. Every change makes a new map of new and old regions, which the workers adopt; the
 * old one is unmapped when its last request is done, and only then the front-end is answered.
 */
#include "cleanup.h"
#include "ctl_migration.h"
#include "dispatch.h"

#include <errno.h>
#include <inttypes.h>

static struct gw_region_desc desc_of(const struct gw_wire_region *wire)
{
    return (struct gw_region_desc){
        .gpa = wire->guest_addr,
        .size = wire->size,
        .uva = wire->user_addr,
        .mmap_offset = wire->mmap_offset,
    };
}

/* A map of these regions replaces the session's. They stay the caller's. */
static int replace_with(struct gw_daemon *d, struct gw_region **regions, unsigned n_regions)
{
    struct gw_map *map;
    int r = gw_map_new(&map, regions, n_regions);

    if (r < 0)
        return r;
    /* A log that is too small grows before the memory does. */
    r = d->session.log.all ? gw_ctl_check_log_map(d->session.log.log, map) : 0;
    if (r < 0) {
        gw_map_free(map);
        return r;
    }
    return gw_daemon_replace_map(d, map);
}

int gw_ctl_set_mem_table(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_mem_table *table = (const void *)msg->payload;
    struct gw_region *regions[GW_MSG_TABLE_REGIONS_MAX];
    unsigned n = 0;
    int r = 0;

    /* num_regions is as many as there are fds, so at most GW_MSG_FDS_MAX. */
    if (msg->header.size != 8 + table->num_regions * sizeof(table->regions[0]))
        return gw_fail(-EBADMSG, "a payload of %u bytes does not hold %u regions", msg->header.size,
                       table->num_regions);
    while (n < table->num_regions && r == 0) {
        struct gw_region_desc desc = desc_of(&table->regions[n]);

        r = gw_region_new(&regions[n], &desc, gw_steal_fd(&msg->fds[n]));
        if (r == 0)
            gw_region_guard(regions[n++], d->guard);
    }
    if (r == 0)
        r = replace_with(d, regions, n);
    while (n > 0)
        gw_region_put(regions[--n]);
    return r;
}

int gw_ctl_get_max_mem_slots(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    gw_reply_u64(reply, GW_MEM_SLOTS_MAX);
    return 0;
}

/* The regions of the session's map but for `without`. Returns: how many. */
static unsigned list_regions(const struct gw_map *map, const struct gw_region *without,
                             struct gw_region **regions)
{
    unsigned n = 0;

    for (unsigned i = 0; i < map->n_entries; i++)
        if (map->entries[i].region != without)
            regions[n++] = map->entries[i].region;
    return n;
}

int gw_ctl_add_mem_reg(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_single_region *wire = (const void *)msg->payload;
    struct gw_region_desc desc = desc_of(&wire->region);
    struct gw_region *regions[GW_MEM_SLOTS_MAX], *added;
    unsigned n = list_regions(d->session.map, NULL, regions);
    int r;

    if (n == GW_MEM_SLOTS_MAX)
        return gw_fail(-ENOSPC, "all %u memory slots are taken", GW_MEM_SLOTS_MAX);
    r = gw_region_new(&added, &desc, gw_steal_fd(&msg->fds[0]));
    if (r < 0)
        return r;
    gw_region_guard(added, d->guard);
    regions[n++] = added;
    r = replace_with(d, regions, n);
    gw_region_put(added);
    return r;
}

int gw_ctl_rem_mem_reg(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_single_region *wire = (const void *)msg->payload;
    struct gw_region_desc desc = desc_of(&wire->region);
    struct gw_region *regions[GW_MEM_SLOTS_MAX], *removed;

    removed = gw_map_find_desc(d->session.map, &desc);
    if (!removed)
        return gw_fail(-ENOENT, "there is no memory region at %#" PRIx64 " of %#" PRIx64 " bytes",
                       desc.gpa, desc.size);
    return replace_with(d, regions, list_regions(d->session.map, removed, regions));
}
