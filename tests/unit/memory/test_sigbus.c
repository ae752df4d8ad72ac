/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The SIGBUS handler: faults in the library's mappings and elsewhere, with many threads and ranges
 * at once. Cases that may end the process run in a child.
 */
#include "fdcheck.h"

#include "base/cleanup.h"
#include "core/memory/mapping.h"
#include "hold_sigbus.h"
#include "requires.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE UINT64_C(4096)

static int empty_memory(void)
{
    int fd = memfd_create("shared", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

/* Map and guard `n` pages of an empty file, so that every access is a fault. */
static void lost_pages(struct gw_mapping *m, uint64_t n, struct gw_loss *told)
{
    int fd = empty_memory();

    assert_int_equal(ftruncate(fd, (off_t)(n * PAGE)), 0);
    assert_int_equal(gw_mapping_init(m, "it", fd, 0, n * PAGE, MAP_NORESERVE), 0);
    assert_int_equal(ftruncate(fd, 0), 0);
    gw_mapping_guard(m, told);
    close(fd);
}

/* A page of an empty file, mapped outside the library. */
static volatile uint8_t *foreign_page(void)
{
    int fd = empty_memory();
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    assert_ptr_not_equal(page, MAP_FAILED);
    close(fd);
    return page;
}

/* ---- foreign faults: in children, where no handler is installed yet ---- */

static struct gw_loss child_loss;
static struct gw_mapping child_mapping;

/* Run `act` in a child that had `before` as its SIGBUS action. Returns: its wait(2) status. */
static int in_child(const struct sigaction *before, int (*act)(void))
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};

        (void)setrlimit(RLIMIT_CORE, &none);
        (void)sigaction(SIGBUS, before, NULL);
        child_loss.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        gw_sigbus_install();
        lost_pages(&child_mapping, 2, &child_loss);
        _exit(act());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int touch_foreign(void)
{
    *foreign_page() = 1;
    return 0;
}

static int send_it(void)
{
    raise(SIGBUS);
    return 0;
}

static int touch_ours(void)
{
    child_mapping.at[0] = 1;
    return child_loss.happened ? 0 : 1;
}

static void expect_killed(int status)
{
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
}

static void expect_lived(int status)
{
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_sigbus_elsewhere_kills_as_ever(void **state)
{
    const struct sigaction before = {.sa_handler = SIG_DFL};

    expect_killed(in_child(&before, touch_foreign));
    expect_killed(in_child(&before, send_it));
    expect_lived(in_child(&before, touch_ours));
}

/* A sent SIGBUS can be ignored, a fault cannot. */
static void test_sigbus_ignored_stays_ignored(void **state)
{
    const struct sigaction before = {.sa_handler = SIG_IGN};

    expect_killed(in_child(&before, touch_foreign));
    expect_lived(in_child(&before, send_it));
    expect_lived(in_child(&before, touch_ours));
}

static unsigned n_seen;

static void end_at_once(int number)
{
    _exit(number == SIGBUS ? 0 : 1);
}

static void count(int number)
{
    n_seen++;
}

static int send_twice(void)
{
    raise(SIGBUS);
    if (n_seen != 1)
        return 1;
    raise(SIGBUS);
    return 0;
}

static void test_sigbus_elsewhere_reaches_a_plain_handler(void **state)
{
    struct sigaction before = {.sa_handler = end_at_once};

    expect_lived(in_child(&before, touch_foreign));
    expect_lived(in_child(&before, touch_ours));
    before.sa_handler = count;
    expect_lived(in_child(&before, send_twice));
    before.sa_flags = (int)SA_RESETHAND;
    expect_killed(in_child(&before, send_twice));
    expect_killed(in_child(&before, touch_foreign)); /* without the reset it would loop */
    expect_lived(in_child(&before, touch_ours));
}

static sigjmp_buf back;
static siginfo_t seen;

static void jump_back(int number, siginfo_t *info, void *context)
{
    seen = *info;
    n_seen++;
    siglongjmp(back, 1);
}

static int jump_out_of_three(void)
{
    volatile uint8_t *foreign = foreign_page();

    for (volatile unsigned i = 0; i < 3; i++)
        if (sigsetjmp(back, 1) == 0)
            foreign[i] = 1;
    if (n_seen != 3 || seen.si_addr != &foreign[2] || seen.si_code != BUS_ADRERR)
        return 1;
    if (sigsetjmp(back, 1) == 0)
        raise(SIGBUS);
    if (n_seen != 4 || seen.si_code > 0 || child_loss.happened)
        return 2;
    /* A handler that leaves by longjmp must not block unregistering. */
    child_mapping.at[0] = 1;
    gw_mapping_done(&child_mapping);
    return n_seen == 4 && child_loss.happened ? 0 : 3;
}

static void test_sigbus_elsewhere_reaches_the_embedders_handler(void **state)
{
    struct sigaction before = {.sa_sigaction = jump_back, .sa_flags = SA_SIGINFO};

    expect_lived(in_child(&before, jump_out_of_three));
    before.sa_flags |= (int)SA_NODEFER;
    expect_lived(in_child(&before, jump_out_of_three));
}

static void *touch_where_blocked(void *arg)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    if (arg)
        gw_sigbus_unblock();
    child_mapping.at[PAGE] = 1;
    return NULL;
}

static int touch_blocked(void)
{
    pthread_t thread;

    return pthread_create(&thread, NULL, touch_where_blocked, NULL) || pthread_join(thread, NULL);
}

static int touch_unblocked(void)
{
    bool unblock = true;
    pthread_t thread;

    return pthread_create(&thread, NULL, touch_where_blocked, &unblock) ||
           pthread_join(thread, NULL);
}

static void test_sigbus_is_let_through_where_all_is_blocked(void **state)
{
    const struct sigaction before = {.sa_handler = SIG_DFL};

    expect_lived(in_child(&before, touch_unblocked));
    expect_killed(in_child(&before, touch_blocked));
}

/* ---- faults in the library's mappings ---- */

static struct gw_loss loss;

/* Call first in each of the following tests, not in setup: cmocka sets actions after setup, too. */
static void begin(void)
{
    gw_sigbus_install();
    hold_sigbus();
}

static int setup(void **state)
{
    if (fdcheck_setup(state) < 0)
        return -1;
    loss = (struct gw_loss){.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    return loss.wake_fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    gw_close(&loss.wake_fd);
    return fdcheck_teardown(state);
}

static void test_sigbus_leaves_errno_alone(void **state)
{
    struct gw_mapping m;

    begin();
    lost_pages(&m, 1, &loss);
    gw_close(&loss.wake_fd); /* so that the wakeup fails */
    errno = EXDEV;
    m.at[0] = 1;
    assert_int_equal(errno, EXDEV);
    gw_mapping_done(&m);
}

static void test_sigbus_forgotten_loss_is_not_told(void **state)
{
    struct gw_mapping m[2];
    eventfd_t n;

    begin();
    lost_pages(&m[0], 2, &loss);
    lost_pages(&m[1], 2, &loss);
    gw_sigbus_forget(&loss);
    m[0].at[0] = 1;
    m[1].at[PAGE] = 1;
    assert_false(loss.happened);
    assert_int_equal(eventfd_read(loss.wake_fd, &n), -1);
    assert_int_equal(gw_mapping_check(&m[0], "it"), -EIO);
    gw_mapping_done(&m[0]);
    gw_mapping_done(&m[1]);
}

/* Lose every other page: more pages than a process may have mappings. */
static void test_sigbus_more_lost_pages_than_mappings_are_survived(void **state)
{
    unsigned long most = 65530;
    struct gw_mapping m;
    FILE *file;

    if (is_under_asan())
        skip();
    file = fopen("/proc/sys/vm/max_map_count", "re");
    if (file && fscanf(file, "%lu", &most) != 1)
        most = 65530;
    if (file)
        fclose(file);
    if (most > 1000000 || is_under_tsan()) {
        print_message("too many\n");
        skip();
    }
    begin();
    lost_pages(&m, 2 * most, &loss);
    for (uint64_t i = 0; i < most; i++)
        m.at[2 * i * PAGE] = 1;
    assert_int_equal(m.at[0], 0); /* finally all pages were lost */
    assert_int_equal(gw_mapping_check(&m, "it"), -EIO);
    gw_mapping_done(&m);
}

/* Up to 1024 pieces are replaced one by one, and the next one together with all of the range. */
static void test_sigbus_of_1025_pages_replaces_the_range(void **state)
{
    enum {
        PIECES = 1024
    };
    const uint64_t size = (PIECES + 2) * PAGE;
    int fd = empty_memory();
    struct gw_mapping m;

    begin();
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_int_equal(gw_mapping_init(&m, "it", fd, 0, size, MAP_NORESERVE), 0);
    gw_mapping_guard(&m, &loss);
    for (uint64_t i = 0; i <= PIECES; i++) {
        assert_int_equal(ftruncate(fd, 0), 0);
        m.at[i * PAGE] = 1;
        assert_int_equal(ftruncate(fd, (off_t)size), 0);
        assert_int_equal(pwrite(fd, "f", 1, (off_t)(size - PAGE)), 1);
        assert_int_equal(m.at[size - PAGE], i < PIECES ? 'f' : 0);
        assert_int_equal(m.at[i * PAGE], 1);
    }
    gw_mapping_done(&m);
    close(fd);
}

enum {
    N_THREADS = 4,
    N_ROUNDS = 400,
    N_PAGES = 8
};

/* Map, lose, touch and unmap pages, concurrently with other threads that reuse the addresses. */
static void *lose_again_and_again(void *arg)
{
    struct gw_loss mine = {.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    uintptr_t n_wrong = 0;

    for (unsigned i = 0; i < N_ROUNDS; i++) {
        struct gw_mapping m;

        mine.happened = false;
        lost_pages(&m, N_PAGES, &mine);
        for (unsigned k = 0; k < N_PAGES; k++) {
            volatile uint8_t *byte = &m.at[k * PAGE + k];

            n_wrong += *byte != 0;
            *byte = (uint8_t)k;
            n_wrong += *byte != k;
        }
        n_wrong += !__atomic_load_n(&mine.happened, __ATOMIC_ACQUIRE);
        gw_mapping_done(&m);
    }
    close(mine.wake_fd);
    return (void *)n_wrong;
}

static void test_sigbus_on_many_threads_at_once(void **state)
{
    pthread_t threads[N_THREADS];
    void *n_wrong;

    begin();
    for (unsigned i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, lose_again_and_again, NULL), 0);
    for (unsigned i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &n_wrong), 0);
        assert_null(n_wrong);
    }
}

struct same {
    struct gw_mapping m;
    pthread_barrier_t begin;
};

static void *touch_same(void *arg)
{
    struct same *same = arg;

    pthread_barrier_wait(&same->begin);
    for (unsigned k = 0; k < 256; k++)
        (void)__atomic_load_n(&same->m.at[k * PAGE], __ATOMIC_RELAXED);
    return NULL;
}

static void test_sigbus_on_the_same_pages_at_once(void **state)
{
    pthread_t threads[N_THREADS];
    struct same same;

    begin();
    lost_pages(&same.m, 256, &loss);
    pthread_barrier_init(&same.begin, NULL, N_THREADS);
    for (unsigned i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, touch_same, &same), 0);
    for (unsigned i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    pthread_barrier_destroy(&same.begin);
    assert_true(loss.happened);
    gw_mapping_done(&same.m);
}

#define SIGBUS_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_sigbus_elsewhere_kills_as_ever),
        FDCHECK_TEST(test_sigbus_ignored_stays_ignored),
        FDCHECK_TEST(test_sigbus_elsewhere_reaches_a_plain_handler),
        FDCHECK_TEST(test_sigbus_elsewhere_reaches_the_embedders_handler),
        FDCHECK_TEST(test_sigbus_is_let_through_where_all_is_blocked),
        SIGBUS_TEST(test_sigbus_leaves_errno_alone),
        SIGBUS_TEST(test_sigbus_forgotten_loss_is_not_told),
        SIGBUS_TEST(test_sigbus_more_lost_pages_than_mappings_are_survived),
        SIGBUS_TEST(test_sigbus_of_1025_pages_replaces_the_range),
        SIGBUS_TEST(test_sigbus_on_many_threads_at_once),
        SIGBUS_TEST(test_sigbus_on_the_same_pages_at_once),
    };

    if (is_under_valgrind())
        skip_test("valgrind takes a page that is gone for a mistake");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
