/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Verified I/O on the disk from one thread per CPU, each with several requests in flight.
 *
 * The threads own the segments of 1 MiB in turn, so each block has one writer, and its generation
 * is the number of its last write. The table of generations is stored after the blocks. With it and
 * the seed, the host knows the contents of every block.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../pattern.h"
#include "guest.h"

#define DEPTH           8u
#define SEGMENT_BLOCKS  2048u /* 1 MiB, the largest request */
#define BUFFER_BYTES    (SEGMENT_BLOCKS * PATTERN_BLOCK + GUEST_PAGE)
#define REQUEST_SECONDS 30

struct slot {
    struct iocb iocb;
    uint8_t *buffer;
    uint64_t first;
    uint32_t n_blocks;
    bool busy;
};

struct worker {
    pthread_t thread;
    unsigned index;
    uint64_t random;
    uint32_t generation;
    aio_context_t aio;
    struct slot slots[DEPTH];
    unsigned buffers_epoch;
    atomic_ulong n_reads, n_writes, n_blocks, n_flushes, n_zeroed, n_discarded, n_plugged;
};

static struct worker workers[GUEST_CPUS_MAX];
static unsigned n_workers;
static uint32_t *generations; /* of each block; used by its worker only */
static uint64_t n_blocks;
static int disk_fd = -1;
static bool is_read_only, has_discard, has_zeroes;

static atomic_bool stopping;
static atomic_uint buffers_epoch; /* raised to make the workers replace their buffers */

static void take_new_buffer(struct slot *s)
{
    if (s->buffer != NULL)
        munmap(s->buffer, BUFFER_BYTES);
    s->buffer = mmap(NULL, BUFFER_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (s->buffer == MAP_FAILED)
        fail("no memory for a buffer: %s", strerror(errno));
}

/* --- requests --------------------------------------------------------------------------------- */

static uint32_t random_below(struct worker *w, uint32_t limit)
{
    return (uint32_t)((pattern_random(&w->random) >> 32) % limit);
}

/* Chooses a segment of this worker that no request in flight uses. */
static uint64_t idle_segment(struct worker *w)
{
    uint32_t n_segments = (uint32_t)(n_blocks / SEGMENT_BLOCKS / n_workers);

    for (;;) {
        uint64_t segment = (uint64_t)random_below(w, n_segments) * n_workers + w->index;
        bool is_idle = true;

        for (unsigned i = 0; i < DEPTH; i++)
            if (w->slots[i].busy && w->slots[i].first / SEGMENT_BLOCKS == segment)
                is_idle = false;
        if (is_idle)
            return segment;
    }
}

static void choose_blocks(struct worker *w, struct slot *s)
{
    static const uint16_t sizes[] = {1, 1, 3, 7, 8, 8, 8, 16, 33, 128, 256, 1000, 2048};

    s->n_blocks = sizes[random_below(w, sizeof(sizes) / sizeof(sizes[0]))];
    s->first = idle_segment(w) * SEGMENT_BLOCKS + random_below(w, SEGMENT_BLOCKS - s->n_blocks + 1);
}

static void verify(const struct slot *s, const uint8_t *data)
{
    char why[256];

    for (uint32_t i = 0; i < s->n_blocks; i++)
        if (!pattern_is_block(data + i * PATTERN_BLOCK, s->first + i, generations[s->first + i],
                              why, sizeof(why)))
            fail("%s (read of %" PRIu32 " blocks from %" PRIu64 ")", why, s->n_blocks, s->first);
}

static void prepare_request(struct worker *w, struct slot *s, bool is_write)
{
    /* Any multiple of a block is allowed, also one that is not aligned to a page. */
    uint8_t *data = s->buffer + random_below(w, GUEST_PAGE / PATTERN_BLOCK) * PATTERN_BLOCK;
    size_t n_bytes = s->n_blocks * PATTERN_BLOCK;

    if (is_write) {
        w->generation++;
        for (uint32_t i = 0; i < s->n_blocks; i++) {
            generations[s->first + i] = w->generation;
            pattern_block(data + i * PATTERN_BLOCK, s->first + i, w->generation);
        }
    } else {
        memset(data, 0xa5, n_bytes);
    }
    s->iocb = (struct iocb){
        .aio_data = (uintptr_t)s,
        .aio_lio_opcode = is_write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
        .aio_fildes = (uint32_t)disk_fd,
        .aio_buf = (uintptr_t)data,
        .aio_nbytes = n_bytes,
        .aio_offset = (int64_t)(s->first * PATTERN_BLOCK),
    };
    s->busy = true;
    if (memory_is_plugged(data))
        w->n_plugged++;
}

static void submit(struct worker *w, struct iocb **iocbs, long n)
{
    long r;

    for (long done = 0; done < n; done += r) {
        r = syscall(SYS_io_submit, w->aio, n - done, iocbs + done);
        if (r < 0 && errno != EAGAIN && errno != EINTR)
            fail("io_submit: %s", strerror(errno));
        if (r < 0)
            r = 0;
    }
}

static void finish_request(struct worker *w, struct slot *s, int64_t result)
{
    bool is_write = s->iocb.aio_lio_opcode == IOCB_CMD_PWRITE;

    if (result != (int64_t)s->iocb.aio_nbytes)
        fail("%s of %" PRIu32 " blocks from %" PRIu64 ": %s", is_write ? "write" : "read",
             s->n_blocks, s->first, result < 0 ? strerror((int)-result) : "short");
    if (!is_write)
        verify(s, (const uint8_t *)(uintptr_t)s->iocb.aio_buf);
    s->busy = false;
    w->n_blocks += s->n_blocks;
    if (is_write)
        w->n_writes++;
    else
        w->n_reads++;
}

/* Waits for at least one request, if any is in flight. */
static void reap(struct worker *w)
{
    struct timespec limit = {.tv_sec = REQUEST_SECONDS};
    struct io_event events[DEPTH];
    bool any = false;
    long n;

    for (unsigned i = 0; i < DEPTH; i++)
        any = any || w->slots[i].busy;
    if (!any)
        return;
    do
        n = syscall(SYS_io_getevents, w->aio, 1, DEPTH, events, &limit);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        fail("no request of CPU %u was answered in %d s", w->index, REQUEST_SECONDS);
    for (long i = 0; i < n; i++)
        finish_request(w, (struct slot *)(uintptr_t)events[i].data, events[i].res);
}

static void read_blocks(struct slot *s, uint8_t *data)
{
    ssize_t n =
        pread(disk_fd, data, s->n_blocks * PATTERN_BLOCK, (off_t)(s->first * PATTERN_BLOCK));

    if (n != (ssize_t)(s->n_blocks * PATTERN_BLOCK))
        fail("read of %" PRIu32 " blocks from %" PRIu64 ": %s", s->n_blocks, s->first,
             n < 0 ? strerror(errno) : "short");
}

static void zero_blocks(struct worker *w, struct slot *s)
{
    uint64_t range[2];

    choose_blocks(w, s);
    range[0] = s->first * PATTERN_BLOCK;
    range[1] = s->n_blocks * PATTERN_BLOCK;
    if (ioctl(disk_fd, BLKZEROOUT, range) < 0)
        fail("BLKZEROOUT: %s", strerror(errno));
    for (uint32_t i = 0; i < s->n_blocks; i++)
        generations[s->first + i] = PATTERN_ZEROED;
    read_blocks(s, s->buffer);
    verify(s, s->buffer);
    w->n_zeroed++;
}

/* A discarded block must read as zeroes or keep its content. */
static void discard_blocks(struct worker *w, struct slot *s)
{
    static const uint8_t zeroes[PATTERN_BLOCK];
    uint64_t range[2];

    choose_blocks(w, s);
    range[0] = s->first * PATTERN_BLOCK;
    range[1] = s->n_blocks * PATTERN_BLOCK;
    if (ioctl(disk_fd, BLKDISCARD, range) < 0)
        fail("BLKDISCARD: %s", strerror(errno));
    read_blocks(s, s->buffer);
    for (uint32_t i = 0; i < s->n_blocks; i++)
        if (memcmp(s->buffer + i * PATTERN_BLOCK, zeroes, PATTERN_BLOCK) == 0)
            generations[s->first + i] = PATTERN_ZEROED;
    verify(s, s->buffer);
    w->n_discarded++;
}

/* Rarer requests, while other requests of this worker are in flight. */
static void do_something_rare(struct worker *w, struct slot *idle)
{
    switch (random_below(w, 64)) {
    case 0:
        if (fsync(disk_fd) < 0)
            fail("fsync: %s", strerror(errno));
        w->n_flushes++;
        break;
    case 1:
        if (has_zeroes)
            zero_blocks(w, idle);
        break;
    case 2:
        if (has_discard)
            discard_blocks(w, idle);
        break;
    }
}

/* --- a worker --------------------------------------------------------------------------------- */

static void start_requests(struct worker *w)
{
    struct iocb *iocbs[DEPTH];
    long n = 0;

    for (unsigned i = 0; i < DEPTH; i++) {
        struct slot *s = &w->slots[i];

        if (s->busy)
            continue;
        choose_blocks(w, s);
        prepare_request(w, s, !is_read_only && random_below(w, 2) == 0);
        iocbs[n++] = &s->iocb;
    }
    submit(w, iocbs, n);
}

/* Waits for all requests, then gives every slot a new buffer. */
static void renew_buffers(struct worker *w)
{
    unsigned epoch = atomic_load(&buffers_epoch);

    for (unsigned i = 0; i < DEPTH; i++) {
        while (w->slots[i].busy)
            reap(w);
        take_new_buffer(&w->slots[i]);
    }
    w->buffers_epoch = epoch;
}

static void verify_own_segments(struct worker *w)
{
    struct slot *s = &w->slots[0];

    for (uint64_t first = w->index * SEGMENT_BLOCKS; first < n_blocks;
         first += n_workers * SEGMENT_BLOCKS) {
        s->first = first;
        s->n_blocks = SEGMENT_BLOCKS;
        read_blocks(s, s->buffer);
        verify(s, s->buffer);
    }
}

static void *run_worker(void *arg)
{
    struct worker *w = arg;
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET(w->index, &cpus);
    if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0)
        fail("cannot run on CPU %u: %s", w->index, strerror(errno));
    if (syscall(SYS_io_setup, DEPTH, &w->aio) < 0)
        fail("io_setup: %s", strerror(errno));
    renew_buffers(w);

    while (!atomic_load(&stopping)) {
        if (w->buffers_epoch != atomic_load(&buffers_epoch))
            renew_buffers(w);
        start_requests(w);
        reap(w);
        for (unsigned i = 0; i < DEPTH && !is_read_only; i++)
            if (!w->slots[i].busy) {
                do_something_rare(w, &w->slots[i]);
                break;
            }
    }
    for (unsigned i = 0; i < DEPTH; i++)
        while (w->slots[i].busy)
            reap(w);
    verify_own_segments(w);
    return NULL;
}

/* --- called by the commands ------------------------------------------------------------------- */

void io_start(uint64_t seed, uint64_t blocks, bool read_only, bool discard, bool zeroes)
{
    n_workers = count_cpus();
    if (blocks == 0 || blocks % (SEGMENT_BLOCKS * n_workers) != 0)
        fail("%" PRIu64 " blocks cannot be shared by %u workers", blocks, n_workers);
    n_blocks = blocks;
    is_read_only = read_only;
    has_discard = discard;
    has_zeroes = zeroes;
    disk_fd = open(disk_node(), (is_read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
    if (disk_fd < 0)
        fail("%s: %s", disk_node(), strerror(errno));
    generations = mmap(NULL, n_blocks * sizeof(*generations), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (generations == MAP_FAILED)
        fail("no memory for the generations");
    pattern_init(seed);
    for (unsigned i = 0; i < n_workers; i++) {
        workers[i].index = i;
        workers[i].random = seed + i;
        if (pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]) != 0)
            fail("no thread");
    }
}

void io_count(struct io_counters *ret)
{
    *ret = (struct io_counters){0};
    for (unsigned i = 0; i < n_workers; i++) {
        struct worker *w = &workers[i];

        ret->cpus[i] = w->n_reads + w->n_writes;
        ret->reads += w->n_reads;
        ret->writes += w->n_writes;
        ret->blocks += w->n_blocks;
        ret->flushes += w->n_flushes;
        ret->zeroed += w->n_zeroed;
        ret->discarded += w->n_discarded;
        ret->plugged += w->n_plugged;
    }
}

unsigned long io_count_requests(void)
{
    struct io_counters counters;

    io_count(&counters);
    return counters.reads + counters.writes;
}

void io_renew_buffers(void)
{
    atomic_fetch_add(&buffers_epoch, 1);
}

/* Stores the table of generations after the blocks, in the guest's byte order (little-endian). */
static void store_generations(void)
{
    size_t n = n_blocks * sizeof(*generations);

    if (pwrite(disk_fd, generations, n, (off_t)(n_blocks * PATTERN_BLOCK)) != (ssize_t)n)
        fail("writing the table of generations: %s", strerror(errno));
    if (fsync(disk_fd) < 0)
        fail("fsync: %s", strerror(errno));
}

uint32_t io_stop(void)
{
    atomic_store(&stopping, true);
    for (unsigned i = 0; i < n_workers; i++)
        pthread_join(workers[i].thread, NULL);
    if (!is_read_only)
        store_generations();
    return crc32_of(generations, n_blocks * sizeof(*generations));
}
