/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* For LD_PRELOAD: getrandom(2) never returns, and says so on stderr. */
#include <sys/random.h>
#include <unistd.h>

__attribute__((visibility("default"))) ssize_t getrandom(void *buffer, size_t length,
                                                         unsigned flags)
{
    (void)!write(STDERR_FILENO, "stuck\n", 6);
    for (;;)
        pause();
}
