/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Access by guest address to each kind of memory of a Xen domain, on a stub of the Xen libraries.
 */
#include "base/log_i.h"
#include "core/queue/queue.h"
#include "fdcheck.h"
#include "xen_stub.h"

#include <errno.h>
#include <fcntl.h>
#include <godwit/memory.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE     UINT64_C(4096)
#define FRAME    64u
#define REF      16u
#define N        40u
#define GRANT(r) (GW_GRANT_ADDRESS | (uint64_t)(r) << 12)

struct kind {
    uint32_t flags;
    gw_gpa_t gpa;
    uint32_t cache_pages;
};

static const struct kind kinds[] = {
    {GW_REGION_FOREIGN, FRAME *PAGE, 0},
    {GW_REGION_GRANT, GRANT(REF), 0},
    {GW_REGION_GRANT | GW_REGION_NO_ADVANCE, GRANT(REF), 0},
    {GW_REGION_GRANT | GW_REGION_NO_ADVANCE, GRANT(REF), 64},
};

static struct gw_queue queue;
static struct gw_map *map;
static struct gw_memory memory;
static gw_gpa_t first; /* of the memory */

static int setup(void **state)
{
    if (fdcheck_setup(state) < 0)
        return -1;
    xen_stub_begin();
    xen_stub_grant(REF, FRAME, N);
    return 0;
}

static int teardown(void **state)
{
    xen_stub_end();
    return fdcheck_teardown(state) < 0 || xen_stub.n_misuses ? -1 : 0;
}

#define XEN_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void begin(const struct kind *kind)
{
    const struct gw_region_desc desc = {.gpa = kind->gpa,
                                        .size = N * PAGE,
                                        .uva = 0x10000000,
                                        .flags = kind->flags,
                                        .domid = XEN_STUB_DOMID,
                                        .cache_pages = kind->cache_pages};
    struct gw_region *region;

    assert_int_equal(gw_region_new(&region, &desc, open("/dev/null", O_RDWR | O_CLOEXEC)), 0);
    assert_int_equal(gw_map_new(&map, &region, 1), 0);
    gw_region_put(region);
    memset(&queue, 0, sizeof(queue));
    gw_queue_init(&queue);
    queue.map = map;
    assert_int_equal(gw_memory_hold(&memory, &queue), 0);
    first = kind->gpa;
}

static void end(void)
{
    gw_memory_release(&memory);
    queue.map = NULL;
    gw_queue_done(&queue);
    gw_map_free(map);
    assert_int_equal(xen_stub.n_grant_pages, 0);
    assert_int_equal(xen_stub.n_foreign_pages, 0);
}

static uint8_t *domain_at(uint64_t offset)
{
    return xen_stub.memory + FRAME * PAGE + offset;
}

static void fill(uint8_t *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(i * 13 + i / 256 + seed);
}

/* Longer than what is pinned at a time. */
static void test_hold_xen_copies(void **state)
{
    static uint8_t data[N * PAGE - 300], back[N * PAGE - 300];

    for (unsigned i = 0; i < GW_ARRAY_SIZE(kinds); i++) {
        begin(&kinds[i]);
        fill(data, sizeof(data), i);
        assert_int_equal(gw_memory_write(&memory, first + 100, data, sizeof(data)), 0);
        assert_memory_equal(domain_at(100), data, sizeof(data));
        fill(domain_at(0), N * PAGE, i + 50);
        assert_int_equal(gw_memory_read(&memory, first + 100, back, sizeof(back)), 0);
        assert_memory_equal(domain_at(100), back, sizeof(back));
        assert_int_equal(gw_memory_read(&memory, first + 1, back, N * PAGE), -EFAULT);
        end();
    }
}

/* Never a copy: the domain sees each store, and each load what the domain stored. */
static void test_hold_xen_loads_and_stores(void **state)
{
    uint64_t value;

    for (unsigned i = 0; i < GW_ARRAY_SIZE(kinds); i++) {
        begin(&kinds[i]);
        assert_int_equal(gw_memory_store64(&memory, first + PAGE + 8, 77 + i, __ATOMIC_RELEASE), 0);
        memcpy(&value, domain_at(PAGE + 8), sizeof(value));
        assert_int_equal(value, 77 + i);
        value = 1000 + i;
        memcpy(domain_at(3 * PAGE - 8), &value, sizeof(value));
        assert_int_equal(gw_memory_load64(&memory, first + 3 * PAGE - 8, &value, __ATOMIC_ACQUIRE),
                         0);
        assert_int_equal(value, 1000 + i);
        assert_int_equal(gw_memory_load64(&memory, first + 4, &value, __ATOMIC_ACQUIRE), -EINVAL);
        end();
    }
}

static void test_hold_xen_copies_between_files_and_memory(void **state)
{
    static uint8_t data[20 * PAGE], back[20 * PAGE];
    int fd = memfd_create("file", MFD_CLOEXEC);

    for (unsigned i = 0; i < GW_ARRAY_SIZE(kinds); i++) {
        begin(&kinds[i]);
        fill(data, sizeof(data), i + 9);
        assert_int_equal(pwrite(fd, data, sizeof(data), 0), sizeof(data));
        memset(domain_at(0), 0xee, N * PAGE);
        assert_int_equal(gw_memory_from_file(&memory, first + 10, sizeof(data) + 5, fd, 0),
                         sizeof(data));
        assert_memory_equal(domain_at(10), data, sizeof(data));
        assert_int_equal(*domain_at(10 + sizeof(data)), 0xee); /* behind the end of the file */
        fill(domain_at(0), N * PAGE, i + 70);
        assert_int_equal(gw_memory_to_file(&memory, first + 10, sizeof(data), fd, 0), sizeof(data));
        assert_int_equal(pread(fd, back, sizeof(back), 0), sizeof(back));
        assert_memory_equal(domain_at(10), back, sizeof(back));
        end();
    }
    close(fd);
}

static void test_hold_xen_describes_what_has_an_address(void **state)
{
    struct iovec iov[4];

    for (unsigned i = 0; i < GW_ARRAY_SIZE(kinds); i++) {
        bool lasts = !(kinds[i].flags & GW_REGION_NO_ADVANCE);

        begin(&kinds[i]);
        assert_int_equal(gw_memory_iovecs(&memory, first + 5, 3 * PAGE, iov, 4),
                         lasts ? 1 : -EOPNOTSUPP);
        assert_int_equal(gw_memory_region(&memory, 0)->addr != NULL, lasts);
        assert_int_equal(gw_memory_region(&memory, 0)->page_size, PAGE);
        end();
    }
}

/* A page that the domain does not grant, or grants for reading only. */
static void test_hold_xen_refuses_what_is_not_granted(void **state)
{
    static uint8_t buf[3 * PAGE];
    uint32_t value;

    for (unsigned i = 2; i < GW_ARRAY_SIZE(kinds); i++) {
        begin(&kinds[i]);
        xen_stub.grants[REF + 5].valid = false;
        assert_int_equal(gw_memory_read(&memory, first + 4 * PAGE, buf, sizeof(buf)), -EFAULT);
        assert_int_equal(gw_memory_write(&memory, first + 4 * PAGE, buf, sizeof(buf)), -EFAULT);
        assert_non_null(strstr(gw_last_error(), "not granted"));
        assert_true(gw_memory_load32(&memory, first + 5 * PAGE, &value, __ATOMIC_RELAXED) < 0);
        assert_int_equal(gw_memory_read(&memory, first + 6 * PAGE, buf, sizeof(buf)), 0);
        xen_stub.grants[REF + 5].valid = true;
        end();
    }
    begin(&kinds[2]);
    xen_stub.grants[REF + 9].read_only = true;
    assert_int_equal(gw_memory_read(&memory, first + 9 * PAGE, buf, PAGE), 0);
    assert_int_equal(gw_memory_write(&memory, first + 9 * PAGE, buf, PAGE), -EFAULT);
    xen_stub.grants[REF + 9].read_only = false;
    end();
}

/* A missing frame is a hole, and the rest of the region stays accessible. */
static void test_hold_xen_refuses_a_missing_frame(void **state)
{
    static uint8_t buf[3 * PAGE];
    int fd = memfd_create("file", MFD_CLOEXEC);
    struct iovec iov[4];
    uint32_t value;

    xen_stub.frame_errors[FRAME + 7] = EINVAL;
    begin(&kinds[0]);
    assert_int_equal(gw_memory_read(&memory, first + 6 * PAGE, buf, sizeof(buf)), -EFAULT);
    assert_int_equal(gw_memory_read(&memory, first + 8 * PAGE, buf, sizeof(buf)), 0);
    assert_int_equal(gw_memory_write(&memory, first + 4 * PAGE, buf, sizeof(buf)), 0);
    assert_int_equal(gw_memory_load32(&memory, first + 7 * PAGE, &value, __ATOMIC_RELAXED),
                     -EFAULT);
    assert_int_equal(gw_memory_load32(&memory, first + 8 * PAGE, &value, __ATOMIC_RELAXED), 0);
    assert_int_equal(gw_memory_iovecs(&memory, first + 8 * PAGE, 2 * PAGE, iov, 4), 1);
    assert_int_equal(gw_memory_iovecs(&memory, first + 6 * PAGE, 3 * PAGE, iov, 4), -EOPNOTSUPP);
    assert_int_equal(gw_memory_to_file(&memory, first + 7 * PAGE, PAGE, fd, 0), -EFAULT);
    assert_int_equal(gw_memory_to_file(&memory, first + 8 * PAGE, 20 * PAGE, fd, 0), 20 * PAGE);
    end();
    xen_stub.frame_errors[FRAME + 7] = 0;
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        XEN_TEST(test_hold_xen_copies),
        XEN_TEST(test_hold_xen_loads_and_stores),
        XEN_TEST(test_hold_xen_copies_between_files_and_memory),
        XEN_TEST(test_hold_xen_describes_what_has_an_address),
        XEN_TEST(test_hold_xen_refuses_what_is_not_granted),
        XEN_TEST(test_hold_xen_refuses_a_missing_frame),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
