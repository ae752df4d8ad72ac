/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The entry point of every fuzz target, under the name that libFuzzer expects. */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
