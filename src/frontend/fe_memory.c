/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Guest memory on the wire: the table form (SET_MEM_TABLE replaces everything) and the slots form
 * (ADD_MEM_REG and REM_MEM_REG, one region each, "VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS").
 */
#include "../core/proto.h"
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

int gw_frontend_set_mem_table(struct gw_frontend *fe, const struct gw_guest_mem *m)
{
    struct gw_wire_mem_table table = {.num_regions = gw_guest_mem_count(m)};
    int fds[GW_MSG_TABLE_REGIONS_MAX];
    struct gw_guest_region region;
    struct gw_frontend_call call = {
        .request = GW_MSG_SET_MEM_TABLE,
        .payload = &table,
        .fds = fds,
        .n_fds = table.num_regions,
    };
    int r;

    if (table.num_regions > GW_MSG_TABLE_REGIONS_MAX)
        return gw_frontend_fail(fe, -E2BIG, "SET_MEM_TABLE: %" PRIu32 " regions, %d fit",
                                table.num_regions, GW_MSG_TABLE_REGIONS_MAX);
    for (unsigned i = 0; i < table.num_regions; i++) {
        gw_guest_mem_region(m, i, &region);
        table.regions[i] = wire_region(&region);
        fds[i] = region.fd;
    }
    call.size = (uint32_t)(sizeof(table) - sizeof(table.regions) +
                           table.num_regions * sizeof(*table.regions));
    r = gw_frontend_transact(fe, &call);
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

/* `with_fd`: REM_MEM_REG carries none; rust-vmm refuses it with one. */
static int one_region(struct gw_frontend *fe, uint32_t request, const struct gw_guest_mem *m,
                      gw_gpa_t gpa, bool with_fd)
{
    struct gw_wire_single_region single = {0};
    struct gw_guest_region region;
    struct gw_frontend_call call = {
        .request = request,
        .payload = &single,
        .size = sizeof(single),
        .fds = &region.fd,
        .n_fds = with_fd ? 1 : 0,
    };
    unsigned i = 0;
    int r = gw_frontend_gate(fe, GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS, request);

    if (r < 0)
        return r;
    do {
        r = gw_guest_mem_region(m, i++, &region);
    } while (r == 0 && region.gpa != gpa);
    if (r < 0)
        return gw_frontend_fail(fe, r, "%s: no region begins at 0x%" PRIx64,
                                gw_frontend_message_name(request), gpa);
    single.region = wire_region(&region);
    return gw_frontend_transact(fe, &call);
}

int gw_frontend_add_mem_reg(struct gw_frontend *fe, const struct gw_guest_mem *m, gw_gpa_t gpa)
{
    int r = one_region(fe, GW_MSG_ADD_MEM_REG, m, gpa, true);

    if (r == 0)
        fe->has_mem = true;
    return r;
}

int gw_frontend_rem_mem_reg(struct gw_frontend *fe, const struct gw_guest_mem *m, gw_gpa_t gpa)
{
    return one_region(fe, GW_MSG_REM_MEM_REG, m, gpa, false);
}
