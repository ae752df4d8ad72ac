/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The driver against a simple device (driver_ring.h) in real guest memory: what holds in both
 * layouts. The tests run once with split rings and once with packed ones; test_driver_split.c and
 * test_driver_packed.c have what only one layout has.
 */
#include "../fixtures/driver_ring.h"
#include "fdcheck.h"
#include "patience.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

static bool packed; /* the layout of this run */

/* Freed rings return all of their memory, down to the last byte. */
static void test_driver_layouts_allocated_rings_are_released(void **state)
{
    struct gw_driver_config cfg;
    struct gw_driver *d;
    struct driver_ring t;
    gw_gpa_t gpa;

    driver_ring_begin(&t, packed, 1, 0, 0, false);
    cfg = (struct gw_driver_config){
        .size = sizeof(cfg), .mem = t.mem, .indirect_max = 16, .packed = packed};
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(gw_driver_new(&d, &cfg), 0);
        assert_int_equal(gw_driver_size(d), 256);
        gw_driver_free(d);
    }
    assert_int_equal(gw_guest_mem_alloc(t.mem, RING_MEM_LEN - 4096, 1, &gpa), 0);
    gw_guest_mem_release(t.mem, gpa, RING_MEM_LEN - 4096);
    driver_ring_finish(&t);
}

static void check_chain(struct driver_ring *t, unsigned flags, unsigned n_desc)
{
    const struct gw_driver_buf bufs[4] = {{.addr = 0x11000, .len = 16},
                                          {.addr = 0x22000, .len = 512},
                                          {.addr = 0x33000, .len = 4096},
                                          {.addr = 0x44000, .len = 1}};
    struct ring_chain c = {0};
    struct gw_driver_used used;

    assert_int_equal(gw_driver_add(t->d, bufs, 1, 3, 42, flags), 0);
    assert_false(driver_ring_pop(t, &c)); /* not published */
    gw_driver_publish(t->d);
    assert_true(driver_ring_pop(t, &c));
    assert_true(c.n_readable == 1 && c.n_writable == 3);
    if (packed)
        assert_int_equal(c.n_desc, n_desc);
    else
        assert_int_equal(t->split.desc[c.id].flags & VRING_DESC_F_INDIRECT, n_desc == 1 ? 4 : 0);
    for (unsigned i = 0; i < 4; i++)
        assert_true(c.bufs[i].addr == bufs[i].addr && c.bufs[i].len == bufs[i].len);
    assert_int_equal(gw_driver_in_flight(t->d), 1);
    driver_ring_push(t, c.id, c.n_desc, 4609);
    assert_int_equal(gw_driver_take(t->d, &used, 1), 1);
    assert_true(used.cookie == 42 && used.len == 4609 && used.id == c.id);
    assert_int_equal(gw_driver_take(t->d, &used, 1), 0);
    assert_int_equal(gw_driver_in_flight(t->d), 0);
}

static void check_chains(unsigned size, unsigned index)
{
    struct driver_ring t;

    driver_ring_begin(&t, packed, size, 4, index, false);
    for (unsigned i = 0; i < 20; i++) {
        check_chain(&t, 0, 4);
        check_chain(&t, GW_DRIVER_INDIRECT, 1);
    }
    driver_ring_finish(&t);
}

static void test_driver_layouts_chains_are_laid_out_both_ways(void **state)
{
    const unsigned sizes[] = {4, 5, 7, 8};

    if (!packed)
        check_chains(8, 0xfffe);
    for (unsigned s = 0; packed && s < 4; s++) {
        for (unsigned index = 0; index < 2 * sizes[s]; index++)
            check_chains(sizes[s], index);
    }
}

/* Several chains become available at once, by one store. */
static void test_driver_layouts_nothing_is_seen_before_it_is_published(void **state)
{
    struct ring_chain c = {0};
    struct driver_ring t;

    driver_ring_begin(&t, packed, 8, 0, 5, false);
    for (uint64_t i = 0; i < 6; i++)
        assert_int_equal(driver_ring_add(&t, i), 0);
    assert_false(driver_ring_pop(&t, &c));
    gw_driver_publish(t.d);
    for (uint64_t i = 0; i < 6; i++) {
        assert_true(driver_ring_pop(&t, &c));
        assert_true(c.bufs[0].addr == RING_MEM_GPA + 64 * i);
    }
    assert_false(driver_ring_pop(&t, &c));
    driver_ring_finish(&t);
}

static void test_driver_layouts_full_ring_and_bad_chains_are_refused(void **state)
{
    const struct gw_driver_buf bufs[5] = {{.addr = RING_MEM_GPA, .len = 1}};
    struct driver_ring t;

    driver_ring_begin(&t, packed, 4, 4, 0, false);
    assert_int_equal(gw_driver_add(t.d, bufs, 0, 0, 0, 0), -EINVAL);
    assert_int_equal(gw_driver_add(t.d, bufs, 5, 0, 0, GW_DRIVER_INDIRECT), -EINVAL);
    assert_int_equal(gw_driver_add(t.d, bufs, 5, 0, 0, 0), -ENOSPC);
    assert_int_equal(gw_driver_add(t.d, bufs, 3, 0, 0, 0), 0);
    assert_int_equal(gw_driver_add(t.d, bufs, 2, 0, 0, 0), -ENOSPC);
    assert_int_equal(gw_driver_add(t.d, bufs, 4, 0, 0, GW_DRIVER_INDIRECT), 0);
    assert_int_equal(gw_driver_add(t.d, bufs, 4, 0, 0, GW_DRIVER_INDIRECT), -ENOSPC);
    driver_ring_finish(&t);
}

/* ---- random chains ---- */

struct held {
    unsigned id, n_desc;
    uint32_t len;
};

/* Complete one of the chains that the device holds. */
static void push_one(struct driver_ring *t, struct held *held, unsigned *n_held)
{
    unsigned k = (unsigned)rand() % *n_held;

    driver_ring_push(t, held[k].id, held[k].n_desc, held[k].len);
    held[k] = held[--*n_held];
}

/* Completed in random order, until the ring and the 16-bit index wrap many times. */
static void run_model(unsigned size, unsigned index, unsigned rounds)
{
    struct gw_driver_buf bufs[4] = {{.len = 8}, {.len = 8}, {.len = 8}, {.len = 8}};
    struct held *held = calloc(size, sizeof(*held));
    bool *out = calloc(rounds, sizeof(*out));
    unsigned next = 0, done = 0, n, n_held = 0;
    struct gw_driver_used used[8];
    struct ring_chain c = {0};
    struct driver_ring t;

    driver_ring_begin(&t, packed, size, 4, index, true);
    while (done < rounds) {
        unsigned len = 1 + (unsigned)rand() % 4;

        if (next < rounds && rand() % 3) {
            bufs[0].addr = next;
            if (gw_driver_add(t.d, bufs, 1, len - 1, next, rand() % 2 ? GW_DRIVER_INDIRECT : 0) ==
                0)
                out[next++] = true;
            if (rand() % 2)
                gw_driver_publish(t.d);
        }
        if (next == rounds)
            gw_driver_publish(t.d);
        if (driver_ring_pop(&t, &c))
            held[n_held++] = (struct held){c.id, c.n_desc, 8 * c.n_writable};
        if (n_held && rand() % 2)
            push_one(&t, held, &n_held);
        n = gw_driver_take(t.d, used, (unsigned)rand() % 9);
        for (unsigned i = 0; i < n; i++) {
            assert_true(used[i].cookie < next && out[used[i].cookie]);
            assert_true(used[i].len <= 24 && used[i].len % 8 == 0);
            out[used[i].cookie] = false;
            done++;
        }
    }
    assert_int_equal(gw_driver_check(t.d), 0);
    assert_int_equal(gw_driver_in_flight(t.d), 0);
    /* All descriptors are free again. */
    for (unsigned i = 0; i < size; i++)
        assert_int_equal(driver_ring_add(&t, i), 0);
    assert_int_equal(driver_ring_add(&t, 0), -ENOSPC);
    driver_ring_finish(&t);
    free(held);
    free(out);
}

static void test_driver_layouts_random_chains_all_come_back(void **state)
{
    const struct {
        unsigned size, rounds;
    } cases[] = {{1, 70000}, {2, 70000}, {3, 50000}, {16, 200000}, {100, 200000}, {32768, 200000}};

    srand(1);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned size = cases[i].size;

        if (packed)
            run_model(size, size + size / 2, cases[i].rounds);
        else if ((size & (size - 1)) == 0)
            run_model(size, 65000, cases[i].rounds);
    }
}

/* ---- calls ---- */

static void test_driver_layouts_calls_are_wanted_only_when_asked(void **state)
{
    for (unsigned event = 0; event < 2; event++) {
        struct gw_driver_used used;
        struct driver_ring t;

        driver_ring_begin(&t, packed, packed ? 3 : 8, 0, packed ? 4 : 65533, event);
        for (unsigned i = 0; i < 30; i++) {
            struct ring_place old = driver_ring_used_place(&t);

            driver_ring_add(&t, i);
            gw_driver_publish(t.d);
            if (i % 2)
                assert_true(gw_driver_want_calls(t.d));
            driver_ring_serve(&t, 0);
            assert_int_equal(driver_ring_call_wanted(&t, old), i % 2);
            if (i % 2 && packed)
                assert_int_equal(t.packed.driver_event->flags, event ? 2 : 0);
            if (i % 2)
                assert_false(gw_driver_want_calls(t.d)); /* too late: a used element is present */
            assert_int_equal(gw_driver_take(t.d, &used, 1), 1);
            gw_driver_suppress_calls(t.d);
            if (packed)
                assert_int_equal(t.packed.driver_event->flags, 1);
            else if (event) /* virtio 1.2, 2.7.7.1 */
                assert_int_equal(t.split.avail->flags, 0);
        }
        driver_ring_finish(&t);
    }
}

/* Completes one request after a delay, with or without the required call. */
struct slow {
    struct driver_ring *t;
    bool calls;
    bool spurious; /* a spurious call before */
};

static void *slow_main(void *arg)
{
    struct slow *s = arg;
    struct ring_chain c = {0};

    if (s->spurious)
        driver_ring_call(s->t);
    usleep(20000);
    if (driver_ring_pop(s->t, &c))
        driver_ring_push(s->t, c.id, c.n_desc, 0);
    if (s->calls)
        driver_ring_call(s->t);
    return NULL;
}

static int wait_for_slow(struct slow s, bool event, unsigned ms)
{
    struct gw_driver_used used;
    struct driver_ring t;
    pthread_t thread;
    int result;

    driver_ring_begin(&t, packed, 8, 0, 0, event);
    s.t = &t;
    assert_int_equal(gw_driver_wait(t.d, 5), -ETIMEDOUT);
    driver_ring_add(&t, 3);
    gw_driver_publish(t.d);
    assert_int_equal(pthread_create(&thread, NULL, slow_main, &s), 0);
    /* The driver reports a lost call only at its timeout, and the thread must have run by then. */
    result = gw_driver_wait(t.d, s.calls ? patience_ms() : ms);
    pthread_join(thread, NULL);
    assert_int_equal(gw_driver_take(t.d, &used, 1), 1);
    assert_int_equal(used.cookie, 3);
    driver_ring_finish(&t);
    return result;
}

static void test_driver_layouts_wait_tells_calls_from_losses(void **state)
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
        int wanted = cases[i / 2].result, result = 1;

        /* On a busy machine the thread, or its spurious call, may be late. */
        for (unsigned ms = 600; result != wanted && ms <= patience_ms(); ms *= 4)
            result = wait_for_slow(cases[i / 2].slow, i % 2, ms);
        assert_int_equal(result, wanted);
    }
}

/* A device thread that sleeps on the kick fd and calls when required. */
struct echo {
    struct driver_ring *t;
    unsigned n;
    bool lost; /* requests were available, but no kick arrived */
};

/* Serve at most one lap: places repeat, and the batch decides about one call. Returns: how many. */
static unsigned echo_batch(struct driver_ring *t, unsigned n)
{
    struct ring_place old = driver_ring_used_place(t);
    struct ring_chain c = {0};
    unsigned done = 0;

    driver_ring_suppress_kicks(t);
    while (done < n && done < t->cfg.queue_size && driver_ring_pop(t, &c)) {
        driver_ring_push(t, c.id, c.n_desc, c.bufs[0].len);
        done++;
    }
    if (done > 0 && driver_ring_call_wanted(t, old))
        driver_ring_call(t);
    return done;
}

static void *echo_main(void *arg)
{
    struct echo *e = arg;
    struct pollfd p = {.fd = gw_driver_kick_fd(e->t->d), .events = POLLIN};
    uint64_t value;
    unsigned done = 0;

    for (;;) {
        done += echo_batch(e->t, e->n - done);
        if (done == e->n)
            break;
        driver_ring_ask_for_kick(e->t);
        /* Full barrier: request kicks before checking for requests again. */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (driver_ring_is_avail(e->t))
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
    struct driver_ring t;
    struct echo e = {.t = &t, .n = n};

    driver_ring_begin(&t, packed, packed ? 60 : 64, 0, packed ? 0 : 65000, event);
    assert_int_equal(pthread_create(&thread, NULL, echo_main, &e), 0);
    while (done < n) {
        unsigned got;

        for (unsigned i = 0; i < batch && sent < n && driver_ring_add(&t, sent % 1000) == 0; i++)
            sent++;
        gw_driver_kick(t.d);
        got = gw_driver_take(t.d, used, 64);
        if (got == 0 && sleeps)
            assert_int_equal(gw_driver_wait(t.d, patience_ms()), 0);
        done += got;
    }
    pthread_join(thread, NULL);
    assert_false(e.lost);
    assert_int_equal(gw_driver_check(t.d), 0);
    driver_ring_finish(&t);
}

static void test_driver_layouts_no_notification_is_lost_between_threads(void **state)
{
    for (unsigned i = 0; i < 4; i++) {
        run_echo(i & 1, i & 2, 50000, 1);
        run_echo(i & 1, i & 2, 100000, 7);
        run_echo(i & 1, i & 2, 100000, packed ? 60 : 64);
    }
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
static void test_driver_layouts_sleeps_in_no_eventfd(void **state)
{
    struct caller caller = {0};
    pthread_t thread;
    struct driver_ring t;

    driver_ring_begin(&t, packed, 8, 0, 0, false);
    caller.fd = gw_driver_call_fd(t.d);
    assert_int_equal(fcntl(gw_driver_kick_fd(t.d), F_SETFL, 0), 0);
    assert_int_equal(fcntl(caller.fd, F_SETFL, 0), 0);
    assert_int_equal(eventfd_write(gw_driver_kick_fd(t.d), UINT64_MAX - 1), 0);
    assert_int_equal(driver_ring_add(&t, 0), 0);
    gw_driver_kick_always(t.d);
    assert_int_equal(gw_driver_wait(t.d, 20), -ETIMEDOUT);
    assert_int_equal(pthread_create(&thread, NULL, call_all_the_time, &caller), 0);
    assert_int_equal(gw_driver_wait(t.d, 100), -ETIMEDOUT);
    __atomic_store_n(&caller.quit, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    assert_int_equal(gw_driver_wait(t.d, 1), -ETIMEDOUT);
    gw_driver_set_call_fd(t.d, eventfd(0, EFD_CLOEXEC));
    driver_ring_finish(&t);
}

/* ---- another memory ---- */

/* The device starts again in a copy of the memory, where the old one was. */
static void test_driver_layouts_continues_in_a_clone(void **state)
{
    unsigned size = packed ? 3 : 8, index = packed ? 4 : 7;
    struct split_device split;
    struct packed_device old;
    struct gw_driver_used used;
    struct gw_guest_mem *clone;
    struct driver_ring t;

    driver_ring_begin(&t, packed, size, 4, index, true);
    for (unsigned i = 1; i <= 3; i++)
        driver_ring_add(&t, i);
    gw_driver_publish(t.d);
    driver_ring_serve(&t, 0);
    assert_int_equal(gw_guest_mem_clone(&clone, t.mem, GW_GUEST_UVA_HOST), 0);
    memcpy(gw_guest_mem_at(clone, RING_MEM_GPA, RING_MEM_LEN),
           gw_guest_mem_at(t.mem, RING_MEM_GPA, RING_MEM_LEN), RING_MEM_LEN);
    assert_int_equal(gw_driver_set_mem(t.d, clone), 0);
    gw_guest_mem_free(t.mem);
    t.mem = clone;
    split = t.split;
    old = t.packed;
    driver_ring_init_device(&t, 0);
    t.split.next_avail = split.next_avail;
    t.split.next_used = split.next_used;
    t.packed.avail = old.avail;
    t.packed.used = old.used;
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(gw_driver_take(t.d, &used, 1), 1);
        assert_int_equal(used.cookie, i);
        if (i < 3)
            driver_ring_serve(&t, 0);
    }
    /* 7 and 3 chains; the packed index counts descriptors over two laps of 3. */
    assert_int_equal(gw_driver_used_idx(t.d), packed ? 1 : 10);
    driver_ring_finish(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_driver_layouts_allocated_rings_are_released),
        FDCHECK_TEST(test_driver_layouts_chains_are_laid_out_both_ways),
        FDCHECK_TEST(test_driver_layouts_nothing_is_seen_before_it_is_published),
        FDCHECK_TEST(test_driver_layouts_full_ring_and_bad_chains_are_refused),
        FDCHECK_TEST(test_driver_layouts_random_chains_all_come_back),
        FDCHECK_TEST(test_driver_layouts_calls_are_wanted_only_when_asked),
        FDCHECK_TEST(test_driver_layouts_wait_tells_calls_from_losses),
        FDCHECK_TEST(test_driver_layouts_no_notification_is_lost_between_threads),
        FDCHECK_TEST(test_driver_layouts_sleeps_in_no_eventfd),
        FDCHECK_TEST(test_driver_layouts_continues_in_a_clone),
    };
    int n_failed = 0;

    for (unsigned i = 0; i < 2; i++) {
        packed = i > 0;
        printf("[ LAYOUT   ] %s\n", packed ? "packed" : "split");
        n_failed += cmocka_run_group_tests(tests, NULL, NULL);
    }
    return n_failed;
}
