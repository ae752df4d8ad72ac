/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * virtio-blk requests on a driver ring: header, data buffers, status byte ("Block Device", virtio
 * 1.2, 5.2.6). Only the header and the status have memory of their own here.
 */
#include "frontend/driver/driver_i.h"

#include "load.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_blk.h>

/* One cache line of guest memory for each request. */
#define SLOT_LEN  64
#define HEADER_AT 0
#define RANGE_AT  16
#define STATUS_AT 48

#define STATUS_NONE 0xff
#define DATA_MAX    126

_Static_assert(STATUS_AT == GW_DRIVER_BLK_HEADER_LEN, "header and range");
_Static_assert(sizeof(struct virtio_blk_outhdr) == RANGE_AT - HEADER_AT, "header");
_Static_assert(sizeof(struct virtio_blk_discard_write_zeroes) <= STATUS_AT - RANGE_AT, "range");

int gw_driver_blk_init(struct gw_driver_blk *b, struct gw_driver *d)
{
    struct gw_guest_mem *m = gw_driver_mem(d);
    gw_gpa_t gpa;
    int r = gw_guest_mem_alloc(m, SLOT_LEN, SLOT_LEN, &gpa);

    if (r < 0)
        return r;
    b->driver = d;
    b->gpa = gpa;
    b->host = gw_guest_mem_at(m, gpa, SLOT_LEN);
    b->status_gpa = gpa + STATUS_AT;
    b->status = b->host + STATUS_AT;
    b->is_placed = false;
    return 0;
}

int gw_driver_blk_place(struct gw_driver_blk *b, struct gw_driver *d, gw_gpa_t gpa,
                        gw_gpa_t status_gpa)
{
    struct gw_driver_blk placed = {
        .driver = d, .gpa = gpa, .status_gpa = status_gpa, .is_placed = true};
    int r = gw_driver_blk_set_mem(&placed, gw_driver_mem(d));

    if (r == 0)
        *b = placed;
    return r;
}

void gw_driver_blk_done(struct gw_driver_blk *b)
{
    if (b->driver && !b->is_placed)
        gw_guest_mem_release(gw_driver_mem(b->driver), b->gpa, SLOT_LEN);
    b->driver = NULL;
}

int gw_driver_blk_set_mem(struct gw_driver_blk *b, const struct gw_guest_mem *m)
{
    uint8_t *host = gw_guest_mem_at(m, b->gpa, GW_DRIVER_BLK_HEADER_LEN);
    uint8_t *status = gw_guest_mem_at(m, b->status_gpa, 1);

    if (!host || !status)
        return -EFAULT;
    b->host = host;
    b->status = status;
    return 0;
}

static void write_header(struct gw_driver_blk *b, uint32_t type, uint64_t sector)
{
    struct virtio_blk_outhdr *h = (void *)(b->host + HEADER_AT);

    h->type = htole32(type);
    h->ioprio = 0;
    h->sector = htole64(sector);
    gw_driver_wrote(b->driver, b->gpa + HEADER_AT, sizeof(*h));
    if (*b->status == STATUS_NONE)
        return;
    *b->status = STATUS_NONE;
    gw_driver_wrote(b->driver, b->status_gpa, 1);
}

int gw_driver_blk_add(struct gw_driver_blk *b, uint32_t type, uint64_t sector,
                      const struct gw_driver_buf *data, unsigned n_data, uint64_t cookie,
                      unsigned flags)
{
    struct gw_driver_buf bufs[DATA_MAX + 2];
    unsigned n_readable = 1;

    if (n_data > DATA_MAX)
        return -EINVAL;
    write_header(b, type, sector);
    bufs[0] =
        (struct gw_driver_buf){.addr = b->gpa + HEADER_AT, .len = sizeof(struct virtio_blk_outhdr)};
    for (unsigned i = 0; i < n_data; i++)
        bufs[1 + i] = data[i];
    bufs[1 + n_data] = (struct gw_driver_buf){.addr = b->status_gpa, .len = 1};
    if (type == VIRTIO_BLK_T_OUT)
        n_readable += n_data;
    return gw_driver_add(b->driver, bufs, n_readable, n_data + 2 - n_readable, cookie, flags);
}

int gw_driver_blk_add_range(struct gw_driver_blk *b, uint32_t type, uint64_t sector,
                            uint32_t n_sectors, uint32_t range_flags, uint64_t cookie,
                            unsigned flags)
{
    struct virtio_blk_discard_write_zeroes *range = (void *)(b->host + RANGE_AT);
    const struct gw_driver_buf bufs[3] = {
        {.addr = b->gpa + HEADER_AT, .len = sizeof(struct virtio_blk_outhdr)},
        {.addr = b->gpa + RANGE_AT, .len = sizeof(*range)},
        {.addr = b->status_gpa, .len = 1},
    };

    write_header(b, type, 0);
    range->sector = htole64(sector);
    range->num_sectors = htole32(n_sectors);
    range->flags = htole32(range_flags);
    gw_driver_wrote(b->driver, b->gpa + RANGE_AT, sizeof(*range));
    return gw_driver_add(b->driver, bufs, 2, 1, cookie, flags);
}

int gw_driver_blk_status(const struct gw_driver_blk *b)
{
    switch (*b->status) {
    case VIRTIO_BLK_S_OK:
        return 0;
    case VIRTIO_BLK_S_IOERR:
        return -EIO;
    case VIRTIO_BLK_S_UNSUPP:
        return -EOPNOTSUPP;
    default:
        return -EPROTO;
    }
}

int gw_driver_blk_wait(struct gw_driver_blk *b, uint64_t cookie, unsigned timeout_ms)
{
    struct gw_driver_used used;
    int r;

    gw_driver_kick(b->driver);
    r = gw_driver_wait(b->driver, timeout_ms);
    if (r < 0)
        return r;
    if (gw_driver_take(b->driver, &used, 1) != 1 || used.cookie != cookie)
        return -EPROTO;
    return gw_driver_blk_status(b);
}
