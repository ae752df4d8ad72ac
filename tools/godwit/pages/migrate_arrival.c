/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The link of a migration within one process. One thread sends the pages that the stream hands out.
 * The fault server, on its own thread, requests pages that a thread waits for. A third thread
 * interrupts the link at random. Only the server writes to the destination's memory.
 *
 * A missing page that is a hole at the source is not sent: its fault is answered with zeroes at
 * once.
 */
#include "migrate_arrival.h"

#include "base/clock.h"
#include "base/random.h"
#include "link/page_stream.h"
#include "migrate_sums.h"

#include <errno.h>
#include <godwit/frontend/fault.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define CUT_FOR_MS 20
#define EXPLAIN_MS 1000
#define HUGE_PAGE  (UINT64_C(2) << 20)
#define CUTS_MAX   4096 /* listed; further ones are only counted */

/* A pair, and the numbers of its pages in the stream. */
struct part {
    struct migration_pair *pair;
    uint64_t first, n;
    uint64_t granule; /* page size of its files; huge pages are sent whole */
};

struct cut {
    uint64_t begin_ns, duration_ns;
};

struct migration_link {
    struct migration *m;
    struct page_stream *stream;
    struct gw_fault_server *server;
    struct part *parts;
    unsigned n_parts;
    pthread_t sender, cutter;
    bool has_sender, has_cutter;
    int quit_fd;     /* ends the cutter */
    uint64_t random; /* for the interruptions */

    pthread_mutex_t lock;
    /* under the lock */
    uint64_t n_sent, n_asked, bytes_sent, cut_ns;
    struct cut *cuts;
    unsigned n_cuts;
    uint64_t done_ns;               /* when all pages had arrived; 0: not yet */
    struct gw_fault_report problem; /* the first one; error 0: none */
    bool is_told;
    char text[256];
};

static const struct part *part_of_page(const struct migration_link *l, uint64_t page)
{
    unsigned i = 0;

    while (page - l->parts[i].first >= l->parts[i].n)
        i++;
    return &l->parts[i];
}

static const struct part *part_of_gpa(const struct migration_link *l, gw_gpa_t gpa)
{
    for (unsigned i = 0; i < l->n_parts; i++) {
        if (gpa - l->parts[i].pair->gpa < l->parts[i].pair->length)
            return &l->parts[i];
    }
    return NULL;
}

/*
 * Is the page at `at` a hole at the source? Reading would allocate it. SEEK_HOLE is avoided,
 * because the kernel would walk over all the data.
 */
static bool is_hole(const struct part *part, uint64_t at)
{
    off_t begin = (off_t)(part->pair->offset + at);
    off_t data = lseek(part->pair->from_fd, begin, SEEK_DATA);

    return data < 0 || (uint64_t)(data - begin) >= part->granule;
}

/* ---- Callbacks of the fault server, on its threads ---- */

static enum gw_fault_answer ask(void *arg, gw_gpa_t gpa, uint64_t len, const void **ret_data)
{
    struct migration_link *l = arg;
    const struct part *part = part_of_gpa(l, gpa);
    uint64_t at = gpa - part->pair->gpa;

    if (page_stream_request(l->stream, part->first + at / part->granule) == -EALREADY &&
        is_hole(part, at)) {
        *ret_data = NULL;
        return GW_FAULT_HERE;
    }
    return GW_FAULT_LATER; /* requested, or already sent */
}

static void report(void *arg, const struct gw_fault_report *problem)
{
    struct migration_link *l = arg;

    pthread_mutex_lock(&l->lock);
    if (l->problem.error == 0) {
        l->problem = *problem;
        if (l->problem.error == 0)
            l->problem.error = -EIO;
        snprintf(l->text, sizeof(l->text), "%s", problem->text);
    }
    pthread_mutex_unlock(&l->lock);
}

static void note_fault(void *arg, gw_gpa_t gpa, uint64_t latency_ns)
{
    struct migration_link *l = arg;

    (void)gpa;
    pthread_mutex_lock(&l->lock);
    migration_note_fault(l->m, latency_ns);
    pthread_mutex_unlock(&l->lock);
}

/* ---- The sender ---- */

/* Hash the page as it was sent; the source must not change it. */
static void sum_up(const struct part *part, uint64_t at)
{
    const struct migration_pair *p = part->pair;

    for (uint64_t off = at; off < at + part->granule; off += MIGRATION_PAGE)
        p->sums[off / MIGRATION_PAGE] =
            migration_sum(p->from + off, MIGRATION_PAGE, MIGRATION_SUM_SENT);
}

/* The server reports failures. */
static void send_page(struct migration_link *l, const struct page_stream_item *item)
{
    const struct part *part = part_of_page(l, item->page);
    uint64_t at = (item->page - part->first) * part->granule;
    const uint8_t *data = is_hole(part, at) ? NULL : part->pair->from + at;

    if (!data && !item->is_requested)
        return;
    (void)gw_fault_server_put(l->server, part->pair->gpa + at, part->granule, data);
    pthread_mutex_lock(&l->lock);
    l->n_sent++;
    l->n_asked += item->is_requested;
    l->bytes_sent += data ? part->granule : 0;
    pthread_mutex_unlock(&l->lock);
    if (data) {
        sum_up(part, at);
        page_stream_sent(l->stream, part->granule);
    }
}

static void *send_pages(void *arg)
{
    struct migration_link *l = arg;
    struct page_stream_item item;
    int r;

    while ((r = page_stream_await(l->stream, &item)) == 0)
        send_page(l, &item);
    if (r == -ENODATA) {
        pthread_mutex_lock(&l->lock);
        l->done_ns = migration_now(l->m);
        pthread_mutex_unlock(&l->lock);
    }
    return NULL;
}

/* ---- The cutter ---- */

/* Returns: true to end the thread. */
static bool wait_ns(struct migration_link *l, uint64_t ns)
{
    const struct timespec ts = gw_clock_timespec(ns);
    struct pollfd p = {.fd = l->quit_fd, .events = POLLIN};

    return ppoll(&p, 1, &ts, NULL) > 0;
}

static void *cut_link(void *arg)
{
    struct migration_link *l = arg;
    const struct migration_postcopy_options *o = &l->m->o.postcopy;
    uint64_t every = o->cut_ms * GW_NS_PER_MS;
    uint64_t up_to = (o->cut_for_ms ? o->cut_for_ms : CUT_FOR_MS) * GW_NS_PER_MS;
    bool is_over = false;

    while (!is_over && !wait_ns(l, gw_random_below(&l->random, 2 * every))) {
        uint64_t begin = migration_now(l->m), took;

        page_stream_pause(l->stream, true);
        is_over = wait_ns(l, 1 + gw_random_below(&l->random, up_to));
        page_stream_pause(l->stream, false);
        took = migration_now(l->m) - begin;
        pthread_mutex_lock(&l->lock);
        if (l->n_cuts < CUTS_MAX)
            l->cuts[l->n_cuts] = (struct cut){.begin_ns = begin, .duration_ns = took};
        l->n_cuts++;
        l->cut_ns += took;
        pthread_mutex_unlock(&l->lock);
    }
    return NULL;
}

/* ---- The thread of migration_run ---- */

int migration_link_probe(struct migration *m)
{
    const struct gw_fault_config cfg = {.size = sizeof(cfg)};
    struct gw_fault_server *server;
    int r = gw_fault_server_new(&server, &cfg);

    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "no postcopy here: %s",
                                gw_frontend_last_error());
    gw_fault_server_free(server);
    return 0;
}

struct gw_fault_server *migration_link_server(struct migration *m)
{
    return m->link->server;
}

static int number_pages(struct migration_link *l)
{
    struct migration *m = l->m;
    struct gw_guest_region region;
    uint64_t n = 0;

    l->parts = calloc(m->n_pairs, sizeof(*l->parts));
    if (!l->parts)
        return -ENOMEM;
    for (unsigned i = 0; i < m->n_pairs; i++) {
        struct part *part = &l->parts[i];

        /* The pairs have the order of the regions. */
        gw_guest_mem_region(m->other, i, &region);
        *part = (struct part){.pair = &m->pairs[i], .first = n, .granule = MIGRATION_PAGE};
        if (region.kind == GW_GUEST_HUGETLB)
            part->granule = HUGE_PAGE;
        part->n = part->pair->length / part->granule;
        n += part->n;
    }
    l->n_parts = m->n_pairs;
    return 0;
}

static int make_stream(struct migration_link *l)
{
    const struct part *last = &l->parts[l->n_parts - 1];
    const struct migration_postcopy_options *o = &l->m->o.postcopy;
    struct page_stream_config cfg = {
        .n_pages = last->first + last->n,
        .is_random = o->is_random,
        .seed = migration_random(l->m, UINT64_MAX),
        .rate = o->link_rate,
        .delay_ns = o->fault_delay_ns,
    };

    return page_stream_new(&l->stream, &cfg);
}

static int make_server(struct migration_link *l)
{
    struct gw_fault_config cfg = {
        .size = sizeof(cfg), .page = ask, .report = report, .served = note_fault, .arg = l};
    int r = gw_fault_server_new(&l->server, &cfg);

    if (r < 0)
        return migration_cannot(l->m, MIGRATION_SIDE_TOOL, r, "%s", gw_frontend_last_error());
    r = gw_fault_server_add_mem(l->server, l->m->other);
    if (r < 0)
        return migration_cannot(l->m, MIGRATION_SIDE_TOOL, r,
                                "the destination's memory cannot be registered: %s",
                                gw_frontend_last_error());
    return 0;
}

/*
 * Register the pages that precopy copied as present. In huge pages a hole cannot be distinguished,
 * so all of a file counts as copied, unless nothing was.
 */
static int keep_copied(struct migration_link *l)
{
    const struct migration_postcopy_options *o = &l->m->o.postcopy;
    uint64_t data, hole;
    int r = 0;

    if (o->has_round && o->round == 0)
        return 0;
    for (unsigned i = 0; i < l->n_parts; i++) {
        const struct migration_pair *p = l->parts[i].pair;
        uint64_t at = p->offset, end = p->offset + p->length;

        for (; r == 0 && migration_next_data(p->to_fd, at, end, &data, &hole); at = hole)
            r = gw_fault_server_set_received(l->server, p->gpa + (data - p->offset), hole - data);
    }
    return r;
}

int migration_link_new(struct migration *m)
{
    struct migration_link *l = calloc(1, sizeof(*l));
    int r = 0;

    if (!l)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, -ENOMEM, "out of memory");
    m->link = l;
    l->m = m;
    pthread_mutex_init(&l->lock, NULL);
    l->random = migration_random(m, UINT64_MAX);
    l->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->cuts = calloc(CUTS_MAX, sizeof(*l->cuts));
    if (!m->ret->page_faults)
        m->ret->page_faults = calloc(MIGRATION_PAGE_FAULTS_MAX, sizeof(*m->ret->page_faults));
    if (l->quit_fd < 0)
        r = -errno;
    else if (!l->cuts)
        r = -ENOMEM;
    if (r == 0)
        r = number_pages(l);
    if (r == 0)
        r = make_stream(l);
    if (r == 0)
        r = make_server(l);
    if (r == 0)
        r = keep_copied(l);
    if (r < 0 && m->ret->n_faults == 0)
        migration_cannot(m, MIGRATION_SIDE_TOOL, r, "the link: %s", strerror(-r));
    return r;
}

/* Schedule the pages of a range within a pair for sending. */
static void add_pages(struct migration_link *l, const struct part *part, uint64_t from, uint64_t to)
{
    uint64_t first = from / part->granule, end = (to + part->granule - 1) / part->granule;

    /* The old hash is useless. */
    for (uint64_t off = first * part->granule; off < end * part->granule; off += MIGRATION_PAGE)
        part->pair->sums[off / MIGRATION_PAGE] = MIGRATION_SUM_STALE;
    page_stream_add(l->stream, part->first + first, end - first);
}

static bool is_to_come(const struct part *part, uint64_t at)
{
    return migration_sum_kind(part->pair->sums[at / MIGRATION_PAGE]) == MIGRATION_SUM_STALE;
}

/* Skips the pages that were dropped before. */
static int drop_run(struct migration *m, const struct part *part, uint64_t from, uint64_t to)
{
    struct migration_link *l = m->link;
    int r = 0;

    while (r == 0 && from < to) {
        uint64_t end = from;

        while (end < to && !is_to_come(part, end))
            end += MIGRATION_PAGE;
        if (end > from) {
            r = gw_fault_server_discard(l->server, part->pair->gpa + from, end - from);
            add_pages(l, part, from, end);
            m->hop->arrival.pages_stale += (end - from) / MIGRATION_PAGE;
        }
        from = end + MIGRATION_PAGE;
    }
    return r;
}

int migration_link_add(struct migration *m, gw_gpa_t gpa, uint64_t len)
{
    struct migration_link *l = m->link;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < l->n_parts; i++) {
        const struct migration_pair *p = l->parts[i].pair;
        uint64_t from = gpa > p->gpa ? gpa - p->gpa : 0;
        uint64_t to = gpa + len - p->gpa < p->length ? gpa + len - p->gpa : p->length;

        if (gpa + len <= p->gpa || from >= to)
            continue;
        r = drop_run(m, &l->parts[i], from, to);
    }
    if (r < 0)
        migration_cannot(m, MIGRATION_SIDE_TOOL, r, "memory at 0x%llx cannot be dropped: %s",
                         (unsigned long long)gpa, strerror(-r));
    return r;
}

void migration_link_add_all(struct migration *m)
{
    struct migration_link *l = m->link;
    uint64_t data, hole;

    for (unsigned i = 0; i < l->n_parts; i++) {
        const struct migration_pair *p = l->parts[i].pair;
        uint64_t at = p->offset, end = p->offset + p->length;

        for (; migration_next_data(p->from_fd, at, end, &data, &hole); at = hole)
            add_pages(l, &l->parts[i], data - p->offset, hole - p->offset);
    }
}

int migration_link_begin(struct migration *m)
{
    struct migration_link *l = m->link;
    int r = gw_fault_server_begin(l->server);

    if (r == 0)
        r = gw_fault_server_start(l->server);
    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "serving faults: %s",
                                gw_frontend_last_error());
    r = -pthread_create(&l->sender, NULL, send_pages, l);
    l->has_sender = r == 0;
    if (r == 0 && m->o.postcopy.cut_ms) {
        r = -pthread_create(&l->cutter, NULL, cut_link, l);
        l->has_cutter = r == 0;
    }
    if (r < 0)
        migration_cannot(m, MIGRATION_SIDE_TOOL, r, "the link: no thread: %s", strerror(-r));
    return r;
}

int migration_blame_fault(struct migration *m, enum gw_fault_problem problem, int error,
                          const char *text)
{
    if (problem == GW_FAULT_PLACE)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, error, "%s", text);
    return migration_blame(m, MIGRATION_SIDE_DESTINATION,
                           problem == GW_FAULT_EARLY ? -EEXIST : -EADDRNOTAVAIL, "%s", text);
}

int migration_link_check(struct migration *m)
{
    struct migration_link *l = m->link;
    struct gw_fault_report problem;
    char text[sizeof(l->text)];
    uint64_t done_ns;

    pthread_mutex_lock(&l->lock);
    problem = l->problem;
    done_ns = l->done_ns;
    memcpy(text, l->text, sizeof(text));
    pthread_mutex_unlock(&l->lock);
    /* A page that was present too early does not stop the others: report it at the end. */
    if (problem.error && problem.problem != GW_FAULT_EARLY && !l->is_told) {
        l->is_told = true;
        return migration_blame_fault(m, problem.problem, problem.error, text);
    }
    return done_ns != 0;
}

uint64_t migration_link_left(struct migration *m)
{
    return page_stream_left(m->link->stream) * m->link->parts[0].granule;
}

static bool is_explained(struct migration_link *l)
{
    bool is;

    pthread_mutex_lock(&l->lock);
    is = l->problem.error || l->done_ns;
    pthread_mutex_unlock(&l->lock);
    return is;
}

/*
 * A back-end may fail because it read a missing page as zeroes. That shows when the page arrives,
 * so wait for it.
 */
static void await_explanation(const struct migration *m, struct migration_link *l)
{
    const struct timespec pause = {.tv_nsec = GW_NS_PER_MS};
    uint64_t deadline = migration_now(m) + EXPLAIN_MS * GW_NS_PER_MS;

    while (l->has_sender && m->ret->n_faults && !is_explained(l) && migration_now(m) < deadline)
        nanosleep(&pause, NULL);
}

/* Ends the threads before it returns. */
static void stop_threads(struct migration_link *l)
{
    uint64_t one = 1;

    if (l->has_cutter) {
        ssize_t n = write(l->quit_fd, &one, sizeof(one));

        (void)n; /* cannot fail: the counter is 0 */
        pthread_join(l->cutter, NULL);
    }
    l->has_cutter = false;
    if (l->stream)
        page_stream_stop(l->stream);
    if (l->has_sender)
        pthread_join(l->sender, NULL);
    l->has_sender = false;
}

static void tell_cuts(struct migration *m, struct migration_link *l)
{
    for (unsigned i = 0; i < l->n_cuts && i < CUTS_MAX; i++)
        migration_event_at(m, MIGRATION_EVENT_LINK_CUT, l->cuts[i].begin_ns,
                           l->cuts[i].duration_ns);
    m->hop->arrival.cuts = l->n_cuts;
    m->hop->arrival.cut_ns = l->cut_ns;
}

/* Add the counts to the present hop. */
static void sum_up_link(struct migration *m, struct migration_link *l)
{
    struct migration_arrival *a = &m->hop->arrival;
    struct gw_fault_stats s;

    gw_fault_server_stats(l->server, &s);
    a->end_ns = l->done_ns;
    a->pages_sent = l->n_sent;
    a->pages_asked = l->n_asked;
    a->bytes_sent = l->bytes_sent;
    a->faults = s.faults;
    a->pages_early = s.early;
    a->latency_p50 = s.latency.p50;
    a->latency_p90 = s.latency.p90;
    a->latency_p99 = s.latency.p99;
    a->latency_max = s.latency.max;
    tell_cuts(m, l);
}

void migration_link_free(struct migration *m)
{
    struct migration_link *l = m->link;

    if (!l)
        return;
    await_explanation(m, l);
    stop_threads(l);
    if (l->server) {
        gw_fault_server_stop(l->server);
        sum_up_link(m, l);
        if (l->problem.error && !l->is_told)
            migration_blame_fault(m, l->problem.problem, l->problem.error, l->text);
    }
    gw_fault_server_free(l->server);
    page_stream_free(l->stream);
    if (l->quit_fd >= 0)
        close(l->quit_fd);
    pthread_mutex_destroy(&l->lock);
    free(l->cuts);
    free(l->parts);
    free(l);
    m->link = NULL;
}
