/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Which guest memory was written, for a VMM that migrates: by the device (the dirty log,
 * gw_guest_log_*, one bit for each 4096 bytes) and by the driver (gw_guest_track_*, exact to the
 * byte, so that a driver's write does not hide an unlogged write of the device on the same page).
 * See frontend.h for threads and errors.
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

/* ---- The dirty log ("Migration") ---- */

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
 * The length that QEMU uses, in bytes: for all of `m` and the used rings of `drivers`, a multiple
 * of 8, for granted and other memory.
 */
uint64_t gw_guest_log_length_for(const struct gw_guest_mem *m, struct gw_driver *const *drivers,
                                 unsigned n_drivers);

/*
 * Make a log of zeros. To replace it by another at any time: gw_frontend_set_log_base, then
 * gw_guest_log_take of the old one, then gw_guest_log_free.
 * Returns: 0; -EINVAL length 0 or too large; -E2BIG a member is set that only later versions know;
 * -ENOMEM; the errno of memfd_create, ftruncate, fcntl or mmap.
 */
int gw_guest_log_new(struct gw_guest_log **ret, const struct gw_guest_log_config *cfg);
void gw_guest_log_free(struct gw_guest_log *log);

/* The length of the bitmap in bytes; its memfd, which stays the log's. */
uint64_t gw_guest_log_length(const struct gw_guest_log *log);
int gw_guest_log_fd(const struct gw_guest_log *log);

/*
 * Clear all marks, and pass them to `cb` (may be NULL) as runs of pages. A concurrent mark is in
 * this take or the next. Memory that is read after the call of `cb` is at least as new as the mark.
 * Only the parts of a sparse log that the back-end allocated are read. Returns: the number of
 * pages.
 */
uint64_t gw_guest_log_take(struct gw_guest_log *log, gw_guest_dirty_cb *cb, void *arg);
/* The number of marked pages; the marks remain. */
uint64_t gw_guest_log_count(const struct gw_guest_log *log);
/* Is the page of `gpa` marked? */
bool gw_guest_log_is_marked(const struct gw_guest_log *log, gw_gpa_t gpa);

/*
 * SET_LOG_BASE, with the file descriptor (LOG_SHMFD). When it returns 0, the back-end no longer
 * writes to any other log. -EREMOTEIO: it answered with a number that is neither zero nor
 * the length. SET_LOG_FD: the eventfd stays the caller's.
 */
int gw_frontend_set_log_base(struct gw_frontend *fe, const struct gw_guest_log *log);
int gw_frontend_set_log_fd(struct gw_frontend *fe, int fd);

/* Set or clear LOG_ALL by SET_FEATURES; other features stay. Legal while rings run. */
int gw_frontend_set_log_all(struct gw_frontend *fe, bool on);
/* Set VHOST_VRING_F_LOG and the address of its used ring by SET_VRING_ADDR; legal while it runs. */
int gw_frontend_set_vring_log(struct gw_frontend *fe, const struct gw_driver *d, bool on);

/* ---- Writes of the driver ---- */

/* Free with gw_guest_track_free, after every driver that uses it. Returns: 0; -ENOMEM. */
int gw_guest_track_new(struct gw_guest_track **ret);
void gw_guest_track_free(struct gw_guest_track *t);

/*
 * Begin to track [gpa, gpa + len), or end tracking the range that begins at `gpa`. No thread may
 * mark during the call. Takes address space for an eighth of the length, and memory for the marks.
 * Returns: 0; -EINVAL empty or overlapping; -ENOMEM; the errno of mmap.
 */
int gw_guest_track_add(struct gw_guest_track *t, gw_gpa_t gpa, uint64_t len);
int gw_guest_track_remove(struct gw_guest_track *t, gw_gpa_t gpa);

/* Mark bytes after writing them; ignores bytes outside of tracked ranges. Context: any thread. */
void gw_guest_track_mark(struct gw_guest_track *t, gw_gpa_t gpa, uint64_t len);
/* As gw_guest_log_take, but runs and result are in bytes. One thread at a time. */
uint64_t gw_guest_track_take(struct gw_guest_track *t, gw_guest_dirty_cb *cb, void *arg);

/*
 * Mark all writes of this driver, and of the requests and loads on it; NULL: none.
 * Only while no thread drives it.
 */
void gw_driver_set_track(struct gw_driver *d, struct gw_guest_track *t);

/*
 * Both sides write the descriptors of a packed ring. Overwrite `to`, a copy of [gpa, gpa + len),
 * with the driver's last writes there. A migration does so with each range that gw_guest_track_take
 * names, so that the copy holds no write of the device. Take the dirty log before, and copy its
 * pages afterwards. Context: any thread.
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

/* The part of the driver's rings at `gpa`. `ret_i` may be NULL. */
enum gw_driver_place gw_driver_find(const struct gw_driver *d, gw_gpa_t gpa, unsigned *ret_i);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
