/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The start of a daemon on the socket of its device. */
#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

void backend_say_no_loop(struct backend_log *log, int r, enum gw_loop_kind loop, const char *what)
{
    if (r == -EOPNOTSUPP && loop == GW_LOOP_URING)
        backend_say(log, GW_LOG_ERROR,
                    "--loop=uring: %s; use --loop=epoll, or allow io_uring "
                    "(sysctl kernel.io_uring_disabled, seccomp)",
                    gw_last_error());
    else
        backend_say(log, GW_LOG_ERROR, "%s: %s", what, gw_last_error());
}

/* Serve on an inherited socket. `what` names its origin in messages. */
static int start_fd(struct gw_daemon *d, int fd, const char *what, struct backend_log *log)
{
    int r = fcntl(fd, F_SETFD, FD_CLOEXEC);

    if (r < 0) {
        backend_say(log, GW_LOG_ERROR,
                    "%s: descriptor %d is not open; the parent process must keep it open across "
                    "exec (no FD_CLOEXEC)",
                    what, fd);
        return -EBADF;
    }
    r = gw_daemon_start(d, fd);
    if (r < 0)
        backend_say(log, GW_LOG_ERROR, "%s: %s%s", what, gw_last_error(),
                    r == -ENOTSOCK || r == -EINVAL ? "; pass a listening or connected one" : "");
    return r;
}

static int start_path(struct gw_daemon *d, const struct backend_device *device,
                      struct backend_log *log)
{
    const char *remedy = "";
    int r;

    if (device->is_client)
        r = gw_daemon_start_client(d, device->socket_path);
    else
        r = gw_daemon_start_path(d, device->socket_path);
    if (r == 0)
        return 0;

    if (r == -EADDRINUSE)
        remedy = "; end that process, or choose another path";
    else if (r == -ENOENT)
        remedy = device->is_client ? "; start the front-end first, or use --reconnect"
                                   : "; create its directory first";
    else if (r == -ECONNREFUSED)
        remedy = "; nothing listens there; start the front-end first, or use --reconnect";
    backend_say(log, GW_LOG_ERROR, "%s%s", gw_last_error(), remedy);
    return r;
}

int backend_start_daemon(struct gw_daemon *d, const struct backend_device *device,
                         struct backend_log *log)
{
    if (device->socket_path != NULL)
        return start_path(d, device, log);
    return start_fd(d, device->fd, device->is_activated ? "socket activation" : "--fd", log);
}
