/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Which guest memory was written, for a VMM that migrates: by the device (the dirty log,
 * gw_guest_log_*, one bit for each 4096 bytes) and by the driver (gw_guest_track_*, exact to the
 * byte, so that a driver's write does not hide an unlogged write of the device on the same page).
 *
 * Context, unless a function states another: an object belongs to one thread at a time. error.h
 * describes errors, frontend.h configuration structures.
 */
#ifndef GODWIT_FRONTEND_LOG_H
#define GODWIT_FRONTEND_LOG_H

#include <godwit/frontend/frontend.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct gw_guest_log;
struct gw_guest_track;

/* Called for each dirty range of a take, in ascending order: `len` bytes from `gpa`. */
typedef void gw_guest_dirty_cb(void *arg, gw_gpa_t gpa, uint64_t len);

/* ---- The dirty log (vhost-user.rst, "Migration") ---- */

#define GW_GUEST_LOG_PAGE 4096

struct gw_guest_log_config {
    size_t size;
    uint64_t length; /* bytes of the bitmap, as from gw_guest_log_length_for */
    gw_off_t offset; /* of the bitmap in its memfd; need not be page-aligned */
    bool no_seals;   /* do not seal the file against shrinking and growing */
    gw_gpa_t base;   /* address of the first page; GW_GUEST_LOG_GRANTS for granted memory */
};

/*
 * The addresses of granted pages of a Xen domain have bit 63 set. The log uses them without it, by
 * reference: a bitmap that covered them with it would have 2^48 bytes.
 */
#define GW_GUEST_LOG_GRANTS (UINT64_C(1) << 63)

/*
 * The length of a bitmap for all of `m` and the used rings of `drivers`, for granted and other
 * memory, as QEMU computes it: a multiple of 8.
 *
 * Returns: the length in bytes.
 */
uint64_t gw_guest_log_length_for(const struct gw_guest_mem *m, struct gw_driver *const *drivers,
                                 unsigned n_drivers);

/*
 * Make a dirty log of zeros. To replace it by another at any time: gw_frontend_set_log_base, then
 * gw_guest_log_take of the old one, then gw_guest_log_free.
 *
 * Ownership: `cfg` is copied. Free the result with gw_guest_log_free.
 * Returns: 0; -EINVAL for length 0 or one that is too large, or if `size` is smaller than in the
 * first version; -E2BIG if a member is set that only later versions know; -ENOMEM; the errno of
 * memfd_create(2), ftruncate(2), fcntl(2) or mmap(2).
 */
int gw_guest_log_new(struct gw_guest_log **ret, const struct gw_guest_log_config *cfg);

/* Unmap and free a dirty log that no back-end uses any longer. `log` may be NULL. */
void gw_guest_log_free(struct gw_guest_log *log);

/*
 * The length of the bitmap.
 *
 * Returns: the length in bytes.
 */
uint64_t gw_guest_log_length(const struct gw_guest_log *log);

/*
 * The memfd of the bitmap.
 *
 * Ownership: it stays the log's.
 * Returns: the fd.
 */
int gw_guest_log_fd(const struct gw_guest_log *log);

/*
 * Clear all marks, and pass them to `cb` (may be NULL) with `arg`, as runs of pages. A concurrent
 * mark is in this take or the next. Memory that is read after the call of `cb` is at least as new
 * as the mark. Only the parts of a sparse log that the back-end allocated are read.
 *
 * Returns: the number of pages.
 */
uint64_t gw_guest_log_take(struct gw_guest_log *log, gw_guest_dirty_cb *cb, void *arg);

/*
 * Count the marked pages; the marks remain.
 *
 * Returns: the number of pages.
 */
uint64_t gw_guest_log_count(const struct gw_guest_log *log);

/*
 * Is the page of `gpa` marked?
 *
 * Returns: whether it is.
 */
bool gw_guest_log_is_marked(const struct gw_guest_log *log, gw_gpa_t gpa);

/*
 * Send the dirty log: SET_LOG_BASE, with the file descriptor. When it succeeds, the back-end no
 * longer writes to any other log. Needs LOG_SHMFD (1).
 *
 * Ownership: the log stays the caller's, until another replaces it or the session ends.
 * Returns: as gw_frontend_get_features; -EREMOTEIO also if the back-end answered with a number that
 * is neither zero nor the length.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_log_base(struct gw_frontend *fe, const struct gw_guest_log *log);

/*
 * Send the eventfd that the back-end signals when it has marked pages: SET_LOG_FD.
 *
 * Ownership: `fd` stays the caller's.
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_log_fd(struct gw_frontend *fe, int fd);

/*
 * Begin or end logging the writes to buffers: set or clear LOG_ALL (26) by SET_FEATURES; other
 * features stay. Legal while rings run.
 *
 * Returns: as gw_frontend_get_features; -EOPNOTSUPP also if LOG_ALL is not offered.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_log_all(struct gw_frontend *fe, bool on);

/*
 * Begin or end logging the writes to the used ring of a driver: set VHOST_VRING_F_LOG and the
 * address of the used ring by SET_VRING_ADDR. Legal while the ring runs.
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_set_vring_log(struct gw_frontend *fe, const struct gw_driver *d, bool on);

/* ---- Writes of the driver ---- */

/*
 * Make a record of driver writes that tracks no range yet.
 *
 * Ownership: free the result with gw_guest_track_free.
 * Returns: 0; -ENOMEM.
 */
int gw_guest_track_new(struct gw_guest_track **ret);

/* Free a record, after every driver that uses it. `t` may be NULL. */
void gw_guest_track_free(struct gw_guest_track *t);

/*
 * Begin to track the bytes of [gpa, gpa + len). Takes address space for an eighth of the length,
 * and memory for the marks.
 *
 * Returns: 0; -EINVAL if the range is empty or overlaps another; -ENOMEM; the errno of mmap(2).
 * Context: no thread may mark during the call.
 */
int gw_guest_track_add(struct gw_guest_track *t, gw_gpa_t gpa, uint64_t len);

/*
 * End tracking the range that begins at `gpa`.
 *
 * Returns: 0; -ENOENT if no tracked range begins there.
 * Context: as gw_guest_track_add.
 */
int gw_guest_track_remove(struct gw_guest_track *t, gw_gpa_t gpa);

/*
 * Mark `len` bytes at `gpa` after writing them; bytes outside of tracked ranges are ignored.
 *
 * Context: any thread.
 */
void gw_guest_track_mark(struct gw_guest_track *t, gw_gpa_t gpa, uint64_t len);

/*
 * Clear all marks, and pass them to `cb` (may be NULL) with `arg`, as runs of bytes.
 *
 * Returns: the number of bytes.
 * Context: one thread at a time, while others mark.
 */
uint64_t gw_guest_track_take(struct gw_guest_track *t, gw_guest_dirty_cb *cb, void *arg);

/*
 * Mark all writes of this driver, and of the requests and loads on it, in `t`; NULL: in none.
 *
 * Ownership: `t` stays the caller's.
 * Context: only while no thread drives the queue.
 */
void gw_driver_set_track(struct gw_driver *d, struct gw_guest_track *t);

/*
 * Overwrite `to`, a copy of [gpa, gpa + len), with the driver's last writes to a packed ring there.
 * Both sides write the descriptors of a packed ring. A migration calls this for each range that
 * gw_guest_track_take names, so that the copy holds no write of the device. Take the dirty log
 * before, and copy its pages afterwards.
 *
 * Context: any thread.
 */
void gw_driver_overlay(const struct gw_driver *d, gw_gpa_t gpa, void *to, uint64_t len);

/* ---- Contents of an address ---- */

enum gw_driver_place {
    GW_DRIVER_PLACE_NONE = 0,
    GW_DRIVER_PLACE_DESC, /* of the descriptor table or an indirect table */
    GW_DRIVER_PLACE_AVAIL,
    GW_DRIVER_PLACE_USED_FLAGS,
    GW_DRIVER_PLACE_USED_IDX,
    GW_DRIVER_PLACE_USED_ELEMENT, /* number `ret_i` of the ring */
    GW_DRIVER_PLACE_AVAIL_EVENT,
    GW_DRIVER_PLACE_PACKED_DESC, /* number `ret_i` of the ring; both sides write it */
    GW_DRIVER_PLACE_DRIVER_EVENT,
    GW_DRIVER_PLACE_DEVICE_EVENT,
};

/*
 * Find the part of the driver's rings at `gpa`. `ret_i` may be NULL.
 *
 * Returns: the part; GW_DRIVER_PLACE_NONE outside of them.
 */
enum gw_driver_place gw_driver_find(const struct gw_driver *d, gw_gpa_t gpa, unsigned *ret_i);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
