/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Pages of the domU that are granted to dom0, and mappings of any of them in any order. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct pages {
    int fd; /* of /dev/xen/gntalloc; -1: no pages are lent */
    uint64_t index;
    uint32_t n;
    uint32_t *refs;
};

/*
 * Grant `n` zeroed pages to dom0, writable. Returns: 0; -EBUSY pages are lent already; -ENOMEM;
 * -ENOSPC the driver's limit; the errno of gntalloc.
 */
int pages_lend(struct pages *p, uint32_t n);
/* End all grants. Windows stay mapped. */
void pages_done(struct pages *p);
/*
 * End the grants of some pages, also if they are mapped. Returns: 0; -EINVAL; the errno of
 * gntalloc.
 */
int pages_revoke(struct pages *p, uint64_t first, uint64_t n);
/* Map `n` pages consecutively, in this order. Returns: 0; -EINVAL; the errno of mmap. */
int pages_window(const struct pages *p, const uint32_t *which, uint32_t n, void **ret);
