/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Reads of random blocks that are made ready once and sent again and again: a load that costs the
 * front-end less than the back-end, so that it is the back-end that is measured.
 */
#pragma once

#include "ring_bed.h"

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
