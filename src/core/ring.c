/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What the layouts have in common. */
#include "ring.h"

#include "checked.h"
#include "diag_i.h"

#include <errno.h>

int gw_ring_check_size(bool packed, uint32_t size, uint32_t max)
{
    /* The indices of a split ring run on when they overflow; those of a packed one do not. */
    if (!packed && (!gw_is_power_of_two(size) || size > max))
        return gw_fail(-EINVAL, "ring size %u is not a power of two up to %u", size, max);
    if (size == 0 || size > max)
        return gw_fail(-EINVAL, "ring size %u is not from 1 to %u", size, max);
    return 0;
}
