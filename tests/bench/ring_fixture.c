/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "ring_fixture.h"

#include <string.h>

#define INDIRECT_MAX 3 /* header, data and status */
#define F_DEFAULT    (F(28) | F(29) | F(30) | F(32))
#define F_PACKED     F(34)
#define F_IN_ORDER   F(35)
#define F(n)         (UINT64_C(1) << (n))

int ring_fixture_connect(struct ring_fixture *b, const char *path)
{
    int r;

    gw_frontend_free(b->fe);
    b->fe = NULL;
    r = gw_frontend_new(&b->fe, NULL);
    return r == 0 ? gw_frontend_connect(b->fe, path) : r;
}

int ring_fixture_resume(struct ring_fixture *b, const struct ring_fixture_config *cfg)
{
    struct gw_frontend_options options = {
        .size = sizeof(options),
        .features = F_DEFAULT | (cfg->packed ? F_PACKED : 0) | (cfg->in_order ? F_IN_ORDER : 0),
        .mem = b->mem,
        .drivers = &b->driver,
        .n_drivers = 1,
        .inflight = cfg->inflight ? &b->inflight : NULL,
    };

    return gw_frontend_start(b->fe, &options);
}

int ring_fixture_start(struct ring_fixture *b, const char *path,
                       const struct ring_fixture_config *cfg)
{
    struct gw_guest_region region = {.kind = GW_GUEST_MEMFD, .length = 64 << 20};
    struct gw_driver_config ring = {
        .size = sizeof(ring),
        .queue_size = 512,
        .indirect_max = cfg->indirect ? INDIRECT_MAX : 0,
        .packed = cfg->packed,
    };
    struct gw_guest_disk_config extent = {
        .size = sizeof(extent), .length = RING_FIXTURE_EXTENT, .block_size = cfg->block_size};
    int r;

    memset(b, 0, sizeof(*b));
    r = gw_guest_mem_new(&b->mem, GW_GUEST_UVA_HOST);
    if (r == 0)
        r = gw_guest_mem_add(b->mem, &region);
    ring.mem = b->mem;
    if (r == 0)
        r = gw_driver_new(&b->driver, &ring);
    if (r == 0)
        r = gw_guest_disk_new(&b->disk, &extent);
    if (r == 0)
        r = ring_fixture_connect(b, path);
    return r == 0 ? ring_fixture_resume(b, cfg) : r;
}

int ring_fixture_load(struct ring_fixture *b, const struct ring_fixture_config *cfg)
{
    struct gw_guest_load_config load = {
        .size = sizeof(load),
        .disk = b->disk,
        .drivers = &b->driver,
        .n_drivers = 1,
        .depth = cfg->depth,
        .indirect = cfg->indirect,
        .no_data = true,
    };

    return gw_guest_load_new(&b->load, &load);
}

int ring_fixture_fill(struct ring_fixture *b)
{
    struct gw_guest_load_config writes = {
        .size = sizeof(writes),
        .disk = b->disk,
        .drivers = &b->driver,
        .n_drivers = 1,
        .write_percent = 100,
        .no_data = true,
    };
    struct gw_guest_load *load;
    int r = gw_guest_load_new(&load, &writes);

    if (r < 0)
        return r;
    r = gw_guest_load_run(load, 0, 16 * RING_FIXTURE_EXTENT / 4096, RING_FIXTURE_STALL_MS);
    if (r == 0)
        r = gw_guest_load_drain(load, RING_FIXTURE_STALL_MS);
    gw_guest_load_free(load);
    return r;
}

void ring_fixture_finish(struct ring_fixture *b)
{
    if (b->fe)
        (void)gw_frontend_stop(b->fe, &b->driver, 1);
    gw_frontend_free(b->fe);
    gw_frontend_inflight_done(&b->inflight);
    gw_guest_load_free(b->load);
    gw_guest_disk_free(b->disk);
    gw_driver_free(b->driver);
    gw_guest_mem_free(b->mem);
}
