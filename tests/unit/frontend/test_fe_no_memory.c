/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Each allocation of the front-end, its driver, its logs and its load fails once, which must be
 * reported.
 */
#include "../fixtures/no_memory.h"
#include "fdcheck.h"
#include "requires.h"

#include "load/load.h"
#include <godwit/frontend/async.h>
#include <godwit/frontend/fault.h>
#include <godwit/frontend/log.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define GPA    UINT64_C(0x100000)
#define LENGTH (UINT64_C(1) << 20)

static int make_frontend(void *arg)
{
    struct gw_frontend *fe;
    int r = gw_frontend_new(&fe, NULL);

    if (r == 0)
        gw_frontend_free(fe);
    return r;
}

/* Without memory, an operation does not start: its callback is not called. */
static void count_end(void *arg, int r)
{
    ++*(unsigned *)arg;
}

static int start_operation(void *arg)
{
    struct gw_frontend *fe = arg;
    unsigned n_ends = 0;
    int r = gw_frontend_set_backend_req_fd_async(fe, count_end, &n_ends);

    assert_int_equal(n_ends, 0);
    if (r == 0)
        gw_frontend_disconnect(fe);
    assert_int_equal(n_ends, r == 0);
    return r;
}

static int make_logs(void *arg)
{
    struct gw_guest_log_config cfg = {.size = sizeof(cfg), .length = 4096};
    struct gw_guest_track *track = NULL;
    struct gw_guest_log *log;
    int r = gw_guest_log_new(&log, &cfg);

    if (r < 0)
        return r;
    r = gw_guest_track_new(&track);
    for (unsigned i = 0; i < 3 && r == 0; i++)
        r = gw_guest_track_add(track, GPA + i * LENGTH, LENGTH);
    if (track)
        gw_guest_track_free(track);
    gw_guest_log_free(log);
    return r;
}

static int save_and_restore(struct gw_driver *driver, struct gw_guest_load *load)
{
    void *driver_state = NULL, *load_state = NULL;
    size_t driver_len, load_len;
    int r = gw_driver_save(driver, &driver_state, &driver_len);

    if (r == 0)
        r = gw_guest_load_save(load, &load_state, &load_len);
    if (r == 0)
        r = gw_driver_restore(driver, driver_state, driver_len);
    if (r == 0)
        r = gw_guest_load_restore(load, load_state, load_len);
    free(driver_state);
    free(load_state);
    return r;
}

static int load_driver(struct gw_driver *driver)
{
    struct gw_guest_disk_config disk_cfg = {.size = sizeof(disk_cfg), .length = 65536};
    struct gw_guest_load_config cfg = {
        .size = sizeof(cfg), .drivers = &driver, .n_drivers = 1, .depth = 2};
    struct gw_guest_load *load;
    int r = gw_guest_disk_new(&cfg.disk, &disk_cfg);

    if (r < 0)
        return r;
    r = gw_guest_load_new(&load, &cfg);
    if (r == 0) {
        r = save_and_restore(driver, load);
        gw_guest_load_free(load);
    }
    gw_guest_disk_free(cfg.disk);
    return r;
}

static int make_guest(void *arg)
{
    struct gw_guest_region region = {.gpa = GPA, .length = LENGTH};
    struct gw_driver_config cfg = {
        .size = sizeof(cfg), .queue_size = 16, .packed = *(const bool *)arg};
    struct gw_driver *driver;
    int r = gw_guest_mem_new(&cfg.mem, 0x700000000000);

    if (r < 0)
        return r;
    for (unsigned i = 0; i < 12 && r == 0; i++) {
        r = gw_guest_mem_add(cfg.mem, &region);
        region.gpa += 2 * LENGTH;
    }
    if (r == 0)
        r = gw_driver_new(&driver, &cfg);
    if (r == 0) {
        r = load_driver(driver);
        gw_driver_free(driver);
    }
    gw_guest_mem_free(cfg.mem);
    return r;
}

static int make_fault_server(void *arg)
{
    struct gw_fault_config cfg = {.size = sizeof(cfg)};
    struct gw_fault_server *server;
    int r = gw_fault_server_new(&server, &cfg);

    if (r < 0)
        return r;
    r = gw_fault_server_add_mem(server, arg);
    gw_fault_server_free(server);
    return r;
}

static void test_fe_no_memory_is_reported(void **state)
{
    const struct gw_frontend_config cfg = {.size = sizeof(cfg), .no_gates = true};
    struct gw_frontend *fe;
    bool packed = false;
    int pair[2];

    assert_int_equal(no_memory_each(NO_MEMORY_OF_CALLER, make_frontend, NULL), 1);
    assert_int_equal(gw_frontend_new(&fe, &cfg), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(gw_frontend_attach(fe, pair[0]), 0);
    assert_int_equal(no_memory_each(NO_MEMORY_OF_CALLER, start_operation, fe), 1);
    gw_frontend_free(fe);
    close(pair[1]);
    assert_true(no_memory_each(NO_MEMORY_OF_CALLER, make_logs, NULL) >= 4);
    assert_true(no_memory_each(NO_MEMORY_OF_CALLER, make_guest, &packed) >= 12);
    packed = true;
    assert_true(no_memory_each(NO_MEMORY_OF_CALLER, make_guest, &packed) >= 14);
}

static void test_fe_no_memory_for_faults_is_reported(void **state)
{
    struct gw_guest_region region = {.gpa = GPA, .length = LENGTH};
    struct gw_fault_config cfg = {.size = sizeof(cfg)};
    struct gw_fault_server *server;
    struct gw_guest_mem *mem;

    if (gw_fault_server_new(&server, &cfg) < 0)
        skip(); /* no userfaultfd */
    gw_fault_server_free(server);
    assert_int_equal(gw_guest_mem_new(&mem, 0x700000000000), 0);
    assert_int_equal(gw_guest_mem_add(mem, &region), 0);
    assert_true(no_memory_each(NO_MEMORY_OF_CALLER, make_fault_server, mem) >= 3);
    gw_guest_mem_free(mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fe_no_memory_is_reported),
        FDCHECK_TEST(test_fe_no_memory_for_faults_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
