/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What the front-end's files know of guest memory beyond frontend.h. */
#pragma once

#include <godwit/frontend.h>

/* The page size of its file, in which it is mapped. */
uint64_t gw_guest_region_page_size(const struct gw_guest_region *r);
