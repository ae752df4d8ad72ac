/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Regions that are files, with a fixed address. Every memory backend supports them. */
#pragma once

#include "mem_backend.h"

/* As gw_mem_backend_map and gw_mem_backend_unmap. */
int gw_mem_plain_map(struct gw_region *region, int fd);
void gw_mem_plain_unmap(struct gw_region *region);
