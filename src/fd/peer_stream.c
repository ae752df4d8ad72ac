/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The thread of a stream, and the ring between it and the owner. */
#include "peer_stream.h"

#include "detached.h"
#include "peer_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    RING_SIZE = 1 << 20,
    ROOM_MIN = RING_SIZE / 4, /* the other side continues when there is room for this */
    TRANSFER_MAX = 256 << 10, /* bytes in one system call, so that a cancelled thread ends soon */
};

enum kind {
    KIND_PIPE,
    KIND_SOCKET,
    KIND_FILE,
};

struct gw_peer_stream {
    int fd;
    int cancel_fd; /* an eventfd of our own */
    enum kind kind;
    bool writes;
    bool has_nowait; /* of the thread: RWF_NOWAIT works on this pipe */
    void (*wake)(void *arg);
    void *arg;

    pthread_mutex_t lock; /* all below, except for the bytes, which one side owns at a time */
    pthread_cond_t changed;
    size_t first; /* of the stored bytes */
    size_t n;     /* stored bytes */
    uint64_t moved;
    bool owner_waits;
    bool is_finished; /* the owner stores nothing more */
    bool is_cancelled;
    bool has_ended; /* the thread uses the stream no longer */
    int result;     /* with has_ended */
    uint8_t ring[RING_SIZE];
};

static unsigned n_streams; /* atomic */
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The threads stay with the parent. */
static void after_fork_in_child(void)
{
    __atomic_store_n(&n_streams, 0, __ATOMIC_RELAXED);
}

static void init(void)
{
    (void)pthread_atfork(NULL, NULL, after_fork_in_child);
}

/* ---- which descriptors ---- */

static int check_access(int fd, bool writes, char *why, size_t size)
{
    int flags = fcntl(fd, F_GETFL);
    int mode = flags & O_ACCMODE;

    if (flags >= 0 && !(flags & O_PATH) &&
        (mode == O_RDWR || mode == (writes ? O_WRONLY : O_RDONLY)))
        return 0;
    snprintf(why, size, "it is not open for %s", writes ? "writing" : "reading");
    return -EBADF;
}

/* statx(2) answers from the kernel's cache. */
static int classify(int fd, enum kind *ret, char *why, size_t size)
{
    int type = 0;
    socklen_t len = sizeof(type);
    struct statx st;

    if (gw_peer_fd_kind(fd) == GW_PEER_FD_EVENTFD ||
        statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0) {
        st.stx_mode = 0;
    } else if (S_ISFIFO(st.stx_mode)) {
        *ret = KIND_PIPE;
        return 0;
    } else if (S_ISREG(st.stx_mode)) {
        *ret = KIND_FILE;
        return gw_peer_fd_check_memory(fd, why, size);
    } else if (S_ISSOCK(st.stx_mode) && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
               type == SOCK_STREAM) {
        *ret = KIND_SOCKET;
        return 0;
    }
    snprintf(why, size, "it is neither a pipe, a stream socket nor a file");
    return -EINVAL;
}

static int check(int fd, bool writes, enum kind *ret, char *why, size_t size)
{
    int r = classify(fd, ret, why, size);

    return r < 0 ? r : check_access(fd, writes, why, size);
}

int gw_peer_stream_check(int fd, enum gw_peer_stream_use use, char *why, size_t size)
{
    enum kind kind;

    return check(fd, use == GW_PEER_STREAM_WRITE, &kind, why, size);
}

/* ---- the thread: the descriptor ---- */

/* Wait up to `timeout_ms` for the descriptor, or for the end. Returns: is the descriptor ready? */
static bool wait_ready(const struct gw_peer_stream *s, int timeout_ms)
{
    struct pollfd p[] = {
        {.fd = s->fd, .events = s->writes ? POLLOUT : POLLIN},
        {.fd = s->cancel_fd, .events = POLLIN},
    };

    return poll(p, 2, timeout_ms) > 0 && p[0].revents;
}

static ssize_t transfer_pipe(struct gw_peer_stream *s, uint8_t *at, size_t len)
{
    struct iovec iov = {.iov_base = at, .iov_len = len};
    ssize_t n;

    if (s->has_nowait) {
        n = s->writes ? pwritev2(s->fd, &iov, 1, -1, RWF_NOWAIT)
                      : preadv2(s->fd, &iov, 1, -1, RWF_NOWAIT);
        if (n >= 0 || errno != EOPNOTSUPP)
            return n;
        s->has_nowait = false; /* before Linux 6.5 */
    }
    /* Another process may take the bytes first: then the thread sleeps until more comes. */
    if (!wait_ready(s, 0)) {
        errno = EAGAIN;
        return -1;
    }
    if (!s->writes)
        return read(s->fd, at, len);
    /* A pipe that is ready for writing has room for this. */
    return write(s->fd, at, len < 4096 ? len : 4096);
}

/* Returns: as read(2) and write(2). */
static ssize_t transfer(struct gw_peer_stream *s, uint8_t *at, size_t len)
{
    if (len > TRANSFER_MAX)
        len = TRANSFER_MAX;
    if (s->kind == KIND_PIPE)
        return transfer_pipe(s, at, len);
    if (s->kind == KIND_SOCKET)
        return s->writes ? send(s->fd, at, len, MSG_DONTWAIT | MSG_NOSIGNAL)
                         : recv(s->fd, at, len, MSG_DONTWAIT);
    return s->writes ? write(s->fd, at, len) : read(s->fd, at, len);
}

/* ---- the thread: the ring ---- */

static size_t contiguous(const struct gw_peer_stream *s, size_t *ret_at)
{
    size_t end = s->first + s->n;

    if (s->writes) {
        *ret_at = s->first;
        return end <= RING_SIZE ? s->n : RING_SIZE - s->first;
    }
    *ret_at = end % RING_SIZE;
    return end < RING_SIZE ? RING_SIZE - end : RING_SIZE - s->n;
}

/* [lock] */
static void wake_owner(struct gw_peer_stream *s)
{
    if (!s->owner_waits || s->is_cancelled)
        return;
    s->owner_waits = false;
    s->wake(s->arg);
}

/* [lock] Is there nothing to write, or too little room to read into? */
static bool must_wait(const struct gw_peer_stream *s)
{
    if (s->is_cancelled)
        return false;
    return s->writes ? s->n == 0 && !s->is_finished : RING_SIZE - s->n < ROOM_MIN;
}

/* Returns: bytes at `ret_at` of the ring to transfer; 0: none will follow. */
static size_t next_bytes(struct gw_peer_stream *s, size_t *ret_at)
{
    size_t len;

    pthread_mutex_lock(&s->lock);
    while (must_wait(s))
        pthread_cond_wait(&s->changed, &s->lock);
    len = s->is_cancelled ? 0 : contiguous(s, ret_at);
    pthread_mutex_unlock(&s->lock);
    return len;
}

static void moved(struct gw_peer_stream *s, size_t len)
{
    pthread_mutex_lock(&s->lock);
    s->moved += len;
    if (s->writes) {
        s->first = (s->first + len) % RING_SIZE;
        s->n -= len;
        if (RING_SIZE - s->n >= ROOM_MIN)
            wake_owner(s);
    } else {
        s->n += len;
        wake_owner(s);
    }
    pthread_mutex_unlock(&s->lock);
}

/* Returns: the result of the stream. */
static int run(struct gw_peer_stream *s)
{
    size_t at = 0, len;

    while ((len = next_bytes(s, &at)) > 0) {
        ssize_t n = transfer(s, s->ring + at, len);

        if (n == 0 && !s->writes)
            return 0;
        if (n > 0)
            moved(s, (size_t)n);
        else if (n < 0 && errno == EAGAIN)
            (void)wait_ready(s, -1);
        else if (n < 0 && errno != EINTR)
            return -errno;
    }
    return 0;
}

static void destroy(struct gw_peer_stream *s)
{
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    if (s->cancel_fd >= 0)
        (void)close(s->cancel_fd);
    free(s);
    __atomic_sub_fetch(&n_streams, 1, __ATOMIC_RELEASE);
}

static void close_fd(const struct gw_peer_stream *s)
{
    const struct linger off = {.l_onoff = 0};

    if (s->kind == KIND_SOCKET)
        (void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off));
    (void)close(s->fd);
}

static void *stream_main(void *arg)
{
    struct gw_peer_stream *s = arg;
    bool is_last;
    int r;

    (void)pthread_setname_np(pthread_self(), "gw-stream");
    r = run(s);
    close_fd(s);
    pthread_mutex_lock(&s->lock);
    s->result = r;
    s->has_ended = true;
    wake_owner(s);
    is_last = s->is_cancelled;
    pthread_mutex_unlock(&s->lock);
    if (is_last)
        destroy(s);
    return NULL;
}

/* ---- the owner ---- */

static int make(struct gw_peer_stream **ret, int fd, bool writes, enum kind kind)
{
    struct gw_peer_stream *s = malloc(sizeof(*s));

    if (!s)
        return -ENOMEM;
    memset(s, 0, offsetof(struct gw_peer_stream, ring));
    s->fd = fd;
    s->kind = kind;
    s->writes = writes;
    s->has_nowait = true;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    __atomic_add_fetch(&n_streams, 1, __ATOMIC_RELAXED);
    *ret = s;
    s->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return s->cancel_fd < 0 ? -errno : 0;
}

int gw_peer_stream_new(struct gw_peer_stream **ret, int *fd, enum gw_peer_stream_use use,
                       void (*wake)(void *arg), void *arg, char *why, size_t size)
{
    bool writes = use == GW_PEER_STREAM_WRITE;
    struct gw_peer_stream *s = NULL;
    enum kind kind;
    int r = check(*fd, writes, &kind, why, size);

    if (r < 0)
        return r;
    (void)pthread_once(&once, init);
    if (__atomic_load_n(&n_streams, __ATOMIC_ACQUIRE) >= GW_PEER_STREAMS_MAX) {
        snprintf(why, size, "%d streams are in use", GW_PEER_STREAMS_MAX);
        return -EMFILE;
    }
    r = make(&s, *fd, writes, kind);
    if (r == 0) {
        s->wake = wake;
        s->arg = arg;
        r = gw_detached_start(stream_main, s, 0);
    }
    if (r < 0) {
        snprintf(why, size, "its thread cannot be started: %s", strerror(-r));
        if (s)
            destroy(s);
        return r;
    }
    *fd = -1;
    *ret = s;
    return 0;
}

void *gw_peer_stream_get(struct gw_peer_stream *s, size_t *ret_len)
{
    size_t end, at, len;

    pthread_mutex_lock(&s->lock);
    end = s->first + s->n;
    if (s->writes) {
        at = end % RING_SIZE;
        len = end < RING_SIZE ? RING_SIZE - end : RING_SIZE - s->n;
        if (RING_SIZE - s->n < ROOM_MIN)
            len = 0;
    } else {
        at = s->first;
        len = end <= RING_SIZE ? s->n : RING_SIZE - s->first;
    }
    s->owner_waits = len == 0;
    pthread_mutex_unlock(&s->lock);
    *ret_len = len;
    return s->ring + at;
}

void gw_peer_stream_put(struct gw_peer_stream *s, size_t len)
{
    pthread_mutex_lock(&s->lock);
    if (s->writes) {
        s->n += len;
    } else {
        s->first = (s->first + len) % RING_SIZE;
        s->n -= len;
    }
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void gw_peer_stream_finish(struct gw_peer_stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->is_finished = true;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

int gw_peer_stream_status(struct gw_peer_stream *s)
{
    int r = GW_PEER_STREAM_RUNS;

    pthread_mutex_lock(&s->lock);
    if (s->has_ended && (s->result < 0 || s->writes || s->n == 0))
        r = s->result;
    else
        s->owner_waits = true;
    pthread_mutex_unlock(&s->lock);
    return r;
}

uint64_t gw_peer_stream_moved(struct gw_peer_stream *s)
{
    uint64_t n;

    pthread_mutex_lock(&s->lock);
    n = s->moved;
    pthread_mutex_unlock(&s->lock);
    return n;
}

void gw_peer_stream_free(struct gw_peer_stream *s)
{
    bool is_last;

    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->is_cancelled = true;
    is_last = s->has_ended;
    pthread_cond_signal(&s->changed);
    (void)eventfd_write(s->cancel_fd, 1);
    pthread_mutex_unlock(&s->lock);
    if (is_last)
        destroy(s);
}
