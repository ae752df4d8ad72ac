/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * libgodwit's front-end and driver with a network device that returns each frame to its sender.
 * Sends frames in one to three buffers, with and without indirect tables, and checks each frame
 * that returns. No frame may be lost, duplicated, reordered or changed. The device is stopped and
 * restarted several times; with "postcopy", the last session starts without any memory present.
 *
 *     exchange SOCKET FEATURES ROUNDS MILLISECONDS SEED [postcopy]
 *
 * FEATURES are the virtio bits to accept; with RING_PACKED (34) the rings are packed. Exit status
 * 0: success; 1: failure, with the reason on stderr.
 */
#include "frame.h"

#include <errno.h>
#include <godwit/frontend/fault.h>
#include <godwit/frontend/frontend.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum {
    RECEIVE = 0, /* the two queues, as the driver names them */
    SEND = 1,
    QUEUE_SIZE = 256,
    ROOMS = 120, /* receive buffers, each of two descriptors */
    SLOTS = 48,  /* send buffers; fewer than receive buffers, so that no frame is dropped */
    BUFFER_SIZE = 2048,
    HEADER_SIZE = 12, /* struct virtio_net_hdr with VERSION_1 */
    SEGMENTS_MAX = 3,
    BURST = 16,
    PATIENCE_MS = 10000,
    DROPPED_MS = 200, /* a frame that has not returned after this time was dropped */
    RING_PACKED = 34,
    MEMORY_BEGIN = 1 << 20,
    MEMORY_SIZE = 4 << 20,
    STREAM_PAGES = 64,
};

struct exchange {
    struct gw_frontend *fe;
    struct gw_guest_mem *mem;
    struct gw_driver *drivers[2];
    gw_gpa_t rooms, slots; /* address of the first one of each */
    bool is_busy[SLOTS];
    uint64_t seed, n_sent, n_back;
    uint8_t *copy;             /* of the memory; source of missing pages */
    atomic_bool is_met[ROOMS]; /* touched by us since the memory was dropped */
    uint64_t n_for_device;     /* pages that only the device can have requested */
};

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("exchange: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(EXIT_FAILURE);
}

static void check(int r, const char *what)
{
    if (r < 0)
        fail("%s: %s", what, strerror(-r));
}

static void check_frontend(const struct exchange *x, int r, const char *what)
{
    if (r < 0)
        fail("%s: %s", what, gw_frontend_last_error());
}

static void check_driver(const struct gw_driver *d, int r)
{
    if (r < 0 || gw_driver_check(d) < 0)
        fail("queue %u: %s", gw_driver_index(d), gw_frontend_last_error());
}

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- frames to send --------------------------------------------------------------------------- */

/* Splits a frame into consecutive buffers, the first with the header; returns their number. */
static unsigned cut(struct gw_driver_buf *bufs, gw_gpa_t at, uint32_t length, unsigned n_segments)
{
    bufs[0] = (struct gw_driver_buf){at, HEADER_SIZE};
    at += HEADER_SIZE;
    for (unsigned i = 1; i <= n_segments; i++) {
        uint32_t part = i < n_segments ? length / 2 : length;

        bufs[i] = (struct gw_driver_buf){at, part};
        at += part;
        length -= part;
    }
    return n_segments + 1;
}

static void send_one(struct exchange *x)
{
    unsigned slot = x->n_sent % SLOTS;
    gw_gpa_t at = x->slots + slot * BUFFER_SIZE;
    uint8_t *bytes = gw_guest_mem_at(x->mem, at, BUFFER_SIZE);
    uint64_t choice = frame_random(x->seed, x->n_sent, 1);
    struct gw_driver_buf bufs[SEGMENTS_MAX + 1];
    unsigned n;

    memset(bytes, 0, HEADER_SIZE);
    n = cut(bufs, at, frame_make(x->seed, x->n_sent, bytes + HEADER_SIZE),
            1 + choice % SEGMENTS_MAX);
    check_driver(x->drivers[SEND], gw_driver_add(x->drivers[SEND], bufs, n, 0, slot,
                                                 choice >> 8 & 1 ? GW_DRIVER_INDIRECT : 0));
    x->is_busy[slot] = true;
    x->n_sent++;
}

static void send_some(struct exchange *x)
{
    unsigned n = 1 + frame_random(x->seed, x->n_sent, 2) % BURST;

    while (n-- > 0 && x->n_sent - x->n_back < SLOTS && !x->is_busy[x->n_sent % SLOTS])
        send_one(x);
    gw_driver_kick(x->drivers[SEND]);
}

static void take_sent(struct exchange *x)
{
    struct gw_driver_used used[SLOTS];
    unsigned n = gw_driver_take(x->drivers[SEND], used, SLOTS);

    check_driver(x->drivers[SEND], 0);
    for (unsigned i = 0; i < n; i++)
        x->is_busy[used[i].cookie] = false;
}

/* --- frames that return ----------------------------------------------------------------------- */

static void add_room(struct exchange *x, uint64_t room)
{
    gw_gpa_t at = x->rooms + room * BUFFER_SIZE;
    const struct gw_driver_buf bufs[] = {{at, HEADER_SIZE},
                                         {at + HEADER_SIZE, BUFFER_SIZE - HEADER_SIZE}};

    memset(gw_guest_mem_at(x->mem, at, BUFFER_SIZE), 0xa5, BUFFER_SIZE);
    check_driver(x->drivers[RECEIVE], gw_driver_add(x->drivers[RECEIVE], bufs, 0, 2, room, 0));
}

static void check_frame(struct exchange *x, const struct gw_driver_used *used)
{
    const uint8_t *bytes =
        gw_guest_mem_at(x->mem, x->rooms + used->cookie * BUFFER_SIZE, BUFFER_SIZE);
    char why[128];

    x->is_met[used->cookie] = true;
    if (x->n_back >= x->n_sent)
        fail("a frame arrived that was not sent, after %" PRIu64, x->n_back);
    if (used->len < HEADER_SIZE || !frame_is(bytes + HEADER_SIZE, used->len - HEADER_SIZE, x->seed,
                                             x->n_back, why, sizeof(why)))
        fail("%s", used->len < HEADER_SIZE ? "a frame without a header came" : why);
    x->n_back++;
}

/* Returns: number of frames. */
static unsigned receive_some(struct exchange *x)
{
    struct gw_driver_used used[ROOMS];
    unsigned n = gw_driver_take(x->drivers[RECEIVE], used, ROOMS);

    check_driver(x->drivers[RECEIVE], 0);
    for (unsigned i = 0; i < n; i++) {
        check_frame(x, &used[i]);
        add_room(x, used[i].cookie);
    }
    gw_driver_kick(x->drivers[RECEIVE]);
    return n;
}

/* Sends one frame. Returns: true if it returned; false if the device took it and dropped it. */
static bool try_one(struct exchange *x)
{
    uint64_t limit = now_ms() + PATIENCE_MS;
    unsigned slot = x->n_sent % SLOTS;

    send_one(x);
    gw_driver_kick(x->drivers[SEND]);
    while (now_ms() < limit) {
        int r = gw_driver_wait(x->drivers[RECEIVE], DROPPED_MS);

        if (r != -ETIMEDOUT)
            check_driver(x->drivers[RECEIVE], r);
        take_sent(x);
        if (receive_some(x) > 0)
            return true;
        if (!x->is_busy[slot]) {
            x->n_back = x->n_sent;
            return false;
        }
    }
    fail("frame %" PRIu64 " was not taken in %d ms", x->n_sent - 1, PATIENCE_MS);
}

static void run_round(struct exchange *x, uint64_t ms)
{
    uint64_t stop, link = now_ms() + PATIENCE_MS;

    /* A device may drop frames until its link is up, and none after that. */
    while (!try_one(x) && now_ms() < link)
        ;
    stop = now_ms() + ms;
    while (now_ms() < stop || x->n_back < x->n_sent) {
        if (now_ms() < stop)
            send_some(x);
        take_sent(x);
        if (receive_some(x) == 0 && x->n_back < x->n_sent)
            check_driver(x->drivers[RECEIVE], gw_driver_wait(x->drivers[RECEIVE], PATIENCE_MS));
    }
}

/* --- the device ------------------------------------------------------------------------------- */

static void begin(struct exchange *x, const char *path, uint64_t features)
{
    const struct gw_guest_region region = {.gpa = MEMORY_BEGIN, .length = MEMORY_SIZE};
    const struct gw_frontend_config cfg = {.size = sizeof(cfg)};

    x->copy = malloc(MEMORY_SIZE);
    check(x->copy ? 0 : -ENOMEM, "memory");
    check(gw_guest_mem_new(&x->mem, GW_GUEST_UVA_HOST), "guest memory");
    check(gw_guest_mem_add(x->mem, &region), "guest memory");
    check(gw_guest_mem_alloc(x->mem, ROOMS * BUFFER_SIZE, BUFFER_SIZE, &x->rooms), "buffers");
    check(gw_guest_mem_alloc(x->mem, SLOTS * BUFFER_SIZE, BUFFER_SIZE, &x->slots), "buffers");
    for (unsigned i = RECEIVE; i <= SEND; i++) {
        const struct gw_driver_config driver = {.size = sizeof(driver),
                                                .mem = x->mem,
                                                .index = i,
                                                .queue_size = QUEUE_SIZE,
                                                .indirect_max = SEGMENTS_MAX + 1,
                                                .packed = features >> RING_PACKED & 1};

        check(gw_driver_new(&x->drivers[i], &driver), "a queue");
        gw_driver_set_features(x->drivers[i], features); /* while the rings are empty */
    }
    check(gw_frontend_new(&x->fe, &cfg), "the front-end");
    check_frontend(x, gw_frontend_connect(x->fe, path), "the back-end");
}

static void start(struct exchange *x, const struct gw_frontend_options *opt)
{
    check_frontend(x, gw_frontend_start(x->fe, opt), "start");
    if (gw_frontend_features(x->fe) != opt->features)
        fail("features %#" PRIx64 " were negotiated", gw_frontend_features(x->fe));
}

/* --- postcopy --------------------------------------------------------------------------------- */

static void check_fault(int r, const char *what)
{
    if (r < 0)
        fail("%s: %s", what, gw_frontend_last_error());
}

/* We only touch a receive buffer after a frame has arrived, so an earlier fault is the device's. */
static bool is_for_device(const struct exchange *x, gw_gpa_t gpa, uint64_t len)
{
    uint64_t first = (gpa - x->rooms) / BUFFER_SIZE, n = len / BUFFER_SIZE;

    if (gpa < x->rooms || first + n > ROOMS)
        return false;
    for (uint64_t room = first; room < first + n; room++)
        if (x->is_met[room])
            return false;
    return true;
}

static enum gw_fault_answer give_page(void *arg, gw_gpa_t gpa, uint64_t len, const void **ret_data)
{
    struct exchange *x = arg;

    x->n_for_device += is_for_device(x, gpa, len);
    *ret_data = x->copy + (gpa - MEMORY_BEGIN);
    return GW_FAULT_HERE;
}

static void report_problem(void *arg, const struct gw_fault_report *report)
{
    fail("%s", report->text);
}

/* Drops the memory; threads that touch it get pages from the copy. */
static struct gw_fault_server *empty_memory(struct exchange *x)
{
    const struct gw_fault_config cfg = {
        .size = sizeof(cfg), .page = give_page, .report = report_problem, .arg = x};
    struct gw_fault_server *server;

    for (unsigned i = 0; i < ROOMS; i++)
        x->is_met[i] = false;
    memcpy(x->copy, gw_guest_mem_at(x->mem, MEMORY_BEGIN, MEMORY_SIZE), MEMORY_SIZE);
    check_fault(gw_fault_server_new(&server, &cfg), "the fault server");
    check_fault(gw_fault_server_add_mem(server, x->mem), "memory for the fault server");
    check_fault(gw_fault_server_discard(server, MEMORY_BEGIN, MEMORY_SIZE), "discarded memory");
    check_fault(gw_fault_server_begin(server), "missing memory");
    check_fault(gw_fault_server_start(server), "the fault server's thread");
    return server;
}

/* DPDK supports postcopy with memory tables only. */
static void run_postcopy(struct exchange *x, const char *path, struct gw_frontend_options *opt,
                         uint64_t ms)
{
    struct gw_fault_server *server = empty_memory(x);
    struct gw_fault_client *client;
    int uffd;

    opt->mem_form = GW_FRONTEND_MEM_TABLE;
    gw_frontend_disconnect(x->fe);
    check_frontend(x, gw_frontend_connect(x->fe, path), "another session");
    check_frontend(x, gw_frontend_negotiate(x->fe, opt), "negotiation");
    check_frontend(x, gw_frontend_postcopy_advise(x->fe, &uffd), "POSTCOPY_ADVISE");
    check_fault(gw_fault_server_add_client(server, &client, uffd, "dpdk", false), "its faults");
    check_frontend(x, gw_frontend_postcopy_listen(x->fe, gw_fault_client_add_base, client),
                   "POSTCOPY_LISTEN");
    start(x, opt);
    run_round(x, ms);
    gw_fault_server_stop(server);
    if (x->n_for_device == 0 || gw_fault_server_missing(server) == 0)
        fail("the device has not waited for any page");
    check_fault(gw_fault_server_start(server), "the fault server's thread");
    while (gw_fault_server_missing(server) > 0)
        check_fault(gw_fault_server_stream(server, STREAM_PAGES), "the rest of the memory");
    check_frontend(x, gw_frontend_postcopy_end(x->fe), "POSTCOPY_END");
    check_fault(gw_fault_server_finish(server), "the end of postcopy");
    run_round(x, ms);
    check_frontend(x, gw_frontend_stop(x->fe, x->drivers, 2), "stop");
    gw_fault_server_free(server);
}

static void end(struct exchange *x)
{
    gw_frontend_free(x->fe);
    for (unsigned i = RECEIVE; i <= SEND; i++)
        gw_driver_free(x->drivers[i]);
    gw_guest_mem_free(x->mem);
    free(x->copy);
}

int main(int argc, char **argv)
{
    struct exchange x = {0};
    struct gw_frontend_options opt = {.size = sizeof(opt), .drivers = x.drivers, .n_drivers = 2};

    uint64_t ms;

    if (argc != 6 && argc != 7)
        fail("usage: exchange SOCKET FEATURES ROUNDS MILLISECONDS SEED [postcopy]");
    opt.features = strtoull(argv[2], NULL, 0);
    ms = strtoull(argv[4], NULL, 0);
    x.seed = strtoull(argv[5], NULL, 0);
    begin(&x, argv[1], opt.features);
    opt.mem = x.mem;
    for (unsigned i = 0; i < ROOMS; i++)
        add_room(&x, i);
    for (int rounds = atoi(argv[3]); rounds > 0; rounds--) {
        start(&x, &opt);
        run_round(&x, ms);
        check_frontend(&x, gw_frontend_stop(x.fe, x.drivers, 2), "stop");
    }
    if (argc == 7)
        run_postcopy(&x, argv[1], &opt, ms);
    printf("%" PRIu64 " frames, %" PRIu64 " pages waited for\n", x.n_back, x.n_for_device);
    end(&x);
    return EXIT_SUCCESS;
}
