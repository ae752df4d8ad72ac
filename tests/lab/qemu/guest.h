/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
 *
 * What the parts of the laboratory's guest program share: guest.c takes the commands, guest_io.c
 * keeps the disk busy, guest_hoard.c keeps what it reads, guest_memory.c looks after plugged
 * memory, guest_window.c moves a device's memory, guest_util.c does the rest.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_CPUS_MAX 8u
#define GUEST_PAGE     4096u

/* guest_util.c */

/* How many CPUs there are, each of which has a queue of the disk. */
unsigned count_cpus(void);

/* One line to the host. */
void answer(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The line "fail ..." to the host, and the end. */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

int read_line(const char *path, char *line, size_t size);
uint64_t read_number(const char *path, int base); /* 0 if there is none */
int write_word(const char *path, const char *word);
unsigned count_entries(const char *path);
uint32_t crc32_of(const void *data, size_t n);

/* Keeps every CPU busy with changes between user and kernel when it has nothing else to do. */
void spin_start(void);

/* guest_memory.c */

/* Notes which memory is there from the beginning. */
void memory_init(void);

/* Puts @n_bytes of new memory online, waiting for it; returns the number of memory blocks. */
unsigned memory_online(uint64_t n_bytes);

/* Puts the plugged memory offline; returns the number of memory blocks or negative errno. */
int memory_offline(void);

bool memory_is_plugged(const void *p);
void memory_plugged_range(uint64_t *ret_begin, uint64_t *ret_end);

/* guest_io.c */

struct io_counters {
    unsigned long cpus[GUEST_CPUS_MAX]; /* requests */
    unsigned long reads, writes, blocks, flushes, zeroed, discarded, plugged;
};

void io_start(uint64_t seed, uint64_t n_blocks, bool is_read_only, bool has_discard,
              bool has_zeroes);
void io_count(struct io_counters *ret);
unsigned long io_count_requests(void);

/* Makes the workers take new buffers, soon. */
void io_renew_buffers(void);

/* Ends the I/O, verifies every block and stores the table of generations; returns its checksum. */
uint32_t io_stop(void);

/* guest_hoard.c */

/* Begins to fill @n_bytes of memory from @n_blocks blocks of the disk, again and again; returns
 * when all of it was filled once.
 */
void hoard_start(uint64_t seed, uint64_t first_block, uint64_t n_blocks, uint64_t n_bytes);
unsigned hoard_huge_mib(void);

/* Verifies every block that was kept, then goes on; returns their number. */
unsigned long hoard_inspect(unsigned long *ret_requests);

/* guest_window.c */

/* Whether the memory of the device for this purpose can be reached. */
void window_set(bool is_open);
