/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A rig (rig.h) with dirty logs: which pages are marked, and which should be. The device holds what
 * it pops until log_rig_release.
 */
#pragma once

#include "log/dirty_bitmap.h"
#include "rig.h"

#define LOG_RIG_LOGS 64
/* Logs cover this much, from guest address 0. */
#define LOG_RIG_END (RIG_GPA + (UINT64_C(512) << 20))
/*
 * Where writes to the used ring, or device event area, are marked: far from all memory. Flags and
 * index of a used ring are in one page, its elements begin with the next.
 */
#define LOG_RIG_USED     (RIG_GPA + (UINT64_C(256) << 20) - 4)
#define LOG_RIG_DATA_LEN (UINT64_C(9) << 18)

struct log_rig_log {
    int fd;
    uint8_t *bits;
    size_t size;
    struct gw_dirty_log *log; /* NULL: freed */
};

struct log_rig {
    struct rig rig;
    gw_gpa_t data; /* LOG_RIG_DATA_LEN bytes, page aligned */
    struct log_rig_log logs[LOG_RIG_LOGS];
    unsigned n_logs;
    unsigned current; /* the one that log_rig_check looks at */
    uint8_t *expected;
    gw_gpa_t log_addr;
    int event_fd;
    bool started;
};

/* Memory and a log, not started; started without a log; all of it with LOG_ALL on log 0. */
void log_rig_prepare(struct log_rig *t, const struct rig_config *cfg);
void log_rig_start_unlogged(struct log_rig *t);
void log_rig_start(struct log_rig *t);
void log_rig_begin(struct log_rig *t, const struct rig_config *cfg);
/* Stops, and frees all. */
void log_rig_end(struct log_rig *t);

/* One more log, covering [0, end). Returns: its number. */
unsigned log_rig_add_log(struct log_rig *t, gw_gpa_t end);
/* The same, and it is `current`. */
void log_rig_map_short(struct log_rig *t, gw_gpa_t end);
/* gw_queue_set_log, with event_fd of `t`. */
void log_rig_set(struct log_rig *t, struct gw_dirty_log *log, bool all);
/* VHOST_VRING_F_LOG at `addr`; 0: off. */
void log_rig_log_ring(struct log_rig *t, gw_gpa_t addr);
/* Add a region, and have the queue adopt it. */
void log_rig_add_region(struct log_rig *t, const struct gw_guest_region *region);

/* The pages of a write, or of one at `offset` of the used ring, should be marked. */
void log_rig_expect(struct log_rig *t, gw_gpa_t gpa, uint64_t len);
void log_rig_expect_used(struct log_rig *t, uint64_t offset, uint64_t len);
/* The pages of `n` answers from slot `first` on, with the index; and of the flags besides. */
void log_rig_expect_answers(struct log_rig *t, unsigned first, unsigned n);
void log_rig_expect_ring(struct log_rig *t, unsigned first, unsigned n);
/* These are marked in the current log and no others. */
void log_rig_check(struct log_rig *t);
/* Neither marked nor expected any more. */
void log_rig_clear(struct log_rig *t);
bool log_rig_test_and_clear(uint8_t *bits, gw_gpa_t gpa);

/* Answer the `n` oldest held requests with `len`. Published when the worker's turn ends. */
void log_rig_release(struct log_rig *t, unsigned n, uint32_t len);
/* Take `n` answers; then the worker has marked them. */
void log_rig_take(struct log_rig *t, unsigned n);
