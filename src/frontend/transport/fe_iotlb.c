/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Translated addresses ("IOMMU support"): updates and invalidations, and what the back-end misses.
 */
#include "fe_requests.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static int take_status(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    const struct gw_wire_iotlb *sent = &op->call.payload.iotlb;
    uint64_t value;

    memcpy(&value, answer->payload, sizeof(value));
    if (value)
        return gw_frontend_fail(-EREMOTEIO,
                                "IOTLB_MSG: the back-end refused to %s 0x%" PRIx64
                                " bytes at 0x%" PRIx64 " (0x%" PRIx64 ")",
                                sent->type == GW_IOTLB_UPDATE ? "map" : "invalidate", sent->size,
                                sent->iova, value);
    return 0;
}

/* The answer does not depend on REPLY_ACK; QEMU sets NEED_REPLY all the same. */
static int encode(struct gw_frontend_op *op, const struct gw_wire_iotlb *wire)
{
    op->call = (struct gw_frontend_call){
        .request = GW_MSG_IOTLB_MSG,
        .needs = GW_FRONTEND_NEEDS(BACKEND_REQ),
        .needs_virtio = UINT64_C(1) << GW_F_ACCESS_PLATFORM,
        .has_reply = true,
        .reply_size = sizeof(uint64_t),
        .ack = GW_FRONTEND_ACK_ALWAYS,
        .finish = take_status,
        .payload.iotlb = *wire,
        .size = sizeof(*wire),
    };
    return GW_FRONTEND_STEP_SEND;
}

int gw_frontend_encode_iotlb_update(struct gw_frontend_op *op, const struct gw_frontend_iotlb *map)
{
    return encode(op, &(struct gw_wire_iotlb){
                          .iova = map->iova,
                          .size = map->length,
                          .user_addr = map->uva,
                          .access = (uint8_t)map->access,
                          .type = GW_IOTLB_UPDATE,
                      });
}

int gw_frontend_encode_iotlb_invalidate(struct gw_frontend_op *op, uint64_t iova, uint64_t length)
{
    return encode(
        op, &(struct gw_wire_iotlb){.iova = iova, .size = length, .type = GW_IOTLB_INVALIDATE});
}

int gw_frontend_read_iotlb(const struct gw_frontend_message *msg, struct gw_frontend_iotlb *ret)
{
    struct gw_wire_iotlb wire;

    if (msg->request != GW_BACKEND_MSG_IOTLB_MSG)
        return 0;
    if (msg->size != sizeof(wire) || msg->n_fds > 0)
        return gw_frontend_fail(-EPROTO, "back-end IOTLB_MSG of %u bytes, with %u fds", msg->size,
                                msg->n_fds);
    memcpy(&wire, msg->payload, sizeof(wire));
    if ((wire.type != GW_IOTLB_MISS && wire.type != GW_IOTLB_ACCESS_FAIL) || wire.access < 1 ||
        wire.access > 3)
        return gw_frontend_fail(-EPROTO, "back-end IOTLB_MSG of type %u for access %u", wire.type,
                                wire.access);
    *ret = (struct gw_frontend_iotlb){.iova = wire.iova, .access = wire.access};
    return wire.type;
}
