/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * CPU time comes from the clock of the process; syscalls from the raw_syscalls:sys_enter tracepoint
 * on each of its threads, which needs root and a mounted tracefs.
 */
#include "proc_meter.h"

#include <dirent.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TRACEPOINT "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id"

static int64_t cpu_ns(pid_t pid)
{
    struct timespec ts = {0};
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) == 0)
        (void)clock_gettime(clock, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static int open_counter(pid_t thread)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr)};
    FILE *f = fopen(TRACEPOINT, "re");
    unsigned long long id = 0;

    if (!f)
        return -1;
    if (fscanf(f, "%llu", &id) != 1)
        id = 0;
    fclose(f);
    attr.config = id;
    return (int)syscall(SYS_perf_event_open, &attr, thread, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

void proc_meter_start(struct proc_meter *m, pid_t pid)
{
    char path[64];
    struct dirent *e;
    DIR *tasks;

    m->pid = pid;
    m->n_fds = 0;
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    tasks = opendir(path);
    while (tasks && (e = readdir(tasks)) && m->n_fds < 64) {
        int fd = atoi(e->d_name) > 0 ? open_counter(atoi(e->d_name)) : -1;
        if (fd >= 0)
            m->fds[m->n_fds++] = fd;
    }
    if (tasks)
        closedir(tasks);
    m->cpu_ns = cpu_ns(pid);
}

void proc_meter_stop(struct proc_meter *m)
{
    m->cpu_ns = cpu_ns(m->pid) - m->cpu_ns;
    m->n_syscalls = m->n_fds > 0 ? 0 : -1;
    for (int i = 0; i < m->n_fds; i++) {
        uint64_t count = 0;

        if (read(m->fds[i], &count, sizeof(count)) == (ssize_t)sizeof(count))
            m->n_syscalls += (int64_t)count;
        close(m->fds[i]);
    }
}

long proc_resident_kib(pid_t pid)
{
    char line[128], path[64];
    long kib = -1;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "VmRSS: %ld", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib;
}
