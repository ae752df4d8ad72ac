/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Targets: command lines, children that fail in every way, and the error messages. The children are
 * this program, called with instructions.
 */
#include "fdcheck.h"
#include "target/cmdline.h"
#include "target/target.h"
#include "target/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char self[256]; /* the path of this program */

/* ---- Children ---- */

static int listen_at(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    if (bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 8) < 0)
        return -1;
    return fd;
}

static int be_child(int argc, char **argv)
{
    const char *what = argv[1];

    if (strcmp(what, "say") == 0) { /* print lines and exit with a status */
        for (int i = 3; i < argc; i++)
            fprintf(stderr, "%s\n", argv[i]);
        return atoi(argv[2]);
    }
    if (strcmp(what, "talk") == 0) { /* exceed the capacity of a pipe */
        for (int i = 0; i < 20000; i++)
            printf("line %d with some text to make it longer\n", i);
        return 0;
    }
    if (strcmp(what, "listen") == 0 && listen_at(argv[2]) < 0)
        return 1;
    if (strcmp(what, "stubborn") == 0) {
        signal(SIGTERM, SIG_IGN);
        if (listen_at(argv[2]) < 0)
            return 1;
    }
    if (strcmp(what, "fork") == 0 && fork() == 0) {
        /* The grandchild keeps the pipe open, and writes its pid when it runs. */
        int fd = open(argv[3], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        dprintf(fd, "%d", (int)getpid());
    }
    for (;;)
        pause();
}

/* ---- Helpers ---- */

__attribute__((format(printf, 1, 2))) static struct target *new_target(const char *format, ...)
{
    struct target_config cfg = {.name = "backend", .start_ms = 3000};
    char text[512], error[256];
    struct target *t;
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    cfg.text = text;
    assert_int_equal(target_new(&t, &cfg, error, sizeof(error)), 0);
    return t;
}

static int refused(const char *text, char *error, size_t size)
{
    struct target_config cfg = {.name = "backend", .text = text};
    struct target *t;

    return target_new(&t, &cfg, error, size);
}

static int connect_target(struct target *t)
{
    struct gw_frontend *fe;
    int r;

    assert_int_equal(gw_frontend_new(&fe, NULL), 0);
    r = target_connect(t, fe);
    gw_frontend_free(fe);
    return r;
}

static void assert_says(const struct target *t, const char *part)
{
    if (strstr(target_error(t), part) == NULL)
        fail_msg("\"%s\" is not in: %s", part, target_error(t));
}

/* Wait until the child ended; the kernel takes a moment to report it. */
static int wait_for_end(struct target *t)
{
    int r = 0;

    for (int i = 0; i < 1000 && r == 0; i++) {
        r = target_check(t);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    return r;
}

/* ---- Words ---- */

static void test_cmdline_split_follows_quotes(void **state)
{
    char **words;

    assert_int_equal(cmdline_split(" a 'b c'\t\"d 'e'\"f g\\ h '' ", &words), 5);
    assert_string_equal(words[0], "a");
    assert_string_equal(words[1], "b c");
    assert_string_equal(words[2], "d 'e'f");
    assert_string_equal(words[3], "g h");
    assert_string_equal(words[4], "");
    assert_null(words[5]);
    cmdline_free(words);
    assert_int_equal(cmdline_split("", &words), 0);
    cmdline_free(words);
}

static void test_cmdline_split_unfinished_is_refused(void **state)
{
    char **words;

    assert_int_equal(cmdline_split("a 'b", &words), -EINVAL);
    assert_int_equal(cmdline_split("a \"b", &words), -EINVAL);
    assert_int_equal(cmdline_split("a \\", &words), -EINVAL);
}

static void test_cmdline_fill_takes_names_only(void **state)
{
    const struct cmdline_value values[] = {{"socket", "/a b"}, {"file", NULL}, {0}};
    char *text, unknown[32];

    assert_int_equal(cmdline_fill(&text, "-s={socket},{},{\"a\":1},${x},{A}", values, unknown), 0);
    assert_string_equal(text, "-s=/a b,{},{\"a\":1},${x},{A}");
    free(text);
    assert_int_equal(cmdline_fill(&text, "{sockte}", values, unknown), -ENOENT);
    assert_string_equal(unknown, "sockte");
    assert_int_equal(cmdline_fill(&text, "{file}", values, unknown), -ENOENT);
}

static void test_cmdline_unknown_names_the_first(void **state)
{
    static const char *const known[] = {"socket", "file", NULL};
    char unknown[32];

    assert_false(cmdline_unknown("x {socket} {file} {} {A} ${y} {\"z\":1}", known, unknown));
    assert_false(cmdline_unknown("", known, unknown));
    assert_true(cmdline_unknown("x {socket} {sock} {what}", known, unknown));
    assert_string_equal(unknown, "sock");
    assert_true(cmdline_unknown("{sockets}", known, unknown));
    assert_string_equal(unknown, "sockets");
}

static void test_command_line_without_sense_is_refused(void **state)
{
    char error[256];

    assert_int_equal(refused("x {socket} {fd}", error, sizeof(error)), -EINVAL);
    assert_non_null(strstr(error, "not both"));
    assert_int_equal(refused("x {socket} {file}", error, sizeof(error)), -EINVAL);
    assert_non_null(strstr(error, "no file was given"));
    assert_int_equal(refused("x {socket} {what}", error, sizeof(error)), -EINVAL);
    assert_non_null(strstr(error, "unknown placeholder {what}"));
    assert_int_equal(refused("x '{socket}", error, sizeof(error)), -EINVAL);
    assert_non_null(strstr(error, "quotes"));
    assert_int_equal(refused("", error, sizeof(error)), -EINVAL);
}

/* ---- Socket paths ---- */

static void test_path_without_socket_says_so(void **state)
{
    struct target_config cfg = {.name = "backend", .text = "/nowhere/at/all", .start_ms = 20};
    char error[256];
    struct target *t;

    assert_int_equal(target_new(&t, &cfg, error, sizeof(error)), 0);
    assert_false(target_is_command(t));
    assert_int_equal(connect_target(t), -ENOENT);
    assert_says(t, "backend: there is no socket at /nowhere/at/all");
    target_free(t);

    cfg.text = "prog --socket x";
    assert_int_equal(target_new(&t, &cfg, error, sizeof(error)), 0);
    assert_int_equal(connect_target(t), -ENOENT);
    assert_says(t, "a command line must contain {socket}");
    target_free(t);

    cfg.text = self;
    assert_int_equal(target_new(&t, &cfg, error, sizeof(error)), 0);
    assert_int_equal(connect_target(t), -ECONNREFUSED);
    assert_says(t, "is not a socket");
    target_free(t);
}

static void test_path_with_socket_is_connected(void **state)
{
    struct target *t;
    uint64_t ns;
    char *path;
    int fd;

    assert_int_equal(tmpdir_path(&path, "own.sock"), 0);
    fd = listen_at(path);
    assert_true(fd >= 0);
    t = new_target("%s", path);
    assert_int_equal(connect_target(t), 0);
    assert_int_equal(target_check(t), 0);
    assert_int_equal(target_cpu_ns(t, &ns),
                     -ENODATA); /* its CPU time cannot be told apart from ours */
    assert_int_equal(target_stop(t), 0);
    target_free(t);
    close(fd);
    t = new_target("%s", path);
    target_free(t);
    free(path);
    tmpdir_remove();
}

/* ---- Commands ---- */

static void test_command_that_ends_tells_its_last_words(void **state)
{
    struct target *t = new_target("%s say 3 first 'no disk today' {socket}", self);

    assert_int_equal(connect_target(t), -EHOSTDOWN);
    assert_says(t, "ended with status 3; its last words: /");
    assert_non_null(strstr(target_last_lines(t), "first\nno disk today\n/"));
    assert_int_equal(target_stop(t), -EHOSTDOWN);
    target_free(t);

    t = new_target("%s say 0 '' {fd}", self);
    assert_int_equal(target_start(t), 0);
    assert_int_equal(wait_for_end(t), -EHOSTDOWN);
    target_free(t);
}

static void test_command_without_program_is_told(void **state)
{
    char path[4096], *folder, *file;
    struct target *t;

    /* Only folders that can be read: execvp(3) fails with EACCES after any other. */
    snprintf(path, sizeof(path), "%s", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
    assert_int_equal(setenv("PATH", "/", 1), 0);
    t = new_target("no-such-program-here {socket}");
    assert_int_equal(connect_target(t), -ENOENT);
    assert_says(t, "no program no-such-program-here in PATH");
    target_free(t);

    /* A file that cannot be executed, which even root may not. */
    assert_int_equal(tmpdir_path(&file, "no-such-program-here"), 0);
    close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    folder = strdup(file);
    assert_non_null(folder);
    *strrchr(folder, '/') = '\0';
    assert_int_equal(setenv("PATH", folder, 1), 0);
    t = new_target("no-such-program-here {socket}");
    assert_int_equal(connect_target(t), -EACCES);
    assert_says(t, "cannot start no-such-program-here from PATH: Permission denied");
    target_free(t);
    assert_int_equal(setenv("PATH", path, 1), 0);
    free(folder);
    free(file);
    tmpdir_remove();

    t = new_target("/ {socket}");
    assert_int_equal(connect_target(t), -EACCES);
    target_free(t);
}

static void test_command_that_does_not_listen_times_out(void **state)
{
    struct target_config cfg = {.name = "backend", .start_ms = 50};
    char text[512], error[256];
    struct target *t;

    snprintf(text, sizeof(text), "%s wait {socket}", self);
    cfg.text = text;
    assert_int_equal(target_new(&t, &cfg, error, sizeof(error)), 0);
    assert_int_equal(connect_target(t), -ETIMEDOUT);
    assert_says(t, "it runs, but does not listen");
    assert_int_equal(target_stop(t), 0);
    target_free(t);
}

static void test_command_is_connected_and_started_again(void **state)
{
    struct target *t = new_target("%s listen {socket}", self);
    pid_t pid;
    uint64_t ns;

    assert_true(target_is_command(t));
    assert_int_equal(connect_target(t), 0);
    assert_int_equal(connect_target(t), 0); /* the same process */
    pid = target_pid(t);
    assert_int_equal(target_cpu_ns(t, &ns), 0);
    assert_int_equal(target_stop(t), 0);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(connect_target(t), 0);
    assert_int_not_equal(target_pid(t), pid);
    target_free(t);
}

static void test_command_killed_is_told(void **state)
{
    struct target *t = new_target("%s listen {socket}", self);

    assert_int_equal(connect_target(t), 0);
    kill(target_pid(t), SIGKILL);
    assert_int_equal(wait_for_end(t), -EHOSTDOWN);
    assert_says(t, "was killed by signal 9");
    target_free(t);
}

static void test_command_that_ignores_sigterm_is_killed(void **state)
{
    struct target *t = new_target("%s stubborn {socket}", self);
    pid_t pid;

    assert_int_equal(connect_target(t), 0);
    pid = target_pid(t);
    assert_int_equal(target_stop(t), -ETIMEDOUT);
    assert_says(t, "had to be killed");
    assert_int_equal(kill(pid, 0), -1);
    target_free(t);
}

static void test_grandchildren_end_with_the_command(void **state)
{
    struct target *t;
    char *path, text[32] = "";
    pid_t pid = 0;

    assert_int_equal(tmpdir_path(&path, "pid"), 0);
    t = new_target("%s fork {fd} %s", self, path);
    assert_int_equal(target_start(t), 0);
    for (int i = 0; i < 1000 && pid == 0; i++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd >= 0) {
            ssize_t n = read(fd, text, sizeof(text) - 1);
            pid = n > 0 ? atoi(text) : 0;
            close(fd);
        }
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    assert_true(pid > 0);
    assert_int_equal(target_stop(t), 0);
    /* This process is not its parent, so read its state from /proc. */
    for (int i = 0; i < 1000; i++) {
        char stat[64], state_of = 'X';
        FILE *in;

        snprintf(stat, sizeof(stat), "/proc/%d/stat", (int)pid);
        in = fopen(stat, "re");
        if (in == NULL || fscanf(in, "%*d %*s %c", &state_of) != 1 || state_of == 'Z')
            pid = 0;
        if (in != NULL)
            fclose(in);
        if (pid == 0)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    assert_int_equal(pid, 0);
    target_free(t);
    free(path);
}

static void test_talkative_command_does_not_block(void **state)
{
    struct target *t = new_target("%s talk {fd}", self);

    assert_int_equal(target_start(t), 0);
    assert_int_equal(wait_for_end(t), -EHOSTDOWN);
    assert_says(t, "line 19999");
    target_free(t);
}

static void test_fd_is_connected_once(void **state)
{
    struct target *t = new_target("%s wait {fd}", self);

    assert_int_equal(connect_target(t), 0);
    assert_int_equal(connect_target(t), -EISCONN);
    assert_int_equal(target_stop(t), 0);
    assert_int_equal(connect_target(t), 0);
    target_free(t);
}

/* ---- Scratch ---- */

static void test_tmpdir_disk_is_made_and_removed(void **state)
{
    char *made, *again;

    assert_int_equal(tmpdir_disk(&made, NULL, 1 << 20), 0);
    assert_int_equal(access(made, R_OK | W_OK), 0);
    assert_int_equal(tmpdir_disk(&again, made, 1), 0);
    assert_string_equal(made, again);
    tmpdir_remove();
    assert_int_equal(access(made, F_OK), -1);
    free(made);
    free(again);
}

static bool exists(const char *folder, const char *file)
{
    char name[256];

    snprintf(name, sizeof(name), "%s/%s", folder, file);
    return access(name, F_OK) == 0;
}

/* Start a process that creates its directory and a file in it, and waits to be killed. */
static pid_t start_owner(char *folder, size_t size)
{
    int pipes[2];
    ssize_t n;
    pid_t pid;

    assert_int_equal(pipe(pipes), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char *path;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (tmpdir_path(&path, "file") < 0 || open(path, O_CREAT | O_CLOEXEC, 0600) < 0 ||
            write(pipes[1], path, strlen(path)) < 0)
            _exit(1);
        for (;;)
            pause();
    }
    n = read(pipes[0], folder, size - 1);
    assert_true(n > 0);
    folder[n] = '\0';
    *strrchr(folder, '/') = '\0';
    close(pipes[0]);
    close(pipes[1]);
    return pid;
}

static void make_scratch(void)
{
    char *path;

    assert_int_equal(tmpdir_path(&path, "s"), 0);
    free(path);
}

/* Files of a killed process are removed; those of running processes and others stay. */
static void test_tmpdir_of_a_killed_process_is_swept(void **state)
{
    char parent[] = "/tmp/godwit-test-XXXXXX", alive[128], dead[128], user[128], file[160];
    pid_t pid[2];

    assert_non_null(mkdtemp(parent));
    setenv("TMPDIR", parent, 1);
    snprintf(user, sizeof(user), "%s/godwit-backup", parent);
    snprintf(file, sizeof(file), "%s/file", user);
    assert_int_equal(mkdir(user, 0700), 0);
    close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    pid[0] = start_owner(alive, sizeof(alive));
    pid[1] = start_owner(dead, sizeof(dead));
    make_scratch();
    assert_true(exists(alive, "file") && exists(dead, "file"));
    tmpdir_remove();

    kill(pid[1], SIGKILL);
    waitpid(pid[1], NULL, 0);
    assert_true(exists(dead, "."));
    make_scratch();
    assert_false(exists(dead, "."));
    assert_true(exists(alive, "file") && exists(user, "file"));
    tmpdir_remove();

    kill(pid[0], SIGKILL);
    waitpid(pid[0], NULL, 0);
    make_scratch();
    tmpdir_remove();
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(user), 0);
    assert_int_equal(rmdir(parent), 0); /* the directory is empty */
    unsetenv("TMPDIR");
}

/* The directory was removed, and another user created one with the same name. */
static void test_tmpdir_of_another_owner_stays(void **state)
{
    char *path, *folder, file[256];
    int r;

    assert_int_equal(tmpdir_path(&path, "s"), 0);
    *strrchr(path, '/') = '\0';
    folder = path;
    assert_true(strlen(folder) < sizeof(file) - 10);
    strcpy(stpcpy(stpcpy(file, "rm -rf '"), folder), "'");
    r = system(file);
    assert_int_equal(r, 0);
    assert_int_equal(mkdir(folder, 0700), 0);
    strcpy(stpcpy(file, folder), "/disk");
    close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    tmpdir_remove();
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(folder), 0);
    free(path);
}

static int teardown(void **state)
{
    tmpdir_remove();
    return fdcheck_teardown(state);
}

#define TARGET_TEST(f) cmocka_unit_test_setup_teardown(f, fdcheck_setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TARGET_TEST(test_cmdline_split_follows_quotes),
        TARGET_TEST(test_cmdline_split_unfinished_is_refused),
        TARGET_TEST(test_cmdline_fill_takes_names_only),
        TARGET_TEST(test_cmdline_unknown_names_the_first),
        TARGET_TEST(test_command_line_without_sense_is_refused),
        TARGET_TEST(test_path_without_socket_says_so),
        TARGET_TEST(test_path_with_socket_is_connected),
        TARGET_TEST(test_command_that_ends_tells_its_last_words),
        TARGET_TEST(test_command_without_program_is_told),
        TARGET_TEST(test_command_that_does_not_listen_times_out),
        TARGET_TEST(test_command_is_connected_and_started_again),
        TARGET_TEST(test_command_killed_is_told),
        TARGET_TEST(test_command_that_ignores_sigterm_is_killed),
        TARGET_TEST(test_grandchildren_end_with_the_command),
        TARGET_TEST(test_talkative_command_does_not_block),
        TARGET_TEST(test_fd_is_connected_once),
        TARGET_TEST(test_tmpdir_disk_is_made_and_removed),
        TARGET_TEST(test_tmpdir_of_a_killed_process_is_swept),
        TARGET_TEST(test_tmpdir_of_another_owner_stays),
    };

    if (argc > 1)
        return be_child(argc, argv);
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
