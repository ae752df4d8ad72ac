/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A queue: ring, requests and fds, owned by one worker.
 *
 * Every function here runs on that worker unless its comment says otherwise; the control thread
 * calls it through the mailbox. With GW_SYNC_MUTEX and GW_SYNC_RWLOCK, threads of the embedder call
 * the public functions, and the queue's lock guards the members marked [lock].
 */
#pragma once

#include "base/list.h"
#include "base/log_i.h"
#include "core/inflight/inflight.h"
#include "core/loop/latch.h"
#include "core/loop/loop.h"
#include "core/loop/worker.h"
#include "core/memory/mem.h"
#include "evtchn.h"
#include "generation.h"
#include "request.h"
#include "ring.h"

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

/* What to log, and where. The session owns all of it. */
struct gw_dirty_log_state {
    struct gw_dirty_log *log; /* NULL: no SET_LOG_BASE yet */
    bool all;                 /* LOG_ALL: buffers are logged, and without a log nothing runs */
    int event_fd;             /* of SET_LOG_FD, -1: none */
};

/* What the previous back-end left (resume.c). */
struct gw_resume {
    struct gw_inflight_entry *resubmit; /* [lock] requests to pop before all others */
    unsigned n_resubmit, next_resubmit; /* [lock] */
    uint64_t first_suspended;           /* [lock] its position, or UINT64_MAX */
    bool ring_unmarked; /* [lock] its writes to the ring may be unmarked in the log */
    bool taken_over;    /* atomic: continues the inflight part of an earlier session */
};

struct gw_queue {
    struct gw_ring ring;      /* [lock] */
    const struct gw_map *map; /* [lock] */
    unsigned map_last;        /* [lock] lookup cache */
    struct gw_generation generation;
    uint64_t n_taken;                  /* [lock] heads ever taken off the ring */
    uint64_t now_ns;                   /* [lock] coarse time of the last pop */
    unsigned n_in_flight;              /* [lock] */
    uint32_t n_slots_left;             /* [lock] taken, but of no listed request (invariant.c) */
    uint64_t n_copied;                 /* [lock] bytes of buffers in flight that are copies */
    int64_t bytes_in_flight;           /* [lock] including the charge for long chains */
    int64_t bytes_in_flight_max;       /* this queue's share of GW_IN_FLIGHT_BYTES */
    int64_t turn_left;                 /* [lock] of GW_TURN_BYTES; INT64_MAX outside of a turn */
    int64_t room;                      /* [lock] bytes left, while a batch is popped */
    uint32_t request_bytes_max;        /* limit for one request */
    struct gw_list in_flight;          /* [lock] */
    struct gw_request_i *free;         /* [lock] */
    struct gw_segments *free_segments; /* [lock] */
    enum gw_queue_state state;         /* [lock] */
    bool enabled;                      /* [lock] */
    bool broken;                       /* [lock] see gw_queue_break */
    bool start_failed;                 /* a posted start failed: only the session has the base */
    bool abandoned;                 /* [lock] atomic: its session did not wait for its requests */
    bool polled;                    /* NOFD: there are no kicks */
    bool kicks_enabled;             /* [lock] */
    bool starved;                   /* [lock] the device left requests on the ring */
    bool made_progress;             /* [lock] a request was popped or ended in this turn */
    void *call_bell;                /* of the loop, for call_fd */
    bool called;                    /* [lock] call_fd was signalled, or should have been */
    int call_fd;                    /* [lock] */
    struct gw_evtchn *call_channel; /* [lock] instead of call_fd */
    struct gw_evtchn *kick_channel; /* owns the fd of `kick`; NULL: none */
    int err_fd;
    enum gw_queue_sync sync;
    struct gw_worker *worker;
    struct gw_list active_link; /* worker.active */
    struct gw_list dirty_link;  /* worker.dirty */
    uint64_t idle_since_ns;     /* 0: was busy in the last turn */
    uint64_t asleep_since_ns;
    unsigned poll_us;            /* adaptive poll time, up to that of the worker */
    struct gw_queue_stats stats; /* [lock] written with gw_count, read by any thread */
    uint64_t oldest_ns;          /* atomic: when the oldest in flight was popped, 0: none */
    struct gw_source kick;
    enum gw_queue_stop stop;  /* [lock] valid while stopping */
    int stop_error;           /* [lock] of the last stop: 0, or what the device reported */
    bool queue_stop_due;      /* [lock] queue_stop of the device must still be called */
    struct gw_latch *drained; /* [lock] counted when the stop is complete */
    uint8_t *pool;            /* [lock] all requests */
    unsigned n_pooled;        /* [lock] requests of the pool used so far */
    unsigned pool_size;
    struct vring_desc *table; /* buffer for an indirect table that has to be copied */
    struct gw_tables *tables; /* fetched tables of the current batch; NULL: never needed */
    size_t request_size;      /* bytes for the device in each request */
    struct gw_post wake;
    bool wake_posted;            /* atomic */
    struct gw_inflight inflight; /* [lock] for recovery after a crash */
    struct gw_resume resume;
    bool in_order;                       /* IN_ORDER: used in the order of n_taken */
    struct gw_request_i *completed;      /* [lock] to be marked and published; list by next_free */
    struct gw_dirty_log_state dirty_log; /* [lock] */
    uint64_t log_lost;                   /* [lock] lost marks reported so far */
    bool log_used;                       /* [lock] VHOST_VRING_F_LOG */
    bool unlogged;            /* [lock] memory was written after LOG_ALL, without a log */
    gw_gpa_t log_addr;        /* [lock] */
    unsigned n_answered;      /* [lock] since the last publish */
    unsigned publish_step;    /* the worker publishes at this n_answered; 0: not yet known */
    bool partially_published; /* [lock] published, but not yet notified */
    bool call_due;            /* [lock] the driver wants to be notified */
    const struct gw_device_ops *ops;
    void *dev;
    struct gw_log *log;
    unsigned index, size_max;
    pthread_mutex_t mutex;
    pthread_rwlock_t rwlock;
};

/* Initialize a stopped, disabled queue, after make_queues set its part. Context: any thread. */
void gw_queue_init(struct gw_queue *q);
void gw_queue_done(struct gw_queue *q);

/* ---- for the control thread ---- */

/* The parameters of a start. */
struct gw_queue_start {
    struct gw_ring_config ring;
    const struct gw_map *map;
    uint64_t features;
    void *inflight;         /* its part of the inflight region, or NULL */
    uint16_t inflight_size; /* capacity of the part, in requests */
    int kick_fd;            /* consumed; -1: polled, or kicked by a channel */
    struct gw_evtchn_name kick_channel;
    bool is_first;  /* of this queue in the session */
    bool is_posted; /* no thread waits for the result, so a failure breaks the queue */
    char why[160];  /* the reason of a failure, because gw_last_error belongs to the worker */
};

/* Returns: 0; -EINVAL, -EFAULT, -ENOMEM, -EBUSY, -ECANCELED, with the reason in start->why. */
int gw_queue_start(struct gw_queue *q, struct gw_queue_start *start);
void gw_queue_set_enabled(struct gw_queue *q, bool enabled);
/* Notify the channel instead of an fd. Returns: 0; as gw_evtchn_bind. */
int gw_queue_set_call_channel(struct gw_queue *q, const struct gw_evtchn_name *name);
/* Both consume the fd; -1: none. */
void gw_queue_set_call(struct gw_queue *q, int fd);
void gw_queue_set_err(struct gw_queue *q, int fd);

/*
 * Use `log` from now on. On return, everything written before is marked in the old log, which is no
 * longer in use.
 */
void gw_queue_set_log(struct gw_queue *q, const struct gw_dirty_log_state *log);
/* Log writes to the used ring at guest address `addr`, or do not log them. */
void gw_queue_set_ring_log(struct gw_queue *q, bool log_used, gw_gpa_t addr);

/*
 * Stop: `latch` is counted when nothing is in flight and everything is published, at once for a
 * stopped queue. gw_queue_forget drops the latches when their owner no longer waits.
 */
void gw_queue_stop(struct gw_queue *q, struct gw_latch *latch, enum gw_queue_stop how);
/* The result of a stop whose latch has opened. Returns: 0; the device's error, gw_last_error. */
int gw_queue_stop_result(const struct gw_queue *q);
void gw_queue_forget(struct gw_queue *q);

/* End of the session: close all fds and disable the queue. Late requests do not write to a ring. */
void gw_queue_reset(struct gw_queue *q);

/* ---- for the worker ---- */

enum gw_queue_turn gw_queue_run(struct gw_queue *q);
