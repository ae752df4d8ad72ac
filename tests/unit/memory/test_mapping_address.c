/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Mappings at an address that a front-end chooses. If the address is free and harmless, the mapping
 * is there; otherwise it is at another address and works as well.
 */
#include "fdcheck.h"

#include "base/checked.h"
#include "base/log_i.h"
#include "core/memory/mapping.h"
#include "requires.h"

#include <alloca.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE  UINT64_C(4096)
#define HUGE  (UINT64_C(2) << 20)
#define PAGES 4u
#define LOW   (UINT64_C(4) << 30) /* no chosen address may be below */
#define TERA  (UINT64_C(1) << 40)

/* Simulates a kernel before 4.17, which ignores MAP_FIXED_NOREPLACE and treats `at` as a hint. */
static bool is_old_kernel;

void *__real_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t offset);

void *__wrap_mmap64(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
    if (is_old_kernel)
        flags &= ~MAP_FIXED_NOREPLACE;
    return __real_mmap64(at, len, prot, flags, fd, offset);
}

static int memory(uint64_t len, unsigned flags)
{
    int fd = memfd_create("shared", MFD_CLOEXEC | flags);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)len), 0);
    return fd;
}

/* A free address, far from those that the kernel, valgrind and the sanitizers choose. */
static uintptr_t free_address(void)
{
    if (is_under_valgrind())
        return UINT64_C(0x800000000);
    return is_under_tsan() ? UINT64_C(0x7f0000000000) : UINT64_C(0x7a0000000000);
}

/* Create another mapping at the address. Returns: success. */
static bool occupy(uintptr_t at, uint64_t len)
{
    return mmap((void *)at, len, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1,
                0) == (void *)at;
}

/* Map the file from `offset` to its end. Returns: is the mapping at address `at`? */
static bool map_at(int fd, gw_off_t offset, uint64_t size, uintptr_t at)
{
    struct gw_mapping m;
    uint8_t byte = 0;
    bool is_there;

    memset(&m, 0, sizeof(m));
    assert_int_equal(
        gw_mapping_init_at(&m, "the test's memory", fd, offset, size, MAP_NORESERVE, at), 0);
    /* At any address, the mapping must show the first and the last byte of the piece. */
    m.at[0] = 0x5a;
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    assert_int_equal(byte, 0x5a);
    m.at[size - 1] = 0xa5;
    assert_int_equal(pread(fd, &byte, 1, (off_t)(offset + size - 1)), 1);
    assert_int_equal(byte, 0xa5);
    is_there = m.at == (uint8_t *)at;
    gw_mapping_done(&m);
    return is_there;
}

static void assert_there(int fd, gw_off_t offset, uint64_t size, uintptr_t at)
{
    assert_int_equal(map_at(fd, offset, size, at), !is_under_tsan()); /* see mapping.c */
}

static void test_mapping_address_that_is_free_is_taken(void **state)
{
    static const gw_off_t offsets[] = {0, 1, 0x800, PAGE, PAGE + 17};
    int fd = memory(PAGES * PAGE, 0);

    for (unsigned i = 0; i < GW_ARRAY_SIZE(offsets); i++) {
        uint64_t size = PAGES * PAGE - offsets[i];
        uintptr_t at = free_address() + offsets[i] % PAGE;

        /* Unmapping frees the address again. */
        assert_there(fd, offsets[i], size, at);
        assert_there(fd, offsets[i], size, at);
        assert_false(map_at(fd, offsets[i], size, at + 1));
        assert_false(map_at(fd, offsets[i], size, at + 0x10));
    }
    close(fd);
}

static void test_mapping_address_that_is_taken_is_left_alone(void **state)
{
    int fd = memory(PAGES * PAGE, 0);
    uintptr_t at = free_address();

    for (unsigned i = 0; i < PAGES; i++) { /* one occupied page is enough */
        uint8_t *other;

        assert_true(occupy(at + i * PAGE, PAGE));
        other = (uint8_t *)at + i * PAGE;
        assert_int_equal(mprotect(other, PAGE, PROT_READ | PROT_WRITE), 0);
        memset(other, 0x77, PAGE);
        assert_false(map_at(fd, 0, PAGES * PAGE, at));
        for (unsigned k = 0; k < PAGE; k++)
            assert_int_equal(other[k], 0x77);
        assert_int_equal(munmap(other, PAGE), 0);
    }
    assert_there(fd, 0, PAGES * PAGE, at);
    close(fd);
}

/* Refused even for root, who may map page 0. */
static void test_mapping_address_that_does_harm_is_refused(void **state)
{
    uintptr_t stack = (uintptr_t)&stack / PAGE * PAGE;
    const uintptr_t addresses[] = {
        0,
        PAGE,
        UINT64_C(0x10000),
        LOW - PAGE,
        LOW - PAGES * PAGE,
        stack - (UINT64_C(128) << 10), /* the stack must be able to grow there */
        stack - (UINT64_C(16) << 20),
        stack - (UINT64_C(512) << 20),
        stack + (UINT64_C(1) << 20),
        UINT64_C(0x7ffffffff000) - PAGES * PAGE,
        UINT64_C(0x7ffffffff000),
        UINT64_C(1) << 47,
        UINT64_C(1) << 48,
        UINT64_C(1) << 56,
        UINT64_C(1) << 63,
        UINT64_C(0xffffffffff600000), /* vsyscall */
        UINT64_MAX - PAGES * PAGE + 1,
        UINT64_MAX - PAGE + 1,
    };
    int fd = memory(PAGES * PAGE, 0);

    for (unsigned i = 0; i < GW_ARRAY_SIZE(addresses); i++)
        if (map_at(fd, 0, PAGES * PAGE, addresses[i]) && addresses[i] > 0)
            fail_msg("mapped at %#lx", (unsigned long)addresses[i]);
    assert_false(map_at(fd, 0x800, PAGE, 0x800)); /* would begin in page 0 */
    assert_false(map_at(fd, 0x800, PAGE, 0x7ff));
    close(fd);
}

/* The mapping would begin far below the stack and reach it. */
static void test_mapping_address_with_a_size_that_does_harm_is_refused(void **state)
{
    uintptr_t stack = (uintptr_t)&stack / PAGE * PAGE;
    int fd;

    if (is_under_valgrind() || is_under_tsan())
        skip();
    fd = memory(TERA, 0);
    assert_false(map_at(fd, 0, TERA, stack - TERA - PAGE));
    assert_false(map_at(fd, 0, TERA, stack - TERA - (UINT64_C(512) << 20)));
    close(fd);
}

static void use_stack(void)
{
    volatile uint8_t *room = alloca(6 << 20);

    for (unsigned i = 0; i < 6 << 20; i += PAGE)
        room[i] = 1;
}

/* The main thread's stack can grow despite mappings at the nearest allowed address. */
static void test_mapping_address_leaves_room_for_the_stack(void **state)
{
    uintptr_t stack = (uintptr_t)&stack / PAGE * PAGE;
    struct gw_mapping m[64];
    int fd;

    if (is_under_valgrind()) /* valgrind manages stacks itself */
        skip();
    fd = memory(PAGE, 0);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(m); i++) {
        memset(&m[i], 0, sizeof(m[i]));
        assert_int_equal(gw_mapping_init_at(&m[i], "the test's memory", fd, 0, PAGE, 0,
                                            stack - (i + 8) * (UINT64_C(64) << 10)),
                         0);
    }
    use_stack();
    for (unsigned i = 0; i < GW_ARRAY_SIZE(m); i++)
        gw_mapping_done(&m[i]);
    close(fd);
}

static void test_mapping_address_of_huge_pages_is_theirs(void **state)
{
    uintptr_t at = free_address() / HUGE * HUGE;
    int fd = memory(4 * HUGE, MFD_HUGETLB);
    void *probe = mmap(NULL, 4 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (probe == MAP_FAILED) {
        close(fd);
        skip();
    }
    munmap(probe, 4 * HUGE);
    assert_there(fd, 0, 4 * HUGE, at);
    assert_there(fd, HUGE, 2 * HUGE, at);
    assert_there(fd, HUGE + PAGE, HUGE, at + PAGE);
    assert_false(map_at(fd, 0, 4 * HUGE, at + PAGE));
    assert_false(map_at(fd, HUGE + PAGE, HUGE, at));
    assert_false(map_at(fd, PAGE, HUGE, at + HUGE + 2 * PAGE));
    close(fd);
}

static void test_mapping_address_may_be_a_hint_only(void **state)
{
    int fd = memory(PAGES * PAGE, 0);
    uintptr_t at = free_address();

    is_old_kernel = true;
    (void)map_at(fd, 0, PAGES * PAGE, at);
    assert_true(occupy(at + PAGE, PAGE));
    assert_false(map_at(fd, 0, PAGES * PAGE, at));
    is_old_kernel = false;
    assert_int_equal(munmap((void *)(at + PAGE), PAGE), 0);
    assert_there(fd, 0, PAGES * PAGE, at); /* no mapping was left at the address */
    close(fd);
}

/* A front-end may share more memory than the address space can hold: then mapping fails cleanly. */
static void test_mapping_address_space_may_run_out(void **state)
{
    static struct gw_mapping m[256];
    unsigned n = 0;
    int fd, r = 0;

    if (is_under_valgrind() || is_under_tsan() || is_under_asan())
        skip();
    fd = memory(4 * TERA, 0);
    while (r == 0 && n < GW_ARRAY_SIZE(m)) {
        r = gw_mapping_init_at(&m[n], "the test's memory", fd, 0, 4 * TERA, MAP_NORESERVE,
                               LOW + n * 4 * TERA);
        n += r == 0;
    }
    assert_int_equal(r, -ENOMEM);
    assert_true(n >= 16);
    use_stack();
    while (n > 0)
        gw_mapping_done(&m[--n]);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_mapping_address_that_is_free_is_taken),
        FDCHECK_TEST(test_mapping_address_that_is_taken_is_left_alone),
        FDCHECK_TEST(test_mapping_address_that_does_harm_is_refused),
        FDCHECK_TEST(test_mapping_address_with_a_size_that_does_harm_is_refused),
        FDCHECK_TEST(test_mapping_address_leaves_room_for_the_stack),
        FDCHECK_TEST(test_mapping_address_of_huge_pages_is_theirs),
        FDCHECK_TEST(test_mapping_address_may_be_a_hint_only),
        FDCHECK_TEST(test_mapping_address_space_may_run_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
