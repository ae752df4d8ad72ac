/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Naming the threads that do not answer, while the rest of the process keeps running. */
#include "../fixtures/daemon_fixture.h"

#include "fdcheck.h"

#include <pthread.h>
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

struct search {
    struct gw_daemon *d;
    unsigned n;
    char text[300];
};

static void *find_stuck(void *arg)
{
    struct search *s = arg;

    s->n = gw_daemon_find_stuck(s->d, s->text, sizeof(s->text));
    return NULL;
}

/* The thread that runs a worker is not stuck because it asks; for another thread, it is. */
static void test_stuck_external_worker_is_named_on_other_threads(void **state)
{
    for (unsigned is_all = 0; is_all < 2; is_all++) {
        const struct gw_workers_config set = {
            .size = sizeof(set), .num_workers = 1, .external = true};
        struct gw_daemon_config cfg = daemon_fixture_config();
        struct search mine = {0}, other = {0};
        struct gw_workers *ws;
        struct gw_worker *w;
        struct gw_daemon *d;
        pthread_t thread;

        assert_int_equal(gw_workers_new(&ws, &set), 0);
        w = gw_workers_get(ws, 0);
        cfg.control = w;
        cfg.workers = is_all ? &w : NULL;
        assert_int_equal(gw_daemon_new(&d, &cfg, &stuck_ops, NULL), 0);
        mine.d = other.d = d;
        assert_int_equal(gw_daemon_start_path(d, path), 0);
        find_stuck(&mine);
        assert_int_equal(mine.n, 0);
        gw_daemon_stop(d);
        find_stuck(&mine);
        assert_int_equal(mine.n, 0);
        assert_string_equal(mine.text, "");
        assert_int_equal(pthread_create(&thread, NULL, find_stuck, &other), 0);
        pthread_join(thread, NULL);
        assert_int_equal(other.n, 1);
        assert_non_null(strstr(other.text, is_all ? "worker 0 does not answer (thread "
                                                  : "the control worker does not answer (thread "));
        find_stuck(&mine); /* the task of the other thread is still in the mailbox */
        assert_int_equal(mine.n, 0);
        assert_int_equal(gw_daemon_wait(d), 0);
        gw_daemon_free(d);
        assert_int_equal(gw_workers_free(ws), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_stuck_worker_and_queue_are_named),
        DAEMON_TEST(test_stuck_daemon_does_not_disturb_another),
        DAEMON_TEST(test_stuck_worker_is_named_during_a_stop),
        DAEMON_TEST(test_stuck_external_worker_is_named_on_other_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
