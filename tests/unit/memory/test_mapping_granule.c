/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A mapping's alignment depends on what fstatfs says of the file: only hugetlbfs needs more. */
#include "fdcheck.h"

#include "base/checked.h"
#include "core/memory/mapping.h"

#include <errno.h>
#include <linux/magic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE UINT64_C(4096)
#define HUGE (UINT64_C(2) << 20)

static struct {
    int result;
    long type, block;
} answer;

int __wrap_fstatfs64(int fd, struct statfs *fs);

int __wrap_fstatfs64(int fd, struct statfs *fs)
{
    *fs = (struct statfs){.f_type = answer.type, .f_bsize = answer.block};
    errno = EXDEV;
    return answer.result;
}

static void test_mapping_granule_is_of_hugetlbfs_only(void **state)
{
    static const struct {
        int result;
        long type, block;
        uint64_t granule;
    } cases[] = {
        {0, HUGETLBFS_MAGIC, HUGE, HUGE},
        {0, HUGETLBFS_MAGIC, 2 * PAGE, 2 * PAGE},
        {-1, HUGETLBFS_MAGIC, HUGE, PAGE}, /* fstatfs fails */
        {0, TMPFS_MAGIC, HUGE, PAGE},
        {0, HUGETLBFS_MAGIC, 3 * PAGE, PAGE}, /* no power of two */
        {0, HUGETLBFS_MAGIC, PAGE / 2, PAGE},
        {0, HUGETLBFS_MAGIC, 0, PAGE},
        {0, HUGETLBFS_MAGIC, INT64_MIN, PAGE},
    };
    int fd = memfd_create("shared", MFD_CLOEXEC);

    assert_int_equal(ftruncate(fd, 2 * HUGE), 0);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(cases); i++) {
        struct gw_mapping m;

        answer.result = cases[i].result;
        answer.type = cases[i].type;
        answer.block = cases[i].block;
        assert_int_equal(gw_mapping_init(&m, "it", fd, HUGE + PAGE + 1, 1, 0), 0);
        if (m.range.granule != cases[i].granule)
            fail_msg("case %u: %#lx", i, (unsigned long)m.range.granule);
        assert_int_equal(m.range.length, cases[i].granule);
        gw_mapping_done(&m);
    }
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_mapping_granule_is_of_hugetlbfs_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
