/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A bad front-end or device beside good ones, on the same two workers and the same control worker.
 * The others notice nothing: all of their requests and messages are answered, in order and with the
 * right data. Their latencies are printed, alone and beside each kind, and not checked.
 */
#include "../fixtures/echo.h"
#include "base/clock.h"
#include "base/proto.h"
#include "fdcheck.h"
#include "requires.h"

#include <godwit/frontend/fault.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    N_GOOD = 2,
    N_WORKERS = 2,
    N_QUEUES = 2,
    ROUNDS = 1000, /* of each good guest: a request on each queue, and a message */
};

struct good {
    struct echo device;
    struct gw_daemon *daemon;
    struct echo_guest guest;
    pthread_t thread;
    char path[80];
    uint64_t request_ns[ROUNDS], message_ns[ROUNDS];
};

static struct {
    char dir[40];
    unsigned rounds;
    struct gw_workers *set;
    struct gw_worker *workers[N_WORKERS], *control;
    struct good good[N_GOOD];
    /* The bad one. */
    struct echo device;
    struct gw_daemon *daemon;
    char path[80];
    unsigned n_attacks; /* atomic */
    bool ends;          /* atomic: the good ones are done */
    unsigned n_busy;    /* atomic: messages that name a blocked worker */
    bool blocks;        /* atomic: queue_ready of the bad device does not return */
    unsigned n_blocked; /* atomic */
} it;

/* No other thread may use cmocka. */
#define require(expr)                                                     \
    do {                                                                  \
        if (!(expr)) {                                                    \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #expr, \
                    gw_frontend_last_error());                            \
            abort();                                                      \
        }                                                                 \
    } while (0)

static bool must_end(void)
{
    return __atomic_load_n(&it.ends, __ATOMIC_ACQUIRE);
}

static void attacked(void)
{
    __atomic_add_fetch(&it.n_attacks, 1, __ATOMIC_RELEASE);
}

static void wait_for(const unsigned *n, unsigned value)
{
    for (unsigned ms = 0; __atomic_load_n(n, __ATOMIC_ACQUIRE) < value; ms++) {
        require(ms < patience_ms());
        usleep(1000);
    }
}

static void take_message(void *arg, enum gw_log_level level, const char *message)
{
    if (strstr(message, "is still busy"))
        __atomic_add_fetch(&it.n_busy, 1, __ATOMIC_RELEASE);
}

/* ---- the daemons ---- */

static struct gw_daemon *open_daemon(struct echo *device, enum echo_kind kind, const char *name,
                                     char *path, size_t size, const struct gw_device_ops *ops)
{
    static const uint16_t queue_workers[N_QUEUES] = {0, 1};
    struct gw_daemon_config cfg = {
        .size = sizeof(cfg),
        .name = name,
        .num_queues = N_QUEUES,
        .num_workers = N_WORKERS,
        .queue_workers = queue_workers,
        .workers = it.workers,
        .control = it.control,
        .log = take_message,
        .log_level = GW_LOG_WARNING,
    };
    struct gw_daemon *d;

    echo_init(device, kind);
    echo_configure(&cfg, kind);
    snprintf(path, size, "%s/%s", it.dir, name);
    assert_int_equal(gw_daemon_new(&d, &cfg, ops, device), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    return d;
}

static void close_daemon(struct gw_daemon *d, struct echo *device)
{
    echo_release(device);
    gw_daemon_stop(d);
    assert_int_equal(gw_daemon_wait(d), 0);
    echo_end_thread(device);
    gw_daemon_free(d);
    assert_int_equal(device->n_disordered, 0);
    assert_int_equal(device->n_starts, device->n_stops);
    echo_done(device);
}

static int ready_or_block(void *dev, struct gw_queue *q)
{
    while (__atomic_load_n(&it.blocks, __ATOMIC_ACQUIRE)) {
        __atomic_store_n(&it.n_blocked, 1, __ATOMIC_RELEASE);
        usleep(1000);
    }
    return echo_ops.queue_ready(dev, q);
}

static void begin(enum echo_kind bad_kind)
{
    const struct gw_workers_config cfg = {.size = sizeof(cfg), .num_workers = N_WORKERS + 1};
    struct gw_device_ops ops = echo_ops;

    ops.queue_ready = ready_or_block;
    memset(&it, 0, sizeof(it));
    it.rounds = is_under_tsan() || is_under_asan() ? ROUNDS / 5 : ROUNDS;
    strcpy(it.dir, "/tmp/godwit-it-XXXXXX");
    assert_non_null(mkdtemp(it.dir));
    assert_int_equal(gw_workers_new(&it.set, &cfg), 0);
    for (unsigned i = 0; i < N_WORKERS; i++)
        it.workers[i] = gw_workers_get(it.set, i);
    it.control = gw_workers_get(it.set, N_WORKERS);
    for (unsigned i = 0; i < N_GOOD; i++) {
        struct good *g = &it.good[i];
        char name[] = {(char)('a' + i), '\0'};

        g->daemon =
            open_daemon(&g->device, ECHO_AT_ONCE, name, g->path, sizeof(g->path), &echo_ops);
        assert_int_equal(echo_guest_init(&g->guest, N_QUEUES, i), 0);
        assert_int_equal(gw_frontend_connect(g->guest.fe, g->path), 0);
        assert_int_equal(gw_frontend_start(g->guest.fe, &g->guest.opt), 0);
    }
    it.daemon = open_daemon(&it.device, bad_kind, "bad", it.path, sizeof(it.path), &ops);
}

static void end(void)
{
    close_daemon(it.daemon, &it.device);
    for (unsigned i = 0; i < N_GOOD; i++) {
        echo_guest_done(&it.good[i].guest);
        close_daemon(it.good[i].daemon, &it.good[i].device);
    }
    assert_int_equal(gw_workers_free(it.set), 0);
    assert_int_equal(rmdir(it.dir), 0);
}

/* ---- the good ones ---- */

/* Uses the queues from `first` on. */
static void be_good(struct good *g, unsigned first)
{
    struct echo_guest *guest = &g->guest;

    for (unsigned i = 0; i < it.rounds; i++) {
        unsigned queue = first + i % (N_QUEUES - first);
        uint64_t start = gw_clock_ns(), features;

        require(echo_guest_send(guest, queue, 1) == 1);
        require(echo_guest_take(guest, queue) == 0);
        g->request_ns[i] = gw_clock_ns() - start;
        start = gw_clock_ns();
        require(gw_frontend_get_features(guest->fe, &features) == 0);
        g->message_ns[i] = gw_clock_ns() - start;
        usleep(200);
    }
    require(guest->n_answers == it.rounds);
}

static void *run_good(void *arg)
{
    be_good(arg, 0);
    return NULL;
}

static void *run_good_on_second_worker(void *arg)
{
    be_good(arg, 1);
    return NULL;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static double percentile(uint64_t *ns, unsigned n, unsigned percent)
{
    qsort(ns, n, sizeof(*ns), compare);
    return (double)ns[(uint64_t)n * percent / 100] / 1000;
}

static void print_latencies(const char *what)
{
    static uint64_t requests[N_GOOD * ROUNDS], messages[N_GOOD * ROUNDS];
    unsigned n = 0;

    for (unsigned i = 0; i < N_GOOD; i++)
        for (unsigned k = 0; k < it.rounds; k++, n++) {
            requests[n] = it.good[i].request_ns[k];
            messages[n] = it.good[i].message_ns[k];
        }
    fprintf(stderr,
            "%-22s requests p50 %6.0f p99 %6.0f us, messages p50 %6.0f p99 %6.0f us, %u attacks\n",
            what, percentile(requests, n, 50), percentile(requests, n, 99),
            percentile(messages, n, 50), percentile(messages, n, 99), it.n_attacks);
}

/* The good ones run while `attack`, if any, is repeated. */
static void check_good(const char *what, enum echo_kind bad_kind, void *(*attack)(void *arg))
{
    pthread_t thread;

    begin(bad_kind);
    if (attack) {
        assert_int_equal(pthread_create(&thread, NULL, attack, NULL), 0);
        wait_for(&it.n_attacks, 1);
    }
    for (unsigned i = 0; i < N_GOOD; i++)
        assert_int_equal(pthread_create(&it.good[i].thread, NULL, run_good, &it.good[i]), 0);
    for (unsigned i = 0; i < N_GOOD; i++)
        pthread_join(it.good[i].thread, NULL);
    __atomic_store_n(&it.ends, true, __ATOMIC_RELEASE);
    if (attack)
        pthread_join(thread, NULL);
    print_latencies(what);
    end();
}

/* ---- the bad ones ---- */

static void connect_bad(struct echo_guest *g)
{
    require(echo_guest_init(g, N_QUEUES, 99) == 0);
    require(gw_frontend_connect(g->fe, it.path) == 0);
}

/* Messages that are answered, until the socket is full; no answer is read. */
static void *never_read(void *arg)
{
    while (!must_end()) {
        struct echo_guest g;
        int r = 0;

        connect_bad(&g);
        gw_frontend_set_timeout(g.fe, 100);
        while (r == 0 && !must_end())
            r = gw_frontend_send_raw(g.fe, GW_MSG_GET_FEATURES, GW_MSG_VERSION, 0, NULL, 0, NULL,
                                     0);
        attacked();
        while (!must_end())
            usleep(1000);
        echo_guest_done(&g);
    }
    return NULL;
}

/* Messages as fast as they are answered. */
static void *flood_messages(void *arg)
{
    struct echo_guest g;
    uint64_t features;

    connect_bad(&g);
    require(gw_frontend_start(g.fe, &g.opt) == 0);
    while (!must_end()) {
        require(gw_frontend_get_features(g.fe, &features) == 0);
        require(gw_frontend_set_mem_table(g.fe, g.mem) == 0);
        attacked();
    }
    echo_guest_done(&g);
    return NULL;
}

/* Rings that are never empty, and kicks. */
static void *flood_requests(void *arg)
{
    struct echo_guest g;

    connect_bad(&g);
    require(gw_frontend_start(g.fe, &g.opt) == 0);
    while (!must_end()) {
        for (unsigned i = 0; i < N_QUEUES; i++) {
            echo_guest_send(&g, i, ECHO_SLOTS);
            gw_driver_kick_always(g.drivers[i]);
        }
        require(echo_guest_take_all(&g) == 0);
        attacked();
    }
    echo_guest_done(&g);
    return NULL;
}

/* The device keeps a request, and its front-end waits for the end of its queue. */
static void *drain(void *arg)
{
    const struct gw_wire_vring_state state = {0};
    struct echo_guest g;

    __atomic_store_n(&it.device.holds, true, __ATOMIC_RELEASE);
    connect_bad(&g);
    require(gw_frontend_start(g.fe, &g.opt) == 0);
    echo_guest_send(&g, 0, 1);
    wait_for(&it.device.n_held, 1);
    require(gw_frontend_send_raw(g.fe, GW_MSG_GET_VRING_BASE, GW_MSG_VERSION, sizeof(state), &state,
                                 sizeof(state), NULL, 0) == 0);
    attacked();
    while (!must_end())
        usleep(1000);
    echo_release(&it.device);
    echo_guest_done(&g);
    return NULL;
}

/* Each number of bytes of a handshake, and then nothing more. */
static void *hang_up_anywhere(void *arg)
{
    const struct {
        struct gw_wire_header header;
        uint64_t payload;
    } __attribute__((packed)) messages[] = {
        {{GW_MSG_SET_FEATURES, GW_MSG_VERSION, 8}, UINT64_C(1) << 32 | 1 << 30},
        {{GW_MSG_SET_PROTOCOL_FEATURES, GW_MSG_VERSION, 8}, 1 << 0 | 1 << 3 | 1 << 13},
        {{GW_MSG_SET_VRING_NUM, GW_MSG_VERSION, 8}, UINT64_C(64) << 32},
        {{GW_MSG_SET_VRING_BASE, GW_MSG_VERSION, 8}, 0},
        {{GW_MSG_SET_VRING_ENABLE, GW_MSG_VERSION, 8}, UINT64_C(1) << 32},
        {{GW_MSG_GET_VRING_BASE, GW_MSG_VERSION, 8}, 0},
    };

    for (size_t n = 0; !must_end(); n = (n + 1) % (sizeof(messages) + 1)) {
        struct gw_frontend *fe;

        require(gw_frontend_new(&fe, NULL) == 0);
        require(gw_frontend_connect(fe, it.path) == 0);
        if (n > 0)
            (void)gw_frontend_send_bytes(fe, messages, n);
        gw_frontend_free(fe);
        attacked();
    }
    return NULL;
}

static int no_base(void *arg, gw_gpa_t gpa, uint64_t len, gw_bva_t base)
{
    return 0;
}

/* A worker for each postcopy, again and again. */
static void *listen_and_end(void *arg)
{
    struct echo_guest g;
    int uffd;

    connect_bad(&g);
    require(gw_frontend_negotiate(g.fe, &g.opt) == 0);
    while (!must_end()) {
        attacked();
        if (gw_frontend_postcopy_advise(g.fe, &uffd) < 0)
            break; /* not offered */
        require(gw_frontend_postcopy_listen(g.fe, no_base, NULL) == 0);
        require(gw_frontend_postcopy_end(g.fe) == 0);
        close(uffd);
    }
    echo_guest_done(&g);
    return NULL;
}

/* Children that have the descriptors of all sessions, and end. */
static void *fork_children(void *arg)
{
    while (!must_end()) {
        pid_t pid = fork();
        int status;

        if (pid == 0) {
            usleep(1000);
            _exit(3);
        }
        require(pid > 0);
        require(waitpid(pid, &status, 0) == pid);
        require(WIFEXITED(status) && WEXITSTATUS(status) == 3);
        attacked();
        usleep(1000);
    }
    return NULL;
}

/* ---- tests ---- */

static void test_shared_bad_nobody(void **state)
{
    check_good("alone", ECHO_AT_ONCE, NULL);
}

static void test_shared_bad_never_reads_its_answers(void **state)
{
    check_good("never reads", ECHO_AT_ONCE, never_read);
}

static void test_shared_bad_floods_with_messages(void **state)
{
    check_good("floods with messages", ECHO_AT_ONCE, flood_messages);
}

static void test_shared_bad_floods_with_requests(void **state)
{
    check_good("floods with requests", ECHO_AT_ONCE, flood_requests);
}

static void test_shared_bad_drains_for_ever(void **state)
{
    check_good("drains for ever", ECHO_THREAD, drain);
}

static void test_shared_bad_hangs_up_at_every_byte(void **state)
{
    check_good("hangs up anywhere", ECHO_AT_ONCE, hang_up_anywhere);
}

static void test_shared_bad_begins_and_ends_postcopy(void **state)
{
    check_good("listens and ends", ECHO_AT_ONCE, listen_and_end);
}

static void test_shared_bad_embedder_forks(void **state)
{
    check_good("forks", ECHO_AT_ONCE, fork_children);
}

static void *stop_bad_queue(void *arg)
{
    uint32_t base;

    require(gw_frontend_get_vring_base(((struct echo_guest *)arg)->fe, 0, &base) == 0);
    return NULL;
}

/* The first worker is blocked. It is named, and what is on the second continues. */
static void test_shared_bad_callback_blocks(void **state)
{
    struct echo_guest g;
    pthread_t stopper;

    begin(ECHO_AT_ONCE);
    connect_bad(&g);
    require(gw_frontend_start(g.fe, &g.opt) == 0);
    __atomic_store_n(&it.blocks, true, __ATOMIC_RELEASE);
    echo_guest_send(&g, 0, 1);
    wait_for(&it.n_blocked, 1);
    assert_int_equal(pthread_create(&stopper, NULL, stop_bad_queue, &g), 0);
    for (unsigned i = 0; i < N_GOOD; i++)
        assert_int_equal(
            pthread_create(&it.good[i].thread, NULL, run_good_on_second_worker, &it.good[i]), 0);
    for (unsigned i = 0; i < N_GOOD; i++)
        pthread_join(it.good[i].thread, NULL);
    wait_for(&it.n_busy, 1);
    __atomic_store_n(&it.blocks, false, __ATOMIC_RELEASE);
    pthread_join(stopper, NULL);
    print_latencies("a callback blocks");
    echo_guest_done(&g);
    end();
}

/* With a name, only that test. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_shared_bad_nobody),
        FDCHECK_TEST(test_shared_bad_never_reads_its_answers),
        FDCHECK_TEST(test_shared_bad_floods_with_messages),
        FDCHECK_TEST(test_shared_bad_floods_with_requests),
        FDCHECK_TEST(test_shared_bad_drains_for_ever),
        FDCHECK_TEST(test_shared_bad_hangs_up_at_every_byte),
        FDCHECK_TEST(test_shared_bad_begins_and_ends_postcopy),
        FDCHECK_TEST(test_shared_bad_embedder_forks),
        FDCHECK_TEST(test_shared_bad_callback_blocks),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
