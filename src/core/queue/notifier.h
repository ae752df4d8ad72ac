/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A notifier: an eventfd, the event channel of a Xen domain, messages on the back-end channel
 * (in-band), or none of these. A queue has three: for the driver's kicks, for calls to the driver,
 * and for errors. Context: the worker of the queue, or, for gw_notifier_signal without a loop, any
 * thread with its lock.
 */
#pragma once

#include "core/loop/loop.h"
#include "evtchn.h"

#include <stdbool.h>

/* What a front-end passes. */
struct gw_notifier_name {
    int fd;                        /* an eventfd; -1: none */
    struct gw_evtchn_name channel; /* if set, `fd` is -1 */
    bool in_band;                  /* of kicks: messages; `fd` is -1 */
};

/* Messages of a queue that the control worker is to send to the front-end (session/inband.c). */
struct gw_inband {
    unsigned pending; /* atomic: GW_INBAND_* */
    int wake_fd;      /* wakes the control worker */
};

#define GW_INBAND_CALL 1u
#define GW_INBAND_ERR  2u

struct gw_notifier {
    int fd;                    /* [lock] -1: none, or a channel */
    bool signalled;            /* [lock] was signalled, or should have been */
    struct gw_evtchn *channel; /* [lock] */
    void *bell;                /* of the loop that signals `fd`; NULL: none */
    struct gw_source source;   /* its `cb` is NULL unless the notifier is watched */
    struct gw_inband *in_band; /* [lock] NULL unless its signals are messages */
    unsigned in_band_bit;      /* [lock] of in_band->pending */
};

void gw_notifier_init(struct gw_notifier *n);

/*
 * Own what `name` names; its fd is consumed. `other` is the queue's notifier of the other
 * direction: one channel can serve both. Returns: 0; as gw_evtchn_bind, and then `n` is
 * initialized.
 */
int gw_notifier_open(struct gw_notifier *n, struct gw_notifier_name *name,
                     const struct gw_notifier *other);
/* Signal by messages from now on, unless `n` is an eventfd or a channel. */
void gw_notifier_use_inband(struct gw_notifier *n, struct gw_inband *in_band, unsigned bit);
/* Allowed if there is nothing to close. `loop`: the worker's, NULL after its end. */
void gw_notifier_close(struct gw_notifier *n, struct gw_loop *loop);
/* Close what `n` owns, and move `next` there. Keeps `signalled`. */
void gw_notifier_replace(struct gw_notifier *n, struct gw_notifier *next, struct gw_loop *loop);

/* Is there neither an eventfd nor a channel? */
static inline bool gw_notifier_is_none(const struct gw_notifier *n)
{
    return n->fd < 0 && !n->channel;
}

/*
 * Run `cb` when the other side notifies. It gets the `source` of `n`, and calls gw_notifier_take
 * before it checks what the notification announces. Returns: 0; as gw_loop_ops.add, with
 * gw_last_error, and then `n` is closed.
 */
int gw_notifier_watch(struct gw_notifier *n, struct gw_loop *loop,
                      void (*cb)(struct gw_source *source, uint32_t events));
void gw_notifier_take(struct gw_notifier *n);

void gw_notifier_unwatch(struct gw_notifier *n, struct gw_loop *loop);

/* Prepare signalling the other side through the loop. */
void gw_notifier_prepare(struct gw_notifier *n, struct gw_loop *loop);
void gw_notifier_unprepare(struct gw_notifier *n, struct gw_loop *loop);
/*
 * Notify the other side: with the next submission of `loop`, or at once if it is NULL. Never
 * sleeps. Returns: false if there is nothing to signal.
 */
bool gw_notifier_signal(struct gw_notifier *n, struct gw_loop *loop);
