/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Requests of the back-end: what each must look like, and the callback that serves it. A request
 * that has the wrong form is refused; the channel continues, because the next one can be found.
 */
#include "fe_channel.h"
#include "base/checked.h"
#include "base/struct_sizes.h"
#include "frontend/transport/fe_requests.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

typedef int serve_fn(struct gw_frontend *fe, const struct gw_frontend_message *msg);

static int serve_config_changed(struct gw_frontend *fe, const struct gw_frontend_message *msg)
{
    return fe->channel_ops.config_changed(fe->channel_arg);
}

/* ---- shared memory ---- */

static int read_range(const struct gw_frontend_message *msg, struct gw_frontend_shmem_range *ret)
{
    struct gw_wire_mmap m;

    memcpy(&m, msg->payload, sizeof(m));
    if (m.flags & ~(uint64_t)GW_MMAP_F_WRITABLE)
        return gw_frontend_fail(-EINVAL, "flags %#" PRIx64, m.flags);
    if (m.len == 0 || m.len > UINT64_MAX - m.shm_offset || m.len > UINT64_MAX - m.fd_offset)
        return gw_frontend_fail(-EINVAL, "a range of %#" PRIx64 " bytes", m.len);
    *ret = (struct gw_frontend_shmem_range){
        .shm_offset = m.shm_offset,
        .fd_offset = m.fd_offset,
        .len = m.len,
        .shmid = m.shmid,
        .writable = (m.flags & GW_MMAP_F_WRITABLE) != 0,
    };
    return 0;
}

static int serve_map(struct gw_frontend *fe, const struct gw_frontend_message *msg)
{
    struct gw_frontend_shmem_range range;
    int r = read_range(msg, &range);

    return r < 0 ? r : fe->channel_ops.shmem_map(fe->channel_arg, &range, msg->fds[0]);
}

static int serve_unmap(struct gw_frontend *fe, const struct gw_frontend_message *msg)
{
    struct gw_frontend_shmem_range range;
    int r = read_range(msg, &range);

    if (r < 0)
        return r;
    range.fd_offset = 0;
    range.writable = false;
    return fe->channel_ops.shmem_unmap(fe->channel_arg, &range);
}

/* ---- shared objects ---- */

static int serve_add(struct gw_frontend *fe, const struct gw_frontend_message *msg)
{
    return fe->channel_ops.object_add(fe->channel_arg, msg->payload);
}

static int serve_remove(struct gw_frontend *fe, const struct gw_frontend_message *msg)
{
    return fe->channel_ops.object_remove(fe->channel_arg, msg->payload);
}

/* Returns: the fd. */
static int serve_lookup(struct gw_frontend *fe, const struct gw_frontend_message *msg)
{
    return fe->channel_ops.object_lookup(fe->channel_arg, msg->payload);
}

/* ---- host notifiers ---- */

static int serve_notifier(struct gw_frontend *fe, const struct gw_frontend_message *msg)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    struct gw_wire_vring_area area;
    bool removes;

    memcpy(&area, msg->payload, sizeof(area));
    removes = (area.index & GW_VRING_FD_NONE) != 0;
    if (area.index & ~(uint64_t)(GW_VRING_FD_NONE | GW_VRING_FD_INDEX_MASK))
        return gw_frontend_fail(-EINVAL, "queue %#" PRIx64, area.index);
    if (msg->n_fds != !removes)
        return gw_frontend_fail(-EBADMSG, "%u file descriptors instead of %d", msg->n_fds,
                                !removes);
    if (!removes && (area.size == 0 || area.size % page || area.offset % page ||
                     area.size > UINT64_MAX - area.offset))
        return gw_frontend_fail(-EINVAL, "%#" PRIx64 " bytes at %#" PRIx64, area.size, area.offset);
    return fe->channel_ops.host_notifier(
        fe->channel_arg, (unsigned)(area.index & GW_VRING_FD_INDEX_MASK),
        removes ? -1 : msg->fds[0], removes ? 0 : area.offset, removes ? 0 : area.size);
}

/* ---- the table ---- */

struct row {
    uint32_t size;
    unsigned min_fds, max_fds;
    enum gw_protocol_feature feature;
    size_t op; /* place of the callback in the ops */
    serve_fn *serve;
};

#define OP(name) offsetof(struct gw_frontend_channel_ops, name)

static const struct row rows[] = {
    [GW_BACKEND_MSG_CONFIG_CHANGE] = {0, 0, 0, GW_PROTOCOL_F_CONFIG, OP(config_changed),
                                      serve_config_changed},
    [GW_BACKEND_MSG_VRING_HOST_NOTIFIER] = {sizeof(struct gw_wire_vring_area), 0, 1,
                                            GW_PROTOCOL_F_HOST_NOTIFIER, OP(host_notifier),
                                            serve_notifier},
    [GW_BACKEND_MSG_SHARED_OBJECT_ADD] = {GW_UUID_SIZE, 0, 0, GW_PROTOCOL_F_SHARED_OBJECT,
                                          OP(object_add), serve_add},
    [GW_BACKEND_MSG_SHARED_OBJECT_REMOVE] = {GW_UUID_SIZE, 0, 0, GW_PROTOCOL_F_SHARED_OBJECT,
                                             OP(object_remove), serve_remove},
    [GW_BACKEND_MSG_SHARED_OBJECT_LOOKUP] = {GW_UUID_SIZE, 0, 0, GW_PROTOCOL_F_SHARED_OBJECT,
                                             OP(object_lookup), serve_lookup},
    [GW_BACKEND_MSG_SHMEM_MAP] = {sizeof(struct gw_wire_mmap), 1, 1, GW_PROTOCOL_F_SHMEM,
                                  OP(shmem_map), serve_map},
    [GW_BACKEND_MSG_SHMEM_UNMAP] = {sizeof(struct gw_wire_mmap), 0, 0, GW_PROTOCOL_F_SHMEM,
                                    OP(shmem_unmap), serve_unmap},
};

/* Does the program serve this request? */
static const struct row *find_row(const struct gw_frontend *fe, uint32_t request)
{
    const struct row *row = request < sizeof(rows) / sizeof(rows[0]) ? &rows[request] : NULL;
    void (*op)(void);

    if (!row || !row->serve)
        return NULL;
    memcpy(&op, (const char *)&fe->channel_ops + row->op, sizeof(op));
    return op ? row : NULL;
}

static int check(const struct gw_frontend *fe, const struct row *row,
                 const struct gw_frontend_message *msg)
{
    if ((msg->flags & ~GW_MSG_NEED_REPLY) != GW_MSG_VERSION)
        return gw_frontend_fail(-EPROTO, "flags %#" PRIx32, msg->flags);
    if (msg->size != row->size)
        return gw_frontend_fail(-EBADMSG, "%" PRIu32 " bytes instead of %" PRIu32, msg->size,
                                row->size);
    if (msg->n_fds < row->min_fds || msg->n_fds > row->max_fds)
        return gw_frontend_fail(-EBADMSG, "%u file descriptors instead of %u", msg->n_fds,
                                row->max_fds);
    if (!(fe->protocol_features >> row->feature & 1) && !fe->cfg.no_gates)
        return gw_frontend_fail(-EPERM, "protocol feature %d was not negotiated",
                                (int)row->feature);
    if (msg->n_fds && !(fe->protocol_features >> GW_PROTOCOL_F_BACKEND_SEND_FD & 1) &&
        !fe->cfg.no_gates)
        return gw_frontend_fail(-EPERM, "BACKEND_SEND_FD was not negotiated");
    return 0;
}

bool gw_frontend_serve_request(struct gw_frontend *fe, const struct gw_frontend_message *msg,
                               uint64_t *ret, int *ret_fd)
{
    const struct row *row = find_row(fe, msg->request);
    int r;

    if (!row)
        return false;
    r = check(fe, row, msg);
    if (r == 0)
        r = row->serve(fe, msg);
    *ret = r < 0 ? (uint64_t)-r : 0;
    *ret_fd = r >= 0 && msg->request == GW_BACKEND_MSG_SHARED_OBJECT_LOOKUP ? r : -1;
    return true;
}

uint64_t gw_frontend_channel_features(const struct gw_frontend *fe)
{
    const struct gw_frontend_channel_ops *ops = &fe->channel_ops;
    uint64_t features = 0;

    if (ops->shmem_map)
        features |= GW_FRONTEND_NEEDS(SHMEM) | GW_FRONTEND_NEEDS(BACKEND_SEND_FD);
    if (ops->object_add || ops->object_remove || ops->object_lookup)
        features |= GW_FRONTEND_NEEDS(SHARED_OBJECT);
    if (ops->host_notifier)
        features |= GW_FRONTEND_NEEDS(HOST_NOTIFIER) | GW_FRONTEND_NEEDS(BACKEND_SEND_FD);
    return features;
}

int gw_frontend_set_channel_ops(struct gw_frontend *fe, const struct gw_frontend_channel_ops *ops,
                                void *arg)
{
    struct gw_frontend_channel_ops copy = {.size = 0};
    int r = ops ? gw_copy_struct(&copy, sizeof(copy), ops, GW_FIRST_FRONTEND_CHANNEL_OPS) : 0;

    if (r < 0)
        return gw_frontend_fail(r, "channel: ops of another version");
    fe->channel_ops = copy;
    fe->channel_arg = arg;
    fe->has_channel_ops = ops != NULL;
    (void)gw_frontend_watch(fe);
    return 0;
}

/* ---- requests of the front-end ---- */

static int take_shmem_config(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    struct gw_wire_shmem_config config;
    unsigned n = 0;

    memcpy(&config, answer->payload, sizeof(config));
    for (unsigned i = 0; i < GW_SHMEM_REGIONS; i++)
        n += config.sizes[i] > 0;
    if (n != config.num_regions)
        return gw_frontend_break(op->fe, -EPROTO,
                                 "GET_SHMEM_CONFIG: answered with %u sizes for %" PRIu32 " regions",
                                 n, config.num_regions);
    memcpy(op->call.ret, config.sizes, sizeof(config.sizes));
    return 0;
}

int gw_frontend_encode_get_shmem_config(struct gw_frontend_op *op, uint64_t *ret)
{
    op->call = (struct gw_frontend_call){
        .request = GW_MSG_GET_SHMEM_CONFIG,
        .needs = GW_FRONTEND_NEEDS(SHMEM),
        .has_reply = true,
        .reply_size = sizeof(struct gw_wire_shmem_config),
        .may_refuse = true,
        .finish = take_shmem_config,
        .ret = ret,
    };
    return GW_FRONTEND_STEP_SEND;
}

static int take_object(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    if (answer->n_fds == 0)
        return gw_frontend_fail(-ENOENT, "GET_SHARED_OBJECT: the back-end has no such object");
    *(int *)op->call.ret = answer->fds[0];
    answer->n_fds = 0;
    return 0;
}

int gw_frontend_encode_get_shared_object(struct gw_frontend_op *op, const uint8_t *uuid, int *ret)
{
    op->call = (struct gw_frontend_call){
        .request = GW_MSG_GET_SHARED_OBJECT,
        .size = GW_UUID_SIZE,
        .needs = GW_FRONTEND_NEEDS(SHARED_OBJECT),
        .has_reply = true,
        .reply_size = GW_UUID_SIZE,
        .has_reply_fd = true,
        .finish = take_object,
        .ret = ret,
    };
    memcpy(op->call.payload.bytes, uuid, GW_UUID_SIZE);
    return GW_FRONTEND_STEP_SEND;
}
