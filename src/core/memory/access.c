/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Access to guest memory by guest address. A region with a fixed address costs a lookup and a
 * memcpy. Others are pinned in pieces, which may be copies (mem_backend.h).
 */
#include "access.h"

#include "base/log_i.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* The piece that is pinned at a time: it bounds the iovecs, because cached grants have one a page.
 */
#define PIECE UINT64_C(0x10000)
enum {
    PIECE_IOV = 17
};

uint64_t gw_map_contiguous(const struct gw_map *map, unsigned *last, gw_gpa_t gpa, uint64_t enough)
{
    const struct gw_map_entry *entry = gw_map_find(map, last, gpa);
    uint64_t len;

    if (!entry)
        return 0;
    len = entry->size - (gpa - entry->gpa);
    for (; len < enough && entry + 1 < map->entries + map->n_entries; entry++) {
        if (entry[1].gpa - entry->gpa != entry->size)
            break;
        len += entry[1].size;
    }
    return len;
}

int gw_map_check(const struct gw_map *map, unsigned *last, gw_gpa_t gpa, uint64_t len)
{
    uint64_t n = len > 0 ? gw_map_contiguous(map, last, gpa, len) : 0;

    if (n >= len)
        return 0;
    return gw_fail(-EFAULT,
                   "%#" PRIx64 " bytes at guest address %#" PRIx64
                   ": no memory region contains address %#" PRIx64,
                   len, gpa, gpa + n);
}

/* ---- copies ---- */

static void copy_iov(const struct iovec *iov, uint8_t *buf, uint64_t len, bool is_write)
{
    while (len > 0) {
        uint64_t n = iov->iov_len < len ? iov->iov_len : len;

        memcpy(is_write ? iov->iov_base : buf, is_write ? buf : iov->iov_base, n);
        iov++;
        buf += n;
        len -= n;
    }
}

/* Copies a piece of a region without a fixed address. */
static int copy_pinned(const struct gw_map *map, unsigned *last, gw_gpa_t gpa, uint8_t *buf,
                       uint64_t len, bool is_write)
{
    const struct gw_extent extent = {.gpa = gpa, .len = (uint32_t)len};
    struct iovec iov[PIECE_IOV];
    struct gw_pin pin;
    struct gw_pin_copy copy = {.pin = &pin, .n_readable = is_write ? 0 : 1};
    int r = gw_mem_pin(map, last, &extent, 1, iov, PIECE_IOV, &pin);

    if (r < 0)
        return gw_fail(r == -ENOMEM ? r : -EFAULT,
                       "%" PRIu64 " bytes at guest address %#" PRIx64 " are unavailable", len, gpa);
    if (pin.backend && !is_write)
        gw_mem_backend_fetch(&copy, 1);
    if (!copy.failed)
        copy_iov(iov, buf, len, is_write);
    if (pin.backend && is_write)
        gw_mem_backend_store(&copy, 1);
    gw_mem_unpin(&pin);
    if (copy.failed)
        return gw_fail(-EFAULT,
                       "a page of %" PRIu64 " bytes at guest address %#" PRIx64 " is not granted%s",
                       len, gpa, is_write ? " for writing" : "");
    return 0;
}

static int copy(const struct gw_map *map, unsigned *last, gw_gpa_t gpa, uint8_t *buf, uint64_t len,
                bool is_write)
{
    int r = 0;

    while (len > 0 && r == 0) {
        const struct gw_map_entry *entry = gw_map_find(map, last, gpa);
        uint64_t n = entry->size - (gpa - entry->gpa);

        n = n < len ? n : len;
        if (entry->hva) {
            uint8_t *at = entry->hva + (gpa - entry->gpa);

            memcpy(is_write ? at : buf, is_write ? buf : at, n);
        } else {
            n = n < PIECE ? n : PIECE;
            r = copy_pinned(map, last, gpa, buf, n, is_write);
        }
        gpa += n;
        buf += n;
        len -= n;
    }
    return r;
}

int gw_map_read(const struct gw_map *map, unsigned *last, gw_gpa_t gpa, void *buf, uint64_t len)
{
    return copy(map, last, gpa, buf, len, false);
}

int gw_map_write(const struct gw_map *map, unsigned *last, gw_gpa_t gpa, const void *buf,
                 uint64_t len)
{
    return copy(map, last, gpa, (uint8_t *)(uintptr_t)buf, len, true);
}

/* ---- addresses ---- */

/* A fixed address in a region that has none as a whole: it has holes (src/xen). Otherwise NULL. */
static void *find_fixed(const struct gw_map *map, unsigned *last, gw_gpa_t gpa, uint64_t len)
{
    const struct gw_extent extent = {.gpa = gpa, .len = (uint32_t)len};
    struct iovec iov;
    struct gw_pin pin;
    int r = gw_mem_pin(map, last, &extent, 1, &iov, 1, &pin);
    bool is_fixed = r == 1 && !pin.backend;

    if (r >= 0)
        gw_mem_unpin(&pin);
    return is_fixed ? iov.iov_base : NULL;
}

unsigned gw_map_gather(const struct gw_map *map, unsigned *last, gw_gpa_t gpa, uint64_t len,
                       struct iovec *iov, unsigned max_iov, uint64_t *ret_len)
{
    uint64_t done = 0;
    unsigned n_iov = 0;

    while (done < len && n_iov < max_iov) {
        const struct gw_map_entry *entry = gw_map_find(map, last, gpa + done);
        uint64_t offset = gpa + done - entry->gpa, n = entry->size - offset;
        uint8_t *at;

        n = n < len - done ? n : len - done;
        if (entry->hva) {
            at = entry->hva + offset;
        } else {
            n = n < PIECE ? n : PIECE;
            at = find_fixed(map, last, gpa + done, n);
        }
        if (!at)
            break;
        iov[n_iov++] = (struct iovec){.iov_base = at, .iov_len = n};
        done += n;
    }
    *ret_len = done;
    return n_iov;
}

int gw_map_pin_value(const struct gw_map *map, unsigned *last, gw_gpa_t gpa, unsigned size,
                     void **ret_at, struct gw_pin *ret_pin)
{
    const struct gw_map_entry *entry = gw_map_find(map, last, gpa);
    void *at = NULL;
    int r = 0;

    ret_pin->backend = NULL;
    if (size > entry->size - (gpa - entry->gpa))
        return gw_fail(-EINVAL,
                       "a value of %u bytes at guest address %#" PRIx64 " spans two memory regions",
                       size, gpa);
    if (entry->hva)
        at = entry->hva + (gpa - entry->gpa);
    else if (gpa % size == 0) /* the mappings of such regions begin at pages */
        r = gw_mem_backend_pin_ring(entry->region, gpa - entry->gpa, size, &at, ret_pin);
    if (r < 0)
        return r;
    if (!at || (uintptr_t)at % size != 0)
        return gw_fail(-EINVAL, "a value of %u bytes at guest address %#" PRIx64 " is not aligned",
                       size, gpa);
    *ret_at = at;
    return 0;
}
