/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The subset of the FUSE protocol (linux/fuse.h) that one file needs. */
#include "held_file.h"

#include "requires.h"

#include <linux/fuse.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum {
    FILE_NODE = 2,
    REQUEST_MAX = 1 << 18,
    DATA_MAX = 1 << 17
};

struct held_file {
    uint64_t size;
    int fuse_fd, fd;
    pid_t pid; /* the server's; 0: the server has ended */
    _Atomic bool holds;
    _Atomic unsigned n_waiting;
    _Alignas(8) char request[REQUEST_MAX];
};

static void die(const char *what)
{
    perror(what);
    abort();
}

static void answer(struct held_file *f, uint64_t unique, int error, const void *data, size_t len)
{
    static char out[sizeof(struct fuse_out_header) + DATA_MAX];
    const struct fuse_out_header header = {
        .len = (uint32_t)(sizeof(header) + len), .error = error, .unique = unique};

    memcpy(out, &header, sizeof(header));
    if (len > 0)
        memcpy(out + sizeof(header), data, len);
    (void)!write(f->fuse_fd, out, header.len); /* ENOENT: the caller was interrupted */
}

static struct fuse_attr attr_of(const struct held_file *f, uint64_t node)
{
    return (struct fuse_attr){
        .ino = node,
        .size = node == FILE_NODE ? f->size : 0,
        .mode = node == FILE_NODE ? S_IFREG | 0600 : S_IFDIR | 0700,
        .nlink = 1,
        .blksize = 4096,
    };
}

static void serve_init(struct held_file *f, const struct fuse_in_header *in)
{
    const struct fuse_init_in *init = (const void *)(in + 1);
    const struct fuse_init_out out = {
        .major = FUSE_KERNEL_VERSION,
        .minor = init->minor < FUSE_KERNEL_MINOR_VERSION ? init->minor : FUSE_KERNEL_MINOR_VERSION,
        .max_readahead = init->max_readahead,
        .max_write = 4096,
    };

    answer(f, in->unique, 0, &out, sizeof(out));
}

static void serve_read(struct held_file *f, const struct fuse_in_header *in)
{
    static const char zeroes[DATA_MAX];
    const struct fuse_read_in *read_in = (const void *)(in + 1);

    answer(f, in->unique, 0, zeroes, read_in->size < DATA_MAX ? read_in->size : DATA_MAX);
}

static void serve(struct held_file *f, const struct fuse_in_header *in)
{
    const struct fuse_attr_out attr = {.attr = attr_of(f, in->nodeid)};
    const struct fuse_entry_out entry = {.nodeid = FILE_NODE, .attr = attr_of(f, FILE_NODE)};
    const struct fuse_open_out open_out = {.fh = 1};
    const struct fuse_write_in *write_in = (const void *)(in + 1);
    struct fuse_write_out written;

    switch (in->opcode) {
    case FUSE_INIT:
        serve_init(f, in);
        break;
    case FUSE_LOOKUP:
        answer(f, in->unique, 0, &entry, sizeof(entry));
        break;
    case FUSE_GETATTR:
        answer(f, in->unique, 0, &attr, sizeof(attr));
        break;
    case FUSE_OPEN:
        answer(f, in->unique, 0, &open_out, sizeof(open_out));
        break;
    case FUSE_READ:
        serve_read(f, in);
        break;
    case FUSE_WRITE:
        written = (struct fuse_write_out){.size = write_in->size};
        answer(f, in->unique, 0, &written, sizeof(written));
        break;
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_FSYNC:
        answer(f, in->unique, 0, NULL, 0);
        break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        break; /* these requests have no reply */
    default:
        answer(f, in->unique, -ENOSYS, NULL, 0);
        break;
    }
}

static bool waits_for_answer(const struct fuse_in_header *in)
{
    return in->opcode != FUSE_FORGET && in->opcode != FUSE_BATCH_FORGET &&
           in->opcode != FUSE_INTERRUPT && in->opcode != FUSE_RELEASE;
}

__attribute__((noreturn)) static void serve_main(struct held_file *f)
{
    for (;;) {
        ssize_t n = read(f->fuse_fd, f->request, sizeof(f->request));
        const struct fuse_in_header *in = (const void *)f->request;

        if (n < 0 && errno == ENODEV)
            _exit(0);
        if (n < (ssize_t)sizeof(*in))
            continue;
        if (!f->holds)
            serve(f, in);
        else if (waits_for_answer(in))
            f->n_waiting++;
    }
}

/*
 * The server is a separate process: a caller that waits for it cannot even be killed, but when the
 * server dies, the kernel fails all requests. The server dies with the test.
 */
static void start_server(struct held_file *f)
{
    pid_t parent = getpid(), pid = fork();

    if (pid < 0)
        die("fork");
    if (pid == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
            _exit(1);
        /* Close all other inherited fds: an open copy here would keep the test's sockets alive. */
        if (f->fuse_fd > 0)
            (void)close_range(0, (unsigned)f->fuse_fd - 1, 0);
        (void)close_range((unsigned)f->fuse_fd + 1, ~0U, 0);
        serve_main(f);
    }
    f->pid = pid;
    close(f->fuse_fd);
}

static int mount_at(const char *point, int fuse_fd)
{
    char options[128];

    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%u,group_id=%u", fuse_fd,
             geteuid(), getegid());
    return mount("held", point, "fuse.held", MS_NOSUID | MS_NODEV, options);
}

void requires_held_file(void)
{
    char point[] = "/tmp/godwit-held-XXXXXX";
    int fd;

    if (is_under_valgrind())
        skip_test("valgrind lets no other thread run while one sleeps in close(2)");
    fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        skip_test("/dev/fuse: %s", strerror(errno));
    if (!mkdtemp(point))
        skip_test("mkdtemp: %s", strerror(errno));
    if (mount_at(point, fd) < 0) {
        int e = errno;

        (void)rmdir(point);
        skip_test("cannot mount a FUSE file system: %s", strerror(e));
    }
    (void)umount2(point, MNT_DETACH);
    (void)rmdir(point);
    close(fd);
}

struct held_file *held_file_new(uint64_t size)
{
    struct held_file *f =
        mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char point[] = "/tmp/godwit-held-XXXXXX", path[64];

    if (f == MAP_FAILED)
        die("mmap");
    f->size = size;
    f->fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (f->fuse_fd < 0 || !mkdtemp(point) || mount_at(point, f->fuse_fd) < 0)
        die("a FUSE file system");
    start_server(f);
    snprintf(path, sizeof(path), "%s/file", point);
    f->fd = open(path, O_RDWR | O_CLOEXEC);
    if (f->fd < 0)
        die(path);
    if (umount2(point, MNT_DETACH) < 0 || rmdir(point) < 0)
        die(point);
    return f;
}

int held_file_dup(const struct held_file *f)
{
    return fcntl(f->fd, F_DUPFD_CLOEXEC, 0);
}

void held_file_hold(struct held_file *f)
{
    f->holds = true;
}

unsigned held_file_n_waiting(const struct held_file *f)
{
    return f->n_waiting;
}

void held_file_end_server(struct held_file *f)
{
    if (f->pid > 0) {
        (void)kill(f->pid, SIGKILL);
        (void)waitpid(f->pid, NULL, 0);
    }
    f->pid = 0;
}

void held_file_free(struct held_file *f)
{
    held_file_end_server(f);
    close(f->fd);
    (void)munmap(f, sizeof(*f));
}
