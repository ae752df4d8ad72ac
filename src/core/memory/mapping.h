/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A piece of a file that the front-end shares with us, mapped: guest memory, a dirty log, an
 * inflight region. Any piece of any file, huge pages too; knows nothing of what is in it.
 */
#pragma once

#include "sigbus.h"

#include <godwit/memory.h>
#include <stdbool.h>
#include <stdint.h>

struct gw_mapping {
    uint8_t *at; /* the first byte of the piece; NULL: nothing is mapped */
    gw_off_t offset;
    uint64_t file_size; /* when it was mapped; 0: it is no regular file */
    struct gw_sigbus_range range;
};

/*
 * Map `size` bytes at `offset` of the file for reading and writing. `what` is what messages call
 * it; `flags` are of mmap(2), besides MAP_SHARED. The fd stays the caller's.
 * Returns: 0; -EINVAL for an empty or overflowing piece, one that its file does not have, or a file
 * that another process may serve (see gw_peer_fd_check_memory); -ENODEV for no file; the errno of
 * fstat(2) and mmap(2); with gw_last_error.
 */
int gw_mapping_init(struct gw_mapping *m, const char *what, int fd, gw_off_t offset, uint64_t size,
                    int flags);

/*
 * The same, with the first byte of the piece at `address` where that is free, aligned as the file
 * needs it, and harmless to have: the front-end may choose it. Else anywhere.
 */
int gw_mapping_init_at(struct gw_mapping *m, const char *what, int fd, gw_off_t offset,
                       uint64_t size, int flags, uintptr_t address);

/* Unmap it. Fine twice, and on zeroes. */
void gw_mapping_done(struct gw_mapping *m);

/*
 * From now on a page of it that is gone reads as zeroes, and `loss` is told; without, it is SIGBUS
 * as ever. `m` stays in place until it is done. With NULL, or nothing mapped, nothing happens.
 */
void gw_mapping_guard(struct gw_mapping *m, struct gw_loss *loss);

/* Returns: 0; -EIO when a page of it was gone, and gw_last_error tells of `what` and which. */
int gw_mapping_check(const struct gw_mapping *m, const char *what);
