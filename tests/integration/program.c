/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "program.h"
#include "patience.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SAID_MAX    65536
#define PATIENCE_MS patience_ms()

/* As filters of containers do: fallocate(2) fails, and all else is allowed. */
static int refuse_fallocate(int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fallocate, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

/* In the child; whatever fails ends it. */
static void run(const struct program_config *cfg, int said_fd)
{
    const char *argv[PROGRAM_ARGS_MAX + 2] = {cfg->path};
    char pid[16];
    unsigned n = 0;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (n < PROGRAM_ARGS_MAX && cfg->args[n]) {
        argv[n + 1] = cfg->args[n];
        n++;
    }
    if (dup2(said_fd, 2) < 0)
        _exit(120);
    if (cfg->fd && (cfg->fd == 3 ? fcntl(3, F_SETFD, 0) : dup2(cfg->fd, 3)) < 0)
        _exit(121);
    if (cfg->is_socket) {
        snprintf(pid, sizeof(pid), "%d", (int)getpid());
        setenv("LISTEN_FDS", "1", 1);
        setenv("LISTEN_PID", pid, 1);
    }
    if (cfg->file_size_limit) {
        struct rlimit limit = {cfg->file_size_limit, cfg->file_size_limit};

        if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
            _exit(122);
    }
    if (cfg->fallocate_error && refuse_fallocate(cfg->fallocate_error) < 0)
        _exit(124);
    execv(cfg->path, (char *const *)argv);
    _exit(123);
}

void program_start(struct program *p, const struct program_config *cfg)
{
    p->said_fd = memfd_create("said", MFD_CLOEXEC);
    assert_true(p->said_fd >= 0);
    /* Each message at the end, whoever has the descriptor. */
    assert_int_equal(fcntl(p->said_fd, F_SETFL, O_APPEND), 0);
    p->pid = fork();
    assert_true(p->pid >= 0);
    if (p->pid == 0)
        run(cfg, p->said_fd);
}

static void read_said(const struct program *p, char *text)
{
    ssize_t n = pread(p->said_fd, text, SAID_MAX - 1, 0);

    text[n > 0 ? n : 0] = '\0';
}

bool program_says(struct program *p, const char *what)
{
    static char text[SAID_MAX];

    for (unsigned i = 0; i < PATIENCE_MS / 5; i++) {
        read_said(p, text);
        if (strstr(text, what))
            return true;
        (void)poll(NULL, 0, 5);
    }
    fprintf(stderr, "not \"%s\" was said, but:\n%s", what, text);
    return false;
}

int program_wait(struct program *p, unsigned timeout_ms)
{
    static char text[SAID_MAX];
    int status = 0;

    for (unsigned i = 0; i <= timeout_ms / 5; i++) {
        pid_t pid = waitpid(p->pid, &status, WNOHANG);

        if (pid == p->pid) {
            p->pid = 0;
            if (WIFSIGNALED(status))
                return -WTERMSIG(status);
            return WEXITSTATUS(status);
        }
        (void)poll(NULL, 0, 5);
    }
    read_said(p, text);
    kill(p->pid, SIGKILL);
    (void)waitpid(p->pid, NULL, 0);
    p->pid = 0;
    fail_msg("it did not end within %u ms; it said:\n%s", timeout_ms, text);
    return -ETIMEDOUT;
}

int program_end(struct program *p, int sig)
{
    static char text[SAID_MAX];
    int status;

    if (sig)
        assert_int_equal(kill(p->pid, sig), 0);
    status = program_wait(p, PATIENCE_MS);
    if (status > 0) {
        read_said(p, text);
        fprintf(stderr, "exit status %d; it said:\n%s", status, text);
    }
    close(p->said_fd);
    return status;
}
