/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Descriptor chains. Each descriptor is copied once and only the copy is looked at: the driver may
 * write the table while we read it. The walk is bounded three times over: by the table it is in, by
 * GW_CHAIN_MAX, and by one level of indirection.
 *
 * In a split ring `next` says where a chain goes on. The packed layout has it in consecutive
 * descriptors: those of the ring were copied when the chain was taken (ring_packed.c), those of an
 * indirect table go on to its end (virtio 1.x, 2.8.8).
 */
#include "desc.h"
#include "queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct walk {
    struct gw_queue *queue;
    struct gw_request_i *request;
    const struct vring_desc *table;
    uint32_t table_size;
    bool is_packed;
    bool in_indirect; /* not to be told by the address: a driver may put the table into the ring */
    struct gw_extent *extents;
    unsigned max_extents;
    unsigned n_out;
    unsigned n_in;
    uint64_t out_len;
    uint64_t in_len;
};

static struct vring_desc load(const struct walk *w, uint32_t i)
{
    if (!w->is_packed)
        return gw_desc_load(&w->table[i]);
    return w->in_indirect ? gw_desc_load_packed(&w->table[i]) : w->table[i];
}

static bool has_next(const struct walk *w, const struct vring_desc *d, uint32_t i)
{
    return w->is_packed ? i + 1 < w->table_size : (d->flags & VRING_DESC_F_NEXT) != 0;
}

static struct gw_segments *borrow_segments(struct gw_queue *q)
{
    struct gw_segments *s = q->free_segments;

    if (s)
        q->free_segments = s->next;
    else
        s = malloc(sizeof(*s)); /* kept: a driver that needs it once needs it again */
    return s;
}

static void unpin(struct gw_queue *q, struct gw_request_i *r)
{
    if (r->is_copied)
        q->n_copied -= gw_request_len(r);
    r->is_copied = false;
    gw_mem_unpin(&r->pin);
}

void gw_chain_release(struct gw_queue *q, struct gw_request_i *r)
{
    if (r->pin.backend)
        unpin(q, r);
    if (r->segments) {
        r->segments->next = q->free_segments;
        q->free_segments = r->segments;
        r->segments = NULL;
    }
}

/* More room: from the request's own segments to a block of the queue. */
static const char *grow(struct walk *w)
{
    struct gw_segments *s;

    if (w->request->segments)
        return "longer than 1024 descriptors";
    s = borrow_segments(w->queue);
    if (!s)
        return "out of memory";
    memcpy(s->extents, w->extents, (w->n_out + w->n_in) * sizeof(s->extents[0]));
    w->request->segments = s;
    w->extents = s->extents;
    w->max_extents = GW_CHAIN_MAX;
    return NULL;
}

static const char *add_buffer(struct walk *w, const struct vring_desc *d)
{
    bool in = d->flags & VRING_DESC_F_WRITE;

    if (d->len == 0)
        return "empty buffer";
    if (!in && w->n_in > 0)
        return "readable buffer after a writable one";
    if (w->n_out + w->n_in == w->max_extents) {
        const char *why = grow(w);
        if (why)
            return why;
    }
    w->extents[w->n_out + w->n_in] = (struct gw_extent){.gpa = d->addr, .len = d->len};
    if (in) {
        w->n_in++;
        w->in_len += d->len;
    } else {
        w->n_out++;
        w->out_len += d->len;
    }
    return NULL;
}

/* Copy a table that lies in more than one piece. */
static const char *gather_table(struct walk *w, const struct iovec *iov, int n_iov)
{
    struct gw_queue *q = w->queue;
    uint8_t *to;

    if (!q->table)
        q->table = malloc(GW_CHAIN_MAX * sizeof(*q->table));
    if (!q->table)
        return "out of memory";
    to = (uint8_t *)q->table;
    for (int i = 0; i < n_iov; i++) {
        memcpy(to, iov[i].iov_base, iov[i].iov_len);
        to += iov[i].iov_len;
    }
    w->table = q->table;
    return NULL;
}

/* Returns: is the table there? If not, the pin is undone. */
static bool fetch_table(struct gw_pin *pin)
{
    struct gw_pin_copy copy = {.pin = pin, .n_out = 1};

    if (!pin->backend)
        return true;
    gw_mem_backend_fetch(&copy, 1);
    if (copy.failed)
        gw_mem_unpin(pin);
    return !copy.failed;
}

/* The table that descriptor `i`, copied to `d`, names. */
static const char *enter_table(struct walk *w, const struct vring_desc *d, uint32_t i)
{
    struct gw_queue *q = w->queue;
    struct gw_extent extent = {.gpa = d->addr, .len = d->len};
    struct iovec iov[4];
    struct gw_pin pin;
    int n;

    if (!q->ring.indirect)
        return "indirect table, which was not negotiated";
    if (w->in_indirect)
        return "indirect table inside an indirect table";
    if (has_next(w, d, i))
        return "indirect table that is not the last descriptor";
    if (d->len == 0 || d->len % sizeof(*d) != 0)
        return "indirect table of a wrong length";
    if (d->len / sizeof(*d) > GW_CHAIN_MAX)
        return "indirect table longer than 1024 descriptors";
    n = gw_mem_pin(q->map, &q->map_last, &extent, 1, iov, GW_ARRAY_SIZE(iov), &pin);
    if (n < 0 || !fetch_table(&pin))
        return "indirect table outside guest memory";
    w->table_size = (uint32_t)(d->len / sizeof(*d));
    w->in_indirect = true;
    /* 2.7.5.3.1 asks for no alignment of the table; pieces and odd addresses are copied. */
    if (n == 1 && !pin.backend && (uintptr_t)iov[0].iov_base % sizeof(uint64_t) == 0) {
        w->table = iov[0].iov_base;
        return NULL;
    }
    const char *why = gather_table(w, iov, n);
    gw_mem_unpin(&pin);
    return why;
}

static const char *walk_descriptors(struct walk *w, struct vring_desc d)
{
    uint32_t i = 0, n_left = w->table_size;
    const char *why;

    for (;;) {
        if (d.flags & VRING_DESC_F_INDIRECT) {
            why = enter_table(w, &d, i);
            if (why)
                return why;
            i = 0;
            n_left = w->table_size;
            d = load(w, i);
            continue;
        }
        why = add_buffer(w, &d);
        if (why)
            return why;
        if (!has_next(w, &d, i))
            return NULL;
        if (--n_left == 0)
            return "it loops";
        i = w->is_packed ? i + 1 : d.next;
        if (i >= w->table_size)
            return "next descriptor beyond the table";
        d = load(w, i);
    }
}

static int pin_buffers(struct walk *w, struct iovec **ret_iov)
{
    struct gw_queue *q = w->queue;
    struct gw_request_i *r = w->request;
    unsigned n = w->n_out + w->n_in;
    int n_iov;

    if (!r->segments) {
        n_iov = gw_mem_pin(q->map, &q->map_last, w->extents, n, r->iov, GW_CHAIN_INLINE, &r->pin);
        *ret_iov = r->iov;
        if (n_iov != -E2BIG || grow(w) != NULL)
            return n_iov;
    }
    *ret_iov = r->segments->iov;
    return gw_mem_pin(q->map, &q->map_last, w->extents, n, r->segments->iov, GW_CHAIN_MAX, &r->pin);
}

/* How many of the iovecs are readable ones; not n_out, where a buffer spans regions. */
static unsigned count_out(const struct walk *w, const struct iovec *iov, unsigned n_iov)
{
    uint64_t left = w->out_len;
    unsigned n = 0;

    if (n_iov == w->n_out + w->n_in)
        return w->n_out;
    while (left > 0)
        left -= iov[n++].iov_len;
    return n;
}

static const char *finish(struct walk *w)
{
    struct gw_request *pub = &w->request->pub;
    struct iovec *iov;
    int n;

    if (w->out_len + w->in_len > UINT32_MAX)
        return "longer than 4 GiB";
    n = pin_buffers(w, &iov);
    if (n == -EFAULT)
        return "buffer outside guest memory";
    if (n < 0)
        return "buffers in too many pieces";
    w->request->n_out_extents = (uint16_t)w->n_out;
    w->request->n_in_extents = (uint16_t)w->n_in;
    pub->out = iov;
    pub->n_out = count_out(w, iov, (unsigned)n);
    pub->in = iov + pub->n_out;
    pub->n_in = (uint32_t)n - pub->n_out;
    pub->out_len = w->out_len;
    pub->in_len = w->in_len;
    /* The device reads its header next. */
    __builtin_prefetch(iov[0].iov_base);
    return NULL;
}

const char *gw_chain_walk(struct gw_queue *q, struct gw_request_i *r, const struct gw_head *head)
{
    bool is_packed = q->ring.ops->is_packed;
    struct walk w = {
        .queue = q,
        .request = r,
        .table = is_packed ? q->ring.packed.copies + head->copy : q->ring.split.desc,
        .table_size = is_packed ? head->n_slots : q->ring.size,
        .is_packed = is_packed,
        .extents = r->extents,
        .max_extents = GW_CHAIN_INLINE,
    };
    const char *why;

    r->segments = NULL;
    r->pin.backend = NULL;
    r->n_out_extents = 0;
    r->n_in_extents = 0;
    why = walk_descriptors(&w, head->first);
    if (!why)
        why = finish(&w);
    if (why)
        gw_chain_release(q, r);
    return why;
}

void gw_chain_prefetch(struct gw_queue *q, const struct vring_desc *first)
{
    const struct gw_map_entry *entry;

    if (!(first->flags & VRING_DESC_F_INDIRECT))
        return;
    entry = gw_map_find(q->map, &q->map_last, first->addr);
    if (entry && entry->region->hva)
        __builtin_prefetch(entry->region->hva + (first->addr - entry->gpa));
}
