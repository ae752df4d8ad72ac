/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Pages of the domU that are granted to dom0, and windows onto them in any order. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct pages {
    int fd; /* of /dev/xen/gntalloc; -1: none are lent */
    uint64_t index;
    uint32_t n;
    uint32_t *refs;
};

/*
 * Grant `n` pages of zeros to dom0, for writing. Returns: 0; -EBUSY some are lent already; -ENOMEM;
 * -ENOSPC more than the driver's limit; the errno of gntalloc.
 */
int pages_lend(struct pages *p, uint32_t n);
/* Give all back. Windows stay. */
void pages_done(struct pages *p);
/* End the grants of some, whoever has mapped them. Returns: 0; -EINVAL; the errno of gntalloc. */
int pages_revoke(struct pages *p, uint64_t first, uint64_t n);
/* Map `n` of them one behind the other, in this order. Returns: 0; -EINVAL; the errno of mmap. */
int pages_window(const struct pages *p, const uint32_t *which, uint32_t n, void **ret);
