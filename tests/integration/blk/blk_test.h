/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * godwit-blk as a program on a file of its own, and a guest in front of it. Functions fail the
 * test.
 */
#pragma once

#include "../fixtures/bed.h"
#include "../fixtures/program.h"

#include "load/load.h"

/* Of the program; main sets it. */
extern const char *blk_test_path;

struct blk_test {
    char dir[64];
    char socket[128];
    char file[128];
    int fd; /* of the file */
    struct program program;
    struct guest g;
};

/* A folder, and in it, but for size 0, the file. */
void blk_test_begin(struct blk_test *t, uint64_t size);
void blk_test_end(struct blk_test *t);

/* A mount namespace of our own, once. Returns: whether; if not, stderr has the reason. */
bool blk_test_has_mounts(void);

/*
 * A loop device with sectors of `sector_size` bytes on the file `fd`; it vanishes with its last
 * user. Returns: its descriptor, and its path; -1 where there are none, and stderr has the reason.
 */
int blk_test_loop(int fd, unsigned sector_size, char *path, size_t path_size);

/* Two queues on the file; `extra` is one more option, or NULL. */
struct program_config blk_test_config(const struct blk_test *t, const char *extra);
/* A new guest with a running device. */
void blk_test_connect(struct blk_test *t);
/* The same with these features of the driver in addition. */
void blk_test_connect_with(struct blk_test *t, uint64_t features);
/* One request of 4 KiB on queue 0. Returns: 0 or a negative errno, as the device answered. */
int blk_test_request(struct blk_test *t, uint32_t type, uint64_t offset, uint8_t pattern);
/* The program, and that. */
void blk_test_start(struct blk_test *t, const char *extra);
/* Ends in good order: status 0, and the socket is gone. */
void blk_test_stop(struct blk_test *t);

/* Random reads and writes on both queues, in the first 4 MiB of the file, all checked. */
struct blk_load {
    struct gw_guest_disk *disk;
    struct gw_guest_load *load;
};

void blk_load_init(struct blk_load *l, struct blk_test *t);
/* Compare the file with what was answered. The load does not run any more. */
void blk_load_done(struct blk_load *l, const struct blk_test *t);
