/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A daemon with a device that answers at once or keeps what it gets, behind a socket at `path`, and
 * a machine with drivers that connects to it. Everything fails the test itself.
 */
#pragma once

#include <godwit.h>
#include <godwit/frontend/frontend.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define N_QUEUES 256u

struct daemon_bed {
    unsigned worker_of[N_QUEUES]; /* where each queue started, + 1 */
    unsigned n_worker_starts;     /* atomic */
    unsigned n_worker_stops;      /* atomic */
    int worker_start_result;
    struct gw_request *held[16];
    unsigned n_held; /* atomic */
    bool hold;
};

extern struct daemon_bed device;
extern const struct gw_device_ops device_ops;
extern char path[128];

#define DAEMON_TEST(f) cmocka_unit_test_setup_teardown(f, daemon_bed_setup, daemon_bed_teardown)
int daemon_bed_setup(void **state);
int daemon_bed_teardown(void **state);

/* All defaults, and silent. */
struct gw_daemon_config daemon_bed_config(void);
/* Of that; the device is a new one, too. */
struct gw_daemon *daemon_bed_new(void);

struct gw_frontend *daemon_bed_connect(void);
/* One exchange proves that the session is served. */
void expect_served(struct gw_frontend *fe);
/* Nothing is at the path. */
void expect_no_path(void);

struct vm {
    struct gw_guest_mem *mem;
    struct gw_driver *drivers[N_QUEUES];
    unsigned n;
    struct gw_frontend *fe;
};

/* Connect with `n` queues and start them. */
void vm_boot(struct vm *vm, unsigned n);
void vm_unplug(struct vm *vm);
/* Make a request available, and kick. */
void vm_add(struct vm *vm, unsigned queue);
