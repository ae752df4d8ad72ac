/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Inflight tracking of a split ring: layout, recovery after a crash, and invalid parts. */
#include "../fixtures/inflight_part.h"

#include "fdcheck.h"

#include <pthread.h>

/* Offsets of the specification. */
#define FEATURES   0
#define VERSION    8
#define DESC_NUM   10
#define LAST_BATCH 12
#define USED_IDX   14
#define ENTRY(i)   (16 + 16 * (i))
#define INFLIGHT   0
#define NEXT       6
#define COUNTER    8

static void take(struct part *p, uint16_t head)
{
    struct gw_head taken = {.id = head, .n_slots = 1};

    gw_inflight_take(&p->f, &taken, 1);
    assert_int_equal(taken.entry, head);
}

/* Complete as the queue does; the device dies after step `until`. */
enum until {
    LINKED,
    CLOSED,
    PUBLISHED,
    CLEARED,
    COMMITTED
};

static void complete(struct part *p, const uint16_t *heads, unsigned n, enum until until)
{
    for (unsigned i = 0; i < n; i++)
        gw_inflight_link(&p->f, heads[i]);
    if (until == LINKED)
        return;
    gw_inflight_close(&p->f, (uint16_t)(p->ring.used + n));
    if (until == CLOSED)
        return;
    p->ring.used = (uint16_t)(p->ring.used + n);
    if (until == PUBLISHED)
        return;
    for (unsigned i = 0; i < n; i++)
        gw_inflight_clear(&p->f, heads[i]);
    if (until == COMMITTED)
        gw_inflight_commit(&p->f);
}
#define COMPLETE(p, until, ...)                    \
    complete((p), (const uint16_t[]){__VA_ARGS__}, \
             sizeof((const uint16_t[]){__VA_ARGS__}) / sizeof(uint16_t), (until))

static void test_inflight_split_stride_is_as_peers_have_it(void **state)
{
    assert_int_equal(gw_inflight_stride(false, 1), 64);
    assert_int_equal(gw_inflight_stride(false, 128), 2112);
    assert_int_equal(gw_inflight_stride(false, 256), 4160);
    assert_int_equal(gw_inflight_stride(false, 1024), 16448);
    assert_int_equal(gw_inflight_stride(false, 32768), 524352);
    /* libvhost-user adds 2 bytes before it aligns, DPDK 16. */
    for (unsigned n = 1; n <= 32768; n++)
        assert_int_equal(gw_inflight_stride(false, (uint16_t)n), (16 * n + 2 + 63) / 64 * 64);
}

static void test_inflight_split_bytes_are_as_specified(void **state)
{
    struct part p;

    part_init(&p, false);
    p.ring.used = 77;
    part_open(&p);
    PART_FOUND_NONE(&p);
    assert_int_equal(p.found.used, 77);
    assert_int_equal(p.found.n_slots, 0);
    assert_int_equal(part_get64(&p, FEATURES), 0);
    assert_int_equal(part_get16(&p, VERSION), 1);
    assert_int_equal(part_get16(&p, DESC_NUM), PART_SIZE);
    assert_int_equal(part_get16(&p, USED_IDX), 77);
    for (unsigned i = 0; i < PART_SIZE; i++)
        assert_int_equal(p.bytes[ENTRY(i) + INFLIGHT], 0);
    assert_int_equal(p.bytes[192], 0x5a); /* the next part is untouched */

    take(&p, 6);
    take(&p, 2);
    assert_int_equal(p.bytes[ENTRY(6) + INFLIGHT], 1);
    assert_int_equal(p.bytes[ENTRY(2) + INFLIGHT], 1);
    assert_int_equal(part_get64(&p, ENTRY(6) + COUNTER), 0);
    assert_int_equal(part_get64(&p, ENTRY(2) + COUNTER), 1);
    COMPLETE(&p, PUBLISHED, 2, 6);
    assert_int_equal(part_get16(&p, LAST_BATCH), 6);
    assert_int_equal(part_get16(&p, ENTRY(6) + NEXT), 2);
    assert_int_equal(part_get16(&p, USED_IDX), 77);
    assert_int_equal(p.bytes[ENTRY(6) + INFLIGHT], 1);
    gw_inflight_clear(&p.f, 6);
    assert_int_equal(p.bytes[ENTRY(6) + INFLIGHT], 0);
    assert_int_equal(p.bytes[ENTRY(2) + INFLIGHT], 1);
    gw_inflight_clear(&p.f, 2);
    gw_inflight_commit(&p.f);
    assert_int_equal(part_get16(&p, USED_IDX), 79);
    part_done(&p);
}

static void test_inflight_split_oldest_is_found_first(void **state)
{
    struct part p;

    part_init(&p, false);
    part_open(&p);
    take(&p, 5);
    take(&p, 0);
    take(&p, 7);
    take(&p, 3);
    COMPLETE(&p, COMMITTED, 0);
    part_open(&p);
    PART_FOUND(&p, 5, 7, 3);
    assert_int_equal(p.found.n_slots, 3);
    assert_int_equal(p.found.used, 1);
    assert_int_equal(p.found.entries[2].id, 3);
    assert_int_equal(p.found.entries[2].n_slots, 1);
    /* A new request is younger than the recovered ones. */
    take(&p, 0);
    part_open(&p);
    PART_FOUND(&p, 5, 7, 3, 0);
    part_done(&p);
}

static void test_inflight_split_untaken_is_not_in_flight(void **state)
{
    struct part p;

    part_init(&p, false);
    part_open(&p);
    take(&p, 5);
    take(&p, 0);
    gw_inflight_untake(&p.f, 0);
    take(&p, 1);
    assert_int_equal(part_get64(&p, ENTRY(1) + COUNTER), 1);
    part_open(&p);
    PART_FOUND(&p, 5, 1);
    part_done(&p);
}

static void test_inflight_split_head_that_cannot_be_tracked_is_refused(void **state)
{
    struct gw_head heads[] = {{.id = 3}, {.id = 4}, {.id = 3}, {.id = 5}};
    struct part p;

    part_init(&p, false);
    part_open(&p);
    assert_int_equal(gw_inflight_take(&p.f, heads, 4), 2);
    assert_non_null(strstr(gw_last_error(), "head 3 available again before it was used"));
    heads[0].id = PART_SIZE;
    assert_int_equal(gw_inflight_take(&p.f, heads, 1), 0);
    assert_non_null(strstr(gw_last_error(), "head 8 is beyond the ring of 8"));
    part_open(&p);
    PART_FOUND(&p, 3, 4);
    /* Also after recovery. */
    heads[0].id = 4;
    assert_int_equal(gw_inflight_take(&p.f, heads, 1), 0);
    part_done(&p);
}

static void test_inflight_split_batch_that_was_shown_is_done(void **state)
{
    for (int until = PUBLISHED; until <= COMMITTED; until++) {
        struct part p;

        part_init(&p, false);
        p.ring.used = 65534; /* the index wraps around */
        part_open(&p);
        for (uint16_t i = 0; i < PART_SIZE; i++)
            take(&p, i);
        COMPLETE(&p, COMMITTED, 7);
        COMPLETE(&p, (enum until)until, 3, 1, 6);
        assert_int_equal(p.ring.used, 2);
        part_open(&p);
        PART_FOUND(&p, 0, 2, 4, 5);
        assert_int_equal(p.found.used, 2);
        assert_int_equal(part_get16(&p, USED_IDX), 2);
        assert_int_equal(p.bytes[ENTRY(6) + INFLIGHT], 0);
        /* The recovery is permanent. */
        take(&p, 3);
        part_open(&p);
        PART_FOUND(&p, 0, 2, 4, 5, 3);
        part_done(&p);
    }
}

static void test_inflight_split_batch_that_was_not_shown_is_done_again(void **state)
{
    for (int until = LINKED; until <= CLOSED; until++) {
        struct part p;

        part_init(&p, false);
        part_open(&p);
        for (uint16_t i = 0; i < 4; i++)
            take(&p, i);
        COMPLETE(&p, (enum until)until, 3, 1);
        part_open(&p);
        PART_FOUND(&p, 0, 1, 2, 3);
        /* The remaining entries still form a list, and counters continue from its end. */
        COMPLETE(&p, PUBLISHED, 2, 3);
        part_open(&p);
        PART_FOUND(&p, 0, 1);
        part_done(&p);
    }
}

static void test_inflight_split_batch_may_be_the_whole_ring(void **state)
{
    struct part p;

    part_init(&p, false);
    part_open(&p);
    for (uint16_t i = 0; i < PART_SIZE; i++)
        take(&p, i);
    COMPLETE(&p, PUBLISHED, 7, 6, 5, 4, 3, 2, 1, 0);
    part_open(&p);
    PART_FOUND_NONE(&p);
    part_done(&p);
}

/* Counters may wrap: a request with counter 2^64 - 1 comes before one with 0. */
static void test_inflight_split_counters_may_run_over(void **state)
{
    struct part p;

    part_init(&p, false);
    part_open(&p);
    for (uint16_t i = 0; i < 5; i++) {
        take(&p, i);
        part_set64(&p, ENTRY(i) + COUNTER, (uint64_t)i - 3); /* -3, -2, -1, 0, 1 */
    }
    part_set64(&p, ENTRY(3) + COUNTER, 0);
    part_open(&p);
    PART_FOUND(&p, 0, 1, 2, 3, 4);
    take(&p, 7);
    assert_int_equal(part_get64(&p, ENTRY(7) + COUNTER), 2);
    COMPLETE(&p, COMMITTED, 3, 4, 7);
    part_open(&p);
    PART_FOUND(&p, 0, 1, 2);
    take(&p, 6);
    assert_int_equal(part_get64(&p, ENTRY(6) + COUNTER), 0);
    part_open(&p);
    PART_FOUND(&p, 0, 1, 2, 6);
    part_done(&p);
}

static void test_inflight_split_counters_may_be_anything(void **state)
{
    struct part p;

    part_init(&p, false);
    part_open(&p);
    for (uint16_t i = 0; i < PART_SIZE; i++)
        take(&p, i);
    for (unsigned i = 0; i < PART_SIZE; i++)
        part_set64(&p, ENTRY(i) + COUNTER, 42);
    part_open(&p);
    PART_FOUND(&p, 0, 1, 2, 3, 4, 5, 6, 7);
    part_set64(&p, ENTRY(1) + COUNTER, UINT64_C(1) << 63);
    part_set64(&p, ENTRY(5) + COUNTER, UINT64_MAX);
    part_set64(&p, ENTRY(6) + COUNTER, 0);
    part_open(&p);
    assert_int_equal(p.found.n_entries, PART_SIZE);
    part_done(&p);
}

/* A part of zeroes is unused: descriptor 0 is neither answered nor in flight. */
static void test_inflight_split_zeroes_say_nothing(void **state)
{
    struct part p;

    part_init(&p, false);
    memset(p.bytes, 0, sizeof(p.bytes));
    p.ring.used = 5;
    part_open(&p);
    PART_FOUND_NONE(&p);
    take(&p, 0);
    take(&p, 1);
    part_open(&p);
    PART_FOUND(&p, 0, 1);
    part_done(&p);
}

struct scribbler {
    struct part *part;
    unsigned first, stride; /* offset of the first entry and distance of the entries */
    bool stop;              /* atomic */
};

/* Another process may write at any time, so these races are hidden from ThreadSanitizer. */
__attribute__((no_sanitize_thread)) static void *scribble(void *arg)
{
    struct scribbler *s = arg;

    while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED))
        for (unsigned i = 0; i < PART_SIZE; i++)
            *(volatile uint8_t *)(s->part->bytes + s->first + i * s->stride) = 1;
    return NULL;
}

/* A new part has nothing in flight, even if the front-end writes to it during initialisation. */
static void test_inflight_split_and_packed_new_part_that_changes_is_empty(void **state)
{
    for (unsigned packed = 0; packed < 2; packed++) {
        struct part p;
        struct scribbler s = {.part = &p, .first = packed ? 32 : 16, .stride = packed ? 32 : 16};
        pthread_t thread;

        part_init(&p, packed);
        assert_int_equal(pthread_create(&thread, NULL, scribble, &s), 0);
        for (unsigned i = 0; i < 20000; i++) {
            int r;

            part_set16(&p, VERSION, 0);
            r = part_try(&p);
            assert_true(r == -EINVAL || (r == 0 && p.found.n_slots == 0 && p.f.n_taken == 0));
        }
        __atomic_store_n(&s.stop, true, __ATOMIC_RELAXED);
        pthread_join(thread, NULL);
        part_done(&p);
    }
}

static void test_inflight_split_finished_part_begins_anew(void **state)
{
    struct part p;

    part_init(&p, false);
    part_open(&p);
    take(&p, 4);
    COMPLETE(&p, COMMITTED, 4);
    gw_inflight_finish(&p.f);
    gw_inflight_detach(&p.f);
    assert_int_equal(gw_inflight_attach(&p.f, p.bytes, false, PART_SIZE, PART_SIZE), 0);
    assert_true(p.f.is_new);
    p.ring.used = 0; /* the guest has reset it */
    part_open(&p);
    assert_int_equal(part_get16(&p, USED_IDX), 0);
    part_done(&p);
    gw_inflight_finish(&p.f); /* nothing is attached */
    gw_inflight_detach(&p.f);
}

/* The ring was reset but the front-end kept the region: nothing was in flight. */
static void test_inflight_split_index_does_not_matter_when_nothing_is_in_flight(void **state)
{
    struct part p;

    part_init(&p, false);
    part_open(&p);
    for (unsigned i = 0; i < 3; i++) {
        take(&p, 0);
        COMPLETE(&p, COMMITTED, 0);
    }
    for (unsigned used = 0; used < 65536; used += 5) {
        p.ring.used = (uint16_t)used;
        part_open(&p);
        PART_FOUND_NONE(&p);
        assert_int_equal(p.found.used, used);
    }
    part_done(&p);
}

static void test_inflight_split_ring_may_be_smaller_than_its_part(void **state)
{
    struct part p;

    part_init(&p, false);
    p.ring_size = 4;
    part_open(&p);
    take(&p, 3);
    part_open(&p);
    PART_FOUND(&p, 3);
    assert_int_equal(part_get16(&p, DESC_NUM), PART_SIZE);
    p.bytes[ENTRY(4) + INFLIGHT] = 1;
    part_refused(&p, "descriptor 4 is in flight");
    part_done(&p);
}

/* A driver error that loses only the faulty request. */
static void test_inflight_split_head_beyond_the_ring_is_ignored(void **state)
{
    uint8_t before[PART_MAX];
    struct part p;

    part_init(&p, false);
    part_open(&p);
    memcpy(before, p.bytes, sizeof(before));
    take(&p, PART_SIZE);
    take(&p, 65535);
    assert_memory_equal(p.bytes, before, sizeof(before));
    part_done(&p);
}

static void test_inflight_split_nothing_is_tracked_without_a_part(void **state)
{
    struct gw_inflight f = {.part = NULL};

    assert_int_equal(gw_inflight_take(&f, &(struct gw_head){.id = 3}, 1), 1);
    gw_inflight_untake(&f, 0);
    gw_inflight_close(&f, 1);
    gw_inflight_commit(&f);
    gw_inflight_finish(&f);
    gw_inflight_detach(&f);
}

/* ---- invalid parts ---- */

static void begin_bad(struct part *p)
{
    part_init(p, false);
    part_open(p);
    for (uint16_t i = 0; i < 6; i++)
        take(p, i);
}

static void test_inflight_split_wrong_headers_are_refused(void **state)
{
    struct part p;

    begin_bad(&p);
    part_set16(&p, VERSION, 2);
    part_refused(&p, "version 2");
    part_set16(&p, VERSION, 1);
    for (unsigned bit = 0; bit < 64; bit += 21) {
        part_set64(&p, FEATURES, UINT64_C(1) << bit);
        part_refused(&p, "features");
    }
    part_set64(&p, FEATURES, 0);
    part_set16(&p, DESC_NUM, PART_SIZE * 2);
    part_refused(&p, "is for 16 descriptors, not 8");
    part_set16(&p, DESC_NUM, 0);
    part_refused(&p, "is for 0 descriptors");
    part_set16(&p, DESC_NUM, PART_SIZE);
    p.ring_size = PART_SIZE * 2;
    part_refused(&p, "ring of 16 descriptors");
    p.ring_size = PART_SIZE;
    part_open(&p);
    part_done(&p);
}

static void test_inflight_split_impossible_indices_are_refused(void **state)
{
    struct part p;

    begin_bad(&p);
    p.ring.used = PART_SIZE + 1;
    part_refused(&p, "9 ahead");
    p.ring.used = 65535;
    part_refused(&p, "65535 ahead");
    p.ring.used = 0;
    part_set16(&p, USED_IDX, 1);
    part_refused(&p, "65535 ahead");
    part_done(&p);
}

static void test_inflight_split_broken_lists_are_refused(void **state)
{
    struct part p;

    begin_bad(&p);
    COMPLETE(&p, PUBLISHED, 1, 2, 3);
    part_set16(&p, LAST_BATCH, PART_SIZE);
    part_refused(&p, "has descriptor 8, beyond the ring");
    part_set16(&p, LAST_BATCH, 65535);
    part_refused(&p, "has descriptor 65535, beyond the ring");
    part_set16(&p, LAST_BATCH, 3);
    part_set16(&p, ENTRY(2) + NEXT, PART_SIZE);
    part_refused(&p, "has descriptor 8, beyond the ring");
    part_set16(&p, ENTRY(2) + NEXT, 3);
    part_refused(&p, "has descriptor 3 twice");
    part_set16(&p, ENTRY(3) + NEXT, 3);
    part_refused(&p, "has descriptor 3 twice");
    part_set16(&p, ENTRY(3) + NEXT, 2);
    part_set16(&p, ENTRY(2) + NEXT, 1);
    part_open(&p);
    PART_FOUND(&p, 0, 4, 5);
    part_done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_inflight_split_stride_is_as_peers_have_it),
        FDCHECK_TEST(test_inflight_split_bytes_are_as_specified),
        FDCHECK_TEST(test_inflight_split_oldest_is_found_first),
        FDCHECK_TEST(test_inflight_split_untaken_is_not_in_flight),
        FDCHECK_TEST(test_inflight_split_head_that_cannot_be_tracked_is_refused),
        FDCHECK_TEST(test_inflight_split_batch_that_was_shown_is_done),
        FDCHECK_TEST(test_inflight_split_batch_that_was_not_shown_is_done_again),
        FDCHECK_TEST(test_inflight_split_batch_may_be_the_whole_ring),
        FDCHECK_TEST(test_inflight_split_counters_may_run_over),
        FDCHECK_TEST(test_inflight_split_counters_may_be_anything),
        FDCHECK_TEST(test_inflight_split_zeroes_say_nothing),
        FDCHECK_TEST(test_inflight_split_and_packed_new_part_that_changes_is_empty),
        FDCHECK_TEST(test_inflight_split_finished_part_begins_anew),
        FDCHECK_TEST(test_inflight_split_index_does_not_matter_when_nothing_is_in_flight),
        FDCHECK_TEST(test_inflight_split_ring_may_be_smaller_than_its_part),
        FDCHECK_TEST(test_inflight_split_head_beyond_the_ring_is_ignored),
        FDCHECK_TEST(test_inflight_split_nothing_is_tracked_without_a_part),
        FDCHECK_TEST(test_inflight_split_wrong_headers_are_refused),
        FDCHECK_TEST(test_inflight_split_impossible_indices_are_refused),
        FDCHECK_TEST(test_inflight_split_broken_lists_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
