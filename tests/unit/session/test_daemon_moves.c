/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Queues that move to other workers, idle, under load, and while sessions come and go. */
#include "../fixtures/daemon_fixture.h"
#include "../fixtures/fixture.h"
#include "base/checked.h"
#include "patience.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    N_MOVING = 4,
    N_WORKERS = 3,
    N_MOVES = 300
};

/* How a device completes its requests. */
enum device_kind {
    AT_ONCE,
    ON_WORKER, /* later, by a post */
    ON_THREAD, /* by a thread of the embedder, with a lock */
    N_KINDS,
};

struct later {
    struct gw_post post;
    struct gw_request *req;
    struct later *next;
};

static struct {
    enum device_kind kind;
    unsigned n_moved;    /* atomic */
    unsigned n_stops;    /* atomic */
    unsigned n_astray;   /* atomic: callbacks on another worker than the queue's */
    unsigned n_messages; /* atomic */
    char message[200];   /* the last one; before n_messages */
    /* For the thread. */
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct later *todo; /* lock */
    bool ends;          /* lock */
} moving = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

static void check_place(struct gw_queue *q)
{
    if (!gw_worker_is_current(gw_queue_worker(q)))
        __atomic_add_fetch(&moving.n_astray, 1, __ATOMIC_RELAXED);
}

static void complete_later(struct gw_post *post)
{
    struct later *l = gw_container_of(post, struct later, post);

    check_place(l->req->queue);
    gw_request_complete(l->req, 0);
}

static void give_to_thread(struct later *l)
{
    pthread_mutex_lock(&moving.lock);
    l->next = moving.todo;
    moving.todo = l;
    pthread_cond_signal(&moving.cond);
    pthread_mutex_unlock(&moving.lock);
}

static void *complete_on_thread(void *arg)
{
    pthread_mutex_lock(&moving.lock);
    for (;;) {
        struct later *l = moving.todo;

        if (!l && moving.ends)
            break;
        if (!l) {
            pthread_cond_wait(&moving.cond, &moving.lock);
            continue;
        }
        moving.todo = l->next;
        pthread_mutex_unlock(&moving.lock);
        gw_request_complete(l->req, 0);
        pthread_mutex_lock(&moving.lock);
    }
    pthread_mutex_unlock(&moving.lock);
    return NULL;
}

static int ready(void *dev, struct gw_queue *q)
{
    struct gw_request *reqs[4];
    unsigned n = gw_queue_pop(q, reqs, 4);

    check_place(q);
    for (unsigned i = 0; i < n; i++) {
        struct later *l = gw_request_private(reqs[i]);

        *l = (struct later){.post.run = complete_later, .req = reqs[i]};
        if (moving.kind == AT_ONCE)
            gw_request_complete(reqs[i], 0);
        else if (moving.kind == ON_WORKER)
            assert_int_equal(gw_worker_post(gw_queue_worker(q), &l->post), 0);
        else
            give_to_thread(l);
    }
    return 0;
}

static void moved(void *dev, struct gw_queue *q)
{
    check_place(q);
    __atomic_add_fetch(&moving.n_moved, 1, __ATOMIC_RELAXED);
}

static void stops(void *dev, struct gw_queue *q)
{
    __atomic_add_fetch(&moving.n_stops, 1, __ATOMIC_RELEASE);
}

static const struct gw_device_ops moving_ops = {
    .size = sizeof(moving_ops), .queue_ready = ready, .queue_stop = stops, .queue_moved = moved};

static void count_message(void *arg, enum gw_log_level level, const char *message)
{
    if (!strstr(message, "stays on worker"))
        return; /* builds with Xen have more to say */
    snprintf(moving.message, sizeof(moving.message), "%s", message);
    __atomic_add_fetch(&moving.n_messages, 1, __ATOMIC_RELEASE);
}

static struct gw_daemon *make(enum device_kind kind, enum gw_loop_kind loop)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d;

    moving.kind = kind;
    moving.n_moved = moving.n_stops = moving.n_astray = moving.n_messages = 0;
    moving.ends = false;
    cfg.num_queues = N_MOVING;
    cfg.num_workers = N_WORKERS;
    cfg.loop = loop;
    cfg.sync = kind == ON_THREAD ? GW_SYNC_MUTEX : GW_SYNC_NONE;
    cfg.request_size = sizeof(struct later);
    cfg.log = count_message;
    cfg.log_level = GW_LOG_WARNING;
    assert_int_equal(gw_daemon_new(&d, &cfg, &moving_ops, NULL), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    return d;
}

/* Keeps some requests in flight on each queue, until `ends`. Each is answered, in order. */
struct load {
    pthread_t thread;
    bool ends; /* atomic */
    bool reconnects;
    unsigned n_done;
    unsigned n_disordered;
};

static void drive(struct load *l, struct vm *vm, unsigned queue, unsigned *sent, unsigned *done)
{
    struct gw_driver_buf buf = {.addr = 0x100000, .len = 16};
    struct gw_driver_used used;

    while (*sent - *done < 8 && gw_driver_add(vm->drivers[queue], &buf, 0, 1, *sent, 0) == 0)
        (*sent)++;
    gw_driver_kick(vm->drivers[queue]);
    if (gw_driver_wait(vm->drivers[queue], patience_ms()) < 0)
        abort();
    while (gw_driver_take(vm->drivers[queue], &used, 1) == 1) {
        if (used.cookie != *done)
            l->n_disordered++;
        (*done)++;
        l->n_done++;
    }
}

static void *run_load(void *arg)
{
    struct load *l = arg;

    do {
        unsigned sent[N_MOVING] = {0}, done[N_MOVING] = {0};
        struct vm vm;

        vm_boot(&vm, N_MOVING);
        for (unsigned i = 0;
             i < 10 || (!l->reconnects && !__atomic_load_n(&l->ends, __ATOMIC_ACQUIRE)); i++)
            drive(l, &vm, i % N_MOVING, &sent[i % N_MOVING], &done[i % N_MOVING]);
        if (gw_frontend_stop(vm.fe, vm.drivers, N_MOVING) < 0)
            abort();
        vm_unplug(&vm);
    } while (!__atomic_load_n(&l->ends, __ATOMIC_ACQUIRE));
    return NULL;
}

static void move_at_random(struct gw_daemon *d, unsigned n)
{
    unsigned seed = 1;

    for (unsigned i = 0; i < n; i++) {
        struct gw_queue *q = gw_daemon_queue(d, (unsigned)rand_r(&seed) % N_MOVING);
        struct gw_worker *w = gw_daemon_worker(d, (unsigned)rand_r(&seed) % N_WORKERS);
        unsigned before = __atomic_load_n(&moving.n_moved, __ATOMIC_RELAXED);
        bool is_there = gw_queue_worker(q) == w;

        assert_int_equal(gw_queue_move(q, w), 0);
        /* Wait for some of them; others follow one another without a pause. */
        for (unsigned ms = 0; i % 3 == 0 && !is_there && ms < patience_ms(); ms++, usleep(1000))
            if (gw_queue_worker(q) == w &&
                __atomic_load_n(&moving.n_moved, __ATOMIC_RELAXED) != before)
                break;
    }
}

static void move_under_load(enum device_kind kind, enum gw_loop_kind loop, bool reconnects)
{
    struct gw_daemon *d = make(kind, loop);
    struct load load = {.reconnects = reconnects};
    pthread_t completer;

    if (kind == ON_THREAD)
        assert_int_equal(pthread_create(&completer, NULL, complete_on_thread, NULL), 0);
    assert_int_equal(pthread_create(&load.thread, NULL, run_load, &load), 0);
    move_at_random(d, N_MOVES);
    __atomic_store_n(&load.ends, true, __ATOMIC_RELEASE);
    pthread_join(load.thread, NULL);
    gw_daemon_free(d);
    if (kind == ON_THREAD) {
        pthread_mutex_lock(&moving.lock);
        moving.ends = true;
        pthread_cond_signal(&moving.cond);
        pthread_mutex_unlock(&moving.lock);
        pthread_join(completer, NULL);
    }
    assert_true(load.n_done >= 10);
    assert_true(moving.n_moved > N_MOVES / 6);
    assert_int_equal(moving.n_astray, 0);
    if (kind != ON_THREAD)
        assert_int_equal(load.n_disordered, 0);
}

static void test_moves_under_load_lose_and_reorder_nothing(void **state)
{
    for (enum device_kind kind = 0; kind < N_KINDS; kind++) {
        move_under_load(kind, GW_LOOP_URING, false);
        move_under_load(kind, GW_LOOP_EPOLL, false);
    }
}

static void test_moves_while_sessions_come_and_go(void **state)
{
    for (enum device_kind kind = 0; kind < N_KINDS; kind++)
        move_under_load(kind, kind == AT_ONCE ? GW_LOOP_EPOLL : GW_LOOP_AUTO, true);
}

static void test_moves_before_the_start_and_without_sessions(void **state)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_driver_used used;
    struct gw_daemon *d;
    struct vm vm;

    moving.kind = AT_ONCE;
    moving.n_moved = moving.n_astray = 0;
    cfg.num_queues = 2;
    cfg.num_workers = 2;
    cfg.request_size = sizeof(struct later);
    assert_int_equal(gw_daemon_new(&d, &cfg, &moving_ops, NULL), 0);
    assert_int_equal(gw_queue_move(gw_daemon_queue(d, 0), NULL), -EINVAL);
    assert_int_equal(gw_queue_move(gw_daemon_queue(d, 0), gw_daemon_worker(d, 1)), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    fixture_wait_for(&moving.n_moved, 1);
    assert_ptr_equal(gw_queue_worker(gw_daemon_queue(d, 0)), gw_daemon_worker(d, 1));
    assert_int_equal(gw_queue_move(gw_daemon_queue(d, 1), gw_daemon_worker(d, 0)), 0);
    fixture_wait_for(&moving.n_moved, 2);
    vm_boot(&vm, 2);
    for (unsigned i = 0; i < 2; i++) {
        vm_add(&vm, i);
        assert_int_equal(gw_driver_wait(vm.drivers[i], patience_ms()), 0);
        assert_int_equal(gw_driver_take(vm.drivers[i], &used, 1), 1);
    }
    vm_unplug(&vm);
    gw_daemon_free(d);
    assert_int_equal(moving.n_astray, 0);
}

static struct later *take_held(void)
{
    struct later *held;

    for (held = NULL; !held; usleep(1000)) {
        pthread_mutex_lock(&moving.lock);
        held = moving.todo;
        moving.todo = NULL;
        pthread_mutex_unlock(&moving.lock);
    }
    return held;
}

static void *stop_queue(void *arg)
{
    struct vm *vm = arg;

    return (void *)(intptr_t)gw_frontend_stop_queue(vm->fe, vm->drivers[0]);
}

/* The stop ends first, and is not delayed. */
static void test_moves_are_refused_during_a_stop(void **state)
{
    struct gw_daemon *d = make(ON_THREAD, GW_LOOP_AUTO);
    struct gw_queue *q = gw_daemon_queue(d, 0);
    struct later *held;
    pthread_t stopper;
    struct vm vm;
    void *r;

    vm_boot(&vm, 1);
    vm_add(&vm, 0);
    held = take_held();
    assert_int_equal(pthread_create(&stopper, NULL, stop_queue, &vm), 0);
    fixture_wait_for(&moving.n_stops, 1);
    assert_int_equal(gw_queue_move(q, gw_daemon_worker(d, 1)), 0);
    fixture_wait_for(&moving.n_messages, 1);
    assert_non_null(strstr(moving.message, "it has requests of a ring that stops"));
    gw_request_complete(held->req, 0);
    assert_int_equal(pthread_join(stopper, &r), 0);
    assert_null(r);
    assert_int_equal(gw_queue_move(q, gw_daemon_worker(d, 1)), 0);
    fixture_wait_for(&moving.n_moved, 1);
    vm_unplug(&vm);
    gw_daemon_free(d);
}

/* The queue then serves its other requests where it is. */
static void test_moves_give_up_when_a_request_takes_too_long(void **state)
{
    struct gw_daemon *d = make(ON_THREAD, GW_LOOP_AUTO);
    struct gw_queue *q = gw_daemon_queue(d, 0);
    struct gw_driver_used used;
    pthread_t completer;
    struct later *held;
    struct vm vm;

    vm_boot(&vm, 1);
    vm_add(&vm, 0);
    held = take_held();
    assert_int_equal(gw_queue_move(q, gw_daemon_worker(d, 1)), 0);
    fixture_wait_for(&moving.n_messages, 1);
    assert_non_null(strstr(moving.message, "its requests take too long"));
    assert_ptr_equal(gw_queue_worker(q), gw_daemon_worker(d, 0));
    assert_int_equal(pthread_create(&completer, NULL, complete_on_thread, NULL), 0);
    vm_add(&vm, 0); /* is served beside the other */
    assert_int_equal(gw_driver_wait(vm.drivers[0], patience_ms()), 0);
    assert_int_equal(gw_driver_take(vm.drivers[0], &used, 1), 1);
    gw_request_complete(held->req, 0);
    assert_int_equal(gw_queue_move(q, gw_daemon_worker(d, 1)), 0);
    fixture_wait_for(&moving.n_moved, 1);
    pthread_mutex_lock(&moving.lock);
    moving.ends = true;
    pthread_cond_signal(&moving.cond);
    pthread_mutex_unlock(&moving.lock);
    pthread_join(completer, NULL);
    vm_unplug(&vm);
    gw_daemon_free(d);
}

/* The end of the daemon waits for the move, and the move for the request, both in vain. */
static void test_moves_do_not_keep_the_daemon_from_ending(void **state)
{
    for (unsigned i = 0; i < 20; i++) {
        struct gw_daemon *d = make(ON_WORKER, GW_LOOP_AUTO);
        struct vm vm;

        vm_boot(&vm, N_MOVING);
        for (unsigned k = 0; k < N_MOVING; k++) {
            vm_add(&vm, k);
            assert_int_equal(
                gw_queue_move(gw_daemon_queue(d, k), gw_daemon_worker(d, (k + i) % N_WORKERS)), 0);
        }
        if (i % 2)
            usleep(50 * i);
        gw_daemon_stop(d);
        assert_int_equal(gw_daemon_wait(d), 0);
        gw_daemon_free(d);
        vm_unplug(&vm);
    }
}

/* All queues begin on one worker. */
static void test_moves_of_the_balancer_spread_the_load(void **state)
{
    static const uint16_t first[N_MOVING];
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct load load = {0};
    struct gw_daemon *d;
    unsigned n_used = 0;

    moving.kind = AT_ONCE;
    moving.n_moved = moving.n_astray = 0;
    cfg.num_queues = N_MOVING;
    cfg.num_workers = N_WORKERS;
    cfg.queue_workers = first;
    cfg.request_size = sizeof(struct later);
    cfg.balance_ms = 20;
    assert_int_equal(gw_daemon_new(&d, &cfg, &moving_ops, NULL), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    usleep(50000); /* without a load, nothing moves */
    assert_int_equal(__atomic_load_n(&moving.n_moved, __ATOMIC_ACQUIRE), 0);
    assert_int_equal(pthread_create(&load.thread, NULL, run_load, &load), 0);
    for (unsigned ms = 0; n_used < N_WORKERS && ms < patience_ms(); ms++, usleep(1000)) {
        bool used[N_WORKERS] = {false};

        n_used = 0;
        for (unsigned i = 0; i < N_MOVING; i++) {
            unsigned w = gw_worker_index(gw_queue_worker(gw_daemon_queue(d, i)));

            n_used += !used[w];
            used[w] = true;
        }
    }
    assert_int_equal(n_used, N_WORKERS);
    __atomic_store_n(&load.ends, true, __ATOMIC_RELEASE);
    pthread_join(load.thread, NULL);
    gw_daemon_free(d);
    assert_int_equal(moving.n_astray, 0);
    assert_int_equal(load.n_disordered, 0);
}

/* A task that keeps its worker until it is released. */
struct block {
    struct gw_post post;
    unsigned n_begun; /* atomic */
    bool may_end;     /* atomic */
};

static void run_block(struct gw_post *post)
{
    struct block *b = gw_container_of(post, struct block, post);

    __atomic_store_n(&b->n_begun, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&b->may_end, __ATOMIC_ACQUIRE))
        usleep(1000);
}

static void block(struct gw_worker *w, struct block *b)
{
    *b = (struct block){.post.run = run_block};
    assert_int_equal(gw_worker_post(w, &b->post), 0);
}

static void unblock(struct block *b)
{
    __atomic_store_n(&b->may_end, true, __ATOMIC_RELEASE);
}

/* The number of tasks in the mailbox. */
static unsigned count_tasks(struct gw_worker *w)
{
    const struct gw_post *post;
    unsigned n = 0;

    pthread_mutex_lock(&w->mail_lock);
    for (post = w->mail_first; post; post = post->reserved)
        n++;
    pthread_mutex_unlock(&w->mail_lock);
    return n;
}

static void wait_for_tasks(struct gw_worker *w, unsigned n)
{
    for (unsigned ms = 0; count_tasks(w) < n && ms < patience_ms(); ms++)
        usleep(1000);
    assert_true(count_tasks(w) >= n);
}

static bool is_paused(struct gw_queue *q)
{
    bool is;

    pthread_mutex_lock(&q->locks.mutex);
    is = q->move.is_paused;
    pthread_mutex_unlock(&q->locks.mutex);
    return is;
}

struct freed {
    struct gw_daemon *d;
    bool is_done; /* atomic */
};

static void *free_it(void *arg)
{
    struct freed *f = arg;

    gw_daemon_free(f->d);
    __atomic_store_n(&f->is_done, true, __ATOMIC_RELEASE);
    return NULL;
}

/*
 * A wake-up is in the mailbox of the worker that the queue has left, and the worker is slow: it
 * reads it only while the daemon is freed, and passes it on to the other worker, which was visited
 * perhaps.
 */
static void test_moves_leave_no_wake_up_behind(void **state)
{
    const struct gw_workers_config set = {.size = sizeof(set), .num_workers = 2};
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct block first, second, third;
    struct later *held;
    struct gw_worker *workers[2];
    struct gw_workers *ws;
    struct freed freed;
    struct gw_queue *q;
    pthread_t thread;
    struct vm vm;

    assert_int_equal(gw_workers_new(&ws, &set), 0);
    for (unsigned i = 0; i < 2; i++)
        workers[i] = gw_workers_get(ws, i);
    moving.kind = ON_THREAD;
    moving.n_moved = 0;
    cfg.workers = workers;
    cfg.num_workers = 2;
    cfg.sync = GW_SYNC_MUTEX;
    cfg.request_size = sizeof(struct later);
    assert_int_equal(gw_daemon_new(&freed.d, &cfg, &moving_ops, NULL), 0);
    assert_int_equal(gw_daemon_start_path(freed.d, path), 0);
    q = gw_daemon_queue(freed.d, 0);
    vm_boot(&vm, 1);
    vm_add(&vm, 0);
    held = take_held();

    /* The queue leaves its worker when that is no longer blocked. */
    assert_int_equal(gw_queue_move(q, workers[1]), 0);
    while (!is_paused(q))
        usleep(1000);
    block(workers[0], &first);
    fixture_wait_for(&first.n_begun, 1);
    gw_request_complete(held->req, 0);
    wait_for_tasks(workers[0], 1);
    block(workers[0], &second);
    gw_queue_wake(q);
    wait_for_tasks(workers[0], 3);
    unblock(&first);
    fixture_wait_for(&moving.n_moved, 1);
    vm_unplug(&vm);

    freed.is_done = false;
    assert_int_equal(pthread_create(&thread, NULL, free_it, &freed), 0);
    wait_for_tasks(workers[0], 1); /* a visit, behind the wake-up */
    block(workers[1], &third);
    fixture_wait_for(&third.n_begun, 1);
    unblock(&second);
    /* The wake-up, and a visit behind it. */
    while (!__atomic_load_n(&freed.is_done, __ATOMIC_ACQUIRE) && count_tasks(workers[1]) < 2)
        usleep(1000);
    unblock(&third);
    pthread_join(thread, NULL);
    assert_int_equal(gw_workers_free(ws), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_moves_under_load_lose_and_reorder_nothing),
        DAEMON_TEST(test_moves_while_sessions_come_and_go),
        DAEMON_TEST(test_moves_before_the_start_and_without_sessions),
        DAEMON_TEST(test_moves_are_refused_during_a_stop),
        DAEMON_TEST(test_moves_give_up_when_a_request_takes_too_long),
        DAEMON_TEST(test_moves_do_not_keep_the_daemon_from_ending),
        DAEMON_TEST(test_moves_leave_no_wake_up_behind),
        DAEMON_TEST(test_moves_of_the_balancer_spread_the_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
