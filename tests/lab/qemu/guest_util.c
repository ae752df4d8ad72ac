/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Answers to the host, small files of the kernel, and busy CPUs.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

/* --- the disk --------------------------------------------------------------------------------- */

const char *disk_name = "vda";

const char *disk_node(void)
{
    static char path[64];

    snprintf(path, sizeof(path), "/dev/%s", disk_name);
    return path;
}

const char *disk_file(const char *name)
{
    static char path[128];

    snprintf(path, sizeof(path), "/sys/block/%s/%s", disk_name, name);
    return path;
}

/* --- answers ---------------------------------------------------------------------------------- */

static pthread_mutex_t answer_lock = PTHREAD_MUTEX_INITIALIZER;

void answer(const char *format, ...)
{
    va_list ap;

    pthread_mutex_lock(&answer_lock);
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
    pthread_mutex_unlock(&answer_lock);
}

void fail(const char *format, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    answer("fail %s", text);
    _exit(1);
}

/* --- files of the kernel ---------------------------------------------------------------------- */

int read_line(const char *path, char *line, size_t size)
{
    FILE *f = fopen(path, "re");
    char *r;

    if (f == NULL)
        return -errno;
    r = fgets(line, (int)size, f);
    fclose(f);
    if (r == NULL)
        return -ENODATA;
    line[strcspn(line, "\n")] = '\0';
    return 0;
}

uint64_t read_number(const char *path, int base)
{
    char line[64];

    return read_line(path, line, sizeof(line)) < 0 ? 0 : strtoull(line, NULL, base);
}

int write_word(const char *path, const char *word)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC), r = 0;

    if (fd < 0)
        return -errno;
    if (write(fd, word, strlen(word)) < 0)
        r = -errno;
    close(fd);
    return r;
}

unsigned count_entries(const char *path)
{
    DIR *dir = opendir(path);
    unsigned n = 0;

    if (dir == NULL)
        return 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

unsigned count_cpus(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);

    if (n < 1 || n > GUEST_CPUS_MAX)
        fail("%ld CPUs", n);
    return (unsigned)n;
}

uint32_t crc32_of(const void *data, size_t n)
{
    const uint8_t *p = data;
    uint32_t crc = UINT32_MAX;

    for (; n > 0; n--) {
        crc ^= *p++;
        for (unsigned bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (UINT32_C(0xedb88320) & -(crc & 1));
    }
    return ~crc;
}

/* --- no idle CPU ------------------------------------------------------------------------------ */

static void *spin(void *arg)
{
    struct sched_param param = {0};
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET((size_t)(uintptr_t)arg, &cpus);
    if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0 ||
        sched_setscheduler(0, SCHED_IDLE, &param) < 0)
        fail("cannot spin: %s", strerror(errno));
    for (;;)
        syscall(SYS_getppid);
}

void spin_start(void)
{
    pthread_t thread;

    for (uintptr_t cpu = 0; cpu < count_cpus(); cpu++)
        if (pthread_create(&thread, NULL, spin, (void *)cpu) != 0)
            fail("no thread");
}
