/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A back-end program between its command line and its exit: finds the socket, makes the daemon,
 * serves, and ends it.
 *
 * Signals are blocked before any other thread exists, so no handler ever runs: one thread of its
 * own waits for them with sigwait(3) and may do what handlers may not. The main thread only waits
 * for the daemon to end.
 */
#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define REPETITION_NS UINT64_C(1000000000)

struct run {
    const struct backend *backend;
    const struct backend_options *options;
    void *dev;
    struct gw_daemon *daemon;
    sigset_t signals;
    _Atomic bool is_over; /* set before the signal thread is woken to end */
    /* Signal thread only. */
    unsigned n_end_signals;
    uint64_t first_end_ns; /* when the first of them came */
};

static void block_signals(struct run *run)
{
    sigemptyset(&run->signals);
    sigaddset(&run->signals, SIGTERM);
    sigaddset(&run->signals, SIGINT);
    sigaddset(&run->signals, SIGHUP);
    sigaddset(&run->signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &run->signals, NULL);
    signal(SIGPIPE, SIG_IGN); /* a reader of stderr that went away is no reason to end */
    signal(SIGXFSZ, SIG_IGN); /* nor is a file that must not grow (ulimit -f): an error says so */
}

/*
 * The first SIGTERM or SIGINT ends the daemon in good order. A supervisor may send SIGTERM twice:
 * timeout(1) signals its child and then the child's process group. So a SIGTERM that follows within
 * a second repeats the first signal; any other signal ends the process at once.
 */
static void end_daemon(struct run *run, int sig)
{
    struct timespec ts;
    uint64_t now;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    now = (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
    run->n_end_signals++;
    if (run->n_end_signals == 1) {
        run->first_end_ns = now;
        backend_ending_begin();
        backend_systemd_notify("STOPPING=1");
        gw_daemon_stop(run->daemon);
        return;
    }
    if (sig == SIGTERM && run->n_end_signals == 2 && now - run->first_end_ns < REPETITION_NS)
        return;
    backend_say(GW_DIAG_ERROR,
                "%s while ending: ending at once, requests in flight are not "
                "answered",
                sig == SIGTERM ? "SIGTERM" : "SIGINT");
    _exit(EXIT_FAILURE);
}

static void *signal_thread(void *arg)
{
    struct run *run = arg;
    int sig;

    while (sigwait(&run->signals, &sig) == 0 && !atomic_load(&run->is_over)) {
        switch (sig) {
        case SIGHUP:
            if (run->backend->reload != NULL)
                run->backend->reload(run->dev, run->daemon);
            break;
        case SIGUSR1:
            backend_report(run->backend, run->dev, run->daemon, run->options->num_queues);
            break;
        default:
            end_daemon(run, sig);
            break;
        }
    }
    return NULL;
}

/* Serve on an inherited socket. `what` names where it came from. */
static int start_fd(struct gw_daemon *d, int fd, const char *what)
{
    int r = fcntl(fd, F_SETFD, FD_CLOEXEC);

    if (r < 0) {
        backend_say(GW_DIAG_ERROR,
                    "%s: descriptor %d is not open; the program that starts this "
                    "one must keep it open across exec (no FD_CLOEXEC)",
                    what, fd);
        return -EBADF;
    }
    r = gw_daemon_start(d, fd);
    if (r < 0)
        backend_say(GW_DIAG_ERROR, "%s: %s%s", what, gw_last_error(),
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
                              : "; make its directory first";
    else if (r == -ECONNREFUSED)
        remedy = "; nobody listens there: start the front-end first, or use --reconnect";
    backend_say(GW_DIAG_ERROR, "%s%s", gw_last_error(), remedy);
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
        .diag = backend_diag,
        .diag_level = backend_say_level(),
    };
    int r = gw_daemon_new(&run->daemon, &cfg, ops, run->dev);

    if (r == -EOPNOTSUPP && o->loop == GW_LOOP_URING)
        backend_say(GW_DIAG_ERROR,
                    "--loop=uring: %s; use --loop=epoll, or allow io_uring "
                    "(sysctl kernel.io_uring_disabled, seccomp)",
                    gw_last_error());
    else if (r < 0)
        backend_say(GW_DIAG_ERROR, "cannot make the daemon: %s", gw_last_error());
    return r;
}

/* From here on the daemon has its socket: wait for its end. */
static int serve(struct run *run)
{
    pthread_t thread;
    int r = pthread_create(&thread, NULL, signal_thread, run);

    if (r != 0) {
        backend_say(GW_DIAG_ERROR, "cannot start the signal thread: %s", strerror(r));
        return -r;
    }
    backend_systemd_notify("READY=1");
    r = gw_daemon_wait(run->daemon);
    if (r < 0)
        backend_say(GW_DIAG_ERROR, "the session ended: %s", strerror(-r));
    atomic_store(&run->is_over, true);
    pthread_kill(thread, SIGTERM); /* taken by its sigwait, whatever waits there already */
    pthread_join(thread, NULL);
    return r;
}

int backend_run(const struct backend *b, const struct backend_options *o,
                const struct gw_device_ops *ops, void *dev, size_t request_size)
{
    struct run run = {.backend = b, .options = o, .dev = dev};
    int r;

    block_signals(&run);
    r = backend_ending_init();
    if (r < 0) {
        backend_say(GW_DIAG_ERROR, "eventfd: %s", strerror(-r));
        return EXIT_FAILURE;
    }
    r = new_daemon(&run, ops, request_size);
    if (r < 0)
        return EXIT_FAILURE;
    r = start_daemon(&run);
    if (r == 0)
        r = serve(&run);
    gw_daemon_free(run.daemon);
    return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
