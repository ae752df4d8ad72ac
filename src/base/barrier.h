/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Access to memory that another process may write concurrently. All ring accesses go through these
 * functions, once per value: the compiler may neither split nor repeat an access.
 *
 * Rings are little-endian (virtio 1.x, 2.6 "Split Virtqueues"). Drivers without VERSION_1 use the
 * byte order of the guest, which is little-endian too on every supported host.
 */
#pragma once

#include <endian.h>
#include <stdint.h>

/* Ring values: relaxed ordering unless the suffix names another. */
static inline uint16_t gw_load16(const uint16_t *p)
{
    return le16toh(__atomic_load_n(p, __ATOMIC_RELAXED));
}

/* _acquire: everything that the peer wrote before it stored this value is visible after the load.
 */
static inline uint16_t gw_load16_acquire(const uint16_t *p)
{
    return le16toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));
}

static inline uint64_t gw_load64(const uint64_t *p)
{
    return le64toh(__atomic_load_n(p, __ATOMIC_RELAXED));
}

static inline uint64_t gw_load64_acquire(const uint64_t *p)
{
    return le64toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));
}

static inline void gw_store16(uint16_t *p, uint16_t v)
{
    __atomic_store_n(p, htole16(v), __ATOMIC_RELAXED);
}

/* _release: all earlier writes are visible to a reader that loads this value with acquire. */
static inline void gw_store16_release(uint16_t *p, uint16_t v)
{
    __atomic_store_n(p, htole16(v), __ATOMIC_RELEASE);
}

static inline void gw_store32(uint32_t *p, uint32_t v)
{
    __atomic_store_n(p, htole32(v), __ATOMIC_RELAXED);
}

static inline void gw_store64(uint64_t *p, uint64_t v)
{
    __atomic_store_n(p, htole64(v), __ATOMIC_RELAXED);
}

static inline void gw_store64_release(uint64_t *p, uint64_t v)
{
    __atomic_store_n(p, htole64(v), __ATOMIC_RELEASE);
}

/* Earlier stores are visible before later loads execute: the only order x86 does not guarantee. */
static inline void gw_full_fence(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/*
 * Counters with one writer and any number of readers: a plain add, never torn. An atomic
 * read-modify-write would cost a locked instruction per request for no benefit.
 */
static inline void gw_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

static inline uint64_t gw_counted(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}
