/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * One queue on one worker, with a driver in real guest memory: all of the data path and nothing of
 * the control path. What the control thread would ask of the queue, the tests ask.
 */
#pragma once

#include "base/proto.h"
#include "core/queue/queue.h"
#include "patience.h"

#include <godwit/frontend/frontend.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define RIG_GPA       UINT64_C(0x100000000)
#define RIG_UVA       UINT64_C(0x7e0000000000)
#define RIG_BUF_LEN   64u
#define RIG_WAIT_MS   patience_ms()
#define RIG_F_EVENT   GW_BIT(GW_F_RING_EVENT_IDX)
#define RIG_F_INDIR   GW_BIT(GW_F_RING_INDIRECT_DESC)
#define RIG_F_PACKED  GW_BIT(GW_F_RING_PACKED)
#define RIG_F_ORDER   GW_BIT(GW_F_IN_ORDER)
#define RIG_HELD_MAX  4096
#define RIG_NO_FD     (-1)
#define RIG_DRIVER_FD (-2) /* the driver's own */

/* Where a test does not choose the loop itself. */
extern enum gw_loop_kind rig_loop;
/* What every ring has negotiated besides: its layout, and IN_ORDER. */
extern uint64_t rig_features;

/* All tests with both loops, or with epoll alone where there is no io_uring. */
#define RIG_RUN_BOTH_LOOPS(tests) rig_run_both_loops(tests, GW_ARRAY_SIZE(tests))
int rig_run_both_loops(const struct CMUnitTest *tests, size_t n_tests);
/* The same with split and with packed rings; and with both of them in order as well. */
#define RIG_RUN_LAYOUTS(tests) rig_run_layouts(tests, GW_ARRAY_SIZE(tests), false)
#define RIG_RUN_ALL(tests)     rig_run_layouts(tests, GW_ARRAY_SIZE(tests), true)
int rig_run_layouts(const struct CMUnitTest *tests, size_t n_tests, bool in_order);

struct rig;

struct rig_config {
    enum gw_loop_kind loop; /* default rig_loop */
    enum gw_queue_sync sync;
    unsigned size; /* default 256 */
    unsigned indirect_max;
    unsigned poll_us;
    size_t request_size;
    uint64_t mem_len; /* default 4 MiB */
    uint16_t base;    /* an index, see rig_index */
    bool inflight;    /* requests are tracked in `part` */
    uint64_t features;
    int (*queue_start)(void *dev, struct gw_queue *q);
    int (*queue_ready)(void *dev, struct gw_queue *q); /* default rig_ready */
    void (*queue_stop)(void *dev, struct gw_queue *q);
};

/* What the default device does with its requests. */
enum rig_mode {
    RIG_COMPLETE = 0, /* at once */
    RIG_HOLD,         /* pop them and keep them */
    RIG_IGNORE,       /* leave them on the ring */
};

struct rig {
    struct rig_config cfg;
    struct gw_diag diag;
    struct gw_device_ops ops;
    struct gw_worker worker;
    struct gw_queue queue;
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_map *map;
    gw_gpa_t desc, avail, used; /* the rings */
    void *part;                 /* inflight region of one queue; NULL: none */
    gw_gpa_t buf;               /* RIG_BUF_LEN bytes that all requests write to */
    enum rig_mode mode;         /* atomic, see rig_set_mode */
    unsigned n_ready;           /* atomic: calls of queue_ready */
    unsigned batch;             /* atomic: popped at a time, default 64 */
    unsigned n_messages;        /* atomic */
    char message[512];          /* the last one; of the worker */
    struct gw_request *held[RIG_HELD_MAX];
    unsigned n_held; /* atomic to read */
    char why[160];   /* of the last start that was refused */
};

/* Everything but the start of the queue; `cfg` may be NULL. */
void rig_begin(struct rig *t, const struct rig_config *cfg);
/* The queue must have stopped. */
void rig_end(struct rig *t);

/* A map of all that is in t->mem now. */
struct gw_map *rig_map(struct rig *t);

/* Run `fn` on the worker. */
int rig_call(struct rig *t, int (*fn)(void *arg), void *arg);

/*
 * Where a ring is that went `n` slots from 0 on: 16 bits of a split one; two laps of a packed one,
 * the first of which has the wrap counter 1. And the same as SET_VRING_BASE has it.
 */
uint32_t rig_index(const struct rig *t, uint32_t n);
uint32_t rig_base(const struct rig *t, uint32_t index);

/* The control path in short. RIG_DRIVER_FD stands for the driver's kick or call fd. */
int rig_start(struct rig *t, int kick_fd, uint32_t index);
/* The same with a base as it is. */
int rig_start_at(struct rig *t, int kick_fd, uint32_t base);
void rig_enable(struct rig *t, bool enabled);
void rig_set_call(struct rig *t, int fd);
void rig_set_err(struct rig *t, int fd);
/* start, call fd and enable. */
void rig_run(struct rig *t);
void rig_stop_begin(struct rig *t, struct gw_latch *latch);
/* Returns: the index of the next request. */
uint32_t rig_stop(struct rig *t);
/* Returns: what GET_VRING_BASE answers. */
uint32_t rig_stop_at(struct rig *t, enum gw_queue_stop how);
/*
 * The session is lost: what is in flight is waited for no longer, and when it ends it writes
 * nothing any more. What is held is still there.
 */
void rig_lose(struct rig *t);
void rig_adopt_begin(struct rig *t, const struct gw_map *map, struct gw_latch *latch);
void rig_forget(struct rig *t);
void rig_reset(struct rig *t);

static inline void rig_set_mode(struct rig *t, enum rig_mode mode)
{
    __atomic_store_n(&t->mode, mode, __ATOMIC_RELEASE);
}

static inline unsigned rig_look(const unsigned *value)
{
    return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}

/* Complete the `n` oldest held requests, on the worker. */
void rig_release(struct rig *t, unsigned n);
/* Wait until the worker holds `n`. */
void rig_wait_held(struct rig *t, unsigned n);
/* Wait until `*value`, read atomically, is at least `n`. */
void rig_wait_for(const unsigned *value, unsigned n);
/* Have the worker finish the turn it is in, twice. */
void rig_settle(struct rig *t);

/* Make a request with one writable buffer available. */
void rig_add(struct rig *t, uint64_t cookie);
/* Take `n` answers; their cookies need not be in order. Every one has RIG_BUF_LEN. */
void rig_take(struct rig *t, unsigned n);
/* EVENT_IDX: the driver wants to be told when the answer at `index` is there. */
void rig_set_used_event(struct rig *t, uint32_t index);
void rig_stats(struct rig *t, struct gw_queue_stats *ret);

/* The default queue_ready. */
int rig_ready(void *dev, struct gw_queue *q);
