/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What the Xen libraries say of their errors, on stderr if nobody listens: we say it ourselves. */
#pragma once

#include <xentoollog.h>

extern xentoollog_logger gw_xen_log;
