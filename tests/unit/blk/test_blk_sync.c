/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Concurrent flushes and durable writes of godwit-blk's file store, which end in any order. Linux
 * reports lost data to only one of several syncs, and none of the others may succeed.
 */
#include "store_fixture.h"

#include <errno.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum {
    PENDING = 1, /* not done yet */
    N_OPS = 8,
};

static long fs_type; /* of all files */

int fstatfs(int fd, struct statfs *st)
{
    memset(st, 0, sizeof(*st));
    st->f_type = fs_type;
    return 0;
}

/* ---- operations that the test ends ---- */

static struct gw_worker workers[2];

struct op {
    struct store_io io;
    struct iovec iov;
    int result;
};

static struct op ops[N_OPS];

static void note_result(struct gw_blk_io *io, int res)
{
    struct op *op = (struct op *)(void *)((char *)io - offsetof(struct op, io));

    assert_int_equal(op->result, PENDING); /* not completed before */
    op->result = res;
}

static void submit(struct op *op, enum gw_blk_kind kind, unsigned worker)
{
    memset(op, 0, sizeof(*op));
    /* What only the store uses need not be initialized. */
    memset(&op->io.store, 0xa5, sizeof(op->io) - offsetof(struct store_io, store));
    op->result = PENDING;
    op->io.op.done = note_result;
    op->io.op.worker = &workers[worker];
    op->io.op.kind = kind;
    op->io.op.offset = 8 * BLOCK;
    op->io.op.length = BLOCK;
    op->iov = (struct iovec){memory, BLOCK};
    op->io.op.iov = &op->iov;
    op->io.op.n_iov = 1;
    op->io.op.is_durable = kind != GW_BLK_FLUSH;
    assert_int_equal(s->ops->blk.submit(s, &op->io.op), -EINPROGRESS);
    fake.io = NULL; /* ends in end() */
}

/* End the current file operation with `res`. */
static void end(struct op *op, int res)
{
    op->io.gw.done(&op->io.gw, res);
    fake.io = NULL;
}

/* Run all posts of both workers. */
static void run_all_posts(void)
{
    run_posts(&workers[0]);
    run_posts(&workers[1]);
}

static void open_for_syncs(enum store_mode direct)
{
    worker_init(&workers[0]);
    worker_init(&workers[1]);
    assert_int_equal(open_store(direct, BLOCK), 0);
}

static struct store_file *file(void)
{
    return (struct store_file *)(void *)((char *)s - offsetof(struct store_file, base));
}

static void assert_nothing_waits(void)
{
    assert_null(file()->in_flight.first);
    assert_null(file()->held.first);
}

/* ---- completions in the wrong order ---- */

static const enum gw_blk_kind kinds[] = {GW_BLK_FLUSH, GW_BLK_WRITE};

/* Result of the file operation on success. */
static int success(enum gw_blk_kind kind)
{
    return kind == GW_BLK_FLUSH ? 0 : BLOCK;
}

/* `one` gets the error, but `other` is processed first. Each is a flush or a durable write. */
static void check_error_after_success(enum gw_blk_kind one, enum gw_blk_kind other, unsigned worker)
{
    open_for_syncs(STORE_OFF);
    submit(&ops[0], one, 0);
    submit(&ops[1], other, worker);
    end(&ops[1], success(other));
    run_all_posts();
    assert_int_equal(ops[1].result, PENDING);
    end(&ops[0], -EIO);
    if (one == GW_BLK_WRITE) /* a failed write is repeated to find out what failed */
        end(&ops[0], BLOCK);
    assert_int_equal(ops[0].result, -EIO);
    assert_int_equal(ops[1].result, worker == 0 ? -EIO : PENDING);
    run_all_posts();
    assert_int_equal(ops[1].result, -EIO);
    assert_int_equal(fake.n_errors, 1);
    assert_int_equal(fake.n_said, 0); /* one failure is logged, not two */
    assert_nothing_waits();
    s->ops->free(s);
    s = NULL;
    fake.n_errors = 0;
}

static void test_store_success_before_the_error_of_a_concurrent_sync_is_none(void **state)
{
    for (unsigned i = 0; i < 8; i++)
        check_error_after_success(kinds[i & 1], kinds[i >> 1 & 1], i >> 2);
}

static void test_store_concurrent_syncs_that_succeed_all_do(void **state)
{
    open_for_syncs(STORE_OFF);
    for (unsigned i = 0; i < 4; i++)
        submit(&ops[i], kinds[i / 2], i % 2);
    end(&ops[2], BLOCK);
    end(&ops[1], 0);
    end(&ops[3], BLOCK);
    run_all_posts();
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(ops[i].result, PENDING);
    end(&ops[0], 0);
    assert_int_equal(ops[0].result, 0);
    assert_int_equal(ops[2].result, 0);
    run_all_posts();
    assert_int_equal(ops[1].result, 0);
    assert_int_equal(ops[3].result, 0);
    assert_nothing_waits();
}

/*
 * An operation does not wait for others that began after it ended, so a stream of syncs delays none
 * forever.
 */
static void test_store_sync_does_not_wait_for_later_ones(void **state)
{
    open_for_syncs(STORE_OFF);
    submit(&ops[0], GW_BLK_FLUSH, 0);
    submit(&ops[1], GW_BLK_FLUSH, 0);
    end(&ops[1], 0);
    assert_int_equal(ops[1].result, PENDING);
    submit(&ops[2], GW_BLK_FLUSH, 0);
    end(&ops[0], 0);
    assert_int_equal(ops[1].result, 0);
    assert_int_equal(ops[0].result, PENDING); /* waits for the third */
    submit(&ops[3], GW_BLK_FLUSH, 0);
    end(&ops[2], -EIO);
    assert_int_equal(ops[0].result, -EIO);
    assert_int_equal(ops[2].result, -EIO);
    end(&ops[3], 0);
    assert_int_equal(ops[3].result, -EIO);
    assert_nothing_waits();
}

/* A write that failed or was cancelled delays no sync. */
static void test_store_sync_waits_for_no_write_that_ended(void **state)
{
    open_for_syncs(STORE_OFF);
    submit(&ops[0], GW_BLK_WRITE, 0);
    submit(&ops[1], GW_BLK_FLUSH, 0);
    submit(&ops[2], GW_BLK_FLUSH, 1);
    end(&ops[1], 0);
    ops[0].io.op.is_cancelled = true;
    end(&ops[0], -EINTR);
    assert_int_equal(ops[0].result, -ECANCELED);
    assert_int_equal(ops[1].result, PENDING);
    ops[2].io.op.is_cancelled = true;
    end(&ops[2], -ECANCELED);
    assert_int_equal(ops[2].result, -ECANCELED);
    run_all_posts();
    assert_int_equal(ops[1].result, 0);
    assert_nothing_waits();
}

/* ---- cancelling held operations ---- */

static void cancel(struct op *op)
{
    op->io.op.is_cancelled = true;
    s->ops->blk.cancel(s, &op->io.op);
}

static void test_store_cancelled_while_held(void **state)
{
    for (unsigned fails = 0; fails < 2; fails++) {
        open_for_syncs(STORE_OFF);
        for (unsigned i = 0; i < 4; i++)
            submit(&ops[i], GW_BLK_FLUSH, 0);
        for (unsigned i = 1; i < 4; i++)
            end(&ops[i], 0);
        cancel(&ops[2]);
        assert_int_equal(ops[2].result, PENDING); /* never completes inside the call */
        cancel(&ops[2]);
        assert_int_equal(run_posts(&workers[0]), 1);
        assert_int_equal(ops[2].result, -ECANCELED);
        end(&ops[0], fails ? -EIO : 0);
        assert_int_equal(ops[0].result, fails ? -EIO : 0);
        assert_int_equal(ops[1].result, fails ? -EIO : 0);
        assert_int_equal(ops[2].result, -ECANCELED);
        assert_int_equal(ops[3].result, fails ? -EIO : 0);
        assert_int_equal(file()->n_failed[GW_BLK_FLUSH], fails ? 3 : 0);
        assert_int_equal(fake.n_cancelled, 0); /* its file operation had ended */
        assert_nothing_waits();
        s->ops->free(s);
        s = NULL;
    }
}

/* Its completion has already been posted. */
static void test_store_cancelled_when_released(void **state)
{
    open_for_syncs(STORE_OFF);
    submit(&ops[0], GW_BLK_FLUSH, 0);
    submit(&ops[1], GW_BLK_FLUSH, 1);
    end(&ops[1], 0);
    end(&ops[0], 0);
    cancel(&ops[1]);
    assert_int_equal(ops[1].result, PENDING);
    assert_int_equal(run_posts(&workers[1]), 1);
    assert_int_equal(ops[1].result, 0);
    assert_int_equal(run_posts(&workers[1]), 0);
    assert_nothing_waits();
}

/* ---- durable writes with an unknown cause of failure ---- */

static void check_suspect(enum store_mode direct, bool is_lost)
{
    open_for_syncs(direct);
    submit(&ops[0], GW_BLK_WRITE, 0);
    submit(&ops[1], GW_BLK_FLUSH, 0);
    submit(&ops[2], GW_BLK_FLUSH, 1);
    end(&ops[1], 0);
    end(&ops[0], -EIO);
    end(&ops[2], 0);
    run_all_posts();
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(ops[i].result, PENDING);
    end(&ops[0], is_lost ? BLOCK : -ENOSPC);
    run_all_posts();
    assert_int_equal(ops[0].result, is_lost ? -EIO : -ENOSPC);
    assert_int_equal(ops[1].result, is_lost ? -EIO : 0);
    assert_int_equal(ops[2].result, is_lost ? -EIO : 0);
    assert_int_equal(file()->n_failed[GW_BLK_WRITE], 1);
    assert_int_equal(file()->n_failed[GW_BLK_FLUSH], is_lost ? 2 : 0);
    assert_nothing_waits();
    s->ops->free(s);
    s = NULL;
}

static void test_store_syncs_wait_for_a_suspect_write(void **state)
{
    for (unsigned is_lost = 0; is_lost < 2; is_lost++)
        check_suspect(STORE_OFF, is_lost);
}

static bool open_direct(void)
{
    bool is_direct = open_store(STORE_ON, BLOCK) == 0; /* false: no O_DIRECT in the build folder */

    if (is_direct)
        s->ops->free(s);
    s = NULL;
    return is_direct;
}

static void test_store_syncs_wait_for_a_suspect_direct_write(void **state)
{
    if (!open_direct())
        skip();
    for (unsigned is_lost = 0; is_lost < 2; is_lost++)
        check_suspect(STORE_ON, is_lost);
}

/* A direct write only gets its own errors, but its sync may get those of other writes. */
static void test_store_direct_write_waits_for_nothing(void **state)
{
    fs_type = EXT4_SUPER_MAGIC;
    if (!open_direct())
        skip();
    open_for_syncs(STORE_ON);
    submit(&ops[0], GW_BLK_FLUSH, 0);
    submit(&ops[1], GW_BLK_WRITE, 0);
    submit(&ops[2], GW_BLK_WRITE, 0);
    end(&ops[1], BLOCK);
    assert_int_equal(ops[1].result, 0);
    end(&ops[0], 0);
    assert_int_equal(ops[0].result, PENDING);
    end(&ops[2], BLOCK);
    assert_int_equal(ops[2].result, 0);
    assert_int_equal(ops[0].result, 0);
    assert_nothing_waits();
}

/* On btrfs, O_DIRECT may fall back to buffered I/O. */
static void test_store_direct_write_on_btrfs_waits_for_a_sync(void **state)
{
    fs_type = BTRFS_SUPER_MAGIC;
    if (!open_direct())
        skip();
    open_for_syncs(STORE_ON);
    submit(&ops[0], GW_BLK_FLUSH, 0);
    submit(&ops[1], GW_BLK_WRITE, 0);
    end(&ops[1], BLOCK);
    assert_int_equal(ops[1].result, PENDING);
    end(&ops[0], -EIO);
    assert_int_equal(ops[1].result, -EIO);
    assert_nothing_waits();
}

/* Failures of the medium are logged; failures that follow from them are only counted. */
static void test_store_failures_beside_a_suspect_write_are_logged(void **state)
{
    open_for_syncs(STORE_OFF);
    for (unsigned i = 0; i < 2; i++)
        submit(&ops[i], GW_BLK_WRITE, 0);
    submit(&ops[2], GW_BLK_FLUSH, 0);
    end(&ops[0], -EIO);
    end(&ops[1], -EIO);
    assert_int_equal(fake.n_said, 0);
    end(&ops[1], -ENOSPC); /* the write itself fails */
    assert_int_equal(ops[1].result, -ENOSPC);
    assert_int_equal(fake.n_said, 1);
    end(&ops[0], BLOCK); /* its sync succeeds */
    assert_int_equal(fake.n_errors, 1);
    assert_int_equal(fake.n_said, 1);
    end(&ops[2], -ENOSPC);
    assert_int_equal(ops[2].result, -EIO);
    assert_int_equal(fake.n_errors, 1);
    assert_int_equal(fake.n_said, 2);
    assert_int_equal(file()->n_failed[GW_BLK_WRITE], 2);
    assert_int_equal(file()->n_failed[GW_BLK_FLUSH], 1);
}

/* ---- many operations ---- */

static uint64_t cpu_ns(void)
{
    struct timespec ts;

    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts), 0);
    return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

/* All in flight at once; end them in order or backwards. */
static uint64_t end_many(unsigned n, bool is_backwards)
{
    struct op *many = calloc(n, sizeof(*many));
    uint64_t begin;

    assert_non_null(many);
    open_for_syncs(STORE_OFF);
    for (unsigned i = 0; i < n; i++)
        submit(&many[i], GW_BLK_FLUSH, i % 2);
    begin = cpu_ns();
    for (unsigned i = 0; i < n; i++)
        end(&many[is_backwards ? n - 1 - i : i], 0);
    run_all_posts();
    begin = cpu_ns() - begin;
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(many[i].result, 0);
    assert_nothing_waits();
    s->ops->free(s);
    s = NULL;
    free(many);
    return begin;
}

/*
 * 16 times the operations: quadratic time would be 256 times as long. Other processes disturb some
 * measurements.
 */
static bool is_linear(bool is_backwards)
{
    uint64_t few = end_many(4096, is_backwards), many = end_many(16 * 4096, is_backwards);

    return many < 64 * few;
}

static void test_store_many_syncs_take_linear_time(void **state)
{
    for (unsigned is_backwards = 0; is_backwards < 2; is_backwards++) {
        unsigned n_tries = 1;

        while (!is_linear(is_backwards))
            assert_true(++n_tries <= 5);
    }
}

/* ---- a model of Linux, with two workers ---- */

enum {
    MODEL_OPS = 16,    /* in flight per worker */
    MODEL_GOOD = 1000, /* syncs that succeed before data is lost */
};

/* The next sync gets `error`; data was lost at the time `lost_at` of `clock`. */
static struct {
    _Atomic unsigned clock;
    _Atomic unsigned lost_at;
    _Atomic bool error;
    _Atomic unsigned n_good;
} model;

struct model_op {
    struct op op;
    bool is_in_flight;
    bool has_left_kernel;
    unsigned began_at;
    int kernel_result;
};

struct model_worker {
    struct gw_worker *worker;
    struct model_op ops[MODEL_OPS];
    unsigned seed;
    bool loses_data;
};

static unsigned random_below(struct model_worker *m, unsigned n)
{
    m->seed = m->seed * 1103515245U + 12345U;
    return (m->seed >> 16) % n;
}

/* A success means that no data was lost before the sync began. */
static void check_answer(struct gw_blk_io *io, int res)
{
    struct model_op *op =
        (struct model_op *)(void *)((char *)io - offsetof(struct model_op, op.io));
    unsigned lost_at = model.lost_at;

    op->is_in_flight = false;
    if (res == 0) {
        model.n_good++;
        if (lost_at != 0 && lost_at < op->began_at)
            fail_msg("a sync that began at %u succeeded; data was lost at %u", op->began_at,
                     lost_at);
    }
}

static void model_submit(struct model_worker *m, struct model_op *op)
{
    memset(op, 0, sizeof(*op));
    op->op.io.op.done = check_answer;
    op->op.io.op.worker = m->worker;
    op->op.io.op.kind = GW_BLK_FLUSH;
    op->began_at = ++model.clock;
    op->is_in_flight = s->ops->blk.submit(s, &op->op.io.op) == -EINPROGRESS;
    fake.io = NULL;
}

static void model_step(struct model_worker *m, struct model_op *op)
{
    if (!op->is_in_flight) {
        model_submit(m, op);
    } else if (!op->has_left_kernel) {
        op->kernel_result = atomic_exchange(&model.error, false) ? -EIO : 0;
        op->has_left_kernel = true;
    } else if (op->kernel_result != PENDING) {
        int res = op->kernel_result;

        op->kernel_result = PENDING; /* the file operation has ended */
        op->op.io.gw.done(&op->op.io.gw, res);
    }
}

static void *model_run(void *arg)
{
    struct model_worker *m = arg;

    while (file()->sync_error == 0) {
        model_step(m, &m->ops[random_below(m, MODEL_OPS)]);
        if (random_below(m, 8) == 0)
            run_posts(m->worker);
        if (m->loses_data && model.n_good >= MODEL_GOOD) {
            m->loses_data = false;
            model.error = true;
            model.lost_at = ++model.clock;
        }
        if (random_below(m, 64) == 0)
            sched_yield();
    }
    return NULL;
}

/* The remaining operations succeed. */
static void model_finish(struct model_worker *m)
{
    for (unsigned i = 0; i < MODEL_OPS; i++)
        while (m->ops[i].is_in_flight && m->ops[i].kernel_result != PENDING)
            model_step(m, &m->ops[i]);
}

static void check_model(unsigned seed)
{
    static struct model_worker m[2];
    pthread_t thread;

    open_for_syncs(STORE_OFF);
    memset(&model, 0, sizeof(model));
    for (unsigned i = 0; i < 2; i++) {
        memset(&m[i], 0, sizeof(m[i]));
        m[i].worker = &workers[i];
        m[i].seed = seed + i;
    }
    m[seed % 2].loses_data = true;
    assert_int_equal(pthread_create(&thread, NULL, model_run, &m[1]), 0);
    (void)model_run(&m[0]);
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < 2; i++)
        model_finish(&m[i]);
    run_all_posts();
    for (unsigned i = 0; i < 2; i++)
        for (unsigned k = 0; k < MODEL_OPS; k++)
            assert_false(m[i].ops[k].is_in_flight);
    assert_int_not_equal(file()->sync_error, 0);
    assert_nothing_waits();
    s->ops->free(s);
    s = NULL;
}

static void test_store_model_no_success_after_a_loss(void **state)
{
    for (unsigned seed = 1; seed <= 20; seed++)
        check_model(seed);
}

#define TEST(name) STORE_TEST(test_store_##name)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(success_before_the_error_of_a_concurrent_sync_is_none),
        TEST(concurrent_syncs_that_succeed_all_do),
        TEST(sync_does_not_wait_for_later_ones),
        TEST(sync_waits_for_no_write_that_ended),
        TEST(cancelled_while_held),
        TEST(cancelled_when_released),
        TEST(syncs_wait_for_a_suspect_write),
        TEST(syncs_wait_for_a_suspect_direct_write),
        TEST(direct_write_waits_for_nothing),
        TEST(direct_write_on_btrfs_waits_for_a_sync),
        TEST(failures_beside_a_suspect_write_are_logged),
        TEST(many_syncs_take_linear_time),
        TEST(model_no_success_after_a_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
