/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Records the driver's writes to guest memory with byte accuracy: one bit for each byte, and one
 * summary bit for each page. A mark sets the bits of the bytes, then the bit of the page. A take
 * clears the bit of the page, then the bits of its bytes, so it finds every mark, now or the next
 * time. The contents of the bytes are not recorded.
 */
#include "frontend/driver/driver_i.h"
#include "frontend/error.h"

#include <godwit/frontend/log.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE           4096u
#define WORDS_PER_PAGE (PAGE / 64)

struct range {
    gw_gpa_t gpa;
    uint64_t length;
    uint64_t n_pages;
    uint64_t *bytes; /* one bit for each byte */
    uint64_t *pages; /* one bit for each page */
    /* atomic: range of words of `pages` that may have a bit set; last_word is exclusive */
    uint64_t first_word, last_word;
};

struct gw_guest_track {
    struct range *ranges;
    unsigned n_ranges;
};

int gw_guest_track_new(struct gw_guest_track **ret)
{
    struct gw_guest_track *t = calloc(1, sizeof(*t));

    if (!t)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    *ret = t;
    return 0;
}

static void *map_zeros(uint64_t len)
{
    void *p =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static uint64_t page_words(const struct range *g)
{
    return (g->n_pages + 63) / 64;
}

static void range_done(struct range *g)
{
    if (g->bytes)
        munmap(g->bytes, g->n_pages * WORDS_PER_PAGE * sizeof(uint64_t));
    if (g->pages)
        munmap(g->pages, page_words(g) * sizeof(uint64_t));
}

void gw_guest_track_free(struct gw_guest_track *t)
{
    if (!t)
        return;
    for (unsigned i = 0; i < t->n_ranges; i++)
        range_done(&t->ranges[i]);
    free(t->ranges);
    free(t);
}

int gw_guest_track_add(struct gw_guest_track *t, gw_gpa_t gpa, uint64_t len)
{
    struct range g = {.gpa = gpa, .length = len, .n_pages = len / PAGE + 1};
    struct range *grown;

    if (len == 0 || gpa + len < gpa)
        return gw_frontend_fail(-EINVAL, "impossible range: 0x%" PRIx64 " bytes at 0x%" PRIx64, len,
                                gpa);
    for (unsigned i = 0; i < t->n_ranges; i++) {
        if (gpa < t->ranges[i].gpa + t->ranges[i].length && t->ranges[i].gpa < gpa + len)
            return gw_frontend_fail(-EINVAL, "the range at 0x%" PRIx64 " overlaps a tracked one",
                                    gpa);
    }
    grown = realloc(t->ranges, (t->n_ranges + 1) * sizeof(*grown));
    if (!grown)
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    t->ranges = grown;
    g.bytes = map_zeros(g.n_pages * WORDS_PER_PAGE * sizeof(uint64_t));
    g.pages = map_zeros(page_words(&g) * sizeof(uint64_t));
    if (!g.bytes || !g.pages) {
        range_done(&g);
        return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    }
    g.first_word = page_words(&g);
    grown[t->n_ranges++] = g;
    return 0;
}

int gw_guest_track_remove(struct gw_guest_track *t, gw_gpa_t gpa)
{
    for (unsigned i = 0; i < t->n_ranges; i++) {
        if (t->ranges[i].gpa != gpa)
            continue;
        range_done(&t->ranges[i]);
        t->ranges[i] = t->ranges[--t->n_ranges];
        return 0;
    }
    return gw_frontend_fail(-ENOENT, "no tracked range begins at 0x%" PRIx64, gpa);
}

/* Include this word in the range that a take scans. */
static void widen(struct range *g, uint64_t word)
{
    uint64_t seen = __atomic_load_n(&g->first_word, __ATOMIC_RELAXED);

    while (word < seen && !__atomic_compare_exchange_n(&g->first_word, &seen, word, true,
                                                       __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        ;
    seen = __atomic_load_n(&g->last_word, __ATOMIC_RELAXED);
    while (word >= seen && !__atomic_compare_exchange_n(&g->last_word, &seen, word + 1, true,
                                                        __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        ;
}

/* Mark bytes [from, to), relative to the start of the range. */
static void mark_range(struct range *g, uint64_t from, uint64_t to)
{
    uint64_t first_page = from / PAGE, last_page = (to - 1) / PAGE;

    for (uint64_t at = from; at < to;) {
        uint64_t end = (at | 63) + 1 < to ? (at | 63) + 1 : to;
        uint64_t n = end - at;
        uint64_t bits = (n == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << (at & 63);

        /* Release: a reader that sees the mark reads the marked bytes, or newer ones. */
        if (n == 64)
            __atomic_store_n(&g->bytes[at / 64], bits, __ATOMIC_RELEASE);
        else
            __atomic_fetch_or(&g->bytes[at / 64], bits, __ATOMIC_RELEASE);
        at = end;
    }
    for (uint64_t page = first_page; page <= last_page; page++) {
        /* Release: a reader that sees the page bit sees the bits of its bytes. */
        __atomic_fetch_or(&g->pages[page / 64], UINT64_C(1) << (page % 64), __ATOMIC_RELEASE);
        widen(g, page / 64);
    }
}

void gw_guest_track_mark(struct gw_guest_track *t, gw_gpa_t gpa, uint64_t len)
{
    for (unsigned i = 0; len && i < t->n_ranges; i++) {
        struct range *g = &t->ranges[i];
        uint64_t from, to;

        if (gpa >= g->gpa + g->length || gpa + len <= g->gpa)
            continue;
        from = gpa > g->gpa ? gpa - g->gpa : 0;
        to = gpa + len - g->gpa < g->length ? gpa + len - g->gpa : g->length;
        mark_range(g, from, to);
    }
}

/* Clear the marks of one page and report its runs of bytes. Returns: the number of bytes. */
static uint64_t take_page(struct range *g, uint64_t page, gw_guest_dirty_cb *cb, void *arg)
{
    uint64_t *words = &g->bytes[page * WORDS_PER_PAGE];
    uint64_t start = 0, n = 0, total = 0; /* the current run */

    for (unsigned i = 0; i < WORDS_PER_PAGE; i++) {
        uint64_t bits = __atomic_load_n(&words[i], __ATOMIC_RELAXED);

        if (bits)
            bits = __atomic_exchange_n(&words[i], 0, __ATOMIC_ACQ_REL);
        while (bits) {
            unsigned skip = (unsigned)__builtin_ctzll(bits);
            uint64_t rest = bits >> skip;
            unsigned len = ~rest ? (unsigned)__builtin_ctzll(~rest) : 64;

            if (n && start + n != i * 64ull + skip) {
                if (cb)
                    cb(arg, g->gpa + page * PAGE + start, n);
                n = 0;
            }
            if (!n)
                start = i * 64ull + skip;
            n += len;
            total += len;
            bits = skip + len >= 64 ? 0 : bits & (~UINT64_C(0) << (skip + len));
        }
    }
    if (n && cb)
        cb(arg, g->gpa + page * PAGE + start, n);
    return total;
}

uint64_t gw_guest_track_take(struct gw_guest_track *t, gw_guest_dirty_cb *cb, void *arg)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < t->n_ranges; i++) {
        struct range *g = &t->ranges[i];
        uint64_t first = __atomic_load_n(&g->first_word, __ATOMIC_ACQUIRE);
        uint64_t last = __atomic_load_n(&g->last_word, __ATOMIC_ACQUIRE);

        for (uint64_t w = first; w < last; w++) {
            uint64_t bits = __atomic_load_n(&g->pages[w], __ATOMIC_RELAXED);

            if (bits)
                bits = __atomic_exchange_n(&g->pages[w], 0, __ATOMIC_ACQ_REL);
            for (; bits; bits &= bits - 1)
                total += take_page(g, w * 64 + (unsigned)__builtin_ctzll(bits), cb, arg);
        }
    }
    return total;
}

void gw_driver_set_track(struct gw_driver *d, struct gw_guest_track *t)
{
    d->track = t;
}
