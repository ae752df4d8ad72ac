/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Naming the threads that do not answer, while the rest of the process keeps running. */
#include "../fixtures/daemon_fixture.h"

#include "fdcheck.h"

#include <semaphore.h>
#include <stdio.h>
#include <string.h>

static struct {
    sem_t begun, go_on;
} stuck;

static int get_stuck(void *dev, struct gw_queue *q)
{
    struct gw_request *req;

    while (gw_queue_pop(q, &req, 1) == 1) {
        sem_post(&stuck.begun);
        sem_wait(&stuck.go_on);
        gw_request_complete(req, 0);
    }
    return 0;
}

static const struct gw_device_ops stuck_ops = {.size = sizeof(stuck_ops), .queue_ready = get_stuck};

static void test_stuck_worker_and_queue_are_named(void **state)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    char text[300], small[10];
    struct gw_daemon *d;
    struct vm vm;

    sem_init(&stuck.begun, 0, 0);
    sem_init(&stuck.go_on, 0, 0);
    cfg.num_workers = 2;
    cfg.num_queues = 2;
    assert_int_equal(gw_daemon_new(&d, &cfg, &stuck_ops, NULL), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    vm_boot(&vm, 2);
    assert_int_equal(gw_daemon_find_stuck(d, text, sizeof(text)), 0);
    assert_string_equal(text, "");

    vm_add(&vm, 1);
    sem_wait(&stuck.begun);
    assert_int_equal(gw_daemon_find_stuck(d, text, sizeof(text)), 2);
    assert_non_null(strstr(text, "worker 1 does not answer (thread "));
    assert_null(strstr(text, "worker 0"));
    assert_non_null(strstr(text, "queue 1 has 1 requests in flight"));
    assert_int_equal(gw_daemon_find_stuck(d, small, sizeof(small)), 2);
    assert_string_equal(small, "worker 1 ");
    gw_daemon_stop(d);
    assert_int_equal(gw_daemon_find_stuck(d, text, sizeof(text)), 2);

    sem_post(&stuck.go_on);
    vm_unplug(&vm);
    assert_int_equal(gw_daemon_wait(d), 0);
    assert_int_equal(gw_daemon_find_stuck(d, text, sizeof(text)), 0);
    gw_daemon_free(d);
}

static void test_stuck_daemon_does_not_disturb_another(void **state)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d, *other;
    struct gw_frontend *fe;
    char text[300];
    char first[sizeof(path)];
    struct vm vm;

    sem_init(&stuck.begun, 0, 0);
    sem_init(&stuck.go_on, 0, 0);
    assert_int_equal(gw_daemon_new(&d, &cfg, &stuck_ops, NULL), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    vm_boot(&vm, 1);
    vm_add(&vm, 0);
    sem_wait(&stuck.begun);
    gw_daemon_stop(d);

    other = daemon_fixture_new();
    strcpy(first, path);
    strcat(path, "2");
    assert_int_equal(gw_daemon_start_path(other, path), 0);
    fe = daemon_fixture_connect();
    expect_served(fe);
    assert_int_equal(gw_daemon_find_stuck(other, text, sizeof(text)), 0);
    gw_frontend_free(fe);
    gw_daemon_free(other); /* waits only for its own threads */
    strcpy(path, first);

    assert_true(gw_daemon_find_stuck(d, text, sizeof(text)) > 0);
    sem_post(&stuck.go_on);
    vm_unplug(&vm);
    gw_daemon_free(d);
}

static void go_on_when_named(void *arg, enum gw_log_level level, const char *message)
{
    bool *named = arg;

    if (!strstr(message, "worker 1 is still busy"))
        return;
    *named = true;
    sem_post(&stuck.go_on);
}

/* A stop waits for requests, and also for a worker that does not get to them. */
static void test_stuck_worker_is_named_during_a_stop(void **state)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    bool named = false;
    struct gw_daemon *d;
    struct vm vm;
    uint32_t base;

    sem_init(&stuck.begun, 0, 0);
    sem_init(&stuck.go_on, 0, 0);
    cfg.num_workers = 2;
    cfg.num_queues = 2;
    cfg.log = go_on_when_named;
    cfg.log_arg = &named;
    cfg.log_level = GW_LOG_WARNING;
    cfg.drain_timeout_ms = 20000;
    assert_int_equal(gw_daemon_new(&d, &cfg, &stuck_ops, NULL), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    vm_boot(&vm, 2);
    vm_add(&vm, 1);
    sem_wait(&stuck.begun);
    assert_int_equal(gw_frontend_get_vring_base(vm.fe, 1, &base), 0);
    assert_true(named);
    vm_unplug(&vm);
    gw_daemon_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_stuck_worker_and_queue_are_named),
        DAEMON_TEST(test_stuck_daemon_does_not_disturb_another),
        DAEMON_TEST(test_stuck_worker_is_named_during_a_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
