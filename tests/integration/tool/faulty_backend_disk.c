/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The queues of the faulty back-end: disk requests, one after another, and the marks for them. */
#include "faulty_backend.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define PAGE        4096u
#define SECTOR      512
#define MANY        (256 * PAGE)
#define CHAIN_MAX   64
#define F_EVENT_IDX 29
#define LATE_EVERY  16   /* every Nth request, among those marked before they are written */
#define LATE_US     4000 /* until a page is copied after its mark was collected */
#define LOSE_EVERY  500

struct piece {
    uint64_t gpa;
    uint32_t len;
    bool writable;
    bool indirect;
};

struct chain {
    struct piece pieces[CHAIN_MAX];
    unsigned n;
};

static void walk(struct faulty_backend *s, const struct vring_desc *table, unsigned i,
                 bool indirect, struct chain *c)
{
    for (;;) {
        struct vring_desc d = table[i];

        if (d.flags & VRING_DESC_F_INDIRECT) {
            walk(s, faulty_backend_at(s, d.addr, d.len), 0, true, c);
            return;
        }
        c->pieces[c->n++] = (struct piece){
            .gpa = d.addr,
            .len = d.len,
            .writable = d.flags & VRING_DESC_F_WRITE,
            .indirect = indirect,
        };
        if (!(d.flags & VRING_DESC_F_NEXT) || c->n == CHAIN_MAX)
            return;
        i = d.next;
    }
}

/* Mark what was written to a data buffer; faulty back-ends deviate here. */
static void mark_data(struct faulty_backend *s, const struct piece *p)
{
    uint64_t last = (p->gpa + p->len - 1) / PAGE * PAGE;

    s->n_buffers++;
    if (s->fault == FAULTY_NO_INDIRECT && p->indirect)
        return;
    if (s->fault == FAULTY_EVERY_100TH && s->n_buffers % 100 == 0)
        return;
    if (s->fault == FAULTY_NO_LAST_PAGE) {
        if (last > p->gpa)
            faulty_backend_mark(s, p->gpa, last - p->gpa);
        return;
    }
    if (s->fault == FAULTY_MARKS_TOO_MUCH) {
        faulty_backend_mark(s, p->gpa / MANY * MANY, MANY);
        faulty_backend_mark(s, p->gpa, p->len);
        return;
    }
    faulty_backend_mark(s, p->gpa, p->len);
}

static void read_piece(struct faulty_backend *s, const struct piece *p, off_t at)
{
    void *to = faulty_backend_at(s, p->gpa, p->len);
    ssize_t n;

    if (s->fault == FAULTY_MARK_FIRST) {
        mark_data(s, p);
        if (s->n_requests % LATE_EVERY == 0 && s->log.bits) {
            faulty_backend_wait_taken(s, p->gpa);
            usleep(LATE_US);
        }
        n = pread(s->disk_fd, to, p->len, at);
    } else {
        n = pread(s->disk_fd, to, p->len, at);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        mark_data(s, p);
    }
    (void)n;
    s->last_gpa = p->gpa;
    s->last_len = p->len;
}

/* Whether the request is within the limits in the configuration. */
static bool is_allowed(const struct faulty_backend *s, const struct chain *c, uint64_t sector)
{
    uint64_t len = 0;

    for (unsigned i = 1; i + 1 < c->n; i++) {
        len += c->pieces[i].len;
        if (s->size_max && c->pieces[i].len > s->size_max)
            return false;
    }
    if (s->seg_max && c->n - 2 > s->seg_max)
        return false;
    return !s->block_size || (len % s->block_size == 0 && sector * SECTOR % s->block_size == 0);
}

/* Execute one request. Returns: the used length. */
static uint32_t do_request(struct faulty_backend *s, const struct chain *c)
{
    const struct virtio_blk_outhdr *h = faulty_backend_at(s, c->pieces[0].gpa, sizeof(*h));
    const struct piece *status = &c->pieces[c->n - 1];
    off_t at = (off_t)(h->sector * SECTOR);
    uint32_t len = 1;
    ssize_t n = 0;

    for (unsigned i = 1; i + 1 < c->n; i++) {
        const struct piece *p = &c->pieces[i];

        if (h->type == VIRTIO_BLK_T_IN)
            read_piece(s, p, at);
        else if (s->fault != FAULTY_LOSES_WRITES || s->n_requests % LOSE_EVERY)
            n = pwrite(s->disk_fd, faulty_backend_at(s, p->gpa, p->len), p->len, at);
        (void)n;
        at += p->len;
        len += p->writable ? p->len : 0;
    }
    *(uint8_t *)faulty_backend_at(s, status->gpa, 1) =
        is_allowed(s, c, h->sector) ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
    if (s->fault != FAULTY_NO_STATUS)
        faulty_backend_mark(s, status->gpa, 1);
    if (s->fault == FAULTY_OUTSIDE && s->n_requests % 100 == 0)
        ++*(uint32_t *)faulty_backend_at(s, s->regions[0].gpa + s->regions[0].size - 64, 4);
    s->n_requests++;
    return len;
}

static void mark_used(struct faulty_backend *s, const struct faulty_backend_queue *q, uint64_t at,
                      uint64_t len)
{
    if (q->log)
        faulty_backend_mark(s, q->log_addr + at, len);
}

static void push_used(struct faulty_backend *s, struct faulty_backend_queue *q, uint16_t head,
                      uint32_t len)
{
    struct vring_used *used = faulty_backend_at_uva(s, q->used);
    uint16_t i = q->next_used & (q->size - 1);

    used->ring[i].id = head;
    used->ring[i].len = len;
    if (s->fault != FAULTY_NO_USED_ELEMENT)
        mark_used(s, q, offsetof(struct vring_used, ring) + i * sizeof(used->ring[0]),
                  sizeof(used->ring[0]));
    q->next_used++;
    __atomic_store_n(&used->idx, q->next_used, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (s->fault != FAULTY_NO_USED_IDX)
        mark_used(s, q, offsetof(struct vring_used, idx), sizeof(used->idx));
}

static void call(struct faulty_backend *s, struct faulty_backend_queue *q)
{
    const struct vring_avail *avail = faulty_backend_at_uva(s, q->avail);
    uint16_t event = avail->ring[q->size], old = q->signalled;
    bool wanted = !(avail->flags & VRING_AVAIL_F_NO_INTERRUPT);
    uint64_t one = 1;
    ssize_t n;

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (s->features >> F_EVENT_IDX & 1) {
        event = __atomic_load_n(&avail->ring[q->size], __ATOMIC_RELAXED);
        wanted = (uint16_t)(q->next_used - event - 1) < (uint16_t)(q->next_used - old);
    }
    q->signalled = q->next_used;
    if (!wanted || q->call < 0)
        return;
    n = write(q->call, &one, sizeof(one));
    (void)n;
}

/* Request a kick for the next request. */
static void want_kicks(struct faulty_backend *s, struct faulty_backend_queue *q)
{
    struct vring_used *used = faulty_backend_at_uva(s, q->used);
    uint16_t *avail_event = (uint16_t *)(void *)&used->ring[q->size];

    if (!(s->features >> F_EVENT_IDX & 1))
        return;
    __atomic_store_n(avail_event, q->next_avail, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (s->fault != FAULTY_NO_AVAIL_EVENT)
        mark_used(s, q, offsetof(struct vring_used, ring) + q->size * sizeof(used->ring[0]),
                  sizeof(*avail_event));
}

void faulty_backend_serve(struct faulty_backend *s, struct faulty_backend_queue *q, unsigned n_max)
{
    const struct vring_avail *avail;

    if (!q->enabled || q->kick < 0 || !s->n_regions || faulty_backend_is_lost(s))
        return;
    avail = faulty_backend_at_uva(s, q->avail);
    for (;;) {
        while (n_max && q->next_avail != __atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE)) {
            uint16_t head = avail->ring[q->next_avail & (q->size - 1)];
            struct chain c = {.n = 0};

            walk(s, faulty_backend_at_uva(s, q->desc), head, false, &c);
            q->next_avail++;
            n_max--;
            push_used(s, q, head, do_request(s, &c));
            call(s, q);
        }
        want_kicks(s, q);
        if (!n_max || q->next_avail == __atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE))
            break;
    }
}
