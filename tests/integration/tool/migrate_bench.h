/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* A migration between suspects, of a memory and a disk that are small. Functions fail the test. */
#pragma once

#include "migrate/migrate.h"
#include "suspect.h"

#define BENCH_DISK_BYTES  (4u << 20)
#define BENCH_DEVICES_MAX 3

/* In place of the targets of the command. */
struct target {
    const char *name;
    struct suspect suspect;
};

struct bench {
    struct target sources[BENCH_DEVICES_MAX], destinations[BENCH_DEVICES_MAX];
    struct migration_options o;
    struct migration_result result;
    int disk, other_disks[BENCH_DEVICES_MAX - 1];
};

struct bench *bench_new(uint64_t seed);
void bench_run(struct bench *b);
void bench_free(struct bench *b);

/* What was found, for who reads the test's output. */
void bench_show(const struct migration_result *r);
void bench_expect_passed(struct bench *b);
