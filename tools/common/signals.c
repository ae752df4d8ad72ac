/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Signals of a back-end program. They are blocked before any other thread exists, so no signal
 * handler ever runs. Two threads wait for them:
 *
 *   the ending thread    SIGTERM and SIGINT: ends the devices, and the process if that
 *                        takes too long. It never waits for a thread that may be stuck, and lives
 *                        until the process ends.
 *   the service thread   SIGHUP and SIGUSR1, whose work may sleep.
 *
 * After the first such signal the program has END_MS to end, or PROGRESS_MS while requests are
 * being completed. Then the ending thread logs what is stuck and ends the process: there is no
 * other way to end a thread that sleeps in the kernel or in the device.
 */
#include "backend.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define REPETITION_NS UINT64_C(1000000000)

enum {
    /* Below the documented 5 and 10 seconds, because finding out what is stuck takes time. */
    END_MS = 4300,
    PROGRESS_MS = 9300,
    IDLE_MS = 2000, /* no progress if no request completes for this long */
    TICK_MS = 100,
    LAST_WORDS_MS = 300
};

static struct {
    const struct backend_signal_ops *ops;
    pthread_t service_thread;
    _Atomic bool is_over; /* the service thread must end */
    /* Used by the ending thread only. */
    unsigned n_end_signals;
    uint64_t first_end_ns, progress_ns;
    uint64_t n_answered;
} signals;

/* ---- the end ---- */

__attribute__((noreturn, format(printf, 1, 2))) static void end_now(const char *format, ...)
{
    const struct itimerval timer = {.it_value.tv_usec = LAST_WORDS_MS * 1000},
                           none = {.it_value = {0}};
    char text[900];
    sigset_t alarm;
    va_list args;

    /* The message may block on a pipe without a reader; then SIGALRM ends the process. */
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    signal(SIGALRM, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    backend_say(NULL, GW_LOG_ERROR, "%s: ending at once, in-flight requests are not completed",
                text);
    setitimer(ITIMER_REAL, &none, NULL);
    _exit(EXIT_FAILURE);
}

/*
 * The first SIGTERM or SIGINT ends the devices in good order. A supervisor may send SIGTERM twice:
 * timeout(1) signals its child and then the child's process group. So a SIGTERM within a second of
 * the first signal repeats it; any other further signal ends the process at once.
 */
static void on_end_signal(int sig)
{
    uint64_t now = gw_clock_ns();

    signals.n_end_signals++;
    if (signals.n_end_signals == 1) {
        signals.first_end_ns = signals.progress_ns = now;
        backend_ending_begin();
        signals.ops->end();
        backend_systemd_notify("STOPPING=1");
        return;
    }
    if (sig == SIGTERM && signals.n_end_signals == 2 && now - signals.first_end_ns < REPETITION_NS)
        return;
    end_now("%s while ending", sig == SIGTERM ? "SIGTERM" : "SIGINT");
}

/* Returns: the number of in-flight requests. Updates progress_ns if any has completed. */
static uint64_t count_requests(uint64_t now)
{
    uint64_t n_answered = 0, n_in_flight = 0;

    signals.ops->count(&n_in_flight, &n_answered);
    if (n_answered != signals.n_answered)
        signals.progress_ns = now;
    signals.n_answered = n_answered;
    return n_in_flight;
}

static void check_limit(void)
{
    uint64_t now = gw_clock_ns(), taken_ms = (now - signals.first_end_ns) / 1000000;
    char stuck[600] = "";
    bool makes_progress;

    makes_progress = count_requests(now) > 0 && (now - signals.progress_ns) / 1000000 < IDLE_MS;
    if (taken_ms < (makes_progress ? PROGRESS_MS : END_MS))
        return;
    signals.ops->find_stuck(stuck, sizeof(stuck));
    end_now("not ended after %llu ms: %s", (unsigned long long)taken_ms, stuck);
}

static void *ending_main(void *arg)
{
    const struct timespec tick = {.tv_nsec = TICK_MS * 1000000};
    const sigset_t *set = arg;

    (void)pthread_setname_np(pthread_self(), "ending");
    for (;;) {
        int sig = sigtimedwait(set, NULL, signals.n_end_signals > 0 ? &tick : NULL);

        if (sig > 0)
            on_end_signal(sig);
        if (signals.n_end_signals > 0)
            check_limit();
    }
    return NULL;
}

/* ---- service ---- */

static void *service_main(void *arg)
{
    const sigset_t *set = arg;
    int sig;

    (void)pthread_setname_np(pthread_self(), "service");
    while (sigwait(set, &sig) == 0 && !atomic_load(&signals.is_over)) {
        if (sig == SIGUSR1)
            signals.ops->report();
        else
            signals.ops->reload();
    }
    return NULL;
}

/* ---- the interface ---- */

int backend_signals_init(const struct backend_signal_ops *ops)
{
    static sigset_t end_set; /* the thread outlives this call */
    sigset_t all;
    pthread_t thread;
    int r;

    signals.ops = ops;
    sigemptyset(&end_set);
    sigaddset(&end_set, SIGTERM);
    sigaddset(&end_set, SIGINT);
    all = end_set;
    sigaddset(&all, SIGHUP);
    sigaddset(&all, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    signal(SIGPIPE, SIG_IGN); /* a closed reader of stderr must not end the program */
    signal(SIGXFSZ, SIG_IGN); /* nor must a file size limit (ulimit -f): the write fails instead */
    r = backend_ending_init();
    if (r == 0)
        r = -pthread_create(&thread, NULL, ending_main, &end_set);
    if (r == 0)
        pthread_detach(thread);
    else
        backend_say(NULL, GW_LOG_ERROR, "cannot start the ending thread: %s", strerror(-r));
    return r;
}

int backend_service_begin(void)
{
    static sigset_t set;
    int r;

    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    r = -pthread_create(&signals.service_thread, NULL, service_main, &set);
    if (r < 0)
        backend_say(NULL, GW_LOG_ERROR, "cannot start the service thread: %s", strerror(-r));
    return r;
}

void backend_service_end(void)
{
    atomic_store(&signals.is_over, true);
    pthread_kill(signals.service_thread, SIGHUP); /* wakes it from sigwait */
    pthread_join(signals.service_thread, NULL);
}
