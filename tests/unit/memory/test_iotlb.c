/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Tables of translated addresses: changes, lookup and limits, and the list of misses. */
#include "fdcheck.h"

#include "base/log_i.h"
#include "base/random.h"
#include "core/memory/iotlb.h"
#include "core/memory/iotlb_misses.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE GW_IOTLB_PAGE
#define UVA  UINT64_C(0x7f0000000000)
#define GPA  UINT64_C(0x40000000)
#define IOVA UINT64_C(0xfff00000)
#define RW   GW_IOTLB_BOTH

struct fixture {
    struct gw_map *map; /* two regions of 64 pages, adjacent in user addresses only */
    struct gw_iotlb *t;
    struct gw_iotlb_cache cache;
};

static struct gw_region *region(gw_gpa_t gpa, uint64_t size, gw_uva_t uva)
{
    const struct gw_region_desc desc = {.gpa = gpa, .size = size, .uva = uva};
    int fd = memfd_create("guest", MFD_CLOEXEC);
    struct gw_region *r;

    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_int_equal(gw_region_new(&r, &desc, fd), 0);
    return r;
}

static void begin(struct fixture *f)
{
    struct gw_region *regions[] = {region(GPA, 64 * PAGE, UVA),
                                   region(2 * GPA, 64 * PAGE, UVA + 64 * PAGE)};

    memset(f, 0, sizeof(*f));
    assert_int_equal(gw_map_new(&f->map, regions, 2), 0);
    gw_region_put(regions[0]);
    gw_region_put(regions[1]);
    assert_int_equal(gw_iotlb_new(&f->t), 0);
}

static void end(struct fixture *f)
{
    gw_iotlb_free(f->t);
    gw_map_free(f->map);
}

static void use(struct fixture *f, struct gw_iotlb *t, gw_iova_t iova, uint64_t size)
{
    gw_iotlb_cache_drop(&f->cache, (struct gw_iova_range){iova, size});
    gw_iotlb_free(f->t);
    f->t = t;
}

static int update(struct fixture *f, gw_iova_t iova, uint64_t size, gw_uva_t uva, unsigned access)
{
    struct gw_iotlb *t;
    int r = gw_iotlb_update(&t, f->t, f->map, (struct gw_iova_range){iova, size}, uva, access);

    if (r == 0)
        use(f, t, iova, size);
    return r;
}

static int invalidate(struct fixture *f, gw_iova_t iova, uint64_t size)
{
    struct gw_iotlb *t;
    int r = gw_iotlb_invalidate(&t, f->t, (struct gw_iova_range){iova, size});

    if (r == 0)
        use(f, t, iova, size);
    return r;
}

/* Returns: as gw_iotlb_translate, of one extent. */
static int translate(struct fixture *f, gw_iova_t iova, uint32_t len, unsigned access,
                     struct gw_extent *ret, unsigned max)
{
    const struct gw_iova_extent e = {.iova = iova, .len = len};
    struct gw_iotlb_miss miss;

    return gw_iotlb_translate(f->t, &f->cache, &e, 1, access, ret, max, &miss);
}

static void expect_one(struct fixture *f, gw_iova_t iova, uint32_t len, gw_gpa_t gpa)
{
    struct gw_extent e[4];

    assert_int_equal(translate(f, iova, len, RW, e, 4), 1);
    assert_int_equal(e[0].gpa, gpa);
    assert_int_equal(e[0].len, len);
}

static void test_iotlb_entry_translates_its_bytes_only(void **state)
{
    struct gw_extent e[4];
    struct fixture f;

    begin(&f);
    assert_int_equal(update(&f, IOVA, PAGE, UVA + PAGE, RW), 0);
    expect_one(&f, IOVA, PAGE, GPA + PAGE);
    expect_one(&f, IOVA + 100, 8, GPA + PAGE + 100);
    expect_one(&f, IOVA + PAGE - 1, 1, GPA + 2 * PAGE - 1);
    assert_int_equal(translate(&f, IOVA - 1, 2, RW, e, 4), -EAGAIN);
    assert_int_equal(translate(&f, IOVA + PAGE - 1, 2, RW, e, 4), -EAGAIN);
    assert_int_equal(translate(&f, IOVA + PAGE, 1, RW, e, 4), -EAGAIN);
    assert_int_equal(translate(&f, IOVA, 0, RW, e, 4), -EFAULT);
    end(&f);
}

static void test_iotlb_extent_over_entries_becomes_pieces(void **state)
{
    struct gw_extent e[4];
    struct fixture f;

    begin(&f);
    assert_int_equal(update(&f, IOVA, PAGE, UVA, RW), 0);
    assert_int_equal(update(&f, IOVA + PAGE, PAGE, UVA + 8 * PAGE, RW), 0);
    assert_int_equal(update(&f, IOVA + 2 * PAGE, PAGE, UVA + 9 * PAGE, RW), 0);
    assert_int_equal(f.t->n_entries, 2); /* the last two continue each other */
    assert_int_equal(translate(&f, IOVA + 100, 2 * PAGE + 200, RW, e, 4), 2);
    assert_int_equal(e[0].gpa, GPA + 100);
    assert_int_equal(e[0].len, PAGE - 100);
    assert_int_equal(e[1].gpa, GPA + 8 * PAGE);
    assert_int_equal(e[1].len, PAGE + 300);
    assert_int_equal(translate(&f, IOVA + 100, 2 * PAGE + 200, RW, e, 1), -E2BIG);
    end(&f);
}

static void test_iotlb_entry_over_regions_is_split(void **state)
{
    struct gw_extent e[4];
    struct fixture f;

    begin(&f);
    assert_int_equal(update(&f, IOVA, 2 * PAGE, UVA + 63 * PAGE, RW), 0);
    assert_int_equal(f.t->n_entries, 2);
    assert_int_equal(translate(&f, IOVA, 2 * PAGE, RW, e, 4), 2);
    assert_int_equal(e[0].gpa, GPA + 63 * PAGE);
    assert_int_equal(e[1].gpa, 2 * GPA);
    end(&f);
}

static void test_iotlb_permissions_are_enforced(void **state)
{
    const struct gw_iova_extent two[] = {{IOVA, 8}, {IOVA + PAGE, 8}};
    struct gw_iotlb_miss miss;
    struct gw_extent e[4];
    struct fixture f;

    begin(&f);
    assert_int_equal(update(&f, IOVA, PAGE, UVA, GW_IOTLB_READ), 0);
    assert_int_equal(update(&f, IOVA + PAGE, PAGE, UVA, GW_IOTLB_WRITE), 0);
    assert_int_equal(translate(&f, IOVA, 8, GW_IOTLB_READ, e, 4), 1);
    assert_int_equal(translate(&f, IOVA, 8, GW_IOTLB_WRITE, e, 4), -EACCES);
    assert_int_equal(translate(&f, IOVA + PAGE, 8, GW_IOTLB_WRITE, e, 4), 1);
    assert_int_equal(translate(&f, IOVA + PAGE, 8, GW_IOTLB_READ, e, 4), -EACCES);
    assert_int_equal(gw_iotlb_translate(f.t, &f.cache, two, 2, GW_IOTLB_READ, e, 4, &miss),
                     -EACCES);
    assert_int_equal(miss.iova, IOVA + PAGE);
    assert_int_equal(miss.access, GW_IOTLB_READ);
    end(&f);
}

static void test_iotlb_impossible_entries_are_refused(void **state)
{
    struct fixture f;

    begin(&f);
    assert_int_equal(update(&f, IOVA, 0, UVA, RW), -EINVAL);
    assert_int_equal(update(&f, UINT64_MAX - PAGE + 2, PAGE, UVA, RW), -EINVAL);
    assert_non_null(strstr(gw_last_error(), "beyond the last address"));
    assert_int_equal(update(&f, IOVA, PAGE, UINT64_MAX - PAGE + 2, RW), -EINVAL);
    assert_int_equal(update(&f, IOVA, PAGE, UVA, 0), -EINVAL);
    assert_int_equal(update(&f, IOVA, PAGE, UVA, 4), -EINVAL);
    assert_int_equal(update(&f, IOVA, PAGE, UVA - 1, RW), -EFAULT);
    assert_int_equal(update(&f, IOVA, PAGE, UVA + 127 * PAGE + 1, RW), -EFAULT);
    assert_non_null(strstr(gw_last_error(), "not in guest memory"));
    assert_int_equal(update(&f, IOVA, UINT64_C(1) << 62, UVA, RW), -EFAULT);
    assert_int_equal(invalidate(&f, IOVA, 0), -EINVAL);
    assert_int_equal(invalidate(&f, UINT64_MAX, 2), -EINVAL);
    assert_int_equal(f.t->n_entries, 0);
    /* The last page of the address space is as good as any. */
    assert_int_equal(update(&f, UINT64_MAX - PAGE + 1, PAGE, UVA, RW), 0);
    expect_one(&f, UINT64_MAX, 1, GPA + PAGE - 1);
    assert_int_equal(invalidate(&f, 0, UINT64_MAX), 0);
    assert_int_equal(f.t->n_entries, 1); /* its last byte */
    assert_int_equal(invalidate(&f, UINT64_MAX, 1), 0);
    assert_int_equal(f.t->n_entries, 0);
    end(&f);
}

static void test_iotlb_flood_is_bounded_and_keeps_the_newest(void **state)
{
    struct gw_extent e[1];
    struct fixture f;

    begin(&f);
    for (uint64_t i = 0; i < 2 * GW_IOTLB_ENTRIES_MAX; i++) {
        assert_int_equal(update(&f, 3 * i * PAGE, PAGE, UVA + i % 64 * PAGE, RW), 0);
        assert_int_equal(translate(&f, 3 * i * PAGE, 8, RW, e, 1), 1);
        assert_int_equal(e[0].gpa, GPA + i % 64 * PAGE);
        assert_true(f.t->n_entries <= GW_IOTLB_ENTRIES_MAX);
    }
    assert_int_equal(f.t->n_entries, GW_IOTLB_ENTRIES_MAX);
    end(&f);
}

static void test_iotlb_forbidden_page_allows_nothing_until_it_is_mapped(void **state)
{
    struct gw_iotlb_miss misses[4];
    struct gw_iotlb *t;
    struct gw_extent e[1];
    struct fixture f;

    begin(&f);
    assert_int_equal(gw_iotlb_forbid(&t, f.t, (struct gw_iova_range){IOVA, PAGE}), 0);
    use(&f, t, IOVA, PAGE);
    assert_int_equal(translate(&f, IOVA, 1, GW_IOTLB_READ, e, 1), -EACCES);
    assert_int_equal(gw_iotlb_find_misses(f.t, (struct gw_iova_range){IOVA - PAGE, 2 * PAGE},
                                          GW_IOTLB_READ, misses, 4),
                     -EACCES);
    assert_int_equal(update(&f, IOVA, PAGE, UVA, GW_IOTLB_READ), 0);
    assert_int_equal(translate(&f, IOVA, 1, GW_IOTLB_READ, e, 1), 1);
    end(&f);
}

static void test_iotlb_misses_are_found_by_page(void **state)
{
    struct gw_iotlb_miss misses[4];
    struct fixture f;

    begin(&f);
    assert_int_equal(update(&f, IOVA + PAGE, PAGE, UVA, RW), 0);
    assert_int_equal(
        gw_iotlb_find_misses(f.t, (struct gw_iova_range){IOVA + 100, 3 * PAGE}, RW, misses, 4), 3);
    assert_int_equal(misses[0].iova, IOVA + 100);
    assert_int_equal(misses[1].iova, IOVA + 2 * PAGE);
    assert_int_equal(misses[2].iova, IOVA + 3 * PAGE);
    assert_int_equal(
        gw_iotlb_find_misses(f.t, (struct gw_iova_range){0, UINT64_MAX}, RW, misses, 4), 4);
    assert_int_equal(
        gw_iotlb_find_misses(f.t, (struct gw_iova_range){IOVA + PAGE, PAGE}, RW, misses, 4), 0);
    end(&f);
}

static void test_iotlb_range_must_be_contiguous_for_a_ring(void **state)
{
    struct gw_iotlb_miss miss;
    gw_gpa_t gpa = 0;
    struct fixture f;

    begin(&f);
    assert_int_equal(update(&f, IOVA, PAGE, UVA, RW), 0);
    assert_int_equal(update(&f, IOVA + PAGE, PAGE, UVA + PAGE, GW_IOTLB_READ), 0);
    assert_int_equal(update(&f, IOVA + 2 * PAGE, PAGE, UVA + 9 * PAGE, RW), 0);
    assert_int_equal(gw_iotlb_translate_range(f.t, (struct gw_iova_range){IOVA + 8, 2 * PAGE - 8},
                                              GW_IOTLB_READ, &gpa, &miss),
                     0);
    assert_int_equal(gpa, GPA + 8);
    assert_int_equal(gw_iotlb_translate_range(f.t, (struct gw_iova_range){IOVA + 8, 2 * PAGE - 8},
                                              RW, &gpa, &miss),
                     -EACCES);
    assert_int_equal(gw_iotlb_translate_range(f.t, (struct gw_iova_range){IOVA, 3 * PAGE},
                                              GW_IOTLB_READ, &gpa, &miss),
                     -EFAULT);
    assert_non_null(strstr(gw_last_error(), "scattered"));
    assert_int_equal(gw_iotlb_translate_range(f.t, (struct gw_iova_range){IOVA, 4 * PAGE},
                                              GW_IOTLB_READ, &gpa, &miss),
                     -EAGAIN);
    assert_int_equal(miss.iova, IOVA + 3 * PAGE);
    end(&f);
}

static void test_iotlb_follows_the_regions_of_a_new_map(void **state)
{
    struct gw_region *moved;
    struct gw_map *map;
    struct gw_iotlb *t;
    struct gw_extent e[1];
    struct fixture f;

    begin(&f);
    assert_int_equal(update(&f, IOVA, PAGE, UVA + PAGE, RW), 0);
    assert_int_equal(update(&f, 0, PAGE, UVA + 64 * PAGE, RW), 0);
    moved = region(7 * GPA, 64 * PAGE, UVA);
    assert_int_equal(gw_map_new(&map, &moved, 1), 0);
    gw_region_put(moved);
    assert_int_equal(gw_iotlb_rebase(&t, f.t, map), 0);
    use(&f, t, 0, UINT64_MAX);
    expect_one(&f, IOVA, PAGE, 7 * GPA + PAGE);
    assert_int_equal(translate(&f, 0, 1, RW, e, 1), -EAGAIN); /* its region is gone */
    gw_map_free(map);
    end(&f);
}

/* ---- any sequence of changes ---- */

#define MODEL_PAGES 96u

static void expect_model(struct fixture *f, const uint64_t *gpas, const unsigned *access)
{
    for (unsigned i = 0; i < MODEL_PAGES; i++) {
        struct gw_extent e[1];
        int r = translate(f, IOVA + i * PAGE + 5, 7, GW_IOTLB_READ, e, 1);

        assert_int_equal(r, !access[i] ? -EAGAIN : access[i] & GW_IOTLB_READ ? 1 : -EACCES);
        if (r == 1)
            assert_int_equal(e[0].gpa, gpas[i] + 5);
    }
    for (unsigned i = 1; i < f->t->n_entries; i++)
        assert_true(f->t->entries[i - 1].iova + f->t->entries[i - 1].size <= f->t->entries[i].iova);
}

static void test_iotlb_random_changes_agree_with_a_model(void **state)
{
    uint64_t random = 7;
    uint64_t gpas[MODEL_PAGES] = {0};
    unsigned access[MODEL_PAGES] = {0};
    struct fixture f;

    begin(&f);
    for (unsigned round = 0; round < 3000; round++) {
        unsigned first = (unsigned)gw_random_below(&random, MODEL_PAGES);
        unsigned n = 1 + (unsigned)gw_random_below(&random, 8);
        unsigned from = (unsigned)gw_random_below(&random, 128 - 8);
        unsigned a = (unsigned)gw_random_below(&random, 4); /* 0: invalidate */

        n = n < MODEL_PAGES - first ? n : MODEL_PAGES - first;
        if (a)
            assert_int_equal(update(&f, IOVA + first * PAGE, n * PAGE, UVA + from * PAGE, a), 0);
        else
            assert_int_equal(invalidate(&f, IOVA + first * PAGE, n * PAGE), 0);
        for (unsigned i = 0; i < n; i++) {
            unsigned page = from + i;

            access[first + i] = a;
            gpas[first + i] = page < 64 ? GPA + page * PAGE : 2 * GPA + (page - 64) * PAGE;
        }
        expect_model(&f, gpas, access);
    }
    end(&f);
}

/* ---- misses ---- */

static unsigned n_wakes;

static void added(struct gw_iotlb_misses *m)
{
    n_wakes++;
}

static void add(struct gw_iotlb_misses *m, gw_iova_t iova, unsigned access, bool is_failure)
{
    gw_iotlb_misses_add(m, (struct gw_iotlb_miss){iova, access}, is_failure);
}

static void test_iotlb_misses_are_reported_once_and_bounded(void **state)
{
    struct gw_iotlb_report report;
    struct gw_iotlb_misses m;
    unsigned n = 0;

    n_wakes = 0;
    gw_iotlb_misses_init(&m, added);
    add(&m, IOVA + 5, RW, false);
    add(&m, IOVA + 900, GW_IOTLB_READ, false); /* of the same page */
    assert_int_equal(n_wakes, 1);
    assert_true(gw_iotlb_misses_first_new(&m, &report));
    assert_int_equal(report.miss.iova, IOVA);
    gw_iotlb_misses_sent(&m, &report, 1);
    assert_false(gw_iotlb_misses_first_new(&m, &report));
    add(&m, IOVA + 5, GW_IOTLB_READ, false);
    assert_int_equal(n_wakes, 1);
    for (uint64_t i = 1; i < 2 * GW_IOTLB_MISSES_MAX; i++)
        add(&m, IOVA + i * PAGE, RW, false);
    assert_int_equal(n_wakes, GW_IOTLB_MISSES_MAX);
    gw_iotlb_misses_answered(&m, (struct gw_iova_range){IOVA, 64 * PAGE});
    while (gw_iotlb_misses_first_new(&m, &report)) {
        gw_iotlb_misses_sent(&m, &report, 1);
        n++;
    }
    assert_int_equal(n, GW_IOTLB_MISSES_MAX - 64);
    add(&m, IOVA, RW, false);
    assert_true(gw_iotlb_misses_first_new(&m, &report));
    gw_iotlb_misses_done(&m);
}

static void test_iotlb_miss_without_an_answer_is_given_up_then_forgotten(void **state)
{
    struct gw_iotlb_report report;
    struct gw_iotlb_miss miss;
    struct gw_iotlb_misses m;

    gw_iotlb_misses_init(&m, added);
    add(&m, IOVA, RW, false);
    assert_true(gw_iotlb_misses_first_new(&m, &report));
    gw_iotlb_misses_sent(&m, &report, 100);
    assert_false(gw_iotlb_misses_give_up(&m, 100, 200, &miss));
    assert_true(gw_iotlb_misses_give_up(&m, 101, 200, &miss));
    assert_int_equal(miss.iova, IOVA);
    assert_false(gw_iotlb_misses_give_up(&m, 300, 300, &miss));
    assert_false(gw_iotlb_misses_forget(&m, 200, &miss));
    add(&m, IOVA, RW, false); /* not asked for again until then */
    assert_false(gw_iotlb_misses_first_new(&m, &report));
    assert_true(gw_iotlb_misses_forget(&m, 201, &miss));
    assert_int_equal(m.n, 0);
    gw_iotlb_misses_done(&m);
}

static void test_iotlb_failed_accesses_are_reported_once_a_second(void **state)
{
    struct gw_iotlb_report report;
    struct gw_iotlb_misses m;

    gw_iotlb_misses_init(&m, added);
    add(&m, IOVA + 5, GW_IOTLB_WRITE, true);
    add(&m, IOVA + 9, GW_IOTLB_WRITE, true);
    assert_int_equal(m.n, 1);
    assert_true(gw_iotlb_misses_first_new(&m, &report));
    assert_true(report.is_failure);
    assert_int_equal(report.miss.iova, IOVA + 5);
    gw_iotlb_misses_sent(&m, &report, 1);
    assert_int_equal(m.n, 0);
    add(&m, IOVA + 9, GW_IOTLB_WRITE, true);
    assert_int_equal(m.n, 0);
    gw_iotlb_misses_done(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_iotlb_entry_translates_its_bytes_only),
        FDCHECK_TEST(test_iotlb_extent_over_entries_becomes_pieces),
        FDCHECK_TEST(test_iotlb_entry_over_regions_is_split),
        FDCHECK_TEST(test_iotlb_permissions_are_enforced),
        FDCHECK_TEST(test_iotlb_impossible_entries_are_refused),
        FDCHECK_TEST(test_iotlb_flood_is_bounded_and_keeps_the_newest),
        FDCHECK_TEST(test_iotlb_forbidden_page_allows_nothing_until_it_is_mapped),
        FDCHECK_TEST(test_iotlb_misses_are_found_by_page),
        FDCHECK_TEST(test_iotlb_range_must_be_contiguous_for_a_ring),
        FDCHECK_TEST(test_iotlb_follows_the_regions_of_a_new_map),
        FDCHECK_TEST(test_iotlb_random_changes_agree_with_a_model),
        FDCHECK_TEST(test_iotlb_misses_are_reported_once_and_bounded),
        FDCHECK_TEST(test_iotlb_miss_without_an_answer_is_given_up_then_forgotten),
        FDCHECK_TEST(test_iotlb_failed_accesses_are_reported_once_a_second),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
