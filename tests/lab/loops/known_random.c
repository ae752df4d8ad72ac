/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Preloaded into an entropy device: getrandom(2) returns numbered records with a seed and a
 * checksum, from KNOWN_RANDOM_SEED, so that the guest can verify what it reads. See
 * guest_entropy.c.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "../entropy.h"

ssize_t getrandom(void *buf, size_t n, unsigned flags)
{
    static uint32_t number;
    const char *seed = getenv("KNOWN_RANDOM_SEED");
    struct entropy record = {.seed = seed != NULL ? (uint32_t)atoi(seed) : 0};

    (void)flags;
    for (size_t at = 0; at < n; at += sizeof(record)) {
        record.number = number++;
        record.check = entropy_check(&record);
        memcpy((char *)buf + at, &record, n - at < sizeof(record) ? n - at : sizeof(record));
    }
    return (ssize_t)n;
}
