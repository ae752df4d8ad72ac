/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A back-end without memory slots (CONFIGURE_MEM_SLOTS): it receives its memory in tables, like
 * back-ends that only support these.
 */
#include "base/proto.h"

struct gw_daemon;

uint64_t __real_gw_daemon_protocol_features(const struct gw_daemon *d);
uint64_t __wrap_gw_daemon_protocol_features(const struct gw_daemon *d);

uint64_t __wrap_gw_daemon_protocol_features(const struct gw_daemon *d)
{
    return __real_gw_daemon_protocol_features(d) &
           ~(UINT64_C(1) << GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
}
