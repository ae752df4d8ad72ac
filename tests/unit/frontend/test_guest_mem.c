/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Guest memory of the front-end: regions and gaps, files at odd offsets, user addresses,
 * allocation, and clones. Uses real memfds, and huge pages if the machine has some.
 */
#include "fdcheck.h"

#include <godwit/frontend/frontend.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define UVA_BASE UINT64_C(0x500000000000)

static struct gw_guest_mem *new_mem(gw_uva_t uva_base)
{
    struct gw_guest_mem *m;

    assert_int_equal(gw_guest_mem_new(&m, uva_base), 0);
    return m;
}

static int add(struct gw_guest_mem *m, gw_gpa_t gpa, uint64_t length)
{
    const struct gw_guest_region r = {.gpa = gpa, .length = length};

    return gw_guest_mem_add(m, &r);
}

static void test_guest_mem_regions_may_touch_but_not_overlap(void **state)
{
    struct gw_guest_mem *m = new_mem(UVA_BASE);
    struct gw_guest_region r;

    assert_int_equal(add(m, 0x3000, 0x1000), 0);
    assert_int_equal(add(m, 0x1000, 0x1000), 0);
    assert_int_equal(add(m, 0x2000, 0x1000), 0);
    assert_int_equal(add(m, 0x2fff, 1), -EEXIST);
    assert_int_equal(add(m, 0, 0x1001), -EEXIST);
    assert_int_equal(add(m, 0, 0x10000), -EEXIST);
    assert_int_equal(add(m, 0x1800, 0x100), -EEXIST);
    assert_int_equal(add(m, 0x8000, 0), -EINVAL);
    assert_int_equal(add(m, UINT64_MAX - 0xfff, 0x2000), -EINVAL);
    assert_int_equal(add(m, UINT64_MAX - UVA_BASE, 0x1000), -EINVAL);
    assert_int_equal(gw_guest_mem_count(m), 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(gw_guest_mem_region(m, i, &r), 0);
        assert_true(r.gpa == 0x1000 * (i + 1) && r.uva == UVA_BASE + r.gpa && r.fd >= 0);
        assert_int_equal(fcntl(r.fd, F_GETFD), FD_CLOEXEC);
    }
    assert_int_equal(gw_guest_mem_region(m, 3, &r), -ENOENT);
    assert_int_equal(gw_guest_mem_remove(m, 0x2000), 0);
    assert_int_equal(gw_guest_mem_remove(m, 0x2000), -ENOENT);
    assert_null(gw_guest_mem_at(m, 0x2000, 1));
    assert_int_equal(gw_guest_mem_uva(m, 0x2000), 0);
    assert_int_equal(add(m, 0x2000, 0x1000), 0);
    gw_guest_mem_free(m);
}

static void test_guest_mem_pointers_end_with_their_region(void **state)
{
    struct gw_guest_mem *m = new_mem(GW_GUEST_UVA_HOST);
    char *p;

    assert_int_equal(add(m, 0x1000, 0x1000), 0);
    assert_int_equal(add(m, 0x2000, 0x1000), 0);
    p = gw_guest_mem_at(m, 0x1000, 0x1000);
    assert_non_null(p);
    memset(p, 1, 0x1000);
    assert_ptr_equal(gw_guest_mem_at(m, 0x1fff, 1), p + 0xfff);
    assert_true(gw_guest_mem_uva(m, 0x1fff) == (uintptr_t)p + 0xfff);
    assert_null(gw_guest_mem_at(m, 0x1fff, 2)); /* adjacent regions do not merge */
    assert_null(gw_guest_mem_at(m, 0x1000, UINT64_MAX));
    assert_null(gw_guest_mem_at(m, 0xfff, 1));
    assert_null(gw_guest_mem_at(m, 0x3000, 1));
    gw_guest_mem_free(m);
}

/* The region is in the file exactly at the offset that the messages announce. */
static void test_guest_mem_file_offsets_need_not_be_aligned(void **state)
{
    const gw_off_t offsets[] = {0, 1, 0x1000, 0x1234, 0x200000, 0x3fffff};
    struct gw_guest_mem *m = new_mem(UVA_BASE);
    int fd = memfd_create("file", MFD_CLOEXEC);
    char back[5];

    assert_int_equal(ftruncate(fd, 0x400000 + 0x1000), 0);
    for (unsigned i = 0; i < 6; i++) {
        struct gw_guest_region r = {.kind = GW_GUEST_FD,
                                    .gpa = 0x1000000 * i,
                                    .length = 0x1000,
                                    .offset = offsets[i],
                                    .fd = fd};

        assert_int_equal(gw_guest_mem_add(m, &r), 0);
        memcpy(gw_guest_mem_at(m, r.gpa, 5), "hello", 5);
        assert_int_equal(pread(fd, back, 5, (off_t)offsets[i]), 5);
        assert_memory_equal(back, "hello", 5);
        assert_int_equal(gw_guest_mem_region(m, i, &r), 0);
        assert_int_equal(r.offset, offsets[i]);
        r = (struct gw_guest_region){.gpa = r.gpa + 0x800000, .length = 777, .offset = offsets[i]};
        assert_int_equal(gw_guest_mem_add(m, &r), 0);
        memset(gw_guest_mem_at(m, r.gpa, 777), 1, 777);
        assert_int_equal(gw_guest_mem_remove(m, r.gpa), 0);
    }
    /* Beyond the end of the file, an access would raise SIGBUS. */
    const struct gw_guest_region beyond = {
        .kind = GW_GUEST_FD, .gpa = 1, .length = 0x1000, .offset = 0x400001, .fd = fd};
    assert_int_equal(gw_guest_mem_add(m, &beyond), -EEXIST);
    gw_guest_mem_remove(m, 0);
    assert_int_equal(gw_guest_mem_add(m, &beyond), -EINVAL);
    gw_guest_mem_free(m);
    close(fd);
}

static void expect_sealed(const struct gw_guest_mem *m)
{
    struct gw_guest_region r;

    assert_int_equal(gw_guest_mem_region(m, 0, &r), 0);
    assert_int_equal(ftruncate(r.fd, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(r.fd, 0x800000), -1);
    assert_int_equal(fcntl(r.fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

/* Otherwise a back-end that truncates the file would kill all processes that map it. */
static void test_guest_mem_can_neither_shrink_nor_grow(void **state)
{
    static const enum gw_guest_region_kind kinds[] = {GW_GUEST_MEMFD, GW_GUEST_HUGETLB};

    for (unsigned i = 0; i < 2; i++) {
        const struct gw_guest_region r = {.kind = kinds[i], .gpa = 0x200000, .length = 0x200000};
        struct gw_guest_mem *m = new_mem(UVA_BASE), *clone;

        if (gw_guest_mem_add(m, &r) == 0) {
            expect_sealed(m);
            if (gw_guest_mem_clone(&clone, m, UVA_BASE) == 0) {
                expect_sealed(clone);
                gw_guest_mem_free(clone);
            }
        } else {
            assert_int_equal(kinds[i], GW_GUEST_HUGETLB); /* no huge pages on this machine */
        }
        gw_guest_mem_free(m);
    }
}

static void test_guest_mem_huge_pages_work_or_are_refused(void **state)
{
    const struct gw_guest_region r = {
        .kind = GW_GUEST_HUGETLB, .gpa = 0x200000, .length = 0x200000, .offset = 0x1000};
    struct gw_guest_mem *m = new_mem(UVA_BASE);
    int e = gw_guest_mem_add(m, &r);

    assert_true(e == 0 || e == -ENOMEM);
    if (e == 0)
        memset(gw_guest_mem_at(m, r.gpa, r.length), 1, r.length);
    assert_int_equal(gw_guest_mem_count(m), e == 0);
    gw_guest_mem_free(m);
}

static void test_guest_mem_allocations_never_overlap(void **state)
{
    struct {
        gw_gpa_t gpa;
        uint64_t len;
    } held[64] = {{0, 0}};
    struct gw_guest_mem *m = new_mem(UVA_BASE);
    const struct gw_guest_region reserved = {.gpa = 0x900000, .length = 0x1000, .no_alloc = true};
    gw_gpa_t gpa;

    assert_int_equal(add(m, 0x1001, 0x2fff), 0);
    assert_int_equal(add(m, 0x4000, 0x10000), 0);
    assert_int_equal(gw_guest_mem_add(m, &reserved), 0);
    assert_int_equal(gw_guest_mem_alloc(m, 0, 1, &gpa), -EINVAL);
    assert_int_equal(gw_guest_mem_alloc(m, 1, 3, &gpa), -EINVAL);
    assert_int_equal(gw_guest_mem_alloc(m, 1, 0, &gpa), -EINVAL);
    assert_int_equal(gw_guest_mem_alloc(m, 0x10001, 1, &gpa), -ENOSPC);
    srand(2);
    for (unsigned n = 0; n < 20000; n++) {
        unsigned k = (unsigned)rand() % 64;
        uint64_t len = 1 + (unsigned)rand() % 3000, align = 1u << rand() % 13;
        unsigned char *p;

        if (held[k].len) {
            p = gw_guest_mem_at(m, held[k].gpa, held[k].len);
            for (uint64_t i = 0; i < held[k].len; i++)
                assert_int_equal(p[i], k + 1);
            gw_guest_mem_release(m, held[k].gpa, held[k].len);
            held[k].len = 0;
        } else if (gw_guest_mem_alloc(m, len, align, &gpa) == 0) {
            assert_int_equal(gpa % align, 0);
            p = gw_guest_mem_at(m, gpa, len);
            assert_non_null(p);
            for (uint64_t i = 0; i < len; i++)
                assert_int_equal(p[i], 0);
            memset(p, (int)k + 1, len);
            held[k].gpa = gpa;
            held[k].len = len;
        }
    }
    for (unsigned k = 0; k < 64; k++) {
        if (held[k].len)
            gw_guest_mem_release(m, held[k].gpa, held[k].len);
    }
    /* The allocator lost nothing in between. */
    assert_int_equal(gw_guest_mem_alloc(m, 0x2fff, 1, &gpa), 0);
    assert_int_equal(gw_guest_mem_alloc(m, 0x10000, 1, &gpa), 0);
    assert_int_equal(gw_guest_mem_alloc(m, 1, 1, &gpa), -ENOSPC);
    gw_guest_mem_free(m);
}

static void test_guest_mem_clone_has_the_same_shape(void **state)
{
    const struct gw_guest_region r = {.gpa = 0x10000, .length = 0x2000, .offset = 0x123};
    struct gw_guest_mem *m = new_mem(UVA_BASE), *c;
    struct gw_guest_region a, b;
    gw_gpa_t first, second, third;

    assert_int_equal(gw_guest_mem_add(m, &r), 0);
    assert_int_equal(add(m, 0x1000, 0x1000), 0);
    assert_int_equal(gw_guest_mem_alloc(m, 0x800, 1, &first), 0);
    memset(gw_guest_mem_at(m, 0x1000, 0x1000), 7, 0x1000);
    assert_int_equal(gw_guest_mem_clone(&c, m, 0x1000), 0);
    assert_int_equal(gw_guest_mem_count(c), 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(gw_guest_mem_region(m, i, &a), 0);
        assert_int_equal(gw_guest_mem_region(c, i, &b), 0);
        assert_true(a.gpa == b.gpa && a.length == b.length && a.offset == b.offset);
        assert_true(a.fd != b.fd && b.uva == 0x1000 + b.gpa);
    }
    assert_int_equal(*(char *)gw_guest_mem_at(c, 0x1000, 1), 0);
    assert_int_equal(gw_guest_mem_alloc(m, 0x800, 1, &second), 0);
    assert_int_equal(gw_guest_mem_alloc(c, 0x800, 1, &third), 0);
    assert_true(second == third && second != first);
    gw_guest_mem_free(m);
    gw_guest_mem_free(c);
}

/* Memory of the caller is neither mapped nor unmapped here; a clone has its own memory. */
static void test_guest_mem_mapped_by_the_caller_stays_the_callers(void **state)
{
    static char memory[0x2000];
    struct gw_guest_region r = {.kind = GW_GUEST_MAPPED,
                                .gpa = UINT64_C(1) << 63,
                                .length = sizeof(memory),
                                .fd = -1,
                                .host = memory,
                                .xen = GW_GUEST_XEN_GRANT,
                                .domid = 3};
    struct gw_guest_mem *m = new_mem(GW_GUEST_UVA_HOST), *clone;
    gw_gpa_t gpa;

    assert_int_equal(gw_guest_mem_add(m, &r), 0);
    assert_ptr_equal(gw_guest_mem_at(m, r.gpa + 0x1fff, 1), memory + 0x1fff);
    assert_int_equal(gw_guest_mem_alloc(m, 0x1000, 0x1000, &gpa), 0);
    assert_int_equal(gpa, r.gpa);
    assert_int_equal(gw_guest_mem_clone(&clone, m, GW_GUEST_UVA_HOST), 0);
    assert_int_equal(gw_guest_mem_region(clone, 0, &r), 0);
    assert_true(r.kind == GW_GUEST_MEMFD && r.fd >= 0 && r.xen == 0 && r.domid == 0);
    memset(gw_guest_mem_at(clone, gpa, 0x1000), 1, 0x1000);
    gw_guest_mem_free(clone);
    gw_guest_mem_free(m);
    assert_int_equal(memory[0], 0);
}

static void test_guest_mem_mapped_needs_its_place(void **state)
{
    struct gw_guest_region r = {.kind = GW_GUEST_MAPPED, .length = 0x1000, .fd = -1};
    struct gw_guest_mem *m = new_mem(GW_GUEST_UVA_HOST);
    static char memory[0x1000];

    assert_int_equal(gw_guest_mem_add(m, &r), -EINVAL);
    r.host = memory;
    r.offset = 1;
    assert_int_equal(gw_guest_mem_add(m, &r), -EINVAL);
    r.offset = 0;
    r.fd = 1 << 20;
    assert_int_equal(gw_guest_mem_add(m, &r), -EBADF);
    assert_int_equal(gw_guest_mem_count(m), 0);
    gw_guest_mem_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_guest_mem_regions_may_touch_but_not_overlap),
        FDCHECK_TEST(test_guest_mem_pointers_end_with_their_region),
        FDCHECK_TEST(test_guest_mem_file_offsets_need_not_be_aligned),
        FDCHECK_TEST(test_guest_mem_can_neither_shrink_nor_grow),
        FDCHECK_TEST(test_guest_mem_huge_pages_work_or_are_refused),
        FDCHECK_TEST(test_guest_mem_allocations_never_overlap),
        FDCHECK_TEST(test_guest_mem_clone_has_the_same_shape),
        FDCHECK_TEST(test_guest_mem_mapped_by_the_caller_stays_the_callers),
        FDCHECK_TEST(test_guest_mem_mapped_needs_its_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
