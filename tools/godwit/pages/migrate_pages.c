/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Sends pages over the link after the switch. See migrate_pages.h. */
#include "migrate_pages.h"

#include "link/page_stream.h"
#include "migrate_sums.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HUGE_PAGE   (UINT64_C(2) << 20)
#define PENDING_MAX (64u << 10) /* bytes that may be queued ahead of a requested page */

/* A pair, and the numbers of its pages in the stream. */
struct part {
    const struct migration_pair *pair;
    uint64_t first, n;
    uint64_t granule; /* page size of its file; huge pages are sent whole */
};

struct migration_pages {
    struct page_stream *stream;
    struct part *parts;
    unsigned n_parts;
    struct link_run run; /* consecutive pages, collected for one announcement */
    int r;
};

static const struct part *part_of_page(const struct migration_pages *g, uint64_t page)
{
    unsigned i = 0;

    while (page - g->parts[i].first >= g->parts[i].n)
        i++;
    return &g->parts[i];
}

/* The part that contains the whole run, or NULL. */
static const struct part *part_of_run(const struct migration_pages *g, const struct link_run *run)
{
    for (unsigned i = 0; i < g->n_parts; i++) {
        const struct migration_pair *p = g->parts[i].pair;

        if (run->gpa >= p->gpa && run->gpa - p->gpa < p->length &&
            run->length <= p->length - (run->gpa - p->gpa))
            return &g->parts[i];
    }
    return NULL;
}

static uint64_t *sum_of(const struct part *part, uint64_t at)
{
    return &part->pair->sums[at / MIGRATION_PAGE];
}

/* ---- Before the switch ---- */

static int number_pages(struct migration *m, struct migration_pages *g)
{
    const struct migration_postcopy_options *o = &m->o.postcopy;
    struct page_stream_config cfg = {
        .is_random = o->is_random,
        .seed = migration_random(m, UINT64_MAX),
        .rate = o->link_rate,
        .delay_ns = o->fault_delay_ns,
    };

    g->parts = calloc(m->n_pairs, sizeof(*g->parts));
    if (!g->parts)
        return -ENOMEM;
    for (unsigned i = 0; i < m->n_pairs; i++) {
        struct part *part = &g->parts[i];
        struct gw_guest_region region;

        /* The pairs have the order of the regions. */
        if (gw_guest_mem_region(m->mem, i, &region) < 0)
            return -EFAULT;
        *part = (struct part){.pair = &m->pairs[i], .first = cfg.n_pages};
        part->granule = region.kind == GW_GUEST_HUGETLB ? HUGE_PAGE : MIGRATION_PAGE;
        part->n = part->pair->length / part->granule;
        cfg.n_pages += part->n;
    }
    g->n_parts = m->n_pairs;
    return page_stream_new(&g->stream, &cfg);
}

/* Announce the collected run, and schedule it. */
static void drop_run(struct migration *m)
{
    struct migration_pages *g = m->remote->pages;
    const struct part *part;

    if (g->run.length == 0)
        return;
    part = part_of_run(g, &g->run);
    if (part) {
        page_stream_add(g->stream, part->first + (g->run.gpa - part->pair->gpa) / part->granule,
                        g->run.length / part->granule);
        /* The old hash is useless. */
        for (uint64_t off = 0; off < g->run.length; off += MIGRATION_PAGE)
            *sum_of(part, g->run.gpa - part->pair->gpa + off) = MIGRATION_SUM_STALE;
        link_put_runs(&m->remote->channel.out, LINK_DISCARD, &g->run, 1);
        if (link_channel_pending(&m->remote->channel) > MIGRATION_REMOTE_CHUNK)
            g->r = migration_remote_push(m, MIGRATION_REMOTE_CHUNK / 2);
    }
    g->run.length = 0;
}

static void add_run(struct migration *m, gw_gpa_t from, gw_gpa_t to)
{
    struct migration_pages *g = m->remote->pages;
    struct link_run *run = &g->run;

    if (run->length && from >= run->gpa && from <= run->gpa + run->length) {
        if (to > run->gpa + run->length)
            run->length = to - run->gpa;
        return;
    }
    drop_run(m);
    *run = (struct link_run){.gpa = from, .length = to - from};
}

/*
 * The log passes pages; the driver passes bytes, often many of one page. Extends to whole granules.
 */
static void note(void *arg, gw_gpa_t gpa, uint64_t len)
{
    struct migration *m = arg;
    struct migration_pages *g = m->remote->pages;

    for (unsigned i = 0; i < g->n_parts; i++) {
        uint64_t granule = g->parts[i].granule;
        gw_gpa_t first = g->parts[i].pair->gpa, end = first + g->parts[i].pair->length;
        gw_gpa_t from = gpa > first ? gpa : first;

        if (gpa + len < end)
            end = gpa + len;
        if (from < end)
            add_run(m, from / granule * granule, (end + granule - 1) / granule * granule);
    }
}

/* Take marks before pages are read: a later write marks its page again. */
static int drop_stale(struct migration *m)
{
    gw_guest_log_take(m->log, note, m);
    gw_guest_track_take(m->track, note, m);
    drop_run(m);
    return m->remote->pages->r;
}

/* Nothing was copied before the switch: schedule all data. */
static void drop_all(struct migration *m)
{
    uint64_t data, hole;

    for (unsigned i = 0; i < m->n_pairs; i++) {
        const struct migration_pair *p = &m->pairs[i];
        uint64_t at = p->offset, end = p->offset + p->length;

        for (; migration_next_data(p->from_fd, at, end, &data, &hole); at = hole)
            note(m, p->gpa + (data - p->offset), hole - data);
    }
}

int migration_pages_prepare(struct migration *m)
{
    struct migration_pages *g = calloc(1, sizeof(*g));
    int r;

    if (!g)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, -ENOMEM, "out of memory");
    m->remote->pages = g;
    r = number_pages(m, g);
    if (r < 0)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "the pages: %s", strerror(-r));
    migration_sums_settle(m);
    /* The first, empty announcement: from here on the destination tracks missing pages. */
    link_put_runs(&m->remote->channel.out, LINK_DISCARD, NULL, 0);
    if (m->o.postcopy.has_round && m->o.postcopy.round == 0)
        drop_all(m);
    /*
     * Announce most of the stale pages while the guest runs, then wait until the destination has
     * dropped them and announce the rest, so that little is left when the guest is stopped.
     */
    r = drop_stale(m);
    if (r == 0)
        r = migration_remote_catch_up(m);
    return r ? r : drop_stale(m);
}

int migration_pages_drop(struct migration *m)
{
    uint64_t begin = migration_now(m);
    int r = drop_stale(m);

    m->hop->arrival.discard_ns = migration_now(m) - begin;
    m->hop->arrival.pages_stale = page_stream_left(m->remote->pages->stream) *
                                  (m->remote->pages->parts[0].granule / MIGRATION_PAGE);
    return r;
}

void migration_pages_free(struct migration *m)
{
    struct migration_pages *g = m->remote->pages;

    if (!g)
        return;
    page_stream_free(g->stream);
    free(g->parts);
    free(g);
    m->remote->pages = NULL;
}

/* ---- After it ---- */

static bool for_run(struct migration_pages *g, const struct link_run *run, bool asked)
{
    const struct part *part = part_of_run(g, run);
    uint64_t first, n;

    if (!part || run->gpa % part->granule || run->length % part->granule)
        return false;
    first = part->first + (run->gpa - part->pair->gpa) / part->granule;
    n = run->length / part->granule;
    if (!asked)
        page_stream_add(g->stream, first, n);
    for (uint64_t i = 0; asked && i < n; i++)
        (void)page_stream_request(g->stream, first + i); /* fails if it was sent already */
    return true;
}

bool migration_pages_request(struct migration *m, const struct link_run *runs, unsigned n_runs)
{
    bool good = m->remote->pages != NULL;

    for (unsigned i = 0; good && i < n_runs; i++)
        good = for_run(m->remote->pages, &runs[i], true);
    return good;
}

void migration_pages_pause(struct migration *m)
{
    if (m->remote->pages)
        page_stream_pause(m->remote->pages->stream, true);
}

bool migration_pages_again(struct migration *m, const struct link_run *runs, unsigned n_runs)
{
    bool good = n_runs == 0 || m->remote->pages != NULL;

    for (unsigned i = 0; good && i < n_runs; i++)
        good = for_run(m->remote->pages, &runs[i], false);
    return good;
}

void migration_pages_go_on(struct migration *m)
{
    if (m->remote->pages)
        page_stream_pause(m->remote->pages->stream, false);
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

/* Reading a hole would allocate a page. */
static bool is_hole(const struct part *part, uint64_t at)
{
    off_t begin = (off_t)(part->pair->offset + at);
    off_t data = lseek(part->pair->from_fd, begin, SEEK_DATA);

    return data < 0 || (uint64_t)(data - begin) >= part->granule;
}

/* Hash the page as it was first sent; the source must not change it. */
static void sum_up(const struct part *part, uint64_t at)
{
    for (uint64_t off = at; off < at + part->granule; off += MIGRATION_PAGE) {
        if (migration_sum_kind(*sum_of(part, off)) != MIGRATION_SUM_SENT)
            *sum_of(part, off) =
                migration_sum(part->pair->from + off, MIGRATION_PAGE, MIGRATION_SUM_SENT);
    }
}

static void put_page(struct migration *m, const struct page_stream_item *item)
{
    struct migration_pages *g = m->remote->pages;
    struct migration_arrival *a = &m->hop->arrival;
    const struct part *part = part_of_page(g, item->page);
    uint64_t at = (item->page - part->first) * part->granule;
    struct link_out *out = &m->remote->channel.out;
    const uint8_t *from = part->pair->from + at;
    bool is_nothing = is_hole(part, at), zeros = is_nothing || is_zero(from, part->granule);

    link_begin(out, LINK_PAGE);
    link_put(out, part->pair->gpa + at, 8);
    if (!zeros)
        link_put_bytes(out, from, part->granule);
    link_end(out);
    a->pages_sent++;
    a->pages_asked += item->is_requested;
    a->bytes_sent += zeros ? 0 : part->granule;
    page_stream_sent(g->stream, zeros ? LINK_HEADER_LEN : part->granule);
    if (!is_nothing)
        sum_up(part, at);
}

unsigned migration_pages_put(struct migration *m)
{
    struct migration_pages *g = m->remote->pages;
    struct page_stream_item item;
    uint64_t wait_ns = UINT64_MAX;
    int r = -ENODATA;

    while (g && link_channel_pending(&m->remote->channel) < PENDING_MAX &&
           (r = page_stream_next(g->stream, &item, &wait_ns)) == 0)
        put_page(m, &item);
    return r == -EAGAIN && wait_ns != UINT64_MAX ? (unsigned)(wait_ns / 1000000) + 1 : UINT_MAX;
}
