/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A test bed: one daemon with a disk behind a socket path, what it told (its diag), and guests that
 * connect to it. Whatever a test does to the daemon, bed_check asks afterwards: does it serve the
 * next front-end with the right data, and did it let go of all that the last one gave it?
 *
 * Functions without a return value fail the cmocka test themselves.
 */
#pragma once

#include "disk.h"
#include "patience.h"

#include "load/load.h"
#include <godwit/frontend/frontend.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define BED_QUEUES     2
#define BED_QUEUE_SIZE 2048 /* the largest */
#define BED_STALL_MS   patience_ms()

struct bed_config {
    enum gw_loop_kind loop;
    enum disk_kind kind;
    enum gw_queue_sync sync;
    unsigned delay_ms;
    unsigned drain_ms;
    unsigned n_workers; /* default 1 */
};

struct bed {
    struct gw_daemon *daemon;
    struct disk disk;
    char dir[64];
    char path[80];
    struct fdcheck *idle; /* what is open and mapped while nobody is connected */
    unsigned n_opened;    /* sessions, by bed_connect */
    unsigned n_checks;
    pthread_mutex_t lock;
    pthread_cond_t told;
    char *text; /* [lock] all diag lines since bed_forget */
    size_t text_len;
    size_t text_room;
    unsigned n_over; /* [lock] sessions */
};

void bed_start(struct bed *b, const struct bed_config *cfg);
void bed_stop(struct bed *b);
/* The daemon has stopped: nothing must be left of what it served. And it starts again. */
void bed_restart(struct bed *b);

/* Forget what was told so far; was this told since? */
void bed_forget(struct bed *b);
bool bed_said(struct bed *b, const char *text);
/* The same within a few seconds; prints what was told instead when it was not. */
bool bed_says(struct bed *b, const char *text);

/* Connect, counted. Returns: as gw_frontend_connect. */
int bed_connect(struct bed *b, struct gw_frontend *fe);
/* Wait until every session is over. Returns: true; false when one has not ended in 10 s. */
bool bed_wait_idle(struct bed *b);

/*
 * Everything is let go of, a next front-end writes and reads what it wrote on both queues, and
 * again everything is let go of. Returns: whether; if not, stderr tells of what `name` did not.
 */
bool bed_check(struct bed *b, const char *name);

/* A guest: memory, two drivers and a front-end. */
struct guest {
    struct gw_guest_mem *mem;
    struct gw_driver *drivers[BED_QUEUES];
    struct gw_frontend *fe;
    struct gw_frontend_options opt;
    /*
     * Of guest_io, one for each queue and kept: ThreadSanitizer cannot see that one worker is done
     * with a buffer before another has it, since that is told through memory mapped twice.
     */
    struct gw_driver_blk blk[BED_QUEUES];
    struct gw_driver_buf buf[BED_QUEUES];
};

#define GUEST_GPA  UINT64_C(0x40000000)
#define GUEST_SIZE (UINT64_C(2) << 20)
/* User addresses are guest addresses plus this. */
#define GUEST_UVA UINT64_C(0x7f0000000000)

/* Features a session may want to do without. */
#define GUEST_FEATURES  ((UINT64_C(1) << 28) | (UINT64_C(1) << 30) | (UINT64_C(1) << 32))
#define GUEST_EVENT_IDX (UINT64_C(1) << 29)
#define GUEST_PROTOCOL                                                                   \
    ((UINT64_C(1) << 0) | (UINT64_C(1) << 1) | (UINT64_C(1) << 3) | (UINT64_C(1) << 5) | \
     (UINT64_C(1) << 9) | (UINT64_C(1) << 13) | (UINT64_C(1) << 15))
#define GUEST_REPLY_ACK (UINT64_C(1) << 3)

void guest_init(struct guest *g, unsigned queue_size);
void guest_done(struct guest *g);
/* Write a pattern with one driver and read it back. Returns: 0 or a negative errno. */
int guest_io(struct guest *g, unsigned queue, uint64_t sector, uint8_t pattern);

/* New descriptors of all kinds a front-end might pass. */
enum fd_kind {
    FD_MEMFD = 0, /* 2 MiB */
    FD_MEMFD_SHORT,
    FD_MEMFD_READ_ONLY,
    FD_EVENTFD,
    FD_EVENTFD_FULL_BLOCKING,
    FD_PIPE_READ,
    FD_PIPE_WRITE,
    FD_PIPE_WRITE_NO_READER,
    FD_PIPE_READ_NO_WRITER,
    FD_SOCKET,
    FD_SOCKET_NO_PEER,
    FD_SOCKET_LISTENING,
    FD_DIRECTORY,
    FD_DEV_NULL,
    FD_REGULAR,
    N_FD_KINDS,
};

/* Never fails. What keeps it as it is, is kept until fds_done. */
int fd_make(enum fd_kind kind);
const char *fd_kind_name(enum fd_kind kind);
void fds_done(void);

/* On an io_uring loop, and on an epoll loop. */
bool bed_has_uring(void);
