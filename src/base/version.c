/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include <godwit/version.h>

const char *gw_version(void)
{
    return GW_VERSION_STRING;
}
