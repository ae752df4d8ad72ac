/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The keys by which argp reports the options that all back-end programs share. */
#pragma once

enum {
    OPTION_SOCKET_PATH = 's',
    OPTION_VERBOSE = 'v',
    OPTION_FD = 0x1000,
    OPTION_PRINT_CAPABILITIES,
    OPTION_CLIENT,
    OPTION_RECONNECT,
    OPTION_NUM_QUEUES,
    OPTION_QUEUE_SIZE,
    OPTION_WORKERS,
    OPTION_LOOP,
    OPTION_POLL_US,
    OPTION_XEN_PERSISTENT_GRANTS,
};
