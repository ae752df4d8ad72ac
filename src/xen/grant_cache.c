/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The pages that a request needs and the cache lacks are mapped with one ioctl. They form a run,
 * which can only be unmapped as a whole. If there is no room, the least recently used runs are
 * unmapped.
 */
#include "grant_cache.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/list.h"
#include "base/log_i.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define PAGE 4096u

struct page {
    struct page *next; /* of its bucket */
    struct gw_grant_run *run;
    uint32_t ref;
    uint8_t *at;
};

struct gw_grant_run {
    struct gw_list link; /* cache.runs, the most recently used at the end */
    struct gw_grants grants;
    unsigned n_holds;
    struct page pages[];
};

struct gw_grant_cache {
    xengnttab_handle *handle;
    uint32_t domid;
    unsigned max_pages;
    pthread_mutex_t lock; /* protects all below */
    struct gw_list runs;
    unsigned n_pages;
    unsigned n_buckets; /* a power of two */
    struct page *buckets[];
};

int gw_grant_cache_new(struct gw_grant_cache **ret, xengnttab_handle *handle, uint32_t domid,
                       unsigned max_pages)
{
    struct gw_grant_cache *c;
    unsigned n_buckets = 16;

    while (n_buckets < max_pages && n_buckets < 1u << 20)
        n_buckets *= 2;
    c = calloc(1, sizeof(*c) + n_buckets * sizeof(c->buckets[0]));
    if (!c)
        return gw_fail(-ENOMEM, "no memory for a cache of %u grants", max_pages);
    c->handle = handle;
    c->domid = domid;
    c->max_pages = max_pages;
    c->n_buckets = n_buckets;
    gw_list_init(&c->runs);
    pthread_mutex_init(&c->lock, NULL);
    *ret = c;
    return 0;
}

static struct page **bucket_of(struct gw_grant_cache *c, uint32_t ref)
{
    return &c->buckets[ref & (c->n_buckets - 1)];
}

static struct page *find(struct gw_grant_cache *c, uint32_t ref)
{
    struct page *p = *bucket_of(c, ref);

    while (p && p->ref != ref)
        p = p->next;
    return p;
}

static void forget(struct gw_grant_cache *c, struct gw_grant_run *run)
{
    for (uint32_t i = 0; i < run->grants.n; i++) {
        struct page **at = bucket_of(c, run->pages[i].ref);

        while (*at != &run->pages[i])
            at = &(*at)->next;
        *at = run->pages[i].next;
    }
    c->n_pages -= run->grants.n;
    gw_list_remove(&run->link);
    gw_grants_unmap(&run->grants);
    free(run);
}

void gw_grant_cache_free(struct gw_grant_cache *c)
{
    struct gw_list *at, *next;

    if (!c)
        return;
    gw_list_for_each_safe (at, next, &c->runs)
        forget(c, gw_container_of(at, struct gw_grant_run, link));
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* Returns: is there room for `n` more pages now? */
static bool make_room(struct gw_grant_cache *c, unsigned n)
{
    struct gw_list *at, *next;

    gw_list_for_each_safe (at, next, &c->runs) {
        struct gw_grant_run *run = gw_container_of(at, struct gw_grant_run, link);

        if (n <= c->max_pages && c->n_pages <= c->max_pages - n)
            return true;
        if (run->n_holds == 0)
            forget(c, run);
    }
    return n <= c->max_pages && c->n_pages <= c->max_pages - n;
}

static bool map_run(struct gw_grant_cache *c, uint32_t *refs, unsigned n)
{
    struct gw_grant_run *run = malloc(sizeof(*run) + n * sizeof(run->pages[0]));

    if (!run)
        return false;
    if (gw_grants_map_list(&run->grants, c->handle, c->domid, refs, n) < 0) {
        free(run);
        return false;
    }
    run->n_holds = 0;
    gw_list_init(&run->link);
    gw_list_append(&c->runs, &run->link);
    for (unsigned i = 0; i < n; i++) {
        struct page **bucket = bucket_of(c, refs[i]);

        run->pages[i] = (struct page){.next = *bucket,
                                      .run = run,
                                      .ref = refs[i],
                                      .at = (uint8_t *)run->grants.base + (size_t)i * PAGE};
        *bucket = &run->pages[i];
    }
    c->n_pages += n;
    return true;
}

static void release(struct gw_grant_run **runs, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (runs[i])
            runs[i]->n_holds--;
}

/* Holds the pages that are mapped, and lists each missing one once. Returns: how many are missing.
 */
static unsigned hold_known(struct gw_grant_cache *c, const uint32_t *refs, unsigned n,
                           struct gw_grant_run **runs, uint32_t *missing)
{
    unsigned n_missing = 0;

    for (unsigned i = 0; i < n; i++) {
        const struct page *p = find(c, refs[i]);
        bool is_listed = false;

        runs[i] = p ? p->run : NULL;
        if (p) {
            p->run->n_holds++;
            continue;
        }
        /* The pages of a chain are in order, so a repeated page is near the end of the list. */
        for (unsigned k = n_missing; k > 0 && k + 4 > n_missing && !is_listed; k--)
            is_listed = missing[k - 1] == refs[i];
        if (!is_listed)
            missing[n_missing++] = refs[i];
    }
    return n_missing;
}

bool gw_grant_cache_hold(struct gw_grant_cache *c, const uint32_t *refs, unsigned n,
                         uint8_t **ret_pages, struct gw_grant_run **ret_runs)
{
    gw_cleanup_free uint32_t *missing = calloc(n, sizeof(*missing));
    unsigned n_missing;
    bool good = missing != NULL;

    if (!good)
        return false;
    pthread_mutex_lock(&c->lock);
    n_missing = hold_known(c, refs, n, ret_runs, missing);
    if (n_missing > 0)
        good = make_room(c, n_missing) && map_run(c, missing, n_missing);
    if (!good)
        release(ret_runs, n);
    for (unsigned i = 0; good && i < n; i++) {
        const struct page *p = find(c, refs[i]);

        ret_pages[i] = p->at;
        if (!ret_runs[i])
            p->run->n_holds++;
        ret_runs[i] = p->run;
        gw_list_remove(&p->run->link);
        gw_list_append(&c->runs, &p->run->link);
    }
    pthread_mutex_unlock(&c->lock);
    return good;
}

void gw_grant_cache_release(struct gw_grant_cache *c, struct gw_grant_run **runs, unsigned n)
{
    pthread_mutex_lock(&c->lock);
    release(runs, n);
    pthread_mutex_unlock(&c->lock);
}
