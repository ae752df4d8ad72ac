/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The tool's side of control.h on a stub of Xen: with a correct agent used by several threads, with
 * faulty agents, and without an agent.
 */
#include "xen_link.h"

#include "xen_stub.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FRAME     16u /* of the control page; the bulk pages follow */
#define REF       100u
#define PORT      3u
#define STATE_MAX (1u << 20)
#define N_ASKED   4000u

/* Faults of the agent. */
enum lie {
    NONE,
    SILENT,   /* never answers */
    POSITIVE, /* a positive result, and one below all errnos */
    FAR_NEGATIVE,
    TOO_LONG, /* a state longer than the limit */
    SHORT,    /* a state shorter than its announced length */
    DEADLY,   /* the domain ends */
};

struct agent {
    struct xen_control *control;
    uint8_t *bulk;
    pthread_t thread;
    _Atomic bool is_over;
    _Atomic enum lie lie;
    uint32_t seen;
    _Atomic uint64_t which; /* last restored */
    uint8_t state[STATE_MAX];
    _Atomic size_t len;
};

static struct agent agent;
static struct xen_link l;

/* ---- the agent ---- */

static void end_run(struct agent *a, int result)
{
    a->control->run_result = result;
    __atomic_store_n(&a->control->running, 0, __ATOMIC_RELEASE);
    (void)xen_stub_event(PORT);
}

static int serve(struct agent *a, const uint64_t *arg, uint64_t *ret)
{
    switch (a->control->op) {
    case XEN_OP_BYE:
        return 0;
    case XEN_OP_SAVE:
        *ret = a->lie == TOO_LONG ? UINT64_MAX : a->len;
        return 0;
    case XEN_OP_GET:
        if (a->lie == SHORT || arg[0] > a->len || arg[1] > a->len - arg[0])
            return -EINVAL;
        memcpy(a->bulk, a->state + arg[0], arg[1]);
        return 0;
    case XEN_OP_PUT:
        memcpy(a->state + arg[0], a->bulk, arg[1]);
        a->len = arg[2];
        return 0;
    case XEN_OP_RESTORE:
        a->which = arg[0];
        return 0;
    case XEN_OP_RUN:
        __atomic_store_n(&a->control->running, 1, __ATOMIC_RELEASE);
        return 0;
    default:
        return -EOPNOTSUPP;
    }
}

static void answer(struct agent *a)
{
    struct xen_control *c = a->control;
    uint64_t arg[4], ret = 0;
    int r;

    memcpy(arg, c->arg, sizeof(arg));
    r = serve(a, arg, &ret);
    if (a->lie == POSITIVE)
        r = 5;
    else if (a->lie == FAR_NEGATIVE)
        r = INT_MIN;
    else if (a->lie == DEADLY)
        xen_stub_kill();
    a->seen++;
    if (a->lie == SILENT || a->lie == DEADLY)
        return;
    c->result = r;
    c->ret = ret;
    __atomic_store_n(&c->answer, a->seen, __ATOMIC_RELEASE);
    (void)xen_stub_event(PORT);
}

static void *run_agent(void *arg)
{
    struct agent *a = arg;

    while (!a->is_over) {
        if (__atomic_exchange_n(&a->control->interrupt, 0, __ATOMIC_ACQ_REL))
            end_run(a, 0);
        if (__atomic_load_n(&a->control->request, __ATOMIC_ACQUIRE) != a->seen)
            answer(a);
        else
            sched_yield();
    }
    return NULL;
}

/* Publish the agent as it does when it works. */
static void introduce(struct agent *a)
{
    a->control->magic = XEN_MAGIC;
    a->control->n_refs = XEN_BULK;
    for (uint32_t i = 0; i < XEN_BULK; i++)
        a->control->refs[i] = REF + 1 + i;
    xen_stub_grant(REF, FRAME, 1 + XEN_BULK);
    xen_stub.is_offered[PORT] = true;
    snprintf(xen_stub.introduction, sizeof(xen_stub.introduction), "%u %u %u", XEN_VERSION, REF,
             PORT);
}

static int setup(void **state)
{
    xen_stub_begin();
    memset(&agent, 0, sizeof(agent));
    agent.control = (struct xen_control *)(void *)(xen_stub.memory + FRAME * XEN_PAGE);
    agent.bulk = (uint8_t *)agent.control + XEN_PAGE;
    introduce(&agent);
    return -pthread_create(&agent.thread, NULL, run_agent, &agent);
}

static int teardown(void **state)
{
    agent.is_over = true;
    pthread_join(agent.thread, NULL);
    xen_link_close(&l);
    xen_stub_end();
    return xen_stub.n_misuses ? -1 : 0;
}

static void open_link(void)
{
    if (xen_link_open(&l, XEN_STUB_DOMID, 1000) < 0)
        fail_msg("%s", l.error);
}

static void expect_error(int r, int expected, const char *text)
{
    if (r != expected || !strstr(l.error, text))
        fail_msg("%d (%s) in place of %d (%s)", r, l.error, expected, text);
}

/* ---- introductions ---- */

static void expect_no_link(uint32_t domid, int expected, const char *text)
{
    expect_error(xen_link_open(&l, domid, 10), expected, text);
    xen_link_close(&l);
    assert_int_equal(xen_stub.n_handles + xen_stub.n_grant_pages, 0);
}

static void test_xen_link_introductions_that_are_none(void **state)
{
    static const struct {
        const char *text;
        int r;
        const char *error;
    } cases[] = {
        {"", -ETIMEDOUT, "no godwit-xen-agent in domain 7"},
        {"2 100 3", -EPROTO, "another version"},
        {"1 100", -EPROTO, "another version"},
        {"-", -EPROTO, "another version"},
        {"1 4294967295 3", -EINVAL, "control page"},
        {"1 117 3", -EINVAL, "control page"},
        {"1 101 3", -EPROTO, "control page is invalid"},
        {"1 100 4", -EINVAL, "event channel"},
        {"1 100 4294967295", -EINVAL, "event channel"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        strcpy(xen_stub.introduction, cases[i].text);
        expect_no_link(XEN_STUB_DOMID, cases[i].r, cases[i].error);
    }
    introduce(&agent);
    expect_no_link(XEN_STUB_DOMID + 1, -ESRCH, "there is no domain 8");
    agent.control->n_refs = XEN_BULK + 1;
    expect_no_link(XEN_STUB_DOMID, -EPROTO, "control page is invalid");
    introduce(&agent);
    agent.control->refs[XEN_BULK - 1] = UINT32_MAX;
    expect_no_link(XEN_STUB_DOMID, -EINVAL, "the agent's pages");
    introduce(&agent);
    for (unsigned i = 0; i < 3; i++) {
        static const enum xen_stub_call calls[] = {XEN_STUB_GRANT_OPEN, XEN_STUB_EVENT_OPEN,
                                                   XEN_STUB_STORE_OPEN};

        xen_stub.errors[calls[i]] = ENOENT;
        expect_no_link(XEN_STUB_DOMID, -ENODEV, "not the privileged domain");
        xen_stub.errors[calls[i]] = 0;
    }
    open_link();
}

/* ---- a correct agent ---- */

static void test_xen_link_states_go_and_come(void **state)
{
    static const size_t lens[] = {0,        1, XEN_BULK_LEN - 1, XEN_BULK_LEN, XEN_BULK_LEN + 1,
                                  STATE_MAX};

    open_link();
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        uint8_t *given = malloc(lens[i] + 1);
        void *got;
        size_t len;

        for (size_t k = 0; k < lens[i]; k++)
            given[k] = (uint8_t)(k * 7 + k / 4096 + i);
        assert_int_equal(xen_link_put(&l, i, given, lens[i]), 0);
        assert_int_equal(xen_link_get(&l, i, &got, &len), 0);
        assert_int_equal(len, lens[i]);
        assert_memory_equal(got, given, len);
        assert_int_equal(agent.which, i);
        free(got);
        free(given);
    }
}

static void *wait_for_run(void *arg)
{
    *(int *)arg = xen_link_wait(&l);
    return NULL;
}

/* Fetch what was sent, with no other thread in between. */
static void *put_and_get(void *arg)
{
    uint8_t mine[3000];
    int *bad = arg;

    for (unsigned i = 0; i < N_ASKED / 4; i++) {
        void *got;
        size_t len;

        memset(mine, (int)i, sizeof(mine));
        pthread_mutex_lock(&l.asking);
        if (xen_link_put(&l, i, mine, sizeof(mine)) < 0 || xen_link_get(&l, i, &got, &len) < 0) {
            ++*bad;
        } else {
            *bad += len != sizeof(mine) || memcmp(got, mine, len) != 0;
            free(got);
        }
        pthread_mutex_unlock(&l.asking);
    }
    return NULL;
}

/*
 * Any of the waiting threads may take an event. A thread that misses it waits for a tenth of a
 * second.
 */
static void test_xen_link_threads_ask_beside_a_run(void **state)
{
    const uint64_t arg[4] = {0};
    int waited = 1, n_bad = 0;
    pthread_t waiter, other;

    open_link();
    assert_int_equal(xen_link_ask(&l, XEN_OP_RUN, "a run", arg, NULL), 0);
    assert_int_equal(pthread_create(&waiter, NULL, wait_for_run, &waited), 0);
    assert_int_equal(pthread_create(&other, NULL, put_and_get, &n_bad), 0);
    for (unsigned i = 0; i < N_ASKED; i++)
        assert_int_equal(xen_link_ask(&l, XEN_OP_BYE, "nothing", arg, NULL), 0);
    pthread_join(other, NULL);
    xen_link_interrupt(&l);
    pthread_join(waiter, NULL);
    assert_int_equal(waited, 0);
    assert_int_equal(n_bad, 0);
    /*
     * A thread only checks whether the domain exists if no event arrives for some time, which is
     * rare.
     */
    assert_true(xen_stub.n_looks < N_ASKED / 100);
}

/* ---- a faulty agent ---- */

static void test_xen_link_answers_that_are_none(void **state)
{
    const uint64_t arg[4] = {0};
    void *got;
    size_t len;

    open_link();
    agent.lie = POSITIVE;
    expect_error(xen_link_ask(&l, XEN_OP_BYE, "a question", arg, NULL), -EPROTO, "a question");
    agent.lie = FAR_NEGATIVE;
    expect_error(xen_link_ask(&l, XEN_OP_BYE, "a question", arg, NULL), -EPROTO, "a question");
    agent.lie = TOO_LONG;
    expect_error(xen_link_get(&l, 0, &got, &len), -EPROTO, "a state of 18446744073709551615 bytes");
    agent.lie = SHORT;
    agent.len = 10;
    expect_error(xen_link_get(&l, 0, &got, &len), -EINVAL, "Invalid argument");
    agent.lie = NONE;
    expect_error(xen_link_ask(&l, XEN_OP_STATS, "numbers", arg, NULL), -EOPNOTSUPP, "numbers");
    agent.lie = SILENT;
    l.timeout_ms = 50;
    expect_error(xen_link_ask(&l, XEN_OP_BYE, "a question", arg, NULL), -ETIMEDOUT,
                 "does not answer");
}

static void test_xen_link_errors_of_runs_are_texts(void **state)
{
    const uint64_t arg[4] = {0};

    open_link();
    memset(agent.control->error, 'x', sizeof(agent.control->error)); /* not terminated */
    agent.control->error[1] = '\n';
    assert_int_equal(xen_link_ask(&l, XEN_OP_RUN, "a run", arg, NULL), 0);
    end_run(&agent, -EIO);
    expect_error(xen_link_wait(&l), -EIO, "x?xxx");
    assert_int_equal(strlen(l.error), XEN_ERROR_LEN - 1);
    memset(agent.control->error, 0, sizeof(agent.control->error));
    end_run(&agent, -EIO);
    expect_error(xen_link_wait(&l), -EIO, "the load in domain 7: Input/output error");
    end_run(&agent, 1);
    expect_error(xen_link_wait(&l), -EPROTO, "the load in domain 7");
}

static void test_xen_link_domain_dies(void **state)
{
    const uint64_t arg[4] = {0};
    pthread_t waiter;
    int waited = 0, asked;

    open_link();
    assert_int_equal(xen_link_ask(&l, XEN_OP_RUN, "a run", arg, NULL), 0);
    assert_int_equal(pthread_create(&waiter, NULL, wait_for_run, &waited), 0);
    agent.lie = DEADLY;
    asked = xen_link_ask(&l, XEN_OP_BYE, "a question", arg, NULL);
    pthread_join(waiter, NULL); /* it fails with the same message */
    expect_error(asked, -EHOSTDOWN, "domain 7 is gone");
    assert_int_equal(waited, -EHOSTDOWN);
}

int main(void)
{
#define XEN_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        XEN_TEST(test_xen_link_introductions_that_are_none),
        XEN_TEST(test_xen_link_states_go_and_come),
        XEN_TEST(test_xen_link_threads_ask_beside_a_run),
        XEN_TEST(test_xen_link_answers_that_are_none),
        XEN_TEST(test_xen_link_errors_of_runs_are_texts),
        XEN_TEST(test_xen_link_domain_dies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
