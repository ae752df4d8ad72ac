/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The ordering of both rings (src/core/ring/ring_split.c, ring_packed.c): the giver publishes a batch
 * of two and checks whether the taker wants a notification; the taker enables notifications, checks the
 * ring once more, and takes the batch or sleeps. With the device as the giver this is [B] and [C], with
 * the driver as the giver [A] and [D]; the event area of a packed ring is [E].
 *
 * Memory is weaker than that of x86, where only missing fences have an effect
 * (tests/unit/queue/test_fences.c): stores and loads happen in any order that no barrier forbids.
 *
 * Properties: a taker that sees the first element of a batch sees all of the batch and its data; a giver
 * that sees the flags of an event area sees the index that belongs to them; and either the giver
 * notifies or the taker sees the batch.
 *
 * Mutations, each of which must be found:
 *   -DNO_RELEASE         the first of a batch is stored like the others ([A], [B])
 *   -DNO_ACQUIRE         it is loaded like the others ([A], [B])
 *   -DNO_GIVER_FENCE     between the first of the batch and the event area ([C]; [D] of the driver)
 *   -DNO_TAKER_FENCE     between the event area and the first of the batch ([D]; [C] of the driver)
 *   -DNO_EVENT_RELEASE   the flags of an event area are stored like its place ([E])
 *   -DNO_EVENT_ACQUIRE   they are loaded like it ([E])
 */

/* What a barrier makes a store or a load wait for. */
#ifdef NO_RELEASE
#define RELEASE true
#else
#define RELEASE (data_is_stored && second_is_stored)
#endif
#ifdef NO_ACQUIRE
#define ACQUIRE true
#else
#define ACQUIRE first_is_loaded
#endif
#ifdef NO_GIVER_FENCE
#define GIVER_FENCE true
#else
#define GIVER_FENCE (data_is_stored && second_is_stored && first_is_stored)
#endif
#ifdef NO_TAKER_FENCE
#define TAKER_FENCE true
#else
#define TAKER_FENCE (place_is_stored && flags_are_stored)
#endif
#ifdef NO_EVENT_RELEASE
#define EVENT_RELEASE true
#else
#define EVENT_RELEASE place_is_stored
#endif
#ifdef NO_EVENT_ACQUIRE
#define EVENT_ACQUIRE true
#else
#define EVENT_ACQUIRE flags_are_loaded
#endif

#define GIVER_DONE \
    (data_is_stored && second_is_stored && first_is_stored && flags_are_loaded && place_is_loaded)
#define TAKER_DONE \
    (place_is_stored && flags_are_stored && first_is_loaded && second_is_loaded && data_is_loaded)

/* What is in memory: 1 is new. */
bool data, second, first;
bool place, flags;

bool is_notified, is_found;
byte n_ended;

active proctype giver()
{
    bool data_is_stored, second_is_stored, first_is_stored;
    bool flags_are_loaded, place_is_loaded;
    bool seen_flags, seen_place;

    do
    :: !data_is_stored -> atomic { data = 1; data_is_stored = 1 }
    :: !second_is_stored -> atomic { second = 1; second_is_stored = 1 }
    :: !first_is_stored && RELEASE -> atomic { first = 1; first_is_stored = 1 }
    :: !flags_are_loaded && GIVER_FENCE -> atomic { seen_flags = flags; flags_are_loaded = 1 }
    :: !place_is_loaded && GIVER_FENCE && EVENT_ACQUIRE -> atomic { seen_place = place; place_is_loaded = 1 }
    :: GIVER_DONE -> break
    od;
    assert(!seen_flags || seen_place);
    is_notified = seen_flags;
    n_ended++
}

active proctype taker()
{
    bool place_is_stored, flags_are_stored;
    bool first_is_loaded, second_is_loaded, data_is_loaded;
    bool seen_first, seen_second, seen_data;

    do
    :: !place_is_stored -> atomic { place = 1; place_is_stored = 1 }
    :: !flags_are_stored && EVENT_RELEASE -> atomic { flags = 1; flags_are_stored = 1 }
    :: !first_is_loaded && TAKER_FENCE -> atomic { seen_first = first; first_is_loaded = 1 }
    :: !second_is_loaded && ACQUIRE -> atomic { seen_second = second; second_is_loaded = 1 }
    :: !data_is_loaded && ACQUIRE -> atomic { seen_data = data; data_is_loaded = 1 }
    :: TAKER_DONE -> break
    od;
    assert(!seen_first || (seen_second && seen_data));
    is_found = seen_first;
    n_ended++
}

active proctype end()
{
    n_ended == 2;
    assert(is_notified || is_found)
}
