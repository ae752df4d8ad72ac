/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * without_uring [setup=ERRNO | enter=ERRNO] COMMAND [ARGUMENT...]: runs a command with a seccomp
 * filter that fails io_uring_setup(2), or only io_uring_enter(2), with ERRNO (default: setup=1,
 * EPERM). Needed under valgrind, which blocks forever in io_uring_enter(2) with its lock held.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    unsigned call = SYS_io_uring_setup, error = EPERM;

    if (argc > 1 && sscanf(argv[1], "setup=%u", &error) == 1) {
        argv++;
        argc--;
    } else if (argc > 1 && sscanf(argv[1], "enter=%u", &error) == 1) {
        call = SYS_io_uring_enter;
        argv++;
        argc--;
    }
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

    if (argc < 2) {
        fprintf(stderr, "usage: without_uring [setup=ERRNO | enter=ERRNO] COMMAND...\n");
        return 64;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0) {
        perror("without_uring: seccomp");
        return 1;
    }
    execvp(argv[1], argv + 1);
    fprintf(stderr, "without_uring: %s: %s\n", argv[1], strerror(errno));
    return 127;
}
