/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A transfer of the device state, which an operation of the front-end has. */
#pragma once

struct gw_frontend;
struct gw_frontend_op;

/* Release what the operation has for a transfer; no effect on another operation. */
void gw_frontend_release_state(struct gw_frontend_op *op);
