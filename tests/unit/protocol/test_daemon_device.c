/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The messages that callbacks of a device answer, from our front-end to our back-end: the device
 * status, the requests of network devices, and a config space of any size.
 */
#include "../fixtures/daemon_fixture.h"
#include "base/checked.h"
#include "base/proto.h"

#include <errno.h>
#include <godwit/frontend/device.h>
#include <string.h>

#define PROTOCOL(name) GW_BIT(GW_PROTOCOL_F_##name)
#define BASIC          (GW_BIT(GW_F_PROTOCOL_FEATURES) | GW_BIT(GW_F_VERSION_1))
#define RING_EVENT_IDX GW_BIT(GW_F_RING_EVENT_IDX)
#define ALL                                                                        \
    (PROTOCOL(REPLY_ACK) | PROTOCOL(STATUS) | PROTOCOL(RARP) | PROTOCOL(NET_MTU) | \
     PROTOCOL(CONFIG) | PROTOCOL(RESET_DEVICE))
#define FEATURES_OK 8
#define ALL_OK      15
#define NEEDS_RESET 64

/* What the device received and what it answers. A message and its answer order each access. */
static struct {
    _Atomic int result;
    _Atomic unsigned status, n_statuses, n_resets, mtu, n_stops;
    _Atomic bool needs_reset;
    uint8_t mac[6];
    uint8_t config[GW_CONFIG_SIZE_MAX];
} dev;

static int set_status(void *arg, uint8_t status)
{
    dev.status = status;
    dev.n_statuses++;
    return dev.result;
}

static bool needs_reset(void *arg)
{
    return dev.needs_reset;
}

static int send_rarp(void *arg, const uint8_t *mac)
{
    memcpy(dev.mac, mac, sizeof(dev.mac));
    return dev.result;
}

static int set_mtu(void *arg, uint16_t mtu)
{
    dev.mtu = mtu;
    return dev.result;
}

static int get_config(void *arg, uint32_t off, void *buf, uint32_t len)
{
    return gw_config_read(dev.config, sizeof(dev.config), off, buf, len);
}

static int set_config(void *arg, uint32_t off, const void *buf, uint32_t len, bool migration)
{
    return gw_config_write(dev.config, sizeof(dev.config), off, buf, len);
}

static int queue_ready(void *arg, struct gw_queue *q)
{
    return 0;
}

static void queue_stop(void *arg, struct gw_queue *q)
{
    dev.n_stops++;
}

static void reset(void *arg)
{
    dev.n_resets++;
}

static const struct gw_device_ops all_ops = {
    .size = sizeof(all_ops),
    .get_config = get_config,
    .set_config = set_config,
    .queue_ready = queue_ready,
    .queue_stop = queue_stop,
    .reset = reset,
    .set_status = set_status,
    .needs_reset = needs_reset,
    .send_rarp = send_rarp,
    .set_mtu = set_mtu,
};

static struct gw_daemon *start_daemon(const struct gw_device_ops *ops)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d;

    memset(&dev, 0, sizeof(dev));
    assert_int_equal(gw_daemon_new(&d, &cfg, ops, NULL), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    return d;
}

static void expect_status(struct gw_frontend *fe, uint8_t expected)
{
    uint8_t status = 0xee;

    assert_int_equal(gw_frontend_get_status(fe, &status), 0);
    assert_int_equal(status, expected);
}

/* The features of messages are offered only with their callbacks. */
static void test_device_features_need_callbacks(void **state)
{
    static const struct gw_device_ops no_ops = {.size = sizeof(no_ops), .queue_ready = queue_ready};
    const uint64_t bits = PROTOCOL(STATUS) | PROTOCOL(RARP) | PROTOCOL(NET_MTU) | PROTOCOL(CONFIG);
    const struct gw_device_ops *const ops[] = {&all_ops, &no_ops};
    static const uint8_t mac[6];
    uint64_t offered;
    uint8_t status;

    for (unsigned i = 0; i < 2; i++) {
        struct gw_daemon *d = start_daemon(ops[i]);
        struct gw_frontend *fe = daemon_fixture_negotiate(PROTOCOL(REPLY_ACK));

        assert_int_equal(gw_frontend_get_protocol_features(fe, &offered), 0);
        assert_int_equal(offered & bits, i == 0 ? bits : 0);
        assert_int_equal(gw_frontend_set_status(fe, 1), -EOPNOTSUPP);
        assert_int_equal(gw_frontend_get_status(fe, &status), -EOPNOTSUPP);
        assert_int_equal(gw_frontend_send_rarp(fe, mac), -EOPNOTSUPP);
        assert_int_equal(gw_frontend_net_set_mtu(fe, 1500), -EOPNOTSUPP);
        gw_frontend_free(fe);
        gw_daemon_free(d);
    }
}

/* ---- status ---- */

static void test_device_status_gains_bits_until_it_is_reset(void **state)
{
    struct gw_daemon *d = start_daemon(&all_ops);
    struct gw_frontend *fe = daemon_fixture_negotiate(ALL);

    expect_status(fe, 0);
    assert_int_equal(gw_frontend_set_status(fe, FEATURES_OK), 0);
    assert_int_equal(gw_frontend_set_status(fe, ALL_OK), 0);
    assert_int_equal(gw_frontend_set_status(fe, ALL_OK), 0);
    expect_status(fe, ALL_OK);
    assert_int_equal(dev.status, ALL_OK);
    assert_int_equal(dev.n_statuses, 3);
    /* Every bit that goes back. */
    for (unsigned bit = 0; bit < 4; bit++)
        assert_int_equal(gw_frontend_set_status(fe, (uint8_t)(ALL_OK & ~(1u << bit))), -EREMOTEIO);
    assert_int_equal(dev.n_statuses, 3);
    expect_status(fe, ALL_OK);
    assert_int_equal(gw_frontend_set_status(fe, 0), 0);
    assert_int_equal(dev.status, 0);
    expect_status(fe, 0);
    assert_int_equal(gw_frontend_set_status(fe, 1), 0);
    /* The device's own bit is no bit that the driver clears. */
    dev.needs_reset = true;
    expect_status(fe, NEEDS_RESET | 1);
    assert_int_equal(gw_frontend_set_status(fe, NEEDS_RESET | 3), 0);
    dev.needs_reset = false;
    assert_int_equal(gw_frontend_set_status(fe, 7), 0);
    expect_status(fe, 7);
    /* RESET_DEVICE resets it, too, and so does the next session. */
    assert_int_equal(gw_frontend_reset_device(fe), 0);
    expect_status(fe, 0);
    assert_int_equal(gw_frontend_set_status(fe, 3), 0);
    gw_frontend_free(fe);
    fe = daemon_fixture_negotiate(ALL);
    expect_status(fe, 0);
    gw_frontend_free(fe);
    gw_daemon_free(d);
}

static void test_device_status_zero_stops_rings(void **state)
{
    struct gw_daemon *d = start_daemon(&all_ops);
    struct vm vm;
    uint32_t base;

    vm_boot(&vm, 1);
    assert_int_equal(dev.status, ALL_OK);
    assert_int_equal(gw_frontend_set_status(vm.fe, 0), 0);
    assert_int_equal(dev.n_stops, 1);
    assert_int_equal(dev.n_resets, 0);
    assert_int_equal(dev.status, 0);
    assert_false(gw_queue_is_started(gw_daemon_queue(d, 0)));
    assert_int_equal(gw_frontend_get_vring_base(vm.fe, 0, &base), 0);
    assert_int_equal(base, 0);
    vm_unplug(&vm);
    gw_daemon_free(d);
}

static void test_device_status_refusal_of_features_leaves_a_bit_clear(void **state)
{
    const uint64_t without_ack = ALL & ~PROTOCOL(REPLY_ACK);

    for (unsigned i = 0; i < 2; i++) {
        struct gw_daemon *d = start_daemon(&all_ops);
        struct gw_frontend *fe = daemon_fixture_negotiate(i == 0 ? ALL : without_ack);

        assert_int_equal(gw_frontend_set_status(fe, 3), 0);
        expect_status(fe, 3);
        dev.result = -ENOTSUP;
        assert_int_equal(gw_frontend_set_status(fe, 3 | FEATURES_OK), i == 0 ? -EREMOTEIO : 0);
        expect_status(fe, 3); /* the session continues, also without an answer */
        dev.result = 1;       /* any non-zero value */
        assert_int_equal(gw_frontend_set_status(fe, 3 | FEATURES_OK), i == 0 ? -EREMOTEIO : 0);
        expect_status(fe, 3);
        dev.result = 0;
        assert_int_equal(gw_frontend_set_status(fe, 3 | FEATURES_OK), 0);
        expect_status(fe, 3 | FEATURES_OK);
        /* Any other refusal has no answer but a negative acknowledgement. */
        dev.result = -EIO;
        assert_int_equal(gw_frontend_set_status(fe, ALL_OK), i == 0 ? -EREMOTEIO : 0);
        if (i == 0)
            expect_status(fe, 3 | FEATURES_OK);
        else
            assert_int_equal(gw_frontend_get_status(fe, (uint8_t[1]){0}), -ECONNRESET);
        gw_frontend_free(fe);
        gw_daemon_free(d);
    }
}

/* gw_frontend_start reads the bit back, as a driver does. */
static void test_device_status_refusal_fails_a_start(void **state)
{
    const struct gw_guest_region region = {.gpa = 0x100000, .length = 0x10000};
    struct gw_frontend_options opt = {.size = sizeof(opt),
                                      .protocol_features = ALL & ~PROTOCOL(REPLY_ACK)};
    struct gw_daemon *d = start_daemon(&all_ops);
    struct gw_frontend *fe = daemon_fixture_connect();

    assert_int_equal(gw_guest_mem_new(&opt.mem, 0x700000000000), 0);
    assert_int_equal(gw_guest_mem_add(opt.mem, &region), 0);
    dev.result = -ENOTSUP;
    assert_int_equal(gw_frontend_start(fe, &opt), -EREMOTEIO);
    assert_non_null(strstr(gw_frontend_last_error(), "refused the features"));
    dev.result = 0;
    assert_int_equal(gw_frontend_start(fe, &opt), 0);
    expect_status(fe, ALL_OK);
    assert_int_equal(gw_frontend_stop(fe, NULL, 0), 0);
    expect_status(fe, 0);
    gw_frontend_free(fe);
    gw_guest_mem_free(opt.mem);
    gw_daemon_free(d);
}

static void test_device_status_features_are_fixed_after_features_ok(void **state)
{
    struct gw_daemon *d = start_daemon(&all_ops);
    struct gw_frontend *fe = daemon_fixture_negotiate(ALL);

    assert_int_equal(gw_frontend_set_features(fe, BASIC | RING_EVENT_IDX), 0);
    assert_int_equal(gw_frontend_set_status(fe, FEATURES_OK), 0);
    assert_int_equal(gw_frontend_set_features(fe, BASIC), -EREMOTEIO);
    assert_int_equal(gw_frontend_set_features(fe, BASIC | RING_EVENT_IDX), 0);
    /* A migration may begin and end. */
    assert_int_equal(gw_frontend_set_features(fe, BASIC | RING_EVENT_IDX | GW_BIT(GW_F_LOG_ALL)),
                     0);
    assert_int_equal(gw_frontend_set_features(fe, BASIC | RING_EVENT_IDX), 0);
    assert_int_equal(gw_frontend_set_status(fe, 0), 0);
    assert_int_equal(gw_frontend_set_features(fe, BASIC), 0);
    gw_frontend_free(fe);
    gw_daemon_free(d);
}

/* A message as no front-end of ours sends it. Returns: the value of its acknowledgement. */
static uint64_t send_u64(struct gw_frontend *fe, uint32_t request, uint64_t value)
{
    struct gw_frontend_message answer;
    uint64_t ack;

    assert_int_equal(gw_frontend_send_raw(fe, request, GW_MSG_VERSION | GW_MSG_NEED_REPLY,
                                          sizeof(value), &value, sizeof(value), NULL, 0),
                     0);
    assert_int_equal(gw_frontend_receive(fe, &answer, 60000), 0);
    assert_int_equal(answer.request, request);
    assert_int_equal(answer.size, sizeof(ack));
    memcpy(&ack, answer.payload, sizeof(ack));
    return ack;
}

static void test_device_status_of_more_than_a_byte_is_refused(void **state)
{
    static const uint64_t bad[] = {0x100, 0x10f, UINT64_C(1) << 32, UINT64_MAX};
    struct gw_daemon *d = start_daemon(&all_ops);
    struct gw_frontend *fe = daemon_fixture_negotiate(ALL);

    for (unsigned i = 0; i < GW_ARRAY_SIZE(bad); i++)
        assert_int_not_equal(send_u64(fe, GW_MSG_SET_STATUS, bad[i]), 0);
    assert_int_equal(dev.n_statuses, 0);
    assert_int_equal(send_u64(fe, GW_MSG_SET_STATUS, 0xff), 0);
    expect_status(fe, 0xff);
    gw_frontend_free(fe);
    gw_daemon_free(d);
}

/* ---- network devices ---- */

static void test_device_announces_a_guest(void **state)
{
    static const uint8_t mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
    struct gw_daemon *d = start_daemon(&all_ops);
    struct gw_frontend *fe = daemon_fixture_negotiate(ALL);

    assert_int_equal(gw_frontend_send_rarp(fe, mac), 0);
    assert_memory_equal(dev.mac, mac, sizeof(mac));
    dev.result = -ENETDOWN;
    assert_int_equal(gw_frontend_send_rarp(fe, mac), -EREMOTEIO);
    dev.result = 1;
    assert_int_equal(gw_frontend_send_rarp(fe, mac), -EREMOTEIO);
    gw_frontend_free(fe);
    gw_daemon_free(d);
}

static void test_device_gets_an_mtu_in_limits(void **state)
{
    static const uint64_t bad[] = {0, 67, 65536, UINT64_C(1) << 32 | 1500, UINT64_MAX};
    struct gw_daemon *d = start_daemon(&all_ops);
    struct gw_frontend *fe = daemon_fixture_negotiate(ALL);

    assert_int_equal(gw_frontend_net_set_mtu(fe, 68), 0);
    assert_int_equal(dev.mtu, 68);
    assert_int_equal(gw_frontend_net_set_mtu(fe, UINT16_MAX), 0);
    assert_int_equal(dev.mtu, UINT16_MAX);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(bad); i++)
        assert_int_not_equal(send_u64(fe, GW_MSG_NET_SET_MTU, bad[i]), 0);
    assert_int_equal(dev.mtu, UINT16_MAX);
    dev.result = -EINVAL;
    assert_int_equal(gw_frontend_net_set_mtu(fe, 1500), -EREMOTEIO);
    gw_frontend_free(fe);
    gw_daemon_free(d);
}

/* ---- config space ---- */

static void test_device_config_of_any_size_is_read_and_written(void **state)
{
    static const uint32_t sizes[] = {1, 256, 257, 4084, 4095, GW_CONFIG_SIZE_MAX};
    static uint8_t wrote[GW_CONFIG_SIZE_MAX], got[GW_CONFIG_SIZE_MAX + 1];
    struct gw_daemon *d = start_daemon(&all_ops);
    struct gw_frontend *fe = daemon_fixture_negotiate(ALL);

    for (unsigned i = 0; i < GW_ARRAY_SIZE(sizes); i++) {
        uint32_t n = sizes[i], off = GW_CONFIG_SIZE_MAX - n;

        for (uint32_t k = 0; k < n; k++)
            wrote[k] = (uint8_t)(k * 7 + i);
        memset(got, 0xee, sizeof(got));
        assert_int_equal(gw_frontend_set_config(fe, off, wrote, n, false), 0);
        assert_int_equal(gw_frontend_get_config(fe, off, got, n), 0);
        assert_memory_equal(got, wrote, n);
        assert_int_equal(got[n], 0xee);
        assert_int_equal(gw_frontend_get_config(fe, off + 1, got, n), -EREMOTEIO);
        assert_int_equal(gw_frontend_set_config(fe, off + 1, wrote, n, false), -EREMOTEIO);
    }
    assert_int_equal(gw_frontend_get_config(fe, 0, got, GW_CONFIG_SIZE_MAX + 1), -EINVAL);
    gw_frontend_free(fe);
    gw_daemon_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_device_features_need_callbacks),
        DAEMON_TEST(test_device_status_gains_bits_until_it_is_reset),
        DAEMON_TEST(test_device_status_zero_stops_rings),
        DAEMON_TEST(test_device_status_refusal_of_features_leaves_a_bit_clear),
        DAEMON_TEST(test_device_status_refusal_fails_a_start),
        DAEMON_TEST(test_device_status_features_are_fixed_after_features_ok),
        DAEMON_TEST(test_device_status_of_more_than_a_byte_is_refused),
        DAEMON_TEST(test_device_announces_a_guest),
        DAEMON_TEST(test_device_gets_an_mtu_in_limits),
        DAEMON_TEST(test_device_config_of_any_size_is_read_and_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
