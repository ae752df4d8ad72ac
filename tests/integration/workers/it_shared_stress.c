/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Sessions, moves, memory tables and dirty logs over shared workers: several daemons on two workers
 * and one control worker, each with a guest that changes everything that may change while its
 * queues run, and ends its sessions in all ways. Concurrently, a thread moves queues, and another
 * makes and frees a daemon. Each answer is checked, in order and contents, and each page that a
 * logged request wrote.
 *
 * SHARED_STRESS_SEED and SHARED_STRESS_SESSIONS replace the random seed and the number of sessions.
 */
#include "../fixtures/echo.h"
#include "base/clock.h"
#include "base/proto.h"
#include "fdcheck.h"
#include "requires.h"

#include <godwit/frontend/fault.h>

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    N_GUESTS = 5,
    N_WORKERS = 2,
    N_QUEUES = 3,
    SESSIONS = 800, /* of all guests and the daemon that comes and goes */
    STEPS = 8       /* of a session, at most */
};

/* A daemon, with a device and a socket. */
struct place {
    struct echo device;
    struct gw_daemon *daemon;
    char path[80];
};

static struct {
    uint64_t seed;
    char dir[40];
    struct gw_workers *set;
    struct gw_worker *workers[N_WORKERS], *control;
    struct place places[N_GUESTS], passing;
    pthread_mutex_t lock; /* of `passing`, while it is used or freed */
    bool has_passing;     /* lock */
    int sessions_left;    /* atomic */
    bool ends;            /* atomic */
    unsigned n_did[32];   /* atomic: how often each action was taken */
} stress = {.lock = PTHREAD_MUTEX_INITIALIZER};

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

/* No other thread may use cmocka. */
#define require(expr)                                                                        \
    do {                                                                                     \
        if (!(expr)) {                                                                       \
            fprintf(stderr, "%s:%d: %s (SHARED_STRESS_SEED=%llu): %s\n", __FILE__, __LINE__, \
                    #expr, (unsigned long long)stress.seed, gw_frontend_last_error());       \
            abort();                                                                         \
        }                                                                                    \
    } while (0)

static void take_message(void *arg, enum gw_log_level level, const char *message)
{
    if (getenv("SHARED_STRESS_LOG"))
        fprintf(stderr, "%s\n", message);
}

/* ---- daemons ---- */

static void place_open(struct place *p, enum echo_kind kind, const char *name)
{
    struct gw_daemon_config cfg = {
        .size = sizeof(cfg),
        .name = name,
        .num_queues = N_QUEUES,
        .num_workers = N_WORKERS,
        .workers = stress.workers,
        .control = stress.control,
        .balance_ms = kind % 2 ? 0 : 1,
        .log = take_message,
        .log_level = GW_LOG_DEBUG,
    };

    echo_init(&p->device, kind);
    p->device.workers = stress.workers;
    p->device.n_workers = N_WORKERS;
    echo_configure(&cfg, kind);
    snprintf(p->path, sizeof(p->path), "%s/%s", stress.dir, name);
    require(gw_daemon_new(&p->daemon, &cfg, &echo_ops, &p->device) == 0);
    require(gw_daemon_start_path(p->daemon, p->path) == 0);
}

static void place_close(struct place *p)
{
    struct echo *e = &p->device;

    gw_daemon_stop(p->daemon);
    require(gw_daemon_wait(p->daemon) == 0);
    echo_end_thread(e);
    gw_daemon_free(p->daemon);
    require(e->n_disordered == 0);
    require(e->n_astray == 0);
    require(e->n_starts == e->n_stops);
    echo_done(e);
}

/* ---- what a guest does while its queues run ---- */

struct visitor {
    struct echo_guest g;
    struct gw_guest_log *log; /* NULL: not logging */
    bool is_postcopy;
    int uffd;
};

static uint64_t below(struct visitor *v, uint64_t n)
{
    return gw_random_below(&v->g.random, n);
}

static void did(unsigned what)
{
    __atomic_add_fetch(&stress.n_did[what], 1, __ATOMIC_RELAXED);
}

static void send_some(struct visitor *v)
{
    for (unsigned i = 0; i < N_QUEUES; i++)
        echo_guest_send(&v->g, i, (unsigned)below(v, ECHO_SLOTS + 1));
}

static void work(struct visitor *v)
{
    unsigned n = 1 + (unsigned)below(v, 20);

    for (unsigned i = 0; i < n; i++) {
        unsigned queue = (unsigned)below(v, N_QUEUES);

        echo_guest_send(&v->g, queue, 1 + (unsigned)below(v, ECHO_SLOTS));
        if (below(v, 3))
            require(echo_guest_take(&v->g, queue) == 0);
    }
}

static void replace_table(struct visitor *v)
{
    send_some(v);
    if (v->is_postcopy)
        return;
    require(gw_frontend_set_mem_table(v->g.fe, v->g.mem) == 0);
}

/* A region comes, is used, and goes. */
static void plug(struct visitor *v)
{
    const struct gw_guest_region hot = {.gpa = ECHO_HOT_GPA, .length = ECHO_HOT, .no_alloc = true};
    gw_gpa_t before[N_QUEUES];

    if (v->is_postcopy)
        return;
    send_some(v);
    require(gw_guest_mem_add(v->g.mem, &hot) == 0);
    require(gw_frontend_add_mem_reg(v->g.fe, v->g.mem, hot.gpa) == 0);
    require(echo_guest_take(&v->g, 0) == 0);
    before[0] = v->g.queues[0].slots;
    v->g.queues[0].slots = hot.gpa;
    echo_guest_send(&v->g, 0, ECHO_SLOTS);
    require(echo_guest_take(&v->g, 0) == 0);
    v->g.queues[0].slots = before[0];
    send_some(v);
    require(gw_frontend_rem_mem_reg(v->g.fe, v->g.mem, hot.gpa) == 0);
    require(gw_guest_mem_remove(v->g.mem, hot.gpa) == 0);
}

struct dirt {
    struct gw_guest_log *log;
    uint8_t seen[2 * ECHO_LOG];
};

static void note_dirt(void *arg, gw_gpa_t gpa, uint64_t len)
{
    struct dirt *d = arg;

    for (uint64_t page = gpa / 4096; page <= (gpa + len - 1) / 4096; page++)
        d->seen[page / 8] |= (uint8_t)(1 << page % 8);
}

static struct gw_guest_log *new_log(void)
{
    const struct gw_guest_log_config cfg = {.size = sizeof(cfg), .length = 2 * ECHO_LOG};
    struct gw_guest_log *log;

    require(gw_guest_log_new(&log, &cfg) == 0);
    return log;
}

static void replace_log(struct visitor *v, struct dirt *d)
{
    struct gw_guest_log *next = new_log();

    require(gw_frontend_set_log_base(v->g.fe, next) == 0);
    (void)gw_guest_log_take(d->log, note_dirt, d);
    gw_guest_log_free(d->log);
    d->log = next;
}

/* What is written while logging is on is marked in one of the logs, whichever it was. */
static void log_dirt(struct visitor *v)
{
    static const struct dirt empty;
    struct dirt d = empty;
    uint32_t from[N_QUEUES];

    require(echo_guest_take_all(&v->g) == 0);
    d.log = new_log();
    require(gw_frontend_set_log_base(v->g.fe, d.log) == 0);
    require(gw_frontend_set_log_all(v->g.fe, true) == 0);
    for (unsigned i = 0; i < N_QUEUES; i++) {
        from[i] = v->g.queues[i].n_sent;
        echo_guest_send(&v->g, i, ECHO_SLOTS);
    }
    for (unsigned i = (unsigned)below(v, 3); i > 0; i--) {
        if (!v->is_postcopy && below(v, 2))
            require(gw_frontend_set_mem_table(v->g.fe, v->g.mem) == 0);
        replace_log(v, &d);
    }
    require(echo_guest_take_all(&v->g) == 0);
    (void)gw_guest_log_take(d.log, note_dirt, &d);
    for (unsigned i = 0; i < N_QUEUES; i++)
        for (uint32_t n = from[i]; n < v->g.queues[i].n_sent; n++) {
            uint64_t page = (echo_guest_slot(&v->g, i, n) + ECHO_SLOT_SIZE) / 4096;

            require(d.seen[page / 8] & 1 << page % 8);
        }
    require(gw_frontend_set_log_all(v->g.fe, false) == 0);
    gw_guest_log_free(d.log);
}

static void disable(struct visitor *v)
{
    unsigned queue = (unsigned)below(v, N_QUEUES);

    send_some(v);
    require(gw_frontend_set_vring_enable(v->g.fe, queue, false) == 0);
    send_some(v);
    require(gw_frontend_set_vring_enable(v->g.fe, queue, true) == 0);
}

static void stop_and_start(struct visitor *v)
{
    if (below(v, 2)) {
        unsigned queue = (unsigned)below(v, N_QUEUES);

        send_some(v);
        require(gw_frontend_stop_queue(v->g.fe, v->g.drivers[queue]) == 0);
        require(gw_frontend_start_queue(v->g.fe, v->g.drivers[queue]) == 0);
        return;
    }
    send_some(v);
    require(gw_frontend_stop(v->g.fe, v->g.drivers, N_QUEUES) == 0);
    require(gw_frontend_start(v->g.fe, &v->g.opt) == 0);
}

static void reset(struct visitor *v)
{
    send_some(v);
    require(gw_frontend_reset_device(v->g.fe) == 0);
    /* What the device had not taken is lost. */
    for (unsigned i = 0; i < N_QUEUES; i++)
        gw_driver_reset(v->g.drivers[i], 0);
    echo_guest_begin_run(&v->g);
    require(gw_frontend_start(v->g.fe, &v->g.opt) == 0);
}

static void end_postcopy(struct visitor *v)
{
    if (!v->is_postcopy)
        return;
    send_some(v);
    require(gw_frontend_postcopy_end(v->g.fe) == 0);
    v->is_postcopy = false;
}

typedef void action(struct visitor *v);
static action *const actions[] = {work,         work,         replace_table,  plug,
                                  log_dirt,     disable,      stop_and_start, reset,
                                  end_postcopy, replace_table};

/* ---- sessions ---- */

static int no_base(void *arg, gw_gpa_t gpa, uint64_t len, gw_bva_t base)
{
    return 0;
}

/* No page is missing here, but the queues run on a worker of their own. */
static void begin_postcopy(struct visitor *v)
{
    require(gw_frontend_negotiate(v->g.fe, &v->g.opt) == 0);
    if (!(gw_frontend_protocol_features(v->g.fe) & (UINT64_C(1) << GW_PROTOCOL_F_PAGEFAULT)))
        return;
    require(gw_frontend_postcopy_advise(v->g.fe, &v->uffd) == 0);
    require(gw_frontend_postcopy_listen(v->g.fe, no_base, NULL) == 0);
    v->is_postcopy = true;
    did(N_OF(actions));
}

/* Send what makes the daemon do something, and hang up at once. */
static void hang_up_in_message(struct visitor *v)
{
    const struct {
        uint32_t request, size;
    } messages[] = {
        {GW_MSG_GET_VRING_BASE, 8},  {GW_MSG_RESET_DEVICE, 0},  {GW_MSG_POSTCOPY_LISTEN, 0},
        {GW_MSG_POSTCOPY_END, 0},    {GW_MSG_GET_FEATURES, 0},  {GW_MSG_SET_VRING_ENABLE, 8},
        {GW_MSG_POSTCOPY_ADVISE, 0}, {GW_MSG_GET_QUEUE_NUM, 0},
    };
    static const uint8_t zeroes[16];
    unsigned i = (unsigned)below(v, N_OF(messages));
    size_t cut = below(v, 2) ? 0 : below(v, messages[i].size + 1);

    if (below(v, 4) == 0) {
        (void)gw_frontend_send_bytes(v->g.fe, zeroes, 1 + below(v, 11));
        return;
    }
    for (unsigned k = 1 + (unsigned)below(v, 20); k > 0; k--)
        (void)gw_frontend_send_raw(v->g.fe, messages[i].request, GW_MSG_VERSION, messages[i].size,
                                   zeroes, messages[i].size - cut, NULL, 0);
}

static void end_session(struct visitor *v)
{
    switch (below(v, 4)) {
    case 0:
        send_some(v);
        require(gw_frontend_stop(v->g.fe, v->g.drivers, N_QUEUES) == 0);
        break;
    case 1:
        require(echo_guest_take_all(&v->g) == 0);
        break;
    case 2:
        send_some(v);
        hang_up_in_message(v);
        break;
    default:
        send_some(v);
    }
}

static void begin_session(struct visitor *v, const struct place *p, uint64_t seed)
{
    memset(v, 0, sizeof(*v));
    v->uffd = -1;
    require(echo_guest_init(&v->g, N_QUEUES, seed) == 0);
    require(gw_frontend_connect(v->g.fe, p->path) == 0);
    if (below(v, 10) == 0) {
        hang_up_in_message(v);
        gw_frontend_disconnect(v->g.fe);
        require(gw_frontend_connect(v->g.fe, p->path) == 0);
    }
    if (below(v, 3) == 0)
        begin_postcopy(v);
    require(gw_frontend_start(v->g.fe, &v->g.opt) == 0);
}

static void free_visitor(struct visitor *v)
{
    echo_guest_done(&v->g);
    if (v->uffd >= 0)
        close(v->uffd);
}

static void act(struct visitor *v)
{
    for (unsigned n = (unsigned)below(v, STEPS); n > 0; n--) {
        unsigned i = (unsigned)below(v, N_OF(actions));

        actions[i](v);
        did(i);
    }
}

/* Returns: false if no session is left. */
static bool take_session(void)
{
    return __atomic_fetch_sub(&stress.sessions_left, 1, __ATOMIC_RELAXED) > 0;
}

static void *run_guest(void *arg)
{
    const struct place *p = arg;
    uint64_t random = stress.seed + (uint64_t)(p - stress.places);

    while (take_session()) {
        struct visitor v;

        begin_session(&v, p, gw_random_next(&random));
        act(&v);
        end_session(&v);
        free_visitor(&v);
    }
    return NULL;
}

/* ---- the other threads ---- */

/* A daemon that is made, used, perhaps stopped and started, and freed, also during a session. */
static void *come_and_go(void *arg)
{
    struct place *p = &stress.passing;
    uint64_t random = stress.seed + 1000;

    while (take_session()) {
        struct visitor v;

        pthread_mutex_lock(&stress.lock);
        place_open(p, gw_random_below(&random, N_ECHO_KINDS), "passing");
        stress.has_passing = true;
        pthread_mutex_unlock(&stress.lock);
        if (gw_random_below(&random, 4)) {
            begin_session(&v, p, gw_random_next(&random));
            act(&v);
            send_some(&v);
        } else {
            memset(&v, 0, sizeof(v));
            v.uffd = -1;
        }
        if (gw_random_below(&random, 3) == 0) {
            gw_daemon_stop(p->daemon);
            require(gw_daemon_wait(p->daemon) == 0);
            require(gw_daemon_start_path(p->daemon, p->path) == 0);
        }
        pthread_mutex_lock(&stress.lock);
        stress.has_passing = false;
        place_close(p);
        pthread_mutex_unlock(&stress.lock);
        free_visitor(&v);
    }
    return NULL;
}

static void disturb(const struct place *p, uint64_t *random)
{
    struct gw_queue *q = gw_daemon_queue(p->daemon, (unsigned)gw_random_below(random, N_QUEUES));
    struct gw_queue_stats stats;

    switch (gw_random_below(random, 8)) {
    case 0:
        gw_queue_stats(q, &stats);
        break;
    case 1:
        gw_daemon_config_changed(p->daemon);
        break;
    case 2:
    case 3:
        gw_queue_wake(q);
        break;
    default:
        require(gw_queue_move(q, stress.workers[gw_random_below(random, N_WORKERS)]) == 0);
    }
}

static void *move_queues(void *arg)
{
    uint64_t random = stress.seed + *(unsigned *)arg;

    while (!__atomic_load_n(&stress.ends, __ATOMIC_ACQUIRE)) {
        uint64_t i = gw_random_below(&random, N_GUESTS + 1);

        if (i < N_GUESTS) {
            disturb(&stress.places[i], &random);
        } else {
            pthread_mutex_lock(&stress.lock);
            if (stress.has_passing)
                disturb(&stress.passing, &random);
            pthread_mutex_unlock(&stress.lock);
        }
        usleep((useconds_t)gw_random_below(&random, 200));
    }
    return NULL;
}

/* ---- the whole ---- */

static void *do_nothing(void *arg)
{
    return NULL;
}

static unsigned count_threads(void)
{
    pthread_t thread;
    unsigned n = 0;
    DIR *dir;

    /* With the first thread, ThreadSanitizer starts one of its own. */
    assert_int_equal(pthread_create(&thread, NULL, do_nothing, NULL), 0);
    pthread_join(thread, NULL);
    dir = opendir("/proc/self/task");
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void begin(enum gw_loop_kind loop)
{
    struct gw_workers_config cfg = {
        .size = sizeof(cfg), .num_workers = N_WORKERS + 1, .loop = loop, .log = take_message};
    uint64_t seed = 0, sessions = SESSIONS;

    assert_int_equal(getrandom(&seed, 4, 0), 4);
    stress.seed = number_of("SHARED_STRESS_SEED", seed);
    if (is_under_tsan() || is_under_asan())
        sessions /= 8;
    sessions = number_of("SHARED_STRESS_SESSIONS", sessions);
    fprintf(stderr, "SHARED_STRESS_SEED=%llu, %llu sessions\n", (unsigned long long)stress.seed,
            (unsigned long long)sessions);
    stress.sessions_left = (int)sessions;
    stress.ends = false;
    strcpy(stress.dir, "/tmp/godwit-it-XXXXXX");
    assert_non_null(mkdtemp(stress.dir));
    assert_int_equal(gw_workers_new(&stress.set, &cfg), 0);
    for (unsigned i = 0; i < N_WORKERS; i++)
        stress.workers[i] = gw_workers_get(stress.set, i);
    stress.control = gw_workers_get(stress.set, N_WORKERS);
    for (unsigned i = 0; i < N_GUESTS; i++) {
        char name[] = {(char)('a' + i), '\0'};

        place_open(&stress.places[i], i % N_ECHO_KINDS, name);
    }
}

static void stress_with(enum gw_loop_kind loop)
{
    unsigned n_threads = count_threads(), numbers[] = {2000, 3000}, n_moved = 0;
    pthread_t guests[N_GUESTS], passing, movers[N_OF(numbers)];

    begin(loop);
    for (unsigned i = 0; i < N_GUESTS; i++)
        assert_int_equal(pthread_create(&guests[i], NULL, run_guest, &stress.places[i]), 0);
    assert_int_equal(pthread_create(&passing, NULL, come_and_go, NULL), 0);
    for (unsigned i = 0; i < N_OF(numbers); i++)
        assert_int_equal(pthread_create(&movers[i], NULL, move_queues, &numbers[i]), 0);
    for (unsigned i = 0; i < N_GUESTS; i++)
        pthread_join(guests[i], NULL);
    pthread_join(passing, NULL);
    __atomic_store_n(&stress.ends, true, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < N_OF(numbers); i++)
        pthread_join(movers[i], NULL);
    assert_int_equal(gw_workers_free(stress.set), -EBUSY);
    for (unsigned i = 0; i < N_GUESTS; i++) {
        place_close(&stress.places[i]);
        n_moved += stress.places[i].device.n_moved;
    }
    assert_int_equal(gw_workers_free(stress.set), 0);
    assert_int_equal(rmdir(stress.dir), 0);
    assert_true(n_moved > 0);
    fprintf(stderr, "%u moves; actions:", n_moved);
    for (unsigned i = 0; i <= N_OF(actions); i++)
        fprintf(stderr, " %u", stress.n_did[i]);
    fprintf(stderr, "\n");
    for (unsigned ms = 0; count_threads() > n_threads && ms < patience_ms(); ms++)
        usleep(1000);
    assert_int_equal(count_threads(), n_threads);
}

static void test_shared_stress_uring(void **state)
{
    stress_with(GW_LOOP_URING);
}

static void test_shared_stress_epoll(void **state)
{
    stress_with(GW_LOOP_EPOLL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_shared_stress_epoll),
        FDCHECK_TEST(test_shared_stress_uring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
