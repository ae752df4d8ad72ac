/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The life cycle of a queue: start, enable, run, stop. Owns the ring's state machine and its fds.
 *
 * A ring is started (SET_VRING_KICK) and enabled (SET_VRING_ENABLE) independently; requests are
 * popped while it is both. The queue checks the available ring whenever that becomes true, so it
 * does not depend on a kick that came earlier, or to an fd that was not watched yet.
 */
#include "queue_i.h"

#include "base/barrier.h"
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/proto.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* How long a polled ring (NOFD) may be idle before its worker pauses between polls. */
#define POLLED_PATIENCE_NS UINT64_C(200000)
/* The adaptive poll time stays above this fraction of the worker's. */
enum {
    POLL_SHORTEST = 16
};

/* ---- locks of the sync policies ---- */

void gw_queue_lock_shared(struct gw_queue *q)
{
    if (q->sync == GW_SYNC_MUTEX)
        pthread_mutex_lock(&q->locks.mutex);
    else if (q->sync == GW_SYNC_RWLOCK)
        pthread_rwlock_wrlock(&q->locks.rwlock);
}

void gw_queue_unlock_shared(struct gw_queue *q)
{
    if (q->sync == GW_SYNC_MUTEX)
        pthread_mutex_unlock(&q->locks.mutex);
    else if (q->sync == GW_SYNC_RWLOCK)
        pthread_rwlock_unlock(&q->locks.rwlock);
}

static void lock_for_read(struct gw_queue *q)
{
    if (q->sync == GW_SYNC_RWLOCK)
        pthread_rwlock_rdlock(&q->locks.rwlock);
    else
        gw_queue_lock(q);
}

/* ---- waking ---- */

static void wake_task(struct gw_post *task)
{
    struct gw_queue *q = gw_container_of(task, struct gw_queue, poll.wake);

    __atomic_store_n(&q->poll.wake_posted, false, __ATOMIC_RELEASE);
    if (!gw_worker_is_current(gw_queue_worker(q))) {
        gw_queue_wake(q); /* it has moved since then */
        return;
    }
    gw_queue_lock(q);
    gw_queue_activate(q);
    gw_queue_unlock(q);
}

void gw_queue_activate(struct gw_queue *q)
{
    q->poll.starved = false;
    if (!gw_queue_is_on_worker(q))
        gw_queue_wake(q); /* only posts */
    else if (gw_list_is_empty(&q->poll.link)) {
        gw_list_append(&q->worker->active, &q->poll.link);
        gw_worker_touch(q->worker);
    }
}

void gw_queue_wake(struct gw_queue *q)
{
    struct gw_worker *w = gw_queue_worker(q);

    if (!w)
        return; /* a vring: its caller runs it */
    if (gw_worker_is_current(w)) {
        wake_task(&q->poll.wake);
        return;
    }
    if (__atomic_exchange_n(&q->poll.wake_posted, true, __ATOMIC_ACQ_REL))
        return;
    /* A worker of postcopy ends when the queue has left it. */
    while (gw_worker_post(w, &q->poll.wake) < 0 && w != gw_queue_worker(q))
        w = gw_queue_worker(q);
}

static void kicked(struct gw_source *source, uint32_t events)
{
    struct gw_queue *q = gw_container_of(source, struct gw_queue, kick.source);
    struct gw_queue_poll *p = &q->poll;

    gw_notifier_take(&q->kick);
    gw_queue_lock(q);
    gw_count(&q->stats.kicks, 1);
    gw_queue_activate(q);
    gw_queue_unlock(q);
    /* A poll of the full length would have found this request. */
    if (p->us && gw_clock_ns() - p->asleep_since_ns < q->worker->poll_us * UINT64_C(1000))
        p->us = q->worker->poll_us;
}

/* ---- a turn ---- */

static void deactivate(struct gw_queue *q)
{
    gw_list_remove(&q->poll.link);
    q->poll.idle_since_ns = 0;
}

/* [lock] The ring is empty: poll it again, or enable kicks and sleep. */
static enum gw_queue_turn poll_or_sleep(struct gw_queue *q)
{
    struct gw_queue_poll *p = &q->poll;
    uint64_t now = 0;

    if (p->always || p->us) {
        now = gw_clock_ns();
        if (p->idle_since_ns == 0)
            p->idle_since_ns = now;
    }
    if (p->always)
        return now - p->idle_since_ns < POLLED_PATIENCE_NS ? GW_QUEUE_POLLING : GW_QUEUE_RESTING;
    if (p->us && now - p->idle_since_ns < p->us * UINT64_C(1000))
        return GW_QUEUE_POLLING;

    if (!p->kicks_enabled) {
        p->kicks_enabled = true;
        q->ring.ops->enable_kicks(&q->ring);
        if (gw_queue_n_available(q) != 0)
            return GW_QUEUE_POLLING;
    }
    if (p->us > q->worker->poll_us / POLL_SHORTEST)
        p->us = (p->us + 1) / 2;
    p->asleep_since_ns = now;
    deactivate(q);
    return GW_QUEUE_ASLEEP;
}

static void finish_stop(struct gw_queue *q);

/* Calls queue_stop, but not before the device has received all requests to resubmit. */
static void call_queue_stop(struct gw_queue *q)
{
    bool due;

    gw_queue_lock(q);
    due = q->stop.callback_due && !gw_queue_must_resubmit(q);
    q->stop.callback_due = q->stop.callback_due && !due;
    gw_queue_unlock(q);
    if (due && q->ops->queue_stop)
        q->ops->queue_stop(q->dev, q);
}

/* [lock] Is there work for the device? If not, `ret` is the result of the turn. */
static bool has_work(struct gw_queue *q, enum gw_queue_turn *ret)
{
    int n_available;

    *ret = GW_QUEUE_ASLEEP;
    if (q->translation)
        gw_translation_settle(q);
    if (q->state == GW_QUEUE_STOPPING && gw_queue_is_drained(q) && !gw_queue_must_resubmit(q))
        finish_stop(q);
    if (!gw_queue_is_running(q)) {
        deactivate(q);
        return false;
    }
    n_available = gw_queue_n_available(q);
    if (n_available < 0) {
        gw_queue_break(q, gw_last_error());
        deactivate(q);
        return false;
    }
    if (n_available == 0) {
        *ret = poll_or_sleep(q);
        return false;
    }
    if (q->poll.kicks_enabled) {
        q->poll.kicks_enabled = false;
        q->ring.ops->disable_kicks(&q->ring);
    }
    if (q->poll.idle_since_ns && q->poll.us)
        q->poll.us = gw_min_u(q->poll.us * 2, q->worker->poll_us);
    q->poll.idle_since_ns = 0;
    q->poll.made_progress = false;
    q->limits.bytes_left = q->limits.turn_bytes;
    q->limits.requests_left = q->limits.turn_requests;
    *ret = GW_QUEUE_WORKED;
    return true;
}

/* [lock] Outside of a turn, the device may pop without these limits. */
static void end_turn(struct gw_queue *q)
{
    q->limits.bytes_left = INT64_MAX;
    q->limits.requests_left = UINT64_MAX;
}

enum gw_queue_turn gw_queue_run(struct gw_queue *q)
{
    enum gw_queue_turn turn;
    bool work;
    int r;

    call_queue_stop(q);
    gw_queue_lock(q);
    work = has_work(q, &turn);
    gw_queue_unlock(q);
    if (!work)
        return turn;

    q->batch.publish_step = 0; /* may publish a part of what the device completes now */
    r = q->ops->queue_ready(q->dev, q);
    q->batch.publish_step = UINT_MAX; /* later completions come one by one */

    gw_queue_lock(q);
    end_turn(q);
    gw_queue_publish(q);
    if (r < 0)
        gw_queue_break(q, strerror(-r));
    else if (!q->poll.made_progress && gw_queue_n_available(q) > 0) {
        /* The device has no room for more: a completion or gw_queue_wake activates the queue. */
        q->poll.starved = true;
        deactivate(q);
    }
    assert(gw_queue_is_consistent(q));
    gw_queue_unlock(q);
    return turn;
}

void gw_queue_break(struct gw_queue *q, const char *why)
{
    if (q->broken)
        return;
    q->broken = true;
    gw_count(&q->stats.errors, 1);
    gw_log(q->log, GW_LOG_ERROR, "queue %u is broken until it is stopped: %s", q->index, why);
    (void)gw_notifier_signal(&q->err, NULL);
}

/* ---- start ---- */

static bool has(const struct gw_queue_start *start, enum gw_virtio_feature bit)
{
    return (start->features & GW_BIT(bit)) != 0;
}

int gw_queue_start_ring(struct gw_queue *q, const struct gw_queue_start *start)
{
    int r = gw_ring_check_size(has(start, GW_F_RING_PACKED), start->ring.size, q->limits.ring_size);

    if (r < 0)
        return r;
    q->ring = (struct gw_ring){
        .ops = has(start, GW_F_RING_PACKED) ? &gw_ring_packed_ops : &gw_ring_split_ops,
        .config = start->ring,
        .event_idx = has(start, GW_F_RING_EVENT_IDX),
        .indirect = has(start, GW_F_RING_INDIRECT_DESC),
        .notify_on_empty = has(start, GW_F_NOTIFY_ON_EMPTY),
        .iotlb = start->iotlb,
    };
    q->batch.in_order = has(start, GW_F_IN_ORDER);
    r = start->iotlb ? gw_translation_begin(q, start->iotlb, start->misses) : 0;
    if (r == 0)
        r = q->ring.ops->attach(&q->ring, start->map);
    if (r == 0)
        r = q->ring.ops->start(&q->ring);
    if (r == 0)
        r = gw_request_pool_new(q);
    if (r == 0)
        r = gw_queue_resume(q, start);
    return r;
}

int gw_queue_watch_kick(struct gw_queue *q)
{
    return gw_notifier_watch(&q->kick, q->worker->loop, kicked);
}

/* Without a kick fd or channel, the queue is polled, or kicked by messages. */
static int open_kick(struct gw_queue *q, struct gw_queue_start *start)
{
    int r = gw_notifier_open(&q->kick, &start->kick, &q->call);

    q->poll.always = r == 0 && gw_notifier_is_none(&q->kick) && !start->kick.in_band;
    return r < 0 ? r : gw_queue_watch_kick(q);
}

void gw_queue_apply_ring_log(struct gw_queue *q)
{
    q->ring.dirty_log = q->logging.used ? q->dirty_log.log : NULL;
    q->ring.log_addr = q->translation ? q->ring.used_gpa : q->logging.used_addr;
    if (q->ring.dirty_log && q->resume.ring_unmarked) {
        gw_full_fence();
        q->ring.ops->mark_all(&q->ring);
        q->resume.ring_unmarked = false;
    }
}

static void finish_stop_when_drained(struct gw_queue *q);

void gw_queue_detach_ring(struct gw_queue *q)
{
    gw_queue_end_inflight(q);
    gw_translation_end(q);
    if (q->ring.ops)
        q->ring.ops->done(&q->ring);
    gw_ring_detach(&q->ring);
}

/* [lock] The queue is not started, so no other thread uses it. */
static int start_locked(struct gw_queue *q, struct gw_queue_start *start)
{
    int r = gw_queue_start_ring(q, start);

    if (r == 0)
        r = open_kick(q, start);
    if (r < 0) {
        gw_queue_detach_ring(q);
        return r;
    }
    gw_queue_apply_ring_log(q);
    if (start->in_band & GW_INBAND_CALL)
        gw_notifier_use_inband(&q->call, &q->inband, GW_INBAND_CALL);
    if (start->in_band & GW_INBAND_ERR)
        gw_notifier_use_inband(&q->err, &q->inband, GW_INBAND_ERR);
    q->map = start->map;
    q->map_last = 0;
    __atomic_store_n(&q->abandoned, false, __ATOMIC_RELEASE);
    q->poll.starved = false;
    q->poll.us = q->worker->poll_us;
    q->poll.kicks_enabled = false;
    q->state = GW_QUEUE_STARTED;
    assert(gw_queue_is_consistent(q));
    gw_queue_mark_unlogged(q);
    /* Nothing may be written before there is a log; until then, extra kicks are harmless. */
    if (!gw_queue_lacks_log(q))
        q->ring.ops->disable_kicks(&q->ring);
    /* The previous back-end may have died between its last publish and the notification. */
    gw_queue_call(q);
    return 0;
}

/* Returns: 0; -EINPROGRESS; -ECANCELED. */
static int start_device(struct gw_queue *q, struct gw_queue_start *start)
{
    int r = q->ops->queue_start ? q->ops->queue_start(q->dev, q) : 0;

    if (r == -EINPROGRESS && start->latch) {
        gw_queue_delay_start(q, start);
        return r;
    }
    return r == 0 ? 0 : gw_fail(-ECANCELED, "the device refuses to start it");
}

/* The start has ended, with gw_last_error unless `r` is 0. */
static void end_start(struct gw_queue *q, struct gw_queue_start *start, bool runs, int r)
{
    if (r < 0)
        snprintf(start->why, sizeof(start->why), "%s", gw_last_error());
    gw_queue_lock(q);
    q->start_failed = r < 0 && !runs && start->is_posted;
    if (r == 0)
        gw_queue_activate(q);
    else if (runs)
        gw_queue_break(q, start->why); /* it has requests in flight, but no kick */
    else if (q->state == GW_QUEUE_STARTED) {
        q->stop.how = GW_STOP_LOST;
        finish_stop_when_drained(q); /* another thread may have popped already */
    }
    if (q->start_failed)
        gw_queue_break(q, start->why);
    gw_queue_unlock(q);
}

int gw_queue_start(struct gw_queue *q, struct gw_queue_start *start)
{
    bool runs = q->state == GW_QUEUE_STARTED;
    int r;

    if (q->state == GW_QUEUE_STOPPING && gw_queue_is_idle(q)) {
        r = gw_fail(-EBUSY, "the device has not completed its last stop");
    } else if (q->state == GW_QUEUE_STOPPING && q->in_flight.n == 0) {
        r = gw_fail(-EBUSY, "the device still holds guest memory of its last run");
    } else if (q->state == GW_QUEUE_STOPPING) {
        r = gw_fail(-EBUSY, "%u requests of its last run have not finished", q->in_flight.n);
    } else if (runs) {
        /* The ring runs already: only its kick changes. */
        gw_notifier_close(&q->kick, q->worker->loop);
        r = open_kick(q, start);
    } else {
        gw_queue_lock(q);
        q->broken = false;
        q->stop.error = 0; /* even if the start fails: a posted start is stopped all the same */
        r = start_locked(q, start);
        gw_queue_unlock(q);
        if (r == 0)
            r = start_device(q, start);
    }
    gw_close(&start->kick.fd); /* unless it is in use now */
    if (r != -EINPROGRESS)
        end_start(q, start, runs, r);
    return r;
}

void gw_queue_end_start(struct gw_queue *q, struct gw_queue_start *start, int r)
{
    struct gw_latch *latch = start->latch;
    bool is_posted = start->is_posted;

    if (r < 0)
        r = gw_fail(-ECANCELED, "the device refuses to start it");
    end_start(q, start, false, r);
    gw_latch_count(latch, is_posted ? 0 : r);
}

void gw_queue_set_enabled(struct gw_queue *q, bool enabled)
{
    gw_queue_lock(q);
    q->enabled = enabled;
    if (enabled)
        gw_queue_activate(q);
    gw_queue_unlock(q);
}

/*
 * Earlier completions are notified on the old notifier. A front-end that replaces it reads the old
 * one once, perhaps before we signal it. So if the old one was ever signalled, the new one is, too.
 * A spurious notification is harmless, a missing one hangs the guest.
 */
int gw_queue_set_call(struct gw_queue *q, struct gw_notifier_name *name)
{
    struct gw_loop *loop = q->worker->loop;
    struct gw_notifier next;
    int r;

    gw_queue_lock(q);
    r = gw_notifier_open(&next, name, &q->kick);
    if (r == 0) {
        gw_queue_publish(q);
        gw_notifier_replace(&q->call, &next, loop);
        gw_notifier_prepare(&q->call, loop);
        if (q->call.signalled)
            gw_queue_call(q);
    }
    gw_queue_unlock(q);
    return r;
}

void gw_queue_set_log(struct gw_queue *q, const struct gw_dirty_log_state *log)
{
    gw_queue_lock(q);
    gw_queue_publish(q); /* marks what is completed so far in the old log */
    q->dirty_log = *log;
    q->logging.n_lost = 0;
    q->logging.unlogged = q->logging.unlogged && log->all;
    gw_queue_apply_ring_log(q);
    gw_queue_mark_unlogged(q);
    gw_queue_activate(q); /* it may have waited for a log */
    gw_queue_unlock(q);
}

void gw_queue_set_ring_log(struct gw_queue *q, bool log_used, gw_gpa_t addr)
{
    gw_queue_lock(q);
    gw_queue_publish(q);
    q->logging.used = log_used;
    q->logging.used_addr = addr;
    gw_queue_apply_ring_log(q);
    gw_queue_unlock(q);
}

int gw_queue_set_err(struct gw_queue *q, struct gw_notifier_name *name)
{
    struct gw_notifier next;
    int r;

    gw_queue_lock(q);
    r = gw_notifier_open(&next, name, &q->err);
    if (r == 0) {
        gw_notifier_replace(&q->err, &next, q->worker->loop);
        if (q->broken)
            (void)gw_notifier_signal(&q->err, NULL);
    }
    gw_queue_unlock(q);
    return r;
}

/* ---- stop ---- */

/* [lock] Nothing is in flight: publish the last used elements and detach from the front-end. */
static void finish_stop(struct gw_queue *q)
{
    gw_queue_publish(q);
    gw_notifier_close(&q->kick, q->worker->loop);
    if (!q->abandoned) /* otherwise a later session has set it, for its own start */
        gw_notifier_close(&q->call, q->worker->loop);
    deactivate(q);
    q->poll.starved = false;
    q->state = GW_QUEUE_STOPPED;
    q->map = NULL;
    q->stop.callback_due = false;
    /* The front-end receives the base in the reply to a successful stop, and may change it. */
    if (q->stop.how != GW_STOP_LOST && q->stop.error == 0 &&
        q->resume.first_suspended == UINT64_MAX && !gw_queue_has_resubmits(q) &&
        (q->ring.attached || gw_queue_lacks_translation(q)))
        gw_inflight_finish(&q->inflight);
    gw_queue_detach_ring(q);
    if (q->stop.latch)
        gw_latch_count(q->stop.latch, 0);
    q->stop.latch = NULL;
}

/* [lock] If requests are in flight, the last to end completes the stop, see gw_request_retire. */
static void finish_stop_when_drained(struct gw_queue *q)
{
    q->state = GW_QUEUE_STOPPING;
    gw_queue_publish(q);
    if (gw_queue_must_resubmit(q))
        gw_queue_activate(q);
    else if (gw_queue_is_drained(q))
        finish_stop(q);
}

void gw_queue_stop(struct gw_queue *q, struct gw_latch *latch, enum gw_queue_stop how)
{
    gw_queue_lock(q);
    if (q->state == GW_QUEUE_STOPPED) {
        gw_queue_unlock(q);
        gw_latch_count(latch, 0);
        return;
    }
    gw_queue_publish(q); /* then only requests that the device still holds are in flight */
    assert(gw_queue_is_consistent(q));
    /* Also if the device took too long to drain, and may now suspend requests. */
    q->stop.callback_due =
        q->stop.callback_due || q->state == GW_QUEUE_STARTED ||
        (q->stop.how == GW_STOP_DRAIN && how != GW_STOP_DRAIN && !gw_queue_is_idle(q));
    q->state = GW_QUEUE_STOPPING;
    q->stop.how = how;
    if (q->stop.latch)
        gw_latch_count(q->stop.latch, -ECANCELED); /* of the stop that timed out */
    q->stop.latch = latch;
    gw_queue_unlock(q);

    call_queue_stop(q);

    gw_queue_lock(q);
    if (q->state == GW_QUEUE_STOPPING)
        finish_stop_when_drained(q);
    gw_queue_unlock(q);
}

void gw_queue_fail_stop(struct gw_queue *q, int error)
{
    gw_queue_lock(q);
    if (q->state == GW_QUEUE_STOPPING && q->stop.error == 0)
        q->stop.error = error < 0 ? error : -EIO;
    gw_queue_unlock(q);
}

int gw_queue_stop_result(const struct gw_queue *q)
{
    if (q->stop.error == 0)
        return 0;
    return gw_fail(q->stop.error, "queue %u: the device cannot keep what it confirmed: %s",
                   q->index, strerror(-q->stop.error));
}

void gw_queue_reset(struct gw_queue *q)
{
    gw_queue_lock(q);
    if (q->state != GW_QUEUE_STOPPED) {
        /* The ring belongs to the next session: late completions are discarded. */
        gw_queue_publish(q);
        __atomic_store_n(&q->abandoned, true, __ATOMIC_RELEASE);
        gw_queue_end_inflight(q);
        gw_ring_detach(&q->ring);
        gw_translation_abandon(q);
    }
    gw_notifier_close(&q->call, q->worker->loop);
    gw_notifier_close(&q->err, q->worker->loop);
    q->enabled = false;
    q->dirty_log = (struct gw_dirty_log_state){.event_fd = -1};
    q->logging.used = false;
    q->logging.unlogged = false;
    gw_queue_apply_ring_log(q);
    gw_queue_unlock(q);
}

/* ---- creation and queries ---- */

void gw_queue_init(struct gw_queue *q)
{
    gw_list_init(&q->in_flight.requests);
    gw_list_init(&q->poll.link);
    gw_list_init(&q->batch.link);
    q->poll.wake.run = wake_task;
    gw_notifier_init(&q->kick);
    gw_notifier_init(&q->call);
    gw_notifier_init(&q->err);
    q->dirty_log.event_fd = -1;
    q->batch.publish_step = UINT_MAX;
    q->limits.turn_bytes = GW_TURN_BYTES;
    q->limits.turn_requests = GW_TURN_REQUESTS;
    end_turn(q);
    pthread_mutex_init(&q->locks.mutex, NULL);
    pthread_rwlock_init(&q->locks.rwlock, NULL);
}

void gw_queue_done(struct gw_queue *q)
{
    gw_queue_detach_ring(q);
    gw_request_pool_free(q);
    gw_notifier_close(&q->call, NULL);
    gw_notifier_close(&q->err, NULL);
    pthread_rwlock_destroy(&q->locks.rwlock);
    pthread_mutex_destroy(&q->locks.mutex);
}

unsigned gw_queue_index(const struct gw_queue *q)
{
    return q->index;
}

struct gw_worker *gw_queue_worker(const struct gw_queue *q)
{
    return __atomic_load_n(&q->worker, __ATOMIC_ACQUIRE);
}

void *gw_queue_device(const struct gw_queue *q)
{
    return q->dev;
}

unsigned gw_queue_size(struct gw_queue *q)
{
    unsigned size;

    lock_for_read(q);
    size = q->state == GW_QUEUE_STOPPED ? 0 : q->ring.size;
    gw_queue_unlock(q);
    return size;
}

bool gw_queue_is_started(struct gw_queue *q)
{
    bool started;

    lock_for_read(q);
    started = q->state == GW_QUEUE_STARTED;
    gw_queue_unlock(q);
    return started;
}

bool gw_queue_is_enabled(struct gw_queue *q)
{
    bool enabled;

    lock_for_read(q);
    enabled = q->enabled;
    gw_queue_unlock(q);
    return enabled;
}

void gw_queue_stats(const struct gw_queue *q, struct gw_queue_stats *ret)
{
    uint64_t oldest = __atomic_load_n(&q->in_flight.oldest_ns, __ATOMIC_RELAXED);
    uint64_t now = gw_clock_coarse_ns();
    /* Loaded before `requests`, so that the difference is never negative. */
    uint64_t completed = __atomic_load_n(&q->stats.completed, __ATOMIC_ACQUIRE);
    uint64_t requests = gw_counted(&q->stats.requests);

    *ret = (struct gw_queue_stats){
        .requests = requests,
        .completed = completed,
        .bytes_readable = gw_counted(&q->stats.bytes_readable),
        .bytes_written = gw_counted(&q->stats.bytes_written),
        .kicks = gw_counted(&q->stats.kicks),
        .calls = gw_counted(&q->stats.calls),
        .calls_suppressed = gw_counted(&q->stats.calls_suppressed),
        .errors = gw_counted(&q->stats.errors),
        .in_flight = requests - completed,
        .oldest_ns = oldest && now > oldest ? now - oldest : 0,
    };
}
