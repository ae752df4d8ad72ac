/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Requests on granted memory. One hypercall copies the buffers of a whole batch: those that the
 * device reads after the batch is popped, those that it wrote before the batch is published.
 */
#include "core/queue/copies.h"

#include "base/cleanup.h"
#include "core/queue/queue_i.h"

unsigned gw_copies_fetch(struct gw_queue *q, struct gw_request **reqs, unsigned n_reqs)
{
    struct gw_pin_copy copies[GW_POP_BATCH];
    unsigned n_copies = 0, n_good = 0, at = 0;

    for (unsigned i = 0; i < n_reqs; i++) {
        struct gw_request_i *r = gw_container_of(reqs[i], struct gw_request_i, pub);

        if (!r->pin.backend)
            continue;
        r->is_copied = true;
        q->in_flight.n_copied += r->len;
        copies[n_copies++] =
            (struct gw_pin_copy){.pin = &r->pin, .n_readable = r->n_readable_extents};
    }
    gw_mem_backend_fetch(copies, n_copies);
    for (unsigned i = 0; i < n_reqs; i++) {
        struct gw_request_i *r = gw_container_of(reqs[i], struct gw_request_i, pub);

        if (!r->is_copied || !copies[at++].failed) {
            reqs[n_good++] = reqs[i];
            continue;
        }
        gw_request_uncount(q, r);
        gw_chain_release(q, r);
        r->is_bad = true;
        r->n_readable_extents = r->n_writable_extents = 0;
        gw_request_report_bad(q, r, "a page of it is not granted");
        gw_request_answer(q, r, 0);
    }
    return n_good;
}

/* A request that the device has completed turns out to be a bad chain: count and log it as one. */
static void mark_bad(struct gw_queue *q, struct gw_request_i *r, const char *why)
{
    gw_request_uncount(q, r);
    gw_count(&q->stats.completed, (uint64_t)-1);
    gw_count(&q->stats.bytes_written, -(uint64_t)r->used_len);
    r->is_bad = true;
    r->used_len = 0;
    gw_request_report_bad(q, r, why);
}

/*
 * Writes the used elements of the batch again, with other lengths. This is possible because none of
 * them is published yet.
 */
static void rewrite_used(struct gw_queue *q)
{
    struct gw_request_i *oldest = NULL, *r, *next;
    unsigned n_slots = 0;

    if (!q->ring.attached)
        return;
    q->ring.ops->unput(&q->ring);
    for (r = q->batch.completed; r; r = next) {
        next = r->next_free;
        r->next_free = oldest;
        oldest = r;
    }
    q->batch.completed = NULL;
    for (r = oldest; r; r = next) {
        next = r->next_free;
        n_slots += r->n_slots;
        if (!q->batch.in_order || !next || !gw_request_can_be_skipped(r)) {
            q->ring.ops->put_used(&q->ring, r->id, r->used_len, n_slots);
            n_slots = 0;
        }
        r->next_free = q->batch.completed;
        q->batch.completed = r;
    }
}

/* Stores the copies of up to GW_POP_BATCH requests from `*r` on. Returns: false if one is torn. */
static bool store_some(struct gw_queue *q, struct gw_request_i **r, bool *ret_any_bad)
{
    struct gw_request_i *stored[GW_POP_BATCH];
    struct gw_pin_copy copies[GW_POP_BATCH];
    bool torn = false;
    unsigned n = 0;

    for (; *r && n < GW_ARRAY_SIZE(copies); *r = (*r)->next_free) {
        if (!(*r)->is_copied)
            continue;
        stored[n] = *r;
        copies[n++] =
            (struct gw_pin_copy){.pin = &(*r)->pin, .n_readable = (*r)->n_readable_extents};
    }
    gw_mem_backend_store(copies, n);
    for (unsigned i = 0; i < n; i++) {
        torn = torn || copies[i].torn;
        if (copies[i].failed) {
            mark_bad(q, stored[i], "a page of it is not granted for writing");
            *ret_any_bad = true;
        }
    }
    return !torn;
}

void gw_copies_store(struct gw_queue *q)
{
    struct gw_request_i *r = q->batch.completed;
    bool any_bad = false, good = true;

    while (r)
        good = store_some(q, &r, &any_bad) && good;
    if (!good) {
        q->ring.ops->unput(&q->ring);
        q->ring.attached = false; /* its memory stays pinned: a thread may be about to read it */
        gw_queue_break(q, "the driver revoked a grant that the device must write to");
    } else if (any_bad) {
        rewrite_used(q);
    }
}
