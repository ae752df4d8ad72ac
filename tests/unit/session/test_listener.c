/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Taking and releasing a socket path: existing files, stale sockets, concurrent listeners. */
#include "fdcheck.h"

#include "base/cleanup.h"
#include "base/log_i.h"
#include "core/daemon/listener.h"
#include "core/session/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64], path[80], lock_path[96];

static int setup(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/godwit-test-XXXXXX");
    if (fdcheck_setup(state) < 0 || !mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/s", dir);
    snprintf(lock_path, sizeof(lock_path), "%s.lock", path);
    return 0;
}

/* Fails if anything is left in the directory. */
static int teardown(void **state)
{
    return rmdir(dir) < 0 ? -1 : fdcheck_teardown(state);
}

static int try_to_open(void)
{
    struct gw_listener l = {.fd = -1, .lock_fd = -1};
    int r = gw_listener_open(&l, path);

    assert_true((r == 0) == (l.fd >= 0));
    gw_listener_close(&l);
    return r;
}

static void open_listener(struct gw_listener *l)
{
    assert_int_equal(gw_listener_open(l, path), 0);
}

/* No connection may be pending: a server of a single session would serve it and exit. */
static void expect_left_alone(int listen_fd)
{
    assert_int_equal(fcntl(listen_fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(gw_socket_accept(listen_fd), -EAGAIN);
    assert_int_equal(fcntl(listen_fd, F_SETFL, 0), 0);
}

static void test_listener_accepts_and_cleans_up(void **state)
{
    struct gw_listener l;
    int client, server;

    open_listener(&l);
    assert_int_equal(gw_socket_is_listening(l.fd), 1);
    client = gw_socket_connect(path, 0);
    assert_true(client >= 0);
    assert_int_equal(gw_socket_is_listening(client), 0);
    server = gw_socket_accept(l.fd);
    assert_true(server >= 0);
    assert_int_equal(fcntl(l.fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(l.lock_fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(server, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(client, F_GETFD), FD_CLOEXEC);
    close(client);
    close(server);
    gw_listener_close(&l);
    gw_listener_close(&l); /* closing twice is allowed */
}

static void test_listener_in_use_is_left_alone(void **state)
{
    struct gw_listener l;

    open_listener(&l);
    assert_int_equal(try_to_open(), -EADDRINUSE);
    assert_non_null(strstr(gw_last_error(), "another process already listens"));
    expect_left_alone(l.fd);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(access(lock_path, F_OK), 0);
    gw_listener_close(&l);
    assert_int_equal(try_to_open(), 0);
}

/* A killed process leaves the socket and the lock file behind. */
static void test_listener_of_a_dead_process_is_replaced(void **state)
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        struct gw_listener l;

        if (gw_listener_open(&l, path) == 0)
            raise(SIGKILL);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(access(lock_path, F_OK), 0);
    assert_int_equal(try_to_open(), 0);
}

/* The files were deleted and a successor took the path: the first must not remove its files. */
static void test_listener_leaves_its_successor_alone(void **state)
{
    struct gw_listener first, second;
    int client;

    open_listener(&first);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unlink(lock_path), 0);
    open_listener(&second);
    gw_listener_close(&first);
    assert_int_equal(try_to_open(), -EADDRINUSE);
    client = gw_socket_connect(path, 0);
    assert_true(client >= 0);
    close(client);
    gw_listener_close(&second);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(lock_path, F_OK), -1);
}

/* Other files may have replaced the socket and the lock file. */
static void test_listener_leaves_what_replaced_it_alone(void **state)
{
    static const char *const both[] = {path, lock_path};
    struct gw_listener l;

    for (unsigned i = 0; i < 2; i++) {
        open_listener(&l);
        assert_int_equal(unlink(both[i]), 0);
        close(open(both[i], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        gw_listener_close(&l);
        assert_int_equal(access(both[1 - i], F_OK), -1);
        assert_int_equal(unlink(both[i]), 0);
    }
}

static void test_listener_whose_lock_is_held_is_in_use(void **state)
{
    int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_SH), 0);
    assert_int_equal(try_to_open(), -EADDRINUSE);
    assert_int_equal(access(lock_path, F_OK), 0); /* must not be removed */
    close(fd);
    assert_int_equal(try_to_open(), 0);
}

/* A program without the lock file listens on the path. Its full backlog must not block us. */
static void test_listener_of_a_stranger_is_left_alone(void **state)
{
    struct sockaddr_un addr;
    int fd, others[32];
    unsigned n = 0;

    assert_int_equal(gw_socket_address(&addr, path), 0);
    fd = gw_socket_new(0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(try_to_open(), -EADDRINUSE);
    close(gw_socket_accept(fd)); /* the probe of try_to_open */
    do
        others[n] = gw_socket_connect(path, SOCK_NONBLOCK);
    while (others[n] >= 0 && ++n < 32);
    assert_int_equal(others[n], -EAGAIN);
    assert_int_equal(try_to_open(), -EADDRINUSE);
    assert_int_equal(access(path, F_OK), 0);
    for (unsigned i = 0; i < n; i++)
        close(others[i]);
    close(fd);
    assert_int_equal(try_to_open(), 0); /* now stale */
}

static void test_listener_file_in_the_way_is_left_alone(void **state)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    struct stat st;

    assert_true(fd >= 0);
    assert_int_equal(try_to_open(), -EADDRINUSE);
    assert_non_null(strstr(gw_last_error(), "is no socket"));
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    close(fd);
    unlink(path);
    assert_int_equal(symlink("/nonexistent", path), 0);
    assert_int_equal(try_to_open(), -EADDRINUSE);
    unlink(path);
}

static void test_listener_lock_that_is_no_file_is_refused(void **state)
{
    assert_int_equal(symlink("/etc/passwd", lock_path), 0);
    assert_int_equal(try_to_open(), -ELOOP);
    assert_non_null(strstr(gw_last_error(), lock_path));
    unlink(lock_path);
}

static void test_listener_impossible_path_is_refused(void **state)
{
    char longest[200];
    struct gw_listener l;

    memset(longest, 'x', sizeof(longest));
    longest[108] = '\0';
    assert_int_equal(gw_listener_open(&l, longest), -ENAMETOOLONG);
    assert_int_equal(gw_listener_open(&l, ""), -ENAMETOOLONG);
    assert_int_equal(gw_listener_open(&l, "/nonexistent/s"), -ENOENT);
    assert_true(gw_listener_open(&l, "/sys/s") < 0); /* not even for root */
}

/* ---- many at once ---- */

enum {
    N_THREADS = 6,
    N_ROUNDS = 300
};

static unsigned n_owners, n_opened; /* atomic */
static bool shared_by_two;          /* atomic */

static void *compete(void *arg)
{
    for (unsigned i = 0; i < N_ROUNDS;) {
        struct gw_listener l;
        int r = gw_listener_open(&l, path);

        if (r == -EADDRINUSE)
            continue;
        if (r < 0 || __atomic_add_fetch(&n_owners, 1, __ATOMIC_SEQ_CST) != 1 ||
            access(path, F_OK) < 0)
            __atomic_store_n(&shared_by_two, true, __ATOMIC_SEQ_CST);
        if (r < 0)
            break;
        i++;
        __atomic_add_fetch(&n_opened, 1, __ATOMIC_SEQ_CST);
        __atomic_sub_fetch(&n_owners, 1, __ATOMIC_SEQ_CST);
        gw_listener_close(&l);
    }
    return NULL;
}

static void test_listener_has_one_owner_at_a_time(void **state)
{
    pthread_t threads[N_THREADS];

    for (unsigned i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, compete, NULL), 0);
    for (unsigned i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_false(shared_by_two);
    assert_int_equal(n_opened, N_THREADS * N_ROUNDS);
}

#define LISTENER_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LISTENER_TEST(test_listener_accepts_and_cleans_up),
        LISTENER_TEST(test_listener_in_use_is_left_alone),
        LISTENER_TEST(test_listener_of_a_dead_process_is_replaced),
        LISTENER_TEST(test_listener_leaves_its_successor_alone),
        LISTENER_TEST(test_listener_leaves_what_replaced_it_alone),
        LISTENER_TEST(test_listener_whose_lock_is_held_is_in_use),
        LISTENER_TEST(test_listener_of_a_stranger_is_left_alone),
        LISTENER_TEST(test_listener_file_in_the_way_is_left_alone),
        LISTENER_TEST(test_listener_lock_that_is_no_file_is_refused),
        LISTENER_TEST(test_listener_impossible_path_is_refused),
        LISTENER_TEST(test_listener_has_one_owner_at_a_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
