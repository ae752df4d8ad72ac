/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* File operations of a worker, on real files: by io_uring, and by the pool of threads. */
#include "fdcheck.h"
#include "requires.h"
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEN 4096

static struct gw_diag diag;
static struct gw_device_ops ops;
static struct gw_worker worker;
static int file;

static void silent(void *arg, enum gw_diag_level level, const char *message)
{
}

static int setup(void **state)
{
    if (fdcheck_setup(state) < 0)
        return -1;
    gw_diag_init(&diag, silent, NULL, GW_DIAG_ERROR, "io");
    memset(&worker, 0, sizeof(worker));
    worker.ops = &ops;
    worker.diag = &diag;
    worker.loop_kind = rig_loop;
    file = memfd_create("file", MFD_CLOEXEC);
    return file < 0 || ftruncate(file, LEN) < 0 ? -1 : gw_worker_start(&worker);
}

static int teardown(void **state)
{
    gw_worker_end(&worker);
    close(file);
    return fdcheck_teardown(state);
}

struct job {
    struct gw_io io;
    void (*start)(struct job *job);
    int fd;
    struct iovec iov[3];
    unsigned n_iov;
    int64_t offset;
    int flags;
    bool inside;   /* of the call that started it */
    unsigned done; /* atomic */
    int res;
};

static void done(struct gw_io *io, int res)
{
    struct job *job = gw_container_of(io, struct job, io);

    assert_false(job->inside);
    assert_true(gw_worker_is_current(&worker));
    job->res = res;
    __atomic_store_n(&job->done, job->done + 1, __ATOMIC_RELEASE);
}

static int start(void *arg)
{
    struct job *job = arg;

    job->io.done = done;
    job->inside = true;
    job->start(job);
    job->inside = false;
    return 0;
}

static int run(struct job *job)
{
    gw_worker_call(&worker, start, job);
    rig_wait_for(&job->done, 1);
    assert_int_equal(job->done, 1);
    return job->res;
}

static void start_read(struct job *job)
{
    gw_io_preadv(&worker, &job->io, job->fd, job->iov, job->n_iov, job->offset);
}

static void start_write(struct job *job)
{
    gw_io_pwritev(&worker, &job->io, job->fd, job->iov, job->n_iov, job->offset, job->flags);
}

static void start_sync(struct job *job)
{
    gw_io_fdatasync(&worker, &job->io, job->fd);
}

static void start_punch(struct job *job)
{
    gw_io_fallocate(&worker, &job->io, job->fd, job->flags, job->offset, 1024);
}

static struct job job_of(void (*fn)(struct job *), int fd)
{
    return (struct job){.start = fn, .fd = fd};
}

static void test_io_written_pieces_are_read_back(void **state)
{
    char a[] = "first", b[] = "the second", c[20] = {0}, d[20] = {0};
    static const int flags[] = {0, RWF_DSYNC};

    for (unsigned i = 0; i < 2; i++) {
        struct job write = job_of(start_write, file), read = job_of(start_read, file);

        a[0] = (char)('A' + i);
        write.iov[0] = (struct iovec){a, 5};
        write.iov[1] = (struct iovec){b, 10};
        write.n_iov = 2;
        write.offset = 100 + 1000 * i;
        write.flags = flags[i];
        assert_int_equal(run(&write), 15);
        read.iov[0] = (struct iovec){c, 7};
        read.iov[1] = (struct iovec){d, 8};
        read.n_iov = 2;
        read.offset = write.offset;
        assert_int_equal(run(&read), 15);
        assert_int_equal(c[0], a[0]);
        assert_memory_equal(c + 1, "irstth", 6);
        assert_memory_equal(d, "e second", 8);
    }
}

static void test_io_read_over_the_end_is_short(void **state)
{
    char buf[100];
    struct job job = job_of(start_read, file);

    job.iov[0] = (struct iovec){buf, sizeof(buf)};
    job.n_iov = 1;
    job.offset = LEN - 10;
    assert_int_equal(run(&job), 10);
    job.done = 0;
    job.offset = LEN + 10;
    assert_int_equal(run(&job), 0);
}

static void test_io_sync_and_punch_work(void **state)
{
    struct job sync = job_of(start_sync, file), punch = job_of(start_punch, file);
    char byte = 'x';
    struct stat st;

    assert_int_equal(run(&sync), 0);
    assert_int_equal(pwrite(file, &byte, 1, 1500), 1);
    punch.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    punch.offset = 1024;
    assert_int_equal(run(&punch), 0);
    assert_int_equal(pread(file, &byte, 1, 1500), 1);
    assert_int_equal(byte, 0);
    punch = job_of(start_punch, file);
    punch.offset = LEN;
    assert_int_equal(run(&punch), 0); /* allocates: the file grows */
    assert_int_equal(fstat(file, &st), 0);
    assert_int_equal(st.st_size, LEN + 1024);
}

static void test_io_failures_are_told_to_done(void **state)
{
    char path[64], buf[10] = {0};
    void (*const starts[])(struct job *) = {start_read, start_write, start_sync, start_punch};
    struct job job;
    int ro;

    for (unsigned i = 0; i < 4; i++) {
        job = job_of(starts[i], 9999);
        job.iov[0] = (struct iovec){buf, 10};
        job.n_iov = 1;
        assert_int_equal(run(&job), -EBADF);
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    ro = open(path, O_RDONLY | O_CLOEXEC);
    job = job_of(start_write, ro);
    job.iov[0] = (struct iovec){buf, 10};
    job.n_iov = 1;
    assert_int_equal(run(&job), -EBADF);
    if (!is_under_valgrind()) { /* which complains of the address */
        job = job_of(start_read, file);
        job.iov[0] = (struct iovec){(void *)(uintptr_t)1, 10};
        job.n_iov = 1;
        assert_int_equal(run(&job), -EFAULT);
    }
    job = job_of(start_punch, file);
    job.flags = 0x8000;
    assert_int_equal(run(&job), -EOPNOTSUPP);
    close(ro);
}

struct many {
    struct job jobs[2000];
    char bytes[2000];
};

static int start_many(void *arg)
{
    struct many *m = arg;

    for (unsigned i = 0; i < 2000; i++) {
        m->bytes[i] = (char)(i * 13);
        m->jobs[i] = job_of(start_write, file);
        m->jobs[i].iov[0] = (struct iovec){&m->bytes[i], 1};
        m->jobs[i].n_iov = 1;
        m->jobs[i].offset = i;
        start(&m->jobs[i]);
    }
    return 0;
}

/* More than any submission ring holds. */
static void test_io_thousands_at_once_all_end_once(void **state)
{
    struct many *m = calloc(1, sizeof(*m));
    char back[2000];

    gw_worker_call(&worker, start_many, m);
    for (unsigned i = 0; i < 2000; i++) {
        rig_wait_for(&m->jobs[i].done, 1);
        assert_int_equal(m->jobs[i].res, 1);
    }
    usleep(1000);
    for (unsigned i = 0; i < 2000; i++)
        assert_int_equal(__atomic_load_n(&m->jobs[i].done, __ATOMIC_ACQUIRE), 1);
    assert_int_equal(pread(file, back, 2000, 0), 2000);
    assert_memory_equal(back, m->bytes, 2000);
    free(m);
}

/* An operation may start the next one from its end. */
static unsigned chain_left; /* atomic */
static char chain_byte;
static struct iovec chain_iov = {&chain_byte, 1};

static void chain_done(struct gw_io *io, int res)
{
    unsigned left = __atomic_sub_fetch(&chain_left, 1, __ATOMIC_RELEASE);

    assert_int_equal(res, 1);
    if (left > 0)
        gw_io_preadv(&worker, io, file, &chain_iov, 1, left % LEN);
}

static int start_chain(void *arg)
{
    struct gw_io *io = arg;

    io->done = chain_done;
    gw_io_preadv(&worker, io, file, &chain_iov, 1, 0);
    return 0;
}

static void test_io_done_can_start_the_next(void **state)
{
    struct gw_io io = {0};
    uint64_t end = gw_clock_ns() + UINT64_C(10000000000);

    __atomic_store_n(&chain_left, 5000, __ATOMIC_RELEASE);
    gw_worker_call(&worker, start_chain, &io);
    while (__atomic_load_n(&chain_left, __ATOMIC_ACQUIRE) > 0) {
        assert_true(gw_clock_ns() < end);
        usleep(100);
    }
}

#define IO_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IO_TEST(test_io_written_pieces_are_read_back),
        IO_TEST(test_io_read_over_the_end_is_short),
        IO_TEST(test_io_sync_and_punch_work),
        IO_TEST(test_io_failures_are_told_to_done),
        IO_TEST(test_io_thousands_at_once_all_end_once),
        IO_TEST(test_io_done_can_start_the_next),
    };

    return RIG_RUN_BOTH_LOOPS(tests);
}
