/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * From a received message to its handler and its one answer. The table in dispatch.c states the
 * checks that need no knowledge of the payload beyond the ring index and the number of regions.
 */
#pragma once

#include "core/daemon/daemon.h"

/* The answer of a handler. */
struct gw_reply {
    int fd; /* sent with the answer, then closed; -1: none */
    uint32_t size;
    _Alignas(8) uint8_t payload[sizeof(struct gw_wire_xen_mem_table)];
};

_Static_assert(sizeof(struct gw_wire_config) + GW_CONFIG_SIZE_MAX <=
                   sizeof(((struct gw_reply *)0)->payload),
               "room for any answer");

/*
 * Handle the message in the session's rx and answer it.
 * Returns: 0; a negative errno if the session must end.
 */
int gw_dispatch(struct gw_daemon *d);

static inline void gw_reply_u64(struct gw_reply *reply, uint64_t value)
{
    *(uint64_t *)(void *)reply->payload = value;
    reply->size = sizeof(value);
}

/* The only field of many payloads. */
static inline uint64_t gw_msg_u64(const struct gw_msg *msg)
{
    return *(const uint64_t *)(const void *)msg->payload;
}

/*
 * Handlers, by file. Size, fds, ring index and features are checked before a handler runs.
 * Returns: 0; a negative errno with gw_last_error, and then `reply` is not sent.
 */
typedef int gw_handler(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply);

/* ctl_queue.c: check that the fd of a message, if any, is an eventfd. Returns: 0; -EINVAL. */
int gw_ctl_check_eventfd(const struct gw_msg *msg);

/* ctl_session.c */
gw_handler gw_ctl_get_features, gw_ctl_set_features, gw_ctl_set_owner, gw_ctl_reset_owner,
    gw_ctl_get_protocol_features, gw_ctl_set_protocol_features, gw_ctl_get_queue_num,
    gw_ctl_set_backend_req_fd, gw_ctl_reset_device;
/* ctl_mem.c */
gw_handler gw_ctl_set_mem_table, gw_ctl_get_max_mem_slots, gw_ctl_add_mem_reg, gw_ctl_rem_mem_reg;
/* ctl_queue.c */
gw_handler gw_ctl_set_vring_num, gw_ctl_set_vring_addr, gw_ctl_set_vring_base,
    gw_ctl_get_vring_base, gw_ctl_get_vring_base_skip_drain, gw_ctl_set_vring_kick,
    gw_ctl_set_vring_call, gw_ctl_set_vring_err, gw_ctl_set_vring_enable;
/* ctl_migration.c */
gw_handler gw_ctl_set_log_base, gw_ctl_set_log_base_by_address, gw_ctl_set_log_fd;
/* ctl_postcopy.c */
gw_handler gw_ctl_postcopy_advise, gw_ctl_postcopy_listen, gw_ctl_postcopy_acknowledge,
    gw_ctl_postcopy_end;
/* ctl_inflight.c */
gw_handler gw_ctl_get_inflight_fd, gw_ctl_set_inflight_fd;
/* ctl_config.c */
gw_handler gw_ctl_get_config, gw_ctl_set_config;
