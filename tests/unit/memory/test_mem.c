/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Regions of real memfds, and maps of them: lookup and pins. */
#include "fdcheck.h"

#include "base/log_i.h"
#include "core/memory/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE UINT64_C(4096)
#define UVA  UINT64_C(0x7f0000000000)

static int memory(uint64_t len)
{
    int fd = memfd_create("guest", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)len), 0);
    return fd;
}

static struct gw_region *region(gw_gpa_t gpa, uint64_t size, gw_uva_t uva)
{
    struct gw_region_desc desc = {.gpa = gpa, .size = size, .uva = uva};
    struct gw_region *r;

    assert_int_equal(gw_region_new(&r, &desc, memory(size)), 0);
    return r;
}

/* Create a map that owns its regions: drops the caller's references. */
static struct gw_map *map_of(struct gw_region **regions, unsigned n)
{
    struct gw_map *map;

    assert_int_equal(gw_map_new(&map, regions, n), 0);
    for (unsigned i = 0; i < n; i++)
        gw_region_put(regions[i]);
    return map;
}

static int make(gw_gpa_t gpa, uint64_t size, gw_uva_t uva, gw_off_t offset, int fd)
{
    struct gw_region_desc desc = {.gpa = gpa, .size = size, .uva = uva, .mmap_offset = offset};
    struct gw_region *r = NULL;
    int result = gw_region_new(&r, &desc, fd);

    if (result < 0)
        assert_null(r);
    else
        gw_region_put(r);
    return result;
}

/* These regions have permanent addresses, so the pin holds nothing and needs no release. */
static void *translate_uva(const struct gw_map *map, gw_uva_t uva, uint64_t len, gw_gpa_t *ret_gpa)
{
    struct gw_pin pin;
    void *at = gw_map_pin_uva(map, uva, len, ret_gpa, &pin);

    assert_null(pin.backend);
    return at;
}

/* ---- regions ---- */

static void test_mem_impossible_region_is_refused(void **state)
{
    assert_int_equal(make(0, 0, 0, 0, memory(PAGE)), -EINVAL);
    assert_non_null(strstr(gw_last_error(), "empty"));
    assert_int_equal(make(UINT64_MAX - PAGE + 2, PAGE, 0, 0, memory(PAGE)), -EINVAL);
    assert_non_null(strstr(gw_last_error(), "wraps around"));
    assert_int_equal(make(0, PAGE, UINT64_MAX - PAGE + 2, 0, memory(PAGE)), -EINVAL);
    assert_int_equal(make(0, PAGE, 0, INT64_MAX - PAGE + 1, memory(PAGE)), -EINVAL);
    assert_int_equal(make(0, PAGE, 0, UINT64_MAX, memory(PAGE)), -EINVAL);
    assert_int_equal(make(0, UINT64_C(1) << 63, 0, 0, memory(PAGE)), -EINVAL);
    assert_int_equal(make(0, UINT64_MAX, 0, 0, memory(PAGE)), -EINVAL);
    assert_int_equal(make(0, INT64_MAX, 0, 0, memory(PAGE)), -EINVAL); /* a short file */
}

static void test_mem_region_up_to_the_end_of_addresses_is_fine(void **state)
{
    gw_gpa_t gpa = -(2 * PAGE);
    struct gw_region *r = region(gpa, 2 * PAGE, gpa);
    struct gw_map *map = map_of(&r, 1);
    struct gw_extent last = {UINT64_MAX, 1}, beyond = {UINT64_MAX, 2}, all = {gpa, 2 * PAGE};
    struct iovec iov[2];
    struct gw_pin pin;
    unsigned cache = 0;

    assert_int_equal(gw_mem_pin(map, &cache, &last, 1, iov, 2, &pin), 1);
    assert_ptr_equal(iov[0].iov_base, map->entries[0].region->hva + 2 * PAGE - 1);
    assert_int_equal(gw_mem_pin(map, &cache, &beyond, 1, iov, 2, &pin), -EFAULT);
    assert_int_equal(gw_mem_pin(map, &cache, &all, 1, iov, 2, &pin), 1);
    assert_non_null(translate_uva(map, UINT64_MAX, 1, NULL));
    assert_null(translate_uva(map, UINT64_MAX, 2, NULL));
    gw_map_free(map);
}

/* An extent must not wrap from the end of the address space to a region at its start. */
static void test_mem_extent_does_not_wrap_around(void **state)
{
    struct gw_region *regions[] = {region(-PAGE, PAGE, UVA), region(0, PAGE, UVA + PAGE)};
    struct gw_map *map = map_of(regions, 2);
    struct gw_extent extent = {-PAGE, 2 * PAGE};
    struct iovec iov[4];
    struct gw_pin pin;
    unsigned cache = 0;

    assert_int_equal(gw_mem_pin(map, &cache, &extent, 1, iov, 4, &pin), -EFAULT);
    gw_map_free(map);
}

/* ---- maps ---- */

/* Consumes `b`. */
static void expect_together(struct gw_region *a, struct gw_region *b, bool swap, int r)
{
    struct gw_region *both[] = {swap ? b : a, swap ? a : b};
    struct gw_map *map = NULL;

    assert_int_equal(gw_map_new(&map, both, 2), r);
    assert_true(!map == (r < 0));
    gw_map_free(map);
    gw_region_put(b);
}

static void test_mem_overlapping_regions_are_refused(void **state)
{
    static const struct {
        gw_gpa_t gpa;
        uint64_t size;
        int r;
    } others[] = {
        {4 * PAGE, 4 * PAGE, -EEXIST},                       /* the same */
        {PAGE, 4 * PAGE, -EEXIST},                           /* into its front */
        {7 * PAGE, 4 * PAGE, -EEXIST},                       /* into its end */
        {5 * PAGE, PAGE, -EEXIST},                           /* inside */
        {PAGE, 16 * PAGE, -EEXIST},                          /* around */
        {7 * PAGE + PAGE - 1, 1, -EEXIST}, {0, 4 * PAGE, 0}, /* up to it */
        {8 * PAGE, 4 * PAGE, 0},                             /* behind it */
    };
    struct gw_region *regions[2] = {region(4 * PAGE, 4 * PAGE, UVA)};

    for (unsigned i = 0; i < GW_ARRAY_SIZE(others); i++)
        for (unsigned swap = 0; swap < 2; swap++) {
            struct gw_region *other = region(others[i].gpa, others[i].size, 0);

            expect_together(regions[0], other, swap, others[i].r);
            /* The same cases with user addresses instead of guest addresses. */
            other = region(64 * PAGE, others[i].size, UVA + others[i].gpa - 4 * PAGE);
            expect_together(regions[0], other, swap, others[i].r);
        }
    assert_int_equal(regions[0]->refs, 1); /* refused maps took no reference */
    gw_region_put(regions[0]);
}

/* A map reads only a region's description, so these regions need no memory. */
static void test_mem_more_than_the_limit_is_refused(void **state)
{
    const uint64_t half = (uint64_t)GW_MAP_TIB_MAX << 39;
    struct gw_region lower = {.desc = {.gpa = 0, .size = half, .uva = 0}, .refs = 1};
    struct gw_region upper = {.desc = {.gpa = half, .size = half, .uva = half}, .refs = 1};
    struct gw_region page = {.desc = {.gpa = 4 * half, .size = PAGE, .uva = 4 * half}, .refs = 1};
    struct gw_region grants = {.desc = {.gpa = GW_GRANT_ADDRESS,
                                        .size = INT64_MAX,
                                        .uva = GW_GRANT_ADDRESS,
                                        .flags = GW_REGION_GRANT | GW_REGION_NO_ADVANCE},
                               .refs = 1};
    struct gw_region *regions[] = {&grants, &upper, &lower, &page};
    struct gw_map *map = NULL;

    assert_int_equal(gw_map_new(&map, regions, 4), -E2BIG);
    assert_non_null(strstr(gw_last_error(), "the limit of 32 TiB"));
    assert_null(map);
    assert_int_equal(gw_map_new(&map, regions, 3), 0);
    gw_map_free(map);
    upper.desc.size = UINT64_MAX; /* the sum must not overflow */
    assert_int_equal(gw_map_new(&map, regions, 4), -E2BIG);
    assert_int_equal(page.refs, 1);
    assert_int_equal(lower.refs, 1);
}

static void test_mem_empty_map_holds_nothing(void **state)
{
    struct gw_extent extent = {0, 1};
    struct iovec iov;
    struct gw_pin pin;
    struct gw_map *map;
    unsigned cache = 3;

    assert_int_equal(gw_map_new(&map, NULL, 0), 0);
    assert_null(gw_map_find(map, &cache, 0));
    assert_null(translate_uva(map, 0, 1, NULL));
    assert_int_equal(gw_mem_pin(map, &cache, &extent, 1, &iov, 1, &pin), -EFAULT);
    gw_map_free(map);
    gw_map_free(NULL);
}

static void test_mem_region_lives_as_long_as_its_last_map(void **state)
{
    struct gw_region *r = region(0, PAGE, UVA);
    struct gw_map *first, *second;

    assert_int_equal(gw_map_new(&first, &r, 1), 0);
    assert_int_equal(gw_map_new(&second, &r, 1), 0);
    gw_region_put(r);
    gw_map_free(first);
    second->entries[0].region->hva[0] = 1;
    gw_map_free(second);
}

static void test_mem_as_many_regions_as_there_can_be_are_found(void **state)
{
    static struct gw_region *regions[GW_MEM_SLOTS_MAX];
    struct gw_map *map;
    unsigned cache = 0;

    for (unsigned i = 0; i < GW_MEM_SLOTS_MAX; i++) {
        unsigned k = i * 7 % GW_MEM_SLOTS_MAX; /* unsorted; 509 is prime */

        regions[i] = region(k * 3 * PAGE, 2 * PAGE, UVA + k * 3 * PAGE);
    }
    map = map_of(regions, GW_MEM_SLOTS_MAX);
    for (unsigned k = 0; k < GW_MEM_SLOTS_MAX; k++) {
        gw_gpa_t gpa = k * 3 * PAGE;

        assert_ptr_equal(gw_map_find(map, &cache, gpa), &map->entries[k]);
        assert_int_equal(cache, k);
        assert_ptr_equal(gw_map_find(map, &cache, gpa + 2 * PAGE - 1), &map->entries[k]);
        assert_null(gw_map_find(map, &cache, gpa + 2 * PAGE));
        assert_null(gw_map_search(map, gpa + 3 * PAGE - 1));
        assert_ptr_equal(translate_uva(map, UVA + gpa + 5, 2 * PAGE - 5, NULL),
                         map->entries[k].region->hva + 5);
    }
    gw_map_free(map);
}

/* The cached index is only a hint. After a change of the map it may be out of range. */
static void test_mem_cache_of_another_map_does_no_harm(void **state)
{
    struct gw_region *many[3] = {region(0, PAGE, 0), region(PAGE, PAGE, PAGE),
                                 region(2 * PAGE, PAGE, 2 * PAGE)};
    struct gw_map *big = map_of(many, 3), *small;
    struct gw_region *one = region(PAGE, PAGE, PAGE);
    unsigned cache = 0;

    small = map_of(&one, 1);
    assert_non_null(gw_map_find(big, &cache, 2 * PAGE));
    assert_int_equal(cache, 2);
    assert_null(gw_map_find(small, &cache, 2 * PAGE));
    assert_ptr_equal(gw_map_find(small, &cache, PAGE), &small->entries[0]);
    assert_ptr_equal(gw_map_find(big, &cache, PAGE), &big->entries[1]);
    gw_map_free(big);
    gw_map_free(small);
}

static void test_mem_region_is_found_by_its_description(void **state)
{
    struct gw_region *r = region(PAGE, PAGE, UVA);
    struct gw_map *map = map_of(&r, 1);
    struct gw_region_desc desc = {.gpa = PAGE, .size = PAGE, .uva = UVA, .mmap_offset = 99};

    assert_ptr_equal(gw_map_find_desc(map, &desc), r); /* regardless of the offset */
    desc.uva++;
    assert_null(gw_map_find_desc(map, &desc));
    desc.uva = UVA;
    desc.size++;
    assert_null(gw_map_find_desc(map, &desc));
    desc.size = PAGE;
    desc.gpa++;
    assert_null(gw_map_find_desc(map, &desc));
    gw_map_free(map);
}

/* ---- pins ---- */

static void test_mem_extent_over_touching_regions_is_cut(void **state)
{
    struct gw_region *regions[] = {region(2 * PAGE, PAGE, UVA + PAGE), region(0, 2 * PAGE, 0),
                                   region(3 * PAGE, PAGE, 0x2000)};
    struct gw_map *map = map_of(regions, 3);
    struct gw_extent extents[] = {{PAGE, 2 * PAGE + 10}, {0, 1}};
    struct iovec iov[4];
    struct gw_pin pin;
    unsigned cache = 0;

    assert_int_equal(gw_mem_pin(map, &cache, extents, 2, iov, 4, &pin), 4);
    assert_ptr_equal(iov[0].iov_base, map->entries[0].region->hva + PAGE);
    assert_int_equal(iov[0].iov_len, PAGE);
    assert_ptr_equal(iov[1].iov_base, map->entries[1].region->hva);
    assert_int_equal(iov[1].iov_len, PAGE);
    assert_ptr_equal(iov[2].iov_base, map->entries[2].region->hva);
    assert_int_equal(iov[2].iov_len, 10);
    assert_ptr_equal(iov[3].iov_base, map->entries[0].region->hva);
    assert_int_equal(iov[3].iov_len, 1);
    gw_mem_unpin(&pin);
    assert_int_equal(gw_mem_pin(map, &cache, extents, 2, iov, 3, &pin), -E2BIG);
    assert_int_equal(gw_mem_pin(map, &cache, extents, 1, iov, 3, &pin), 3);
    extents[0].len = 3 * PAGE + 1; /* one byte beyond the last region */
    assert_int_equal(gw_mem_pin(map, &cache, extents, 1, iov, 4, &pin), -EFAULT);
    gw_map_free(map);
}

static void test_mem_extent_into_a_hole_is_refused(void **state)
{
    struct gw_region *regions[] = {region(0, PAGE, 0), region(2 * PAGE, PAGE, PAGE)};
    struct gw_map *map = map_of(regions, 2);
    static const struct gw_extent bad[] = {
        {PAGE, 1}, {PAGE - 1, 2}, {0, 3 * PAGE}, {2 * PAGE - 1, 2}, {3 * PAGE, 1}};
    struct iovec iov[4];
    struct gw_pin pin;
    unsigned cache = 0;

    for (unsigned i = 0; i < GW_ARRAY_SIZE(bad); i++)
        assert_int_equal(gw_mem_pin(map, &cache, &bad[i], 1, iov, 4, &pin), -EFAULT);
    gw_map_free(map);
}

static void test_mem_user_range_lies_in_one_region(void **state)
{
    struct gw_region *regions[] = {region(0, PAGE, UVA), region(PAGE, PAGE, UVA + PAGE)};
    struct gw_map *map = map_of(regions, 2);
    gw_gpa_t gpa = 0;

    assert_ptr_equal(translate_uva(map, UVA, PAGE, NULL), regions[0]->hva);
    assert_ptr_equal(translate_uva(map, UVA + PAGE, PAGE, &gpa), regions[1]->hva);
    assert_int_equal(gpa, regions[1]->desc.gpa);
    assert_ptr_equal(translate_uva(map, UVA + PAGE + 7, 9, &gpa), regions[1]->hva + 7);
    assert_int_equal(gpa, regions[1]->desc.gpa + 7);
    assert_null(translate_uva(map, UVA, PAGE + 1, NULL));
    assert_null(translate_uva(map, UVA + 1, PAGE, NULL));
    assert_null(translate_uva(map, UVA - 1, 1, NULL));
    assert_null(translate_uva(map, 0, 1, NULL)); /* 0 is only a guest address */
    gw_map_free(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_mem_impossible_region_is_refused),
        FDCHECK_TEST(test_mem_region_up_to_the_end_of_addresses_is_fine),
        FDCHECK_TEST(test_mem_extent_does_not_wrap_around),
        FDCHECK_TEST(test_mem_overlapping_regions_are_refused),
        FDCHECK_TEST(test_mem_more_than_the_limit_is_refused),
        FDCHECK_TEST(test_mem_empty_map_holds_nothing),
        FDCHECK_TEST(test_mem_region_lives_as_long_as_its_last_map),
        FDCHECK_TEST(test_mem_as_many_regions_as_there_can_be_are_found),
        FDCHECK_TEST(test_mem_cache_of_another_map_does_no_harm),
        FDCHECK_TEST(test_mem_region_is_found_by_its_description),
        FDCHECK_TEST(test_mem_extent_over_touching_regions_is_cut),
        FDCHECK_TEST(test_mem_extent_into_a_hole_is_refused),
        FDCHECK_TEST(test_mem_user_range_lies_in_one_region),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
