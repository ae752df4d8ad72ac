/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * godwit-blk as a process: how signals end it, and how it behaves without standard streams, certain
 * system calls or locked memory.
 *
 * usage: it_blk_process PATH_OF_GODWIT_BLK PATH_OF_WITHOUT_URING
 */
#include "base/clock.h"
#include "blk_test.h"
#include "control_data.h"
#include "fdcheck.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <godwit/frontend/state.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MIB       (UINT64_C(1) << 20)
#define SAFETY_MS 120000
#define DELAY_MS  "1000"

static const char *without_uring;

/* ---- signals ---- */

/* Wait until the program has hung up: it is shutting down and waits for its requests. */
static void wait_hang_up(const struct blk_test *t)
{
    struct pollfd p = {.fd = gw_frontend_fd(t->g.fe), .events = POLLIN};

    assert_int_equal(poll(&p, 1, SAFETY_MS), 1);
}

/* Wait until no signal sent to the program is pending. */
static void wait_taken(pid_t pid)
{
    unsigned long long pending = 1;

    while (pending) {
        char path[64], line[128];
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
        f = fopen(path, "re");
        if (!f)
            return;
        while (fgets(line, sizeof(line), f))
            if (sscanf(line, "ShdPnd: %llx", &pending) == 1)
                break;
        fclose(f);
        (void)poll(NULL, 0, 1);
    }
}

/* A read that takes DELAY_MS is in flight: a later flush, which is not delayed, has completed. */
struct slow_read {
    struct gw_driver_blk blk[2];
    struct gw_driver_buf data;
};

static void slow_read_begin(struct slow_read *s, struct blk_test *t)
{
    struct gw_driver *d = t->g.drivers[0];
    struct gw_driver_used used;

    s->data = (struct gw_driver_buf){.len = 4096};
    assert_int_equal(gw_guest_mem_alloc(t->g.mem, s->data.len, 4096, &s->data.addr), 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(gw_driver_blk_init(&s->blk[i], d), 0);
    assert_int_equal(gw_driver_blk_add(&s->blk[0], GW_DRIVER_BLK_READ, 0, &s->data, 1, 0, 0), 0);
    assert_int_equal(gw_driver_blk_add(&s->blk[1], GW_DRIVER_BLK_FLUSH, 0, NULL, 0, 1, 0), 0);
    gw_driver_kick_always(d);
    while (gw_driver_take(d, &used, 1) == 0)
        assert_int_equal(gw_driver_wait(d, SAFETY_MS), 0);
    assert_int_equal(used.cookie, 1);
}

static void slow_read_done(struct slow_read *s)
{
    for (unsigned i = 0; i < 2; i++)
        gw_driver_blk_done(&s->blk[i]);
}

/*
 * Send signals one after the other while a request is in flight. Returns: the exit status; -EAGAIN
 * if this machine took a second or more to send them.
 */
static int try_to_end_by(const int *signals, unsigned n)
{
    uint64_t begun, took;
    struct slow_read slow;
    struct blk_test t;
    char lock[140];
    int status;

    blk_test_begin(&t, MIB);
    blk_test_start(&t, "--delay=" DELAY_MS);
    slow_read_begin(&slow, &t);
    begun = gw_clock_ms();
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(kill(t.program.pid, signals[i]), 0);
        if (i == 0)
            wait_hang_up(&t);
        wait_taken(t.program.pid);
    }
    took = gw_clock_ms() - begun;
    status = program_end(&t.program, 0);
    slow_read_done(&slow);
    guest_done(&t.g);
    snprintf(lock, sizeof(lock), "%s.lock", t.socket);
    if (unlink(lock) != (status == 0 ? -1 : 0) && took < 1000)
        fail_msg("the lock file stays if the program ends at once, and only then");
    blk_test_end(&t);
    return took < 1000 ? status : -EAGAIN;
}

static int end_by(const int *signals, unsigned n)
{
    int status;

    do
        status = try_to_end_by(signals, n);
    while (status == -EAGAIN);
    return status;
}

/* timeout(1) sends SIGTERM to its child, and then to the process group of the child. */
static void test_repeated_sigterm(void **state)
{
    (void)state;
    assert_int_equal(end_by((const int[]){SIGTERM, SIGTERM}, 2), 0);
    assert_int_equal(end_by((const int[]){SIGINT, SIGTERM}, 2), 0);
}

static void test_further_signals_end_at_once(void **state)
{
    (void)state;
    assert_int_equal(end_by((const int[]){SIGTERM, SIGTERM, SIGTERM}, 3), EXIT_FAILURE);
    assert_int_equal(end_by((const int[]){SIGTERM, SIGINT}, 2), EXIT_FAILURE);
    assert_int_equal(end_by((const int[]){SIGINT, SIGINT}, 2), EXIT_FAILURE);
}

/* A request that the medium does not complete in time: the program names it and exits anyway. */
static void test_sigterm_with_a_stuck_request(void **state)
{
    struct slow_read slow;
    struct blk_test t;
    char lock[140];
    (void)state;

    blk_test_begin(&t, MIB);
    blk_test_start(&t, "--delay=10000");
    slow_read_begin(&slow, &t);
    assert_int_equal(kill(t.program.pid, SIGTERM), 0);
    assert_true(program_says(&t.program, "queue 0 has 1 requests in flight"));
    assert_int_equal(program_end(&t.program, 0), EXIT_FAILURE);
    slow_read_done(&slow);
    guest_done(&t.g);
    snprintf(lock, sizeof(lock), "%s.lock", t.socket);
    (void)unlink(lock);
    blk_test_end(&t);
}

/* Start the front-end's queues; that fails. */
static void *start_main(void *arg)
{
    struct blk_test *t = arg;

    (void)gw_frontend_start(t->g.fe, &t->g.opt);
    return NULL;
}

static void test_sigterm_while_locked(void **state)
{
    /* Every user of the image holds a shared lock on this byte. */
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1};
    struct program_config cfg;
    struct blk_test t;
    pthread_t thread;
    (void)state;

    blk_test_begin(&t, MIB);
    assert_int_equal(fcntl(t.fd, F_OFD_SETLK, &lock), 0);
    cfg = blk_test_config(&t, NULL);
    program_start(&t.program, &cfg);
    guest_init(&t.g, 64);
    assert_int_equal(gw_frontend_connect(t.g.fe, t.socket), 0);
    assert_int_equal(pthread_create(&thread, NULL, start_main, &t), 0);
    assert_true(program_says(&t.program, "another process has locked it: waiting"));
    assert_int_equal(kill(t.program.pid, SIGTERM), 0);
    assert_true(program_says(&t.program, "asked to end before another process"));
    assert_int_equal(program_end(&t.program, 0), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    guest_done(&t.g);
    blk_test_end(&t);
}

/* ---- inherited environment ---- */

static unsigned count_fds(pid_t pid)
{
    unsigned n = 0;
    char path[64];
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/*
 * Send a message with more file descriptors than any message may have. Returns: whether it was
 * refused and the session continues.
 */
static bool refuses_many_fds(struct guest *g)
{
    const uint32_t need_reply = 1 | 1 << 3, set_owner = 3;
    struct gw_frontend_message msg;
    int fds[CONTROL_FDS_MAX], r;
    uint64_t status;

    for (unsigned i = 0; i < CONTROL_FDS_MAX; i++)
        fds[i] = gw_frontend_fd(g->fe);
    r = gw_frontend_send_raw(g->fe, set_owner, need_reply, 0, NULL, 0, fds, CONTROL_FDS_MAX);
    assert_int_equal(r, 0);
    assert_int_equal(gw_frontend_receive(g->fe, &msg, SAFETY_MS), 0);
    assert_int_equal(msg.size, sizeof(status));
    memcpy(&status, msg.payload, sizeof(status));
    gw_frontend_message_done(&msg);
    return status != 0;
}

/* Unsolicited control data, on both ends of an inherited connection. */
static void test_other_control_data(void **state)
{
    struct program_config cfg;
    struct blk_test t;
    unsigned n_fds;
    int pair[2];
    (void)state;

    blk_test_begin(&t, 4 * MIB);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ask_for_control_data(pair[0]);
    ask_for_control_data(pair[1]);
    cfg = (struct program_config){
        .path = blk_test_path,
        .args = {"--num-queues", "2", "--fd", "3", "--blk-file", t.file},
        .fd = pair[0],
    };
    program_start(&t.program, &cfg);
    close(pair[0]);
    guest_init(&t.g, 64);
    assert_int_equal(gw_frontend_attach(t.g.fe, pair[1]), 0);
    if (gw_frontend_start(t.g.fe, &t.g.opt) < 0)
        fail_msg("%s", gw_frontend_last_error());
    assert_int_equal(guest_io(&t.g, 0, 0, 0x73), 0);
    n_fds = count_fds(t.program.pid);
    for (unsigned i = 0; i < 20; i++)
        assert_true(refuses_many_fds(&t.g));
    assert_true(program_says(&t.program, "more than 8 file descriptors"));
    assert_int_equal(guest_io(&t.g, 1, 8, 0x74), 0);
    /* Another thread closes them, possibly later. */
    for (unsigned ms = 0; count_fds(t.program.pid) != n_fds && ms < patience_ms(); ms++)
        usleep(1000);
    assert_int_equal(count_fds(t.program.pid), n_fds);
    guest_done(&t.g);
    assert_int_equal(program_end(&t.program, 0), 0);
    blk_test_end(&t);
}

/*
 * If the parent closed descriptors 0 to 2, the image must not get one of them: messages would
 * overwrite it.
 */
static void test_standard_streams_closed(void **state)
{
    struct gw_frontend *fe;
    uint64_t features;
    struct blk_test t;
    char target[64];
    (void)state;

    blk_test_begin(&t, MIB);
    t.program.said_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    t.program.pid = fork();
    assert_true(t.program.pid >= 0);
    if (t.program.pid == 0) {
        (void)close_range(0, 2, 0);
        execl(blk_test_path, blk_test_path, "--socket-path", t.socket, "--blk-file", t.file,
              "--direct=off", NULL);
        _exit(127);
    }
    assert_int_equal(gw_frontend_new(&fe, NULL), 0);
    assert_int_equal(gw_frontend_connect(fe, t.socket), 0);
    assert_int_equal(gw_frontend_get_features(fe, &features), 0);
    for (unsigned fd = 0; fd <= 2; fd++) {
        char path[64];
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/%d/fd/%u", (int)t.program.pid, fd);
        n = readlink(path, target, sizeof(target) - 1);
        assert_true(n > 0);
        target[n] = '\0';
        assert_string_equal(target, "/dev/null");
    }
    gw_frontend_free(fe);
    assert_int_equal(program_end(&t.program, SIGTERM), 0);
    blk_test_end(&t);
}

/* ---- refused system calls ---- */

static void run_uring_refused(const char *what, const char *message)
{
    struct blk_test t;

    blk_test_begin(&t, 4 * MIB);
    program_start(&t.program, &(struct program_config){
                                  .path = without_uring,
                                  .args = {what, blk_test_path, "--num-queues", "2",
                                           "--socket-path", t.socket, "--blk-file", t.file},
                              });
    blk_test_connect(&t);
    assert_int_equal(guest_io(&t.g, 0, 0, 0x75), 0);
    assert_true(program_says(&t.program, message));
    blk_test_stop(&t);
}

/*
 * The default loop falls back to epoll. A cause that an administrator can fix is logged as a
 * warning.
 */
static void test_uring_refused(void **state)
{
    (void)state;
    if (!fixture_has_uring())
        skip();
    run_uring_refused("enter=1", "io_uring_enter fails: Operation not permitted");
    run_uring_refused("setup=12", "no memory for io_uring");
}

/* ---- front-ends ---- */

static void test_second_front_end_is_logged(void **state)
{
    struct gw_frontend *second;
    uint64_t features;
    struct blk_test t;
    (void)state;

    blk_test_begin(&t, 4 * MIB);
    blk_test_start(&t, NULL);
    assert_int_equal(gw_frontend_new(&second, NULL), 0);
    assert_int_equal(gw_frontend_connect(second, t.socket), 0);
    assert_true(program_says(&t.program, "another front-end has connected and waits"));
    assert_int_equal(guest_io(&t.g, 0, 0, 0x76), 0);
    gw_frontend_disconnect(t.g.fe);
    assert_int_equal(gw_frontend_get_features(second, &features), 0);
    gw_frontend_free(second);
    blk_test_stop(&t);
}

/* ---- the state of the device ---- */

#define WCE            32 /* the writeback byte in config space */
#define STATE_FEATURES ((UINT64_C(1) << 9) | (UINT64_C(1) << 11)) /* FLUSH, CONFIG_WCE */
#define STATE_PROTOCOL (GUEST_PROTOCOL | UINT64_C(1) << 19)

static void start_process(struct blk_test *t)
{
    struct program_config cfg = blk_test_config(t, NULL);

    program_start(&t->program, &cfg);
    guest_init(&t->g, 64);
    t->g.opt.protocol_features = STATE_PROTOCOL;
    t->g.opt.features = GUEST_FEATURES | STATE_FEATURES;
    assert_int_equal(gw_frontend_connect(t->g.fe, t->socket), 0);
    assert_int_equal(gw_frontend_negotiate(t->g.fe, &t->g.opt), 0);
}

static void end_process(struct blk_test *t)
{
    guest_done(&t->g);
    assert_int_equal(program_end(&t->program, SIGTERM), 0);
}

static uint8_t get_wce(struct blk_test *t)
{
    uint8_t wce;

    assert_int_equal(gw_frontend_get_config(t->g.fe, WCE, &wce, 1), 0);
    return wce;
}

/* The driver turned the write cache off, which the next process learns from the state. */
static void test_state_survives_a_restart(void **state)
{
    const uint8_t off = 0;
    struct blk_test t;
    void *data;
    size_t len;

    (void)state;
    blk_test_begin(&t, 1 << 20);
    start_process(&t);
    assert_int_equal(get_wce(&t), 1);
    assert_int_equal(gw_frontend_start(t.g.fe, &t.g.opt), 0);
    assert_int_equal(gw_frontend_set_config(t.g.fe, WCE, &off, 1, false), 0);
    assert_int_equal(gw_frontend_save_state(t.g.fe, 4096, &data, &len), -EREMOTEIO); /* it runs */
    assert_int_equal(gw_frontend_stop(t.g.fe, t.g.drivers, FIXTURE_QUEUES), 0);
    assert_int_equal(gw_frontend_save_state(t.g.fe, 4096, &data, &len), 0);
    end_process(&t);

    start_process(&t);
    assert_int_equal(get_wce(&t), 1);
    assert_int_equal(gw_frontend_load_state(t.g.fe, data, len), 0);
    assert_int_equal(gw_frontend_start(t.g.fe, &t.g.opt), 0);
    assert_int_equal(get_wce(&t), 0);
    assert_int_equal(guest_io(&t.g, 0, 0, 7), 0);
    assert_int_equal(gw_frontend_stop(t.g.fe, t.g.drivers, FIXTURE_QUEUES), 0);
    ((uint8_t *)data)[len / 2] ^= 1;
    assert_int_equal(gw_frontend_load_state(t.g.fe, data, len), -EREMOTEIO);
    assert_int_equal(get_wce(&t), 0);
    end_process(&t);
    free(data);
    blk_test_end(&t);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_repeated_sigterm),
        FDCHECK_TEST(test_further_signals_end_at_once),
        FDCHECK_TEST(test_sigterm_with_a_stuck_request),
        FDCHECK_TEST(test_sigterm_while_locked),
        FDCHECK_TEST(test_other_control_data),
        FDCHECK_TEST(test_standard_streams_closed),
        FDCHECK_TEST(test_uring_refused),
        FDCHECK_TEST(test_second_front_end_is_logged),
        FDCHECK_TEST(test_state_survives_a_restart),
    };

    if (argc != 3) {
        fprintf(stderr, "usage: it_blk_process PATH_OF_GODWIT_BLK PATH_OF_WITHOUT_URING\n");
        return EXIT_FAILURE;
    }
    without_uring = argv[2];
    blk_test_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
