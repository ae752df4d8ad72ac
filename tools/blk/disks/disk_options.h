/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The settings of one disk: its socket, its queues and its store. */
#pragma once

#include "backend.h"
#include "store.h"

enum {
    DISK_NAME_MAX = 64, /* bytes */
};

/* The strings of a disk that comes from a list point into `text`. */
struct disk_options {
    _Atomic unsigned n_owners;    /* in addition to the first */
    char *text;                   /* NULL: the only disk, from the command line */
    char *place;                  /* of the list, for messages: "FILE:LINE"; or NULL */
    char name[DISK_NAME_MAX + 1]; /* "": the only disk */
    struct backend_device device;
    struct store_file_options file;
    uint64_t ram; /* bytes; 0: a file */
    const char *serial;
    unsigned delay_ms; /* 0: none */
    bool ignores_discard;
    bool iommu;
};

/* Of the command line; see backend_device_settings for the others. */
enum {
    OPTION_BLK_FILE = 'b',
    OPTION_READ_ONLY = 'r',
    OPTION_RAM = 0x2000,
    OPTION_SERIAL,
    OPTION_BLOCK_SIZE,
    OPTION_DIRECT,
    OPTION_LOCKING,
    OPTION_DELAY,
    OPTION_DISCARD,
    OPTION_IOMMU,
    OPTION_DISK,
    OPTION_CONFIG,
};

/* Their structure is a struct disk_options. */
extern const struct setting disk_settings[];

void disk_options_init(struct disk_options *o);
/* Whether the settings fit together. `dashes`: see backend_device_check. */
bool disk_options_check(const struct disk_options *o, const char *dashes, struct value_error *why);

/*
 * A disk from a list such as "socket=/run/a.sock,file=a.img". Returns: 0, and the caller frees it;
 * -EINVAL, with a sentence in `why`; -ENOMEM.
 */
int disk_options_new(struct disk_options **ret, const char *list, const char *place,
                     struct value_error *why);
/* Add an owner. Returns: `o`. */
struct disk_options *disk_options_share(struct disk_options *o);
/* Remove an owner; the last one frees the options. `o` may be NULL. */
void disk_options_free(struct disk_options *o);

/* Whether two disks are the same, apart from where they are listed. */
bool disk_options_equal(const struct disk_options *a, const struct disk_options *b);
/* Whether two disks with the same file must not be used at the same time. */
bool disk_options_exclude(const struct disk_options *a, const struct disk_options *b);
