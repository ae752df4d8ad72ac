/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * In postcopy the daemon answers the front-end whatever state its workers are in. Its only worker
 * sleeps on a page that the test sends after it has received all answers; then the worker has
 * applied every message that arrived while it slept.
 */
#include "../fixtures/post.h"
#include "fdcheck.h"
#include "patience.h"

#include "base/proto.h"

#include <godwit/frontend/log.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECTOR  (DISK_SIZE / 512 / 2)
#define GONE    UINT64_C(0x7e0000000000) /* a user address outside all regions */
#define WAIT_MS patience_ms()

static struct post post;
static bool shares; /* the worker, whose queues then move to one of their own */

/* Queue 0 is stopped after one request. */
static void begin(enum gw_loop_kind loop, enum gw_frontend_mem_form form)
{
    const struct post_config cfg = {
        .fixture = {.loop = loop, .kind = DISK_RAM, .n_workers = 1, .shares = shares},
        .form = form};
    struct post_device *d = &post.devices[0];

    post_begin(&post, &cfg);
    memset(gw_guest_mem_at(post.from, d->buf[0].addr, 4096), 0x6b, 4096);
    post_write(&post, 0, SECTOR);
    post_wait(&post, 0);
    memset(gw_guest_mem_at(post.from, d->buf[1].addr, 4096), 0x11, 4096);
    post.later = d->buf[1].addr;
    post_switch(&post);
    assert_int_equal(gw_frontend_stop_queue(d->fe, d->drivers[0]), 0);
}

/* Block the worker: queue 1 reads into the page `later`. */
static void hold(void)
{
    post_read(&post, 1, SECTOR);
    post_await_waiting(&post);
}

static void hold_worker(enum gw_loop_kind loop, enum gw_frontend_mem_form form)
{
    begin(loop, form);
    hold();
}

static void expect_read(gw_gpa_t gpa)
{
    const uint8_t *page = gw_guest_mem_at(post.to, gpa, 4096);

    for (unsigned i = 0; i < 4096; i++)
        assert_int_equal(page[i], 0x6b);
}

/* Send the page and wait for the request that needs it. */
static void let_go(void)
{
    const gw_gpa_t page = post.later;

    assert_int_equal(gw_driver_n_used(post.devices[0].drivers[1]), 0);
    post_send(&post);
    post_wait(&post, 1);
    expect_read(page);
}

/* Start queue 0 and do a read on it. */
static void start_and_read(void)
{
    struct post_device *d = &post.devices[0];

    assert_int_equal(gw_frontend_start_queue(d->fe, d->drivers[0]), 0);
    assert_int_equal(gw_frontend_set_vring_enable(d->fe, 0, true), 0);
    post_read(&post, 0, SECTOR);
    post_wait(&post, 0);
    expect_read(d->buf[0].addr);
}

static void end(void)
{
    struct post_device *d = &post.devices[0];

    post_stream(&post);
    post_finish(&post, 0);
    assert_int_equal(gw_frontend_stop(d->fe, d->drivers, FIXTURE_QUEUES), 0);
    post_end(&post);
}

/* Wait for each acknowledgement before sending the next message. */
static void ask_for_everything(void)
{
    struct post_device *d = &post.devices[0];
    struct gw_frontend *fe = d->fe;

    assert_int_equal(gw_frontend_set_vring_err(fe, 0, -1), 0);
    assert_int_equal(gw_frontend_start_queue(fe, d->drivers[0]), 0);
    for (unsigned i = 0; i < FIXTURE_QUEUES; i++) {
        assert_int_equal(gw_frontend_set_vring_enable(fe, i, false), 0);
        assert_int_equal(gw_frontend_set_vring_call(fe, i, -1), 0);
        assert_int_equal(gw_frontend_set_vring_log(fe, d->drivers[i], true), 0);
        assert_int_equal(gw_frontend_set_vring_kick(fe, i, gw_driver_kick_fd(d->drivers[i])), 0);
        assert_int_equal(gw_frontend_set_vring_call(fe, i, gw_driver_call_fd(d->drivers[i])), 0);
        assert_int_equal(gw_frontend_set_vring_enable(fe, i, true), 0);
    }
    post_plug(&post, POST_HOT_GPA);
    post_plug(&post, POST_HOT_GPA + 2 * POST_HOT_SIZE);
}

static void answer(enum gw_loop_kind loop)
{
    struct post_device *d = &post.devices[0];

    for (unsigned i = 0; i < 2; i++) {
        hold_worker(loop, i ? GW_FRONTEND_MEM_TABLE : GW_FRONTEND_MEM_SLOTS);
        ask_for_everything();
        /* A missing page, in memory that the worker does not know yet. */
        d->buf[0].addr = POST_HOT_GPA + 2 * POST_HOT_SIZE;
        post_read(&post, 0, SECTOR);
        d->buf[1].addr = POST_HOT_GPA; /* processed before the worker's posted calls */
        post_read(&post, 1, SECTOR);
        let_go();
        for (unsigned k = 0; k < FIXTURE_QUEUES; k++) {
            post_wait(&post, k);
            expect_read(d->buf[k].addr);
        }
        end();
    }
}

static void test_postcopy_answers_epoll(void **state)
{
    answer(GW_LOOP_EPOLL);
}

static void test_postcopy_answers_uring(void **state)
{
    if (!fixture_has_uring())
        skip();
    answer(GW_LOOP_URING);
}

static void test_postcopy_hang_up_after_the_answers(void **state)
{
    for (unsigned i = 0; i < 2; i++) {
        hold_worker(GW_LOOP_EPOLL, i ? GW_FRONTEND_MEM_TABLE : GW_FRONTEND_MEM_SLOTS);
        ask_for_everything();
        post_end(&post);
    }
}

static void test_postcopy_daemon_is_stopped_after_the_answers(void **state)
{
    for (unsigned i = 0; i < 2; i++) {
        hold_worker(GW_LOOP_EPOLL, i ? GW_FRONTEND_MEM_TABLE : GW_FRONTEND_MEM_SLOTS);
        ask_for_everything();
        post_stop(&post);
        post_end(&post);
    }
}

/* ---- more messages than the daemon keeps ---- */

static void *send_later(void *arg)
{
    usleep(50000);
    post_send(&post);
    return NULL;
}

/* The number of messages a front-end can pile up is limited: then the daemon waits for the page. */
static void test_postcopy_answers_wait_rather_than_pile_up(void **state)
{
    struct post_device *d = &post.devices[0];
    pthread_t thread;

    for (unsigned i = 0; i < 2; i++) {
        hold_worker(GW_LOOP_EPOLL, GW_FRONTEND_MEM_TABLE);
        assert_int_equal(pthread_create(&thread, NULL, send_later, NULL), 0);
        for (unsigned k = 0; k < 200; k++) {
            if (i)
                assert_int_equal(gw_frontend_set_vring_enable(d->fe, 0, k % 2 == 0), 0);
            else
                assert_int_equal(gw_frontend_set_mem_table(d->fe, post.to), 0);
        }
        pthread_join(thread, NULL);
        post_wait(&post, 1);
        start_and_read();
        end();
    }
}

/* ---- starts that fail ---- */

/*
 * Errors found by arithmetic fail the message. An error found later by the worker, without anyone
 * waiting for it, breaks the queue until it is stopped.
 */
static void test_postcopy_start_that_fails_is_told(void **state)
{
    struct post_device *d = &post.devices[0];
    const struct gw_frontend_vring_addr nowhere = {.desc = GONE, .avail = GONE, .used = GONE};
    struct pollfd err = {.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .events = POLLIN};
    int kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    uint32_t base = 0;

    hold_worker(GW_LOOP_EPOLL, GW_FRONTEND_MEM_SLOTS);
    assert_int_equal(gw_frontend_set_vring_err(d->fe, 0, err.fd), 0);
    assert_int_equal(gw_frontend_set_vring_addr(d->fe, 0, &nowhere), 0);
    assert_int_equal(gw_frontend_set_vring_kick(d->fe, 0, -1), -EREMOTEIO);
    assert_int_equal(gw_frontend_set_vring_log(d->fe, d->drivers[0], false), 0); /* valid */
    __atomic_store_n(&d->fixture.disk.refuses, true, __ATOMIC_RELAXED);
    assert_int_equal(gw_frontend_set_vring_kick(d->fe, 0, kick), 0);
    assert_int_equal(poll(&err, 1, 0), 0);
    let_go();
    assert_int_equal(poll(&err, 1, WAIT_MS), 1);
    assert_true(
        fixture_says(&d->fixture, "queue 0 is broken until it is stopped: the device refuses"));
    assert_int_equal(gw_frontend_get_vring_base(d->fe, 0, &base), 0);
    assert_int_equal(base, 1); /* as set before */
    start_and_read();
    close(kick);
    close(err.fd);
    end();
}

/* ---- the dirty log ---- */

/* Marks made after the answer are in the new log once the ring has stopped. */
static void test_postcopy_log_is_replaced_without_waiting(void **state)
{
    struct post_device *d = &post.devices[0];
    struct gw_guest_log *logs[3];
    struct gw_guest_log_config cfg = {.size = sizeof(cfg)};

    begin(GW_LOOP_EPOLL, GW_FRONTEND_MEM_SLOTS);
    cfg.length = gw_guest_log_length_for(post.to, d->drivers, FIXTURE_QUEUES);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(gw_guest_log_new(&logs[i], &cfg), 0);
    assert_int_equal(gw_frontend_set_log_base(d->fe, logs[0]), 0);
    assert_int_equal(gw_frontend_set_log_all(d->fe, true), 0);
    hold();
    for (unsigned i = 1; i < 3; i++) {
        assert_int_equal(gw_frontend_set_log_base(d->fe, logs[i]), 0);
        assert_false(gw_guest_log_is_marked(logs[i], post.later));
    }
    let_go();
    assert_int_equal(gw_frontend_stop_queue(d->fe, d->drivers[1]), 0);
    assert_true(gw_guest_log_is_marked(logs[0], d->buf[1].addr));
    assert_true(gw_guest_log_is_marked(logs[2], d->buf[1].addr));
    assert_int_equal(gw_frontend_set_log_all(d->fe, false), 0);
    for (unsigned i = 0; i < 3; i++)
        gw_guest_log_free(logs[i]);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_postcopy_answers_epoll),
        FDCHECK_TEST(test_postcopy_answers_uring),
        FDCHECK_TEST(test_postcopy_hang_up_after_the_answers),
        FDCHECK_TEST(test_postcopy_daemon_is_stopped_after_the_answers),
        FDCHECK_TEST(test_postcopy_answers_wait_rather_than_pile_up),
        FDCHECK_TEST(test_postcopy_start_that_fails_is_told),
        FDCHECK_TEST(test_postcopy_log_is_replaced_without_waiting),
    };

    int failed;

    post_require_faults();
    failed = cmocka_run_group_tests_name("own workers", tests, NULL, NULL);
    shares = true;
    return failed + cmocka_run_group_tests_name("shared workers", tests, NULL, NULL);
}
