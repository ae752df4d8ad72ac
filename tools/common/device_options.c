/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The settings of any device: its socket and its queues. */
#include "backend.h"
#include "option_keys.h"

#include <stdio.h>
#include <string.h>

#define RECONNECT_S_MAX 3600

#define XEN_PAGES_DEFAULT 4096
#define XEN_PAGES_MAX     65536 /* the kernel's limit for one mapping */

static bool set_unsigned(unsigned *to, const char *value, unsigned min, unsigned max,
                         struct value_error *why)
{
    uint64_t number = 0;

    if (!value_number(value, min, max, &number, why))
        return false;
    *to = (unsigned)number;
    return true;
}

static bool set_socket(void *to, const char *value, struct value_error *why)
{
    ((struct backend_device *)to)->socket_path = value;
    return true;
}

static bool set_client(void *to, const char *value, struct value_error *why)
{
    ((struct backend_device *)to)->is_client = true;
    return true;
}

static bool set_reconnect(void *to, const char *value, struct value_error *why)
{
    struct backend_device *device = to;

    device->reconnect_s = 1;
    return value == NULL || set_unsigned(&device->reconnect_s, value, 0, RECONNECT_S_MAX, why);
}

static bool set_fd(void *to, const char *value, struct value_error *why)
{
    unsigned fd = 0;

    if (!set_unsigned(&fd, value, 0, INT32_MAX, why))
        return false;
    ((struct backend_device *)to)->fd = (int)fd;
    return true;
}

static bool set_num_queues(void *to, const char *value, struct value_error *why)
{
    return set_unsigned(&((struct backend_device *)to)->num_queues, value, 1, GW_QUEUES_MAX, why);
}

static bool set_queue_size(void *to, const char *value, struct value_error *why)
{
    struct backend_device *device = to;

    if (!set_unsigned(&device->queue_size, value, 2, GW_QUEUE_SIZE_MAX, why))
        return false;
    if ((device->queue_size & (device->queue_size - 1)) == 0)
        return true;
    snprintf(why->text, sizeof(why->text), "is not a power of two");
    return false;
}

static bool set_xen_persistent_grants(void *to, const char *value, struct value_error *why)
{
    struct backend_device *device = to;

    if (!BACKEND_HAS_XEN) {
        snprintf(why->text, sizeof(why->text), "needs a program that is built with Xen memory");
        return false;
    }
    device->xen_persistent_grants = XEN_PAGES_DEFAULT;
    return value == NULL ||
           set_unsigned(&device->xen_persistent_grants, value, 0, XEN_PAGES_MAX, why);
}

const struct setting backend_device_settings[] = {
    {"socket-path", "socket", OPTION_SOCKET_PATH, SETTING_VALUE, false, set_socket},
    {"client", NULL, OPTION_CLIENT, SETTING_FLAG, false, set_client},
    {"reconnect", NULL, OPTION_RECONNECT, SETTING_OPTIONAL, false, set_reconnect},
    {"fd", NULL, OPTION_FD, SETTING_VALUE, true, set_fd},
    {"num-queues", NULL, OPTION_NUM_QUEUES, SETTING_VALUE, false, set_num_queues},
    {"queue-size", NULL, OPTION_QUEUE_SIZE, SETTING_VALUE, false, set_queue_size},
    {"xen-persistent-grants", NULL, OPTION_XEN_PERSISTENT_GRANTS, SETTING_OPTIONAL, false,
     set_xen_persistent_grants},
    {0},
};

void backend_device_init(struct backend_device *device)
{
    *device = (struct backend_device){.fd = -1, .num_queues = 1, .queue_size = 1024};
}

bool backend_device_check(const struct backend_device *device, const char *dashes,
                          struct value_error *why)
{
    if (device->reconnect_s == 0 || device->is_client)
        return true;
    snprintf(why->text, sizeof(why->text),
             "%sreconnect needs %sclient; a listening socket accepts again anyway", dashes, dashes);
    return false;
}
