/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Translates between event channels and eventfds, for back-ends that only support eventfds: an
 * event of the domain is written to a queue's kick fd, and a write to its call fd becomes an event.
 */
#pragma once

#include <stdint.h>

struct xen_bridge;

/* Make one for a domain, without queues. Free with xen_bridge_free. Returns: 0; negative errno. */
int xen_bridge_new(struct xen_bridge **ret, uint32_t domid);
void xen_bridge_free(struct xen_bridge *b);
/*
 * Translate for the domain's `port`. The caller keeps the fds, which must outlive the bridge.
 * Returns: 0; -ENOSPC; the errno of the binding.
 */
int xen_bridge_add(struct xen_bridge *b, uint32_t port, int kick_fd, int call_fd);
