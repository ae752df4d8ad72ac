/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See rig.h. Everything here fails the test that is running when something goes wrong. */
#include "rig.h"

#include "requires.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PACKED_WRAP 0x8000u

enum gw_loop_kind rig_loop;
uint64_t rig_features;

int rig_run_both_loops(const struct CMUnitTest *tests, size_t n_tests)
{
    int n_failed;

    rig_loop = GW_LOOP_EPOLL;
    n_failed = _cmocka_run_group_tests("epoll", tests, n_tests, NULL, NULL);
    if (!has_io_uring())
        return n_failed;
    rig_loop = GW_LOOP_URING;
    return n_failed + _cmocka_run_group_tests("io_uring", tests, n_tests, NULL, NULL);
}

static int run_layout(const char *name, uint64_t features, const struct CMUnitTest *tests,
                      size_t n_tests)
{
    int n_failed;

    print_message("[ LAYOUT   ] %s\n", name);
    rig_features = features;
    n_failed = rig_run_both_loops(tests, n_tests);
    rig_features = 0;
    return n_failed;
}

int rig_run_layouts(const struct CMUnitTest *tests, size_t n_tests, bool in_order)
{
    int n_failed = run_layout("split", 0, tests, n_tests);

    n_failed += run_layout("packed", RIG_F_PACKED, tests, n_tests);
    if (!in_order)
        return n_failed;
    n_failed += run_layout("split, in order", RIG_F_ORDER, tests, n_tests);
    return n_failed + run_layout("packed, in order", RIG_F_PACKED | RIG_F_ORDER, tests, n_tests);
}

static bool is_packed(const struct rig *t)
{
    return (t->cfg.features & RIG_F_PACKED) != 0;
}

uint32_t rig_index(const struct rig *t, uint32_t n)
{
    return is_packed(t) ? n % (2 * t->cfg.size) : (uint16_t)n;
}

uint32_t rig_base(const struct rig *t, uint32_t index)
{
    uint32_t half;

    if (!is_packed(t))
        return index;
    index = rig_index(t, index);
    half = index < t->cfg.size ? index | PACKED_WRAP : index - t->cfg.size;
    return half | half << 16;
}

static void note(void *arg, enum gw_diag_level level, const char *message)
{
    struct rig *t = arg;

    (void)level;
    snprintf(t->message, sizeof(t->message), "%s", message);
    __atomic_add_fetch(&t->n_messages, 1, __ATOMIC_RELEASE);
}

int rig_ready(void *dev, struct gw_queue *q)
{
    struct rig *t = dev;
    struct gw_request *reqs[64];
    enum rig_mode mode = __atomic_load_n(&t->mode, __ATOMIC_ACQUIRE);
    int n;

    __atomic_add_fetch(&t->n_ready, 1, __ATOMIC_RELEASE);
    if (mode == RIG_IGNORE)
        return 0;
    n = gw_queue_pop(q, reqs, rig_look(&t->batch));
    for (int i = 0; i < n; i++) {
        if (mode == RIG_COMPLETE) {
            gw_request_complete(reqs[i], (uint32_t)reqs[i]->in_len);
        } else {
            t->held[t->n_held] = reqs[i];
            __atomic_store_n(&t->n_held, t->n_held + 1, __ATOMIC_RELEASE);
        }
    }
    return 0;
}

struct gw_map *rig_map(struct rig *t)
{
    struct gw_region *regions[GW_MEM_SLOTS_MAX];
    unsigned n = gw_guest_mem_count(t->mem);
    struct gw_map *map;

    for (unsigned i = 0; i < n; i++) {
        struct gw_guest_region r;
        struct gw_region_desc desc;

        assert_int_equal(gw_guest_mem_region(t->mem, i, &r), 0);
        desc = (struct gw_region_desc){
            .gpa = r.gpa, .size = r.length, .uva = r.uva, .mmap_offset = r.offset};
        assert_int_equal(gw_region_new(&regions[i], &desc, fcntl(r.fd, F_DUPFD_CLOEXEC, 0)), 0);
    }
    assert_int_equal(gw_map_new(&map, regions, n), 0);
    for (unsigned i = 0; i < n; i++)
        gw_region_put(regions[i]);
    return map;
}

static void begin_memory(struct rig *t)
{
    struct gw_guest_region region = {.gpa = RIG_GPA, .length = t->cfg.mem_len};
    struct gw_driver_config driver = {
        .size = sizeof(driver),
        .queue_size = t->cfg.size,
        .indirect_max = t->cfg.indirect_max,
        .place = true,
        .packed = is_packed(t),
    };
    unsigned size = t->cfg.size;
    uint64_t event_len = sizeof(struct vring_packed_desc_event);

    assert_int_equal(gw_guest_mem_new(&t->mem, RIG_UVA), 0);
    assert_int_equal(gw_guest_mem_add(t->mem, &region), 0);
    assert_int_equal(gw_guest_mem_alloc(t->mem, 16 * size, 16, &t->desc), 0);
    assert_int_equal(
        gw_guest_mem_alloc(t->mem, driver.packed ? event_len : 6 + 2 * size, 4, &t->avail), 0);
    assert_int_equal(
        gw_guest_mem_alloc(t->mem, driver.packed ? event_len : 6 + 8 * size, 4, &t->used), 0);
    driver.desc = t->desc;
    driver.avail = t->avail;
    driver.used = t->used;
    driver.mem = t->mem;
    assert_int_equal(gw_driver_new(&t->driver, &driver), 0);
    gw_driver_set_features(t->driver, t->cfg.features);
    gw_driver_reset(t->driver, t->cfg.base);
    assert_int_equal(gw_guest_mem_alloc(t->mem, RIG_BUF_LEN, 64, &t->buf), 0);
    t->map = rig_map(t);
    if (!t->cfg.inflight)
        return;
    t->part = aligned_alloc(64, gw_inflight_stride(driver.packed, (uint16_t)size));
    assert_non_null(t->part);
    gw_inflight_format(t->part, driver.packed, 1, (uint16_t)size);
}

void rig_begin(struct rig *t, const struct rig_config *cfg)
{
    memset(t, 0, sizeof(*t));
    if (cfg)
        t->cfg = *cfg;
    t->cfg.features |= rig_features;
    t->cfg.size = t->cfg.size ? t->cfg.size : 256;
    t->cfg.mem_len = t->cfg.mem_len ? t->cfg.mem_len : UINT64_C(4) << 20;
    t->batch = 64;
    begin_memory(t);
    gw_diag_init(&t->diag, note, t, GW_DIAG_WARNING, "rig");
    t->ops = (struct gw_device_ops){
        .size = sizeof(t->ops),
        .queue_start = t->cfg.queue_start,
        .queue_ready = t->cfg.queue_ready ? t->cfg.queue_ready : rig_ready,
        .queue_stop = t->cfg.queue_stop,
    };
    t->worker.ops = &t->ops;
    t->worker.dev = t;
    t->worker.diag = &t->diag;
    t->worker.loop_kind = t->cfg.loop ? t->cfg.loop : rig_loop;
    t->worker.poll_us = t->cfg.poll_us;
    assert_int_equal(gw_worker_start(&t->worker), 0);
    t->queue.worker = &t->worker;
    t->queue.ops = &t->ops;
    t->queue.dev = t;
    t->queue.diag = &t->diag;
    t->queue.size_max = GW_QUEUE_SIZE_MAX;
    t->queue.request_bytes_max = UINT32_MAX;
    t->queue.bytes_in_flight_max = INT64_MAX;
    t->queue.sync = t->cfg.sync;
    t->queue.request_size = t->cfg.request_size;
    gw_queue_init(&t->queue);
}

void rig_end(struct rig *t)
{
    assert_int_equal(t->queue.state, GW_QUEUE_STOPPED);
    gw_worker_end(&t->worker);
    gw_queue_done(&t->queue);
    gw_map_free(t->map);
    free(t->part);
    gw_driver_free(t->driver);
    gw_guest_mem_free(t->mem);
}

int rig_call(struct rig *t, int (*fn)(void *arg), void *arg)
{
    return gw_worker_call(&t->worker, fn, arg);
}

/* ---- the control path ---- */

struct ask {
    struct rig *t;
    struct gw_queue_start start;
    const struct gw_map *map;
    struct gw_latch *latch;
    enum gw_queue_stop how;
    int fd;
    bool on;
};

static int own(int fd, int drivers)
{
    int r;

    if (fd != RIG_DRIVER_FD)
        return fd;
    r = fcntl(drivers, F_DUPFD_CLOEXEC, 0);
    assert_true(r >= 0);
    return r;
}

static int on_start(void *arg)
{
    struct ask *a = arg;

    return gw_queue_start(&a->t->queue, &a->start);
}

int rig_start(struct rig *t, int kick_fd, uint32_t index)
{
    return rig_start_at(t, kick_fd, rig_base(t, index));
}

int rig_start_at(struct rig *t, int kick_fd, uint32_t base)
{
    struct ask a = {.t = t};
    int r;

    a.start = (struct gw_queue_start){
        .ring = {.size = t->cfg.size,
                 .base = base,
                 .desc = gw_guest_mem_uva(t->mem, t->desc),
                 .avail = gw_guest_mem_uva(t->mem, t->avail),
                 .used = gw_guest_mem_uva(t->mem, t->used)},
        .map = t->map,
        .features = t->cfg.features,
        .inflight = t->part,
        .inflight_size = (uint16_t)t->cfg.size,
        .kick_fd = own(kick_fd, gw_driver_kick_fd(t->driver)),
    };
    r = rig_call(t, on_start, &a);
    assert_int_equal(a.start.kick_fd, -1);
    memcpy(t->why, a.start.why, sizeof(t->why));
    return r;
}

static int on_enable(void *arg)
{
    struct ask *a = arg;

    gw_queue_set_enabled(&a->t->queue, a->on);
    return 0;
}

void rig_enable(struct rig *t, bool enabled)
{
    struct ask a = {.t = t, .on = enabled};

    rig_call(t, on_enable, &a);
}

static int on_set_call(void *arg)
{
    struct ask *a = arg;

    gw_queue_set_call(&a->t->queue, a->fd);
    return 0;
}

void rig_set_call(struct rig *t, int fd)
{
    struct ask a = {.t = t, .fd = own(fd, gw_driver_call_fd(t->driver))};

    rig_call(t, on_set_call, &a);
}

static int on_set_err(void *arg)
{
    struct ask *a = arg;

    gw_queue_set_err(&a->t->queue, a->fd);
    return 0;
}

void rig_set_err(struct rig *t, int fd)
{
    struct ask a = {.t = t, .fd = fd};

    rig_call(t, on_set_err, &a);
}

void rig_run(struct rig *t)
{
    assert_int_equal(rig_start(t, RIG_DRIVER_FD, t->cfg.base), 0);
    rig_set_call(t, RIG_DRIVER_FD);
    rig_enable(t, true);
}

static int on_stop(void *arg)
{
    struct ask *a = arg;

    gw_queue_stop(&a->t->queue, a->latch, a->how);
    return 0;
}

static void stop_begin(struct rig *t, struct gw_latch *latch, enum gw_queue_stop how)
{
    struct ask a = {.t = t, .latch = latch, .how = how};

    rig_call(t, on_stop, &a);
}

void rig_stop_begin(struct rig *t, struct gw_latch *latch)
{
    stop_begin(t, latch, GW_STOP_DRAIN);
}

uint32_t rig_stop_at(struct rig *t, enum gw_queue_stop how)
{
    struct gw_latch latch;

    gw_latch_init(&latch, 1);
    stop_begin(t, &latch, how);
    assert_int_equal(gw_latch_wait(&latch, RIG_WAIT_MS * UINT64_C(1000000)), 0);
    gw_latch_done(&latch);
    return t->queue.ring.ops->base(&t->queue.ring);
}

uint32_t rig_stop(struct rig *t)
{
    uint32_t base = rig_stop_at(t, GW_STOP_DRAIN);

    if (!is_packed(t))
        return base;
    return (base & ~PACKED_WRAP & UINT16_MAX) + (base & PACKED_WRAP ? 0 : t->cfg.size);
}

void rig_lose(struct rig *t)
{
    struct gw_latch latch;

    gw_latch_init(&latch, 1);
    stop_begin(t, &latch, GW_STOP_LOST);
    rig_forget(t);
    rig_reset(t);
    gw_latch_done(&latch);
}

static int on_adopt(void *arg)
{
    struct ask *a = arg;

    gw_queue_adopt_map(&a->t->queue, a->map);
    gw_queue_settle(&a->t->queue, a->t->queue.epoch + 1, a->latch);
    return 0;
}

void rig_adopt_begin(struct rig *t, const struct gw_map *map, struct gw_latch *latch)
{
    struct ask a = {.t = t, .map = map, .latch = latch};

    rig_call(t, on_adopt, &a);
}

static int on_forget(void *arg)
{
    gw_queue_forget(arg);
    return 0;
}

void rig_forget(struct rig *t)
{
    rig_call(t, on_forget, &t->queue);
}

static int on_reset(void *arg)
{
    gw_queue_reset(arg);
    return 0;
}

void rig_reset(struct rig *t)
{
    rig_call(t, on_reset, &t->queue);
}

/* ---- the device ---- */

struct release {
    struct rig *t;
    unsigned n;
};

static int on_release(void *arg)
{
    struct release *release = arg;
    struct rig *t = release->t;

    for (unsigned i = 0; i < release->n; i++)
        gw_request_complete(t->held[i], (uint32_t)t->held[i]->in_len);
    __atomic_store_n(&t->n_held, t->n_held - release->n, __ATOMIC_RELEASE);
    memmove(t->held, t->held + release->n, t->n_held * sizeof(t->held[0]));
    return 0;
}

void rig_release(struct rig *t, unsigned n)
{
    struct release release = {t, n};

    assert_true(n <= rig_look(&t->n_held));
    rig_call(t, on_release, &release);
}

void rig_wait_for(const unsigned *value, unsigned n)
{
    uint64_t end = gw_clock_ns() + RIG_WAIT_MS * UINT64_C(1000000);

    while (rig_look(value) < n) {
        assert_true(gw_clock_ns() < end);
        usleep(100);
    }
}

void rig_wait_held(struct rig *t, unsigned n)
{
    rig_wait_for(&t->n_held, n);
    assert_int_equal(rig_look(&t->n_held), n);
}

static int on_nothing(void *arg)
{
    (void)arg;
    return 0;
}

void rig_settle(struct rig *t)
{
    for (int i = 0; i < 3; i++)
        rig_call(t, on_nothing, NULL);
}

/* ---- the driver ---- */

void rig_add(struct rig *t, uint64_t cookie)
{
    struct gw_driver_buf buf = {.addr = t->buf, .len = RIG_BUF_LEN};

    assert_int_equal(gw_driver_add(t->driver, &buf, 0, 1, cookie, 0), 0);
}

void rig_take(struct rig *t, unsigned n)
{
    struct gw_driver_used used[64];

    while (n > 0) {
        unsigned got;

        assert_int_equal(gw_driver_wait(t->driver, RIG_WAIT_MS), 0);
        got = gw_driver_take(t->driver, used, n < 64 ? n : 64);
        for (unsigned i = 0; i < got; i++)
            assert_int_equal(used[i].len, RIG_BUF_LEN);
        n -= got;
        assert_int_equal(gw_driver_error(t->driver, NULL), 0);
    }
}

void rig_set_used_event(struct rig *t, uint32_t index)
{
    uint16_t event = (uint16_t)rig_base(t, index);

    if (is_packed(t))
        gw_driver_write_driver_event(t->driver, event, VRING_PACKED_EVENT_FLAG_DESC);
    else
        __atomic_store_n((uint16_t *)gw_guest_mem_at(t->mem, t->avail + 4 + 2 * t->cfg.size, 2),
                         event, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void rig_stats(struct rig *t, struct gw_queue_stats *ret)
{
    gw_queue_stats(&t->queue, ret);
}
