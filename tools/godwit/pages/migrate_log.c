/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The dirty log during a migration: turned on in one of the orders that front-ends use, replaced,
 * watched after its replacement, turned off.
 */
#include "guest/migrate_load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OLD_LOG_NS   200000000u /* how long a replaced log is watched */
#define SILENCE_MS   30         /* from LOG_ALL off until marks are an error */
#define GROW_CHUNKS  512        /* 64-bit words that QEMU allocates beyond the needed length */
#define OFFSET_PAGES 3

/* Make a log for the present memory up to `more_top`, at an offset and with some spare words. */
static int new_log(struct migration *m, gw_gpa_t more_top, struct gw_guest_log **ret)
{
    struct gw_guest_log_config cfg = {
        .size = sizeof(cfg),
        .length = gw_guest_log_length_for(m->mem, m->drivers, m->n_drivers),
        .offset = m->o.log_offset,
        .base = m->xen ? m->top & GW_GUEST_LOG_GRANTS : 0,
    };
    uint64_t more = (more_top + MIGRATION_PAGE * 64 - 1) / (MIGRATION_PAGE * 64) * 8;
    int r;

    if (more > cfg.length)
        cfg.length = more;
    if (migration_random(m, 4) == 0)
        cfg.length += GROW_CHUNKS * 8;
    /* The specification allows any offset; libvhost-user only maps whole pages. */
    if (m->o.log_offset_random)
        cfg.offset = migration_random(m, OFFSET_PAGES * MIGRATION_PAGE);
    r = gw_guest_log_new(ret, &cfg);
    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "a dirty log of %llu bytes: %s",
                                (unsigned long long)cfg.length, strerror(-r));
    if (cfg.length > m->ret->log_bytes)
        m->ret->log_bytes = cfg.length;
    return 0;
}

/* Send a message, or one for each ring, to each source. */
static int for_all(struct migration *m, int (*send)(struct migration_unit *u, bool on), bool on)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        m->talking = &m->units[i];
        r = send(&m->units[i], on);
    }
    m->talking = NULL;
    return r;
}

static int send_base(struct migration_unit *u, bool on)
{
    int r = gw_frontend_set_log_base(u->fe[u->m->src], u->m->log);

    return r ? migration_blame_fe(u, u->m->src, r) : 0;
}

static int send_all(struct migration_unit *u, bool on)
{
    struct gw_frontend *fe = u->fe[u->m->src];
    int r = gw_frontend_set_log_all(fe, on);

    return r ? migration_blame(u->m, MIGRATION_SIDE_SOURCE, r, "LOG_ALL %s: %s", on ? "on" : "off",
                               gw_frontend_last_error())
             : 0;
}

static int send_rings(struct migration_unit *u, bool on)
{
    struct gw_frontend *fe = u->fe[u->m->src];
    int r = 0;

    for (unsigned i = 0; r == 0 && i < u->n_drivers; i++) {
        r = gw_frontend_set_vring_log(fe, u->drivers[i], on);
        if (r < 0)
            migration_blame(u->m, MIGRATION_SIDE_SOURCE, r, "VHOST_VRING_F_LOG %s: %s",
                            on ? "on" : "off", gw_frontend_last_error());
    }
    return r;
}

static int set_base(struct migration *m)
{
    return for_all(m, send_base, true);
}

static int set_all(struct migration *m, bool on)
{
    return for_all(m, send_all, on);
}

static int set_rings(struct migration *m, bool on)
{
    return for_all(m, send_rings, on);
}

/* Restart the device with the log on, like one plugged in during a migration. */
static int start_with_log(struct migration *m)
{
    int r = migration_load_pause(m);

    if (r == 0)
        r = migration_stop(m, m->src);
    for (unsigned i = 0; r == 0 && i < m->n_drivers; i++)
        gw_driver_requeue(m->drivers[i]); /* none expected */
    if (r == 0)
        r = migration_start(m, m->src, m->log);
    if (r == 0)
        r = migration_load_resume(m);
    return r;
}

static int switch_on(struct migration *m, enum migration_order order)
{
    int r = 0;

    switch (order) {
    case MIGRATION_ORDER_STARTED:
        return start_with_log(m);
    case MIGRATION_ORDER_RINGS:
        r = set_base(m);
        r = r ? r : set_rings(m, true);
        return r ? r : set_all(m, true);
    case MIGRATION_ORDER_FEATURES:
        r = set_all(m, true);
        r = r ? r : set_base(m);
        return r ? r : set_rings(m, true);
    default:
        r = set_base(m);
        r = r ? r : set_all(m, true);
        return r ? r : set_rings(m, true);
    }
}

/* From now on, also track the driver's own writes. */
static int track(struct migration *m, struct gw_guest_track *t)
{
    int r = migration_load_pause(m);

    for (unsigned i = 0; i < m->n_drivers; i++)
        gw_driver_set_track(m->drivers[i], t);
    return r ? r : migration_load_resume(m);
}

int migration_log_on(struct migration *m)
{
    enum migration_order order = m->o.order;
    uint64_t begin;
    int r;

    if (order == MIGRATION_ORDER_RANDOM)
        order = (enum migration_order)migration_random(m, MIGRATION_ORDER_RANDOM);
    m->hop->order = order;
    r = new_log(m, 0, &m->log);
    if (r == 0)
        r = track(m, m->track);
    begin = migration_now(m);
    if (r == 0)
        r = switch_on(m, order);
    if (r < 0)
        return r;
    m->log_is_on = true;
    migration_event(m, MIGRATION_EVENT_LOG_ON, begin, "order %s, %llu bytes",
                    migration_order_name(order), (unsigned long long)gw_guest_log_length(m->log));
    return 0;
}

int migration_log_off(struct migration *m)
{
    uint64_t begin = migration_now(m), n;
    int r = set_all(m, false);

    if (r == 0)
        r = set_rings(m, false);
    if (r < 0)
        return r;
    m->log_is_on = false;
    migration_event(m, MIGRATION_EVENT_LOG_OFF, begin, "migration cancelled");
    gw_guest_log_take(m->log, NULL, NULL);
    r = migration_tend(m, SILENCE_MS);
    if (r < 0)
        return r;
    n = gw_guest_log_count(m->log);
    if (n)
        migration_blame(m, MIGRATION_SIDE_SOURCE, -EPROTO,
                        "%llu pages were marked after LOG_ALL had been cleared",
                        (unsigned long long)n);
    r = track(m, NULL);
    migration_drop_logs(m);
    return r;
}

/* Keep a replaced log to check whether the source still writes to it. */
static void keep(struct migration *m, struct gw_guest_log *log)
{
    if (m->n_old_logs == MIGRATION_OLD_LOGS_MAX) {
        gw_guest_log_free(m->old_logs[0].log);
        memmove(&m->old_logs[0], &m->old_logs[1], --m->n_old_logs * sizeof(m->old_logs[0]));
    }
    m->old_logs[m->n_old_logs++] =
        (struct migration_old_log){.log = log, .replaced_ns = migration_now(m)};
}

int migration_log_replace(struct migration *m, gw_gpa_t more_top)
{
    struct gw_guest_log *old = m->log;
    uint64_t begin;
    int r = new_log(m, more_top, &m->log);

    if (r < 0) {
        m->log = old;
        return r;
    }
    begin = migration_now(m);
    r = set_base(m);
    if (r < 0) {
        gw_guest_log_free(m->log);
        m->log = old;
        return r;
    }
    migration_event(m, MIGRATION_EVENT_LOG_REPLACED, begin, "%llu bytes",
                    (unsigned long long)gw_guest_log_length(m->log));
    m->hop->logs_replaced++;
    /* Copy its last marks, as QEMU does: it is complete now. */
    migration_copy_log(m, old);
    keep(m, old);
    return 0;
}

void migration_watch_old_logs(struct migration *m)
{
    unsigned n = 0;

    for (unsigned i = 0; i < m->n_old_logs; i++) {
        struct migration_old_log *old = &m->old_logs[i];
        uint64_t pages = gw_guest_log_count(old->log);
        uint64_t now = migration_now(m);

        if (pages && !old->is_told) {
            old->is_told = true;
            m->hop->pages_old_log += pages;
            migration_blame(m, MIGRATION_SIDE_SOURCE, -EPROTO,
                            "%llu pages were marked in a dirty log after the answer to its "
                            "replacement, which came %.1f ms earlier",
                            (unsigned long long)pages, (double)(now - old->replaced_ns) / 1e6);
        }
        /* Keep a log with marks: a page that differs at the end may be marked there. */
        if (!old->is_told && now - old->replaced_ns > OLD_LOG_NS)
            gw_guest_log_free(old->log);
        else
            m->old_logs[n++] = *old;
    }
    m->n_old_logs = n;
}

void migration_drop_logs(struct migration *m)
{
    for (unsigned i = 0; i < m->n_old_logs; i++)
        gw_guest_log_free(m->old_logs[i].log);
    m->n_old_logs = 0;
    gw_guest_log_free(m->log);
    m->log = NULL;
}
