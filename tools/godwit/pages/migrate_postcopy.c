/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Postcopy during a migration, in the order of QEMU's destination: advise the back-ends when they
 * are connected; at the switch drop the stale pages of the destination's memory; send
 * POSTCOPY_LISTEN and the memory; continue the guest, which waits for missing pages; when all pages
 * arrived, send POSTCOPY_END.
 *
 * The guest stands still from the stop of the source to the first completion at the destination.
 * The work in this time depends on the marks since the last round, not on the size of memory:
 * memory is registered before and compared afterwards.
 */
#include "migrate_postcopy.h"

#include "guest/migrate_load.h"
#include "migrate_arrival.h"

#include "base/proto.h"

#include <errno.h>
#include <godwit/frontend/fault.h>
#include <string.h>

#define AWAIT_MS 1 /* between two checks whether all pages arrived */

int migration_postcopy_advise(struct migration *m)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && m->o.postcopy.is_on && i < m->n_units; i++) {
        struct migration_unit *u = &m->units[i];

        m->talking = u;
        r = gw_frontend_postcopy_advise(u->fe[m->dst], &u->uffd);
        if (r < 0)
            migration_blame_fe(u, m->dst, r);
    }
    m->talking = NULL;
    return r;
}

/* Consecutive stale pages. */
struct stale {
    struct migration *m;
    gw_gpa_t gpa;
    uint64_t len;
    int r;
};

static void drop(struct stale *s)
{
    if (s->r == 0 && s->len)
        s->r = migration_link_add(s->m, s->gpa, s->len);
    s->len = 0;
}

/* The log passes pages; the driver passes bytes, often many of one page. */
static void note(void *arg, gw_gpa_t gpa, uint64_t len)
{
    gw_gpa_t from = gpa & ~(gw_gpa_t)(MIGRATION_PAGE - 1);
    gw_gpa_t to = (gpa + len + MIGRATION_PAGE - 1) & ~(gw_gpa_t)(MIGRATION_PAGE - 1);
    struct stale *s = arg;

    if (s->len && from >= s->gpa && from <= s->gpa + s->len) {
        if (to > s->gpa + s->len)
            s->len = to - s->gpa;
        return;
    }
    drop(s);
    s->gpa = from;
    s->len = to - from;
}

/*
 * Drop all pages that device or driver wrote since the last call. Take marks before pages are read:
 * a later write marks its page again.
 */
static int drop_stale(struct migration *m)
{
    struct stale s = {.m = m};

    gw_guest_log_take(m->log, note, &s);
    gw_guest_track_take(m->track, note, &s);
    drop(&s);
    return s.r;
}

int migration_postcopy_prepare(struct migration *m)
{
    int r = migration_link_new(m);

    if (r < 0)
        return r;
    if (m->o.postcopy.has_round && m->o.postcopy.round == 0)
        migration_link_add_all(m);
    /* Drop most of them while the guest runs. */
    r = drop_stale(m);
    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        struct migration_unit *u = &m->units[i];
        int uffd = u->uffd;

        u->uffd = -1;
        r = gw_fault_server_add_client(migration_link_server(m), &u->client, uffd,
                                       target_name(u->targets[m->dst]), false);
        if (r < 0)
            migration_blame(m, MIGRATION_SIDE_DESTINATION, r, "its userfaultfd is unusable: %s",
                            strerror(-r));
    }
    return r;
}

int migration_postcopy_drop(struct migration *m)
{
    uint64_t begin = migration_now(m);
    int r = drop_stale(m);

    m->hop->arrival.discard_ns = migration_now(m) - begin;
    return r;
}

/* Did the source leave requests in the rings, which the destination pops at once? */
static bool has_requests(const struct migration *m)
{
    unsigned n = 0;

    for (unsigned i = 0; i < m->n_drivers; i++)
        n += gw_driver_in_flight(m->drivers[i]);
    return n > m->n_found_late;
}

/*
 * Remove a region that no request uses, and add it again. The front-end's acknowledgement of it has
 * no reply, and kicks may overtake it. So send one more message whose reply shows that it was
 * handled, as QEMU does.
 */
static int tell_again(struct migration_unit *u)
{
    struct migration *m = u->m;
    struct gw_frontend *fe = u->fe[m->dst];
    uint64_t features;
    int r;

    /* An unchanged table is never sent again, and DPDK would not answer it. */
    if (!(gw_frontend_protocol_features(fe) >> GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS & 1) ||
        has_requests(m))
        return 0;
    r = gw_frontend_rem_mem_reg(fe, m->mem, m->apart_gpa);
    if (r == 0)
        r = gw_frontend_add_mem_reg(fe, m->mem, m->apart_gpa);
    return r ? r : gw_frontend_get_features(fe, &features);
}

/* Change memory while pages are missing, if the options allow it: in half of the runs, by seed. */
static int change_memory(struct migration *m)
{
    uint64_t begin = migration_now(m);
    int r = 0;

    if (!m->o.region_ms || !m->apart_len || migration_random(m, 2))
        return 0;
    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        struct migration_unit *u = &m->units[i];

        m->talking = u;
        r = tell_again(u);
        if (r < 0)
            migration_blame_fe(u, m->dst, r);
    }
    m->talking = NULL;
    return r ? r
             : migration_event(m, MIGRATION_EVENT_REGION_ADDED, begin,
                               "at 0x%llx, added again while pages are missing",
                               (unsigned long long)m->apart_gpa);
}

int migration_postcopy_start(struct migration *m)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        struct migration_unit *u = &m->units[i];

        m->talking = u;
        r = gw_frontend_postcopy_listen(u->fe[m->dst], gw_fault_client_add_base, u->client);
        if (r < 0)
            migration_blame_fe(u, m->dst, r);
    }
    m->talking = NULL;
    m->hop->arrival.begin_ns = migration_now(m);
    if (r == 0)
        r = migration_link_begin(m);
    if (r == 0)
        r = migration_start(m, m->dst, NULL);
    return r ? r : change_memory(m);
}

int migration_postcopy_await(struct migration *m)
{
    int r, done = 0;

    migration_set_phase(m, MIGRATION_PHASE_POSTCOPY);
    do {
        r = migration_tend(m, AWAIT_MS);
        if (r == 0)
            done = migration_link_check(m);
    } while (r == 0 && done == 0);
    if (r == 0 && done < 0)
        r = done;
    if (r == 0)
        r = migration_event(m, MIGRATION_EVENT_ALL_THERE, 0, "%s", "");
    if (r == 0)
        r = migration_end_postcopy(m);
    m->hop->arrival.stall_ns = migration_load_worst_stall(m, true);
    migration_link_free(m);
    /* Report what the source lost even if the destination failed because of it. */
    migration_set_phase(m, MIGRATION_PHASE_COMPARE);
    migration_watch_old_logs(m);
    migration_compare_sums(m, false);
    return r;
}
