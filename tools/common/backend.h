/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Code shared by the back-end programs: the options of the vhost-user program conventions, sockets,
 * signals, messages and systemd. A program adds its own options and its device.
 *
 * Call order: backend_capabilities, argp_parse with backend_argp as a child, create the device,
 * backend_run.
 */
#pragma once

#include <argp.h>
#include <godwit.h>
#include <stdatomic.h>
#include <stdio.h>

/* The description of one program. */
struct backend {
    const char *name;            /* "godwit-blk": prefix of every message */
    const char *type;            /* device type in --print-capabilities */
    const char *const *features; /* features in --print-capabilities; NULL-terminated */
    void (*reload)(void *dev, struct gw_daemon *d); /* SIGHUP; NULL: ignored */
    void (*report)(void *dev, FILE *out); /* SIGUSR1, after the queue counters; NULL: nothing */
    uint32_t request_bytes_max;           /* as in struct gw_daemon_config */
};

/* The options common to all back-ends. backend_options_init sets the defaults. */
struct backend_options {
    const char *socket_path; /* NULL: not given */
    int fd;                  /* -1: neither option nor socket activation */
    bool is_activated;       /* systemd passed fd */
    bool is_client;
    unsigned reconnect_s; /* 0: one session */
    enum gw_loop_kind loop;
    unsigned poll_us;
    unsigned xen_persistent_grants; /* pages; 0: none */
    unsigned num_queues;
    unsigned queue_size;
    unsigned num_workers;
    unsigned verbose;
};

/* options.c: the input of the child parser is a struct backend_options. */
extern const struct argp backend_argp;
void backend_options_init(struct backend_options *o);
bool backend_capabilities(const struct backend *b, int argc, char **argv);
void backend_print_capabilities(const struct backend *b);

/*
 * run.c: create the daemon, find its socket and serve until the session ends or a signal arrives.
 * Returns: the exit status of the program. Every failure has been logged.
 */
int backend_run(const struct backend *b, const struct backend_options *o,
                const struct gw_device_ops *ops, void *dev, size_t request_size);

/*
 * signals.c. Call backend_signals_init before creating any thread. From then on SIGTERM and SIGINT
 * stop the daemon, and end the process after 5 seconds (10 seconds while requests are being
 * completed). Returns: 0 or a negative errno, which has been logged. backend_signals_set_daemon:
 * the daemon to stop; pass NULL before freeing it. backend_service_begin and backend_service_end:
 * start and stop handling SIGHUP and SIGUSR1.
 */
int backend_signals_init(const struct backend *b, const struct backend_options *o, void *dev);
void backend_signals_set_daemon(struct gw_daemon *d);
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

/* report.c: print the counters of every queue to stderr, then the lines of b->report. */
void backend_report(const struct backend *b, void *dev, struct gw_daemon *d, unsigned num_queues);

/*
 * message.c: one line on stderr, "name: level: text", prefixed with its priority if stderr goes to
 * the journal. backend_say_level returns the most verbose level shown. Each format string is
 * rate-limited as in the library (base/log_limit.h). Context: any thread.
 */
void backend_say_init(const char *name, unsigned verbose);
enum gw_log_level backend_say_level(void);
void backend_say(enum gw_log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void backend_log(void *arg, enum gw_log_level level, const char *message);

/*
 * systemd.c, or systemd_none.c in builds without libsystemd: the socket passed by socket activation
 * (-ENOENT: none; -E2BIG: more than one), and state notification.
 */
int backend_systemd_listen_fd(void);
void backend_systemd_notify(const char *state);
