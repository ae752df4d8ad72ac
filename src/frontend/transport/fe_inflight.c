/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The inflight region, in which a back-end records the requests that it has taken and not completed
 * ("Inflight I/O tracking"), and its transfer to a back-end. The front-end only keeps the region.
 * Its contents belong to the back-end; only the minimum length is checked.
 */
#include "fd/peer_fd.h"
#include "fe_requests.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
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

/* Is the answer memory for the requested number and size of queues? */
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

static int take_inflight(struct gw_frontend_op *op, struct gw_frontend_message *answer)
{
    struct gw_frontend_inflight *ret = op->call.ret;
    int fd = answer->n_fds ? answer->fds[0] : -1, r;
    struct gw_wire_inflight got;

    memcpy(&got, answer->payload, sizeof(got));
    /* An empty reply without an fd means no region, as in QEMU. */
    if (got.mmap_size == 0 && fd < 0) {
        *ret = (struct gw_frontend_inflight){.fd = -1};
        return 0;
    }
    r = check_region(op->fe, &op->call.payload.inflight, &got, fd);
    if (r < 0)
        return r;
    answer->n_fds = 0;
    *ret = (struct gw_frontend_inflight){
        .fd = fd,
        .mmap_size = got.mmap_size,
        .mmap_offset = got.mmap_offset,
        .num_queues = got.num_queues,
        .queue_size = got.queue_size,
    };
    return 0;
}

int gw_frontend_encode_get_inflight(struct gw_frontend_op *op, unsigned num_queues,
                                    unsigned queue_size, struct gw_frontend_inflight *ret)
{
    if (num_queues == 0 || num_queues > UINT16_MAX || queue_size == 0 || queue_size > UINT16_MAX)
        return gw_frontend_fail(-EINVAL, "GET_INFLIGHT_FD: %u queues of %u", num_queues,
                                queue_size);
    op->call = (struct gw_frontend_call){
        .request = GW_MSG_GET_INFLIGHT_FD,
        .payload.inflight = {.num_queues = (uint16_t)num_queues,
                             .queue_size = (uint16_t)queue_size},
        .size = sizeof(op->call.payload.inflight),
        .needs = GW_FRONTEND_NEEDS(INFLIGHT_SHMFD),
        .has_reply = true,
        .reply_size = sizeof(op->call.payload.inflight),
        .has_reply_fd = true,
        .finish = take_inflight,
        .ret = ret,
    };
    return GW_FRONTEND_STEP_SEND;
}

int gw_frontend_encode_set_inflight(struct gw_frontend_op *op,
                                    const struct gw_frontend_inflight *inflight)
{
    op->call = (struct gw_frontend_call){
        .request = GW_MSG_SET_INFLIGHT_FD,
        .payload.inflight = {.mmap_size = inflight->mmap_size,
                             .mmap_offset = inflight->mmap_offset,
                             .num_queues = inflight->num_queues,
                             .queue_size = inflight->queue_size},
        .size = sizeof(op->call.payload.inflight),
        .needs = GW_FRONTEND_NEEDS(INFLIGHT_SHMFD),
        .fds = {inflight->fd},
        .n_fds = 1,
    };
    return GW_FRONTEND_STEP_SEND;
}
