/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A verified load on one queue while its environment changes: regions are added and removed (slots)
 * or the table is replaced (table), call descriptors are swapped, the queue is disabled, enabled,
 * stopped and restarted at its base. No request is lost or completed twice, and all data is
 * correct. The other queue does I/O from and to the regions just added.
 */
#include "../fixtures/fixture.h"
#include "base/clock.h"
#include "fdcheck.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define RUN_MS   500
#define DEPTH    16
#define HOT_GPA  UINT64_C(0x80000000)
#define HOT_SIZE UINT64_C(0x21000)
#define N_HOT    4

struct run {
    struct fixture fixture;
    struct guest g;
    struct gw_guest_disk *disk;
    struct gw_guest_load *load;
    struct gw_driver_blk blk;
    pthread_t thread;
    bool table;
    int result; /* of the load thread */
    unsigned n_changes;
};

static void *load_main(void *arg)
{
    struct run *run = arg;

    run->result = gw_guest_load_run(run->load, 0, 0, FIXTURE_STALL_MS);
    return NULL;
}

static void start_load(struct run *run, bool sleep)
{
    struct gw_guest_disk_config disk = {
        .size = sizeof(disk), .length = DISK_SIZE / 2, .seed = 1, .blank = true};
    struct gw_guest_load_config load = {.size = sizeof(load),
                                        .drivers = run->g.drivers,
                                        .n_drivers = 1,
                                        .depth = DEPTH,
                                        .write_percent = 50,
                                        .flush_percent = 2,
                                        .segments = 2,
                                        .sleep = sleep,
                                        .call_grace_ms = patience_ms()};

    assert_int_equal(gw_guest_disk_new(&run->disk, &disk), 0);
    load.disk = run->disk;
    assert_int_equal(gw_guest_load_new(&run->load, &load), 0);
    assert_int_equal(pthread_create(&run->thread, NULL, load_main, run), 0);
}

static void begin(struct run *run, const struct fixture_config *cfg, bool table, bool sleep)
{
    memset(run, 0, sizeof(*run));
    run->table = table;
    fixture_start(&run->fixture, cfg);
    guest_init(&run->g, 128);
    run->g.opt.mem_form = table ? GW_FRONTEND_MEM_TABLE : GW_FRONTEND_MEM_SLOTS;
    assert_int_equal(fixture_connect(&run->fixture, run->g.fe), 0);
    assert_int_equal(gw_frontend_start(run->g.fe, &run->g.opt), 0);
    assert_int_equal(gw_driver_blk_init(&run->blk, run->g.drivers[1]), 0);
    start_load(run, sleep);
}

/* The disk holds the data that the load wrote last. */
static void check_disk(struct run *run)
{
    if (run->fixture.disk.fd >= 0) {
        assert_int_equal(gw_guest_disk_check_fd(run->disk, run->fixture.disk.fd), 0);
        return;
    }
    for (uint64_t i = 0; i < DISK_SIZE / 2 / 4096; i++)
        if (gw_guest_disk_check(run->disk, i, run->fixture.disk.ram + i * 4096) < 0)
            fail_msg("%s", gw_guest_disk_error(run->disk));
}

static void end(struct run *run)
{
    struct gw_guest_load_stats stats;

    gw_guest_load_interrupt(run->load);
    pthread_join(run->thread, NULL);
    if (run->result < 0 || gw_guest_load_drain(run->load, FIXTURE_STALL_MS) < 0)
        fail_msg("the load: %s", gw_guest_load_error(run->load));
    gw_guest_load_stats(run->load, &stats);
    printf("%lu requests, %u changes\n", (unsigned long)stats.requests, run->n_changes);
    assert_true(stats.requests > 0 && run->n_changes > 0);
    assert_int_equal(gw_frontend_stop(run->g.fe, run->g.drivers, FIXTURE_QUEUES), 0);
    check_disk(run);
    gw_guest_load_free(run->load);
    gw_guest_disk_free(run->disk);
    gw_driver_blk_done(&run->blk);
    guest_done(&run->g);
    assert_true(fixture_check(&run->fixture, "memory coming and going"));
    fixture_stop(&run->fixture);
}

/* Fail the test if a request to the back-end failed. */
static void did(struct run *run, int r)
{
    if (r < 0)
        fail_msg("%s (%d)", gw_frontend_last_error(), r);
}

static void plug(struct run *run, unsigned i)
{
    struct gw_guest_region region = {.kind = GW_GUEST_MEMFD,
                                     .gpa = HOT_GPA + 2 * HOT_SIZE * i,
                                     .length = HOT_SIZE,
                                     .offset = i % 2 ? 0x3000 : 0,
                                     .no_alloc = true};

    assert_int_equal(gw_guest_mem_add(run->g.mem, &region), 0);
    did(run, run->table ? gw_frontend_set_mem_table(run->g.fe, run->g.mem)
                        : gw_frontend_add_mem_reg(run->g.fe, run->g.mem, region.gpa));
}

static void unplug(struct run *run, unsigned i)
{
    gw_gpa_t gpa = HOT_GPA + 2 * HOT_SIZE * i;

    if (!run->table)
        did(run, gw_frontend_rem_mem_reg(run->g.fe, run->g.mem, gpa));
    assert_int_equal(gw_guest_mem_remove(run->g.mem, gpa), 0);
    if (run->table)
        did(run, gw_frontend_set_mem_table(run->g.fe, run->g.mem));
}

/* Write from the new region to the disk, and read back to another place in the region. */
static void use(struct run *run, unsigned i)
{
    struct gw_driver_buf out = {HOT_GPA + 2 * HOT_SIZE * i, 4096};
    struct gw_driver_buf in = {out.addr + HOT_SIZE - 4096, 4096};
    uint8_t *written = gw_guest_mem_at(run->g.mem, out.addr, out.len);
    uint8_t *read = gw_guest_mem_at(run->g.mem, in.addr, in.len);
    const uint64_t sector = DISK_SIZE / 2 / 512 + 8 * i; /* not in the load's half */

    memset(written, (int)(run->n_changes | 1), out.len);
    assert_int_equal(gw_driver_blk_add(&run->blk, GW_DRIVER_BLK_WRITE, sector, &out, 1, 1, 0), 0);
    assert_int_equal(gw_driver_blk_wait(&run->blk, 1, FIXTURE_STALL_MS), 0);
    assert_int_equal(gw_driver_blk_add(&run->blk, GW_DRIVER_BLK_READ, sector, &in, 1, 2, 0), 0);
    assert_int_equal(gw_driver_blk_wait(&run->blk, 2, FIXTURE_STALL_MS), 0);
    assert_memory_equal(written, read, out.len);
}

/* Switch to a call descriptor that no thread reads, and back. */
static void swap_call(struct run *run)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    assert_true(fd >= 0);
    did(run, gw_frontend_set_vring_call(run->g.fe, 0, fd));
    close(fd);
    did(run, gw_frontend_set_vring_call(run->g.fe, 0, gw_driver_call_fd(run->g.drivers[0])));
}

static void change_queue(struct run *run)
{
    did(run, gw_frontend_set_vring_enable(run->g.fe, 0, false));
    if (run->n_changes % 2) {
        did(run, gw_frontend_stop_queue(run->g.fe, run->g.drivers[0]));
        did(run, gw_frontend_start_queue(run->g.fe, run->g.drivers[0]));
    }
    did(run, gw_frontend_set_vring_enable(run->g.fe, 0, true));
}

static void run_changes(const struct fixture_config *cfg, bool table, bool sleep)
{
    static struct run run;
    bool plugged[N_HOT] = {false};
    uint64_t until;

    begin(&run, cfg, table, sleep);
    until = gw_clock_ms() + RUN_MS;
    for (unsigned i = 0; gw_clock_ms() < until; i = (i + 1) % N_HOT, run.n_changes++) {
        if (plugged[i])
            unplug(&run, i);
        else
            plug(&run, i);
        plugged[i] = !plugged[i];
        if (plugged[i])
            use(&run, i);
        if (run.n_changes % 3 == 0)
            swap_call(&run);
        if (run.n_changes % 5 == 0)
            change_queue(&run);
    }
    end(&run);
}

/* Slots and table, polling and sleeping, with one worker and with two. */
static void run_kinds(enum gw_loop_kind loop, enum disk_kind kind)
{
    const struct fixture_config one = {.loop = loop, .kind = kind, .n_workers = 1};
    const struct fixture_config two = {.loop = loop, .kind = kind, .n_workers = 2};

    run_changes(&one, false, false);
    run_changes(&two, false, true);
    run_changes(&one, true, true);
    run_changes(&two, true, false);
}

static void test_ram_epoll(void **state)
{
    (void)state;
    run_kinds(GW_LOOP_EPOLL, DISK_RAM);
}

static void test_ram_uring(void **state)
{
    (void)state;
    if (!fixture_has_uring())
        skip();
    run_kinds(GW_LOOP_URING, DISK_RAM);
}

static void test_file_epoll(void **state)
{
    (void)state;
    run_kinds(GW_LOOP_EPOLL, DISK_FILE);
}

static void test_file_uring(void **state)
{
    (void)state;
    if (!fixture_has_uring())
        skip();
    run_kinds(GW_LOOP_URING, DISK_FILE);
}

/* By guest address: a hold for each request. */
static void test_gpa_epoll(void **state)
{
    run_kinds(GW_LOOP_EPOLL, DISK_GPA);
}

/* A region with slow requests in flight is removed: the answer comes once they have completed. */
static void test_removal_waits_for_requests(void **state)
{
    static struct run run;
    struct gw_driver_buf in = {HOT_GPA, 4096};
    struct gw_queue_stats stats;
    (void)state;

    memset(&run, 0, sizeof(run));
    fixture_start(&run.fixture, &(struct fixture_config){.kind = DISK_SLOW, .delay_ms = 100});
    guest_init(&run.g, 16);
    assert_int_equal(fixture_connect(&run.fixture, run.g.fe), 0);
    assert_int_equal(gw_frontend_start(run.g.fe, &run.g.opt), 0);
    assert_int_equal(gw_driver_blk_init(&run.blk, run.g.drivers[1]), 0);
    for (unsigned i = 0; i < 5; i++) {
        plug(&run, 0);
        assert_int_equal(gw_driver_blk_add(&run.blk, GW_DRIVER_BLK_READ, 0, &in, 1, 1, 0), 0);
        gw_driver_kick_always(run.g.drivers[1]);
        do
            gw_queue_stats(gw_daemon_queue(run.fixture.daemon, 1), &stats);
        while (stats.in_flight == 0);
        unplug(&run, 0);
        gw_queue_stats(gw_daemon_queue(run.fixture.daemon, 1), &stats);
        assert_int_equal(stats.in_flight, 0);
        assert_int_equal(gw_driver_blk_wait(&run.blk, 1, FIXTURE_STALL_MS), 0);
    }
    gw_driver_blk_done(&run.blk);
    guest_done(&run.g);
    assert_true(fixture_check(&run.fixture, "removal with requests in flight"));
    fixture_stop(&run.fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_ram_epoll),  FDCHECK_TEST(test_ram_uring),
        FDCHECK_TEST(test_file_epoll), FDCHECK_TEST(test_file_uring),
        FDCHECK_TEST(test_gpa_epoll),  FDCHECK_TEST(test_removal_waits_for_requests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
