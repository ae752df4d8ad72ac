/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The Xen backend on a stub of the Xen libraries: which regions it accepts, what it pins, and what
 * happens if a page of any call is missing.
 */
#include "fdcheck.h"
#include "xen_stub.h"

#include "base/log_i.h"
#include "core/memory/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define PAGE       UINT64_C(4096)
#define GRANT(ref) (GW_GRANT_ADDRESS | (uint64_t)(ref) << 12)
#define CHAINS     3u
#define PAGES      4u

static int setup(void **state)
{
    if (fdcheck_setup(state) < 0)
        return -1;
    xen_stub_begin();
    return 0;
}

static int teardown(void **state)
{
    xen_stub_end();
    return fdcheck_teardown(state) < 0 || xen_stub.n_misuses ? -1 : 0;
}

#define XEN_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static int device_node(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static int make(struct gw_region **ret, uint32_t flags, gw_gpa_t gpa, uint64_t size)
{
    struct gw_region_desc desc = {
        .gpa = gpa, .size = size, .uva = 0x10000000, .flags = flags, .domid = XEN_STUB_DOMID};

    *ret = NULL;
    return gw_region_new(ret, &desc, device_node());
}

/* A map that owns one region. */
static struct gw_map *map_of(uint32_t flags, gw_gpa_t gpa, uint64_t size)
{
    struct gw_region *region;
    struct gw_map *map;

    assert_int_equal(make(&region, flags, gpa, size), 0);
    assert_int_equal(gw_map_new(&map, &region, 1), 0);
    gw_region_put(region);
    return map;
}

static int pin(const struct gw_map *map, gw_gpa_t gpa, uint32_t len, struct iovec *iov,
               unsigned max_iov, struct gw_pin *ret)
{
    struct gw_extent extent = {gpa, len};
    unsigned last = 0;

    return gw_mem_pin(map, &last, &extent, 1, iov, max_iov, ret);
}

static bool fetch(struct gw_pin *p, unsigned n_readable)
{
    struct gw_pin_copy copy = {.pin = p, .n_readable = n_readable};

    gw_mem_backend_fetch(&copy, 1);
    return !copy.failed;
}

static bool store(struct gw_pin *p, unsigned n_readable)
{
    struct gw_pin_copy copy = {.pin = p, .n_readable = n_readable};

    gw_mem_backend_store(&copy, 1);
    return !copy.failed;
}

/* ---- regions that are refused ---- */

static void test_mem_xen_impossible_region_is_refused(void **state)
{
    static const struct {
        struct gw_region_desc desc;
        const char *why;
    } bad[] = {
        {{.flags = 0x3, .size = PAGE}, "foreign frames allow no other"},
        {{.flags = 0x3, .gpa = GRANT(1), .size = PAGE}, "foreign frames allow no other"},
        {{.flags = 0x101, .size = PAGE}, "foreign frames allow no other"},
        {{.flags = 0x103, .size = PAGE}, "foreign frames allow no other"},
        {{.flags = 0x100, .size = PAGE}, "only grants can stay unmapped"},
        {{.flags = 0x4, .size = PAGE}, "unknown flags 0x4"},
        {{.flags = 0x80000001, .size = PAGE}, "unknown flags 0x80000000"},
        {{.flags = 0x8, .size = PAGE}, "unknown flags 0x8"}, /* ctl_mem.c makes it 0x100 */
        {{.flags = 0x2, .gpa = PAGE, .size = PAGE}, "bit 63 of its address is clear"},
        {{.flags = 0x102, .gpa = PAGE, .size = PAGE}, "bit 63 of its address is clear"},
        {{.flags = 0x1, .gpa = GRANT(1), .size = PAGE}, "reaches into addresses of grants"},
        {{.flags = 0x1, .gpa = GW_GRANT_ADDRESS - PAGE, .size = 2 * PAGE}, "reaches into"},
        {{.flags = 0x1, .size = PAGE, .domid = 0x7ff0}, "there is no domain"},
        {{.flags = 0x2, .gpa = GRANT(1), .size = PAGE, .domid = UINT32_MAX}, "there is no domain"},
        {{.flags = 0x1, .size = PAGE, .mmap_offset = PAGE}, "in a file, but is memory of a domain"},
        {{.flags = 0x102, .gpa = GRANT(1), .size = PAGE, .mmap_offset = 1}, "in a file, but"},
        {{.flags = 0x2, .gpa = GRANT(0), .size = 65537 * PAGE}, "cannot be mapped in advance"},
        {{.flags = 0x2, .gpa = GRANT(UINT32_MAX), .size = 2 * PAGE}, "cannot be mapped in adv"},
        {{.flags = 0x1, .size = 0}, "is empty"},
        {{.flags = 0x102, .gpa = GRANT(0), .size = UINT64_C(1) << 63}, "wraps around"},
    };

    for (unsigned i = 0; i < GW_ARRAY_SIZE(bad); i++) {
        struct gw_region *region = NULL;

        assert_int_equal(gw_region_new(&region, &bad[i].desc, device_node()), -EINVAL);
        assert_null(region);
        if (!strstr(gw_last_error(), bad[i].why))
            fail_msg("%u: %s", i, gw_last_error());
    }
    assert_int_equal(xen_stub.n_calls[XEN_STUB_FOREIGN_MAP], 0);
    assert_int_equal(xen_stub.n_calls[XEN_STUB_GRANT_MAP], 0);
}

/* The announced size must not determine an allocation. */
static void test_mem_xen_region_larger_than_memory_is_refused(void **state)
{
    struct gw_region *region;

    assert_true(make(&region, GW_REGION_FOREIGN, 0, INT64_MAX) < 0);
    assert_true(make(&region, GW_REGION_FOREIGN, 0, UINT64_C(1) << 60) < 0);
    assert_null(region);
}

static void test_mem_xen_missing_device_nodes_are_told(void **state)
{
    struct gw_region *region;
    struct gw_log quiet;

    gw_log_init(&quiet, NULL, NULL, GW_LOG_ERROR, "test");
    assert_int_equal(gw_mem_backend_probe(&quiet), GW_MEM_CAP_XEN);
    xen_stub.errors[XEN_STUB_FOREIGN_OPEN] = ENOENT;
    assert_int_equal(gw_mem_backend_probe(&quiet), GW_MEM_CAP_XEN); /* grants are available */
    assert_int_equal(make(&region, GW_REGION_FOREIGN, 0, PAGE), -ENODEV);
    assert_non_null(strstr(gw_last_error(), "/dev/xen/privcmd: No such file"));
    xen_stub.errors[XEN_STUB_GRANT_OPEN] = EACCES;
    assert_int_equal(gw_mem_backend_probe(&quiet), 0);
    assert_int_equal(make(&region, GW_REGION_GRANT, GRANT(0), PAGE), -ENODEV);
    assert_non_null(strstr(gw_last_error(), "/dev/xen/gntdev: Permission denied"));
}

/* ---- foreign frames ---- */

static void test_mem_xen_foreign_region_is_the_domain_s_memory(void **state)
{
    struct gw_map *map = map_of(GW_REGION_FOREIGN, 16 * PAGE, 8 * PAGE);
    uint8_t *hva = map->entries[0].region->hva;

    assert_non_null(hva);
    assert_false(map->has_copies);
    assert_int_equal(xen_stub.n_calls[XEN_STUB_FOREIGN_MAP], 1);
    assert_int_equal(xen_stub.restricted_to, XEN_STUB_DOMID);
    xen_stub.memory[16 * PAGE + 5] = 42;
    assert_int_equal(hva[5], 42);
    hva[8 * PAGE - 1] = 43;
    assert_int_equal(xen_stub.memory[24 * PAGE - 1], 43);
    gw_map_free(map);
    assert_int_equal(xen_stub.n_foreign_pages, 0);
}

static void test_mem_xen_foreign_region_begins_and_ends_anywhere(void **state)
{
    struct gw_map *map = map_of(GW_REGION_FOREIGN, 2 * PAGE + 100, PAGE);

    xen_stub.memory[2 * PAGE + 100] = 1;
    assert_int_equal(map->entries[0].region->hva[0], 1);
    assert_int_equal(xen_stub.n_foreign_pages, 2);
    gw_map_free(map);
}

static void expect_hole(const struct gw_map *map, unsigned hole, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        gw_gpa_t gpa = (64 + i) * PAGE;
        gw_gpa_t at;
        struct iovec iov;
        struct gw_pin p;
        void *ring;

        assert_int_equal(pin(map, gpa + 1, 100, &iov, 1, &p), i == hole ? -EFAULT : 1);
        assert_null(p.backend);
        if (i != hole)
            assert_int_equal(*(uint8_t *)iov.iov_base, xen_stub.memory[gpa + 1]);
        /* Reaches into the next page. */
        if (i + 1 < n)
            assert_int_equal(pin(map, gpa + PAGE - 1, 2, &iov, 1, &p),
                             i == hole || i + 1 == hole ? -EFAULT : 1);
        ring = gw_map_pin_uva(map, 0x10000000 + i * PAGE, PAGE, &at, &p);
        assert_true(!ring == (i == hole));
        assert_null(p.backend);
        assert_true(!ring || at == gpa);
    }
}

static void test_mem_xen_missing_frame_is_a_hole_wherever_it_is(void **state)
{
    enum {
        N = 9
    };

    for (unsigned hole = 0; hole < N; hole++) {
        struct gw_map *map;

        for (unsigned i = 0; i < N; i++)
            xen_stub.memory[(64 + i) * PAGE + 1] = (uint8_t)(i + 1);
        memset(xen_stub.frame_errors, 0, sizeof(xen_stub.frame_errors));
        xen_stub.frame_errors[64 + hole] = hole % 2 ? EPERM : EINVAL;
        map = map_of(GW_REGION_FOREIGN, 64 * PAGE, N * PAGE);
        assert_null(map->entries[0].region->hva);
        expect_hole(map, hole, N);
        gw_map_free(map);
        assert_int_equal(xen_stub.n_foreign_pages, 0);
    }
}

static void test_mem_xen_region_of_holes_is_refused(void **state)
{
    struct gw_region_desc desc = {.size = 3 * PAGE, .flags = GW_REGION_FOREIGN, .domid = 9};
    struct gw_region *region;

    assert_int_equal(gw_region_new(&region, &desc, device_node()), -ESRCH);
    assert_non_null(strstr(gw_last_error(), "of domain 9 cannot be mapped: No such process"));
    xen_stub.is_dead = true;
    assert_int_equal(make(&region, GW_REGION_FOREIGN, 0, PAGE), -ESRCH);
    xen_stub.is_dead = false;
    for (unsigned i = 0; i < 3; i++)
        xen_stub.frame_errors[i] = EPERM;
    assert_int_equal(make(&region, GW_REGION_FOREIGN, 0, 3 * PAGE), -EPERM);
    assert_int_equal(make(&region, GW_REGION_FOREIGN, XEN_STUB_FRAMES * PAGE, PAGE), -EINVAL);
    xen_stub.errors[XEN_STUB_FOREIGN_MAP] = ENOMEM;
    assert_int_equal(make(&region, GW_REGION_FOREIGN, 16 * PAGE, PAGE), -ENOMEM);
    assert_int_equal(xen_stub.n_foreign_pages, 0);
    assert_int_equal(xen_stub.n_handles, 0);
}

static void test_mem_xen_paged_out_frame_is_waited_for(void **state)
{
    struct gw_map *map;

    xen_stub.frame_paged[3] = 2;
    map = map_of(GW_REGION_FOREIGN, 0, 8 * PAGE);
    assert_non_null(map->entries[0].region->hva);
    assert_int_equal(xen_stub.n_calls[XEN_STUB_FOREIGN_MAP], 3);
    assert_int_equal(xen_stub.n_foreign_pages, 8);
    gw_map_free(map);

    xen_stub.frame_paged[3] = UINT32_MAX; /* paged out, and never back in */
    map = map_of(GW_REGION_FOREIGN, 0, 8 * PAGE);
    assert_null(map->entries[0].region->hva);
    assert_int_equal(xen_stub.n_calls[XEN_STUB_FOREIGN_MAP], 3 + 5);
    gw_map_free(map);
}

/* ---- grants mapped in advance ---- */

static void test_mem_xen_grants_are_mapped_by_one_call(void **state)
{
    struct gw_map *map;

    xen_stub_grant(8, 100, 512);
    map = map_of(GW_REGION_GRANT, GRANT(8) + 16, 511 * PAGE);
    assert_int_equal(xen_stub.n_calls[XEN_STUB_GRANT_MAP], 1);
    assert_int_equal(xen_stub.n_grant_pages, 512);
    map->entries[0].region->hva[0] = 9;
    assert_int_equal(xen_stub.memory[100 * PAGE + 16], 9);
    gw_map_free(map);
    assert_int_equal(xen_stub.n_calls[XEN_STUB_GRANT_UNMAP], 1);
    assert_int_equal(xen_stub.n_grant_pages, 0);
}

static void test_mem_xen_bad_grant_is_refused_wherever_it_is(void **state)
{
    struct gw_region *region;

    for (unsigned bad = 0; bad < 2 * PAGES; bad++) {
        xen_stub_grant(8, 100, PAGES);
        if (bad < PAGES)
            xen_stub.grants[8 + bad].valid = false;
        else
            xen_stub.grants[8 + bad - PAGES].read_only = true;
        assert_int_equal(make(&region, GW_REGION_GRANT, GRANT(8), PAGES * PAGE), -EINVAL);
        assert_non_null(strstr(gw_last_error(), "grants 8 to 11 of domain 7 cannot be mapped"));
    }
    assert_int_equal(xen_stub.n_handles, 0);
    assert_int_equal(make(&region, GW_REGION_GRANT, GRANT(XEN_STUB_GRANTS), PAGE), -EINVAL);
}

/* ---- grants not mapped in advance ---- */

static void test_mem_xen_copies_go_both_ways(void **state)
{
    struct gw_extent extents[] = {{GRANT(8) + 4000, 200}, {GRANT(20), 512}};
    struct gw_map *map = map_of(GW_REGION_GRANT | GW_REGION_NO_ADVANCE, GRANT(0), 64 * PAGE);
    struct iovec iov[4];
    struct gw_pin p;
    unsigned last = 0;

    xen_stub_grant(8, 100, 2);
    xen_stub_grant(20, 300, 1);
    xen_stub.grants[8].read_only = true; /* the request only reads it */
    for (unsigned i = 0; i < 200; i++)
        xen_stub.memory[100 * PAGE + 4000 + i] = (uint8_t)i;
    memset(xen_stub.memory + 300 * PAGE, 0xee, PAGE);
    assert_true(map->has_copies);
    assert_int_equal(gw_mem_pin(map, &last, extents, 2, iov, 4, &p), 2);
    assert_int_equal(iov[0].iov_len, 200);
    assert_int_equal(iov[1].iov_len, 512);
    assert_int_equal((uintptr_t)iov[1].iov_base % 512, 0);
    assert_int_equal(xen_stub.n_calls[XEN_STUB_GRANT_COPY], 0);
    assert_true(fetch(&p, 1));
    assert_int_equal(xen_stub.n_calls[XEN_STUB_GRANT_COPY], 1);
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(((uint8_t *)iov[0].iov_base)[i], i);
    assert_int_equal(*(uint8_t *)iov[1].iov_base, 0); /* no data of other guests */
    memset(iov[1].iov_base, 0x55, 256);
    assert_true(store(&p, 1));
    assert_int_equal(xen_stub.n_calls[XEN_STUB_GRANT_COPY], 2);
    assert_int_equal(xen_stub.memory[300 * PAGE + 255], 0x55);
    assert_int_equal(xen_stub.memory[300 * PAGE + 511], 0);
    assert_int_equal(xen_stub.memory[300 * PAGE + 512], 0xee);
    gw_mem_unpin(&p);
    assert_null(p.backend);
    assert_int_equal(xen_stub.n_calls[XEN_STUB_GRANT_MAP], 0);
    gw_map_free(map);
}

/* CHAINS chains, each with PAGES pages to read and PAGES pages to write. */
struct batch {
    struct gw_map *map;
    struct gw_pin pins[CHAINS];
    struct iovec iov[CHAINS][2];
    struct gw_pin_copy copies[CHAINS];
};

static void batch_begin(struct batch *b)
{
    memset(b, 0, sizeof(*b));
    memset(xen_stub.n_calls, 0, sizeof(xen_stub.n_calls));
    xen_stub_grant(0, 0, 2 * CHAINS * PAGES);
    for (unsigned i = 0; i < 2 * CHAINS * PAGES; i++)
        xen_stub.memory[i * PAGE] = (uint8_t)(i + 1);
    b->map = map_of(GW_REGION_GRANT | GW_REGION_NO_ADVANCE, GRANT(0), 4096 * PAGE);
    for (unsigned i = 0; i < CHAINS; i++) {
        struct gw_extent extents[] = {{GRANT(2 * i * PAGES), PAGES * PAGE},
                                      {GRANT((2 * i + 1) * PAGES), PAGES * PAGE}};
        unsigned last = 0;

        assert_int_equal(gw_mem_pin(b->map, &last, extents, 2, b->iov[i], 2, &b->pins[i]), 2);
        b->copies[i] = (struct gw_pin_copy){.pin = &b->pins[i], .n_readable = 1};
    }
}

static void batch_end(struct batch *b)
{
    for (unsigned i = 0; i < CHAINS; i++)
        gw_mem_unpin(&b->pins[i]);
    gw_map_free(b->map);
}

static void test_mem_xen_bad_grant_of_a_batch_is_its_chain_s(void **state)
{
    for (unsigned bad = 0; bad < 2 * CHAINS * PAGES; bad++) {
        unsigned chain = bad / (2 * PAGES);
        bool is_out = bad % (2 * PAGES) < PAGES;
        struct batch b;

        batch_begin(&b);
        if (is_out || bad % 2)
            xen_stub.grants[bad].valid = false;
        else
            xen_stub.grants[bad].read_only = true;
        gw_mem_backend_fetch(b.copies, CHAINS);
        assert_int_equal(xen_stub.n_calls[XEN_STUB_GRANT_COPY], 1);
        for (unsigned i = 0; i < CHAINS; i++) {
            assert_int_equal(b.copies[i].failed, is_out && i == chain);
            for (unsigned k = 0; k < PAGES && !b.copies[i].failed; k++)
                assert_int_equal(((uint8_t *)b.iov[i][0].iov_base)[k * PAGE],
                                 2 * i * PAGES + k + 1);
            b.copies[i].failed = false;
            memset(b.iov[i][1].iov_base, 0xaa, PAGES * PAGE);
        }
        gw_mem_backend_store(b.copies, CHAINS);
        assert_int_equal(xen_stub.n_calls[XEN_STUB_GRANT_COPY], is_out ? 2 : 3);
        for (unsigned i = 0; i < CHAINS; i++) {
            assert_int_equal(b.copies[i].failed, !is_out && i == chain);
            assert_false(b.copies[i].torn);
            /* A completion that cannot be stored completely is not stored partially. */
            for (unsigned k = 0; k < PAGES; k++)
                assert_int_equal(xen_stub.memory[((2 * i + 1) * PAGES + k) * PAGE],
                                 (2 * i + 1) * PAGES + k == bad ? bad + 1
                                 : b.copies[i].failed           ? 0xff
                                                                : 0xaa);
        }
        batch_end(&b);
    }
}

/* A page that was written cannot be made void, because its grant was revoked. */
static void test_mem_xen_what_cannot_be_made_void_is_told(void **state)
{
    for (unsigned bad = 0; bad < CHAINS; bad++) {
        struct batch b;

        batch_begin(&b);
        xen_stub.grants[(2 * bad + 1) * PAGES].n_copies = 1;
        xen_stub.grants[(2 * bad + 2) * PAGES - 1].valid = false;
        gw_mem_backend_store(b.copies, CHAINS);
        for (unsigned i = 0; i < CHAINS; i++) {
            assert_int_equal(b.copies[i].failed, i == bad);
            assert_int_equal(b.copies[i].torn, i == bad);
        }
        batch_end(&b);
    }
}

static void test_mem_xen_failed_copy_is_told_of_every_chain(void **state)
{
    struct batch b;

    batch_begin(&b);
    xen_stub.errors[XEN_STUB_GRANT_COPY] = ENOMEM;
    gw_mem_backend_fetch(b.copies, CHAINS);
    for (unsigned i = 0; i < CHAINS; i++)
        assert_true(b.copies[i].failed);
    xen_stub.errors[XEN_STUB_GRANT_COPY] = 0;
    xen_stub.is_dead = true;
    assert_false(store(&b.pins[0], 1));
    batch_end(&b);
}

static void test_mem_xen_extents_without_grants_are_refused(void **state)
{
    uint64_t all = UINT64_C(1) << 62; /* exceeds the number of references */
    struct gw_map *map = map_of(GW_REGION_GRANT | GW_REGION_NO_ADVANCE, GW_GRANT_ADDRESS, all);
    struct iovec iov[2];
    struct gw_pin p;

    assert_int_equal(pin(map, 0, 1, iov, 2, &p), -EFAULT); /* bit 63 is clear */
    assert_int_equal(pin(map, GRANT(UINT32_MAX) + PAGE - 1, 2, iov, 2, &p), -EFAULT);
    assert_int_equal(pin(map, GRANT(UINT64_C(1) << 32), 1, iov, 2, &p), -EFAULT);
    assert_int_equal(pin(map, GW_GRANT_ADDRESS + all - 1, 2, iov, 2, &p), -EFAULT);
    assert_int_equal(pin(map, GRANT(0), GW_PIN_COPY_MAX + 1, iov, 2, &p), -E2BIG);
    assert_int_equal(pin(map, GRANT(0), 1, iov, 0, &p), -E2BIG);
    assert_null(p.backend);
    assert_int_equal(pin(map, GRANT(0), GW_PIN_COPY_MAX, iov, 2, &p), 1);
    assert_false(fetch(&p, 1)); /* nothing is granted */
    gw_mem_unpin(&p);
    gw_map_free(map);
}

/* ---- cached mappings of grants ---- */

static struct gw_map *cached_map(unsigned cache_pages)
{
    struct gw_region_desc desc = {.gpa = GRANT(0),
                                  .size = 4096 * PAGE,
                                  .uva = 0x10000000,
                                  .flags = GW_REGION_GRANT | GW_REGION_NO_ADVANCE,
                                  .domid = XEN_STUB_DOMID,
                                  .cache_pages = cache_pages};
    struct gw_region *region;
    struct gw_map *map;

    xen_stub_grant(0, 0, 4096);
    assert_int_equal(gw_region_new(&region, &desc, device_node()), 0);
    assert_int_equal(gw_map_new(&map, &region, 1), 0);
    gw_region_put(region);
    return map;
}

static void test_mem_xen_cached_grant_is_mapped_once(void **state)
{
    struct gw_map *map = cached_map(16);
    struct iovec iov[8];
    struct gw_pin a, b;

    for (unsigned i = 0; i < 20; i++) {
        unsigned at = i % 2 ? 0 : 1; /* the second page, or both */

        /* Pages mapped separately may or may not be adjacent. */
        assert_true(pin(map, GRANT(8 + at) + 100, 4096 * (2 - at), iov, 8, &a) > 0);
        xen_stub.memory[(8 + at) * PAGE + 100] = (uint8_t)i;
        assert_int_equal(*(uint8_t *)iov[0].iov_base, i);
        *(uint8_t *)iov[0].iov_base = 99;
        assert_int_equal(xen_stub.memory[(8 + at) * PAGE + 100], 99);
        /* The same with two requests at a time. */
        assert_int_equal(pin(map, GRANT(9), 10, iov, 8, &b), 1);
        assert_true(fetch(&a, 1) && store(&a, 0));
        gw_mem_unpin(&a);
        gw_mem_unpin(&b);
    }
    assert_int_equal(xen_stub.n_calls[XEN_STUB_GRANT_COPY], 0);
    assert_int_equal(xen_stub.n_calls[XEN_STUB_GRANT_MAP], 2); /* pages 9 and 10; page 8 */
    assert_int_equal(xen_stub.n_grant_pages, 3);
    gw_map_free(map);
    assert_int_equal(xen_stub.n_grant_pages, 0);
}

static void test_mem_xen_cache_is_bounded(void **state)
{
    struct gw_map *map = cached_map(8);
    struct gw_pin held[4];
    struct iovec iov[4][8];
    struct gw_pin p;
    int n;

    for (unsigned i = 0; i < 200; i++) {
        unsigned ref = i * 7 % 64;

        assert_int_equal(pin(map, GRANT(ref), 2 * PAGE, iov[0], 8, &p) > 0, true);
        assert_true(xen_stub.n_grant_pages <= 8);
        *(uint8_t *)iov[0][0].iov_base = (uint8_t)i;
        assert_int_equal(xen_stub.memory[ref * PAGE], (uint8_t)i);
        gw_mem_unpin(&p);
    }
    assert_int_equal(xen_stub.n_calls[XEN_STUB_GRANT_COPY], 0);
    /* Mappings in use stay; requests without a place in the cache use copies. */
    for (unsigned i = 0; i < 4; i++) {
        assert_true(pin(map, GRANT(100 + 2 * i), 2 * PAGE, iov[i], 8, &held[i]) > 0);
        *(uint8_t *)iov[i][0].iov_base = (uint8_t)(200 + i);
    }
    assert_int_equal(pin(map, GRANT(300), PAGE, iov[0], 8, &p), 1);
    assert_true(fetch(&p, 1));
    assert_int_equal(xen_stub.n_calls[XEN_STUB_GRANT_COPY], 1);
    gw_mem_unpin(&p);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(xen_stub.memory[(100 + 2 * i) * PAGE], 200 + i);
        gw_mem_unpin(&held[i]);
    }
    /* Pages mapped separately are adjacent only by chance. */
    assert_int_equal(pin(map, GRANT(400), PAGE, iov[0], 8, &p), 1);
    gw_mem_unpin(&p);
    assert_int_equal(pin(map, GRANT(401), PAGE, iov[0], 8, &p), 1);
    gw_mem_unpin(&p);
    n = pin(map, GRANT(400), 2 * PAGE, iov[0], 8, &p);
    gw_mem_unpin(&p);
    assert_true(n == 1 || n == 2);
    assert_int_equal(pin(map, GRANT(400), 2 * PAGE, iov[0], 1, &p), n == 1 ? 1 : -E2BIG);
    assert_true(!p.backend == (n == 2));
    gw_mem_unpin(&p);
    gw_map_free(map);
}

static void test_mem_xen_what_cannot_stay_mapped_is_copied(void **state)
{
    static struct iovec iov[1024];
    struct gw_map *map = cached_map(64);
    struct gw_pin p;

    xen_stub.grants[8].read_only = true;
    xen_stub.memory[8 * PAGE] = 5;
    assert_int_equal(pin(map, GRANT(8), PAGE, iov, 8, &p), 1);
    assert_true(fetch(&p, 1));
    assert_int_equal(*(uint8_t *)iov[0].iov_base, 5);
    gw_mem_unpin(&p);
    assert_int_equal(pin(map, GRANT(9), 100 * PAGE, iov, 1024, &p),
                     1); /* exceeds the limit of the cache */
    assert_true(fetch(&p, 1));
    gw_mem_unpin(&p);
    xen_stub.grants[300].valid = false;
    assert_int_equal(pin(map, GRANT(299), 2 * PAGE, iov, 1024, &p), 1);
    assert_false(fetch(&p, 1));
    gw_mem_unpin(&p);
    assert_int_equal(xen_stub.n_grant_pages, 0);
    gw_map_free(map);
}

/* The extents of a chain may be in regions of any kind. */
static void test_mem_xen_extents_go_over_regions_of_all_kinds(void **state)
{
    struct gw_region_desc descs[] = {
        {.gpa = 8 * PAGE, .size = 2 * PAGE, .flags = GW_REGION_FOREIGN},
        {.gpa = GRANT(0), .size = 2 * PAGE, .flags = GW_REGION_GRANT},
        {.gpa = GRANT(2), .size = 60 * PAGE, .flags = GW_REGION_GRANT | GW_REGION_NO_ADVANCE},
    };
    struct gw_extent extents[] = {{8 * PAGE, 2 * PAGE}, {GRANT(1), 3 * PAGE}, {9 * PAGE, 1}};
    struct gw_region *regions[3];
    struct gw_map *map;
    struct iovec iov[8];
    struct gw_pin p;
    unsigned last = 0;

    xen_stub_grant(0, 100, 64);
    xen_stub.frame_errors[9] = EBUSY;
    for (unsigned i = 0; i < 3; i++) {
        descs[i].uva = i * 64 * PAGE;
        descs[i].domid = XEN_STUB_DOMID;
        assert_int_equal(gw_region_new(&regions[i], &descs[i], device_node()), 0);
    }
    assert_int_equal(gw_map_new(&map, regions, 3), 0);
    xen_stub.memory[8 * PAGE + 7] = 1;
    xen_stub.memory[101 * PAGE] = 2;
    xen_stub.memory[103 * PAGE + 1] = 3;
    extents[0].len = PAGE; /* up to the gap */
    assert_int_equal(gw_mem_pin(map, &last, extents, 2, iov, 8, &p), 3);
    assert_true(fetch(&p, 2));
    assert_int_equal(((uint8_t *)iov[0].iov_base)[7], 1);
    assert_int_equal(((uint8_t *)iov[1].iov_base)[0], 2);
    assert_int_equal(((uint8_t *)iov[2].iov_base)[PAGE + 1], 3);
    /* If a completion cannot be stored, all of its pages become void, in all regions. */
    xen_stub.grants[3].valid = false;
    ((uint8_t *)iov[1].iov_base)[0] = 0;
    assert_false(store(&p, 1));
    assert_int_equal(xen_stub.memory[101 * PAGE], 0xff);
    assert_int_equal(xen_stub.memory[102 * PAGE - 1], 0xff);
    assert_int_equal(xen_stub.memory[103 * PAGE - 1], 0xff);
    assert_int_equal(xen_stub.memory[103 * PAGE + 1], 3); /* not part of the request */
    assert_int_equal(xen_stub.memory[8 * PAGE + 7], 1);   /* only read */
    gw_mem_unpin(&p);
    assert_int_equal(gw_mem_pin(map, &last, extents, 3, iov, 8, &p), -EFAULT);
    assert_null(p.backend);
    gw_map_free(map);
    for (unsigned i = 0; i < 3; i++)
        gw_region_put(regions[i]);
}

static void test_mem_xen_ring_is_mapped_while_it_is_held(void **state)
{
    struct gw_map *map = map_of(GW_REGION_GRANT | GW_REGION_NO_ADVANCE, GRANT(8), 64 * PAGE);
    struct gw_pin p;
    gw_gpa_t gpa;
    uint8_t *at;

    assert_null(gw_map_pin_uva(map, 0x10000000, PAGE, &gpa, &p));
    assert_non_null(strstr(gw_last_error(), "grants 8 to 8 of domain 7 cannot be mapped"));
    assert_null(p.backend);
    xen_stub_grant(8, 100, 3);
    at = gw_map_pin_uva(map, 0x10000000 + 16, 2 * PAGE, &gpa, &p);
    assert_non_null(at);
    assert_int_equal(gpa, GRANT(8) + 16);
    assert_int_equal(xen_stub.n_grant_pages, 3);
    at[2 * PAGE - 1] = 77;
    assert_int_equal(xen_stub.memory[102 * PAGE + 15], 77);
    gw_mem_unpin(&p);
    assert_int_equal(xen_stub.n_grant_pages, 0);
    assert_int_equal(xen_stub.n_calls[XEN_STUB_GRANT_UNMAP], 1);
    for (unsigned bad = 8; bad < 11; bad++) {
        xen_stub_grant(8, 100, 3);
        xen_stub.grants[bad].read_only = true; /* the range needs write access */
        assert_null(gw_map_pin_uva(map, 0x10000000 + 16, 2 * PAGE, &gpa, &p));
    }
    gw_map_free(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        XEN_TEST(test_mem_xen_impossible_region_is_refused),
        XEN_TEST(test_mem_xen_region_larger_than_memory_is_refused),
        XEN_TEST(test_mem_xen_missing_device_nodes_are_told),
        XEN_TEST(test_mem_xen_foreign_region_is_the_domain_s_memory),
        XEN_TEST(test_mem_xen_foreign_region_begins_and_ends_anywhere),
        XEN_TEST(test_mem_xen_missing_frame_is_a_hole_wherever_it_is),
        XEN_TEST(test_mem_xen_region_of_holes_is_refused),
        XEN_TEST(test_mem_xen_paged_out_frame_is_waited_for),
        XEN_TEST(test_mem_xen_grants_are_mapped_by_one_call),
        XEN_TEST(test_mem_xen_bad_grant_is_refused_wherever_it_is),
        XEN_TEST(test_mem_xen_copies_go_both_ways),
        XEN_TEST(test_mem_xen_bad_grant_of_a_batch_is_its_chain_s),
        XEN_TEST(test_mem_xen_what_cannot_be_made_void_is_told),
        XEN_TEST(test_mem_xen_failed_copy_is_told_of_every_chain),
        XEN_TEST(test_mem_xen_extents_without_grants_are_refused),
        XEN_TEST(test_mem_xen_cached_grant_is_mapped_once),
        XEN_TEST(test_mem_xen_cache_is_bounded),
        XEN_TEST(test_mem_xen_what_cannot_stay_mapped_is_copied),
        XEN_TEST(test_mem_xen_extents_go_over_regions_of_all_kinds),
        XEN_TEST(test_mem_xen_ring_is_mapped_while_it_is_held),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
