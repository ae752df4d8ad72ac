/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Interfaces between the files of the fault server. The threads and the locking rules are described
 * in fault_server.c.
 */
#pragma once

#include "base/histogram.h"
#include "frontend/error.h"

#include <godwit/frontend/fault.h>
#include <pthread.h>
#include <sys/types.h>

/* Bits of a page's state, one byte that is changed only by atomic read-modify-write operations. */
#define GW_FAULT_PAGE_CLAIMED  0x1u /* a thread places it, or has placed it */
#define GW_FAULT_PAGE_RECEIVED 0x2u /* the page is in place */
#define GW_FAULT_PAGE_ASKED    0x4u /* the page was requested from the source */
#define GW_FAULT_PAGE_WAITED   0x8u /* waiters for it are, or were, in the list */

/* Atomic, relaxed: a counter says nothing about other data. */
struct gw_fault_counts {
    uint64_t faults, already, copied, zeroed, continued, asked, wakes;
    uint64_t bytes_requested, bytes_streamed, repeated, early;
};

struct gw_fault_region {
    gw_gpa_t gpa;
    uint64_t length;
    uint64_t page_size;
    uint64_t residual; /* bytes of the first page before `gpa` */
    uint64_t n_pages;
    char *map;           /* the owner's mapping, registered */
    char *fill;          /* GW_FAULT_CONTINUE: the server's mapping, not registered */
    int fd;              /* duplicated from the region */
    gw_off_t offset;     /* offset of `map` in the file */
    uint8_t *pages;      /* page states; atomic */
    uint64_t n_received; /* atomic */
    bool can_zero;
    bool is_registered;
    struct gw_fault_counts counts;
    struct gw_histogram latency; /* written by several threads */
};

/* The mapping of a whole region, including its partial pages, in a client. */
struct gw_fault_base {
    gw_bva_t start;
    uint64_t length;
    struct gw_fault_region *region;
};

struct gw_fault_client {
    struct gw_fault_server *server;
    uint64_t id; /* id in epoll, never reused */
    int uffd;
    bool is_own;    /* this process: placing a page wakes its threads */
    bool is_minor;  /* registered for minor faults */
    bool is_broken; /* no longer read; serving thread only */
    char name[48];
    struct gw_fault_base *bases; /* ascending */
    unsigned n_bases, room;
};

/* One or more threads that wait for a page at one address of a client. */
struct gw_fault_waiter {
    struct gw_fault_waiter *next;
    struct gw_fault_client *client;
    struct gw_fault_region *region;
    uint64_t page;
    gw_bva_t address; /* page address */
    uint64_t since;   /* when the fault was read */
    bool is_minor;    /* wake by mapping the page */
};

#define GW_FAULT_BUCKETS 256

struct gw_fault_server {
    struct gw_fault_config cfg;
    int epoll_fd;
    int wake_fd;  /* wakes the serving thread */
    bool running; /* atomic */
    bool quit;    /* atomic */
    bool has_thread;
    pthread_t thread;
    uint64_t n_stray; /* atomic */
    uint64_t busy;    /* atomic: the serving thread is serving faults */

    pthread_rwlock_t lock; /* protects the fields up to waiters_lock */
    bool has_begun;        /* regions are registered */
    struct gw_fault_client own;
    struct gw_fault_client **clients;
    unsigned n_clients;
    uint64_t next_id;
    struct gw_fault_region **regions; /* ascending by address */
    unsigned n_regions, room;
    gw_gpa_t stream_at;          /* streaming thread only */
    struct gw_fault_counts gone; /* counters of removed regions */
    struct gw_histogram gone_latency;

    pthread_mutex_t waiters_lock; /* taken under `lock` */
    struct gw_fault_waiter *waiters[GW_FAULT_BUCKETS];
};

static inline void gw_fault_count(uint64_t *count, uint64_t n)
{
    __atomic_fetch_add(count, n, __ATOMIC_RELAXED);
}

static inline uint64_t gw_fault_counted(const uint64_t *count)
{
    return __atomic_load_n(count, __ATOMIC_RELAXED);
}

/* ---- fault_uffd.c: userfaultfd operations ---- */

/* Open a userfaultfd, enabled and non-blocking. Returns: an fd; a negative errno, with reason. */
int gw_fault_uffd_open(enum gw_fault_fill fill);
/* Check that a client's fd is an enabled userfaultfd. Returns: 0; -EINVAL, with reason. */
int gw_fault_uffd_check(int uffd);
int gw_fault_uffd_register(int uffd, struct gw_fault_region *g, enum gw_fault_fill fill);
void gw_fault_uffd_unregister(int uffd, struct gw_fault_region *g);
/* Read events without waiting. Returns: as read(2), or a negative errno. */
ssize_t gw_fault_uffd_read(int uffd, void *buf, size_t len);
/* Place one page; `data` NULL: zeros. Returns: 0; -EEXIST: already present; another errno. */
int gw_fault_uffd_copy(int uffd, struct gw_fault_region *g, uint64_t page, const void *data);
int gw_fault_uffd_fill(int uffd, struct gw_fault_region *g, uint64_t page, const void *data);
/* Map pages of the file and wake. Returns: 0; -EAGAIN: an event must be read first; another errno.
 */
int gw_fault_uffd_continue(int uffd, gw_bva_t address, uint64_t len);
int gw_fault_uffd_wake(int uffd, gw_bva_t address, uint64_t len);

/* ---- fault_region.c: regions and their pages ---- */

/* Under `lock`. */
struct gw_fault_region *gw_fault_region_at(const struct gw_fault_server *s, gw_gpa_t gpa);
void gw_fault_region_free(struct gw_fault_server *s, struct gw_fault_region *g);

/* The part of a page that belongs to the region. */
static inline gw_gpa_t gw_fault_page_gpa(const struct gw_fault_region *g, uint64_t page)
{
    return page ? g->gpa + page * g->page_size - g->residual : g->gpa;
}

static inline uint64_t gw_fault_page_len(const struct gw_fault_region *g, uint64_t page)
{
    uint64_t from = gw_fault_page_gpa(g, page) - g->gpa;
    uint64_t to = (page + 1) * g->page_size - g->residual;

    return (to < g->length ? to : g->length) - from;
}

static inline uint64_t gw_fault_page_of(const struct gw_fault_region *g, gw_gpa_t gpa)
{
    return (gpa - g->gpa + g->residual) / g->page_size;
}

/* The first page that ends after `gpa`; n_pages if none does. */
static inline uint64_t gw_fault_page_from(const struct gw_fault_region *g, gw_gpa_t gpa)
{
    if (gpa <= g->gpa)
        return 0;
    return gpa - g->gpa < g->length ? gw_fault_page_of(g, gpa) : g->n_pages;
}

/* ---- fault_stats.c ---- */

/* Add `from`, which other threads may be incrementing, to `to`, which is private. */
void gw_fault_counts_add(struct gw_fault_counts *to, const struct gw_fault_counts *from);

/* ---- fault_client.c: the regions of each client ---- */

int gw_fault_client_add(struct gw_fault_client *c, struct gw_fault_region *g, gw_bva_t start);
/* Under `lock`. Returns: the base that contains `address`, or NULL. */
const struct gw_fault_base *gw_fault_client_find(const struct gw_fault_client *c, gw_bva_t address);
/* Under `lock` for writing: remove all bases of `g`. */
void gw_fault_client_forget(struct gw_fault_client *c, const struct gw_fault_region *g);
void gw_fault_client_free(struct gw_fault_client *c);

/* ---- fault_page.c: placing pages and waking waiters; under `lock` ---- */

/* Serve a fault. `w->next` is ignored. */
void gw_fault_page_wanted(struct gw_fault_server *s, const struct gw_fault_waiter *w);
/* Under `lock` for writing: drop the waiters for `g` and of `c`; NULL matches any. */
void gw_fault_waiters_drop(struct gw_fault_server *s, const struct gw_fault_region *g,
                           const struct gw_fault_client *c);
__attribute__((format(printf, 3, 4))) void gw_fault_report(const struct gw_fault_server *s,
                                                           struct gw_fault_report *report,
                                                           const char *format, ...);
