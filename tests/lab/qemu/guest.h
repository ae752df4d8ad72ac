/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Shared by the parts of the laboratory's guest program: guest.c handles commands, guest_io.c runs
 * the I/O, guest_hoard.c reads into memory and keeps it, guest_memory.c handles memory hotplug,
 * guest_window.c the memory of a device, guest_entropy.c entropy devices, guest_util.c the rest.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_CPUS_MAX 8u
#define GUEST_PAGE     4096u

/* guest_util.c */

/* The disk of this program, such as "vda". */
extern const char *disk_name;

/* Its device node; the path of a file in its folder of sysfs. Valid until the next call. */
const char *disk_node(void);
const char *disk_file(const char *name);

/* Number of CPUs; each has a queue of the disk. */
unsigned count_cpus(void);

/* Prints a line for the host. */
void answer(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints the line "fail ..." for the host, and ends the program. */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

int read_line(const char *path, char *line, size_t size);
uint64_t read_number(const char *path, int base); /* 0 if the file does not exist */
int write_word(const char *path, const char *word);
unsigned count_entries(const char *path);
uint32_t crc32_of(const void *data, size_t n);

/* Keeps every CPU busy with system calls while it has nothing else to do. */
void spin_start(void);

/* guest_memory.c */

/* Records which memory is present at the start. */
void memory_init(void);

/* Waits for @n_bytes of new memory and puts it online; returns the number of memory blocks. */
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

/* Lets the workers replace their buffers soon. */
void io_renew_buffers(void);

/* Stops the I/O, verifies every block and stores the table of generations; returns its checksum. */
uint32_t io_stop(void);

/* guest_hoard.c */

/*
 * Fills @n_bytes of memory from @n_blocks blocks of the disk, repeatedly; returns after the first
 * pass.
 */
void hoard_start(uint64_t seed, uint64_t first_block, uint64_t n_blocks, uint64_t n_bytes);
unsigned hoard_huge_mib(void);

/* Verifies every kept block, then continues to read; returns their number. */
unsigned long hoard_inspect(unsigned long *ret_requests);

/* guest_window.c */

/* Enables or disables the memory decoding of the ivshmem device. */
void window_set(bool is_open);

/* guest_entropy.c */

/*
 * Reads @n_records records (entropy.h) from one of the entropy devices, in the order of the kernel,
 * and verifies them; returns the seed of the device.
 */
uint32_t entropy_read(unsigned device, unsigned long n_records, uint32_t *ret_last);
