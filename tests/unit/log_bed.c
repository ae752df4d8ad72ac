/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See log_bed.h. */
#include "log_bed.h"

#include "base/proto.h"
#include "log/dirty_bitmap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BIT(n) (UINT64_C(1) << (n))

/* ---- the device ---- */

static void write_all(struct gw_request *r)
{
    for (unsigned i = 0; i < r->n_in; i++)
        memset(r->in[i].iov_base, 0xa5, r->in[i].iov_len);
    gw_request_complete(r, (uint32_t)r->in_len);
}

static int ready(void *dev, struct gw_queue *q)
{
    struct log_bed *b = dev;
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

void log_bed_wait_held(struct log_bed *b)
{
    for (unsigned ms = 0; !__atomic_load_n(&b->held, __ATOMIC_ACQUIRE); ms++) {
        assert_true(ms < WAIT);
        usleep(1000);
    }
}

/* From another thread: the queues are GW_SYNC_MUTEX. */
void log_bed_release(struct log_bed *b)
{
    struct gw_request *r = __atomic_exchange_n(&b->held, NULL, __ATOMIC_ACQ_REL);

    assert_non_null(r);
    __atomic_store_n(&b->hold, false, __ATOMIC_RELEASE);
    write_all(r);
}

void *log_bed_release_soon(void *arg)
{
    usleep(30000);
    log_bed_release(arg);
    return NULL;
}

static void take_diag(void *arg, enum gw_diag_level level, const char *message)
{
    struct log_bed *b = arg;

    pthread_mutex_lock(&b->lock);
    if (level <= GW_DIAG_WARNING)
        snprintf(b->message, sizeof(b->message), "%s", message);
    pthread_mutex_unlock(&b->lock);
    if (strstr(message, "the session is over"))
        __atomic_add_fetch(&b->n_over, 1, __ATOMIC_RELEASE);
}

void log_bed_told(struct log_bed *b, const char *text)
{
    pthread_mutex_lock(&b->lock);
    if (!strstr(b->message, text))
        fail_msg("not \"%s\" was log_bed_told, but \"%s\"", text, b->message);
    pthread_mutex_unlock(&b->lock);
}

static const struct gw_device_ops ops = {.size = sizeof(ops), .queue_ready = ready};

/* ---- the bed ---- */

void log_bed_add_region(struct log_bed *b, gw_gpa_t gpa, uint64_t len)
{
    struct gw_guest_region region = {.gpa = gpa, .length = len, .no_alloc = gpa != GPA};

    assert_int_equal(gw_guest_mem_add(b->mem, &region), 0);
}

void log_bed_begin(struct log_bed *b)
{
    struct gw_daemon_config cfg = {
        .size = sizeof(cfg),
        .num_queues = QUEUES,
        .num_workers = QUEUES,
        .sync = GW_SYNC_MUTEX,
        .drain_timeout_ms = WAIT,
        .diag = take_diag,
        .diag_arg = b,
        .diag_level = GW_DIAG_DEBUG, /* so that no message is suppressed */
    };

    memset(b, 0, sizeof(*b));
    b->log = -1;
    pthread_mutex_init(&b->lock, NULL);
    snprintf(b->path, sizeof(b->path), "/tmp/godwit-log-%d.sock", (int)getpid());
    assert_int_equal(gw_daemon_new(&b->daemon, &cfg, &ops, b), 0);
    assert_int_equal(gw_daemon_start_path(b->daemon, b->path), 0);
    assert_int_equal(gw_guest_mem_new(&b->mem, UVA), 0);
    log_bed_add_region(b, GPA, MEMORY);
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

void log_bed_end(struct log_bed *b)
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
void log_bed_connect(struct log_bed *b)
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

int log_bed_log_all(struct log_bed *b, bool on)
{
    return gw_frontend_set_features(b->fe, without_log() | (on ? BIT(GW_F_LOG_ALL) : 0));
}

void log_bed_start_queues(struct log_bed *b)
{
    assert_int_equal(gw_frontend_add_mem_reg(b->fe, b->mem, GPA), 0);
    for (unsigned i = 0; i < QUEUES; i++) {
        gw_driver_set_features(b->drivers[i], without_log());
        assert_int_equal(gw_frontend_start_queue(b->fe, b->drivers[i]), 0);
        assert_int_equal(gw_frontend_set_vring_enable(b->fe, i, true), 0);
    }
}

void log_bed_start(struct log_bed *b)
{
    log_bed_connect(b);
    assert_int_equal(log_bed_log_all(b, false), 0);
    log_bed_start_queues(b);
}

/* ---- messages ---- */

int log_bed_new_log(struct log_bed *b, gw_gpa_t log_end, uint64_t offset)
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
int log_bed_set_log_base(struct log_bed *b, int fd, uint64_t offset, uint64_t size, uint32_t flags)
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
void log_bed_give_log(struct log_bed *b)
{
    log_bed_new_log(b, LATE + MEMORY, 0);
    assert_int_equal(log_bed_set_log_base(b, b->log, 0, b->log_size, 0), 0);
}

int log_bed_set_log_fd(struct log_bed *b, int fd)
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

int log_bed_log_ring(struct log_bed *b, unsigned i, gw_gpa_t log)
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

void log_bed_add(struct log_bed *b, unsigned queue, gw_gpa_t gpa, uint32_t len)
{
    struct gw_driver_buf buf = {gpa, len};

    assert_int_equal(gw_driver_add(b->drivers[queue], &buf, 0, 1, 1, 0), 0);
    gw_driver_kick(b->drivers[queue]);
}

void log_bed_take(struct log_bed *b, unsigned queue)
{
    struct gw_driver_used used;

    assert_int_equal(gw_driver_wait(b->drivers[queue], WAIT), 0);
    assert_int_equal(gw_driver_take(b->drivers[queue], &used, 1), 1);
}

void log_bed_io(struct log_bed *b, unsigned queue, gw_gpa_t gpa, uint32_t len)
{
    log_bed_add(b, queue, gpa, len);
    log_bed_take(b, queue);
}

bool log_bed_fd_is_marked(int fd, gw_gpa_t gpa)
{
    uint8_t byte;

    assert_int_equal(pread(fd, &byte, 1, (off_t)(gpa / PAGE / 8)), 1);
    return byte >> gpa / PAGE % 8 & 1;
}

bool log_bed_is_marked(struct log_bed *b, gw_gpa_t gpa)
{
    return log_bed_fd_is_marked(b->log, gpa);
}

/* Marks of the used ring may follow the answer by a moment; those of data must not. */
void log_bed_wait_marked(struct log_bed *b, gw_gpa_t gpa)
{
    for (unsigned ms = 0; !log_bed_is_marked(b, gpa); ms++) {
        assert_true(ms < WAIT);
        usleep(1000);
    }
}

unsigned log_bed_count(int fd, uint64_t size)
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
unsigned log_bed_mappings(void)
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

void log_bed_session_ends(struct log_bed *b, unsigned n)
{
    for (unsigned ms = 0; __atomic_load_n(&b->n_over, __ATOMIC_ACQUIRE) < n; ms++) {
        assert_true(ms < WAIT);
        usleep(1000);
    }
}
