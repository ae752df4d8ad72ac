/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Malformed frames: for every message the library knows, each way in which its size, flags or
 * descriptors can be wrong; and unknown message ids; with and without REPLY_ACK. The payloads are
 * always valid: the first case of each message is accepted. it_bad_input tests invalid payloads.
 */
#include "../fixtures/bad.h"
#include "fdcheck.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FDS_MAX 64

struct message {
    const char *name;
    uint32_t request;
    uint32_t size;
    unsigned n_fds;
    unsigned n_fds_max; /* if more are valid, too */
    enum fd_kind kind;
    uint64_t payload[6]; /* its first words */
    bool is_flexible;    /* the handler itself refuses a longer payload */
};

static const struct message messages[] = {
    {.name = "GET_FEATURES", .request = 1},
    {.name = "SET_FEATURES",
     .request = 2,
     .size = 8,
     .payload = {GUEST_FEATURES | GUEST_EVENT_IDX}},
    {.name = "SET_OWNER", .request = 3},
    {.name = "RESET_OWNER", .request = 4},
    {.name = "SET_MEM_TABLE",
     .request = 5,
     .size = 40,
     .n_fds = 1,
     .kind = FD_MEMFD,
     .payload = {1, GUEST_GPA, GUEST_SIZE, GUEST_GPA + GUEST_UVA, 0},
     .is_flexible = true},
    {.name = "SET_LOG_BASE",
     .request = 6,
     .size = 16,
     .n_fds = 1,
     .kind = FD_MEMFD,
     .payload = {0x10000, 0}},
    {.name = "SET_VRING_NUM", .request = 8, .size = 8, .payload = {UINT64_C(16) << 32}},
    {.name = "SET_VRING_ADDR",
     .request = 9,
     .size = 40,
     .payload = {0, 0x10000, 0x20000, 0x30000, 0}},
    {.name = "SET_VRING_BASE", .request = 10, .size = 8},
    {.name = "GET_VRING_BASE", .request = 11, .size = 8},
    {.name = "SET_VRING_KICK", .request = 12, .size = 8, .n_fds = 1, .kind = FD_EVENTFD},
    {.name = "SET_VRING_KICK, none", .request = 12, .size = 8, .payload = {0x100}},
    {.name = "SET_VRING_CALL", .request = 13, .size = 8, .n_fds = 1, .kind = FD_EVENTFD},
    {.name = "SET_VRING_CALL, none", .request = 13, .size = 8, .payload = {0x100}},
    {.name = "SET_VRING_ERR", .request = 14, .size = 8, .n_fds = 1, .kind = FD_EVENTFD},
    {.name = "SET_VRING_ERR, none", .request = 14, .size = 8, .payload = {0x100}},
    {.name = "GET_PROTOCOL_FEATURES", .request = 15},
    {.name = "SET_PROTOCOL_FEATURES",
     .request = 16,
     .size = 8,
     .payload = {GUEST_PROTOCOL}}, /* REPLY_ACK is removed if it was not negotiated */
    {.name = "GET_QUEUE_NUM", .request = 17},
    {.name = "SET_VRING_ENABLE", .request = 18, .size = 8},
    {.name = "SET_BACKEND_REQ_FD", .request = 21, .n_fds = 1, .kind = FD_SOCKET},
    {.name = "GET_CONFIG",
     .request = 24,
     .size = 20,
     .payload = {UINT64_C(8) << 32, 0},
     .is_flexible = true},
    {.name = "SET_CONFIG",
     .request = 25,
     .size = 20,
     .payload = {UINT64_C(8) << 32, 0},
     .is_flexible = true},
    {.name = "RESET_DEVICE", .request = 34},
    {.name = "GET_MAX_MEM_SLOTS", .request = 36},
    {.name = "ADD_MEM_REG",
     .request = 37,
     .size = 40,
     .n_fds = 1,
     .kind = FD_MEMFD,
     .payload = {0, 0x80000000, GUEST_SIZE, 0x80000000, 0}},
    {.name = "REM_MEM_REG",
     .request = 38,
     .size = 40,
     .n_fds_max = 1,
     .kind = FD_MEMFD,
     .payload = {0, GUEST_GPA, GUEST_SIZE, GUEST_GPA + GUEST_UVA, 0}},
};

#define N_MESSAGES (sizeof(messages) / sizeof(messages[0]))

struct run {
    struct fixture fixture;
    bool ack;
    unsigned n_cases;
    unsigned n_failed;
};

/* Run one case, from connecting to checking that the daemon is unaffected. */
static void run_case(struct run *run, const struct message *what, const char *how,
                     struct bad_message *m, unsigned n_fds, enum outcome outcome, const char *text)
{
    int fds[FDS_MAX];
    struct guest g;
    char name[128];
    bool good;

    snprintf(name, sizeof(name), "%s, %s%s", what ? what->name : "unknown message", how,
             run->ack ? "" : ", without REPLY_ACK");
    run->n_cases++;
    for (unsigned i = 0; i < n_fds; i++)
        fds[i] = fd_make(what ? what->kind : FD_EVENTFD);
    m->fds = fds;
    m->n_fds = n_fds;
    fixture_forget(&run->fixture);
    good = bad_stage(&run->fixture, &g, STAGE_READY, run->ack) == 0 &&
           bad_send(&g, name, m, outcome) && (!text || fixture_says(&run->fixture, text));
    guest_done(&g);
    for (unsigned i = 0; i < n_fds; i++)
        close(fds[i]);
    fds_done();
    if (!good || !fixture_check(&run->fixture, name)) {
        fprintf(stderr, "FAILED: %s\n", name);
        run->n_failed++;
    }
}

/* Outcome of a refused message. */
static enum outcome refused(const struct message *what)
{
    if (what->request == GW_MSG_GET_CONFIG)
        return EMPTY;
    return bad_has_answer(what->request) ? ENDS : REFUSED;
}

static struct bad_message right_message(const struct run *run, const struct message *what,
                                        uint8_t *payload)
{
    memset(payload, 0, 8192);
    memcpy(payload, what->payload, sizeof(what->payload));
    if (what->request == GW_MSG_SET_PROTOCOL_FEATURES && !run->ack)
        payload[0] &= (uint8_t)~GUEST_REPLY_ACK;
    return (struct bad_message){
        .request = what->request,
        .flags = GW_MSG_VERSION,
        .size = what->size,
        .payload = payload,
        .length = what->size,
    };
}

static void run_sizes(struct run *run, const struct message *what)
{
    static const struct {
        const char *how;
        int more;  /* added to the correct size */
        int exact; /* if not 0, the size to send; -1: empty */
    } sizes[] = {
        {"one byte short", -1, 0}, {"one byte long", 1, 0}, {"empty", 0, -1},
        {"8 bytes long", 8, 0},    {"4096 bytes", 0, 4096},
    };
    static _Alignas(8) uint8_t payload[8192];
    struct bad_message m = right_message(run, what, payload);

    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        int size = (int)what->size + sizes[i].more;
        bool longer = sizes[i].more > 0 && what->is_flexible;

        if (sizes[i].exact)
            size = sizes[i].exact < 0 ? 0 : sizes[i].exact;
        if (size < 0 || (uint32_t)size == what->size)
            continue;
        m.size = (uint32_t)size;
        m.length = (size_t)size;
        run_case(run, what, sizes[i].how, &m, what->n_fds, refused(what),
                 longer || what->is_flexible ? "refused" : "its payload is");
    }
    m.size = GW_MSG_PAYLOAD_MAX + 1;
    m.length = GW_MSG_PAYLOAD_MAX + 1;
    run_case(run, what, "longer than anything", &m, what->n_fds, ENDS, "message too long");
    m.size = UINT32_MAX;
    m.length = what->size;
    run_case(run, what, "4 GiB", &m, what->n_fds, ENDS, "message too long");
}

static void run_flags(struct run *run, const struct message *what)
{
    static const uint32_t flags[] = {0, 2, 3, GW_MSG_VERSION | GW_MSG_REPLY};
    static _Alignas(8) uint8_t payload[8192];
    struct bad_message m = right_message(run, what, payload);
    char how[32];

    for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        snprintf(how, sizeof(how), "flags %#x", flags[i]);
        m.flags = flags[i];
        run_case(run, what, how, &m, what->n_fds, refused(what), "its flags are");
    }
    /* NEED_REPLY has no effect without REPLY_ACK. */
    m.flags = GW_MSG_VERSION | GW_MSG_NEED_REPLY;
    run_case(run, what, "NEED_REPLY", &m, what->n_fds, ACCEPTED, NULL);
}

static void run_fds(struct run *run, const struct message *what)
{
    static const unsigned counts[] = {0, 1, 2, 8, 9, 64};
    static _Alignas(8) uint8_t payload[8192];
    struct bad_message m = right_message(run, what, payload);
    unsigned max = what->n_fds_max > what->n_fds ? what->n_fds_max : what->n_fds;
    char how[32];

    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        bool right = counts[i] >= what->n_fds && counts[i] <= max;

        snprintf(how, sizeof(how), "%u descriptors", counts[i]);
        run_case(run, what, how, &m, counts[i], right ? ACCEPTED : refused(what),
                 right                        ? NULL
                 : counts[i] > GW_MSG_FDS_MAX ? "more than 8 file descriptors"
                                              : "file descriptors instead of");
    }
}

static void run_all(struct run *run)
{
    static const uint32_t unknown[] = {0, 46, 47, 255, UINT32_MAX};
    static const unsigned counts[] = {0, 1, 8};
    char how[32];

    for (unsigned i = 0; i < N_MESSAGES; i++) {
        run_sizes(run, &messages[i]);
        run_flags(run, &messages[i]);
        run_fds(run, &messages[i]);
    }
    for (unsigned i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        for (unsigned k = 0; k < sizeof(counts) / sizeof(counts[0]); k++) {
            uint64_t payload[5] = {0};
            struct bad_message m = {.request = unknown[i],
                                    .flags = GW_MSG_VERSION,
                                    .size = 8 * k,
                                    .payload = payload,
                                    .length = 8 * k};

            snprintf(how, sizeof(how), "id %u, %u descriptors", unknown[i], counts[k]);
            run_case(run, NULL, how, &m, counts[k], REFUSED, "there is no such message");
        }
    }
}

static void run_table(bool ack)
{
    static struct run run;

    memset(&run, 0, sizeof(run));
    run.ack = ack;
    fixture_start(&run.fixture, &(struct fixture_config){0});
    run_all(&run);
    fixture_stop(&run.fixture);
    printf("%u cases\n", run.n_cases);
    assert_int_equal(run.n_failed, 0);
}

static void test_frames_with_reply_ack(void **state)
{
    (void)state;
    run_table(true);
}

static void test_frames_without_reply_ack(void **state)
{
    (void)state;
    run_table(false);
}

/* A frame that is truncated or followed by extra bytes, and then a hang-up. */
static void test_frames_cut(void **state)
{
    static _Alignas(8) uint8_t payload[8192];
    struct run run = {.ack = true};
    (void)state;

    fixture_start(&run.fixture, &(struct fixture_config){0});
    for (unsigned i = 0; i < N_MESSAGES; i++) {
        const struct message *what = &messages[i];
        struct bad_message m = right_message(&run, what, payload);
        int fds[1] = {-1};
        struct guest g;

        for (unsigned k = 0; k < 2; k++) {
            const char *name = k == 0 ? "cut" : "with 5 bytes after it";
            bool cut = k == 0 && m.size > 0;

            fixture_forget(&run.fixture);
            assert_int_equal(bad_stage(&run.fixture, &g, STAGE_READY, false), 0);
            fds[0] = what->n_fds ? fd_make(what->kind) : -1;
            assert_int_equal(gw_frontend_send_raw(g.fe, m.request, m.flags, m.size, payload,
                                                  cut ? m.size - 1 : m.size, fds, what->n_fds),
                             0);
            if (!cut)
                (void)gw_frontend_send_bytes(g.fe, "12345", 5);
            guest_done(&g);
            if (what->n_fds)
                close(fds[0]);
            fds_done();
            assert_true(fixture_wait_idle(&run.fixture));
            /* The daemon may first fail to send its answer to a complete frame. */
            assert_true(fixture_said(&run.fixture, "in the middle of a message") ||
                        fixture_said(&run.fixture, "its answer cannot be sent") ||
                        (cut && m.size == 0));
            assert_true(fixture_check(&run.fixture, name));
        }
    }
    fixture_stop(&run.fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_frames_with_reply_ack),
        FDCHECK_TEST(test_frames_without_reply_ack),
        FDCHECK_TEST(test_frames_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
