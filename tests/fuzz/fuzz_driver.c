/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A hostile driver runs while the device completes requests: this thread writes anything to the
 * rings at any time, while a worker pops, holds, unpops, completes and flushes. In between the
 * queue is stopped in every way and restarted, also from its inflight part. Whatever the driver
 * does, requests lie in guest memory, the queue knows what it has taken
 * (src/core/queue/invariant.c), and it can be stopped and restarted.
 *
 * The input is a byte of flags (bit 0: packed, 1: in order, 2: event index, 3: indirect
 * descriptors, 4: inflight, 5: notify on empty, 6: the threads take turns instead of running
 * concurrently, 7: small limit of bytes in flight), one byte for the size of the ring, one for the
 * length of the device's program, that program, and the driver's program.
 */
#include "fuzz.h"

#include "base/cleanup.h"
#include "base/proto.h"
#include "core/queue/queue_i.h"
#include "on_worker.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    HEAD = 3,
    MEMORY = 64 << 10,
    DESC = 0,
    AVAIL = 0x1000,
    USED = 0x2000,
    TABLE = 0x3000, /* indirect descriptors */
    DATA = 0x4000,
    SIZE_MAX_SPLIT = 32,
    SIZE_MAX_PACKED = 40,
    STEPS_MAX = 200, /* of each program */
    TURN_OPS = 8,    /* device operations per turn */
    HELD_MAX = 64,
    DESC_LEN = 16,
    BYTES_FEW = 600, /* in flight: a few requests */
};

#define GPA      UINT64_C(0x10000)
#define UVA      UINT64_C(0x7e0000000000)
#define PATIENCE (UINT64_C(120) * 1000000000)

struct program {
    const uint8_t *data;
    size_t size;
    size_t at;
    unsigned n_left; /* steps */
};

struct fixture {
    /* Initialized once. */
    struct gw_log log;
    struct gw_worker worker;
    struct gw_map *map;
    uint8_t *guest; /* the driver's view of its memory */
    const uint8_t *device_view;
    uint8_t *part;
    /* Per input. */
    struct gw_queue queue;
    uint64_t features;
    unsigned size;
    bool packed, tracked, in_turns;
    int64_t bytes_max; /* limit of bytes in flight */
    uint32_t base;
    uint16_t published; /* split: the used index last written by the device */
    enum gw_queue_stop how;
    bool ending; /* the device completes everything it pops */
    struct program device, driver;
    struct gw_request *held[HELD_MAX]; /* held by the worker */
    unsigned n_held;
    uint16_t avail;  /* the driver's position: index of a split ring, slot of a packed one */
    bool avail_wrap; /* packed */
};

static struct fixture fixture;

static void check(bool good)
{
    if (!good)
        abort();
}

static bool next(struct program *p, uint8_t *ret)
{
    if (p->at == p->size)
        return false;
    *ret = p->data[p->at++];
    return true;
}

static uint8_t byte(struct program *p)
{
    uint8_t b = 0;

    (void)next(p, &b);
    return b;
}

static uint16_t half(struct program *p)
{
    uint16_t low = byte(p);

    return (uint16_t)(low | byte(p) << 8);
}

/* ---- the device, on the worker ---- */

/* Check that every byte is in guest memory; touch the first and last byte of each buffer. */
static void use(struct fixture *b, const struct gw_request *r)
{
    size_t len[2] = {0, 0};

    for (unsigned in = 0; in <= 1; in++) {
        const struct iovec *iov = in ? r->writable : r->readable;

        for (uint32_t i = 0; i < (in ? r->n_writable : r->n_readable); i++) {
            uint8_t *at = iov[i].iov_base;

            check(iov[i].iov_len > 0 && at >= b->device_view &&
                  iov[i].iov_len <= (size_t)(b->device_view + MEMORY - at));
            len[in] += iov[i].iov_len;
            if (in)
                __atomic_store_n(&at[iov[i].iov_len - 1], 0x5a, __ATOMIC_RELAXED);
            else
                (void)__atomic_load_n(at, __ATOMIC_RELAXED);
        }
    }
    check(len[0] == r->readable_len && len[1] == r->writable_len);
}

static void pop(struct fixture *b, unsigned n)
{
    unsigned room = HELD_MAX - b->n_held;
    unsigned r = gw_queue_pop(&b->queue, b->held + b->n_held, n < room ? n : room);

    check(r <= n);
    for (unsigned i = 0; i < r; i++)
        use(b, b->held[b->n_held + i]);
    b->n_held += r;
}

static struct gw_request *take_held(struct fixture *b, unsigned i)
{
    struct gw_request *r = b->held[i];

    memmove(b->held + i, b->held + i + 1, (--b->n_held - i) * sizeof(b->held[0]));
    return r;
}

static void unpop(struct fixture *b, unsigned i)
{
    if (gw_request_unpop(b->held[i]) == 0)
        (void)take_held(b, i);
}

static void run_op(struct fixture *b, uint8_t op)
{
    unsigned arg = op >> 3;

    if ((op & 7) <= 1)
        pop(b, 1 + arg);
    else if ((op & 7) == 6)
        gw_queue_flush(&b->queue);
    else if (b->n_held == 0)
        return;
    else if ((op & 7) == 2)
        gw_request_complete(take_held(b, 0), arg);
    else if ((op & 7) == 3)
        gw_request_complete(take_held(b, arg % b->n_held), UINT32_MAX);
    else if ((op & 7) == 4)
        unpop(b, b->n_held - 1);
    else
        unpop(b, arg % b->n_held);
    check(gw_queue_is_consistent(&b->queue));
}

static void answer_all(struct fixture *b)
{
    while (b->n_held > 0)
        gw_request_complete(take_held(b, byte(&b->device) % b->n_held), 1);
}

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct fixture *b = dev;
    uint8_t op;

    (void)q;
    if (b->ending) {
        do {
            answer_all(b);
            pop(b, HELD_MAX);
        } while (b->n_held > 0);
        return 0;
    }
    for (unsigned n = 0; n < TURN_OPS && b->device.n_left > 0 && next(&b->device, &op); n++) {
        b->device.n_left--;
        if ((op & 7) == 7)
            break; /* the turn ends */
        run_op(b, op);
    }
    return 0;
}

/*
 * Runs inside or outside of queue_ready: the batch is published in parts, or at the end of the
 * turn.
 */
static int device_turn(void *arg)
{
    struct fixture *b = arg;

    if (byte(&b->device) & 1)
        (void)gw_queue_run(&b->queue);
    else
        (void)queue_ready(b, &b->queue);
    return 0;
}

static void queue_stop(void *dev, struct gw_queue *q)
{
    struct fixture *b = dev;

    if (b->how == GW_STOP_LOST)
        return;
    b->ending = true;
    while (b->n_held > 0) {
        uint8_t op = byte(&b->device);
        struct gw_request *r = take_held(b, op % b->n_held);

        if (!(op & 0x80) || gw_request_suspend(r) < 0)
            gw_request_complete(r, op);
    }
}

/* ---- start and stop ---- */

static int start(void *arg)
{
    struct fixture *b = arg;
    struct gw_queue_start s = {
        .ring = {.size = b->size,
                 .base = b->base,
                 .desc = UVA + DESC,
                 .avail = UVA + AVAIL,
                 .used = UVA + USED},
        .map = b->map,
        .features = b->features,
        .inflight = b->tracked ? b->part : NULL,
        .inflight_size = (uint16_t)(b->size + 3),
        .kick.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
    };
    int r = gw_queue_start(&b->queue, &s);

    gw_queue_set_enabled(&b->queue, r == 0);
    return r;
}

/* Reset the device as a guest does. */
static void reset(struct fixture *b)
{
    memset(b->guest, 0, MEMORY);
    gw_inflight_format(b->part, b->packed, 1, (uint16_t)(b->size + 3));
    b->base = b->packed ? 0x80008000 : 0;
    b->avail = 0;
    b->avail_wrap = true;
    b->published = 0;
}

/* A start may only fail because of a used index that the device did not write. */
static void begin_run(struct fixture *b)
{
    const uint16_t *used_idx = (const uint16_t *)(const void *)(b->guest + USED + 2);
    bool intact = b->packed || !b->tracked || *used_idx == b->published;

    b->ending = false;
    if (worker_call(&b->worker, start, b) < 0) {
        check(!intact);
        reset(b);
        check(worker_call(&b->worker, start, b) == 0);
    }
}

struct stop {
    struct fixture *b;
    struct test_latch latch;
};

static int begin_stop(void *arg)
{
    struct stop *s = arg;
    struct gw_queue *q = &s->b->queue;

    s->b->ending = s->b->how == GW_STOP_DRAIN; /* it must pop the remaining requests */
    gw_queue_stop(q, &s->latch.latch, s->b->how);
    if (s->b->how == GW_STOP_LOST) {
        gw_queue_reset(q);
        answer_all(s->b);
    }
    return 0;
}

static int has_stopped(void *arg)
{
    struct fixture *b = arg;

    return b->queue.state == GW_QUEUE_STOPPED;
}

static void stop(struct fixture *b, enum gw_queue_stop how)
{
    struct stop s = {.b = b};

    b->how = how;
    test_latch_init(&s.latch, 1);
    worker_call(&b->worker, begin_stop, &s);
    check(test_latch_wait(&s.latch, PATIENCE) == 0);
    test_latch_done(&s.latch);
    /* The worker completes a stop in a separate turn. */
    while (!worker_call(&b->worker, has_stopped, b))
        continue;
    b->base = b->queue.ring.ops->base(&b->queue.ring);
    b->published = b->queue.ring.split.published;
}

/* ---- the driver ---- */

static void store16(struct fixture *b, unsigned at, uint16_t v)
{
    __atomic_store_n((uint16_t *)(void *)(b->guest + (at & (MEMORY - 2))), v, __ATOMIC_RELEASE);
}

static void store64(struct fixture *b, unsigned at, uint64_t v)
{
    __atomic_store_n((uint64_t *)(void *)(b->guest + (at & (MEMORY - 8))), v, __ATOMIC_RELEASE);
}

/* The AVAIL and USED bits of a slot in a lap, as written by the driver or by the device. */
static uint16_t turn(bool wrap, bool used)
{
    return (uint16_t)((wrap ? 0x80 : 0) | (wrap == used ? 0x8000 : 0));
}

static void write_desc(struct fixture *b, unsigned at, uint8_t what, uint16_t flags, uint16_t tail)
{
    static const uint64_t addrs[] = {GPA + DATA,       GPA + TABLE,     GPA + DESC, GPA + USED,
                                     GPA + MEMORY - 8, GPA + AVAIL + 1, 0,          UINT64_MAX - 3};
    static const uint32_t lens[] = {16, 1, 8, 64, 512, 0, 48, UINT32_MAX};
    uint64_t len = lens[what >> 3 & 7];
    uint64_t rest = b->packed ? len | (uint64_t)tail << 32 | (uint64_t)flags << 48
                              : len | (uint64_t)flags << 32 | (uint64_t)tail << 48;

    store64(b, at, addrs[what & 7]);
    store64(b, at + 8, rest);
}

/* Add a well-formed chain of up to four descriptors, with arbitrary contents. */
static void add(struct fixture *b, struct program *p)
{
    unsigned n = 1 + byte(p) % 4, head = b->avail % b->size;

    for (unsigned i = 0; i < n; i++) {
        unsigned slot = (head + i) % b->size;
        uint8_t what = byte(p);
        uint16_t flags = (uint16_t)((i + 1 < n ? VRING_DESC_F_NEXT : 0) |
                                    (what & 0x80 ? VRING_DESC_F_WRITE : 0));
        bool wrap = b->avail_wrap != (head + i >= b->size);

        if (b->packed)
            flags |= turn(wrap, false);
        write_desc(b, DESC + slot * DESC_LEN, what & 0x40 ? what : what & 0x18, flags,
                   (uint16_t)(b->packed ? head : (slot + 1) % b->size));
    }
    if (b->packed) {
        b->avail_wrap = b->avail_wrap != (head + n >= b->size);
        b->avail = (uint16_t)((head + n) % b->size);
        return;
    }
    store16(b, AVAIL + 4 + 2 * (b->avail & (b->size - 1)), (uint16_t)head);
    store16(b, AVAIL + 2, ++b->avail);
}

/* Make a whole lap available, regardless of whose turn its slots are. */
static void offer_lap(struct fixture *b, struct program *p)
{
    uint8_t what = byte(p);
    unsigned n = 1 + (what >> 1) % 5;

    for (unsigned i = 0; i < b->size; i++) {
        uint16_t flags = (uint16_t)((i + 1) % n ? VRING_DESC_F_NEXT : 0);

        if (b->packed)
            flags |= turn(what & 1, what & 0x80);
        else
            store16(b, AVAIL + 4 + 2 * i, (uint16_t)(i * (what >> 6) % b->size));
        write_desc(b, DESC + i * DESC_LEN, what & 0x38, flags,
                   (uint16_t)(b->packed ? i : (i + 1) % b->size));
    }
    if (!b->packed) {
        b->avail = (uint16_t)(b->avail + b->size);
        store16(b, AVAIL + 2, b->avail);
    }
}

/* Write anything to any place in the ring and its tables. */
static void scribble(struct fixture *b, struct program *p, bool wide)
{
    unsigned at = half(p) % DATA;

    if (wide)
        store64(b, at, half(p) | (uint64_t)half(p) << 32 | (uint64_t)half(p) << 48);
    else
        store16(b, at, half(p));
}

static void driver_op(struct fixture *b, struct program *p)
{
    uint8_t op = byte(p);

    p->n_left--;
    switch (op & 7) {
    case 0:
    case 1:
        add(b, p);
        break;
    case 2:
        scribble(b, p, false);
        break;
    case 3:
        scribble(b, p, true);
        break;
    case 4: /* descriptors of the ring or of a table */
        write_desc(b, (op & 8 ? TABLE : DESC) + byte(p) % 64 * DESC_LEN, byte(p), half(p), half(p));
        break;
    case 5:
        offer_lap(b, p);
        break;
    case 6: /* the event index that the device reads before it notifies */
        store16(b, b->packed ? AVAIL : AVAIL + 4 + 2 * b->size, half(p));
        if (b->packed)
            store16(b, AVAIL + 2, op >> 3 & 3);
        break;
    default:
        gw_queue_wake(&b->queue);
    }
}

/* ---- an input ---- */

struct turn_task {
    struct gw_post task;
    struct test_latch latch;
    struct fixture *b;
};

static void run_turn(struct gw_post *task)
{
    struct turn_task *t = gw_container_of(task, struct turn_task, task);

    gw_latch_count(&t->latch.latch, device_turn(t->b));
}

static void step(struct fixture *b, uint8_t what)
{
    struct turn_task t = {.task.run = run_turn, .b = b};

    test_latch_init(&t.latch, 1);
    check(gw_worker_post(&b->worker, &t.task) == 0);
    if (b->in_turns)
        check(test_latch_wait(&t.latch, PATIENCE) == 0);
    for (unsigned n = what % 8; n > 0 && b->driver.n_left > 0; n--)
        driver_op(b, &b->driver);
    if (!b->in_turns)
        check(test_latch_wait(&t.latch, PATIENCE) == 0);
    test_latch_done(&t.latch);
}

static const struct gw_device_ops ops = {
    .size = sizeof(ops), .queue_ready = queue_ready, .queue_stop = queue_stop};

static int init_queue(void *arg)
{
    struct fixture *b = arg;

    memset(&b->queue, 0, sizeof(b->queue));
    b->queue.worker = &b->worker;
    b->queue.ops = &ops;
    b->queue.dev = b;
    b->queue.log = &b->log;
    b->queue.limits.ring_size = SIZE_MAX_PACKED;
    b->queue.limits.request_bytes = UINT32_MAX;
    b->queue.limits.bytes_in_flight = b->bytes_max;
    gw_queue_init(&b->queue);
    return 0;
}

static int end_queue(void *arg)
{
    struct fixture *b = arg;

    gw_queue_reset(&b->queue);
    gw_queue_done(&b->queue);
    return 0;
}

static void silent(void *arg, enum gw_log_level level, const char *message)
{
    (void)arg;
    (void)level;
    (void)message;
}

static void make_fixture(struct fixture *b)
{
    const struct gw_region_desc desc = {.gpa = GPA, .size = MEMORY, .uva = UVA};
    struct gw_region *region;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    check(fd >= 0 && ftruncate(fd, MEMORY) == 0);
    b->guest = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    check(b->guest != MAP_FAILED);
    check(gw_region_new(&region, &desc, fd) == 0 && gw_map_new(&b->map, &region, 1) == 0);
    gw_region_put(region);
    b->device_view = b->map->entries[0].hva;
    b->part = aligned_alloc(64, gw_inflight_stride(true, SIZE_MAX_PACKED + 3));
    check(b->part != NULL);
    gw_log_init(&b->log, silent, NULL, GW_LOG_ERROR, "fuzz");
    b->worker.log = &b->log;
    b->worker.loop_kind = GW_LOOP_EPOLL;
    check(gw_worker_start(&b->worker) == 0);
}

static void begin(struct fixture *b, const uint8_t *data, size_t size)
{
    static const enum gw_virtio_feature bits[] = {GW_F_RING_PACKED, GW_F_IN_ORDER,
                                                  GW_F_RING_EVENT_IDX, GW_F_RING_INDIRECT_DESC};
    size_t n = data[2] < size - HEAD ? data[2] : size - HEAD;

    b->features = data[0] & 32 ? GW_BIT(GW_F_NOTIFY_ON_EMPTY) : 0;
    for (unsigned i = 0; i < GW_ARRAY_SIZE(bits); i++)
        b->features |= data[0] >> i & 1 ? GW_BIT(bits[i]) : 0;
    b->packed = data[0] & 1;
    b->tracked = data[0] & 16;
    b->in_turns = data[0] & 64;
    b->bytes_max = data[0] & 128 ? BYTES_FEW : INT64_MAX;
    b->size = b->packed ? 1u + data[1] % SIZE_MAX_PACKED : 1u << data[1] % 6;
    b->n_held = 0;
    b->device = (struct program){.data = data + HEAD, .size = n, .n_left = STEPS_MAX};
    b->driver =
        (struct program){.data = data + HEAD + n, .size = size - HEAD - n, .n_left = STEPS_MAX};
    reset(b);
    worker_call(&b->worker, init_queue, b);
    begin_run(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fixture *b = &fixture;
    uint8_t what;

    if (size < HEAD)
        return 0;
    if (!b->part)
        make_fixture(b);
    begin(b, data, size);
    while (b->driver.n_left > 0 && next(&b->driver, &what)) {
        b->driver.n_left--;
        if (what < 0xf0) {
            step(b, what);
            continue;
        }
        stop(b, (enum gw_queue_stop)(what % 3));
        begin_run(b);
    }
    stop(b, GW_STOP_DRAIN);
    /* The worker drops the queue one turn after its last wakeup. */
    for (unsigned i = 0; i < 2; i++)
        (void)worker_call(&b->worker, has_stopped, b);
    worker_call(&b->worker, end_queue, b);
    return 0;
}
