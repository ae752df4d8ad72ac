/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A front-end that holds the lock of the back-end channel's socket: it kept a duplicate, and one of
 * its threads receives into memory that never arrives. Requests without an answer time out, and
 * nothing else waits: not the session, not other sessions, not the end of the daemon.
 */
#include "../fixtures/daemon_fixture.h"

#include "base/proto.h"
#include "fd/sacrificial.h"
#include "fdcheck.h"
#include "held_file.h"
#include "patience.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    STRIDE = 1 << 20, /* beyond what the kernel reads ahead */
    READERS_MAX = 4,  /* GW_READERS_MAX */
    N_SESSIONS = READERS_MAX + 1
};

static int done_fd;

static void done(struct gw_channel_request *req, int result)
{
    req->timeout_ms = (unsigned)-result;
    (void)eventfd_write(done_fd, 1);
}

/* Returns: the result of a CONFIG_CHANGE with a short time limit. */
static int ask(struct gw_daemon *d)
{
    struct gw_channel_request req = {.done = done, .timeout_ms = 20};
    struct pollfd p = {.fd = done_fd, .events = POLLIN};
    eventfd_t value;

    assert_int_equal(gw_channel_config_changed(d, &req), 0);
    assert_int_equal(poll(&p, 1, (int)patience_ms()), 1);
    assert_int_equal(eventfd_read(done_fd, &value), 0);
    return -(int)req.timeout_ms;
}

struct holder {
    pthread_t thread;
    int pair[2]; /* ours, and the one that the daemon receives */
    char *page;
};

static void *receive_forever(void *arg)
{
    const struct holder *h = arg;

    (void)!recv(h->pair[1], h->page, 1, 0);
    return NULL;
}

/* Make a channel whose socket is locked. */
static void hold(struct holder *h, struct held_file *f, struct gw_frontend *fe, unsigned i)
{
    unsigned before = held_file_n_waiting(f);

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, h->pair), 0);
    assert_int_equal(send(h->pair[0], "x", 1, 0), 1);
    h->page += (size_t)i * STRIDE;
    assert_int_equal(pthread_create(&h->thread, NULL, receive_forever, h), 0);
    for (unsigned tries = 0; held_file_n_waiting(f) == before; tries++, usleep(1000))
        assert_true(tries < patience_ms());
    assert_int_equal(gw_frontend_send_raw(fe, GW_MSG_SET_BACKEND_REQ_FD, GW_MSG_VERSION, 0, NULL, 0,
                                          &h->pair[1], 1),
                     0);
    expect_served(fe);
}

static void test_held_channel_delays_nothing_but_its_requests(void **state)
{
    struct held_file *f = held_file_new(N_SESSIONS * STRIDE);
    int fd = held_file_dup(f);
    char *pages = mmap(NULL, N_SESSIONS * STRIDE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    struct gw_daemon *d = daemon_fixture_new();
    struct holder h[N_SESSIONS];

    assert_ptr_not_equal(pages, MAP_FAILED);
    done_fd = eventfd(0, EFD_CLOEXEC);
    held_file_hold(f);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    for (unsigned i = 0; i < N_SESSIONS; i++) {
        struct vm vm;

        h[i].page = pages;
        vm_boot(&vm, 1);
        hold(&h[i], f, vm.fe, i);
        assert_int_equal(ask(d), i < READERS_MAX ? -ETIMEDOUT : -EAGAIN);
        assert_int_equal(ask(d), i < READERS_MAX ? -ETIMEDOUT : -EAGAIN);
        expect_served(vm.fe);
        vm_unplug(&vm);
    }
    gw_daemon_free(d);
    held_file_end_server(f);
    for (unsigned i = 0; i < N_SESSIONS; i++) {
        assert_int_equal(pthread_join(h[i].thread, NULL), 0);
        close(h[i].pair[0]);
        close(h[i].pair[1]);
    }
    assert_int_equal(munmap(pages, N_SESSIONS * STRIDE), 0);
    close(fd);
    held_file_free(f);
    close(done_fd);
    assert_true(gw_sacrifice_flush(patience_ms()));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_held_channel_delays_nothing_but_its_requests),
    };

    requires_held_file();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
