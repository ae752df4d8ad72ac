/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * godwit-blk with slow storage, stopped while requests are in flight. If the front-end tracks
 * in-flight requests, godwit-blk does not wait for its storage; the next back-end resubmits the
 * requests.
 *
 * usage: it_blk_suspend PATH_OF_GODWIT_BLK
 */
#include "base/clock.h"
#include "blk_test.h"
#include "fdcheck.h"
#include "patience.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    DELAY_MS = 500,
    BLOCK = 4096,
    N_REQUESTS = 8, /* on each queue, alternating writes and reads */
    RING_SIZE = 64,
    N_HANG_UPS = 100,
    N_HANG_UPS_MAX = 2000,
    WCE_OFFSET = 32, /* offset of the writeback byte in config space */
};

#define BIT(n) (UINT64_C(1) << (n))

#define INFLIGHT_SHMFD            BIT(12)
#define GET_VRING_BASE_INFLIGHT   BIT(20)
#define GET_VRING_BASE_SKIP_DRAIN BIT(23)
#define RING_INDIRECT_DESC        BIT(28)
#define RING_EVENT_IDX            BIT(29)
#define PROTOCOL_FEATURES         BIT(30)
#define VERSION_1                 BIT(32)
#define RING_PACKED               BIT(34)
#define IN_ORDER                  BIT(35)

/* How the first run stops with all requests in flight: the negotiated bits and the message. */
enum stop {
    STOP_DRAIN = 0,      /* neither bit: GET_VRING_BASE drains */
    STOP_BASE,           /* GET_VRING_BASE_INFLIGHT alone: GET_VRING_BASE suspends */
    STOP_SKIP_DRAIN,     /* both: GET_VRING_BASE_SKIP_DRAIN suspends ... */
    STOP_BASE_WITH_SKIP, /* ... and GET_VRING_BASE drains */
    STOP_HANG_UP,
    STOP_SIGTERM,
    N_STOPS
};

struct kind {
    const char *loop;
    bool packed, in_order;
    enum stop stop;
};

static bool drains(const struct kind *kind)
{
    return kind->stop == STOP_DRAIN || kind->stop == STOP_BASE_WITH_SKIP;
}

struct one {
    struct gw_driver_blk blk;
    struct gw_driver_buf data;
    unsigned n_answers;
};

struct suspend_test {
    struct blk_test blk;
    struct kind kind;
    struct gw_frontend_inflight inflight;
    uint8_t *region;
    struct one ones[FIXTURE_QUEUES][N_REQUESTS];
};

/* ---- requests ---- */

static bool is_write(unsigned i)
{
    return i % 2 == 0;
}

static unsigned block_of(unsigned queue, unsigned i)
{
    return queue * N_REQUESTS + i;
}

/* The byte that fills a block of the file, before or after the writes. */
static int byte_of(unsigned block, bool after)
{
    return after && is_write(block) ? 0x80 + (int)block : 1 + (int)block;
}

static void fill_file(const struct suspend_test *t)
{
    uint8_t bytes[BLOCK];

    for (unsigned i = 0; i < FIXTURE_QUEUES * N_REQUESTS; i++) {
        memset(bytes, byte_of(i, false), BLOCK);
        assert_int_equal(pwrite(t->blk.fd, bytes, BLOCK, (off_t)i * BLOCK), BLOCK);
    }
}

static void assert_bytes(const uint8_t *at, int byte)
{
    for (unsigned i = 0; i < BLOCK; i++)
        assert_int_equal(at[i], byte);
}

static void assert_file(const struct suspend_test *t, bool after)
{
    uint8_t bytes[BLOCK];

    for (unsigned i = 0; i < FIXTURE_QUEUES * N_REQUESTS; i++) {
        assert_int_equal(pread(t->blk.fd, bytes, BLOCK, (off_t)i * BLOCK), BLOCK);
        assert_bytes(bytes, byte_of(i, after));
    }
}

static void add_requests(struct suspend_test *t, unsigned queue)
{
    struct guest *g = &t->blk.g;

    for (unsigned i = 0; i < N_REQUESTS; i++) {
        struct one *one = &t->ones[queue][i];
        unsigned block = block_of(queue, i);

        one->data.len = BLOCK;
        assert_int_equal(gw_driver_blk_init(&one->blk, g->drivers[queue]), 0);
        assert_int_equal(gw_guest_mem_alloc(g->mem, BLOCK, BLOCK, &one->data.addr), 0);
        memset(gw_guest_mem_at(g->mem, one->data.addr, BLOCK), byte_of(block, true), BLOCK);
        assert_int_equal(gw_driver_blk_add(&one->blk,
                                           is_write(i) ? GW_DRIVER_BLK_WRITE : GW_DRIVER_BLK_READ,
                                           (uint64_t)block * (BLOCK / 512), &one->data, 1, i,
                                           i % 3 == 0 ? GW_DRIVER_INDIRECT : 0),
                         0);
        if (!is_write(i))
            memset(gw_guest_mem_at(g->mem, one->data.addr, BLOCK), 0xee, BLOCK);
    }
    gw_driver_kick_always(g->drivers[queue]);
}

static void take_answers(struct suspend_test *t, unsigned queue)
{
    struct gw_driver_used used[2 * N_REQUESTS];
    unsigned n = gw_driver_take(t->blk.g.drivers[queue], used, 2 * N_REQUESTS);

    for (unsigned i = 0; i < n; i++)
        t->ones[queue][used[i].cookie].n_answers++;
    if (gw_driver_check(t->blk.g.drivers[queue]) < 0)
        fail_msg("%s", gw_frontend_last_error());
}

/* Each request completes exactly once, possibly later, with the expected result. */
static void assert_answered(struct suspend_test *t)
{
    struct guest *g = &t->blk.g;

    for (unsigned q = 0; q < FIXTURE_QUEUES; q++) {
        while (gw_driver_in_flight(g->drivers[q]) > 0) {
            assert_int_equal(gw_driver_wait(g->drivers[q], patience_ms()), 0);
            take_answers(t, q);
        }
        (void)poll(NULL, 0, 20);
        take_answers(t, q);
        for (unsigned i = 0; i < N_REQUESTS; i++) {
            struct one *one = &t->ones[q][i];

            assert_int_equal(one->n_answers, 1);
            assert_int_equal(gw_driver_blk_status(&one->blk), 0);
            assert_bytes(gw_guest_mem_at(g->mem, one->data.addr, BLOCK),
                         byte_of(block_of(q, i), true));
            gw_guest_mem_release(g->mem, one->data.addr, BLOCK);
            gw_driver_blk_done(&one->blk);
        }
    }
    assert_file(t, true);
}

/*
 * ---- the inflight region ("Inflight I/O tracking"): one part per queue, one byte per entry ----
 */

static unsigned n_tracked(const struct suspend_test *t, unsigned queue)
{
    const size_t header = t->kind.packed ? 32 : 16, entry = t->kind.packed ? 32 : 16;
    const uint8_t *part = t->region + t->inflight.mmap_size / t->inflight.num_queues * queue;
    unsigned n = 0;

    for (unsigned i = 0; i < RING_SIZE; i++)
        n += __atomic_load_n(part + header + entry * i, __ATOMIC_ACQUIRE) != 0;
    return n;
}

static void assert_tracked(const struct suspend_test *t, unsigned n)
{
    for (unsigned q = 0; q < FIXTURE_QUEUES; q++)
        assert_int_equal(n_tracked(t, q), n);
}

static void wait_tracked(const struct suspend_test *t, unsigned n)
{
    uint64_t end = gw_clock_ms() + patience_ms();

    for (unsigned q = 0; q < FIXTURE_QUEUES; q++) {
        while (n_tracked(t, q) != n) {
            assert_true(gw_clock_ms() < end);
            (void)poll(NULL, 0, 1);
        }
    }
}

/* ---- sessions ---- */

static void start_program(struct suspend_test *t, const char *delay)
{
    struct program_config cfg = blk_test_config(&t->blk, t->kind.loop);

    cfg.args[8] = delay;
    program_start(&t->blk.program, &cfg);
}

static void make_guest(struct suspend_test *t)
{
    struct guest *g = &t->blk.g;
    struct gw_driver_config cfg = {
        .size = sizeof(cfg), .queue_size = RING_SIZE, .indirect_max = 4, .packed = t->kind.packed};

    guest_init(g, RING_SIZE);
    cfg.mem = g->mem;
    for (cfg.index = 0; cfg.index < FIXTURE_QUEUES; cfg.index++) {
        gw_driver_free(g->drivers[cfg.index]);
        assert_int_equal(gw_driver_new(&g->drivers[cfg.index], &cfg), 0);
    }
    g->opt.features = RING_INDIRECT_DESC | RING_EVENT_IDX | PROTOCOL_FEATURES | VERSION_1 |
                      (t->kind.packed ? RING_PACKED : 0) | (t->kind.in_order ? IN_ORDER : 0);
    g->opt.protocol_features = GUEST_PROTOCOL | INFLIGHT_SHMFD;
    if (t->kind.stop != STOP_DRAIN)
        g->opt.protocol_features |= GET_VRING_BASE_INFLIGHT;
    if (t->kind.stop == STOP_SKIP_DRAIN || t->kind.stop == STOP_BASE_WITH_SKIP)
        g->opt.protocol_features |= GET_VRING_BASE_SKIP_DRAIN;
    g->opt.inflight = &t->inflight;
}

static void run_session(struct suspend_test *t)
{
    struct guest *g = &t->blk.g;

    assert_int_equal(gw_frontend_connect(g->fe, t->blk.socket), 0);
    if (gw_frontend_start(g->fe, &g->opt) < 0)
        fail_msg("%s", gw_frontend_last_error());
}

static void begin(struct suspend_test *t, const struct kind *kind, unsigned delay_ms)
{
    char delay[32];

    memset(t, 0, sizeof(*t));
    t->kind = *kind;
    blk_test_begin(&t->blk, UINT64_C(4) << 20);
    fill_file(t);
    snprintf(delay, sizeof(delay), "--delay=%u", delay_ms);
    start_program(t, delay);
    make_guest(t);
    run_session(t);
    t->region = mmap(NULL, t->inflight.mmap_size, PROT_READ, MAP_SHARED, t->inflight.fd,
                     (off_t)t->inflight.mmap_offset);
    assert_ptr_not_equal(t->region, MAP_FAILED);
    for (unsigned q = 0; q < FIXTURE_QUEUES; q++)
        add_requests(t, q);
    wait_tracked(t, N_REQUESTS);
}

static void end(struct suspend_test *t)
{
    munmap(t->region, t->inflight.mmap_size);
    gw_frontend_inflight_done(&t->inflight);
    blk_test_stop(&t->blk);
}

/* Returns: the longest response time. */
static uint64_t get_bases(struct suspend_test *t)
{
    struct guest *g = &t->blk.g;
    uint64_t longest = 0;

    for (unsigned q = 0; q < FIXTURE_QUEUES; q++) {
        uint64_t begun = gw_clock_ms();
        unsigned n_taken;
        uint32_t base;

        assert_int_equal(t->kind.stop == STOP_SKIP_DRAIN
                             ? gw_frontend_get_vring_base_skip_drain(g->fe, q, &base)
                             : gw_frontend_get_vring_base(g->fe, q, &base),
                         0);
        longest = gw_clock_ms() - begun > longest ? gw_clock_ms() - begun : longest;
        gw_driver_set_base(g->drivers[q], base);
        assert_int_equal(gw_driver_check_base(g->drivers[q], &n_taken), 0);
        if (drains(&t->kind))
            assert_int_equal(n_taken, 0);
        else
            assert_true(n_taken >= N_REQUESTS);
    }
    return longest;
}

/* The next program opens the file while the first still runs, as in a migration. */
static void hand_over(struct suspend_test *t)
{
    struct program first = t->blk.program;

    strcat(t->blk.socket, "2");
    start_program(t, "--delay=0");
    gw_frontend_disconnect(t->blk.g.fe);
    run_session(t);
    assert_int_equal(program_end(&first, SIGTERM), 0);
}

static void restart(struct suspend_test *t)
{
    start_program(t, "--delay=0");
    gw_frontend_disconnect(t->blk.g.fe);
    run_session(t);
}

/* Returns: the time until a front-end could continue. */
static uint64_t stop(struct suspend_test *t)
{
    uint64_t begun = gw_clock_ms();

    switch (t->kind.stop) {
    case STOP_HANG_UP:
        gw_frontend_disconnect(t->blk.g.fe);
        run_session(t);
        break;
    case STOP_SIGTERM:
        assert_int_equal(program_end(&t->blk.program, SIGTERM), 0);
        break;
    default:
        return get_bases(t);
    }
    return gw_clock_ms() - begun;
}

static void go_on(struct suspend_test *t)
{
    if (t->kind.stop == STOP_SIGTERM)
        restart(t);
    else if (t->kind.stop != STOP_HANG_UP)
        hand_over(t);
}

static void run(const struct kind *kind)
{
    static const char *const names[N_STOPS] = {
        [STOP_DRAIN] = "GET_VRING_BASE",
        [STOP_BASE] = "GET_VRING_BASE with INFLIGHT",
        [STOP_SKIP_DRAIN] = "GET_VRING_BASE_SKIP_DRAIN",
        [STOP_BASE_WITH_SKIP] = "GET_VRING_BASE with SKIP_DRAIN",
        [STOP_HANG_UP] = "hang-up",
        [STOP_SIGTERM] = "SIGTERM",
    };
    static struct suspend_test t;
    unsigned delay_ms = DELAY_MS;
    uint64_t took;

    for (;; delay_ms *= 8) {
        begin(&t, kind, delay_ms);
        took = stop(&t);
        if (drains(kind) || took < delay_ms)
            break;
        /* Requests may have completed: the machine is slow, or the stop drained by mistake. */
        assert_true(delay_ms < DELAY_MS * 64);
        go_on(&t);
        end(&t);
    }
    printf("%s %s%s, %s: %lu ms\n", kind->loop, kind->packed ? "packed" : "split",
           kind->in_order ? " in order" : "", names[kind->stop], (unsigned long)took);
    if (drains(kind)) {
        assert_tracked(&t, 0);
        assert_answered(&t);
        go_on(&t);
    } else {
        assert_tracked(&t, N_REQUESTS);
        assert_file(&t, false);
        go_on(&t);
        assert_answered(&t);
        assert_tracked(&t, 0);
    }
    for (unsigned q = 0; q < FIXTURE_QUEUES; q++)
        assert_int_equal(guest_io(&t.blk.g, q, 1024, 0x77), 0);
    end(&t);
}

static void run_kinds(const char *loop, bool in_order)
{
    for (enum stop stop = 0; stop < N_STOPS; stop++)
        for (unsigned packed = 0; packed < 2; packed++)
            run(&(struct kind){
                .loop = loop, .packed = packed == 1, .in_order = in_order, .stop = stop});
}

static void test_stop_epoll(void **state)
{
    (void)state;
    run_kinds("--loop=epoll", false);
}

static void test_stop_uring(void **state)
{
    (void)state;
    if (!fixture_has_uring())
        skip();
    run_kinds("--loop=uring", false);
}

static void test_stop_in_order(void **state)
{
    (void)state;
    run_kinds("--loop=auto", true);
}

struct hang_up {
    int fd;
    unsigned after_ms;
    pthread_t thread;
};

static void *hang_up(void *arg)
{
    const struct hang_up *h = arg;

    (void)poll(NULL, 0, (int)h->after_ms);
    (void)shutdown(h->fd, SHUT_RDWR);
    return NULL;
}

/* The driver does not notice the hang-up and continues for a while. */
static void run_until_hang_up(struct suspend_test *t, struct blk_load *load, unsigned after_ms)
{
    struct hang_up h = {.fd = gw_frontend_fd(t->blk.g.fe), .after_ms = after_ms};

    assert_int_equal(pthread_create(&h.thread, NULL, hang_up, &h), 0);
    if (gw_guest_load_run(load->load, after_ms + 3, 0, 0) < 0)
        fail_msg("%s", gw_guest_load_error(load->load));
    pthread_join(h.thread, NULL);
}

/*
 * Storage at full speed, and front-ends that disconnect during I/O, until requests were in flight
 * then: whatever the result of cancelling each of them, the guest reads what it wrote.
 */
static void run_hang_ups(const char *loop, bool packed)
{
    static struct suspend_test t;
    struct blk_load load;
    uint64_t longest = 0;
    unsigned n = 0;
    bool said = false;

    memset(&t, 0, sizeof(t));
    t.kind = (struct kind){.loop = loop, .packed = packed, .stop = STOP_HANG_UP};
    blk_test_begin(&t.blk, UINT64_C(4) << 20);
    start_program(&t, "--direct=auto");
    make_guest(&t);
    run_session(&t);
    blk_load_init(&load, &t.blk);
    for (; n < N_HANG_UPS || (!said && n < N_HANG_UPS_MAX); n++) {
        uint64_t took;

        run_until_hang_up(&t, &load, 1 + n % 8);
        took = stop(&t);
        longest = took > longest ? took : longest;
        said = said || program_has_said(&t.blk.program, "were in flight and are done again");
    }
    assert_true(said);
    assert_int_equal(gw_guest_load_drain(load.load, patience_ms()), 0);
    blk_load_done(&load, &t.blk);
    printf("%s %s: %u hang-ups, the longest %lu ms\n", loop, packed ? "packed" : "split", n,
           (unsigned long)longest);
    gw_frontend_inflight_done(&t.inflight);
    blk_test_stop(&t.blk);
}

static void test_hang_ups_under_load(void **state)
{
    (void)state;
    for (unsigned packed = 0; packed < 2; packed++) {
        run_hang_ups("--loop=epoll", packed == 1);
        run_hang_ups("--loop=auto", packed == 1);
    }
}

static uint8_t write_cache(const struct suspend_test *t)
{
    uint8_t wce = 0xff;

    assert_int_equal(gw_frontend_get_config(t->blk.g.fe, WCE_OFFSET, &wce, 1), 0);
    return wce;
}

/*
 * The driver turned the write cache off, and its back-end is killed: the next back-end keeps the
 * cache off. A session of another driver starts with the default.
 */
static void test_write_cache_stays_off_when_taken_over(void **state)
{
    static struct suspend_test t;
    uint8_t off = 0, on = 1;
    (void)state;

    memset(&t, 0, sizeof(t));
    t.kind.loop = "--loop=auto";
    blk_test_begin(&t.blk, UINT64_C(4) << 20);
    start_program(&t, "--delay=0");
    make_guest(&t);
    t.blk.g.opt.features |= BIT(9) | BIT(11); /* FLUSH, CONFIG_WCE */
    run_session(&t);
    assert_int_equal(write_cache(&t), 1);
    assert_int_equal(gw_frontend_set_config(t.blk.g.fe, WCE_OFFSET, &off, 1, false), 0);
    assert_int_equal(write_cache(&t), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(program_end(&t.blk.program, SIGKILL), -SIGKILL);
        restart(&t);
        assert_int_equal(write_cache(&t), 0);
    }
    assert_true(program_says(&t.blk.program, "it is off until the driver sets it"));
    assert_int_equal(gw_frontend_set_config(t.blk.g.fe, WCE_OFFSET, &on, 1, false), 0);
    assert_int_equal(write_cache(&t), 1);
    guest_done(&t.blk.g);
    gw_frontend_inflight_done(&t.inflight);

    blk_test_connect(&t.blk);
    assert_int_equal(write_cache(&t), 1);
    blk_test_stop(&t.blk);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_stop_epoll),
        FDCHECK_TEST(test_stop_uring),
        FDCHECK_TEST(test_stop_in_order),
        FDCHECK_TEST(test_hang_ups_under_load),
        FDCHECK_TEST(test_write_cache_stays_off_when_taken_over),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: it_blk_suspend PATH_OF_GODWIT_BLK\n");
        return EXIT_FAILURE;
    }
    blk_test_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
