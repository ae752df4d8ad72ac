/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "disk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct disk *disk_new(struct disk_options *o)
{
    struct disk *disk = calloc(1, sizeof(*disk));

    if (disk == NULL) {
        disk_options_free(o);
        return NULL;
    }
    disk->options = o;
    backend_log_init(&disk->log, o->name[0] != '\0' ? o->name : NULL);
    return disk;
}

void disk_free(struct disk *disk)
{
    disk_options_free(disk->options);
    free(disk);
}

int disk_open(struct disk *disk, struct store_id *ret_id)
{
    const struct disk_options *o = disk->options;
    struct store_file_options file = o->file;
    struct store *store = NULL;
    int r;

    file.log = &disk->log;
    r = o->ram != 0 ? store_ram_new(&store, o->ram, file.block_size, file.is_read_only, &disk->log)
                    : store_file_new(&store, &file);
    if (r == 0 && o->ignores_discard)
        store->can_unmap = false;
    if (r == 0 && o->delay_ms != 0) {
        struct store *behind = store;

        r = store_delay_new(&store, behind, o->delay_ms);
        if (r < 0)
            behind->ops->free(behind);
    }
    if (r < 0)
        return r;
    disk->store = store;
    *ret_id = store->id;
    return 0;
}

/* ---- the daemon ---- */

static int new_workers(struct gw_workers **ret, const struct gw_workers_config *cfg)
{
    int r = gw_workers_new(ret, cfg);

    if (r < 0)
        backend_say_no_loop(NULL, r, cfg->loop, "cannot create workers");
    return r;
}

int disk_workers_new(struct disk_workers *workers)
{
    struct gw_workers_config cfg = {
        .size = sizeof(cfg),
        .num_workers = workers->options->num_workers,
        .loop = workers->options->loop,
        .poll_us = workers->options->poll_us,
        .log = backend_log_cb,
        .log_level = backend_say_level(),
    };
    int r = new_workers(&workers->queues, &cfg);

    if (r < 0)
        return r;
    cfg.num_workers = 1;
    cfg.loop = GW_LOOP_EPOLL; /* it does no file I/O */
    cfg.poll_us = 0;
    cfg.name = "gw-control";
    return new_workers(&workers->control, &cfg);
}

void disk_workers_free(struct disk_workers *workers)
{
    if (gw_workers_free(workers->queues) < 0 || gw_workers_free(workers->control) < 0)
        backend_say(NULL, GW_LOG_ERROR, "cannot free the workers: %s", gw_last_error());
    workers->queues = workers->control = NULL;
}

static unsigned min(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/*
 * Each queue of the disk has a worker, as long as there are more workers than queues. The first
 * queues of different disks have different workers.
 */
static void use_workers(struct gw_daemon_config *cfg, const struct disk *disk,
                        const struct disk_workers *workers, struct gw_worker *array[])
{
    unsigned n = workers->options->num_workers;

    if (workers->queues == NULL)
        return;
    for (unsigned i = 0; i < cfg->num_workers; i++)
        array[i] = gw_workers_get(workers->queues, (disk->number + i) % n);
    cfg->workers = array;
    cfg->control = gw_workers_get(workers->control, 0);
}

/* Rate-limited, because a front-end may start sessions quickly. */
static void log_device(void *arg, enum gw_log_level level, const char *message)
{
    backend_say(arg, level, "%s", message);
}

/* Returns: 0; a negative errno, which has been logged. */
static int new_device(struct disk *disk)
{
    const struct disk_options *o = disk->options;
    const struct store *store = disk->store;
    const struct store_topology *t = &store->topology;
    int r = gw_blk_new(&disk->blk,
                       &(struct gw_blk_config){
                           .size = sizeof(struct gw_blk_config),
                           .capacity = atomic_load(&store->size),
                           .block_size = store->block_size,
                           .is_read_only = store->is_read_only,
                           .can_discard = store->can_unmap,
                           .num_queues = o->device.num_queues,
                           .queue_size_max = o->device.queue_size,
                           .serial = o->serial,
                           .physical_block = t->physical_block,
                           .alignment_offset = t->alignment_offset,
                           .io_min = t->io_min,
                           .io_opt = t->io_opt,
                           .discard_align = t->discard_align,
                           .log = log_device,
                           .log_arg = &disk->log,
                           .log_level = backend_say_level(),
                           .access_platform = o->iommu,
                       },
                       &store->ops->blk, disk->store);

    if (r == -ENOMEM)
        backend_say(&disk->log, GW_LOG_ERROR, "no memory for %u queues", o->device.num_queues);
    return r;
}

static int new_daemon(struct disk *disk, const struct disk_workers *workers)
{
    const struct backend_device *device = &disk->options->device;
    const struct backend_options *o = workers->options;
    struct gw_worker *array[GW_WORKERS_MAX];
    struct gw_daemon_config cfg = {
        .size = sizeof(cfg),
        .name = workers->program,
        .num_workers = min(o->num_workers, device->num_queues),
        .loop = o->loop,
        .poll_us = o->poll_us,
        .xen_persistent_grants = device->xen_persistent_grants,
        .reconnect_max_ms = device->reconnect_s * 1000,
        .log = backend_log_cb,
        .log_arg = &disk->log,
        .log_level = backend_say_level(),
        .handle_sigbus = true,
        .ended = workers->ended,
        .ended_arg = disk,
    };
    int r;

    gw_blk_configure(disk->blk, &cfg);
    use_workers(&cfg, disk, workers, array);
    r = gw_daemon_new(&disk->daemon, &cfg, gw_blk_ops(), disk->blk);
    if (r < 0)
        backend_say_no_loop(&disk->log, r, o->loop, "cannot create the daemon");
    return r;
}

int disk_start(struct disk *disk, const struct disk_workers *workers)
{
    int r = new_device(disk);

    if (r == 0)
        r = new_daemon(disk, workers);
    if (r == 0)
        r = backend_start_daemon(disk->daemon, &disk->options->device, &disk->log);
    return r;
}

bool disk_close(struct disk *disk)
{
    bool has_kept_data;

    gw_daemon_free(disk->daemon);
    disk->daemon = NULL;
    has_kept_data = disk->blk == NULL || gw_blk_stop_error(disk->blk) == 0;
    gw_blk_free(disk->blk);
    disk->blk = NULL;
    if (disk->store != NULL)
        disk->store->ops->free(disk->store);
    disk->store = NULL;
    return has_kept_data;
}

void disk_resize(struct disk *disk)
{
    struct store *store = disk->store;

    if (store->ops->resize(store) == 0)
        (void)gw_blk_resize(disk->blk, disk->daemon, atomic_load(&store->size));
}

/* ---- reports ---- */

void disk_count(const struct disk *disk, uint64_t *in_flight, uint64_t *answered)
{
    for (unsigned i = 0; i < disk->options->device.num_queues; i++) {
        struct gw_queue_stats stats;

        gw_queue_stats(gw_daemon_queue(disk->daemon, i), &stats);
        *in_flight += stats.in_flight;
        *answered += stats.completed;
    }
}

void disk_print_state(const struct disk *disk, FILE *out)
{
    static const char *const words[] = {
        [DISK_WAITING] = "waiting for a disk that stops",
        [DISK_OPENING] = "opening",
        [DISK_SERVING] = "serving",
        [DISK_STOPPING] = "stopping",
        [DISK_DRAINING] = "stopping",
        [DISK_CLOSING] = "closing",
        [DISK_FAILED] = "failed",
        [DISK_ENDED] = "ended",
    };
    uint64_t in_flight = 0, answered = 0;

    fputs(words[disk->state], out);
    if (disk->state == DISK_FAILED)
        fprintf(out, ": %s", disk->reason);
    if (disk->state != DISK_STOPPING && disk->state != DISK_DRAINING)
        return;
    disk_count(disk, &in_flight, &answered);
    fprintf(out, ": %" PRIu64 " requests in flight", in_flight);
}
