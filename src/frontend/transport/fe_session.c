/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Complete sessions in QEMU's order (vhost_user_backend_init, vhost_dev_init, vhost_dev_start and
 * vhost_dev_stop), as a conforming front-end runs them. All state is in struct gw_frontend.
 */
#include "base/checked.h"
#include "base/proto.h"
#include "base/struct_sizes.h"
#include "fe_requests.h"
#include "frontend/driver/driver_i.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define BIT(n) (UINT64_C(1) << (n))

static const uint64_t default_features = BIT(GW_F_RING_INDIRECT_DESC) | BIT(GW_F_RING_EVENT_IDX) |
                                         BIT(GW_F_PROTOCOL_FEATURES) | BIT(GW_F_VERSION_1);
static const uint64_t default_protocol_features =
    BIT(GW_PROTOCOL_F_MQ) | BIT(GW_PROTOCOL_F_LOG_SHMFD) | BIT(GW_PROTOCOL_F_REPLY_ACK) |
    BIT(GW_PROTOCOL_F_BACKEND_REQ) | BIT(GW_PROTOCOL_F_PAGEFAULT) | BIT(GW_PROTOCOL_F_CONFIG) |
    BIT(GW_PROTOCOL_F_RESET_DEVICE) | BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS) |
    BIT(GW_PROTOCOL_F_XEN_MMAP);

static bool has_protocol(const struct gw_frontend *fe, unsigned bit)
{
    return fe->protocol_features >> bit & 1;
}

/* The features to request: the caller's, or the defaults. */
static uint64_t features_of(const struct gw_frontend_options *opt)
{
    uint64_t features = default_features;

    if (opt->features)
        return opt->features;
    for (unsigned i = 0; i < opt->n_drivers; i++) {
        if (gw_driver_is_packed(opt->drivers[i]))
            features |= BIT(GW_F_RING_PACKED);
    }
    return features;
}

static int negotiate_protocol(struct gw_frontend *fe, const struct gw_frontend_options *opt)
{
    uint64_t offered, wanted = opt->protocol_features;
    int r = gw_frontend_get_protocol_features(fe, &offered);

    if (!wanted) {
        wanted = default_protocol_features;
        /* A front-end that negotiates slots must use them, so the table form leaves them out. */
        if (opt->mem_form == GW_FRONTEND_MEM_TABLE)
            wanted &= ~BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
        /* Not by default: with this feature, libvhost-user may insist on a region. */
        if (opt->inflight)
            wanted |= BIT(GW_PROTOCOL_F_INFLIGHT_SHMFD);
    }
    if (r == 0)
        r = gw_frontend_set_protocol_features(fe, offered & wanted);
    if (r == 0 && has_protocol(fe, GW_PROTOCOL_F_MQ))
        r = gw_frontend_get_queue_num(fe, &fe->n_queues_max);
    if (r == 0 && has_protocol(fe, GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS))
        r = gw_frontend_get_max_mem_slots(fe, &fe->n_slots_max);
    if (r == 0 && has_protocol(fe, GW_PROTOCOL_F_BACKEND_REQ))
        r = gw_frontend_set_backend_req_fd(fe);
    return r;
}

static int negotiate(struct gw_frontend *fe, const struct gw_frontend_options *opt)
{
    uint64_t offered;
    int r = gw_frontend_get_features(fe, &offered);

    if (r < 0)
        return r;
    if (!(offered & BIT(GW_F_VERSION_1)))
        return gw_frontend_fail(-EOPNOTSUPP, "negotiate: VERSION_1 is not offered");
    fe->wanted = offered & features_of(opt);
    if (fe->wanted & BIT(GW_F_PROTOCOL_FEATURES))
        r = negotiate_protocol(fe, opt);
    if (r == 0)
        r = gw_frontend_set_owner(fe);
    if (r == 0)
        fe->negotiated = true;
    return r;
}

int gw_frontend_negotiate(struct gw_frontend *fe, const struct gw_frontend_options *given)
{
    struct gw_frontend_options opt;
    int r = gw_copy_struct(&opt, sizeof(opt), given, GW_FIRST_FRONTEND_OPTIONS);

    return r < 0 ? gw_frontend_fail(r, "negotiate: options of another version")
                 : negotiate(fe, &opt);
}

static int give_mem(struct gw_frontend *fe, const struct gw_frontend_options *opt)
{
    unsigned n = gw_guest_mem_count(opt->mem);
    struct gw_guest_region region;
    int r = 0;

    if (opt->mem_form == GW_FRONTEND_MEM_TABLE ||
        (opt->mem_form == GW_FRONTEND_MEM_AUTO &&
         !has_protocol(fe, GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS)))
        return gw_frontend_set_mem_table(fe, opt->mem);
    if (n > fe->n_slots_max)
        return gw_frontend_fail(-ERANGE,
                                "start: %u regions, but the back-end has %" PRIu64 " slots", n,
                                fe->n_slots_max);
    for (unsigned i = 0; r == 0 && i < n; i++) {
        gw_guest_mem_region(opt->mem, i, &region);
        r = gw_frontend_add_region(fe, opt->mem, region.gpa);
    }
    return r < 0 ? r : gw_frontend_acknowledge(fe, GW_MSG_ADD_MEM_REG);
}

/* Without feature bit 30, SET_FEATURES has enabled the rings already ("Ring states"). */
static int enable(struct gw_frontend *fe, const struct gw_driver *d, bool on)
{
    if (!(fe->features & BIT(GW_F_PROTOCOL_FEATURES)))
        return 0;
    return gw_frontend_set_vring_enable(fe, gw_driver_index(d), on);
}

/* Check that the drivers can run with the negotiated features. */
static int check_drivers(struct gw_frontend *fe, const struct gw_frontend_options *opt)
{
    for (unsigned i = 0; i < opt->n_drivers; i++) {
        const struct gw_driver *d = opt->drivers[i];
        int r;

        if (fe->n_queues_max && gw_driver_index(d) >= fe->n_queues_max)
            return gw_frontend_fail(-ERANGE,
                                    "start: queue %u, but the back-end has %" PRIu64 " queues",
                                    gw_driver_index(d), fe->n_queues_max);
        r = gw_driver_check_features(d, fe->wanted);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Start one queue. If the previous session was lost, continue from its used index. */
static int start_queue(struct gw_frontend *fe, const struct gw_frontend_options *opt,
                       struct gw_driver *d)
{
    gw_driver_set_features(d, fe->features);
    if (d->is_started && opt->inflight && opt->inflight->mmap_size)
        gw_driver_restore_base(d);
    return gw_frontend_start_queue(fe, d);
}

static int start(struct gw_frontend *fe, const struct gw_frontend_options *opt)
{
    uint64_t log_all = opt->log ? BIT(GW_F_LOG_ALL) : 0;
    int r = fe->negotiated ? 0 : negotiate(fe, opt);

    if (r == 0)
        r = check_drivers(fe, opt);
    if (r == 0 && opt->inflight) {
        /* The region's layout depends on the features (vhost_dev_prepare_inflight). */
        r = gw_frontend_set_features(fe, fe->wanted);
        if (r == 0)
            r = gw_frontend_prepare_inflight(fe, opt);
    }
    if (r == 0)
        r = gw_frontend_set_features(fe, fe->wanted | log_all);
    if (r == 0 && !fe->has_mem)
        r = give_mem(fe, opt);
    for (unsigned i = 0; r == 0 && i < opt->n_drivers; i++)
        r = start_queue(fe, opt, opt->drivers[i]);
    if (r == 0 && opt->log)
        r = gw_frontend_set_log_base(fe, opt->log);
    for (unsigned i = 0; r == 0 && !opt->no_enable && i < opt->n_drivers; i++)
        r = enable(fe, opt->drivers[i], true);
    return r;
}

int gw_frontend_start(struct gw_frontend *fe, const struct gw_frontend_options *given)
{
    struct gw_frontend_options opt;
    int r = gw_copy_struct(&opt, sizeof(opt), given, GW_FIRST_FRONTEND_OPTIONS);

    return r < 0 ? gw_frontend_fail(r, "start: options of another version") : start(fe, &opt);
}

/* The first of several errors, with its reason. */
struct first_error {
    int r;
    char why[256];
};

static void keep_first(struct first_error *first, int r)
{
    if (r == 0 || first->r < 0)
        return;
    first->r = r;
    snprintf(first->why, sizeof(first->why), "%s", gw_frontend_last_error());
}

int gw_frontend_stop(struct gw_frontend *fe, struct gw_driver **drivers, unsigned n_drivers)
{
    struct first_error first = {0};

    for (unsigned i = 0; i < n_drivers; i++)
        keep_first(&first, enable(fe, drivers[i], false));
    for (unsigned i = 0; i < n_drivers; i++)
        keep_first(&first, gw_frontend_stop_queue(fe, drivers[i]));
    return first.r < 0 ? gw_frontend_fail(first.r, "%s", first.why) : 0;
}
