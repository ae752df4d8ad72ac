/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The record of the last messages, for those who send and receive them. */
#pragma once

#include "frontend_i.h"

struct gw_wire_header;

/* A message; what it carries is taken from `payload`, h->size bytes. */
void gw_frontend_trace_message(struct gw_frontend *fe, enum gw_frontend_trace_kind kind,
                               const struct gw_wire_header *h, const void *payload, unsigned n_fds);
/* What is no message: connected, disconnected, hung up. */
void gw_frontend_trace_event(struct gw_frontend *fe, enum gw_frontend_trace_kind kind);
/*
 * The back-end hung up, before message `before` could be sent (NULL: while nothing was to be sent).
 * Ends the session, with a sentence on what it may have hung up about. Returns: -ECONNRESET.
 */
int gw_frontend_fail_hung_up(struct gw_frontend *fe, const char *before);
