/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What the device reports: messages to people, and counters. */
#include "blk_i.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void gw_blk_log(const struct gw_blk_config *cfg, enum gw_log_level level, const char *format, ...)
{
    char text[256];
    va_list args;

    if (level > cfg->log_level)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (cfg->log != NULL)
        cfg->log(cfg->log_arg, level, text);
    else
        fprintf(stderr, "godwit-blk: %s: %s\n", gw_log_level_name(level), text);
}

static uint64_t load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void add_counts(struct gw_blk_count *sum, const struct blk_count *count)
{
    sum->submitted += load(&count->submitted);
    sum->bytes += load(&count->bytes);
    sum->failed += load(&count->failed);
}

void gw_blk_stats(const struct gw_blk *b, struct gw_blk_stats *ret)
{
    struct gw_blk_stats sum = {.size = sizeof(sum)};
    size_t size = ret->size < sizeof(sum) ? ret->size : sizeof(sum);

    for (unsigned i = 0; i < b->config.num_queues; i++) {
        const struct blk_queue *queue = &b->queues[i];

        add_counts(&sum.read, &queue->counts[GW_BLK_READ]);
        add_counts(&sum.write, &queue->counts[GW_BLK_WRITE]);
        add_counts(&sum.flush, &queue->counts[GW_BLK_FLUSH]);
        add_counts(&sum.discard, &queue->counts[GW_BLK_DISCARD]);
        add_counts(&sum.write_zeroes, &queue->counts[GW_BLK_WRITE_ZEROES]);
        sum.refused += load(&queue->refused);
    }
    sum.size = ret->size;
    memcpy(ret, &sum, size);
}
