/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Making and freeing a set of workers. */
#include "workers.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/struct_sizes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define THREAD_NAME_SIZE 16 /* of pthread_setname_np(3) */

/* One worker of a set, and what it refers to. */
struct member {
    struct gw_worker worker;
    unsigned cpu;
    char name[THREAD_NAME_SIZE];
};

struct gw_workers {
    struct gw_log log;
    unsigned n;
    struct member members[];
};

static void set_name(struct member *m, const struct gw_workers_config *cfg, const char *thread_name)
{
    const char *prefix = cfg->name ? cfg->name : "gw-worker";
    char number[12];
    int n = snprintf(number, sizeof(number), "-%u", m->worker.index);

    /* The number stays whole; a long prefix is cut. */
    if (thread_name)
        snprintf(m->name, sizeof(m->name), "%s", thread_name);
    else
        snprintf(m->name, sizeof(m->name), "%.*s%s", THREAD_NAME_SIZE - 1 - n, prefix, number);
    m->worker.name = m->name;
}

static void free_set(struct gw_workers *ws)
{
    for (unsigned i = 0; i < ws->n; i++)
        gw_worker_end(&ws->members[i].worker);
    gw_log_done(&ws->log);
    free(ws);
}

int gw_workers_make(struct gw_workers **ret, const struct gw_workers_config *cfg,
                    struct gw_log *log, const char *thread_name)
{
    unsigned n = cfg->num_workers ? cfg->num_workers : 1;
    struct gw_workers *ws = calloc(1, sizeof(*ws) + n * sizeof(ws->members[0]));

    if (!ws)
        return gw_fail(-ENOMEM, "no memory for %u workers", n);
    gw_log_init(&ws->log, cfg->log, cfg->log_arg, cfg->log_level, "workers");
    while (ws->n < n) {
        struct member *m = &ws->members[ws->n];
        int r;

        m->worker.log = log ? log : &ws->log;
        m->worker.loop_kind = cfg->loop;
        m->worker.poll_us = cfg->poll_us;
        m->worker.is_external = cfg->external;
        m->worker.index = ws->n;
        if (cfg->cpus) {
            m->cpu = cfg->cpus[ws->n];
            m->worker.cpu = &m->cpu;
        }
        set_name(m, cfg, thread_name);
        r = gw_worker_start(&m->worker);
        if (r < 0) {
            free_set(ws);
            return r;
        }
        ws->n++;
    }
    *ret = ws;
    return 0;
}

int gw_workers_new(struct gw_workers **ret, const struct gw_workers_config *given)
{
    struct gw_workers_config cfg;
    int r;

    if (!given)
        return gw_fail(-EINVAL, "workers need a config");
    r = gw_copy_struct(&cfg, sizeof(cfg), given, GW_FIRST_WORKERS_CONFIG);
    if (r < 0)
        return gw_fail(r, r == -E2BIG ? "config of a later version asks for something this "
                                        "version cannot do"
                                      : "size of config is not set, or too small");
    if (cfg.num_workers > GW_WORKERS_MAX)
        return gw_fail(-EINVAL, "%u workers are more than %d", cfg.num_workers, GW_WORKERS_MAX);
    if ((unsigned)cfg.loop > GW_LOOP_EPOLL)
        return gw_fail(-EINVAL, "unknown loop");
    if (cfg.external && (cfg.cpus || cfg.name))
        return gw_fail(-EINVAL, "external workers have no threads to name or to bind to CPUs");
    return gw_workers_make(ret, &cfg, NULL, NULL);
}

static int check_free(const struct gw_worker *w)
{
    if (__atomic_load_n(&w->n_daemons, __ATOMIC_ACQUIRE) > 0)
        return gw_fail(-EBUSY, "a daemon still uses worker %u", w->index);
    if (w->is_external)
        return gw_worker_check_external(w, "gw_workers_free");
    if (gw_worker_is_running(w))
        return gw_fail(-EBUSY, "gw_workers_free: called in a callback of worker %u", w->index);
    return 0;
}

int gw_workers_free(struct gw_workers *ws)
{
    if (!ws)
        return 0;
    for (unsigned i = 0; i < ws->n; i++) {
        int r = check_free(&ws->members[i].worker);

        if (r < 0)
            return r;
    }
    free_set(ws);
    return 0;
}

struct gw_worker *gw_workers_get(struct gw_workers *ws, unsigned index)
{
    return index < ws->n ? &ws->members[index].worker : NULL;
}
