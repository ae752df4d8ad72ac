/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The vhost-user wire format: structures and flags, without any socket I/O. All fields are in
 * native byte order (vhost-user specification, "Message Specification"). proto_ids.h has the
 * numbers.
 */
#pragma once

#include "proto_ids.h"

#include <stdint.h>

#define GW_MSG_VERSION      0x1u
#define GW_MSG_VERSION_MASK 0x3u
#define GW_MSG_REPLY        0x4u
#define GW_MSG_NEED_REPLY   0x8u

/* File descriptors that a peer may attach to one message (QEMU and DPDK: 8). */
#define GW_MSG_FDS_MAX 8
/* The longest payload, in bytes: all of a config space. A larger size is a protocol error. */
#define GW_MSG_PAYLOAD_MAX (12 + 4096)
/* Regions in one SET_MEM_TABLE ("Memory regions description"). */
#define GW_MSG_TABLE_REGIONS_MAX 8

/* The u64 of SET_VRING_KICK, CALL and ERR. */
#define GW_VRING_FD_INDEX_MASK 0xffu
#define GW_VRING_FD_NONE       0x100u /* NOFD */
/*
 * Our extension of KICK and CALL, valid with XEN_MMAP negotiated and NOFD set: an event channel.
 * Bits 16 to 31 hold the domain id, bits 32 to 63 the domain's port (docs/memory-backends.md).
 */
#define GW_VRING_FD_EVTCHN      0x200u
#define GW_VRING_FD_DOMID_SHIFT 16
#define GW_VRING_FD_PORT_SHIFT  32

/* struct gw_wire_vring_addr.flags */
#define GW_VRING_F_LOG 0x1u

/* struct gw_wire_config.flags */
#define GW_CONFIG_F_WRITABLE  0x0u
#define GW_CONFIG_F_MIGRATION 0x1u

/* struct gw_wire_mmap.flags */
#define GW_MMAP_F_WRITABLE 0x1u

/* Shared memory regions of a device, numbered by a u8. */
#define GW_SHMEM_REGIONS 256
#define GW_UUID_SIZE     16

/* struct gw_wire_iotlb.type. The back-end sends MISS and ACCESS_FAIL, the front-end the others. */
enum gw_iotlb_type {
    GW_IOTLB_MISS = 1,
    GW_IOTLB_UPDATE = 2,
    GW_IOTLB_INVALIDATE = 3,
    GW_IOTLB_ACCESS_FAIL = 4,
};

/* struct gw_wire_device_state.phase */
#define GW_STATE_PHASE_STOPPED 0u
/* The u64 that answers SET_DEVICE_STATE_FD: an error number, and no descriptor in the answer. */
#define GW_STATE_FD_ERROR_MASK 0xffu
#define GW_STATE_FD_NONE       0x100u

struct gw_wire_header {
    uint32_t request;
    uint32_t flags;
    uint32_t size; /* of the payload */
} __attribute__((packed));

struct gw_wire_vring_state {
    uint32_t index;
    uint32_t num;
} __attribute__((packed));

struct gw_wire_vring_addr {
    uint32_t index;
    uint32_t flags;
    uint64_t descriptor;
    uint64_t used;
    uint64_t available;
    uint64_t log;
} __attribute__((packed));

struct gw_wire_region {
    uint64_t guest_addr;
    uint64_t size;
    uint64_t user_addr;
    uint64_t mmap_offset;
} __attribute__((packed));

struct gw_wire_mem_table {
    uint32_t num_regions;
    uint32_t padding;
    struct gw_wire_region regions[GW_MSG_TABLE_REGIONS_MAX];
} __attribute__((packed));

struct gw_wire_single_region {
    uint64_t padding;
    struct gw_wire_region region;
} __attribute__((packed));

/* With XEN_MMAP negotiated, every region is sent in this form. */
struct gw_wire_xen_region {
    struct gw_wire_region region;
    uint32_t flags;
    uint32_t domid;
} __attribute__((packed));

struct gw_wire_xen_mem_table {
    uint32_t num_regions;
    uint32_t padding;
    struct gw_wire_xen_region regions[GW_MSG_TABLE_REGIONS_MAX];
} __attribute__((packed));

struct gw_wire_xen_single_region {
    uint64_t padding;
    struct gw_wire_xen_region region;
} __attribute__((packed));

struct gw_wire_log {
    uint64_t mmap_size;
    uint64_t mmap_offset;
} __attribute__((packed));

struct gw_wire_inflight {
    uint64_t mmap_size;
    uint64_t mmap_offset;
    uint16_t num_queues;
    uint16_t queue_size;
    uint32_t padding; /* not in the specification, but every peer sends it */
} __attribute__((packed));

struct gw_wire_config {
    uint32_t offset;
    uint32_t size;
    uint32_t flags;
    uint8_t data[]; /* size bytes */
} __attribute__((packed));

/* VRING_HOST_NOTIFIER_MSG: the index is that of SET_VRING_KICK, with NOFD to remove. */
struct gw_wire_vring_area {
    uint64_t index;
    uint64_t size;
    uint64_t offset;
} __attribute__((packed));

struct gw_wire_shared_object {
    uint8_t uuid[GW_UUID_SIZE];
} __attribute__((packed));

/* SHMEM_MAP and SHMEM_UNMAP, which uses only the region, the offset in it and the length. */
struct gw_wire_mmap {
    uint8_t shmid;
    uint8_t padding[7];
    uint64_t fd_offset;
    uint64_t shm_offset;
    uint64_t len;
    uint64_t flags;
} __attribute__((packed));

struct gw_wire_shmem_config {
    uint32_t num_regions; /* sizes that are not 0 */
    uint32_t padding;
    uint64_t sizes[GW_SHMEM_REGIONS];
} __attribute__((packed));

/* As struct vhost_iotlb_msg of the kernel. */
struct gw_wire_iotlb {
    uint64_t iova;
    uint64_t size;
    uint64_t user_addr;
    uint8_t access; /* bit 0: read, bit 1: write */
    uint8_t type;
    uint8_t padding[6];
} __attribute__((packed));

struct gw_wire_device_state {
    uint32_t direction; /* 0: the back-end saves its state; 1: it loads it */
    uint32_t phase;
} __attribute__((packed));

_Static_assert(sizeof(struct gw_wire_header) == 12, "header");
_Static_assert(sizeof(struct gw_wire_vring_state) == 8, "vring state");
_Static_assert(sizeof(struct gw_wire_vring_addr) == 40, "vring addr");
_Static_assert(sizeof(struct gw_wire_region) == 32, "region");
_Static_assert(sizeof(struct gw_wire_mem_table) == 8 + 32 * GW_MSG_TABLE_REGIONS_MAX, "table");
_Static_assert(sizeof(struct gw_wire_single_region) == 40, "single region");
_Static_assert(sizeof(struct gw_wire_xen_region) == 40, "xen region");
_Static_assert(sizeof(struct gw_wire_xen_mem_table) == 8 + 40 * GW_MSG_TABLE_REGIONS_MAX,
               "xen table");
_Static_assert(sizeof(struct gw_wire_xen_single_region) == 48, "xen single region");
_Static_assert(sizeof(struct gw_wire_log) == 16, "log");
_Static_assert(sizeof(struct gw_wire_inflight) == 24, "inflight");
_Static_assert(sizeof(struct gw_wire_config) == 12, "config");
_Static_assert(sizeof(struct gw_wire_vring_area) == 24, "vring area");
_Static_assert(sizeof(struct gw_wire_shared_object) == 16, "shared object");
_Static_assert(sizeof(struct gw_wire_mmap) == 40, "mmap");
_Static_assert(sizeof(struct gw_wire_shmem_config) == 2056, "shmem config");
_Static_assert(sizeof(struct gw_wire_iotlb) == 32, "iotlb");
_Static_assert(sizeof(struct gw_wire_device_state) == 8, "device state");
