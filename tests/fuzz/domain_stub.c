/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "domain.h"

#include "xen_stub.h"

#include <errno.h>
#include <stdlib.h>

enum {
    FIRST = 16, /* first frame and reference granted read-write */
    N_WRITABLE = 512,
    N_READ_ONLY = 8, /* after those */
    HOLE = 1024,     /* a missing frame */
    PAGED = 1025,    /* a paged-out frame: the first mapping attempt must be repeated */
    N_PORTS = 4,
};

void fuzz_domain_begin(void)
{
    xen_stub_begin();
    xen_stub_grant(FIRST, FIRST, N_WRITABLE + N_READ_ONLY);
    for (unsigned i = 0; i < N_READ_ONLY; i++)
        xen_stub.grants[FIRST + N_WRITABLE + i].read_only = true;
    xen_stub.frame_errors[HOLE] = EINVAL;
    xen_stub.frame_paged[PAGED] = 1;
    for (unsigned i = 0; i < N_PORTS; i++)
        xen_stub.is_offered[i] = true;
}

void fuzz_domain_end(void)
{
    xen_stub_end();
    if (xen_stub.n_misuses)
        abort();
}
