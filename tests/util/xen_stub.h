/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The Xen libraries without Xen: one domain whose frames are pages of a memfd, and a grant table.
 * Mappings are real ones of those pages, copies really copy; what goes wrong is as a real Xen has
 * it: errors of foreign frames are told for each, and a missing page reads as all ones; grants are
 * mapped all or nothing and copied one by one. Linked into a test, it comes before the libraries.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define XEN_STUB_DOMID  7u
#define XEN_STUB_FRAMES 4096u
#define XEN_STUB_GRANTS 8192u
#define XEN_STUB_PORTS  64u

/* What is counted, and may be told to fail. */
enum xen_stub_call {
    XEN_STUB_FOREIGN_OPEN,
    XEN_STUB_FOREIGN_MAP,
    XEN_STUB_GRANT_OPEN,
    XEN_STUB_GRANT_MAP,
    XEN_STUB_GRANT_UNMAP,
    XEN_STUB_GRANT_COPY,
    XEN_STUB_STORE_OPEN,
    XEN_STUB_EVENT_OPEN,
    XEN_STUB_N_CALLS,
};

struct xen_stub_grant {
    _Atomic bool valid;
    _Atomic bool read_only;
    _Atomic unsigned n_copies; /* it ends after so many; 0: it does not */
    _Atomic uint32_t frame;
};

/* The domain and its hypervisor: what a test says of them, while others use them. */
struct xen_stub {
    _Atomic int errors[XEN_STUB_N_CALLS]; /* every such call fails with it; 0: none does */
    _Atomic unsigned n_calls[XEN_STUB_N_CALLS];
    _Atomic unsigned n_handles;       /* open */
    _Atomic unsigned n_foreign_pages; /* mapped now */
    _Atomic unsigned n_grant_pages;   /* mapped now */
    _Atomic unsigned n_misuses;       /* unmapped something else than was mapped, and the like */
    _Atomic int frame_errors[XEN_STUB_FRAMES];     /* mapping it fails with that errno */
    _Atomic unsigned frame_paged[XEN_STUB_FRAMES]; /* ... with ENOENT so many times */
    struct xen_stub_grant grants[XEN_STUB_GRANTS];
    _Atomic uint32_t restricted_to;            /* the last handle; UINT32_MAX: none */
    _Atomic bool is_dead;                      /* the domain */
    _Atomic unsigned n_looks;                  /* in xenstore, whether it is */
    _Atomic bool is_offered[XEN_STUB_PORTS];   /* the domain's ends of event channels */
    _Atomic bool is_bound[XEN_STUB_PORTS];     /* ours are */
    _Atomic unsigned n_events[XEN_STUB_PORTS]; /* that the domain got */
    char introduction[64];                     /* of an agent, in xenstore; "": there is none */
    uint8_t *memory;                           /* of the domain */
};

extern struct xen_stub xen_stub;

/* A domain with all frames and no grants; and its end, which tells in n_misuses of what is left. */
void xen_stub_begin(void);
void xen_stub_end(void);

/* The domain dies, and whoever watches is told. */
void xen_stub_kill(void);

/* An event from the domain, by its own name of the port. Returns: is anybody there? */
bool xen_stub_event(uint32_t port);

/* Grant `n` frames from `frame` on, by references from `ref` on. */
void xen_stub_grant(uint32_t ref, uint32_t frame, uint32_t n);
