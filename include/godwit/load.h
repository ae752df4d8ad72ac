/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * virtio-blk requests on a driver ring (gw_driver_blk_*), and a random I/O load that checks every
 * sector it reads (gw_guest_disk_*, gw_guest_load_*). See frontend.h for threads and errors.
 */
#ifndef GODWIT_LOAD_H
#define GODWIT_LOAD_H

#include <godwit/frontend.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gw_guest_disk;
struct gw_guest_load;

/* ---- One request ("Block Device", virtio 1.2, 5.2.6) ---- */

enum gw_driver_blk_type {
    GW_DRIVER_BLK_READ = 0,
    GW_DRIVER_BLK_WRITE = 1,
    GW_DRIVER_BLK_FLUSH = 4,
    GW_DRIVER_BLK_GET_ID = 8,
    GW_DRIVER_BLK_DISCARD = 11,
    GW_DRIVER_BLK_WRITE_ZEROES = 13,
};

/* Header and status of one request in guest memory; used for one request at a time. */
struct gw_driver_blk {
    struct gw_driver *driver;
    gw_gpa_t gpa; /* of the header */
    uint8_t *host;
    gw_gpa_t status_gpa;
    uint8_t *status;
    bool is_placed; /* in memory of the caller's */
};

/* Take the memory for it from the driver's; gw_driver_blk_done gives it back. Returns: as alloc. */
int gw_driver_blk_init(struct gw_driver_blk *b, struct gw_driver *d);
void gw_driver_blk_done(struct gw_driver_blk *b);
/*
 * Use memory of the caller's: GW_DRIVER_BLK_HEADER_LEN bytes at `gpa`, aligned to 16, and the
 * status anywhere. A status that is 0xff is not written before a request, so it can be so long
 * before. Returns: 0; -EFAULT.
 */
int gw_driver_blk_place(struct gw_driver_blk *b, struct gw_driver *d, gw_gpa_t gpa,
                        gw_gpa_t status_gpa);
#define GW_DRIVER_BLK_HEADER_LEN 48
/* Go on in a clone of the memory (gw_driver_set_mem is the driver's). Returns: 0; -EFAULT. */
int gw_driver_blk_set_mem(struct gw_driver_blk *b, const struct gw_guest_mem *m);

/*
 * Add READ, WRITE, FLUSH or GET_ID with its data buffers (up to 126; FLUSH: none; GET_ID: one of 20
 * bytes). Publish or kick afterwards. Returns: as gw_driver_add.
 */
int gw_driver_blk_add(struct gw_driver_blk *b, uint32_t type, uint64_t sector,
                      const struct gw_driver_buf *data, unsigned n_data, uint64_t cookie,
                      unsigned flags);
/* Add DISCARD or WRITE_ZEROES (`range_flags` bit 0: may unmap). Returns: as gw_driver_add. */
int gw_driver_blk_add_range(struct gw_driver_blk *b, uint32_t type, uint64_t sector,
                            uint32_t n_sectors, uint32_t range_flags, uint64_t cookie,
                            unsigned flags);
/*
 * What the device answered. Returns: 0; -EIO; -EOPNOTSUPP; -EPROTO no such status, or none.
 */
int gw_driver_blk_status(const struct gw_driver_blk *b);

/* Kick, wait until `cookie` is used and check. Only with nothing else in flight on the driver. */
int gw_driver_blk_wait(struct gw_driver_blk *b, uint64_t cookie, unsigned timeout_ms);

/* ---- What should be on a disk ---- */

struct gw_guest_disk_config {
    size_t size;
    uint64_t offset;     /* where on the disk; a multiple of 512 */
    uint64_t length;     /* bytes the load may use from there; a multiple of block_size */
    uint32_t block_size; /* of each request; a multiple of 512; default 4096 */
    uint64_t seed;       /* 0 is as good as any */
    bool blank;          /* sectors never written read as zeros; otherwise as anything */
};

/*
 * Make the memory of what was written where. It outlives connections and loads. Every 512-byte
 * sector written carries its number, its generation, the seed and a checksum.
 * Free with gw_guest_disk_free. Returns: 0; -EINVAL; -E2BIG; -ENOMEM.
 */
int gw_guest_disk_new(struct gw_guest_disk **ret, const struct gw_guest_disk_config *cfg);
void gw_guest_disk_free(struct gw_guest_disk *disk);

/*
 * Check one block as read, or all of a file or device that should hold the disk.
 * Returns: 0; -EILSEQ with the first difference in gw_guest_disk_error; the errno of pread; -EIO
 * where the file ends early.
 */
int gw_guest_disk_check(struct gw_guest_disk *disk, uint64_t block, const void *data);
int gw_guest_disk_check_fd(struct gw_guest_disk *disk, int fd);
const char *gw_guest_disk_error(const struct gw_guest_disk *disk);

/* ---- The load ---- */

struct gw_guest_load_config {
    size_t size;
    struct gw_guest_disk *disk; /* of this load alone while it lasts */
    struct gw_driver **drivers; /* of one guest memory; copied */
    unsigned n_drivers;
    unsigned depth;         /* requests in flight per queue; default 32 */
    unsigned write_percent; /* of the requests */
    unsigned flush_percent; /* of the requests; the rest reads */
    unsigned segments;      /* buffers per block; default 1 */
    uint64_t seed;          /* of the order of requests */
    bool indirect;          /* the drivers' indirect_max must be segments + 2 at least */
    bool sleep;             /* wait on the call fds instead of polling the rings */
    bool no_data;           /* fill and check nothing: raw speed; `disk` knows nothing afterwards */
    unsigned hold_percent;  /* of the reads go to buffers of gw_guest_load_hold_add */
    bool scatter;           /* buffers begin anywhere in their pages, at multiples of 16 */
    unsigned call_grace_ms; /* of a call behind its used element; default GW_DRIVER_CALL_GRACE_MS */
};

/* Times in nanoseconds, from gw_driver_kick to the element seen used. */
struct gw_guest_load_stats {
    uint64_t requests, reads, writes, flushes;
    uint64_t bytes;
    uint64_t held;     /* reads whose buffers were left alone */
    uint64_t verified; /* blocks read and checked */
    uint64_t kicks;    /* of the fd */
    uint64_t sleeps;
    uint64_t run_ns; /* spent in gw_guest_load_run and gw_guest_load_drain */
    uint64_t p50, p90, p99, p999, max;
    uint64_t stall; /* longest time with requests in flight and none completed */
    unsigned in_flight;
};

/*
 * Make a load on started or stopped queues; its buffers come from the drivers' memory.
 * Free with gw_guest_load_free; the disk remains.
 * Returns: 0; -EINVAL; -E2BIG; -ENOSPC rings or memory too small; -ENOMEM.
 */
int gw_guest_load_new(struct gw_guest_load **ret, const struct gw_guest_load_config *cfg);
void gw_guest_load_free(struct gw_guest_load *l);

/*
 * Run for a time, a number of completed requests (0: no limit), or until gw_guest_load_interrupt,
 * and return, as a rule with requests in flight, with which the next run goes on.
 * gw_guest_load_drain finishes them and adds none. `stall_ms` without any completion gives up (0:
 * never). Returns: 0; -EILSEQ a block read is not what was written; -EIO a request failed; -EPROTO
 * the device broke a ring or a used length; -ETIMEDOUT it stalled; -ENOMSG a call the device owed
 * did not come (with `sleep`). gw_guest_load_error says what.
 */
int gw_guest_load_run(struct gw_guest_load *l, unsigned duration_ms, uint64_t n_requests,
                      unsigned stall_ms);
int gw_guest_load_drain(struct gw_guest_load *l, unsigned stall_ms);
/*
 * Finish what is in flight, then read `n_blocks` blocks from block `first` on through the device,
 * up to the depth at a time, and check them; 0, or more than there are: up to the last block. Of
 * gw_guest_load_stats, these reads change only kicks, sleeps, stall and run_ns. After an error
 * reads may be in flight; the next run finishes and counts them. Returns: 0; as gw_guest_load_run;
 * -EINTR interrupted before all was read; -EINVAL `first` is beyond the end, or a load with
 * `no_data`.
 */
int gw_guest_load_read_back(struct gw_guest_load *l, uint64_t first, uint64_t n_blocks,
                            unsigned stall_ms);
/* Have a run return soon. Context: any thread, also a signal handler. */
void gw_guest_load_interrupt(struct gw_guest_load *l);
const char *gw_guest_load_error(const struct gw_guest_load *l);

/*
 * Forget what is in flight, as after a crash of the back-end: blocks being written may hold the old
 * or the new generation from now on. The drivers are reset by the caller.
 */
void gw_guest_load_abandon(struct gw_guest_load *l);

/*
 * Read into buffers of [gpa, gpa + len), of guest memory the caller has allocated: each is read
 * into once, by a part of the requests (`hold_percent`), and left alone, unread, as long as there
 * are others. It is checked before it is used again, with gw_guest_load_hold_check, or when it is
 * removed. Every buffer and every status byte has pages of its own, which the driver has written
 * long before. Only between runs.
 * Returns: 0; -EINVAL not page-aligned, or too short for one; -EFAULT; -ENOMEM.
 */
int gw_guest_load_hold_add(struct gw_guest_load *l, gw_gpa_t gpa, uint64_t len);
/*
 * Read no more into those of an add; then remove them. Returns: 0; -EBUSY requests are in flight
 * there: run and try again; remove: -EILSEQ as gw_guest_load_run, and they are removed all the
 * same.
 */
int gw_guest_load_hold_retire(struct gw_guest_load *l, gw_gpa_t gpa);
int gw_guest_load_hold_remove(struct gw_guest_load *l, gw_gpa_t gpa);
/* Check all that is held. Returns: 0; -EILSEQ. */
int gw_guest_load_hold_check(struct gw_guest_load *l);

/* Go on in a clone of the guest memory; the drivers have it already (gw_driver_set_mem). */
int gw_guest_load_set_mem(struct gw_guest_load *l, struct gw_guest_mem *m);

/*
 * What the load and its disk know, as bytes, for a load of the same configuration, perhaps on
 * another host, which goes on with all that is in flight. Free them with free(). Only between runs;
 * restore after gw_driver_restore of all its drivers. Neither touches guest memory. Counters are
 * not part of it.
 * Returns: 0; -ENOMEM; restore: -EINVAL it is not what such a load on such drivers can have saved,
 * and then nothing has changed.
 */
int gw_guest_load_save(const struct gw_guest_load *l, void **ret, size_t *ret_len);
int gw_guest_load_restore(struct gw_guest_load *l, const void *state, size_t len);

/* Counters since the load was made, or since gw_guest_load_restart_stats. */
void gw_guest_load_stats(const struct gw_guest_load *l, struct gw_guest_load_stats *ret);
void gw_guest_load_restart_stats(struct gw_guest_load *l);
/* What has happened since the sample before. Context: any thread, one at a time. */
struct gw_guest_load_sample {
    uint64_t requests, bytes;
    uint64_t stall;   /* longest time without a completion that ended in this time, or lasts */
    uint64_t latency; /* of the slowest request completed */
};
void gw_guest_load_sample(struct gw_guest_load *l, struct gw_guest_load_sample *ret);

/* Which request a byte of guest memory belongs to, or belonged to last. */
enum gw_guest_load_part {
    GW_GUEST_LOAD_PART_NONE = 0,
    GW_GUEST_LOAD_PART_HEADER,
    GW_GUEST_LOAD_PART_STATUS,
    GW_GUEST_LOAD_PART_DATA,
};

struct gw_guest_load_place {
    enum gw_guest_load_part part;
    uint64_t offset; /* in this part */
    uint64_t left;   /* bytes of this part from here on */
    unsigned queue;
    uint32_t type; /* of the request, enum gw_driver_blk_type */
    uint64_t sector;
    uint32_t generation; /* of the block as it was known last */
    bool in_flight;
    bool is_held; /* gw_guest_load_hold_add */
    bool is_used; /* there has been a request at all */
};

/* Only between runs. Returns: whether it belongs to any, otherwise the part is NONE. */
bool gw_guest_load_find(const struct gw_guest_load *l, gw_gpa_t gpa,
                        struct gw_guest_load_place *ret);

/* The latency that `per_million` of a million requests do not exceed. */
uint64_t gw_guest_load_percentile(const struct gw_guest_load *l, unsigned per_million);

#ifdef __cplusplus
}
#endif
#endif
