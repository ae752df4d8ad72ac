/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Moves the state of the devices (DEVICE_STATE) from the stopped source to the destination, before
 * the destination starts. Back-ends that do not offer it have none.
 */
#include "migrate/migrate_i.h"

#include "base/proto.h"

#include <errno.h>
#include <godwit/frontend/state.h>
#include <stdlib.h>

#define BIT(n) (UINT64_C(1) << (n))

static bool has_state(const struct migration_unit *u, unsigned which)
{
    return gw_frontend_protocol_features(u->fe[which]) & BIT(GW_PROTOCOL_F_DEVICE_STATE);
}

void migration_forget_devices(struct migration *m)
{
    for (unsigned i = 0; i < m->n_units; i++) {
        free(m->units[i].state);
        m->units[i].state = NULL;
        m->units[i].state_len = 0;
        m->units[i].has_state = false;
    }
}

int migration_save_devices(struct migration *m)
{
    migration_forget_devices(m);
    for (unsigned i = 0; i < m->n_units; i++) {
        struct migration_unit *u = &m->units[i];
        int r;

        if (!has_state(u, m->src))
            continue;
        m->talking = u;
        r = gw_frontend_save_state(u->fe[m->src], MIGRATION_DEVICE_STATE_MAX, &u->state,
                                   &u->state_len);
        m->talking = NULL;
        if (r < 0)
            return migration_blame_fe(u, m->src, r);
        u->has_state = true;
        m->hop->device_state_bytes += u->state_len;
    }
    return 0;
}

static int load_unit(struct migration_unit *u, unsigned which)
{
    struct migration *m = u->m;
    int r;

    if (!u->has_state || (u->state_len == 0 && !has_state(u, which)))
        return 0;
    if (!has_state(u, which))
        return migration_cannot(m, migration_side_of(m, which), -EOPNOTSUPP,
                                "the source has a device state of %zu bytes, and it does not offer "
                                "DEVICE_STATE (protocol feature 19)",
                                u->state_len);
    m->talking = u;
    r = gw_frontend_load_state(u->fe[which], u->state ? u->state : "", u->state_len);
    m->talking = NULL;
    return r < 0 ? migration_blame_fe(u, which, r) : 0;
}

int migration_load_devices(struct migration *m)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->n_units; i++)
        r = load_unit(&m->units[i], m->dst);
    return r;
}
