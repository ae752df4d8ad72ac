/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The verified load against a RAM disk with faults. The load exists to find lost, torn and
 * misplaced writes, so each of them must be found and named.
 */
#include "../fixtures/split_device.h"
#include "fdcheck.h"
#include "patience.h"

#include "load/load.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define N_QUEUES  2
#define DISK_LEN  (UINT64_C(256) << 10)
#define BLOCK     4096
#define QUEUE_LEN 64

enum fault {
    HONEST,
    LOSE_WRITE,     /* acknowledged, not written */
    TEAR_WRITE,     /* only the first half of a sector */
    MISPLACE_WRITE, /* one sector too far */
    ZERO_READ,
    IO_ERROR,
    NO_STATUS,
    SHORT_LENGTH,
    LONG_LENGTH,
    LOSE_REQUEST,
    LOSE_CALL,
    FORGED_ID,
};

struct disk {
    struct gw_guest_mem *mem;
    struct gw_driver *drivers[N_QUEUES];
    struct gw_driver_config cfg[N_QUEUES];
    struct split_device dev[N_QUEUES];
    struct gw_guest_disk *memory;
    struct gw_guest_load *load;
    char *data; /* of the memfd */
    int fd;
    pthread_t thread;
    int stop;       /* atomic */
    int fault;      /* atomic; fault of the next request of its type */
    unsigned calls; /* calls sent */
};

/* A fault applies once, to a request of the right type. */
static int take_fault(struct disk *t, uint32_t type)
{
    int fault = __atomic_load_n(&t->fault, __ATOMIC_RELAXED);
    bool of_write = fault == LOSE_WRITE || fault == TEAR_WRITE || fault == MISPLACE_WRITE;

    if (fault == HONEST || (of_write && type != VIRTIO_BLK_T_OUT) ||
        ((fault == ZERO_READ || fault == SHORT_LENGTH) && type != VIRTIO_BLK_T_IN))
        return HONEST;
    __atomic_store_n(&t->fault, HONEST, __ATOMIC_RELAXED);
    return fault;
}

static uint32_t transfer(struct disk *t, const struct split_chain *c, uint32_t type, char *at,
                         int fault)
{
    uint32_t len = 0;

    for (unsigned i = 1; i + 1 < c->n_readable + c->n_writable; i++) {
        const struct gw_driver_buf *b = &c->bufs[i];
        void *p = gw_guest_mem_at(t->mem, b->addr, b->len);

        if (type == VIRTIO_BLK_T_IN)
            fault == ZERO_READ ? memset(p, 0, b->len) : memcpy(p, at, b->len);
        else if (fault != LOSE_WRITE)
            memcpy(at + (fault == MISPLACE_WRITE ? 512 : 0), p,
                   fault == TEAR_WRITE ? b->len - 256 : b->len);
        at += b->len;
        len += type == VIRTIO_BLK_T_IN ? b->len : 0;
    }
    return len;
}

static void serve(struct disk *t, struct split_device *dev, int call_fd,
                  const struct split_chain *c)
{
    const struct virtio_blk_outhdr *h = gw_guest_mem_at(t->mem, c->bufs[0].addr, sizeof(*h));
    uint8_t *status = gw_guest_mem_at(t->mem, c->bufs[c->n_readable + c->n_writable - 1].addr, 1);
    int fault = take_fault(t, h->type);
    uint32_t len = transfer(t, c, h->type, t->data + h->sector * 512, fault) + 1;
    uint16_t old = dev->next_used;

    if (fault != NO_STATUS)
        *status = fault == IO_ERROR ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
    if (fault == LOSE_REQUEST)
        return;
    len += fault == LONG_LENGTH ? 1000000 : 0;
    split_device_push(dev, fault == FORGED_ID ? dev->size : c->head,
                      fault == SHORT_LENGTH ? len - 2 : len);
    if (split_device_call_wanted(dev, old) && fault != LOSE_CALL) {
        split_device_call(call_fd);
        t->calls++;
    }
}

static void *disk_main(void *arg)
{
    struct disk *t = arg;
    struct split_chain c;

    while (!__atomic_load_n(&t->stop, __ATOMIC_ACQUIRE)) {
        bool any = false;

        for (unsigned i = 0; i < N_QUEUES; i++) {
            if (!split_device_pop(&t->dev[i], &c))
                continue;
            any = true;
            serve(t, &t->dev[i], gw_driver_call_fd(t->drivers[i]), &c);
        }
        if (!any)
            sched_yield();
    }
    return NULL;
}

static void start(struct disk *t)
{
    t->stop = 0;
    assert_int_equal(pthread_create(&t->thread, NULL, disk_main, t), 0);
}

static void stop(struct disk *t)
{
    __atomic_store_n(&t->stop, 1, __ATOMIC_RELEASE);
    pthread_join(t->thread, NULL);
}

static void make_queue(struct disk *t, unsigned i)
{
    struct gw_driver_config *cfg = &t->cfg[i];

    *cfg = (struct gw_driver_config){.size = sizeof(*cfg),
                                     .mem = t->mem,
                                     .index = i,
                                     .queue_size = QUEUE_LEN,
                                     .indirect_max = 8,
                                     .place = true};
    assert_int_equal(gw_guest_mem_alloc(t->mem, QUEUE_LEN * 16, 16, &cfg->desc), 0);
    assert_int_equal(gw_guest_mem_alloc(t->mem, QUEUE_LEN * 2 + 6, 2, &cfg->avail), 0);
    assert_int_equal(gw_guest_mem_alloc(t->mem, QUEUE_LEN * 8 + 6, 4, &cfg->used), 0);
    assert_int_equal(gw_driver_new(&t->drivers[i], cfg), 0);
    gw_driver_set_features(t->drivers[i], i % 2 ? UINT64_C(1) << 29 : 0);
    split_device_init(&t->dev[i], t->mem, cfg, 0);
    t->dev[i].event_idx = i % 2;
}

static void begin(struct disk *t, struct gw_guest_load_config load)
{
    const struct gw_guest_region region = {.gpa = 0x40000000, .length = 4 << 20};
    const struct gw_guest_disk_config memory = {
        .size = sizeof(memory), .length = DISK_LEN, .block_size = BLOCK, .seed = 5, .blank = true};

    memset(t, 0, sizeof(*t));
    t->fd = memfd_create("disk", MFD_CLOEXEC);
    assert_int_equal(ftruncate(t->fd, DISK_LEN + BLOCK), 0);
    t->data = mmap(NULL, DISK_LEN + BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, t->fd, 0);
    assert_int_equal(gw_guest_mem_new(&t->mem, GW_GUEST_UVA_HOST), 0);
    assert_int_equal(gw_guest_mem_add(t->mem, &region), 0);
    for (unsigned i = 0; i < N_QUEUES; i++)
        make_queue(t, i);
    assert_int_equal(gw_guest_disk_new(&t->memory, &memory), 0);
    load.size = sizeof(load);
    load.disk = t->memory;
    load.drivers = t->drivers;
    load.n_drivers = N_QUEUES;
    assert_int_equal(gw_guest_load_new(&t->load, &load), 0);
    start(t);
}

static void finish(struct disk *t)
{
    gw_guest_load_free(t->load);
    gw_guest_disk_free(t->memory);
    for (unsigned i = 0; i < N_QUEUES; i++)
        gw_driver_free(t->drivers[i]);
    gw_guest_mem_free(t->mem);
    munmap(t->data, DISK_LEN + BLOCK);
    close(t->fd);
}

static void test_fe_load_honest_disk_passes(void **state)
{
    for (unsigned i = 0; i < 8; i++) {
        struct gw_guest_load_stats s;
        struct disk t;

        begin(&t, (struct gw_guest_load_config){.depth = 8,
                                                .write_percent = 40,
                                                .flush_percent = 5,
                                                .segments = i & 1 ? 4 : 1,
                                                .indirect = i & 1 || i & 2,
                                                .sleep = i & 4});
        assert_int_equal(gw_guest_load_run(t.load, 0, 3000, patience_ms()), 0);
        assert_int_equal(gw_guest_load_run(t.load, 5, 0, patience_ms()), 0);
        assert_int_equal(gw_guest_load_drain(t.load, patience_ms()), 0);
        assert_int_equal(gw_guest_disk_check_fd(t.memory, t.fd), 0);
        gw_guest_load_stats(t.load, &s);
        assert_true(s.requests >= 3000 && s.requests == s.reads + s.writes + s.flushes);
        assert_true(s.bytes == (s.reads + s.writes) * BLOCK && s.in_flight == 0);
        assert_true(s.writes > 900 && s.flushes > 50 && s.reads > 1200);
        assert_true(s.p50 && s.p50 <= s.p90 && s.p90 <= s.p99 && s.p999 <= s.max);
        assert_int_equal(s.sleeps != 0, (i & 4) != 0);
        stop(&t);
        assert_true(t.calls == 0 || i & 4);
        finish(&t);
    }
}

static void expect_fault(enum fault fault, bool sleeps, int result, const char *text)
{
    struct disk t;
    int r = 0;

    begin(&t, (struct gw_guest_load_config){
                  .depth = 4, .write_percent = 50, .sleep = sleeps, .seed = 3});
    assert_int_equal(gw_guest_load_run(t.load, 0, 2000, patience_ms()), 0);
    assert_string_equal(gw_guest_load_error(t.load), "");
    /* Half of the lost writes are overwritten before they are read, and do no harm. */
    for (unsigned i = 0; i < 32 && r == 0; i++) {
        __atomic_store_n(&t.fault, fault, __ATOMIC_RELAXED);
        r = gw_guest_load_run(t.load, 0, 2000, 500);
    }
    stop(&t);
    if (r != result || !strstr(gw_guest_load_error(t.load), text))
        fail_msg("fault %d: %d, %s", fault, r, gw_guest_load_error(t.load));
    finish(&t);
}

static void test_fe_load_every_fault_is_found(void **state)
{
    for (unsigned sleeps = 0; sleeps < 2; sleeps++) {
        expect_fault(LOSE_WRITE, sleeps, -EILSEQ, "a lost write");
        expect_fault(TEAR_WRITE, sleeps, -EILSEQ, "torn");
        expect_fault(MISPLACE_WRITE, sleeps, -EILSEQ, "sector");
        expect_fault(ZERO_READ, sleeps, -EILSEQ, "all zeros");
        expect_fault(IO_ERROR, sleeps, -EIO, "IOERR");
        expect_fault(NO_STATUS, sleeps, -EPROTO, "never written");
        expect_fault(SHORT_LENGTH, sleeps, -EPROTO, "used length");
        expect_fault(LONG_LENGTH, sleeps, -EPROTO, "used length");
        expect_fault(FORGED_ID, sleeps, -EPROTO, "beyond the ring");
    }
}

static void test_fe_load_missing_completion_is_a_stall(void **state)
{
    struct disk t;

    begin(&t, (struct gw_guest_load_config){.depth = 1, .write_percent = 50});
    t.fault = LOSE_REQUEST;
    assert_int_equal(gw_guest_load_run(t.load, 20, 0, patience_ms()),
                     0); /* the other queue continues */
    assert_int_equal(gw_guest_load_drain(t.load, 1000), -ETIMEDOUT);
    assert_non_null(strstr(gw_guest_load_error(t.load), "1 requests in flight"));
    stop(&t);
    finish(&t);
}

static void test_fe_load_missing_call_is_told(void **state)
{
    struct disk t;

    begin(&t, (struct gw_guest_load_config){.depth = 1, .sleep = true});
    /*
     * A queue that requests no calls loses none. It may take several calls until both queues sleep.
     */
    for (unsigned i = 0; i < 100; i++) {
        struct gw_driver_blk b;

        assert_int_equal(gw_driver_blk_init(&b, t.drivers[1]), 0);
        __atomic_store_n(&t.fault, LOSE_CALL, __ATOMIC_RELAXED);
        assert_int_equal(gw_driver_blk_add(&b, GW_DRIVER_BLK_FLUSH, 0, NULL, 0, 9, 0), 0);
        if (gw_driver_blk_wait(&b, 9, 100) == -ENOMSG)
            break;
        assert_int_not_equal(i, 99);
        gw_driver_blk_done(&b);
    }
    stop(&t);
    finish(&t);
}

/* After a crash, both the old and the new generation are correct until a read or write decides. */
static void test_fe_load_abandoned_writes_may_be_either(void **state)
{
    struct disk t;

    begin(&t, (struct gw_guest_load_config){.depth = 8, .write_percent = 80});
    for (unsigned round = 0; round < 20; round++) {
        assert_int_equal(gw_guest_load_run(t.load, 0, 500, patience_ms()), 0);
        assert_int_equal(gw_guest_load_run(t.load, 1, 0, patience_ms()), 0);
        stop(&t); /* between requests: some are completed, some not, some not popped */
        gw_guest_load_abandon(t.load);
        assert_int_equal(gw_guest_disk_check_fd(t.memory, t.fd), 0);
        for (unsigned i = 0; i < N_QUEUES; i++) {
            gw_driver_reset(t.drivers[i], (uint16_t)(round * 1000));
            split_device_init(&t.dev[i], t.mem, &t.cfg[i], (uint16_t)(round * 1000));
            t.dev[i].event_idx = i % 2;
        }
        start(&t);
    }
    assert_int_equal(gw_guest_load_drain(t.load, patience_ms()), 0);
    stop(&t);
    finish(&t);
}

/* Read all blocks in order through the device, also those that no random read reached. */
static void test_fe_load_reads_back_every_block(void **state)
{
    for (uint64_t block = 0; block < DISK_LEN / BLOCK; block += DISK_LEN / BLOCK / 8 - 1) {
        struct gw_guest_load_stats before, after;
        char text[32];
        struct disk t;

        begin(&t, (struct gw_guest_load_config){
                      .depth = 5, .write_percent = 100, .sleep = block % 2, .seed = block});
        assert_int_equal(gw_guest_load_run(t.load, 0, 3000, 5000), 0); /* writes each block */
        gw_guest_load_stats(t.load, &before);
        assert_int_equal(gw_guest_load_read_back(t.load, 0, 0, 5000), 0);
        gw_guest_load_stats(t.load, &after);
        assert_true(after.reads == before.reads && after.in_flight == 0);
        t.data[block * BLOCK + 700] ^= 1;
        assert_int_equal(gw_guest_load_read_back(t.load, 0, block, 5000), block ? 0 : -EILSEQ);
        assert_int_equal(gw_guest_load_read_back(t.load, block, 1, 5000), -EILSEQ);
        snprintf(text, sizeof(text), "of block %u:", (unsigned)block);
        assert_non_null(strstr(gw_guest_load_error(t.load), text));
        assert_int_equal(gw_guest_load_read_back(t.load, 0, 0, 5000), -EILSEQ);
        assert_int_equal(gw_guest_load_read_back(t.load, DISK_LEN / BLOCK + 1, 1, 5000), -EINVAL);
        stop(&t);
        finish(&t);
    }
}

static void test_fe_load_reading_back_is_interrupted(void **state)
{
    struct disk t;

    begin(&t, (struct gw_guest_load_config){.depth = 4, .write_percent = 50});
    gw_guest_load_interrupt(t.load);
    assert_int_equal(gw_guest_load_read_back(t.load, 0, 0, 5000), -EINTR);
    assert_int_equal(gw_guest_load_read_back(t.load, 0, 0, 5000), 0);
    assert_int_equal(gw_guest_load_run(t.load, 0, 500, 5000), 0);
    stop(&t);
    finish(&t);
}

/* In a migration the load continues in a copy of the memory, with its requests in flight. */
static void test_fe_load_goes_on_in_a_clone(void **state)
{
    const uint64_t len = 4 << 20;
    struct disk t;

    begin(&t, (struct gw_guest_load_config){.depth = 8, .write_percent = 50, .segments = 2});
    for (unsigned round = 0; round < 10; round++) {
        struct gw_guest_mem *clone;

        assert_int_equal(gw_guest_load_run(t.load, 2, 0, patience_ms()), 0);
        stop(&t);
        assert_int_equal(gw_guest_mem_clone(&clone, t.mem, GW_GUEST_UVA_HOST), 0);
        memcpy(gw_guest_mem_at(clone, 0x40000000, len), gw_guest_mem_at(t.mem, 0x40000000, len),
               len);
        for (unsigned i = 0; i < N_QUEUES; i++) {
            struct split_device old = t.dev[i];

            assert_int_equal(gw_driver_set_mem(t.drivers[i], clone), 0);
            split_device_init(&t.dev[i], clone, &t.cfg[i], old.next_avail);
            t.dev[i].next_used = old.next_used;
            t.dev[i].event_idx = old.event_idx;
        }
        assert_int_equal(gw_guest_load_set_mem(t.load, clone), 0);
        memset(gw_guest_mem_at(t.mem, 0x40000000, len), 0xaa, len);
        gw_guest_mem_free(t.mem);
        t.mem = clone;
        start(&t);
    }
    assert_int_equal(gw_guest_load_drain(t.load, patience_ms()), 0);
    assert_int_equal(gw_guest_disk_check_fd(t.memory, t.fd), 0);
    stop(&t);
    finish(&t);
}

/*
 * The same between two hosts: another disk, drivers and load continue from a saved state, including
 * held buffers.
 */
static void move_to(struct disk *t, struct disk *to, struct gw_guest_load_config load)
{
    const uint64_t len = 4 << 20;
    void *saved[N_QUEUES], *state;
    size_t lens[N_QUEUES], n;

    begin(to, load);
    stop(to);
    assert_int_equal(gw_guest_load_save(t->load, &state, &n), 0);
    memcpy(gw_guest_mem_at(to->mem, 0x40000000, len), gw_guest_mem_at(t->mem, 0x40000000, len),
           len);
    memcpy(to->data, t->data, DISK_LEN);
    for (unsigned i = 0; i < N_QUEUES; i++) {
        assert_int_equal(gw_driver_save(t->drivers[i], &saved[i], &lens[i]), 0);
        assert_int_equal(gw_driver_restore(to->drivers[i], saved[i], lens[i]), 0);
        to->dev[i].next_avail = t->dev[i].next_avail;
        to->dev[i].next_used = t->dev[i].next_used;
        free(saved[i]);
    }
    assert_int_equal(gw_guest_load_restore(to->load, state, n), 0);
    for (size_t cut = 0; cut < n; cut += 1 + n / 300)
        assert_int_equal(gw_guest_load_restore(to->load, state, cut), -EINVAL);
    free(state);
    memset(gw_guest_mem_at(t->mem, 0x40000000, len), 0xaa, len);
    finish(t);
    start(to);
}

static void test_fe_load_goes_on_at_another_host(void **state)
{
    const struct gw_guest_load_config load = {
        .depth = 8, .write_percent = 50, .flush_percent = 5, .hold_percent = 30};
    struct disk t[2];

    begin(&t[0], load);
    assert_int_equal(gw_guest_load_hold_add(t[0].load, 0x40000000 + (3 << 20), 512 << 10), 0);
    for (unsigned i = 0; i < 10; i++) {
        struct disk *from = &t[i % 2], *to = &t[1 - i % 2];

        assert_int_equal(gw_guest_load_run(from->load, 0, 500, patience_ms()), 0);
        assert_int_equal(gw_guest_load_run(from->load, 1, 0, patience_ms()), 0);
        stop(from);
        move_to(from, to, load);
        assert_int_equal(gw_guest_load_hold_check(to->load), 0);
    }
    assert_int_equal(gw_guest_load_run(t[0].load, 0, 500, patience_ms()), 0);
    assert_int_equal(gw_guest_load_drain(t[0].load, patience_ms()), 0);
    assert_int_equal(gw_guest_disk_check_fd(t[0].memory, t[0].fd), 0);
    stop(&t[0]);
    finish(&t[0]);
}

static void test_fe_load_changed_state_is_refused_or_runs(void **state)
{
    const struct gw_guest_load_config load = {.depth = 4, .write_percent = 50, .hold_percent = 50};
    struct gw_guest_load_sample sample;
    unsigned n_refused = 0;
    uint8_t *bytes;
    struct disk t;
    size_t len;
    void *saved;

    begin(&t, load);
    assert_int_equal(gw_guest_load_hold_add(t.load, 0x40000000 + (3 << 20), 128 << 10), 0);
    assert_int_equal(gw_guest_load_run(t.load, 0, 300, patience_ms()), 0);
    stop(&t);
    assert_int_equal(gw_guest_load_save(t.load, &saved, &len), 0);
    bytes = saved;
    for (size_t at = 0; at < len; at++) {
        uint8_t byte = bytes[at];

        bytes[at] ^= (uint8_t)(1u << at % 8);
        if (gw_guest_load_restore(t.load, saved, len) < 0)
            n_refused++;
        else
            gw_guest_load_hold_check(t.load); /* its result does not matter */
        bytes[at] = byte;
    }
    assert_true(n_refused > 100);
    assert_int_equal(gw_guest_load_restore(t.load, saved, len), 0);
    gw_guest_load_sample(t.load, &sample);
    start(&t);
    assert_int_equal(gw_guest_load_run(t.load, 0, 300, patience_ms()), 0);
    assert_int_equal(gw_guest_load_drain(t.load, patience_ms()), 0);
    stop(&t);
    free(saved);
    finish(&t);
}

static void *interrupt_main(void *arg)
{
    usleep(20000);
    gw_guest_load_interrupt(arg);
    return NULL;
}

static void test_fe_load_can_be_interrupted(void **state)
{
    for (unsigned i = 0; i < 4; i++) {
        pthread_t thread;
        struct disk t;

        begin(&t, (struct gw_guest_load_config){.sleep = i & 1, .depth = 4, .write_percent = 10});
        if (i & 2) { /* otherwise it sleeps forever */
            stop(&t);
        }
        assert_int_equal(pthread_create(&thread, NULL, interrupt_main, t.load), 0);
        assert_int_equal(gw_guest_load_run(t.load, 0, 0, 0), 0);
        pthread_join(thread, NULL);
        if (!(i & 2))
            stop(&t);
        finish(&t);
    }
}

static void test_fe_load_bad_config_is_refused(void **state)
{
    struct gw_guest_disk_config bad = {.size = sizeof(bad), .length = 4096, .block_size = 1000};
    struct gw_guest_load_config cfg = {.size = sizeof(cfg)};
    struct gw_guest_disk *disk;
    struct gw_guest_load *l;
    struct disk t;

    assert_int_equal(gw_guest_disk_new(&disk, &bad), -EINVAL);
    bad.block_size = 8192;
    assert_int_equal(gw_guest_disk_new(&disk, &bad), -EINVAL);
    begin(&t, (struct gw_guest_load_config){.depth = 1});
    stop(&t);
    cfg.disk = t.memory;
    cfg.drivers = t.drivers;
    cfg.n_drivers = N_QUEUES;
    cfg.write_percent = 60;
    cfg.flush_percent = 50;
    assert_int_equal(gw_guest_load_new(&l, &cfg), -EINVAL);
    cfg.flush_percent = 0;
    cfg.segments = 7;
    assert_int_equal(gw_guest_load_new(&l, &cfg), -EINVAL);
    cfg.segments = 8;
    cfg.indirect = true;
    assert_int_equal(gw_guest_load_new(&l, &cfg), -EINVAL);
    cfg.segments = 1;
    cfg.indirect = false;
    cfg.depth = 22; /* with three descriptors each */
    assert_int_equal(gw_guest_load_new(&l, &cfg), -ENOSPC);
    cfg.depth = 32; /* the number of blocks */
    assert_int_equal(gw_guest_load_new(&l, &cfg), -EINVAL);
    finish(&t);
}

static void test_fe_load_single_requests_are_answered(void **state)
{
    struct gw_driver_buf data;
    struct gw_driver_blk b;
    struct disk t;

    begin(&t, (struct gw_guest_load_config){.depth = 1});
    data.len = 1024;
    assert_int_equal(gw_guest_mem_alloc(t.mem, 1024, 512, &data.addr), 0);
    assert_int_equal(gw_driver_blk_init(&b, t.drivers[1]), 0);
    memset(gw_guest_mem_at(t.mem, data.addr, 1024), 'w', 1024);
    assert_int_equal(gw_driver_blk_add(&b, GW_DRIVER_BLK_WRITE, 3, &data, 1, 1, 0), 0);
    assert_int_equal(gw_driver_blk_wait(&b, 1, patience_ms()), 0);
    assert_true(t.data[3 * 512] == 'w' && t.data[5 * 512 - 1] == 'w' && t.data[5 * 512] == 0);
    assert_int_equal(gw_driver_blk_add(&b, GW_DRIVER_BLK_READ, 4, &data, 1, 2, GW_DRIVER_INDIRECT),
                     0);
    assert_int_equal(gw_driver_blk_wait(&b, 2, patience_ms()), 0);
    assert_int_equal(*(char *)gw_guest_mem_at(t.mem, data.addr + 512, 1), 0);
    __atomic_store_n(&t.fault, IO_ERROR, __ATOMIC_RELAXED);
    assert_int_equal(gw_driver_blk_add(&b, GW_DRIVER_BLK_FLUSH, 0, NULL, 0, 3, 0), 0);
    assert_int_equal(gw_driver_blk_wait(&b, 3, patience_ms()), -EIO);
    stop(&t);
    assert_int_equal(gw_driver_blk_add_range(&b, GW_DRIVER_BLK_DISCARD, 8, 16, 0, 4, 0), 0);
    assert_int_equal(gw_driver_blk_status(&b), -EPROTO);
    gw_driver_blk_done(&b);
    finish(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fe_load_honest_disk_passes),
        FDCHECK_TEST(test_fe_load_every_fault_is_found),
        FDCHECK_TEST(test_fe_load_missing_completion_is_a_stall),
        FDCHECK_TEST(test_fe_load_missing_call_is_told),
        FDCHECK_TEST(test_fe_load_abandoned_writes_may_be_either),
        FDCHECK_TEST(test_fe_load_reads_back_every_block),
        FDCHECK_TEST(test_fe_load_reading_back_is_interrupted),
        FDCHECK_TEST(test_fe_load_goes_on_in_a_clone),
        FDCHECK_TEST(test_fe_load_goes_on_at_another_host),
        FDCHECK_TEST(test_fe_load_changed_state_is_refused_or_runs),
        FDCHECK_TEST(test_fe_load_can_be_interrupted),
        FDCHECK_TEST(test_fe_load_bad_config_is_refused),
        FDCHECK_TEST(test_fe_load_single_requests_are_answered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
