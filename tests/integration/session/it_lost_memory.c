/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A front-end truncates its guest memory or dirty log under load. The daemon reports it, ends the
 * session, releases everything and serves the next front-end.
 */
#include "../fixtures/bed.h"
#include "../fixtures/victim.h"
#include "fdcheck.h"
#include "hold_sigbus.h"

#include <godwit/frontend/log.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ROUNDS 12

static struct bed bed;
static enum gw_loop_kind loop;

static void begin(enum disk_kind kind)
{
    bed_start(&bed, &(struct bed_config){.loop = loop, .kind = kind, .n_workers = 2});
    hold_sigbus(); /* bed_start has served a session */
}

static void truncate_rounds(enum disk_kind kind, enum victim_end end, const char *what)
{
    begin(kind);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct program victim;

        bed_forget(&bed);
        victim_start(&victim, bed.path, end);
        bed.n_opened++;
        /*
         * The victim does not hang up: the daemon ends the session because it detects the
         * truncation.
         */
        assert_true(bed_says(&bed, what));
        assert_true(bed_wait_idle(&bed));
        (void)program_end(&victim, SIGKILL);
        assert_true(bed_check(&bed, what));
    }
    bed_stop(&bed);
}

static void test_lost_memory_under_load_ends_the_session_alone(void **state)
{
    truncate_rounds(DISK_RAM, VICTIM_TRUNCATES_MEMORY,
                    "the memory region at 0x40000000: the page at offset");
}

/* Here the kernel, too, hits the lost pages, and returns an errno. */
static void test_lost_memory_under_file_io_ends_the_session_alone(void **state)
{
    truncate_rounds(DISK_FILE, VICTIM_TRUNCATES_MEMORY,
                    "the memory region at 0x40000000: the page at offset");
}

static void test_lost_log_under_load_ends_the_session_alone(void **state)
{
    truncate_rounds(DISK_RAM, VICTIM_TRUNCATES_LOG, "the dirty log: the page at offset");
}

/* The memory that the device writes to is gone when slow requests complete. */
static void test_lost_memory_while_requests_are_out(void **state)
{
    struct program victim;

    bed_start(&bed, &(struct bed_config){
                        .loop = loop, .kind = DISK_SLOW, .delay_ms = 20, .n_workers = 2});
    hold_sigbus();
    for (unsigned i = 0; i < ROUNDS; i++) {
        bed_forget(&bed);
        victim_start(&victim, bed.path, VICTIM_TRUNCATES_MEMORY);
        bed.n_opened++;
        assert_true(bed_says(&bed, "the page at offset"));
        assert_true(bed_wait_idle(&bed));
        (void)program_end(&victim, SIGKILL);
    }
    assert_true(bed_check(&bed, "late requests"));
    bed_stop(&bed);
}

/* Losing a page that no thread accesses has no effect. */
static void test_lost_page_that_is_not_used_ends_nothing(void **state)
{
    struct gw_guest_region region;
    struct guest g;

    begin(DISK_RAM);
    guest_init(&g, 16);
    assert_int_equal(bed_connect(&bed, g.fe), 0);
    assert_int_equal(gw_frontend_start(g.fe, &g.opt), 0);
    assert_int_equal(guest_io(&g, 0, 8, 1), 0);
    assert_int_equal(gw_guest_mem_region(g.mem, 0, &region), 0);
    assert_int_equal(ftruncate(region.fd, (off_t)region.length - 4096), 0);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(guest_io(&g, i % 2, 8, (uint8_t)i), 0);
    assert_false(bed_said(&bed, "is gone"));
    guest_done(&g);
    assert_true(bed_check(&bed, "a page that is not used"));
    bed_stop(&bed);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_lost_memory_under_load_ends_the_session_alone),
        FDCHECK_TEST(test_lost_memory_under_file_io_ends_the_session_alone),
        FDCHECK_TEST(test_lost_log_under_load_ends_the_session_alone),
        FDCHECK_TEST(test_lost_memory_while_requests_are_out),
        FDCHECK_TEST(test_lost_page_that_is_not_used_ends_nothing),
    };
    int r = victim_main(argc, argv);

    if (r >= 0)
        return r;
    loop = GW_LOOP_EPOLL;
    r = cmocka_run_group_tests(tests, NULL, NULL);
    loop = GW_LOOP_URING;
    return bed_has_uring() ? cmocka_run_group_tests(tests, NULL, NULL) || r : r;
}
