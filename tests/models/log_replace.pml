/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * SET_LOG_BASE at run time (gw_daemon_replace_log, gw_queue_set_log): two workers with a queue
 * each, a control thread that hands the new log to one worker after the other through their
 * mailboxes, and a front-end that reads a log once more when its replacement was answered, and
 * frees it.
 *
 * A request is popped, written by the device in two steps (asynchronously), completed, and its
 * page marked when the worker's turn ends, in the log that the worker has then. In between the
 * worker may find its mailbox. Memory is sequentially consistent here: what a fence is for is
 * the business of dirty_mark.pml.
 *
 * Properties: no page is neither copied as it is nor marked in the end; no log is written or
 * mapped in vain: none after its replacement was answered, none after it was freed.
 *
 * Mutations, each of which must be found:
 *   -DANSWER_EARLY   the answer does not wait for the workers
 *   -DSKIP_ONE       the second worker is forgotten
 *   -DOLD_AT_POP     a request is marked in the log it was popped under
 *   -DNO_PUBLISH     what is completed when the log is replaced is dropped from the list to mark
 *   -DFREE_EARLY     the back-end unmaps the old log before the second worker has the new one
 *   -DNO_DRAIN       a stop is answered while a request is still out
 */

#define WORKERS  2
#define REQUESTS 2 /* of each worker */
#define LOGS     3 /* replaced twice */
#define NONE     255

byte memory[WORKERS]; /* a page for each worker */
byte copied[WORKERS];
byte bits[LOGS];    /* a bit per page */
byte adopted[WORKERS];
byte session;       /* the log of the last SET_LOG_BASE that is being handled */
bool answered[LOGS]; /* the replacement of this one */
bool unmapped[LOGS];
bool stopped;
byte n_stopped;

/* Mailboxes: the control thread posts and waits for the latch. */
chan mail[WORKERS] = [1] of { byte };
chan latch = [WORKERS] of { byte };
#define STOP 254

/* The socket: a log to go to, or STOP, and the answer. */
chan request = [0] of { byte };
chan reply = [0] of { byte };

/* The front-end reads and clears a log, copies what it names. */
inline sync(log)
{
    d_step {
        got = bits[log];
        bits[log] = 0
    }
    page = 0;
    do
    :: page < WORKERS ->
        if
        :: got & (1 << page) -> copied[page] = memory[page]
        :: else
        fi;
        page++
    :: else -> break
    od;
    page = 0;
    got = 0
}

active proctype front_end()
{
    byte log, page, got;

    log = 0;
    do
    :: log < LOGS - 1 ->
        if
        :: sync(log)
        :: skip
        fi;
        request!(log + 1);
        reply?_;
        answered[log] = true;
        sync(log);
        log++
    :: else -> break
    od;
    request!STOP;
    reply?_;
    stopped = true;
    sync(log);
    for (page : 0 .. WORKERS - 1) {
        assert(copied[page] == memory[page])
    }
}

inline tell(worker, what)
{
    mail[worker]!what
}

active proctype control()
{
    byte what, old;

    do
    :: request?what ->
        old = session;
        if
        :: what == STOP ->
            tell(0, what);
            tell(1, what);
#ifndef NO_DRAIN
            latch?_;
            latch?_;
#endif
            reply!0;
            break
        :: else ->
            session = what;
            tell(0, what);
#if !defined(ANSWER_EARLY)
            latch?_;
#endif
#ifdef FREE_EARLY
            unmapped[old] = true;
#endif
#ifndef SKIP_ONE
            tell(1, what);
#if !defined(ANSWER_EARLY)
            latch?_;
#endif
#endif
            unmapped[old] = true;
            reply!0
        fi
    od
}

/* Set the bit of the worker's page in a log; the memory of a freed one is not there. */
inline mark(log)
{
    atomic {
        assert(!unmapped[log]);
        assert(!answered[log]);
        bits[log] = bits[log] | (1 << me)
    }
}

/* The end of a turn: what is completed is marked and published. */
inline publish()
{
    if
    :: completed ->
#ifdef OLD_AT_POP
        mark(popped_under);
#else
        mark(adopted[me]);
#endif
        completed = false;
        in_flight = false
    :: else
    fi
}

active [WORKERS] proctype worker()
{
    byte me = _pid - 2, popped_under, n, step, what;
    bool in_flight, completed, stopping;

    do
    /* Pop: it is the device's now. */
    :: !stopping && !in_flight && n < REQUESTS ->
        in_flight = true;
        popped_under = adopted[me];
        step = 0;
        n++
    /* The device writes, in two steps, while anything else happens. */
    :: in_flight && step < 2 ->
        assert(!stopped);
        memory[me]++;
        step++
    /* It completes. */
    :: in_flight && step == 2 && !completed ->
        completed = true
    /* The turn ends. */
    :: completed ->
        publish()
    /* The mailbox. */
    :: mail[me]?what ->
        if
        :: what == STOP ->
            stopping = true
        :: else ->
#ifdef NO_PUBLISH
            if
            :: completed ->
                completed = false;
                in_flight = false
            :: else
            fi;
#else
            publish();
#endif
            adopted[me] = what;
#if defined(ANSWER_EARLY)
            skip
#else
            latch!0
#endif
        fi
    /* Drained. */
    :: stopping && !in_flight ->
        latch!0;
        break
    od
}
