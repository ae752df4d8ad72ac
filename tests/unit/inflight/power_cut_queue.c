/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See power_cut.h: the library's queue on a worker whose thread is single-stepped. */
#include "power_cut.h"

#include "base/proto.h"
#include "core/queue/queue.h"
#include "on_worker.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct power_cut_queue {
    const struct power_cut_config *cfg;
    struct power_cut_mem *mem;
    struct gw_device_ops ops;
    struct gw_log log;
    struct gw_worker worker;
    struct gw_post turn;
    struct gw_queue queue;
    struct gw_queue_start start;
    struct gw_request *held[POWER_CUT_SIZE_MAX]; /* the oldest first */
    unsigned n_held;
    unsigned n_popped;
    unsigned seed;
};

static void die(const char *why)
{
    (void)!write(STDERR_FILENO, why, strlen(why));
    _exit(EXIT_FAILURE);
}

static void complete_one(struct power_cut_queue *t, unsigned at)
{
    gw_request_complete(t->held[at], (uint32_t)t->held[at]->writable_len);
    t->n_held--;
    for (unsigned i = at; i < t->n_held; i++)
        t->held[i] = t->held[i + 1];
}

static void pop_some(struct power_cut_queue *t)
{
    unsigned n =
        gw_queue_pop(&t->queue, t->held + t->n_held, 1 + power_cut_random(&t->seed, t->cfg->size));

    if (n > 0 && power_cut_random(&t->seed, 4) == 0 &&
        gw_request_unpop(t->held[t->n_held + n - 1]) == 0)
        n--;
    t->n_held += n;
    t->n_popped += n;
}

/* One turn of the worker, which publishes at its end; posts the next turn. */
static void turn(struct gw_post *post)
{
    struct power_cut_queue *t = gw_container_of(post, struct power_cut_queue, turn);

    power_cut_ask_driver(t->mem);
    if (t->cfg->life == 0 && t->n_popped == t->cfg->n_reqs && t->n_held == 0)
        _exit(EXIT_SUCCESS);
    pop_some(t);
    for (unsigned i = 1 + power_cut_random(&t->seed, t->cfg->batch); i > 0 && t->n_held > 0; i--) {
        complete_one(t, power_cut_random(&t->seed, t->n_held));
        if (power_cut_random(&t->seed, 4) == 0)
            pop_some(t);
    }
    if (gw_worker_post(&t->worker, &t->turn) < 0)
        die("post\n");
}

static int start(void *arg)
{
    struct power_cut_queue *t = arg;

    power_cut_step_here();
    if (gw_queue_start(&t->queue, &t->start) < 0)
        die(t->start.why);
    gw_queue_set_enabled(&t->queue, true);
    t->turn.run = turn;
    turn(&t->turn);
    return 0;
}

/* Nothing to do: turn() pops the requests. */
static int queue_ready(void *dev, struct gw_queue *q)
{
    (void)dev;
    (void)q;
    return 0;
}

static void note(void *arg, enum gw_log_level level, const char *message)
{
    (void)arg;
    (void)level;
    (void)message;
}

static uint64_t features_of(const struct power_cut_config *cfg)
{
    return GW_BIT(GW_F_VERSION_1) | (cfg->packed ? GW_BIT(GW_F_RING_PACKED) : 0) |
           (cfg->in_order ? GW_BIT(GW_F_IN_ORDER) : 0);
}

void power_cut_queue_main(const struct power_cut_config *cfg,
                          const struct power_cut_fixture *fixture)
{
    static struct power_cut_queue t;

    t.cfg = cfg;
    t.mem = fixture->mem;
    t.seed = cfg->seed;
    t.ops = (struct gw_device_ops){.size = sizeof(t.ops), .queue_ready = queue_ready};
    gw_log_init(&t.log, note, NULL, GW_LOG_WARNING, "power_cut");
    t.worker.log = &t.log;
    t.worker.loop_kind = GW_LOOP_EPOLL;
    t.queue.worker = &t.worker;
    t.queue.ops = &t.ops;
    t.queue.log = &t.log;
    t.queue.limits.ring_size = POWER_CUT_SIZE_MAX;
    t.queue.limits.request_bytes = UINT32_MAX;
    t.queue.limits.bytes_in_flight = INT64_MAX;
    t.start = (struct gw_queue_start){
        .ring = power_cut_ring_config(cfg),
        .map = fixture->map,
        .features = features_of(cfg),
        .inflight = fixture->mem->state.part,
        .inflight_size = (uint16_t)cfg->size,
        .kick.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
    };
    if (t.start.kick.fd < 0 || gw_worker_start(&t.worker) < 0)
        die("worker\n");
    gw_queue_init(&t.queue);
    (void)worker_call(&t.worker, start, &t);
    pause(); /* the worker exits the process, or the parent kills it */
}
