/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* One disk while the program serves it: its store, its virtio device and its daemon. */
#pragma once

#include "disk_options.h"
#include "store.h"
#include "tasks.h"

enum disk_state {
    DISK_WAITING,  /* until a disk that stops releases its name, socket, file or descriptors */
    DISK_OPENING,  /* a task opens it */
    DISK_SERVING,  /* its daemon runs */
    DISK_STOPPING, /* its daemon has been asked to end */
    DISK_DRAINING, /* its daemon has ended, and some of its requests have not */
    DISK_CLOSING,  /* a task frees its daemon and closes its store */
    DISK_FAILED,   /* it could not be opened; has neither daemon nor store */
    DISK_ENDED,    /* its only session has ended; has neither daemon nor store */
};

/* disks.c has the lock, and changes everything above `store`. */
struct disk {
    struct disk *next;
    struct disk_options *options; /* owned */
    unsigned number;              /* spreads the queues of the disks over the workers */
    enum disk_state state;
    bool is_unwanted;    /* it is removed as soon as it is closed */
    bool is_busy;        /* its task is waiting or running */
    bool has_ended;      /* while DISK_OPENING: its daemon has ended already */
    bool lacks_files;    /* while DISK_WAITING: for descriptors of a disk that stops */
    unsigned n_removed;  /* of the other disks, when the opening began */
    bool has_been_tried; /* it has been opened, or that failed */
    char reason[400];    /* of DISK_FAILED */
    struct store_id id;  /* of the file, once it has been opened */
    int result;          /* of its daemon */
    struct task task;
    struct backend_log log;

    /* Its task only; while DISK_SERVING to DISK_DRAINING they stay as they are. */
    struct store *store;
    struct gw_blk *blk;
    struct gw_daemon *daemon;
};

/* What all disks share. */
struct disk_workers {
    const char *program;
    const struct backend_options *options;
    void (*ended)(void *disk, int result); /* its daemon has ended; on the control worker */
    struct gw_workers *queues;             /* NULL: the only disk, with workers of its own */
    struct gw_workers *control;
};

/*
 * Make the workers of many disks: options->num_workers for their queues, one for their sessions.
 * Returns: 0; a negative errno, which has been logged.
 */
int disk_workers_new(struct disk_workers *workers);
/* After the last disk has been closed. */
void disk_workers_free(struct disk_workers *workers);

/* Consumes `o`. Returns: NULL if memory is short. */
struct disk *disk_new(struct disk_options *o);
void disk_free(struct disk *disk);

/*
 * Open the store, and set `id`. Start the daemon. Close what is open, after the daemon, if there is
 * one, has ended. They may block. Returns: 0 or a negative errno, which has been logged;
 * disk_close: whether all data that were written are on the medium.
 */
int disk_open(struct disk *disk, struct store_id *ret_id);
int disk_start(struct disk *disk, const struct disk_workers *workers);
bool disk_close(struct disk *disk);

/* Read the size of the store again and report a change to the driver. It may block. */
void disk_resize(struct disk *disk);

/* The numbers of requests, of a disk with a daemon. */
void disk_count(const struct disk *disk, uint64_t *in_flight, uint64_t *answered);

/* Its state in words. */
void disk_print_state(const struct disk *disk, FILE *out);
