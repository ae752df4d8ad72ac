/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Memory plugged while the guest runs: put online as movable memory, so that the kernel prefers it
 * for buffers and can give it back, and put offline while buffers in it are in use.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define MAX_MEMORY_BLOCKS 4096u
#define OFFLINE_SECONDS   120

static int pagemap_fd = -1;
static uint64_t block_bytes; /* size of a memory block, the unit of plugging */
static bool is_known[MAX_MEMORY_BLOCKS];
static atomic_ulong plugged_begin, plugged_end; /* guest physical addresses */

static void memory_state_path(char *path, size_t size, unsigned block)
{
    snprintf(path, size, "/sys/devices/system/memory/memory%u/state", block);
}

static void on_alarm(int signal)
{
    (void)signal;
}

void memory_init(void)
{
    struct sigaction action = {.sa_handler = on_alarm};
    char path[96];

    sigaction(SIGALRM, &action, NULL);
    pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    block_bytes = read_number("/sys/devices/system/memory/block_size_bytes", 16);
    for (unsigned i = 0; i < MAX_MEMORY_BLOCKS; i++) {
        memory_state_path(path, sizeof(path), i);
        is_known[i] = access(path, F_OK) == 0;
    }
}

bool memory_is_plugged(const void *p)
{
    uint64_t entry = 0, begin = plugged_begin, end = plugged_end, gpa;

    if (begin == end)
        return false;
    if (pread(pagemap_fd, &entry, sizeof(entry),
              (off_t)((uintptr_t)p / GUEST_PAGE * sizeof(entry))) != sizeof(entry))
        return false;
    /* Bits 0 to 54 are the page's number: Documentation/admin-guide/mm/pagemap.rst */
    gpa = (entry & ((UINT64_C(1) << 55) - 1)) * GUEST_PAGE;
    return gpa >= begin && gpa < end;
}

/* Puts all new memory blocks online; returns their number. */
static unsigned online_new_blocks(void)
{
    uint64_t begin = UINT64_MAX, end = 0;
    char path[96], state[32];
    unsigned n = 0;

    for (unsigned i = 0; i < MAX_MEMORY_BLOCKS; i++) {
        memory_state_path(path, sizeof(path), i);
        if (is_known[i] || read_line(path, state, sizeof(state)) < 0)
            continue;
        /* Movable, so that it can be unplugged, and because the kernel prefers it for buffers. */
        if (strcmp(state, "offline") == 0 && write_word(path, "online_movable") < 0)
            continue;
        if (begin > i * block_bytes)
            begin = i * block_bytes;
        end = (i + 1) * block_bytes;
        n++;
    }
    if (n > 0) {
        plugged_begin = begin;
        plugged_end = end;
    }
    return n;
}

/*
 * Puts one memory block offline. The kernel has to move its pages, which fails while requests pin
 * them, and succeeds between two requests. A signal ends the attempts.
 */
static int offline_block(unsigned block)
{
    time_t limit = time(NULL) + OFFLINE_SECONDS;
    char path[96];
    int r;

    memory_state_path(path, sizeof(path), block);
    do {
        alarm(OFFLINE_SECONDS);
        r = write_word(path, "offline");
        alarm(0);
        if (r == 0)
            return 0;
        usleep(50000);
    } while (time(NULL) < limit);
    return r;
}

unsigned memory_online(uint64_t n_bytes)
{
    unsigned n = 0;

    if (block_bytes == 0)
        fail("this kernel has no memory hotplug");
    for (unsigned i = 0; i < 200 && n * block_bytes < n_bytes; i++) {
        n = online_new_blocks();
        usleep(50000);
    }
    if (n * block_bytes != n_bytes)
        fail("%u memory blocks of %" PRIu64 " bytes came online, not %" PRIu64 " bytes", n,
             block_bytes, n_bytes);
    return n;
}

int memory_offline(void)
{
    int n = 0;

    for (uint64_t a = plugged_begin; a < plugged_end; a += block_bytes, n++) {
        int r = offline_block((unsigned)(a / block_bytes));

        if (r < 0)
            return r;
    }
    plugged_end = plugged_begin;
    return n;
}

void memory_plugged_range(uint64_t *ret_begin, uint64_t *ret_end)
{
    *ret_begin = plugged_begin;
    *ret_end = plugged_end;
}
