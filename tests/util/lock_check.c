/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Ends a test that unlocks a mutex or a lock which its thread has not locked, or waits with it. The
 * C library does not notice that, and without ThreadSanitizer the missing lock harms only now and
 * then. The linker redirects the calls of the tests and of the code under test (--wrap).
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

int __real_pthread_mutex_unlock(pthread_mutex_t *m);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *m);
int __real_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
int __real_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t);
int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t);
int __real_pthread_rwlock_unlock(pthread_rwlock_t *l);
int __wrap_pthread_rwlock_unlock(pthread_rwlock_t *l);

static void check(bool is_held, const char *what)
{
    if (is_held)
        return;
    fprintf(stderr, "%s: this thread has not locked it\n", what);
    abort();
}

/*
 * A child process may unlock what the thread that forked had locked in the parent, where its number
 * was another one.
 */
static _Thread_local pid_t id_before_fork;

static pid_t id(void)
{
    return (pid_t)syscall(SYS_gettid);
}

static void before_fork(void)
{
    id_before_fork = id();
}

static __attribute__((constructor)) void init(void)
{
    pthread_atfork(before_fork, NULL, NULL);
}

/* The C library records the owner of a mutex of any kind. */
static bool is_ours(const pthread_mutex_t *m)
{
#ifdef __GLIBC__
    pid_t owner = m->__data.__owner;

    return owner != 0 && (owner == id() || owner == id_before_fork);
#else
    return true;
#endif
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
    check(is_ours(m), "pthread_mutex_unlock");
    return __real_pthread_mutex_unlock(m);
}

int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    check(is_ours(m), "pthread_cond_wait");
    return __real_pthread_cond_wait(c, m);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t)
{
    check(is_ours(m), "pthread_cond_timedwait");
    return __real_pthread_cond_timedwait(c, m, t);
}

/* Readers are not recorded, only their number. */
int __wrap_pthread_rwlock_unlock(pthread_rwlock_t *l)
{
#ifdef __GLIBC__
    check(l->__data.__cur_writer == id() || l->__data.__readers >> 3 > 0, "pthread_rwlock_unlock");
#endif
    return __real_pthread_rwlock_unlock(l);
}
