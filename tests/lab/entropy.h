/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The bytes of an entropy device in the laboratory: records that a guest can verify. */
#pragma once

#include <stdint.h>

struct entropy {
    uint32_t seed;   /* of the device */
    uint32_t number; /* counts records */
    uint64_t check;
};

static inline uint64_t entropy_check(const struct entropy *e)
{
    uint64_t x = ((uint64_t)e->seed << 32 | e->number) + UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}
