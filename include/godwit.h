/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * libgodwit: vhost-user back-ends that live-migrate without losing a byte. The front-end's end of
 * the wire is a library of its own, <godwit/frontend.h>.
 */
#ifndef GODWIT_H
#define GODWIT_H

#include <godwit/channel.h>
#include <godwit/daemon.h>
#include <godwit/device.h>
#include <godwit/log.h>
#include <godwit/memory.h>
#include <godwit/queue.h>
#include <godwit/state.h>
#include <godwit/version.h>
#include <godwit/vring.h>
#include <godwit/worker.h>

#endif
