/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What every fuzz target defines, under the name that libFuzzer looks for. */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
