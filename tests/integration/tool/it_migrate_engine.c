/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Whole migrations between two test back-ends ("faulty back-ends"): correct ones pass under all
 * changes during the migration, and each fault is detected and reported under its name.
 */
#include "fdcheck.h"
#include "migrate_bench.h"

#include "base/proto.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define N_SEEDS 50

/* ---- correct back-ends ---- */

static void test_engine_honest_passes(void **state)
{
    uint64_t held = 0, logs = 0, regions = 0;
    bool enough = false;

    /* A busy machine does less per run and needs more runs. */
    for (uint64_t seed = 1; seed <= N_SEEDS || (!enough && seed <= 10 * N_SEEDS); seed++) {
        struct bench *b = bench_new(seed);

        b->o.order = MIGRATION_ORDER_RANDOM;
        b->o.n_queues = (unsigned)(1 + seed % 3);
        b->o.queue_size = 0;
        b->o.depth = 16;
        bench_run(b);
        bench_expect_passed(b);
        for (unsigned i = 0; i < b->result.n_rounds; i++)
            assert_int_equal(b->result.rounds[i].pages_outside, 0);
        assert_true(b->result.copy_rate > 0);
        held += b->result.held;
        logs += b->result.hops[0].logs_replaced;
        regions += b->result.hops[0].regions_removed;
        enough = held > 1000 && logs > 5 * N_SEEDS && regions > N_SEEDS / 2;
        bench_free(b);
    }
    assert_true(enough);
}

static void test_engine_there_and_back_passes(void **state)
{
    struct bench *b = bench_new(7);

    b->o.hops = 4;
    b->o.cancels = 2;
    b->o.order = MIGRATION_ORDER_RANDOM;
    bench_run(b);
    bench_expect_passed(b);
    assert_int_equal(b->result.n_hops, 4);
    assert_string_equal(b->result.hops[1].source, "destination");
    bench_free(b);
}

/* The devices share the memory and the log; a page that one of them fails to mark is detected. */
static void test_engine_several_devices_pass(void **state)
{
    struct bench *b = bench_new(5);

    b->o.n_devices = BENCH_DEVICES_MAX;
    b->o.n_queues = 2;
    b->o.depth = 16;
    b->o.memory = 32 << 20;
    bench_run(b);
    bench_expect_passed(b);
    assert_string_equal(b->result.hops[0].source, "source and 2 more");
    bench_free(b);
}

static void test_engine_guilt_of_one_of_several_is_found(void **state)
{
    bool found = false;

    /* On a busy machine the faulty device may complete no request before the migration ends. */
    for (uint64_t seed = 6; !found && seed <= 100; seed++) {
        struct bench *b = bench_new(seed);

        b->o.n_devices = BENCH_DEVICES_MAX;
        b->o.memory = 32 << 20;
        b->sources[1].backend.fault = FAULTY_NO_STATUS;
        bench_run(b);
        found = b->result.verdict != MIGRATION_PASSED;
        if (found) {
            assert_int_equal(b->result.verdict, MIGRATION_FAILED);
            assert_true(b->result.lost_by_use[MIGRATION_USE_STATUS] > 0);
        }
        for (unsigned i = 0; i < b->result.n_lost; i++)
            assert_non_null(strstr(b->result.lost[i].text, ", device 2"));
        bench_free(b);
    }
    assert_true(found);
}

static void test_engine_generic_passes(void **state)
{
    struct bench *b = bench_new(3);

    b->o.device = MIGRATION_DEVICE_GENERIC;
    b->o.n_queues = 2;
    bench_run(b);
    assert_int_equal(b->result.verdict, MIGRATION_PASSED);
    assert_int_equal(b->result.requests, 0);
    assert_int_equal(b->result.hops[0].requests_logged, 0);
    assert_int_equal(b->result.hops[0].requests_after, 0);
    bench_free(b);
}

/* ---- one fault each ---- */

struct crime {
    enum faulty_backend_fault fault;
    unsigned uses;     /* all of them are reported */
    unsigned not_uses; /* none of them is reported */
    const char *words; /* in the text of one of the faults */
    bool by_either;    /* the source alone cannot be blamed */
};

#define USE(name) (1u << MIGRATION_USE_##name)
#define RINGS     (USE(USED_IDX) | USE(USED_ELEMENT) | USE(AVAIL_EVENT) | USE(USED_FLAGS))

static const struct crime crimes[] = {
    {FAULTY_NO_MARKS, USE(DATA) | USE(STATUS) | USE(USED_IDX) | USE(USED_ELEMENT), USE(OUTSIDE),
     "not marked", false},
    {FAULTY_NO_USED_IDX, USE(USED_IDX), ~USE(USED_IDX), "used index", false},
    {FAULTY_NO_USED_ELEMENT, USE(USED_ELEMENT), ~USE(USED_ELEMENT), "used element", false},
    {FAULTY_NO_AVAIL_EVENT, USE(AVAIL_EVENT), ~USE(AVAIL_EVENT), "avail_event", false},
    {FAULTY_NO_LAST_PAGE, USE(DATA), ~USE(DATA), "data buffer", false},
    {FAULTY_NO_STATUS, USE(STATUS), ~USE(STATUS), "status byte", false},
    {FAULTY_EVERY_100TH, USE(DATA), ~USE(DATA), "data buffer", false},
    {FAULTY_MARK_FIRST, USE(DATA), ~USE(DATA), "data buffer", false},
    {FAULTY_WRITE_AFTER_STOP, USE(DATA), ~USE(DATA), "after the stop", false},
    {FAULTY_OLD_LOG, 0, USE(OUTSIDE), "after the answer to its replacement", false},
    {FAULTY_LATER_REGION, USE(DATA), RINGS | USE(OUTSIDE), "not marked", false},
    {FAULTY_OUTSIDE, USE(OUTSIDE), ~USE(OUTSIDE), "outside everything", false},
    {FAULTY_STOP_IN_FLIGHT, 0, ~0u, "taken and not completed", false},
    {FAULTY_MARKS_AFTER_OFF, 0, ~0u, "after LOG_ALL had been cleared", false},
};

/* Returns: whether the fault was detected; if so, its report must name it. */
static bool is_convicted(const struct crime *c, struct bench *b)
{
    const struct migration_result *r = &b->result;
    bool is_hint = c->uses == USE(AVAIL_EVENT), told = is_hint;

    if (r->verdict == MIGRATION_PASSED && r->hops[0].pages_hint == 0)
        return false;
    /* Hints are not faults. */
    assert_int_equal(r->verdict, is_hint ? MIGRATION_PASSED : MIGRATION_FAILED);
    for (unsigned i = 0; i < r->n_faults; i++)
        told |= r->faults[i].side == MIGRATION_SIDE_SOURCE && strstr(r->faults[i].text, c->words);
    for (unsigned use = 0; use < MIGRATION_N_USES; use++) {
        bool found = r->lost_by_use[use] > 0;

        if ((c->uses >> use & 1 && !found) || (c->not_uses >> use & 1 && found))
            told = false;
    }
    if (!told)
        bench_show(r);
    assert_true(told);
    if (r->hops[0].pages_lost)
        assert_int_equal(r->hops[0].pages_hint == r->hops[0].pages_lost, is_hint);
    return true;
}

static void test_engine_guilty_is_found(void **state)
{
    for (unsigned i = 0; i < sizeof(crimes) / sizeof(crimes[0]); i++) {
        bool found = false;

        for (uint64_t seed = 1; !found && seed <= 100; seed++) {
            struct bench *b = bench_new(seed);

            b->sources[0].backend.fault = crimes[i].fault;
            if (crimes[i].fault == FAULTY_LATER_REGION)
                b->o.replace_log_ms = 0;
            if (crimes[i].fault == FAULTY_MARKS_AFTER_OFF)
                b->o.cancels = 1;
            bench_run(b);
            found = is_convicted(&crimes[i], b);
            bench_free(b);
        }
        if (!found)
            print_message("fault %d was not found\n", crimes[i].fault);
        assert_true(found);
    }
}

static void test_engine_indirect_guilt_is_found(void **state)
{
    bool found = false;

    for (uint64_t seed = 1; !found && seed <= 100; seed++) {
        struct bench *b = bench_new(seed); /* some seeds use no indirect tables */

        b->sources[0].backend.fault = FAULTY_NO_INDIRECT;
        bench_run(b);
        found = b->result.lost_by_use[MIGRATION_USE_DATA] > 0;
        bench_free(b);
    }
    assert_true(found);
}

static void test_engine_too_many_marks_are_counted(void **state)
{
    struct bench *b = bench_new(1);

    b->sources[0].backend.fault = FAULTY_MARKS_TOO_MUCH;
    bench_run(b);
    bench_expect_passed(b);
    assert_true(b->result.hops[0].pages_unchanged * 4 > b->result.hops[0].pages_marked);
    bench_free(b);
}

static void test_engine_lost_writes_are_found(void **state)
{
    struct bench *b = bench_new(1);

    b->sources[0].backend.fault = FAULTY_LOSES_WRITES;
    bench_run(b);
    assert_int_equal(b->result.verdict, MIGRATION_FAILED);
    assert_int_equal(b->result.faults[0].error, -EILSEQ);
    assert_non_null(strstr(b->result.faults[0].text, "expected generation"));
    bench_free(b);
}

/* ---- failures during the migration ---- */

struct mishap {
    enum faulty_backend_failure failure;
    uint32_t request;
    unsigned after;
    bool at_destination;
    enum migration_phase phase;
    int error;
};

static const struct mishap mishaps[] = {
    {FAULTY_HANGS, GW_MSG_GET_FEATURES, 0, true, MIGRATION_PHASE_CONNECT, -ETIMEDOUT},
    {FAULTY_DIES, GW_MSG_GET_FEATURES, 0, false, MIGRATION_PHASE_CONNECT, -ECONNRESET},
    {FAULTY_DIES, GW_MSG_ADD_MEM_REG, 1, false, MIGRATION_PHASE_START, -ECONNRESET},
    {FAULTY_REFUSES, GW_MSG_SET_VRING_ADDR, 0, false, MIGRATION_PHASE_START, -EREMOTEIO},
    {FAULTY_WRONG_ID, GW_MSG_SET_LOG_BASE, 0, false, MIGRATION_PHASE_LOG_ON, -EPROTO},
    {FAULTY_REFUSES, GW_MSG_SET_VRING_ADDR, 1, false, MIGRATION_PHASE_LOG_ON, -EREMOTEIO},
    {FAULTY_HANGS, GW_MSG_SET_LOG_BASE, 2, false, MIGRATION_PHASE_COPY, -ETIMEDOUT},
    {FAULTY_BABBLES, GW_MSG_SET_LOG_BASE, 1, false, MIGRATION_PHASE_COPY, -EPROTO},
    {FAULTY_DIES, GW_MSG_SET_VRING_CALL, 2, false, MIGRATION_PHASE_COPY, -ECONNRESET},
    {FAULTY_HANGS, GW_MSG_GET_VRING_BASE, 0, false, MIGRATION_PHASE_STOP, -ETIMEDOUT},
    {FAULTY_DIES, GW_MSG_GET_VRING_BASE, 0, false, MIGRATION_PHASE_STOP, -ECONNRESET},
    {FAULTY_DIES, GW_MSG_SET_VRING_KICK, 0, true, MIGRATION_PHASE_RESUME, -ECONNRESET},
    {FAULTY_REFUSES, GW_MSG_SET_FEATURES, 0, true, MIGRATION_PHASE_RESUME, -EREMOTEIO},
    {FAULTY_DIES, GW_MSG_GET_FEATURES, 0, true, MIGRATION_PHASE_CONNECT, -ECONNRESET},
    {FAULTY_WRONG_ID, GW_MSG_GET_CONFIG, 0, true, MIGRATION_PHASE_CONNECT, -EPROTO},
    {FAULTY_BABBLES, GW_MSG_GET_FEATURES, 0, true, MIGRATION_PHASE_CONNECT, -EPROTO},
    {FAULTY_BABBLES, GW_MSG_SET_FEATURES, 0, true, MIGRATION_PHASE_RESUME, -EPROTO},
    {FAULTY_WRONG_ID, GW_MSG_SET_VRING_KICK, 0, true, MIGRATION_PHASE_RESUME, -EPROTO},
    {FAULTY_HANGS, GW_MSG_SET_VRING_ENABLE, 0, true, MIGRATION_PHASE_RESUME, -ETIMEDOUT},
    {FAULTY_IS_LATE, GW_MSG_ADD_MEM_REG, 0, true, MIGRATION_PHASE_RESUME, -ETIMEDOUT},
    {FAULTY_IS_LATE, GW_MSG_GET_VRING_BASE, 0, false, MIGRATION_PHASE_STOP, -ETIMEDOUT},
    {FAULTY_HANGS, GW_MSG_GET_VRING_BASE, 0, true, MIGRATION_PHASE_VERIFY, -ETIMEDOUT},
    {FAULTY_DIES, GW_MSG_GET_VRING_BASE, 0, true, MIGRATION_PHASE_VERIFY, -ECONNRESET},
};

/*
 * Run the migration until the failure occurs at the intended answer. On a busy machine a good
 * answer, too, may exceed the request timeout: then the timeout was too short for this machine.
 */
static struct bench *run_mishap(const struct mishap *h, uint64_t seed)
{
    for (unsigned ms = FAULTY_BACKEND_LATE_ANSWER_MS / 2;; ms *= 4) {
        struct bench *b = bench_new(seed);
        struct target *t = h->at_destination ? &b->destinations[0] : &b->sources[0];
        bool is_other;

        if (h->error == -ETIMEDOUT)
            b->o.request_ms = ms;
        t->backend.failure = h->failure;
        t->backend.late_ms = 2 * ms;
        t->backend.fail_request = h->request;
        t->backend.fail_after = h->after;
        bench_run(b);
        is_other = b->result.faults[0].error == -ETIMEDOUT && b->result.faults[0].phase != h->phase;
        if (h->error != -ETIMEDOUT || !is_other || ms > FAULTY_BACKEND_LATE_ANSWER_MS * 10)
            return b;
        bench_free(b);
    }
}

static void test_engine_mishap_is_told(void **state)
{
    for (unsigned i = 0; i < sizeof(mishaps) / sizeof(mishaps[0]); i++) {
        const struct mishap *h = &mishaps[i];
        struct bench *b = run_mishap(h, i);
        const struct target *t = h->at_destination ? &b->destinations[0] : &b->sources[0];

        if (b->result.faults[0].phase != h->phase || b->result.faults[0].error != h->error)
            bench_show(&b->result);
        assert_int_equal(b->result.verdict, MIGRATION_FAILED);
        assert_int_equal(b->result.faults[0].phase, h->phase);
        assert_int_equal(b->result.faults[0].error, h->error);
        assert_int_equal(b->result.faults[0].side,
                         h->at_destination ? MIGRATION_SIDE_DESTINATION : MIGRATION_SIDE_SOURCE);
        assert_string_equal(b->result.faults[0].who, t->name);
        assert_int_equal(b->result.faults[0].n_evidence, 1);
        assert_string_equal(b->result.evidence[0].who, t->name);
        assert_true(b->result.evidence[0].n_messages > 1);
        bench_free(b);
    }
}

/* Answers that are later than usual but within the timeout. */
static void test_engine_late_answers_are_waited_for(void **state)
{
    static const uint32_t requests[] = {GW_MSG_GET_FEATURES, GW_MSG_SET_LOG_BASE,
                                        GW_MSG_GET_VRING_BASE};

    for (unsigned i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        struct bench *b = bench_new(i);

        b->sources[0].backend.failure = b->destinations[0].backend.failure = FAULTY_IS_LATE;
        b->sources[0].backend.fail_request = b->destinations[0].backend.fail_request = requests[i];
        b->o.replace_log_ms = 100;
        b->o.region_ms = 0;
        bench_run(b);
        bench_expect_passed(b);
        bench_free(b);
    }
}

static void test_engine_lacking_feature_is_told(void **state)
{
    struct bench *b = bench_new(1);

    b->sources[0].backend.features_off = 1u << GW_F_LOG_ALL;
    bench_run(b);
    assert_int_equal(b->result.verdict, MIGRATION_COULD_NOT);
    assert_non_null(strstr(b->result.faults[0].text, "LOG_ALL"));
    bench_free(b);

    b = bench_new(1);
    b->destinations[0].backend.features_off = 1u << GW_F_RING_EVENT_IDX;
    bench_run(b);
    assert_int_equal(b->result.verdict, MIGRATION_COULD_NOT);
    assert_int_equal(b->result.faults[0].side, MIGRATION_SIDE_DESTINATION);
    assert_non_null(strstr(b->result.faults[0].text, "EVENT_IDX"));
    bench_free(b);

    b = bench_new(1);
    b->o.kill = MIGRATION_KILL_COPY;
    bench_run(b);
    assert_int_equal(b->result.verdict, MIGRATION_COULD_NOT);
    assert_int_equal(b->result.kills, 0);
    assert_non_null(strstr(b->result.faults[0].text, "INFLIGHT_SHMFD"));
    bench_free(b);
}

static void limit(struct faulty_backend *s, uint32_t block_size, uint32_t size_max,
                  uint32_t seg_max)
{
    s->block_size = block_size;
    s->size_max = size_max;
    s->seg_max = seg_max;
}

/* A load that exceeds the limits of the disk would be a fault of the tool. */
static void test_engine_limits_of_the_disk_are_kept(void **state)
{
    static const uint32_t limits[][3] = {
        {4096, 0, 0}, {0, 0, 1}, {0, 512, 0}, {4096, 1024, 4}, {2048, 4096, 2}};

    for (unsigned i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        struct bench *b = bench_new(i + 1);

        limit(&b->sources[0].backend, limits[i][0], limits[i][1], limits[i][2]);
        limit(&b->destinations[0].backend, limits[i][0], limits[i][1], limits[i][2]);
        b->o.copy_ms = 40;
        bench_run(b);
        bench_expect_passed(b);
        bench_free(b);
    }
}

static void test_engine_limits_that_do_not_fit_are_told(void **state)
{
    static const struct {
        uint32_t source[3], destination[3];
        unsigned block_size;
        const char *text;
    } cases[] = {
        {{4096, 0, 0}, {4096, 0, 0}, 512, "blocks of 4096 bytes: --block-size=512"},
        {{0, 1024, 2}, {0, 1024, 2}, 65536, "--block-size=65536 is too large"},
        {{512, 0, 0}, {4096, 0, 0}, 4096, "its disk has blocks of 4096 bytes"},
        {{0, 0, 8}, {0, 0, 4}, 4096, "allows 4 segments"},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const uint32_t *from = cases[i].source, *to = cases[i].destination;
        struct bench *b = bench_new(1);

        limit(&b->sources[0].backend, from[0], from[1], from[2]);
        limit(&b->destinations[0].backend, to[0], to[1], to[2]);
        b->o.block_size = cases[i].block_size;
        bench_run(b);
        assert_int_equal(b->result.verdict, MIGRATION_COULD_NOT);
        if (!strstr(b->result.faults[0].text, cases[i].text))
            bench_show(&b->result);
        assert_non_null(strstr(b->result.faults[0].text, cases[i].text));
        bench_free(b);
    }
}

static void test_engine_other_disk_is_told(void **state)
{
    struct bench *b = bench_new(1);

    b->destinations[0].backend.sectors--;
    bench_run(b);
    assert_int_equal(b->result.verdict, MIGRATION_COULD_NOT);
    assert_int_equal(b->result.faults[0].side, MIGRATION_SIDE_DESTINATION);
    assert_non_null(strstr(b->result.faults[0].text, "sectors"));
    bench_free(b);
}

static void test_engine_time_limit_holds(void **state)
{
    struct bench *b = bench_new(1);

    b->o.copy_ms = 60000;
    b->o.timeout_ms = 400;
    bench_run(b);
    assert_int_equal(b->result.verdict, MIGRATION_COULD_NOT);
    assert_int_equal(b->result.faults[0].error, -ETIMEDOUT);
    assert_true(b->result.duration_ns < 30000000000u);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_engine_honest_passes),
        FDCHECK_TEST(test_engine_there_and_back_passes),
        FDCHECK_TEST(test_engine_several_devices_pass),
        FDCHECK_TEST(test_engine_guilt_of_one_of_several_is_found),
        FDCHECK_TEST(test_engine_generic_passes),
        FDCHECK_TEST(test_engine_guilty_is_found),
        FDCHECK_TEST(test_engine_indirect_guilt_is_found),
        FDCHECK_TEST(test_engine_too_many_marks_are_counted),
        FDCHECK_TEST(test_engine_lost_writes_are_found),
        FDCHECK_TEST(test_engine_mishap_is_told),
        FDCHECK_TEST(test_engine_late_answers_are_waited_for),
        FDCHECK_TEST(test_engine_lacking_feature_is_told),
        FDCHECK_TEST(test_engine_limits_of_the_disk_are_kept),
        FDCHECK_TEST(test_engine_limits_that_do_not_fit_are_told),
        FDCHECK_TEST(test_engine_other_disk_is_told),
        FDCHECK_TEST(test_engine_time_limit_holds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
