/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Several loads at the same time on one thread, each on a device and in a guest memory of its own.
 * The thread polls all rings, so the loads must not have `sleep`.
 */
#ifndef GODWIT_LOAD_MANY_H
#define GODWIT_LOAD_MANY_H

#include "load.h"

/*
 * As gw_guest_load_run for a time, and gw_guest_load_drain, by turns. The turn of a load submits
 * and takes what it can. Returns: as they do, and the index of the load that failed in *ret_failed.
 */
int gw_guest_loads_run(struct gw_guest_load **loads, unsigned n, unsigned duration_ms,
                       unsigned stall_ms, unsigned *ret_failed);
int gw_guest_loads_drain(struct gw_guest_load **loads, unsigned n, unsigned stall_ms,
                         unsigned *ret_failed);

/* Sums and percentiles over all requests of all loads; `run_ns` and maxima are the greatest. */
void gw_guest_loads_stats(struct gw_guest_load **loads, unsigned n,
                          struct gw_guest_load_stats *ret);

#endif
