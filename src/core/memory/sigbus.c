/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The SIGBUS handler, and the list of ranges that it walks.
 *
 * A handler cannot wait for a lock, because its own thread may hold it, so it walks the list
 * without one. A mutex serializes writers. A range is complete before it is linked, and a removed
 * range keeps its `next`, so that a handler that has reached it still finds the rest of the list.
 *
 * A handler must not use a range that was unmapped, because it would replace a page of some other
 * mapping at that address. So unregistering unlinks the range first and then waits until no handler
 * runs. A handler that increments n_handling before the waiter reads it is waited for. A handler
 * that increments it later does not find the range, because the unlinking precedes that read and
 * all four accesses are sequentially consistent. This cannot deadlock: no handler unregisters a
 * range, handlers never wait, and the previous handler, which may do anything, is called after
 * n_handling is decremented.
 *
 * Two threads may lose the same page at once; the second replaces the first one's page of zeroes by
 * another. Data written in between is lost, like everything that is written to a lost page.
 */
#include "sigbus.h"

#include "base/checked.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

/* Limit on the pieces of a range that are replaced one by one. */
#define PIECES_MAX 1024

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct gw_sigbus_range *ranges; /* atomic; [lock] to change */
static unsigned n_handling;            /* atomic: handlers that walk the list */
static bool is_installed;              /* [lock] */
static struct sigaction previous;      /* never changes while the handler is installed */

/* ---- in the handler ---- */

/* A handler may call mmap(2), which is a bare system call in every libc for Linux. */
static bool put_zeroes(uintptr_t at, size_t length)
{
    return mmap((void *)at, length, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

static bool cover(struct gw_sigbus_range *range, uintptr_t address)
{
    uintptr_t page = range->base + gw_align_down(address - range->base, range->granule);
    uintptr_t none = 0;
    struct gw_loss *loss;

    (void)__atomic_compare_exchange_n(&range->lost_at, &none, address, false, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED);
    /*
     * Every piece adds up to two mappings, whose number per process is limited; at the limit, even
     * a mapping that would replace them all may fail. So a range that loses too many pieces is
     * replaced completely, by one mapping.
     */
    if ((__atomic_add_fetch(&range->n_pieces, 1, __ATOMIC_RELAXED) > PIECES_MAX ||
         !put_zeroes(page, range->granule)) &&
        !put_zeroes(range->base, range->length))
        return false;
    loss = __atomic_load_n(&range->loss, __ATOMIC_SEQ_CST);
    if (loss) {
        __atomic_store_n(&loss->happened, true, __ATOMIC_RELEASE);
        (void)eventfd_write(loss->wake_fd, 1);
    }
    return true;
}

static bool cover_if_ours(uintptr_t address)
{
    bool covered = false;

    (void)__atomic_add_fetch(&n_handling, 1, __ATOMIC_SEQ_CST);
    for (struct gw_sigbus_range *r = __atomic_load_n(&ranges, __ATOMIC_SEQ_CST); r;
         r = __atomic_load_n(&r->next, __ATOMIC_SEQ_CST)) {
        if (address - r->base < r->length) {
            covered = cover(r, address);
            break;
        }
    }
    (void)__atomic_sub_fetch(&n_handling, 1, __ATOMIC_SEQ_CST);
    return covered;
}

static void act_as_default(int number, const siginfo_t *info)
{
    struct sigaction action = {.sa_handler = SIG_DFL};

    (void)sigaction(number, &action, NULL);
    /* A faulting instruction faults again; a signal that was sent must be raised again. */
    if (info->si_code <= 0)
        (void)raise(number);
}

static void act_as_before(int number, siginfo_t *info, void *context)
{
    struct sigaction action = {.sa_handler = SIG_DFL};

    if (previous.sa_flags & SA_RESETHAND)
        (void)sigaction(number, &action, NULL);
    if (previous.sa_flags & SA_SIGINFO)
        previous.sa_sigaction(number, info, context);
    else if (previous.sa_handler == SIG_DFL)
        act_as_default(number, info);
    else if (previous.sa_handler != SIG_IGN)
        previous.sa_handler(number);
    else if (info->si_code > 0)
        act_as_default(number, info); /* a fault cannot be ignored */
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    int saved = errno;

    if (info->si_code == BUS_ADRERR && cover_if_ours((uintptr_t)info->si_addr)) {
        errno = saved;
        return;
    }
    errno = saved;
    act_as_before(number, info, context);
}

/* ---- outside of the handler ---- */

/* [lock] */
static void install(void)
{
    struct sigaction action;

    is_installed = true;
    (void)sigaction(SIGBUS, NULL, &previous);
    action = previous;
    action.sa_flags &= SA_NODEFER | SA_RESTART;
    action.sa_flags |= SA_SIGINFO | SA_ONSTACK;
    action.sa_sigaction = on_sigbus;
    (void)sigaction(SIGBUS, &action, NULL);
}

void gw_sigbus_install(void)
{
    pthread_mutex_lock(&lock);
    if (!is_installed)
        install();
    pthread_mutex_unlock(&lock);
}

static void wait_for_handlers(void)
{
    while (__atomic_load_n(&n_handling, __ATOMIC_SEQ_CST) > 0)
        sched_yield();
}

void gw_sigbus_register(struct gw_sigbus_range *range, struct gw_loss *loss)
{
    pthread_mutex_lock(&lock);
    range->loss = loss;
    range->is_registered = true;
    range->next = ranges;
    __atomic_store_n(&ranges, range, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&lock);
}

void gw_sigbus_unregister(struct gw_sigbus_range *range)
{
    struct gw_sigbus_range **link = &ranges;

    if (!range->is_registered)
        return;
    pthread_mutex_lock(&lock);
    while (*link != range)
        link = &(*link)->next;
    __atomic_store_n(link, range->next, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&lock);
    wait_for_handlers();
    range->is_registered = false;
}

void gw_sigbus_forget(const struct gw_loss *loss)
{
    pthread_mutex_lock(&lock);
    for (struct gw_sigbus_range *r = ranges; r; r = r->next)
        if (r->loss == loss)
            __atomic_store_n(&r->loss, NULL, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&lock);
    wait_for_handlers();
}

void gw_sigbus_unblock(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGBUS);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
