/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A worker with nothing around it. */
#pragma once

#include "rig.h"

struct bench {
    struct gw_diag diag;
    struct gw_device_ops ops;
    struct gw_worker worker;
    unsigned n; /* atomic: callbacks */
    int fds[2];
    struct gw_timer *timer;
    unsigned order[64];
    unsigned n_order; /* atomic to read */
};

struct numbered {
    struct bench *b;
    unsigned number;
};

void prepare(struct bench *b);
void begin(struct bench *b);
void finish(struct bench *b);
/* What was sent to the worker before has run. */
void settle(struct bench *b);
unsigned count(struct bench *b);

/* Callbacks. `arg` of add_one is the bench, that of note_order a struct numbered. */
int nothing(void *arg);
void add_one(void *arg);
void note_order(void *arg);
void sleep_a_little(void *arg);

/* Post a call of `fn`. Returns: as gw_worker_post. */
int post_call(struct gw_worker *w, void (*fn)(void *arg), void *arg);
