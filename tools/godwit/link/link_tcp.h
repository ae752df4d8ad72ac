/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * TCP for the link: addresses as people write them, and sockets that notice when the other end is
 * gone. Nobody is asked who he is: whoever reaches the port can take part.
 */
#pragma once

#include <stddef.h>

#define LINK_ADDRESS_MAX 128

/*
 * HOST:PORT, with an IPv6 address in brackets: [::1]:4444. The host must be there: to listen at all
 * addresses it is 0.0.0.0 or [::]. On failure of any of these `why` (of `size` bytes) is a
 * sentence. Returns: 0; -EINVAL.
 */
int link_tcp_check(const char *address, char *why, size_t size);

/*
 * Listen there, and only there; `ret_name` (LINK_ADDRESS_MAX bytes) is the address with the port
 * that a 0 became. Returns: 0; -EINVAL; -ENOENT there is no such host; the errno of socket, bind or
 * listen.
 */
int link_tcp_listen(const char *address, int *ret_fd, char *ret_name, char *why, size_t size);
/* Take the next connection, in at most `timeout_ms`. Returns: 0; -EAGAIN; the errno of accept. */
int link_tcp_accept(int listen_fd, unsigned timeout_ms, int *ret_fd);
/*
 * Try each address of the host once, all in at most `timeout_ms`.
 * Returns: 0; -EINVAL; -ENOENT; -ETIMEDOUT; the errno of connect (-ECONNREFUSED: nobody listens).
 */
int link_tcp_connect(const char *address, unsigned timeout_ms, int *ret_fd, char *why, size_t size);
/* Who is at the other end, for people. */
void link_tcp_peer(int fd, char *name, size_t size);
