/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Starts a ring with an arbitrary inflight part: the part is refused and left unchanged, or
 * recovered. A recovered ring then runs, a second recovery finds its requests, and nothing is lost.
 *
 * The input is one byte of flags (bit 0: packed), the sizes of part and ring (one byte each), the
 * position of the ring's next used element (2 bytes, little endian), a byte for each slot of a
 * packed ring (bit 0: AVAIL, bit 1: USED), and the bytes of the part.
 */
#include "fuzz.h"

#include "core/inflight/inflight.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HEAD     5
#define RING_MAX 48
#define WRAP     0x8000u

struct ring {
    struct gw_inflight f;
    struct gw_inflight_ring view;
    struct gw_inflight_found found;
    struct vring_packed_desc desc[RING_MAX];
    uint8_t *part;
    uint16_t part_size;
    uint16_t size;
    bool packed;
};

static void check(bool good)
{
    if (!good)
        abort();
}

static int recover(struct ring *r)
{
    int result;

    gw_inflight_detach(&r->f);
    free(r->found.entries);
    memset(&r->found, 0, sizeof(r->found));
    result = gw_inflight_attach(&r->f, r->part, r->packed, r->part_size, r->size);
    return result == 0 ? gw_inflight_recover(&r->f, &r->view, &r->found) : result;
}

/* Check that no request is found twice and that all of them fit the ring. */
static void check_found(const struct ring *r)
{
    bool seen[RING_MAX] = {false};
    unsigned n_slots = 0;

    for (unsigned i = 0; i < r->found.n_entries; i++) {
        const struct gw_inflight_entry *e = &r->found.entries[i];
        struct gw_desc_packed descs[RING_MAX];

        check(e->entry < r->part_size && !seen[e->entry] && e->n_slots > 0);
        seen[e->entry] = true;
        n_slots += e->n_slots;
        if (r->packed) {
            int n = gw_inflight_descs(&r->f, e->entry, descs, RING_MAX);

            check(n < 0 || n == e->n_slots);
        }
    }
    check(n_slots == r->found.n_slots && n_slots <= r->size);
    check((r->found.used & ~WRAP) < r->size || !r->packed);
}

static uint16_t step(const struct ring *r, uint16_t used, unsigned n)
{
    uint16_t idx = (uint16_t)((used & ~WRAP) + n);

    if (!r->packed)
        return (uint16_t)(used + n);
    return idx < r->size ? (uint16_t)(idx | (used & WRAP))
                         : (uint16_t)((idx - r->size) | (~used & WRAP));
}

/* Complete all recovered requests in one batch, and crash before the batch is settled. */
static void answer_all(struct ring *r)
{
    for (unsigned i = 0; i < r->found.n_entries; i++)
        gw_inflight_link(&r->f, r->found.entries[i].entry);
    gw_inflight_close(&r->f, step(r, r->found.used, r->found.n_slots));
    if (r->packed && r->found.n_entries > 0)
        r->desc[r->found.used & ~WRAP].flags = r->found.used & WRAP ? 0x8080 : 0;
    r->view.used = step(r, r->found.used, r->found.n_slots);
}

/* Take as many requests as the ring has room for. */
static void take_all(struct ring *r)
{
    const struct gw_desc_packed desc = {.addr = 0x1000, .word = gw_desc_packed_word(1, 7, 0)};

    for (uint16_t i = 0; i < r->size; i++) {
        struct gw_head head = {.id = i, .n_slots = 1};

        if (r->packed)
            head.descs = &desc;
        gw_inflight_take(&r->f, &head, 1);
    }
}

static void run(struct ring *r)
{
    unsigned n = r->found.n_entries;

    check_found(r);
    check(recover(r) == 0 && r->found.n_entries == n); /* settled requests stay settled */
    answer_all(r);
    check(recover(r) == 0 && r->found.n_entries == 0 && r->found.used == r->view.used);
    take_all(r);
    check(recover(r) == 0 && r->found.n_entries == r->size);
    check_found(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ring r;
    uint64_t len;

    if (size < HEAD)
        return 0;
    memset(&r, 0, sizeof(r));
    r.packed = data[0] & 1;
    r.part_size = (uint16_t)(1 + data[1] % RING_MAX);
    r.size = (uint16_t)(1 + data[2] % RING_MAX);
    r.view.used = (uint16_t)(data[3] | data[4] << 8);
    data += HEAD;
    size -= HEAD;
    if (r.packed) {
        r.view.desc = r.desc;
        r.view.used = (uint16_t)((r.view.used & ~WRAP) % r.size | (r.view.used & WRAP));
        for (unsigned i = 0; i < r.size && size > 0; i++, data++, size--)
            r.desc[i].flags = (uint16_t)((*data & 1 ? 0x80 : 0) | (*data & 2 ? 0x8000 : 0));
    }
    /* Exactly the size of the part, so that sanitizers detect accesses beyond its end. */
    len = gw_inflight_stride(r.packed, r.part_size);
    r.part = aligned_alloc(64, len);
    check(r.part != NULL);
    memset(r.part, 0, len);
    memcpy(r.part, data, size < len ? size : len);
    if (recover(&r) == 0)
        run(&r);
    gw_inflight_detach(&r.f);
    free(r.found.entries);
    free(r.part);
    return 0;
}
