/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A device that accesses guest memory by the addresses in its requests, and locks every region into
 * memory from region_added to region_gone. The front-end migrates the guest under load: it copies
 * what the dirty log names, while it replaces the log, sends its memory table again, and adds and
 * removes a region. No buffer of a request lies in the memory that is compared, so each mark in it
 * is one of a hold.
 */
#include "fdcheck.h"
#include "patience.h"

#include "base/clock.h"
#include "base/random.h"
#include <godwit.h>
#include <godwit/frontend/frontend.h>
#include <godwit/frontend/log.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define RINGS     UINT64_C(0x40000000) /* rings and requests */
#define RINGS_LEN UINT64_C(0x20000)
#define DATA      UINT64_C(0x80000000) /* two adjacent regions */
#define HALF      UINT64_C(0x40000)
#define DATA_LEN  (2 * HALF)
#define HOT       UINT64_C(0xc0000000)
#define HOT_LEN   UINT64_C(0x10000)
#define LEN_MAX   20000u /* of an access */
#define RUN_MS    400

/* ---- the device ---- */

enum kind {
    DMA_WRITE = 0,
    DMA_STORE,
    DMA_IOVECS,
    DMA_FROM_FILE,
    DMA_READ,
    DMA_TO_FILE,
    N_KINDS,
};

/* What the driver asks for, and the answer. */
struct command {
    uint32_t kind;
    uint32_t seed;
    uint64_t gpa;
    uint64_t len;
};

struct device {
    int fd;             /* LEN_MAX bytes */
    unsigned n_regions; /* atomic: locked */
    unsigned n_wrong;   /* atomic */
};

static bool is_locked(const struct gw_memory_region *region)
{
    return region && region->user;
}

/* The mlock(2) of sanitizers does nothing. */
static int region_added(void *dev, struct gw_memory_region *region)
{
    struct device *d = dev;

    if (syscall(SYS_mlock, region->addr, region->size) < 0)
        return -errno;
    region->user = d;
    __atomic_add_fetch(&d->n_regions, 1, __ATOMIC_RELAXED);
    return 0;
}

static void region_gone(void *dev, struct gw_memory_region *region)
{
    struct device *d = dev;

    if (syscall(SYS_munlock, region->addr, region->size) < 0 || region->user != d)
        __atomic_add_fetch(&d->n_wrong, 1, __ATOMIC_RELAXED);
    region->user = NULL;
    __atomic_sub_fetch(&d->n_regions, 1, __ATOMIC_RELAXED);
}

static int64_t write_iovecs(struct gw_memory *m, const struct command *c)
{
    struct iovec iov[3];
    int n = gw_memory_iovecs(m, c->gpa, c->len, iov, 3);

    for (int i = 0; i < n; i++)
        memset(iov[i].iov_base, (int)c->seed, iov[i].iov_len);
    return n < 0 ? n : gw_memory_mark_dirty(m, c->gpa, c->len);
}

static int64_t execute(struct device *d, struct gw_memory *m, const struct command *c)
{
    uint8_t buf[LEN_MAX];
    size_t len = c->len < LEN_MAX ? c->len : LEN_MAX;

    switch (c->kind) {
    case DMA_WRITE:
        memset(buf, (int)c->seed, len);
        /* More than the buffer has only if it is refused without a look at the buffer. */
        return gw_memory_write(m, c->gpa, buf, c->len);
    case DMA_STORE:
        return gw_memory_store64(m, c->gpa, c->seed, __ATOMIC_RELEASE);
    case DMA_IOVECS:
        return write_iovecs(m, c);
    case DMA_FROM_FILE:
        memset(buf, (int)c->seed, len);
        if (pwrite(d->fd, buf, len, 0) != (ssize_t)len)
            return -EIO;
        return gw_memory_from_file(m, c->gpa, c->len, d->fd, 0);
    case DMA_READ:
        return gw_memory_read(m, c->gpa, buf, c->len);
    default:
        return gw_memory_to_file(m, c->gpa, c->len, d->fd, 0);
    }
}

static void serve(struct device *d, struct gw_request *r)
{
    struct command c;
    struct gw_memory m;
    int64_t result = -EINVAL;

    if (gw_request_read(r, &c, sizeof(c)) == sizeof(c)) {
        result = gw_memory_hold(&m, r->queue);
        if (result == 0)
            result = execute(d, &m, &c);
        if (result >= 0 && !is_locked(gw_memory_find(&m, c.gpa)))
            __atomic_add_fetch(&d->n_wrong, 1, __ATOMIC_RELAXED);
        gw_memory_release(&m);
    }
    gw_request_complete(r, (uint32_t)gw_request_write(r, &result, sizeof(result)));
}

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct gw_request *reqs[8];
    unsigned n = gw_queue_pop(q, reqs, 8);

    for (unsigned i = 0; i < n; i++)
        serve(dev, reqs[i]);
    return 0;
}

static const struct gw_device_ops ops = {.size = sizeof(ops),
                                         .queue_ready = queue_ready,
                                         .region_added = region_added,
                                         .region_gone = region_gone};

/* ---- the guest ---- */

struct test {
    struct device device;
    struct gw_daemon *daemon;
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_frontend *fe;
    struct gw_frontend_options opt;
    gw_gpa_t command;        /* followed by the answer */
    struct command *request; /* there; for the load, because others change `mem` */
    uint64_t random;
    long locked_before;
    /* The load. */
    pthread_t thread;
    bool ends; /* atomic */
    uint64_t n_done;
    int64_t failure;
    uint8_t copy[DATA_LEN];
    struct gw_guest_log *log;
};

/* Locked memory of the process, in kB. */
static long read_locked(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    long kb = -1;

    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "VmLck: %ld", &kb) == 1)
            break;
    fclose(f);
    return kb;
}

static void add_region(struct test *t, gw_gpa_t gpa, uint64_t len, bool no_alloc)
{
    const struct gw_guest_region region = {.gpa = gpa, .length = len, .no_alloc = no_alloc};

    assert_int_equal(gw_guest_mem_add(t->mem, &region), 0);
}

static void begin(struct test *t, enum gw_loop_kind loop)
{
    struct gw_daemon_config cfg = {.size = sizeof(cfg),
                                   .loop = loop,
                                   .log_level = GW_LOG_ERROR,
                                   .handle_sigbus = true,
                                   .no_postcopy = true};
    struct gw_frontend_config fe = {.size = sizeof(fe), .timeout_ms = patience_ms()};
    struct gw_driver_config driver = {.size = sizeof(driver), .queue_size = 16};
    int ends[2];

    memset(t, 0, sizeof(*t));
    t->locked_before = read_locked();
    t->random = 1;
    t->device.fd = memfd_create("device", MFD_CLOEXEC);
    assert_int_equal(ftruncate(t->device.fd, LEN_MAX), 0);
    assert_int_equal(gw_guest_mem_new(&t->mem, UINT64_C(0x7f0000000000)), 0);
    add_region(t, RINGS, RINGS_LEN, false);
    add_region(t, DATA, HALF, true);
    add_region(t, DATA + HALF, HALF, true);
    driver.mem = t->mem;
    assert_int_equal(gw_driver_new(&t->driver, &driver), 0);
    assert_int_equal(gw_guest_mem_alloc(t->mem, 64, 64, &t->command), 0);
    t->request = gw_guest_mem_at(t->mem, t->command, 64);
    assert_int_equal(gw_daemon_new(&t->daemon, &cfg, &ops, &t->device), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(gw_daemon_start(t->daemon, ends[0]), 0);
    assert_int_equal(gw_frontend_new(&t->fe, &fe), 0);
    assert_int_equal(gw_frontend_attach(t->fe, ends[1]), 0);
    t->opt = (struct gw_frontend_options){
        .size = sizeof(t->opt), .mem = t->mem, .drivers = &t->driver, .n_drivers = 1};
    if (gw_frontend_start(t->fe, &t->opt) < 0)
        fail_msg("%s", gw_frontend_last_error());
}

static void end(struct test *t)
{
    gw_frontend_free(t->fe);
    assert_int_equal(gw_daemon_wait(t->daemon), 0);
    gw_daemon_free(t->daemon);
    assert_int_equal(t->device.n_wrong, 0);
    assert_int_equal(t->device.n_regions, 0);
    gw_driver_free(t->driver);
    gw_guest_mem_free(t->mem);
    close(t->device.fd);
    assert_int_equal(read_locked(), t->locked_before);
}

/* One request. Returns: its result; a negative errno also if it got no answer. */
static int64_t run(struct test *t, enum kind kind, gw_gpa_t gpa, uint64_t len)
{
    struct gw_driver_buf bufs[] = {{t->command, sizeof(struct command)},
                                   {t->command + sizeof(struct command), sizeof(int64_t)}};
    struct command *c = t->request;
    struct gw_driver_used used;
    int64_t result;
    int r;

    *c = (struct command){
        .kind = kind, .seed = (uint32_t)gw_random_next(&t->random), .gpa = gpa, .len = len};
    r = gw_driver_add(t->driver, bufs, 1, 1, 0, 0);
    if (r < 0)
        return r;
    gw_driver_kick(t->driver);
    r = gw_driver_wait(t->driver, patience_ms());
    if (r < 0 || gw_driver_take(t->driver, &used, 1) != 1 || used.len != sizeof(result))
        return r < 0 ? r : -EPROTO;
    memcpy(&result, c + 1, sizeof(result));
    return result;
}

/* ---- a migration ---- */

static void *load(void *arg)
{
    struct test *t = arg;

    while (!__atomic_load_n(&t->ends, __ATOMIC_ACQUIRE) && t->failure == 0) {
        enum kind kind = (enum kind)gw_random_below(&t->random, N_KINDS);
        uint64_t len = 1 + gw_random_below(&t->random, LEN_MAX);
        gw_gpa_t gpa = DATA + gw_random_below(&t->random, DATA_LEN - len);
        int64_t result = run(t, kind, kind == DMA_STORE ? gpa / 8 * 8 : gpa, len);
        bool is_file = kind == DMA_FROM_FILE || kind == DMA_TO_FILE;

        if (result != (is_file ? (int64_t)len : 0))
            t->failure = result < 0 ? result : -EIO;
        t->n_done++;
    }
    return NULL;
}

static void copy_range(void *arg, gw_gpa_t gpa, uint64_t len)
{
    struct test *t = arg;

    for (gw_gpa_t page = gpa; page < gpa + len; page += 4096)
        if (page >= DATA && page - DATA < DATA_LEN)
            memcpy(t->copy + (page - DATA), gw_guest_mem_at(t->mem, page, 4096), 4096);
}

static void did(int r)
{
    if (r < 0)
        fail_msg("%s (%d)", gw_frontend_last_error(), r);
}

/* Switch to another log, and read the last marks of the previous one. */
static void replace_log(struct test *t, uint64_t length)
{
    const struct gw_guest_log_config cfg = {.size = sizeof(cfg), .length = length};
    struct gw_guest_log *old = t->log;

    assert_int_equal(gw_guest_log_new(&t->log, &cfg), 0);
    did(gw_frontend_set_log_base(t->fe, t->log));
    if (old)
        (void)gw_guest_log_take(old, copy_range, t);
    gw_guest_log_free(old);
}

static void change(struct test *t, unsigned i, bool *has_hot)
{
    if (i % 3 == 0)
        replace_log(t, (HOT + HOT_LEN) / 4096 / 8 + 8 * (i % 5));
    if (i % 4 == 0)
        did(gw_frontend_set_mem_table(t->fe, t->mem));
    if (*has_hot) {
        did(gw_frontend_rem_mem_reg(t->fe, t->mem, HOT));
        assert_int_equal(gw_guest_mem_remove(t->mem, HOT), 0);
    } else {
        add_region(t, HOT, HOT_LEN, true);
        did(gw_frontend_add_mem_reg(t->fe, t->mem, HOT));
    }
    *has_hot = !*has_hot;
}

static void migrate(enum gw_loop_kind loop)
{
    static struct test t;
    bool has_hot = false;
    uint64_t until;
    unsigned n = 0;

    begin(&t, loop);
    assert_int_equal(pthread_create(&t.thread, NULL, load, &t), 0);
    replace_log(&t, (HOT + HOT_LEN) / 4096 / 8);
    did(gw_frontend_set_log_all(t.fe, true));
    copy_range(&t, DATA, DATA_LEN);
    until = gw_clock_ms() + RUN_MS;
    for (; gw_clock_ms() < until || n < 20; n++) {
        (void)gw_guest_log_take(t.log, copy_range, &t);
        change(&t, n, &has_hot);
    }
    __atomic_store_n(&t.ends, true, __ATOMIC_RELEASE);
    pthread_join(t.thread, NULL);
    assert_int_equal(t.failure, 0);
    did(gw_frontend_stop(t.fe, &t.driver, 1));
    (void)gw_guest_log_take(t.log, copy_range, &t);
    printf("%lu requests, %u changes\n", (unsigned long)t.n_done, n);
    assert_true(t.n_done > 0);
    for (unsigned i = 0; i < 2; i++)
        assert_memory_equal(t.copy + i * HALF, gw_guest_mem_at(t.mem, DATA + i * HALF, HALF), HALF);
    end(&t);
    gw_guest_log_free(t.log);
}

static void test_memory_migrates_under_load_epoll(void **state)
{
    migrate(GW_LOOP_EPOLL);
}

static void test_memory_migrates_under_load_any_loop(void **state)
{
    migrate(GW_LOOP_AUTO);
}

/* ---- hostile addresses ---- */

static void test_memory_refuses_hostile_addresses(void **state)
{
    static const struct {
        gw_gpa_t gpa;
        uint64_t len;
    } cases[] = {
        {0, 1},
        {DATA - 1, 2},
        {DATA + DATA_LEN - 1, 2},
        {DATA + DATA_LEN, 1},
        {RINGS + RINGS_LEN - 4, 8},
        {DATA, UINT64_MAX},
        {DATA, UINT64_MAX - DATA + 1},
        {UINT64_MAX, 1},
        {UINT64_MAX, UINT64_MAX},
        {UINT64_MAX - 7, 16},
        {UINT64_C(1) << 63, 4096},
        {DATA + UINT64_C(0x7f0000000000), 8}, /* an address of the front-end */
    };
    static struct test t;

    begin(&t, GW_LOOP_EPOLL);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (unsigned kind = 0; kind < N_KINDS; kind++) {
            if (kind == DMA_STORE && cases[i].gpa % 8 == 7)
                continue; /* not aligned, as the next test checks */
            if (kind == DMA_STORE && cases[i].gpa == DATA)
                continue; /* its length is always 8 */
            assert_int_equal(run(&t, (enum kind)kind, cases[i].gpa, cases[i].len), -EFAULT);
        }
    for (unsigned i = 1; i < 8; i++)
        assert_int_equal(run(&t, DMA_STORE, DATA + i, 8), -EINVAL);
    assert_int_equal(run(&t, DMA_WRITE, DATA + HALF - 10, 20), 0);
    end(&t);
}

/* The front-end hangs up with all of it mapped and locked. */
static void test_memory_is_unlocked_at_a_hang_up(void **state)
{
    static struct test t;

    begin(&t, GW_LOOP_EPOLL);
    assert_int_equal(run(&t, DMA_WRITE, DATA, 20), 0);
    assert_true(read_locked() > t.locked_before);
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_memory_migrates_under_load_epoll),
        FDCHECK_TEST(test_memory_migrates_under_load_any_loop),
        FDCHECK_TEST(test_memory_refuses_hostile_addresses),
        FDCHECK_TEST(test_memory_is_unlocked_at_a_hang_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
