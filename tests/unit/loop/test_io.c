/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* File operations of a worker, on real files: by io_uring, and by the pool of threads. */
#include "fdcheck.h"

#include "../fixtures/fixture.h"
#include "core/memory/mapping.h"
#include "postcopy/postcopy.h"
#include "requires.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEN 4096

static struct gw_log messages;
static struct gw_worker worker;
static int file;

static void silent(void *arg, enum gw_log_level level, const char *message)
{
}

static int setup(void **state)
{
    if (fdcheck_setup(state) < 0)
        return -1;
    gw_log_init(&messages, silent, NULL, GW_LOG_ERROR, "io");
    memset(&worker, 0, sizeof(worker));
    worker.log = &messages;
    worker.loop_kind = fixture_loop;
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
    worker_call(&worker, start, job);
    fixture_wait_for(&job->done, 1);
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

static void start_discard(struct job *job)
{
    gw_io_discard(&worker, &job->io, job->fd, job->offset, 1024);
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
    void (*const starts[])(struct job *) = {start_read, start_write, start_sync, start_punch,
                                            start_discard};
    struct job job;
    int ro;

    for (unsigned i = 0; i < 5; i++) {
        job = job_of(starts[i], 9999);
        job.iov[0] = (struct iovec){buf, 10};
        job.n_iov = 1;
        assert_int_equal(run(&job), -EBADF);
    }
    job = job_of(start_discard, file);
    assert_int_equal(run(&job), -ENOTTY); /* no block device */
    gw_io_cancel(&job.io);                /* already completed */
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

    worker_call(&worker, start_many, m);
    for (unsigned i = 0; i < 2000; i++) {
        fixture_wait_for(&m->jobs[i].done, 1);
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
    worker_call(&worker, start_chain, &io);
    while (__atomic_load_n(&chain_left, __ATOMIC_ACQUIRE) > 0) {
        assert_true(gw_clock_ns() < end);
        usleep(100);
    }
}

/* ---- cancelled ---- */

/* One operation per thread keeps the pool busy: a read of an empty pipe, which the test can end. */
enum {
    N_BUSY = 8,
    N_WAITING = 300
};

struct waiting {
    struct job jobs[N_WAITING];
    char bytes[N_WAITING];
    int pipe[2];
    unsigned n; /* of them, in use */
};

static struct waiting *waiting_new(unsigned n)
{
    struct waiting *w = calloc(1, sizeof(*w));

    assert_int_equal(pipe2(w->pipe, O_CLOEXEC), 0);
    w->n = n;
    for (unsigned i = 0; i < n; i++) {
        w->jobs[i] = job_of(start_read, w->pipe[0]);
        w->jobs[i].iov[0] = (struct iovec){&w->bytes[i], 1};
        w->jobs[i].n_iov = 1;
        w->jobs[i].offset = -1;
    }
    return w;
}

static int start_waiting(void *arg)
{
    struct waiting *w = arg;

    for (unsigned i = 0; i < w->n; i++)
        start(&w->jobs[i]);
    return 0;
}

static void cancel(struct job *job)
{
    job->inside = true;
    gw_io_cancel(&job->io);
    job->inside = false;
}

static int cancel_one(void *arg)
{
    cancel(arg);
    return 0;
}

static int cancel_waiting(void *arg)
{
    struct waiting *w = arg;

    for (unsigned i = 0; i < w->n; i++)
        cancel(&w->jobs[i]);
    return 0;
}

/* Those that are not cancelled have a byte each. Returns: how many were. */
static unsigned end_waiting(struct waiting *w)
{
    unsigned n_cancelled = 0;

    for (unsigned i = 0; i < w->n; i++) {
        fixture_wait_for(&w->jobs[i].done, 1);
        assert_true(w->jobs[i].res == 1 || w->jobs[i].res == -ECANCELED);
        assert_int_equal(w->bytes[i], w->jobs[i].res == 1 ? 'x' : 0);
        n_cancelled += w->jobs[i].res == -ECANCELED;
    }
    usleep(1000);
    for (unsigned i = 0; i < w->n; i++)
        assert_int_equal(fixture_look(&w->jobs[i].done), 1);
    close(w->pipe[0]);
    close(w->pipe[1]);
    free(w);
    return n_cancelled;
}

static unsigned n_over(const struct waiting *w)
{
    unsigned n = 0;

    for (unsigned i = 0; i < w->n; i++)
        n += fixture_look(&w->jobs[i].done);
    return n;
}

/* Also behind threads that are busy, with any of them. */
static void test_io_cancel_ends_what_has_not_begun(void **state)
{
    unsigned n_begun = gw_worker_has_uring(&worker) ? 0 : N_BUSY;
    struct waiting *w = waiting_new(N_WAITING);
    uint64_t end = gw_clock_ns() + UINT64_C(10000000000);

    worker_call(&worker, start_waiting, w);
    usleep(10000);
    worker_call(&worker, cancel_waiting, w);
    while (n_over(w) < N_WAITING - n_begun)
        assert_true(gw_clock_ns() < end);
    assert_int_equal(write(w->pipe[1], "xxxxxxxx", N_BUSY), N_BUSY);
    assert_true(end_waiting(w) >= N_WAITING - n_begun);
}

static void test_io_goes_on_after_one_in_the_middle_is_cancelled(void **state)
{
    struct waiting *w = waiting_new(N_BUSY + 5);
    char xs[N_BUSY + 5];
    static const unsigned which[] = {N_BUSY + 2, N_BUSY + 4, N_BUSY};

    memset(xs, 'x', sizeof(xs));
    worker_call(&worker, start_waiting, w);
    for (unsigned i = 0; i < 3; i++) {
        worker_call(&worker, cancel_one, &w->jobs[which[i]]);
        fixture_wait_for(&w->jobs[which[i]].done, 1);
        assert_int_equal(w->jobs[which[i]].res, -ECANCELED);
    }
    assert_int_equal(write(w->pipe[1], xs, sizeof(xs) - 3), sizeof(xs) - 3);
    assert_int_equal(end_waiting(w), 3);
}

/* The operation has completed, so the cancel must not affect the next one of the same struct. */
static int cancel_and_start(void *arg)
{
    struct job *job = arg;

    cancel(job);
    cancel(job);
    return start(job);
}

static void test_io_cancel_of_what_is_over_does_nothing(void **state)
{
    char bytes[10] = {0};
    struct job job = job_of(start_read, file);

    job.iov[0] = (struct iovec){bytes, sizeof(bytes)};
    job.n_iov = 1;
    assert_int_equal(run(&job), 10);
    for (unsigned i = 2; i < 100; i++) {
        worker_call(&worker, cancel_and_start, &job);
        fixture_wait_for(&job.done, i);
        assert_int_equal(job.res, 10);
    }
}

static int start_and_cancel_many(void *arg)
{
    struct many *m = arg;

    start_many(m);
    for (unsigned i = 0; i < 2000; i++)
        cancel(&m->jobs[i]);
    return 0;
}

/* Each result must be true: the bytes were written, or they were not. Returns: number of the
 * latter. */
static unsigned cancel_many(void)
{
    struct many *m = calloc(1, sizeof(*m));
    unsigned n_cancelled = 0;
    char back[2000];

    assert_int_equal(ftruncate(file, 0), 0);
    worker_call(&worker, start_and_cancel_many, m);
    for (unsigned i = 0; i < 2000; i++)
        fixture_wait_for(&m->jobs[i].done, 1);
    assert_int_equal(ftruncate(file, LEN), 0);
    assert_int_equal(pread(file, back, 2000, 0), 2000);
    for (unsigned i = 0; i < 2000; i++) {
        bool is_cancelled = m->jobs[i].res == -ECANCELED;

        if (!is_cancelled)
            assert_int_equal(m->jobs[i].res, 1);
        assert_int_equal(back[i], is_cancelled ? 0 : m->bytes[i]);
        assert_int_equal(fixture_look(&m->jobs[i].done), 1);
        n_cancelled += is_cancelled;
    }
    free(m);
    return n_cancelled;
}

static void test_io_cancel_of_thousands_tells_what_happened(void **state)
{
    struct waiting *w = waiting_new(N_BUSY);
    unsigned n_cancelled;

    (void)cancel_many();
    worker_call(&worker, start_waiting, w);
    n_cancelled = cancel_many();
    if (!gw_worker_has_uring(&worker))
        assert_int_equal(n_cancelled, 2000);
    assert_int_equal(write(w->pipe[1], "xxxxxxxx", N_BUSY), N_BUSY);
    assert_int_equal(end_waiting(w), 0);
}

/* ---- memory that is missing ---- */

/* The page of a memfd; a thread that touches it waits until it is sent. */
struct missing {
    struct gw_postcopy postcopy;
    struct gw_mapping mapping;
    struct gw_postcopy_range range;
    int fd, uffd;
};

static void missing_init(struct missing *m)
{
    m->fd = memfd_create("missing", MFD_CLOEXEC);
    assert_int_equal(ftruncate(m->fd, LEN), 0);
    assert_int_equal(gw_mapping_init(&m->mapping, "it", m->fd, 0, LEN, 0), 0);
    m->range = (struct gw_postcopy_range){.base = m->mapping.range.base, .length = LEN};
    gw_postcopy_init(&m->postcopy);
    assert_int_equal(gw_postcopy_advise(&m->postcopy, &m->uffd), 0);
    assert_int_equal(gw_postcopy_listen(&m->postcopy), 0);
    assert_int_equal(gw_postcopy_register(&m->postcopy, &m->range, "it"), 0);
}

static void missing_send(struct missing *m)
{
    struct uffdio_range range = {.start = m->range.base, .len = LEN};

    assert_int_equal(pwrite(m->fd, "there", 5, 0), 5);
    assert_int_equal(ioctl(m->uffd, UFFDIO_WAKE, &range), 0);
}

static void missing_done(struct missing *m)
{
    gw_postcopy_unregister(&m->range);
    gw_postcopy_done(&m->postcopy);
    gw_mapping_done(&m->mapping);
    close(m->uffd);
    close(m->fd);
}

struct mark {
    struct gw_post task;
    unsigned n; /* atomic */
};

static void run_mark(struct gw_post *task)
{
    struct mark *mark = gw_container_of(task, struct mark, task);

    __atomic_store_n(&mark->n, mark->n + 1, __ATOMIC_RELEASE);
}

/* Run one task in each of `n` turns, if the worker takes them. */
static void expect_turns(unsigned n)
{
    struct mark mark = {.task.run = run_mark};

    for (unsigned i = 1; i <= n; i++) {
        gw_worker_post(&worker, &mark.task);
        fixture_wait_for(&mark.n, i);
        if (mark.n != i)
            fail_msg("the worker waits, too");
    }
}

/* Of a disk, since the kernel reads a memfd by a thread of its own anyway. */
static int cached_file(void)
{
    char path[] = "/var/tmp/godwit-io-XXXXXX", page[LEN] = "here";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(write(fd, page, LEN), LEN);
    return fd;
}

static void test_io_missing_buffer_holds_up_nothing_else(void **state)
{
    struct job held, other;
    struct missing m;
    char c[8];
    int fd;

    if (gw_postcopy_probe() < 0)
        skip();
    fd = cached_file();
    held = other = job_of(start_read, fd);
    missing_init(&m);
    __atomic_store_n(&worker.loop->n_missing, 1, __ATOMIC_RELAXED);
    held.iov[0] = (struct iovec){m.mapping.at, 16};
    held.n_iov = 1;
    worker_call(&worker, start, &held);
    expect_turns(3);
    other.iov[0] = (struct iovec){c, sizeof(c)};
    other.n_iov = 1;
    assert_int_equal(run(&other), sizeof(c));
    assert_int_equal(__atomic_load_n(&held.done, __ATOMIC_ACQUIRE), 0);
    missing_send(&m);
    fixture_wait_for(&held.done, 1);
    assert_int_equal(held.res, 16);
    missing_done(&m);
    close(fd);
}

/*
 * Memory that direct I/O does not take, since it begins at an odd address, stands for memory that
 * the kernel cannot pin: what comes through went through memory of ours.
 */
static void test_io_direct_goes_through_memory_of_ours_where_it_must(void **state)
{
    int fd = open(".", O_RDWR | O_DIRECT | O_TMPFILE | O_CLOEXEC, 0600);
    static char out[LEN + 1], in[LEN + 1], expected[LEN];
    struct job write = job_of(start_write, fd), read = job_of(start_read, fd);

    if (fd < 0) {
        print_message("no direct I/O here\n");
        skip();
    }
    for (unsigned i = 0; i < LEN; i++)
        out[1 + i] = expected[i] = (char)(i * 31);
    write.iov[0] = (struct iovec){out + 1, 1000};
    write.iov[1] = (struct iovec){out + 1001, LEN - 1000};
    write.n_iov = 2;
    read.iov[0] = (struct iovec){in + 1, 7};
    read.iov[1] = (struct iovec){in + 8, LEN - 7};
    read.n_iov = 2;
    __atomic_store_n(&worker.loop->n_unpinnable, 1, __ATOMIC_RELAXED);
    assert_int_equal(run(&write), LEN);
    assert_int_equal(run(&read), LEN);
    assert_memory_equal(in + 1, expected, LEN);
    assert_memory_equal(out + 1, expected, LEN);
    read.done = 0;
    read.offset = LEN;
    assert_int_equal(run(&read), 0);
    read.done = 0;
    read.fd = -1;
    assert_int_equal(run(&read), -EBADF);
    close(fd);
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
        IO_TEST(test_io_cancel_ends_what_has_not_begun),
        IO_TEST(test_io_goes_on_after_one_in_the_middle_is_cancelled),
        IO_TEST(test_io_cancel_of_what_is_over_does_nothing),
        IO_TEST(test_io_cancel_of_thousands_tells_what_happened),
        IO_TEST(test_io_missing_buffer_holds_up_nothing_else),
        IO_TEST(test_io_direct_goes_through_memory_of_ours_where_it_must),
    };

    return FIXTURE_RUN_BOTH_LOOPS(tests);
}
