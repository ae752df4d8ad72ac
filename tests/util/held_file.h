/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A file that its server holds back: a FUSE file system of one file, served by a process of the
 * test. It answers until it is told to hold; then every system call that asks the server sleeps: a
 * page fault, fstat(2), poll(2), close(2), reads and writes. Its mount is gone as soon as the file
 * is open.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct held_file;

/* Can this machine do it? To be asked at the start of main; skips the test otherwise. */
void requires_held_file(void);

/* A file of zeroes, `size` bytes long. Fails the process with a message. */
struct held_file *held_file_new(uint64_t size);

/* A new descriptor of it, for the caller to close. */
int held_file_dup(const struct held_file *f);

/* From now on nothing is answered. */
void held_file_hold(struct held_file *f);

/* How many calls of others wait for an answer now. */
unsigned held_file_n_waiting(const struct held_file *f);

/* From now on, and for the calls that wait, everything fails. */
void held_file_end_server(struct held_file *f);

/* The same, and free it. */
void held_file_free(struct held_file *f);
