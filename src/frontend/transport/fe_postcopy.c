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
#include "base/proto.h"
#include "fe_requests.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

int gw_frontend_postcopy_advise(struct gw_frontend *fe, int *ret_uffd)
{
    char nothing;
    int uffd = -1;
    struct gw_frontend_call call = {
        .request = GW_MSG_POSTCOPY_ADVISE,
        .reply = &nothing,
        .reply_size = 0,
        .reply_fd = &uffd,
    };
    int r = gw_frontend_gate(fe, GW_PROTOCOL_F_PAGEFAULT, call.request);

    if (r == 0)
        r = gw_frontend_transact(fe, &call);
    if (r < 0)
        return r;
    if (uffd < 0)
        return gw_frontend_fail(-EREMOTEIO, "POSTCOPY_ADVISE: the back-end has no userfaultfd");
    *ret_uffd = uffd;
    return 0;
}

/* Send LISTEN or END; like QEMU, wait for the reply regardless of REPLY_ACK. */
static int tell_and_wait(struct gw_frontend *fe, uint32_t request)
{
    uint64_t value;
    struct gw_frontend_call call = {
        .request = request,
        .reply = &value,
        .reply_size = sizeof(value),
        .ack = GW_FRONTEND_ACK_ALWAYS,
    };
    int r = gw_frontend_gate(fe, GW_PROTOCOL_F_PAGEFAULT, request);

    if (r == 0)
        r = gw_frontend_transact(fe, &call);
    if (r == 0 && value)
        r = gw_frontend_fail(-EREMOTEIO, "%s: the back-end refused (0x%" PRIx64 ")",
                             gw_frontend_message_name(request), value);
    return r;
}

int gw_frontend_postcopy_listen(struct gw_frontend *fe, gw_frontend_base_cb *cb, void *arg)
{
    int r;

    /* No userfaultfd can serve the page faults of foreign or granted memory. */
    if (fe->protocol_features >> GW_PROTOCOL_F_XEN_MMAP & 1)
        return gw_frontend_fail(-EOPNOTSUPP, "POSTCOPY_LISTEN: not with XEN_MMAP (17)");
    r = tell_and_wait(fe, GW_MSG_POSTCOPY_LISTEN);
    if (r < 0)
        return r;
    fe->is_listening = true;
    fe->base_cb = cb;
    fe->base_arg = arg;
    return 0;
}

int gw_frontend_postcopy_end(struct gw_frontend *fe)
{
    int r = tell_and_wait(fe, GW_MSG_POSTCOPY_END);

    if (r == 0)
        fe->is_listening = false;
    return r;
}

/* The back-end waits for an acknowledgement that will not be sent: the session has ended. */
static int unusable(struct gw_frontend *fe, int r, uint32_t request, const struct gw_wire_region *w)
{
    return gw_frontend_break(
        fe, r, "%s: address 0x%" PRIx64 " of the region at 0x%" PRIx64 " cannot be used",
        gw_frontend_message_name(request), w->user_addr, w->guest_addr);
}

/* The reply must be about the same region; QEMU checks only its guest address. */
static int take_base(struct gw_frontend *fe, uint32_t request, const struct gw_wire_region *told,
                     const struct gw_wire_region *answer)
{
    int r = 0;

    if (answer->guest_addr != told->guest_addr || answer->size != told->size)
        return gw_frontend_break(fe, -EPROTO, "%s: answered for another region, at 0x%" PRIx64,
                                 gw_frontend_message_name(request), answer->guest_addr);
    if (!answer->user_addr || answer->user_addr + answer->size < answer->user_addr)
        r = -EPROTO;
    else if (fe->base_cb)
        r = fe->base_cb(fe->base_arg, answer->guest_addr, answer->size, answer->user_addr);
    return r < 0 ? unusable(fe, r == -EINVAL ? -EPROTO : r, request, answer) : 0;
}

/* Reject overlapping regions: each would be served with pages of the other. */
static int check_apart(struct gw_frontend *fe, const struct gw_wire_region *regions, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < i; k++) {
            const struct gw_wire_region *a = &regions[i], *b = &regions[k];

            if (a->user_addr < b->user_addr + b->size && b->user_addr < a->user_addr + a->size)
                return unusable(fe, -EPROTO, GW_MSG_SET_MEM_TABLE, a);
        }
    }
    return 0;
}

int gw_frontend_tell_table(struct gw_frontend *fe, struct gw_frontend_call *call)
{
    const struct gw_wire_mem_table *table = call->payload;
    struct gw_wire_mem_table answer;
    int r;

    call->reply = &answer;
    call->reply_size = call->size;
    call->may_refuse = true;
    call->ack = GW_FRONTEND_ACK_NEVER;
    r = gw_frontend_transact(fe, call);
    if (r < 0)
        return r;
    if (answer.num_regions != table->num_regions)
        return gw_frontend_break(fe, -EPROTO, "SET_MEM_TABLE: answered with %" PRIu32 " regions",
                                 answer.num_regions);
    r = check_apart(fe, answer.regions, answer.num_regions);
    for (unsigned i = 0; i < table->num_regions && r == 0; i++)
        r = take_base(fe, call->request, &table->regions[i], &answer.regions[i]);
    return r;
}

int gw_frontend_tell_region(struct gw_frontend *fe, struct gw_frontend_call *call)
{
    const struct gw_wire_single_region *single = call->payload;
    struct gw_wire_single_region answer;
    int r;

    call->reply = &answer;
    call->reply_size = sizeof(answer);
    call->may_refuse = true;
    call->ack = GW_FRONTEND_ACK_NEVER;
    r = gw_frontend_transact(fe, call);
    return r < 0 ? r : take_base(fe, call->request, &single->region, &answer.region);
}

int gw_frontend_acknowledge(struct gw_frontend *fe, uint32_t request)
{
    static const uint64_t fine = 0;
    struct gw_frontend_call call = {
        .request = request,
        .payload = &fine,
        .size = sizeof(fine),
        .ack = GW_FRONTEND_ACK_NEVER,
    };

    return fe->is_listening ? gw_frontend_transact(fe, &call) : 0;
}
