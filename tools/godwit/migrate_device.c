/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The two back-ends of a migration: connected and asked what they can, started, stopped, told about
 * regions, and looked after meanwhile. What goes wrong here is told with the side it is of.
 */
#include "migrate_i.h"

#include "feature_names.h"

#include "../../src/core/proto.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define BIT(n) (UINT64_C(1) << (n))

/* What the tool can make use of, whatever the device. */
#define FEATURES                                                                             \
    (BIT(GW_F_RING_INDIRECT_DESC) | BIT(GW_F_RING_EVENT_IDX) | BIT(GW_F_PROTOCOL_FEATURES) | \
     BIT(GW_F_VERSION_1))
#define FEATURES_BLK (BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_MQ) | BIT(VIRTIO_BLK_F_RO))

#define BACKEND_NEED_REPLY 0x8u

enum migration_side migration_side_of(const struct migration *m, unsigned which)
{
    return which == m->src ? MIGRATION_SIDE_SOURCE : MIGRATION_SIDE_DESTINATION;
}

static int blame_fe(struct migration *m, unsigned which, int r)
{
    return migration_blame(m, migration_side_of(m, which), r, "%s",
                           gw_frontend_error(m->fe[which]));
}

/* What the rings are asked to be. */
static uint64_t ring_features(const struct migration *m)
{
    return (m->o.packed ? BIT(GW_F_RING_PACKED) : 0) | (m->o.in_order ? BIT(GW_F_IN_ORDER) : 0);
}

static uint64_t wanted_features(const struct migration *m)
{
    uint64_t wanted = FEATURES;

    if (m->o.device == MIGRATION_DEVICE_BLK)
        wanted |= FEATURES_BLK;
    return (m->o.features ? m->o.features : wanted) | ring_features(m);
}

/* It does not offer some of `mask`, which `why` says to be needed. */
static int lacks(struct migration *m, unsigned which, const char *why, uint64_t mask)
{
    char text[192];

    features_text(features_device(m->o.device == MIGRATION_DEVICE_BLK ? "blk" : "generic"), mask,
                  text, sizeof(text));
    return migration_cannot(m, migration_side_of(m, which), -EOPNOTSUPP,
                            "%s %s, which it does not offer", why, text);
}

/* Does it have what a migration needs? Told before anything is started. */
static int check_offer(struct migration *m, unsigned which)
{
    uint64_t offered = 0, protocol = 0;
    struct gw_frontend *fe = m->fe[which];
    char text[192];
    int r = gw_frontend_get_features(fe, &offered);

    if (r == 0 && offered & BIT(GW_F_PROTOCOL_FEATURES))
        r = gw_frontend_get_protocol_features(fe, &protocol);
    if (r < 0)
        return blame_fe(m, which, r);
    features_missing(offered, protocol, text, sizeof(text));
    if (!text[0] && m->o.kill && !(protocol & BIT(GW_PROTOCOL_F_INFLIGHT_SHMFD)))
        return migration_cannot(m, migration_side_of(m, which), -EOPNOTSUPP,
                                "to be killed and go on takes INFLIGHT_SHMFD (protocol feature "
                                "12), which it does not offer");
    if (text[0])
        return migration_cannot(m, migration_side_of(m, which), -EOPNOTSUPP,
                                "a migration needs %s, which it does not offer", text);
    if (ring_features(m) & ~offered)
        return lacks(m, which, "the rings are asked to have", ring_features(m) & ~offered);
    if (m->wanted == 0) /* the source comes first */
        m->wanted = offered & wanted_features(m);
    if (m->wanted & ~offered)
        return lacks(m, which, "the device at the source has", m->wanted & ~offered);
    return 0;
}

static int check_disk(struct migration *m, unsigned which)
{
    bool has_queues = m->wanted & BIT(VIRTIO_BLK_F_MQ);
    struct virtio_blk_config config = {0};
    struct gw_frontend *fe = m->fe[which];
    unsigned n_queues = 1;
    uint64_t capacity;
    /* From the begin: libvhost-user does not look at the offset. */
    int r = gw_frontend_get_config(fe, 0, &config,
                                   has_queues ? offsetof(struct virtio_blk_config, num_queues) +
                                                    sizeof(config.num_queues)
                                              : sizeof(config.capacity));

    if (r < 0)
        return blame_fe(m, which, r);
    capacity = le64toh(config.capacity);
    if (has_queues)
        n_queues = le16toh(config.num_queues);
    if (n_queues < m->o.n_queues)
        return migration_cannot(m, migration_side_of(m, which), -ERANGE,
                                "%u queues are asked for, it has %u", m->o.n_queues, n_queues);
    if (which == m->src && !m->disk_capacity)
        m->disk_capacity = capacity;
    if (capacity != m->disk_capacity)
        return migration_cannot(m, migration_side_of(m, which), -EINVAL,
                                "its disk has %" PRIu64 " sectors, that of the other %" PRIu64,
                                capacity, m->disk_capacity);
    return 0;
}

static struct gw_frontend_inflight *inflight_of(struct migration *m, unsigned which)
{
    return m->o.kill ? &m->inflight[which] : NULL;
}

static int negotiate(struct migration *m, unsigned which)
{
    struct gw_frontend_options opt = {
        .size = sizeof(opt), .features = m->wanted, .inflight = inflight_of(m, which)};
    int r = gw_frontend_negotiate(m->fe[which], &opt);

    if (r < 0)
        return blame_fe(m, which, r);
    return m->o.device == MIGRATION_DEVICE_BLK ? check_disk(m, which) : 0;
}

int migration_connect(struct migration *m, unsigned which)
{
    struct gw_frontend_config cfg = {
        .size = sizeof(cfg),
        .connect_timeout_ms = migration_request_ms(m),
    };
    int r;

    cfg.timeout_ms = m->allowed_ms = migration_request_ms(m);
    r = gw_frontend_new(&m->fe[which], &cfg);
    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "%s", strerror(-r));
    r = target_connect(m->targets[which], m->fe[which]);
    if (r < 0)
        return migration_cannot(m, migration_side_of(m, which), r, "no connection: %s",
                                target_error(m->targets[which]));
    r = check_offer(m, which);
    return r ? r : negotiate(m, which);
}

int migration_reconnect(struct migration *m, unsigned which)
{
    int r = target_connect(m->targets[which], m->fe[which]);

    if (r < 0)
        return migration_blame(m, migration_side_of(m, which), r, "it does not come back: %s",
                               target_error(m->targets[which]));
    return negotiate(m, which);
}

void migration_disconnect(struct migration *m, unsigned which)
{
    gw_frontend_free(m->fe[which]);
    m->fe[which] = NULL;
    gw_frontend_inflight_done(&m->inflight[which]);
    m->running[which] = false;
}

int migration_start(struct migration *m, unsigned which, const struct gw_guest_log *log)
{
    struct gw_frontend_options opt = {
        .size = sizeof(opt),
        .features = m->wanted,
        .mem = m->mem,
        .drivers = m->drivers,
        .n_drivers = m->n_drivers,
        .log = log,
        .inflight = inflight_of(m, which),
    };
    uint64_t begin = migration_now(m);
    int r = gw_frontend_start(m->fe[which], &opt);

    if (r < 0)
        return blame_fe(m, which, r);
    m->running[which] = true;
    migration_event(m, MIGRATION_EVENT_DEVICE_STARTED, begin, "%s", target_name(m->targets[which]));
    /* As newer specifications ask for: what is available already is not told by another kick. */
    for (unsigned i = 0; i < m->n_drivers; i++)
        gw_driver_kick_always(m->drivers[i]);
    return 0;
}

/* The base must be between what is used and what is available. */
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

int migration_stop(struct migration *m, unsigned which)
{
    uint64_t begin = migration_now(m);
    int r = gw_frontend_stop(m->fe[which], m->drivers, m->n_drivers);

    if (m->phase == MIGRATION_PHASE_STOP)
        m->hop->device_stop_ns = migration_now(m) - begin;
    if (r < 0)
        return blame_fe(m, which, r);
    m->running[which] = false;
    migration_event(m, MIGRATION_EVENT_DEVICE_STOPPED, begin, "%s", target_name(m->targets[which]));
    for (unsigned i = 0; r == 0 && i < m->n_drivers; i++)
        r = check_base(m, which, m->drivers[i]);
    return r;
}

bool migration_has_slots(const struct migration *m)
{
    return gw_frontend_protocol_features(m->fe[m->src]) >> GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS & 1;
}

int migration_tell_region(struct migration *m, gw_gpa_t gpa, bool is_added)
{
    struct gw_frontend *fe = m->fe[m->src];
    int r;

    if (migration_has_slots(m))
        r = is_added ? gw_frontend_add_mem_reg(fe, m->mem, gpa)
                     : gw_frontend_rem_mem_reg(fe, m->mem, gpa);
    else
        r = gw_frontend_set_mem_table(fe, m->mem);
    return r < 0 ? blame_fe(m, m->src, r) : 0;
}

/* What it asks on its own channel is taken notice of, and answered where it wants that. */
static int answer(struct migration *m, unsigned which)
{
    struct gw_frontend *fe = m->fe[which];
    struct pollfd p = {.fd = gw_frontend_backend_fd(fe), .events = POLLIN};
    struct gw_frontend_message msg;
    int r;

    if (p.fd < 0 || poll(&p, 1, 0) <= 0 || !(p.revents & POLLIN))
        return 0;
    r = gw_frontend_backend_request(fe, &msg, migration_request_ms(m));
    if (r == -ECONNRESET)
        return 0; /* its end is closed with the session, or before: no fault */
    if (r == 0 && msg.flags & BACKEND_NEED_REPLY)
        r = gw_frontend_backend_reply(fe, &msg, 0);
    gw_frontend_message_done(&msg);
    return r < 0 ? blame_fe(m, which, r) : 0;
}

int migration_tend_end(struct migration *m, unsigned which)
{
    struct pollfd p = {.events = POLLRDHUP};

    if (!m->fe[which])
        return 0;
    p.fd = gw_frontend_fd(m->fe[which]);
    m->allowed_ms = migration_request_ms(m);
    gw_frontend_set_timeout(m->fe[which], m->allowed_ms);
    if (p.fd >= 0 && poll(&p, 1, 0) > 0)
        return migration_blame(m, migration_side_of(m, which), -ECONNRESET, "the back-end hung up");
    if (target_check(m->targets[which]) < 0)
        return migration_blame(m, migration_side_of(m, which), -EHOSTDOWN, "%s",
                               m->running[which] ? "it ended with its rings running" : "it ended");
    return answer(m, which);
}
