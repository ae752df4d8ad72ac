/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Errors of libgodwit-frontend. A function that can fail returns a negative errno and sets the
 * reason, a sentence for people, which belongs to the calling thread. Out parameters are set only
 * on success.
 *
 * libgodwit has its own function for this, gw_last_error. In a program that links both libraries,
 * ask the library whose function failed: neither changes the reasons of the other.
 */
#ifndef GODWIT_FRONTEND_ERROR_H
#define GODWIT_FRONTEND_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/*
 * The reason of the last failed call of libgodwit-frontend on this thread, as a sentence. Read it
 * before the next call, which may change it.
 *
 * Ownership: the text belongs to the thread and stays valid until its next failed call.
 * Returns: the text; "" if no call has failed.
 * Context: any thread.
 */
const char *gw_frontend_last_error(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
