/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The disk that is served through different libraries: memory, and a copy for each request. What
 * differs between the programs is only how a request comes out of the ring and goes back.
 */
#pragma once

#include <linux/virtio_blk.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Not a zero in it, so that each page is there and none is another. Ends the process on failure. */
void ram_disk_make(void);

/*
 * Read into `in` or write from `out`, what is left of them without the header and the status byte.
 * Returns: the status; VIRTIO_BLK_S_IOERR beyond the end of the disk.
 */
uint8_t ram_disk_request(const struct virtio_blk_outhdr *header, const struct iovec *out,
                         unsigned n_out, const struct iovec *in, unsigned n_in);

/* The config space, which nobody writes. Returns: 0; -1 where there is none. */
int ram_disk_config(uint32_t off, void *buf, uint32_t len);
