/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Messages to people: levels, the limit per second, and the last error of each thread. */
#include "fdcheck.h"

#include "base/log_i.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct sink {
    struct gw_log log;
    unsigned n;
    enum gw_log_level level;
    char line[1024];
};

static void take(void *arg, enum gw_log_level level, const char *message)
{
    struct sink *s = arg;

    s->n++;
    s->level = level;
    snprintf(s->line, sizeof(s->line), "%s", message);
}

static void begin(struct sink *s, enum gw_log_level level)
{
    memset(s, 0, sizeof(*s));
    gw_log_init(&s->log, take, s, level, "me");
}

static void test_log_only_wanted_levels_pass(void **state)
{
    for (enum gw_log_level wanted = GW_LOG_ERROR; wanted <= GW_LOG_DEBUG; wanted++) {
        struct sink s;

        begin(&s, wanted);
        for (enum gw_log_level level = GW_LOG_ERROR; level <= GW_LOG_DEBUG; level++) {
            unsigned before = s.n;

            gw_log(&s.log, level, "%d", 7);
            gw_log(&s.log, level, "%d", 7);
            assert_int_equal(s.n - before, level <= wanted ? 2 : 0);
            if (level <= wanted)
                assert_int_equal(s.level, level);
        }
        assert_string_equal(s.line, "7");
    }
}

static void test_log_level_names_are_never_null(void **state)
{
    assert_string_equal(gw_log_level_name(GW_LOG_ERROR), "error");
    assert_string_equal(gw_log_level_name(GW_LOG_WARNING), "warning");
    assert_string_equal(gw_log_level_name(GW_LOG_INFO), "info");
    assert_string_equal(gw_log_level_name(GW_LOG_DEBUG), "debug");
    assert_string_equal(gw_log_level_name((enum gw_log_level)99), "unknown");
}

static void test_log_long_message_is_cut(void **state)
{
    char text[2000];
    struct sink s;

    begin(&s, GW_LOG_ERROR);
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    gw_log(&s.log, GW_LOG_ERROR, "%s", text);
    assert_int_equal(strlen(s.line), 511);
}

static void test_log_each_kind_is_limited(void **state)
{
    struct sink s;

    begin(&s, GW_LOG_WARNING);
    for (unsigned i = 0; i < 100000; i++)
        gw_log(&s.log, GW_LOG_WARNING, "no %u", i);
    /* Another token a second; the machine may be slow. */
    assert_in_range(s.n, GW_LOG_BURST, GW_LOG_BURST + 600);
    s.n = 0;
    for (unsigned i = 0; i < GW_LOG_BURST; i++)
        gw_log(&s.log, GW_LOG_WARNING, "another kind");
    assert_int_equal(s.n, GW_LOG_BURST);
    gw_log(&s.log, GW_LOG_INFO, "not wanted"); /* nor counted */
    s.n = 0;
    gw_log_done(&s.log);
    assert_int_equal(s.n, 1);
    assert_non_null(strstr(s.line, " more messages were suppressed"));
    gw_log_done(&s.log);
    assert_int_equal(s.n, 1);
}

static void test_log_debug_level_is_not_limited(void **state)
{
    struct sink s;

    begin(&s, GW_LOG_DEBUG);
    for (unsigned i = 0; i < 1000; i++)
        gw_log(&s.log, GW_LOG_ERROR, "no %u", i);
    assert_int_equal(s.n, 1000);
}

static void test_log_limit_follows_the_clock(void **state)
{
    static struct gw_log_limiter limiter = GW_LOG_LIMITER_INIT;
    uint64_t now = 1000 * GW_LOG_PERIOD_NS, n_held, n = 0;

    for (unsigned i = 0; i < 1000; i++)
        n += gw_log_limiter_pass(&limiter, "a", now, &n_held);
    assert_int_equal(n, GW_LOG_BURST);
    assert_false(gw_log_limiter_pass(&limiter, "a", now + GW_LOG_PERIOD_NS - 1, &n_held));
    assert_true(gw_log_limiter_pass(&limiter, "a", now + GW_LOG_PERIOD_NS, &n_held));
    assert_int_equal(n_held, 1000 - GW_LOG_BURST + 1);
    assert_false(gw_log_limiter_pass(&limiter, "a", now + GW_LOG_PERIOD_NS, &n_held));
    /* Another thread read the clock earlier. */
    assert_false(gw_log_limiter_pass(&limiter, "a", now, &n_held));
    n = 0;
    for (unsigned i = 0; i < 1000; i++)
        n += gw_log_limiter_pass(&limiter, "a", now + 1000 * GW_LOG_PERIOD_NS, &n_held);
    assert_int_equal(n, GW_LOG_BURST);
    assert_int_equal(gw_log_limiter_take_held(&limiter), 1000 - GW_LOG_BURST);
    assert_int_equal(gw_log_limiter_take_held(&limiter), 0);
}

/* The last entry is shared, so a program with too many kinds is limited even so. */
static void test_log_limit_has_room_for_any_number_of_kinds(void **state)
{
    static struct gw_log_limiter limiter = GW_LOG_LIMITER_INIT;
    static const char formats[10 * GW_LOG_KINDS_MAX];
    unsigned n = 0;
    uint64_t n_held;

    for (unsigned i = 0; i < 100 * sizeof(formats); i++)
        n +=
            gw_log_limiter_pass(&limiter, &formats[i % sizeof(formats)], GW_LOG_PERIOD_NS, &n_held);
    assert_int_equal(n, GW_LOG_KINDS_MAX * GW_LOG_BURST);
}

static void *other_thread(void *arg)
{
    assert_string_equal(gw_last_error(), "");
    assert_int_equal(gw_fail(-EIO, "of the other"), -EIO);
    assert_string_equal(gw_last_error(), "of the other");
    return NULL;
}

static void test_log_last_error_belongs_to_its_thread(void **state)
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
        FDCHECK_TEST(test_log_only_wanted_levels_pass),
        FDCHECK_TEST(test_log_level_names_are_never_null),
        FDCHECK_TEST(test_log_long_message_is_cut),
        FDCHECK_TEST(test_log_each_kind_is_limited),
        FDCHECK_TEST(test_log_debug_level_is_not_limited),
        FDCHECK_TEST(test_log_limit_follows_the_clock),
        FDCHECK_TEST(test_log_limit_has_room_for_any_number_of_kinds),
        FDCHECK_TEST(test_log_last_error_belongs_to_its_thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
