/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Messages to people ("log" is the dirty-page log, never this), and the text behind the last error.
 */
#ifndef GODWIT_DIAG_H
#define GODWIT_DIAG_H

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum gw_diag_level {
    GW_DIAG_ERROR = 0, /* something asked for did not happen */
    GW_DIAG_WARNING,   /* it happened, but somebody misbehaved */
    GW_DIAG_INFO,      /* sessions, rings and tables coming and going */
    GW_DIAG_DEBUG,     /* every message on the socket */
};

/*
 * Receives one message: a line of text without its newline, valid during the call only. Each kind
 * of message is limited to a burst of 32, then one a second, and reports how many were suppressed;
 * a daemon whose diag_level is GW_DIAG_DEBUG passes all of them.
 *
 * Context: the control thread, workers, and any thread that calls into the library; may run on
 * several threads at once. Must not block for long and must not call back into the library.
 */
typedef void gw_diag_cb(void *arg, enum gw_diag_level level, const char *message);

/* The name of a level: "error", "warning", "info", "debug". Never NULL. */
const char *gw_diag_level_name(enum gw_diag_level level);

/*
 * The reason of the last call that failed on this thread, as a sentence; "" when there is none.
 * Belongs to the thread and stays valid until its next failing call.
 */
const char *gw_last_error(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
