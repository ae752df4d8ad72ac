/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Kills a back-end in the middle of a migration. The tool does what a VMM does: it restarts the
 * back-end and passes the same inflight region, memory, rings and dirty log. The guest does not
 * stop, and the migration continues.
 */
#include "guest/migrate_load.h"
#include "migrate_i.h"

#include <errno.h>

void migration_choose_kill(struct migration *m)
{
    /* The device is warmed up before the first hop only. */
    enum migration_kill first = m->n_hop > 0 ? MIGRATION_KILL_COPY : MIGRATION_KILL_WARM_UP;

    m->kill = m->o.kill;
    if (m->kill == MIGRATION_KILL_RANDOM)
        m->kill = first + (enum migration_kill)migration_random(m, MIGRATION_KILL_RANDOM - first);
    /* With postcopy, a back-end cannot come back before its memory has arrived. */
    if (m->o.postcopy.is_on && m->kill == MIGRATION_KILL_START)
        m->kill = MIGRATION_KILL_SETTLE;
}

/* Returns with the load paused, which does not notice the kill. */
static int bury(struct migration_unit *u, unsigned which)
{
    struct migration *m = u->m;
    int r;

    target_kill(u->targets[which]);
    r = migration_load_pause(m);
    m->talking = u;
    gw_frontend_disconnect(u->fe[which]);
    u->running[which] = false;
    if (target_bury(u->targets[which]) < 0 && r == 0)
        r = migration_blame(m, migration_side_of(m, which), -EHOSTDOWN, "%s",
                            target_error(u->targets[which]));
    return r;
}

static int kill_now(struct migration *m, unsigned which)
{
    struct migration_unit *u = &m->units[migration_random(m, m->n_units)];
    bool is_loaded = migration_load_is_running(m);
    uint64_t begin = migration_now(m);
    unsigned in_flight = 0;
    int r = bury(u, which);

    m->kill = MIGRATION_KILL_NEVER;
    m->ret->kills++;
    for (unsigned i = 0; i < u->n_drivers; i++)
        in_flight += gw_driver_in_flight(u->drivers[i]);
    m->ret->in_flight_killed += in_flight;
    if (r == 0)
        r = migration_reconnect(u, which);
    if (r == 0)
        r = migration_start_unit(u, which, m->log_is_on ? m->log : NULL);
    m->talking = NULL;
    if (r == 0)
        r = migration_event(m, MIGRATION_EVENT_KILLED, begin, "%s, %u requests in flight",
                            target_name(u->targets[which]), in_flight);
    return r == 0 && is_loaded ? migration_load_resume(m) : r;
}

int migration_kill(struct migration *m, enum migration_kill at, unsigned which)
{
    return m->kill == at && !m->is_cancelled ? kill_now(m, which) : 0;
}

int migration_tend_kill(struct migration *m, enum migration_kill at, unsigned which, unsigned ms)
{
    unsigned before;
    int r;

    if (m->kill != at || m->is_cancelled)
        return migration_tend(m, ms);
    before = (unsigned)migration_random(m, ms + 1);
    r = migration_tend(m, before);
    if (r == 0)
        r = kill_now(m, which);
    return r ? r : migration_tend(m, ms - before);
}
