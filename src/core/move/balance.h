/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The balancer: moves queues from busy workers to others. Context: the control worker. */
#pragma once

struct gw_balance;
struct gw_daemon;

/* Returns: 0; -ENOMEM. Context: any thread, before the daemon starts. */
int gw_balance_new(struct gw_balance **ret, struct gw_daemon *d, unsigned period_ms);
/* Accepts NULL. Context: any thread, after the daemon has ended. */
void gw_balance_free(struct gw_balance *b);

/* While the daemon runs. Both accept NULL. */
void gw_balance_start(struct gw_balance *b);
void gw_balance_stop(struct gw_balance *b);
