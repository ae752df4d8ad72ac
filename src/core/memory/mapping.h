/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A mapped piece of a file that the front-end shares with us: guest memory, a dirty log or an
 * inflight region. It may be any piece of any file, including huge pages; its contents do not
 * matter here.
 */
#pragma once

#include "sigbus.h"

#include <godwit/memory.h>
#include <stdbool.h>
#include <stdint.h>

struct gw_mapping {
    uint8_t *at; /* the first byte of the piece; NULL: nothing is mapped */
    gw_off_t offset;
    uint64_t file_size; /* when it was mapped; 0: not a regular file */
    struct gw_sigbus_range range;
};

/*
 * Map `size` bytes at `offset` of the file for reading and writing. Messages name the piece as
 * `what`; `flags` are those of mmap(2), in addition to MAP_SHARED. The caller still owns the fd.
 * Returns: 0; -EINVAL for an empty or overflowing piece, one beyond the end of its file, or a file
 * that another process may serve (see gw_peer_fd_check_memory); -ENODEV if `fd` is not a file; the
 * errno of fstat(2) and mmap(2); with gw_last_error.
 */
int gw_mapping_init(struct gw_mapping *m, const char *what, int fd, gw_off_t offset, uint64_t size,
                    int flags);

/*
 * The same, with the first byte of the piece at `address` if this is free, aligned as the file
 * requires, and harmless, because the front-end may choose it. Otherwise at any address.
 */
int gw_mapping_init_at(struct gw_mapping *m, const char *what, int fd, gw_off_t offset,
                       uint64_t size, int flags, uintptr_t address);

/* Unmap it. Idempotent; allowed if zeroed. */
void gw_mapping_done(struct gw_mapping *m);

/*
 * From now on, a lost page of the mapping reads as zeroes, and `loss` is notified. Without this
 * call, an access to it raises SIGBUS. `m` must stay in place until gw_mapping_done. No effect if
 * `loss` is NULL or nothing is mapped.
 */
void gw_mapping_guard(struct gw_mapping *m, struct gw_loss *loss);

/* Returns: 0; -EIO if a page was lost, and gw_last_error names `what` and the page. */
int gw_mapping_check(const struct gw_mapping *m, const char *what);
