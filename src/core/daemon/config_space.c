/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Access to the config space that a device keeps as a structure, for its callbacks. */
#include "base/log_i.h"

#include <errno.h>
#include <godwit/daemon.h>
#include <string.h>

static int check_range(uint32_t off, uint32_t len)
{
    if (off > GW_CONFIG_SIZE_MAX || len > GW_CONFIG_SIZE_MAX - off)
        return gw_fail(-EINVAL, "config space of %u bytes at %u is beyond %d", len, off,
                       GW_CONFIG_SIZE_MAX);
    return 0;
}

/* The number of the `len` bytes at `off` that are inside of a structure. */
static size_t count_inside(size_t size, uint32_t off, uint32_t len)
{
    size_t left = off < size ? size - off : 0;

    return len < left ? len : left;
}

int gw_config_read(const void *config, size_t size, uint32_t off, void *buf, uint32_t len)
{
    size_t n = count_inside(size, off, len);
    int r = check_range(off, len);

    if (r < 0)
        return r;
    if (n > 0)
        memcpy(buf, (const uint8_t *)config + off, n);
    if (n < len)
        memset((uint8_t *)buf + n, 0, len - n);
    return 0;
}

int gw_config_write(void *config, size_t size, uint32_t off, const void *buf, uint32_t len)
{
    size_t n = count_inside(size, off, len);
    int r = check_range(off, len);

    if (r < 0)
        return r;
    if (n > 0)
        memcpy((uint8_t *)config + off, buf, n);
    return 0;
}
