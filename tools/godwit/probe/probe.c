/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * godwit probe: queries a back-end in the order of a VMM's start, and stops before anything affects
 * the device. No message returns the size of the config space, so it is found by bisection: a
 * back-end rejects a length beyond its config space (but some accept any length).
 */
#include "probe.h"

#include "command.h"
#include "html/page.h"
#include "options.h"
#include "output.h"
#include "report/json.h"
#include "text.h"

#include "base/proto.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_SLOTS 8

struct probe_options {
    struct target_options target;
    const char *text; /* socket path or command line */
    const char *device;
    const char *json; /* report file, "-" for stdout; NULL: print a table */
    const char *html; /* the same as a page; NULL: none */
    enum text_color color;
    char *command_line; /* repeats the run; NULL: out of memory */
    bool needs_migration;
};

static bool has_protocol(const struct probe *p, unsigned bit)
{
    return p->protocol_features & FEATURES_BIT(bit);
}

/* Acknowledge only the features that the queries need. */
static int ask_protocol(struct gw_frontend *fe, struct probe *p)
{
    const uint64_t used = FEATURES_BIT(GW_PROTOCOL_F_MQ) | FEATURES_BIT(GW_PROTOCOL_F_REPLY_ACK) |
                          FEATURES_BIT(GW_PROTOCOL_F_CONFIG) |
                          FEATURES_BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
    int r = gw_frontend_get_protocol_features(fe, &p->protocol_features);

    if (r == 0)
        r = gw_frontend_set_protocol_features(fe, p->protocol_features & used);
    if (r == 0 && has_protocol(p, GW_PROTOCOL_F_MQ)) {
        p->has_queue_num = true;
        r = gw_frontend_get_queue_num(fe, &p->n_queues);
    }
    if (r == 0 && has_protocol(p, GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) {
        p->has_slots = true;
        r = gw_frontend_get_max_mem_slots(fe, &p->n_slots);
    }
    return r;
}

static int ask_config(struct gw_frontend *fe, struct probe *p)
{
    unsigned low = 0,
             high = PROBE_CONFIG_MAX; /* low is accepted, everything above high is rejected */
    uint8_t buf[PROBE_CONFIG_MAX];

    p->has_config = true;
    while (low < high) {
        unsigned len = low == 0 && high == PROBE_CONFIG_MAX ? high : (low + high + 1) / 2;
        int r = gw_frontend_get_config(fe, 0, buf, len);

        if (r == 0) {
            low = p->config_len = len;
            memcpy(p->config, buf, len);
        } else if (r == -EREMOTEIO) {
            high = len - 1;
        } else {
            return r;
        }
    }
    return 0;
}

int probe_ask(struct gw_frontend *fe, struct probe *p)
{
    int r = gw_frontend_get_features(fe, &p->features);

    p->n_queues = 1;
    p->n_slots = TABLE_SLOTS;
    if (r == 0 && p->features & FEATURES_BIT(GW_F_PROTOCOL_FEATURES))
        r = ask_protocol(fe, p);
    if (r == 0)
        r = gw_frontend_set_owner(fe);
    if (r == 0 && has_protocol(p, GW_PROTOCOL_F_CONFIG))
        r = ask_config(fe, p);
    return r;
}

/* ---- The command ---- */

enum {
    OPTION_DEVICE = 'd',
    OPTION_JSON = 0x1000,
    OPTION_HTML,
    OPTION_REQUIRE_MIGRATION,
};

static const struct argp_option options[] = {
    {"device", OPTION_DEVICE, "TYPE", 0,
     "device type for feature names and config space fields (default: generic)", 0},
    {"json", OPTION_JSON, "FILE", OPTION_ARG_OPTIONAL,
     "write JSON to FILE (default: -, stdout) instead of a table", 0},
    {"html", OPTION_HTML, "FILE", 0, "write one HTML page to FILE (-: stdout)", 0},
    {"require-migration", OPTION_REQUIRE_MIGRATION, NULL, 0,
     "exit with status 1 if the back-end cannot be migrated", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct probe_options *o = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->target;
        state->child_inputs[1] = &o->color;
        break;
    case OPTION_DEVICE:
        if (features_device(arg) == NULL)
            argp_error(state, "--device=%s is not one of: %s", arg, features_device_names());
        o->device = arg;
        break;
    case OPTION_JSON:
        o->json = arg != NULL ? arg : "-";
        break;
    case OPTION_HTML:
        o->html = arg;
        break;
    case OPTION_REQUIRE_MIGRATION:
        o->needs_migration = true;
        break;
    case ARGP_KEY_ARG:
        if (o->text != NULL)
            argp_error(state, "more than one TARGET; quote a command line: 'PROGRAM ... {socket}'");
        o->text = arg;
        break;
    case ARGP_KEY_END:
        if (o->text == NULL)
            argp_error(state, "no TARGET; give a socket path, or a command line with {socket}");
        options_check_target(state, o->text);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* Begin the printed JSON form. */
static void make_json(const struct probe *p, struct output *out)
{
    struct json_object *json = probe_json(p);

    if (output_begin(out) != NULL)
        json_print(json, out->file);
    json_object_put(json);
}

/* Write files for any verdict, the table only for a probed back-end. Returns: 0; negative errno. */
static int show(const struct probe *p, const struct probe_options *o)
{
    struct text_report text;
    struct output out;
    int r = 0, html = 0;

    if (o->json == NULL && !p->has_evidence) {
        if (text_begin(&text) != NULL)
            probe_text(p, text.file);
        text_end(&text, o->color, o->html != NULL && strcmp(o->html, "-") == 0 ? stderr : stdout);
    }
    if (o->json != NULL) {
        make_json(p, &out);
        r = output_end(&out, o->json);
    }
    if (o->html != NULL) {
        make_json(p, &out);
        html = page_write(&out, NULL, o->html);
    }
    return r < 0 ? r : html;
}

static void judge(struct probe *p, const struct probe_options *o)
{
    char missing[256];

    features_missing(p->device, p->features, p->protocol_features, missing, sizeof(missing));
    p->verdict = o->needs_migration && missing[0] != '\0' ? VERDICT_FAILED : VERDICT_PASSED;
    if (p->verdict == VERDICT_FAILED)
        snprintf(p->reason, sizeof(p->reason), "the back-end cannot be migrated: %s not offered",
                 missing);
    else
        snprintf(p->reason, sizeof(p->reason), "every query was answered");
}

/* The probe failed or could not connect: record the reported reason for JSON. */
static void judge_failure(struct probe *p, struct target *t, const struct gw_frontend *fe,
                          int status, const char *why)
{
    p->verdict = status == COMMAND_FAULT ? VERDICT_FAILED : VERDICT_INCONCLUSIVE;
    snprintf(p->reason, sizeof(p->reason), "%s", why);
    p->has_evidence = true;
    evidence_take_messages(&p->evidence, fe, message_start_ns());
    evidence_take_output(&p->evidence, t);
}

static int probe_target(struct target *t, const struct probe_options *o)
{
    struct probe p = {.target = o->text,
                      .command_line = o->command_line,
                      .executable = "",
                      .build_id = "",
                      .device_name = o->device,
                      .device = features_device(o->device)};
    struct gw_frontend *fe;
    int r = gw_frontend_new(&fe, NULL);

    if (r < 0) {
        message_print("%s", strerror(-r));
        return COMMAND_COULD_NOT;
    }
    if (target_connect(t, fe) < 0) {
        judge_failure(&p, t, fe, message_report_unreachable(t), target_error(t));
    } else {
        p.pid = target_pid(t);
        p.executable = target_executable(t);
        p.build_id = target_build_id(t);
        r = probe_ask(fe, &p);
        if (r < 0)
            judge_failure(&p, t, fe,
                          message_report_failure(t, fe, r, "probing", gw_frontend_last_error()),
                          gw_frontend_last_error());
        else
            judge(&p, o);
    }
    gw_frontend_free(fe);
    r = show(&p, o);
    return r < 0 && p.verdict == VERDICT_PASSED ? COMMAND_COULD_NOT
                                                : verdict_status(p.verdict, false);
}

int command_probe(int argc, char **argv)
{
    static const struct argp_child children[] = {
        {&options_target_argp, 0, NULL, 0}, {&text_color_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "TARGET",
        .doc =
            "Show what a vhost-user back-end offers: features by name, queues, memory slots and "
            "config space, and what it lacks for live migration.\vTARGET is the path of a socket, "
            "or a command line with {socket} (or {fd}) that godwit starts and ends.",
        .children = children,
    };
    struct probe_options o = {.device = "generic"};
    struct target *t;
    int status;

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return COMMAND_COULD_NOT;
    if ((o.json != NULL && output_try(o.json) < 0) || (o.html != NULL && output_try(o.html) < 0))
        return COMMAND_COULD_NOT;
    if (options_target(&t, &o.target, o.text, "back-end") < 0)
        return COMMAND_COULD_NOT;
    o.command_line = options_again(argc, argv, NULL);
    status = probe_target(t, &o);
    free(o.command_line);
    target_free(t);
    return status;
}
