/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The options common to all back-end programs, as an argp parser that programs use as a child. The
 * first four are the program conventions of the vhost-user specification. Nothing is opened here;
 * faults that the command line alone shows are rejected here, with EX_USAGE.
 */
#include "backend.h"
#include "option_keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_US_MAX 1000000

/* In the order of enum gw_loop_kind. */
static const char *const loop_words[] = {"auto", "uring", "epoll", NULL};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Socket:", 2},
    {"socket-path", OPTION_SOCKET_PATH, "PATH", 0, "listen on a Unix socket at PATH", 0},
    {"client", OPTION_CLIENT, NULL, 0, "connect to PATH instead: the front-end listens there", 0},
    {"reconnect", OPTION_RECONNECT, "SECONDS", OPTION_ARG_OPTIONAL,
     "with --client: reconnect when the front-end hangs up or does not listen yet; pauses double "
     "up to SECONDS (default: 1)",
     0},
    {"fd", OPTION_FD, "FDNUM", 0,
     "inherited Unix socket, listening or connected (default: the socket passed by systemd "
     "socket activation)",
     0},
    {NULL, 0, NULL, 0, "Queues:", 3},
    {"num-queues", OPTION_NUM_QUEUES, "N", 0, "number of queues offered (default: 1)", 0},
    {"queue-size", OPTION_QUEUE_SIZE, "N", 0,
     "maximum ring size in entries, a power of two (default: 1024)", 0},
    {"workers", OPTION_WORKERS, "N", 0,
     "number of worker threads; queue I runs on thread I modulo N (default: 1)", 0},
    {"loop", OPTION_LOOP, "KIND", 0, "event loop: auto (default), uring or epoll", 0},
    {"poll-us", OPTION_POLL_US, "N", 0,
     "poll the rings for up to N microseconds before sleeping (default: 20)", 0},
    {"xen-persistent-grants", OPTION_XEN_PERSISTENT_GRANTS, "PAGES", OPTION_ARG_OPTIONAL,
     "with Xen grants: keep up to PAGES (default: 4096) granted pages mapped; for guests that "
     "never revoke grants",
     0},
    {NULL, 0, NULL, 0, "Other:", -1},
    {"print-capabilities", OPTION_PRINT_CAPABILITIES, NULL, 0,
     "print the capabilities of this program as JSON and exit", 0},
    {"verbose", OPTION_VERBOSE, NULL, 0, "log more; given twice: log every vhost-user message", 0},
    {0},
};

void backend_options_init(struct backend_options *o, struct backend_device *device)
{
    *o = (struct backend_options){
        .device = device,
        /* Waking a thread costs both sides more than this; an idle disk reduces it to a 16th. */
        .poll_us = 20,
        .num_workers = 1,
    };
}

void backend_print_capabilities(const struct backend *b)
{
    printf("{\n  \"type\": \"%s\",\n  \"features\": [", b->type);
    for (const char *const *f = b->features; *f != NULL; f++)
        printf("%s\n    \"%s\"", f == b->features ? "" : ",", *f);
    printf("%s]\n}\n", b->features[0] == NULL ? "" : "\n  ");
}

/*
 * The conventions require --print-capabilities to be honoured regardless of other options, invalid
 * ones included, so it is checked before the parser can reject them.
 */
bool backend_capabilities(const struct backend *b, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--print-capabilities") == 0) {
            backend_print_capabilities(b);
            return true;
        }
    }
    return false;
}

/* Without a socket on the command line, only socket activation can provide one. */
static void find_activation(struct argp_state *state, struct backend_device *device)
{
    int fd = backend_systemd_listen_fd();

    if (fd == -ENOENT)
        argp_error(state, "no socket: give --socket-path=PATH or --fd=FDNUM");
    else if (fd == -E2BIG)
        argp_failure(state, EXIT_FAILURE, 0,
                     "socket activation passed more than one socket; only one is supported");
    else if (fd < 0)
        argp_failure(state, EXIT_FAILURE, -fd, "socket activation");
    device->fd = fd;
    device->is_activated = true;
}

void backend_options_check(struct argp_state *state, struct backend_options *o)
{
    struct backend_device *device = o->device;
    struct value_error why;

    if (device->socket_path != NULL && device->fd >= 0)
        argp_error(state, "--socket-path and --fd exclude each other");
    if (device->is_client && device->socket_path == NULL)
        argp_error(state, "--client needs --socket-path, the socket to connect to");
    if (!backend_device_check(device, "--", &why))
        argp_error(state, "%s", why.text);
    if (o->num_workers > device->num_queues)
        argp_error(state,
                   "--workers=%u is more than --num-queues=%u; some workers would have no queue",
                   o->num_workers, device->num_queues);
    if (device->socket_path == NULL && device->fd < 0)
        find_activation(state, device);
}

static error_t parse_device_option(int key, const char *arg, struct argp_state *state)
{
    struct backend_options *o = state->input;
    const struct settings settings = {backend_device_settings, o->device};
    const char *option = settings_parse_option(&settings, key, arg, state);

    if (option == NULL)
        return ARGP_ERR_UNKNOWN;
    o->device_option = option;
    return 0;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct backend_options *o = state->input;

    switch (key) {
    case OPTION_WORKERS:
        o->num_workers = (unsigned)option_number(state, "workers", arg, 1, GW_WORKERS_MAX);
        break;
    case OPTION_LOOP:
        o->loop = (enum gw_loop_kind)option_word(state, "loop", arg, loop_words);
        break;
    case OPTION_POLL_US:
        o->poll_us = (unsigned)option_number(state, "poll-us", arg, 0, POLL_US_MAX);
        break;
    case OPTION_VERBOSE:
        o->verbose++;
        break;
    case OPTION_PRINT_CAPABILITIES:
        /* Only an abbreviation reaches this: backend_capabilities handles the full name. */
        argp_error(state, "--print-capabilities must be spelled out");
        break;
    default:
        return parse_device_option(key, arg, state);
    }
    return 0;
}

const struct argp backend_argp = {
    .options = options,
    .parser = parse_option,
};
