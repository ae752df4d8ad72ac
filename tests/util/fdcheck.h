/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Did the test leave an fd open or shared memory mapped? We pass both for a living.
 *
 * A snapshot knows every open fd, and every MAP_SHARED mapping: guest memory, rings and logs are
 * shared, and neither malloc nor a thread's stack is. Not for use on two threads at once.
 *
 *     cmocka_run_group_tests(tests, NULL, NULL) of FDCHECK_TEST(test_a), FDCHECK_TEST(test_b), ...
 */
#pragma once

struct fdcheck;

/* Remember what is open and mapped now. NULL when /proc does not tell. */
struct fdcheck *fdcheck_begin(void);

/*
 * Compare with now, print what has come on stderr and release the snapshot (NULL is fine).
 * Returns: how many fds and mappings have come.
 */
int fdcheck_end(struct fdcheck *check);

/* For cmocka: a test with nothing else to set up fails when it leaves something behind. */
int fdcheck_setup(void **state);
int fdcheck_teardown(void **state);
#define FDCHECK_TEST(f) cmocka_unit_test_setup_teardown(f, fdcheck_setup, fdcheck_teardown)
