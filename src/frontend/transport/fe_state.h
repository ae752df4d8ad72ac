/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What is saved of a driver or a load, as bytes: numbers in little endian, one after the other. Who
 * reads does so to the end and asks once whether all of it was there; until then there are zeros.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gw_state_writer {
    uint8_t *data; /* of malloc */
    size_t len, room;
    bool failed; /* no memory */
};

struct gw_state_reader {
    const uint8_t *data;
    size_t left;
    bool failed; /* there was less than was asked for */
};

/* The `n_bytes` low bytes of a number, 1 to 8. */
void gw_state_put(struct gw_state_writer *w, uint64_t value, unsigned n_bytes);
uint64_t gw_state_get(struct gw_state_reader *r, unsigned n_bytes);
/* Hand the bytes over; the writer is empty then. Returns: 0; -ENOMEM, and nothing is left. */
int gw_state_take(struct gw_state_writer *w, void **ret, size_t *ret_len);
/* Was all of it there, and nothing more? */
bool gw_state_is_complete(const struct gw_state_reader *r);
