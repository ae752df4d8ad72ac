/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The time limit of an answer that a front-end does not read. The timers of the daemon are wrapped:
 * the tests see whether one runs, and can shorten it.
 */
#include "../fixtures/daemon_fixture.h"
#include "base/proto.h"
#include "patience.h"

#include <poll.h>
#include <sys/socket.h>

#define PATIENCE_NS UINT64_C(10000000000)

/* All are atomic. */
static unsigned n_starts;
static bool is_running;
static uint64_t divisor;

void __real_gw_timer_start(struct gw_timer *t, uint64_t delay_ns, uint64_t period_ns);
void __wrap_gw_timer_start(struct gw_timer *t, uint64_t delay_ns, uint64_t period_ns);
void __real_gw_timer_stop(struct gw_timer *t);
void __wrap_gw_timer_stop(struct gw_timer *t);

void __wrap_gw_timer_start(struct gw_timer *t, uint64_t delay_ns, uint64_t period_ns)
{
    bool is_it = delay_ns == PATIENCE_NS && period_ns == 0; /* other timers limit the end */

    if (is_it)
        delay_ns /= __atomic_load_n(&divisor, __ATOMIC_SEQ_CST);
    __real_gw_timer_start(t, delay_ns, period_ns);
    if (!is_it)
        return;
    __atomic_store_n(&is_running, true, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&n_starts, 1, __ATOMIC_SEQ_CST);
}

void __wrap_gw_timer_stop(struct gw_timer *t)
{
    __real_gw_timer_stop(t);
    __atomic_store_n(&is_running, false, __ATOMIC_SEQ_CST);
}

/* Send requests and read no answer until the daemon waits. Returns: the number of requests. */
static unsigned fill_socket(struct gw_frontend *fe, unsigned n_waits)
{
    const struct gw_wire_header question = {.request = GW_MSG_GET_FEATURES,
                                            .flags = GW_MSG_VERSION};
    unsigned n = 0;

    while (__atomic_load_n(&n_starts, __ATOMIC_SEQ_CST) < n_waits)
        if (send(gw_frontend_fd(fe), &question, sizeof(question), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
            n++;
        else
            (void)poll(NULL, 0, 1);
    return n;
}

static struct gw_daemon *start(uint64_t faster)
{
    struct gw_daemon *d = daemon_fixture_new();

    n_starts = 0;
    is_running = false;
    divisor = faster;
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    return d;
}

static void test_send_patience_ends(void **state)
{
    struct gw_daemon *d = start(100);
    struct gw_frontend *fe = daemon_fixture_connect();
    struct pollfd p = {.fd = gw_frontend_fd(fe)};

    (void)fill_socket(fe, 1);
    assert_int_equal(poll(&p, 1, (int)patience_ms()), 1);
    assert_true(p.revents & POLLHUP);
    gw_frontend_free(fe);
    fe = daemon_fixture_connect();
    expect_served(fe);
    gw_frontend_free(fe);
    gw_daemon_free(d);
}

/* A front-end that reads late is served, and has the full time again at its next answer. */
static void test_send_patience_is_for_one_answer(void **state)
{
    static struct gw_frontend_message answer;
    struct gw_daemon *d = start(1);
    struct gw_frontend *fe = daemon_fixture_connect();

    for (unsigned i = 1; i <= 3; i++) {
        for (unsigned n = fill_socket(fe, i); n > 0; n--)
            assert_int_equal(gw_frontend_receive(fe, &answer, patience_ms()), 0);
        expect_served(fe);
        expect_served(fe); /* so the daemon has finished with all previous answers */
        assert_false(__atomic_load_n(&is_running, __ATOMIC_SEQ_CST));
        __atomic_store_n(&n_starts, i, __ATOMIC_SEQ_CST);
    }
    gw_frontend_free(fe);
    gw_daemon_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_send_patience_ends),
        DAEMON_TEST(test_send_patience_is_for_one_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
