/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The worker of a session in postcopy, where daemons share the others: what comes while it begins
 * and ends. No page is missing in these tests, see test_postcopy_faults.c.
 */
#include "requires.h"

#include "../fixtures/daemon_fixture.h"
#include "../fixtures/fixture.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/proto.h"
#include "patience.h"
#include "postcopy/postcopy.h"

#include <godwit/frontend/fault.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    N_WORKERS = 2,
    N = 3 /* queues */
};

/* The device: its callbacks on the worker of postcopy wait while they are held. */
static struct {
    struct gw_workers *ws;
    struct gw_worker *workers[N_WORKERS], *control;
    struct gw_daemon *d;
    unsigned n_starts, n_stops; /* atomic: calls of worker_start and worker_stop */
    unsigned n_moved;           /* atomic */
    bool holds_start;           /* atomic */
    bool refuses_start;         /* atomic */
    bool holds_stop;            /* atomic */
    bool holds_requests;        /* atomic */
    struct gw_request *held;
    unsigned n_held;           /* atomic */
    unsigned n_busy_workers;   /* atomic: messages that name one */
    unsigned n_ended_sessions; /* atomic */
} it;

static void wait_while(const bool *held)
{
    while (__atomic_load_n(held, __ATOMIC_ACQUIRE))
        usleep(1000);
}

static void hold(bool *held)
{
    __atomic_store_n(held, true, __ATOMIC_RELEASE);
}

static void let_go(bool *held)
{
    __atomic_store_n(held, false, __ATOMIC_RELEASE);
}

static bool is_of_postcopy(const struct gw_worker *w)
{
    for (unsigned i = 0; i < N_WORKERS; i++)
        if (w == it.workers[i])
            return false;
    return true;
}

static int worker_start(void *dev, struct gw_worker *w)
{
    __atomic_add_fetch(&it.n_starts, 1, __ATOMIC_ACQ_REL);
    if (!is_of_postcopy(w))
        return 0;
    wait_while(&it.holds_start);
    if (!__atomic_load_n(&it.refuses_start, __ATOMIC_ACQUIRE))
        return 0;
    __atomic_add_fetch(&it.n_stops, 1, __ATOMIC_ACQ_REL); /* worker_stop does not follow */
    return -ENOSPC;
}

static void worker_stop(void *dev, struct gw_worker *w)
{
    __atomic_add_fetch(&it.n_stops, 1, __ATOMIC_ACQ_REL);
    if (is_of_postcopy(w))
        wait_while(&it.holds_stop);
}

static int ready(void *dev, struct gw_queue *q)
{
    struct gw_request *req;

    while (gw_queue_pop(q, &req, 1) == 1) {
        if (!__atomic_load_n(&it.holds_requests, __ATOMIC_ACQUIRE)) {
            gw_request_complete(req, 0);
            continue;
        }
        it.held = req;
        __atomic_add_fetch(&it.n_held, 1, __ATOMIC_ACQ_REL);
    }
    return 0;
}

static void moved(void *dev, struct gw_queue *q)
{
    __atomic_add_fetch(&it.n_moved, 1, __ATOMIC_ACQ_REL);
}

static const struct gw_device_ops ops = {
    .size = sizeof(ops),
    .queue_ready = ready,
    .queue_moved = moved,
    .worker_start = worker_start,
    .worker_stop = worker_stop,
};

static void take_message(void *arg, enum gw_log_level level, const char *message)
{
    if (strstr(message, "is still busy"))
        __atomic_add_fetch(&it.n_busy_workers, 1, __ATOMIC_RELEASE);
    if (strstr(message, "the session has ended"))
        __atomic_add_fetch(&it.n_ended_sessions, 1, __ATOMIC_RELEASE);
}

static void begin(unsigned drain_ms)
{
    const struct gw_workers_config set = {.size = sizeof(set), .num_workers = N_WORKERS + 1};
    struct gw_daemon_config cfg = daemon_fixture_config();

    memset(&it, 0, sizeof(it));
    assert_int_equal(gw_workers_new(&it.ws, &set), 0);
    for (unsigned i = 0; i < N_WORKERS; i++)
        it.workers[i] = gw_workers_get(it.ws, i);
    it.control = gw_workers_get(it.ws, N_WORKERS);
    cfg.num_queues = N;
    cfg.num_workers = N_WORKERS;
    cfg.workers = it.workers;
    cfg.control = it.control;
    cfg.drain_timeout_ms = drain_ms;
    cfg.log = take_message;
    cfg.log_level = GW_LOG_DEBUG;
    assert_int_equal(gw_daemon_new(&it.d, &cfg, &ops, NULL), 0);
    assert_int_equal(gw_daemon_start_path(it.d, path), 0);
}

/* No thread of the worker is left, and no callback of it was left out. */
static void end(void)
{
    gw_daemon_free(it.d);
    assert_int_equal(gw_workers_free(it.ws), 0);
    assert_int_equal(it.n_starts, it.n_stops);
}

static struct gw_queue *queue(unsigned i)
{
    return gw_daemon_queue(it.d, i);
}

/* ---- the front-end ---- */

static const struct gw_frontend_config fe_config = {.size = sizeof(fe_config),
                                                    .timeout_ms = 600000};

struct machine {
    struct vm vm;
    int uffd;
    pthread_t thread;
    int result; /* of LISTEN */
};

static int no_base(void *arg, gw_gpa_t gpa, uint64_t len, gw_bva_t base)
{
    return 0;
}

static void *run_listen(void *arg)
{
    struct machine *m = arg;

    m->result = gw_frontend_postcopy_listen(m->vm.fe, no_base, NULL);
    return NULL;
}

/* A front-end that is advised, with all its memory present, and `N` drivers. */
static void advise(struct machine *m)
{
    const struct gw_guest_region region = {.gpa = 0x100000, .length = UINT64_C(1) << 20};
    struct gw_frontend_options opt = {.size = sizeof(opt), .n_drivers = N};

    memset(m, 0, sizeof(*m));
    m->vm.n = N;
    assert_int_equal(gw_guest_mem_new(&m->vm.mem, 0x700000000000), 0);
    assert_int_equal(gw_guest_mem_add(m->vm.mem, &region), 0);
    memset(gw_guest_mem_at(m->vm.mem, region.gpa, region.length), 0, region.length);
    for (unsigned i = 0; i < N; i++) {
        const struct gw_driver_config cfg = {
            .size = sizeof(cfg), .mem = m->vm.mem, .index = i, .queue_size = 16};

        assert_int_equal(gw_driver_new(&m->vm.drivers[i], &cfg), 0);
    }
    assert_int_equal(gw_frontend_new(&m->vm.fe, &fe_config), 0);
    assert_int_equal(gw_frontend_connect(m->vm.fe, path), 0);
    opt.drivers = m->vm.drivers;
    assert_int_equal(gw_frontend_negotiate(m->vm.fe, &opt), 0);
    assert_int_equal(gw_frontend_postcopy_advise(m->vm.fe, &m->uffd), 0);
}

static void leave(struct machine *m)
{
    vm_unplug(&m->vm);
    close(m->uffd);
}

/* LISTEN, whose answer waits. */
static void begin_listen(struct machine *m)
{
    unsigned n = it.n_starts;

    assert_int_equal(pthread_create(&m->thread, NULL, run_listen, m), 0);
    fixture_wait_for(&it.n_starts, n + 1);
}

static int end_listen(struct machine *m)
{
    pthread_join(m->thread, NULL);
    return m->result;
}

static int start(struct machine *m)
{
    const struct gw_frontend_options opt = {
        .size = sizeof(opt), .mem = m->vm.mem, .drivers = m->vm.drivers, .n_drivers = N};

    return gw_frontend_start(m->vm.fe, &opt);
}

static void expect_requests_done(struct machine *m)
{
    struct gw_driver_used used;

    for (unsigned i = 0; i < N; i++) {
        vm_add(&m->vm, i);
        assert_int_equal(gw_driver_wait(m->vm.drivers[i], patience_ms()), 0);
        assert_int_equal(gw_driver_take(m->vm.drivers[i], &used, 1), 1);
    }
}

static void wait_until_at(unsigned i, const struct gw_worker *w)
{
    for (unsigned ms = 0; gw_queue_worker(queue(i)) != w && ms < patience_ms(); ms++)
        usleep(1000);
    assert_ptr_equal(gw_queue_worker(queue(i)), w);
}

static void release_held(struct gw_post *post)
{
    gw_request_complete(it.held, 0);
}

static struct gw_post release = {.run = release_held};

/* ---- tests ---- */

/* The embedder moves a queue while LISTEN waits: it moves after postcopy. */
static void test_postcopy_worker_keeps_a_queue_that_shall_move_elsewhere(void **state)
{
    struct machine m;

    begin(0);
    advise(&m);
    hold(&it.holds_start);
    begin_listen(&m);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(gw_queue_move(queue(i), it.workers[1]), 0);
    usleep(10000);
    let_go(&it.holds_start);
    assert_int_equal(end_listen(&m), 0);
    for (unsigned i = 0; i < N; i++)
        assert_true(is_of_postcopy(gw_queue_worker(queue(i))));
    assert_int_equal(start(&m), 0);
    expect_requests_done(&m);
    assert_int_equal(gw_frontend_postcopy_end(m.vm.fe), 0);
    for (unsigned i = 0; i < N; i++)
        wait_until_at(i, it.workers[1]);
    expect_requests_done(&m);
    leave(&m);
    end();
}

/* Moves that begin before LISTEN, and whatever is asked for during it. */
static void test_postcopy_worker_gets_all_queues_during_moves(void **state)
{
    begin(0);
    for (unsigned k = 0; k < 50; k++) {
        struct machine m;

        advise(&m);
        for (unsigned i = 0; i < N; i++)
            assert_int_equal(gw_queue_move(queue(i), it.workers[(i + k) % N_WORKERS]), 0);
        assert_int_equal(pthread_create(&m.thread, NULL, run_listen, &m), 0);
        for (unsigned i = 0; i < 20 * N; i++)
            assert_int_equal(gw_queue_move(queue(i % N), it.workers[i % N_WORKERS]), 0);
        assert_int_equal(end_listen(&m), 0);
        assert_int_equal(start(&m), 0);
        expect_requests_done(&m);
        leave(&m);
    }
    end();
}

/*
 * The daemon stops while LISTEN waits and the device has a request of an earlier session: the
 * session ends after its drain time-out.
 */
static void test_postcopy_worker_daemon_stops_during_listen(void **state)
{
    struct machine m;
    struct vm vm;

    begin(500);
    hold(&it.holds_requests);
    vm_boot(&vm, 1);
    vm_add(&vm, 0);
    fixture_wait_for(&it.n_held, 1);
    vm_unplug(&vm);
    fixture_wait_for(&it.n_ended_sessions, 1);
    advise(&m);
    hold(&it.holds_start);
    begin_listen(&m);
    gw_daemon_stop(it.d);
    assert_true(end_listen(&m) < 0); /* hung up */
    let_go(&it.holds_start);
    assert_int_equal(gw_daemon_wait(it.d), 0);
    assert_int_equal(gw_worker_post(gw_queue_worker(queue(0)), &release), 0);
    leave(&m);
    for (unsigned i = 0; i < N; i++)
        assert_false(is_of_postcopy(gw_queue_worker(queue(i))));
    end();
}

/* The front-end hangs up while LISTEN waits, and the next session begins at once. */
static void test_postcopy_worker_front_end_hangs_up_during_listen(void **state)
{
    begin(0);
    for (unsigned k = 0; k < 20; k++) {
        struct machine m, next;
        unsigned n;

        fixture_wait_for(&it.n_stops, it.n_starts - N_WORKERS); /* the previous worker has ended */
        n = it.n_starts;
        advise(&m);
        hold(&it.holds_start);
        assert_int_equal(gw_frontend_send_raw(m.vm.fe, GW_MSG_POSTCOPY_LISTEN,
                                              GW_MSG_VERSION | GW_MSG_NEED_REPLY, 0, NULL, 0, NULL,
                                              0),
                         0);
        fixture_wait_for(&it.n_starts, n + 1);
        leave(&m);
        let_go(&it.holds_start);
        advise(&next);
        /* It may get the worker of the other session, without another call of worker_start. */
        if (k % 2)
            assert_int_equal(gw_frontend_postcopy_listen(next.vm.fe, no_base, NULL), 0);
        assert_int_equal(start(&next), 0);
        expect_requests_done(&next);
        leave(&next);
    }
    end();
}

/* No more descriptors than `n` that are free now. */
static struct rlimit limit_files(unsigned n)
{
    int free_fd = fcntl(0, F_DUPFD_CLOEXEC, 0);
    struct rlimit old, few;

    assert_true(free_fd >= 0);
    close(free_fd);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    few = (struct rlimit){.rlim_cur = (rlim_t)free_fd + n, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    return old;
}

static void expect_listen(struct machine *m)
{
    advise(m);
    assert_int_equal(gw_frontend_postcopy_listen(m->vm.fe, no_base, NULL), 0);
    assert_int_equal(start(m), 0);
    expect_requests_done(m);
    leave(m);
}

/* LISTEN fails if the worker does, at each descriptor that it needs; the next session has one. */
static void test_postcopy_worker_that_cannot_start_is_refused(void **state)
{
    struct machine m;
    unsigned n = 0;
    int r;

    begin(0);
    do {
        struct rlimit old;

        advise(&m);
        old = limit_files(n);
        r = gw_frontend_postcopy_listen(m.vm.fe, no_base, NULL);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        leave(&m);
        if (r < 0)
            expect_listen(&m);
    } while (r < 0 && ++n < 16);
    assert_true(r == 0 && n >= 2); /* at least an eventfd and a loop */

    hold(&it.refuses_start);
    advise(&m);
    assert_true(gw_frontend_postcopy_listen(m.vm.fe, no_base, NULL) < 0);
    leave(&m);
    let_go(&it.refuses_start);
    expect_listen(&m);
    end();
}

/* LISTEN comes while the queues of the previous postcopy, or their worker, still leave. */
static void test_postcopy_worker_begins_again_while_it_ends(void **state)
{
    struct machine m;

    begin(0);
    advise(&m);
    begin_listen(&m);
    assert_int_equal(end_listen(&m), 0);
    for (unsigned k = 0; k < 100; k++) {
        unsigned n = it.n_stops;

        assert_int_equal(gw_frontend_postcopy_end(m.vm.fe), 0);
        close(m.uffd);
        if (k % 4 == 1) {
            hold(&it.holds_stop);
            fixture_wait_for(&it.n_stops, n + 1);
        }
        assert_int_equal(gw_frontend_postcopy_advise(m.vm.fe, &m.uffd), 0);
        assert_int_equal(pthread_create(&m.thread, NULL, run_listen, &m), 0);
        if (k % 4 == 1) {
            usleep(1000);
            let_go(&it.holds_stop);
        }
        assert_int_equal(end_listen(&m), 0);
        for (unsigned i = 0; i < N; i++)
            assert_true(is_of_postcopy(gw_queue_worker(queue(i))));
    }
    assert_int_equal(start(&m), 0);
    expect_requests_done(&m);
    leave(&m);
    end();
}

struct counted {
    struct gw_post post;
    unsigned n; /* atomic: runs */
};

static void count_run(struct gw_post *post)
{
    __atomic_add_fetch(&gw_container_of(post, struct counted, post)->n, 1, __ATOMIC_RELEASE);
}

/* Another thread still has the worker, when the queue has left it. */
static void test_postcopy_worker_that_has_ended_takes_no_posts(void **state)
{
    struct counted task = {.post.run = count_run};
    struct gw_worker *w;
    struct machine m;
    unsigned n = 0;
    int r;

    begin(0);
    advise(&m);
    begin_listen(&m);
    assert_int_equal(end_listen(&m), 0);
    w = gw_queue_worker(queue(0));
    assert_int_equal(gw_frontend_postcopy_end(m.vm.fe), 0);
    fixture_wait_for(&it.n_stops, 1);
    /* What it still takes, it runs. */
    while ((r = gw_worker_post(w, &task.post)) == 0)
        fixture_wait_for(&task.n, ++n);
    assert_int_equal(r, -ESHUTDOWN);
    leave(&m);
    end();
}

static bool wakes_end;

static void *wake_all(void *arg)
{
    while (!__atomic_load_n(&wakes_end, __ATOMIC_ACQUIRE))
        for (unsigned i = 0; i < N; i++)
            gw_queue_wake(queue(i));
    return NULL;
}

/* A thread wakes the queues while they come and go, and so finds workers that they have left. */
static void test_postcopy_worker_ends_while_queues_are_woken(void **state)
{
    struct machine m;
    pthread_t waker;

    begin(0);
    wakes_end = false;
    assert_int_equal(pthread_create(&waker, NULL, wake_all, NULL), 0);
    for (unsigned k = 0; k < 100; k++) {
        unsigned n = it.n_moved;

        advise(&m);
        assert_int_equal(gw_frontend_postcopy_listen(m.vm.fe, no_base, NULL), 0);
        if (k % 8 == 0) {
            assert_int_equal(start(&m), 0);
            expect_requests_done(&m);
        }
        leave(&m);
        fixture_wait_for(&it.n_moved, n + 2 * N);
    }
    __atomic_store_n(&wakes_end, true, __ATOMIC_RELEASE);
    pthread_join(waker, NULL);
    end();
}

/* A message that waits for a worker which a callback blocks names it, also if it waits for moves.
 */
static void test_postcopy_worker_blocked_is_named(void **state)
{
    struct machine m;

    begin(0);
    advise(&m);
    hold(&it.holds_start);
    begin_listen(&m);
    fixture_wait_for(&it.n_busy_workers, 1);
    let_go(&it.holds_start);
    assert_int_equal(end_listen(&m), 0);
    leave(&m);
    end();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_postcopy_worker_keeps_a_queue_that_shall_move_elsewhere),
        DAEMON_TEST(test_postcopy_worker_gets_all_queues_during_moves),
        DAEMON_TEST(test_postcopy_worker_daemon_stops_during_listen),
        DAEMON_TEST(test_postcopy_worker_front_end_hangs_up_during_listen),
        DAEMON_TEST(test_postcopy_worker_that_cannot_start_is_refused),
        DAEMON_TEST(test_postcopy_worker_begins_again_while_it_ends),
        DAEMON_TEST(test_postcopy_worker_that_has_ended_takes_no_posts),
        DAEMON_TEST(test_postcopy_worker_ends_while_queues_are_woken),
        DAEMON_TEST(test_postcopy_worker_blocked_is_named),
    };

    if (gw_postcopy_probe() < 0)
        skip_test("%s", gw_last_error());
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
