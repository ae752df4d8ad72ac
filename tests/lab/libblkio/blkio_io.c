/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Verified random I/O on a vhost-user disk through libblkio, a front-end that shares no code with
 * QEMU or godwit. test_libblkio builds and runs it.
 *
 *     blkio_io SOCKET SEED BLOCKS MILLISECONDS TABLE
 *
 * Uses the first BLOCKS blocks of 512 bytes, for MILLISECONDS at each depth and block size, then
 * reads and verifies them all. Writes the generation of each block to the file TABLE.
 *
 * Requirements of libblkio 1.5, as observed on the wire: the protocol features REPLY_ACK, CONFIG
 * and CONFIGURE_MEM_SLOTS. It sets NEED_REPLY on every later message, even if that has a reply of
 * its own. It passes memory with ADD_MEM_REG only: first the ring, a memfd whose size is not a
 * multiple of a page, then each buffer region, with its own virtual addresses as guest addresses.
 * Kick and call are eventfds without EFD_NONBLOCK. It does not accept INDIRECT_DESC, so a ring of
 * 256 holds 85 requests, and at depth 128 the ring is always full.
 */
#define _GNU_SOURCE
#include <blkio.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include "../pattern.h"

#define MAX_DEPTH       128u
#define MAX_BYTES       65536u
#define TIMEOUT_SECONDS 20

enum operation {
    OP_READ,
    OP_WRITE,
    OP_ZERO,
    OP_FLUSH
};

struct request {
    enum operation operation;
    uint8_t *data;
    uint64_t unit;
    bool busy;
};

static struct blkio *disk;
static struct blkioq *queue;
static struct blkio_mem_region region;
static struct request requests[MAX_DEPTH];
static unsigned n_in_flight;
static uint64_t random_state;

static uint32_t *generations;
static uint32_t generation;
static uint64_t n_blocks;
static bool *unit_is_busy; /* a unit has the size of the current requests */
static size_t unit_bytes;
static uint64_t n_units;
static bool has_zeroes = true;
static uint64_t n_done[4];

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void fail(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fputs("blkio_io: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

static void check(int r, const char *what)
{
    if (r < 0)
        fail("%s: %s (%s)", what, blkio_get_error_msg(), strerror(-r));
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t random_below(uint64_t limit)
{
    return pattern_random(&random_state) % limit;
}

/* --- requests --------------------------------------------------------------------------------- */

static size_t blocks_per_unit(void)
{
    return unit_bytes / PATTERN_BLOCK;
}

static void fill(struct request *r)
{
    uint64_t first = r->unit * blocks_per_unit();

    generation++;
    for (size_t i = 0; i < blocks_per_unit(); i++) {
        generations[first + i] = generation;
        pattern_block(r->data + i * PATTERN_BLOCK, first + i, generation);
    }
}

static void verify(const struct request *r)
{
    uint64_t first = r->unit * blocks_per_unit();
    char why[256];

    for (size_t i = 0; i < blocks_per_unit(); i++)
        if (!pattern_is_block(r->data + i * PATTERN_BLOCK, first + i, generations[first + i], why,
                              sizeof(why)))
            fail("%s", why);
}

static void submit(struct request *r, enum operation operation, uint64_t unit)
{
    uint64_t start = unit * unit_bytes;

    r->operation = operation;
    r->unit = unit;
    r->busy = true;
    n_in_flight++;
    if (operation != OP_FLUSH)
        unit_is_busy[unit] = true;

    switch (operation) {
    case OP_READ:
        memset(r->data, 0xa5, unit_bytes);
        blkioq_read(queue, start, r->data, unit_bytes, r, 0);
        break;
    case OP_WRITE:
        fill(r);
        blkioq_write(queue, start, r->data, unit_bytes, r, 0);
        break;
    case OP_ZERO:
        blkioq_write_zeroes(queue, start, unit_bytes, r, 0);
        break;
    case OP_FLUSH:
        blkioq_flush(queue, r, 0);
        break;
    }
}

static void finish(const struct blkio_completion *completion)
{
    static const char *const names[] = {"read", "write", "write-zeroes", "flush"};
    struct request *r = completion->user_data;

    if (!r->busy)
        fail("a request was completed twice");
    r->busy = false;
    n_in_flight--;
    if (r->operation != OP_FLUSH)
        unit_is_busy[r->unit] = false;
    if (r->operation == OP_ZERO && completion->ret == -ENOTSUP) {
        has_zeroes = false;
        return;
    }
    if (completion->ret != 0)
        fail("%s of %zu bytes, number %" PRIu64 ": %s", names[r->operation], unit_bytes, r->unit,
             strerror(-completion->ret));
    n_done[r->operation]++;
    if (r->operation == OP_READ)
        verify(r);
    if (r->operation == OP_ZERO)
        for (size_t i = 0; i < blocks_per_unit(); i++)
            generations[r->unit * blocks_per_unit() + i] = PATTERN_ZEROED;
}

/* Submits what is pending and waits for at least one request, if any is in flight. */
static void reap(void)
{
    struct timespec limit = {.tv_sec = TIMEOUT_SECONDS};
    struct blkio_completion completions[MAX_DEPTH];
    int n;

    if (n_in_flight == 0)
        return;
    n = blkioq_do_io(queue, completions, 1, (int)MAX_DEPTH, &limit);
    if (n == -ETIME)
        fail("none of %u requests was answered in %d s", n_in_flight, TIMEOUT_SECONDS);
    check(n, "do_io");
    for (int i = 0; i < n; i++)
        finish(&completions[i]);
}

static struct request *idle_request(unsigned depth)
{
    for (unsigned i = 0; i < depth; i++)
        if (!requests[i].busy)
            return &requests[i];
    return NULL;
}

static void set_unit(size_t bytes)
{
    unit_bytes = bytes;
    n_units = n_blocks / blocks_per_unit();
}

/* --- phases ----------------------------------------------------------------------------------- */

static void submit_something(struct request *r)
{
    uint64_t unit = random_below(n_units), dice = random_below(200);

    while (unit_is_busy[unit])
        unit = random_below(n_units);
    if (dice == 0)
        submit(r, OP_FLUSH, 0);
    else if (dice < 4 && has_zeroes)
        submit(r, OP_ZERO, unit);
    else
        submit(r, dice % 2 == 0 ? OP_WRITE : OP_READ, unit);
}

static void run_random(unsigned depth, size_t bytes, double seconds)
{
    double begin = now(), end;
    uint64_t before, after;
    struct request *r;

    set_unit(bytes);
    before = n_done[OP_READ] + n_done[OP_WRITE];
    do {
        while ((r = idle_request(depth)) != NULL)
            submit_something(r);
        reap();
        end = now();
    } while (end - begin < seconds);
    after = n_done[OP_READ] + n_done[OP_WRITE];
    while (n_in_flight > 0)
        reap();
    printf("depth %3u  size %5zu  %9.0f IOPS\n", depth, bytes,
           (double)(after - before) / (end - begin));
    fflush(stdout);
}

/* One operation on every block, in order. */
static void run_all(enum operation operation)
{
    struct request *r;

    set_unit(MAX_BYTES);
    for (uint64_t unit = 0; unit < n_units; unit++) {
        while ((r = idle_request(32)) == NULL)
            reap();
        submit(r, operation, unit);
    }
    while (n_in_flight > 0)
        reap();
}

static void flush(void)
{
    submit(&requests[0], OP_FLUSH, 0);
    while (n_in_flight > 0)
        reap();
}

/* --- start and end ---------------------------------------------------------------------------- */

static void open_disk(const char *path)
{
    uint64_t capacity;

    check(blkio_create("virtio-blk-vhost-user", &disk), "create");
    check(blkio_set_str(disk, "path", path), "set path");
    check(blkio_connect(disk), "connect");
    check(blkio_set_int(disk, "num-queues", 1), "set num-queues");
    check(blkio_start(disk), "start");
    check(blkio_get_uint64(disk, "capacity", &capacity), "get capacity");
    if (capacity < n_blocks * PATTERN_BLOCK)
        fail("the disk has only %" PRIu64 " bytes", capacity);
    queue = blkio_get_queue(disk, 0);
    check(blkio_alloc_mem_region(disk, &region, (size_t)MAX_DEPTH * MAX_BYTES), "alloc_mem_region");
    check(blkio_map_mem_region(disk, &region), "map_mem_region");
    for (unsigned i = 0; i < MAX_DEPTH; i++)
        requests[i].data = (uint8_t *)region.addr + (size_t)i * MAX_BYTES;
}

static void close_disk(void)
{
    blkio_unmap_mem_region(disk, &region);
    blkio_free_mem_region(disk, &region);
    blkio_destroy(&disk);
}

static void save_generations(const char *path)
{
    FILE *f = fopen(path, "we");

    if (f == NULL || fwrite(generations, sizeof(*generations), n_blocks, f) != n_blocks ||
        fclose(f) != 0)
        fail("%s: %s", path, strerror(errno));
}

int main(int argc, char **argv)
{
    static const unsigned depths[] = {1, 32, 128};
    static const size_t sizes[] = {512, 4096, 65536};
    double seconds;

    if (argc != 6)
        fail("SOCKET SEED BLOCKS MILLISECONDS TABLE");
    random_state = strtoull(argv[2], NULL, 10);
    n_blocks = strtoull(argv[3], NULL, 10);
    seconds = (double)strtoull(argv[4], NULL, 10) / 1000.0;
    generations = calloc(n_blocks, sizeof(*generations));
    unit_is_busy = calloc(n_blocks, sizeof(*unit_is_busy));
    if (n_blocks < MAX_DEPTH * 2 * MAX_BYTES / PATTERN_BLOCK ||
        n_blocks % (MAX_BYTES / PATTERN_BLOCK) != 0 || generations == NULL || unit_is_busy == NULL)
        fail("cannot work on %" PRIu64 " blocks", n_blocks);
    pattern_init(random_state);

    open_disk(argv[1]);
    run_all(OP_READ); /* the caller wrote generation 0 */
    for (size_t d = 0; d < sizeof(depths) / sizeof(depths[0]); d++)
        for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
            run_random(depths[d], sizes[s], seconds);
    flush();
    run_all(OP_READ);
    close_disk();
    save_generations(argv[5]);
    printf("verified: %" PRIu64 " reads, %" PRIu64 " writes, %" PRIu64 " write-zeroes, %" PRIu64
           " flushes\n",
           n_done[OP_READ], n_done[OP_WRITE], n_done[OP_ZERO], n_done[OP_FLUSH]);
    return 0;
}
