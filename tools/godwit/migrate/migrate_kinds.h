/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Enumerations used in the options and results of a migration. */
#pragma once

enum migration_device {
    MIGRATION_DEVICE_BLK = 0, /* a disk, both ends on one image: a verified load */
    MIGRATION_DEVICE_RNG,     /* buffers of random bytes */
    MIGRATION_DEVICE_GENERIC, /* rings are started and left alone */
};

enum migration_order {
    MIGRATION_ORDER_QEMU = 0, /* SET_LOG_BASE, LOG_ALL, VHOST_VRING_F_LOG of each ring */
    MIGRATION_ORDER_RINGS,    /* SET_LOG_BASE, VHOST_VRING_F_LOG of each ring, LOG_ALL */
    MIGRATION_ORDER_FEATURES, /* LOG_ALL, SET_LOG_BASE, VHOST_VRING_F_LOG of each ring */
    MIGRATION_ORDER_STARTED,  /* the device is restarted with the log on, as after a hot plug */
    MIGRATION_ORDER_RANDOM,   /* one of these, by the seed, each time */
};

enum migration_phase {
    MIGRATION_PHASE_CONNECT = 0, /* connecting and negotiating, both ends */
    MIGRATION_PHASE_START,       /* starting the device at the source */
    MIGRATION_PHASE_WARM_UP,     /* load, log off */
    MIGRATION_PHASE_LOG_ON,
    MIGRATION_PHASE_COPY, /* rounds, with the events of that time */
    MIGRATION_PHASE_CANCEL,
    MIGRATION_PHASE_STOP,     /* GET_VRING_BASE */
    MIGRATION_PHASE_FINAL,    /* the last round */
    MIGRATION_PHASE_COMPARE,  /* both memories, byte by byte */
    MIGRATION_PHASE_RESUME,   /* starting the device at the destination */
    MIGRATION_PHASE_POSTCOPY, /* the rest of the memory arrives, under load at the destination */
    MIGRATION_PHASE_SETTLE,   /* load at the destination */
    MIGRATION_PHASE_VERIFY,   /* reading the disk back */
    MIGRATION_PHASE_DONE,
    MIGRATION_N_PHASES,
};

/* What a byte of guest memory is used for. */
enum migration_use {
    MIGRATION_USE_OUTSIDE = 0, /* nothing that the device was given */
    MIGRATION_USE_DATA,        /* data buffer of a request */
    MIGRATION_USE_STATUS,      /* status byte of a request */
    MIGRATION_USE_HEADER,      /* header of a request, which the device only reads */
    MIGRATION_USE_DESC,        /* descriptor table, direct or indirect: the device only reads it */
    MIGRATION_USE_AVAIL,       /* available ring: the device only reads it */
    MIGRATION_USE_USED_FLAGS,
    MIGRATION_USE_USED_IDX,
    MIGRATION_USE_USED_ELEMENT,
    MIGRATION_USE_AVAIL_EVENT,
    MIGRATION_USE_PACKED_DESC,  /* descriptor of a packed ring, which both sides write */
    MIGRATION_USE_DRIVER_EVENT, /* event area of a packed ring that the device only reads */
    MIGRATION_USE_DEVICE_EVENT,
    MIGRATION_N_USES,
};

/*
 * Words that only control notifications. The next device writes them again, so a page in which
 * nothing else was lost has lost no data.
 */
#define MIGRATION_USES_HINT                                             \
    (1u << MIGRATION_USE_USED_FLAGS | 1u << MIGRATION_USE_AVAIL_EVENT | \
     1u << MIGRATION_USE_DEVICE_EVENT)

enum migration_verdict {
    MIGRATION_PASSED = 0, /* the run completed; the report decides what that proves */
    MIGRATION_FAILED,     /* a back-end is at fault */
    MIGRATION_COULD_NOT,  /* could not run: lacking features, no connection, a mistake of ours */
};

/* What the half of a migration in another process found. */
enum migration_other {
    MIGRATION_OTHER_UNKNOWN = 0,
    MIGRATION_OTHER_PASSED,
    MIGRATION_OTHER_HINTS,
    MIGRATION_OTHER_NOT_TESTED,
    MIGRATION_OTHER_FAILED,
    MIGRATION_OTHER_COULD_NOT,
};

enum migration_side {
    MIGRATION_SIDE_TOOL = 0,
    MIGRATION_SIDE_SOURCE,
    MIGRATION_SIDE_DESTINATION,
    MIGRATION_SIDE_EITHER, /* one of the two back-ends, unknown which */
};

/* When to kill a back-end, once in each migration: the source, after the switch the destination. */
enum migration_kill {
    MIGRATION_KILL_NEVER = 0,
    MIGRATION_KILL_WARM_UP, /* before the first migration */
    MIGRATION_KILL_COPY,    /* while memory is copied */
    MIGRATION_KILL_STOP,    /* when the guest has stopped, before the device is */
    MIGRATION_KILL_START,   /* when the device has started at the destination, before the guest */
    MIGRATION_KILL_SETTLE,  /* when both run there */
    MIGRATION_KILL_RANDOM,  /* one of them, by the seed */
};

enum migration_event_kind {
    MIGRATION_EVENT_PHASE = 0, /* `phase` began */
    MIGRATION_EVENT_LOG_ON,
    MIGRATION_EVENT_LOG_OFF,
    MIGRATION_EVENT_LOG_REPLACED,
    MIGRATION_EVENT_REGION_ADDED,
    MIGRATION_EVENT_REGION_REMOVED,
    MIGRATION_EVENT_CALL_FD,
    MIGRATION_EVENT_LOAD_STOPPED,
    MIGRATION_EVENT_DEVICE_STOPPED,
    MIGRATION_EVENT_DEVICE_STARTED,
    MIGRATION_EVENT_FIRST_COMPLETION, /* at the destination */
    MIGRATION_EVENT_RECONNECTED,      /* the link between two processes */
    MIGRATION_EVENT_LINK_CUT,         /* no page arrives for the event's duration */
    MIGRATION_EVENT_ALL_THERE,        /* the last page arrived */
    MIGRATION_EVENT_KILLED,           /* and restarted */
    MIGRATION_EVENT_FAULT,
    MIGRATION_EVENT_HINT, /* a word that cannot lose data was not marked */
};
