/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * TCP for the link: parsing of addresses, and sockets that detect the loss of the other end. There
 * is no authentication: any host that reaches the port can take part.
 */
#pragma once

#include <stddef.h>

#define LINK_ADDRESS_MAX 128

/*
 * Check HOST:PORT; an IPv6 address is in brackets: [::1]:4444. HOST is required; 0.0.0.0 or [::]
 * listens at all addresses. On failure of any function here, `why` (`size` bytes) is a sentence.
 * Returns: 0; -EINVAL.
 */
int link_tcp_check(const char *address, char *why, size_t size);

/*
 * Listen at this address only. `ret_name` (LINK_ADDRESS_MAX bytes) is the address with the real
 * port if 0 was given. Returns: 0; -EINVAL; -ENOENT unknown host; the errno of socket, bind or
 * listen.
 */
int link_tcp_listen(const char *address, int *ret_fd, char *ret_name, char *why, size_t size);
/* Accept a connection within `timeout_ms`. Returns: 0; -EAGAIN; the errno of accept. */
int link_tcp_accept(int listen_fd, unsigned timeout_ms, int *ret_fd);
/*
 * Try each address of the host once, within `timeout_ms` in all. Returns: 0; -EINVAL; -ENOENT;
 * -ETIMEDOUT; the errno of connect.
 */
int link_tcp_connect(const char *address, unsigned timeout_ms, int *ret_fd, char *why, size_t size);
/* Address of the other end, for people. */
void link_tcp_peer(int fd, char *name, size_t size);
