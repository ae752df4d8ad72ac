/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The daemon and its session. Only the control worker accesses the session. */
#pragma once

#include "base/checked.h"
#include "base/log_i.h"
#include "base/proto.h"
#include "core/loop/worker.h"
#include "core/memory/mem.h"
#include "core/queue/queue.h"
#include "core/session/backend_req.h"
#include "core/session/socket.h"
#include "listener.h"

#include <godwit/daemon.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The state of one ring, as set by messages of the front-end. */
struct gw_vring {
    struct gw_ring_config config;
    bool has_addr;
    bool has_base;
    bool log_used; /* writes to the used ring are logged, at log_addr */
    gw_gpa_t log_addr;
    bool has_call; /* SET_VRING_CALL: calls are no messages, also with NOFD */
    bool has_err;
    bool started; /* or waits for a translation: */
    bool lacks_translation;
    struct gw_notifier_name kick; /* for the start after that */
    bool was_started;             /* in this session */
    bool is_stopping;             /* after a refused RESET_DEVICE: no start until a stop succeeds */
};

/* The answer of a message. */
struct gw_reply {
    int fd; /* sent with the answer, then closed; -1: none */
    uint32_t size;
    _Alignas(8) uint8_t payload[GW_MSG_PAYLOAD_MAX];
};

_Static_assert(sizeof(struct gw_wire_config) + GW_CONFIG_SIZE_MAX <=
                       sizeof(((struct gw_reply *)0)->payload) &&
                   sizeof(struct gw_wire_xen_mem_table) <= sizeof(((struct gw_reply *)0)->payload),
               "room for any answer");

/* One connection, from accept to hang-up (session.c). */
struct gw_session {
    bool is_open;
    bool is_ending;
    bool heard; /* the front-end has sent a message */
    int result; /* of the end: 0 or a negative errno */
    struct gw_source socket;
    struct gw_source backend; /* the back-end channel; fd -1: none */
    bool has_misplaced_fd;    /* an object is on its way with the next message, see dispatch.c */
    struct gw_source owners_source; /* of `owners` */
    uint64_t features;
    uint64_t protocol_features;
    struct gw_map *map;                /* never NULL during a session */
    struct gw_iotlb *iotlb;            /* of translated addresses; NULL: never negotiated */
    uint8_t status;                    /* of SET_STATUS */
    int (*reset)(struct gw_daemon *d); /* ends the message that resets all rings */
    struct gw_map *pending; /* in postcopy: replaces `map` when the front-end acknowledges it */
    struct gw_mem_watch *owners; /* watches the owners of guest memory; NULL: not watched */
    struct gw_postcopy postcopy;
    struct gw_dirty_log_state dirty_log;
    struct gw_inflight_region inflight;
    struct gw_vring *vrings; /* of each queue; allocated with the queues */

    /* The message being handled, and its answer. */
    struct gw_rx rx;
    const void *row;                 /* of dispatch.c */
    struct gw_op *op;                /* what it waits for; NULL: nothing */
    uint64_t deadline_ns;            /* of `op`, if it waits for requests */
    struct gw_state_transfer *state; /* of the device state, also its result; NULL: none */
    bool waits_for_moves;            /* POSTCOPY_LISTEN, see postcopy_worker.c */
    struct gw_reply reply;
    struct gw_tx tx;
    bool is_sending;   /* the front-end has no room for the answer */
    unsigned n_fds;    /* received since the last pause */
    unsigned n_pauses; /* pauses in a row, including this one; 0: it reads */

    /* Operations of the end, created at the beginning. */
    struct {
        struct gw_op *stop, *change, *reset;
    } end;
};

/* The worker of a session in postcopy, see postcopy_worker.c. */
enum gw_postcopy_worker {
    GW_POSTCOPY_WORKER_OFF = 0,
    GW_POSTCOPY_WORKER_ENTERING, /* worker_start is on its way */
    GW_POSTCOPY_WORKER_ON,       /* queues may be there */
    GW_POSTCOPY_WORKER_LEAVING,  /* worker_stop is on its way */
};

struct gw_daemon {
    struct gw_device_ops ops;
    void *dev;
    struct gw_log log;
    char *name;
    unsigned num_queues;
    unsigned queue_size_max;
    unsigned num_workers;
    uint64_t drain_timeout_ns;
    uint64_t state_bytes_max;
    bool has_postcopy;        /* postcopy is offered */
    unsigned mem_caps;        /* GW_MEM_CAP_*: what the memory backend can do on this machine */
    unsigned xen_cache_pages; /* as gw_region_desc.cache_pages */
    struct gw_wire_shmem_config *shmem; /* the shared memory regions of the device; NULL: none */
    struct gw_queue *queues;
    struct gw_worker **workers;
    unsigned n_attached;            /* workers that worker_start was called on */
    struct gw_workers *own_workers; /* NULL: they were given to us */
    struct gw_workers *own_control; /* likewise */
    bool has_control;
    struct gw_list operations; /* that have not ended */
    unsigned n_operations;     /* length of `operations` */
    struct gw_list deferred;   /* operations that wait until no queue travels (move.c) */
    unsigned n_moves;          /* begun and not ended, and starts and stops of postcopy.worker */
    unsigned n_travelling;     /* of these, between two workers */
    struct {
        /* Remains when it has ended, because other threads may be about to wake a queue there. */
        struct gw_worker worker;
        enum gw_postcopy_worker state;
        int error; /* of what the last POSTCOPY_LISTEN waited for */
        struct gw_post post;
    } postcopy;
    uint64_t n_changes;  /* number of the latest change */
    unsigned n_old_maps; /* replaced maps that requests still use */
    bool has_unpinnable; /* counted in gw_loop.n_unpinnable of the workers */
    bool has_missing;    /* counted in gw_loop.n_missing */

    /* The control worker, and what only it accesses. */
    struct gw_worker *control;
    struct gw_timer *timer;  /* of the session, or of a pause between sessions */
    struct gw_source wake;   /* watches control_fd */
    struct gw_source accept; /* watches listener.fd */
    struct gw_post begin;
    bool single; /* ends with its first session */
    struct gw_listener listener;
    int connected_fd;          /* of the only session; -1: none */
    char *client_path;         /* where the front-end listens, if we reconnect; else NULL */
    unsigned reconnect_max_ms; /* longest pause between attempts; 0: do not reconnect */
    unsigned pause_ms;         /* the next one */
    uint64_t connected_ns;     /* when the last attempt began */
    bool connect_failed;       /* and it was logged */
    struct gw_session session;
    struct gw_channel channel;
    struct gw_iotlb_misses misses; /* of translated addresses */
    struct gw_timer *misses_timer; /* runs while there are misses; NULL: none were possible yet */
    bool examines_misses;          /* the timer runs */
    uint64_t misses_patience_ns;   /* atomic: how long they may stay unanswered */
    bool is_ending;                /* waits for moves to end */
    struct gw_balance *balance;    /* NULL: queues are not balanced */
    int end_result;

    /* Set by other threads, which then signal `control_fd`. */
    int control_fd;        /* eventfd */
    pid_t pid;             /* that made the daemon */
    bool stopping;         /* atomic */
    bool config_changed;   /* atomic */
    bool state_continues;  /* atomic */
    struct gw_loss loss;   /* of memory that the session has mapped */
    struct gw_loss *guard; /* &loss; NULL: losses are not handled, as configured */

    /* For gw_daemon_wait. */
    bool started; /* from gw_daemon_start* to gw_daemon_wait */
    pthread_mutex_t end_lock;
    pthread_cond_t end_cond;
    bool running;             /* end_lock to write; atomic */
    int result;               /* end_lock */
    struct gw_worker *waiter; /* end_lock; external, its thread is in gw_daemon_wait */
    void (*ended)(void *arg, int result);
    void *ended_arg;
};

static inline bool gw_session_has(const struct gw_session *s, enum gw_virtio_feature bit)
{
    return (s->features & GW_BIT(bit)) != 0;
}

static inline bool gw_session_has_protocol(const struct gw_session *s, enum gw_protocol_feature bit)
{
    return (s->protocol_features & GW_BIT(bit)) != 0;
}

/* features.c: the features that this daemon offers. */
uint64_t gw_daemon_features(const struct gw_daemon *d);
uint64_t gw_daemon_protocol_features(struct gw_daemon *d);
/* Returns: 0; -EINVAL for features that were not offered, or need others. */
int gw_daemon_check_protocol_features(struct gw_daemon *d, uint64_t features);

/* ctl_postcopy.c: set whether guest memory may be missing, for I/O that workers start later. */
void gw_daemon_expect_faults(struct gw_daemon *d, bool may_fault);
