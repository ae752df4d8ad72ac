/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The messages of postcopy. The control worker never touches guest memory, and no answer depends on
 * a worker that may be waiting for a page (gw_op_answer), except answers that promise that requests
 * have ended: to GET_VRING_BASE, REM_MEM_REG and RESET_DEVICE.
 *
 * Between POSTCOPY_LISTEN and POSTCOPY_END a new memory table takes three steps. The front-end
 * sends its regions. We register them and answer with their addresses. The front-end acknowledges,
 * because only with the addresses can it assign page faults to regions. Until then the workers keep
 * the previous map.
 *
 * Messages: POSTCOPY_ADVISE, POSTCOPY_LISTEN, POSTCOPY_END.
 */
#include "base/cleanup.h"
#include "change.h"
#include "core/move/postcopy_worker.h"
#include "dispatch.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

void gw_daemon_expect_faults(struct gw_daemon *d, bool may_fault)
{
    /* The worker of postcopy expects them as long as it exists. */
    if (d->has_missing == may_fault || !d->own_workers)
        return;
    d->has_missing = may_fault;
    for (unsigned i = 0; i < d->num_workers; i++)
        __atomic_add_fetch(&d->workers[i]->loop->n_missing, may_fault ? 1u : -1u, __ATOMIC_RELAXED);
}

int gw_ctl_postcopy_advise(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    if (gw_session_has(&d->session, GW_F_ACCESS_PLATFORM))
        return gw_fail(-EOPNOTSUPP, "postcopy is impossible with translated addresses"
                                    " (ACCESS_PLATFORM)");
    return gw_postcopy_advise(&d->session.postcopy, &reply->fd);
}

/* QEMU sends its memory table later. Other front-ends have sent theirs; no ring uses it yet. */
static int listen_to_all(struct gw_session *s)
{
    int r = 0;

    for (unsigned i = 0; i < s->map->n_entries && r == 0; i++)
        r = gw_region_listen(s->map->entries[i].region, &s->postcopy);
    return r;
}

/* All queues are where they may wait for pages. */
int gw_ctl_postcopy_moved(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;
    int r = d->postcopy.error;

    if (r < 0)
        r = gw_fail(r, "the queues cannot move to a worker of postcopy: %s", strerror(-r));
    else
        r = gw_postcopy_listen(&s->postcopy);
    if (r == 0) {
        r = listen_to_all(s);
        if (r < 0)
            (void)gw_postcopy_end(&s->postcopy);
    }
    if (r < 0) {
        gw_postcopy_worker_end(d);
        return r;
    }
    gw_daemon_expect_faults(d, true);
    gw_log(&d->log, GW_LOG_INFO, "postcopy: listening for page faults");
    return 0;
}

int gw_ctl_postcopy_listen(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    struct gw_session *s = &d->session;
    int r = 0;

    for (unsigned i = 0; i < d->num_queues; i++)
        if (s->vrings[i].started)
            return gw_fail(-EBUSY, "postcopy cannot begin while queue %u runs", i);
    if (s->postcopy.state == GW_POSTCOPY_ADVISED)
        r = gw_postcopy_worker_begin(d);
    return r == 0 ? gw_ctl_postcopy_moved(d) : r;
}

/* The front-end accepts the addresses of the pending map (0), or rejects them. */
int gw_ctl_postcopy_acknowledge(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    struct gw_session *s = &d->session;
    struct gw_map *map = s->pending;

    s->pending = NULL;
    if (!map)
        return 0; /* nothing was added */
    if (gw_msg_u64(msg) == 0)
        return gw_change_map_posted(d, map);
    gw_map_free(map);
    return gw_fail(-ECANCELED, "the front-end does not accept its addresses: %#" PRIx64,
                   gw_msg_u64(msg));
}

int gw_ctl_postcopy_end(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    struct gw_session *s = &d->session;
    bool was_listening = gw_postcopy_is_listening(&s->postcopy);
    int r = gw_postcopy_end(&s->postcopy);

    if (s->pending)
        gw_log(&d->log, GW_LOG_WARNING,
               "postcopy ends, and its last memory table was never acknowledged");
    gw_map_free(s->pending);
    s->pending = NULL;
    gw_daemon_expect_faults(d, false);
    if (was_listening)
        gw_log(&d->log, GW_LOG_INFO, "postcopy: all memory is there");
    gw_postcopy_worker_end(d);
    return r;
}
