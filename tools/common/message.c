/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Log messages on stderr. Each line is written with one call, so that lines of different threads do
 * not mix. If stderr goes to the journal (JOURNAL_STREAM is set), the priority is prefixed as
 * described in sd-daemon(3).
 */
#include "backend.h"

#include "base/clock.h"
#include "base/log_limit.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static struct {
    const char *name;
    enum gw_log_level level;
    bool has_journal;
} say = {.name = "godwit", .level = GW_LOG_WARNING};

/* For messages that do not belong to a device. */
static struct backend_log program_log = BACKEND_LOG_INIT;

void backend_log_init(struct backend_log *log, const char *device)
{
    *log = (struct backend_log)BACKEND_LOG_INIT;
    log->device = device;
}

void backend_say_init(const char *name, unsigned verbose)
{
    say.name = name;
    say.level = verbose == 0 ? GW_LOG_WARNING : verbose == 1 ? GW_LOG_INFO : GW_LOG_DEBUG;
    say.has_journal = getenv("JOURNAL_STREAM") != NULL;
}

enum gw_log_level backend_say_level(void)
{
    return say.level;
}

static void write_line(struct backend_log *log, enum gw_log_level level, const char *text)
{
    static const char *const priorities[] = {
        [GW_LOG_ERROR] = "<3>",
        [GW_LOG_WARNING] = "<4>",
        [GW_LOG_INFO] = "<6>",
        [GW_LOG_DEBUG] = "<7>",
    };
    const char *priority = say.has_journal && level <= GW_LOG_DEBUG ? priorities[level] : "";

    if (level > say.level)
        return;
    if (level == GW_LOG_ERROR) {
        pthread_mutex_lock(&log->error_lock);
        snprintf(log->error, sizeof(log->error), "%.*s", (int)sizeof(log->error) - 1, text);
        pthread_mutex_unlock(&log->error_lock);
    }
    /* glibc buffers one fprintf on an unbuffered stream and writes it with one system call. */
    fprintf(stderr, "%s%s: %s: %s%s%s\n", priority, say.name, gw_log_level_name(level),
            log->device != NULL ? log->device : "", log->device != NULL ? ": " : "", text);
}

void backend_log_error(struct backend_log *log, char *text, size_t size)
{
    pthread_mutex_lock(&log->error_lock);
    snprintf(text, size, "%s", log->error);
    log->error[0] = '\0';
    pthread_mutex_unlock(&log->error_lock);
}

/* The library has rate-limited these messages already. */
void backend_log_cb(void *arg, enum gw_log_level level, const char *message)
{
    write_line(arg != NULL ? arg : &program_log, level, message);
}

/* As in the library, nothing is rate-limited at the level that logs every vhost-user message. */
static bool passes_limit(struct backend_log *log, const char *format, uint64_t *ret_held)
{
    *ret_held = 0;
    return say.level >= GW_LOG_DEBUG ||
           gw_log_limiter_pass(&log->limiter, format, gw_clock_coarse_ns(), ret_held);
}

void backend_say(struct backend_log *log, enum gw_log_level level, const char *format, ...)
{
    char text[1024];
    uint64_t n_held;
    va_list args;
    int used;

    if (log == NULL)
        log = &program_log;
    if (level > say.level || !passes_limit(log, format, &n_held))
        return;
    va_start(args, format);
    used = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n_held > 0 && used > 0 && (size_t)used < sizeof(text))
        snprintf(text + used, sizeof(text) - (size_t)used,
                 " (%" PRIu64 " similar messages suppressed)", n_held);
    write_line(log, level, text);
}
