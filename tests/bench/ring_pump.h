/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Reads of random blocks, prepared once and submitted repeatedly: this load costs the front-end
 * less than the back-end, so that the back-end is the bottleneck.
 */
#pragma once

#include "ring_fixture.h"

#include <sys/types.h>

struct ring_pump;

/* Prepare as many requests as the depth, on a started fixture. Returns: 0 or a negative errno. */
int ring_pump_new(struct ring_pump **ret, struct ring_fixture *b,
                  const struct ring_fixture_config *cfg);
/*
 * Keep all requests in flight for `ms`. `ret_requests` of them completed within `ret_ns`; both may
 * be NULL. Returns: 0; -ETIMEDOUT; -EPROTO if the ring is broken; -EIO if a read was short.
 */
int ring_pump_run(struct ring_pump *p, unsigned ms, uint64_t *ret_requests, uint64_t *ret_ns);
/* Wait for requests in flight, and free the pump. NULL is allowed. Returns: as ring_pump_run. */
int ring_pump_finish(struct ring_pump *p);

/* Results of a turn. */
struct ring_pump_turn {
    double rate; /* requests per second */
    double cpu;  /* back-end CPU nanoseconds per request */
};

/*
 * One turn of a comparison: connect to the back-end at `path`, which is process `pid`, warm up, and
 * measure for `ms`. Returns: 0; or a negative errno, after printing the error with `name`.
 */
int ring_pump_turn(const char *name, const char *path, pid_t pid,
                   const struct ring_fixture_config *cfg, unsigned ms, struct ring_pump_turn *ret);
