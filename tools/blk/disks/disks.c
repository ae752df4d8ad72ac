/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The life of the disks. Any thread may bring an event: a signal, the end of a daemon, the end of a
 * task. It takes the lock, changes states, and settles: whatever can happen next is started. What
 * may block is a task. The main thread only waits for the end.
 *
 *     WAITING --> OPENING --> SERVING --> STOPPING --> CLOSING --> ENDED, or removed
 *        ^           |            (the session ended)     ^
 *        +-- FAILED <+            DRAINING ---------------+
 *         (next SIGHUP)
 */
#include "disks_i.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* How long the first opening of all disks may take before the program counts as started. */
#define START_MS 5000

static struct disks disks = {
    .spare_fd = -1,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .end = &disks.first,
};

/* ---- which disks exclude each other ---- */

static bool is_held(const struct disk *disk)
{
    return disk->state == DISK_OPENING || disk->state == DISK_CLOSING || disks_have_daemon(disk);
}

static bool is_same(const char *a, const char *b)
{
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

static bool has_same_id(const struct disk *a, const struct disk *b)
{
    return a->id.file != 0 && a->id.device == b->id.device && a->id.file == b->id.file &&
           disk_options_exclude(a->options, b->options);
}

/* [lock] A list has every name, socket and file once, so only disks that go can be in the way. */
static bool must_wait(const struct disk *disk)
{
    const struct disk_options *o = disk->options;

    for (const struct disk *other = disks.first; disks.n_unwanted > 0 && other != NULL;
         other = other->next) {
        const struct disk_options *p = other->options;

        if (other == disk || !other->is_unwanted || !is_held(other))
            continue;
        if (disk->lacks_files || strcmp(o->name, p->name) == 0 ||
            is_same(o->device.socket_path, p->device.socket_path) ||
            (is_same(o->file.path, p->file.path) && disk_options_exclude(o, p)) ||
            has_same_id(disk, other))
            return true;
    }
    return false;
}

/* [lock] Returns: another disk with the same file, by whatever path; NULL without one. */
static const struct disk *find_same_file(const struct disk *disk)
{
    for (const struct disk *other = disks.first; other != NULL; other = other->next)
        if (other != disk && is_held(other) && has_same_id(disk, other))
            return other;
    return NULL;
}

/* ---- what happens next ---- */

static void run_open(struct task *task);
static void run_close(struct task *task);
static void run_resize(struct task *task);

/* [lock] */
static void begin(struct disk *disk, void (*run)(struct task *task))
{
    disk->is_busy = true;
    disk->task.run = run;
    tasks_add(&disk->task);
}

/* [lock] */
static void fail(struct disk *disk, const char *reason)
{
    disk->state = DISK_FAILED;
    disk->has_been_tried = true;
    snprintf(disk->reason, sizeof(disk->reason), "%s", reason);
}

/* [lock] */
static void begin_opening(struct disk *disk)
{
    disk->state = DISK_OPENING;
    disk->n_removed = disks.n_removed;
    begin(disk, run_open);
}

/* [lock] */
static void remove_disk(struct disk **link)
{
    struct disk *disk = *link;

    *link = disk->next;
    if (*link == NULL)
        disks.end = link;
    disks.n_unwanted--;
    disks.n_removed++;
    disk_free(disk);
    for (disk = disks.first; disk != NULL && disks.lack_files; disk = disk->next)
        disk->lacks_files = false;
    disks.lack_files = false;
}

/* [lock] */
static void settle(void)
{
    for (struct disk **link = &disks.first, *disk; (disk = *link) != NULL;) {
        bool is_closed =
            disk->state == DISK_WAITING || disk->state == DISK_FAILED || disk->state == DISK_ENDED;

        if (disk->is_unwanted && is_closed && !disk->is_busy) {
            remove_disk(link);
            continue;
        }
        if (disk->state == DISK_CLOSING && !disk->is_busy)
            begin(disk, run_close);
        else if (disk->state == DISK_WAITING && !must_wait(disk))
            begin_opening(disk);
        link = &disk->next;
    }
    pthread_cond_broadcast(&disks.changed);
}

/* [lock] */
static void stop(struct disk *disk)
{
    disk->state = DISK_STOPPING;
    gw_daemon_stop(disk->daemon);
}

/* [lock] */
static void retire(struct disk *disk)
{
    disks.n_unwanted += !disk->is_unwanted;
    disk->is_unwanted = true;
    if (disk->state == DISK_SERVING)
        stop(disk);
}

/* [lock] */
static bool add(struct disk_options *o)
{
    struct disk *disk = disk_new(o);

    if (disk == NULL)
        return false;
    disk->number = disks.n_disks++;
    *disks.end = disk;
    disks.end = &disk->next;
    return true;
}

/* ---- tasks and the ends of daemons ---- */

/* After an opening. Returns: 0; -EAGAIN: the file belongs to a disk that stops; -EBUSY. */
static int claim(struct disk *disk, const struct store_id *id)
{
    const struct disk *other;
    char name[DISK_NAME_MAX + 1];
    int r = 0;

    pthread_mutex_lock(&disks.lock);
    disk->id = *id;
    other = find_same_file(disk);
    if (other != NULL) {
        r = other->is_unwanted ? -EAGAIN : -EBUSY;
        memcpy(name, other->options->name, sizeof(name));
    }
    pthread_mutex_unlock(&disks.lock);
    if (r == -EBUSY)
        backend_say(&disk->log, GW_LOG_ERROR,
                    "%s is also the file of the disk %s; use another one, or make both read-only",
                    disk->options->file.path, name);
    return r;
}

/* Why the disk could not be opened. */
static void find_reason(struct disk *disk, int r, char *reason, size_t size)
{
    struct rlimit limit = {0};

    if (r == -EMFILE && getrlimit(RLIMIT_NOFILE, &limit) == 0)
        backend_say(&disk->log, GW_LOG_ERROR,
                    "too many open files: the limit of this process is %llu; raise it (ulimit -n, "
                    "or LimitNOFILE= of the systemd unit)",
                    (unsigned long long)limit.rlim_cur);
    backend_log_error(&disk->log, reason, size);
    if (*reason == '\0')
        snprintf(reason, size, "%s", strerror(-r));
}

/* [lock] With the workers of other disks, what it has in flight must end before it is freed. */
static void ended(struct disk *disk)
{
    uint64_t in_flight = 0, answered = 0;

    disk->state = DISK_CLOSING;
    if (disks.workers.queues == NULL)
        return;
    disk_count(disk, &in_flight, &answered);
    if (in_flight > 0 || gw_blk_is_pending(disk->blk))
        disk->state = DISK_DRAINING;
}

/* [lock] No event reports that the last request of a disk has ended. */
static void check_draining(void)
{
    for (struct disk *disk = disks.first; disk != NULL; disk = disk->next)
        if (disk->state == DISK_DRAINING)
            ended(disk);
    settle();
}

/* [lock] */
static void opened(struct disk *disk, int r, const char *reason)
{
    disk->is_busy = false;
    disk->has_been_tried = r != -EAGAIN;
    if (r == -EMFILE && (disks.n_unwanted > 0 || disk->n_removed != disks.n_removed)) {
        /* A disk that stops, or has been closed since, frees descriptors. */
        disk->state = DISK_WAITING;
        disk->lacks_files = disks.lack_files = disks.n_unwanted > 0;
    } else if (r == -EAGAIN) {
        disk->state = DISK_WAITING;
    } else if (r < 0) {
        fail(disk, reason);
    } else if (disk->has_ended) {
        ended(disk);
    } else {
        disk->state = DISK_SERVING;
        if (disk->is_unwanted)
            stop(disk);
    }
}

static struct disk *disk_of(struct task *task)
{
    return (struct disk *)(void *)((char *)task - offsetof(struct disk, task));
}

static void run_open(struct task *task)
{
    struct disk *disk = disk_of(task);
    struct store_id id = {0};
    char reason[300] = "";
    int r = disk_open(disk, &id);

    if (r == 0)
        r = claim(disk, &id);
    if (r == 0)
        r = disk_start(disk, &disks.workers);
    if (r < 0) {
        if (r != -EAGAIN)
            find_reason(disk, r, reason, sizeof(reason));
        (void)disk_close(disk);
    } else {
        backend_say(&disk->log, GW_LOG_INFO, "the disk can be used");
    }
    pthread_mutex_lock(&disks.lock);
    opened(disk, r, reason);
    settle();
    pthread_mutex_unlock(&disks.lock);
}

static void run_close(struct task *task)
{
    struct disk *disk = disk_of(task);
    bool has_kept_data = disk_close(disk);

    pthread_mutex_lock(&disks.lock);
    disk->is_busy = false;
    disk->has_ended = false;
    disk->id = (struct store_id){0};
    disk->state = DISK_ENDED;
    if (!has_kept_data)
        disks.has_failed = true;
    settle();
    pthread_mutex_unlock(&disks.lock);
}

static void run_resize(struct task *task)
{
    struct disk *disk = disk_of(task);

    disk_resize(disk);
    pthread_mutex_lock(&disks.lock);
    disk->is_busy = false;
    settle();
    pthread_mutex_unlock(&disks.lock);
}

static void daemon_ended(void *arg, int result)
{
    struct disk *disk = arg;

    if (result < 0)
        backend_say(&disk->log, GW_LOG_ERROR, "the session ended: %s", strerror(-result));
    pthread_mutex_lock(&disks.lock);
    disk->result = result;
    if (result < 0 && disks.cfg.path == NULL)
        disks.has_failed = true;
    if (disk->state == DISK_OPENING)
        disk->has_ended = true;
    else
        ended(disk);
    settle();
    pthread_mutex_unlock(&disks.lock);
}

/* ---- signals ---- */

static void end_all(void)
{
    pthread_mutex_lock(&disks.lock);
    disks.is_ending = true;
    for (struct disk *disk = disks.first; disk != NULL; disk = disk->next)
        retire(disk);
    settle();
    pthread_mutex_unlock(&disks.lock);
}

static void count(uint64_t *ret_in_flight, uint64_t *ret_answered)
{
    pthread_mutex_lock(&disks.lock);
    disks_count_requests(&disks, ret_in_flight, ret_answered);
    pthread_mutex_unlock(&disks.lock);
}

static void find_stuck(char *text, size_t size)
{
    disks_find_stuck(&disks, text, size);
}

static void report(void)
{
    disks_report(&disks);
}

/* [lock] A disk that is listed again as it is. */
static void refresh(struct disk *disk)
{
    if (disk->state == DISK_FAILED || disk->state == DISK_ENDED) {
        disk->state = DISK_WAITING;
        disk->id = (struct store_id){0};
    } else if (disk->state == DISK_SERVING && !disk->is_busy &&
               (disk->options->ram == 0 || disks.cfg.single != NULL)) {
        begin(disk, run_resize);
    }
}

struct difference {
    unsigned n_same, n_changed, n_removed, n_added, n_lost;
};

/* [lock] Make the disks those of the list, which is sorted. `is_taken` has a zero for each. */
static void apply(struct disk_list *list, bool *is_taken, struct difference *ret)
{
    for (struct disk *disk = disks.first; disk != NULL; disk = disk->next) {
        int listed = disk_list_find(list, disk->options->name);

        if (disk->is_unwanted)
            continue;
        if (listed >= 0 && disk_options_equal(list->disks[listed], disk->options)) {
            refresh(disk);
            is_taken[listed] = true;
            ret->n_same++;
        } else {
            retire(disk);
            ret->n_changed += listed >= 0;
            ret->n_removed += listed < 0;
        }
    }
    for (unsigned i = 0; i < list->n_disks; i++) {
        if (is_taken[i])
            continue;
        if (add(disk_options_share(list->disks[i])))
            ret->n_added++;
        else
            ret->n_lost++;
    }
    ret->n_added -= ret->n_changed < ret->n_added ? ret->n_changed : ret->n_added;
    settle();
}

/* The disks that shall be served. Returns: 0; a negative errno, which has been logged. */
static int list_disks(struct disk_list *list, const char *consequence)
{
    struct disk_list_error error = {"no memory"};
    int r = disk_list_share(list, disks.cfg.given);

    if (r == 0 && disks.cfg.path != NULL) {
        /* Other threads may take the spare descriptor first, but rarely. */
        close(disks.spare_fd);
        r = disk_list_read(list, disks.cfg.path, &error);
        disks.spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    if (r < 0)
        backend_say(NULL, GW_LOG_ERROR, "%s%s", error.text, consequence);
    return r;
}

static void change(struct disk_list *list)
{
    bool *is_taken = calloc(list->n_disks + 1, sizeof(*is_taken));
    struct difference d = {0};

    if (is_taken == NULL) {
        backend_say(NULL, GW_LOG_ERROR, "no memory for a change of the disks");
        return;
    }
    disk_list_sort(list);
    pthread_mutex_lock(&disks.lock);
    if (!disks.is_ending)
        apply(list, is_taken, &d);
    pthread_mutex_unlock(&disks.lock);
    free(is_taken);
    if (d.n_lost > 0)
        backend_say(NULL, GW_LOG_ERROR, "no memory for %u disks", d.n_lost);
    backend_say(NULL, GW_LOG_INFO, "disks: %u added, %u removed, %u changed, %u as before",
                d.n_added, d.n_removed, d.n_changed, d.n_same);
}

static void reload(void)
{
    struct disk_list list = {0};

    if (disks.cfg.single != NULL) {
        pthread_mutex_lock(&disks.lock);
        if (disks.first != NULL && disks.first->state == DISK_SERVING)
            refresh(disks.first);
        pthread_mutex_unlock(&disks.lock);
        return;
    }
    if (list_disks(&list, "; the disks stay as they are") == 0)
        change(&list);
    disk_list_done(&list);
}

/* ---- the program ---- */

/* As many open files as the administrator permits; the default is low for select(2) only. */
static void raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        backend_say(NULL, GW_LOG_WARNING, "cannot raise the limit of open files: %s",
                    strerror(errno));
}

/* [lock] Wait for a change, or for something that no event reports. */
static void wait_change(bool is_limited)
{
    struct timespec until = gw_clock_timespec(gw_clock_ns() + TASKS_SLOW_MS * GW_NS_PER_MS);

    if (tasks_check() || is_limited)
        (void)pthread_cond_timedwait(&disks.changed, &disks.lock, &until);
    else
        (void)pthread_cond_wait(&disks.changed, &disks.lock);
}

/* [lock] Wait until every disk has been opened, or that has failed, or takes long. */
static void wait_start(void)
{
    uint64_t until_ms = gw_clock_ms() + START_MS;
    struct disks_summary s;

    for (;;) {
        disks_summarize(&disks, &s);
        if (s.n_untried == 0 || gw_clock_ms() >= until_ms)
            return;
        wait_change(true);
    }
}

/* [lock] */
static bool is_over(const struct disks_summary *s)
{
    if (disks.is_ending)
        return disks.first == NULL;
    return disks.cfg.path == NULL && s->n_serving + s->n_opening + s->n_stopping == 0;
}

/* Set what `systemctl status` shows. */
static void notify(const struct disks_summary *s)
{
    char text[200 + DISK_NAME_MAX];
    int used = snprintf(text, sizeof(text), "STATUS=%u disks served", s->n_serving);

    if (s->n_opening + s->n_stopping > 0)
        used += snprintf(text + used, sizeof(text) - (size_t)used, ", %u opening, %u stopping",
                         s->n_opening, s->n_stopping);
    if (s->n_failed > 0)
        snprintf(text + used, sizeof(text) - (size_t)used, ", %u failed, such as %s", s->n_failed,
                 s->failed);
    backend_systemd_notify(text);
}

/* [lock] Wait for the end of the program. */
static void wait_end(void)
{
    struct disks_summary s, shown = {.n_serving = UINT_MAX};

    for (;;) {
        disks_summarize(&disks, &s);
        if (is_over(&s)) {
            disks.has_failed = disks.has_failed || s.n_failed > 0;
            return;
        }
        if (disks.cfg.single == NULL && memcmp(&s, &shown, sizeof(s)) != 0) {
            shown = s;
            pthread_mutex_unlock(&disks.lock);
            notify(&s);
            pthread_mutex_lock(&disks.lock);
            continue;
        }
        if (s.n_draining > 0)
            check_draining();
        wait_change(s.n_draining > 0);
    }
}

/* The disks have been opened, or not. Returns: 0; -EIO: none can be served. */
static int check_start(void)
{
    struct disks_summary s;

    disks_summarize(&disks, &s);
    if (s.n_failed == 0 || s.n_serving + s.n_opening + s.n_stopping + s.n_ended > 0)
        return 0;
    disks.has_failed = true;
    return -EIO;
}

static void serve(void)
{
    int r;

    pthread_mutex_lock(&disks.lock);
    wait_start();
    r = check_start();
    pthread_mutex_unlock(&disks.lock);
    if (r < 0)
        return;
    if (backend_service_begin() < 0) {
        disks.has_failed = true;
        end_all();
    }
    backend_systemd_notify("READY=1");
    pthread_mutex_lock(&disks.lock);
    wait_end();
    pthread_mutex_unlock(&disks.lock);
    backend_service_end();
}

static int prepare(const struct disks_config *cfg)
{
    static const struct backend_signal_ops signal_ops = {
        .end = end_all,
        .count = count,
        .find_stuck = find_stuck,
        .reload = reload,
        .report = report,
    };
    pthread_condattr_t attr;
    int r;

    disks.cfg = *cfg;
    disks.workers = (struct disk_workers){
        .program = cfg->program,
        .options = cfg->options,
        .ended = daemon_ended,
    };
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&disks.changed, &attr);
    pthread_condattr_destroy(&attr);
    disks.spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    raise_limit();
    r = backend_signals_init(&signal_ops);
    if (r < 0)
        return r;
    r = tasks_init();
    if (r < 0)
        backend_say(NULL, GW_LOG_ERROR, "cannot start a thread: %s", strerror(-r));
    if (r == 0 && cfg->single == NULL)
        r = disk_workers_new(&disks.workers);
    return r;
}

/* Returns: 0; a negative errno, which has been logged. */
static int add_first(void)
{
    struct disk_list list = {0};
    int r;

    if (disks.cfg.single != NULL) {
        pthread_mutex_lock(&disks.lock);
        r = add(disks.cfg.single) ? 0 : -ENOMEM;
        settle();
        pthread_mutex_unlock(&disks.lock);
        return r;
    }
    r = list_disks(&list, "");
    if (r == 0)
        change(&list);
    disk_list_done(&list);
    return r;
}

int disks_run(const struct disks_config *cfg)
{
    if (prepare(cfg) < 0)
        return EXIT_FAILURE;
    if (add_first() < 0)
        disks.has_failed = true;
    else
        serve();
    /* Nothing runs: what is left has failed or ended. */
    end_all();
    disk_workers_free(&disks.workers);
    close(disks.spare_fd);
    return disks.has_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
