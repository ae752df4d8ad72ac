/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* For LD_PRELOAD: a getrandom(2) that prints "stuck" on stderr and never returns. */
#include <sys/random.h>
#include <unistd.h>

__attribute__((visibility("default"))) ssize_t getrandom(void *buffer, size_t length,
                                                         unsigned flags)
{
    (void)!write(STDERR_FILENO, "stuck\n", 6);
    for (;;)
        pause();
}
