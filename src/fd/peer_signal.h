/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#pragma once

#include <stdbool.h>

/* Is `fd` an eventfd? Makes no call into its file. */
bool gw_peer_is_eventfd(int fd);
