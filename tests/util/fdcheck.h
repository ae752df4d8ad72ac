/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Detects fds that a test left open and shared memory that it left mapped.
 *
 * A snapshot lists every open fd and every MAP_SHARED mapping. Guest memory, rings and logs are
 * shared; malloc memory and thread stacks are not. Only one thread may use this at a time.
 *
 *     const struct CMUnitTest tests[] = {FDCHECK_TEST(test_a), FDCHECK_TEST(test_b)};
 */
#pragma once

struct fdcheck;

/* Take a snapshot. NULL if /proc cannot be read or memory runs out. */
struct fdcheck *fdcheck_begin(void);

/*
 * Compare the snapshot with the current state, print new fds and mappings on stderr, and free the
 * snapshot (which may be NULL). Returns: the number of new fds and mappings.
 */
int fdcheck_end(struct fdcheck *check);
/* Free it without a comparison. Accepts NULL. */
void fdcheck_discard(struct fdcheck *check);

/*
 * Fixture functions for cmocka tests: a test fails if it leaks. The setup closes standard input, so
 * that a test also runs with an fd that is 0.
 */
int fdcheck_setup(void **state);
int fdcheck_teardown(void **state);

struct fdcheck_test {
    void (*run)(void **state);
};

/*
 * Run the struct fdcheck_test at *state. If it fails or is skipped, it does not return and leaves
 * all that it has: then fdcheck_teardown checks nothing, and does not wait for leaks to end.
 */
void fdcheck_run(void **state);

/* A test without other setup. Its `state` is not NULL, but of no use. */
#define FDCHECK_TEST(f) FDCHECK_ENTRY(#f, (&(struct fdcheck_test){f}))
#define FDCHECK_ENTRY(name, test)                                \
    {                                                            \
        name, fdcheck_run, fdcheck_setup, fdcheck_teardown, test \
    }
