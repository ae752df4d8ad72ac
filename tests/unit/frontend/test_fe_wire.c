/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The front-end's connection and messages against a scripted peer on a real socket: it sends what
 * the specification says, and any reply is either accepted or fails cleanly.
 */
#include "../fixtures/fe_peer.h"
#include "control_data.h"
#include "fdcheck.h"
#include "requires.h"

#include <godwit/frontend/log.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

#define ALL_FEATURES                                                                         \
    (1 << GW_PROTOCOL_F_MQ | 1 << GW_PROTOCOL_F_REPLY_ACK | 1 << GW_PROTOCOL_F_BACKEND_REQ | \
     1 << GW_PROTOCOL_F_CONFIG | 1 << GW_PROTOCOL_F_RESET_DEVICE |                           \
     1 << GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS)

static void test_fe_wire_get_features_in_pieces_succeeds(void **state)
{
    struct peer_step steps[2] = {peer_answer_u64(GW_MSG_GET_FEATURES, UINT64_C(0x123456789abcdef0)),
                                 peer_answer_u64(GW_MSG_GET_QUEUE_NUM, 3)};
    struct gw_frontend *fe;
    struct peer p;
    uint64_t value;

    steps[0].piece = 1;
    fe = peer_begin(&p, steps, 2);
    assert_int_equal(gw_frontend_get_features(fe, &value), 0);
    assert_true(value == UINT64_C(0x123456789abcdef0));
    assert_int_equal(gw_frontend_get_queue_num(fe, &value), 0);
    assert_int_equal(value, 3);
    assert_string_equal(gw_frontend_last_error(), "");
    peer_finish(&p, fe);
    assert_int_equal(p.seen[0].h.flags, GW_MSG_VERSION);
    assert_int_equal(p.seen[0].h.size, 0);
}

/* Every way a reply can be wrong; each ends the session. */
static void test_fe_wire_wrong_answers_are_refused(void **state)
{
    struct peer_step wrong[6];
    const char *texts[6] = {"id 3", "flags 0xd", "4 bytes", "1 fds", "16 bytes", "too long"};

    for (unsigned i = 0; i < 6; i++)
        wrong[i] = peer_answer_u64(GW_MSG_GET_FEATURES, 0);
    wrong[0].reply.request = GW_MSG_SET_OWNER;
    wrong[1].reply.flags |= GW_MSG_NEED_REPLY;
    wrong[2].reply.size = 4;
    wrong[2].len = 4;
    wrong[3].n_fds = 1;
    wrong[4].reply.size = 16;
    wrong[4].len = 16;
    wrong[5].reply.size = UINT32_MAX;
    for (unsigned i = 0; i < 6; i++) {
        struct peer p;
        struct gw_frontend *fe = peer_begin(&p, &wrong[i], 1);
        uint64_t value = 77;

        assert_int_equal(gw_frontend_get_features(fe, &value), -EPROTO);
        assert_non_null(strstr(gw_frontend_last_error(), texts[i]));
        assert_non_null(strstr(gw_frontend_last_error(), "GET_FEATURES"));
        assert_int_equal(value, 77);
        assert_int_equal(gw_frontend_set_owner(fe), -EPROTO);
        peer_finish(&p, fe);
        assert_int_equal(p.n_seen, 1);
    }
}

static void test_fe_wire_too_many_fds_are_closed(void **state)
{
    struct peer_step step = peer_answer_u64(GW_MSG_GET_FEATURES, 0);
    struct gw_frontend *fe;
    struct peer p;
    uint64_t value;

    step.n_fds = 16;
    fe = peer_begin(&p, &step, 1);
    assert_int_equal(gw_frontend_get_features(fe, &value), -EPROTO);
    peer_finish(&p, fe);
}

/* Eight fds are room enough for every message of the protocol; a ninth one is an error. */
static void test_fe_wire_nine_fds_are_refused(void **state)
{
    struct peer_step steps[2] = {peer_answer_u64(GW_MSG_GET_FEATURES, 0),
                                 peer_answer_u64(GW_MSG_GET_FEATURES, 0)};
    struct gw_frontend_message msg;
    struct gw_frontend *fe;
    struct peer p;

    steps[0].n_fds = 8;
    steps[1].n_fds = 9;
    fe = peer_begin(&p, steps, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(
            gw_frontend_send_raw(fe, GW_MSG_GET_FEATURES, GW_MSG_VERSION, 0, NULL, 0, NULL, 0), 0);
        assert_int_equal(gw_frontend_receive(fe, &msg, PEER_TIMEOUT_MS), i ? -EPROTO : 0);
        assert_int_equal(msg.n_fds, i ? 0 : 8);
        gw_frontend_message_done(&msg);
    }
    peer_finish(&p, fe);
}

/* Control data that a parent process enabled on our socket neither displaces fds nor leaks any. */
static void test_fe_wire_other_control_data_is_ignored(void **state)
{
    struct gw_frontend_message msg;
    struct peer_step steps[9];
    struct gw_frontend *fe;
    struct peer p;

    for (unsigned i = 0; i < 9; i++) {
        steps[i] = peer_answer_u64(GW_MSG_GET_FEATURES, i);
        steps[i].n_fds = i;
        steps[i].piece = i % 2 ? 0 : 20; /* in one piece, or with the payload apart */
    }
    fe = peer_begin(&p, steps, 9);
    ask_for_control_data(gw_frontend_fd(fe));
    for (unsigned i = 0; i < 9; i++) {
        assert_int_equal(
            gw_frontend_send_raw(fe, GW_MSG_GET_FEATURES, GW_MSG_VERSION, 0, NULL, 0, NULL, 0), 0);
        assert_int_equal(gw_frontend_receive(fe, &msg, PEER_TIMEOUT_MS), 0);
        assert_int_equal(msg.n_fds, i);
        assert_int_equal(msg.payload[0], i);
        gw_frontend_message_done(&msg);
    }
    peer_finish(&p, fe);
}

/* A process that runs out of file descriptors must not blame the back-end. */
static void test_fe_wire_no_room_for_fds_is_told(void **state)
{
    struct peer_step step = peer_answer_u64(GW_MSG_GET_FEATURES, 0);
    struct pollfd answer = {.events = POLLIN};
    struct gw_frontend_message msg;
    struct rlimit old, few;
    struct gw_frontend *fe;
    struct peer p;

    if (is_under_valgrind())
        skip();
    step.n_fds = 8;
    fe = peer_begin(&p, &step, 1);
    assert_int_equal(
        gw_frontend_send_raw(fe, GW_MSG_GET_FEATURES, GW_MSG_VERSION, 0, NULL, 0, NULL, 0), 0);
    answer.fd = gw_frontend_fd(fe);
    assert_int_equal(poll(&answer, 1, -1), 1);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    few = old;
    few.rlim_cur = (rlim_t)gw_frontend_fd(fe) + 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_int_equal(gw_frontend_receive(fe, &msg, PEER_TIMEOUT_MS), -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    peer_finish(&p, fe);
}

static void test_fe_wire_no_answer_times_out_and_ends_the_session(void **state)
{
    struct peer p;
    struct gw_frontend *fe = peer_begin(&p, NULL, 0);
    uint64_t value;

    gw_frontend_set_timeout(fe, 100);
    assert_int_equal(gw_frontend_get_features(fe, &value), -ETIMEDOUT);
    assert_non_null(strstr(gw_frontend_last_error(), "no answer"));
    assert_int_equal(gw_frontend_get_features(fe, &value), -ETIMEDOUT);
    peer_finish(&p, fe);
    assert_int_equal(p.n_seen, 1);
}

/*
 * A header that announces more bytes than arrive must not block the front-end beyond its timeout.
 */
static void test_fe_wire_half_an_answer_times_out(void **state)
{
    struct peer_step step = peer_answer_u64(GW_MSG_GET_FEATURES, 0);
    struct gw_frontend *fe;
    struct peer p;
    uint64_t value;

    step.len = 3;
    fe = peer_begin(&p, &step, 1);
    gw_frontend_set_timeout(fe, 100);
    assert_int_equal(gw_frontend_get_features(fe, &value), -ETIMEDOUT);
    peer_finish(&p, fe);
}

static void test_fe_wire_hang_up_is_told(void **state)
{
    struct peer_step steps[2] = {peer_answer_u64(GW_MSG_GET_FEATURES, 0), {.hang_up = true}};
    struct gw_frontend *fe;
    struct peer p;
    uint64_t value;

    fe = peer_begin(&p, steps, 2);
    assert_int_equal(gw_frontend_get_features(fe, &value), 0);
    assert_int_equal(gw_frontend_get_features(fe, &value), -ECONNRESET);
    assert_int_equal(gw_frontend_set_owner(fe), -ECONNRESET);
    peer_finish(&p, fe);
}

static void test_fe_wire_unasked_bytes_are_told(void **state)
{
    struct peer_step steps[1] = {peer_answer_u64(GW_MSG_SET_OWNER, 0)};
    struct gw_frontend *fe;
    struct pollfd pfd;
    struct peer p;

    fe = peer_begin(&p, steps, 1);
    assert_int_equal(gw_frontend_set_owner(fe), 0); /* REPLY_ACK was not negotiated */
    pfd = (struct pollfd){.fd = gw_frontend_fd(fe), .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, 1000), 1);
    assert_int_equal(gw_frontend_set_owner(fe), -EPROTO);
    peer_finish(&p, fe);
    assert_int_equal(p.n_seen, 1);
}

static void test_fe_wire_acknowledgements_follow_the_mode(void **state)
{
    const enum gw_frontend_ack modes[] = {GW_FRONTEND_ACK_AUTO, GW_FRONTEND_ACK_NEVER,
                                          GW_FRONTEND_ACK_ALWAYS};
    struct peer_step steps[3] = {
        {.len = 0}, peer_answer_u64(GW_MSG_SET_OWNER, 0), peer_answer_u64(GW_MSG_RESET_OWNER, 1)};

    for (unsigned i = 0; i < 3; i++) {
        struct gw_frontend_config cfg = {
            .size = sizeof(cfg), .timeout_ms = PEER_TIMEOUT_MS, .ack = modes[i]};
        bool asks = modes[i] != GW_FRONTEND_ACK_NEVER;
        struct peer p;
        struct gw_frontend *fe = peer_begin_with(&p, steps, asks ? 3 : 0, &cfg);

        assert_int_equal(gw_frontend_set_protocol_features(fe, ALL_FEATURES), 0);
        assert_int_equal(gw_frontend_set_owner(fe), 0);
        assert_int_equal(gw_frontend_reset_owner(fe), asks ? -EREMOTEIO : 0);
        if (asks) /* a refusal is a reply: the session continues */
            assert_non_null(strstr(gw_frontend_last_error(), "RESET_OWNER"));
        peer_finish(&p, fe);
        assert_int_equal(p.seen[0].h.flags & GW_MSG_NEED_REPLY,
                         modes[i] == GW_FRONTEND_ACK_ALWAYS ? GW_MSG_NEED_REPLY : 0);
        assert_int_equal(p.seen[1].h.flags & GW_MSG_NEED_REPLY, asks ? GW_MSG_NEED_REPLY : 0);
    }
}

static void test_fe_wire_gated_requests_need_their_feature(void **state)
{
    struct gw_frontend_config cfg = {.size = sizeof(cfg), .timeout_ms = PEER_TIMEOUT_MS};
    struct gw_guest_mem *m;
    struct gw_frontend *fe;
    struct peer p;
    uint64_t value;
    char byte;

    fe = peer_begin_with(&p, NULL, 0, &cfg);
    assert_int_equal(gw_guest_mem_new(&m, 0), 0);
    assert_int_equal(gw_frontend_get_queue_num(fe, &value), -EOPNOTSUPP);
    assert_int_equal(gw_frontend_get_max_mem_slots(fe, &value), -EOPNOTSUPP);
    assert_int_equal(gw_frontend_add_mem_reg(fe, m, 0), -EOPNOTSUPP);
    assert_int_equal(gw_frontend_rem_mem_reg(fe, m, 0), -EOPNOTSUPP);
    assert_int_equal(gw_frontend_get_config(fe, 0, &byte, 1), -EOPNOTSUPP);
    assert_int_equal(gw_frontend_set_config(fe, 0, &byte, 1, 0), -EOPNOTSUPP);
    assert_int_equal(gw_frontend_set_log_all(fe, true), -EOPNOTSUPP);
    assert_int_equal(gw_frontend_set_backend_req_fd(fe), -EOPNOTSUPP);
    assert_int_equal(gw_frontend_reset_device(fe), -EOPNOTSUPP);
    assert_int_equal(gw_frontend_set_vring_enable(fe, 0, true), -EOPNOTSUPP);
    gw_guest_mem_free(m);
    peer_finish(&p, fe);
    assert_int_equal(p.n_seen, 0);
}

/* The bytes of the ring messages, and which messages carry an fd. */
static void test_fe_wire_ring_messages_are_as_specified(void **state)
{
    const struct gw_frontend_vring_addr addr = {
        .desc = 0x1000, .avail = 0x2000, .used = 0x3000, .log = 0x4000, .flags = 1};
    int fd = eventfd(0, EFD_CLOEXEC);
    struct gw_wire_vring_addr a;
    struct gw_wire_vring_state s;
    struct peer p;
    struct gw_frontend *fe = peer_begin(&p, NULL, 0);
    uint64_t value;

    assert_int_equal(gw_frontend_set_vring_num(fe, 5, 256), 0);
    assert_int_equal(gw_frontend_set_vring_addr(fe, 5, &addr), 0);
    assert_int_equal(gw_frontend_set_vring_base(fe, 5, 0x8001ffff), 0);
    assert_int_equal(gw_frontend_set_vring_kick(fe, 5, fd), 0);
    assert_int_equal(gw_frontend_set_vring_call(fe, 5, -1), 0);
    assert_int_equal(gw_frontend_set_vring_err(fe, 255, fd), 0);
    assert_int_equal(gw_frontend_set_vring_err(fe, 256, fd), -EINVAL);
    assert_int_equal(gw_frontend_set_vring_enable(fe, 5, true), 0);
    peer_finish(&p, fe);
    close(fd);

    assert_int_equal(p.n_seen, 7);
    memcpy(&s, p.seen[0].payload, sizeof(s));
    assert_true(p.seen[0].h.size == 8 && s.index == 5 && s.num == 256);
    memcpy(&a, p.seen[1].payload, sizeof(a));
    assert_true(p.seen[1].h.size == 40 && a.index == 5 && a.flags == 1);
    assert_true(a.descriptor == 0x1000 && a.available == 0x2000 && a.used == 0x3000);
    assert_true(a.log == 0x4000);
    memcpy(&s, p.seen[2].payload, sizeof(s));
    assert_true(s.num == 0x8001ffff);
    memcpy(&value, p.seen[3].payload, 8);
    assert_true(value == 5 && p.seen[3].n_fds == 1);
    memcpy(&value, p.seen[4].payload, 8);
    assert_true(value == (5 | GW_VRING_FD_NONE) && p.seen[4].n_fds == 0);
    memcpy(&value, p.seen[5].payload, 8);
    assert_true(value == 255 && p.seen[5].n_fds == 1);
    assert_int_equal(p.seen[6].h.request, GW_MSG_SET_VRING_ENABLE);
}

static void test_fe_wire_get_vring_base_of_another_ring_is_refused(void **state)
{
    struct gw_wire_vring_state right = {.index = 1, .num = 0xffff}, wrong = {.index = 2};
    struct peer_step steps[2] = {
        {.reply = {.request = GW_MSG_GET_VRING_BASE, .flags = PEER_REPLY_OK, .size = 8}, .len = 8},
        {.reply = {.request = GW_MSG_GET_VRING_BASE, .flags = PEER_REPLY_OK, .size = 8}, .len = 8},
    };
    struct gw_frontend *fe;
    uint32_t base = 7;
    struct peer p;

    memcpy(steps[0].payload, &right, sizeof(right));
    memcpy(steps[1].payload, &wrong, sizeof(wrong));
    fe = peer_begin(&p, steps, 2);
    assert_int_equal(gw_frontend_get_vring_base(fe, 1, &base), 0);
    assert_int_equal(base, 0xffff);
    assert_int_equal(gw_frontend_get_vring_base(fe, 1, &base), -EPROTO);
    assert_int_equal(base, 0xffff);
    peer_finish(&p, fe);
}

static void test_fe_wire_config_space_goes_both_ways(void **state)
{
    struct gw_wire_config head = {.offset = 4, .size = 3};
    struct peer_step steps[3] = {
        {.reply = {.request = GW_MSG_GET_CONFIG, .flags = PEER_REPLY_OK, .size = 15}, .len = 15},
        {.reply = {.request = GW_MSG_GET_CONFIG, .flags = PEER_REPLY_OK, .size = 0}},
    };
    struct gw_frontend *fe;
    struct peer p;
    char buf[4] = "";

    memcpy(steps[0].payload, &head, sizeof(head));
    memcpy(steps[0].payload + sizeof(head), "abc", 3);
    fe = peer_begin(&p, steps, 2);
    assert_int_equal(gw_frontend_get_config(fe, 4, buf, 3), 0);
    assert_string_equal(buf, "abc");
    assert_int_equal(gw_frontend_get_config(fe, 4, buf, 3), -EREMOTEIO);
    assert_int_equal(gw_frontend_set_config(fe, 4, "xyz", 3, true), 0);
    assert_int_equal(gw_frontend_get_config(fe, 4, buf, 4097), -EINVAL);
    assert_int_equal(gw_frontend_get_config(fe, 4, buf, 0), -EINVAL);
    peer_finish(&p, fe);
    assert_int_equal(p.seen[2].h.size, 15);
    memcpy(&head, p.seen[2].payload, sizeof(head));
    assert_true(head.offset == 4 && head.size == 3 && head.flags == GW_CONFIG_F_MIGRATION);
    assert_memory_equal(p.seen[2].payload + sizeof(head), "xyz", 3);
}

static void add_region(struct gw_guest_mem *m, gw_gpa_t gpa, uint64_t len, gw_off_t offset)
{
    const struct gw_guest_region r = {.gpa = gpa, .length = len, .offset = offset};

    assert_int_equal(gw_guest_mem_add(m, &r), 0);
}

static void test_fe_wire_memory_goes_as_table_and_as_slots(void **state)
{
    struct gw_wire_mem_table table;
    struct gw_wire_single_region single;
    struct gw_guest_mem *m;
    struct peer p;
    struct gw_frontend *fe = peer_begin(&p, NULL, 0);

    assert_int_equal(gw_guest_mem_new(&m, 0x10000000000), 0);
    add_region(m, 0x200000, 0x3000, 0x1001);
    add_region(m, 0, 0x1000, 0);
    assert_int_equal(gw_frontend_set_mem_table(fe, m), 0);
    assert_int_equal(gw_frontend_add_mem_reg(fe, m, 0x200000), 0);
    assert_int_equal(gw_frontend_rem_mem_reg(fe, m, 0x200000), 0);
    assert_int_equal(gw_frontend_rem_mem_reg(fe, m, 0x200001), -ENOENT);
    for (unsigned i = 1; i <= 7; i++)
        add_region(m, 0x1000000 * i, 0x1000, 0);
    assert_int_equal(gw_frontend_set_mem_table(fe, m), -E2BIG);
    gw_guest_mem_free(m);
    peer_finish(&p, fe);

    assert_int_equal(p.n_seen, 3);
    assert_int_equal(p.seen[0].h.size, 8 + 2 * 32);
    assert_int_equal(p.seen[0].n_fds, 2);
    memcpy(&table, p.seen[0].payload, 8 + 2 * 32);
    assert_int_equal(table.num_regions, 2);
    assert_true(table.regions[0].guest_addr == 0 && table.regions[1].guest_addr == 0x200000);
    assert_true(table.regions[1].user_addr == 0x10000200000 && table.regions[1].size == 0x3000);
    assert_true(table.regions[1].mmap_offset == 0x1001);
    memcpy(&single, p.seen[1].payload, sizeof(single));
    assert_true(p.seen[1].h.size == 40 && p.seen[1].n_fds == 1 && single.padding == 0);
    assert_true(single.region.guest_addr == 0x200000 && single.region.mmap_offset == 0x1001);
    assert_true(p.seen[2].h.size == 40 && p.seen[2].n_fds == 0);
}

static void add_xen_region(struct gw_guest_mem *m, gw_gpa_t gpa, void *host, uint32_t xen)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    const struct gw_guest_region r = {.kind = GW_GUEST_MAPPED,
                                      .gpa = gpa,
                                      .length = 0x1000,
                                      .fd = fd,
                                      .host = host,
                                      .xen = xen,
                                      .domid = 7};

    assert_int_equal(gw_guest_mem_add(m, &r), 0);
    close(fd);
}

/* Regions of Xen domains and ordinary ones take 40 bytes each after XEN_MMAP was negotiated. */
static void test_fe_wire_xen_memory_has_flags_and_domain(void **state)
{
    static char page[0x1000];
    const gw_gpa_t grant = UINT64_C(1) << 63 | 0x5000;
    struct gw_wire_xen_mem_table table;
    struct gw_wire_xen_single_region single;
    struct gw_guest_mem *m;
    struct peer p;
    struct gw_frontend *fe = peer_begin(&p, NULL, 0);

    assert_int_equal(gw_guest_mem_new(&m, GW_GUEST_UVA_HOST), 0);
    add_region(m, 0x200000, 0x3000, 0x1001);
    add_xen_region(m, grant, page, GW_GUEST_XEN_GRANT | GW_GUEST_XEN_NO_ADVANCE);
    assert_int_equal(gw_frontend_set_mem_table(fe, m), -EOPNOTSUPP);
    assert_int_equal(gw_frontend_add_mem_reg(fe, m, grant), -EOPNOTSUPP);
    assert_int_equal(
        gw_frontend_set_protocol_features(fe, UINT64_C(1) << GW_PROTOCOL_F_XEN_MMAP |
                                                  UINT64_C(1) << GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS),
        0);
    assert_int_equal(gw_frontend_set_mem_table(fe, m), 0);
    assert_int_equal(gw_frontend_add_mem_reg(fe, m, grant), 0);
    assert_int_equal(gw_frontend_rem_mem_reg(fe, m, 0x200000), 0);
    gw_guest_mem_free(m);
    peer_finish(&p, fe);

    assert_int_equal(p.n_seen, 4);
    assert_true(p.seen[1].h.size == 8 + 2 * 40 && p.seen[1].n_fds == 2);
    memcpy(&table, p.seen[1].payload, 8 + 2 * 40);
    assert_true(table.num_regions == 2 && table.regions[0].region.mmap_offset == 0x1001);
    assert_true(table.regions[0].flags == 0 && table.regions[0].domid == 0);
    assert_true(table.regions[1].region.guest_addr == grant);
    assert_true(table.regions[1].region.user_addr == (uintptr_t)page);
    assert_true(table.regions[1].flags == 0x102 && table.regions[1].domid == 7);
    memcpy(&single, p.seen[2].payload, sizeof(single));
    assert_true(p.seen[2].h.size == 48 && p.seen[2].n_fds == 1 && single.padding == 0);
    assert_true(single.region.region.guest_addr == grant && single.region.domid == 7);
    assert_true(p.seen[3].h.size == 48 && p.seen[3].n_fds == 0);
}

/* An event channel replaces the eventfd: queue, NOFD, bit 9, domain and port, and no fd. */
static void test_fe_wire_event_channel_goes_in_the_number(void **state)
{
    const uint64_t value = 3 | 0x100 | 0x200 | UINT64_C(7) << 16 | UINT64_C(0x80000001) << 32;
    struct gw_driver_config cfg = {.size = sizeof(cfg), .index = 3, .queue_size = 16};
    struct gw_guest_mem *m;
    struct gw_frontend_config fe_cfg = {.size = sizeof(fe_cfg), .timeout_ms = PEER_TIMEOUT_MS};
    struct gw_driver *d;
    struct peer p;
    struct gw_frontend *fe = peer_begin_with(&p, NULL, 0, &fe_cfg);

    assert_int_equal(gw_guest_mem_new(&m, GW_GUEST_UVA_HOST), 0);
    add_region(m, 0, 0x4000, 0);
    cfg.mem = m;
    assert_int_equal(gw_driver_new(&d, &cfg), 0);
    gw_driver_set_channel(d, 7, 0x80000001);
    assert_int_equal(gw_frontend_start_queue(fe, d), -EOPNOTSUPP);
    assert_int_equal(gw_frontend_set_protocol_features(fe, UINT64_C(1) << GW_PROTOCOL_F_XEN_MMAP),
                     0);
    assert_int_equal(gw_frontend_start_queue(fe, d), 0);
    gw_driver_free(d);
    gw_guest_mem_free(m);
    peer_finish(&p, fe);
    assert_int_equal(p.n_seen, 3 + 1 + 5);
    for (unsigned i = 7; i < 9; i++) {
        assert_int_equal(p.seen[i].h.request,
                         i == 7 ? GW_MSG_SET_VRING_KICK : GW_MSG_SET_VRING_CALL);
        assert_true(p.seen[i].h.size == 8 && p.seen[i].n_fds == 0);
        assert_memory_equal(p.seen[i].payload, &value, sizeof(value));
    }
}

static void test_fe_wire_raw_messages_may_lie(void **state)
{
    const int fds[] = {0, 0, 0, 0, 0, 0, 0, 0};
    struct peer_step step = {
        .reply = {.request = 99, .flags = 0xabc, .size = 2}, .payload = "hi", .len = 2, .n_fds = 3};
    struct gw_frontend_message msg;
    struct gw_frontend *fe;
    struct peer p;

    fe = peer_begin(&p, &step, 1);
    assert_int_equal(gw_frontend_receive(fe, &msg, 10), -ETIMEDOUT);
    assert_int_equal(gw_frontend_send_raw(fe, 0x7fffffff, 0xffffffff, 5, "ab", 2, fds, 8), 0);
    assert_int_equal(gw_frontend_send_bytes(fe, "cde", 3), 0);
    assert_int_equal(gw_frontend_receive(fe, &msg, 1000), 0);
    assert_true(msg.request == 99 && msg.flags == 0xabc && msg.size == 2 && msg.n_fds == 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(fcntl(msg.fds[i], F_GETFD), FD_CLOEXEC);
    gw_frontend_message_done(&msg);
    peer_finish(&p, fe);
    assert_true(p.seen[0].h.request == 0x7fffffff && p.seen[0].h.flags == 0xffffffff);
    assert_int_equal(p.seen[0].n_fds, 8);
    assert_memory_equal(p.seen[0].payload, "abcde", 5);
}

/* Requests on the back-end's channel arrive and are answered on that channel. */
static void test_fe_wire_backend_channel_carries_requests(void **state)
{
    const struct gw_wire_header told = {.request = GW_BACKEND_MSG_CONFIG_CHANGE,
                                        .flags = GW_MSG_VERSION | GW_MSG_NEED_REPLY};
    struct gw_frontend_config cfg = {.size = sizeof(cfg), .no_gates = true};
    struct gw_frontend_message msg;
    struct gw_wire_header h;
    struct gw_frontend *fe, *be;
    uint64_t value = 0;
    int pair[2];

    /* Connect two front-ends: the second plays the back-end with raw messages. */
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(gw_frontend_new(&fe, &cfg), 0);
    assert_int_equal(gw_frontend_new(&be, &cfg), 0);
    assert_int_equal(gw_frontend_attach(fe, pair[0]), 0);
    assert_int_equal(gw_frontend_attach(be, pair[1]), 0);
    assert_int_equal(gw_frontend_backend_request(fe, &msg, 0), -ENOTCONN);
    assert_int_equal(gw_frontend_set_backend_req_fd(fe), 0);
    assert_int_equal(gw_frontend_receive(be, &msg, 1000), 0);
    assert_true(msg.request == GW_MSG_SET_BACKEND_REQ_FD && msg.n_fds == 1);
    assert_int_equal(write(msg.fds[0], &told, sizeof(told)), sizeof(told));
    {
        struct gw_frontend_message got;

        assert_int_equal(gw_frontend_backend_request(fe, &got, 1000), 0);
        assert_int_equal(got.request, GW_BACKEND_MSG_CONFIG_CHANGE);
        assert_int_equal(gw_frontend_backend_reply(fe, &got, 5), 0);
        assert_int_equal(gw_frontend_backend_request(fe, &got, 1), -ETIMEDOUT);
    }
    assert_true(peer_read_all(msg.fds[0], &h, sizeof(h)) && peer_read_all(msg.fds[0], &value, 8));
    assert_true(h.request == GW_BACKEND_MSG_CONFIG_CHANGE && h.flags == PEER_REPLY_OK &&
                h.size == 8);
    assert_int_equal(value, 5);
    gw_frontend_message_done(&msg);
    assert_int_equal(gw_frontend_backend_request(fe, &msg, 1000), -ECONNRESET);
    gw_frontend_free(fe);
    gw_frontend_free(be);
}

/* A caller may release the message after any result. */
static void test_fe_wire_failed_receive_leaves_no_fds(void **state)
{
    struct gw_frontend_message msg;
    struct gw_frontend *fe;

    assert_int_equal(gw_frontend_new(&fe, NULL), 0);
    memset(&msg, 0xff, sizeof(msg));
    assert_int_equal(gw_frontend_receive(fe, &msg, 0), -ENOTCONN);
    assert_int_equal(msg.n_fds, 0);
    memset(&msg, 0xff, sizeof(msg));
    assert_int_equal(gw_frontend_backend_request(fe, &msg, 0), -ENOTCONN);
    assert_int_equal(msg.n_fds, 0);
    gw_frontend_message_done(&msg);
    gw_frontend_free(fe);
}

static void test_fe_wire_full_socket_times_out(void **state)
{
    struct gw_frontend_config cfg = {.size = sizeof(cfg), .timeout_ms = 50};
    static const char zeros[65536];
    struct gw_frontend *fe;
    int pair[2], r = 0;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(gw_frontend_new(&fe, &cfg), 0);
    assert_int_equal(gw_frontend_attach(fe, pair[0]), 0);
    for (unsigned i = 0; r == 0 && i < 1000; i++)
        r = gw_frontend_send_bytes(fe, zeros, sizeof(zeros));
    assert_int_equal(r, -ETIMEDOUT);
    close(pair[1]);
    assert_int_equal(gw_frontend_send_bytes(fe, zeros, 1), -ECONNRESET);
    gw_frontend_free(fe);
}

static int listen_at(struct sockaddr_un *sa)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)sa, sizeof(*sa)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void *listen_later(void *arg)
{
    usleep(50000);
    return (void *)(intptr_t)listen_at(arg);
}

static void test_fe_wire_connect_waits_for_the_listener(void **state)
{
    struct gw_frontend_config cfg = {.size = sizeof(cfg), .connect_timeout_ms = 100};
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    char dir[] = "/tmp/fe_wire.XXXXXX", longer[200];
    struct gw_frontend *fe;
    pthread_t thread;
    void *listener;

    assert_non_null(mkdtemp(dir));
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/s", dir);
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(gw_frontend_new(&fe, &cfg), 0);
    assert_int_equal(gw_frontend_connect(fe, sa.sun_path), -ETIMEDOUT);
    assert_int_equal(gw_frontend_connect(fe, longer), -ENAMETOOLONG);
    assert_int_equal(gw_frontend_set_owner(fe), -ENOTCONN);
    gw_frontend_free(fe);

    cfg.connect_timeout_ms = 5000;
    assert_int_equal(gw_frontend_new(&fe, &cfg), 0);
    assert_int_equal(pthread_create(&thread, NULL, listen_later, &sa), 0);
    assert_int_equal(gw_frontend_connect(fe, sa.sun_path), 0);
    assert_int_equal(gw_frontend_connect(fe, sa.sun_path), -EISCONN);
    assert_int_equal(fcntl(gw_frontend_fd(fe), F_GETFD), FD_CLOEXEC);
    pthread_join(thread, &listener);
    gw_frontend_free(fe);
    close((int)(intptr_t)listener);
    unlink(sa.sun_path);
    rmdir(dir);
}

static void test_fe_wire_accept_takes_a_client(void **state)
{
    struct gw_frontend_config cfg = {.size = sizeof(cfg), .connect_timeout_ms = 50};
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    char dir[] = "/tmp/fe_wire.XXXXXX";
    struct gw_frontend *fe, *client;
    int listener;

    assert_non_null(mkdtemp(dir));
    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/s", dir);
    listener = listen_at(&sa);
    assert_int_equal(gw_frontend_new(&fe, &cfg), 0);
    assert_int_equal(gw_frontend_accept(fe, listener), -ETIMEDOUT);
    assert_int_equal(gw_frontend_new(&client, &cfg), 0);
    assert_int_equal(gw_frontend_connect(client, sa.sun_path), 0);
    assert_int_equal(gw_frontend_accept(fe, listener), 0);
    assert_int_equal(gw_frontend_set_owner(fe), 0);
    gw_frontend_free(fe);
    gw_frontend_free(client);
    close(listener);
    unlink(sa.sun_path);
    rmdir(dir);
}

/* A client that cannot be accepted is an error, and not a connection. */
static void test_fe_wire_accept_without_room_for_an_fd_fails(void **state)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = "/tmp/fe_wire.XXXXXX"};
    struct gw_frontend *fe, *client;
    struct rlimit old, few;
    int listener, unused;

    if (is_under_valgrind())
        skip();
    assert_non_null(mkdtemp(sa.sun_path));
    strcat(sa.sun_path, "/s");
    assert_int_equal(gw_frontend_new(&fe, NULL), 0);
    assert_int_equal(gw_frontend_new(&client, NULL), 0);
    listener = listen_at(&sa);
    assert_int_equal(gw_frontend_connect(client, sa.sun_path), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    few = old;
    unused = fcntl(listener, F_DUPFD_CLOEXEC, 0);
    close(unused);
    few.rlim_cur = (rlim_t)unused;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_int_equal(gw_frontend_accept(fe, listener), -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(gw_frontend_fd(fe), -1);
    assert_int_equal(gw_frontend_accept(fe, listener), 0);
    gw_frontend_free(fe);
    gw_frontend_free(client);
    close(listener);
    unlink(sa.sun_path);
    *strrchr(sa.sun_path, '/') = '\0';
    rmdir(sa.sun_path);
}

/* Make 0 the next descriptor. Returns: a copy of what it was, for give_zero_back. */
static int free_zero(void)
{
    int kept = fcntl(0, F_DUPFD_CLOEXEC, 3);

    close(0);
    return kept;
}

static void give_zero_back(int kept)
{
    assert_int_equal(dup3(kept, 0, O_CLOEXEC), 0);
    close(kept);
}

/* 0 is a descriptor like others, in each of the three ways to connect. */
static void test_fe_wire_descriptor_0_is_a_connection(void **state)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = "/tmp/fe_wire.XXXXXX"};
    struct gw_frontend *fe, *other;
    int listener, kept, pair[2], first = open("/dev/null", O_RDWR | O_CLOEXEC); /* takes 0 */

    assert_non_null(mkdtemp(sa.sun_path));
    strcat(sa.sun_path, "/s");
    assert_int_equal(gw_frontend_new(&fe, NULL), 0);
    assert_int_equal(gw_frontend_new(&other, NULL), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    listener = listen_at(&sa);
    for (unsigned i = 0; i < 3; i++) {
        kept = free_zero();
        errno = EXDEV;
        if (i == 0) {
            assert_int_equal(gw_frontend_connect(fe, sa.sun_path), 0);
        } else if (i == 1) {
            give_zero_back(kept);
            assert_int_equal(gw_frontend_connect(other, sa.sun_path), 0);
            kept = free_zero();
            errno = EXDEV;
            assert_int_equal(gw_frontend_accept(fe, listener), 0); /* the first client */
        } else {
            assert_int_equal(dup2(pair[0], 0), 0);
            assert_int_equal(gw_frontend_attach(fe, 0), 0);
        }
        assert_int_equal(gw_frontend_fd(fe), 0);
        if (i != 1) /* the first client has sent something, and is gone */
            assert_int_equal(gw_frontend_set_owner(fe), 0);
        assert_int_equal(gw_frontend_connect(fe, sa.sun_path), -EISCONN);
        assert_int_equal(gw_frontend_accept(fe, listener), -EISCONN);
        assert_int_equal(gw_frontend_attach(fe, fcntl(pair[1], F_DUPFD_CLOEXEC, 0)), -EISCONN);
        gw_frontend_disconnect(fe);
        while (fcntl(0, F_GETFD) >= 0) /* another thread closes it */
            usleep(1000);
        assert_int_equal(gw_frontend_set_owner(fe), -ENOTCONN);
        give_zero_back(kept);
    }
    gw_frontend_free(fe);
    gw_frontend_free(other);
    close(pair[0]);
    close(pair[1]);
    close(listener);
    close(first);
    unlink(sa.sun_path);
    *strrchr(sa.sun_path, '/') = '\0';
    rmdir(sa.sun_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fe_wire_get_features_in_pieces_succeeds),
        FDCHECK_TEST(test_fe_wire_wrong_answers_are_refused),
        FDCHECK_TEST(test_fe_wire_too_many_fds_are_closed),
        FDCHECK_TEST(test_fe_wire_nine_fds_are_refused),
        FDCHECK_TEST(test_fe_wire_other_control_data_is_ignored),
        FDCHECK_TEST(test_fe_wire_no_room_for_fds_is_told),
        FDCHECK_TEST(test_fe_wire_no_answer_times_out_and_ends_the_session),
        FDCHECK_TEST(test_fe_wire_half_an_answer_times_out),
        FDCHECK_TEST(test_fe_wire_hang_up_is_told),
        FDCHECK_TEST(test_fe_wire_unasked_bytes_are_told),
        FDCHECK_TEST(test_fe_wire_acknowledgements_follow_the_mode),
        FDCHECK_TEST(test_fe_wire_gated_requests_need_their_feature),
        FDCHECK_TEST(test_fe_wire_ring_messages_are_as_specified),
        FDCHECK_TEST(test_fe_wire_get_vring_base_of_another_ring_is_refused),
        FDCHECK_TEST(test_fe_wire_config_space_goes_both_ways),
        FDCHECK_TEST(test_fe_wire_memory_goes_as_table_and_as_slots),
        FDCHECK_TEST(test_fe_wire_xen_memory_has_flags_and_domain),
        FDCHECK_TEST(test_fe_wire_event_channel_goes_in_the_number),
        FDCHECK_TEST(test_fe_wire_raw_messages_may_lie),
        FDCHECK_TEST(test_fe_wire_backend_channel_carries_requests),
        FDCHECK_TEST(test_fe_wire_failed_receive_leaves_no_fds),
        FDCHECK_TEST(test_fe_wire_full_socket_times_out),
        FDCHECK_TEST(test_fe_wire_connect_waits_for_the_listener),
        FDCHECK_TEST(test_fe_wire_accept_takes_a_client),
        FDCHECK_TEST(test_fe_wire_accept_without_room_for_an_fd_fails),
        FDCHECK_TEST(test_fe_wire_descriptor_0_is_a_connection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
