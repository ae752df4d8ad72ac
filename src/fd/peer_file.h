/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#pragma once

#include <stdbool.h>

/* May `fd` be a regular file that another process serves? Makes no call into its file system. */
bool gw_peer_is_foreign_file(int fd);
