/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What a device writes through a hold on guest memory is in the dirty log, after the data. */
#include "../fixtures/log_fixture.h"
#include "fdcheck.h"

#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

struct test {
    struct log_fixture log;
    struct gw_memory memory;
};

static void prepare(struct test *t)
{
    const struct fixture_config cfg = {.sync = GW_SYNC_MUTEX};

    log_fixture_prepare(&t->log, &cfg);
}

static void hold(struct test *t)
{
    assert_int_equal(gw_memory_hold(&t->memory, &t->log.fixture.queue), 0);
}

static void begin(struct test *t)
{
    prepare(t);
    log_fixture_start(&t->log);
    hold(t);
}

static void end(struct test *t)
{
    gw_memory_release(&t->memory);
    log_fixture_end(&t->log);
}

/* ---- what is marked ---- */

static void test_hold_log_marks_writes(void **state)
{
    static const struct {
        uint32_t offset, len;
    } cases[] = {{0, 1},
                 {4095, 1},
                 {0, 4096},
                 {4095, 2},
                 {100, 3 * PAGE},
                 {7, 1},
                 {9 * PAGE, 20 * PAGE},
                 {4096, 4096}};
    static uint8_t data[20 * PAGE];
    struct test t;

    begin(&t);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(cases); i++) {
        gw_gpa_t gpa = t.log.data + cases[i].offset;

        log_fixture_clear(&t.log);
        assert_int_equal(gw_memory_write(&t.memory, gpa, data, cases[i].len), 0);
        log_fixture_expect(&t.log, gpa, cases[i].len);
        log_fixture_check(&t.log);
    }
    end(&t);
}

static void test_hold_log_marks_stores(void **state)
{
    struct test t;

    begin(&t);
    assert_int_equal(gw_memory_store8(&t.memory, t.log.data + 1, 1, __ATOMIC_RELAXED), 0);
    assert_int_equal(gw_memory_store16(&t.memory, t.log.data + 2 * PAGE, 1, __ATOMIC_RELEASE), 0);
    assert_int_equal(gw_memory_store32(&t.memory, t.log.data + 4 * PAGE, 1, __ATOMIC_RELAXED), 0);
    assert_int_equal(gw_memory_store64(&t.memory, t.log.data + 7 * PAGE - 8, 1, __ATOMIC_SEQ_CST),
                     0);
    log_fixture_expect(&t.log, t.log.data, 1);
    log_fixture_expect(&t.log, t.log.data + 2 * PAGE, 1);
    log_fixture_expect(&t.log, t.log.data + 4 * PAGE, 1);
    log_fixture_expect(&t.log, t.log.data + 6 * PAGE, 1);
    log_fixture_check(&t.log);
    end(&t);
}

/* Up to what the file had. */
static void test_hold_log_marks_what_comes_from_a_file(void **state)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    struct test t;

    begin(&t);
    assert_int_equal(ftruncate(fd, 3 * PAGE), 0);
    assert_int_equal(gw_memory_from_file(&t.memory, t.log.data + 10, 2 * PAGE, fd, 0), 2 * PAGE);
    log_fixture_expect(&t.log, t.log.data, 2 * PAGE + 10);
    log_fixture_check(&t.log);
    log_fixture_clear(&t.log);
    assert_int_equal(gw_memory_from_file(&t.memory, t.log.data, 8 * PAGE, fd, PAGE), 2 * PAGE);
    log_fixture_expect(&t.log, t.log.data, 2 * PAGE);
    log_fixture_check(&t.log);
    close(fd);
    end(&t);
}

/* A device that writes to iovecs says so. */
static void test_hold_log_marks_on_request(void **state)
{
    struct iovec iov[1];
    struct test t;

    begin(&t);
    assert_int_equal(gw_memory_iovecs(&t.memory, t.log.data, 5 * PAGE, iov, 1), 1);
    memset(iov[0].iov_base, 1, 5 * PAGE);
    log_fixture_check(&t.log);
    assert_int_equal(gw_memory_mark_dirty(&t.memory, t.log.data, 5 * PAGE), 0);
    log_fixture_expect(&t.log, t.log.data, 5 * PAGE);
    log_fixture_check(&t.log);
    end(&t);
}

static void test_hold_log_does_not_mark_reads(void **state)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    uint8_t buf[3 * PAGE];
    struct test t;
    uint64_t value;

    begin(&t);
    assert_int_equal(gw_memory_read(&t.memory, t.log.data, buf, sizeof(buf)), 0);
    assert_int_equal(gw_memory_load64(&t.memory, t.log.data, &value, __ATOMIC_ACQUIRE), 0);
    assert_int_equal(gw_memory_to_file(&t.memory, t.log.data, PAGE, fd, 0), PAGE);
    assert_int_equal(gw_memory_write(&t.memory, t.log.data, buf, 0), 0);
    log_fixture_check(&t.log);
    close(fd);
    end(&t);
}

/* ---- when ---- */

static void test_hold_log_off_marks_nothing(void **state)
{
    struct test t;

    prepare(&t);
    log_fixture_start_unlogged(&t.log);
    hold(&t);
    assert_int_equal(gw_memory_write(&t.memory, t.log.data, "x", 1), 0);
    log_fixture_check(&t.log);
    log_fixture_set(&t.log, t.log.logs[0].log, true); /* a hold that is older than the log */
    assert_int_equal(gw_memory_write(&t.memory, t.log.data, "x", 1), 0);
    log_fixture_expect(&t.log, t.log.data, 1);
    log_fixture_check(&t.log);
    end(&t);
}

/* Writes between LOG_ALL and SET_LOG_BASE leave no record, so everything is marked. */
static void test_hold_log_without_base_marks_everything_when_it_comes(void **state)
{
    struct test t;

    prepare(&t);
    log_fixture_start_unlogged(&t.log);
    log_fixture_log_ring(&t.log, LOG_FIXTURE_USED);
    hold(&t);
    log_fixture_set(&t.log, NULL, true);
    assert_int_equal(gw_memory_write(&t.memory, t.log.data, "x", 1), 0);
    log_fixture_set(&t.log, t.log.logs[0].log, true);
    log_fixture_expect(&t.log, FIXTURE_GPA, t.log.fixture.cfg.mem_len);
    log_fixture_expect_ring(&t.log, 0, t.log.fixture.cfg.size);
    log_fixture_check(&t.log);
    end(&t);
}

static void test_hold_log_too_small_is_reported(void **state)
{
    struct gw_queue_stats stats;
    uint8_t data[16 * PAGE] = {0};
    struct test t;

    begin(&t);
    log_fixture_map_short(&t.log, t.log.data + 0x8000);
    log_fixture_set(&t.log, t.log.logs[t.log.current].log, true);
    assert_int_equal(gw_memory_write(&t.memory, t.log.data + 0x7000, data, sizeof(data)), 0);
    fixture_stats(&t.log.fixture, &stats);
    assert_int_equal(stats.errors, 1);
    assert_non_null(strstr(t.log.fixture.message, "outside the dirty log"));
    assert_true(log_fixture_test_and_clear(t.log.logs[t.log.current].bits, t.log.data + 0x7000));
    end(&t);
}

static void test_hold_log_signals_its_eventfd(void **state)
{
    eventfd_t value;
    struct test t;

    prepare(&t);
    t.log.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    log_fixture_start(&t.log);
    hold(&t);
    (void)eventfd_read(t.log.event_fd, &value);
    assert_int_equal(gw_memory_write(&t.memory, t.log.data, "x", 1), 0);
    assert_int_equal(eventfd_read(t.log.event_fd, &value), 0);
    end(&t);
    close(t.log.event_fd);
}

/* ---- order ---- */

enum {
    ROUNDS = 1000,
    LEN = 32 * PAGE,
};

struct migration {
    struct test *t;
    uint8_t copy[LEN];
    unsigned round;   /* atomic: the one that has begun */
    unsigned written; /* atomic: the one that has been written completely */
};

static void *write_rounds(void *arg)
{
    static uint8_t data[LEN];
    struct migration *m = arg;

    for (unsigned i = 1; i <= ROUNDS; i++) {
        memset(data, (int)i, sizeof(data));
        while (__atomic_load_n(&m->round, __ATOMIC_ACQUIRE) != i)
            sched_yield();
        (void)gw_memory_write(&m->t->memory, m->t->log.data, data, sizeof(data));
        __atomic_store_n(&m->written, i, __ATOMIC_RELEASE);
    }
    return NULL;
}

/* As a front-end: copy the pages that are marked. */
static void copy_marked(struct migration *m)
{
    struct log_fixture *log = &m->t->log;

    for (unsigned i = 0; i < LEN; i += PAGE)
        if (log_fixture_test_and_clear(log->logs[0].bits, log->data + i))
            memcpy(m->copy + i, gw_guest_mem_at(log->fixture.mem, log->data + i, PAGE), PAGE);
}

/* A mark that preceded its data would let the front-end copy the old page, and miss the new one. */
static void test_hold_log_marks_after_the_data(void **state)
{
    static struct migration m;
    pthread_t thread;
    struct test t;

    begin(&t);
    m = (struct migration){.t = &t};
    assert_int_equal(pthread_create(&thread, NULL, write_rounds, &m), 0);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        __atomic_store_n(&m.round, i, __ATOMIC_RELEASE);
        while (__atomic_load_n(&m.written, __ATOMIC_ACQUIRE) != i)
            copy_marked(&m);
        copy_marked(&m);
        for (unsigned at = 0; at < LEN; at += PAGE)
            assert_true(m.copy[at] == (uint8_t)i && m.copy[at + PAGE - 1] == (uint8_t)i);
    }
    pthread_join(thread, NULL);
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_hold_log_marks_writes),
        FDCHECK_TEST(test_hold_log_marks_stores),
        FDCHECK_TEST(test_hold_log_marks_what_comes_from_a_file),
        FDCHECK_TEST(test_hold_log_marks_on_request),
        FDCHECK_TEST(test_hold_log_does_not_mark_reads),
        FDCHECK_TEST(test_hold_log_off_marks_nothing),
        FDCHECK_TEST(test_hold_log_without_base_marks_everything_when_it_comes),
        FDCHECK_TEST(test_hold_log_too_small_is_reported),
        FDCHECK_TEST(test_hold_log_signals_its_eventfd),
        FDCHECK_TEST(test_hold_log_marks_after_the_data),
    };

    return FIXTURE_RUN_BOTH_LOOPS(tests);
}
