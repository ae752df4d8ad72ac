/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The properties that a back-end reports before it receives any memory or queue. */
#pragma once

#include "feature_names.h"
#include "report/report_evidence.h"
#include "report/verdict.h"

#include <json-c/json.h>
#include <stdio.h>

#define PROBE_CONFIG_MAX 256

struct probe {
    const char *target;       /* socket path or command line */
    const char *command_line; /* repeats the run */
    const char *device_name;
    const struct features_device *device;
    const char *executable, *build_id; /* empty if unknown */
    pid_t pid;
    uint64_t features;
    uint64_t protocol_features; /* 0 without PROTOCOL_FEATURES */
    uint64_t n_queues;          /* 1 if the back-end does not report it */
    uint64_t n_slots;           /* 8, the limit of SET_MEM_TABLE, if not reported */
    bool has_queue_num, has_slots, has_config;
    unsigned config_len; /* the longest accepted length */
    uint8_t config[PROBE_CONFIG_MAX];
    enum verdict verdict;
    char reason[512]; /* explains the verdict */
    bool has_evidence;
    struct evidence evidence; /* if the back-end is at fault or cannot be reached */
};

/*
 * Query a connected back-end. Sets nothing but the owner and the protocol features.
 * Returns: 0; as the requests of frontend.h, with the reason in gw_frontend_last_error.
 */
int probe_ask(struct gw_frontend *fe, struct probe *p);

/* probe_show.c */
void probe_text(const struct probe *p, FILE *out);
/* Returns: NULL if out of memory. */
struct json_object *probe_json(const struct probe *p);
