/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The fault server with real userfaultfds: of this process, of clients in it, and of child
 * processes that map the memory at their own addresses and send their userfaultfd over a socket.
 */
#include "fault_fixture.h"
#include "frontend/fault/fault_i.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Wait until all is counted: a thread is woken before its fault is counted. */
static void settled_stats(struct fault_fixture *b, struct gw_fault_stats *ret)
{
    gw_fault_server_stop(b->server);
    gw_fault_server_stats(b->server, ret);
    assert_int_equal(gw_fault_server_start(b->server), 0);
}

static void finish(struct fault_fixture *b)
{
    gw_fault_server_stop(b->server);
    assert_int_equal(gw_fault_server_finish(b->server), 0);
}

/* ---- both kinds of source ---- */

static void test_fault_page_at_hand_is_read(void **state)
{
    struct fault_fixture b;
    struct gw_fault_stats st;

    fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_HERE);
    for (uint64_t i = 0; i < PAGES; i++)
        assert_int_equal(touch(b.own + i * PAGE), stamp_of(i));
    settled_stats(&b, &st);
    assert_int_equal(st.faults, PAGES);
    assert_int_equal(st.copied, PAGES - PAGES / ZERO_EVERY);
    assert_int_equal(st.zeroed, PAGES / ZERO_EVERY);
    assert_int_equal(st.received, PAGES);
    assert_int_equal(st.bytes_requested, PAGES * PAGE);
    assert_int_equal(st.bytes_streamed, 0);
    assert_int_equal(st.wakes, 0); /* placing the page woke the thread */
    assert_int_equal(st.latency.count, PAGES);
    assert_true(st.latency.p50 > 0 && st.latency.p50 <= st.latency.p99 &&
                st.latency.p99 <= st.latency.max);
    assert_int_equal(gw_fault_server_missing(b.server), 0);
    finish(&b);
    fault_fixture_end(&b);
}

static void test_fault_clients_are_woken(void **state)
{
    struct gw_fault_stats st;
    struct fault_fixture b;
    struct client c[2];

    fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_HERE);
    for (unsigned i = 0; i < 2; i++)
        client_begin(&c[i], &b, false);
    for (uint64_t i = 0; i < PAGES; i++) {
        assert_int_equal(touch(c[i % 2].map + i * PAGE), stamp_of(i));
        assert_int_equal(touch(c[(i + 1) % 2].map + i * PAGE), stamp_of(i)); /* present already */
    }
    settled_stats(&b, &st);
    assert_int_equal(st.faults, PAGES);
    assert_int_equal(st.wakes, PAGES);
    assert_int_equal(st.early, 0);
    finish(&b);
    for (unsigned i = 0; i < 2; i++)
        client_end(&c[i], &b);
    fault_fixture_end(&b);
}

/* Pages that arrive in another order than requested, or unrequested. */
static void test_fault_page_that_comes_later_wakes_all_who_wait(void **state)
{
    struct toucher t[4];
    struct gw_fault_stats st;
    struct fault_fixture b;
    struct client c;

    fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_LATER);
    client_begin(&c, &b, false);
    toucher_begin(&t[0], c.map + 3 * PAGE);
    toucher_begin(&t[1], b.own + 3 * PAGE);
    toucher_begin(&t[2], c.map + 5 * PAGE);
    toucher_begin(&t[3], c.map + 5 * PAGE);
    await_asked(&b, 2);
    await_faults(&b, 4);
    assert_false(toucher_is_back(&t[0]));
    assert_int_equal(put_page(&b, 7), 1); /* not requested */
    assert_int_equal(put_page(&b, 5), 1);
    assert_int_equal(toucher_end(&t[2]), stamp_of(5));
    assert_int_equal(toucher_end(&t[3]), stamp_of(5));
    assert_false(toucher_is_back(&t[0]));
    assert_int_equal(put_page(&b, 3), 1);
    assert_int_equal(toucher_end(&t[0]), stamp_of(3));
    assert_int_equal(toucher_end(&t[1]), stamp_of(3));
    assert_int_equal(touch(c.map + 7 * PAGE), stamp_of(7));
    assert_int_equal(put_page(&b, 3), 0); /* again: no effect */
    settled_stats(&b, &st);
    assert_int_equal(st.asked, 2);
    assert_int_equal(st.faults, 4);
    assert_int_equal(st.repeated, 1);
    assert_int_equal(st.bytes_requested, 2 * PAGE);
    assert_int_equal(st.bytes_streamed, PAGE);
    assert_int_equal(gw_fault_server_finish(b.server), -EBUSY);
    client_end(&c, &b);
    fault_fixture_end(&b);
}

static void test_fault_answers_that_were_lost_are_asked_for_again(void **state)
{
    struct toucher t[2];
    struct fault_fixture b;

    fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_LATER);
    toucher_begin(&t[0], b.own + 1 * PAGE);
    toucher_begin(&t[1], b.own + 2 * PAGE);
    await_asked(&b, 2);
    assert_int_equal(put_page(&b, 1), 1);
    assert_int_equal(toucher_end(&t[0]), stamp_of(1));
    assert_int_equal(gw_fault_server_ask_again(b.server), 0);
    await_asked(&b, 3);
    assert_true(b.last_asked == b.gpa + 2 * PAGE);
    /* From now on the source has all pages. */
    __atomic_store_n(&b.source, SOURCE_HERE, __ATOMIC_RELAXED);
    assert_int_equal(gw_fault_server_ask_again(b.server), 0);
    assert_int_equal(toucher_end(&t[1]), stamp_of(2));
    fault_fixture_end(&b);
}

static void test_fault_stream_brings_what_nobody_asked_for(void **state)
{
    struct gw_fault_stats st;
    struct fault_fixture b;
    gw_gpa_t gpa = 0;
    uint64_t len;
    int n, total = 0;

    fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_HERE);
    assert_int_equal(touch(b.own + 2 * PAGE), stamp_of(2));
    settled_stats(&b, &st); /* streaming yields to faults */
    assert_int_equal(gw_fault_server_stream(b.server, 2), 2);
    assert_int_equal(gw_fault_server_next_missing(b.server, &gpa, &len), 0);
    assert_true(gpa == b.gpa + 3 * PAGE && len == PAGE);
    while ((n = gw_fault_server_stream(b.server, 4)) > 0)
        total += n;
    assert_int_equal(n, 0);
    assert_int_equal(total, PAGES - 3);
    assert_int_equal(gw_fault_server_next_missing(b.server, &gpa, &len), -ENOENT);
    settled_stats(&b, &st);
    assert_int_equal(st.bytes_streamed, (PAGES - 1) * PAGE);
    assert_int_equal(st.bytes_requested, PAGE);
    finish(&b);
    for (uint64_t i = 0; i < PAGES; i++)
        assert_int_equal(touch(b.own + i * PAGE), stamp_of(i));
    fault_fixture_end(&b);
}

/* While faults are served, each call brings one page only. */
static void test_fault_stream_gives_way_to_faults(void **state)
{
    struct fault_fixture b;
    struct toucher t;

    fault_fixture_prepare(&b, GW_FAULT_COPY, SOURCE_HERE);
    b.held = b.gpa + 2 * PAGE;
    fault_fixture_serve(&b);
    toucher_begin(&t, b.own + 2 * PAGE);
    await_asked(&b, 1);
    assert_int_equal(gw_fault_server_stream(b.server, 2), 1);
    assert_false(toucher_is_back(&t));
    __atomic_store_n(&b.held, 0, __ATOMIC_RELAXED);
    assert_int_equal(toucher_end(&t), stamp_of(2));
    gw_fault_server_stop(b.server);
    assert_int_equal(gw_fault_server_stream(b.server, 4), 4);
    fault_fixture_end(&b);
}

/* Two threads bring all pages, each in its own order, while four touch them. */
static void *bring_all(void *arg)
{
    struct fault_fixture *b = arg;

    for (uint64_t i = 0; i < PAGES; i++)
        assert_true(put_page(b, i * 7 % PAGES) >= 0);
    return NULL;
}

static void *touch_all(void *arg)
{
    char *map = arg;

    for (uint64_t i = 0; i < PAGES; i++) {
        uint64_t page = i * 5 % PAGES;

        if (touch(map + page * PAGE) != stamp_of(page))
            return map;
    }
    return NULL;
}

static void test_fault_all_at_once_loses_no_wakeup(void **state)
{
    for (unsigned round = 0; round < 30; round++) {
        pthread_t bringers[2], touchers[4];
        struct gw_fault_stats st;
        struct fault_fixture b;
        struct client c;
        void *wrong;

        fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_LATER);
        client_begin(&c, &b, false);
        for (unsigned i = 0; i < 4; i++)
            pthread_create(&touchers[i], NULL, touch_all, i % 2 ? c.map : b.own);
        for (unsigned i = 0; i < 2; i++)
            pthread_create(&bringers[i], NULL, bring_all, &b);
        for (unsigned i = 0; i < 2; i++)
            pthread_join(bringers[i], NULL);
        for (unsigned i = 0; i < 4; i++) {
            pthread_join(touchers[i], &wrong);
            assert_null(wrong);
        }
        settled_stats(&b, &st);
        assert_int_equal(st.early, 0);
        assert_int_equal(st.received, PAGES);
        assert_int_equal(st.copied + st.zeroed, PAGES);
        assert_int_equal(st.repeated, PAGES);
        finish(&b);
        client_end(&c, &b);
        fault_fixture_end(&b);
    }
}

/* ---- faulty clients ---- */

/* A mapping of the file without a userfaultfd reads zeros. */
static void test_fault_page_read_before_it_came_is_told(void **state)
{
    struct gw_fault_stats st;
    struct fault_fixture b;
    char *unregistered;
    struct toucher t;

    fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_LATER);
    unregistered = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, b.region.fd, 0);
    assert_int_equal(touch(unregistered + 4 * PAGE), 0);
    toucher_begin(&t, b.own + 6 * PAGE);
    await_asked(&b, 1);
    assert_int_equal(put_page(&b, 4), -EEXIST);
    assert_non_null(strstr(gw_frontend_last_error(), "before it arrived"));
    assert_int_equal(b.n_reports[GW_FAULT_EARLY], 1);
    assert_true(b.last.gpa == b.gpa + 4 * PAGE && b.last.len == PAGE && b.last.region == b.gpa);
    assert_int_equal(put_page(&b, 4), 0); /* counts as received now */
    assert_int_equal(touch(unregistered + 6 * PAGE), 0);
    assert_int_equal(put_page(&b, 6), -EEXIST);
    assert_int_equal(toucher_end(&t), 0); /* the waiting thread wakes */
    settled_stats(&b, &st);
    assert_int_equal(st.early, 2);
    assert_int_equal(st.received, 2);
    munmap(unregistered, PAGES * PAGE);
    fault_fixture_end(&b);
}

static void test_fault_received_pages_are_left_alone(void **state)
{
    struct fault_fixture b;

    fault_fixture_prepare(&b, GW_FAULT_COPY, SOURCE_HERE);
    memset(b.own, 0xaa, PAGES * PAGE); /* precopy */
    assert_int_equal(gw_fault_server_set_received(b.server, b.gpa, 0), 0);
    assert_int_equal(gw_fault_server_missing(b.server), 0);
    assert_int_equal(gw_fault_server_discard(b.server, b.gpa + 3 * PAGE + 1, PAGE), 0);
    assert_int_equal(gw_fault_server_missing(b.server), 2 * PAGE);
    assert_int_equal(gw_fault_server_set_received(b.server, b.gpa + 1, PAGE), -EINVAL);
    assert_int_equal(gw_fault_server_discard(b.server, b.gpa, PAGES * PAGE + 1), -EINVAL);
    fault_fixture_serve(&b);
    assert_int_equal(gw_fault_server_discard(b.server, b.gpa, PAGE), -EBUSY);
    assert_int_equal(put_page(&b, 0), 0);
    for (uint64_t i = 0; i < PAGES; i++)
        assert_int_equal(touch(b.own + i * PAGE), i == 3 || i == 4 ? stamp_of(i) : 0xaaaaaaaa);
    finish(&b);
    assert_int_equal(b.n_reports[GW_FAULT_EARLY], 0);
    fault_fixture_end(&b);
}

/* A client that announced wrong addresses: the server cannot attribute its fault. */
static void test_fault_outside_of_all_regions_is_told(void **state)
{
    struct gw_fault_stats st;
    struct toucher t;
    struct fault_fixture b;
    struct client c;

    fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_HERE);
    client_map(&c, &b, false);
    assert_int_equal(
        gw_fault_client_add_base(c.client, b.gpa, PAGES * PAGE, (uintptr_t)c.map + PAGES * PAGE),
        0);
    toucher_begin(&t, c.map + PAGE);
    await_report(&b, GW_FAULT_STRAY);
    assert_true(b.last.address == (uintptr_t)c.map + PAGE);
    assert_string_equal(b.last_client, "client");
    assert_false(toucher_is_back(&t));
    /* The right address. The server only sees the fault if it occurs again. */
    assert_int_equal(gw_fault_client_add_base(c.client, b.gpa, PAGES * PAGE, (uintptr_t)c.map), 0);
    client_wake(&c, PAGE);
    assert_int_equal(toucher_end(&t), stamp_of(1));
    settled_stats(&b, &st);
    assert_int_equal(st.stray, 1);
    client_end(&c, &b);
    fault_fixture_end(&b);
}

static void test_fault_bases_that_cannot_be_are_refused(void **state)
{
    const uint64_t len = PAGES * PAGE;
    struct gw_fault_client *fc;
    struct fault_fixture b;
    struct client c;

    fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_HERE);
    client_map(&c, &b, false);
    fc = c.client;
    assert_int_equal(gw_fault_client_add_base(fc, b.gpa + PAGE, len, PAGE), -ENOENT);
    assert_int_equal(gw_fault_client_add_base(fc, b.gpa, len - PAGE, PAGE), -EINVAL);
    assert_int_equal(gw_fault_client_add_base(fc, b.gpa, len, PAGE + 1), -EINVAL);
    assert_int_equal(gw_fault_client_add_base(fc, b.gpa, len, 0 - PAGE), -EINVAL);
    assert_non_null(strstr(gw_frontend_last_error(), "cannot be at"));
    /* Overlapping announcements replace each other, in any order. */
    assert_int_equal(gw_fault_client_add_base(fc, b.gpa, len, 8 * len), 0);
    assert_int_equal(gw_fault_client_add_base(fc, b.gpa, len, 10 * len), 0);
    assert_int_equal(gw_fault_client_add_base(fc, b.gpa, len, 9 * len - PAGE), 0);
    assert_int_equal(gw_fault_client_add_base(fc, b.gpa, len, (uintptr_t)c.map), 0);
    assert_int_equal(touch(c.map), stamp_of(0));
    client_end(&c, &b);
    fault_fixture_end(&b);
}

static void test_fault_what_is_no_userfaultfd_is_refused(void **state)
{
    struct gw_fault_client *c;
    struct fault_fixture b;

    fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_HERE);
    assert_int_equal(gw_fault_server_add_client(b.server, &c, -1, "none", false), -EINVAL);
    assert_int_equal(
        gw_fault_server_add_client(b.server, &c, eventfd(0, EFD_CLOEXEC), "eventfd", false),
        -EINVAL);
    assert_non_null(strstr(gw_frontend_last_error(), "eventfd"));
    assert_int_equal(gw_fault_server_add_client(b.server, &c, open("/dev/zero", O_RDWR | O_CLOEXEC),
                                                "zero", false),
                     -EINVAL);
    /* A userfaultfd without UFFDIO_API would never report a fault. */
    assert_int_equal(gw_fault_server_add_client(b.server, &c, fault_uffd_raw(), "raw", false),
                     -EINVAL);
    assert_non_null(strstr(gw_frontend_last_error(), "ready"));
    fault_fixture_end(&b);
}

/* A client that reads its own events, and makes its fd blocking, must not block the server. */
static void test_fault_client_that_takes_its_flags_away_blocks_nothing(void **state)
{
    struct fault_fixture b;
    struct client c;

    fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_HERE);
    client_begin(&c, &b, false);
    assert_int_equal(fcntl(c.uffd, F_SETFL, 0), 0);
    assert_int_equal(touch(b.own), stamp_of(0));
    gw_fault_server_stop(b.server);
    assert_int_equal(gw_fault_server_start(b.server), 0);
    assert_int_equal(touch(b.own + PAGE), stamp_of(1));
    client_end(&c, &b);
    fault_fixture_end(&b);
}

/* A client with many unread faults has one turn, and then every other client has one. */
static void test_fault_busy_client_leaves_others_their_turn(void **state)
{
    enum {
        N_BUSY = 40,
        TURN_MAX = 16
    }; /* TURN_MAX: READ_MAX of fault_server.c */
    struct toucher t[N_BUSY], other;
    struct pollfd pfd = {.events = POLLIN};
    struct fault_fixture b;
    struct client c;

    fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_LATER);
    client_begin(&c, &b, false);
    gw_fault_server_stop(b.server);
    for (uint64_t i = 0; i < N_BUSY; i++)
        toucher_begin(&t[i], c.map + i * PAGE);
    pfd.fd = c.uffd;
    assert_int_equal(poll(&pfd, 1, (int)WAIT_MS), 1);
    toucher_begin(&other, b.own + N_BUSY * PAGE);
    usleep(50000); /* most of these threads now wait; if not, the test shows less */
    assert_int_equal(gw_fault_server_start(b.server), 0);
    await_asked(&b, N_BUSY + 1);
    assert_in_range(b.asked_before[N_BUSY], 0, TURN_MAX);
    for (uint64_t i = 0; i <= N_BUSY; i++)
        assert_int_equal(put_page(&b, i), 1);
    for (uint64_t i = 0; i < N_BUSY; i++)
        assert_int_equal(toucher_end(&t[i]), stamp_of(i));
    assert_int_equal(toucher_end(&other), stamp_of(N_BUSY));
    client_end(&c, &b);
    fault_fixture_end(&b);
}

/* ---- other processes ---- */

static void test_fault_child_reads_what_comes(void **state)
{
    struct fault_fixture b;
    struct child c;

    fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_HERE);
    child_begin(&c, &b);
    for (uint64_t i = 0; i < PAGES; i++)
        child_touch(&c, i);
    for (uint64_t i = 0; i < PAGES; i++)
        assert_int_equal(child_result(&c), stamp_of(i));
    finish(&b);
    child_end(&c, &b, SIGTERM);
    fault_fixture_end(&b);
}

static void test_fault_child_that_dies_while_it_waits_harms_nobody(void **state)
{
    struct fault_fixture b;
    struct child c;
    struct toucher t;

    fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_LATER);
    child_begin(&c, &b);
    child_touch(&c, 2);
    await_asked(&b, 1);
    toucher_begin(&t, b.own + 2 * PAGE);
    await_faults(&b, 2);
    child_kill(&c, SIGKILL);
    assert_int_equal(put_page(&b, 2), 1);
    assert_int_equal(toucher_end(&t), stamp_of(2));
    gw_fault_server_remove_client(b.server, c.client);
    fault_fixture_end(&b);
}

static void test_fault_client_that_is_removed_leaves_no_waiter(void **state)
{
    struct toucher t;
    struct fault_fixture b;
    struct client c;

    fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_LATER);
    client_begin(&c, &b, false);
    toucher_begin(&t, c.map + PAGE);
    await_asked(&b, 1);
    gw_fault_server_remove_client(b.server, c.client);
    c.client = NULL;
    assert_int_equal(put_page(&b, 1), 1);
    client_unregister(&c); /* through the client's fd: that wakes the thread */
    assert_int_equal(toucher_end(&t), stamp_of(1));
    client_end(&c, &b);
    fault_fixture_end(&b);
}

/* Does the thread wait in futex(2)? */
static bool is_in_futex(pid_t tid)
{
    char path[64], text[32] = "";
    FILE *f;

    snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
    f = fopen(path, "re");
    if (!f)
        return false;
    (void)!fgets(text, sizeof(text), f);
    fclose(f);
    return strtol(text, NULL, 10) == SYS_futex;
}

/* The number of the thread with this name; 0 before the thread has set it. */
static pid_t thread_named(const char *name)
{
    char path[300], text[32];
    struct dirent *e;
    DIR *d = opendir("/proc/self/task");
    pid_t found = 0;

    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        FILE *f;

        snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
        f = fopen(path, "re");
        if (f && fgets(text, sizeof(text), f) && strncmp(text, name, strlen(name)) == 0)
            found = (pid_t)strtol(e->d_name, NULL, 10);
        if (f)
            fclose(f);
    }
    closedir(d);
    return found;
}

struct remover {
    struct fault_fixture *fixture;
    struct client *client;
    pid_t tid; /* atomic */
};

static void *remove_client(void *arg)
{
    struct remover *r = arg;

    __atomic_store_n(&r->tid, gettid(), __ATOMIC_RELEASE);
    gw_fault_server_remove_client(r->fixture->server, r->client->client);
    return NULL;
}

/*
 * An event of a client that was removed after the server's wait ended, and before it took the lock:
 * the test holds the lock until the server has the event and the removal waits in front of it.
 */
static void test_fault_event_of_a_removed_client_is_ignored(void **state)
{
    struct fault_fixture b;
    struct remover remover = {.fixture = &b};
    struct toucher t, own;
    struct client c;
    pthread_t thread;
    pid_t server;

    fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_HERE);
    client_begin(&c, &b, false);
    remover.client = &c;
    while ((server = thread_named("gw-faults")) == 0)
        usleep(1000);
    assert_int_equal(pthread_rwlock_rdlock(&b.server->lock), 0);
    assert_int_equal(pthread_create(&thread, NULL, remove_client, &remover), 0);
    while (!__atomic_load_n(&remover.tid, __ATOMIC_ACQUIRE) || !is_in_futex(remover.tid))
        usleep(1000);
    toucher_begin(&t, c.map + PAGE);
    while (!is_in_futex(server))
        usleep(1000);
    assert_int_equal(pthread_rwlock_unlock(&b.server->lock), 0);
    pthread_join(thread, NULL);
    c.client = NULL;
    /* The server continues with the faults of others, and blames no client. */
    toucher_begin(&own, b.own + 2 * PAGE);
    assert_int_equal(toucher_end(&own), stamp_of(2));
    assert_int_equal(__atomic_load_n(&b.n_reports[GW_FAULT_CLIENT], __ATOMIC_ACQUIRE), 0);
    client_unregister(&c); /* wakes the thread; the page is a hole */
    assert_int_equal(toucher_end(&t), 0);
    client_end(&c, &b);
    fault_fixture_end(&b);
}

/* fdcheck_setup has closed descriptor 0, so that the server receives it. */
static void test_fault_descriptor_0_is_closed(void **state)
{
    const struct gw_fault_config cfg = {.size = sizeof(cfg)};
    struct gw_fault_server *s;

    assert_int_equal(gw_fault_server_new(&s, &cfg), 0);
    assert_true(fcntl(0, F_GETFD) >= 0);
    gw_fault_server_free(s);
    assert_int_equal(fcntl(0, F_GETFD), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fault_page_at_hand_is_read),
        FDCHECK_TEST(test_fault_clients_are_woken),
        FDCHECK_TEST(test_fault_page_that_comes_later_wakes_all_who_wait),
        FDCHECK_TEST(test_fault_answers_that_were_lost_are_asked_for_again),
        FDCHECK_TEST(test_fault_stream_brings_what_nobody_asked_for),
        FDCHECK_TEST(test_fault_stream_gives_way_to_faults),
        FDCHECK_TEST(test_fault_all_at_once_loses_no_wakeup),
        FDCHECK_TEST(test_fault_page_read_before_it_came_is_told),
        FDCHECK_TEST(test_fault_received_pages_are_left_alone),
        FDCHECK_TEST(test_fault_outside_of_all_regions_is_told),
        FDCHECK_TEST(test_fault_bases_that_cannot_be_are_refused),
        FDCHECK_TEST(test_fault_what_is_no_userfaultfd_is_refused),
        FDCHECK_TEST(test_fault_client_that_takes_its_flags_away_blocks_nothing),
        FDCHECK_TEST(test_fault_busy_client_leaves_others_their_turn),
        FDCHECK_TEST(test_fault_child_reads_what_comes),
        FDCHECK_TEST(test_fault_child_that_dies_while_it_waits_harms_nobody),
        FDCHECK_TEST(test_fault_client_that_is_removed_leaves_no_waiter),
        FDCHECK_TEST(test_fault_event_of_a_removed_client_is_ignored),
        FDCHECK_TEST(test_fault_descriptor_0_is_closed),
    };

    requires_userfaultfd();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
