/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A domU's disk on a back-end in dom0, as the checks use it: one session, one queue, one load. */
#pragma once

#include "../../../tools/xen-agent/xen_guest.h"

#include "load/load.h"

#define BED_MEMORY (1u << 20)
#define BED_SPARE  64u /* pages */
#define BED_DEPTH  16u
#define BED_STALL  60000u /* ms: an emulated machine may be slow */

struct bed {
    uint32_t domid;
    enum xen_form form;
    const char *socket;
    uint64_t memory; /* bytes in regions besides the spare ones; 0: BED_MEMORY */
    int64_t taken;   /* bytes of dom0's memory that are gone since the back-end has them mapped */
    struct xen_guest *guest;
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_frontend *fe;
    uint64_t n_sectors;
    gw_gpa_t spare; /* a region where nothing is, half of the spare pages */
};

/* Everything up to a load that may run; ends the program where that does not work. */
void bed_open(struct bed *b);
void bed_close(struct bed *b);
/* The same, but nothing is said to the back-end any more: the domain may be gone. */
void bed_drop(struct bed *b);

/* Run the agent's load for so many requests, drain it, and take its state back. */
void bed_exchange(struct bed *b, uint64_t n_requests);
/* Let it run until bed_rest. */
void bed_begin(struct bed *b);
void bed_rest(struct bed *b);

/*
 * One write of what is at `gpa`, or one read into it, by the driver here, while the agent rests.
 * Returns: its status byte, 0xff when the device has not written it. Ends the program when it is
 * not answered.
 */
uint8_t bed_write_from(struct bed *b, gw_gpa_t gpa);
uint8_t bed_read_into(struct bed *b, gw_gpa_t gpa);

/* A line for each thing looked at; the program goes on, and ends with failure. */
void check(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));
void must(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));
unsigned check_failures(void);
