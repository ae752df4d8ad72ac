/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The postcopy messages of a daemon, byte by byte, because QEMU ends the guest if a reply differs
 * from what it expects.
 */
#include "base/checked.h"
#include "base/proto.h"
#include "patience.h"
#include "postcopy/postcopy.h"

#include <godwit.h>
#include <godwit/frontend/frontend.h>

#include "fdcheck.h"
#include "requires.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE     (UINT64_C(1) << 20)
#define GPA      UINT64_C(0x100000)
#define UVA      UINT64_C(0x7f0000000000)
#define FEATURES (GW_BIT(GW_F_PROTOCOL_FEATURES) | GW_BIT(GW_F_VERSION_1))
#define PROTOCOL                                                  \
    (GW_BIT(GW_PROTOCOL_F_REPLY_ACK) | GW_BIT(GW_PROTOCOL_F_MQ) | \
     GW_BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | GW_BIT(GW_PROTOCOL_F_PAGEFAULT))
#define WAIT_MS patience_ms()
#define NEED    GW_MSG_NEED_REPLY

struct fixture {
    struct gw_daemon *daemon;
    struct gw_frontend *fe;
    struct gw_frontend_message answer;
    void *taken; /* maps the front-end's addresses, since both ends share a process */
    int mem_fd;
};

static int queue_ready(void *dev, struct gw_queue *q)
{
    return 0;
}

static void fixture_begin(struct fixture *b, uint64_t protocol)
{
    static const struct gw_device_ops ops = {.size = sizeof(ops), .queue_ready = queue_ready};
    struct gw_daemon_config cfg = {.size = sizeof(cfg), .log_level = GW_LOG_ERROR};
    const struct gw_frontend_config fe_cfg = {.size = sizeof(fe_cfg), .no_gates = true};
    int ends[2];

    memset(b, 0, sizeof(*b));
    b->taken = mmap((void *)UVA, 4 * SIZE, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    b->mem_fd = memfd_create("guest", MFD_CLOEXEC);
    assert_int_equal(ftruncate(b->mem_fd, (off_t)(4 * SIZE)), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(gw_daemon_new(&b->daemon, &cfg, &ops, NULL), 0);
    assert_int_equal(gw_daemon_start(b->daemon, ends[0]), 0);
    assert_int_equal(gw_frontend_new(&b->fe, &fe_cfg), 0);
    assert_int_equal(gw_frontend_attach(b->fe, ends[1]), 0);
    assert_int_equal(gw_frontend_set_features(b->fe, FEATURES), 0);
    assert_int_equal(gw_frontend_set_protocol_features(b->fe, protocol), 0);
}

static void free_addresses(struct fixture *b)
{
    if (b->taken != MAP_FAILED)
        munmap(b->taken, 4 * SIZE);
    b->taken = MAP_FAILED;
}

static void fixture_end(struct fixture *b)
{
    gw_frontend_message_done(&b->answer);
    gw_frontend_free(b->fe);
    assert_int_equal(gw_daemon_wait(b->daemon), 0);
    gw_daemon_free(b->daemon);
    free_addresses(b);
    close(b->mem_fd);
}

static void tell(struct fixture *b, uint32_t request, uint32_t flags, const void *payload,
                 uint32_t size, int fd)
{
    assert_int_equal(gw_frontend_send_raw(b->fe, request, GW_MSG_VERSION | flags, size, payload,
                                          size, &fd, fd >= 0),
                     0);
}

/* Expect a reply of this size. */
static void expect_answer(struct fixture *b, uint32_t request, uint32_t size)
{
    gw_frontend_message_done(&b->answer);
    assert_int_equal(gw_frontend_receive(b->fe, &b->answer, WAIT_MS), 0);
    assert_int_equal(b->answer.request, request);
    assert_int_equal(b->answer.flags, GW_MSG_VERSION | GW_MSG_REPLY);
    assert_int_equal(b->answer.size, size);
}

static uint64_t expect_u64(struct fixture *b, uint32_t request)
{
    uint64_t value;

    expect_answer(b, request, sizeof(value));
    memcpy(&value, b->answer.payload, sizeof(value));
    return value;
}

/* No unexpected reply is left: the next one is that of GET_FEATURES. */
static void expect_silence(struct fixture *b)
{
    tell(b, GW_MSG_GET_FEATURES, 0, NULL, 0, -1);
    expect_answer(b, GW_MSG_GET_FEATURES, sizeof(uint64_t));
}

static void advise(struct fixture *b)
{
    tell(b, GW_MSG_POSTCOPY_ADVISE, 0, NULL, 0, -1);
    expect_answer(b, GW_MSG_POSTCOPY_ADVISE, 0);
    assert_int_equal(b->answer.n_fds, 1);
}

static void listen_to(struct fixture *b)
{
    advise(b);
    tell(b, GW_MSG_POSTCOPY_LISTEN, NEED, NULL, 0, -1);
    assert_int_equal(expect_u64(b, GW_MSG_POSTCOPY_LISTEN), 0);
}

static struct gw_wire_region region_at(unsigned i)
{
    return (struct gw_wire_region){
        .guest_addr = GPA + i * SIZE,
        .size = SIZE,
        .user_addr = UVA + i * SIZE,
        .mmap_offset = i * SIZE,
    };
}

static void add(struct fixture *b, unsigned i)
{
    struct gw_wire_single_region wire = {.region = region_at(i)};

    tell(b, GW_MSG_ADD_MEM_REG, 0, &wire, sizeof(wire), b->mem_fd);
}

/*
 * The region was added, and the reply has the address of the daemon's mapping, which differs from
 * the front-end's.
 */
static void expect_added(struct fixture *b, unsigned i)
{
    struct gw_wire_single_region wire;

    expect_answer(b, GW_MSG_ADD_MEM_REG, sizeof(wire));
    memcpy(&wire, b->answer.payload, sizeof(wire));
    assert_int_equal(wire.region.guest_addr, GPA + i * SIZE);
    assert_int_equal(wire.region.size, SIZE);
    assert_int_equal(wire.region.mmap_offset, i * SIZE);
    assert_int_not_equal(wire.region.user_addr, UVA + i * SIZE);
    assert_int_equal(wire.region.user_addr % 4096, 0);
}

static void acknowledge(struct fixture *b, uint32_t request, uint64_t value)
{
    tell(b, request, 0, &value, sizeof(value), -1);
}

static void remove_region(struct fixture *b, unsigned i, uint64_t expected_failure)
{
    struct gw_wire_single_region wire = {.region = region_at(i)};

    tell(b, GW_MSG_REM_MEM_REG, NEED, &wire, sizeof(wire), -1);
    assert_int_equal(expect_u64(b, GW_MSG_REM_MEM_REG), expected_failure);
}

static void tell_table(struct fixture *b, unsigned n, uint32_t *ret_size)
{
    struct gw_wire_mem_table table = {.num_regions = n};
    int fds[GW_MSG_TABLE_REGIONS_MAX];

    *ret_size = 8 + n * (uint32_t)sizeof(table.regions[0]);
    for (unsigned i = 0; i < n; i++) {
        table.regions[i] = region_at(i);
        fds[i] = b->mem_fd;
    }
    assert_int_equal(gw_frontend_send_raw(b->fe, GW_MSG_SET_MEM_TABLE, GW_MSG_VERSION, *ret_size,
                                          &table, *ret_size, fds, n),
                     0);
}

static void test_postcopy_session_slots_form(void **state)
{
    struct fixture b;

    fixture_begin(&b, PROTOCOL);
    listen_to(&b);
    add(&b, 0);
    expect_added(&b, 0);
    add(&b, 1);
    expect_added(&b, 1);
    acknowledge(&b, GW_MSG_ADD_MEM_REG, 0);
    expect_silence(&b);
    /* Add one and remove one; then an unchanged table, which has the number 0. */
    remove_region(&b, 0, 0);
    add(&b, 2);
    expect_added(&b, 2);
    acknowledge(&b, GW_MSG_ADD_MEM_REG, 0);
    acknowledge(&b, GW_MSG_NONE, 0);
    remove_region(&b, 1, 0);
    acknowledge(&b, GW_MSG_REM_MEM_REG, 0);
    expect_silence(&b);
    remove_region(&b, 1, ENOENT);
    tell(&b, GW_MSG_POSTCOPY_END, NEED, NULL, 0, -1);
    assert_int_equal(expect_u64(&b, GW_MSG_POSTCOPY_END), 0);
    fixture_end(&b);
}

static uint64_t added_at(struct fixture *b, unsigned i)
{
    struct gw_wire_single_region wire;

    add(b, i);
    expect_answer(b, GW_MSG_ADD_MEM_REG, sizeof(wire));
    memcpy(&wire, b->answer.payload, sizeof(wire));
    return wire.region.user_addr;
}

/* QEMU's postcopy-preempt requires pages at its own addresses (see ctl_mem.c). */
static void test_postcopy_session_free_addresses_are_those_of_the_front_end(void **state)
{
    struct fixture b;

    fixture_begin(&b, PROTOCOL);
    if (b.taken == MAP_FAILED || is_under_tsan() || is_under_valgrind()) {
        fixture_end(&b); /* the process itself uses these addresses, or reserves them */
        skip();
    }
    listen_to(&b);
    assert_int_not_equal(added_at(&b, 1), UVA + SIZE);
    free_addresses(&b);
    assert_int_equal(added_at(&b, 2), UVA + 2 * SIZE);
    assert_int_equal(added_at(&b, 3), UVA + 3 * SIZE);
    acknowledge(&b, GW_MSG_ADD_MEM_REG, 0);
    expect_silence(&b);
    fixture_end(&b);
}

static void test_postcopy_session_table_form(void **state)
{
    struct gw_wire_mem_table table;
    struct fixture b;
    uint32_t size;

    fixture_begin(&b, PROTOCOL & ~GW_BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS));
    listen_to(&b);
    for (unsigned n = 3; n >= 1; n--) { /* shorter tables */
        tell_table(&b, n, &size);
        expect_answer(&b, GW_MSG_SET_MEM_TABLE, size);
        memcpy(&table, b.answer.payload, size);
        assert_int_equal(table.num_regions, n);
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(table.regions[i].guest_addr, GPA + i * SIZE);
            assert_int_not_equal(table.regions[i].user_addr, UVA + i * SIZE);
        }
        if (n != 2) /* sent again before the acknowledgement */
            acknowledge(&b, GW_MSG_SET_MEM_TABLE, 0);
    }
    expect_silence(&b);
    fixture_end(&b);
}

static void test_postcopy_session_refused_table_has_an_empty_answer(void **state)
{
    struct gw_wire_single_region wire = {.region = region_at(0)};
    struct fixture b;
    int pipes[2];

    fixture_begin(&b, PROTOCOL);
    listen_to(&b);
    add(&b, 0);
    expect_added(&b, 0);
    add(&b, 0); /* overlaps itself */
    expect_answer(&b, GW_MSG_ADD_MEM_REG, 0);
    /* A pipe is no memory. */
    assert_int_equal(pipe(pipes), 0);
    wire.region.guest_addr = GPA + 3 * SIZE;
    wire.region.user_addr = UVA + 3 * SIZE;
    tell(&b, GW_MSG_ADD_MEM_REG, 0, &wire, sizeof(wire), pipes[0]);
    expect_answer(&b, GW_MSG_ADD_MEM_REG, 0);
    close(pipes[0]);
    close(pipes[1]);
    /* The first region is still in order. */
    acknowledge(&b, GW_MSG_ADD_MEM_REG, 0);
    remove_region(&b, 0, 0);
    fixture_end(&b);
}

static void test_postcopy_session_region_may_go_before_it_is_acknowledged(void **state)
{
    struct fixture b;

    fixture_begin(&b, PROTOCOL);
    listen_to(&b);
    add(&b, 0);
    expect_added(&b, 0);
    remove_region(&b, 0, 0);
    add(&b, 0);
    expect_added(&b, 0);
    acknowledge(&b, GW_MSG_ADD_MEM_REG, 0);
    remove_region(&b, 0, 0);
    fixture_end(&b);
}

static void test_postcopy_session_wrong_order_is_answered(void **state)
{
    struct fixture b;

    fixture_begin(&b, PROTOCOL);
    tell(&b, GW_MSG_POSTCOPY_LISTEN, NEED, NULL, 0, -1);
    assert_int_not_equal(expect_u64(&b, GW_MSG_POSTCOPY_LISTEN), 0);
    tell(&b, GW_MSG_POSTCOPY_END, NEED, NULL, 0, -1);
    assert_int_not_equal(expect_u64(&b, GW_MSG_POSTCOPY_END), 0);
    listen_to(&b);
    tell(&b, GW_MSG_POSTCOPY_ADVISE, 0, NULL, 0, -1);
    expect_answer(&b, GW_MSG_POSTCOPY_ADVISE, 0);
    assert_int_equal(b.answer.n_fds, 0);
    tell(&b, GW_MSG_POSTCOPY_END, 0, NULL, 0, -1); /* replied even without NEED_REPLY */
    assert_int_equal(expect_u64(&b, GW_MSG_POSTCOPY_END), 0);
    tell(&b, GW_MSG_POSTCOPY_END, 0, NULL, 0, -1);
    assert_int_not_equal(expect_u64(&b, GW_MSG_POSTCOPY_END), 0);
    listen_to(&b); /* a second postcopy */
    fixture_end(&b);
}

/* QEMU waits for the reply to LISTEN even if REPLY_ACK was not negotiated. */
static void test_postcopy_session_listen_is_answered_without_reply_ack(void **state)
{
    struct fixture b;

    fixture_begin(&b, PROTOCOL & ~GW_BIT(GW_PROTOCOL_F_REPLY_ACK));
    listen_to(&b);
    fixture_end(&b);
}

static void test_postcopy_session_after_the_end_tables_are_ordinary(void **state)
{
    struct fixture b;
    uint32_t size;

    fixture_begin(&b, PROTOCOL);
    listen_to(&b);
    add(&b, 0);
    expect_added(&b, 0);
    acknowledge(&b, GW_MSG_ADD_MEM_REG, 0);
    tell(&b, GW_MSG_POSTCOPY_END, NEED, NULL, 0, -1);
    assert_int_equal(expect_u64(&b, GW_MSG_POSTCOPY_END), 0);
    add(&b, 1);
    tell_table(&b, 2, &size);
    expect_silence(&b);
    remove_region(&b, 0, 0);
    fixture_end(&b);
}

/* The number of mappings of guest memory that a userfaultfd watches for missing pages. */
static unsigned count_registered(void)
{
    FILE *smaps = fopen("/proc/self/smaps", "re");
    unsigned long from, to;
    bool is_guest = false;
    unsigned n = 0;
    char line[512];

    assert_non_null(smaps);
    while (fgets(line, sizeof(line), smaps)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            is_guest = strstr(line, "/memfd:guest") != NULL;
        n += is_guest && strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " um");
    }
    fclose(smaps);
    return n;
}

static void test_postcopy_session_regions_before_listen_are_taken(void **state)
{
    struct fixture b;

    fixture_begin(&b, PROTOCOL);
    add(&b, 0);
    add(&b, 2); /* not next to the other one, which would make them one mapping */
    expect_silence(&b);
    assert_int_equal(count_registered(), 0);
    listen_to(&b);
    assert_int_equal(count_registered(), 2);
    remove_region(&b, 0, 0);
    assert_int_equal(count_registered(), 1);
    fixture_end(&b);
}

static void test_postcopy_session_needs_the_feature(void **state)
{
    struct fixture b;

    fixture_begin(&b, PROTOCOL & ~GW_BIT(GW_PROTOCOL_F_PAGEFAULT));
    tell(&b, GW_MSG_POSTCOPY_ADVISE, 0, NULL, 0, -1);
    expect_answer(&b, GW_MSG_POSTCOPY_ADVISE, 0);
    assert_int_equal(b.answer.n_fds, 0);
    fixture_end(&b);
}

static void test_postcopy_session_may_be_declined(void **state)
{
    static const struct gw_device_ops ops = {.size = sizeof(ops), .queue_ready = queue_ready};
    struct gw_daemon_config cfg = {.size = sizeof(cfg), .no_postcopy = true};
    struct gw_frontend *fe;
    struct gw_daemon *d;
    uint64_t features;
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(gw_daemon_new(&d, &cfg, &ops, NULL), 0);
    assert_int_equal(gw_daemon_start(d, ends[0]), 0);
    assert_int_equal(gw_frontend_new(&fe, NULL), 0);
    assert_int_equal(gw_frontend_attach(fe, ends[1]), 0);
    assert_int_equal(gw_frontend_get_features(fe, &features), 0);
    assert_int_equal(gw_frontend_get_protocol_features(fe, &features), 0);
    assert_int_equal(features & GW_BIT(GW_PROTOCOL_F_PAGEFAULT), 0);
    gw_frontend_free(fe);
    assert_int_equal(gw_daemon_wait(d), 0);
    gw_daemon_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_postcopy_session_slots_form),
        FDCHECK_TEST(test_postcopy_session_free_addresses_are_those_of_the_front_end),
        FDCHECK_TEST(test_postcopy_session_table_form),
        FDCHECK_TEST(test_postcopy_session_refused_table_has_an_empty_answer),
        FDCHECK_TEST(test_postcopy_session_region_may_go_before_it_is_acknowledged),
        FDCHECK_TEST(test_postcopy_session_wrong_order_is_answered),
        FDCHECK_TEST(test_postcopy_session_listen_is_answered_without_reply_ack),
        FDCHECK_TEST(test_postcopy_session_after_the_end_tables_are_ordinary),
        FDCHECK_TEST(test_postcopy_session_regions_before_listen_are_taken),
        FDCHECK_TEST(test_postcopy_session_needs_the_feature),
        FDCHECK_TEST(test_postcopy_session_may_be_declined),
    };

    if (gw_postcopy_probe() < 0)
        skip_test("%s", gw_last_error());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
