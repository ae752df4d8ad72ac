/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The three address spaces of vhost-user (vhost-user.rst, "Memory access"). Functions pass every
 * address with its type.
 */
#ifndef GODWIT_MEMORY_H
#define GODWIT_MEMORY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint64_t gw_gpa_t; /* guest physical, as in descriptors */
typedef uint64_t gw_uva_t; /* front-end virtual, as in SET_VRING_ADDR */
typedef uint64_t gw_off_t; /* byte offset in a file */

/*
 * The maximum number of memory regions of a back-end, the answer to GET_MAX_MEM_SLOTS
 * (vhost-user.rst, "Front-end message types").
 */
#define GW_MEM_SLOTS_MAX 509

#ifdef __cplusplus
}
#endif
#endif
