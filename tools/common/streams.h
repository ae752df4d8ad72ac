/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The standard streams of a program: open from the start, and written to the end. */
#pragma once

/*
 * To be called first in main. Opens those of the descriptors 0 to 2 that are closed on /dev/null,
 * so that no file that is opened later gets their number and is written to by a message. When the
 * program ends and its output could not be written, it ends with `status_unwritten` instead of 0.
 * Returns: 0; the errno of open.
 */
int streams_begin(int status_unwritten);

/* Write what is buffered for stdout. Returns: `status`; if that is 0 and it fails, the other one.
 */
int streams_end(int status);
