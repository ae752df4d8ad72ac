/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The evidence shown with the blame of a back-end: the last messages exchanged with it and the last
 * lines of its output.
 */
#pragma once

#include "target/target.h"

#include <stdbool.h>
#include <stdint.h>

#define EVIDENCE_LINES     8
#define EVIDENCE_LINE_SIZE 240

struct evidence_message {
    uint64_t at_ns; /* time since the start of the run; 0: before */
    char text[96];
};

struct evidence {
    char who[64];    /* the target's name */
    bool has_output; /* godwit started the target and reads its output */
    unsigned n_messages, n_lines;
    struct evidence_message messages[GW_FRONTEND_TRACE_MAX]; /* oldest first */
    char lines[EVIDENCE_LINES][EVIDENCE_LINE_SIZE];
};

/* Take the most recent messages. `start_ns`: start of the run (CLOCK_MONOTONIC). */
void evidence_take_messages(struct evidence *e, const struct gw_frontend *fe, uint64_t start_ns);
/* Take the last lines that the target has written so far. */
void evidence_take_output(struct evidence *e, struct target *t);
