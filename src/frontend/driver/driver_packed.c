/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The driver's side of a packed virtqueue in memory (virtio 1.2, 2.8): a descriptor ring that both
 * sides write, and an event area of each side. Its use is in driver_run.c.
 *
 * An index counts over two laps of the ring: below the size the wrap counter is 1, from there on 0.
 * A descriptor is available if its AVAIL bit equals the wrap counter and its USED bit does not, and
 * used if both bits equal it.
 *
 * The device overwrites descriptors in completion order, so a chain in flight may no longer be in
 * the ring. packed.slots keeps the chains that the driver made available.
 */
#include "driver_i.h"
#include "driver_parts.h"

#include <endian.h>
#include <string.h>

#define F_AVAIL     (1u << VRING_PACKED_DESC_F_AVAIL)
#define F_USED      (1u << VRING_PACKED_DESC_F_USED)
#define WRAP        (1u << VRING_PACKED_EVENT_F_WRAP_CTR)
#define OFFSET_MASK (WRAP - 1)
#define EVENT_FLAGS 3u

#define DESC_LEN sizeof(struct gw_driver_desc)
#define WORD_AT  offsetof(struct gw_driver_desc, word)

_Static_assert(sizeof(struct gw_driver_desc) == sizeof(struct vring_packed_desc) &&
                   offsetof(struct gw_driver_desc, word) == offsetof(struct vring_packed_desc, len),
               "a descriptor has two halves");

enum desc_state {
    DESC_AVAILABLE,
    DESC_USED,
    DESC_OTHER_LAP,
};

static unsigned place(const struct gw_driver *d, uint16_t index)
{
    return index < d->size ? index : index - d->size;
}

/* The flags that make a descriptor available at `index`. */
static uint16_t avail_flags(const struct gw_driver *d, uint16_t index)
{
    return index < d->size ? F_AVAIL : F_USED;
}

static enum desc_state desc_state(const struct gw_driver *d, uint16_t index, uint16_t flags)
{
    bool wrap = index < d->size;

    if (!!(flags & F_AVAIL) != wrap)
        return DESC_OTHER_LAP;
    return !!(flags & F_USED) == wrap ? DESC_USED : DESC_AVAILABLE;
}

/* The second half of a descriptor. */
static uint64_t to_word(uint32_t len, unsigned id, unsigned flags)
{
    return htole64(len | (uint64_t)id << 32 | (uint64_t)flags << 48);
}

static uint16_t flags_of(uint64_t word)
{
    return (uint16_t)(le64toh(word) >> 48);
}

static uint16_t id_of(uint64_t word)
{
    return (uint16_t)(le64toh(word) >> 32);
}

/* Acquire: data and descriptors that the device wrote earlier are read after the flags. */
static uint64_t load_word(const struct gw_driver *d, uint16_t index)
{
    return __atomic_load_n(&d->packed.ring[place(d, index)].word, __ATOMIC_ACQUIRE);
}

static enum desc_state state_at(const struct gw_driver *d, uint16_t index)
{
    return desc_state(d, index, flags_of(load_word(d, index)));
}

/* The form of an index in an event area: 15 bits and the wrap counter. */
static uint16_t to_event(const struct gw_driver *d, uint16_t index)
{
    return (uint16_t)(place(d, index) | (index < d->size ? WRAP : 0));
}

static uint16_t from_event(const struct gw_driver *d, uint16_t event)
{
    return (uint16_t)((event & OFFSET_MASK) + (event & WRAP ? 0 : d->size));
}

/* ---- Writing ---- */

/*
 * Record that the driver writes `len` bytes at offset `at` of descriptor `i`, which then equals
 * `desc`. The copy is stored in atomic halves, because another thread may read it concurrently.
 */
static void note_desc(const struct gw_driver *d, unsigned i, struct gw_driver_desc desc,
                      unsigned at, unsigned len)
{
    struct gw_driver_desc *to = &d->packed.written[i];

    __atomic_store_n(&to->addr, desc.addr, __ATOMIC_RELAXED);
    __atomic_store_n(&to->word, desc.word, __ATOMIC_RELAXED);
    if (d->track)
        gw_guest_track_mark(d->track, d->desc_gpa + i * DESC_LEN + at, len);
}

static void write_addr(const struct gw_driver *d, unsigned i, uint64_t addr)
{
    __atomic_store_n(&d->packed.ring[i].addr, addr, __ATOMIC_RELAXED);
}

/* Release: a device that reads these flags also sees the chain and everything before it. */
static void write_word(const struct gw_driver *d, unsigned i, uint64_t word)
{
    __atomic_store_n(&d->packed.ring[i].word, word, __ATOMIC_RELEASE);
}

static inline void write_desc(const struct gw_driver *d, unsigned i, struct gw_driver_desc desc)
{
    write_addr(d, i, desc.addr);
    write_word(d, i, desc.word);
    if (d->track)
        note_desc(d, i, desc, 0, DESC_LEN);
}

static void write_event(struct gw_driver *d, uint16_t event, uint16_t flags)
{
    /* One store, so that the device never combines a new half with an old one. */
    __atomic_store_n(d->packed.driver_event, htole32(event | (uint32_t)flags << 16),
                     __ATOMIC_RELAXED);
    gw_driver_wrote(d, d->avail_gpa, sizeof(uint32_t));
}

/* ---- Setup ---- */

static void packed_locate(struct gw_driver *d, void *desc, void *avail, void *used)
{
    d->packed.ring = desc;
    d->packed.driver_event = avail;
    d->packed.device_event = used;
}

/* "VHOST_USER_GET_VRING_BASE": the available index in the lower half, the used index above. */
static uint32_t packed_base(const struct gw_driver *d, uint16_t index)
{
    return to_event(d, index) | (uint32_t)to_event(d, index) << 16;
}

static bool packed_parse_base(const struct gw_driver *d, uint32_t base, uint16_t *ret_avail,
                              uint16_t *ret_used)
{
    *ret_avail = from_event(d, (uint16_t)base);
    *ret_used = from_event(d, (uint16_t)(base >> 16));
    return (base & OFFSET_MASK) < d->size && (base >> 16 & OFFSET_MASK) < d->size;
}

/* Make every descriptor look used in the previous lap. */
static uint32_t packed_clear(struct gw_driver *d, uint16_t index)
{
    for (unsigned i = 0; i < d->size; i++) {
        bool wrap = (index < d->size) == (i >= place(d, index)); /* once reached */

        d->packed.ring[i].word = to_word(0, 0, wrap ? 0 : F_AVAIL | F_USED);
        d->packed.written[i] = d->packed.ring[i];
    }
    return packed_base(d, index);
}

/* ---- Adding chains ---- */

/* The descriptor with the flags that make it available at `index`. */
static struct gw_driver_desc made_available(const struct gw_driver *d, uint16_t index,
                                            struct gw_driver_desc desc)
{
    desc.word |= to_word(0, 0, avail_flags(d, index));
    return desc;
}

/*
 * Write the first unpublished descriptor, but keep its old flags until the batch is published:
 * the device stops there and so sees none of the following descriptors.
 */
static inline void hold_desc(struct gw_driver *d, unsigned i, struct gw_driver_desc desc)
{
    d->packed.held_word = desc.word;
    write_addr(d, i, desc.addr);
    desc.word = d->packed.written[i].word;
    if (d->track)
        note_desc(d, i, desc, 0, WORD_AT);
}

static struct gw_driver_buf fill_table(struct gw_driver *d, const struct gw_driver_buf *bufs,
                                       unsigned n_readable, unsigned n)
{
    size_t at = (size_t)d->free_head * d->indirect_max;
    struct gw_driver_desc *table = (struct gw_driver_desc *)d->tables + at;
    struct gw_driver_buf whole = {
        .addr = d->tables_gpa + at * sizeof(*table),
        .len = (uint32_t)(n * sizeof(*table)),
    };

    /* The order of a table is implicit; only WRITE matters (virtio 1.2, 2.8.7). */
    for (unsigned k = 0; k < n; k++)
        table[k] = (struct gw_driver_desc){
            .addr = htole64(gw_driver_iova(d, bufs[k].addr, bufs[k].len, k >= n_readable)),
            .word = to_word(bufs[k].len, 0, k >= n_readable ? VRING_DESC_F_WRITE : 0),
        };
    gw_driver_wrote(d, whole.addr, whole.len);
    return whole;
}

/*
 * The id of each descriptor is the head: only the id of the last one counts, but most drivers write
 * it to all.
 */
static uint16_t put_chain(struct gw_driver *d, const struct gw_driver_buf *bufs,
                          unsigned n_readable, unsigned n, unsigned flags)
{
    uint64_t id = to_word(0, d->free_head, 0);
    bool is_held = d->avail_idx == d->published;
    uint16_t index = d->avail_idx, last = d->free_head, slot = last;

    for (unsigned k = 0; k < n; k++) {
        unsigned more = (k >= n_readable ? VRING_DESC_F_WRITE : 0u) |
                        (k + 1 < n ? VRING_DESC_F_NEXT : 0u) | flags;
        struct gw_driver_desc desc = {
            .addr = htole64(gw_driver_iova(d, bufs[k].addr, bufs[k].len, k >= n_readable)),
            .word = id | to_word(bufs[k].len, 0, more),
        };

        d->packed.slots[slot] = desc;
        desc = made_available(d, index, desc);
        if (is_held)
            hold_desc(d, place(d, index), desc);
        else
            write_desc(d, place(d, index), desc);
        is_held = false;
        index = gw_driver_packed_after(d, index, 1);
        last = slot;
        slot = d->slots[slot].next;
    }
    d->avail_idx = index;
    return last;
}

static uint16_t packed_add(struct gw_driver *d, const struct gw_driver_buf *bufs,
                           unsigned n_readable, unsigned n, unsigned flags)
{
    struct gw_driver_buf whole;

    if (!(flags & GW_DRIVER_INDIRECT))
        return put_chain(d, bufs, n_readable, n, 0);
    whole = fill_table(d, bufs, n_readable, n);
    return put_chain(d, &whole, 1, 1, VRING_DESC_F_INDIRECT);
}

static void packed_publish(struct gw_driver *d)
{
    unsigned i = place(d, d->published);
    const struct gw_driver_desc desc = {
        .addr = d->packed.written[i].addr,
        .word = d->packed.held_word,
    };

    /* Mark first: once the flags are visible, the device may overwrite the descriptor. */
    if (d->track)
        note_desc(d, i, desc, WORD_AT, DESC_LEN - WORD_AT);
    write_word(d, i, desc.word);
    d->published = d->avail_idx;
}

static bool packed_wants_kick(struct gw_driver *d)
{
    uint32_t area = le32toh(__atomic_load_n(d->packed.device_event, __ATOMIC_RELAXED));
    uint16_t event, flags = area >> 16 & EVENT_FLAGS;

    if (flags == VRING_PACKED_EVENT_FLAG_ENABLE || flags == VRING_PACKED_EVENT_FLAG_DISABLE)
        return flags == VRING_PACKED_EVENT_FLAG_ENABLE;
    if (flags != VRING_PACKED_EVENT_FLAG_DESC || !d->event_idx) {
        gw_driver_set_broken(d, "device event flags that do not exist here", flags);
        return true;
    }
    if ((area & OFFSET_MASK) >= d->size) {
        gw_driver_set_broken(d, "a device event beyond the ring", area & OFFSET_MASK);
        return true;
    }
    /* The device waits for `event` to become available: was it passed since the last decision? */
    event = from_event(d, (uint16_t)area);
    return gw_driver_distance(d, gw_driver_packed_after(d, event, 1), d->published) < d->unkicked;
}

/* ---- Taking used chains ---- */

/* Take the used descriptor at last_used: identify its chain and advance past it. */
static bool take_one(struct gw_driver *d, uint64_t word, struct gw_driver_used *ret)
{
    /* Without WRITE the device wrote nothing, and the length is undefined (virtio 1.2, 2.8.4). */
    uint32_t len = flags_of(word) & VRING_DESC_F_WRITE ? (uint32_t)le64toh(word) : 0;
    uint16_t id = id_of(word);
    unsigned n_desc;

    if (id >= d->size) {
        gw_driver_set_broken(d, "a used id beyond the ring", id);
        return false;
    }
    n_desc = d->slots[id].n_desc;
    if (d->in_order && n_desc)
        n_desc = gw_driver_begin_batch(d, id, len);
    if (n_desc == 0 || n_desc > gw_driver_distance(d, d->last_used, d->published)) {
        d->batch.n_left = 0;
        gw_driver_set_broken(d, "a used id that is not in flight", id);
        return false;
    }
    if (len > d->slots[id].writable_len) {
        d->batch.n_left = 0;
        gw_driver_set_broken(d, "a used length beyond the buffers", len);
        return false;
    }
    d->last_used = gw_driver_packed_after(d, d->last_used, n_desc);
    if (d->in_order)
        gw_driver_take_batched(d, ret);
    else
        gw_driver_retire(d, id, len, ret);
    return true;
}

/* Whether the descriptor at last_used is used. An impossible state marks the ring as broken. */
static inline bool look(struct gw_driver *d, uint64_t *ret_word)
{
    uint16_t flags;
    enum desc_state state;

    *ret_word = load_word(d, d->last_used);
    flags = flags_of(*ret_word);
    state = desc_state(d, d->last_used, flags);
    if (d->last_used == d->published) {
        if (state == DESC_USED)
            gw_driver_set_broken(d, "a used descriptor where none was available, with flags",
                                 flags);
        return false;
    }
    if (state == DESC_OTHER_LAP)
        gw_driver_set_broken(d, "a descriptor with the wrong wrap counter, with flags", flags);
    return state == DESC_USED;
}

static unsigned packed_take(struct gw_driver *d, struct gw_driver_used *used, unsigned n)
{
    uint64_t word;

    for (unsigned i = 0; i < n; i++) {
        if (d->batch.n_left)
            gw_driver_take_batched(d, &used[i]);
        else if (!look(d, &word) || !take_one(d, word, &used[i]))
            return i;
    }
    return n;
}

/* True also for a broken ring, so that the caller takes and learns about it. */
static bool packed_has_used(const struct gw_driver *d)
{
    enum desc_state state = state_at(d, d->last_used);

    if (d->last_used == d->published)
        return state == DESC_USED;
    return state != DESC_AVAILABLE;
}

static void packed_suppress_calls(struct gw_driver *d)
{
    write_event(d, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
}

static void packed_ask_for_calls(struct gw_driver *d)
{
    if (d->event_idx)
        write_event(d, to_event(d, d->last_used), VRING_PACKED_EVENT_FLAG_DESC);
    else
        write_event(d, 0, VRING_PACKED_EVENT_FLAG_ENABLE);
}

/* ---- While stopped ---- */

/* The number of descriptors of the chain or batch that is used at `index`; 0 if none is. */
static unsigned used_at(const struct gw_driver *d, uint16_t index, uint16_t *ret_id)
{
    unsigned n_desc = 0, n;
    uint16_t head;

    if (index == d->published || state_at(d, index) != DESC_USED)
        return 0;
    *ret_id = id_of(load_word(d, index));
    if (*ret_id >= d->size)
        return 0;
    if (!d->in_order)
        return d->slots[*ret_id].n_desc;
    /* With IN_ORDER the head is the position of its descriptor (gw_driver_set_features). */
    head = (uint16_t)place(d, index);
    do {
        n = d->slots[head].n_desc;
        n_desc += n;
        if (head == *ret_id)
            return n_desc;
        head = gw_driver_slot_after(d, head, n);
    } while (n && n_desc < d->size);
    return 0;
}

/* Skip one used chain or batch: a packed ring holds no used index. */
static uint16_t follow_used(const struct gw_driver *d, uint16_t index, uint16_t *ret_id)
{
    unsigned n = used_at(d, index, ret_id);

    return n && n <= gw_driver_distance(d, index, d->published)
               ? gw_driver_packed_after(d, index, n)
               : index;
}

static uint16_t packed_used_idx(const struct gw_driver *d)
{
    uint16_t index = d->last_used, next, id;

    while ((next = follow_used(d, index, &id)) != index)
        index = next;
    return index;
}

static void packed_find_used(struct gw_driver *d)
{
    uint16_t index = d->last_used, next, id;

    while ((next = follow_used(d, index, &id)) != index) {
        d->slots[id].is_used = true;
        index = next;
    }
}

static uint16_t packed_offer(struct gw_driver *d, uint16_t index, uint16_t head)
{
    unsigned n = d->slots[head].n_desc;
    uint16_t slot = head;

    for (unsigned k = 0; k < n; k++) {
        struct gw_driver_desc desc = made_available(d, index, d->packed.slots[slot]);

        write_desc(d, place(d, index), desc);
        index = gw_driver_packed_after(d, index, 1);
        slot = d->slots[slot].next;
    }
    return index;
}

static enum gw_driver_place packed_find_desc(uint64_t at, unsigned *ret_i)
{
    *ret_i = (unsigned)(at / DESC_LEN);
    return GW_DRIVER_PLACE_PACKED_DESC;
}

static enum gw_driver_place packed_find_used_part(const struct gw_driver *d, uint64_t at,
                                                  unsigned *ret_i)
{
    (void)d;
    (void)at;
    (void)ret_i;
    return GW_DRIVER_PLACE_DEVICE_EVENT;
}

const struct gw_driver_ops gw_driver_packed_ops = {
    .locate = packed_locate,
    .clear = packed_clear,
    .add = packed_add,
    .publish = packed_publish,
    .wants_kick = packed_wants_kick,
    .take = packed_take,
    .has_used = packed_has_used,
    .suppress_calls = packed_suppress_calls,
    .ask_for_calls = packed_ask_for_calls,
    .used_idx = packed_used_idx,
    .find_used = packed_find_used,
    .offer = packed_offer,
    .base = packed_base,
    .parse_base = packed_parse_base,
    .find_desc = packed_find_desc,
    .find_used_part = packed_find_used_part,
};

/* ---- Raw access, for tests ---- */

void gw_driver_overlay(const struct gw_driver *d, gw_gpa_t gpa, void *to, uint64_t len)
{
    uint64_t from = gpa, end = gpa + len, piece;

    if (!d->is_packed)
        return;
    if (from < d->desc_gpa)
        from = d->desc_gpa;
    if (end > d->desc_gpa + d->size * DESC_LEN)
        end = d->desc_gpa + d->size * DESC_LEN;
    for (; from < end; from += piece) {
        uint64_t at = from - d->desc_gpa;
        const struct gw_driver_desc *written = &d->packed.written[at / DESC_LEN];
        const struct gw_driver_desc desc = {
            .addr = __atomic_load_n(&written->addr, __ATOMIC_RELAXED),
            .word = __atomic_load_n(&written->word, __ATOMIC_RELAXED),
        };

        piece = DESC_LEN - at % DESC_LEN;
        if (piece > end - from)
            piece = end - from;
        memcpy((uint8_t *)to + (from - gpa), (const uint8_t *)&desc + at % DESC_LEN, piece);
    }
}

void gw_driver_write_packed_desc(struct gw_driver *d, unsigned i,
                                 const struct gw_driver_packed_desc *desc)
{
    const struct gw_driver_desc raw = {
        .addr = htole64(desc->addr),
        .word = to_word(desc->len, desc->id, desc->flags),
    };

    if (d->is_packed)
        write_desc(d, i % d->size, raw);
}

void gw_driver_read_packed_desc(const struct gw_driver *d, unsigned i,
                                struct gw_driver_packed_desc *ret)
{
    uint64_t word;

    if (!d->is_packed)
        return;
    i %= d->size;
    word = load_word(d, (uint16_t)i);
    ret->flags = flags_of(word);
    ret->id = id_of(word);
    ret->len = (uint32_t)le64toh(word);
    ret->addr = le64toh(__atomic_load_n(&d->packed.ring[i].addr, __ATOMIC_RELAXED));
}

void gw_driver_write_driver_event(struct gw_driver *d, uint16_t event, uint16_t flags)
{
    if (d->is_packed)
        write_event(d, event, flags);
}

void gw_driver_read_device_event(const struct gw_driver *d, uint16_t *ret_event,
                                 uint16_t *ret_flags)
{
    uint32_t area;

    if (!d->is_packed)
        return;
    area = le32toh(__atomic_load_n(d->packed.device_event, __ATOMIC_RELAXED));
    *ret_event = (uint16_t)area;
    *ret_flags = (uint16_t)(area >> 16);
}
