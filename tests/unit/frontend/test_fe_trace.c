/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The last messages of a front-end, and the error after a back-end hung up. */
#include "../fixtures/fe_peer.h"
#include "fdcheck.h"

#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>

/*
 * The back-end hangs up because of a message without a reply, which the front-end notices at a
 * later message. The error must not blame the later one; it lists all messages since the last
 * reply.
 */
static void test_fe_trace_hang_up_names_what_was_not_answered(void **state)
{
    struct peer_step steps[3] = {
        peer_answer_u64(GW_MSG_GET_FEATURES, 0x30000000), {.hang_up = false}, {.hang_up = true}};
    struct gw_frontend_trace trace[GW_FRONTEND_TRACE_MAX];
    struct gw_frontend *fe;
    char text[96], byte;
    uint64_t value;
    struct peer p;
    unsigned n;

    fe = peer_begin(&p, steps, 3);
    assert_int_equal(gw_frontend_get_features(fe, &value), 0);
    assert_int_equal(gw_frontend_check(fe), 0);
    assert_int_equal(gw_frontend_set_owner(fe), 0);
    assert_int_equal(gw_frontend_set_vring_num(fe, 3, 256), 0);
    assert_int_equal(recv(gw_frontend_fd(fe), &byte, 1, MSG_PEEK), 0); /* the hang-up has arrived */
    assert_int_equal(gw_frontend_set_vring_base(fe, 3, 7), -ECONNRESET);
    assert_string_equal(gw_frontend_last_error(),
                        "the back-end hung up before SET_VRING_BASE; it last answered GET_FEATURES "
                        "and was then sent SET_OWNER, SET_VRING_NUM");
    assert_int_equal(gw_frontend_check(fe), -ECONNRESET);

    n = gw_frontend_last_messages(fe, trace);
    assert_int_equal(n, 6);
    for (unsigned i = 0; i < n; i++) {
        static const char *const texts[] = {"connected",
                                            "-> GET_FEATURES",
                                            "<- GET_FEATURES 0x30000000",
                                            "-> SET_OWNER",
                                            "-> SET_VRING_NUM ring 3: 256",
                                            "the back-end hung up"};

        gw_frontend_trace_text(&trace[i], text, sizeof(text));
        assert_string_equal(text, texts[i]);
        assert_true(i == 0 || trace[i].at_ns >= trace[i - 1].at_ns);
    }
    peer_finish(&p, fe);
}

/* The trace keeps the last messages of all sessions. */
static void test_fe_trace_last_messages_are_kept(void **state)
{
    struct gw_frontend_trace trace[GW_FRONTEND_TRACE_MAX];
    struct gw_frontend *fe;
    struct peer p;
    unsigned n;

    fe = peer_begin(&p, NULL, 0);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(gw_frontend_set_vring_base(fe, 1, i), 0);
    gw_frontend_disconnect(fe);
    n = gw_frontend_last_messages(fe, trace);
    assert_int_equal(n, GW_FRONTEND_TRACE_MAX);
    assert_int_equal(trace[n - 1].kind, GW_FRONTEND_TRACE_DISCONNECTED);
    for (unsigned i = 0; i + 1 < n; i++)
        assert_true(trace[i].value == ((UINT64_C(21) - n + i) << 32 | 1));
    peer_finish(&p, fe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fe_trace_hang_up_names_what_was_not_answered),
        FDCHECK_TEST(test_fe_trace_last_messages_are_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
