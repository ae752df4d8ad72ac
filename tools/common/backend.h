/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What the back-end programs share: the command line of the vhost-user program conventions, finding
 * the socket, signals, messages and systemd. A program adds its own options and its device.
 *
 * The order of a program: backend_capabilities, argp_parse with backend_argp as a child, make the
 * device, backend_run.
 */
#pragma once

#include <argp.h>
#include <godwit.h>
#include <stdatomic.h>
#include <stdio.h>

/* The program, as the shared parts need to know it. */
struct backend {
    const char *name;                               /* "godwit-blk": stands before every message */
    const char *type;                               /* of the device, in --print-capabilities */
    const char *const *features;                    /* likewise; ends with NULL */
    void (*reload)(void *dev, struct gw_daemon *d); /* SIGHUP; NULL: ignored */
    void (*report)(void *dev, FILE *out);           /* SIGUSR1, behind the queues; NULL: nothing */
    uint32_t request_bytes_max;                     /* as in struct gw_daemon_config */
};

/* The options that every back-end has. Set the defaults with backend_options_init. */
struct backend_options {
    const char *socket_path; /* NULL: not given */
    int fd;                  /* -1: not given, nor by socket activation */
    bool is_activated;       /* fd came by socket activation */
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
 * Numbers of options, with the option's name for the message; K, M, G and T (powers of 1024) may
 * follow a size. Out of their limits they end the program through argp_error.
 */
unsigned backend_parse_number(struct argp_state *state, const char *option, const char *text,
                              unsigned min, unsigned max);
uint64_t backend_parse_size(struct argp_state *state, const char *option, const char *text);

/* The index of `text` in `words`, which ends with NULL; ends the program like the above. */
int backend_parse_word(struct argp_state *state, const char *option, const char *text,
                       const char *const *words);

/*
 * run.c: make the daemon, find its socket, serve until it ends or a signal ends it.
 * Returns: the exit status of the program; what went wrong has been said.
 */
int backend_run(const struct backend *b, const struct backend_options *o,
                const struct gw_device_ops *ops, void *dev, size_t request_size);

/*
 * signals.c. backend_signals_init: before any thread is made; from then on SIGTERM and SIGINT end
 * the daemon, and after 5 seconds (10, while requests are being answered) the process. Returns: 0;
 * a negative errno, which has been said. backend_signals_set_daemon: the daemon to end, or NULL
 * before it is freed. backend_service_begin and backend_service_end: act on SIGHUP and SIGUSR1.
 */
int backend_signals_init(const struct backend *b, const struct backend_options *o, void *dev);
void backend_signals_set_daemon(struct gw_daemon *d);
int backend_service_begin(void);
void backend_service_end(void);

/*
 * ending.c: signals.c calls backend_ending_init (0 or a negative errno) before it makes threads,
 * and backend_ending_begin when a signal asks the program to end.
 *
 * backend_pause: sleep for `ms` milliseconds, for code that retries. Returns: true; false at once
 * when the program has been asked to end, and the caller must give up. Context: any thread.
 */
int backend_ending_init(void);
void backend_ending_begin(void);
bool backend_pause(unsigned ms);

/* report.c: the counters of every queue as a table on stderr, then the program's own lines. */
void backend_report(const struct backend *b, void *dev, struct gw_daemon *d, unsigned num_queues);

/*
 * message.c: a line on stderr, "name: level: text"; under the journal with its priority in front.
 * backend_say_level returns the most talkative level that is shown. Each kind of message, which is
 * a format string, is limited as in the library (base/diag_limit.h). Context: any thread.
 */
void backend_say_init(const char *name, unsigned verbose);
enum gw_diag_level backend_say_level(void);
void backend_say(enum gw_diag_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void backend_diag(void *arg, enum gw_diag_level level, const char *message);

/*
 * systemd.c, or systemd_none.c where libsystemd was not there at build time: the socket handed
 * over by socket activation (-ENOENT: none; -E2BIG: more than one), and the state told back.
 */
int backend_systemd_listen_fd(void);
void backend_systemd_notify(const char *state);
