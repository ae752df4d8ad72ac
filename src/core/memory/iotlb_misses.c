/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The list of missing translations. Its lock is only taken after a miss. */
#include "iotlb_misses.h"

#include "base/clock.h"

#define FAILURE_PAUSE_NS UINT64_C(1000000000)

void gw_iotlb_misses_init(struct gw_iotlb_misses *m, void (*added)(struct gw_iotlb_misses *m))
{
    pthread_mutex_init(&m->lock, NULL);
    m->n = 0;
    m->failure_ns = 0;
    m->added = added;
}

void gw_iotlb_misses_done(struct gw_iotlb_misses *m)
{
    pthread_mutex_destroy(&m->lock);
}

static void set_n(struct gw_iotlb_misses *m, unsigned n)
{
    __atomic_store_n(&m->n, n, __ATOMIC_RELAXED);
}

void gw_iotlb_misses_clear(struct gw_iotlb_misses *m)
{
    pthread_mutex_lock(&m->lock);
    set_n(m, 0);
    pthread_mutex_unlock(&m->lock);
}

static void remove_at(struct gw_iotlb_misses *m, unsigned i)
{
    for (unsigned j = i + 1; j < m->n; j++)
        m->reports[j - 1] = m->reports[j];
    set_n(m, m->n - 1);
}

void gw_iotlb_misses_renew(struct gw_iotlb_misses *m)
{
    pthread_mutex_lock(&m->lock);
    for (unsigned i = m->n; i-- > 0;)
        if (m->reports[i].state == GW_IOTLB_REPORT_SENT)
            remove_at(m, i);
    pthread_mutex_unlock(&m->lock);
}

static struct gw_iotlb_report *find(struct gw_iotlb_misses *m, struct gw_iotlb_miss miss,
                                    bool is_failure)
{
    for (unsigned i = 0; i < m->n; i++) {
        struct gw_iotlb_report *r = &m->reports[i];

        if (r->miss.iova == miss.iova && r->is_failure == is_failure &&
            (r->miss.access & miss.access) == miss.access)
            return r;
    }
    return NULL;
}

void gw_iotlb_misses_add(struct gw_iotlb_misses *m, struct gw_iotlb_miss miss, bool is_failure)
{
    uint64_t now_ns = gw_clock_ns();
    bool is_added;

    if (!is_failure)
        miss.iova = gw_align_down(miss.iova, GW_IOTLB_PAGE);
    pthread_mutex_lock(&m->lock);
    is_added = m->n < GW_IOTLB_MISSES_MAX && !find(m, miss, is_failure) &&
               !(is_failure && m->failure_ns && now_ns - m->failure_ns < FAILURE_PAUSE_NS);
    if (is_added) {
        m->reports[m->n] =
            (struct gw_iotlb_report){.miss = miss, .is_failure = is_failure, .since_ns = now_ns};
        set_n(m, m->n + 1);
    }
    if (is_added && is_failure)
        m->failure_ns = now_ns;
    pthread_mutex_unlock(&m->lock);
    if (is_added)
        m->added(m);
}

bool gw_iotlb_misses_first_new(struct gw_iotlb_misses *m, struct gw_iotlb_report *ret)
{
    bool found = false;

    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < m->n && !found; i++) {
        found = m->reports[i].state == GW_IOTLB_REPORT_NEW;
        if (found)
            *ret = m->reports[i];
    }
    pthread_mutex_unlock(&m->lock);
    return found;
}

void gw_iotlb_misses_sent(struct gw_iotlb_misses *m, const struct gw_iotlb_report *report,
                          uint64_t now_ns)
{
    struct gw_iotlb_report *r;

    pthread_mutex_lock(&m->lock);
    r = find(m, report->miss, report->is_failure);
    if (r && r->is_failure) {
        remove_at(m, (unsigned)(r - m->reports));
    } else if (r) {
        r->state = GW_IOTLB_REPORT_SENT;
        r->since_ns = now_ns;
    }
    pthread_mutex_unlock(&m->lock);
}

void gw_iotlb_misses_answered(struct gw_iotlb_misses *m, struct gw_iova_range range)
{
    pthread_mutex_lock(&m->lock);
    for (unsigned i = m->n; i-- > 0;) {
        const struct gw_iotlb_report *r = &m->reports[i];

        if (!r->is_failure &&
            gw_ranges_overlap(r->miss.iova, GW_IOTLB_PAGE, range.iova, range.size))
            remove_at(m, i);
    }
    pthread_mutex_unlock(&m->lock);
}

bool gw_iotlb_misses_give_up(struct gw_iotlb_misses *m, uint64_t before_ns, uint64_t now_ns,
                             struct gw_iotlb_miss *ret)
{
    bool found = false;

    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < m->n && !found; i++) {
        struct gw_iotlb_report *r = &m->reports[i];

        found = !r->is_failure && r->state != GW_IOTLB_REPORT_GIVEN_UP && r->since_ns < before_ns;
        if (found) {
            *ret = r->miss;
            r->state = GW_IOTLB_REPORT_GIVEN_UP;
            r->since_ns = now_ns;
        }
    }
    pthread_mutex_unlock(&m->lock);
    return found;
}

bool gw_iotlb_misses_forget(struct gw_iotlb_misses *m, uint64_t before_ns,
                            struct gw_iotlb_miss *ret)
{
    bool found = false;

    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < m->n && !found; i++) {
        const struct gw_iotlb_report *r = &m->reports[i];

        found = r->state == GW_IOTLB_REPORT_GIVEN_UP && r->since_ns < before_ns;
        if (found) {
            *ret = r->miss;
            remove_at(m, i);
        }
    }
    pthread_mutex_unlock(&m->lock);
    return found;
}
