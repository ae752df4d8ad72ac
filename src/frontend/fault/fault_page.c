/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Places pages and wakes the threads that wait for them.
 *
 * The thread that claims a page first places it: the thread that serves its fault, if the source
 * has the page at hand, or a thread that brings it (put, stream). If the page is not in place when
 * its fault is served, the fault becomes a waiter. No wake-up is lost: one thread adds the waiter,
 * then sets WAITED; the other places the page, then sets RECEIVED. Both change the same byte, so
 * one is first, and the thread that is second sees the other's bit and wakes the waiters of the
 * page. Release of the first change and acquire of the second make the list, or the page, visible.
 *
 * EEXIST from the kernel shows that a page was present before it was placed, because the claim
 * admits only one attempt. A thread has read zeros then, which cannot be undone: the page is left
 * as it is and reported.
 */
#include "base/clock.h"
#include "fault_i.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void gw_fault_report(const struct gw_fault_server *s, struct gw_fault_report *report,
                     const char *format, ...)
{
    char text[256];
    va_list ap;

    if (!s->cfg.report)
        return;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    report->text = text;
    s->cfg.report(s->cfg.arg, report);
}

static uint8_t set_state(struct gw_fault_region *g, uint64_t page, uint8_t bits)
{
    return __atomic_fetch_or(&g->pages[page], bits, __ATOMIC_ACQ_REL);
}

/* ---- waking ---- */

static void served(struct gw_fault_server *s, const struct gw_fault_waiter *w)
{
    uint64_t latency = gw_clock_ns() - w->since;

    gw_histogram_add_shared(&w->region->latency, latency);
    if (s->cfg.served)
        s->cfg.served(s->cfg.arg, gw_fault_page_gpa(w->region, w->page), latency);
}

/* Wake a waiter of a page in place. `is_placed`: this thread placed it, which woke our process. */
static void wake(struct gw_fault_server *s, const struct gw_fault_waiter *w, bool is_placed)
{
    struct gw_fault_client *c = w->client;
    uint64_t len = w->region->page_size;
    int r = -EAGAIN;

    if (!c->is_own || !is_placed) {
        if (w->is_minor)
            r = gw_fault_uffd_continue(c->uffd, w->address, len);
        /*
         * Another thread's fault has mapped the page already, or the client is changing its
         * mappings (EAGAIN). A woken thread retries, and faults again if the page is not mapped.
         */
        if (r < 0)
            (void)gw_fault_uffd_wake(c->uffd, w->address, len);
        gw_fault_count(&w->region->counts.wakes, 1);
    }
    served(s, w);
}

/* ---- the waiters ---- */

static struct gw_fault_waiter **bucket_of(struct gw_fault_server *s,
                                          const struct gw_fault_region *g, uint64_t page)
{
    uint64_t key = ((uintptr_t)g >> 6) + page;

    return &s->waiters[key * UINT64_C(0x9e3779b97f4a7c15) >> 56];
}

/* One entry for each page and address of a client, regardless of the number of waiting threads. */
static int enter(struct gw_fault_server *s, const struct gw_fault_waiter *w)
{
    struct gw_fault_waiter **bucket = bucket_of(s, w->region, w->page), *entry;
    int r = 0;

    pthread_mutex_lock(&s->waiters_lock);
    for (entry = *bucket; entry; entry = entry->next) {
        if (entry->region == w->region && entry->page == w->page && entry->client == w->client &&
            entry->address == w->address)
            break;
    }
    if (!entry) {
        entry = malloc(sizeof(*entry));
        r = entry ? 0 : -ENOMEM;
        if (entry) {
            *entry = *w;
            entry->next = *bucket;
            *bucket = entry;
        }
    }
    pthread_mutex_unlock(&s->waiters_lock);
    return r;
}

static void wake_all(struct gw_fault_server *s, struct gw_fault_region *g, uint64_t page,
                     bool is_placed)
{
    struct gw_fault_waiter **at = bucket_of(s, g, page), *taken = NULL;

    pthread_mutex_lock(&s->waiters_lock);
    while (*at) {
        struct gw_fault_waiter *w = *at;

        if (w->region != g || w->page != page) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = taken;
        taken = w;
    }
    pthread_mutex_unlock(&s->waiters_lock);
    while (taken) {
        struct gw_fault_waiter *w = taken;

        taken = w->next;
        wake(s, w, is_placed);
        free(w);
    }
}

void gw_fault_waiters_drop(struct gw_fault_server *s, const struct gw_fault_region *g,
                           const struct gw_fault_client *c)
{
    pthread_mutex_lock(&s->waiters_lock);
    for (unsigned i = 0; i < GW_FAULT_BUCKETS; i++) {
        struct gw_fault_waiter **at = &s->waiters[i];

        while (*at) {
            struct gw_fault_waiter *w = *at;

            if ((g && w->region != g) || (c && w->client != c)) {
                at = &w->next;
                continue;
            }
            *at = w->next;
            free(w);
        }
    }
    pthread_mutex_unlock(&s->waiters_lock);
}

/* ---- placing a page ---- */

/* Fill the page. For a page only partly in the region, `data` holds only that part. */
static int fill(struct gw_fault_server *s, struct gw_fault_region *g, uint64_t page,
                const void *data)
{
    uint64_t len = gw_fault_page_len(g, page);
    char *whole = NULL;
    int r;

    if (data && len < g->page_size) {
        whole = calloc(1, g->page_size);
        if (!whole)
            return -ENOMEM;
        data = memcpy(whole + (page ? 0 : g->residual), data, len);
        data = whole;
    }
    if (s->cfg.fill == GW_FAULT_CONTINUE)
        r = gw_fault_uffd_fill(s->own.uffd, g, page, data);
    else
        r = gw_fault_uffd_copy(s->own.uffd, g, page, data);
    free(whole);
    return r;
}

static void count_filled(const struct gw_fault_server *s, struct gw_fault_region *g, uint64_t page,
                         bool is_zeros, bool is_waited)
{
    if (s->cfg.fill == GW_FAULT_CONTINUE)
        gw_fault_count(&g->counts.continued, 1);
    else
        gw_fault_count(is_zeros ? &g->counts.zeroed : &g->counts.copied, 1);
    gw_fault_count(is_waited ? &g->counts.bytes_requested : &g->counts.bytes_streamed,
                   gw_fault_page_len(g, page));
}

static void report_page(const struct gw_fault_server *s, const struct gw_fault_region *g,
                        uint64_t page, enum gw_fault_problem problem, int r)
{
    struct gw_fault_report report = {
        .problem = problem,
        .error = r,
        .gpa = gw_fault_page_gpa(g, page),
        .len = gw_fault_page_len(g, page),
        .region = g->gpa,
    };

    if (problem == GW_FAULT_EARLY)
        gw_fault_report(s, &report,
                        "the page at 0x%" PRIx64 " (region at 0x%" PRIx64
                        ") was present before it arrived: a thread has read zeros",
                        report.gpa, g->gpa);
    else
        gw_fault_report(s, &report,
                        "the page at 0x%" PRIx64 " (region at 0x%" PRIx64 ") cannot be placed: %s",
                        report.gpa, g->gpa, strerror(-r));
}

/*
 * Place a page that this thread has claimed. Returns: 0: the page is in place and its waiters are
 * woken; -EEXIST: the same, but it was present before; another errno: a later attempt is possible.
 */
static int place(struct gw_fault_server *s, struct gw_fault_region *g, uint64_t page,
                 const void *data, bool is_waited)
{
    int r = fill(s, g, page, data);
    uint8_t before;

    if (r < 0 && r != -EEXIST) {
        __atomic_fetch_and(&g->pages[page],
                           (uint8_t) ~(GW_FAULT_PAGE_CLAIMED | GW_FAULT_PAGE_ASKED),
                           __ATOMIC_ACQ_REL);
        report_page(s, g, page, GW_FAULT_PLACE, r);
        return gw_frontend_fail(r, "the page at 0x%" PRIx64 " cannot be placed: %s",
                                gw_fault_page_gpa(g, page), strerror(-r));
    }
    before = set_state(g, page, GW_FAULT_PAGE_RECEIVED);
    __atomic_fetch_add(&g->n_received, 1, __ATOMIC_RELEASE);
    if (r == 0) {
        count_filled(s, g, page, !data, is_waited || before & GW_FAULT_PAGE_WAITED);
    } else {
        gw_fault_count(&g->counts.early, 1);
        report_page(s, g, page, GW_FAULT_EARLY, r);
        (void)gw_frontend_fail(r, "the page at 0x%" PRIx64 " was present before it arrived",
                               gw_fault_page_gpa(g, page));
    }
    if (before & GW_FAULT_PAGE_WAITED)
        wake_all(s, g, page, r == 0);
    return r;
}

static bool claim(struct gw_fault_region *g, uint64_t page)
{
    return !(set_state(g, page, GW_FAULT_PAGE_CLAIMED) & GW_FAULT_PAGE_CLAIMED);
}

static enum gw_fault_answer ask(const struct gw_fault_server *s, const struct gw_fault_region *g,
                                uint64_t page, const void **ret_data)
{
    *ret_data = NULL;
    if (!s->cfg.page)
        return GW_FAULT_LATER;
    return s->cfg.page(s->cfg.arg, gw_fault_page_gpa(g, page), gw_fault_page_len(g, page),
                       ret_data);
}

/* ---- a fault ---- */

static void wait_for_page(struct gw_fault_server *s, const struct gw_fault_waiter *w)
{
    int r = enter(s, w);

    if (r < 0)
        report_page(s, w->region, w->page, GW_FAULT_PLACE, r);
    else if (set_state(w->region, w->page, GW_FAULT_PAGE_WAITED) & GW_FAULT_PAGE_RECEIVED)
        wake_all(s, w->region, w->page, false);
}

void gw_fault_page_wanted(struct gw_fault_server *s, const struct gw_fault_waiter *w)
{
    struct gw_fault_region *g = w->region;
    uint8_t before = set_state(g, w->page, GW_FAULT_PAGE_ASKED);
    const void *data;
    int r = -EAGAIN;

    gw_fault_count(&g->counts.faults, 1);
    if (before & GW_FAULT_PAGE_RECEIVED) {
        gw_fault_count(&g->counts.already, 1);
        wake(s, w, false);
        return;
    }
    if (!(before & (GW_FAULT_PAGE_ASKED | GW_FAULT_PAGE_CLAIMED))) {
        if (ask(s, g, w->page, &data) == GW_FAULT_LATER)
            gw_fault_count(&g->counts.asked, 1);
        else if (claim(g, w->page))
            r = place(s, g, w->page, data, true);
    }
    if (r == 0 || r == -EEXIST)
        wake(s, w, r == 0);
    else
        wait_for_page(s, w);
}

/* ---- pages brought by other threads ---- */

/* Find the region. Returns: NULL, with reason, unless the range is whole pages of one region. */
static struct gw_fault_region *find_pages(const struct gw_fault_server *s, gw_gpa_t gpa,
                                          uint64_t len, uint64_t *ret_first, uint64_t *ret_last)
{
    struct gw_fault_region *g = gw_fault_region_at(s, gpa);

    if (g && len && len <= g->length - (gpa - g->gpa)) {
        *ret_first = gw_fault_page_of(g, gpa);
        *ret_last = gw_fault_page_of(g, gpa + len - 1);
        if (gw_fault_page_gpa(g, *ret_first) == gpa &&
            gw_fault_page_gpa(g, *ret_last) + gw_fault_page_len(g, *ret_last) == gpa + len)
            return g;
    }
    (void)gw_frontend_fail(
        -EINVAL, "0x%" PRIx64 " and %" PRIu64 " bytes are not whole pages of one region", gpa, len);
    return NULL;
}

/* Place pages first to last from `data`. Returns: the number of new pages; -EEXIST; another errno.
 */
static int put(struct gw_fault_server *s, struct gw_fault_region *g, uint64_t first, uint64_t last,
               const char *data)
{
    bool is_early = false;
    int n = 0;

    for (uint64_t page = first; page <= last; page++) {
        uint64_t offset = gw_fault_page_gpa(g, page) - gw_fault_page_gpa(g, first);
        int r;

        if (!claim(g, page)) {
            gw_fault_count(&g->counts.repeated, 1);
            continue;
        }
        r = place(s, g, page, data ? data + offset : NULL, false);
        if (r < 0 && r != -EEXIST)
            return r;
        is_early |= r < 0;
        n += r == 0;
    }
    if (is_early)
        return gw_frontend_fail(-EEXIST, "a page from 0x%" PRIx64 " was present before it arrived",
                                gw_fault_page_gpa(g, first));
    return n;
}

int gw_fault_server_put(struct gw_fault_server *s, gw_gpa_t gpa, uint64_t len, const void *data)
{
    struct gw_fault_region *g;
    uint64_t first, last;
    int r;

    pthread_rwlock_rdlock(&s->lock);
    g = find_pages(s, gpa, len, &first, &last);
    r = g ? put(s, g, first, last, data) : -EINVAL;
    pthread_rwlock_unlock(&s->lock);
    return r;
}

/* The next page with no state bit set, from the position of the stream. */
static bool next_from(struct gw_fault_server *s, struct gw_fault_region **ret, uint64_t *ret_page)
{
    for (unsigned i = 0; i < s->n_regions; i++) {
        struct gw_fault_region *g = s->regions[i];
        uint64_t page = gw_fault_page_from(g, s->stream_at);

        for (; page < g->n_pages; page++) {
            if (__atomic_load_n(&g->pages[page], __ATOMIC_RELAXED))
                continue;
            *ret = g;
            *ret_page = page;
            s->stream_at = gw_fault_page_gpa(g, page) + gw_fault_page_len(g, page);
            return true;
        }
    }
    return false;
}

static bool next_unclaimed(struct gw_fault_server *s, struct gw_fault_region **ret,
                           uint64_t *ret_page)
{
    if (next_from(s, ret, ret_page))
        return true;
    /* Start over: regions may have been added, and placing a page may have failed. */
    s->stream_at = 0;
    return next_from(s, ret, ret_page);
}

static int stream(struct gw_fault_server *s, unsigned n_pages)
{
    struct gw_fault_region *g;
    const void *data;
    unsigned n = 0;
    uint64_t page;
    int r;

    while (n < n_pages && next_unclaimed(s, &g, &page)) {
        n++;
        if (ask(s, g, page, &data) == GW_FAULT_LATER) {
            set_state(g, page, GW_FAULT_PAGE_ASKED);
            continue;
        }
        if (!claim(g, page))
            continue;
        r = place(s, g, page, data, false);
        if (r < 0)
            return r;
        if (__atomic_load_n(&s->busy, __ATOMIC_RELAXED))
            break;
    }
    return (int)n;
}

int gw_fault_server_stream(struct gw_fault_server *s, unsigned n_pages)
{
    int r;

    pthread_rwlock_rdlock(&s->lock);
    r = stream(s, n_pages);
    pthread_rwlock_unlock(&s->lock);
    return r;
}

/* A page with waiters that has not been requested since clear_asked. */
static bool next_waited(struct gw_fault_server *s, unsigned bucket, struct gw_fault_region **ret,
                        uint64_t *ret_page)
{
    const struct gw_fault_waiter *w;

    pthread_mutex_lock(&s->waiters_lock);
    for (w = s->waiters[bucket]; w; w = w->next) {
        if (set_state(w->region, w->page, GW_FAULT_PAGE_ASKED) & GW_FAULT_PAGE_ASKED)
            continue;
        *ret = w->region;
        *ret_page = w->page;
        break;
    }
    pthread_mutex_unlock(&s->waiters_lock);
    return w != NULL;
}

static void clear_asked(struct gw_fault_server *s)
{
    pthread_mutex_lock(&s->waiters_lock);
    for (unsigned i = 0; i < GW_FAULT_BUCKETS; i++) {
        for (const struct gw_fault_waiter *w = s->waiters[i]; w; w = w->next)
            __atomic_fetch_and(&w->region->pages[w->page], (uint8_t)~GW_FAULT_PAGE_ASKED,
                               __ATOMIC_ACQ_REL);
    }
    pthread_mutex_unlock(&s->waiters_lock);
}

int gw_fault_server_ask_again(struct gw_fault_server *s)
{
    struct gw_fault_region *g;
    const void *data;
    uint64_t page;
    int r = 0;

    pthread_rwlock_rdlock(&s->lock);
    clear_asked(s);
    for (unsigned i = 0; i < GW_FAULT_BUCKETS && r == 0; i++) {
        while (r == 0 && next_waited(s, i, &g, &page)) {
            if (ask(s, g, page, &data) == GW_FAULT_HERE && claim(g, page))
                r = place(s, g, page, data, true);
        }
    }
    pthread_rwlock_unlock(&s->lock);
    return r == -EEXIST ? 0 : r;
}
