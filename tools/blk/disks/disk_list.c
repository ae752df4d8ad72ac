/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "disk_list.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONFIG_BYTES_MAX = 16 << 20,
    PLACE_MAX = 300,
};

static int refuse(struct disk_list_error *error, const struct disk_options *a,
                  const struct disk_options *b, const char *what, const char *value)
{
    snprintf(error->text, sizeof(error->text), "%s: %s %.100s is already that of the disk at %s",
             a->place, what, value, b->place);
    return -EINVAL;
}

static int check_unique(const struct disk_options *a, const struct disk_options *b,
                        struct disk_list_error *error)
{
    if (strcmp(a->name, b->name) == 0)
        return refuse(error, a, b, "name", a->name);
    if (strcmp(a->device.socket_path, b->device.socket_path) == 0)
        return refuse(error, a, b, "socket", a->device.socket_path);
    if (a->file.path != NULL && b->file.path != NULL && strcmp(a->file.path, b->file.path) == 0 &&
        disk_options_exclude(a, b))
        return refuse(error, a, b, "file", a->file.path);
    return 0;
}

int disk_list_add(struct disk_list *list, const char *text, const char *place,
                  struct disk_list_error *error)
{
    struct disk_options *o = NULL, **disks;
    struct value_error why;
    int r = disk_options_new(&o, text, place, &why);

    if (r < 0) {
        snprintf(error->text, sizeof(error->text), "%s: %s", place, why.text);
        return r;
    }
    for (unsigned i = 0; r == 0 && i < list->n_disks; i++)
        r = check_unique(o, list->disks[i], error);
    if (r == 0) {
        disks = realloc(list->disks, (list->n_disks + 1) * sizeof(*disks));
        if (disks != NULL) {
            list->disks = disks;
            list->disks[list->n_disks++] = o;
            return 0;
        }
        snprintf(error->text, sizeof(error->text), "%s: no memory", place);
        r = -ENOMEM;
    }
    disk_options_free(o);
    return r;
}

/* Cut blanks off both ends of a line. Returns: its beginning. */
static char *trim(char *line)
{
    static const char blanks[] = " \t\r\n";
    char *end = line + strlen(line);

    while (end > line && strchr(blanks, end[-1]) != NULL)
        *--end = '\0';
    return line + strspn(line, blanks);
}

/* Add what is in `line`, which ends with a NUL. */
static int add_line(struct disk_list *list, char *line, size_t length, const char *place,
                    struct disk_list_error *error)
{
    char *text;

    if (strlen(line) != length) {
        snprintf(error->text, sizeof(error->text), "%s: the line has a NUL byte", place);
        return -EINVAL;
    }
    text = trim(line);
    return *text == '\0' || *text == '#' ? 0 : disk_list_add(list, text, place, error);
}

static int add_lines(struct disk_list *list, char *text, size_t length, const char *path,
                     struct disk_list_error *error)
{
    char *end = text + length, *line = text, *next;
    char place[PLACE_MAX];
    int r = 0;

    for (unsigned i = 1; r == 0 && line < end; i++, line = next + 1) {
        next = memchr(line, '\n', (size_t)(end - line));
        if (next == NULL)
            next = end; /* there is room for one more byte */
        *next = '\0';
        snprintf(place, sizeof(place), "%.280s:%u", path, i);
        r = add_line(list, line, (size_t)(next - line), place, error);
    }
    return r;
}

/* Read the whole file, with room for one more byte. Returns: 0; a negative errno. */
static int read_all(FILE *in, char **ret, size_t *ret_length)
{
    char *text = malloc(CONFIG_BYTES_MAX + 1);
    size_t length;
    int r = 0;

    if (text == NULL)
        return -ENOMEM;
    errno = 0;
    length = fread(text, 1, CONFIG_BYTES_MAX, in);
    if (ferror(in))
        r = errno != 0 ? -errno : -EIO;
    else if (length == CONFIG_BYTES_MAX)
        r = -EFBIG;
    if (r < 0) {
        free(text);
        return r;
    }
    *ret = text;
    *ret_length = length;
    return 0;
}

int disk_list_read(struct disk_list *list, const char *path, struct disk_list_error *error)
{
    FILE *in = fopen(path, "re");
    char *text = NULL;
    size_t length = 0;
    int r = in == NULL ? -errno : read_all(in, &text, &length);

    if (in != NULL)
        fclose(in);
    if (r < 0) {
        snprintf(error->text, sizeof(error->text), "cannot read %s: %s", path, strerror(-r));
        return r;
    }
    r = add_lines(list, text, length, path, error);
    free(text);
    return r;
}

int disk_list_share(struct disk_list *list, const struct disk_list *from)
{
    if (from->n_disks == 0)
        return 0;
    list->disks = malloc(from->n_disks * sizeof(*list->disks));
    if (list->disks == NULL)
        return -ENOMEM;
    list->n_disks = from->n_disks;
    for (unsigned i = 0; i < list->n_disks; i++)
        list->disks[i] = disk_options_share(from->disks[i]);
    return 0;
}

static int compare(const void *a, const void *b)
{
    return strcmp((*(struct disk_options *const *)a)->name,
                  (*(struct disk_options *const *)b)->name);
}

void disk_list_sort(struct disk_list *list)
{
    if (list->n_disks > 0)
        qsort(list->disks, list->n_disks, sizeof(*list->disks), compare);
}

static int compare_name(const void *name, const void *o)
{
    return strcmp(name, (*(struct disk_options *const *)o)->name);
}

int disk_list_find(const struct disk_list *list, const char *name)
{
    struct disk_options **found = NULL;

    if (list->n_disks > 0)
        found = bsearch(name, list->disks, list->n_disks, sizeof(*list->disks), compare_name);
    return found == NULL ? -1 : (int)(found - list->disks);
}

void disk_list_done(struct disk_list *list)
{
    for (unsigned i = 0; i < list->n_disks; i++)
        disk_options_free(list->disks[i]);
    free(list->disks);
    *list = (struct disk_list){0};
}
