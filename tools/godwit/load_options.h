/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The options of the load that bench, migrate and crash have in common. A command puts the rows of
 * the options that it has into its table, and points to the variables that receive their values.
 */
#pragma once

#include "options.h"

enum {
    OPTION_LOAD_QUEUES = 'q',
    OPTION_LOAD_WRITES = 'w',
    OPTION_LOAD_PACKED = 0x3000,
    OPTION_LOAD_IN_ORDER,
    OPTION_LOAD_QUEUE_SIZE,
    OPTION_LOAD_DEPTH,
    OPTION_LOAD_BLOCK_SIZE,
    OPTION_LOAD_FLUSHES,
    OPTION_LOAD_DISK_SIZE,
    OPTION_LOAD_SEED,
};

/* clang-format off */
#define LOAD_OPTION_QUEUES \
    {"queues", OPTION_LOAD_QUEUES, "N", 0, "number of queues (default: 1)", 0}
#define LOAD_OPTION_PACKED \
    {"packed", OPTION_LOAD_PACKED, NULL, 0, \
     "use packed rings (RING_PACKED) instead of split ones", 0}
#define LOAD_OPTION_IN_ORDER \
    {"in-order", OPTION_LOAD_IN_ORDER, NULL, 0, "require completion in order (IN_ORDER)", 0}
#define LOAD_OPTION_QUEUE_SIZE(text) \
    {"queue-size", OPTION_LOAD_QUEUE_SIZE, "N", 0, "ring size in entries, " text, 0}
#define LOAD_OPTION_DEPTH(list, text) \
    {"depth", OPTION_LOAD_DEPTH, "N" list, 0, \
     "requests in flight per queue (default: " text ")", 0}
#define LOAD_OPTION_BLOCK_SIZE(list) \
    {"block-size", OPTION_LOAD_BLOCK_SIZE, "SIZE" list, 0, \
     "request size in bytes (default: 4K)", 0}
#define LOAD_OPTION_WRITES(text) \
    {"writes", OPTION_LOAD_WRITES, "PERCENT", 0, \
     "share of writes, which overwrite the disk (default: " text ")", 0}
#define LOAD_OPTION_FLUSHES(text) \
    {"flushes", OPTION_LOAD_FLUSHES, "PERCENT", 0, "share of flushes (default: " text ")", 0}
#define LOAD_OPTION_DISK_SIZE(text) \
    {"disk-size", OPTION_LOAD_DISK_SIZE, "SIZE", 0, \
     "size of the part of the disk to use (default: up to " text ")", 0}
#define LOAD_OPTION_SEED(text) \
    {"seed", OPTION_LOAD_SEED, "N", 0, text, 0}
/* clang-format on */

/* Pointers to what the options set, which has the defaults; NULL: the command lacks the option. */
struct load_options {
    unsigned *n_queues, *queue_size;
    bool *packed, *in_order;
    unsigned *depth, *block_size;
    struct option_list *depths, *block_sizes; /* instead of the two above */
    unsigned *write_percent, *flush_percent;
    unsigned write_percent_min;
    uint64_t *disk_bytes, *seed;
    bool *has_seed;
    bool is_power_of_two; /* the ring size, even of packed rings */
};

/* Parse one option. Returns: 0; ARGP_ERR_UNKNOWN if it is not one of these. */
error_t load_options_parse(int key, char *arg, struct argp_state *state,
                           const struct load_options *o);
/* Checks that need more than one option; call it at ARGP_KEY_END. */
void load_options_check(struct argp_state *state, const struct load_options *o);
