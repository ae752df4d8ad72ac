/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A queue: ring, requests and fds, owned by one worker.
 *
 * Every function here runs on that worker, if it does not say otherwise; the control thread calls
 * them through the mailbox. Under GW_SYNC_MUTEX and GW_SYNC_RWLOCK, threads of the embedder come
 * in through the public functions, and `lock` guards what is marked [lock].
 */
#pragma once

#include "base/diag_i.h"
#include "base/list.h"
#include "core/inflight/inflight.h"
#include "core/loop/latch.h"
#include "core/loop/loop.h"
#include "core/loop/worker.h"
#include "core/memory/mem.h"
#include "evtchn.h"
#include "request.h"
#include "ring.h"

#include <godwit/queue.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* What a queue did with its turn; worker.c takes the greatest of its queues. */
enum gw_queue_turn {
    GW_QUEUE_ASLEEP = 0, /* a kick will wake it */
    GW_QUEUE_RESTING,    /* polled, and silent for a while: look again soon */
    GW_QUEUE_LOOKING,    /* found nothing, looks again at once */
    GW_QUEUE_WORKED,
};

enum gw_queue_state {
    GW_QUEUE_STOPPED = 0,
    GW_QUEUE_STARTED,
    GW_QUEUE_STOPPING, /* fetches nothing more, waits for what is in flight */
};

/* How what is in flight ends when a queue stops. */
enum gw_queue_stop {
    GW_STOP_DRAIN = 0, /* it is answered */
    GW_STOP_SUSPEND,   /* where it is tracked it may be left to the next back-end */
    GW_STOP_LOST,      /* likewise; nobody is there to learn where the ring was */
};

/* What is to be logged, and where. All of it belongs to the session. */
struct gw_log_state {
    struct gw_dirty_log *log; /* NULL: no base yet */
    bool all;                 /* LOG_ALL: buffers are logged, and without a base nothing runs */
    int event_fd;             /* of SET_LOG_FD, -1: none */
};

struct gw_queue {
    struct gw_ring ring;               /* [lock] */
    const struct gw_map *map;          /* [lock] */
    unsigned map_last;                 /* [lock] lookup cache */
    uint64_t epoch;                    /* [lock] the last change that was adopted (change.c) */
    uint64_t told;                     /* atomic: the last that is on its way */
    uint64_t settled;                  /* atomic: up to here, what was replaced is not in use */
    uint64_t n_taken;                  /* [lock] heads ever taken off the ring */
    uint64_t now_ns;                   /* [lock] coarse time of the last pop */
    unsigned n_in_flight;              /* [lock] */
    uint32_t n_slots_left;             /* [lock] taken, of no request in flight (invariant.c) */
    unsigned n_old;                    /* [lock] of those, born in an older epoch */
    uint64_t n_copied;                 /* [lock] bytes of those whose buffers are copies */
    int64_t bytes_in_flight;           /* [lock] and what long and bad chains are charged */
    int64_t bytes_in_flight_max;       /* this queue's part of GW_IN_FLIGHT_BYTES */
    int64_t turn_left;                 /* [lock] of GW_TURN_BYTES; INT64_MAX outside of a turn */
    int64_t room;                      /* [lock] in bytes, while a batch is popped */
    uint32_t request_bytes_max;        /* of one request */
    struct gw_list in_flight;          /* [lock] */
    struct gw_request_i *free;         /* [lock] */
    struct gw_segments *free_segments; /* [lock] */
    enum gw_queue_state state;         /* [lock] */
    bool enabled;                      /* [lock] */
    bool broken;                       /* [lock] the driver's index was impossible */
    bool start_failed;                 /* and it was posted: there is no base but the session's */
    bool abandoned;                 /* [lock] atomic: its session did not wait for its requests */
    bool polled;                    /* NOFD: nobody kicks */
    bool kicks_enabled;             /* [lock] */
    bool parked;                    /* [lock] the device leaves requests waiting */
    bool moved;                     /* [lock] something was popped or ended in this turn */
    void *call_bell;                /* of the loop, for call_fd */
    bool called;                    /* [lock] call_fd was written to, or should have been */
    int call_fd;                    /* [lock] */
    struct gw_evtchn *call_channel; /* [lock] instead of call_fd */
    struct gw_evtchn *kick_channel; /* whose fd kick has, or NULL */
    int err_fd;
    enum gw_queue_sync sync;
    struct gw_worker *worker;
    struct gw_list active_link; /* worker.active */
    struct gw_list dirty_link;  /* worker.dirty */
    uint64_t idle_since_ns;     /* 0: was busy in the last turn */
    uint64_t asleep_since_ns;
    unsigned poll_us;            /* what is left of the worker's after it found nothing */
    struct gw_queue_stats stats; /* [lock] written with gw_count, read by anyone */
    uint64_t oldest_ns;          /* atomic: when the oldest in flight was popped, 0: none */
    struct gw_source kick;
    enum gw_queue_stop stop;  /* [lock] how, while it is stopping */
    bool taken_over;          /* atomic: its requests are tracked since an earlier session */
    int stop_error;           /* [lock] of the last stop: 0, or what the device reported */
    bool stop_untold;         /* [lock] the device does not know of it yet */
    struct gw_latch *drained; /* [lock] who waits for the stop */
    struct gw_latch *adopted; /* [lock] who waits for the requests of an older epoch */
    int settled_fd;           /* an eventfd to write to where nobody does, -1: none */
    uint8_t *pool;            /* [lock] all requests */
    unsigned n_pooled;        /* [lock] of them, ever used */
    unsigned pool_size;
    struct vring_desc *table; /* an indirect table that had to be put together */
    struct gw_tables *tables; /* those of the chains that are being popped; NULL: never any */
    size_t request_size;      /* of the device's own bytes */
    struct gw_post wake;
    bool wake_posted;                /* atomic */
    struct gw_inflight inflight;     /* [lock] what a crash leaves behind */
    struct gw_inflight_entry *again; /* [lock] was left behind: to be done first */
    unsigned n_again, next_again;    /* [lock] */
    uint64_t first_suspended;        /* [lock] its position, or UINT64_MAX */
    bool ring_unmarked;              /* [lock] as the back-end before may have left it */
    bool in_order;                   /* IN_ORDER: used in the order of n_taken */
    struct gw_request_i *completed;  /* [lock] by next_free: to be marked and published */
    struct gw_log_state log;         /* [lock] */
    uint64_t log_lost;               /* [lock] marks lost that were told */
    bool log_used;                   /* [lock] VHOST_VRING_F_LOG */
    bool unlogged;                   /* [lock] something was written between LOG_ALL and its base */
    gw_gpa_t log_addr;               /* [lock] */
    unsigned n_answered;             /* [lock] since something was published */
    unsigned publish_step;           /* the worker's: publish after so many; 0: to be found out */
    bool shown_in_parts;             /* [lock] published, and the driver not notified yet */
    bool call_due;                   /* [lock] and it wants to be */
    const struct gw_device_ops *ops;
    void *dev;
    struct gw_diag *diag;
    unsigned index, size_max;
    pthread_mutex_t mutex;
    pthread_rwlock_t rwlock;
};

/* Make a stopped, disabled queue; what make_queues sets is set. Context: any thread. */
void gw_queue_init(struct gw_queue *q);
void gw_queue_done(struct gw_queue *q);

/* ---- what the control thread asks for ---- */

/* The fds and ring of a start. */
struct gw_queue_start {
    struct gw_ring_config ring;
    const struct gw_map *map;
    uint64_t features;
    void *inflight;         /* its part of the inflight region, or NULL */
    uint16_t inflight_size; /* requests it has room for */
    int kick_fd;            /* consumed; -1: polled, or kicked by a channel */
    struct gw_evtchn_name kick_channel;
    bool is_first;  /* of the session, for this queue */
    bool is_posted; /* nobody waits to learn that it fails; the queue is broken then */
    char why[160];  /* when it fails: gw_last_error belongs to the worker */
};

/* Returns: 0; -EINVAL, -EFAULT, -ENOMEM, -EBUSY, -ECANCELED, and start->why tells why. */
int gw_queue_start(struct gw_queue *q, struct gw_queue_start *start);
void gw_queue_set_enabled(struct gw_queue *q, bool enabled);
/* Instead of the fd, the channel is notified. Returns: 0; as gw_evtchn_bind. */
int gw_queue_set_call_channel(struct gw_queue *q, const struct gw_evtchn_name *name);
/* Both consume the fd; -1: none. */
void gw_queue_set_call(struct gw_queue *q, int fd);
void gw_queue_set_err(struct gw_queue *q, int fd);

/*
 * Log so from now on. When it returns, everything written before is marked in the old log, and the
 * old one is not used any more.
 */
void gw_queue_set_log(struct gw_queue *q, const struct gw_log_state *log);
/* Log writes to the used ring at guest address `addr`, or not. */
void gw_queue_set_ring_log(struct gw_queue *q, bool log_used, gw_gpa_t addr);

/*
 * Stop: `latch` is counted when nothing is in flight and everything is published, at once for a
 * stopped queue. gw_queue_forget takes latches back when their owner waits no longer.
 */
void gw_queue_stop(struct gw_queue *q, struct gw_latch *latch, enum gw_queue_stop how);
/* After the latch of a stop opened. Returns: 0; the device's error, with gw_last_error. */
int gw_queue_stop_result(const struct gw_queue *q);
/* Use `map` from now on. */
void gw_queue_adopt_map(struct gw_queue *q, const struct gw_map *map);
/*
 * What was adopted begins epoch `number`. When no request of an older one is in flight, what it
 * replaced is not in use any more: `settled` is that number then, and `latch`, if any, is counted.
 */
void gw_queue_settle(struct gw_queue *q, uint64_t number, struct gw_latch *latch);
void gw_queue_forget(struct gw_queue *q);

/* The session is over: no fds, disabled. Requests that are still out write to no ring any more. */
void gw_queue_reset(struct gw_queue *q);

/* ---- what the worker does ---- */

enum gw_queue_turn gw_queue_run(struct gw_queue *q);
