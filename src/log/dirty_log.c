/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Mapping the dirty log and keeping marks inside of it. Knows neither queues nor messages. */
#include "dirty_log.h"

#include "core/checked.h"
#include "core/cleanup.h"
#include "core/diag_i.h"
#include "dirty_bitmap.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int check_range(int fd, gw_off_t offset, uint64_t size)
{
    struct stat st;

    if (size == 0 || size > INT64_MAX || offset > INT64_MAX - size)
        return gw_fail(-EINVAL,
                       "a dirty log of %#" PRIx64 " bytes at offset %#" PRIx64 " cannot be", size,
                       offset);
    if (fstat(fd, &st) < 0)
        return gw_fail(-errno, "dirty log: fstat: %s", strerror(errno));
    /* Beyond the end of its file a page is SIGBUS when touched. */
    if (S_ISREG(st.st_mode) && offset + size > (uint64_t)st.st_size)
        return gw_fail(-EINVAL,
                       "the dirty log needs %#" PRIx64 " bytes of its file, which has %#" PRIx64,
                       offset + size, (uint64_t)st.st_size);
    return 0;
}

int gw_dirty_log_new(struct gw_dirty_log **ret, int fd, gw_off_t offset, uint64_t size)
{
    gw_cleanup_fd int owned_fd = fd;
    gw_cleanup_free struct gw_dirty_log *log = NULL;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t residual = offset % page;
    int r = check_range(owned_fd, offset, size);

    if (r < 0)
        return r;
    log = calloc(1, sizeof(*log));
    if (!log)
        return gw_fail(-ENOMEM, "no memory for a dirty log");
    log->size = size;
    log->length = size + residual;
    log->base = mmap(NULL, log->length, PROT_READ | PROT_WRITE, MAP_SHARED, owned_fd,
                     (off_t)(offset - residual));
    if (log->base == MAP_FAILED) {
        r = -errno;
        return gw_fail(r, "dirty log of %#" PRIx64 " bytes: mmap: %s", size, strerror(-r));
    }
    log->bitmap = (uint8_t *)log->base + residual;
    *ret = gw_steal(log);
    return 0;
}

void gw_dirty_log_free(struct gw_dirty_log *log)
{
    if (!log)
        return;
    (void)munmap(log->base, log->length);
    free(log);
}

bool gw_dirty_log_covers(const struct gw_dirty_log *log, gw_gpa_t gpa, uint64_t len)
{
    return len == 0 ||
           (gw_range_is_valid(gpa, len) && gw_dirty_bitmap_size(gpa + (len - 1)) <= log->size);
}

void gw_dirty_log_mark(struct gw_dirty_log *log, gw_gpa_t gpa, uint64_t len)
{
    uint64_t n_pages = log->size > UINT64_MAX / 8 ? UINT64_MAX : log->size * 8;
    uint64_t first = gpa >> GW_DIRTY_PAGE_SHIFT, last;

    if (len == 0)
        return;
    last = (gw_range_is_valid(gpa, len) ? gpa + (len - 1) : UINT64_MAX) >> GW_DIRTY_PAGE_SHIFT;
    if (last >= n_pages) {
        (void)__atomic_fetch_add(&log->n_lost, 1, __ATOMIC_RELAXED);
        if (first >= n_pages)
            return;
        last = n_pages - 1;
    }
    gw_dirty_bitmap_mark(log->bitmap, first, last);
}
