/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Daemons that are driven through postcopy: a guest runs a verified load on them, is switched to a
 * memory that is empty, and its pages come from the old one by the fault server, when somebody
 * waits for them or one after the other. Functions without a return value fail the cmocka test
 * themselves.
 */
#pragma once

#include "bed.h"

#include <godwit/frontend/fault.h>

#define POST_DEVICES_MAX 2
#define POST_HOT_GPA     UINT64_C(0x80000000)
#define POST_HOT_SIZE    UINT64_C(0x21000)

struct post_config {
    struct bed_config bed;
    enum gw_frontend_mem_form form;
    unsigned n_devices;     /* default 1 */
    unsigned n_load_queues; /* of each; 0: no load */
};

struct post_device {
    struct bed bed;
    struct gw_frontend *fe;
    struct gw_frontend_options opt;
    struct gw_driver *drivers[BED_QUEUES];
    struct gw_guest_disk *disk;
    struct gw_guest_load *load;
    pthread_t thread;
    int result; /* of the load's thread */
    struct gw_driver_blk blk[BED_QUEUES];
    struct gw_driver_buf buf[BED_QUEUES]; /* a page each */
    struct gw_fault_client *client;
};

struct post {
    struct post_config cfg;
    struct post_device devices[POST_DEVICES_MAX];
    struct gw_guest_mem *from, *to;
    struct gw_fault_server *server;
    gw_gpa_t later;      /* atomic: the page that comes by post_send only */
    unsigned n_later;    /* atomic: how often somebody waited for it */
    unsigned n_problems; /* atomic */
    bool is_stopped;
    char problem[256];
};

/* Daemons, and a guest on them that has run for a while. */
void post_begin(struct post *p, const struct post_config *cfg);
/* The devices are stopped; the new memory is empty, its server serves. Nobody is connected. */
void post_leave(struct post *p);
/* Connect one device and listen; then start it. What post_switch does for each. */
void post_listen(struct post *p, unsigned i);
void post_start(struct post *p, unsigned i);
void post_switch(struct post *p);

/* A region of POST_HOT_SIZE is plugged into the new memory, in the form of the config. */
void post_plug(struct post *p, gw_gpa_t gpa);

/* The loads on their threads; post_join ends them and checks the disks. */
void post_load(struct post *p);
void post_join(struct post *p);
/* All pages come, one by one. */
void post_stream(struct post *p);
/* The page of `later`. */
void post_send(struct post *p);
/* POSTCOPY_END: at once, though the load runs. */
void post_finish(struct post *p, unsigned i);

/* Add a request for buf[queue] and kick; wait until it is done and has data of `pattern`. */
void post_write(struct post *p, unsigned queue, uint64_t sector);
void post_read(struct post *p, unsigned queue, uint64_t sector);
void post_wait(struct post *p, unsigned queue);
/* A worker sleeps in the page of `later`. */
void post_await_waiting(struct post *p);
/* The load has asked for a page. */
void post_await_fault(struct post *p);

/* After post_join: nobody is connected, and the new memory is the old one of another switch. */
void post_next(struct post *p);
/*
 * A guest that is connected, and nobody who serves its faults: each queue has a request into a page
 * that is missing, and at least one is waited for. `ret_uffd` has been read from.
 * Returns: 0 or a negative errno.
 */
int post_starve(struct guest *g, int *ret_uffd);

/* Skips the program, with the reason, where faults cannot be served. */
void post_require_faults(void);

/* The daemons are stopped, whatever goes on; post_end starts them again. */
void post_stop(struct post *p);

/* What there was to serve was served, and the daemons serve the next. */
void post_end(struct post *p);
