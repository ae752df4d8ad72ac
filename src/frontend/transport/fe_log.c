/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The front-end's side of the dirty log: the shared bitmap, reading it, and the messages about it
 * ("Migration" in the specification). Page p is bit p % 8 of byte p / 8. The back-end sets bits by
 * atomic OR. The front-end only clears bits, a word at a time by atomic exchange, so no mark is
 * lost between the two.
 *
 * The dirty log of a very large memory is a sparse file. It is scanned by extents (SEEK_DATA),
 * because reading a hole through a mapping would allocate it.
 */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/struct_sizes.h"
#include "fe_requests.h"
#include "frontend/driver/driver_i.h"
#include "frontend/driver/driver_parts.h"

#include <godwit/frontend/log.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHUNK UINT64_C(0x40000) /* guest memory of one 64-bit word, VHOST_LOG_CHUNK of QEMU */

struct gw_guest_log {
    struct gw_guest_log_config cfg;
    int fd;
    uint8_t *map;
    size_t map_len;
    uint8_t *bitmap; /* not necessarily at the start of the mapping */
};

/* A run of pages that grows while consecutive pages are marked. */
struct run {
    gw_gpa_t base;
    gw_guest_dirty_cb *cb;
    void *arg;
    uint64_t first;
    uint64_t n;
    uint64_t n_total;
};

static uint64_t length_up_to(gw_gpa_t gpa, uint64_t len)
{
    uint64_t end = (gpa & ~GW_GUEST_LOG_GRANTS) + len;

    return end ? ((end - 1) / CHUNK + 1) * sizeof(uint64_t) : 0;
}

uint64_t gw_guest_log_length_for(const struct gw_guest_mem *m, struct gw_driver *const *drivers,
                                 unsigned n_drivers)
{
    struct gw_guest_region region;
    uint64_t len = 0, more;

    for (unsigned i = 0; gw_guest_mem_region(m, i, &region) == 0; i++) {
        more = length_up_to(region.gpa, region.length);
        if (more > len)
            len = more;
    }
    for (unsigned i = 0; i < n_drivers; i++) {
        more = length_up_to(drivers[i]->used_gpa, gw_driver_used_len(drivers[i]));
        if (more > len)
            len = more;
    }
    return len;
}

static int log_map(struct gw_guest_log *log)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t residual = log->cfg.offset & (page - 1);
    void *map;

    log->fd = memfd_create("dirty-log", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (log->fd < 0 || ftruncate(log->fd, (off_t)(log->cfg.offset + log->cfg.length)) < 0)
        return -errno;
    if (!log->cfg.no_seals &&
        fcntl(log->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    log->map_len = log->cfg.length + residual;
    map = mmap(NULL, log->map_len, PROT_READ | PROT_WRITE, MAP_SHARED, log->fd,
               (off_t)(log->cfg.offset - residual));
    if (map == MAP_FAILED)
        return -errno;
    log->map = map;
    log->bitmap = log->map + residual;
    return 0;
}

int gw_guest_log_new(struct gw_guest_log **ret, const struct gw_guest_log_config *given)
{
    struct gw_guest_log_config cfg;
    struct gw_guest_log *log;
    int r = gw_copy_struct(&cfg, sizeof(cfg), given, GW_FIRST_GUEST_LOG_CONFIG);

    if (r < 0)
        return gw_frontend_fail(r, "dirty log: configuration of another version");
    if (cfg.length == 0 || cfg.length > INT64_MAX / 4 || cfg.offset > INT64_MAX / 4)
        return gw_frontend_fail(
            -EINVAL, "dirty log: impossible length (%" PRIu64 ") or offset (%" PRIu64 ")",
            cfg.length, cfg.offset);
    log = calloc(1, sizeof(*log));
    if (!log)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    log->cfg = cfg;
    log->fd = -1;
    r = log_map(log);
    if (r < 0) {
        gw_guest_log_free(log);
        return gw_frontend_fail(r, "dirty log of %" PRIu64 " bytes: %s", cfg.length, strerror(-r));
    }
    *ret = log;
    return 0;
}

void gw_guest_log_free(struct gw_guest_log *log)
{
    if (!log)
        return;
    if (log->map)
        munmap(log->map, log->map_len);
    gw_close(&log->fd);
    free(log);
}

uint64_t gw_guest_log_length(const struct gw_guest_log *log)
{
    return log->cfg.length;
}

int gw_guest_log_fd(const struct gw_guest_log *log)
{
    return log->fd;
}

static void run_flush(struct run *run)
{
    if (run->n && run->cb)
        run->cb(run->arg, run->base + run->first * GW_GUEST_LOG_PAGE, run->n * GW_GUEST_LOG_PAGE);
    run->n_total += run->n;
    run->n = 0;
}

static void run_add(struct run *run, uint64_t first, uint64_t n)
{
    if (run->n && run->first + run->n == first) {
        run->n += n;
        return;
    }
    run_flush(run);
    run->first = first;
    run->n = n;
}

/* Add the marked pages of a word: bit 0 is page `first`. */
static void run_add_bits(struct run *run, uint64_t first, uint64_t bits)
{
    while (bits) {
        unsigned skip = (unsigned)__builtin_ctzll(bits);
        uint64_t rest = bits >> skip;
        unsigned n = ~rest ? (unsigned)__builtin_ctzll(~rest) : 64 - skip;

        run_add(run, first + skip, n);
        if (skip + n >= 64)
            break;
        bits &= ~UINT64_C(0) << (skip + n);
    }
}

/*
 * Take the marks of bytes [from, to) of the bitmap: single bytes up to a word boundary, words,
 * single bytes. Acquire pairs with the back-end's release: pages are read after their marks.
 */
static void take_bytes(struct gw_guest_log *log, uint64_t from, uint64_t to, struct run *run)
{
    uint8_t *p = log->bitmap;

    for (; from < to && ((uintptr_t)(p + from) & 7 || to - from < 8); from++) {
        if (__atomic_load_n(p + from, __ATOMIC_RELAXED))
            run_add_bits(run, from * 8, __atomic_exchange_n(p + from, 0, __ATOMIC_ACQ_REL));
    }
    for (; to - from >= 8; from += 8) {
        uint64_t *word = (void *)(p + from);

        if (__atomic_load_n(word, __ATOMIC_RELAXED))
            run_add_bits(run, from * 8, le64toh(__atomic_exchange_n(word, 0, __ATOMIC_ACQ_REL)));
    }
    for (; from < to; from++) {
        if (__atomic_load_n(p + from, __ATOMIC_RELAXED))
            run_add_bits(run, from * 8, __atomic_exchange_n(p + from, 0, __ATOMIC_ACQ_REL));
    }
}

/* Find the next bytes of the bitmap, from `at`, that are not in a hole of the file. */
static bool next_extent(const struct gw_guest_log *log, uint64_t at, uint64_t *ret_from,
                        uint64_t *ret_to)
{
    off_t data, hole;

    if (at >= log->cfg.length)
        return false;
    data = lseek(log->fd, (off_t)(log->cfg.offset + at), SEEK_DATA);
    if (data < 0)
        return false;
    *ret_from = (uint64_t)data - log->cfg.offset;
    hole = lseek(log->fd, data, SEEK_HOLE);
    *ret_to = hole < 0 ? log->cfg.length : (uint64_t)hole - log->cfg.offset;
    return true;
}

uint64_t gw_guest_log_take(struct gw_guest_log *log, gw_guest_dirty_cb *cb, void *arg)
{
    struct run run = {.base = log->cfg.base, .cb = cb, .arg = arg};
    uint64_t from, to = 0;

    while (next_extent(log, to, &from, &to))
        take_bytes(log, from, to, &run);
    run_flush(&run);
    return run.n_total;
}

/* Count the bits of bytes [from, to). Nearly all are clear, so they are tested by words. */
static uint64_t count_bytes(const struct gw_guest_log *log, uint64_t from, uint64_t to)
{
    const uint8_t *p = log->bitmap;
    uint64_t n = 0;

    while (from < to) {
        bool is_word = ((uintptr_t)(p + from) & 7) == 0 && to - from >= 8;
        uint64_t bits =
            is_word ? __atomic_load_n((const uint64_t *)(const void *)(p + from), __ATOMIC_RELAXED)
                    : __atomic_load_n(p + from, __ATOMIC_RELAXED);

        if (bits)
            n += (unsigned)__builtin_popcountll(bits);
        from += is_word ? 8 : 1;
    }
    return n;
}

uint64_t gw_guest_log_count(const struct gw_guest_log *log)
{
    uint64_t n = 0, from, to = 0;

    while (next_extent(log, to, &from, &to))
        n += count_bytes(log, from, to);
    return n;
}

bool gw_guest_log_is_marked(const struct gw_guest_log *log, gw_gpa_t gpa)
{
    uint64_t page = (gpa - log->cfg.base) / GW_GUEST_LOG_PAGE;

    if (page / 8 >= log->cfg.length)
        return false;
    return __atomic_load_n(&log->bitmap[page / 8], __ATOMIC_RELAXED) >> (page % 8) & 1;
}

static int take_log_answer(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    struct gw_wire_log got = {0};

    memcpy(&got, answer->payload, answer->size < sizeof(got) ? answer->size : sizeof(got));
    /* 0, the remaining size or the whole size mean success; any other value is an error code. */
    if (got.mmap_size && got.mmap_size != op->call.payload.log.mmap_size)
        return gw_frontend_fail(-EREMOTEIO, "SET_LOG_BASE: the back-end refused (0x%" PRIx64 ")",
                                got.mmap_size);
    return 0;
}

int gw_frontend_encode_log_base(struct gw_frontend_op *op, const struct gw_guest_log *log)
{
    op->call = (struct gw_frontend_call){
        .request = GW_MSG_SET_LOG_BASE,
        .payload.log = {.mmap_size = log->cfg.length, .mmap_offset = log->cfg.offset},
        .size = sizeof(op->call.payload.log),
        .needs = GW_FRONTEND_NEEDS(LOG_SHMFD),
        .fds = {log->fd},
        .n_fds = 1,
        .has_reply = true,
        .reply_size = sizeof(struct gw_wire_log),
        .finish = take_log_answer,
    };
    return GW_FRONTEND_STEP_SEND;
}

int gw_frontend_encode_log_fd(struct gw_frontend_op *op, int fd)
{
    op->call = (struct gw_frontend_call){.request = GW_MSG_SET_LOG_FD, .fds = {fd}, .n_fds = 1};
    return GW_FRONTEND_STEP_SEND;
}

/* A step, because the features may still change before it. */
static int log_all_step(struct gw_frontend_op *op)
{
    uint64_t bit = UINT64_C(1) << GW_F_LOG_ALL;
    struct gw_frontend *fe = op->fe;

    if (op->on && !fe->cfg.no_gates && !(fe->offered & bit))
        return gw_frontend_fail(-EOPNOTSUPP, "SET_FEATURES: LOG_ALL (26) is not offered");
    return gw_frontend_encode_set_features(op, op->on ? fe->features | bit : fe->features & ~bit);
}

int gw_frontend_encode_log_all(struct gw_frontend_op *op, bool on)
{
    static gw_frontend_step *const steps[] = {log_all_step, NULL};

    op->steps = steps;
    op->on = on;
    return GW_FRONTEND_STEP_SEND;
}

int gw_frontend_encode_vring_log(struct gw_frontend_op *op, const struct gw_driver *d, bool on)
{
    struct gw_frontend_vring_addr addr = gw_frontend_vring_addr_of(d);

    addr.flags = on ? GW_VRING_F_LOG : 0;
    return gw_frontend_encode_vring_addr(op, d->index, &addr);
}
