/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * godwit-blk between libgodwit and its store: parsing requests that a hostile driver made, the
 * order of answers, config space. Both neighbours are fakes here: the few library functions that
 * the device calls work on plain iovecs, and the store does what the test says.
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
    DISK_SIZE = 1 << 20,
    NOT_COMPLETED = 0x7fffffff
};

/* ---- the library, faked ---- */

static uint32_t completed_len;
static unsigned n_completed, n_config_changed;
static struct blk_request b; /* in place of the bytes beside a request */

static size_t take(struct iovec **iov, uint32_t *n_iov, size_t *left, void *to, const void *from,
                   size_t len)
{
    size_t done = 0;

    while (done<len && * n_iov> 0) {
        size_t part = (*iov)->iov_len < len - done ? (*iov)->iov_len : len - done;

        if (to != NULL)
            memcpy((char *)to + done, (*iov)->iov_base, part);
        else
            memcpy((*iov)->iov_base, (const char *)from + done, part);
        (*iov)->iov_base = (char *)(*iov)->iov_base + part;
        (*iov)->iov_len -= part;
        done += part;
        if ((*iov)->iov_len == 0) {
            (*iov)++;
            (*n_iov)--;
        }
    }
    *left -= done;
    return done;
}

size_t gw_request_read(struct gw_request *r, void *buf, size_t len)
{
    return take(&r->out, &r->n_out, &r->out_len, buf, NULL, len);
}

size_t gw_request_write(struct gw_request *r, const void *buf, size_t len)
{
    return take(&r->in, &r->n_in, &r->in_len, NULL, buf, len);
}

uint8_t *gw_request_take_status(struct gw_request *r)
{
    struct iovec *last;

    if (r->in_len == 0)
        return NULL;
    last = &r->in[r->n_in - 1];
    r->in_len--;
    last->iov_len--;
    if (last->iov_len == 0)
        r->n_in--;
    return (uint8_t *)last->iov_base + last->iov_len;
}

void gw_request_complete(struct gw_request *r, uint32_t len)
{
    completed_len = len;
    n_completed++;
}

struct gw_worker *gw_queue_worker(const struct gw_queue *q)
{
    return NULL;
}

unsigned gw_queue_index(const struct gw_queue *q)
{
    return 0;
}

int gw_queue_pop(struct gw_queue *q, struct gw_request **reqs, unsigned n_reqs)
{
    return 0;
}

void *gw_request_private(struct gw_request *r)
{
    return &b;
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
    int result; /* of submit */
    int start_result;
    uint64_t next_size;
    unsigned n_submitted, n_started, n_stopped;
    struct store_io *last;
} store;

static int fake_submit(struct store *s, struct store_io *io)
{
    store.n_submitted++;
    store.last = io;
    return store.result;
}

static void fake_prefetch(struct store *s, const struct store_io *io)
{
}

static int fake_start(struct store *s)
{
    store.n_started++;
    return store.start_result;
}

static void fake_stop(struct store *s)
{
    store.n_stopped++;
}

static int fake_resize(struct store *s)
{
    s->size = store.next_size;
    return 0;
}

static const struct store_ops fake_ops = {.prefetch = fake_prefetch,
                                          .submit = fake_submit,
                                          .start = fake_start,
                                          .stop = fake_stop,
                                          .resize = fake_resize};

/* ---- one request to make ---- */

static uint8_t data[65536], status;
static struct iovec out[4], in[4];
static struct gw_request req;
static struct blk_queue queue;
static struct blk blk;
static struct blk_limits limits;

static int setup(void **state)
{
    memset(&store, 0, sizeof(store));
    store.base.ops = &fake_ops;
    store.base.size = DISK_SIZE;
    store.base.block_size = 512;
    memset(data, 0xaa, sizeof(data));
    memset(&blk, 0, sizeof(blk));
    memset(&b, 0xee, sizeof(b)); /* as an earlier request may have left it */
    blk_init(&blk, &store.base,
             &(struct blk_options){.num_queues = 4, .queue_size = 256, .serial = "disk 1"});
    queue = (struct blk_queue){.store = &store.base};
    limits = (struct blk_limits){.size = DISK_SIZE, .block_size = 512, .serial = blk.serial};
    status = 0xff;
    completed_len = NOT_COMPLETED;
    n_completed = n_config_changed = 0;
    return 0;
}

static struct virtio_blk_outhdr header;

/* A header, `n_out` bytes to the device behind it, `n_in` bytes for the driver, and a status. */
static void make(uint32_t type, uint64_t sector, size_t n_out, size_t n_in)
{
    header.type = htole32(type);
    header.sector = htole64(sector);
    out[0] = (struct iovec){&header, sizeof(header)};
    out[1] = (struct iovec){data, n_out};
    in[0] = (struct iovec){data, n_in};
    in[1] = (struct iovec){&status, 1};
    req = (struct gw_request){.out = out,
                              .in = in,
                              .n_out = 2,
                              .n_in = 2,
                              .out_len = sizeof(header) + n_out,
                              .in_len = n_in + 1};
}

static void run(void)
{
    struct gw_request *reqs[] = {&req};

    blk_requests_run(reqs, 1, &queue, &limits);
}

/* Run what was made and expect this status, told with this length, without asking the store. */
static void expect_refused(uint8_t expected, uint32_t len)
{
    unsigned before = n_completed;

    store.n_submitted = 0;
    status = 0xff;
    run();
    assert_int_equal(n_completed, before + 1);
    assert_int_equal(status, expected);
    assert_int_equal(completed_len, len);
    assert_int_equal(store.n_submitted, 0);
    assert_int_equal(queue.in_flight, 0);
}

static void test_blk_read_goes_to_the_store(void **state)
{
    make(VIRTIO_BLK_T_IN, 8, 0, 4096);
    run();
    assert_int_equal(store.n_submitted, 1);
    assert_int_equal(b.io.kind, STORE_READ);
    assert_int_equal(b.io.offset, 4096);
    assert_int_equal(b.io.length, 4096);
    assert_int_equal(b.io.n_iov, 1);
    assert_ptr_equal(b.io.iov[0].iov_base, data);
    assert_int_equal(status, VIRTIO_BLK_S_OK);
    assert_int_equal(completed_len, 4097);
}

static void test_blk_write_goes_to_the_store(void **state)
{
    make(VIRTIO_BLK_T_OUT, 2047, 512, 0);
    limits.is_write_through = true;
    run();
    assert_int_equal(b.io.kind, STORE_WRITE);
    assert_int_equal(b.io.offset, DISK_SIZE - 512);
    assert_true(b.io.is_durable);
    assert_int_equal(completed_len, 1);
}

static void test_blk_header_in_pieces_is_read(void **state)
{
    make(VIRTIO_BLK_T_OUT, 1, 512, 0);
    out[0].iov_len = 3;
    out[2] = out[1];
    out[1] = (struct iovec){(char *)&header + 3, sizeof(header) - 3};
    req.n_out = 3;
    run();
    assert_int_equal(b.io.offset, 512);
    assert_ptr_equal(b.io.iov[0].iov_base, data);
}

static void test_blk_short_header_is_an_error(void **state)
{
    make(VIRTIO_BLK_T_IN, 0, 0, 512);
    out[0].iov_len = 15;
    req.n_out = 1;
    req.out_len = 15;
    expect_refused(VIRTIO_BLK_S_IOERR, 513);
    req.n_out = 0;
    req.out_len = 0;
    in[1].iov_len = 1;
    req.n_in = 2;
    req.in_len = 513;
    expect_refused(VIRTIO_BLK_S_IOERR, 513);
}

static void test_blk_no_status_is_completed_with_nothing(void **state)
{
    make(VIRTIO_BLK_T_OUT, 0, 512, 0);
    req.n_in = 0;
    req.in_len = 0;
    run();
    assert_int_equal(store.n_submitted, 0);
    assert_int_equal(n_completed, 1);
    assert_int_equal(completed_len, 0);
}

static void test_blk_extent_beyond_the_disk_is_an_error(void **state)
{
    static const struct {
        uint64_t sector;
        size_t len;
    } bad[] = {
        {2048, 512},              /* at the end */
        {2047, 1024},             /* over the end */
        {UINT64_MAX, 512},        /* in bytes more than 64 bits */
        {UINT64_MAX / 512, 512},  /* the last one that fits them */
        {UINT64_C(1) << 55, 512}, /* 0 when the carry is lost */
        {(UINT64_C(1) << 55) - 1, 1024},
        {0, 511},
        {0, 513},
        {0, 1}, /* no whole block */
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        make(VIRTIO_BLK_T_IN, bad[i].sector, 0, bad[i].len);
        expect_refused(VIRTIO_BLK_S_IOERR, (uint32_t)bad[i].len + 1);
        make(VIRTIO_BLK_T_OUT, bad[i].sector, bad[i].len, 0);
        expect_refused(VIRTIO_BLK_S_IOERR, 1);
    }
}

static void test_blk_logical_block_is_the_unit(void **state)
{
    limits.block_size = 4096;
    make(VIRTIO_BLK_T_IN, 0, 0, 512);
    expect_refused(VIRTIO_BLK_S_IOERR, 513);
    make(VIRTIO_BLK_T_IN, 1, 0, 4096);
    expect_refused(VIRTIO_BLK_S_IOERR, 4097);
    make(VIRTIO_BLK_T_IN, 8, 0, 4096);
    run();
    assert_int_equal(store.n_submitted, 1);
}

static void test_blk_empty_transfer_is_done_at_once(void **state)
{
    make(VIRTIO_BLK_T_IN, 0, 0, 0);
    expect_refused(VIRTIO_BLK_S_OK, 1);
}

static void test_blk_read_only_refuses_changes(void **state)
{
    limits.is_read_only = true;
    make(VIRTIO_BLK_T_OUT, 0, 512, 0);
    expect_refused(VIRTIO_BLK_S_IOERR, 1);
    make(VIRTIO_BLK_T_DISCARD, 0, 16, 0);
    expect_refused(VIRTIO_BLK_S_IOERR, 1);
    make(VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 0);
    expect_refused(VIRTIO_BLK_S_IOERR, 1);
}

static void test_blk_unknown_type_is_unsupported(void **state)
{
    static const uint32_t types[] = {2, 3, 5, VIRTIO_BLK_T_SECURE_ERASE, 0x80000000, 0xffffffff};

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        make(types[i], 0, 0, 0);
        expect_refused(VIRTIO_BLK_S_UNSUPP, 1);
    }
}

static void test_blk_get_id_gives_the_serial(void **state)
{
    make(VIRTIO_BLK_T_GET_ID, 0, 0, VIRTIO_BLK_ID_BYTES);
    expect_refused(VIRTIO_BLK_S_OK, VIRTIO_BLK_ID_BYTES + 1);
    assert_memory_equal(data, "disk 1\0\0\0\0\0\0\0\0\0\0\0\0\0\0", VIRTIO_BLK_ID_BYTES);
    assert_int_equal(data[VIRTIO_BLK_ID_BYTES], 0xaa);
    make(VIRTIO_BLK_T_GET_ID, 0, 0, 4); /* less room than an id */
    expect_refused(VIRTIO_BLK_S_OK, 5);
}

static void put_range(unsigned i, uint64_t sector, uint32_t n_sectors, uint32_t flags)
{
    struct virtio_blk_discard_write_zeroes seg = {htole64(sector), htole32(n_sectors),
                                                  htole32(flags)};

    memcpy(data + i * sizeof(seg), &seg, sizeof(seg));
}

static void test_blk_ranges_go_one_by_one(void **state)
{
    store.result = -EINPROGRESS;
    put_range(0, 8, 8, 0);
    put_range(1, 0, 0, 0); /* nothing to do */
    put_range(2, 32, 4, 1);
    make(VIRTIO_BLK_T_WRITE_ZEROES, 0, 48, 0);
    run();
    assert_int_equal(store.last->offset, 4096);
    assert_int_equal(store.last->length, 4096);
    assert_false(store.last->may_unmap);
    assert_int_equal(queue.in_flight, 1);
    assert_int_equal(n_completed, 0);

    store.last->done(store.last, 0);
    assert_int_equal(store.n_submitted, 2);
    assert_int_equal(store.last->offset, 32 * 512);
    assert_true(store.last->may_unmap);
    assert_int_equal(n_completed, 0);

    store.last->done(store.last, 0);
    assert_int_equal(queue.in_flight, 0);
    assert_int_equal(n_completed, 1);
    assert_int_equal(status, VIRTIO_BLK_S_OK);
}

static void test_blk_failed_range_ends_the_request(void **state)
{
    store.result = -EINPROGRESS;
    put_range(0, 8, 8, 0);
    put_range(1, 32, 4, 0);
    make(VIRTIO_BLK_T_DISCARD, 0, 32, 0);
    run();
    store.last->done(store.last, -EIO);
    assert_int_equal(store.n_submitted, 1);
    assert_int_equal(n_completed, 1);
    assert_int_equal(status, VIRTIO_BLK_S_IOERR);
}

static void test_blk_bad_ranges_are_refused_before_any_is_done(void **state)
{
    put_range(0, 0, 8, 0);
    put_range(1, 2048, 1, 0);
    make(VIRTIO_BLK_T_DISCARD, 0, 32, 0);
    expect_refused(VIRTIO_BLK_S_IOERR, 1);
    put_range(1, 0, 0xffffffff, 0);
    make(VIRTIO_BLK_T_DISCARD, 0, 32, 0);
    expect_refused(VIRTIO_BLK_S_IOERR, 1);
    put_range(1, 0, 8, 1); /* unmap is for write zeroes */
    make(VIRTIO_BLK_T_DISCARD, 0, 32, 0);
    expect_refused(VIRTIO_BLK_S_UNSUPP, 1);
    put_range(1, 0, 8, 2);
    make(VIRTIO_BLK_T_WRITE_ZEROES, 0, 32, 0);
    expect_refused(VIRTIO_BLK_S_UNSUPP, 1);
    make(VIRTIO_BLK_T_DISCARD, 0, 0, 0);
    expect_refused(VIRTIO_BLK_S_IOERR, 1);
    make(VIRTIO_BLK_T_DISCARD, 0, 17, 0);
    expect_refused(VIRTIO_BLK_S_IOERR, 1);
}

static void test_blk_too_many_ranges_are_refused(void **state)
{
    for (unsigned i = 0; i <= BLK_SEGMENTS_MAX; i++)
        put_range(i, 0, 8, 0);
    make(VIRTIO_BLK_T_DISCARD, 0, (BLK_SEGMENTS_MAX + 1) * 16, 0);
    expect_refused(VIRTIO_BLK_S_IOERR, 1);
    make(VIRTIO_BLK_T_DISCARD, 0, BLK_SEGMENTS_MAX * 16, 0);
    run();
    assert_int_equal(store.n_submitted, BLK_SEGMENTS_MAX);
    assert_int_equal(status, VIRTIO_BLK_S_OK);
}

static void test_blk_errors_of_the_store_become_a_status(void **state)
{
    store.result = -ENOSPC;
    make(VIRTIO_BLK_T_OUT, 0, 512, 0);
    run();
    assert_int_equal(status, VIRTIO_BLK_S_IOERR);
    store.result = -EOPNOTSUPP;
    make(VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    run();
    assert_int_equal(status, VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(queue.in_flight, 0);
}

static void test_blk_stop_waits_for_what_is_in_flight(void **state)
{
    store.result = -EINPROGRESS;
    make(VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    run();
    blk_queue_stop(&queue);
    assert_int_equal(store.n_stopped, 0);
    store.last->done(store.last, 0);
    assert_int_equal(store.n_stopped, 1);
    assert_int_equal(n_completed, 1);

    blk_queue_stop(&queue); /* of the next start: nothing in flight */
    assert_int_equal(store.n_stopped, 2);
}

/* ---- config space ---- */

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

#define TEST(name) cmocka_unit_test_setup(test_blk_##name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(read_goes_to_the_store),
        TEST(write_goes_to_the_store),
        TEST(header_in_pieces_is_read),
        TEST(short_header_is_an_error),
        TEST(no_status_is_completed_with_nothing),
        TEST(extent_beyond_the_disk_is_an_error),
        TEST(logical_block_is_the_unit),
        TEST(empty_transfer_is_done_at_once),
        TEST(read_only_refuses_changes),
        TEST(unknown_type_is_unsupported),
        TEST(get_id_gives_the_serial),
        TEST(ranges_go_one_by_one),
        TEST(failed_range_ends_the_request),
        TEST(bad_ranges_are_refused_before_any_is_done),
        TEST(too_many_ranges_are_refused),
        TEST(errors_of_the_store_become_a_status),
        TEST(stop_waits_for_what_is_in_flight),
        TEST(config_tells_the_disk),
        TEST(config_parts_and_behind_the_end),
        TEST(writeback_byte_makes_writes_durable),
        TEST(config_writes_elsewhere_are_refused),
        TEST(reload_tells_a_new_size_once),
        TEST(queue_start_can_be_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
