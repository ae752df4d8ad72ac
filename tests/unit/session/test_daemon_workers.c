/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Workers that daemons share, and workers that the embedder runs. */
#include "../fixtures/daemon_fixture.h"
#include "../fixtures/fixture.h"
#include "base/checked.h"
#include "patience.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const enum gw_loop_kind loops[] = {GW_LOOP_URING, GW_LOOP_EPOLL};

static struct gw_workers_config workers_config(void)
{
    return (struct gw_workers_config){.size = sizeof(struct gw_workers_config)};
}

static struct gw_workers *make(unsigned n, bool external, enum gw_loop_kind loop)
{
    struct gw_workers_config cfg = workers_config();
    struct gw_workers *ws;

    cfg.num_workers = n;
    cfg.external = external;
    cfg.loop = loop;
    assert_int_equal(gw_workers_new(&ws, &cfg), 0);
    return ws;
}

static struct gw_daemon *make_daemon(struct gw_worker *const *workers, unsigned n,
                                     struct gw_worker *control)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d;

    cfg.num_queues = 2;
    cfg.workers = workers;
    cfg.num_workers = n;
    cfg.control = control;
    assert_int_equal(gw_daemon_new(&d, &cfg, &device_ops, &device), 0);
    return d;
}

/* One request on each queue, and its answer. */
static void expect_requests_done(struct vm *vm)
{
    struct gw_driver_used used;

    for (unsigned i = 0; i < vm->n; i++) {
        vm_add(vm, i);
        assert_int_equal(gw_driver_wait(vm->drivers[i], patience_ms()), 0);
        assert_int_equal(gw_driver_take(vm->drivers[i], &used, 1), 1);
    }
}

/* ---- sets ---- */

static void test_workers_config_out_of_limits_is_refused(void **state)
{
    struct gw_workers_config cfg = workers_config();
    unsigned cpus[2] = {0, 100000};
    struct gw_workers *ws = (void *)&device;

    assert_int_equal(gw_workers_new(&ws, NULL), -EINVAL);
    cfg.size--;
    assert_int_equal(gw_workers_new(&ws, &cfg), -EINVAL);
    cfg.size++;
    cfg.num_workers = GW_WORKERS_MAX + 1;
    assert_int_equal(gw_workers_new(&ws, &cfg), -EINVAL);
    cfg.num_workers = 2;
    cfg.loop = (enum gw_loop_kind)3;
    assert_int_equal(gw_workers_new(&ws, &cfg), -EINVAL);
    cfg.loop = GW_LOOP_AUTO;
    cfg.cpus = cpus; /* the second does not exist */
    assert_int_equal(gw_workers_new(&ws, &cfg), -EINVAL);
    assert_non_null(strstr(gw_last_error(), "CPU 100000"));
    cfg.external = true;
    assert_int_equal(gw_workers_new(&ws, &cfg), -EINVAL);
    assert_ptr_equal(ws, &device); /* untouched */
    assert_int_equal(gw_workers_free(NULL), 0);
}

struct where {
    struct gw_post post;
    char name[16];
    int cpu, n_cpus;
    uintptr_t worker; /* for post_it and run_again */
    unsigned done;    /* atomic */
};

static void look_where(struct gw_post *post)
{
    struct where *w = gw_container_of(post, struct where, post);
    cpu_set_t set;

    pthread_getname_np(pthread_self(), w->name, sizeof(w->name));
    CPU_ZERO(&set);
    pthread_getaffinity_np(pthread_self(), sizeof(set), &set);
    w->n_cpus = CPU_COUNT(&set);
    w->cpu = sched_getcpu();
    __atomic_store_n(&w->done, 1, __ATOMIC_RELEASE);
}

static void test_workers_have_the_names_and_the_cpus_of_their_config(void **state)
{
    struct gw_workers_config cfg = workers_config();
    struct gw_workers *ws;
    cpu_set_t allowed;
    unsigned cpus[12];

    CPU_ZERO(&allowed);
    assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
    for (unsigned i = 0, cpu = 0; i < 12; i++, cpu++) {
        while (!CPU_ISSET(cpu % CPU_SETSIZE, &allowed))
            cpu++;
        cpus[i] = cpu % CPU_SETSIZE;
    }
    cfg.num_workers = 12;
    cfg.cpus = cpus;
    cfg.name = "disks-of-a-long-name";
    assert_int_equal(gw_workers_new(&ws, &cfg), 0);
    assert_null(gw_workers_get(ws, 12));
    for (unsigned i = 0; i < 12; i++) {
        struct where w = {.post.run = look_where};
        char name[40];

        assert_int_equal(gw_workers_get(ws, i) == gw_workers_get(ws, 0), i == 0);
        assert_int_equal(gw_worker_index(gw_workers_get(ws, i)), i);
        assert_int_equal(gw_worker_post(gw_workers_get(ws, i), &w.post), 0);
        fixture_wait_for(&w.done, 1);
        snprintf(name, sizeof(name), "%.*s-%u", i < 10 ? 13 : 12, cfg.name, i);
        assert_string_equal(w.name, name);
        assert_int_equal(w.n_cpus, 1);
        assert_int_equal(w.cpu, cpus[i]);
    }
    assert_int_equal(gw_workers_free(ws), 0);
}

/* ---- sharing ---- */

static void test_workers_serve_many_daemons(void **state)
{
    for (unsigned l = 0; l < GW_ARRAY_SIZE(loops); l++) {
        struct gw_workers *ws = make(3, false, loops[l]);
        struct gw_worker *workers[] = {gw_workers_get(ws, 0), gw_workers_get(ws, 1)};
        struct gw_worker *control = gw_workers_get(ws, 2 * l); /* also one that has queues */
        struct gw_daemon *d[8];
        struct vm vms[8];
        size_t end = strlen(path);

        memset(&device, 0, sizeof(device));
        for (unsigned i = 0; i < 8; i++) {
            d[i] = make_daemon(workers, 2, control);
            snprintf(path + end, sizeof(path) - end, "%u", i);
            assert_int_equal(gw_daemon_start_path(d[i], path), 0);
            vm_boot(&vms[i], 2);
        }
        assert_int_equal(device.n_worker_starts, 16);
        for (unsigned i = 0; i < 8; i++) {
            for (unsigned k = i; k < 8; k++)
                expect_requests_done(&vms[k]);
            assert_int_equal(gw_workers_free(ws), -EBUSY);
            if (i % 2)
                vm_unplug(&vms[i]);
            gw_daemon_free(d[i]);
            if (i % 2 == 0)
                vm_unplug(&vms[i]);
        }
        assert_int_equal(device.n_worker_stops, 16);
        path[end] = '\0';
        assert_int_equal(gw_workers_free(ws), 0);
    }
}

/* The worker remains, and so does the front-end's kick fd. */
static void test_workers_forget_a_freed_daemon_with_a_late_request(void **state)
{
    for (unsigned l = 0; l < GW_ARRAY_SIZE(loops); l++) {
        struct gw_workers *ws = make(1, false, loops[l]);
        struct gw_worker *w = gw_workers_get(ws, 0);
        struct where where = {.post.run = look_where};
        struct gw_daemon_config cfg = daemon_fixture_config();
        const struct gw_map *map;
        struct gw_daemon *d;
        struct vm vm;

        memset(&device, 0, sizeof(device));
        device.hold = true;
        cfg.workers = &w;
        cfg.drain_timeout_ms = 10;
        assert_int_equal(gw_daemon_new(&d, &cfg, &device_ops, &device), 0);
        assert_int_equal(gw_daemon_start_path(d, path), 0);
        vm_boot(&vm, 1);
        vm_add(&vm, 0);
        fixture_wait_for(&device.n_held, 1);
        map = gw_daemon_queue(d, 0)->map;
        gw_daemon_free(d);
        for (unsigned i = 0; i < 100; i++)
            gw_driver_kick_always(vm.drivers[0]);
        assert_int_equal(gw_worker_post(w, &where.post), 0);
        fixture_wait_for(&where.done, 1);
        vm_unplug(&vm);
        assert_int_equal(gw_workers_free(ws), 0);
        gw_map_free((struct gw_map *)(uintptr_t)map); /* kept for the request */
    }
}

static void test_workers_given_twice_or_not_at_all_are_refused(void **state)
{
    struct gw_workers *ws = make(1, false, GW_LOOP_AUTO);
    struct gw_worker *workers[2] = {gw_workers_get(ws, 0), NULL};
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d;

    memset(&device, 0, sizeof(device));
    cfg.workers = workers;
    cfg.num_workers = 2;
    assert_int_equal(gw_daemon_new(&d, &cfg, &device_ops, &device), -EINVAL);
    workers[1] = workers[0];
    assert_int_equal(gw_daemon_new(&d, &cfg, &device_ops, &device), -EINVAL);
    assert_int_equal(device.n_worker_starts, device.n_worker_stops);
    assert_int_equal(gw_workers_free(ws), 0);
}

/* ---- run by the embedder ---- */

struct embedder {
    struct gw_workers *ws;
    struct gw_worker *w;
    struct gw_daemon *d;
    unsigned n_ended, n_runs;
    int result;
};

static void note_end(void *arg, int result)
{
    struct embedder *e = arg;

    e->n_ended++;
    e->result = result;
}

static void embed(struct embedder *e, enum gw_loop_kind loop)
{
    struct gw_daemon_config cfg = daemon_fixture_config();

    *e = (struct embedder){.ws = make(1, true, loop)};
    e->w = gw_workers_get(e->ws, 0);
    memset(&device, 0, sizeof(device));
    cfg.num_queues = 2;
    cfg.workers = &e->w;
    cfg.control = e->w;
    cfg.ended = note_end;
    cfg.ended_arg = e;
    assert_int_equal(gw_daemon_new(&e->d, &cfg, &device_ops, &device), 0);
    assert_int_equal(gw_daemon_start_path(e->d, path), 0);
}

static void expel(struct embedder *e)
{
    gw_daemon_free(e->d);
    assert_int_equal(gw_workers_free(e->ws), 0);
}

/* One step of a loop that knows nothing but the fd. */
static void step(struct embedder *e)
{
    struct pollfd p = {.fd = gw_worker_fd(e->w), .events = POLLIN};

    assert_int_equal(poll(&p, 1, (int)patience_ms()), 1);
    assert_int_equal(gw_worker_run(e->w, 0), 0);
    e->n_runs++;
}

static void *boot_and_use(void *arg)
{
    struct gw_daemon *d = arg;
    struct vm vm;

    for (unsigned i = 0; i < 3; i++) {
        vm_boot(&vm, 2);
        for (unsigned k = 0; k < 20; k++)
            expect_requests_done(&vm);
        if (i > 0)
            assert_int_equal(gw_frontend_stop(vm.fe, vm.drivers, 2), 0);
        vm_unplug(&vm);
    }
    gw_daemon_stop(d);
    return NULL;
}

static void test_workers_external_run_a_whole_device(void **state)
{
    for (unsigned l = 0; l < GW_ARRAY_SIZE(loops); l++) {
        struct embedder e;
        pthread_t front_end;

        embed(&e, loops[l]);
        assert_int_equal(pthread_create(&front_end, NULL, boot_and_use, e.d), 0);
        while (e.n_ended == 0)
            step(&e);
        pthread_join(front_end, NULL);
        assert_int_equal(e.n_ended, 1);
        assert_int_equal(e.result, 0);
        assert_int_equal(gw_daemon_wait(e.d), 0); /* does not wait */
        assert_int_equal(device.worker_of[1], 1);
        expel(&e);
    }
}

/* gw_daemon_wait and gw_daemon_free run the worker themselves. */
static void test_workers_external_are_run_by_wait_and_free(void **state)
{
    for (unsigned l = 0; l < GW_ARRAY_SIZE(loops); l++) {
        struct embedder e;
        pthread_t front_end;

        embed(&e, loops[l]);
        assert_int_equal(pthread_create(&front_end, NULL, boot_and_use, e.d), 0);
        assert_int_equal(gw_daemon_wait(e.d), 0);
        pthread_join(front_end, NULL);
        assert_int_equal(gw_daemon_start_path(e.d, path), 0);
        expel(&e); /* while it runs */
        assert_int_equal(e.n_ended, 2);
    }
}

/* The worker has a thread of its own here, and the control worker is the embedder's. */
static void test_workers_external_may_be_the_control_worker_alone(void **state)
{
    struct gw_workers *ws = make(1, true, GW_LOOP_AUTO);
    struct gw_daemon *d = make_daemon(NULL, 2, gw_workers_get(ws, 0));
    pthread_t front_end;

    assert_int_equal(gw_daemon_start_path(d, path), 0);
    assert_int_equal(pthread_create(&front_end, NULL, boot_and_use, d), 0);
    assert_int_equal(gw_daemon_wait(d), 0);
    pthread_join(front_end, NULL);
    gw_daemon_free(d);
    assert_int_equal(gw_workers_free(ws), 0);
}

static void *use_once(void *arg)
{
    struct vm *vm = arg;

    vm_boot(vm, 2);
    expect_requests_done(vm);
    return NULL;
}

/* A request that ends between two runs wakes the embedder's loop. */
static void test_workers_external_publish_what_ends_between_runs(void **state)
{
    for (unsigned l = 0; l < GW_ARRAY_SIZE(loops); l++) {
        struct gw_driver_used used;
        struct embedder e;
        pthread_t front_end;
        struct vm vm;

        embed(&e, loops[l]);
        device.hold = true;
        assert_int_equal(pthread_create(&front_end, NULL, use_once, &vm), 0);
        for (unsigned i = 0; i < 2; i++) {
            while (device.n_held == i)
                step(&e);
            usleep(1000); /* nothing is left to do */
            while (poll(&(struct pollfd){.fd = gw_worker_fd(e.w), .events = POLLIN}, 1, 0) == 1)
                step(&e);
            gw_request_complete(device.held[i], 0);
            step(&e); /* the fd is readable now */
        }
        pthread_join(front_end, NULL);
        assert_int_equal(gw_driver_take(vm.drivers[0], &used, 1), 0);
        gw_daemon_stop(e.d);
        while (e.n_ended == 0)
            step(&e);
        vm_unplug(&vm);
        expel(&e);
    }
}

/* ---- fairness ---- */

enum {
    GREEDY_QUEUES = 8,
    GREEDY_REQUESTS = 1000
};

static void *boot_queues(void *arg)
{
    struct vm *vm = arg;

    vm_boot_sized(vm, vm->n, 1024);
    return NULL;
}

static uint64_t completed(struct gw_daemon *d, unsigned n_queues)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n_queues; i++) {
        struct gw_queue_stats stats;

        gw_queue_stats(gw_daemon_queue(d, i), &stats);
        sum += stats.completed;
    }
    return sum;
}

static int take_all(void *dev, struct gw_queue *q)
{
    struct gw_request *reqs[16];
    unsigned n;

    while ((n = gw_queue_pop(q, reqs, 16)) > 0)
        for (unsigned i = 0; i < n; i++)
            gw_request_complete(reqs[i], 0);
    return 0;
}

/* A daemon on worker `w` with `n` long queues, and its guest. */
static struct gw_daemon *boot_long(struct gw_worker *w, struct vm *vm, unsigned n)
{
    static const struct gw_device_ops ops = {.size = sizeof(ops), .queue_ready = take_all};
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d;
    pthread_t front_end;

    cfg.num_queues = n;
    cfg.workers = &w;
    cfg.control = w;
    assert_int_equal(gw_daemon_new(&d, &cfg, &ops, NULL), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    vm->n = n;
    vm->booted = false;
    assert_int_equal(pthread_create(&front_end, NULL, boot_queues, vm), 0);
    while (!__atomic_load_n(&vm->booted, __ATOMIC_ACQUIRE))
        assert_int_equal(gw_worker_run(w, 1), 0);
    pthread_join(front_end, NULL);
    return d;
}

static void fill(struct vm *vm)
{
    for (unsigned i = 0; i < vm->n * GREEDY_REQUESTS; i++)
        vm_add(vm, i % vm->n);
}

/*
 * On one worker, a daemon with many full queues against one with a single queue: in each run of the
 * worker both get as much, and neither more than the limit of a turn.
 */
static void test_workers_share_their_turns_between_daemons(void **state)
{
    const uint64_t limit = 256;
    struct gw_workers *ws = make(1, true, GW_LOOP_EPOLL);
    struct gw_worker *w = gw_workers_get(ws, 0);
    uint64_t before_many = 0, before_one = 0;
    struct gw_daemon *greedy, *single;
    size_t end = strlen(path);
    struct vm many, one;

    single = boot_long(w, &one, 1);
    strcpy(path + end, "2");
    greedy = boot_long(w, &many, GREEDY_QUEUES);
    fill(&one);
    fill(&many);
    while (before_many == 0 || before_one == 0) {
        assert_int_equal(gw_worker_run(w, 0), 0);
        before_many = completed(greedy, GREEDY_QUEUES);
        before_one = completed(single, 1);
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(gw_worker_run(w, 0), 0);
        assert_int_equal(completed(single, 1) - before_one, limit);
        assert_int_equal(completed(greedy, GREEDY_QUEUES) - before_many, limit);
        before_one += limit;
        before_many += limit;
    }
    vm_unplug(&many);
    vm_unplug(&one);
    gw_daemon_free(greedy);
    path[end] = '\0';
    gw_daemon_free(single);
    assert_int_equal(gw_workers_free(ws), 0);
}

static unsigned n_ticks;

static void tick(void *arg)
{
    n_ticks++;
}

struct transfer {
    struct gw_io io;
    unsigned n_done;
};

static void transferred(struct gw_io *io, int res)
{
    struct transfer *t = gw_container_of(io, struct transfer, io);

    assert_int_equal(res, 5);
    t->n_done++;
}

static void *post_it(void *arg)
{
    struct where *where = arg;

    usleep(2000);
    assert_int_equal(gw_worker_post((struct gw_worker *)(uintptr_t)where->worker, &where->post), 0);
    return NULL;
}

/* A timer, a file operation and a post, all begun between two runs. */
static void test_workers_external_wake_for_timers_files_and_posts(void **state)
{
    for (unsigned l = 0; l < GW_ARRAY_SIZE(loops); l++) {
        struct transfer t = {.io.done = transferred};
        struct iovec iov = {.iov_base = (char[]){"bytes"}, .iov_len = 5};
        struct where where = {.post.run = look_where};
        int file = memfd_create("file", MFD_CLOEXEC);
        struct gw_timer *timer;
        struct embedder e;
        pthread_t other;

        embed(&e, loops[l]);
        n_ticks = 0;
        assert_int_equal(gw_timer_new(&timer, e.w, tick, NULL), 0);
        gw_timer_start(timer, 3000000, 2000000);
        while (n_ticks < 3)
            step(&e);
        gw_timer_stop(timer);
        gw_io_pwritev(e.w, &t.io, file, &iov, 1, 0, 0);
        while (t.n_done == 0)
            step(&e);
        where.worker = (uintptr_t)e.w;
        assert_int_equal(pthread_create(&other, NULL, post_it, &where), 0);
        while (where.done == 0)
            step(&e);
        pthread_join(other, NULL);
        gw_timer_free(timer);
        expel(&e);
        close(file);
    }
}

static void *expect_no_postcopy(void *arg)
{
    struct gw_frontend *fe = daemon_fixture_connect();
    uint64_t features;

    assert_int_equal(gw_frontend_get_protocol_features(fe, &features), 0);
    assert_false(features & 1u << 8);
    gw_frontend_free(fe);
    gw_daemon_stop(arg);
    return NULL;
}

/* The queues would have to leave the embedder's thread, which may wait for no page. */
static void test_workers_external_offer_no_postcopy(void **state)
{
    struct embedder e;
    pthread_t front_end;

    embed(&e, GW_LOOP_AUTO);
    assert_int_equal(pthread_create(&front_end, NULL, expect_no_postcopy, e.d), 0);
    assert_int_equal(gw_daemon_wait(e.d), 0);
    pthread_join(front_end, NULL);
    expel(&e);
}

struct newcomer {
    struct gw_post post, other;
    struct gw_worker *w;
    struct gw_daemon *d;
    unsigned n_others, n_others_inside;
};

static void run_other(struct gw_post *post)
{
    gw_container_of(post, struct newcomer, other)->n_others++;
}

static void make_inside(struct gw_post *post)
{
    struct newcomer *n = gw_container_of(post, struct newcomer, post);

    assert_int_equal(gw_worker_post(n->w, &n->other), 0);
    n->d = make_daemon(&n->w, 1, n->w);
    n->n_others_inside = n->n_others;
}

/* A callback makes a daemon on its own worker; no task runs during the call. */
static void test_workers_external_make_daemons_in_callbacks(void **state)
{
    struct newcomer n = {.post.run = make_inside, .other.run = run_other};
    struct gw_workers *ws = make(1, true, GW_LOOP_AUTO);

    memset(&device, 0, sizeof(device));
    n.w = gw_workers_get(ws, 0);
    assert_int_equal(gw_worker_post(n.w, &n.post), 0);
    while (n.n_others == 0)
        assert_int_equal(gw_worker_run(n.w, -1), 0);
    assert_int_equal(n.n_others_inside, 0);
    assert_int_equal(device.n_worker_starts, 1);
    gw_daemon_free(n.d);
    assert_int_equal(device.n_worker_stops, 1);
    assert_int_equal(gw_workers_free(ws), 0);
}

static int run_inside;

static void run_again(struct gw_post *post)
{
    struct where *w = gw_container_of(post, struct where, post);

    run_inside = gw_worker_run((struct gw_worker *)w->worker, 0);
}

static void *run_elsewhere(void *arg)
{
    struct gw_workers *ws = arg;

    assert_int_equal(gw_worker_run(gw_workers_get(ws, 0), 0), -EPERM);
    assert_int_equal(gw_workers_free(ws), -EPERM);
    return NULL;
}

static void test_workers_external_belong_to_one_thread(void **state)
{
    struct gw_workers *ws = make(2, true, GW_LOOP_AUTO), *threads = make(1, false, GW_LOOP_AUTO);
    struct where again = {.post.run = run_again, .worker = (uintptr_t)gw_workers_get(ws, 0)};
    pthread_t other;

    assert_int_equal(gw_worker_fd(gw_workers_get(threads, 0)), -EINVAL);
    assert_int_equal(gw_worker_run(gw_workers_get(threads, 0), 0), -EINVAL);
    assert_int_equal(pthread_create(&other, NULL, run_elsewhere, ws), 0);
    pthread_join(other, NULL);
    assert_int_equal(gw_worker_post(gw_workers_get(ws, 1), &again.post), 0);
    assert_int_equal(gw_worker_run(gw_workers_get(ws, 1), -1), 0);
    assert_int_equal(run_inside, -EBUSY);
    assert_int_equal(gw_worker_run(gw_workers_get(ws, 1), 1), 0); /* nothing comes */
    assert_true(gw_worker_is_current(gw_workers_get(ws, 0)));
    assert_false(gw_worker_is_current(gw_workers_get(threads, 0)));
    assert_int_equal(gw_workers_free(threads), 0);
    assert_int_equal(gw_workers_free(ws), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_workers_config_out_of_limits_is_refused),
        DAEMON_TEST(test_workers_have_the_names_and_the_cpus_of_their_config),
        DAEMON_TEST(test_workers_serve_many_daemons),
        DAEMON_TEST(test_workers_forget_a_freed_daemon_with_a_late_request),
        DAEMON_TEST(test_workers_given_twice_or_not_at_all_are_refused),
        DAEMON_TEST(test_workers_external_offer_no_postcopy),
        DAEMON_TEST(test_workers_external_run_a_whole_device),
        DAEMON_TEST(test_workers_external_are_run_by_wait_and_free),
        DAEMON_TEST(test_workers_external_may_be_the_control_worker_alone),
        DAEMON_TEST(test_workers_external_publish_what_ends_between_runs),
        DAEMON_TEST(test_workers_share_their_turns_between_daemons),
        DAEMON_TEST(test_workers_external_wake_for_timers_files_and_posts),
        DAEMON_TEST(test_workers_external_belong_to_one_thread),
        DAEMON_TEST(test_workers_external_make_daemons_in_callbacks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
