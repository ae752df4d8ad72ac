/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The load of a migration: one thread for each device, like the vCPUs of a guest, and a sampler
 * that reads their counters every 10 ms. Interrupting a load pauses it; its requests stay in
 * flight, as when a VMM stops the vCPUs.
 */
#include "migrate_load.h"
#include "migrate/migrate_work.h"
#include "migrate_xen.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SAMPLE_NS 10000000

enum wish {
    PAUSE = 0,
    RUN,
    QUIT,
};

/* The load of one device. */
struct runner {
    struct migration_load *load;
    struct migration_unit *unit;
    void *arg;
    pthread_t thread;
    bool has_thread;
    bool is_paused; /* under the lock */
    int r;          /* result of the last run; under the lock */
};

/* A range of added buffers. */
struct area {
    gw_gpa_t gpa;
    uint64_t len;
};

#define AREAS_MAX 8

struct migration_load {
    const struct migration_work *work;
    struct migration *m;
    struct runner *runners;
    unsigned n_runners;
    struct area areas[AREAS_MAX];
    unsigned n_areas;
    pthread_t sampler;
    bool has_sampler;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under the lock */
    enum wish wish;
    unsigned stall_ms;
    struct gw_guest_load_sample seen; /* since the last sample */
    struct migration_sample *samples;
    size_t n_samples, n_room;
    uint64_t requests; /* total */
    uint64_t worst_stall;
    bool is_told; /* its failure was reported; only used by the thread of migration_run */
};

static void *run(void *arg)
{
    struct runner *me = arg;
    struct migration_load *l = me->load;

    pthread_mutex_lock(&l->lock);
    while (l->wish != QUIT) {
        unsigned stall_ms = l->stall_ms;
        int r;

        if (l->wish == PAUSE || me->r < 0) {
            me->is_paused = true;
            pthread_cond_broadcast(&l->changed);
            pthread_cond_wait(&l->changed, &l->lock);
            continue;
        }
        me->is_paused = false;
        pthread_mutex_unlock(&l->lock);
        r = l->work->run(me->arg, stall_ms);
        pthread_mutex_lock(&l->lock);
        me->r = r;
    }
    me->is_paused = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Collect what the load did since the last call. Under the lock. */
static void look(struct migration_load *l)
{
    for (unsigned i = 0; i < l->n_runners; i++) {
        struct gw_guest_load_sample s;

        l->work->sample(l->runners[i].arg, &s);
        l->requests += s.requests;
        if (s.stall > l->worst_stall)
            l->worst_stall = s.stall;
        l->seen.requests += s.requests;
        l->seen.bytes += s.bytes;
        if (s.stall > l->seen.stall)
            l->seen.stall = s.stall;
        if (s.latency > l->seen.latency)
            l->seen.latency = s.latency;
    }
}

static void add_sample(struct migration_load *l)
{
    size_t room = l->n_room ? l->n_room * 2 : 1024;
    struct gw_guest_load_sample s = l->seen;
    struct migration_sample *grown;

    l->seen = (struct gw_guest_load_sample){0};
    if (l->n_samples == l->n_room) {
        grown = realloc(l->samples, room * sizeof(*grown));
        if (!grown)
            return;
        l->samples = grown;
        l->n_room = room;
    }
    l->samples[l->n_samples++] = (struct migration_sample){
        .at_ns = migration_now(l->m),
        .requests = s.requests,
        .bytes = s.bytes,
        .stall_ns = s.stall,
        .latency_ns = s.latency,
    };
}

static void *sample(void *arg)
{
    const struct timespec pause = {.tv_nsec = SAMPLE_NS};
    struct migration_load *l = arg;
    bool quit;

    do {
        nanosleep(&pause, NULL);
        pthread_mutex_lock(&l->lock);
        look(l);
        add_sample(l);
        quit = l->wish == QUIT;
        pthread_mutex_unlock(&l->lock);
    } while (!quit);
    return NULL;
}

/* Create all loads before the first thread starts. */
static int add_runners(struct migration *m, struct migration_load *l)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        struct runner *one = &l->runners[l->n_runners];

        *one = (struct runner){.load = l, .unit = &m->units[i], .is_paused = true};
        m->talking = one->unit;
        r = l->work->new (one->unit, &one->arg);
        l->n_runners += one->arg != NULL;
    }
    m->talking = NULL;
    return r;
}

int migration_load_new(struct migration *m)
{
    struct migration_load *l;
    int r = 0;

    if (m->o.device == MIGRATION_DEVICE_GENERIC)
        return 0;
    l = calloc(1, sizeof(*l));
    if (l)
        l->runners = calloc(m->n_units, sizeof(*l->runners));
    if (!l || !l->runners) {
        free(l);
        return migration_cannot(m, MIGRATION_SIDE_TOOL, -ENOMEM, "out of memory");
    }
    l->work = m->xen                                ? &migration_work_xen
              : m->o.device == MIGRATION_DEVICE_RNG ? &migration_work_rng
                                                    : &migration_work_blk;
    l->m = m;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    m->load = l;
    r = add_runners(m, l);
    for (unsigned i = 0; r == 0 && i < l->n_runners; i++) {
        r = -pthread_create(&l->runners[i].thread, NULL, run, &l->runners[i]);
        l->runners[i].has_thread = r == 0;
    }
    if (r == 0)
        r = -pthread_create(&l->sampler, NULL, sample, l);
    l->has_sampler = r == 0;
    if (r < 0 && m->ret->n_faults == 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "the load: %s", strerror(-r));
    return r;
}

/* `stall_ms` is the stall limit of runs. */
static void wish(struct migration_load *l, enum wish w, unsigned stall_ms)
{
    pthread_mutex_lock(&l->lock);
    l->wish = w;
    l->stall_ms = stall_ms;
    for (unsigned i = 0; w == RUN && i < l->n_runners; i++)
        l->runners[i].is_paused = false;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

void migration_load_free(struct migration *m)
{
    struct migration_load *l = m->load;

    if (!l)
        return;
    wish(l, QUIT, 0);
    for (unsigned i = 0; i < l->n_runners; i++) {
        if (!l->runners[i].has_thread)
            continue;
        l->work->interrupt(l->runners[i].arg);
        pthread_join(l->runners[i].thread, NULL);
    }
    if (l->has_sampler)
        pthread_join(l->sampler, NULL);
    free(m->ret->samples); /* non-NULL if the guest was discarded before it ran */
    m->ret->samples = l->samples;
    m->ret->n_samples = (unsigned)l->n_samples;
    for (unsigned i = 0; i < l->n_runners; i++)
        l->work->free(l->runners[i].arg);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l->runners);
    free(l);
    m->load = NULL;
}

int migration_load_resume(struct migration *m)
{
    if (m->load)
        wish(m->load, RUN, migration_request_ms(m));
    return 0;
}

bool migration_load_is_running(struct migration *m)
{
    bool is_running;

    if (!m->load)
        return false;
    pthread_mutex_lock(&m->load->lock);
    is_running = m->load->wish == RUN;
    pthread_mutex_unlock(&m->load->lock);
    return is_running;
}

/* Report a failure once, with the side that runs the device. */
static int tell_failure(struct runner *one, int r)
{
    struct migration_load *l = one->load;
    struct migration *m = l->m;
    bool is_moved = one->unit->running[m->dst] && !one->unit->running[m->src];

    if (r >= 0 || l->is_told)
        return r;
    l->is_told = true;
    m->talking = one->unit;
    migration_blame(m, migration_side_of(m, is_moved ? m->dst : m->src), r, "the load: %s",
                    l->work->error(one->arg));
    m->talking = NULL;
    return r;
}

/* Report the results of the runs. Returns: 0; the first error. */
static int check_runs(struct migration_load *l, bool paused_only)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < l->n_runners; i++) {
        pthread_mutex_lock(&l->lock);
        r = paused_only && !l->runners[i].is_paused ? 0 : l->runners[i].r;
        pthread_mutex_unlock(&l->lock);
        r = tell_failure(&l->runners[i], r);
    }
    return r;
}

void migration_load_halt(struct migration *m)
{
    struct migration_load *l = m->load;

    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->wish = PAUSE;
    for (unsigned i = 0; i < l->n_runners; i++) {
        if (l->runners[i].has_thread && !l->runners[i].is_paused)
            l->work->interrupt(l->runners[i].arg);
    }
    for (unsigned i = 0; i < l->n_runners; i++) {
        while (l->runners[i].has_thread && !l->runners[i].is_paused)
            pthread_cond_wait(&l->changed, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
}

int migration_load_pause(struct migration *m)
{
    if (!m->load)
        return 0;
    migration_load_halt(m);
    return check_runs(m->load, false);
}

int migration_load_check(struct migration *m)
{
    return m->load ? check_runs(m->load, true) : 0;
}

int migration_load_drain(struct migration *m)
{
    struct migration_load *l = m->load;
    int r = 0;

    for (unsigned i = 0; l && r == 0 && i < l->n_runners; i++)
        r = tell_failure(&l->runners[i],
                         l->work->drain(l->runners[i].arg, migration_request_ms(m)));
    return r;
}

int migration_load_set_mem(struct migration *m, struct gw_guest_mem *mem)
{
    struct migration_load *l = m->load;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->n_drivers; i++)
        r = gw_driver_set_mem(m->drivers[i], mem);
    for (unsigned i = 0; l && r == 0 && i < l->n_runners; i++)
        r = l->work->set_mem(l->runners[i].arg, mem);
    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "the other memory lacks what is in use");
    return 0;
}

/* The part of [*gpa, *gpa + *len) that holds the buffers of one device. */
static void share_of(const struct migration_load *l, unsigned i, gw_gpa_t *gpa, uint64_t *len)
{
    uint64_t share = *len / l->n_runners / MIGRATION_PAGE * MIGRATION_PAGE;

    *gpa += i * share;
    *len = share;
}

int migration_load_add(struct migration *m, gw_gpa_t gpa, uint64_t len)
{
    struct migration_load *l = m->load;
    int r = 0;

    for (unsigned i = 0; l && r == 0 && i < l->n_runners; i++) {
        gw_gpa_t at = gpa;
        uint64_t n = len;

        share_of(l, i, &at, &n);
        r = l->work->add(l->runners[i].arg, at, n);
    }
    if (l && r == 0 && l->n_areas < AREAS_MAX)
        l->areas[l->n_areas++] = (struct area){.gpa = gpa, .len = len};
    return r;
}

bool migration_load_has(const struct migration *m, gw_gpa_t gpa)
{
    const struct migration_load *l = m->load;

    for (unsigned i = 0; l && i < l->n_areas; i++) {
        if (gpa - l->areas[i].gpa < l->areas[i].len)
            return true;
    }
    return false;
}

static void remove_area(struct migration_load *l, gw_gpa_t gpa)
{
    unsigned n = 0;

    for (unsigned i = 0; i < l->n_areas; i++) {
        if (l->areas[i].gpa != gpa)
            l->areas[n++] = l->areas[i];
    }
    l->n_areas = n;
}

int migration_load_retire(struct migration *m, gw_gpa_t gpa, uint64_t len)
{
    struct migration_load *l = m->load;
    int r = 0;

    for (unsigned i = 0; l && i < l->n_runners; i++) {
        gw_gpa_t at = gpa;
        uint64_t n = len;
        int e;

        share_of(l, i, &at, &n);
        e = l->work->retire(l->runners[i].arg, at);
        r = r ? r : e;
    }
    return r;
}

int migration_load_remove(struct migration *m, gw_gpa_t gpa, uint64_t len)
{
    struct migration_load *l = m->load;
    int r = 0;

    for (unsigned i = 0; l && i < l->n_runners; i++) {
        gw_gpa_t at = gpa;
        uint64_t n = len;
        int e;

        share_of(l, i, &at, &n);
        e = tell_failure(&l->runners[i], l->work->remove(l->runners[i].arg, at));
        r = r ? r : e;
    }
    if (l)
        remove_area(l, gpa);
    return r;
}

int migration_load_check_held(struct migration *m)
{
    struct migration_load *l = m->load;
    int r = 0;

    for (unsigned i = 0; l && r == 0 && i < l->n_runners; i++)
        r = tell_failure(&l->runners[i], l->work->check_held(l->runners[i].arg));
    return r;
}

uint64_t migration_load_requests(struct migration *m)
{
    uint64_t n;

    if (!m->load)
        return 0;
    pthread_mutex_lock(&m->load->lock);
    look(m->load);
    n = m->load->requests;
    pthread_mutex_unlock(&m->load->lock);
    return n;
}

uint64_t migration_load_worst_stall(struct migration *m, bool restart)
{
    uint64_t ns;

    if (!m->load)
        return 0;
    pthread_mutex_lock(&m->load->lock);
    look(m->load);
    ns = m->load->worst_stall;
    if (restart)
        m->load->worst_stall = 0;
    pthread_mutex_unlock(&m->load->lock);
    return ns;
}

bool migration_load_find(struct migration *m, gw_gpa_t gpa, struct gw_guest_load_place *ret,
                         unsigned *ret_unit)
{
    struct migration_load *l = m->load;

    for (unsigned i = 0; l && i < l->n_runners; i++) {
        *ret_unit = l->runners[i].unit->number;
        if (l->work->find(l->runners[i].arg, gpa, ret))
            return true;
    }
    return false;
}

void migration_load_stats(struct migration *m)
{
    for (unsigned i = 0; m->load && i < m->load->n_runners; i++)
        m->load->work->stats(m->load->runners[i].arg, m->ret);
}

int migration_load_read_back(struct migration *m)
{
    struct migration_load *l = m->load;
    int r = 0;

    for (unsigned i = 0; l && l->work->read_back && r == 0 && i < l->n_runners; i++) {
        uint64_t n = 0;

        r = tell_failure(&l->runners[i],
                         l->work->read_back(l->runners[i].arg, migration_request_ms(m), &n));
        m->ret->disk_blocks += n;
    }
    return r;
}

int migration_load_save(struct migration *m, unsigned unit, void **ret, size_t *ret_len)
{
    struct migration_load *l = m->load;

    *ret = NULL;
    *ret_len = 0;
    return l ? l->work->save(l->runners[unit].arg, ret, ret_len) : 0;
}

int migration_load_restore(struct migration *m, unsigned unit, const void *state, size_t len)
{
    struct migration_load *l = m->load;

    if (!l)
        return len ? -EINVAL : 0;
    return l->work->restore(l->runners[unit].arg, state, len);
}
