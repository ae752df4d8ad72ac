/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "migrate_bench.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- replacement for the command's targets ---- */

int target_connect(struct target *t, struct gw_frontend *fe)
{
    int pair[2];

    faulty_backend_end(&t->backend);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    faulty_backend_start(&t->backend, pair[1]);
    return gw_frontend_attach(fe, pair[0]);
}

const char *target_text(const struct target *t)
{
    return "";
}

const char *target_executable(const struct target *t)
{
    return "";
}

const char *target_build_id(const struct target *t)
{
    return "";
}

const char *target_name(const struct target *t)
{
    return t->name;
}

bool target_is_command(const struct target *t)
{
    return false;
}

int target_check(struct target *t)
{
    return 0;
}

int target_stop(struct target *t)
{
    return 0;
}

void target_kill(struct target *t)
{
    faulty_backend_end(&t->backend);
}

int target_bury(struct target *t)
{
    return 0;
}

const char *target_last_lines(struct target *t)
{
    return "";
}

const char *target_error(const struct target *t)
{
    return "";
}

/* ---- one run ---- */

struct bench *bench_new(uint64_t seed)
{
    struct bench *b = calloc(1, sizeof(*b));

    assert_non_null(b);
    b->disk = memfd_create("disk", MFD_CLOEXEC);
    assert_true(b->disk >= 0);
    assert_int_equal(ftruncate(b->disk, BENCH_DISK_BYTES), 0);
    for (unsigned i = 0; i < BENCH_DEVICES_MAX - 1; i++) {
        b->other_disks[i] = memfd_create("disk", MFD_CLOEXEC);
        assert_int_equal(ftruncate(b->other_disks[i], BENCH_DISK_BYTES), 0);
    }
    for (unsigned i = 0; i < BENCH_DEVICES_MAX; i++) {
        struct target *from = &b->sources[i], *to = &b->destinations[i];

        from->name = "source";
        to->name = "destination";
        from->backend.disk_fd = to->backend.disk_fd = i == 0 ? b->disk : b->other_disks[i - 1];
        from->backend.sectors = to->backend.sectors = BENCH_DISK_BYTES / 512;
    }
    b->o = (struct migration_options){
        .seed = seed,
        .memory = 16 << 20,
        .queue_size = 512,
        .warm_up_ms = 30,
        .copy_ms = 120,
        .settle_ms = 60,
        .round_ms = 3,
        .replace_log_ms = 10,
        .region_ms = 25,
        .call_fd_ms = 15,
        .request_ms = 120000, /* a busy machine takes its time */
        .timeout_ms = 600000,
        .log_offset_random = seed % 2,
    };
    return b;
}

static void run_once(struct bench *b)
{
    struct target *targets[2 * BENCH_DEVICES_MAX];
    for (unsigned i = 0; i < BENCH_DEVICES_MAX; i++) {
        targets[2 * i] = &b->sources[i];
        targets[2 * i + 1] = &b->destinations[i];
    }
    assert_int_equal(migration_run(&b->o, targets, NULL, NULL, &b->result), 0);
    for (unsigned i = 0; i < 2 * BENCH_DEVICES_MAX; i++)
        faulty_backend_end(&targets[i]->backend);
}

/* Whether a part of the run ended before a busy machine completed a request in it. */
static bool was_too_short(const struct bench *b)
{
    bool is = false;

    for (unsigned i = 0; i < b->result.n_hops; i++) {
        const struct migration_hop *hop = &b->result.hops[i];

        is = is || hop->requests_logged == 0 || hop->requests_after == 0;
    }
    return is && b->result.requests > 0 && b->result.verdict == MIGRATION_PASSED;
}

static void make_blank(int disk)
{
    assert_int_equal(ftruncate(disk, 0), 0);
    assert_int_equal(ftruncate(disk, BENCH_DISK_BYTES), 0);
}

void bench_run(struct bench *b)
{
    run_once(b);
    for (unsigned i = 0; i < 3 && was_too_short(b); i++) {
        migration_result_done(&b->result);
        make_blank(b->disk);
        for (unsigned j = 0; j < BENCH_DEVICES_MAX - 1; j++)
            make_blank(b->other_disks[j]);
        b->o.copy_ms *= 8;
        b->o.settle_ms *= 8;
        run_once(b);
    }
}

void bench_free(struct bench *b)
{
    migration_result_done(&b->result);
    close(b->disk);
    for (unsigned i = 0; i < BENCH_DEVICES_MAX - 1; i++)
        close(b->other_disks[i]);
    free(b);
}

void bench_show(const struct migration_result *r)
{
    for (unsigned i = 0; i < r->n_faults; i++)
        print_message("fault: %s, %s, %s\n", r->faults[i].who,
                      migration_phase_name(r->faults[i].phase), r->faults[i].text);
    for (unsigned i = 0; i < r->n_lost && i < 8; i++)
        print_message("lost: 0x%llx %s\n", (unsigned long long)r->lost[i].first, r->lost[i].text);
}

void bench_expect_passed(struct bench *b)
{
    if (b->result.verdict != MIGRATION_PASSED)
        bench_show(&b->result);
    assert_int_equal(b->result.verdict, MIGRATION_PASSED);
    assert_int_equal(b->result.n_faults, 0);
    assert_int_equal(b->result.disk_blocks,
                     (b->o.n_devices ? b->o.n_devices : 1) * (BENCH_DISK_BYTES / 4096));
    assert_true(b->result.latency_p50 > 0 && b->result.latency_p50 <= b->result.latency_p99);
    for (unsigned i = 0; i < b->result.n_hops; i++) {
        const struct migration_hop *hop = &b->result.hops[i];

        assert_true(hop->requests_logged > 0 && hop->requests_after > 0);
        assert_true(hop->downtime_ns >= hop->device_stop_ns + hop->device_start_ns);
        assert_true(hop->end_ns - hop->stop_ns >= hop->downtime_ns);
    }
}
