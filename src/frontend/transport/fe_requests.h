/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The encoders: one for each request. An encoder stores in `op` what the request sends and how its
 * answer is used. Returns: GW_FRONTEND_STEP_SEND, or DONE if there is nothing to send; a negative
 * errno with its reason. They are also the steps of longer operations.
 */
#pragma once

#include "fe_op.h"

/* The mask of one protocol feature, for struct gw_frontend_call.needs. */
#define GW_FRONTEND_NEEDS(name) (UINT64_C(1) << GW_PROTOCOL_F_##name)

/* frontend.c: no message, but the connection for those of the following operations. */
int gw_frontend_encode_connect(struct gw_frontend_op *op, const char *path);

/* Messages without payload, with a number, and with a number as the answer. */
int gw_frontend_encode_nothing(struct gw_frontend_op *op, uint32_t request, uint64_t needs);
int gw_frontend_encode_u64(struct gw_frontend_op *op, uint32_t request, uint64_t value);
int gw_frontend_encode_get_u64(struct gw_frontend_op *op, uint32_t request, uint64_t needs,
                               uint64_t *ret);

int gw_frontend_encode_get_features(struct gw_frontend_op *op, uint64_t *ret);
int gw_frontend_encode_set_features(struct gw_frontend_op *op, uint64_t features);
int gw_frontend_encode_set_protocol_features(struct gw_frontend_op *op, uint64_t features);
int gw_frontend_encode_get_config(struct gw_frontend_op *op, uint32_t offset, void *buf,
                                  uint32_t len);
int gw_frontend_encode_set_config(struct gw_frontend_op *op, uint32_t offset, const void *buf,
                                  uint32_t len, bool migration);

/* fe_vring.c */
int gw_frontend_encode_vring_state(struct gw_frontend_op *op, uint32_t request, unsigned index,
                                   uint32_t num);
int gw_frontend_encode_vring_kick(struct gw_frontend_op *op, unsigned index);
int gw_frontend_encode_vring_enable(struct gw_frontend_op *op, unsigned index, bool enable);
int gw_frontend_encode_vring_addr(struct gw_frontend_op *op, unsigned index,
                                  const struct gw_frontend_vring_addr *addr);
int gw_frontend_encode_vring_fd(struct gw_frontend_op *op, uint32_t request, unsigned index,
                                int fd);
int gw_frontend_encode_get_base(struct gw_frontend_op *op, uint32_t request, unsigned index,
                                uint32_t *ret);
/* Message `i` of the GW_FRONTEND_START_MESSAGES that start the queue of a driver. */
#define GW_FRONTEND_START_MESSAGES 5
int gw_frontend_encode_start_queue(struct gw_frontend_op *op, struct gw_driver *d, unsigned i);
/* GET_VRING_BASE, which sets the base of the driver. */
int gw_frontend_encode_stop_queue(struct gw_frontend_op *op, struct gw_driver *d);

/*
 * fe_memory.c: SET_MEM_TABLE; ADD_MEM_REG or REM_MEM_REG of the region at `gpa`; any of them with
 * the acknowledgement of postcopy.
 */
int gw_frontend_encode_table(struct gw_frontend_op *op, const struct gw_guest_mem *m);
int gw_frontend_encode_region(struct gw_frontend_op *op, uint32_t request,
                              const struct gw_guest_mem *m, gw_gpa_t gpa);
int gw_frontend_encode_memory(struct gw_frontend_op *op, uint32_t request,
                              const struct gw_guest_mem *m, gw_gpa_t gpa);

/*
 * fe_postcopy.c. While the back-end listens, gw_frontend_expect_bases changes an encoded
 * SET_MEM_TABLE or ADD_MEM_REG to its postcopy form, whose answer has the back-end's addresses. The
 * acknowledgement, after the last memory message `request`, allows page faults; otherwise DONE.
 */
void gw_frontend_expect_bases(struct gw_frontend_op *op);
int gw_frontend_encode_acknowledge(struct gw_frontend_op *op, uint32_t request);
int gw_frontend_encode_advise(struct gw_frontend_op *op, int *ret_uffd);
int gw_frontend_encode_listen(struct gw_frontend_op *op, gw_frontend_base_cb *cb, void *arg);
int gw_frontend_encode_end(struct gw_frontend_op *op);

/* fe_iotlb.c */
int gw_frontend_encode_iotlb_update(struct gw_frontend_op *op, const struct gw_frontend_iotlb *map);
int gw_frontend_encode_iotlb_invalidate(struct gw_frontend_op *op, uint64_t iova, uint64_t length);

/* device/fe_device.c; the steps do nothing without STATUS. */
int gw_frontend_encode_set_status(struct gw_frontend_op *op, uint8_t status);
int gw_frontend_encode_get_status(struct gw_frontend_op *op, uint8_t *ret);
int gw_frontend_encode_send_rarp(struct gw_frontend_op *op, const uint8_t *mac);
int gw_frontend_encode_net_set_mtu(struct gw_frontend_op *op, uint16_t mtu);
gw_frontend_step gw_frontend_step_features_ok, gw_frontend_step_driver_ok,
    gw_frontend_step_reset_status;

/* fe_inflight.c */
int gw_frontend_encode_get_inflight(struct gw_frontend_op *op, unsigned num_queues,
                                    unsigned queue_size, struct gw_frontend_inflight *ret);
int gw_frontend_encode_set_inflight(struct gw_frontend_op *op,
                                    const struct gw_frontend_inflight *inflight);

/* state/device_state.c */
int gw_frontend_encode_state_fd(struct gw_frontend_op *op,
                                enum gw_frontend_state_direction direction, int fd, int *ret_fd);
int gw_frontend_encode_check_state(struct gw_frontend_op *op);
int gw_frontend_encode_save_state(struct gw_frontend_op *op, uint64_t limit, void **ret_data,
                                  size_t *ret_len);
int gw_frontend_encode_load_state(struct gw_frontend_op *op, const void *data, size_t len);

/* fe_log.c */
int gw_frontend_encode_log_fd(struct gw_frontend_op *op, int fd);
int gw_frontend_encode_log_base(struct gw_frontend_op *op, const struct gw_guest_log *log);
int gw_frontend_encode_log_all(struct gw_frontend_op *op, bool on);
int gw_frontend_encode_vring_log(struct gw_frontend_op *op, const struct gw_driver *d, bool on);

/* fe_backend_req.c */
int gw_frontend_encode_backend_req_fd(struct gw_frontend_op *op);

/* channel/fe_channel.c */
int gw_frontend_encode_get_shmem_config(struct gw_frontend_op *op, uint64_t *ret);
int gw_frontend_encode_get_shared_object(struct gw_frontend_op *op, const uint8_t *uuid, int *ret);

/* fe_session.c: sequences. */
int gw_frontend_encode_negotiate(struct gw_frontend_op *op,
                                 const struct gw_frontend_options *given);
int gw_frontend_encode_start(struct gw_frontend_op *op, const struct gw_frontend_options *given);
int gw_frontend_encode_stop(struct gw_frontend_op *op, struct gw_driver **drivers,
                            unsigned n_drivers);
int gw_frontend_encode_start_one(struct gw_frontend_op *op, struct gw_driver *d);

/* The ring addresses of a driver, without flags. */
struct gw_frontend_vring_addr gw_frontend_vring_addr_of(const struct gw_driver *d);

/* Returns: 0; -EOPNOTSUPP if a feature that the encoded message needs was not negotiated. */
int gw_frontend_check_needs(const struct gw_frontend_op *op);

/* Bytes that are pending while no answer is due are an unsolicited message before `name`. */
int gw_frontend_check_silence(struct gw_frontend *fe, const char *name);
