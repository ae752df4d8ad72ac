/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "detached.h"

#include <pthread.h>
#include <signal.h>

int gw_detached_start(void *(*fn)(void *arg), void *arg, size_t stack_size)
{
    pthread_attr_t attr;
    sigset_t all, before;
    pthread_t thread;
    int r;

    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (stack_size > 0)
        pthread_attr_setstacksize(&attr, stack_size);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&thread, &attr, fn, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return -r;
}
