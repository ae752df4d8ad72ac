/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Postcopy in the course of a migration, in the order in which QEMU's destination does it: the
 * back-ends are advised when they are connected; what is stale at the switch is dropped from the
 * destination's memory; they listen, and are given the memory with its gaps; the guest goes on and
 * waits for pages where it must; when all have come, the back-ends are told so.
 *
 * The guest stands still from the stop of the source to the first completion at the destination.
 * What is done in between takes as long as the marks since the last round are many, not as memory
 * is large: memory is registered before, and compared afterwards.
 */
#include "migrate_postcopy.h"

#include "guest/migrate_load.h"
#include "migrate_arrival.h"

#include "base/proto.h"

#include <errno.h>
#include <godwit/frontend/fault.h>
#include <string.h>

#define AWAIT_MS 1 /* between two looks whether all has come */

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

/* Pages that are stale, as far as they follow one another. */
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

/* From the log in pages; from the driver in bytes, many of one page. */
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
 * All that was written since the last look, by the device or the driver, is stale. Marks are taken
 * before pages are read, as ever.
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
    /* Most of it, so that there is little left when the guest stands still. */
    r = drop_stale(m);
    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        struct migration_unit *u = &m->units[i];
        int uffd = u->uffd;

        u->uffd = -1;
        r = gw_fault_server_add_client(migration_link_server(m), &u->client, uffd,
                                       target_name(u->targets[m->dst]), false);
        if (r < 0)
            migration_blame(m, MIGRATION_SIDE_DESTINATION, r,
                            "the userfaultfd it sent is of no use: %s", strerror(-r));
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

/* Did the source leave requests in its rings, which the destination does at once? */
static bool has_requests(const struct migration *m)
{
    unsigned n = 0;

    for (unsigned i = 0; i < m->n_drivers; i++)
        n += gw_driver_in_flight(m->drivers[i]);
    return n > m->n_found_late;
}

/*
 * A region that goes and comes again, while nobody uses it. The acknowledgement of it has no
 * answer, and kicks may overtake it: so one more message is sent, as QEMU does where it must know
 * that others were handled.
 */
static int tell_again(struct migration_unit *u)
{
    struct migration *m = u->m;
    struct gw_frontend *fe = u->fe[m->dst];
    uint64_t features;
    int r;

    /* Nobody tells a table that has not changed, and DPDK leaves one unanswered. */
    if (!(gw_frontend_protocol_features(fe) >> GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS & 1) ||
        has_requests(m))
        return 0;
    r = gw_frontend_rem_mem_reg(fe, m->mem, m->apart_gpa);
    if (r == 0)
        r = gw_frontend_add_mem_reg(fe, m->mem, m->apart_gpa);
    return r ? r : gw_frontend_get_features(fe, &features);
}

/* Memory that changes while pages are missing: by the seed, where memory changes at all. */
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
                               "at 0x%llx, once more, while pages are missing",
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
    /* What the source lost is told even if the destination has failed of it. */
    migration_set_phase(m, MIGRATION_PHASE_COMPARE);
    migration_watch_old_logs(m);
    migration_compare_sums(m, false);
    return r;
}
