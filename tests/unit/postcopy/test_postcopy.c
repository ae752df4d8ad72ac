/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Ranges with missing pages: a thread that touches one sleeps until the front-end places the page,
 * or until the front-end or the daemon ends.
 */
#include "fdcheck.h"
#include "patience.h"

#include "base/cleanup.h"
#include "core/memory/mapping.h"
#include "postcopy/postcopy.h"
#include "requires.h"

#include <godwit/log.h>

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE    UINT64_C(4096)
#define PAGES   8u
#define WAIT_MS patience_ms()
#define RACES   3000u

/* Postcopy of one session, with the front-end's end of the socket. */
struct fixture {
    struct gw_postcopy postcopy;
    struct gw_mapping mapping;
    struct gw_postcopy_range range;
    int uffd; /* the front-end's */
    int mem_fd;
    pthread_t reader;
    uint64_t page; /* read by the reader */
    uint8_t read;
    bool is_back; /* atomic */
};

static void fixture_begin(struct fixture *b)
{
    memset(b, 0, sizeof(*b));
    b->mem_fd = memfd_create("guest", MFD_CLOEXEC);
    assert_true(b->mem_fd >= 0);
    assert_int_equal(ftruncate(b->mem_fd, (off_t)(PAGES * PAGE)), 0);
    assert_int_equal(gw_mapping_init(&b->mapping, "it", b->mem_fd, 0, PAGES * PAGE, 0), 0);
    b->range.base = b->mapping.range.base;
    b->range.length = b->mapping.range.length;
    b->uffd = -1;
    gw_postcopy_init(&b->postcopy);
}

static void fixture_listen(struct fixture *b)
{
    fixture_begin(b);
    assert_int_equal(gw_postcopy_advise(&b->postcopy, &b->uffd), 0);
    assert_int_equal(gw_postcopy_listen(&b->postcopy), 0);
    assert_int_equal(gw_postcopy_register(&b->postcopy, &b->range, "it"), 0);
}

static void fixture_end(struct fixture *b)
{
    gw_postcopy_unregister(&b->range);
    gw_postcopy_done(&b->postcopy);
    gw_mapping_done(&b->mapping);
    gw_close(&b->uffd);
    gw_close(&b->mem_fd);
}

/* ---- a thread that touches a page ---- */

static void *read_page(void *arg)
{
    struct fixture *b = arg;

    b->read = *(volatile uint8_t *)(b->mapping.at + b->page * PAGE);
    __atomic_store_n(&b->is_back, true, __ATOMIC_RELEASE);
    return NULL;
}

static uint64_t next_fault(struct fixture *b)
{
    struct pollfd poll_fd = {.fd = b->uffd, .events = POLLIN};
    struct uffd_msg msg;

    assert_int_equal(poll(&poll_fd, 1, (int)WAIT_MS), 1);
    assert_int_equal(read(b->uffd, &msg, sizeof(msg)), sizeof(msg));
    assert_int_equal(msg.event, UFFD_EVENT_PAGEFAULT);
    return msg.arg.pagefault.address;
}

/* Start a thread that reads this page, and wait until it sleeps. */
static void wait_for_page(struct fixture *b, uint64_t page)
{
    b->page = page;
    b->is_back = false;
    assert_int_equal(pthread_create(&b->reader, NULL, read_page, b), 0);
    assert_int_equal(next_fault(b) / PAGE * PAGE, b->range.base + page * PAGE);
    assert_false(__atomic_load_n(&b->is_back, __ATOMIC_ACQUIRE));
}

static void expect_read(struct fixture *b, uint8_t value)
{
    assert_int_equal(pthread_join(b->reader, NULL), 0);
    assert_int_equal(b->read, value);
}

/* Like a front-end: write the page into the file, then wake the waiting threads. */
static void send_page(struct fixture *b, uint64_t page, uint8_t value)
{
    struct uffdio_range range = {.start = b->range.base + page * PAGE, .len = PAGE};
    uint8_t bytes[PAGE];

    memset(bytes, value, sizeof(bytes));
    assert_int_equal(pwrite(b->mem_fd, bytes, PAGE, (off_t)(page * PAGE)), PAGE);
    assert_int_equal(ioctl(b->uffd, UFFDIO_WAKE, &range), 0);
}

static void test_postcopy_missing_page_is_waited_for(void **state)
{
    struct fixture b;

    fixture_listen(&b);
    wait_for_page(&b, 3);
    send_page(&b, 3, 0x5a);
    expect_read(&b, 0x5a);
    /* A page that is present already costs no fault. */
    assert_int_equal(pwrite(b.mem_fd, "x", 1, 4 * PAGE), 1);
    assert_int_equal(b.mapping.at[4 * PAGE], 'x');
    assert_int_equal(gw_postcopy_end(&b.postcopy), 0);
    fixture_end(&b);
}

static void *read_by_system_call(void *arg)
{
    struct fixture *b = arg;
    uint64_t from[PAGE / sizeof(uint64_t)] = {UINT64_C(0x1122334455667788)};
    struct iovec to = {b->mapping.at + b->page * PAGE, PAGE};
    int fd = memfd_create("disk", MFD_CLOEXEC);

    if (write(fd, from, sizeof(from)) == sizeof(from) && preadv(fd, &to, 1, 0) == PAGE)
        b->read = 1;
    close(fd);
    return NULL;
}

static void test_postcopy_system_call_into_missing_page_waits(void **state)
{
    struct fixture b;

    fixture_listen(&b);
    b.page = 2;
    assert_int_equal(pthread_create(&b.reader, NULL, read_by_system_call, &b), 0);
    assert_int_equal(next_fault(&b) / PAGE * PAGE, b.range.base + 2 * PAGE);
    send_page(&b, 2, 0);
    expect_read(&b, 1);
    assert_int_equal(*(uint64_t *)(void *)(b.mapping.at + 2 * PAGE), UINT64_C(0x1122334455667788));
    fixture_end(&b);
}

/* ---- ends ---- */

static void test_postcopy_end_brings_who_waits_back(void **state)
{
    struct fixture b;

    fixture_listen(&b);
    wait_for_page(&b, 0);
    assert_int_equal(gw_postcopy_end(&b.postcopy), 0);
    expect_read(&b, 0);
    assert_int_equal(b.postcopy.state, GW_POSTCOPY_OFF);
    assert_null(b.range.owner);
    fixture_end(&b);
}

/* Closing our userfaultfd would wake no thread, because the front-end has a copy of it. */
static void test_postcopy_hang_up_brings_who_waits_back(void **state)
{
    struct fixture b;

    fixture_listen(&b);
    wait_for_page(&b, 1);
    assert_true(gw_postcopy_has_missing(&b.postcopy));
    gw_postcopy_abandon(&b.postcopy);
    expect_read(&b, 0);
    assert_false(gw_postcopy_has_missing(&b.postcopy));
    assert_true(gw_postcopy_is_listening(&b.postcopy));
    fixture_end(&b);
}

static void test_postcopy_register_after_hang_up_is_refused(void **state)
{
    struct fixture b;

    fixture_listen(&b);
    gw_postcopy_unregister(&b.range);
    gw_postcopy_abandon(&b.postcopy);
    assert_int_equal(gw_postcopy_register(&b.postcopy, &b.range, "it"), -ENOTCONN);
    assert_null(b.range.owner);
    fixture_end(&b);
}

static void test_postcopy_unregistered_range_is_ordinary_memory(void **state)
{
    struct fixture b;

    fixture_listen(&b);
    wait_for_page(&b, 5);
    gw_postcopy_unregister(&b.range);
    expect_read(&b, 0);
    gw_postcopy_unregister(&b.range); /* the second time has no effect */
    assert_int_equal(b.mapping.at[6 * PAGE], 0);
    fixture_end(&b);
}

/* A thread that is about to sleep when the range is unregistered must wake, too. */
struct racer {
    const struct fixture *fixture;
    unsigned begin, end; /* atomic */
};

static void *touch_in_rounds(void *arg)
{
    struct racer *r = arg;

    for (unsigned i = 1; i <= RACES; i++) {
        while (__atomic_load_n(&r->begin, __ATOMIC_ACQUIRE) < i)
            ;
        (void)*(volatile uint8_t *)r->fixture->mapping.at;
        __atomic_store_n(&r->end, i, __ATOMIC_RELEASE);
    }
    return NULL;
}

static bool has_come_back(struct racer *r, unsigned i)
{
    for (unsigned us = 0; us < WAIT_MS * 100; us += 10) {
        if (__atomic_load_n(&r->end, __ATOMIC_ACQUIRE) == i)
            return true;
        usleep(10);
    }
    return false;
}

static void test_postcopy_end_races_with_who_begins_to_wait(void **state)
{
    struct racer r = {.begin = 0};
    pthread_t thread;
    struct fixture b;

    fixture_listen(&b);
    gw_postcopy_unregister(&b.range);
    r.fixture = &b;
    assert_int_equal(pthread_create(&thread, NULL, touch_in_rounds, &r), 0);
    for (unsigned i = 1; i <= RACES; i++) {
        assert_int_equal(ftruncate(b.mem_fd, 0), 0);
        assert_int_equal(ftruncate(b.mem_fd, (off_t)(PAGES * PAGE)), 0);
        assert_int_equal(gw_postcopy_register(&b.postcopy, &b.range, "it"), 0);
        __atomic_store_n(&r.begin, i, __ATOMIC_RELEASE);
        for (volatile unsigned n = 0; n < i * 7 % 3000; n++)
            ;
        gw_postcopy_unregister(&b.range);
        if (!has_come_back(&r, i))
            fail_msg("round %u: the thread still sleeps", i);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    fixture_end(&b);
}

/* ---- states ---- */

static void test_postcopy_wrong_order_is_refused(void **state)
{
    struct fixture b;
    int again;

    fixture_begin(&b);
    assert_int_equal(gw_postcopy_listen(&b.postcopy), -EINVAL);
    assert_non_null(strstr(gw_last_error(), "before POSTCOPY_ADVISE"));
    assert_int_equal(gw_postcopy_end(&b.postcopy), -EINVAL);
    assert_int_equal(gw_postcopy_advise(&b.postcopy, &b.uffd), 0);
    assert_int_equal(gw_postcopy_advise(&b.postcopy, &again), 0);
    gw_close(&again);
    assert_int_equal(gw_postcopy_listen(&b.postcopy), 0);
    assert_int_equal(gw_postcopy_listen(&b.postcopy), -EINVAL);
    assert_int_equal(gw_postcopy_advise(&b.postcopy, &again), -EBUSY);
    assert_int_equal(gw_postcopy_end(&b.postcopy), 0);
    assert_int_equal(gw_postcopy_end(&b.postcopy), -EINVAL);
    fixture_end(&b);
}

/* Advised, but the migration completed without postcopy. */
static void test_postcopy_end_without_listen_is_fine(void **state)
{
    struct fixture b;

    fixture_begin(&b);
    assert_int_equal(gw_postcopy_advise(&b.postcopy, &b.uffd), 0);
    assert_int_equal(gw_postcopy_end(&b.postcopy), 0);
    fixture_end(&b);
}

static void test_postcopy_several_rounds_on_one_session(void **state)
{
    struct fixture b;

    fixture_listen(&b);
    for (unsigned i = 0; i < 3; i++) {
        wait_for_page(&b, i);
        send_page(&b, i, (uint8_t)(i + 1));
        expect_read(&b, (uint8_t)(i + 1));
        assert_int_equal(gw_postcopy_end(&b.postcopy), 0);
        gw_close(&b.uffd);
        assert_int_equal(gw_postcopy_advise(&b.postcopy, &b.uffd), 0);
        assert_int_equal(gw_postcopy_listen(&b.postcopy), 0);
        assert_int_equal(gw_postcopy_register(&b.postcopy, &b.range, "it"), 0);
    }
    fixture_end(&b);
}

/* ---- unavailable features ---- */

static void test_postcopy_memory_that_is_not_shared_is_refused(void **state)
{
    char path[] = "/var/tmp/godwit-postcopy-XXXXXX";
    struct gw_mapping m;
    struct gw_postcopy_range range = {.base = 0};
    struct fixture b;
    int fd = mkstemp(path);

    fixture_listen(&b);
    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(ftruncate(fd, (off_t)PAGE), 0);
    assert_int_equal(gw_mapping_init(&m, "it", fd, 0, PAGE, 0), 0);
    range.base = m.range.base;
    range.length = m.range.length;
    if (gw_postcopy_register(&b.postcopy, &range, "the region") == 0) {
        print_message("%s is on tmpfs\n", path);
        gw_postcopy_unregister(&range);
    } else {
        assert_non_null(strstr(gw_last_error(), "the region"));
        assert_non_null(strstr(gw_last_error(), "memfd, tmpfs or hugetlbfs"));
    }
    gw_mapping_done(&m);
    close(fd);
    fixture_end(&b);
}

/* In a child process without privileges. */
static void test_postcopy_without_permission_says_what_would_help(void **state)
{
    int status;
    pid_t pid;

    if (geteuid() != 0)
        skip();
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int r = setgid(65534) == 0 && setuid(65534) == 0 ? gw_postcopy_probe() : 0;

        if (r == 0)
            _exit(is_under_valgrind() ? 3 : 2); /* the sysctl may permit it */
        _exit(r == -EPERM && strstr(gw_last_error(), "CAP_SYS_PTRACE") &&
                      strstr(gw_last_error(), "vm.unprivileged_userfaultfd")
                  ? 0
                  : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) >= 2)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_postcopy_missing_page_is_waited_for),
        FDCHECK_TEST(test_postcopy_system_call_into_missing_page_waits),
        FDCHECK_TEST(test_postcopy_end_brings_who_waits_back),
        FDCHECK_TEST(test_postcopy_hang_up_brings_who_waits_back),
        FDCHECK_TEST(test_postcopy_register_after_hang_up_is_refused),
        FDCHECK_TEST(test_postcopy_unregistered_range_is_ordinary_memory),
        FDCHECK_TEST(test_postcopy_end_races_with_who_begins_to_wait),
        FDCHECK_TEST(test_postcopy_wrong_order_is_refused),
        FDCHECK_TEST(test_postcopy_end_without_listen_is_fine),
        FDCHECK_TEST(test_postcopy_several_rounds_on_one_session),
        FDCHECK_TEST(test_postcopy_memory_that_is_not_shared_is_refused),
        FDCHECK_TEST(test_postcopy_without_permission_says_what_would_help),
    };

    if (gw_postcopy_probe() < 0)
        skip_test("%s", gw_last_error());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
