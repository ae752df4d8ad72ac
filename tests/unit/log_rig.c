/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See log_rig.h. */
#include "log_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

unsigned log_rig_add_log(struct log_rig *t, gw_gpa_t end)
{
    struct log_rig_log *l = &t->logs[t->n_logs];

    assert_true(t->n_logs < LOG_RIG_LOGS);
    l->size = gw_dirty_bitmap_size(end - 1);
    l->fd = memfd_create("log", MFD_CLOEXEC);
    assert_true(l->fd >= 0);
    assert_int_equal(ftruncate(l->fd, (off_t)l->size), 0);
    l->bits = mmap(NULL, l->size, PROT_READ | PROT_WRITE, MAP_SHARED, l->fd, 0);
    assert_true(l->bits != MAP_FAILED);
    assert_int_equal(gw_dirty_log_new(&l->log, fcntl(l->fd, F_DUPFD_CLOEXEC, 0), 0, l->size), 0);
    return t->n_logs++;
}

void log_rig_map_short(struct log_rig *t, gw_gpa_t end)
{
    t->current = log_rig_add_log(t, end);
}

void log_rig_prepare(struct log_rig *t, const struct rig_config *cfg)
{
    memset(t, 0, sizeof(*t));
    rig_begin(&t->rig, cfg);
    t->rig.mode = RIG_HOLD;
    t->event_fd = -1;
    t->expected = calloc(1, gw_dirty_bitmap_size(LOG_RIG_END - 1));
    assert_non_null(t->expected);
    assert_int_equal(gw_guest_mem_alloc(t->rig.mem, LOG_RIG_DATA_LEN, 4096, &t->data), 0);
    log_rig_add_log(t, LOG_RIG_END);
}

void log_rig_start_unlogged(struct log_rig *t)
{
    rig_run(&t->rig);
    t->started = true;
}

void log_rig_start(struct log_rig *t)
{
    log_rig_set(t, t->logs[0].log, true);
    log_rig_start_unlogged(t);
}

void log_rig_begin(struct log_rig *t, const struct rig_config *cfg)
{
    log_rig_prepare(t, cfg);
    log_rig_start(t);
}

void log_rig_end(struct log_rig *t)
{
    rig_stop(&t->rig);
    rig_end(&t->rig);
    for (unsigned i = 0; i < t->n_logs; i++) {
        gw_dirty_log_free(t->logs[i].log);
        munmap(t->logs[i].bits, t->logs[i].size);
        close(t->logs[i].fd);
    }
    free(t->expected);
}

/* ---- the control path ---- */

struct ask {
    struct log_rig *t;
    struct gw_log_state state;
    gw_gpa_t addr;
    unsigned n;
    uint32_t len;
};

static int on_set(void *arg)
{
    struct ask *a = arg;

    gw_queue_set_log(&a->t->rig.queue, &a->state);
    return 0;
}

void log_rig_set(struct log_rig *t, struct gw_dirty_log *log, bool all)
{
    struct ask a = {.t = t, .state = {.log = log, .all = all, .event_fd = t->event_fd}};

    rig_call(&t->rig, on_set, &a);
}

static int on_log_ring(void *arg)
{
    struct ask *a = arg;

    gw_queue_set_ring_log(&a->t->rig.queue, a->addr != 0, a->addr);
    return 0;
}

void log_rig_log_ring(struct log_rig *t, gw_gpa_t addr)
{
    struct ask a = {.t = t, .addr = addr};

    t->log_addr = addr;
    rig_call(&t->rig, on_log_ring, &a);
}

void log_rig_add_region(struct log_rig *t, const struct gw_guest_region *region)
{
    struct gw_map *old = t->rig.map;
    struct gw_latch latch;

    assert_int_equal(gw_guest_mem_add(t->rig.mem, region), 0);
    t->rig.map = rig_map(&t->rig);
    gw_latch_init(&latch, 1);
    rig_adopt_begin(&t->rig, t->rig.map, &latch);
    assert_int_equal(gw_latch_wait(&latch, RIG_WAIT_MS * UINT64_C(1000000)), 0);
    gw_latch_done(&latch);
    gw_map_free(old);
}

/* ---- marks ---- */

void log_rig_expect(struct log_rig *t, gw_gpa_t gpa, uint64_t len)
{
    for (uint64_t page = gpa / 4096; page <= (gpa + len - 1) / 4096; page++)
        t->expected[page / 8] |= (uint8_t)(1u << page % 8);
}

void log_rig_expect_used(struct log_rig *t, uint64_t offset, uint64_t len)
{
    log_rig_expect(t, t->log_addr + offset, len);
}

void log_rig_expect_answers(struct log_rig *t, unsigned first, unsigned n)
{
    if (gw_driver_is_packed(t->rig.driver)) {
        log_rig_expect(t, t->rig.desc + UINT64_C(16) * first, UINT64_C(16) * n);
        return;
    }
    log_rig_expect_used(t, 2, 2);
    log_rig_expect_used(t, 4 + UINT64_C(8) * first, UINT64_C(8) * n);
}

void log_rig_expect_ring(struct log_rig *t, unsigned first, unsigned n)
{
    log_rig_expect_answers(t, first, n);
    log_rig_expect_used(t, 0, gw_driver_is_packed(t->rig.driver) ? 4 : 2);
}

void log_rig_check(struct log_rig *t)
{
    const struct log_rig_log *l = &t->logs[t->current];
    bool differs = false;

    if (memcmp(l->bits, t->expected, l->size) == 0)
        return;
    for (uint64_t page = 0; page < 8 * l->size; page++) {
        bool is = l->bits[page / 8] >> page % 8 & 1, should = t->expected[page / 8] >> page % 8 & 1;

        if (is != should)
            fprintf(stderr, "the page at %#llx is %s\n", (unsigned long long)page * 4096,
                    should ? "not marked" : "marked for nothing");
        differs |= is != should;
    }
    assert_false(differs);
}

void log_rig_clear(struct log_rig *t)
{
    rig_settle(&t->rig);
    memset(t->logs[t->current].bits, 0, t->logs[t->current].size);
    memset(t->expected, 0, gw_dirty_bitmap_size(LOG_RIG_END - 1));
}

bool log_rig_test_and_clear(uint8_t *bits, gw_gpa_t gpa)
{
    uint64_t page = gpa / 4096;
    uint8_t bit = (uint8_t)(1u << page % 8);

    return __atomic_fetch_and(&bits[page / 8], (uint8_t)~bit, __ATOMIC_ACQ_REL) & bit;
}

/* ---- the device and the driver ---- */

static int on_release(void *arg)
{
    struct ask *a = arg;
    struct rig *t = &a->t->rig;

    for (unsigned i = 0; i < a->n; i++)
        gw_request_complete(t->held[i], a->len);
    memmove(t->held, t->held + a->n, (t->n_held - a->n) * sizeof(t->held[0]));
    __atomic_store_n(&t->n_held, t->n_held - a->n, __ATOMIC_RELEASE);
    return 0;
}

void log_rig_release(struct log_rig *t, unsigned n, uint32_t len)
{
    struct ask a = {.t = t, .n = n, .len = len};

    assert_true(n <= t->rig.n_held);
    rig_call(&t->rig, on_release, &a);
}

void log_rig_take(struct log_rig *t, unsigned n)
{
    struct gw_driver_used used[64];

    while (n > 0) {
        assert_int_equal(gw_driver_wait(t->rig.driver, RIG_WAIT_MS), 0);
        n -= gw_driver_take(t->rig.driver, used, n < 64 ? n : 64);
        assert_int_equal(gw_driver_error(t->rig.driver, NULL), 0);
    }
    rig_settle(&t->rig);
}
