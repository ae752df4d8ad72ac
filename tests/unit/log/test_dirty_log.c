/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The dirty log object: which files can be mapped, its bounds, and marks outside it. */
#include "base/barrier.h"
#include "base/log_i.h"
#include "log/dirty_bitmap.h"
#include "log/dirty_log.h"

#include "fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE UINT64_C(4096)

static int file_of(uint64_t size)
{
    int fd = memfd_create("log", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    return fd;
}

static int dup_of(int fd)
{
    int r = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    assert_true(r >= 0);
    return r;
}

static struct gw_dirty_log *map_log(int fd, uint64_t offset, uint64_t size)
{
    struct gw_dirty_log *log;

    assert_int_equal(gw_dirty_log_new(&log, dup_of(fd), offset, size), 0);
    return log;
}

/* It must fail with `error`, give the reason, and close the fd, which FDCHECK_TEST checks. */
static void refused(int fd, uint64_t offset, uint64_t size, int error, const char *why)
{
    struct gw_dirty_log *log = NULL;

    assert_int_equal(gw_dirty_log_new(&log, dup_of(fd), offset, size), error);
    assert_null(log);
    if (!strstr(gw_last_error(), why))
        fail_msg("\"%s\" does not contain \"%s\"", gw_last_error(), why);
}

static uint8_t byte_at(int fd, uint64_t offset)
{
    uint8_t byte;

    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    return byte;
}

/* All bytes outside [offset, offset + size) must be 0. */
static void only_within(int fd, uint64_t file_size, uint64_t offset, uint64_t size)
{
    for (uint64_t i = 0; i < file_size; i++)
        if ((i < offset || i >= offset + size) && byte_at(fd, i) != 0)
            fail_msg("byte %llu of the file was written", (unsigned long long)i);
}

static void test_dirty_log_any_offset_is_where_the_bits_are(void **state)
{
    static const uint64_t offsets[] = {0, 1, 7, 8, 4095, 4096, 4097, 5000, 8191};
    const uint64_t size = 16;

    for (unsigned i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        int fd = file_of(offsets[i] + size + 3);
        struct gw_dirty_log *log = map_log(fd, offsets[i], size);

        gw_full_fence();
        gw_dirty_log_mark(log, 0, 1);
        gw_dirty_log_mark(log, 127 * PAGE, PAGE);
        gw_dirty_log_mark(log, 9 * PAGE + 4095, 2);
        assert_int_equal(byte_at(fd, offsets[i]), 1);
        assert_int_equal(byte_at(fd, offsets[i] + 1), 6);
        assert_int_equal(byte_at(fd, offsets[i] + 15), 0x80);
        only_within(fd, offsets[i] + size + 3, offsets[i], size);
        assert_int_equal(gw_dirty_log_n_lost(log), 0);
        gw_dirty_log_free(log);
        close(fd);
    }
}

static void test_dirty_log_impossible_ranges_are_refused(void **state)
{
    int fd = file_of(4096);

    refused(fd, 0, 0, -EINVAL, "invalid range");
    refused(fd, 5, 0, -EINVAL, "invalid range");
    refused(fd, UINT64_MAX, 1, -EINVAL, "invalid range");
    refused(fd, 1, UINT64_MAX, -EINVAL, "invalid range");
    refused(fd, UINT64_MAX - 7, 16, -EINVAL, "invalid range");
    refused(fd, INT64_MAX, 1, -EINVAL, "invalid range");
    refused(fd, 0, UINT64_C(1) << 63, -EINVAL, "invalid range");
    refused(fd, UINT64_C(1) << 63, 8, -EINVAL, "invalid range");
    close(fd);
}

static void test_dirty_log_file_that_is_too_short_is_refused(void **state)
{
    struct gw_dirty_log *log;
    int fd = file_of(5000);

    refused(fd, 0, 5001, -EINVAL, "which has 0x1388");
    refused(fd, 4999, 2, -EINVAL, "which has");
    refused(fd, 5000, 1, -EINVAL, "which has");
    refused(fd, UINT64_C(1) << 40, 8, -EINVAL, "which has");
    refused(fd, INT64_MAX - 8, 8, -EINVAL, "which has");
    log = map_log(fd, 4999, 1);
    gw_dirty_log_free(log);
    log = map_log(fd, 0, 5000);
    gw_dirty_log_free(log);
    assert_int_equal(ftruncate(fd, 0), 0);
    refused(fd, 0, 1, -EINVAL, "which has 0");
    close(fd);
}

static void test_dirty_log_file_that_cannot_be_written_is_refused(void **state)
{
    static const int seals[] = {F_SEAL_WRITE, F_SEAL_FUTURE_WRITE, F_SEAL_WRITE | F_SEAL_SHRINK};
    char path[64];
    int fd, read_only;

    for (unsigned i = 0; i < sizeof(seals) / sizeof(seals[0]); i++) {
        fd = file_of(4096);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, seals[i]), 0);
        refused(fd, 0, 4096, -EPERM, "mmap");
        close(fd);
    }
    fd = file_of(4096);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    read_only = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(read_only >= 0);
    refused(read_only, 0, 4096, -EACCES, "mmap");
    close(read_only);
    close(fd);
}

/* QEMU seals the log file against growing and shrinking. */
static void test_dirty_log_file_of_fixed_size_is_taken(void **state)
{
    int fd = file_of(4096);
    struct gw_dirty_log *log;

    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL), 0);
    log = map_log(fd, 0, 4096);
    gw_full_fence();
    gw_dirty_log_mark(log, 0, 1);
    assert_int_equal(byte_at(fd, 0), 1);
    gw_dirty_log_free(log);
    close(fd);
}

static void test_dirty_log_what_is_no_file_is_refused(void **state)
{
    struct gw_dirty_log *log = NULL;
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    refused(fds[0], 0, 4096, -ENODEV, "neither a file");
    refused(fds[1], 0, 4096, -ENODEV, "neither a file");
    close(fds[0]);
    close(fds[1]);
    fds[0] = eventfd(0, EFD_CLOEXEC);
    assert_true(fds[0] >= 0);
    refused(fds[0], 0, 4096, -ENODEV, "neither a file");
    close(fds[0]);
    assert_int_equal(gw_dirty_log_new(&log, -1, 0, 4096), -EBADF);
    assert_null(log);
}

static void test_dirty_log_covers_whole_bytes_of_pages(void **state)
{
    int fd = file_of(4096);
    struct gw_dirty_log *log = map_log(fd, 0, 2); /* 16 pages */

    assert_true(gw_dirty_log_covers(log, 0, 16 * PAGE));
    assert_true(gw_dirty_log_covers(log, 16 * PAGE - 1, 1));
    assert_true(gw_dirty_log_covers(log, 16 * PAGE, 0));
    assert_true(gw_dirty_log_covers(log, UINT64_MAX, 0));
    assert_false(gw_dirty_log_covers(log, 16 * PAGE, 1));
    assert_false(gw_dirty_log_covers(log, 0, 16 * PAGE + 1));
    assert_false(gw_dirty_log_covers(log, 16 * PAGE - 1, 2));
    assert_false(gw_dirty_log_covers(log, UINT64_MAX, 1));
    assert_false(gw_dirty_log_covers(log, UINT64_MAX, 2));
    assert_false(gw_dirty_log_covers(log, 1, UINT64_MAX));
    gw_dirty_log_free(log);
    close(fd);
}

static void test_dirty_log_mark_of_nothing_marks_nothing(void **state)
{
    int fd = file_of(4096);
    struct gw_dirty_log *log = map_log(fd, 0, 2);

    gw_full_fence();
    gw_dirty_log_mark(log, 0, 0);
    gw_dirty_log_mark(log, 5 * PAGE, 0);
    gw_dirty_log_mark(log, UINT64_MAX, 0);
    only_within(fd, 4096, 0, 0);
    assert_int_equal(gw_dirty_log_n_lost(log), 0);
    gw_dirty_log_free(log);
    close(fd);
}

/* Marks inside the log are set and marks outside are counted, without an abort. */
static void test_dirty_log_marks_outside_are_counted(void **state)
{
    int fd = file_of(4096);
    struct gw_dirty_log *log = map_log(fd, 0, 2);

    gw_full_fence();
    gw_dirty_log_mark(log, 16 * PAGE, 1);
    assert_int_equal(gw_dirty_log_n_lost(log), 1);
    only_within(fd, 4096, 0, 0);
    gw_dirty_log_mark(log, UINT64_MAX, 1);
    gw_dirty_log_mark(log, UINT64_MAX, 2); /* wraps around */
    assert_int_equal(gw_dirty_log_n_lost(log), 3);
    only_within(fd, 4096, 0, 0);
    gw_dirty_log_mark(log, 15 * PAGE, PAGE);
    assert_int_equal(gw_dirty_log_n_lost(log), 3);
    assert_int_equal(byte_at(fd, 1), 0x80);
    gw_dirty_log_mark(log, 14 * PAGE + 4095, PAGE * 2);
    assert_int_equal(gw_dirty_log_n_lost(log), 4);
    assert_int_equal(byte_at(fd, 1), 0xc0);
    gw_dirty_log_mark(log, 0, UINT64_MAX);
    assert_int_equal(gw_dirty_log_n_lost(log), 5);
    assert_int_equal(byte_at(fd, 0), 0xff);
    assert_int_equal(byte_at(fd, 1), 0xff);
    only_within(fd, 4096, 0, 2);
    gw_dirty_log_free(log);
    close(fd);
}

/* The size need not be a multiple of a word; the bytes after the log must not change. */
static void test_dirty_log_last_byte_is_the_last(void **state)
{
    for (uint64_t size = 1; size < 40; size++) {
        int fd = file_of(4096);
        struct gw_dirty_log *log = map_log(fd, 3, size);

        gw_full_fence();
        gw_dirty_log_mark(log, 0, size * 8 * PAGE);
        assert_int_equal(gw_dirty_log_n_lost(log), 0);
        for (uint64_t i = 0; i < size; i++)
            assert_int_equal(byte_at(fd, 3 + i), 0xff);
        only_within(fd, 4096, 3, size);
        gw_dirty_log_free(log);
        close(fd);
    }
}

/* A sparse log for 64 TiB of guest memory: only the touched page is allocated. */
static void test_dirty_log_may_be_huge(void **state)
{
    const uint64_t size = UINT64_C(1) << 31;
    int fd = file_of(size);
    struct gw_dirty_log *log = map_log(fd, 0, size);

    gw_full_fence();
    gw_dirty_log_mark(log, size * 8 * PAGE - 1, 1);
    assert_int_equal(byte_at(fd, size - 1), 0x80);
    gw_dirty_log_free(log);
    close(fd);
}

/* ---- replacement, as by SET_LOG_BASE ---- */

static void test_dirty_log_replacement_leaves_both_as_they_are(void **state)
{
    int old_fd = file_of(4096), new_fd = file_of(4096);
    struct gw_dirty_log *old = map_log(old_fd, 0, 8), *new;

    gw_full_fence();
    gw_dirty_log_mark(old, PAGE, 1);
    new = map_log(new_fd, 8, 8);
    gw_dirty_log_mark(new, 2 * PAGE, 1);
    gw_dirty_log_free(old);
    gw_dirty_log_mark(new, 3 * PAGE, 1);
    assert_int_equal(byte_at(old_fd, 0), 2);
    assert_int_equal(byte_at(new_fd, 8), 0xc);
    gw_dirty_log_free(new);
    gw_dirty_log_free(NULL);
    close(old_fd);
    close(new_fd);
}

struct losing {
    struct gw_dirty_log *log;
    unsigned n;
};

static void *lose(void *arg)
{
    const struct losing *l = arg;

    for (unsigned i = 0; i < l->n; i++)
        gw_dirty_log_mark(l->log, UINT64_C(1) << 40, 1);
    return NULL;
}

static void test_dirty_log_lost_marks_of_many_threads_are_all_counted(void **state)
{
    int fd = file_of(4096);
    struct losing l = {map_log(fd, 0, 8), 5000};
    pthread_t threads[4];

    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, lose, &l), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(gw_dirty_log_n_lost(l.log), 20000);
    gw_dirty_log_free(l.log);
    close(fd);
}

static void test_dirty_log_marks_go_to_every_successor(void **state)
{
    int fd = file_of(4096);
    struct gw_dirty_log *a = map_log(fd, 0, 16), *b = map_log(fd, 1001, 24),
                        *c = map_log(fd, 2000, 8);

    gw_dirty_log_mark(a, PAGE, 1);
    gw_dirty_log_succeed(a, b);
    gw_dirty_log_mark(a, 2 * PAGE, 1);
    gw_dirty_log_succeed(b, c);
    gw_dirty_log_mark(a, 2 * PAGE, 1); /* already set */
    gw_dirty_log_mark_known(a, 3 * PAGE, 1);
    gw_dirty_log_mark(b, 4 * PAGE, 1);
    assert_int_equal(a->bitmap[0], 0x0e);
    assert_int_equal(b->bitmap[0], 0x1c);
    assert_int_equal(c->bitmap[0], 0x1c);
    gw_dirty_log_mark(a, 64 * PAGE, 1); /* beyond the shortest */
    assert_int_equal(gw_dirty_log_n_lost(a), 0);
    assert_int_equal(gw_dirty_log_n_lost(c), 1);
    gw_dirty_log_free(a);
    gw_dirty_log_free(b);
    gw_dirty_log_free(c);
    close(fd);
}

static void test_dirty_log_has_no_pages_behind_the_last_reference(void **state)
{
    const uint64_t grants = UINT64_C(1) << 63, size = UINT64_C(1) << (32 - 3);
    int fd = file_of(size + 4096);
    struct gw_dirty_log *log = map_log(fd, 0, size + 4096);

    gw_dirty_log_mark_known(log, grants + (size * 8 - 1) * PAGE, INT64_MAX);
    assert_int_equal(log->bitmap[size - 1], 0x80);
    assert_int_equal(log->bitmap[size], 0);
    gw_dirty_log_mark_known(log, grants + size * 8 * PAGE, PAGE);
    assert_int_equal(log->bitmap[size], 0);
    assert_int_equal(gw_dirty_log_n_lost(log), 0);
    gw_dirty_log_free(log);
    close(fd);
}

/* The front-end gets its reply before the queue has adopted the new log. */
enum {
    RACE_PAGES = 16,
    RACE_LOGS = 2000,
};

struct race {
    struct gw_dirty_log *logs[RACE_LOGS];
    unsigned current; /* atomic */
    bool ends;        /* atomic */
    uint64_t memory[RACE_PAGES];
    uint64_t copy[RACE_PAGES];
};

static void *write_and_mark(void *arg)
{
    struct race *r = arg;
    unsigned adopted = 0;

    for (uint64_t n = 1; !__atomic_load_n(&r->ends, __ATOMIC_ACQUIRE); n++) {
        __atomic_store_n(&r->memory[n % RACE_PAGES], n, __ATOMIC_RELAXED);
        gw_full_fence();
        gw_dirty_log_mark(r->logs[adopted], n % RACE_PAGES * PAGE, PAGE);
        if (n % 64 == 0)
            adopted = __atomic_load_n(&r->current, __ATOMIC_ACQUIRE);
    }
    return NULL;
}

static void copy_marked(struct race *r, struct gw_dirty_log *log)
{
    for (unsigned i = 0; i < RACE_PAGES; i++) {
        uint8_t bit = (uint8_t)(1u << i % 8);

        if (!(__atomic_fetch_and(&log->bitmap[i / 8], (uint8_t)~bit, __ATOMIC_SEQ_CST) & bit))
            continue;
        gw_full_fence();
        r->copy[i] = __atomic_load_n(&r->memory[i], __ATOMIC_RELAXED);
    }
}

static void test_dirty_log_replaced_under_a_writer_loses_no_mark(void **state)
{
    int fd = file_of(RACE_LOGS * 8);
    struct race *r = calloc(1, sizeof(*r));
    pthread_t thread;

    assert_non_null(r);
    for (unsigned i = 0; i < RACE_LOGS; i++)
        r->logs[i] = map_log(fd, i * 8, 8);
    assert_int_equal(pthread_create(&thread, NULL, write_and_mark, r), 0);
    for (unsigned i = 0; i + 1 < RACE_LOGS; i++) {
        gw_dirty_log_succeed(r->logs[i], r->logs[i + 1]);
        __atomic_store_n(&r->current, i + 1, __ATOMIC_RELEASE);
        copy_marked(r, r->logs[i]); /* the last read of this log */
    }
    __atomic_store_n(&r->ends, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    copy_marked(r, r->logs[RACE_LOGS - 1]);
    assert_memory_equal(r->copy, r->memory, sizeof(r->copy));
    for (unsigned i = 0; i < RACE_LOGS; i++)
        gw_dirty_log_free(r->logs[i]);
    free(r);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_dirty_log_any_offset_is_where_the_bits_are),
        FDCHECK_TEST(test_dirty_log_impossible_ranges_are_refused),
        FDCHECK_TEST(test_dirty_log_file_that_is_too_short_is_refused),
        FDCHECK_TEST(test_dirty_log_file_that_cannot_be_written_is_refused),
        FDCHECK_TEST(test_dirty_log_file_of_fixed_size_is_taken),
        FDCHECK_TEST(test_dirty_log_what_is_no_file_is_refused),
        FDCHECK_TEST(test_dirty_log_covers_whole_bytes_of_pages),
        FDCHECK_TEST(test_dirty_log_mark_of_nothing_marks_nothing),
        FDCHECK_TEST(test_dirty_log_marks_outside_are_counted),
        FDCHECK_TEST(test_dirty_log_last_byte_is_the_last),
        FDCHECK_TEST(test_dirty_log_may_be_huge),
        FDCHECK_TEST(test_dirty_log_replacement_leaves_both_as_they_are),
        FDCHECK_TEST(test_dirty_log_marks_go_to_every_successor),
        FDCHECK_TEST(test_dirty_log_has_no_pages_behind_the_last_reference),
        FDCHECK_TEST(test_dirty_log_replaced_under_a_writer_loses_no_mark),
        FDCHECK_TEST(test_dirty_log_lost_marks_of_many_threads_are_all_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
