/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A whole live migration between two back-ends, without a VM, and all that a report needs of it.
 *
 * The tool is the VMM: it has the guest memories, runs the load, copies what the dirty log names
 * and what its own driver wrote, and nothing else. So a byte that differs between the memories once
 * the source has stopped is a byte that the source wrote and did not log.
 */
#pragma once

#include "migrate_result.h"
#include "target/target.h"

#define MIGRATION_DEVICES_MAX 16

/* Zeros mean the defaults. */
struct migration_postcopy_options {
    bool is_on;
    bool has_round; /* the switch comes after `round` rounds, which may be none */
    unsigned round;
    unsigned at_ms;          /* otherwise: so long after the log is on; default copy_ms */
    uint64_t link_rate;      /* bytes per second of the pages sent after the switch; default: any */
    uint64_t fault_delay_ns; /* until a request for a page has come to the source */
    bool is_random;          /* the order of pages that nobody waits for, by the seed */
    unsigned cut_ms;         /* the link is cut so often, at random; 0: never */
    unsigned cut_for_ms;     /* up to so long, at random; default 20 */
};

/* Zeros mean the defaults. */
struct migration_options {
    enum migration_device device;
    enum migration_order order;
    uint64_t seed;
    uint64_t memory;        /* bytes of guest memory; default 64 MiB, the load uses a part of it */
    uint64_t memory_top;    /* guest address at which a sparse last region ends (1 TiB: 1 << 40) */
    bool hugetlb;           /* 2 MiB pages */
    unsigned n_devices;     /* of one memory, each with two back-ends; default 1 */
    unsigned n_queues;      /* of each device; default 1 */
    unsigned queue_size;    /* default: by the seed */
    unsigned depth;         /* requests in flight per queue; default 32 */
    unsigned block_size;    /* default 4096 */
    unsigned write_percent; /* default 50; all reads where the disk is read-only */
    unsigned flush_percent; /* default 0 */
    bool read_only;         /* no writes at all */
    uint64_t disk_bytes;    /* of the disk that the load uses; default: up to 64 MiB */
    uint64_t features;      /* virtio features wanted of those offered; 0: all that are used here */
    bool packed;            /* packed rings, RING_PACKED (34) */
    bool in_order;          /* IN_ORDER (35) */
    enum gw_frontend_mem_form mem_form; /* how back-ends are told of memory */

    unsigned hops;       /* migrations that succeed, there and back; default 1 */
    unsigned cancels;    /* migrations that are cancelled at the source before the first hop */
    unsigned warm_up_ms; /* load before the migration; default 200 */
    unsigned copy_ms;    /* rounds go on for this long at least; default 1000 */
    unsigned settle_ms;  /* load at the destination; the stopped source is watched; default 300 */
    unsigned round_ms;   /* pause between rounds; default 10 */
    unsigned replace_log_ms;  /* a new dirty log so often; 0: never */
    unsigned region_ms;       /* a memory region added or removed so often; 0: never */
    unsigned call_fd_ms;      /* the call fds swapped so often; 0: never */
    unsigned timeout_ms;      /* of the whole run; default 60 s */
    unsigned request_ms;      /* of one request, also of the load; default 10 s */
    uint64_t log_offset;      /* of the logs in their files; QEMU has them at 0 */
    bool log_offset_random;   /* anywhere in the first pages instead, by the seed */
    enum migration_kill kill; /* of a back-end that is a command; needs INFLIGHT_SHMFD */
    struct migration_postcopy_options postcopy;
    /*
     * The other end is another process: this one is the source and connects to `to`, or it is the
     * destination and takes a connection from `listen_fd`, which stays the caller's. Both need
     * targets that stand for the other end, never started. `notice` is told what happens with the
     * connection, for people.
     */
    const char *to;     /* HOST:PORT */
    const char *listen; /* the same, of listen_fd */
    int listen_fd;
    unsigned reconnect_ms; /* until a lost connection is given up, after the switch; default 30 s */
    void (*notice)(const char *text);
    bool keep_backends;  /* connect to the same processes again in later hops, no new ones */
    uint32_t xen_domid;  /* the guest is this Xen domain (a disk of split rings); 0: the tool */
    unsigned xen_memory; /* how back-ends reach its memory: enum xen_form */
    bool xen_events;     /* they bind its event channels themselves */
};

struct migration_progress {
    enum migration_phase phase;
    unsigned hop, n_hops;
    unsigned round;
    uint64_t elapsed_ns;
    uint64_t dirty_pages; /* of the last round */
    uint64_t remaining;   /* bytes of the round going on */
    double copy_rate;     /* bytes per second */
    double requests_rate; /* per second, over the last interval */
    double bytes_rate;    /* the same in bytes */
    uint64_t stall_ns;    /* worst so far in this phase */
    const char *source, *destination;
};

/* Context: the thread of migration_run, at each phase and at most every 100 ms. */
typedef void migration_progress_cb(const struct migration_progress *p, void *arg);

/*
 * Migrate. `targets` are the source and the destination of the first device, then those of the
 * second, and so on. They may be started already or not; they stay the caller's, connected to
 * nothing when this returns. `progress` may be NULL. Returns: 0, whatever the verdict; a negative
 * errno where there is no result at all (-EINVAL for options that make no sense, -ENOMEM), with the
 * reason in the only fault.
 */
int migration_run(const struct migration_options *o, struct target *const *targets,
                  migration_progress_cb *progress, void *arg, struct migration_result *ret);
void migration_result_done(struct migration_result *result);

/* Words for people, of all enums; never NULL. */
const char *migration_phase_name(enum migration_phase phase);
const char *migration_use_name(enum migration_use use);
const char *migration_side_name(enum migration_side side);
const char *migration_order_name(enum migration_order order);
const char *migration_kill_name(enum migration_kill kill);
const char *migration_event_name(enum migration_event_kind kind);
