/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Front-ends that disconnect at every byte of a session and in every state, that do not read, or
 * that send without end; and a daemon that is stopped in each of these states. It always serves the
 * next front-end.
 */
#include "../fixtures/bad.h"
#include "base/clock.h"
#include "fdcheck.h"
#include "patience.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FLOOD     100000
#define STEPS_MAX 40
#define SLOW_MS   100

static struct fixture fixture;

/* ---- a session, byte by byte ---- */

/* A message to send, with its descriptor (-1: none). */
struct step {
    struct gw_wire_header header;
    uint8_t payload[64];
    int fd;
};

struct script {
    struct step steps[STEPS_MAX];
    unsigned n;
    size_t length;
};

static void add(struct script *s, uint32_t request, const void *payload, size_t size, int fd)
{
    struct step *step = &s->steps[s->n++];

    assert_true(s->n <= STEPS_MAX && size <= sizeof(step->payload));
    step->header = (struct gw_wire_header){
        .request = request, .flags = GW_MSG_VERSION, .size = (uint32_t)size};
    if (size)
        memcpy(step->payload, payload, size);
    step->fd = fd;
    s->length += sizeof(step->header) + size;
}

static void add_u64(struct script *s, uint32_t request, uint64_t value, int fd)
{
    add(s, request, &value, sizeof(value), fd);
}

static void add_queue(struct script *s, const struct guest *g, unsigned i, uint64_t ring, int err)
{
    const struct gw_wire_vring_addr addr = {.index = i,
                                            .descriptor = GUEST_UVA + ring,
                                            .available = GUEST_UVA + ring + 0x1000,
                                            .used = GUEST_UVA + ring + 0x2000};

    add(s, GW_MSG_SET_VRING_NUM, &(struct gw_wire_vring_state){i, 16}, 8, -1);
    add(s, GW_MSG_SET_VRING_BASE, &(struct gw_wire_vring_state){i, 0}, 8, -1);
    add(s, GW_MSG_SET_VRING_ADDR, &addr, sizeof(addr), -1);
    add_u64(s, GW_MSG_SET_VRING_ERR, i, err);
    add_u64(s, GW_MSG_SET_VRING_KICK, i, gw_driver_kick_fd(g->drivers[i]));
    add_u64(s, GW_MSG_SET_VRING_CALL, i, gw_driver_call_fd(g->drivers[i]));
    add(s, GW_MSG_SET_VRING_ENABLE, &(struct gw_wire_vring_state){i, 1}, 8, -1);
}

/* All messages of a start, I/O and a stop. */
static void write_script(struct script *s, const struct guest *g, uint64_t rings, int channel,
                         int err)
{
    const struct gw_wire_single_region region = {
        .region = {GUEST_GPA, GUEST_SIZE, GUEST_UVA + GUEST_GPA, 0}};
    const uint32_t config[5] = {0, 8, 0};
    struct gw_guest_region told;

    assert_int_equal(gw_guest_mem_region(g->mem, 0, &told), 0);
    memset(s, 0, sizeof(*s));
    add(s, GW_MSG_GET_FEATURES, NULL, 0, -1);
    add(s, GW_MSG_GET_PROTOCOL_FEATURES, NULL, 0, -1);
    add_u64(s, GW_MSG_SET_PROTOCOL_FEATURES, GUEST_PROTOCOL, -1);
    add(s, GW_MSG_GET_QUEUE_NUM, NULL, 0, -1);
    add(s, GW_MSG_GET_MAX_MEM_SLOTS, NULL, 0, -1);
    add(s, GW_MSG_SET_BACKEND_REQ_FD, NULL, 0, channel);
    add(s, GW_MSG_SET_OWNER, NULL, 0, -1);
    add_u64(s, GW_MSG_SET_FEATURES, GUEST_FEATURES, -1);
    add(s, GW_MSG_GET_CONFIG, config, sizeof(config), -1);
    add(s, GW_MSG_ADD_MEM_REG, &region, sizeof(region), told.fd);
    for (unsigned i = 0; i < FIXTURE_QUEUES; i++)
        add_queue(s, g, i, rings + 0x10000 * (uint64_t)i, err);
    for (unsigned i = 0; i < FIXTURE_QUEUES; i++)
        add(s, GW_MSG_GET_VRING_BASE, &(struct gw_wire_vring_state){i, 0}, 8, -1);
    add(s, GW_MSG_RESET_DEVICE, NULL, 0, -1);
}

/* Send the first `length` bytes of a message; the descriptor goes with the first byte. */
static void send_step(int fd, const struct step *step, size_t length)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    size_t header = length < sizeof(step->header) ? length : sizeof(step->header);
    struct iovec iov[2] = {{(void *)&step->header, header},
                           {(void *)step->payload, length - header}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

    if (step->fd >= 0) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof(control.space);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &step->fd, sizeof(int));
    }
    assert_int_equal(sendmsg(fd, &msg, MSG_NOSIGNAL), (ssize_t)length);
}

static void send_script(struct guest *g, const struct script *s, size_t length)
{
    for (unsigned i = 0; i < s->n && length > 0; i++) {
        size_t whole = sizeof(s->steps[i].header) + s->steps[i].header.size;
        size_t now = whole < length ? whole : length;

        send_step(gw_frontend_fd(g->fe), &s->steps[i], now);
        length -= now;
    }
}

/* Make requests available in ring 0 before the session starts it. */
static void fill_ring(struct guest *g, uint64_t rings)
{
    struct gw_driver_config cfg = {.size = sizeof(cfg),
                                   .mem = g->mem,
                                   .queue_size = 16,
                                   .place = true,
                                   .desc = rings,
                                   .avail = rings + 0x1000,
                                   .used = rings + 0x2000};
    struct gw_driver_buf header = {GUEST_GPA + GUEST_SIZE - 0x10000, 16};
    struct gw_driver_buf bufs[3] = {header, {header.addr + 4096, 4096}, {header.addr + 16, 1}};

    gw_driver_free(g->drivers[0]);
    assert_int_equal(gw_driver_new(&g->drivers[0], &cfg), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(gw_driver_add(g->drivers[0], bufs, 1, 2, i, 0), 0);
    gw_driver_kick_always(g->drivers[0]);
}

static void run_cuts(enum disk_kind kind, unsigned stride)
{
    const uint64_t rings = GUEST_GPA + GUEST_SIZE / 2;
    static struct script script;
    size_t length = 1;

    fixture_start(&fixture, &(struct fixture_config){.kind = kind, .delay_ms = 3});
    for (size_t cut = 0; cut <= length; cut += stride) {
        int channel[2], err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        struct guest g;
        char name[32];

        guest_init(&g, 16);
        fill_ring(&g, rings);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel), 0);
        write_script(&script, &g, rings, channel[0], err);
        length = script.length;
        assert_int_equal(fixture_connect(&fixture, g.fe), 0);
        send_script(&g, &script, cut);
        guest_done(&g);
        close(channel[0]);
        close(channel[1]);
        close(err);
        snprintf(name, sizeof(name), "cut after %zu bytes", cut);
        assert_true(fixture_check(&fixture, name));
    }
    printf("%zu bytes\n", length);
    fixture_stop(&fixture);
}

static void test_cut_at_every_byte(void **state)
{
    (void)state;
    run_cuts(DISK_RAM, 1);
}

static void test_cut_with_requests_in_flight(void **state)
{
    (void)state;
    run_cuts(DISK_SLOW, 7);
}

/* ---- front-ends that do not read ---- */

/* Send requests until the socket is full. Returns: the number of requests. */
static unsigned fill_socket(struct guest *g)
{
    const struct gw_wire_header question = {.request = GW_MSG_GET_FEATURES,
                                            .flags = GW_MSG_VERSION};
    struct pollfd p = {.fd = gw_frontend_fd(g->fe), .events = POLLOUT};
    unsigned n = 0;

    /* Full if it stays full: the daemon is waiting for room for its answer. */
    while (poll(&p, 1, 200) == 1) {
        ssize_t sent = send(p.fd, &question, sizeof(question), MSG_NOSIGNAL | MSG_DONTWAIT);

        assert_true(sent == (ssize_t)sizeof(question) || (sent < 0 && errno == EAGAIN));
        n += sent > 0;
    }
    return n;
}

static void test_not_reading_then_gone(void **state)
{
    struct guest g;
    (void)state;

    fixture_start(&fixture, &(struct fixture_config){0});
    assert_int_equal(bad_stage(&fixture, &g, STAGE_RUNNING, false), 0);
    printf("%u questions\n", fill_socket(&g));
    guest_done(&g);
    assert_true(fixture_check(&fixture, "not reading, then gone"));
    fixture_stop(&fixture);
}

/* Events for the control worker do not make it drop a slow front-end. */
static void test_not_reading_and_news(void **state)
{
    static struct gw_frontend_message answer;
    struct guest g;
    unsigned n;
    (void)state;

    fixture_start(&fixture, &(struct fixture_config){0});
    assert_int_equal(bad_stage(&fixture, &g, STAGE_RUNNING, false), 0);
    n = fill_socket(&g);
    gw_daemon_config_changed(fixture.daemon);
    assert_int_equal(poll(NULL, 0, 50), 0);
    while (n > 0 && gw_frontend_receive(g.fe, &answer, 5000) == 0) {
        assert_int_equal(answer.request, GW_MSG_GET_FEATURES);
        n--;
    }
    assert_int_equal(n, 0);
    assert_int_equal(guest_io(&g, 0, 0, 0x21), 0);
    assert_int_equal(gw_frontend_backend_request(g.fe, &answer, 5000), 0);
    assert_int_equal(answer.request, GW_BACKEND_MSG_CONFIG_CHANGE);
    gw_frontend_message_done(&answer);
    guest_done(&g);
    assert_true(fixture_check(&fixture, "not reading, and news"));
    fixture_stop(&fixture);
}

static void test_flood(void **state)
{
    static const uint32_t requests[] = {GW_MSG_SET_OWNER, GW_MSG_SET_VRING_CALL,
                                        GW_MSG_SET_VRING_ENABLE};
    uint64_t features;
    struct guest g;
    (void)state;

    fixture_start(&fixture, &(struct fixture_config){0});
    assert_int_equal(bad_stage(&fixture, &g, STAGE_RUNNING, false), 0);
    for (unsigned i = 0; i < FLOOD; i++) {
        uint32_t request = requests[i % 3];
        uint64_t payload = request == GW_MSG_SET_VRING_CALL ? GW_VRING_FD_NONE : UINT64_C(1) << 32;
        size_t size = request == GW_MSG_SET_OWNER ? 0 : 8;

        assert_int_equal(gw_frontend_send_raw(g.fe, request, GW_MSG_VERSION, (uint32_t)size,
                                              &payload, size, NULL, 0),
                         0);
    }
    assert_int_equal(gw_frontend_get_features(g.fe, &features), 0);
    assert_int_equal(guest_io(&g, 1, 0, 0x22), 0);
    guest_done(&g);
    assert_true(fixture_check(&fixture, "a flood"));
    fixture_stop(&fixture);
}

/* ---- slow requests ---- */

/* Submit 8 reads on each queue without waiting for them. */
static void start_reads(struct guest *g)
{
    struct virtio_header {
        uint32_t type, reserved;
        uint64_t sector;
    } header = {0};
    const gw_gpa_t at = GUEST_GPA + GUEST_SIZE / 2;

    memcpy(gw_guest_mem_at(g->mem, at, sizeof(header)), &header, sizeof(header));
    for (unsigned i = 0; i < FIXTURE_QUEUES; i++) {
        for (unsigned k = 0; k < 5; k++) {
            struct gw_driver_buf bufs[3] = {
                {at, 16}, {at + 4096 * (1 + k), 4096}, {at + 0x10000 + k, 1}};

            assert_int_equal(gw_driver_add(g->drivers[i], bufs, 1, 2, k, 0), 0);
        }
        gw_driver_kick_always(g->drivers[i]);
    }
}

/* Wait for up to `ms` milliseconds. Returns: whether `n` requests of the queue are in flight. */
static bool are_in_flight(unsigned queue, uint64_t n, unsigned ms)
{
    struct gw_queue_stats stats;

    for (unsigned i = 0; i < ms; i++) {
        gw_queue_stats(gw_daemon_queue(fixture.daemon, queue), &stats);
        if (stats.in_flight == n)
            return true;
        (void)poll(NULL, 0, 1);
    }
    return false;
}

static void wait_in_flight(unsigned queue, uint64_t n)
{
    if (!are_in_flight(queue, n, patience_ms()))
        fail_msg("not %lu requests in flight", (unsigned long)n);
}

/* On a busy machine all of them may have completed before this thread looks: try again. */
static void run_death_in_flight(enum gw_loop_kind loop)
{
    unsigned n_deaths = 0;

    fixture_start(&fixture,
                  &(struct fixture_config){.loop = loop, .kind = DISK_SLOW, .delay_ms = SLOW_MS});
    for (unsigned i = 0; n_deaths < 5 && i < 200; i++) {
        struct guest g;

        assert_int_equal(bad_stage(&fixture, &g, STAGE_RUNNING, true), 0);
        start_reads(&g);
        n_deaths += are_in_flight(0, 5, 2 * SLOW_MS);
        guest_done(&g);
        assert_true(fixture_check(&fixture, "death with requests in flight"));
    }
    assert_int_equal(n_deaths, 5);
    fixture_stop(&fixture);
}

static void test_death_in_flight_epoll(void **state)
{
    (void)state;
    run_death_in_flight(GW_LOOP_EPOLL);
}

static void test_death_in_flight_uring(void **state)
{
    (void)state;
    if (!fixture_has_uring())
        skip();
    run_death_in_flight(GW_LOOP_URING);
}

/*
 * The device takes longer than the time limit. The next front-end cannot start the queues while
 * they are busy. Requests that finish late do not write to its memory, although its rings are at
 * the same addresses as those of the last front-end.
 */
static void test_stuck_device(void **state)
{
    struct guest g;
    (void)state;

    fixture_start(&fixture,
                  &(struct fixture_config){.kind = DISK_SLOW, .delay_ms = 1, .drain_ms = 100});
    __atomic_store_n(&fixture.disk.delay_ms, 1000, __ATOMIC_RELAXED);
    assert_int_equal(bad_stage(&fixture, &g, STAGE_RUNNING, true), 0);
    start_reads(&g);
    wait_in_flight(0, 5);
    wait_in_flight(1, 5);
    guest_done(&g);
    assert_true(fixture_says(&fixture, "stays mapped until late requests finish"));
    assert_true(fixture_wait_idle(&fixture));

    __atomic_store_n(&fixture.disk.delay_ms, 1, __ATOMIC_RELAXED);
    guest_init(&g, 16);
    assert_int_equal(fixture_connect(&fixture, g.fe), 0);
    assert_int_equal(gw_frontend_start(g.fe, &g.opt), -EREMOTEIO);
    assert_true(fixture_says(&fixture, "requests of its last run have not finished"));
    wait_in_flight(0, 0);
    wait_in_flight(1, 0);
    for (unsigned i = 0; i < FIXTURE_QUEUES; i++)
        assert_int_equal(gw_driver_used_idx(g.drivers[i]), 0);
    /* Now the queues are free. */
    assert_int_equal(gw_frontend_start(g.fe, &g.opt), 0);
    assert_int_equal(guest_io(&g, 0, 0, 0x23), 0);
    assert_int_equal(guest_io(&g, 1, 0, 0x24), 0);
    guest_done(&g);
    /* The next session unmaps the memory that was kept for them. */
    guest_init(&g, 16);
    assert_int_equal(fixture_connect(&fixture, g.fe), 0);
    guest_done(&g);
    assert_true(fixture_check(&fixture, "a stuck device"));
    fixture_stop(&fixture);
}

/* ---- stop ---- */

/* The daemon stops in time, with success, and can be started again. */
static void stop_and_start(struct guest *g, const char *name)
{
    static struct gw_frontend_message answer;
    uint64_t begin = gw_clock_ms();
    int r = 0;

    gw_daemon_stop(fixture.daemon);
    assert_int_equal(gw_daemon_wait(fixture.daemon), 0);
    if (gw_clock_ms() - begin > patience_ms())
        fail_msg("%s: the stop took %lu ms", name, (unsigned long)(gw_clock_ms() - begin));
    if (g) {
        while (r == 0)
            r = gw_frontend_receive(g->fe, &answer, patience_ms());
        assert_int_equal(r, -ECONNRESET);
        guest_done(g);
    }
    fixture_restart(&fixture);
    assert_true(fixture_check(&fixture, name));
}

static void run_stops(enum gw_loop_kind loop)
{
    static const enum stage stages[] = {STAGE_BARE, STAGE_NEW, STAGE_READY, STAGE_RUNNING,
                                        STAGE_NO_30};
    uint64_t features;
    struct guest g;
    char name[32];

    fixture_start(&fixture,
                  &(struct fixture_config){.loop = loop, .kind = DISK_SLOW, .delay_ms = 20});
    stop_and_start(NULL, "stop while nobody is there");
    for (unsigned i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
        snprintf(name, sizeof(name), "stop in stage %d", (int)stages[i]);
        assert_int_equal(bad_stage(&fixture, &g, stages[i], false), 0);
        /* The answer shows that the connection has left the backlog. */
        assert_int_equal(gw_frontend_get_features(g.fe, &features), 0);
        stop_and_start(&g, name);
    }
    assert_int_equal(bad_stage(&fixture, &g, STAGE_RUNNING, true), 0);
    assert_int_equal(gw_frontend_send_bytes(g.fe, "\1\0\0\0\1", 5), 0);
    stop_and_start(&g, "stop in the middle of a message");

    assert_int_equal(bad_stage(&fixture, &g, STAGE_RUNNING, true), 0);
    __atomic_store_n(&fixture.disk.delay_ms, 1000, __ATOMIC_RELAXED);
    start_reads(&g);
    wait_in_flight(0, 5);
    __atomic_store_n(&fixture.disk.delay_ms, 20, __ATOMIC_RELAXED);
    stop_and_start(&g, "stop with requests in flight");

    assert_int_equal(bad_stage(&fixture, &g, STAGE_RUNNING, false), 0);
    (void)fill_socket(&g);
    stop_and_start(&g, "stop while an answer waits for room");
    fixture_stop(&fixture);
}

static void test_stops_epoll(void **state)
{
    (void)state;
    run_stops(GW_LOOP_EPOLL);
}

static void test_stops_uring(void **state)
{
    (void)state;
    if (!fixture_has_uring())
        skip();
    run_stops(GW_LOOP_URING);
}

/* A daemon for a single connection: an ordinary end is success, even with unread answers. */
static void test_single_session(void **state)
{
    static const struct {
        const char *name;
        unsigned n_questions;
        bool stop;
        const char *garbage;
        int result;
    } ends[] = {
        {"hang-up", 0, false, "", 0},
        {"hang-up with an answer unread", 1, false, "", 0},
        {"hang-up with many unread", 10000, false, "", 0},
        {"stop while an answer waits for room", 100000, true, "", 0},
        {"a fault", 0, false, "garbage, not a message", -EPROTO},
    };
    (void)state;

    fixture_start(&fixture, &(struct fixture_config){0});
    gw_daemon_stop(fixture.daemon);
    assert_int_equal(gw_daemon_wait(fixture.daemon), 0);
    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        const struct gw_wire_header question = {.request = 1, .flags = 1};
        const struct timespec pause = {.tv_nsec = 20000000};
        int pair[2], r;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        assert_int_equal(gw_daemon_start(fixture.daemon, pair[0]), 0);
        for (unsigned k = 0; k < ends[i].n_questions; k++)
            if (send(pair[1], &question, sizeof(question), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                break;
        if (ends[i].garbage[0])
            (void)send(pair[1], ends[i].garbage, strlen(ends[i].garbage), MSG_NOSIGNAL);
        nanosleep(&pause, NULL);
        if (ends[i].stop)
            gw_daemon_stop(fixture.daemon);
        else
            close(pair[1]);
        r = gw_daemon_wait(fixture.daemon);
        if (ends[i].stop)
            close(pair[1]);
        if (r != ends[i].result)
            fail_msg("%s: %d, not %d", ends[i].name, r, ends[i].result);
        fixture.n_opened++;
    }
    fixture_restart(&fixture);
    assert_true(fixture_check(&fixture, "single sessions"));
    fixture_stop(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_cut_at_every_byte),
        FDCHECK_TEST(test_cut_with_requests_in_flight),
        FDCHECK_TEST(test_not_reading_then_gone),
        FDCHECK_TEST(test_not_reading_and_news),
        FDCHECK_TEST(test_flood),
        FDCHECK_TEST(test_death_in_flight_epoll),
        FDCHECK_TEST(test_death_in_flight_uring),
        FDCHECK_TEST(test_stuck_device),
        FDCHECK_TEST(test_stops_epoll),
        FDCHECK_TEST(test_stops_uring),
        FDCHECK_TEST(test_single_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
