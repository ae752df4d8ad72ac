/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Reads from one of the guest's entropy devices. The kernel reads from them too, so records are
 * missing here, but those that arrive are whole and in order.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../entropy.h"
#include "guest.h"

#define CHOICE "/sys/class/misc/hw_random/rng_current"

static void read_all(int fd, void *buf, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t r = read(fd, (char *)buf + at, n - at);

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            fail("/dev/hwrng: %s", r < 0 ? strerror(errno) : "end of file");
        at += (size_t)r;
    }
}

static void verify(const struct entropy *e, const struct entropy *previous)
{
    if (e->check != entropy_check(e))
        fail("entropy after record %u of device %u is wrong: %#x %#x", previous->number,
             previous->seed, e->seed, e->number);
    if (e->seed != previous->seed || e->number <= previous->number)
        fail("entropy record %u of device %u follows record %u of device %u", e->number, e->seed,
             previous->number, previous->seed);
}

uint32_t entropy_read(unsigned device, unsigned long n_records, uint32_t *ret_last)
{
    struct entropy records[64], previous;
    char name[32];
    int fd, r;

    snprintf(name, sizeof(name), "virtio_rng.%u", device);
    r = write_word(CHOICE, name);
    if (r < 0)
        fail("%s cannot be chosen: %s", name, strerror(-r));
    fd = open("/dev/hwrng", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        fail("/dev/hwrng: %s", strerror(errno));
    read_all(fd, records, sizeof(records)); /* may begin with bytes of the previous device */
    previous = records[63];
    for (unsigned long n = 0; n < n_records; n += 64) {
        read_all(fd, records, sizeof(records));
        for (unsigned i = 0; i < 64; i++) {
            verify(&records[i], &previous);
            previous = records[i];
        }
    }
    close(fd);
    *ret_last = previous.number;
    return previous.seed;
}
