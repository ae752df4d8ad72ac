/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What window.c, the device on the host, and window_guest.c, the program in the guest, know of each
 * other: a shared memory region in which the device maps one file, then another.
 */
#pragma once

enum {
    WINDOW_DEVICE = 4, /* virtio's entropy device, for which every kernel has a driver */
    WINDOW_SHMID = 5,
    WINDOW_SIZE = 1 << 20,
    WINDOW_PAGE = 4096,

    /* The two mappings: offsets in the region, and their length. */
    WINDOW_FIRST = 16 * WINDOW_PAGE,
    WINDOW_SECOND = 64 * WINDOW_PAGE,
    WINDOW_LENGTH = 8 * WINDOW_PAGE,

    WINDOW_ANSWER = WINDOW_LENGTH - 64, /* in the first: the guest writes WINDOW_SEEN there */
};

#define WINDOW_TEXT_FIRST  "first file, writable"
#define WINDOW_TEXT_SECOND "second file, read-only"
#define WINDOW_SEEN        "seen by the guest"
