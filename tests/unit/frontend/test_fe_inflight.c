/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The front-end's inflight messages against a scripted peer, and how gw_frontend_start uses them:
 * the order of QEMU, a session after a lost one, and drivers of the wrong layout.
 */
#include "../fixtures/fe_peer.h"
#include "fdcheck.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define BIT(n)  (UINT64_C(1) << (n))
#define OFFERED (BIT(GW_F_PROTOCOL_FEATURES) | BIT(GW_F_VERSION_1) | BIT(GW_F_RING_PACKED))
#define NUM     2
#define SIZE    64
#define LENGTH  (NUM * (32 + 32 * SIZE))

/* Never fd 0, which stands for another file in struct peer_step. */
static int make_file(off_t len)
{
    int any = memfd_create("inflight", MFD_CLOEXEC), fd = fcntl(any, F_DUPFD_CLOEXEC, 1);

    close(any);
    assert_int_equal(ftruncate(fd, len), 0);
    return fd;
}

static struct peer_step answer_region(int fd, const struct gw_wire_inflight *w)
{
    struct peer_step s = {
        .reply = {.request = GW_MSG_GET_INFLIGHT_FD, .flags = PEER_REPLY_OK, .size = sizeof(*w)},
        .len = sizeof(*w),
        .n_fds = fd < 0 ? 0 : 1,
        .fd = fd,
    };

    memcpy(s.payload, w, sizeof(*w));
    return s;
}

static void test_fe_inflight_messages_are_as_specified(void **state)
{
    const struct gw_wire_inflight w = {
        .mmap_size = LENGTH, .mmap_offset = 4096, .num_queues = NUM, .queue_size = SIZE};
    int fd = make_file(4096 + LENGTH);
    struct peer_step step = answer_region(fd, &w);
    struct gw_frontend_inflight region = {0};
    struct gw_wire_inflight sent;
    struct peer p;
    struct gw_frontend *fe = peer_begin(&p, &step, 1);

    assert_int_equal(gw_frontend_get_inflight_fd(fe, NUM, SIZE, &region), 0);
    assert_true(region.mmap_size == LENGTH && region.mmap_offset == 4096);
    assert_true(region.num_queues == NUM && region.queue_size == SIZE);
    assert_int_equal(fcntl(region.fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(gw_frontend_set_inflight_fd(fe, &region), 0);
    gw_frontend_inflight_done(&region);
    gw_frontend_inflight_done(&region);
    assert_int_equal(gw_frontend_get_inflight_fd(fe, 0, SIZE, &region), -EINVAL);
    assert_int_equal(gw_frontend_get_inflight_fd(fe, 65536, SIZE, &region), -EINVAL);
    assert_int_equal(gw_frontend_get_inflight_fd(fe, 1, 0, &region), -EINVAL);
    peer_finish(&p, fe);
    close(fd);

    assert_int_equal(p.n_seen, 2);
    assert_true(p.seen[0].h.request == 31 && p.seen[0].h.size == 24 && p.seen[0].n_fds == 0);
    memcpy(&sent, p.seen[0].payload, sizeof(sent));
    assert_true(sent.num_queues == NUM && sent.queue_size == SIZE);
    assert_true(sent.mmap_size == 0 && sent.mmap_offset == 0 && sent.padding == 0);
    assert_true(p.seen[1].h.request == 32 && p.seen[1].h.size == 24 && p.seen[1].n_fds == 1);
    assert_memory_equal(p.seen[1].payload, &w, sizeof(w));
}

/* Replies with a region that does not fit the request; no fd of them stays open. */
static void test_fe_inflight_wrong_regions_are_refused(void **state)
{
    const struct gw_wire_inflight right = {
        .mmap_size = LENGTH, .mmap_offset = 4096, .num_queues = NUM, .queue_size = SIZE};
    const char *texts[] = {"1 queues of 64", "2 queues of 32", "without an fd", "cannot hold",
                           "shorter",        "shorter",        "2 fds",         "0 queues"};
    int fd = make_file(4096 + LENGTH);

    for (unsigned i = 0; i < 8; i++) {
        struct gw_wire_inflight w = right;
        struct gw_frontend_inflight region = {.fd = 77};
        struct gw_frontend *fe;
        struct peer_step step;
        struct peer p;

        w.num_queues -= i == 0;
        w.queue_size = i == 1 ? 32 : w.queue_size;
        w.mmap_size = i == 3 ? NUM * (16 + 16 * SIZE) - 1 : w.mmap_size;
        w.mmap_offset += i == 4;
        w.mmap_offset = i == 5 ? UINT64_MAX - 100 : w.mmap_offset;
        if (i == 7)
            memset(&w, 0, sizeof(w)); /* no region, but an fd */
        step = answer_region(i == 2 ? -1 : fd, &w);
        if (i == 6)
            step.n_fds = 2;
        fe = peer_begin(&p, &step, 1);
        assert_int_equal(gw_frontend_get_inflight_fd(fe, NUM, SIZE, &region), -EPROTO);
        if (!strstr(gw_frontend_last_error(), texts[i]))
            fail_msg("\"%s\" is not about \"%s\"", gw_frontend_last_error(), texts[i]);
        assert_true(region.fd == 77 && region.mmap_size == 0);
        assert_int_equal(gw_frontend_set_owner(fe), -EPROTO);
        peer_finish(&p, fe);
    }
    close(fd);
}

/* Entries of a packed ring are longer. */
static void test_fe_inflight_length_follows_the_layout(void **state)
{
    const struct gw_wire_inflight w = {
        .mmap_size = LENGTH - 1, .num_queues = NUM, .queue_size = SIZE};
    int fd = make_file(LENGTH);
    struct gw_frontend_inflight region = {0};
    struct gw_frontend *fe;
    struct peer p;

    for (unsigned packed = 0; packed < 2; packed++) {
        struct peer_step steps[2] = {{.len = 0}, answer_region(fd, &w)};

        fe = peer_begin(&p, steps, 2);
        assert_int_equal(gw_frontend_set_features(fe, packed ? BIT(GW_F_RING_PACKED) : 0), 0);
        assert_int_equal(gw_frontend_get_inflight_fd(fe, NUM, SIZE, &region), packed ? -EPROTO : 0);
        gw_frontend_inflight_done(&region);
        peer_finish(&p, fe);
    }
    close(fd);
}

static void test_fe_inflight_none_is_an_answer(void **state)
{
    const struct gw_wire_inflight none = {0};
    struct peer_step step = answer_region(-1, &none);
    struct gw_frontend_inflight region = {.fd = 5, .mmap_size = 6};
    struct peer p;
    struct gw_frontend *fe = peer_begin(&p, &step, 1);

    assert_int_equal(gw_frontend_get_inflight_fd(fe, NUM, SIZE, &region), 0);
    assert_true(region.fd == -1 && region.mmap_size == 0);
    peer_finish(&p, fe);
}

static void test_fe_inflight_messages_need_their_features(void **state)
{
    struct gw_frontend_config cfg = {.size = sizeof(cfg), .timeout_ms = PEER_TIMEOUT_MS};
    struct gw_frontend_inflight region = {0};
    struct peer p;
    struct gw_frontend *fe = peer_begin_with(&p, NULL, 0, &cfg);
    uint32_t base;

    assert_int_equal(gw_frontend_get_inflight_fd(fe, 1, 1, &region), -EOPNOTSUPP);
    assert_int_equal(gw_frontend_set_inflight_fd(fe, &region), -EOPNOTSUPP);
    assert_int_equal(gw_frontend_get_vring_base_skip_drain(fe, 1, &base), -EOPNOTSUPP);
    peer_finish(&p, fe);
    assert_int_equal(p.n_seen, 0);
}

static void test_fe_inflight_skip_drain_is_a_get_vring_base(void **state)
{
    struct gw_wire_vring_state right = {.index = 1, .num = 0x80058006}, sent;
    struct peer_step steps[2];
    struct gw_frontend *fe;
    uint32_t base = 7;
    struct peer p;

    for (unsigned i = 0; i < 2; i++) {
        steps[i] = peer_answer_u64(45, 0);
        right.index = 1 + i;
        memcpy(steps[i].payload, &right, sizeof(right));
    }
    fe = peer_begin(&p, steps, 2);
    assert_int_equal(gw_frontend_get_vring_base_skip_drain(fe, 1, &base), 0);
    assert_int_equal(base, 0x80058006);
    assert_int_equal(gw_frontend_get_vring_base_skip_drain(fe, 1, &base), -EPROTO);
    assert_non_null(strstr(gw_frontend_last_error(), "SKIP_DRAIN of ring 1"));
    peer_finish(&p, fe);
    memcpy(&sent, p.seen[0].payload, sizeof(sent));
    assert_true(p.seen[0].h.size == 8 && sent.index == 1 && sent.num == 0);
}

/* ---- gw_frontend_start ---- */

struct machine {
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_frontend_options opt;
};

static void machine_begin(struct machine *m, bool packed)
{
    const struct gw_guest_region region = {.length = 1 << 20};
    struct gw_driver_config cfg = {
        .size = sizeof(cfg), .queue_size = SIZE, .index = NUM - 1, .packed = packed};

    assert_int_equal(gw_guest_mem_new(&m->mem, 0), 0);
    assert_int_equal(gw_guest_mem_add(m->mem, &region), 0);
    cfg.mem = m->mem;
    assert_int_equal(gw_driver_new(&m->driver, &cfg), 0);
    m->opt = (struct gw_frontend_options){.size = sizeof(m->opt),
                                          .protocol_features = BIT(GW_PROTOCOL_F_INFLIGHT_SHMFD),
                                          .mem = m->mem,
                                          .drivers = &m->driver,
                                          .n_drivers = 1,
                                          .no_enable = true};
}

static void machine_finish(struct machine *m)
{
    gw_driver_free(m->driver);
    gw_guest_mem_free(m->mem);
}

/* One session from attach to disconnection. Returns: the result of the start. */
static int session(struct peer *p, struct machine *m, uint64_t offered,
                   const struct peer_step *region, char *text)
{
    struct gw_frontend_config cfg = {.size = sizeof(cfg), .timeout_ms = PEER_TIMEOUT_MS};
    struct peer_step steps[6] = {
        [0] = peer_answer_u64(GW_MSG_GET_FEATURES, offered),
        [1] = peer_answer_u64(GW_MSG_GET_PROTOCOL_FEATURES, BIT(GW_PROTOCOL_F_INFLIGHT_SHMFD)),
    };
    struct gw_frontend *fe;
    int r;

    if (region)
        steps[5] = *region;
    fe = peer_begin_with(p, steps, 6, &cfg);
    r = gw_frontend_start(fe, &m->opt);
    strcpy(text, gw_frontend_last_error());
    peer_finish(p, fe);
    return r;
}

static void expect_order(const struct peer *p, const uint32_t *ids, unsigned n)
{
    assert_int_equal(p->n_seen, n);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(p->seen[i].h.request, ids[i]);
}

static uint32_t sent_base(const struct peer *p)
{
    struct gw_wire_vring_state s = {0};

    for (unsigned i = 0; i < p->n_seen; i++) {
        if (p->seen[i].h.request == GW_MSG_SET_VRING_BASE)
            memcpy(&s, p->seen[i].payload, sizeof(s));
    }
    return s.num;
}

/*
 * Like vhost_user_blk_start of QEMU: features, the region, features again. The region is requested
 * once. After a lost session it is sent before the rings, which start at the last position of the
 * device.
 */
static void test_fe_inflight_start_has_the_order_of_qemu(void **state)
{
    const uint32_t first[] = {1, 15, 16, 3, 2, 31, 32, 2, 5, 8, 10, 9, 12, 13};
    const uint32_t again[] = {1, 15, 16, 3, 2, 32, 2, 5, 8, 10, 9, 12, 13};

    for (unsigned packed = 0; packed < 2; packed++) {
        const struct gw_wire_inflight w = {
            .mmap_size = LENGTH, .num_queues = NUM, .queue_size = SIZE};
        const struct gw_driver_buf buf = {.len = 8};
        int fd = make_file(LENGTH);
        struct peer_step step = answer_region(fd, &w);
        struct gw_frontend_inflight region = {0};
        struct gw_wire_inflight asked;
        struct machine m;
        struct peer p;
        char text[256];

        machine_begin(&m, packed);
        m.opt.inflight = &region;
        assert_int_equal(session(&p, &m, OFFERED, &step, text), 0);
        expect_order(&p, first, 14);
        memcpy(&asked, p.seen[5].payload, sizeof(asked));
        assert_true(asked.num_queues == NUM && asked.queue_size == SIZE);
        assert_int_equal(p.seen[6].n_fds, 1);
        assert_int_equal(sent_base(&p), packed ? 0x80008000 : 0);

        /* The device pops two requests, completes one, and crashes. */
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(gw_driver_add(m.driver, &buf, 0, 1, i, 0), 0);
        gw_driver_kick(m.driver);
        if (packed) {
            struct gw_driver_packed_desc desc = {.flags = 0x8080, .id = 1};

            gw_driver_write_packed_desc(m.driver, 0, &desc);
        } else {
            struct gw_frontend_vring_addr addr;
            uint16_t *idx;

            memcpy(&addr.used, p.seen[11].payload + 16, 8);
            idx = gw_guest_mem_at(m.mem, addr.used + 2, 2);
            *idx = 1;
        }
        assert_int_equal(session(&p, &m, OFFERED, NULL, text), 0);
        expect_order(&p, again, 13);
        assert_int_equal(sent_base(&p), packed ? 0x80018001 : 1);
        assert_int_equal(gw_driver_in_flight(m.driver), 3);

        /*
         * After a proper stop, also with requests left in the region, the ring starts at the given
         * base.
         */
        gw_driver_set_base(m.driver, packed ? 0x80018002 : 2);
        assert_int_equal(session(&p, &m, OFFERED, NULL, text), 0);
        assert_int_equal(sent_base(&p), packed ? 0x80018002 : 2);
        gw_frontend_inflight_done(&region);
        machine_finish(&m);
        close(fd);
    }
}

/* Without a region, a lost session does not change the base. */
static void test_fe_inflight_start_without_a_region_keeps_the_base(void **state)
{
    const struct gw_wire_inflight none = {0};
    struct peer_step step = answer_region(-1, &none);
    const uint32_t refused[] = {1, 15, 16, 3, 2, 31, 2, 5, 8, 10, 9, 12, 13};
    struct gw_frontend_inflight region = {0};
    struct machine m;
    struct peer p;
    char text[256];

    machine_begin(&m, false);
    m.opt.inflight = &region;
    assert_int_equal(session(&p, &m, OFFERED, &step, text), 0);
    expect_order(&p, refused, 13);
    gw_driver_set_base(m.driver, 9);
    assert_int_equal(session(&p, &m, OFFERED, &step, text), 0);
    assert_int_equal(session(&p, &m, OFFERED, &step, text), 0);
    assert_int_equal(sent_base(&p), 9);
    machine_finish(&m);
}

static void test_fe_inflight_start_refuses_drivers_of_the_other_layout(void **state)
{
    struct machine m;
    struct peer p;
    char text[256];

    machine_begin(&m, true);
    assert_int_equal(session(&p, &m, OFFERED & ~BIT(GW_F_RING_PACKED), NULL, text), -EOPNOTSUPP);
    assert_non_null(strstr(text, "queue 1: the ring is packed"));
    assert_int_equal(p.n_seen, 4); /* only negotiation */
    /* By default the front-end negotiates RING_PACKED if a driver needs it. */
    assert_int_equal(session(&p, &m, OFFERED, NULL, text), 0);
    m.opt.features = BIT(GW_F_PROTOCOL_FEATURES) | BIT(GW_F_VERSION_1);
    assert_int_equal(session(&p, &m, OFFERED, NULL, text), -EOPNOTSUPP);
    machine_finish(&m);

    machine_begin(&m, false);
    assert_int_equal(session(&p, &m, OFFERED, NULL, text), 0);
    m.opt.features = OFFERED;
    assert_int_equal(session(&p, &m, OFFERED, NULL, text), -EINVAL);
    assert_non_null(strstr(text, "queue 1: the ring is split"));
    machine_finish(&m);
}

static void test_fe_inflight_start_refuses_another_order_in_flight(void **state)
{
    const uint64_t in_order = BIT(GW_F_IN_ORDER);
    const struct gw_driver_buf buf = {.len = 8};
    struct machine m;
    struct peer p;
    char text[256];

    machine_begin(&m, false);
    m.opt.features = BIT(GW_F_PROTOCOL_FEATURES) | BIT(GW_F_VERSION_1) | in_order;
    assert_int_equal(session(&p, &m, OFFERED | in_order, NULL, text), 0);
    assert_int_equal(gw_driver_add(m.driver, &buf, 0, 1, 0, 0), 0);
    assert_int_equal(session(&p, &m, OFFERED | in_order, NULL, text), 0);
    assert_int_equal(session(&p, &m, OFFERED, NULL, text), -EBUSY);
    assert_non_null(strstr(text, "IN_ORDER"));
    machine_finish(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fe_inflight_messages_are_as_specified),
        FDCHECK_TEST(test_fe_inflight_wrong_regions_are_refused),
        FDCHECK_TEST(test_fe_inflight_length_follows_the_layout),
        FDCHECK_TEST(test_fe_inflight_none_is_an_answer),
        FDCHECK_TEST(test_fe_inflight_messages_need_their_features),
        FDCHECK_TEST(test_fe_inflight_skip_drain_is_a_get_vring_base),
        FDCHECK_TEST(test_fe_inflight_start_has_the_order_of_qemu),
        FDCHECK_TEST(test_fe_inflight_start_without_a_region_keeps_the_base),
        FDCHECK_TEST(test_fe_inflight_start_refuses_drivers_of_the_other_layout),
        FDCHECK_TEST(test_fe_inflight_start_refuses_another_order_in_flight),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
