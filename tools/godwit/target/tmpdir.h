/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The private directory (mode 0700) of this process, for sockets and files without a name from the
 * user. It is created at the first use; tmpdir_remove removes it with its contents. Creating it
 * also removes directories that killed processes of this user have left next to it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * The path of `name` in the directory; free it. Context: any thread.
 * Returns: 0; -ENOMEM; the errno of mkdtemp or open.
 */
int tmpdir_path(char **ret, const char *name);

/*
 * The disk file at `path`, or a new one in the temporary directory if NULL; created sparse with
 * `size` bytes if missing. Returns its absolute path in `ret`; free it.
 * Returns: 0; the errno of open, ftruncate or realpath; -ENOMEM.
 */
int tmpdir_disk(char **ret, const char *path, uint64_t size);

/* Remove the directory. Context: any thread; no file may be created in it afterwards. */
void tmpdir_remove(void);
