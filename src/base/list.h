/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* An intrusive doubly linked list. A member that is in no list links to itself. */
#pragma once

#include <stdbool.h>

struct gw_list {
    struct gw_list *next;
    struct gw_list *prev;
};

static inline void gw_list_init(struct gw_list *l)
{
    l->next = l;
    l->prev = l;
}

static inline bool gw_list_is_empty(const struct gw_list *l)
{
    return l->next == l;
}

static inline void gw_list_append(struct gw_list *l, struct gw_list *member)
{
    member->prev = l->prev;
    member->next = l;
    l->prev->next = member;
    l->prev = member;
}

static inline void gw_list_remove(struct gw_list *member)
{
    member->prev->next = member->next;
    member->next->prev = member->prev;
    gw_list_init(member);
}

/* The body may remove `pos` itself. */
#define gw_list_for_each_safe(pos, tmp, l) \
    for ((pos) = (l)->next, (tmp) = (pos)->next; (pos) != (l); (pos) = (tmp), (tmp) = (pos)->next)
