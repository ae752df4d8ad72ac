/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * libgodwit: a library for vhost-user back-ends that live-migrate without losing a byte. This
 * header includes everything for a back-end; the other end of the wire is in <godwit/frontend.h>,
 * <godwit/driver.h>, <godwit/log.h> and <godwit/fault.h>.
 */
#ifndef GODWIT_H
#define GODWIT_H

#include <godwit/device.h>
#include <godwit/diag.h>
#include <godwit/memory.h>
#include <godwit/queue.h>
#include <godwit/version.h>
#include <godwit/worker.h>

#endif
