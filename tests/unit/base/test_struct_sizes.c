/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Every public structure that begins with its size: one of an earlier version is accepted, one of
 * a later version if the members that this version does not know are zero, and one that is shorter
 * than that of the first version is refused.
 */
#include "fdcheck.h"

#include "base/checked.h"
#include "base/struct_sizes.h"
#include "load/load.h"
#include <errno.h>
#include <godwit.h>
#include <godwit/frontend/fault.h>
#include <godwit/frontend/frontend.h>
#include <godwit/frontend/log.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Make something of the structure at `at` and free it again. Returns: whether it could be made. */
typedef int try_fn(const void *at);

static int queue_ready(void *dev, struct gw_queue *q)
{
    return 0;
}

static const struct gw_daemon_config daemon_config = {.size = sizeof(daemon_config)};
static const struct gw_device_ops device_ops = {.size = sizeof(device_ops),
                                                .queue_ready = queue_ready};

static int try_daemon(const void *config, const void *ops)
{
    struct gw_daemon *d = NULL;
    int r = gw_daemon_new(&d, config, ops, NULL);

    gw_daemon_free(d);
    return r;
}

static int try_daemon_config(const void *at)
{
    return try_daemon(at, &device_ops);
}

static int try_device_ops(const void *at)
{
    return try_daemon(&daemon_config, at);
}

static int try_frontend_config(const void *at)
{
    struct gw_frontend *fe = NULL;
    int r = gw_frontend_new(&fe, at);

    if (r == 0)
        gw_frontend_free(fe);
    return r;
}

/* Without a session they go no further than to their size. */
static int try_options(int (*fn)(struct gw_frontend *fe, const struct gw_frontend_options *opt),
                       const void *at)
{
    struct gw_frontend *fe;
    int r;

    assert_int_equal(gw_frontend_new(&fe, NULL), 0);
    r = fn(fe, at);
    gw_frontend_free(fe);
    return r == -ENOTCONN ? 0 : r;
}

static int try_negotiate_options(const void *at)
{
    return try_options(gw_frontend_negotiate, at);
}

static int try_start_options(const void *at)
{
    return try_options(gw_frontend_start, at);
}

static struct gw_guest_mem *mem;
static struct gw_guest_disk *disk;
static struct gw_driver *driver;

static int try_driver_config(const void *at)
{
    struct gw_driver *d = NULL;
    int r = gw_driver_new(&d, at);

    if (r == 0)
        gw_driver_free(d);
    return r;
}

static int try_disk_config(const void *at)
{
    struct gw_guest_disk *d = NULL;
    int r = gw_guest_disk_new(&d, at);

    if (r == 0)
        gw_guest_disk_free(d);
    return r;
}

static int try_load_config(const void *at)
{
    struct gw_guest_load *l = NULL;
    int r = gw_guest_load_new(&l, at);

    if (r == 0)
        gw_guest_load_free(l);
    return r;
}

static int try_log_config(const void *at)
{
    struct gw_guest_log *l = NULL;
    int r = gw_guest_log_new(&l, at);

    if (r == 0)
        gw_guest_log_free(l);
    return r;
}

static int try_fault_config(const void *at)
{
    struct gw_fault_server *s = NULL;
    int r = gw_fault_server_new(&s, at);

    if (r == 0)
        gw_fault_server_free(s);
    return r == -EPERM || r == -EOPNOTSUPP ? 0 : r; /* of the machine, not of the structure */
}

static int try_vring_config(const void *at)
{
    struct gw_vring *v = NULL;
    int r = gw_vring_new(&v, at);

    if (r == 0)
        gw_vring_free(v);
    return r;
}

/* Without memory, it goes no further than to its size. */
static int try_vring_state(const void *at)
{
    const struct gw_vring_config cfg = {.size = sizeof(cfg)};
    struct gw_vring *v;
    int r;

    assert_int_equal(gw_vring_new(&v, &cfg), 0);
    r = gw_vring_start(v, at);
    gw_vring_free(v);
    return r == -EFAULT ? 0 : r;
}

static int try_with(try_fn *fn, const void *structure, size_t known, size_t size, size_t set)
{
    static _Alignas(64) uint8_t bytes[8192];

    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, structure, known);
    memcpy(bytes, &size, sizeof(size));
    if (set)
        bytes[set] = 1;
    return fn(bytes);
}

static void check(const char *name, try_fn *fn, const void *structure, size_t known, size_t first)
{
    print_message("%s\n", name);
    assert_int_equal(try_with(fn, structure, known, known, 0), 0);
    assert_int_equal(try_with(fn, structure, known, 0, 0), -EINVAL);
    assert_in_range(first, sizeof(size_t), known);
    assert_int_equal(try_with(fn, structure, known, first - 1, 0), -EINVAL);
    assert_int_equal(try_with(fn, structure, known, first, 0), 0);
    assert_int_equal(try_with(fn, structure, known, known + 1, 0), 0);
    assert_int_equal(try_with(fn, structure, known, known + 64, 0), 0);
    assert_int_equal(try_with(fn, structure, known, known + 64, known), -E2BIG);
    assert_int_equal(try_with(fn, structure, known, known + 64, known + 63), -E2BIG);
    assert_int_equal(try_with(fn, structure, known, known + 64, known + 64), 0); /* behind it */
    assert_int_equal(try_with(fn, structure, known, SIZE_MAX, 0), -E2BIG);
}

#define CHECK(fn, structure, first) check(#fn, fn, &(structure), sizeof(structure), first)

/* A structure that had only `a` in its first version. */
struct grown {
    size_t size;
    uint64_t a, b, c;
};

static void test_struct_of_an_earlier_version_lacks_zeroes(void **state)
{
    const size_t first = offsetof(struct grown, b);

    for (size_t size = 0; size <= sizeof(struct grown); size++) {
        const struct grown given = {size, 1, UINT64_MAX, UINT64_MAX};
        const struct grown *volatile unknown = &given; /* to the compiler, which would warn */
        struct grown expected = {0}, copy = {0, 2, 2, 2}, before = copy;
        int r = gw_copy_struct(&copy, sizeof(copy), unknown, first);

        memcpy(&expected, &given, size);
        expected.size = sizeof(expected);
        assert_int_equal(r, size < first ? -EINVAL : 0);
        assert_memory_equal(&copy, size < first ? &before : &expected, sizeof(copy));
    }
}

static void test_struct_sizes(void **state)
{
    static const struct gw_guest_region region = {.gpa = 0x10000, .length = 1 << 20};
    const struct gw_frontend_config frontend = {.size = sizeof(frontend)};
    const struct gw_vring_config vring_config = {.size = sizeof(vring_config)};
    const struct gw_vring_state vring_state = {.size = sizeof(vring_state), .queue_size = 8};
    const struct gw_frontend_options options = {.size = sizeof(options)};
    const struct gw_guest_disk_config disk_config = {.size = sizeof(disk_config),
                                                     .length = 1 << 20};
    const struct gw_guest_log_config log = {.size = sizeof(log), .length = 4096};
    const struct gw_fault_config fault = {.size = sizeof(fault)};
    struct gw_driver_config driver_config = {.size = sizeof(driver_config), .queue_size = 16};
    struct gw_guest_load_config load = {
        .size = sizeof(load), .drivers = &driver, .n_drivers = 1, .depth = 2};

    assert_int_equal(gw_guest_mem_new(&mem, 0x7f0000000000), 0);
    assert_int_equal(gw_guest_mem_add(mem, &region), 0);
    driver_config.mem = mem;
    assert_int_equal(gw_driver_new(&driver, &driver_config), 0);
    assert_int_equal(gw_guest_disk_new(&disk, &disk_config), 0);
    load.disk = disk;

    CHECK(try_daemon_config, daemon_config, GW_FIRST_DAEMON_CONFIG);
    CHECK(try_device_ops, device_ops, GW_FIRST_DEVICE_OPS);
    CHECK(try_frontend_config, frontend, GW_FIRST_FRONTEND_CONFIG);
    CHECK(try_negotiate_options, options, GW_FIRST_FRONTEND_OPTIONS);
    CHECK(try_start_options, options, GW_FIRST_FRONTEND_OPTIONS);
    CHECK(try_driver_config, driver_config, GW_FIRST_DRIVER_CONFIG);
    CHECK(try_disk_config, disk_config, sizeof(disk_config));
    CHECK(try_load_config, load, sizeof(load));
    CHECK(try_log_config, log, GW_FIRST_GUEST_LOG_CONFIG);
    CHECK(try_vring_config, vring_config, GW_FIRST_VRING_CONFIG);
    CHECK(try_vring_state, vring_state, GW_FIRST_VRING_STATE);
    CHECK(try_fault_config, fault, GW_FIRST_FAULT_CONFIG);

    gw_guest_disk_free(disk);
    gw_driver_free(driver);
    gw_guest_mem_free(mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_struct_sizes),
        FDCHECK_TEST(test_struct_of_an_earlier_version_lacks_zeroes)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
