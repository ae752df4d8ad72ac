/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The dirty log of the front-end, and the tracking of the driver's own writes: no mark is lost or
 * invented, a terabyte costs nothing, and the messages are what peers expect.
 */
#include "base/proto.h"
#include "fdcheck.h"
#include "requires.h"

#include "load/load.h"
#include <godwit/frontend/log.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE     GW_GUEST_LOG_PAGE
#define GIB      (UINT64_C(1) << 30)
#define TIB      (UINT64_C(1) << 40)
#define RUNS_MAX 64

struct runs {
    gw_gpa_t gpa[RUNS_MAX];
    uint64_t len[RUNS_MAX];
    unsigned n;
};

static void note(void *arg, gw_gpa_t gpa, uint64_t len)
{
    struct runs *runs = arg;

    if (runs->n < RUNS_MAX) {
        runs->gpa[runs->n] = gpa;
        runs->len[runs->n] = len;
    }
    runs->n++;
}

static void expect_run(const struct runs *runs, unsigned i, gw_gpa_t gpa, uint64_t len)
{
    assert_true(i < runs->n);
    assert_int_equal(runs->gpa[i], gpa);
    assert_int_equal(runs->len[i], len);
}

static struct gw_guest_log *new_log(uint64_t length, gw_off_t offset)
{
    struct gw_guest_log_config cfg = {.size = sizeof(cfg), .length = length, .offset = offset};
    struct gw_guest_log *log;

    assert_int_equal(gw_guest_log_new(&log, &cfg), 0);
    return log;
}

/* A back-end's mapping of the log file, which begins at a page border. */
struct view {
    uint8_t *map, *bits;
    size_t len;
};

static struct view map_view(const struct gw_guest_log *log, gw_off_t offset)
{
    struct view v = {.len = gw_guest_log_length(log) + offset % PAGE};

    v.map = mmap(NULL, v.len, PROT_READ | PROT_WRITE, MAP_SHARED, gw_guest_log_fd(log),
                 (off_t)(offset - offset % PAGE));
    assert_true(v.map != MAP_FAILED);
    v.bits = v.map + offset % PAGE;
    return v;
}

static void mark(struct view *v, uint64_t page)
{
    __atomic_fetch_or(&v->bits[page / 8], (uint8_t)(1u << (page % 8)), __ATOMIC_RELEASE);
}

static double ms_since(const struct timespec *begin)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)(now.tv_sec - begin->tv_sec) * 1e3 +
           (double)(now.tv_nsec - begin->tv_nsec) / 1e6;
}

/* ---- the bitmap ---- */

static void test_log_limits(void **state)
{
    static const struct {
        uint64_t length;
        gw_off_t offset;
        int result;
    } cases[] = {
        {0, 0, -EINVAL},
        {1, 0, 0},
        {1, 4095, 0},
        {INT64_MAX / 4 + 1, 0, -EINVAL},
        {1, INT64_MAX / 4 + 1, -EINVAL},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct gw_guest_log_config cfg = {
            .size = sizeof(cfg), .length = cases[i].length, .offset = cases[i].offset};
        struct gw_guest_log *log = NULL;

        assert_int_equal(gw_guest_log_new(&log, &cfg), cases[i].result);
        gw_guest_log_free(log);
    }
}

/* A bitmap of any alignment and length: single bytes and words are counted and taken alike. */
static void test_log_of_any_alignment_is_taken_to_its_end(void **state)
{
    for (gw_off_t offset = 4096 - 9; offset < 4096 + 9; offset++) {
        for (uint64_t length = 1; length < 26; length++) {
            struct gw_guest_log *log = new_log(length, offset);
            struct view v = map_view(log, offset);
            struct runs runs = {.n = 0};

            memset(v.map, 0xff, v.len);
            memset(v.bits + length, 0xff, -(uintptr_t)(v.bits + length) % PAGE); /* do not count */
            assert_true(gw_guest_log_is_marked(log, (8 * length - 1) * PAGE));
            assert_false(gw_guest_log_is_marked(log, 8 * length * PAGE));
            assert_int_equal(gw_guest_log_count(log), 8 * length);
            assert_int_equal(gw_guest_log_take(log, note, &runs), 8 * length);
            assert_int_equal(runs.n, 1);
            expect_run(&runs, 0, 0, 8 * length * PAGE);
            assert_int_equal(gw_guest_log_count(log), 0);
            munmap(v.map, v.len);
            gw_guest_log_free(log);
        }
    }
}

static void test_log_length_is_that_of_qemu(void **state)
{
    struct gw_guest_region region = {.kind = GW_GUEST_MEMFD, .gpa = 0, .length = 0x40000};
    struct gw_driver_config cfg = {.size = sizeof(cfg), .queue_size = 256};
    struct gw_guest_mem *m;
    struct gw_driver *d;

    assert_int_equal(gw_guest_mem_new(&m, GW_GUEST_UVA_HOST), 0);
    assert_int_equal(gw_guest_log_length_for(m, NULL, 0), 0);
    assert_int_equal(gw_guest_mem_add(m, &region), 0);
    assert_int_equal(gw_guest_log_length_for(m, NULL, 0), 8);
    region.gpa = 4 * GIB - 0x1000;
    region.length = 0x2000;
    assert_int_equal(gw_guest_mem_add(m, &region), 0);
    /* 0x4000 words below 4 GiB, and one above. */
    assert_int_equal(gw_guest_log_length_for(m, NULL, 0), 0x4001 * 8);
    cfg.mem = m;
    assert_int_equal(gw_driver_new(&d, &cfg), 0);
    assert_int_equal(gw_guest_log_length_for(m, &d, 1), 0x4001 * 8);
    gw_driver_free(d);
    gw_guest_mem_free(m);
}

/*
 * Granted memory is logged by reference, without bit 63: reference 0x8001 is bit 1 of byte 0x1000.
 */
static void test_log_of_granted_memory_is_by_reference(void **state)
{
    static char pages[0x2000];
    struct gw_guest_region region = {.kind = GW_GUEST_MAPPED,
                                     .gpa = GW_GUEST_LOG_GRANTS + 0x8000000,
                                     .length = sizeof(pages),
                                     .fd = -1,
                                     .host = pages,
                                     .xen = GW_GUEST_XEN_GRANT};
    struct gw_guest_log_config cfg = {.size = sizeof(cfg), .base = GW_GUEST_LOG_GRANTS};
    struct gw_guest_log *log;
    struct gw_guest_mem *m;
    struct runs runs = {.n = 0};
    struct view v;

    assert_int_equal(gw_guest_mem_new(&m, GW_GUEST_UVA_HOST), 0);
    assert_int_equal(gw_guest_mem_add(m, &region), 0);
    cfg.length = gw_guest_log_length_for(m, NULL, 0);
    assert_int_equal(cfg.length, 0x1008);
    assert_int_equal(gw_guest_log_new(&log, &cfg), 0);
    v = map_view(log, 0);
    mark(&v, 0x8001);
    assert_true(gw_guest_log_is_marked(log, region.gpa + 0x1fff));
    assert_false(gw_guest_log_is_marked(log, region.gpa));
    assert_false(gw_guest_log_is_marked(log, 0x8001000));
    assert_int_equal(gw_guest_log_take(log, note, &runs), 1);
    expect_run(&runs, 0, region.gpa + PAGE, PAGE);
    munmap(v.map, v.len);
    gw_guest_log_free(log);
    gw_guest_mem_free(m);
}

static void test_log_take_tells_runs_and_clears(void **state)
{
    static const gw_off_t offsets[] = {0, 8, 13, 4095, 12288, 12301};

    for (unsigned i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        struct gw_guest_log *log = new_log(1003, offsets[i]);
        struct view v = map_view(log, offsets[i]);
        struct runs runs = {.n = 0};

        mark(&v, 0);
        for (uint64_t page = 50; page < 200; page++)
            mark(&v, page);
        mark(&v, 1003 * 8 - 1);
        assert_int_equal(gw_guest_log_count(log), 152);
        assert_true(gw_guest_log_is_marked(log, 199 * PAGE + 17));
        assert_false(gw_guest_log_is_marked(log, 200 * PAGE));
        assert_false(gw_guest_log_is_marked(log, TIB));
        assert_int_equal(gw_guest_log_take(log, note, &runs), 152);
        assert_int_equal(runs.n, 3);
        expect_run(&runs, 0, 0, PAGE);
        expect_run(&runs, 1, 50 * PAGE, 150 * PAGE);
        expect_run(&runs, 2, (1003 * 8 - 1) * PAGE, PAGE);
        assert_int_equal(gw_guest_log_count(log), 0);
        assert_int_equal(gw_guest_log_take(log, note, &runs), 0);
        munmap(v.map, v.len);
        gw_guest_log_free(log);
    }
}

static void test_log_all_bits_are_one_run(void **state)
{
    struct gw_guest_log *log = new_log(4096, 0);
    struct view v = map_view(log, 0);
    struct runs runs = {.n = 0};

    memset(v.bits, 0xff, 4096);
    assert_int_equal(gw_guest_log_take(log, note, &runs), 4096 * 8);
    assert_int_equal(runs.n, 1);
    expect_run(&runs, 0, 0, 4096ull * 8 * PAGE);
    munmap(v.map, v.len);
    gw_guest_log_free(log);
}

static void test_log_can_neither_shrink_nor_grow(void **state)
{
    struct gw_guest_log_config cfg = {.size = sizeof(cfg), .length = 64, .no_seals = true};
    struct gw_guest_log *log = new_log(64, 0);

    assert_int_equal(ftruncate(gw_guest_log_fd(log), 32), -1);
    assert_int_equal(ftruncate(gw_guest_log_fd(log), 8192), -1);
    gw_guest_log_free(log);
    assert_int_equal(gw_guest_log_new(&log, &cfg), 0);
    assert_int_equal(ftruncate(gw_guest_log_fd(log), 32), 0);
    gw_guest_log_free(log);
    cfg.length = 0;
    assert_int_equal(gw_guest_log_new(&log, &cfg), -EINVAL);
}

/* 64 GiB of guest memory: every page of the log is touched, and a few bits are set. */
static void test_log_of_64_gib_is_quick(void **state)
{
    struct gw_guest_log *log = new_log(64 * GIB / PAGE / 8, 0);
    struct view v = map_view(log, 0);
    double best = 1e9;

    for (unsigned i = 0; i < 5; i++) {
        struct timespec begin;
        double ms;

        for (uint64_t page = 0; page < 64 * GIB / PAGE; page += 10007)
            mark(&v, page);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
        assert_int_equal(gw_guest_log_take(log, NULL, NULL), 64 * GIB / PAGE / 10007 + 1);
        ms = ms_since(&begin);
        best = ms < best ? ms : best;
    }
    print_message("2 MiB of log: %.2f ms\n", best);
    if (!getenv("VALGRIND_OPTS") && !getenv("LD_PRELOAD"))
        assert_true(best < 20);
    munmap(v.map, v.len);
    gw_guest_log_free(log);
}

static void test_log_of_a_sparse_tebibyte_stays_sparse(void **state)
{
    struct gw_guest_log *log = new_log(TIB / PAGE / 8, 0);
    struct view v = map_view(log, 0);
    struct runs runs = {.n = 0};
    struct stat st;

    mark(&v, 1);
    mark(&v, TIB / PAGE / 2);
    mark(&v, TIB / PAGE - 1);
    assert_int_equal(gw_guest_log_count(log), 3);
    assert_int_equal(gw_guest_log_take(log, note, &runs), 3);
    expect_run(&runs, 1, TIB / 2, PAGE);
    expect_run(&runs, 2, TIB - PAGE, PAGE);
    assert_int_equal(fstat(gw_guest_log_fd(log), &st), 0);
    assert_true(st.st_blocks * 512 <= 3 * PAGE);
    munmap(v.map, v.len);
    gw_guest_log_free(log);
}

/* ---- concurrent marking and taking ---- */

#define RACE_PAGES  4096
#define RACE_ROUNDS 300

struct race {
    struct view view;
    struct gw_guest_track *track;
    uint64_t written[RACE_PAGES]; /* atomic; the value that a mark stands for */
    uint64_t seen[RACE_PAGES];
    bool is_done; /* atomic */
};

static void *race_writer(void *arg)
{
    struct race *race = arg;

    for (uint64_t round = 1; round <= RACE_ROUNDS; round++) {
        for (uint64_t i = 0; i < RACE_PAGES; i++) {
            uint64_t page = i * 2654435761u % RACE_PAGES;

            __atomic_store_n(&race->written[page], round, __ATOMIC_RELAXED);
            if (race->track)
                gw_guest_track_mark(race->track, page * PAGE + round % PAGE, 1);
            else
                mark(&race->view, page);
        }
    }
    __atomic_store_n(&race->is_done, true, __ATOMIC_RELEASE);
    return NULL;
}

static void race_note(void *arg, gw_gpa_t gpa, uint64_t len)
{
    struct race *race = arg;

    for (uint64_t page = gpa / PAGE; page <= (gpa + len - 1) / PAGE; page++)
        race->seen[page] = __atomic_load_n(&race->written[page], __ATOMIC_RELAXED);
}

static void race_check(const struct race *race)
{
    for (unsigned page = 0; page < RACE_PAGES; page++)
        assert_int_equal(race->seen[page], RACE_ROUNDS);
}

static void test_log_take_beside_marks_loses_none(void **state)
{
    struct gw_guest_log *log = new_log(RACE_PAGES / 8, 8);
    struct race *race = calloc(1, sizeof(*race));
    pthread_t writer;

    race->view = map_view(log, 8);
    assert_int_equal(pthread_create(&writer, NULL, race_writer, race), 0);
    while (!__atomic_load_n(&race->is_done, __ATOMIC_ACQUIRE))
        gw_guest_log_take(log, race_note, race);
    gw_guest_log_take(log, race_note, race);
    pthread_join(writer, NULL);
    race_check(race);
    munmap(race->view.map, race->view.len);
    gw_guest_log_free(log);
    free(race);
}

static void test_track_take_beside_marks_loses_none(void **state)
{
    struct race *race = calloc(1, sizeof(*race));
    pthread_t writer;

    assert_int_equal(gw_guest_track_new(&race->track), 0);
    assert_int_equal(gw_guest_track_add(race->track, 0, RACE_PAGES * PAGE), 0);
    assert_int_equal(pthread_create(&writer, NULL, race_writer, race), 0);
    while (!__atomic_load_n(&race->is_done, __ATOMIC_ACQUIRE))
        gw_guest_track_take(race->track, race_note, race);
    gw_guest_track_take(race->track, race_note, race);
    pthread_join(writer, NULL);
    race_check(race);
    gw_guest_track_free(race->track);
    free(race);
}

/* ---- writes of the driver ---- */

static void test_track_tells_bytes(void **state)
{
    struct gw_guest_track *t;
    struct runs runs = {.n = 0};

    if (is_under_valgrind())
        skip();
    assert_int_equal(gw_guest_track_new(&t), 0);
    assert_int_equal(gw_guest_track_add(t, 16 * PAGE, 16 * PAGE), 0);
    assert_int_equal(gw_guest_track_add(t, TIB, TIB), 0);
    assert_int_equal(gw_guest_track_add(t, 31 * PAGE, PAGE), -EINVAL);
    assert_int_equal(gw_guest_track_add(t, 64 * PAGE, 0), -EINVAL);
    gw_guest_track_mark(t, 16 * PAGE + 3, 2);
    gw_guest_track_mark(t, 16 * PAGE + 5, 200);
    gw_guest_track_mark(t, 18 * PAGE - 1, 2); /* across a page border */
    gw_guest_track_mark(t, 8 * PAGE, 10);     /* not tracked */
    gw_guest_track_mark(t, 32 * PAGE - 4, 8); /* partly tracked */
    gw_guest_track_mark(t, 2 * TIB - 1, 1);
    gw_guest_track_mark(t, 20 * PAGE, 0);
    assert_int_equal(gw_guest_track_take(t, note, &runs), 202 + 2 + 4 + 1);
    assert_int_equal(runs.n, 5);
    expect_run(&runs, 0, 16 * PAGE + 3, 202);
    expect_run(&runs, 1, 18 * PAGE - 1, 1);
    expect_run(&runs, 2, 18 * PAGE, 1);
    expect_run(&runs, 3, 32 * PAGE - 4, 4);
    expect_run(&runs, 4, 2 * TIB - 1, 1);
    assert_int_equal(gw_guest_track_take(t, note, &runs), 0);
    gw_guest_track_mark(t, 16 * PAGE, 1);
    assert_int_equal(gw_guest_track_remove(t, 16 * PAGE), 0);
    assert_int_equal(gw_guest_track_remove(t, 16 * PAGE), -ENOENT);
    assert_int_equal(gw_guest_track_take(t, NULL, NULL), 0);
    gw_guest_track_free(t);
}

/* A request marks exactly the bytes that the driver wrote. */
static void test_track_of_a_driver_is_complete(void **state)
{
    struct gw_guest_region region = {.kind = GW_GUEST_MEMFD, .gpa = 0, .length = 1 << 20};
    struct gw_driver_config cfg = {.size = sizeof(cfg), .queue_size = 8, .indirect_max = 4};
    struct gw_guest_mem *m, *copy;
    struct gw_guest_track *t;
    struct gw_driver *d;
    struct gw_driver_blk blk;
    struct gw_driver_buf data = {.len = 512};
    struct runs runs = {.n = 0};
    uint8_t *from, *to;

    assert_int_equal(gw_guest_mem_new(&m, GW_GUEST_UVA_HOST), 0);
    assert_int_equal(gw_guest_mem_add(m, &region), 0);
    cfg.mem = m;
    assert_int_equal(gw_driver_new(&d, &cfg), 0);
    assert_int_equal(gw_driver_blk_init(&blk, d), 0);
    assert_int_equal(gw_guest_mem_alloc(m, 512, 512, &data.addr), 0);
    assert_int_equal(gw_guest_mem_clone(&copy, m, GW_GUEST_UVA_HOST), 0);
    from = gw_guest_mem_at(m, 0, 1 << 20);
    to = gw_guest_mem_at(copy, 0, 1 << 20);
    memcpy(to, from, 1 << 20);
    assert_int_equal(gw_guest_track_new(&t), 0);
    assert_int_equal(gw_guest_track_add(t, 0, 1 << 20), 0);
    gw_driver_set_track(d, t);
    for (unsigned i = 0; i < 3; i++) {
        gw_driver_blk_add(&blk, GW_DRIVER_BLK_READ, i, &data, 1, i, i ? GW_DRIVER_INDIRECT : 0);
        gw_driver_kick(d);
    }
    gw_driver_want_calls(d);
    gw_driver_suppress_calls(d);
    gw_driver_blk_add_range(&blk, GW_DRIVER_BLK_DISCARD, 0, 8, 0, 3, 0);
    gw_guest_track_take(t, note, &runs);
    assert_true(runs.n > 0 && runs.n < RUNS_MAX);
    for (unsigned i = 0; i < runs.n; i++)
        memcpy(to + runs.gpa[i], from + runs.gpa[i], runs.len[i]);
    assert_memory_equal(from, to, 1 << 20);
    gw_driver_blk_done(&blk);
    gw_driver_free(d);
    gw_guest_track_free(t);
    gw_guest_mem_free(copy);
    gw_guest_mem_free(m);
}

static void test_driver_find_names_its_rings(void **state)
{
    struct gw_guest_region region = {.kind = GW_GUEST_MEMFD, .gpa = 0, .length = 1 << 20};
    struct gw_driver_config cfg = {.size = sizeof(cfg),
                                   .queue_size = 8,
                                   .place = true,
                                   .desc = 0x1000,
                                   .avail = 0x2000,
                                   .used = 0x2ffc};
    struct gw_guest_mem *m;
    struct gw_driver *d;
    unsigned i;

    assert_int_equal(gw_guest_mem_new(&m, GW_GUEST_UVA_HOST), 0);
    assert_int_equal(gw_guest_mem_add(m, &region), 0);
    cfg.mem = m;
    assert_int_equal(gw_driver_new(&d, &cfg), 0);
    assert_int_equal(gw_driver_find(d, 0xfff, NULL), GW_DRIVER_PLACE_NONE);
    assert_int_equal(gw_driver_find(d, 0x107f, NULL), GW_DRIVER_PLACE_DESC);
    assert_int_equal(gw_driver_find(d, 0x2015, NULL), GW_DRIVER_PLACE_AVAIL);
    assert_int_equal(gw_driver_find(d, 0x2016, NULL), GW_DRIVER_PLACE_NONE);
    assert_int_equal(gw_driver_find(d, 0x2ffd, NULL), GW_DRIVER_PLACE_USED_FLAGS);
    assert_int_equal(gw_driver_find(d, 0x2ffe, NULL), GW_DRIVER_PLACE_USED_IDX);
    assert_int_equal(gw_driver_find(d, 0x3008, &i), GW_DRIVER_PLACE_USED_ELEMENT);
    assert_int_equal(i, 1);
    assert_int_equal(gw_driver_find(d, 0x3041, NULL), GW_DRIVER_PLACE_AVAIL_EVENT);
    assert_int_equal(gw_driver_find(d, 0x3042, NULL), GW_DRIVER_PLACE_NONE);
    gw_driver_free(d);
    gw_guest_mem_free(m);
}

/* ---- messages ---- */

#define PROTOCOL_FEATURES \
    (UINT64_C(1) << GW_PROTOCOL_F_LOG_SHMFD | UINT64_C(1) << GW_PROTOCOL_F_REPLY_ACK)

/* A back-end that receives one message and replies with `reply_size` bytes. */
struct peer {
    int fd;
    uint32_t reply_size;
    uint64_t value; /* first word of the reply */
    struct gw_wire_header h;
    uint8_t payload[64];
    int got_fd;
    pthread_t thread;
};

static void *peer_thread(void *arg)
{
    struct peer *p = arg;
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = &p->h, .iov_len = sizeof(p->h)};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof(control)};
    uint8_t buf[sizeof(p->h) + 64] = {0};
    struct gw_wire_header h;
    struct cmsghdr *c;

    p->got_fd = -1;
    if (recvmsg(p->fd, &mh, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(p->h) ||
        (p->h.size && recv(p->fd, p->payload, p->h.size, MSG_WAITALL) != (ssize_t)p->h.size))
        return NULL;
    c = CMSG_FIRSTHDR(&mh);
    if (c)
        memcpy(&p->got_fd, CMSG_DATA(c), sizeof(int));
    h = (struct gw_wire_header){
        .request = p->h.request, .flags = GW_MSG_VERSION | GW_MSG_REPLY, .size = p->reply_size};
    memcpy(buf, &h, sizeof(h));
    memcpy(buf + sizeof(h), p->payload, p->reply_size < 64 ? p->reply_size : 64);
    if (p->value != UINT64_MAX)
        memcpy(buf + sizeof(h), &p->value, sizeof(p->value));
    if (send(p->fd, buf, sizeof(h) + p->reply_size, MSG_NOSIGNAL) < 0)
        p->h.request = 0;
    return NULL;
}

static void peer_begin(struct peer *p, uint32_t reply_size, uint64_t value)
{
    p->reply_size = reply_size;
    p->value = value;
    assert_int_equal(pthread_create(&p->thread, NULL, peer_thread, p), 0);
}

static void peer_end(struct peer *p)
{
    pthread_join(p->thread, NULL);
    if (p->got_fd >= 0)
        close(p->got_fd);
}

static struct gw_frontend *peer_connect(struct peer *p)
{
    struct gw_frontend_config cfg = {.size = sizeof(cfg), .timeout_ms = 1000};
    struct gw_frontend *fe;
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    p->fd = pair[1];
    assert_int_equal(gw_frontend_new(&fe, &cfg), 0);
    assert_int_equal(gw_frontend_attach(fe, pair[0]), 0);
    return fe;
}

/* The first message has no acknowledgement, because REPLY_ACK is not negotiated yet. */
static void negotiate(struct peer *p, struct gw_frontend *fe)
{
    struct gw_wire_header h;
    uint64_t features;

    assert_int_equal(gw_frontend_set_protocol_features(fe, PROTOCOL_FEATURES), 0);
    assert_int_equal(recv(p->fd, &h, sizeof(h), MSG_WAITALL), (int)sizeof(h));
    assert_int_equal(recv(p->fd, &features, sizeof(features), MSG_WAITALL), (int)sizeof(features));
    assert_int_equal(features, PROTOCOL_FEATURES);
}

static void test_log_base_takes_all_three_answers(void **state)
{
    static const struct {
        uint32_t size;
        uint64_t value;
        int r;
    } answers[] = {
        {0, UINT64_MAX, 0},  {8, 0, 0},          {8, 1024, 0}, /* libvhost-user sends back a part of
                                                                  the request */
        {16, UINT64_MAX, 0}, {8, 1, -EREMOTEIO}, {16, 1023, -EREMOTEIO}, {4, 0, -EPROTO},
    };

    for (unsigned i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct gw_guest_log *log = new_log(1024, 40);
        struct gw_wire_log wire;
        struct peer p = {.fd = -1};
        struct gw_frontend *fe = peer_connect(&p);
        struct stat a, b;

        assert_int_equal(gw_frontend_set_log_base(fe, log), -EOPNOTSUPP);
        negotiate(&p, fe);
        peer_begin(&p, answers[i].size, answers[i].size ? answers[i].value : UINT64_MAX);
        assert_int_equal(gw_frontend_set_log_base(fe, log), answers[i].r);
        pthread_join(p.thread, NULL);
        memcpy(&wire, p.payload, sizeof(wire));
        assert_int_equal(p.h.request, GW_MSG_SET_LOG_BASE);
        assert_int_equal(p.h.size, sizeof(wire));
        assert_int_equal(wire.mmap_size, 1024);
        assert_int_equal(wire.mmap_offset, 40);
        assert_int_equal(fstat(p.got_fd, &a), 0);
        assert_int_equal(fstat(gw_guest_log_fd(log), &b), 0);
        assert_int_equal(a.st_ino, b.st_ino);
        assert_int_equal(a.st_size, 1024 + 40);
        close(p.got_fd);
        gw_frontend_free(fe);
        close(p.fd);
        gw_guest_log_free(log);
    }
}

static void test_log_fd_and_features_go_out(void **state)
{
    uint64_t features = UINT64_C(1) << GW_F_VERSION_1 | UINT64_C(1) << GW_F_LOG_ALL, got;
    int fd = eventfd(0, EFD_CLOEXEC);
    struct peer p = {.fd = -1};
    struct gw_frontend *fe = peer_connect(&p);

    peer_begin(&p, 8, features);
    assert_int_equal(gw_frontend_get_features(fe, &got), 0);
    peer_end(&p);
    negotiate(&p, fe);
    peer_begin(&p, 8, 0);
    assert_int_equal(gw_frontend_set_features(fe, UINT64_C(1) << GW_F_VERSION_1), 0);
    peer_end(&p);
    for (unsigned on = 2; on-- > 0;) {
        peer_begin(&p, 8, 0);
        assert_int_equal(gw_frontend_set_log_all(fe, on), 0);
        peer_end(&p);
        memcpy(&got, p.payload, sizeof(got));
        assert_int_equal(p.h.request, GW_MSG_SET_FEATURES);
        assert_int_equal(got, on ? features : UINT64_C(1) << GW_F_VERSION_1);
    }
    peer_begin(&p, 8, 0);
    assert_int_equal(gw_frontend_set_log_fd(fe, fd), 0);
    pthread_join(p.thread, NULL);
    assert_int_equal(p.h.request, GW_MSG_SET_LOG_FD);
    assert_int_equal(p.h.size, 0);
    assert_true(p.got_fd >= 0);
    close(p.got_fd);
    gw_frontend_free(fe);
    close(p.fd);
    close(fd);
}

static void test_vring_log_tells_the_used_ring(void **state)
{
    struct gw_guest_region region = {.kind = GW_GUEST_MEMFD, .gpa = 0x10000, .length = 1 << 20};
    struct gw_driver_config cfg = {.size = sizeof(cfg),
                                   .queue_size = 8,
                                   .index = 3,
                                   .place = true,
                                   .desc = 0x11000,
                                   .avail = 0x12000,
                                   .used = 0x13ffc};
    struct peer p = {.fd = -1};
    struct gw_frontend *fe = peer_connect(&p);
    struct gw_wire_vring_addr addr;
    struct gw_guest_mem *m;
    struct gw_driver *d;

    assert_int_equal(gw_guest_mem_new(&m, 0x500000000000), 0);
    assert_int_equal(gw_guest_mem_add(m, &region), 0);
    cfg.mem = m;
    assert_int_equal(gw_driver_new(&d, &cfg), 0);
    negotiate(&p, fe);
    for (unsigned on = 2; on-- > 0;) {
        peer_begin(&p, 8, 0);
        assert_int_equal(gw_frontend_set_vring_log(fe, d, on), 0);
        peer_end(&p);
        memcpy(&addr, p.payload, sizeof(addr));
        assert_int_equal(p.h.request, GW_MSG_SET_VRING_ADDR);
        assert_int_equal(addr.index, 3);
        assert_int_equal(addr.flags, on);
        assert_int_equal(addr.log, 0x13ffc);
        assert_int_equal(addr.used, 0x500000000000 + 0x13ffc);
        assert_int_equal(addr.descriptor, 0x500000000000 + 0x11000);
    }
    gw_frontend_free(fe);
    close(p.fd);
    gw_driver_free(d);
    gw_guest_mem_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_log_limits),
        FDCHECK_TEST(test_log_of_any_alignment_is_taken_to_its_end),
        FDCHECK_TEST(test_log_length_is_that_of_qemu),
        FDCHECK_TEST(test_log_of_granted_memory_is_by_reference),
        FDCHECK_TEST(test_log_take_tells_runs_and_clears),
        FDCHECK_TEST(test_log_all_bits_are_one_run),
        FDCHECK_TEST(test_log_can_neither_shrink_nor_grow),
        FDCHECK_TEST(test_log_of_64_gib_is_quick),
        FDCHECK_TEST(test_log_of_a_sparse_tebibyte_stays_sparse),
        FDCHECK_TEST(test_log_take_beside_marks_loses_none),
        FDCHECK_TEST(test_track_take_beside_marks_loses_none),
        FDCHECK_TEST(test_track_tells_bytes),
        FDCHECK_TEST(test_track_of_a_driver_is_complete),
        FDCHECK_TEST(test_driver_find_names_its_rings),
        FDCHECK_TEST(test_log_base_takes_all_three_answers),
        FDCHECK_TEST(test_log_fd_and_features_go_out),
        FDCHECK_TEST(test_vring_log_tells_the_used_ring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
