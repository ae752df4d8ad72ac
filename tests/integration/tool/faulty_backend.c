/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The session of the faulty back-end: messages, memory, the dirty log. It trusts every message,
 * because the test is its only front-end.
 */
#include "faulty_backend.h"

#include "base/proto.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define BIT(n)    (UINT64_C(1) << (n))
#define PAGE      4096u
#define BATCH     8   /* requests between two polls of the socket */
#define OLD_MARKS 200 /* number of marks that still go to a replaced log */
#define LATE_MS   20
#define TAKEN_MS  100 /* a front-end reads its log more often */
#define SLOW_US   1000
#define IDLE_MS   10

struct message {
    struct gw_wire_header h;
    uint8_t payload[512];
    int fds[8];
    unsigned n_fds;
};

/* The driver never passes such addresses, but memory whose pages never arrived contains them. */
__attribute__((noreturn)) static void give_up(const struct faulty_backend *s)
{
    if (s->is_listening)
        pthread_exit(NULL);
    abort();
}

void *faulty_backend_at(const struct faulty_backend *s, uint64_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < s->n_regions; i++) {
        const struct faulty_backend_region *g = &s->regions[i];

        if (gpa >= g->gpa && gpa + len <= g->gpa + g->size)
            return g->host + (gpa - g->gpa);
    }
    give_up(s);
}

void *faulty_backend_at_uva(const struct faulty_backend *s, uint64_t uva)
{
    for (unsigned i = 0; i < s->n_regions; i++) {
        const struct faulty_backend_region *g = &s->regions[i];

        if (uva >= g->uva && uva < g->uva + g->size)
            return g->host + (uva - g->uva);
    }
    give_up(s);
}

void faulty_backend_mark(struct faulty_backend *s, uint64_t gpa, uint64_t len)
{
    struct faulty_backend_log *log = &s->log;

    if (!(s->features & BIT(GW_F_LOG_ALL)) && s->fault != FAULTY_MARKS_AFTER_OFF)
        return;
    if (s->fault == FAULTY_NO_MARKS || !log->bits)
        return;
    for (unsigned i = 0; s->fault == FAULTY_LATER_REGION && i < s->n_regions; i++) {
        if (gpa - s->regions[i].gpa < s->regions[i].size && !s->regions[i].in_log)
            return;
    }
    if (s->old_left && s->old_log.bits) {
        s->old_left--;
        log = &s->old_log;
    }
    for (uint64_t page = gpa / PAGE; page <= (gpa + len - 1) / PAGE; page++) {
        if (page / 8 < log->size)
            __atomic_fetch_or(&log->bits[page / 8], (uint8_t)(1u << (page % 8)), __ATOMIC_SEQ_CST);
    }
}

void faulty_backend_wait_taken(const struct faulty_backend *s, uint64_t gpa)
{
    const struct faulty_backend_log *log = &s->log;
    uint64_t page = gpa / PAGE;

    for (unsigned ms = 0; ms < TAKEN_MS && page / 8 < log->size; ms++) {
        if (!(__atomic_load_n(&log->bits[page / 8], __ATOMIC_SEQ_CST) & 1u << (page % 8)))
            break;
        usleep(1000);
    }
}

static void unmap_log(struct faulty_backend_log *log)
{
    if (log->map)
        munmap(log->map, log->map_len);
    memset(log, 0, sizeof(*log));
}

static void set_log(struct faulty_backend *s, const struct gw_wire_log *wire, int fd)
{
    uint64_t residual = wire->mmap_offset % PAGE;

    unmap_log(&s->old_log);
    if (s->fault == FAULTY_OLD_LOG && s->log.map) {
        s->old_log = s->log;
        s->old_left = OLD_MARKS;
    } else {
        unmap_log(&s->log);
    }
    s->log.map_len = wire->mmap_size + residual;
    s->log.map = mmap(NULL, s->log.map_len, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                      (off_t)(wire->mmap_offset - residual));
    s->log.bits = s->log.map + residual;
    s->log.size = wire->mmap_size;
    for (unsigned i = 0; i < s->n_regions; i++)
        s->regions[i].in_log = true;
}

static void add_region(struct faulty_backend *s, const struct gw_wire_region *wire, int fd)
{
    struct faulty_backend_region *g = &s->regions[s->n_regions++];

    *g = (struct faulty_backend_region){
        .gpa = wire->guest_addr, .size = wire->size, .uva = wire->user_addr, .map_len = wire->size};
    g->map =
        mmap(NULL, g->map_len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)wire->mmap_offset);
    g->host = g->map;
}

static void remove_region(struct faulty_backend *s, uint64_t gpa)
{
    for (unsigned i = 0; i < s->n_regions; i++) {
        if (s->regions[i].gpa != gpa)
            continue;
        munmap(s->regions[i].map, s->regions[i].map_len);
        s->regions[i] = s->regions[--s->n_regions];
        return;
    }
}

static bool receive(int fd, struct message *msg)
{
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(sizeof(int) * 8)];
    } control;
    struct iovec iov = {.iov_base = &msg->h, .iov_len = sizeof(msg->h)};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = sizeof(control)};
    struct cmsghdr *c;

    msg->n_fds = 0;
    if (recvmsg(fd, &mh, MSG_CMSG_CLOEXEC | MSG_WAITALL) != (ssize_t)sizeof(msg->h))
        return false;
    c = CMSG_FIRSTHDR(&mh);
    if (c && c->cmsg_type == SCM_RIGHTS) {
        msg->n_fds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(msg->fds, CMSG_DATA(c), msg->n_fds * sizeof(int));
    }
    return msg->h.size <= sizeof(msg->payload) &&
           (!msg->h.size ||
            recv(fd, msg->payload, msg->h.size, MSG_WAITALL) == (ssize_t)msg->h.size);
}

/* The answer has the userfaultfd and no payload. */
static bool reply_uffd(struct faulty_backend *s, struct message *msg)
{
    struct gw_wire_header h = {.request = msg->h.request, .flags = 5};
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(sizeof(int))];
    } control = {.align = {.cmsg_len = CMSG_LEN(sizeof(int)),
                           .cmsg_level = SOL_SOCKET,
                           .cmsg_type = SCM_RIGHTS}};
    struct iovec iov = {.iov_base = &h, .iov_len = sizeof(h)};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
    int fd = faulty_backend_advise(s);

    if (s->fails_now && s->failure == FAULTY_WRONG_ID)
        h.request++;
    if (fd >= 0 && !(s->fails_now && s->failure == FAULTY_REFUSES)) {
        memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
        mh.msg_control = &control;
        mh.msg_controllen = sizeof(control);
    }
    return sendmsg(s->fd, &mh, MSG_NOSIGNAL) == (ssize_t)sizeof(h);
}

static bool reply(struct faulty_backend *s, struct message *msg, const void *payload, uint32_t size)
{
    struct gw_wire_header h = {.request = msg->h.request, .flags = 5, .size = size};
    char buf[2 * (sizeof(h) + 512)];
    size_t length = sizeof(h) + size;

    if (s->fails_now && s->failure == FAULTY_WRONG_ID)
        h.request++;
    memcpy(buf, &h, sizeof(h));
    memcpy(buf + sizeof(h), payload, size);
    /* Both copies in one call: sent later, the second would be the answer to the next request. */
    if (s->fails_now && s->failure == FAULTY_BABBLES) {
        memcpy(buf + length, buf, length);
        length *= 2;
    }
    return send(s->fd, buf, length, MSG_NOSIGNAL) == (ssize_t)length;
}

static bool reply_u64(struct faulty_backend *s, struct message *msg, uint64_t value)
{
    return reply(s, msg, &value, sizeof(value));
}

/* Stop a ring; a faulty back-end keeps some work for later. */
static bool get_vring_base(struct faulty_backend *s, struct message *msg)
{
    struct gw_wire_vring_state state;
    struct faulty_backend_queue *q;
    bool ok;

    memcpy(&state, msg->payload, sizeof(state));
    q = &s->queues[state.index];
    q->enabled = true;
    if (s->fault != FAULTY_STOP_IN_FLIGHT)
        faulty_backend_serve(s, q, UINT32_MAX);
    else if (q->next_avail != *(const uint16_t *)faulty_backend_at_uva(s, q->avail + 2))
        q->next_avail++;
    state.num = q->next_avail;
    if (q->kick >= 0)
        close(q->kick);
    if (q->call >= 0)
        close(q->call);
    q->kick = q->call = -1;
    q->enabled = false;
    ok = reply(s, msg, &state, sizeof(state));
    if (s->fault == FAULTY_WRITE_AFTER_STOP && s->last_len) {
        usleep(LATE_MS * 1000);
        memset(faulty_backend_at(s, s->last_gpa, s->last_len), 0x77, s->last_len);
        faulty_backend_mark(s, s->last_gpa, s->last_len);
    }
    return ok;
}

static uint64_t limits_of(const struct faulty_backend *s)
{
    return (s->size_max ? UINT64_C(1) << VIRTIO_BLK_F_SIZE_MAX : 0) |
           (s->seg_max ? UINT64_C(1) << VIRTIO_BLK_F_SEG_MAX : 0) |
           (s->block_size ? UINT64_C(1) << VIRTIO_BLK_F_BLK_SIZE : 0);
}

static bool get_config(struct faulty_backend *s, struct message *msg)
{
    struct virtio_blk_config config = {.capacity = s->sectors,
                                       .size_max = s->size_max,
                                       .seg_max = s->seg_max,
                                       .blk_size = s->block_size,
                                       .num_queues = FAULTY_BACKEND_QUEUES};
    struct gw_wire_config head;

    memcpy(&head, msg->payload, sizeof(head));
    memcpy(msg->payload + sizeof(head), (char *)&config + head.offset, head.size);
    return reply(s, msg, msg->payload, msg->h.size);
}

/*
 * While memory is missing: report where the region is mapped. A final 8-byte message acknowledges.
 */
static bool show_region(struct faulty_backend *s, struct message *msg)
{
    struct gw_wire_single_region *single = (void *)msg->payload;

    if (msg->h.size == sizeof(uint64_t))
        return true;
    add_region(s, &single->region, msg->fds[0]);
    single->region.user_addr = faulty_backend_show(s, &s->regions[s->n_regions - 1]);
    return reply(s, msg, single, sizeof(*single));
}

/* Messages with their own answer. `ret_done`: the message was one of them. */
static bool handle_get(struct faulty_backend *s, struct message *msg, bool *ret_done)
{
    uint64_t features = BIT(GW_F_LOG_ALL) | BIT(GW_F_RING_INDIRECT_DESC) |
                        BIT(GW_F_RING_EVENT_IDX) | BIT(GW_F_PROTOCOL_FEATURES) |
                        BIT(GW_F_VERSION_1) | BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_MQ);
    uint64_t protocol = BIT(GW_PROTOCOL_F_MQ) | BIT(GW_PROTOCOL_F_LOG_SHMFD) |
                        BIT(GW_PROTOCOL_F_REPLY_ACK) | BIT(GW_PROTOCOL_F_CONFIG) |
                        BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS) |
                        (s->has_postcopy ? BIT(GW_PROTOCOL_F_PAGEFAULT) : 0);
    struct gw_wire_log log;

    *ret_done = true;
    switch (msg->h.request) {
    case GW_MSG_GET_FEATURES:
        return reply_u64(s, msg, (features | limits_of(s)) & ~s->features_off);
    case GW_MSG_GET_PROTOCOL_FEATURES:
        return reply_u64(s, msg, protocol);
    case GW_MSG_GET_QUEUE_NUM:
        return reply_u64(s, msg, FAULTY_BACKEND_QUEUES);
    case GW_MSG_GET_MAX_MEM_SLOTS:
        return reply_u64(s, msg, FAULTY_BACKEND_REGIONS);
    case GW_MSG_GET_CONFIG:
        return get_config(s, msg);
    case GW_MSG_GET_VRING_BASE:
        return get_vring_base(s, msg);
    case GW_MSG_POSTCOPY_ADVISE:
        return reply_uffd(s, msg);
    case GW_MSG_POSTCOPY_END:
        faulty_backend_forget_faults(s);
        s->is_listening = false;
        return reply_u64(s, msg, 0);
    case GW_MSG_ADD_MEM_REG:
        *ret_done = s->is_listening;
        return !s->is_listening || show_region(s, msg);
    case GW_MSG_REM_MEM_REG:
        *ret_done = s->is_listening && msg->h.size == sizeof(uint64_t); /* an acknowledgement */
        return true;
    case GW_MSG_SET_LOG_BASE:
        memcpy(&log, msg->payload, sizeof(log));
        set_log(s, &log, msg->fds[0]);
        return reply(s, msg, msg->payload, msg->h.size);
    default:
        *ret_done = false;
        return true;
    }
}

static void set_addr(struct faulty_backend *s, const struct gw_wire_vring_addr *a)
{
    struct faulty_backend_queue *q = &s->queues[a->index];

    q->desc = a->descriptor;
    q->avail = a->available;
    q->used = a->used;
    q->log = a->flags & GW_VRING_F_LOG;
    q->log_addr = a->log;
}

/* Store the fd of a kick or call. */
static void set_fd(struct message *msg, int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = msg->n_fds ? msg->fds[0] : -1;
    msg->n_fds = 0;
}

static void handle_set(struct faulty_backend *s, struct message *msg)
{
    const struct gw_wire_vring_state *state = (const void *)msg->payload;
    const struct gw_wire_single_region *region = (const void *)msg->payload;
    uint64_t value;

    memcpy(&value, msg->payload, sizeof(value));
    switch (msg->h.request) {
    case GW_MSG_SET_FEATURES:
        s->features = value;
        break;
    case GW_MSG_SET_PROTOCOL_FEATURES:
        s->protocol_features = value;
        break;
    case GW_MSG_POSTCOPY_LISTEN:
        s->is_listening = true;
        break;
    case GW_MSG_ADD_MEM_REG:
        add_region(s, &region->region, msg->fds[0]);
        break;
    case GW_MSG_REM_MEM_REG:
        remove_region(s, region->region.guest_addr);
        break;
    case GW_MSG_SET_VRING_NUM:
        s->queues[state->index].size = state->num;
        break;
    case GW_MSG_SET_VRING_BASE:
        s->queues[state->index].next_avail = (uint16_t)state->num;
        s->queues[state->index].next_used = s->queues[state->index].signalled =
            (uint16_t)state->num;
        break;
    case GW_MSG_SET_VRING_ADDR:
        set_addr(s, (const void *)msg->payload);
        break;
    case GW_MSG_SET_VRING_KICK:
        set_fd(msg, &s->queues[value & GW_VRING_FD_INDEX_MASK].kick);
        break;
    case GW_MSG_SET_VRING_CALL:
        set_fd(msg, &s->queues[value & GW_VRING_FD_INDEX_MASK].call);
        break;
    case GW_MSG_SET_VRING_ENABLE:
        s->queues[state->index].enabled = state->num;
        break;
    default:
        break;
    }
}

/* Returns: whether the session continues. */
static bool answer(struct faulty_backend *s, struct message *msg)
{
    bool done, ok;

    if (s->fails_now && s->failure == FAULTY_HANGS) {
        struct pollfd p = {.fd = s->quit_fd, .events = POLLIN};

        poll(&p, 1, -1);
        return false;
    }
    if (s->fails_now && s->failure == FAULTY_DIES)
        return false;
    if (s->fails_now && s->failure == FAULTY_IS_LATE)
        usleep((s->late_ms ? s->late_ms : FAULTY_BACKEND_LATE_ANSWER_MS) * 1000);
    ok = handle_get(s, msg, &done);
    if (!done) {
        handle_set(s, msg);
        if (msg->h.flags & GW_MSG_NEED_REPLY)
            ok = reply_u64(s, msg, s->fails_now && s->failure == FAULTY_REFUSES);
    }
    return ok;
}

static bool handle(struct faulty_backend *s, struct message *msg)
{
    bool ok;

    s->fails_now = s->failure && s->fail_request == msg->h.request;
    if (s->fails_now && s->fail_after > 0) {
        s->fail_after--;
        s->fails_now = false;
    }
    ok = answer(s, msg);
    for (unsigned i = 0; i < msg->n_fds; i++)
        close(msg->fds[i]);
    return ok;
}

static void *serve(void *arg)
{
    struct faulty_backend *s = arg;
    struct message msg;
    bool goes_on = true;

    while (goes_on) {
        struct pollfd p[2 + FAULTY_BACKEND_QUEUES] = {{.fd = s->fd, .events = POLLIN},
                                                      {.fd = s->quit_fd, .events = POLLIN}};
        uint64_t value;
        ssize_t n;

        for (unsigned i = 0; i < FAULTY_BACKEND_QUEUES; i++)
            p[2 + i] = (struct pollfd){.fd = s->queues[i].kick, .events = POLLIN};
        poll(p, 2 + FAULTY_BACKEND_QUEUES, IDLE_MS);
        if (p[1].revents)
            break;
        if (p[0].revents)
            goes_on = receive(s->fd, &msg) && handle(s, &msg);
        for (unsigned i = 0; goes_on && !p[0].revents && i < FAULTY_BACKEND_QUEUES; i++) {
            if (p[2 + i].revents) {
                n = read(s->queues[i].kick, &value, sizeof(value));
                (void)n;
            }
            if (s->fault == FAULTY_STOP_IN_FLIGHT && p[2 + i].revents)
                usleep(SLOW_US);
            faulty_backend_serve(s, &s->queues[i], BATCH);
            /* More requests than one batch: continue in the next turn. */
            value = 1;
            if (p[2 + i].revents && s->queues[i].kick >= 0 && s->queues[i].enabled) {
                const uint16_t *avail = faulty_backend_at_uva(s, s->queues[i].avail);

                if (avail[1] != s->queues[i].next_avail)
                    n = write(s->queues[i].kick, &value, sizeof(value));
            }
        }
    }
    shutdown(s->fd, SHUT_RDWR);
    return NULL;
}

void faulty_backend_start(struct faulty_backend *s, int fd)
{
    s->fd = fd;
    s->quit_fd = eventfd(0, EFD_CLOEXEC);
    s->features = s->protocol_features = 0;
    s->uffd = -1;
    s->is_listening = false;
    for (unsigned i = 0; i < FAULTY_BACKEND_QUEUES; i++)
        s->queues[i] = (struct faulty_backend_queue){.kick = -1, .call = -1};
    s->is_started = pthread_create(&s->thread, NULL, serve, s) == 0;
}

void faulty_backend_end(struct faulty_backend *s)
{
    uint64_t one = 1;
    ssize_t n;

    if (!s->is_started)
        return;
    n = write(s->quit_fd, &one, sizeof(one));
    (void)n;
    faulty_backend_forget_faults(s);
    pthread_join(s->thread, NULL);
    s->is_started = false;
    while (s->n_regions)
        remove_region(s, s->regions[0].gpa);
    unmap_log(&s->log);
    unmap_log(&s->old_log);
    for (unsigned i = 0; i < FAULTY_BACKEND_QUEUES; i++) {
        if (s->queues[i].kick >= 0)
            close(s->queues[i].kick);
        if (s->queues[i].call >= 0)
            close(s->queues[i].call);
    }
    close(s->fd);
    close(s->quit_fd);
}
