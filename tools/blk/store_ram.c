/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The memory store: initially zero, lost when the process ends. Every operation is a plain copy and
 * completes at once, so that benchmarks with it measure the rest of the program.
 *
 * Two workers may copy to the same block concurrently if the driver has both requests in flight;
 * the result is either or a mixture, as on any disk. ThreadSanitizer cannot know how a driver
 * orders its queues: suppress ram_read and ram_write for it.
 */
#include "store.h"

#include "backend.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PREFETCH_BYTES 256U         /* no more than a block */
#define ZERO_BYTES     (256U << 10) /* overwritten if the pages must stay allocated */

struct store_ram {
    struct store base;
    uint8_t *memory;
};

static struct store_ram *ram_of(struct store *s)
{
    return (struct store_ram *)(void *)((char *)s - offsetof(struct store_ram, base));
}

static void ram_read(const uint8_t *from, const struct iovec *iov, uint32_t n_iov)
{
    for (uint32_t i = 0; i < n_iov; i++) {
        memcpy(iov[i].iov_base, from, iov[i].iov_len);
        from += iov[i].iov_len;
    }
}

static void ram_write(uint8_t *to, const struct iovec *iov, uint32_t n_iov)
{
    for (uint32_t i = 0; i < n_iov; i++) {
        memcpy(to, iov[i].iov_base, iov[i].iov_len);
        to += iov[i].iov_len;
    }
}

/*
 * Zero a range. Whole pages are returned to the kernel if the request permits it, and also in large
 * requests: one may name 64 GiB, and zeroing it would block its worker.
 */
static void ram_zero(uint8_t *at, uint64_t length, bool may_unmap)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uint64_t head = (page - (uintptr_t)at % page) % page;
    uint64_t whole = length > head ? (length - head) / page * page : 0;

    if ((!may_unmap && length <= ZERO_BYTES) || whole == 0 ||
        madvise(at + head, whole, MADV_DONTNEED) < 0) {
        memset(at, 0, length);
        return;
    }
    memset(at, 0, head);
    memset(at + head + whole, 0, length - head - whole);
}

/* Only the first lines: the hardware prefetcher detects the rest of the copy. */
static void ram_prefetch(void *store, const struct gw_blk_io *io)
{
    const uint8_t *memory = ram_of(store)->memory;

    for (unsigned i = 0; i < PREFETCH_BYTES; i += 64)
        __builtin_prefetch(memory + io->offset + i);
}

static int ram_submit(void *store, struct gw_blk_io *io)
{
    uint8_t *at = ram_of(store)->memory + io->offset;

    switch (io->kind) {
    case GW_BLK_READ:
        ram_read(at, io->iov, io->n_iov);
        break;
    case GW_BLK_WRITE:
        ram_write(at, io->iov, io->n_iov);
        break;
    case GW_BLK_DISCARD:
        ram_zero(at, io->length, true);
        break;
    case GW_BLK_WRITE_ZEROES:
        ram_zero(at, io->length, io->may_unmap);
        break;
    case GW_BLK_FLUSH:
        break;
    }
    return 0;
}

/* Memory does not fail. */
static void ram_report(struct store *s, FILE *out)
{
}

static int ram_resize(struct store *s)
{
    backend_say(s->log, GW_LOG_WARNING, "a --ram disk cannot be resized");
    return -EOPNOTSUPP;
}

static void ram_free(struct store *s)
{
    munmap(ram_of(s)->memory, s->size);
    free(ram_of(s));
}

static const struct store_ops ram_ops = {
    .blk = {.size = sizeof(struct gw_blk_store_ops),
            .prefetch = ram_prefetch,
            .submit = ram_submit},
    .report = ram_report,
    .resize = ram_resize,
    .free = ram_free,
};

int store_ram_new(struct store **ret, uint64_t size, uint32_t block_size, bool is_read_only,
                  struct backend_log *log)
{
    struct store_ram *ram = calloc(1, sizeof(*ram));
    int r;

    if (ram == NULL)
        return -ENOMEM;
    ram->base.ops = &ram_ops;
    ram->base.log = log;
    ram->base.size = size;
    ram->base.block_size = block_size;
    ram->base.is_read_only = is_read_only;
    ram->base.can_unmap = !is_read_only;
    ram->memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ram->memory == MAP_FAILED) {
        r = -errno;
        backend_say(log, GW_LOG_ERROR, "--ram: cannot allocate %llu bytes: %s",
                    (unsigned long long)size, strerror(-r));
        free(ram);
        return r;
    }
    madvise(ram->memory, size, MADV_HUGEPAGE); /* optional: only affects speed */
    *ret = &ram->base;
    return 0;
}
