/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * libgodwit-blk for its users: the limits of a configuration, stores with few functions, results
 * from other threads, and counters. libgodwit is faked.
 */
#include "blk/blk_i.h"

#include "../fixtures/no_memory.h"

#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    CAPACITY = 1 << 20
};

/* ---- libgodwit, faked: one worker, one request at a time ---- */

struct gw_worker {
    bool is_current;
    struct gw_post *posted;
};

static struct gw_worker worker;
static struct virtio_blk_outhdr header;
static struct iovec data;
static struct gw_request req;
static uint8_t status;
static unsigned n_completed;
static int start_result, stop_result;
static union {
    struct blk_request b;
    uint8_t bytes[4096];
} private;

bool gw_worker_is_current(const struct gw_worker *w)
{
    return w->is_current;
}

int gw_worker_post(struct gw_worker *w, struct gw_post *post)
{
    assert_null(w->posted);
    w->posted = post;
    return 0;
}

static void run_posted(void)
{
    struct gw_post *post = worker.posted;

    assert_non_null(post);
    worker.posted = NULL;
    post->run(post);
}

unsigned gw_queue_index(const struct gw_queue *q)
{
    return 1;
}

struct gw_worker *gw_queue_worker(const struct gw_queue *q)
{
    return &worker;
}

bool gw_queue_may_suspend(struct gw_queue *q)
{
    return true;
}

bool gw_queue_is_taken_over(const struct gw_queue *q)
{
    return false;
}

unsigned gw_queue_pop(struct gw_queue *q, struct gw_request **reqs, unsigned n_reqs)
{
    memset(&private, 0, sizeof(private));
    reqs[0] = &req;
    return 1;
}

void *gw_request_private(struct gw_request *r)
{
    return &private;
}

bool gw_request_take_status(struct gw_request *r)
{
    return true;
}

size_t gw_request_read(struct gw_request *r, void *buf, size_t len)
{
    memcpy(buf, &header, len);
    return len;
}

size_t gw_request_write(struct gw_request *r, const void *buf, size_t len)
{
    return len;
}

void gw_request_complete_status(struct gw_request *r, uint8_t result)
{
    n_completed++;
    status = result;
}

int gw_request_suspend(struct gw_request *r)
{
    return 0;
}

void gw_queue_complete_start(struct gw_queue *q, int r)
{
    start_result = r;
}

void gw_queue_delay_stop(struct gw_queue *q)
{
}

void gw_queue_complete_stop(struct gw_queue *q, int r)
{
    stop_result = r;
}

void gw_daemon_config_changed(struct gw_daemon *d)
{
}

/* ---- stores ---- */

struct my_io {
    struct gw_blk_io io;
    uint8_t more[1000];
};

static struct gw_blk_io *last;
static struct gw_blk_user *last_user;
static int submit_result;

static int submit(void *store, struct gw_blk_io *io)
{
    assert_ptr_equal(store, &submit_result);
    last = io;
    return submit_result;
}

static int start(void *store, struct gw_blk_user *user)
{
    last_user = user;
    return -EINPROGRESS;
}

static const struct gw_blk_store_ops least = {.size = sizeof(least), .submit = submit};
static const struct gw_blk_config plain = {
    .size = sizeof(plain), .capacity = CAPACITY, .num_queues = 2};

static struct gw_blk *b;

static int setup(void **state)
{
    worker = (struct gw_worker){.is_current = true};
    submit_result = 0;
    status = 0xff;
    n_completed = 0;
    start_result = stop_result = 1;
    b = NULL;
    return gw_blk_new(&b, &plain, &least, &submit_result);
}

static int teardown(void **state)
{
    gw_blk_free(b);
    return 0;
}

static void ask(uint32_t type, uint64_t sector)
{
    header.type = htole32(type);
    header.sector = htole64(sector);
    data = (struct iovec){private.bytes, 512};
    req = (struct gw_request){.readable = &data,
                              .writable = &data,
                              .n_readable = type == VIRTIO_BLK_T_OUT,
                              .n_writable = type == VIRTIO_BLK_T_IN,
                              .readable_len = type == VIRTIO_BLK_T_OUT ? 512 : 0,
                              .writable_len = type == VIRTIO_BLK_T_IN ? 512 : 0};
    assert_int_equal(gw_blk_ops()->queue_ready(b, NULL), 0);
}

/* ---- making a device ---- */

static unsigned n_said;

static void note_message(void *arg, enum gw_log_level level, const char *message)
{
    assert_int_equal(level, GW_LOG_ERROR);
    n_said++;
}

static void test_blk_library_refuses_what_no_disk_can_be(void **state)
{
    static const struct gw_blk_config bad[] = {
        {.capacity = 512, .block_size = 256},
        {.capacity = 131072, .block_size = 131072},
        {.capacity = 1536, .block_size = 1536},
        {.capacity = 511},
        {.capacity = 4096 + 512, .block_size = 4096},
        {.num_queues = GW_QUEUES_MAX + 1},
        {.queue_size_max = 100},
        {.queue_size_max = 65536},
    };
    struct gw_blk *other = b;

    n_said = 0;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct gw_blk_config cfg = bad[i];

        cfg.size = sizeof(cfg);
        cfg.log = note_message;
        assert_int_equal(gw_blk_new(&other, &cfg, &least, NULL), -EINVAL);
        assert_int_equal(n_said, i + 1);
    }
    assert_ptr_equal(other, b);
}

static void test_blk_library_refuses_what_no_store_can_be(void **state)
{
    const struct gw_blk_store_ops bad[] = {
        {.size = sizeof(least)},
        {.size = sizeof(least), .submit = submit, .io_size = sizeof(struct gw_blk_io) - 1},
        {.size = sizeof(least), .submit = submit, .io_size = 1 << 20},
        {.size = 8, .submit = submit},
    };
    struct gw_blk_config cfg = plain;

    cfg.log = note_message;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(gw_blk_new(&b, &cfg, &bad[i], NULL), -EINVAL);
    cfg.size = 0;
    assert_int_equal(gw_blk_new(&b, &cfg, &least, NULL), -EINVAL);
}

/* A later version has more members: those that are set cannot be ignored. */
static void test_blk_library_refuses_members_of_later_versions(void **state)
{
    struct {
        struct gw_blk_config cfg;
        uint64_t later;
    } longer = {.cfg = plain, .later = 1};

    longer.cfg.size = sizeof(longer);
    assert_int_equal(gw_blk_new(&b, &longer.cfg, &least, NULL), -E2BIG);
    longer.later = 0;
    gw_blk_free(b);
    assert_int_equal(gw_blk_new(&b, &longer.cfg, &least, NULL), 0);
}

static int make(void *arg)
{
    struct gw_blk *made;
    int r = gw_blk_new(&made, &plain, &least, NULL);

    if (r == 0)
        gw_blk_free(made);
    return r;
}

static void test_blk_library_without_memory(void **state)
{
    assert_int_equal(no_memory_each(NO_MEMORY_OF_CALLER, make, NULL), 2);
}

static void test_blk_library_configures_the_daemon(void **state)
{
    const struct gw_blk_store_ops ops = {
        .size = sizeof(ops), .submit = submit, .io_size = sizeof(struct my_io)};
    struct gw_daemon_config cfg = {.poll_us = 7};
    size_t least_size;

    gw_blk_configure(b, &cfg);
    assert_int_equal(cfg.num_queues, 2);
    assert_int_equal(cfg.queue_size_max, 1024);
    assert_int_equal(cfg.request_bytes_max, UINT32_MAX);
    assert_int_equal(cfg.poll_us, 7);
    least_size = cfg.request_size;
    gw_blk_free(b);
    assert_int_equal(gw_blk_new(&b, &plain, &ops, NULL), 0);
    gw_blk_configure(b, &cfg);
    assert_int_equal(cfg.request_size - least_size,
                     sizeof(struct my_io) - sizeof(struct gw_blk_io));
}

/* ---- stores ---- */

static void test_blk_library_store_with_a_submit_function_only(void **state)
{
    const struct gw_device_ops *ops = gw_blk_ops();

    assert_int_equal(ops->queue_start(b, NULL), 0);
    ask(VIRTIO_BLK_T_OUT, 3);
    assert_int_equal(status, VIRTIO_BLK_S_OK);
    assert_int_equal(last->offset, 3 * 512);
    submit_result = -EINPROGRESS;
    ask(VIRTIO_BLK_T_IN, 4);
    ops->queue_stop(b, NULL); /* nothing can cancel it */
    assert_int_equal(stop_result, 1);
    assert_false(last->is_cancelled);
    gw_blk_io_complete(last, 0);
    assert_int_equal(n_completed, 2);
    assert_int_equal(stop_result, 0);
    assert_false(gw_blk_is_pending(b));
}

static void test_blk_library_results_of_other_threads_arrive_on_the_worker(void **state)
{
    assert_int_equal(gw_blk_ops()->queue_start(b, NULL), 0);
    submit_result = -EINPROGRESS;
    ask(VIRTIO_BLK_T_IN, 0);
    worker.is_current = false;
    gw_blk_io_complete(last, -EIO);
    assert_int_equal(n_completed, 0);
    worker.is_current = true;
    run_posted();
    assert_int_equal(n_completed, 1);
    assert_int_equal(status, VIRTIO_BLK_S_IOERR);
}

static void test_blk_library_start_is_never_completed_inside_a_call(void **state)
{
    const struct gw_blk_store_ops ops = {.size = sizeof(ops), .submit = submit, .start = start};

    gw_blk_free(b);
    assert_int_equal(gw_blk_new(&b, &plain, &ops, &submit_result), 0);
    assert_int_equal(gw_blk_ops()->queue_start(b, NULL), -EINPROGRESS);
    gw_blk_ops()->queue_stop(b, NULL); /* without cancel_start: the device waits */
    gw_blk_user_complete(last_user, 0);
    assert_true(gw_blk_is_pending(b));
    assert_int_equal(start_result, 1);
    run_posted();
    assert_false(gw_blk_is_pending(b));
    assert_int_equal(start_result, -ECANCELED);
}

/* ---- counters ---- */

static struct gw_blk_stats stats(void)
{
    struct gw_blk_stats s = {.size = sizeof(s)};

    gw_blk_stats(b, &s);
    assert_int_equal(s.size, sizeof(s));
    return s;
}

static void test_blk_library_counts(void **state)
{
    struct gw_blk_stats s = stats();

    assert_int_equal(s.read.submitted + s.write.submitted + s.flush.submitted + s.refused, 0);
    assert_int_equal(gw_blk_ops()->queue_start(b, NULL), 0);
    ask(VIRTIO_BLK_T_IN, 0);
    ask(VIRTIO_BLK_T_IN, 1);
    ask(VIRTIO_BLK_T_OUT, 1);
    ask(VIRTIO_BLK_T_FLUSH, 0);
    ask(VIRTIO_BLK_T_GET_ID, 0);
    ask(VIRTIO_BLK_T_IN, CAPACITY / 512);
    ask(77, 0);
    submit_result = -ENOSPC;
    ask(VIRTIO_BLK_T_OUT, 1);
    submit_result = -EINPROGRESS;
    ask(VIRTIO_BLK_T_OUT, 1);
    s = stats();
    assert_int_equal(s.read.submitted, 2);
    assert_int_equal(s.read.bytes, 1024);
    assert_int_equal(s.read.failed, 0);
    assert_int_equal(s.write.submitted, 3);
    assert_int_equal(s.write.bytes, 1536);
    assert_int_equal(s.write.failed, 1);
    assert_int_equal(s.flush.submitted, 1);
    assert_int_equal(s.flush.bytes, 0);
    assert_int_equal(s.refused, 2);
    last->is_cancelled = true;
    gw_blk_io_complete(last, -ECANCELED); /* suspended, not failed */
    assert_int_equal(stats().write.failed, 1);
    assert_int_equal(gw_blk_ops()->queue_start(b, NULL), 0);
    assert_int_equal(stats().read.submitted, 2); /* since gw_blk_new */
}

/* A program of an earlier version has a shorter structure. */
static void test_blk_library_copies_as_many_counters_as_fit(void **state)
{
    struct gw_blk_stats s;

    memset(&s, 0xee, sizeof(s));
    s.size = offsetof(struct gw_blk_stats, write);
    gw_blk_stats(b, &s);
    assert_int_equal(s.read.failed, 0);
    assert_int_equal(s.write.submitted, UINT64_C(0xeeeeeeeeeeeeeeee));
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_blk_library_##name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(refuses_what_no_disk_can_be),
        TEST(refuses_what_no_store_can_be),
        TEST(refuses_members_of_later_versions),
        TEST(without_memory),
        TEST(configures_the_daemon),
        TEST(store_with_a_submit_function_only),
        TEST(results_of_other_threads_arrive_on_the_worker),
        TEST(start_is_never_completed_inside_a_call),
        TEST(counts),
        TEST(copies_as_many_counters_as_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
