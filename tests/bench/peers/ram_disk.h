/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The disk that the different libraries serve: memory, and one copy per request. The programs
 * differ only in how they take a request off the ring and return it.
 */
#pragma once

#include <linux/virtio_blk.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/*
 * Allocate the disk and fill it with a nonzero byte, so that every page is populated and distinct.
 * Exits on failure.
 */
void ram_disk_make(void);

/*
 * Read into `writable` or write from `readable`, both without the header and the status byte.
 * Returns: the status; VIRTIO_BLK_S_IOERR beyond the end of the disk.
 */
uint8_t ram_disk_request(const struct virtio_blk_outhdr *header, const struct iovec *readable,
                         unsigned n_readable, const struct iovec *writable, unsigned n_writable);

/* Read from the read-only config space. Returns: 0; -1 if out of range. */
int ram_disk_config(uint32_t off, void *buf, uint32_t len);
