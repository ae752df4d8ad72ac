/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Guest memory functions for other files of the front-end. */
#pragma once

#include <godwit/frontend/frontend.h>

/* The page size of the region's file, and the alignment of its mapping. */
uint64_t gw_guest_region_page_size(const struct gw_guest_region *r);
