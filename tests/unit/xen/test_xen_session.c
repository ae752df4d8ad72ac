/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A daemon whose front-end's memory belongs to a Xen domain: sessions and requests with all kinds
 * of regions, the number of hypercalls, and hostile guests.
 */
#include "xen_fixture.h"

#include <godwit/frontend/log.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static void run_load(unsigned kind, bool packed)
{
    struct xen_fixture b = {0};

    fixture_begin(&b, kind, packed);
    for (unsigned round = 0; round < 40; round++) {
        unsigned n = round % DEPTH + 1;

        for (unsigned i = 0; i < n; i++)
            add(&b, i, (round + i) % 3 == 0 ? GW_DRIVER_INDIRECT : 0);
        gw_driver_kick(b.driver);
        assert_int_equal(take(&b, n), n);
    }
    assert_int_equal(gw_frontend_stop(b.fe, &b.driver, 1), 0);
    fixture_end(&b);
}

static void test_xen_session_serves_memory_of_every_kind(void **state)
{
    for (unsigned i = 0; i < N_KINDS; i++) {
        run_load(i, false);
        run_load(i, true);
    }
}

/*
 * For any number of requests and pages: one call reads them, one writes their completions; indirect
 * tables need one more before.
 */
static void expect_calls(unsigned flags, unsigned n_copies)
{
    for (unsigned depth = 1; depth <= DEPTH; depth *= 4) {
        unsigned maps, copies;
        struct xen_fixture b = {0};

        fixture_begin(&b, NO_ADVANCE, false);
        maps = calls(XEN_STUB_GRANT_MAP);
        copies = calls(XEN_STUB_GRANT_COPY);
        for (unsigned i = 0; i < depth; i++)
            add(&b, i, flags);
        gw_driver_kick(b.driver);
        assert_int_equal(take(&b, depth), depth);
        assert_int_equal(calls(XEN_STUB_GRANT_COPY) - copies, n_copies);
        assert_int_equal(calls(XEN_STUB_GRANT_MAP), maps); /* rings stay mapped */
        fixture_end(&b);
    }
}

static void test_xen_session_batch_costs_two_calls(void **state)
{
    expect_calls(0, 2);
    expect_calls(GW_DRIVER_INDIRECT, 3);
}

static void test_xen_session_persistent_grants_cost_nothing(void **state)
{
    struct xen_fixture b = {.cfg.xen_persistent_grants = DEPTH * 4 + 8};
    unsigned maps = 0, copies = 0;

    fixture_begin(&b, NO_ADVANCE, false);
    for (unsigned round = 0; round < 20; round++) {
        if (round == 1) {
            maps = calls(XEN_STUB_GRANT_MAP);
            copies = calls(XEN_STUB_GRANT_COPY);
        }
        for (unsigned i = 0; i < DEPTH; i++)
            add(&b, i, 0);
        gw_driver_kick(b.driver);
        assert_int_equal(take(&b, DEPTH), DEPTH);
    }
    assert_int_equal(calls(XEN_STUB_GRANT_MAP), maps);
    assert_int_equal(calls(XEN_STUB_GRANT_COPY), copies);
    assert_int_equal(copies, 0);
    fixture_end(&b);
}

static void test_xen_session_bad_grant_is_a_bad_chain(void **state)
{
    for (unsigned bad = 0; bad < DEPTH; bad++) {
        uint32_t ref;
        struct xen_fixture b = {0};

        fixture_begin(&b, NO_ADVANCE, bad % 2);
        ref = (uint32_t)((page_of(&b, bad, bad % 4 / 2) & ~GW_GRANT_ADDRESS) / PAGE);
        xen_stub.grants[ref].valid = false;
        for (unsigned i = 0; i < DEPTH; i++)
            add(&b, i, 0);
        gw_driver_kick(b.driver);
        assert_int_equal(take(&b, DEPTH), DEPTH - 1);
        assert_true(says(&b, "bad descriptor chain"));
        xen_stub.grants[ref].valid = true;
        for (unsigned i = 0; i < DEPTH; i++)
            add(&b, i, 0);
        gw_driver_kick(b.driver);
        assert_int_equal(take(&b, DEPTH), DEPTH);
        fixture_end(&b);
    }
}

static void test_xen_session_missing_frame_is_a_bad_chain(void **state)
{
    struct xen_fixture b = {0};

    fixture_begin(&b, FOREIGN, false); /* to find the addresses of the buffers */
    xen_stub.frame_errors[page_of(&b, 3, 1) / PAGE] = EBUSY;
    fixture_end(&b);
    memset(&b, 0, sizeof(b));
    fixture_begin(&b, FOREIGN, false);
    for (unsigned i = 0; i < DEPTH; i++)
        add(&b, i, i % 2 ? GW_DRIVER_INDIRECT : 0);
    gw_driver_kick(b.driver);
    assert_int_equal(take(&b, DEPTH), DEPTH - 1);
    fixture_end(&b);
}

/* Make `n` requests available, which the device holds. */
static void hold_requests(struct xen_fixture *b, unsigned n)
{
    b->hold = true;
    for (unsigned i = 0; i < n; i++)
        add(b, i, 0);
    gw_driver_kick_always(b->driver);
    while (b->n_held < n)
        usleep(1000);
    b->hold = false;
}

static uint32_t ref_of(const struct xen_fixture *b, unsigned i, unsigned page)
{
    return (uint32_t)((page_of(b, i, page) & ~GW_GRANT_ADDRESS) / PAGE);
}

static void grant_again(uint32_t ref)
{
    xen_stub_grant(ref, FIRST + ref - REF, 1);
}

static uint64_t count_bad(const struct xen_fixture *b)
{
    struct gw_queue_stats stats;

    gw_queue_stats(gw_daemon_queue(b->daemon, 0), &stats);
    assert_int_equal(stats.requests, stats.completed);
    /* The device writes as many bytes as it reads. */
    assert_int_equal(stats.bytes_readable, stats.bytes_written);
    return stats.errors;
}

/*
 * A completion that cannot be stored completely is void, and its partial data cannot be mistaken
 * for valid. Other requests before, next to and after it complete.
 */
static void answer_into_bad(struct xen_fixture *b, unsigned bad, unsigned page, bool revoked)
{
    uint32_t ref = ref_of(b, bad, page);
    const uint8_t *in = gw_guest_mem_at(b->mem, page_of(b, bad, 2), 2 * PAGE);
    uint64_t n_bad = count_bad(b);

    xen_stub.grants[ref].read_only = !revoked;
    hold_requests(b, 5);
    xen_stub.grants[ref].valid = !revoked;
    assert_int_equal(gw_worker_post(gw_daemon_worker(b->daemon, 0), &b->answer), 0);
    assert_int_equal(take(b, 5), 4);
    assert_int_equal(in[2047], 0xee);
    for (unsigned k = 0; k < PAGE; k++)
        assert_int_equal(in[k < 100 ? 2048 + k : PAGE + k - 100],
                         (k < 100) == (page == 2) ? 0xee : 0xff);
    assert_int_equal(in[2 * PAGE - 1], 0xee);
    assert_int_equal(count_bad(b), n_bad + 1);
    grant_again(ref);
}

static void test_xen_session_answer_that_cannot_be_stored_is_none(void **state)
{
    for (unsigned variant = 0; variant < 4; variant++) {
        struct xen_fixture b = {.in_order = variant / 2};

        fixture_begin(&b, NO_ADVANCE, variant % 2);
        for (unsigned bad = 0; bad < 5; bad++) {
            answer_into_bad(&b, bad, 2, bad % 2);
            answer_into_bad(&b, bad, 3, bad % 2);
        }
        assert_true(says(&b, "not granted for writing"));
        fixture_end(&b);
    }
}

/* If a partial completion cannot be made void, the ring breaks; a restart works. */
static void test_xen_session_answer_that_ends_halfway_ends_the_ring(void **state)
{
    for (unsigned packed = 0; packed < 2; packed++) {
        struct gw_driver_used used[DEPTH];
        struct xen_fixture b = {0};

        fixture_begin(&b, NO_ADVANCE, packed);
        hold_requests(&b, 3);
        xen_stub.grants[ref_of(&b, 1, 2)].n_copies = 1;
        xen_stub.grants[ref_of(&b, 1, 3)].valid = false;
        assert_int_equal(gw_worker_post(gw_daemon_worker(b.daemon, 0), &b.answer), 0);
        assert_true(says(&b, "revoked a grant"));
        assert_int_equal(gw_driver_take(b.driver, used, DEPTH), 0);
        grant_again(ref_of(&b, 1, 2));
        grant_again(ref_of(&b, 1, 3));
        assert_int_equal(gw_frontend_stop(b.fe, &b.driver, 1), 0);
        gw_driver_reset(b.driver, 0);
        assert_int_equal(gw_frontend_start_queue(b.fe, b.driver), 0);
        assert_int_equal(gw_frontend_set_vring_enable(b.fe, 0, true), 0);
        add(&b, 0, 0);
        gw_driver_kick_always(b.driver);
        assert_int_equal(take(&b, 1), 1);
        fixture_end(&b);
    }
}

static void test_xen_session_ring_that_is_not_granted_does_not_start(void **state)
{
    struct xen_fixture b = {0};

    fixture_begin(&b, NO_ADVANCE, false);
    assert_int_equal(gw_frontend_stop(b.fe, &b.driver, 1), 0);
    assert_int_equal(xen_stub.n_grant_pages, 0); /* a stopped ring holds no mapping */
    xen_stub.grants[REF].valid = false;
    assert_true(gw_frontend_start_queue(b.fe, b.driver) < 0);
    assert_true(says(&b, "is not in guest memory: grants 16 to"));
    xen_stub.grants[REF].valid = true;
    assert_int_equal(gw_frontend_start_queue(b.fe, b.driver), 0);
    fixture_end(&b);
}

static void test_xen_session_region_goes_and_comes_under_a_ring(void **state)
{
    for (unsigned i = 0; i < N_KINDS; i++) {
        struct xen_fixture b = {0};

        fixture_begin(&b, i, false);
        add(&b, 0, 0);
        gw_driver_kick(b.driver);
        assert_int_equal(take(&b, 1), 1);
        assert_int_equal(gw_frontend_rem_mem_reg(b.fe, b.mem, kinds[i].gpa), 0);
        assert_int_equal(xen_stub.n_foreign_pages + xen_stub.n_grant_pages, 0);
        assert_true(says(&b, "is not in guest memory"));
        assert_int_equal(gw_frontend_add_mem_reg(b.fe, b.mem, kinds[i].gpa), 0);
        assert_int_equal(gw_frontend_stop(b.fe, &b.driver, 1), 0);
        assert_int_equal(gw_frontend_start_queue(b.fe, b.driver), 0);
        assert_int_equal(gw_frontend_set_vring_enable(b.fe, 0, true), 0);
        add(&b, 1, 0);
        gw_driver_kick_always(b.driver);
        assert_int_equal(take(&b, 1), 1);
        fixture_end(&b);
    }
}

/* Frames are logged by number, granted pages by reference. */
static void test_xen_session_log_knows_pages_by_their_address(void **state)
{
    for (unsigned i = 0; i < N_KINDS; i++) {
        gw_gpa_t base = kinds[i].gpa & GW_GRANT_ADDRESS ? GW_GUEST_LOG_GRANTS : 0;
        struct gw_guest_log_config cfg = {.size = sizeof(cfg), .length = 4096, .base = base};
        struct gw_guest_log *log;
        struct xen_fixture b = {0};

        fixture_begin(&b, i, false);
        assert_int_equal(gw_guest_log_new(&log, &cfg), 0);
        assert_int_equal(gw_frontend_set_log_base(b.fe, log), 0);
        assert_int_equal(gw_frontend_set_log_all(b.fe, true), 0);
        add(&b, 2, 0);
        gw_driver_kick(b.driver);
        assert_int_equal(take(&b, 1), 1);
        assert_int_equal(gw_frontend_stop(b.fe, &b.driver, 1), 0);
        for (unsigned page = 0; page < DEPTH * 4; page++)
            assert_int_equal(gw_guest_log_is_marked(log, b.buf + page * PAGE),
                             page == 2 * 4 + 2 || page == 2 * 4 + 3);
        fixture_end(&b);
        gw_guest_log_free(log);
    }
}

/* ---- messages ---- */

static int send_table(struct xen_fixture *b, uint32_t flags, uint32_t domid, size_t size)
{
    struct gw_wire_xen_mem_table table = {
        .num_regions = 1,
        .regions[0] = {.region = {.guest_addr = GW_GRANT_ADDRESS | REF * PAGE,
                                  .size = 4 * PAGE,
                                  .user_addr = 0x10000},
                       .flags = flags,
                       .domid = domid},
    };
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct gw_frontend_message answer;
    uint64_t status = UINT64_MAX;

    assert_int_equal(gw_frontend_send_raw(b->fe, GW_MSG_SET_MEM_TABLE,
                                          GW_MSG_VERSION | GW_MSG_NEED_REPLY, (uint32_t)size,
                                          &table, size, &fd, 1),
                     0);
    close(fd);
    assert_int_equal(gw_frontend_receive(b->fe, &answer, WAIT_MS), 0);
    assert_int_equal(answer.size, sizeof(status));
    memcpy(&status, answer.payload, sizeof(status));
    gw_frontend_message_done(&answer);
    return (int)status;
}

static void test_xen_session_regions_are_told_as_they_are(void **state)
{
    struct xen_fixture b = {0};

    make_daemon(&b);
    connect_to(&b);
    assert_int_equal(
        gw_frontend_negotiate(
            b.fe, &(struct gw_frontend_options){.size = sizeof(struct gw_frontend_options)}),
        0);
    assert_int_equal(send_table(&b, 0x2, XEN_STUB_DOMID, 48), 0);
    assert_int_equal(xen_stub.n_grant_pages, 4);
    /* Both values that mean "not in advance". */
    assert_int_equal(send_table(&b, 0x102, XEN_STUB_DOMID, 48), 0);
    assert_int_equal(xen_stub.n_grant_pages, 0);
    assert_int_equal(send_table(&b, 0xa, XEN_STUB_DOMID, 48), 0);
    assert_int_equal(xen_stub.n_grant_pages, 0);
    assert_int_equal(send_table(&b, 0x10a, XEN_STUB_DOMID, 48), 0);
    /* A refused table leaves the previous one in place. */
    assert_int_equal(send_table(&b, 0x2, XEN_STUB_DOMID, 48), 0);
    assert_true(send_table(&b, 0x3, XEN_STUB_DOMID, 48) != 0);
    assert_true(send_table(&b, 0x2, 0x7ff1, 48) != 0);
    assert_true(send_table(&b, 0x2, 9, 48) != 0);
    assert_true(send_table(&b, 0x2, XEN_STUB_DOMID, 40) != 0); /* an entry without the Xen fields */
    assert_true(send_table(&b, 0x2, XEN_STUB_DOMID, 56) != 0);
    assert_int_equal(xen_stub.n_grant_pages, 4);
    gw_frontend_free(b.fe);
    assert_int_equal(gw_daemon_wait(b.daemon), 0);
    gw_daemon_free(b.daemon);
}

static void test_xen_session_is_not_offered_without_xen(void **state)
{
    uint64_t features = 0;
    struct xen_fixture b = {0};

    xen_stub.errors[XEN_STUB_FOREIGN_OPEN] = ENOENT;
    xen_stub.errors[XEN_STUB_GRANT_OPEN] = ENOENT;
    make_daemon(&b);
    assert_true(says(&b, "/dev/xen/privcmd: No such file")); /* at the start of the daemon */
    assert_true(says(&b, "/dev/xen/gntdev: No such file"));
    connect_to(&b);
    assert_int_equal(gw_frontend_get_features(b.fe, &features), 0);
    assert_int_equal(gw_frontend_get_protocol_features(b.fe, &features), 0);
    assert_false(features & GW_BIT(GW_PROTOCOL_F_XEN_MMAP));
    gw_frontend_free(b.fe);
    assert_int_equal(gw_daemon_wait(b.daemon), 0);
    gw_daemon_free(b.daemon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        XEN_TEST(test_xen_session_serves_memory_of_every_kind),
        XEN_TEST(test_xen_session_batch_costs_two_calls),
        XEN_TEST(test_xen_session_persistent_grants_cost_nothing),
        XEN_TEST(test_xen_session_bad_grant_is_a_bad_chain),
        XEN_TEST(test_xen_session_missing_frame_is_a_bad_chain),
        XEN_TEST(test_xen_session_answer_that_cannot_be_stored_is_none),
        XEN_TEST(test_xen_session_answer_that_ends_halfway_ends_the_ring),
        XEN_TEST(test_xen_session_ring_that_is_not_granted_does_not_start),
        XEN_TEST(test_xen_session_region_goes_and_comes_under_a_ring),
        XEN_TEST(test_xen_session_log_knows_pages_by_their_address),
        XEN_TEST(test_xen_session_regions_are_told_as_they_are),
        XEN_TEST(test_xen_session_is_not_offered_without_xen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
