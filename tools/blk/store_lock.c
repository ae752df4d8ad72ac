/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The image lock of QEMU's file driver, so that godwit-blk, QEMU, qemu-img and
 * qemu-storage-daemon respect each other. The convention locks single bytes. A process that uses a
 * permission on the image holds a shared lock on the byte of that permission. A process that does
 * not tolerate the permission in others holds a shared lock on the byte of that refusal. Each
 * checks that no other process holds the opposite byte. The locks belong to the open file
 * description, not to the process.
 */
#include "store_file.h"

#include <errno.h>
#include <fcntl.h>

enum {
    LOCK_DOES = 100,    /* QEMU: RAW_LOCK_PERM_BASE */
    LOCK_REFUSES = 200, /* QEMU: RAW_LOCK_SHARED_BASE */
    /* The permissions of QEMU's block layer, by bit number. */
    PERM_READ = 0,
    PERM_WRITE = 1,
};

static int lock_byte(int fd, short type, off_t byte)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
        return errno == EACCES ? -EAGAIN : -errno;
    return 0;
}

/* Returns: 0 if no other process locks the byte; -EAGAIN if one does; another negative errno. */
static int probe_byte(int fd, off_t byte)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
        return -errno;
    return lock.l_type == F_UNLCK ? 0 : -EAGAIN;
}

void store_lock_drop(int fd)
{
    lock_byte(fd, F_UNLCK, LOCK_DOES + PERM_READ);
    lock_byte(fd, F_UNLCK, LOCK_DOES + PERM_WRITE);
    lock_byte(fd, F_UNLCK, LOCK_REFUSES + PERM_WRITE);
}

int store_lock_take(int fd, bool is_read_only)
{
    int r = lock_byte(fd, F_RDLCK, LOCK_DOES + PERM_READ);

    if (r == 0 && !is_read_only)
        r = lock_byte(fd, F_RDLCK, LOCK_DOES + PERM_WRITE);
    if (r == 0)
        r = lock_byte(fd, F_RDLCK, LOCK_REFUSES + PERM_WRITE);
    /* Lock our bytes before probing: of two concurrent processes, at least one sees the other. */
    if (r == 0)
        r = probe_byte(fd, LOCK_REFUSES + PERM_READ);
    if (r == 0 && !is_read_only)
        r = probe_byte(fd, LOCK_REFUSES + PERM_WRITE);
    if (r == 0)
        r = probe_byte(fd, LOCK_DOES + PERM_WRITE);
    if (r < 0)
        store_lock_drop(fd);
    return r;
}
