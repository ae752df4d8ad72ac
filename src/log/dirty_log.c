/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The dirty log and its bounds. Independent of queues and of vhost-user messages. */
#include "dirty_log.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log_i.h"
#include "dirty_bitmap.h"
#include "fd/peer_fd.h"

#include <errno.h>

/* The end of the address range of grant references, which have 32 bits and name one page each. */
#define REFERENCES_END (UINT64_C(1) << (32 + GW_DIRTY_PAGE_SHIFT))

static const char name[] = "the dirty log";

int gw_dirty_log_new(struct gw_dirty_log **ret, int fd, gw_off_t offset, uint64_t size)
{
    gw_cleanup_peer_fd int owned_fd = fd;
    gw_cleanup_free struct gw_dirty_log *log = calloc(1, sizeof(*log));
    int r;

    if (!log)
        return gw_fail(-ENOMEM, "no memory for a dirty log");
    r = gw_mapping_init(&log->mapping, name, owned_fd, offset, size, 0);
    if (r < 0)
        return r;
    log->bitmap = log->mapping.at;
    log->size = size;
    *ret = gw_steal(log);
    return 0;
}

void gw_dirty_log_free(struct gw_dirty_log *log)
{
    if (!log)
        return;
    gw_mapping_done(&log->mapping);
    free(log);
}

void gw_dirty_log_guard(struct gw_dirty_log *log, struct gw_loss *loss)
{
    gw_mapping_guard(&log->mapping, loss);
}

int gw_dirty_log_check(const struct gw_dirty_log *log)
{
    return gw_mapping_check(&log->mapping, name);
}

bool gw_dirty_log_covers(const struct gw_dirty_log *log, gw_gpa_t gpa, uint64_t len)
{
    return len == 0 ||
           (gw_range_is_valid(gpa, len) && gw_dirty_bitmap_size(gpa + (len - 1)) <= log->size);
}

/* Returns: was the whole range marked? */
static bool mark_one(struct gw_dirty_log *log, gw_gpa_t gpa, uint64_t len)
{
    uint64_t n_pages = log->size > UINT64_MAX / 8 ? UINT64_MAX : log->size * 8;
    uint64_t first, last;
    bool all = true;

    if (len == 0)
        return true;
    gpa = gw_dirty_log_address(gpa);
    first = gpa >> GW_DIRTY_PAGE_SHIFT;
    last = (gw_range_is_valid(gpa, len) ? gpa + (len - 1) : UINT64_MAX) >> GW_DIRTY_PAGE_SHIFT;
    if (last >= n_pages) {
        if (first >= n_pages)
            return false;
        last = n_pages - 1;
        all = false;
    }
    gw_dirty_bitmap_mark(log->bitmap, first, last);
    return all;
}

/*
 * Mark in the log and in all its successors. `successor` is loaded after the bits are set: if it is
 * still NULL, the front-end has yet to read this log and finds the mark there.
 */
static void mark(struct gw_dirty_log *log, gw_gpa_t gpa, uint64_t len, bool counts_lost)
{
    while (log) {
        if (!mark_one(log, gpa, len) && counts_lost)
            (void)__atomic_fetch_add(&log->n_lost, 1, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_ACQUIRE); /* if the bits were already set */
        log = __atomic_load_n(&log->successor, __ATOMIC_SEQ_CST);
    }
}

void gw_dirty_log_mark(struct gw_dirty_log *log, gw_gpa_t gpa, uint64_t len)
{
    mark(log, gpa, len, true);
}

void gw_dirty_log_mark_known(struct gw_dirty_log *log, gw_gpa_t gpa, uint64_t len)
{
    gw_gpa_t from = gw_dirty_log_address(gpa);

    if (from < REFERENCES_END)
        mark(log, from, len < REFERENCES_END - from ? len : REFERENCES_END - from, false);
}

void gw_dirty_log_succeed(struct gw_dirty_log *old, struct gw_dirty_log *log)
{
    __atomic_store_n(&old->successor, log, __ATOMIC_SEQ_CST);
}
