/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The agent in a domU: it lends pages to dom0 and drives rings in them at the request of the tool.
 * The main thread answers requests, and passes kicks and calls between the drivers' eventfds and
 * event channels. A run of the load has a thread of its own.
 */
#include "agent.h"

#include "../common/streams.h"

#include <errno.h>
#include <godwit/version.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <unistd.h>

#include <xenevtchn.h>
#include <xenstore.h>

#define SAMPLE_MS 20

/* ---- Memory ---- */

static int lend(struct agent *a, uint64_t n)
{
    int r = n <= XEN_LENT_MAX ? pages_lend(&a->lent, (uint32_t)n) : -EINVAL;

    if (r == 0)
        memcpy(a->bulk, a->lent.refs, n * sizeof(*a->lent.refs));
    return r;
}

static int add_region(struct agent *a, uint64_t gpa, uint64_t n, bool no_alloc)
{
    struct gw_guest_region region = {
        .kind = GW_GUEST_MAPPED, .gpa = gpa, .fd = -1, .no_alloc = no_alloc};
    struct agent_region *own = &a->regions[a->n_regions];
    uint32_t *which;
    int r;

    if (n == 0 || n > XEN_LENT_MAX || a->n_regions == AGENT_REGIONS_MAX)
        return -EINVAL;
    which = malloc(n * sizeof(*which));
    if (!which)
        return -ENOMEM;
    memcpy(which, a->bulk, n * sizeof(*which));
    r = pages_window(&a->lent, which, (uint32_t)n, &own->window);
    free(which);
    if (r < 0)
        return r;
    own->gpa = gpa;
    own->len = region.length = n * XEN_PAGE;
    region.host = own->window;
    r = gw_guest_mem_add(a->mem, &region);
    if (r == 0) {
        r = gw_guest_track_add(a->track, gpa, region.length);
        if (r < 0)
            gw_guest_mem_remove(a->mem, gpa);
    }
    if (r < 0)
        munmap(own->window, own->len);
    else
        a->n_regions++;
    return r;
}

static int remove_region(struct agent *a, uint64_t gpa)
{
    int r = gw_guest_mem_remove(a->mem, gpa);

    gw_guest_track_remove(a->track, gpa);
    for (unsigned i = 0; r == 0 && i < a->n_regions; i++) {
        if (a->regions[i].gpa != gpa)
            continue;
        munmap(a->regions[i].window, a->regions[i].len);
        a->regions[i] = a->regions[--a->n_regions];
        break;
    }
    return r;
}

static int forget(struct agent *a)
{
    agent_forget(a);
    while (a->n_regions > 0)
        remove_region(a, a->regions[0].gpa);
    pages_done(&a->lent);
    return 0;
}

/* ---- Requests ---- */

/* Is the operation refused during a run? Reading the track of written pages is not. */
static bool wants_peace(uint32_t op, const uint64_t *arg)
{
    switch (op) {
    case XEN_OP_LEND:
    case XEN_OP_REVOKE:
    case XEN_OP_GET:
    case XEN_OP_BYE:
        return false;
    case XEN_OP_SAVE:
        return arg[0] != XEN_STATE_TRACK;
    default:
        return true;
    }
}

static int serve(struct agent *a, uint32_t op, const uint64_t *arg, uint64_t *ret)
{
    if (a->is_running && wants_peace(op, arg))
        return -EBUSY;
    switch (op) {
    case XEN_OP_LEND:
        return lend(a, arg[0]);
    case XEN_OP_REVOKE:
        return pages_revoke(&a->lent, arg[0], arg[1]);
    case XEN_OP_REGION:
        return add_region(a, arg[0], arg[1], arg[2] != 0);
    case XEN_OP_REGION_GONE:
        return remove_region(a, arg[0]);
    case XEN_OP_ALLOC:
        return gw_guest_mem_alloc(a->mem, arg[0], arg[1], ret);
    case XEN_OP_DRIVER:
        return agent_driver(a, ret);
    case XEN_OP_LOAD:
        return agent_load(a);
    case XEN_OP_SAVE:
        return agent_save(a, arg[0], ret);
    case XEN_OP_GET:
        return agent_get(a, arg[0], arg[1]);
    case XEN_OP_PUT:
        return agent_put(a, arg[0], arg[1], arg[2]);
    case XEN_OP_RESTORE:
        return agent_restore(a, arg[0]);
    case XEN_OP_RUN:
        return agent_run(a, arg, false);
    case XEN_OP_DRAIN:
        return agent_run(a, arg, true);
    case XEN_OP_STATS:
        return agent_stats(a, arg[0] != 0);
    case XEN_OP_BYE:
        return forget(a);
    default:
        return -EOPNOTSUPP;
    }
}

static void control_event(struct agent *a)
{
    struct xen_control *c = a->control;
    uint64_t arg[4], ret = 0;

    /* Pairs with the release store of the tool: arguments and bulk are complete. */
    if (__atomic_exchange_n(&c->interrupt, 0, __ATOMIC_ACQ_REL) && a->load)
        gw_guest_load_interrupt(a->load);
    if (__atomic_load_n(&c->request, __ATOMIC_ACQUIRE) == a->seen)
        return;
    memcpy(arg, c->arg, sizeof(arg));
    c->result = serve(a, c->op, arg, &ret);
    c->ret = ret;
    a->seen++;
    __atomic_store_n(&c->answer, a->seen, __ATOMIC_RELEASE);
    xenevtchn_notify(a->events, (evtchn_port_t)a->control_port);
}

/* ---- Events ---- */

static void write_one(int fd)
{
    const uint64_t one = 1;

    /* A full eventfd wakes as well. */
    if (write(fd, &one, sizeof(one)) < 0)
        return;
}

static void channel_event(struct agent *a)
{
    int port = xenevtchn_pending(a->events);

    if (port < 0)
        return;
    xenevtchn_unmask(a->events, (evtchn_port_t)port);
    if (port == a->control_port) {
        control_event(a);
        return;
    }
    for (unsigned i = 0; i < a->n_queues; i++) {
        if (a->queues[i].port == port)
            write_one(gw_driver_call_fd(a->queues[i].driver));
    }
}

static void kick_event(struct agent *a, unsigned i)
{
    uint64_t n;

    if (read(gw_driver_kick_fd(a->queues[i].driver), &n, sizeof(n)) == sizeof(n))
        xenevtchn_notify(a->events, (evtchn_port_t)a->queues[i].port);
}

static int loop(struct agent *a)
{
    struct pollfd fds[2 + XEN_QUEUES];

    for (;;) {
        unsigned n = a->n_queues;

        fds[0] = (struct pollfd){.fd = xenevtchn_fd(a->events), .events = POLLIN};
        fds[1] = (struct pollfd){.fd = a->done_fd, .events = POLLIN};
        for (unsigned i = 0; i < n; i++)
            fds[2 + i] =
                (struct pollfd){.fd = gw_driver_kick_fd(a->queues[i].driver), .events = POLLIN};
        if (poll(fds, 2 + n, a->is_running ? SAMPLE_MS : -1) < 0 && errno != EINTR)
            return -errno;
        for (unsigned i = 0; i < n; i++) {
            if (fds[2 + i].revents)
                kick_event(a, i);
        }
        if (a->is_running)
            agent_sample(a);
        if (fds[1].revents)
            agent_run_ended(a);
        if (fds[0].revents)
            channel_event(a);
    }
}

/* ---- Introduction ---- */

/* Lend the control page and the bulk pages; they stay lent until the end. */
static int share_control(struct agent *a, struct pages *own)
{
    uint32_t which[1 + XEN_BULK];
    void *window = NULL;
    int r = pages_lend(own, 1 + XEN_BULK);

    for (uint32_t i = 0; i < 1 + XEN_BULK; i++)
        which[i] = i;
    if (r == 0)
        r = pages_window(own, which, 1 + XEN_BULK, &window);
    if (r < 0)
        return r;
    a->control = window;
    a->bulk = (char *)window + XEN_PAGE;
    a->control->n_refs = XEN_BULK;
    memcpy(a->control->refs, own->refs + 1, sizeof(a->control->refs));
    a->control->magic = XEN_MAGIC;
    return 0;
}

static int introduce(const struct agent *a, const struct pages *own)
{
    struct xs_handle *store = xs_open(0);
    char text[64];
    int n, r = 0;

    if (!store)
        return -errno;
    n = snprintf(text, sizeof(text), "%u %" PRIu32 " %d", XEN_VERSION, own->refs[0],
                 a->control_port);
    if (!xs_write(store, XBT_NULL, XEN_AGENT_KEY, text, (unsigned)n))
        r = -errno;
    xs_close(store);
    return r;
}

static int say(const char *what, int r)
{
    fprintf(stderr, "godwit-xen-agent: %s: %s\n", what, strerror(-r));
    return EXIT_FAILURE;
}

/* Returns: true if the program ends after that, with `ret_status`. */
static bool show_text(int argc, char **argv, int *ret_status)
{
    static const char usage[] =
        "usage: godwit-xen-agent [--help | --version]\n"
        "Runs in a Xen domain and lets godwit in domain 0 use its memory. It serves until it is "
        "killed.\n";

    if (argc < 2)
        return false;
    *ret_status = EXIT_SUCCESS;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
    } else if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("godwit-xen-agent " GW_VERSION_STRING);
    } else {
        fputs(usage, stderr);
        *ret_status = EX_USAGE;
    }
    return true;
}

int main(int argc, char **argv)
{
    static struct agent a = {.lent = {.fd = -1}};
    struct pages own = {.fd = -1};
    int r;

    if (streams_begin(EXIT_FAILURE) < 0)
        return EXIT_FAILURE;
    if (show_text(argc, argv, &r))
        return r;
    a.events = xenevtchn_open(NULL, 0);
    if (!a.events)
        return say("/dev/xen/evtchn (is this a Xen domain?)", -errno);
    a.control_port = xenevtchn_bind_unbound_port(a.events, 0);
    if (a.control_port < 0)
        return say("an event channel to domain 0", -errno);
    r = share_control(&a, &own);
    if (r < 0)
        return say("/dev/xen/gntalloc", r);
    a.done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (a.done_fd < 0)
        return say("an eventfd", -errno);
    r = gw_guest_mem_new(&a.mem, GW_GUEST_UVA_HOST);
    if (r == 0)
        r = gw_guest_track_new(&a.track);
    if (r < 0)
        return say("guest memory", r);
    r = introduce(&a, &own);
    if (r < 0)
        return say("xenstore", r);
    puts("the agent serves domain 0");
    fflush(stdout);
    return say("waiting for events", loop(&a));
}
