/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A queue without a daemon (vring.h), against the driver of libgodwit-frontend: each layout and
 * feature, states that are saved and restored, hostile rings and hostile states.
 */
#include "fdcheck.h"

#include <errno.h>
#include <godwit.h>
#include <godwit/frontend.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    QUEUE_SIZE = 16,
    BLOCK = 64, /* bytes of a buffer */
    N_BLOCKS = 64,
    REGION_SIZE = 1 << 20,
};

#define LOW    0x100000u
#define HIGH   0x40000000u
#define DESC   (LOW + 0x1000u)
#define AVAIL  (LOW + 0x2000u)
#define USED   (LOW + 0x3000u)
#define BLOCKS (LOW + 0x8000u)
/* The last bytes of the low region, and the first of the one behind it. */
#define BORDER (LOW + REGION_SIZE)

#define INDIRECT  (UINT64_C(1) << 28)
#define EVENT_IDX (UINT64_C(1) << 29)
#define PACKED    (UINT64_C(1) << 34)
#define IN_ORDER  (UINT64_C(1) << 35)

static const uint64_t variants[] = {
    0,        EVENT_IDX,          INDIRECT | EVENT_IDX,          IN_ORDER | EVENT_IDX,
    PACKED,   PACKED | EVENT_IDX, PACKED | INDIRECT | EVENT_IDX, PACKED | IN_ORDER | EVENT_IDX,
    IN_ORDER, PACKED | IN_ORDER,
};
#define N_VARIANTS (sizeof(variants) / sizeof(variants[0]))

static struct gw_guest_mem *mem;
static struct gw_driver *driver;
static struct gw_vring *vring;
static uint64_t features;
static unsigned n_errors; /* logged */

static void note_message(void *arg, enum gw_log_level level, const char *message)
{
    n_errors++;
}

/* ---- the guest and its memory ---- */

static void set_memory(struct gw_vring *v, const struct gw_guest_mem *m)
{
    struct gw_vring_region regions[3];
    unsigned n = gw_guest_mem_count(m);

    for (unsigned i = 0; i < n; i++) {
        struct gw_guest_region region;

        assert_int_equal(gw_guest_mem_region(m, i, &region), 0);
        regions[i] = (struct gw_vring_region){region.gpa, region.length,
                                              gw_guest_mem_at(m, region.gpa, region.length)};
    }
    assert_int_equal(gw_vring_set_memory(v, regions, n), 0);
}

static struct gw_vring_config config(void)
{
    return (struct gw_vring_config){
        .size = sizeof(struct gw_vring_config), .queue_size_max = QUEUE_SIZE, .log = note_message};
}

static struct gw_vring *make_vring(const struct gw_guest_mem *m)
{
    struct gw_vring_config cfg = config();
    struct gw_vring *v;

    assert_int_equal(gw_vring_new(&v, &cfg), 0);
    set_memory(v, m);
    return v;
}

static struct gw_vring_state first_state(void)
{
    uint16_t begin = features & PACKED ? GW_VRING_PACKED_BEGIN : 0;

    return (struct gw_vring_state){
        .size = sizeof(struct gw_vring_state),
        .features = features,
        .queue_size = QUEUE_SIZE,
        .next_avail = begin,
        .next_used = begin,
        .desc = DESC,
        .driver = AVAIL,
        .device = USED,
    };
}

static void begin(uint64_t with)
{
    static const gw_gpa_t gpas[] = {LOW, BORDER, HIGH};
    struct gw_driver_config cfg = {
        .size = sizeof(cfg),
        .queue_size = QUEUE_SIZE,
        .indirect_max = 8,
        .place = true,
        .desc = DESC,
        .avail = AVAIL,
        .used = USED,
        .packed = (with & PACKED) != 0,
    };
    struct gw_vring_state state;

    features = with;
    n_errors = 0;
    assert_int_equal(gw_guest_mem_new(&mem, UINT64_C(0x7000000000)), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(gw_guest_mem_add(mem, &(struct gw_guest_region){.gpa = gpas[i],
                                                                         .length = REGION_SIZE,
                                                                         .no_alloc = i == 0}),
                         0);
    cfg.mem = mem;
    assert_int_equal(gw_driver_new(&driver, &cfg), 0);
    gw_driver_set_features(driver, with);
    vring = make_vring(mem);
    state = first_state();
    assert_int_equal(gw_vring_start(vring, &state), 0);
}

static void end(void)
{
    gw_vring_free(vring);
    gw_driver_free(driver);
    gw_guest_mem_free(mem);
    vring = NULL;
    driver = NULL;
    mem = NULL;
}

static uint8_t *block(unsigned i)
{
    return gw_guest_mem_at(mem, BLOCKS + (i % N_BLOCKS) * 2 * BLOCK, 2 * BLOCK);
}

/* Add request `i`: the device shall write the inverse of its first block to its second. */
static bool add(unsigned i)
{
    gw_gpa_t at = BLOCKS + (i % N_BLOCKS) * 2 * BLOCK;
    const struct gw_driver_buf bufs[] = {
        {at, BLOCK / 2}, {at + BLOCK / 2, BLOCK / 2}, {at + BLOCK, BLOCK}};
    unsigned flags = (features & INDIRECT) && i % 3 != 0 ? GW_DRIVER_INDIRECT : 0;

    for (unsigned byte = 0; byte < BLOCK; byte++)
        block(i)[byte] = (uint8_t)(i * 7 + byte);
    memset(block(i) + BLOCK, 0, BLOCK);
    return gw_driver_add(driver, bufs, 2, 1, i, flags) == 0;
}

static void check_answer(const struct gw_driver_used *used)
{
    unsigned i = (unsigned)used->cookie;

    assert_int_equal(used->len, BLOCK);
    for (unsigned byte = 0; byte < BLOCK; byte++)
        assert_int_equal(block(i)[BLOCK + byte], (uint8_t) ~(i * 7 + byte));
}

/* Returns: the number of answers. */
static unsigned take_answers(void)
{
    struct gw_driver_used used[QUEUE_SIZE];
    unsigned n = gw_driver_take(driver, used, QUEUE_SIZE);

    assert_int_equal(gw_driver_check(driver), 0);
    for (unsigned i = 0; i < n; i++)
        check_answer(&used[i]);
    return n;
}

/* ---- the device ---- */

static void answer(struct gw_request *req)
{
    uint8_t data[BLOCK];

    assert_int_equal(gw_request_read(req, data, BLOCK), BLOCK);
    assert_int_equal(req->readable_len, 0);
    for (unsigned i = 0; i < BLOCK; i++)
        data[i] = (uint8_t)~data[i];
    assert_int_equal(gw_request_write(req, data, BLOCK), BLOCK);
    gw_request_complete(req, BLOCK);
}

static unsigned pop_and_answer(unsigned max)
{
    struct gw_request *reqs[QUEUE_SIZE];
    unsigned n = gw_queue_pop(gw_vring_queue(vring), reqs, max);

    for (unsigned i = n; i-- > 0;)
        answer(reqs[i]); /* the last first */
    return n;
}

/* ---- polling ---- */

static void test_vring_answers_in_each_layout(void **state)
{
    for (unsigned v = 0; v < N_VARIANTS; v++) {
        unsigned n_added = 0, n_answered = 0;

        begin(variants[v]);
        while (n_answered < 5000) {
            unsigned n = 1 + n_answered % 5;

            while (n > 0 && add(n_added)) {
                n_added++;
                n--;
            }
            gw_driver_publish(driver);
            while (pop_and_answer(3) > 0)
                (void)gw_vring_publish(vring);
            n_answered += take_answers();
            assert_int_equal(n_answered, n_added);
        }
        assert_int_equal(n_errors, 0);
        end();
    }
}

/* A buffer may lie in two regions. */
static void test_vring_buffers_across_regions(void **state)
{
    const struct gw_driver_buf bufs[] = {{BORDER - 10, 20}, {HIGH, 20}};
    struct gw_request *req;
    uint8_t data[20];

    begin(0);
    assert_int_equal(gw_driver_add(driver, bufs, 1, 1, 1, 0), 0);
    gw_driver_publish(driver);
    memset(gw_guest_mem_at(mem, BORDER - 10, 10), 'a', 10);
    memset(gw_guest_mem_at(mem, BORDER, 10), 'b', 10);
    assert_int_equal(gw_vring_n_available(vring), 1);
    assert_int_equal(gw_queue_pop(gw_vring_queue(vring), &req, 1), 1);
    assert_int_equal(gw_vring_n_available(vring), 0);
    assert_int_equal(req->n_readable, 2);
    assert_int_equal(gw_request_read(req, data, 20), 20);
    assert_memory_equal(data, "aaaaaaaaaabbbbbbbbbb", 20);
    assert_int_equal(gw_request_write(req, data, 20), 20);
    gw_request_complete(req, 20);
    (void)gw_vring_publish(vring);
    assert_memory_equal(gw_guest_mem_at(mem, HIGH, 20), data, 20);
    end();
}

/* What has no meaning without a worker does nothing. */
static void test_vring_without_a_worker(void **state)
{
    struct gw_queue *q;
    struct gw_request *req;

    begin(EVENT_IDX);
    q = gw_vring_queue(vring);
    assert_null(gw_queue_worker(q));
    assert_int_equal(gw_queue_move(q, NULL), -EINVAL);
    gw_queue_wake(q);
    assert_true(add(1));
    gw_driver_publish(driver);
    assert_false(gw_queue_may_suspend(q));
    assert_int_equal(gw_queue_pop(q, &req, 1), 1);
    assert_int_equal(gw_request_suspend(req), -EPERM);
    assert_int_equal(gw_request_unpop(req), 0);
    assert_int_equal(gw_vring_n_available(vring), 1);
    assert_int_equal(pop_and_answer(1), 1);
    (void)gw_vring_publish(vring);
    assert_int_equal(take_answers(), 1);
    end();
}

/* ---- kicks and notifications ---- */

static void test_vring_notifies_a_driver_that_wants_it(void **state)
{
    for (unsigned v = 0; v < N_VARIANTS; v++) {
        begin(variants[v]);
        for (unsigned i = 0; i < 3 * QUEUE_SIZE; i++) {
            bool wants = i % 2;

            if (wants)
                assert_true(gw_driver_want_calls(driver));
            else
                gw_driver_suppress_calls(driver);
            assert_true(add(i));
            gw_driver_publish(driver);
            assert_int_equal(pop_and_answer(1), 1);
            if (wants)
                assert_true(gw_vring_publish(vring));
            else if (!gw_vring_publish(vring))
                assert_false(gw_vring_publish(vring)); /* nothing new */
            assert_int_equal(take_answers(), 1);
        }
        end();
    }
}

static void test_vring_asks_for_kicks(void **state)
{
    for (unsigned v = 0; v < N_VARIANTS; v++) {
        begin(variants[v]);
        for (unsigned i = 0; i < 3 * QUEUE_SIZE; i++) {
            assert_false(gw_vring_enable_kicks(vring));
            assert_true(add(i));
            assert_true(gw_driver_kick(driver));
            assert_true(gw_vring_enable_kicks(vring)); /* no kick follows for this one */
            gw_vring_disable_kicks(vring);
            assert_int_equal(pop_and_answer(1), 1);
            (void)gw_vring_publish(vring);
            assert_int_equal(take_answers(), 1);
        }
        end();
    }
}

static unsigned n_notified, n_ready, n_room;

static void ready(void *arg, struct gw_queue *q)
{
    assert_ptr_equal(q, gw_vring_queue(vring));
    n_ready++;
    if (n_room > 0)
        n_room -= pop_and_answer(n_room < 3 ? n_room : 3);
}

static void notify(void *arg)
{
    n_notified++;
}

static void test_vring_runs_with_callbacks(void **state)
{
    for (unsigned v = 0; v < N_VARIANTS; v++) {
        struct gw_vring_config cfg = config();
        struct gw_vring_state first;

        begin(variants[v]);
        assert_int_equal(gw_vring_run(vring), -EINVAL); /* no callback */
        gw_vring_free(vring);
        cfg.ready = ready;
        cfg.notify = notify;
        assert_int_equal(gw_vring_new(&vring, &cfg), 0);
        set_memory(vring, mem);
        assert_int_equal(gw_vring_run(vring), 0); /* stopped */
        first = first_state();
        assert_int_equal(gw_vring_start(vring, &first), 0);
        assert_true(gw_driver_want_calls(driver));
        n_room = 5;
        n_notified = n_ready = 0;
        for (unsigned i = 0; i < 5; i++)
            assert_true(add(i));
        gw_driver_publish(driver);
        assert_int_equal(gw_vring_run(vring), 0);
        assert_in_range(n_notified, 1, 2);
        assert_int_equal(n_ready, 2);
        assert_int_equal(take_answers(), 5);
        assert_true(add(5));
        assert_true(gw_driver_kick(driver));      /* run has enabled kicks */
        assert_int_equal(gw_vring_run(vring), 0); /* the device has no room */
        assert_int_equal(take_answers(), 0);
        n_room = 1;
        assert_int_equal(gw_vring_run(vring), 0);
        assert_int_equal(take_answers(), 1);
        end();
    }
}

static void add_one_more(void *arg, struct gw_queue *q)
{
    n_ready++;
    assert_int_equal(pop_and_answer(1), 1);
    (void)gw_vring_publish(vring);
    assert_int_equal(take_answers(), 1);
    assert_true(add(n_ready));
    gw_driver_publish(driver);
}

/* A guest with several processors adds requests as fast as the device answers. */
static void test_vring_run_ends_although_requests_never_do(void **state)
{
    struct gw_vring_config cfg = config();
    struct gw_vring_state first;

    begin(EVENT_IDX);
    gw_vring_free(vring);
    cfg.ready = add_one_more;
    assert_int_equal(gw_vring_new(&vring, &cfg), 0);
    set_memory(vring, mem);
    first = first_state();
    assert_int_equal(gw_vring_start(vring, &first), 0);
    assert_true(add(0));
    gw_driver_publish(driver);
    n_ready = 0;
    assert_int_equal(gw_vring_run(vring), 1);
    assert_int_equal(n_ready, 64);
    assert_int_equal(gw_vring_run(vring), 1);
    assert_int_equal(n_ready, 128);
    end();
}

/* ---- saved states ---- */

/* Continue in a new vring, as another process would. */
static void restore(void)
{
    struct gw_vring_state saved = {.size = sizeof(saved)}, again = saved;

    assert_int_equal(gw_vring_save(vring, &saved), 0);
    gw_vring_free(vring);
    vring = make_vring(mem);
    assert_int_equal(gw_vring_start(vring, &saved), 0);
    assert_int_equal(gw_vring_save(vring, &again), 0);
    assert_memory_equal(&saved, &again, sizeof(saved));
}

static void test_vring_state_is_restored_at_every_point(void **state)
{
    for (unsigned v = 0; v < N_VARIANTS; v++) {
        struct gw_vring_state saved = {.size = sizeof(saved)};
        unsigned n_added = 0, n_answered = 0;

        begin(variants[v]);
        restore();
        while (n_added < 5 * QUEUE_SIZE) {
            struct gw_request *reqs[2];
            unsigned n;

            assert_true(add(n_added++));
            assert_true(add(n_added++));
            restore(); /* added, not available */
            gw_driver_publish(driver);
            restore(); /* available */
            n = gw_queue_pop(gw_vring_queue(vring), reqs, 2);
            assert_int_equal(n, 2);
            assert_int_equal(gw_vring_save(vring, &saved), -EBUSY);
            assert_int_equal(gw_vring_stop(vring), -EBUSY);
            assert_int_equal(gw_request_unpop(reqs[1]), 0);
            assert_int_equal(gw_vring_save(vring, &saved), -EBUSY);
            answer(reqs[0]);
            assert_int_equal(gw_vring_save(vring, &saved), -EBUSY); /* not published */
            (void)gw_vring_publish(vring);
            restore(); /* one of two done */
            assert_int_equal(pop_and_answer(2), 1);
            (void)gw_vring_publish(vring);
            restore(); /* done, not taken by the driver */
            n_answered += take_answers();
            restore();
            assert_int_equal(n_answered, n_added);
        }
        end();
    }
}

/* The memory and the state move together. */
static void test_vring_continues_in_a_copy_of_the_memory(void **state)
{
    for (unsigned v = 0; v < N_VARIANTS; v++) {
        static const gw_gpa_t gpas[] = {LOW, BORDER, HIGH};
        struct gw_guest_mem *copy;
        struct gw_vring_state saved = {.size = sizeof(saved)};
        unsigned n_answered = 0;

        begin(variants[v]);
        for (unsigned i = 0; i < 11 && add(i); i++)
            ;
        gw_driver_publish(driver);
        assert_int_equal(pop_and_answer(3), 3);
        (void)gw_vring_publish(vring);
        assert_int_equal(gw_vring_save(vring, &saved), 0);
        assert_int_equal(gw_vring_stop(vring), 0);
        assert_int_equal(gw_vring_save(vring, &saved), -EINVAL); /* it does not run */
        assert_int_equal(gw_guest_mem_clone(&copy, mem, UINT64_C(0x8000000000)), 0);
        for (unsigned i = 0; i < 3; i++)
            memcpy(gw_guest_mem_at(copy, gpas[i], REGION_SIZE),
                   gw_guest_mem_at(mem, gpas[i], REGION_SIZE), REGION_SIZE);
        assert_int_equal(gw_driver_set_mem(driver, copy), 0);
        set_memory(vring, copy);
        gw_guest_mem_free(mem);
        mem = copy;
        assert_int_equal(gw_vring_start(vring, &saved), 0);
        while (pop_and_answer(3) > 0)
            (void)gw_vring_publish(vring);
        n_answered = take_answers();
        assert_int_equal(gw_driver_in_flight(driver), 0);
        assert_in_range(n_answered, 5, 11);
        end();
    }
}

/* ---- hostile states ---- */

/* Whatever is accepted must be safe to use. */
static void use(struct gw_vring *v)
{
    struct gw_queue *q = gw_vring_queue(v);
    struct gw_request *reqs[QUEUE_SIZE];

    for (unsigned turn = 0; turn < 4; turn++) {
        unsigned n = gw_queue_pop(q, reqs, QUEUE_SIZE);

        for (unsigned i = 0; i < n; i++) {
            uint8_t buf[256];

            (void)gw_request_read(reqs[i], buf, sizeof(buf));
            memset(buf, 0, sizeof(buf));
            (void)gw_request_write(reqs[i], buf, sizeof(buf));
            gw_request_complete_status(reqs[i], 0);
        }
        (void)gw_vring_publish(v);
        (void)gw_vring_enable_kicks(v);
        gw_vring_disable_kicks(v);
    }
    assert_int_equal(gw_vring_stop(v), 0);
}

static void test_vring_refuses_hostile_states(void **state)
{
    for (unsigned v = 0; v < N_VARIANTS; v++) {
        struct gw_vring_state good = {.size = sizeof(good)};
        const struct {
            struct gw_vring_state s;
            int error;
        } cases[] = {
            {{.queue_size = 0}, -EINVAL},
            {{.queue_size = QUEUE_SIZE * 2}, -EINVAL},
            {{.queue_size = UINT32_MAX}, -EINVAL},
            {{.desc = LOW - 16}, -EFAULT},
            {{.desc = BORDER - 16}, -EFAULT}, /* in two regions */
            {{.desc = UINT64_MAX - 15}, -EFAULT},
            {{.desc = DESC + 1}, -EFAULT},
            {{.driver = HIGH + REGION_SIZE}, -EFAULT},
            {{.driver = AVAIL + 1}, -EFAULT},
            {{.device = UINT64_MAX - 3}, -EFAULT},
            {{.device = USED + 2}, -EFAULT},
            {{.next_avail = 100}, -EINVAL},
            {{.next_used = 100}, -EINVAL},
            {{.next_avail = 0x8000 | QUEUE_SIZE, .next_used = 0x8000 | QUEUE_SIZE}, -EINVAL},
        };

        begin(variants[v]);
        assert_true(add(0));
        assert_true(add(1));
        gw_driver_publish(driver);
        assert_int_equal(pop_and_answer(1), 1);
        (void)gw_vring_publish(vring);
        good.size = 40;
        assert_int_equal(gw_vring_save(vring, &good), -EINVAL);
        good.size = sizeof(good);
        assert_int_equal(gw_vring_save(vring, &good), 0);
        assert_int_equal(gw_vring_start(vring, &good), -EBUSY);
        assert_int_equal(gw_vring_stop(vring), 0);
        for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            const struct gw_vring_state *s = &cases[i].s;
            struct gw_vring_state bad = good;

            bad.queue_size = i < 3 ? s->queue_size : bad.queue_size;
            bad.desc = s->desc ? s->desc : bad.desc;
            bad.driver = s->driver ? s->driver : bad.driver;
            bad.device = s->device ? s->device : bad.device;
            bad.next_avail = s->next_avail ? s->next_avail : bad.next_avail;
            bad.next_used = s->next_used ? s->next_used : bad.next_used;
            if (gw_vring_start(vring, &bad) != cases[i].error)
                fail_msg("variant %u, case %u: %s", v, i, gw_last_error());
            assert_int_equal(gw_queue_size(gw_vring_queue(vring)), 0);
            assert_int_equal(gw_queue_pop(gw_vring_queue(vring), NULL, 1), 0);
        }
        assert_int_equal(gw_vring_start(vring, &good), 0);
        assert_int_equal(pop_and_answer(1), 1);
        (void)gw_vring_publish(vring);
        assert_int_equal(take_answers(), 2);
        end();
    }
}

/* Each bit of a state but its size is flipped: of its indices, no other value can be right. */
static void test_vring_survives_each_flipped_bit(void **state)
{
    for (unsigned v = 0; v < N_VARIANTS; v++) {
        for (unsigned bit = 64; bit < sizeof(struct gw_vring_state) * 8; bit++) {
            size_t byte = bit / 8;
            struct gw_vring_state flipped = {.size = sizeof(flipped)};
            bool is_index = byte >= offsetof(struct gw_vring_state, next_used) &&
                            byte < offsetof(struct gw_vring_state, desc);

            begin(variants[v]);
            for (unsigned i = 0; i < 3; i++)
                assert_true(add(i));
            gw_driver_publish(driver);
            assert_int_equal(pop_and_answer(1), 1);
            (void)gw_vring_publish(vring);
            assert_int_equal(gw_vring_save(vring, &flipped), 0);
            assert_int_equal(gw_vring_stop(vring), 0);
            ((uint8_t *)&flipped)[byte] ^= (uint8_t)(1U << bit % 8);
            if (gw_vring_start(vring, &flipped) == 0) {
                if (is_index)
                    fail_msg("variant %u, bit %u of the state is not checked", v, bit);
                use(vring);
            }
            end();
        }
    }
}

/* ---- hostile rings ---- */

static void test_vring_breaks_at_an_impossible_index(void **state)
{
    struct gw_vring_state first;
    struct gw_request *req;

    begin(0);
    gw_driver_write_avail_idx(driver, QUEUE_SIZE + 1);
    assert_int_equal(gw_vring_n_available(vring), -EPROTO);
    assert_int_equal(n_errors, 1);
    assert_int_equal(gw_vring_n_available(vring), -EPROTO);
    assert_int_equal(gw_queue_pop(gw_vring_queue(vring), &req, 1), 0);
    assert_false(gw_vring_enable_kicks(vring));
    assert_false(gw_vring_publish(vring));
    assert_int_equal(n_errors, 1);
    /* A reset of the driver repairs it. */
    assert_int_equal(gw_vring_stop(vring), 0);
    first = first_state();
    assert_int_equal(gw_vring_start(vring, &first), -EINVAL);
    gw_driver_reset(driver, 0);
    assert_int_equal(gw_vring_start(vring, &first), 0);
    assert_true(add(0));
    gw_driver_publish(driver);
    assert_int_equal(pop_and_answer(1), 1);
    (void)gw_vring_publish(vring);
    assert_int_equal(take_answers(), 1);
    end();
}

static void test_vring_answers_bad_chains_itself(void **state)
{
    static const struct {
        uint64_t addr;
        uint32_t len;
        uint16_t flags, next;
    } bad[] = {
        {LOW - 1, 1, 0, 0},    {HIGH + REGION_SIZE - 1, 2, 0, 0},
        {UINT64_MAX, 2, 0, 0}, {BLOCKS, 0, 0, 0},
        {BLOCKS, 1, 1, 0},     {BLOCKS, 1, 1, QUEUE_SIZE},
        {BLOCKS, 16, 4, 0},    {BLOCKS, UINT32_MAX, 0, 0},
    };
    struct gw_request *req;

    begin(0);
    for (uint16_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint32_t id, len = 1;

        gw_driver_write_desc(driver, 0, bad[i].addr, bad[i].len, bad[i].flags, bad[i].next);
        gw_driver_write_avail(driver, i, 0);
        gw_driver_write_avail_idx(driver, (uint16_t)(i + 1));
        assert_int_equal(gw_queue_pop(gw_vring_queue(vring), &req, 1), 0);
        (void)gw_vring_publish(vring);
        gw_driver_read_used(driver, i, &id, &len);
        assert_int_equal(id, 0);
        assert_int_equal(len, 0);
        assert_int_equal(gw_driver_used_idx(driver), i + 1);
    }
    assert_int_equal(gw_vring_stop(vring), 0);
    end();
}

static uint32_t random_state = 1;

static uint32_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

/* Rings of random bytes, some of which are changed while the device works. */
static void test_vring_survives_random_rings(void **state)
{
    for (unsigned round = 0; round < 4000; round++) {
        struct gw_vring_state first;
        uint8_t *ring;

        begin(variants[round % N_VARIANTS]);
        assert_int_equal(gw_vring_stop(vring), 0);
        ring = gw_guest_mem_at(mem, DESC, 0x3000);
        for (unsigned i = 0; i < QUEUE_SIZE; i++) {
            uint64_t addr = random_next() % 4 ? BLOCKS + random_next() % 4096 : random_next();
            uint32_t len = random_next() % 4 ? random_next() % 128 : random_next();
            uint32_t rest = random_next() & 0x8f878f;

            memcpy(ring + 16 * i, &addr, 8);
            memcpy(ring + 16 * i + 8, &len, 4);
            memcpy(ring + 16 * i + 12, &rest, 4);
        }
        for (unsigned i = 0; i < 4 + 2 * QUEUE_SIZE; i++)
            ring[0x1000 + i] = (uint8_t)(random_next() % (QUEUE_SIZE + 2));
        ring[0x1003] = 0;
        first = first_state();
        if (gw_vring_start(vring, &first) == 0)
            use(vring);
        end();
    }
}

/* ---- memory ---- */

static void test_vring_memory_can_be_replaced(void **state)
{
    struct gw_vring_region regions[3];
    struct gw_request *req;
    uint8_t *second = calloc(1, REGION_SIZE);

    begin(EVENT_IDX);
    for (unsigned i = 0; i < 3; i++) {
        gw_gpa_t gpa = LOW + (gw_gpa_t)i * REGION_SIZE;

        regions[i] = (struct gw_vring_region){gpa, REGION_SIZE, NULL};
    }
    regions[0].at = gw_guest_mem_at(mem, LOW, REGION_SIZE);
    regions[1].at = gw_guest_mem_at(mem, BORDER, REGION_SIZE);
    regions[2].at = second;
    assert_true(add(0));
    gw_driver_publish(driver);
    assert_int_equal(gw_queue_pop(gw_vring_queue(vring), &req, 1), 1);
    assert_int_equal(gw_vring_set_memory(vring, regions, 2), -EBUSY);
    answer(req);
    (void)gw_vring_publish(vring);
    assert_int_equal(take_answers(), 1);
    /* Without the ring, with an overlap, empty, or around the end: nothing changes. */
    assert_int_equal(gw_vring_set_memory(vring, regions + 1, 1), -EFAULT);
    assert_int_equal(gw_vring_set_memory(vring, NULL, 0), -EFAULT);
    regions[2].gpa -= 1;
    assert_int_equal(gw_vring_set_memory(vring, regions, 3), -EEXIST);
    regions[2].size = 0;
    assert_int_equal(gw_vring_set_memory(vring, regions, 3), -EINVAL);
    regions[2].gpa = UINT64_MAX;
    regions[2].size = 2;
    assert_int_equal(gw_vring_set_memory(vring, regions, 3), -EINVAL);
    assert_true(add(1));
    gw_driver_publish(driver);
    assert_int_equal(pop_and_answer(1), 1);
    (void)gw_vring_publish(vring);
    assert_int_equal(take_answers(), 1);
    /* HIGH is gone, a third region is there. */
    regions[2] = (struct gw_vring_region){BORDER + REGION_SIZE, REGION_SIZE, second};
    assert_int_equal(gw_vring_set_memory(vring, regions, 3), 0);
    for (unsigned i = 0; i < 2; i++) {
        const struct gw_driver_buf buf = {i == 0 ? BORDER + REGION_SIZE : HIGH, 4};

        assert_int_equal(gw_driver_add(driver, &buf, 0, 1, i, 0), 0);
    }
    gw_driver_publish(driver);
    assert_int_equal(gw_queue_pop(gw_vring_queue(vring), &req, 2), 1);
    assert_int_equal(gw_request_write(req, "here", 4), 4);
    gw_request_complete(req, 4);
    (void)gw_vring_publish(vring);
    assert_memory_equal(second, "here", 4);
    end();
    free(second);
}

/* A device that reads and writes by guest address. */
static void test_vring_memory_can_be_held(void **state)
{
    struct gw_vring_state saved = {.size = sizeof(saved)};
    uint8_t bitmap[64] = {0};
    struct gw_memory held;

    begin(EVENT_IDX);
    assert_int_equal(gw_vring_set_dirty_log(vring, bitmap, sizeof(bitmap)), 0);
    assert_int_equal(gw_memory_hold(&held, gw_vring_queue(vring)), 0);
    assert_int_equal(gw_memory_write(&held, BORDER - 2, "abcd", 4), 0);
    assert_memory_equal(gw_guest_mem_at(mem, BORDER - 2, 2), "ab", 2);
    assert_memory_equal(gw_guest_mem_at(mem, BORDER, 2), "cd", 2);
    assert_int_equal(bitmap[(BORDER - 2) / 4096 / 8] >> 7, 1);
    assert_ptr_equal(gw_memory_find(&held, HIGH)->addr, gw_guest_mem_at(mem, HIGH, 1));
    assert_int_equal(gw_vring_set_memory(vring, NULL, 0), -EBUSY);
    assert_int_equal(gw_vring_save(vring, &saved), -EBUSY);
    assert_int_equal(gw_vring_stop(vring), -EBUSY);
    gw_memory_release(&held);
    assert_int_equal(gw_vring_stop(vring), 0);
    assert_int_equal(gw_memory_hold(&held, gw_vring_queue(vring)), -ENOTCONN);
    end();
}

static bool is_marked(const uint8_t *bitmap, gw_gpa_t gpa)
{
    return bitmap[gpa / 4096 / 8] >> (gpa / 4096 % 8) & 1;
}

static void test_vring_marks_what_is_written(void **state)
{
    for (unsigned v = 0; v < N_VARIANTS; v++) {
        bool is_packed = variants[v] & PACKED;
        uint8_t bitmap[64] = {0}; /* 2 MiB, LOW is within */
        struct gw_request *req;

        begin(variants[v]);
        assert_true(add(0));
        gw_driver_publish(driver);
        assert_int_equal(pop_and_answer(1), 1);
        assert_int_equal(gw_vring_set_dirty_log(vring, bitmap, sizeof(bitmap)), -EBUSY);
        (void)gw_vring_publish(vring);
        assert_int_equal(take_answers(), 1);
        assert_int_equal(gw_vring_set_dirty_log(vring, bitmap, sizeof(bitmap)), 0);
        assert_true(add(N_BLOCKS / 2)); /* in the second page of the blocks */
        gw_driver_publish(driver);
        assert_int_equal(pop_and_answer(1), 1);
        assert_false(is_marked(bitmap, BLOCKS + 4096));
        (void)gw_vring_publish(vring);
        assert_true(is_marked(bitmap, BLOCKS + 4096));
        assert_false(is_marked(bitmap, BLOCKS));
        assert_true(is_marked(bitmap, is_packed ? DESC : USED));
        assert_false(is_marked(bitmap, AVAIL));
        (void)gw_vring_enable_kicks(vring);
        assert_true(is_marked(bitmap, USED));
        assert_int_equal(take_answers(), 1);
        assert_int_equal(gw_vring_set_dirty_log(vring, NULL, 0), 0);
        memset(bitmap, 0, sizeof(bitmap));
        assert_true(add(0));
        gw_driver_publish(driver);
        assert_int_equal(gw_queue_pop(gw_vring_queue(vring), &req, 1), 1);
        answer(req);
        (void)gw_vring_publish(vring);
        for (unsigned i = 0; i < sizeof(bitmap); i++)
            assert_int_equal(bitmap[i], 0);
        end();
    }
}

/* ---- configurations ---- */

static void test_vring_refuses_bad_configurations(void **state)
{
    struct gw_vring_config cfg = config();
    struct gw_vring_state first;
    struct gw_vring *v = NULL;

    cfg.size = 8;
    assert_int_equal(gw_vring_new(&v, &cfg), -EINVAL);
    cfg = config();
    cfg.queue_size_max = GW_QUEUE_SIZE_MAX + 1;
    assert_int_equal(gw_vring_new(&v, &cfg), -EINVAL);
    cfg = config();
    cfg.request_size = (1 << 20) + 1;
    assert_int_equal(gw_vring_new(&v, &cfg), -EINVAL);
    assert_null(v);
    cfg = config();
    assert_int_equal(gw_vring_new(&v, &cfg), 0);
    features = 0;
    first = first_state();
    assert_int_equal(gw_vring_start(v, &first), -EFAULT); /* no memory yet */
    first.size = 8;
    assert_int_equal(gw_vring_start(v, &first), -EINVAL);
    gw_vring_free(v);
    gw_vring_free(NULL);
}

/* The device may keep requests when the vring is freed. */
static void test_vring_is_freed_with_requests_in_flight(void **state)
{
    struct gw_request *reqs[2];

    begin(INDIRECT | EVENT_IDX);
    assert_true(add(0));
    assert_true(add(1));
    gw_driver_publish(driver);
    assert_int_equal(gw_queue_pop(gw_vring_queue(vring), reqs, 2), 2);
    answer(reqs[0]);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_vring_answers_in_each_layout),
        FDCHECK_TEST(test_vring_buffers_across_regions),
        FDCHECK_TEST(test_vring_without_a_worker),
        FDCHECK_TEST(test_vring_notifies_a_driver_that_wants_it),
        FDCHECK_TEST(test_vring_asks_for_kicks),
        FDCHECK_TEST(test_vring_runs_with_callbacks),
        FDCHECK_TEST(test_vring_run_ends_although_requests_never_do),
        FDCHECK_TEST(test_vring_state_is_restored_at_every_point),
        FDCHECK_TEST(test_vring_continues_in_a_copy_of_the_memory),
        FDCHECK_TEST(test_vring_refuses_hostile_states),
        FDCHECK_TEST(test_vring_survives_each_flipped_bit),
        FDCHECK_TEST(test_vring_breaks_at_an_impossible_index),
        FDCHECK_TEST(test_vring_answers_bad_chains_itself),
        FDCHECK_TEST(test_vring_survives_random_rings),
        FDCHECK_TEST(test_vring_memory_can_be_replaced),
        FDCHECK_TEST(test_vring_memory_can_be_held),
        FDCHECK_TEST(test_vring_marks_what_is_written),
        FDCHECK_TEST(test_vring_refuses_bad_configurations),
        FDCHECK_TEST(test_vring_is_freed_with_requests_in_flight),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
