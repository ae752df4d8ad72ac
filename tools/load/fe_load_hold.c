/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Held buffers: each is read into once and then left unchanged. They form a ring: half of them hold
 * data, half wait to be read into. Buffers added during a run are used next. Before its next read a
 * buffer is checked and armed: the driver overwrites it and its status byte. So from then on only
 * the device has written it, and its last write must be what the buffer contains, also after a move
 * to another guest memory.
 */
#include "base/random.h"
#include "fe_disk.h"
#include "fe_load_i.h"
#include "fe_sector.h"
#include "frontend/driver/driver_i.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define PAGE        4096u
#define STATUS_NONE 0xff
#define SKIP_MAX    8 /* buffers not ready before a read uses none */

static gw_gpa_t stride_of(const struct gw_guest_load *l)
{
    /* The data starts anywhere in its first page; a page for header and status follows. */
    return ((gw_gpa_t)l->block_size + PAGE - 1) / PAGE * PAGE + 2 * PAGE;
}

/*
 * Find the buffer in the current guest memory. This happens on use of each buffer: there may be
 * many, and the guest is paused while its memory is replaced.
 */
int gw_guest_load_hold_locate(const struct gw_guest_load *l, struct gw_guest_load_slot *slot)
{
    uint8_t *host;

    if (slot->n_mem == l->n_mem)
        return 0;
    host = gw_guest_mem_at(l->mem, slot->data, l->block_size);
    if (!host || gw_driver_blk_set_mem(&slot->blk, l->mem) < 0)
        return -EFAULT;
    slot->host = host;
    slot->n_mem = l->n_mem;
    return 0;
}

static int arm(struct gw_guest_load *l, struct gw_guest_load_slot *slot)
{
    const struct gw_driver *d = l->queues[0].driver;

    if (gw_guest_load_hold_locate(l, slot) < 0)
        return gw_guest_load_fail(l, -EFAULT,
                                  "the new memory does not contain the buffer at 0x%llx",
                                  (unsigned long long)slot->data);
    memset(slot->host, 0xa1 ^ (int)(l->hold.n_armed++ & 0x3f), l->block_size);
    gw_driver_wrote(d, slot->data, l->block_size);
    *slot->blk.status = STATUS_NONE;
    gw_driver_wrote(d, slot->blk.status_gpa, 1);
    slot->state = GW_GUEST_LOAD_SLOT_ARMED;
    return 0;
}

static int check(struct gw_guest_load *l, struct gw_guest_load_slot *slot)
{
    int r;

    if (slot->state != GW_GUEST_LOAD_SLOT_HELD)
        return 0;
    if (gw_guest_load_hold_locate(l, slot) < 0)
        return gw_guest_load_fail(l, -EFAULT,
                                  "the new memory does not contain the buffer at 0x%llx",
                                  (unsigned long long)slot->data);
    r = gw_guest_disk_check_known(l->cfg.disk, slot->block, &slot->known, slot->host);
    if (r < 0)
        return gw_guest_load_fail(l, r, "held buffer at 0x%llx: %s", (unsigned long long)slot->data,
                                  gw_guest_disk_error(l->cfg.disk));
    if (*slot->blk.status != 0)
        return gw_guest_load_fail(l, -EILSEQ, "status byte at 0x%llx: changed from 0 to 0x%02x",
                                  (unsigned long long)slot->blk.status_gpa, *slot->blk.status);
    return 0;
}

static int slot_new(struct gw_guest_load_slot **ret, struct gw_guest_load *l, gw_gpa_t gpa)
{
    struct gw_guest_load_slot *slot = calloc(1, sizeof(*slot));
    uint64_t random = gw_random_mix(l->cfg.seed ^ gpa);
    gw_gpa_t own = gpa + stride_of(l) - PAGE;
    int r;

    if (!slot)
        return -ENOMEM;
    slot->data = gpa + (random % 4 ? random / 4 % (PAGE / 16) * 16 : 0);
    slot->host = gw_guest_mem_at(l->mem, slot->data, l->block_size);
    slot->n_mem = l->n_mem;
    r = gw_driver_blk_place(&slot->blk, l->queues[0].driver, own, own + 64 + random / 1024 % 4000);
    if (r == 0 && !slot->host)
        r = -EFAULT;
    if (r < 0) {
        free(slot);
        return r;
    }
    *ret = slot;
    return arm(l, slot);
}

int gw_guest_load_hold_add(struct gw_guest_load *l, gw_gpa_t gpa, uint64_t len)
{
    struct gw_guest_load_hold *h = &l->hold;
    uint64_t stride = stride_of(l);
    struct gw_guest_load_slot **grown;
    int r = 0;

    if (gpa % PAGE || len < stride || len / stride > 1u << 24)
        return -EINVAL;
    grown = realloc(h->slots, (h->n_slots + len / stride) * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    h->slots = grown;
    h->fresh = h->cursor ? h->n_slots : UINT_MAX; /* use them soon: they may be removed again */
    for (uint64_t at = 0; r == 0 && at + stride <= len; at += stride) {
        r = slot_new(&h->slots[h->n_slots], l, gpa + at);
        if (r == 0)
            h->slots[h->n_slots++]->batch = gpa;
    }
    return r;
}

int gw_guest_load_hold_retire(struct gw_guest_load *l, gw_gpa_t gpa)
{
    unsigned n_busy = 0;

    for (unsigned i = 0; i < l->hold.n_slots; i++) {
        struct gw_guest_load_slot *slot = l->hold.slots[i];

        if (slot->batch != gpa)
            continue;
        slot->is_retired = true;
        n_busy += slot->state == GW_GUEST_LOAD_SLOT_BUSY;
    }
    return n_busy ? -EBUSY : 0;
}

int gw_guest_load_hold_remove(struct gw_guest_load *l, gw_gpa_t gpa)
{
    struct gw_guest_load_hold *h = &l->hold;
    unsigned n = 0;
    int first = 0;

    if (gw_guest_load_hold_retire(l, gpa) < 0)
        return -EBUSY;
    l->error[0] = '\0';
    for (unsigned i = 0; i < h->n_slots; i++) {
        int r;

        if (h->slots[i]->batch != gpa) {
            h->slots[n++] = h->slots[i];
            continue;
        }
        r = check(l, h->slots[i]);
        if (first == 0)
            first = r;
        free(h->slots[i]);
    }
    h->n_slots = n;
    h->cursor = n ? h->cursor % n : 0;
    h->fresh = UINT_MAX;
    return first;
}

int gw_guest_load_hold_check(struct gw_guest_load *l)
{
    int r = 0;

    l->error[0] = '\0';
    for (unsigned i = 0; r == 0 && i < l->hold.n_slots; i++)
        r = check(l, l->hold.slots[i]);
    return r;
}

/* Check and arm the buffer that is to be read into half a ring from now. */
static int arm_ahead(struct gw_guest_load *l, struct gw_guest_load_slot *slot)
{
    int r;

    if (slot->state != GW_GUEST_LOAD_SLOT_HELD || slot->is_retired)
        return 0;
    r = check(l, slot);
    return r ? r : arm(l, slot);
}

int gw_guest_load_hold_take(struct gw_guest_load *l, struct gw_guest_load_queue *q,
                            struct gw_guest_load_slot **ret)
{
    struct gw_guest_load_hold *h = &l->hold;
    int r = 0;

    *ret = NULL;
    for (unsigned i = 0; r == 0 && i < SKIP_MAX && i < h->n_slots; i++) {
        struct gw_guest_load_slot *slot = h->slots[h->cursor];

        if (h->fresh < h->n_slots) {
            slot = h->slots[h->fresh++];
        } else {
            r = arm_ahead(l, h->slots[(h->cursor + h->n_slots / 2) % h->n_slots]);
            h->cursor = (h->cursor + 1) % h->n_slots;
        }
        if (slot->state != GW_GUEST_LOAD_SLOT_ARMED || slot->is_retired ||
            gw_guest_load_hold_locate(l, slot) < 0)
            continue;
        slot->state = GW_GUEST_LOAD_SLOT_BUSY;
        slot->blk.driver = q->driver;
        slot->is_used = true;
        *ret = slot;
        break;
    }
    return r;
}

void gw_guest_load_hold_complete(struct gw_guest_load *l, struct gw_guest_load_slot *slot,
                                 uint64_t block)
{
    slot->block = block;
    gw_guest_disk_known(l->cfg.disk, block, &slot->known);
    slot->state = GW_GUEST_LOAD_SLOT_HELD;
}

void gw_guest_load_hold_abandon(struct gw_guest_load *l, struct gw_guest_load_slot *slot)
{
    (void)arm(l, slot); /* in the memory where it is */
}

void gw_guest_load_hold_done(struct gw_guest_load *l)
{
    for (unsigned i = 0; i < l->hold.n_slots; i++)
        free(l->hold.slots[i]);
    free(l->hold.slots);
}
