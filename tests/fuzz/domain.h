/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A Xen domain for one input, if the tree is built for Xen memory: it has some frames, grants some
 * of them read-only or read-write, and offers some event channels.
 */
#pragma once

void fuzz_domain_begin(void);
/* Abort if any mapping or descriptor of the domain is left. */
void fuzz_domain_end(void);
