/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A fixture: a domU's disk on a back-end in dom0, with one session, one queue, one load. */
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
    uint64_t memory; /* without the spare region; 0: FIXTURE_MEMORY */
    int64_t taken;   /* memory that dom0 lost when the back-end mapped the domain's */
    struct xen_guest *guest;
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_frontend *fe;
    uint64_t n_sectors;
    gw_gpa_t spare; /* an unused region of half the spare pages */
};

/* Start everything; the load can run. A failure ends the program. */
void fixture_open(struct fixture *b);
void fixture_close(struct fixture *b);
/* The same without messages to the back-end, because the domain may have ended. */
void fixture_drop(struct fixture *b);

/* Run the agent's load for `n_requests`, drain it, and fetch its state. */
void fixture_exchange(struct fixture *b, uint64_t n_requests);
/* Start the agent's load; stop it in fixture_rest. */
void fixture_begin(struct fixture *b);
void fixture_rest(struct fixture *b);

/*
 * Write from, or read into, `gpa` with the driver in dom0 while the agent rests. Returns: the
 * status byte; 0xff if the device did not write it. Ends the program if the request does not
 * complete.
 */
uint8_t fixture_write_from(struct fixture *b, gw_gpa_t gpa);
uint8_t fixture_read_into(struct fixture *b, gw_gpa_t gpa);

/*
 * Print the result of a check; after a failure the program continues, and exits with 1 at the end.
 */
void check(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));
void must(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));
unsigned check_failures(void);
