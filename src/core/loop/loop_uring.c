/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The io_uring loop. Waiting for fds, file operations and notifications are all submissions, so a
 * busy turn of a worker is one io_uring_enter(2) that carries them all.
 *
 * The user data of a completion identifies what completed: a poll (pointer), a file operation
 * (pointer with bit 0 set), or 0 if the completion is ignored. A poll outlives its source: it is
 * freed with its last completion, which may arrive long after the source was removed.
 */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/list.h"
#include "fd/peer_fd.h"
#include "io_pool.h"
#include "loop.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    URING_ENTRIES = 256,
    URING_CQ_ENTRIES = 4096,
    BELL_CQ_ENTRIES = 2 * URING_ENTRIES
};

#define TAG_IO UINT64_C(1)

struct uring_loop {
    struct gw_loop base;
    struct io_uring ring;
    struct gw_list polls;
    struct gw_io_pool *pool; /* for operations that io_uring lacks */
    struct gw_source pool_source;
};

struct uring_poll {
    struct gw_list link;
    struct gw_source *source; /* NULL once removed */
};

/*
 * The kernel unmaps a ring before it maps another one at the same address, perhaps for another
 * thread. liburing makes these system calls itself, so ThreadSanitizer does not see their order.
 */
static void order_mappings(void)
{
    static unsigned n;

    __atomic_add_fetch(&n, 1, __ATOMIC_ACQ_REL);
}

static int map_ring(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
    int r = io_uring_queue_init_params(entries, ring, params);

    order_mappings();
    return r;
}

static void unmap_ring(struct io_uring *ring)
{
    order_mappings();
    io_uring_queue_exit(ring);
}

static struct uring_loop *uring_of(struct gw_loop *loop)
{
    return gw_container_of(loop, struct uring_loop, base);
}

static int uring_fd(struct gw_loop *loop)
{
    return uring_of(loop)->ring.ring_fd;
}

static void uring_submit(struct gw_loop *loop)
{
    int r;

    /* EBUSY and EAGAIN are temporary shortages, which end when a turn handles completions. */
    do
        r = io_uring_submit(&uring_of(loop)->ring);
    while (r == -EINTR);
}

static struct io_uring_sqe *uring_sqe(struct uring_loop *u)
{
    struct io_uring_sqe *sqe;

    while (!(sqe = io_uring_get_sqe(&u->ring)))
        uring_submit(&u->base);
    return sqe;
}

static void uring_arm(struct uring_loop *u, struct uring_poll *poll)
{
    struct io_uring_sqe *sqe = uring_sqe(u);

    /*
     * A multishot poll reports every wake-up without a read of the fd, which saves a system call
     * per kick. It does not report data that stays, so a level triggered source is armed again
     * after each event.
     */
    if (poll->source->edge)
        io_uring_prep_poll_multishot(sqe, poll->source->fd, poll->source->events);
    else
        io_uring_prep_poll_add(sqe, poll->source->fd, poll->source->events);
    io_uring_sqe_set_data(sqe, poll);
}

static int uring_add(struct gw_loop *loop, struct gw_source *source)
{
    struct uring_loop *u = uring_of(loop);
    struct uring_poll *poll = calloc(1, sizeof(*poll));

    if (!poll)
        return -ENOMEM;
    poll->source = source;
    source->token = poll;
    gw_list_append(&u->polls, &poll->link);
    uring_arm(u, poll);
    return 0;
}

static void uring_poll_free(struct uring_poll *poll)
{
    gw_list_remove(&poll->link);
    free(poll);
}

static void uring_remove(struct gw_loop *loop, struct gw_source *source)
{
    struct uring_loop *u = uring_of(loop);
    struct uring_poll *poll = source->token;
    struct io_uring_sqe *sqe;

    if (!poll)
        return;
    source->token = NULL;
    poll->source = NULL;
    sqe = uring_sqe(u);
    io_uring_prep_poll_remove(sqe, (uintptr_t)poll);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, 0);
    /* At once, because the caller closes the fd next, and its number may then be reused. */
    uring_submit(loop);
}

/*
 * A write to the eventfd could sleep in io_uring_enter: the kernel checks O_NONBLOCK when it takes
 * the submission and again in the eventfd, and the front-end may clear the flag in between. But a
 * ring signals its own eventfd from within the kernel, without sleeping, whenever it gets a
 * completion. So each eventfd has a ring without submissions, and a message to this ring signals
 * the eventfd.
 */
static void *uring_bell_new(struct gw_loop *loop, int fd)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_CQSIZE,
        .cq_entries = BELL_CQ_ENTRIES,
    };
    gw_cleanup_free struct io_uring *bell = calloc(1, sizeof(*bell));

    if (!bell || map_ring(1, bell, &params) < 0)
        return NULL;
    if (io_uring_register_eventfd(bell, fd) < 0) {
        unmap_ring(bell);
        return NULL;
    }
    return gw_steal(bell);
}

static void uring_bell_free(void *bell)
{
    if (bell)
        unmap_ring(bell);
    free(bell);
}

static void uring_signal(struct gw_loop *loop, int fd, void *arg)
{
    struct io_uring *bell = arg;
    struct io_uring_sqe *sqe;

    if (!bell) {
        gw_eventfd_signal(fd);
        return;
    }
    sqe = uring_sqe(uring_of(loop));
    /* Only queued submissions can follow, so the completion queue never overflows. */
    io_uring_cq_advance(bell, io_uring_cq_ready(bell));
    io_uring_prep_msg_ring(sqe, bell->ring_fd, 0, 0, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, 0);
}

/*
 * A write that waits for a page of its data holds the lock of its file, so all other writes to the
 * file wait, too. Populating the pages first prevents this. A failure here recurs in the write.
 */
static void uring_fetch(struct uring_loop *u, const struct gw_io_i *io)
{
    const uintptr_t mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;

    for (unsigned i = 0; i < io->n_iov; i++) {
        uintptr_t from = (uintptr_t)io->iov[i].iov_base & ~mask;
        uintptr_t to = ((uintptr_t)io->iov[i].iov_base + io->iov[i].iov_len + mask) & ~mask;
        struct io_uring_sqe *sqe = uring_sqe(u);

        io_uring_prep_madvise(sqe, (void *)from, (off_t)(to - from), MADV_POPULATE_READ);
        sqe->flags |= IOSQE_ASYNC | IOSQE_IO_HARDLINK | IOSQE_CQE_SKIP_SUCCESS;
        io_uring_sqe_set_data64(sqe, 0);
    }
}

/*
 * If memory may be missing, threads of the kernel move the data. The submitting thread would sleep
 * in io_uring_enter until the page arrives, and all work of this worker would wait.
 */
static void uring_io(struct gw_loop *loop, struct gw_io_i *io)
{
    bool is_async = gw_loop_may_fault(loop);
    struct io_uring_sqe *sqe;

    if (io->op == GW_IO_DISCARD) {
        gw_io_pool_start(uring_of(loop)->pool, io);
        return;
    }
    if (is_async && io->op == GW_IO_PWRITEV)
        uring_fetch(uring_of(loop), io);
    sqe = uring_sqe(uring_of(loop));
    switch ((enum gw_io_op)io->op) {
    case GW_IO_PREADV:
        io_uring_prep_readv(sqe, io->fd, io->iov, io->n_iov, (uint64_t)io->offset);
        break;
    case GW_IO_PWRITEV:
        io_uring_prep_writev2(sqe, io->fd, io->iov, io->n_iov, (uint64_t)io->offset, io->flags);
        break;
    case GW_IO_FDATASYNC:
        io_uring_prep_fsync(sqe, io->fd, IORING_FSYNC_DATASYNC);
        break;
    case GW_IO_FALLOCATE:
        io_uring_prep_fallocate(sqe, io->fd, io->flags, io->offset, io->length);
        break;
    case GW_IO_DISCARD:
    case GW_IO_BOUNCED:
        break;
    }
    sqe->flags |= is_async ? IOSQE_ASYNC : 0;
    io_uring_sqe_set_data64(sqe, (uintptr_t)io | TAG_IO);
}

/*
 * Cancels the operation with this user data, whose own completion reports the result. The
 * completion of a cancel that finds nothing is ignored. The kernel processes submissions in order,
 * so the cancel cannot find a later operation of the same gw_io.
 */
static void uring_cancel(struct gw_loop *loop, struct gw_io_i *io)
{
    struct io_uring_sqe *sqe;

    if (io->op == GW_IO_DISCARD) {
        gw_io_pool_cancel(uring_of(loop)->pool, io);
        return;
    }
    sqe = uring_sqe(uring_of(loop));
    io_uring_prep_cancel64(sqe, (uintptr_t)io | TAG_IO, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, 0);
}

static bool uring_is_pending(struct gw_loop *loop)
{
    struct io_uring *ring = &uring_of(loop)->ring;

    return io_uring_sq_ready(ring) > 0 || io_uring_cq_ready(ring) > 0 ||
           (IO_URING_READ_ONCE(*ring->sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}

static void uring_poll_completed(struct uring_loop *u, struct uring_poll *poll, int res, bool more)
{
    struct gw_source *source = poll->source;

    if (!source) {
        if (!more)
            uring_poll_free(poll);
        return;
    }
    if (res < 0 && res != -ECANCELED)
        gw_log(u->base.log, GW_LOG_WARNING, "cannot wait for fd %d: %s", source->fd,
               strerror(-res));
    if (res < 0) {
        /* The poll failed and cannot be armed again. */
        source->token = NULL;
        uring_poll_free(poll);
        return;
    }
    source->cb(source, (uint32_t)res);
    if (more)
        return;
    /* The callback may have removed its source. */
    if (poll->source)
        uring_arm(u, poll);
    else
        uring_poll_free(poll);
}

static void uring_completed(struct uring_loop *u, uint64_t data, int res, bool more)
{
    if (data & TAG_IO) {
        struct gw_io_i *io = (struct gw_io_i *)(uintptr_t)(data & ~TAG_IO);
        gw_io_done(io, res);
    } else if (data) {
        uring_poll_completed(u, (struct uring_poll *)(uintptr_t)data, res, more);
    }
}

static void uring_turn(struct gw_loop *loop, int64_t timeout_ns)
{
    struct uring_loop *u = uring_of(loop);
    struct io_uring_cqe *cqe;
    if (timeout_ns != 0 && io_uring_cq_ready(&u->ring) == 0) {
        struct __kernel_timespec ts = {
            .tv_sec = timeout_ns / 1000000000,
            .tv_nsec = timeout_ns % 1000000000,
        };
        (void)io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, timeout_ns < 0 ? NULL : &ts,
                                               NULL);
    } else {
        (void)io_uring_submit_and_get_events(&u->ring);
    }
    /* One by one: a callback may submit, and resulting completions are handled here, too. */
    while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        uint64_t data = cqe->user_data;
        int res = cqe->res;
        bool more = (cqe->flags & IORING_CQE_F_MORE) != 0;

        io_uring_cqe_seen(&u->ring, cqe);
        uring_completed(u, data, res, more);
    }
}

/* The kernel cancels the remaining polls. No file operation remains: the queues have drained. */
static void uring_free(struct gw_loop *loop)
{
    struct uring_loop *u = uring_of(loop);
    struct gw_list *pos, *next;

    unmap_ring(&u->ring);
    gw_io_pool_free(u->pool);
    gw_list_for_each_safe (pos, next, &u->polls)
        free(gw_container_of(pos, struct uring_poll, link));
    free(u);
}

static const struct gw_loop_ops uring_ops = {
    .kind = GW_LOOP_URING,
    .free = uring_free,
    .fd = uring_fd,
    .add = uring_add,
    .remove = uring_remove,
    .bell_new = uring_bell_new,
    .bell_free = uring_bell_free,
    .signal = uring_signal,
    .io = uring_io,
    .cancel = uring_cancel,
    .submit = uring_submit,
    .is_pending = uring_is_pending,
    .turn = uring_turn,
};

/* A seccomp filter may allow io_uring_setup and refuse io_uring_enter. */
static int try_to_enter(struct io_uring *ring, struct gw_log *log)
{
    int r = io_uring_submit_and_get_events(ring);

    if (r < 0)
        gw_log(log, GW_LOG_WARNING,
               "io_uring_setup is allowed but io_uring_enter fails: %s; allow both (seccomp)",
               strerror(-r));
    return r < 0 ? r : 0;
}

static void pool_is_ready(struct gw_source *source, uint32_t events)
{
    gw_io_pool_reap(gw_container_of(source, struct uring_loop, pool_source)->pool);
}

static int uring_add_pool(struct uring_loop *u)
{
    int r = gw_io_pool_new(&u->pool);

    if (r < 0)
        return r;
    u->pool_source =
        (struct gw_source){.fd = gw_io_pool_fd(u->pool), .events = POLLIN, .cb = pool_is_ready};
    return uring_add(&u->base, &u->pool_source);
}

int gw_loop_uring_new(struct gw_loop **ret, struct gw_log *log, bool is_external)
{
    const unsigned needed = IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP | IORING_FEAT_NODROP;
    gw_cleanup_free struct uring_loop *u = calloc(1, sizeof(*u));
    /*
     * With DEFER_TASKRUN the kernel completes work only when this thread enters it, and never
     * interrupts it. But then work that waits for the thread does not wake it if it polls the fd of
     * the ring, nor does a registered eventfd, if what happened is a write to an eventfd.
     */
    struct io_uring_params params = {
        .flags = (is_external ? IORING_SETUP_COOP_TASKRUN : IORING_SETUP_DEFER_TASKRUN) |
                 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE,
        .cq_entries = URING_CQ_ENTRIES,
    };
    int r;

    if (!u)
        return -ENOMEM;
    r = map_ring(URING_ENTRIES, &u->ring, &params);
    if (r < 0)
        return r;
    if ((params.features & needed) != needed)
        r = -EOPNOTSUPP;
    else
        r = try_to_enter(&u->ring, log);
    if (r < 0) {
        unmap_ring(&u->ring);
        return r;
    }
    gw_list_init(&u->polls);
    u->base.ops = &uring_ops;
    u->base.log = log;
    r = uring_add_pool(u);
    if (r < 0) {
        uring_free(&gw_steal(u)->base);
        return r;
    }
    *ret = &gw_steal(u)->base;
    return 0;
}
