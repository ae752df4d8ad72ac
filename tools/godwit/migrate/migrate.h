/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A whole live migration between two back-ends, without a VM, and everything that a report needs of
 * it.
 *
 * The tool plays the VMM: it owns both guest memories and runs the load. It copies only pages that
 * the dirty log marks or that its own driver wrote. So a byte that still differs after the source
 * stopped was written by the source and not logged.
 */
#pragma once

#include "migrate_result.h"
#include "target/target.h"

#define MIGRATION_DEVICES_MAX 16

/* Zeros mean the defaults. */
struct migration_postcopy_options {
    bool is_on;
    bool has_round; /* switch after `round` rounds; 0 rounds copy nothing before the switch */
    unsigned round;
    unsigned at_ms;          /* otherwise: switch this long after the log is on; default copy_ms */
    uint64_t link_rate;      /* bytes per second of the pages sent after the switch; default: any */
    uint64_t fault_delay_ns; /* added latency of each page request */
    bool is_random;          /* random order for pages that no thread waits for */
    unsigned cut_ms;         /* interrupt the link at random, this often on average; 0: never */
    unsigned cut_for_ms;     /* up to this long, at random; default 20 */
};

/* Zeros mean the defaults. */
struct migration_options {
    enum migration_device device;
    enum migration_order order;
    uint64_t seed;
    uint64_t memory; /* guest memory size in bytes; default 64 MiB, of which the load uses a part */
    uint64_t memory_top;    /* guest address at which a sparse last region ends (1 TiB: 1 << 40) */
    bool hugetlb;           /* 2 MiB pages */
    unsigned n_devices;     /* that share the memory, each with two back-ends; default 1 */
    unsigned n_queues;      /* of each device; default 1 */
    unsigned queue_size;    /* default: by the seed */
    unsigned depth;         /* requests in flight per queue; default 32 */
    unsigned block_size;    /* default 4096 */
    unsigned write_percent; /* default 50; all reads where the disk is read-only */
    unsigned flush_percent; /* default 0 */
    bool read_only;         /* no writes at all */
    uint64_t disk_bytes;    /* of the disk that the load uses; default: up to 64 MiB */
    uint64_t features;      /* virtio features to accept if offered; 0: all that the tool knows */
    bool packed;            /* packed rings, RING_PACKED (34) */
    bool in_order;          /* IN_ORDER (35) */
    enum gw_frontend_mem_form mem_form; /* messages that pass the memory to back-ends */

    unsigned hops;       /* migrations that succeed, there and back; default 1 */
    unsigned cancels;    /* migrations that are cancelled at the source before the first hop */
    unsigned warm_up_ms; /* load before the migration; default 200 */
    unsigned copy_ms;    /* minimum time of the rounds; default 1000 */
    unsigned settle_ms;  /* load at the destination; the stopped source is watched; default 300 */
    unsigned round_ms;   /* pause between rounds; default 10 */
    unsigned replace_log_ms;  /* replace the dirty log this often on average; 0: never */
    unsigned region_ms;       /* add or remove a region this often on average; 0: never */
    unsigned call_fd_ms;      /* replace the call fds this often on average; 0: never */
    unsigned timeout_ms;      /* of the whole run; default 60 s */
    unsigned request_ms;      /* of one request, also of the load; default 10 s */
    uint64_t log_offset;      /* offset of each log in its file; default 0, like QEMU */
    bool log_offset_random;   /* instead: a random offset in the first pages */
    enum migration_kill kill; /* of a back-end that is a command; needs INFLIGHT_SHMFD */
    struct migration_postcopy_options postcopy;
    /*
     * The other end is another process. This one is the source and connects to `to`, or it is the
     * destination and accepts a connection from `listen_fd`, which the caller keeps. Both need
     * targets that stand for the other end and are never started. `notice` is called with a
     * sentence for people about each change of the connection.
     */
    const char *to;     /* HOST:PORT */
    const char *listen; /* the address of listen_fd */
    int listen_fd;
    unsigned reconnect_ms; /* how long to reconnect after the switch; default 30 s */
    void (*notice)(const char *text);
    bool keep_backends;  /* reconnect to the same processes in later hops instead of starting new
                            ones */
    uint32_t xen_domid;  /* the guest is this Xen domain (a disk of split rings); 0: the tool */
    unsigned xen_memory; /* how back-ends reach its memory: enum xen_form */
    bool xen_events;     /* back-ends bind its event channels themselves */
};

struct migration_progress {
    enum migration_phase phase;
    unsigned hop, n_hops;
    unsigned round;
    uint64_t elapsed_ns;
    uint64_t dirty_pages; /* of the last round */
    uint64_t remaining;   /* bytes left to copy in this round */
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
 * second, and so on. They may be started already. The caller keeps them; nothing is connected to
 * them when this returns. `progress` may be NULL. Returns: 0, whatever the verdict; a negative
 * errno if there is no result at all (-EINVAL for options that contradict each other, -ENOMEM),
 * with the reason in the only fault.
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
