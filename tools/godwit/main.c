/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * godwit: tests vhost-user back-ends in the role of the VMM. This file selects the command and
 * prints the common usage; each command parses its own options.
 */
#include "command.h"
#include "target/tmpdir.h"

#include "../common/streams.h"

#include <argp.h>
#include <godwit/version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

static const struct command commands[] = {
    {"probe", "show what a back-end offers and what live migration lacks", command_probe},
    {"bench", "drive a back-end with load and measure it", command_bench},
    {"migrate", "migrate between two back-ends without a VM, report every lost page",
     command_migrate},
    {"crash", "kill a back-end repeatedly and report every lost request", command_crash},
    {"report", "make an HTML page from the JSON report of a command", command_report},
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *to)
{
    fputs("usage: godwit COMMAND [OPTION...] TARGET...\n\n"
          "Tests vhost-user back-ends in the role of the VMM. A TARGET is the path of a\n"
          "socket, or a command line in one argument that contains {socket}; godwit starts\n"
          "and ends it.\n\n",
          to);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("  help       show this, or the options of a COMMAND\n\n"
          "Exit status: 0 passed, 1 the back-end is at fault, 2 nothing was tested or the\n"
          "test could not be run, 64 wrong usage.\n",
          to);
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    fprintf(stderr, "godwit: unknown command '%s'; try 'godwit help'\n", name);
    return NULL;
}

static int run(const struct command *command, int argc, char **argv)
{
    int status;

    argv[0] = message_init(command->name);
    if (interrupt_start_thread() < 0)
        message_print("cannot start the signal thread: an interrupt may leave back-ends running");
    status = command->run(argc, argv);
    return streams_end(status);
}

static int help(int argc, char **argv)
{
    static char option[] = "--help";
    char *args[] = {argv[0], option, NULL};
    const struct command *command;

    if (argc < 3) {
        usage(stdout);
        return EXIT_SUCCESS;
    }
    command = find(argv[2]);
    return command == NULL ? EX_USAGE : run(command, 2, args);
}

int main(int argc, char **argv)
{
    const struct command *command;

    if (streams_begin(COMMAND_COULD_NOT) < 0)
        return COMMAND_COULD_NOT;
    argp_program_version = "godwit " GW_VERSION_STRING;
    atexit(tmpdir_remove); /* argp calls exit by itself */
    if (argc < 2) {
        usage(stderr);
        return EX_USAGE;
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0)
        return help(argc, argv);
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        puts(argp_program_version);
        return EXIT_SUCCESS;
    }
    command = find(argv[1]);
    return command == NULL ? EX_USAGE : run(command, argc - 1, argv + 1);
}
