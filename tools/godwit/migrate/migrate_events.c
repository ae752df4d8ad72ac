/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Events that a back-end must handle in the middle of a migration, under load: another dirty log, a
 * hot-plugged or removed region, other call fds. Their times follow from the seed.
 */
#include "guest/migrate_load.h"
#include "migrate_remote.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MIB         (UINT64_C(1) << 20)
#define HOT_GRANULE (128 * MIB) /* distance between possible places of the region */
#define HOT_PLACES  64

/* Random, by the seed; on average in `ms`. */
static uint64_t next_time(struct migration *m, unsigned ms)
{
    uint64_t ns = ms * UINT64_C(1000000);

    return ms ? migration_now(m) + ns / 2 + migration_random(m, ns + 1) : UINT64_MAX;
}

void migration_schedule_start(struct migration *m)
{
    m->schedule.next_log_ns = next_time(m, m->o.replace_log_ms);
    m->schedule.next_region_ns = next_time(m, m->o.region_ms);
    m->schedule.next_call_ns = next_time(m, m->o.call_fd_ms);
}

/* Add the region to both memories; the load does not use it yet. The load is paused. */
static int plug(struct migration *m)
{
    struct gw_guest_region region = {
        .kind = GW_GUEST_MEMFD, .gpa = m->hot_gpa, .length = m->hot_len, .no_alloc = true};
    int r = gw_guest_mem_add(m->mem, &region);

    if (r == 0 && m->other)
        r = gw_guest_mem_add(m->other, &region);
    if (r == 0)
        r = gw_guest_track_add(m->track, m->hot_gpa, m->hot_len);
    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "a region of guest memory: %s",
                                strerror(-r));
    migration_remote_region(m, m->hot_gpa, m->hot_len);
    return migration_pair_up(m);
}

static int unplug(struct migration *m)
{
    gw_guest_track_remove(m->track, m->hot_gpa);
    gw_guest_mem_remove(m->mem, m->hot_gpa);
    if (m->other)
        gw_guest_mem_remove(m->other, m->hot_gpa);
    migration_remote_region(m, m->hot_gpa, 0);
    return migration_pair_up(m);
}

static int add_region(struct migration *m)
{
    gw_gpa_t place = (m->top + HOT_GRANULE - 1) / HOT_GRANULE + migration_random(m, HOT_PLACES);
    uint64_t begin;
    int r;

    m->hot_gpa = place * HOT_GRANULE;
    m->hot_len = m->n_units * MIB + migration_random(m, 64) * MIGRATION_PAGE;
    /* QEMU enlarges the log before it announces the memory. */
    r = migration_log_replace(m, m->hot_gpa + m->hot_len);
    if (r == 0)
        r = migration_load_pause(m);
    if (r == 0)
        r = plug(m);
    if (r == 0)
        r = migration_load_resume(m);
    begin = migration_now(m);
    if (r == 0)
        r = migration_tell_slots(m, m->hot_gpa, true);
    if (r == 0)
        r = migration_tell_table(m);
    if (r < 0)
        return r;
    migration_event(m, MIGRATION_EVENT_REGION_ADDED, begin, "%llu KiB at 0x%llx",
                    (unsigned long long)(m->hot_len / 1024), (unsigned long long)m->hot_gpa);
    m->hop->regions_added++;
    r = migration_load_pause(m);
    if (r == 0)
        r = migration_load_add(m, m->hot_gpa, m->hot_len);
    return r ? r : migration_load_resume(m);
}

/* Returns with the load paused and no request in the region. */
static int retire_region(struct migration *m)
{
    uint64_t deadline = migration_now(m) + migration_request_ms(m) * UINT64_C(1000000);
    int r;

    for (;;) {
        r = migration_load_pause(m);
        if (r < 0 || migration_load_retire(m, m->hot_gpa, m->hot_len) == 0)
            return r;
        r = migration_load_resume(m);
        if (r == 0)
            r = migration_tend(m, 1);
        if (r == 0 && migration_now(m) > deadline)
            r = migration_blame(m, MIGRATION_SIDE_SOURCE, -ETIMEDOUT,
                                "requests in a region are not completed");
        if (r < 0)
            return r;
    }
}

/* Nothing writes to the region now, so all writes must be marked. */
static int empty_region(struct migration *m)
{
    int r = retire_region(m);

    if (r == 0)
        r = migration_copy_round(m, m->round->number, false);
    if (r < 0)
        return r;
    migration_compare_region(m, m->hot_gpa);
    r = migration_load_remove(m, m->hot_gpa, m->hot_len);
    return r ? r : migration_load_resume(m);
}

static int remove_region(struct migration *m)
{
    uint64_t begin;
    int r = empty_region(m);

    if (r < 0)
        return r;
    begin = migration_now(m);
    r = migration_tell_slots(m, m->hot_gpa, false);
    if (r == 0)
        r = migration_load_pause(m);
    if (r == 0)
        r = unplug(m);
    if (r == 0)
        r = migration_load_resume(m);
    if (r == 0)
        r = migration_tell_table(m);
    if (r < 0)
        return r;
    migration_event(m, MIGRATION_EVENT_REGION_REMOVED, begin, "at 0x%llx",
                    (unsigned long long)m->hot_gpa);
    m->hop->regions_removed++;
    m->hot_gpa = 0;
    return 0;
}

/* Replace the call fd of a random queue. */
static int swap_call_fd(struct migration *m)
{
    struct migration_unit *u = &m->units[migration_random(m, m->n_units)];
    struct gw_driver *d = u->drivers[migration_random(m, u->n_drivers)];
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), r;
    uint64_t begin = migration_now(m);

    if (fd < 0) {
        r = -errno;
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "eventfd: %s", strerror(-r));
    }
    m->talking = u;
    r = gw_frontend_set_vring_call(u->fe[m->src], gw_driver_index(d), fd);
    if (r < 0) {
        close(fd);
        migration_blame_fe(u, m->src, r);
    }
    m->talking = NULL;
    if (r < 0)
        return r;
    migration_event(m, MIGRATION_EVENT_CALL_FD, begin, "queue %u", gw_driver_index(d));
    m->hop->call_fds_swapped++;
    r = migration_load_pause(m);
    gw_driver_set_call_fd(d, fd);
    return r ? r : migration_load_resume(m);
}

int migration_do_events(struct migration *m)
{
    struct migration_schedule *s = &m->schedule;
    int r = 0;

    if (migration_now(m) >= s->next_log_ns) {
        r = migration_log_replace(m, m->hot_gpa ? m->hot_gpa + m->hot_len : 0);
        s->next_log_ns = next_time(m, m->o.replace_log_ms);
    }
    if (r == 0 && migration_now(m) >= s->next_region_ns) {
        r = m->hot_gpa ? remove_region(m) : add_region(m);
        s->next_region_ns = next_time(m, m->o.region_ms);
    }
    if (r == 0 && m->n_drivers && migration_now(m) >= s->next_call_ns) {
        r = swap_call_fd(m);
        s->next_call_ns = next_time(m, m->o.call_fd_ms);
    }
    return r;
}
