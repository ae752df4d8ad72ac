/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The driver of split rings against a simple device (split_device.h) in real guest memory: layout,
 * wrap-around, notifications in both directions, and a device that breaks the rules.
 */
#include "../fixtures/split_device.h"
#include "fdcheck.h"
#include "patience.h"

#include <godwit/frontend/frontend.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include <cmocka.h>

#define MEM_GPA UINT64_C(0x100000000)
#define MEM_LEN (UINT64_C(8) << 20)
#define F_EVENT (UINT64_C(1) << 29)

struct ring {
    struct gw_guest_mem *mem;
    struct gw_driver *d;
    struct gw_driver_config cfg;
    struct split_device dev;
};

static void begin(struct ring *t, unsigned size, unsigned indirect_max, uint16_t base, bool event)
{
    const struct gw_guest_region region = {.gpa = MEM_GPA, .length = MEM_LEN, .offset = 0x800};

    memset(t, 0, sizeof(*t));
    assert_int_equal(gw_guest_mem_new(&t->mem, 0x7000000000), 0);
    assert_int_equal(gw_guest_mem_add(t->mem, &region), 0);
    t->cfg = (struct gw_driver_config){
        .size = sizeof(t->cfg), .mem = t->mem, .queue_size = size, .indirect_max = indirect_max};
    t->cfg.place = true;
    assert_int_equal(gw_guest_mem_alloc(t->mem, size * 16, 16, &t->cfg.desc), 0);
    assert_int_equal(gw_guest_mem_alloc(t->mem, size * 2 + 6, 2, &t->cfg.avail), 0);
    assert_int_equal(gw_guest_mem_alloc(t->mem, size * 8 + 6, 4, &t->cfg.used), 0);
    assert_int_equal(gw_driver_new(&t->d, &t->cfg), 0);
    gw_driver_set_features(t->d, event ? F_EVENT : 0);
    gw_driver_reset(t->d, base);
    split_device_init(&t->dev, t->mem, &t->cfg, base);
    t->dev.event_idx = event;
}

static void finish(struct ring *t)
{
    gw_driver_free(t->d);
    gw_guest_mem_free(t->mem);
}

static int add_one(struct ring *t, uint64_t cookie)
{
    const struct gw_driver_buf buf = {.addr = MEM_GPA + 64 * cookie, .len = 64};

    return gw_driver_add(t->d, &buf, 0, 1, cookie, 0);
}

static void test_driver_split_bad_config_is_refused(void **state)
{
    struct gw_driver_config cfg;
    struct gw_driver *d;
    struct ring t;

    begin(&t, 8, 0, 0, false);
    cfg = t.cfg;
    cfg.queue_size = 3;
    assert_int_equal(gw_driver_new(&d, &cfg), -EINVAL);
    cfg.queue_size = 65536;
    assert_int_equal(gw_driver_new(&d, &cfg), -EINVAL);
    cfg = t.cfg;
    cfg.size--;
    assert_int_equal(gw_driver_new(&d, &cfg), -EINVAL);
    cfg = t.cfg;
    cfg.desc += 8;
    assert_int_equal(gw_driver_new(&d, &cfg), -EINVAL);
    cfg = t.cfg;
    cfg.used = MEM_GPA + MEM_LEN - 8 * 8 - 4; /* the event field is outside */
    assert_int_equal(gw_driver_new(&d, &cfg), -EFAULT);
    cfg = (struct gw_driver_config){
        .size = sizeof(cfg), .mem = t.mem, .queue_size = 32768, .indirect_max = 128};
    assert_int_equal(gw_driver_new(&d, &cfg), -ENOSPC);
    finish(&t);
}

/* Freed rings return all of their memory, down to the last byte. */
static void test_driver_split_allocated_rings_are_released(void **state)
{
    struct gw_driver_config cfg;
    struct gw_driver *d;
    struct ring t;
    gw_gpa_t gpa;

    begin(&t, 1, 0, 0, false);
    cfg = (struct gw_driver_config){.size = sizeof(cfg), .mem = t.mem, .indirect_max = 16};
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(gw_driver_new(&d, &cfg), 0);
        assert_int_equal(gw_driver_size(d), 256);
        gw_driver_free(d);
    }
    assert_int_equal(gw_guest_mem_alloc(t.mem, MEM_LEN - 4096, 1, &gpa), 0);
    gw_guest_mem_release(t.mem, gpa, MEM_LEN - 4096);
    finish(&t);
}

static void check_chain(struct ring *t, unsigned flags, unsigned n_desc)
{
    const struct gw_driver_buf bufs[4] = {{.addr = 0x11000, .len = 16},
                                          {.addr = 0x22000, .len = 512},
                                          {.addr = 0x33000, .len = 4096},
                                          {.addr = 0x44000, .len = 1}};
    struct split_chain c;
    struct gw_driver_used used;

    assert_int_equal(gw_driver_add(t->d, bufs, 1, 3, 42, flags), 0);
    assert_false(split_device_pop(&t->dev, &c)); /* not published */
    gw_driver_publish(t->d);
    assert_true(split_device_pop(&t->dev, &c));
    assert_true(c.n_readable == 1 && c.n_writable == 3);
    for (unsigned i = 0; i < 4; i++)
        assert_true(c.bufs[i].addr == bufs[i].addr && c.bufs[i].len == bufs[i].len);
    assert_int_equal(gw_driver_in_flight(t->d), 1);
    split_device_push(&t->dev, c.head, 4609);
    assert_int_equal(gw_driver_take(t->d, &used, 1), 1);
    assert_true(used.cookie == 42 && used.len == 4609 && used.id == c.head);
    assert_int_equal(gw_driver_take(t->d, &used, 1), 0);
    assert_int_equal(gw_driver_in_flight(t->d), 0);
    assert_int_equal(t->dev.desc[c.head].flags & VRING_DESC_F_INDIRECT, n_desc == 1 ? 4 : 0);
}

static void test_driver_split_chains_are_laid_out_both_ways(void **state)
{
    struct ring t;

    begin(&t, 8, 4, 0xfffe, false);
    for (unsigned i = 0; i < 20; i++) {
        check_chain(&t, 0, 4);
        check_chain(&t, GW_DRIVER_INDIRECT, 1);
    }
    finish(&t);
}

static void test_driver_split_full_ring_and_bad_chains_are_refused(void **state)
{
    const struct gw_driver_buf bufs[5] = {{.addr = MEM_GPA, .len = 1}};
    struct ring t;

    begin(&t, 4, 4, 0, false);
    assert_int_equal(gw_driver_add(t.d, bufs, 0, 0, 0, 0), -EINVAL);
    assert_int_equal(gw_driver_add(t.d, bufs, 5, 0, 0, GW_DRIVER_INDIRECT), -EINVAL);
    assert_int_equal(gw_driver_add(t.d, bufs, 5, 0, 0, 0), -ENOSPC);
    assert_int_equal(gw_driver_add(t.d, bufs, 3, 0, 0, 0), 0);
    assert_int_equal(gw_driver_add(t.d, bufs, 2, 0, 0, 0), -ENOSPC);
    assert_int_equal(gw_driver_add(t.d, bufs, 4, 0, 0, GW_DRIVER_INDIRECT), 0);
    assert_int_equal(gw_driver_add(t.d, bufs, 4, 0, 0, GW_DRIVER_INDIRECT), -ENOSPC);
    finish(&t);
}

/* Random chains, completed in random order, until the 16-bit index wraps several times. */
static void run_model(unsigned size, unsigned rounds)
{
    struct gw_driver_buf bufs[4] = {
        {.addr = MEM_GPA, .len = 8}, {.len = 8}, {.len = 8}, {.len = 8}};
    struct {
        unsigned head, len;
    } *heads = calloc(size, sizeof(*heads));
    unsigned n_heads = 0;
    bool *out = calloc(rounds, sizeof(*out));
    struct gw_driver_used used[8];
    unsigned next = 0, done = 0, n;
    struct split_chain c;
    struct ring t;

    begin(&t, size, 4, 65000, true);
    while (done < rounds) {
        unsigned len = 1 + (unsigned)rand() % 4;

        if (next < rounds && rand() % 3) {
            unsigned flags = rand() % 2 ? GW_DRIVER_INDIRECT : 0;

            if (gw_driver_add(t.d, bufs, 1, len - 1, next, flags) == 0)
                out[next++] = true;
            gw_driver_publish(t.d);
        }
        if (split_device_pop(&t.dev, &c))
            heads[n_heads].head = c.head, heads[n_heads++].len = c.n_writable ? 8 : 0;
        if (n_heads && rand() % 2) {
            unsigned k = (unsigned)rand() % n_heads;

            split_device_push(&t.dev, heads[k].head, heads[k].len);
            heads[k] = heads[--n_heads];
        }
        n = gw_driver_take(t.d, used, (unsigned)rand() % 9);
        for (unsigned i = 0; i < n; i++) {
            assert_true(used[i].cookie < next && out[used[i].cookie]);
            out[used[i].cookie] = false;
            done++;
        }
    }
    assert_int_equal(gw_driver_check(t.d), 0);
    assert_int_equal(gw_driver_in_flight(t.d), 0);
    /* All descriptors are free again. */
    for (unsigned i = 0; i < size; i++)
        assert_int_equal(add_one(&t, i), 0);
    assert_int_equal(add_one(&t, 0), -ENOSPC);
    finish(&t);
    free(heads);
    free(out);
}

static void test_driver_split_random_chains_all_come_back(void **state)
{
    srand(1);
    run_model(1, 70000);
    run_model(2, 70000);
    run_model(16, 200000);
    run_model(32768, 200000);
}

static void test_driver_split_kicks_follow_the_flags(void **state)
{
    struct ring t;

    begin(&t, 8, 0, 0, false);
    assert_false(gw_driver_kick(t.d)); /* nothing to publish */
    add_one(&t, 0);
    assert_true(gw_driver_kick(t.d));
    t.dev.used->flags = VRING_USED_F_NO_NOTIFY;
    add_one(&t, 1);
    assert_false(gw_driver_kick(t.d));
    gw_driver_kick_always(t.d);
    finish(&t);
}

/* EVENT_IDX: kick exactly when the index passes the event, anywhere in 16 bits. */
static void test_driver_split_kicks_follow_the_event(void **state)
{
    const uint16_t bases[] = {0, 100, 32767, 65530, 65535};

    for (unsigned b = 0; b < 5; b++) {
        for (unsigned ahead = 0; ahead < 6; ahead++) {
            struct ring t;

            begin(&t, 8, 0, bases[b], true);
            split_device_set_avail_event(&t.dev, (uint16_t)(bases[b] + ahead));
            for (unsigned i = 0; i < 8; i++) {
                add_one(&t, i);
                assert_int_equal(gw_driver_kick(t.d), i == ahead);
            }
            finish(&t);
            /* One publication of all requests passes the event as well. */
            begin(&t, 8, 0, bases[b], true);
            split_device_set_avail_event(&t.dev, (uint16_t)(bases[b] + ahead));
            for (unsigned i = 0; i < 8; i++)
                add_one(&t, i);
            assert_true(gw_driver_kick(t.d));
            finish(&t);
        }
    }
}

static void test_driver_split_calls_are_wanted_only_when_asked(void **state)
{
    for (unsigned event = 0; event < 2; event++) {
        struct gw_driver_used used;
        struct split_chain c;
        struct ring t;

        begin(&t, 8, 0, 65533, event);
        for (unsigned i = 0; i < 6; i++) {
            uint16_t old = t.dev.next_used;

            add_one(&t, i);
            gw_driver_publish(t.d);
            assert_true(split_device_pop(&t.dev, &c));
            if (i % 2)
                assert_true(gw_driver_want_calls(t.d));
            split_device_push(&t.dev, c.head, 0);
            assert_int_equal(split_device_call_wanted(&t.dev, old), i % 2);
            if (i % 2)
                assert_false(gw_driver_want_calls(t.d)); /* too late: a used element is present */
            assert_int_equal(gw_driver_take(t.d, &used, 1), 1);
            gw_driver_suppress_calls(t.d);
            if (event) /* virtio 1.2, 2.7.7.1 */
                assert_int_equal(t.dev.avail->flags, 0);
        }
        finish(&t);
    }
}

static void expect_broken(struct ring *t, const char *text)
{
    struct gw_driver_used used[8];

    gw_driver_take(t->d, used, 8);
    assert_int_equal(gw_driver_check(t->d), -EPROTO);
    assert_non_null(strstr(gw_frontend_last_error(), text));
    assert_int_equal(gw_driver_take(t->d, used, 8), 0);
    assert_int_equal(gw_driver_wait(t->d, 1000), -EPROTO);
    gw_driver_reset(t->d, 0);
    assert_int_equal(gw_driver_check(t->d), 0);
}

static void test_driver_split_broken_device_is_told(void **state)
{
    struct ring t;

    begin(&t, 8, 0, 0, false);
    add_one(&t, 1);
    split_device_push(&t.dev, 8, 0);
    expect_broken(&t, "beyond the ring");

    t.dev.next_used = 0;
    add_one(&t, 1);
    add_one(&t, 2);
    split_device_push(&t.dev, 0, 0);
    split_device_push(&t.dev, 0, 0); /* used twice */
    expect_broken(&t, "not in flight");

    add_one(&t, 1);
    t.dev.next_used = 0;
    split_device_push(&t.dev, 0, 0);
    split_device_push(&t.dev, 1, 0);
    expect_broken(&t, "more used elements");

    add_one(&t, 1);
    t.dev.next_used = 0;
    split_device_push(&t.dev, 0, 65);
    expect_broken(&t, "length");
    finish(&t);
}

/* Completes one request after a delay, with or without the required call. */
struct slow {
    struct ring *t;
    bool calls;
    bool spurious; /* a spurious call before */
};

static void *slow_main(void *arg)
{
    struct slow *s = arg;
    struct split_chain c;

    if (s->spurious)
        split_device_call(gw_driver_call_fd(s->t->d));
    usleep(20000);
    if (split_device_pop(&s->t->dev, &c))
        split_device_push(&s->t->dev, c.head, 0);
    if (s->calls)
        split_device_call(gw_driver_call_fd(s->t->d));
    return NULL;
}

static void test_driver_split_wait_tells_calls_from_losses(void **state)
{
    const struct {
        struct slow slow;
        int result;
    } cases[] = {
        {{.calls = true}, 0},
        {{.calls = true, .spurious = true}, 0},
        {{.calls = false}, -ENOMSG},
        {{.calls = false, .spurious = true}, -ENOMSG},
    };

    for (unsigned i = 0; i < 8; i++) {
        struct slow s = cases[i / 2].slow;
        struct gw_driver_used used;
        pthread_t thread;
        struct ring t;

        begin(&t, 8, 0, 0, i % 2);
        s.t = &t;
        assert_int_equal(gw_driver_wait(t.d, 5), -ETIMEDOUT);
        add_one(&t, 3);
        gw_driver_publish(t.d);
        assert_int_equal(pthread_create(&thread, NULL, slow_main, &s), 0);
        /*
         * The driver reports a lost call only at its timeout, and the thread must have run by then.
         */
        assert_int_equal(gw_driver_wait(t.d, s.calls ? patience_ms() : 600), cases[i / 2].result);
        pthread_join(thread, NULL);
        assert_int_equal(gw_driver_take(t.d, &used, 1), 1);
        assert_int_equal(used.cookie, 3);
        finish(&t);
    }
}

/* A device thread that sleeps on the kick fd and calls when required. */
struct echo {
    struct ring *t;
    unsigned n;
    bool lost; /* requests were available, but no kick arrived */
};

static void *echo_main(void *arg)
{
    struct echo *e = arg;
    struct split_device *dev = &e->t->dev;
    struct pollfd p = {.fd = gw_driver_kick_fd(e->t->d), .events = POLLIN};
    struct split_chain c;
    uint64_t value;
    unsigned done = 0;

    while (done < e->n) {
        uint16_t old = dev->next_used;

        while (split_device_pop(dev, &c)) {
            split_device_push(dev, c.head, c.bufs[0].len);
            done++;
        }
        if (dev->next_used != old && split_device_call_wanted(dev, old))
            split_device_call(gw_driver_call_fd(e->t->d));
        if (done == e->n)
            break;
        if (dev->event_idx)
            split_device_set_avail_event(dev, dev->next_avail);
        /* Full barrier: request kicks before checking for requests again. */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (__atomic_load_n(&dev->avail->idx, __ATOMIC_RELAXED) != dev->next_avail)
            continue;
        if (poll(&p, 1, (int)patience_ms()) == 0) {
            e->lost = true;
            break;
        }
        if (read(p.fd, &value, sizeof(value)) < 0)
            break;
    }
    return NULL;
}

static void run_echo(bool event, bool sleeps, unsigned n, unsigned batch)
{
    struct gw_driver_used used[64];
    unsigned sent = 0, done = 0;
    pthread_t thread;
    struct ring t;
    struct echo e = {.t = &t, .n = n};

    begin(&t, 64, 0, 65000, event);
    assert_int_equal(pthread_create(&thread, NULL, echo_main, &e), 0);
    while (done < n) {
        unsigned got;

        for (unsigned i = 0; i < batch && sent < n && add_one(&t, sent % 1000) == 0; i++)
            sent++;
        gw_driver_kick(t.d);
        got = gw_driver_take(t.d, used, 64);
        if (got == 0 && sleeps)
            assert_int_equal(gw_driver_wait(t.d, patience_ms()), 0);
        done += got;
    }
    pthread_join(thread, NULL);
    assert_false(e.lost);
    finish(&t);
}

static void test_driver_split_no_notification_is_lost_between_threads(void **state)
{
    for (unsigned i = 0; i < 4; i++) {
        run_echo(i & 1, i & 2, 50000, 1);
        run_echo(i & 1, i & 2, 100000, 7);
        run_echo(i & 1, i & 2, 100000, 64);
    }
}

static void test_driver_split_goes_on_in_a_clone(void **state)
{
    struct gw_driver_used used;
    struct gw_guest_mem *clone;
    struct split_chain c;
    struct ring t;

    begin(&t, 8, 4, 7, true);
    add_one(&t, 1);
    add_one(&t, 2);
    gw_driver_publish(t.d);
    assert_true(split_device_pop(&t.dev, &c));
    assert_int_equal(gw_guest_mem_clone(&clone, t.mem, GW_GUEST_UVA_HOST), 0);
    memcpy(gw_guest_mem_at(clone, MEM_GPA, MEM_LEN), gw_guest_mem_at(t.mem, MEM_GPA, MEM_LEN),
           MEM_LEN);
    assert_int_equal(gw_driver_set_mem(t.d, clone), 0);
    gw_guest_mem_free(t.mem);
    t.mem = clone;
    split_device_init(&t.dev, clone, &t.cfg, 7);
    for (unsigned i = 1; i <= 2; i++) {
        assert_true(split_device_pop(&t.dev, &c));
        split_device_push(&t.dev, c.head, 0);
        assert_int_equal(gw_driver_take(t.d, &used, 1), 1);
        assert_int_equal(used.cookie, i);
    }
    assert_int_equal(gw_driver_used_idx(t.d), 9);
    finish(&t);
}

static void test_driver_split_raw_access_writes_what_it_is_told(void **state)
{
    uint32_t id, len;
    struct ring t;

    begin(&t, 4, 0, 0, false);
    gw_driver_write_desc(t.d, 5, 0xdeadbeef, 7, 0xffff, 99);
    gw_driver_write_avail(t.d, 6, 1);
    gw_driver_write_avail_idx(t.d, 1000);
    gw_driver_write_avail_flags(t.d, 0x1234);
    assert_true(t.dev.desc[1].addr == 0xdeadbeef && t.dev.desc[1].len == 7);
    assert_true(t.dev.desc[1].flags == 0xffff && t.dev.desc[1].next == 99);
    assert_true(t.dev.avail->ring[2] == 1 && t.dev.avail->idx == 1000);
    assert_int_equal(t.dev.avail->flags, 0x1234);
    gw_driver_kick_always(t.d);
    assert_int_equal(t.dev.avail->idx, 1000); /* the driver published nothing itself */
    split_device_push(&t.dev, 77, 88);
    gw_driver_read_used(t.d, 0, &id, &len);
    assert_true(id == 77 && len == 88);
    finish(&t);
}

/*
 * Popped out of order by a device that crashed: each request it did not complete becomes available
 * again, once.
 */
static void test_driver_split_requeue_offers_what_is_not_done(void **state)
{
    struct gw_driver_used used[8];
    unsigned seen = 0;
    struct ring t;

    begin(&t, 8, 0, 65533, false);
    for (uint64_t i = 0; i < 6; i++)
        assert_int_equal(add_one(&t, i), 0);
    gw_driver_kick(t.d);
    split_device_push(&t.dev, 4, 64);
    assert_int_equal(gw_driver_take(t.d, used, 8), 1);
    split_device_push(&t.dev, 2, 64); /* completed, but not taken yet */
    assert_int_equal(gw_driver_n_used(t.d), 1);
    gw_driver_requeue(t.d);
    assert_int_equal((uint16_t)gw_driver_base(t.d), 65535);
    assert_int_equal(t.dev.avail->idx, 3);
    for (uint16_t i = 65535; i != 3; i++)
        seen |= 1u << t.dev.avail->ring[i & 7];
    assert_int_equal(seen, 1u << 0 | 1u << 1 | 1u << 3 | 1u << 5);
    assert_int_equal(gw_driver_take(t.d, used, 8), 1);
    assert_int_equal(used[0].cookie, 2);
    for (unsigned head = 0; head < 8; head++) {
        if (seen >> head & 1)
            split_device_push(&t.dev, head, 64);
    }
    assert_int_equal(gw_driver_take(t.d, used, 8), 4);
    assert_int_equal(gw_driver_in_flight(t.d), 0);
    assert_int_equal(add_one(&t, 9), 0);
    gw_driver_publish(t.d);
    assert_int_equal(t.dev.avail->idx, 4);
    finish(&t);
}

struct caller {
    int fd;
    bool quit; /* atomic */
};

static void *call_all_the_time(void *arg)
{
    struct caller *c = arg;

    while (!__atomic_load_n(&c->quit, __ATOMIC_RELAXED))
        eventfd_write(c->fd, 1);
    return NULL;
}

/*
 * A back-end shares both eventfds and can change their flags and counters, so the driver must not
 * block in them.
 */
static void test_driver_split_sleeps_in_no_eventfd(void **state)
{
    struct caller caller = {0};
    pthread_t thread;
    struct ring t;

    begin(&t, 8, 0, 0, false);
    caller.fd = gw_driver_call_fd(t.d);
    assert_int_equal(fcntl(gw_driver_kick_fd(t.d), F_SETFL, 0), 0);
    assert_int_equal(fcntl(caller.fd, F_SETFL, 0), 0);
    assert_int_equal(eventfd_write(gw_driver_kick_fd(t.d), UINT64_MAX - 1), 0);
    assert_int_equal(add_one(&t, 0), 0);
    gw_driver_kick_always(t.d);
    assert_int_equal(gw_driver_wait(t.d, 20), -ETIMEDOUT);
    assert_int_equal(pthread_create(&thread, NULL, call_all_the_time, &caller), 0);
    assert_int_equal(gw_driver_wait(t.d, 100), -ETIMEDOUT);
    __atomic_store_n(&caller.quit, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    assert_int_equal(gw_driver_wait(t.d, 1), -ETIMEDOUT);
    gw_driver_set_call_fd(t.d, eventfd(0, EFD_CLOEXEC));
    finish(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_driver_split_bad_config_is_refused),
        FDCHECK_TEST(test_driver_split_allocated_rings_are_released),
        FDCHECK_TEST(test_driver_split_chains_are_laid_out_both_ways),
        FDCHECK_TEST(test_driver_split_full_ring_and_bad_chains_are_refused),
        FDCHECK_TEST(test_driver_split_random_chains_all_come_back),
        FDCHECK_TEST(test_driver_split_kicks_follow_the_flags),
        FDCHECK_TEST(test_driver_split_kicks_follow_the_event),
        FDCHECK_TEST(test_driver_split_calls_are_wanted_only_when_asked),
        FDCHECK_TEST(test_driver_split_broken_device_is_told),
        FDCHECK_TEST(test_driver_split_wait_tells_calls_from_losses),
        FDCHECK_TEST(test_driver_split_no_notification_is_lost_between_threads),
        FDCHECK_TEST(test_driver_split_goes_on_in_a_clone),
        FDCHECK_TEST(test_driver_split_raw_access_writes_what_it_is_told),
        FDCHECK_TEST(test_driver_split_requeue_offers_what_is_not_done),
        FDCHECK_TEST(test_driver_split_sleeps_in_no_eventfd),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
