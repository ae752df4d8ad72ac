/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Hashes of pages as they were copied. Pages of the destination that were written are noted and
 * hashed after the round, because a driver writes many times to one page.
 */
#include "migrate_sums.h"
#include "migrate/migrate_i.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define KIND_BITS 2

struct migration_sums {
    gw_gpa_t gpa;
    uint64_t length;
    uint64_t *pages;
    bool is_used; /* by a pair */
};

uint64_t migration_sum(const uint8_t *page, size_t len, enum migration_sum_kind kind)
{
    uint64_t h = migration_hash_page(page, len);

    return (h ^ h >> (64 - KIND_BITS)) << KIND_BITS | kind;
}

enum migration_sum_kind migration_sum_kind(uint64_t sum)
{
    return (enum migration_sum_kind)(sum & ((1u << KIND_BITS) - 1));
}

static size_t bytes_of(uint64_t length)
{
    return (size_t)((length + MIGRATION_PAGE - 1) / MIGRATION_PAGE * sizeof(uint64_t));
}

static void sums_done(struct migration_sums *s)
{
    if (s->pages)
        munmap(s->pages, bytes_of(s->length));
    s->pages = NULL;
}

static struct migration_sums *find(struct migration *m, const struct migration_pair *p)
{
    for (unsigned i = 0; i < m->n_sums; i++) {
        if (m->sums[i].gpa == p->gpa && m->sums[i].length == p->length)
            return &m->sums[i];
    }
    return NULL;
}

/* Zeroes; the kernel allocates memory when it is written. */
static struct migration_sums *add(struct migration *m, const struct migration_pair *p)
{
    struct migration_sums *grown = realloc(m->sums, (m->n_sums + 1) * sizeof(*grown)), *s;
    void *map;

    if (!grown)
        return NULL;
    m->sums = grown;
    map = mmap(NULL, bytes_of(p->length), PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    s = &grown[m->n_sums++];
    *s = (struct migration_sums){.gpa = p->gpa, .length = p->length, .pages = map};
    return s;
}

int migration_sums_pair_up(struct migration *m)
{
    unsigned n = 0;

    if (!m->o.postcopy.is_on)
        return 0;
    for (unsigned i = 0; i < m->n_sums; i++)
        m->sums[i].is_used = false;
    for (unsigned i = 0; i < m->n_pairs; i++) {
        struct migration_sums *s = find(m, &m->pairs[i]);

        if (!s)
            s = add(m, &m->pairs[i]);
        if (!s)
            return migration_cannot(m, MIGRATION_SIDE_TOOL, -ENOMEM, "out of memory");
        s->is_used = true;
        m->pairs[i].sums = s->pages;
    }
    for (unsigned i = 0; i < m->n_sums; i++) {
        if (m->sums[i].is_used)
            m->sums[n++] = m->sums[i];
        else
            sums_done(&m->sums[i]);
    }
    m->n_sums = n;
    return 0;
}

void migration_sums_drop(struct migration *m)
{
    for (unsigned i = 0; i < m->n_sums; i++)
        sums_done(&m->sums[i]);
    free(m->sums);
    free(m->noted);
    m->sums = NULL;
    m->noted = NULL;
    m->n_sums = 0;
    m->n_noted = m->n_noted_room = 0;
    for (unsigned i = 0; i < m->n_pairs; i++)
        m->pairs[i].sums = NULL;
}

static size_t length_of(const struct migration_pair *p, uint64_t page)
{
    uint64_t left = p->length - page * MIGRATION_PAGE;

    return left < MIGRATION_PAGE ? (size_t)left : MIGRATION_PAGE;
}

static void sum_up(struct migration_pair *p, uint64_t page)
{
    p->sums[page] =
        migration_sum(p->to + page * MIGRATION_PAGE, length_of(p, page), MIGRATION_SUM_COPIED);
}

static int add_noted(struct migration *m, gw_gpa_t gpa)
{
    size_t room = m->n_noted_room ? m->n_noted_room * 2 : 1024;
    gw_gpa_t *grown;

    if (m->n_noted == m->n_noted_room) {
        grown = realloc(m->noted, room * sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        m->noted = grown;
        m->n_noted_room = room;
    }
    m->noted[m->n_noted++] = gpa;
    return 0;
}

/* If memory is short, hash it at once. */
static void note_page(struct migration *m, struct migration_pair *p, uint64_t page)
{
    if (migration_sum_kind(p->sums[page]) == MIGRATION_SUM_STALE)
        return;
    if (add_noted(m, p->gpa + page * MIGRATION_PAGE) < 0)
        sum_up(p, page);
    else
        p->sums[page] = MIGRATION_SUM_STALE;
}

void migration_sums_note(struct migration *m, struct migration_pair *p, uint64_t from, uint64_t len)
{
    if (!p->sums || len == 0)
        return;
    for (uint64_t page = from / MIGRATION_PAGE; page <= (from + len - 1) / MIGRATION_PAGE; page++)
        note_page(m, p, page);
}

void migration_sums_settle(struct migration *m)
{
    for (size_t i = 0; i < m->n_noted; i++) {
        struct migration_pair *p = migration_pair_of(m, m->noted[i]);

        /* the region may have been removed since */
        if (p)
            sum_up(p, (m->noted[i] - p->gpa) / MIGRATION_PAGE);
    }
    m->n_noted = 0;
}

static bool is_zero(const uint8_t *page, size_t len)
{
    return page[0] == 0 && memcmp(page, page + 1, len - 1) == 0;
}

static void check_page(struct migration *m, const struct migration_pair *p, uint64_t page)
{
    const uint8_t *from = p->from + page * MIGRATION_PAGE;
    enum migration_sum_kind kind = migration_sum_kind(p->sums[page]);
    size_t len = length_of(p, page);
    bool is_same = kind == MIGRATION_SUM_STALE ||
                   (kind == MIGRATION_SUM_NONE ? is_zero(from, len)
                                               : migration_sum(from, len, kind) == p->sums[page]);

    m->hop->compare_bytes += len;
    if (!is_same)
        (void)add_noted(m, p->gpa + page * MIGRATION_PAGE);
}

void migration_sums_check(struct migration *m)
{
    uint64_t data, hole;

    m->n_noted = 0;
    for (unsigned i = 0; i < m->n_pairs; i++) {
        const struct migration_pair *p = &m->pairs[i];
        uint64_t at = p->offset, end = p->offset + p->length;

        for (; migration_next_data(p->from_fd, at, end, &data, &hole); at = hole) {
            for (uint64_t off = data - p->offset; off < hole - p->offset; off += MIGRATION_PAGE)
                check_page(m, p, off / MIGRATION_PAGE);
        }
    }
}
