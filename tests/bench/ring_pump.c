/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "ring_pump.h"

#include "base/clock.h"
#include "proc_meter.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TAKE_MAX   64
#define CLOCK_GAP  64 /* turns without a completion between two reads of the clock */
#define SECTOR     512
#define WARM_UP_MS 10

struct request {
    struct gw_driver_buf bufs[3]; /* header, data, status */
    uint8_t *status;
};

struct ring_pump {
    struct gw_driver *driver;
    unsigned depth;
    unsigned flags;
    uint32_t len; /* used length of a completed read */
    unsigned n_idle;
    unsigned n_ready; /* not in flight: the entries of `ready` */
    uint64_t *ready;
    struct request *requests;
};

/* Header and status share a cache line, as in the kernel's driver; the data is separate. */
static int prepare(struct request *req, struct ring_fixture *b,
                   const struct ring_fixture_config *cfg)
{
    uint64_t n_blocks = RING_FIXTURE_EXTENT / cfg->block_size;
    struct virtio_blk_outhdr *header;
    gw_gpa_t frame, data;
    int r = gw_guest_mem_alloc(b->mem, 64, 64, &frame);

    if (r == 0)
        r = gw_guest_mem_alloc(b->mem, cfg->block_size, 64, &data);
    if (r < 0)
        return r;
    header = gw_guest_mem_at(b->mem, frame, 64);
    header->type = VIRTIO_BLK_T_IN;
    header->sector = (uint64_t)random() % n_blocks * (cfg->block_size / SECTOR);
    req->status = (uint8_t *)(header + 1);
    *req->status = UINT8_MAX;
    req->bufs[0] = (struct gw_driver_buf){.addr = frame, .len = sizeof(*header)};
    req->bufs[1] = (struct gw_driver_buf){.addr = data, .len = cfg->block_size};
    req->bufs[2] = (struct gw_driver_buf){.addr = frame + sizeof(*header), .len = 1};
    return 0;
}

static void pump_free(struct ring_pump *p)
{
    free(p->ready);
    free(p->requests);
    free(p);
}

int ring_pump_new(struct ring_pump **ret, struct ring_fixture *b,
                  const struct ring_fixture_config *cfg)
{
    struct ring_pump *p = calloc(1, sizeof(*p));
    int r = 0;

    if (!p)
        return -ENOMEM;
    p->driver = b->driver;
    p->depth = cfg->depth;
    p->flags = cfg->indirect ? GW_DRIVER_INDIRECT : 0;
    p->len = cfg->block_size + 1;
    p->ready = calloc(cfg->depth, sizeof(*p->ready));
    p->requests = calloc(cfg->depth, sizeof(*p->requests));
    if (!p->ready || !p->requests)
        r = -ENOMEM;
    for (unsigned i = 0; i < cfg->depth && r == 0; i++) {
        p->ready[p->n_ready++] = i;
        r = prepare(&p->requests[i], b, cfg);
    }
    if (r < 0)
        pump_free(p);
    else
        *ret = p;
    return r;
}

static int send_ready(struct ring_pump *p)
{
    int r = 0;

    for (unsigned i = 0; i < p->n_ready && r == 0; i++) {
        const struct request *req = &p->requests[p->ready[i]];

        r = gw_driver_add(p->driver, req->bufs, 1, 2, p->ready[i], p->flags);
    }
    p->n_ready = 0;
    (void)gw_driver_kick(p->driver);
    return r;
}

/* Make completed requests ready again. Returns: their number; a negative errno. */
static int take(struct ring_pump *p)
{
    struct gw_driver_used used[TAKE_MAX];
    unsigned n = gw_driver_take(p->driver, used, TAKE_MAX);

    for (unsigned i = 0; i < n; i++) {
        if (used[i].len != p->len)
            return -EIO;
        p->ready[p->n_ready++] = used[i].cookie;
    }
    return n > 0 ? (int)n : gw_driver_check(p->driver);
}

static bool clock_is_due(struct ring_pump *p, int n_taken)
{
#if defined(__x86_64__) || defined(__i386__)
    if (n_taken == 0)
        __builtin_ia32_pause();
#endif
    p->n_idle = n_taken == 0 ? p->n_idle + 1 : 0;
    return p->n_idle % CLOCK_GAP == 0;
}

int ring_pump_run(struct ring_pump *p, unsigned ms, uint64_t *ret_requests, uint64_t *ret_ns)
{
    uint64_t begin = gw_clock_ns(), now = begin, last = begin, n_requests = 0;
    uint64_t end = begin + ms * UINT64_C(1000000);

    while (now < end) {
        int r = p->n_ready > 0 ? send_ready(p) : 0;

        if (r == 0)
            r = take(p);
        if (r < 0)
            return r;
        n_requests += (unsigned)r;
        if (!clock_is_due(p, r))
            continue;
        now = gw_clock_ns();
        if (r > 0)
            last = now;
        else if (now - last > RING_FIXTURE_STALL_MS * UINT64_C(1000000))
            return -ETIMEDOUT;
    }
    if (ret_requests)
        *ret_requests = n_requests;
    if (ret_ns)
        *ret_ns = now - begin;
    return 0;
}

int ring_pump_finish(struct ring_pump *p)
{
    uint64_t deadline = gw_clock_ns() + RING_FIXTURE_STALL_MS * UINT64_C(1000000);
    int r = 0;

    if (!p)
        return 0;
    while (r >= 0 && p->n_ready < p->depth)
        r = gw_clock_ns() < deadline ? take(p) : -ETIMEDOUT;
    for (unsigned i = 0; i < p->depth && r >= 0; i++)
        if (*p->requests[i].status != VIRTIO_BLK_S_OK)
            r = -EIO;
    pump_free(p);
    return r < 0 ? r : 0;
}

int ring_pump_turn(const char *name, const char *path, pid_t pid,
                   const struct ring_fixture_config *cfg, unsigned ms, struct ring_pump_turn *ret)
{
    uint64_t n_requests = 0, run_ns = 0;
    struct ring_pump *pump = NULL;
    struct proc_meter meter;
    struct ring_fixture b;
    int r = ring_fixture_start(&b, path, cfg);

    if (r == 0)
        r = ring_pump_new(&pump, &b, cfg);
    if (r == 0)
        r = ring_pump_run(pump, WARM_UP_MS, NULL, NULL);
    if (r == 0) {
        proc_meter_start(&meter, pid);
        r = ring_pump_run(pump, ms, &n_requests, &run_ns);
        proc_meter_stop(&meter);
    }
    if (r == 0)
        r = ring_pump_finish(pump);
    if (r < 0) {
        fprintf(stderr, "%s: %s %s\n", name, strerror(-r), gw_frontend_last_error());
    } else {
        double requests = n_requests ? (double)n_requests : 1; /* none on a starved machine */

        ret->rate = requests * 1e9 / (double)run_ns;
        ret->cpu = (double)meter.cpu_ns / requests;
    }
    ring_fixture_finish(&b);
    return r;
}
