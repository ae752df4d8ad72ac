/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The killer: waits in its own thread, so that the back-end dies regardless of what the other
 * threads do. The delay is accurate to some 50 us; the back-end's progress by then is random.
 */
#include "crash_i.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum order {
    REST,
    STRIKE,
    QUIT,
};

struct crash_killer {
    struct target *target;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under `lock` */
    enum order order;
    uint64_t at_ns;
    struct gw_guest_load *load;
    struct crash_watch watch; /* without words: kill at once */
    bool was_exact;
    bool has_struck; /* also atomic: read without the lock */
};

/* Under the lock, so that disarming either prevents all of it or finds it complete. */
static void strike(struct crash_killer *k)
{
    struct crash_stepper *stepper = NULL;

    k->was_exact = k->watch.n > 0 && crash_step_begin(&stepper, k->target, &k->watch);
    __atomic_store_n(&k->has_struck, true, __ATOMIC_SEQ_CST);
    target_kill(k->target);
    crash_step_end(stepper);
    if (k->load)
        gw_guest_load_interrupt(k->load);
    k->order = REST;
}

static void *killer(void *arg)
{
    struct crash_killer *k = arg;

    pthread_mutex_lock(&k->lock);
    while (k->order != QUIT) {
        struct timespec at = gw_clock_timespec(k->at_ns);

        if (k->order == REST)
            pthread_cond_wait(&k->changed, &k->lock);
        else if (pthread_cond_timedwait(&k->changed, &k->lock, &at) == ETIMEDOUT)
            strike(k);
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

int crash_killer_new(struct crash_killer **ret, struct target *target)
{
    struct crash_killer *k = calloc(1, sizeof(*k));
    pthread_condattr_t attr;
    int r;

    if (!k)
        return -ENOMEM;
    k->target = target;
    pthread_mutex_init(&k->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&k->changed, &attr);
    pthread_condattr_destroy(&attr);
    r = -pthread_create(&k->thread, NULL, killer, k);
    if (r == 0) {
        *ret = k;
        return 0;
    }
    pthread_cond_destroy(&k->changed);
    pthread_mutex_destroy(&k->lock);
    free(k);
    return r;
}

static void give_order(struct crash_killer *k, enum order order)
{
    pthread_mutex_lock(&k->lock);
    k->order = order;
    __atomic_store_n(&k->has_struck, false, __ATOMIC_SEQ_CST);
    pthread_cond_signal(&k->changed);
    pthread_mutex_unlock(&k->lock);
}

void crash_killer_free(struct crash_killer *k)
{
    if (!k)
        return;
    give_order(k, QUIT);
    pthread_join(k->thread, NULL);
    pthread_cond_destroy(&k->changed);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

void crash_killer_arm(struct crash_killer *k, uint64_t delay_ns, const struct crash_watch *watch,
                      struct gw_guest_load *load)
{
    pthread_mutex_lock(&k->lock);
    k->at_ns = gw_clock_ns() + delay_ns;
    k->watch = watch ? *watch : (struct crash_watch){.n = 0};
    k->load = load;
    k->order = STRIKE;
    pthread_cond_signal(&k->changed);
    pthread_mutex_unlock(&k->lock);
}

bool crash_killer_has_struck(struct crash_killer *k)
{
    return __atomic_load_n(&k->has_struck, __ATOMIC_SEQ_CST);
}

bool crash_killer_was_exact(struct crash_killer *k)
{
    bool was;

    pthread_mutex_lock(&k->lock);
    was = k->was_exact;
    pthread_mutex_unlock(&k->lock);
    return was;
}

void crash_killer_disarm(struct crash_killer *k)
{
    give_order(k, REST);
}
