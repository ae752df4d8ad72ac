/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A peer's file descriptors: nothing that the peer does to a descriptor may block a caller. A
 * failing test may hang until the suite's time limit ends it.
 */
#include "fd/peer_fd.h"
#include "fd/sacrificial.h"

#include "fdcheck.h"
#include "requires.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#include <cmocka.h>

enum {
    PATIENCE_MS = 60000
};

#define FULL (UINT64_MAX - 1)

static eventfd_t take(int fd)
{
    eventfd_t count = 0;

    assert_int_equal(eventfd_read(fd, &count), 0);
    return count;
}

static void test_signal_adds_one(void **state)
{
    for (int flags = 0; flags <= EFD_NONBLOCK; flags += EFD_NONBLOCK) {
        int fd = eventfd(0, EFD_CLOEXEC | flags);

        for (int i = 0; i < 1000; i++) /* more than the completion queue holds */
            gw_eventfd_signal(fd);
        assert_int_equal(take(fd), 1000);
        close(fd);
    }
}

static void test_signal_of_a_full_counter_returns(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC); /* a write may block */

    assert_int_equal(eventfd_write(fd, FULL), 0);
    for (int i = 0; i < 10; i++)
        gw_eventfd_signal(fd);
    assert_true(take(fd) >= FULL);
    gw_eventfd_signal(fd);
    assert_int_equal(take(fd), 1);
    close(fd);
}

struct vandal {
    int fd;
    _Atomic bool is_over;
};

/* A peer can change O_NONBLOCK and fill or empty the counter at any time. */
static void *vandalize(void *arg)
{
    struct vandal *v = arg;
    eventfd_t count;

    while (!v->is_over) {
        fcntl(v->fd, F_SETFL, O_NONBLOCK);
        (void)eventfd_read(v->fd, &count);
        (void)eventfd_write(v->fd, FULL - 1);
        fcntl(v->fd, F_SETFL, 0);
        gw_eventfd_signal(v->fd);
    }
    return NULL;
}

static void test_signal_while_the_peer_fills_and_clears_flags_returns(void **state)
{
    struct vandal v = {.fd = eventfd(0, EFD_CLOEXEC)};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, vandalize, &v), 0);
    for (int i = 0; i < 20000; i++)
        gw_eventfd_signal(v.fd);
    v.is_over = true;
    pthread_join(thread, NULL);
    close(v.fd);
}

static void test_signal_leaves_other_files_alone(void **state)
{
    int pipes[2], sockets[2];
    struct pollfd p[2];

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    gw_eventfd_signal(pipes[1]);
    gw_eventfd_signal(sockets[1]);
    gw_eventfd_signal(-1);
    p[0] = (struct pollfd){.fd = pipes[0], .events = POLLIN};
    p[1] = (struct pollfd){.fd = sockets[0], .events = POLLIN};
    assert_int_equal(poll(p, 2, 0), 0);
    gw_peer_fd_close_all(pipes, 2);
    gw_peer_fd_close_all(sockets, 2);
    assert_true(gw_sacrifice_flush(PATIENCE_MS));
}

static void check_kind(int fd, enum gw_peer_fd_kind kind)
{
    assert_true(fd >= 0);
    assert_int_equal(gw_peer_fd_kind(fd), kind);
    gw_peer_fd_close(&fd);
    assert_int_equal(fd, -1);
}

static void test_kinds(void **state)
{
    int pipes[2], full = eventfd(0, EFD_CLOEXEC);

    check_kind(eventfd(0, EFD_CLOEXEC), GW_PEER_FD_EVENTFD);
    check_kind(eventfd(7, EFD_CLOEXEC | EFD_SEMAPHORE | EFD_NONBLOCK), GW_PEER_FD_EVENTFD);
    assert_int_equal(eventfd_write(full, FULL), 0);
    assert_int_equal(gw_peer_fd_kind(full), GW_PEER_FD_EVENTFD);
    assert_int_equal(take(full), FULL); /* the kind check does not change the counter */
    close(full);
    check_kind(memfd_create("x", MFD_CLOEXEC), GW_PEER_FD_MEMORY);
    check_kind(memfd_create("anon_inode:[eventfd]", MFD_CLOEXEC), GW_PEER_FD_MEMORY);
    check_kind(epoll_create1(EPOLL_CLOEXEC), GW_PEER_FD_OTHER);
    check_kind(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), GW_PEER_FD_OTHER);
    check_kind(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), GW_PEER_FD_OTHER);
    check_kind(open("/dev/null", O_RDWR | O_CLOEXEC), GW_PEER_FD_OTHER);
    check_kind(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), GW_PEER_FD_OTHER);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    check_kind(pipes[0], GW_PEER_FD_OTHER);
    check_kind(pipes[1], GW_PEER_FD_OTHER);
    assert_int_equal(gw_peer_fd_kind(-1), GW_PEER_FD_OTHER);
    assert_true(gw_sacrifice_flush(PATIENCE_MS));
}

/* A TCP connection with unread data. Returns: its writer, or -1 without a loopback interface. */
static int make_unsent(int *ret_reader)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct linger hour = {.l_onoff = 1, .l_linger = 3600};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int writer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof(addr);
    static char data[65536];

    if (bind(listener, (struct sockaddr *)&addr, len) < 0 || listen(listener, 1) < 0 ||
        getsockname(listener, (struct sockaddr *)&addr, &len) < 0 ||
        connect(writer, (struct sockaddr *)&addr, len) < 0) {
        close(listener);
        close(writer);
        return -1;
    }
    *ret_reader = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
    while (send(writer, data, sizeof(data), MSG_DONTWAIT) > 0)
        ;
    assert_int_equal(setsockopt(writer, SOL_SOCKET, SO_LINGER, &hour, sizeof(hour)), 0);
    return writer;
}

static void test_close_of_a_lingering_socket_returns(void **state)
{
    int reader = -1, writer = make_unsent(&reader);

    if (writer < 0) {
        print_message("no loopback network: not tested\n");
        skip();
    }
    gw_peer_fd_close(&writer);
    assert_true(gw_sacrifice_flush(PATIENCE_MS)); /* less than an hour */
    close(reader);
}

/* Faster than threads close them. */
static void test_close_of_many_leaves_none_open(void **state)
{
    int fds[64];

    for (unsigned n = 0; n < 2048; n += 64) {
        for (unsigned i = 0; i < 64; i++)
            fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        gw_peer_fd_close_all(fds, 64);
        for (unsigned i = 0; i < 64; i++)
            assert_int_equal(fds[i], -1);
    }
    assert_true(gw_sacrifice_flush(PATIENCE_MS));
}

/* Closing a socket closes the descriptors in flight in it. */
static void test_close_of_a_socket_with_a_lingering_one_in_flight_returns(void **state)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS,
                            .cmsg_len = CMSG_LEN(sizeof(int))}};
    char byte = 0;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr hdr = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    int reader = -1, writer, pair[2];

    if (is_under_valgrind())
        skip(); /* valgrind runs no other thread while one blocks in close(2) */
    writer = make_unsent(&reader);
    if (writer < 0) {
        print_message("no loopback network: not tested\n");
        skip();
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    memcpy(CMSG_DATA(&control.header), &writer, sizeof(writer));
    assert_int_equal(sendmsg(pair[0], &hdr, 0), 1);
    close(writer);
    close(pair[0]);
    gw_peer_fd_close(&pair[1]);
    assert_int_equal(pair[1], -1);
    close(reader); /* otherwise the thread would linger for an hour */
    assert_true(gw_sacrifice_flush(PATIENCE_MS));
}

/* ---- in child processes ---- */

static void in_child(void (*fn)(void))
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void expect(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "not so: %s\n", what);
    _exit(1);
}
#define EXPECT(condition) expect(condition, #condition)

static void signal_one(void)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    eventfd_t count = 0;

    gw_eventfd_signal(fd);
    EXPECT(gw_sacrifice_flush(PATIENCE_MS));
    EXPECT(eventfd_read(fd, &count) == 0 && count == 1);
}

static void test_child_can_signal(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC);

    gw_eventfd_signal(fd);
    close(fd);
    in_child(signal_one);
}

static void refuse_aio(unsigned call, unsigned error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
}

static void work_without_aio(unsigned call, unsigned error)
{
    int fd = eventfd(0, EFD_CLOEXEC), pipes[2];

    refuse_aio(call, error);
    EXPECT(pipe2(pipes, O_CLOEXEC) == 0);
    EXPECT(gw_peer_fd_kind(fd) == GW_PEER_FD_EVENTFD);
    EXPECT(gw_peer_fd_kind(pipes[1]) == GW_PEER_FD_OTHER);
    signal_one();
    EXPECT(eventfd_write(fd, FULL) == 0);
    for (int i = 0; i < 100; i++)
        gw_eventfd_signal(fd);
    EXPECT(gw_sacrifice_flush(PATIENCE_MS));
}

static void work_without_io_setup(void)
{
    work_without_aio(SYS_io_setup, ENOSYS);
}

/* As under a system call filter. */
static void work_without_io_submit(void)
{
    work_without_aio(SYS_io_submit, EPERM);
}

/* Must run first, while the process has one thread: ThreadSanitizer requires that before a fork
 * whose child creates threads. */
static void test_without_aio(void **state)
{
    in_child(work_without_io_setup);
    in_child(work_without_io_submit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_without_aio),
        FDCHECK_TEST(test_signal_adds_one),
        FDCHECK_TEST(test_signal_of_a_full_counter_returns),
        FDCHECK_TEST(test_signal_while_the_peer_fills_and_clears_flags_returns),
        FDCHECK_TEST(test_signal_leaves_other_files_alone),
        FDCHECK_TEST(test_kinds),
        FDCHECK_TEST(test_close_of_many_leaves_none_open),
        FDCHECK_TEST(test_close_of_a_lingering_socket_returns),
        FDCHECK_TEST(test_close_of_a_socket_with_a_lingering_one_in_flight_returns),
        FDCHECK_TEST(test_child_can_signal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
