/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The course of a run: connect both ends, start the load, perform the migrations that are
 * cancelled, then the others, there and back, and read the disk back. Other files implement the
 * steps; this one has their order, the time limit, and what happens if a step fails.
 */
#include "base/clock.h"
#include "base/random.h"
#include "guest/migrate_xen.h"
#include "migrate_remote.h"
#include "pages/migrate_arrival.h"
#include "pages/migrate_pages.h"
#include "pages/migrate_postcopy.h"
#include "pages/migrate_sums.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TEND_MS      2 /* between two checks of both ends */
#define AWAIT_NS     50000
#define PROGRESS_MS  100 /* between two calls of the progress callback */
#define PAGE_OF_HUGE (2u << 20)

#define MEMORY       (64u << 20)
#define DEPTH        32
#define BLOCK_SIZE   4096
#define WRITES       50
#define WARM_UP_MS   200
#define COPY_MS      1000
#define SETTLE_MS    300
#define ROUND_MS     10
#define TIMEOUT_MS   60000
#define REQUEST_MS   10000
#define RECONNECT_MS 30000
#define ROUNDS_MIN   3

uint64_t migration_random(struct migration *m, uint64_t n)
{
    return gw_random_below(&m->random, n);
}

unsigned migration_request_ms(const struct migration *m)
{
    uint64_t now = migration_now(m), left;

    if (now >= m->deadline_ns)
        return 1;
    left = (m->deadline_ns - now) / GW_NS_PER_MS + 1;
    return left < m->o.request_ms ? (unsigned)left : m->o.request_ms;
}

static void tell_progress(struct migration *m)
{
    struct migration_progress p = {
        .phase = m->phase,
        .hop = m->n_hop,
        .n_hops = m->o.hops,
        .elapsed_ns = migration_now(m),
        .stall_ns = migration_load_worst_stall(m, false),
        .source = target_name(m->units[0].targets[m->src]),
        .destination = target_name(m->units[0].targets[m->dst]),
    };
    uint64_t requests = migration_load_requests(m);

    if (!m->progress || (m->told_ns && p.elapsed_ns - m->told_ns < PROGRESS_MS * GW_NS_PER_MS))
        return;
    if (m->round) {
        p.round = m->round->number;
        p.dirty_pages = m->round->pages;
        p.remaining = m->round->pages * MIGRATION_PAGE;
        if (m->hop->copy_ns)
            p.copy_rate = (double)m->hop->copy_bytes * 1e9 / (double)m->hop->copy_ns;
    }
    if (m->link)
        p.remaining = migration_link_left(m);
    if (p.elapsed_ns > m->rate_ns && requests >= m->rate_requests)
        p.requests_rate =
            (double)(requests - m->rate_requests) * 1e9 / (double)(p.elapsed_ns - m->rate_ns);
    p.bytes_rate = p.requests_rate * m->o.block_size;
    m->rate_ns = p.elapsed_ns;
    m->rate_requests = requests;
    m->told_ns = p.elapsed_ns;
    m->progress(&p, m->progress_arg);
}

int migration_tend(struct migration *m, unsigned ms)
{
    const struct timespec pause = {.tv_nsec = (long)TEND_MS * GW_NS_PER_MS};
    uint64_t until = migration_now(m) + (uint64_t)ms * GW_NS_PER_MS;
    int r = 0;

    do {
        for (unsigned i = 0; r == 0 && i < 2; i++)
            r = migration_tend_end(m, i);
        if (r == 0 && m->link && migration_link_check(m) < 0)
            r = -EIO;
        if (r == 0 && m->remote)
            r = migration_remote_tend(m);
        if (r == 0)
            r = migration_load_check(m);
        if (r == 0 && migration_now(m) > m->deadline_ns)
            r = migration_cannot(m, MIGRATION_SIDE_TOOL, -ETIMEDOUT,
                                 "not done within the %u ms of the time limit", m->o.timeout_ms);
        tell_progress(m);
        if (r < 0 || migration_now(m) >= until)
            break;
        nanosleep(&pause, NULL);
    } while (migration_now(m) < until);
    return r;
}

static void or_default(unsigned *value, unsigned def)
{
    if (!*value)
        *value = def;
}

/* The agent drives one disk. Events that replace its driver or its memory are unavailable. */
static bool suits_xen(const struct migration_options *o)
{
    return o->device == MIGRATION_DEVICE_BLK && o->n_devices == 1 && !o->packed && !o->hugetlb &&
           !o->memory_top && !o->kill && !o->region_ms && !o->call_fd_ms && !o->to && !o->listen &&
           !o->postcopy.is_on;
}

static int take_options(struct migration *m, const struct migration_options *o)
{
    m->o = *o;
    if (!m->o.memory)
        m->o.memory = MEMORY;
    or_default(&m->o.n_devices, 1);
    or_default(&m->o.n_queues, 1);
    or_default(&m->o.depth, DEPTH);
    or_default(&m->o.block_size, BLOCK_SIZE);
    if (!m->o.read_only)
        or_default(&m->o.write_percent, WRITES);
    or_default(&m->o.hops, 1);
    or_default(&m->o.warm_up_ms, WARM_UP_MS);
    or_default(&m->o.copy_ms, COPY_MS);
    or_default(&m->o.settle_ms, SETTLE_MS);
    or_default(&m->o.round_ms, ROUND_MS);
    or_default(&m->o.timeout_ms, TIMEOUT_MS);
    or_default(&m->o.request_ms, REQUEST_MS);
    or_default(&m->o.reconnect_ms, RECONNECT_MS);
    if (m->o.device == MIGRATION_DEVICE_RNG)
        m->o.n_queues = 1;
    if (m->o.xen_domid && !suits_xen(&m->o))
        return -EINVAL;
    if (o->write_percent > 100 || o->flush_percent > 100 - m->o.write_percent ||
        m->o.n_queues > 256 || m->o.n_devices > MIGRATION_DEVICES_MAX ||
        (!m->o.packed && m->o.queue_size & (m->o.queue_size - 1)) ||
        m->o.order > MIGRATION_ORDER_RANDOM || m->o.device > MIGRATION_DEVICE_GENERIC ||
        m->o.block_size % 512 || (m->o.hugetlb && m->o.memory % PAGE_OF_HUGE))
        return -EINVAL;
    return 0;
}

/* Requests per second since `begin_ns`, when `before` were completed. */
static double rate_since(struct migration *m, uint64_t begin_ns, uint64_t before)
{
    uint64_t took = migration_now(m) - begin_ns;

    return took ? (double)(migration_load_requests(m) - before) * 1e9 / (double)took : 0;
}

/* Connect both ends; start the device and its load at the source. */
static int begin(struct migration *m)
{
    uint64_t at, n;
    int r;

    if (m->remote) /* the other half makes the guest from this value */
        m->random = m->o.seed;
    r = migration_make_guest(m);
    migration_set_phase(m, MIGRATION_PHASE_CONNECT);
    if (r == 0 && m->o.postcopy.is_on)
        r = migration_link_probe(m);
    if (r == 0)
        r = migration_connect(m, m->src);
    if (r == 0 && !m->remote)
        r = migration_connect(m, m->dst);
    if (r == 0 && !m->remote)
        r = migration_postcopy_advise(m);
    if (r == 0)
        r = migration_make_rings(m);
    if (r == 0)
        r = migration_load_new(m);
    if (r == 0)
        r = migration_make_buffers(m);
    if (r == 0 && m->remote)
        r = migration_remote_greet(m);
    if (r < 0)
        return r;
    migration_set_phase(m, MIGRATION_PHASE_START);
    r = migration_start(m, m->src, NULL);
    if (r < 0)
        return r;
    migration_set_phase(m, MIGRATION_PHASE_WARM_UP);
    at = migration_now(m);
    n = migration_load_requests(m);
    r = migration_load_resume(m);
    if (r == 0)
        r = migration_tend_kill(m, MIGRATION_KILL_WARM_UP, m->src, m->o.warm_up_ms);
    m->ret->rate_before = rate_since(m, at, n);
    m->ret->stall_before_ns = migration_load_worst_stall(m, true);
    return r;
}

/* Does the switch follow after `n` rounds? The copy time ends at `until`. */
static bool is_copied(const struct migration *m, unsigned n, uint64_t until)
{
    const struct migration_postcopy_options *p = &m->o.postcopy;

    if (p->is_on && p->has_round && !m->is_cancelled)
        return n >= p->round;
    return (p->is_on || n > ROUNDS_MIN) && migration_now(m) >= until;
}

/*
 * With postcopy, copy nothing in the last quarter of the time, as if the link were too slow for the
 * writes of the guest. Otherwise hardly any page would be left to transfer after the switch.
 */
static bool is_left_alone(const struct migration *m, uint64_t until, unsigned ms)
{
    return m->o.postcopy.is_on && !m->o.postcopy.has_round && !m->is_cancelled &&
           migration_now(m) + ms * GW_NS_PER_MS / 4 >= until;
}

/* Turn the log on, copy everything once, then what is marked, for at least `ms`. */
static int copy(struct migration *m, unsigned ms)
{
    unsigned number = 0;
    uint64_t until, kill_at, at, n;
    bool has_other = !m->remote || m->o.postcopy.is_on; /* or keeps what was sent to it */
    int r = has_other ? gw_guest_mem_clone(&m->other, m->mem, GW_GUEST_UVA_HOST) : 0;

    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "guest memory of the destination: %s",
                                migration_memory_error(m, r));
    r = migration_pair_up(m);
    if (r < 0)
        return r;
    if (!is_copied(m, 0, UINT64_MAX))
        migration_prepare(m);
    migration_set_phase(m, MIGRATION_PHASE_LOG_ON);
    m->hop->begin_ns = migration_now(m);
    r = migration_log_on(m);
    if (r < 0)
        return r;
    m->logged_from = migration_load_requests(m);
    migration_set_phase(m, MIGRATION_PHASE_COPY);
    at = migration_now(m);
    n = migration_load_requests(m);
    until = at + (uint64_t)ms * GW_NS_PER_MS;
    if (is_copied(m, 0, UINT64_MAX))
        return 0;
    migration_schedule_start(m);
    r = migration_copy_all(m);
    kill_at = at + migration_random(m, ms) * GW_NS_PER_MS;
    while (r == 0 && !is_copied(m, number + 1, until)) {
        bool is_left = is_left_alone(m, until, ms);

        r = migration_tend(m, m->o.round_ms);
        if (r == 0 && !is_left)
            r = migration_do_events(m);
        if (r == 0 && migration_now(m) >= kill_at)
            r = migration_kill(m, MIGRATION_KILL_COPY, m->src);
        if (r == 0 && !is_left)
            r = migration_copy_round(m, ++number, false);
        migration_watch_old_logs(m);
    }
    m->ret->rate_copy = rate_since(m, at, n);
    return r;
}

static int cancel(struct migration *m)
{
    int r;

    m->is_cancelled = true;
    r = copy(m, m->o.copy_ms / 2);
    if (r == 0) {
        migration_set_phase(m, MIGRATION_PHASE_CANCEL);
        r = migration_log_off(m);
    }
    if (r == 0)
        r = migration_tend(m, m->o.warm_up_ms);
    migration_sums_drop(m);
    gw_guest_mem_free(m->other);
    m->other = NULL;
    m->is_cancelled = false;
    return r;
}

/* Requests that the source completed and the driver has not seen yet. */
static unsigned found_late(const struct migration *m)
{
    unsigned n = 0;

    for (unsigned i = 0; i < m->n_drivers; i++)
        n += gw_driver_n_used(m->drivers[i]);
    return n;
}

/* Make requests available again that the source popped and did not complete. */
static void requeue(struct migration *m)
{
    for (unsigned i = 0; m->hop->in_flight_stopped && i < m->n_drivers; i++)
        gw_driver_requeue(m->drivers[i]);
}

/* Stop the load, then the device; copy what is left, or leave it for postcopy. */
static int stop(struct migration *m)
{
    uint64_t worst;
    int r;

    migration_set_phase(m, MIGRATION_PHASE_STOP);
    m->hop->stop_ns = migration_now(m);
    r = migration_load_pause(m);
    worst = migration_load_worst_stall(m, true);
    if (worst > m->ret->stall_copy_ns)
        m->ret->stall_copy_ns = worst;
    if (r < 0)
        return r;
    for (unsigned i = 0; i < m->n_drivers; i++)
        m->hop->in_flight += gw_driver_in_flight(m->drivers[i]);
    migration_event(m, MIGRATION_EVENT_LOAD_STOPPED, 0, "%u requests in flight", m->hop->in_flight);
    r = migration_kill(m, MIGRATION_KILL_STOP, m->src);
    if (r == 0)
        r = migration_stop(m, m->src);
    if (r == 0)
        r = migration_save_devices(m);
    if (r == 0 && !m->remote)
        r = migration_load_devices(m);
    if (r < 0)
        return r;
    m->n_found_late = found_late(m);
    m->hop->requests_logged = migration_load_requests(m) - m->logged_from + m->n_found_late;
    migration_set_phase(m, MIGRATION_PHASE_FINAL);
    if (m->o.postcopy.is_on) {
        requeue(m);
        if (!m->remote)
            return migration_postcopy_drop(m);
        r = migration_pages_drop(m);
    } else {
        r = migration_copy_round(m, m->round->number + 1, true);
    }
    if (r == 0 && m->remote)
        r = migration_state_send(m);
    if (r < 0)
        return r;
    migration_set_phase(m, MIGRATION_PHASE_COMPARE);
    migration_watch_old_logs(m);
    return migration_compare(m);
}

/* Swap the memories; from now on the driver writes to the destination's. */
static int change_over(struct migration *m)
{
    struct gw_guest_mem *stopped = m->mem;
    int r = m->xen ? 0 : migration_load_set_mem(m, m->other);

    if (r < 0)
        return r;
    if (m->xen)
        migration_xen_put_back(m);
    for (unsigned i = 0; i < m->n_drivers; i++)
        gw_driver_set_track(m->drivers[i], NULL);
    /* The memory of a Xen domain is used in place. */
    if (!m->xen) {
        m->mem = m->other;
        m->other = stopped;
    }
    /* With postcopy the guest must be the first to touch the memory. */
    if (m->o.postcopy.is_on)
        return 0;
    requeue(m);
    migration_take_written(m, NULL, NULL);
    return migration_load_check_held(m);
}

/*
 * Wait until more than `before` requests are completed. This time is part of the downtime, so poll
 * often.
 */
static int await_completion(struct migration *m, uint64_t before)
{
    const struct timespec pause = {.tv_nsec = AWAIT_NS};
    int r = 0;

    while (r == 0 && m->load && migration_load_requests(m) <= before) {
        nanosleep(&pause, NULL);
        r = migration_tend(m, 0);
    }
    return r;
}

int migration_go_on(struct migration *m, uint64_t before)
{
    uint64_t begin;
    int r;

    before += m->n_found_late;
    m->after_from = before;
    begin = migration_now(m);
    if (m->o.postcopy.is_on && !m->remote)
        r = migration_postcopy_start(m);
    else
        r = migration_start(m, m->dst, NULL);
    m->hop->device_start_ns = migration_now(m) - begin;
    if (r == 0)
        r = migration_kill(m, MIGRATION_KILL_START, m->dst);
    if (r == 0)
        r = migration_load_resume(m);
    if (r == 0)
        r = await_completion(m, before);
    if (r < 0)
        return r;
    m->hop->end_ns = migration_now(m);
    m->hop->downtime_ns = m->hop->end_ns - m->hop->stop_ns - m->hop->compare_ns;
    migration_load_worst_stall(m, true); /* the stall of the switch itself */
    return migration_event(m, MIGRATION_EVENT_FIRST_COMPLETION, 0, "downtime %.1f ms",
                           (double)m->hop->downtime_ns / 1e6);
}

static int resume(struct migration *m)
{
    uint64_t before = migration_load_requests(m);
    int r;

    migration_set_phase(m, MIGRATION_PHASE_RESUME);
    r = change_over(m);
    return r ? r : migration_go_on(m, before);
}

int migration_settle(struct migration *m)
{
    uint64_t at = migration_now(m), n = migration_load_requests(m), worst;
    int r, e;

    migration_set_phase(m, MIGRATION_PHASE_SETTLE);
    r = migration_tend_kill(m, MIGRATION_KILL_SETTLE, m->dst, m->o.settle_ms);
    m->ret->rate_after = rate_since(m, at, n);
    e = migration_load_pause(m);
    m->hop->requests_after = migration_load_requests(m) - m->after_from;
    migration_watch_old_logs(m);
    if (!m->xen)
        migration_watch_source(m);
    if (m->o.postcopy.is_on && !m->remote)
        migration_compare_rest(m);
    worst = migration_load_worst_stall(m, true);
    if (worst > m->ret->stall_ns)
        m->ret->stall_ns = worst;
    migration_drop_logs(m);
    migration_disconnect(m, m->src);
    migration_sums_drop(m);
    gw_guest_mem_free(m->other);
    m->other = NULL;
    return r ? r : e;
}

static int hop(struct migration *m)
{
    const struct migration_postcopy_options *p = &m->o.postcopy;
    int r = copy(m, p->is_on && p->at_ms ? p->at_ms : m->o.copy_ms);

    if (r == 0 && p->is_on)
        r = m->remote ? migration_pages_prepare(m) : migration_postcopy_prepare(m);
    if (r == 0)
        r = stop(m);
    if (m->remote)
        return r ? r : migration_remote_hand_over(m);
    if (r == 0)
        r = resume(m);
    if (r == 0 && p->is_on)
        r = migration_postcopy_await(m);
    return r ? r : migration_settle(m);
}

/* Reverse the roles for the next migration. */
static int turn_round(struct migration *m)
{
    unsigned src = m->src;
    int r;

    m->src = m->dst;
    m->dst = src;
    if (!migration_begin_hop(m))
        return migration_cannot(m, MIGRATION_SIDE_TOOL, -ENOMEM, "out of memory");
    migration_choose_kill(m);
    migration_set_phase(m, MIGRATION_PHASE_CONNECT);
    for (unsigned i = 0; !m->o.keep_backends && i < m->n_units; i++) {
        if (target_is_command(m->units[i].targets[m->dst]))
            target_stop(m->units[i].targets[m->dst]);
    }
    r = migration_connect(m, m->dst);
    if (r == 0)
        r = migration_postcopy_advise(m);
    return r ? r : migration_load_resume(m);
}

int migration_finish(struct migration *m, unsigned which)
{
    int r;

    migration_set_phase(m, MIGRATION_PHASE_VERIFY);
    r = migration_load_drain(m);
    if (r == 0)
        r = migration_load_check_held(m);
    if (r == 0)
        r = migration_load_read_back(m);
    if (r == 0)
        r = migration_stop(m, which);
    if (r == 0)
        migration_set_phase(m, MIGRATION_PHASE_DONE);
    return r;
}

static int run(struct migration *m)
{
    int r = 0;

    if (!migration_begin_hop(m))
        return migration_cannot(m, MIGRATION_SIDE_TOOL, -ENOMEM, "out of memory");
    migration_choose_kill(m);
    r = begin(m);
    for (unsigned i = 0; r == 0 && i < m->o.cancels; i++)
        r = cancel(m);
    for (unsigned i = 0; r == 0 && i < m->o.hops; i++) {
        if (i)
            r = turn_round(m);
        if (r == 0)
            r = hop(m);
    }
    if (m->remote)
        return r ? migration_remote_cancel(m, r) : 0;
    return r ? r : migration_finish(m, m->dst);
}

static double rate_of(const struct migration_speed *s)
{
    return s->ns ? (double)s->bytes * 1e9 / (double)s->ns : 0;
}

/* Numbers of the whole run. */
static void sum_up(struct migration *m)
{
    struct migration_result *ret = m->ret;

    migration_load_halt(m);
    migration_load_stats(m);
    ret->copy_rate =
        m->remote ? 0 : rate_of(&m->speed); /* over a link the rate says nothing about copying */
    if (ret->stall_copy_ns > ret->stall_ns)
        ret->stall_ns = ret->stall_copy_ns;
    if (ret->stall_before_ns > ret->stall_ns)
        ret->stall_ns = ret->stall_before_ns;
    ret->duration_ns = migration_now(m);
    ret->phase = m->phase;
}

static int make_units(struct migration *m, struct target *const *targets)
{
    m->n_units = m->o.n_devices;
    m->units = calloc(m->n_units, sizeof(*m->units));
    if (!m->units) {
        m->n_units = 0;
        return migration_cannot(m, MIGRATION_SIDE_TOOL, -ENOMEM, "out of memory");
    }
    for (unsigned i = 0; i < m->n_units; i++)
        m->units[i] = (struct migration_unit){
            .m = m, .number = i, .targets = {targets[2 * i], targets[2 * i + 1]}, .uffd = -1};
    return 0;
}

int migration_run(const struct migration_options *o, struct target *const *targets,
                  migration_progress_cb *progress, void *arg, struct migration_result *ret)
{
    struct migration m = {
        .ret = ret,
        .progress = progress,
        .progress_arg = arg,
        .random = o->seed,
        .dst = 1,
    };
    int r;

    memset(ret, 0, sizeof(*ret));
    m.start_ns = migration_now(&m);
    ret->seed = o->seed;
    ret->device = o->device;
    r = take_options(&m, o);
    if (r < 0)
        return migration_cannot(&m, MIGRATION_SIDE_TOOL, r, "these options contradict each other");
    m.deadline_ns = (uint64_t)m.o.timeout_ms * GW_NS_PER_MS;
    r = make_units(&m, targets);
    if (r == 0 && (m.o.to || m.o.listen))
        r = migration_remote_new(&m);
    if (r == 0)
        r = m.o.listen ? migration_run_destination(&m) : run(&m);
    if (r < 0 && ret->n_faults == 0)
        migration_cannot(&m, MIGRATION_SIDE_TOOL, r, "%s", strerror(-r));
    /* Before the drivers: the load may wait for a page. */
    migration_link_free(&m);
    sum_up(&m);
    migration_remote_free(&m);
    /* Disconnect the back-ends before their memory is freed. */
    for (unsigned i = 0; i < 2; i++)
        migration_disconnect(&m, i);
    migration_drop_logs(&m);
    migration_free_guest(&m);
    migration_forget_devices(&m);
    free(m.units);
    return 0;
}
