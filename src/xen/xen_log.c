/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A logger that drops everything. A Xen library that logs a failure also returns an errno, which we
 * log with the operation that failed. A guest can cause some of these failures as often as it
 * likes, so they must not be logged without a rate limit.
 */
#include "xen_log.h"

static void drop_message(xentoollog_logger *logger, xentoollog_level level, int errnoval,
                         const char *context, const char *format, va_list al)
{
}

static void drop_progress(xentoollog_logger *logger, const char *context, const char *doing_what,
                          int percent, unsigned long done, unsigned long total)
{
}

static void destroy(xentoollog_logger *logger)
{
}

xentoollog_logger gw_xen_log = {
    .vmessage = drop_message,
    .progress = drop_progress,
    .destroy = destroy,
};
