/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Migration of a disk that a Xen domain uses. The load of migrate_blk.c exists here as well, on the
 * same memory. Before each run the state of load and rings is sent to the agent in the domain, and
 * fetched back afterwards with the memory that the agent wrote. So a paused load is in the same
 * state as if it had run here.
 *
 * On another host the memory would belong to another domain with the same addresses, which the tool
 * cannot make. So the domain stays, and its memory is replaced with the copy. That hides writes of
 * the source after it stopped, so they are not checked.
 */
#include "migrate_xen.h"

#include "../../xen-agent/xen_guest.h"
#include "migrate_blk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct work {
    struct migration *m;
    void *blk;
    uint64_t requests, bytes; /* of the agent; last values read */
};

static int cannot(struct migration *m, int r)
{
    return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "%s",
                            m->xen ? xen_guest_error(m->xen) : strerror(-r));
}

/* ---- The guest ---- */

int migration_xen_memory(struct migration *m)
{
    struct gw_guest_region region;
    int r = xen_guest_new(&m->xen, m->o.xen_domid, (enum xen_form)m->o.xen_memory);

    if (r == 0 && m->o.xen_events)
        xen_guest_give_channels(m->xen);
    if (r == 0)
        r = xen_guest_fill(m->xen, m->mem, m->o.memory, 0);
    if (r < 0)
        return cannot(m, r);
    for (unsigned i = 0; gw_guest_mem_region(m->mem, i, &region) == 0; i++) {
        m->ret->memory_bytes += region.length;
        m->top = region.gpa + region.length;
    }
    return 0;
}

int migration_xen_alloc(struct migration *m, uint64_t len, uint64_t align, gw_gpa_t *ret)
{
    return xen_guest_alloc(m->xen, len, align, ret);
}

int migration_xen_driver(struct migration *m, const struct gw_driver_config *cfg,
                         struct gw_driver *own)
{
    int r = xen_guest_driver(m->xen, cfg, own);

    return r < 0 ? cannot(m, r) : 0;
}

void migration_xen_take_written(struct migration *m)
{
    int r = xen_guest_take_written(m->xen, m->track);

    /* strerror, because the load's thread may change the error text of the agent. */
    if (r < 0)
        migration_cannot(m, MIGRATION_SIDE_TOOL, r, "what the domain wrote: %s", strerror(-r));
}

void migration_xen_free(struct migration *m)
{
    xen_guest_free(m->xen);
    m->xen = NULL;
}

void migration_xen_put_back(struct migration *m)
{
    for (unsigned i = 0; i < m->n_pairs; i++)
        memcpy(m->pairs[i].from, m->pairs[i].to, m->pairs[i].length);
}

/* ---- The load ---- */

static int make_load(struct work *w)
{
    const struct migration_blk_shape *shape = migration_blk_shape(w->blk);
    const struct gw_guest_load_config *cfg = &shape->load;
    const struct xen_load load = {
        .disk_length = shape->disk.length,
        .disk_seed = shape->disk.seed,
        .seed = cfg->seed,
        .block_size = shape->disk.block_size,
        .depth = cfg->depth,
        .write_percent = cfg->write_percent,
        .flush_percent = cfg->flush_percent,
        .segments = cfg->segments,
        .hold_percent = cfg->hold_percent,
        .n_queues = cfg->n_drivers,
        .indirect = cfg->indirect,
        .scatter = cfg->scatter,
    };
    int r = xen_guest_load(w->m->xen, &load);

    return r < 0 ? cannot(w->m, r) : 0;
}

static int xen_new(struct migration_unit *u, void **ret)
{
    const struct xen_control *control = xen_guest_link(u->m->xen)->control;
    struct work *w = calloc(1, sizeof(*w));
    int r;

    if (!w)
        return -ENOMEM;
    *ret = w;
    w->m = u->m;
    w->requests = __atomic_load_n(&control->requests, __ATOMIC_RELAXED);
    w->bytes = __atomic_load_n(&control->bytes, __ATOMIC_RELAXED);
    r = migration_work_blk.new(u, &w->blk);
    return r < 0 ? r : make_load(w);
}

static void xen_free(void *arg)
{
    struct work *w = arg;

    if (w->blk)
        migration_work_blk.free(w->blk);
    free(w);
}

/* Fetch the state back after any result: it describes the requests in flight. */
static int come_back(struct work *w, int r)
{
    int e = xen_guest_pull(w->m->xen, migration_blk_load(w->blk));

    return r < 0 ? r : e;
}

static int xen_run(void *arg, unsigned stall_ms)
{
    struct work *w = arg;
    int r = xen_guest_push(w->m->xen, migration_blk_load(w->blk));

    return r < 0 ? r : come_back(w, xen_guest_run(w->m->xen, 0, 0, stall_ms));
}

static void xen_interrupt(void *arg)
{
    xen_link_interrupt(xen_guest_link(((struct work *)arg)->m->xen));
}

static int xen_drain(void *arg, unsigned stall_ms)
{
    struct work *w = arg;
    int r = xen_guest_push(w->m->xen, migration_blk_load(w->blk));

    return r < 0 ? r : come_back(w, xen_guest_drain(w->m->xen, stall_ms));
}

static const char *xen_error(void *arg)
{
    return xen_guest_error(((struct work *)arg)->m->xen);
}

static int xen_set_mem(void *arg, struct gw_guest_mem *mem)
{
    return migration_work_blk.set_mem(((struct work *)arg)->blk, mem);
}

static int xen_add(void *arg, gw_gpa_t gpa, uint64_t len)
{
    return migration_work_blk.add(((struct work *)arg)->blk, gpa, len);
}

static int xen_retire(void *arg, gw_gpa_t gpa)
{
    return migration_work_blk.retire(((struct work *)arg)->blk, gpa);
}

static int xen_remove(void *arg, gw_gpa_t gpa)
{
    return migration_work_blk.remove(((struct work *)arg)->blk, gpa);
}

static int xen_check_held(void *arg)
{
    return migration_work_blk.check_held(((struct work *)arg)->blk);
}

/* Advance a counter of the agent, which is untrusted. */
static uint64_t advance(uint64_t *seen, const uint64_t *counter)
{
    uint64_t now = __atomic_load_n(counter, __ATOMIC_RELAXED), more = now > *seen ? now - *seen : 0;

    *seen = now;
    return more;
}

static void xen_sample(void *arg, struct gw_guest_load_sample *ret)
{
    struct work *w = arg;
    struct xen_control *control = xen_guest_link(w->m->xen)->control;

    *ret = (struct gw_guest_load_sample){
        .requests = advance(&w->requests, &control->requests),
        .bytes = advance(&w->bytes, &control->bytes),
        .stall = __atomic_exchange_n(&control->stall, 0, __ATOMIC_RELAXED),
        .latency = __atomic_exchange_n(&control->latency, 0, __ATOMIC_RELAXED),
    };
}

static bool xen_find(void *arg, gw_gpa_t gpa, struct gw_guest_load_place *ret)
{
    return migration_work_blk.find(((struct work *)arg)->blk, gpa, ret);
}

static void xen_stats(void *arg, struct migration_result *ret)
{
    struct work *w = arg;
    struct xen_stats s;

    if (xen_guest_stats(w->m->xen, false, &s) < 0)
        return;
    ret->requests += s.requests;
    ret->reads += s.reads;
    ret->writes += s.writes;
    ret->flushes += s.flushes;
    ret->bytes += s.bytes;
    ret->verified += s.verified;
    ret->held += s.held;
    migration_slowest(ret, s.p50, s.p99, s.max);
}

const struct migration_work migration_work_xen = {
    .new = xen_new,
    .free = xen_free,
    .run = xen_run,
    .interrupt = xen_interrupt,
    .drain = xen_drain,
    .error = xen_error,
    .set_mem = xen_set_mem,
    .add = xen_add,
    .retire = xen_retire,
    .remove = xen_remove,
    .check_held = xen_check_held,
    .sample = xen_sample,
    .find = xen_find,
    .stats = xen_stats,
};
