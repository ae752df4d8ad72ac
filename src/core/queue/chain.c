/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Descriptor chains. Each descriptor is copied once, and only the copy is examined, because the
 * driver may write the table while we read it. The walk has three bounds: the size of the table,
 * GW_CHAIN_MAX, and one level of indirection.
 *
 * In a split ring, `next` links the descriptors of a chain. In the packed layout they are
 * consecutive: those in the ring were copied when the chain was taken (ring_packed.c), those in an
 * indirect table extend to its end (virtio 1.x, 2.8.8).
 */
#include "core/ring/desc.h"
#include "queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The descriptor table that the walk has reached. */
struct table {
    const void *at; /* split: struct vring_desc[]; packed: struct gw_desc_packed[] */
    uint32_t size;
    bool is_indirect; /* the address does not show it: a driver may put the table into the ring */
};

/* The buffers found so far. Only inlined functions get its address, so it stays in registers. */
struct buffers {
    struct gw_extent *extents;
    unsigned max;
    unsigned n;
    unsigned n_readable;
    uint64_t len;
    uint64_t readable_len;
};

static inline struct vring_desc load(const struct table *t, uint32_t i, bool is_packed)
{
    if (is_packed)
        return gw_desc_unpack(gw_desc_copy_packed((const struct gw_desc_packed *)t->at + i));
    return gw_desc_load((const struct vring_desc *)t->at + i);
}

static inline bool has_next(const struct table *t, const struct vring_desc *d, uint32_t i,
                            bool is_packed)
{
    return is_packed ? i + 1 < t->size : (d->flags & VRING_DESC_F_NEXT) != 0;
}

static struct gw_segments *borrow_segments(struct gw_queue *q)
{
    struct gw_segments *s = q->pool.free_segments;

    if (s)
        q->pool.free_segments = s->next;
    else
        s = malloc(sizeof(*s)); /* kept, because a driver that needs it once needs it again */
    return s;
}

static void unpin(struct gw_queue *q, struct gw_request_i *r)
{
    if (r->is_copied)
        q->in_flight.n_copied -= r->len;
    r->is_copied = false;
    gw_mem_unpin(&r->pin);
}

void gw_chain_release(struct gw_queue *q, struct gw_request_i *r)
{
    if (r->pin.backend)
        unpin(q, r);
    if (r->segments) {
        r->segments->next = q->pool.free_segments;
        q->pool.free_segments = r->segments;
        r->segments = NULL;
        q->in_flight.bytes -= GW_LONG_CHAIN_BYTES;
    }
}

__attribute__((noinline)) const char *gw_chain_grow(struct gw_queue *q, struct gw_request_i *r,
                                                    unsigned n)
{
    struct gw_segments *s;

    if (r->segments)
        return "longer than 1024 descriptors";
    s = borrow_segments(q);
    if (!s)
        return "out of memory";
    memcpy(s->extents, r->extents, n * sizeof(s->extents[0]));
    r->segments = s;
    q->limits.room -= GW_LONG_CHAIN_BYTES;
    return NULL;
}

static inline const char *add_buffer(struct gw_queue *q, struct gw_request_i *r, struct buffers *b,
                                     const struct vring_desc *d)
{
    bool is_writable = d->flags & VRING_DESC_F_WRITE;

    if (d->len == 0)
        return "empty buffer";
    if (!is_writable && b->n > b->n_readable)
        return "readable buffer after a writable one";
    if (b->n == b->max) {
        const char *why = gw_chain_grow(q, r, b->n);
        if (why)
            return why;
        b->extents = r->segments->extents;
        b->max = GW_CHAIN_MAX;
    }
    b->extents[b->n++] = (struct gw_extent){.gpa = d->addr, .len = d->len};
    b->len += d->len;
    if (!is_writable) {
        b->n_readable = b->n;
        b->readable_len = b->len;
    }
    return NULL;
}

/* Moves the walk to the indirect table that descriptor `i` refers to. */
static inline const char *enter_table(struct gw_queue *q, struct table *t,
                                      const struct vring_desc *d, uint32_t i, bool is_packed)
{
    const void *at = NULL;
    const char *why;

    if (!q->ring.indirect)
        return "indirect table, which was not negotiated";
    if (t->is_indirect)
        return "indirect table inside an indirect table";
    if (has_next(t, d, i, is_packed))
        return "indirect table that is not the last descriptor";
    why = gw_table_find(q, d->addr, d->len, &at);
    *t = (struct table){.at = at, .size = d->len / (uint32_t)sizeof(*d), .is_indirect = true};
    return why;
}

/* Walks a chain from its first descriptor `d`, a copy of one in `t`. Inlined once per layout. */
static inline __attribute__((always_inline)) const char *walk(struct gw_queue *q,
                                                              struct gw_request_i *r,
                                                              struct table t, struct vring_desc d,
                                                              struct buffers *b, bool is_packed)
{
    uint32_t i = 0, n_left = t.size;

    for (;;) {
        const char *why = NULL;

        if (d.flags & VRING_DESC_F_INDIRECT) {
            why = enter_table(q, &t, &d, i, is_packed);
            if (why)
                return why;
            i = 0;
            n_left = t.size;
            d = load(&t, i, is_packed);
            continue;
        }
        why = add_buffer(q, r, b, &d);
        if (why)
            return why;
        if (!has_next(&t, &d, i, is_packed))
            return NULL;
        i = is_packed ? i + 1 : d.next;
        if (!is_packed && --n_left == 0)
            return "it loops";
        if (!is_packed && i >= t.size)
            return "next descriptor beyond the table";
        d = load(&t, i, is_packed);
    }
}

static int pin_buffers(struct gw_queue *q, struct gw_request_i *r, unsigned n,
                       struct iovec **ret_iov)
{
    if (!r->segments) {
        int n_iov =
            gw_mem_pin(q->map, &q->map_last, r->extents, n, r->iov, GW_CHAIN_INLINE, &r->pin);

        *ret_iov = r->iov;
        if (n_iov != -E2BIG || gw_chain_grow(q, r, n) != NULL)
            return n_iov;
    }
    *ret_iov = r->segments->iov;
    return gw_mem_pin(q->map, &q->map_last, r->segments->extents, n, r->segments->iov, GW_CHAIN_MAX,
                      &r->pin);
}

/* Counts the device-readable iovecs; a buffer that spans regions has more than one. */
static unsigned count_readable(const struct iovec *iov, uint64_t readable_len)
{
    unsigned n = 0;

    while (readable_len > 0)
        readable_len -= iov[n++].iov_len;
    return n;
}

static const char *pin(struct gw_queue *q, struct gw_request_i *r, const struct buffers *b)
{
    struct gw_request *pub = &r->pub;
    struct iovec *iov;
    int n;

    if (b->len > q->limits.request_bytes)
        return "more bytes than a request may have";
    n = pin_buffers(q, r, b->n, &iov);
    if (n == -EFAULT)
        return "buffer outside guest memory";
    if (n < 0)
        return "buffers in too many pieces";
    r->n_readable_extents = (uint16_t)b->n_readable;
    r->n_writable_extents = (uint16_t)(b->n - b->n_readable);
    pub->readable = iov;
    pub->n_readable = (unsigned)n == b->n ? b->n_readable : count_readable(iov, b->readable_len);
    pub->writable = iov + pub->n_readable;
    pub->n_writable = (uint32_t)n - pub->n_readable;
    r->len = (uint32_t)b->len;
    pub->readable_len = b->readable_len;
    pub->writable_len = b->len - b->readable_len;
    r->status =
        pub->n_writable > 0 ? (uint8_t *)iov[n - 1].iov_base + iov[n - 1].iov_len - 1 : NULL;
    /* The device reads the request header next. */
    __builtin_prefetch(iov[0].iov_base);
    return NULL;
}

const char *gw_chain_walk(struct gw_queue *q, struct gw_request_i *r, const struct gw_head *head)
{
    struct buffers found = {.extents = r->extents, .max = GW_CHAIN_INLINE};
    const char *why;

    r->segments = NULL;
    r->pin.backend = NULL;
    r->n_readable_extents = 0;
    r->n_writable_extents = 0;
    r->n_iovas = 0;
    if (q->ring.ops->is_packed)
        why = walk(q, r, (struct table){.at = head->descs, .size = head->n_slots},
                   gw_desc_unpack(head->descs[0]), &found, true);
    else
        why = walk(q, r, (struct table){.at = q->ring.split.desc, .size = q->ring.size},
                   head->first, &found, false);
    if (!why && q->translation) {
        unsigned n_extents = found.n, n_readable = found.n_readable;

        why = gw_translate_buffers(q, r, &n_extents, &n_readable);
        found.n = n_extents;
        found.n_readable = n_readable;
    }
    if (!why)
        why = pin(q, r, &found);
    if (why) {
        r->len = 0;
        gw_chain_release(q, r);
    }
    return why;
}

void gw_chain_prefetch_table(struct gw_queue *q, gw_gpa_t addr)
{
    const struct gw_map_entry *entry = gw_map_find(q->map, &q->map_last, addr);

    if (entry && entry->region->hva)
        __builtin_prefetch(entry->region->hva + (addr - entry->gpa));
}
