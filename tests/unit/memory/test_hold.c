/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Access to guest memory by guest address, and what a hold on it keeps from ending. The memory has
 * two adjacent regions, A and B, and a third one, C, behind a hole.
 */
#include "../fixtures/fixture.h"
#include "fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE  UINT64_C(4096)
#define A_LEN (UINT64_C(4) << 20)
#define B     (FIXTURE_GPA + A_LEN)
#define B_LEN (3 * PAGE)
#define B_END (B + B_LEN)
#define C     (B_END + PAGE)
#define C_LEN (2 * PAGE)

struct test {
    struct fixture fixture;
    struct gw_memory memory;
};

static void add_region(struct test *t, gw_gpa_t gpa, uint64_t len)
{
    const struct gw_guest_region region = {.gpa = gpa, .length = len, .no_alloc = true};

    assert_int_equal(gw_guest_mem_add(t->fixture.mem, &region), 0);
}

static void use_map(struct test *t)
{
    gw_map_free(t->fixture.map);
    t->fixture.map = fixture_map(&t->fixture);
}

/* A queue that any thread may use, with the memory described above, and a hold. */
static void begin(struct test *t)
{
    const struct fixture_config cfg = {.sync = GW_SYNC_MUTEX, .mem_len = A_LEN};

    fixture_begin(&t->fixture, &cfg);
    add_region(t, B, B_LEN);
    add_region(t, C, C_LEN);
    use_map(t);
    fixture_run(&t->fixture);
    assert_int_equal(gw_memory_hold(&t->memory, &t->fixture.queue), 0);
}

static void end(struct test *t)
{
    gw_memory_release(&t->memory);
    fixture_stop(&t->fixture);
    fixture_end(&t->fixture);
}

/* The front-end's view, which must be of one region. */
static uint8_t *at(struct test *t, gw_gpa_t gpa, uint64_t len)
{
    uint8_t *p = gw_guest_mem_at(t->fixture.mem, gpa, len);

    assert_non_null(p);
    return p;
}

static void fill(uint8_t *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(i * 7 + i / 251 + seed);
}

/* ---- copies ---- */

static void test_hold_copies_across_regions(void **state)
{
    static uint8_t data[B_LEN + 200], back[B_LEN + 200];
    struct test t;

    begin(&t);
    fill(data, sizeof(data), 1);
    assert_int_equal(gw_memory_write(&t.memory, B - 200, data, sizeof(data)), 0);
    assert_memory_equal(at(&t, B - 200, 200), data, 200);
    assert_memory_equal(at(&t, B, B_LEN), data + 200, B_LEN);
    assert_int_equal(gw_memory_read(&t.memory, B - 200, back, sizeof(back)), 0);
    assert_memory_equal(back, data, sizeof(data));
    end(&t);
}

static void test_hold_copies_objects(void **state)
{
    struct object {
        uint16_t a;
        uint32_t b;
        uint8_t c[3];
    } object, back;
    struct test t;

    memset(&object, 0x5a, sizeof(object)); /* padding, too */
    begin(&t);
    assert_int_equal(gw_memory_write_object(&t.memory, B - 5, &object), 0);
    assert_int_equal(gw_memory_read_object(&t.memory, B - 5, &back), 0);
    assert_memory_equal(&back, &object, sizeof(object));
    end(&t);
}

/* Ranges with a hole at the beginning, in the middle or at the end, and those that wrap around. */
static const struct range {
    gw_gpa_t gpa;
    uint64_t len;
} bad_ranges[] = {
    {0, 1},
    {FIXTURE_GPA - 1, 2},
    {FIXTURE_GPA - 1, 1},
    {B_END - 1, 2},
    {B_END, 1},
    {B_END - 8, PAGE + 16},
    {C - 1, 2},
    {C + C_LEN - 1, 2},
    {C + C_LEN, 1},
    {FIXTURE_GPA, UINT64_MAX},
    {B, UINT64_MAX - B + 1},
    {B, UINT64_MAX - B + 2},
    {C, UINT64_MAX / 2},
    {UINT64_MAX, 1},
    {UINT64_MAX, 2},
    {UINT64_MAX - 7, 16},
    {UINT64_C(1) << 63, 8},
};

static void expect_no_memory(int64_t r)
{
    assert_int_equal(r, -EFAULT);
    assert_non_null(strstr(gw_last_error(), "no memory region contains"));
}

/* Nothing is copied, and neither the file nor the buffer is touched. */
static void test_hold_refuses_ranges_outside_of_memory(void **state)
{
    static uint8_t buf[2 * PAGE], before[2 * PAGE];
    struct iovec iov[8];
    struct test t;
    int fd = memfd_create("file", MFD_CLOEXEC);

    begin(&t);
    fill(before, sizeof(before), 3);
    memcpy(buf, before, sizeof(buf));
    memset(at(&t, B_END - 8, 8), 0x5a, 8);
    memset(at(&t, C, C_LEN), 0x5a, C_LEN);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(bad_ranges); i++) {
        const struct range *r = &bad_ranges[i];

        /* The buffer is never reached, so it may be shorter. */
        expect_no_memory(gw_memory_read(&t.memory, r->gpa, buf, r->len));
        expect_no_memory(gw_memory_write(&t.memory, r->gpa, buf, r->len));
        expect_no_memory(gw_memory_iovecs(&t.memory, r->gpa, r->len, iov, 8));
        expect_no_memory(gw_memory_mark_dirty(&t.memory, r->gpa, r->len));
        expect_no_memory(gw_memory_from_file(&t.memory, r->gpa, r->len, fd, 0));
        expect_no_memory(gw_memory_to_file(&t.memory, r->gpa, r->len, fd, 0));
    }
    assert_memory_equal(buf, before, sizeof(buf));
    assert_int_equal(lseek(fd, 0, SEEK_END), 0);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(at(&t, B_END - 8, 8)[i], 0x5a);
    for (unsigned i = 0; i < C_LEN; i++)
        assert_int_equal(at(&t, C, C_LEN)[i], 0x5a);
    close(fd);
    end(&t);
}

static void test_hold_ignores_empty_ranges(void **state)
{
    struct iovec iov[1];
    struct test t;
    uint8_t byte;

    begin(&t);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(bad_ranges); i++) {
        assert_int_equal(gw_memory_read(&t.memory, bad_ranges[i].gpa, &byte, 0), 0);
        assert_int_equal(gw_memory_write(&t.memory, bad_ranges[i].gpa, &byte, 0), 0);
        assert_int_equal(gw_memory_iovecs(&t.memory, bad_ranges[i].gpa, 0, iov, 1), 0);
        assert_int_equal(gw_memory_mark_dirty(&t.memory, bad_ranges[i].gpa, 0), 0);
        assert_int_equal(gw_memory_to_file(&t.memory, bad_ranges[i].gpa, 0, -1, 0), 0);
    }
    end(&t);
}

/* ---- atomic access ---- */

static const int load_orders[] = {__ATOMIC_RELAXED, __ATOMIC_ACQUIRE, __ATOMIC_SEQ_CST};
static const int store_orders[] = {__ATOMIC_RELAXED, __ATOMIC_RELEASE, __ATOMIC_SEQ_CST};

#define CHECK_ATOMIC(t, bits, value)                                                          \
    do {                                                                                      \
        uint##bits##_t v = 0;                                                                 \
        for (unsigned i = 0; i < 3; i++) {                                                    \
            gw_gpa_t gpa = B + 64 * i;                                                        \
            assert_int_equal(gw_memory_store##bits(&(t)->memory, gpa,                         \
                                                   (uint##bits##_t)(value) + (uint8_t)i,      \
                                                   store_orders[i]),                          \
                             0);                                                              \
            memcpy(&v, at(t, gpa, sizeof(v)), sizeof(v));                                     \
            assert_true(v == (uint##bits##_t)((value) + i));                                  \
            v = 0;                                                                            \
            assert_int_equal(gw_memory_load##bits(&(t)->memory, gpa, &v, load_orders[i]), 0); \
            assert_true(v == (uint##bits##_t)((value) + i));                                  \
        }                                                                                     \
    } while (0)

static void test_hold_loads_and_stores_values(void **state)
{
    struct test t;

    begin(&t);
    CHECK_ATOMIC(&t, 8, 0x81);
    CHECK_ATOMIC(&t, 16, 0x8182);
    CHECK_ATOMIC(&t, 32, 0x81828384u);
    CHECK_ATOMIC(&t, 64, UINT64_C(0x8182838485868788));
    end(&t);
}

static void test_hold_refuses_values_that_are_not_aligned(void **state)
{
    uint64_t v64 = 1;
    uint32_t v32 = 1;
    uint16_t v16 = 1;
    struct test t;

    begin(&t);
    assert_int_equal(gw_memory_load16(&t.memory, B + 1, &v16, __ATOMIC_RELAXED), -EINVAL);
    assert_int_equal(gw_memory_load32(&t.memory, B + 2, &v32, __ATOMIC_RELAXED), -EINVAL);
    assert_int_equal(gw_memory_load64(&t.memory, B + 4, &v64, __ATOMIC_RELAXED), -EINVAL);
    assert_non_null(strstr(gw_last_error(), "not aligned"));
    assert_int_equal(gw_memory_store16(&t.memory, B + 1, 0, __ATOMIC_RELAXED), -EINVAL);
    assert_int_equal(gw_memory_store32(&t.memory, B + 1, 0, __ATOMIC_RELAXED), -EINVAL);
    assert_int_equal(gw_memory_store64(&t.memory, B + 1, 0, __ATOMIC_RELAXED), -EINVAL);
    assert_int_equal(gw_memory_load64(&t.memory, B - 4, &v64, __ATOMIC_RELAXED), -EINVAL);
    assert_non_null(strstr(gw_last_error(), "spans two"));
    assert_int_equal(gw_memory_store64(&t.memory, B - 4, 0, __ATOMIC_RELAXED), -EINVAL);
    expect_no_memory(gw_memory_load64(&t.memory, B_END - 4, &v64, __ATOMIC_RELAXED));
    expect_no_memory(gw_memory_store64(&t.memory, UINT64_MAX - 3, 0, __ATOMIC_RELAXED));
    assert_int_equal(gw_memory_load32(&t.memory, B, &v32, __ATOMIC_RELEASE), -EINVAL);
    assert_int_equal(gw_memory_load32(&t.memory, B, &v32, 77), -EINVAL);
    assert_int_equal(gw_memory_store32(&t.memory, B, 0, __ATOMIC_ACQUIRE), -EINVAL);
    assert_int_equal(gw_memory_store32(&t.memory, B, 0, -1), -EINVAL);
    assert_true(v16 == 1 && v32 == 1 && v64 == 1);
    end(&t);
}

/* ---- iovecs and regions ---- */

static void test_hold_describes_ranges(void **state)
{
    struct iovec iov[2];
    struct test t;

    begin(&t);
    assert_int_equal(gw_memory_iovecs(&t.memory, B - 100, 300, iov, 2), 2);
    assert_int_equal(iov[0].iov_len, 100);
    assert_int_equal(iov[1].iov_len, 200);
    memset(iov[0].iov_base, 1, 100);
    memset(iov[1].iov_base, 2, 200);
    assert_int_equal(at(&t, B - 1, 1)[0], 1);
    assert_int_equal(at(&t, B + 199, 1)[0], 2);
    assert_int_equal(gw_memory_iovecs(&t.memory, B - 100, 300, iov, 1), -E2BIG);
    assert_int_equal(gw_memory_iovecs(&t.memory, B, B_LEN, iov, 1), 1);
    assert_int_equal(gw_memory_iovecs(&t.memory, B, 1, iov, 0), -E2BIG);
    end(&t);
}

static void test_hold_lists_regions(void **state)
{
    const struct gw_memory_region *r;
    struct test t;

    begin(&t);
    r = gw_memory_region(&t.memory, 1);
    assert_int_equal(r->guest_addr, B);
    assert_int_equal(r->size, B_LEN);
    assert_int_equal(r->fd, -1);
    assert_int_equal(r->page_size, sysconf(_SC_PAGESIZE));
    memset(at(&t, B, 1), 0x77, 1);
    assert_int_equal(*(uint8_t *)r->addr, 0x77);
    assert_null(gw_memory_region(&t.memory, 3));
    assert_ptr_equal(gw_memory_find(&t.memory, B + 5), r);
    assert_ptr_equal(gw_memory_find(&t.memory, C), gw_memory_region(&t.memory, 2));
    assert_null(gw_memory_find(&t.memory, B_END));
    assert_int_equal(gw_memory_contiguous(&t.memory, FIXTURE_GPA + 1), A_LEN + B_LEN - 1);
    assert_int_equal(gw_memory_contiguous(&t.memory, B_END - 1), 1);
    assert_int_equal(gw_memory_contiguous(&t.memory, B_END), 0);
    end(&t);
}

/* ---- files ---- */

static void test_hold_copies_between_files_and_memory(void **state)
{
    static uint8_t data[20000], back[20000];
    struct test t;
    int fd = memfd_create("file", MFD_CLOEXEC);

    begin(&t);
    fill(data, sizeof(data), 9);
    assert_int_equal(pwrite(fd, data, sizeof(data), 50), sizeof(data));
    assert_int_equal(gw_memory_from_file(&t.memory, B - 9000, 20000, fd, 50), 20000);
    assert_memory_equal(at(&t, B - 9000, 9000), data, 9000);
    assert_memory_equal(at(&t, B, 11000), data + 9000, 11000);
    assert_int_equal(gw_memory_to_file(&t.memory, B - 9000, 20000, fd, 100000), 20000);
    assert_int_equal(pread(fd, back, sizeof(back), 100000), sizeof(back));
    assert_memory_equal(back, data, sizeof(data));

    /* It ends with the file. */
    assert_int_equal(gw_memory_from_file(&t.memory, C, C_LEN, fd, 120000 - 10), 10);
    assert_int_equal(gw_memory_from_file(&t.memory, C, C_LEN, fd, 120000), 0);

    /* At the file's own position. */
    assert_int_equal(lseek(fd, 50, SEEK_SET), 50);
    assert_int_equal(gw_memory_from_file(&t.memory, C, 100, fd, GW_OFF_CURRENT), 100);
    assert_memory_equal(at(&t, C, 100), data, 100);
    assert_int_equal(gw_memory_from_file(&t.memory, C, 100, fd, GW_OFF_CURRENT), 100);
    assert_memory_equal(at(&t, C, 100), data + 100, 100);
    close(fd);
    end(&t);
}

static void test_hold_reports_what_a_file_refuses(void **state)
{
    struct test t;
    int ends[2], fd = memfd_create("file", MFD_CLOEXEC);

    begin(&t);
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    assert_int_equal(gw_memory_from_file(&t.memory, B, 10, ends[0], GW_OFF_CURRENT), -EAGAIN);
    assert_int_equal(gw_memory_to_file(&t.memory, B, 10, ends[1], GW_OFF_CURRENT), 10);
    assert_int_equal(gw_memory_from_file(&t.memory, C, 20, ends[0], GW_OFF_CURRENT), 10);
    assert_int_equal(gw_memory_from_file(&t.memory, B, 10, ends[0], 0), -ESPIPE);
    assert_int_equal(gw_memory_from_file(&t.memory, B, 10, ends[1], GW_OFF_CURRENT), -EBADF);
    assert_int_equal(gw_memory_from_file(&t.memory, B, 10, -1, 0), -EBADF);
    assert_int_equal(gw_memory_from_file(&t.memory, B, 10, fd, INT64_MAX - 9), -EINVAL);
    assert_int_equal(gw_memory_to_file(&t.memory, B, 10, fd, UINT64_MAX - 1), -EINVAL);
    /* A full pipe takes a part. */
    assert_true(gw_memory_to_file(&t.memory, FIXTURE_GPA, A_LEN, ends[1], GW_OFF_CURRENT) <
                (int64_t)A_LEN);
    close(ends[0]);
    close(ends[1]);
    close(fd);
    end(&t);
}

/* More pieces than one call takes: 200 regions of a page. */
static void test_hold_copies_between_files_and_many_regions(void **state)
{
    enum {
        REGIONS = 200
    };
    const struct fixture_config cfg = {.sync = GW_SYNC_MUTEX};
    const gw_gpa_t gpa = UINT64_C(0x300000000);
    static uint8_t data[REGIONS * 4096], back[REGIONS * 4096];
    int fd = memfd_create("file", MFD_CLOEXEC);
    struct test t;

    fixture_begin(&t.fixture, &cfg);
    for (unsigned i = 0; i < REGIONS; i++)
        add_region(&t, gpa + i * PAGE, PAGE);
    use_map(&t);
    fixture_run(&t.fixture);
    assert_int_equal(gw_memory_hold(&t.memory, &t.fixture.queue), 0);
    fill(data, sizeof(data), 21);
    assert_int_equal(pwrite(fd, data, sizeof(data), 0), sizeof(data));
    assert_int_equal(gw_memory_from_file(&t.memory, gpa, sizeof(data), fd, 0), sizeof(data));
    assert_int_equal(gw_memory_read(&t.memory, gpa, back, sizeof(back)), 0);
    assert_memory_equal(back, data, sizeof(data));
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(gw_memory_to_file(&t.memory, gpa + 1, sizeof(data) - 1, fd, 0),
                     sizeof(data) - 1);
    assert_int_equal(pread(fd, back, sizeof(back), 0), sizeof(back) - 1);
    assert_memory_equal(back, data + 1, sizeof(data) - 1);
    close(fd);
    end(&t);
}

/* ---- how long a hold lasts ---- */

static void expect_pending(struct test_latch *latch)
{
    assert_int_equal(test_latch_wait(latch, 20000000), -ETIMEDOUT);
}

static void expect_open(struct test_latch *latch)
{
    assert_int_equal(test_latch_wait(latch, FIXTURE_WAIT_MS * UINT64_C(1000000)), 0);
    test_latch_done(latch);
}

static void test_hold_keeps_its_map(void **state)
{
    struct gw_memory later = {0};
    struct test_latch latch;
    struct gw_map *map;
    struct test t;
    uint32_t value;

    begin(&t);
    assert_int_equal(gw_memory_store32(&t.memory, C, 4711, __ATOMIC_RELAXED), 0);
    assert_int_equal(gw_guest_mem_remove(t.fixture.mem, C), 0);
    map = fixture_map(&t.fixture);
    test_latch_init(&latch, 1);
    fixture_adopt_begin(&t.fixture, map, &latch);
    expect_pending(&latch);
    assert_int_equal(gw_memory_load32(&t.memory, C, &value, __ATOMIC_RELAXED), 0);
    assert_int_equal(value, 4711);

    /* Later holds and requests use the new map, and delay nothing. */
    assert_int_equal(gw_memory_hold(&later, &t.fixture.queue), 0);
    expect_no_memory(gw_memory_load32(&later, C, &value, __ATOMIC_RELAXED));
    fixture_add(&t.fixture, 1);
    gw_driver_kick(t.fixture.driver);
    fixture_take(&t.fixture, 1);
    expect_pending(&latch);
    gw_memory_release(&t.memory);
    expect_open(&latch);
    gw_map_free(t.fixture.map);
    t.fixture.map = map;
    gw_memory_release(&later);
    end(&t);
}

static void test_hold_delays_a_stop(void **state)
{
    struct test_latch latch;
    struct test t;
    uint8_t byte;

    begin(&t);
    test_latch_init(&latch, 1);
    fixture_stop_begin(&t.fixture, &latch);
    expect_pending(&latch);
    assert_int_equal(gw_memory_read(&t.memory, B, &byte, 1), 0);
    gw_memory_release(&t.memory);
    expect_open(&latch);
    assert_int_equal(gw_memory_hold(&t.memory, &t.fixture.queue), -ENOTCONN);
    assert_non_null(strstr(gw_last_error(), "stopped"));
    gw_memory_release(&t.memory); /* again */
    fixture_end(&t.fixture);
}

/* Its session did not wait: no access, and no start before the release. */
static void test_hold_that_outlives_its_session(void **state)
{
    struct iovec iov[1];
    struct test t;
    uint8_t byte = 7;

    begin(&t);
    memset(at(&t, B, 1), 1, 1);
    fixture_lose(&t.fixture);
    assert_int_equal(gw_memory_write(&t.memory, B, &byte, 1), -ESHUTDOWN);
    assert_int_equal(gw_memory_read(&t.memory, B, &byte, 1), -ESHUTDOWN);
    assert_int_equal(gw_memory_store8(&t.memory, B, 9, __ATOMIC_RELAXED), -ESHUTDOWN);
    assert_int_equal(gw_memory_load8(&t.memory, B, &byte, __ATOMIC_RELAXED), -ESHUTDOWN);
    assert_int_equal(gw_memory_iovecs(&t.memory, B, 1, iov, 1), -ESHUTDOWN);
    assert_int_equal(gw_memory_mark_dirty(&t.memory, B, 1), -ESHUTDOWN);
    assert_int_equal(gw_memory_from_file(&t.memory, B, 1, -1, 0), -ESHUTDOWN);
    assert_int_equal(*at(&t, B, 1), 1);
    assert_int_equal(fixture_start(&t.fixture, FIXTURE_DRIVER_FD, 0), -EBUSY);
    assert_non_null(strstr(t.fixture.why, "holds guest memory"));
    gw_memory_release(&t.memory);
    fixture_settle(&t.fixture);
    fixture_run(&t.fixture);
    assert_int_equal(gw_memory_hold(&t.memory, &t.fixture.queue), 0);
    end(&t);
}

/* Addresses in requests of a device behind an IOMMU are no guest addresses. */
static void test_hold_of_translated_addresses_is_refused(void **state)
{
    static struct gw_translation translation;
    static struct gw_queue queue;
    struct gw_memory m;
    struct test t;

    begin(&t);
    gw_queue_init(&queue);
    queue.map = t.fixture.map;
    queue.translation = &translation;
    assert_int_equal(gw_memory_hold(&m, &queue), -EOPNOTSUPP);
    gw_memory_release(&m);
    queue.translation = NULL;
    assert_int_equal(gw_memory_hold(&m, &queue), 0);
    gw_memory_release(&m);
    gw_queue_done(&queue);
    end(&t);
}

/* On the worker of a queue without a lock. */
static int hold_and_use(void *arg)
{
    struct test *t = arg;
    struct gw_memory m;
    uint64_t value;
    int r = gw_memory_hold(&m, &t->fixture.queue);

    if (r == 0)
        r = gw_memory_store64(&m, FIXTURE_GPA + 8, 5, __ATOMIC_RELEASE);
    if (r == 0)
        r = gw_memory_load64(&m, FIXTURE_GPA + 8, &value, __ATOMIC_ACQUIRE);
    gw_memory_release(&m);
    return r;
}

static void test_hold_on_the_worker(void **state)
{
    struct test t;

    fixture_begin(&t.fixture, NULL);
    assert_int_equal(fixture_call(&t.fixture, hold_and_use, &t), -ENOTCONN);
    fixture_run(&t.fixture);
    assert_int_equal(fixture_call(&t.fixture, hold_and_use, &t), 0);
    fixture_stop(&t.fixture);
    fixture_end(&t.fixture);
}

/* ---- threads ---- */

struct reader {
    struct test *t;
    bool ends; /* atomic */
    unsigned n_held, n_failed;
};

/* Each hold sees one map: B is either there or not, from the first access to the last. */
static void *read_on(void *arg)
{
    struct reader *r = arg;

    while (!__atomic_load_n(&r->ends, __ATOMIC_ACQUIRE)) {
        struct gw_memory m;
        bool has_b;
        uint64_t v;

        if (gw_memory_hold(&m, &r->t->fixture.queue) < 0)
            continue;
        has_b = gw_memory_contiguous(&m, B) > 0;
        for (unsigned i = 0; i < 50; i++)
            r->n_failed += (gw_memory_load64(&m, B + 8 * i, &v, __ATOMIC_ACQUIRE) == 0) != has_b;
        gw_memory_release(&m);
        r->n_held++;
    }
    return NULL;
}

static void test_hold_of_other_threads_sees_one_map(void **state)
{
    struct reader readers[2];
    pthread_t threads[2];
    struct test t;

    begin(&t);
    gw_memory_release(&t.memory);
    for (unsigned i = 0; i < 2; i++) {
        readers[i] = (struct reader){.t = &t};
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &readers[i]), 0);
    }
    for (unsigned i = 0; i < 100; i++) {
        struct test_latch latch;
        struct gw_map *map;

        if (i % 2)
            add_region(&t, B, B_LEN);
        else
            assert_int_equal(gw_guest_mem_remove(t.fixture.mem, B), 0);
        map = fixture_map(&t.fixture);
        test_latch_init(&latch, 1);
        fixture_adopt_begin(&t.fixture, map, &latch);
        expect_open(&latch);
        gw_map_free(t.fixture.map); /* a hold that still used it would crash */
        t.fixture.map = map;
    }
    for (unsigned i = 0; i < 2; i++) {
        __atomic_store_n(&readers[i].ends, true, __ATOMIC_RELEASE);
        pthread_join(threads[i], NULL);
        assert_true(readers[i].n_held > 0 && readers[i].n_failed == 0);
    }
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_hold_copies_across_regions),
        FDCHECK_TEST(test_hold_copies_objects),
        FDCHECK_TEST(test_hold_refuses_ranges_outside_of_memory),
        FDCHECK_TEST(test_hold_ignores_empty_ranges),
        FDCHECK_TEST(test_hold_loads_and_stores_values),
        FDCHECK_TEST(test_hold_refuses_values_that_are_not_aligned),
        FDCHECK_TEST(test_hold_describes_ranges),
        FDCHECK_TEST(test_hold_lists_regions),
        FDCHECK_TEST(test_hold_copies_between_files_and_memory),
        FDCHECK_TEST(test_hold_reports_what_a_file_refuses),
        FDCHECK_TEST(test_hold_copies_between_files_and_many_regions),
        FDCHECK_TEST(test_hold_keeps_its_map),
        FDCHECK_TEST(test_hold_delays_a_stop),
        FDCHECK_TEST(test_hold_that_outlives_its_session),
        FDCHECK_TEST(test_hold_of_translated_addresses_is_refused),
        FDCHECK_TEST(test_hold_on_the_worker),
        FDCHECK_TEST(test_hold_of_other_threads_sees_one_map),
    };

    return FIXTURE_RUN_BOTH_LOOPS(tests);
}
