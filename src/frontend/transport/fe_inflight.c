/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The inflight region, in which a back-end records the requests that it has taken and not completed
 * ("Inflight I/O tracking"), and its transfer to a back-end. The front-end only keeps the region.
 * Its contents belong to the back-end; only the minimum length is checked.
 */
#include "base/proto.h"
#include "fd/peer_fd.h"
#include "fe_requests.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

/* Sizes for one queue ("Inflight I/O tracking"): the header and each entry. */
#define SPLIT_HEADER  16
#define SPLIT_ENTRY   16
#define PACKED_HEADER 32
#define PACKED_ENTRY  32

void gw_frontend_inflight_done(struct gw_frontend_inflight *inflight)
{
    if (inflight->mmap_size)
        gw_peer_fd_close(&inflight->fd);
    *inflight = (struct gw_frontend_inflight){.fd = -1};
}

static uint64_t min_length(const struct gw_frontend *fe, const struct gw_wire_inflight *w)
{
    uint64_t part = SPLIT_HEADER + SPLIT_ENTRY * (uint64_t)w->queue_size;

    if (fe->features >> GW_F_RING_PACKED & 1)
        part = PACKED_HEADER + PACKED_ENTRY * (uint64_t)w->queue_size;
    return part * w->num_queues;
}

/* Check that the reply is memory for the requested number and size of queues, or end the session.
 */
static int check_region(struct gw_frontend *fe, const struct gw_wire_inflight *asked,
                        const struct gw_wire_inflight *got, int fd)
{
    struct stat st;

    if (got->num_queues != asked->num_queues || got->queue_size != asked->queue_size)
        return gw_frontend_break(
            fe, -EPROTO, "GET_INFLIGHT_FD: answered for %u queues of %u, not %u of %u",
            got->num_queues, got->queue_size, asked->num_queues, asked->queue_size);
    if (fd < 0)
        return gw_frontend_break(fe, -EPROTO, "GET_INFLIGHT_FD: answered without an fd");
    if (got->mmap_size < min_length(fe, got))
        return gw_frontend_break(fe, -EPROTO,
                                 "GET_INFLIGHT_FD: %" PRIu64 " bytes cannot hold %u queues of %u",
                                 got->mmap_size, got->num_queues, got->queue_size);
    /* Any other file, for example one that the back-end serves itself, could block us forever. */
    if (gw_peer_fd_kind(fd) != GW_PEER_FD_MEMORY)
        return gw_frontend_break(fe, -EPROTO,
                                 "GET_INFLIGHT_FD: the fd is not memory (memfd, tmpfs, hugetlbfs)");
    if (fstat(fd, &st) < 0 || got->mmap_offset > (uint64_t)st.st_size ||
        got->mmap_size > (uint64_t)st.st_size - got->mmap_offset)
        return gw_frontend_break(fe, -EPROTO,
                                 "GET_INFLIGHT_FD: the file is shorter than the region");
    return 0;
}

int gw_frontend_get_inflight_fd(struct gw_frontend *fe, unsigned num_queues, unsigned queue_size,
                                struct gw_frontend_inflight *ret)
{
    struct gw_wire_inflight asked = {.num_queues = (uint16_t)num_queues,
                                     .queue_size = (uint16_t)queue_size};
    struct gw_wire_inflight got;
    int fd = -1, r;
    struct gw_frontend_call call = {
        .request = GW_MSG_GET_INFLIGHT_FD,
        .payload = &asked,
        .size = sizeof(asked),
        .reply = &got,
        .reply_size = sizeof(got),
        .reply_fd = &fd,
    };

    if (num_queues == 0 || num_queues > UINT16_MAX || queue_size == 0 || queue_size > UINT16_MAX)
        return gw_frontend_fail(-EINVAL, "GET_INFLIGHT_FD: %u queues of %u", num_queues,
                                queue_size);
    r = gw_frontend_gate(fe, GW_PROTOCOL_F_INFLIGHT_SHMFD, call.request);
    if (r == 0)
        r = gw_frontend_transact(fe, &call);
    if (r < 0)
        return r;
    /* An empty reply without an fd means no region, as in QEMU. */
    if (got.mmap_size == 0 && fd < 0) {
        *ret = (struct gw_frontend_inflight){.fd = -1};
        return 0;
    }
    r = check_region(fe, &asked, &got, fd);
    if (r < 0) {
        gw_peer_fd_close(&fd);
        return r;
    }
    *ret = (struct gw_frontend_inflight){
        .fd = fd,
        .mmap_size = got.mmap_size,
        .mmap_offset = got.mmap_offset,
        .num_queues = got.num_queues,
        .queue_size = got.queue_size,
    };
    return 0;
}

int gw_frontend_set_inflight_fd(struct gw_frontend *fe, const struct gw_frontend_inflight *inflight)
{
    struct gw_wire_inflight w = {
        .mmap_size = inflight->mmap_size,
        .mmap_offset = inflight->mmap_offset,
        .num_queues = inflight->num_queues,
        .queue_size = inflight->queue_size,
    };
    struct gw_frontend_call call = {
        .request = GW_MSG_SET_INFLIGHT_FD,
        .payload = &w,
        .size = sizeof(w),
        .fds = &inflight->fd,
        .n_fds = 1,
    };
    int r = gw_frontend_gate(fe, GW_PROTOCOL_F_INFLIGHT_SHMFD, call.request);

    return r < 0 ? r : gw_frontend_transact(fe, &call);
}

int gw_frontend_prepare_inflight(struct gw_frontend *fe, const struct gw_frontend_options *opt)
{
    unsigned num_queues = 1, queue_size = 1;
    int r = 0;

    for (unsigned i = 0; i < opt->n_drivers; i++) {
        if (gw_driver_index(opt->drivers[i]) >= num_queues)
            num_queues = gw_driver_index(opt->drivers[i]) + 1;
        if (gw_driver_size(opt->drivers[i]) > queue_size)
            queue_size = gw_driver_size(opt->drivers[i]);
    }
    if (opt->inflight->mmap_size == 0)
        r = gw_frontend_get_inflight_fd(fe, num_queues, queue_size, opt->inflight);
    if (r == 0 && opt->inflight->mmap_size)
        r = gw_frontend_set_inflight_fd(fe, opt->inflight);
    return r;
}
