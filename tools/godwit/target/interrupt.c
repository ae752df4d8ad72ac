/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Signals that end godwit itself. A thread waits for them with sigwait instead of a handler,
 * because it takes locks, waits for children and removes files.
 */
#include "child.h"
#include "target.h"
#include "tmpdir.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GRACE_MS 2000

static void *wait_for_signal(void *arg)
{
    sigset_t *signals = arg;
    int sig = 0;

    if (sigwait(signals, &sig) != 0)
        return NULL;
    fprintf(stderr, "\ngodwit: %s: ending the back-ends\n", strsignal(sig));
    children_end(GRACE_MS);
    tmpdir_remove();
    signal(sig, SIG_DFL); /* end by the signal, so that the shell sees it */
    pthread_sigmask(SIG_UNBLOCK, signals, NULL);
    raise(sig);
    _exit(128 + sig);
}

int interrupt_start_thread(void)
{
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
    static sigset_t signals;
    struct sigaction action;
    pthread_t thread;
    int r;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++) {
        /* A signal that nohup or a background shell had ignored stays ignored. */
        if (sigaction(ending[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(&signals, ending[i]);
    }
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    r = -pthread_create(&thread, NULL, wait_for_signal, &signals);
    if (r == 0)
        pthread_detach(thread);
    return r;
}
