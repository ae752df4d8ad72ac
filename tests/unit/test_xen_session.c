/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A daemon whose front-end's memory is a Xen domain's, on a stub of the Xen libraries: sessions and
 * requests over regions of every kind, what they cost, and domains that do not behave.
 */
#include "core/checked.h"
#include "core/mem_backend.h"
#include "core/proto.h"

#include "fdcheck.h"
#include "xen_stub.h"

#include <godwit.h>
#include <godwit/driver.h>
#include <godwit/frontend.h>
#include <godwit/log.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE     UINT64_C(4096)
#define FIRST    256u /* frame of the memory */
#define N_FRAMES 1024u
#define REF      16u /* of the first frame */
#define DEPTH    16u
#define WAIT_MS  10000u

/* How the memory is told. */
struct kind {
    const char *name;
    uint32_t flags;
    gw_gpa_t gpa;
};

static const struct kind kinds[] = {
    {"foreign", GW_GUEST_XEN_FOREIGN, FIRST *PAGE},
    {"grants", GW_GUEST_XEN_GRANT, GW_GRANT_ADDRESS | REF *PAGE},
    {"grants, not in advance", GW_GUEST_XEN_GRANT | GW_GUEST_XEN_NO_ADVANCE,
     GW_GRANT_ADDRESS | REF *PAGE},
};

#define NO_ADVANCE (&kinds[2])

struct bed {
    const struct kind *kind;
    struct gw_daemon *daemon;
    struct gw_frontend *fe;
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    gw_gpa_t buf;      /* 4 pages for each request */
    char said[8][256]; /* the last of what the daemon said */
    unsigned n_said;   /* atomic */
    bool hold;         /* requests are not answered */
    unsigned n_held;   /* atomic */
    struct gw_request *held[64];
};

static int setup(void **state)
{
    if (fdcheck_setup(state) < 0)
        return -1;
    xen_stub_begin();
    xen_stub_grant(REF, FIRST, N_FRAMES);
    return 0;
}

static int teardown(void **state)
{
    xen_stub_end();
    return fdcheck_teardown(state) < 0 || xen_stub.n_misuses ? -1 : 0;
}

#define XEN_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* ---- the device: what it reads it writes back, every bit turned over ---- */

static void answer(struct gw_request *req)
{
    uint8_t bytes[4096];
    uint32_t written = 0;
    size_t n;

    while ((n = gw_request_read(req, bytes, sizeof(bytes))) > 0) {
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)~bytes[i];
        written += (uint32_t)gw_request_write(req, bytes, n);
    }
    gw_request_complete(req, written);
}

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct bed *b = dev;
    struct gw_request *reqs[64];
    int n = gw_queue_pop(q, reqs, 64);

    for (int i = 0; i < n; i++) {
        if (__atomic_load_n(&b->hold, __ATOMIC_ACQUIRE)) {
            b->held[b->n_held] = reqs[i];
            __atomic_store_n(&b->n_held, b->n_held + 1, __ATOMIC_RELEASE);
        } else {
            answer(reqs[i]);
        }
    }
    return 0;
}

static void answer_held(void *arg)
{
    struct bed *b = arg;

    for (unsigned i = 0; i < b->n_held; i++)
        answer(b->held[i]);
    __atomic_store_n(&b->n_held, 0, __ATOMIC_RELEASE);
}

/* ---- the bed ---- */

static void listen_to(void *arg, enum gw_diag_level level, const char *message)
{
    struct bed *b = arg;
    unsigned i = __atomic_load_n(&b->n_said, __ATOMIC_ACQUIRE);

    snprintf(b->said[i % GW_ARRAY_SIZE(b->said)], sizeof(b->said[0]), "%s", message);
    __atomic_store_n(&b->n_said, i + 1, __ATOMIC_RELEASE);
}

static bool says(struct bed *b, const char *part)
{
    for (unsigned ms = 0; ms < WAIT_MS; ms++) {
        for (unsigned i = 0; i < GW_ARRAY_SIZE(b->said); i++)
            if (strstr(b->said[i], part))
                return true;
        usleep(1000);
    }
    return false;
}

static void make_daemon(struct bed *b)
{
    static const struct gw_device_ops ops = {.size = sizeof(ops), .queue_ready = queue_ready};
    struct gw_daemon_config cfg = {.size = sizeof(cfg),
                                   .queue_size_max = 64,
                                   .diag = listen_to,
                                   .diag_arg = b,
                                   .diag_level = GW_DIAG_WARNING};

    assert_int_equal(gw_daemon_new(&b->daemon, &cfg, &ops, b), 0);
}

static void connect_to(struct bed *b)
{
    const struct gw_frontend_config cfg = {.size = sizeof(cfg), .timeout_ms = 20000};
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(gw_daemon_start(b->daemon, ends[0]), 0);
    assert_int_equal(gw_frontend_new(&b->fe, &cfg), 0);
    assert_int_equal(gw_frontend_attach(b->fe, ends[1]), 0);
}

static struct gw_guest_region region_of(const struct kind *kind, int fd)
{
    return (struct gw_guest_region){
        .kind = GW_GUEST_MAPPED,
        .gpa = kind->gpa,
        .length = N_FRAMES * PAGE,
        .fd = fd,
        .host = xen_stub.memory + FIRST * PAGE,
        .xen = kind->flags,
        .domid = XEN_STUB_DOMID,
    };
}

static void restart(struct bed *b)
{
    struct gw_frontend_options opt = {
        .size = sizeof(opt), .mem = b->mem, .drivers = &b->driver, .n_drivers = 1};

    if (gw_frontend_start(b->fe, &opt) != 0)
        fail_msg("%s: %s", b->kind->name, gw_frontend_error(b->fe));
}

static void bed_begin(struct bed *b, const struct kind *kind, bool packed)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct gw_guest_region region = region_of(kind, fd);
    struct gw_driver_config cfg = {
        .size = sizeof(cfg), .queue_size = 64, .indirect_max = 8, .packed = packed};

    memset(b, 0, sizeof(*b));
    b->kind = kind;
    make_daemon(b);
    connect_to(b);
    assert_int_equal(gw_guest_mem_new(&b->mem, 0x1000), 0);
    assert_int_equal(gw_guest_mem_add(b->mem, &region), 0);
    close(fd);
    cfg.mem = b->mem;
    assert_int_equal(gw_driver_new(&b->driver, &cfg), 0);
    restart(b);
    assert_true(gw_frontend_protocol_features(b->fe) & GW_BIT(GW_PROTOCOL_F_XEN_MMAP));
    assert_int_equal(gw_guest_mem_alloc(b->mem, DEPTH * 4 * PAGE, PAGE, &b->buf), 0);
}

/* Nothing of the domain is mapped when the session is over. */
static void bed_end(struct bed *b)
{
    gw_frontend_free(b->fe);
    assert_int_equal(gw_daemon_wait(b->daemon), 0);
    assert_int_equal(xen_stub.n_foreign_pages, 0);
    assert_int_equal(xen_stub.n_grant_pages, 0);
    assert_int_equal(xen_stub.n_handles, 0);
    gw_daemon_free(b->daemon);
    gw_driver_free(b->driver);
    gw_guest_mem_free(b->mem);
}

/* Request `i`: pages 0 and 1 of its four are read, from the middle of the first, and 2 and 3
 * written. */
static gw_gpa_t page_of(const struct bed *b, unsigned i, unsigned page)
{
    return b->buf + (i * 4 + page) * PAGE;
}

static void add(struct bed *b, unsigned i, unsigned flags)
{
    struct gw_driver_buf bufs[] = {
        {page_of(b, i, 0) + 2048, PAGE}, {page_of(b, i, 2) + 2048, 100}, {page_of(b, i, 3), 3996}};
    uint8_t *out = gw_guest_mem_at(b->mem, bufs[0].addr, PAGE);

    for (unsigned k = 0; k < PAGE; k++)
        out[k] = (uint8_t)(k * 7 + i);
    memset(gw_guest_mem_at(b->mem, page_of(b, i, 2), 2 * PAGE), 0xee, 2 * PAGE);
    assert_int_equal(gw_driver_add(b->driver, bufs, 1, 2, i, flags), 0);
}

static void expect_answer(struct bed *b, unsigned i)
{
    const uint8_t *in = gw_guest_mem_at(b->mem, page_of(b, i, 2), 2 * PAGE);

    for (unsigned k = 0; k < 2048; k++)
        assert_int_equal(in[k], 0xee);
    for (unsigned k = 0; k < PAGE; k++)
        assert_int_equal(in[k < 100 ? 2048 + k : PAGE + k - 100], (uint8_t) ~(k * 7 + i));
    assert_int_equal(in[2 * PAGE - 1], 0xee);
}

/* Returns: how many were answered with all their bytes. */
static unsigned take(struct bed *b, unsigned n)
{
    unsigned n_good = 0, n_taken = 0;

    while (n_taken < n) {
        struct gw_driver_used used[DEPTH];
        unsigned now = gw_driver_take(b->driver, used, DEPTH);

        for (unsigned k = 0; k < now; k++) {
            if (used[k].len == PAGE) {
                expect_answer(b, (unsigned)used[k].cookie);
                n_good++;
            } else {
                assert_int_equal(used[k].len, 0);
            }
        }
        n_taken += now;
        if (now == 0 && n_taken < n)
            assert_int_equal(gw_driver_wait(b->driver, WAIT_MS), 0);
    }
    return n_good;
}

/* ---- tests ---- */

static void run_load(const struct kind *kind, bool packed)
{
    struct bed b;

    bed_begin(&b, kind, packed);
    for (unsigned round = 0; round < 40; round++) {
        unsigned n = round % DEPTH + 1;

        for (unsigned i = 0; i < n; i++)
            add(&b, i, (round + i) % 3 == 0 ? GW_DRIVER_INDIRECT : 0);
        gw_driver_kick(b.driver);
        assert_int_equal(take(&b, n), n);
    }
    assert_int_equal(gw_frontend_stop(b.fe, &b.driver, 1), 0);
    bed_end(&b);
}

static void test_xen_session_serves_memory_of_every_kind(void **state)
{
    for (unsigned i = 0; i < GW_ARRAY_SIZE(kinds); i++) {
        run_load(&kinds[i], false);
        run_load(&kinds[i], true);
    }
}

static unsigned calls(enum xen_stub_call call)
{
    return __atomic_load_n(&xen_stub.n_calls[call], __ATOMIC_RELAXED);
}

/* However many requests and pages: one call that reads them, one that writes their answers. */
static void test_xen_session_batch_costs_two_calls(void **state)
{
    for (unsigned depth = 1; depth <= DEPTH; depth *= 4) {
        unsigned maps, copies;
        struct bed b;

        bed_begin(&b, NO_ADVANCE, false);
        maps = calls(XEN_STUB_GRANT_MAP);
        copies = calls(XEN_STUB_GRANT_COPY);
        for (unsigned i = 0; i < depth; i++)
            add(&b, i, 0);
        gw_driver_kick(b.driver);
        assert_int_equal(take(&b, depth), depth);
        assert_int_equal(calls(XEN_STUB_GRANT_COPY) - copies, 2);
        assert_int_equal(calls(XEN_STUB_GRANT_MAP), maps); /* rings stay mapped */
        bed_end(&b);
    }
}

static void test_xen_session_bad_grant_is_a_bad_chain(void **state)
{
    for (unsigned bad = 0; bad < DEPTH; bad++) {
        uint32_t ref;
        struct bed b;

        bed_begin(&b, NO_ADVANCE, bad % 2);
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
        bed_end(&b);
    }
}

static void test_xen_session_missing_frame_is_a_bad_chain(void **state)
{
    struct bed b;

    bed_begin(&b, &kinds[0], false); /* where buffers are going to be */
    xen_stub.frame_errors[page_of(&b, 3, 1) / PAGE] = EBUSY;
    bed_end(&b);
    bed_begin(&b, &kinds[0], false);
    for (unsigned i = 0; i < DEPTH; i++)
        add(&b, i, i % 2 ? GW_DRIVER_INDIRECT : 0);
    gw_driver_kick(b.driver);
    assert_int_equal(take(&b, DEPTH), DEPTH - 1);
    bed_end(&b);
}

/* No answer is shown whose bytes are not there: the ring ends, and a new start is good again. */
static void break_by(bool revoked, bool packed)
{
    struct gw_driver_used used[DEPTH];
    uint32_t ref;
    struct bed b;

    bed_begin(&b, NO_ADVANCE, packed);
    b.hold = true;
    ref = (uint32_t)((page_of(&b, 1, 3) & ~GW_GRANT_ADDRESS) / PAGE);
    if (!revoked)
        xen_stub.grants[ref].read_only = true;
    for (unsigned i = 0; i < 3; i++)
        add(&b, i, 0);
    gw_driver_kick(b.driver);
    while (__atomic_load_n(&b.n_held, __ATOMIC_ACQUIRE) < 3)
        usleep(1000);
    if (revoked)
        xen_stub.grants[ref].valid = false;
    assert_int_equal(gw_worker_post(gw_daemon_worker(b.daemon, 0), answer_held, &b), 0);
    assert_true(says(&b, "taken pages away"));
    assert_int_equal(gw_driver_take(b.driver, used, DEPTH), 0);
    xen_stub_grant(ref, FIRST + ref - REF, 1);
    assert_int_equal(gw_frontend_stop(b.fe, &b.driver, 1), 0);
    gw_driver_reset(b.driver, 0);
    __atomic_store_n(&b.hold, false, __ATOMIC_RELEASE);
    assert_int_equal(gw_frontend_start_queue(b.fe, b.driver), 0);
    assert_int_equal(gw_frontend_set_vring_enable(b.fe, 0, true), 0);
    add(&b, 0, 0);
    gw_driver_kick_always(b.driver);
    assert_int_equal(take(&b, 1), 1);
    bed_end(&b);
}

static void test_xen_session_answer_that_cannot_be_stored_ends_the_ring(void **state)
{
    break_by(false, false);
    break_by(false, true);
    break_by(true, false);
    break_by(true, true);
}

static void test_xen_session_ring_that_is_not_granted_does_not_start(void **state)
{
    struct bed b;

    bed_begin(&b, NO_ADVANCE, false);
    assert_int_equal(gw_frontend_stop(b.fe, &b.driver, 1), 0);
    assert_int_equal(xen_stub.n_grant_pages, 0); /* a stopped ring holds nothing */
    xen_stub.grants[REF].valid = false;
    assert_true(gw_frontend_start_queue(b.fe, b.driver) < 0);
    assert_true(says(&b, "is not in guest memory"));
    xen_stub.grants[REF].valid = true;
    assert_int_equal(gw_frontend_start_queue(b.fe, b.driver), 0);
    bed_end(&b);
}

static void test_xen_session_region_goes_and_comes_under_a_ring(void **state)
{
    for (unsigned i = 0; i < GW_ARRAY_SIZE(kinds); i++) {
        struct bed b;

        bed_begin(&b, &kinds[i], false);
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
        bed_end(&b);
    }
}

/* The log has frames by their numbers, and granted pages by their references. */
static void test_xen_session_log_knows_pages_by_their_address(void **state)
{
    for (unsigned i = 0; i < GW_ARRAY_SIZE(kinds); i++) {
        gw_gpa_t base = kinds[i].gpa & GW_GRANT_ADDRESS ? GW_GUEST_LOG_GRANTS : 0;
        struct gw_guest_log_config cfg = {.size = sizeof(cfg), .length = 4096, .base = base};
        struct gw_guest_log *log;
        struct bed b;

        bed_begin(&b, &kinds[i], false);
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
        bed_end(&b);
        gw_guest_log_free(log);
    }
}

/* ---- domains that die ---- */

/* In every state: nobody asks for anything, requests are in flight, and a log is there. */
static void test_xen_session_ends_with_its_domain(void **state)
{
    for (unsigned i = 0; i < 3 * GW_ARRAY_SIZE(kinds); i++) {
        struct gw_driver_used used[DEPTH];
        struct bed b;

        bed_begin(&b, &kinds[i / 3], false);
        add(&b, 0, 0);
        gw_driver_kick(b.driver);
        assert_int_equal(take(&b, 1), 1);
        b.hold = i % 3 > 0;
        for (unsigned k = 0; b.hold && k < 4; k++)
            add(&b, k, 0);
        gw_driver_kick_always(b.driver);
        while (b.hold && __atomic_load_n(&b.n_held, __ATOMIC_ACQUIRE) < 4)
            usleep(1000);
        xen_stub_kill();
        assert_true(says(&b, "domain 7, whose memory it is about, is gone"));
        if (b.hold)
            assert_int_equal(gw_worker_post(gw_daemon_worker(b.daemon, 0), answer_held, &b), 0);
        (void)gw_driver_take(b.driver, used, DEPTH);
        assert_int_equal(gw_daemon_wait(b.daemon), 0);
        assert_int_equal(xen_stub.n_foreign_pages + xen_stub.n_grant_pages, 0);
        assert_int_equal(xen_stub.n_handles, 0);
        /* The daemon is ready for the next. */
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
        bed_end(&b);
    }
}

static void test_xen_session_without_xenstore_is_told(void **state)
{
    struct bed b;

    xen_stub.errors[XEN_STUB_STORE_OPEN] = ENOENT;
    bed_begin(&b, NO_ADVANCE, false);
    assert_true(says(&b, "xenstore cannot be asked: No such file"));
    add(&b, 0, 0);
    gw_driver_kick(b.driver);
    assert_int_equal(take(&b, 1), 1);
    bed_end(&b);
}

/* ---- messages ---- */

static int send_table(struct bed *b, uint32_t flags, uint32_t domid, size_t size)
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
    struct bed b;

    memset(&b, 0, sizeof(b));
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
    /* What is refused leaves what there was. */
    assert_int_equal(send_table(&b, 0x2, XEN_STUB_DOMID, 48), 0);
    assert_true(send_table(&b, 0x3, XEN_STUB_DOMID, 48) != 0);
    assert_true(send_table(&b, 0x2, 0x7ff1, 48) != 0);
    assert_true(send_table(&b, 0x2, 9, 48) != 0);
    assert_true(send_table(&b, 0x2, XEN_STUB_DOMID, 40) != 0); /* an entry as without XEN_MMAP */
    assert_true(send_table(&b, 0x2, XEN_STUB_DOMID, 56) != 0);
    assert_int_equal(xen_stub.n_grant_pages, 4);
    gw_frontend_free(b.fe);
    assert_int_equal(gw_daemon_wait(b.daemon), 0);
    gw_daemon_free(b.daemon);
}

static void test_xen_session_is_not_offered_without_xen(void **state)
{
    uint64_t features = 0;
    struct bed b;

    memset(&b, 0, sizeof(b));
    xen_stub.errors[XEN_STUB_FOREIGN_OPEN] = ENOENT;
    xen_stub.errors[XEN_STUB_GRANT_OPEN] = ENOENT;
    make_daemon(&b);
    assert_true(says(&b, "/dev/xen/privcmd: No such file")); /* at once */
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
        XEN_TEST(test_xen_session_bad_grant_is_a_bad_chain),
        XEN_TEST(test_xen_session_missing_frame_is_a_bad_chain),
        XEN_TEST(test_xen_session_answer_that_cannot_be_stored_ends_the_ring),
        XEN_TEST(test_xen_session_ring_that_is_not_granted_does_not_start),
        XEN_TEST(test_xen_session_region_goes_and_comes_under_a_ring),
        XEN_TEST(test_xen_session_log_knows_pages_by_their_address),
        XEN_TEST(test_xen_session_ends_with_its_domain),
        XEN_TEST(test_xen_session_without_xenstore_is_told),
        XEN_TEST(test_xen_session_regions_are_told_as_they_are),
        XEN_TEST(test_xen_session_is_not_offered_without_xen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
