/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* mount_stats.c - `uext4 stats`: what a running mount has counted. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/json.h"
#include "cli/mount_control.h"
#include "cli/mount_point.h"
#include "cli/text.h"

/* ---- for people ---------------------------------------------------------------- */

static const char *text_member(json_t *top, const char *key)
{
        const char *text = json_string_value(json_object_get(top, key));

        return text ? text : "";
}

static uint64_t number_member(json_t *top, const char *key)
{
        return (uint64_t)json_integer_value(json_object_get(top, key));
}

static void print_requests(json_t *requests)
{
        const char *name;
        json_t *one;

        printf("\n%-16s %14s %10s %12s\n", "Request", "Answered", "Errors", "Bytes");
        json_object_foreach(requests, name, one)
        {
                char count[TEXT_COUNT_MAX], errors[TEXT_COUNT_MAX], bytes[TEXT_BYTES_MAX];
                uint64_t moved = number_member(one, "bytes");

                printf("%-16s %14s %10s %12s\n", name,
                       text_count(count, number_member(one, "requests")),
                       text_count(errors, number_member(one, "errors")),
                       moved ? text_bytes(bytes, moved) : "");
        }
}

static void print_library(json_t *library)
{
        const char *name;
        json_t *value;

        printf("\n%-24s %20s\n", "Library", "");
        json_object_foreach(library, name, value)
        {
                char count[TEXT_COUNT_MAX];

                if (json_integer_value(value))
                        printf("%-24s %20s\n", name,
                               text_count(count, (uint64_t)json_integer_value(value)));
        }
}

static void print_text(json_t *top)
{
        printf("Directory:  %s\n", text_member(top, "directory"));
        printf("Source:     %s\n", text_member(top, "source"));
        printf("Options:    %s\n", text_member(top, "options"));
        printf("Server:     process %" PRIu64 ", %s, since %" PRIu64 " s\n",
               number_member(top, "pid"),
               json_is_true(json_object_get(top, "sandbox")) ? "in its sandbox" : "no sandbox",
               number_member(top, "seconds"));
        print_requests(json_object_get(top, "requests"));
        print_library(json_object_get(top, "library"));
}

/* ---- asking ------------------------------------------------------------------------ */

/* NULL when it is said what is wrong. */
static char *ask(struct cli *cli, const char *arg, const struct mount_point *mount)
{
        int fd = mount_point_is_fuse(mount) ? mount_control_connect(mount) : -ECONNREFUSED;
        char *text = NULL;

        if (fd >= 0) {
                text = mount_control_stats(fd);
                close(fd);
        }
        if (!text)
                cli_fail(cli, arg, "no server of uext4 answers for this mount, of type %s",
                         mount->type);
        return text;
}

static void stats_of(struct cli *cli, const char *arg, bool json)
{
        char *dir = mount_point_name(arg), *text = NULL;
        struct mount_point mount;
        json_t *top;

        if (!dir) {
                cli_fail_errno(cli, arg, -errno);
        } else if (!mount_point_find(dir, &mount)) {
                cli_fail(cli, arg, "not mounted");
        } else {
                text = ask(cli, arg, &mount);
                mount_point_free(&mount);
        }
        top = text ? json_loads(text, 0, NULL) : NULL;
        if (text && !top)
                cli_fail(cli, arg, "the server's answer makes no sense");
        if (top && json) {
                json_print(top);
        } else if (top) {
                print_text(top);
                json_decref(top);
        }
        free(text);
        free(dir);
}

static void run(struct cli *cli, int argc, char **argv)
{
        bool json;
        const char *dir = cli_one_operand_json(cli, argc, argv, &json);

        if (cli->mount_options)
                cli_usage_error(cli, "mount options are for mounting");
        stats_of(cli, dir, json);
}

const struct cli_command cli_stats = {
        .name = "stats",
        .summary = "show what a running mount has counted",
        .usage = "Usage: uext4 stats [OPTION]... DIR\n"
                 "Show what is mounted on a directory, and what its server and the library "
                 "have\n"
                 "counted since.\n"
                 "\n"
                 "      --json             print JSON\n",
        .run = run,
        .alone = true,
};
