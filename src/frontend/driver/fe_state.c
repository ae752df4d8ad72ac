/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Conversion of numbers to little-endian bytes and back. */
#include "fe_state.h"

#include "frontend/error.h"

#include <errno.h>
#include <stdlib.h>

static bool grow(struct gw_state_writer *w)
{
    size_t room = w->room ? 2 * w->room : 1024;
    uint8_t *grown = realloc(w->data, room);

    if (!grown) {
        w->failed = true;
        return false;
    }
    w->data = grown;
    w->room = room;
    return true;
}

void gw_state_put(struct gw_state_writer *w, uint64_t value, unsigned n_bytes)
{
    if (w->failed || (w->room - w->len < sizeof(value) && !grow(w)))
        return;
    for (unsigned i = 0; i < n_bytes; i++)
        w->data[w->len++] = (uint8_t)(value >> 8 * i);
}

uint64_t gw_state_get(struct gw_state_reader *r, unsigned n_bytes)
{
    uint64_t value = 0;

    if (r->failed || r->left < n_bytes) {
        r->failed = true;
        return 0;
    }
    for (unsigned i = 0; i < n_bytes; i++)
        value |= (uint64_t)r->data[i] << 8 * i;
    r->data += n_bytes;
    r->left -= n_bytes;
    return value;
}

int gw_state_take(struct gw_state_writer *w, void **ret, size_t *ret_len)
{
    uint8_t *data = w->data;
    size_t len = w->len;
    bool failed = w->failed;

    *w = (struct gw_state_writer){0};
    if (failed) {
        free(data);
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    }
    *ret = data;
    *ret_len = len;
    return 0;
}

bool gw_state_is_complete(const struct gw_state_reader *r)
{
    return !r->failed && r->left == 0;
}
