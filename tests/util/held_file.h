/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A file whose server can stop answering: a FUSE file system with one file, served by a child
 * process of the test. After held_file_hold, every operation that needs the server sleeps: page
 * faults, fstat(2), poll(2), close(2), reads and writes. The file system is unmounted as soon as
 * the file is open.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct held_file;

/* Skip the test if this machine cannot mount FUSE file systems. Call it at the start of main. */
void requires_held_file(void);

/* A file of `size` zero bytes. Aborts the process with a message on failure. */
struct held_file *held_file_new(uint64_t size);

/* A new descriptor of the file; the caller closes it. */
int held_file_dup(const struct held_file *f);

/* Stop answering requests. */
void held_file_hold(struct held_file *f);

/* The number of calls that wait for an answer. */
unsigned held_file_n_waiting(const struct held_file *f);

/* Kill the server: the waiting calls and all later ones fail. */
void held_file_end_server(struct held_file *f);

/* End the server and free the file. */
void held_file_free(struct held_file *f);
