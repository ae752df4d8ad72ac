/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Code shared by the back-end programs: the options of the vhost-user program conventions, sockets,
 * signals, messages and systemd. A program adds its own options and its devices.
 *
 * Call order: backend_capabilities, argp_parse with backend_argp as a child, backend_signals_init,
 * then create and start the devices.
 */
#pragma once

#include "settings.h"

#include "base/log_limit.h"

#include <argp.h>
#include <godwit.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

/* The description of one program. */
struct backend {
    const char *name;            /* "godwit-blk": prefix of every message */
    const char *type;            /* device type in --print-capabilities */
    const char *const *features; /* features in --print-capabilities; NULL-terminated */
};

/* The socket and the queues of a device. backend_device_init sets the defaults. */
struct backend_device {
    const char *socket_path; /* NULL: not given */
    int fd;                  /* -1: neither option nor socket activation */
    bool is_activated;       /* systemd passed fd */
    bool is_client;
    unsigned reconnect_s; /* 0: one session */
    unsigned num_queues;
    unsigned queue_size;
    unsigned xen_persistent_grants; /* pages; 0: none */
};

/* The options of the program itself. */
struct backend_options {
    struct backend_device *device; /* set by its options, if the program has one device */
    const char *device_option;     /* one that was given; NULL: none */
    enum gw_loop_kind loop;
    unsigned poll_us;
    unsigned num_workers;
    unsigned verbose;
};

/* device_options.c */
extern const struct setting backend_device_settings[];
void backend_device_init(struct backend_device *device);
/* Whether the settings fit together. `dashes` precede the name of a setting in `why`. */
bool backend_device_check(const struct backend_device *device, const char *dashes,
                          struct value_error *why);

/* options.c: the input of the child parser is a struct backend_options. */
extern const struct argp backend_argp;
void backend_options_init(struct backend_options *o, struct backend_device *device);
/*
 * For a program with one device, after its options have been parsed: check them, and find the
 * socket of systemd if there is no other. Ends the program through argp_error.
 */
void backend_options_check(struct argp_state *state, struct backend_options *o);
bool backend_capabilities(const struct backend *b, int argc, char **argv);
void backend_print_capabilities(const struct backend *b);

/*
 * message.c: one line on stderr, "program: level: text" or "program: level: device: text", prefixed
 * with its priority if stderr goes to the journal. backend_say_level returns the most verbose level
 * shown. Each format string is rate-limited as in the library (base/log_limit.h). Context: any
 * thread.
 */

/* The messages about one device. Other devices neither suppress them nor are suppressed by them. */
struct backend_log {
    const char *device; /* its name; NULL: the program has one device */
    struct gw_log_limiter limiter;
    pthread_mutex_t error_lock;
    char error[256]; /* [error_lock] the last message with GW_LOG_ERROR; "": none */
};

#define BACKEND_LOG_INIT                                                        \
    {                                                                           \
        .limiter = GW_LOG_LIMITER_INIT, .error_lock = PTHREAD_MUTEX_INITIALIZER \
    }

void backend_say_init(const char *name, unsigned verbose);
enum gw_log_level backend_say_level(void);
/* `log` is NULL for messages that do not belong to a device. */
void backend_say(struct backend_log *log, enum gw_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void backend_log_init(struct backend_log *log, const char *device);
/* Copy the last message with GW_LOG_ERROR, and forget it. */
void backend_log_error(struct backend_log *log, char *text, size_t size);
/* The callback for struct gw_daemon_config, with a struct backend_log, or NULL, as `arg`. */
void backend_log_cb(void *arg, enum gw_log_level level, const char *message);

/*
 * daemon.c: start a daemon on the socket of its device. Returns: 0; a negative errno, which has
 * been logged. backend_say_no_loop: log that a daemon or workers could not be created.
 */
void backend_say_no_loop(struct backend_log *log, int r, enum gw_loop_kind loop, const char *what);
int backend_start_daemon(struct gw_daemon *d, const struct backend_device *device,
                         struct backend_log *log);

/* What signals do to the devices of a program. All members are required. */
struct backend_signal_ops {
    /* SIGTERM, SIGINT: end all devices in good order, also those that start later. Does not wait.
     */
    void (*end)(void);
    /* The numbers of requests that are in flight and that have been answered. */
    void (*count)(uint64_t *ret_in_flight, uint64_t *ret_answered);
    /* Name in one line what keeps the program from ending. */
    void (*find_stuck)(char *text, size_t size);
    void (*reload)(void); /* SIGHUP */
    void (*report)(void); /* SIGUSR1 */
};

/*
 * signals.c. Call backend_signals_init before creating any thread. From then on SIGTERM and SIGINT
 * end the devices, and end the process after 5 seconds (10 seconds while requests are being
 * completed). Returns: 0 or a negative errno, which has been logged. backend_service_begin and
 * backend_service_end: start and stop handling SIGHUP and SIGUSR1.
 */
int backend_signals_init(const struct backend_signal_ops *ops);
int backend_service_begin(void);
void backend_service_end(void);

/*
 * ending.c: signals.c calls backend_ending_init (0 or a negative errno) before it creates threads,
 * and backend_ending_begin when a signal asks the program to end.
 *
 * backend_pause: sleep for `ms` milliseconds, for retry loops. Returns: true; false at once if the
 * program has been asked to end, and the caller must give up. Context: any thread.
 */
int backend_ending_init(void);
void backend_ending_begin(void);
bool backend_pause(unsigned ms);

/*
 * report.c: the counters of the queues as a table. `width` is that of the column with the name of
 * the device; 0: no such column.
 */
void backend_report_heading(FILE *out, int width);
void backend_report_queues(FILE *out, int width, const char *device, struct gw_daemon *d,
                           unsigned num_queues);

/*
 * systemd.c, or systemd_none.c in builds without libsystemd: the socket passed by socket activation
 * (-ENOENT: none; -E2BIG: more than one), and state notification.
 */
int backend_systemd_listen_fd(void);
void backend_systemd_notify(const char *state);
