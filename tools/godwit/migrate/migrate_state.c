/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Transfers the state of drivers, loads and devices over the link. With it the destination
 * continues with all requests in flight, and knows the contents of the disk and of the buffers that
 * were held.
 */
#include "migrate_remote.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STATE_LEN_MAX (UINT64_C(1) << 30)

struct piece {
    uint8_t *bytes;
    uint64_t len, total;
    bool is_known;
};

struct migration_state {
    struct piece *pieces; /* first of the drivers, then of the loads, then of the devices */
    unsigned n_drivers, n_units;
};

/* ---- Out ---- */

static int send_one(struct migration *m, enum link_state kind, unsigned index, const uint8_t *bytes,
                    uint64_t total)
{
    struct link_out *out = &m->remote->channel.out;
    uint64_t at = 0;
    int r = 0;

    do {
        uint64_t n = total - at < LINK_STATE_MAX ? total - at : LINK_STATE_MAX;

        link_begin(out, LINK_STATE);
        link_put(out, kind, 4);
        link_put(out, index, 4);
        link_put(out, at, 8);
        link_put(out, total, 8);
        link_put_bytes(out, bytes + at, n);
        link_end(out);
        at += n;
        r = migration_remote_push(m, MIGRATION_REMOTE_CHUNK);
    } while (r == 0 && at < total);
    return r;
}

static int send_driver(struct migration *m, unsigned i)
{
    void *state;
    size_t len;
    int r = gw_driver_save(m->drivers[i], &state, &len);

    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "the state of a ring: %s", strerror(-r));
    r = send_one(m, LINK_STATE_DRIVER, i, state, len);
    free(state);
    return r;
}

static int send_load(struct migration *m, unsigned i)
{
    void *state;
    size_t len;
    int r = migration_load_save(m, i, &state, &len);

    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "the state of the load: %s",
                                strerror(-r));
    if (!state)
        return 0;
    r = send_one(m, LINK_STATE_LOAD, i, state, len);
    free(state);
    return r;
}

int migration_state_send(struct migration *m)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < m->n_drivers; i++)
        r = send_driver(m, i);
    for (unsigned i = 0; r == 0 && i < m->n_units; i++)
        r = send_load(m, i);
    for (unsigned i = 0; r == 0 && i < m->n_units; i++)
        if (m->units[i].has_state)
            r = send_one(m, LINK_STATE_DEVICE, i, m->units[i].state, m->units[i].state_len);
    return r;
}

/* ---- In ---- */

int migration_state_new(const struct migration *m, struct migration_state **ret)
{
    struct migration_state *s = calloc(1, sizeof(*s));

    if (s)
        s->pieces = calloc(m->n_drivers + 2 * m->n_units, sizeof(*s->pieces));
    if (!s || !s->pieces) {
        free(s);
        return -ENOMEM;
    }
    s->n_drivers = m->n_drivers;
    s->n_units = m->n_units;
    *ret = s;
    return 0;
}

void migration_state_free(struct migration_state *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < s->n_drivers + 2 * s->n_units; i++)
        free(s->pieces[i].bytes);
    free(s->pieces);
    free(s);
}

/* Pieces arrive in order. Memory grows as they arrive, whatever total the peer announces. */
bool migration_state_take(struct migration_state *s, struct link_in *in)
{
    unsigned kind = (unsigned)link_get(in, 4), index = (unsigned)link_get(in, 4);
    uint64_t at = link_get(in, 8), total = link_get(in, 8), n = in->left;
    const uint8_t *bytes = link_get_bytes(in, in->left);
    struct piece *p;
    uint8_t *grown;

    if (in->failed || kind > LINK_STATE_DEVICE || total > STATE_LEN_MAX ||
        index >= (kind == LINK_STATE_DRIVER ? s->n_drivers : s->n_units))
        return false;
    if (kind == LINK_STATE_LOAD)
        index += s->n_drivers;
    else if (kind == LINK_STATE_DEVICE)
        index += s->n_drivers + s->n_units;
    p = &s->pieces[index];
    if (at != p->len || (p->is_known && total != p->total) || n > total - at)
        return false;
    grown = realloc(p->bytes, p->len + n + 1);
    if (!grown)
        return false;
    memcpy(grown + p->len, bytes, n);
    p->bytes = grown;
    p->len += n;
    p->total = total;
    p->is_known = true;
    return true;
}

/* The device of unit `i`, which was not sent if it has no state. */
static int keep_device(struct migration *m, unsigned i, struct piece *p)
{
    struct migration_unit *u = &m->units[i];

    if (!p->is_known)
        return 0;
    free(u->state);
    u->state = p->bytes;
    u->state_len = p->len;
    u->has_state = true;
    p->bytes = NULL;
    m->hop->device_state_bytes += p->len;
    return 0;
}

int migration_state_restore(struct migration *m, const struct migration_state *s)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < s->n_drivers + 2 * s->n_units; i++) {
        struct piece *p = &s->pieces[i];

        if (p->len != p->total)
            r = -EINVAL;
        else if (i < s->n_drivers)
            r = gw_driver_restore(m->drivers[i], p->bytes, p->len);
        else if (i < s->n_drivers + s->n_units)
            r = migration_load_restore(m, i - s->n_drivers, p->bytes, p->len);
        else
            r = keep_device(m, i - s->n_drivers - s->n_units, p);
    }
    return r;
}
