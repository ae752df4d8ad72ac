/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * An entropy device in a poll(2) loop: one thread does everything. It serves one front-end after
 * another until SIGTERM or SIGINT:
 *
 *     cc -o poll_device poll_device.c $(pkg-config --cflags --libs godwit)
 *     godwit probe --device=rng './poll_device {socket}'
 */
#include <godwit.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct program {
    struct gw_workers *workers;
    struct gw_worker *worker; /* the only one */
    struct gw_daemon *daemon;
    bool has_ended;
};

/* As in device.c. */
static int queue_ready(void *dev, struct gw_queue *q)
{
    struct gw_request *reqs[16];
    unsigned char bytes[256]; /* getrandom returns all of up to 256 bytes */
    unsigned n = gw_queue_pop(q, reqs, 16);

    for (unsigned i = 0; i < n; i++) {
        ssize_t len = getrandom(bytes, sizeof(bytes), 0);
        size_t written = gw_request_write(reqs[i], bytes, len > 0 ? (size_t)len : 0);

        gw_request_complete(reqs[i], (uint32_t)written);
    }
    return 0;
}

static void ended(void *arg, int result)
{
    ((struct program *)arg)->has_ended = true;
}

static int start(struct program *p, const char *path)
{
    static const struct gw_device_ops ops = {.size = sizeof(ops), .queue_ready = queue_ready};
    const struct gw_workers_config workers_cfg = {.size = sizeof(workers_cfg), .external = true};
    struct gw_daemon_config cfg = {
        .size = sizeof(cfg), .handle_sigbus = true, .ended = ended, .ended_arg = p};
    int r = gw_workers_new(&p->workers, &workers_cfg);

    if (r < 0)
        return r;
    p->worker = gw_workers_get(p->workers, 0);
    cfg.workers = &p->worker; /* runs the queue, and */
    cfg.control = p->worker;  /* handles the messages of the front-end */
    r = gw_daemon_new(&p->daemon, &cfg, &ops, NULL);
    return r < 0 ? r : gw_daemon_start_path(p->daemon, path);
}

static void loop(struct program *p, int signal_fd)
{
    struct pollfd fds[] = {
        {.fd = signal_fd, .events = POLLIN},
        {.fd = gw_worker_fd(p->worker), .events = POLLIN},
    };

    while (!p->has_ended) {
        if (poll(fds, 2, -1) < 0)
            continue; /* EINTR */
        if (fds[0].revents) {
            fds[0].fd = -1; /* no longer waited for: the first signal is enough */
            gw_daemon_stop(p->daemon);
        }
        if (fds[1].revents)
            gw_worker_run(p->worker, 0); /* calls queue_ready, and finally `ended` */
    }
}

int main(int argc, char **argv)
{
    struct program p = {0};
    sigset_t signals;
    int fd, r;

    if (argc != 2) {
        fprintf(stderr, "usage: poll_device SOCKET\n");
        return 1;
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    fd = signalfd(-1, &signals, SFD_CLOEXEC);
    r = start(&p, argv[1]);
    if (r < 0)
        fprintf(stderr, "poll_device: %s\n", gw_last_error());
    else
        loop(&p, fd);
    gw_daemon_free(p.daemon);
    gw_workers_free(p.workers);
    close(fd);
    return r < 0;
}
