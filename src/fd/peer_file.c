/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Decides which files may be mapped. A page fault sleeps until the file system provides the page,
 * so only file systems that no peer can serve are accepted:
 *
 *   kernel memory              memfd, tmpfs, hugetlbfs: F_GET_SEALS, answered by the kernel alone
 *   on a block device          its device number has a major number; mounting requires privilege
 *   local, without a device    btrfs and the like: by type name, if mounted in our mount namespace
 *   device DAX                 persistent memory: by its subsystem in sysfs
 *
 * All other files are refused: FUSE, which any user may serve; network file systems; and mounts of
 * other mount namespaces, where a user may stack overlayfs on FUSE.
 *
 * statx(2) with AT_STATX_DONT_SYNC answers from the kernel's cache: FUSE and network file systems
 * then do not contact their server.
 */
#include "peer_file.h"
#include "peer_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const local_types[] = {
    "bcachefs", "btrfs", "devtmpfs", "hugetlbfs", "overlay", "ramfs", "tmpfs", "ubifs", "zfs",
};

/*
 * One line of mountinfo: "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAGS] - TYPE SOURCE OPTIONS".
 * Returns: the file system type if the line describes mount `id`, else NULL.
 */
static char *type_in(char *line, uint64_t id)
{
    char *end, *type;

    if (strtoull(line, &end, 10) != id || *end != ' ')
        return NULL;
    type = strstr(end, " - ");
    if (!type)
        return NULL;
    type += 3;
    type[strcspn(type, " \n")] = '\0';
    return type;
}

/* Mount ids are unique system-wide. `type` becomes "" if our namespace does not have the mount. */
static void find_mount_type(uint64_t id, char *type, size_t size)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char *line = NULL, *found = NULL;
    size_t n = 0;

    type[0] = '\0';
    while (f && !found && getline(&line, &n, f) > 0)
        found = type_in(line, id);
    if (found)
        snprintf(type, size, "%s", found);
    free(line);
    if (f)
        fclose(f);
}

static int check_mount(const struct statx *st, char *why, size_t size)
{
    char type[32];

    if (!(st->stx_mask & STATX_MNT_ID)) {
        snprintf(why, size, "its file system cannot be determined before Linux 5.8");
        return -EINVAL;
    }
    find_mount_type(st->stx_mnt_id, type, sizeof(type));
    for (size_t i = 0; i < sizeof(local_types) / sizeof(local_types[0]); i++)
        if (strcmp(type, local_types[i]) == 0)
            return 0;
    if (type[0])
        snprintf(why, size, "its file system, %s, may be served by another process", type);
    else
        snprintf(why, size, "its file system is not mounted here, see /proc/self/mountinfo");
    return -EINVAL;
}

static bool is_dax_device(const struct statx *st)
{
    char path[64], subsystem[128];
    ssize_t n;

    snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/subsystem", st->stx_rdev_major,
             st->stx_rdev_minor);
    n = readlink(path, subsystem, sizeof(subsystem) - 1);
    if (n < 0)
        return false;
    subsystem[n] = '\0';
    return n >= 4 && strcmp(subsystem + n - 4, "/dax") == 0;
}

/* Gets the cached attributes of the file; the mount id only since Linux 5.8. */
static int ask(int fd, struct statx *ret)
{
    const unsigned wanted = STATX_TYPE | STATX_MNT_ID;

    return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, wanted, ret) < 0 ? -errno : 0;
}

int gw_peer_fd_check_memory(int fd, char *why, size_t size)
{
    const char *remedy = "; use memfd, tmpfs, hugetlbfs or a file on a local disk";
    struct statx st;
    size_t used;
    int r;

    if (gw_peer_fd_kind(fd) == GW_PEER_FD_MEMORY)
        return 0;
    r = ask(fd, &st);
    if (r < 0) {
        snprintf(why, size, "statx: %s", strerror(-r));
    } else if (S_ISREG(st.stx_mode) && st.stx_dev_major == 0) {
        r = check_mount(&st, why, size);
    } else if (!S_ISREG(st.stx_mode) && !(S_ISCHR(st.stx_mode) && is_dax_device(&st))) {
        r = -ENODEV;
        snprintf(why, size, "it is neither a file nor a DAX device");
    }
    if (r < 0) {
        used = strlen(why);
        snprintf(why + used, size - used, "%s", remedy);
    }
    return r;
}

bool gw_peer_is_foreign_file(int fd)
{
    struct statx st;
    char why[128];

    return ask(fd, &st) < 0 || (S_ISREG(st.stx_mode) && st.stx_dev_major == 0 &&
                                check_mount(&st, why, sizeof(why)) < 0);
}
