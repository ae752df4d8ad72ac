/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Events of a Xen domain: its end, and event channels. */
#include "xen_fixture.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- domains that end ---- */

/* In every state: idle, with requests in flight, and with a log. */
static void test_xen_events_ends_with_its_domain(void **state)
{
    for (unsigned i = 0; i < 3 * N_KINDS; i++) {
        struct gw_driver_used used[DEPTH];
        struct xen_fixture b = {0};

        fixture_begin(&b, i / 3, false);
        add(&b, 0, 0);
        gw_driver_kick(b.driver);
        assert_int_equal(take(&b, 1), 1);
        b.hold = i % 3 > 0;
        for (unsigned k = 0; b.hold && k < 4; k++)
            add(&b, k, 0);
        gw_driver_kick_always(b.driver);
        while (b.hold && b.n_held < 4)
            usleep(1000);
        xen_stub_kill();
        assert_true(says(&b, "domain 7, the owner of guest memory, is gone"));
        if (b.hold)
            assert_int_equal(gw_worker_post(gw_daemon_worker(b.daemon, 0), &b.answer), 0);
        (void)gw_driver_take(b.driver, used, DEPTH);
        assert_int_equal(gw_daemon_wait(b.daemon), 0);
        assert_int_equal(xen_stub.n_foreign_pages + xen_stub.n_grant_pages, 0);
        assert_int_equal(xen_stub.n_handles, 0);
        /* The daemon accepts the next session. */
        xen_stub.is_dead = false;
        b.hold = false;
        gw_frontend_free(b.fe);
        connect_to(&b);
        gw_driver_reset(b.driver, 0);
        memset(gw_guest_mem_at(b.mem, b.kind->gpa, PAGE), 0, PAGE);
        restart(&b);
        add(&b, 0, 0);
        gw_driver_kick_always(b.driver);
        assert_int_equal(take(&b, 1), 1);
        fixture_end(&b);
    }
}

static void test_xen_events_without_xenstore_is_told(void **state)
{
    struct xen_fixture b = {0};

    xen_stub.errors[XEN_STUB_STORE_OPEN] = ENOENT;
    fixture_begin(&b, NO_ADVANCE, false);
    assert_true(says(&b, "xenstore cannot be asked: No such file"));
    add(&b, 0, 0);
    gw_driver_kick(b.driver);
    assert_int_equal(take(&b, 1), 1);
    fixture_end(&b);
}

/* ---- event channels ---- */

static int name_channel(struct xen_fixture *b, uint32_t request, uint64_t value)
{
    struct gw_frontend_message answer;
    uint64_t status = UINT64_MAX;

    assert_int_equal(gw_frontend_send_raw(b->fe, request, GW_MSG_VERSION | GW_MSG_NEED_REPLY,
                                          sizeof(value), &value, sizeof(value), NULL, 0),
                     0);
    assert_int_equal(gw_frontend_receive(b->fe, &answer, WAIT_MS), 0);
    memcpy(&status, answer.payload, sizeof(status));
    gw_frontend_message_done(&answer);
    return (int)status;
}

static uint64_t channel(uint32_t domid, uint32_t port)
{
    return GW_VRING_FD_NONE | GW_VRING_FD_EVTCHN | domid << GW_VRING_FD_DOMID_SHIFT |
           (uint64_t)port << GW_VRING_FD_PORT_SHIFT;
}

static unsigned events(uint32_t port)
{
    return xen_stub.n_events[port];
}

/* Kicks and calls through event channels: the same channel for both, or two. */
static void run_channels(uint32_t kick, uint32_t call)
{
    struct xen_fixture b = {0};

    xen_stub.is_offered[kick] = xen_stub.is_offered[call] = true;
    fixture_begin(&b, NO_ADVANCE, false);
    assert_int_equal(name_channel(&b, GW_MSG_SET_VRING_KICK, channel(XEN_STUB_DOMID, kick)), 0);
    assert_int_equal(name_channel(&b, GW_MSG_SET_VRING_CALL, channel(XEN_STUB_DOMID, call)), 0);
    for (unsigned round = 0; round < 100; round++) {
        unsigned before = events(call);

        assert_true(gw_driver_want_calls(b.driver));
        add(&b, 0, 0);
        gw_driver_publish(b.driver);
        assert_true(xen_stub_event(kick));
        for (unsigned ms = 0; events(call) == before; ms++) {
            assert_true(ms < WAIT_MS);
            usleep(1000);
        }
        assert_int_equal(take(&b, 1), 1);
    }
    assert_int_equal(gw_frontend_stop(b.fe, &b.driver, 1), 0);
    assert_false(xen_stub.is_bound[kick]);
    assert_false(xen_stub.is_bound[call]);
    fixture_end(&b);
}

static void test_xen_events_channels_kick_and_call(void **state)
{
    run_channels(5, 5);
    run_channels(6, 7);
}

static void test_xen_events_channel_gives_way_to_an_eventfd(void **state)
{
    struct xen_fixture b = {0};

    xen_stub.is_offered[5] = true;
    fixture_begin(&b, NO_ADVANCE, false);
    assert_int_equal(name_channel(&b, GW_MSG_SET_VRING_CALL, channel(XEN_STUB_DOMID, 5)), 0);
    assert_int_equal(name_channel(&b, GW_MSG_SET_VRING_KICK, channel(XEN_STUB_DOMID, 5)), 0);
    assert_int_equal(gw_frontend_set_vring_call(b.fe, 0, gw_driver_call_fd(b.driver)), 0);
    assert_true(xen_stub.is_bound[5]);
    assert_int_equal(gw_frontend_set_vring_kick(b.fe, 0, gw_driver_kick_fd(b.driver)), 0);
    assert_false(xen_stub.is_bound[5]);
    add(&b, 0, 0);
    gw_driver_kick_always(b.driver);
    assert_int_equal(take(&b, 1), 1);
    fixture_end(&b);
}

static void test_xen_events_bad_channels_are_refused(void **state)
{
    struct xen_fixture b = {0};

    xen_stub.is_offered[5] = true;
    fixture_begin(&b, NO_ADVANCE, false);
    /* Not offered; another domain; invalid queue; unknown bits; NOFD missing; an error fd. */
    assert_int_equal(name_channel(&b, GW_MSG_SET_VRING_CALL, channel(XEN_STUB_DOMID, 6)), EINVAL);
    assert_int_equal(name_channel(&b, GW_MSG_SET_VRING_CALL, channel(9, 5)), ESRCH);
    assert_true(name_channel(&b, GW_MSG_SET_VRING_CALL, channel(XEN_STUB_DOMID, 5) | 1) != 0);
    assert_true(name_channel(&b, GW_MSG_SET_VRING_CALL, channel(XEN_STUB_DOMID, 5) | 0x400) != 0);
    assert_true(name_channel(&b, GW_MSG_SET_VRING_CALL,
                             channel(XEN_STUB_DOMID, 5) & ~(uint64_t)GW_VRING_FD_NONE) != 0);
    assert_true(name_channel(&b, GW_MSG_SET_VRING_ERR, channel(XEN_STUB_DOMID, 5)) != 0);
    xen_stub.errors[XEN_STUB_EVENT_OPEN] = ENOENT;
    assert_int_equal(name_channel(&b, GW_MSG_SET_VRING_CALL, channel(XEN_STUB_DOMID, 5)), ENODEV);
    assert_true(says(&b, "/dev/xen/evtchn: No such file"));
    assert_false(xen_stub.is_bound[5]);
    add(&b, 0, 0); /* the previous state is unchanged */
    gw_driver_kick(b.driver);
    assert_int_equal(take(&b, 1), 1);
    fixture_end(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        XEN_TEST(test_xen_events_ends_with_its_domain),
        XEN_TEST(test_xen_events_without_xenstore_is_told),
        XEN_TEST(test_xen_events_channels_kick_and_call),
        XEN_TEST(test_xen_events_channel_gives_way_to_an_eventfd),
        XEN_TEST(test_xen_events_bad_channels_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
