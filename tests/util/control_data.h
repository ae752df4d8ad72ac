/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Control data on a Unix socket that its reader has not asked for. */
#pragma once

#include <linux/net_tstamp.h>
#include <sys/socket.h>

#ifndef SO_PASSPIDFD /* Linux 6.5; glibc 2.39 */
#define SO_PASSPIDFD 76
#endif

#define CONTROL_FDS_MAX 253 /* in one sendmsg, by the kernel */

/*
 * Have the kernel add control data of every kind that it knows to whatever `fd` receives, as a
 * parent does who sets PassCredentials= or Timestamping= on a socket that it passes on.
 */
static inline void ask_for_control_data(int fd)
{
    static const int options[] = {SO_PASSCRED,    SO_PASSPIDFD,    SO_PASSSEC,
                                  SO_TIMESTAMPNS, SO_TIMESTAMPING, SO_RXQ_OVFL};
    int value = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;

    /* Kernels lack some. */
    for (unsigned i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        (void)setsockopt(fd, SOL_SOCKET, options[i], &value, sizeof(value));
}
