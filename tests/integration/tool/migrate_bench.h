/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A migration between faulty back-ends with a small memory and a small disk. Functions fail the
 * test on error.
 */
#pragma once

#include "faulty_backend.h"
#include "migrate/migrate.h"

#define BENCH_DISK_BYTES  (4u << 20)
#define BENCH_DEVICES_MAX 3

/* Replaces the command's targets. */
struct target {
    const char *name;
    struct faulty_backend backend;
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

/* Print the results, for the reader of the test output. */
void bench_show(const struct migration_result *r);
void bench_expect_passed(struct bench *b);
