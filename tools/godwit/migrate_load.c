/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The load of a migration on a thread of its own, as the vCPUs of a guest, and a sampler that looks
 * at it every 10 ms. The load is paused by interrupting it; requests stay in flight meanwhile, as
 * they do when a VMM stops its vCPUs.
 */
#include "migrate_load.h"
#include "migrate_work.h"

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

struct migration_load {
    const struct migration_work *work;
    void *arg;
    struct migration *m;
    pthread_t runner, sampler;
    bool has_runner, has_sampler;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum wish wish;
    bool is_paused;
    int r; /* of the last run */
    unsigned stall_ms;

    /* under the lock */
    struct gw_guest_load_sample seen; /* since the last sample */
    struct migration_sample *samples;
    size_t n_samples, n_room;
    uint64_t requests; /* so far */
    uint64_t worst_stall;
    bool is_told; /* that it failed; of the thread of migration_run */
};

static void *runner(void *arg)
{
    struct migration_load *l = arg;

    pthread_mutex_lock(&l->lock);
    while (l->wish != QUIT) {
        unsigned stall_ms = l->stall_ms;
        int r;

        if (l->wish == PAUSE || l->r < 0) {
            l->is_paused = true;
            pthread_cond_broadcast(&l->changed);
            pthread_cond_wait(&l->changed, &l->lock);
            continue;
        }
        l->is_paused = false;
        pthread_mutex_unlock(&l->lock);
        r = l->work->run(l->arg, stall_ms);
        pthread_mutex_lock(&l->lock);
        l->r = r;
    }
    l->is_paused = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* What the load did since the last look. Under the lock. */
static void look(struct migration_load *l)
{
    struct gw_guest_load_sample s;

    l->work->sample(l->arg, &s);
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

static void *sampler(void *arg)
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

int migration_load_new(struct migration *m)
{
    struct migration_load *l;
    int r = 0;

    if (m->o.device == MIGRATION_DEVICE_GENERIC)
        return 0;
    l = calloc(1, sizeof(*l));
    if (!l)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, -ENOMEM, "out of memory");
    l->work = m->o.device == MIGRATION_DEVICE_RNG ? &migration_work_rng : &migration_work_blk;
    l->m = m;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    m->load = l;
    r = l->work->new (m, &l->arg);
    if (r == 0)
        r = -pthread_create(&l->runner, NULL, runner, l);
    l->has_runner = r == 0;
    if (r == 0)
        r = -pthread_create(&l->sampler, NULL, sampler, l);
    l->has_sampler = r == 0;
    if (r < 0 && m->ret->n_faults == 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "the load: %s", strerror(-r));
    return r;
}

static void wish(struct migration_load *l, enum wish w)
{
    pthread_mutex_lock(&l->lock);
    l->wish = w;
    if (w == RUN)
        l->is_paused = false;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

void migration_load_free(struct migration *m)
{
    struct migration_load *l = m->load;

    if (!l)
        return;
    wish(l, QUIT);
    if (l->has_runner) {
        l->work->interrupt(l->arg);
        pthread_join(l->runner, NULL);
    }
    if (l->has_sampler)
        pthread_join(l->sampler, NULL);
    m->ret->samples = l->samples;
    m->ret->n_samples = (unsigned)l->n_samples;
    if (l->arg)
        l->work->free(l->arg);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l);
    m->load = NULL;
}

int migration_load_resume(struct migration *m)
{
    if (!m->load)
        return 0;
    m->load->stall_ms = migration_request_ms(m);
    wish(m->load, RUN);
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

/* Told once, with the side that runs the device. */
static int tell_failure(struct migration *m, int r)
{
    struct migration_load *l = m->load;
    unsigned which = m->running[m->dst] && !m->running[m->src] ? m->dst : m->src;

    if (r >= 0 || l->is_told)
        return r;
    l->is_told = true;
    return migration_blame(m, migration_side_of(m, which), r, "the load: %s",
                           l->work->error(l->arg));
}

void migration_load_halt(struct migration *m)
{
    struct migration_load *l = m->load;

    if (!l || !l->has_runner)
        return;
    pthread_mutex_lock(&l->lock);
    l->wish = PAUSE;
    if (!l->is_paused)
        l->work->interrupt(l->arg);
    while (!l->is_paused)
        pthread_cond_wait(&l->changed, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

int migration_load_pause(struct migration *m)
{
    struct migration_load *l = m->load;
    int r;

    if (!l)
        return 0;
    migration_load_halt(m);
    pthread_mutex_lock(&l->lock);
    r = l->r;
    pthread_mutex_unlock(&l->lock);
    return tell_failure(m, r);
}

int migration_load_check(struct migration *m)
{
    struct migration_load *l = m->load;
    int r;

    if (!l)
        return 0;
    pthread_mutex_lock(&l->lock);
    r = l->is_paused ? l->r : 0;
    pthread_mutex_unlock(&l->lock);
    return tell_failure(m, r);
}

int migration_load_drain(struct migration *m)
{
    return m->load ? tell_failure(m, m->load->work->drain(m->load->arg, migration_request_ms(m)))
                   : 0;
}

int migration_load_set_mem(struct migration *m, struct gw_guest_mem *mem)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->n_drivers; i++)
        r = gw_driver_set_mem(m->drivers[i], mem);
    if (r == 0 && m->load)
        r = m->load->work->set_mem(m->load->arg, mem);
    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "the other memory lacks what is in use");
    return 0;
}

int migration_load_add(struct migration *m, gw_gpa_t gpa, uint64_t len)
{
    return m->load ? m->load->work->add(m->load->arg, gpa, len) : 0;
}

int migration_load_retire(struct migration *m, gw_gpa_t gpa)
{
    return m->load ? m->load->work->retire(m->load->arg, gpa) : 0;
}

int migration_load_remove(struct migration *m, gw_gpa_t gpa)
{
    return m->load ? tell_failure(m, m->load->work->remove(m->load->arg, gpa)) : 0;
}

int migration_load_check_held(struct migration *m)
{
    return m->load ? tell_failure(m, m->load->work->check_held(m->load->arg)) : 0;
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

bool migration_load_find(struct migration *m, gw_gpa_t gpa, struct gw_guest_load_place *ret)
{
    return m->load && m->load->work->find(m->load->arg, gpa, ret);
}

void migration_load_stats(struct migration *m)
{
    if (m->load && m->load->arg)
        m->load->work->stats(m->load->arg, m->ret);
}

int migration_load_verify(struct migration *m)
{
    return m->load ? m->load->work->verify(m->load->arg, m) : 0;
}
