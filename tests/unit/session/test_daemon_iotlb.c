/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Sessions with translated addresses: a daemon, and a guest behind an IOMMU. */
#include "../fixtures/daemon_fixture.h"
#include "core/daemon/daemon.h"
#include "fdcheck.h"
#include "iommu.h"
#include "patience.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GPA      UINT64_C(0x100000)
#define LENGTH   (UINT64_C(8) << 20)
#define TEXT_LEN 32u
#define PLATFORM (UINT64_C(1) << GW_F_ACCESS_PLATFORM)

static uint64_t layout; /* features of the ring in addition */

/* ---- the device: it copies what it reads to where it writes ---- */

static struct {
    bool holds; /* atomic: keeps requests until release() */
    struct gw_request *held[16];
    unsigned n_held; /* atomic */
    struct gw_post post;
} dev;

static void answer(struct gw_request *r)
{
    char text[TEXT_LEN];
    size_t n = gw_request_read(r, text, sizeof(text));

    gw_request_complete(r, (uint32_t)gw_request_write(r, text, n));
}

static int ready(void *arg, struct gw_queue *q)
{
    struct gw_request *reqs[16];
    unsigned n = gw_queue_pop(q, reqs, 16);

    for (unsigned i = 0; i < n; i++) {
        if (!__atomic_load_n(&dev.holds, __ATOMIC_ACQUIRE)) {
            answer(reqs[i]);
            continue;
        }
        dev.held[dev.n_held] = reqs[i];
        __atomic_store_n(&dev.n_held, dev.n_held + 1, __ATOMIC_RELEASE);
    }
    return 0;
}

static void answer_held(struct gw_post *post)
{
    for (unsigned i = 0; i < dev.n_held; i++)
        answer(dev.held[i]);
    __atomic_store_n(&dev.n_held, 0, __ATOMIC_RELEASE);
}

static uint64_t features(void *arg)
{
    return PLATFORM;
}

static const struct gw_device_ops echo_ops = {
    .size = sizeof(echo_ops),
    .features = features,
    .queue_ready = ready,
};

static void hold(bool holds)
{
    __atomic_store_n(&dev.holds, holds, __ATOMIC_RELEASE);
}

static void release(struct gw_daemon *d)
{
    dev.post.run = answer_held;
    assert_int_equal(gw_worker_post(gw_daemon_worker(d, 0), &dev.post), 0);
}

/* ---- the guest ---- */

struct guest {
    struct gw_daemon *d;
    struct iommu iommu;
    struct gw_guest_mem *mem;
    struct gw_driver *drivers[2];
    struct gw_frontend *fe;
    struct gw_guest_log *log;
    unsigned drain_timeout_ms;
    unsigned n_queues;
    unsigned indirect_max;
    bool is_silent;
};

static void begin_daemon(struct guest *g)
{
    struct gw_daemon_config cfg = daemon_fixture_config();

    memset(&dev, 0, sizeof(dev));
    if (!g->n_queues)
        g->n_queues = 1;
    cfg.num_queues = 2;
    cfg.drain_timeout_ms = g->drain_timeout_ms;
    assert_int_equal(gw_daemon_new(&g->d, &cfg, &echo_ops, NULL), 0);
    assert_int_equal(gw_daemon_start_path(g->d, path), 0);
}

static struct gw_frontend_options options(struct guest *g)
{
    return (struct gw_frontend_options){
        .size = sizeof(struct gw_frontend_options),
        .mem = g->mem,
        .drivers = g->drivers,
        .n_drivers = g->n_queues,
        .log = g->log,
        .features = PLATFORM | layout | UINT64_C(1) << GW_F_VERSION_1 |
                    UINT64_C(1) << GW_F_PROTOCOL_FEATURES | UINT64_C(1) << GW_F_RING_INDIRECT_DESC,
    };
}

static void begin_guest(struct guest *g)
{
    const struct gw_guest_region region = {.gpa = GPA, .length = LENGTH};
    struct gw_frontend_options opt;

    assert_int_equal(gw_guest_mem_new(&g->mem, 0x700000000000), 0);
    assert_int_equal(gw_guest_mem_add(g->mem, &region), 0);
    for (unsigned i = 0; i < g->n_queues; i++) {
        const struct gw_driver_config cfg = {
            .size = sizeof(cfg),
            .mem = g->mem,
            .index = i,
            .queue_size = 16,
            .indirect_max = g->indirect_max,
            .packed = (layout >> GW_F_RING_PACKED & 1) != 0,
        };

        assert_int_equal(gw_driver_new(&g->drivers[i], &cfg), 0);
        gw_driver_set_iova(g->drivers[i], iommu_map_once, &g->iommu);
    }
    g->fe = daemon_fixture_connect();
    g->iommu.mem = g->mem;
    g->iommu.fe = g->fe;
    g->iommu.is_silent = g->is_silent;
    gw_frontend_set_backend_cb(g->fe, iommu_serve, &g->iommu);
    opt = options(g);
    assert_int_equal(gw_frontend_start(g->fe, &opt), 0);
    assert_true(gw_frontend_features(g->fe) & PLATFORM);
}

static void begin(struct guest *g)
{
    begin_daemon(g);
    begin_guest(g);
}

static void end_guest(struct guest *g)
{
    gw_frontend_free(g->fe);
    for (unsigned i = 0; i < g->n_queues; i++)
        gw_driver_free(g->drivers[i]);
    gw_guest_mem_free(g->mem);
}

static void end(struct guest *g)
{
    end_guest(g);
    gw_daemon_stop(g->d);
    (void)gw_daemon_wait(g->d);
    gw_daemon_free(g->d);
}

/* Run the front-end until `*value` is at least `n`. */
static void run_until(struct guest *g, const unsigned *value, unsigned n)
{
    for (unsigned ms = 0; __atomic_load_n(value, __ATOMIC_ACQUIRE) < n; ms++) {
        assert_true(ms < patience_ms());
        assert_int_equal(gw_frontend_run(g->fe, 1), 0);
    }
}

/* Two pages, the first of which is read by the device, the second written. */
static gw_gpa_t pages(struct guest *g)
{
    gw_gpa_t gpa;

    assert_int_equal(gw_guest_mem_alloc(g->mem, 2 * IOMMU_PAGE, IOMMU_PAGE, &gpa), 0);
    return gpa;
}

static char *at(struct guest *g, gw_gpa_t gpa)
{
    return gw_guest_mem_at(g->mem, gpa, TEXT_LEN);
}

static void add_quietly(struct guest *g, unsigned queue, gw_gpa_t gpa, const char *text)
{
    const struct gw_driver_buf bufs[] = {{gpa, TEXT_LEN}, {gpa + IOMMU_PAGE, TEXT_LEN}};

    memset(at(g, gpa + IOMMU_PAGE), 0, TEXT_LEN);
    snprintf(at(g, gpa), TEXT_LEN, "%s", text);
    assert_int_equal(
        gw_driver_add(g->drivers[queue], bufs, 1, 1, gpa, g->indirect_max ? GW_DRIVER_INDIRECT : 0),
        0);
}

static void add(struct guest *g, unsigned queue, gw_gpa_t gpa, const char *text)
{
    add_quietly(g, queue, gpa, text);
    gw_driver_kick(g->drivers[queue]);
}

/* Wait for the next answer, which must be for `gpa` and have `len` bytes. */
static void take(struct guest *g, unsigned queue, gw_gpa_t gpa, unsigned len)
{
    struct gw_driver_used used;

    for (unsigned ms = 0; gw_driver_take(g->drivers[queue], &used, 1) == 0; ms++) {
        assert_true(ms < patience_ms());
        assert_int_equal(gw_driver_check(g->drivers[queue]), 0);
        assert_int_equal(gw_frontend_run(g->fe, 1), 0);
    }
    assert_int_equal(used.cookie, gpa);
    assert_int_equal(used.len, len);
    if (len)
        assert_memory_equal(at(g, gpa), at(g, gpa + IOMMU_PAGE), TEXT_LEN);
}

static void expect_none(struct guest *g, unsigned queue)
{
    struct gw_driver_used used;

    expect_served(g->fe);
    assert_int_equal(gw_driver_take(g->drivers[queue], &used, 1), 0);
}

static void echo(struct guest *g, const char *text)
{
    gw_gpa_t gpa = pages(g);

    add(g, 0, gpa, text);
    take(g, 0, gpa, TEXT_LEN);
}

static struct gw_frontend_iotlb mapping_of(struct guest *g, gw_gpa_t gpa)
{
    struct gw_frontend_iotlb map;

    assert_true(iommu_look_up(&g->iommu, iommu_find(&g->iommu, gpa), &map));
    return map;
}

static int invalidate(struct guest *g, gw_gpa_t gpa)
{
    return gw_frontend_iotlb_invalidate(g->fe, mapping_of(g, gpa).iova, IOMMU_PAGE);
}

static void ended(void *arg, int r)
{
    __atomic_store_n((unsigned *)arg, r == 0 ? 1u : 2u, __ATOMIC_RELEASE);
}

/* Answer the misses that were ignored so far. */
static void map_all(struct guest *g)
{
    g->iommu.is_silent = false;
    for (unsigned i = 0; i < IOMMU_PAGES; i++) {
        struct gw_frontend_iotlb map;

        if (iommu_look_up(&g->iommu, IOMMU_IOVA + i * IOMMU_PAGE, &map))
            assert_int_equal(gw_frontend_iotlb_update(g->fe, &map), 0);
    }
}

/* ---- requests ---- */

static void test_iotlb_requests_are_translated(void **state)
{
    struct guest g = {.n_queues = 2};

    begin(&g);
    for (unsigned i = 0; i < 40; i++)
        echo(&g, "through the IOMMU");
    assert_int_equal(g.iommu.n_failures, 0);
    end(&g);
}

static void test_iotlb_indirect_tables_are_translated(void **state)
{
    struct guest g = {.indirect_max = 4};

    begin(&g);
    for (unsigned i = 0; i < 40; i++)
        echo(&g, "in a table");
    end(&g);
}

static void test_iotlb_ring_starts_when_its_memory_is_mapped(void **state)
{
    struct guest g = {.is_silent = true};
    gw_gpa_t gpa;

    begin(&g); /* SET_VRING_KICK was answered */
    run_until(&g, &g.iommu.n_misses, 1);
    gpa = pages(&g);
    add(&g, 0, gpa, "early");
    expect_none(&g, 0);
    map_all(&g);
    take(&g, 0, gpa, TEXT_LEN);
    end(&g);
}

static void test_iotlb_ring_that_never_starts_can_be_stopped(void **state)
{
    struct guest g = {.is_silent = true};
    struct gw_frontend_options opt;
    uint32_t base = 77;

    begin(&g);
    run_until(&g, &g.iommu.n_misses, 1);
    assert_int_equal(gw_frontend_get_vring_base(g.fe, 0, &base), 0);
    assert_int_equal(base, gw_driver_base(g.drivers[0]));
    opt = options(&g);
    assert_int_equal(gw_frontend_start(g.fe, &opt), 0);
    map_all(&g);
    echo(&g, "started again");
    end(&g);
}

static void test_iotlb_session_ends_while_all_misses_are_open(void **state)
{
    struct guest g = {.n_queues = 2, .is_silent = true};

    begin(&g);
    run_until(&g, &g.iommu.n_misses, 1);
    end_guest(&g);
    memset(&g.iommu, 0, sizeof(g.iommu));
    g.is_silent = false;
    begin_guest(&g);
    echo(&g, "the next session");
    /* And while a request misses its buffers. */
    g.iommu.is_silent = true;
    add(&g, 0, pages(&g), "never");
    run_until(&g, &g.iommu.n_misses, 1);
    end(&g);
}

static void test_iotlb_request_that_misses_holds_up_no_other_queue(void **state)
{
    struct guest g = {.n_queues = 2};
    gw_gpa_t missing, mapped;
    unsigned n;

    begin(&g);
    echo(&g, "warm");
    missing = pages(&g);
    mapped = pages(&g);
    add(&g, 1, mapped, "other queue");
    take(&g, 1, mapped, TEXT_LEN);
    n = g.iommu.n_misses;
    g.iommu.is_silent = true;
    add(&g, 0, missing, "held up");
    run_until(&g, &g.iommu.n_misses, n + 2); /* both of its pages */
    for (unsigned i = 0; i < 20; i++) {
        add(&g, 1, mapped, "not held up");
        take(&g, 1, mapped, TEXT_LEN);
    }
    expect_none(&g, 0);
    assert_int_equal(g.iommu.n_misses, n + 2); /* each was asked for once */
    map_all(&g);
    take(&g, 0, missing, TEXT_LEN);
    end(&g);
}

static void test_iotlb_misses_behind_a_miss_are_asked_for_at_once(void **state)
{
    struct guest g = {0};
    gw_gpa_t gpa[6];
    unsigned n;

    begin(&g);
    echo(&g, "warm");
    n = g.iommu.n_misses;
    g.iommu.is_silent = true;
    for (unsigned i = 0; i < 6; i++) {
        gpa[i] = pages(&g);
        add_quietly(&g, 0, gpa[i], "one of six");
    }
    gw_driver_kick(g.drivers[0]);
    run_until(&g, &g.iommu.n_misses, n + 12);
    assert_int_equal(g.iommu.n_misses, n + 12);
    map_all(&g);
    for (unsigned i = 0; i < 6; i++)
        take(&g, 0, gpa[i], TEXT_LEN);
    end(&g);
}

static void test_iotlb_stop_leaves_a_request_that_misses_on_the_ring(void **state)
{
    struct guest g = {0};
    gw_gpa_t missing;
    unsigned n;

    begin(&g);
    echo(&g, "warm");
    n = g.iommu.n_misses;
    g.iommu.is_silent = true;
    missing = pages(&g);
    add(&g, 0, missing, "left");
    run_until(&g, &g.iommu.n_misses, n + 1);
    /* As QEMU: nothing is answered until the ring has stopped. */
    assert_int_equal(gw_frontend_stop(g.fe, g.drivers, 1), 0);
    assert_int_equal(gw_driver_in_flight(g.drivers[0]), 1);
    assert_int_equal(gw_frontend_start_queue(g.fe, g.drivers[0]), 0);
    assert_int_equal(gw_frontend_set_vring_enable(g.fe, 0, true), 0);
    map_all(&g);
    take(&g, 0, missing, TEXT_LEN);
    end(&g);
}

static void test_iotlb_access_that_is_not_allowed_is_refused(void **state)
{
    struct guest g = {0};
    gw_gpa_t gpa;

    begin(&g);
    gpa = pages(&g);
    assert_true(iommu_map(&g.iommu, gpa + IOMMU_PAGE, TEXT_LEN, GW_FRONTEND_IOTLB_READ) != 0);
    add(&g, 0, gpa, "not to be written");
    take(&g, 0, gpa, 0);
    assert_int_equal(at(&g, gpa + IOMMU_PAGE)[0], 0);
    run_until(&g, &g.iommu.n_failures, 1);
    assert_int_equal(g.iommu.failed.iova, iommu_find(&g.iommu, gpa + IOMMU_PAGE));
    assert_int_equal(g.iommu.failed.access, GW_FRONTEND_IOTLB_WRITE);
    echo(&g, "the ring continues");
    end(&g);
}

static void set_patience(struct guest *g, uint64_t ns)
{
    __atomic_store_n(&g->d->misses_patience_ns, ns, __ATOMIC_RELAXED);
}

static void test_iotlb_miss_without_an_answer_ends_its_request(void **state)
{
    struct guest g = {0};
    gw_gpa_t missing;

    begin(&g);
    echo(&g, "warm");
    set_patience(&g, 50000000);
    g.iommu.is_silent = true;
    missing = pages(&g);
    add(&g, 0, missing, "never mapped");
    take(&g, 0, missing, 0);
    g.iommu.is_silent = false;
    set_patience(&g, UINT64_C(1000000000) * 1000);
    /* After a moment the same page is asked for again. */
    for (unsigned i = 0; at(&g, missing + IOMMU_PAGE)[0] == 0; i++) {
        struct gw_driver_used used = {0};

        assert_true(i < patience_ms());
        add(&g, 0, missing, "mapped at last");
        while (gw_driver_take(g.drivers[0], &used, 1) == 0)
            assert_int_equal(gw_frontend_run(g.fe, 1), 0);
        usleep(1000);
    }
    end(&g);
}

/* ---- invalidations ---- */

static void test_iotlb_invalidation_waits_for_its_users_only(void **state)
{
    struct guest g = {0};
    gw_gpa_t used, other;
    unsigned is_done = 0;

    begin(&g);
    other = pages(&g);
    add(&g, 0, other, "other");
    take(&g, 0, other, TEXT_LEN);
    hold(true);
    used = pages(&g);
    add(&g, 0, used, "in flight");
    run_until(&g, &dev.n_held, 1);
    assert_int_equal(invalidate(&g, other), 0); /* the device holds a request elsewhere */
    assert_int_equal(gw_frontend_iotlb_invalidate_async(
                         g.fe, mapping_of(&g, used + IOMMU_PAGE).iova, 1, ended, &is_done),
                     0);
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(gw_frontend_run(g.fe, 1), 0);
    assert_int_equal(is_done, 0);
    hold(false);
    release(g.d);
    take(&g, 0, used, TEXT_LEN);
    run_until(&g, &is_done, 1);
    assert_int_equal(is_done, 1);
    add(&g, 0, used, "mapped again");
    take(&g, 0, used, TEXT_LEN);
    end(&g);
}

static void test_iotlb_invalidated_address_is_translated_anew(void **state)
{
    struct guest g = {0};
    uint64_t iova;
    gw_gpa_t a, b;

    begin(&g);
    a = pages(&g);
    b = pages(&g);
    add(&g, 0, a, "first");
    take(&g, 0, a, TEXT_LEN);
    iova = iommu_find(&g.iommu, a + IOMMU_PAGE);
    /* The address for the answer leads to another page now. */
    iommu_unmap(&g.iommu, iova, 1);
    assert_int_equal(gw_frontend_iotlb_invalidate(g.fe, iova, IOMMU_PAGE), 0);
    assert_int_equal(iommu_map(&g.iommu, b + IOMMU_PAGE, 1, 3), iova);
    memset(at(&g, a + IOMMU_PAGE), 0, TEXT_LEN);
    add(&g, 0, b, "second");
    take(&g, 0, b, TEXT_LEN);
    assert_string_equal(at(&g, a + IOMMU_PAGE), "");
    end(&g);
}

static void test_iotlb_invalidation_of_everything_keeps_the_ring(void **state)
{
    struct guest g = {.n_queues = 2};
    gw_gpa_t gpa;

    begin(&g);
    for (unsigned i = 0; i < 20; i++) {
        echo(&g, "before and after");
        if (i % 2)
            assert_int_equal(gw_frontend_iotlb_invalidate(g.fe, 0, 0), 0);
        else
            assert_int_equal(gw_frontend_iotlb_invalidate(g.fe, 0, UINT64_MAX), 0);
    }
    /* With a request in flight: the answer follows its completion. */
    hold(true);
    gpa = pages(&g);
    add(&g, 0, gpa, "in flight");
    run_until(&g, &dev.n_held, 1);
    hold(false);
    release(g.d);
    assert_int_equal(gw_frontend_iotlb_invalidate(g.fe, 0, 0), 0);
    take(&g, 0, gpa, TEXT_LEN);
    echo(&g, "and on");
    /* A ring without its pages can be stopped, and keeps its position. */
    g.iommu.is_silent = true;
    assert_int_equal(gw_frontend_iotlb_invalidate(g.fe, 0, 0), 0);
    assert_int_equal(gw_frontend_stop(g.fe, g.drivers, 2), 0);
    g.iommu.is_silent = false;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(gw_frontend_start_queue(g.fe, g.drivers[i]), 0);
        assert_int_equal(gw_frontend_set_vring_enable(g.fe, i, true), 0);
    }
    echo(&g, "once more");
    end(&g);
}

static void test_iotlb_ring_moves_in_guest_memory(void **state)
{
    struct guest g = {0};

    begin(&g);
    echo(&g, "at the first place");
    /* All user addresses change: the same file, mapped elsewhere by the front-end. */
    assert_int_equal(gw_frontend_set_mem_table(g.fe, g.mem), 0);
    echo(&g, "with a new table");
    end(&g);
}

static void test_iotlb_invalidation_gives_up_after_the_drain_time(void **state)
{
    struct guest g = {.drain_timeout_ms = 50};
    gw_gpa_t used;

    begin(&g);
    hold(true);
    used = pages(&g);
    add(&g, 0, used, "in flight");
    run_until(&g, &dev.n_held, 1);
    assert_int_equal(invalidate(&g, used), -EREMOTEIO);
    assert_int_equal(gw_frontend_iotlb_invalidate(g.fe, 0, 0), -EREMOTEIO);
    hold(false);
    release(g.d);
    take(&g, 0, used, TEXT_LEN);
    echo(&g, "after that");
    /* The session ends while an invalidation waits. */
    hold(true);
    add(&g, 0, used, "in flight");
    run_until(&g, &dev.n_held, 1);
    assert_int_equal(invalidate(&g, used), -EREMOTEIO);
    release(g.d);
    end(&g);
}

/* ---- the dirty log ---- */

static bool is_dirty(struct guest *g, gw_gpa_t gpa)
{
    return gw_guest_log_is_marked(g->log, gpa);
}

static void test_iotlb_dirty_log_has_guest_addresses(void **state)
{
    struct guest g = {0};
    gw_gpa_t gpa;

    begin(&g);
    echo(&g, "warm");
    assert_int_equal(gw_guest_log_new(&g.log,
                                      &(struct gw_guest_log_config){
                                          .size = sizeof(struct gw_guest_log_config),
                                          .length = gw_guest_log_length_for(g.mem, NULL, 0)}),
                     0);
    assert_int_equal(gw_frontend_set_log_base(g.fe, g.log), 0);
    assert_int_equal(gw_frontend_set_log_all(g.fe, true), 0);
    assert_int_equal(gw_frontend_set_vring_log(g.fe, g.drivers[0], true), 0);
    gpa = pages(&g);
    add(&g, 0, gpa, "logged");
    take(&g, 0, gpa, TEXT_LEN);
    assert_int_equal(gw_frontend_set_log_all(g.fe, false), 0);
    assert_false(is_dirty(&g, gpa));
    assert_true(is_dirty(&g, gpa + IOMMU_PAGE));
    end(&g);
    gw_guest_log_free(g.log);
}

/* ---- bad input ---- */

static void test_iotlb_bad_messages_are_refused(void **state)
{
    struct gw_frontend_iotlb map;
    struct guest g = {0};
    gw_gpa_t gpa;

    begin(&g);
    gpa = pages(&g);
    map = (struct gw_frontend_iotlb){
        .iova = 0x5000, .length = IOMMU_PAGE, .uva = gw_guest_mem_uva(g.mem, gpa), .access = 3};
    assert_int_equal(gw_frontend_iotlb_update(g.fe, &map), 0);
    map.access = 0;
    assert_int_equal(gw_frontend_iotlb_update(g.fe, &map), -EREMOTEIO);
    map.access = 7;
    assert_int_equal(gw_frontend_iotlb_update(g.fe, &map), -EREMOTEIO);
    map.access = 3;
    map.length = 0;
    assert_int_equal(gw_frontend_iotlb_update(g.fe, &map), -EREMOTEIO);
    map.length = LENGTH + 1;
    assert_int_equal(gw_frontend_iotlb_update(g.fe, &map), -EREMOTEIO);
    map.length = IOMMU_PAGE;
    map.iova = UINT64_MAX - 5;
    assert_int_equal(gw_frontend_iotlb_update(g.fe, &map), -EREMOTEIO);
    map.iova = 0x5000;
    map.uva = 0x1000;
    assert_int_equal(gw_frontend_iotlb_update(g.fe, &map), -EREMOTEIO);
    assert_int_equal(gw_frontend_iotlb_invalidate(g.fe, 5, 0), -EREMOTEIO);
    assert_int_equal(gw_frontend_iotlb_invalidate(g.fe, UINT64_MAX, 2), -EREMOTEIO);
    echo(&g, "the session continues");
    /* Types that a front-end does not send, and those that do not exist. No update is pending. */
    g.iommu.is_silent = true;
    expect_served(g.fe);
    for (uint8_t type = 0; type < 8; type++) {
        const struct gw_wire_iotlb wire = {.iova = 1, .size = 1, .access = 3, .type = type};
        struct gw_frontend_message answer;
        uint64_t status;

        if (type == GW_IOTLB_UPDATE || type == GW_IOTLB_INVALIDATE)
            continue;
        assert_int_equal(gw_frontend_send_raw(g.fe, GW_MSG_IOTLB_MSG, 9, sizeof(wire), &wire,
                                              sizeof(wire), NULL, 0),
                         0);
        assert_int_equal(gw_frontend_receive(g.fe, &answer, patience_ms()), 0);
        memcpy(&status, answer.payload, sizeof(status));
        assert_int_equal(status, EINVAL);
    }
    g.iommu.is_silent = false;
    echo(&g, "still");
    end(&g);
}

static void test_iotlb_flood_of_entries_is_bounded(void **state)
{
    struct guest g = {0};
    struct gw_frontend_iotlb map;

    begin(&g);
    map = (struct gw_frontend_iotlb){
        .length = IOMMU_PAGE, .uva = gw_guest_mem_uva(g.mem, GPA), .access = 3};
    for (unsigned i = 0; i < 3 * GW_IOTLB_ENTRIES_MAX; i++) {
        map.iova = 2 * i * IOMMU_PAGE;
        assert_int_equal(gw_frontend_iotlb_update(g.fe, &map), 0);
    }
    echo(&g, "after the flood"); /* its own entries may have been evicted */
    end(&g);
}

static void test_iotlb_excludes_postcopy(void **state)
{
    struct guest g = {0};
    int uffd = -1;

    begin(&g);
    if (!(gw_frontend_protocol_features(g.fe) >> GW_PROTOCOL_F_PAGEFAULT & 1)) {
        end(&g);
        skip();
    }
    assert_true(gw_frontend_postcopy_advise(g.fe, &uffd) < 0);
    end(&g);
}

static void test_iotlb_needs_the_feature_and_the_channel(void **state)
{
    const struct gw_frontend_iotlb map = {.iova = 0, .length = 1, .access = 3};
    struct gw_frontend *fe;
    struct guest g = {0};

    begin_daemon(&g);
    fe = daemon_fixture_connect();
    assert_int_equal(gw_frontend_iotlb_update(fe, &map), -EOPNOTSUPP);
    gw_frontend_free(fe);
    gw_daemon_stop(g.d);
    (void)gw_daemon_wait(g.d);
    gw_daemon_free(g.d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_iotlb_requests_are_translated),
        DAEMON_TEST(test_iotlb_indirect_tables_are_translated),
        DAEMON_TEST(test_iotlb_ring_starts_when_its_memory_is_mapped),
        DAEMON_TEST(test_iotlb_ring_that_never_starts_can_be_stopped),
        DAEMON_TEST(test_iotlb_session_ends_while_all_misses_are_open),
        DAEMON_TEST(test_iotlb_request_that_misses_holds_up_no_other_queue),
        DAEMON_TEST(test_iotlb_misses_behind_a_miss_are_asked_for_at_once),
        DAEMON_TEST(test_iotlb_stop_leaves_a_request_that_misses_on_the_ring),
        DAEMON_TEST(test_iotlb_access_that_is_not_allowed_is_refused),
        DAEMON_TEST(test_iotlb_miss_without_an_answer_ends_its_request),
        DAEMON_TEST(test_iotlb_invalidation_waits_for_its_users_only),
        DAEMON_TEST(test_iotlb_invalidated_address_is_translated_anew),
        DAEMON_TEST(test_iotlb_invalidation_of_everything_keeps_the_ring),
        DAEMON_TEST(test_iotlb_ring_moves_in_guest_memory),
        DAEMON_TEST(test_iotlb_invalidation_gives_up_after_the_drain_time),
        DAEMON_TEST(test_iotlb_dirty_log_has_guest_addresses),
        DAEMON_TEST(test_iotlb_bad_messages_are_refused),
        DAEMON_TEST(test_iotlb_flood_of_entries_is_bounded),
        DAEMON_TEST(test_iotlb_excludes_postcopy),
        DAEMON_TEST(test_iotlb_needs_the_feature_and_the_channel),
    };
    int r = cmocka_run_group_tests_name("split", tests, NULL, NULL);

    layout = UINT64_C(1) << GW_F_RING_PACKED;
    r += cmocka_run_group_tests_name("packed", tests, NULL, NULL);
    layout = UINT64_C(1) << GW_F_IN_ORDER | UINT64_C(1) << GW_F_RING_EVENT_IDX;
    r += cmocka_run_group_tests_name("in order", tests, NULL, NULL);
    return r;
}
