/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Names of feature bits (virtio 1.3 "Reserved Feature Bits" and the "Feature bits" of each device;
 * vhost-user "Protocol features") and of config space fields ("Device configuration layout").
 */
#include "feature_names.h"

#include <stdio.h>
#include <string.h>

#define N_BITS 64

struct features_device {
    const char *name;
    const char *const *bits; /* N_BITS names */
    const struct features_field *fields;
    bool needs_state; /* see features_needs_state */
};

static const char *const common_bits[N_BITS] = {
    [24] = "NOTIFY_ON_EMPTY",    [26] = "LOG_ALL",           [27] = "ANY_LAYOUT",
    [28] = "RING_INDIRECT_DESC", [29] = "RING_EVENT_IDX",    [30] = "PROTOCOL_FEATURES",
    [32] = "VERSION_1",          [33] = "ACCESS_PLATFORM",   [34] = "RING_PACKED",
    [35] = "IN_ORDER",           [36] = "ORDER_PLATFORM",    [37] = "SR_IOV",
    [38] = "NOTIFICATION_DATA",  [39] = "NOTIF_CONFIG_DATA", [40] = "RING_RESET",
    [41] = "ADMIN_VQ",
};

static const char *const protocol_bits[N_BITS] = {
    [0] = "MQ",
    [1] = "LOG_SHMFD",
    [2] = "RARP",
    [3] = "REPLY_ACK",
    [4] = "NET_MTU",
    [5] = "BACKEND_REQ",
    [6] = "CROSS_ENDIAN",
    [7] = "CRYPTO_SESSION",
    [8] = "PAGEFAULT",
    [9] = "CONFIG",
    [10] = "BACKEND_SEND_FD",
    [11] = "HOST_NOTIFIER",
    [12] = "INFLIGHT_SHMFD",
    [13] = "RESET_DEVICE",
    [14] = "INBAND_NOTIFICATIONS",
    [15] = "CONFIGURE_MEM_SLOTS",
    [16] = "STATUS",
    [17] = "XEN_MMAP",
    [18] = "SHARED_OBJECT",
    [19] = "DEVICE_STATE",
    [20] = "GET_VRING_BASE_INFLIGHT",
    [21] = "GPA_ADDRESSES",
    [22] = "SHMEM",
    [23] = "GET_VRING_BASE_SKIP_DRAIN",
};

static const char *const no_bits[N_BITS] = {NULL};

static const char *const blk_bits[N_BITS] = {
    [0] = "BARRIER",       [1] = "SIZE_MAX",  [2] = "SEG_MAX",
    [4] = "GEOMETRY",      [5] = "RO",        [6] = "BLK_SIZE",
    [7] = "SCSI",          [9] = "FLUSH",     [10] = "TOPOLOGY",
    [11] = "CONFIG_WCE",   [12] = "MQ",       [13] = "DISCARD",
    [14] = "WRITE_ZEROES", [15] = "LIFETIME", [16] = "SECURE_ERASE",
    [17] = "ZONED",
};

static const char *const net_bits[N_BITS] = {
    [0] = "CSUM",
    [1] = "GUEST_CSUM",
    [2] = "CTRL_GUEST_OFFLOADS",
    [3] = "MTU",
    [5] = "MAC",
    [6] = "GSO",
    [7] = "GUEST_TSO4",
    [8] = "GUEST_TSO6",
    [9] = "GUEST_ECN",
    [10] = "GUEST_UFO",
    [11] = "HOST_TSO4",
    [12] = "HOST_TSO6",
    [13] = "HOST_ECN",
    [14] = "HOST_UFO",
    [15] = "MRG_RXBUF",
    [16] = "STATUS",
    [17] = "CTRL_VQ",
    [18] = "CTRL_RX",
    [19] = "CTRL_VLAN",
    [20] = "CTRL_RX_EXTRA",
    [21] = "GUEST_ANNOUNCE",
    [22] = "MQ",
    [23] = "CTRL_MAC_ADDR",
    [51] = "DEVICE_STATS",
    [52] = "HASH_TUNNEL",
    [53] = "VQ_NOTF_COAL",
    [54] = "GUEST_USO4",
    [55] = "GUEST_USO6",
    [56] = "HOST_USO",
    [57] = "HASH_REPORT",
    [59] = "GUEST_HDRLEN",
    [60] = "RSS",
    [61] = "RSC_EXT",
    [62] = "STANDBY",
    [63] = "SPEED_DUPLEX",
};

static const char *const console_bits[N_BITS] = {"SIZE", "MULTIPORT", "EMERG_WRITE"};
static const char *const scsi_bits[N_BITS] = {"INOUT", "HOTPLUG", "CHANGE", "T10_PI"};
static const char *const gpu_bits[N_BITS] = {"VIRGL", "EDID", "RESOURCE_UUID", "RESOURCE_BLOB",
                                             "CONTEXT_INIT"};
static const char *const vsock_bits[N_BITS] = {"STREAM", "SEQPACKET", "NO_IMPLIED_STREAM"};
static const char *const crypto_bits[N_BITS] = {"REVISION_1",          "CIPHER_STATELESS_MODE",
                                                "HASH_STATELESS_MODE", "MAC_STATELESS_MODE",
                                                "AEAD_STATELESS_MODE", "AKCIPHER_STATELESS_MODE"};
static const char *const fs_bits[N_BITS] = {"NOTIFICATION"};
static const char *const i2c_bits[N_BITS] = {"ZERO_LENGTH_REQUEST"};
static const char *const gpio_bits[N_BITS] = {"IRQ"};
static const char *const sound_bits[N_BITS] = {"CTLS"};

static const struct features_field blk_fields[] = {
    {"capacity", 0, 8, -1, false},
    {"size_max", 8, 4, 1, false},
    {"seg_max", 12, 4, 2, false},
    {"cylinders", 16, 2, 4, false},
    {"heads", 18, 1, 4, false},
    {"sectors", 19, 1, 4, false},
    {"blk_size", 20, 4, 6, false},
    {"physical_block_exp", 24, 1, 10, false},
    {"alignment_offset", 25, 1, 10, false},
    {"min_io_size", 26, 2, 10, false},
    {"opt_io_size", 28, 4, 10, false},
    {"writeback", 32, 1, 11, false},
    {"num_queues", 34, 2, 12, false},
    {"max_discard_sectors", 36, 4, 13, false},
    {"max_discard_seg", 40, 4, 13, false},
    {"discard_sector_alignment", 44, 4, 13, false},
    {"max_write_zeroes_sectors", 48, 4, 14, false},
    {"max_write_zeroes_seg", 52, 4, 14, false},
    {"write_zeroes_may_unmap", 56, 1, 14, false},
    {"max_secure_erase_sectors", 60, 4, 16, false},
    {"max_secure_erase_seg", 64, 4, 16, false},
    {"secure_erase_sector_alignment", 68, 4, 16, false},
    {"zone_sectors", 72, 4, 17, false},
    {"max_open_zones", 76, 4, 17, false},
    {"max_active_zones", 80, 4, 17, false},
    {"max_append_sectors", 84, 4, 17, false},
    {"write_granularity", 88, 4, 17, false},
    {"zone_model", 92, 1, 17, false},
    {0},
};

static const struct features_field net_fields[] = {
    {"mac", 0, 6, 5, false},
    {"status", 6, 2, 16, false},
    {"max_virtqueue_pairs", 8, 2, 22, false},
    {"mtu", 10, 2, 3, false},
    {"speed", 12, 4, 63, false},
    {"duplex", 16, 1, 63, false},
    {0},
};

static const struct features_field fs_fields[] = {
    {"tag", 0, 36, -1, true},
    {"num_request_queues", 36, 4, -1, false},
    {0},
};

static const struct features_field vsock_fields[] = {{"guest_cid", 0, 8, -1, false}, {0}};

static const struct features_field gpio_fields[] = {
    {"ngpio", 0, 2, -1, false},
    {"gpio_names_size", 4, 4, -1, false},
    {0},
};

static const struct features_device devices[] = {
    {"generic", no_bits, NULL},
    {"blk", blk_bits, blk_fields},
    {"rng", no_bits, NULL},
    {"net", net_bits, net_fields},
    {"fs", fs_bits, fs_fields, true},
    {"scsi", scsi_bits, NULL},
    {"vsock", vsock_bits, vsock_fields},
    {"gpu", gpu_bits, NULL, true},
    {"console", console_bits, NULL},
    {"crypto", crypto_bits, NULL},
    {"gpio", gpio_bits, gpio_fields},
    {"i2c", i2c_bits, NULL},
    {"input", no_bits, NULL},
    {"sound", sound_bits, NULL},
};

#define N_DEVICES (sizeof(devices) / sizeof(devices[0]))

const struct features_device *features_device(const char *name)
{
    for (size_t i = 0; i < N_DEVICES; i++) {
        if (strcmp(devices[i].name, name) == 0)
            return &devices[i];
    }
    return NULL;
}

const char *features_device_names(void)
{
    static char names[128];
    size_t used = 0;

    for (size_t i = 0; i < N_DEVICES && used < sizeof(names); i++)
        used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i == 0 ? "" : ", ",
                                 devices[i].name);
    return names;
}

const struct features_field *features_fields(const struct features_device *device)
{
    return device->fields;
}

const char *features_name(const struct features_device *device, unsigned bit)
{
    if (bit >= N_BITS)
        return NULL;
    if (common_bits[bit] != NULL)
        return common_bits[bit];
    return device != NULL ? device->bits[bit] : NULL;
}

const char *features_protocol_name(unsigned bit)
{
    return bit < N_BITS ? protocol_bits[bit] : NULL;
}

/* A textual list of bits under construction. */
struct list {
    char *buf;
    size_t size, used;
    unsigned left; /* number of bits to append */
    bool has_any;
};

static void append(struct list *l, const char *name, const char *kind, unsigned bit)
{
    const char *between = !l->has_any ? "" : l->left == 1 ? " and " : ", ";

    l->has_any = true;
    l->left--;
    if (l->used >= l->size)
        return;
    if (name != NULL)
        l->used += (size_t)snprintf(l->buf + l->used, l->size - l->used, "%s%s (%s bit %u)",
                                    between, name, kind, bit);
    else
        l->used += (size_t)snprintf(l->buf + l->used, l->size - l->used, "%s%s bit %u", between,
                                    kind, bit);
}

bool features_needs_state(const struct features_device *device)
{
    return device != NULL && device->needs_state;
}

void features_missing(const struct features_device *device, uint64_t features,
                      uint64_t protocol_features, char *buf, size_t size)
{
    /* In the order of dependency; the last one only if the device needs it. */
    static const struct {
        unsigned bit;
        bool is_protocol;
    } needs[] = {{30, false}, {26, false}, {1, true}, {19, true}};
    const size_t n = features_needs_state(device) ? 4 : 3;
    struct list l = {.buf = buf, .size = size};
    bool is_missing[4];

    buf[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        uint64_t offered = needs[i].is_protocol ? protocol_features : features;

        is_missing[i] = !(offered & FEATURES_BIT(needs[i].bit));
        l.left += is_missing[i];
    }
    for (size_t i = 0; i < n; i++) {
        if (is_missing[i])
            append(&l,
                   needs[i].is_protocol ? features_protocol_name(needs[i].bit)
                                        : features_name(NULL, needs[i].bit),
                   needs[i].is_protocol ? "protocol" : "virtio", needs[i].bit);
    }
}

void features_text(const struct features_device *device, uint64_t mask, char *buf, size_t size)
{
    struct list l = {.buf = buf, .size = size, .left = (unsigned)__builtin_popcountll(mask)};

    buf[0] = '\0';
    for (unsigned bit = 0; bit < N_BITS; bit++) {
        if (mask & FEATURES_BIT(bit))
            append(&l, features_name(device, bit), "virtio", bit);
    }
}
