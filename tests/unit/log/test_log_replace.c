/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Repeats SET_LOG_BASE while a queue runs at full load with requests in flight. The test acts as
 * the front-end of a migration: after the reply to a replacement, it reads and clears the old log
 * once and copies the marked pages. At the end the copy must equal the memory, and no replaced log
 * may have been written.
 */
#include "../fixtures/log_fixture.h"
#include "fdcheck.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    DEPTH = 64,
    KEPT = 12, /* requests the device keeps from one turn to the next */
    N_LOGS = 16,
    RUN_MS = 600,
    DONE_MIN = 1000,
    REPLACED_MIN = 10,
    CLEARED_MIN = 10,
};

struct load {
    struct log_fixture t; /* must be first: the device gets a pointer to its fixture */
    uint64_t *copy;       /* copy of all guest memory */
    pthread_t driver;
    bool ends; /* atomic */
    uint64_t n_done;
    uint64_t n_cleared;
    /* Requests passed to the completer thread, if the test has one. */
    pthread_t completer;
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct gw_request *passed[FIXTURE_HELD_MAX]; /* lock */
    unsigned n_passed;                           /* lock */
    bool done;                                   /* lock */
    uint64_t counter;
};

/* ---- the device: writes a number to every page of every buffer ---- */

static void fill(struct load *l, struct gw_request *r)
{
    uint64_t n = __atomic_add_fetch(&l->counter, 1, __ATOMIC_RELAXED);

    for (unsigned i = 0; i < r->n_writable; i++)
        for (size_t at = 0; at < r->writable[i].iov_len; at += PAGE)
            __atomic_store_n((uint64_t *)(void *)((char *)r->writable[i].iov_base + at), n,
                             __ATOMIC_RELAXED);
}

/* Write in this turn and complete in the next one: the log is replaced in between. */
static int ready(void *dev, struct gw_queue *q)
{
    struct load *l = dev;
    struct fixture *t = dev;
    struct gw_request *reqs[DEPTH];
    unsigned n = gw_queue_pop(q, reqs, DEPTH);

    for (unsigned i = 0; i < n; i++) {
        fill(l, reqs[i]);
        if (t->n_held == KEPT) {
            gw_request_complete(t->held[0], 1);
            memmove(t->held, t->held + 1, (KEPT - 1) * sizeof(t->held[0]));
            t->n_held--;
        }
        t->held[t->n_held++] = reqs[i];
    }
    return 0;
}

static void stop(void *dev, struct gw_queue *q)
{
    struct fixture *t = dev;

    (void)q;
    while (t->n_held > 0)
        gw_request_complete(t->held[--t->n_held], 1);
}

/* Pass the requests to another thread, which writes and completes (GW_SYNC_MUTEX). */
static int ready_to_pass(void *dev, struct gw_queue *q)
{
    struct load *l = dev;
    struct gw_request *reqs[DEPTH];
    unsigned n = gw_queue_pop(q, reqs, DEPTH);

    pthread_mutex_lock(&l->lock);
    for (unsigned i = 0; i < n; i++)
        l->passed[l->n_passed++] = reqs[i];
    pthread_cond_signal(&l->news);
    pthread_mutex_unlock(&l->lock);
    return 0;
}

static void *completing(void *arg)
{
    struct load *l = arg;
    struct gw_request *r;

    for (;;) {
        pthread_mutex_lock(&l->lock);
        while (l->n_passed == 0 && !l->done)
            pthread_cond_wait(&l->news, &l->lock);
        r = l->n_passed > 0 ? l->passed[--l->n_passed] : NULL;
        pthread_mutex_unlock(&l->lock);
        if (!r)
            return NULL;
        fill(l, r);
        gw_request_complete(r, 1);
    }
}

/* ---- the driver ---- */

static void *driving(void *arg)
{
    struct load *l = arg;
    struct gw_driver *d = l->t.fixture.driver;
    struct gw_driver_used used[DEPTH];
    unsigned seed = 1;

    while (!__atomic_load_n(&l->ends, __ATOMIC_RELAXED)) {
        unsigned n;

        while (gw_driver_in_flight(d) < DEPTH) {
            unsigned page = (unsigned)rand_r(&seed) % (LOG_FIXTURE_DATA_LEN / PAGE - 4);
            struct gw_driver_buf buf = {l->t.data + (uint64_t)page * PAGE,
                                        (1 + (unsigned)rand_r(&seed) % 4) * PAGE};

            if (gw_driver_add(d, &buf, 0, 1, 1, 0) < 0)
                break;
        }
        gw_driver_kick(d);
        n = gw_driver_take(d, used, DEPTH);
        __atomic_fetch_add(&l->n_done, n, __ATOMIC_RELAXED);
        if (n == 0)
            sched_yield();
    }
    return NULL;
}

/* ---- the front-end ---- */

/* A part of a ring that the device writes; the driver writes the rest of its pages. */
struct part {
    gw_gpa_t gpa;
    uint64_t len;
};

static void find_parts(const struct load *l, struct part parts[2])
{
    const struct fixture *t = &l->t.fixture;
    bool packed = gw_driver_is_packed(t->driver);

    parts[0] = (struct part){t->used, packed ? 4 : 6 + UINT64_C(8) * t->cfg.size};
    parts[1] = (struct part){t->desc, packed ? UINT64_C(16) * t->cfg.size : 0};
}

/* A guest may write its packed descriptors while a VMM copies them: this race is intended. */
__attribute__((no_sanitize("thread"))) static void copy_part(struct load *l,
                                                             const struct part *part, uint64_t gpa)
{
    uint64_t begin = part->gpa, end = begin + part->len;

    begin = begin < gpa ? gpa : begin;
    end = end > gpa + PAGE ? gpa + PAGE : end;
    for (; begin < end; begin += 2)
        *(uint16_t *)(void *)((char *)l->copy + (begin - FIXTURE_GPA)) = __atomic_load_n(
            (uint16_t *)gw_guest_mem_at(l->t.fixture.mem, begin, 2), __ATOMIC_RELAXED);
}

static void copy_page(struct load *l, uint64_t gpa)
{
    const uint64_t *from = gw_guest_mem_at(l->t.fixture.mem, gpa, PAGE);
    uint64_t *to = l->copy + (gpa - FIXTURE_GPA) / 8;

    struct part parts[2];

    if (gpa < l->t.data || gpa >= l->t.data + LOG_FIXTURE_DATA_LEN) {
        find_parts(l, parts);
        copy_part(l, &parts[0], gpa);
        copy_part(l, &parts[1], gpa);
        return;
    }
    for (unsigned i = 0; i < PAGE / 8; i++)
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

/* Clear all bits and copy the marked pages, as a VMM does. */
static void sync_log(struct load *l, const struct log_fixture_log *log)
{
    uint64_t first = FIXTURE_GPA / PAGE / 8;

    for (uint64_t byte = first; byte < first + l->t.fixture.cfg.mem_len / PAGE / 8; byte++) {
        unsigned bits = __atomic_exchange_n(&log->bits[byte], 0, __ATOMIC_ACQ_REL);

        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        for (; bits; bits &= bits - 1, l->n_cleared++)
            copy_page(l, (8 * byte + (unsigned)__builtin_ctz(bits)) * PAGE);
    }
}

static void is_untouched(const struct log_fixture_log *log)
{
    for (size_t i = 0; i < log->size; i++)
        if (log->bits[i])
            fail_msg("a replaced log has a mark in byte %zu", i);
}

/* Replace the log by the next one; the old log is unmapped, so that a late write crashes. */
static void replace(struct load *l)
{
    struct log_fixture_log *old = &l->t.logs[l->t.current], *new;

    l->t.current = (l->t.current + 1) % N_LOGS;
    new = &l->t.logs[l->t.current];
    is_untouched(new); /* not written since its sync, N_LOGS - 1 replacements ago */
    if (!new->log)
        assert_int_equal(
            gw_dirty_log_new(&new->log, fcntl(new->fd, F_DUPFD_CLOEXEC, 0), 0, new->size), 0);
    log_fixture_set(&l->t, new->log, true);
    gw_dirty_log_free(old->log);
    old->log = NULL;
    sync_log(l, old);
}

/* Compare a used packed descriptor, unless the driver has overwritten it since. */
static void compare_desc(struct load *l, gw_gpa_t gpa)
{
    const struct vring_packed_desc *desc = gw_guest_mem_at(l->t.fixture.mem, gpa, 16);
    bool avail = desc->flags >> VRING_PACKED_DESC_F_AVAIL & 1;
    bool used = desc->flags >> VRING_PACKED_DESC_F_USED & 1;

    if (avail == used &&
        memcmp(&desc->len, (char *)l->copy + (gpa - FIXTURE_GPA) + 8, sizeof(*desc) - 8))
        fail_msg("the used descriptor at %#llx lost its mark", (unsigned long long)gpa);
}

static void compare(struct load *l)
{
    struct part parts[2];

    find_parts(l, parts);
    for (gw_gpa_t gpa = l->t.data; gpa < l->t.data + LOG_FIXTURE_DATA_LEN; gpa += PAGE)
        if (memcmp(gw_guest_mem_at(l->t.fixture.mem, gpa, PAGE), l->copy + (gpa - FIXTURE_GPA) / 8,
                   PAGE))
            fail_msg("the data page at %#llx lost its mark", (unsigned long long)gpa);
    if (memcmp(gw_guest_mem_at(l->t.fixture.mem, parts[0].gpa, parts[0].len),
               (char *)l->copy + (parts[0].gpa - FIXTURE_GPA), parts[0].len))
        fail_msg("a page of the used ring, or event area, lost its mark");
    for (uint64_t at = 0; at < parts[1].len; at += 16)
        compare_desc(l, parts[1].gpa + at);
}

static void run(const struct fixture_config *cfg, unsigned every_us)
{
    struct load *l = calloc(1, sizeof(*l));
    uint64_t end, n_replaced = 0;

    assert_non_null(l);
    log_fixture_prepare(&l->t, cfg);
    while (l->t.n_logs < N_LOGS)
        log_fixture_add_log(&l->t, LOG_FIXTURE_END);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->news, NULL);
    log_fixture_log_ring(&l->t, l->t.fixture.used);
    /* Copy everything once, as in the first round of a migration. */
    log_fixture_set(&l->t, l->t.logs[0].log, true);
    l->copy = calloc(1, l->t.fixture.cfg.mem_len);
    assert_non_null(l->copy);
    for (gw_gpa_t gpa = FIXTURE_GPA; gpa < FIXTURE_GPA + l->t.fixture.cfg.mem_len; gpa += PAGE)
        copy_page(l, gpa);
    if (cfg->sync != GW_SYNC_NONE)
        assert_int_equal(pthread_create(&l->completer, NULL, completing, l), 0);
    log_fixture_start_unlogged(&l->t);
    assert_int_equal(pthread_create(&l->driver, NULL, driving, l), 0);

    end = gw_clock_ns() + RUN_MS * UINT64_C(1000000);
    /* A slow machine runs longer, so that enough requests and replacements can lose a mark. */
    while (gw_clock_ns() < end || n_replaced < REPLACED_MIN ||
           __atomic_load_n(&l->n_done, __ATOMIC_RELAXED) < DONE_MIN) {
        replace(l);
        n_replaced++;
        if (every_us)
            usleep(every_us);
    }
    __atomic_store_n(&l->ends, true, __ATOMIC_RELAXED);
    pthread_join(l->driver, NULL);
    (void)fixture_stop(&l->t.fixture);
    sync_log(l, &l->t.logs[l->t.current]);
    compare(l);
    for (unsigned i = 0; i < N_LOGS; i++)
        is_untouched(&l->t.logs[i]);
    printf("%llu requests, %llu replacements, %llu marks read\n", (unsigned long long)l->n_done,
           (unsigned long long)n_replaced, (unsigned long long)l->n_cleared);
    assert_true(l->n_cleared > CLEARED_MIN);
    if (cfg->sync != GW_SYNC_NONE) {
        pthread_mutex_lock(&l->lock);
        l->done = true;
        pthread_cond_signal(&l->news);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->completer, NULL);
    }
    pthread_cond_destroy(&l->news);
    pthread_mutex_destroy(&l->lock);
    log_fixture_end(&l->t);
    free(l->copy);
    free(l);
}

static void test_log_replace_under_load_loses_nothing(void **state)
{
    run(&(struct fixture_config){.queue_ready = ready, .queue_stop = stop}, 1000);
    run(&(struct fixture_config){.queue_ready = ready,
                                 .queue_stop = stop,
                                 .features = FIXTURE_F_EVENT},
        0);
}

static void test_log_replace_with_a_shared_queue_loses_nothing(void **state)
{
    run(&(struct fixture_config){.queue_ready = ready_to_pass, .sync = GW_SYNC_MUTEX}, 300);
    run(&(struct fixture_config){.queue_ready = ready_to_pass,
                                 .sync = GW_SYNC_RWLOCK,
                                 .features = FIXTURE_F_EVENT},
        0);
}

/* A request in flight under one log is marked in the next log, and so is the ring. */
static void test_log_replace_marks_what_is_in_flight_in_the_new_log(void **state)
{
    struct fixture_config cfg = {.features = FIXTURE_F_EVENT};
    struct gw_driver_buf buf;
    struct log_fixture t;

    log_fixture_begin(&t, &cfg);
    log_fixture_log_ring(&t, LOG_FIXTURE_USED);
    for (unsigned i = 0; i < 20; i++) {
        buf = (struct gw_driver_buf){t.data + PAGE * 2 * i, 1};
        assert_int_equal(gw_driver_add(t.fixture.driver, &buf, 0, 1, i, 0), 0);
    }
    gw_driver_kick(t.fixture.driver);
    fixture_wait_held(&t.fixture, 20);
    for (unsigned i = 0; i < 20; i++) {
        log_fixture_clear(&t); /* clears the log that is about to be replaced */
        t.current = log_fixture_add_log(&t, LOG_FIXTURE_END);
        log_fixture_set(&t, t.logs[t.current].log, true);
        gw_dirty_log_free(t.logs[t.current - 1].log);
        t.logs[t.current - 1].log = NULL;
        log_fixture_release(&t, 1, 1);
        log_fixture_take(&t, 1);
        log_fixture_expect(&t, t.data + PAGE * 2 * i, 1);
        log_fixture_expect_answers(&t, i, 1);
        log_fixture_check(&t);
        is_untouched(&t.logs[t.current - 1]);
    }
    log_fixture_end(&t);
}

/* A request completed in the turn of the replacement is marked in the old log. */
static int complete_and_replace(void *arg)
{
    struct log_fixture *t = arg;
    struct gw_dirty_log_state state = {.log = t->logs[1].log, .all = true, .event_fd = -1};

    gw_request_complete(t->fixture.held[0], 1);
    __atomic_store_n(&t->fixture.n_held, 0, __ATOMIC_RELEASE);
    gw_queue_set_log(&t->fixture.queue, &state);
    return 0;
}

static void test_log_replace_publishes_what_was_completed(void **state)
{
    struct fixture_config cfg = {.features = FIXTURE_F_EVENT};
    struct gw_driver_buf buf;
    struct log_fixture t;

    log_fixture_begin(&t, &cfg);
    log_fixture_log_ring(&t, LOG_FIXTURE_USED);
    log_fixture_add_log(&t, LOG_FIXTURE_END);
    buf = (struct gw_driver_buf){t.data, PAGE};
    assert_int_equal(gw_driver_add(t.fixture.driver, &buf, 0, 1, 1, 0), 0);
    gw_driver_kick(t.fixture.driver);
    fixture_wait_held(&t.fixture, 1);
    log_fixture_clear(&t);
    fixture_call(&t.fixture, complete_and_replace, &t);
    log_fixture_take(&t, 1);
    log_fixture_expect(&t, buf.addr, buf.len);
    log_fixture_expect_answers(&t, 0, 1);
    log_fixture_check(&t);
    is_untouched(&t.logs[1]);
    log_fixture_end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_log_replace_marks_what_is_in_flight_in_the_new_log),
        FDCHECK_TEST(test_log_replace_publishes_what_was_completed),
        FDCHECK_TEST(test_log_replace_under_load_loses_nothing),
        FDCHECK_TEST(test_log_replace_with_a_shared_queue_loses_nothing),
    };

    return FIXTURE_RUN_LAYOUTS(tests);
}
