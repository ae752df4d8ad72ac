/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Time from a lost session to the first completed request of the next one, with requests in flight
 * and tracked (INFLIGHT_SHMFD) throughout:
 *
 *     hung up    the front-end hangs up and reconnects: measured from before the connect, so that
 *                it includes the back-end's teardown of the last session
 *     killed     kill -9 of the back-end, and a new one: measured from when its socket accepts
 *     control    no back-end: two processes exchange as many messages as a session start takes,
 *                which shows the delay of the machine itself
 *
 * In addition to the wall time, the results have the time without the periods in which a thread of
 * either side was runnable but waited for a CPU (the kernel's schedstat). On a busy machine, these
 * periods are most of the longest times.
 *
 * usage: bench_reconnect BACKEND [ARGUMENT...]
 * The command must serve a vhost-user disk on the socket that replaces {socket} in its arguments.
 */
#include "base/clock.h"
#include "measured.h"
#include "ring_fixture.h"

#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    ROUNDS = 200, /* of each kind and layout */
    LOAD_MS = 2,
    DEPTH = 32,
    MESSAGES = 30,
};

struct result {
    uint64_t wall[ROUNDS];
    uint64_t own[ROUNDS]; /* part of `wall` in which no thread waited for a CPU */
};

struct moment {
    uint64_t ns;
    uint64_t waited_ns; /* total of all threads so far */
};

/* ---- waiting for a CPU ---- */

static uint64_t waited_of_thread(const char *path)
{
    unsigned long long ran, waited = 0;
    FILE *f = fopen(path, "re");

    if (!f || fscanf(f, "%llu %llu", &ran, &waited) != 2)
        waited = 0;
    if (f)
        fclose(f);
    return waited;
}

static uint64_t waited_of_process(pid_t pid)
{
    char path[300];
    uint64_t waited = 0;
    struct dirent *e;
    DIR *tasks;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    tasks = opendir(path);
    while (tasks && (e = readdir(tasks))) {
        snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", (int)pid, e->d_name);
        if (e->d_name[0] != '.')
            waited += waited_of_thread(path);
    }
    if (tasks)
        closedir(tasks);
    return waited;
}

/* Read the waiting times before the clock, to exclude the time of reading them. */
static struct moment begin(pid_t other)
{
    struct moment m = {.waited_ns = waited_of_process(getpid()) + waited_of_process(other)};

    m.ns = gw_clock_ns();
    return m;
}

static void end(struct result *r, unsigned i, const struct moment *m, pid_t other)
{
    uint64_t waited;

    r->wall[i] = gw_clock_ns() - m->ns;
    waited = waited_of_process(getpid()) + waited_of_process(other) - m->waited_ns;
    r->own[i] = r->wall[i] > waited ? r->wall[i] - waited : 0;
}

/* ---- report ---- */

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void tell_times(uint64_t *ns)
{
    qsort(ns, ROUNDS, sizeof(ns[0]), compare);
    printf(" %9.3f %9.3f %9.3f", (double)ns[ROUNDS / 2] / 1e6, (double)ns[ROUNDS * 99 / 100] / 1e6,
           (double)ns[ROUNDS - 1] / 1e6);
}

static void tell(const char *what, const char *layout, struct result *r)
{
    printf("%-8s %-7s", what, layout);
    tell_times(r->wall);
    tell_times(r->own);
    printf("\n");
    fflush(stdout);
}

/* ---- sessions ---- */

static int fail(const struct ring_fixture *b, const char *what, int r)
{
    fprintf(stderr, "bench_reconnect: %s: %s %s\n", what, strerror(-r), gw_frontend_last_error());
    return r;
}

static int first_request(struct ring_fixture *b, const struct ring_fixture_config *cfg)
{
    int r = ring_fixture_resume(b, cfg);

    gw_driver_kick_always(b->driver);
    return r == 0 ? gw_guest_load_run(b->load, 0, 1, RING_FIXTURE_STALL_MS) : r;
}

/* Leaves its requests in flight. */
static int load_for_a_while(struct ring_fixture *b)
{
    return gw_guest_load_run(b->load, LOAD_MS, 0, RING_FIXTURE_STALL_MS);
}

static int run_hung_up(struct ring_fixture *b, const char *path,
                       const struct ring_fixture_config *cfg, pid_t backend, const char *layout)
{
    static struct result result;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < ROUNDS; i++) {
        struct moment m = begin(backend);

        r = ring_fixture_connect(b, path);
        if (r == 0)
            r = first_request(b, cfg);
        end(&result, i, &m, backend);
        if (r == 0)
            r = load_for_a_while(b);
    }
    if (r < 0)
        return fail(b, "hung up", r);
    tell("hung up", layout, &result);
    return 0;
}

static void kill_backend(pid_t backend)
{
    int status;

    kill(backend, SIGKILL);
    (void)waitpid(backend, &status, 0);
}

static int run_killed(struct ring_fixture *b, char **command, const char *path,
                      const struct ring_fixture_config *cfg, pid_t *backend, const char *layout)
{
    static struct result result;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < ROUNDS; i++) {
        struct moment m;

        kill_backend(*backend);
        *backend = measured_start(command, path);
        r = ring_fixture_connect(b, path);
        m = begin(*backend);
        if (r == 0)
            r = first_request(b, cfg);
        end(&result, i, &m, *backend);
        if (r == 0)
            r = load_for_a_while(b);
    }
    if (r < 0)
        return fail(b, "killed", r);
    tell("killed", layout, &result);
    return 0;
}

static int run_layout(char **command, const char *path, pid_t *backend, bool packed)
{
    const struct ring_fixture_config cfg = {
        .block_size = 512, .depth = DEPTH, .packed = packed, .inflight = true};
    const char *layout = packed ? "packed" : "split";
    struct ring_fixture b;
    int r = ring_fixture_start(&b, path, &cfg);

    if (r == 0)
        r = ring_fixture_load(&b, &cfg);
    if (r == 0)
        r = load_for_a_while(&b);
    if (r < 0)
        (void)fail(&b, layout, r);
    if (r == 0)
        r = run_hung_up(&b, path, &cfg, *backend, layout);
    if (r == 0)
        r = run_killed(&b, command, path, &cfg, backend, layout);
    if (r == 0)
        r = gw_guest_load_drain(b.load, RING_FIXTURE_STALL_MS);
    ring_fixture_finish(&b);
    return r;
}

/* ---- the control ---- */

static void echo(int fd)
{
    char byte;

    measured_pin_to(1);
    while (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1)
        ;
    _exit(0);
}

static int run_control(void)
{
    static struct result result;
    int fds[2], r = 0;
    char byte = 0;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        echo(fds[1]);
    }
    close(fds[1]);
    for (unsigned i = 0; r == 0 && i < ROUNDS; i++) {
        struct moment m = begin(pid);

        for (unsigned n = 0; r == 0 && n < MESSAGES; n++)
            if (write(fds[0], &byte, 1) != 1 || read(fds[0], &byte, 1) != 1)
                r = -1;
        end(&result, i, &m, pid);
        usleep(LOAD_MS * 1000);
    }
    close(fds[0]);
    (void)waitpid(pid, NULL, 0);
    if (r == 0)
        tell("control", "", &result);
    return r;
}

int main(int argc, char **argv)
{
    char path[64];
    pid_t backend;
    int r;

    if (argc < 2) {
        fprintf(stderr, "usage: %s BACKEND [ARGUMENT...]   ({socket} is replaced)\n", argv[0]);
        return 64;
    }
    snprintf(path, sizeof(path), "/tmp/bench_reconnect-%d.sock", (int)getpid());
    backend = measured_start(argv + 1, path);
    measured_pin_to(0);
    printf("%-8s %-7s %29s %29s\n", "", "", "ms: p50       p99       max",
           "without waits for a CPU");
    r = run_layout(argv + 1, path, &backend, false);
    if (r == 0)
        r = run_layout(argv + 1, path, &backend, true);
    if (r == 0)
        r = run_control();
    kill_backend(backend);
    unlink(path);
    return r == 0 ? 0 : 1;
}
