/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Memory messages: SET_MEM_TABLE, which replaces all regions, or ADD_MEM_REG and REM_MEM_REG for
 * single regions ("VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS"). Their postcopy forms are in
 * fe_postcopy.c.
 */
#include "fe_requests.h"

#include <errno.h>
#include <inttypes.h>

static struct gw_wire_region wire_region(const struct gw_guest_region *r)
{
    return (struct gw_wire_region){
        .guest_addr = r->gpa,
        .size = r->length,
        .user_addr = r->uva,
        .mmap_offset = r->offset,
    };
}

static struct gw_wire_xen_region wire_xen_region(const struct gw_guest_region *r)
{
    return (struct gw_wire_xen_region){
        .region = wire_region(r),
        .flags = r->xen,
        .domid = r->domid,
    };
}

/* With XEN_MMAP every region carries flags and a domain, also regions of ordinary memory. */
static bool has_xen(const struct gw_frontend *fe)
{
    return fe->protocol_features >> GW_PROTOCOL_F_XEN_MMAP & 1;
}

/* Without XEN_MMAP the back-end would map the device node as if it were memory. */
static int check_region(struct gw_frontend *fe, const struct gw_guest_region *r, uint32_t request)
{
    if ((fe->protocol_features >> GW_PROTOCOL_F_GPA_ADDRESSES & 1) && r->uva != r->gpa)
        return gw_frontend_fail(-EINVAL,
                                "%s: user addresses are not guest addresses, as GPA_ADDRESSES "
                                "demands; pass 0 to gw_guest_mem_new",
                                gw_frontend_message_name(request));
    if (r->xen == GW_GUEST_XEN_NONE || has_xen(fe))
        return 0;
    return gw_frontend_fail(-EOPNOTSUPP,
                            "%s: region 0x%" PRIx64 " is memory of domain %" PRIu32
                            ", and XEN_MMAP (17) was not negotiated",
                            gw_frontend_message_name(request), r->gpa, r->domid);
}

static int keep_has_mem(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    op->fe->has_mem = true;
    return 0;
}

int gw_frontend_encode_table(struct gw_frontend_op *op, const struct gw_guest_mem *m)
{
    size_t entry =
        has_xen(op->fe) ? sizeof(struct gw_wire_xen_region) : sizeof(struct gw_wire_region);
    struct gw_frontend_call *call = &op->call;
    unsigned n = gw_guest_mem_count(m);
    struct gw_guest_region region;
    int r = 0;

    if (n > GW_MSG_TABLE_REGIONS_MAX)
        return gw_frontend_fail(-E2BIG, "SET_MEM_TABLE: %u regions, limit %d", n,
                                GW_MSG_TABLE_REGIONS_MAX);
    *call = (struct gw_frontend_call){
        .request = GW_MSG_SET_MEM_TABLE,
        .size = (uint32_t)(offsetof(struct gw_wire_mem_table, regions) + n * entry),
        .payload.table.num_regions = n,
        .n_fds = n,
        .finish = keep_has_mem,
    };
    for (unsigned i = 0; r == 0 && i < n; i++) {
        gw_guest_mem_region(m, i, &region);
        r = check_region(op->fe, &region, call->request);
        if (has_xen(op->fe))
            call->payload.xen_table.regions[i] = wire_xen_region(&region);
        else
            call->payload.table.regions[i] = wire_region(&region);
        call->fds[i] = region.fd;
    }
    gw_frontend_expect_bases(op);
    return r < 0 ? r : GW_FRONTEND_STEP_SEND;
}

int gw_frontend_encode_region(struct gw_frontend_op *op, uint32_t request,
                              const struct gw_guest_mem *m, gw_gpa_t gpa)
{
    struct gw_frontend_call *call = &op->call;
    struct gw_guest_region region;
    unsigned i = 0;
    int r;

    *call = (struct gw_frontend_call){
        .request = request,
        .size = has_xen(op->fe) ? sizeof(call->payload.xen_region) : sizeof(call->payload.region),
        .needs = GW_FRONTEND_NEEDS(CONFIGURE_MEM_SLOTS),
    };
    r = gw_frontend_check_needs(op);
    if (r < 0)
        return r;
    do {
        r = gw_guest_mem_region(m, i++, &region);
    } while (r == 0 && region.gpa != gpa);
    if (r < 0)
        return gw_frontend_fail(r, "%s: no region begins at 0x%" PRIx64,
                                gw_frontend_message_name(request), gpa);
    if (has_xen(op->fe))
        call->payload.xen_region.region = wire_xen_region(&region);
    else
        call->payload.region.region = wire_region(&region);
    if (request == GW_MSG_ADD_MEM_REG) {
        /* REM_MEM_REG has no fd: rust-vmm rejects it with one. */
        call->fds[0] = region.fd;
        call->n_fds = 1;
        call->finish = keep_has_mem;
        gw_frontend_expect_bases(op);
    }
    r = check_region(op->fe, &region, request);
    return r < 0 ? r : GW_FRONTEND_STEP_SEND;
}

static int memory_step(struct gw_frontend_op *op)
{
    return op->call.request == GW_MSG_SET_MEM_TABLE
               ? gw_frontend_encode_table(op, op->mem)
               : gw_frontend_encode_region(op, op->call.request, op->mem, op->gpa);
}

static int acknowledge_step(struct gw_frontend_op *op)
{
    return gw_frontend_encode_acknowledge(op, op->call.request);
}

int gw_frontend_encode_memory(struct gw_frontend_op *op, uint32_t request,
                              const struct gw_guest_mem *m, gw_gpa_t gpa)
{
    static gw_frontend_step *const steps[] = {memory_step, acknowledge_step, NULL};

    op->call.request = request;
    op->mem = m;
    op->gpa = gpa;
    op->steps = steps;
    return GW_FRONTEND_STEP_SEND;
}
