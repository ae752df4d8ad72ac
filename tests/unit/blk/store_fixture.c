/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "store_fixture.h"

#include "fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the library, faked: one operation at a time, which ends in pump() ---- */

_Thread_local struct store_fake fake;

static void begin(struct gw_io *io, int (*act)(void))
{
    assert_null(fake.io);
    fake.io = io;
    fake.act = act;
    fake.n_ops++;
}

static int transfer(void)
{
    struct iovec part[1024];
    size_t left = fake.short_by != 0 ? fake.short_by : SIZE_MAX;
    unsigned n = 0;
    ssize_t r;

    if (fake.op == 1 && fake.fail_writes != 0)
        return fake.fail_writes;
    if (fake.op == 1 && (fake.flags & RWF_DSYNC) != 0 && fake.fail_sync != 0)
        return fake.fail_sync;
    for (; n < fake.n_iov && left > 0; n++) {
        part[n] = fake.iov[n];
        if (part[n].iov_len > left)
            part[n].iov_len = left;
        left -= part[n].iov_len;
    }
    r = fake.op == 0 ? preadv(fake.fd, part, (int)n, fake.offset)
                     : pwritev2(fake.fd, part, (int)n, fake.offset, fake.flags);
    return r < 0 ? -errno : (int)r;
}

static int act_sync(void)
{
    fake.n_sync++;
    if (fake.fail_sync != 0)
        return fake.fail_sync;
    return fdatasync(fake.fd) < 0 ? -errno : 0;
}

static int act_fallocate(void)
{
    fake.n_fallocate++;
    if ((fake.flags & FALLOC_FL_PUNCH_HOLE) != 0) {
        fake.n_punch++;
        fake.punch_offset = fake.offset;
        fake.punch_length = fake.length;
    }
    if (fake.align != 0 && ((uint64_t)fake.offset | (uint64_t)fake.length) % fake.align != 0)
        return -EINVAL;
    if ((fake.flags & FALLOC_FL_PUNCH_HOLE) != 0 && fake.fail_punch != 0)
        return fake.fail_punch;
    if (fake.fail_fallocate != 0)
        return fake.fail_fallocate;
    return fallocate(fake.fd, fake.flags, fake.offset, fake.length) < 0 ? -errno : 0;
}

static void begin_transfer(struct gw_io *io, int fd, const struct iovec *iov, unsigned n_iov,
                           int64_t offset)
{
    assert_in_range(n_iov, 1, 1024);
    fake.fd = fd;
    fake.iov = iov;
    fake.offset = offset;
    fake.n_iov = n_iov;
    begin(io, transfer);
}

void gw_io_preadv(struct gw_worker *w, struct gw_io *io, int fd, const struct iovec *iov,
                  unsigned n_iov, int64_t offset)
{
    fake.op = 0;
    begin_transfer(io, fd, iov, n_iov, offset);
}

void gw_io_pwritev(struct gw_worker *w, struct gw_io *io, int fd, const struct iovec *iov,
                   unsigned n_iov, int64_t offset, int rwf_flags)
{
    fake.op = 1;
    fake.flags = rwf_flags;
    fake.n_dsync += (rwf_flags & RWF_DSYNC) != 0;
    begin_transfer(io, fd, iov, n_iov, offset);
}

void gw_io_fdatasync(struct gw_worker *w, struct gw_io *io, int fd)
{
    fake.fd = fd;
    begin(io, act_sync);
}

void gw_io_fallocate(struct gw_worker *w, struct gw_io *io, int fd, int mode, int64_t offset,
                     int64_t length)
{
    fake.fd = fd;
    fake.flags = mode;
    fake.offset = offset;
    fake.length = length;
    begin(io, act_fallocate);
}

static int act_discard(void)
{
    fake.n_discard++;
    fake.discard_offset = fake.offset;
    fake.discard_length = fake.length;
    return fake.fail_discard;
}

void gw_io_discard(struct gw_worker *w, struct gw_io *io, int fd, int64_t offset, int64_t length)
{
    fake.fd = fd;
    fake.offset = offset;
    fake.length = length;
    begin(io, act_discard);
}

void gw_io_cancel(struct gw_io *io)
{
    assert_ptr_equal(io, fake.io);
    fake.n_cancelled++;
}

void worker_init(struct gw_worker *w)
{
    pthread_mutex_init(&w->lock, NULL);
    w->first = NULL;
}

int gw_worker_post(struct gw_worker *w, struct gw_post *post)
{
    pthread_mutex_lock(&w->lock);
    post->reserved = NULL;
    if (w->first == NULL)
        w->first = post;
    else
        w->last->reserved = post; /* the next one */
    w->last = post;
    pthread_mutex_unlock(&w->lock);
    return 0;
}

bool gw_worker_is_current(const struct gw_worker *w)
{
    return true;
}

unsigned run_posts(struct gw_worker *w)
{
    struct gw_post *post, *next;
    unsigned n = 0;

    pthread_mutex_lock(&w->lock);
    post = w->first;
    w->first = NULL;
    pthread_mutex_unlock(&w->lock);
    for (; post != NULL; post = next, n++) {
        next = post->reserved;
        post->run(post);
    }
    return n;
}

struct store *s;

static void cancel(struct gw_io *gw)
{
    struct store_io *io = (struct store_io *)(void *)((char *)gw - offsetof(struct store_io, gw));

    io->op.is_cancelled = true;
    s->ops->blk.cancel(s, &io->op);
}

void pump(void)
{
    while (fake.io != NULL) {
        struct gw_io *io = fake.io;
        int r;

        if (fake.n_ops == fake.cancel_at)
            cancel(io);
        r = fake.fail != 0 ? fake.fail : fake.act();
        fake.fail = 0;
        fake.io = NULL;
        io->done(io, r);
    }
}

void backend_say(struct backend_log *log, enum gw_log_level level, const char *format, ...)
{
    fake.n_errors += level == GW_LOG_ERROR;
    fake.n_said += level == GW_LOG_WARNING;
}

struct gw_timer timer;

int gw_timer_new(struct gw_timer **ret, struct gw_worker *w, gw_timer_cb *cb, void *arg)
{
    assert_false(timer.is_there);
    timer = (struct gw_timer){.cb = cb, .arg = arg, .is_there = true};
    *ret = &timer;
    return 0;
}

void gw_timer_start(struct gw_timer *t, uint64_t delay_ns, uint64_t period_ns)
{
    t->delay_ns = delay_ns;
}

void gw_timer_free(struct gw_timer *t)
{
    t->is_there = false;
}

/* ---- a store on a temporary file, and one operation ---- */

char path[64];
uint8_t *memory;
struct iovec iovs[STORE_FIXTURE_IOVS];
int result;

void op_done(struct gw_blk_io *io, int res)
{
    result = res;
}

static int file_fd(void)
{
    return open(path, O_RDWR | O_CLOEXEC);
}

void fill_file(void)
{
    int fd = file_fd();

    for (int i = 0; i < BLOCKS; i++) {
        memset(memory, i + 1, BLOCK);
        assert_int_equal(pwrite(fd, memory, BLOCK, (off_t)i * BLOCK), BLOCK);
    }
    close(fd);
}

int open_store(enum store_mode direct, uint32_t block_size)
{
    struct store_file_options o = {.path = path, .block_size = block_size, .direct = direct};

    return store_file_new(&s, &o);
}

int store_fixture_setup(void **state)
{
    assert_int_equal(fdcheck_setup(state), 0);
    memset(&fake, 0, sizeof(fake));
    strcpy(path, "test_blk_store.XXXXXX"); /* in the build folder, because /tmp may lack O_DIRECT */
    close(mkstemp(path));
    memory = aligned_alloc(BLOCK, SIZE + BLOCK);
    assert_non_null(memory);
    memset(memory, 0, SIZE + BLOCK);
    fill_file();
    s = NULL;
    return 0;
}

int store_fixture_teardown(void **state)
{
    if (s != NULL)
        s->ops->free(s);
    free(memory);
    unlink(path);
    return fdcheck_teardown(state);
}

int run(struct store_io *io)
{
    int r;

    /* What only the store uses need not be initialized. */
    memset(&io->store, 0xa5, sizeof(*io) - offsetof(struct store_io, store));
    io->op.done = op_done;
    result = 1;
    r = s->ops->blk.submit(s, &io->op);
    if (r == -EINPROGRESS) {
        pump();
        assert_int_not_equal(result, 1);
        return result;
    }
    assert_int_equal(result, 1); /* returned or completed, not both */
    return r;
}

int transfer_op(enum gw_blk_kind kind, uint64_t offset, uint64_t length, size_t piece, size_t shift)
{
    struct store_io io = {
        .op.kind = kind, .op.offset = offset, .op.length = length, .op.iov = iovs};
    uint8_t *at = memory + shift;

    for (uint64_t left = length; left > 0; io.op.n_iov++) {
        size_t n = piece < left ? piece : left;

        iovs[io.op.n_iov] = (struct iovec){at, n};
        at += n;
        left -= n;
    }
    return run(&io);
}

void assert_bytes(const uint8_t *at, int value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(at[i], value);
}

void assert_block(int n, int value)
{
    uint8_t buf[BLOCK];
    int fd = file_fd();

    assert_int_equal(pread(fd, buf, BLOCK, (off_t)n * BLOCK), BLOCK);
    close(fd);
    assert_bytes(buf, value, BLOCK);
}

int range_op(enum gw_blk_kind kind, bool may_unmap, bool is_durable)
{
    return run(&(struct store_io){.op.kind = kind,
                                  .op.may_unmap = may_unmap,
                                  .op.is_durable = is_durable,
                                  .op.offset = 8 * BLOCK,
                                  .op.length = 4 * BLOCK});
}

int write_op(bool is_durable)
{
    struct store_io io = {.op.kind = GW_BLK_WRITE,
                          .op.is_durable = is_durable,
                          .op.iov = iovs,
                          .op.n_iov = 1,
                          .op.offset = 8 * BLOCK,
                          .op.length = 4 * BLOCK};

    iovs[0] = (struct iovec){memory, 4 * BLOCK};
    return run(&io);
}

/* ---- users ---- */

bool are_tasks_held;
static struct task *held_task;

void tasks_add(struct task *task)
{
    if (are_tasks_held) {
        assert_null(held_task);
        held_task = task;
    } else {
        task->run(task);
    }
}

void run_held_task(void)
{
    struct task *task = held_task;

    held_task = NULL;
    are_tasks_held = false;
    task->run(task);
}

struct use {
    struct gw_blk_user user;
    int result;
};

static void use_done(struct gw_blk_user *user, int r)
{
    ((struct use *)(void *)user)->result = r;
}

static int use(struct store *store, int (*op)(void *store, struct gw_blk_user *user))
{
    struct gw_worker worker;
    struct use use = {.user = {.done = use_done, .worker = &worker}};
    int r;

    worker_init(&worker);
    r = op(store, &use.user);
    if (r != -EINPROGRESS)
        return r;
    assert_int_equal(run_posts(&worker), 1);
    return use.result;
}

int start_store(struct store *store)
{
    return use(store, store->ops->blk.start);
}

int stop_store(struct store *store)
{
    return use(store, store->ops->blk.stop);
}
