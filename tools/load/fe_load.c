/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A load on the queues of a disk: creation, move to another guest memory, statistics. Running it is
 * in fe_load_run.c; the expected contents of the disk are in fe_disk.c.
 */
#include "fe_disk.h"
#include "fe_load_i.h"
#include "fe_sector.h"
#include "frontend/driver/driver_i.h"

#include "base/checked.h"
#include "base/random.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DEPTH_DEFAULT 32
#define DATA_ALIGN    4096

int gw_guest_load_fail(struct gw_guest_load *l, int r, const char *format, ...)
{
    va_list ap;

    /* Keep the first failure: the run returns that one. */
    if (l->error[0])
        return r;
    va_start(ap, format);
    vsnprintf(l->error, sizeof(l->error), format, ap);
    va_end(ap);
    return r;
}

const char *gw_guest_load_error(const struct gw_guest_load *l)
{
    return l->error;
}

/* Check the config and fill in defaults. Returns: 0; -EINVAL; -E2BIG. */
static int take_config(struct gw_guest_load *l, const struct gw_guest_load_config *cfg)
{
    struct gw_guest_load_config *c = &l->cfg;
    int r = gw_copy_struct(c, sizeof(*c), cfg, sizeof(*c));

    if (r < 0)
        return r;
    if (!c->disk || c->n_drivers == 0)
        return -EINVAL;
    c->drivers = NULL; /* kept in the queues */
    if (!c->depth)
        c->depth = DEPTH_DEFAULT;
    if (!c->call_grace_ms)
        c->call_grace_ms = GW_DRIVER_CALL_GRACE_MS;
    if (!c->segments)
        c->segments = 1;
    l->block_size = gw_guest_disk_block_size(c->disk);
    if (c->hold_percent > 100 || c->write_percent > 100 ||
        c->flush_percent > 100 - c->write_percent || c->segments > GW_GUEST_LOAD_SEGMENTS_MAX ||
        l->block_size % (c->segments * 512) || c->depth > 32768 || c->n_drivers > 256 ||
        gw_guest_disk_blocks(c->disk) <= (uint64_t)c->depth * c->n_drivers)
        return -EINVAL;
    return 0;
}

/* The bytes to allocate for the data of one request. */
static uint64_t data_len(const struct gw_guest_load *l)
{
    return l->block_size + (l->cfg.scatter ? DATA_ALIGN : 0);
}

static int request_init(struct gw_guest_load *l, struct gw_guest_load_request *req,
                        struct gw_driver *d)
{
    int r = gw_driver_blk_init(&req->blk, d);

    if (r == 0)
        r = gw_guest_mem_alloc(l->mem, data_len(l), DATA_ALIGN, &req->allocated);
    if (r < 0)
        return r;
    req->data = req->allocated;
    if (l->cfg.scatter)
        req->data += gw_random_mix(l->cfg.seed ^ req->data) % (DATA_ALIGN / 16) * 16;
    req->host = gw_guest_mem_at(l->mem, req->data, l->block_size);
    return 0;
}

static int queue_init(struct gw_guest_load *l, struct gw_guest_load_queue *q, struct gw_driver *d)
{
    unsigned n_desc = l->cfg.indirect ? 1 : l->cfg.segments + 2;
    int r = 0;

    q->driver = d;
    if (l->cfg.indirect && d->indirect_max < l->cfg.segments + 2)
        return -EINVAL;
    if ((uint64_t)n_desc * l->cfg.depth > gw_driver_size(d))
        return -ENOSPC;
    q->requests = calloc(l->cfg.depth, sizeof(*q->requests));
    if (!q->requests)
        return -ENOMEM;
    for (unsigned i = 0; r == 0 && i < l->cfg.depth; i++) {
        struct gw_guest_load_request *req = &q->requests[i];

        r = request_init(l, req, d);
        if (r < 0)
            break;
        req->next = q->free;
        q->free = req;
    }
    return r;
}

static void queue_done(struct gw_guest_load *l, struct gw_guest_load_queue *q)
{
    for (unsigned i = 0; q->requests && i < l->cfg.depth; i++) {
        if (q->requests[i].host)
            gw_guest_mem_release(l->mem, q->requests[i].allocated, data_len(l));
        gw_driver_blk_done(&q->requests[i].blk);
    }
    free(q->requests);
}

int gw_guest_load_new(struct gw_guest_load **ret, const struct gw_guest_load_config *cfg)
{
    struct gw_guest_load *l = calloc(1, sizeof(*l));
    int r;

    if (!l)
        return -ENOMEM;
    l->interrupt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = l->interrupt_fd < 0 ? -errno : take_config(l, cfg);
    l->random = gw_random_mix(cfg->seed);
    if (r == 0) {
        l->mem = gw_driver_mem(cfg->drivers[0]);
        l->queues = calloc(cfg->n_drivers, sizeof(*l->queues));
        if (!l->queues)
            r = -ENOMEM;
    }
    for (unsigned i = 0; r == 0 && i < cfg->n_drivers; i++) {
        if (gw_driver_mem(cfg->drivers[i]) != l->mem)
            r = -EINVAL;
        else
            r = queue_init(l, &l->queues[i], cfg->drivers[i]);
    }
    if (r < 0) {
        gw_guest_load_free(l);
        return r;
    }
    *ret = l;
    return 0;
}

void gw_guest_load_abandon(struct gw_guest_load *l)
{
    for (unsigned i = 0; l->queues && i < l->cfg.n_drivers; i++) {
        struct gw_guest_load_queue *q = &l->queues[i];

        for (unsigned k = 0; q->requests && k < l->cfg.depth; k++) {
            struct gw_guest_load_request *req = &q->requests[k];

            if (!req->in_flight)
                continue;
            if (req->type != GW_DRIVER_BLK_FLUSH)
                gw_guest_disk_unclaim(l->cfg.disk, req->block);
            if (req->slot)
                gw_guest_load_hold_abandon(l, req->slot);
            req->slot = NULL;
            req->in_flight = false;
            req->next = q->free;
            q->free = req;
        }
    }
    l->n_in_flight = 0;
}

void gw_guest_load_free(struct gw_guest_load *l)
{
    if (!l)
        return;
    gw_guest_load_abandon(l);
    for (unsigned i = 0; l->queues && i < l->cfg.n_drivers; i++)
        queue_done(l, &l->queues[i]);
    free(l->queues);
    gw_guest_load_hold_done(l);
    if (l->interrupt_fd >= 0)
        close(l->interrupt_fd);
    free(l);
}

int gw_guest_load_set_mem(struct gw_guest_load *l, struct gw_guest_mem *m)
{
    l->error[0] = '\0';
    l->mem = m;
    l->n_mem++;
    for (unsigned i = 0; i < l->cfg.n_drivers; i++) {
        for (unsigned k = 0; k < l->cfg.depth; k++) {
            struct gw_guest_load_request *req = &l->queues[i].requests[k];
            uint8_t *host = gw_guest_mem_at(m, req->data, l->block_size);
            int r = gw_driver_blk_set_mem(&req->blk, m);

            if (r == 0 && req->slot)
                r = gw_guest_load_hold_locate(l, req->slot);
            if (r < 0 || !host)
                return gw_guest_load_fail(l, -EFAULT,
                                          "the new memory does not contain the buffers");
            req->host = host;
        }
    }
    return 0;
}

void gw_guest_load_interrupt(struct gw_guest_load *l)
{
    uint64_t one = 1;
    ssize_t n;

    __atomic_store_n(&l->interrupted, 1, __ATOMIC_RELEASE);
    n = write(l->interrupt_fd, &one, sizeof(one));
    (void)n; /* with a full counter, the fd is readable already */
}

void gw_guest_load_stats(const struct gw_guest_load *l, struct gw_guest_load_stats *ret)
{
    *ret = l->stats;
    ret->p50 = gw_guest_load_percentile(l, 500000);
    ret->p90 = gw_guest_load_percentile(l, 900000);
    ret->p99 = gw_guest_load_percentile(l, 990000);
    ret->p999 = gw_guest_load_percentile(l, 999000);
    ret->max = l->latency.max;
    ret->in_flight = l->n_in_flight;
}

void gw_guest_load_restart_stats(struct gw_guest_load *l)
{
    memset(&l->stats, 0, sizeof(l->stats));
    memset(&l->latency, 0, sizeof(l->latency));
    memset(&l->live, 0, sizeof(l->live));
}

uint64_t gw_guest_load_percentile(const struct gw_guest_load *l, unsigned per_million)
{
    return gw_histogram_at(&l->latency, per_million);
}
