/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Collects the result of a migration: hops, rounds, events, pages, faults. Used by the thread of
 * migration_run only. If memory is short, a record is dropped, with no other effect.
 */
#include "migrate_i.h"

#include "base/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FAIR_MS 1000 /* a back-end had at least this time, or is not blamed for a timeout */
#define DIES_MS 200  /* time for the end of a process to show after its socket closed */

static const char *const phase_names[] = {
    [MIGRATION_PHASE_CONNECT] = "connect",   [MIGRATION_PHASE_START] = "start",
    [MIGRATION_PHASE_WARM_UP] = "warm up",   [MIGRATION_PHASE_LOG_ON] = "log on",
    [MIGRATION_PHASE_COPY] = "copy",         [MIGRATION_PHASE_CANCEL] = "cancel",
    [MIGRATION_PHASE_STOP] = "stop",         [MIGRATION_PHASE_FINAL] = "final round",
    [MIGRATION_PHASE_COMPARE] = "compare",   [MIGRATION_PHASE_RESUME] = "resume",
    [MIGRATION_PHASE_POSTCOPY] = "postcopy", [MIGRATION_PHASE_SETTLE] = "settle",
    [MIGRATION_PHASE_VERIFY] = "verify",     [MIGRATION_PHASE_DONE] = "done",
};

static const char *const use_names[] = {
    [MIGRATION_USE_OUTSIDE] = "outside everything",
    [MIGRATION_USE_DATA] = "data buffer",
    [MIGRATION_USE_STATUS] = "status byte",
    [MIGRATION_USE_HEADER] = "request header",
    [MIGRATION_USE_DESC] = "descriptor table",
    [MIGRATION_USE_AVAIL] = "available ring",
    [MIGRATION_USE_USED_FLAGS] = "used flags",
    [MIGRATION_USE_USED_IDX] = "used index",
    [MIGRATION_USE_USED_ELEMENT] = "used element",
    [MIGRATION_USE_AVAIL_EVENT] = "avail_event",
    [MIGRATION_USE_PACKED_DESC] = "descriptor written back",
    [MIGRATION_USE_DRIVER_EVENT] = "driver event area",
    [MIGRATION_USE_DEVICE_EVENT] = "device event area",
};

static const char *const side_names[] = {
    [MIGRATION_SIDE_TOOL] = "godwit",
    [MIGRATION_SIDE_SOURCE] = "source",
    [MIGRATION_SIDE_DESTINATION] = "destination",
    [MIGRATION_SIDE_EITHER] = "source or destination",
};

static const char *const order_names[] = {
    [MIGRATION_ORDER_QEMU] = "qemu",         [MIGRATION_ORDER_RINGS] = "rings",
    [MIGRATION_ORDER_FEATURES] = "features", [MIGRATION_ORDER_STARTED] = "started",
    [MIGRATION_ORDER_RANDOM] = "random",
};

static const char *const kill_names[] = {
    [MIGRATION_KILL_NEVER] = "never",   [MIGRATION_KILL_WARM_UP] = "warm-up",
    [MIGRATION_KILL_COPY] = "copy",     [MIGRATION_KILL_STOP] = "stop",
    [MIGRATION_KILL_START] = "start",   [MIGRATION_KILL_SETTLE] = "settle",
    [MIGRATION_KILL_RANDOM] = "random",
};

static const char *const event_names[] = {
    [MIGRATION_EVENT_PHASE] = "phase",
    [MIGRATION_EVENT_LOG_ON] = "log on",
    [MIGRATION_EVENT_LOG_OFF] = "log off",
    [MIGRATION_EVENT_LOG_REPLACED] = "log replaced",
    [MIGRATION_EVENT_REGION_ADDED] = "region added",
    [MIGRATION_EVENT_REGION_REMOVED] = "region removed",
    [MIGRATION_EVENT_CALL_FD] = "call fd swapped",
    [MIGRATION_EVENT_LOAD_STOPPED] = "load stopped",
    [MIGRATION_EVENT_DEVICE_STOPPED] = "device stopped",
    [MIGRATION_EVENT_DEVICE_STARTED] = "device started",
    [MIGRATION_EVENT_FIRST_COMPLETION] = "first completion",
    [MIGRATION_EVENT_RECONNECTED] = "connected again",
    [MIGRATION_EVENT_LINK_CUT] = "link cut",
    [MIGRATION_EVENT_ALL_THERE] = "all pages arrived",
    [MIGRATION_EVENT_KILLED] = "killed, started again",
    [MIGRATION_EVENT_FAULT] = "fault",
    [MIGRATION_EVENT_HINT] = "hint",
};

#define NAME_OF(names, i) ((unsigned)(i) < sizeof(names) / sizeof((names)[0]) ? (names)[i] : "?")

const char *migration_phase_name(enum migration_phase phase)
{
    return NAME_OF(phase_names, phase);
}

const char *migration_use_name(enum migration_use use)
{
    return NAME_OF(use_names, use);
}

const char *migration_side_name(enum migration_side side)
{
    return NAME_OF(side_names, side);
}

const char *migration_order_name(enum migration_order order)
{
    return NAME_OF(order_names, order);
}

const char *migration_kill_name(enum migration_kill kill)
{
    return NAME_OF(kill_names, kill);
}

const char *migration_event_name(enum migration_event_kind kind)
{
    return NAME_OF(event_names, kind);
}

uint64_t migration_now(const struct migration *m)
{
    return gw_clock_ns() - m->start_ns;
}

/* Append a zeroed element to an array that doubles its size. */
static void *append(void *array, unsigned *n, size_t size)
{
    void **at = array;
    void *grown = *at;

    if ((*n & (*n - 1)) == 0) {
        grown = realloc(grown, (*n ? *n * 2 : 1) * size);
        if (!grown)
            return NULL;
        *at = grown;
    }
    grown = (char *)grown + (*n)++ * size;
    return memset(grown, 0, size);
}

/* Name of the first device, and the number of others. */
static void name_end(const struct migration *m, unsigned which, char *text, size_t size)
{
    const char *first = target_name(m->units[0].targets[which]);

    if (m->n_units == 1)
        snprintf(text, size, "%s", first);
    else
        snprintf(text, size, "%.40s and %u more", first, m->n_units - 1);
}

struct migration_hop *migration_begin_hop(struct migration *m)
{
    struct migration_hop *hop = append(&m->ret->hops, &m->ret->n_hops, sizeof(*hop));

    if (!hop)
        return NULL;
    m->hop = hop;
    m->n_hop = m->ret->n_hops - 1;
    name_end(m, m->src, hop->source, sizeof(hop->source));
    name_end(m, m->dst, hop->destination, sizeof(hop->destination));
    return hop;
}

struct migration_round *migration_begin_round(struct migration *m, unsigned number)
{
    struct migration_result *ret = m->ret;

    /*
     * The source in another process decides on their number. Beyond the limit, the last one stands
     * for the rest.
     */
    if (ret->n_rounds < MIGRATION_ROUNDS_MAX)
        m->round = append(&ret->rounds, &ret->n_rounds, sizeof(*m->round));
    if (!m->round)
        return NULL;
    memset(m->round, 0, sizeof(*m->round));
    m->round->at_ns = migration_now(m);
    m->round->hop = m->n_hop;
    m->round->number = number;
    m->round->is_cancelled = m->is_cancelled;
    return m->round;
}

void migration_note_fault(struct migration *m, uint64_t latency_ns)
{
    struct migration_result *ret = m->ret;

    if (ret->page_faults && ret->n_page_faults < MIGRATION_PAGE_FAULTS_MAX)
        ret->page_faults[ret->n_page_faults++] =
            (struct migration_page_fault){.at_ns = migration_now(m), .latency_ns = latency_ns};
}

struct migration_lost *migration_new_lost(struct migration *m)
{
    if (m->ret->n_lost >= MIGRATION_LOST_MAX)
        return NULL;
    return append(&m->ret->lost, &m->ret->n_lost, sizeof(struct migration_lost));
}

/* Returns: 0, with NULL if the list is full: a peer that disconnects often can fill it. */
static int new_event(struct migration *m, struct migration_event **ret)
{
    *ret = NULL;
    if (m->ret->n_events >= MIGRATION_EVENTS_MAX)
        return 0;
    *ret = append(&m->ret->events, &m->ret->n_events, sizeof(**ret));
    return *ret ? 0 : -ENOMEM;
}

int migration_event(struct migration *m, enum migration_event_kind kind, uint64_t begin_ns,
                    const char *format, ...)
{
    struct migration_event *e;
    int r = new_event(m, &e);
    va_list ap;

    if (!e)
        return r;
    e->at_ns = begin_ns ? begin_ns : migration_now(m);
    e->duration_ns = begin_ns ? migration_now(m) - begin_ns : 0;
    e->hop = m->n_hop;
    e->kind = kind;
    e->phase = m->phase;
    va_start(ap, format);
    vsnprintf(e->text, sizeof(e->text), format, ap);
    va_end(ap);
    return 0;
}

int migration_event_at(struct migration *m, enum migration_event_kind kind, uint64_t at_ns,
                       uint64_t duration_ns)
{
    struct migration_event *e;
    int r = new_event(m, &e);

    if (!e)
        return r;
    e->at_ns = at_ns;
    e->duration_ns = duration_ns;
    e->hop = m->n_hop;
    e->kind = kind;
    e->phase = m->phase;
    return 0;
}

void migration_set_phase(struct migration *m, enum migration_phase phase)
{
    m->phase = phase;
    m->told_ns = 0; /* call the progress callback at once */
    migration_event(m, MIGRATION_EVENT_PHASE, 0, "%s", migration_phase_name(phase));
}

/* The target of a side; NULL for the tool, and if the device is unknown. */
static struct target *target_of(const struct migration *m, enum migration_side side)
{
    const struct migration_unit *u = m->n_units == 1 ? m->units : m->talking;

    if (!u || (side != MIGRATION_SIDE_SOURCE && side != MIGRATION_SIDE_DESTINATION))
        return NULL;
    return u->targets[side == MIGRATION_SIDE_SOURCE ? m->src : m->dst];
}

/* The connection closed: has the process ended? The kernel may take a moment to show that. */
static bool has_ended(struct target *t, int r)
{
    const struct timespec pause = {.tv_nsec = 5000000};

    for (unsigned ms = 0; ms <= DIES_MS; ms += 5) {
        if (target_check(t) < 0)
            return true;
        if (r != -ECONNRESET)
            break;
        nanosleep(&pause, NULL);
    }
    return false;
}

/* Record the state of the back-end that a fault is about. */
static void take_evidence(struct migration *m, const struct migration_unit *u, unsigned which)
{
    struct evidence *e = append(&m->ret->evidence, &m->ret->n_evidence, sizeof(*e));

    if (!e)
        return;
    evidence_take_messages(e, u->fe[which], m->start_ns);
    evidence_take_output(e, u->targets[which]);
}

/* Without a device that is to blame: of all devices. Without a side: of both. */
static void take_all_evidence(struct migration *m, enum migration_side side,
                              struct migration_fault *f)
{
    f->first_evidence = m->ret->n_evidence;
    for (unsigned i = 0; side != MIGRATION_SIDE_TOOL && i < m->n_units; i++) {
        const struct migration_unit *u = &m->units[i];

        if (m->talking && m->talking != u)
            continue;
        if (side != MIGRATION_SIDE_DESTINATION && !m->o.listen)
            take_evidence(m, u, m->src);
        if (side != MIGRATION_SIDE_SOURCE && !m->o.to)
            take_evidence(m, u, m->dst);
    }
    f->n_evidence = m->ret->n_evidence - f->first_evidence;
}

static void add_fault(struct migration *m, enum migration_side side, int r, bool is_blame,
                      const char *text)
{
    struct target *t = target_of(m, side);
    struct migration_fault *f;
    size_t len;

    migration_event(m, MIGRATION_EVENT_FAULT, 0, "%s", text);
    if (m->ret->n_faults >= MIGRATION_FAULTS_MAX)
        return;
    f = &m->ret->faults[m->ret->n_faults++];
    f->at_ns = migration_now(m);
    f->hop = m->n_hop;
    f->side = side;
    f->phase = m->phase;
    f->error = r;
    f->is_blame = is_blame;
    snprintf(f->who, sizeof(f->who), "%s", t ? target_name(t) : migration_side_name(side));
    len = (size_t)snprintf(f->text, sizeof(f->text), "%s", text);
    if (t && len < sizeof(f->text) && has_ended(t, r) && !strstr(text, target_error(t)))
        snprintf(f->text + len, sizeof(f->text) - len, "; %s", target_error(t));
    take_all_evidence(m, side, f);
}

/* An error of this host, whatever was called. */
static bool is_of_host(int r)
{
    return r == -ENOMEM || r == -EMFILE || r == -ENFILE || r == -ENOBUFS;
}

int migration_blame(struct migration *m, enum migration_side side, int r, const char *format, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    if (is_of_host(r))
        return migration_cannot(m, MIGRATION_SIDE_TOOL, r, "%s", text);
    /* With hardly any time left, the time limit is to blame, not the back-end. */
    if (r == -ETIMEDOUT && m->allowed_ms < m->o.request_ms && m->allowed_ms < FAIR_MS)
        return migration_cannot(m, side, r, "%s, when the time limit of %u ms was reached", text,
                                m->o.timeout_ms);
    add_fault(m, side, r, true, text);
    m->ret->verdict = MIGRATION_FAILED;
    return r;
}

int migration_cannot(struct migration *m, enum migration_side side, int r, const char *format, ...)
{
    char text[320];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    add_fault(m, side, r, false, text);
    if (m->ret->verdict == MIGRATION_PASSED)
        m->ret->verdict = MIGRATION_COULD_NOT;
    return r;
}

static void raise_to(uint64_t *max, uint64_t value)
{
    *max = value > *max ? value : *max;
}

void migration_slowest(struct migration_result *ret, uint64_t p50, uint64_t p99, uint64_t max)
{
    raise_to(&ret->latency_p50, p50);
    raise_to(&ret->latency_p99, p99);
    raise_to(&ret->latency_max, max);
}

void migration_record_backend(struct migration *m, const struct target *t,
                              const struct gw_frontend *fe)
{
    struct migration_result *ret = m->ret;
    struct backend_record *b = NULL;

    for (unsigned i = 0; i < ret->n_backends; i++) {
        if (strcmp(ret->backends[i].name, target_name(t)) == 0)
            b = &ret->backends[i];
    }
    if (!b)
        b = append(&ret->backends, &ret->n_backends, sizeof(*b));
    if (b)
        backend_record_take(b, t, fe);
}

void migration_result_done(struct migration_result *result)
{
    free(result->hops);
    free(result->rounds);
    free(result->samples);
    free(result->events);
    free(result->page_faults);
    free(result->lost);
    free(result->evidence);
    free(result->backends);
    memset(result, 0, sizeof(*result));
}
