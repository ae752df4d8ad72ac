/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Well-formed messages with invalid content: rings, memory, features, config space and descriptors
 * that are impossible, or not allowed in the current state. Each case names the expected log
 * message. After each case the daemon is unaffected (fixture_check), and a running queue continues
 * if the message was refused.
 */
#include "../fixtures/bad.h"
#include "fdcheck.h"
#include "requires.h"

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define UVA(offset) (GUEST_UVA + GUEST_GPA + (offset))
#define MAX64       UINT64_MAX

struct config {
    uint32_t offset, size, flags;
    uint8_t data[260];
};

/* One valid region for SET_MEM_TABLE and ADD_MEM_REG cases to modify. */
#define GPA2 UINT64_C(0x80000000)
#define REGION_OK                 \
    {                             \
        GPA2, GUEST_SIZE, GPA2, 0 \
    }
#define TABLE_OF(n)   (8 + 32 * (n))
#define STATE_OF(...) .size = 8, .payload.state = {__VA_ARGS__}
#define ADDR_OF(...)  .size = 40, .payload.addr = {__VA_ARGS__}
#define U64_OF(v)     .size = 8, .payload.u64 = (v)
#define ADD_OF(...) \
    .request = 37, .size = 40, .payload.single = {.region = {__VA_ARGS__}}, .n_fds = 1
#define REM_OF(...)       .request = 38, .size = 40, .payload.single = {.region = {__VA_ARGS__}}
#define LOG_OF(...)       .request = 6, .size = 16, .payload.log = {__VA_ARGS__}, .n_fds = 1
#define CONFIG_OF(n, ...) .size = 12 + (n), .payload.config = {__VA_ARGS__}

struct bad_case {
    const char *name;
    enum stage stage;
    uint32_t request;
    uint32_t size;
    union {
        uint64_t u64;
        struct gw_wire_vring_state state;
        struct gw_wire_vring_addr addr;
        struct gw_wire_mem_table table;
        struct gw_wire_single_region single;
        struct gw_wire_log log;
        struct config config;
    } payload;
    unsigned n_fds;
    enum fd_kind kind;
    enum outcome outcome;
    const char *text; /* expected in the daemon's log */
};

/* clang-format off */
static const struct bad_case cases[] = {
    /* Features. */
    {"feature 40", STAGE_READY, 2, U64_OF(UINT64_C(1) << 40), 0, 0, REFUSED, "were not offered"},
    {"all features", STAGE_READY, 2, U64_OF(MAX64), 0, 0, REFUSED, "were not offered"},
    {"features before anything", STAGE_BARE, 2, U64_OF(MAX64), 0, 0, REFUSED, "were not offered"},
    {"features change while a queue runs", STAGE_RUNNING, 2, U64_OF(0), 0, 0, REFUSED,
     "change while queue"},
    {"protocol feature 63", STAGE_READY, 16, U64_OF(UINT64_C(1) << 63), 0, 0, REFUSED,
     "were not offered"},
    {"all protocol features", STAGE_READY, 16, U64_OF(MAX64), 0, 0, REFUSED, "were not offered"},
    {"protocol features without 30", STAGE_NO_30, 16, U64_OF(MAX64), 0, 0, REFUSED,
     "were not offered"},

    /* Ring sizes and bases. */
    {"ring of 0", STAGE_READY, 8, STATE_OF(0, 0), 0, 0, REFUSED, "is not a power of two"},
    {"ring of 3", STAGE_READY, 8, STATE_OF(0, 3), 0, 0, REFUSED, "is not a power of two"},
    {"ring of 4096", STAGE_READY, 8, STATE_OF(0, 4096), 0, 0, REFUSED, "is not a power of two up"},
    {"ring of 32769", STAGE_READY, 8, STATE_OF(0, 32769), 0, 0, REFUSED, "is not a power of two"},
    {"ring of 65536", STAGE_READY, 8, STATE_OF(0, 65536), 0, 0, REFUSED, "is not a power of two"},
    {"ring of 2^31", STAGE_READY, 8, STATE_OF(0, 1u << 31), 0, 0, REFUSED, "is not a power of two"},
    {"base 65536", STAGE_READY, 10, STATE_OF(0, 65536), 0, 0, REFUSED, "beyond 16 bits"},
    {"base 2^32-1", STAGE_READY, 10, STATE_OF(0, UINT32_MAX), 0, 0, REFUSED, "beyond 16 bits"},
    {"base 65535", STAGE_READY, 10, STATE_OF(0, 65535), 0, 0, ACCEPTED, NULL},
    {"size while it runs", STAGE_RUNNING, 8, STATE_OF(0, 8), 0, 0, REFUSED, "queue 0 runs"},
    {"base while it runs", STAGE_RUNNING, 10, STATE_OF(0, 8), 0, 0, REFUSED, "queue 0 runs"},
    {"addresses while it runs", STAGE_RUNNING, 9, ADDR_OF(0, 0, UVA(0), UVA(4096), UVA(8192), 0),
     0, 0, REFUSED, "queue 0 runs"},

    /* Ring addresses. Their location is only checked when the ring starts: see test_addresses. */
    {"descriptors at +8", STAGE_READY, 9, ADDR_OF(0, 0, UVA(8), UVA(4096), UVA(8192), 0), 0, 0,
     REFUSED, "not aligned"},
    {"used ring at +2", STAGE_READY, 9, ADDR_OF(0, 0, UVA(0), UVA(4098), UVA(8192), 0), 0, 0,
     REFUSED, "not aligned"},
    {"available ring at +1", STAGE_READY, 9, ADDR_OF(0, 0, UVA(0), UVA(4096), UVA(8193), 0), 0, 0,
     REFUSED, "not aligned"},

    /* Start and enable. */
    {"start before the addresses", STAGE_NEW, 12, U64_OF(0), 1, FD_EVENTFD, REFUSED,
     "before SET_VRING_ADDR"},
    {"start of nothing, polled", STAGE_NEW, 12, U64_OF(0x100), 0, 0, REFUSED,
     "before SET_VRING_ADDR"},
    {"enable by 2", STAGE_READY, 18, STATE_OF(0, 2), 0, 0, REFUSED, "not 0 or 1"},
    {"enable by 2^32-1", STAGE_RUNNING, 18, STATE_OF(0, UINT32_MAX), 0, 0, REFUSED, "not 0 or 1"},
    {"enable without feature 30", STAGE_NO_30, 18, STATE_OF(0, 1), 0, 0, REFUSED,
     "was not negotiated"},
    {"stop of a stopped queue", STAGE_READY, 11, STATE_OF(0, 0), 0, 0, ACCEPTED, NULL},
    {"stop of a queue never described", STAGE_NEW, 11, STATE_OF(0, 0), 0, 0, ACCEPTED, NULL},

    /* Memory tables. */
    {"9 regions", STAGE_NEW, 5, TABLE_OF(8) + 32, .payload.table = {9, 0, {REGION_OK}}, 8,
     FD_MEMFD, REFUSED, "its payload is"},
    {"9 regions in the room of 8", STAGE_NEW, 5, TABLE_OF(8), .payload.table = {9, 0, {REGION_OK}},
     8, FD_MEMFD, REFUSED, "file descriptors instead"},
    {"2^32-1 regions", STAGE_NEW, 5, TABLE_OF(1), .payload.table = {UINT32_MAX, 0, {REGION_OK}}, 1,
     FD_MEMFD, REFUSED, "file descriptors instead"},
    {"2 regions in the room of 1", STAGE_NEW, 5, TABLE_OF(1), .payload.table = {2, 0, {REGION_OK}},
     2, FD_MEMFD, REFUSED, "does not hold 2 regions"},
    {"1 region in the room of 2", STAGE_NEW, 5, TABLE_OF(2), .payload.table = {1, 0, {REGION_OK}},
     1, FD_MEMFD, ACCEPTED, "queue 1 is broken"},
    {"1 region in the room of 1.5", STAGE_NEW, 5, TABLE_OF(1) + 16,
     .payload.table = {1, 0, {REGION_OK}}, 1, FD_MEMFD, REFUSED, "does not hold 1 regions"},
    {"no region in the room of 1", STAGE_NEW, 5, TABLE_OF(1), .payload.table = {0, 0, {REGION_OK}},
     0, FD_MEMFD, ACCEPTED, "queue 1 is broken"},
    {"a table of 0 regions", STAGE_NEW, 5, TABLE_OF(0), .payload.table = {0}, 0, 0, ACCEPTED,
     "queue 1 is broken"},
    {"overlap in a table", STAGE_RUNNING, 5, TABLE_OF(2),
     .payload.table = {2, 0, {REGION_OK, {GPA2 + GUEST_SIZE - 1, 4096, 0, 0}}}, 2, FD_MEMFD,
     REFUSED, "overlap"},
    {"a table with an empty region", STAGE_RUNNING, 5, TABLE_OF(2),
     .payload.table = {2, 0, {REGION_OK, {0, 0, 0, 0}}}, 2, FD_MEMFD, REFUSED, "is empty"},
    {"a table on a pipe", STAGE_RUNNING, 5, TABLE_OF(1), .payload.table = {1, 0, {REGION_OK}}, 1,
     FD_PIPE_READ, REFUSED, "is neither a file nor"},

    /* Single regions. */
    {"region of 0 bytes", STAGE_RUNNING, ADD_OF(GPA2, 0, GPA2, 0), FD_MEMFD, REFUSED, "is empty"},
    {"guest addresses wrap", STAGE_RUNNING, ADD_OF(MAX64 - 4095, 8192, GPA2, 0), FD_MEMFD, REFUSED,
     "wraps around"},
    {"user addresses wrap", STAGE_RUNNING, ADD_OF(GPA2, 8192, MAX64 - 4095, 0), FD_MEMFD, REFUSED,
     "wraps around"},
    {"the last page of the address space", STAGE_RUNNING, ADD_OF(MAX64 - 4095, 4096, GPA2, 0),
     FD_MEMFD, ACCEPTED, NULL},
    {"offset wraps", STAGE_RUNNING, ADD_OF(GPA2, 8192, GPA2, MAX64 - 4095), FD_MEMFD, REFUSED,
     "wraps around"},
    {"offset of 2^63", STAGE_RUNNING, ADD_OF(GPA2, 4096, GPA2, UINT64_C(1) << 63), FD_MEMFD,
     REFUSED, "wraps around"},
    {"size of 2^64-1", STAGE_RUNNING, ADD_OF(0, MAX64, 0, 0), FD_MEMFD, REFUSED, "wraps around"},
    {"size of 2^62", STAGE_RUNNING, ADD_OF(GPA2, UINT64_C(1) << 62, GPA2, 0), FD_MEMFD, REFUSED,
     "bytes of its file, which has"},
    {"file shorter by a byte", STAGE_RUNNING, ADD_OF(GPA2, GUEST_SIZE, GPA2, 0), FD_MEMFD_SHORT,
     REFUSED, "bytes of its file, which has"},
    {"offset beyond the file", STAGE_RUNNING, ADD_OF(GPA2, GUEST_SIZE, GPA2, 4096), FD_MEMFD,
     REFUSED, "bytes of its file, which has"},
    {"read-only file", STAGE_RUNNING, ADD_OF(GPA2, GUEST_SIZE, GPA2, 0), FD_MEMFD_READ_ONLY,
     REFUSED, "must be open for writing"},
    {"pipe for memory", STAGE_RUNNING, ADD_OF(GPA2, 4096, GPA2, 0), FD_PIPE_READ, REFUSED, "is neither a file nor"},
    {"socket for memory", STAGE_RUNNING, ADD_OF(GPA2, 4096, GPA2, 0), FD_SOCKET, REFUSED, "is neither a file nor"},
    {"directory for memory", STAGE_RUNNING, ADD_OF(GPA2, 4096, GPA2, 0), FD_DIRECTORY, REFUSED,
     "is neither a file nor"},
    {"eventfd for memory", STAGE_RUNNING, ADD_OF(GPA2, 4096, GPA2, 0), FD_EVENTFD, REFUSED,
     "is neither a file nor"},
    {"overlap with an existing region", STAGE_RUNNING, ADD_OF(GUEST_GPA + GUEST_SIZE - 1, 4096, GPA2, 0),
     FD_MEMFD, REFUSED, "overlap"},
    {"the same region twice", STAGE_RUNNING,
     ADD_OF(GUEST_GPA, GUEST_SIZE, GUEST_UVA + GUEST_GPA, 0), FD_MEMFD, REFUSED, "overlap"},
    {"removal of no region", STAGE_RUNNING, REM_OF(GPA2, GUEST_SIZE, GPA2, 0), 0, 0, REFUSED,
     "there is no memory region"},
    {"removal at another user address", STAGE_RUNNING,
     REM_OF(GUEST_GPA, GUEST_SIZE, GUEST_GPA, 0), 0, 0, REFUSED, "there is no memory region"},
    {"removal of another size", STAGE_RUNNING,
     REM_OF(GUEST_GPA, GUEST_SIZE - 4096, GUEST_UVA + GUEST_GPA, 0), 0, 0, REFUSED,
     "there is no memory region"},
    {"removal in the middle", STAGE_RUNNING,
     REM_OF(GUEST_GPA + 4096, GUEST_SIZE, GUEST_UVA + GUEST_GPA, 0), 0, 0, REFUSED,
     "there is no memory region"},

    /* The dirty log. SET_LOG_BASE has its own answer, so every refusal ends the session. */
    {"log of 0 bytes", STAGE_RUNNING, LOG_OF(0, 0), FD_MEMFD, ENDS, "invalid range"},
    {"log wraps", STAGE_RUNNING, LOG_OF(0x10000, MAX64 - 4095), FD_MEMFD, ENDS, "invalid range"},
    {"log of 2^64-1 bytes", STAGE_RUNNING, LOG_OF(MAX64, 0), FD_MEMFD, ENDS, "invalid range"},
    {"log too short by a byte", STAGE_RUNNING,
     LOG_OF((GUEST_GPA + GUEST_SIZE) / 4096 / 8 - 1, 0), FD_MEMFD, ENDS, "does not cover"},
    {"log just long enough, at an odd offset", STAGE_RUNNING,
     LOG_OF((GUEST_GPA + GUEST_SIZE) / 4096 / 8, 12345), FD_MEMFD, ACCEPTED, NULL},
    {"log beyond its file", STAGE_RUNNING, LOG_OF(GUEST_SIZE, 1), FD_MEMFD, ENDS,
     "bytes of its file"},
    {"log on a pipe", STAGE_RUNNING, LOG_OF(0x10000, 0), FD_PIPE_READ, ENDS, "is neither a file nor"},
    {"log on an eventfd", STAGE_RUNNING, LOG_OF(0x10000, 0), FD_EVENTFD, ENDS, "is neither a file nor"},
    {"log on a read-only file", STAGE_RUNNING, LOG_OF(0x10000, 0), FD_MEMFD_READ_ONLY, ENDS,
     "mmap"},
    {"log at an address", STAGE_GATED, 6, U64_OF(4096), 0, 0, REFUSED, "out of reach"},

    /* Config space. */
    {"config at 4096", STAGE_RUNNING, 24, CONFIG_OF(8, 4096, 8, 0), 0, 0, EMPTY, "is beyond"},
    {"config at 4089", STAGE_RUNNING, 24, CONFIG_OF(8, 4089, 8, 0), 0, 0, EMPTY, "is beyond 4096"},
    {"config at 2^32-1", STAGE_RUNNING, 24, CONFIG_OF(8, UINT32_MAX, 8, 0), 0, 0, EMPTY,
     "is beyond"},
    {"config of 2^32-1 bytes", STAGE_RUNNING, 24, CONFIG_OF(8, 0, UINT32_MAX, 0), 0, 0, EMPTY,
     "is beyond"},
    {"config of less than it holds", STAGE_RUNNING, 24, CONFIG_OF(8, 0, 4, 0), 0, 0, EMPTY,
     "is to hold"},
    {"config of more than it holds", STAGE_RUNNING, 24, CONFIG_OF(8, 0, 16, 0), 0, 0, EMPTY,
     "is to hold"},
    {"config the device has not", STAGE_RUNNING, 24, CONFIG_OF(8, DISK_CONFIG, 8, 0), 0, 0, EMPTY,
     "the device cannot give"},
    {"config write with flags 2", STAGE_RUNNING, 25, CONFIG_OF(8, 0, 8, 2), 0, 0, REFUSED,
     "flags 0x2 are unknown"},
    {"config write at 2^32-1", STAGE_RUNNING, 25, CONFIG_OF(8, UINT32_MAX, 8, 0), 0, 0, REFUSED,
     "is beyond"},
    {"config write of more than it holds", STAGE_RUNNING, 25, CONFIG_OF(8, 0, 9, 0), 0, 0, REFUSED,
     "is to hold"},
    {"config write the device refuses", STAGE_RUNNING, 25, CONFIG_OF(8, DISK_CONFIG, 8, 0), 0, 0,
     REFUSED, "the device refuses"},

    /* The back-end channel. */
    {"channel: pipe", STAGE_RUNNING, 21, .n_fds = 1, .kind = FD_PIPE_WRITE, .outcome = REFUSED,
     .text = "SET_BACKEND_REQ_FD (21) is refused"},
    {"channel: listening socket", STAGE_RUNNING, 21, .n_fds = 1, .kind = FD_SOCKET_LISTENING,
     .outcome = REFUSED, .text = "is a listening socket"},
    {"channel: eventfd", STAGE_RUNNING, 21, .n_fds = 1, .kind = FD_EVENTFD, .outcome = REFUSED,
     .text = "SET_BACKEND_REQ_FD (21) is refused"},
    {"channel: memory", STAGE_RUNNING, 21, .n_fds = 1, .kind = FD_MEMFD, .outcome = REFUSED,
     .text = "SET_BACKEND_REQ_FD (21) is refused"},
    {"channel: nobody at its end", STAGE_RUNNING, 21, .n_fds = 1, .kind = FD_SOCKET_NO_PEER,
     .outcome = ACCEPTED},

    /* Messages that require a protocol feature that was not negotiated. */
    {"GET_QUEUE_NUM, ungated", STAGE_GATED, 17, .outcome = ENDS, .text = "was not negotiated"},
    {"SET_BACKEND_REQ_FD, ungated", STAGE_GATED, 21, .n_fds = 1, .kind = FD_SOCKET,
     .outcome = REFUSED, .text = "was not negotiated"},
    {"GET_CONFIG, ungated", STAGE_GATED, 24, CONFIG_OF(8, 0, 8, 0), 0, 0, EMPTY,
     "was not negotiated"},
    {"SET_CONFIG, ungated", STAGE_GATED, 25, CONFIG_OF(8, 0, 8, 0), 0, 0, REFUSED,
     "was not negotiated"},
    {"RESET_DEVICE, ungated", STAGE_GATED, 34, .outcome = REFUSED, .text = "was not negotiated"},
    {"GET_MAX_MEM_SLOTS, ungated", STAGE_GATED, 36, .outcome = ENDS, .text = "was not negotiated"},
    {"ADD_MEM_REG, ungated", STAGE_GATED, ADD_OF(GPA2, GUEST_SIZE, GPA2, 0), FD_MEMFD, REFUSED,
     "was not negotiated"},
    {"REM_MEM_REG, ungated", STAGE_GATED, REM_OF(GPA2, GUEST_SIZE, GPA2, 0), 0, 0, REFUSED,
     "was not negotiated"},
    {"RESET_OWNER", STAGE_READY, 4, .outcome = ACCEPTED},
};
/* clang-format on */

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

static struct fixture fixture;
static unsigned n_run, n_failed;

/* After a refusal, queue 1, and in STAGE_RUNNING also queue 0, continues unaffected. */
static bool still_runs(struct guest *g, const struct bad_case *c)
{
    unsigned first = c->stage == STAGE_RUNNING ? 0 : 1;

    for (unsigned i = first; i < FIXTURE_QUEUES; i++) {
        int r = guest_io(g, i, 1024 + 8 * i, (uint8_t)n_run);
        if (r < 0) {
            fprintf(stderr, "%s: then queue %u: %s\n", c->name, i, strerror(-r));
            return false;
        }
    }
    return true;
}

static void run_case(const struct bad_case *c, bool ack)
{
    struct bad_message m = {
        .request = c->request,
        .flags = GW_MSG_VERSION,
        .size = c->size,
        .payload = &c->payload,
        .length = c->size,
        .n_fds = c->n_fds,
    };
    bool queues_run = c->stage != STAGE_BARE && c->stage != STAGE_GATED && c->stage != STAGE_NO_30;
    int fds[GW_MSG_FDS_MAX];
    struct guest g;
    bool good;

    n_run++;
    for (unsigned i = 0; i < c->n_fds; i++)
        fds[i] = fd_make(c->kind);
    m.fds = fds;
    fixture_forget(&fixture);
    good = bad_stage(&fixture, &g, c->stage, ack) == 0 && bad_send(&g, c->name, &m, c->outcome) &&
           (!c->text || fixture_says(&fixture, c->text));
    if (good && queues_run && (c->outcome == EMPTY || (c->outcome == REFUSED && ack)))
        good = still_runs(&g, c);
    guest_done(&g);
    for (unsigned i = 0; i < c->n_fds; i++)
        close(fds[i]);
    fds_done();
    if (!good || !fixture_check(&fixture, c->name)) {
        fprintf(stderr, "FAILED: %s, REPLY_ACK %d\n", c->name, ack);
        n_failed++;
    }
}

static void run_both(const struct bad_case *c)
{
    if (c->stage != STAGE_BARE && c->stage != STAGE_NO_30)
        run_case(c, true);
    run_case(c, false);
}

static void begin(enum gw_loop_kind loop)
{
    n_run = n_failed = 0;
    fixture_start(&fixture, &(struct fixture_config){.loop = loop});
}

static void end(void)
{
    fixture_stop(&fixture);
    printf("%u cases\n", n_run);
    assert_int_equal(n_failed, 0);
}

static void test_table(void **state)
{
    (void)state;
    begin(GW_LOOP_AUTO);
    for (unsigned i = 0; i < N_CASES; i++)
        run_both(&cases[i]);
    end();
}

/* A nonexistent ring index, in each message that has one. */
static void test_ring_index(void **state)
{
    static const uint32_t requests[] = {8, 9, 10, 11, 12, 13, 14, 18};
    static const uint32_t indices[] = {FIXTURE_QUEUES, 255, 256 + 2, 1u << 31, UINT32_MAX};
    char name[64];
    (void)state;

    begin(GW_LOOP_AUTO);
    for (unsigned i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        bool by_fd = requests[i] >= 12 && requests[i] <= 14;
        struct bad_case c = {.name = name,
                             .stage = STAGE_RUNNING,
                             .request = requests[i],
                             .size = requests[i] == 9 ? 40 : 8,
                             .kind = FD_EVENTFD,
                             .outcome = requests[i] == 11 ? ENDS : REFUSED,
                             .text = "there is no queue"};

        for (unsigned k = 0; k < sizeof(indices) / sizeof(indices[0]); k++) {
            snprintf(name, sizeof(name), "message %u, queue %u", requests[i], indices[k]);
            c.payload.u64 = indices[k];
            /* Bit 8 means that the message has no descriptor. */
            c.n_fds = by_fd && !(indices[k] & GW_VRING_FD_NONE);
            run_both(&c);
        }
        if (by_fd) {
            c.payload.u64 = UINT64_C(1) << 63;
            c.n_fds = 1;
            run_both(&c);
        }
    }
    end();
}

/* Rings that are outside guest memory, completely or in part. */
static void test_addresses(void **state)
{
    static const struct {
        const char *name;
        uint64_t desc, used, avail;
    } rings[] = {
        {"descriptors nowhere", 0x1000, UVA(4096), UVA(8192)},
        {"used ring nowhere", UVA(0), 0x1000, UVA(8192)},
        {"available ring nowhere", UVA(0), UVA(4096), 0x1000},
        {"guest addresses", GUEST_GPA, GUEST_GPA + 4096, GUEST_GPA + 8192},
        {"descriptors over the end", UVA(GUEST_SIZE - 240), UVA(0), UVA(4096)},
        {"used ring over the end", UVA(0), UVA(GUEST_SIZE - 132), UVA(4096)},
        {"available ring over the end", UVA(0), UVA(4096), UVA(GUEST_SIZE - 36)},
        {"descriptors wrap", MAX64 - 15, UVA(0), UVA(4096)},
        {"used ring wraps", UVA(0), MAX64 - 3, UVA(4096)},
        {"available ring wraps", UVA(0), UVA(4096), MAX64 - 1},
        {"in front of the region", UVA(0) - 16, UVA(0), UVA(4096)},
    };
    (void)state;

    begin(GW_LOOP_AUTO);
    for (unsigned i = 0; i < sizeof(rings) / sizeof(rings[0]); i++) {
        struct gw_frontend_vring_addr addr = {
            .desc = rings[i].desc, .used = rings[i].used, .avail = rings[i].avail};
        struct bad_case c = {.name = rings[i].name, .stage = STAGE_READY};
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        struct bad_message m = {.request = 12,
                                .flags = GW_MSG_VERSION,
                                .size = 8,
                                .payload = &c.payload,
                                .length = 8,
                                .fds = &fd,
                                .n_fds = 1};
        struct guest g;

        n_run++;
        fixture_forget(&fixture);
        assert_int_equal(bad_stage(&fixture, &g, STAGE_READY, true), 0);
        assert_int_equal(gw_frontend_set_vring_addr(g.fe, 0, &addr), 0);
        assert_true(bad_send(&g, c.name, &m, REFUSED));
        assert_true(fixture_says(&fixture, "is not in guest memory"));
        /* With valid addresses it starts. */
        assert_true(still_runs(&g, &c));
        gw_driver_set_features(g.drivers[0], gw_frontend_features(g.fe));
        assert_int_equal(gw_frontend_start_queue(g.fe, g.drivers[0]), 0);
        assert_int_equal(gw_frontend_set_vring_enable(g.fe, 0, true), 0);
        assert_int_equal(guest_io(&g, 0, 0, 0x77), 0);
        guest_done(&g);
        close(fd);
        assert_true(fixture_check(&fixture, c.name));
    }
    end();
}

/* Holes do not count towards our memory limit, which is the same for tables and single regions. */
static void test_size_of_memory(void **state)
{
    static const uint64_t tib = UINT64_C(1) << 40;
    const struct bad_case added = {"32 TiB more", STAGE_RUNNING, ADD_OF(GPA2, 32 * tib, GPA2, 0)};
    const struct bad_case table = {
        "a table of 32 TiB and a page",
        STAGE_RUNNING,
        5,
        TABLE_OF(3),
        .payload.table = {3,
                          0,
                          {{GPA2, 16 * tib, GPA2, 0},
                           {GPA2 + 16 * tib, 16 * tib, GPA2 + 16 * tib, 0},
                           {0, 4096, 0, 0}}},
        .n_fds = 3};
    const struct bad_case *const both[] = {&added, &table};
    (void)state;

    if (is_under_valgrind() || is_under_tsan())
        skip();
    begin(GW_LOOP_AUTO);
    for (unsigned i = 0; i < 2; i++) {
        const struct bad_case *c = both[i];
        int fd = memfd_create("vast", MFD_CLOEXEC), fds[] = {fd, fd, fd};
        struct bad_message m = {.request = c->request,
                                .flags = GW_MSG_VERSION,
                                .size = c->size,
                                .payload = &c->payload,
                                .length = c->size,
                                .fds = fds,
                                .n_fds = c->n_fds};
        struct guest g;

        n_run++;
        assert_int_equal(ftruncate(fd, (off_t)(32 * tib)), 0);
        fixture_forget(&fixture);
        assert_int_equal(bad_stage(&fixture, &g, c->stage, true), 0);
        assert_true(bad_send(&g, c->name, &m, REFUSED));
        assert_true(fixture_says(&fixture, "guest memory exceeds the limit of 32 TiB"));
        assert_true(still_runs(&g, c));
        guest_done(&g);
        close(fd);
        assert_true(fixture_check(&fixture, c->name));
    }
    end();
}

/* Kick, call and error descriptors that are not eventfds, on stopped and on running queues. */
static void run_event_fds(enum gw_loop_kind loop)
{
    static const uint32_t requests[] = {12, 13, 14, 7};
    static const enum stage stages[] = {STAGE_READY, STAGE_RUNNING};
    char name[128];

    begin(loop);
    for (unsigned i = 0; i < 4 * 2 * N_FD_KINDS; i++) {
        struct bad_case c = {.name = name,
                             .stage = stages[i % 2],
                             .request = requests[i / 2 % 4],
                             .size = 8,
                             .n_fds = 1,
                             .kind = (enum fd_kind)(i / 8)};
        bool right = c.kind == FD_EVENTFD || c.kind == FD_EVENTFD_FULL_BLOCKING;

        c.outcome = right ? ACCEPTED : REFUSED;
        c.text = right ? NULL : "is not an eventfd";
        snprintf(name, sizeof(name), "message %u with a %s, %s", c.request, fd_kind_name(c.kind),
                 c.stage == STAGE_READY ? "stopped" : "running");
        run_both(&c);
    }
    end();
}

static void test_event_fds_epoll(void **state)
{
    (void)state;
    run_event_fds(GW_LOOP_EPOLL);
}

static void test_event_fds_uring(void **state)
{
    (void)state;
    if (!fixture_has_uring())
        skip();
    run_event_fds(GW_LOOP_URING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_table),           FDCHECK_TEST(test_ring_index),
        FDCHECK_TEST(test_addresses),       FDCHECK_TEST(test_event_fds_epoll),
        FDCHECK_TEST(test_event_fds_uring), FDCHECK_TEST(test_size_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
