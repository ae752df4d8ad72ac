/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The front-end's side of a device state against back-ends that refuse, lie, stop, never end, or go
 * away: each transfer ends with the right error, and no descriptor stays open.
 */
#include "../fixtures/fe_line.h"
#include "fdcheck.h"

#include <godwit/frontend/state.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define TIMEOUT_MS 100 /* of the transfers that time out */

enum bad {
    GOOD,
    REFUSES,      /* SET_DEVICE_STATE_FD */
    NO_FD,        /* announces a descriptor of its own, and sends none */
    SENDS_DEVICE, /* a descriptor that is no stream */
    ENDLESS,      /* writes until the reader hangs up */
    SILENT,       /* keeps the descriptor, and neither reads nor writes */
    GOES_AWAY,    /* in the middle */
    TALKS,        /* sends a message without a request, in the middle */
    FAILS,        /* CHECK_DEVICE_STATE */
    CLOSES_EARLY, /* and reports success */
};

struct backend {
    enum bad bad;
    int fd;
    pthread_t thread;
};

/* Returns: the fd that came with it; -1: none. */
static int get_message(int socket, struct gw_wire_header *h)
{
    char control[CMSG_SPACE(sizeof(int))], payload[64];
    struct iovec iov = {.iov_base = h, .iov_len = sizeof(*h)};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};
    struct cmsghdr *c;
    int fd = -1;

    mh.msg_controllen = sizeof(control);
    h->request = 0;
    if (recvmsg(socket, &mh, MSG_CMSG_CLOEXEC) != sizeof(*h))
        return -1;
    c = CMSG_FIRSTHDR(&mh);
    if (c)
        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    if (h->size)
        (void)!recv(socket, payload, h->size, MSG_WAITALL);
    return fd;
}

static void put_answer(int socket, uint32_t request, uint64_t value, int fd)
{
    const struct answer a = answer_u64(request, value);
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)&a, .iov_len = sizeof(a)};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        struct cmsghdr *c;

        mh.msg_control = control;
        mh.msg_controllen = sizeof(control);
        c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
    }
    (void)!sendmsg(socket, &mh, MSG_NOSIGNAL);
}

/* The bytes of a state, as the back-end moves them. `fd` is a pipe end of either direction. */
static void move_bytes(const struct backend *b, int fd)
{
    bool writes = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY;
    static char bytes[65536];

    if (b->bad == GOOD || b->bad == FAILS) {
        if (writes)
            (void)!write(fd, "state", 5);
        while (!writes && read(fd, bytes, sizeof(bytes)) > 0)
            ;
    }
    while (b->bad == ENDLESS && write(fd, bytes, sizeof(bytes)) > 0)
        ;
}

static void *backend_main(void *arg)
{
    const struct backend *b = arg;
    struct gw_wire_header h;
    int fd, next, device;

    fd = get_message(b->fd, &h);
    if (b->bad == SENDS_DEVICE) {
        device = open("/dev/null", O_RDWR | O_CLOEXEC);
        put_answer(b->fd, h.request, 0, device);
        close(device);
    } else {
        put_answer(b->fd, h.request, b->bad == REFUSES ? 0x105 : b->bad == NO_FD ? 0 : 0x100, -1);
    }
    if (b->bad == TALKS)
        put_answer(b->fd, h.request, 0, -1);
    if (b->bad == GOES_AWAY)
        shutdown(b->fd, SHUT_RDWR);
    move_bytes(b, fd);
    if (b->bad != SILENT && b->bad != TALKS && b->bad != GOES_AWAY) {
        close(fd);
        fd = -1;
    }
    (void)get_message(b->fd, &h);
    if (h.request)
        put_answer(b->fd, h.request, b->bad == FAILS || b->bad == ENDLESS, -1);
    next = get_message(b->fd, &h); /* the end of the session, or another transfer */
    if (next >= 0)
        close(next);
    if (fd >= 0)
        close(fd);
    return NULL;
}

static struct gw_frontend *begin(struct backend *b, enum bad bad)
{
    const struct gw_frontend_config cfg = {
        .size = sizeof(cfg),
        .timeout_ms = bad == SILENT ? TIMEOUT_MS : patience_ms(),
        .no_gates = true,
    };
    struct gw_frontend *fe;
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(gw_frontend_new(&fe, &cfg), 0);
    assert_int_equal(gw_frontend_attach(fe, pair[0]), 0);
    *b = (struct backend){.bad = bad, .fd = pair[1]};
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pthread_create(&b->thread, NULL, backend_main, b), 0);
    return fe;
}

static void end(struct backend *b, struct gw_frontend *fe)
{
    gw_frontend_free(fe);
    pthread_join(b->thread, NULL);
    close(b->fd);
}

static void test_fe_state_save_from_bad_back_ends(void **state)
{
    static const struct {
        enum bad bad;
        int result;
        const char *why;
    } cases[] = {
        {GOOD, 0, ""},
        {REFUSES, -EREMOTEIO, "SET_DEVICE_STATE_FD: the back-end refused (0x105)"},
        {NO_FD, -EPROTO, "lacks its descriptor"},
        {SENDS_DEVICE, -EINVAL, "neither a pipe, a stream socket nor a file"},
        {ENDLESS, -EFBIG, "more than 1048576 bytes"},
        {SILENT, -ETIMEDOUT, "no byte to save"},
        {GOES_AWAY, -ECONNRESET, "hung up"},
        {TALKS, -EPROTO, "unsolicited"},
        {FAILS, -EREMOTEIO, "CHECK_DEVICE_STATE: the back-end failed (0x1)"},
        {CLOSES_EARLY, 0, ""},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct gw_frontend *fe;
        struct backend b;
        void *data = NULL;
        size_t len = 0;
        int r;

        fe = begin(&b, cases[i].bad);
        r = gw_frontend_save_state(fe, 1 << 20, &data, &len);
        if (r != cases[i].result || (r < 0 && !strstr(gw_frontend_last_error(), cases[i].why)))
            fail_msg("case %u: %d, %s", i, r, gw_frontend_last_error());
        assert_int_equal(len, cases[i].bad == GOOD ? 5 : 0);
        if (len)
            assert_memory_equal(data, "state", 5);
        free(data);
        end(&b, fe);
    }
}

static void test_fe_state_load_into_bad_back_ends(void **state)
{
    static const struct {
        enum bad bad;
        int result;
    } cases[] = {
        {GOOD, 0},
        {REFUSES, -EREMOTEIO},
        {NO_FD, -EPROTO},
        {SILENT, -ETIMEDOUT},
        {GOES_AWAY, -ECONNRESET},
        {TALKS, -EPROTO},
        {FAILS, -EREMOTEIO},
        {CLOSES_EARLY, -EPIPE},
    };
    const size_t len = 8 << 20; /* more than any pipe has room for */
    void *data = calloc(1, len);

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct gw_frontend *fe;
        struct backend b;
        int r;

        fe = begin(&b, cases[i].bad);
        r = gw_frontend_load_state(fe, data, len);
        if (r != cases[i].result)
            fail_msg("case %u: %d, %s", i, r, gw_frontend_last_error());
        end(&b, fe);
    }
    free(data);
}

/* In the loop of a program, beside another operation that waits for its turn. */
static void test_fe_state_without_blocking(void **state)
{
    struct end saved = {0}, next = {0};
    struct gw_frontend *fe;
    struct backend b;
    struct line l;
    void *data;
    size_t len;

    fe = begin(&b, GOOD);
    l = (struct line){.fe = fe, .peer = -1};
    assert_int_equal(gw_frontend_save_state_async(fe, 100, &data, &len, line_end, &saved), 0);
    assert_int_equal(gw_frontend_load_state_async(fe, "x", 1, line_end, &next), 0);
    assert_int_equal(line_loop(&l, &saved), 0);
    assert_int_equal(len, 5);
    free(data);
    assert_int_equal(next.n, 0);
    gw_frontend_disconnect(fe); /* cancels the other in the middle, or before */
    assert_int_equal(next.n, 1);
    assert_int_equal(next.r, -ECANCELED);
    end(&b, fe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fe_state_save_from_bad_back_ends),
        FDCHECK_TEST(test_fe_state_load_into_bad_back_ends),
        FDCHECK_TEST(test_fe_state_without_blocking),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
