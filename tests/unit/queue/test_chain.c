/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Valid and invalid descriptor chains, walked in real guest memory: regions A and B are adjacent, C
 * follows a hole. The ring's descriptor table is at the start of A.
 */
#include "fdcheck.h"

#include "core/queue/queue.h"
#include "core/ring/desc.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE   UINT64_C(4096)
#define A_LEN  (64 * PAGE)
#define B      A_LEN
#define B_LEN  (16 * PAGE)
#define B_END  (B + B_LEN)
#define C      (UINT64_C(1) << 40)
#define C_LEN  (UINT64_C(5) << 30)
#define SIZE   2048
#define TABLE  (B + PAGE) /* indirect descriptor table */
#define NEXT   VRING_DESC_F_NEXT
#define WRITE  VRING_DESC_F_WRITE
#define TABLES VRING_DESC_F_INDIRECT

static struct gw_queue queue;
static struct gw_request_i request;

static struct gw_region *region(gw_gpa_t gpa, uint64_t len)
{
    struct gw_region_desc desc = {.gpa = gpa, .size = len, .uva = gpa};
    int fd = memfd_create("guest", MFD_CLOEXEC);
    struct gw_region *r;

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)len), 0);
    assert_int_equal(gw_region_new(&r, &desc, fd), 0);
    return r;
}

static void *at(gw_gpa_t gpa)
{
    const struct gw_map_entry *entry = gw_map_search(queue.map, gpa);

    assert_non_null(entry);
    return entry->region->hva + (gpa - entry->gpa);
}

static int setup(void **state)
{
    struct gw_region *regions[3];
    struct gw_map *map;

    if (fdcheck_setup(state) < 0)
        return -1;
    regions[0] = region(0, A_LEN);
    regions[1] = region(B, B_LEN);
    regions[2] = region(C, C_LEN);
    assert_int_equal(gw_map_new(&map, regions, 3), 0);
    for (unsigned i = 0; i < 3; i++)
        gw_region_put(regions[i]);
    memset(&queue, 0, sizeof(queue));
    memset(&request, 0, sizeof(request));
    queue.map = map;
    queue.limits.request_bytes = UINT32_MAX;
    queue.ring.ops = &gw_ring_split_ops;
    queue.ring.split.desc = at(0);
    queue.ring.size = SIZE;
    queue.ring.indirect = true;
    return 0;
}

static int teardown(void **state)
{
    gw_map_free((struct gw_map *)(uintptr_t)queue.map);
    gw_request_pool_free(&queue);
    return fdcheck_teardown(state);
}

static void write_desc(gw_gpa_t table, unsigned i, uint64_t addr, uint64_t len, unsigned flags,
                       unsigned next)
{
    struct vring_desc desc = {
        .addr = addr, .len = (uint32_t)len, .flags = (uint16_t)flags, .next = (uint16_t)next};
    const uint8_t *bytes = (const uint8_t *)&desc;

    for (unsigned k = 0; k < sizeof(desc); k++) /* the table may cross regions */
        *(uint8_t *)at(table + i * sizeof(desc) + k) = bytes[k];
}

/* `n` buffers of 16 bytes in a row, the first `n_readable` readable. */
static void write_chain(gw_gpa_t table, unsigned n_readable, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        write_desc(table, i, C + UINT64_C(16) * i, 16,
                   (i < n_readable ? 0 : WRITE) | (i + 1 < n ? NEXT : 0u), i + 1);
}

static const char *walk_from(unsigned head)
{
    struct gw_head at = {.first = gw_desc_load(&queue.ring.split.desc[head]), .n_slots = 1};

    return gw_chain_walk(&queue, &request, &at);
}

static void expect_good(unsigned n_readable, unsigned n_writable, uint64_t readable_len,
                        uint64_t writable_len)
{
    const char *why = walk_from(0);
    uint64_t sum = 0;

    if (why)
        fail_msg("%s", why);
    assert_int_equal(request.pub.n_readable, n_readable);
    assert_int_equal(request.pub.n_writable, n_writable);
    assert_int_equal(request.pub.readable_len, readable_len);
    assert_int_equal(request.pub.writable_len, writable_len);
    for (unsigned i = 0; i < n_readable; i++)
        sum += request.pub.readable[i].iov_len;
    assert_int_equal(sum, readable_len);
    sum = 0;
    for (unsigned i = 0; i < n_writable; i++)
        sum += request.pub.writable[i].iov_len;
    assert_int_equal(sum, writable_len);
}

/* Try twice with the same request: a refused chain must leave nothing behind in it. */
static void expect_bad(const char *reason)
{
    for (unsigned i = 0; i < 2; i++) {
        const char *why = walk_from(0);

        assert_non_null(why);
        if (!strstr(why, reason))
            fail_msg("refused because of \"%s\" instead of \"%s\"", why, reason);
        assert_null(request.segments);
    }
}

static void release(void)
{
    gw_chain_release(&queue, &request);
}

static void test_chain_direct_is_split_into_out_and_in(void **state)
{
    for (unsigned n_readable = 0; n_readable <= 5; n_readable++) {
        write_chain(0, n_readable, 5);
        expect_good(n_readable, 5 - n_readable, n_readable * UINT64_C(16),
                    (5 - n_readable) * UINT64_C(16));
        for (unsigned i = 0; i < 5; i++) {
            const struct iovec *iov =
                i < n_readable ? &request.pub.readable[i] : &request.pub.writable[i - n_readable];
            assert_ptr_equal(iov->iov_base, at(C + UINT64_C(16) * i));
        }
        release();
    }
}

static void test_chain_in_any_order_of_the_table_is_followed(void **state)
{
    write_desc(0, 0, C, 1, NEXT, SIZE - 1);
    write_desc(0, SIZE - 1, C, 2, NEXT | WRITE, 1);
    write_desc(0, 1, C, 4, WRITE, 77); /* without NEXT, next is ignored */
    expect_good(1, 2, 1, 6);
    release();
}

static void test_chain_indirect_is_as_good_as_direct(void **state)
{
    write_chain(TABLE, 2, 7);
    write_desc(0, 0, TABLE, 7 * 16, TABLES, 0);
    expect_good(2, 5, 32, 80);
    release();
    write_desc(0, 0, TABLE, 7 * 16, TABLES | WRITE, 0); /* WRITE is ignored with INDIRECT */
    expect_good(2, 5, 32, 80);
    release();
    /* Direct buffers first, then an indirect table. */
    write_desc(0, 0, C, 3, NEXT, 1);
    write_desc(0, 1, TABLE, 7 * 16, TABLES, 0);
    expect_good(3, 5, 35, 80);
    release();
    /* A table may be longer than its chain. */
    write_desc(0, 0, TABLE, 1024 * 16, TABLES, 0);
    expect_good(2, 5, 32, 80);
    release();
}

static void test_chain_table_anywhere_is_read(void **state)
{
    static const gw_gpa_t tables[] = {TABLE + 1, TABLE + 4, TABLE + 8, TABLE + 15,
                                      /* across the border of A and B, also within a descriptor */
                                      B - 16, B - 40, B - 7};

    for (unsigned i = 0; i < GW_ARRAY_SIZE(tables); i++) {
        write_chain(tables[i], 2, 5);
        write_desc(0, 0, tables[i], 5 * 16, TABLES, 0);
        expect_good(2, 3, 32, 48);
        release();
    }
}

static void test_chain_bad_table_is_refused(void **state)
{
    write_chain(TABLE, 1, 4);
    write_desc(0, 0, TABLE, 0, TABLES, 0);
    expect_bad("wrong length");
    write_desc(0, 0, TABLE, 15, TABLES, 0);
    expect_bad("wrong length");
    write_desc(0, 0, TABLE, 65, TABLES, 0);
    expect_bad("wrong length");
    write_desc(0, 0, TABLE, 1025 * 16, TABLES, 0);
    expect_bad("longer than 1024");
    write_desc(0, 0, TABLE, UINT32_MAX & ~15u, TABLES, 0);
    expect_bad("longer than 1024");
    write_desc(0, 0, B_END - 63, 64, TABLES, 0);
    expect_bad("outside guest memory");
    write_desc(0, 0, UINT64_MAX - 15, 64, TABLES, 0);
    expect_bad("outside guest memory");
    write_desc(0, 0, TABLE, 64, TABLES | NEXT, 1);
    write_desc(0, 1, C, 16, 0, 0);
    expect_bad("not the last");
    write_desc(0, 0, TABLE, 64, TABLES, 0);
    queue.ring.indirect = false;
    expect_bad("not negotiated");
}

static void test_chain_table_in_a_table_is_refused(void **state)
{
    write_desc(0, 0, TABLE, 16, TABLES, 0);
    write_desc(TABLE, 0, TABLE + 64, 16, TABLES, 0);
    write_desc(TABLE + 64, 0, C, 16, 0, 0);
    expect_bad("inside an indirect table");
    write_desc(TABLE, 0, TABLE, 16, TABLES, 0); /* the table contains itself */
    expect_bad("inside an indirect table");
    /* Also with an unaligned table, which is copied. */
    write_desc(0, 0, TABLE + 1, 16, TABLES, 0);
    write_desc(TABLE + 1, 0, TABLE + 64, 16, TABLES, 0);
    expect_bad("inside an indirect table");
}

static void test_chain_loop_ends(void **state)
{
    /* The ring is longer than the limit for a chain. */
    write_desc(0, 0, C, 16, NEXT, 0);
    expect_bad("longer than 1024");
    write_desc(0, 0, C, 16, NEXT, 1);
    write_desc(0, 1, C, 16, NEXT, 0);
    expect_bad("longer than 1024");
    for (unsigned i = 0; i < SIZE; i++)
        write_desc(0, i, C, 1, NEXT, (i + 1) % SIZE);
    expect_bad("longer than 1024");
    queue.ring.size = 256;
    write_desc(0, 255, C, 1, NEXT, 0);
    expect_bad("loops");
    write_desc(0, 0, TABLE, 3 * 16, TABLES, 0);
    write_desc(TABLE, 0, C, 1, NEXT, 1);
    write_desc(TABLE, 1, C, 1, NEXT, 2);
    write_desc(TABLE, 2, C, 1, NEXT, 1);
    expect_bad("loops");
    queue.ring.size = 1;
    write_desc(0, 0, C, 1, NEXT, 0);
    expect_bad("loops");
}

static void test_chain_as_long_as_its_table_is_no_loop(void **state)
{
    queue.ring.size = 256;
    write_chain(0, 256, 256);
    expect_good(256, 0, 4096, 0);
    release();
    queue.ring.size = 1;
    write_desc(0, 0, C, 16, 0, 0);
    expect_good(1, 0, 16, 0);
    release();
    write_chain(TABLE, 0, 1024);
    write_desc(0, 0, TABLE, 1024 * 16, TABLES, 0);
    expect_good(0, 1024, 0, 16384);
    release();
}

static void test_chain_next_beyond_the_table_is_refused(void **state)
{
    write_desc(0, 0, C, 16, NEXT, SIZE);
    expect_bad("beyond the table");
    write_desc(0, 0, C, 16, NEXT, 65535);
    expect_bad("beyond the table");
    write_desc(0, 0, TABLE, 2 * 16, TABLES, 0);
    write_desc(TABLE, 0, C, 16, NEXT, 2); /* valid in the ring, but not in this table */
    expect_bad("beyond the table");
}

static void test_chain_bad_buffer_is_refused(void **state)
{
    write_desc(0, 0, C, 0, 0, 0);
    expect_bad("empty buffer");
    write_desc(0, 0, C, 16, WRITE | NEXT, 1);
    write_desc(0, 1, C, 16, 0, 0);
    expect_bad("readable buffer after a writable one");
    write_desc(0, 0, B_END - 1, 2, 0, 0);
    expect_bad("outside guest memory");
    write_desc(0, 0, B_END, 1, 0, 0);
    expect_bad("outside guest memory");
    write_desc(0, 0, UINT64_MAX, 2, 0, 0);
    expect_bad("outside guest memory");
    write_desc(0, 0, C, 16, NEXT, 1); /* the first is good */
    write_desc(0, 1, C - 1, 2, WRITE, 0);
    expect_bad("outside guest memory");
}

static void test_chain_buffer_over_regions_becomes_two(void **state)
{
    write_desc(0, 0, B - 10, 30, NEXT, 1);
    write_desc(0, 1, C, 5, NEXT, 2);
    write_desc(0, 2, B - 1, 2, NEXT | WRITE, 3);
    write_desc(0, 3, C, 7, WRITE, 0);
    expect_good(3, 3, 35, 9);
    assert_ptr_equal(request.pub.readable[0].iov_base, at(B - 10));
    assert_int_equal(request.pub.readable[0].iov_len, 10);
    assert_ptr_equal(request.pub.readable[1].iov_base, at(B));
    assert_int_equal(request.pub.readable[1].iov_len, 20);
    assert_ptr_equal(request.pub.writable[0].iov_base, at(B - 1));
    assert_ptr_equal(request.pub.writable[1].iov_base, at(B));
    assert_ptr_equal(request.pub.writable[2].iov_base, at(C));
    release();
    write_desc(0, 0, B - 10, 30, WRITE, 0); /* nothing readable */
    expect_good(0, 2, 0, 30);
    release();
    write_desc(0, 0, B - 10, 30, 0, 0); /* nothing writable */
    expect_good(2, 0, 30, 0);
    release();
}

/* A request has room for sixteen segments; a longer one borrows a block and returns it. */
static void test_chain_long_one_borrows_a_block_and_returns_it(void **state)
{
    struct gw_segments *block;

    write_chain(0, 3, 16);
    expect_good(3, 13, 48, 208);
    assert_null(request.segments);
    release();
    assert_null(queue.pool.free_segments);

    write_chain(0, 3, 17);
    expect_good(3, 14, 48, 224);
    block = request.segments;
    assert_non_null(block);
    for (unsigned i = 0; i < 17; i++)
        assert_ptr_equal(block->iov[i].iov_base, at(C + UINT64_C(16) * i));
    release();
    assert_ptr_equal(queue.pool.free_segments, block);

    /* Sixteen buffers in seventeen pieces. */
    write_chain(0, 16, 16);
    write_desc(0, 15, B - 8, 16, 0, 0);
    expect_good(17, 0, 256, 0);
    assert_ptr_equal(request.segments, block);
    assert_ptr_equal(request.pub.readable[0].iov_base, at(C));
    assert_ptr_equal(request.pub.readable[16].iov_base, at(B));
    release();

    /* A refused chain returns its block, too. */
    write_chain(0, 3, 17);
    write_desc(0, 16, C - 1, 1, WRITE, 0);
    expect_bad("outside guest memory");
    assert_ptr_equal(queue.pool.free_segments, block);
    assert_null(block->next);
}

static void test_chain_of_1024_is_the_longest(void **state)
{
    write_chain(0, 1, 1024);
    expect_good(1, 1023, 16, 16368);
    release();
    write_chain(0, 1, 1025);
    expect_bad("longer than 1024");
    /* 1024 buffers, one of them in two pieces. */
    write_chain(0, 1, 1024);
    write_desc(0, 0, B - 8, 16, NEXT, 1);
    expect_bad("too many pieces");
    /* Descriptors in the table and those before it both count. */
    write_chain(TABLE, 0, 1024);
    write_desc(0, 0, C, 16, NEXT, 1);
    write_desc(0, 1, TABLE, 1024 * 16, TABLES, 0);
    expect_bad("longer than 1024");
}

static void test_chain_of_4_gib_is_too_long(void **state)
{
    write_desc(0, 0, C, UINT32_MAX, 0, 0);
    expect_good(1, 0, UINT32_MAX, 0);
    release();
    write_desc(0, 0, C, UINT32_MAX, NEXT, 1);
    write_desc(0, 1, C, 1, WRITE, 0);
    expect_bad("more bytes than a request may have");
    write_desc(0, 0, C, UINT32_MAX - 1, NEXT, 1);
    expect_good(1, 1, UINT32_MAX - 1, 1);
    release();
    /* The sum of 1024 such buffers does not overflow. */
    for (unsigned i = 0; i < 1024; i++)
        write_desc(0, i, C, UINT32_MAX, i < 1023 ? NEXT : 0, i + 1);
    expect_bad("more bytes than a request may have");
}

/* An error in the last descriptor is detected regardless of the descriptors before it. */
static void test_chain_random_ones_never_leave_guest_memory(void **state)
{
    static const uint64_t addrs[] = {0, B - 8, B, B_END - 8, B_END, C, C + C_LEN - 8, UINT64_MAX};

    srand(1);
    for (unsigned round = 0; round < 200000; round++) {
        unsigned n = 1 + (unsigned)rand() % 20;

        for (unsigned i = 0; i < n; i++)
            write_desc(rand() % 2 ? 0 : TABLE, i, addrs[rand() % 8], (unsigned)rand() % 3 * 8,
                       (unsigned)rand() & 7 & (rand() % 4 ? 3u : 7u), (unsigned)rand() % (n + 1));
        write_desc(0, 0, TABLE, n * 16, rand() % 3 ? TABLES : 0, 0);
        if (walk_from((unsigned)rand() % n))
            continue;
        for (unsigned i = 0; i < request.pub.n_writable; i++)
            memset(request.pub.writable[i].iov_base, 0, request.pub.writable[i].iov_len);
        release();
    }
}

#define CHAIN_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHAIN_TEST(test_chain_direct_is_split_into_out_and_in),
        CHAIN_TEST(test_chain_in_any_order_of_the_table_is_followed),
        CHAIN_TEST(test_chain_indirect_is_as_good_as_direct),
        CHAIN_TEST(test_chain_table_anywhere_is_read),
        CHAIN_TEST(test_chain_bad_table_is_refused),
        CHAIN_TEST(test_chain_table_in_a_table_is_refused),
        CHAIN_TEST(test_chain_loop_ends),
        CHAIN_TEST(test_chain_as_long_as_its_table_is_no_loop),
        CHAIN_TEST(test_chain_next_beyond_the_table_is_refused),
        CHAIN_TEST(test_chain_bad_buffer_is_refused),
        CHAIN_TEST(test_chain_buffer_over_regions_becomes_two),
        CHAIN_TEST(test_chain_long_one_borrows_a_block_and_returns_it),
        CHAIN_TEST(test_chain_of_1024_is_the_longest),
        CHAIN_TEST(test_chain_of_4_gib_is_too_long),
        CHAIN_TEST(test_chain_random_ones_never_leave_guest_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
