/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Stub: builds without postcopy never offer it, so they never listen. */
#include "postcopy.h"

#include "base/log_i.h"

#include <errno.h>

static int refuse(void)
{
    return gw_fail(-EOPNOTSUPP, "libgodwit was built without postcopy");
}

int gw_postcopy_probe(void)
{
    return refuse();
}

void gw_postcopy_init(struct gw_postcopy *p)
{
    *p = (struct gw_postcopy){.uffd = -1};
}

int gw_postcopy_advise(struct gw_postcopy *p, int *ret_fd)
{
    return refuse();
}

int gw_postcopy_listen(struct gw_postcopy *p)
{
    return refuse();
}

int gw_postcopy_register(struct gw_postcopy *p, struct gw_postcopy_range *range, const char *what)
{
    return refuse();
}

void gw_postcopy_unregister(struct gw_postcopy_range *range)
{
}

void gw_postcopy_abandon(struct gw_postcopy *p)
{
}

bool gw_postcopy_has_missing(const struct gw_postcopy *p)
{
    return false;
}

int gw_postcopy_end(struct gw_postcopy *p)
{
    return refuse();
}

void gw_postcopy_done(struct gw_postcopy *p)
{
}
