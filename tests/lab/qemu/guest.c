/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The program inside the laboratory's guest, one for each disk. Its argument is the name of the
 * disk (vda). It reads commands from stdin, one per line, and answers each with one line on stdout
 * that begins with the command's name. A line that begins with "fail" may appear at any time and
 * ends the program.
 *
 *     start SEED BLOCKS rw|ro   starts verified I/O on the first BLOCKS blocks
 *     stat                      prints counters
 *     online BYTES              puts plugged memory online and moves the buffers there
 *     offline                   puts the plugged memory offline during I/O
 *     spin                      keeps every CPU busy
 *     hoard SEED FIRST BLOCKS MIB
 *                               starts to read these blocks of the disk into MIB of memory
 *     inspect                   verifies that memory, then continues to read
 *     window open|closed        enables or disables the memory of a device
 *     entropy DEVICE RECORDS    reads and verifies records of an entropy device
 *     stop                      stops the I/O, verifies every block, stores the generations
 *     poweroff                  gives no answer
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"

static bool has_discard, has_zeroes;

/* Interrupts of a request queue so far, on all CPUs. */
static unsigned long count_interrupts(unsigned queue)
{
    FILE *f = fopen("/proc/interrupts", "re");
    char line[1024], name[32];
    unsigned long sum = 0;

    if (f == NULL)
        return 0;
    snprintf(name, sizeof(name), "-req.%u\n", queue);
    while (fgets(line, sizeof(line), f) != NULL) {
        char *p = strchr(line, ':');

        if (p == NULL || strstr(line, name) == NULL)
            continue;
        for (unsigned cpu = 0; cpu < count_cpus(); cpu++)
            sum += strtoul(p + 1, &p, 10);
    }
    fclose(f);
    return sum;
}

/* --- commands --------------------------------------------------------------------------------- */

static void do_start(const char *args)
{
    uint64_t seed, blocks;
    char mode[8];

    if (sscanf(args, "%" SCNu64 " %" SCNu64 " %7s", &seed, &blocks, mode) != 3)
        fail("bad start command '%s'", args);
    io_start(seed, blocks, strcmp(mode, "ro") == 0, has_discard, has_zeroes);
    answer("start ok");
}

static void do_stat(const char *args)
{
    (void)args;
    char each[GUEST_CPUS_MAX * 64] = "";
    struct io_counters c;
    int n = 0;

    io_count(&c);
    for (unsigned i = 0; i < count_cpus(); i++)
        n += snprintf(each + n, sizeof(each) - (size_t)n, " cpu%u=%lu irq%u=%lu", i, c.cpus[i], i,
                      count_interrupts(i));
    answer("stat requests=%lu reads=%lu writes=%lu blocks=%lu flushes=%lu zeroed=%lu discarded=%lu "
           "plugged=%lu%s",
           c.reads + c.writes, c.reads, c.writes, c.blocks, c.flushes, c.zeroed, c.discarded,
           c.plugged, each);
}

static void do_online(const char *args)
{
    unsigned long before = io_count_requests();
    unsigned n = memory_online(strtoull(args, NULL, 10));
    uint64_t begin, end;

    memory_plugged_range(&begin, &end);
    io_renew_buffers();
    answer("online ok blocks=%u begin=0x%" PRIx64 " end=0x%" PRIx64 " requests=%lu", n, begin, end,
           io_count_requests() - before);
}

static void do_offline(const char *args)
{
    (void)args;
    unsigned long before = io_count_requests();
    int r = memory_offline();

    if (r < 0)
        answer("offline refused: %s", strerror(-r));
    else
        answer("offline ok blocks=%d requests=%lu", r, io_count_requests() - before);
}

static void do_spin(const char *args)
{
    (void)args;
    spin_start();
    answer("spin ok");
}

static void do_hoard(const char *args)
{
    uint64_t seed, first, blocks, mib;

    if (sscanf(args, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &seed, &first, &blocks,
               &mib) != 4)
        fail("bad hoard command '%s'", args);
    hoard_start(seed, first, blocks, mib << 20);
    answer("hoard ok huge=%u", hoard_huge_mib());
}

static void do_inspect(const char *args)
{
    unsigned long n_requests, n_blocks = hoard_inspect(&n_requests);

    (void)args;
    answer("inspect ok blocks=%lu requests=%lu", n_blocks, n_requests);
}

static void do_window(const char *args)
{
    window_set(strcmp(args, "open") == 0);
    answer("window ok");
}

static void do_entropy(const char *args)
{
    unsigned device;
    unsigned long records;
    uint32_t seed, last;

    if (sscanf(args, "%u %lu", &device, &records) != 2)
        fail("bad entropy command '%s'", args);
    seed = entropy_read(device, records, &last);
    answer("entropy ok seed=%" PRIu32 " last=%" PRIu32, seed, last);
}

static void do_stop(const char *args)
{
    (void)args;
    answer("stop ok crc=%" PRIu32, io_stop());
}

static const struct {
    const char *name;
    void (*run)(const char *args);
} commands[] = {
    {"start", do_start},     {"stat", do_stat}, {"online", do_online},   {"offline", do_offline},
    {"hoard", do_hoard},     {"spin", do_spin}, {"inspect", do_inspect}, {"window", do_window},
    {"entropy", do_entropy}, {"stop", do_stop},
};

static void run_command(char *line)
{
    char *args = strchr(line, ' ');

    if (args != NULL)
        *args++ = '\0';
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(line, commands[i].name) == 0) {
            commands[i].run(args != NULL ? args : "");
            return;
        }
    }
    fail("unknown command '%s'", line);
}

/* --- start ------------------------------------------------------------------------------------ */

/* The features file of a virtio device has one character per bit, bit 0 first. */
static uint64_t read_features(void)
{
    char bits[80] = "";
    uint64_t features = 0;

    if (read_line(disk_file("device/features"), bits, sizeof(bits)) < 0)
        fail("the disk's features cannot be read");
    for (unsigned i = 0; i < 64 && bits[i] != '\0'; i++)
        if (bits[i] == '1')
            features |= UINT64_C(1) << i;
    return features;
}

static void describe_disk(void)
{
    char serial[64] = "";

    for (unsigned i = 0; i < 100 && access(disk_node(), F_OK) < 0; i++)
        usleep(100000);
    if (access(disk_node(), F_OK) < 0)
        fail("no disk appeared");
    has_discard = read_number(disk_file("queue/discard_max_bytes"), 10) > 0;
    has_zeroes = read_number(disk_file("queue/write_zeroes_max_bytes"), 10) > 0;
    read_line(disk_file("serial"), serial, sizeof(serial));
    answer("ready capacity=%" PRIu64 " queues=%u ro=%u discard=%d zeroes=%d features=0x%" PRIx64
           " serial=%s",
           read_number(disk_file("size"), 10), count_entries(disk_file("mq")),
           (unsigned)read_number(disk_file("ro"), 10), has_discard, has_zeroes, read_features(),
           serial);
}

int main(int argc, char **argv)
{
    char line[256];

    if (argc > 1)
        disk_name = argv[1];
    memory_init();
    describe_disk();
    while (fgets(line, sizeof(line), stdin) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        if (strcmp(line, "poweroff") == 0)
            return 0;
        run_command(line);
    }
    return 0;
}
