/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * godwit-rng: a virtio-rng back-end, and an example of a device on libgodwit. Out of tree:
 *
 *     cc -o godwit-rng rng.c $(pkg-config --cflags --libs godwit)
 */
#include <fcntl.h>
#include <getopt.h>
#include <godwit.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    BATCH = 16,
    ANSWER_MAX = 64 * 1024,
    LIMIT_S = 4 /* plus up to a second to report what is stuck */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct gw_daemon *rng_daemon; /* [lock] NULL before it is freed */

/* Fill the buffers of one request. A virtio-rng device may return less than the buffers hold. */
static uint32_t fill(struct gw_request *req)
{
    unsigned char bytes[256]; /* getrandom is not interrupted up to 256 */
    size_t filled = 0;

    while (req->writable_len > 0 && filled < ANSWER_MAX) {
        ssize_t n = getrandom(bytes, sizeof(bytes), 0);

        if (n <= 0)
            break;
        filled += gw_request_write(req, bytes, (size_t)n);
    }
    return (uint32_t)filled;
}

/* The only callback that a device must have: take the available requests and complete them. */
static int queue_ready(void *dev, struct gw_queue *q)
{
    struct gw_request *reqs[BATCH];
    unsigned n = gw_queue_pop(q, reqs, BATCH);

    for (unsigned i = 0; i < n; i++)
        gw_request_complete(reqs[i], fill(reqs[i]));
    return 0;
}

/*
 * SIGTERM or SIGINT stops the daemon, and ends the process after LIMIT_S even if a worker is stuck.
 * A second SIGTERM is ignored, because timeout(1) sends two. Any further signal ends the process.
 */
static void *end(void *signals)
{
    char stuck[256] = "the daemon is being freed";
    int sig;

    sigwait(signals, &sig);
    alarm(LIMIT_S);
    pthread_mutex_lock(&lock);
    if (rng_daemon != NULL)
        gw_daemon_stop(rng_daemon);
    pthread_mutex_unlock(&lock);
    sigwait(signals, &sig);
    if (sig == SIGTERM)
        sigwait(signals, &sig);
    alarm(1); /* in case the message blocks */
    pthread_sigmask(SIG_UNBLOCK, signals, NULL);
    pthread_mutex_lock(&lock);
    if (rng_daemon != NULL && gw_daemon_find_stuck(rng_daemon, stuck, sizeof(stuck)) == 0)
        snprintf(stuck, sizeof(stuck), "nothing is stuck");
    fprintf(stderr, "godwit-rng: ended by %s: %s\n",
            sig == SIGALRM ? "the time limit" : "a further signal", stuck);
    _exit(EXIT_FAILURE);
}

/* Otherwise a file or socket could get the number of a standard stream that the parent closed. */
static int open_standard_streams(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    return fd < 0 ? -1 : close(fd);
}

/* Returns: the exit status. */
static int show(const char *text)
{
    return puts(text) < 0 || fflush(stdout) != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int serve(const char *path, int fd)
{
    static const struct gw_device_ops ops = {
        .size = sizeof(ops), .queue_ready = queue_ready, .stateless = true};
    const struct gw_daemon_config cfg = {
        .size = sizeof(cfg),
        .name = "godwit-rng",
        .log_level = GW_LOG_WARNING,
        .handle_sigbus = true, /* so that no front-end can end the process */
    };
    static sigset_t signals;
    struct gw_daemon *d = NULL;
    pthread_t thread;
    int r;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGALRM);
    signal(SIGALRM, SIG_DFL);                   /* a parent may have left it ignored */
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* also in the threads of the daemon */
    r = gw_daemon_new(&d, &cfg, &ops, NULL);
    rng_daemon = d;
    if (r == 0 && pthread_create(&thread, NULL, end, &signals) != 0) {
        fprintf(stderr, "godwit-rng: cannot start a thread\n");
        return EXIT_FAILURE;
    }
    if (r == 0)
        r = path != NULL ? gw_daemon_start_path(d, path) : gw_daemon_start(d, fd);
    if (r < 0)
        fprintf(stderr, "godwit-rng: %s\n", gw_last_error());
    else
        r = gw_daemon_wait(d);
    pthread_mutex_lock(&lock);
    rng_daemon = NULL;
    pthread_mutex_unlock(&lock);
    gw_daemon_free(d);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"socket-path", required_argument, NULL, 's'},
        {"fd", required_argument, NULL, 'f'},
        {"print-capabilities", no_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {0},
    };
    static const char usage[] = "usage: godwit-rng --socket-path=PATH | --fd=FDNUM |\n"
                                "       --print-capabilities | --help | --version";
    const char *path = NULL;
    bool is_known = true;
    int fd = -1, option;

    if (open_standard_streams() < 0)
        return EXIT_FAILURE;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--print-capabilities") == 0) /* regardless of other arguments */
            return show("{\"type\": \"rng\", \"features\": []}");
    }
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's')
            path = optarg;
        else if (option == 'f')
            fd = atoi(optarg);
        else if (option == 'h')
            return show(usage);
        else if (option == 'v')
            return show("godwit-rng " GW_VERSION_STRING);
        else
            is_known = false;
    }
    if (!is_known || optind < argc || (path == NULL) == (fd < 0)) {
        fprintf(stderr, "%s\n", usage);
        return EX_USAGE;
    }
    return serve(path, fd);
}
