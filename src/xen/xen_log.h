/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A logger for the Xen libraries, which would log to stderr otherwise. We log their errors. */
#pragma once

#include <xentoollog.h>

extern xentoollog_logger gw_xen_log;
