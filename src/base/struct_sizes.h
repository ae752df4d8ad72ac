/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The sizes of public structures in version 0.1, for gw_copy_struct. They never change: a program
 * that was compiled with the headers of that version passes them.
 */
#pragma once

#define GW_FIRST_DEVICE_OPS           96
#define GW_FIRST_DAEMON_CONFIG        152
#define GW_FIRST_WORKERS_CONFIG       72
#define GW_FIRST_VRING_CONFIG         80
#define GW_FIRST_VRING_STATE          48
#define GW_FIRST_FRONTEND_CONFIG      24
#define GW_FIRST_FRONTEND_OPTIONS     72
#define GW_FIRST_DRIVER_CONFIG        64
#define GW_FIRST_GUEST_LOG_CONFIG     40
#define GW_FIRST_FAULT_CONFIG         48
#define GW_FIRST_FRONTEND_CHANNEL_OPS 64
