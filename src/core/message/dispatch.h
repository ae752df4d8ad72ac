/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * From a received message to its handler and its one answer. The table in dispatch.c states the
 * checks that need no knowledge of the payload beyond the ring index and the number of regions.
 */
#pragma once

#include "core/daemon/daemon.h"
#include "operation.h"

/*
 * Handle the message in the session's rx.
 * Returns: the result for gw_dispatch_answer; GW_OP_PENDING if an operation continues.
 */
int gw_dispatch(struct gw_daemon *d);
/*
 * The message was handled with this result: put its answer, if any, into the session's tx.
 * Returns: 0; a negative errno if the session must end.
 */
int gw_dispatch_answer(struct gw_daemon *d, int r);

/* The name of the message being handled, for the log. */
const char *gw_dispatch_name(const struct gw_daemon *d);

/* The received message, which stays valid until it has been answered. */
static inline struct gw_msg *gw_session_msg(struct gw_daemon *d)
{
    return &d->session.rx.msg;
}

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
 * Handlers, by file. Size, fds, ring index and features are checked before a handler runs. `msg`
 * and `reply` belong to the session, and stay valid for the operations that a handler starts.
 * Returns: 0; a negative errno with gw_last_error, and then `reply` is not sent; GW_OP_PENDING.
 */
typedef int gw_handler(struct gw_daemon *d, struct gw_msg *msg, struct gw_reply *reply);

/* ctl_queue.c: check that the fd of a message, if any, is an eventfd. Returns: 0; -EINVAL. */
int gw_ctl_check_eventfd(const struct gw_msg *msg);
/* ctl_queue.c: operations of a queue, or of all (NULL). Return as gw_op_answer, gw_op_wait;
 * -ENOMEM. */
int gw_ctl_enable(struct gw_daemon *d, struct gw_queue *q, bool enable, gw_op_next *next);
int gw_ctl_stop(struct gw_daemon *d, struct gw_queue *q, enum gw_queue_stop how, gw_op_next *next);

/*
 * ctl_session.c: stop and disable all rings, as RESET_DEVICE does, then call `reset`, whose result
 * is that of the message. Returns: as a handler.
 */
int gw_ctl_reset_rings(struct gw_daemon *d, int (*reset)(struct gw_daemon *d));
/* ctl_status.c: may SET_FEATURES set these features now? Returns: 0; -EBUSY. */
int gw_ctl_check_features_ok(const struct gw_session *s, uint64_t features);

/* ctl_session.c */
gw_handler gw_ctl_get_features, gw_ctl_set_features, gw_ctl_set_owner, gw_ctl_reset_owner,
    gw_ctl_get_protocol_features, gw_ctl_set_protocol_features, gw_ctl_get_queue_num,
    gw_ctl_set_backend_req_fd, gw_ctl_reset_device;
/* ctl_mem.c */
gw_handler gw_ctl_set_mem_table, gw_ctl_get_max_mem_slots, gw_ctl_add_mem_reg, gw_ctl_rem_mem_reg;
/* ctl_queue.c */
/* For ctl_iotlb.c: start a ring whose memory is mapped now, if it waited for that. */
void gw_ctl_start_translated(struct gw_daemon *d, unsigned index);
gw_handler gw_ctl_set_vring_num, gw_ctl_set_vring_addr, gw_ctl_set_vring_base,
    gw_ctl_get_vring_base, gw_ctl_get_vring_base_skip_drain, gw_ctl_set_vring_kick,
    gw_ctl_set_vring_call, gw_ctl_set_vring_err, gw_ctl_set_vring_enable, gw_ctl_vring_kick;
/* ctl_dirty_log.c */
gw_handler gw_ctl_set_log_base, gw_ctl_set_log_base_by_address, gw_ctl_set_log_fd;
/* ctl_postcopy.c */
gw_handler gw_ctl_postcopy_advise, gw_ctl_postcopy_listen, gw_ctl_postcopy_acknowledge,
    gw_ctl_postcopy_end;
/* For postcopy_worker.c: continues POSTCOPY_LISTEN. Returns: as a handler. */
int gw_ctl_postcopy_moved(struct gw_daemon *d);
/* ctl_inflight.c */
gw_handler gw_ctl_get_inflight_fd, gw_ctl_set_inflight_fd;
/* ctl_shared.c */
gw_handler gw_ctl_get_shmem_config, gw_ctl_get_shared_object;
/* ctl_iotlb.c */
gw_handler gw_ctl_iotlb_msg;
/* ctl_config.c */
gw_handler gw_ctl_get_config, gw_ctl_set_config;
/* ctl_state.c */
gw_handler gw_ctl_set_device_state_fd, gw_ctl_check_device_state;
/* ctl_status.c */
gw_handler gw_ctl_set_status, gw_ctl_get_status;
/* ctl_device.c */
gw_handler gw_ctl_send_rarp, gw_ctl_net_set_mtu;
