/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A front-end truncates its guest memory or dirty log under load. The daemon reports it, ends the
 * session, releases everything and serves the next front-end.
 */
#include "../fixtures/crash_target.h"
#include "../fixtures/fixture.h"
#include "fdcheck.h"
#include "hold_sigbus.h"

#include <godwit/frontend/log.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ROUNDS 12

static struct fixture fixture;
static enum gw_loop_kind loop;

static void begin(enum disk_kind kind)
{
    fixture_start(&fixture, &(struct fixture_config){.loop = loop, .kind = kind, .n_workers = 2});
    hold_sigbus(); /* fixture_start has made a daemon */
}

static void truncate_rounds(enum disk_kind kind, enum crash_target_end end, const char *what)
{
    begin(kind);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct program crash_target;

        fixture_forget(&fixture);
        crash_target_start(&crash_target, fixture.path, end);
        fixture.n_opened++;
        /*
         * The crash target does not hang up: the daemon ends the session because it detects the
         * truncation.
         */
        assert_true(fixture_says(&fixture, what));
        assert_true(fixture_wait_idle(&fixture));
        (void)program_end(&crash_target, SIGKILL);
        assert_true(fixture_check(&fixture, what));
    }
    fixture_stop(&fixture);
}

static void test_lost_memory_under_load_ends_the_session_alone(void **state)
{
    truncate_rounds(DISK_RAM, CRASH_TARGET_TRUNCATES_MEMORY,
                    "the memory region at 0x40000000: the page at offset");
}

/* Here the kernel, too, hits the lost pages, and returns an errno. */
static void test_lost_memory_under_file_io_ends_the_session_alone(void **state)
{
    truncate_rounds(DISK_FILE, CRASH_TARGET_TRUNCATES_MEMORY,
                    "the memory region at 0x40000000: the page at offset");
}

/* By guest address: the device and the kernel hit them by turns. */
static void test_lost_memory_under_access_by_address_ends_the_session_alone(void **state)
{
    truncate_rounds(DISK_GPA, CRASH_TARGET_TRUNCATES_MEMORY,
                    "the memory region at 0x40000000: the page at offset");
}

static void test_lost_log_under_load_ends_the_session_alone(void **state)
{
    truncate_rounds(DISK_RAM, CRASH_TARGET_TRUNCATES_LOG, "the dirty log: the page at offset");
}

/* The memory that the device writes to is gone when slow requests complete. */
static void test_lost_memory_while_requests_are_out(void **state)
{
    struct program crash_target;

    fixture_start(&fixture, &(struct fixture_config){
                                .loop = loop, .kind = DISK_SLOW, .delay_ms = 20, .n_workers = 2});
    hold_sigbus();
    for (unsigned i = 0; i < ROUNDS; i++) {
        fixture_forget(&fixture);
        crash_target_start(&crash_target, fixture.path, CRASH_TARGET_TRUNCATES_MEMORY);
        fixture.n_opened++;
        assert_true(fixture_says(&fixture, "the page at offset"));
        assert_true(fixture_wait_idle(&fixture));
        (void)program_end(&crash_target, SIGKILL);
    }
    assert_true(fixture_check(&fixture, "late requests"));
    fixture_stop(&fixture);
}

/* Losing a page that no thread accesses has no effect. */
static void test_lost_page_that_is_not_used_ends_nothing(void **state)
{
    struct gw_guest_region region;
    struct guest g;

    begin(DISK_RAM);
    guest_init(&g, 16);
    assert_int_equal(fixture_connect(&fixture, g.fe), 0);
    assert_int_equal(gw_frontend_start(g.fe, &g.opt), 0);
    assert_int_equal(guest_io(&g, 0, 8, 1), 0);
    assert_int_equal(gw_guest_mem_region(g.mem, 0, &region), 0);
    assert_int_equal(ftruncate(region.fd, (off_t)region.length - 4096), 0);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(guest_io(&g, i % 2, 8, (uint8_t)i), 0);
    assert_false(fixture_said(&fixture, "is gone"));
    guest_done(&g);
    assert_true(fixture_check(&fixture, "a page that is not used"));
    fixture_stop(&fixture);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_lost_memory_under_load_ends_the_session_alone),
        FDCHECK_TEST(test_lost_memory_under_file_io_ends_the_session_alone),
        FDCHECK_TEST(test_lost_memory_under_access_by_address_ends_the_session_alone),
        FDCHECK_TEST(test_lost_log_under_load_ends_the_session_alone),
        FDCHECK_TEST(test_lost_memory_while_requests_are_out),
        FDCHECK_TEST(test_lost_page_that_is_not_used_ends_nothing),
    };
    int r = crash_target_main(argc, argv);

    if (r >= 0)
        return r;
    loop = GW_LOOP_EPOLL;
    r = cmocka_run_group_tests(tests, NULL, NULL);
    loop = GW_LOOP_URING;
    return fixture_has_uring() ? cmocka_run_group_tests(tests, NULL, NULL) || r : r;
}
