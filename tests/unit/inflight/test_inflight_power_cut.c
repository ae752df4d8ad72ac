/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Death at any instruction (power_cut.h). After each store of a device to its ring or its inflight
 * part, the next device must find every request of the driver exactly once: answered, to be
 * resubmitted, or still on the ring. It must then be able to complete all of them.
 */
#include "power_cut.h"

#include "base/checked.h"

#include "fdcheck.h"
#include "requires.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Instrumented code runs many more instructions, so meson reduces the number of requests. */
#ifndef POWER_CUT_SHARE
#define POWER_CUT_SHARE 1
#endif

/* Every 16th state that recovery has to write to is recovered step by step, with a second death. */
#define SECOND_DEATH_EVERY 16

/* One run of a device until it has completed all requests. */
struct run {
    const struct power_cut_config *cfg;
    enum power_cut_fault fault;
    struct power_cut_fixture fixture;
    struct power_cut_fixture copy;   /* recovery runs on this copy */
    struct power_cut_fixture second; /* interrupted recovery runs on this copy */
    struct power_cut_driver driver;
    struct power_cut_state last;
    struct power_cut_state second_last;
    uint32_t last_turn;
    unsigned dies_at; /* states */
    unsigned n_lives; /* of devices */
    unsigned seed;
    unsigned n_states;    /* states recovered from */
    unsigned n_unsettled; /* states that recovery writes to */
    unsigned n_second_states;
    unsigned n_again; /* resubmitted requests in all states */
    long n_steps;
    const char *why; /* the first error */
};

/* ---- the device, in the child ---- */

static void complete_some(struct power_cut_device *dev, unsigned *seed)
{
    unsigned which[POWER_CUT_SIZE_MAX], n, left = dev->n_held;

    n = gw_min_u(left, 1 + power_cut_random(seed, dev->cfg->batch));
    for (unsigned i = 0; i < n; i++) {
        bool again;

        /* A random choice without repetition. */
        do {
            which[i] = dev->cfg->in_order ? i : power_cut_random(seed, left);
            again = false;
            for (unsigned k = 0; k < i; k++)
                again = again || which[k] == which[i];
        } while (again);
    }
    if (n > 0)
        power_cut_device_complete(dev, which, n);
}

static void device_main(void *arg)
{
    struct run *run = arg;
    const struct power_cut_config *cfg = run->cfg;
    struct power_cut_device dev;
    unsigned seed = cfg->seed, n_popped = 0, n_new;

    power_cut_step_here();
    if (power_cut_device_start(&dev, cfg, &run->fixture))
        _exit(1);
    dev.fault = run->fault;
    while (cfg->life > 0 || n_popped < cfg->n_reqs || dev.n_held > 0) {
        power_cut_ask_driver(run->fixture.mem);
        n_new = 0;
        for (unsigned n = 1 + power_cut_random(&seed, cfg->size); n > 0; n--)
            n_new += power_cut_device_pop(&dev);
        if (n_new > 0 && power_cut_random(&seed, 4) == 0) {
            power_cut_device_unpop(&dev);
            n_new--;
        }
        n_popped += n_new;
        complete_some(&dev, &seed);
    }
    power_cut_device_done(&dev);
}

static void queue_main(void *arg)
{
    const struct run *run = arg;

    power_cut_queue_main(run->cfg, &run->fixture);
}

/* ---- recovery ---- */

/* The held requests must be the oldest unanswered ones; all others must be on the ring. */
static const char *check_found(const struct power_cut_device *dev,
                               const struct power_cut_driver *driver)
{
    unsigned req = 0;

    for (unsigned i = 0; i < dev->n_held; i++, req++) {
        while (req < driver->n_made && driver->answered[req])
            req++;
        if (dev->held[i].req < req)
            return "a request is done again that was answered, or out of order";
        if (dev->held[i].req > req || req == driver->n_made)
            return "a request is lost, or done again out of order";
    }
    return NULL;
}

static const char *complete_and_take(struct power_cut_device *dev, struct power_cut_driver *driver,
                                     unsigned n)
{
    unsigned which[POWER_CUT_SIZE_MAX];

    for (unsigned i = 0; i < n; i++)
        which[i] = i;
    power_cut_device_complete(dev, which, n);
    return power_cut_driver_take(driver);
}

/* Complete all requests in batches of `n`. */
static const char *finish(struct power_cut_device *dev, struct power_cut_driver *driver, unsigned n)
{
    const char *why = NULL;

    while (power_cut_device_pop(dev))
        ;
    while (!why && dev->n_held > 0)
        why = complete_and_take(dev, driver, gw_min_u(n, dev->n_held));
    for (unsigned i = 0; !why && i < driver->n_made; i++)
        if (driver->answered[i] != 1)
            why = driver->answered[i] ? "a request is answered twice" : "a request is not answered";
    return why;
}

static void fill_ring(struct power_cut_driver *driver)
{
    while (power_cut_driver_add(driver, 1))
        ;
}

/* What happens to a copy of the memory before the device that is tested starts on it. */
enum between {
    NOTHING,
    DRIVER_GOES_ON,
    ANOTHER_TAKES,   /* another device takes requests added after the death, and dies */
    ANOTHER_ANSWERS, /* another device answers the oldest request, takes more, and dies */
};

static const char *live_and_die(struct run *run, struct power_cut_driver *driver, bool answers)
{
    struct power_cut_device dev;
    const char *why = power_cut_device_start(&dev, run->cfg, &run->copy);

    if (why)
        return why;
    if (answers && dev.n_held > 0)
        why = complete_and_take(&dev, driver, 1);
    while (power_cut_device_pop(&dev))
        ;
    power_cut_device_done(&dev);
    return why;
}

static const char *recover(struct run *run, const struct power_cut_state *state,
                           enum between between, unsigned batch)
{
    struct power_cut_driver driver = run->driver;
    struct power_cut_device dev;
    const char *why = NULL;

    run->copy.mem->state = *state;
    driver.state = &run->copy.mem->state;
    if (between == DRIVER_GOES_ON || between == ANOTHER_TAKES) {
        why = power_cut_driver_take(&driver);
        fill_ring(&driver);
    }
    if (!why && (between == ANOTHER_TAKES || between == ANOTHER_ANSWERS))
        why = live_and_die(run, &driver, between == ANOTHER_ANSWERS);
    if (!why)
        why = power_cut_device_start(&dev, run->cfg, &run->copy);
    if (why)
        return why;
    run->n_again += dev.n_again;
    why = power_cut_driver_take(&driver);
    if (!why)
        why = check_found(&dev, &driver);
    if (!why)
        why = finish(&dev, &driver, batch);
    /* No slot is lost: the whole ring can be in flight. */
    fill_ring(&driver);
    if (!why)
        why = finish(&dev, &driver, POWER_CUT_SIZE_MAX);
    power_cut_device_done(&dev);
    return why;
}

static const char *recover_in_all_ways(struct run *run, const struct power_cut_state *state)
{
    const char *why = NULL;

    for (int between = NOTHING; between <= ANOTHER_ANSWERS && !why; between++)
        for (unsigned batch = 1; batch <= 3 && !why; batch += 2)
            why = recover(run, state, (enum between)between, batch);
    return why;
}

/* ---- death while recovering ---- */

static void recovery_main(void *arg)
{
    struct run *run = arg;
    struct power_cut_device dev;

    power_cut_step_here();
    if (power_cut_device_start(&dev, run->cfg, &run->second))
        _exit(1);
    power_cut_device_done(&dev);
}

static bool look_at_recovery(void *arg)
{
    struct run *run = arg;
    struct power_cut_state *now = &run->second.mem->state;

    if (memcmp(&run->second_last, now, sizeof(*now)) == 0)
        return true;
    run->second_last = *now;
    run->n_second_states++;
    run->why = recover_in_all_ways(run, now);
    return !run->why;
}

/* Does recovery change this state? */
static bool recovery_writes(struct run *run, const struct power_cut_state *state)
{
    struct power_cut_device dev;

    run->copy.mem->state = *state;
    if (!power_cut_device_start(&dev, run->cfg, &run->copy))
        power_cut_device_done(&dev);
    return memcmp(&run->copy.mem->state, state, sizeof(*state)) != 0;
}

static void die_while_recovering(struct run *run, const struct power_cut_state *state)
{
    if (run->why || !recovery_writes(run, state) || run->n_unsettled++ % SECOND_DEATH_EVERY != 0)
        return;
    run->second.mem->state = run->second_last = *state;
    assert_true(power_cut_step(recovery_main, look_at_recovery, run) > 0);
}

/* ---- watching ---- */

static void drive(struct run *run)
{
    struct power_cut_driver *d = &run->driver;

    if (!run->why)
        run->why = power_cut_driver_take(d);
    for (unsigned n = power_cut_random(&run->seed, run->cfg->size + 1); n > 0; n--)
        if (d->n_made < run->cfg->n_reqs)
            power_cut_driver_add(d, 1 + power_cut_random(&run->seed, run->cfg->chain));
}

static bool is_over(const struct run *run)
{
    return run->why || run->driver.n_answered == run->cfg->n_reqs;
}

/* Returns: shall the device continue? */
static bool look(void *arg)
{
    struct run *run = arg;
    struct power_cut_state *now = &run->fixture.mem->state;
    uint32_t turn = __atomic_load_n(&run->fixture.mem->turn, __ATOMIC_ACQUIRE);

    if (turn != run->last_turn)
        drive(run);
    run->last_turn = turn;
    if (run->cfg->life && is_over(run))
        return false;
    if (run->why || memcmp(&run->last, now, sizeof(*now)) == 0)
        return !run->why;
    run->last = *now;
    run->n_states++;
    run->why = recover_in_all_ways(run, now);
    die_while_recovering(run, now);
    return !run->why && run->n_states != run->dies_at;
}

/* Run one device after another, or one that lives to the end. */
static void live(struct run *run, void (*child)(void *arg))
{
    do {
        long n;

        run->dies_at = run->cfg->life ? run->n_states + run->cfg->life : 0;
        n = power_cut_step(child, look, run);
        assert_true(n > 0);
        run->n_steps += n;
        run->n_lives++;
    } while (run->cfg->life && !is_over(run));
}

/* Returns: NULL or the first error. */
static const char *run_all(struct run *run, const struct power_cut_config *cfg,
                           enum power_cut_fault fault, void (*child)(void *arg))
{
    memset(run, 0, sizeof(*run));
    run->cfg = cfg;
    run->fault = fault;
    run->seed = cfg->seed;
    power_cut_fixture_init(&run->fixture);
    power_cut_fixture_init(&run->copy);
    power_cut_fixture_init(&run->second);
    power_cut_driver_init(&run->driver, cfg, &run->fixture.mem->state);
    run->last = run->fixture.mem->state;
    live(run, child);
    if (!run->why)
        run->why = power_cut_driver_take(&run->driver);
    if (!run->why && run->driver.n_answered != cfg->n_reqs)
        run->why = "not everything was answered in the end";
    power_cut_fixture_done(&run->second);
    power_cut_fixture_done(&run->copy);
    power_cut_fixture_done(&run->fixture);
    return run->why;
}

/* ---- tests ---- */

/* clang-format off */
static const struct power_cut_config configs[] = {
    {.name = "split, one at a time", .size = 8, .start = 65530, .chain = 1, .batch = 1,
     .n_reqs = 24, .seed = 1},
    {.name = "split, batches of 3", .size = 8, .start = 65530, .chain = 3, .batch = 3,
     .n_reqs = 30, .seed = 2},
    {.name = "split, batches of any size", .size = 16, .start = 65500, .chain = 1, .batch = 16,
     .n_reqs = 40, .seed = 3},
    {.name = "split, in order", .size = 8, .start = 65530, .chain = 2, .batch = 8, .n_reqs = 30,
     .in_order = true, .seed = 4},
    {.name = "split, many lives", .size = 8, .start = 65530, .chain = 2, .batch = 3, .n_reqs = 30,
     .life = 37, .seed = 21},
    {.name = "packed, one at a time", .packed = true, .size = 8, .start = 5, .chain = 1, .batch = 1,
     .n_reqs = 30, .seed = 5},
    {.name = "packed, batches of 3", .packed = true, .size = 7, .start = 5, .chain = 3, .batch = 3,
     .n_reqs = 30, .seed = 6},
    {.name = "packed, batches of any size", .packed = true, .size = 16, .chain = 1, .batch = 16,
     .n_reqs = 40, .seed = 7},
    {.name = "packed, in order", .packed = true, .size = 8, .start = 7, .chain = 2, .batch = 8,
     .n_reqs = 30, .in_order = true, .seed = 8},
    {.name = "packed, many lives", .packed = true, .size = 9, .start = 5, .chain = 3, .batch = 3,
     .n_reqs = 30, .life = 53, .seed = 22},
};

/* Each turn of a worker takes a few thousand instructions. */
static const struct power_cut_config queue_configs[] = {
    {.name = "split", .size = 8, .start = 65530, .chain = 3, .batch = 4, .n_reqs = 20, .seed = 11},
    {.name = "split, in order", .size = 8, .start = 65530, .chain = 2, .batch = 8, .n_reqs = 20,
     .in_order = true, .seed = 12},
    {.name = "packed", .packed = true, .size = 7, .start = 5, .chain = 3, .batch = 4, .n_reqs = 20,
     .seed = 13},
    {.name = "packed, in order", .packed = true, .size = 8, .start = 7, .chain = 2, .batch = 8,
     .n_reqs = 20, .in_order = true, .seed = 14},
    {.name = "split, many lives", .size = 8, .chain = 3, .batch = 4, .n_reqs = 20, .life = 31,
     .seed = 15},
    {.name = "packed, many lives", .packed = true, .size = 8, .chain = 3, .batch = 4, .n_reqs = 20,
     .life = 41, .seed = 16},
    {.name = "packed, in order, many lives", .packed = true, .size = 11, .start = 9, .chain = 2,
     .batch = 8, .n_reqs = 20, .in_order = true, .life = 43, .seed = 17},
};
/* clang-format on */

static void lose_nothing(const struct power_cut_config *whole, const char *what,
                         void (*child)(void *arg))
{
    struct power_cut_config part = *whole, *cfg = &part;
    struct run run;

    part.n_reqs /= POWER_CUT_SHARE;
    if (POWER_CUT_SHARE > 1 && part.life)
        return;
    if (run_all(&run, cfg, POWER_CUT_RIGHT, child))
        fail_msg("%s, %s, seed %u: after instruction %ld: %s", what, cfg->name, cfg->seed,
                 run.n_steps, run.why);
    print_message("%s, %s: %u lives, %ld instructions, %u states and %u of recovery, %u requests"
                  " again\n",
                  what, cfg->name, run.n_lives, run.n_steps, run.n_states, run.n_second_states,
                  run.n_again);
    assert_true(run.n_states > 4 * cfg->n_reqs);
}

static void test_inflight_power_cut_anywhere_loses_nothing(void **state)
{
    for (unsigned i = 0; i < GW_ARRAY_SIZE(configs); i++)
        lose_nothing(&configs[i], "device", device_main);
}

static void test_inflight_power_cut_queue_loses_nothing(void **state)
{
    for (unsigned i = 0; i < GW_ARRAY_SIZE(queue_configs); i++)
        lose_nothing(&queue_configs[i], "queue", queue_main);
}

/* The test detects each fault. */
static void test_inflight_power_cut_device_in_another_order_is_found_out(void **state)
{
    struct run run;

    for (unsigned i = 0; i < GW_ARRAY_SIZE(configs); i++)
        for (int fault = POWER_CUT_CLEARS_FIRST; fault <= POWER_CUT_FORGETS_TO_TAKE;
             fault += POWER_CUT_SHARE)
            if (!run_all(&run, &configs[i], (enum power_cut_fault)fault, device_main))
                fail_msg("%s: fault %d was not found", configs[i].name, fault);
}

static void nothing(void *arg)
{
    (void)arg;
    power_cut_step_here();
}

static bool go_on(void *arg)
{
    (void)arg;
    return true;
}

/* usage: test_inflight_power_cut [TEST] */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_inflight_power_cut_anywhere_loses_nothing),
        FDCHECK_TEST(test_inflight_power_cut_queue_loses_nothing),
        FDCHECK_TEST(test_inflight_power_cut_device_in_another_order_is_found_out),
    };

    if (is_under_valgrind())
        skip_test("valgrind does not let its child be traced");
    if (is_under_tsan())
        skip_test("ThreadSanitizer takes too many instructions for each one");
    if (power_cut_step(nothing, go_on, NULL) < 0)
        skip_test("no process may be traced here (ptrace)");
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
