/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Translated addresses. The session has the latest table; every change of it is an operation of all
 * queues, after which the previous table is freed. An update is answered at once. An invalidation
 * is answered when no request in flight uses its range.
 *
 * Queues report what they miss (iotlb_misses.h), and the back-end channel asks for it. A front-end
 * does not answer a miss that its IOMMU has no mapping for. After some time the page is forbidden
 * for a moment: a chain that uses it is then answered as a bad one.
 *
 * Messages: IOTLB_MSG.
 */
#include "ctl_iotlb.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "dispatch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/eventfd.h>

/* How long a miss may stay unanswered: QEMU answers late while its main loop is busy. */
#define MISS_PATIENCE_NS (30 * GW_NS_PER_S)
/* How long a page stays forbidden after that. */
#define FORBIDDEN_NS (1 * GW_NS_PER_S)
/* How often unanswered misses are examined. */
#define EXAMINE_NS GW_NS_PER_S

/* Pages of a ring that are asked for at a time; the rest follow. */
enum {
    RING_MISSES_MAX = 16
};

/* ---- changes of the table ---- */

struct iotlb_change {
    const struct gw_iotlb *table;
    struct gw_iotlb *old; /* freed when the operation has ended */
    struct gw_iova_range range;
    struct gw_iotlb_wait waits[]; /* of an invalidation, for each queue */
};

static int apply_update(struct gw_queue *q, struct gw_op *op)
{
    const struct iotlb_change *c = op->arg;

    gw_queue_set_iotlb(q, c->table, c->range);
    return 0;
}

static int apply_invalidation(struct gw_queue *q, struct gw_op *op)
{
    struct iotlb_change *c = op->arg;
    struct gw_iotlb_wait *wait = &c->waits[q->index];

    wait->range = c->range;
    wait->latch = &op->latch;
    gw_queue_invalidate_iotlb(q, c->table, wait);
    return GW_OP_PENDING;
}

static void free_old(struct gw_op *op)
{
    struct iotlb_change *c = op->arg;

    gw_iotlb_free(c->old);
}

/* Create the operation of a change, and make `table` the session's. Consumes `table`. */
static struct gw_op *replace_table(struct gw_daemon *d, struct gw_iotlb *table,
                                   struct gw_iova_range range, bool invalidates)
{
    struct gw_session *s = &d->session;
    size_t waits = invalidates ? d->num_queues * sizeof(struct gw_iotlb_wait) : 0;
    struct gw_op *op = gw_op_new(d, NULL, invalidates ? apply_invalidation : apply_update,
                                 sizeof(struct iotlb_change) + waits);
    struct iotlb_change *c;

    if (!op) {
        gw_iotlb_free(table);
        return NULL;
    }
    op->done = free_old;
    c = op->arg;
    c->table = table;
    c->old = s->iotlb;
    c->range = range;
    s->iotlb = table;
    return op;
}

static void start_rings(struct gw_daemon *d)
{
    for (unsigned i = 0; i < d->num_queues; i++)
        gw_ctl_start_translated(d, i);
}

static int update(struct gw_daemon *d, const struct gw_wire_iotlb *wire)
{
    const struct gw_iova_range range = {.iova = wire->iova, .size = wire->size};
    struct gw_session *s = &d->session;
    struct gw_iotlb *table;
    struct gw_op *op;
    int r = gw_iotlb_update(&table, s->iotlb, s->map, range, wire->user_addr, wire->access);

    if (r < 0)
        return r;
    op = replace_table(d, table, range, false);
    if (!op)
        return -ENOMEM;
    gw_iotlb_misses_answered(&d->misses, range);
    r = gw_op_post(op);
    start_rings(d); /* posted after the table */
    return r;
}

static int invalidate(struct gw_daemon *d, const struct gw_wire_iotlb *wire)
{
    struct gw_iova_range range = {.iova = wire->iova, .size = wire->size};
    struct gw_iotlb *table;
    struct gw_op *op;
    int r;

    /* As for the kernel's vhost, the whole address space, whose size has no representation. */
    if (range.iova == 0 && range.size == 0)
        range.size = UINT64_MAX;
    r = gw_iotlb_invalidate(&table, d->session.iotlb, range);
    if (r < 0)
        return r;
    op = replace_table(d, table, range, true);
    if (!op)
        return -ENOMEM;
    op->drains = "invalidating I/O addresses";
    /*
     * The front-end may no longer have had a mapping when it read a miss of this range, and then
     * does not answer. What is still missing is asked for again.
     */
    gw_iotlb_misses_answered(&d->misses, range);
    return gw_op_wait(op, gw_op_result);
}

int gw_ctl_iotlb_msg(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply)
{
    const struct gw_wire_iotlb *wire = (const void *)msg->payload;

    if (!gw_session_has_protocol(&d->session, GW_PROTOCOL_F_BACKEND_REQ))
        return gw_fail(-EPERM, "translated addresses need BACKEND_REQ");
    switch (wire->type) {
    case GW_IOTLB_UPDATE:
        return update(d, wire);
    case GW_IOTLB_INVALIDATE:
        return invalidate(d, wire);
    default:
        return gw_fail(-EINVAL, "type %u is neither an update nor an invalidation", wire->type);
    }
}

/* ---- rings ---- */

int gw_ctl_ask_for_ring(struct gw_daemon *d, const struct gw_ring_config *config)
{
    struct gw_session *s = &d->session;
    struct gw_iotlb_miss misses[RING_MISSES_MAX];
    int n;

    if (!gw_session_has_protocol(s, GW_PROTOCOL_F_BACKEND_REQ))
        return gw_fail(-EPERM, "translated addresses need BACKEND_REQ");
    n = gw_ring_find_misses(gw_session_has(s, GW_F_RING_PACKED), config, s->iotlb, misses,
                            RING_MISSES_MAX);
    for (int i = 0; i < n; i++)
        gw_iotlb_misses_add(&d->misses, misses[i], false);
    return n;
}

void gw_ctl_cancel_start(struct gw_vring *vring)
{
    if (!vring->lacks_translation)
        return;
    gw_close(&vring->kick.fd);
    vring->lacks_translation = false;
    vring->started = false;
}

/* ---- misses ---- */

static void miss_added(struct gw_iotlb_misses *m)
{
    struct gw_daemon *d = gw_container_of(m, struct gw_daemon, misses);

    (void)eventfd_write(d->control_fd, 1);
}

/* Apply a change that no message asked for. Consumes `table`. */
static void post_change(struct gw_daemon *d, struct gw_iotlb *table, struct gw_iova_range range)
{
    struct gw_op *op = replace_table(d, table, range, false);

    if (op)
        gw_op_detach(op);
}

/* Forbid a page whose miss was not answered, so that the chain that waits for it is answered. */
static void give_up(struct gw_daemon *d, struct gw_iotlb_miss miss)
{
    const struct gw_iova_range page = {.iova = miss.iova, .size = GW_IOTLB_PAGE};
    struct gw_iotlb *table;

    gw_log(&d->log, GW_LOG_WARNING,
           "the front-end has not mapped I/O address %#" PRIx64 " for %" PRIu64 " s", miss.iova,
           __atomic_load_n(&d->misses_patience_ns, __ATOMIC_RELAXED) / GW_NS_PER_S);
    if (gw_iotlb_forbid(&table, d->session.iotlb, page) == 0)
        post_change(d, table, page);
}

/* From now on, the front-end is asked again. */
static void allow_again(struct gw_daemon *d, struct gw_iotlb_miss miss)
{
    const struct gw_iova_range page = {.iova = miss.iova, .size = GW_IOTLB_PAGE};
    struct gw_iotlb *table;

    if (gw_iotlb_invalidate(&table, d->session.iotlb, page) == 0)
        post_change(d, table, page);
}

static void examine(void *arg)
{
    struct gw_daemon *d = arg;
    uint64_t patience_ns = __atomic_load_n(&d->misses_patience_ns, __ATOMIC_RELAXED);
    uint64_t now_ns = gw_clock_ns();
    struct gw_iotlb_miss miss;

    while (gw_iotlb_misses_forget(&d->misses, now_ns - FORBIDDEN_NS, &miss))
        allow_again(d, miss);
    while (gw_iotlb_misses_give_up(&d->misses, now_ns - patience_ns, now_ns, &miss))
        give_up(d, miss);
    start_rings(d);
    d->examines_misses = false;
    gw_ctl_watch_misses(d);
}

void gw_ctl_watch_misses(struct gw_daemon *d)
{
    if (d->examines_misses || __atomic_load_n(&d->misses.n, __ATOMIC_RELAXED) == 0)
        return;
    d->examines_misses = true;
    gw_timer_start(d->misses_timer, EXAMINE_NS, 0);
}

/* Has the table an entry that a queue missed before it had this table? */
static bool is_answered(const struct gw_daemon *d, const struct gw_iotlb_miss *miss)
{
    const struct gw_iotlb_entry *e = gw_iotlb_search(d->session.iotlb, miss->iova);

    return e && (e->access & miss->access) == miss->access;
}

bool gw_ctl_next_miss(struct gw_daemon *d, struct gw_iotlb_report *ret)
{
    while (d->session.iotlb && gw_iotlb_misses_first_new(&d->misses, ret)) {
        if (ret->is_failure || !is_answered(d, &ret->miss))
            return true;
        gw_iotlb_misses_answered(&d->misses, (struct gw_iova_range){ret->miss.iova, 1});
    }
    return false;
}

/* ---- sessions ---- */

void gw_ctl_init_translation(struct gw_daemon *d)
{
    gw_iotlb_misses_init(&d->misses, miss_added);
    d->misses_patience_ns = MISS_PATIENCE_NS;
}

int gw_ctl_allow_translation(struct gw_daemon *d)
{
    struct gw_session *s = &d->session;
    int r = 0;

    if (s->postcopy.state != GW_POSTCOPY_OFF)
        return gw_fail(-EOPNOTSUPP,
                       "translated addresses (ACCESS_PLATFORM) are impossible in postcopy");
    if (gw_session_has_protocol(s, GW_PROTOCOL_F_XEN_MMAP))
        return gw_fail(-EOPNOTSUPP, "translated addresses are impossible with XEN_MMAP");
    if (!d->misses_timer)
        r = gw_timer_new(&d->misses_timer, d->control, examine, d);
    if (r == 0 && !s->iotlb)
        r = gw_iotlb_new(&s->iotlb);
    return r;
}

void gw_ctl_end_translation(struct gw_daemon *d)
{
    for (unsigned i = 0; i < d->num_queues; i++)
        gw_ctl_cancel_start(&d->session.vrings[i]);
    if (d->misses_timer)
        gw_timer_stop(d->misses_timer);
    d->examines_misses = false;
    gw_iotlb_misses_clear(&d->misses);
}
