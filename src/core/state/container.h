/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The bytes of a state, docs/device-state.md. All numbers are little-endian. */
#pragma once

#include <stdint.h>
#include <string.h>

#define GW_STATE_MAGIC   "\x89GWSTATE"
#define GW_STATE_VERSION 1u

enum {
    GW_STATE_MAGIC_LEN = 8,
    GW_STATE_HEADER_LEN = 36, /* magic, version, version of the device, name, checksum */
    GW_STATE_HEAD_LEN = 20,   /* of a section: id, flags, length, checksum */
    GW_STATE_CRC_LEN = 4,
    GW_STATE_END_LEN = 8, /* the data of the last section: the number of bytes before it */
    GW_STATE_END_ID = 0,
};

static inline void gw_put_le32(uint8_t *p, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(value >> 8 * i);
}

static inline void gw_put_le64(uint8_t *p, uint64_t value)
{
    gw_put_le32(p, (uint32_t)value);
    gw_put_le32(p + 4, (uint32_t)(value >> 32));
}

static inline uint32_t gw_get_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t gw_get_le64(const uint8_t *p)
{
    return gw_get_le32(p) | (uint64_t)gw_get_le32(p + 4) << 32;
}
