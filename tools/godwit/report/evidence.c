/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See evidence.h. */
#include "evidence.h"

#include <stdio.h>
#include <string.h>

void evidence_take_messages(struct evidence *e, const struct gw_frontend *fe, uint64_t start_ns)
{
    struct gw_frontend_trace trace[GW_FRONTEND_TRACE_MAX];

    e->n_messages = fe != NULL ? gw_frontend_last_messages(fe, trace) : 0;
    for (unsigned i = 0; i < e->n_messages; i++) {
        struct evidence_message *m = &e->messages[i];

        m->at_ns = trace[i].at_ns > start_ns ? trace[i].at_ns - start_ns : 0;
        gw_frontend_trace_text(&trace[i], m->text, sizeof(m->text));
    }
}

void evidence_take_output(struct evidence *e, struct target *t)
{
    const char *text;

    snprintf(e->who, sizeof(e->who), "%s", target_name(t));
    e->has_output = target_is_command(t);
    e->n_lines = 0;
    for (text = target_last_lines(t); *text != '\0' && e->n_lines < EVIDENCE_LINES;) {
        size_t len = strcspn(text, "\n");

        snprintf(e->lines[e->n_lines++], EVIDENCE_LINE_SIZE, "%.*s", (int)len, text);
        text += len + (text[len] == '\n');
    }
}
