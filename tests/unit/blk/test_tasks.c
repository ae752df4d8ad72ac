/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Threads for work that may block: no number of tasks that block keeps the others from running. */
#include "tasks.h"

#include "patience.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

enum {
    N_BLOCKED = 20,
    N_QUICK = 100
};

static sem_t ran, released;
static unsigned n_at_first;            /* threads of the process */
static unsigned n_created, n_detached; /* threads; atomic */

int __real_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg);
int __real_pthread_detach(pthread_t thread);
int __wrap_pthread_detach(pthread_t thread);

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg)
{
    __atomic_fetch_add(&n_created, 1, __ATOMIC_RELAXED);
    return __real_pthread_create(ret, attr, run, arg);
}

int __wrap_pthread_detach(pthread_t thread)
{
    __atomic_fetch_add(&n_detached, 1, __ATOMIC_RELAXED);
    return __real_pthread_detach(thread);
}

static void wait_ran(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct timespec until;
        unsigned ms = 0;
        int r;

        do {
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += 50000000;
            until.tv_sec += until.tv_nsec / 1000000000;
            until.tv_nsec %= 1000000000;
            r = sem_timedwait(&ran, &until);
            (void)tasks_check();
            ms += 50;
        } while (r < 0 && ms < patience_ms());
        assert_int_equal(r, 0);
    }
}

static void run_quick(struct task *task)
{
    sem_post(&ran);
}

static void run_blocked(struct task *task)
{
    sem_post(&ran);
    sem_wait(&released);
    sem_post(&ran);
}

static void test_tasks_run(void **state)
{
    static struct task tasks[N_QUICK];

    for (unsigned i = 0; i < N_QUICK; i++) {
        tasks[i].run = run_quick;
        tasks_add(&tasks[i]);
    }
    wait_ran(N_QUICK);
    assert_false(tasks_check());
}

static void test_tasks_that_block_delay_no_others(void **state)
{
    static struct task blocked[N_BLOCKED], quick[N_QUICK];

    for (unsigned i = 0; i < N_BLOCKED; i++) {
        blocked[i].run = run_blocked;
        tasks_add(&blocked[i]);
    }
    for (unsigned i = 0; i < N_QUICK; i++) {
        quick[i].run = run_quick;
        tasks_add(&quick[i]);
    }
    wait_ran(N_BLOCKED + N_QUICK);
    assert_false(tasks_check());
    for (unsigned i = 0; i < N_BLOCKED; i++)
        sem_post(&released);
    wait_ran(N_BLOCKED);
}

static unsigned n_threads(void)
{
    FILE *status = fopen("/proc/self/status", "re");
    char line[128];
    unsigned n = 0;

    assert_non_null(status);
    while (n == 0 && fgets(line, sizeof(line), status))
        (void)sscanf(line, "Threads: %u", &n);
    fclose(status);
    return n;
}

/* Only the first thread stays, and nothing of the others. */
static void test_tasks_threads_end(void **state)
{
    unsigned n_now = n_threads();

    assert_in_range(n_created, 2, N_QUICK);
    assert_int_equal(n_detached, n_created);
    for (unsigned ms = 0; n_now > n_at_first && ms < patience_ms(); ms++) {
        (void)poll(NULL, 0, 1);
        n_now = n_threads();
    }
    assert_int_equal(n_now, n_at_first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tasks_run), cmocka_unit_test(test_tasks_that_block_delay_no_others),
        cmocka_unit_test(test_tasks_threads_end), /* those of the tests before */
    };

    sem_init(&ran, 0, 0);
    sem_init(&released, 0, 0);
    if (tasks_init() < 0)
        return 1;
    n_at_first = n_threads();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
