/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A queue that belongs to its caller: a struct gw_queue without a worker. It has the ring, the
 * requests and the checks of any queue; instead of a worker's turns, the caller publishes, and asks
 * whether to notify. Rings are located by user addresses: here these are the guest addresses.
 */
#include "base/barrier.h"
#include "base/checked.h"
#include "base/log_i.h"
#include "base/proto.h"
#include "base/struct_sizes.h"
#include "core/memory/mem.h"
#include "core/queue/queue_i.h"

#include <errno.h>
#include <godwit/daemon.h>
#include <godwit/vring.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUEUE_SIZE_DEFAULT = 1024,
    REQUEST_SIZE_MAX = 1 << 20,
    RUN_MAX = 64, /* calls of `ready` in one gw_vring_run */
};

struct gw_vring {
    struct gw_queue queue;
    struct gw_map *map; /* never NULL */
    struct gw_log log;
    struct gw_dirty_log dirty_log; /* the caller's bitmap */
    struct gw_vring_config cfg;
    uint64_t features; /* of the last start */
};

/* ---- making and freeing ---- */

static int check_config(const struct gw_vring_config *cfg)
{
    if (cfg->queue_size_max > GW_QUEUE_SIZE_MAX)
        return gw_fail(-EINVAL, "queue size %u is more than %d", cfg->queue_size_max,
                       GW_QUEUE_SIZE_MAX);
    if (cfg->request_size > REQUEST_SIZE_MAX)
        return gw_fail(-EINVAL, "%zu private bytes in each request are more than %d",
                       cfg->request_size, REQUEST_SIZE_MAX);
    return 0;
}

static void init_queue(struct gw_vring *v)
{
    const struct gw_vring_config *cfg = &v->cfg;
    struct gw_queue *q = &v->queue;

    q->log = &v->log;
    q->limits.ring_size = cfg->queue_size_max ? cfg->queue_size_max : QUEUE_SIZE_DEFAULT;
    q->limits.request_bytes = cfg->request_bytes_max ? cfg->request_bytes_max : GW_REQUEST_BYTES;
    q->limits.bytes_in_flight = GW_IN_FLIGHT_BYTES;
    q->pool.request_size = cfg->request_size;
    q->enabled = true;
    gw_queue_init(q);
}

int gw_vring_new(struct gw_vring **ret, const struct gw_vring_config *given)
{
    struct gw_vring_config cfg;
    struct gw_vring *v;
    int r = gw_copy_struct(&cfg, sizeof(cfg), given, GW_FIRST_VRING_CONFIG);

    if (r < 0)
        return gw_fail(r, "the size of gw_vring_config is wrong, or a later version is needed");
    r = check_config(&cfg);
    if (r < 0)
        return r;
    v = calloc(1, sizeof(*v));
    if (!v)
        return gw_fail(-ENOMEM, "no memory for a vring");
    r = gw_map_new(&v->map, NULL, 0);
    if (r < 0) {
        free(v);
        return r;
    }
    v->cfg = cfg;
    gw_log_init(&v->log, cfg.log, cfg.log_arg, cfg.log_level, "godwit");
    init_queue(v);
    *ret = v;
    return 0;
}

void gw_vring_free(struct gw_vring *v)
{
    if (!v)
        return;
    gw_queue_done(&v->queue);
    gw_map_free(v->map);
    gw_log_done(&v->log);
    free(v);
}

struct gw_queue *gw_vring_queue(struct gw_vring *v)
{
    return &v->queue;
}

/* ---- memory ---- */

static int make_map(struct gw_map **ret, const struct gw_vring_region *regions, unsigned n)
{
    struct gw_region **made = calloc(n + 1, sizeof(struct gw_region *));
    unsigned n_made = 0;
    int r = made ? 0 : gw_fail(-ENOMEM, "no memory for %u memory regions", n);

    for (; r == 0 && n_made < n; n_made += r == 0) {
        const struct gw_region_desc desc = {
            .gpa = regions[n_made].gpa,
            .size = regions[n_made].size,
            .uva = regions[n_made].gpa,
        };

        r = gw_region_new_at(&made[n_made], &desc, regions[n_made].at);
    }
    if (r == 0)
        r = gw_map_new(ret, made, n);
    while (n_made > 0)
        gw_region_put(made[--n_made]); /* the map has references of its own */
    free(made);
    return r;
}

static int check_idle(const struct gw_vring *v)
{
    unsigned n_requests = v->queue.in_flight.n, n_holds = gw_queue_n_holds(&v->queue);

    if (n_requests + n_holds == 0)
        return 0;
    return gw_fail(-EBUSY, "%u requests are in flight or not published, %u holds on memory",
                   n_requests, n_holds);
}

int gw_vring_set_memory(struct gw_vring *v, const struct gw_vring_region *regions,
                        unsigned n_regions)
{
    struct gw_queue *q = &v->queue;
    struct gw_map *map;
    int r = check_idle(v);

    if (r == 0)
        r = make_map(&map, regions, n_regions);
    if (r < 0)
        return r;
    if (q->state == GW_QUEUE_STARTED) {
        r = gw_ring_check_memory(q->ring.ops->is_packed, &q->ring.config, map);
        if (r < 0) {
            gw_map_free(map);
            return r;
        }
        (void)q->ring.ops->attach(&q->ring, map);
        q->map = map;
        q->map_last = 0;
    }
    gw_map_free(v->map);
    v->map = map;
    return 0;
}

/* ---- start and stop ---- */

/* The state of a driver that has nothing in flight for the device. */
static int check_position(const struct gw_vring *v, const struct gw_vring_state *state)
{
    const struct gw_ring *ring = &v->queue.ring;

    if (ring->ops->is_packed && state->next_avail != state->next_used)
        return gw_fail(-EINVAL, "available index %#x and used index %#x of a packed ring differ",
                       state->next_avail, state->next_used);
    if (!ring->ops->is_packed && state->next_used != ring->split.published)
        return gw_fail(-EINVAL, "used index %u is not that of the ring, %u", state->next_used,
                       ring->split.published);
    return ring->ops->n_available(ring) < 0
               ? gw_fail(-EINVAL, "available index %#x does not fit the ring", state->next_avail)
               : 0;
}

static void detach(struct gw_vring *v)
{
    gw_queue_detach_ring(&v->queue);
    v->queue.state = GW_QUEUE_STOPPED;
    v->queue.map = NULL;
}

static void apply_dirty_log(struct gw_vring *v)
{
    struct gw_queue *q = &v->queue;

    q->dirty_log.all = v->dirty_log.bitmap != NULL;
    q->dirty_log.log = q->dirty_log.all ? &v->dirty_log : NULL;
    q->ring.dirty_log = q->dirty_log.log;
    q->ring.log_addr = q->ring.config.used;
}

int gw_vring_start(struct gw_vring *v, const struct gw_vring_state *given)
{
    struct gw_queue *q = &v->queue;
    struct gw_queue_start start = {.map = v->map};
    struct gw_vring_state state;
    int r = gw_copy_struct(&state, sizeof(state), given, GW_FIRST_VRING_STATE);

    if (r < 0)
        return gw_fail(r, "the size of gw_vring_state is wrong, or a later version is needed");
    if (q->state != GW_QUEUE_STOPPED)
        return gw_fail(-EBUSY, "the vring runs already");
    start.features = state.features;
    start.ring = (struct gw_ring_config){
        .size = state.queue_size,
        .base = state.next_avail,
        .desc = state.desc,
        .avail = state.driver,
        .used = state.device,
    };
    r = gw_queue_start_ring(q, &start);
    if (r == 0)
        r = check_position(v, &state);
    if (r < 0) {
        detach(v);
        return r;
    }
    v->features = state.features;
    apply_dirty_log(v);
    q->broken = false;
    q->map = v->map;
    q->map_last = 0;
    q->state = GW_QUEUE_STARTED;
    q->call.signalled = false;
    return 0;
}

int gw_vring_save(struct gw_vring *v, struct gw_vring_state *ret)
{
    const struct gw_queue *q = &v->queue;
    struct gw_vring_state state;
    int r = check_idle(v);

    if (r < 0)
        return r;
    if (q->state != GW_QUEUE_STARTED)
        return gw_fail(-EINVAL, "the vring does not run");
    if (ret->size < GW_FIRST_VRING_STATE)
        return gw_fail(-EINVAL, "the size of gw_vring_state is not set");
    state = (struct gw_vring_state){
        .size = ret->size < sizeof(state) ? ret->size : sizeof(state),
        .features = v->features,
        .queue_size = q->ring.size,
        .next_avail = (uint16_t)q->ring.ops->base(&q->ring),
        .next_used = q->ring.ops->used(&q->ring),
        .desc = q->ring.config.desc,
        .driver = q->ring.config.avail,
        .device = q->ring.config.used,
    };
    memcpy(ret, &state, state.size);
    return 0;
}

int gw_vring_stop(struct gw_vring *v)
{
    int r = check_idle(v);

    if (r == 0 && v->queue.state == GW_QUEUE_STARTED)
        detach(v);
    return r;
}

/* ---- running ---- */

static bool is_running(const struct gw_vring *v)
{
    return v->queue.state == GW_QUEUE_STARTED && !v->queue.broken;
}

int gw_vring_n_available(struct gw_vring *v)
{
    struct gw_queue *q = &v->queue;
    int n = 0;

    if (q->state == GW_QUEUE_STARTED && q->broken)
        return gw_fail(-EPROTO, "the driver broke the ring");
    if (q->state == GW_QUEUE_STARTED)
        n = q->ring.ops->n_available(&q->ring);
    if (n < 0)
        gw_queue_break(q, gw_last_error());
    return n;
}

bool gw_vring_publish(struct gw_vring *v)
{
    bool is_due;

    gw_queue_flush(&v->queue);
    is_due = v->queue.call.signalled;
    v->queue.call.signalled = false;
    return is_due;
}

bool gw_vring_enable_kicks(struct gw_vring *v)
{
    struct gw_queue *q = &v->queue;

    if (!is_running(v))
        return false;
    q->ring.ops->enable_kicks(&q->ring);
    return gw_vring_n_available(v) > 0;
}

void gw_vring_disable_kicks(struct gw_vring *v)
{
    if (is_running(v))
        v->queue.ring.ops->disable_kicks(&v->queue.ring);
}

static void publish_and_notify(struct gw_vring *v)
{
    if (gw_vring_publish(v) && v->cfg.notify)
        v->cfg.notify(v->cfg.arg);
}

/* Bounded, because another processor of the guest may add requests as fast as they are done. */
int gw_vring_run(struct gw_vring *v)
{
    struct gw_queue *q = &v->queue;
    unsigned n_calls = 0;

    if (!v->cfg.ready)
        return gw_fail(-EINVAL, "gw_vring_run needs the callback `ready`");
    gw_vring_disable_kicks(v);
    do {
        while (gw_vring_n_available(v) > 0) {
            if (n_calls++ == RUN_MAX)
                return 1;
            q->poll.made_progress = false;
            v->cfg.ready(v->cfg.arg, q);
            publish_and_notify(v);
            if (!q->poll.made_progress)
                return 0; /* the device has no room, and calls again */
        }
    } while (gw_vring_enable_kicks(v));
    publish_and_notify(v);
    return q->state == GW_QUEUE_STARTED && q->broken ? -EPROTO : 0;
}

int gw_vring_set_dirty_log(struct gw_vring *v, void *bitmap, size_t size)
{
    int r = check_idle(v);

    if (r < 0)
        return r;
    v->dirty_log.bitmap = bitmap;
    v->dirty_log.size = bitmap ? size : 0;
    apply_dirty_log(v);
    v->queue.logging.n_lost = gw_dirty_log_n_lost(&v->dirty_log);
    return 0;
}
