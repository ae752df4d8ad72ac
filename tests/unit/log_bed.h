/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A whole daemon and a front-end that drives its dirty log by raw messages. The device writes all
 * of its buffers, at once or when it is told to. What goes wrong here fails the test that is
 * running.
 */
#pragma once

#include "patience.h"

#include <godwit.h>
#include <godwit/frontend/frontend.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define GPA    UINT64_C(0x40000000)
#define MEMORY (UINT64_C(4) << 20)
#define LATE   (GPA + (UINT64_C(64) << 20)) /* where regions are added */
#define USED   (GPA + (UINT64_C(32) << 20)) /* log_guest_addr of queue 0: no memory is there */
#define UVA    UINT64_C(0x7f0000000000)
#define WAIT   patience_ms()

enum {
    QUEUES = 2,
    SIZE = 256,
    PAGE = 4096
};

struct log_bed {
    struct gw_daemon *daemon;
    struct gw_guest_mem *mem;
    struct gw_driver_config rings[QUEUES];
    struct gw_driver *drivers[QUEUES];
    struct gw_frontend *fe;
    gw_gpa_t data;
    char path[64];
    int log; /* the fd of the last log made */
    uint64_t log_size;
    uint64_t used_len;
    bool hold;               /* atomic: requests wait for release() */
    struct gw_request *held; /* atomic: one at most */
    unsigned n_ready;        /* atomic */
    unsigned n_over;         /* atomic: sessions */
    pthread_mutex_t lock;
    char message[512]; /* lock: the last warning */
};

/* A daemon with two queues of a worker each, guest memory, drivers; not connected. */
void log_bed_begin(struct log_bed *b);
void log_bed_end(struct log_bed *b);

/* Negotiate, without EVENT_IDX; the same with memory and both queues running. */
void log_bed_connect(struct log_bed *b);
void log_bed_start_queues(struct log_bed *b);
void log_bed_start(struct log_bed *b);

/* Wait until `n` sessions are over. */
void log_bed_session_ends(struct log_bed *b, unsigned n);

/* The last warning has this text in it. */
void log_bed_told(struct log_bed *b, const char *text);
void log_bed_add_region(struct log_bed *b, gw_gpa_t gpa, uint64_t len);

/* LOG_ALL on or off. Returns: as gw_frontend_set_features. */
int log_bed_log_all(struct log_bed *b, bool on);

/* Make a log for [0, end), and tell the daemon. Returns: 0; what came instead of the echo. */
int log_bed_new_log(struct log_bed *b, gw_gpa_t log_end, uint64_t offset);
int log_bed_set_log_base(struct log_bed *b, int fd, uint64_t offset, uint64_t size, uint32_t flags);
void log_bed_give_log(struct log_bed *b);
int log_bed_set_log_fd(struct log_bed *b, int fd);
int log_bed_log_ring(struct log_bed *b, unsigned i, gw_gpa_t log);

/* Requests with one buffer that the device writes. */
void log_bed_add(struct log_bed *b, unsigned queue, gw_gpa_t gpa, uint32_t len);
void log_bed_take(struct log_bed *b, unsigned queue);
void log_bed_io(struct log_bed *b, unsigned queue, gw_gpa_t gpa, uint32_t len);

/* The device holds one request, with `hold` set; it answers it, now or in 30 ms. */
void log_bed_wait_held(struct log_bed *b);
void log_bed_release(struct log_bed *b);
void *log_bed_release_soon(void *arg);

/* Marks, by pread: the daemon alone maps the log. */
bool log_bed_is_marked(struct log_bed *b, gw_gpa_t gpa);
bool log_bed_fd_is_marked(int fd, gw_gpa_t gpa);
void log_bed_wait_marked(struct log_bed *b, gw_gpa_t gpa);
unsigned log_bed_count(int fd, uint64_t size);
unsigned log_bed_mappings(void);
