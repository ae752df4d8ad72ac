/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "victim.h"

#include "post.h"

#include <godwit/frontend/log.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Its own access to what it took away; the connection is to stay. */
static void on_sigbus(int number)
{
    for (;;)
        pause();
}

static void *truncate_soon(void *arg)
{
    usleep((useconds_t)getpid() % 8 * 500);
    if (ftruncate(*(int *)arg, 0) < 0)
        _exit(1);
    return NULL;
}

struct runner {
    struct guest *guest;
    unsigned queue;
};

static void *run(void *arg)
{
    const struct runner *r = arg;
    uint64_t sector = 8 * r->queue;

    for (unsigned i = 0; guest_io(r->guest, r->queue, sector, (uint8_t)i) == 0; i++)
        sector = (sector + 16) % (DISK_SIZE / 512 / 2);
    return NULL;
}

static int start_log(struct guest *g)
{
    struct gw_guest_log_config cfg = {.size = sizeof(cfg), .no_seals = true};
    struct gw_guest_log *log;
    int r;

    cfg.length = gw_guest_log_length_for(g->mem, g->drivers, BED_QUEUES);
    r = gw_guest_log_new(&log, &cfg);
    if (r == 0)
        r = gw_frontend_set_log_base(g->fe, log);
    if (r == 0)
        r = gw_frontend_set_log_all(g->fe, true);
    return r < 0 ? r : gw_guest_log_fd(log);
}

static int starve(const char *path)
{
    struct guest g;
    int uffd;

    guest_init(&g, 64);
    if (gw_frontend_connect(g.fe, path) < 0 || post_starve(&g, &uffd) < 0)
        return 1;
    fputs("running\n", stderr);
    for (;;)
        pause();
}

static int suffer(const char *path, enum victim_end end)
{
    struct gw_guest_region region;
    struct guest g;
    struct runner runners[BED_QUEUES];
    pthread_t threads[BED_QUEUES], truncating;
    int fd;

    signal(SIGBUS, on_sigbus);
    guest_init(&g, 64);
    if (gw_guest_mem_region(g.mem, 0, &region) < 0 || gw_frontend_connect(g.fe, path) < 0 ||
        gw_frontend_start(g.fe, &g.opt) < 0)
        return 1;
    fd = end == VICTIM_TRUNCATES_LOG ? start_log(&g) : region.fd;
    for (unsigned i = 0; i < BED_QUEUES; i++) {
        runners[i] = (struct runner){&g, i};
        if (fd < 0 || guest_io(&g, i, 8 * i, 1) < 0 ||
            pthread_create(&threads[i], NULL, run, &runners[i]) != 0)
            return 1;
    }
    fputs("running\n", stderr);
    if (end != VICTIM_WAITS && pthread_create(&truncating, NULL, truncate_soon, &fd) != 0)
        return 1;
    /* What a driver cannot do in memory that is gone, it can still do without: kick. */
    for (;;) {
        for (unsigned i = 0; i < BED_QUEUES && end != VICTIM_WAITS; i++)
            (void)eventfd_write(gw_driver_kick_fd(g.drivers[i]), 1);
        usleep(1000);
    }
}

int victim_main(int argc, char **argv)
{
    if (argc != 4 || strcmp(argv[1], "victim") != 0)
        return -1;
    if (atoi(argv[3]) == VICTIM_SENDS_NO_PAGES)
        return starve(argv[2]);
    return suffer(argv[2], (enum victim_end)atoi(argv[3]));
}

void victim_start(struct program *p, const char *path, enum victim_end end)
{
    const char digit[] = {(char)('0' + end), '\0'};
    const struct program_config cfg = {.path = "/proc/self/exe", .args = {"victim", path, digit}};

    program_start(p, &cfg);
    assert_true(program_says(p, "running"));
}
