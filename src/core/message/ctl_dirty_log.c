/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The messages about the dirty log. SET_LOG_BASE and LOG_ALL arrive in any order. A log that does
 * not cover everything the device may write is refused before the device writes.
 *
 * Messages: SET_LOG_BASE, SET_LOG_FD.
 */
#include "ctl_dirty_log.h"

#include "base/cleanup.h"
#include "change.h"
#include "dispatch.h"

#include <errno.h>
#include <inttypes.h>

static int check_range(const struct gw_dirty_log *log, const char *what, gw_gpa_t gpa, uint64_t len)
{
    if (gw_dirty_log_covers(log, gpa, len))
        return 0;
    return gw_fail(-ERANGE,
                   "the dirty log of %#" PRIx64 " bytes does not cover %s of %#" PRIx64
                   " bytes at %#" PRIx64,
                   log->size, what, len, gpa);
}

int gw_ctl_check_log_map(const struct gw_dirty_log *log, const struct gw_map *map)
{
    int r = 0;

    for (unsigned i = 0; log && i < map->n_entries && r == 0; i++) {
        const struct gw_map_entry *e = &map->entries[i];
        bool is_grant = (e->region->desc.flags & GW_REGION_GRANT) != 0;

        /* The region may hold any grant reference; only the front-end knows the used ones. */
        if (e->region->desc.flags & GW_REGION_NO_ADVANCE)
            continue;
        r = check_range(log, "the memory region", is_grant ? gw_dirty_log_address(e->gpa) : e->gpa,
                        e->size);
    }
    return r;
}

int gw_ctl_check_log_ring(const struct gw_daemon *d, const struct gw_dirty_log *log,
                          const struct gw_vring *vring)
{
    bool packed = gw_session_has(&d->session, GW_F_RING_PACKED);
    gw_gpa_t addr = vring->log_addr;

    if (gw_session_has_protocol(&d->session, GW_PROTOCOL_F_XEN_MMAP))
        addr = gw_dirty_log_address(addr);
    /* Translated addresses: the log address is one, and a mark goes to where the ring is. */
    if (!log || !vring->log_used || gw_session_has(&d->session, GW_F_ACCESS_PLATFORM))
        return 0;
    return check_range(log, packed ? "the device event area" : "the used ring", addr,
                       gw_ring_log_len(packed, vring->config.size));
}

static int check_session(const struct gw_daemon *d, const struct gw_dirty_log *log)
{
    int r = gw_ctl_check_log_map(log, d->session.map);

    /* The log address of a stopped ring may be stale; the next start checks it again. */
    for (unsigned i = 0; i < d->num_queues && r == 0; i++)
        if (d->session.vrings[i].started)
            r = gw_ctl_check_log_ring(d, log, &d->session.vrings[i]);
    return r;
}

int gw_ctl_set_log_base(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_log *wire = (const void *)msg->payload;
    struct gw_dirty_log_state state = d->session.dirty_log;
    int r =
        gw_dirty_log_new(&state.log, gw_steal_fd(&msg->fds[0]), wire->mmap_offset, wire->mmap_size);

    if (r < 0)
        return r;
    gw_dirty_log_guard(state.log, d->guard);
    r = check_session(d, state.log);
    if (r < 0) {
        gw_dirty_log_free(state.log);
        return r;
    }
    /* Other back-ends answer with 0, 8 or these 16 bytes; all front-ends accept 16. */
    *(struct gw_wire_log *)(void *)reply->payload = *wire;
    reply->size = sizeof(*wire);
    return gw_change_log(d, &state, gw_op_result);
}

int gw_ctl_set_log_base_by_address(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    return gw_fail(-EOPNOTSUPP,
                   "a log at address %#" PRIx64
                   " of the front-end is out of reach; negotiate LOG_SHMFD and pass its file",
                   gw_msg_u64(msg));
}

int gw_ctl_set_log_fd(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    struct gw_dirty_log_state state = d->session.dirty_log;
    int r = gw_ctl_check_eventfd(msg);

    if (r < 0)
        return r;
    state.event_fd = gw_steal_fd(&msg->fds[0]);
    return gw_change_log(d, &state, gw_op_result);
}

int gw_ctl_set_log_all(struct gw_daemon *d, bool all, gw_op_next *next)
{
    struct gw_dirty_log_state state = d->session.dirty_log;
    int r;

    if (state.all == all)
        return next(d, NULL, 0);
    if (all) {
        r = state.log ? check_session(d, state.log) : 0;
        if (r < 0)
            return r;
    } else {
        /* The front-end frees its log without a further message. */
        state.log = NULL;
    }
    state.all = all;
    return gw_change_log(d, &state, next);
}
