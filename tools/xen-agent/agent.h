/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * State of the agent, shared by its files. It belongs to the main thread, except for what a run of
 * the load uses: the main thread leaves that alone during a run.
 */
#pragma once

#include "control.h"
#include "pages.h"

#include "load/load.h"
#include <godwit/frontend/log.h>
#include <pthread.h>
#include <stdbool.h>

#define AGENT_REGIONS_MAX 512

struct xenevtchn_handle;

struct agent_region {
    uint64_t gpa;
    void *window;
    size_t len;
};

struct agent_queue {
    struct gw_driver *driver;
    int port; /* outgoing kicks, incoming calls */
};

struct agent {
    struct xenevtchn_handle *events;
    struct xen_control *control;
    char *bulk;
    int control_port;
    uint32_t seen; /* number of the last request answered */

    struct pages lent;
    struct gw_guest_mem *mem;
    struct gw_guest_track *track;
    struct agent_region regions[AGENT_REGIONS_MAX];
    unsigned n_regions;
    struct agent_queue queues[XEN_QUEUES];
    unsigned n_queues;
    struct gw_guest_disk *disk;
    struct gw_guest_load *load;

    void *state; /* being transferred */
    size_t state_len, state_room;

    /* a run of the load */
    pthread_t runner;
    bool is_running;
    int done_fd; /* signalled when the run ended */
    bool is_drain;
    unsigned run_ms, stall_ms;
    uint64_t n_requests;
    int run_result;
};

/* agent_load.c; all return 0 or a negative errno */
int agent_driver(struct agent *a, uint64_t *ret);
int agent_load(struct agent *a);
int agent_save(struct agent *a, uint64_t which, uint64_t *ret);
int agent_get(struct agent *a, uint64_t offset, uint64_t len);
int agent_put(struct agent *a, uint64_t offset, uint64_t len, uint64_t total);
int agent_restore(struct agent *a, uint64_t which);
int agent_run(struct agent *a, const uint64_t *arg, bool is_drain);
int agent_stats(struct agent *a, bool restart);
/* The run has ended: store its result in the control page. */
void agent_run_ended(struct agent *a);
/* Add what the load did since the last call to the control page. */
void agent_sample(struct agent *a);
/* End a run, then free load, drivers and states. */
void agent_forget(struct agent *a);
