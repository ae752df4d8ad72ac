/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Recording of the most recent messages, for the files that send and receive them. */
#pragma once

#include "frontend_i.h"

struct gw_wire_header;

/* Record a message; `payload` has h->size bytes. */
void gw_frontend_trace_message(struct gw_frontend *fe, enum gw_frontend_trace_kind kind,
                               const struct gw_wire_header *h, const void *payload, unsigned n_fds);
/* Record an event other than a message: connected, disconnected, hung up. */
void gw_frontend_trace_event(struct gw_frontend *fe, enum gw_frontend_trace_kind kind);
/*
 * The back-end hung up before message `before` could be sent (NULL: while idle). Ends the session
 * and names the messages that may have caused it. Returns: -ECONNRESET.
 */
int gw_frontend_fail_hung_up(struct gw_frontend *fe, const char *before);
