/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The front-end's postcopy messages against a scripted peer: it sends what QEMU sends, and checks
 * every answer before it uses it.
 */
#include "../fixtures/fe_peer.h"
#include "fdcheck.h"

#include <godwit/frontend/fault.h>

#include <errno.h>

#define GPA  UINT64_C(0x100000)
#define SIZE UINT64_C(0x2000)
#define UVA  UINT64_C(0x500000000000)
#define BASE UINT64_C(0x7f0000000000)

struct bases {
    struct {
        gw_gpa_t gpa;
        uint64_t len;
        gw_bva_t base;
    } seen[8];
    unsigned n;
    int answer;
};

static int take_base(void *arg, gw_gpa_t gpa, uint64_t len, gw_bva_t base)
{
    struct bases *b = arg;

    b->seen[b->n].gpa = gpa;
    b->seen[b->n].len = len;
    b->seen[b->n++].base = base;
    return b->answer;
}

static struct gw_guest_mem *new_mem(unsigned n)
{
    struct gw_guest_mem *m;

    assert_int_equal(gw_guest_mem_new(&m, UVA), 0);
    for (unsigned i = 0; i < n; i++) {
        const struct gw_guest_region r = {.gpa = GPA + i * SIZE, .length = SIZE};

        assert_int_equal(gw_guest_mem_add(m, &r), 0);
    }
    return m;
}

static struct peer_step answer(uint32_t request, const void *payload, uint32_t size)
{
    struct peer_step s = {.reply = {.request = request, .flags = PEER_REPLY_OK, .size = size},
                          .len = size};

    if (size)
        memcpy(s.payload, payload, size);
    return s;
}

static struct gw_wire_region region_at(unsigned i)
{
    return (struct gw_wire_region){
        .guest_addr = GPA + i * SIZE, .size = SIZE, .user_addr = BASE + i * 0x10000};
}

static struct peer_step answer_table(unsigned n)
{
    struct gw_wire_mem_table table = {.num_regions = n};

    for (unsigned i = 0; i < n; i++)
        table.regions[i] = region_at(i);
    return answer(GW_MSG_SET_MEM_TABLE, &table, 8 + n * (uint32_t)sizeof(table.regions[0]));
}

static struct peer_step answer_region(unsigned i)
{
    const struct gw_wire_single_region single = {.region = region_at(i)};

    return answer(GW_MSG_ADD_MEM_REG, &single, sizeof(single));
}

static void test_fe_postcopy_advise_takes_one_fd(void **state)
{
    struct peer_step steps[3] = {answer(GW_MSG_POSTCOPY_ADVISE, NULL, 0),
                                 answer(GW_MSG_POSTCOPY_ADVISE, NULL, 0),
                                 answer(GW_MSG_POSTCOPY_ADVISE, NULL, 0)};
    struct gw_frontend *fe;
    struct peer p;
    int uffd = -1;

    steps[0].n_fds = 1;
    steps[2].n_fds = 2;
    fe = peer_begin(&p, steps, 3);
    assert_int_equal(gw_frontend_postcopy_advise(fe, &uffd), 0);
    assert_true(uffd >= 0);
    close(uffd);
    uffd = -7;
    assert_int_equal(gw_frontend_postcopy_advise(fe, &uffd), -EREMOTEIO);
    assert_int_equal(gw_frontend_postcopy_advise(fe, &uffd), -EPROTO);
    assert_int_equal(uffd, -7);
    peer_finish(&p, fe);
    assert_int_equal(p.seen[0].h.flags, GW_MSG_VERSION);
    assert_int_equal(p.seen[0].h.size, 0);
}

static void test_fe_postcopy_needs_the_feature(void **state)
{
    struct gw_frontend_config cfg = {.size = sizeof(cfg), .timeout_ms = PEER_TIMEOUT_MS};
    struct gw_frontend *fe;
    struct peer p;
    int uffd;

    fe = peer_begin_with(&p, NULL, 0, &cfg);
    assert_int_equal(gw_frontend_postcopy_advise(fe, &uffd), -EOPNOTSUPP);
    assert_int_equal(gw_frontend_postcopy_listen(fe, NULL, NULL), -EOPNOTSUPP);
    assert_int_equal(gw_frontend_postcopy_end(fe), -EOPNOTSUPP);
    peer_finish(&p, fe);
    assert_int_equal(p.n_seen, 0);
}

/* Both messages request a reply and wait for it, even if REPLY_ACK was not negotiated. */
static void test_fe_postcopy_listen_and_end_are_waited_for(void **state)
{
    struct gw_frontend_config cfg = {.size = sizeof(cfg),
                                     .timeout_ms = PEER_TIMEOUT_MS,
                                     .ack = GW_FRONTEND_ACK_NEVER,
                                     .no_gates = true};
    struct peer_step steps[4] = {
        peer_answer_u64(GW_MSG_POSTCOPY_LISTEN, 22), peer_answer_u64(GW_MSG_POSTCOPY_LISTEN, 0),
        peer_answer_u64(GW_MSG_POSTCOPY_END, 0), peer_answer_u64(GW_MSG_POSTCOPY_END, 1)};
    struct gw_frontend *fe;
    struct peer p;

    fe = peer_begin_with(&p, steps, 4, &cfg);
    assert_int_equal(gw_frontend_postcopy_listen(fe, NULL, NULL), -EREMOTEIO);
    assert_int_equal(gw_frontend_postcopy_listen(fe, NULL, NULL), 0);
    assert_int_equal(gw_frontend_postcopy_end(fe), 0);
    assert_int_equal(gw_frontend_postcopy_end(fe), -EREMOTEIO);
    peer_finish(&p, fe);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(p.seen[i].h.flags, GW_MSG_VERSION | GW_MSG_NEED_REPLY);
}

static void expect_acknowledged(const struct peer_seen *s, uint32_t request)
{
    uint64_t value;

    assert_int_equal(s->h.request, request);
    assert_int_equal(s->h.flags, GW_MSG_VERSION);
    assert_int_equal(s->h.size, sizeof(value));
    assert_int_equal(s->n_fds, 0);
    memcpy(&value, s->payload, sizeof(value));
    assert_int_equal(value, 0);
}

static void test_fe_postcopy_table_form_is_as_qemu_sends_it(void **state)
{
    struct peer_step steps[6] = {peer_answer_u64(GW_MSG_SET_PROTOCOL_FEATURES, 0),
                                 peer_answer_u64(GW_MSG_POSTCOPY_LISTEN, 0),
                                 answer_table(3),
                                 {.len = 0},
                                 peer_answer_u64(GW_MSG_POSTCOPY_END, 0),
                                 peer_answer_u64(GW_MSG_SET_MEM_TABLE, 0)};
    struct gw_guest_mem *m = new_mem(3);
    const struct gw_wire_mem_table *t;
    struct bases bases = {.n = 0};
    struct gw_frontend *fe;
    struct peer p;

    steps[0].reply.request = 0; /* not negotiated yet, so no reply */
    fe = peer_begin(&p, steps, 6);
    assert_int_equal(gw_frontend_set_protocol_features(fe, 1 << GW_PROTOCOL_F_REPLY_ACK), 0);
    assert_int_equal(gw_frontend_postcopy_listen(fe, take_base, &bases), 0);
    assert_int_equal(gw_frontend_set_mem_table(fe, m), 0);
    assert_int_equal(bases.n, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_true(bases.seen[i].gpa == GPA + i * SIZE && bases.seen[i].len == SIZE &&
                    bases.seen[i].base == BASE + i * 0x10000);
    assert_int_equal(gw_frontend_postcopy_end(fe), 0);
    assert_int_equal(gw_frontend_set_mem_table(fe, m), 0); /* without the postcopy form */
    gw_guest_mem_free(m);
    peer_finish(&p, fe);
    assert_int_equal(p.n_seen, 6);
    assert_int_equal(p.seen[2].h.flags, GW_MSG_VERSION);
    assert_int_equal(p.seen[2].n_fds, 3);
    t = (const void *)p.seen[2].payload;
    assert_int_equal(t->num_regions, 3);
    assert_true(t->regions[1].user_addr == UVA + GPA + SIZE);
    expect_acknowledged(&p.seen[3], GW_MSG_SET_MEM_TABLE);
    assert_int_equal(p.seen[5].h.flags, GW_MSG_VERSION | GW_MSG_NEED_REPLY);
}

static void test_fe_postcopy_slots_form_is_as_qemu_sends_it(void **state)
{
    struct peer_step steps[9] = {peer_answer_u64(GW_MSG_POSTCOPY_LISTEN, 0),
                                 answer_region(0),
                                 {.len = 0},
                                 answer_region(1),
                                 {.len = 0}};
    struct gw_guest_mem *m = new_mem(2);
    struct bases bases = {.n = 0};
    struct gw_frontend *fe;
    struct peer p;

    fe = peer_begin(&p, steps, 9);
    assert_int_equal(gw_frontend_postcopy_listen(fe, take_base, &bases), 0);
    assert_int_equal(gw_frontend_add_mem_reg(fe, m, GPA), 0);
    assert_int_equal(gw_frontend_add_mem_reg(fe, m, GPA + SIZE), 0);
    assert_int_equal(gw_frontend_rem_mem_reg(fe, m, GPA), 0);
    assert_int_equal(bases.n, 2);
    assert_true(bases.seen[1].gpa == GPA + SIZE && bases.seen[1].base == BASE + 0x10000);
    gw_guest_mem_free(m);
    peer_finish(&p, fe);
    assert_int_equal(p.n_seen, 7);
    assert_int_equal(p.seen[1].h.request, GW_MSG_ADD_MEM_REG);
    assert_int_equal(p.seen[1].h.flags, GW_MSG_VERSION);
    assert_int_equal(p.seen[1].n_fds, 1);
    expect_acknowledged(&p.seen[2], GW_MSG_ADD_MEM_REG);
    expect_acknowledged(&p.seen[4], GW_MSG_ADD_MEM_REG);
    assert_int_equal(p.seen[5].h.request, GW_MSG_REM_MEM_REG);
    assert_int_equal(p.seen[5].n_fds, 0);
    expect_acknowledged(&p.seen[6], GW_MSG_REM_MEM_REG);
}

/* Replies to SET_MEM_TABLE that must be refused, or whose addresses the callback rejects. */
static void expect_refused(const struct peer_step *step, int callback, int expected,
                           const char *text)
{
    const struct peer_step steps[2] = {peer_answer_u64(GW_MSG_POSTCOPY_LISTEN, 0), *step};
    struct gw_guest_mem *m = new_mem(2);
    struct bases bases = {.answer = callback};
    struct gw_frontend *fe;
    struct peer p;

    fe = peer_begin(&p, steps, 2);
    assert_int_equal(gw_frontend_postcopy_listen(fe, take_base, &bases), 0);
    assert_int_equal(gw_frontend_set_mem_table(fe, m), expected);
    assert_non_null(strstr(gw_frontend_last_error(), text));
    gw_guest_mem_free(m);
    peer_finish(&p, fe);
    assert_int_equal(p.n_seen, 2); /* no acknowledgement */
}

static void test_fe_postcopy_wrong_addresses_are_refused(void **state)
{
    struct peer_step step = answer_table(2);
    struct gw_wire_mem_table *t = (void *)step.payload;

    expect_refused(&step, -EINVAL, -EPROTO, "cannot be");
    expect_refused(&step, -ENOMEM, -ENOMEM, "cannot be");
    t->regions[1].user_addr = 0;
    expect_refused(&step, 0, -EPROTO, "cannot be");
    t->regions[1].user_addr = UINT64_MAX - 0xfff;
    expect_refused(&step, 0, -EPROTO, "cannot be");
    t->regions[1].user_addr = BASE + SIZE - 1; /* overlaps the other one */
    expect_refused(&step, 0, -EPROTO, "cannot be");
    step = answer_table(2);
    t->regions[0].guest_addr += SIZE;
    expect_refused(&step, 0, -EPROTO, "another region");
    step = answer_table(2);
    t->num_regions = 1;
    expect_refused(&step, 0, -EPROTO, "1 regions");
    step = answer_table(1);
    expect_refused(&step, 0, -EPROTO, "40 bytes");
    step = answer(GW_MSG_SET_MEM_TABLE, NULL, 0);
    expect_refused(&step, 0, -EREMOTEIO, "refused");
}

/* A start while the back-end listens ends its memory messages with one acknowledgement. */
static void test_fe_postcopy_start_acknowledges_its_regions(void **state)
{
    struct peer_step steps[9] = {
        [0] = peer_answer_u64(GW_MSG_POSTCOPY_LISTEN, 0),
        [1] = peer_answer_u64(GW_MSG_GET_FEATURES, UINT64_C(1) << GW_F_VERSION_1 |
                                                       UINT64_C(1) << GW_F_PROTOCOL_FEATURES),
        [2] = peer_answer_u64(GW_MSG_GET_PROTOCOL_FEATURES,
                              UINT64_C(1) << GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS),
        [4] = peer_answer_u64(GW_MSG_GET_MAX_MEM_SLOTS, 2),
        [7] = answer_region(0),
        [8] = answer_region(1),
    };
    struct gw_frontend_options opt = {.size = sizeof(opt), .mem = new_mem(2)};
    struct bases b = {.n = 0};
    struct gw_frontend *fe;
    struct peer p;

    fe = peer_begin(&p, steps, 9);
    assert_int_equal(gw_frontend_postcopy_listen(fe, take_base, &b), 0);
    assert_int_equal(gw_frontend_start(fe, &opt), 0);
    assert_int_equal(b.n, 2);
    gw_guest_mem_free(opt.mem);
    peer_finish(&p, fe);
    assert_int_equal(p.n_seen, 10);
    assert_true(p.seen[9].h.request == GW_MSG_ADD_MEM_REG && p.seen[9].h.size == 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fe_postcopy_advise_takes_one_fd),
        FDCHECK_TEST(test_fe_postcopy_needs_the_feature),
        FDCHECK_TEST(test_fe_postcopy_start_acknowledges_its_regions),
        FDCHECK_TEST(test_fe_postcopy_listen_and_end_are_waited_for),
        FDCHECK_TEST(test_fe_postcopy_table_form_is_as_qemu_sends_it),
        FDCHECK_TEST(test_fe_postcopy_slots_form_is_as_qemu_sends_it),
        FDCHECK_TEST(test_fe_postcopy_wrong_addresses_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
