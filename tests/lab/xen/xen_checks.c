/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Checks in dom0, with a disk that a back-end there serves to a domU: requests that the agent in
 * the domU verifies, while regions are added and removed; invalid memory; grants revoked while in
 * use; and a domain destroyed under load.
 *
 *     xen_checks DOMID foreign|grant|no-advance SOCKET STEP...
 *
 * After each step the back-end must serve the next session. Exit status 1 if a check failed.
 */
#include "base/proto.h"
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NO_DOMAIN 999u
#define NO_REF    30000u /* in the table of a small domain, but never granted */
#define BEYOND    0x3ffffff0u
#define STATUS_OK 0

static void pause_ms(unsigned ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l};

    nanosleep(&t, NULL);
}

static const char *form_name(enum xen_form form)
{
    static const char *const names[] = {"foreign", "grant", "no-advance"};

    return names[form];
}

/* ---- Steps ---- */

static void step_io(struct fixture *b)
{
    fixture_exchange(b, 300);
    check(true, "%s: 300 requests, verified in the domU", form_name(b->form));
}

/*
 * Memory that dom0 uses for each page mapped by the back-end. The first time includes memory that
 * the kernel keeps for later.
 */
static void step_memory(struct fixture *b)
{
    int64_t per_page = b->taken / (int64_t)(b->memory / XEN_PAGE);

    check(per_page < 1024, "%s: %" PRId64 " bytes for each of %" PRIu64 " pages",
          form_name(b->form), per_page, b->memory / XEN_PAGE);
    fixture_exchange(b, 50);
}

/* Remove the unused region, add it and remove it again, while the load runs. */
static void step_region(struct fixture *b)
{
    struct xen_stats before, after;
    int r;

    fixture_begin(b);
    r = gw_frontend_rem_mem_reg(b->fe, b->mem, b->spare);
    check(r == 0, "a region is removed under load%s", r ? gw_frontend_last_error() : "");
    r = gw_frontend_rem_mem_reg(b->fe, b->mem, b->spare);
    check(r == -EREMOTEIO, "it cannot be removed twice (%s)", strerror(-r));
    r = gw_frontend_add_mem_reg(b->fe, b->mem, b->spare);
    check(r == 0, "it is added again under load%s", r ? gw_frontend_last_error() : "");
    fixture_rest(b);
    check(fixture_write_from(b, b->spare + 8) == STATUS_OK, "a request with data in it");
    xen_guest_stats(b->guest, false, &before);
    fixture_exchange(b, 50);
    xen_guest_stats(b->guest, false, &after);
    check(after.requests > before.requests, "and the load continues");
}

/* ---- Invalid memory ---- */

static const struct bad_region {
    const char *what;
    uint64_t number; /* of the first page */
    bool is_grant;   /* bit 63 is set */
    uint32_t xen, domid;
    bool may_come; /* accepted, but requests in it fail */
} bad_regions[] = {
    {"foreign and granted", NO_REF, true, GW_GUEST_XEN_FOREIGN | GW_GUEST_XEN_GRANT, 0, false},
    {"foreign, not in advance", NO_REF, false, GW_GUEST_XEN_FOREIGN | GW_GUEST_XEN_NO_ADVANCE, 0,
     false},
    {"not in advance, and nothing else", NO_REF, true, GW_GUEST_XEN_NO_ADVANCE, 0, false},
    {"an unknown flag", NO_REF, true, GW_GUEST_XEN_GRANT | 0x40, 0, false},
    {"granted, without bit 63", NO_REF, false, GW_GUEST_XEN_GRANT, 0, false},
    {"foreign, with bit 63", NO_REF, true, GW_GUEST_XEN_FOREIGN, 0, false},
    {"foreign frames of no domain", 0x1000, false, GW_GUEST_XEN_FOREIGN, NO_DOMAIN, false},
    {"grants of no domain", NO_REF, true, GW_GUEST_XEN_GRANT, NO_DOMAIN, false},
    {"references that grant nothing", NO_REF, true, GW_GUEST_XEN_GRANT, 0, false},
    {"references beyond the table", BEYOND, true, GW_GUEST_XEN_GRANT, 0, false},
    {"frames beyond all memory", BEYOND, false, GW_GUEST_XEN_FOREIGN, 0, true},
    {"the same, not in advance", NO_REF, true, GW_GUEST_XEN_GRANT | GW_GUEST_XEN_NO_ADVANCE, 0,
     true},
    {"beyond, not in advance", BEYOND, true, GW_GUEST_XEN_GRANT | GW_GUEST_XEN_NO_ADVANCE, 0, true},
};

static void one_bad_region(struct fixture *b, const struct bad_region *bad)
{
    static char host[4 * XEN_PAGE];
    struct gw_guest_region region = {
        .kind = GW_GUEST_MAPPED,
        .gpa = bad->number * XEN_PAGE | (bad->is_grant ? XEN_GRANT : 0),
        .length = sizeof(host),
        .host = host,
        .xen = bad->xen,
        .domid = bad->domid ? bad->domid : b->domid,
    };
    struct gw_guest_mem *m;
    uint8_t status;
    int r = gw_guest_mem_new(&m, GW_GUEST_UVA_HOST);

    region.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    must(r == 0 && region.fd >= 0 && gw_guest_mem_add(m, &region) == 0, "a region");
    r = gw_frontend_add_mem_reg(b->fe, m, region.gpa);
    if (r == 0 && bad->may_come) {
        status = fixture_write_from(b, region.gpa + 16);
        check(status != STATUS_OK, "%s: accepted, and a request with data there fails (%#x)",
              bad->what, status);
        status = fixture_read_into(b, region.gpa + 16);
        check(status != STATUS_OK, "  a read into it fails, too (%#x)", status);
        r = gw_frontend_rem_mem_reg(b->fe, m, region.gpa);
        check(r == 0, "  and it can be removed");
    } else {
        check(r == -EREMOTEIO, "%s: refused (%s)", bad->what, r ? strerror(-r) : "accepted");
    }
    close(region.fd);
    gw_guest_mem_free(m);
}

/* The front-end library refuses to send such a region. */
static void enormous_region(struct fixture *b, uint32_t flags, uint64_t gpa, unsigned bits)
{
    struct gw_wire_xen_single_region wire = {
        .region = {.region = {.guest_addr = gpa, .size = UINT64_C(1) << bits, .user_addr = 1 << 20},
                   .flags = flags,
                   .domid = b->domid},
    };
    struct gw_frontend_message answer;
    uint64_t value = 0;
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    int r = gw_frontend_send_raw(b->fe, GW_MSG_ADD_MEM_REG, 0x9, sizeof(wire), &wire, sizeof(wire),
                                 &fd, 1);

    close(fd);
    if (r == 0)
        r = gw_frontend_receive(b->fe, &answer, FIXTURE_STALL);
    must(r == 0, "an answer to a region of 2^%u bytes: %s", bits, strerror(-r));
    memcpy(&value, answer.payload, sizeof(value));
    check(answer.size == sizeof(value) && value != 0, "2^%u bytes, flags %#x: refused", bits,
          flags);
    gw_frontend_message_done(&answer);
}

static void step_bad(struct fixture *b)
{
    for (size_t i = 0; i < sizeof(bad_regions) / sizeof(bad_regions[0]); i++)
        one_bad_region(b, &bad_regions[i]);
    enormous_region(b, GW_GUEST_XEN_FOREIGN, 0, 63);
    enormous_region(b, GW_GUEST_XEN_GRANT, XEN_GRANT, 63);
    check(fixture_write_from(b, UINT64_C(1) << 50) != STATUS_OK,
          "a request outside of memory fails");
    check(fixture_read_into(b, UINT64_C(1) << 50) != STATUS_OK, "a read into it fails, too");
    check(fixture_write_from(b, b->spare) == STATUS_OK &&
              fixture_read_into(b, b->spare) == STATUS_OK,
          "and requests in memory succeed");
    fixture_exchange(b, 50);
}

/*
 * The frames could exist, so the back-end checks them, but must not take as long as checking all
 * would.
 */
static void step_vast(struct fixture *b)
{
    enormous_region(b, GW_GUEST_XEN_FOREIGN, UINT64_C(1) << 43, 42);
}

/* ---- Revoked grants ---- */

/* Add a region again, from memory that does not belong to the domain. */
static int add_again(struct fixture *b, const struct gw_guest_region *region,
                     struct gw_guest_mem **ret)
{
    static char host[FIXTURE_SPARE * XEN_PAGE];
    struct gw_guest_region copy = *region;
    int r = gw_guest_mem_new(ret, GW_GUEST_UVA_HOST);

    copy.host = host;
    copy.fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    must(r == 0 && copy.fd >= 0 && gw_guest_mem_add(*ret, &copy) == 0, "a region");
    close(copy.fd);
    return gw_frontend_add_mem_reg(b->fe, *ret, copy.gpa);
}

static struct gw_guest_region find_region(struct fixture *b, gw_gpa_t gpa)
{
    struct gw_guest_region region = {0};

    for (unsigned i = 0; gw_guest_mem_region(b->mem, i, &region) == 0 && region.gpa != gpa; i++)
        ;
    must(region.gpa == gpa, "a region");
    return region;
}

/*
 * The domain revokes the grants of the spare region while the load runs. Existing mappings stay
 * until the region is removed; new ones fail. Xen may take some time.
 */
static void step_revoke(struct fixture *b)
{
    struct gw_guest_region region = find_region(b, b->spare);
    struct gw_guest_mem *again = NULL;
    bool refused = false;
    int r;

    fixture_begin(b);
    r = xen_guest_revoke(b->guest, b->spare);
    must(r == 0, "%s", xen_guest_error(b->guest));
    fixture_rest(b);
    if (b->form == XEN_FORM_GRANT)
        check(fixture_write_from(b, b->spare + 16) == STATUS_OK,
              "revoked, but mapped in advance: still usable");
    r = gw_frontend_rem_mem_reg(b->fe, b->mem, b->spare);
    check(r == 0, "a region of revoked grants is removed");
    r = xen_guest_remove(b->guest, b->spare);
    must(r == 0, "%s", xen_guest_error(b->guest));
    for (unsigned i = 0; i < 50 && !refused; i++) {
        pause_ms(100);
        r = add_again(b, &region, &again);
        refused = r == -EREMOTEIO;
        if (r == 0 && b->form == XEN_FORM_NO_ADVANCE)
            refused = fixture_write_from(b, b->spare + 16) != STATUS_OK &&
                      fixture_read_into(b, b->spare + 16) != STATUS_OK;
        if (r == 0)
            gw_frontend_rem_mem_reg(b->fe, again, b->spare);
        gw_guest_mem_free(again);
    }
    check(refused, "revoked grants cannot be mapped again");
    fixture_exchange(b, 50);
}

/* ---- End of the domain ---- */

static bool wait_hangup(struct fixture *b, unsigned ms)
{
    struct pollfd p = {.fd = gw_frontend_fd(b->fe), .events = POLLRDHUP};

    return poll(&p, 1, (int)ms) == 1;
}

static int xl(const char *what, uint32_t domid)
{
    char command[80];

    snprintf(command, sizeof(command), "xl %s %" PRIu32 " >/dev/null 2>&1", what, domid);
    return system(command);
}

static void step_destroy(struct fixture *b)
{
    uint64_t features;
    bool is_gone = false;
    int r;

    fixture_begin(b);
    pause_ms(300);
    r = xl("destroy", b->domid);
    check(r == 0, "the domain is destroyed under load");
    r = xen_link_wait(xen_guest_link(b->guest));
    check(r == -EHOSTDOWN, "the tool sees it: %s", xen_guest_error(b->guest));
    check(wait_hangup(b, 20000), "the back-end ends the session");
    fixture_drop(b);
    for (unsigned i = 0; i < 100 && !is_gone; i++) {
        is_gone = xl("list", b->domid) != 0;
        if (!is_gone)
            pause_ms(100);
    }
    check(is_gone, "all of its memory is freed");
    r = gw_frontend_new(&b->fe, NULL);
    if (r == 0)
        r = gw_frontend_connect(b->fe, b->socket);
    if (r == 0)
        r = gw_frontend_get_features(b->fe, &features);
    check(r == 0, "the back-end serves the next");
    gw_frontend_free(b->fe);
    b->fe = NULL;
}

static const struct step {
    const char *name;
    void (*run)(struct fixture *b);
    uint64_t memory; /* guest memory size; 0: default */
} steps[] = {
    {"io", step_io, 0},         {"region", step_region, 0},   {"bad", step_bad, 0},
    {"revoke", step_revoke, 0}, {"destroy", step_destroy, 0}, {"memory", step_memory, 32u << 20},
    {"vast", step_vast, 0},
};

static void run_step(struct fixture *b, const char *name)
{
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        if (strcmp(name, steps[i].name) != 0)
            continue;
        printf("%s: domain %" PRIu32 ", %s\n", name, b->domid, form_name(b->form));
        b->memory = steps[i].memory;
        fixture_open(b);
        steps[i].run(b);
        if (b->fe)
            fixture_close(b);
        return;
    }
    must(false, "there is no step %s", name);
}

int main(int argc, char **argv)
{
    struct fixture b = {0};
    bool is_known = false;

    if (argc < 5)
        return 2;
    b.domid = (uint32_t)strtoul(argv[1], NULL, 10);
    b.socket = argv[3];
    for (unsigned i = XEN_FORM_FOREIGN; i <= XEN_FORM_NO_ADVANCE && !is_known; i++) {
        b.form = (enum xen_form)i;
        is_known = strcmp(argv[2], form_name(b.form)) == 0;
    }
    must(is_known, "memory cannot be %s", argv[2]);
    for (int i = 4; i < argc; i++)
        run_step(&b, argv[i]);
    return check_failures() ? EXIT_FAILURE : EXIT_SUCCESS;
}
