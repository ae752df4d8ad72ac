/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The daemon and its session. Only the control thread accesses the session. */
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

/* The state of one ring, as set by messages of the front-end. */
struct gw_vring {
    struct gw_ring_config config;
    bool has_addr;
    bool has_base;
    bool log_used; /* writes to the used ring are logged, at log_addr */
    gw_gpa_t log_addr;
    bool started;
    bool was_started; /* in this session */
    bool is_stopping; /* after a refused RESET_DEVICE: no start until a stop succeeds */
};

/* One connection, from accept to hang-up. */
struct gw_session {
    int fd;
    int backend_fd; /* the back-end channel, -1: none */
    bool heard;     /* the front-end has sent a message */
    bool has_rival; /* another front-end has connected (logged once) */
    uint64_t features;
    uint64_t protocol_features;
    struct gw_map *map;     /* never NULL during a session */
    struct gw_map *pending; /* in postcopy: replaces `map` when the front-end acknowledges it */
    struct gw_mem_watch *owners; /* watches the owners of guest memory; NULL: not watched */
    struct gw_postcopy postcopy;
    struct gw_dirty_log_state dirty_log;
    struct gw_inflight_region inflight;
    struct gw_rx rx;
    struct gw_vring vrings[GW_QUEUES_MAX];
    uint64_t first_change; /* changes up to this number belong to earlier sessions */
};

/* Change of a map or log whose predecessor may still be in use (change.c). */
struct gw_change;

/*
 * Limit on kept changes. At the limit, a change waits for the queues even in postcopy. Above the
 * limit, a new map is refused until late requests end.
 */
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
    bool has_postcopy;        /* postcopy is offered */
    unsigned mem_caps;        /* GW_MEM_CAP_*: what the memory backend can do on this machine */
    unsigned xen_cache_pages; /* as gw_region_desc.cache_pages */
    struct gw_queue *queues;
    struct gw_worker *workers;

    /* The control thread. */
    pthread_t thread;
    int tid; /* atomic; 0 before it runs and after its end */
    bool started;
    bool single; /* ends with its first session */
    struct gw_listener listener;
    char *client_path;         /* where the front-end listens, if we reconnect; else NULL */
    unsigned reconnect_max_ms; /* longest pause between attempts; 0: do not reconnect */
    int result;
    struct gw_session session;
    uint64_t n_changes;        /* number of the latest change */
    struct gw_change *changes; /* kept changes, oldest first */
    struct gw_change **changes_end;
    unsigned n_kept; /* length of `changes` */

    /* Set by other threads, which then signal `control_fd`. */
    int control_fd;        /* eventfd */
    bool stopping;         /* atomic */
    bool config_changed;   /* atomic */
    struct gw_loss loss;   /* of memory that the session has mapped */
    struct gw_loss *guard; /* &loss; NULL: losses are not handled, as configured */
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

/* The features that this daemon offers. */
uint64_t gw_daemon_features(const struct gw_daemon *d);
uint64_t gw_daemon_protocol_features(const struct gw_daemon *d);

/*
 * Serve a session until it ends. Consumes `fd`.
 * Returns: 0 after a hang-up or gw_daemon_stop; -EPROTO after a fault of the front-end.
 */
int gw_session_run(struct gw_daemon *d, int fd);

/* Main function of the control thread. `arg` is the daemon. */
void *gw_control_main(void *arg);

/* ctl_postcopy.c: set whether guest memory may be missing, for I/O that workers start later. */
void gw_daemon_expect_faults(struct gw_daemon *d, bool may_fault);

/*
 * Replace the map of all queues, and free the old map when no queue uses it. Consumes `map`.
 * Returns: 0; -ETIMEDOUT if requests still use the old map; -EBUSY if requests keep more than
 * GW_CHANGES_KEPT_MAX replaced maps; -ENOMEM.
 */
int gw_daemon_replace_map(struct gw_daemon *d, struct gw_map *map);
/* The same in postcopy; does not wait for the queues unless GW_CHANGES_KEPT_MAX is reached. */
int gw_daemon_post_map(struct gw_daemon *d, struct gw_map *map);
/* End the session's map. `is_used`: requests in flight may still access its memory. */
void gw_daemon_end_map(struct gw_daemon *d, bool is_used);

/*
 * Make all queues and the session use this dirty log. A log that it replaces is freed; in postcopy,
 * when no queue uses it. Consumes the resources in `log`. Returns: 0; -ENOMEM.
 */
int gw_daemon_replace_log(struct gw_daemon *d, struct gw_dirty_log_state *log);
/* Free all replaced dirty logs. The caller guarantees that no queue uses a log. */
void gw_daemon_drop_logs(struct gw_daemon *d);

/* Free replaced maps and logs that no queue uses. */
void gw_daemon_reclaim(struct gw_daemon *d);
/* After the workers have ended: free the rest, but leak maps that requests may still use. */
void gw_daemon_reclaim_all(struct gw_daemon *d);
