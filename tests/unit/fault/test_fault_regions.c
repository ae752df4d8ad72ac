/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Limits of the fault server's regions and ranges, and its ways to run, one after the other. */
#include "fault_fixture.h"

#include <errno.h>

#define GPA UINT64_C(0x100000)

static struct gw_guest_mem *memory(gw_gpa_t gpa, uint64_t n_pages, gw_off_t offset)
{
    const struct gw_guest_region region = {.gpa = gpa, .length = n_pages * PAGE, .offset = offset};
    struct gw_guest_mem *m;

    assert_int_equal(gw_guest_mem_new(&m, 0), 0);
    assert_int_equal(gw_guest_mem_add(m, &region), 0);
    return m;
}

static struct gw_fault_server *new_server(void)
{
    const struct gw_fault_config cfg = {.size = sizeof(cfg)};
    struct gw_fault_server *s;

    assert_int_equal(gw_fault_server_new(&s, &cfg), 0);
    return s;
}

static void test_fault_regions_fill_is_known(void **state)
{
    const struct gw_fault_config cfg = {.size = sizeof(cfg), .fill = GW_FAULT_CONTINUE + 1};
    struct gw_fault_server *s;

    assert_int_equal(gw_fault_server_new(&s, &cfg), -EINVAL);
}

static void test_fault_regions_received_ranges_are_whole_pages(void **state)
{
    static const struct {
        uint64_t offset, len;
        int result;
        uint64_t received; /* pages, altogether */
    } cases[] = {
        {1, PAGE, -EINVAL, 0},
        {0, PAGE - 1, -EINVAL, 0},
        {0, PAGE + 1, -EINVAL, 0},
        {1, PAGE - 1, -EINVAL, 0},
        {4 * PAGE, PAGE, -EINVAL, 0},
        {5 * PAGE, PAGE, -EINVAL, 0},
        {PAGE, 4 * PAGE, -EINVAL, 0},
        {0, PAGE, 0, 1},
        {0, PAGE, 0, 1},
        {PAGE, 2 * PAGE, 0, 3},
        {2 * PAGE, 0, 0, 4},
    };
    struct gw_guest_mem *m = memory(GPA, 4, 0);
    struct gw_fault_server *s = new_server();

    assert_int_equal(gw_fault_server_add_mem(s, m), 0);
    assert_int_equal(gw_fault_server_set_received(s, GPA - PAGE, PAGE), -EINVAL);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int r = gw_fault_server_set_received(s, GPA + cases[i].offset, cases[i].len);

        if (r != cases[i].result || gw_fault_server_missing(s) != (4 - cases[i].received) * PAGE)
            fail_msg("case %u: %d, %lu bytes missing", i, r,
                     (unsigned long)gw_fault_server_missing(s));
    }
    gw_fault_server_free(s);
    gw_guest_mem_free(m);
}

static void test_fault_regions_may_touch_but_not_overlap(void **state)
{
    static const struct {
        gw_gpa_t gpa;
        uint64_t n_pages;
        int result;
    } cases[] = {
        {GPA - 2 * PAGE, 3, -EEXIST}, {GPA - 2 * PAGE, 2, 0},       {GPA + PAGE, 1, -EEXIST},
        {GPA + 3 * PAGE, 1, -EEXIST}, {GPA + 3 * PAGE, 9, -EEXIST}, {GPA + 4 * PAGE, 1, 0},
    };
    struct gw_guest_mem *m = memory(GPA, 4, 0);
    struct gw_fault_server *s = new_server();

    assert_int_equal(gw_fault_server_add_mem(s, m), 0);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct gw_guest_mem *other = memory(cases[i].gpa, cases[i].n_pages, 0);
        int r = gw_fault_server_add_mem(s, other);

        if (r != cases[i].result)
            fail_msg("case %u: %d", i, r);
        if (r == 0)
            assert_int_equal(gw_fault_server_remove_region(s, cases[i].gpa), 0);
        gw_guest_mem_free(other);
    }
    gw_fault_server_free(s);
    gw_guest_mem_free(m);
}

/* The region begins inside of its file. */
static void test_fault_regions_discard_one_page(void **state)
{
    struct gw_guest_mem *m = memory(GPA, 4, 2 * PAGE);
    struct gw_fault_server *s = new_server();
    char *at = gw_guest_mem_at(m, GPA, 4 * PAGE);

    memset(at, 7, 4 * PAGE);
    assert_int_equal(gw_fault_server_add_mem(s, m), 0);
    assert_int_equal(gw_fault_server_set_received(s, GPA, 0), 0);
    for (unsigned i = 4; i < 9; i++)
        assert_int_equal(gw_fault_server_discard(s, GPA + i * PAGE, PAGE), -EINVAL);
    assert_int_equal(gw_fault_server_discard(s, GPA + PAGE, PAGE), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(at[i * PAGE], i == 1 ? 0 : 7);
    assert_int_equal(gw_fault_server_missing(s), PAGE);
    gw_fault_server_free(s);
    gw_guest_mem_free(m);
}

/* After the end, no access to any of the regions waits. */
static void test_fault_regions_are_all_finished(void **state)
{
    struct gw_guest_mem *m[2] = {memory(GPA, 1, 0), memory(2 * GPA, 1, 0)};
    struct gw_fault_server *s = new_server();

    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(gw_fault_server_add_mem(s, m[i]), 0);
    assert_int_equal(gw_fault_server_begin(s), 0);
    assert_int_equal(gw_fault_server_finish(s), -EBUSY);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(gw_fault_server_set_received(s, (i + 1) * GPA, 0), 0);
    assert_int_equal(gw_fault_server_finish(s), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(gw_fault_server_discard(s, (i + 1) * GPA, PAGE), 0);
        assert_int_equal(touch(gw_guest_mem_at(m[i], (i + 1) * GPA, PAGE)), 0);
    }
    gw_fault_server_free(s);
    for (unsigned i = 0; i < 2; i++)
        gw_guest_mem_free(m[i]);
}

/* A client or a region that is removed takes only its own waiters with it. */
static void test_fault_regions_keep_the_waiters_of_others(void **state)
{
    struct fault_fixture b;
    struct client stays, goes;
    struct toucher t;

    for (unsigned i = 0; i < 2; i++) {
        struct gw_guest_mem *other = memory(16 * GPA, 1, 0);

        fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_LATER);
        assert_int_equal(gw_fault_server_add_mem(b.server, other), 0);
        client_begin(&stays, &b, false);
        client_begin(&goes, &b, false);
        toucher_begin(&t, stays.map + PAGE);
        await_faults(&b, 1);
        await_asked(&b, 1);
        if (i == 0)
            client_end(&goes, &b);
        assert_int_equal(gw_fault_server_remove_region(b.server, 16 * GPA), 0);
        assert_int_equal(put_page(&b, 1), 1);
        assert_int_equal(toucher_end(&t), stamp_of(1));
        if (i == 1)
            client_end(&goes, &b);
        client_end(&stays, &b);
        fault_fixture_end(&b);
        gw_guest_mem_free(other);
    }
}

static void *run_until_stop(void *arg)
{
    return (void *)(intptr_t)gw_fault_server_run(arg, -1);
}

/* First with a thread of its own, then with one of the caller's, and again. */
static void test_fault_regions_are_served_in_turns(void **state)
{
    struct gw_fault_server *s = new_server();
    pthread_t thread;
    void *r;

    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(gw_fault_server_start(s), 0);
        assert_int_equal(gw_fault_server_run(s, 0), -EBUSY);
        gw_fault_server_stop(s);
        gw_fault_server_stop(s);
        assert_int_equal(pthread_create(&thread, NULL, run_until_stop, s), 0);
        while (gw_fault_server_run(s, 0) == 0)
            usleep(100);
        gw_fault_server_stop(s);
        assert_int_equal(pthread_join(thread, &r), 0);
        assert_null(r);
    }
    gw_fault_server_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fault_regions_fill_is_known),
        FDCHECK_TEST(test_fault_regions_received_ranges_are_whole_pages),
        FDCHECK_TEST(test_fault_regions_may_touch_but_not_overlap),
        FDCHECK_TEST(test_fault_regions_discard_one_page),
        FDCHECK_TEST(test_fault_regions_are_all_finished),
        FDCHECK_TEST(test_fault_regions_keep_the_waiters_of_others),
        FDCHECK_TEST(test_fault_regions_are_served_in_turns),
    };

    requires_userfaultfd();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
