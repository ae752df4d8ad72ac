/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "disk_options.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_SIZE_DEFAULT 512U
#define BLOCK_SIZE_MAX     4096U /* every guest supports up to a page */
#define DELAY_MS_MAX       10000U
/*
 * In ms. The kernel releases the lock of a killed process together with its io_uring, which may
 * take seconds.
 */
#define LOCK_PATIENCE 8000U

static bool refuse(struct value_error *why, const char *text)
{
    snprintf(why->text, sizeof(why->text), "%s", text);
    return false;
}

/* ---- the settings ---- */

static bool is_name(const char *name, size_t length)
{
    if (length == 0 || length > DISK_NAME_MAX)
        return false;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] <= ' ' || name[i] == '\x7f')
            return false;
    return true;
}

static bool set_name(void *to, const char *value, struct value_error *why)
{
    if (!is_name(value, strlen(value)))
        return refuse(why, "is not a name: up to 64 bytes without blanks");
    strcpy(((struct disk_options *)to)->name, value);
    return true;
}

static bool set_file(void *to, const char *value, struct value_error *why)
{
    ((struct disk_options *)to)->file.path = value;
    return true;
}

static bool set_ram(void *to, const char *value, struct value_error *why)
{
    return value_size(value, 1, INT64_MAX, &((struct disk_options *)to)->ram, why);
}

static bool set_read_only(void *to, const char *value, struct value_error *why)
{
    ((struct disk_options *)to)->file.is_read_only = true;
    return true;
}

static bool set_iommu(void *to, const char *value, struct value_error *why)
{
    ((struct disk_options *)to)->iommu = true;
    return true;
}

static bool set_serial(void *to, const char *value, struct value_error *why)
{
    if (strlen(value) > VIRTIO_BLK_ID_BYTES)
        return refuse(why, "is longer than 20 bytes");
    ((struct disk_options *)to)->serial = value;
    return true;
}

static bool set_block_size(void *to, const char *value, struct value_error *why)
{
    uint64_t size = 0;

    if (!value_number(value, 512, BLOCK_SIZE_MAX, &size, why))
        return false;
    if ((size & (size - 1)) != 0)
        return refuse(why, "is not a power of two");
    ((struct disk_options *)to)->file.block_size = (uint32_t)size;
    return true;
}

static bool set_mode(enum store_mode *to, const char *value, struct value_error *why)
{
    static const char *const words[] = {
        [STORE_AUTO] = "auto", [STORE_ON] = "on", [STORE_OFF] = "off", [STORE_OFF + 1] = NULL};
    int word = 0;

    if (!value_word(value, words, &word, why))
        return false;
    *to = (enum store_mode)word;
    return true;
}

static bool set_direct(void *to, const char *value, struct value_error *why)
{
    return set_mode(&((struct disk_options *)to)->file.direct, value, why);
}

static bool set_locking(void *to, const char *value, struct value_error *why)
{
    return set_mode(&((struct disk_options *)to)->file.locking, value, why);
}

static bool set_discard(void *to, const char *value, struct value_error *why)
{
    static const char *const words[] = {"unmap", "ignore", NULL};
    int word = 0;

    if (!value_word(value, words, &word, why))
        return false;
    ((struct disk_options *)to)->ignores_discard = word == 1;
    return true;
}

static bool set_delay(void *to, const char *value, struct value_error *why)
{
    uint64_t ms = 0;

    if (!value_number(value, 0, DELAY_MS_MAX, &ms, why))
        return false;
    ((struct disk_options *)to)->delay_ms = (unsigned)ms;
    return true;
}

const struct setting disk_settings[] = {
    {"name", NULL, 0, SETTING_VALUE, false, set_name},
    {"blk-file", "file", OPTION_BLK_FILE, SETTING_VALUE, false, set_file},
    {"ram", NULL, OPTION_RAM, SETTING_VALUE, false, set_ram},
    {"read-only", NULL, OPTION_READ_ONLY, SETTING_FLAG, false, set_read_only},
    {"serial", NULL, OPTION_SERIAL, SETTING_VALUE, false, set_serial},
    {"logical-block-size", NULL, OPTION_BLOCK_SIZE, SETTING_VALUE, false, set_block_size},
    {"direct", NULL, OPTION_DIRECT, SETTING_VALUE, false, set_direct},
    {"locking", NULL, OPTION_LOCKING, SETTING_VALUE, false, set_locking},
    {"discard", NULL, OPTION_DISCARD, SETTING_VALUE, false, set_discard},
    {"iommu", NULL, OPTION_IOMMU, SETTING_FLAG, false, set_iommu},
    {"delay", NULL, OPTION_DELAY, SETTING_VALUE, false, set_delay},
    {0},
};

/* ---- one disk ---- */

void disk_options_init(struct disk_options *o)
{
    *o = (struct disk_options){
        .file = {.block_size = BLOCK_SIZE_DEFAULT, .lock_patience_ms = LOCK_PATIENCE},
    };
    backend_device_init(&o->device);
}

bool disk_options_check(const struct disk_options *o, const char *dashes, struct value_error *why)
{
    if ((o->file.path == NULL) == (o->ram == 0)) {
        snprintf(why->text, sizeof(why->text), "give one disk: %sfile=FILE or %sram=SIZE",
                 *dashes != '\0' ? "--blk-" : "", dashes);
        return false;
    }
    if (o->ram % o->file.block_size != 0) {
        snprintf(why->text, sizeof(why->text), "%sram=%llu is not a multiple of the block size %u",
                 dashes, (unsigned long long)o->ram, o->file.block_size);
        return false;
    }
    return backend_device_check(&o->device, dashes, why);
}

/* The file name of the socket, without its last suffix. */
static bool find_name(struct disk_options *o)
{
    const char *path = o->device.socket_path, *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path, *dot = strrchr(name, '.');
    size_t length = dot != NULL && dot != name ? (size_t)(dot - name) : strlen(name);

    if (!is_name(name, length))
        return false;
    memcpy(o->name, name, length);
    o->name[length] = '\0';
    return true;
}

static bool parse(struct disk_options *o, struct value_error *why)
{
    const struct settings tables[] = {{disk_settings, o}, {backend_device_settings, &o->device}};

    if (!settings_parse_list(tables, sizeof(tables) / sizeof(tables[0]), o->text, why))
        return false;
    if (o->device.socket_path == NULL || *o->device.socket_path == '\0')
        return refuse(why, "there is no socket: give socket=PATH");
    if (!disk_options_check(o, "", why))
        return false;
    return o->name[0] != '\0' || find_name(o) ||
           refuse(why, "the file name of the socket is no name for the disk: give name=NAME, up to "
                       "64 bytes without blanks");
}

int disk_options_new(struct disk_options **ret, const char *list, const char *place,
                     struct value_error *why)
{
    struct disk_options *o = calloc(1, sizeof(*o));

    refuse(why, "no memory");
    if (o == NULL)
        return -ENOMEM;
    disk_options_init(o);
    o->text = strdup(list);
    o->place = strdup(place);
    if (o->text == NULL || o->place == NULL || !parse(o, why)) {
        int r = o->text == NULL || o->place == NULL ? -ENOMEM : -EINVAL;

        disk_options_free(o);
        return r;
    }
    *ret = o;
    return 0;
}

struct disk_options *disk_options_share(struct disk_options *o)
{
    atomic_fetch_add(&o->n_owners, 1);
    return o;
}

void disk_options_free(struct disk_options *o)
{
    if (o == NULL || atomic_fetch_sub(&o->n_owners, 1) > 0)
        return;
    free(o->text);
    free(o->place);
    free(o);
}

/* ---- two disks ---- */

static bool is_same(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool is_same_device(const struct backend_device *a, const struct backend_device *b)
{
    return is_same(a->socket_path, b->socket_path) && a->fd == b->fd &&
           a->is_client == b->is_client && a->reconnect_s == b->reconnect_s &&
           a->num_queues == b->num_queues && a->queue_size == b->queue_size &&
           a->xen_persistent_grants == b->xen_persistent_grants;
}

static bool is_same_file(const struct store_file_options *a, const struct store_file_options *b)
{
    return is_same(a->path, b->path) && a->block_size == b->block_size &&
           a->is_read_only == b->is_read_only && a->direct == b->direct && a->locking == b->locking;
}

bool disk_options_equal(const struct disk_options *a, const struct disk_options *b)
{
    return strcmp(a->name, b->name) == 0 && is_same_device(&a->device, &b->device) &&
           is_same_file(&a->file, &b->file) && a->ram == b->ram && is_same(a->serial, b->serial) &&
           a->delay_ms == b->delay_ms && a->ignores_discard == b->ignores_discard &&
           a->iommu == b->iommu;
}

bool disk_options_exclude(const struct disk_options *a, const struct disk_options *b)
{
    bool may_share = (a->file.is_read_only && b->file.is_read_only) ||
                     (a->file.locking == STORE_OFF && b->file.locking == STORE_OFF);

    return !may_share;
}
