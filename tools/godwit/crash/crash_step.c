/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Brings a back-end to an exact place: where it records a completed batch in the inflight region,
 * and then some instructions further. Recovery depends on the few stores there, and a kill by the
 * clock hardly ever hits them. The back-end runs to a watchpoint, or single-steps where watchpoints
 * are unavailable; from there on it always single-steps.
 *
 * Only the thread that began tracing may trace. That thread belongs to the parent process of the
 * back-end, so a wait here consumes the status for all threads: the end of the child itself is left
 * to target_bury.
 */
#include "base/clock.h"
#include "crash_i.h"
#include "crash_watchpoint.h"

#include <dirent.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX  256
#define QUEUES_MAX   64
#define PACKED_DESC  8 /* size in 16-bit words */
#define PACKED_FLAGS 7
#define TIME_NS      UINT64_C(400000000)  /* time limit with watchpoints*/
#define STEPS_NS     UINT64_C(2000000000) /* time limit with single steps on a busy machine */
#define IDLE_NS      UINT64_C(100000000)  /* without a step: the threads are idle */
#define SPINS        64                   /* polls of the threads before pausing */
#define PAUSE_NS     20000

struct crash_stepper {
    struct target *target;
    pid_t pid; /* of the back-end, not necessarily the target's child */
    const struct crash_watch *watch;
    pid_t threads[THREADS_MAX];
    unsigned n_threads;
    bool has_watchpoints;
    pid_t at; /* the thread that reached the place; 0: none yet */
    bool waits_shown;
    unsigned queue;
    uint16_t word;              /* shown_word when the place was reached */
    uint32_t words[QUEUES_MAX]; /* last values of the watched words */
};

/* The word that publishes a batch to the driver: the used index, or its first descriptor. */
static uint16_t shown_word(const struct crash_stepper *s, unsigned queue)
{
    const uint16_t *at = s->watch->rings[queue];
    /* The word of a packed ring has the old used index in its upper half. */
    unsigned old = s->words[queue] >> 16;

    if (s->watch->is_packed)
        at += old % s->watch->queue_size * PACKED_DESC + PACKED_FLAGS;
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

/* Whether the back-end has written to one of the watched words. */
static bool has_changed(struct crash_stepper *s)
{
    bool changed = false;

    for (unsigned i = 0; i < s->watch->n && i < QUEUES_MAX; i++) {
        uint32_t word = s->words[i];
        off_t at = (off_t)(s->watch->first + i * s->watch->stride);

        if (pread(s->watch->fd, &word, sizeof(word), at) != (ssize_t)sizeof(word) ||
            word == s->words[i])
            continue;
        changed = true;
        s->words[i] = word;
        s->queue = i;
    }
    return changed;
}

/* Stop one thread. Kernel threads in the list refuse. */
static void attach(struct crash_stepper *s, pid_t thread)
{
    int status;

    if (s->n_threads == THREADS_MAX || ptrace(PTRACE_SEIZE, thread, NULL, NULL) < 0)
        return;
    ptrace(PTRACE_INTERRUPT, thread, NULL, NULL);
    if (waitpid(thread, &status, __WALL) == thread && WIFSTOPPED(status))
        s->threads[s->n_threads++] = thread;
}

static void attach_all(struct crash_stepper *s)
{
    char path[32];
    struct dirent *entry;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)s->pid);
    dir = opendir(path);
    while (dir && (entry = readdir(dir)) != NULL) {
        if (atoi(entry->d_name) > 0)
            attach(s, atoi(entry->d_name));
    }
    if (dir)
        closedir(dir);
}

/* The address in the back-end of an offset in the region; 0 if it is not mapped. */
static uint64_t find_address(FILE *maps, const struct stat *file, uint64_t offset)
{
    unsigned long long begin, end, at, inode;
    unsigned major, minor;
    char line[512];

    rewind(maps);
    while (fgets(line, sizeof(line), maps)) {
        if (sscanf(line, "%llx-%llx %*s %llx %x:%x %llu", &begin, &end, &at, &major, &minor,
                   &inode) == 6 &&
            inode == file->st_ino && makedev(major, minor) == file->st_dev && offset >= at &&
            offset - at < end - begin)
            return begin + (offset - at);
    }
    return 0;
}

static void set_watchpoints(struct crash_stepper *s)
{
    uint64_t addresses[QUEUES_MAX], address;
    struct stat file;
    char path[32];
    unsigned n = 0;
    FILE *maps;

    snprintf(path, sizeof(path), "/proc/%d/maps", (int)s->pid);
    maps = fopen(path, "re");
    if (!maps)
        return;
    for (unsigned i = 0; fstat(s->watch->fd, &file) == 0 && i < s->watch->n && i < QUEUES_MAX;
         i++) {
        address = find_address(maps, &file, s->watch->first + i * s->watch->stride);
        if (address)
            addresses[n++] = address;
    }
    fclose(maps);
    s->has_watchpoints = n > 0;
    for (unsigned i = 0; i < s->n_threads; i++)
        s->has_watchpoints =
            s->has_watchpoints && crash_watchpoint_set(s->threads[i], addresses, n);
}

/* Continue to the place, or one step further if it was reached. */
static void resume(const struct crash_stepper *s, pid_t thread, int sig)
{
    bool runs = s->has_watchpoints && thread != s->at;

    ptrace(runs ? PTRACE_CONT : PTRACE_SINGLESTEP, thread, NULL, (void *)(intptr_t)sig);
}

/* The next thread stopped by a watchpoint, step or signal; 0 if none is at present. */
static pid_t next_stopped(int *ret_sig)
{
    int status;
    pid_t thread = waitpid(-1, &status, __WALL | __WNOTHREAD | WNOHANG);

    if (thread <= 0 || !WIFSTOPPED(status))
        return 0;
    *ret_sig = status >> 16 ? 0 : WSTOPSIG(status);
    return thread;
}

static void pause_a_little(unsigned n_idle)
{
    if (n_idle < SPINS)
        sched_yield();
    else
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
}

/* Count a step of the thread that reached the place. Returns: whether it is the last. */
static bool count_step(struct crash_stepper *s, uint64_t *left)
{
    if (s->waits_shown && shown_word(s, s->queue) == s->word)
        return false;
    s->waits_shown = false;
    return (*left)-- == 0;
}

/* Returns: whether the place was reached. */
static bool go_to_place(struct crash_stepper *s)
{
    uint64_t now = gw_clock_ns(), idle_since = now, left = s->watch->further;
    uint64_t limit = s->has_watchpoints ? TIME_NS : STEPS_NS;
    uint64_t deadline = now + (limit < s->watch->limit_ns ? limit : s->watch->limit_ns);
    unsigned n_idle = 0;
    int sig;

    has_changed(s);
    for (unsigned i = 0; i < s->n_threads; i++)
        resume(s, s->threads[i], 0);
    for (; now < deadline; now = gw_clock_ns()) {
        pid_t thread = next_stopped(&sig);

        if (thread == 0) {
            if (!s->has_watchpoints && now - idle_since > IDLE_NS)
                break;
            pause_a_little(n_idle++);
            continue;
        }
        n_idle = 0;
        idle_since = now;
        if (s->at == 0 && sig == SIGTRAP && has_changed(s)) {
            s->at = thread;
            s->waits_shown = s->watch->is_shown;
            s->word = shown_word(s, s->queue);
        }
        if (s->at == thread && count_step(s, &left))
            return true;
        resume(s, thread, sig == SIGTRAP ? 0 : sig);
    }
    return false;
}

bool crash_step_begin(struct crash_stepper **ret, struct target *t, const struct crash_watch *watch)
{
    struct crash_stepper *s = calloc(1, sizeof(*s));

    *ret = s;
    if (!s)
        return false;
    s->watch = watch;
    s->target = t;
    s->pid = target_listener(t);
    attach_all(s);
    set_watchpoints(s);
    return s->n_threads > 0 && go_to_place(s);
}

static void wait_for_end(pid_t thread)
{
    int status;

    while (waitpid(thread, &status, __WALL) == thread && WIFSTOPPED(status))
        continue;
}

void crash_step_end(struct crash_stepper *s)
{
    if (!s)
        return;
    /* A listener outside the child's process group has not been killed yet. */
    if (s->n_threads > 0 && s->pid != target_pid(s->target))
        kill(s->pid, SIGKILL);
    for (unsigned i = 0; i < s->n_threads; i++) {
        if (s->threads[i] != s->pid)
            wait_for_end(s->threads[i]);
    }
    /* The main thread is reported only after all others have been waited for. */
    if (s->n_threads > 0 && s->pid != target_pid(s->target))
        wait_for_end(s->pid);
    free(s);
}
