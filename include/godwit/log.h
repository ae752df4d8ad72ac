/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Which guest memory was written, as a VMM that migrates must know it: by the device (the dirty
 * log, gw_guest_log_*, one bit for each 4096 bytes) and by the driver (gw_guest_track_*, exact to
 * the byte, so that what a driver writes does not cover up what the device beside it left
 * unlogged). See frontend.h for threads and errors.
 */
#ifndef GODWIT_LOG_H
#define GODWIT_LOG_H

#include <godwit/frontend.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct gw_guest_log;
struct gw_guest_track;

/* What a take names, in ascending order: `len` bytes from `gpa`. */
typedef void gw_guest_dirty_cb(void *arg, gw_gpa_t gpa, uint64_t len);

/* ---- The dirty log ("Migration") ---- */

#define GW_GUEST_LOG_PAGE 4096

struct gw_guest_log_config {
    size_t size;
    uint64_t length; /* bytes of the bitmap, as from gw_guest_log_length_for */
    gw_off_t offset; /* of the bitmap in its memfd; need not be page-aligned */
    bool no_seals;   /* otherwise the file can neither shrink nor grow */
    gw_gpa_t base;   /* of the first page; GW_GUEST_LOG_GRANTS of memory that is granted */
};

/*
 * Pages of a Xen domain that are known by reference have bit 63 in their address. They are logged
 * without it, by reference: a bitmap that reached up to there would have 2^48 bytes.
 */
#define GW_GUEST_LOG_GRANTS (UINT64_C(1) << 63)

/*
 * The bytes QEMU takes: for all of `m` and the used rings of `drivers`, a multiple of 8, whether
 * that is granted memory or not.
 */
uint64_t gw_guest_log_length_for(const struct gw_guest_mem *m, struct gw_driver *const *drivers,
                                 unsigned n_drivers);

/*
 * Make a log of zeros. It can be replaced by another at any time: gw_frontend_set_log_base, then
 * gw_guest_log_take of the old one, then gw_guest_log_free.
 * Returns: 0; -EINVAL; -E2BIG; -ENOMEM; the errno of memfd_create, ftruncate, fcntl or mmap.
 */
int gw_guest_log_new(struct gw_guest_log **ret, const struct gw_guest_log_config *cfg);
void gw_guest_log_free(struct gw_guest_log *log);

uint64_t gw_guest_log_length(const struct gw_guest_log *log);
int gw_guest_log_fd(const struct gw_guest_log *log); /* stays the log's */

/*
 * Take all marks away, and tell them to `cb` (may be NULL) page by page in runs. A mark made
 * meanwhile is in this take or the next. What is read after the call of `cb` is at least as new as
 * the mark. Only what the back-end allocated of a sparse log is looked at.
 * Returns: the number of pages.
 */
uint64_t gw_guest_log_take(struct gw_guest_log *log, gw_guest_dirty_cb *cb, void *arg);
/* The number of pages marked, which stay so. */
uint64_t gw_guest_log_count(const struct gw_guest_log *log);
/* Is the page of `gpa` marked? */
bool gw_guest_log_is_marked(const struct gw_guest_log *log, gw_gpa_t gpa);

/*
 * SET_LOG_BASE, with the file descriptor (LOG_SHMFD). When it returns 0, the back-end has promised
 * to write to no other log any more. -EREMOTEIO: it answered with a number that is neither zero nor
 * the length. SET_LOG_FD: the eventfd stays the caller's.
 */
int gw_frontend_set_log_base(struct gw_frontend *fe, const struct gw_guest_log *log);
int gw_frontend_set_log_fd(struct gw_frontend *fe, int fd);

/* LOG_ALL by SET_FEATURES, the other features as they are; legal while rings run. */
int gw_frontend_set_log_all(struct gw_frontend *fe, bool on);
/* VHOST_VRING_F_LOG and the address of its used ring by SET_VRING_ADDR; legal while it runs. */
int gw_frontend_set_vring_log(struct gw_frontend *fe, const struct gw_driver *d, bool on);

/* ---- What the driver writes ---- */

/* Free with gw_guest_track_free, after every driver that has it. Returns: 0; -ENOMEM. */
int gw_guest_track_new(struct gw_guest_track **ret);
void gw_guest_track_free(struct gw_guest_track *t);

/*
 * Track [gpa, gpa + len), or no longer what begins at `gpa`. Nothing may be marked meanwhile.
 * Address space of an eighth of the length is taken, memory only where there are marks.
 * Returns: 0; -EINVAL empty or overlapping; -ENOMEM; the errno of mmap.
 */
int gw_guest_track_add(struct gw_guest_track *t, gw_gpa_t gpa, uint64_t len);
int gw_guest_track_remove(struct gw_guest_track *t, gw_gpa_t gpa);

/* Mark what was just written; nothing outside of what is tracked. Context: any thread. */
void gw_guest_track_mark(struct gw_guest_track *t, gw_gpa_t gpa, uint64_t len);
/* As gw_guest_log_take, but runs and the returned number are of bytes. One thread at a time. */
uint64_t gw_guest_track_take(struct gw_guest_track *t, gw_guest_dirty_cb *cb, void *arg);

/*
 * Mark all that is written through this driver, and the requests and loads on it; NULL: nothing.
 * Only while nobody drives it.
 */
void gw_driver_set_track(struct gw_driver *d, struct gw_guest_track *t);

/*
 * What the driver wrote last at [gpa, gpa + len), over a copy in `to`, where the device writes as
 * well: the descriptors of a packed ring. Who copies what gw_guest_track_take names lays this over
 * it, so that it holds nothing of the device's; what a dirty log names must be taken before and
 * copied afterwards. Context: any thread.
 */
void gw_driver_overlay(const struct gw_driver *d, gw_gpa_t gpa, void *to, uint64_t len);

/* ---- What is where ---- */

enum gw_driver_place {
    GW_DRIVER_PLACE_NONE = 0,
    GW_DRIVER_PLACE_DESC, /* of the table, or of an indirect one */
    GW_DRIVER_PLACE_AVAIL,
    GW_DRIVER_PLACE_USED_FLAGS,
    GW_DRIVER_PLACE_USED_IDX,
    GW_DRIVER_PLACE_USED_ELEMENT, /* number `ret_i` of the ring */
    GW_DRIVER_PLACE_AVAIL_EVENT,
    GW_DRIVER_PLACE_PACKED_DESC, /* number `ret_i` of the ring; both sides write it */
    GW_DRIVER_PLACE_DRIVER_EVENT,
    GW_DRIVER_PLACE_DEVICE_EVENT,
};

/* What of the rings of the driver is at `gpa`? `ret_i` may be NULL. */
enum gw_driver_place gw_driver_find(const struct gw_driver *d, gw_gpa_t gpa, unsigned *ret_i);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
