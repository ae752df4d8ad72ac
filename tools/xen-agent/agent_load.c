/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Drives rings and a verified load in the lent memory, with libgodwit's front-end. dom0 sends and
 * fetches their state, so that the tool can describe bytes of the memory, and continue the load
 * elsewhere.
 */
#include "agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xenevtchn.h>

#define STATE_MAX     (64u << 20)
#define CALL_GRACE_MS 10000 /* a call passes through two processes of dom0, which may be busy */

/* ---- Rings ---- */

int agent_driver(struct agent *a, uint64_t *ret)
{
    struct gw_driver_config cfg = {.size = sizeof(cfg), .mem = a->mem};
    struct agent_queue *q = &a->queues[a->n_queues];
    struct xen_driver told;
    int r;

    if (a->n_queues == XEN_QUEUES)
        return -ENOSPC;
    memcpy(&told, a->bulk, sizeof(told));
    cfg.index = told.index;
    cfg.queue_size = told.size;
    cfg.indirect_max = told.indirect_max;
    cfg.packed = told.packed;
    cfg.place = told.place;
    cfg.desc = told.desc;
    cfg.avail = told.avail;
    cfg.used = told.used;
    q->port = xenevtchn_bind_unbound_port(a->events, 0);
    if (q->port < 0)
        return -errno;
    r = gw_driver_new(&q->driver, &cfg);
    if (r < 0) {
        xenevtchn_unbind(a->events, (evtchn_port_t)q->port);
        return r;
    }
    gw_driver_set_track(q->driver, a->track);
    a->n_queues++;
    *ret = (uint64_t)q->port;
    return 0;
}

/* ---- The load ---- */

static void free_load(struct agent *a)
{
    gw_guest_load_free(a->load);
    gw_guest_disk_free(a->disk);
    a->load = NULL;
    a->disk = NULL;
}

int agent_load(struct agent *a)
{
    struct gw_driver *drivers[XEN_QUEUES];
    struct gw_guest_disk_config disk = {.size = sizeof(disk)};
    struct gw_guest_load_config cfg = {
        .size = sizeof(cfg), .drivers = drivers, .sleep = true, .call_grace_ms = CALL_GRACE_MS};
    struct xen_load told;
    int r;

    memcpy(&told, a->bulk, sizeof(told));
    if (told.n_queues == 0 || told.n_queues > a->n_queues)
        return -EINVAL;
    free_load(a);
    for (unsigned i = 0; i < told.n_queues; i++)
        drivers[i] = a->queues[i].driver;
    disk.length = told.disk_length;
    disk.block_size = told.block_size;
    disk.seed = told.disk_seed;
    disk.blank = told.blank;
    r = gw_guest_disk_new(&a->disk, &disk);
    if (r < 0)
        return r;
    cfg.disk = a->disk;
    cfg.n_drivers = told.n_queues;
    cfg.depth = told.depth;
    cfg.write_percent = told.write_percent;
    cfg.flush_percent = told.flush_percent;
    cfg.segments = told.segments;
    cfg.seed = told.seed;
    cfg.indirect = told.indirect;
    cfg.no_data = told.no_data;
    cfg.hold_percent = told.hold_percent;
    cfg.scatter = told.scatter;
    r = gw_guest_load_new(&a->load, &cfg);
    if (r < 0)
        free_load(a);
    return r;
}

static void *run(void *arg)
{
    const uint64_t one = 1;
    struct agent *a = arg;

    a->run_result = a->is_drain ? gw_guest_load_drain(a->load, a->stall_ms)
                                : gw_guest_load_run(a->load, a->run_ms, a->n_requests, a->stall_ms);
    /* Cannot fail: the counter is 0. */
    return write(a->done_fd, &one, sizeof(one)) == sizeof(one) ? NULL : a;
}

int agent_run(struct agent *a, const uint64_t *arg, bool is_drain)
{
    int r;

    if (!a->load)
        return -EINVAL;
    a->is_drain = is_drain;
    a->run_ms = is_drain ? 0 : (unsigned)arg[0];
    a->n_requests = is_drain ? 0 : arg[1];
    a->stall_ms = (unsigned)arg[is_drain ? 0 : 2];
    __atomic_store_n(&a->control->running, 1, __ATOMIC_RELEASE);
    r = -pthread_create(&a->runner, NULL, run, a);
    a->is_running = r == 0;
    if (r < 0)
        __atomic_store_n(&a->control->running, 0, __ATOMIC_RELEASE);
    return r;
}

/* Also read the runner's last signal, which must not end another run. */
static void join_runner(struct agent *a)
{
    uint64_t n;

    pthread_join(a->runner, NULL);
    while (read(a->done_fd, &n, sizeof(n)) == sizeof(n))
        ;
    a->is_running = false;
}

void agent_run_ended(struct agent *a)
{
    if (!a->is_running)
        return;
    join_runner(a);
    agent_sample(a);
    a->control->run_result = a->run_result;
    snprintf(a->control->error, sizeof(a->control->error), "%s", gw_guest_load_error(a->load));
    __atomic_store_n(&a->control->running, 0, __ATOMIC_RELEASE);
    xenevtchn_notify(a->events, (evtchn_port_t)a->control_port);
}

static void raise_to(uint64_t *value, uint64_t to)
{
    uint64_t seen = __atomic_load_n(value, __ATOMIC_RELAXED);

    while (to > seen &&
           !__atomic_compare_exchange_n(value, &seen, to, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

void agent_sample(struct agent *a)
{
    struct gw_guest_load_sample s;

    if (!a->load)
        return;
    gw_guest_load_sample(a->load, &s);
    __atomic_fetch_add(&a->control->requests, s.requests, __ATOMIC_RELAXED);
    __atomic_fetch_add(&a->control->bytes, s.bytes, __ATOMIC_RELAXED);
    raise_to(&a->control->stall, s.stall);
    raise_to(&a->control->latency, s.latency);
}

int agent_stats(struct agent *a, bool restart)
{
    struct gw_guest_load_stats s;
    struct xen_stats told;

    if (!a->load)
        return -EINVAL;
    gw_guest_load_stats(a->load, &s);
    told = (struct xen_stats){
        .requests = s.requests,
        .reads = s.reads,
        .writes = s.writes,
        .flushes = s.flushes,
        .bytes = s.bytes,
        .held = s.held,
        .verified = s.verified,
        .kicks = s.kicks,
        .sleeps = s.sleeps,
        .run_ns = s.run_ns,
        .p50 = s.p50,
        .p90 = s.p90,
        .p99 = s.p99,
        .p999 = s.p999,
        .max = s.max,
        .stall = s.stall,
        .in_flight = s.in_flight,
    };
    memcpy(a->bulk, &told, sizeof(told));
    if (restart)
        gw_guest_load_restart_stats(a->load);
    return 0;
}

/* ---- States ---- */

static int room_for(struct agent *a, size_t len)
{
    size_t room = a->state_room ? a->state_room : 4096;
    void *grown;

    while (room < len)
        room *= 2;
    if (room == a->state_room)
        return 0;
    grown = realloc(a->state, room);
    if (!grown)
        return -ENOMEM;
    a->state = grown;
    a->state_room = room;
    return 0;
}

static void take_state(struct agent *a, void *state, size_t len)
{
    free(a->state);
    a->state = state;
    a->state_len = a->state_room = len;
}

static void add_run(void *arg, gw_gpa_t gpa, uint64_t len)
{
    const struct xen_run written = {.gpa = gpa, .len = len};
    struct agent *a = arg;

    if (room_for(a, a->state_len + sizeof(written)) < 0)
        return; /* the transfer is then too short, and refused */
    memcpy((char *)a->state + a->state_len, &written, sizeof(written));
    a->state_len += sizeof(written);
}

int agent_save(struct agent *a, uint64_t which, uint64_t *ret)
{
    void *state = NULL;
    size_t len = 0;
    int r = -EINVAL;

    if (which == XEN_STATE_TRACK) {
        a->state_len = 0;
        gw_guest_track_take(a->track, add_run, a);
        r = 0;
    } else {
        if (which == XEN_STATE_LOAD && a->load)
            r = gw_guest_load_save(a->load, &state, &len);
        else if (which < a->n_queues)
            r = gw_driver_save(a->queues[which].driver, &state, &len);
        if (r == 0)
            take_state(a, state, len);
    }
    *ret = a->state_len;
    return r;
}

int agent_get(struct agent *a, uint64_t offset, uint64_t len)
{
    if (len > XEN_BULK_LEN || offset > a->state_len || len > a->state_len - offset)
        return -EINVAL;
    memcpy(a->bulk, (const char *)a->state + offset, len);
    return 0;
}

int agent_put(struct agent *a, uint64_t offset, uint64_t len, uint64_t total)
{
    int r;

    if (total > STATE_MAX || len > XEN_BULK_LEN || offset > total || len > total - offset)
        return -EINVAL;
    r = room_for(a, total);
    if (r < 0)
        return r;
    memcpy((char *)a->state + offset, a->bulk, len);
    a->state_len = total;
    return 0;
}

int agent_restore(struct agent *a, uint64_t which)
{
    if (which == XEN_STATE_LOAD && a->load)
        return gw_guest_load_restore(a->load, a->state, a->state_len);
    if (which < a->n_queues)
        return gw_driver_restore(a->queues[which].driver, a->state, a->state_len);
    return -EINVAL;
}

void agent_forget(struct agent *a)
{
    if (a->is_running) {
        gw_guest_load_interrupt(a->load);
        join_runner(a);
        __atomic_store_n(&a->control->running, 0, __ATOMIC_RELEASE);
    }
    free_load(a);
    while (a->n_queues > 0) {
        struct agent_queue *q = &a->queues[--a->n_queues];

        xenevtchn_unbind(a->events, (evtchn_port_t)q->port);
        gw_driver_free(q->driver);
    }
    free(a->state);
    a->state = NULL;
    a->state_len = a->state_room = 0;
}
