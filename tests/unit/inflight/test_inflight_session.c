/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* GET_INFLIGHT_FD and SET_INFLIGHT_FD: a daemon's handling of valid and invalid messages. */
#include "base/checked.h"
#include "base/proto.h"
#include "patience.h"

#include <godwit.h>
#include <godwit/frontend/frontend.h>

#include "fdcheck.h"
#include "frontend/transport/fe_requests.h"
#include "hold_sigbus.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define QUEUES    4u
#define RING      16u
#define SPLIT_LEN (64 * 5) /* size of a part for RING */
#define MADE      1024u    /* entries of the parts that the daemon creates */
#define PACKED    GW_BIT(GW_F_RING_PACKED)
#define FEATURES  (GW_BIT(GW_F_PROTOCOL_FEATURES) | GW_BIT(GW_F_VERSION_1))
#define PROTOCOL                                                  \
    (GW_BIT(GW_PROTOCOL_F_REPLY_ACK) | GW_BIT(GW_PROTOCOL_F_MQ) | \
     GW_BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | GW_BIT(GW_PROTOCOL_F_INFLIGHT_SHMFD))
#define WAIT_MS patience_ms()

struct fixture {
    struct gw_daemon *daemon;
    struct gw_frontend *fe;
    struct gw_guest_mem *mem;
    struct gw_driver *drivers[QUEUES];
    struct gw_frontend_options opt;
    struct gw_frontend_message answer;
};

static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;
static char said[4096];

static void note(void *arg, enum gw_log_level level, const char *message)
{
    size_t at;

    pthread_mutex_lock(&said_lock);
    at = strlen(said);
    snprintf(said + at, sizeof(said) - at, "%s\n", message);
    pthread_mutex_unlock(&said_lock);
}

/* The log must contain `text`. Clears the log. */
static void expect_said(const char *text)
{
    char copy[sizeof(said)];

    pthread_mutex_lock(&said_lock);
    memcpy(copy, said, sizeof(copy));
    said[0] = '\0';
    pthread_mutex_unlock(&said_lock);
    if (!strstr(copy, text))
        fail_msg("\"%s\" is not in \"%s\"", text, copy);
}

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct gw_request *reqs[RING];
    unsigned n = gw_queue_pop(q, reqs, RING);

    for (unsigned i = 0; i < n; i++)
        gw_request_complete(reqs[i], 0);
    return 0;
}

static _Atomic unsigned n_taken_over, n_resets;

static _Atomic bool refuses_start;      /* take a request, and refuse to start */
static struct gw_request *_Atomic held; /* the request taken then */

static int queue_start(void *dev, struct gw_queue *q)
{
    struct gw_request *req;

    n_taken_over += gw_queue_is_taken_over(q);
    if (!refuses_start)
        return 0;
    if (gw_queue_pop(q, &req, 1) == 1)
        held = req;
    return -1;
}

static void reset(void *dev)
{
    n_resets++;
}

static _Atomic int stop_error;   /* what the device reports at a stop */
static _Atomic bool may_suspend; /* at the last stop */

static void queue_stop(void *dev, struct gw_queue *q)
{
    may_suspend = gw_queue_may_suspend(q);
    if (stop_error != 0)
        gw_queue_fail_stop(q, stop_error);
}

static void begin_drivers(struct fixture *b, uint64_t features)
{
    struct gw_guest_region region = {.gpa = 0x100000, .length = 1 << 20};

    assert_int_equal(gw_guest_mem_new(&b->mem, 0x700000000000), 0);
    assert_int_equal(gw_guest_mem_add(b->mem, &region), 0);
    for (unsigned i = 0; i < QUEUES; i++) {
        struct gw_driver_config cfg = {
            .size = sizeof(cfg), .mem = b->mem, .index = i, .queue_size = RING};

        cfg.packed = (features & PACKED) != 0;
        assert_int_equal(gw_driver_new(&b->drivers[i], &cfg), 0);
    }
}

/* Start a session with these virtio and protocol features; the rings are not started. */
static void fixture_begin(struct fixture *b, uint64_t features, uint64_t protocol)
{
    static const struct gw_device_ops ops = {
        .size = sizeof(ops),
        .queue_start = queue_start,
        .queue_ready = queue_ready,
        .queue_stop = queue_stop,
        .reset = reset,
    };
    struct gw_daemon_config cfg = {
        .size = sizeof(cfg),
        .num_queues = QUEUES,
        .log = note,
        .log_level = GW_LOG_WARNING,
        .handle_sigbus = true,
        .sync = GW_SYNC_MUTEX,
    };
    int ends[2];

    said[0] = '\0';
    stop_error = 0;
    n_taken_over = n_resets = 0;
    refuses_start = false;
    held = NULL;
    memset(b, 0, sizeof(*b));
    begin_drivers(b, features);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(gw_daemon_new(&b->daemon, &cfg, &ops, NULL), 0);
    assert_int_equal(gw_daemon_start(b->daemon, ends[0]), 0);
    assert_int_equal(gw_frontend_new(&b->fe, NULL), 0);
    assert_int_equal(gw_frontend_attach(b->fe, ends[1]), 0);
    b->opt = (struct gw_frontend_options){
        .size = sizeof(b->opt),
        .features = FEATURES | features,
        .protocol_features = protocol,
        .mem = b->mem,
        .drivers = b->drivers,
        .n_drivers = QUEUES,
    };
    assert_int_equal(gw_frontend_negotiate(b->fe, &b->opt), 0);
    assert_int_equal(gw_frontend_set_features(b->fe, FEATURES | features), 0);
}

static void fixture_end(struct fixture *b)
{
    gw_frontend_free(b->fe);
    gw_daemon_wait(b->daemon);
    gw_daemon_free(b->daemon);
    for (unsigned i = 0; i < QUEUES; i++)
        gw_driver_free(b->drivers[i]);
    gw_guest_mem_free(b->mem);
}

/* Send a message and wait for the reply in b->answer. */
static void ask(struct fixture *b, uint32_t request, const void *payload, uint32_t size,
                const int *fds, unsigned n_fds)
{
    gw_frontend_message_done(&b->answer);
    assert_int_equal(gw_frontend_send_raw(b->fe, request, GW_MSG_VERSION | GW_MSG_NEED_REPLY, size,
                                          payload, size, fds, n_fds),
                     0);
    assert_int_equal(gw_frontend_receive(b->fe, &b->answer, WAIT_MS), 0);
    assert_int_equal(b->answer.request, request);
    assert_int_equal(b->answer.flags, GW_MSG_VERSION | GW_MSG_REPLY);
}

static const struct gw_wire_inflight *get(struct fixture *b, uint16_t num_queues,
                                          uint16_t queue_size)
{
    struct gw_wire_inflight wire = {.num_queues = num_queues, .queue_size = queue_size};

    ask(b, GW_MSG_GET_INFLIGHT_FD, &wire, sizeof(wire), NULL, 0);
    assert_int_equal(b->answer.size, sizeof(wire));
    return (const void *)b->answer.payload;
}

/* Release the reply, and wait until the daemon has finished handling the message. */
static void settle(struct fixture *b)
{
    uint64_t features;

    gw_frontend_message_done(&b->answer);
    assert_int_equal(gw_frontend_get_features(b->fe, &features), 0);
}

static void get_refused(struct fixture *b, const char *why)
{
    static const uint8_t zeroes[24];

    assert_int_equal(b->answer.size, sizeof(zeroes));
    assert_memory_equal(b->answer.payload, zeroes, sizeof(zeroes));
    assert_int_equal(b->answer.n_fds, 0);
    expect_said(why);
}

static void set(struct fixture *b, const struct gw_wire_inflight *wire, const int *fds,
                unsigned n_fds, const char *why)
{
    ask(b, GW_MSG_SET_INFLIGHT_FD, wire, sizeof(*wire), fds, n_fds);
    assert_int_equal(b->answer.size, 8);
    if (why)
        expect_said(why);
    else if (*(const uint64_t *)(const void *)b->answer.payload != 0)
        fail_msg("%s", said);
    assert_int_equal(*(const uint64_t *)(const void *)b->answer.payload != 0, why != NULL);
}

static int file_of(uint64_t size)
{
    int fd = memfd_create("inflight", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    return fd;
}

/* ---- GET_INFLIGHT_FD ---- */

static void expect_region(const struct fixture *b, uint64_t stride, bool packed)
{
    const int all = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;
    const struct gw_wire_inflight *wire = (const void *)b->answer.payload;
    static uint8_t bytes[2 * (32 + 32 * MADE + 64)];
    struct stat st;

    assert_int_equal(b->answer.n_fds, 1);
    assert_int_equal(fcntl(b->answer.fds[0], F_GET_SEALS), all);
    assert_int_equal(fstat(b->answer.fds[0], &st), 0);
    assert_int_equal(st.st_size, 2 * stride);
    assert_int_equal(wire->mmap_size, 2 * stride);
    assert_int_equal(wire->mmap_offset, 0);
    assert_int_equal(wire->num_queues, 2);
    assert_int_equal(wire->queue_size, RING);
    assert_int_equal(wire->padding, 0);
    assert_int_equal(pread(b->answer.fds[0], bytes, 2 * stride, 0), 2 * stride);
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *part = bytes + i * stride;

        assert_int_equal(part[8] | part[9], 0); /* version */
        assert_int_equal(part[10] | part[11] << 8, MADE);
        assert_int_equal(part[20], packed); /* the wrap counters */
        assert_int_equal(part[21], packed);
        for (unsigned k = 0; packed && k < MADE; k++) /* next */
            assert_int_equal(part[32 + 32 * k + 2] | part[32 + 32 * k + 3] << 8, k + 1);
    }
}

static void test_inflight_session_region_has_the_layout_of_the_rings(void **state)
{
    struct fixture b;

    fixture_begin(&b, 0, PROTOCOL);
    get(&b, 2, RING);
    expect_region(&b, 64 * 257, false);
    gw_frontend_message_done(&b.answer);
    fixture_end(&b);
    fixture_begin(&b, PACKED, PROTOCOL);
    get(&b, 2, RING);
    expect_region(&b, 64 * 513, true);
    gw_frontend_message_done(&b.answer);
    fixture_end(&b);
}

/* Each GET_INFLIGHT_FD creates a new region, and the daemon keeps none of them. */
static void test_inflight_session_many_regions_leave_nothing(void **state)
{
    struct fdcheck *check;
    struct fixture b;

    fixture_begin(&b, PACKED, PROTOCOL);
    get(&b, QUEUES, 32768);
    settle(&b);
    check = fdcheck_begin();
    for (unsigned i = 0; i < 300; i++)
        assert_true(get(&b, QUEUES, 1024)->mmap_size > 0);
    settle(&b);
    assert_int_equal(fdcheck_end(check), 0);
    fixture_end(&b);
}

static void test_inflight_session_impossible_regions_are_answered_with_none(void **state)
{
    static const struct {
        uint16_t num_queues, queue_size;
        const char *why;
    } shapes[] = {
        {0, RING, "for 0 queues, and the device has 4"},
        {QUEUES + 1, RING, "for 5 queues"},
        {65535, RING, "for 65535 queues"},
        {1, 0, "rings of 0 descriptors"},
        {1, 32769, "rings of 32769 descriptors"},
        {1, 65535, "rings of 65535 descriptors"},
    };
    struct gw_wire_inflight wire = {.num_queues = 1, .queue_size = RING};
    int fd = file_of(4096);
    struct fixture b;

    fixture_begin(&b, 0, PROTOCOL);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(shapes); i++) {
        get(&b, shapes[i].num_queues, shapes[i].queue_size);
        get_refused(&b, shapes[i].why);
    }
    ask(&b, GW_MSG_GET_INFLIGHT_FD, &wire, sizeof(wire), &fd, 1);
    get_refused(&b, "1 file descriptors instead of 0");
    ask(&b, GW_MSG_GET_INFLIGHT_FD, &wire, 20, NULL, 0);
    get_refused(&b, "20 bytes");
    assert_int_equal(get(&b, 1, RING)->mmap_size, 64 * 257);
    gw_frontend_message_done(&b.answer);
    fixture_end(&b);

    fixture_begin(&b, 0, PROTOCOL & ~GW_BIT(GW_PROTOCOL_F_INFLIGHT_SHMFD));
    get(&b, 1, RING);
    get_refused(&b, "not negotiated");
    set(&b, &wire, &fd, 1, "not negotiated");
    gw_frontend_message_done(&b.answer);
    fixture_end(&b);
    close(fd);
}

/* ---- SET_INFLIGHT_FD ---- */

static void test_inflight_session_region_may_begin_anywhere_and_be_replaced(void **state)
{
    static const uint64_t offsets[] = {0, 8, 64, 4088, 4096, 12344};
    struct fixture b;

    fixture_begin(&b, 0, PROTOCOL);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(offsets); i++) {
        struct gw_wire_inflight wire = {.mmap_size = 2 * SPLIT_LEN,
                                        .mmap_offset = offsets[i],
                                        .num_queues = 2,
                                        .queue_size = RING};
        int fd = file_of(offsets[i] + wire.mmap_size);

        set(&b, &wire, &fd, 1, NULL);
        close(fd);
    }
    fixture_end(&b);
}

static void test_inflight_session_impossible_regions_are_refused(void **state)
{
    static const struct {
        struct gw_wire_inflight wire;
        const char *why;
    } cases[] = {
        {{2 * SPLIT_LEN - 1, 0, 2, RING, 0}, "is too small for 2 split rings of 16"},
        {{0, 0, 1, RING, 0}, "is too small"},
        {{SPLIT_LEN, 0, 1, RING + 4, 0}, "is too small"},
        {{UINT64_MAX, 0, 2, RING, 0}, "invalid range"},
        {{2 * SPLIT_LEN, UINT64_MAX - 7, 2, RING, 0}, "invalid range"},
        {{2 * SPLIT_LEN, INT64_MAX - 7, 2, RING, 0}, "invalid range"},
        {{8192, 0, 2, RING, 0}, "which has 0x1000"},
        {{4096, 8, 2, RING, 0}, "which has 0x1000"},
        {{2048, 4, 2, RING, 0}, "not aligned to 8"},
        {{2048, 1, 2, RING, 0}, "not aligned to 8"},
        {{4096, 0, 0, RING, 0}, "for 0 queues"},
        {{4096, 0, QUEUES + 1, RING, 0}, "for 5 queues"},
        {{4096, 0, 65535, RING, 0}, "for 65535 queues"},
        {{4096, 0, 2, 0, 0}, "rings of 0"},
        {{4096, 0, 2, 65535, 0}, "rings of 65535"},
    };
    const struct gw_wire_inflight right = {2 * SPLIT_LEN, 0, 2, RING, 0};
    int fds[2] = {file_of(4096), file_of(4096)}, pipes[2];
    struct fixture b;

    fixture_begin(&b, 0, PROTOCOL);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(cases); i++)
        set(&b, &cases[i].wire, fds, 1, cases[i].why);
    set(&b, &right, NULL, 0, "0 file descriptors instead of 1");
    set(&b, &right, fds, 2, "2 file descriptors instead of 1");
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    set(&b, &right, pipes, 1, "neither a file");
    set(&b, &right, fds, 1, NULL);
    fixture_end(&b);
    for (unsigned i = 0; i < 2; i++) {
        close(fds[i]);
        close(pipes[i]);
    }
}

static void io(struct fixture *b, unsigned queue)
{
    struct gw_driver_buf buf = {.addr = 0x180000, .len = 16};
    struct gw_driver_used used;

    assert_int_equal(gw_driver_add(b->drivers[queue], &buf, 0, 1, 7, 0), 0);
    gw_driver_kick(b->drivers[queue]);
    assert_int_equal(gw_driver_wait(b->drivers[queue], WAIT_MS), 0);
    assert_int_equal(gw_driver_take(b->drivers[queue], &used, 1), 1);
}

static void test_inflight_session_region_stays_while_a_ring_runs(void **state)
{
    const struct gw_wire_inflight wire = {QUEUES * SPLIT_LEN, 0, QUEUES, RING, 0};
    int fd = file_of(wire.mmap_size);
    uint16_t version = 0;
    struct fixture b;

    fixture_begin(&b, 0, PROTOCOL);
    set(&b, &wire, &fd, 1, NULL);
    assert_int_equal(gw_frontend_start(b.fe, &b.opt), 0);
    io(&b, 3);
    assert_int_equal(pread(fd, &version, 2, 3 * SPLIT_LEN + 8), 2);
    assert_int_equal(version, 1); /* this region is in use */
    set(&b, &wire, &fd, 1, "queue 0 runs");
    io(&b, 3);
    assert_int_equal(gw_frontend_stop(b.fe, b.drivers, QUEUES), 0);
    set(&b, &wire, &fd, 1, NULL);
    fixture_end(&b);
    close(fd);
}

/* The device refuses a start and completes a request later, which writes to the region. */
static void refuse_with_a_request(uint64_t features)
{
    uint64_t part = features & PACKED ? 64 * 9 : SPLIT_LEN;
    const struct gw_wire_inflight wire = {QUEUES * part, 0, QUEUES, RING, 0};
    const struct gw_driver_buf buf = {.addr = 0x100000 + 0x80000, .len = 16};
    int fd = file_of(wire.mmap_size), other = file_of(wire.mmap_size);
    struct gw_driver_used used;
    struct fixture b;
    uint32_t base;

    fixture_begin(&b, features, PROTOCOL);
    set(&b, &wire, &fd, 1, NULL);
    assert_int_equal(gw_driver_add(b.drivers[0], &buf, 0, 1, 7, 0), 0);
    gw_driver_publish(b.drivers[0]);
    refuses_start = true;
    b.opt.n_drivers = 0;
    assert_int_equal(gw_frontend_start(b.fe, &b.opt), 0); /* only the memory */
    assert_int_equal(gw_frontend_set_vring_enable(b.fe, 0, true), 0);
    assert_int_equal(gw_frontend_start_queue(b.fe, b.drivers[0]), -EREMOTEIO);
    assert_non_null(held);
    expect_said("the device refuses to start it");
    set(&b, &wire, &other, 1, "requests of a refused start of queue 0 have not finished");
    gw_request_complete(held, 16);
    assert_int_equal(gw_frontend_get_vring_base(b.fe, 0, &base), 0);
    assert_int_equal(gw_driver_take(b.drivers[0], &used, 1), 1);
    set(&b, &wire, &other, 1, NULL);
    refuses_start = false;
    fixture_end(&b);
    close(fd);
    close(other);
}

static void test_inflight_session_region_stays_until_late_requests_end(void **state)
{
    refuse_with_a_request(0);
    refuse_with_a_request(PACKED);
}

/*
 * An unsuitable region is detected only when a ring starts, because ring layout, size and number
 * may be negotiated later. The ring then runs untracked, with a warning.
 */
static void expect_untracked(const struct gw_wire_inflight *wire, uint64_t features,
                             const char *why)
{
    int fd = file_of(wire->mmap_size);
    struct fixture b;

    fixture_begin(&b, features, PROTOCOL);
    if (features)
        assert_int_equal(gw_frontend_set_features(b.fe, FEATURES), 0);
    set(&b, wire, &fd, 1, NULL);
    assert_int_equal(gw_frontend_start(b.fe, &b.opt), 0);
    expect_said(why);
    io(&b, 3);
    fixture_end(&b);
    close(fd);
}

static void test_inflight_session_ring_without_a_part_runs_untracked(void **state)
{
    const struct gw_wire_inflight few = {2 * SPLIT_LEN, 0, 2, RING, 0};
    const struct gw_wire_inflight small = {QUEUES * 192, 0, QUEUES, 8, 0};
    const struct gw_wire_inflight split = {QUEUES * SPLIT_LEN, 0, QUEUES, RING, 0};

    expect_untracked(&few, 0,
                     "queue 3: its requests are not tracked, and are lost if this back-end dies: "
                     "the inflight region is for 2 queues");
    expect_untracked(&small, 0, "a ring of 16 descriptors does not fit an inflight region for 8");
    expect_untracked(&split, PACKED, "too small for 4 packed rings of 16");
}

/*
 * The device cannot keep data that it confirmed, so the stop must not be acknowledged. The region
 * keeps the ring's position, because the front-end does not get it.
 */
static void test_inflight_session_failed_stop_ends_the_session(void **state)
{
    const struct gw_wire_inflight wire = {QUEUES * SPLIT_LEN, 0, QUEUES, RING, 0};
    int fd = file_of(wire.mmap_size);
    uint16_t version = 0;
    uint32_t base;
    struct fixture b;

    fixture_begin(&b, 0, PROTOCOL | GW_BIT(GW_PROTOCOL_F_RESET_DEVICE));
    set(&b, &wire, &fd, 1, NULL);
    assert_int_equal(gw_frontend_start(b.fe, &b.opt), 0);
    io(&b, 0);
    assert_int_equal(gw_frontend_get_vring_base(b.fe, 1, &base), 0); /* others stop normally */
    stop_error = -EIO;
    assert_int_not_equal(gw_frontend_reset_device(b.fe), 0);
    expect_said("RESET_DEVICE (34) is refused: queue 0: the device cannot keep what it confirmed: "
                "Input/output error");
    stop_error = 0;
    assert_int_not_equal(gw_frontend_get_vring_base(b.fe, 0, &base), 0);
    assert_int_not_equal(gw_frontend_set_features(b.fe, FEATURES), 0); /* the session has ended */
    gw_daemon_wait(b.daemon);
    expect_said("the session ends: GET_VRING_BASE (11)");
    assert_int_equal(pread(fd, &version, 2, 8), 2);
    assert_int_equal(version, 1);
    assert_int_equal(pread(fd, &version, 2, SPLIT_LEN + 8), 2);
    assert_int_equal(version, 0);
    fixture_end(&b);
    close(fd);
}

/* The file of the region is truncated while rings run: the session ends, the daemon does not. */
static void test_inflight_session_truncated_region_ends_the_session(void **state)
{
    const struct gw_wire_inflight wire = {QUEUES * SPLIT_LEN, 0, QUEUES, RING, 0};
    struct gw_driver_buf buf;
    struct fixture b;
    int ends[2], fd = file_of(wire.mmap_size);

    fixture_begin(&b, 0, PROTOCOL);
    hold_sigbus();
    set(&b, &wire, &fd, 1, NULL);
    assert_int_equal(gw_frontend_start(b.fe, &b.opt), 0);
    buf.len = 64;
    assert_int_equal(gw_guest_mem_alloc(b.mem, buf.len, 16, &buf.addr), 0);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(gw_driver_add(b.drivers[0], &buf, 0, 1, 1, 0), 0);
    gw_driver_kick_always(b.drivers[0]);
    gw_daemon_wait(b.daemon); /* the daemon ends the session itself */
    expect_said("the inflight region: the page at offset");

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(gw_daemon_start(b.daemon, ends[0]), 0);
    gw_frontend_disconnect(b.fe);
    assert_int_equal(gw_frontend_attach(b.fe, ends[1]), 0);
    for (unsigned i = 0; i < QUEUES; i++)
        gw_driver_reset(b.drivers[i], 0);
    assert_int_equal(gw_frontend_negotiate(b.fe, &b.opt), 0);
    assert_int_equal(gw_frontend_start(b.fe, &b.opt), 0);
    io(&b, 0);
    fixture_end(&b);
    close(fd);
}

/* A failure belongs to one stop: in the next session the queue can start and stop again. */
static void test_inflight_session_failed_stop_is_forgotten_at_the_next_start(void **state)
{
    uint32_t base;
    struct fixture b;
    int ends[2];

    fixture_begin(&b, 0, PROTOCOL);
    assert_int_equal(gw_frontend_start(b.fe, &b.opt), 0);
    io(&b, 0);
    stop_error = -ENOSPC;
    assert_int_not_equal(gw_frontend_get_vring_base(b.fe, 0, &base), 0);
    gw_daemon_wait(b.daemon);
    expect_said("No space left on device");
    stop_error = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(gw_daemon_start(b.daemon, ends[0]), 0);
    gw_frontend_disconnect(b.fe);
    assert_int_equal(gw_frontend_attach(b.fe, ends[1]), 0);
    for (unsigned i = 0; i < QUEUES; i++)
        gw_driver_set_base(b.drivers[i], i == 0);
    assert_int_equal(gw_frontend_negotiate(b.fe, &b.opt), 0);
    assert_int_equal(gw_frontend_get_vring_base(b.fe, 0, &base), 0); /* the ring is stopped */
    assert_int_equal(gw_frontend_start(b.fe, &b.opt), 0);
    io(&b, 0);
    assert_int_equal(gw_frontend_get_vring_base(b.fe, 0, &base), 0);
    assert_int_equal(base, 2);
    fixture_end(&b);
}

/* Without SET_VRING_BASE a ring starts at its first slot, a packed one in its first lap. */
static void test_inflight_session_ring_without_a_base_begins_at_0(void **state)
{
    struct gw_frontend_vring_addr addr;
    struct gw_driver *d;
    uint32_t base;
    struct fixture b;

    for (unsigned packed = 0; packed < 2; packed++) {
        fixture_begin(&b, packed ? PACKED : 0, PROTOCOL);
        b.opt.n_drivers = 0; /* only memory */
        assert_int_equal(gw_frontend_start(b.fe, &b.opt), 0);
        d = b.drivers[0];
        addr = gw_frontend_vring_addr_of(d);
        assert_int_equal(gw_frontend_set_vring_num(b.fe, 0, RING), 0);
        assert_int_equal(gw_frontend_set_vring_addr(b.fe, 0, &addr), 0);
        assert_int_equal(gw_frontend_set_vring_kick(b.fe, 0, gw_driver_kick_fd(d)), 0);
        assert_int_equal(gw_frontend_set_vring_call(b.fe, 0, gw_driver_call_fd(d)), 0);
        assert_int_equal(gw_frontend_set_vring_enable(b.fe, 0, true), 0);
        io(&b, 0);
        assert_int_equal(gw_frontend_get_vring_base(b.fe, 0, &base), 0);
        assert_int_equal(base, packed ? 0x80018001 : 1);
        fixture_end(&b);
    }
}

/* The device can detect that its driver may have set it up in an earlier session. */
static void test_inflight_session_of_a_driver_of_before_is_taken_over(void **state)
{
    const struct gw_wire_inflight wire = {QUEUES * SPLIT_LEN, 0, QUEUES, RING, 0};
    int fd = file_of(wire.mmap_size), ends[2];
    uint32_t base;
    struct fixture b;

    fixture_begin(&b, 0, PROTOCOL);
    set(&b, &wire, &fd, 1, NULL);
    assert_int_equal(gw_frontend_start(b.fe, &b.opt), 0);
    io(&b, 0);
    assert_int_equal(gw_frontend_get_vring_base(b.fe, 0, &base), 0);
    gw_driver_set_base(b.drivers[0], base);
    assert_int_equal(gw_frontend_start_queue(b.fe, b.drivers[0]), 0);
    assert_int_equal(n_taken_over, 0);
    assert_int_equal(n_resets, 0);

    gw_frontend_disconnect(b.fe);
    gw_daemon_wait(b.daemon);
    assert_int_equal(n_resets, 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(gw_daemon_start(b.daemon, ends[0]), 0);
    assert_int_equal(gw_frontend_attach(b.fe, ends[1]), 0);
    assert_int_equal(gw_frontend_negotiate(b.fe, &b.opt), 0);
    assert_int_equal(gw_frontend_set_features(b.fe, FEATURES), 0);
    set(&b, &wire, &fd, 1, NULL);
    assert_int_equal(gw_frontend_start(b.fe, &b.opt), 0);
    assert_int_equal(n_taken_over, QUEUES);
    assert_int_equal(gw_frontend_get_vring_base(b.fe, 0, &base), 0);
    gw_driver_set_base(b.drivers[0], base);
    assert_int_equal(gw_frontend_start_queue(b.fe, b.drivers[0]), 0);
    assert_int_equal(n_taken_over, QUEUES); /* this session has the region */
    fixture_end(&b);
    assert_int_equal(n_resets, 2);
    close(fd);
}

/*
 * With only INFLIGHT negotiated, GET_VRING_BASE may leave requests in flight. With
 * GET_VRING_BASE_SKIP_DRAIN negotiated as well, GET_VRING_BASE drains, and only the new message
 * may leave requests.
 */
static void test_inflight_session_stop_that_may_suspend(void **state)
{
    const struct gw_wire_inflight wire = {QUEUES * SPLIT_LEN, 0, QUEUES, RING, 0};
    const uint64_t inflight = PROTOCOL | GW_BIT(GW_PROTOCOL_F_GET_VRING_BASE_INFLIGHT);
    const uint64_t both = inflight | GW_BIT(GW_PROTOCOL_F_GET_VRING_BASE_SKIP_DRAIN);
    const struct {
        uint64_t protocol;
        bool skip_drain, may_suspend;
    } cases[] = {
        {PROTOCOL, false, false},
        {inflight, false, true},
        {both, false, false},
        {both, true, true},
    };

    for (unsigned i = 0; i < GW_ARRAY_SIZE(cases); i++) {
        int fd = file_of(wire.mmap_size);
        uint32_t base;
        struct fixture b;

        fixture_begin(&b, 0, cases[i].protocol);
        set(&b, &wire, &fd, 1, NULL);
        assert_int_equal(gw_frontend_start(b.fe, &b.opt), 0);
        io(&b, 0);
        may_suspend = !cases[i].may_suspend;
        assert_int_equal(cases[i].skip_drain ? gw_frontend_get_vring_base_skip_drain(b.fe, 0, &base)
                                             : gw_frontend_get_vring_base(b.fe, 0, &base),
                         0);
        assert_int_equal(may_suspend, cases[i].may_suspend);
        fixture_end(&b);
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* Must be first, because the library installs its handler once (hold_sigbus.h). */
        FDCHECK_TEST(test_inflight_session_truncated_region_ends_the_session),
        FDCHECK_TEST(test_inflight_session_region_has_the_layout_of_the_rings),
        FDCHECK_TEST(test_inflight_session_many_regions_leave_nothing),
        FDCHECK_TEST(test_inflight_session_impossible_regions_are_answered_with_none),
        FDCHECK_TEST(test_inflight_session_region_may_begin_anywhere_and_be_replaced),
        FDCHECK_TEST(test_inflight_session_impossible_regions_are_refused),
        FDCHECK_TEST(test_inflight_session_region_stays_while_a_ring_runs),
        FDCHECK_TEST(test_inflight_session_region_stays_until_late_requests_end),
        FDCHECK_TEST(test_inflight_session_ring_without_a_part_runs_untracked),
        FDCHECK_TEST(test_inflight_session_failed_stop_ends_the_session),
        FDCHECK_TEST(test_inflight_session_failed_stop_is_forgotten_at_the_next_start),
        FDCHECK_TEST(test_inflight_session_ring_without_a_base_begins_at_0),
        FDCHECK_TEST(test_inflight_session_of_a_driver_of_before_is_taken_over),
        FDCHECK_TEST(test_inflight_session_stop_that_may_suspend),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
