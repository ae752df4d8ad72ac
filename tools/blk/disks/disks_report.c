/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What the disks do, for people: counters and states on SIGUSR1, and what is stuck at the end. */
#include "disks_i.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

/* Limit for naming what is stuck, because each disk may take 200 ms. */
#define STUCK_MS 400

bool disks_have_daemon(const struct disk *disk)
{
    return disk->state == DISK_SERVING || disk->state == DISK_STOPPING ||
           disk->state == DISK_DRAINING;
}

void disks_summarize(const struct disks *all, struct disks_summary *ret)
{
    memset(ret, 0, sizeof(*ret)); /* also the padding: summaries are compared */
    for (const struct disk *disk = all->first; disk != NULL; disk = disk->next) {
        switch (disk->state) {
        case DISK_WAITING:
        case DISK_OPENING:
            ret->n_opening++;
            break;
        case DISK_SERVING:
            ret->n_serving++;
            break;
        case DISK_DRAINING:
            ret->n_draining++;
            ret->n_stopping++;
            break;
        case DISK_STOPPING:
        case DISK_CLOSING:
            ret->n_stopping++;
            break;
        case DISK_FAILED:
            ret->n_failed++;
            memcpy(ret->failed, disk->options->name, sizeof(ret->failed));
            break;
        case DISK_ENDED:
            ret->n_ended++;
            break;
        }
        ret->n_untried += !disk->has_been_tried;
    }
}

static int name_width(const struct disks *all)
{
    size_t width = strlen("disk");

    for (const struct disk *disk = all->first; disk != NULL; disk = disk->next) {
        size_t length = strlen(disk->options->name);

        width = length > width ? length : width;
    }
    return (int)width;
}

static void print_states(const struct disks *all, int width, FILE *out)
{
    fprintf(out, "%-*s state\n", width, "disk");
    for (const struct disk *disk = all->first; disk != NULL; disk = disk->next) {
        fprintf(out, "%-*s ", width, disk->options->name);
        disk_print_state(disk, out);
        fputc('\n', out);
    }
}

static void print_counters(const struct disks *all, int width, FILE *out)
{
    backend_report_heading(out, width);
    for (const struct disk *disk = all->first; disk != NULL; disk = disk->next) {
        const struct disk_options *o = disk->options;

        if (disks_have_daemon(disk))
            backend_report_queues(out, width, o->name, disk->daemon, o->device.num_queues);
    }
    for (const struct disk *disk = all->first; disk != NULL; disk = disk->next) {
        if (!disks_have_daemon(disk))
            continue;
        if (width > 0 && disk->options->ram == 0)
            fprintf(out, "%s: ", disk->options->name);
        disk->store->ops->report(disk->store, out);
    }
}

void disks_report(struct disks *all)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size); /* one write: a message cannot split the table */
    int width;

    if (out == NULL)
        return;
    pthread_mutex_lock(&all->lock);
    width = all->cfg.single != NULL ? 0 : name_width(all);
    if (width > 0)
        print_states(all, width, out);
    print_counters(all, width, out);
    pthread_mutex_unlock(&all->lock);
    if (fclose(out) == 0)
        fputs(text, stderr);
    free(text);
}

void disks_count_requests(struct disks *all, uint64_t *ret_in_flight, uint64_t *ret_answered)
{
    *ret_in_flight = *ret_answered = 0;
    for (const struct disk *disk = all->first; disk != NULL; disk = disk->next)
        if (disks_have_daemon(disk))
            disk_count(disk, ret_in_flight, ret_answered);
}

/* [lock] Returns: the number of bytes that describe why the disk has not been closed yet. */
static int describe(const struct disk *disk, char *text, size_t size)
{
    const char *name = disk->options->name;
    char stuck[300] = "its session has not ended";

    if (disks_have_daemon(disk))
        (void)gw_daemon_find_stuck(disk->daemon, stuck, sizeof(stuck));
    else if (disk->state == DISK_OPENING)
        snprintf(stuck, sizeof(stuck), "the disk is still being opened");
    else
        snprintf(stuck, sizeof(stuck), "the disk is still being closed");
    return snprintf(text, size, "%s%s%s", name, *name != '\0' ? ": " : "", stuck);
}

void disks_find_stuck(struct disks *all, char *text, size_t size)
{
    uint64_t begun_ms = gw_clock_ms();
    size_t used = 0;

    snprintf(text, size, "the program is still %s", all->first != NULL ? "busy" : "ending");
    pthread_mutex_lock(&all->lock);
    for (const struct disk *disk = all->first; disk != NULL; disk = disk->next) {
        if (used >= size || gw_clock_ms() - begun_ms > STUCK_MS)
            break;
        if (used > 0)
            used += (size_t)snprintf(text + used, size - used, "; ");
        if (used < size)
            used += (size_t)describe(disk, text + used, size - used);
    }
    pthread_mutex_unlock(&all->lock);
}
