/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "xen_fixture.h"

#include "fdcheck.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

const struct kind kinds[N_KINDS] = {
    [FOREIGN] = {"foreign", GW_GUEST_XEN_FOREIGN, FIRST *PAGE},
    [GRANTS] = {"grants", GW_GUEST_XEN_GRANT, GW_GRANT_ADDRESS | REF *PAGE},
    [NO_ADVANCE] = {"grants, not in advance", GW_GUEST_XEN_GRANT | GW_GUEST_XEN_NO_ADVANCE,
                    GW_GRANT_ADDRESS | REF *PAGE},
};

int xen_fixture_setup(void **state)
{
    if (fdcheck_setup(state) < 0)
        return -1;
    xen_stub_begin();
    xen_stub_grant(REF, FIRST, N_FRAMES);
    return 0;
}

int xen_fixture_teardown(void **state)
{
    xen_stub_end();
    return fdcheck_teardown(state) < 0 || xen_stub.n_misuses ? -1 : 0;
}

/* ---- the device: it writes back what it reads, with all bits inverted ---- */

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
    struct xen_fixture *b = dev;
    struct gw_request *reqs[64];
    unsigned n = gw_queue_pop(q, reqs, 64);

    for (unsigned i = 0; i < n; i++) {
        if (b->hold) {
            b->held[b->n_held] = reqs[i];
            b->n_held++;
        } else {
            answer(reqs[i]);
        }
    }
    return 0;
}

static void answer_held(struct gw_post *post)
{
    struct xen_fixture *b = gw_container_of(post, struct xen_fixture, answer);

    for (unsigned i = 0; i < b->n_held; i++)
        answer(b->held[i]);
    b->n_held = 0;
}

/* ---- the fixture ---- */

static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;

static void listen_to(void *arg, enum gw_log_level level, const char *message)
{
    struct xen_fixture *b = arg;

    pthread_mutex_lock(&said_lock);
    snprintf(b->said[b->n_said++ % GW_ARRAY_SIZE(b->said)], sizeof(b->said[0]), "%s", message);
    pthread_mutex_unlock(&said_lock);
}

bool says(struct xen_fixture *b, const char *part)
{
    for (unsigned ms = 0; ms < WAIT_MS; ms++) {
        bool found = false;

        pthread_mutex_lock(&said_lock);
        for (unsigned i = 0; i < GW_ARRAY_SIZE(b->said); i++)
            found = found || strstr(b->said[i], part);
        pthread_mutex_unlock(&said_lock);
        if (found)
            return true;
        usleep(1000);
    }
    return false;
}

void make_daemon(struct xen_fixture *b)
{
    static const struct gw_device_ops ops = {.size = sizeof(ops), .queue_ready = queue_ready};

    b->cfg.size = sizeof(b->cfg);
    b->cfg.queue_size_max = 64;
    b->cfg.log = listen_to;
    b->cfg.log_arg = b;
    b->cfg.log_level = GW_LOG_WARNING;
    assert_int_equal(gw_daemon_new(&b->daemon, &b->cfg, &ops, b), 0);
}

void connect_to(struct xen_fixture *b)
{
    const struct gw_frontend_config cfg = {.size = sizeof(cfg), .timeout_ms = WAIT_MS};
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

void restart(struct xen_fixture *b)
{
    struct gw_frontend_options opt = {
        .size = sizeof(opt), .mem = b->mem, .drivers = &b->driver, .n_drivers = 1};

    if (b->in_order)
        opt.features = GW_BIT(GW_F_RING_INDIRECT_DESC) | GW_BIT(GW_F_RING_EVENT_IDX) |
                       GW_BIT(GW_F_PROTOCOL_FEATURES) | GW_BIT(GW_F_VERSION_1) |
                       GW_BIT(GW_F_IN_ORDER) | (b->packed ? GW_BIT(GW_F_RING_PACKED) : 0);
    if (gw_frontend_start(b->fe, &opt) != 0)
        fail_msg("%s: %s", b->kind->name, gw_frontend_last_error());
}

void fixture_begin(struct xen_fixture *b, unsigned kind, bool packed)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct gw_guest_region region = region_of(&kinds[kind], fd);
    struct gw_driver_config cfg = {
        .size = sizeof(cfg), .queue_size = 64, .indirect_max = 8, .packed = packed};

    b->kind = &kinds[kind];
    b->packed = packed;
    b->answer.run = answer_held;
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

/* Checks that nothing of the domain stays mapped after the session. */
void fixture_end(struct xen_fixture *b)
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

/* Request `i` has four pages: 0 and 1 are read, from the middle of page 0; 2 and 3 are written. */
gw_gpa_t page_of(const struct xen_fixture *b, unsigned i, unsigned page)
{
    return b->buf + (i * 4 + page) * PAGE;
}

void add(struct xen_fixture *b, unsigned i, unsigned flags)
{
    struct gw_driver_buf bufs[] = {
        {page_of(b, i, 0) + 2048, PAGE}, {page_of(b, i, 2) + 2048, 100}, {page_of(b, i, 3), 3996}};
    uint8_t *out = gw_guest_mem_at(b->mem, bufs[0].addr, PAGE);

    for (unsigned k = 0; k < PAGE; k++)
        out[k] = (uint8_t)(k * 7 + i);
    memset(gw_guest_mem_at(b->mem, page_of(b, i, 2), 2 * PAGE), 0xee, 2 * PAGE);
    assert_int_equal(gw_driver_add(b->driver, bufs, 1, 2, i, flags), 0);
}

static void expect_answer(struct xen_fixture *b, unsigned i)
{
    const uint8_t *in = gw_guest_mem_at(b->mem, page_of(b, i, 2), 2 * PAGE);

    for (unsigned k = 0; k < 2048; k++)
        assert_int_equal(in[k], 0xee);
    for (unsigned k = 0; k < PAGE; k++)
        assert_int_equal(in[k < 100 ? 2048 + k : PAGE + k - 100], (uint8_t) ~(k * 7 + i));
    assert_int_equal(in[2 * PAGE - 1], 0xee);
}

/* Returns: number of requests completed with all their bytes. */
unsigned take(struct xen_fixture *b, unsigned n)
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

unsigned calls(enum xen_stub_call call)
{
    return xen_stub.n_calls[call];
}
