/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Messages that are valid individually: repeated a thousand times they leak nothing; at the wrong
 * time they remove the memory of a ring; and a full eventfd blocks no thread.
 */
#include "../fixtures/bad.h"
#include "fdcheck.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define REPEAT 1000
#define SLOTS  509
#define GPA2   UINT64_C(0x80000000)
#define SMALL  UINT64_C(4096)

static struct fixture fixture;

/* Count open descriptors and mappings of this process, which includes the daemon. */
static unsigned count_things(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;
    int c;

    assert_non_null(maps);
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    while ((c = getc(maps)) != EOF)
        n += c == '\n';
    closedir(dir);
    fclose(maps);
    return n;
}

/*
 * Allocators and sanitizers occasionally map something, but not hundreds of mappings; up to 8
 * threads close descriptors, with a few tens still open.
 */
static void assert_not_grown(unsigned before)
{
    assert_in_range(count_things(), 0, before + 90);
}

static int make_eventfd(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    assert_true(fd >= 0);
    return fd;
}

static void begin(struct guest *g, enum gw_loop_kind loop, bool table)
{
    fixture_start(&fixture, &(struct fixture_config){.loop = loop});
    guest_init(g, 16);
    if (table)
        g->opt.mem_form = GW_FRONTEND_MEM_TABLE;
    assert_int_equal(fixture_connect(&fixture, g->fe), 0);
    assert_int_equal(gw_frontend_start(g->fe, &g->opt), 0);
    assert_int_equal(guest_io(g, 0, 0, 1), 0);
    assert_int_equal(guest_io(g, 1, 8, 2), 0);
}

static void end(struct guest *g, const char *name)
{
    guest_done(g);
    fds_done();
    assert_true(fixture_check(&fixture, name));
    fixture_stop(&fixture);
}

/* Pass a new descriptor each time; the queue continues with the last one. */
static void repeat_fds(struct guest *g, int (*set)(struct gw_frontend *, unsigned, int), int last)
{
    unsigned before = count_things();

    for (unsigned i = 0; i < REPEAT; i++) {
        int fd = make_eventfd();

        assert_int_equal(set(g->fe, 0, i % 8 == 7 ? -1 : fd), 0);
        close(fd);
        if (i % 100 == 0)
            assert_int_equal(guest_io(g, 1, 16, (uint8_t)i), 0);
    }
    assert_int_equal(set(g->fe, 0, last), 0);
    assert_not_grown(before);
    assert_int_equal(guest_io(g, 0, 0, 3), 0);
}

static void run_repeat_fds(enum gw_loop_kind loop)
{
    struct guest g;
    int err = make_eventfd();

    begin(&g, loop, false);
    repeat_fds(&g, gw_frontend_set_vring_call, gw_driver_call_fd(g.drivers[0]));
    repeat_fds(&g, gw_frontend_set_vring_kick, gw_driver_kick_fd(g.drivers[0]));
    repeat_fds(&g, gw_frontend_set_vring_err, err);
    close(err);
    end(&g, "repeated descriptors");
}

static void test_repeat_fds_epoll(void **state)
{
    (void)state;
    run_repeat_fds(GW_LOOP_EPOLL);
}

static void test_repeat_fds_uring(void **state)
{
    (void)state;
    if (!fixture_has_uring())
        skip();
    run_repeat_fds(GW_LOOP_URING);
}

/* Each new dirty log or log descriptor replaces and releases the old one. */
static void test_repeat_logs(void **state)
{
    const struct gw_wire_log log = {.mmap_size = 0x10000};
    int fds[2] = {fd_make(FD_MEMFD), make_eventfd()};
    struct bad_message messages[2] = {
        {.request = 6, .flags = 1, .size = 16, .payload = &log, .length = 16, .fds = &fds[0]},
        {.request = 7, .flags = 1, .fds = &fds[1]},
    };
    struct guest g;
    unsigned before;
    (void)state;

    begin(&g, GW_LOOP_AUTO, false);
    before = count_things();
    for (unsigned i = 0; i < REPEAT; i++) {
        messages[i % 2].n_fds = 1;
        assert_true(bad_send(&g, "a log", &messages[i % 2], ACCEPTED));
        if (i % 100 == 0)
            assert_int_equal(guest_io(&g, 0, 0, (uint8_t)i), 0);
    }
    assert_not_grown(before);
    close(fds[0]);
    close(fds[1]);
    end(&g, "repeated logs");
}

static void test_repeat_table(void **state)
{
    struct guest g;
    unsigned before;
    (void)state;

    begin(&g, GW_LOOP_AUTO, true);
    before = count_things();
    for (unsigned i = 0; i < REPEAT; i++) {
        assert_int_equal(gw_frontend_set_mem_table(g.fe, g.mem), 0);
        if (i % 100 == 0)
            assert_int_equal(guest_io(&g, 0, 0, (uint8_t)i), 0);
    }
    assert_not_grown(before);
    end(&g, "repeated tables");
}

static void test_repeat_regions(void **state)
{
    struct gw_guest_region region = {
        .kind = GW_GUEST_MEMFD, .gpa = GPA2, .length = SMALL, .no_alloc = true};
    struct guest g;
    unsigned before;
    (void)state;

    begin(&g, GW_LOOP_AUTO, false);
    assert_int_equal(gw_guest_mem_add(g.mem, &region), 0);
    before = count_things();
    for (unsigned i = 0; i < REPEAT; i++) {
        assert_int_equal(gw_frontend_add_mem_reg(g.fe, g.mem, GPA2), 0);
        /* A repeated region is refused without effect. */
        assert_int_equal(gw_frontend_add_mem_reg(g.fe, g.mem, GPA2), -EREMOTEIO);
        assert_int_equal(gw_frontend_rem_mem_reg(g.fe, g.mem, GPA2), 0);
        assert_int_equal(gw_frontend_rem_mem_reg(g.fe, g.mem, GPA2), -EREMOTEIO);
    }
    assert_not_grown(before);
    assert_int_equal(guest_io(&g, 0, 0, 4), 0);
    end(&g, "repeated regions");
}

static void test_repeat_channel(void **state)
{
    struct gw_frontend_message msg;
    struct guest g;
    unsigned before;
    (void)state;

    begin(&g, GW_LOOP_AUTO, false);
    before = count_things();
    for (unsigned i = 0; i < REPEAT; i++)
        assert_int_equal(gw_frontend_set_backend_req_fd(g.fe), 0);
    assert_not_grown(before);
    /* The last one works. */
    gw_daemon_config_changed(fixture.daemon);
    assert_int_equal(gw_frontend_backend_request(g.fe, &msg, 5000), 0);
    assert_int_equal(msg.request, GW_BACKEND_MSG_CONFIG_CHANGE);
    gw_frontend_message_done(&msg);
    end(&g, "repeated channels");
}

/* The daemon accepts 509 regions, refuses one more, and can use all it accepted. */
static void test_too_many_regions(void **state)
{
    struct guest g;
    (void)state;

    begin(&g, GW_LOOP_AUTO, false);
    for (unsigned i = 1; i <= SLOTS; i++) {
        struct gw_guest_region region = {
            .kind = GW_GUEST_MEMFD, .gpa = GPA2 + 2 * SMALL * i, .length = SMALL, .no_alloc = true};

        assert_int_equal(gw_guest_mem_add(g.mem, &region), 0);
        assert_int_equal(gw_frontend_add_mem_reg(g.fe, g.mem, region.gpa),
                         i < SLOTS ? 0 : -EREMOTEIO);
    }
    assert_true(fixture_says(&fixture, "all 509 memory slots are taken"));
    assert_int_equal(guest_io(&g, 0, 0, 5), 0);
    assert_int_equal(gw_frontend_rem_mem_reg(g.fe, g.mem, GPA2 + 2 * SMALL), 0);
    assert_int_equal(gw_frontend_add_mem_reg(g.fe, g.mem, GPA2 + 2 * SMALL * SLOTS), 0);
    assert_int_equal(guest_io(&g, 1, 8, 6), 0);
    end(&g, "509 regions");
}

static bool is_signalled(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, 5000) == 1;
}

/* Removing the memory of a running ring breaks the queue, which reports it and can be repaired. */
static void run_memory_taken(bool table)
{
    struct gw_guest_mem *empty;
    struct guest g;
    int err = make_eventfd();
    uint32_t base;

    begin(&g, GW_LOOP_AUTO, table);
    assert_int_equal(gw_frontend_set_vring_err(g.fe, 0, err), 0);
    assert_int_equal(gw_guest_mem_new(&empty, GUEST_UVA), 0);
    if (table)
        assert_int_equal(gw_frontend_set_mem_table(g.fe, empty), 0);
    else
        assert_int_equal(gw_frontend_rem_mem_reg(g.fe, g.mem, GUEST_GPA), 0);
    assert_true(is_signalled(err));
    assert_true(fixture_says(&fixture, "queue 0 is broken until it is stopped"));
    assert_true(fixture_says(&fixture, "is not in guest memory"));
    gw_driver_kick_always(g.drivers[0]);
    for (unsigned i = 0; i < FIXTURE_QUEUES; i++)
        assert_int_equal(gw_frontend_get_vring_base(g.fe, i, &base), 0);
    /* It does not start without memory. */
    assert_int_equal(gw_frontend_start_queue(g.fe, g.drivers[0]), -EREMOTEIO);
    if (table)
        assert_int_equal(gw_frontend_set_mem_table(g.fe, g.mem), 0);
    else
        assert_int_equal(gw_frontend_add_mem_reg(g.fe, g.mem, GUEST_GPA), 0);
    for (unsigned i = 0; i < FIXTURE_QUEUES; i++) {
        gw_driver_set_base(g.drivers[i], gw_driver_used_idx(g.drivers[i]));
        assert_int_equal(gw_frontend_start_queue(g.fe, g.drivers[i]), 0);
        assert_int_equal(guest_io(&g, i, 8 * i, (uint8_t)(7 + i)), 0);
    }
    gw_guest_mem_free(empty);
    close(err);
    end(&g, "memory taken away");
}

static void test_region_of_running_ring_removed(void **state)
{
    (void)state;
    run_memory_taken(false);
}

static void test_table_without_running_ring(void **state)
{
    (void)state;
    run_memory_taken(true);
}

/* A request whose completion is polled in the ring, because its call does not arrive. */
static void do_without_call(struct guest *g)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct gw_driver_used used;
    struct gw_driver_blk blk;
    unsigned n = 0;

    assert_int_equal(gw_driver_blk_init(&blk, g->drivers[0]), 0);
    assert_int_equal(gw_driver_blk_add(&blk, GW_DRIVER_BLK_FLUSH, 0, NULL, 0, 1, 0), 0);
    (void)gw_driver_want_calls(g->drivers[0]);
    gw_driver_kick(g->drivers[0]);
    while (gw_driver_take(g->drivers[0], &used, 1) == 0 && n++ < 5000)
        nanosleep(&pause, NULL);
    assert_int_equal(gw_driver_in_flight(g->drivers[0]), 0);
    assert_int_equal(gw_driver_blk_status(&blk), 0);
    gw_driver_blk_done(&blk);
}

/* Notifications that cannot be written are lost, but nothing else is. */
static void run_full_call(enum gw_loop_kind loop)
{
    struct guest g;
    int full = fd_make(FD_EVENTFD_FULL_BLOCKING);

    begin(&g, loop, false);
    assert_int_equal(gw_frontend_set_vring_call(g.fe, 0, full), 0);
    assert_int_equal(gw_frontend_set_vring_err(g.fe, 0, full), 0);
    for (unsigned i = 0; i < 100; i++)
        do_without_call(&g);
    assert_int_equal(guest_io(&g, 1, 8, 9), 0);
    assert_int_equal(gw_frontend_set_vring_call(g.fe, 0, gw_driver_call_fd(g.drivers[0])), 0);
    assert_int_equal(guest_io(&g, 0, 0, 10), 0);
    close(full);
    end(&g, "full call descriptor");
}

static void test_full_call_epoll(void **state)
{
    (void)state;
    run_full_call(GW_LOOP_EPOLL);
}

static void test_full_call_uring(void **state)
{
    (void)state;
    if (!fixture_has_uring())
        skip();
    run_full_call(GW_LOOP_URING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_repeat_fds_epoll),
        FDCHECK_TEST(test_repeat_fds_uring),
        FDCHECK_TEST(test_repeat_logs),
        FDCHECK_TEST(test_repeat_table),
        FDCHECK_TEST(test_repeat_regions),
        FDCHECK_TEST(test_repeat_channel),
        FDCHECK_TEST(test_too_many_regions),
        FDCHECK_TEST(test_region_of_running_ring_removed),
        FDCHECK_TEST(test_table_without_running_ring),
        FDCHECK_TEST(test_full_call_epoll),
        FDCHECK_TEST(test_full_call_uring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
