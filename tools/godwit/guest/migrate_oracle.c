/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The oracle. After the source has stopped and all marked pages are copied, a byte that differs was
 * written and not marked. Each such page is reported with its use and then repaired, so that the
 * destination gets a valid guest and the run can find more.
 *
 * A hash of each page of the source is kept, to detect later writes.
 */
#include "migrate/migrate_remote.h"
#include "pages/migrate_sums.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SNAPSHOT_MAX (UINT64_C(1) << 28)

/* Fast; two pages that differ in a single word always have different hashes. */
uint64_t migration_hash_page(const uint8_t *page, size_t len)
{
    uint64_t lanes[4] = {1, 2, 3, 4}, words[4];

    for (size_t i = 0; i + sizeof(words) <= len; i += sizeof(words)) {
        memcpy(words, page + i, sizeof(words));
        for (unsigned k = 0; k < 4; k++)
            lanes[k] = (lanes[k] ^ words[k]) * UINT64_C(0x9e3779b97f4a7c15) + (lanes[k] >> 29);
    }
    for (size_t i = len / sizeof(words) * sizeof(words); i < len; i++)
        lanes[0] = (lanes[0] ^ page[i]) * UINT64_C(0x100000001b3);
    return lanes[0] ^ lanes[1] * 3 ^ lanes[2] * 5 ^ lanes[3] * 7;
}

/* Keep the contents of some pages, so that a later report can name the bytes that changed. */
static const uint8_t *keep_page(struct migration *m, const uint8_t *page, size_t len)
{
    uint8_t *copy = m->snapshot + m->snapshot_used;

    if (!m->snapshot || len > m->snapshot_room - m->snapshot_used)
        return NULL;
    m->snapshot_used += len;
    return memcpy(copy, page, len);
}

void migration_make_snapshot(struct migration *m)
{
    void *map = mmap(NULL, SNAPSHOT_MAX, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    m->n_prints = 0;
    m->snapshot = map == MAP_FAILED ? NULL : map;
    m->snapshot_room = m->snapshot ? SNAPSHOT_MAX : 0;
    m->snapshot_used = 0;
}

void migration_drop_snapshot(struct migration *m)
{
    if (m->snapshot)
        munmap(m->snapshot, m->snapshot_room);
    m->snapshot = NULL;
    m->n_prints = 0;
}

void migration_print_page(struct migration *m, gw_gpa_t gpa, const uint8_t *page, size_t len)
{
    size_t room = m->n_prints_room ? m->n_prints_room * 2 : 4096;
    struct migration_print *grown;

    if (m->n_prints == m->n_prints_room) {
        grown = realloc(m->prints, room * sizeof(*grown));
        if (!grown)
            return;
        m->prints = grown;
        m->n_prints_room = room;
    }
    m->prints[m->n_prints++] = (struct migration_print){.page = gpa,
                                                        .length = len,
                                                        .hash = migration_hash_page(page, len),
                                                        .copy = keep_page(m, page, len)};
}

/* Was the page marked in a log that had been replaced? */
static bool is_in_old_log(const struct migration *m, gw_gpa_t page)
{
    for (unsigned i = 0; i < m->n_old_logs; i++) {
        if (gw_guest_log_is_marked(m->old_logs[i].log, page))
            return true;
    }
    return false;
}

/* Describe the differences of a page: their number, their uses, and the first byte in words. */
static void name_page(struct migration *m, const uint8_t *from, const uint8_t *to, size_t len,
                      struct migration_lost *lost)
{
    char text[sizeof(lost->text)];
    uint64_t skip, next = 0;

    for (size_t i = 0; i < len; i++) {
        enum migration_use use;

        if (from[i] == to[i])
            continue;
        if (lost->n_bytes++ == 0)
            lost->first = lost->page + i;
        if (i < next)
            continue;
        use = migration_name(m, lost->page + i, text, sizeof(text), &skip);
        next = i + skip;
        if (lost->uses == 0) {
            lost->use = use;
            memcpy(lost->text, text, sizeof(text));
        }
        lost->uses |= 1u << use;
    }
}

static void add_text(struct migration_lost *lost, const char *more)
{
    size_t len = strlen(lost->text);

    snprintf(lost->text + len, sizeof(lost->text) - len, "%s", more);
}

/* Record a page that differs: at the stop, or after it (`is_late`). */
static void tell_page(struct migration *m, struct migration_lost *found, bool is_late)
{
    struct migration_lost *lost;

    found->hop = m->n_hop;
    found->is_late = is_late;
    for (unsigned use = 0; use < MIGRATION_N_USES; use++)
        m->ret->lost_by_use[use] += found->uses >> use & 1;
    if (is_late)
        m->hop->pages_late++;
    else
        m->hop->pages_lost++;
    if (!is_late && !(found->uses & ~MIGRATION_USES_HINT))
        m->hop->pages_hint++;
    m->found[is_late].pages++;
    m->found[is_late].uses |= found->uses;
    lost = migration_new_lost(m);
    if (lost)
        *lost = *found;
}

bool migration_compare_page(struct migration *m, const struct migration_pair *p, uint64_t at,
                            const uint8_t *to, size_t len, bool is_last)
{
    struct migration_lost found = {.page = p->gpa + at};
    bool is_late, differs = memcmp(p->from + at, to, len) != 0;

    if (differs) {
        name_page(m, p->from + at, to, len, &found);
        is_late = is_last && gw_guest_log_is_marked(m->log, found.page);
        if (is_late)
            add_text(&found, "; marked after the stop had been answered");
        else if (is_in_old_log(m, found.page))
            add_text(&found, "; marked in a log that had been replaced");
        tell_page(m, &found, is_late);
    }
    m->hop->compare_bytes += len;
    return differs;
}

static void compare_pair(struct migration *m, const struct migration_pair *p, bool is_last)
{
    uint64_t at = p->offset, end = p->offset + p->length, data, hole;

    for (; migration_next_data(p->from_fd, at, end, &data, &hole); at = hole) {
        for (uint64_t i = data; i < hole;) {
            uint64_t off = i - p->offset;
            uint64_t len = MIGRATION_PAGE - (p->gpa + off) % MIGRATION_PAGE;

            if (len > hole - i)
                len = hole - i;
            if (migration_compare_page(m, p, off, p->to + off, len, is_last))
                memcpy(p->to + off, p->from + off, len);
            if (is_last)
                migration_print_page(m, p->gpa + off, p->to + off, len);
            i += len;
        }
    }
}

/* List the uses in words. */
static void list_uses(unsigned uses, char *text, size_t size)
{
    size_t len = 0;

    text[0] = '\0';
    for (unsigned use = 0; use < MIGRATION_N_USES; use++) {
        if (uses >> use & 1 && len < size)
            len += (size_t)snprintf(text + len, size - len, "%s%s", len ? ", " : "",
                                    migration_use_name((enum migration_use)use));
    }
}

/*
 * Report what was found since the last call, one sentence each for stale pages (not marked) and for
 * writes after the stop. Lost hint words alone are no fault.
 */
void migration_blame_found(struct migration *m)
{
    static const char *const what[2] = {"and not marked", "after the stop had been answered"};
    static const int errors[2] = {-ESTALE, -EINPROGRESS};
    char text[128];

    for (unsigned is_late = 0; is_late < 2; is_late++) {
        struct migration_found *found = &m->found[is_late];
        bool is_hint = !is_late && !(found->uses & ~MIGRATION_USES_HINT);

        if (!found->pages)
            continue;
        list_uses(found->uses, text, sizeof(text));
        if (is_hint)
            migration_event(m, MIGRATION_EVENT_HINT, 0, "%" PRIu64 " pages not marked: %s",
                            found->pages, text);
        else
            migration_blame(m, MIGRATION_SIDE_SOURCE, errors[is_late],
                            "%" PRIu64 " page%s written %s (%s)", found->pages,
                            found->pages == 1 ? " was" : "s were", what[is_late], text);
        *found = (struct migration_found){0};
    }
}

void migration_compare_region(struct migration *m, gw_gpa_t gpa)
{
    if (m->remote) {
        migration_remote_compare(m, gpa, false);
        return;
    }
    for (unsigned i = 0; i < m->n_pairs; i++) {
        if (m->pairs[i].gpa == gpa)
            compare_pair(m, &m->pairs[i], false);
    }
    migration_blame_found(m);
}

int migration_compare(struct migration *m)
{
    uint64_t begin = migration_now(m);

    if (m->remote)
        return migration_remote_compare(m, 0, true);
    migration_make_snapshot(m);
    for (unsigned i = 0; i < m->n_pairs; i++)
        compare_pair(m, &m->pairs[i], true);
    migration_blame_found(m);
    m->hop->compare_ns = migration_now(m) - begin;
    return 0;
}

/*
 * Without a copy of the contents the changed bytes are unknown: describe what the page is used for.
 */
static void name_whole_page(struct migration *m, uint64_t length, struct migration_lost *found)
{
    uint64_t skip;

    for (uint64_t at = 0; at < length && found->uses == 0; at += skip) {
        found->use = migration_name(m, found->page + at, found->text, sizeof(found->text), &skip);
        if (found->use != MIGRATION_USE_OUTSIDE)
            found->uses = 1u << found->use;
    }
    if (found->uses == 0)
        found->uses = 1u << MIGRATION_USE_OUTSIDE;
}

/*
 * A page of the source changed after it was copied or sent. The destination's copy shows which
 * bytes, as long as the destination has not written to the page.
 */
static void tell_changed(struct migration *m, gw_gpa_t page, bool is_late)
{
    struct migration_pair *p = migration_pair_of(m, page);
    const uint8_t *from = p->from + (page - p->gpa), *to = p->to + (page - p->gpa);
    uint64_t *sum = &p->sums[(page - p->gpa) / MIGRATION_PAGE];
    enum migration_sum_kind kind = migration_sum_kind(*sum);
    struct migration_lost found = {.page = page, .first = page};

    if (kind == MIGRATION_SUM_COPIED && migration_sum(to, MIGRATION_PAGE, kind) == *sum)
        name_page(m, from, to, MIGRATION_PAGE, &found);
    else
        name_whole_page(m, MIGRATION_PAGE, &found);
    is_late |= kind == MIGRATION_SUM_SENT || gw_guest_log_is_marked(m->log, page);
    if (is_late)
        add_text(&found, "; written after the stop had been answered");
    else if (is_in_old_log(m, page))
        add_text(&found, "; marked in a log that had been replaced");
    tell_page(m, &found, is_late);
    *sum = migration_sum(from, MIGRATION_PAGE,
                         kind == MIGRATION_SUM_NONE ? MIGRATION_SUM_COPIED : kind);
}

void migration_compare_sums(struct migration *m, bool is_late)
{
    uint64_t begin = migration_now(m);
    bool is_loaded = migration_load_is_running(m);

    migration_sums_check(m);
    if (m->n_noted && is_loaded)
        migration_load_halt(m);
    for (size_t i = 0; i < m->n_noted; i++)
        tell_changed(m, m->noted[i], is_late);
    if (m->n_noted && is_loaded)
        migration_load_resume(m);
    m->n_noted = 0;
    migration_blame_found(m);
    m->hop->compare_ns += migration_now(m) - begin;
}

/*
 * Find a byte that differs between the source and the running destination although nothing uses it.
 */
static bool is_stray(struct migration *m, const struct migration_pair *p, uint64_t at,
                     gw_gpa_t *ret_first)
{
    const uint8_t *from = p->from + at, *to = p->to + at;
    char text[sizeof(((struct migration_lost *)NULL)->text)];
    uint64_t skip;

    for (uint64_t i = 0; i < MIGRATION_PAGE; i += skip) {
        skip = 1;
        *ret_first = p->gpa + at + i;
        if (from[i] != to[i] &&
            migration_name(m, *ret_first, text, sizeof(text), &skip) == MIGRATION_USE_OUTSIDE)
            return true;
    }
    return false;
}

void migration_compare_rest(struct migration *m)
{
    struct migration_arrival *a = &m->hop->arrival;
    gw_gpa_t at_gpa, first = 0;
    uint64_t data, hole;

    for (unsigned i = 0; i < m->n_pairs; i++) {
        const struct migration_pair *p = &m->pairs[i];
        uint64_t at = p->offset, end = p->offset + p->length;

        for (; migration_next_data(p->to_fd, at, end, &data, &hole); at = hole) {
            for (uint64_t off = data - p->offset; off < hole - p->offset; off += MIGRATION_PAGE) {
                a->pages_compared++;
                if (memcmp(p->from + off, p->to + off, MIGRATION_PAGE) == 0 ||
                    migration_load_has(m, p->gpa + off) || !is_stray(m, p, off, &at_gpa))
                    continue;
                if (a->pages_stray++ == 0)
                    first = at_gpa;
            }
        }
    }
    if (a->pages_stray)
        migration_blame(m, MIGRATION_SIDE_DESTINATION, -ENOTUNIQ,
                        "%" PRIu64
                        " page%s from the source in memory that the guest does not use, the "
                        "first at 0x%" PRIx64,
                        a->pages_stray, a->pages_stray == 1 ? " differs" : "s differ", first);
}

void migration_watch_source(struct migration *m)
{
    if (m->o.postcopy.is_on) {
        uint64_t before = m->hop->compare_bytes;

        migration_compare_sums(m, true);
        m->hop->pages_watched += (m->hop->compare_bytes - before) / MIGRATION_PAGE;
        return;
    }
    for (size_t i = 0; i < m->n_prints; i++) {
        const struct migration_print *p = &m->prints[i];
        struct migration_lost found = {.page = p->page, .first = p->page};
        const uint8_t *page = gw_guest_mem_at(m->other, p->page, p->length);

        m->hop->pages_watched += page != NULL;
        if (!page || migration_hash_page(page, p->length) == p->hash)
            continue;
        if (p->copy)
            name_page(m, page, p->copy, p->length, &found);
        else
            name_whole_page(m, p->length, &found);
        if (found.uses & (1u << MIGRATION_USE_DATA | 1u << MIGRATION_USE_STATUS))
            add_text(&found, " (the request that uses it now)");
        tell_page(m, &found, true);
    }
    migration_drop_snapshot(m);
    migration_blame_found(m);
}
