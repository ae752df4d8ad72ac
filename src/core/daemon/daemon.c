/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Creating, starting, stopping and freeing a daemon. */
#include "attach.h"
#include "control.h"

#include "base/cleanup.h"
#include "base/struct_sizes.h"
#include "core/message/ctl_iotlb.h"
#include "core/message/operation.h"
#include "core/move/balance.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    DEFAULT_QUEUE_SIZE = 1024,
    DEFAULT_DRAIN_MS = 60000,
    REQUEST_SIZE_MAX = 1 << 20,
    RECONNECT_MS_MAX = 3600 * 1000,
    DEFAULT_STATE_BYTES = 1 << 30
};

/* ---- creating and freeing ---- */

static int copy_struct(const char *name, void *ret, size_t known, const void *structure,
                       size_t first)
{
    int r = gw_copy_struct(ret, known, structure, first);

    if (r == -E2BIG)
        return gw_fail(r, "%s of a later version asks for something this version cannot do", name);
    return r < 0 ? gw_fail(r, "size of %s is not set, or less than %zu", name, first) : 0;
}

static int check_config(const struct gw_daemon_config *cfg, const struct gw_device_ops *ops)
{
    unsigned n_queues, n_workers;

    if (!ops->queue_ready)
        return gw_fail(-EINVAL, "a device needs queue_ready");
    if ((ops->stateless && (ops->state_begin || ops->state_save || ops->state_end)) ||
        !ops->state_save != !ops->state_load)
        return gw_fail(-EINVAL,
                       "a device needs both state_save and state_load, or neither if it is "
                       "stateless");
    n_queues = cfg->num_queues ? cfg->num_queues : 1;
    n_workers = cfg->num_workers ? cfg->num_workers : 1;
    if (n_queues > GW_QUEUES_MAX)
        return gw_fail(-EINVAL, "%u queues are more than %d", n_queues, GW_QUEUES_MAX);
    if (n_workers > GW_WORKERS_MAX)
        return gw_fail(-EINVAL, "%u workers are more than %d", n_workers, GW_WORKERS_MAX);
    if (cfg->queue_size_max &&
        (!gw_is_power_of_two(cfg->queue_size_max) || cfg->queue_size_max > GW_QUEUE_SIZE_MAX))
        return gw_fail(-EINVAL, "queue size %u is not a power of two up to %d", cfg->queue_size_max,
                       GW_QUEUE_SIZE_MAX);
    if (cfg->reconnect_max_ms > RECONNECT_MS_MAX)
        return gw_fail(-EINVAL, "a pause of %u ms between connections is longer than %d",
                       cfg->reconnect_max_ms, RECONNECT_MS_MAX);
    if (cfg->request_size > REQUEST_SIZE_MAX)
        return gw_fail(-EINVAL, "requests of %zu bytes are larger than %d", cfg->request_size,
                       REQUEST_SIZE_MAX);
    if ((unsigned)cfg->sync > GW_SYNC_RWLOCK || (unsigned)cfg->loop > GW_LOOP_EPOLL)
        return gw_fail(-EINVAL, "unknown sync policy or loop");
    for (unsigned i = 0; cfg->queue_workers && i < n_queues; i++)
        if (cfg->queue_workers[i] >= n_workers)
            return gw_fail(-EINVAL, "queue %u belongs to worker %u, of %u", i,
                           cfg->queue_workers[i], n_workers);
    return 0;
}

/* Where daemons share workers, the queues of a daemon share its turn. */
static void limit_turns(struct gw_daemon *d)
{
    unsigned n = (d->num_queues + d->num_workers - 1) / d->num_workers;

    for (unsigned i = 0; !d->own_workers && i < d->num_queues; i++) {
        struct gw_limits *l = &d->queues[i].limits;

        l->turn_requests = GW_TURN_REQUESTS / n;
        if (l->turn_requests < GW_TURN_REQUESTS_MIN)
            l->turn_requests = GW_TURN_REQUESTS_MIN;
        l->turn_bytes = GW_TURN_BYTES / n;
        if (l->turn_bytes < GW_TURN_BYTES_MIN)
            l->turn_bytes = GW_TURN_BYTES_MIN;
    }
}

static int make_queues(struct gw_daemon *d, const struct gw_daemon_config *cfg)
{
    unsigned n = cfg->num_queues ? cfg->num_queues : 1;

    d->queues = calloc(n, sizeof(*d->queues));
    d->session.vrings = calloc(n, sizeof(*d->session.vrings));
    if (!d->queues || !d->session.vrings)
        return gw_fail(-ENOMEM, "no memory for %u queues", n);
    while (d->num_queues < n) {
        struct gw_queue *q = &d->queues[d->num_queues];
        unsigned worker =
            cfg->queue_workers ? cfg->queue_workers[d->num_queues] : d->num_queues % d->num_workers;

        q->worker = q->move.home = d->workers[worker];
        q->ops = &d->ops;
        q->dev = d->dev;
        q->log = &d->log;
        q->sync = cfg->sync;
        q->daemon = d;
        q->index = d->num_queues;
        q->inband.wake_fd = d->control_fd;
        q->limits.ring_size = d->queue_size_max;
        q->pool.request_size = cfg->request_size;
        q->limits.request_bytes =
            cfg->request_bytes_max ? cfg->request_bytes_max : GW_REQUEST_BYTES;
        q->limits.bytes_in_flight = GW_IN_FLIGHT_BYTES / n;
        gw_queue_init(q);
        d->num_queues++;
    }
    limit_turns(d);
    return 0;
}

static bool can_postcopy(struct gw_daemon *d, const struct gw_daemon_config *cfg)
{
    if (cfg->no_postcopy || !(d->mem_caps & GW_MEM_CAP_STABLE_HVA))
        return false;
    for (unsigned i = 0; i < d->num_workers; i++)
        if (d->workers[i]->is_external)
            return false; /* queues would have to leave the embedder's thread */
    if (gw_postcopy_probe() == 0)
        return true;
    gw_log(&d->log, GW_LOG_INFO, "postcopy is not offered: %s", gw_last_error());
    return false;
}

static int take_shmem(struct gw_daemon *d)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t sizes[GW_SHMEM_REGIONS_MAX] = {0};
    unsigned n = 0;

    if (!d->ops.get_shmem)
        return 0;
    d->ops.get_shmem(d->dev, sizes);
    for (unsigned i = 0; i < GW_SHMEM_REGIONS_MAX; i++) {
        if (sizes[i] % page)
            return gw_fail(-EINVAL,
                           "shared memory region %u of %#" PRIx64
                           " bytes is not a multiple of the page size",
                           i, sizes[i]);
        n += sizes[i] > 0;
    }
    if (n == 0)
        return 0;
    d->shmem = calloc(1, sizeof(*d->shmem));
    if (!d->shmem)
        return gw_fail(-ENOMEM, "no memory for shared memory regions");
    d->shmem->num_regions = n;
    memcpy(d->shmem->sizes, sizes, sizeof(sizes));
    return 0;
}

static int daemon_init(struct gw_daemon *d, const struct gw_daemon_config *cfg)
{
    unsigned timeout_ms = cfg->drain_timeout_ms ? cfg->drain_timeout_ms : DEFAULT_DRAIN_MS;
    int r;

    d->listener = (struct gw_listener){.fd = -1, .lock_fd = -1};
    d->connected_fd = -1;
    gw_list_init(&d->operations);
    gw_list_init(&d->deferred);
    pthread_mutex_init(&d->end_lock, NULL);
    pthread_cond_init(&d->end_cond, NULL);
    gw_ctl_init_translation(d);
    d->queue_size_max = cfg->queue_size_max ? cfg->queue_size_max : DEFAULT_QUEUE_SIZE;
    d->state_bytes_max = cfg->state_bytes_max ? cfg->state_bytes_max : DEFAULT_STATE_BYTES;
    d->drain_timeout_ns = timeout_ms * UINT64_C(1000000);
    d->control_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (d->control_fd < 0)
        return gw_fail(-errno, "eventfd: %s", strerror(errno));
    d->loss.wake_fd = d->control_fd;
    if (cfg->handle_sigbus) {
        gw_sigbus_install();
        d->guard = &d->loss;
    }
    d->reconnect_max_ms = cfg->reconnect_max_ms;
    d->name = strdup(cfg->name ? cfg->name : "godwit");
    if (!d->name)
        return gw_fail(-ENOMEM, "no memory for a daemon");
    gw_log_init(&d->log, cfg->log, cfg->log_arg, cfg->log_level, d->name);
    d->xen_cache_pages = cfg->xen_persistent_grants;
    d->mem_caps = gw_mem_backend_probe(&d->log);
    d->ended = cfg->ended;
    d->ended_arg = cfg->ended_arg;
    r = take_shmem(d);
    if (r == 0)
        r = gw_daemon_attach(d, cfg);
    d->has_postcopy = r == 0 && can_postcopy(d, cfg);
    if (r == 0)
        r = gw_control_init(d);
    if (r == 0)
        r = gw_backend_req_init(d);
    if (r == 0)
        r = make_queues(d, cfg);
    if (r == 0 && cfg->balance_ms > 0)
        r = gw_balance_new(&d->balance, d, cfg->balance_ms);
    return r;
}

/*
 * Requests that outlived the drain time-out may still use guest memory, which then is never
 * unmapped: the kernel may access it, too.
 */
static void free_operations(struct gw_daemon *d)
{
    bool idle = true;

    gw_sigbus_forget(&d->loss);
    for (unsigned i = 0; i < d->num_queues; i++)
        idle = idle && d->queues[i].in_flight.n == 0 && gw_queue_n_holds(&d->queues[i]) == 0;
    gw_op_free_all(d, idle);
}

static void free_daemon(struct gw_daemon *d)
{
    if (d->started) {
        gw_daemon_stop(d);
        (void)gw_daemon_wait(d);
    }
    gw_daemon_detach(d);
    gw_daemon_free_workers(d);
    gw_timer_free(d->timer);
    gw_backend_req_done(d);
    gw_timer_free(d->misses_timer);
    gw_iotlb_misses_done(&d->misses);
    gw_balance_free(d->balance);
    for (unsigned i = 0; i < d->num_queues; i++)
        gw_queue_done(&d->queues[i]);
    free_operations(d);
    pthread_cond_destroy(&d->end_cond);
    pthread_mutex_destroy(&d->end_lock);
    gw_log_done(&d->log);
    free(d->session.vrings);
    free(d->shmem);
    free(d->queues);
    free(d->name);
    gw_close(&d->control_fd);
    free(d);
}

int gw_daemon_new(struct gw_daemon **ret, const struct gw_daemon_config *given_cfg,
                  const struct gw_device_ops *given_ops, void *dev)
{
    struct gw_daemon_config cfg;
    struct gw_device_ops ops;
    struct gw_daemon *d;
    int r;

    if (!given_cfg || !given_ops)
        return gw_fail(-EINVAL, "a daemon needs a config and ops");
    r = copy_struct("config", &cfg, sizeof(cfg), given_cfg, GW_FIRST_DAEMON_CONFIG);
    if (r == 0)
        r = copy_struct("ops", &ops, sizeof(ops), given_ops, GW_FIRST_DEVICE_OPS);
    if (r == 0)
        r = check_config(&cfg, &ops);
    if (r < 0)
        return r;
    d = calloc(1, sizeof(*d));
    if (!d)
        return gw_fail(-ENOMEM, "no memory for a daemon");
    d->ops = ops;
    d->dev = dev;
    d->pid = getpid();
    r = daemon_init(d, &cfg);
    if (r < 0) {
        free_daemon(d);
        return r;
    }
    *ret = d;
    return 0;
}

void gw_daemon_free(struct gw_daemon *d)
{
    if (!d)
        return;
    if (gw_daemon_check_wait(d, "gw_daemon_free") == 0)
        free_daemon(d);
    else
        gw_log(&d->log, GW_LOG_ERROR, "%s; nothing is freed", gw_last_error());
}

/* ---- starting and stopping ---- */

static void release_sockets(struct gw_daemon *d)
{
    gw_listener_close(&d->listener);
    gw_socket_hang_up(&d->connected_fd);
    free(d->client_path);
    d->client_path = NULL;
}

/* The daemon already owns its socket or path. */
static int start_control(struct gw_daemon *d, bool single)
{
    d->single = single;
    d->started = true;
    __atomic_store_n(&d->running, true, __ATOMIC_RELEASE);
    (void)gw_worker_post(d->control, &d->begin); /* the worker outlives the daemon */
    return 0;
}

static int check_not_started(const struct gw_daemon *d)
{
    return d->started ? gw_fail(-EBUSY, "the daemon runs already") : 0;
}

int gw_daemon_start(struct gw_daemon *d, int fd)
{
    gw_cleanup_fd int owned_fd = fd;
    int r = check_not_started(d);

    if (r == 0)
        r = gw_socket_is_listening(fd);
    if (r < 0)
        return r;
    if (r == 1)
        d->listener.fd = gw_steal_fd(&owned_fd);
    else
        d->connected_fd = gw_steal_fd(&owned_fd);
    return start_control(d, false);
}

static int start_path(struct gw_daemon *d, const char *path, bool single)
{
    int r = check_not_started(d);

    if (r == 0)
        r = gw_listener_open(&d->listener, path);
    return r < 0 ? r : start_control(d, single);
}

int gw_daemon_start_path(struct gw_daemon *d, const char *path)
{
    return start_path(d, path, false);
}

int gw_daemon_start_client(struct gw_daemon *d, const char *path)
{
    struct sockaddr_un addr;
    int r = check_not_started(d);

    if (r < 0)
        return r;
    if (d->reconnect_max_ms > 0) {
        r = gw_socket_address(&addr, path); /* retries do not help */
        if (r < 0)
            return r;
        d->client_path = strdup(path);
        if (!d->client_path)
            return gw_fail(-ENOMEM, "no memory for a path");
    } else {
        d->connected_fd = gw_socket_connect(path, 0);
        if (d->connected_fd < 0)
            return gw_steal_fd(&d->connected_fd);
    }
    return start_control(d, true);
}

int gw_daemon_serve(struct gw_daemon *d, const char *path)
{
    int r = start_path(d, path, true);

    return r < 0 ? r : gw_daemon_wait(d);
}

int gw_daemon_wait(struct gw_daemon *d)
{
    int r = gw_daemon_check_wait(d, "gw_daemon_wait");

    if (r < 0)
        return r;
    if (!d->started)
        return gw_fail(-EINVAL, "the daemon was not started");
    if (!gw_daemon_run_workers(d)) {
        pthread_mutex_lock(&d->end_lock);
        while (d->running)
            pthread_cond_wait(&d->end_cond, &d->end_lock);
        pthread_mutex_unlock(&d->end_lock);
    }
    d->started = false;
    /* Cleared here, not at the start, so that a stop before the next start takes effect. */
    __atomic_store_n(&d->stopping, false, __ATOMIC_RELEASE);
    release_sockets(d);
    if (d->result < 0)
        return gw_fail(d->result, "the session ended with an error, which was logged");
    return 0;
}

void gw_daemon_stop(struct gw_daemon *d)
{
    /* Async-signal-safe: an atomic store and a write(2). */
    int saved = errno;

    __atomic_store_n(&d->stopping, true, __ATOMIC_RELEASE);
    (void)eventfd_write(d->control_fd, 1);
    errno = saved;
}

void gw_daemon_config_changed(struct gw_daemon *d)
{
    __atomic_store_n(&d->config_changed, true, __ATOMIC_RELEASE);
    (void)eventfd_write(d->control_fd, 1);
}

void gw_daemon_continue_state(struct gw_daemon *d)
{
    __atomic_store_n(&d->state_continues, true, __ATOMIC_RELEASE);
    (void)eventfd_write(d->control_fd, 1);
}

struct gw_queue *gw_daemon_queue(struct gw_daemon *d, unsigned index)
{
    return index < d->num_queues ? &d->queues[index] : NULL;
}

struct gw_worker *gw_daemon_worker(struct gw_daemon *d, unsigned index)
{
    return index < d->num_workers ? d->workers[index] : NULL;
}
