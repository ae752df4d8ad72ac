/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Runs godwit-blk as a child process on its own file, with a guest connected to it. The functions
 * fail the test on error.
 */
#pragma once

#include "../fixtures/fixture.h"
#include "../fixtures/program.h"

#include "load/load.h"

/* Path of the godwit-blk program; main sets it. */
extern const char *blk_test_path;

struct blk_test {
    char dir[64];
    char socket[128];
    char file[128];
    int fd; /* open on `file` */
    struct program program;
    struct guest g;
};

/* Make a temporary directory and, unless `size` is 0, the file in it. */
void blk_test_begin(struct blk_test *t, uint64_t size);
void blk_test_end(struct blk_test *t);

/*
 * Enter a private mount namespace, once per process. Returns: whether that worked; if not, the
 * reason is on stderr.
 */
bool blk_test_has_mounts(void);

/*
 * Attach a loop device with sectors of `sector_size` bytes to the file `fd`; the kernel removes the
 * device with its last user. Returns: its descriptor, and its path in `path`; -1 if loop devices
 * are unavailable, with the reason on stderr.
 */
int blk_test_loop(int fd, unsigned sector_size, char *path, size_t path_size);

/* Two queues on the file. `extra`: one more option, or NULL. */
struct program_config blk_test_config(const struct blk_test *t, const char *extra);
/* A new guest with a running device. */
void blk_test_connect(struct blk_test *t);
/* Like blk_test_connect, with additional driver features. */
void blk_test_connect_with(struct blk_test *t, uint64_t features);
/* Do one 4 KiB request on queue 0. Returns: 0 or a negative errno, from the device's status. */
int blk_test_request(struct blk_test *t, uint32_t type, uint64_t offset, uint8_t pattern);
/* Start the program, then blk_test_connect. */
void blk_test_start(struct blk_test *t, const char *extra);
/* Stop the program; it must exit with status 0 and remove its socket. */
void blk_test_stop(struct blk_test *t);

/* Random, verified reads and writes on both queues, in the first 4 MiB of the file. */
struct blk_load {
    struct gw_guest_disk *disk;
    struct gw_guest_load *load;
    pthread_t thread; /* blk_load_start */
    int result;
};

void blk_load_init(struct blk_load *l, struct blk_test *t);
/* Compare the file with the completed writes. The load must have stopped. */
void blk_load_done(struct blk_load *l, const struct blk_test *t);

/* The same in a thread, from the start to the end. No request may fail. */
void blk_load_start(struct blk_load *l, struct blk_test *t);
void blk_load_end(struct blk_load *l, const struct blk_test *t);
