/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "load_options.h"

#define SECTOR_SIZE     512
#define QUEUES_MAX      64
#define QUEUE_SIZE_MAX  32768
#define DEPTH_MAX       8192
#define BLOCK_SIZE_MAX  (1u << 20)
#define BLOCK_SIZES_MAX (8u << 20) /* of a measurement, which does not verify each block */

static void parse_block_size(struct argp_state *state, const char *arg,
                             const struct load_options *o)
{
    if (o->block_sizes != NULL) {
        option_list(state, "block-size", arg, 1, BLOCK_SIZES_MAX, o->block_sizes);
        return;
    }
    *o->block_size = (unsigned)option_size(state, "block-size", arg, SECTOR_SIZE, BLOCK_SIZE_MAX);
    if (*o->block_size % SECTOR_SIZE != 0)
        argp_error(state, "--block-size=%s is not a multiple of %u", arg, SECTOR_SIZE);
}

static void parse_depth(struct argp_state *state, const char *arg, const struct load_options *o)
{
    if (o->depths != NULL)
        option_list(state, "depth", arg, 1, DEPTH_MAX, o->depths);
    else
        *o->depth = (unsigned)option_number(state, "depth", arg, 1, DEPTH_MAX);
}

error_t load_options_parse(int key, char *arg, struct argp_state *state,
                           const struct load_options *o)
{
    switch (key) {
    case OPTION_LOAD_QUEUES:
        *o->n_queues = (unsigned)option_number(state, "queues", arg, 1, QUEUES_MAX);
        break;
    case OPTION_LOAD_PACKED:
        *o->packed = true;
        break;
    case OPTION_LOAD_IN_ORDER:
        *o->in_order = true;
        break;
    case OPTION_LOAD_QUEUE_SIZE:
        *o->queue_size = (unsigned)option_number(state, "queue-size", arg, 2, QUEUE_SIZE_MAX);
        break;
    case OPTION_LOAD_DEPTH:
        parse_depth(state, arg, o);
        break;
    case OPTION_LOAD_BLOCK_SIZE:
        parse_block_size(state, arg, o);
        break;
    case OPTION_LOAD_WRITES:
        *o->write_percent =
            (unsigned)option_number(state, "writes", arg, o->write_percent_min, 100);
        break;
    case OPTION_LOAD_FLUSHES:
        *o->flush_percent = (unsigned)option_number(state, "flushes", arg, 0, 100);
        break;
    case OPTION_LOAD_DISK_SIZE:
        *o->disk_bytes = option_size(state, "disk-size", arg, SECTOR_SIZE, INT64_MAX);
        break;
    case OPTION_LOAD_SEED:
        *o->seed = option_number(state, "seed", arg, 0, UINT64_MAX);
        if (o->has_seed != NULL)
            *o->has_seed = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

void load_options_check(struct argp_state *state, const struct load_options *o)
{
    unsigned size = *o->queue_size; /* 0: not given */

    if ((!*o->packed || o->is_power_of_two) && (size & (size - 1)) != 0)
        argp_error(state, "--queue-size=%u is not a power of two", size);
    if (*o->write_percent + *o->flush_percent > 100)
        argp_error(state, "--writes=%u and --flushes=%u together are more than 100 %%",
                   *o->write_percent, *o->flush_percent);
}
