/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Memory messages: SET_MEM_TABLE, which replaces all regions, or ADD_MEM_REG and REM_MEM_REG for
 * single regions ("VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS"). Their postcopy forms are in
 * fe_postcopy.c.
 */
#include "base/proto.h"
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
static int check_xen(struct gw_frontend *fe, const struct gw_guest_region *r, uint32_t request)
{
    if (r->xen == GW_GUEST_XEN_NONE || has_xen(fe))
        return 0;
    return gw_frontend_fail(-EOPNOTSUPP,
                            "%s: region 0x%" PRIx64 " is memory of domain %" PRIu32
                            ", and XEN_MMAP (17) was not negotiated",
                            gw_frontend_message_name(request), r->gpa, r->domid);
}

union table {
    struct gw_wire_mem_table plain;
    struct gw_wire_xen_mem_table xen;
};

/* Fill the table in the negotiated form. `fds` has room for one fd of each region. */
static int fill_table(struct gw_frontend *fe, const struct gw_guest_mem *m, union table *t,
                      int *fds)
{
    struct gw_guest_region region;
    int r = 0;

    t->plain.num_regions = gw_guest_mem_count(m);
    for (unsigned i = 0; r == 0 && i < t->plain.num_regions; i++) {
        gw_guest_mem_region(m, i, &region);
        r = check_xen(fe, &region, GW_MSG_SET_MEM_TABLE);
        if (has_xen(fe))
            t->xen.regions[i] = wire_xen_region(&region);
        else
            t->plain.regions[i] = wire_region(&region);
        fds[i] = region.fd;
    }
    return r;
}

int gw_frontend_set_mem_table(struct gw_frontend *fe, const struct gw_guest_mem *m)
{
    size_t entry = has_xen(fe) ? sizeof(struct gw_wire_xen_region) : sizeof(struct gw_wire_region);
    int fds[GW_MSG_TABLE_REGIONS_MAX];
    unsigned n = gw_guest_mem_count(m);
    union table table = {0};
    struct gw_frontend_call call = {
        .request = GW_MSG_SET_MEM_TABLE,
        .payload = &table,
        .size = (uint32_t)(offsetof(struct gw_wire_mem_table, regions) + n * entry),
        .fds = fds,
        .n_fds = n,
    };
    int r;

    if (n > GW_MSG_TABLE_REGIONS_MAX)
        return gw_frontend_fail(-E2BIG, "SET_MEM_TABLE: %u regions, limit %d", n,
                                GW_MSG_TABLE_REGIONS_MAX);
    r = fill_table(fe, m, &table, fds);
    if (r == 0)
        r = fe->is_listening ? gw_frontend_tell_table(fe, &call) : gw_frontend_transact(fe, &call);
    if (r == 0)
        r = gw_frontend_acknowledge(fe, call.request);
    if (r == 0)
        fe->has_mem = true;
    return r;
}

int gw_frontend_get_max_mem_slots(struct gw_frontend *fe, uint64_t *ret)
{
    uint64_t value;
    struct gw_frontend_call call = {
        .request = GW_MSG_GET_MAX_MEM_SLOTS, .reply = &value, .reply_size = sizeof(value)};
    int r = gw_frontend_gate(fe, GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS, call.request);

    if (r == 0)
        r = gw_frontend_transact(fe, &call);
    if (r == 0)
        *ret = value;
    return r;
}

/* One region of ADD_MEM_REG or REM_MEM_REG; the call points into this struct. */
struct single {
    union {
        struct gw_wire_single_region plain;
        struct gw_wire_xen_single_region xen;
    } wire;
    struct gw_guest_region region;
};

static int fill_single(struct gw_frontend *fe, struct gw_frontend_call *call, struct single *single,
                       const struct gw_guest_mem *m, gw_gpa_t gpa)
{
    struct gw_guest_region *region = &single->region;
    unsigned i = 0;
    int r = gw_frontend_gate(fe, GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS, call->request);

    if (r < 0)
        return r;
    do {
        r = gw_guest_mem_region(m, i++, region);
    } while (r == 0 && region->gpa != gpa);
    if (r < 0)
        return gw_frontend_fail(r, "%s: no region begins at 0x%" PRIx64,
                                gw_frontend_message_name(call->request), gpa);
    if (has_xen(fe))
        single->wire.xen.region = wire_xen_region(region);
    else
        single->wire.plain.region = wire_region(region);
    call->payload = &single->wire;
    call->size = has_xen(fe) ? sizeof(single->wire.xen) : sizeof(single->wire.plain);
    return check_xen(fe, region, call->request);
}

int gw_frontend_add_region(struct gw_frontend *fe, const struct gw_guest_mem *m, gw_gpa_t gpa)
{
    struct single single = {0};
    struct gw_frontend_call call = {
        .request = GW_MSG_ADD_MEM_REG, .fds = &single.region.fd, .n_fds = 1};
    int r = fill_single(fe, &call, &single, m, gpa);

    if (r == 0)
        r = fe->is_listening ? gw_frontend_tell_region(fe, &call) : gw_frontend_transact(fe, &call);
    if (r == 0)
        fe->has_mem = true;
    return r;
}

int gw_frontend_add_mem_reg(struct gw_frontend *fe, const struct gw_guest_mem *m, gw_gpa_t gpa)
{
    int r = gw_frontend_add_region(fe, m, gpa);

    return r < 0 ? r : gw_frontend_acknowledge(fe, GW_MSG_ADD_MEM_REG);
}

/* Sends no fd: rust-vmm rejects REM_MEM_REG with an fd. */
int gw_frontend_rem_mem_reg(struct gw_frontend *fe, const struct gw_guest_mem *m, gw_gpa_t gpa)
{
    struct gw_frontend_call call = {.request = GW_MSG_REM_MEM_REG};
    struct single single = {0};
    int r = fill_single(fe, &call, &single, m, gpa);

    if (r == 0)
        r = gw_frontend_transact(fe, &call);
    return r < 0 ? r : gw_frontend_acknowledge(fe, GW_MSG_REM_MEM_REG);
}
