/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Replaces libFuzzer's main: runs the target on every file given, and on every file in a folder
 * given. Running no input is a failure.
 */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rbe");
    struct stat st;
    int r = -1;

    if (file && fstat(fileno(file), &st) == 0) {
        size_t size = (size_t)st.st_size;
        /* Exactly the size of the input, so that sanitizers detect reads past its end. */
        uint8_t *data = malloc(size ? size : 1);
        if (data && fread(data, 1, size, file) == size) {
            fprintf(stderr, "%s\n", path); /* the last path printed is the failing input */
            LLVMFuzzerTestOneInput(data, size);
            r = 1;
        }
        free(data);
    }
    if (r < 0)
        perror(path);
    if (file)
        fclose(file);
    return r;
}

/* Returns: the number of inputs run below `path`; -1 on failure. */
static int run_path(const char *path)
{
    struct dirent **entries;
    struct stat st;
    int n_run = 0;

    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
        return run_file(path);
    int n = scandir(path, &entries, NULL, alphasort);
    if (n < 0) {
        perror(path);
        return -1;
    }
    for (int i = 0; i < n; i++) {
        char name[4096];
        snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && n_run >= 0) {
            int r = run_path(name);
            n_run = r < 0 ? r : n_run + r;
        }
        free(entries[i]);
    }
    free(entries);
    return n_run;
}

int main(int argc, char **argv)
{
    int n_run = 0;

    for (int i = 1; i < argc; i++) {
        int r = run_path(argv[i]);
        if (r < 0)
            return EXIT_FAILURE;
        n_run += r;
    }
    printf("%d inputs\n", n_run);
    return n_run > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
