/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A queue of descriptors with the threads that serve it, and the processes that close files. */
#include "sacrificial.h"

#include "base/clock.h"
#include "detached.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    THREADS_MAX = 8,
    QUEUE_LENGTH = 65536,
    PROCESSES_MAX = 16,
    PROCESS_STACK = 65536,
    REAP_STEP_MS = 2
};

struct entry {
    int fd;
    enum gw_sacrifice what;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t all_done;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct entry queue[QUEUE_LENGTH]; /* a circle, used from its start again when empty */
static unsigned first, n_queued, n_threads;
static pid_t processes[PROCESSES_MAX]; /* [lock] 0: none */

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&lock);
}

/* The threads and their work stay with the parent: the child only has copies of the descriptors. */
static void after_fork_in_child(void)
{
    n_queued = 0;
    n_threads = 0;
    memset(processes, 0, sizeof(processes));
    pthread_mutex_unlock(&lock);
}

static void init(void)
{
    pthread_condattr_t attr;

    (void)pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&all_done, &attr);
    pthread_condattr_destroy(&attr);
}

/* May sleep for ever. */
static void act(const struct entry *entry)
{
    const struct linger off = {.l_onoff = 0};

    if (entry->what == GW_SACRIFICE_SIGNAL)
        (void)eventfd_write(entry->fd, 1);
    else
        (void)setsockopt(entry->fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off));
    (void)close(entry->fd);
}

static void *sacrificial_main(void *arg)
{
    (void)pthread_setname_np(pthread_self(), "gw-sacrificial");
    pthread_mutex_lock(&lock);
    while (n_queued > 0) {
        struct entry entry = queue[first];

        first = (first + 1) % QUEUE_LENGTH;
        n_queued--;
        pthread_mutex_unlock(&lock);
        act(&entry);
        pthread_mutex_lock(&lock);
    }
    if (--n_threads == 0)
        pthread_cond_broadcast(&all_done);
    pthread_mutex_unlock(&lock);
    return NULL;
}

bool gw_sacrifice(int fd, enum gw_sacrifice what)
{
    bool has_room;

    pthread_once(&once, init);
    pthread_mutex_lock(&lock);
    has_room = n_queued < QUEUE_LENGTH;
    if (n_queued == 0)
        first = 0;
    if (has_room) {
        queue[(first + n_queued++) % QUEUE_LENGTH] = (struct entry){.fd = fd, .what = what};
        /* The existing threads may all be stuck. */
        if (n_threads < THREADS_MAX && gw_detached_start(sacrificial_main, NULL, 0) == 0)
            n_threads++;
    }
    pthread_mutex_unlock(&lock);
    return has_room;
}

unsigned gw_sacrifice_backlog(void)
{
    unsigned n;

    pthread_mutex_lock(&lock);
    n = n_queued;
    pthread_mutex_unlock(&lock);
    return n;
}

/* [lock] Returns: true when everything is done. */
static bool wait_for_all(unsigned timeout_ms)
{
    struct timespec end = gw_clock_timespec(gw_clock_ns() + timeout_ms * GW_NS_PER_MS);
    int r = 0;

    while (n_threads > 0 && r == 0)
        r = pthread_cond_timedwait(&all_done, &lock, &end);
    return n_threads == 0 && n_queued == 0;
}

/* Runs in a process with a copy of our memory: must neither lock nor allocate. */
static int close_main(void *arg)
{
    const int *fd = arg;

    (void)close(*fd);
    _exit(0);
}

/* [lock] The children have no exit signal, so only __WCLONE waits for them. Returns: how many run.
 */
static unsigned reap(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < PROCESSES_MAX; i++) {
        if (processes[i] > 0 && waitpid(processes[i], NULL, WNOHANG | __WCLONE) != 0)
            processes[i] = 0;
        n += processes[i] > 0;
    }
    return n;
}

void gw_sacrifice_process(int fd)
{
    _Alignas(16) char stack[PROCESS_STACK];

    pthread_once(&once, init);
    pthread_mutex_lock(&lock);
    (void)reap();
    for (unsigned i = 0; i < PROCESSES_MAX; i++) {
        if (processes[i] > 0)
            continue;
        processes[i] = clone(close_main, stack + sizeof(stack), CLONE_FILES, &fd);
        break;
    }
    pthread_mutex_unlock(&lock);
}

static bool flush_processes(unsigned timeout_ms)
{
    const struct timespec step = {.tv_nsec = REAP_STEP_MS * 1000000};
    unsigned n;

    for (unsigned ms = 0;; ms += REAP_STEP_MS) {
        pthread_mutex_lock(&lock);
        n = reap();
        pthread_mutex_unlock(&lock);
        if (n == 0 || ms >= timeout_ms)
            return n == 0;
        (void)nanosleep(&step, NULL);
    }
}

bool gw_sacrifice_flush(unsigned timeout_ms)
{
    bool done;

    pthread_once(&once, init);
    pthread_mutex_lock(&lock);
    done = wait_for_all(timeout_ms);
    pthread_mutex_unlock(&lock);
    return flush_processes(timeout_ms) && done;
}
