/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Unsolicited control data on a Unix socket. */
#pragma once

#include <linux/net_tstamp.h>
#include <sys/socket.h>

#ifndef SO_PASSPIDFD /* Linux 6.5; glibc 2.39 */
#define SO_PASSPIDFD 76
#endif

#define CONTROL_FDS_MAX 253 /* the kernel's limit for one sendmsg (SCM_MAX_FD) */

/*
 * Make the kernel add every kind of control data that it supports to each message that `fd`
 * receives. A service manager does the same with PassCredentials= or Timestamping= on a socket that
 * it passes to a service.
 */
static inline void ask_for_control_data(int fd)
{
    static const int options[] = {SO_PASSCRED,    SO_PASSPIDFD,    SO_PASSSEC,
                                  SO_TIMESTAMPNS, SO_TIMESTAMPING, SO_RXQ_OVFL};
    int value = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;

    /* Some kernels lack some of the options. */
    for (unsigned i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        (void)setsockopt(fd, SOL_SOCKET, options[i], &value, sizeof(value));
}
