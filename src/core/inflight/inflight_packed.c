/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Inflight tracking of a packed ring. Used descriptors overwrite available ones, so an entry is a
 * copy of a descriptor. The entries of a chain are linked, and so are the free ones. The head of
 * the free list and the position of the ring are stored twice: the current value, and the value
 * before the last batch ("old"). After a crash, recovery reads the ring:
 *
 *     the slot at the old position is    the batch was not published: the old values hold, and
 *     still available, or old and new    all requests of the batch are resubmitted
 *     position are the same
 *     otherwise                          the batch was published: the new values hold
 *
 * Entries in the resulting free list are not in flight, whatever their flags. The driver may run
 * during all this and make the slot at the old position available again, but with the other wrap
 * counter. An index and its wrap counter are therefore written with one store: otherwise recovery
 * could confuse the two cases.
 */
#include "base/barrier.h"
#include "base/cleanup.h"
#include "base/log_i.h"
#include "inflight.h"

#include <errno.h>
#include <string.h>

#define FLAG_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define FLAG_USED  (1u << VRING_PACKED_DESC_F_USED)
#define WRAP       (1u << VRING_PACKED_EVENT_F_WRAP_CTR)

static void packed_format(void *part, uint16_t size, uint16_t used)
{
    struct gw_inflight_packed *p = part;

    memset(p, 0, gw_inflight_stride(true, size));
    p->header.desc_num = size;
    p->used.idx = p->used.old_idx = (uint16_t)(used & ~WRAP);
    p->used.wrap = p->used.old_wrap = (used & WRAP) != 0;
    for (unsigned i = 0; i < size; i++)
        p->entries[i].chain.next = (uint16_t)(i + 1);
}

/*
 * Each pair is assembled in a register: writing its halves and reading the whole back would stall
 * the CPU.
 */
static void store_heads(struct gw_inflight *f, uint16_t free_head, uint16_t old_free_head)
{
    struct gw_inflight_packed *p = f->part;
    union gw_inflight_heads heads = {.free_head = free_head, .old_free_head = old_free_head};

    f->packed.heads.word = heads.word;
    gw_inflight_set(&p->heads.word, heads.word);
}

/* Stores values whose old and new halves agree: no batch is open any longer. */
static void store_closed(struct gw_inflight *f, union gw_inflight_heads heads,
                         union gw_inflight_used used)
{
    struct gw_inflight_packed *p = f->part;

    f->packed.heads = heads;
    f->packed.used = used;
    gw_inflight_order();
    /* The heads first: until the positions agree, another recovery has the same result. */
    gw_inflight_set(&p->heads.word, heads.word);
    gw_inflight_order();
    gw_inflight_set(&p->used.word, used.word);
    gw_inflight_order();
}

/* Entries are written in words, which match the fields of the layout on little-endian hosts only.
 */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "entries have other words");

/* Converts the word of a descriptor in the ring to that of an entry, and back. */
static inline uint64_t turn_word(uint64_t word)
{
    return word << 32 | word >> 32;
}

/* The word of the first entry of a chain in flight. */
static inline uint64_t chain_word(uint64_t next, uint64_t last, uint64_t num)
{
    return 1 | next << 16 | last << 32 | num << 48;
}

/* ---- recovery ---- */

/* The flags of an available or used descriptor in a lap with this wrap counter. */
static uint16_t turn_flags(bool wrap, bool used)
{
    return (uint16_t)((wrap ? FLAG_AVAIL : 0) | (wrap == used ? FLAG_USED : 0));
}

static uint16_t turn_of(const struct vring_packed_desc *desc)
{
    return gw_load16(&desc->flags) & (FLAG_AVAIL | FLAG_USED);
}

static int check_places(const struct gw_inflight *f, const union gw_inflight_used *used)
{
    if (used->idx >= f->n_slots || used->old_idx >= f->n_slots)
        return gw_fail(-EINVAL, "the inflight region's used index %u or %u is beyond the ring",
                       used->idx, used->old_idx);
    if (used->wrap > 1 || used->old_wrap > 1)
        return gw_fail(-EINVAL, "the inflight region has a wrap counter of %u or %u", used->wrap,
                       used->old_wrap);
    return 0;
}

/* Was the last batch published, so that the new values hold? */
static bool was_shown(const struct gw_inflight_ring *ring, const union gw_inflight_used *used)
{
    if (used->idx == used->old_idx && used->wrap == used->old_wrap)
        return false; /* nothing was published since; the old free list has no half-linked batch */
    return turn_of(&ring->desc[used->old_idx]) != turn_flags(used->old_wrap, false);
}

/* An entry is either in the free list or in one chain. */
enum owner {
    OWNER_NONE = 0,
    OWNER_FREE,
    OWNER_CHAIN
};

static int own(const struct gw_inflight *f, uint8_t *owners, uint16_t entry, enum owner owner)
{
    if (entry >= f->size)
        return gw_fail(-EINVAL, "entry %u of the inflight region is beyond its end", entry);
    if (owners[entry] != OWNER_NONE)
        return gw_fail(-EINVAL, "entry %u of the inflight region is in two lists, or in one twice",
                       entry);
    owners[entry] = owner;
    return 0;
}

static int own_free_list(const struct gw_inflight *f, uint8_t *owners, uint16_t entry)
{
    int r = 0;

    for (; entry < f->size && r == 0; entry = f->packed.links[entry].next)
        r = own(f, owners, entry, OWNER_FREE);
    return r;
}

static int own_chain(struct gw_inflight *f, uint8_t *owners, uint16_t first,
                     struct gw_inflight_found *found)
{
    const struct gw_inflight_packed *p = f->part;
    uint16_t num = gw_inflight_get(&p->entries[first].chain.num);
    uint16_t last = gw_inflight_get(&p->entries[first].chain.last), entry = first;
    int r = own(f, owners, first, OWNER_CHAIN);

    for (unsigned n = 1; n < num && r == 0; n++) {
        entry = f->packed.links[entry].next;
        r = own(f, owners, entry, OWNER_CHAIN);
    }
    if (r < 0)
        return r;
    if (num == 0 || entry != last || num > f->n_slots - found->n_slots)
        return gw_fail(-EINVAL, "the chain of %u descriptors at entry %u of the inflight region %s",
                       num, first,
                       entry != last ? "does not end at its last entry" : "has an invalid length");
    f->packed.links[first].last = last;
    f->packed.links[first].num = num;
    found->n_slots += num;
    found->entries[found->n_entries++] = (struct gw_inflight_entry){
        .entry = first,
        .id = gw_inflight_get(&p->entries[last].desc.id),
        .n_slots = num,
        .counter = gw_inflight_get(&p->entries[first].counter),
    };
    return 0;
}

/* Checks that every entry is free or in one chain, and finds the chains in flight. */
static int own_all(struct gw_inflight *f, uint8_t *owners, uint16_t free_head,
                   struct gw_inflight_found *found)
{
    const struct gw_inflight_packed *p = f->part;
    int r;

    for (unsigned i = 0; i < f->size; i++)
        f->packed.links[i].next = gw_inflight_get(&p->entries[i].chain.next);
    r = own_free_list(f, owners, free_head);
    for (unsigned i = 0; i < f->size && r == 0; i++)
        if (owners[i] != OWNER_FREE && gw_inflight_get(&p->entries[i].chain.inflight))
            r = own_chain(f, owners, (uint16_t)i, found);
    for (unsigned i = 0; i < f->size && r == 0; i++)
        if (owners[i] == OWNER_NONE)
            r = gw_fail(-EINVAL, "entry %u of the inflight region is neither free nor in flight",
                        i);
    return r;
}

/*
 * All used descriptors of a batch are written before the first one, which publishes them. If the
 * first one was not written, the others are still in the ring, and the driver would take them for
 * used when it reaches them. So slots in flight must not look used.
 */
static void take_back_used(const struct gw_inflight *f, const struct gw_inflight_ring *ring,
                           const struct gw_inflight_found *found)
{
    bool wrap = f->packed.used.wrap;
    uint32_t idx = f->packed.used.idx;

    for (uint32_t n = 0; n < found->n_slots; n++) {
        if (turn_of(&ring->desc[idx]) == turn_flags(wrap, true))
            gw_store16(&ring->desc[idx].flags, turn_flags(wrap, false));
        if (++idx == f->n_slots) {
            idx = 0;
            wrap = !wrap;
        }
    }
}

static int packed_recover(struct gw_inflight *f, const struct gw_inflight_ring *ring,
                          struct gw_inflight_found *found)
{
    gw_cleanup_free uint8_t *owners = calloc(f->size, sizeof(owners[0]));
    struct gw_inflight_packed *p = f->part;
    union gw_inflight_heads heads = {.word = gw_inflight_get(&p->heads.word)};
    union gw_inflight_used used = {.word = gw_inflight_get(&p->used.word)};
    int r = check_places(f, &used);

    if (!owners)
        r = gw_fail(-ENOMEM, "no memory to recover %u descriptors", f->size);
    if (r < 0)
        return r;
    if (was_shown(ring, &used)) {
        heads.old_free_head = heads.free_head;
        used.old_idx = used.idx;
        used.old_wrap = used.wrap;
    } else {
        heads.free_head = heads.old_free_head;
        used.idx = used.old_idx;
        used.wrap = used.old_wrap;
    }
    r = own_all(f, owners, heads.free_head, found);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < f->size; i++)
        if (owners[i] == OWNER_FREE)
            gw_inflight_set(&p->entries[i].chain.inflight, 0);
    store_closed(f, heads, used);
    take_back_used(f, ring, found);
    found->used = (uint16_t)(used.idx | (used.wrap ? WRAP : 0));
    return 0;
}

int gw_inflight_descs(const struct gw_inflight *f, uint16_t entry, struct gw_desc_packed *to,
                      unsigned max)
{
    const struct gw_inflight_packed *p = f->part;
    uint16_t last = f->packed.links[entry].last;
    unsigned n = 0;

    for (;; entry = f->packed.links[entry].next) {
        const struct gw_inflight_packed_entry *e = &p->entries[entry];

        if (n == max)
            return gw_fail(-EINVAL, "a chain in the inflight region has more than %u descriptors",
                           max);
        to[n] = (struct gw_desc_packed){
            .addr = gw_inflight_get(&e->addr),
            .word = turn_word(gw_inflight_get(&e->desc.word)),
        };
        if (!(gw_desc_flags(to[n]) & VRING_DESC_F_NEXT) != (entry == last))
            return gw_fail(-EINVAL, "descriptor %u of a chain in the inflight region has flags %#x",
                           n, gw_desc_flags(to[n]));
        n++;
        if (entry == last)
            return (int)n;
    }
}

/* ---- running ---- */

/*
 * The entries are free until the head of the free list moves past them, so the order in which they
 * are filled does not matter. The part has at least as many entries as the ring has slots, so the
 * free list has enough entries for every chain that fits the ring.
 */
static unsigned packed_take(struct gw_inflight *f, struct gw_head *heads, unsigned n)
{
    struct gw_inflight_packed_entry *entries = ((struct gw_inflight_packed *)f->part)->entries;
    struct gw_inflight_links *links = f->packed.links;
    uint32_t entry = f->packed.heads.free_head;
    uint64_t counter = f->counter;
    uint32_t n_slots = 0;

    for (unsigned i = 0; i < n; i++)
        n_slots += heads[i].n_slots;
    if (n_slots > f->n_slots - f->n_taken) {
        gw_fail(-EPROTO, "the driver made %u descriptors available, but only %u are not in flight",
                n_slots, f->n_slots - f->n_taken);
        return 0;
    }
    f->n_taken += n_slots;
    for (struct gw_head *head = heads, *end = heads + n; head < end; head++) {
        const struct gw_desc_packed *d = head->descs, *d_end = d + head->n_slots;
        uint32_t first = entry, last;

        do {
            last = entry;
            entries[last].desc.word = turn_word(d->word);
            entries[last].addr = d->addr;
            entry = links[last].next;
        } while (++d < d_end);
        entries[first].chain.word = chain_word(links[first].next, last, head->n_slots);
        entries[first].counter = counter++;
        links[first].last = (uint16_t)last;
        links[first].num = head->n_slots;
        head->entry = (uint16_t)first;
    }
    f->counter = counter;
    gw_inflight_order();
    store_heads(f, (uint16_t)entry, (uint16_t)entry);
    gw_inflight_order();
    return n;
}

/* Sets the link of a chain's tail. Recovery never reads it while the chain is in flight. */
static void set_next(struct gw_inflight *f, uint16_t last, uint16_t next)
{
    struct gw_inflight_packed *p = f->part;

    f->packed.links[last].next = next;
    gw_inflight_set(&p->entries[last].chain.next, next);
}

/* Puts the entries at the front of the free list, where other entries may have been put since. */
static void packed_untake(struct gw_inflight *f, uint16_t entry)
{
    f->counter--;
    f->n_taken -= f->packed.links[entry].num;
    set_next(f, f->packed.links[entry].last, f->packed.heads.free_head);
    gw_inflight_order();
    store_heads(f, entry, entry);
    gw_inflight_clear(f, entry);
}

/* Adds a chain to the front of the batch. */
static void packed_link(struct gw_inflight *f, uint16_t entry)
{
    const struct gw_inflight_links *links = &f->packed.links[entry];

    if (f->packed.n_batch)
        set_next(f, links->last, f->packed.batch_first);
    else
        f->packed.batch_last = links->last;
    f->packed.batch_first = entry;
    f->packed.n_batch += links->num;
}

/* Moves the batch to the front of the free list. */
static void packed_close(struct gw_inflight *f, uint16_t used)
{
    struct gw_inflight_packed *p = f->part;
    union gw_inflight_heads heads = f->packed.heads;
    union gw_inflight_used places = f->packed.used;

    if (f->packed.n_batch) {
        set_next(f, f->packed.batch_last, heads.free_head);
        heads.free_head = f->packed.batch_first;
        f->n_taken -= f->packed.n_batch;
        f->packed.n_batch = 0;
    }
    places.idx = (uint16_t)(used & ~WRAP);
    places.wrap = (used & WRAP) != 0;
    f->packed.heads.word = heads.word;
    f->packed.used.word = places.word;
    gw_inflight_order();
    gw_inflight_set(&p->heads.word, heads.word);
    gw_inflight_set(&p->used.word, places.word);
    gw_inflight_order();
}

static void packed_commit(struct gw_inflight *f)
{
    union gw_inflight_heads heads = f->packed.heads;
    union gw_inflight_used places = f->packed.used;

    heads.old_free_head = heads.free_head;
    places.old_idx = places.idx;
    places.old_wrap = places.wrap;
    store_closed(f, heads, places);
}

const struct gw_inflight_ops gw_inflight_packed_ops = {
    .format = packed_format,
    .recover = packed_recover,
    .take = packed_take,
    .untake = packed_untake,
    .link = packed_link,
    .close = packed_close,
    .commit = packed_commit,
};
