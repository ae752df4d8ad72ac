/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Reads of random blocks that are made ready once and sent again and again: a load that costs the
 * front-end less than the back-end, so that it is the back-end that is measured.
 */
#pragma once

#include "ring_bed.h"

#include <sys/types.h>

struct ring_pump;

/* Requests for the ring of a bed that is started, as many as its depth. 0; a negative errno. */
int ring_pump_new(struct ring_pump **ret, struct ring_bed *b, const struct ring_bed_config *cfg);
/*
 * Keep all of them in flight for `ms`. `ret_requests` were answered within `ret_ns`; they may be
 * NULL. Returns: 0; -ETIMEDOUT; -EPROTO when the ring is broken, -EIO when a read was not answered
 * in full.
 */
int ring_pump_run(struct ring_pump *p, unsigned ms, uint64_t *ret_requests, uint64_t *ret_ns);
/* Wait for those in flight, and free it. NULL is fine. Returns: as above. */
int ring_pump_finish(struct ring_pump *p);

/* What a turn came to. */
struct ring_pump_turn {
    double rate; /* requests per second */
    double cpu;  /* nanoseconds of the back-end per request */
};

/*
 * One turn of a comparison: connect to the back-end at `path`, which is process `pid`, warm up, and
 * measure for `ms`. Returns: 0; a negative errno, and what went wrong is said, as of `name`.
 */
int ring_pump_turn(const char *name, const char *path, pid_t pid, const struct ring_bed_config *cfg,
                   unsigned ms, struct ring_pump_turn *ret);
