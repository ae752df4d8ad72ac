/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * gw_frontend_last_error: every kind of object sets it, each thread has its own, an object that can
 * no longer work repeats its reason, and libgodwit's gw_last_error is independent of it.
 */
#include "../fixtures/fe_peer.h"
#include "fdcheck.h"

#include <godwit.h>
#include <godwit/frontend.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MARKER       "no region begins at 0x7ead"

/* A call that fails with a reason of its own, so that a stale reason shows. */
static void set_marker(struct gw_guest_mem *m)
{
    assert_int_equal(gw_guest_mem_remove(m, 0x7ead), -ENOENT);
    assert_string_equal(gw_frontend_last_error(), MARKER);
}

/* What the calls of the table below work on. */
struct objects {
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_frontend *fe; /* not connected */
    struct gw_guest_track *track;
};

static void objects_init(struct objects *o)
{
    const struct gw_guest_region region = {.gpa = 0x1000, .length = 0x10000};
    struct gw_driver_config cfg = {.size = sizeof(cfg), .queue_size = 2, .index = 5};

    assert_int_equal(gw_guest_mem_new(&o->mem, GW_GUEST_UVA_HOST), 0);
    assert_int_equal(gw_guest_mem_add(o->mem, &region), 0);
    cfg.mem = o->mem;
    assert_int_equal(gw_driver_new(&o->driver, &cfg), 0);
    assert_int_equal(gw_frontend_new(&o->fe, NULL), 0);
    assert_int_equal(gw_guest_track_new(&o->track), 0);
}

static void objects_done(struct objects *o)
{
    gw_guest_track_free(o->track);
    gw_frontend_free(o->fe);
    gw_driver_free(o->driver);
    gw_guest_mem_free(o->mem);
}

static int frontend_new(struct objects *o)
{
    const struct gw_frontend_config cfg = {.size = sizeof(cfg), .ack = 77};
    struct gw_frontend *fe;

    return gw_frontend_new(&fe, &cfg);
}

static int frontend_new_small(struct objects *o)
{
    const struct gw_frontend_config cfg = {.size = 1};
    struct gw_frontend *fe;

    return gw_frontend_new(&fe, &cfg);
}

static int get_features(struct objects *o)
{
    uint64_t features;

    return gw_frontend_get_features(o->fe, &features);
}

static int mem_overlap(struct objects *o)
{
    const struct gw_guest_region region = {.gpa = 0x2000, .length = 1};

    return gw_guest_mem_add(o->mem, &region);
}

static int mem_empty(struct objects *o)
{
    const struct gw_guest_region region = {.gpa = 0x2000};

    return gw_guest_mem_add(o->mem, &region);
}

static int mem_bad_fd(struct objects *o)
{
    const struct gw_guest_region region = {
        .kind = GW_GUEST_FD, .gpa = 0x100000, .length = 1, .fd = -1};

    return gw_guest_mem_add(o->mem, &region);
}

static int mem_region(struct objects *o)
{
    struct gw_guest_region region;

    return gw_guest_mem_region(o->mem, 1, &region);
}

static int mem_alloc(struct objects *o)
{
    gw_gpa_t gpa;

    return gw_guest_mem_alloc(o->mem, 0x20000, 1, &gpa);
}

static int mem_align(struct objects *o)
{
    gw_gpa_t gpa;

    return gw_guest_mem_alloc(o->mem, 1, 3, &gpa);
}

static int driver_new(struct objects *o)
{
    const struct gw_driver_config cfg = {.size = sizeof(cfg), .mem = o->mem, .queue_size = 3};
    struct gw_driver *d;

    return gw_driver_new(&d, &cfg);
}

static int driver_place(struct objects *o)
{
    const struct gw_driver_config cfg = {
        .size = sizeof(cfg), .mem = o->mem, .place = true, .desc = 0x1000000};
    struct gw_driver *d;

    return gw_driver_new(&d, &cfg);
}

static int driver_add_nothing(struct objects *o)
{
    return gw_driver_add(o->driver, NULL, 0, 0, 0, 0);
}

static int driver_add_three(struct objects *o)
{
    const struct gw_driver_buf bufs[3] = {{0x1000, 1}, {0x1000, 1}, {0x1000, 1}};

    return gw_driver_add(o->driver, bufs, 0, 3, 0, 0);
}

static int driver_base(struct objects *o)
{
    unsigned n;

    gw_driver_set_base(o->driver, 0xbad);
    return gw_driver_check_base(o->driver, &n);
}

static int driver_wait(struct objects *o)
{
    return gw_driver_wait(o->driver, 0);
}

static int driver_restore(struct objects *o)
{
    return gw_driver_restore(o->driver, "", 0);
}

static int log_new(struct objects *o)
{
    const struct gw_guest_log_config cfg = {.size = sizeof(cfg)};
    struct gw_guest_log *log;

    return gw_guest_log_new(&log, &cfg);
}

static int log_huge(struct objects *o)
{
    const struct gw_guest_log_config cfg = {.size = sizeof(cfg), .length = INT64_MAX / 4};
    struct gw_guest_log *log;
    int r = gw_guest_log_new(&log, &cfg);

    return r == -ENOMEM || r == -EFBIG || r == -EINVAL ? -ENOMEM : r;
}

static int track_add(struct objects *o)
{
    return gw_guest_track_add(o->track, 0x1000, 0);
}

static int track_remove(struct objects *o)
{
    return gw_guest_track_remove(o->track, 0x1234);
}

static int server_new(struct objects *o)
{
    const struct gw_fault_config cfg = {.size = sizeof(cfg), .fill = 77};
    struct gw_fault_server *s;

    return gw_fault_server_new(&s, &cfg);
}

static void test_fe_error_every_kind_of_object_sets_it(void **state)
{
    static const struct {
        int (*call)(struct objects *o);
        int r;
        const char *text;
    } calls[] = {
        {frontend_new, -EINVAL, "unknown ack 77"},
        {frontend_new_small, -EINVAL, "configuration of another version"},
        {get_features, -ENOTCONN, "GET_FEATURES: not connected"},
        {mem_overlap, -EEXIST, "0x2000 overlaps"},
        {mem_empty, -EINVAL, "impossible region"},
        {mem_bad_fd, -EBADF, "fstat: Bad file descriptor"},
        {mem_region, -ENOENT, "no further region"},
        {mem_alloc, -ENOSPC, "no 131072 free bytes"},
        {mem_align, -EINVAL, "alignment 3"},
        {driver_new, -EINVAL, "size"},
        {driver_place, -EFAULT, "not in the guest memory"},
        {driver_add_nothing, -EINVAL, "without buffers"},
        {driver_add_three, -ENOSPC, "too few free descriptors"},
        {driver_base, -EPROTO, "queue 5: impossible vring base 0xbad"},
        {driver_wait, -ETIMEDOUT, "queue 5: no used element"},
        {driver_restore, -EINVAL, "queue 5: not the state"},
        {log_new, -EINVAL, "impossible length (0)"},
        {log_huge, -ENOMEM, "dirty log of"},
        {track_add, -EINVAL, "impossible range"},
        {track_remove, -ENOENT, "0x1234"},
        {server_new, -EINVAL, "invalid configuration"},
    };
    struct objects o;

    objects_init(&o);
    for (unsigned i = 0; i < ARRAY_LEN(calls); i++) {
        set_marker(o.mem);
        assert_int_equal(calls[i].call(&o), calls[i].r);
        if (!strstr(gw_frontend_last_error(), calls[i].text))
            fail_msg("call %u: \"%s\" has no \"%s\"", i, gw_frontend_last_error(), calls[i].text);
    }
    objects_done(&o);
}

static void *fail_elsewhere(void *arg)
{
    char *empty = arg;
    struct gw_guest_mem *m;

    *empty = gw_frontend_last_error()[0] == '\0';
    if (gw_guest_mem_new(&m, 0) == 0) {
        (void)gw_guest_mem_remove(m, 0x5e11);
        gw_guest_mem_free(m);
    }
    *empty = *empty && strstr(gw_frontend_last_error(), "0x5e11");
    return NULL;
}

static void test_fe_error_belongs_to_the_thread(void **state)
{
    struct gw_guest_mem *m;
    pthread_t thread;
    char is_own = 0;

    assert_int_equal(gw_guest_mem_new(&m, 0), 0);
    set_marker(m);
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, &is_own), 0);
    pthread_join(thread, NULL);
    assert_true(is_own);
    assert_string_equal(gw_frontend_last_error(), MARKER);
    gw_guest_mem_free(m);
}

static void test_fe_error_of_an_ended_session_is_repeated(void **state)
{
    struct peer_step step = peer_answer_u64(GW_MSG_GET_QUEUE_NUM, 0);
    struct gw_guest_mem *m;
    struct gw_frontend *fe;
    struct peer p;
    uint64_t value;

    assert_int_equal(gw_guest_mem_new(&m, 0), 0);
    fe = peer_begin(&p, &step, 1);
    assert_int_equal(gw_frontend_get_features(fe, &value), -EPROTO);
    assert_non_null(strstr(gw_frontend_last_error(), "GET_FEATURES: answered with id"));
    set_marker(m);
    assert_int_equal(gw_frontend_set_owner(fe), -EPROTO);
    assert_non_null(strstr(gw_frontend_last_error(), "GET_FEATURES: answered with id"));
    set_marker(m);
    assert_int_equal(gw_frontend_check(fe), -EPROTO);
    assert_non_null(strstr(gw_frontend_last_error(), "GET_FEATURES: answered with id"));
    peer_finish(&p, fe);
    gw_guest_mem_free(m);
}

static void test_fe_error_of_a_broken_ring_is_repeated(void **state)
{
    struct gw_driver_used used;
    struct objects o;

    objects_init(&o);
    /* The used index, after 16 bits of flags, is ahead of all that was made available. */
    memset(gw_guest_mem_at(o.mem, 0x1000, 0x10000), 1, 0x10000);
    set_marker(o.mem);
    assert_int_equal(gw_driver_take(o.driver, &used, 1), 0);
    assert_string_equal(gw_frontend_last_error(), MARKER);
    for (unsigned i = 0; i < 2; i++) {
        set_marker(o.mem);
        assert_int_equal(gw_driver_check(o.driver), -EPROTO);
        assert_non_null(strstr(gw_frontend_last_error(), "queue 5: "));
    }
    set_marker(o.mem);
    assert_int_equal(gw_driver_wait(o.driver, 0), -EPROTO);
    assert_non_null(strstr(gw_frontend_last_error(), "queue 5: "));
    objects_done(&o);
}

/* The errno and the reason of gw_frontend_stop are those of its first message that failed. */
static void test_fe_error_of_a_stop_is_the_first(void **state)
{
    const struct peer_step steps[] = {
        {.len = 0}, /* SET_PROTOCOL_FEATURES */
        peer_answer_u64(GW_MSG_SET_FEATURES, 0),
        peer_answer_u64(GW_MSG_SET_VRING_ENABLE, 1),
        {.hang_up = true}, /* GET_VRING_BASE */
    };
    struct gw_frontend *fe;
    struct objects o;
    struct peer p;

    objects_init(&o);
    fe = peer_begin(&p, steps, ARRAY_LEN(steps));
    assert_int_equal(gw_frontend_set_protocol_features(fe, UINT64_C(1) << GW_PROTOCOL_F_REPLY_ACK),
                     0);
    assert_int_equal(gw_frontend_set_features(fe, UINT64_C(1) << GW_F_PROTOCOL_FEATURES), 0);
    assert_int_equal(gw_frontend_stop(fe, &o.driver, 1), -EREMOTEIO);
    assert_non_null(strstr(gw_frontend_last_error(), "SET_VRING_ENABLE: the back-end refused"));
    assert_int_equal(gw_frontend_check(fe), -ECONNRESET);
    peer_finish(&p, fe);
    objects_done(&o);
}

static void test_fe_error_is_independent_of_libgodwit(void **state)
{
    const struct gw_daemon_config cfg = {.size = 1};
    const struct gw_device_ops ops = {.size = sizeof(ops)};
    struct gw_guest_mem *m;
    struct gw_daemon *d;
    char other[256];

    assert_int_equal(gw_guest_mem_new(&m, 0), 0);
    assert_int_equal(gw_daemon_new(&d, &cfg, &ops, NULL), -EINVAL);
    snprintf(other, sizeof(other), "%s", gw_last_error());
    assert_true(other[0]);
    set_marker(m);
    assert_string_equal(gw_last_error(), other);
    assert_int_equal(gw_daemon_new(&d, &cfg, &ops, NULL), -EINVAL);
    assert_string_equal(gw_frontend_last_error(), MARKER);
    gw_guest_mem_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fe_error_every_kind_of_object_sets_it),
        FDCHECK_TEST(test_fe_error_belongs_to_the_thread),
        FDCHECK_TEST(test_fe_error_of_an_ended_session_is_repeated),
        FDCHECK_TEST(test_fe_error_of_a_broken_ring_is_repeated),
        FDCHECK_TEST(test_fe_error_of_a_stop_is_the_first),
        FDCHECK_TEST(test_fe_error_is_independent_of_libgodwit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
