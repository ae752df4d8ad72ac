/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Human-readable numbers: three digits and a unit. Use as `format_time(ns).text` in printf. */
#pragma once

#include <stdint.h>

struct format {
    char text[24];
};

struct format format_time(uint64_t ns);            /* 3.21 ms */
struct format format_bytes(uint64_t bytes);        /* 64 MiB */
struct format format_count(uint64_t n);            /* 1,234,567 */
struct format format_rate(double per_second);      /* 45.2 k */
struct format format_byte_rate(double per_second); /* 1.2 GB/s */
