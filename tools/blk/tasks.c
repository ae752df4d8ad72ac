/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One thread exists from the beginning, so that a process that cannot create threads any longer can
 * still close its disks. The others end when no task waits.
 */
#include "tasks.h"

#include "base/clock.h"

#include <pthread.h>
#include <stddef.h>

enum {
    FAST_MAX = 4, /* threads with a task that does not take long */
};

/* A thread; on its stack. */
struct runner {
    uint64_t begun_ms; /* of its task; 0: it has none */
    struct runner *next;
};

static struct {
    pthread_mutex_t lock; /* everything below */
    pthread_cond_t added; /* for the first thread */
    struct task *first;
    struct task **end;
    unsigned n_waiting;
    struct runner *runners;
    unsigned n_starting; /* threads that have not taken a task yet */
} tasks = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .added = PTHREAD_COND_INITIALIZER,
    .end = &tasks.first,
};

/* [lock] */
static struct task *take(void)
{
    struct task *task = tasks.first;

    if (task == NULL)
        return NULL;
    tasks.first = task->next;
    if (tasks.first == NULL)
        tasks.end = &tasks.first;
    tasks.n_waiting--;
    return task;
}

/* [lock] Returns without the lock, and takes it again, while the task runs. */
static void run(struct runner *runner, struct task *task)
{
    runner->begun_ms = gw_clock_ms();
    pthread_mutex_unlock(&tasks.lock);
    task->run(task);
    pthread_mutex_lock(&tasks.lock);
    runner->begun_ms = 0;
}

/* [lock] */
static void remove_runner(struct runner *runner)
{
    struct runner **link = &tasks.runners;

    while (*link != runner)
        link = &(*link)->next;
    *link = runner->next;
}

static void *more_main(void *arg)
{
    struct runner self = {0};
    struct task *task;

    (void)pthread_setname_np(pthread_self(), "task");
    pthread_mutex_lock(&tasks.lock);
    self.next = tasks.runners;
    tasks.runners = &self;
    tasks.n_starting--;
    while ((task = take()) != NULL)
        run(&self, task);
    remove_runner(&self);
    pthread_mutex_unlock(&tasks.lock);
    return NULL;
}

static void *first_main(void *arg)
{
    static struct runner self;
    struct task *task;

    (void)pthread_setname_np(pthread_self(), "task");
    pthread_mutex_lock(&tasks.lock);
    self.next = tasks.runners;
    tasks.runners = &self;
    for (;;) {
        while ((task = take()) == NULL)
            pthread_cond_wait(&tasks.added, &tasks.lock);
        run(&self, task);
    }
    return NULL;
}

static int start_thread(void *(*thread_main)(void *))
{
    pthread_t thread;
    int r = -pthread_create(&thread, NULL, thread_main, NULL);

    if (r == 0)
        pthread_detach(thread);
    return r;
}

/* [lock] Whether there are enough threads for the waiting tasks. */
static bool has_threads(void)
{
    unsigned n_free = tasks.n_starting, n_fast = tasks.n_starting;
    uint64_t now = gw_clock_ms();

    for (const struct runner *one = tasks.runners; one != NULL; one = one->next) {
        n_free += one->begun_ms == 0;
        n_fast += one->begun_ms == 0 || now - one->begun_ms < TASKS_SLOW_MS;
    }
    return n_free >= tasks.n_waiting || n_fast >= FAST_MAX;
}

int tasks_init(void)
{
    return start_thread(first_main);
}

/* [lock] A thread that cannot be created is not needed urgently: there is the first one. */
static void start_more(void)
{
    if (has_threads())
        return;
    tasks.n_starting++;
    if (start_thread(more_main) < 0)
        tasks.n_starting--;
}

void tasks_add(struct task *task)
{
    pthread_mutex_lock(&tasks.lock);
    task->next = NULL;
    *tasks.end = task;
    tasks.end = &task->next;
    tasks.n_waiting++;
    pthread_cond_signal(&tasks.added);
    start_more();
    pthread_mutex_unlock(&tasks.lock);
}

bool tasks_check(void)
{
    bool is_waiting;

    pthread_mutex_lock(&tasks.lock);
    start_more();
    is_waiting = tasks.n_waiting > 0;
    pthread_mutex_unlock(&tasks.lock);
    return is_waiting;
}
