/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Marking pages while a front-end reads and clears the bitmap (src/log/dirty_bitmap.c,
 * src/core/queue/complete.c): two back-end threads write one of two pages, or both the same page, and
 * mark it; the front-end repeatedly takes the bits and copies the pages that they name.
 *
 * Memory is that of x86 (TSO): every thread has a store buffer, whose oldest entry reaches memory
 * at any moment; a thread reads its own newest entry, or memory. A full fence waits until its
 * buffer is empty, and so does an atomic read-modify-write, which then acts on memory.
 *
 * Property: at the end, every page either equals its copy, or is marked.
 *
 * Mutations, each of which must be found:
 *   -DNO_FENCE     no fence between the write of the page and the read of its bit
 *   -DMARK_FIRST   the bit is set before the page is written
 *   -DPLAIN_OR     the bit is set by load and store instead of an atomic OR
 *   -DCOPY_FIRST   the front-end copies before it clears (a faulty front-end: the model can fail)
 */

#define WRITERS 2
#define WRITES  2 /* of each writer */
#define ROUNDS  2 /* of the front-end, before the last */
#define DEPTH   4

/* Addresses: page 0, page 1, and the byte of the bitmap with a bit for each. */
#define PAGES  2
#define BITMAP 2

byte memory[3];
byte copied[PAGES];
byte n_ended;
byte next_value = 1;

typedef buffer {
    byte n;
    byte addr[DEPTH];
    byte value[DEPTH];
}
buffer buffers[WRITERS];

inline store(me, a, v)
{
    atomic {
        assert(buffers[me].n < DEPTH);
        buffers[me].addr[buffers[me].n] = a;
        buffers[me].value[buffers[me].n] = v;
        buffers[me].n++;
    }
}

/* The newest entry of the own buffer, or memory. */
inline load(me, a, result)
{
    d_step {
        result = memory[a];
        i = 0;
        do
        :: i < buffers[me].n ->
            if
            :: buffers[me].addr[i] == a -> result = buffers[me].value[i]
            :: else
            fi;
            i++
        :: else -> break
        od;
        i = 0
    }
}

inline fence(me)
{
    buffers[me].n == 0
}

/* The oldest store of a thread reaches memory. */
active [WRITERS] proctype drain()
{
    byte i;
end:
    do
    :: d_step {
        buffers[_pid].n > 0 ->
            memory[buffers[_pid].addr[0]] = buffers[_pid].value[0];
            buffers[_pid].n--;
            i = 0;
            do
            :: i < buffers[_pid].n ->
                buffers[_pid].addr[i] = buffers[_pid].addr[i + 1];
                buffers[_pid].value[i] = buffers[_pid].value[i + 1];
                i++
            :: else -> break
            od;
            buffers[_pid].addr[buffers[_pid].n] = 0;
            buffers[_pid].value[buffers[_pid].n] = 0;
            i = 0
       }
    od
}

inline mark(me, page)
{
    load(me, BITMAP, seen);
    if
    :: seen & (1 << page) /* already set: no store */
    :: else ->
#ifdef PLAIN_OR
        store(me, BITMAP, seen | (1 << page))
#else
        atomic {
            fence(me) -> memory[BITMAP] = memory[BITMAP] | (1 << page)
        }
#endif
    fi;
    seen = 0
}

proctype writer(byte me)
{
    byte i, n, page, seen;

    for (n : 1 .. WRITES) {
        select(page : 0 .. PAGES - 1);
#ifdef MARK_FIRST
        mark(me, page);
#endif
        atomic {
            store(me, page, next_value);
            next_value++
        }
#ifndef NO_FENCE
        fence(me);
#endif
#ifndef MARK_FIRST
        mark(me, page);
#endif
    }
    /* A stop waits for the device, so the device's stores are visible after it. */
    fence(me);
    n_ended++
}

inline copy_pages(bits)
{
    page = 0;
    do
    :: page < PAGES ->
        if
        :: bits & (1 << page) -> copied[page] = memory[page]
        :: else
        fi;
        page++
    :: else -> break
    od;
    page = 0
}

inline sync()
{
#ifdef COPY_FIRST
    bits = memory[BITMAP];
    copy_pages(bits);
    memory[BITMAP] = memory[BITMAP] & ~bits;
#else
    d_step {
        bits = memory[BITMAP];
        memory[BITMAP] = 0
    }
    copy_pages(bits);
#endif
    bits = 0
}

active proctype front_end()
{
    byte n, page, bits;

    run writer(0);
    run writer(1);
    for (n : 1 .. ROUNDS) {
        sync()
    }
    n_ended == WRITERS;
    for (page : 0 .. PAGES - 1) {
        assert(copied[page] == memory[page] || (memory[BITMAP] & (1 << page)))
    }
}
