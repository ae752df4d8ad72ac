/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Messages to people: levels, the limit per second, and the last error of each thread. */
#include "fdcheck.h"

#include "core/diag_i.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct sink {
    struct gw_diag diag;
    unsigned n;
    enum gw_diag_level level;
    char line[1024];
};

static void take(void *arg, enum gw_diag_level level, const char *message)
{
    struct sink *s = arg;

    s->n++;
    s->level = level;
    snprintf(s->line, sizeof(s->line), "%s", message);
}

static void begin(struct sink *s, enum gw_diag_level level)
{
    memset(s, 0, sizeof(*s));
    gw_diag_init(&s->diag, take, s, level, "me");
}

static void test_diag_only_wanted_levels_pass(void **state)
{
    for (enum gw_diag_level wanted = GW_DIAG_ERROR; wanted <= GW_DIAG_DEBUG; wanted++) {
        struct gw_diag_limit limit = {0};
        struct sink s;

        begin(&s, wanted);
        for (enum gw_diag_level level = GW_DIAG_ERROR; level <= GW_DIAG_DEBUG; level++) {
            unsigned before = s.n;

            gw_diag(&s.diag, level, "%d", 7);
            gw_diag_limited(&s.diag, &limit, level, "%d", 7);
            assert_int_equal(s.n - before, level <= wanted ? 2 : 0);
            if (level <= wanted)
                assert_int_equal(s.level, level);
        }
        assert_string_equal(s.line, "7");
    }
}

static void test_diag_level_names_are_never_null(void **state)
{
    assert_string_equal(gw_diag_level_name(GW_DIAG_ERROR), "error");
    assert_string_equal(gw_diag_level_name(GW_DIAG_WARNING), "warning");
    assert_string_equal(gw_diag_level_name(GW_DIAG_INFO), "info");
    assert_string_equal(gw_diag_level_name(GW_DIAG_DEBUG), "debug");
    assert_string_equal(gw_diag_level_name((enum gw_diag_level)99), "unknown");
}

static void test_diag_long_message_is_cut(void **state)
{
    char text[2000];
    struct sink s;

    begin(&s, GW_DIAG_ERROR);
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    gw_diag(&s.diag, GW_DIAG_ERROR, "%s", text);
    assert_int_equal(strlen(s.line), 511);
}

static void test_diag_one_cause_is_told_five_times_a_second(void **state)
{
    struct gw_diag_limit limit = {0}, other = {0};
    struct sink s;

    begin(&s, GW_DIAG_WARNING);
    for (unsigned i = 0; i < 1000; i++)
        gw_diag_limited(&s.diag, &limit, GW_DIAG_WARNING, "no %u", i);
    assert_int_equal(s.n, 5);
    assert_string_equal(s.line, "no 4");
    gw_diag_limited(&s.diag, &other, GW_DIAG_WARNING, "another");
    assert_int_equal(s.n, 6);
    gw_diag_limited(&s.diag, &limit, GW_DIAG_INFO, "not wanted"); /* nor counted */
    usleep(1020000);
    gw_diag_limited(&s.diag, &limit, GW_DIAG_WARNING, "again");
    assert_int_equal(s.n, 7);
    assert_string_equal(s.line, "again (and 995 more like it)");
    gw_diag_limited(&s.diag, &limit, GW_DIAG_WARNING, "again");
    assert_string_equal(s.line, "again");
}

static void *other_thread(void *arg)
{
    assert_string_equal(gw_last_error(), "");
    assert_int_equal(gw_fail(-EIO, "of the other"), -EIO);
    assert_string_equal(gw_last_error(), "of the other");
    return NULL;
}

static void test_diag_last_error_belongs_to_its_thread(void **state)
{
    pthread_t thread;
    char text[1000];

    assert_int_equal(gw_fail(-ENOENT, "number %d", 5), -ENOENT);
    assert_int_equal(pthread_create(&thread, NULL, other_thread, NULL), 0);
    pthread_join(thread, NULL);
    assert_string_equal(gw_last_error(), "number 5");
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    gw_fail(-ENOENT, "%s", text);
    assert_int_equal(strlen(gw_last_error()), 255);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_diag_only_wanted_levels_pass),
        FDCHECK_TEST(test_diag_level_names_are_never_null),
        FDCHECK_TEST(test_diag_long_message_is_cut),
        FDCHECK_TEST(test_diag_one_cause_is_told_five_times_a_second),
        FDCHECK_TEST(test_diag_last_error_belongs_to_its_thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
