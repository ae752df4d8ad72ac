/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A fixture: a daemon with one queue and a driver, all of whose memory belongs to a Xen domain and
 * is announced as one of the kinds below, on a stub of the Xen libraries. The device writes back
 * what it reads, with all bits inverted. Any failure fails the running test.
 */
#pragma once

#include "base/checked.h"
#include "base/proto.h"
#include "core/memory/mem_backend.h"
#include "patience.h"

#include "xen_stub.h"

#include <godwit.h>
#include <godwit/frontend/driver.h>
#include <godwit/frontend/frontend.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define PAGE     UINT64_C(4096)
#define FIRST    256u /* frame of the memory */
#define N_FRAMES 1024u
#define REF      16u /* grant reference of the first frame */
#define DEPTH    16u
#define WAIT_MS  patience_ms()

/* A way to announce the memory. */
struct kind {
    const char *name;
    uint32_t flags;
    gw_gpa_t gpa;
};

enum {
    FOREIGN,
    GRANTS,
    NO_ADVANCE,
    N_KINDS
};

extern const struct kind kinds[N_KINDS];

struct xen_fixture {
    const struct kind *kind;
    struct gw_daemon_config cfg; /* only the fields that differ from the defaults */
    bool packed;
    bool in_order; /* with IN_ORDER, of virtio's features */
    struct gw_daemon *daemon;
    struct gw_frontend *fe;
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    gw_gpa_t buf;      /* 4 pages for each request */
    char said[8][256]; /* last messages of the daemon */
    unsigned n_said;
    _Atomic bool hold; /* the device holds requests */
    _Atomic unsigned n_held;
    struct gw_request *held[64];
    struct gw_post answer; /* completes the held requests */
};

#define XEN_TEST(f) cmocka_unit_test_setup_teardown(f, xen_fixture_setup, xen_fixture_teardown)
int xen_fixture_setup(void **state);
int xen_fixture_teardown(void **state);

/* `b` is zeroed, except for a config. */
void make_daemon(struct xen_fixture *b);
void connect_to(struct xen_fixture *b);
/*
 * Start everything up to a running queue; end it, and check that nothing of the domain stays
 * mapped.
 */
void fixture_begin(struct xen_fixture *b, unsigned kind, bool packed);
void fixture_end(struct xen_fixture *b);
/* Begin the session again on a new connection. */
void restart(struct xen_fixture *b);

/* Does the daemon log this within WAIT_MS? */
bool says(struct xen_fixture *b, const char *part);
/*
 * Request `i` has four pages: 0 and 1 are read, from the middle of page 0; 2 and 3 are written. add
 * fills them and makes the request available without a kick; take waits for `n` completions.
 */
gw_gpa_t page_of(const struct xen_fixture *b, unsigned i, unsigned page);
void add(struct xen_fixture *b, unsigned i, unsigned flags);
/*
 * Returns: number of requests completed with all their bytes, which are checked; the others must
 * have length 0.
 */
unsigned take(struct xen_fixture *b, unsigned n);

/* Number of calls so far. */
unsigned calls(enum xen_stub_call call);
