/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * virtio-blk requests on a driver ring (gw_driver_blk_*), and a random I/O load that verifies every
 * sector it reads (gw_guest_disk_*, gw_guest_load_*). Not installed: for the tools and tests of
 * this tree. See frontend.h for threads and errors.
 */
#ifndef GODWIT_LOAD_H
#define GODWIT_LOAD_H

#include <godwit/frontend/frontend.h>

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
    bool is_placed; /* the caller owns the memory */
};

/*
 * Allocate header and status in the driver's guest memory; gw_driver_blk_done releases them.
 * Returns: as gw_guest_mem_alloc.
 */
int gw_driver_blk_init(struct gw_driver_blk *b, struct gw_driver *d);
void gw_driver_blk_done(struct gw_driver_blk *b);
/*
 * Use memory of the caller: GW_DRIVER_BLK_HEADER_LEN bytes at `gpa`, aligned to 16, and the
 * status byte anywhere. gw_driver_blk_add does not write a status that is already 0xff.
 * Returns: 0; -EFAULT outside of the memory.
 */
int gw_driver_blk_place(struct gw_driver_blk *b, struct gw_driver *d, gw_gpa_t gpa,
                        gw_gpa_t status_gpa);
#define GW_DRIVER_BLK_HEADER_LEN 48
/* Continue in a clone of the memory, like gw_driver_set_mem. Returns: 0; -EFAULT outside of it. */
int gw_driver_blk_set_mem(struct gw_driver_blk *b, const struct gw_guest_mem *m);

/*
 * Add READ, WRITE, FLUSH or GET_ID with its data buffers (up to 126; FLUSH: none; GET_ID: one with
 * 20 bytes). Publish or kick afterwards. Returns: as gw_driver_add.
 */
int gw_driver_blk_add(struct gw_driver_blk *b, uint32_t type, uint64_t sector,
                      const struct gw_driver_buf *data, unsigned n_data, uint64_t cookie,
                      unsigned flags);
/* Add DISCARD or WRITE_ZEROES (`range_flags` bit 0: may unmap). Returns: as gw_driver_add. */
int gw_driver_blk_add_range(struct gw_driver_blk *b, uint32_t type, uint64_t sector,
                            uint32_t n_sectors, uint32_t range_flags, uint64_t cookie,
                            unsigned flags);
/*
 * The status of the answer. Returns: 0; -EIO (IOERR); -EOPNOTSUPP (UNSUPP); -EPROTO an unknown
 * status, or none.
 */
int gw_driver_blk_status(const struct gw_driver_blk *b);

/* Kick, wait until the device has used `cookie`, and check. Nothing else may be in flight. */
int gw_driver_blk_wait(struct gw_driver_blk *b, uint64_t cookie, unsigned timeout_ms);

/* ---- The expected contents of a disk ---- */

struct gw_guest_disk_config {
    size_t size;
    uint64_t offset;     /* first byte on the disk; a multiple of 512 */
    uint64_t length;     /* bytes from there that the load may use; a multiple of block_size */
    uint32_t block_size; /* bytes of each request; a multiple of 512; default 4096 */
    uint64_t seed;       /* any value, also 0 */
    bool blank;          /* unwritten sectors must read as zeros; otherwise as anything */
};

/*
 * Make the record of the generation of each block. It outlives connections and loads. Every
 * written 512-byte sector carries its number, its generation, the seed and a checksum.
 * Free with gw_guest_disk_free. Returns: 0; -EINVAL a member breaks its rule; -E2BIG a member is
 * set that only later versions know; -ENOMEM.
 */
int gw_guest_disk_new(struct gw_guest_disk **ret, const struct gw_guest_disk_config *cfg);
void gw_guest_disk_free(struct gw_guest_disk *disk);

/*
 * Check the data of one block, or a complete file or device that holds the disk.
 * Returns: 0; -EILSEQ with the first difference in gw_guest_disk_error; the errno of pread; -EIO
 * the file is too short.
 */
int gw_guest_disk_check(struct gw_guest_disk *disk, uint64_t block, const void *data);
int gw_guest_disk_check_fd(struct gw_guest_disk *disk, int fd);
const char *gw_guest_disk_error(const struct gw_guest_disk *disk);

/* ---- The load ---- */

struct gw_guest_load_config {
    size_t size;
    struct gw_guest_disk *disk; /* no other load may use it at the same time */
    struct gw_driver **drivers; /* all with the same guest memory; the array is copied */
    unsigned n_drivers;
    unsigned depth;         /* requests in flight per queue; default 32 */
    unsigned write_percent; /* percentage of writes */
    unsigned flush_percent; /* percentage of flushes; all other requests are reads */
    unsigned segments;      /* buffers per block; default 1 */
    uint64_t seed;          /* of the order of requests */
    bool indirect;          /* use indirect tables; indirect_max must be at least segments + 2 */
    bool sleep;             /* wait on the call fds instead of polling the rings */
    bool no_data;           /* neither fill nor check buffers; invalidates `disk` */
    unsigned hold_percent;  /* percentage of reads that use buffers of gw_guest_load_hold_add */
    bool scatter;           /* buffers begin anywhere in their pages, at multiples of 16 */
    unsigned call_grace_ms; /* maximum delay of a call; default GW_DRIVER_CALL_GRACE_MS */
};

/* Times in nanoseconds, from gw_driver_kick until the load finds the used element. */
struct gw_guest_load_stats {
    uint64_t requests, reads, writes, flushes;
    uint64_t bytes;
    uint64_t held;     /* reads into held buffers */
    uint64_t verified; /* blocks read and checked */
    uint64_t kicks;    /* writes of the kick fd */
    uint64_t sleeps;
    uint64_t run_ns; /* spent in gw_guest_load_run and gw_guest_load_drain */
    uint64_t p50, p90, p99, p999, max;
    uint64_t stall; /* longest time with requests in flight and none completed */
    unsigned in_flight;
};

/*
 * Make a load on started or stopped queues; its buffers come from the drivers' memory.
 * Free with gw_guest_load_free; the disk remains.
 * Returns: 0; -EINVAL bad percentages or segments, or fewer blocks than requests in flight; -E2BIG
 * a member is set that only later versions know; -ENOSPC rings or memory too small; -ENOMEM.
 */
int gw_guest_load_new(struct gw_guest_load **ret, const struct gw_guest_load_config *cfg);
void gw_guest_load_free(struct gw_guest_load *l);

/*
 * Run for a time, a number of completed requests (0: no limit), or until gw_guest_load_interrupt.
 * Usually requests are in flight at the return, and the next run continues with them.
 * gw_guest_load_drain finishes them and adds none. Both give up after `stall_ms` without a
 * completion (0: never). Returns: 0; -EILSEQ a block read differs from the last write; -EIO a
 * request failed; -EPROTO the device broke a ring or a used length; -ETIMEDOUT it stalled; -ENOMSG
 * a call that the device owed is missing (with `sleep`). gw_guest_load_error has the details.
 */
int gw_guest_load_run(struct gw_guest_load *l, unsigned duration_ms, uint64_t n_requests,
                      unsigned stall_ms);
int gw_guest_load_drain(struct gw_guest_load *l, unsigned stall_ms);
/*
 * Finish requests in flight, then read `n_blocks` blocks from block `first` on through the device,
 * up to the depth at a time, and check them; 0, or more blocks than the disk has: to the end. Of
 * gw_guest_load_stats, these reads change only kicks, sleeps, stall and run_ns. After an error
 * reads may be in flight; the next run finishes and counts them. Returns: 0; as gw_guest_load_run;
 * -EINTR interrupted before all blocks were read; -EINVAL `first` is beyond the end, or the load
 * has `no_data`.
 */
int gw_guest_load_read_back(struct gw_guest_load *l, uint64_t first, uint64_t n_blocks,
                            unsigned stall_ms);
/* Make a run return soon. Context: any thread, also a signal handler. */
void gw_guest_load_interrupt(struct gw_guest_load *l);
const char *gw_guest_load_error(const struct gw_guest_load *l);

/*
 * Forget requests in flight, after a crash of the back-end: blocks with a write in flight may hold
 * the old or the new generation from now on. The caller resets the drivers.
 */
void gw_guest_load_abandon(struct gw_guest_load *l);

/*
 * Hold buffers, so that only the device has written their pages for a long time. The buffers are in
 * [gpa, gpa + len), guest memory that the caller has allocated. A part of the reads
 * (`hold_percent`) uses them, each buffer once; then the load does not touch it until no other
 * buffer is left. The load checks it before the next use, in gw_guest_load_hold_check, and when it
 * is removed. Every buffer and every status byte has its own pages, which the driver wrote long
 * before the read. Only between runs.
 * Returns: 0; -EINVAL not page-aligned, or too short for one buffer; -EFAULT outside of the memory;
 * -ENOMEM.
 */
int gw_guest_load_hold_add(struct gw_guest_load *l, gw_gpa_t gpa, uint64_t len);
/*
 * Retire: no longer read into the buffers of an add. Remove: remove retired buffers. Returns: 0;
 * -EBUSY requests are in flight there: run and try again; remove: -EILSEQ as gw_guest_load_run, but
 * the buffers are removed.
 */
int gw_guest_load_hold_retire(struct gw_guest_load *l, gw_gpa_t gpa);
int gw_guest_load_hold_remove(struct gw_guest_load *l, gw_gpa_t gpa);
/* Check all held buffers. Returns: 0; -EILSEQ one has changed since its read. */
int gw_guest_load_hold_check(struct gw_guest_load *l);

/* Continue in a clone of the guest memory, after gw_driver_set_mem of the drivers. */
int gw_guest_load_set_mem(struct gw_guest_load *l, struct gw_guest_mem *m);

/*
 * Save the state of the load and its disk as bytes, and restore it in a load of the same
 * configuration, perhaps on another host, which continues all requests in flight. Free the bytes
 * with free(). Only between runs; restore after gw_driver_restore of all its drivers. Neither
 * touches guest memory. The bytes do not include counters.
 * Returns: 0; -ENOMEM; restore: -EINVAL no such load on such drivers can have saved these bytes;
 * nothing has changed then.
 */
int gw_guest_load_save(const struct gw_guest_load *l, void **ret, size_t *ret_len);
int gw_guest_load_restore(struct gw_guest_load *l, const void *state, size_t len);

/* Counters since the load was made, or since gw_guest_load_restart_stats. */
void gw_guest_load_stats(const struct gw_guest_load *l, struct gw_guest_load_stats *ret);
void gw_guest_load_restart_stats(struct gw_guest_load *l);
/* Values since the previous sample. Context: any thread, one at a time. */
struct gw_guest_load_sample {
    uint64_t requests, bytes;
    uint64_t stall;   /* longest time without a completion that ended since then, or still lasts */
    uint64_t latency; /* of the slowest completed request */
};
void gw_guest_load_sample(struct gw_guest_load *l, struct gw_guest_load_sample *ret);

/* The request to which a byte of guest memory belongs, or belonged last. */
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
    uint32_t generation; /* the last known one of the block */
    bool in_flight;
    bool is_held; /* gw_guest_load_hold_add */
    bool is_used; /* a request has used it */
};

/* Only between runs. Returns: whether it belongs to a request; if not, the part is NONE. */
bool gw_guest_load_find(const struct gw_guest_load *l, gw_gpa_t gpa,
                        struct gw_guest_load_place *ret);

/* The latency in nanoseconds that `per_million` of a million requests do not exceed. */
uint64_t gw_guest_load_percentile(const struct gw_guest_load *l, unsigned per_million);

#ifdef __cplusplus
}
#endif
#endif
