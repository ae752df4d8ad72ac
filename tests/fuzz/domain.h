/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A Xen domain for the time of one input, where the tree is built for its memory: some of its
 * frames are there, some are granted, for reading only or for both, and some event channels are
 * offered.
 */
#pragma once

void fuzz_domain_begin(void);
/* The program ends when anything of the domain is still mapped or open. */
void fuzz_domain_end(void);
