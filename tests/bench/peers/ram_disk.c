/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "ram_disk.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define DISK_BYTES (UINT64_C(64) << 20)
#define SECTOR     512u

static uint8_t *disk;

void ram_disk_make(void)
{
    disk = mmap(NULL, DISK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (disk == MAP_FAILED) {
        perror("ram_disk: mmap");
        exit(EXIT_FAILURE);
    }
    madvise(disk, DISK_BYTES, MADV_HUGEPAGE); /* optional: only affects speed */
    memset(disk, 0x5a, DISK_BYTES);
}

static size_t length_of(const struct iovec *iov, unsigned n)
{
    size_t length = 0;

    for (unsigned i = 0; i < n; i++)
        length += iov[i].iov_len;
    return length;
}

/* Address of `length` bytes from a sector on; NULL if they are beyond the end of the disk. */
static uint8_t *extent(uint64_t sector, size_t length)
{
    if (sector > DISK_BYTES / SECTOR || length > DISK_BYTES - sector * SECTOR)
        return NULL;
    return disk + sector * SECTOR;
}

static uint8_t read_disk(uint64_t sector, const struct iovec *writable, unsigned n_writable)
{
    const uint8_t *from = extent(sector, length_of(writable, n_writable));

    if (from == NULL)
        return VIRTIO_BLK_S_IOERR;
    for (unsigned i = 0; i < n_writable; i++) {
        memcpy(writable[i].iov_base, from, writable[i].iov_len);
        from += writable[i].iov_len;
    }
    return VIRTIO_BLK_S_OK;
}

static uint8_t write_disk(uint64_t sector, const struct iovec *readable, unsigned n_readable)
{
    uint8_t *to = extent(sector, length_of(readable, n_readable));

    if (to == NULL)
        return VIRTIO_BLK_S_IOERR;
    for (unsigned i = 0; i < n_readable; i++) {
        memcpy(to, readable[i].iov_base, readable[i].iov_len);
        to += readable[i].iov_len;
    }
    return VIRTIO_BLK_S_OK;
}

uint8_t ram_disk_request(const struct virtio_blk_outhdr *header, const struct iovec *readable,
                         unsigned n_readable, const struct iovec *writable, unsigned n_writable)
{
    switch (le32toh(header->type)) {
    case VIRTIO_BLK_T_IN:
        return read_disk(le64toh(header->sector), writable, n_writable);
    case VIRTIO_BLK_T_OUT:
        return write_disk(le64toh(header->sector), readable, n_readable);
    case VIRTIO_BLK_T_FLUSH:
        return VIRTIO_BLK_S_OK;
    default:
        return VIRTIO_BLK_S_UNSUPP;
    }
}

int ram_disk_config(uint32_t off, void *buf, uint32_t len)
{
    const struct virtio_blk_config cfg = {.capacity = htole64(DISK_BYTES / SECTOR)};

    if (off > sizeof(cfg) || len > sizeof(cfg) - off)
        return -1;
    memcpy(buf, (const uint8_t *)&cfg + off, len);
    return 0;
}
