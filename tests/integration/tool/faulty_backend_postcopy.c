/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The faulty back-end in postcopy: it reports its faults to the front-end, correctly or not. */
#include "faulty_backend.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096u

int faulty_backend_advise(struct faulty_backend *s)
{
    struct uffdio_api api = {.api = UFFD_API};
    int fd;

    faulty_backend_forget_faults(s);
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

uint64_t faulty_backend_show(struct faulty_backend *s, const struct faulty_backend_region *g)
{
    struct uffdio_register reg = {
        .range = {.start = (uintptr_t)g->map, .len = g->map_len},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };

    if (s->fault == FAULTY_NOT_REGISTERED)
        touch(g->map, g->map_len);
    else
        ioctl(s->uffd, UFFDIO_REGISTER, &reg);
    return s->fault == FAULTY_OTHER_ADDRESSES ? g->uva : (uintptr_t)g->host;
}

void faulty_backend_forget_faults(struct faulty_backend *s)
{
    /* The caller may be another thread, while the faulty back-end's thread waits for a page. */
    int fd = __atomic_exchange_n(&s->uffd, -1, __ATOMIC_ACQ_REL);

    if (fd >= 0)
        close(fd);
}

bool faulty_backend_is_lost(const struct faulty_backend *s)
{
    bool is_lost = s->is_listening &&
                   (s->fault == FAULTY_NOT_REGISTERED || s->fault == FAULTY_OTHER_ADDRESSES);

    /* Check more than the ring: the driver may have had the ring's page sent before. */
    for (unsigned i = 0; is_lost && i < s->n_regions; i++)
        touch(s->regions[i].map, s->regions[i].map_len);
    return is_lost;
}
