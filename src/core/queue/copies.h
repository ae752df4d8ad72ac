/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Requests whose buffers are copies of guest memory, because its pages cannot stay mapped: grants
 * of a Xen domain. xen_none.c is the stub for builds without Xen. Everything here runs under the
 * lock of the queue.
 */
#pragma once

struct gw_queue;
struct gw_request;

/*
 * Fetch the buffers that were pinned as copies, for all requests in one call. Returns: how many
 * requests are good; these are moved to the front, and the others are answered as bad chains.
 */
unsigned gw_copies_fetch(struct gw_queue *q, struct gw_request **reqs, unsigned n_reqs);

/*
 * Store what the device wrote to the buffers of the batch in guest memory. Called before anything
 * is published, because a driver that sees a used element may revoke the pages at once. A request
 * whose data cannot be stored completely becomes a bad chain of length 0. If the driver revokes a
 * page during the store, the ring breaks, because the part already stored could look like a
 * complete answer.
 */
void gw_copies_store(struct gw_queue *q);
