/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Reads a state in pieces. Each part of it (header, head, data, checksum) is collected in one
 * buffer, which grows with the bytes that have arrived, never with a length that the state claims.
 */
#include "container.h"
#include "crc32c.h"

#include "base/cleanup.h"
#include "base/log_i.h"

#include <errno.h>
#include <godwit/state.h>
#include <inttypes.h>
#include <stdlib.h>

enum part {
    PART_HEADER,
    PART_HEAD,
    PART_DATA, /* with its checksum */
    PART_NONE, /* the state has ended */
};

enum {
    BUFFER_MIN = 4096
};

struct gw_state_reader {
    char device[GW_STATE_NAME_MAX];
    uint32_t version_max;
    gw_state_section_cb *cb;
    void *arg;

    enum part part;
    uint8_t *buffer; /* the part, as far as it has arrived */
    size_t capacity;
    size_t got;
    size_t wanted;     /* length of the part */
    uint64_t position; /* in the state, of the part */
    struct gw_state_section section;
    int error;
    char why[256];
};

static int damaged(const struct gw_state_reader *r, const char *what)
{
    return gw_fail(-EBADMSG, "the state is damaged at byte %" PRIu64 ": %s", r->position, what);
}

/* ---- the parts ---- */

/* Later versions keep the layout of the header, so its checksum is checked first. */
static int take_header(struct gw_state_reader *r)
{
    const uint8_t *p = r->buffer;
    uint32_t version = gw_get_le32(p + 8);

    if (memcmp(p, GW_STATE_MAGIC, GW_STATE_MAGIC_LEN) != 0)
        return gw_fail(-EBADMSG, "not a state of a device: it does not begin with the magic bytes");
    if (gw_get_le32(p + 32) != gw_crc32c(0, p, GW_STATE_HEADER_LEN - GW_STATE_CRC_LEN))
        return damaged(r, "wrong checksum of the header");
    if (version != GW_STATE_VERSION)
        return gw_fail(-EOPNOTSUPP, "the state has container version %" PRIu32 ", not %u", version,
                       GW_STATE_VERSION);
    if (memcmp(p + 16, r->device, sizeof(r->device)) != 0)
        return gw_fail(-EINVAL, "the state belongs to device \"%.*s\", not \"%.*s\"",
                       GW_STATE_NAME_MAX, (const char *)p + 16, GW_STATE_NAME_MAX, r->device);
    r->section.version = gw_get_le32(p + 12);
    if (r->section.version > r->version_max)
        return gw_fail(-EOPNOTSUPP,
                       "the state has version %" PRIu32 " of device \"%.*s\", and this program "
                       "reads up to version %" PRIu32,
                       r->section.version, GW_STATE_NAME_MAX, r->device, r->version_max);
    r->part = PART_HEAD;
    r->wanted = GW_STATE_HEAD_LEN;
    return 0;
}

static int take_head(struct gw_state_reader *r)
{
    const uint8_t *p = r->buffer;
    uint64_t len = gw_get_le64(p + 8);

    r->section.id = gw_get_le32(p);
    r->section.flags = gw_get_le32(p + 4);
    if (gw_get_le32(p + 16) != gw_crc32c(0, p, GW_STATE_HEAD_LEN - GW_STATE_CRC_LEN))
        return damaged(r, "wrong checksum of a section's head");
    if (r->section.flags & ~(uint32_t)GW_STATE_REQUIRED)
        return gw_fail(-EOPNOTSUPP, "section %#" PRIx32 " has unknown flags %#" PRIx32,
                       r->section.id, r->section.flags);
    if (len > GW_STATE_SECTION_MAX)
        return gw_fail(-E2BIG, "section %#" PRIx32 " of %" PRIu64 " bytes, limit %u", r->section.id,
                       len, GW_STATE_SECTION_MAX);
    if (r->section.id == GW_STATE_END_ID && len != GW_STATE_END_LEN)
        return damaged(r, "wrong length of the last section");
    r->section.len = (size_t)len;
    r->part = PART_DATA;
    r->wanted = (size_t)len + GW_STATE_CRC_LEN;
    return 0;
}

static int take_end(struct gw_state_reader *r)
{
    uint64_t before = gw_get_le64(r->buffer);

    if (before != r->position - GW_STATE_HEAD_LEN)
        return gw_fail(-EBADMSG,
                       "the state is damaged: it ends after %" PRIu64 " bytes, not %" PRIu64,
                       r->position - GW_STATE_HEAD_LEN, before);
    r->part = PART_NONE;
    return 0;
}

static int take_data(struct gw_state_reader *r)
{
    struct gw_state_section *s = &r->section;
    int result;

    if (gw_get_le32(r->buffer + s->len) != gw_crc32c(0, r->buffer, s->len))
        return damaged(r, "wrong checksum of a section");
    if (s->id == GW_STATE_END_ID)
        return take_end(r);
    s->data = r->buffer;
    result = r->cb(r->arg, s);
    if (result == -ENOENT && (s->flags & GW_STATE_REQUIRED))
        return gw_fail(-EOPNOTSUPP,
                       "section %#" PRIx32 " is required, and unknown to this version of \"%.*s\"",
                       s->id, GW_STATE_NAME_MAX, r->device);
    if (result < 0 && result != -ENOENT)
        return gw_fail(result, "section %#" PRIx32 " is refused: %s", s->id, strerror(-result));
    r->part = PART_HEAD;
    r->wanted = GW_STATE_HEAD_LEN;
    return 0;
}

static int take_part(struct gw_state_reader *r)
{
    size_t len = r->wanted;
    int result = r->part == PART_HEADER ? take_header(r)
                 : r->part == PART_HEAD ? take_head(r)
                                        : take_data(r);

    r->position += len;
    r->got = 0;
    return result;
}

/* ---- the bytes ---- */

static int reserve(struct gw_state_reader *r, size_t len)
{
    size_t capacity = r->capacity ? r->capacity : BUFFER_MIN;
    uint8_t *buffer;

    while (capacity < len)
        capacity *= 2; /* at most twice GW_STATE_SECTION_MAX */
    if (capacity == r->capacity)
        return 0;
    buffer = realloc(r->buffer, capacity);
    if (!buffer)
        return gw_fail(-ENOMEM, "no memory for %zu bytes of a state", len);
    r->buffer = buffer;
    r->capacity = capacity;
    return 0;
}

/* Take bytes of the current part. Returns: how many; a negative errno. */
static int64_t collect(struct gw_state_reader *r, const uint8_t *data, size_t len)
{
    size_t n = r->wanted - r->got;
    int result;

    if (r->part == PART_NONE)
        return gw_fail(-EBADMSG, "the state is damaged: %zu bytes follow its end", len);
    if (n > len)
        n = len;
    result = reserve(r, r->got + n);
    if (result < 0)
        return result;
    memcpy(r->buffer + r->got, data, n);
    r->got += n;
    result = r->got == r->wanted ? take_part(r) : 0;
    return result < 0 ? result : (int64_t)n;
}

/* Keep the first error. */
static int fail(struct gw_state_reader *r, int error)
{
    const char *why = gw_last_error();

    r->error = error;
    memcpy(r->why, why, strnlen(why, sizeof(r->why) - 1));
    return error;
}

int gw_state_reader_feed(struct gw_state_reader *r, const void *data, size_t len)
{
    const uint8_t *p = data;

    if (r->error < 0)
        return gw_fail(r->error, "%s", r->why);
    while (len > 0) {
        int64_t n = collect(r, p, len);

        if (n < 0)
            return fail(r, (int)n);
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int gw_state_reader_end(struct gw_state_reader *r)
{
    if (r->error < 0)
        return gw_fail(r->error, "%s", r->why);
    if (r->part != PART_NONE)
        return gw_fail(-EBADMSG, "the state is incomplete: it ends after %" PRIu64 " bytes",
                       r->position + r->got);
    return 0;
}

int gw_state_reader_new(struct gw_state_reader **ret, const char *device, uint32_t version_max,
                        gw_state_section_cb *cb, void *arg)
{
    size_t name_len = strlen(device);
    struct gw_state_reader *r;

    if (name_len == 0 || name_len > GW_STATE_NAME_MAX)
        return gw_fail(-EINVAL, "device name \"%s\": not 1 to %d bytes", device, GW_STATE_NAME_MAX);
    r = calloc(1, sizeof(*r));
    if (!r)
        return gw_fail(-ENOMEM, "no memory for a state");
    memcpy(r->device, device, name_len);
    r->version_max = version_max;
    r->cb = cb;
    r->arg = arg;
    r->wanted = GW_STATE_HEADER_LEN;
    *ret = r;
    return 0;
}

void gw_state_reader_free(struct gw_state_reader *r)
{
    if (!r)
        return;
    free(r->buffer);
    free(r);
}
