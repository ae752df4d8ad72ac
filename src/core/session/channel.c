/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The requests of <godwit/channel.h>: their arguments become messages. */
#include "backend_req.h"
#include "base/checked.h"
#include "core/daemon/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* Start request `id` with `size` bytes of payload and a duplicate of `fd`, unless that is -1. */
static int start(struct gw_daemon *d, struct gw_channel_request *given, uint32_t id,
                 const void *payload, uint32_t size, int fd)
{
    struct gw_backend_req *req = (struct gw_backend_req *)(void *)given;

    req->id = id;
    req->size = size;
    if (size)
        memcpy(req->payload, payload, size);
    req->send_fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0 && req->send_fd < 0)
        return gw_fail(-errno, "fd %d cannot be duplicated: %s", fd, strerror(errno));
    return gw_backend_req_start(d, req);
}

int gw_channel_config_changed(struct gw_daemon *d, struct gw_channel_request *req)
{
    return start(d, req, GW_BACKEND_MSG_CONFIG_CHANGE, NULL, 0, -1);
}

/* ---- shared memory ---- */

static int check_range(const struct gw_daemon *d, const struct gw_wire_mmap *m)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t size = d->shmem ? d->shmem->sizes[m->shmid] : 0;

    if (m->len == 0 || m->shm_offset > size || m->len > size - m->shm_offset)
        return gw_fail(-EINVAL,
                       "%#" PRIx64 " bytes at %#" PRIx64
                       " are outside of shared memory region %u of %#" PRIx64 " bytes",
                       m->len, m->shm_offset, m->shmid, size);
    if (m->len % page || m->shm_offset % page || m->fd_offset % page)
        return gw_fail(-EINVAL,
                       "a mapping of %#" PRIx64 " bytes at %#" PRIx64
                       " is not a multiple of the page size",
                       m->len, m->shm_offset);
    return 0;
}

int gw_channel_shmem_map(struct gw_daemon *d, struct gw_channel_request *req, uint8_t shmid,
                         uint64_t shm_offset, int fd, uint64_t fd_offset, uint64_t len,
                         bool writable)
{
    const struct gw_wire_mmap m = {
        .shmid = shmid,
        .fd_offset = fd_offset,
        .shm_offset = shm_offset,
        .len = len,
        .flags = writable ? GW_MMAP_F_WRITABLE : 0,
    };
    int r = check_range(d, &m);

    if (r == 0 && fd < 0)
        r = gw_fail(-EBADF, "a mapping needs an fd");
    return r < 0 ? r : start(d, req, GW_BACKEND_MSG_SHMEM_MAP, &m, sizeof(m), fd);
}

int gw_channel_shmem_unmap(struct gw_daemon *d, struct gw_channel_request *req, uint8_t shmid,
                           uint64_t shm_offset, uint64_t len)
{
    const struct gw_wire_mmap m = {.shmid = shmid, .shm_offset = shm_offset, .len = len};
    int r = check_range(d, &m);

    return r < 0 ? r : start(d, req, GW_BACKEND_MSG_SHMEM_UNMAP, &m, sizeof(m), -1);
}

/* ---- shared objects ---- */

int gw_channel_object_add(struct gw_daemon *d, struct gw_channel_request *req, const uint8_t *uuid)
{
    return start(d, req, GW_BACKEND_MSG_SHARED_OBJECT_ADD, uuid, GW_UUID_SIZE, -1);
}

int gw_channel_object_remove(struct gw_daemon *d, struct gw_channel_request *req,
                             const uint8_t *uuid)
{
    return start(d, req, GW_BACKEND_MSG_SHARED_OBJECT_REMOVE, uuid, GW_UUID_SIZE, -1);
}

int gw_channel_object_lookup(struct gw_daemon *d, struct gw_channel_request *req,
                             const uint8_t *uuid)
{
    return start(d, req, GW_BACKEND_MSG_SHARED_OBJECT_LOOKUP, uuid, GW_UUID_SIZE, -1);
}

/* ---- host notifiers ---- */

int gw_channel_host_notifier(struct gw_queue *q, struct gw_channel_request *req, int fd,
                             uint64_t offset, uint64_t size)
{
    const struct gw_wire_vring_area area = {
        .index = q->index | (fd < 0 ? GW_VRING_FD_NONE : 0),
        .size = fd < 0 ? 0 : size,
        .offset = fd < 0 ? 0 : offset,
    };

    if (fd >= 0 && size == 0)
        return gw_fail(-EINVAL, "the notifier of queue %u has no bytes", q->index);
    return start(q->daemon, req, GW_BACKEND_MSG_VRING_HOST_NOTIFIER, &area, sizeof(area), fd);
}
