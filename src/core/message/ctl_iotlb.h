/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Translated addresses, for other handlers and the session. Control worker only. */
#pragma once

#include "operation.h"

/* For the life of a daemon; gw_timer_free and gw_iotlb_misses_done release what it has. */
void gw_ctl_init_translation(struct gw_daemon *d);

/* SET_FEATURES: addresses may be translated from now on. Returns: 0; -EOPNOTSUPP; -ENOMEM. */
int gw_ctl_allow_translation(struct gw_daemon *d);
/* The session ends: no miss will be answered. */
void gw_ctl_end_translation(struct gw_daemon *d);

/*
 * Ask for the translations of a ring's memory. Returns: the number of those that are missing, as
 * far as they were counted; -EPERM without BACKEND_REQ; -EACCES if the ring may not be accessed.
 */
int gw_ctl_ask_for_ring(struct gw_daemon *d, const struct gw_ring_config *config);
/* A start that waits for translations will not come. No effect otherwise. */
void gw_ctl_cancel_start(struct gw_vring *vring);

/* There may be misses: see to it that those which are not answered are given up. */
void gw_ctl_watch_misses(struct gw_daemon *d);
/* Copy the next miss to be sent. Returns: whether there is one. */
bool gw_ctl_next_miss(struct gw_daemon *d, struct gw_iotlb_report *ret);
