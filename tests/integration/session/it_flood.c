/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One client repeats the same action: refused messages, sessions, rings, tables, chains. What the
 * daemon logs and what it keeps open, mapped and resident does not grow with the number of
 * repetitions, and it serves its other queue in between.
 */
#include "../fixtures/bad.h"
#include "base/clock.h"
#include "fdcheck.h"
#include "requires.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINES_MAX    150 /* three kinds of message, a burst of each */
#define RESIDENT_MAX (UINT64_C(32) << 20)
#define WARM_UP      50 /* repetitions until all permanent allocations are made */

/* Provides the path only; the daemon is `d`, whose log is rate-limited. */
static struct fixture fixture;
static struct gw_daemon *d;
static struct disk disk;
static unsigned n_lines; /* atomic */

static void count_line(void *arg, enum gw_log_level level, const char *message)
{
    __atomic_add_fetch(&n_lines, 1, __ATOMIC_RELAXED);
}

/* ---- what may grow ---- */

struct usage {
    unsigned n_things; /* open descriptors and mappings */
    uint64_t resident; /* bytes */
};

static struct usage measure(void)
{
    FILE *maps = fopen("/proc/self/maps", "re"), *statm = fopen("/proc/self/statm", "re");
    DIR *dir = opendir("/proc/self/fd");
    unsigned long long size, resident;
    struct usage u = {0};
    int c;

    assert_non_null(maps);
    assert_non_null(statm);
    assert_non_null(dir);
    while (readdir(dir))
        u.n_things++;
    while ((c = getc(maps)) != EOF)
        u.n_things += c == '\n';
    assert_int_equal(fscanf(statm, "%llu %llu", &size, &resident), 2);
    u.resident = resident * (uint64_t)sysconf(_SC_PAGESIZE);
    closedir(dir);
    fclose(statm);
    fclose(maps);
    return u;
}

/* ---- the daemon ---- */

static void begin(void)
{
    struct gw_daemon_config cfg = {
        .size = sizeof(cfg),
        .num_queues = FIXTURE_QUEUES,
        .request_size = disk_request_size(),
        .log = count_line,
        .log_level = GW_LOG_INFO,
    };

    memset(&fixture, 0, sizeof(fixture));
    strcpy(fixture.dir, "/tmp/godwit-it-XXXXXX");
    assert_non_null(mkdtemp(fixture.dir));
    snprintf(fixture.path, sizeof(fixture.path), "%s/socket", fixture.dir);
    assert_int_equal(disk_init(&disk, DISK_RAM, 0), 0);
    assert_int_equal(gw_daemon_new(&d, &cfg, &disk_ops, &disk), 0);
    assert_int_equal(gw_daemon_start_path(d, fixture.path), 0);
}

static void end(void)
{
    gw_daemon_free(d);
    disk_done(&disk);
    assert_int_equal(rmdir(fixture.dir), 0);
}

/* ---- the repeated actions ---- */

static void refused_message(struct guest *g)
{
    const struct gw_wire_vring_state state = {.index = 7, .num = 1};
    const struct bad_message m = {.request = GW_MSG_SET_VRING_ENABLE,
                                  .flags = GW_MSG_VERSION,
                                  .size = sizeof(state),
                                  .payload = &state,
                                  .length = sizeof(state)};

    assert_true(bad_send(g, "queue 7", &m, REFUSED));
}

static void unknown_message(struct guest *g)
{
    const struct bad_message m = {.request = 1000, .flags = GW_MSG_VERSION};

    assert_true(bad_send(g, "message 1000", &m, REFUSED));
}

static void bad_chain(struct guest *g)
{
    const struct gw_driver_buf buf = {GUEST_GPA - 1, 16};
    struct gw_driver_used used;

    assert_int_equal(gw_driver_add(g->drivers[0], &buf, 1, 0, 1, 0), 0);
    gw_driver_kick(g->drivers[0]);
    while (gw_driver_take(g->drivers[0], &used, 1) == 0)
        assert_true(gw_driver_wait(g->drivers[0], FIXTURE_STALL_MS) >= 0);
}

static void stop_and_start(struct guest *g)
{
    uint32_t base;

    assert_int_equal(gw_frontend_get_vring_base(g->fe, 0, &base), 0);
    assert_int_equal(gw_frontend_start_queue(g->fe, g->drivers[0]), 0);
}

static void memory_table(struct guest *g)
{
    assert_int_equal(gw_frontend_set_mem_table(g->fe, g->mem), 0);
}

static void reconnect(struct guest *g)
{
    uint64_t features;

    guest_done(g);
    guest_init(g, 16);
    assert_int_equal(fixture_connect(&fixture, g->fe), 0);
    assert_int_equal(gw_frontend_get_features(g->fe, &features), 0);
}

/* The flags are invalid in every message, so the session ends. */
static void reconnect_with_garbage(struct guest *g)
{
    const struct bad_message m = {.request = GW_MSG_GET_FEATURES, .flags = 0xff};
    static struct gw_frontend_message answer;

    guest_done(g);
    guest_init(g, 16);
    assert_int_equal(fixture_connect(&fixture, g->fe), 0);
    (void)gw_frontend_send_raw(g->fe, m.request, m.flags, 0, NULL, 0, NULL, 0);
    assert_int_equal(gw_frontend_receive(g->fe, &answer, FIXTURE_STALL_MS), -ECONNRESET);
}

static const struct flood {
    const char *name;
    void (*once)(struct guest *g);
    unsigned n;
    bool reconnects;
} floods[] = {
    {"refused messages", refused_message, 3000, false},
    {"unknown messages", unknown_message, 3000, false},
    {"bad chains", bad_chain, 3000, false},
    {"stops and starts", stop_and_start, 1000, false},
    {"memory tables", memory_table, 1000, false},
    {"sessions", reconnect, 500, true},
    {"sessions of garbage", reconnect_with_garbage, 500, true},
};

static void run_flood(const struct flood *f)
{
    uint64_t since = gw_clock_ms() / 1000;
    struct usage before = {0}, after;
    struct guest g;

    begin();
    assert_int_equal(bad_stage(&fixture, &g, STAGE_RUNNING, true), 0);
    for (unsigned i = 0; i < f->n; i++) {
        if (i == WARM_UP)
            before = measure();
        f->once(&g);
        if (!f->reconnects && i % 100 == 0)
            assert_int_equal(guest_io(&g, 1, 8, (uint8_t)i), 0);
    }
    after = measure();
    /* Other threads close the descriptors of a peer a little later. */
    for (unsigned ms = 0; after.n_things > before.n_things + 40 && ms < patience_ms(); ms += 10) {
        usleep(10000);
        after.n_things = measure().n_things;
    }
    guest_done(&g);
    assert_int_equal(bad_stage(&fixture, &g, STAGE_RUNNING, true), 0);
    assert_int_equal(guest_io(&g, 0, 0, 1), 0);
    guest_done(&g);
    end();
    printf("%s: %u times, %u lines\n", f->name, f->n, n_lines);
    assert_in_range(n_lines, 1, LINES_MAX + 5 * (gw_clock_ms() / 1000 - since));
    assert_in_range(after.n_things, 0, before.n_things + 40);
    if (!is_under_asan() && !is_under_tsan())
        assert_in_range(after.resident, 0, before.resident + RESIDENT_MAX);
}

static void test_flood_makes_nothing_grow(void **state)
{
    for (unsigned i = 0; i < sizeof(floods) / sizeof(floods[0]); i++) {
        n_lines = 0;
        run_flood(&floods[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {FDCHECK_TEST(test_flood_makes_nothing_grow)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
