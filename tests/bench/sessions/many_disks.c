/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "many_disks.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB  (1ULL << 20)
#define F(n) (UINT64_C(1) << (n))

void many_fail(const char *what, int r)
{
    fprintf(stderr, "bench_sessions: %s: %s %s\n", what, r < 0 ? strerror(-r) : "",
            gw_frontend_last_error());
    exit(EXIT_FAILURE);
}

static void check(bool is_ok, const char *what)
{
    if (!is_ok)
        many_fail(what, -errno);
}

/* ---- back-ends ---- */

static void path_of(const struct many_disks *m, unsigned i, const char *suffix, char path[108])
{
    snprintf(path, 108, "%s/%u%s", m->dir, i, suffix);
}

static void make_file(const struct many_disks *m, unsigned i)
{
    char path[108];
    int fd;

    path_of(m, i, ".img", path);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    check(fd >= 0 && ftruncate(fd, 16 * MIB) == 0, path);
    close(fd);
}

/* Returns: the list of one disk, as for --disk. */
static void list_of(const struct many_disks *m, unsigned i, const char *key, char list[400])
{
    if (m->has_files)
        snprintf(list, 400, "socket=%s/%u.sock,file=%s/%u.img%s", m->dir, i, m->dir, i, key);
    else
        snprintf(list, 400, "socket=%s/%u.sock,ram=16M%s", m->dir, i, key);
}

static pid_t start(const char *program, const char *option, const char *value, unsigned workers)
{
    char workers_option[32];
    pid_t pid = fork();

    snprintf(workers_option, sizeof(workers_option), "--workers=%u", workers);
    check(pid >= 0, "fork");
    if (pid == 0) {
        execl(program, program, option, value, workers_option, NULL);
        perror(program);
        _exit(127);
    }
    return pid;
}

static void await_socket(const struct many_disks *m, unsigned i)
{
    const struct timespec step = {.tv_nsec = 1000000};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    check(fd >= 0, "socket");
    path_of(m, i, ".sock", addr.sun_path);
    for (unsigned ms = 0; ms < MANY_STALL_MS; ms++) {
        if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0) {
            close(fd);
            return;
        }
        nanosleep(&step, NULL);
    }
    many_fail(addr.sun_path, -errno);
}

static void start_one(struct many_disks *m, const char *program, unsigned workers, const char *key)
{
    char path[108], list[400];
    FILE *out;

    snprintf(path, sizeof(path), "%s/disks", m->dir);
    out = fopen(path, "we");
    check(out != NULL, path);
    for (unsigned i = 0; i < m->n; i++) {
        list_of(m, i, i == 0 ? key : "", list);
        fprintf(out, "%s\n", list);
    }
    check(fclose(out) == 0, path);
    m->pids[m->n_pids++] = start(program, "--config", path, workers);
}

void many_start(struct many_disks *m, const char *program, unsigned n, unsigned workers,
                bool has_files, const char *key)
{
    struct rlimit limit;
    char list[400];

    check(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    check(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
    *m = (struct many_disks){.dir = "/tmp/bench_sessions-XXXXXX", .n = n, .has_files = has_files};
    check(mkdtemp(m->dir) != NULL, "mkdtemp");
    m->pids = calloc(n + 1, sizeof(*m->pids));
    check(m->pids != NULL, "calloc");
    for (unsigned i = 0; has_files && i < n; i++)
        make_file(m, i);
    if (workers > 0)
        start_one(m, program, workers, key);
    for (unsigned i = 0; workers == 0 && i < n; i++) {
        list_of(m, i, i == 0 ? key : "", list);
        m->pids[m->n_pids++] = start(program, "--disk", list, 1);
    }
    for (unsigned i = 0; i < n; i++)
        await_socket(m, i);
}

void many_stop(struct many_disks *m)
{
    char path[108];
    int status;

    for (unsigned i = 0; i < m->n_pids; i++)
        kill(m->pids[i], SIGTERM);
    for (unsigned i = 0; i < m->n_pids; i++)
        if (waitpid(m->pids[i], &status, 0) == m->pids[i] && status != 0)
            fprintf(stderr, "bench_sessions: a back-end ended with status %#x\n", status);
    for (unsigned i = 0; m->has_files && i < m->n; i++) {
        path_of(m, i, ".img", path);
        unlink(path);
    }
    snprintf(path, sizeof(path), "%s/disks", m->dir);
    unlink(path);
    if (rmdir(m->dir) < 0)
        perror(m->dir);
    free(m->pids);
}

/* ---- what they use ---- */

uint64_t many_cpu_ns(const struct many_disks *m)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < m->n_pids; i++) {
        struct timespec ts = {0};
        clockid_t clock;

        if (clock_getcpuclockid(m->pids[i], &clock) == 0 && clock_gettime(clock, &ts) == 0)
            sum += (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
    }
    return sum;
}

/* Add up the numbers of lines that begin with a word. */
static uint64_t sum_of(const struct many_disks *m, const char *file, const char *format)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < m->n_pids; i++) {
        char path[64], line[200];
        unsigned long long value;
        FILE *in;

        snprintf(path, sizeof(path), "/proc/%d/%s", (int)m->pids[i], file);
        in = fopen(path, "re");
        check(in != NULL, path);
        while (fgets(line, sizeof(line), in) != NULL) {
            char word[64];

            if (sscanf(line, "%63[^:]: %llu", word, &value) == 2 &&
                strncmp(word, format, strlen(format)) == 0)
                sum += value;
        }
        fclose(in);
    }
    return sum;
}

uint64_t many_private(const struct many_disks *m)
{
    return sum_of(m, "smaps_rollup", "Private_") * 1024;
}

unsigned many_threads(const struct many_disks *m)
{
    return (unsigned)sum_of(m, "status", "Threads");
}

/* ---- guests ---- */

void many_guest_init(struct many_guest *g)
{
    struct gw_guest_region region = {.kind = GW_GUEST_MEMFD, .length = 2 * MIB};
    struct gw_driver_config ring = {.size = sizeof(ring), .queue_size = 128};
    int r = gw_guest_mem_new(&g->mem, GW_GUEST_UVA_HOST);

    if (r == 0)
        r = gw_guest_mem_add(g->mem, &region);
    ring.mem = g->mem;
    if (r == 0)
        r = gw_driver_new(&g->driver, &ring);
    if (r < 0)
        many_fail("a guest", r);
}

void many_guest_done(struct many_guest *g)
{
    many_guest_unload(g);
    many_guest_disconnect(g);
    gw_driver_free(g->driver);
    gw_guest_mem_free(g->mem);
    *g = (struct many_guest){0};
}

int many_guest_connect(struct many_guest *g, const struct many_disks *m, unsigned i)
{
    struct gw_frontend_options options = {
        .size = sizeof(options),
        .features = F(28) | F(29) | F(30) | F(32),
        .mem = g->mem,
        .drivers = &g->driver,
        .n_drivers = 1,
    };
    char path[108];
    int r = gw_frontend_new(&g->fe, NULL);

    path_of(m, i, ".sock", path);
    if (r == 0)
        r = gw_frontend_connect(g->fe, path);
    return r == 0 ? gw_frontend_start(g->fe, &options) : r;
}

void many_guest_disconnect(struct many_guest *g)
{
    gw_frontend_free(g->fe);
    g->fe = NULL;
}

void many_guest_load(struct many_guest *g, unsigned depth)
{
    struct gw_guest_disk_config disk = {
        .size = sizeof(disk), .length = 8 * MIB, .block_size = 4096};
    struct gw_guest_load_config load = {.size = sizeof(load),
                                        .drivers = &g->driver,
                                        .n_drivers = 1,
                                        .depth = depth,
                                        .no_data = true};
    int r = gw_guest_disk_new(&g->disk, &disk);

    load.disk = g->disk;
    if (r == 0)
        r = gw_guest_load_new(&g->load, &load);
    if (r < 0)
        many_fail("a load", r);
}

void many_guest_unload(struct many_guest *g)
{
    gw_guest_load_free(g->load);
    gw_guest_disk_free(g->disk);
    g->load = NULL;
    g->disk = NULL;
}
