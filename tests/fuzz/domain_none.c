/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "domain.h"

void fuzz_domain_begin(void)
{
}

void fuzz_domain_end(void)
{
}
