/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The fault server: creation, and the thread that reads faults.
 *
 * Threads and locks. One thread at a time serves faults (`running` admits one). Any number of other
 * threads bring pages, add and remove regions and clients, and read statistics. `lock` protects
 * what they look up: regions, clients and their bases. Readers hold it shared: the serving thread
 * once for all events of one wait, a thread that brings pages once per call. So nothing disappears
 * while a page is placed, and the readers do not exclude each other. The lock prefers writers, or
 * a busy stream would starve them; hence no thread may take it twice, and callbacks must not call
 * the server. The state of a page decides which thread handles it (fault_page.c). Counters are
 * atomic. The waiters' lock nests inside `lock` and is taken only for pages that were not in place.
 *
 * The serving thread never accesses the memory that it serves, and waits for nothing but faults:
 * the source answers LATER instead of blocking, and a client's userfaultfd is read without waiting,
 * regardless of its flags.
 *
 * A client may be hostile. It can make the thread read events, but only READ_MAX at a time, and
 * every other client gets its turn in between. Events other than page faults are dropped; a fork
 * event carries an fd, which is closed.
 */
#include "fault_i.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/struct_sizes.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define READ_MAX   16 /* events read from one client per turn */
#define CLIENT_MAX 16 /* clients served per wait */
#define ID_OWN     0  /* ids in epoll */
#define ID_WAKE    1
#define ID_FIRST   2

/* ---- setup ---- */

static int watch(struct gw_fault_server *s, int fd, uint64_t id)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.u64 = id}};

    if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        return gw_frontend_fail(-errno, "epoll: %s", strerror(errno));
    return 0;
}

static int open_all(struct gw_fault_server *s)
{
    int r;

    s->own.uffd = gw_fault_uffd_open(s->cfg.fill);
    if (s->own.uffd < 0)
        return s->own.uffd;
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->epoll_fd < 0 || s->wake_fd < 0)
        return gw_frontend_fail(-errno, "epoll, eventfd: %s", strerror(errno));
    r = watch(s, s->own.uffd, ID_OWN);
    return r < 0 ? r : watch(s, s->wake_fd, ID_WAKE);
}

int gw_fault_server_new(struct gw_fault_server **ret, const struct gw_fault_config *given)
{
    pthread_rwlockattr_t attr;
    struct gw_fault_config cfg;
    struct gw_fault_server *s;
    int r = gw_copy_struct(&cfg, sizeof(cfg), given, GW_FIRST_FAULT_CONFIG);

    if (r == 0 && cfg.fill > GW_FAULT_CONTINUE)
        r = -EINVAL;
    if (r < 0)
        return gw_frontend_fail(r, "invalid configuration");
    s = calloc(1, sizeof(*s));
    if (!s)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    s->cfg = cfg;
    s->epoll_fd = -1;
    s->wake_fd = -1;
    s->next_id = ID_FIRST;
    s->own.server = s;
    s->own.uffd = -1;
    s->own.id = ID_OWN;
    s->own.is_own = true;
    s->own.is_minor = cfg.fill == GW_FAULT_CONTINUE;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&s->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&s->waiters_lock, NULL);
    r = open_all(s);
    if (r < 0)
        gw_fault_server_free(s);
    else
        *ret = s;
    return r;
}

void gw_fault_server_free(struct gw_fault_server *s)
{
    if (!s)
        return;
    gw_fault_server_stop(s);
    gw_fault_waiters_drop(s, NULL, NULL);
    while (s->n_clients)
        gw_fault_client_free(s->clients[--s->n_clients]);
    while (s->n_regions)
        gw_fault_region_free(s, s->regions[--s->n_regions]);
    gw_close(&s->own.uffd);
    gw_close(&s->epoll_fd);
    gw_close(&s->wake_fd);
    pthread_mutex_destroy(&s->waiters_lock);
    pthread_rwlock_destroy(&s->lock);
    free(s->own.bases);
    free(s->clients);
    free(s->regions);
    free(s);
}

/* ---- faults ---- */

static const char *name_of(const struct gw_fault_client *c)
{
    return c->is_own ? NULL : c->name;
}

static void break_client(struct gw_fault_server *s, struct gw_fault_client *c, int r)
{
    struct gw_fault_report report = {.problem = GW_FAULT_CLIENT, .error = r, .client = name_of(c)};

    c->is_broken = true;
    (void)epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, c->uffd, NULL);
    gw_fault_report(s, &report, "client %s: cannot read its userfaultfd: %s",
                    c->is_own ? "(own)" : c->name, strerror(-r));
}

static void stray(struct gw_fault_server *s, const struct gw_fault_client *c, gw_bva_t address)
{
    struct gw_fault_report report = {
        .problem = GW_FAULT_STRAY,
        .error = -EFAULT,
        .client = name_of(c),
        .address = address,
    };

    gw_fault_count(&s->n_stray, 1);
    gw_fault_report(s, &report,
                    "client %s: fault at address 0x%" PRIx64 ", which is in none of its %u regions",
                    c->is_own ? "(own)" : c->name, address, c->n_bases);
}

/* Whether an earlier event of the same read has woken this page. */
static bool is_woken(const struct gw_fault_waiter *done, unsigned n,
                     const struct gw_fault_waiter *w)
{
    for (unsigned i = 0; i < n; i++) {
        if (done[i].address == w->address)
            return true;
    }
    return false;
}

/* Serve the events of one read. */
static void serve_events(struct gw_fault_server *s, struct gw_fault_client *c,
                         const struct uffd_msg *msgs, unsigned n)
{
    struct gw_fault_waiter done[READ_MAX];
    uint64_t now = gw_clock_ns();
    unsigned n_done = 0;

    for (unsigned i = 0; i < n; i++) {
        gw_bva_t address = msgs[i].arg.pagefault.address;
        const struct gw_fault_base *b;
        struct gw_fault_waiter *w = &done[n_done];

        if (msgs[i].event == UFFD_EVENT_FORK)
            close((int)msgs[i].arg.fork.ufd);
        if (msgs[i].event != UFFD_EVENT_PAGEFAULT)
            continue;
        b = gw_fault_client_find(c, address);
        if (!b || msgs[i].arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) {
            stray(s, c, address);
            continue;
        }
        w->client = c;
        w->region = b->region;
        w->page = (address - b->start) / b->region->page_size;
        w->address = b->start + w->page * b->region->page_size;
        w->since = now;
        w->is_minor = c->is_minor || msgs[i].arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_MINOR;
        if (is_woken(done, n_done, w)) {
            gw_fault_count(&w->region->counts.faults, 1);
            continue;
        }
        gw_fault_page_wanted(s, w);
        n_done++;
    }
}

static void serve_client(struct gw_fault_server *s, struct gw_fault_client *c)
{
    struct uffd_msg msgs[READ_MAX];
    ssize_t n = gw_fault_uffd_read(c->uffd, msgs, sizeof(msgs));

    /* A thread of the client has read the event first. */
    if (n == -EAGAIN || n == -EINTR)
        return;
    if (n <= 0 || (size_t)n % sizeof(msgs[0]))
        break_client(s, c, n < 0 ? (int)n : -EPROTO);
    else
        serve_events(s, c, msgs, (unsigned)((size_t)n / sizeof(msgs[0])));
}

static struct gw_fault_client *client_of(struct gw_fault_server *s, uint64_t id)
{
    if (id == ID_OWN)
        return &s->own;
    for (unsigned i = 0; i < s->n_clients; i++) {
        if (s->clients[i]->id == id)
            return s->clients[i];
    }
    return NULL; /* removed since the wait ended */
}

static void serve(struct gw_fault_server *s, const struct epoll_event *events, unsigned n)
{
    pthread_rwlock_rdlock(&s->lock);
    __atomic_store_n(&s->busy, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < n; i++) {
        struct gw_fault_client *c = client_of(s, events[i].data.u64);

        if (!c || c->is_broken)
            continue;
        if (events[i].events & EPOLLIN)
            serve_client(s, c);
        else
            break_client(s, c, -EBADF);
    }
    __atomic_store_n(&s->busy, 0, __ATOMIC_RELAXED);
    pthread_rwlock_unlock(&s->lock);
}

static void serve_until_stop(struct gw_fault_server *s, int timeout_ms)
{
    struct epoll_event events[CLIENT_MAX];
    int n;

    for (;;) {
        n = epoll_wait(s->epoll_fd, events, CLIENT_MAX, timeout_ms);
        if (__atomic_exchange_n(&s->quit, false, __ATOMIC_ACQUIRE)) {
            eventfd_t ignored;

            (void)eventfd_read(s->wake_fd, &ignored);
            return;
        }
        if (n == 0)
            return;
        if (n > 0) /* otherwise a signal interrupted the wait */
            serve(s, events, (unsigned)n);
    }
}

/* ---- serving ---- */

static int claim_run(struct gw_fault_server *s)
{
    if (__atomic_exchange_n(&s->running, true, __ATOMIC_ACQUIRE))
        return gw_frontend_fail(-EBUSY, "faults are being served already");
    return 0;
}

static void *thread_main(void *arg)
{
    struct gw_fault_server *s = arg;

    (void)pthread_setname_np(pthread_self(), "gw-faults");
    serve_until_stop(s, -1);
    return NULL;
}

int gw_fault_server_start(struct gw_fault_server *s)
{
    int r = claim_run(s);

    if (r < 0)
        return r;
    r = -pthread_create(&s->thread, NULL, thread_main, s);
    if (r < 0) {
        __atomic_store_n(&s->running, false, __ATOMIC_RELEASE);
        return gw_frontend_fail(r, "pthread_create: %s", strerror(-r));
    }
    s->has_thread = true;
    return 0;
}

int gw_fault_server_fd(const struct gw_fault_server *s)
{
    return s->epoll_fd;
}

int gw_fault_server_run(struct gw_fault_server *s, int timeout_ms)
{
    int r = claim_run(s);

    if (r < 0)
        return r;
    serve_until_stop(s, timeout_ms);
    __atomic_store_n(&s->running, false, __ATOMIC_RELEASE);
    return 0;
}

void gw_fault_server_stop(struct gw_fault_server *s)
{
    if (!__atomic_load_n(&s->running, __ATOMIC_ACQUIRE))
        return;
    __atomic_store_n(&s->quit, true, __ATOMIC_RELEASE);
    (void)eventfd_write(s->wake_fd, 1);
    if (!s->has_thread)
        return;
    pthread_join(s->thread, NULL);
    s->has_thread = false;
    __atomic_store_n(&s->running, false, __ATOMIC_RELEASE);
}
