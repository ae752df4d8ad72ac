/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A worker and what embedders put on it, with both loops: fds and timers. */
#include "../fixtures/worker_fixture.h"
#include "fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static void put(struct bench *b, const char *text)
{
    assert_int_equal(write(b->fds[1], text, strlen(text)), strlen(text));
}

static void on_fd(void *arg, int fd, uint32_t events)
{
    add_one(arg);
}

/* ---- fds ---- */

static void read_byte(void *arg, int fd, uint32_t events)
{
    struct bench *b = arg;
    char byte;

    if (read(fd, &byte, 1) == 1)
        add_one(b);
}

/* One byte is read of each callback: what is left calls again. */
static void test_worker_fd_is_level_triggered(void **state)
{
    struct bench b;

    begin(&b);
    put(&b, "abc"); /* before it is added */
    assert_int_equal(add_fd(&b.worker, b.fds[0], POLLIN, read_byte, &b), 0);
    fixture_wait_for(&b.n, 3);
    put(&b, "defgh");
    fixture_wait_for(&b.n, 8);
    settle(&b);
    assert_int_equal(count(&b), 8);
    assert_int_equal(remove_fd(&b.worker, b.fds[0]), 0);
    put(&b, "i");
    settle(&b);
    usleep(1000);
    assert_int_equal(count(&b), 8);
    finish(&b);
}

static uint32_t seen_events;

static void note_events(void *arg, int fd, uint32_t events)
{
    struct bench *b = arg;

    seen_events = events;
    remove_fd(&b->worker, fd); /* itself */
    add_one(b);
}

static void test_worker_fd_events_are_those_of_poll(void **state)
{
    struct bench b;

    begin(&b);
    assert_int_equal(add_fd(&b.worker, b.fds[1], POLLOUT, note_events, &b), 0);
    fixture_wait_for(&b.n, 1);
    assert_int_equal(seen_events & (POLLIN | POLLOUT), POLLOUT);
    assert_int_equal(add_fd(&b.worker, b.fds[0], POLLIN, note_events, &b), 0);
    settle(&b);
    assert_int_equal(count(&b), 1);
    close(b.fds[1]);
    fixture_wait_for(&b.n, 2);
    assert_true(seen_events & POLLHUP);
    b.fds[1] = dup(b.fds[0]);
    finish(&b);
}

static void test_worker_fd_that_cannot_be_waited_for_is_refused(void **state)
{
    int file = memfd_create("file", MFD_CLOEXEC);
    struct gw_worker *w;
    struct bench b;

    begin(&b);
    w = &b.worker;
    assert_int_equal(add_fd(w, b.fds[0], POLLIN, NULL, &b), -EINVAL);
    assert_int_equal(add_fd(w, b.fds[0], 0, on_fd, &b), -EINVAL);
    assert_int_equal(add_fd(w, b.fds[0], 0x10000, on_fd, &b), -EINVAL);
    assert_int_equal(add_fd(w, 9999, POLLIN, on_fd, &b), -EBADF);
    assert_int_equal(add_fd(w, file, POLLIN, on_fd, &b), -EPERM);
    assert_int_equal(remove_fd(w, b.fds[0]), -ENOENT);
    assert_int_equal(add_fd(w, b.fds[0], POLLIN, on_fd, &b), 0);
    assert_int_equal(add_fd(w, b.fds[0], POLLIN, on_fd, &b), -EEXIST);
    assert_non_null(strstr(gw_last_error(), "gw_worker_add_fd"));
    assert_int_equal(remove_fd(w, b.fds[0]), 0);
    assert_int_equal(remove_fd(w, b.fds[0]), -ENOENT);
    finish(&b);
    close(file);
}

struct pair {
    struct bench *b;
    int own, other;
};

static void remove_other(void *arg, int fd, uint32_t events)
{
    struct pair *p = arg;

    assert_int_equal(remove_fd(&p->b->worker, p->other), 0);
    assert_int_equal(remove_fd(&p->b->worker, p->own), 0);
    add_one(p->b);
}

static void test_worker_fd_removed_in_a_callback_is_not_called(void **state)
{
    for (unsigned round = 0; round < 3; round++) {
        int x = eventfd(0, EFD_CLOEXEC), y = eventfd(0, EFD_CLOEXEC);
        struct bench b;
        struct pair pairs[] = {{&b, x, y}, {&b, y, x}};

        begin(&b);
        assert_int_equal(add_fd(&b.worker, x, POLLIN, remove_other, &pairs[0]), 0);
        assert_int_equal(add_fd(&b.worker, y, POLLIN, remove_other, &pairs[1]), 0);
        /* Both become ready while it is busy: it finds them together. */
        post_call(&b.worker, sleep_a_little, NULL);
        eventfd_write(x, 1);
        eventfd_write(y, 1);
        fixture_wait_for(&b.n, 1);
        settle(&b);
        assert_int_equal(count(&b), 1);
        finish(&b);
        close(x);
        close(y);
    }
}

struct self {
    struct bench *b;
    int fd;
    unsigned n;
};

static void remove_and_add(void *arg, int fd, uint32_t events)
{
    struct self *s = arg;

    assert_int_equal(remove_fd(&s->b->worker, fd), 0);
    if (++s->n < 100)
        assert_int_equal(add_fd(&s->b->worker, fd, POLLIN, remove_and_add, s), 0);
    add_one(s->b);
}

static void test_worker_fd_can_come_again_in_its_own_callback(void **state)
{
    struct bench b;
    struct self s = {.b = &b};

    begin(&b);
    put(&b, "x");
    assert_int_equal(add_fd(&b.worker, b.fds[0], POLLIN, remove_and_add, &s), 0);
    fixture_wait_for(&b.n, 100);
    settle(&b);
    assert_int_equal(count(&b), 100);
    finish(&b);
}

/* Many threads add and remove; after the return there is no callback, so `b` may go. */
static void *churn(void *arg)
{
    struct gw_worker *w = arg;

    for (unsigned i = 0; i < 200; i++) {
        int fd = eventfd(1, EFD_CLOEXEC);
        struct bench *b = calloc(1, sizeof(*b));

        assert_int_equal(add_fd(w, fd, POLLIN, on_fd, b), 0);
        while (i % 10 == 0 && count(b) == 0)
            usleep(10);
        assert_int_equal(remove_fd(w, fd), 0);
        memset(b, 0xff, sizeof(*b));
        free(b);
        close(fd);
    }
    return NULL;
}

static void test_worker_fd_calls_of_other_threads_are_refused(void **state)
{
    struct bench b;

    begin(&b);
    assert_int_equal(gw_worker_add_fd(&b.worker, b.fds[0], POLLIN, on_fd, &b), -EINVAL);
    assert_non_null(strstr(gw_last_error(), "another thread"));
    assert_int_equal(gw_worker_remove_fd(&b.worker, b.fds[0]), -EINVAL);
    finish(&b);
}

static void test_worker_fds_come_and_go_for_other_threads(void **state)
{
    pthread_t threads[4];
    struct bench b;

    begin(&b);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, &b.worker), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    finish(&b);
}

static void test_worker_end_drops_fds_that_were_not_removed(void **state)
{
    struct bench b;

    begin(&b);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(add_fd(&b.worker, b.fds[i], POLLIN, on_fd, &b), 0);
    finish(&b);
}

/* Inside: an edge triggered source need not be read. */
struct edge {
    struct gw_source source;
    struct bench *b;
};

static void on_edge(struct gw_source *source, uint32_t events)
{
    add_one(gw_container_of(source, struct edge, source)->b);
}

static int add_edge(void *arg)
{
    struct edge *e = arg;
    struct gw_loop *loop = e->b->worker.loop;

    return loop->ops->add(loop, &e->source);
}

static int remove_edge(void *arg)
{
    struct edge *e = arg;
    struct gw_loop *loop = e->b->worker.loop;

    loop->ops->remove(loop, &e->source);
    loop->ops->remove(loop, &e->source); /* of nothing */
    return 0;
}

static void test_worker_edge_source_is_called_for_every_write(void **state)
{
    int fd = eventfd(1, EFD_CLOEXEC); /* ready when it is added */
    struct bench b;
    struct edge e = {.source = {.fd = fd, .events = POLLIN, .edge = true, .cb = on_edge}, .b = &b};

    begin(&b);
    assert_int_equal(worker_call(&b.worker, add_edge, &e), 0);
    fixture_wait_for(&b.n, 1);
    for (unsigned i = 2; i < 5000; i++) {
        unsigned before = count(&b);

        eventfd_write(fd, 1);
        fixture_wait_for(&b.n, before + 1);
    }
    settle(&b);
    assert_true(count(&b) < 2 * 5000); /* it does not spin on what nobody reads */
    worker_call(&b.worker, remove_edge, &e);
    b.n = 0;
    eventfd_write(fd, 1);
    settle(&b);
    assert_int_equal(count(&b), 0);
    finish(&b);
    close(fd);
}

/* ---- timers ---- */

static int make_timer(void *arg)
{
    struct bench *b = arg;

    return gw_timer_new(&b->timer, &b->worker, add_one, b);
}

static int free_timer(void *arg)
{
    struct bench *b = arg;

    gw_timer_free(b->timer);
    gw_timer_free(NULL);
    return 0;
}

static int start_once(void *arg)
{
    struct bench *b = arg;

    gw_timer_start(b->timer, 20000000, 0);
    return 0;
}

static int start_periodic(void *arg)
{
    struct bench *b = arg;

    gw_timer_start(b->timer, 1000000, 1000000);
    return 0;
}

static int stop_timer(void *arg)
{
    struct bench *b = arg;

    gw_timer_stop(b->timer);
    gw_timer_stop(b->timer);
    return 0;
}

static int start_never(void *arg)
{
    struct bench *b = arg;

    gw_timer_start(b->timer, UINT64_MAX, 0);
    return 0;
}

static void test_worker_timer_runs_when_it_is_due(void **state)
{
    uint64_t begun;
    struct bench b;

    begin(&b);
    assert_int_equal(worker_call(&b.worker, make_timer, &b), 0);
    settle(&b);
    assert_int_equal(count(&b), 0);
    begun = gw_clock_ns();
    worker_call(&b.worker, start_once, &b);
    fixture_wait_for(&b.n, 1);
    assert_true(gw_clock_ns() - begun >= 20000000);
    usleep(30000);
    assert_int_equal(count(&b), 1); /* once */
    worker_call(&b.worker, start_periodic, &b);
    fixture_wait_for(&b.n, 21);
    worker_call(&b.worker, stop_timer, &b);
    b.n = 0;
    usleep(5000);
    assert_int_equal(count(&b), 0);
    worker_call(&b.worker, start_never, &b);
    usleep(5000);
    settle(&b);
    assert_int_equal(count(&b), 0);
    worker_call(&b.worker, free_timer, &b);
    finish(&b);
}

static void stop_at_three(void *arg)
{
    struct bench *b = arg;

    add_one(b);
    if (b->n == 3)
        gw_timer_stop(b->timer);
    else if (b->n > 3)
        gw_timer_free(b->timer); /* itself */
}

static int make_stopping(void *arg)
{
    struct bench *b = arg;
    int r = gw_timer_new(&b->timer, &b->worker, stop_at_three, b);

    gw_timer_start(b->timer, 0, 100000);
    return r;
}

static void test_worker_timer_can_stop_and_free_itself(void **state)
{
    struct bench b;

    begin(&b);
    assert_int_equal(worker_call(&b.worker, make_stopping, &b), 0);
    fixture_wait_for(&b.n, 3);
    usleep(5000);
    assert_int_equal(count(&b), 3);
    worker_call(&b.worker, start_periodic, &b);
    fixture_wait_for(&b.n, 4);
    usleep(5000);
    assert_int_equal(count(&b), 4);
    finish(&b);
}

static int make_many(void *arg)
{
    static const unsigned delays[] = {5, 1, 4, 2, 3, 2};
    static struct numbered numbers[6];
    static struct gw_timer *timers[6];
    struct bench *b = arg;

    if (b->n_order == 6) {
        for (unsigned i = 0; i < 6; i++)
            gw_timer_free(timers[i]);
        return 0;
    }
    for (unsigned i = 0; i < 6; i++) {
        numbers[i] = (struct numbered){b, i};
        assert_int_equal(gw_timer_new(&timers[i], &b->worker, note_order, &numbers[i]), 0);
        gw_timer_start(timers[i], delays[i] * UINT64_C(2000000), 0);
    }
    return 0;
}

static void test_worker_timers_run_in_the_order_they_are_due(void **state)
{
    static const unsigned expected[] = {1, 3, 5, 4, 2, 0};
    struct bench b;

    begin(&b);
    worker_call(&b.worker, make_many, &b);
    fixture_wait_for(&b.n_order, 6);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(b.order[i], expected[i]);
    worker_call(&b.worker, make_many, &b);
    finish(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_worker_fd_is_level_triggered),
        FDCHECK_TEST(test_worker_fd_events_are_those_of_poll),
        FDCHECK_TEST(test_worker_fd_that_cannot_be_waited_for_is_refused),
        FDCHECK_TEST(test_worker_fd_removed_in_a_callback_is_not_called),
        FDCHECK_TEST(test_worker_fd_can_come_again_in_its_own_callback),
        FDCHECK_TEST(test_worker_fd_calls_of_other_threads_are_refused),
        FDCHECK_TEST(test_worker_fds_come_and_go_for_other_threads),
        FDCHECK_TEST(test_worker_end_drops_fds_that_were_not_removed),
        FDCHECK_TEST(test_worker_edge_source_is_called_for_every_write),
        FDCHECK_TEST(test_worker_timer_runs_when_it_is_due),
        FDCHECK_TEST(test_worker_timer_can_stop_and_free_itself),
        FDCHECK_TEST(test_worker_timers_run_in_the_order_they_are_due),
    };

    return FIXTURE_RUN_BOTH_LOOPS(tests);
}
