/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Clients: each has a userfaultfd and the addresses of the regions in its process. Nothing that a
 * client provides is trusted: neither its fd nor its base addresses nor the addresses of its
 * faults.
 */
#include "fault_i.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

void gw_fault_client_free(struct gw_fault_client *c)
{
    close(c->uffd);
    free(c->bases);
    free(c);
}

/* Consumes `uffd`, also on failure. */
static int new_client(struct gw_fault_client **ret, struct gw_fault_server *s, int uffd,
                      const char *name, bool is_minor)
{
    struct gw_fault_client *c;
    int r = gw_fault_uffd_check(uffd);

    if (r == 0 && s->cfg.fill == GW_FAULT_CONTINUE && !is_minor)
        r = gw_frontend_fail(
            -EOPNOTSUPP,
            "client %s: it would see incomplete pages, because it does not register"
            " for minor faults",
            name);
    c = r == 0 ? calloc(1, sizeof(*c)) : NULL;
    if (r == 0 && !c)
        r = gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    if (r < 0) {
        gw_peer_fd_close(&uffd);
        return r;
    }
    c->server = s;
    c->uffd = uffd;
    c->is_minor = is_minor;
    snprintf(c->name, sizeof(c->name), "%s", name);
    *ret = c;
    return 0;
}

int gw_fault_server_add_client(struct gw_fault_server *s, struct gw_fault_client **ret, int uffd,
                               const char *name, bool is_minor)
{
    struct epoll_event event = {.events = EPOLLIN};
    struct gw_fault_client **grown, *c;
    int r = new_client(&c, s, uffd, name, is_minor);

    if (r < 0)
        return r;
    pthread_rwlock_wrlock(&s->lock);
    grown = realloc(s->clients, (s->n_clients + 1) * sizeof(struct gw_fault_client *));
    if (grown)
        s->clients = grown;
    else
        r = gw_frontend_fail_fixed(-ENOMEM, "out of memory");
    c->id = s->next_id++;
    event.data.u64 = c->id;
    if (r == 0 && epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, uffd, &event) < 0)
        r = gw_frontend_fail(-errno, "client %s: epoll: %s", name, strerror(errno));
    if (r == 0)
        s->clients[s->n_clients++] = c;
    pthread_rwlock_unlock(&s->lock);
    if (r < 0)
        gw_fault_client_free(c);
    else
        *ret = c;
    return r;
}

void gw_fault_server_remove_client(struct gw_fault_server *s, struct gw_fault_client *c)
{
    pthread_rwlock_wrlock(&s->lock);
    gw_fault_waiters_drop(s, NULL, c);
    /* The client shares the open file, so closing our fd would not remove it from the epoll. */
    (void)epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, c->uffd, NULL);
    for (unsigned i = 0; i < s->n_clients; i++) {
        if (s->clients[i] == c) {
            s->clients[i] = s->clients[--s->n_clients];
            s->clients[s->n_clients] = NULL; /* no pointer to the freed client stays */
            break;
        }
    }
    pthread_rwlock_unlock(&s->lock);
    gw_fault_client_free(c);
}

/* The number of bases that start at or before `address`. */
static unsigned rank(const struct gw_fault_client *c, gw_bva_t address)
{
    unsigned from = 0, to = c->n_bases;

    while (from < to) {
        unsigned mid = from + (to - from) / 2;

        if (c->bases[mid].start <= address)
            from = mid + 1;
        else
            to = mid;
    }
    return from;
}

const struct gw_fault_base *gw_fault_client_find(const struct gw_fault_client *c, gw_bva_t address)
{
    unsigned i = rank(c, address);
    const struct gw_fault_base *b = i ? &c->bases[i - 1] : NULL;

    return b && address - b->start < b->length ? b : NULL;
}

static void remove_base(struct gw_fault_client *c, unsigned i)
{
    c->n_bases--;
    memmove(&c->bases[i], &c->bases[i + 1], (c->n_bases - i) * sizeof(*c->bases));
}

int gw_fault_client_add(struct gw_fault_client *c, struct gw_fault_region *g, gw_bva_t start)
{
    struct gw_fault_base b = {.start = start, .length = g->n_pages * g->page_size, .region = g};
    struct gw_fault_base *grown;
    unsigned i;

    if (c->n_bases == c->room) {
        unsigned room = c->room ? 2 * c->room : 16;

        grown = realloc(c->bases, room * sizeof(*grown));
        if (!grown)
            return gw_frontend_fail_fixed(-ENOMEM, "out of memory");
        c->bases = grown;
        c->room = room;
    }
    /*
     * A previous base of the region stays, because the client's threads use that mapping until they
     * learn the new address. Bases that overlap the new one are gone.
     */
    i = rank(c, start);
    if (i > 0 && start - c->bases[i - 1].start < c->bases[i - 1].length)
        remove_base(c, --i);
    while (i < c->n_bases && c->bases[i].start - start < b.length)
        remove_base(c, i);
    memmove(&c->bases[i + 1], &c->bases[i], (c->n_bases - i) * sizeof(*c->bases));
    c->bases[i] = b;
    c->n_bases++;
    return 0;
}

void gw_fault_client_forget(struct gw_fault_client *c, const struct gw_fault_region *g)
{
    for (unsigned i = c->n_bases; i > 0; i--) {
        if (c->bases[i - 1].region == g)
            remove_base(c, i - 1);
    }
}

static int add_base(struct gw_fault_client *c, gw_gpa_t gpa, uint64_t len, gw_bva_t base)
{
    struct gw_fault_region *g = gw_fault_region_at(c->server, gpa);
    gw_bva_t start;

    if (!g || g->gpa != gpa)
        return gw_frontend_fail(-ENOENT, "client %s: no region begins at 0x%" PRIx64, c->name, gpa);
    if (g->length != len)
        return gw_frontend_fail(
            -EINVAL, "client %s: the region at 0x%" PRIx64 " is not %" PRIu64 " bytes long",
            c->name, gpa, len);
    start = base - g->residual;
    /* Pages of the file must be aligned in the mapping: a wake covers whole pages. */
    if (base < g->residual || start % g->page_size ||
        start + g->n_pages * g->page_size < g->n_pages * g->page_size)
        return gw_frontend_fail(-EINVAL,
                                "client %s: the region at 0x%" PRIx64
                                " cannot be at address 0x%" PRIx64 " with pages of %" PRIu64
                                " bytes",
                                c->name, gpa, base, g->page_size);
    return gw_fault_client_add(c, g, start);
}

int gw_fault_client_add_base(void *client, gw_gpa_t gpa, uint64_t len, gw_bva_t base)
{
    struct gw_fault_client *c = client;
    int r;

    pthread_rwlock_wrlock(&c->server->lock);
    r = add_base(c, gpa, len, base);
    pthread_rwlock_unlock(&c->server->lock);
    return r;
}
