/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The dirty log of SET_LOG_BASE: a mapped bitmap with bounds, and a sticky error.
 *
 * The extent of a log never changes. Every queue switches to a new log before the old one is freed.
 * Then no queue writes the old bitmap, and no mark is lost between the two, because each queue
 * marks in one or the other. In postcopy the front-end receives its reply before all queues have
 * switched. The old log then points to its successor, and marks go into both. So no bitmap ever
 * has to be searched for marks, whatever size the front-end gave it.
 */
#pragma once

#include "core/memory/mapping.h"

#include <godwit/memory.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gw_dirty_log {
    uint8_t *bitmap; /* not necessarily aligned */
    uint64_t size;   /* of the bitmap, in bytes */
    struct gw_mapping mapping;
    uint64_t n_lost;                /* atomic: marks that fell outside the bitmap */
    struct gw_dirty_log *successor; /* atomic: marks go there too; NULL: none */
};

/* What to log, and where. The session owns all of it. */
struct gw_dirty_log_state {
    struct gw_dirty_log *log; /* NULL: no SET_LOG_BASE yet */
    bool all;                 /* LOG_ALL: buffers are logged, and without a log nothing runs */
    int event_fd;             /* of SET_LOG_FD, -1: none */
};

/*
 * Map `size` bytes at `offset` of the file. Consumes `fd`, also on failure.
 * Returns: 0; -EINVAL for an empty, overflowing or too large range, or a file shorter than the
 * range; -ENOMEM; the errno of mmap(2); with gw_last_error.
 */
int gw_dirty_log_new(struct gw_dirty_log **ret, int fd, gw_off_t offset, uint64_t size);
void gw_dirty_log_free(struct gw_dirty_log *log);

/* As gw_mapping_guard and gw_mapping_check. */
void gw_dirty_log_guard(struct gw_dirty_log *log, struct gw_loss *loss);
int gw_dirty_log_check(const struct gw_dirty_log *log);

/*
 * The address under which the log tracks `gpa`. Addresses of pages that a Xen domain granted have
 * bit 63 set, which is beyond any log. The log tracks such a page by its grant reference, that is,
 * by its address without the bit (docs/memory-backends.md). No other address that a log covers has
 * the bit.
 */
static inline gw_gpa_t gw_dirty_log_address(gw_gpa_t gpa)
{
    return gpa & (UINT64_MAX >> 1);
}

/* Can every byte of [gpa, gpa + len) be marked? */
bool gw_dirty_log_covers(const struct gw_dirty_log *log, gw_gpa_t gpa, uint64_t len);

/*
 * Mark a range after writing to it and a full fence; one fence serves many marks. If the log covers
 * only a part of the range, that part is marked, and the mark counts as lost.
 * Context: any thread.
 */
void gw_dirty_log_mark(struct gw_dirty_log *log, gw_gpa_t gpa, uint64_t len);
/*
 * Mark a range of grant references, any of which the device may have written to. References beyond
 * the log do not count as lost. Marks no further than the last possible reference (512 MiB of log),
 * whatever size the front-end gave the log or the region.
 */
void gw_dirty_log_mark_known(struct gw_dirty_log *log, gw_gpa_t gpa, uint64_t len);

/*
 * Make `log` the successor of `old`, in which some queues still mark. Call it before replying to
 * the front-end: a mark that the front-end's last read of `old` misses is then in `log`. `log` must
 * outlive `old`.
 */
void gw_dirty_log_succeed(struct gw_dirty_log *old, struct gw_dirty_log *log);

static inline uint64_t gw_dirty_log_n_lost(const struct gw_dirty_log *log)
{
    return __atomic_load_n(&log->n_lost, __ATOMIC_RELAXED);
}
