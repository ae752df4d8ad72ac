/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Inflight tracking of a packed ring: layout, recovery after a crash, and invalid parts. */
#include "../fixtures/inflight_part.h"

#include "fdcheck.h"

/* Offsets of the specification. */
#define FEATURES      0
#define VERSION       8
#define DESC_NUM      10
#define FREE_HEAD     12
#define OLD_FREE_HEAD 14
#define USED_IDX      16
#define OLD_USED_IDX  18
#define USED_WRAP     20
#define OLD_USED_WRAP 21
#define ENTRY(i)      (32 + 32 * (i))
#define INFLIGHT      0
#define NEXT          2
#define LAST          4
#define NUM           6
#define COUNTER       8
#define ID            16
#define FLAGS         18
#define LEN           20
#define ADDR          24

#define WRAP  0x8000u
#define AVAIL 0x80u
#define USED  0x8000u

/* A part and its ring. */
struct fixture {
    struct part p;
    struct vring_packed_desc desc[64];
    uint16_t used; /* the device's position; bit 15 is the wrap counter */
};

static void fixture_init(struct fixture *b, uint16_t used)
{
    memset(b, 0, sizeof(*b));
    part_init(&b->p, true);
    b->p.ring.used = b->used = used;
    b->p.ring.desc = b->desc;
}

static uint16_t step(const struct fixture *b, uint16_t at, unsigned n)
{
    for (; n > 0; n--) {
        uint16_t idx = (uint16_t)((at & ~WRAP) + 1);

        at = idx == b->p.ring_size ? (uint16_t)(~at & WRAP) : (uint16_t)(idx | (at & WRAP));
    }
    return at;
}

/* The driver makes `n` slots from `at` on available, in the lap of the wrap counter in `at`. */
static void make_available(struct fixture *b, uint16_t at, unsigned n)
{
    for (; n > 0; n--, at = step(b, at, 1))
        b->desc[at & ~WRAP].flags = at & WRAP ? AVAIL : USED;
}

static void make_used(struct fixture *b, uint16_t at)
{
    b->desc[at & ~WRAP].flags = at & WRAP ? AVAIL | USED : 0;
}

/* Take a chain of `n` descriptors off the ring; its addresses begin at `id` << 12. */
static uint16_t take(struct fixture *b, uint16_t id, unsigned n)
{
    struct gw_desc_packed descs[64];
    struct gw_head head = {.descs = descs, .id = id, .n_slots = (uint16_t)n};

    for (unsigned i = 0; i < n; i++)
        descs[i] = (struct gw_desc_packed){
            .addr = ((uint64_t)id << 12) + i,
            .word = gw_desc_packed_word(100 + i, id,
                                        (uint16_t)(AVAIL | (i + 1 < n ? VRING_DESC_F_NEXT : 0))),
        };
    gw_inflight_take(&b->p.f, &head, 1);
    return head.entry;
}

struct done {
    uint16_t entry;
    unsigned n_slots;
};

/* Complete as the queue does; the device dies after step `until`. */
enum until {
    LINKED,
    CLOSED,
    PUBLISHED,
    CLEARED,
    COMMITTED
};

static void complete(struct fixture *b, const struct done *done, unsigned n, enum until until)
{
    uint16_t first = b->used;

    for (unsigned i = 0; i < n; i++) {
        gw_inflight_link(&b->p.f, done[i].entry);
        if (i > 0)
            make_used(b, b->used);
        b->used = step(b, b->used, done[i].n_slots);
    }
    if (until == LINKED)
        return;
    gw_inflight_close(&b->p.f, b->used);
    if (until == CLOSED)
        return;
    make_used(b, first);
    if (until == PUBLISHED)
        return;
    for (unsigned i = 0; i < n; i++)
        gw_inflight_clear(&b->p.f, done[i].entry);
    if (until == COMMITTED)
        gw_inflight_commit(&b->p.f);
}
#define COMPLETE(b, until, ...)                       \
    complete((b), (const struct done[]){__VA_ARGS__}, \
             sizeof((const struct done[]){__VA_ARGS__}) / sizeof(struct done), (until))

static void expect_place(const struct fixture *b, uint16_t used, unsigned n_slots)
{
    assert_int_equal(b->p.found.used, used);
    assert_int_equal(b->p.found.n_slots, n_slots);
    assert_int_equal(part_get16(&b->p, USED_IDX), used & ~WRAP);
    assert_int_equal(part_get16(&b->p, OLD_USED_IDX), used & ~WRAP);
    assert_int_equal(b->p.bytes[USED_WRAP], !!(used & WRAP));
    assert_int_equal(b->p.bytes[OLD_USED_WRAP], !!(used & WRAP));
}

static void test_inflight_packed_stride_is_as_peers_have_it(void **state)
{
    assert_int_equal(gw_inflight_stride(true, 1), 64);
    assert_int_equal(gw_inflight_stride(true, 128), 4160);
    assert_int_equal(gw_inflight_stride(true, 256), 8256);
    assert_int_equal(gw_inflight_stride(true, 1024), 32832);
    for (unsigned n = 1; n <= 32768; n++)
        assert_int_equal(gw_inflight_stride(true, (uint16_t)n), (32 * n + 29 + 63) / 64 * 64);
}

static void test_inflight_packed_bytes_are_as_specified(void **state)
{
    struct fixture b;

    fixture_init(&b, 5 | WRAP);
    make_available(&b, b.used, 6);
    part_open(&b.p);
    PART_FOUND_NONE(&b.p);
    expect_place(&b, 5 | WRAP, 0);
    assert_int_equal(part_get64(&b.p, FEATURES), 0);
    assert_int_equal(part_get16(&b.p, VERSION), 1);
    assert_int_equal(part_get16(&b.p, DESC_NUM), PART_SIZE);
    for (unsigned i = 0; i < PART_SIZE; i++)
        assert_int_equal(part_get16(&b.p, ENTRY(i) + NEXT), i + 1);

    assert_int_equal(take(&b, 1000, 1), 0);
    assert_int_equal(take(&b, 7, 3), 1);
    assert_int_equal(part_get16(&b.p, FREE_HEAD), 4);
    assert_int_equal(part_get16(&b.p, OLD_FREE_HEAD), 4);
    assert_int_equal(b.p.bytes[ENTRY(1) + INFLIGHT], 1);
    assert_int_equal(b.p.bytes[ENTRY(2) + INFLIGHT], 0);
    assert_int_equal(part_get16(&b.p, ENTRY(1) + NUM), 3);
    assert_int_equal(part_get16(&b.p, ENTRY(1) + LAST), 3);
    assert_int_equal(part_get16(&b.p, ENTRY(1) + NEXT), 2);
    assert_int_equal(part_get64(&b.p, ENTRY(1) + COUNTER), 1);
    assert_int_equal(part_get16(&b.p, ENTRY(3) + ID), 7);
    assert_int_equal(part_get16(&b.p, ENTRY(3) + FLAGS), AVAIL);
    assert_int_equal(part_get16(&b.p, ENTRY(2) + FLAGS), AVAIL | VRING_DESC_F_NEXT);
    assert_int_equal(part_get16(&b.p, ENTRY(3) + LEN), 102);
    assert_int_equal(part_get64(&b.p, ENTRY(3) + ADDR), 7 << 12 | 2);

    /* Both in one batch, across the end of the ring. */
    COMPLETE(&b, PUBLISHED, {1, 3}, {0, 1});
    assert_int_equal(part_get16(&b.p, FREE_HEAD), 0);
    assert_int_equal(part_get16(&b.p, OLD_FREE_HEAD), 4);
    assert_int_equal(part_get16(&b.p, ENTRY(3) + NEXT), 4);
    assert_int_equal(part_get16(&b.p, ENTRY(0) + NEXT), 1);
    assert_int_equal(part_get16(&b.p, USED_IDX), 1);
    assert_int_equal(part_get16(&b.p, OLD_USED_IDX), 5);
    assert_int_equal(b.p.bytes[USED_WRAP], 0);
    assert_int_equal(b.p.bytes[OLD_USED_WRAP], 1);
    gw_inflight_clear(&b.p.f, 1);
    assert_int_equal(b.p.bytes[ENTRY(1) + INFLIGHT], 0);
    gw_inflight_clear(&b.p.f, 0);
    gw_inflight_commit(&b.p.f);
    assert_int_equal(part_get16(&b.p, OLD_FREE_HEAD), 0);
    assert_int_equal(part_get16(&b.p, OLD_USED_IDX), 1);
    assert_int_equal(b.p.bytes[OLD_USED_WRAP], 0);
    part_done(&b.p);
}

static void expect_descs(const struct fixture *b, uint16_t entry, uint16_t id, unsigned n)
{
    struct gw_desc_packed descs[64];

    assert_int_equal(gw_inflight_descs(&b->p.f, entry, descs, 64), n);
    for (unsigned i = 0; i < n; i++) {
        struct vring_desc desc = gw_desc_unpack(descs[i]);

        assert_int_equal(desc.addr, ((uint64_t)id << 12) + i);
        assert_int_equal(desc.len, 100 + i);
        assert_int_equal(desc.next, id);
        assert_int_equal(!!(desc.flags & VRING_DESC_F_NEXT), i + 1 < n);
    }
}

static void test_inflight_packed_chains_are_found_with_their_descriptors(void **state)
{
    struct gw_desc_packed descs[3];
    struct fixture b;

    fixture_init(&b, WRAP);
    make_available(&b, b.used, 8);
    part_open(&b.p);
    take(&b, 9, 3);
    take(&b, 65535, 1);
    take(&b, 3, 2);
    COMPLETE(&b, COMMITTED, {3, 1});
    take(&b, 4, 2);
    part_open(&b.p);
    PART_FOUND(&b.p, 0, 4, 3);
    expect_place(&b, 1 | WRAP, 7);
    assert_int_equal(b.p.found.entries[0].n_slots, 3);
    assert_int_equal(b.p.found.entries[0].id, 9);
    assert_int_equal(b.p.found.entries[2].id, 4);
    expect_descs(&b, 0, 9, 3);
    expect_descs(&b, 4, 3, 2);
    expect_descs(&b, 3, 4, 2); /* two entries that are not adjacent */
    assert_int_equal(gw_inflight_descs(&b.p.f, 0, descs, 2), -EINVAL);
    assert_int_equal(gw_inflight_descs(&b.p.f, 0, descs, 0), -EINVAL);
    /* Flags that contradict the chain length. */
    part_set16(&b.p, ENTRY(1) + FLAGS, 0);
    assert_int_equal(gw_inflight_descs(&b.p.f, 0, descs, 3), -EINVAL);
    part_set16(&b.p, ENTRY(1) + FLAGS, VRING_DESC_F_NEXT);
    part_set16(&b.p, ENTRY(2) + FLAGS, VRING_DESC_F_NEXT);
    assert_int_equal(gw_inflight_descs(&b.p.f, 0, descs, 3), -EINVAL);
    part_done(&b.p);
}

static void test_inflight_packed_untaken_is_not_in_flight(void **state)
{
    struct fixture b;

    fixture_init(&b, WRAP);
    part_open(&b.p);
    take(&b, 1, 2);
    take(&b, 2, 3);
    take(&b, 3, 1);
    gw_inflight_untake(&b.p.f, 5);
    gw_inflight_untake(&b.p.f, 2);
    assert_int_equal(b.p.bytes[ENTRY(2) + INFLIGHT], 0);
    part_open(&b.p);
    PART_FOUND(&b.p, 0);
    assert_int_equal(take(&b, 2, 6), 2); /* all other entries */
    part_open(&b.p);
    PART_FOUND(&b.p, 0, 2);
    expect_descs(&b, 2, 2, 6);
    part_done(&b.p);
}

/* Untake when the free list has changed since the take. */
static void test_inflight_packed_untaken_behind_an_answer_loses_no_entry(void **state)
{
    struct fixture b;

    fixture_init(&b, WRAP);
    make_available(&b, b.used, 8);
    part_open(&b.p);
    for (unsigned i = 0; i < 20; i++) {
        uint16_t first = take(&b, 1, 2), second = take(&b, 2, 3);

        COMPLETE(&b, COMMITTED, {first, 2});
        gw_inflight_untake(&b.p.f, second);
        assert_int_equal(b.p.f.n_taken, 0);
    }
    take(&b, 1, 8); /* all entries */
    part_done(&b.p);
}

static void test_inflight_packed_more_than_is_free_is_refused(void **state)
{
    struct gw_desc_packed descs[8] = {{0}};
    struct gw_head heads[] = {{.descs = descs, .n_slots = 3}, {.descs = descs, .n_slots = 2}};
    uint8_t before[PART_MAX];
    struct fixture b;

    fixture_init(&b, WRAP);
    b.p.ring_size = 6; /* the part has two entries that the ring has no slots for */
    part_open(&b.p);
    take(&b, 1, 2);
    memcpy(before, b.p.bytes, sizeof(before));
    assert_int_equal(gw_inflight_take(&b.p.f, heads, 2), 0);
    assert_non_null(
        strstr(gw_last_error(), "5 descriptors available, but only 4 are not in flight"));
    assert_memory_equal(b.p.bytes, before, sizeof(before));
    assert_int_equal(gw_inflight_take(&b.p.f, heads, 1), 1);
    part_done(&b.p);
}

static void test_inflight_packed_batch_that_was_shown_is_done(void **state)
{
    for (int until = PUBLISHED; until <= COMMITTED; until++)
        for (int driver_goes_on = 0; driver_goes_on <= 1; driver_goes_on++) {
            struct fixture b;

            fixture_init(&b, 6 | WRAP); /* the batch wraps around the ring's end */
            make_available(&b, b.used, 8);
            part_open(&b.p);
            take(&b, 1, 2);
            take(&b, 2, 1);
            take(&b, 3, 3);
            take(&b, 4, 2);
            COMPLETE(&b, (enum until)until, {3, 3}, {2, 1});
            if (driver_goes_on)
                make_available(&b, (uint16_t)(6 & ~WRAP), 4); /* in the next lap */
            part_open(&b.p);
            PART_FOUND(&b.p, 0, 6);
            expect_place(&b, 2, 4);
            expect_descs(&b, 0, 1, 2);
            expect_descs(&b, 6, 4, 2);
            assert_int_equal(take(&b, 5, 4), 2); /* free entries, the last completed first */
            part_open(&b.p);
            PART_FOUND(&b.p, 0, 6, 2);
            part_done(&b.p);
        }
}

static void test_inflight_packed_batch_that_was_not_shown_is_done_again(void **state)
{
    for (int until = LINKED; until <= CLOSED; until++) {
        struct fixture b;

        fixture_init(&b, 6);
        make_available(&b, b.used, 8);
        part_open(&b.p);
        take(&b, 1, 2);
        take(&b, 2, 1);
        take(&b, 3, 2);
        COMPLETE(&b, (enum until)until, {3, 2}, {2, 1}, {0, 2});
        part_open(&b.p);
        PART_FOUND(&b.p, 0, 2, 3);
        expect_place(&b, 6, 5);
        assert_int_equal(part_get16(&b.p, FREE_HEAD), 5);
        part_done(&b.p);
    }
}

/* The entries of a batch stay in flight until it is published: a take must not reuse them. */
static void test_inflight_packed_taken_while_a_batch_is_linked_is_elsewhere(void **state)
{
    struct fixture b;

    fixture_init(&b, WRAP);
    make_available(&b, b.used, 8);
    part_open(&b.p);
    take(&b, 1, 2);
    take(&b, 2, 1);
    gw_inflight_link(&b.p.f, 0);
    assert_int_equal(take(&b, 3, 2), 3);
    gw_inflight_link(&b.p.f, 2);
    part_open(&b.p);
    PART_FOUND(&b.p, 0, 2, 3);
    expect_descs(&b, 0, 1, 2);
    expect_descs(&b, 2, 2, 1);
    expect_descs(&b, 3, 3, 2);
    /* Then link again and complete the batch. */
    gw_inflight_link(&b.p.f, 0);
    assert_int_equal(take(&b, 4, 1), 5);
    COMPLETE(&b, PUBLISHED, {2, 1});
    part_open(&b.p);
    PART_FOUND(&b.p, 3, 5);
    part_done(&b.p);
}

/* Unpublished answers of a batch are undone: the driver must not find them after a later answer. */
static void test_inflight_packed_half_written_answers_are_taken_back(void **state)
{
    struct fixture b;

    fixture_init(&b, 6 | WRAP);
    make_available(&b, b.used, 5);
    part_open(&b.p);
    for (uint16_t id = 0; id < 5; id++)
        take(&b, id, 1);
    COMPLETE(&b, CLOSED, {0, 1}, {1, 1}, {2, 1});
    assert_int_equal(b.desc[7].flags, AVAIL | USED);
    assert_int_equal(b.desc[0].flags, 0);
    b.desc[3].flags = 0x5a; /* not taken, so recovery must not write it */
    part_open(&b.p);
    PART_FOUND(&b.p, 0, 1, 2, 3, 4);
    assert_int_equal(b.desc[6].flags, AVAIL);
    assert_int_equal(b.desc[7].flags, AVAIL);
    assert_int_equal(b.desc[0].flags, USED);
    assert_int_equal(b.desc[1].flags, USED);
    assert_int_equal(b.desc[2].flags, USED);
    assert_int_equal(b.desc[3].flags, 0x5a);
    part_done(&b.p);
}

/* The positions before and after a batch of the whole ring have the same index. */
static void test_inflight_packed_batch_may_be_the_whole_ring(void **state)
{
    for (int until = LINKED; until <= COMMITTED; until++) {
        struct fixture b;

        fixture_init(&b, 3 | WRAP);
        make_available(&b, b.used, 8);
        part_open(&b.p);
        take(&b, 1, 5);
        take(&b, 2, 3);
        assert_int_equal(part_get16(&b.p, FREE_HEAD), PART_SIZE);
        COMPLETE(&b, (enum until)until, {5, 3}, {0, 5});
        part_open(&b.p);
        if (until <= CLOSED)
            PART_FOUND(&b.p, 0, 5);
        else
            PART_FOUND_NONE(&b.p);
        expect_place(&b, until <= CLOSED ? 3 | WRAP : 3, until <= CLOSED ? 8 : 0);
        part_done(&b.p);
    }
}

/* Ring sizes need not be powers of two, and the entries end up in any order. */
static void test_inflight_packed_odd_ring_goes_round_many_times(void **state)
{
    struct fixture b;

    fixture_init(&b, WRAP);
    b.p.ring_size = 7;
    b.p.size = 11;
    part_open(&b.p);
    for (unsigned i = 0; i < 1000; i++) {
        uint16_t one, other;
        unsigned n = 1 + i % 3;

        make_available(&b, b.used, n + 2);
        one = take(&b, (uint16_t)i, n);
        other = take(&b, (uint16_t)(i + 1), 2);
        if (i % 2)
            COMPLETE(&b, COMMITTED, {other, 2}, {one, n});
        else
            COMPLETE(&b, PUBLISHED, {one, n}, {other, 2});
        if (i % 2 == 0 || i % 5 == 0) {
            part_open(&b.p);
            PART_FOUND_NONE(&b.p);
            expect_place(&b, b.used, 0);
        }
    }
    part_done(&b.p);
}

static void test_inflight_packed_zeroes_say_nothing(void **state)
{
    struct fixture b;

    fixture_init(&b, 4);
    memset(b.p.bytes, 0, sizeof(b.p.bytes));
    part_open(&b.p);
    PART_FOUND_NONE(&b.p);
    expect_place(&b, 4, 0);
    take(&b, 1, 1);
    take(&b, 2, 2);
    part_open(&b.p);
    PART_FOUND(&b.p, 0, 1);
    part_done(&b.p);
}

/* The initial state that the creator of a region must write for the first back-end. */
static void test_inflight_packed_format_is_what_a_creator_owes(void **state)
{
    struct fixture b;
    uint64_t stride = gw_inflight_stride(true, PART_SIZE);

    fixture_init(&b, 0);
    memset(b.p.bytes, 0x5a, sizeof(b.p.bytes));
    gw_inflight_format(b.p.bytes, true, 2, PART_SIZE);
    for (unsigned part = 0; part < 2; part++) {
        const uint8_t *bytes = b.p.bytes + part * stride;

        assert_int_equal(bytes[VERSION] | bytes[VERSION + 1], 0);
        assert_int_equal(bytes[USED_WRAP], 1);
        assert_int_equal(bytes[OLD_USED_WRAP], 1);
        for (unsigned i = 0; i < PART_SIZE; i++)
            assert_int_equal(bytes[ENTRY(i) + NEXT], i + 1);
    }
    assert_int_equal(b.p.bytes[2 * stride], 0x5a);
}

static void test_inflight_packed_finished_part_begins_anew(void **state)
{
    struct fixture b;

    fixture_init(&b, 5 | WRAP);
    part_open(&b.p);
    take(&b, 1, 1);
    COMPLETE(&b, COMMITTED, {0, 1});
    gw_inflight_finish(&b.p.f);
    b.p.ring.used = WRAP;
    part_open(&b.p);
    expect_place(&b, WRAP, 0);
    part_done(&b.p);
}

/* ---- invalid parts ---- */

/* Entries 0-1, 2 and 3-5 are in flight, 6 and 7 are free. */
static void begin_bad(struct fixture *b)
{
    fixture_init(b, 2 | WRAP);
    make_available(b, b->used, 6);
    part_open(&b->p);
    take(b, 1, 2);
    take(b, 2, 1);
    take(b, 3, 3);
}

/* The part must be refused with `v` at `offset`, and accepted with the original value. */
static void refused16(struct fixture *b, unsigned offset, uint16_t v, const char *why)
{
    uint16_t right = part_get16(&b->p, offset);

    part_set16(&b->p, offset, v);
    part_refused(&b->p, why);
    part_set16(&b->p, offset, right);
    part_open(&b->p);
    PART_FOUND(&b->p, 0, 2, 3);
}

static void test_inflight_packed_wrong_headers_are_refused(void **state)
{
    struct fixture b;

    begin_bad(&b);
    refused16(&b, VERSION, 7, "version 7");
    refused16(&b, FEATURES, 1, "features");
    refused16(&b, FEATURES + 6, 1, "features");
    refused16(&b, DESC_NUM, 9, "is for 9 descriptors, not 8");
    b.p.ring_size = 9;
    part_refused(&b.p, "ring of 9 descriptors");
    part_done(&b.p);
}

static void test_inflight_packed_impossible_places_are_refused(void **state)
{
    struct fixture b;

    begin_bad(&b);
    refused16(&b, USED_IDX, PART_SIZE, "beyond the ring");
    refused16(&b, OLD_USED_IDX, 0xffff, "beyond the ring");
    refused16(&b, USED_WRAP, 0x0102, "wrap counter of 2");
    refused16(&b, USED_WRAP, 0xff01, "wrap counter of 1 or 255");
    /* A part may be larger than the ring, but the ring position must be below the ring size. */
    b.p.ring_size = 6;
    part_set16(&b.p, OLD_USED_IDX, 6);
    part_refused(&b.p, "beyond the ring");
    part_done(&b.p);
}

static void test_inflight_packed_broken_free_lists_are_refused(void **state)
{
    struct fixture b;

    begin_bad(&b);
    refused16(&b, ENTRY(7) + NEXT, 6, "twice");
    refused16(&b, ENTRY(6) + NEXT, 6, "twice");
    refused16(&b, ENTRY(7) + NEXT, 4, "two lists"); /* into the chain at 3 */
    refused16(&b, ENTRY(6) + NEXT, 8, "entry 7 of the inflight region is neither");
    refused16(&b, OLD_FREE_HEAD, 7, "entry 6 of the inflight region is neither");
    refused16(&b, OLD_FREE_HEAD, 0xffff, "entry 6 of the inflight region is neither");
    part_done(&b.p);
}

static void test_inflight_packed_broken_chains_are_refused(void **state)
{
    struct fixture b;

    begin_bad(&b);
    refused16(&b, ENTRY(0) + NUM, 0, "0 descriptors at entry 0");
    refused16(&b, ENTRY(0) + NUM, 1, "does not end at its last entry");
    refused16(&b, ENTRY(0) + NUM, 3, "does not end at its last entry");
    refused16(&b, ENTRY(0) + NUM, 0xffff, "two lists");
    refused16(&b, ENTRY(0) + LAST, 0, "does not end");
    refused16(&b, ENTRY(0) + LAST, 8, "does not end");
    refused16(&b, ENTRY(0) + NEXT, 8, "entry 8 of the inflight region is beyond");
    refused16(&b, ENTRY(0) + NEXT, 0, "twice");
    refused16(&b, ENTRY(0) + NEXT, 2, "does not end");
    refused16(&b, ENTRY(3) + NEXT, 6, "two lists");
    refused16(&b, ENTRY(2) + INFLIGHT, 2 << 8, "entry 2 of the inflight region is neither");
    refused16(&b, ENTRY(4) + INFLIGHT, 1, "two lists");
    refused16(&b, ENTRY(0) + INFLIGHT, 0, "entry 0 of the inflight region is neither");
    part_done(&b.p);
}

static void test_inflight_packed_more_than_the_ring_is_refused(void **state)
{
    struct fixture b;

    begin_bad(&b);
    b.p.ring_size = 6;
    part_open(&b.p);
    PART_FOUND(&b.p, 0, 2, 3);
    b.p.ring_size = 5;
    part_refused(&b.p, "3 descriptors at entry 3 of the inflight region has an invalid length");
    part_done(&b.p);
}

/* A crash in the middle of a take leaves a flag set in a free entry, which is not a request. */
static void test_inflight_packed_flags_of_free_entries_do_not_count(void **state)
{
    struct fixture b;

    begin_bad(&b);
    b.p.bytes[ENTRY(6) + INFLIGHT] = 1;
    part_set16(&b.p, ENTRY(6) + NUM, 0xffff);
    part_set16(&b.p, FREE_HEAD, 7); /* other back-ends store it for each descriptor */
    part_open(&b.p);
    PART_FOUND(&b.p, 0, 2, 3);
    assert_int_equal(b.p.bytes[ENTRY(6) + INFLIGHT], 0);
    assert_int_equal(part_get16(&b.p, FREE_HEAD), 6);
    part_done(&b.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_inflight_packed_stride_is_as_peers_have_it),
        FDCHECK_TEST(test_inflight_packed_bytes_are_as_specified),
        FDCHECK_TEST(test_inflight_packed_chains_are_found_with_their_descriptors),
        FDCHECK_TEST(test_inflight_packed_untaken_is_not_in_flight),
        FDCHECK_TEST(test_inflight_packed_untaken_behind_an_answer_loses_no_entry),
        FDCHECK_TEST(test_inflight_packed_more_than_is_free_is_refused),
        FDCHECK_TEST(test_inflight_packed_batch_that_was_shown_is_done),
        FDCHECK_TEST(test_inflight_packed_batch_that_was_not_shown_is_done_again),
        FDCHECK_TEST(test_inflight_packed_taken_while_a_batch_is_linked_is_elsewhere),
        FDCHECK_TEST(test_inflight_packed_half_written_answers_are_taken_back),
        FDCHECK_TEST(test_inflight_packed_batch_may_be_the_whole_ring),
        FDCHECK_TEST(test_inflight_packed_odd_ring_goes_round_many_times),
        FDCHECK_TEST(test_inflight_packed_zeroes_say_nothing),
        FDCHECK_TEST(test_inflight_packed_format_is_what_a_creator_owes),
        FDCHECK_TEST(test_inflight_packed_finished_part_begins_anew),
        FDCHECK_TEST(test_inflight_packed_wrong_headers_are_refused),
        FDCHECK_TEST(test_inflight_packed_impossible_places_are_refused),
        FDCHECK_TEST(test_inflight_packed_broken_free_lists_are_refused),
        FDCHECK_TEST(test_inflight_packed_broken_chains_are_refused),
        FDCHECK_TEST(test_inflight_packed_more_than_the_ring_is_refused),
        FDCHECK_TEST(test_inflight_packed_flags_of_free_entries_do_not_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
