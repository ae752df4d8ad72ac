/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "xen_stub.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>
#include <xenstore.h>

#define PAGE 4096u

enum {
    MAPPINGS_MAX = 4096
};

/* The stub only counts handles. */
struct xenforeignmemory_handle {
    uint32_t domid; /* restricted to this domain; UINT32_MAX: unrestricted */
};

struct xengntdev_handle {
    int unused;
};

/* One handle is enough. As in real xenstore, a new watch fires once. */
struct xs_handle {
    int fd;
};

/*
 * A port can be bound once. The local port number is the domain's number plus OURS. An event masks
 * the port.
 */
#define OURS 1000

struct xenevtchn_handle {
    uint32_t domid; /* restricted to this domain; UINT32_MAX: unrestricted */
    int fd;
    uint32_t port; /* the domain's number */
    bool is_bound;
    bool is_masked;  /* lock */
    bool is_pending; /* lock: an event arrived while the port was masked */
};

struct mapping {
    void *base;
    uint32_t n;
};

struct xen_stub xen_stub;

static int memory_fd = -1, missing_fd = -1;
/*
 * The hypervisor's own mapping of the domain's memory. The atomics that order its copies are in a
 * ring, which ThreadSanitizer sees at two unrelated addresses; copies through the domain's mapping
 * would be reported as races.
 */
static uint8_t *own_view;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the mappings of grants */
static struct mapping mappings[MAPPINGS_MAX];
static struct xs_handle *watcher;                         /* lock */
static struct xenevtchn_handle *channels[XEN_STUB_PORTS]; /* lock */

static int begin_call(enum xen_stub_call call)
{
    xen_stub.n_calls[call]++;
    errno = xen_stub.errors[call];
    return errno;
}

static int file_of(size_t size, int byte)
{
    int fd = memfd_create("domain", MFD_CLOEXEC);
    uint8_t *p;

    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        abort();
    p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        abort();
    if (byte)
        memset(p, byte, size);
    munmap(p, size);
    return fd;
}

void xen_stub_begin(void)
{
    size_t size = (size_t)XEN_STUB_FRAMES * PAGE;

    memset(&xen_stub, 0, sizeof(xen_stub));
    memset(mappings, 0, sizeof(mappings));
    xen_stub.restricted_to = UINT32_MAX;
    memory_fd = file_of(size, 0);
    missing_fd = file_of(PAGE, 0xff);
    xen_stub.memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
    own_view = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
    if (xen_stub.memory == MAP_FAILED || own_view == MAP_FAILED)
        abort();
}

void xen_stub_end(void)
{
    munmap(xen_stub.memory, (size_t)XEN_STUB_FRAMES * PAGE);
    munmap(own_view, (size_t)XEN_STUB_FRAMES * PAGE);
    close(memory_fd);
    close(missing_fd);
    if (xen_stub.n_handles || xen_stub.n_foreign_pages || xen_stub.n_grant_pages)
        xen_stub.n_misuses++;
}

void xen_stub_kill(void)
{
    xen_stub.is_dead = true;
    pthread_mutex_lock(&lock);
    if (watcher)
        (void)eventfd_write(watcher->fd, 1);
    pthread_mutex_unlock(&lock);
}

void xen_stub_grant(uint32_t ref, uint32_t frame, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct xen_stub_grant *g = &xen_stub.grants[ref + i];

        g->frame = frame + i;
        g->read_only = false;
        g->n_copies = 0;
        g->valid = true;
    }
}

/* ---- libxenforeignmemory ---- */

xenforeignmemory_handle *xenforeignmemory_open(struct xentoollog_logger *logger, unsigned flags)
{
    xenforeignmemory_handle *h;

    if (begin_call(XEN_STUB_FOREIGN_OPEN))
        return NULL;
    h = calloc(1, sizeof(*h));
    if (h) {
        h->domid = UINT32_MAX;
        xen_stub.n_handles++;
    }
    return h;
}

int xenforeignmemory_close(xenforeignmemory_handle *h)
{
    xen_stub.n_handles--;
    free(h);
    return 0;
}

int xenforeignmemory_restrict(xenforeignmemory_handle *h, domid_t domid)
{
    h->domid = domid;
    xen_stub.restricted_to = domid;
    return 0;
}

static int frame_error(const xenforeignmemory_handle *h, uint32_t domid, xen_pfn_t frame)
{
    if (h->domid != UINT32_MAX && h->domid != domid)
        return EPERM;
    if (domid != XEN_STUB_DOMID || xen_stub.is_dead)
        return ESRCH;
    if (frame >= XEN_STUB_FRAMES)
        return EINVAL;
    if (xen_stub.frame_paged[frame] > 0) {
        xen_stub.frame_paged[frame]--;
        return ENOENT;
    }
    return xen_stub.frame_errors[frame];
}

/* The number of pages at `at` that are already mapped, and that a new mapping replaces. */
static unsigned count_mapped(const uint8_t *at, size_t pages)
{
    unsigned char present;
    unsigned n = 0;

    /* Reserved address space has no resident pages. */
    for (size_t i = 0; i < pages; i++)
        n += mincore((void *)(at + i * PAGE), PAGE, &present) == 0 && (present & 1);
    return n;
}

void *xenforeignmemory_map2(xenforeignmemory_handle *h, uint32_t domid, void *addr, int prot,
                            int flags, size_t pages, const xen_pfn_t frames[], int errors[])
{
    if (begin_call(XEN_STUB_FOREIGN_MAP))
        return NULL;
    if (!(flags & MAP_FIXED) || !errors || prot != (PROT_READ | PROT_WRITE))
        xen_stub.n_misuses++;
    xen_stub.n_foreign_pages -= count_mapped(addr, pages);
    for (size_t i = 0; i < pages; i++) {
        int e = frame_error(h, domid, frames[i]);
        void *p = mmap((uint8_t *)addr + i * PAGE, PAGE, e ? PROT_READ : prot,
                       MAP_SHARED | MAP_FIXED | MAP_POPULATE, e ? missing_fd : memory_fd,
                       e ? 0 : (off_t)(frames[i] * PAGE));

        if (p == MAP_FAILED) {
            xen_stub.n_foreign_pages -= (unsigned)i;
            return NULL;
        }
        errors[i] = -e;
        xen_stub.n_foreign_pages++;
    }
    return addr;
}

int xenforeignmemory_unmap(xenforeignmemory_handle *h, void *addr, size_t pages)
{
    xen_stub.n_foreign_pages -= (unsigned)pages;
    return munmap(addr, pages * PAGE);
}

/* ---- libxengnttab ---- */

xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger, unsigned flags)
{
    xengnttab_handle *h;

    if (begin_call(XEN_STUB_GRANT_OPEN))
        return NULL;
    h = calloc(1, sizeof(*h));
    if (h)
        xen_stub.n_handles++;
    return h;
}

int xengnttab_close(xengnttab_handle *h)
{
    xen_stub.n_handles--;
    free(h);
    return 0;
}

static struct xen_stub_grant *find_grant(uint32_t domid, uint32_t ref, bool write)
{
    struct xen_stub_grant *g;

    if (domid != XEN_STUB_DOMID || xen_stub.is_dead || ref >= XEN_STUB_GRANTS)
        return NULL;
    g = &xen_stub.grants[ref];
    return g->valid && !(write && g->read_only) ? g : NULL;
}

static void remember(void *base, uint32_t n)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < MAPPINGS_MAX; i++)
        if (!mappings[i].base) {
            mappings[i] = (struct mapping){.base = base, .n = n};
            break;
        }
    pthread_mutex_unlock(&lock);
}

void *xengnttab_map_domain_grant_refs(xengnttab_handle *h, uint32_t count, uint32_t domid,
                                      uint32_t *refs, int prot)
{
    uint8_t *base;

    if (begin_call(XEN_STUB_GRANT_MAP))
        return NULL;
    for (uint32_t i = 0; i < count; i++)
        if (!find_grant(domid, refs[i], prot & PROT_WRITE)) {
            errno = EINVAL;
            return NULL;
        }
    base = mmap(NULL, (size_t)count * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    for (uint32_t i = 0; i < count; i++)
        if (mmap(base + (size_t)i * PAGE, PAGE, prot, MAP_SHARED | MAP_FIXED, memory_fd,
                 (off_t)find_grant(domid, refs[i], false)->frame * PAGE) == MAP_FAILED)
            abort();
    remember(base, count);
    xen_stub.n_grant_pages += count;
    return base;
}

void *xengnttab_map_grant_ref(xengnttab_handle *h, uint32_t domid, uint32_t ref, int prot)
{
    return xengnttab_map_domain_grant_refs(h, 1, domid, &ref, prot);
}

int xengnttab_unmap(xengnttab_handle *h, void *base, uint32_t count)
{
    bool found = false;

    (void)begin_call(XEN_STUB_GRANT_UNMAP);
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < MAPPINGS_MAX && !found; i++)
        if (mappings[i].base == base && mappings[i].n == count) {
            mappings[i].base = NULL;
            found = true;
        }
    pthread_mutex_unlock(&lock);
    if (!found) {
        xen_stub.n_misuses++;
        errno = EINVAL;
        return -1;
    }
    xen_stub.n_grant_pages -= (unsigned)count;
    return munmap(base, (size_t)count * PAGE);
}

static int16_t copy_one(const xengnttab_grant_copy_segment_t *s)
{
    bool in = s->flags & GNTCOPY_source_gref;
    const union xengnttab_copy_ptr *theirs = in ? &s->source : &s->dest;
    struct xen_stub_grant *g = find_grant(theirs->foreign.domid, theirs->foreign.ref, !in);
    uint8_t *at;

    if (!g)
        return GNTST_bad_gntref;
    if (theirs->foreign.offset + s->len > PAGE)
        return GNTST_bad_copy_arg;
    at = own_view + (size_t)g->frame * PAGE + theirs->foreign.offset;
    if (in)
        memcpy(s->dest.virt, at, s->len);
    else
        memcpy(at, s->source.virt, s->len);
    if (g->n_copies > 0 && --g->n_copies == 0)
        g->valid = false;
    return GNTST_okay;
}

int xengnttab_grant_copy(xengnttab_handle *h, uint32_t count, xengnttab_grant_copy_segment_t *segs)
{
    if (begin_call(XEN_STUB_GRANT_COPY))
        return -1;
    for (uint32_t i = 0; i < count; i++)
        segs[i].status = copy_one(&segs[i]);
    return 0;
}

/* ---- libxenstore ---- */

struct xs_handle *xs_open(unsigned long flags)
{
    struct xs_handle *h;

    if (begin_call(XEN_STUB_STORE_OPEN))
        return NULL;
    h = calloc(1, sizeof(*h));
    if (!h)
        return NULL;
    h->fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    xen_stub.n_handles++;
    return h;
}

void xs_close(struct xs_handle *h)
{
    pthread_mutex_lock(&lock);
    if (watcher == h)
        watcher = NULL;
    pthread_mutex_unlock(&lock);
    close(h->fd);
    free(h);
    xen_stub.n_handles--;
}

bool xs_watch(struct xs_handle *h, const char *path, const char *token)
{
    if (strcmp(path, "@releaseDomain") != 0)
        xen_stub.n_misuses++;
    pthread_mutex_lock(&lock);
    watcher = h;
    pthread_mutex_unlock(&lock);
    return true;
}

int xs_fileno(struct xs_handle *h)
{
    return h->fd;
}

char **xs_check_watch(struct xs_handle *h)
{
    eventfd_t count;

    return eventfd_read(h->fd, &count) == 0 ? calloc(2, sizeof(char *)) : NULL;
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned *len)
{
    const char *text = NULL;
    char folder[32];
    size_t n = (size_t)snprintf(folder, sizeof(folder), "/local/domain/%u", XEN_STUB_DOMID);

    if (strcmp(path, folder) == 0)
        text = "";
    else if (strncmp(path, folder, n) == 0 && strcmp(path + n, "/data/godwit-agent") == 0 &&
             xen_stub.introduction[0])
        text = xen_stub.introduction;
    if (!text || xen_stub.is_dead) {
        errno = ENOENT;
        return NULL;
    }
    *len = (unsigned)strlen(text);
    return strdup(text);
}

bool xs_is_domain_introduced(struct xs_handle *h, unsigned domid)
{
    xen_stub.n_looks++;
    return domid == XEN_STUB_DOMID && !xen_stub.is_dead;
}

/* ---- libxenevtchn ---- */

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned flags)
{
    xenevtchn_handle *h;

    if (begin_call(XEN_STUB_EVENT_OPEN))
        return NULL;
    h = calloc(1, sizeof(*h));
    if (!h)
        return NULL;
    h->domid = UINT32_MAX;
    h->fd = eventfd(0, EFD_CLOEXEC);
    xen_stub.n_handles++;
    return h;
}

int xenevtchn_close(xenevtchn_handle *h)
{
    pthread_mutex_lock(&lock);
    if (h->is_bound) {
        channels[h->port] = NULL;
        xen_stub.is_bound[h->port] = false;
    }
    pthread_mutex_unlock(&lock);
    close(h->fd);
    free(h);
    xen_stub.n_handles--;
    return 0;
}

int xenevtchn_fd(xenevtchn_handle *h)
{
    return h->fd;
}

int xenevtchn_restrict(xenevtchn_handle *h, domid_t domid)
{
    h->domid = domid;
    return 0;
}

/* lock */
static void raise_event(xenevtchn_handle *h)
{
    if (h->is_masked) {
        h->is_pending = true;
    } else {
        h->is_masked = true;
        (void)eventfd_write(h->fd, 1);
    }
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *h, uint32_t domid,
                                                     evtchn_port_t port)
{
    errno = domid != XEN_STUB_DOMID || xen_stub.is_dead ? ESRCH : 0;
    if (errno == 0 && h->domid != UINT32_MAX && h->domid != domid)
        errno = EPERM;
    if (errno == 0 && (port >= XEN_STUB_PORTS || !xen_stub.is_offered[port]))
        errno = EINVAL;
    if (errno != 0)
        return -1;
    pthread_mutex_lock(&lock);
    if (channels[port]) {
        pthread_mutex_unlock(&lock);
        errno = EINVAL;
        return -1;
    }
    h->port = port;
    h->is_bound = true;
    channels[port] = h;
    raise_event(h); /* a real event channel is pending when it is bound */
    xen_stub.is_bound[port] = true;
    pthread_mutex_unlock(&lock);
    return (int)port + OURS;
}

int xenevtchn_notify(xenevtchn_handle *h, evtchn_port_t port)
{
    if (!h->is_bound || port != h->port + OURS)
        xen_stub.n_misuses++;
    else
        xen_stub.n_events[h->port]++;
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *h)
{
    eventfd_t count;

    (void)eventfd_read(h->fd, &count); /* blocks, as the real function may */
    return (int)h->port + OURS;
}

int xenevtchn_unmask(xenevtchn_handle *h, evtchn_port_t port)
{
    pthread_mutex_lock(&lock);
    h->is_masked = false;
    if (h->is_pending) {
        h->is_pending = false;
        raise_event(h);
    }
    pthread_mutex_unlock(&lock);
    return 0;
}

bool xen_stub_event(uint32_t port)
{
    bool found;

    pthread_mutex_lock(&lock);
    found = channels[port] != NULL;
    if (found)
        raise_event(channels[port]);
    pthread_mutex_unlock(&lock);
    return found;
}
