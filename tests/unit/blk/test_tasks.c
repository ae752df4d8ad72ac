/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Threads for work that may block: no number of tasks that block keeps the others from running. */
#include "tasks.h"

#include "patience.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

enum {
    N_BLOCKED = 20,
    N_QUICK = 100
};

static sem_t ran, released;

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tasks_run),
        cmocka_unit_test(test_tasks_that_block_delay_no_others),
    };

    sem_init(&ran, 0, 0);
    sem_init(&released, 0, 0);
    if (tasks_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
