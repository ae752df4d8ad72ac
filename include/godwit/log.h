/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Messages to people, and the text of the last error. The bitmap of pages that a device wrote is
 * always called the dirty log.
 */
#ifndef GODWIT_LOG_H
#define GODWIT_LOG_H

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum gw_log_level {
    GW_LOG_ERROR = 0, /* a requested action failed */
    GW_LOG_WARNING,   /* it succeeded, but a peer misbehaved */
    GW_LOG_INFO,      /* start and end of sessions and rings, changes of tables */
    GW_LOG_DEBUG,     /* every message on the socket */
};

/*
 * Receives one message: a line of text without its newline, valid during the call only. Each kind
 * of message is limited to a burst of 32, then one a second, with the number of suppressed ones; a
 * daemon whose log_level is GW_LOG_DEBUG passes all of them.
 *
 * Context: the control worker, the other workers, and any thread that calls into the library; may
 * run on several threads at once. It must not block for long and must not call the library.
 */
typedef void gw_log_cb(void *arg, enum gw_log_level level, const char *message);

/*
 * The name of a level: "error", "warning", "info", "debug", or "unknown".
 *
 * Ownership: a constant.
 * Returns: the name, never NULL.
 * Context: any thread.
 */
const char *gw_log_level_name(enum gw_log_level level);

/*
 * The reason of the last failed call of libgodwit on this thread, as a sentence. Every function
 * that returns a negative errno sets it. Read it before the next call, which may change it.
 *
 * Ownership: the text belongs to the thread and stays valid until its next failed call.
 * Returns: the text; "" if no call has failed.
 * Context: any thread.
 */
const char *gw_last_error(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
