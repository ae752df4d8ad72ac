/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Writes a state into memory. */
#include "container.h"
#include "crc32c.h"

#include "base/cleanup.h"
#include "base/log_i.h"

#include <errno.h>
#include <godwit/state.h>
#include <stdlib.h>

struct gw_state_writer {
    uint8_t *data;
    size_t len;
    size_t capacity;
    size_t n_read;
    bool has_ended;
};

/* Make room for `len` more bytes. */
static int reserve(struct gw_state_writer *w, size_t len)
{
    size_t capacity = w->capacity ? w->capacity : 256;
    uint8_t *data;

    while (capacity - w->len < len) {
        if (capacity > SIZE_MAX / 2)
            return gw_fail(-ENOMEM, "a state of more than %zu bytes", capacity);
        capacity *= 2;
    }
    if (capacity == w->capacity)
        return 0;
    data = realloc(w->data, capacity);
    if (!data)
        return gw_fail(-ENOMEM, "no memory for a state of %zu bytes", w->len + len);
    w->data = data;
    w->capacity = capacity;
    return 0;
}

static void append_head(struct gw_state_writer *w, uint32_t id, uint32_t flags, size_t len)
{
    uint8_t *p = w->data + w->len;

    gw_put_le32(p, id);
    gw_put_le32(p + 4, flags);
    gw_put_le64(p + 8, len);
    gw_put_le32(p + 16, gw_crc32c(0, p, GW_STATE_HEAD_LEN - GW_STATE_CRC_LEN));
    w->len += GW_STATE_HEAD_LEN;
}

/* There is room. `data` may be NULL if `len` is 0. */
static void append_section(struct gw_state_writer *w, uint32_t id, uint32_t flags, const void *data,
                           size_t len)
{
    append_head(w, id, flags, len);
    if (len > 0)
        memcpy(w->data + w->len, data, len);
    gw_put_le32(w->data + w->len + len, gw_crc32c(0, w->data + w->len, len));
    w->len += len + GW_STATE_CRC_LEN;
}

int gw_state_writer_new(struct gw_state_writer **ret, const char *device, uint32_t version)
{
    size_t name_len = strlen(device);
    struct gw_state_writer *w;
    int r;

    if (name_len == 0 || name_len > GW_STATE_NAME_MAX)
        return gw_fail(-EINVAL, "device name \"%s\": not 1 to %d bytes", device, GW_STATE_NAME_MAX);
    w = calloc(1, sizeof(*w));
    if (!w)
        return gw_fail(-ENOMEM, "no memory for a state");
    r = reserve(w, GW_STATE_HEADER_LEN);
    if (r < 0) {
        gw_state_writer_free(w);
        return r;
    }
    memset(w->data, 0, GW_STATE_HEADER_LEN);
    memcpy(w->data, GW_STATE_MAGIC, GW_STATE_MAGIC_LEN);
    gw_put_le32(w->data + 8, GW_STATE_VERSION);
    gw_put_le32(w->data + 12, version);
    memcpy(w->data + 16, device, name_len);
    gw_put_le32(w->data + 32, gw_crc32c(0, w->data, GW_STATE_HEADER_LEN - GW_STATE_CRC_LEN));
    w->len = GW_STATE_HEADER_LEN;
    *ret = w;
    return 0;
}

int gw_state_writer_add(struct gw_state_writer *w, uint32_t id, uint32_t flags, const void *data,
                        size_t len)
{
    int r;

    if (w->has_ended)
        return gw_fail(-EPERM, "section %#x after the end of the state", id);
    if (id == GW_STATE_END_ID || (flags & ~(uint32_t)GW_STATE_REQUIRED))
        return gw_fail(-EINVAL, "section %#x with flags %#x", id, flags);
    if (len > GW_STATE_SECTION_MAX)
        return gw_fail(-E2BIG, "section %#x of %zu bytes, limit %u", id, len, GW_STATE_SECTION_MAX);
    r = reserve(w, GW_STATE_HEAD_LEN + len + GW_STATE_CRC_LEN);
    if (r < 0)
        return r;
    append_section(w, id, flags, data, len);
    return 0;
}

int gw_state_writer_end(struct gw_state_writer *w)
{
    uint8_t before[GW_STATE_END_LEN];
    int r;

    if (w->has_ended)
        return 0;
    r = reserve(w, GW_STATE_HEAD_LEN + sizeof(before) + GW_STATE_CRC_LEN);
    if (r < 0)
        return r;
    gw_put_le64(before, w->len);
    append_section(w, GW_STATE_END_ID, GW_STATE_REQUIRED, before, sizeof(before));
    w->has_ended = true;
    return 0;
}

size_t gw_state_writer_read(struct gw_state_writer *w, void *buf, size_t size)
{
    size_t len = w->has_ended ? w->len - w->n_read : 0;

    if (len > size)
        len = size;
    if (len > 0)
        memcpy(buf, w->data + w->n_read, len);
    w->n_read += len;
    return len;
}

const void *gw_state_writer_data(const struct gw_state_writer *w, size_t *ret_len)
{
    *ret_len = w->len;
    return w->data;
}

void gw_state_writer_free(struct gw_state_writer *w)
{
    if (!w)
        return;
    free(w->data);
    free(w);
}
