/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * SET_LOG_BASE at run time (gw_change_log, gw_queue_set_log, gw_dirty_log_mark): two workers with a
 * queue each, a control worker that posts the new log to both as one operation, and a front-end
 * that reads a log once more when its replacement was answered, and frees it.
 *
 * The old log names its successor before the operation is posted, and a mark goes into a log and
 * into those that have replaced it since. The operation ends when both workers have counted its
 * latch; then the old log is freed. As a rule the front-end is answered after that. In postcopy it
 * is answered as soon as the operation is posted. Each replacement here is of either kind.
 *
 * A request is popped, written by the device in two steps (asynchronously) and completed. Its page
 * is marked at the end of the worker's turn, in the worker's log of that moment; the worker may read
 * its mailbox before. Memory is sequentially consistent in this model; dirty_mark.pml shows why a
 * fence precedes a mark. LOOK_FIRST shows why a mark precedes the read of the successor (the fence
 * and the sequentially consistent accesses of dirty_log.c).
 *
 * Properties: at the end, every page equals its copy; no log is written after it was freed, nor,
 * outside of postcopy, after the answer to its replacement.
 *
 * Mutations, each of which must be found:
 *   -DANSWER_EARLY   the answer does not wait for the workers, outside of postcopy
 *   -DSKIP_ONE       the second worker is forgotten
 *   -DOLD_AT_POP     a request is marked in the log it was popped under
 *   -DNO_PUBLISH     a new log discards the list of completed requests that are not marked yet
 *   -DFREE_EARLY     the back-end unmaps the old log before the second worker has the new one
 *   -DNO_DRAIN       a stop is answered while a request is in flight
 *   -DNO_SUCCESSOR   in postcopy the old log has no pointer to its successor
 *   -DLATE_SUCCESSOR the old log gets that pointer after the answer
 *   -DLOOK_FIRST     the successor is read before the page is marked
 *   -DNEXT_ONLY      a mark is made in the next log, but not in the one after that
 *   -DNEWEST_ONLY    a mark is made in the successor only
 *   -DFREE_POSTED    in postcopy the old log is freed when one worker has counted
 */

#define WORKERS  2
#define REQUESTS 1 /* of each worker */
#define LOGS     3 /* replaced twice */
#define NONE     255

byte memory[WORKERS]; /* a page for each worker */
byte copied[WORKERS];
byte bits[LOGS];    /* a bit per page */
byte adopted[WORKERS];
byte session;       /* the log of the last SET_LOG_BASE that is being handled */
bool answered[LOGS]; /* the replacement of this one, which was waited for */
bool unmapped[LOGS];
bool posted[LOGS];   /* the replacement of this one, which is not waited for */
byte successor[LOGS]; /* 0: none */
bool stopped;
byte n_stopped;

chan mail[WORKERS] = [LOGS] of { byte };
byte n_counted[LOGS]; /* counts of the latch of the operation that replaced this one */
#define STOP 254

/* The socket: a log to go to, or STOP, and the answer: whether the workers were waited for. */
chan request = [0] of { byte };
chan reply = [0] of { bool };

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
    bool was_waited_for;

    log = 0;
    do
    :: log < LOGS - 1 ->
        if
        :: sync(log)
        :: skip
        fi;
        request!(log + 1);
        reply?was_waited_for;
        answered[log] = was_waited_for;
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

#ifdef FREE_POSTED
#define HAS_ENDED(log) (n_counted[log] > 0)
#else
#define HAS_ENDED(log) (n_counted[log] == WORKERS)
#endif

/* The `done` of an operation that nothing waited for. */
inline free_old(log)
{
    d_step {
        posted[log] && HAS_ENDED(log) ->
            posted[log] = false;
            unmapped[log] = true
    }
}

active proctype control()
{
    byte what, old;

    do
    :: free_old(0)
    :: free_old(1)
    :: request?what ->
        old = session;
        if
        :: what == STOP ->
            mail[0]!what;
            mail[1]!what;
#ifndef NO_DRAIN
            n_stopped == WORKERS;
#endif
            reply!true;
            break
        /* gw_op_answer: the message waits for the operation. */
        :: what != STOP ->
            session = what;
            successor[old] = what;
            mail[0]!what;
#ifndef SKIP_ONE
            mail[1]!what;
#endif
#if defined(ANSWER_EARLY)
            skip;
#elif defined(SKIP_ONE) || defined(FREE_EARLY)
            n_counted[old] > 0;
#else
            n_counted[old] == WORKERS;
#endif
            unmapped[old] = true;
            reply!true
        /* gw_op_answer in postcopy. */
        :: what != STOP ->
            session = what;
#ifdef LATE_SUCCESSOR
            mail[0]!what;
            mail[1]!what;
            reply!false;
            successor[old] = what;
#else
#ifndef NO_SUCCESSOR
            successor[old] = what;
#endif
            mail[0]!what;
            mail[1]!what;
            reply!false;
#endif
            posted[old] = true
        fi
    od
}

/* Set the bit of the worker's page in a log; the memory of a freed one is not there. */
inline set_bit(log)
{
    atomic {
        assert(!unmapped[log]);
        assert(!answered[log]);
        bits[log] = bits[log] | (1 << me)
    }
}

/* gw_dirty_log_mark: in a log, and in those that have replaced it. */
inline mark(log)
{
    at = log;
    do
    :: true ->
#ifdef LOOK_FIRST
        next = successor[at];
        set_bit(at);
#elif defined(NEWEST_ONLY)
        next = successor[at];
        if
        :: next == 0 -> set_bit(at)
        :: else
        fi;
#else
        set_bit(at);
        next = successor[at];
#endif
        if
        :: next == 0 -> break
        :: else -> at = next
        fi;
#ifdef NEXT_ONLY
        set_bit(at);
        break
#endif
    od;
    at = 0;
    next = 0
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
    byte me = _pid - 2, popped_under, n, step, what, at, next;
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
            n_counted[what - 1]++
        fi
    /* Drained. */
    :: stopping && !in_flight ->
        n_stopped++;
        break
    od
}
