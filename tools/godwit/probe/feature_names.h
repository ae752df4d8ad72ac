/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The names of feature bits and config space fields for each device type. Tables only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FEATURES_BIT(n) (UINT64_C(1) << (n))

struct features_device;

/* A field of the config space. */
struct features_field {
    const char *name;
    uint16_t offset;
    uint8_t size; /* 1, 2, 4 or 8: a little-endian number; otherwise bytes */
    int8_t bit;   /* feature bit that makes the field valid; -1: always valid */
    bool is_text;
};

/* The device of that name ("blk", "net", ... or "generic"); NULL if unknown. */
const struct features_device *features_device(const char *name);
/* All device names, separated by ", ". */
const char *features_device_names(void);
/* The fields, ending with a NULL name; NULL if the config space is unknown. */
const struct features_field *features_fields(const struct features_device *device);

/* The name of a virtio feature bit of a device; NULL if unknown. */
const char *features_name(const struct features_device *device, unsigned bit);
const char *features_protocol_name(unsigned bit);

/*
 * The missing bits that a migration of the device with a dirty log needs, as a text such as
 * "LOG_ALL (virtio bit 26) and LOG_SHMFD (protocol bit 1)"; "" if none is missing. Truncated to
 * `size`. `device` may be NULL.
 */
void features_missing(const struct features_device *device, uint64_t features,
                      uint64_t protocol_features, char *buf, size_t size);
/*
 * Does the back-end of such a device know what no driver repeats, so that front-ends migrate it
 * only with DEVICE_STATE? For example, virtiofs: open files. NULL: no.
 */
bool features_needs_state(const struct features_device *device);
/* The bits of `mask` as a text of the same form. */
void features_text(const struct features_device *device, uint64_t mask, char *buf, size_t size);
