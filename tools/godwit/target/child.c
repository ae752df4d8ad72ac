/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Children. A signal must not be sent to a process group whose leader has been reaped, because its
 * number may have been reused. So the order is: detect the leader's death without reaping
 * (WNOWAIT), kill the rest of its group, reap it; all under one lock, which children_end also
 * takes.
 */
#include "child.h"

#include "child_output.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define POLL_NS 5000000

struct child {
    struct child *next; /* list of all children; under `lock` */
    pid_t pid;          /* also the process group; 0 once reaped */
    pid_t number;       /* the same, kept after reaping */
    int status;
    struct child_output *output;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct child *children;

/* In the child, between fork and exec: async-signal-safe calls only. */
__attribute__((noreturn)) static void become(char **argv, int fd, int out, int report, pid_t parent)
{
    sigset_t none;
    int null, error;

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    signal(SIGPIPE, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 &&
        dup2(out, STDERR_FILENO) >= 0 && (fd < 0 || fcntl(fd, F_SETFD, 0) == 0))
        execvp(argv[0], argv);
    error = errno;
    if (write(report, &error, sizeof(error)) < 0)
        _exit(126);
    _exit(127);
}

/* Read the errno that the child reported; success reports nothing and closes the pipe in exec. */
static int read_report(int fd)
{
    int error = 0;
    ssize_t n;

    do {
        n = read(fd, &error, sizeof(error));
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof(error) ? -error : 0;
}

/* Fork, and wait until the program runs or has failed to start. */
static int spawn(struct child *c, char **argv, int fd, int out)
{
    int report[2], r = 0;
    pid_t parent = getpid(), pid;

    if (pipe2(report, O_CLOEXEC) < 0)
        return -errno;
    pid = fork();
    if (pid == 0)
        become(argv, fd, out, report[1], parent);
    if (pid < 0)
        r = -errno;
    close(report[1]);
    if (pid > 0) {
        setpgid(pid, pid); /* parent and child both call it, so that neither waits */
        r = read_report(report[0]);
        if (r < 0)
            waitpid(pid, NULL, 0);
    }
    close(report[0]);
    if (r == 0) {
        c->pid = c->number = pid;
        c->next = children;
        children = c;
    }
    return r;
}

int child_new(struct child **ret, char **argv, int fd, const char *echo)
{
    struct child *c = calloc(1, sizeof(*c));
    int pipes[2], r = 0;

    if (c == NULL)
        return -ENOMEM;
    if (pipe2(pipes, O_CLOEXEC) < 0) {
        r = -errno;
        free(c);
        return r;
    }
    r = child_output_new(&c->output, pipes[0], echo); /* consumes pipes[0] */
    if (r == 0) {
        pthread_mutex_lock(&lock);
        r = spawn(c, argv, fd, pipes[1]);
        pthread_mutex_unlock(&lock);
    }
    close(pipes[1]);
    if (r == 0) {
        *ret = c;
        return 0;
    }
    child_output_free(c->output);
    free(c);
    return r;
}

pid_t child_pid(const struct child *c)
{
    return c->number;
}

/* If the child has ended, kill the rest of its group and reap it. Under `lock`. */
static bool reap(struct child *c)
{
    siginfo_t info = {0};
    struct child **link = &children;

    if (c->pid == 0)
        return true;
    if (waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
        return false;
    /* For a child that this process traces, waitid also returns stops. */
    if (info.si_code != CLD_EXITED && info.si_code != CLD_KILLED && info.si_code != CLD_DUMPED)
        return false;
    kill(-c->pid, SIGKILL);
    waitpid(c->pid, &c->status, 0);
    c->pid = 0;
    while (*link != c)
        link = &(*link)->next;
    *link = c->next;
    return true;
}

bool child_has_ended(struct child *c, int *ret_status)
{
    bool has_ended;

    pthread_mutex_lock(&lock);
    has_ended = reap(c);
    pthread_mutex_unlock(&lock);
    if (has_ended)
        *ret_status = c->status;
    return has_ended;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
}

static void signal_child(struct child *c, int sig)
{
    pthread_mutex_lock(&lock);
    if (c->pid != 0)
        kill(-c->pid, sig);
    pthread_mutex_unlock(&lock);
}

void child_kill(struct child *c)
{
    signal_child(c, SIGKILL);
}

void child_wait(struct child *c, int *ret_status)
{
    siginfo_t info;

    /* Only this thread reaps the child, so its number is valid until then, without the lock. */
    while (!child_has_ended(c, ret_status))
        waitid(P_PID, (id_t)c->number, &info, WEXITED | WNOWAIT);
}

bool child_end(struct child *c, unsigned grace_ms, int *ret_status)
{
    bool is_gentle = true;

    signal_child(c, SIGTERM);
    for (unsigned left = grace_ms / (POLL_NS / 1000000); !child_has_ended(c, ret_status); left--) {
        if (left == 0) {
            is_gentle = false;
            signal_child(c, SIGKILL);
            break;
        }
        nap();
    }
    child_wait(c, ret_status); /* a killed process may still be busy in the kernel */
    return is_gentle;
}

void child_await_group(struct child *c, unsigned ms)
{
    /* Every process of the group holds the pipe. */
    for (unsigned left = ms / (POLL_NS / 1000000); left > 0 && !child_output_has_ended(c->output);
         left--)
        nap();
}

char *child_last_lines(struct child *c, unsigned n)
{
    return child_output_last_lines(c->output, n);
}

void child_free(struct child *c)
{
    int status;

    if (c == NULL)
        return;
    if (!child_has_ended(c, &status))
        child_end(c, 0, &status);
    child_output_free(c->output);
    free(c);
}

void children_end(unsigned grace_ms)
{
    unsigned left = grace_ms / (POLL_NS / 1000000);

    pthread_mutex_lock(&lock); /* never released: this process is about to end */
    for (struct child *c = children; c != NULL; c = c->next)
        kill(-c->pid, SIGTERM);
    for (bool is_any = true; is_any && left > 0; left--) {
        is_any = false;
        for (struct child *c = children, *next; c != NULL; c = next) {
            next = c->next;
            is_any |= !reap(c);
        }
        if (is_any)
            nap();
    }
    for (struct child *c = children; c != NULL; c = c->next)
        kill(-c->pid, SIGKILL);
}
