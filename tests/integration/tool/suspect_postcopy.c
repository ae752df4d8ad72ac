/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The suspect in postcopy: it reports its faults to the front-end, correctly or not. */
#include "suspect.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096u

int suspect_advise(struct suspect *s)
{
    struct uffdio_api api = {.api = UFFD_API};
    int fd;

    suspect_forget_faults(s);
    fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) < 0) {
        close(fd);
        fd = -1;
    }
    __atomic_store_n(&s->uffd, fd, __ATOMIC_RELEASE);
    return fd;
}

static void touch(const volatile uint8_t *at, uint64_t len)
{
    for (uint64_t i = 0; i < len; i += PAGE)
        (void)at[i];
}

uint64_t suspect_show(struct suspect *s, const struct suspect_region *g)
{
    struct uffdio_register reg = {
        .range = {.start = (uintptr_t)g->map, .len = g->map_len},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };

    if (s->guilt == SUSPECT_NOT_REGISTERED)
        touch(g->map, g->map_len);
    else
        ioctl(s->uffd, UFFDIO_REGISTER, &reg);
    return s->guilt == SUSPECT_OTHER_ADDRESSES ? g->uva : (uintptr_t)g->host;
}

void suspect_forget_faults(struct suspect *s)
{
    /* The caller may be another thread, while the suspect's thread waits for a page. */
    int fd = __atomic_exchange_n(&s->uffd, -1, __ATOMIC_ACQ_REL);

    if (fd >= 0)
        close(fd);
}

bool suspect_is_lost(const struct suspect *s)
{
    bool is_lost = s->is_listening &&
                   (s->guilt == SUSPECT_NOT_REGISTERED || s->guilt == SUSPECT_OTHER_ADDRESSES);

    /* Check more than the ring: the driver may have had the ring's page sent before. */
    for (unsigned i = 0; is_lost && i < s->n_regions; i++)
        touch(s->regions[i].map, s->regions[i].map_len);
    return is_lost;
}
