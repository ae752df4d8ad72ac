/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Complete sessions in QEMU's order (vhost_user_backend_init, vhost_dev_init, vhost_dev_start and
 * vhost_dev_stop), as a conforming front-end runs them. Each is an operation whose steps send the
 * messages. The state of the session is in struct gw_frontend.
 */
#include "base/checked.h"
#include "base/struct_sizes.h"
#include "fe_requests.h"
#include "frontend/channel/fe_channel.h"
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
    BIT(GW_PROTOCOL_F_STATUS) | BIT(GW_PROTOCOL_F_XEN_MMAP) | BIT(GW_PROTOCOL_F_DEVICE_STATE);

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

/* An encoder as a step that is called again after its message. */
static int again(int r)
{
    return r == GW_FRONTEND_STEP_SEND ? GW_FRONTEND_STEP_SEND_AGAIN : r;
}

/* ---- Negotiation ---- */

static int ask_features(struct gw_frontend_op *op)
{
    return gw_frontend_encode_get_features(op, &op->offered);
}

static int ask_protocol_features(struct gw_frontend_op *op)
{
    struct gw_frontend *fe = op->fe;

    if (!(fe->offered & BIT(GW_F_VERSION_1)))
        return gw_frontend_fail(-EOPNOTSUPP, "negotiate: VERSION_1 is not offered");
    fe->wanted = fe->offered & features_of(&op->opt);
    if (!(fe->wanted & BIT(GW_F_PROTOCOL_FEATURES)))
        return GW_FRONTEND_STEP_DONE;
    return gw_frontend_encode_get_u64(op, GW_MSG_GET_PROTOCOL_FEATURES, 0, &op->offered);
}

static int set_protocol_features(struct gw_frontend_op *op)
{
    uint64_t wanted = op->opt.protocol_features;

    if (!(op->fe->wanted & BIT(GW_F_PROTOCOL_FEATURES)))
        return GW_FRONTEND_STEP_DONE;
    if (!wanted) {
        wanted = default_protocol_features;
        /* A front-end that negotiates slots must use them, so the table form leaves them out. */
        if (op->opt.mem_form == GW_FRONTEND_MEM_TABLE)
            wanted &= ~BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
        /* Not by default: with this feature, libvhost-user may insist on a region. */
        if (op->opt.inflight)
            wanted |= BIT(GW_PROTOCOL_F_INFLIGHT_SHMFD);
        wanted |= gw_frontend_channel_features(op->fe);
    }
    return gw_frontend_encode_set_protocol_features(op, op->offered & wanted);
}

static int ask_queue_num(struct gw_frontend_op *op)
{
    if (!has_protocol(op->fe, GW_PROTOCOL_F_MQ))
        return GW_FRONTEND_STEP_DONE;
    return gw_frontend_encode_get_u64(op, GW_MSG_GET_QUEUE_NUM, 0, &op->fe->n_queues_max);
}

static int ask_mem_slots(struct gw_frontend_op *op)
{
    if (!has_protocol(op->fe, GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS))
        return GW_FRONTEND_STEP_DONE;
    return gw_frontend_encode_get_u64(op, GW_MSG_GET_MAX_MEM_SLOTS, 0, &op->fe->n_slots_max);
}

static int set_channel(struct gw_frontend_op *op)
{
    if (!has_protocol(op->fe, GW_PROTOCOL_F_BACKEND_REQ))
        return GW_FRONTEND_STEP_DONE;
    return gw_frontend_encode_backend_req_fd(op);
}

static int set_owner(struct gw_frontend_op *op)
{
    return gw_frontend_encode_nothing(op, GW_MSG_SET_OWNER, 0);
}

static int end_negotiation(struct gw_frontend_op *op)
{
    op->fe->negotiated = true;
    return GW_FRONTEND_STEP_DONE;
}

static gw_frontend_step *const negotiation[] = {
    ask_features,  ask_protocol_features, set_protocol_features,
    ask_queue_num, ask_mem_slots,         set_channel,
    set_owner,     end_negotiation,       NULL,
};

int gw_frontend_encode_negotiate(struct gw_frontend_op *op, const struct gw_frontend_options *given)
{
    int r = gw_copy_struct(&op->opt, sizeof(op->opt), given, GW_FIRST_FRONTEND_OPTIONS);

    if (r < 0)
        return gw_frontend_fail(r, "negotiate: options of another version");
    op->steps = negotiation;
    return GW_FRONTEND_STEP_SEND;
}

/* ---- Start ---- */

/* Check that the drivers can run with the negotiated features. */
static int check_drivers(struct gw_frontend_op *op)
{
    struct gw_frontend *fe = op->fe;

    for (unsigned i = 0; i < op->n_drivers; i++) {
        const struct gw_driver *d = op->drivers[i];
        int r;

        if (fe->n_queues_max && gw_driver_index(d) >= fe->n_queues_max)
            return gw_frontend_fail(-ERANGE,
                                    "start: queue %u, but the back-end has %" PRIu64 " queues",
                                    gw_driver_index(d), fe->n_queues_max);
        r = gw_driver_check_features(d, fe->wanted);
        if (r < 0)
            return r;
    }
    return GW_FRONTEND_STEP_DONE;
}

/* The region's layout depends on the features (vhost_dev_prepare_inflight). */
static int set_features_of_inflight(struct gw_frontend_op *op)
{
    if (!op->opt.inflight)
        return GW_FRONTEND_STEP_DONE;
    return gw_frontend_encode_set_features(op, op->fe->wanted);
}

static int get_inflight(struct gw_frontend_op *op)
{
    unsigned num_queues = 1, queue_size = 1;

    if (!op->opt.inflight || op->opt.inflight->mmap_size)
        return GW_FRONTEND_STEP_DONE;
    for (unsigned i = 0; i < op->n_drivers; i++) {
        if (gw_driver_index(op->drivers[i]) >= num_queues)
            num_queues = gw_driver_index(op->drivers[i]) + 1;
        if (gw_driver_size(op->drivers[i]) > queue_size)
            queue_size = gw_driver_size(op->drivers[i]);
    }
    return gw_frontend_encode_get_inflight(op, num_queues, queue_size, op->opt.inflight);
}

static int set_inflight(struct gw_frontend_op *op)
{
    if (!op->opt.inflight || !op->opt.inflight->mmap_size)
        return GW_FRONTEND_STEP_DONE;
    return gw_frontend_encode_set_inflight(op, op->opt.inflight);
}

static int set_features(struct gw_frontend_op *op)
{
    uint64_t log_all = op->opt.log ? BIT(GW_F_LOG_ALL) : 0;

    return gw_frontend_encode_set_features(op, op->fe->wanted | log_all);
}

static bool uses_table(const struct gw_frontend_op *op)
{
    return op->opt.mem_form == GW_FRONTEND_MEM_TABLE ||
           (op->opt.mem_form == GW_FRONTEND_MEM_AUTO &&
            !has_protocol(op->fe, GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS));
}

/* Send the table or each region, then the acknowledgement of postcopy. */
static int give_mem(struct gw_frontend_op *op)
{
    unsigned n = uses_table(op) ? 1 : gw_guest_mem_count(op->opt.mem), i = op->i;
    struct gw_frontend *fe = op->fe;
    struct gw_guest_region region;

    if (i == 0 && fe->has_mem)
        return GW_FRONTEND_STEP_DONE;
    if (i >= n)
        return gw_frontend_encode_acknowledge(op, uses_table(op) ? GW_MSG_SET_MEM_TABLE
                                                                 : GW_MSG_ADD_MEM_REG);
    if (uses_table(op))
        return again(gw_frontend_encode_table(op, op->opt.mem));
    if (n > fe->n_slots_max)
        return gw_frontend_fail(-ERANGE,
                                "start: %u regions, but the back-end has %" PRIu64 " slots", n,
                                fe->n_slots_max);
    gw_guest_mem_region(op->opt.mem, i, &region);
    return again(gw_frontend_encode_region(op, GW_MSG_ADD_MEM_REG, op->opt.mem, region.gpa));
}

/* If the previous session was lost, the queues continue from their used indices. */
static int prepare_drivers(struct gw_frontend_op *op)
{
    for (unsigned i = 0; i < op->n_drivers; i++) {
        struct gw_driver *d = op->drivers[i];

        gw_driver_set_features(d, op->fe->features);
        if (d->is_started && op->opt.inflight && op->opt.inflight->mmap_size)
            gw_driver_restore_base(d);
    }
    return GW_FRONTEND_STEP_DONE;
}

static int start_queues(struct gw_frontend_op *op)
{
    unsigned i = op->i / GW_FRONTEND_START_MESSAGES;

    if (i == op->n_drivers)
        return GW_FRONTEND_STEP_DONE;
    return again(
        gw_frontend_encode_start_queue(op, op->drivers[i], op->i % GW_FRONTEND_START_MESSAGES));
}

static int set_log(struct gw_frontend_op *op)
{
    if (!op->opt.log)
        return GW_FRONTEND_STEP_DONE;
    return gw_frontend_encode_log_base(op, op->opt.log);
}

/* Without feature bit 30, SET_FEATURES has enabled the rings already ("Ring states"). */
static int enable_queues(struct gw_frontend_op *op)
{
    if (op->i == op->n_drivers || op->opt.no_enable ||
        !(op->fe->features & BIT(GW_F_PROTOCOL_FEATURES)))
        return GW_FRONTEND_STEP_DONE;
    return again(gw_frontend_encode_vring_enable(op, gw_driver_index(op->drivers[op->i]), op->on));
}

static gw_frontend_step *const start[] = {
    check_drivers, set_features_of_inflight,
    get_inflight,  set_inflight,
    set_features,  gw_frontend_step_features_ok,
    give_mem,      prepare_drivers,
    start_queues,  set_log,
    enable_queues, gw_frontend_step_driver_ok,
    NULL,
};

static int begin_start(struct gw_frontend_op *op)
{
    op->steps = op->fe->negotiated ? start : negotiation;
    op->then = op->fe->negotiated ? NULL : start;
    return GW_FRONTEND_STEP_DONE;
}

int gw_frontend_encode_start(struct gw_frontend_op *op, const struct gw_frontend_options *given)
{
    static gw_frontend_step *const steps[] = {begin_start, NULL};
    int r = gw_copy_struct(&op->opt, sizeof(op->opt), given, GW_FIRST_FRONTEND_OPTIONS);

    if (r < 0)
        return gw_frontend_fail(r, "start: options of another version");
    op->drivers = op->opt.drivers;
    op->n_drivers = op->opt.n_drivers;
    op->on = true;
    op->steps = steps;
    return GW_FRONTEND_STEP_SEND;
}

int gw_frontend_encode_start_one(struct gw_frontend_op *op, struct gw_driver *d)
{
    static gw_frontend_step *const steps[] = {start_queues, NULL};

    op->driver = d;
    op->drivers = &op->driver;
    op->n_drivers = 1;
    op->steps = steps;
    return GW_FRONTEND_STEP_SEND;
}

/* ---- Stop ---- */

static int stop_queues(struct gw_frontend_op *op)
{
    if (op->i == op->n_drivers)
        return GW_FRONTEND_STEP_DONE;
    return again(gw_frontend_encode_stop_queue(op, op->drivers[op->i]));
}

int gw_frontend_encode_stop(struct gw_frontend_op *op, struct gw_driver **drivers,
                            unsigned n_drivers)
{
    static gw_frontend_step *const steps[] = {enable_queues, stop_queues,
                                              gw_frontend_step_reset_status, NULL};

    op->drivers = drivers;
    op->n_drivers = n_drivers;
    op->keeps_going = true;
    op->steps = steps;
    return GW_FRONTEND_STEP_SEND;
}
