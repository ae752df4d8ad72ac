/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The memory of an ivshmem device, which QEMU treats like guest RAM. The guest enables or disables
 * it, also during a migration, when memory cannot be plugged. It is far above all other memory, so
 * the dirty log has to grow when it appears.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"

#define IVSHMEM_VENDOR     0x1af4
#define IVSHMEM_DEVICE     0x1110
#define PCI_COMMAND        4
#define PCI_COMMAND_MEMORY 2

static bool is_ivshmem(const char *name)
{
    char path[512];

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.64s/vendor", name);
    if (read_number(path, 16) != IVSHMEM_VENDOR)
        return false;
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.64s/device", name);
    return read_number(path, 16) == IVSHMEM_DEVICE;
}

static int open_config(void)
{
    DIR *dir = opendir("/sys/bus/pci/devices");
    char path[512];
    int fd = -1;

    if (dir == NULL)
        fail("there is no PCI");
    for (struct dirent *e; fd < 0 && (e = readdir(dir)) != NULL;) {
        if (!is_ivshmem(e->d_name))
            continue;
        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.64s/config", e->d_name);
        fd = open(path, O_RDWR | O_CLOEXEC);
    }
    closedir(dir);
    if (fd < 0)
        fail("there is no ivshmem device");
    return fd;
}

void window_set(bool is_open)
{
    int fd = open_config();
    uint16_t command;

    if (pread(fd, &command, sizeof(command), PCI_COMMAND) != sizeof(command))
        fail("the ivshmem device's command cannot be read: %s", strerror(errno));
    command = (uint16_t)(is_open ? command | PCI_COMMAND_MEMORY : command & ~PCI_COMMAND_MEMORY);
    if (pwrite(fd, &command, sizeof(command), PCI_COMMAND) != sizeof(command))
        fail("the ivshmem device's command cannot be written: %s", strerror(errno));
    close(fd);
}
