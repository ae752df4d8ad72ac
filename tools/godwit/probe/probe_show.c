/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The results of a probe as a table and as JSON, with the same contents. */
#include "probe.h"
#include "report/json.h"
#include "report/report_backend.h"

#include <inttypes.h>
#include <string.h>

#define N_BITS       64
#define BYTES_A_LINE 16
#define PAGEFAULT    8 /* protocol bits */
#define DEVICE_STATE 19
#define MEM_SLOTS    15

static void text_bits(FILE *out, uint64_t bits, const struct features_device *device,
                      bool is_protocol)
{
    for (unsigned bit = 0; bit < N_BITS; bit++) {
        const char *name = is_protocol ? features_protocol_name(bit) : features_name(device, bit);

        if (!(bits & FEATURES_BIT(bit)))
            continue;
        if (name != NULL)
            fprintf(out, "    %2u  %s\n", bit, name);
        else if (!is_protocol && (bit < 24 || (bit > 49 && bit < N_BITS)))
            fprintf(out, "    %2u  (device-specific; give its type with --device)\n", bit);
        else
            fprintf(out, "    %2u  (unknown)\n", bit);
    }
}

/* The value of a numeric field. */
static uint64_t field_number(const struct probe *p, const struct features_field *f)
{
    uint64_t value = 0;

    for (unsigned i = f->size; i > 0; i--)
        value = value << 8 | p->config[f->offset + i - 1];
    return value;
}

static bool is_number(const struct features_field *f)
{
    return f->size == 1 || f->size == 2 || f->size == 4 || f->size == 8;
}

static bool is_valid(const struct probe *p, const struct features_field *f)
{
    return f->offset + f->size <= (int)p->config_len &&
           (f->bit < 0 || p->features & FEATURES_BIT(f->bit));
}

/* A field of bytes as text, or as hexadecimal bytes separated by colons. */
static void field_text(const struct probe *p, const struct features_field *f, char *buf,
                       size_t size)
{
    const uint8_t *bytes = p->config + f->offset;
    size_t used = 0;

    if (f->is_text) {
        snprintf(buf, size, "%.*s", f->size, (const char *)bytes);
        for (char *c = buf; *c != '\0'; c++)
            *c = (char)(*c < 0x20 || *c == 0x7f ? '.' : *c);
        return;
    }
    for (unsigned i = 0; i < f->size && used < size; i++)
        used += (size_t)snprintf(buf + used, size - used, "%s%02x", i == 0 ? "" : ":", bytes[i]);
}

static void text_config(const struct probe *p, FILE *out)
{
    const struct features_field *f = features_fields(p->device);
    unsigned end = p->config_len;
    char buf[160];

    if (!p->has_config) {
        fprintf(out, "config space         unavailable: CONFIG (protocol bit 9) is not offered\n");
        return;
    }
    fprintf(out, "config space         %u bytes%s\n", p->config_len,
            p->config_len == PROBE_CONFIG_MAX ? ", or any length is accepted" : "");
    for (; f != NULL && f->name != NULL; f++) {
        if (is_valid(p, f) && is_number(f)) {
            fprintf(out, "    %-29s %" PRIu64 "\n", f->name, field_number(p, f));
        } else if (is_valid(p, f)) {
            field_text(p, f, buf, sizeof(buf));
            fprintf(out, "    %-29s %s\n", f->name, buf);
        }
    }
    while (end > 0 && p->config[end - 1] == 0)
        end--; /* trailing zeros are not shown */
    for (unsigned line = 0; line < end; line += BYTES_A_LINE) {
        fprintf(out, "    %02x ", line);
        for (unsigned i = line; i < line + BYTES_A_LINE && i < p->config_len; i++)
            fprintf(out, " %02x", p->config[i]);
        fputc('\n', out);
    }
    if (end < p->config_len)
        fprintf(out, "    followed by zeros\n");
}

static const char *offered(const struct probe *p, unsigned protocol_bit)
{
    return p->protocol_features & FEATURES_BIT(protocol_bit) ? "is offered" : "is not offered";
}

static void text_migration(const struct probe *p, FILE *out)
{
    bool needs_state = features_needs_state(p->device);
    char missing[256];

    features_missing(p->device, p->features, p->protocol_features, missing, sizeof(missing));
    if (missing[0] == '\0')
        fprintf(out,
                "migration            possible: LOG_ALL (virtio bit 26)%s LOG_SHMFD (protocol "
                "bit 1)%s are offered; godwit migrate tests them\n",
                needs_state ? "," : " and",
                needs_state ? " and DEVICE_STATE (protocol bit 19)" : "");
    else
        fprintf(out, "migration            cannot be migrated: %s %s not offered\n", missing,
                strstr(missing, " and ") != NULL ? "are" : "is");
    fprintf(out, "    postcopy              PAGEFAULT (protocol bit %u) %s\n", PAGEFAULT,
            offered(p, PAGEFAULT));
    fprintf(out, "    memory slots          CONFIGURE_MEM_SLOTS (protocol bit %u) %s\n", MEM_SLOTS,
            offered(p, MEM_SLOTS));
    fprintf(out, "    state of the device   DEVICE_STATE (protocol bit %u) %s%s\n", DEVICE_STATE,
            offered(p, DEVICE_STATE),
            needs_state && !(p->protocol_features & FEATURES_BIT(DEVICE_STATE))
                ? ": no migration or snapshot of this type of device without it"
                : "");
}

void probe_text(const struct probe *p, FILE *out)
{
    fprintf(out, "back-end             %s\n", p->target);
    if (p->pid != 0)
        fprintf(out, "process              %d\n", (int)p->pid);
    if (p->executable[0] != '\0')
        fprintf(out, "executable           %s\n", p->executable);
    if (p->build_id[0] != '\0')
        fprintf(out, "build-id             %s\n", p->build_id);
    fprintf(out, "queues               %" PRIu64 "%s\n", p->n_queues,
            p->has_queue_num ? "" : " (MQ, protocol bit 0, is not offered)");
    fprintf(out, "memory slots         %" PRIu64 "%s\n", p->n_slots,
            p->has_slots ? "" : " (of SET_MEM_TABLE)");
    fprintf(out, "features             0x%016" PRIx64 "\n", p->features);
    text_bits(out, p->features, p->device, false);
    fprintf(out, "protocol features    0x%016" PRIx64 "\n", p->protocol_features);
    text_bits(out, p->protocol_features, NULL, true);
    text_config(p, out);
    text_migration(p, out);
}

/* ---- JSON ---- */

static struct json_object *json_config(const struct probe *p)
{
    const struct features_field *f = features_fields(p->device);
    struct json_object *json = json_object_new_object(), *fields = json_object_new_object();
    char hex[2 * PROBE_CONFIG_MAX + 1] = "", buf[160];

    for (unsigned i = 0; i < p->config_len; i++)
        snprintf(hex + (size_t)2 * i, 3, "%02x", p->config[i]);
    json_add_number(json, "length", p->config_len);
    json_add_text(json, "bytes", hex);
    for (; f != NULL && f->name != NULL; f++) {
        if (is_valid(p, f) && is_number(f)) {
            json_add_number(fields, f->name, field_number(p, f));
        } else if (is_valid(p, f)) {
            field_text(p, f, buf, sizeof(buf));
            json_add_text(fields, f->name, buf);
        }
    }
    json_object_object_add(json, "fields", fields);
    return json;
}

struct json_object *probe_json(const struct probe *p)
{
    struct json_object *json = json_new("probe");
    char missing[256];

    json_add_text(json, "command_line", p->command_line);
    json_add_text(json, "verdict", verdict_name(p->verdict));
    json_add_text(json, "reason", p->reason);
    json_add_number(json, "exit_status", (uint64_t)verdict_status(p->verdict, false));
    json_object_object_add(json, "evidence",
                           p->has_evidence ? report_json_evidence(&p->evidence) : NULL);
    json_add_text(json, "target", p->target);
    json_add_text(json, "executable", p->executable[0] != '\0' ? p->executable : NULL);
    json_add_text(json, "build_id", p->build_id[0] != '\0' ? p->build_id : NULL);
    if (p->has_evidence) /* the remaining values are unknown */
        return json;
    json_add_text(json, "device", p->device_name);
    if (p->pid != 0)
        json_add_number(json, "pid", (uint64_t)p->pid);
    json_add_number(json, "queues", p->n_queues);
    json_add_number(json, "memory_slots", p->n_slots);
    json_object_object_add(json, "features", report_json_features(p->features, p->device, false));
    json_object_object_add(json, "protocol_features",
                           report_json_features(p->protocol_features, NULL, true));
    json_object_object_add(json, "config", p->has_config ? json_config(p) : NULL);

    features_missing(p->device, p->features, p->protocol_features, missing, sizeof(missing));
    json_add_bool(json, "can_migrate", missing[0] == '\0');
    json_add_text(json, "missing_for_migration", missing);
    json_add_bool(json, "can_save_state", p->protocol_features & FEATURES_BIT(DEVICE_STATE));
    json_add_bool(json, "needs_state", features_needs_state(p->device));
    json_add_bool(json, "can_postcopy",
                  missing[0] == '\0' && p->protocol_features & FEATURES_BIT(PAGEFAULT));
    return json;
}
