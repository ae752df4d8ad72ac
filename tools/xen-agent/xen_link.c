/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Sends requests to the agent in a domU. The shared pages are untrusted and may change at any time:
 * results are clamped, lengths checked, texts copied and terminated.
 */
#include "xen_link.h"

#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenstore.h>

#define LOOK_MS    100 /* between two checks for an agent, or whether the domain exists */
#define ERRNO_MAX  4095
#define STATE_MAX  (UINT64_C(64) << 20)
#define REQUEST_MS 30000

int xen_link_fail(struct xen_link *l, int r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    pthread_mutex_lock(&l->waiting);
    vsnprintf(l->error, sizeof(l->error), format, args);
    pthread_mutex_unlock(&l->waiting);
    va_end(args);
    return r;
}

/* ---- Connecting ---- */

static bool lives(const struct xen_link *l)
{
    return xs_is_domain_introduced(l->store, l->domid);
}

/* Read the agent's key in xenstore. Returns: 0; -ENOENT not yet; -EPROTO. */
static int read_introduction(struct xen_link *l, uint32_t *ret_ref, uint32_t *ret_port)
{
    unsigned len, version;
    char path[96], *text;
    int n;

    snprintf(path, sizeof(path), "/local/domain/%" PRIu32 "/" XEN_AGENT_KEY, l->domid);
    text = xs_read(l->store, XBT_NULL, path, &len);
    if (!text)
        return -ENOENT;
    n = sscanf(text, "%u %" SCNu32 " %" SCNu32, &version, ret_ref, ret_port);
    free(text);
    if (n != 3 || version != XEN_VERSION)
        return xen_link_fail(l, -EPROTO,
                             "domain %" PRIu32
                             ": its agent has another version: use the same godwit in both domains",
                             l->domid);
    return 0;
}

static int await_agent(struct xen_link *l, unsigned timeout_ms, uint32_t *ret_ref,
                       uint32_t *ret_port)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * (long)GW_NS_PER_MS};
    uint64_t deadline = gw_clock_ns() + timeout_ms * GW_NS_PER_MS;
    int r;

    do {
        if (!lives(l))
            return xen_link_fail(l, -ESRCH, "there is no domain %" PRIu32, l->domid);
        r = read_introduction(l, ret_ref, ret_port);
        if (r != -ENOENT)
            return r;
        nanosleep(&pause, NULL);
    } while (gw_clock_ns() < deadline);
    return xen_link_fail(l, -ETIMEDOUT,
                         "no godwit-xen-agent in domain %" PRIu32 " (its key " XEN_AGENT_KEY
                         " is missing in xenstore)",
                         l->domid);
}

/* Map the control page, then the bulk pages that it lists. */
static int map_control(struct xen_link *l, uint32_t ref)
{
    uint32_t refs[XEN_BULK];

    l->control = xengnttab_map_grant_ref(l->grants, l->domid, ref, PROT_READ | PROT_WRITE);
    if (!l->control)
        return xen_link_fail(l, -errno, "the agent's control page: %s", strerror(errno));
    if (l->control->magic != XEN_MAGIC || l->control->n_refs != XEN_BULK)
        return xen_link_fail(l, -EPROTO, "the agent's control page is invalid");
    memcpy(refs, l->control->refs, sizeof(refs));
    l->bulk = xengnttab_map_domain_grant_refs(l->grants, XEN_BULK, l->domid, refs,
                                              PROT_READ | PROT_WRITE);
    if (!l->bulk)
        return xen_link_fail(l, -errno, "the agent's pages: %s", strerror(errno));
    return 0;
}

static void make_locks(struct xen_link *l)
{
    pthread_mutexattr_t attr;

    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&l->asking, &attr);
    pthread_mutexattr_destroy(&attr);
    pthread_mutex_init(&l->waiting, NULL);
    pthread_cond_init(&l->looked, NULL);
}

int xen_link_open(struct xen_link *l, uint32_t domid, unsigned timeout_ms)
{
    const uint64_t arg[4] = {0};
    uint32_t ref, port;
    int r;

    *l = (struct xen_link){.domid = domid, .port = -1, .timeout_ms = REQUEST_MS};
    make_locks(l);
    l->grants = xengnttab_open(NULL, 0);
    l->events = l->grants ? xenevtchn_open(NULL, 0) : NULL;
    l->store = l->events ? xs_open(0) : NULL;
    if (!l->store)
        return xen_link_fail(l, -ENODEV, "no %s: this is not the privileged domain of a Xen host",
                             !l->grants   ? "/dev/xen/gntdev"
                             : !l->events ? "/dev/xen/evtchn"
                                          : "xenstore");
    r = await_agent(l, timeout_ms, &ref, &port);
    if (r < 0)
        return r;
    l->port = xenevtchn_bind_interdomain(l->events, domid, port);
    if (l->port < 0)
        return xen_link_fail(l, -errno, "the agent's event channel: %s", strerror(errno));
    r = map_control(l, ref);
    if (r == 0)
        r = xen_link_ask(l, XEN_OP_BYE, "discarding the previous state", arg, NULL);
    return r;
}

void xen_link_close(struct xen_link *l)
{
    if (l->bulk)
        xengnttab_unmap(l->grants, l->bulk, XEN_BULK);
    if (l->control)
        xengnttab_unmap(l->grants, l->control, 1);
    if (l->store)
        xs_close(l->store);
    if (l->events)
        xenevtchn_close(l->events);
    if (l->grants)
        xengnttab_close(l->grants);
    pthread_cond_destroy(&l->looked);
    pthread_mutex_destroy(&l->waiting);
    pthread_mutex_destroy(&l->asking);
    *l = (struct xen_link){.port = -1};
}

/* ---- Requests ---- */

/* Wait a short time for any event. Returns: 0; -EHOSTDOWN. */
static int look(struct xen_link *l)
{
    struct pollfd p = {.fd = xenevtchn_fd(l->events), .events = POLLIN};
    int port;

    if (poll(&p, 1, LOOK_MS) > 0) {
        port = xenevtchn_pending(l->events);
        if (port >= 0)
            xenevtchn_unmask(l->events, (evtchn_port_t)port);
        return 0;
    }
    if (lives(l))
        return 0;
    return xen_link_fail(l, -EHOSTDOWN, "domain %" PRIu32 " is gone", l->domid);
}

/*
 * Wait for an event while another thread may wait, too: one for an answer, one for the end of a
 * run. Called with `waiting` held since the caller's last check. One thread reads the event channel
 * and then wakes the others, because the event may be theirs.
 */
static int await_event(struct xen_link *l)
{
    int r;

    if (l->is_looking) {
        pthread_cond_wait(&l->looked, &l->waiting);
        return 0;
    }
    l->is_looking = true;
    pthread_mutex_unlock(&l->waiting);
    r = look(l);
    pthread_mutex_lock(&l->waiting);
    l->is_looking = false;
    pthread_cond_broadcast(&l->looked);
    return r;
}

static int await_answer(struct xen_link *l, uint32_t number, const char *what)
{
    uint64_t deadline = gw_clock_ns() + l->timeout_ms * GW_NS_PER_MS;
    int r = 0;

    pthread_mutex_lock(&l->waiting);
    while (r == 0 && __atomic_load_n(&l->control->answer, __ATOMIC_ACQUIRE) != number)
        r = gw_clock_ns() > deadline ? -ETIMEDOUT : await_event(l);
    pthread_mutex_unlock(&l->waiting);
    if (r == -ETIMEDOUT)
        xen_link_fail(l, r, "%s: domain %" PRIu32 " does not answer", what, l->domid);
    return r;
}

static int await_end(struct xen_link *l)
{
    int r = 0;

    pthread_mutex_lock(&l->waiting);
    while (r == 0 && __atomic_load_n(&l->control->running, __ATOMIC_ACQUIRE))
        r = await_event(l);
    pthread_mutex_unlock(&l->waiting);
    return r;
}

static int clamp(int32_t result)
{
    return result > 0 || result < -ERRNO_MAX ? -EPROTO : result;
}

/* Copy the agent's error text; may be empty. */
static void copy_error(const struct xen_link *l, char *text, size_t size)
{
    size_t n = size < XEN_ERROR_LEN ? size : XEN_ERROR_LEN;

    memcpy(text, l->control->error, n);
    text[n - 1] = '\0';
    for (char *p = text; *p; p++) {
        if ((unsigned char)*p < ' ')
            *p = '?';
    }
}

static int ask(struct xen_link *l, enum xen_op op, const char *what, const uint64_t arg[4],
               uint64_t *ret)
{
    struct xen_control *c = l->control;
    uint32_t number = __atomic_load_n(&c->request, __ATOMIC_RELAXED) + 1;
    int r;

    memcpy(c->arg, arg, sizeof(c->arg));
    c->op = op;
    /*
     * Release: the agent sees arguments and bulk before the number. Acquire: the same for the
     * answer.
     */
    __atomic_store_n(&c->request, number, __ATOMIC_RELEASE);
    xenevtchn_notify(l->events, (evtchn_port_t)l->port);
    r = await_answer(l, number, what);
    if (r < 0)
        return r;
    r = clamp(__atomic_load_n(&c->result, __ATOMIC_RELAXED));
    if (r < 0)
        return xen_link_fail(l, r, "%s: the agent in domain %" PRIu32 " says: %s", what, l->domid,
                             strerror(-r));
    if (ret)
        *ret = __atomic_load_n(&c->ret, __ATOMIC_RELAXED);
    return 0;
}

int xen_link_ask(struct xen_link *l, enum xen_op op, const char *what, const uint64_t arg[4],
                 uint64_t *ret)
{
    int r;

    pthread_mutex_lock(&l->asking);
    r = ask(l, op, what, arg, ret);
    pthread_mutex_unlock(&l->asking);
    return r;
}

static int get_state(struct xen_link *l, uint64_t which, void **ret, size_t *ret_len)
{
    uint64_t arg[4] = {which}, len;
    char *state;
    int r = xen_link_ask(l, XEN_OP_SAVE, "saving the state", arg, &len);

    if (r < 0)
        return r;
    if (len > STATE_MAX)
        return xen_link_fail(l, -EPROTO, "a state of %" PRIu64 " bytes is too long", len);
    state = malloc(len ? len : 1);
    if (!state)
        return xen_link_fail(l, -ENOMEM, "out of memory");
    for (uint64_t at = 0; r == 0 && at < len; at += arg[1]) {
        arg[0] = at;
        arg[1] = len - at < XEN_BULK_LEN ? len - at : XEN_BULK_LEN;
        r = xen_link_ask(l, XEN_OP_GET, "fetching the state", arg, NULL);
        if (r == 0)
            memcpy(state + at, l->bulk, arg[1]);
    }
    if (r < 0) {
        free(state);
        return r;
    }
    *ret = state;
    *ret_len = len;
    return 0;
}

int xen_link_get(struct xen_link *l, uint64_t which, void **ret, size_t *ret_len)
{
    int r;

    pthread_mutex_lock(&l->asking);
    r = get_state(l, which, ret, ret_len);
    pthread_mutex_unlock(&l->asking);
    return r;
}

int xen_link_put(struct xen_link *l, uint64_t which, const void *state, size_t len)
{
    uint64_t arg[4] = {0, 0, len};
    int r = 0;

    pthread_mutex_lock(&l->asking);
    for (uint64_t at = 0; r == 0 && at < len; at += arg[1]) {
        arg[0] = at;
        arg[1] = len - at < XEN_BULK_LEN ? len - at : XEN_BULK_LEN;
        memcpy(l->bulk, (const char *)state + at, arg[1]);
        r = xen_link_ask(l, XEN_OP_PUT, "sending the state", arg, NULL);
    }
    arg[0] = which;
    if (r == 0)
        r = xen_link_ask(l, XEN_OP_RESTORE, "restoring the state", arg, NULL);
    pthread_mutex_unlock(&l->asking);
    return r;
}

/* ---- Runs ---- */

int xen_link_wait(struct xen_link *l)
{
    int r = await_end(l);

    if (r < 0)
        return r;
    r = clamp(__atomic_load_n(&l->control->run_result, __ATOMIC_RELAXED));
    if (r < 0) {
        char text[XEN_ERROR_LEN];

        copy_error(l, text, sizeof(text));
        if (text[0])
            xen_link_fail(l, r, "%s", text);
        else
            xen_link_fail(l, r, "the load in domain %" PRIu32 ": %s", l->domid, strerror(-r));
    }
    return r;
}

void xen_link_interrupt(struct xen_link *l)
{
    __atomic_store_n(&l->control->interrupt, 1, __ATOMIC_RELEASE);
    xenevtchn_notify(l->events, (evtchn_port_t)l->port);
}
