/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The back-ends of a migration, two for each device: connecting, negotiating, starting, stopping,
 * hot plug, and their requests. Errors are reported with the side at fault.
 */
#include "pages/migrate_arrival.h"

#include "migrate/migrate_remote.h"
#include "probe/feature_names.h"

#include "base/proto.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <godwit/frontend/fault.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BIT(n) (UINT64_C(1) << (n))

/* Features that the tool supports with any device. */
#define FEATURES                                                                             \
    (BIT(GW_F_RING_INDIRECT_DESC) | BIT(GW_F_RING_EVENT_IDX) | BIT(GW_F_PROTOCOL_FEATURES) | \
     BIT(GW_F_VERSION_1))

#define BACKEND_NEED_REPLY 0x8u

enum migration_side migration_side_of(const struct migration *m, unsigned which)
{
    return which == m->src ? MIGRATION_SIDE_SOURCE : MIGRATION_SIDE_DESTINATION;
}

int migration_blame_fe(struct migration_unit *u, unsigned which, int r)
{
    /*
     * A back-end that waits for a page that cannot arrive does not answer, so report the link's
     * error first.
     */
    if (u->m->link)
        (void)migration_link_check(u->m);
    return migration_blame(u->m, migration_side_of(u->m, which), r, "%s", gw_frontend_last_error());
}

/* Ring features that the options require. */
static uint64_t ring_features(const struct migration *m)
{
    return (m->o.packed ? BIT(GW_F_RING_PACKED) : 0) | (m->o.in_order ? BIT(GW_F_IN_ORDER) : 0);
}

static uint64_t wanted_features(const struct migration *m)
{
    uint64_t wanted = FEATURES;

    if (m->o.device == MIGRATION_DEVICE_BLK)
        wanted |= disk_features;
    return (m->o.features ? m->o.features : wanted) | ring_features(m);
}

/*
 * This back-end does not match the device of the source. A destination that awaits its source
 * rejects such a caller, see migration_remote.mismatch; otherwise the migration ends. Returns: `r`.
 */
static int mismatch(struct migration *m, unsigned which, int r, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int mismatch(struct migration *m, unsigned which, int r, const char *format, ...)
{
    char text[LINK_TEXT_MAX];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    if (!m->remote || which != m->dst || m->phase != MIGRATION_PHASE_CONNECT)
        return migration_cannot(m, migration_side_of(m, which), r, "%s", text);
    snprintf(m->remote->mismatch, sizeof(m->remote->mismatch),
             "the back-end at the destination does not match the one at the source: %.180s", text);
    return r;
}

static void name_features(const struct migration *m, uint64_t mask, char *text, size_t size)
{
    features_text(features_device(m->o.device == MIGRATION_DEVICE_BLK ? "blk" : "generic"), mask,
                  text, size);
}

/* Check that the back-end offers all features of the source, and that these fit the options. */
static int check_wanted(struct migration_unit *u, unsigned which, uint64_t offered)
{
    struct migration *m = u->m;
    uint64_t odd = (u->wanted & ~wanted_features(m)) | (ring_features(m) & ~u->wanted);
    char text[192];

    if (u->wanted & ~offered) {
        name_features(m, u->wanted & ~offered, text, sizeof(text));
        return mismatch(m, which, -EOPNOTSUPP,
                        "the device at the source has %s, which it does not offer", text);
    }
    if (odd) {
        name_features(m, odd, text, sizeof(text));
        return mismatch(m, which, -EOPNOTSUPP, "the options contradict %s of the source", text);
    }
    return 0;
}

/* Is this back-end a postcopy destination, in this hop or a later one? */
static bool is_fetching(const struct migration *m, unsigned which)
{
    return m->o.postcopy.is_on && (which == m->dst || m->o.hops > 1);
}

/* Check the features that a migration needs, before anything is started. */
static int check_offer(struct migration_unit *u, unsigned which)
{
    uint64_t offered = 0, protocol = 0;
    struct gw_frontend *fe = u->fe[which];
    struct migration *m = u->m;
    char text[192];
    int r = gw_frontend_get_features(fe, &offered);

    if (r == 0 && offered & BIT(GW_F_PROTOCOL_FEATURES))
        r = gw_frontend_get_protocol_features(fe, &protocol);
    if (r < 0)
        return migration_blame_fe(u, which, r);
    features_missing(NULL, offered, protocol, text, sizeof(text));
    if (!text[0] && m->o.kill && !(protocol & BIT(GW_PROTOCOL_F_INFLIGHT_SHMFD)))
        return migration_cannot(m, migration_side_of(m, which), -EOPNOTSUPP,
                                "--kill-at needs INFLIGHT_SHMFD (protocol feature "
                                "12), which it does not offer");
    if (!text[0] && is_fetching(m, which) && !(protocol & BIT(GW_PROTOCOL_F_PAGEFAULT)))
        return mismatch(m, which, -EOPNOTSUPP,
                        "--postcopy needs PAGEFAULT (protocol feature 8) at the destination, which "
                        "it does not offer");
    if (text[0])
        return migration_cannot(m, migration_side_of(m, which), -EOPNOTSUPP,
                                "a migration needs %s, which it does not offer", text);
    if (ring_features(m) & ~offered) {
        name_features(m, ring_features(m) & ~offered, text, sizeof(text));
        return migration_cannot(m, migration_side_of(m, which), -EOPNOTSUPP,
                                "the options need %s, which it does not offer", text);
    }
    if (u->wanted == 0) /* this back-end is a source */
        u->wanted = offered & wanted_features(m);
    return check_wanted(u, which, offered);
}

/* The guest has read the configuration of its disk at the source, so it must stay valid. */
static int check_same_disk(struct migration_unit *u, unsigned which, const struct disk_config *disk)
{
    struct migration *m = u->m;

    if (disk->sectors != u->disk.sectors)
        return mismatch(m, which, -EINVAL,
                        "its disk has %" PRIu64 " sectors, the other disk has %" PRIu64,
                        disk->sectors, u->disk.sectors);
    if (!u->disk.block_size) /* the source is in another process */
        u->disk = *disk;
    if (disk->block_size != u->disk.block_size || disk->size_max < u->disk.size_max ||
        disk->seg_max < u->disk.seg_max)
        return migration_cannot(m, migration_side_of(m, which), -EINVAL,
                                "its disk has blocks of %" PRIu32 " bytes and allows %" PRIu32
                                " segments of %" PRIu32 " bytes, the other disk has %" PRIu32
                                ", and %" PRIu32 " of %" PRIu32,
                                disk->block_size, disk->seg_max, disk->size_max, u->disk.block_size,
                                u->disk.seg_max, u->disk.size_max);
    return 0;
}

static int check_disk(struct migration_unit *u, unsigned which)
{
    struct migration *m = u->m;
    struct disk_config disk;
    char why[256];
    int r = disk_config_read(u->fe[which], u->wanted, &disk);

    if (r < 0)
        return migration_blame_fe(u, which, r);
    if (disk.n_queues < m->o.n_queues)
        return migration_cannot(m, migration_side_of(m, which), -ERANGE,
                                "%u queues requested, it has %u", m->o.n_queues, disk.n_queues);
    if (which == m->src && !u->disk.sectors)
        u->disk = disk;
    r = check_same_disk(u, which, &disk);
    if (r < 0)
        return r;
    if (!disk_takes(&disk, m->o.block_size, disk_segments(&disk, m->o.block_size, 1), why,
                    sizeof(why)))
        return mismatch(m, which, -EINVAL, "%s", why);
    return 0;
}

static struct gw_frontend_inflight *inflight_of(struct migration_unit *u, unsigned which)
{
    return u->m->o.kill ? &u->inflight[which] : NULL;
}

static int negotiate(struct migration_unit *u, unsigned which)
{
    struct gw_frontend_options opt = {
        .size = sizeof(opt),
        .features = u->wanted,
        .mem_form = u->m->o.mem_form,
        .inflight = inflight_of(u, which),
    };
    int r = gw_frontend_negotiate(u->fe[which], &opt);

    if (r < 0)
        return migration_blame_fe(u, which, r);
    migration_record_backend(u->m, u->targets[which], u->fe[which]);
    return u->m->o.device == MIGRATION_DEVICE_BLK ? check_disk(u, which) : 0;
}

static int connect_unit(struct migration_unit *u, unsigned which)
{
    struct migration *m = u->m;
    struct gw_frontend_config cfg = {
        .size = sizeof(cfg),
        .connect_timeout_ms = migration_request_ms(m),
    };
    int r;

    cfg.timeout_ms = m->allowed_ms = migration_request_ms(m);
    r = gw_frontend_new(&u->fe[which], &cfg);
    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "%s", strerror(-r));
    r = target_connect(u->targets[which], u->fe[which]);
    if (r < 0)
        return migration_cannot(m, migration_side_of(m, which), r, "no connection: %s",
                                target_error(u->targets[which]));
    r = check_offer(u, which);
    return r ? r : negotiate(u, which);
}

int migration_connect(struct migration *m, unsigned which)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        m->talking = &m->units[i];
        r = connect_unit(&m->units[i], which);
    }
    m->talking = NULL;
    return r;
}

int migration_reconnect(struct migration_unit *u, unsigned which)
{
    int r = target_connect(u->targets[which], u->fe[which]);

    if (r < 0)
        return migration_blame(u->m, migration_side_of(u->m, which), r,
                               "it cannot be reconnected after the kill: %s",
                               target_error(u->targets[which]));
    return negotiate(u, which);
}

void migration_disconnect(struct migration *m, unsigned which)
{
    for (unsigned i = 0; i < m->n_units; i++) {
        struct migration_unit *u = &m->units[i];

        gw_frontend_free(u->fe[which]);
        u->fe[which] = NULL;
        gw_frontend_inflight_done(&u->inflight[which]);
        u->running[which] = false;
        if (which == m->dst && u->uffd >= 0)
            gw_peer_fd_close(&u->uffd);
        if (which == m->dst)
            u->uffd = -1;
    }
}

int migration_start_unit(struct migration_unit *u, unsigned which, const struct gw_guest_log *log)
{
    struct migration *m = u->m;
    struct gw_frontend_options opt = {
        .size = sizeof(opt),
        .features = u->wanted,
        .mem = m->mem,
        .drivers = u->drivers,
        .n_drivers = u->n_drivers,
        .mem_form = m->o.mem_form,
        .log = log,
        .inflight = inflight_of(u, which),
    };
    uint64_t begin = migration_now(m);
    int r = gw_frontend_start(u->fe[which], &opt);

    if (r < 0)
        return migration_blame_fe(u, which, r);
    u->running[which] = true;
    migration_record_backend(m, u->targets[which], u->fe[which]); /* with the features set now */
    migration_event(m, MIGRATION_EVENT_DEVICE_STARTED, begin, "%s", target_name(u->targets[which]));
    /* Newer specifications do not require a kick for buffers that are already available. */
    for (unsigned i = 0; i < u->n_drivers; i++)
        gw_driver_kick_always(u->drivers[i]);
    return 0;
}

int migration_start(struct migration *m, unsigned which, const struct gw_guest_log *log)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        m->talking = &m->units[i];
        r = migration_start_unit(&m->units[i], which, log);
    }
    m->talking = NULL;
    return r;
}

/* The base must be between the used and the available index. */
static int check_base(struct migration *m, unsigned which, struct gw_driver *d)
{
    uint32_t base = gw_driver_base(d);
    unsigned taken = 0;

    if (gw_driver_check_base(d, &taken) < 0)
        return migration_blame(m, migration_side_of(m, which), -EPROTO,
                               "GET_VRING_BASE of ring %u was answered with %s%#" PRIx32
                               ", while its used index is %u and %u requests are in flight",
                               gw_driver_index(d), gw_driver_is_packed(d) ? "" : "index ", base,
                               gw_driver_used_idx(d), gw_driver_in_flight(d));
    if (m->phase == MIGRATION_PHASE_STOP)
        m->hop->in_flight_stopped += taken;
    if (taken)
        migration_blame(m, migration_side_of(m, which), -EBUSY,
                        "GET_VRING_BASE of ring %u was answered with %u %s taken and not "
                        "completed",
                        gw_driver_index(d), taken,
                        gw_driver_is_packed(d) ? "descriptors" : "requests");
    return 0;
}

static int stop_unit(struct migration_unit *u, unsigned which)
{
    struct migration *m = u->m;
    uint64_t begin = migration_now(m);
    int r = gw_frontend_stop(u->fe[which], u->drivers, u->n_drivers);

    if (r < 0)
        return migration_blame_fe(u, which, r);
    u->running[which] = false;
    migration_event(m, MIGRATION_EVENT_DEVICE_STOPPED, begin, "%s", target_name(u->targets[which]));
    for (unsigned i = 0; r == 0 && i < u->n_drivers; i++)
        r = check_base(m, which, u->drivers[i]);
    return r;
}

int migration_stop(struct migration *m, unsigned which)
{
    uint64_t begin = migration_now(m);
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        m->talking = &m->units[i];
        r = stop_unit(&m->units[i], which);
    }
    m->talking = NULL;
    if (m->phase == MIGRATION_PHASE_STOP)
        m->hop->device_stop_ns = migration_now(m) - begin;
    return r;
}

static bool has_slots(const struct migration *m, const struct migration_unit *u)
{
    return gw_frontend_protocol_features(u->fe[m->src]) >> GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS & 1;
}

int migration_tell_slots(struct migration *m, gw_gpa_t gpa, bool is_added)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        struct migration_unit *u = &m->units[i];

        if (!has_slots(m, u))
            continue;
        m->talking = u;
        r = is_added ? gw_frontend_add_mem_reg(u->fe[m->src], m->mem, gpa)
                     : gw_frontend_rem_mem_reg(u->fe[m->src], m->mem, gpa);
        if (r < 0)
            migration_blame_fe(u, m->src, r);
    }
    m->talking = NULL;
    return r;
}

int migration_tell_table(struct migration *m)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        struct migration_unit *u = &m->units[i];

        if (has_slots(m, u))
            continue;
        m->talking = u;
        r = gw_frontend_set_mem_table(u->fe[m->src], m->mem);
        if (r < 0)
            migration_blame_fe(u, m->src, r);
    }
    m->talking = NULL;
    return r;
}

/* Answer a request that the back-end sent on its channel. Its contents do not matter. */
static int answer(struct migration_unit *u, unsigned which)
{
    struct gw_frontend *fe = u->fe[which];
    struct pollfd p = {.fd = gw_frontend_backend_fd(fe), .events = POLLIN};
    struct gw_frontend_message msg;
    int r;

    if (p.fd < 0 || poll(&p, 1, 0) <= 0 || !(p.revents & POLLIN))
        return 0;
    r = gw_frontend_backend_request(fe, &msg, migration_request_ms(u->m));
    if (r == -ECONNRESET)
        return 0; /* the back-end may close it before the session ends: no fault */
    if (r == 0 && msg.flags & BACKEND_NEED_REPLY)
        r = gw_frontend_backend_reply(fe, &msg, 0);
    gw_frontend_message_done(&msg);
    return r < 0 ? migration_blame_fe(u, which, r) : 0;
}

static int tend_unit(struct migration_unit *u, unsigned which)
{
    struct pollfd p = {.events = POLLRDHUP};
    struct migration *m = u->m;

    if (!u->fe[which])
        return 0;
    p.fd = gw_frontend_fd(u->fe[which]);
    m->allowed_ms = migration_request_ms(m);
    gw_frontend_set_timeout(u->fe[which], m->allowed_ms);
    if (p.fd >= 0 && poll(&p, 1, 0) > 0) {
        int r = gw_frontend_check(u->fe[which]);

        return migration_blame(m, migration_side_of(m, which), -ECONNRESET, "%s",
                               r < 0 ? gw_frontend_last_error() : "the back-end hung up");
    }
    if (target_check(u->targets[which]) < 0)
        return migration_blame(m, migration_side_of(m, which), -EHOSTDOWN, "%s",
                               u->running[which] ? "it ended with its rings running" : "it ended");
    return answer(u, which);
}

int migration_tend_end(struct migration *m, unsigned which)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        m->talking = &m->units[i];
        r = tend_unit(&m->units[i], which);
    }
    m->talking = NULL;
    return r;
}

int migration_end_postcopy(struct migration *m)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        struct migration_unit *u = &m->units[i];

        m->talking = u;
        r = gw_frontend_postcopy_end(u->fe[m->dst]);
        if (r < 0)
            migration_blame_fe(u, m->dst, r);
    }
    m->talking = NULL;
    return r;
}
