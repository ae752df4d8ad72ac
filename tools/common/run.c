/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A back-end program between its command line and its exit: finds the socket, creates the daemon,
 * serves and frees it. The main thread only waits for the daemon to end; signals.c stops it.
 */
#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

struct run {
    const struct backend *backend;
    const struct backend_options *options;
    void *dev;
    struct gw_daemon *daemon;
};

/* Serve on an inherited socket. `what` names its origin in messages. */
static int start_fd(struct gw_daemon *d, int fd, const char *what)
{
    int r = fcntl(fd, F_SETFD, FD_CLOEXEC);

    if (r < 0) {
        backend_say(GW_LOG_ERROR,
                    "%s: descriptor %d is not open; the parent process must keep it open across "
                    "exec (no FD_CLOEXEC)",
                    what, fd);
        return -EBADF;
    }
    r = gw_daemon_start(d, fd);
    if (r < 0)
        backend_say(GW_LOG_ERROR, "%s: %s%s", what, gw_last_error(),
                    r == -ENOTSOCK || r == -EINVAL ? "; pass a listening or connected one" : "");
    return r;
}

static int start_path(struct gw_daemon *d, const struct backend_options *o)
{
    const char *remedy = "";
    int r;

    if (o->is_client)
        r = gw_daemon_start_client(d, o->socket_path);
    else
        r = gw_daemon_start_path(d, o->socket_path);
    if (r == 0)
        return 0;

    if (r == -EADDRINUSE)
        remedy = "; end that process, or choose another path";
    else if (r == -ENOENT)
        remedy = o->is_client ? "; start the front-end first, or use --reconnect"
                              : "; create its directory first";
    else if (r == -ECONNREFUSED)
        remedy = "; nothing listens there; start the front-end first, or use --reconnect";
    backend_say(GW_LOG_ERROR, "%s%s", gw_last_error(), remedy);
    return r;
}

static int start_daemon(const struct run *run)
{
    const struct backend_options *o = run->options;

    if (o->socket_path != NULL)
        return start_path(run->daemon, o);
    return start_fd(run->daemon, o->fd, o->is_activated ? "socket activation" : "--fd");
}

static int new_daemon(struct run *run, const struct gw_device_ops *ops, size_t request_size)
{
    const struct backend_options *o = run->options;
    struct gw_daemon_config cfg = {
        .size = sizeof(cfg),
        .name = run->backend->name,
        .num_queues = o->num_queues,
        .queue_size_max = o->queue_size,
        .num_workers = o->num_workers,
        .loop = o->loop,
        .poll_us = o->poll_us,
        .xen_persistent_grants = o->xen_persistent_grants,
        .reconnect_max_ms = o->reconnect_s * 1000,
        .request_size = request_size,
        .request_bytes_max = run->backend->request_bytes_max,
        .log = backend_log,
        .log_level = backend_say_level(),
        .handle_sigbus = true,
    };
    int r = gw_daemon_new(&run->daemon, &cfg, ops, run->dev);

    if (r == -EOPNOTSUPP && o->loop == GW_LOOP_URING)
        backend_say(GW_LOG_ERROR,
                    "--loop=uring: %s; use --loop=epoll, or allow io_uring "
                    "(sysctl kernel.io_uring_disabled, seccomp)",
                    gw_last_error());
    else if (r < 0)
        backend_say(GW_LOG_ERROR, "cannot create the daemon: %s", gw_last_error());
    return r;
}

/* The daemon has its socket: wait for it to end. */
static int serve(struct run *run)
{
    int r = backend_service_begin();

    if (r < 0)
        return r;
    backend_systemd_notify("READY=1");
    r = gw_daemon_wait(run->daemon);
    if (r < 0)
        backend_say(GW_LOG_ERROR, "the session ended: %s", strerror(-r));
    backend_service_end();
    return r;
}

int backend_run(const struct backend *b, const struct backend_options *o,
                const struct gw_device_ops *ops, void *dev, size_t request_size)
{
    struct run run = {.backend = b, .options = o, .dev = dev};
    int r;

    if (backend_signals_init(b, o, dev) < 0)
        return EXIT_FAILURE;
    r = new_daemon(&run, ops, request_size);
    if (r < 0)
        return EXIT_FAILURE;
    backend_signals_set_daemon(run.daemon);
    r = start_daemon(&run);
    if (r == 0)
        r = serve(&run);
    backend_signals_set_daemon(NULL);
    gw_daemon_free(run.daemon);
    return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
