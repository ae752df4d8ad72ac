/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The list of the disks that a program shall serve: from --disk, and from the file of --config. */
#pragma once

#include "disk_options.h"

struct disk_list {
    struct disk_options **disks; /* the list owns them */
    unsigned n_disks;
};

/* A sentence that begins with the place of the mistake. */
struct disk_list_error {
    char text[512];
};

/*
 * Add one disk, in the syntax of settings_parse_list. `place` is where it is listed. Its name and
 * socket must differ from those of the others; so must its file, unless both disks may share it.
 * Returns: 0; -EINVAL, -ENOMEM, with a sentence.
 */
int disk_list_add(struct disk_list *list, const char *text, const char *place,
                  struct disk_list_error *error);

/*
 * Add the disks of a file: one on each line; empty lines, and lines that begin with "#", are
 * ignored. Returns: 0; a negative errno, with a sentence.
 */
int disk_list_read(struct disk_list *list, const char *path, struct disk_list_error *error);

/* Make `list`, which is empty, another owner of all disks of `from`. Returns: 0; -ENOMEM. */
int disk_list_share(struct disk_list *list, const struct disk_list *from);

/* Sort by name. disk_list_find: the index of a name in a sorted list; -1 if it is not there. */
void disk_list_sort(struct disk_list *list);
int disk_list_find(const struct disk_list *list, const char *name);

void disk_list_done(struct disk_list *list);
