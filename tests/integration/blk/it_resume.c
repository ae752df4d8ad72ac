/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The back-end is killed repeatedly in the middle of I/O and restarted; gw_frontend_start resumes
 * with the same drivers. With the inflight region no gw_driver_requeue is needed and the load never
 * notices. Every request completes exactly once and every block holds the last data written, in
 * both layouts, in and out of order.
 *
 * usage: it_resume PATH_OF_GODWIT_BLK
 */
#include "base/clock.h"
#include "blk_test.h"
#include "fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KILLS    25
#define DISK_LEN (UINT64_C(4) << 20)
#define F_DEFAULT \
    ((UINT64_C(1) << 28) | (UINT64_C(1) << 29) | (UINT64_C(1) << 30) | (UINT64_C(1) << 32))
#define F_PACKED (UINT64_C(1) << 34)
#define F_ORDER  (UINT64_C(1) << 35)

struct way {
    const char *name;
    const char *loop;
    bool packed, in_order;
    bool has_region;
    bool sleeps;
    bool is_client; /* the back-end connects to us */
};

struct resume_test {
    const struct way *way;
    struct blk_test blk;
    struct gw_guest_mem *mem;
    struct gw_driver *drivers[FIXTURE_QUEUES];
    struct gw_frontend *fe;
    struct gw_frontend_options opt;
    struct gw_frontend_inflight region;
    struct gw_guest_disk *disk;
    struct gw_guest_load *load;
    int listen_fd;
    uint64_t worst_ns;    /* from connection to first completion */
    unsigned n_in_flight; /* total over all kills */
};

static void listen_for_it(struct resume_test *t)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};

    t->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(t->listen_fd >= 0);
    strcpy(sa.sun_path, t->blk.socket);
    assert_int_equal(bind(t->listen_fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(t->listen_fd, 1), 0);
}

static void start_backend(struct resume_test *t)
{
    struct program_config cfg = blk_test_config(&t->blk, t->way->loop);
    unsigned n = 0;

    while (cfg.args[n])
        n++;
    if (t->way->is_client)
        cfg.args[n] = "--client";
    program_start(&t->blk.program, &cfg);
}

static void begin_session(struct resume_test *t)
{
    if (t->way->is_client)
        assert_int_equal(gw_frontend_accept(t->fe, t->listen_fd), 0);
    else
        assert_int_equal(gw_frontend_connect(t->fe, t->blk.socket), 0);
    if (gw_frontend_start(t->fe, &t->opt) < 0)
        fail_msg("%s: start: %s", t->way->name, gw_frontend_last_error());
}

static void begin(struct resume_test *t, const struct way *way)
{
    const struct gw_guest_region region = {.gpa = GUEST_GPA, .length = 2 * DISK_LEN};
    struct gw_guest_disk_config disk = {.size = sizeof(disk), .length = DISK_LEN, .blank = true};
    struct gw_guest_load_config load = {.size = sizeof(load),
                                        .drivers = t->drivers,
                                        .n_drivers = FIXTURE_QUEUES,
                                        .depth = 16,
                                        .write_percent = 60,
                                        .flush_percent = 5,
                                        .segments = 2,
                                        .sleep = way->sleeps,
                                        .call_grace_ms = patience_ms()};

    memset(t, 0, sizeof(*t));
    t->way = way;
    t->listen_fd = -1;
    blk_test_begin(&t->blk, DISK_LEN);
    if (way->is_client)
        listen_for_it(t);
    assert_int_equal(gw_guest_mem_new(&t->mem, GUEST_UVA), 0);
    assert_int_equal(gw_guest_mem_add(t->mem, &region), 0);
    for (unsigned i = 0; i < FIXTURE_QUEUES; i++) {
        struct gw_driver_config cfg = {.size = sizeof(cfg),
                                       .mem = t->mem,
                                       .index = i,
                                       .queue_size = 128,
                                       .packed = way->packed};

        assert_int_equal(gw_driver_new(&t->drivers[i], &cfg), 0);
    }
    assert_int_equal(gw_guest_disk_new(&t->disk, &disk), 0);
    load.disk = t->disk;
    assert_int_equal(gw_guest_load_new(&t->load, &load), 0);
    assert_int_equal(gw_frontend_new(&t->fe, NULL), 0);
    t->opt = (struct gw_frontend_options){
        .size = sizeof(t->opt),
        .features = F_DEFAULT | (way->packed ? F_PACKED : 0) | (way->in_order ? F_ORDER : 0),
        .mem = t->mem,
        .drivers = t->drivers,
        .n_drivers = FIXTURE_QUEUES,
        .inflight = way->has_region ? &t->region : NULL,
    };
    start_backend(t);
    begin_session(t);
}

static void finish(struct resume_test *t)
{
    gw_guest_load_free(t->load);
    gw_guest_disk_free(t->disk);
    gw_frontend_free(t->fe);
    gw_frontend_inflight_done(&t->region);
    for (unsigned i = 0; i < FIXTURE_QUEUES; i++)
        gw_driver_free(t->drivers[i]);
    gw_guest_mem_free(t->mem);
    if (t->listen_fd >= 0)
        close(t->listen_fd);
    assert_int_equal(program_end(&t->blk.program, t->way->is_client ? 0 : SIGTERM), 0);
    blk_test_end(&t->blk);
}

static void check_load(struct resume_test *t, int r, unsigned kill_number)
{
    if (r < 0)
        fail_msg("%s: after kill %u: %s", t->way->name, kill_number, gw_guest_load_error(t->load));
}

/*
 * Kills the back-end during I/O, and interrupts the load, which would otherwise wait for its calls.
 */
struct killer {
    struct resume_test *t;
    pthread_t thread;
    unsigned after_us;
};

static void *killer_main(void *arg)
{
    struct killer *k = arg;

    usleep(k->after_us);
    kill(k->t->blk.program.pid, SIGKILL);
    gw_guest_load_interrupt(k->t->load);
    return NULL;
}

static void kill_and_resume(struct resume_test *t, unsigned number)
{
    struct killer k = {.t = t, .after_us = (unsigned)rand() % 8000};
    uint64_t begin;

    assert_int_equal(pthread_create(&k.thread, NULL, killer_main, &k), 0);
    check_load(t, gw_guest_load_run(t->load, 0, 0, 0), number);
    pthread_join(k.thread, NULL);
    assert_int_equal(program_end(&t->blk.program, 0), -SIGKILL);
    gw_frontend_disconnect(t->fe);
    for (unsigned i = 0; i < FIXTURE_QUEUES; i++) {
        t->n_in_flight += gw_driver_in_flight(t->drivers[i]);
        if (!t->way->has_region)
            gw_driver_requeue(t->drivers[i]);
    }
    start_backend(t);
    begin = gw_clock_ns();
    begin_session(t);
    check_load(t, gw_guest_load_run(t->load, 0, 1, FIXTURE_STALL_MS), number);
    if (gw_clock_ns() - begin > t->worst_ns)
        t->worst_ns = gw_clock_ns() - begin;
}

static void run_way(const struct way *way)
{
    struct gw_guest_load_stats stats;
    struct resume_test t;

    begin(&t, way);
    for (unsigned i = 0; i < KILLS; i++)
        kill_and_resume(&t, i);
    check_load(&t, gw_guest_load_run(t.load, 100, 0, FIXTURE_STALL_MS), KILLS);
    check_load(&t, gw_guest_load_drain(t.load, FIXTURE_STALL_MS), KILLS);
    for (unsigned i = 0; i < FIXTURE_QUEUES; i++) {
        assert_int_equal(gw_driver_in_flight(t.drivers[i]), 0);
        assert_int_equal(gw_driver_check(t.drivers[i]), 0);
    }
    assert_int_equal(gw_frontend_stop(t.fe, t.drivers, FIXTURE_QUEUES), 0);
    if (gw_guest_disk_check_fd(t.disk, t.blk.fd) < 0)
        fail_msg("%s: %s", way->name, gw_guest_disk_error(t.disk));
    gw_guest_load_stats(t.load, &stats);
    print_message("%s: %u kills with %u requests in flight, %lu completed, %lu blocks verified; "
                  "from the start of the program to the first completion %.1f ms at most\n",
                  way->name, KILLS, t.n_in_flight, (unsigned long)stats.requests,
                  (unsigned long)stats.verified, (double)t.worst_ns / 1e6);
    assert_true(t.n_in_flight > KILLS);
    assert_true(stats.verified > KILLS);
    finish(&t);
}

static void test_resume_with_the_region(void **state)
{
    const struct way ways[] = {
        {"split", "--loop=auto", .has_region = true},
        {"split, epoll, sleeping", "--loop=epoll", .has_region = true, .sleeps = true},
        {"split, in order", "--loop=auto", .has_region = true, .in_order = true},
        {"packed", "--loop=auto", .has_region = true, .packed = true},
        {"packed, epoll, sleeping", "--loop=epoll", .has_region = true, .packed = true,
         .sleeps = true},
        {"packed, in order", "--loop=auto", .has_region = true, .packed = true, .in_order = true},
        {"packed, as a client", "--loop=auto", .has_region = true, .packed = true,
         .is_client = true},
    };

    srand(4);
    for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
        run_way(&ways[i]);
}

static void test_resume_without_one_by_requeue(void **state)
{
    const struct way ways[] = {
        {"split, requeued", "--loop=auto"},
        {"split, in order, requeued", "--loop=auto", .in_order = true},
        {"packed, requeued", "--loop=auto", .packed = true},
        {"packed, in order, sleeping, requeued", "--loop=epoll", .packed = true, .in_order = true,
         .sleeps = true},
    };

    srand(5);
    for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
        run_way(&ways[i]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_resume_with_the_region),
        FDCHECK_TEST(test_resume_without_one_by_requeue),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: it_resume PATH_OF_GODWIT_BLK\n");
        return EXIT_FAILURE;
    }
    blk_test_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
