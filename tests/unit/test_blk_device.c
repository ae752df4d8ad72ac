/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * godwit-blk as libgodwit runs it: config space, starting and stopping. The store and what it calls
 * of the library are fakes.
 */
#include "blk.h"

#include "backend.h"

#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum {
    DISK_SIZE = 1 << 20
};

/* ---- the library, faked ---- */

static unsigned n_config_changed;
static bool may_suspend;
static int stop_failed;

unsigned gw_queue_index(const struct gw_queue *q)
{
    return 1;
}

bool gw_queue_may_suspend(struct gw_queue *q)
{
    return may_suspend;
}

void gw_queue_fail_stop(struct gw_queue *q, int error)
{
    stop_failed = error;
}

int gw_daemon_config_changed(struct gw_daemon *d)
{
    n_config_changed++;
    return 0;
}

void backend_say(enum gw_diag_level level, const char *format, ...)
{
}

/* ---- the store, faked ---- */

static struct {
    struct store base;
    int start_result;
    int stop_result;
    uint64_t next_size;
    unsigned n_started, n_stopped, n_cancelled;
} store;

static int fake_start(struct store *s)
{
    store.n_started++;
    return store.start_result;
}

static int fake_stop(struct store *s)
{
    store.n_stopped++;
    return store.stop_result;
}

static void fake_cancel(struct store *s, struct store_io *io)
{
    store.n_cancelled++;
}

static int fake_resize(struct store *s)
{
    s->size = store.next_size;
    return 0;
}

static const struct store_ops fake_ops = {
    .start = fake_start, .stop = fake_stop, .cancel = fake_cancel, .resize = fake_resize};

static struct blk blk;

static int setup(void **state)
{
    memset(&store, 0, sizeof(store));
    store.base.ops = &fake_ops;
    store.base.size = DISK_SIZE;
    store.base.block_size = 512;
    memset(&blk, 0, sizeof(blk));
    blk_init(&blk, &store.base,
             &(struct blk_options){.num_queues = 4, .queue_size = 256, .serial = "disk 1"});
    n_config_changed = 0;
    may_suspend = false;
    stop_failed = 0;
    return 0;
}

static struct virtio_blk_config get_config(void)
{
    struct virtio_blk_config cfg;

    assert_int_equal(blk_ops.get_config(&blk, 0, &cfg, sizeof(cfg)), 0);
    return cfg;
}

static void test_blk_config_tells_the_disk(void **state)
{
    struct virtio_blk_config cfg;

    store.base.topology = (struct store_topology){.physical_block = 4096, .io_min = 4096};
    cfg = get_config();
    assert_int_equal(le64toh(cfg.capacity), DISK_SIZE / 512);
    assert_int_equal(le32toh(cfg.seg_max), 126);
    assert_int_equal(le32toh(cfg.blk_size), 512);
    assert_int_equal(cfg.physical_block_exp, 3);
    assert_int_equal(le16toh(cfg.min_io_size), 8);
    assert_int_equal(le16toh(cfg.num_queues), 4);
    assert_int_equal(cfg.wce, 1);
    assert_int_equal(le32toh(cfg.max_discard_seg), BLK_SEGMENTS_MAX);
    blk.queue_size = 64;
    assert_int_equal(le32toh(get_config().seg_max), 62);
}

static void test_blk_config_parts_and_behind_the_end(void **state)
{
    uint8_t buf[GW_CONFIG_SIZE_MAX + 8];
    uint64_t capacity = htole64(DISK_SIZE / 512);

    memset(buf, 0xee, sizeof(buf));
    assert_int_equal(blk_ops.get_config(&blk, 0, buf, GW_CONFIG_SIZE_MAX), 0);
    assert_memory_equal(buf, &capacity, 8);
    assert_int_equal(buf[GW_CONFIG_SIZE_MAX - 1], 0);
    assert_int_equal(buf[GW_CONFIG_SIZE_MAX], 0xee);
    assert_int_equal(blk_ops.get_config(&blk, 20, buf, 4), 0);
    assert_int_equal(buf[1], 2); /* blk_size 512 */
    assert_int_equal(blk_ops.get_config(&blk, GW_CONFIG_SIZE_MAX, buf, 0), 0);
    assert_int_equal(blk_ops.get_config(&blk, GW_CONFIG_SIZE_MAX - 1, buf, 1), 0);
    assert_int_equal(buf[0], 0);
    assert_int_equal(blk_ops.get_config(&blk, GW_CONFIG_SIZE_MAX, buf, 1), -EINVAL);
    assert_int_equal(blk_ops.get_config(&blk, UINT32_MAX, buf, 2), -EINVAL);
}

static void test_blk_writeback_byte_makes_writes_durable(void **state)
{
    const uint32_t wce = offsetof(struct virtio_blk_config, wce);
    uint8_t value = 0, two = 2;

    assert_true(blk.is_write_through); /* no driver yet, and so no flush */
    blk_ops.features_acked(&blk, UINT64_C(1) << VIRTIO_BLK_F_FLUSH);
    assert_false(blk.is_write_through);
    assert_int_equal(blk_ops.set_config(&blk, wce, &value, 1, false), 0);
    assert_true(blk.is_write_through);
    assert_int_equal(get_config().wce, 0);
    assert_int_equal(blk_ops.set_config(&blk, wce, &two, 1, false), -EINVAL);
    blk_ops.reset(&blk);
    assert_int_equal(get_config().wce, 1);
    blk_ops.features_acked(&blk, 0);
    assert_true(blk.is_write_through);
}

static void test_blk_config_writes_elsewhere_are_refused(void **state)
{
    struct virtio_blk_config cfg = get_config();
    const uint32_t wce = offsetof(struct virtio_blk_config, wce);

    assert_int_equal(blk_ops.set_config(&blk, 0, &cfg, 8, false), -EINVAL);
    assert_int_equal(blk_ops.set_config(&blk, wce, &cfg.wce, 2, false), -EINVAL);
    assert_int_equal(blk_ops.set_config(&blk, UINT32_MAX, &cfg, 1, false), -EINVAL);
    assert_int_equal(blk_ops.set_config(&blk, wce, &cfg, 0, false), -EINVAL);
    cfg.wce = 0;
    cfg.capacity = 0;
    assert_int_equal(blk_ops.set_config(&blk, 0, &cfg, sizeof(cfg), true), 0);
    assert_int_equal(get_config().wce, 0);
    assert_int_equal(le64toh(get_config().capacity), DISK_SIZE / 512);
}

static void test_blk_reload_tells_a_new_size_once(void **state)
{
    store.next_size = DISK_SIZE * 2;
    blk_reload(&blk, NULL);
    blk_reload(&blk, NULL);
    assert_int_equal(n_config_changed, 1);
    assert_int_equal(le64toh(get_config().capacity), DISK_SIZE * 2 / 512);
}

static void test_blk_queue_start_can_be_refused(void **state)
{
    store.start_result = -EBUSY;
    assert_int_equal(blk_ops.queue_start(&blk, NULL), -EBUSY);
    assert_int_equal(store.n_started, 1);
}

static void test_blk_queue_stop_suspends_where_it_may(void **state)
{
    for (unsigned i = 0; i < 2; i++) {
        struct blk_request *b = &(struct blk_request){.next = NULL};

        may_suspend = i == 1;
        assert_int_equal(blk_ops.queue_start(&blk, NULL), 0);
        blk_ops.queue_stop(&blk, NULL);
        assert_int_equal(store.n_stopped, i + 1);
        assert_int_equal(blk_ops.queue_start(&blk, NULL), 0);
        blk.queues[1].in_flight = b;
        blk_ops.queue_stop(&blk, NULL);
        assert_int_equal(store.n_stopped, i + 1);
        assert_int_equal(store.n_cancelled, i);
        assert_int_equal(b->io.is_cancelled, may_suspend);
    }
}

static void test_blk_stop_that_fails_is_remembered(void **state)
{
    assert_false(blk_has_lost_data(&blk));
    assert_int_equal(blk_ops.queue_start(&blk, NULL), 0);
    store.stop_result = -EIO;
    blk_ops.queue_stop(&blk, NULL);
    assert_int_equal(stop_failed, -EIO);
    assert_true(blk_has_lost_data(&blk));
}

#define TEST(name) cmocka_unit_test_setup(test_blk_##name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(config_tells_the_disk),
        TEST(config_parts_and_behind_the_end),
        TEST(writeback_byte_makes_writes_durable),
        TEST(config_writes_elsewhere_are_refused),
        TEST(reload_tells_a_new_size_once),
        TEST(queue_start_can_be_refused),
        TEST(queue_stop_suspends_where_it_may),
        TEST(stop_that_fails_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
