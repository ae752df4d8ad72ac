/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The checksum CRC-32C (Castagnoli), as in iSCSI (RFC 3720, 12.1). */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The checksum of bytes with checksum `crc` (0: none) followed by `len` bytes at `data`. */
uint32_t gw_crc32c(uint32_t crc, const void *data, size_t len);
