/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * In the guest: find the PCI device with a shared memory capability (virtio 1.3, 4.1.4.7), map the
 * BAR behind it, and check what window.c maps there. Exit status 0 if all of it is right.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "window.h"

#define DEVICES "/sys/bus/pci/devices"

enum {
    CAPABILITIES = 0x34, /* in the configuration space of a PCI device */
    VENDOR_SPECIFIC = 0x09,
    SHARED_MEMORY = 8, /* cfg_type */
    VIRTIO_VENDOR = 0x1af4,
    PATIENCE_MS = 60000
};

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    printf("FAIL ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    exit(1);
}

struct region {
    unsigned bar;
    uint64_t offset, length;
};

/* Look for the region in the capabilities of a device. */
static bool find_in(const uint8_t *config, struct region *ret)
{
    for (unsigned at = config[CAPABILITIES], n = 0; at >= 0x40 && n < 48;
         at = config[at + 1], n++) {
        uint32_t low[2], high[2];

        if (config[at] != VENDOR_SPECIFIC || config[at + 3] != SHARED_MEMORY)
            continue;
        memcpy(low, config + at + 8, sizeof(low));
        memcpy(high, config + at + 16, sizeof(high));
        printf("shared memory region %u: BAR %u\n", config[at + 5], config[at + 4]);
        if (config[at + 5] != WINDOW_SHMID)
            fail("region %u instead of %u", config[at + 5], WINDOW_SHMID);
        *ret = (struct region){
            .bar = config[at + 4],
            .offset = (uint64_t)high[0] << 32 | low[0],
            .length = (uint64_t)high[1] << 32 | low[1],
        };
        return true;
    }
    return false;
}

/* Map the region of the device. */
static volatile char *map_window(void)
{
    DIR *devices = opendir(DEVICES);
    struct dirent *entry;
    struct region region;
    char path[512];

    if (!devices)
        fail("%s: %s", DEVICES, strerror(errno));
    while ((entry = readdir(devices))) {
        uint8_t config[256] = {0};
        uint16_t vendor;
        void *at;
        int fd;

        snprintf(path, sizeof(path), DEVICES "/%s/config", entry->d_name);
        fd = open(path, O_RDONLY);
        if (fd < 0 || read(fd, config, sizeof(config)) < 64)
            continue;
        close(fd);
        memcpy(&vendor, config, sizeof(vendor));
        if (vendor != VIRTIO_VENDOR || !find_in(config, &region))
            continue;
        if (region.length != WINDOW_SIZE)
            fail("the region has %llu bytes", (unsigned long long)region.length);
        snprintf(path, sizeof(path), DEVICES "/%s/resource%u", entry->d_name, region.bar);
        fd = open(path, O_RDWR | O_SYNC);
        if (fd < 0)
            fail("%s: %s", path, strerror(errno));
        at = mmap(NULL, WINDOW_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)region.offset);
        if (at == MAP_FAILED)
            fail("mmap %s: %s", path, strerror(errno));
        return at;
    }
    fail("no device with a shared memory region");
}

static bool has(volatile char *at, const char *text)
{
    for (size_t i = 0; i <= strlen(text); i++)
        if (at[i] != text[i])
            return false;
    return true;
}

/* Wait until the file with this text is at `at`, from its first to its last page. */
static void await(volatile char *at, const char *text)
{
    for (unsigned ms = 0; !has(at, text); ms += 10) {
        if (ms >= PATIENCE_MS)
            fail("\"%s\" does not appear", text);
        usleep(10000);
    }
    if (!has(at + WINDOW_LENGTH - WINDOW_PAGE, text))
        fail("\"%s\" appears in part", text);
    printf("\"%s\" has appeared\n", text);
}

/* Have the driver notify the device. */
static void notify(void)
{
    int fd = open("/dev/hwrng", O_RDONLY);
    char byte;

    if (fd < 0 || read(fd, &byte, 1) != 1)
        fail("/dev/hwrng: %s", strerror(errno));
    close(fd);
}

int main(void)
{
    volatile char *window = map_window();
    const char *answer = WINDOW_SEEN;

    await(window + WINDOW_FIRST, WINDOW_TEXT_FIRST);
    for (size_t i = 0; i <= strlen(answer); i++)
        window[WINDOW_FIRST + WINDOW_ANSWER + i] = answer[i];
    /* The driver may have requests of its own: notify until the device has continued. */
    for (unsigned ms = 0; !has(window + WINDOW_SECOND, WINDOW_TEXT_SECOND); ms += 10) {
        if (ms >= PATIENCE_MS)
            fail("the device does not continue");
        notify();
        usleep(10000);
    }
    await(window + WINDOW_SECOND, WINDOW_TEXT_SECOND);
    if (has(window + WINDOW_FIRST, WINDOW_TEXT_FIRST))
        fail("the first file is still mapped");
    window[WINDOW_SECOND] = 'X'; /* read-only: the device reports whether it has an effect */
    printf("all of it is right\n");
    return 0;
}
