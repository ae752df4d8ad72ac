/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Translations that queues miss, on their way to the IOMMU. Queues add them on their workers; the
 * control worker sends them and gives up those that are not answered. The list is bounded: a miss
 * that finds no room is not recorded, and its queue asks again after the next change of the table.
 */
#pragma once

#include "iotlb.h"

#include <pthread.h>

#define GW_IOTLB_MISSES_MAX 128

enum gw_iotlb_report_state {
    GW_IOTLB_REPORT_NEW = 0,  /* to be sent */
    GW_IOTLB_REPORT_SENT,     /* not answered yet; never for a failed access */
    GW_IOTLB_REPORT_GIVEN_UP, /* the table forbids the page for a while */
};

struct gw_iotlb_report {
    struct gw_iotlb_miss miss; /* of a miss: the address of the page */
    bool is_failure;           /* an entry forbids the access */
    enum gw_iotlb_report_state state;
    uint64_t since_ns; /* of `state` */
};

struct gw_iotlb_misses {
    pthread_mutex_t lock;
    unsigned n;          /* atomic to read without the lock */
    uint64_t failure_ns; /* when the last failure was recorded */
    struct gw_iotlb_report reports[GW_IOTLB_MISSES_MAX];
    void (*added)(struct gw_iotlb_misses *m); /* there is something to send; any thread */
};

void gw_iotlb_misses_init(struct gw_iotlb_misses *m, void (*added)(struct gw_iotlb_misses *m));
void gw_iotlb_misses_done(struct gw_iotlb_misses *m);
/* Forget all of them. */
void gw_iotlb_misses_clear(struct gw_iotlb_misses *m);
/* Forget what was sent and not answered: it is asked for again when it is missed again. */
void gw_iotlb_misses_renew(struct gw_iotlb_misses *m);

/*
 * Record a missing entry unless it is known, or a failed access, but no more than one a second: the
 * front-end may log each. Context: any thread.
 */
void gw_iotlb_misses_add(struct gw_iotlb_misses *m, struct gw_iotlb_miss miss, bool is_failure);

/* Copy the first report to be sent. Returns: whether there is one. */
bool gw_iotlb_misses_first_new(struct gw_iotlb_misses *m, struct gw_iotlb_report *ret);
/* It was sent. */
void gw_iotlb_misses_sent(struct gw_iotlb_misses *m, const struct gw_iotlb_report *report,
                          uint64_t now_ns);
/* The front-end has changed this range: forget the misses in it. */
void gw_iotlb_misses_answered(struct gw_iotlb_misses *m, struct gw_iova_range range);
/*
 * Give up a miss that was recorded, or sent, before `before_ns`. Returns: whether there is one; its
 * page is to be forbidden then.
 */
bool gw_iotlb_misses_give_up(struct gw_iotlb_misses *m, uint64_t before_ns, uint64_t now_ns,
                             struct gw_iotlb_miss *ret);
/* Forget one that was given up before `before_ns`. Returns: whether there is one. */
bool gw_iotlb_misses_forget(struct gw_iotlb_misses *m, uint64_t before_ns,
                            struct gw_iotlb_miss *ret);
