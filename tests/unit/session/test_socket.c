/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Frames received and sent over real sockets, split at any byte and with any control data. */
#include "control_data.h"
#include "fdcheck.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log_i.h"
#include "core/session/socket.h"
#include "patience.h"
#include "requires.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct gw_rx rx;
static int near_end, far_end;

static int setup(void **state)
{
    int ends[2];

    if (fdcheck_setup(state) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return -1;
    near_end = ends[0];
    far_end = ends[1];
    memset(&rx, 0, sizeof(rx));
    return 0;
}

static int teardown(void **state)
{
    gw_rx_reset(&rx);
    gw_close(&near_end);
    gw_close(&far_end);
    return fdcheck_teardown(state);
}

static void send_with_fds(const void *bytes, size_t len, unsigned n_fds)
{
    char control[CMSG_SPACE(CONTROL_FDS_MAX * sizeof(int))] __attribute__((aligned(8))) = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    int fds[CONTROL_FDS_MAX];

    for (unsigned i = 0; i < n_fds; i++)
        fds[i] = eventfd(0, EFD_CLOEXEC);
    if (n_fds > 0) {
        struct cmsghdr *c = (struct cmsghdr *)(void *)control;

        msg.msg_control = control;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    assert_int_equal(sendmsg(far_end, &msg, 0), len);
    for (unsigned i = 0; i < n_fds; i++)
        close(fds[i]);
}

struct frame {
    struct gw_wire_header header;
    uint8_t payload[GW_MSG_PAYLOAD_MAX];
};

static struct frame frame_of(uint32_t size)
{
    struct frame f = {.header = {.request = 5, .flags = 1, .size = size}};

    for (uint32_t i = 0; i < size; i++)
        f.payload[i] = (uint8_t)(i * 7);
    return f;
}

static size_t length(const struct frame *f)
{
    return sizeof(f->header) + f->header.size;
}

static void expect_frame(const struct frame *f, unsigned n_fds)
{
    assert_memory_equal(&rx.msg.header, &f->header, sizeof(f->header));
    assert_memory_equal(rx.msg.payload, f->payload, f->header.size);
    assert_int_equal(rx.msg.n_fds, n_fds);
    for (unsigned i = 0; i < n_fds; i++)
        assert_int_equal(fcntl(rx.msg.fds[i], F_GETFD), FD_CLOEXEC);
    gw_rx_reset(&rx);
}

/* ---- receiving ---- */

static void test_socket_frame_cut_anywhere_arrives(void **state)
{
    struct frame f = frame_of(40);
    const uint8_t *bytes = (const uint8_t *)&f;

    for (size_t cut = 1; cut < length(&f); cut++) {
        send_with_fds(bytes, cut, 2);
        assert_int_equal(gw_rx_pump(&rx, near_end), 0);
        assert_int_equal(gw_rx_pump(&rx, near_end), 0); /* nothing new */
        send_with_fds(bytes + cut, length(&f) - cut, 0);
        assert_int_equal(gw_rx_pump(&rx, near_end), 1);
        expect_frame(&f, 2);
    }
    for (size_t i = 0; i < length(&f); i++) {
        assert_int_equal(gw_rx_pump(&rx, near_end), 0);
        send_with_fds(bytes + i, 1, 0);
    }
    assert_int_equal(gw_rx_pump(&rx, near_end), 1);
    expect_frame(&f, 0);
}

static void test_socket_frames_in_one_piece_are_taken_apart(void **state)
{
    struct frame frames[] = {frame_of(0), frame_of(8), frame_of(GW_MSG_PAYLOAD_MAX), frame_of(0)};

    for (unsigned i = 0; i < GW_ARRAY_SIZE(frames); i++)
        send_with_fds(&frames[i], length(&frames[i]), i * 2);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(frames); i++) {
        assert_int_equal(gw_rx_pump(&rx, near_end), 1);
        expect_frame(&frames[i], i * 2);
    }
    assert_int_equal(gw_rx_pump(&rx, near_end), 0);
}

static void test_socket_fds_after_the_first_byte_are_refused(void **state)
{
    struct frame f = frame_of(8);
    const uint8_t *bytes = (const uint8_t *)&f;

    send_with_fds(bytes, 5, 0);
    assert_int_equal(gw_rx_pump(&rx, near_end), 0);
    send_with_fds(bytes + 5, length(&f) - 5, 1);
    assert_int_equal(gw_rx_pump(&rx, near_end), -EPROTO);
}

static void test_socket_fds_with_the_payload_are_refused(void **state)
{
    struct frame f = frame_of(8);
    const uint8_t *bytes = (const uint8_t *)&f;

    send_with_fds(bytes, 12, 1);
    assert_int_equal(gw_rx_pump(&rx, near_end), 0);
    send_with_fds(bytes + 12, 8, 2);
    assert_int_equal(gw_rx_pump(&rx, near_end), -EPROTO);
}

/* A message with too many fds arrives whole and is marked as such; the next one is normal. */
static void test_socket_more_than_eight_fds_are_closed(void **state)
{
    static const unsigned counts[] = {9, 16, 64, CONTROL_FDS_MAX};
    struct frame f = frame_of(8);

    send_with_fds(&f, length(&f), 8);
    assert_int_equal(gw_rx_pump(&rx, near_end), 1);
    assert_int_equal(rx.msg.fds_error, 0);
    expect_frame(&f, 8);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(counts); i++) {
        send_with_fds(&f, length(&f), counts[i]);
        assert_int_equal(gw_rx_pump(&rx, near_end), 1);
        assert_int_equal(rx.msg.fds_error, -E2BIG);
        expect_frame(&f, 8);
        send_with_fds(&f, length(&f), 0);
        assert_int_equal(gw_rx_pump(&rx, near_end), 1);
        assert_int_equal(rx.msg.fds_error, 0);
        expect_frame(&f, 0);
    }
}

static void test_socket_no_room_for_fds_is_told(void **state)
{
    struct frame f = frame_of(8);
    struct rlimit old, few;

    if (is_under_valgrind())
        skip();
    send_with_fds(&f, length(&f), 8);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    few = old;
    few.rlim_cur = (rlim_t)far_end + 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_int_equal(gw_rx_pump(&rx, near_end), 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(rx.msg.fds_error, -EMFILE);
    assert_true(rx.msg.n_fds < 8);
}

/* Unsolicited control data takes no room from fds, and leaves no fd open. */
static void test_socket_other_control_data_is_ignored(void **state)
{
    struct frame f = frame_of(40);
    const uint8_t *bytes = (const uint8_t *)&f;

    ask_for_control_data(near_end);
    for (unsigned n_fds = 0; n_fds <= 8; n_fds++) {
        send_with_fds(bytes, 7, n_fds);
        assert_int_equal(gw_rx_pump(&rx, near_end), 0);
        send_with_fds(bytes + 7, length(&f) - 7, 0);
        assert_int_equal(gw_rx_pump(&rx, near_end), 1);
        assert_int_equal(rx.msg.fds_error, 0);
        expect_frame(&f, n_fds);
    }
    send_with_fds(&f, length(&f), CONTROL_FDS_MAX);
    assert_int_equal(gw_rx_pump(&rx, near_end), 1);
    assert_int_equal(rx.msg.fds_error, -E2BIG);
    expect_frame(&f, 8);
}

static void test_socket_hang_up_between_and_inside_frames(void **state)
{
    struct frame f = frame_of(8);

    for (size_t n = 0; n <= length(&f); n++) {
        int ends[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        if (n > 0)
            assert_int_equal(write(ends[1], &f, n), n);
        close(ends[1]);
        if (n == length(&f)) {
            assert_int_equal(gw_rx_pump(&rx, ends[0]), 1); /* before the hang-up */
            gw_rx_reset(&rx);
        }
        assert_int_equal(gw_rx_pump(&rx, ends[0]), n % length(&f) == 0 ? -ENOTCONN : -ECONNRESET);
        gw_rx_reset(&rx);
        close(ends[0]);
    }
}

static void test_socket_announced_giants_are_refused(void **state)
{
    static const uint32_t sizes[] = {GW_MSG_PAYLOAD_MAX + 1, 1u << 31, UINT32_MAX};

    for (unsigned i = 0; i < GW_ARRAY_SIZE(sizes); i++) {
        struct gw_wire_header header = {.request = 1, .flags = 1, .size = sizes[i]};

        send_with_fds(&header, sizeof(header), 1);
        assert_int_equal(gw_rx_pump(&rx, near_end), -EMSGSIZE);
        gw_rx_reset(&rx);
    }
}

/* ---- sending ---- */

static void *read_slowly(void *arg)
{
    size_t *left = arg;
    char buf[100000];

    while (*left > 0) {
        ssize_t n = recv(far_end, buf, sizeof(buf), 0);

        if (n <= 0)
            break;
        *left -= (size_t)n;
        usleep(1000);
    }
    return NULL;
}

/* Send a frame, waiting for room as the session does. */
static int send_all(const struct frame *f)
{
    struct pollfd pollfd = {.fd = near_end, .events = POLLOUT};
    struct gw_tx tx;
    int r;

    gw_tx_init(&tx, &f->header, f->payload, -1);
    while ((r = gw_tx_pump(&tx, near_end)) == -EAGAIN)
        (void)poll(&pollfd, 1, -1);
    return r;
}

static void test_socket_send_to_a_slow_reader_continues(void **state)
{
    struct frame f = frame_of(GW_MSG_PAYLOAD_MAX);
    size_t left = length(&f) * 500;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, read_slowly, &left), 0);
    for (unsigned i = 0; i < 500; i++)
        assert_int_equal(send_all(&f), 0);
    pthread_join(thread, NULL);
    assert_int_equal(left, 0);
}

/* A partially sent frame continues where it stopped, and its fd is sent once. */
static void test_socket_send_in_pieces_is_whole(void **state)
{
    struct frame f = frame_of(GW_MSG_PAYLOAD_MAX);
    int small = 1;
    struct gw_tx tx;
    unsigned n = 0;
    int r;

    assert_int_equal(setsockopt(near_end, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    for (;;) {
        gw_tx_init(&tx, &f.header, f.payload, near_end);
        r = gw_tx_pump(&tx, near_end);
        if (r < 0)
            break;
        n++;
    }
    assert_int_equal(r, -EAGAIN);
    assert_true(n > 0);
    /* The received data are whole frames and perhaps a part of the last one. */
    rx.n_read = 0;
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(gw_rx_pump(&rx, far_end), 1);
        expect_frame(&f, 1);
    }
    if (tx.n_sent > 0)
        assert_int_equal(gw_rx_pump(&rx, far_end), 0);
    assert_int_equal(gw_tx_pump(&tx, near_end), 0);
    assert_int_equal(gw_rx_pump(&rx, far_end), 1);
    expect_frame(&f, 1);
}

/* Nothing to send is sent at once, also to a peer that does not read. */
static void test_socket_send_of_nothing(void **state)
{
    struct gw_tx tx = {.fd = -1};

    gw_close(&far_end);
    assert_int_equal(gw_tx_pump(&tx, near_end), 0);
}

/* The send must not raise SIGPIPE, which would kill the process. */
static void test_socket_send_after_a_hang_up_fails(void **state)
{
    struct frame f = frame_of(8);

    gw_close(&far_end);
    assert_int_equal(send_all(&f), -EPIPE);
}

/* ---- connections ---- */

static void test_socket_impossible_path_is_refused(void **state)
{
    char path[200];

    memset(path, 'x', sizeof(path));
    path[108] = '\0';
    assert_int_equal(gw_socket_connect(path, 0), -ENAMETOOLONG);
    assert_int_equal(gw_socket_connect("", 0), -ENAMETOOLONG);
    path[107] = '\0';
    assert_int_equal(gw_socket_connect(path, 0), -ENOENT);
    assert_int_equal(gw_socket_connect("/nonexistent/s", 0), -ENOENT);
}

static void test_socket_what_is_none_is_told(void **state)
{
    int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int dgram = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int event = eventfd(0, EFD_CLOEXEC);

    assert_int_equal(gw_socket_is_listening(near_end), 0);
    if (udp >= 0)
        assert_int_equal(gw_socket_is_listening(udp), -EINVAL);
    assert_int_equal(gw_socket_is_listening(dgram), -EINVAL);
    assert_int_equal(gw_socket_is_listening(event), -ENOTSOCK);
    assert_true(gw_socket_is_listening(-1) < 0);
    gw_close(&udp);
    close(dgram);
    close(event);
}

/* ---- accepting ---- */

/* A listening socket that blocks, as an inherited one may, at an address of the kernel's choice. */
static int listen_blocking(struct sockaddr_un *ret_addr, socklen_t *ret_len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *ret_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    *ret_len = sizeof(*ret_addr);
    assert_int_equal(bind(fd, (struct sockaddr *)ret_addr, sizeof(sa_family_t)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)ret_addr, ret_len), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void *accept_once(void *arg)
{
    int *fd = arg;

    *fd = gw_socket_accept(*fd);
    return NULL;
}

/* Returns: what gw_socket_accept returned; -EDEADLK if it waited for a connection. */
static int accept_from(int listener, const struct sockaddr_un *addr, socklen_t len)
{
    struct timespec until;
    pthread_t thread;
    int fd = listener, client = -1;
    bool waited;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += patience_ms() / 1000 + 1;
    assert_int_equal(pthread_create(&thread, NULL, accept_once, &fd), 0);
    waited = pthread_timedjoin_np(thread, NULL, &until) != 0;
    if (waited) {
        client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(client, (const struct sockaddr *)addr, len), 0);
        pthread_join(thread, NULL);
        gw_close(&fd);
    }
    gw_close(&client);
    return waited ? -EDEADLK : fd;
}

/* Another process took the connection, or cleared O_NONBLOCK, which it shares. */
static void test_socket_accept_without_a_connection_never_waits(void **state)
{
    struct sockaddr_un addr;
    socklen_t len;
    int listener = listen_blocking(&addr, &len);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;

    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(accept_from(listener, &addr, len), -EAGAIN);
        assert_int_equal(fcntl(listener, F_SETFL, 0), 0);
    }
    assert_int_equal(connect(client, (struct sockaddr *)&addr, len), 0);
    fd = gw_socket_accept(listener);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    gw_close(&fd);
    close(client);
    close(listener);
}

#define SOCKET_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SOCKET_TEST(test_socket_frame_cut_anywhere_arrives),
        SOCKET_TEST(test_socket_frames_in_one_piece_are_taken_apart),
        SOCKET_TEST(test_socket_fds_after_the_first_byte_are_refused),
        SOCKET_TEST(test_socket_fds_with_the_payload_are_refused),
        SOCKET_TEST(test_socket_more_than_eight_fds_are_closed),
        SOCKET_TEST(test_socket_no_room_for_fds_is_told),
        SOCKET_TEST(test_socket_other_control_data_is_ignored),
        SOCKET_TEST(test_socket_hang_up_between_and_inside_frames),
        SOCKET_TEST(test_socket_announced_giants_are_refused),
        SOCKET_TEST(test_socket_send_to_a_slow_reader_continues),
        SOCKET_TEST(test_socket_send_in_pieces_is_whole),
        SOCKET_TEST(test_socket_send_of_nothing),
        SOCKET_TEST(test_socket_send_after_a_hang_up_fails),
        SOCKET_TEST(test_socket_impossible_path_is_refused),
        SOCKET_TEST(test_socket_what_is_none_is_told),
        SOCKET_TEST(test_socket_accept_without_a_connection_never_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
