/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The first process of a user-mode Linux: loads the driver of the disk, writes and reads each block
 * of it, and prints the verdict.
 */
#include "../pattern.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BLOCK    65536
#define N_BLOCKS 64
#define WAIT_MS  30000

static char wrote[BLOCK] __attribute__((aligned(4096)));
static char got[BLOCK] __attribute__((aligned(4096)));

static int open_disk(void)
{
    int fd = open("/virtio_blk.ko", O_RDONLY | O_CLOEXEC);

    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0)
        perror("virtio_blk.ko");
    for (unsigned ms = 0; ms < WAIT_MS; ms += 50) {
        fd = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
        if (fd >= 0)
            return fd;
        usleep(50000);
    }
    perror("/dev/vda");
    return -1;
}

static void fill(unsigned i)
{
    for (unsigned at = 0; at < BLOCK; at += PATTERN_BLOCK)
        pattern_block((uint8_t *)wrote + at, ((uint64_t)i * BLOCK + at) / PATTERN_BLOCK, 1);
}

static unsigned run(int fd)
{
    unsigned n_bad = 0;

    for (unsigned i = 0; i < N_BLOCKS; i++) {
        fill(i);
        n_bad += pwrite(fd, wrote, BLOCK, (off_t)i * BLOCK) != BLOCK;
    }
    n_bad += fsync(fd) < 0;
    for (unsigned i = 0; i < N_BLOCKS; i++) {
        fill(i);
        n_bad += pread(fd, got, BLOCK, (off_t)i * BLOCK) != BLOCK || memcmp(got, wrote, BLOCK) != 0;
    }
    return n_bad;
}

int main(void)
{
    int fd = open_disk();

    pattern_init(1);
    if (fd >= 0)
        printf("uml: %u blocks written and read, %u bad\n", (unsigned)N_BLOCKS, run(fd));
    fflush(stdout);
    reboot(RB_POWER_OFF);
    return 0;
}
