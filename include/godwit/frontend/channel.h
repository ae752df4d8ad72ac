/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The requests of a back-end to its front-end (vhost-user.rst, "Back-end message types"), and what
 * they are about: shared memory regions, shared objects, host notifiers. The front-end checks each
 * request and calls back; the result of the callback is the answer.
 *
 * Everything that a back-end sends is to be distrusted. What a callback receives has the right
 * form, and its protocol feature was negotiated. Whether a range lies within its region is checked
 * by gw_frontend_shmem_map, and whether an object is known by the program.
 *
 * Context, unless a function states another: the thread of the front-end, also in callbacks. A
 * region belongs to one thread at a time.
 */
#ifndef GODWIT_FRONTEND_CHANNEL_H
#define GODWIT_FRONTEND_CHANNEL_H

#include <godwit/frontend/async.h>
#include <godwit/frontend/frontend.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define GW_FRONTEND_SHMEM_REGIONS  256   /* a region's number has 8 bits */
#define GW_FRONTEND_SHMEM_MAPS_MAX 16384 /* mappings of a region */
#define GW_FRONTEND_UUID_SIZE      16

/* A range of a shared memory region. `fd_offset` and `writable` are 0 in an unmap. */
struct gw_frontend_shmem_range {
    uint64_t shm_offset; /* in the region, in bytes */
    uint64_t fd_offset;  /* in the file that is mapped */
    uint64_t len;        /* not 0 */
    uint8_t shmid;       /* the region */
    bool writable;
};

/*
 * The requests that a front-end serves. Set `size` to sizeof(struct gw_frontend_channel_ops). Each
 * callback returns 0, or a negative errno that refuses the request. It runs in gw_frontend_run, or
 * in a blocking function while that waits, and may do what a gw_frontend_done_cb may. An `fd` stays
 * the library's, which closes it after the callback: duplicate it to keep it. It may be any file,
 * so that even fstat(2) may block. NULL: the back-end may not make the request, and its protocol
 * feature is not negotiated by default.
 */
struct gw_frontend_channel_ops {
    size_t size;

    /* The config space has changed, see gw_frontend_get_config. */
    int (*config_changed)(void *arg);

    /* Map `fd` into a region; the body is usually gw_frontend_shmem_map. */
    int (*shmem_map)(void *arg, const struct gw_frontend_shmem_range *range, int fd);

    /* Unmap the range of one mapping; the body is usually gw_frontend_shmem_unmap. */
    int (*shmem_unmap)(void *arg, const struct gw_frontend_shmem_range *range);

    /* This back-end offers, or no longer offers, the object `uuid`, 16 bytes, to other devices. */
    int (*object_add)(void *arg, const uint8_t *uuid);
    int (*object_remove)(void *arg, const uint8_t *uuid);

    /*
     * Return an fd of the object `uuid`, which another back-end has added: see
     * gw_frontend_get_shared_object. The library closes it. A negative errno: unknown.
     */
    int (*object_lookup)(void *arg, const uint8_t *uuid);

    /*
     * Map `size` bytes of `fd` from byte `offset` in place of the notification address of queue
     * `index`, 0 to 255. With `fd` -1, trap that address again. `size` and `offset` are multiples
     * of the page size.
     */
    int (*host_notifier)(void *arg, unsigned index, int fd, uint64_t offset, uint64_t size);
};

/*
 * Serve the back-end channel of this and later sessions with `ops`, and `arg` for its callbacks.
 * Requests that `ops` does not serve go to the callback of gw_frontend_set_backend_cb, if any;
 * otherwise they are refused. Call it before gw_frontend_negotiate, which accepts the protocol
 * features of the requests that are served: SHMEM (22), SHARED_OBJECT (18), HOST_NOTIFIER (11), and
 * BACKEND_SEND_FD (10). `ops` NULL: serve no requests.
 *
 * Ownership: `ops` is copied.
 * Returns: 0; -EINVAL if `size` is smaller than in the first version; -E2BIG if a member is set
 * that only later versions know.
 */
int gw_frontend_set_channel_ops(struct gw_frontend *fe, const struct gw_frontend_channel_ops *ops,
                                void *arg);

/* ---- Requests about what a back-end shares ---- */

/*
 * Read the sizes in bytes of the shared memory regions of the device: GET_SHMEM_CONFIG. ret[shmid],
 * of GW_FRONTEND_SHMEM_REGIONS entries, is 0 for a region that the device does not have. Needs
 * SHMEM (22).
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_get_shmem_config(struct gw_frontend *fe, uint64_t *ret);

/*
 * Get the object `uuid`, 16 bytes, that the back-end has added: GET_SHARED_OBJECT. Needs
 * SHARED_OBJECT (18).
 *
 * Ownership: the caller closes `*ret`. It may be any file of the back-end.
 * Returns: as gw_frontend_get_features; -ENOENT if the back-end does not have it.
 * Context: as gw_frontend_get_features.
 */
int gw_frontend_get_shared_object(struct gw_frontend *fe, const uint8_t *uuid, int *ret);

/*
 * Start the request of the function without "_async". `uuid` is copied.
 *
 * Returns: as gw_frontend_get_features_async.
 */
int gw_frontend_get_shmem_config_async(struct gw_frontend *fe, uint64_t *ret,
                                       gw_frontend_done_cb *done, void *arg);
int gw_frontend_get_shared_object_async(struct gw_frontend *fe, const uint8_t *uuid, int *ret,
                                        gw_frontend_done_cb *done, void *arg);

/* ---- A shared memory region ---- */

/*
 * A range of addresses of this process, of which a back-end fills parts with its files. The rest is
 * reserved: an access there raises SIGSEGV. A VMM shows the range to its guest. An access to a
 * mapping whose file the back-end has truncated raises SIGBUS.
 */
struct gw_frontend_shmem;

/*
 * Reserve `size` bytes, a multiple of the page size.
 *
 * Ownership: free the result with gw_frontend_shmem_free.
 * Returns: 0; -EINVAL for another size; -ENOMEM; the errno of mmap(2).
 */
int gw_frontend_shmem_new(struct gw_frontend_shmem **ret, uint64_t size);

/* Unmap everything. `s` may be NULL. */
void gw_frontend_shmem_free(struct gw_frontend_shmem *s);

/*
 * Map the range of `fd` into the region, read-only unless `writable`. `shmid` has no effect.
 *
 * Ownership: `fd` stays the caller's; the mapping does not need it.
 * Returns: 0; -EINVAL if the range is empty, no multiple of the page size, outside of the region or
 * of the file, or if the file is not memory and another process may serve it; -EEXIST if it
 * overlaps a mapping; -ENOSPC beyond GW_FRONTEND_SHMEM_MAPS_MAX; -ENOMEM; the errno of mmap(2):
 * -EACCES for a writable mapping of a read-only fd, for example.
 */
int gw_frontend_shmem_map(struct gw_frontend_shmem *s, const struct gw_frontend_shmem_range *range,
                          int fd);

/*
 * Unmap the mapping that has exactly this range.
 *
 * Returns: 0; -ENOENT if there is no such mapping; -ENOMEM, and it stays mapped.
 */
int gw_frontend_shmem_unmap(struct gw_frontend_shmem *s,
                            const struct gw_frontend_shmem_range *range);

/*
 * Unmap all mappings: when the driver resets the device, and when the session ends.
 *
 * Returns: 0; -ENOMEM, and all stay mapped.
 */
int gw_frontend_shmem_reset(struct gw_frontend_shmem *s);

/*
 * The first address of the region, its size in bytes, and the number of mappings in it.
 *
 * Ownership: the memory stays the region's.
 * Returns: the address; the size; the number.
 */
void *gw_frontend_shmem_base(const struct gw_frontend_shmem *s);
uint64_t gw_frontend_shmem_size(const struct gw_frontend_shmem *s);
unsigned gw_frontend_shmem_n_maps(const struct gw_frontend_shmem *s);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
