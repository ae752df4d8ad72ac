/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Access to guest memory through a hold. Every write is marked in the dirty log of the queue before
 * the function returns, after the data (gw_queue_mark_write). So an answer that the device
 * publishes later never precedes the mark of what it refers to.
 */
#include "memory_i.h"

#include <inttypes.h>
#include <string.h>

/* ---- copies ---- */

static int read_pieces(struct gw_memory *m, gw_gpa_t gpa, void *buf, size_t len)
{
    int r = gw_memory_check(m, gpa, len);

    return r < 0 ? r : gw_map_read(gw_memory_map(m), &m->last_region, gpa, buf, len);
}

int gw_memory_read(struct gw_memory *m, gw_gpa_t gpa, void *buf, size_t len)
{
    const void *at = gw_map_at(gw_memory_map(m), &m->last_region, gpa, len);

    if (!at || gw_memory_is_late(m))
        return read_pieces(m, gpa, buf, len);
    memcpy(buf, at, len);
    return 0;
}

static int write_pieces(struct gw_memory *m, gw_gpa_t gpa, const void *buf, size_t len)
{
    int r = gw_memory_check(m, gpa, len);

    if (r < 0)
        return r;
    r = gw_map_write(gw_memory_map(m), &m->last_region, gpa, buf, len);
    gw_queue_mark_write(m->queue, gpa, len); /* a part may have been written */
    return r;
}

int gw_memory_write(struct gw_memory *m, gw_gpa_t gpa, const void *buf, size_t len)
{
    void *at = gw_map_at(gw_memory_map(m), &m->last_region, gpa, len);

    if (!at || gw_memory_is_late(m))
        return write_pieces(m, gpa, buf, len);
    memcpy(at, buf, len);
    gw_queue_mark_write(m->queue, gpa, len);
    return 0;
}

/* ---- atomic access ---- */

static int pin_value(struct gw_memory *m, gw_gpa_t gpa, unsigned size, void **ret_at,
                     struct gw_pin *ret_pin)
{
    void *at = gw_map_at(gw_memory_map(m), &m->last_region, gpa, size);
    int r;

    if (at && (uintptr_t)at % size == 0 && !gw_memory_is_late(m)) {
        ret_pin->backend = NULL;
        *ret_at = at;
        return 0;
    }
    r = gw_memory_check(m, gpa, size);
    if (r < 0)
        return r;
    return gw_map_pin_value(gw_memory_map(m), &m->last_region, gpa, size, ret_at, ret_pin);
}

static int check_order(int order, int one_way)
{
    if (order == __ATOMIC_RELAXED || order == one_way || order == __ATOMIC_SEQ_CST)
        return 0;
    return gw_fail(-EINVAL, "memory order %d does not apply to %s", order,
                   one_way == __ATOMIC_ACQUIRE ? "a load" : "a store");
}

#define LOAD(bits)                                                                              \
    int gw_memory_load##bits(struct gw_memory *m, gw_gpa_t gpa, uint##bits##_t *ret, int order) \
    {                                                                                           \
        struct gw_pin pin;                                                                      \
        void *at;                                                                               \
        int r = check_order(order, __ATOMIC_ACQUIRE);                                           \
                                                                                                \
        if (r == 0)                                                                             \
            r = pin_value(m, gpa, sizeof(*ret), &at, &pin);                                     \
        if (r < 0)                                                                              \
            return r;                                                                           \
        if (order == __ATOMIC_RELAXED)                                                          \
            *ret = __atomic_load_n((uint##bits##_t *)at, __ATOMIC_RELAXED);                     \
        else if (order == __ATOMIC_ACQUIRE)                                                     \
            *ret = __atomic_load_n((uint##bits##_t *)at, __ATOMIC_ACQUIRE);                     \
        else                                                                                    \
            *ret = __atomic_load_n((uint##bits##_t *)at, __ATOMIC_SEQ_CST);                     \
        gw_mem_unpin(&pin);                                                                     \
        return 0;                                                                               \
    }

LOAD(8)
LOAD(16)
LOAD(32)
LOAD(64)

#define STORE(bits)                                                                               \
    int gw_memory_store##bits(struct gw_memory *m, gw_gpa_t gpa, uint##bits##_t value, int order) \
    {                                                                                             \
        struct gw_pin pin;                                                                        \
        void *at;                                                                                 \
        int r = check_order(order, __ATOMIC_RELEASE);                                             \
                                                                                                  \
        if (r == 0)                                                                               \
            r = pin_value(m, gpa, sizeof(value), &at, &pin);                                      \
        if (r < 0)                                                                                \
            return r;                                                                             \
        if (order == __ATOMIC_RELAXED)                                                            \
            __atomic_store_n((uint##bits##_t *)at, value, __ATOMIC_RELAXED);                      \
        else if (order == __ATOMIC_RELEASE)                                                       \
            __atomic_store_n((uint##bits##_t *)at, value, __ATOMIC_RELEASE);                      \
        else                                                                                      \
            __atomic_store_n((uint##bits##_t *)at, value, __ATOMIC_SEQ_CST);                      \
        gw_mem_unpin(&pin);                                                                       \
        gw_queue_mark_write(m->queue, gpa, sizeof(value));                                        \
        return 0;                                                                                 \
    }

STORE(8)
STORE(16)
STORE(32)
STORE(64)

/* ---- other means ---- */

int gw_memory_iovecs(struct gw_memory *m, gw_gpa_t gpa, uint64_t len, struct iovec *iov,
                     unsigned max_iov)
{
    int r = gw_memory_check(m, gpa, len);
    uint64_t done;
    unsigned n;

    if (r < 0)
        return r;
    n = gw_map_gather(gw_memory_map(m), &m->last_region, gpa, len, iov, max_iov, &done);
    if (done == len)
        return (int)n;
    if (n == max_iov)
        return gw_fail(
            -E2BIG, "%#" PRIx64 " bytes at guest address %#" PRIx64 " are in more than %u pieces",
            len, gpa, max_iov);
    return gw_fail(-EOPNOTSUPP, "memory at guest address %#" PRIx64 " has no address that lasts",
                   gpa + done);
}

int gw_memory_mark_dirty(struct gw_memory *m, gw_gpa_t gpa, uint64_t len)
{
    int r = gw_memory_check(m, gpa, len);

    if (r == 0)
        gw_queue_mark_write(m->queue, gpa, len);
    return r;
}
