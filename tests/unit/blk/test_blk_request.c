/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The request handling of libgodwit-blk: requests of a hostile driver, the order of completions,
 * and what a stop leaves in flight. The library and the store are fakes: library functions work on
 * plain iovecs, and the test chooses the results of the store.
 */
#include "blk/blk_i.h"

#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum {
    DISK_SIZE = 1 << 20,
    NOT_COMPLETED = 0x7fffffff,
    N_FLUSHES = 3
};

/* ---- the library, faked ---- */

static uint32_t completed_len;
static unsigned n_completed, n_suspended;
static int suspend_result;
static int stop_error; /* reported to the library, after this number of completions */
static unsigned n_completed_before;
static struct gw_request req, flushes[N_FLUSHES];
static uint8_t status, statuses[N_FLUSHES];
static struct blk_request b, flush_bs[N_FLUSHES]; /* instead of the per-request memory */

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
    return take(&r->readable, &r->n_readable, &r->readable_len, buf, NULL, len);
}

size_t gw_request_write(struct gw_request *r, const void *buf, size_t len)
{
    return take(&r->writable, &r->n_writable, &r->writable_len, NULL, buf, len);
}

static uint32_t req_len; /* bytes that the device may write to `req` */

bool gw_request_take_status(struct gw_request *r)
{
    if (r == &req)
        req_len = (uint32_t)r->writable_len;
    if (r->writable_len > 0 && --r->writable[r->n_writable - 1].iov_len == 0)
        r->n_writable--;
    return r->writable_len > 0 && r->writable_len-- > 0;
}

void gw_request_complete_status(struct gw_request *r, uint8_t result)
{
    if (r != &req)
        statuses[r - flushes] = result;
    else if (req_len > 0)
        status = result;
    completed_len = r == &req ? req_len : 1;
    n_completed++;
}

void gw_queue_complete_start(struct gw_queue *q, int r)
{
}

void gw_queue_delay_stop(struct gw_queue *q)
{
}

void gw_queue_complete_stop(struct gw_queue *q, int r)
{
    stop_error = r;
    n_completed_before = n_completed;
}

static void note_suspended(void);

int gw_request_suspend(struct gw_request *r)
{
    note_suspended();
    return suspend_result;
}

struct gw_worker *gw_queue_worker(const struct gw_queue *q)
{
    return NULL;
}

void *gw_request_private(struct gw_request *r)
{
    return r == &req ? &b : &flush_bs[r - flushes];
}

/* ---- the store, faked ---- */

static struct {
    int result; /* of submit */
    int stop_result;
    unsigned n_submitted, n_started, n_stopped, n_cancelled;
    unsigned n_stopped_before; /* when the last suspend was called */
    struct gw_blk_io *last, *cancelled[N_FLUSHES];
} store;

static void note_suspended(void)
{
    n_suspended++;
    store.n_stopped_before = store.n_stopped;
}

static int fake_submit(void *s, struct gw_blk_io *io)
{
    store.n_submitted++;
    store.last = io;
    return store.result;
}

static void fake_cancel(void *s, struct gw_blk_io *io)
{
    assert_true(io->is_cancelled);
    store.cancelled[store.n_cancelled++] = io;
}

static int fake_start(void *s, struct gw_blk_user *user)
{
    store.n_started++;
    return 0;
}

static int fake_stop(void *s, struct gw_blk_user *user)
{
    store.n_stopped++;
    return store.stop_result;
}

static const struct gw_blk device = {
    .store_ops = {.submit = fake_submit,
                  .cancel = fake_cancel,
                  .start = fake_start,
                  .stop = fake_stop},
    .store = &store,
};

/* ---- the request ---- */

static uint8_t data[65536];
static struct iovec readable[4], writable[4];
static struct blk_queue queue;
static struct blk_limits limits;
static const char serial[VIRTIO_BLK_ID_BYTES] = "disk 1";

static int setup(void **state)
{
    memset(&store, 0, sizeof(store));
    memset(data, 0xaa, sizeof(data));
    memset(&b, 0xee, sizeof(b)); /* contents of an earlier request */
    memset(&queue, 0, sizeof(queue));
    queue.blk = &device;
    assert_int_equal(gw_blk_queue_start(&queue, NULL), 0);
    store.n_started = 0;
    limits = (struct blk_limits){.size = DISK_SIZE,
                                 .block_size = 512,
                                 .can_unmap = true,
                                 .can_zero = true,
                                 .size_max = UINT32_MAX,
                                 .seg_max = UINT32_MAX,
                                 .length_max = UINT64_MAX,
                                 .serial = serial};
    status = 0xff;
    completed_len = NOT_COMPLETED;
    n_completed = n_suspended = 0;
    stop_error = 0;
    suspend_result = 0;
    return 0;
}

static struct virtio_blk_outhdr header;

/* Make a request of a header, `to_device` and `to_driver` bytes, and a status. */
static void make(uint32_t type, uint64_t sector, size_t to_device, size_t to_driver)
{
    header.type = htole32(type);
    header.sector = htole64(sector);
    readable[0] = (struct iovec){&header, sizeof(header)};
    readable[1] = (struct iovec){data, to_device};
    writable[0] = (struct iovec){data, to_driver};
    writable[1] = (struct iovec){&status, 1};
    req = (struct gw_request){.readable = readable,
                              .writable = writable,
                              .n_readable = 2,
                              .n_writable = 2,
                              .readable_len = sizeof(header) + to_device,
                              .writable_len = to_driver + 1};
}

static void run(void)
{
    struct gw_request *reqs[] = {&req};

    gw_blk_requests_run(reqs, 1, &queue, &limits);
}

/* Run the request; expect this status and used length, and no call of the store. */
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
    assert_null(queue.in_flight);
}

static void test_blk_read_goes_to_the_store(void **state)
{
    make(VIRTIO_BLK_T_IN, 8, 0, 4096);
    run();
    assert_int_equal(store.n_submitted, 1);
    assert_int_equal(b.io.kind, GW_BLK_READ);
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
    assert_int_equal(b.io.kind, GW_BLK_WRITE);
    assert_int_equal(b.io.offset, DISK_SIZE - 512);
    assert_true(b.io.is_durable);
    assert_int_equal(completed_len, 1);
}

/* Limits of a segment and of a request. A segment that crosses regions has two iovecs. */
static void test_blk_transfer_keeps_to_the_limits(void **state)
{
    make(VIRTIO_BLK_T_IN, 0, 0, 4096);
    limits.size_max = 4096;
    limits.seg_max = 1;
    limits.length_max = 4096;
    run();
    assert_int_equal(status, VIRTIO_BLK_S_OK);
    make(VIRTIO_BLK_T_IN, 0, 0, 4096);
    limits.size_max = 4095;
    expect_refused(VIRTIO_BLK_S_IOERR, 4097);
    make(VIRTIO_BLK_T_OUT, 0, 4096, 0);
    expect_refused(VIRTIO_BLK_S_IOERR, 1);
    limits.size_max = 4096;
    make(VIRTIO_BLK_T_IN, 0, 0, 8192);
    limits.size_max = UINT32_MAX;
    expect_refused(VIRTIO_BLK_S_IOERR, 8193);
    limits.length_max = 8192;
    for (uint32_t n = 1; n <= 3; n++) {
        make(VIRTIO_BLK_T_IN, 0, 0, 512);
        writable[n] = writable[1];
        for (uint32_t i = 1; i < n; i++)
            writable[i] = writable[0];
        req.n_writable = n + 1;
        req.writable_len = 512 * n + 1;
        if (n == 3)
            expect_refused(VIRTIO_BLK_S_IOERR, 512 * 3 + 1);
        else
            run();
        assert_int_equal(status, n == 3 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
    }
}

static void test_blk_header_in_pieces_is_read(void **state)
{
    make(VIRTIO_BLK_T_OUT, 1, 512, 0);
    readable[0].iov_len = 3;
    readable[2] = readable[1];
    readable[1] = (struct iovec){(char *)&header + 3, sizeof(header) - 3};
    req.n_readable = 3;
    run();
    assert_int_equal(b.io.offset, 512);
    assert_ptr_equal(b.io.iov[0].iov_base, data);
}

static void test_blk_short_header_is_an_error(void **state)
{
    make(VIRTIO_BLK_T_IN, 0, 0, 512);
    readable[0].iov_len = 15;
    req.n_readable = 1;
    req.readable_len = 15;
    expect_refused(VIRTIO_BLK_S_IOERR, 513);
    req.n_readable = 0;
    req.readable_len = 0;
    writable[1].iov_len = 1;
    req.n_writable = 2;
    req.writable_len = 513;
    expect_refused(VIRTIO_BLK_S_IOERR, 513);
}

static void test_blk_no_status_is_completed_with_nothing(void **state)
{
    make(VIRTIO_BLK_T_OUT, 0, 512, 0);
    req.n_writable = 0;
    req.writable_len = 0;
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
        {2047, 1024},             /* crosses the end */
        {UINT64_MAX, 512},        /* overflows 64 bits when converted to bytes */
        {UINT64_MAX / 512, 512},  /* the largest that does not overflow */
        {UINT64_C(1) << 55, 512}, /* overflows to 0 */
        {(UINT64_C(1) << 55) - 1, 1024},
        {0, 511},
        {0, 513},
        {0, 1}, /* not a whole block */
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
    make(VIRTIO_BLK_T_IN, DISK_SIZE / 512, 0, 0); /* at the end of the disk */
    expect_refused(VIRTIO_BLK_S_OK, 1);
    make(VIRTIO_BLK_T_IN, DISK_SIZE / 512 + 1, 0, 0);
    expect_refused(VIRTIO_BLK_S_IOERR, 1);
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
    make(VIRTIO_BLK_T_GET_ID, 0, 0, 4); /* shorter than an id */
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
    put_range(1, 0, 0, 0); /* empty range */
    put_range(2, 32, 4, 1);
    make(VIRTIO_BLK_T_WRITE_ZEROES, 0, 48, 0);
    run();
    assert_int_equal(store.last->offset, 4096);
    assert_int_equal(store.last->length, 4096);
    assert_false(store.last->may_unmap);
    assert_ptr_equal(queue.in_flight, &b);
    assert_int_equal(n_completed, 0);

    store.last->done(store.last, 0);
    assert_int_equal(store.n_submitted, 2);
    assert_int_equal(store.last->offset, 32 * 512);
    assert_true(store.last->may_unmap);
    assert_int_equal(n_completed, 0);

    store.last->done(store.last, 0);
    assert_null(queue.in_flight);
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
    put_range(1, 0, 8, 1); /* unmap is only valid for write zeroes */
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

/* --discard=ignore, or a device without discard: it is not offered, and zeroes stay allocated. */
static void test_blk_store_that_cannot_unmap_is_not_asked_to(void **state)
{
    limits.can_unmap = false;
    put_range(0, 0, 8, 0);
    make(VIRTIO_BLK_T_DISCARD, 0, 16, 0);
    expect_refused(VIRTIO_BLK_S_UNSUPP, 1);
    put_range(0, 0, 8, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
    make(VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 0);
    run();
    assert_int_equal(status, VIRTIO_BLK_S_OK);
    assert_int_equal(store.n_submitted, 1);
    assert_false(store.last->may_unmap);
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
    assert_null(queue.in_flight);
}

static void test_blk_stop_waits_for_what_is_in_flight(void **state)
{
    store.result = -EINPROGRESS;
    make(VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    run();
    gw_blk_queue_stop(&queue, false);
    assert_int_equal(store.n_cancelled, 0);
    assert_int_equal(store.n_stopped, 0);
    store.last->done(store.last, 0);
    assert_int_equal(store.n_stopped, 1);
    assert_int_equal(n_completed, 1);

    gw_blk_queue_stop(&queue, true); /* after the next start, with nothing in flight */
    assert_int_equal(store.n_stopped, 2);
}

/* The library must get the error before the last completion, which lets it answer the front-end. */
static void test_blk_stop_that_fails_is_reported_first(void **state)
{
    store.stop_result = -EIO;
    store.result = -EINPROGRESS;
    make(VIRTIO_BLK_T_OUT, 0, 512, 0);
    run();
    gw_blk_queue_stop(&queue, false);
    assert_int_equal(stop_error, 0);
    store.last->done(store.last, 0);
    assert_int_equal(stop_error, -EIO);
    assert_int_equal(n_completed_before, 0);
    assert_int_equal(n_completed, 1);
    assert_int_equal(queue.stop_error, -EIO);

    stop_error = 0;
    assert_int_equal(gw_blk_queue_start(&queue, NULL), 0);
    assert_int_equal(queue.stop_error, 0);
    gw_blk_queue_stop(&queue, false); /* nothing in flight */
    assert_int_equal(stop_error, -EIO);
}

/* Submit several flushes that stay in flight. */
static void run_flushes(void)
{
    static struct iovec readables[N_FLUSHES], writables[N_FLUSHES];
    struct gw_request *reqs[N_FLUSHES];

    store.result = -EINPROGRESS;
    header.type = htole32(VIRTIO_BLK_T_FLUSH);
    for (unsigned i = 0; i < N_FLUSHES; i++) {
        readables[i] = (struct iovec){&header, sizeof(header)};
        writables[i] = (struct iovec){&statuses[i], 1};
        flushes[i] = (struct gw_request){.readable = &readables[i],
                                         .writable = &writables[i],
                                         .n_readable = 1,
                                         .n_writable = 1,
                                         .readable_len = sizeof(header),
                                         .writable_len = 1};
        reqs[i] = &flushes[i];
    }
    gw_blk_requests_run(reqs, N_FLUSHES, &queue, &limits);
    assert_int_equal(store.n_submitted, N_FLUSHES);
}

static void flush_done(unsigned i, int r)
{
    flush_bs[i].io.done(&flush_bs[i].io, r);
}

/* Except for requests that have already completed, whichever they are. */
static void test_blk_stop_that_may_suspend_cancels_the_oldest_first(void **state)
{
    for (unsigned over = 0; over < N_FLUSHES; over++) {
        unsigned n = 0;

        setup(state);
        run_flushes();
        flush_done(over, 0);
        make(VIRTIO_BLK_T_FLUSH, 0, 0, 0); /* another flush, after the others */
        run();
        gw_blk_queue_stop(&queue, true);
        assert_int_equal(n_completed, 1);
        assert_int_equal(store.n_cancelled, N_FLUSHES);
        for (unsigned i = 0; i < N_FLUSHES; i++) {
            if (i == over)
                continue;
            assert_ptr_equal(store.cancelled[n++], &flush_bs[i].io);
            flush_done(i, -ECANCELED);
        }
        assert_ptr_equal(store.cancelled[n], &b.io);
        b.io.done(&b.io, -ECANCELED);
        assert_int_equal(n_suspended, N_FLUSHES);
        assert_int_equal(n_completed, 1);
        assert_int_equal(store.n_stopped, 1);
        assert_int_equal(store.n_stopped_before, 1);
    }
}

static void test_blk_cancelled_too_late_is_answered(void **state)
{
    run_flushes();
    gw_blk_queue_stop(&queue, true);
    flush_done(2, 0);
    assert_int_equal(statuses[2], VIRTIO_BLK_S_OK);
    flush_done(1, -EIO);
    assert_int_equal(statuses[1], VIRTIO_BLK_S_IOERR);
    assert_int_equal(n_completed, 2);
    assert_int_equal(store.n_stopped, 0);
    suspend_result = -EPERM; /* the session ended, so no queue may keep its requests */
    flush_done(0, -ECANCELED);
    assert_int_equal(n_completed, 3);
    assert_int_equal(store.n_stopped, 1);
}

static void test_blk_cancelled_between_ranges_is_suspended(void **state)
{
    store.result = -EINPROGRESS;
    put_range(0, 8, 8, 0);
    put_range(1, 32, 4, 0);
    make(VIRTIO_BLK_T_DISCARD, 0, 32, 0);
    run();
    gw_blk_queue_stop(&queue, true);
    store.last->done(store.last, 0);
    assert_int_equal(store.n_submitted, 1);
    assert_int_equal(n_suspended, 1);
    assert_int_equal(n_completed, 0);
    assert_int_equal(status, 0xff);

    setup(state); /* now in its last range */
    store.result = -EINPROGRESS;
    put_range(0, 8, 8, 0);
    put_range(1, 32, 4, 0);
    make(VIRTIO_BLK_T_DISCARD, 0, 32, 0);
    run();
    store.last->done(store.last, 0);
    gw_blk_queue_stop(&queue, true);
    store.last->done(store.last, 0);
    assert_int_equal(n_suspended, 0);
    assert_int_equal(status, VIRTIO_BLK_S_OK);
}

static void test_blk_cancelled_by_nobody_is_an_error(void **state)
{
    run_flushes();
    flush_done(0, -ECANCELED);
    assert_int_equal(n_suspended, 0);
    assert_int_equal(statuses[0], VIRTIO_BLK_S_IOERR);
}

#define TEST(name) cmocka_unit_test_setup(test_blk_##name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(read_goes_to_the_store),
        TEST(write_goes_to_the_store),
        TEST(transfer_keeps_to_the_limits),
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
        TEST(store_that_cannot_unmap_is_not_asked_to),
        TEST(errors_of_the_store_become_a_status),
        TEST(stop_waits_for_what_is_in_flight),
        TEST(stop_that_fails_is_reported_first),
        TEST(stop_that_may_suspend_cancels_the_oldest_first),
        TEST(cancelled_too_late_is_answered),
        TEST(cancelled_between_ranges_is_suspended),
        TEST(cancelled_by_nobody_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
