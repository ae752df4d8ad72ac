/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The device operations of libgodwit-blk: config space, starting and stopping. The store and the
 * library are fakes.
 */
#include "blk/blk_i.h"

#include "../fixtures/no_memory.h"

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
static bool may_suspend, is_taken_over;
static int stop_failed, start_result;
static unsigned n_starts_completed, n_stops_delayed;

unsigned gw_queue_index(const struct gw_queue *q)
{
    return 1;
}

bool gw_queue_may_suspend(struct gw_queue *q)
{
    return may_suspend;
}

/* The request that queue_ready pops: a write of one sector, or ranges. */
static struct {
    struct virtio_blk_outhdr header;
    struct virtio_blk_discard_write_zeroes ranges[BLK_SEGMENTS_MAX + 1];
} asked;
static unsigned n_ranges;
static size_t n_read;
static struct gw_request asked_req;
static struct blk_request asked_b;
static uint8_t asked_status;

unsigned gw_queue_pop(struct gw_queue *q, struct gw_request **reqs, unsigned n_reqs)
{
    asked_req = (struct gw_request){.readable_len =
                                        sizeof(asked.header) +
                                        (n_ranges > 0 ? n_ranges * sizeof(asked.ranges[0]) : 512),
                                    .writable_len = 1};
    n_read = 0;
    reqs[0] = &asked_req;
    return 1;
}

void *gw_request_private(struct gw_request *r)
{
    return &asked_b;
}

bool gw_request_take_status(struct gw_request *r)
{
    return true;
}

size_t gw_request_read(struct gw_request *r, void *buf, size_t len)
{
    memcpy(buf, (const uint8_t *)&asked + n_read, len);
    n_read += len;
    r->readable_len -= len;
    return len;
}

void gw_request_complete_status(struct gw_request *r, uint8_t status)
{
    asked_status = status;
}

size_t gw_request_write(struct gw_request *r, const void *buf, size_t len)
{
    return len;
}

int gw_request_suspend(struct gw_request *r)
{
    return 0;
}

struct gw_worker *gw_queue_worker(const struct gw_queue *q)
{
    return NULL;
}

bool gw_worker_is_current(const struct gw_worker *w)
{
    return true;
}

int gw_worker_post(struct gw_worker *w, struct gw_post *post)
{
    return 0;
}

bool gw_queue_is_taken_over(const struct gw_queue *q)
{
    return is_taken_over;
}

void gw_queue_complete_start(struct gw_queue *q, int r)
{
    n_starts_completed++;
    start_result = r;
}

void gw_queue_delay_stop(struct gw_queue *q)
{
    n_stops_delayed++;
}

void gw_queue_complete_stop(struct gw_queue *q, int r)
{
    n_stops_delayed--;
    stop_failed = r;
}

void gw_daemon_config_changed(struct gw_daemon *d)
{
    n_config_changed++;
}

static unsigned n_said;

static void note_message(void *arg, enum gw_log_level level, const char *message)
{
    n_said++;
}

/* ---- the store, faked ---- */

static struct {
    int start_result;
    int stop_result;
    bool is_durable; /* of the last write */
    unsigned n_submitted;
    uint64_t length; /* of the last range */
    unsigned n_started, n_stopped, n_cancelled, n_starts_cancelled;
    struct gw_blk_user *user; /* of the last start or stop */
} store;

static int fake_start(void *s, struct gw_blk_user *user)
{
    store.n_started++;
    store.user = user;
    return store.start_result;
}

static int fake_stop(void *s, struct gw_blk_user *user)
{
    store.n_stopped++;
    store.user = user;
    return store.stop_result;
}

static void fake_cancel_start(void *s, struct gw_blk_user *user)
{
    assert_ptr_equal(user, store.user);
    store.n_starts_cancelled++;
}

static void fake_cancel(void *s, struct gw_blk_io *io)
{
    store.n_cancelled++;
}

static int fake_submit(void *s, struct gw_blk_io *io)
{
    store.is_durable = io->is_durable;
    store.length = io->length;
    store.n_submitted++;
    return 0;
}

static const struct gw_blk_store_ops fake_ops = {.size = sizeof(fake_ops),
                                                 .submit = fake_submit,
                                                 .start = fake_start,
                                                 .cancel_start = fake_cancel_start,
                                                 .stop = fake_stop,
                                                 .cancel = fake_cancel};

static struct gw_blk *blk;

static int setup(void **state)
{
    memset(&store, 0, sizeof(store));
    gw_blk_free(blk);
    assert_int_equal(gw_blk_new(&blk,
                                &(struct gw_blk_config){.size = sizeof(struct gw_blk_config),
                                                        .capacity = DISK_SIZE,
                                                        .can_discard = true,
                                                        .num_queues = 4,
                                                        .queue_size_max = 256,
                                                        .serial = "disk 1",
                                                        .log = note_message,
                                                        .log_level = GW_LOG_INFO},
                                &fake_ops, &store),
                     0);
    memset(&asked, 0, sizeof(asked));
    asked.header.type = htole32(VIRTIO_BLK_T_OUT);
    n_ranges = 0;
    n_config_changed = 0;
    may_suspend = is_taken_over = false;
    stop_failed = start_result = 0;
    n_starts_completed = n_stops_delayed = 0;
    return 0;
}

static struct virtio_blk_config get_config(void)
{
    struct virtio_blk_config cfg;

    assert_int_equal(gw_blk_ops()->get_config(blk, 0, &cfg, sizeof(cfg)), 0);
    return cfg;
}

static void test_blk_config_tells_the_disk(void **state)
{
    struct virtio_blk_config cfg;

    blk->config.physical_block = blk->config.io_min = 4096;
    cfg = get_config();
    assert_int_equal(le64toh(cfg.capacity), DISK_SIZE / 512);
    assert_int_equal(le32toh(cfg.seg_max), 126);
    assert_int_equal(le32toh(cfg.blk_size), 512);
    assert_int_equal(cfg.physical_block_exp, 3);
    assert_int_equal(le16toh(cfg.min_io_size), 8);
    assert_int_equal(le16toh(cfg.num_queues), 4);
    assert_int_equal(cfg.wce, 1);
    assert_int_equal(le32toh(cfg.max_discard_seg), BLK_SEGMENTS_MAX);
    blk->config.queue_size_max = 64;
    assert_int_equal(le32toh(get_config().seg_max), 62);
}

static void test_blk_config_parts_and_behind_the_end(void **state)
{
    uint8_t buf[GW_CONFIG_SIZE_MAX + 8];
    uint64_t capacity = htole64(DISK_SIZE / 512);

    memset(buf, 0xee, sizeof(buf));
    assert_int_equal(gw_blk_ops()->get_config(blk, 0, buf, GW_CONFIG_SIZE_MAX), 0);
    assert_memory_equal(buf, &capacity, 8);
    assert_int_equal(buf[GW_CONFIG_SIZE_MAX - 1], 0);
    assert_int_equal(buf[GW_CONFIG_SIZE_MAX], 0xee);
    assert_int_equal(gw_blk_ops()->get_config(blk, 20, buf, 4), 0);
    assert_int_equal(buf[1], 2); /* blk_size 512 */
    assert_int_equal(gw_blk_ops()->get_config(blk, GW_CONFIG_SIZE_MAX, buf, 0), 0);
    assert_int_equal(gw_blk_ops()->get_config(blk, GW_CONFIG_SIZE_MAX - 1, buf, 1), 0);
    assert_int_equal(buf[0], 0);
    assert_int_equal(gw_blk_ops()->get_config(blk, GW_CONFIG_SIZE_MAX, buf, 1), -EINVAL);
    assert_int_equal(gw_blk_ops()->get_config(blk, UINT32_MAX, buf, 2), -EINVAL);
}

static void test_blk_writeback_byte_makes_writes_durable(void **state)
{
    const uint32_t wce = offsetof(struct virtio_blk_config, wce);
    uint8_t value = 0, two = 2;

    assert_true(blk->is_write_through); /* a driver that is not known yet may never flush */
    gw_blk_ops()->features_acked(blk, UINT64_C(1) << VIRTIO_BLK_F_FLUSH);
    assert_false(blk->is_write_through);
    assert_int_equal(gw_blk_ops()->set_config(blk, wce, &value, 1, false), 0);
    assert_true(blk->is_write_through);
    assert_int_equal(get_config().wce, 0);
    assert_int_equal(gw_blk_ops()->set_config(blk, wce, &two, 1, false), -EINVAL);
    gw_blk_ops()->reset(blk);
    assert_int_equal(get_config().wce, 1);
    gw_blk_ops()->features_acked(blk, 0);
    assert_true(blk->is_write_through);
}

#define FLUSH      (UINT64_C(1) << VIRTIO_BLK_F_FLUSH)
#define CONFIG_WCE (UINT64_C(1) << VIRTIO_BLK_F_CONFIG_WCE)

/* 5.2.5.2. Before features are negotiated, the config space has the default. */
static void test_blk_writeback_byte_without_flush_is_0(void **state)
{
    uint8_t one = 1;

    assert_int_equal(get_config().wce, 1);
    gw_blk_ops()->features_acked(blk, CONFIG_WCE);
    assert_int_equal(get_config().wce, 0);
    assert_int_equal(
        gw_blk_ops()->set_config(blk, offsetof(struct virtio_blk_config, wce), &one, 1, false), 0);
    assert_int_equal(get_config().wce, 0); /* the driver cannot flush */
    gw_blk_ops()->features_acked(blk, CONFIG_WCE | FLUSH);
    assert_int_equal(get_config().wce, 1);
}

/* A driver never finds the setting of a previous one. */
static void test_blk_setting_ends_with_its_session(void **state)
{
    uint8_t zero = 0;

    gw_blk_ops()->features_acked(blk, CONFIG_WCE | FLUSH);
    assert_int_equal(
        gw_blk_ops()->set_config(blk, offsetof(struct virtio_blk_config, wce), &zero, 1, false), 0);
    gw_blk_ops()->reset(blk);
    assert_int_equal(get_config().wce, 1);
    gw_blk_ops()->features_acked(blk, CONFIG_WCE | FLUSH);
    assert_int_equal(get_config().wce, 1);
}

/* Does the queue make each write durable? */
static bool is_write_through(void)
{
    assert_int_equal(gw_blk_ops()->queue_ready(blk, NULL), 0);
    assert_int_equal(asked_status, VIRTIO_BLK_S_OK);
    return store.is_durable;
}

/* The driver of the earlier session may have turned the cache off. */
static void test_blk_taken_over_writes_through_until_the_driver_says_more(void **state)
{
    for (uint8_t value = 0; value < 2; value++) {
        setup(state);
        is_taken_over = true;
        gw_blk_ops()->features_acked(blk, CONFIG_WCE | FLUSH);
        assert_int_equal(get_config().wce, 1);
        n_said = 0;
        for (unsigned queue = 0; queue < 2; queue++) {
            assert_int_equal(gw_blk_ops()->queue_start(blk, NULL), 0);
            assert_int_equal(n_said, 1); /* by the first */
        }
        assert_int_equal(get_config().wce, 0);
        assert_true(is_write_through());
        assert_int_equal(gw_blk_ops()->set_config(blk, offsetof(struct virtio_blk_config, wce),
                                                  &value, 1, value == 0),
                         0);
        assert_int_equal(get_config().wce, value);
        assert_int_equal(is_write_through(), value == 0);
        gw_blk_ops()->reset(blk);
        is_taken_over = false;
        gw_blk_ops()->features_acked(blk, CONFIG_WCE | FLUSH);
        assert_int_equal(gw_blk_ops()->queue_start(blk, NULL), 0);
        assert_false(is_write_through());
        gw_blk_ops()->reset(blk);
        is_taken_over = true;
        gw_blk_ops()->features_acked(blk, CONFIG_WCE | FLUSH);
        assert_int_equal(gw_blk_ops()->queue_start(blk, NULL), 0);
        assert_true(is_write_through());
    }
}

/* A front-end may restore the config space before it starts the rings. */
static void test_blk_setting_restored_before_the_rings_start_is_kept(void **state)
{
    for (unsigned i = 0; i < 4; i++) {
        uint8_t value = i & 1;

        setup(state);
        is_taken_over = i & 2;
        gw_blk_ops()->features_acked(blk, CONFIG_WCE | FLUSH);
        assert_int_equal(
            gw_blk_ops()->set_config(blk, offsetof(struct virtio_blk_config, wce), &value, 1, true),
            0);
        for (unsigned queue = 0; queue < 2; queue++) {
            assert_int_equal(gw_blk_ops()->queue_start(blk, NULL), 0);
            assert_int_equal(get_config().wce, value);
            assert_int_equal(is_write_through(), value == 0);
        }
        gw_blk_ops()->reset(blk);
    }
}

/* That driver cannot have turned the cache off. */
static void test_blk_taken_over_from_a_driver_without_the_setting_keeps_the_cache(void **state)
{
    is_taken_over = true;
    gw_blk_ops()->features_acked(blk, FLUSH);
    assert_int_equal(gw_blk_ops()->queue_start(blk, NULL), 0);
    assert_false(is_write_through());
    assert_int_equal(get_config().wce, 1);
}

/* Request `n` ranges. Returns: the status; the store gets all ranges or none. */
static uint8_t ask_for_ranges(uint32_t type, unsigned n, uint32_t n_sectors)
{
    asked.header.type = htole32(type);
    n_ranges = n;
    for (unsigned i = 0; i < n; i++)
        asked.ranges[i].num_sectors = htole32(n_sectors);
    store.n_submitted = 0;
    asked_status = 0xff;
    assert_int_equal(gw_blk_ops()->queue_ready(blk, NULL), 0);
    assert_int_equal(store.n_submitted, asked_status == VIRTIO_BLK_S_OK ? n : 0);
    return asked_status;
}

static void test_blk_offers_what_the_store_can_do(void **state)
{
    const uint64_t discard = UINT64_C(1) << VIRTIO_BLK_F_DISCARD;
    const uint64_t zeroes = UINT64_C(1) << VIRTIO_BLK_F_WRITE_ZEROES;
    struct virtio_blk_config cfg;

    assert_int_equal(gw_blk_ops()->features(blk) & (discard | zeroes), discard | zeroes);
    blk->config.can_discard = false;
    assert_int_equal(gw_blk_ops()->features(blk) & (discard | zeroes), zeroes);
    cfg = get_config();
    assert_int_equal(cfg.max_discard_sectors | cfg.max_discard_seg | cfg.discard_sector_alignment,
                     0);
    assert_int_equal(cfg.write_zeroes_may_unmap, 0);
    assert_int_equal(le32toh(cfg.max_write_zeroes_seg), BLK_SEGMENTS_MAX);
    assert_int_equal(le32toh(cfg.max_write_zeroes_sectors), BLK_RANGE_SECTORS_MAX);

    blk->config.no_write_zeroes = true;
    assert_int_equal(gw_blk_ops()->features(blk) & (discard | zeroes), 0);
    assert_int_equal(get_config().max_write_zeroes_sectors, 0);
    assert_int_equal(ask_for_ranges(VIRTIO_BLK_T_WRITE_ZEROES, 1, 8), VIRTIO_BLK_S_UNSUPP);
    blk->config.no_write_zeroes = false;

    blk->config.is_read_only = true;
    assert_int_equal(gw_blk_ops()->features(blk) & (discard | zeroes), 0);
    cfg = get_config();
    assert_int_equal(cfg.max_write_zeroes_sectors | cfg.max_write_zeroes_seg, 0);
}

static void check_limits(uint32_t type, uint32_t sectors_max, uint32_t ranges_max)
{
    assert_int_equal(sectors_max, 1 << 22);
    assert_int_equal(ranges_max, 32);
    assert_int_equal(ask_for_ranges(type, ranges_max, sectors_max), VIRTIO_BLK_S_OK);
    assert_int_equal(store.length, UINT64_C(2) << 30);
    assert_int_equal(ask_for_ranges(type, ranges_max, sectors_max + 1), VIRTIO_BLK_S_IOERR);
    assert_int_equal(ask_for_ranges(type, ranges_max + 1, sectors_max), VIRTIO_BLK_S_IOERR);
}

/* The limits in the config space are exact. */
static void test_blk_ranges_are_accepted_up_to_the_limits(void **state)
{
    struct virtio_blk_config cfg = get_config();

    blk->capacity = UINT64_C(4) << 30;
    assert_int_equal(gw_blk_ops()->queue_start(blk, NULL), 0);
    check_limits(VIRTIO_BLK_T_DISCARD, le32toh(cfg.max_discard_sectors),
                 le32toh(cfg.max_discard_seg));
    check_limits(VIRTIO_BLK_T_WRITE_ZEROES, le32toh(cfg.max_write_zeroes_sectors),
                 le32toh(cfg.max_write_zeroes_seg));
    assert_int_equal(cfg.write_zeroes_may_unmap, 1);
    blk->capacity = (UINT64_C(2) << 30) - 512;
    assert_int_equal(ask_for_ranges(VIRTIO_BLK_T_DISCARD, 1, 1 << 22), VIRTIO_BLK_S_IOERR);
    assert_int_equal(ask_for_ranges(VIRTIO_BLK_T_DISCARD, 1, (1 << 22) - 1), VIRTIO_BLK_S_OK);
}

static void test_blk_ranges_without_memory_are_an_error(void **state)
{
    assert_int_equal(gw_blk_ops()->queue_start(blk, NULL), 0);
    no_memory_begin(NO_MEMORY_OF_CALLER, 1);
    assert_int_equal(ask_for_ranges(VIRTIO_BLK_T_DISCARD, 3, 8), VIRTIO_BLK_S_IOERR);
    assert_true(no_memory_end());
    assert_int_equal(ask_for_ranges(VIRTIO_BLK_T_DISCARD, 3, 8), VIRTIO_BLK_S_OK);
}

static void test_blk_alignment_of_discards(void **state)
{
    static const struct {
        uint32_t align, block_size, expected;
    } cases[] = {
        {0, 512, 1},  {512, 512, 1},  {1024, 512, 2},  {65536, 512, 128},
        {0, 4096, 8}, {512, 4096, 8}, {4096, 4096, 8}, {8192, 4096, 16},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        blk->config.discard_align = cases[i].align;
        blk->config.block_size = cases[i].block_size;
        assert_int_equal(le32toh(get_config().discard_sector_alignment), cases[i].expected);
    }
}

static void test_blk_config_writes_elsewhere_are_refused(void **state)
{
    struct virtio_blk_config cfg = get_config();
    const uint32_t wce = offsetof(struct virtio_blk_config, wce);

    assert_int_equal(gw_blk_ops()->set_config(blk, 0, &cfg, 8, false), -EINVAL);
    assert_int_equal(gw_blk_ops()->set_config(blk, wce, &cfg.wce, 2, false), -EINVAL);
    assert_int_equal(gw_blk_ops()->set_config(blk, UINT32_MAX, &cfg, 1, false), -EINVAL);
    assert_int_equal(gw_blk_ops()->set_config(blk, wce, &cfg, 0, false), -EINVAL);
    cfg.wce = 0;
    cfg.capacity = 0;
    assert_int_equal(gw_blk_ops()->set_config(blk, 0, &cfg, sizeof(cfg), true), 0);
    assert_int_equal(get_config().wce, 0);
    assert_int_equal(le64toh(get_config().capacity), DISK_SIZE / 512);
}

/* A restored config space may come in pieces; only the one with the byte of the cache counts. */
static void test_blk_config_is_restored_in_pieces(void **state)
{
    const uint32_t wce = offsetof(struct virtio_blk_config, wce);
    const struct {
        uint32_t off, len;
        bool has_wce;
    } pieces[] = {
        {0, wce, false},     {0, wce + 1, true},     {wce - 1, 1, false}, {wce - 1, 2, true},
        {wce, 0, false},     {wce, 1, true},         {wce, 2, true},      {wce + 1, 1, false},
        {wce + 1, 9, false}, {UINT32_MAX, 1, false},
    };
    struct virtio_blk_config cfg = {.wce = 0};
    static const uint8_t on = 1, too_long[GW_CONFIG_SIZE_MAX + 1];

    for (unsigned i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        assert_int_equal(gw_blk_ops()->set_config(blk, wce, &on, 1, false), 0);
        assert_int_equal(gw_blk_ops()->set_config(blk, pieces[i].off, &cfg, pieces[i].len, true),
                         0);
        if (get_config().wce != !pieces[i].has_wce)
            fail_msg("piece %u", i);
    }
    assert_int_equal(gw_blk_ops()->set_config(blk, 0, too_long, sizeof(too_long), true), -EINVAL);
}

static void test_blk_segments_leave_room_for_header_and_status(void **state)
{
    static const struct {
        uint32_t queue_size, seg_max;
    } cases[] = {{1, 1}, {2, 1}, {3, 1}, {4, 2}, {64, 62}, {32768, 126}};

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        blk->config.queue_size_max = cases[i].queue_size;
        assert_int_equal(le32toh(get_config().seg_max), cases[i].seg_max);
    }
}

static void test_blk_topology_is_in_blocks(void **state)
{
    static const struct {
        struct gw_blk_config store;
        uint32_t block;
        uint8_t exponent, offset;
        uint32_t min, opt;
    } cases[] = {
        {{.physical_block = 0}, 512, 0, 0, 0, 0},
        {{.physical_block = 512}, 512, 0, 0, 0, 0},
        {{.physical_block = 1023}, 512, 0, 0, 0, 0},
        {{.physical_block = 1024}, 512, 1, 0, 0, 0},
        {{.physical_block = 4096, .alignment_offset = 3584}, 512, 3, 7, 0, 0},
        {{.physical_block = 4096, .io_min = 8192, .io_opt = 65536}, 4096, 0, 0, 2, 16},
        {{.physical_block = 512U << 16}, 512, 16, 0, 0, 0},
        {{.physical_block = 512U << 18}, 512, 16, 0, 0, 0},
        {{.io_min = 512U * UINT16_MAX}, 512, 0, 0, UINT16_MAX, 0},
        {{.io_min = 512U * (UINT16_MAX + 1)}, 512, 0, 0, 0, 0},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct virtio_blk_config cfg;

        blk->config = cases[i].store;
        blk->config.block_size = cases[i].block;
        cfg = get_config();
        if (cfg.physical_block_exp != cases[i].exponent ||
            cfg.alignment_offset != cases[i].offset || le16toh(cfg.min_io_size) != cases[i].min ||
            le32toh(cfg.opt_io_size) != cases[i].opt)
            fail_msg("case %u: %u %u %u %u", i, cfg.physical_block_exp, cfg.alignment_offset,
                     le16toh(cfg.min_io_size), le32toh(cfg.opt_io_size));
    }
}

static void test_blk_resize_reports_a_new_size_once(void **state)
{
    assert_int_equal(gw_blk_resize(blk, NULL, DISK_SIZE * 2), 0);
    assert_int_equal(gw_blk_resize(blk, NULL, DISK_SIZE * 2), 0);
    assert_int_equal(gw_blk_resize(blk, NULL, DISK_SIZE + 1), -EINVAL);
    assert_int_equal(n_config_changed, 1);
    assert_int_equal(le64toh(get_config().capacity), DISK_SIZE * 2 / 512);
}

static void test_blk_queue_start_can_be_refused(void **state)
{
    store.start_result = -EBUSY;
    assert_int_equal(gw_blk_ops()->queue_start(blk, NULL), -EBUSY);
    assert_int_equal(store.n_started, 1);
}

static void test_blk_queue_stop_suspends_where_it_may(void **state)
{
    for (unsigned i = 0; i < 2; i++) {
        struct blk_request *b = &(struct blk_request){.next = NULL};

        may_suspend = i == 1;
        assert_int_equal(gw_blk_ops()->queue_start(blk, NULL), 0);
        gw_blk_ops()->queue_stop(blk, NULL);
        assert_int_equal(store.n_stopped, i + 1);
        assert_int_equal(gw_blk_ops()->queue_start(blk, NULL), 0);
        blk->queues[1].in_flight = b;
        gw_blk_ops()->queue_stop(blk, NULL);
        assert_int_equal(store.n_stopped, i + 1);
        assert_int_equal(store.n_cancelled, i);
        assert_int_equal(b->io.is_cancelled, may_suspend);
    }
}

static void test_blk_queue_start_that_takes_time(void **state)
{
    store.start_result = -EINPROGRESS;
    for (int r = 0; r >= -1; r--) {
        assert_int_equal(gw_blk_ops()->queue_start(blk, NULL), -EINPROGRESS);
        assert_true(gw_blk_is_pending(blk));
        store.user->done(store.user, r);
        assert_false(gw_blk_is_pending(blk));
        assert_int_equal(start_result, r);
    }
    assert_int_equal(n_starts_completed, 2);
    assert_int_equal(store.n_stopped, 0);
}

/* The queue stops before the store has started: the start ends early, or is undone. */
static void test_blk_queue_stop_during_the_start(void **state)
{
    for (unsigned i = 0; i < 3; i++) {
        store.start_result = -EINPROGRESS;
        store.stop_result = i == 2 ? -EINPROGRESS : 0;
        assert_int_equal(gw_blk_ops()->queue_start(blk, NULL), -EINPROGRESS);
        gw_blk_ops()->queue_stop(blk, NULL);
        assert_int_equal(store.n_starts_cancelled, i + 1);
        assert_int_equal(n_starts_completed, i);
        store.user->done(store.user, i == 0 ? -ECANCELED : 0);
        if (i == 2) {
            assert_int_equal(n_starts_completed, i);
            assert_true(gw_blk_is_pending(blk));
            store.user->done(store.user, 0);
        }
        assert_false(gw_blk_is_pending(blk));
        assert_int_equal(n_starts_completed, i + 1);
        assert_int_equal(start_result, -ECANCELED);
        assert_int_equal(store.n_stopped, i);
    }
}

static void test_blk_queue_stop_that_takes_time(void **state)
{
    store.stop_result = -EINPROGRESS;
    assert_int_equal(gw_blk_ops()->queue_start(blk, NULL), 0);
    gw_blk_ops()->queue_stop(blk, NULL);
    assert_true(gw_blk_is_pending(blk));
    assert_int_equal(n_stops_delayed, 1);
    store.user->done(store.user, -EIO);
    assert_false(gw_blk_is_pending(blk));
    assert_int_equal(n_stops_delayed, 0);
    assert_int_equal(stop_failed, -EIO);
    assert_int_equal(gw_blk_stop_error(blk), -EIO);
}

static void test_blk_stop_that_fails_is_remembered(void **state)
{
    assert_int_equal(gw_blk_stop_error(blk), 0);
    assert_int_equal(gw_blk_ops()->queue_start(blk, NULL), 0);
    store.stop_result = -EIO;
    gw_blk_ops()->queue_stop(blk, NULL);
    assert_int_equal(stop_failed, -EIO);
    assert_int_equal(gw_blk_stop_error(blk), -EIO);
}

/* ---- the state ---- */

/* Returns: its length. */
static size_t save(uint8_t *buf, size_t size)
{
    const struct gw_device_ops *ops = gw_blk_ops();
    size_t n = 0;
    int64_t r;
    int fd = -1;

    assert_int_equal(ops->state_begin(blk, GW_STATE_SAVE, &fd), 0);
    assert_int_equal(fd, -1);
    while ((r = ops->state_save(blk, buf + n, size - n)) > 0)
        n += (size_t)r;
    assert_int_equal(r, 0);
    assert_int_equal(ops->state_end(blk, GW_STATE_SAVE, 0), 0);
    return n;
}

/* Byte by byte. */
static int load(const uint8_t *data, size_t len)
{
    const struct gw_device_ops *ops = gw_blk_ops();
    int64_t r = 1;
    int fd = -1;

    assert_int_equal(ops->state_begin(blk, GW_STATE_LOAD, &fd), 0);
    for (size_t i = 0; i < len && r == 1; i++)
        r = ops->state_load(blk, data + i, 1);
    return r < 0 ? (ops->state_end(blk, GW_STATE_LOAD, (int)r), (int)r)
                 : ops->state_end(blk, GW_STATE_LOAD, 0);
}

static void set_writeback(uint8_t value)
{
    assert_int_equal(
        gw_blk_ops()->set_config(blk, offsetof(struct virtio_blk_config, wce), &value, 1, false),
        0);
}

static void test_blk_state_keeps_the_cache_of_another_device(void **state)
{
    uint8_t bytes[256];
    size_t len;

    for (uint8_t value = 0; value < 2; value++) {
        setup(state);
        gw_blk_ops()->features_acked(blk, CONFIG_WCE | FLUSH);
        set_writeback(value);
        len = save(bytes, sizeof(bytes));
        setup(state); /* another device, whose queues are taken over */
        is_taken_over = true;
        assert_int_equal(load(bytes, len), 0);
        gw_blk_ops()->features_acked(blk, CONFIG_WCE | FLUSH);
        assert_int_equal(gw_blk_ops()->queue_start(blk, NULL), 0);
        assert_int_equal(get_config().wce, value);
        assert_int_equal(is_write_through(), value == 0);
        gw_blk_ops()->reset(blk);
        assert_int_equal(get_config().wce, 1); /* it ends with its session */
    }
}

/* A cache that may be off is off for the next device, too. */
static void test_blk_state_of_a_device_that_was_taken_over(void **state)
{
    uint8_t bytes[256];
    size_t len;

    is_taken_over = true;
    gw_blk_ops()->features_acked(blk, CONFIG_WCE | FLUSH);
    assert_int_equal(gw_blk_ops()->queue_start(blk, NULL), 0);
    len = save(bytes, sizeof(bytes));
    setup(state);
    assert_int_equal(load(bytes, len), 0);
    assert_int_equal(get_config().wce, 0);
}

static void test_blk_state_that_is_bad_changes_nothing(void **state)
{
    static const uint8_t byte = 2;
    struct gw_state_writer *w;
    const uint8_t *data;
    uint8_t bytes[256];
    size_t len;

    gw_blk_ops()->features_acked(blk, CONFIG_WCE | FLUSH);
    set_writeback(0);
    len = save(bytes, sizeof(bytes));
    set_writeback(1);
    for (size_t cut = 0; cut < len; cut++)
        assert_true(load(bytes, cut) < 0);
    for (size_t i = 0; i < len; i++) {
        bytes[i] ^= 1;
        assert_true(load(bytes, len) < 0);
        bytes[i] ^= 1;
    }
    for (unsigned how = 0; how < 3; how++) { /* no section, a wrong value, twice */
        assert_int_equal(gw_state_writer_new(&w, "virtio-blk", 1), 0);
        if (how == 1)
            assert_int_equal(gw_state_writer_add(w, 1, GW_STATE_REQUIRED, &byte, 1), 0);
        for (unsigned i = 0; how == 2 && i < 2; i++)
            assert_int_equal(gw_state_writer_add(w, 1, GW_STATE_REQUIRED, "", 1), 0);
        assert_int_equal(gw_state_writer_end(w), 0);
        data = gw_state_writer_data(w, &len);
        assert_int_equal(load(data, len), -EBADMSG);
        gw_state_writer_free(w);
    }
    assert_int_equal(get_config().wce, 1);
    assert_false(is_write_through());
}

#define TEST(name) cmocka_unit_test_setup(test_blk_##name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(config_tells_the_disk),
        TEST(config_parts_and_behind_the_end),
        TEST(writeback_byte_makes_writes_durable),
        TEST(writeback_byte_without_flush_is_0),
        TEST(setting_ends_with_its_session),
        TEST(taken_over_writes_through_until_the_driver_says_more),
        TEST(setting_restored_before_the_rings_start_is_kept),
        TEST(taken_over_from_a_driver_without_the_setting_keeps_the_cache),
        TEST(offers_what_the_store_can_do),
        TEST(ranges_are_accepted_up_to_the_limits),
        TEST(ranges_without_memory_are_an_error),
        TEST(alignment_of_discards),
        TEST(config_writes_elsewhere_are_refused),
        TEST(config_is_restored_in_pieces),
        TEST(topology_is_in_blocks),
        TEST(segments_leave_room_for_header_and_status),
        TEST(resize_reports_a_new_size_once),
        TEST(queue_start_can_be_refused),
        TEST(queue_stop_suspends_where_it_may),
        TEST(queue_start_that_takes_time),
        TEST(queue_stop_during_the_start),
        TEST(queue_stop_that_takes_time),
        TEST(stop_that_fails_is_remembered),
        TEST(state_keeps_the_cache_of_another_device),
        TEST(state_of_a_device_that_was_taken_over),
        TEST(state_that_is_bad_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
