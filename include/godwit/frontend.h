/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * libgodwit-frontend: the front-end's end of the wire. A VMM, a test or a tool connects to a
 * back-end, shares guest memory with it, drives its queues, reads its dirty log and serves its page
 * faults.
 */
#ifndef GODWIT_FRONTEND_H
#define GODWIT_FRONTEND_H

#include <godwit/frontend/async.h>
#include <godwit/frontend/channel.h>
#include <godwit/frontend/device.h>
#include <godwit/frontend/driver.h>
#include <godwit/frontend/error.h>
#include <godwit/frontend/fault.h>
#include <godwit/frontend/frontend.h>
#include <godwit/frontend/guest_mem.h>
#include <godwit/frontend/iotlb.h>
#include <godwit/frontend/log.h>
#include <godwit/frontend/state.h>
#include <godwit/memory.h>
#include <godwit/version.h>

#endif
