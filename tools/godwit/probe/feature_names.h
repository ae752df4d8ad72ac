/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The names of feature bits and of fields of the config space, by type of device. Tables only. */
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
    uint8_t size; /* 1, 2, 4 or 8: a little-endian number; others are bytes */
    int8_t bit;   /* the feature with which it is valid; -1: always */
    bool is_text;
};

/* The device of that name ("blk", "net", ... or "generic"); NULL when it is not known. */
const struct features_device *features_device(const char *name);
/* The names of all, with ", " between them. */
const char *features_device_names(void);
/* Ends with a name of NULL; NULL when nothing is known of its config space. */
const struct features_field *features_fields(const struct features_device *device);

/* The name of a virtio feature bit of a device, NULL when it has none. */
const char *features_name(const struct features_device *device, unsigned bit);
const char *features_protocol_name(unsigned bit);

/*
 * The bits that a migration with a dirty log needs and that are not offered, as a text such as
 * "LOG_ALL (virtio bit 26) and LOG_SHMFD (protocol bit 1)"; "" when all are there. Cut to `size`.
 */
void features_missing(uint64_t features, uint64_t protocol_features, char *buf, size_t size);
/* The bits of `mask` in the same manner. */
void features_text(const struct features_device *device, uint64_t mask, char *buf, size_t size);
