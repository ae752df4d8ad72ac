/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The daemon and its session. The control thread owns all of a session; workers see none of it.
 */
#pragma once

#include "checked.h"
#include "diag_i.h"
#include "mem.h"
#include "proto.h"
#include "queue.h"
#include "socket.h"
#include "worker.h"

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
};

/* One connection, from accept to hang-up. */
struct gw_session {
    int fd;
    int backend_fd; /* the back-end channel, -1: none */
    uint64_t features;
    uint64_t protocol_features;
    struct gw_map *map; /* never NULL during a session */
    struct gw_log_state log;
    struct gw_rx rx;
    struct gw_vring vrings[GW_QUEUES_MAX];
};

struct gw_daemon {
    struct gw_device_ops ops;
    void *dev;
    struct gw_diag diag;
    char *name;
    unsigned num_queues;
    unsigned queue_size_max;
    unsigned num_workers;
    uint64_t drain_timeout_ns;
    struct gw_queue *queues;
    struct gw_worker *workers;

    /* The control thread. */
    pthread_t thread;
    bool started;
    bool single; /* ends with its first session */
    int listen_fd;
    char *path; /* of listen_fd, when it is ours to remove */
    int result;
    struct gw_session session;
    /* Maps of sessions whose requests never finished; kept until those have. */
    struct gw_map **stuck_maps;
    unsigned n_stuck_maps;

    /* What others tell the control thread. */
    int control_fd;      /* eventfd */
    bool stopping;       /* atomic */
    bool config_changed; /* atomic */
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

/* Run `fn(q, arg)` for every queue, on its worker. */
void gw_daemon_each_queue(struct gw_daemon *d, void (*fn)(struct gw_queue *q, void *arg),
                          void *arg);

/*
 * Wait for a latch that queues count, telling what takes so long. On -ETIMEDOUT no queue knows the
 * latch any more.
 */
int gw_daemon_drain(struct gw_daemon *d, struct gw_latch *latch, const char *what);

/* Stop every queue. Returns: 0; -ETIMEDOUT, some go on stopping. */
int gw_daemon_stop_queues(struct gw_daemon *d);

/*
 * Log so from now on, everywhere; the session's log, if it is another, is freed. Consumes what
 * `log` holds.
 */
void gw_daemon_replace_log(struct gw_daemon *d, const struct gw_log_state *log);

/* Replace the map of all queues, and free the old one when nobody uses it. Consumes `map`. */
int gw_daemon_replace_map(struct gw_daemon *d, struct gw_map *map);
