/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* One device of a benchmark: its guest memory and rings, and its session from connect to stop. */
#include "bench.h"

#include "base/proto.h"
#include "command.h"
#include "probe/feature_names.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR_SIZE 512
#define MEM_MIN     (16u << 20)
#define XEN_MEM_MIN (1u << 20) /* memory that a domain grants is scarce */
#define PAGE        4096

static unsigned max_of(const struct option_list *list)
{
    unsigned max = 0;

    for (unsigned i = 0; i < list->n; i++)
        max = list->values[i] > max ? list->values[i] : max;
    return max;
}

/* For each request its buffers, header, status and indirect table; and the rings. */
static uint64_t memory_length(const struct bench_options *o)
{
    uint64_t block = (max_of(&o->block_sizes) + PAGE - 1) / PAGE * PAGE;
    uint64_t length = o->xen.domid != 0 ? XEN_MEM_MIN : MEM_MIN;

    length +=
        (uint64_t)o->n_queues * max_of(&o->depths) * (block + (uint64_t)o->segments * PAGE + PAGE);
    length += (uint64_t)o->n_queues * o->queue_size * 64;
    return (length + PAGE - 1) / PAGE * PAGE;
}

static int make_guest(struct bench *b, struct bench_session *s)
{
    const struct bench_options *o = b->o;
    struct gw_guest_region region = {.kind = GW_GUEST_MEMFD, .length = memory_length(o)};
    int r = gw_guest_mem_new(&s->mem, GW_GUEST_UVA_HOST);

    if (r == 0)
        r = o->xen.domid != 0 ? bench_xen_memory(b, s, region.length)
                              : gw_guest_mem_add(s->mem, &region);
    for (unsigned i = 0; r == 0 && i < o->n_queues; i++) {
        struct gw_driver_config cfg = {.size = sizeof(cfg),
                                       .mem = s->mem,
                                       .index = i,
                                       .queue_size = o->queue_size,
                                       .indirect_max = o->is_indirect ? o->segments + 2 : 0,
                                       .packed = o->is_packed};
        r = gw_driver_new(&s->drivers[i], &cfg);
        if (r == 0 && o->xen.domid != 0)
            r = bench_xen_driver(b, &cfg, s->drivers[i]);
    }
    if (r < 0)
        message_print("cannot create %" PRIu64 " MiB of guest memory and %u rings: %s",
                      region.length >> 20, o->n_queues,
                      b->error[0] != '\0' ? b->error : strerror(-r));
    return r;
}

/* The virtio features to request for the rings. */
static uint64_t ring_features(const struct bench_options *o)
{
    uint64_t features = FEATURES_BIT(GW_F_RING_INDIRECT_DESC) | FEATURES_BIT(GW_F_RING_EVENT_IDX) |
                        FEATURES_BIT(GW_F_PROTOCOL_FEATURES) | FEATURES_BIT(GW_F_VERSION_1);

    if (o->is_packed)
        features |= FEATURES_BIT(GW_F_RING_PACKED);
    if (o->is_in_order)
        features |= FEATURES_BIT(GW_F_IN_ORDER);
    return features;
}

/* Whether the disk permits the load; reports why not. */
static bool suits_disk(const struct bench_session *s, const struct bench_options *o,
                       uint64_t features)
{
    char why[256];

    if (features & FEATURES_BIT(VIRTIO_BLK_F_RO) && (o->write_percent > 0 || o->is_verified)) {
        message_print("the disk is read-only: --writes and --verify are not possible");
        return false;
    }
    if (o->flush_percent > 0 && !(features & FEATURES_BIT(VIRTIO_BLK_F_FLUSH))) {
        message_print("the disk does not offer FLUSH (9): --flushes is not possible");
        return false;
    }
    if (s->disk.n_queues < o->n_queues) {
        message_print("the disk has %u queues; use fewer --queues", s->disk.n_queues);
        return false;
    }
    for (unsigned i = 0; i < o->block_sizes.n; i++) {
        if (!disk_takes(&s->disk, o->block_sizes.values[i], o->segments, why, sizeof(why))) {
            message_print("%s", why);
            return false;
        }
    }
    return true;
}

/* After negotiation: read and check the disk's config space. Returns: an exit status. */
static int ask_disk(struct bench *b, struct bench_session *s, uint64_t features)
{
    int r = disk_config_read(s->fe, features, &s->disk);

    if (r == -EOPNOTSUPP) {
        message_print("the back-end does not offer CONFIG (9), so it is not a disk");
        return COMMAND_COULD_NOT;
    }
    if (r < 0)
        return message_report_failure(s->target, s->fe, r, "reading the config space",
                                      gw_frontend_last_error());
    s->disk_bytes = s->disk.sectors * SECTOR_SIZE;
    return suits_disk(s, b->o, features) ? COMMAND_OK : COMMAND_COULD_NOT;
}

/* Connect, negotiate and start the rings. Returns: an exit status. */
static int start_device(struct bench *b, struct bench_session *s)
{
    struct gw_frontend_options opt = {.size = sizeof(opt),
                                      .features = ring_features(b->o),
                                      .mem = s->mem,
                                      .drivers = s->drivers,
                                      .n_drivers = b->o->n_queues};
    uint64_t features = 0;
    int r, status;

    if (b->o->device == BENCH_BLK)
        opt.features |= disk_features;
    if (target_connect(s->target, s->fe) < 0)
        return message_report_unreachable(s->target);
    r = gw_frontend_get_features(s->fe, &features);
    if (r == 0 && b->o->is_in_order && !(features & FEATURES_BIT(GW_F_IN_ORDER))) {
        message_print("the back-end does not offer IN_ORDER (35)");
        return COMMAND_COULD_NOT;
    }
    if (r == 0)
        r = gw_frontend_negotiate(s->fe, &opt);
    if (r == 0 && b->o->device == BENCH_BLK) {
        status = ask_disk(b, s, features & opt.features);
        if (status != COMMAND_OK)
            return status;
    }
    if (r == 0)
        r = gw_frontend_start(s->fe, &opt);
    if (r == 0 && s == b->sessions)
        backend_record_take(&b->backend, s->target, s->fe);
    if (r == -ERANGE) {
        message_print("%s; use fewer --queues", gw_frontend_last_error());
        return COMMAND_COULD_NOT;
    }
    if (r == -EOPNOTSUPP) {
        message_print("%s; no request was sent", gw_frontend_last_error());
        return COMMAND_COULD_NOT;
    }
    return r < 0 ? message_report_failure(s->target, s->fe, r, "starting the device",
                                          gw_frontend_last_error())
                 : COMMAND_OK;
}

int bench_session_start(struct bench *b, struct bench_session *s)
{
    int r;

    s->drivers = calloc(b->o->n_queues, sizeof(struct gw_driver *));
    r = s->drivers == NULL ? -ENOMEM : gw_frontend_new(&s->fe, NULL);
    if (r < 0) {
        message_print("%s", strerror(ENOMEM));
        return COMMAND_COULD_NOT;
    }
    return make_guest(b, s) < 0 ? COMMAND_COULD_NOT : start_device(b, s);
}

int bench_session_stop(struct bench *b, struct bench_session *s)
{
    int r = gw_frontend_stop(s->fe, s->drivers, b->o->n_queues);

    return r < 0 ? message_report_failure(s->target, s->fe, r, "stopping the device",
                                          gw_frontend_last_error())
                 : COMMAND_OK;
}

void bench_session_free(struct bench *b, struct bench_session *s)
{
    gw_frontend_free(s->fe);
    for (unsigned i = 0; s->drivers != NULL && i < b->o->n_queues; i++)
        gw_driver_free(s->drivers[i]);
    free(s->drivers);
    bench_xen_free(b);
    gw_guest_mem_free(s->mem);
    target_free(s->target);
}

/* ---- the processes behind the sessions ---- */

void bench_find_processes(struct bench *b)
{
    for (unsigned i = 0; i < b->n_sessions; i++) {
        struct bench_session *s = &b->sessions[i];
        pid_t pid = target_listener(s->target);

        s->is_first_of_process = true;
        for (unsigned k = 0; k < i && s->is_first_of_process; k++)
            s->is_first_of_process = pid == 0 || target_listener(b->sessions[k].target) != pid;
        b->n_processes += s->is_first_of_process;
    }
}

int bench_cpu_ns(const struct bench *b, uint64_t *ret)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < b->n_sessions; i++) {
        uint64_t one = 0;
        int r = b->sessions[i].is_first_of_process ? target_cpu_ns(b->sessions[i].target, &one) : 0;

        if (r < 0)
            return r;
        sum += one;
    }
    *ret = sum;
    return 0;
}
