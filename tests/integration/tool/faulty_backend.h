/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A small vhost-user disk for the tests, on plain sockets with one thread and without any code of
 * the library. It is correct, or faulty in exactly one way, to test the tools that judge back-ends.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum faulty_backend_fault {
    FAULTY_NONE = 0,
    FAULTY_NO_MARKS,
    FAULTY_NO_USED_IDX,
    FAULTY_NO_USED_ELEMENT,
    FAULTY_NO_AVAIL_EVENT,
    FAULTY_NO_LAST_PAGE, /* of a data buffer */
    FAULTY_NO_STATUS,
    FAULTY_NO_INDIRECT,      /* buffers of an indirect table */
    FAULTY_EVERY_100TH,      /* forgets every 100th buffer */
    FAULTY_MARK_FIRST,       /* marks a page, and writes it some time later */
    FAULTY_WRITE_AFTER_STOP, /* answers the stop, then writes and marks */
    FAULTY_OLD_LOG,          /* keeps marking in a replaced log for some time */
    FAULTY_LATER_REGION,     /* does not mark a new region until the next SET_LOG_BASE */
    FAULTY_OUTSIDE,          /* writes outside the buffers it was given */
    FAULTY_STOP_IN_FLIGHT,   /* answers the stop with a request taken and not completed */
    FAULTY_MARKS_AFTER_OFF,  /* keeps marking after LOG_ALL was cleared */
    FAULTY_MARKS_TOO_MUCH,   /* marks a megabyte around each write */
    FAULTY_LOSES_WRITES,     /* acknowledges some writes without doing them */
    FAULTY_NOT_REGISTERED,   /* reads zeroes from missing pages */
    FAULTY_OTHER_ADDRESSES,  /* answers with the front-end's own addresses of the memory */
};

#define FAULTY_BACKEND_LATE_ANSWER_MS 1600 /* the default of late_ms */

enum faulty_backend_failure {
    FAULTY_ANSWERS = 0,
    FAULTY_HANGS,   /* never answers */
    FAULTY_DIES,    /* hangs up */
    FAULTY_REFUSES, /* if the message has an acknowledgement */
    FAULTY_BABBLES, /* answers twice */
    FAULTY_WRONG_ID,
    FAULTY_IS_LATE, /* answers late_ms after the request */
};

#define FAULTY_BACKEND_QUEUES  4
#define FAULTY_BACKEND_REGIONS 16

struct faulty_backend_region {
    uint64_t gpa, size, uva, map_len;
    uint8_t *host, *map;
    bool in_log; /* existed at the last SET_LOG_BASE */
};

struct faulty_backend_queue {
    unsigned size;
    uint64_t desc, avail, used, log_addr; /* user addresses, except log_addr */
    bool log;
    int kick, call;
    bool enabled;
    uint16_t next_avail, next_used, signalled;
};

struct faulty_backend_log {
    uint8_t *map, *bits;
    uint64_t map_len, size;
};

struct faulty_backend {
    /* set before faulty_backend_start */
    enum faulty_backend_fault fault;
    enum faulty_backend_failure failure;
    unsigned late_ms;      /* 0: FAULTY_BACKEND_LATE_ANSWER_MS */
    uint32_t fail_request; /* the message at which it fails ... */
    unsigned fail_after;   /* ... after this many earlier ones */
    int disk_fd;
    uint64_t sectors;
    uint64_t features_off; /* features not to offer */
    bool has_postcopy;     /* offers PAGEFAULT */
    /* offered if not 0; a request that exceeds them fails */
    uint32_t block_size, size_max, seg_max;

    /* private */
    bool fails_now; /* at the current message */
    int fd, quit_fd;
    pthread_t thread;
    bool is_started;
    uint64_t features, protocol_features;
    int uffd; /* -1: none */
    bool is_listening;
    struct faulty_backend_region regions[FAULTY_BACKEND_REGIONS];
    unsigned n_regions;
    struct faulty_backend_queue queues[FAULTY_BACKEND_QUEUES];
    struct faulty_backend_log log, old_log;
    unsigned old_left; /* marks that still go to the old log */
    uint64_t n_requests, n_buffers;
    uint64_t last_gpa, last_len; /* of the last buffer written */
};

/*
 * Serve the connected socket until it is hung up or faulty_backend_end is called. Takes ownership
 * of `fd`.
 */
void faulty_backend_start(struct faulty_backend *s, int fd);
void faulty_backend_end(struct faulty_backend *s);

/* ---- between faulty_backend.c and faulty_backend_postcopy.c ---- */

/* Returns: a new userfaultfd; -1 if unavailable. */
int faulty_backend_advise(struct faulty_backend *s);
/* Map a new region while memory is missing. Returns: the address to report. */
uint64_t faulty_backend_show(struct faulty_backend *s, const struct faulty_backend_region *g);
void faulty_backend_forget_faults(struct faulty_backend *s);
/* If nothing that the driver wrote is visible in memory, the faulty back-end ignores the queue. */
bool faulty_backend_is_lost(const struct faulty_backend *s);

/* ---- between faulty_backend.c and faulty_backend_disk.c ---- */

void *faulty_backend_at(const struct faulty_backend *s, uint64_t gpa, uint64_t len);
void *faulty_backend_at_uva(const struct faulty_backend *s, uint64_t uva);
void faulty_backend_mark(struct faulty_backend *s, uint64_t gpa, uint64_t len);
/* Wait, for a limited time, until the front-end has collected the mark of this page. */
void faulty_backend_wait_taken(const struct faulty_backend *s, uint64_t gpa);
/* Serve the available requests of a queue, at most `n_max`. */
void faulty_backend_serve(struct faulty_backend *s, struct faulty_backend_queue *q, unsigned n_max);
