/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The messages of gw_frontend_start and gw_frontend_stop, in their order, for each set of options.
 */
#include "../fixtures/fe_peer.h"
#include "fdcheck.h"

#include <godwit/frontend/log.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define BIT(n)    (UINT64_C(1) << (n))
#define N_QUEUES  2u
#define N_REGIONS 2u

#define PROTOCOL_DEFAULTS                                                                        \
    (BIT(GW_PROTOCOL_F_MQ) | BIT(GW_PROTOCOL_F_LOG_SHMFD) | BIT(GW_PROTOCOL_F_REPLY_ACK) |       \
     BIT(GW_PROTOCOL_F_BACKEND_REQ) | BIT(GW_PROTOCOL_F_PAGEFAULT) | BIT(GW_PROTOCOL_F_CONFIG) | \
     BIT(GW_PROTOCOL_F_RESET_DEVICE) | BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS) |                  \
     BIT(GW_PROTOCOL_F_STATUS) | BIT(GW_PROTOCOL_F_XEN_MMAP) | BIT(GW_PROTOCOL_F_DEVICE_STATE))
#define SLOTS BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS)
#define MQ    BIT(GW_PROTOCOL_F_MQ)

/* Letters for messages: first those with an answer. */
static const struct letter {
    char letter;
    uint32_t request;
    bool has_answer;
} letters[] = {
    {'f', GW_MSG_GET_FEATURES, true},
    {'p', GW_MSG_GET_PROTOCOL_FEATURES, true},
    {'q', GW_MSG_GET_QUEUE_NUM, true},
    {'s', GW_MSG_GET_MAX_MEM_SLOTS, true},
    {'b', GW_MSG_GET_VRING_BASE, true},
    {'L', GW_MSG_SET_LOG_BASE, true},
    {'g', GW_MSG_GET_STATUS, true},
    {'S', GW_MSG_SET_STATUS, false},
    {'P', GW_MSG_SET_PROTOCOL_FEATURES, false},
    {'c', GW_MSG_SET_BACKEND_REQ_FD, false},
    {'o', GW_MSG_SET_OWNER, false},
    {'F', GW_MSG_SET_FEATURES, false},
    {'T', GW_MSG_SET_MEM_TABLE, false},
    {'A', GW_MSG_ADD_MEM_REG, false},
    {'N', GW_MSG_SET_VRING_NUM, false},
    {'B', GW_MSG_SET_VRING_BASE, false},
    {'D', GW_MSG_SET_VRING_ADDR, false},
    {'K', GW_MSG_SET_VRING_KICK, false},
    {'C', GW_MSG_SET_VRING_CALL, false},
    {'E', GW_MSG_SET_VRING_ENABLE, false},
};

static const struct letter *letter_of(char c)
{
    for (unsigned i = 0; i < sizeof(letters) / sizeof(letters[0]); i++)
        if (letters[i].letter == c)
            return &letters[i];
    fail_msg("no message has the letter %c", c);
    return NULL;
}

struct start {
    const char *name;
    uint64_t features, protocol_features; /* offered */
    uint64_t want_features, want_protocol_features;
    uint64_t n_queues, n_slots; /* answered */
    enum gw_frontend_mem_form form;
    bool no_enable, is_packed, has_log;
    int result;
    const char *messages; /* of the start */
    const char *stop;
    uint64_t set_features, set_protocol_features; /* accepted */
};

#define DEFAULTS                                                                             \
    (BIT(GW_F_RING_INDIRECT_DESC) | BIT(GW_F_RING_EVENT_IDX) | BIT(GW_F_PROTOCOL_FEATURES) | \
     BIT(GW_F_VERSION_1))
#define BARE (BIT(GW_F_VERSION_1))

static const struct start starts[] = {
    {"all that is offered", UINT64_MAX, UINT64_MAX & ~BIT(GW_PROTOCOL_F_REPLY_ACK), 0, 0, 2, 2,
     GW_FRONTEND_MEM_AUTO, false, false, false, 0, "fpPqscoFgSgAANBDKCNBDKCEEgSg", "EEbbS",
     DEFAULTS, PROTOCOL_DEFAULTS & ~BIT(GW_PROTOCOL_F_REPLY_ACK)},
    {"packed", UINT64_MAX, 0, 0, 0, 0, 0, GW_FRONTEND_MEM_AUTO, false, true, false, 0,
     "fpPoFTNBDKCNBDKCEE", "EEbb", DEFAULTS | BIT(GW_F_RING_PACKED), 0},
    {"the table", UINT64_MAX, SLOTS, 0, 0, 0, 2, GW_FRONTEND_MEM_TABLE, false, false, false, 0,
     "fpPoFTNBDKCNBDKCEE", "EEbb", DEFAULTS, 0},
    {"the table, with slots", UINT64_MAX, SLOTS, 0, SLOTS, 0, 2, GW_FRONTEND_MEM_TABLE, false,
     false, false, 0, "fpPsoFTNBDKCNBDKCEE", "EEbb", DEFAULTS, SLOTS},
    {"slots", UINT64_MAX, SLOTS, 0, 0, 0, 3, GW_FRONTEND_MEM_SLOTS, false, false, false, 0,
     "fpPsoFAANBDKCNBDKCEE", "EEbb", DEFAULTS, SLOTS},
    {"slots that are missing", UINT64_MAX, 0, 0, 0, 0, 2, GW_FRONTEND_MEM_SLOTS, false, false,
     false, -ERANGE, "fpPoF", "", DEFAULTS, 0},
    {"too few slots", UINT64_MAX, SLOTS, 0, 0, 0, 1, GW_FRONTEND_MEM_AUTO, false, false, false,
     -ERANGE, "fpPsoF", "", DEFAULTS, SLOTS},
    {"too few queues", UINT64_MAX, MQ, 0, 0, 1, 0, GW_FRONTEND_MEM_AUTO, false, false, false,
     -ERANGE, "fpPqo", "", 0, MQ},
    {"any number of queues", UINT64_MAX, MQ, 0, 0, 0, 0, GW_FRONTEND_MEM_AUTO, false, false, false,
     0, "fpPqoFTNBDKCNBDKCEE", "EEbb", DEFAULTS, MQ},
    {"disabled", UINT64_MAX, 0, 0, 0, 0, 0, GW_FRONTEND_MEM_AUTO, true, false, false, 0,
     "fpPoFTNBDKCNBDKC", "EEbb", DEFAULTS, 0},
    {"without protocol features", BARE, UINT64_MAX, 0, 0, 0, 0, GW_FRONTEND_MEM_AUTO, false, false,
     false, 0, "foFTNBDKCNBDKC", "bb", BARE, 0},
    {"without protocol features by choice", UINT64_MAX, UINT64_MAX, BARE, 0, 0, 0,
     GW_FRONTEND_MEM_AUTO, false, false, false, 0, "foFTNBDKCNBDKC", "bb", BARE, 0},
    {"with a log", UINT64_MAX, BIT(GW_PROTOCOL_F_LOG_SHMFD), 0, 0, 0, 0, GW_FRONTEND_MEM_AUTO,
     false, false, true, 0, "fpPoFTNBDKCNBDKCLEE", "EEbb", DEFAULTS | BIT(GW_F_LOG_ALL),
     BIT(GW_PROTOCOL_F_LOG_SHMFD)},
    {"legacy", UINT64_MAX & ~BIT(GW_F_VERSION_1), 0, 0, 0, 0, 0, GW_FRONTEND_MEM_AUTO, false, false,
     false, -EOPNOTSUPP, "f", "", 0, 0},
};

static uint64_t answer_of(const struct start *s, char c, unsigned n_before)
{
    switch (c) {
    case 'f':
        return s->features;
    case 'p':
        return s->protocol_features;
    case 'q':
        return s->n_queues;
    case 's':
        return s->n_slots;
    case 'L':
        return 0;
    case 'g': /* FEATURES_OK, then ACKNOWLEDGE, DRIVER and DRIVER_OK, too */
        return n_before == 0 ? 0 : n_before == 1 ? 8 : 15;
    default:
        return n_before; /* the ring's number, and base 0 */
    }
}

static void write_steps(const struct start *s, const char *messages, struct peer_step *steps)
{
    unsigned n_bases = 0, n_statuses = 0;

    for (unsigned i = 0; messages[i]; i++) {
        const struct letter *l = letter_of(messages[i]);

        n_statuses += messages[i] == 'S';
        if (l->has_answer)
            steps[i] = peer_answer_u64(
                l->request, answer_of(s, messages[i], messages[i] == 'g' ? n_statuses : n_bases));
        n_bases += messages[i] == 'b';
    }
}

static struct gw_guest_mem *new_memory(void)
{
    struct gw_guest_mem *m;

    assert_int_equal(gw_guest_mem_new(&m, 0x100000000), 0);
    for (unsigned i = 0; i < N_REGIONS; i++) {
        const struct gw_guest_region r = {.gpa = 0x100000 * i, .length = 0x10000};

        assert_int_equal(gw_guest_mem_add(m, &r), 0);
    }
    return m;
}

static uint64_t sent_value(const struct peer *p, uint32_t request)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < p->n_seen; i++)
        if (p->seen[i].h.request == request)
            memcpy(&value, p->seen[i].payload, sizeof(value));
    return value;
}

/* Ring messages of both queues alternate in "EEbb" only; others come queue by queue. */
static void check_messages(const struct start *s, const struct peer *p, const char *messages)
{
    unsigned n_of[128] = {0};

    for (unsigned i = 0; i < p->n_seen && messages[i]; i++) {
        struct gw_wire_vring_state ring;
        char c = messages[i];

        if (p->seen[i].h.request != letter_of(c)->request)
            fail_msg("%s: message %u is %u, not %u", s->name, i, (unsigned)p->seen[i].h.request,
                     (unsigned)letter_of(c)->request);
        assert_int_equal(p->seen[i].h.flags, GW_MSG_VERSION);
        if (!strchr("NBDKCEb", c))
            continue;
        memcpy(&ring, p->seen[i].payload, sizeof(ring));
        assert_int_equal(ring.index % 256, n_of[(unsigned char)c]++ % N_QUEUES);
        if (c == 'E')
            assert_int_equal(ring.num, i < strlen(s->messages));
    }
    if (p->n_seen != strlen(messages))
        fail_msg("%s: %u messages, not %zu", s->name, p->n_seen, strlen(messages));
}

static void run(const struct start *s, bool negotiates_first)
{
    const struct gw_frontend_config cfg = {.size = sizeof(cfg), .timeout_ms = PEER_TIMEOUT_MS};
    struct peer_step steps[PEER_MESSAGES_MAX] = {{.len = 0}};
    struct gw_driver *drivers[N_QUEUES];
    struct gw_frontend_options opt = {
        .size = sizeof(opt),
        .features = s->want_features,
        .protocol_features = s->want_protocol_features,
        .mem = new_memory(),
        .drivers = drivers,
        .n_drivers = N_QUEUES,
        .mem_form = s->form,
        .no_enable = s->no_enable,
    };
    const struct gw_guest_log_config log_cfg = {.size = sizeof(log_cfg), .length = 4096};
    struct gw_guest_log *log = NULL;
    struct gw_frontend *fe;
    char messages[64];
    struct peer p;
    int r = 0;

    if (s->has_log)
        assert_int_equal(gw_guest_log_new(&log, &log_cfg), 0);
    opt.log = log;

    for (unsigned i = 0; i < N_QUEUES; i++) {
        const struct gw_driver_config config = {.size = sizeof(config),
                                                .mem = opt.mem,
                                                .index = i,
                                                .queue_size = 16,
                                                .packed = s->is_packed};

        assert_int_equal(gw_driver_new(&drivers[i], &config), 0);
    }
    snprintf(messages, sizeof(messages), "%s%s", s->messages, s->stop);
    write_steps(s, messages, steps);
    fe = peer_begin_with(&p, steps, (unsigned)strlen(messages), &cfg);
    if (negotiates_first)
        r = gw_frontend_negotiate(fe, &opt);
    if (r == 0)
        r = gw_frontend_start(fe, &opt);
    if (r != s->result)
        fail_msg("%s: %d, %s", s->name, r, gw_frontend_last_error());
    if (r == 0)
        assert_int_equal(gw_frontend_stop(fe, drivers, N_QUEUES), 0);
    peer_finish(&p, fe);
    check_messages(s, &p, messages);
    if (sent_value(&p, GW_MSG_SET_FEATURES) != s->set_features ||
        sent_value(&p, GW_MSG_SET_PROTOCOL_FEATURES) != s->set_protocol_features)
        fail_msg("%s: %#lx, %#lx", s->name, (unsigned long)sent_value(&p, GW_MSG_SET_FEATURES),
                 (unsigned long)sent_value(&p, GW_MSG_SET_PROTOCOL_FEATURES));
    for (unsigned i = 0; i < N_QUEUES; i++)
        gw_driver_free(drivers[i]);
    gw_guest_log_free(log);
    gw_guest_mem_free(opt.mem);
}

static void test_fe_start_messages_are_in_order(void **state)
{
    for (unsigned i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
        for (unsigned k = 0; k < 2; k++)
            run(&starts[i], k == 1);
}

/* With this feature, a back-end may insist on a region. */
static void test_fe_start_inflight_is_negotiated_for_its_users(void **state)
{
    struct peer_step steps[] = {
        peer_answer_u64(GW_MSG_GET_FEATURES, DEFAULTS),
        peer_answer_u64(GW_MSG_GET_PROTOCOL_FEATURES, BIT(GW_PROTOCOL_F_INFLIGHT_SHMFD)),
    };
    struct gw_frontend_inflight inflight = {.fd = -1};

    for (unsigned i = 0; i < 2; i++) {
        const struct gw_frontend_options opt = {.size = sizeof(opt),
                                                .inflight = i == 0 ? NULL : &inflight};
        struct peer p;
        struct gw_frontend *fe = peer_begin(&p, steps, 2);

        assert_int_equal(gw_frontend_negotiate(fe, &opt), 0);
        peer_finish(&p, fe);
        assert_int_equal(p.n_seen, 4);
        assert_true(sent_value(&p, GW_MSG_SET_PROTOCOL_FEATURES) ==
                    (i == 0 ? 0 : BIT(GW_PROTOCOL_F_INFLIGHT_SHMFD)));
    }
}

/* Every message of a stop is sent, and the first error is the result. */
static void test_fe_start_stop_reports_the_first_error(void **state)
{
    struct peer_step steps[] = {
        {.len = 0},
        peer_answer_u64(GW_MSG_SET_FEATURES, 0),
        peer_answer_u64(GW_MSG_SET_VRING_ENABLE, 0x77),
        peer_answer_u64(GW_MSG_SET_VRING_ENABLE, 0x78),
        peer_answer_u64(GW_MSG_GET_VRING_BASE, 0),
        peer_answer_u64(GW_MSG_GET_VRING_BASE, 1),
    };
    struct gw_driver *drivers[N_QUEUES];
    struct gw_guest_mem *m = new_memory();
    struct gw_frontend *fe;
    struct peer p;

    for (unsigned i = 0; i < N_QUEUES; i++) {
        const struct gw_driver_config config = {
            .size = sizeof(config), .mem = m, .index = i, .queue_size = 16};

        assert_int_equal(gw_driver_new(&drivers[i], &config), 0);
    }
    fe = peer_begin(&p, steps, 6);
    assert_int_equal(gw_frontend_set_protocol_features(fe, BIT(GW_PROTOCOL_F_REPLY_ACK)), 0);
    assert_int_equal(gw_frontend_set_features(fe, BIT(GW_F_PROTOCOL_FEATURES)), 0);
    assert_int_equal(gw_frontend_stop(fe, drivers, N_QUEUES), -EREMOTEIO);
    assert_non_null(
        strstr(gw_frontend_last_error(), "SET_VRING_ENABLE: the back-end refused (0x77)"));
    peer_finish(&p, fe);
    assert_int_equal(p.n_seen, 6);
    for (unsigned i = 0; i < N_QUEUES; i++)
        gw_driver_free(drivers[i]);
    gw_guest_mem_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fe_start_messages_are_in_order),
        FDCHECK_TEST(test_fe_start_inflight_is_negotiated_for_its_users),
        FDCHECK_TEST(test_fe_start_stop_reports_the_first_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
