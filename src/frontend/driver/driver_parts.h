/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The parts of a ring: their sizes, and the addresses that a driver passes to the device, which are
 * guest addresses or I/O addresses.
 */
#pragma once

#include "driver_i.h"

/* Sizes of the three parts in bytes; the last one always includes the event fields. */
uint64_t gw_driver_desc_len(const struct gw_driver *d);
uint64_t gw_driver_avail_len(const struct gw_driver *d);
uint64_t gw_driver_used_len(const struct gw_driver *d);

/* The address that the device uses for a guest address. */
static inline uint64_t gw_driver_iova(const struct gw_driver *d, gw_gpa_t gpa, uint64_t len,
                                      bool writable)
{
    return d->iova ? d->iova(d->iova_arg, gpa, len, writable) : gpa;
}
