/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Locates indirect tables. A table is used in place in guest memory, gathered from pieces, or
 * fetched as a copy. One call fetches all tables that a batch of chains needs as copies, before the
 * first chain is walked.
 */
#include "core/ring/desc.h"
#include "queue.h"

#include <stdlib.h>
#include <string.h>

struct fetched {
    struct gw_extent extent;
    struct gw_pin pin;
    struct iovec iov[4];
    int n_iov;
    bool failed;
};

/* The fetched tables of a batch, in the order of their chains. */
struct gw_tables {
    unsigned n;
    unsigned next; /* the first that no chain has used yet */
    struct fetched fetched[GW_POP_BATCH];
};

static const char *check_length(uint32_t len)
{
    if (len == 0 || len % sizeof(struct vring_desc) != 0)
        return "indirect table of a wrong length";
    if (len / sizeof(struct vring_desc) > GW_CHAIN_MAX)
        return "indirect table longer than 1024 descriptors";
    return NULL;
}

/* Copies a table that is not contiguous, or that cannot be used in place. */
static const char *gather(struct gw_queue *q, const struct iovec *iov, int n_iov, const void **ret)
{
    uint8_t *to;

    if (!q->pool.table)
        q->pool.table = malloc(GW_CHAIN_MAX * sizeof(*q->pool.table));
    if (!q->pool.table)
        return "out of memory";
    to = (uint8_t *)q->pool.table;
    for (int i = 0; i < n_iov; i++) {
        memcpy(to, iov[i].iov_base, iov[i].iov_len);
        to += iov[i].iov_len;
    }
    *ret = q->pool.table;
    return NULL;
}

static int pin(struct gw_queue *q, struct fetched *f, gw_gpa_t addr, uint32_t len)
{
    f->extent = (struct gw_extent){.gpa = addr, .len = len};
    f->failed = false;
    f->n_iov =
        gw_mem_pin(q->map, &q->map_last, &f->extent, 1, f->iov, GW_ARRAY_SIZE(f->iov), &f->pin);
    return f->n_iov;
}

void gw_tables_fetch(struct gw_queue *q, const struct gw_head *heads, unsigned n)
{
    struct gw_pin_copy copies[GW_POP_BATCH];
    bool is_packed = q->ring.ops->is_packed;
    struct gw_tables *t = q->pool.tables;

    if (!t)
        t = q->pool.tables =
            malloc(sizeof(*t)); /* kept; if NULL, each chain fetches its own table */
    if (!t)
        return;
    t->n = t->next = 0;
    for (unsigned i = 0; i < n; i++) {
        struct fetched *f = &t->fetched[t->n];
        struct vring_desc d;

        if (!is_packed && heads[i].id >= q->ring.size)
            continue;
        d = gw_head_first(is_packed, &heads[i]);
        if (!(d.flags & VRING_DESC_F_INDIRECT) || check_length(d.len) ||
            pin(q, f, d.addr, d.len) < 0 || !f->pin.backend)
            continue;
        copies[t->n++] = (struct gw_pin_copy){.pin = &f->pin, .n_readable = 1};
    }
    gw_mem_backend_fetch(copies, t->n);
    for (unsigned i = 0; i < t->n; i++)
        t->fetched[i].failed = copies[i].failed;
}

void gw_tables_release(struct gw_queue *q)
{
    struct gw_tables *t = q->pool.tables;

    for (unsigned i = 0; t && i < t->n; i++)
        gw_mem_unpin(&t->fetched[i].pin);
    if (t)
        t->n = t->next = 0;
}

/* Finds the table of this chain, and skips those of earlier chains that did not use theirs. */
static struct fetched *find_fetched(struct gw_tables *t, gw_gpa_t addr, uint32_t len)
{
    for (unsigned i = t->next; i < t->n; i++)
        if (t->fetched[i].extent.gpa == addr && t->fetched[i].extent.len == len) {
            t->next = i + 1;
            return &t->fetched[i];
        }
    return NULL;
}

/* Fetches a single table. The batch only has those that the first descriptor of a chain names. */
static bool fetch_one(struct fetched *f)
{
    struct gw_pin_copy copy = {.pin = &f->pin, .n_readable = 1};

    gw_mem_backend_fetch(&copy, 1);
    return !copy.failed;
}

const char *gw_table_use(struct gw_queue *q, const struct iovec *iov, int n_iov, const void **ret)
{
    /* 2.7.5.3.1 requires no alignment of the table; a misaligned one is copied, too. */
    if (n_iov == 1 && (uintptr_t)iov[0].iov_base % sizeof(uint64_t) == 0) {
        *ret = iov[0].iov_base;
        return NULL;
    }
    return gather(q, iov, n_iov, ret);
}

const char *gw_table_find(struct gw_queue *q, gw_gpa_t addr, uint32_t len, const void **ret)
{
    const char *why = check_length(len);
    struct fetched *f = NULL, own;

    if (why)
        return why;
    if (q->translation)
        return gw_translate_table(q, addr, len, ret);
    if (q->pool.tables)
        f = find_fetched(q->pool.tables, addr, len);
    if (f)
        return f->failed ? "indirect table that is not granted" : gather(q, f->iov, f->n_iov, ret);
    if (pin(q, &own, addr, len) < 0)
        return "indirect table outside guest memory";
    if (!own.pin.backend)
        return gw_table_use(q, own.iov, own.n_iov, ret);
    if (!fetch_one(&own))
        why = "indirect table that is not granted";
    else
        why = gather(q, own.iov, own.n_iov, ret);
    gw_mem_unpin(&own.pin);
    return why;
}
