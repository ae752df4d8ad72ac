/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Settings of a device. Each is an option on the command line of a program with one device, and a
 * key in the list that describes one of several devices: "socket=/run/a.sock,read-only". Tables of
 * settings name both, so that both accept the same values.
 */
#pragma once

#include "option_value.h"

#include <stddef.h>

enum setting_kind {
    SETTING_FLAG,     /* has no value */
    SETTING_OPTIONAL, /* may have a value */
    SETTING_VALUE,
};

struct setting {
    const char *option; /* long name, without dashes; NULL: ends the table */
    const char *key;    /* in a list; NULL: the same */
    int argp_key;       /* 0: not on the command line */
    enum setting_kind kind;
    bool is_single; /* not in a list */
    /*
     * Set a member of `to`. `value`, NULL if none was given, must remain valid as long as `to`.
     * Returns: false if it is not valid; see option_value.h for `why`.
     */
    bool (*set)(void *to, const char *value, struct value_error *why);
};

/* A table, and the structure that its settings set. */
struct settings {
    const struct setting *table;
    void *to;
};

/*
 * Set what the option `argp_key` stands for. An invalid value ends the program through argp_error.
 * Returns: the long name of the option; NULL if it is not in the table.
 */
const char *settings_parse_option(const struct settings *s, int argp_key, const char *arg,
                                  struct argp_state *state);

/*
 * Set everything in a list: keys, most of them with "=" and a value, separated by commas. Two
 * commas are one comma in a value, and blanks around the other commas are ignored. `text` is
 * modified: values point into it. The structures may be modified in part if the list is not valid.
 * Returns: true; false, and `why` is a sentence.
 */
bool settings_parse_list(const struct settings *tables, unsigned n_tables, char *text,
                         struct value_error *why);
