/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Checks what a killed back-end left: resolves the inflight region ("Queue region") as the next
 * back-end must, and compares it with the requests that the driver has in flight. This parser is
 * independent: it shares no code with the writers of the region.
 *
 * A device takes chains in ring order, so the chains it has taken are the oldest. Of the chains
 * added so far, `n_answered` have completed. With `n_taken` in the region, exactly the chains in
 * flight with numbers below n_answered + n_taken must be listed. The next back-end would never
 * complete a missing one, and would complete an excess one twice.
 *
 * An unused region (version 0) contains nothing, which is right if no request was taken. If one
 * was, the completions show it.
 */
#include "crash_i.h"

#include <errno.h>
#include <godwit/daemon.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VERSION        1
#define AT_VERSION     8
#define AT_DESC_NUM    10
#define PART_ALIGN     64
#define LARGE_PART_MIN 1024
#define F_AVAIL        (1u << 7)
#define F_USED         (1u << 15)

/* Split: a header, then an entry for each head. */
#define SPLIT_BATCH_HEAD 12
#define SPLIT_USED_IDX   14
#define SPLIT_ENTRIES    16
#define SPLIT_ENTRY      16
#define SPLIT_NEXT       6
#define SPLIT_COUNTER    8

/* Packed: a header, then an entry for each descriptor. */
#define PACKED_FREE_HEAD     12
#define PACKED_OLD_FREE_HEAD 14
#define PACKED_USED_IDX      16
#define PACKED_OLD_USED_IDX  18
#define PACKED_WRAP          20
#define PACKED_OLD_WRAP      21
#define PACKED_ENTRIES       32
#define PACKED_ENTRY         32
#define PACKED_NEXT          2
#define PACKED_LAST          4
#define PACKED_NUM           6
#define PACKED_COUNTER       8
#define PACKED_ID            16

/* One queue of the region. */
struct part {
    struct crash *c;
    const struct gw_driver *driver;
    const uint8_t *at;
    unsigned n_entries;
    bool is_torn; /* died between publishing a batch and recording that */
    struct taken *taken;
    unsigned n_taken, n_slots;
};

/* A request to resubmit. */
struct taken {
    uint64_t counter;
    uint64_t number; /* chain number */
    unsigned id;
};

static uint16_t get16(const struct part *p, size_t at)
{
    uint16_t v;

    memcpy(&v, p->at + at, sizeof(v));
    return v;
}

static uint64_t get64(const struct part *p, size_t at)
{
    uint64_t v;

    memcpy(&v, p->at + at, sizeof(v));
    return v;
}

static unsigned index_of(const struct part *p)
{
    return gw_driver_index(p->driver);
}

static int blame(const struct part *p, const char *what, unsigned number)
{
    return crash_blame(p->c, CRASH_CHECK_REGION, -EBADMSG,
                       "the inflight region of queue %u has %s %u", index_of(p), what, number);
}

/* Add a request that the region lists as in flight; the driver must have it in flight, too. */
static int add_taken(struct part *p, unsigned id, unsigned n_slots, uint64_t counter)
{
    struct taken *t = &p->taken[p->n_taken];

    if (!gw_driver_is_in_flight(p->driver, id, &t->number))
        return crash_blame(p->c, CRASH_CHECK_REGION, -EBADMSG,
                           "the inflight region of queue %u has request %u in flight, which has "
                           "completed: it would complete twice",
                           index_of(p), id);
    t->id = id;
    t->counter = counter;
    p->n_taken++;
    p->n_slots += n_slots;
    return 0;
}

/* ---- Split ---- */

/* Skip the batch that the used index shows as published, regardless of its inflight flags. */
static int settle_split(struct part *p, bool *is_settled)
{
    uint16_t n = (uint16_t)(gw_driver_used_idx(p->driver) - get16(p, SPLIT_USED_IDX));
    unsigned head = get16(p, SPLIT_BATCH_HEAD);

    p->is_torn = n > 0;
    for (; n > 0; n--) {
        if (head >= p->n_entries || is_settled[head])
            return blame(p, "a last batch shorter than the used elements, at entry", head);
        is_settled[head] = true;
        head = get16(p, SPLIT_ENTRIES + (size_t)head * SPLIT_ENTRY + SPLIT_NEXT);
    }
    return 0;
}

static int read_split(struct part *p, bool *is_settled)
{
    bool is_any = false;
    int r = 0;

    for (unsigned i = 0; i < p->n_entries; i++)
        is_any |= p->at[SPLIT_ENTRIES + (size_t)i * SPLIT_ENTRY] != 0;
    if (is_any)
        r = settle_split(p, is_settled);
    for (unsigned i = 0; r == 0 && i < p->n_entries; i++) {
        size_t at = SPLIT_ENTRIES + (size_t)i * SPLIT_ENTRY;

        if (p->at[at] != 0 && !is_settled[i])
            r = add_taken(p, i, 1, get64(p, at + SPLIT_COUNTER));
    }
    return r;
}

/* ---- Packed ---- */

/* Whether the last batch was published: the first descriptor is not available any longer. */
static bool was_shown(const struct part *p)
{
    unsigned old = get16(p, PACKED_OLD_USED_IDX);
    uint8_t old_wrap = p->at[PACKED_OLD_WRAP];
    struct gw_driver_packed_desc desc;

    if (get16(p, PACKED_USED_IDX) == old && p->at[PACKED_WRAP] == old_wrap)
        return false;
    gw_driver_read_packed_desc(p->driver, old, &desc);
    return (desc.flags & (F_AVAIL | F_USED)) != (old_wrap ? F_AVAIL : F_USED);
}

static unsigned next_of(const struct part *p, unsigned entry)
{
    return get16(p, PACKED_ENTRIES + (size_t)entry * PACKED_ENTRY + PACKED_NEXT);
}

static int read_free_list(struct part *p, bool *is_listed)
{
    unsigned entry = get16(p, p->is_torn ? PACKED_FREE_HEAD : PACKED_OLD_FREE_HEAD);

    for (; entry < p->n_entries; entry = next_of(p, entry)) {
        if (is_listed[entry])
            return blame(p, "a loop in its free list, at entry", entry);
        is_listed[entry] = true;
    }
    return 0;
}

static int read_chain(struct part *p, unsigned first, bool *is_listed)
{
    size_t at = PACKED_ENTRIES + (size_t)first * PACKED_ENTRY;
    unsigned last = get16(p, at + PACKED_LAST), num = get16(p, at + PACKED_NUM), entry = first;

    for (unsigned n = 0; n < num; n++) {
        if (n > 0)
            entry = next_of(p, entry);
        if (entry >= p->n_entries || is_listed[entry])
            return blame(p, "a chain with an entry that is free or in another chain, from entry",
                         first);
        is_listed[entry] = true;
    }
    if (num == 0 || entry != last)
        return blame(p, "a chain that does not end at its last entry, from entry", first);
    return add_taken(p, get16(p, PACKED_ENTRIES + (size_t)last * PACKED_ENTRY + PACKED_ID), num,
                     get64(p, at + PACKED_COUNTER));
}

static int read_packed(struct part *p, bool *is_listed)
{
    int r;

    p->is_torn = was_shown(p);
    r = read_free_list(p, is_listed);
    for (unsigned i = 0; r == 0 && i < p->n_entries; i++) {
        if (p->at[PACKED_ENTRIES + (size_t)i * PACKED_ENTRY] != 0 && !is_listed[i])
            r = read_chain(p, i, is_listed);
    }
    for (unsigned i = 0; r == 0 && i < p->n_entries; i++) {
        if (!is_listed[i])
            r = blame(p, "an entry that is neither free nor in flight:", i);
    }
    return r;
}

/* ---- Comparison with the driver ---- */

static int compare(const void *one, const void *other)
{
    const struct taken *a = one, *b = other;

    return a->number < b->number ? -1 : a->number > b->number;
}

/* Requests are taken in order: check that every one older than a taken one is in the region. */
static int check_missing(const struct part *p)
{
    uint64_t n_answered = gw_driver_added(p->driver) - gw_driver_in_flight(p->driver);
    uint64_t number;

    for (unsigned id = 0, at = 0; id < gw_driver_size(p->driver); id++) {
        if (!gw_driver_is_in_flight(p->driver, id, &number) || number >= n_answered + p->n_taken)
            continue;
        for (at = 0; at < p->n_taken && p->taken[at].id != id;)
            at++;
        if (at == p->n_taken)
            return crash_blame(p->c, CRASH_CHECK_REGION, -EBADMSG,
                               "the inflight region of queue %u lacks request %u, although later "
                               "ones are in it or completed: it would never complete",
                               index_of(p), id);
    }
    return 0;
}

/* Check the counters; `taken` is sorted by the order of availability. */
static int check_order(const struct part *p)
{
    for (unsigned i = 1; i < p->n_taken; i++) {
        const struct taken *t = &p->taken[i];

        if (t->number == t[-1].number)
            return blame(p, "two entries for request", t->id);
        /* Counters wrap around: later is less than half the range ahead. */
        if ((int64_t)(t->counter - t[-1].counter) <= 0)
            return crash_blame(p->c, CRASH_CHECK_ORDER, -EBADMSG,
                               "the inflight region of queue %u counts request %u before request "
                               "%u, which was made available first",
                               index_of(p), t->id, t[-1].id);
    }
    return 0;
}

static int check_taken(struct part *p)
{
    int r = check_missing(p);

    qsort(p->taken, p->n_taken, sizeof(p->taken[0]), compare);
    return r ? r : check_order(p);
}

/* Check that the vring base from a stop agrees with the region. */
static int check_stop(struct part *p)
{
    unsigned taken = 0;

    if (!p->c->is_stopped[index_of(p)])
        return 0;
    if (gw_driver_check_base(p->driver, &taken) < 0)
        return crash_blame(p->c, CRASH_CHECK_REGION, -EPROTO,
                           "GET_VRING_BASE of queue %u returned the impossible value %#x",
                           index_of(p), gw_driver_base(p->driver));
    if (p->c->is_drained && p->n_taken > 0)
        return crash_blame(p->c, CRASH_CHECK_REGION, -EBUSY,
                           "queue %u was stopped with %u requests in flight", index_of(p),
                           p->n_taken);
    if (taken == p->n_slots)
        return 0;
    return crash_blame(p->c, CRASH_CHECK_REGION, -EPROTO,
                       "GET_VRING_BASE of queue %u reports %u taken, but its inflight region %u",
                       index_of(p), taken, p->n_slots);
}

static int check_part(struct part *p, bool *flags)
{
    uint16_t version = get16(p, AT_VERSION);
    int r = 0;

    if (version > VERSION)
        return blame(p, "the unknown version", version);
    if (version == VERSION && get16(p, AT_DESC_NUM) != p->n_entries)
        return blame(p, "an unexpected number of entries:", get16(p, AT_DESC_NUM));
    if (version == VERSION)
        r = gw_driver_is_packed(p->driver) ? read_packed(p, flags) : read_split(p, flags);
    if (r == 0 && version == VERSION)
        r = check_taken(p);
    if (r == 0)
        r = check_stop(p);
    p->c->ret->n_in_flight += gw_driver_in_flight(p->driver);
    p->c->ret->n_taken += p->n_taken;
    p->c->ret->n_torn += p->is_torn;
    return r;
}

static uint64_t stride_for(const struct crash *c, uint64_t n)
{
    uint64_t len =
        c->o.is_packed ? PACKED_ENTRIES + n * PACKED_ENTRY : SPLIT_ENTRIES + n * SPLIT_ENTRY;

    return (len + PART_ALIGN - 1) / PART_ALIGN * PART_ALIGN;
}

/*
 * Entries of a queue's part: the queue size, according to the specification. libgodwit creates
 * larger parts but returns the requested queue size; the length of the region reveals it.
 */
static unsigned entries_of(const struct crash *c)
{
    const struct gw_frontend_inflight *f = &c->inflight;

    for (unsigned n = LARGE_PART_MIN; n <= GW_QUEUE_SIZE_MAX; n *= 2)
        if (n > f->queue_size && f->mmap_size == f->num_queues * stride_for(c, n))
            return n;
    return f->queue_size;
}

static uint64_t stride_of(const struct crash *c)
{
    return stride_for(c, entries_of(c));
}

static int check_all(struct crash *c, const uint8_t *region)
{
    unsigned n = entries_of(c);
    struct taken *taken = calloc(n, sizeof(*taken));
    bool *flags = calloc(n, sizeof(*flags));
    int r = taken && flags ? 0 : -ENOMEM;

    for (unsigned i = 0; r == 0 && i < c->n_drivers; i++) {
        struct part p = {.c = c,
                         .driver = c->drivers[i],
                         .at = region + i * stride_of(c),
                         .n_entries = n,
                         .taken = taken};

        memset(flags, 0, n * sizeof(*flags));
        r = check_part(&p, flags);
    }
    free(flags);
    free(taken);
    return r;
}

int crash_check_region(struct crash *c)
{
    uint64_t len = c->n_drivers * stride_of(c);
    uint8_t *copy;
    ssize_t n;
    int r;

    if (c->inflight.mmap_size == 0)
        return 0;
    copy = malloc(len);
    if (!copy)
        return -ENOMEM;
    /* Read it instead of mapping it: the back-end may have truncated the file. */
    n = pread(c->inflight.fd, copy, len, (off_t)c->inflight.mmap_offset);
    if (n == (ssize_t)len && len <= c->inflight.mmap_size)
        r = check_all(c, copy);
    else
        r = crash_blame(c, CRASH_CHECK_REGION, -EBADMSG,
                        "read %zd of %llu bytes of the inflight region, but %u queues of %u "
                        "descriptors need %llu",
                        n, (unsigned long long)c->inflight.mmap_size, c->n_drivers, entries_of(c),
                        (unsigned long long)len);
    free(copy);
    return r;
}

struct crash_watch crash_watch_of(const struct crash *c)
{
    /* Both words locate the batch. A packed ring's free list changes with each request. */
    uint64_t at = c->o.is_packed ? PACKED_USED_IDX : SPLIT_BATCH_HEAD;

    return (struct crash_watch){.fd = c->inflight.fd,
                                .first = c->inflight.mmap_offset + at,
                                .stride = stride_of(c),
                                .rings = c->rings,
                                .is_packed = c->o.is_packed,
                                .queue_size = c->o.queue_size,
                                .n = c->inflight.mmap_size > 0 ? c->n_drivers : 0};
}
