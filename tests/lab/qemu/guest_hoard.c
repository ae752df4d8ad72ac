/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Memory that only the device writes. Large reads go to random places of it, continuously and at a
 * low rate. No CPU touches it until the host asks for a check, so a page that a migration lost is
 * neither repaired nor marked as written by anything else.
 *
 * The first half is in huge pages. Reads begin and end at any block, so a page may be filled by two
 * reads.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../pattern.h"
#include "guest.h"

#define DEPTH          8u
#define REQUEST_BLOCKS 1024u
#define HUGE_PAGE      (2u << 20)
#define PAUSE_US                                                                    \
    8000u /* pause after each request, so that little is overwritten before a check \
           */
#define REQUEST_SECONDS 30

struct read_slot {
    struct iocb iocb;
    uint32_t to; /* block of the memory */
    uint32_t n;
    uint32_t from; /* block of the disk, relative to first_block */
    bool busy;
};

static struct {
    uint8_t *memory;
    uint32_t n;     /* blocks in memory */
    uint32_t *held; /* the disk block in each memory block */
    uint64_t first_block;
    uint32_t n_blocks;
    int fd;
    aio_context_t aio;
    uint64_t random;
    struct read_slot slots[DEPTH];
    pthread_t thread;
    atomic_bool stopping;
    unsigned long n_requests;
} hoard;

static uint32_t random_below(uint32_t limit)
{
    return (uint32_t)((pattern_random(&hoard.random) >> 32) % limit);
}

static bool is_free(uint32_t to, uint32_t n)
{
    for (unsigned i = 0; i < DEPTH; i++) {
        const struct read_slot *s = &hoard.slots[i];

        if (s->busy && to < s->to + s->n && s->to < to + n)
            return false;
    }
    return true;
}

static void start_read(struct read_slot *s, uint32_t to, uint32_t n)
{
    struct iocb *iocb = &s->iocb;

    s->to = to;
    s->n = n;
    s->from = random_below(hoard.n_blocks - n + 1);
    s->iocb = (struct iocb){
        .aio_data = (uintptr_t)s,
        .aio_lio_opcode = IOCB_CMD_PREAD,
        .aio_fildes = (uint32_t)hoard.fd,
        .aio_buf = (uintptr_t)hoard.memory + (size_t)to * PATTERN_BLOCK,
        .aio_nbytes = (uint64_t)n * PATTERN_BLOCK,
        .aio_offset = (int64_t)((hoard.first_block + s->from) * PATTERN_BLOCK),
    };
    s->busy = true;
    while (syscall(SYS_io_submit, hoard.aio, 1, &iocb) != 1)
        if (errno != EAGAIN && errno != EINTR)
            fail("io_submit of a read to keep: %s", strerror(errno));
}

static void start_random_read(struct read_slot *s)
{
    static const uint16_t sizes[] = {1, 7, 8, 33, 255, 256, 777, REQUEST_BLOCKS};
    uint32_t n = sizes[random_below(sizeof(sizes) / sizeof(sizes[0]))], to;

    do
        to = random_below(hoard.n - n + 1);
    while (!is_free(to, n));
    start_read(s, to, n);
}

static bool any_busy(void)
{
    for (unsigned i = 0; i < DEPTH; i++)
        if (hoard.slots[i].busy)
            return true;
    return false;
}

static void reap(void)
{
    struct timespec limit = {.tv_sec = REQUEST_SECONDS};
    struct io_event events[DEPTH];
    long n;

    do
        n = syscall(SYS_io_getevents, hoard.aio, 1, DEPTH, events, &limit);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        fail("no read to keep was answered in %d s", REQUEST_SECONDS);
    for (long i = 0; i < n; i++) {
        struct read_slot *s = (struct read_slot *)(uintptr_t)events[i].data;

        if (events[i].res != (int64_t)s->iocb.aio_nbytes)
            fail("read of %" PRIu32 " blocks to keep: %s", s->n,
                 events[i].res < 0 ? strerror((int)-events[i].res) : "short");
        for (uint32_t b = 0; b < s->n; b++)
            hoard.held[s->to + b] = s->from + b;
        s->busy = false;
        hoard.n_requests++;
    }
}

static void *run_hoard(void *arg)
{
    (void)arg;
    while (!atomic_load(&hoard.stopping)) {
        for (unsigned i = 0; i < DEPTH && !atomic_load(&hoard.stopping); i++) {
            if (hoard.slots[i].busy)
                continue;
            start_random_read(&hoard.slots[i]);
            usleep(PAUSE_US);
        }
        reap();
    }
    while (any_busy())
        reap();
    return NULL;
}

static void start_thread(void)
{
    atomic_store(&hoard.stopping, false);
    if (pthread_create(&hoard.thread, NULL, run_hoard, NULL) != 0)
        fail("no thread");
}

static void take_memory(uint64_t n_bytes)
{
    uint8_t *p =
        mmap(NULL, n_bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        fail("no memory to keep what is read: %s", strerror(errno));
    /* A kernel with less than 512 MiB only has huge pages if asked for. */
    write_word("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
    p += -(uintptr_t)p % HUGE_PAGE;
    hoard.memory = p;
    if (madvise(p, n_bytes / 2, MADV_HUGEPAGE) < 0 ||
        madvise(p + n_bytes / 2, n_bytes / 2, MADV_NOHUGEPAGE) < 0)
        fail("madvise: %s", strerror(errno));
    memset(p, 0xa5, n_bytes);
}

/* Fills all blocks of the memory from the disk. */
static void fill_memory(void)
{
    for (uint32_t to = 0; to < hoard.n; to += REQUEST_BLOCKS) {
        start_read(&hoard.slots[0], to, REQUEST_BLOCKS);
        while (any_busy())
            reap();
    }
}

void hoard_start(uint64_t seed, uint64_t first_block, uint64_t n_blocks, uint64_t n_bytes)
{
    if (n_bytes == 0 || n_bytes % (2 * HUGE_PAGE) != 0 || n_blocks < REQUEST_BLOCKS)
        fail("%" PRIu64 " bytes cannot be kept of %" PRIu64 " blocks", n_bytes, n_blocks);
    hoard.n = (uint32_t)(n_bytes / PATTERN_BLOCK);
    hoard.first_block = first_block;
    hoard.n_blocks = (uint32_t)n_blocks;
    hoard.random = seed ^ first_block;
    pattern_init(seed);
    hoard.held = calloc(hoard.n, sizeof(*hoard.held));
    hoard.fd = open(disk_node(), O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (hoard.held == NULL || hoard.fd < 0 || syscall(SYS_io_setup, DEPTH, &hoard.aio) < 0)
        fail("the hoard cannot be prepared: %s", strerror(errno));
    take_memory(n_bytes);
    fill_memory();
    start_thread();
}

unsigned hoard_huge_mib(void)
{
    FILE *f = fopen("/proc/self/smaps_rollup", "re");
    unsigned long kib = 0;
    char line[256];

    while (f != NULL && fgets(line, sizeof(line), f) != NULL)
        if (sscanf(line, "AnonHugePages: %lu", &kib) == 1)
            break;
    if (f != NULL)
        fclose(f);
    return (unsigned)(kib / 1024);
}

unsigned long hoard_inspect(unsigned long *ret_requests)
{
    unsigned long n_wrong = 0;
    char why[256], first[256] = "";

    atomic_store(&hoard.stopping, true);
    pthread_join(hoard.thread, NULL);
    for (uint32_t i = 0; i < hoard.n; i++) {
        const uint8_t *block = hoard.memory + (size_t)i * PATTERN_BLOCK;

        if (pattern_is_block(block, hoard.first_block + hoard.held[i], 0, why, sizeof(why)))
            continue;
        if (n_wrong++ == 0)
            memcpy(first, why, sizeof(first));
    }
    if (n_wrong > 0)
        fail("%lu of %u kept blocks are wrong; the first: %s", n_wrong, (unsigned)hoard.n, first);
    *ret_requests = hoard.n_requests;
    start_thread();
    return hoard.n;
}
