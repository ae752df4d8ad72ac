/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What a blame of a back-end is to be judged by: the last messages exchanged with it and the last
 * lines that it wrote.
 */
#pragma once

#include "target/target.h"

#include <stdbool.h>
#include <stdint.h>

#define EVIDENCE_LINES     8
#define EVIDENCE_LINE_SIZE 240

struct evidence_message {
    uint64_t at_ns; /* since the run began; 0: before */
    char text[96];
};

struct evidence {
    char who[64];    /* the target's name */
    bool has_output; /* godwit started it, and reads what it writes */
    unsigned n_messages, n_lines;
    struct evidence_message messages[GW_FRONTEND_TRACE_MAX]; /* oldest first */
    char lines[EVIDENCE_LINES][EVIDENCE_LINE_SIZE];
};

/* The last messages as they are now. `start_ns`: when the run began, of CLOCK_MONOTONIC. */
void evidence_take_messages(struct evidence *e, const struct gw_frontend *fe, uint64_t start_ns);
/* The last lines that it has written by now. */
void evidence_take_output(struct evidence *e, struct target *t);
