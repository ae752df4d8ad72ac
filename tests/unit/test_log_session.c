/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The dirty log as a front-end drives it: a whole daemon, and SET_LOG_BASE and SET_LOG_FD as raw
 * messages. The device answers every request at once, or holds it, and writes all of its buffers.
 */
#include "core/proto.h"
#include "log/dirty_bitmap.h"

#include "fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <godwit.h>
#include <godwit/frontend.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define BIT(n) (UINT64_C(1) << (n))
#define GPA    UINT64_C(0x40000000)
#define MEMORY (UINT64_C(4) << 20)
#define LATE   (GPA + (UINT64_C(64) << 20)) /* where regions are added */
#define USED   (GPA + (UINT64_C(32) << 20)) /* log_guest_addr of queue 0: no memory is there */
#define UVA    UINT64_C(0x7f0000000000)
#define WAIT   10000u

enum { QUEUES = 2, SIZE = 256, PAGE = 4096 };

struct bed {
    struct gw_daemon *daemon;
    struct gw_guest_mem *mem;
    struct gw_driver_config rings[QUEUES];
    struct gw_driver *drivers[QUEUES];
    struct gw_frontend *fe;
    gw_gpa_t data;
    char path[64];
    int log; /* the fd of the last log made */
    uint64_t log_size;
    uint64_t used_len;
    bool hold;               /* atomic: requests wait for release() */
    struct gw_request *held; /* atomic: one at most */
    unsigned n_ready;        /* atomic */
    unsigned n_over;         /* atomic: sessions */
    pthread_mutex_t lock;
    char message[512]; /* lock: the last warning */
};

/* ---- the device ---- */

static void write_all(struct gw_request *r)
{
    for (unsigned i = 0; i < r->n_in; i++)
        memset(r->in[i].iov_base, 0xa5, r->in[i].iov_len);
    gw_request_complete(r, (uint32_t)r->in_len);
}

static int ready(void *dev, struct gw_queue *q)
{
    struct bed *b = dev;
    struct gw_request *r;

    __atomic_add_fetch(&b->n_ready, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&b->held, __ATOMIC_ACQUIRE) && gw_queue_pop(q, &r, 1) == 1) {
        if (__atomic_load_n(&b->hold, __ATOMIC_ACQUIRE))
            __atomic_store_n(&b->held, r, __ATOMIC_RELEASE);
        else
            write_all(r);
    }
    return 0;
}

static void wait_held(struct bed *b)
{
    for (unsigned ms = 0; !__atomic_load_n(&b->held, __ATOMIC_ACQUIRE); ms++) {
        assert_true(ms < WAIT);
        usleep(1000);
    }
}

/* From another thread: the queues are GW_SYNC_MUTEX. */
static void release(struct bed *b)
{
    struct gw_request *r = __atomic_exchange_n(&b->held, NULL, __ATOMIC_ACQ_REL);

    assert_non_null(r);
    __atomic_store_n(&b->hold, false, __ATOMIC_RELEASE);
    write_all(r);
}

static void *release_soon(void *arg)
{
    usleep(30000);
    release(arg);
    return NULL;
}

static void take_diag(void *arg, enum gw_diag_level level, const char *message)
{
    struct bed *b = arg;

    pthread_mutex_lock(&b->lock);
    if (level <= GW_DIAG_WARNING)
        snprintf(b->message, sizeof(b->message), "%s", message);
    pthread_mutex_unlock(&b->lock);
    if (strstr(message, "the session is over"))
        __atomic_add_fetch(&b->n_over, 1, __ATOMIC_RELEASE);
}

static void told(struct bed *b, const char *text)
{
    pthread_mutex_lock(&b->lock);
    if (!strstr(b->message, text))
        fail_msg("not \"%s\" was told, but \"%s\"", text, b->message);
    pthread_mutex_unlock(&b->lock);
}

static const struct gw_device_ops ops = {.size = sizeof(ops), .queue_ready = ready};

/* ---- the bed ---- */

static void add_region(struct bed *b, gw_gpa_t gpa, uint64_t len)
{
    struct gw_guest_region region = {.gpa = gpa, .length = len, .no_alloc = gpa != GPA};

    assert_int_equal(gw_guest_mem_add(b->mem, &region), 0);
}

static void begin(struct bed *b)
{
    struct gw_daemon_config cfg = {
        .size = sizeof(cfg),
        .num_queues = QUEUES,
        .num_workers = QUEUES,
        .sync = GW_SYNC_MUTEX,
        .drain_timeout_ms = WAIT,
        .diag = take_diag,
        .diag_arg = b,
        .diag_level = GW_DIAG_INFO,
    };

    memset(b, 0, sizeof(*b));
    b->log = -1;
    pthread_mutex_init(&b->lock, NULL);
    snprintf(b->path, sizeof(b->path), "/tmp/godwit-log-%d.sock", (int)getpid());
    assert_int_equal(gw_daemon_new(&b->daemon, &cfg, &ops, b), 0);
    assert_int_equal(gw_daemon_start_path(b->daemon, b->path), 0);
    assert_int_equal(gw_guest_mem_new(&b->mem, UVA), 0);
    add_region(b, GPA, MEMORY);
    for (unsigned i = 0; i < QUEUES; i++) {
        struct gw_driver_config *c = &b->rings[i];

        *c = (struct gw_driver_config){
            .size = sizeof(*c), .mem = b->mem, .index = i, .queue_size = SIZE, .place = true};
        assert_int_equal(gw_guest_mem_alloc(b->mem, 16 * SIZE, 16, &c->desc), 0);
        assert_int_equal(gw_guest_mem_alloc(b->mem, 6 + 2 * SIZE, 2, &c->avail), 0);
        assert_int_equal(gw_guest_mem_alloc(b->mem, 6 + 8 * SIZE, 4, &c->used), 0);
        assert_int_equal(gw_driver_new(&b->drivers[i], c), 0);
    }
    assert_int_equal(gw_guest_mem_alloc(b->mem, 64 * PAGE, PAGE, &b->data), 0);
    assert_int_equal(gw_frontend_new(&b->fe, NULL), 0);
    b->used_len = 6 + 8 * SIZE;
}

static void end(struct bed *b)
{
    gw_frontend_free(b->fe);
    gw_daemon_free(b->daemon);
    for (unsigned i = 0; i < QUEUES; i++)
        gw_driver_free(b->drivers[i]);
    gw_guest_mem_free(b->mem);
    if (b->log >= 0)
        close(b->log);
    pthread_mutex_destroy(&b->lock);
}

/* A session without EVENT_IDX, as far as asked for. */
static void connect_only(struct bed *b)
{
    struct gw_frontend_options options = {
        .size = sizeof(options),
        .features = BIT(GW_F_VERSION_1) | BIT(GW_F_PROTOCOL_FEATURES) |
                    BIT(GW_F_RING_INDIRECT_DESC) | BIT(GW_F_LOG_ALL),
        .protocol_features = BIT(GW_PROTOCOL_F_MQ) | BIT(GW_PROTOCOL_F_LOG_SHMFD) |
                             BIT(GW_PROTOCOL_F_REPLY_ACK) | BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS),
        .mem = b->mem,
        .drivers = b->drivers,
        .n_drivers = QUEUES,
    };

    assert_int_equal(gw_frontend_connect(b->fe, b->path), 0);
    assert_int_equal(gw_frontend_negotiate(b->fe, &options), 0);
}

static uint64_t without_log(void)
{
    return BIT(GW_F_VERSION_1) | BIT(GW_F_PROTOCOL_FEATURES) | BIT(GW_F_RING_INDIRECT_DESC);
}

static int log_all(struct bed *b, bool on)
{
    return gw_frontend_set_features(b->fe, without_log() | (on ? BIT(GW_F_LOG_ALL) : 0));
}

static void start_queues(struct bed *b)
{
    assert_int_equal(gw_frontend_add_mem_reg(b->fe, b->mem, GPA), 0);
    for (unsigned i = 0; i < QUEUES; i++) {
        gw_driver_set_features(b->drivers[i], without_log());
        assert_int_equal(gw_frontend_start_queue(b->fe, b->drivers[i]), 0);
        assert_int_equal(gw_frontend_set_vring_enable(b->fe, i, true), 0);
    }
}

static void start(struct bed *b)
{
    connect_only(b);
    assert_int_equal(log_all(b, false), 0);
    start_queues(b);
}

/* ---- messages ---- */

static int new_log(struct bed *b, gw_gpa_t log_end, uint64_t offset)
{
    if (b->log >= 0)
        close(b->log);
    b->log_size = gw_dirty_bitmap_size(log_end - 1);
    b->log = memfd_create("log-under-test", MFD_CLOEXEC);
    assert_true(b->log >= 0);
    assert_int_equal(ftruncate(b->log, (off_t)(offset + b->log_size)), 0);
    return b->log;
}

/* Returns: 0 for the answer there must be, or what came instead. */
static int set_log_base(struct bed *b, int fd, uint64_t offset, uint64_t size, uint32_t flags)
{
    struct gw_wire_log wire = {.mmap_size = size, .mmap_offset = offset};
    struct gw_frontend_message answer;
    int r = gw_frontend_send_raw(b->fe, GW_MSG_SET_LOG_BASE, GW_MSG_VERSION | flags, sizeof(wire),
                                 &wire, sizeof(wire), &fd, 1);

    if (r == 0)
        r = gw_frontend_receive(b->fe, &answer, WAIT);
    if (r < 0)
        return r;
    assert_int_equal(answer.request, GW_MSG_SET_LOG_BASE);
    assert_int_equal(answer.flags, GW_MSG_VERSION | GW_MSG_REPLY);
    assert_int_equal(answer.size, sizeof(wire));
    assert_memory_equal(answer.payload, &wire, sizeof(wire));
    assert_int_equal(answer.n_fds, 0);
    return 0;
}

/* The usual: a log for all that these tests ever log. */
static void give_log(struct bed *b)
{
    new_log(b, LATE + MEMORY, 0);
    assert_int_equal(set_log_base(b, b->log, 0, b->log_size, 0), 0);
}

static int set_log_fd(struct bed *b, int fd)
{
    struct gw_frontend_message answer;
    uint64_t value;

    assert_int_equal(gw_frontend_send_raw(b->fe, GW_MSG_SET_LOG_FD,
                                          GW_MSG_VERSION | GW_MSG_NEED_REPLY, 0, NULL, 0, &fd, 1),
                     0);
    assert_int_equal(gw_frontend_receive(b->fe, &answer, WAIT), 0);
    assert_int_equal(answer.size, 8);
    memcpy(&value, answer.payload, 8);
    return value == 0 ? 0 : -EREMOTEIO;
}

static int log_ring(struct bed *b, unsigned i, gw_gpa_t log)
{
    struct gw_frontend_vring_addr addr = {
        .desc = gw_guest_mem_uva(b->mem, b->rings[i].desc),
        .avail = gw_guest_mem_uva(b->mem, b->rings[i].avail),
        .used = gw_guest_mem_uva(b->mem, b->rings[i].used),
        .log = log,
        .flags = log ? GW_VRING_F_LOG : 0,
    };

    return gw_frontend_set_vring_addr(b->fe, i, &addr);
}

/* ---- I/O and marks ---- */

static void add(struct bed *b, unsigned queue, gw_gpa_t gpa, uint32_t len)
{
    struct gw_driver_buf buf = {gpa, len};

    assert_int_equal(gw_driver_add(b->drivers[queue], &buf, 0, 1, 1, 0), 0);
    gw_driver_kick(b->drivers[queue]);
}

static void take(struct bed *b, unsigned queue)
{
    struct gw_driver_used used;

    assert_int_equal(gw_driver_wait(b->drivers[queue], WAIT), 0);
    assert_int_equal(gw_driver_take(b->drivers[queue], &used, 1), 1);
}

static void io(struct bed *b, unsigned queue, gw_gpa_t gpa, uint32_t len)
{
    add(b, queue, gpa, len);
    take(b, queue);
}

static bool fd_is_marked(int fd, gw_gpa_t gpa)
{
    uint8_t byte;

    assert_int_equal(pread(fd, &byte, 1, (off_t)(gpa / PAGE / 8)), 1);
    return byte >> gpa / PAGE % 8 & 1;
}

static bool is_marked(struct bed *b, gw_gpa_t gpa)
{
    return fd_is_marked(b->log, gpa);
}

/* Marks of the used ring may follow the answer by a moment; those of data must not. */
static void wait_marked(struct bed *b, gw_gpa_t gpa)
{
    for (unsigned ms = 0; !is_marked(b, gpa); ms++) {
        assert_true(ms < WAIT);
        usleep(1000);
    }
}

static unsigned n_marks(int fd, uint64_t size)
{
    uint8_t *bits = malloc(size);
    unsigned n = 0;

    assert_non_null(bits);
    assert_int_equal(pread(fd, bits, size, 0), (ssize_t)size);
    for (uint64_t i = 0; i < size; i++)
        n += (unsigned)__builtin_popcount(bits[i]);
    free(bits);
    return n;
}

/* Times the log is mapped in this process: by the daemon alone. */
static unsigned n_mapped(void)
{
    FILE *f = fopen("/proc/self/maps", "re");
    char line[512];
    unsigned n = 0;

    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        n += strstr(line, "log-under-test") != NULL;
    fclose(f);
    return n;
}

static void session_ends(struct bed *b, unsigned n)
{
    for (unsigned ms = 0; __atomic_load_n(&b->n_over, __ATOMIC_ACQUIRE) < n; ms++) {
        assert_true(ms < WAIT);
        usleep(1000);
    }
}

/* ---- order ---- */

static void test_log_session_answers_with_an_echo(void **state)
{
    struct bed b;

    begin(&b);
    start(&b);
    for (uint32_t flags = 0; flags <= GW_MSG_NEED_REPLY; flags += GW_MSG_NEED_REPLY) {
        struct gw_frontend_message more;

        new_log(&b, LATE, 5000);
        assert_int_equal(set_log_base(&b, b.log, 5000, b.log_size, flags), 0);
        assert_int_equal(gw_frontend_receive(b.fe, &more, 50), -ETIMEDOUT);
    }
    assert_int_equal(n_mapped(), 1);
    end(&b);
}

/* As QEMU does when a migration begins: the log, LOG_ALL, the rings, which run all the time. */
static void test_log_session_order_of_a_running_device(void **state)
{
    struct bed b;

    begin(&b);
    start(&b);
    io(&b, 0, b.data, 1);
    give_log(&b);
    io(&b, 0, b.data, 1);
    assert_int_equal(n_marks(b.log, b.log_size), 0);
    assert_int_equal(log_all(&b, true), 0);
    io(&b, 0, b.data + PAGE, 1);
    assert_true(is_marked(&b, b.data + PAGE));
    assert_int_equal(n_marks(b.log, b.log_size), 1);
    assert_int_equal(log_ring(&b, 0, USED), 0);
    io(&b, 0, b.data + 3 * PAGE, 1);
    assert_true(is_marked(&b, b.data + 3 * PAGE));
    wait_marked(&b, USED);
    io(&b, 1, b.data + 5 * PAGE, PAGE + 1);
    assert_true(is_marked(&b, b.data + 5 * PAGE) && is_marked(&b, b.data + 6 * PAGE));
    assert_int_equal(n_marks(b.log, b.log_size), 5);
    end(&b);
}

/* As QEMU does when a device starts during one: LOG_ALL, memory, rings, the log. */
static void test_log_session_order_of_a_device_that_starts(void **state)
{
    struct bed b;

    begin(&b);
    connect_only(&b);
    assert_int_equal(log_all(&b, true), 0);
    start_queues(&b);
    assert_int_equal(log_ring(&b, 0, USED), 0);
    assert_int_equal(log_ring(&b, 1, 0), 0);
    add(&b, 0, b.data, 1);
    gw_driver_kick_always(b.drivers[0]);
    usleep(30000);
    assert_int_equal(__atomic_load_n(&b.n_ready, __ATOMIC_ACQUIRE), 0);
    give_log(&b);
    take(&b, 0);
    assert_true(is_marked(&b, b.data));
    wait_marked(&b, USED);
    assert_int_equal(n_marks(b.log, b.log_size), 2);
    end(&b);
}

static void test_log_session_off_and_on_again(void **state)
{
    struct bed b;

    begin(&b);
    start(&b);
    for (unsigned round = 0; round < 3; round++) {
        give_log(&b);
        assert_int_equal(log_all(&b, true), 0);
        assert_int_equal(log_ring(&b, 0, USED), 0);
        io(&b, 0, b.data, 1);
        assert_true(is_marked(&b, b.data));
        wait_marked(&b, USED);
        assert_int_equal(n_mapped(), 1);
        assert_int_equal(log_all(&b, false), 0);
        assert_int_equal(n_mapped(), 0);
        io(&b, 0, b.data + 9 * PAGE, 1);
        io(&b, 1, b.data + 9 * PAGE, 1);
        assert_int_equal(log_ring(&b, 0, 0), 0);
        assert_int_equal(n_marks(b.log, b.log_size), 2);
    }
    /* LOG_ALL without a new log waits for it. */
    assert_int_equal(log_all(&b, true), 0);
    add(&b, 0, b.data, 1);
    usleep(20000);
    assert_int_equal(gw_driver_used_idx(b.drivers[0]), 6);
    give_log(&b);
    take(&b, 0);
    assert_true(is_marked(&b, b.data));
    end(&b);
}

/* ---- too small ---- */

static void test_log_session_too_small_for_memory_is_refused(void **state)
{
    struct bed b;

    begin(&b);
    start(&b);
    new_log(&b, GPA + MEMORY - 8 * PAGE, 0); /* a byte */
    assert_int_equal(set_log_base(&b, b.log, 0, b.log_size, GW_MSG_NEED_REPLY), -ECONNRESET);
    session_ends(&b, 1);
    told(&b, "SET_LOG_BASE");
    end(&b);
    begin(&b);
    start(&b);
    new_log(&b, GPA + MEMORY, 0); /* just enough */
    assert_int_equal(set_log_base(&b, b.log, 0, b.log_size, 0), 0);
    end(&b);
}

/* The refused address changes nothing: the ring goes on, and so does the log. */
static void test_log_session_too_small_for_the_used_ring_is_refused(void **state)
{
    struct bed b;

    begin(&b);
    start(&b);
    give_log(&b);
    assert_int_equal(log_all(&b, true), 0);
    assert_int_equal(log_ring(&b, 0, USED), 0);
    assert_int_equal(log_ring(&b, 0, LATE + MEMORY - b.used_len + 1), -EREMOTEIO);
    told(&b, "used ring");
    assert_int_equal(log_ring(&b, 0, UINT64_MAX - 5), -EREMOTEIO);
    io(&b, 0, b.data, 1);
    wait_marked(&b, USED);
    give_log(&b);
    assert_int_equal(log_ring(&b, 0, LATE + MEMORY - b.used_len), 0);
    /* A log that does for memory, but not for the ring. */
    new_log(&b, GPA + MEMORY, 0);
    assert_int_equal(set_log_base(&b, b.log, 0, b.log_size, 0), -ECONNRESET);
    session_ends(&b, 1);
    end(&b);
}

/* Where a stopped ring was logged does not matter, until it starts. */
static void test_log_session_stopped_ring_may_lie_outside(void **state)
{
    struct bed b;

    begin(&b);
    start(&b);
    give_log(&b);
    assert_int_equal(log_all(&b, true), 0);
    assert_int_equal(log_ring(&b, 1, LATE), 0);
    assert_int_equal(gw_frontend_stop_queue(b.fe, b.drivers[1]), 0);
    new_log(&b, GPA + MEMORY, 0);
    assert_int_equal(set_log_base(&b, b.log, 0, b.log_size, 0), 0);
    assert_int_equal(gw_frontend_set_vring_kick(b.fe, 1, gw_driver_kick_fd(b.drivers[1])),
                     -EREMOTEIO);
    assert_int_equal(log_ring(&b, 1, 0), 0);
    assert_int_equal(gw_frontend_start_queue(b.fe, b.drivers[1]), 0);
    io(&b, 1, b.data, 1);
    end(&b);
}

static void test_log_session_region_added_later(void **state)
{
    struct bed b;

    begin(&b);
    start(&b);
    new_log(&b, GPA + MEMORY, 0);
    assert_int_equal(set_log_base(&b, b.log, 0, b.log_size, 0), 0);
    assert_int_equal(log_all(&b, true), 0);
    add_region(&b, LATE, MEMORY);
    assert_int_equal(gw_frontend_add_mem_reg(b.fe, b.mem, LATE), -EREMOTEIO);
    told(&b, "does not cover the memory region");
    io(&b, 0, b.data, 1);
    assert_true(is_marked(&b, b.data));
    /* The log grows first, then memory. */
    give_log(&b);
    assert_int_equal(gw_frontend_add_mem_reg(b.fe, b.mem, LATE), 0);
    io(&b, 0, LATE + MEMORY - 1, 1);
    assert_true(is_marked(&b, LATE + MEMORY - 1));
    io(&b, 1, LATE, PAGE * 2);
    assert_true(is_marked(&b, LATE) && is_marked(&b, LATE + PAGE));
    assert_int_equal(gw_frontend_rem_mem_reg(b.fe, b.mem, LATE), 0);
    /* Without LOG_ALL memory may grow beyond the log; then LOG_ALL is refused. */
    assert_int_equal(log_all(&b, false), 0);
    new_log(&b, GPA + MEMORY, 0);
    assert_int_equal(set_log_base(&b, b.log, 0, b.log_size, 0), 0);
    assert_int_equal(gw_frontend_add_mem_reg(b.fe, b.mem, LATE), 0);
    assert_int_equal(log_all(&b, true), -EREMOTEIO);
    io(&b, 0, b.data, 1);
    assert_int_equal(n_marks(b.log, b.log_size), 0);
    end(&b);
}

/* ---- replacement, stop, end ---- */

static void test_log_session_replacement_with_a_request_in_flight(void **state)
{
    unsigned before;
    struct bed b;
    int old;

    begin(&b);
    start(&b);
    give_log(&b);
    assert_int_equal(log_all(&b, true), 0);
    assert_int_equal(log_ring(&b, 0, USED), 0);
    b.hold = true;
    add(&b, 0, b.data + 2 * PAGE, PAGE);
    wait_held(&b);
    old = fcntl(b.log, F_DUPFD_CLOEXEC, 0);
    give_log(&b);
    assert_int_equal(n_mapped(), 1);
    before = n_marks(old, b.log_size);
    release(&b);
    take(&b, 0);
    assert_true(is_marked(&b, b.data + 2 * PAGE));
    wait_marked(&b, USED);
    assert_false(fd_is_marked(old, b.data + 2 * PAGE));
    io(&b, 0, b.data + 7 * PAGE, PAGE);
    assert_int_equal(n_marks(old, b.log_size), before);
    close(old);
    end(&b);
}

/* GET_VRING_BASE is answered when the last request is written, marked and published. */
static void test_log_session_is_complete_when_a_ring_is_stopped(void **state)
{
    pthread_t thread;
    uint32_t base;
    struct bed b;

    begin(&b);
    start(&b);
    give_log(&b);
    assert_int_equal(log_all(&b, true), 0);
    assert_int_equal(log_ring(&b, 0, USED), 0);
    b.hold = true;
    add(&b, 0, b.data + 2 * PAGE, PAGE);
    wait_held(&b);
    assert_int_equal(pthread_create(&thread, NULL, release_soon, &b), 0);
    assert_int_equal(gw_frontend_get_vring_base(b.fe, 0, &base), 0);
    assert_int_equal(base, 1);
    assert_int_equal(gw_driver_used_idx(b.drivers[0]), 1);
    assert_true(is_marked(&b, b.data + 2 * PAGE));
    assert_true(is_marked(&b, USED));
    pthread_join(thread, NULL);
    end(&b);
}

static void test_log_session_end_lets_go_of_everything(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct fdcheck *idle;
    struct bed b;

    begin(&b);
    start(&b);
    gw_frontend_disconnect(b.fe);
    session_ends(&b, 1); /* the first session makes what stays */
    idle = fdcheck_begin();
    for (unsigned i = 2; i < 5; i++) {
        for (unsigned q = 0; q < QUEUES; q++)
            gw_driver_reset(b.drivers[q], 0);
        start(&b);
        new_log(&b, LATE, 0);
        assert_int_equal(set_log_base(&b, b.log, 0, b.log_size, 0), 0);
        assert_int_equal(set_log_fd(&b, fd), 0);
        assert_int_equal(log_all(&b, true), 0);
        assert_int_equal(log_ring(&b, 0, USED), 0);
        io(&b, 0, b.data, 1);
        assert_int_equal(n_mapped(), 1);
        gw_frontend_disconnect(b.fe);
        session_ends(&b, i);
        assert_int_equal(n_mapped(), 0);
        close(b.log);
        b.log = -1;
    }
    assert_int_equal(fdcheck_end(idle), 0);
    close(fd);
    end(&b);
}

/* ---- SET_LOG_FD ---- */

static bool is_signalled(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    eventfd_t value;

    return poll(&p, 1, WAIT) == 1 && eventfd_read(fd, &value) == 0;
}

static void test_log_session_eventfd_is_signalled(void **state)
{
    int first = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int second = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct bed b;
    int fds[2];

    begin(&b);
    start(&b);
    assert_int_equal(set_log_fd(&b, first), 0);
    give_log(&b);
    assert_int_equal(log_all(&b, true), 0);
    io(&b, 0, b.data, 1);
    assert_true(is_signalled(first));
    assert_int_equal(set_log_fd(&b, second), 0);
    io(&b, 1, b.data, 1);
    assert_true(is_signalled(second));
    give_log(&b); /* it outlives the log */
    io(&b, 1, b.data, 1);
    assert_true(is_signalled(second));
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    close(fds[0]);
    assert_int_equal(set_log_fd(&b, fds[1]), -EREMOTEIO); /* no reader: SIGPIPE */
    close(fds[1]);
    io(&b, 0, b.data, 1);
    assert_true(is_signalled(second));
    end(&b);
    close(first);
    close(second);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_log_session_answers_with_an_echo),
        FDCHECK_TEST(test_log_session_order_of_a_running_device),
        FDCHECK_TEST(test_log_session_order_of_a_device_that_starts),
        FDCHECK_TEST(test_log_session_off_and_on_again),
        FDCHECK_TEST(test_log_session_too_small_for_memory_is_refused),
        FDCHECK_TEST(test_log_session_too_small_for_the_used_ring_is_refused),
        FDCHECK_TEST(test_log_session_stopped_ring_may_lie_outside),
        FDCHECK_TEST(test_log_session_region_added_later),
        FDCHECK_TEST(test_log_session_replacement_with_a_request_in_flight),
        FDCHECK_TEST(test_log_session_is_complete_when_a_ring_is_stopped),
        FDCHECK_TEST(test_log_session_end_lets_go_of_everything),
        FDCHECK_TEST(test_log_session_eventfd_is_signalled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
