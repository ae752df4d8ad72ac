/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Sessions that end in the middle of I/O, and their successors: how soon the next one works, and
 * that nothing of the last one remains. In both directions: the daemon listens, or it connects
 * repeatedly. Prints the time to the first completed request.
 */
#include "../fixtures/crash_target.h"
#include "../fixtures/fixture.h"
#include "base/clock.h"
#include "base/proto.h"
#include "fdcheck.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS       100
#define FIRST_MAX_NS UINT64_C(2000000000) /* limit for a busy machine */

static struct fixture fixture;

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void show(const char *what, uint64_t *ns, unsigned n)
{
    qsort(ns, n, sizeof(ns[0]), compare);
    print_message("%s, first request: p50 %.2f ms, max %.2f ms of %u\n", what,
                  (double)ns[n / 2] / 1e6, (double)ns[n - 1] / 1e6, n);
    assert_true(ns[n / 2] < FIRST_MAX_NS);
}

static void kill_rounds(enum disk_kind kind, const char *what)
{
    uint64_t first[ROUNDS];

    fixture_start(&fixture, &(struct fixture_config){.kind = kind, .n_workers = 2});
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct program crash_target;
        struct guest g;

        crash_target_start(&crash_target, fixture.path, CRASH_TARGET_WAITS);
        fixture.n_opened++;
        usleep(i * 37 % 2000);
        assert_int_equal(program_end(&crash_target, SIGKILL), -SIGKILL);
        guest_init(&g, 16);
        first[i] = gw_clock_ns();
        assert_int_equal(fixture_connect(&fixture, g.fe), 0);
        assert_int_equal(gw_frontend_start(g.fe, &g.opt), 0);
        assert_int_equal(guest_io(&g, 0, DISK_SIZE / 512 - 8, (uint8_t)i), 0);
        first[i] = gw_clock_ns() - first[i];
        guest_done(&g);
    }
    show(what, first, ROUNDS);
    assert_true(fixture_check(&fixture, "killed front-ends"));
    fixture_stop(&fixture);
}

static void test_reconnect_after_a_killed_front_end(void **state)
{
    kill_rounds(DISK_RAM, "memory");
}

static void test_reconnect_after_a_killed_front_end_with_file_io(void **state)
{
    kill_rounds(DISK_FILE, "file");
}

/* ---- the daemon connects ---- */

static char dir[64], path[80];
static struct disk disk;
static struct gw_daemon *d;

static void count_warnings(void *arg, enum gw_log_level level, const char *message)
{
    if (strstr(message, "trying again"))
        __atomic_add_fetch((unsigned *)arg, 1, __ATOMIC_RELAXED);
}

static void start_client(unsigned max_ms, unsigned *n_warnings)
{
    struct gw_daemon_config cfg = {
        .size = sizeof(cfg),
        .num_queues = FIXTURE_QUEUES,
        .request_size = disk_request_size(),
        .reconnect_max_ms = max_ms,
        .log = count_warnings,
        .log_arg = n_warnings,
        .log_level = GW_LOG_WARNING,
    };

    *n_warnings = 0;
    strcpy(dir, "/tmp/godwit-it-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/socket", dir);
    assert_int_equal(disk_init(&disk, DISK_RAM, 0), 0);
    assert_int_equal(gw_daemon_new(&d, &cfg, &disk_ops, &disk), 0);
    assert_int_equal(gw_daemon_start_client(d, path), 0);
}

static void stop_client(void)
{
    uint64_t begin = gw_clock_ns();

    gw_daemon_stop(d);
    assert_int_equal(gw_daemon_wait(d), 0);
    assert_true(gw_clock_ns() - begin < FIRST_MAX_NS); /* whatever the current pause */
    gw_daemon_free(d);
    disk_done(&disk);
    assert_int_equal(rmdir(dir), 0);
}

static int listen_at_path(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(addr.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void stop_listening(int fd)
{
    close(fd);
    unlink(path);
}

/* Serve one session on `fd` and read what the last one wrote. Returns: the time it took. */
static uint64_t accept_and_use(int fd, unsigned i)
{
    struct guest g;
    uint64_t ns;

    guest_init(&g, 16);
    assert_int_equal(gw_frontend_accept(g.fe, fd), 0);
    ns = gw_clock_ns();
    assert_int_equal(gw_frontend_start(g.fe, &g.opt), 0);
    assert_int_equal(guest_io(&g, i % 2, 8 * i, (uint8_t)i), 0);
    ns = gw_clock_ns() - ns;
    guest_done(&g);
    return ns;
}

static void test_reconnect_client_serves_one_session_after_another(void **state)
{
    unsigned n_warnings;
    uint64_t first[ROUNDS];
    int fd;

    start_client(50, &n_warnings);
    while (__atomic_load_n(&n_warnings, __ATOMIC_RELAXED) == 0)
        usleep(1000);
    usleep(100000); /* no listener yet: the daemon warns only once */
    assert_int_equal(__atomic_load_n(&n_warnings, __ATOMIC_RELAXED), 1);
    fd = listen_at_path();
    for (unsigned i = 0; i < ROUNDS; i++)
        first[i] = accept_and_use(fd, i);
    show("client", first, ROUNDS);
    /* The front-end disappears, leaves its socket behind, and returns. */
    close(fd);
    usleep(100000);
    unlink(path);
    fd = listen_at_path();
    (void)accept_and_use(fd, 0);
    stop_listening(fd);
    stop_client();
}

/* The device keeps its contents. */
static void test_reconnect_client_keeps_the_device(void **state)
{
    uint8_t pattern[512];
    unsigned n_warnings;
    int fd;

    start_client(10, &n_warnings);
    fd = listen_at_path();
    for (unsigned i = 1; i < 5; i++)
        (void)accept_and_use(fd, i);
    for (unsigned i = 1; i < 5; i++) {
        memset(pattern, (int)i, sizeof(pattern));
        assert_memory_equal(disk.ram + 8 * 512 * i, pattern, sizeof(pattern));
    }
    stop_listening(fd);
    stop_client();
}

static void test_reconnect_client_stops_in_the_longest_pause(void **state)
{
    unsigned n_warnings;

    start_client(3600000, &n_warnings);
    usleep(400000); /* the pauses are 10, 20, ... 320 ms by now */
    stop_client();
}

/* A front-end that hangs up at once is not reconnected to without a pause. */
static void test_reconnect_client_is_patient_with_who_hangs_up(void **state)
{
    unsigned n_warnings, n = 0;
    uint64_t end;
    int fd;

    start_client(1000, &n_warnings);
    fd = listen_at_path();
    end = gw_clock_ns() + UINT64_C(500000000);
    while (gw_clock_ns() < end) {
        int connected = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        assert_true(connected >= 0);
        close(connected);
        n++;
    }
    assert_in_range(n, 2, 8); /* after 10, 30, 70, 150, 310, 630 ms */
    stop_listening(fd);
    stop_client();
}

/* Act as a front-end that stays connected for a while. */
static int accept_and_talk(int fd)
{
    const struct gw_wire_header hello = {.request = GW_MSG_SET_OWNER, .flags = GW_MSG_VERSION};
    int connected = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

    assert_true(connected >= 0);
    assert_int_equal(write(connected, &hello, sizeof(hello)), sizeof(hello));
    usleep(30000); /* longer than any pause before it */
    return connected;
}

/* No pause after a front-end that stayed for a while: a pause would take at least 10 ms. */
static void test_reconnect_client_comes_back_at_once(void **state)
{
    uint64_t shortest = UINT64_MAX;
    unsigned n_warnings;
    int fd, connected;

    start_client(1000, &n_warnings);
    fd = listen_at_path();
    for (unsigned i = 0; i < 60 && shortest >= UINT64_C(8000000); i++) {
        uint64_t ns;

        close(accept_and_talk(fd));
        ns = gw_clock_ns();
        connected = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        ns = gw_clock_ns() - ns;
        shortest = ns < shortest ? ns : shortest;
        close(connected);
    }
    print_message("connected again after %.2f ms at best\n", (double)shortest / 1e6);
    assert_true(shortest < UINT64_C(8000000));
    stop_listening(fd);
    stop_client();
}

/* The front-end does not accept: connecting neither hangs nor fails permanently. */
static void test_reconnect_client_waits_for_a_full_backlog(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    unsigned n_warnings, n = 0;
    int fd, others[16];

    start_client(20, &n_warnings);
    usleep(50000);
    memcpy(addr.sun_path, path, strlen(path) + 1);
    fd = listen_at_path();
    do
        others[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    while (connect(others[n], (struct sockaddr *)&addr, sizeof(addr)) == 0 && ++n < 16);
    assert_int_equal(errno, EAGAIN);
    usleep(100000);
    for (unsigned i = 0; i <= n; i++)
        close(others[i]);
    for (unsigned i = 0; i < n; i++) {
        int connected = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        close(connected); /* all but one are from the sockets above */
    }
    (void)accept_and_use(fd, 1);
    stop_listening(fd);
    stop_client();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_reconnect_after_a_killed_front_end),
        FDCHECK_TEST(test_reconnect_after_a_killed_front_end_with_file_io),
        FDCHECK_TEST(test_reconnect_client_serves_one_session_after_another),
        FDCHECK_TEST(test_reconnect_client_keeps_the_device),
        FDCHECK_TEST(test_reconnect_client_stops_in_the_longest_pause),
        FDCHECK_TEST(test_reconnect_client_is_patient_with_who_hangs_up),
        FDCHECK_TEST(test_reconnect_client_comes_back_at_once),
        FDCHECK_TEST(test_reconnect_client_waits_for_a_full_backlog),
    };
    int r = crash_target_main(argc, argv);

    return r >= 0 ? r : cmocka_run_group_tests(tests, NULL, NULL);
}
