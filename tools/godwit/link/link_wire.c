/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Writes and checks the frames of the link. See link_wire.h. */
#include "link_wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH_AT 8
#define RUN_LEN   16u

static const struct {
    const char *name;
    uint32_t min, max; /* of the payload */
} types[LINK_N_TYPES] = {
    [LINK_HELLO] = {"HELLO", 31, LINK_HELLO_MAX},
    [LINK_WELCOME] = {"WELCOME", 0, 0},
    [LINK_DATA] = {"DATA", 9, 8 + LINK_DATA_MAX},
    [LINK_ZEROS] = {"ZEROS", 16, 16},
    [LINK_REGION] = {"REGION", 16, 16},
    [LINK_ROUND] = {"ROUND", 4, 4},
    [LINK_DISCARD] = {"DISCARD", 0, LINK_RUNS_MAX *RUN_LEN},
    [LINK_STATE] = {"STATE", 24, 24 + LINK_STATE_MAX},
    [LINK_HASHES] = {"HASHES", 16, 8 + LINK_RUNS_MAX * 8},
    [LINK_COMPARE] = {"COMPARE", 8, 8},
    [LINK_DIFFERS] = {"DIFFERS", 9, 8 + LINK_PAGE_LEN},
    [LINK_READY] = {"READY", 16, 16},
    [LINK_GO] = {"GO", 0, 0},
    [LINK_RUNNING] = {"RUNNING", 0, 0},
    [LINK_REQUEST] = {"REQUEST", RUN_LEN, LINK_RUNS_MAX *RUN_LEN},
    [LINK_PAGE] = {"PAGE", 8, 8 + LINK_DATA_MAX},
    [LINK_COMPLETE] = {"COMPLETE", 0, 0},
    [LINK_VERDICT] = {"VERDICT", 9, 9 + LINK_TEXT_MAX},
    [LINK_BYE] = {"BYE", 0, 0},
    [LINK_ERROR] = {"ERROR", 1, LINK_TEXT_MAX},
    [LINK_RESUME] = {"RESUME", LINK_ID_LEN, LINK_ID_LEN},
    [LINK_RESUMED] = {"RESUMED", 0, 0},
    [LINK_MISSING] = {"MISSING", 0, LINK_RUNS_MAX *RUN_LEN},
};

const char *link_type_name(unsigned type)
{
    return type < LINK_N_TYPES && types[type].name ? types[type].name : "?";
}

/* ---- Writing ---- */

void link_out_done(struct link_out *out)
{
    free(out->data);
    *out = (struct link_out){0};
}

static bool reserve(struct link_out *out, size_t len)
{
    size_t room = out->room ? out->room : 4096;
    uint8_t *grown;

    if (out->failed)
        return false;
    if (len <= out->room - out->len)
        return true;
    while (room - out->len < len)
        room *= 2;
    grown = realloc(out->data, room);
    if (!grown) {
        out->failed = true;
        return false;
    }
    out->data = grown;
    out->room = room;
    return true;
}

void link_put(struct link_out *out, uint64_t value, unsigned n_bytes)
{
    if (!reserve(out, n_bytes))
        return;
    for (unsigned i = 0; i < n_bytes; i++)
        out->data[out->len++] = (uint8_t)(value >> 8 * i);
}

void link_put_bytes(struct link_out *out, const void *data, size_t len)
{
    if (len == 0 || !reserve(out, len))
        return;
    memcpy(out->data + out->len, data, len);
    out->len += len;
}

void link_put_text(struct link_out *out, const char *text)
{
    size_t len = strlen(text);

    link_put_bytes(out, text, len < LINK_TEXT_MAX ? len : LINK_TEXT_MAX - 1);
}

void link_begin(struct link_out *out, enum link_type type)
{
    out->frame = out->len;
    link_put(out, LINK_MAGIC, 4);
    link_put(out, LINK_VERSION, 2);
    link_put(out, type, 2);
    link_put(out, 0, 8);
}

void link_end(struct link_out *out)
{
    size_t length = out->len - out->frame - LINK_HEADER_LEN;

    for (unsigned i = 0; !out->failed && i < 4; i++)
        out->data[out->frame + LENGTH_AT + i] = (uint8_t)(length >> 8 * i);
}

/* ---- Reading ---- */

uint64_t link_get(struct link_in *in, unsigned n_bytes)
{
    const uint8_t *at = link_get_bytes(in, n_bytes);
    uint64_t value = 0;

    for (unsigned i = 0; at && i < n_bytes; i++)
        value |= (uint64_t)at[i] << 8 * i;
    return value;
}

const uint8_t *link_get_bytes(struct link_in *in, size_t len)
{
    const uint8_t *at = in->at;

    if (in->failed || len > in->left) {
        in->failed = true;
        return NULL;
    }
    in->at += len;
    in->left -= len;
    return at;
}

void link_get_text(struct link_in *in, char *text, size_t size)
{
    size_t len = in->left < size ? in->left : size - 1;
    const uint8_t *at = link_get_bytes(in, in->left);

    for (size_t i = 0; i < len; i++)
        text[i] = at[i] >= ' ' && at[i] < 0x7f ? (char)at[i] : '?';
    text[len] = '\0';
}

bool link_is_complete(const struct link_in *in)
{
    return !in->failed && in->left == 0;
}

int link_parse_header(const uint8_t header[LINK_HEADER_LEN], struct link_frame *ret, char *why)
{
    struct link_in in = {.at = header, .left = LINK_HEADER_LEN};
    uint64_t magic = link_get(&in, 4), version = link_get(&in, 2), type = link_get(&in, 2);
    uint32_t length = (uint32_t)link_get(&in, 4);

    if (magic != LINK_MAGIC) {
        snprintf(why, LINK_TEXT_MAX,
                 "the data is not from a godwit migrate (magic 0x%08x, expected 0x%08x): is it the "
                 "right port?",
                 (unsigned)magic, LINK_MAGIC);
        return -EPROTO;
    }
    if (version != LINK_VERSION) {
        snprintf(why, LINK_TEXT_MAX,
                 "the other end speaks version %u of the protocol, this one version %u: use the "
                 "same godwit at both ends",
                 (unsigned)version, LINK_VERSION);
        return -EPROTO;
    }
    if (type == 0 || type >= LINK_N_TYPES || link_get(&in, 4) != 0) {
        snprintf(why, LINK_TEXT_MAX, "a frame of unknown type %u", (unsigned)type);
        return -EPROTO;
    }
    if (length < types[type].min || length > types[type].max) {
        snprintf(why, LINK_TEXT_MAX, "%s of %u bytes, expected %u to %u", types[type].name, length,
                 types[type].min, types[type].max);
        return -EPROTO;
    }
    ret->type = (enum link_type)type;
    ret->length = length;
    return 0;
}

/* ---- Payloads ---- */

void link_put_hello(struct link_out *out, const struct link_hello *hello)
{
    link_begin(out, LINK_HELLO);
    link_put_bytes(out, hello->id, LINK_ID_LEN);
    link_put(out, hello->seed, 8);
    link_put(out, hello->is_postcopy, 1);
    link_put(out, hello->n_options, 2);
    for (unsigned i = 0; i < hello->n_options; i++) {
        size_t len = strnlen(hello->options[i].name, LINK_NAME_MAX - 1);

        link_put(out, len, 1);
        link_put_bytes(out, hello->options[i].name, len);
        link_put(out, hello->options[i].value, 8);
    }
    link_put(out, hello->n_layout, 4);
    for (unsigned i = 0; i < hello->n_layout; i++)
        link_put(out, hello->layout[i], 8);
    link_end(out);
}

static bool get_option(struct link_in *in, struct link_option *ret)
{
    size_t len = link_get(in, 1);
    const uint8_t *name = link_get_bytes(in, len);

    memset(ret, 0, sizeof(*ret));
    if (!name || len == 0 || len >= LINK_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (name[i] != '-' && (name[i] < 'a' || name[i] > 'z'))
            return false;
    }
    memcpy(ret->name, name, len);
    ret->value = link_get(in, 8);
    return !in->failed;
}

bool link_get_hello(struct link_in *in, struct link_hello *ret)
{
    const uint8_t *id = link_get_bytes(in, LINK_ID_LEN);

    if (!id)
        return false;
    memcpy(ret->id, id, LINK_ID_LEN);
    ret->seed = link_get(in, 8);
    ret->is_postcopy = link_get(in, 1) != 0;
    ret->n_options = (unsigned)link_get(in, 2);
    if (ret->n_options > LINK_OPTIONS_MAX)
        return false;
    for (unsigned i = 0; i < ret->n_options; i++) {
        if (!get_option(in, &ret->options[i]))
            return false;
    }
    ret->n_layout = (unsigned)link_get(in, 4);
    if (ret->n_layout > LINK_LAYOUT_MAX)
        return false;
    for (unsigned i = 0; i < ret->n_layout; i++)
        ret->layout[i] = link_get(in, 8);
    return link_is_complete(in);
}

void link_put_runs(struct link_out *out, enum link_type type, const struct link_run *runs,
                   unsigned n_runs)
{
    link_begin(out, type);
    for (unsigned i = 0; i < n_runs; i++) {
        link_put(out, runs[i].gpa, 8);
        link_put(out, runs[i].length, 8);
    }
    link_end(out);
}

int link_get_runs(struct link_in *in, struct link_run *runs)
{
    size_t n = in->left / RUN_LEN;

    if (in->left % RUN_LEN || n > LINK_RUNS_MAX)
        return -EPROTO;
    for (size_t i = 0; i < n; i++) {
        runs[i].gpa = link_get(in, 8);
        runs[i].length = link_get(in, 8);
        if (runs[i].length == 0 || runs[i].gpa + runs[i].length < runs[i].gpa)
            return -EPROTO;
    }
    return (int)n;
}
