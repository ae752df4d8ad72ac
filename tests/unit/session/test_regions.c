/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* region_added and region_gone: in which order a device learns of guest memory. */
#include "../fixtures/daemon_fixture.h"
#include "patience.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define GPA  UINT64_C(0x100000) /* of vm_boot */
#define SIZE (UINT64_C(8) << 20)
#define HOT  UINT64_C(0x40000000)
#define LEN  UINT64_C(0x10000)

/* What has happened, as text: "+2 " for an added region, "-2 " for one that is gone, and so on. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char text[256];
    unsigned n_regions;
    int result;      /* of region_added */
    ino_t inode;     /* of the file of the last region */
    gw_off_t offset; /* likewise */
    gw_uva_t user_addr;
    void *addr;
} events = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void note(const char *what, uintptr_t number)
{
    size_t used;

    pthread_mutex_lock(&events.lock);
    used = strlen(events.text);
    snprintf(events.text + used, sizeof(events.text) - used, number ? "%s%lu " : "%s ", what,
             (unsigned long)number);
    pthread_cond_broadcast(&events.changed);
    pthread_mutex_unlock(&events.lock);
}

static bool has_happened(const char *text)
{
    return strncmp(events.text, text, strlen(text)) == 0;
}

/* All that has happened must begin with `text`, at the latest soon. */
static void expect_events(const char *text)
{
    struct timespec ts;
    int r = 0;

    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec += patience_ms() / 1000 + 1;
    pthread_mutex_lock(&events.lock);
    while (!has_happened(text) && r == 0)
        r = pthread_cond_timedwait(&events.changed, &events.lock, &ts);
    if (r != 0)
        print_error("expected: %s\n     got: %s\n", text, events.text);
    pthread_mutex_unlock(&events.lock);
    assert_int_equal(r, 0);
}

/* cmocka's own checks are for the thread of the test. */
static void check(bool is_right)
{
    if (!is_right)
        note("wrong", 0);
}

static int region_added(void *dev, struct gw_memory_region *r)
{
    struct stat st;

    note("+", ++events.n_regions);
    check(dev == &device && fstat(r->fd, &st) == 0 && !r->user);
    events.inode = st.st_ino;
    events.offset = r->offset;
    events.user_addr = r->user_addr;
    events.addr = r->addr;
    r->user = (void *)(uintptr_t)events.n_regions;
    return events.result;
}

static void region_gone(void *dev, struct gw_memory_region *r)
{
    unsigned char present;

    /* It is still mapped. */
    check(dev == &device && r->fd == -1 && mincore(r->addr, 1, &present) == 0);
    note("-", (uintptr_t)r->user);
}

static void reset(void *dev)
{
    note("reset", 0);
}

static int queue_start(void *dev, struct gw_queue *q)
{
    note("start", 0);
    return 0;
}

static struct gw_device_ops ops;

static struct gw_daemon *make_daemon(unsigned drain_ms, bool hold)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d;

    memset(&device, 0, sizeof(device));
    device.hold = hold;
    events.text[0] = '\0';
    events.n_regions = 0;
    events.result = 0;
    cfg.drain_timeout_ms = drain_ms;
    ops = device_ops;
    ops.region_added = region_added;
    ops.region_gone = region_gone;
    ops.reset = reset;
    ops.queue_start = queue_start;
    assert_int_equal(gw_daemon_new(&d, &cfg, &ops, &device), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    return d;
}

static void add_hot(struct vm *vm, gw_gpa_t gpa)
{
    const struct gw_guest_region region = {.gpa = gpa, .length = LEN, .no_alloc = true};

    assert_int_equal(gw_guest_mem_add(vm->mem, &region), 0);
}

static void test_region_is_added_before_a_start_and_gone_before_reset(void **state)
{
    struct gw_daemon *d = make_daemon(0, false);
    struct gw_guest_region region;
    struct stat st;
    struct vm vm;

    vm_boot(&vm, 1);
    expect_events("+1 start ");
    assert_int_equal(gw_guest_mem_region(vm.mem, 0, &region), 0);
    assert_int_equal(fstat(region.fd, &st), 0);
    assert_int_equal(events.inode, st.st_ino);
    assert_int_equal(events.offset, region.offset);
    assert_int_equal(events.user_addr, region.uva);
    *(uint8_t *)gw_guest_mem_at(vm.mem, GPA + 77, 1) = 0x5a;
    assert_int_equal(((uint8_t *)events.addr)[77], 0x5a);
    vm_unplug(&vm);
    expect_events("+1 start -1 reset ");
    gw_daemon_free(d);
}

static void test_region_comes_and_goes_while_queues_run(void **state)
{
    struct gw_daemon *d = make_daemon(0, false);
    struct vm vm;

    vm_boot(&vm, 1);
    add_hot(&vm, HOT);
    assert_int_equal(gw_frontend_add_mem_reg(vm.fe, vm.mem, HOT), 0);
    expect_events("+1 start +2 ");
    assert_int_equal(gw_frontend_rem_mem_reg(vm.fe, vm.mem, HOT), 0);
    expect_events("+1 start +2 -2 ");
    /* A table maps all of it again. */
    assert_int_equal(gw_frontend_set_mem_table(vm.fe, vm.mem), 0);
    expect_events("+1 start +2 -2 +3 +4 -1 ");
    vm_unplug(&vm);
    expect_events("+1 start +2 -2 +3 +4 -1 -3 -4 reset ");
    gw_daemon_free(d);
}

static void add_request(struct vm *vm, gw_gpa_t gpa)
{
    struct gw_driver_buf buf = {.addr = gpa, .len = 16};

    assert_int_equal(gw_driver_add(vm->drivers[0], &buf, 0, 1, 1, 0), 0);
    gw_driver_kick(vm->drivers[0]);
}

static void wait_held(unsigned n)
{
    while (__atomic_load_n(&device.n_held, __ATOMIC_ACQUIRE) < n)
        usleep(1000);
}

static void complete_held(struct gw_post *post)
{
    note("done", 0);
    gw_request_complete(device.held[0], 0);
}

static void *complete_soon(void *arg)
{
    static struct gw_post post = {.run = complete_held};

    usleep(30000);
    (void)gw_worker_post(gw_queue_worker(device.held[0]->queue), &post);
    return NULL;
}

static void test_region_is_gone_after_the_last_request(void **state)
{
    struct gw_daemon *d = make_daemon(0, true);
    pthread_t thread;
    struct vm vm;

    vm_boot(&vm, 1);
    add_hot(&vm, HOT);
    assert_int_equal(gw_frontend_add_mem_reg(vm.fe, vm.mem, HOT), 0);
    add_request(&vm, HOT);
    wait_held(1);
    assert_int_equal(pthread_create(&thread, NULL, complete_soon, NULL), 0);
    assert_int_equal(gw_frontend_rem_mem_reg(vm.fe, vm.mem, HOT), 0);
    expect_events("+1 start +2 done -2 ");
    pthread_join(thread, NULL);
    vm_unplug(&vm);
    gw_daemon_free(d);
}

/* The session does not wait for the request, but its region does. */
static void test_region_waits_for_a_late_request(void **state)
{
    struct gw_daemon *d = make_daemon(20, true);
    struct vm vm;

    vm_boot(&vm, 1);
    add_request(&vm, GPA);
    wait_held(1);
    vm_unplug(&vm);
    expect_events("+1 start reset ");
    (void)complete_soon(NULL);
    expect_events("+1 start reset done -1 ");
    gw_daemon_free(d);
}

static void note_done(struct gw_post *post)
{
    note("done", 0);
}

/* The same for a hold on guest memory, which the message waits for. */
static void test_region_waits_for_a_hold(void **state)
{
    static struct gw_post post = {.run = note_done};
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d = make_daemon(0, false);
    struct gw_memory memory;
    char text[128];
    struct vm vm;

    gw_daemon_free(d);
    cfg.sync = GW_SYNC_MUTEX;
    cfg.drain_timeout_ms = 20;
    assert_int_equal(gw_daemon_new(&d, &cfg, &ops, &device), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    vm_boot(&vm, 1);
    add_hot(&vm, HOT);
    assert_int_equal(gw_frontend_add_mem_reg(vm.fe, vm.mem, HOT), 0);
    assert_int_equal(gw_memory_hold(&memory, gw_daemon_queue(d, 0)), 0);
    assert_int_equal(gw_daemon_find_stuck(d, text, sizeof(text)), 1);
    assert_string_equal(text, "queue 0: the device holds guest memory");
    assert_true(gw_frontend_rem_mem_reg(vm.fe, vm.mem, HOT) < 0); /* it took too long */
    assert_int_equal(gw_memory_write(&memory, HOT, "x", 1), 0);
    assert_int_equal(*(char *)gw_guest_mem_at(vm.mem, HOT, 1), 'x');
    assert_ptr_equal(gw_memory_find(&memory, HOT)->user, (void *)2);
    (void)gw_worker_post(gw_daemon_worker(d, 0), &post);
    expect_events("+1 start +2 done ");
    gw_memory_release(&memory);
    expect_events("+1 start +2 done -2 ");
    vm_unplug(&vm);
    gw_daemon_free(d);
}

/* The front-end learns of it, and the session continues with the memory that it has. */
static void test_region_that_the_device_refuses(void **state)
{
    struct gw_daemon *d = make_daemon(0, false);
    struct vm vm;

    vm_boot(&vm, 1);
    add_hot(&vm, HOT);
    events.result = -ENOSPC;
    assert_true(gw_frontend_add_mem_reg(vm.fe, vm.mem, HOT) < 0);
    events.result = 0;
    expect_events("+1 start +2 ");
    assert_int_equal(gw_frontend_add_mem_reg(vm.fe, vm.mem, HOT), 0);
    vm_unplug(&vm);
    expect_events("+1 start +2 +3 -1 -3 reset ");
    gw_daemon_free(d);
}

/* The library refuses the table, because a region overlaps one that is there. */
static void test_region_of_a_refused_message_is_gone(void **state)
{
    struct gw_daemon *d = make_daemon(0, false);
    struct vm vm;

    vm_boot(&vm, 1);
    assert_true(gw_frontend_add_mem_reg(vm.fe, vm.mem, GPA) < 0);
    expect_events("+1 start +2 -2 ");
    vm_unplug(&vm);
    expect_events("+1 start +2 -2 -1 reset ");
    gw_daemon_free(d);
}

/* A device without region_added may still ask for region_gone, and the other way round. */
static void test_region_callbacks_are_independent(void **state)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d = make_daemon(0, false);
    struct vm vm;

    for (unsigned i = 0; i < 2; i++) {
        gw_daemon_free(d);
        events.text[0] = '\0';
        events.n_regions = 0;
        ops.region_added = i ? NULL : region_added;
        ops.region_gone = i ? region_gone : NULL;
        assert_int_equal(gw_daemon_new(&d, &cfg, &ops, &device), 0);
        assert_int_equal(gw_daemon_start_path(d, path), 0);
        vm_boot(&vm, 1);
        vm_unplug(&vm);
        expect_events(i ? "start - reset " : "+1 start reset ");
    }
    gw_daemon_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_region_is_added_before_a_start_and_gone_before_reset),
        DAEMON_TEST(test_region_comes_and_goes_while_queues_run),
        DAEMON_TEST(test_region_is_gone_after_the_last_request),
        DAEMON_TEST(test_region_waits_for_a_late_request),
        DAEMON_TEST(test_region_waits_for_a_hold),
        DAEMON_TEST(test_region_that_the_device_refuses),
        DAEMON_TEST(test_region_of_a_refused_message_is_gone),
        DAEMON_TEST(test_region_callbacks_are_independent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
