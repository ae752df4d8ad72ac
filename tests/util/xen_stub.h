/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The Xen libraries without Xen: one domain whose frames are pages of a memfd, and a grant table.
 * Mappings map those pages and copies copy their data. Errors are those of a real Xen: foreign
 * frames fail one by one, and a missing page reads as all ones; grants are mapped all or nothing
 * and copied one by one. In a test, the linker takes these functions before the libraries'.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define XEN_STUB_DOMID  7u
#define XEN_STUB_FRAMES 4096u
#define XEN_STUB_GRANTS 8192u
#define XEN_STUB_PORTS  64u

/* Calls that are counted and that a test can make fail. */
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
    _Atomic unsigned n_copies; /* the grant ends after this number of copies; 0: never */
    _Atomic uint32_t frame;
};

/* State of the domain and its hypervisor; a test may change it while other threads use it. */
struct xen_stub {
    _Atomic int errors[XEN_STUB_N_CALLS]; /* the errno of every such call; 0: success */
    _Atomic unsigned n_calls[XEN_STUB_N_CALLS];
    _Atomic unsigned n_handles;       /* open */
    _Atomic unsigned n_foreign_pages; /* mapped now */
    _Atomic unsigned n_grant_pages;   /* mapped now */
    _Atomic unsigned n_misuses;       /* wrong calls, such as an unmap of what is not mapped */
    _Atomic int frame_errors[XEN_STUB_FRAMES];     /* mapping the frame fails with this errno */
    _Atomic unsigned frame_paged[XEN_STUB_FRAMES]; /* this number of attempts fails with ENOENT */
    struct xen_stub_grant grants[XEN_STUB_GRANTS];
    _Atomic uint32_t restricted_to;          /* domid of the last restrict call; UINT32_MAX: none */
    _Atomic bool is_dead;                    /* the domain has died */
    _Atomic unsigned n_looks;                /* calls of xs_is_domain_introduced */
    _Atomic bool is_offered[XEN_STUB_PORTS]; /* the domain offers this port */
    _Atomic bool is_bound[XEN_STUB_PORTS];   /* the test's process has bound it */
    _Atomic unsigned n_events[XEN_STUB_PORTS]; /* events sent to the domain */
    char introduction[64];                     /* the agent's xenstore entry; "": none */
    uint8_t *memory;                           /* the domain's memory */
};

extern struct xen_stub xen_stub;

/* Create a domain with all frames and no grants; end it, and count leaked resources as misuse. */
void xen_stub_begin(void);
void xen_stub_end(void);

/* Kill the domain and fire the xenstore watch. */
void xen_stub_kill(void);

/* Send an event from the domain; `port` is the domain's number. Returns: is the port bound? */
bool xen_stub_event(uint32_t port);

/* Grant `n` frames, starting with `frame`, by references that start with `ref`. */
void xen_stub_grant(uint32_t ref, uint32_t frame, uint32_t n);
