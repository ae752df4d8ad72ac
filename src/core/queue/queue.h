/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A queue: ring, requests and fds, owned by one worker.
 *
 * Every function here runs on that worker unless its comment says otherwise; the control worker
 * calls it through the mailbox. With GW_SYNC_MUTEX and GW_SYNC_RWLOCK, threads of the embedder call
 * the public functions, and the queue's lock guards the members marked [lock].
 */
#pragma once

#include "base/list.h"
#include "base/log_i.h"
#include "complete.h"
#include "core/inflight/inflight.h"
#include "core/inflight/resume.h"
#include "core/loop/latch.h"
#include "core/loop/loop.h"
#include "core/loop/worker.h"
#include "core/memory/mem.h"
#include "core/ring/ring.h"
#include "core/translation/translation.h"
#include "generation.h"
#include "move.h"
#include "notifier.h"
#include "request.h"

#include <godwit/queue.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* The result of a queue's turn; worker.c uses the greatest of its queues. */
enum gw_queue_turn {
    GW_QUEUE_ASLEEP = 0, /* a kick will wake it */
    GW_QUEUE_RESTING,    /* polled, and idle for a while: poll again soon */
    GW_QUEUE_POLLING,    /* found nothing: poll again at once */
    GW_QUEUE_WORKED,
};

enum gw_queue_state {
    GW_QUEUE_STOPPED = 0,
    GW_QUEUE_STARTED,
    GW_QUEUE_STOPPING, /* pops no new requests, waits for those in flight */
};

/* What happens to the requests in flight when a queue stops. */
enum gw_queue_stop {
    GW_STOP_DRAIN = 0, /* the device completes them */
    GW_STOP_SUSPEND,   /* the device may leave tracked requests to the next back-end */
    GW_STOP_LOST,      /* likewise; no front-end receives the base of the ring */
};

/* The turns of the queue on its worker: active, polled, or asleep until a kick. */
struct gw_queue_poll {
    struct gw_list link;    /* worker.active */
    bool always;            /* NOFD: there are no kicks */
    bool kicks_enabled;     /* [lock] */
    bool starved;           /* [lock] the device left requests on the ring */
    bool made_progress;     /* [lock] a request was popped or ended in this turn */
    unsigned us;            /* adaptive poll time, up to that of the worker */
    uint64_t idle_since_ns; /* 0: was busy in the last turn */
    uint64_t asleep_since_ns;
    struct gw_post wake; /* activates the queue */
    bool wake_posted;    /* atomic */
};

/* What the queue logs in addition to the buffers of completed requests. */
struct gw_queue_logging {
    bool used;          /* [lock] VHOST_VRING_F_LOG: writes to the used ring */
    bool unlogged;      /* [lock] memory was written after LOG_ALL, without a log */
    gw_gpa_t used_addr; /* [lock] */
    uint64_t n_lost;    /* [lock] lost marks reported so far */
};

/* A stop, valid while stopping; `error` until the next start. */
struct gw_queue_stopping {
    enum gw_queue_stop how; /* [lock] */
    int error;              /* [lock] of the last stop: 0, or what the device reported */
    bool callback_due;      /* [lock] queue_stop of the device must still be called */
    struct gw_latch *latch; /* [lock] counted when the stop is complete */
};

/* What the device still does for a start or a stop (delay.c). */
struct gw_queue_delay {
    struct gw_queue_start *start; /* [lock] the start; its latch is counted at its end */
    bool stop;                    /* [lock] the stop */
    uint64_t since_ns;            /* atomic: when it began; 0: the device is not late */
};

/* What most requests use comes first. */
struct gw_queue {
    struct gw_ring ring;       /* [lock] */
    const struct gw_map *map;  /* [lock] */
    unsigned map_last;         /* [lock] lookup cache */
    enum gw_queue_state state; /* [lock] */
    enum gw_queue_sync sync;
    bool enabled;             /* [lock] */
    bool broken;              /* [lock] see gw_queue_break */
    bool start_failed;        /* a posted start failed: only the session has the base */
    bool abandoned;           /* [lock] atomic: its session did not wait for its requests */
    struct gw_worker *worker; /* [lock] written by a move; atomic for readers without the lock */
    struct gw_in_flight in_flight;
    struct gw_limits limits;
    struct gw_pool pool;
    struct gw_batch batch;
    struct gw_translation *translation;  /* [lock] NULL: addresses are not translated */
    struct gw_dirty_log_state dirty_log; /* [lock] */
    struct gw_queue_logging logging;
    struct gw_inflight inflight; /* [lock] for recovery after a crash */
    struct gw_resume resume;
    struct gw_generation generation;
    struct gw_queue_stats stats; /* [lock] written with gw_count, read by any thread */
    struct gw_queue_poll poll;
    struct gw_queue_move move;
    const struct gw_device_ops *ops;
    void *dev;
    struct gw_log *log;
    struct gw_daemon *daemon; /* NULL: a test without a daemon */
    unsigned index;
    unsigned n_holds;        /* [lock] atomic: holds on guest memory, which end like requests */
    struct gw_notifier call; /* [lock] */
    struct gw_notifier kick;
    struct gw_notifier err; /* [lock] */
    struct gw_inband inband;
    struct gw_queue_stopping stop;
    struct gw_queue_delay delay;
    struct {
        pthread_mutex_t mutex;
        pthread_rwlock_t rwlock;
    } locks; /* of the sync policies */
};

/* Initialize a stopped, disabled queue, after make_queues set its part. Context: any thread. */
void gw_queue_init(struct gw_queue *q);
void gw_queue_done(struct gw_queue *q);

/* ---- for the control worker ---- */

/* The parameters of a start. */
struct gw_queue_start {
    struct gw_ring_config ring;
    const struct gw_map *map;
    const struct gw_iotlb *iotlb; /* NULL: addresses are not translated */
    struct gw_iotlb_misses *misses;
    uint64_t features;
    void *inflight;               /* its part of the inflight region, or NULL */
    uint16_t inflight_size;       /* capacity of the part, in requests */
    struct gw_notifier_name kick; /* the fd is consumed; none: the ring is polled */
    unsigned in_band;             /* GW_INBAND_* that are sent as messages */
    bool is_first;                /* of this queue in the session */
    bool is_posted; /* no thread waits for the result, so a failure breaks the queue */
    char why[160];  /* the reason of a failure, because gw_last_error belongs to the worker */
    struct gw_latch *latch; /* counted, after -EINPROGRESS, with the result */
};

/*
 * Returns: 0; -EINVAL, -EFAULT, -ENOMEM, -EBUSY, -ECANCELED, with the reason in start->why;
 * -EINPROGRESS if the device takes time: `start` must stay valid until start->latch is counted.
 */
int gw_queue_start(struct gw_queue *q, struct gw_queue_start *start);
/* The number of its holds on guest memory. Any thread. */
static inline unsigned gw_queue_n_holds(const struct gw_queue *q)
{
    return __atomic_load_n(&q->n_holds, __ATOMIC_RELAXED);
}
/* For how long the device has delayed a start or stop, in ns; 0: it does not. Any thread. */
uint64_t gw_queue_delayed_ns(const struct gw_queue *q, bool *ret_is_start);
void gw_queue_set_enabled(struct gw_queue *q, bool enabled);
/* Replace the notifier. Both consume the fd. Returns: 0; as gw_evtchn_bind, and nothing changes. */
int gw_queue_set_call(struct gw_queue *q, struct gw_notifier_name *name);
int gw_queue_set_err(struct gw_queue *q, struct gw_notifier_name *name);

/*
 * Use `log` from now on. On return, everything written before is marked in the old log, which is no
 * longer in use.
 */
void gw_queue_set_log(struct gw_queue *q, const struct gw_dirty_log_state *log);
/* Log writes to the used ring at guest address `addr`, or do not log them. */
void gw_queue_set_ring_log(struct gw_queue *q, bool log_used, gw_gpa_t addr);

/*
 * Stop: `latch` is counted when nothing is in flight and everything is published, at once for a
 * stopped queue; with -ECANCELED when another stop replaces it.
 */
void gw_queue_stop(struct gw_queue *q, struct gw_latch *latch, enum gw_queue_stop how);
/* The result of a stop whose latch has opened. Returns: 0; the device's error, gw_last_error. */
int gw_queue_stop_result(const struct gw_queue *q);

/* End of the session: close all fds and disable the queue. Late requests do not write to a ring. */
void gw_queue_reset(struct gw_queue *q);

/* ---- for the worker ---- */

enum gw_queue_turn gw_queue_run(struct gw_queue *q);
