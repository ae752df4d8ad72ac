/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Handlers of SIGBUS against the end of a range (src/core/memory/sigbus.c): two threads fault and search
 * the list of ranges without a lock, while the control worker takes the range out of the list,
 * waits until no handler runs, and unmaps it.
 *
 * Memory is that of x86 (TSO): a store of the control worker waits in its buffer and reaches memory
 * at any later moment, before its next sequentially consistent access at the latest. A handler only
 * stores the counter, by atomic operations on memory.
 *
 * Property: no handler uses a range after it was unmapped.
 *
 * Mutations, each of which must be found:
 *   -DNO_FENCE    the range leaves the list by an ordinary store
 *   -DNO_WAIT     the control worker does not wait for handlers
 *   -DCOUNT_LATE  a handler is counted after it has read the list
 *   -DCOUNT_EARLY a handler is no longer counted while it uses the range
 *   -DPLAIN_COUNT handlers are counted by load and store
 */

#define HANDLERS 2
#define FAULTS   2 /* of each */

bool is_listed = true; /* in memory */
bool is_buffered;      /* the store that ends this is in the buffer */
bool is_gone;
byte n_handling;

inline count(change)
{
#ifdef PLAIN_COUNT
    seen = n_handling;
    n_handling = seen + change;
    seen = 0
#else
    n_handling = n_handling + change
#endif
}

active [HANDLERS] proctype handler()
{
    byte n, seen;
    bool found;

    for (n : 1 .. FAULTS) {
#ifdef COUNT_LATE
        found = is_listed;
        count(1);
#else
        count(1);
        found = is_listed;
#endif
#ifdef COUNT_EARLY
        count(-1);
#endif
        if
        :: found -> assert(!is_gone)
        :: else
        fi;
#ifndef COUNT_EARLY
        count(-1);
#endif
        found = false
    }
}

active proctype drain()
{
    d_step {
        is_buffered ->
            is_listed = false;
            is_buffered = false
    }
}

active proctype control()
{
    is_buffered = true;
#ifndef NO_FENCE
    !is_buffered;
#endif
#ifndef NO_WAIT
end: /* for ever, where PLAIN_COUNT has lost one */
    n_handling == 0;
#endif
    is_gone = true
}
