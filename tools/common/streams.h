/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The standard streams of a program: open from the start, and flushed at its end. */
#pragma once

/*
 * Call this first in main. It opens /dev/null on each of the descriptors 0 to 2 that is closed;
 * otherwise a file opened later could get such a number and receive messages. If the output cannot
 * be written when the program ends, its exit status is `status_unwritten` instead of 0.
 * Returns: 0 or a negative errno of open.
 */
int streams_begin(int status_unwritten);

/* Flush stdout. Returns: `status`; status_unwritten if `status` is 0 and the output is lost. */
int streams_end(int status);
