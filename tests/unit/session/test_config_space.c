/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Access to a device's config structure, at and beyond its ends. */
#include "fdcheck.h"

#include <errno.h>
#include <godwit/daemon.h>
#include <godwit/log.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define LENGTH 12

/* A structure between bytes that no access may reach. */
struct guarded {
    uint8_t before[8];
    uint8_t config[LENGTH];
    uint8_t behind[8];
};

static struct guarded make_guarded(void)
{
    struct guarded g;

    memset(&g, 0xee, sizeof(g));
    for (unsigned i = 0; i < LENGTH; i++)
        g.config[i] = (uint8_t)(i + 1);
    return g;
}

/* The next of the values near 0, near LENGTH and near `limit`. */
static uint32_t next(uint32_t value, uint32_t limit)
{
    return value >= 2 * LENGTH && value + 2 < limit ? limit - 2 : value + 1;
}

static void test_config_space_reads_bytes_and_zeroes_behind_them(void **state)
{
    const struct guarded g = make_guarded();
    uint8_t buf[GW_CONFIG_SIZE_MAX + 1];

    for (uint32_t off = 0; off <= GW_CONFIG_SIZE_MAX; off = next(off, GW_CONFIG_SIZE_MAX)) {
        uint32_t left = GW_CONFIG_SIZE_MAX - off;

        for (uint32_t len = 0; len <= left; len = next(len, left)) {
            memset(buf, 0xaa, sizeof(buf));
            assert_int_equal(gw_config_read(g.config, LENGTH, off, buf, len), 0);
            for (uint32_t i = 0; i < len; i++)
                assert_int_equal(buf[i], off + i < LENGTH ? off + i + 1 : 0);
            assert_int_equal(buf[len], 0xaa);
        }
    }
}

static void test_config_space_writes_only_the_structure(void **state)
{
    uint8_t buf[GW_CONFIG_SIZE_MAX];

    memset(buf, 0xaa, sizeof(buf));
    for (uint32_t off = 0; off <= GW_CONFIG_SIZE_MAX; off = next(off, GW_CONFIG_SIZE_MAX)) {
        uint32_t left = GW_CONFIG_SIZE_MAX - off;

        for (uint32_t len = 0; len <= left; len = next(len, left)) {
            struct guarded g = make_guarded(), expected = g;

            for (uint32_t i = off; i < off + len && i < LENGTH; i++)
                expected.config[i] = 0xaa;
            assert_int_equal(gw_config_write(g.config, LENGTH, off, buf, len), 0);
            assert_memory_equal(&g, &expected, sizeof(g));
        }
    }
}

static void test_config_space_beyond_its_limit_is_refused(void **state)
{
    static const uint32_t ranges[][2] = {
        {0, GW_CONFIG_SIZE_MAX + 1}, {1, GW_CONFIG_SIZE_MAX}, {GW_CONFIG_SIZE_MAX, 1},
        {GW_CONFIG_SIZE_MAX + 1, 0}, {UINT32_MAX, 1},         {UINT32_MAX, UINT32_MAX},
        {4, UINT32_MAX - 3}};
    struct guarded g = make_guarded(), expected = g;
    uint8_t buf[8] = {0}, before[8] = {0};

    for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        assert_int_equal(gw_config_read(g.config, LENGTH, ranges[i][0], buf, ranges[i][1]),
                         -EINVAL);
        assert_int_equal(gw_config_write(g.config, LENGTH, ranges[i][0], buf, ranges[i][1]),
                         -EINVAL);
        assert_non_null(strstr(gw_last_error(), "config space"));
    }
    assert_memory_equal(&g, &expected, sizeof(g));
    assert_memory_equal(buf, before, sizeof(buf));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_config_space_reads_bytes_and_zeroes_behind_them),
        FDCHECK_TEST(test_config_space_writes_only_the_structure),
        FDCHECK_TEST(test_config_space_beyond_its_limit_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
