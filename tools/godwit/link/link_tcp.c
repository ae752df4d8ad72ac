/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Sockets for the link. See link_tcp.h. */
#include "link_tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * A dead connection is detected after this time: by unacknowledged data, or on an idle connection
 * by probes. It is longer than TCP needs to recover from a few lost segments.
 */
#define GONE_MS     5000
#define PROBE_S     1
#define N_PROBES    4
#define BACKLOG     128 /* other connections that nobody accepts must leave room for the peer */
#define SEND_BUFFER (256 << 10) /* a requested page waits behind this much at most */

/* Split into host and port, both inside of `text`. */
static int split(const char *address, char text[LINK_ADDRESS_MAX], char **ret_host, char **ret_port,
                 char *why, size_t size)
{
    size_t len = strlen(address);
    char *colon, *host = text;

    if (len >= LINK_ADDRESS_MAX) {
        snprintf(why, size, "an address of %zu bytes is too long", len);
        return -EINVAL;
    }
    memcpy(text, address, len + 1);
    colon = strrchr(text, ':');
    if (!colon || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1)) {
        snprintf(why, size, "\"%s\" has no port: it is HOST:PORT, or [ADDRESS]:PORT for IPv6",
                 address);
        return -EINVAL;
    }
    if (strtoul(colon + 1, NULL, 10) > UINT16_MAX) {
        snprintf(why, size, "\"%s\": port %s is out of range, the largest is 65535", address,
                 colon + 1);
        return -EINVAL;
    }
    *colon = '\0';
    if (*host == '[' && colon[-1] == ']') {
        colon[-1] = '\0';
        host++;
    } else if (strchr(host, ':')) {
        snprintf(why, size, "\"%s\": an IPv6 address is written in brackets, [ADDRESS]:PORT",
                 address);
        return -EINVAL;
    }
    if (!*host) {
        snprintf(why, size,
                 "\"%s\" names no host; for all addresses of this one write 0.0.0.0 or [::], and "
                 "any host may connect",
                 address);
        return -EINVAL;
    }
    *ret_host = host;
    *ret_port = colon + 1;
    return 0;
}

int link_tcp_check(const char *address, char *why, size_t size)
{
    char text[LINK_ADDRESS_MAX], *host, *port;

    return split(address, text, &host, &port, why, size);
}

static int resolve(const char *address, bool passive, struct addrinfo **ret, char *why, size_t size)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0)};
    char text[LINK_ADDRESS_MAX], *host, *port;
    int r = split(address, text, &host, &port, why, size);

    if (r < 0)
        return r;
    r = getaddrinfo(host, port, &hints, ret);
    if (r != 0) {
        snprintf(why, size, "%s: %s", host, gai_strerror(r));
        return -ENOENT;
    }
    return 0;
}

static void set(int fd, int level, int option, int value)
{
    /* Optional: without it the link is slower, or a lost connection is detected later. */
    (void)setsockopt(fd, level, option, &value, sizeof(value));
}

static void make_watchful(int fd)
{
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, PROBE_S);
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, PROBE_S);
    set(fd, IPPROTO_TCP, TCP_KEEPCNT, N_PROBES);
    set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, GONE_MS);
    set(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER);
}

/* In the notation of the command line. */
static void name_of(const struct sockaddr_storage *addr, char *name, size_t size)
{
    char text[INET6_ADDRSTRLEN] = "?";

    if (addr->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)addr;

        inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
        snprintf(name, size, "[%s]:%u", text, ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in = (const void *)addr;

        inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
        snprintf(name, size, "%s:%u", text, ntohs(in->sin_port));
    }
}

static int listen_at(const struct addrinfo *at, int *ret_fd)
{
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, at->ai_protocol);
    int r = 0;

    if (fd < 0)
        return -errno;
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(fd, at->ai_addr, at->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
        r = -errno;
    if (r < 0)
        close(fd);
    else
        *ret_fd = fd;
    return r;
}

int link_tcp_listen(const char *address, int *ret_fd, char *ret_name, char *why, size_t size)
{
    struct sockaddr_storage bound = {0};
    socklen_t len = sizeof(bound);
    struct addrinfo *all;
    int fd = -1, r = resolve(address, true, &all, why, size);

    if (r < 0)
        return r;
    for (const struct addrinfo *at = all; at && fd < 0; at = at->ai_next)
        r = listen_at(at, &fd);
    freeaddrinfo(all);
    if (r < 0) {
        snprintf(why, size, "listening at %s: %s", address, strerror(-r));
        return r;
    }
    getsockname(fd, (struct sockaddr *)&bound, &len);
    name_of(&bound, ret_name, LINK_ADDRESS_MAX);
    *ret_fd = fd;
    return 0;
}

int link_tcp_accept(int listen_fd, unsigned timeout_ms, int *ret_fd)
{
    struct pollfd p = {.fd = listen_fd, .events = POLLIN};
    int fd;

    if (poll(&p, 1, (int)timeout_ms) <= 0)
        return -EAGAIN;
    fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) /* the connection may have been closed already */
        return errno == ECONNABORTED || errno == EPROTO || errno == EINTR ? -EAGAIN : -errno;
    make_watchful(fd);
    *ret_fd = fd;
    return 0;
}

static int connect_to(const struct addrinfo *at, unsigned timeout_ms, int *ret_fd)
{
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, at->ai_protocol);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int r = 0;
    socklen_t len = sizeof(r);

    if (fd < 0)
        return -errno;
    if (connect(fd, at->ai_addr, at->ai_addrlen) < 0)
        r = -errno;
    if (r == -EINPROGRESS) {
        if (poll(&p, 1, (int)timeout_ms) <= 0)
            r = -ETIMEDOUT;
        else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &r, &len) == 0)
            r = -r;
    }
    if (r < 0) {
        close(fd);
        return r;
    }
    make_watchful(fd);
    *ret_fd = fd;
    return 0;
}

int link_tcp_connect(const char *address, unsigned timeout_ms, int *ret_fd, char *why, size_t size)
{
    unsigned n = 0;
    struct addrinfo *all;
    int fd = -1, r = resolve(address, false, &all, why, size);

    if (r < 0)
        return r;
    for (const struct addrinfo *at = all; at; at = at->ai_next)
        n++;
    r = -ENOENT;
    for (const struct addrinfo *at = all; at && fd < 0; at = at->ai_next)
        r = connect_to(at, timeout_ms / n + 1, &fd);
    freeaddrinfo(all);
    if (r < 0)
        snprintf(why, size, "%s: %s", address, strerror(-r));
    else
        *ret_fd = fd;
    return r;
}

void link_tcp_peer(int fd, char *name, size_t size)
{
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof(addr);

    if (getpeername(fd, (struct sockaddr *)&addr, &len) < 0)
        snprintf(name, size, "unknown address");
    else
        name_of(&addr, name, size);
}
