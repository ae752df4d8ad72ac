/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See report_backend.h. */
#include "report_backend.h"

#include "json.h"

#include <inttypes.h>

#define N_BITS 64

static const char *name_of(unsigned bit, const struct features_device *device, bool is_protocol)
{
    return is_protocol ? features_protocol_name(bit) : features_name(device, bit);
}

struct json_object *report_json_features(uint64_t bits, const struct features_device *device,
                                         bool is_protocol)
{
    struct json_object *json = json_object_new_object(), *list = json_object_new_array();
    char value[20];

    snprintf(value, sizeof(value), "0x%" PRIx64, bits);
    json_add_text(json, "value", value);
    json_object_object_add(json, "bits", list);
    for (unsigned bit = 0; bit < N_BITS; bit++) {
        struct json_object *item;

        if (!(bits & FEATURES_BIT(bit)))
            continue;
        item = json_object_new_object();
        json_add_number(item, "bit", bit);
        json_add_text(item, "name", name_of(bit, device, is_protocol)); /* null if unknown */
        json_object_array_add(list, item);
    }
    return json;
}

static void add_known_text(struct json_object *json, const char *key, const char *text)
{
    json_add_text(json, key, text[0] != '\0' ? text : NULL);
}

struct json_object *report_json_backends(const struct backend_record *list, unsigned n,
                                         const struct features_device *device)
{
    struct json_object *backends = json_object_new_array();

    for (unsigned i = 0; i < n; i++) {
        struct json_object *json = json_object_new_object();

        json_add_text(json, "name", list[i].name);
        json_add_text(json, "target", list[i].text);
        add_known_text(json, "executable", list[i].executable);
        add_known_text(json, "build_id", list[i].build_id);
        json_object_object_add(json, "features",
                               report_json_features(list[i].features, device, false));
        json_object_object_add(json, "protocol_features",
                               report_json_features(list[i].protocol_features, NULL, true));
        json_object_array_add(backends, json);
    }
    return backends;
}

void report_feature_names(uint64_t bits, const struct features_device *device, bool is_protocol,
                          char *buf, size_t size)
{
    size_t used = 0;

    buf[0] = '\0';
    for (unsigned bit = 0; bit < N_BITS && used < size; bit++) {
        const char *name = name_of(bit, device, is_protocol), *blank = used != 0 ? " " : "";

        if (!(bits & FEATURES_BIT(bit)))
            continue;
        if (name != NULL)
            used += (size_t)snprintf(buf + used, size - used, "%s%s", blank, name);
        else
            used += (size_t)snprintf(buf + used, size - used, "%s%u", blank, bit);
    }
}

void report_print_backends(const struct backend_record *list, unsigned n,
                           const struct features_device *device, FILE *out)
{
    char virtio[512], protocol[512];

    for (unsigned i = 0; i < n; i++) {
        fprintf(out, "back-end    %s: %s", list[i].name, list[i].text);
        if (list[i].executable[0] != '\0')
            fprintf(out, " (%s%s%s)", list[i].executable,
                    list[i].build_id[0] != '\0' ? ", build-id " : "", list[i].build_id);
        fputc('\n', out);
        if (i > 0 && list[i].features == list[0].features &&
            list[i].protocol_features == list[0].protocol_features) {
            fprintf(out, "features    of %s: those of %s\n", list[i].name, list[0].name);
            continue;
        }
        report_feature_names(list[i].features, device, false, virtio, sizeof(virtio));
        report_feature_names(list[i].protocol_features, NULL, true, protocol, sizeof(protocol));
        fprintf(out, "features    of %s: %s; protocol: %s\n", list[i].name, virtio, protocol);
    }
}
