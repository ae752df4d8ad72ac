/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A small vhost-user disk of the tests' own, on plain sockets and one thread, without a line of
 * the library: honest, or wrong in exactly one way, so that what judges back-ends can be judged.
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
    SUSPECT_EVERY_100TH,      /* buffer is forgotten */
    SUSPECT_MARK_FIRST,       /* then write, some time later */
    SUSPECT_WRITE_AFTER_STOP, /* was answered, and mark it */
    SUSPECT_OLD_LOG,          /* is marked in for some time after its replacement */
    SUSPECT_LATER_REGION,     /* is not marked until the next SET_LOG_BASE */
    SUSPECT_OUTSIDE,          /* writes where it was given nothing */
    SUSPECT_STOP_IN_FLIGHT,   /* answers the stop with a request taken and not completed */
    SUSPECT_MARKS_AFTER_OFF,  /* goes on when LOG_ALL was cleared */
    SUSPECT_MARKS_TOO_MUCH,   /* a megabyte around each */
    SUSPECT_LOSES_WRITES,     /* acknowledges and does nothing, now and then */
    SUSPECT_NOT_REGISTERED,   /* reads zeroes where a page is missing */
    SUSPECT_OTHER_ADDRESSES,  /* tells the front-end where the front-end itself has its memory */
};

#define SUSPECT_LATE_ANSWER_MS 1600 /* the default of late_ms */

enum suspect_failure {
    SUSPECT_ANSWERS = 0,
    SUSPECT_HANGS,   /* never answers */
    SUSPECT_DIES,    /* hangs up */
    SUSPECT_REFUSES, /* where the message has an acknowledgement */
    SUSPECT_BABBLES, /* answers twice */
    SUSPECT_WRONG_ID,
    SUSPECT_IS_LATE, /* answers late_ms after it was asked */
};

#define SUSPECT_QUEUES  4
#define SUSPECT_REGIONS 16

struct suspect_region {
    uint64_t gpa, size, uva, map_len;
    uint8_t *host, *map;
    bool in_log; /* was there at the last SET_LOG_BASE */
};

struct suspect_queue {
    unsigned size;
    uint64_t desc, avail, used, log_addr; /* user addresses, but for log_addr */
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
    /* set before it is started */
    enum suspect_guilt guilt;
    enum suspect_failure failure;
    unsigned late_ms;      /* 0: SUSPECT_LATE_ANSWER_MS */
    uint32_t fail_request; /* the message at which it fails ... */
    unsigned fail_after;   /* ... when it comes for so many times more */
    int disk_fd;
    uint64_t sectors;
    uint64_t features_off; /* not offered */
    bool has_postcopy;     /* offers PAGEFAULT */
    /* offered where they are not 0; a request that does not keep to them fails */
    uint32_t block_size, size_max, seg_max;

    /* its own */
    bool fails_now; /* in this message */
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
    unsigned old_left; /* marks that still go into the old one */
    uint64_t n_requests, n_buffers;
    uint64_t last_gpa, last_len; /* of a buffer that was written */
};

/* Serve the connected socket, which is consumed, until it is hung up or suspect_end. */
void suspect_start(struct suspect *s, int fd);
void suspect_end(struct suspect *s);

/* ---- between suspect.c and suspect_postcopy.c ---- */

/* Returns: its userfaultfd; -1 there is none. */
int suspect_advise(struct suspect *s);
/* A new region while memory is missing. Returns: where it is said to be. */
uint64_t suspect_show(struct suspect *s, const struct suspect_region *g);
void suspect_forget_faults(struct suspect *s);
/* Who looks where nothing of what the driver wrote is does nothing else with a queue. */
bool suspect_is_lost(const struct suspect *s);

/* ---- between suspect.c and suspect_disk.c ---- */

void *suspect_at(const struct suspect *s, uint64_t gpa, uint64_t len);
void *suspect_at_uva(const struct suspect *s, uint64_t uva);
void suspect_mark(struct suspect *s, uint64_t gpa, uint64_t len);
/* Wait, not for ever, until the front-end has taken the mark of this page. */
void suspect_wait_taken(const struct suspect *s, uint64_t gpa);
/* All that is available on a queue. `n_max`: so many requests at most. */
void suspect_serve(struct suspect *s, struct suspect_queue *q, unsigned n_max);
