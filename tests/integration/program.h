/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A back-end program as a child process, with what it says kept. Functions fail the test. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROGRAM_ARGS_MAX 16

struct program_config {
    const char *path;
    const char *args[PROGRAM_ARGS_MAX]; /* up to a NULL */
    uint64_t file_size_limit;           /* RLIMIT_FSIZE, 0: none */
    int fallocate_error; /* what a system call filter answers it with; 0: no filter */
    int fd;              /* becomes descriptor 3 of the child; 0: none */
    bool is_socket;      /* of socket activation (LISTEN_FDS) */
};

struct program {
    pid_t pid;
    int said_fd;
};

void program_start(struct program *p, const struct program_config *cfg);
/* Wait for its end. Returns: its exit status, or minus the signal that killed it. */
int program_wait(struct program *p, unsigned timeout_ms);
/* Tell it to end, wait, and release what is known of it. Returns: as program_wait. */
int program_end(struct program *p, int sig);
/* Has it said this by now, or within a few seconds? */
bool program_says(struct program *p, const char *text);
