/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * An entropy device in the main loop of GLib. It serves one front-end after another until SIGTERM
 * or SIGINT:
 *
 *     cc -o glib_device glib_device.c $(pkg-config --cflags --libs godwit glib-2.0)
 *     godwit probe --device=rng './glib_device {socket}'
 */
#include <glib-unix.h>
#include <godwit.h>
#include <sys/random.h>

struct program {
    GMainLoop *loop;
    struct gw_workers *workers;
    struct gw_worker *worker; /* the only one */
    struct gw_daemon *daemon;
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

static gboolean worker_ready(gint fd, GIOCondition condition, gpointer worker)
{
    gw_worker_run(worker, 0); /* calls queue_ready, and finally `ended` */
    return G_SOURCE_CONTINUE;
}

static gboolean interrupted(gpointer daemon)
{
    gw_daemon_stop(daemon);
    return G_SOURCE_CONTINUE;
}

static void ended(void *loop, int result)
{
    g_main_loop_quit(loop);
}

static int make_device(struct program *p)
{
    static const struct gw_device_ops ops = {.size = sizeof(ops), .queue_ready = queue_ready};
    const struct gw_workers_config workers_cfg = {.size = sizeof(workers_cfg), .external = true};
    struct gw_daemon_config cfg = {
        .size = sizeof(cfg), .handle_sigbus = true, .ended = ended, .ended_arg = p->loop};
    int r = gw_workers_new(&p->workers, &workers_cfg);

    if (r < 0)
        return r;
    p->worker = gw_workers_get(p->workers, 0);
    cfg.workers = &p->worker; /* runs the queue, and */
    cfg.control = p->worker;  /* handles the messages of the front-end */
    return gw_daemon_new(&p->daemon, &cfg, &ops, NULL);
}

static int run(struct program *p, const char *path)
{
    guint source = g_unix_fd_add(gw_worker_fd(p->worker), G_IO_IN, worker_ready, p->worker);
    int r;

    g_unix_signal_add(SIGTERM, interrupted, p->daemon);
    g_unix_signal_add(SIGINT, interrupted, p->daemon);
    r = gw_daemon_start_path(p->daemon, path);
    if (r == 0)
        g_main_loop_run(p->loop);
    g_source_remove(source); /* before gw_workers_free closes the fd */
    return r;
}

int main(int argc, char **argv)
{
    struct program p = {0};
    int r;

    if (argc != 2) {
        g_printerr("usage: glib_device SOCKET\n");
        return 1;
    }
    p.loop = g_main_loop_new(NULL, FALSE);
    r = make_device(&p);
    if (r == 0)
        r = run(&p, argv[1]);
    if (r < 0)
        g_printerr("glib_device: %s\n", gw_last_error());
    gw_daemon_free(p.daemon);
    gw_workers_free(p.workers);
    g_main_loop_unref(p.loop);
    return r < 0;
}
