/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#pragma once

#include "frontend/transport/frontend_i.h"

/*
 * Serve a request of the back-end with the ops of the program. `*ret` is the number of the answer,
 * `*ret_fd` an fd that goes with it and that the caller closes, or -1.
 * Returns: false if the ops do not serve it.
 */
bool gw_frontend_serve_request(struct gw_frontend *fe, const struct gw_frontend_message *msg,
                               uint64_t *ret, int *ret_fd);

/* The protocol features of the requests that the ops serve. */
uint64_t gw_frontend_channel_features(const struct gw_frontend *fe);
