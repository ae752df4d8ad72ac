/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A daemon with missing memory, and the fault server that provides it: the device reads what the
 * guest wrote, no page is present before it arrives, and all faults are at announced addresses.
 * Each test covers one mistake that a back-end may make. A faulty back-end would wait forever, so
 * all waits have a limit.
 */
#include "base/checked.h"
#include "base/proto.h"
#include "patience.h"
#include "postcopy/postcopy.h"

#include <godwit.h>
#include <godwit/frontend/fault.h>

#include "fdcheck.h"
#include "requires.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define GPA     UINT64_C(0x100000)
#define SIZE    UINT64_C(0x40000)
#define HOT_GPA UINT64_C(0x800000)
#define HOT     UINT64_C(0x4000)
#define UVA     UINT64_C(0x7f0000000000)
#define PAGE    UINT64_C(4096)
#define WAIT_MS patience_ms()
#define BATCH   8u

/* Records the first bytes of each request. */
struct device {
    uint64_t seen[64];
    unsigned n_seen;   /* atomic */
    unsigned n_starts; /* atomic: calls of worker_start */
    unsigned n_stops;  /* atomic */
    unsigned n_moves;  /* atomic */
    int start_result;  /* of the second worker_start */
};

struct machine {
    struct device device;
    struct gw_daemon *daemon;
    struct gw_frontend *fe;
    struct gw_driver *driver;
    struct gw_guest_mem *from, *to; /* from: atomic */
    struct gw_fault_server *server;
    struct gw_fault_client *client;
    gw_gpa_t later;      /* atomic */
    unsigned n_problems; /* atomic */
    char problem[256];
    uint64_t n_sent; /* requests sent; each has its number */
};

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct device *device = dev;
    struct gw_request *reqs[BATCH];
    unsigned n = gw_queue_pop(q, reqs, BATCH);

    for (unsigned i = 0; i < n; i++) {
        uint64_t value = 0;
        unsigned k = device->n_seen;

        (void)gw_request_read(reqs[i], &value, sizeof(value));
        device->seen[k % 64] = value;
        __atomic_store_n(&device->n_seen, k + 1, __ATOMIC_RELEASE);
        gw_request_complete(reqs[i], 0);
    }
    return 0;
}

static int worker_start(void *dev, struct gw_worker *w)
{
    struct device *device = dev;

    return __atomic_fetch_add(&device->n_starts, 1, __ATOMIC_ACQ_REL) == 1 ? device->start_result
                                                                           : 0;
}

static void worker_stop(void *dev, struct gw_worker *w)
{
    __atomic_add_fetch(&((struct device *)dev)->n_stops, 1, __ATOMIC_ACQ_REL);
}

static void queue_moved(void *dev, struct gw_queue *q)
{
    __atomic_add_fetch(&((struct device *)dev)->n_moves, 1, __ATOMIC_ACQ_REL);
}

static enum gw_fault_answer give_page(void *arg, gw_gpa_t gpa, uint64_t len, const void **ret_data)
{
    struct machine *m = arg;

    if (gpa == __atomic_load_n(&m->later, __ATOMIC_RELAXED))
        return GW_FAULT_LATER;
    *ret_data = gw_guest_mem_at(__atomic_load_n(&m->from, __ATOMIC_ACQUIRE), gpa, len);
    return GW_FAULT_HERE;
}

static void take_problem(void *arg, const struct gw_fault_report *report)
{
    struct machine *m = arg;

    if (__atomic_fetch_add(&m->n_problems, 1, __ATOMIC_ACQ_REL) == 0)
        snprintf(m->problem, sizeof(m->problem), "%s", report->text);
}

static void expect_no_problem(struct machine *m)
{
    if (__atomic_load_n(&m->n_problems, __ATOMIC_ACQUIRE))
        fail_msg("%s", m->problem);
}

/* The device received all requests, in order. */
static void expect_seen(struct machine *m)
{
    unsigned n = 0;

    for (unsigned i = 0; i < WAIT_MS; i++) {
        n = __atomic_load_n(&m->device.n_seen, __ATOMIC_ACQUIRE);
        if (n >= m->n_sent)
            break;
        expect_no_problem(m);
        usleep(1000);
    }
    expect_no_problem(m);
    assert_int_equal(n, m->n_sent);
    for (uint64_t i = 0; i < m->n_sent; i++)
        assert_int_equal(m->device.seen[i], 0x1000 + i);
}

/* ---- the guest ---- */

static const struct gw_guest_region hot = {.gpa = HOT_GPA, .length = HOT, .no_alloc = true};

static struct gw_guest_mem *new_mem(void)
{
    const struct gw_guest_region region = {.gpa = GPA, .length = SIZE};
    struct gw_guest_mem *mem;

    assert_int_equal(gw_guest_mem_new(&mem, UVA), 0);
    assert_int_equal(gw_guest_mem_add(mem, &region), 0);
    return mem;
}

/* Send a request with its number, in a page of its own at `gpa`. */
static void send_from(struct machine *m, struct gw_guest_mem *mem, gw_gpa_t gpa)
{
    const struct gw_driver_buf buf = {gpa, PAGE};
    uint64_t value = 0x1000 + m->n_sent;

    memcpy(gw_guest_mem_at(mem, gpa, PAGE), &value, sizeof(value));
    assert_int_equal(gw_driver_add(m->driver, &buf, 1, 0, m->n_sent++, 0), 0);
    gw_driver_publish(m->driver);
}

static void send_new(struct machine *m, struct gw_guest_mem *mem)
{
    gw_gpa_t gpa;

    assert_int_equal(gw_guest_mem_alloc(mem, PAGE, PAGE, &gpa), 0);
    send_from(m, mem, gpa);
}

/* A machine whose daemon is advised, and uses `worker` for all, if it is not NULL. */
static void prepare(struct machine *m, uint64_t protocol, struct gw_worker *worker)
{
    static const struct gw_device_ops ops = {.size = sizeof(ops),
                                             .queue_ready = queue_ready,
                                             .worker_start = worker_start,
                                             .worker_stop = worker_stop,
                                             .queue_moved = queue_moved};
    const struct gw_daemon_config cfg = {.size = sizeof(cfg),
                                         .log_level = GW_LOG_ERROR,
                                         .workers = worker ? &worker : NULL,
                                         .control = worker};
    const struct gw_frontend_config fe_cfg = {.size = sizeof(fe_cfg), .timeout_ms = WAIT_MS};
    const struct gw_fault_config fault = {
        .size = sizeof(fault), .page = give_page, .report = take_problem, .arg = m};
    struct gw_frontend_options opt = {.size = sizeof(opt), .protocol_features = protocol};
    struct gw_driver_config driver = {.size = sizeof(driver), .queue_size = 16};
    int ends[2], uffd;

    memset(m, 0, sizeof(*m));
    m->later = UINT64_MAX;
    m->from = new_mem();
    driver.mem = m->from;
    assert_int_equal(gw_driver_new(&m->driver, &driver), 0);
    for (unsigned i = 0; i < BATCH; i++)
        send_new(m, m->from);
    assert_int_equal(gw_guest_mem_clone(&m->to, m->from, UVA), 0);
    /*
     * The source has the region from the start, because it must not change while its pages are
     * sent.
     */
    assert_int_equal(gw_guest_mem_add(m->from, &hot), 0);
    assert_int_equal(gw_fault_server_new(&m->server, &fault), 0);
    assert_int_equal(gw_fault_server_add_mem(m->server, m->to), 0);
    assert_int_equal(gw_fault_server_begin(m->server), 0);
    assert_int_equal(gw_fault_server_start(m->server), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(gw_daemon_new(&m->daemon, &cfg, &ops, &m->device), 0);
    assert_int_equal(gw_daemon_start(m->daemon, ends[0]), 0);
    assert_int_equal(gw_frontend_new(&m->fe, &fe_cfg), 0);
    assert_int_equal(gw_frontend_attach(m->fe, ends[1]), 0);
    assert_int_equal(gw_frontend_negotiate(m->fe, &opt), 0);
    assert_int_equal(gw_frontend_postcopy_advise(m->fe, &uffd), 0);
    assert_int_equal(gw_fault_server_add_client(m->server, &m->client, uffd, "daemon", false), 0);
}

static int listen_to(struct machine *m)
{
    return gw_frontend_postcopy_listen(m->fe, gw_fault_client_add_base, m->client);
}

static void begin(struct machine *m, uint64_t protocol)
{
    prepare(m, protocol, NULL);
    assert_int_equal(listen_to(m), 0);
}

#define SLOTS                                                     \
    (GW_BIT(GW_PROTOCOL_F_REPLY_ACK) | GW_BIT(GW_PROTOCOL_F_MQ) | \
     GW_BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | GW_BIT(GW_PROTOCOL_F_PAGEFAULT))
#define TABLE (SLOTS & ~GW_BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS))

static void start(struct machine *m)
{
    const struct gw_frontend_options opt = {
        .size = sizeof(opt), .mem = m->to, .drivers = &m->driver, .n_drivers = 1};

    assert_int_equal(gw_driver_set_mem(m->driver, m->to), 0);
    assert_int_equal(gw_frontend_start(m->fe, &opt), 0);
}

static void end(struct machine *m)
{
    expect_no_problem(m);
    gw_frontend_free(m->fe);
    assert_int_equal(gw_daemon_wait(m->daemon), 0);
    gw_daemon_free(m->daemon);
    gw_fault_server_free(m->server);
    gw_driver_free(m->driver);
    gw_guest_mem_free(m->to);
    gw_guest_mem_free(m->from);
}

/* ---- tests ---- */

/* Faults occur at the addresses that the back-end announced. */
static void test_postcopy_faults_device_reads_what_comes(void **state)
{
    for (unsigned i = 0; i < 2; i++) {
        struct gw_fault_stats st;
        struct machine m;

        begin(&m, i ? TABLE : SLOTS);
        start(&m);
        expect_seen(&m);
        gw_fault_server_stats(m.server, &st);
        assert_true(st.faults > BATCH);
        end(&m);
    }
}

/* Add the region while the queue runs. */
static void plug(struct machine *m, bool is_table)
{
    uint64_t features;

    assert_int_equal(gw_guest_mem_add(m->to, &hot), 0);
    for (gw_gpa_t gpa = HOT_GPA; gpa < HOT_GPA + HOT; gpa += PAGE) {
        uint64_t value = 0x1000 + m->n_sent + (gpa - HOT_GPA) / PAGE;

        memcpy(gw_guest_mem_at(m->from, gpa, PAGE), &value, sizeof(value));
    }
    assert_int_equal(gw_fault_server_add_region(m->server, m->to, HOT_GPA), 0);
    assert_int_equal(is_table ? gw_frontend_set_mem_table(m->fe, m->to)
                              : gw_frontend_add_mem_reg(m->fe, m->to, HOT_GPA),
                     0);
    /* The acknowledgement has no reply; the reply to the next message shows that it was handled. */
    assert_int_equal(gw_frontend_get_features(m->fe, &features), 0);
}

static void test_postcopy_faults_region_added_later(void **state)
{
    for (unsigned i = 0; i < 2; i++) {
        struct machine m;

        begin(&m, i ? TABLE : SLOTS);
        start(&m);
        expect_seen(&m);
        plug(&m, i);
        for (gw_gpa_t gpa = HOT_GPA; gpa < HOT_GPA + HOT; gpa += PAGE) {
            const struct gw_driver_buf buf = {gpa, PAGE};

            assert_int_equal(gw_driver_add(m.driver, &buf, 1, 0, m.n_sent++, 0), 0);
        }
        gw_driver_kick_always(m.driver);
        expect_seen(&m);
        end(&m);
    }
}

/* A ring in missing pages: the control worker must not read it. */
static void test_postcopy_faults_who_answers_does_not_read_a_ring(void **state)
{
    struct gw_frontend_vring_addr addr;
    struct machine m;
    uint64_t features;
    gw_gpa_t ring;

    begin(&m, SLOTS);
    assert_int_equal(gw_frontend_set_features(m.fe, gw_frontend_features(m.fe)), 0);
    assert_int_equal(gw_frontend_add_mem_reg(m.fe, m.to, GPA), 0);
    /* The last page of the memory holds the whole ring, and is never sent. */
    ring = GPA + SIZE - PAGE;
    __atomic_store_n(&m.later, ring, __ATOMIC_RELAXED);
    addr = (struct gw_frontend_vring_addr){
        .desc = UVA + ring, .avail = UVA + ring + 0x400, .used = UVA + ring + 0x800};
    assert_int_equal(gw_frontend_set_vring_num(m.fe, 0, 16), 0);
    assert_int_equal(gw_frontend_set_vring_base(m.fe, 0, 0), 0);
    assert_int_equal(gw_frontend_set_vring_addr(m.fe, 0, &addr), 0);
    assert_int_equal(gw_frontend_set_vring_call(m.fe, 0, gw_driver_call_fd(m.driver)), 0);
    assert_int_equal(gw_frontend_get_features(m.fe, &features), 0);
    assert_int_equal(gw_frontend_postcopy_end(m.fe), 0);
    end(&m);
}

/* Send a table with the files of another memory, which the front-end does not know about. */
static void send_table(struct machine *m, const struct gw_guest_mem *mem, gw_bva_t *ret_base)
{
    struct gw_wire_mem_table table = {.num_regions = 1};
    const uint32_t size = 8 + (uint32_t)sizeof(table.regions[0]);
    struct gw_frontend_message answer;
    struct gw_guest_region r;

    assert_int_equal(gw_guest_mem_region(mem, 0, &r), 0);
    table.regions[0] =
        (struct gw_wire_region){.guest_addr = r.gpa, .size = r.length, .user_addr = r.uva};
    assert_int_equal(gw_frontend_send_raw(m->fe, GW_MSG_SET_MEM_TABLE, GW_MSG_VERSION, size, &table,
                                          size, &r.fd, 1),
                     0);
    assert_int_equal(gw_frontend_receive(m->fe, &answer, WAIT_MS), 0);
    gw_frontend_message_done(&answer);
    assert_int_equal(answer.size, size);
    memcpy(&table, answer.payload, size);
    *ret_base = table.regions[0].user_addr;
}

/*
 * Replace the memory of a running queue by memory that is missing. The back-end must not touch it
 * before the acknowledgement; after that, the queue waits for each of its pages.
 */
static void test_postcopy_faults_only_after_the_acknowledgement(void **state)
{
    struct gw_guest_mem *next;
    struct machine m;
    uint64_t none = 0;
    gw_bva_t base;
    gw_gpa_t gpa;

    begin(&m, TABLE);
    start(&m);
    expect_seen(&m);
    while (gw_fault_server_stream(m.server, 64) > 0)
        ;
    assert_int_equal(gw_guest_mem_clone(&next, m.to, UVA), 0);
    assert_int_equal(gw_guest_mem_alloc(m.to, PAGE, PAGE, &gpa), 0);
    send_table(&m, next, &base);
    /* The queue still uses the old memory. */
    send_from(&m, m.to, gpa);
    gw_driver_kick_always(m.driver);
    expect_seen(&m);
    usleep(50000);
    expect_no_problem(&m);
    /* Another request in the old memory, which is the source of the new one from now on. */
    assert_int_equal(gw_guest_mem_alloc(m.to, PAGE, PAGE, &gpa), 0);
    send_from(&m, m.to, gpa);
    assert_int_equal(gw_fault_server_remove_region(m.server, GPA), 0);
    gw_guest_mem_free(m.from);
    __atomic_store_n(&m.from, m.to, __ATOMIC_RELEASE);
    m.to = next;
    assert_int_equal(gw_fault_server_add_region(m.server, next, GPA), 0);
    assert_int_equal(gw_fault_client_add_base(m.client, GPA, SIZE, base), 0);
    assert_int_equal(gw_frontend_send_raw(m.fe, GW_MSG_SET_MEM_TABLE, GW_MSG_VERSION, sizeof(none),
                                          &none, sizeof(none), NULL, 0),
                     0);
    gw_driver_kick_always(m.driver);
    expect_seen(&m);
    while (gw_fault_server_stream(m.server, 64) > 0)
        expect_no_problem(&m);
    assert_int_equal(gw_driver_set_mem(m.driver, next), 0);
    end(&m);
}

/* ---- workers that daemons share ---- */

static void wait_for(const unsigned *value, unsigned n)
{
    for (unsigned i = 0; i < WAIT_MS && __atomic_load_n(value, __ATOMIC_ACQUIRE) < n; i++)
        usleep(1000);
    assert_true(__atomic_load_n(value, __ATOMIC_ACQUIRE) >= n);
}

/* All pages arrive, and the queue moves back to `w`. */
static void finish_postcopy(struct machine *m, const struct gw_worker *w)
{
    expect_seen(m);
    while (gw_fault_server_stream(m->server, 64) > 0)
        expect_no_problem(m);
    assert_int_equal(gw_frontend_postcopy_end(m->fe), 0);
    wait_for(&m->device.n_moves, 2);
    wait_for(&m->device.n_stops, 1);
    assert_ptr_equal(gw_queue_worker(gw_daemon_queue(m->daemon, 0)), w);
}

/* Send a request from a page that is there, and wait until the device has it. */
static void serve_one(struct machine *m)
{
    struct gw_driver_used used[16];

    while (gw_driver_take(m->driver, used, 16) > 0)
        ;
    send_from(m, m->to, GPA + SIZE - PAGE);
    gw_driver_kick_always(m->driver);
    expect_seen(m);
}

/* Make the queue wait for a page of a new region. */
static void starve(struct machine *m)
{
    const struct gw_driver_buf buf = {HOT_GPA, PAGE};
    struct gw_fault_stats before, now;

    __atomic_store_n(&m->later, HOT_GPA, __ATOMIC_RELAXED);
    plug(m, false);
    gw_fault_server_stats(m->server, &before);
    assert_int_equal(gw_driver_add(m->driver, &buf, 1, 0, m->n_sent++, 0), 0);
    gw_driver_kick_always(m->driver);
    do {
        usleep(1000);
        gw_fault_server_stats(m->server, &now);
    } while (now.faults == before.faults);
}

/*
 * Two guests on one worker, which also handles their messages. One waits for a page that does not
 * come, and neither the other nor its own session notices.
 */
static void test_postcopy_faults_of_one_guest_do_not_hold_up_another(void **state)
{
    const struct gw_workers_config cfg = {.size = sizeof(cfg)};
    struct machine waiting, other;
    struct gw_workers *ws;
    struct gw_worker *w;
    uint64_t features;

    assert_int_equal(gw_workers_new(&ws, &cfg), 0);
    w = gw_workers_get(ws, 0);
    prepare(&other, SLOTS, w);
    assert_int_equal(listen_to(&other), 0);
    assert_ptr_not_equal(gw_queue_worker(gw_daemon_queue(other.daemon, 0)), w);
    assert_int_equal(__atomic_load_n(&other.device.n_moves, __ATOMIC_ACQUIRE), 1);
    assert_int_equal(__atomic_load_n(&other.device.n_starts, __ATOMIC_ACQUIRE), 2);
    start(&other);
    finish_postcopy(&other, w);

    prepare(&waiting, SLOTS, w);
    assert_int_equal(listen_to(&waiting), 0);
    start(&waiting);
    expect_seen(&waiting);
    starve(&waiting);
    for (unsigned i = 0; i < 40; i++) {
        serve_one(&other);
        assert_int_equal(gw_frontend_get_features(waiting.fe, &features), 0);
    }
    assert_int_equal(__atomic_load_n(&waiting.device.n_seen, __ATOMIC_ACQUIRE), waiting.n_sent - 1);
    __atomic_store_n(&waiting.later, UINT64_MAX, __ATOMIC_RELAXED);
    assert_int_equal(gw_fault_server_put(waiting.server, HOT_GPA, PAGE,
                                         gw_guest_mem_at(waiting.from, HOT_GPA, PAGE)),
                     1);
    finish_postcopy(&waiting, w);
    serve_one(&waiting);
    serve_one(&other);
    end(&waiting);
    end(&other);
    assert_int_equal(waiting.device.n_starts, waiting.device.n_stops);
    assert_int_equal(gw_workers_free(ws), 0);
}

static void test_postcopy_faults_worker_that_the_device_refuses(void **state)
{
    const struct gw_workers_config cfg = {.size = sizeof(cfg)};
    struct gw_workers *ws;
    struct gw_worker *w;
    struct machine m;

    assert_int_equal(gw_workers_new(&ws, &cfg), 0);
    w = gw_workers_get(ws, 0);
    prepare(&m, SLOTS, w);
    m.device.start_result = -EPERM;
    assert_int_equal(listen_to(&m), -EREMOTEIO);
    assert_ptr_equal(gw_queue_worker(gw_daemon_queue(m.daemon, 0)), w);
    assert_int_equal(listen_to(&m), 0); /* the next attempt succeeds */
    start(&m);
    finish_postcopy(&m, w);
    end(&m);
    assert_int_equal(m.device.n_stops, 2);
    assert_int_equal(gw_workers_free(ws), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_postcopy_faults_device_reads_what_comes),
        FDCHECK_TEST(test_postcopy_faults_region_added_later),
        FDCHECK_TEST(test_postcopy_faults_who_answers_does_not_read_a_ring),
        FDCHECK_TEST(test_postcopy_faults_only_after_the_acknowledgement),
        FDCHECK_TEST(test_postcopy_faults_of_one_guest_do_not_hold_up_another),
        FDCHECK_TEST(test_postcopy_faults_worker_that_the_device_refuses),
    };

    if (gw_postcopy_probe() < 0)
        skip_test("%s", gw_last_error());
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
