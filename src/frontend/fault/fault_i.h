/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What the files of the fault server share. fault_server.c has the threads and the argument why
 * they may do what they do.
 */
#pragma once

#include "frontend/transport/fe_histogram.h"

#include <godwit/fault.h>
#include <pthread.h>
#include <sys/types.h>

/* Bits of a page's state, a byte that is only changed by atomic read-modify-writes. */
#define GW_FAULT_PAGE_CLAIMED  0x1u /* somebody puts it there, or has */
#define GW_FAULT_PAGE_RECEIVED 0x2u /* it is there */
#define GW_FAULT_PAGE_ASKED    0x4u /* the source knows that somebody waits for it */
#define GW_FAULT_PAGE_WAITED   0x8u /* there are, or were, entries for it among the waiters */

/* Atomic, relaxed: nothing follows from one of them about anything else. */
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
    char *map;           /* of the memory's owner, registered */
    char *fill;          /* GW_FAULT_CONTINUE: our own, not registered */
    int fd;              /* of our own */
    gw_off_t offset;     /* of `map` in it */
    uint8_t *pages;      /* states; atomic */
    uint64_t n_received; /* atomic */
    bool can_zero;
    bool is_registered;
    struct gw_fault_counts counts;
    struct gw_guest_histogram latency; /* shared */
};

/* Where a client has mapped a region: all of its pages. */
struct gw_fault_base {
    gw_bva_t start;
    uint64_t length;
    struct gw_fault_region *region;
};

struct gw_fault_client {
    struct gw_fault_server *server;
    uint64_t id; /* in epoll; never used again */
    int uffd;
    bool is_own;    /* this process: putting a page into its mapping wakes it */
    bool is_minor;  /* registered for minor faults */
    bool is_broken; /* not read any more; only the serving thread's */
    char name[48];
    struct gw_fault_base *bases; /* ascending */
    unsigned n_bases, room;
};

/* Somebody whose page has not come. */
struct gw_fault_waiter {
    struct gw_fault_waiter *next;
    struct gw_fault_client *client;
    struct gw_fault_region *region;
    uint64_t page;
    gw_bva_t address; /* of the page */
    uint64_t since;   /* the fault was read */
    bool is_minor;    /* woken by mapping the page */
};

#define GW_FAULT_BUCKETS 256

struct gw_fault_server {
    struct gw_fault_config cfg;
    int epoll_fd;
    int wake_fd;  /* ends a wait */
    bool running; /* atomic */
    bool quit;    /* atomic */
    bool has_thread;
    pthread_t thread;
    uint64_t n_stray; /* atomic */
    uint64_t busy;    /* atomic: faults are being served just now */

    pthread_rwlock_t lock; /* of what is from here to the next lock */
    bool has_begun;        /* regions are registered */
    struct gw_fault_client own;
    struct gw_fault_client **clients;
    unsigned n_clients;
    uint64_t next_id;
    struct gw_fault_region **regions; /* ascending by address */
    unsigned n_regions, room;
    gw_gpa_t stream_at;          /* of the thread that streams */
    struct gw_fault_counts gone; /* of regions that were removed */
    struct gw_guest_histogram gone_latency;

    pthread_mutex_t waiters_lock; /* taken under `lock` */
    struct gw_fault_waiter *waiters[GW_FAULT_BUCKETS];
};

/* Remember why, as a sentence for gw_fault_error; returns `r`. */
int gw_fault_fail(int r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline void gw_fault_count(uint64_t *count, uint64_t n)
{
    __atomic_fetch_add(count, n, __ATOMIC_RELAXED);
}

static inline uint64_t gw_fault_counted(const uint64_t *count)
{
    return __atomic_load_n(count, __ATOMIC_RELAXED);
}

/* ---- fault_uffd.c: the kernel ---- */

/* Ready for use, non-blocking. Returns: an fd; a negative errno, told. */
int gw_fault_uffd_open(enum gw_fault_fill fill);
/* Somebody else's: is it one, and ready for use? Returns: 0; -EINVAL, told. */
int gw_fault_uffd_check(int uffd);
int gw_fault_uffd_register(int uffd, struct gw_fault_region *g, enum gw_fault_fill fill);
void gw_fault_uffd_unregister(int uffd, struct gw_fault_region *g);
/* What is readable, without waiting. Returns: as read(2), or a negative errno. */
ssize_t gw_fault_uffd_read(int uffd, void *buf, size_t len);
/* Put one page there; `data` NULL: zeros. Returns: 0; -EEXIST it was there; another errno. */
int gw_fault_uffd_copy(int uffd, struct gw_fault_region *g, uint64_t page, const void *data);
int gw_fault_uffd_fill(int uffd, struct gw_fault_region *g, uint64_t page, const void *data);
/* Map what is in the file, and wake. Returns: 0; -EAGAIN an event waits to be read; another. */
int gw_fault_uffd_continue(int uffd, gw_bva_t address, uint64_t len);
int gw_fault_uffd_wake(int uffd, gw_bva_t address, uint64_t len);

/* ---- fault_region.c: which pages there are ---- */

/* Under `lock`. */
struct gw_fault_region *gw_fault_region_at(const struct gw_fault_server *s, gw_gpa_t gpa);
void gw_fault_region_free(struct gw_fault_server *s, struct gw_fault_region *g);

/* The part of a page that is in the region. */
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

/* The first page that ends after `gpa`; n_pages: none does. */
static inline uint64_t gw_fault_page_from(const struct gw_fault_region *g, gw_gpa_t gpa)
{
    if (gpa <= g->gpa)
        return 0;
    return gpa - g->gpa < g->length ? gw_fault_page_of(g, gpa) : g->n_pages;
}

/* ---- fault_stats.c ---- */

/* What others may be counting in, to what they are not. */
void gw_fault_counts_add(struct gw_fault_counts *to, const struct gw_fault_counts *from);

/* ---- fault_client.c: who has what where ---- */

int gw_fault_client_add(struct gw_fault_client *c, struct gw_fault_region *g, gw_bva_t start);
/* Under `lock`: NULL if nothing is there. */
const struct gw_fault_base *gw_fault_client_find(const struct gw_fault_client *c, gw_bva_t address);
/* Under `lock` for writing: nobody has `g` any more. */
void gw_fault_client_forget(struct gw_fault_client *c, const struct gw_fault_region *g);
void gw_fault_client_free(struct gw_fault_client *c);

/* ---- fault_page.c: pages come, and who waits is woken; under `lock` ---- */

/* Somebody waits. `w.next` is not looked at. */
void gw_fault_page_wanted(struct gw_fault_server *s, const struct gw_fault_waiter *w);
/* Under `lock` for writing: nobody waits for a page of `g`, or as `c` (either may be NULL). */
void gw_fault_waiters_drop(struct gw_fault_server *s, const struct gw_fault_region *g,
                           const struct gw_fault_client *c);
__attribute__((format(printf, 3, 4))) void gw_fault_report(const struct gw_fault_server *s,
                                                           struct gw_fault_report *report,
                                                           const char *format, ...);
