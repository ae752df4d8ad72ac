/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Front-ends without blocking and back-ends of libgodwit. One thread runs the loop of all
 * front-ends; the back-ends have their own threads.
 */
#include "../fixtures/fe_line.h"
#include "base/checked.h"
#include "fdcheck.h"
#include "requires.h"

#include <godwit.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define GPA       UINT64_C(0x100000)
#define LATE_GPA  UINT64_C(0x40000000)
#define MEMORY    (UINT64_C(1) << 20)
#define CONFIG    16
#define N_DAEMONS 4

/* ---- The back-ends ---- */

static uint8_t config[CONFIG] = "godwit";
static char dir[] = "/tmp/fe_async.XXXXXX";

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct gw_request *request;

    while (gw_queue_pop(q, &request, 1))
        gw_request_complete(request, 0);
    return 0;
}

static int get_config(void *dev, uint32_t off, void *buf, uint32_t len)
{
    return gw_config_read(config, sizeof(config), off, buf, len);
}

static int set_config(void *dev, uint32_t off, const void *buf, uint32_t len, bool migration)
{
    return gw_config_write(config, sizeof(config), off, buf, len);
}

static void silent(void *arg, enum gw_log_level level, const char *message)
{
}

static void socket_path(unsigned i, char path[64])
{
    snprintf(path, 64, "%s/%u", dir, i);
}

static struct gw_daemon *start_daemon(unsigned i)
{
    static const struct gw_device_ops ops = {.size = sizeof(ops),
                                             .queue_ready = queue_ready,
                                             .get_config = get_config,
                                             .set_config = set_config};
    const struct gw_daemon_config cfg = {.size = sizeof(cfg), .num_queues = 2, .log = silent};
    struct gw_daemon *d;
    char path[64];

    socket_path(i, path);
    assert_int_equal(gw_daemon_new(&d, &cfg, &ops, NULL), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    return d;
}

static void end_daemon(struct gw_daemon *d)
{
    gw_daemon_stop(d);
    assert_int_equal(gw_daemon_wait(d), 0);
    gw_daemon_free(d);
}

static int setup(void **state)
{
    return fdcheck_setup(state) < 0 || !mkdtemp(strcpy(dir, "/tmp/fe_async.XXXXXX")) ? -1 : 0;
}

static int teardown(void **state)
{
    return rmdir(dir) < 0 ? -1 : fdcheck_teardown(state);
}

/* ---- A guest ---- */

struct guest {
    struct line l; /* without a peer */
    struct gw_daemon *daemon;
    struct gw_guest_mem *mem;
    struct gw_driver *drivers[2];
    unsigned n_requests; /* on the back-end channel */
};

static uint64_t on_request(void *arg, struct gw_frontend_message *msg)
{
    struct guest *g = arg;

    g->n_requests += msg->request == GW_BACKEND_MSG_CONFIG_CHANGE;
    return 0;
}

static void guest_begin(struct guest *g)
{
    const struct gw_frontend_config cfg = {
        .size = sizeof(cfg), .timeout_ms = patience_ms(), .connect_timeout_ms = patience_ms()};
    const struct gw_guest_region region = {.gpa = GPA, .length = MEMORY};

    *g = (struct guest){.l.peer = -1};
    g->daemon = start_daemon(0);
    assert_int_equal(gw_frontend_new(&g->l.fe, &cfg), 0);
    assert_true(gw_frontend_poll_fd(g->l.fe) >= 0);
    gw_frontend_set_backend_cb(g->l.fe, on_request, g);
    assert_int_equal(gw_guest_mem_new(&g->mem, UINT64_C(0x700000000000)), 0);
    assert_int_equal(gw_guest_mem_add(g->mem, &region), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct gw_driver_config d = {
            .size = sizeof(d), .mem = g->mem, .index = i, .queue_size = 16};

        assert_int_equal(gw_driver_new(&g->drivers[i], &d), 0);
    }
}

static void guest_end(struct guest *g)
{
    gw_frontend_free(g->l.fe);
    for (unsigned i = 0; i < 2; i++)
        gw_driver_free(g->drivers[i]);
    gw_guest_mem_free(g->mem);
    end_daemon(g->daemon);
}

/* Wait for the call as a program does that polls the fd. */
static void do_request(struct guest *g, unsigned i)
{
    struct pollfd p = {.fd = gw_driver_call_fd(g->drivers[i]), .events = POLLIN};
    const struct gw_driver_buf buf = {.addr = GPA, .len = 16};
    struct gw_driver_used used;

    gw_driver_take_call(g->drivers[i]); /* the back-end may call when a queue starts */
    assert_int_equal(gw_driver_add(g->drivers[i], &buf, 0, 1, 7, 0), 0);
    assert_true(gw_driver_want_calls(g->drivers[i]));
    gw_driver_kick(g->drivers[i]);
    while (gw_driver_take(g->drivers[i], &used, 1) == 0) {
        assert_int_equal(poll(&p, 1, (int)patience_ms()), 1);
        assert_true(gw_driver_take_call(g->drivers[i]));
    }
    assert_int_equal(used.cookie, 7);
    gw_driver_suppress_calls(g->drivers[i]);
}

/* Start one operation and run the loop until its end. */
#define DO(g, name, ...)                                                                        \
    (__extension__({                                                                            \
        struct end end_ = {0};                                                                  \
                                                                                                \
        assert_int_equal(gw_frontend_##name##_async((g)->l.fe, ##__VA_ARGS__, line_end, &end_), \
                         0);                                                                    \
        line_loop(&(g)->l, &end_);                                                              \
    }))

static void connect_and_negotiate(struct guest *g, uint64_t *ret_protocol)
{
    uint64_t features, n;
    char path[64];

    socket_path(0, path);
    assert_int_equal(DO(g, connect, path), 0);
    assert_int_equal(DO(g, get_features, &features), 0);
    assert_true(features & GW_BIT(GW_F_VERSION_1) && features & GW_BIT(GW_F_LOG_ALL));
    assert_int_equal(DO(g, get_protocol_features, ret_protocol), 0);
    *ret_protocol &= ~GW_BIT(GW_PROTOCOL_F_XEN_MMAP);
    assert_int_equal(DO(g, set_protocol_features, *ret_protocol), 0);
    assert_int_equal(DO(g, get_queue_num, &n), 0);
    assert_int_equal(n, 2);
    assert_int_equal(DO(g, get_max_mem_slots, &n), 0);
    assert_true(n > 8);
    assert_int_equal(DO(g, set_backend_req_fd), 0);
    assert_int_equal(DO(g, set_owner), 0);
    assert_int_equal(DO(g, set_features, GW_BIT(GW_F_VERSION_1) | GW_BIT(GW_F_PROTOCOL_FEATURES)),
                     0);
}

static void start_and_stop_queue(struct guest *g, unsigned i)
{
    int err = eventfd(0, EFD_CLOEXEC);

    assert_int_equal(DO(g, start_queue, g->drivers[i]), 0);
    assert_int_equal(DO(g, set_vring_err, i, err), 0);
    close(err);
    assert_int_equal(DO(g, set_vring_enable, i, true), 0);
    do_request(g, i);
    assert_int_equal(DO(g, set_vring_enable, i, false), 0);
    assert_int_equal(DO(g, stop_queue, g->drivers[i]), 0);
    assert_int_equal(gw_driver_base(g->drivers[i]), 1);
    gw_driver_reset(g->drivers[i], 0);
}

static void test_fe_async_daemon_answers_every_request(void **state)
{
    struct gw_guest_log_config log_cfg = {.size = sizeof(log_cfg)};
    struct gw_frontend_inflight inflight = {0};
    struct gw_guest_log *log;
    uint64_t protocol;
    uint32_t base;
    struct guest g;
    char buf[CONFIG];
    int fd;

    guest_begin(&g);
    connect_and_negotiate(&g, &protocol);

    assert_int_equal(DO(&g, get_config, 0, buf, 6), 0);
    assert_memory_equal(buf, "godwit", 6);
    assert_int_equal(DO(&g, set_config, 8, "async", 5, false), 0);
    assert_int_equal(DO(&g, get_config, 8, buf, 5), 0);
    assert_memory_equal(buf, "async", 5);
    assert_int_equal(DO(&g, get_config, 4096, buf, 1), -EREMOTEIO);

    assert_int_equal(DO(&g, get_inflight_fd, 2, 16, &inflight), 0);
    assert_true(inflight.mmap_size > 0 && inflight.num_queues == 2);
    assert_int_equal(DO(&g, set_inflight_fd, &inflight), 0);

    assert_int_equal(DO(&g, add_mem_reg, g.mem, LATE_GPA), -ENOENT);
    assert_int_equal(DO(&g, set_mem_table, g.mem), 0);
    assert_int_equal(DO(&g, rem_mem_reg, g.mem, GPA), 0);
    assert_int_equal(DO(&g, add_mem_reg, g.mem, GPA), 0);
    start_and_stop_queue(&g, 0);
    start_and_stop_queue(&g, 1);

    log_cfg.length = gw_guest_log_length_for(g.mem, g.drivers, 2);
    assert_int_equal(gw_guest_log_new(&log, &log_cfg), 0);
    fd = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(DO(&g, set_log_fd, fd), 0);
    close(fd);
    assert_int_equal(DO(&g, set_log_base, log), 0);
    assert_int_equal(DO(&g, set_log_all, true), 0);
    assert_true(gw_frontend_features(g.l.fe) & GW_BIT(GW_F_LOG_ALL));
    assert_int_equal(DO(&g, start_queue, g.drivers[0]), 0);
    assert_int_equal(DO(&g, set_vring_log, g.drivers[0], true), 0);
    assert_int_equal(DO(&g, set_vring_enable, 0, true), 0);
    do_request(&g, 0);
    /* A device whose rings are all stopped would send nothing. */
    gw_daemon_config_changed(g.daemon);
    while (!g.n_requests) {
        struct pollfd p = {.fd = gw_frontend_poll_fd(g.l.fe), .events = POLLIN};

        assert_true(poll(&p, 1, gw_frontend_poll_timeout(g.l.fe)) >= 0);
        assert_int_equal(gw_frontend_run(g.l.fe, 0), 0);
    }
    assert_int_equal(DO(&g, set_log_all, false), 0);
    assert_int_equal(DO(&g, get_vring_base_skip_drain, 0, &base), 0);
    assert_int_equal(base, 1);
    assert_int_equal(DO(&g, reset_device), 0);
    assert_int_equal(DO(&g, reset_owner), 0);
    gw_frontend_inflight_done(&inflight);
    guest_end(&g);
    gw_guest_log_free(log);
}

/* Each ring message by itself. */
static void test_fe_async_daemon_ring_messages(void **state)
{
    int kick = eventfd(0, EFD_CLOEXEC), call = eventfd(0, EFD_CLOEXEC);
    struct gw_frontend_vring_addr addr;
    uint64_t protocol;
    uint32_t base = 0;
    struct guest g;
    gw_gpa_t at;

    guest_begin(&g);
    connect_and_negotiate(&g, &protocol);
    assert_int_equal(DO(&g, set_mem_table, g.mem), 0);
    assert_int_equal(gw_guest_mem_alloc(g.mem, 4096, 4096, &at), 0);
    addr = (struct gw_frontend_vring_addr){.desc = gw_guest_mem_uva(g.mem, at),
                                           .avail = gw_guest_mem_uva(g.mem, at + 1024),
                                           .used = gw_guest_mem_uva(g.mem, at + 2048)};
    assert_int_equal(DO(&g, set_vring_num, 1, 16), 0);
    assert_int_equal(DO(&g, set_vring_num, 1, 17), -EREMOTEIO);
    assert_int_equal(DO(&g, set_vring_base, 1, 0), 0);
    assert_int_equal(DO(&g, set_vring_addr, 1, &addr), 0);
    assert_int_equal(DO(&g, set_vring_call, 1, call), 0);
    assert_int_equal(DO(&g, set_vring_kick, 1, kick), 0);
    assert_int_equal(DO(&g, set_vring_enable, 1, true), 0);
    assert_int_equal(DO(&g, set_vring_err, 1, -1), 0);
    assert_int_equal(DO(&g, get_vring_base, 1, &base), 0);
    assert_int_equal(base, 0);
    close(kick);
    close(call);
    guest_end(&g);
}

struct bases {
    unsigned n;
};

static int take_base(void *arg, gw_gpa_t gpa, uint64_t len, gw_bva_t base)
{
    struct bases *b = arg;

    assert_true(gpa == GPA && len == MEMORY && base != 0);
    b->n++;
    return 0;
}

static void test_fe_async_daemon_postcopy(void **state)
{
    struct bases bases = {0};
    uint64_t protocol, features;
    struct guest g;
    int uffd = -1;

    guest_begin(&g);
    connect_and_negotiate(&g, &protocol);
    if (!(protocol & GW_BIT(GW_PROTOCOL_F_PAGEFAULT))) {
        guest_end(&g);
        skip(); /* no userfaultfd, or a build without postcopy */
    }
    assert_int_equal(DO(&g, postcopy_advise, &uffd), 0);
    assert_int_equal(fcntl(uffd, F_GETFD), FD_CLOEXEC);
    close(uffd);
    assert_int_equal(DO(&g, postcopy_listen, take_base, &bases), 0);
    assert_int_equal(DO(&g, set_mem_table, g.mem), 0);
    assert_int_equal(bases.n, 1);
    assert_int_equal(DO(&g, rem_mem_reg, g.mem, GPA), 0);
    assert_int_equal(DO(&g, add_mem_reg, g.mem, GPA), 0);
    assert_int_equal(bases.n, 2);
    assert_int_equal(DO(&g, get_features, &features), 0);
    assert_int_equal(DO(&g, postcopy_end), 0);
    guest_end(&g);
}

/* A whole session is started at once: everything else is the work of the loop. */
static void test_fe_async_daemon_session_is_queued_at_once(void **state)
{
    struct gw_frontend_options opt = {.size = sizeof(opt), .n_drivers = 2};
    struct gw_frontend_inflight inflight = {0};
    struct end e[5] = {0};
    struct guest g;
    char buf[6], path[64];

    guest_begin(&g);
    socket_path(0, path);
    opt.mem = g.mem;
    opt.drivers = g.drivers;
    opt.inflight = &inflight;
    for (unsigned round = 0; round < 3; round++) {
        memset(e, 0, sizeof(e));
        n_ends = 0;
        assert_int_equal(gw_frontend_connect_async(g.l.fe, path, line_end, &e[0]), 0);
        assert_int_equal(gw_frontend_negotiate_async(g.l.fe, &opt, line_end, &e[1]), 0);
        assert_int_equal(gw_frontend_start_async(g.l.fe, &opt, line_end, &e[2]), 0);
        assert_int_equal(gw_frontend_get_config_async(g.l.fe, 0, buf, 6, line_end, &e[3]), 0);
        assert_int_equal(line_loop(&g.l, &e[3]), 0);
        assert_memory_equal(buf, "godwit", 6);
        do_request(&g, 0);
        do_request(&g, 1);
        if (round < 2) {
            assert_int_equal(gw_frontend_stop_async(g.l.fe, g.drivers, 2, line_end, &e[4]), 0);
            assert_int_equal(line_loop(&g.l, &e[4]), 0);
            assert_int_equal(gw_driver_base(g.drivers[1]), round + 1);
        } /* the last session is lost with running queues */
        for (unsigned i = 0; i < 4; i++)
            assert_true(e[i].n == 1 && e[i].r == 0 && e[i].order == i);
        gw_frontend_disconnect(g.l.fe);
    }
    gw_frontend_inflight_done(&inflight);
    guest_end(&g);
}

/* The back-end ends while a sequence runs: its operations end, and the queues can start again. */
static void test_fe_async_daemon_ends_in_a_session(void **state)
{
    struct gw_frontend_options opt = {.size = sizeof(opt), .n_drivers = 2};
    struct end e[3] = {0}, idle = {0};
    struct guest g;
    char path[64];
    int r = 0;

    guest_begin(&g);
    socket_path(0, path);
    opt.mem = g.mem;
    opt.drivers = g.drivers;
    assert_int_equal(DO(&g, connect, path), 0);
    assert_int_equal(DO(&g, start, &opt), 0);
    end_daemon(g.daemon);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(gw_frontend_stop_async(g.l.fe, g.drivers, 2, line_end, &e[i]), 0);
    assert_int_equal(line_loop(&g.l, &e[2]), -ECONNRESET);
    assert_true(e[0].n == 1 && e[0].r == -ECONNRESET && e[1].n == 1 && e[1].r == -ECONNRESET);
    gw_frontend_disconnect(g.l.fe);

    g.daemon = start_daemon(0);
    assert_int_equal(DO(&g, connect, path), 0);
    assert_int_equal(DO(&g, start, &opt), 0);
    do_request(&g, 0);
    end_daemon(g.daemon);
    while (r == 0) {
        struct pollfd p = {.fd = gw_frontend_poll_fd(g.l.fe), .events = POLLIN};

        assert_int_equal(poll(&p, 1, (int)patience_ms()), 1);
        r = gw_frontend_run(g.l.fe, 0);
    }
    assert_int_equal(r, -ECONNRESET);
    assert_int_equal(gw_frontend_set_owner_async(g.l.fe, line_end, &idle), -ECONNRESET);
    g.daemon = start_daemon(0);
    guest_end(&g);
}

/* ---- A thousand ---- */

struct crowd_member {
    struct gw_frontend *fe; /* NULL when it has done everything */
    unsigned *n_left;
    uint64_t features;
    char config[6];
    bool is_negotiated;
};

static void crowd_negotiated(void *arg, int r)
{
    struct crowd_member *m = arg;

    assert_int_equal(r, 0);
    m->is_negotiated = true;
}

static void crowd_connected(void *arg, int r)
{
    if (r < 0)
        fail_msg("%s", gw_frontend_last_error());
}

static void crowd_done(void *arg, int r)
{
    struct crowd_member *m = arg;

    assert_int_equal(r, 0);
    assert_true(m->is_negotiated);
    assert_memory_equal(m->config, "godwit", 6);
    gw_frontend_free(m->fe); /* lets the next one in */
    m->fe = NULL;
    --*m->n_left;
}

static void crowd_join(struct crowd_member *m, unsigned i, int epoll_fd, unsigned *n_left)
{
    const struct gw_frontend_options opt = {.size = sizeof(opt)};
    const struct gw_frontend_config cfg = {
        .size = sizeof(cfg), .timeout_ms = patience_ms(), .connect_timeout_ms = patience_ms()};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = m};
    char path[64];

    *m = (struct crowd_member){.n_left = n_left};
    socket_path(i % N_DAEMONS, path);
    assert_int_equal(gw_frontend_new(&m->fe, &cfg), 0);
    assert_int_equal(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, gw_frontend_poll_fd(m->fe), &event), 0);
    assert_int_equal(gw_frontend_connect_async(m->fe, path, crowd_connected, m), 0);
    assert_int_equal(gw_frontend_negotiate_async(m->fe, &opt, crowd_negotiated, m), 0);
    assert_int_equal(gw_frontend_get_config_async(m->fe, 0, m->config, 6, crowd_done, m), 0);
}

/* The loop of a program with many front-ends: one epoll instance, and the shortest timeout. */
static void crowd_loop(struct crowd_member *crowd, unsigned n, int epoll_fd, const unsigned *n_left)
{
    struct epoll_event events[64];

    while (*n_left) {
        int timeout = -1, n_ready;

        for (unsigned i = 0; i < n; i++) {
            int one = crowd[i].fe ? gw_frontend_poll_timeout(crowd[i].fe) : -1;

            if (one == 0) {
                (void)gw_frontend_run(crowd[i].fe, 0);
                one = crowd[i].fe ? gw_frontend_poll_timeout(crowd[i].fe) : -1;
            }
            if (one >= 0 && (timeout < 0 || one < timeout))
                timeout = one;
        }
        n_ready = epoll_wait(epoll_fd, events, 64, timeout);
        for (int i = 0; i < n_ready; i++) {
            struct crowd_member *m = events[i].data.ptr;

            if (m->fe)
                (void)gw_frontend_run(m->fe, 0);
        }
    }
}

/*
 * All connect at once to a few back-ends, which serve one after another: the others wait in the
 * backlog, for room in it, or for their first answer.
 */
static void test_fe_async_daemon_a_thousand_front_ends(void **state)
{
    unsigned n = is_under_valgrind() ? 50 : 1000, n_left;
    struct crowd_member *crowd = calloc(n, sizeof(*crowd));
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct gw_daemon *daemons[N_DAEMONS];
    struct rlimit old, more;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    more = old;
    more.rlim_cur = more.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &more), 0);
    if (more.rlim_cur < 6 * n)
        n = (unsigned)more.rlim_cur / 6;
    for (unsigned i = 0; i < N_DAEMONS; i++)
        daemons[i] = start_daemon(i);
    n_left = n;
    for (unsigned i = 0; i < n; i++)
        crowd_join(&crowd[i], i, epoll_fd, &n_left);
    crowd_loop(crowd, n, epoll_fd, &n_left);
    for (unsigned i = 0; i < N_DAEMONS; i++)
        end_daemon(daemons[i]);
    close(epoll_fd);
    free(crowd);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

#define DAEMON_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_fe_async_daemon_answers_every_request),
        DAEMON_TEST(test_fe_async_daemon_ring_messages),
        DAEMON_TEST(test_fe_async_daemon_postcopy),
        DAEMON_TEST(test_fe_async_daemon_session_is_queued_at_once),
        DAEMON_TEST(test_fe_async_daemon_ends_in_a_session),
        DAEMON_TEST(test_fe_async_daemon_a_thousand_front_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
