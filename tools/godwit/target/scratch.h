/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The one private directory (mode 0700) of this process, for sockets and files nobody named. It is
 * made at the first use and removed by scratch_remove, with all that is in it. Directories that
 * killed processes of this user have left beside it are removed then, too.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * The path of `name` in the directory; free it. Context: any thread.
 * Returns: 0; -ENOMEM; the errno of mkdtemp or open.
 */
int scratch_path(char **ret, const char *name);

/*
 * The file at `path`, or with NULL one in the scratch directory, for a disk: where there is none, a
 * sparse one of `size` bytes is made. The absolute path is returned; free it.
 * Returns: 0; the errno of open, ftruncate or realpath; -ENOMEM.
 */
int scratch_disk(char **ret, const char *path, uint64_t size);

/* Remove the directory. Context: any thread; nothing must be made there any more. */
void scratch_remove(void);
