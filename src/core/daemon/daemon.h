/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The daemon and its session. The control thread owns all of a session; workers see none of it.
 */
#pragma once

#include "base/checked.h"
#include "base/log_i.h"
#include "base/proto.h"
#include "core/loop/worker.h"
#include "core/memory/mem.h"
#include "core/queue/queue.h"
#include "core/session/socket.h"
#include "listener.h"

#include <godwit/device.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* What the front-end told of one ring so far. */
struct gw_vring {
    struct gw_ring_config config;
    bool has_addr;
    bool has_base;
    bool log_used; /* writes to the used ring are logged, at log_addr */
    gw_gpa_t log_addr;
    bool started;
    bool was_started; /* in this session */
    bool is_stopping; /* by a RESET_DEVICE that was refused: no start until a stop succeeds */
};

/* One connection, from accept to hang-up. */
struct gw_session {
    int fd;
    int backend_fd; /* the back-end channel, -1: none */
    bool heard;     /* the front-end has said something */
    bool has_rival; /* another front-end has connected, which was logged */
    uint64_t features;
    uint64_t protocol_features;
    struct gw_map *map;     /* never NULL during a session */
    struct gw_map *pending; /* of postcopy: what it becomes once the front-end acknowledges it */
    struct gw_mem_watch *owners; /* of its memory; NULL: nobody watches them */
    struct gw_postcopy postcopy;
    struct gw_dirty_log_state dirty_log;
    struct gw_inflight_region inflight;
    struct gw_rx rx;
    struct gw_vring vrings[GW_QUEUES_MAX];
    uint64_t first_change; /* those up to that number are of sessions before */
};

/* Change of a map or log whose predecessor may be in use yet (change.c). */
struct gw_change;

/* More of them are waited for in postcopy, and refused if requests that never end keep them. */
#define GW_CHANGES_KEPT_MAX 16

struct gw_daemon {
    struct gw_device_ops ops;
    void *dev;
    struct gw_log log;
    char *name;
    unsigned num_queues;
    unsigned queue_size_max;
    unsigned num_workers;
    uint64_t drain_timeout_ns;
    bool has_postcopy;        /* it is offered */
    unsigned mem_caps;        /* of the memory backend, on this machine */
    unsigned xen_cache_pages; /* as gw_region_desc.cache_pages */
    struct gw_queue *queues;
    struct gw_worker *workers;

    /* The control thread. */
    pthread_t thread;
    int tid; /* atomic; 0 before it runs and after its end */
    bool started;
    bool single; /* ends with its first session */
    struct gw_listener listener;
    char *client_path; /* where the front-end listens, if it is connected to again and again */
    unsigned reconnect_max_ms; /* 0: it is not */
    int result;
    struct gw_session session;
    uint64_t n_changes;        /* ever */
    struct gw_change *changes; /* the oldest first */
    struct gw_change **changes_end;
    unsigned n_kept; /* of them */

    /* What others tell the control thread; they write `control_fd` then. */
    int control_fd;        /* eventfd */
    bool stopping;         /* atomic */
    bool config_changed;   /* atomic */
    struct gw_loss loss;   /* of memory that the session has mapped */
    struct gw_loss *guard; /* &loss; NULL: the embedder has declined */
};

static inline bool gw_session_has(const struct gw_session *s, enum gw_virtio_feature bit)
{
    return (s->features & GW_BIT(bit)) != 0;
}

static inline bool gw_session_has_protocol(const struct gw_session *s, enum gw_protocol_feature bit)
{
    return (s->protocol_features & GW_BIT(bit)) != 0;
}

static inline bool gw_daemon_is_stopping(const struct gw_daemon *d)
{
    return __atomic_load_n(&d->stopping, __ATOMIC_ACQUIRE);
}

/* What this daemon offers. */
uint64_t gw_daemon_features(const struct gw_daemon *d);
uint64_t gw_daemon_protocol_features(const struct gw_daemon *d);

/*
 * Serve a session until it ends. Consumes `fd`.
 * Returns: 0 after a hang-up or gw_daemon_stop; -EPROTO after a fault of the front-end.
 */
int gw_session_run(struct gw_daemon *d, int fd);

/* The control thread of a daemon that was started. `arg` is the daemon. */
void *gw_control_main(void *arg);

/* Run `fn(q, arg)` for every queue, on its worker. */
void gw_daemon_each_queue(struct gw_daemon *d, void (*fn)(struct gw_queue *q, void *arg),
                          void *arg);

/*
 * Ask something of a worker: run `fn` there. In postcopy the worker may be waiting for a page, so
 * it is sent a copy of `arg`, of `size` bytes, and what that holds belongs to `fn`. Whatever is
 * asked is done in the order of asking, also by what waits for its answer.
 * Returns: what `fn` returns, which is nobody's in postcopy; then 0.
 */
int gw_daemon_ask(struct gw_daemon *d, struct gw_worker *w, int (*fn)(void *arg), void *arg,
                  size_t size);
/* The same of every queue; `arg` stays where it is until all of them have run `fn`. */
void gw_daemon_tell_queues(struct gw_daemon *d, void (*fn)(struct gw_queue *q, void *arg),
                           void *arg);

/*
 * Wait for a latch that queues count, telling what takes so long. On -ETIMEDOUT no queue knows the
 * latch any more.
 */
int gw_daemon_drain(struct gw_daemon *d, struct gw_latch *latch, const char *what);

/* Stop every queue. Returns: 0; -ETIMEDOUT, some go on stopping. */
int gw_daemon_stop_queues(struct gw_daemon *d, enum gw_queue_stop how);

/* ctl_postcopy.c: may guest memory be missing? What workers start from now on goes by that. */
void gw_daemon_expect_faults(struct gw_daemon *d, bool may_fault);

/*
 * Replace the map of all queues, and free the old one when nobody uses it. Consumes `map`.
 * Returns: 0; -ETIMEDOUT, and requests of the old one go on; -EBUSY, when requests keep more than
 * GW_CHANGES_KEPT_MAX replaced ones; -ENOMEM.
 */
int gw_daemon_replace_map(struct gw_daemon *d, struct gw_map *map);
/* The same in postcopy, where nobody is waited for. */
int gw_daemon_post_map(struct gw_daemon *d, struct gw_map *map);
/* The session is over; are there requests that may still write to its memory? */
void gw_daemon_end_map(struct gw_daemon *d, bool is_used);

/*
 * Log so from now on, everywhere; the session's log, if it is another, is freed, in postcopy when
 * no queue uses it any more. Consumes what `log` holds. Returns: 0; -ENOMEM.
 */
int gw_daemon_replace_log(struct gw_daemon *d, struct gw_dirty_log_state *log);
/* No queue logs any more. */
void gw_daemon_drop_logs(struct gw_daemon *d);

/* Free what was replaced and is not in use any more. */
void gw_daemon_free_unused(struct gw_daemon *d);
/* The workers have ended: what is in use even so stays mapped as long as the process lives. */
void gw_daemon_leave_used(struct gw_daemon *d);
