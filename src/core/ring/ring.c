/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Code that both ring layouts use. */
#include "ring.h"

#include "base/checked.h"
#include "base/log_i.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int gw_ring_check_size(bool packed, uint32_t size, uint32_t max)
{
    /* The indices of a split ring are modulo 2^16; those of a packed ring wrap at its size. */
    if (!packed && (!gw_is_power_of_two(size) || size > max))
        return gw_fail(-EINVAL, "ring size %u is not a power of two up to %u", size, max);
    if (size == 0 || size > max)
        return gw_fail(-EINVAL, "ring size %u is not from 1 to %u", size, max);
    return 0;
}

int gw_ring_check_memory(bool packed, const struct gw_ring_config *config, const struct gw_map *map)
{
    struct gw_ring ring = {
        .ops = packed ? &gw_ring_packed_ops : &gw_ring_split_ops,
        .config = *config,
    };
    int r = ring.ops->attach(&ring, map);

    gw_ring_detach(&ring);
    return r;
}

int gw_ring_find(struct gw_ring *ring, const struct gw_map *map,
                 struct gw_ring_piece pieces[GW_RING_PIECES])
{
    struct gw_pin pins[GW_RING_PIECES] = {0};
    const struct gw_ring_piece *missing = NULL;
    char why[160];

    for (unsigned i = 0; i < GW_RING_PIECES && !missing; i++) {
        struct gw_ring_piece *p = &pieces[i];

        p->at = gw_map_pin_uva(map, p->uva, p->len, &p->gpa, &pins[i]);
        missing = p->at ? NULL : p;
    }
    gw_ring_detach(ring);
    memcpy(ring->pins, pins, sizeof(pins));
    if (!missing) {
        ring->attached = true;
        return 0;
    }
    snprintf(why, sizeof(why), "%s", gw_last_error());
    gw_ring_detach(ring);
    return gw_fail(-EFAULT,
                   "%s of %u entries at user address %#" PRIx64 " is not in guest memory: %s",
                   missing->name, ring->config.size, missing->uva, why);
}

void gw_ring_detach(struct gw_ring *ring)
{
    ring->attached = false;
    for (unsigned i = 0; i < GW_RING_PIECES; i++)
        gw_mem_unpin(&ring->pins[i]);
}
