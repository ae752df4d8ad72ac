/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A domU's disk on a back-end in dom0, as the checks use it: one session, one queue, one load. */
#pragma once

#include "../../../tools/xen-agent/xen_guest.h"

#include "load/load.h"

#define FIXTURE_MEMORY (1u << 20)
#define FIXTURE_SPARE  64u /* pages */
#define FIXTURE_DEPTH  16u
#define FIXTURE_STALL  60000u /* ms: an emulated machine may be slow */

struct fixture {
    uint32_t domid;
    enum xen_form form;
    const char *socket;
    uint64_t memory; /* bytes in regions besides the spare ones; 0: FIXTURE_MEMORY */
    int64_t taken;   /* bytes of dom0's memory that are gone since the back-end has them mapped */
    struct xen_guest *guest;
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_frontend *fe;
    uint64_t n_sectors;
    gw_gpa_t spare; /* a region where nothing is, half of the spare pages */
};

/* Everything up to a load that may run; ends the program where that does not work. */
void fixture_open(struct fixture *b);
void fixture_close(struct fixture *b);
/* The same, but nothing is said to the back-end any more: the domain may be gone. */
void fixture_drop(struct fixture *b);

/* Run the agent's load for so many requests, drain it, and take its state back. */
void fixture_exchange(struct fixture *b, uint64_t n_requests);
/* Let it run until fixture_rest. */
void fixture_begin(struct fixture *b);
void fixture_rest(struct fixture *b);

/*
 * One write of what is at `gpa`, or one read into it, by the driver here, while the agent rests.
 * Returns: its status byte, 0xff when the device has not written it. Ends the program when it is
 * not answered.
 */
uint8_t fixture_write_from(struct fixture *b, gw_gpa_t gpa);
uint8_t fixture_read_into(struct fixture *b, gw_gpa_t gpa);

/* A line for each thing looked at; the program goes on, and ends with failure. */
void check(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));
void must(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));
unsigned check_failures(void);
