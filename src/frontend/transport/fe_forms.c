/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The two public functions of each request. Both encode the same operation; the first starts it,
 * the second also waits for its end. The headers describe the parameters.
 */
#include "fe_requests.h"

#include <errno.h>
#include <godwit/frontend/device.h>

/*
 * gw_frontend_NAME(fe, PARAMETERS...) and gw_frontend_NAME_async(fe, PARAMETERS..., done, arg): the
 * operation `op` as ENCODE stores it.
 */
#define REQUEST(name, encode, ...)                                        \
    int gw_frontend_##name##_async(struct gw_frontend *fe, ##__VA_ARGS__, \
                                   gw_frontend_done_cb *done, void *arg)  \
    {                                                                     \
        struct gw_frontend_op *op = gw_frontend_new_op(fe, done, arg);    \
                                                                          \
        if (!op)                                                          \
            return -ENOMEM;                                               \
        return gw_frontend_start_op(op, gw_frontend_encode_##encode);     \
    }                                                                     \
                                                                          \
    int gw_frontend_##name(struct gw_frontend *fe, ##__VA_ARGS__)         \
    {                                                                     \
        struct gw_frontend_op stack, *op = &stack;                        \
                                                                          \
        gw_frontend_init_op(op, fe);                                      \
        return gw_frontend_wait_op(op, gw_frontend_encode_##encode);      \
    }

REQUEST(connect, connect(op, path), const char *path)

REQUEST(get_features, get_features(op, ret), uint64_t *ret)
REQUEST(set_features, set_features(op, features), uint64_t features)
REQUEST(get_protocol_features, get_u64(op, GW_MSG_GET_PROTOCOL_FEATURES, 0, ret), uint64_t *ret)
REQUEST(set_protocol_features, set_protocol_features(op, features), uint64_t features)
REQUEST(set_owner, nothing(op, GW_MSG_SET_OWNER, 0))
REQUEST(reset_owner, nothing(op, GW_MSG_RESET_OWNER, 0))
REQUEST(reset_device, nothing(op, GW_MSG_RESET_DEVICE, GW_FRONTEND_NEEDS(RESET_DEVICE)))
REQUEST(get_queue_num, get_u64(op, GW_MSG_GET_QUEUE_NUM, GW_FRONTEND_NEEDS(MQ), ret), uint64_t *ret)
REQUEST(get_config, get_config(op, offset, buf, len), uint32_t offset, void *buf, uint32_t len)
REQUEST(set_config, set_config(op, offset, buf, len, migration), uint32_t offset, const void *buf,
        uint32_t len, bool migration)

REQUEST(set_status, set_status(op, status), uint8_t status)
REQUEST(get_status, get_status(op, ret), uint8_t *ret)
REQUEST(send_rarp, send_rarp(op, mac), const uint8_t *mac)
REQUEST(vring_kick, vring_kick(op, index), unsigned index)
REQUEST(net_set_mtu, net_set_mtu(op, mtu), uint16_t mtu)

REQUEST(set_mem_table, memory(op, GW_MSG_SET_MEM_TABLE, m, 0), const struct gw_guest_mem *m)
REQUEST(get_max_mem_slots,
        get_u64(op, GW_MSG_GET_MAX_MEM_SLOTS, GW_FRONTEND_NEEDS(CONFIGURE_MEM_SLOTS), ret),
        uint64_t *ret)
REQUEST(add_mem_reg, memory(op, GW_MSG_ADD_MEM_REG, m, gpa), const struct gw_guest_mem *m,
        gw_gpa_t gpa)
REQUEST(rem_mem_reg, memory(op, GW_MSG_REM_MEM_REG, m, gpa), const struct gw_guest_mem *m,
        gw_gpa_t gpa)

REQUEST(set_vring_num, vring_state(op, GW_MSG_SET_VRING_NUM, index, num), unsigned index,
        uint32_t num)
REQUEST(set_vring_addr, vring_addr(op, index, addr), unsigned index,
        const struct gw_frontend_vring_addr *addr)
REQUEST(set_vring_base, vring_state(op, GW_MSG_SET_VRING_BASE, index, base), unsigned index,
        uint32_t base)
REQUEST(get_vring_base, get_base(op, GW_MSG_GET_VRING_BASE, index, ret), unsigned index,
        uint32_t *ret)
REQUEST(get_vring_base_skip_drain, get_base(op, GW_MSG_GET_VRING_BASE_SKIP_DRAIN, index, ret),
        unsigned index, uint32_t *ret)
REQUEST(set_vring_kick, vring_fd(op, GW_MSG_SET_VRING_KICK, index, fd), unsigned index, int fd)
REQUEST(set_vring_call, vring_fd(op, GW_MSG_SET_VRING_CALL, index, fd), unsigned index, int fd)
REQUEST(set_vring_err, vring_fd(op, GW_MSG_SET_VRING_ERR, index, fd), unsigned index, int fd)
REQUEST(set_vring_enable, vring_enable(op, index, enable), unsigned index, bool enable)

REQUEST(get_inflight_fd, get_inflight(op, num_queues, queue_size, ret), unsigned num_queues,
        unsigned queue_size, struct gw_frontend_inflight *ret)
REQUEST(set_inflight_fd, set_inflight(op, inflight), const struct gw_frontend_inflight *inflight)
REQUEST(set_device_state_fd, state_fd(op, direction, fd, ret_fd),
        enum gw_frontend_state_direction direction, int fd, int *ret_fd)
REQUEST(check_device_state, check_state(op))
REQUEST(save_state, save_state(op, limit, ret_data, ret_len), uint64_t limit, void **ret_data,
        size_t *ret_len)
REQUEST(load_state, load_state(op, data, len), const void *data, size_t len)
REQUEST(set_backend_req_fd, backend_req_fd(op))

REQUEST(get_shmem_config, get_shmem_config(op, ret), uint64_t *ret)
REQUEST(get_shared_object, get_shared_object(op, uuid, ret), const uint8_t *uuid, int *ret)
REQUEST(iotlb_update, iotlb_update(op, map), const struct gw_frontend_iotlb *map)
REQUEST(iotlb_invalidate, iotlb_invalidate(op, iova, length), uint64_t iova, uint64_t length)

REQUEST(set_log_base, log_base(op, log), const struct gw_guest_log *log)
REQUEST(set_log_fd, log_fd(op, fd), int fd)
REQUEST(set_log_all, log_all(op, on), bool on)
REQUEST(set_vring_log, vring_log(op, d, on), const struct gw_driver *d, bool on)

REQUEST(postcopy_advise, advise(op, ret_uffd), int *ret_uffd)
REQUEST(postcopy_listen, listen(op, cb, cb_arg), gw_frontend_base_cb *cb, void *cb_arg)
REQUEST(postcopy_end, end(op))

REQUEST(negotiate, negotiate(op, opt), const struct gw_frontend_options *opt)
REQUEST(start, start(op, opt), const struct gw_frontend_options *opt)
REQUEST(stop, stop(op, drivers, n_drivers), struct gw_driver **drivers, unsigned n_drivers)
REQUEST(start_queue, start_one(op, d), struct gw_driver *d)
REQUEST(stop_queue, stop_queue(op, d), struct gw_driver *d)
