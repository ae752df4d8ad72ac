/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The syntax of lists is that of QEMU's options, which the same people write. */
#include "settings.h"

#include <stdio.h>
#include <string.h>

enum {
    SETTINGS_MAX = 64, /* in all tables of a list */
};

const char *settings_parse_option(const struct settings *s, int argp_key, const char *arg,
                                  struct argp_state *state)
{
    struct value_error why;

    for (const struct setting *one = s->table; one->option != NULL; one++) {
        if (one->argp_key == 0 || one->argp_key != argp_key)
            continue;
        if (!one->set(s->to, arg, &why))
            argp_error(state, "--%s=%s %s", one->option, arg, why.text);
        return one->option;
    }
    return NULL;
}

/* Cut the first item off a list. Returns: the item, with its commas unescaped. */
static char *take_item(char **list)
{
    char *item = *list + strspn(*list, " \t"), *to = item, *from = item;

    while (*from != '\0' && (*from != ',' || from[1] == ',')) {
        if (*from == ',')
            from++;
        *to++ = *from++;
    }
    *list = *from == '\0' ? NULL : from + 1;
    while (to > item && (to[-1] == ' ' || to[-1] == '\t'))
        to--;
    *to = '\0';
    return item;
}

static const char *key_of(const struct setting *one)
{
    return one->key != NULL ? one->key : one->option;
}

/* A list that is being parsed. */
struct list {
    const struct settings *tables;
    unsigned n_tables;
    bool is_set[SETTINGS_MAX];
};

/* Returns: the setting, with its number and structure; NULL if there is no such key. */
static const struct setting *find(const struct list *l, const char *key, unsigned *ret_number,
                                  void **ret_to)
{
    unsigned number = 0;

    for (unsigned i = 0; i < l->n_tables; i++) {
        for (const struct setting *one = l->tables[i].table; one->option != NULL; one++, number++) {
            if (strcmp(key_of(one), key) != 0)
                continue;
            *ret_number = number;
            *ret_to = l->tables[i].to;
            return one;
        }
    }
    return NULL;
}

static bool fail(struct value_error *why, const char *key, const char *text)
{
    snprintf(why->text, sizeof(why->text), "%.60s %.110s", key, text);
    return false;
}

static bool set_item(struct list *l, char *item, struct value_error *why)
{
    char *value = strchr(item, '=');
    const struct setting *one;
    struct value_error bad;
    unsigned number = 0;
    void *to = NULL;

    if (value != NULL)
        *value++ = '\0';
    if (*item == '\0')
        return fail(why, "a key",
                    "is missing: write KEY=VALUE,KEY=VALUE..., and two commas for one "
                    "in a value");
    one = find(l, item, &number, &to);
    if (one == NULL)
        return fail(why, item, "is not a known key");
    if (one->is_single)
        return fail(why, item, "is only an option, for a program with one device");
    if (number < SETTINGS_MAX && l->is_set[number])
        return fail(why, item, "is given twice");
    if (number < SETTINGS_MAX)
        l->is_set[number] = true;
    if (value == NULL && one->kind == SETTING_VALUE)
        return fail(why, item, "needs a value");
    if (value != NULL && one->kind == SETTING_FLAG)
        return fail(why, item, "takes no value");
    if (one->set(to, value, &bad))
        return true;
    snprintf(why->text, sizeof(why->text), "%.40s=%.60s %.80s", item, value != NULL ? value : "",
             bad.text);
    return false;
}

bool settings_parse_list(const struct settings *tables, unsigned n_tables, char *text,
                         struct value_error *why)
{
    struct list l = {.tables = tables, .n_tables = n_tables};
    char *rest = text;

    do {
        if (!set_item(&l, take_item(&rest), why))
            return false;
    } while (rest != NULL);
    return true;
}
