/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Postcopy messages ("Post-copy support"), in the order in which QEMU sends them.
 *
 * While the back-end listens, it answers a table or region message with the same message,
 * containing its own addresses. The front-end acknowledges that with a message of 8 bytes, which
 * has no reply: from then on page faults may occur, so the fault server must know the addresses
 * before. One acknowledgement ends a change of the memory, regardless of the number of regions.
 * None of these messages carries NEED_REPLY. LISTEN and END always carry it, and the front-end
 * waits for their replies.
 */
#include "fe_requests.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static int take_uffd(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    if (!answer->n_fds)
        return gw_frontend_fail(-EREMOTEIO, "POSTCOPY_ADVISE: the back-end has no userfaultfd");
    answer->n_fds = 0;
    *(int *)op->call.ret = answer->fds[0];
    return 0;
}

int gw_frontend_encode_advise(struct gw_frontend_op *op, int *ret_uffd)
{
    op->call = (struct gw_frontend_call){
        .request = GW_MSG_POSTCOPY_ADVISE,
        .needs = GW_FRONTEND_NEEDS(PAGEFAULT),
        .has_reply = true,
        .has_reply_fd = true,
        .finish = take_uffd,
        .ret = ret_uffd,
    };
    return GW_FRONTEND_STEP_SEND;
}

/* LISTEN and END have an answer regardless of REPLY_ACK, as in QEMU. */
static int take_answer(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    bool listen = op->call.request == GW_MSG_POSTCOPY_LISTEN;
    struct gw_frontend *fe = op->fe;
    uint64_t value;

    memcpy(&value, answer->payload, sizeof(value));
    if (value)
        return gw_frontend_fail(-EREMOTEIO, "%s: the back-end refused (0x%" PRIx64 ")",
                                gw_frontend_message_name(op->call.request), value);
    fe->is_listening = listen;
    if (listen) {
        fe->base_cb = op->base_cb;
        fe->base_arg = op->base_arg;
    }
    return 0;
}

static int encode_phase(struct gw_frontend_op *op, uint32_t request)
{
    op->call = (struct gw_frontend_call){
        .request = request,
        .needs = GW_FRONTEND_NEEDS(PAGEFAULT),
        .has_reply = true,
        .reply_size = sizeof(uint64_t),
        .ack = GW_FRONTEND_ACK_ALWAYS,
        .finish = take_answer,
    };
    return GW_FRONTEND_STEP_SEND;
}

/* A step, because the features may still change before it. */
static int listen_step(struct gw_frontend_op *op)
{
    /* No userfaultfd can serve the page faults of foreign or granted memory. */
    if (op->fe->protocol_features >> GW_PROTOCOL_F_XEN_MMAP & 1)
        return gw_frontend_fail(-EOPNOTSUPP, "POSTCOPY_LISTEN: not with XEN_MMAP (17)");
    return encode_phase(op, GW_MSG_POSTCOPY_LISTEN);
}

int gw_frontend_encode_listen(struct gw_frontend_op *op, gw_frontend_base_cb *cb, void *arg)
{
    static gw_frontend_step *const steps[] = {listen_step, NULL};

    op->steps = steps;
    op->base_cb = cb;
    op->base_arg = arg;
    return GW_FRONTEND_STEP_SEND;
}

int gw_frontend_encode_end(struct gw_frontend_op *op)
{
    return encode_phase(op, GW_MSG_POSTCOPY_END);
}

/* The back-end waits for an acknowledgement that will not be sent: the session has ended. */
static int unusable(struct gw_frontend_op *op, int r, const struct gw_wire_region *w)
{
    return gw_frontend_break(
        op->fe, r, "%s: address 0x%" PRIx64 " of the region at 0x%" PRIx64 " cannot be used",
        gw_frontend_message_name(op->call.request), w->user_addr, w->guest_addr);
}

/* The reply must be about the same region; QEMU checks only its guest address. */
static int take_base(struct gw_frontend_op *op, const struct gw_wire_region *sent,
                     const struct gw_wire_region *answer)
{
    struct gw_frontend *fe = op->fe;
    int r = 0;

    if (answer->guest_addr != sent->guest_addr || answer->size != sent->size)
        return gw_frontend_break(fe, -EPROTO, "%s: answered for another region, at 0x%" PRIx64,
                                 gw_frontend_message_name(op->call.request), answer->guest_addr);
    if (!answer->user_addr || answer->user_addr + answer->size < answer->user_addr)
        r = -EPROTO;
    else if (fe->base_cb)
        r = fe->base_cb(fe->base_arg, answer->guest_addr, answer->size, answer->user_addr);
    return r < 0 ? unusable(op, r == -EINVAL ? -EPROTO : r, answer) : 0;
}

/* Reject overlapping regions: each would be served with pages of the other. */
static int check_apart(struct gw_frontend_op *op, const struct gw_wire_region *regions, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < i; k++) {
            const struct gw_wire_region *a = &regions[i], *b = &regions[k];

            if (a->user_addr < b->user_addr + b->size && b->user_addr < a->user_addr + a->size)
                return unusable(op, -EPROTO, a);
        }
    }
    return 0;
}

static int take_table_bases(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    const struct gw_wire_mem_table *sent = &op->call.payload.table;
    struct gw_wire_mem_table got;
    int r;

    memcpy(&got, answer->payload, op->call.size);
    if (got.num_regions != sent->num_regions)
        return gw_frontend_break(
            op->fe, -EPROTO, "SET_MEM_TABLE: answered with %" PRIu32 " regions", got.num_regions);
    r = check_apart(op, got.regions, got.num_regions);
    for (unsigned i = 0; i < sent->num_regions && r == 0; i++)
        r = take_base(op, &sent->regions[i], &got.regions[i]);
    op->fe->has_mem = r == 0;
    return r;
}

static int take_region_base(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    struct gw_wire_single_region got;
    int r;

    memcpy(&got, answer->payload, sizeof(got));
    r = take_base(op, &op->call.payload.region.region, &got.region);
    op->fe->has_mem |= r == 0;
    return r;
}

void gw_frontend_expect_bases(struct gw_frontend_op *op)
{
    struct gw_frontend_call *call = &op->call;

    if (!op->fe->is_listening)
        return;
    call->has_reply = true;
    call->reply_size = call->size;
    call->may_refuse = true;
    call->ack = GW_FRONTEND_ACK_NEVER;
    call->finish = call->request == GW_MSG_SET_MEM_TABLE ? take_table_bases : take_region_base;
}

int gw_frontend_encode_acknowledge(struct gw_frontend_op *op, uint32_t request)
{
    if (!op->fe->is_listening)
        return GW_FRONTEND_STEP_DONE;
    gw_frontend_encode_u64(op, request, 0);
    op->call.ack = GW_FRONTEND_ACK_NEVER;
    return GW_FRONTEND_STEP_SEND;
}
