/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The parts of a request's life that both layouts share on the driver's side: add chains, take used
 * elements, kick and ask for calls only when wanted. The ring layouts are in driver_split.c and
 * driver_packed.c; setup is in driver.c.
 *
 * The benchmarks use this as their load generator, so nothing here allocates, and the only system
 * call is the write of the kick. The device may write anything to the rings: the state of requests
 * in flight is kept outside and never read back from the rings.
 */
#include "driver_i.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>

/* Larger than the range of any index; a larger distance has no additional effect. */
#define UNKICKED_MAX (UINT32_C(1) << 30)

/* The device-writable bytes of a chain, limited to the range of a used length. */
static uint32_t writable_len(const struct gw_driver_buf *bufs, unsigned n)
{
    uint64_t len = 0;

    for (unsigned i = 0; i < n; i++)
        len += bufs[i].len;
    return len > UINT32_MAX ? UINT32_MAX : (uint32_t)len;
}

int gw_driver_add(struct gw_driver *d, const struct gw_driver_buf *bufs, unsigned n_readable,
                  unsigned n_writable, uint64_t cookie, unsigned flags)
{
    unsigned n = n_readable + n_writable;
    unsigned n_desc = flags & GW_DRIVER_INDIRECT ? 1 : n;
    struct gw_driver_slot *slot = &d->slots[d->free_head];

    if (n == 0 || (flags & GW_DRIVER_INDIRECT && n > d->indirect_max))
        return gw_frontend_fail_fixed(-EINVAL, "a chain without buffers, or too long for a table");
    if (n_desc > d->n_free)
        return gw_frontend_fail_fixed(-ENOSPC, "the ring has too few free descriptors");
    slot->cookie = cookie;
    slot->number = d->n_added++;
    slot->writable_len = writable_len(bufs + n_readable, n_writable);
    slot->n_desc = (uint16_t)n_desc;
    slot->last = d->ops->add(d, bufs, n_readable, n, flags);
    d->free_head = d->slots[slot->last].next;
    d->n_free -= n_desc;
    d->n_in_flight++;
    return 0;
}

void gw_driver_publish(struct gw_driver *d)
{
    uint16_t old = d->published;

    if (old == d->avail_idx)
        return;
    d->ops->publish(d);
    d->unkicked += gw_driver_distance(d, old, d->published);
    if (d->unkicked > UNKICKED_MAX)
        d->unkicked = UNKICKED_MAX;
}

bool gw_driver_kick(struct gw_driver *d)
{
    bool wanted;

    gw_driver_publish(d);
    if (d->unkicked == 0)
        return false;
    /*
     * Full barrier: the available index is visible before the driver reads the device's event. The
     * device does the reverse, so at least one of the two sees the other (virtio 1.2, 2.7.21 and
     * 2.8.21).
     */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    wanted = d->ops->wants_kick(d);
    d->unkicked = 0;
    if (wanted)
        gw_eventfd_signal(d->kick_fd);
    return wanted;
}

void gw_driver_kick_always(struct gw_driver *d)
{
    gw_driver_publish(d);
    d->unkicked = 0;
    gw_eventfd_signal(d->kick_fd);
}

void gw_driver_retire(struct gw_driver *d, uint16_t head, uint32_t len, struct gw_driver_used *ret)
{
    struct gw_driver_slot *slot = &d->slots[head];

    ret->cookie = slot->cookie;
    ret->id = head;
    ret->len = len;
    d->n_free += slot->n_desc;
    d->n_in_flight--;
    if (d->in_order) {
        d->oldest = gw_driver_slot_after(d, head, slot->n_desc);
    } else {
        d->slots[slot->last].next = d->free_head;
        d->free_head = head;
    }
    slot->n_desc = 0;
}

unsigned gw_driver_begin_batch(struct gw_driver *d, uint16_t last, uint32_t len)
{
    uint16_t head = d->oldest;
    unsigned n_desc = 0;

    for (unsigned n = 1; n <= d->n_in_flight; n++) {
        n_desc += d->slots[head].n_desc;
        if (head == last) {
            d->batch = (struct gw_driver_batch){.n_left = n, .last_len = len};
            return n_desc;
        }
        head = gw_driver_slot_after(d, head, d->slots[head].n_desc);
    }
    return 0;
}

void gw_driver_take_batched(struct gw_driver *d, struct gw_driver_used *ret)
{
    bool is_last = --d->batch.n_left == 0;

    /* A skipped chain counts as filled completely (virtio 1.2, 2.7.9 and 2.8.8). */
    gw_driver_retire(d, d->oldest, is_last ? d->batch.last_len : d->slots[d->oldest].writable_len,
                     ret);
}

unsigned gw_driver_take(struct gw_driver *d, struct gw_driver_used *used, unsigned n)
{
    return d->broken ? 0 : d->ops->take(d, used, n);
}

void gw_driver_set_broken(struct gw_driver *d, const char *what, unsigned value)
{
    int n = snprintf(d->why, sizeof(d->why), "queue %u: %s (%u) at ", d->index, what, value);

    d->broken = true;
    if (n < 0 || n >= (int)sizeof(d->why))
        return;
    if (d->is_packed)
        snprintf(d->why + n, sizeof(d->why) - (size_t)n, "descriptor %u, wrap counter %d",
                 d->last_used % d->size, d->last_used < d->size);
    else
        snprintf(d->why + n, sizeof(d->why) - (size_t)n, "used index %u", d->last_used);
}

int gw_driver_check(const struct gw_driver *d)
{
    return d->broken ? gw_frontend_fail(-EPROTO, "%s", d->why) : 0;
}

void gw_driver_suppress_calls(struct gw_driver *d)
{
    d->ops->suppress_calls(d);
}

static bool has_used(const struct gw_driver *d)
{
    return d->batch.n_left || d->ops->has_used(d);
}

bool gw_driver_want_calls(struct gw_driver *d)
{
    d->ops->ask_for_calls(d);
    /* Full barrier: the request for calls is visible before the used ring is checked again. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return !has_used(d);
}

bool gw_driver_take_call(struct gw_driver *d)
{
    return gw_eventfd_take(d->call_fd);
}

static void poll_call(struct gw_driver *d, uint64_t deadline)
{
    struct pollfd p = {.fd = d->call_fd, .events = POLLIN};
    uint64_t now = gw_driver_now();
    uint64_t ms = deadline > now ? (deadline - now + 999999u) / 1000000u : 0;

    poll(&p, 1, ms > INT32_MAX ? INT32_MAX : (int)ms);
}

int gw_driver_wait(struct gw_driver *d, unsigned timeout_ms)
{
    uint64_t deadline = gw_driver_now() + (uint64_t)timeout_ms * 1000000u;
    bool called = false;

    while (!d->broken) {
        if (!gw_driver_want_calls(d)) {
            gw_driver_suppress_calls(d);
            return 0;
        }
        poll_call(d, deadline);
        called = gw_eventfd_take(d->call_fd);
        if (gw_driver_now() < deadline)
            continue;
        /* A back-end may keep calling without using a chain. */
        if (!has_used(d))
            return gw_frontend_fail(-ETIMEDOUT, "queue %u: no used element within %u ms", d->index,
                                    timeout_ms);
        if (called)
            continue;
        /* The chain may have been used just now, with its call still on the way. */
        poll_call(d, gw_driver_now() + GW_DRIVER_CALL_GRACE_MS * UINT64_C(1000000));
        if (!gw_eventfd_take(d->call_fd))
            return gw_frontend_fail(-ENOMSG, "queue %u: used elements arrived without a call",
                                    d->index);
    }
    return gw_driver_check(d);
}
