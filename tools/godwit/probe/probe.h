/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What a back-end tells about itself before any memory or queue is given to it. */
#pragma once

#include "feature_names.h"
#include "report/report_evidence.h"
#include "report/verdict.h"

#include <json-c/json.h>
#include <stdio.h>

#define PROBE_CONFIG_MAX 256

struct probe {
    const char *target; /* its text */
    const char *device_name;
    const struct features_device *device;
    pid_t pid;
    uint64_t features;
    uint64_t protocol_features; /* 0 without PROTOCOL_FEATURES */
    uint64_t n_queues;          /* 1 where it cannot be asked */
    uint64_t n_slots;           /* 8, those of the table form, where it cannot be asked */
    bool has_queue_num, has_slots, has_config;
    unsigned config_len; /* the longest that it answers */
    uint8_t config[PROBE_CONFIG_MAX];
    enum verdict verdict;
    char reason[512]; /* a sentence on the verdict */
    bool has_evidence;
    struct evidence evidence; /* where the back-end is at fault, or cannot be reached */
};

/*
 * Ask a connected back-end. Nothing but SET_OWNER and the protocol features is set.
 * Returns: 0; as the requests of frontend.h, whose gw_frontend_error tells more.
 */
int probe_ask(struct gw_frontend *fe, struct probe *p);

/* probe_show.c */
void probe_text(const struct probe *p, FILE *out);
/* NULL: no memory. */
struct json_object *probe_json(const struct probe *p);
