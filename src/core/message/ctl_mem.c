/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Memory tables. Every change builds a new map of new and kept regions, to which the workers
 * switch. The old map is unmapped when its last request ends. Outside postcopy the front-end is
 * answered only then.
 *
 * Messages: SET_MEM_TABLE, GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG.
 */
#include "base/cleanup.h"
#include "change.h"
#include "ctl_dirty_log.h"
#include "dispatch.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

/* The value of GW_REGION_NO_ADVANCE in rust-vmm's vm-memory; the specification uses bit 8. */
#define NO_ADVANCE_OF_RUST_VMM 0x8u

/* With XEN_MMAP, flags and a domain ID follow every region on the wire. */
static bool has_xen(const struct gw_session *s)
{
    return gw_session_has_protocol(s, GW_PROTOCOL_F_XEN_MMAP);
}

static uint32_t flags_of(const struct gw_wire_xen_region *wire)
{
    if (wire->flags & NO_ADVANCE_OF_RUST_VMM)
        return (wire->flags & ~NO_ADVANCE_OF_RUST_VMM) | GW_REGION_NO_ADVANCE;
    return wire->flags;
}

/*
 * In postcopy, regions are mapped at the front-end's own addresses if possible. QEMU 10.0 and 11.1
 * record a page that a back-end waits for under the back-end's address, but look it up under their
 * own address when it arrives. With postcopy-preempt their migration ends only when no such record
 * is left, which requires both addresses to be the same. The answer states our address in any case.
 */
static struct gw_region_desc desc_of(const struct gw_daemon *d, const struct gw_wire_region *wire)
{
    struct gw_region_desc desc = {
        .gpa = wire->guest_addr,
        .size = wire->size,
        .uva = wire->user_addr,
        .mmap_offset = wire->mmap_offset,
        .at_uva = gw_postcopy_is_listening(&d->session.postcopy),
    };

    if (has_xen(&d->session)) {
        const struct gw_wire_xen_region *xen = (const void *)wire;

        desc.flags = flags_of(xen);
        desc.domid = xen->domid;
        desc.cache_pages = d->xen_cache_pages;
    }
    return desc;
}

/*
 * Report a region to the device, which may refuse it. From then on, the device learns when it is
 * gone: before it is unmapped, with its last reference. A map has references until the last request
 * and the last hold of its generation have ended (change.c).
 */
static int report_region(struct gw_daemon *d, struct gw_region *region, int fd)
{
    char name[64];
    int r = 0;

    region->pub.fd = region->mapping.at ? fd : -1;
    if (d->ops.region_added)
        r = d->ops.region_added(d->dev, &region->pub);
    region->pub.fd = -1;
    if (r == 0) {
        region->gone = d->ops.region_gone;
        region->gone_arg = d->dev;
        return 0;
    }
    gw_region_name(region, name, sizeof(name));
    return gw_fail(r < 0 ? r : -ECANCELED, "the device refuses %s: %s", name,
                   strerror(r < 0 ? -r : ECANCELED));
}

/* Create a region of this session; release it with gw_region_put. Consumes `fd`. */
static int new_region(struct gw_daemon *d, const struct gw_wire_region *wire, int fd,
                      struct gw_region **ret)
{
    struct gw_session *s = &d->session;
    struct gw_region_desc desc = desc_of(d, wire);
    gw_cleanup_peer_fd int owned_fd = fd, copy = -1;
    struct gw_region *region;
    int r;

    if (gw_session_has_protocol(s, GW_PROTOCOL_F_GPA_ADDRESSES) &&
        wire->user_addr != wire->guest_addr)
        return gw_fail(-EINVAL,
                       "with GPA_ADDRESSES the region at %#" PRIx64 " has user address %#" PRIx64,
                       wire->guest_addr, wire->user_addr);
    if (d->ops.region_added && fd >= 0) {
        copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (copy < 0)
            return gw_fail(-errno, "no file descriptor for a memory region: %s", strerror(errno));
    }
    r = gw_region_new(&region, &desc, gw_steal_fd(&owned_fd));
    if (r < 0)
        return r;
    gw_region_guard(region, d->guard);
    if (gw_postcopy_is_listening(&s->postcopy))
        r = gw_region_listen(region, &s->postcopy);
    if (r == 0)
        r = report_region(d, region, copy);
    if (r < 0)
        gw_region_put(region);
    else
        *ret = region;
    return r;
}

/* Create a map of these regions that the dirty log covers. The caller keeps its references. */
static int make_map(struct gw_daemon *d, struct gw_region **regions, unsigned n_regions,
                    struct gw_map **ret)
{
    struct gw_map *map;
    int r = gw_map_new(&map, regions, n_regions);

    if (r < 0)
        return r;
    /* The front-end must enlarge the dirty log before it adds memory. */
    r = d->session.dirty_log.all ? gw_ctl_check_log_map(d->session.dirty_log.log, map) : 0;
    if (r < 0)
        gw_map_free(map);
    else
        *ret = map;
    return r;
}

/*
 * Replace the session's map with a map of these regions: at once, or in postcopy when the front-end
 * acknowledges the addresses of new regions.
 */
static int replace_with(struct gw_daemon *d, struct gw_region **regions, unsigned n_regions)
{
    struct gw_map *map;
    int r = make_map(d, regions, n_regions, &map);

    if (r < 0)
        return r;
    if (!gw_postcopy_is_listening(&d->session.postcopy))
        return gw_change_map(d, map);
    gw_map_free(d->session.pending);
    d->session.pending = map;
    return 0;
}

/* In postcopy the answer repeats the message, with our address of each region's first byte. */
static void set_address(struct gw_wire_region *wire, const struct gw_region *region)
{
    wire->user_addr = (uintptr_t)region->hva;
}

static struct gw_wire_region *region_at(const struct gw_daemon *d, void *table, unsigned i)
{
    size_t size =
        has_xen(&d->session) ? sizeof(struct gw_wire_xen_region) : sizeof(struct gw_wire_region);

    return (void *)((uint8_t *)table + offsetof(struct gw_wire_mem_table, regions) + i * size);
}

int gw_ctl_set_mem_table(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_mem_table *table = (const void *)msg->payload;
    const uint8_t *end = (const void *)region_at(d, msg->payload, table->num_regions);
    const uint8_t *more = (const void *)region_at(d, msg->payload, table->num_regions + 1);
    size_t size = (size_t)(end - msg->payload);
    struct gw_region *regions[GW_MSG_TABLE_REGIONS_MAX];
    unsigned n = 0;
    int r = 0;

    /*
     * check_fds made sure that num_regions equals the number of fds, at most GW_MSG_FDS_MAX. The
     * table of user-mode Linux has room for two regions, whatever their number.
     */
    if (msg->header.size < size || (msg->header.size - size) % (size_t)(more - end))
        return gw_fail(-EBADMSG, "a payload of %u bytes does not hold %u regions", msg->header.size,
                       table->num_regions);
    reply->size = msg->header.size;
    memcpy(reply->payload, table, reply->size);
    while (n < table->num_regions && r == 0) {
        r = new_region(d, region_at(d, msg->payload, n), gw_steal_fd(&msg->fds[n]), &regions[n]);
        if (r == 0) {
            set_address(region_at(d, reply->payload, n), regions[n]);
            n++;
        }
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

/* The map as of the last message: in postcopy the front-end may not have acknowledged it yet. */
static const struct gw_map *latest_map(const struct gw_session *s)
{
    return s->pending ? s->pending : s->map;
}

/* List the regions of a map except `without`. Returns: their number. */
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
    struct gw_wire_single_region *answer = (void *)reply->payload;
    struct gw_region *regions[GW_MEM_SLOTS_MAX], *added = NULL;
    unsigned n = list_regions(latest_map(&d->session), NULL, regions);
    int r;

    if (n == GW_MEM_SLOTS_MAX)
        return gw_fail(-ENOSPC, "all %u memory slots are taken", GW_MEM_SLOTS_MAX);
    r = new_region(d, &wire->region, gw_steal_fd(&msg->fds[0]), &added);
    if (r < 0)
        return r;
    reply->size = sizeof(*answer);
    *answer = *wire;
    set_address(&answer->region, added);
    regions[n++] = added;
    r = replace_with(d, regions, n);
    gw_region_put(added);
    return r;
}

/* Remove a region from the pending map, if any. Returns: 1; 0 if it is not there; -ENOMEM. */
static int remove_pending(struct gw_daemon *d, const struct gw_region_desc *desc)
{
    struct gw_session *s = &d->session;
    struct gw_region *regions[GW_MEM_SLOTS_MAX], *removed = NULL;
    struct gw_map *map;
    int r;

    if (s->pending)
        removed = gw_map_find_desc(s->pending, desc);
    if (!removed)
        return 0;
    r = make_map(d, regions, list_regions(s->pending, removed, regions), &map);
    if (r < 0)
        return r;
    gw_map_free(s->pending);
    s->pending = map;
    return 1;
}

int gw_ctl_rem_mem_reg(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_single_region *wire = (const void *)msg->payload;
    struct gw_region_desc desc = desc_of(d, &wire->region);
    struct gw_region *regions[GW_MEM_SLOTS_MAX], *removed;
    struct gw_map *map;
    int was_pending = remove_pending(d, &desc), r;

    if (was_pending < 0)
        return was_pending;
    removed = gw_map_find_desc(d->session.map, &desc);
    if (!removed && was_pending)
        return 0;
    if (!removed)
        return gw_fail(-ENOENT, "there is no memory region at %#" PRIx64 " of %#" PRIx64 " bytes",
                       desc.gpa, desc.size);
    r = make_map(d, regions, list_regions(d->session.map, removed, regions), &map);
    return r < 0 ? r : gw_change_map(d, map);
}
