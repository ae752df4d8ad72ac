/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The main loop of a load: fill the queues up to their depth, kick once per queue and turn, take,
 * check and count completed requests. One thread drives all queues, either polling the rings or
 * sleeping on the call fds. Nothing is allocated here.
 */
#include "base/clock.h"
#include "base/random.h"
#include "fd/peer_fd.h"
#include "fe_load_i.h"
#include "frontend/driver/driver_i.h"
#include "frontend/transport/frontend_i.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#define TAKE_MAX     64         /* used elements taken at once */
#define IDLE_LOOK    64         /* idle turns between two reads of the clock */
#define IDLE_YIELD   4096       /* idle turns before each further one yields the CPU */
#define SLEEP_MAX_NS 1000000000 /* longest sleep before checking for a lost call */
#define QUEUES_MAX   256

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Choose the type and block of a request. */
static void choose(struct gw_guest_load *l, struct gw_guest_load_request *req)
{
    uint64_t random = gw_random_next(&l->random);
    unsigned percent = (unsigned)((random & 0xffffffff) * 100 >> 32);
    uint64_t n = gw_guest_disk_blocks(l->cfg.disk);
    __uint128_t wide;

    if (percent < l->cfg.flush_percent) {
        req->type = GW_DRIVER_BLK_FLUSH;
        req->flush_covers = gw_guest_disk_flush(l->cfg.disk);
        return;
    }
    req->type = percent < l->cfg.flush_percent + l->cfg.write_percent ? GW_DRIVER_BLK_WRITE
                                                                      : GW_DRIVER_BLK_READ;
    wide = (__uint128_t)gw_random_next(&l->random) * n;
    req->block = gw_guest_disk_claim(l->cfg.disk, (uint64_t)(wide >> 64));
    if (req->type == GW_DRIVER_BLK_WRITE && !l->cfg.no_data) {
        gw_guest_disk_fill(l->cfg.disk, req->block, req->host);
        gw_driver_wrote(req->blk.driver, req->data, l->block_size);
    }
}

/* Choose whether this read uses a held buffer. */
static int choose_slot(struct gw_guest_load *l, struct gw_guest_load_queue *q,
                       struct gw_guest_load_request *req)
{
    if (req->type != GW_DRIVER_BLK_READ || !l->cfg.hold_percent ||
        (gw_random_next(&l->random) & 0xffffffff) * 100 >> 32 >= l->cfg.hold_percent)
        return 0;
    return gw_guest_load_hold_take(l, q, &req->slot);
}

static int submit_one(struct gw_guest_load *l, struct gw_guest_load_queue *q,
                      struct gw_guest_load_request *req)
{
    struct gw_driver_buf data[GW_GUEST_LOAD_SEGMENTS_MAX];
    uint32_t len = l->block_size / l->cfg.segments;
    uint64_t sector = 0;
    unsigned n = 0;
    gw_gpa_t at;
    int r = 0;

    req->slot = NULL;
    if (l->sweep.is_on) {
        req->type = GW_DRIVER_BLK_READ;
        req->block = gw_guest_disk_claim(l->cfg.disk, l->sweep.next++);
    } else {
        choose(l, req);
        r = choose_slot(l, q, req);
    }
    at = req->slot ? req->slot->data : req->data;
    if (req->type != GW_DRIVER_BLK_FLUSH) {
        sector = gw_guest_disk_sector(l->cfg.disk, req->block);
        for (n = 0; n < l->cfg.segments; n++)
            data[n] = (struct gw_driver_buf){.addr = at + (uint64_t)n * len, .len = len};
    }
    if (r == 0)
        r = gw_driver_blk_add(req->slot ? &req->slot->blk : &req->blk, req->type, sector, data, n,
                              (uint64_t)(req - q->requests),
                              l->cfg.indirect ? GW_DRIVER_INDIRECT : 0);
    req->in_flight = r == 0;
    l->n_in_flight += r == 0;
    if (r < 0 && req->type != GW_DRIVER_BLK_FLUSH)
        gw_guest_disk_unclaim(l->cfg.disk, req->block);
    return r;
}

/* Fill one queue up to its depth, with at most `budget` more requests, and kick once. */
static int submit_queue(struct gw_guest_load *l, struct gw_guest_load_queue *q, uint64_t budget)
{
    struct gw_guest_load_request *first = q->free, *req = first;
    uint64_t now;
    int r = 0;

    if (!first || !budget)
        return 0;
    if (l->n_in_flight == 0)
        l->progress_ns = gw_clock_ns();
    for (; req && budget; req = req->next, budget--) {
        r = submit_one(l, q, req);
        if (r < 0) {
            gw_guest_load_fail(l, r, "queue %u: the request does not fit into the ring",
                               gw_driver_index(q->driver));
            break;
        }
    }
    q->free = req;
    now = gw_clock_ns();
    for (; first != req; first = first->next)
        first->start_ns = now;
    if (gw_driver_kick(q->driver))
        l->stats.kicks++;
    return r;
}

/* One writer. A sampler that resets the value concurrently gets it now or in the next sample. */
static void raise_to(uint64_t *max, uint64_t value)
{
    if (value > __atomic_load_n(max, __ATOMIC_RELAXED))
        __atomic_store_n(max, value, __ATOMIC_RELAXED);
}

static const char *type_name(uint32_t type)
{
    return type == GW_DRIVER_BLK_READ ? "read" : type == GW_DRIVER_BLK_WRITE ? "write" : "flush";
}

/* The used length must not exceed the writable bytes, and must equal them for a read. */
static int check_length(struct gw_guest_load *l, const struct gw_guest_load_request *req,
                        uint32_t len)
{
    uint32_t want = req->type == GW_DRIVER_BLK_READ ? l->block_size + 1 : 1;

    if (len > want || (req->type == GW_DRIVER_BLK_READ && len < want))
        return gw_guest_load_fail(l, -EPROTO, "%s: used length %" PRIu32 ", not %" PRIu32,
                                  type_name(req->type), len, want);
    return 0;
}

static void count(struct gw_guest_load *l, const struct gw_guest_load_request *req, uint64_t now)
{
    gw_histogram_add(&l->latency, now - req->start_ns);
    raise_to(&l->live.latency, now - req->start_ns);
    l->stats.requests++;
    l->stats.reads += req->type == GW_DRIVER_BLK_READ;
    l->stats.writes += req->type == GW_DRIVER_BLK_WRITE;
    l->stats.flushes += req->type == GW_DRIVER_BLK_FLUSH;
    l->stats.bytes += req->type == GW_DRIVER_BLK_FLUSH ? 0 : l->block_size;
}

/* Check and count a completed request. Its state is updated even if it failed. */
static int complete_one(struct gw_guest_load *l, struct gw_guest_load_queue *q,
                        const struct gw_driver_used *used, uint64_t now)
{
    struct gw_guest_load_request *req = &q->requests[used->cookie];
    int r = gw_driver_blk_status(req->slot ? &req->slot->blk : &req->blk);

    if (r < 0)
        gw_guest_load_fail(l, r == -EPROTO ? r : -EIO, "%s of block %" PRIu64 ": status %s",
                           type_name(req->type), req->block,
                           r == -EIO          ? "IOERR"
                           : r == -EOPNOTSUPP ? "UNSUPP"
                                              : "never written");
    if (r == 0)
        r = check_length(l, req, used->len);
    if (r == 0 && req->type == GW_DRIVER_BLK_WRITE && !l->cfg.no_data)
        gw_guest_disk_written(l->cfg.disk, req->block);
    if (r == 0 && req->type == GW_DRIVER_BLK_FLUSH)
        gw_guest_disk_flushed(l->cfg.disk, req->flush_covers);
    if (req->slot) {
        gw_guest_load_hold_complete(l, req->slot, req->block);
        req->slot = NULL;
        l->stats.held++;
    } else if (r == 0 && req->type == GW_DRIVER_BLK_READ && !l->cfg.no_data) {
        r = gw_guest_disk_check(l->cfg.disk, req->block, req->host);
        if (r < 0)
            gw_guest_load_fail(l, r, "%s", gw_guest_disk_error(l->cfg.disk));
        else
            l->stats.verified += !l->sweep.is_on;
    }
    if (req->type != GW_DRIVER_BLK_FLUSH)
        gw_guest_disk_unclaim(l->cfg.disk, req->block);
    req->in_flight = false;
    req->next = q->free;
    q->free = req;
    l->n_in_flight--;
    l->n_completed++;
    if (!l->sweep.is_on)
        count(l, req, now);
    return r == -EOPNOTSUPP ? -EIO : r;
}

static void note_progress(struct gw_guest_load *l, uint64_t now)
{
    if (now - l->progress_ns > l->stats.stall)
        l->stats.stall = now - l->progress_ns;
    raise_to(&l->live.stall, now - l->progress_ns);
    l->progress_ns = now;
}

/* Publish the counters for the sampler. */
static void publish(struct gw_guest_load *l)
{
    __atomic_store_n(&l->live.requests, l->stats.requests, __ATOMIC_RELAXED);
    __atomic_store_n(&l->live.bytes, l->stats.bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&l->live.since, l->n_in_flight ? l->progress_ns : 0, __ATOMIC_RELAXED);
}

/* Take completed requests of one queue and process all of them. Returns: the first failure. */
static int take_queue(struct gw_guest_load *l, struct gw_guest_load_queue *q, unsigned *ret_n)
{
    struct gw_driver_used used[TAKE_MAX];
    unsigned n = gw_driver_take(q->driver, used, TAKE_MAX);
    uint64_t now;
    int first = 0;

    *ret_n += n;
    if (n == 0) {
        if (gw_driver_check(q->driver) < 0)
            return gw_guest_load_fail(l, -EPROTO, "%s", gw_frontend_last_error());
        return 0;
    }
    now = gw_clock_ns();
    note_progress(l, now);
    for (unsigned i = 0; i < n; i++) {
        int r = complete_one(l, q, &used[i], now);

        if (r < 0 && first == 0)
            first = r;
    }
    return first;
}

/* After a sleep without a call: if requests have completed, wait for the late call or fail. */
static int check_lost_call(struct gw_guest_load *l, const struct pollfd *fds)
{
    for (unsigned i = 0; i < l->cfg.n_drivers; i++) {
        struct pollfd p = fds[i];

        if (gw_driver_want_calls(l->queues[i].driver))
            continue;
        /* The interrupting thread may have killed the device, whose calls are lost then. */
        if (poll(&p, 1, (int)l->cfg.call_grace_ms) == 0 &&
            !__atomic_load_n(&l->interrupted, __ATOMIC_ACQUIRE))
            return gw_guest_load_fail(l, -ENOMSG,
                                      "queue %u: requests completed, but the call is lost",
                                      gw_driver_index(l->queues[i].driver));
    }
    return 0;
}

/* Sleep until a call, an interruption or the time `until`. */
static int sleep_for_calls(struct gw_guest_load *l, uint64_t until)
{
    struct pollfd fds[QUEUES_MAX + 1];
    unsigned n = l->cfg.n_drivers;
    uint64_t now = gw_clock_ns();
    bool work = false;
    int r = 0, ready;

    for (unsigned i = 0; i < n; i++) {
        fds[i] = (struct pollfd){.fd = gw_driver_call_fd(l->queues[i].driver), .events = POLLIN};
        work |= !gw_driver_want_calls(l->queues[i].driver);
    }
    fds[n] = (struct pollfd){.fd = l->interrupt_fd, .events = POLLIN};
    if (!work) {
        if (until > now && until - now > SLEEP_MAX_NS)
            until = now + SLEEP_MAX_NS;
        l->stats.sleeps++;
        ready = poll(fds, n + 1, gw_frontend_time_left(until));
        if (ready == 0)
            r = check_lost_call(l, fds);
    }
    for (unsigned i = 0; i < n; i++) {
        (void)gw_eventfd_take(fds[i].fd);
        gw_driver_suppress_calls(l->queues[i].driver);
    }
    return r;
}

int gw_guest_load_check_stall(struct gw_guest_load *l, uint64_t stall_ns, uint64_t now_ns)
{
    if (!l->n_in_flight || stall_ns == UINT64_MAX || now_ns <= l->progress_ns + stall_ns)
        return 0;
    return gw_guest_load_fail(l, -ETIMEDOUT,
                              "%u requests in flight, none completed within %" PRIu64 " ms",
                              l->n_in_flight, stall_ns / 1000000u);
}

void gw_guest_load_relax(unsigned n_idle)
{
    relax();
    if (n_idle > IDLE_YIELD)
        sched_yield();
}

/* After a turn without work: relax or sleep, and fail if there was no progress for too long. */
static int idle(struct gw_guest_load *l, const struct gw_guest_load_limits *lim, unsigned n_idle)
{
    uint64_t stalled_at = lim->stall_ns == UINT64_MAX ? UINT64_MAX : l->progress_ns + lim->stall_ns;

    if (l->cfg.sleep) {
        int r = sleep_for_calls(l, stalled_at < lim->deadline_ns ? stalled_at : lim->deadline_ns);

        if (r < 0)
            return r;
    } else {
        gw_guest_load_relax(n_idle);
        if (n_idle % IDLE_LOOK)
            return 0;
    }
    return gw_guest_load_check_stall(l, lim->stall_ns, gw_clock_ns());
}

int gw_guest_load_turn(struct gw_guest_load *l, const struct gw_guest_load_limits *lim,
                       unsigned *ret_n)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < l->cfg.n_drivers; i++) {
        uint64_t left = lim->last_request - l->n_completed;

        if (!lim->drain && left > l->n_in_flight)
            r = submit_queue(l, &l->queues[i], left - l->n_in_flight);
        if (r == 0)
            r = take_queue(l, &l->queues[i], ret_n);
    }
    if (*ret_n)
        publish(l);
    return r;
}

void gw_guest_load_begin(struct gw_guest_load *l, const struct gw_guest_load_limits *lim)
{
    l->error[0] = '\0';
    l->progress_ns = lim->start_ns;
    publish(l);
}

void gw_guest_load_end(struct gw_guest_load *l, const struct gw_guest_load_limits *lim)
{
    uint64_t now = gw_clock_ns();

    if (l->n_in_flight && now - l->progress_ns > l->stats.stall)
        l->stats.stall = now - l->progress_ns;
    __atomic_store_n(&l->live.since, 0, __ATOMIC_RELAXED);
    l->stats.run_ns += now - lim->start_ns;
}

static int run(struct gw_guest_load *l, const struct gw_guest_load_limits *lim)
{
    unsigned n_idle = 0, n_turns = 0;
    int r = 0;

    gw_guest_load_begin(l, lim);
    while (l->n_completed < lim->last_request) {
        unsigned n = 0;

        if (lim->drain && l->n_in_flight == 0)
            break;
        if (!lim->drain && __atomic_load_n(&l->interrupted, __ATOMIC_RELAXED))
            break;
        r = gw_guest_load_turn(l, lim, &n);
        if (r < 0)
            break;
        if (n == 0) {
            r = idle(l, lim, ++n_idle);
            if (r < 0)
                break;
        } else {
            n_idle = 0;
        }
        if ((l->cfg.sleep || ++n_turns % IDLE_LOOK == 0) && gw_clock_ns() >= lim->deadline_ns)
            break;
    }
    gw_guest_load_end(l, lim);
    return r;
}

int gw_guest_load_run(struct gw_guest_load *l, unsigned duration_ms, uint64_t n_requests,
                      unsigned stall_ms)
{
    struct gw_guest_load_limits lim = {
        .start_ns = gw_clock_ns(),
        .deadline_ns = UINT64_MAX,
        .stall_ns = stall_ms ? stall_ms * UINT64_C(1000000) : UINT64_MAX,
        .last_request = n_requests ? l->n_completed + n_requests : UINT64_MAX,
    };
    uint64_t value;
    ssize_t n;
    int r;

    if (duration_ms)
        lim.deadline_ns = lim.start_ns + duration_ms * UINT64_C(1000000);
    r = run(l, &lim);
    /* An interruption ends one run: this one, or the next one if none was active. */
    if (__atomic_exchange_n(&l->interrupted, 0, __ATOMIC_ACQ_REL)) {
        n = read(l->interrupt_fd, &value, sizeof(value));
        (void)n;
    }
    return r;
}

int gw_guest_load_drain(struct gw_guest_load *l, unsigned stall_ms)
{
    struct gw_guest_load_limits lim = {
        .start_ns = gw_clock_ns(),
        .deadline_ns = UINT64_MAX,
        .stall_ns = stall_ms ? stall_ms * UINT64_C(1000000) : UINT64_MAX,
        .last_request = UINT64_MAX,
        .drain = true,
    };

    return run(l, &lim);
}

int gw_guest_load_read_back(struct gw_guest_load *l, uint64_t first, uint64_t n_blocks,
                            unsigned stall_ms)
{
    uint64_t n = gw_guest_disk_blocks(l->cfg.disk);
    int r = first > n || l->cfg.no_data ? -EINVAL : gw_guest_load_drain(l, stall_ms);

    if (n_blocks == 0 || n_blocks > n - first)
        n_blocks = n - first;
    if (r < 0 || n_blocks == 0)
        return r;
    l->sweep = (struct gw_guest_load_sweep){.is_on = true, .next = first, .end = first + n_blocks};
    r = gw_guest_load_run(l, 0, n_blocks, stall_ms);
    if (r == 0 && l->sweep.next < l->sweep.end)
        r = gw_guest_load_fail(l, -EINTR, "interrupted at block %" PRIu64, l->sweep.next);
    l->sweep.is_on = false;
    return r;
}
