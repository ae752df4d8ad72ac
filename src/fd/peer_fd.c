/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Classification of a peer's descriptors without a call into their file, and closing them. */
#include "peer_fd.h"

#include "peer_file.h"
#include "peer_signal.h"
#include "sacrificial.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum gw_peer_fd_kind gw_peer_fd_kind(int fd)
{
    /* The kernel decides by the file's type, without calling into it: memfd, tmpfs, hugetlbfs. */
    if (fcntl(fd, F_GET_SEALS) >= 0)
        return GW_PEER_FD_MEMORY;
    return gw_peer_is_eventfd(fd) ? GW_PEER_FD_EVENTFD : GW_PEER_FD_OTHER;
}

void gw_peer_fd_close(int *fd)
{
    int saved = errno;

    if (*fd >= 0 && gw_peer_fd_kind(*fd) != GW_PEER_FD_OTHER)
        (void)close(*fd);
    else if (*fd >= 0 && (gw_peer_is_foreign_file(*fd) || !gw_sacrifice(*fd, GW_SACRIFICE_CLOSE)))
        gw_sacrifice_process(*fd);
    *fd = -1;
    errno = saved;
}

void gw_peer_fd_close_all(int *fds, unsigned n_fds)
{
    for (unsigned i = 0; i < n_fds; i++)
        gw_peer_fd_close(&fds[i]);
}

unsigned gw_peer_fd_backlog(void)
{
    return gw_sacrifice_backlog();
}
