/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The three address spaces of vhost-user. An address never crosses a function without its type.
 */
#ifndef GODWIT_MEMORY_H
#define GODWIT_MEMORY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint64_t gw_gpa_t; /* guest physical: what descriptors hold */
typedef uint64_t gw_uva_t; /* front-end virtual: what SET_VRING_ADDR holds */
typedef uint64_t gw_off_t; /* byte offset in a file */

/*
 * The most memory regions a back-end holds at once, as GET_MAX_MEM_SLOTS tells the front-end
 * (vhost-user specification, "Configure memory slots").
 */
#define GW_MEM_SLOTS_MAX 509

#ifdef __cplusplus
}
#endif
#endif
