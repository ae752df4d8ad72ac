/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The kernel accepts frames in pieces, with interruptions and full sockets in between, from the
 * back-end and from the front-end: the frame arrives whole, and its file descriptor exactly once.
 */
#include "fdcheck.h"

#include "base/proto.h"
#include "core/session/socket.h"

#include <godwit/frontend/frontend.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    PAYLOAD = 40,
    FRAME = sizeof(struct gw_wire_header) + PAYLOAD,
};

static size_t piece;  /* most bytes that one sendmsg accepts; 0: all */
static bool has_gaps; /* every other call fails, alternately with EINTR and EAGAIN */
static unsigned n_calls;

ssize_t __real_sendmsg(int fd, const struct msghdr *mh, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *mh, int flags);

ssize_t __wrap_sendmsg(int fd, const struct msghdr *mh, int flags)
{
    struct msghdr first = *mh;
    struct iovec iov[4];
    size_t left = piece;
    unsigned n = 0;

    if (piece == 0)
        return __real_sendmsg(fd, mh, flags);
    if (has_gaps && n_calls++ % 2 == 0) {
        errno = n_calls % 4 == 1 ? EINTR : EAGAIN;
        return -1;
    }
    for (; n < mh->msg_iovlen && left > 0; n++) {
        iov[n] = mh->msg_iov[n];
        if (iov[n].iov_len > left)
            iov[n].iov_len = left;
        left -= iov[n].iov_len;
    }
    first.msg_iov = iov;
    first.msg_iovlen = n;
    return __real_sendmsg(fd, &first, flags);
}

static uint8_t payload[PAYLOAD];

/* Read a frame byte by byte. Returns: the number of file descriptors received with it. */
static unsigned expect_frame(int fd, struct gw_wire_header header)
{
    uint8_t bytes[FRAME], expected[FRAME];
    unsigned n_fds = 0;

    memcpy(expected, &header, sizeof(header));
    memcpy(expected + sizeof(header), payload, header.size);
    for (size_t at = 0; at < sizeof(header) + header.size; at++) {
        struct iovec iov = {.iov_base = bytes + at, .iov_len = 1};
        char control[CMSG_SPACE(sizeof(int) * 8)] __attribute__((aligned(8)));
        struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};

        mh.msg_controllen = sizeof(control);
        assert_int_equal(recvmsg(fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC), 1);
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
            int passed;

            assert_int_equal(c->cmsg_len, CMSG_LEN(sizeof(passed)));
            memcpy(&passed, CMSG_DATA(c), sizeof(passed));
            close(passed);
            n_fds++;
            assert_int_equal(at, 0);
        }
    }
    assert_memory_equal(bytes, expected, sizeof(header) + header.size);
    assert_int_equal(recv(fd, bytes, 1, MSG_DONTWAIT), -1);
    return n_fds;
}

static void send_as_backend(int fd, const struct gw_wire_header *header, int pass_fd)
{
    struct gw_tx tx;
    int r;

    gw_tx_init(&tx, header, payload, pass_fd);
    do
        r = gw_tx_pump(&tx, fd);
    while (r == -EAGAIN);
    assert_int_equal(r, 0);
}

static struct gw_frontend *fe;

static void send_as_frontend(int fd, const struct gw_wire_header *header, int pass_fd)
{
    assert_int_equal(gw_frontend_send_raw(fe, header->request, header->flags, header->size, payload,
                                          header->size, &pass_fd, pass_fd >= 0),
                     0);
}

static void check(void (*send_frame)(int fd, const struct gw_wire_header *header, int pass_fd),
                  int near_end, int far_end)
{
    int event = eventfd(0, EFD_CLOEXEC);

    for (unsigned i = 0; i < PAYLOAD; i++)
        payload[i] = (uint8_t)(i * 7 + 1);
    for (piece = 1; piece <= FRAME; piece++) {
        for (unsigned gaps = 0; gaps < 2; gaps++) {
            for (uint32_t size = 0; size <= PAYLOAD; size += PAYLOAD / 2) {
                struct gw_wire_header header = {.request = 7, .flags = 1, .size = size};

                has_gaps = gaps == 1;
                n_calls = 0;
                send_frame(near_end, &header, event);
                assert_int_equal(expect_frame(far_end, header), 1);
                send_frame(near_end, &header, -1);
                assert_int_equal(expect_frame(far_end, header), 0);
            }
        }
    }
    piece = 0;
    close(event);
}

static void test_wire_pieces_of_a_backend_are_a_frame(void **state)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    check(send_as_backend, ends[0], ends[1]);
    close(ends[0]);
    close(ends[1]);
}

static void test_wire_pieces_of_a_frontend_are_a_frame(void **state)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(gw_frontend_new(&fe, NULL), 0);
    assert_int_equal(gw_frontend_attach(fe, ends[0]), 0);
    check(send_as_frontend, ends[0], ends[1]);
    gw_frontend_free(fe);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_wire_pieces_of_a_backend_are_a_frame),
        FDCHECK_TEST(test_wire_pieces_of_a_frontend_are_a_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
