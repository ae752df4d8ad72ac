/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Operations that end with a callback, in the loop of a program: when the loop is called, the order
 * of messages and callbacks, cancelling, freeing, connecting, and the back-end channel.
 */
#include "../fixtures/fe_line.h"
#include "fdcheck.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

static void test_fe_async_answer_in_pieces_ends_once(void **state)
{
    const struct answer a = answer_u64(GW_MSG_GET_FEATURES, UINT64_C(0x123456789abcdef0));
    struct end e = {0};
    uint64_t value = LINE_PENDING;
    struct line l;

    line_begin(&l);
    assert_int_equal(gw_frontend_get_features_async(l.fe, &value, line_end, &e), 0);
    for (size_t i = 0; i < sizeof(a); i++) {
        assert_int_equal(gw_frontend_run(l.fe, 0), 0);
        assert_true(e.n == 0 && value == LINE_PENDING);
        line_send(&l, (const char *)&a + i, 1, 0);
    }
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    assert_true(e.n == 1 && e.r == 0 && value == a.value);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    assert_int_equal(e.n, 1);
    line_expect(&l, GW_MSG_GET_FEATURES, NULL);
    line_expect_nothing(&l);
    line_finish(&l);
}

/* The fd is readable exactly when there is something to do, and the timeout says until when. */
static void test_fe_async_poll_fd_is_ready_when_there_is_work(void **state)
{
    struct end e = {0};
    struct line l;
    uint64_t value;
    int fd, timeout;

    line_begin(&l);
    fd = gw_frontend_poll_fd(l.fe);
    assert_false(line_is_ready(&l));
    assert_int_equal(gw_frontend_poll_timeout(l.fe), -1);

    assert_int_equal(gw_frontend_get_features_async(l.fe, &value, line_end, &e), 0);
    line_expect_nothing(&l); /* the start only queues */
    assert_true(line_is_ready(&l));
    assert_int_equal(gw_frontend_poll_timeout(l.fe), 0);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    assert_false(line_is_ready(&l));
    timeout = gw_frontend_poll_timeout(l.fe);
    assert_true(timeout > 0 && (unsigned)timeout <= patience_ms());

    line_answer(&l, GW_MSG_GET_FEATURES, 1);
    assert_true(line_is_ready(&l));
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    assert_int_equal(e.n, 1);
    assert_false(line_is_ready(&l));
    assert_int_equal(gw_frontend_poll_timeout(l.fe), -1);

    /* The end of a session is work once; another session has the same fd. */
    line_hang_up(&l);
    assert_true(line_is_ready(&l));
    assert_int_equal(gw_frontend_run(l.fe, 0), -ECONNRESET);
    assert_false(line_is_ready(&l));
    assert_int_equal(gw_frontend_run(l.fe, 0), -ECONNRESET);
    gw_frontend_disconnect(l.fe);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    line_attach(&l);
    assert_int_equal(gw_frontend_poll_fd(l.fe), fd);
    assert_false(line_is_ready(&l));
    line_answer(&l, GW_MSG_GET_FEATURES, 1);
    assert_true(line_is_ready(&l));
    assert_int_equal(gw_frontend_run(l.fe, 0), -EPROTO); /* nobody asked */
    line_finish(&l);
}

/* A session whose socket nothing would wake the program for does not begin. */
static void test_fe_async_session_that_cannot_be_watched_is_refused(void **state)
{
    struct line l;
    int pair[2], null;

    line_begin(&l);
    gw_frontend_disconnect(l.fe);
    close(l.peer);
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_true(null >= 0);
    assert_true(dup3(null, gw_frontend_poll_fd(l.fe), O_CLOEXEC) >=
                0); /* as a faulty program may */
    close(null);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(gw_frontend_attach(l.fe, pair[0]), -EINVAL);
    assert_non_null(strstr(gw_frontend_last_error(), "begin of a session"));
    l.peer = pair[1];
    line_finish(&l);
}

/* A program without other descriptors lets the front-end wait; the timeout ends that, too. */
static void test_fe_async_run_waits(void **state)
{
    struct end e[2] = {0};
    struct line l;
    uint64_t value;

    line_begin(&l);
    assert_int_equal(gw_frontend_run(l.fe, 1), 0); /* nothing to do */
    assert_int_equal(gw_frontend_get_features_async(l.fe, &value, line_end, &e[0]), 0);
    assert_int_equal(gw_frontend_run(l.fe, -1), 0);
    line_answer(&l, GW_MSG_GET_FEATURES, 1);
    while (!e[0].n)
        assert_int_equal(gw_frontend_run(l.fe, -1), 0);
    assert_int_equal(e[0].r, 0);
    gw_frontend_set_timeout(l.fe, 20);
    assert_int_equal(gw_frontend_get_features_async(l.fe, &value, line_end, &e[1]), 0);
    while (!e[1].n)
        (void)gw_frontend_run(l.fe, -1);
    assert_int_equal(e[1].r, -ETIMEDOUT);
    assert_int_equal(gw_frontend_run(l.fe, -1), -ETIMEDOUT); /* at once */
    line_finish(&l);
}

static void test_fe_async_messages_follow_answers(void **state)
{
    struct end e[4] = {0};
    uint64_t values[3];
    struct line l;

    line_begin(&l);
    n_ends = 0;
    assert_int_equal(gw_frontend_get_features_async(l.fe, &values[0], line_end, &e[0]), 0);
    assert_int_equal(gw_frontend_set_owner_async(l.fe, line_end, &e[1]), 0);
    assert_int_equal(gw_frontend_get_queue_num_async(l.fe, &values[1], line_end, &e[2]), 0);
    assert_int_equal(gw_frontend_get_max_mem_slots_async(l.fe, &values[2], line_end, &e[3]), 0);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    line_expect(&l, GW_MSG_GET_FEATURES, NULL);
    line_expect_nothing(&l);
    line_answer(&l, GW_MSG_GET_FEATURES, 10);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    line_expect(&l, GW_MSG_SET_OWNER, NULL);
    line_expect(&l, GW_MSG_GET_QUEUE_NUM, NULL);
    line_expect_nothing(&l);
    assert_true(e[0].n == 1 && e[1].n == 1 && e[2].n == 0);
    line_answer(&l, GW_MSG_GET_QUEUE_NUM, 11);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    line_expect(&l, GW_MSG_GET_MAX_MEM_SLOTS, NULL);
    line_answer(&l, GW_MSG_GET_MAX_MEM_SLOTS, 12);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_true(e[i].n == 1 && e[i].r == 0 && e[i].order == i);
    assert_true(values[0] == 10 && values[1] == 11 && values[2] == 12);
    line_finish(&l);
}

/* Features are checked at the turn of an operation; a failure does not stop the next one. */
static void test_fe_async_features_are_those_of_the_turn(void **state)
{
    const struct gw_frontend_config cfg = {.size = sizeof(cfg), .timeout_ms = patience_ms()};
    struct end e[5] = {0};
    uint64_t n;
    struct line l;

    line_begin_with(&l, &cfg);
    assert_int_equal(gw_frontend_get_queue_num_async(l.fe, &n, line_end, &e[0]), 0);
    assert_int_equal(gw_frontend_set_vring_enable_async(l.fe, 0, true, line_end, &e[1]), 0);
    assert_int_equal(
        gw_frontend_set_protocol_features_async(
            l.fe, 1 << GW_PROTOCOL_F_MQ | 1 << GW_PROTOCOL_F_REPLY_ACK, line_end, &e[2]),
        0);
    assert_int_equal(gw_frontend_get_queue_num_async(l.fe, &n, line_end, &e[3]), 0);
    assert_int_equal(gw_frontend_set_owner_async(l.fe, line_end, &e[4]), 0);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    assert_true(e[0].n == 1 && e[0].r == -EOPNOTSUPP);
    assert_string_equal(e[0].error, "GET_QUEUE_NUM: protocol feature 0 was not negotiated");
    assert_true(e[1].n == 1 && e[1].r == -EOPNOTSUPP);
    line_expect(&l, GW_MSG_SET_PROTOCOL_FEATURES, NULL);
    line_expect(&l, GW_MSG_GET_QUEUE_NUM, NULL);
    line_answer(&l, GW_MSG_GET_QUEUE_NUM, 4);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    assert_true(e[3].n == 1 && e[3].r == 0 && n == 4);
    assert_int_equal(line_expect(&l, GW_MSG_SET_OWNER, NULL).flags & GW_MSG_NEED_REPLY,
                     GW_MSG_NEED_REPLY);
    assert_int_equal(e[4].n, 0);
    line_answer(&l, GW_MSG_SET_OWNER, 5); /* refused */
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    assert_true(e[4].n == 1 && e[4].r == -EREMOTEIO);
    line_finish(&l);
}

/* What no message can carry, or no session can do, fails at once and calls nobody. */
static void test_fe_async_impossible_starts_fail_at_once(void **state)
{
    const struct gw_frontend_options opt = {.size = 1};
    struct gw_frontend_inflight inflight;
    struct end e = {0};
    struct line l;
    char buf[4097];

    line_begin(&l);
    assert_int_equal(gw_frontend_set_vring_kick_async(l.fe, 256, -1, line_end, &e), -EINVAL);
    assert_int_equal(gw_frontend_get_config_async(l.fe, 0, buf, 4097, line_end, &e), -EINVAL);
    assert_int_equal(gw_frontend_set_config_async(l.fe, 0, buf, 0, true, line_end, &e), -EINVAL);
    assert_int_equal(gw_frontend_get_inflight_fd_async(l.fe, 0, 1, &inflight, line_end, &e),
                     -EINVAL);
    assert_int_equal(gw_frontend_start_async(l.fe, &opt, line_end, &e), -EINVAL);
    assert_int_equal(gw_frontend_connect_async(l.fe, "/x", line_end, &e), -EISCONN);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    line_expect_nothing(&l);
    gw_frontend_disconnect(l.fe);
    assert_int_equal(gw_frontend_set_owner_async(l.fe, line_end, &e), -ENOTCONN);
    assert_int_equal(gw_frontend_set_backend_req_fd_async(l.fe, line_end, &e), -ENOTCONN);
    memset(buf, 'x', sizeof(buf) - 1);
    buf[sizeof(buf) - 1] = '\0';
    assert_int_equal(gw_frontend_connect_async(l.fe, buf, line_end, &e), -ENAMETOOLONG);
    assert_int_equal(e.n, 0);
    line_finish(&l);
}

/* One call handles a limited number of operations; the fd stays ready for the others. */
static void test_fe_async_one_run_is_bounded(void **state)
{
    struct end e[200] = {0};
    struct line l;
    unsigned n_runs = 0, n_seen = 0;

    line_begin(&l);
    n_ends = 0;
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(gw_frontend_set_vring_base_async(l.fe, 1, i, line_end, &e[i]), 0);
    while (n_ends < 200) {
        assert_true(line_is_ready(&l));
        assert_int_equal(gw_frontend_run(l.fe, 0), 0);
        n_runs++;
        for (; n_seen < n_ends; n_seen++) {
            struct gw_wire_vring_state sent;

            line_expect(&l, GW_MSG_SET_VRING_BASE, &sent);
            assert_int_equal(sent.num, n_seen);
        }
    }
    assert_true(n_runs > 1);
    for (unsigned i = 0; i < 200; i++)
        assert_true(e[i].n == 1 && e[i].r == 0 && e[i].order == i);
    line_finish(&l);
}

/* ---- Callbacks that use the front-end ---- */

struct chain {
    struct line l;
    unsigned left, n;
    uint64_t value;
};

static void chain_next(void *arg, int r)
{
    struct chain *c = arg;

    assert_int_equal(r, 0);
    c->n++;
    if (--c->left)
        assert_int_equal(gw_frontend_get_features_async(c->l.fe, &c->value, chain_next, c), 0);
}

static void test_fe_async_callback_starts_the_next(void **state)
{
    struct chain c = {.left = 100};

    line_begin(&c.l);
    assert_int_equal(gw_frontend_get_features_async(c.l.fe, &c.value, chain_next, &c), 0);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(gw_frontend_run(c.l.fe, 0), 0);
        assert_int_equal(c.n, i);
        line_expect(&c.l, GW_MSG_GET_FEATURES, NULL);
        line_answer(&c.l, GW_MSG_GET_FEATURES, i);
    }
    assert_int_equal(gw_frontend_run(c.l.fe, 0), 0);
    assert_int_equal(c.n, 100);
    line_expect_nothing(&c.l);
    line_finish(&c.l);
}

/* A callback may block: it waits for the operations before its own. */
static void block_in_callback(void *arg, int r)
{
    struct chain *c = arg;

    assert_int_equal(r, 0);
    assert_int_equal(gw_frontend_set_owner(c->l.fe), 0);
    c->n++;
}

static void test_fe_async_blocking_call_waits_for_operations(void **state)
{
    struct chain c = {0};
    struct end e[3] = {0};

    line_begin(&c.l);
    n_ends = 0;
    assert_int_equal(gw_frontend_set_vring_num_async(c.l.fe, 0, 8, block_in_callback, &c), 0);
    assert_int_equal(gw_frontend_set_vring_num_async(c.l.fe, 0, 9, line_end, &e[0]), 0);
    assert_int_equal(gw_frontend_set_vring_base(c.l.fe, 0, 1), 0);
    assert_true(c.n == 1 && e[0].n == 1);
    line_expect(&c.l, GW_MSG_SET_VRING_NUM, NULL);
    line_expect(&c.l, GW_MSG_SET_VRING_NUM, NULL);
    line_expect(&c.l, GW_MSG_SET_VRING_BASE, NULL);
    line_expect(&c.l, GW_MSG_SET_OWNER, NULL);
    line_expect_nothing(&c.l);
    line_finish(&c.l);
}

static void test_fe_async_disconnect_cancels_in_order(void **state)
{
    struct end e[3] = {0};
    struct line l;
    uint64_t value;

    line_begin(&l);
    n_ends = 0;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(gw_frontend_get_features_async(l.fe, &value, line_end, &e[i]), 0);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    gw_frontend_disconnect(l.fe);
    for (unsigned i = 0; i < 3; i++)
        assert_true(e[i].n == 1 && e[i].r == -ECANCELED && e[i].order == i);
    assert_int_equal(gw_frontend_poll_timeout(l.fe), -1);
    assert_false(line_is_ready(&l));
    line_finish(&l);
}

struct second_life {
    struct line l;
    struct end first, next;
    uint64_t value;
};

static void connect_again(void *arg, int r)
{
    struct second_life *s = arg;

    line_end(&s->first, r);
    gw_frontend_disconnect(s->l.fe);
    line_hang_up(&s->l);
    line_attach(&s->l);
    assert_int_equal(gw_frontend_get_features_async(s->l.fe, &s->value, line_end, &s->next), 0);
}

/* A callback of a session that ends begins the next one, whose operations are not canceled. */
static void test_fe_async_callback_connects_again(void **state)
{
    for (unsigned hangs_up = 0; hangs_up < 2; hangs_up++) {
        struct second_life s = {0};
        struct end rest[2] = {0};

        line_begin(&s.l);
        assert_int_equal(gw_frontend_get_features_async(s.l.fe, &s.value, connect_again, &s), 0);
        for (unsigned i = 0; i < 2; i++)
            assert_int_equal(gw_frontend_set_owner_async(s.l.fe, line_end, &rest[i]), 0);
        assert_int_equal(gw_frontend_run(s.l.fe, 0), 0);
        if (hangs_up) {
            shutdown(s.l.peer, SHUT_RDWR);
            assert_int_equal(gw_frontend_run(s.l.fe, 0), 0);
        } else {
            gw_frontend_disconnect(s.l.fe);
        }
        assert_true(s.first.n == 1 && s.first.r == (hangs_up ? -ECONNRESET : -ECANCELED));
        for (unsigned i = 0; i < 2; i++)
            assert_true(rest[i].n == 1 && rest[i].r == -ECANCELED);
        assert_int_equal(s.next.n, 0);
        assert_int_equal(gw_frontend_run(s.l.fe, 0), 0);
        line_expect(&s.l, GW_MSG_GET_FEATURES, NULL);
        line_answer(&s.l, GW_MSG_GET_FEATURES, 4);
        assert_int_equal(line_loop(&s.l, &s.next), 0);
        assert_int_equal(s.value, 4);
        line_finish(&s.l);
    }
}

struct suicide {
    struct gw_frontend *fe;
    unsigned n_canceled;
    int r;
};

static void free_in_callback(void *arg, int r)
{
    struct suicide *s = arg;

    s->r = r;
    gw_frontend_free(s->fe);
}

/* Freed again, and used, while the first call frees it. */
static void count_canceled(void *arg, int r)
{
    struct suicide *s = arg;

    assert_int_equal(r, -ECANCELED);
    s->n_canceled++;
    assert_int_equal(gw_frontend_set_owner_async(s->fe, count_canceled, s), -ECANCELED);
    assert_int_equal(gw_frontend_connect_async(s->fe, "/nowhere", count_canceled, s), -ECANCELED);
    assert_int_equal(gw_frontend_attach(s->fe, open("/dev/null", O_RDONLY | O_CLOEXEC)),
                     -ECANCELED);
    gw_frontend_free(s->fe);
}

static void start_suicide(struct line *l, struct suicide *s)
{
    static uint64_t value;

    line_begin(l);
    *s = (struct suicide){.fe = l->fe};
    assert_int_equal(gw_frontend_get_features_async(l->fe, &value, free_in_callback, s), 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(gw_frontend_set_owner_async(l->fe, count_canceled, s), 0);
}

static void test_fe_async_callback_frees_the_front_end(void **state)
{
    struct suicide s;
    struct line l;

    /* After an answer, */
    start_suicide(&l, &s);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    line_answer(&l, GW_MSG_GET_FEATURES, 1);
    assert_int_equal(gw_frontend_run(l.fe, 0), -ECANCELED);
    assert_true(s.r == 0 && s.n_canceled == 2);
    line_hang_up(&l);

    /* after a hang-up, */
    start_suicide(&l, &s);
    line_hang_up(&l);
    assert_int_equal(gw_frontend_run(l.fe, 0), -ECANCELED);
    assert_true(s.r == -ECONNRESET && s.n_canceled == 2);

    /* in the call that frees it, */
    start_suicide(&l, &s);
    gw_frontend_free(l.fe);
    assert_true(s.r == -ECANCELED && s.n_canceled == 2);
    line_hang_up(&l);

    /* and below a blocking call. */
    start_suicide(&l, &s);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    line_answer(&l, GW_MSG_GET_FEATURES, 1);
    assert_int_equal(gw_frontend_set_owner(l.fe), -ECANCELED);
    assert_true(s.r == 0 && s.n_canceled == 2);
    line_hang_up(&l);
}

/* ---- Connecting ---- */

static int listen_at(struct sockaddr_un *sa)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)sa, sizeof(*sa)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void test_fe_async_connect_waits_for_the_listener(void **state)
{
    const struct gw_frontend_config cfg = {
        .size = sizeof(cfg), .timeout_ms = patience_ms(), .connect_timeout_ms = patience_ms()};
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    char dir[] = "/tmp/fe_async.XXXXXX";
    struct end connected = {0}, e = {0}, again = {0};
    uint64_t value;
    struct line l;
    int listener;

    assert_non_null(mkdtemp(dir));
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/s", dir);
    assert_int_equal(gw_frontend_new(&l.fe, &cfg), 0);
    assert_true(gw_frontend_poll_fd(l.fe) >= 0);
    n_ends = 0;
    assert_int_equal(gw_frontend_connect_async(l.fe, sa.sun_path, line_end, &connected), 0);
    assert_int_equal(gw_frontend_get_features_async(l.fe, &value, line_end, &e), 0);
    assert_int_equal(gw_frontend_connect_async(l.fe, sa.sun_path, line_end, &again), 0);
    assert_int_equal(gw_frontend_poll_timeout(l.fe), 0);
    for (unsigned i = 0; i < 3; i++) {
        int timeout;

        assert_int_equal(gw_frontend_run(l.fe, 0), 0);
        timeout = gw_frontend_poll_timeout(l.fe);
        assert_true(timeout >= 0 && timeout < 1000);
        assert_int_equal(connected.n, 0);
        poll(NULL, 0, timeout);
    }
    listener = listen_at(&sa);
    assert_int_equal(line_loop(&l, &connected), 0);
    l.peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    line_expect(&l, GW_MSG_GET_FEATURES, NULL);
    line_answer(&l, GW_MSG_GET_FEATURES, 9);
    assert_int_equal(line_loop(&l, &e), 0);
    assert_int_equal(value, 9);
    assert_int_equal(line_loop(&l, &again), -EISCONN);
    line_finish(&l);
    close(listener);
    unlink(sa.sun_path);
    rmdir(dir);
}

static void test_fe_async_connect_fails_with_all_that_follows(void **state)
{
    struct gw_frontend_config cfg = {.size = sizeof(cfg), .connect_timeout_ms = 20};
    struct end e[5] = {0};
    struct line l = {.peer = -1};

    assert_int_equal(gw_frontend_new(&l.fe, &cfg), 0);
    n_ends = 0;
    assert_int_equal(gw_frontend_connect_async(l.fe, "/nowhere/socket", line_end, &e[0]), 0);
    assert_int_equal(gw_frontend_set_owner_async(l.fe, line_end, &e[1]), 0);
    assert_int_equal(gw_frontend_connect_async(l.fe, "/etc/passwd/x", line_end, &e[2]), 0);
    assert_int_equal(gw_frontend_postcopy_listen_async(l.fe, NULL, NULL, line_end, &e[3]), 0);
    assert_int_equal(line_loop(&l, &e[3]), -ENOTCONN);
    assert_true(e[0].r == -ETIMEDOUT && e[1].r == -ENOTCONN && e[2].r == -ENOTDIR);
    assert_non_null(strstr(e[0].error, "/nowhere/socket"));
    assert_non_null(strstr(e[1].error, "not connected"));
    for (unsigned i = 0; i < 4; i++)
        assert_true(e[i].n == 1 && e[i].order == i);
    assert_int_equal(gw_frontend_connect_async(l.fe, "/nowhere/socket", line_end, &e[4]), 0);
    assert_int_equal(gw_frontend_run(l.fe, 0), 0);
    gw_frontend_free(l.fe);
    assert_true(e[4].n == 1 && e[4].r == -ECANCELED);
}

/*
 * A thousand front-ends in one loop negotiate at once: none waits for another, whatever the order
 * in which their back-ends answer.
 */
static void test_fe_async_a_thousand_negotiate_at_once(void **state)
{
    const uint64_t features = UINT64_C(1) << GW_F_VERSION_1 | UINT64_C(1) << GW_F_PROTOCOL_FEATURES;
    const uint64_t protocol = 1 << GW_PROTOCOL_F_MQ | 1 << GW_PROTOCOL_F_REPLY_ACK;
    const struct {
        uint32_t request;
        uint64_t answer;
    } steps[] = {{GW_MSG_GET_FEATURES, features},
                 {GW_MSG_GET_PROTOCOL_FEATURES, protocol},
                 {GW_MSG_GET_QUEUE_NUM, 1},
                 {GW_MSG_SET_OWNER, 0}};
    const struct gw_frontend_options opt = {.size = sizeof(opt)};
    unsigned n = 1000;
    struct line *lines = calloc(n, sizeof(*lines));
    struct end *ends = calloc(n, sizeof(*ends));
    struct rlimit old, more;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    more = old;
    more.rlim_cur = more.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &more), 0);
    if (more.rlim_cur < 4 * n)
        n = (unsigned)more.rlim_cur / 4;
    for (unsigned i = 0; i < n; i++) {
        line_begin(&lines[i]);
        assert_int_equal(gw_frontend_negotiate_async(lines[i].fe, &opt, line_end, &ends[i]), 0);
    }
    for (unsigned step = 0; step < 4; step++) {
        for (unsigned i = 0; i < n; i++) {
            assert_true(line_is_ready(&lines[i]) && ends[i].n == 0);
            assert_int_equal(gw_frontend_run(lines[i].fe, 0), 0);
            assert_false(line_is_ready(&lines[i]));
        }
        for (unsigned i = n; i-- > 0;) {
            if (step == 2)
                line_expect(&lines[i], GW_MSG_SET_PROTOCOL_FEATURES, NULL);
            line_expect(&lines[i], steps[step].request, NULL);
            line_answer(&lines[i], steps[step].request, steps[step].answer);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(gw_frontend_run(lines[i].fe, 0), 0);
        assert_true(ends[i].n == 1 && ends[i].r == 0);
        line_finish(&lines[i]);
    }
    free(lines);
    free(ends);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

/* ---- The back-end channel ---- */

struct channel {
    struct line l;
    int fd; /* the back-end's end */
    unsigned n;
    struct gw_frontend_message last;
    bool keeps_fd, frees, hangs_up;
};

static uint64_t on_request(void *arg, struct gw_frontend_message *msg)
{
    struct channel *c = arg;

    c->n++;
    c->last = *msg;
    if (c->keeps_fd && msg->n_fds)
        msg->fds[0] = -1;
    if (c->hangs_up)
        gw_frontend_disconnect(c->l.fe);
    if (c->frees)
        gw_frontend_free(c->l.fe);
    return 40 + c->n;
}

static void channel_begin(struct channel *c)
{
    char control[CMSG_SPACE(sizeof(int))];
    struct gw_wire_header h;
    struct iovec iov = {.iov_base = &h, .iov_len = sizeof(h)};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};
    struct end e = {0};

    *c = (struct channel){.fd = -1};
    line_begin(&c->l);
    gw_frontend_set_backend_cb(c->l.fe, on_request, c);
    assert_int_equal(gw_frontend_set_backend_req_fd_async(c->l.fe, line_end, &e), 0);
    assert_int_equal(line_loop(&c->l, &e), 0);
    mh.msg_controllen = sizeof(control);
    assert_int_equal(recvmsg(c->l.peer, &mh, MSG_CMSG_CLOEXEC), sizeof(h));
    memcpy(&c->fd, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(int));
    assert_false(line_is_ready(&c->l));
}

static void channel_send(struct channel *c, const struct gw_wire_header *h, unsigned n_fds)
{
    struct line on_channel = {.peer = c->fd};

    line_send(&on_channel, h, sizeof(*h), n_fds);
}

static void test_fe_async_channel_is_served_beside_a_request(void **state)
{
    const struct gw_wire_header h = {.request = GW_BACKEND_MSG_CONFIG_CHANGE,
                                     .flags = GW_MSG_VERSION | GW_MSG_NEED_REPLY};
    const struct gw_wire_header silent = {.request = 99, .flags = GW_MSG_VERSION};
    struct channel c;
    struct end e = {0};
    struct answer a;
    uint64_t value;

    channel_begin(&c);
    assert_int_equal(gw_frontend_get_features_async(c.l.fe, &value, line_end, &e), 0);
    assert_int_equal(gw_frontend_run(c.l.fe, 0), 0);
    channel_send(&c, &h, 1);
    assert_true(line_is_ready(&c.l));
    assert_int_equal(gw_frontend_run(c.l.fe, 0), 0);
    assert_true(c.n == 1 && c.last.request == GW_BACKEND_MSG_CONFIG_CHANGE && c.last.n_fds == 1);
    assert_int_equal(recv(c.fd, &a, sizeof(a), MSG_DONTWAIT), sizeof(a));
    assert_true(a.h.request == h.request && a.h.flags == REPLY_OK && a.value == 41);

    c.keeps_fd = true;
    channel_send(&c, &silent, 2);
    assert_int_equal(gw_frontend_run(c.l.fe, 0), 0);
    assert_true(c.n == 2 && c.last.request == 99 && c.last.n_fds == 2);
    assert_int_equal(recv(c.fd, &a, 1, MSG_DONTWAIT), -1);
    assert_true(fcntl(c.last.fds[0], F_GETFD) == FD_CLOEXEC);
    close(c.last.fds[0]);
    assert_int_equal(e.n, 0);
    line_answer(&c.l, GW_MSG_GET_FEATURES, 1);
    assert_int_equal(line_loop(&c.l, &e), 0);

    /* A blocking call serves it, too. */
    channel_send(&c, &silent, 0);
    assert_int_equal(gw_frontend_set_owner(c.l.fe), 0);
    assert_int_equal(c.n, 3);

    /* Without a callback, the program reads it. */
    gw_frontend_set_backend_cb(c.l.fe, NULL, NULL);
    channel_send(&c, &silent, 0);
    assert_false(line_is_ready(&c.l));
    assert_int_equal(gw_frontend_run(c.l.fe, 0), 0);
    assert_int_equal(gw_frontend_backend_request(c.l.fe, &c.last, 0), 0);
    assert_int_equal(c.n, 3);
    close(c.fd);
    line_finish(&c.l);
}

static void test_fe_async_channel_callback_ends_the_session(void **state)
{
    const struct gw_wire_header h = {.request = 2, .flags = GW_MSG_VERSION | GW_MSG_NEED_REPLY};
    struct channel c;
    char byte;

    for (unsigned frees = 0; frees < 2; frees++) {
        channel_begin(&c);
        c.hangs_up = true;
        c.frees = frees;
        channel_send(&c, &h, 1);
        assert_int_equal(gw_frontend_run(c.l.fe, 0), frees ? -ECANCELED : 0);
        assert_int_equal(c.n, 1);
        assert_int_equal(recv(c.fd, &byte, 1, 0), 0); /* no answer */
        close(c.fd);
        if (frees)
            line_hang_up(&c.l);
        else
            line_finish(&c.l);
    }
}

/* A back-end that floods the channel and reads no answers keeps neither the loop nor memory. */
static void test_fe_async_channel_flood_is_bounded(void **state)
{
    const struct gw_wire_header h = {.request = 2, .flags = GW_MSG_VERSION | GW_MSG_NEED_REPLY};
    unsigned n_sent = 0, n_runs = 0;
    struct channel c;
    struct answer a;

    channel_begin(&c);
    do {
        while (send(c.fd, &h, sizeof(h), MSG_DONTWAIT) == sizeof(h))
            n_sent++;
        assert_int_equal(gw_frontend_run(c.l.fe, 0), 0);
        n_runs++;
    } while (line_is_ready(&c.l));
    /* The socket is full of answers: the front-end reads no further requests. */
    assert_true(n_runs > 1 && c.n < n_sent);
    for (unsigned i = 1; i <= n_sent; i++) {
        while (recv(c.fd, &a, sizeof(a), MSG_DONTWAIT) < 0)
            assert_int_equal(gw_frontend_run(c.l.fe, 0), 0);
        assert_true(a.value == 40 + i);
    }
    assert_int_equal(c.n, n_sent);
    assert_false(line_is_ready(&c.l));
    close(c.fd);
    line_finish(&c.l);
}

/* What is no message closes the channel, and nothing else. */
static void test_fe_async_channel_nonsense_closes_it(void **state)
{
    const struct gw_wire_header too_long = {.request = 2, .size = UINT32_MAX};
    const struct gw_wire_header half = {.request = 2, .size = 8};
    struct channel c;
    struct end e;

    for (unsigned i = 0; i < 4; i++) {
        channel_begin(&c);
        if (i == 0)
            channel_send(&c, &too_long, 8);
        if (i == 1)
            channel_send(&c, &half, 16);
        if (i == 2)
            channel_send(&c, &half, 8);
        if (i >= 2)
            shutdown(c.fd, SHUT_WR);
        assert_true(line_is_ready(&c.l));
        assert_int_equal(gw_frontend_run(c.l.fe, 0), 0);
        assert_int_equal(gw_frontend_backend_fd(c.l.fe), -1);
        assert_false(line_is_ready(&c.l));
        assert_int_equal(c.n, 0);
        e = (struct end){0};
        assert_int_equal(gw_frontend_set_owner_async(c.l.fe, line_end, &e), 0);
        assert_int_equal(line_loop(&c.l, &e), 0);
        close(c.fd);
        line_finish(&c.l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fe_async_answer_in_pieces_ends_once),
        FDCHECK_TEST(test_fe_async_poll_fd_is_ready_when_there_is_work),
        FDCHECK_TEST(test_fe_async_session_that_cannot_be_watched_is_refused),
        FDCHECK_TEST(test_fe_async_run_waits),
        FDCHECK_TEST(test_fe_async_messages_follow_answers),
        FDCHECK_TEST(test_fe_async_features_are_those_of_the_turn),
        FDCHECK_TEST(test_fe_async_impossible_starts_fail_at_once),
        FDCHECK_TEST(test_fe_async_one_run_is_bounded),
        FDCHECK_TEST(test_fe_async_callback_starts_the_next),
        FDCHECK_TEST(test_fe_async_blocking_call_waits_for_operations),
        FDCHECK_TEST(test_fe_async_disconnect_cancels_in_order),
        FDCHECK_TEST(test_fe_async_callback_connects_again),
        FDCHECK_TEST(test_fe_async_callback_frees_the_front_end),
        FDCHECK_TEST(test_fe_async_connect_waits_for_the_listener),
        FDCHECK_TEST(test_fe_async_connect_fails_with_all_that_follows),
        FDCHECK_TEST(test_fe_async_a_thousand_negotiate_at_once),
        FDCHECK_TEST(test_fe_async_channel_is_served_beside_a_request),
        FDCHECK_TEST(test_fe_async_channel_callback_ends_the_session),
        FDCHECK_TEST(test_fe_async_channel_flood_is_bounded),
        FDCHECK_TEST(test_fe_async_channel_nonsense_closes_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
