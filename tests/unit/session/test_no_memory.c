/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Each allocation of the back-end fails once: the operation fails with -ENOMEM and leaves nothing
 * open, and the daemon serves the next session. AddressSanitizer detects leaks.
 */
#include "on_worker.h"
#include "requires.h"

#include "../fixtures/daemon_fixture.h"
#include "../fixtures/no_memory.h"
#include "base/checked.h"
#include "base/proto.h"
#include "fdcheck.h"
#include "patience.h"
#include "postcopy/postcopy.h"

#include <godwit/frontend/fault.h>
#include <godwit/frontend/log.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- the embedder's calls ---- */

static int make_daemon(void *arg)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d;
    int r;

    cfg.loop = *(enum gw_loop_kind *)arg;
    cfg.num_queues = 3;
    cfg.num_workers = 2;
    memset(&device, 0, sizeof(device));
    r = gw_daemon_new(&d, &cfg, &device_ops, &device);
    if (r < 0)
        return r;
    r = gw_daemon_start_path(d, path);
    gw_daemon_free(d);
    return r;
}

static int make_client(void *arg)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d;
    int r;

    cfg.loop = GW_LOOP_EPOLL;
    cfg.reconnect_max_ms = 1000;
    memset(&device, 0, sizeof(device));
    r = gw_daemon_new(&d, &cfg, &device_ops, &device);
    if (r < 0)
        return r;
    r = gw_daemon_start_client(d, path);
    gw_daemon_free(d);
    return r;
}

static void test_no_memory_for_a_daemon(void **state)
{
    enum gw_loop_kind kind = GW_LOOP_EPOLL;

    assert_true(no_memory_each(NO_MEMORY_OF_ALL, make_daemon, &kind) > 6);
    assert_true(no_memory_each(NO_MEMORY_OF_ALL, make_client, NULL) > 4);
    kind = GW_LOOP_URING;
    if (has_io_uring())
        assert_true(no_memory_each(NO_MEMORY_OF_ALL, make_daemon, &kind) > 6);
}

static void nothing(void *arg)
{
}

static void nothing_ready(void *arg, int fd, unsigned events)
{
}

static void posted(struct gw_post *post)
{
}

static int post(void *arg)
{
    static struct gw_post post = {.run = posted};

    return gw_worker_post(arg, &post);
}

/* Runs on the worker, where all of it is allocated. */
static int add_fd(void *arg)
{
    int fd = eventfd(0, EFD_CLOEXEC), r;

    r = gw_worker_add_fd(arg, fd, POLLIN, nothing_ready, NULL);
    if (r == 0)
        assert_int_equal(gw_worker_remove_fd(arg, fd), 0);
    close(fd);
    return r;
}

static int call_add_fd(void *arg)
{
    return worker_call(arg, add_fd, arg);
}

static int make_timer(void *arg)
{
    struct gw_timer *t;
    int r = gw_timer_new(&t, arg, nothing, NULL);

    if (r == 0)
        gw_timer_free(t);
    return r;
}

static void test_no_memory_for_what_workers_are_asked(void **state)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d;

    for (unsigned i = 0; i < 2; i++) {
        cfg.loop = i == 0 ? GW_LOOP_EPOLL : GW_LOOP_URING;
        if (i == 1 && !has_io_uring())
            break;
        memset(&device, 0, sizeof(device));
        assert_int_equal(gw_daemon_new(&d, &cfg, &device_ops, &device), 0);
        no_memory_begin(NO_MEMORY_OF_CALLER, 1);
        assert_int_equal(post(gw_daemon_worker(d, 0)), 0);
        assert_false(no_memory_end()); /* it allocates nothing */
        assert_int_equal(no_memory_each(NO_MEMORY_OF_CALLER, make_timer, gw_daemon_worker(d, 0)),
                         1);
        assert_int_equal(no_memory_each(NO_MEMORY_OF_ALL, call_add_fd, gw_daemon_worker(d, 0)),
                         1 + i);
        gw_daemon_free(d);
    }
}

static unsigned n_moved, n_kept; /* atomic */

static void count_moved(void *dev, struct gw_queue *q)
{
    __atomic_add_fetch(&n_moved, 1, __ATOMIC_RELEASE);
}

static void count_kept(void *arg, enum gw_log_level level, const char *message)
{
    if (strstr(message, "queue 0 stays on worker") || strstr(message, "queue 0: no memory"))
        __atomic_add_fetch(&n_kept, 1, __ATOMIC_RELEASE);
}

/* Move the queue to the other one of two workers. */
static int move_queue(void *arg)
{
    struct gw_daemon *d = arg;
    struct gw_queue *q = gw_daemon_queue(d, 0);
    unsigned moved = n_moved, kept = n_kept;
    bool is_first = gw_queue_worker(q) == gw_daemon_worker(d, 0);

    assert_int_equal(gw_queue_move(q, gw_daemon_worker(d, is_first)), 0);
    for (unsigned ms = 0; ms < patience_ms(); ms++) {
        if (__atomic_load_n(&n_moved, __ATOMIC_ACQUIRE) != moved)
            return 0;
        if (__atomic_load_n(&n_kept, __ATOMIC_ACQUIRE) != kept)
            return -ENOMEM;
        (void)poll(NULL, 0, 1);
    }
    return -ETIMEDOUT;
}

static void test_no_memory_for_a_move(void **state)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_device_ops ops = device_ops;
    struct gw_daemon *d;

    cfg.loop = GW_LOOP_EPOLL;
    cfg.num_workers = 2;
    cfg.log = count_kept;
    cfg.log_level = GW_LOG_WARNING;
    ops.queue_moved = count_moved;
    memset(&device, 0, sizeof(device));
    assert_int_equal(gw_daemon_new(&d, &cfg, &ops, &device), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    assert_int_equal(no_memory_each(NO_MEMORY_OF_ALL, move_queue, d), 6);
    gw_daemon_free(d);
}

/* ---- sessions ---- */

enum {
    RING = 16,
    PARTS = 64 * (RING + 2), /* an inflight part of either layout has room */
};

#define GPA      UINT64_C(0x100000)
#define LATE     UINT64_C(0x10000000)
#define FEATURES (GW_BIT(GW_F_PROTOCOL_FEATURES) | GW_BIT(GW_F_VERSION_1))
#define LOG_ALL  GW_BIT(GW_F_LOG_ALL)

struct session {
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_frontend *fe;
    struct gw_guest_log *log;
    uint64_t layout;
};

static void session_begin(struct session *s, uint64_t layout)
{
    struct gw_guest_region region = {.gpa = GPA, .length = UINT64_C(1) << 20};
    struct gw_guest_log_config log_cfg = {.size = sizeof(log_cfg), .length = LATE * 2};
    struct gw_driver_config cfg = {.size = sizeof(cfg), .queue_size = RING};

    memset(s, 0, sizeof(*s));
    s->layout = layout;
    assert_int_equal(gw_guest_mem_new(&s->mem, 0x700000000000), 0);
    assert_int_equal(gw_guest_mem_add(s->mem, &region), 0);
    cfg.mem = s->mem;
    cfg.packed = layout != 0;
    assert_int_equal(gw_driver_new(&s->driver, &cfg), 0);
    assert_int_equal(gw_guest_log_new(&s->log, &log_cfg), 0);
    s->fe = daemon_fixture_connect();
}

static void session_end(struct session *s)
{
    gw_frontend_free(s->fe);
    gw_driver_free(s->driver);
    gw_guest_log_free(s->log);
    gw_guest_mem_free(s->mem);
}

static int track_inflight(struct session *s)
{
    const struct gw_wire_inflight wire = {PARTS, 0, 1, RING, 0};
    struct gw_frontend_message answer;
    uint64_t result = 1;
    int fd = memfd_create("inflight", MFD_CLOEXEC), r;

    assert_int_equal(ftruncate(fd, PARTS), 0);
    r = gw_frontend_send_raw(s->fe, GW_MSG_SET_INFLIGHT_FD, GW_MSG_VERSION | GW_MSG_NEED_REPLY,
                             sizeof(wire), &wire, sizeof(wire), &fd, 1);
    close(fd);
    if (r == 0)
        r = gw_frontend_receive(s->fe, &answer, patience_ms());
    if (r < 0)
        return r;
    memcpy(&result, answer.payload, sizeof(result));
    gw_frontend_message_done(&answer);
    return result == 0 ? 0 : -EREMOTEIO;
}

static int use_queue(struct session *s)
{
    struct gw_driver_buf buf = {.addr = GPA + 0x80000, .len = 16};
    struct gw_driver_used used;

    if (gw_driver_add(s->driver, &buf, 0, 1, 1, 0) < 0)
        return -EIO;
    gw_driver_kick_always(s->driver);
    if (gw_driver_wait(s->driver, patience_ms()) < 0)
        return -EIO;
    return gw_driver_take(s->driver, &used, 1) == 1 ? 0 : -EIO;
}

/* Run everything for which a session allocates memory. Returns: 0 or the first error. */
static int run_session(struct session *s)
{
    struct gw_frontend_options opt = {
        .size = sizeof(opt),
        .features = FEATURES | s->layout,
        .protocol_features = GW_BIT(GW_PROTOCOL_F_REPLY_ACK) | GW_BIT(GW_PROTOCOL_F_MQ) |
                             GW_BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS) |
                             GW_BIT(GW_PROTOCOL_F_INFLIGHT_SHMFD) | GW_BIT(GW_PROTOCOL_F_LOG_SHMFD),
        .mem = s->mem,
        .drivers = &s->driver,
        .n_drivers = 1,
    };
    struct gw_guest_region late = {.gpa = LATE, .length = UINT64_C(1) << 20};
    uint32_t base;
    int r = gw_frontend_negotiate(s->fe, &opt);

    if (r == 0)
        r = gw_frontend_set_features(s->fe, opt.features);
    if (r == 0)
        r = track_inflight(s);
    if (r == 0)
        r = gw_frontend_start(s->fe, &opt);
    if (r == 0)
        r = gw_frontend_set_log_base(s->fe, s->log);
    if (r == 0)
        r = gw_frontend_set_features(s->fe, opt.features | LOG_ALL);
    assert_int_equal(gw_guest_mem_add(s->mem, &late), 0);
    if (r == 0)
        r = gw_frontend_add_mem_reg(s->fe, s->mem, LATE);
    if (r == 0)
        r = gw_frontend_set_log_base(s->fe, s->log);
    if (r == 0)
        r = use_queue(s);
    if (r == 0)
        r = gw_frontend_rem_mem_reg(s->fe, s->mem, LATE);
    if (r == 0)
        r = gw_frontend_get_vring_base(s->fe, 0, &base);
    if (r == 0)
        assert_int_equal(base, s->layout ? 0x80018001 : 1);
    return r;
}

/* Wait until the threads have started: their allocations are not part of a session. */
static void wait_for_threads(void)
{
    struct gw_frontend *fe = daemon_fixture_connect();
    uint32_t base;

    assert_int_equal(gw_frontend_get_vring_base(fe, 0, &base), 0);
    gw_frontend_free(fe);
}

enum outcome {
    ALL_SUCCEEDED = 0,
    SESSION_FAILED,
    DONE_WITHOUT, /* the session succeeded despite the failed allocation */
};

/* Uses a new daemon each time, because queues keep their first allocations. */
static enum outcome fail_one(enum gw_loop_kind kind, uint64_t layout, unsigned n)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct session s;
    struct gw_daemon *d;
    bool has_failed;
    int r;

    cfg.loop = kind;
    memset(&device, 0, sizeof(device));
    assert_int_equal(gw_daemon_new(&d, &cfg, &device_ops, &device), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    wait_for_threads();
    no_memory_begin(NO_MEMORY_OF_OTHERS, n);
    session_begin(&s, layout);
    r = run_session(&s);
    has_failed = no_memory_end();
    session_end(&s);
    assert_true(r == 0 || has_failed);
    session_begin(&s, layout);
    assert_int_equal(run_session(&s), 0);
    session_end(&s);
    gw_daemon_free(d);
    if (!has_failed)
        return ALL_SUCCEEDED;
    return r < 0 ? SESSION_FAILED : DONE_WITHOUT;
}

static void check_sessions(enum gw_loop_kind kind, uint64_t layout, unsigned expected_without)
{
    unsigned n = 0, n_without = 0;
    enum outcome outcome;

    do {
        outcome = fail_one(kind, layout, ++n);
        n_without += outcome == DONE_WITHOUT;
    } while (outcome != ALL_SUCCEEDED);
    assert_true(n > 10);
    assert_int_equal(n_without, expected_without);
}

static void test_no_memory_for_a_session(void **state)
{
    static const uint64_t layouts[] = {0, GW_BIT(GW_F_RING_PACKED)};

    for (unsigned i = 0; i < 2; i++) {
        check_sessions(GW_LOOP_EPOLL, layouts[i], 0);
        if (has_io_uring())
            check_sessions(GW_LOOP_URING, layouts[i], 1); /* uring_bell_new: write(2) instead */
    }
}

/* ---- moves, and the worker of postcopy ---- */

static int no_base(void *arg, gw_gpa_t gpa, uint64_t len, gw_bva_t base)
{
    return 0;
}

/* Use the queue, which may be broken: the answer to its start did not wait for it. */
static int use_queue_unless(struct session *s, int err)
{
    struct gw_driver_buf buf = {.addr = GPA + 0x80000, .len = 16};
    struct gw_driver_used used;
    eventfd_t n;

    assert_int_equal(gw_driver_add(s->driver, &buf, 0, 1, 1, 0), 0);
    gw_driver_kick_always(s->driver);
    for (unsigned ms = 0; ms < patience_ms(); ms += 10) {
        const int r = gw_driver_wait(s->driver, 10);

        if (r == 0)
            return gw_driver_take(s->driver, &used, 1) == 1 ? 0 : -EIO;
        if (poll(&(struct pollfd){.fd = err, .events = POLLIN}, 1, 0) == 1)
            return eventfd_read(err, &n) == 0 ? -EPIPE : -EIO;
    }
    return -ETIMEDOUT;
}

/* A session in postcopy, on workers that daemons share. No page is missing. */
static int run_postcopy(struct session *s, struct gw_queue *q, struct gw_worker *to)
{
    struct gw_frontend_options opt = {
        .size = sizeof(opt), .mem = s->mem, .drivers = &s->driver, .n_drivers = 1};
    int uffd = -1, err = eventfd(0, EFD_CLOEXEC), r = gw_frontend_negotiate(s->fe, &opt);

    memset(gw_guest_mem_at(s->mem, GPA, UINT64_C(1) << 20), 0, UINT64_C(1) << 20);
    if (r == 0)
        r = gw_frontend_postcopy_advise(s->fe, &uffd);
    if (r == 0)
        r = gw_frontend_postcopy_listen(s->fe, no_base, NULL);
    if (r == 0)
        r = gw_frontend_set_vring_err(s->fe, 0, err);
    if (r == 0)
        r = gw_frontend_start(s->fe, &opt);
    if (r == 0)
        r = use_queue_unless(s, err);
    if (r == 0)
        r = gw_frontend_postcopy_end(s->fe);
    if (r == 0)
        r = gw_queue_move(q, to);
    if (r == 0)
        r = use_queue(s);
    if (uffd >= 0)
        close(uffd);
    close(err);
    return r;
}

/* Returns: false when there was nothing left to fail. */
static bool fail_one_of_postcopy(enum gw_loop_kind kind, unsigned n)
{
    const struct gw_workers_config set = {.size = sizeof(set), .num_workers = 3, .loop = kind};
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_worker *workers[2];
    struct gw_workers *ws;
    struct gw_daemon *d;
    bool has_failed = false;

    memset(&device, 0, sizeof(device));
    assert_int_equal(gw_workers_new(&ws, &set), 0);
    for (unsigned i = 0; i < 2; i++)
        workers[i] = gw_workers_get(ws, i);
    cfg.workers = workers;
    cfg.num_workers = 2;
    cfg.control = gw_workers_get(ws, 2);
    assert_int_equal(gw_daemon_new(&d, &cfg, &device_ops, &device), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    wait_for_threads();
    for (unsigned i = 0; i < 2; i++) {
        struct session s;
        int r;

        session_begin(&s, 0);
        if (i == 0)
            no_memory_begin(NO_MEMORY_OF_OTHERS, n);
        r = run_postcopy(&s, gw_daemon_queue(d, 0), workers[1]);
        if (i == 0)
            has_failed = no_memory_end();
        assert_true(r == 0 || (i == 0 && has_failed));
        session_end(&s);
    }
    gw_daemon_free(d);
    assert_int_equal(gw_workers_free(ws), 0);
    assert_int_equal(device.n_worker_starts, device.n_worker_stops);
    return has_failed;
}

static void test_no_memory_for_the_worker_of_postcopy(void **state)
{
    for (enum gw_loop_kind kind = has_io_uring() ? GW_LOOP_URING : GW_LOOP_EPOLL;
         kind <= GW_LOOP_EPOLL; kind++) {
        unsigned n = 1;

        while (fail_one_of_postcopy(kind, n))
            n++;
        assert_true(n > 20);
    }
}

static bool has_postcopy(void)
{
    if (gw_postcopy_probe() == 0)
        return true;
    fprintf(stderr, "[  SKIPPED ] postcopy (%s)\n", gw_last_error());
    return false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_no_memory_for_a_daemon),
        DAEMON_TEST(test_no_memory_for_what_workers_are_asked),
        DAEMON_TEST(test_no_memory_for_a_move),
        DAEMON_TEST(test_no_memory_for_a_session),
    };
    const struct CMUnitTest postcopy_tests[] = {
        DAEMON_TEST(test_no_memory_for_the_worker_of_postcopy),
    };
    int r = cmocka_run_group_tests(tests, NULL, NULL);

    return has_postcopy() ? r + cmocka_run_group_tests(postcopy_tests, NULL, NULL) : r;
}
