/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Usage of another process between two points in time: CPU time, and syscalls if available. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct proc_meter {
    int64_t cpu_ns;
    int64_t n_syscalls; /* -1: unavailable */
    pid_t pid;
    int fds[64];
    int n_fds;
};

void proc_meter_start(struct proc_meter *m, pid_t pid);
void proc_meter_stop(struct proc_meter *m);

long proc_resident_kib(pid_t pid);
