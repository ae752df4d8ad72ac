/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Receives pages over the link after the switch. See migrate_fetch.h. */
#include "migrate_fetch.h"

#include "migrate_arrival.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE (UINT64_C(2) << 20)

/* State of each page of 4 KiB. */
#define TO_COME 1u
#define CAME    2u

struct part {
    gw_gpa_t gpa;
    uint64_t length;
    uint64_t granule; /* page size of its file; huge pages arrive whole */
    uint8_t *pages;
};

struct migration_fetch {
    struct migration *m; /* only its options and its page faults are used */
    struct gw_fault_server *server;
    struct part *parts;
    unsigned n_parts;
    int wake_fd;

    pthread_mutex_t lock;
    /* under the lock */
    uint64_t bytes_left; /* not arrived yet */
    uint64_t n_came, bytes_came;
    uint64_t done_ns;
    struct link_run *asked; /* requests not written to the link yet */
    unsigned n_asked, n_asked_room;
    bool is_abandoned;
    int error; /* of the server, explained by `text`; 0: none */
    enum gw_fault_problem problem;
    char text[256];
};

/* ---- Callbacks of the fault server, on its threads ---- */

static const struct part *part_of(const struct migration_fetch *f, gw_gpa_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < f->n_parts; i++) {
        const struct part *part = &f->parts[i];

        if (gpa >= part->gpa && gpa - part->gpa < part->length &&
            len <= part->length - (gpa - part->gpa))
            return part;
    }
    return NULL;
}

static uint8_t *page_at(const struct part *part, gw_gpa_t gpa)
{
    return &part->pages[(gpa - part->gpa) / MIGRATION_PAGE];
}

/* Under the lock. If memory is short, the request is dropped, and the page arrives in its turn. */
static void add_request(struct migration_fetch *f, gw_gpa_t gpa, uint64_t len)
{
    unsigned room = f->n_asked_room ? 2 * f->n_asked_room : 64;
    struct link_run *grown;

    if (f->n_asked == f->n_asked_room) {
        grown = realloc(f->asked, room * sizeof(*grown));
        if (!grown)
            return;
        f->asked = grown;
        f->n_asked_room = room;
    }
    f->asked[f->n_asked++] = (struct link_run){.gpa = gpa, .length = len};
}

/* A page that the source does not send is a hole there: zeros. */
static enum gw_fault_answer ask(void *arg, gw_gpa_t gpa, uint64_t len, const void **ret_data)
{
    struct migration_fetch *f = arg;
    enum gw_fault_answer answer = GW_FAULT_LATER;
    const struct part *part = part_of(f, gpa, len);
    uint64_t one = 1;
    uint8_t page;

    pthread_mutex_lock(&f->lock);
    page = part ? *page_at(part, gpa) : 0;
    if (!(page & TO_COME) || f->is_abandoned) {
        *ret_data = NULL;
        answer = GW_FAULT_HERE;
    } else if (!(page & CAME)) {
        add_request(f, gpa, len);
    }
    pthread_mutex_unlock(&f->lock);
    if (answer == GW_FAULT_LATER && write(f->wake_fd, &one, sizeof(one)) < 0)
        return answer; /* a full counter wakes the receiver, too */
    return answer;
}

static void report(void *arg, const struct gw_fault_report *problem)
{
    struct migration_fetch *f = arg;

    pthread_mutex_lock(&f->lock);
    if (f->error == 0) {
        f->error = problem->error ? problem->error : -EIO;
        f->problem = problem->problem;
        snprintf(f->text, sizeof(f->text), "%s", problem->text);
    }
    pthread_mutex_unlock(&f->lock);
}

static void note_fault(void *arg, gw_gpa_t gpa, uint64_t latency_ns)
{
    struct migration_fetch *f = arg;

    (void)gpa;
    pthread_mutex_lock(&f->lock);
    migration_note_fault(f->m, latency_ns);
    pthread_mutex_unlock(&f->lock);
}

/* ---- The receiver ---- */

/* Under the lock. */
static void note_page(struct migration_fetch *f, const struct part *part, gw_gpa_t gpa)
{
    for (uint64_t at = 0; at < part->granule; at += MIGRATION_PAGE)
        *page_at(part, gpa + at) |= CAME;
    f->n_came++;
    f->bytes_came += part->granule;
    f->bytes_left -= part->granule;
    if (f->bytes_left == 0)
        f->done_ns = migration_now(f->m);
}

bool migration_fetch_take(struct migration_fetch *f, gw_gpa_t gpa, const uint8_t *bytes, size_t len)
{
    const struct part *part = part_of(f, gpa, 1);
    bool is_good, is_new;

    if (!part || gpa % part->granule || (len != 0 && len != part->granule) ||
        part_of(f, gpa, part->granule) != part)
        return false;
    pthread_mutex_lock(&f->lock);
    is_good = *page_at(part, gpa) & TO_COME;
    is_new =
        is_good && !(*page_at(part, gpa) & CAME); /* otherwise sent again after a reconnection */
    pthread_mutex_unlock(&f->lock);
    if (!is_new)
        return is_good;
    /* The server reports failures. */
    (void)gw_fault_server_put(f->server, gpa, part->granule, len ? bytes : NULL);
    pthread_mutex_lock(&f->lock);
    note_page(f, part, gpa);
    pthread_mutex_unlock(&f->lock);
    return true;
}

void migration_fetch_put_requests(struct migration_fetch *f, struct link_out *out)
{
    pthread_mutex_lock(&f->lock);
    for (unsigned at = 0; at < f->n_asked; at += LINK_RUNS_MAX)
        link_put_runs(out, LINK_REQUEST, f->asked + at,
                      f->n_asked - at < LINK_RUNS_MAX ? f->n_asked - at : LINK_RUNS_MAX);
    f->n_asked = 0;
    pthread_mutex_unlock(&f->lock);
}

void migration_fetch_abandon(struct migration_fetch *f)
{
    pthread_mutex_lock(&f->lock);
    f->is_abandoned = true;
    pthread_mutex_unlock(&f->lock);
    (void)gw_fault_server_ask_again(f->server);
}

static bool is_missing(uint8_t page)
{
    return page & TO_COME && !(page & CAME);
}

/* Find the next run of missing pages. Returns: false if no page is missing. */
static bool next_missing(const struct part *part, uint64_t *at, struct link_run *ret)
{
    uint64_t n = part->length / MIGRATION_PAGE, from = *at;

    while (from < n && !is_missing(part->pages[from]))
        from++;
    for (*at = from; *at < n && is_missing(part->pages[*at]);)
        (*at)++;
    *ret = (struct link_run){.gpa = part->gpa + from * MIGRATION_PAGE,
                             .length = (*at - from) * MIGRATION_PAGE};
    return ret->length != 0;
}

void migration_fetch_put_missing(struct migration_fetch *f, struct link_out *out)
{
    struct link_run runs[64];
    unsigned n = 0;

    pthread_mutex_lock(&f->lock);
    for (unsigned i = 0; i < f->n_parts; i++) {
        for (uint64_t at = 0; next_missing(&f->parts[i], &at, &runs[n]);) {
            if (++n < sizeof(runs) / sizeof(runs[0]))
                continue;
            link_put_runs(out, LINK_MISSING, runs, n);
            n = 0;
        }
    }
    pthread_mutex_unlock(&f->lock);
    if (n)
        link_put_runs(out, LINK_MISSING, runs, n);
    link_put_runs(out, LINK_MISSING, NULL, 0);
    /* Calls `ask` again for each page that a thread waits for. */
    gw_fault_server_ask_again(f->server);
    migration_fetch_put_requests(f, out);
}

/* ---- The thread of the migration ---- */

static int add_part(struct migration_fetch *f, const struct gw_guest_region *region)
{
    struct part *grown = realloc(f->parts, (f->n_parts + 1) * sizeof(*grown));
    uint64_t n = (region->length + MIGRATION_PAGE - 1) / MIGRATION_PAGE;
    void *map;

    if (!grown)
        return -ENOMEM;
    f->parts = grown;
    /* One byte per page; the kernel allocates it when it is written. */
    map = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return -errno;
    grown[f->n_parts++] =
        (struct part){.gpa = region->gpa,
                      .length = region->length,
                      .granule = region->kind == GW_GUEST_HUGETLB ? HUGE_PAGE : MIGRATION_PAGE,
                      .pages = map};
    return 0;
}

/* Pages with data were brought by precopy. */
static int keep_received(struct migration_fetch *f, const struct gw_guest_region *region)
{
    uint64_t at = region->offset, end = region->offset + region->length, data, hole;
    int r = 0;

    for (; r == 0 && migration_next_data(region->fd, at, end, &data, &hole); at = hole)
        r = gw_fault_server_set_received(f->server, region->gpa + (data - region->offset),
                                         hole - data);
    return r;
}

static int make_server(struct migration_fetch *f)
{
    struct gw_fault_config cfg = {
        .size = sizeof(cfg), .page = ask, .report = report, .served = note_fault, .arg = f};
    struct migration *m = f->m;
    struct gw_guest_region region;
    int r = gw_fault_server_new(&f->server, &cfg);

    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "%s", gw_frontend_last_error());
    r = gw_fault_server_add_mem(f->server, m->mem);
    for (unsigned i = 0; r == 0 && gw_guest_mem_region(m->mem, i, &region) == 0; i++) {
        r = add_part(f, &region);
        if (r == 0)
            r = keep_received(f, &region);
    }
    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "pages that are to come: %s",
                                strerror(-r));
    return 0;
}

static int make(struct migration *m)
{
    struct migration_fetch *f = calloc(1, sizeof(*f));

    if (!f)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, -ENOMEM, "out of memory");
    m->remote->fetch = f;
    f->m = m;
    f->wake_fd = -1;
    pthread_mutex_init(&f->lock, NULL);
    if (!m->ret->page_faults)
        m->ret->page_faults = calloc(MIGRATION_PAGE_FAULTS_MAX, sizeof(*m->ret->page_faults));
    return make_server(f);
}

/* Drop whole granules of one region. */
static int drop_run(struct migration_fetch *f, const struct link_run *run)
{
    const struct part *part = part_of(f, run->gpa, run->length);
    int r;

    if (!part || run->gpa % part->granule || run->length % part->granule)
        return -ERANGE;
    for (uint64_t at = 0; at < run->length; at += MIGRATION_PAGE) {
        uint8_t *page = page_at(part, run->gpa + at);

        f->bytes_left += *page & TO_COME ? 0 : MIGRATION_PAGE;
        *page |= TO_COME;
    }
    r = gw_fault_server_discard(f->server, run->gpa, run->length);
    if (r < 0)
        return migration_cannot(f->m, MIGRATION_SIDE_TOOL, r, "memory cannot be dropped: %s",
                                strerror(-r));
    return 0;
}

int migration_fetch_drop(struct migration *m, const struct link_run *runs, unsigned n_runs)
{
    int r = m->remote->fetch ? 0 : make(m);

    for (unsigned i = 0; r == 0 && i < n_runs; i++)
        r = drop_run(m->remote->fetch, &runs[i]);
    return r;
}

static int listen_unit(struct migration_unit *u, struct migration_fetch *f)
{
    struct migration *m = u->m;
    int uffd = u->uffd, r;

    u->uffd = -1;
    r = gw_fault_server_add_client(f->server, &u->client, uffd, target_name(u->targets[m->dst]),
                                   false);
    if (r < 0)
        return migration_blame(m, MIGRATION_SIDE_DESTINATION, r, "its userfaultfd is unusable: %s",
                               strerror(-r));
    r = gw_frontend_postcopy_listen(u->fe[m->dst], gw_fault_client_add_base, u->client);
    return r < 0 ? migration_blame_fe(u, m->dst, r) : 0;
}

int migration_fetch_begin(struct migration *m, int wake_fd)
{
    struct migration_fetch *f = m->remote->fetch;
    int r = 0;

    f->wake_fd = wake_fd;
    m->hop->arrival.begin_ns = migration_now(m);
    m->hop->arrival.pages_stale = f->bytes_left / MIGRATION_PAGE;
    if (f->bytes_left == 0)
        f->done_ns = m->hop->arrival.begin_ns;
    for (unsigned i = 0; r == 0 && i < m->n_units; i++) {
        m->talking = &m->units[i];
        r = listen_unit(&m->units[i], f);
    }
    m->talking = NULL;
    if (r < 0)
        return r;
    r = gw_fault_server_begin(f->server);
    if (r == 0)
        r = gw_fault_server_start(f->server);
    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "serving faults: %s",
                                gw_frontend_last_error());
    return 0;
}

int migration_fetch_check(struct migration *m)
{
    struct migration_fetch *f = m->remote->fetch;
    enum gw_fault_problem problem;
    char text[sizeof(f->text)];
    uint64_t done_ns;
    int error;

    pthread_mutex_lock(&f->lock);
    done_ns = f->done_ns;
    problem = f->problem;
    error = problem == GW_FAULT_EARLY ? 0 : f->error;
    memcpy(text, f->text, sizeof(text));
    if (error)
        f->error = 0; /* reported now */
    pthread_mutex_unlock(&f->lock);
    if (error)
        return migration_blame_fault(m, problem, error, text);
    return done_ns != 0;
}

static void sum_up(struct migration *m, const struct migration_fetch *f)
{
    struct migration_arrival *a = &m->hop->arrival;
    struct gw_fault_stats s;

    gw_fault_server_stats(f->server, &s);
    a->end_ns = f->done_ns;
    a->pages_sent = f->n_came;
    a->pages_asked = s.asked;
    a->bytes_sent = f->bytes_came;
    a->faults = s.faults;
    a->pages_early = s.early;
    a->latency_p50 = s.latency.p50;
    a->latency_p90 = s.latency.p90;
    a->latency_p99 = s.latency.p99;
    a->latency_max = s.latency.max;
}

int migration_fetch_end(struct migration *m)
{
    struct migration_fetch *f = m->remote->fetch;
    int r = migration_end_postcopy(m);

    gw_fault_server_stop(f->server);
    sum_up(m, f);
    if (f->error)
        migration_blame_fault(m, f->problem, f->error, f->text);
    return r;
}

void migration_fetch_free(struct migration *m)
{
    struct migration_fetch *f = m->remote ? m->remote->fetch : NULL;

    if (!f)
        return;
    if (f->server)
        gw_fault_server_stop(f->server);
    gw_fault_server_free(f->server);
    for (unsigned i = 0; i < f->n_parts; i++)
        munmap(f->parts[i].pages, (f->parts[i].length + MIGRATION_PAGE - 1) / MIGRATION_PAGE);
    free(f->parts);
    free(f->asked);
    pthread_mutex_destroy(&f->lock);
    free(f);
    m->remote->fetch = NULL;
}
