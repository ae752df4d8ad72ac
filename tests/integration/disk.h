/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A virtio-blk disk as small as one can be, on the public interface alone: in memory and done at
 * once, in a file with the worker's own file I/O, or in memory and done later.
 */
#pragma once

#include <godwit.h>
#include <pthread.h>
#include <stdint.h>

#define DISK_SIZE   (UINT64_C(4) << 20)
#define DISK_CONFIG 64 /* bytes of config space; the first 8 are the capacity in sectors */

enum disk_kind {
    DISK_RAM = 0,
    DISK_FILE,
    DISK_SLOW, /* memory; each request takes delay_ms */
};

struct disk {
    enum disk_kind kind;
    unsigned delay_ms; /* atomic */
    bool refuses;      /* atomic: the next start of a queue */
    uint8_t *ram;
    pthread_mutex_t ram_lock; /* two queues may be at one block */
    int fd;
};

/* Bytes of its own that the disk wants in every request. */
size_t disk_request_size(void);
extern const struct gw_device_ops disk_ops;

/* Returns: 0 or a negative errno. */
int disk_init(struct disk *disk, enum disk_kind kind, unsigned delay_ms);
void disk_done(struct disk *disk);
