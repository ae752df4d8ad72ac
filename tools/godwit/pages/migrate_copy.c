/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Copies from one guest memory to the other: first all data, then exactly the pages that the log
 * names and the bytes that the driver wrote. A mark is cleared before its page is copied, so that a
 * later write marks it again.
 *
 * Holes stay holes, because guest memory may be a sparse terabyte.
 */
#include "base/clock.h"
#include "guest/migrate_xen.h"
#include "migrate/migrate_remote.h"
#include "migrate_sums.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BIG_RUN (64 * MIGRATION_PAGE) /* from here on, looking for holes pays off */

#ifdef __SANITIZE_THREAD__
/*
 * Race by design: the driver writes to pages while they are copied, and marks them afterwards, so
 * they are copied again. Not instrumented, because ThreadSanitizer would report each one.
 */
__attribute__((no_sanitize("thread"))) void migration_copy_bytes(uint8_t *to, const uint8_t *from,
                                                                 size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((volatile uint8_t *)to)[i] = ((const volatile uint8_t *)from)[i];
}

__attribute__((no_sanitize("thread"))) static bool is_equal(const uint8_t *a, const uint8_t *b,
                                                            size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (((const volatile uint8_t *)a)[i] != ((const volatile uint8_t *)b)[i])
            return false;
    }
    return true;
}
#else
void migration_copy_bytes(uint8_t *to, const uint8_t *from, size_t len)
{
    memcpy(to, from, len);
}

static bool is_equal(const uint8_t *a, const uint8_t *b, size_t len)
{
    return memcmp(a, b, len) == 0;
}
#endif

bool migration_next_data(int fd, uint64_t at, uint64_t end, uint64_t *ret_from, uint64_t *ret_to)
{
    off_t data, hole;

    if (at >= end)
        return false;
    if (fd < 0) {
        *ret_from = at;
        *ret_to = end;
        return true;
    }
    data = lseek(fd, (off_t)at, SEEK_DATA);
    if (data < 0 || (uint64_t)data >= end)
        return false;
    *ret_from = (uint64_t)data;
    hole = lseek(fd, data, SEEK_HOLE);
    *ret_to = hole < 0 || (uint64_t)hole > end ? end : (uint64_t)hole;
    return true;
}

/* Processor time of this thread, because the load uses the processor, too. */
static uint64_t cpu_ns(void)
{
    return gw_clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
}

static struct migration_pair *add_pair(struct migration *m)
{
    struct migration_pair *grown = realloc(m->pairs, (m->n_pairs + 1) * sizeof(*grown));

    if (!grown)
        return NULL;
    m->pairs = grown;
    return &grown[m->n_pairs++];
}

int migration_pair_up(struct migration *m)
{
    struct gw_guest_region from, to;

    m->n_pairs = 0;
    for (unsigned i = 0; gw_guest_mem_region(m->mem, i, &from) == 0; i++) {
        struct migration_pair *p = add_pair(m);

        if (!p)
            return migration_cannot(m, MIGRATION_SIDE_TOOL, -ENOMEM, "out of memory");
        if (!m->other) {
            *p = (struct migration_pair){
                .gpa = from.gpa,
                .length = from.length,
                .from = gw_guest_mem_at(m->mem, from.gpa, from.length),
                .from_fd = from.fd,
                .to_fd = -1,
                .offset = from.offset,
            };
            continue;
        }
        if (gw_guest_mem_region(m->other, i, &to) < 0 || to.gpa != from.gpa)
            return migration_cannot(m, MIGRATION_SIDE_TOOL, -EFAULT, "the memories do not agree");
        *p = (struct migration_pair){
            .gpa = from.gpa,
            .length = from.length,
            .from = gw_guest_mem_at(m->mem, from.gpa, from.length),
            .to = gw_guest_mem_at(m->other, from.gpa, from.length),
            .from_fd = from.kind == GW_GUEST_MAPPED ? -1 : from.fd,
            .to_fd = to.fd,
            .offset = from.offset,
        };
    }
    return migration_sums_pair_up(m);
}

struct migration_pair *migration_pair_of(const struct migration *m, gw_gpa_t gpa)
{
    for (unsigned i = 0; i < m->n_pairs; i++) {
        if (gpa - m->pairs[i].gpa < m->pairs[i].length)
            return &m->pairs[i];
    }
    return NULL;
}

/*
 * Copy a page, or the part of it that exists. Pages that changed mostly differ in their first
 * bytes, so the comparison before the copy is cheap, and cheaper than one loop that does both.
 */
static void copy_page(struct migration_round *round, uint8_t *to, const uint8_t *from, size_t len)
{
    round->pages++;
    if (is_equal(to, from, len)) {
        round->pages_unchanged++;
        return;
    }
    migration_copy_bytes(to, from, len);
    round->bytes += len;
}

/* Copy bytes [from, to) of a pair, which are all data. */
static void copy_piece(struct migration *m, struct migration_pair *p, uint64_t from, uint64_t to)
{
    m->bytes_passed += to - from;
    if (m->remote) {
        m->round->pages += (to - from + MIGRATION_PAGE - 1) / MIGRATION_PAGE;
        m->round->bytes += to - from;
        migration_remote_data(m, p->gpa + from, p->from + from, to - from);
        return;
    }
    migration_sums_note(m, p, from, to - from);
    while (from < to) {
        uint64_t gpa = p->gpa + from;
        uint64_t len = MIGRATION_PAGE - gpa % MIGRATION_PAGE;

        if (len > to - from)
            len = to - from;
        copy_page(m->round, p->to + from, p->from + from, len);
        from += len;
    }
}

/* The log names pages that were never allocated: nothing to copy. */
static void skip_hole(struct migration *m, uint64_t len)
{
    m->round->pages += len / MIGRATION_PAGE;
    m->round->pages_unchanged += len / MIGRATION_PAGE;
}

/*
 * Find the next data of a pair in [from, to). The kernel finds the end of the data by walking over
 * its pages, which takes longer than copying a few. Data remains data, so the last result is kept.
 */
static bool next_data(struct migration_pair *p, uint64_t from, uint64_t to, uint64_t *ret_from,
                      uint64_t *ret_to)
{
    uint64_t at = p->offset + from, end = p->offset + to;
    bool is_known = at >= p->data_from && at < p->data_to;

    if (!is_known &&
        !migration_next_data(p->from_fd, at, p->offset + p->length, &p->data_from, &p->data_to))
        return false;
    *ret_from = (at > p->data_from ? at : p->data_from) - p->offset;
    *ret_to = (end < p->data_to ? end : p->data_to) - p->offset;
    return *ret_from < *ret_to;
}

static void copy_run(struct migration *m, struct migration_pair *p, uint64_t from, uint64_t to)
{
    uint64_t data, hole;

    if (to - from < BIG_RUN) {
        copy_piece(m, p, from, to);
        return;
    }
    while (next_data(p, from, to, &data, &hole)) {
        skip_hole(m, data - from);
        copy_piece(m, p, data, hole);
        from = hole;
    }
    skip_hole(m, to - from);
}

/* Copy a range that the log names; it may span regions and gaps between them. */
static void copy_marked(struct migration *m, gw_gpa_t gpa, uint64_t len)
{
    uint64_t n_before = m->round->pages;

    for (unsigned i = 0; i < m->n_pairs; i++) {
        struct migration_pair *p = &m->pairs[i];
        uint64_t from = gpa > p->gpa ? gpa - p->gpa : 0;
        uint64_t to = gpa + len - p->gpa < p->length ? gpa + len - p->gpa : p->length;

        if (gpa + len > p->gpa && from < to)
            copy_run(m, p, from, to);
    }
    if (m->round->pages - n_before < len / MIGRATION_PAGE)
        m->round->pages_outside += len / MIGRATION_PAGE - (m->round->pages - n_before);
}

static void note_run(void *arg, gw_gpa_t gpa, uint64_t len)
{
    struct migration *m = arg;
    size_t room = m->n_runs_room ? m->n_runs_room * 2 : 1024;
    struct migration_run *grown;

    if (m->n_runs == m->n_runs_room) {
        grown = realloc(m->runs, room * sizeof(*grown));
        if (!grown) {
            copy_marked(m, gpa, len);
            return;
        }
        m->runs = grown;
        m->n_runs_room = room;
    }
    m->runs[m->n_runs++] = (struct migration_run){.gpa = gpa, .length = len};
}

/* Copy all ranges to the other memory. Returns: nanoseconds of processor time. */
static uint64_t copy_runs(struct migration *m)
{
    uint64_t begin = cpu_ns();

    m->bytes_passed = 0;
    for (size_t i = 0; i < m->n_runs; i++)
        copy_marked(m, m->runs[i].gpa, m->runs[i].length);
    return cpu_ns() - begin;
}

/*
 * Copy what the driver wrote, without later writes of the device to the same bytes: those need a
 * mark of the log.
 */
static void copy_written(void *arg, gw_gpa_t gpa, uint64_t len)
{
    struct migration *m = arg;

    for (unsigned i = 0; i < m->n_pairs; i++) {
        struct migration_pair *p = &m->pairs[i];
        uint8_t *to = m->remote ? NULL : p->to + (gpa - p->gpa);

        if (gpa < p->gpa || gpa - p->gpa >= p->length || len > p->length - (gpa - p->gpa))
            continue;
        if (m->remote) {
            migration_remote_written(m, gpa, p->from + (gpa - p->gpa), len);
            continue;
        }
        migration_copy_bytes(to, p->from + (gpa - p->gpa), len);
        for (unsigned k = 0; k < m->n_drivers; k++)
            gw_driver_overlay(m->drivers[k], gpa, to, len);
        migration_sums_note(m, p, gpa - p->gpa, len);
    }
}

uint64_t migration_take_written(struct migration *m, gw_guest_dirty_cb *cb, void *arg)
{
    if (m->xen)
        migration_xen_take_written(m);
    return gw_guest_track_take(m->track, cb, arg);
}

/*
 * Order: take the marks of the log, then those of the driver; copy the driver's bytes, then the
 * log's pages. A descriptor that both sides write then has the device's value if the device marked
 * it, because its mark is taken before the driver's, or from a later log.
 */
void migration_copy_log(struct migration *m, struct gw_guest_log *log)
{
    struct migration_round before = *m->round, *r = m->round;
    uint64_t begin = cpu_ns();

    m->n_runs = 0;
    gw_guest_log_take(log, note_run, m);
    r->scan_ns += cpu_ns() - begin;
    r->bytes_driver += migration_take_written(m, copy_written, m);
    r->copy_ns += copy_runs(m);
    m->speed.ns += r->copy_ns - before.copy_ns;
    m->speed.bytes += m->bytes_passed;
    m->hop->copy_ns += r->copy_ns - before.copy_ns;
    m->hop->copy_bytes += r->bytes - before.bytes;
    m->hop->pages_marked += r->pages - before.pages;
    m->hop->pages_unchanged += r->pages_unchanged - before.pages_unchanged;
}

/* Populate page tables and memory in advance, so that the copying alone is measured. */
void migration_prepare(struct migration *m)
{
    uintptr_t mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
    uint64_t data, hole;

    if (m->remote) /* already populated, and no copying is measured */
        return;
    for (unsigned i = 0; i < m->n_pairs; i++) {
        const struct migration_pair *p = &m->pairs[i];
        uint64_t at = p->offset, end = p->offset + p->length;

        for (; migration_next_data(p->from_fd, at, end, &data, &hole); at = hole) {
            uintptr_t to = (uintptr_t)p->to + (data - p->offset);

            /* Kernels before 5.14 lack it; the first access populates the page then. */
            madvise((void *)(to & ~mask), (to & mask) + (hole - data), MADV_POPULATE_WRITE);
        }
    }
}

int migration_copy_all(struct migration *m)
{
    struct migration_round *r = migration_begin_round(m, 0);
    uint64_t data, hole, begin;

    if (!r)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, -ENOMEM, "out of memory");
    /*
     * Earlier writes of the driver are copied now in any case. The device may have written to the
     * same bytes before the log was on.
     */
    migration_take_written(m, NULL, NULL);
    migration_remote_round(m, 0);
    begin = cpu_ns();
    for (unsigned i = 0; i < m->n_pairs; i++) {
        struct migration_pair *p = &m->pairs[i];
        uint64_t at = p->offset, end = p->offset + p->length;

        for (; migration_next_data(p->from_fd, at, end, &data, &hole); at = hole) {
            if (m->remote) {
                migration_remote_data(m, p->gpa + (data - p->offset), p->from + (data - p->offset),
                                      hole - data);
            } else {
                migration_sums_note(m, p, data - p->offset, hole - data);
                migration_copy_bytes(p->to + (data - p->offset), p->from + (data - p->offset),
                                     hole - data);
            }
            r->pages += (hole - data) / MIGRATION_PAGE;
            r->bytes += hole - data;
        }
    }
    r->copy_ns = cpu_ns() - begin;
    r->duration_ns = migration_now(m) - r->at_ns;
    m->hop->copy_ns += r->copy_ns;
    m->hop->copy_bytes += r->bytes;
    migration_sums_settle(m);
    return migration_remote_settle(m);
}

int migration_copy_round(struct migration *m, unsigned number, bool is_final)
{
    struct migration_round *r = migration_begin_round(m, number);

    if (!r)
        return migration_cannot(m, MIGRATION_SIDE_TOOL, -ENOMEM, "out of memory");
    r->is_final = is_final;
    migration_remote_round(m, number);
    migration_copy_log(m, m->log);
    r->duration_ns = migration_now(m) - r->at_ns;
    m->hop->rounds++;
    migration_sums_settle(m);
    return migration_remote_settle(m);
}
