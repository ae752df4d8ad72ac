/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The saved state of a driver or load: a sequence of little-endian numbers. A reader reads all
 * numbers and checks once at the end whether the data was complete; missing data reads as zero.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gw_state_writer {
    uint8_t *data; /* allocated with malloc */
    size_t len, room;
    bool failed; /* out of memory */
};

struct gw_state_reader {
    const uint8_t *data;
    size_t left;
    bool failed; /* the data was too short */
};

/* Write or read the low `n_bytes` bytes of a number, 1 to 8. */
void gw_state_put(struct gw_state_writer *w, uint64_t value, unsigned n_bytes);
uint64_t gw_state_get(struct gw_state_reader *r, unsigned n_bytes);
/* Move the bytes to the caller; the writer is empty afterwards. Returns: 0; -ENOMEM. */
int gw_state_take(struct gw_state_writer *w, void **ret, size_t *ret_len);
/* Whether the data was complete, without excess bytes. */
bool gw_state_is_complete(const struct gw_state_reader *r);
