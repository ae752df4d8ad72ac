/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The GNU build-id of a program: identifies the build, whatever the name of its file. */
#pragma once

#include <stddef.h>

#define BUILD_ID_SIZE 65 /* of the text: up to 32 bytes in hexadecimal */

/*
 * Read NT_GNU_BUILD_ID of a 64-bit ELF file as hexadecimal text. The file may contain anything.
 * Returns: 0; -ENOEXEC: no such ELF file; -ENODATA: it has no build-id; the negative errno of open
 * or read. On failure `ret` is unchanged.
 */
int build_id_read(const char *path, char ret[BUILD_ID_SIZE]);
