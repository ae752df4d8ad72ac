/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A small vhost-user disk for the tests, on plain sockets with one thread and without any code of
 * the library. It is correct, or faulty in exactly one way, to test the tools that judge back-ends.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum suspect_guilt {
    SUSPECT_HONEST = 0,
    SUSPECT_NO_MARKS,
    SUSPECT_NO_USED_IDX,
    SUSPECT_NO_USED_ELEMENT,
    SUSPECT_NO_AVAIL_EVENT,
    SUSPECT_NO_LAST_PAGE, /* of a data buffer */
    SUSPECT_NO_STATUS,
    SUSPECT_NO_INDIRECT,      /* buffers of an indirect table */
    SUSPECT_EVERY_100TH,      /* forgets every 100th buffer */
    SUSPECT_MARK_FIRST,       /* marks a page, and writes it some time later */
    SUSPECT_WRITE_AFTER_STOP, /* answers the stop, then writes and marks */
    SUSPECT_OLD_LOG,          /* keeps marking in a replaced log for some time */
    SUSPECT_LATER_REGION,     /* does not mark a new region until the next SET_LOG_BASE */
    SUSPECT_OUTSIDE,          /* writes outside the buffers it was given */
    SUSPECT_STOP_IN_FLIGHT,   /* answers the stop with a request taken and not completed */
    SUSPECT_MARKS_AFTER_OFF,  /* keeps marking after LOG_ALL was cleared */
    SUSPECT_MARKS_TOO_MUCH,   /* marks a megabyte around each write */
    SUSPECT_LOSES_WRITES,     /* acknowledges some writes without doing them */
    SUSPECT_NOT_REGISTERED,   /* reads zeroes from missing pages */
    SUSPECT_OTHER_ADDRESSES,  /* answers with the front-end's own addresses of the memory */
};

#define SUSPECT_LATE_ANSWER_MS 1600 /* the default of late_ms */

enum suspect_failure {
    SUSPECT_ANSWERS = 0,
    SUSPECT_HANGS,   /* never answers */
    SUSPECT_DIES,    /* hangs up */
    SUSPECT_REFUSES, /* if the message has an acknowledgement */
    SUSPECT_BABBLES, /* answers twice */
    SUSPECT_WRONG_ID,
    SUSPECT_IS_LATE, /* answers late_ms after the request */
};

#define SUSPECT_QUEUES  4
#define SUSPECT_REGIONS 16

struct suspect_region {
    uint64_t gpa, size, uva, map_len;
    uint8_t *host, *map;
    bool in_log; /* existed at the last SET_LOG_BASE */
};

struct suspect_queue {
    unsigned size;
    uint64_t desc, avail, used, log_addr; /* user addresses, except log_addr */
    bool log;
    int kick, call;
    bool enabled;
    uint16_t next_avail, next_used, signalled;
};

struct suspect_log {
    uint8_t *map, *bits;
    uint64_t map_len, size;
};

struct suspect {
    /* set before suspect_start */
    enum suspect_guilt guilt;
    enum suspect_failure failure;
    unsigned late_ms;      /* 0: SUSPECT_LATE_ANSWER_MS */
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
    struct suspect_region regions[SUSPECT_REGIONS];
    unsigned n_regions;
    struct suspect_queue queues[SUSPECT_QUEUES];
    struct suspect_log log, old_log;
    unsigned old_left; /* marks that still go to the old log */
    uint64_t n_requests, n_buffers;
    uint64_t last_gpa, last_len; /* of the last buffer written */
};

/*
 * Serve the connected socket until it is hung up or suspect_end is called. Takes ownership of `fd`.
 */
void suspect_start(struct suspect *s, int fd);
void suspect_end(struct suspect *s);

/* ---- between suspect.c and suspect_postcopy.c ---- */

/* Returns: a new userfaultfd; -1 if unavailable. */
int suspect_advise(struct suspect *s);
/* Map a new region while memory is missing. Returns: the address to report. */
uint64_t suspect_show(struct suspect *s, const struct suspect_region *g);
void suspect_forget_faults(struct suspect *s);
/* If nothing that the driver wrote is visible in memory, the suspect ignores the queue. */
bool suspect_is_lost(const struct suspect *s);

/* ---- between suspect.c and suspect_disk.c ---- */

void *suspect_at(const struct suspect *s, uint64_t gpa, uint64_t len);
void *suspect_at_uva(const struct suspect *s, uint64_t uva);
void suspect_mark(struct suspect *s, uint64_t gpa, uint64_t len);
/* Wait, for a limited time, until the front-end has collected the mark of this page. */
void suspect_wait_taken(const struct suspect *s, uint64_t gpa);
/* Serve the available requests of a queue, at most `n_max`. */
void suspect_serve(struct suspect *s, struct suspect_queue *q, unsigned n_max);
