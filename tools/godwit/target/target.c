/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Targets: a socket path, or a child that listens on one. Errors are described here, with the name
 * of the target and a remedy, because only this file knows the command line and the child's exit.
 */
#include "target.h"

#include "base/clock.h"
#include "build_id.h"
#include "child.h"
#include "cmdline.h"
#include "tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_COMMAND_MS 10000
#define START_PATH_MS    2000
#define RETRY_NS         500000
#define GRACE_MS         2000
#define LAST_LINES       8
#define GROUP_MS         2000

struct target {
    char *text, *name, *file;
    char **words; /* of the command, placeholders not replaced; NULL for a path */
    unsigned start_ms;
    bool is_verbose;

    struct child *child;
    char *path;                                    /* socket path; NULL for {fd} */
    bool has_remains;                              /* a killed process left its socket */
    int fd;                                        /* our end of {fd}; -1 once connected */
    pid_t peer;                                    /* process that listens on the path */
    char executable[256], build_id[BUILD_ID_SIZE]; /* of the back-end; empty if unknown */
    char *last_lines;
    char error[640];
};

__attribute__((format(printf, 3, 4))) static int fail(struct target *t, int r, const char *format,
                                                      ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(t->error, sizeof(t->error), format, args);
    va_end(args);
    return r;
}

/* Check a command line before it runs; `error` describes the fault. */
static int check_words(char **words, const char *file, char *error, size_t size)
{
    const struct cmdline_value values[] = {
        {"socket", ""}, {"fd", ""}, {"file", file != NULL ? "" : NULL}, {0}};
    char unknown[32], *filled;
    int r = words[0] == NULL ? -EINVAL : 0;

    for (char **w = words; r == 0 && *w != NULL; w++) {
        r = cmdline_fill(&filled, *w, values, unknown);
        if (r == 0)
            free(filled);
    }
    if (r == -ENOENT) {
        if (strcmp(unknown, "file") == 0)
            snprintf(error, size, "the command line contains {file}, but no file was given");
        else
            snprintf(error, size, "unknown placeholder {%s}; use {socket}, {fd} or {file}",
                     unknown);
        r = -EINVAL;
    }
    return r;
}

static int parse_text(struct target *t, char *error, size_t size)
{
    bool socket = cmdline_has(t->text, "socket"), fd = cmdline_has(t->text, "fd");
    int r;

    if (t->text[0] == '\0') {
        snprintf(error, size, "an empty text is neither a socket path nor a command line");
        return -EINVAL;
    }
    if (!socket && !fd) {
        t->path = strdup(t->text);
        return t->path == NULL ? -ENOMEM : 0;
    }
    if (socket && fd) {
        snprintf(error, size, "a command line contains {socket} or {fd}, not both");
        return -EINVAL;
    }
    r = cmdline_split(t->text, &t->words);
    if (r == -EINVAL)
        snprintf(error, size, "the command line ends inside quotes or after a backslash");
    return r < 0 ? r : check_words(t->words, t->file, error, size);
}

int target_new(struct target **ret, const struct target_config *cfg, char *error, size_t size)
{
    struct target *t = calloc(1, sizeof(*t));
    int r = 0;

    snprintf(error, size, "%s", "out of memory");
    if (t == NULL)
        return -ENOMEM;
    t->fd = -1;
    t->is_verbose = cfg->is_verbose;
    t->text = strdup(cfg->text);
    t->name = strdup(cfg->name);
    t->file = cfg->file != NULL ? strdup(cfg->file) : NULL;
    if (t->text == NULL || t->name == NULL || (cfg->file != NULL && t->file == NULL))
        r = -ENOMEM;
    if (r == 0)
        r = parse_text(t, error, size);
    if (r < 0) {
        target_free(t);
        return r;
    }
    t->start_ms = cfg->start_ms;
    if (t->start_ms == 0)
        t->start_ms = t->words != NULL ? START_COMMAND_MS : START_PATH_MS;
    *ret = t;
    return 0;
}

void target_free(struct target *t)
{
    if (t == NULL)
        return;
    target_stop(t);
    cmdline_free(t->words);
    free(t->last_lines);
    free(t->path);
    free(t->file);
    free(t->name);
    free(t->text);
    free(t);
}

const char *target_name(const struct target *t)
{
    return t->name;
}

const char *target_text(const struct target *t)
{
    return t->text;
}

bool target_is_command(const struct target *t)
{
    return t->words != NULL;
}

pid_t target_pid(const struct target *t)
{
    return t->child != NULL ? child_pid(t->child) : t->peer;
}

pid_t target_listener(const struct target *t)
{
    return t->peer;
}

const char *target_executable(const struct target *t)
{
    return t->executable;
}

const char *target_build_id(const struct target *t)
{
    return t->build_id;
}

const char *target_error(const struct target *t)
{
    return t->error;
}

const char *target_last_lines(struct target *t)
{
    if (t->child != NULL) {
        free(t->last_lines);
        t->last_lines = child_last_lines(t->child, LAST_LINES);
    }
    return t->last_lines != NULL ? t->last_lines : "";
}

/* ---- Start ---- */

/* Choose a new socket path for each start: an old process may still use the previous one. */
static int make_path(struct target *t)
{
    static unsigned count;
    char name[24];

    free(t->path);
    t->path = NULL;
    snprintf(name, sizeof(name), "%u.sock", __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED));
    return tmpdir_path(&t->path, name);
}

/* Replace the placeholders; the child inherits `fd`. */
static int fill_words(const struct target *t, int fd, char ***ret)
{
    char number[12], unknown[32], **argv;
    size_t n = 0;
    int r = 0;

    snprintf(number, sizeof(number), "%d", fd);
    const struct cmdline_value values[] = {
        {"socket", t->path}, {"fd", number}, {"file", t->file}, {0}};

    while (t->words[n] != NULL)
        n++;
    argv = calloc(n + 1, sizeof(*argv));
    if (argv == NULL)
        return -ENOMEM;
    for (size_t i = 0; r == 0 && i < n; i++)
        r = cmdline_fill(&argv[i], t->words[i], values, unknown);
    if (r < 0)
        cmdline_free(argv);
    else
        *ret = argv;
    return r;
}

static int run(struct target *t, int fd)
{
    char **argv = NULL;
    int r = fill_words(t, fd, &argv);

    if (r < 0)
        return fail(t, r, "%s: %s", t->name, strerror(-r));
    r = child_new(&t->child, argv, fd, t->is_verbose ? t->name : NULL);
    if (r == -ENOENT)
        fail(t, r, "%s: there is no program %s%s", t->name, argv[0],
             strchr(argv[0], '/') != NULL ? "" : " in PATH");
    else if (r < 0)
        fail(t, r, "%s: cannot start %s%s: %s", t->name, argv[0],
             strchr(argv[0], '/') != NULL ? "" : " from PATH", strerror(-r));
    cmdline_free(argv);
    return r;
}

int target_start(struct target *t)
{
    int fds[2] = {-1, -1}, r = 0;

    if (t->words == NULL || t->child != NULL)
        return 0;
    if (!cmdline_has(t->text, "fd"))
        r = t->has_remains ? 0 : make_path(t);
    else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        r = -errno;
    if (r < 0)
        return fail(t, r, "%s: cannot create a socket: %s", t->name, strerror(-r));
    r = run(t, fds[1]);
    if (fds[1] >= 0)
        close(fds[1]);
    if (r == 0)
        t->fd = fds[0];
    else if (fds[0] >= 0)
        close(fds[0]);
    return r;
}

/* ---- Connect ---- */

/* Make one attempt. Returns: the socket; a negative errno. */
static int try_connect(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd, r = 0;

    if (strlen(path) >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    strcpy(addr.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
        r = -errno;
    if (r == 0 && fcntl(fd, F_SETFL, 0) < 0)
        r = -errno;
    if (r < 0)
        close(fd);
    return r < 0 ? r : fd;
}

static bool is_passing(int r)
{
    return r == -ENOENT || r == -ECONNREFUSED || r == -EAGAIN;
}

static int no_connection(struct target *t, int r)
{
    struct stat st;

    if (t->words != NULL && is_passing(r))
        return fail(t, -ETIMEDOUT, "%s: it runs, but does not listen at %s after %.1f s", t->name,
                    t->path, t->start_ms / 1e3);
    if (r == -EAGAIN)
        return fail(t, -ETIMEDOUT, "%s: the back-end at %s does not accept connections", t->name,
                    t->path);
    if (r == -ENOENT && strpbrk(t->text, " \t") != NULL)
        return fail(t, r, "%s: there is no socket \"%s\"; a command line must contain {socket}",
                    t->name, t->path);
    if (r == -ENOENT)
        return fail(t, r, "%s: there is no socket at %s: start the back-end first", t->name,
                    t->path);
    if (stat(t->path, &st) == 0 && !S_ISSOCK(st.st_mode))
        return fail(t, r, "%s: %s is not a socket", t->name, t->path);
    if (r == -ECONNREFUSED)
        return fail(t, r, "%s: nothing listens at %s: start the back-end again", t->name, t->path);
    return fail(t, r, "%s: cannot connect to %s: %s", t->name, t->path, strerror(-r));
}

/* Record the program of the back-end, once: a restarted one need not be read again. */
static void identify(struct target *t)
{
    pid_t pid = t->peer != 0 ? t->peer : target_pid(t);
    char link[32];
    ssize_t n;

    if (pid == 0 || t->executable[0] != '\0')
        return;
    snprintf(link, sizeof(link), "/proc/%d/exe", (int)pid);
    n = readlink(link, t->executable, sizeof(t->executable) - 1);
    if (n <= 0)
        return;
    t->executable[n] = '\0';
    build_id_read(link, t->build_id); /* empty if it has none */
}

/* Attach the front-end to the socket, and remember the peer's pid and program. */
static int attach(struct target *t, struct gw_frontend *fe, int fd)
{
    struct ucred peer = {0};
    socklen_t len = sizeof(peer);
    int r;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid != getpid())
        t->peer = peer.pid;
    identify(t);
    r = gw_frontend_attach(fe, fd);
    return r < 0 ? fail(t, r, "%s: %s", t->name, gw_frontend_last_error()) : 0;
}

static int connect_path(struct target *t, struct gw_frontend *fe)
{
    uint64_t deadline = gw_clock_ms() + t->start_ms;

    for (;;) {
        int r = try_connect(t->path);

        if (r >= 0)
            return attach(t, fe, r);
        if (target_check(t) < 0)
            return -EHOSTDOWN;
        if (!is_passing(r) || gw_clock_ms() >= deadline)
            return no_connection(t, r);
        nanosleep(&(struct timespec){.tv_nsec = RETRY_NS}, NULL);
    }
}

int target_connect(struct target *t, struct gw_frontend *fe)
{
    int r = target_start(t), fd;

    if (r < 0)
        return r;
    if (t->path != NULL)
        return connect_path(t, fe);
    if (t->fd < 0)
        return fail(t, -EISCONN, "%s: a target with {fd} connects only once; use {socket}",
                    t->name);
    fd = t->fd;
    t->fd = -1;
    return attach(t, fe, fd);
}

/* ---- Watch and end ---- */

/* Describe how the child ended. */
static void tell_end(struct target *t, int status)
{
    char how[64], *last = child_last_lines(t->child, 1);

    if (WIFSIGNALED(status))
        snprintf(how, sizeof(how), "was killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(how, sizeof(how), "ended with status %d", WEXITSTATUS(status));
    if (last == NULL || *last == '\0')
        fail(t, 0, "%s (%s) %s, without any output", t->name, t->words[0], how);
    else
        fail(t, 0, "%s (%s) %s; its last words: %.*s", t->name, t->words[0], how,
             (int)strcspn(last, "\n"), last);
    free(last);
}

int target_check(struct target *t)
{
    int status;

    if (t->child == NULL || !child_has_ended(t->child, &status))
        return 0;
    tell_end(t, status);
    return -EHOSTDOWN;
}

static void close_own_end(struct target *t)
{
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
    t->peer = 0;
}

int target_stop(struct target *t)
{
    int status, r;

    close_own_end(t);
    if (t->child == NULL)
        return 0;

    r = target_check(t);
    if (r == 0 && !child_end(t->child, GRACE_MS, &status)) {
        r = fail(t, -ETIMEDOUT, "%s (%s) did not end within %u s of SIGTERM and had to be killed",
                 t->name, t->words[0], GRACE_MS / 1000);
    } else if (r == 0 && status != 0 && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM)) {
        tell_end(t, status);
        r = -EPROTO;
    }
    target_last_lines(t); /* keeps the lines available after child_free */
    child_free(t->child);
    t->child = NULL;
    t->has_remains = false;
    if (t->path != NULL)
        unlink(t->path);
    return r;
}

void target_kill(struct target *t)
{
    if (t->child != NULL)
        child_kill(t->child);
}

int target_bury(struct target *t)
{
    int status, r = 0;

    close_own_end(t);
    if (t->child == NULL)
        return 0;
    child_wait(t->child, &status);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        tell_end(t, status);
        r = -EPROTO;
    }
    /* A surviving process of the group could accept the next connection. */
    child_await_group(t->child, GROUP_MS);
    target_last_lines(t);
    child_free(t->child);
    t->child = NULL;
    t->has_remains = t->path != NULL;
    return r;
}

int target_cpu_ns(const struct target *t, uint64_t *ret)
{
    pid_t pid = t->peer != 0 ? t->peer : target_pid(t);
    struct timespec ts;
    clockid_t clock;

    if (pid == 0)
        return -ENODATA;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &ts) < 0)
        return -ESRCH;
    *ret = (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
    return 0;
}
