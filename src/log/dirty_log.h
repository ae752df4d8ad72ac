/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The dirty log of SET_LOG_BASE: a mapped bitmap with bounds, and an error that stays.
 *
 * A log never changes. Every queue adopts a new one before the old one is freed: no queue writes
 * the old bitmap then, and no mark falls between the two, because each queue marks in one or the
 * other. In postcopy the front-end is answered before that. The old log then names its successor,
 * and a mark goes into both: no bitmap is ever searched for marks, however long a front-end made
 * it.
 */
#pragma once

#include "core/memory/mapping.h"

#include <godwit/memory.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gw_dirty_log {
    uint8_t *bitmap; /* may begin at any byte */
    uint64_t size;   /* bytes of it */
    struct gw_mapping mapping;
    uint64_t n_lost;                /* atomic: marks that fell outside */
    struct gw_dirty_log *successor; /* atomic: marks go there too; NULL: none */
};

/*
 * Map `size` bytes at `offset` of the file. Consumes `fd`, also on failure.
 * Returns: 0; -EINVAL for an empty, overflowing or too large range, or a file shorter than that;
 * -ENOMEM; the errno of mmap(2); with gw_last_error.
 */
int gw_dirty_log_new(struct gw_dirty_log **ret, int fd, gw_off_t offset, uint64_t size);
void gw_dirty_log_free(struct gw_dirty_log *log);

/* As gw_mapping_guard and gw_mapping_check. */
void gw_dirty_log_guard(struct gw_dirty_log *log, struct gw_loss *loss);
int gw_dirty_log_check(const struct gw_dirty_log *log);

/*
 * Where an address is in the log. Pages that a Xen domain granted have bit 63 set in theirs, and no
 * log is as long as that: the log has them by their references, which is what is left without it
 * (docs/memory-backends.md). No other address that a log covers has the bit.
 */
static inline gw_gpa_t gw_dirty_log_address(gw_gpa_t gpa)
{
    return gpa & (UINT64_MAX >> 1);
}

/* Can every byte of [gpa, gpa + len) be marked? */
bool gw_dirty_log_covers(const struct gw_dirty_log *log, gw_gpa_t gpa, uint64_t len);

/*
 * Mark what was written, after it was written and a full fence, which may be one for many marks. A
 * range that the log does not cover is marked as far as it does, and counted as lost.
 * Context: any thread.
 */
void gw_dirty_log_mark(struct gw_dirty_log *log, gw_gpa_t gpa, uint64_t len);
/*
 * The same for references of which any may have been written to, as far as the log has them. Marks
 * up to the last reference, 512 MiB of log, however long the front-end made the log or the region.
 */
void gw_dirty_log_mark_known(struct gw_dirty_log *log, gw_gpa_t gpa, uint64_t len);

/*
 * `log` replaces `old`, in which some queues go on marking. Call it before the front-end is
 * answered: a mark that its last look at `old` misses is in `log`. `log` outlives `old`.
 */
void gw_dirty_log_succeed(struct gw_dirty_log *old, struct gw_dirty_log *log);

static inline uint64_t gw_dirty_log_n_lost(const struct gw_dirty_log *log)
{
    return __atomic_load_n(&log->n_lost, __ATOMIC_RELAXED);
}
