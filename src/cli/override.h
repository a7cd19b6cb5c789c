/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef UEXT4_CLI_OVERRIDE_H
#define UEXT4_CLI_OVERRIDE_H

/*
 * override.h - what copies are given instead of what their sources have: the options --owner,
 * --mode and --mtime, and the environment's SOURCE_DATE_EPOCH.
 *
 * With SOURCE_DATE_EPOCH the same tree gives the same bytes: no time is later than that, and
 * access times, which looking at the source changes, are those of modification.
 */

#include <stdbool.h>

#include "cli/cli.h"
#include "cli/mode.h"

struct override {
        bool has_uid, has_gid, has_mtime;
        uint32_t uid, gid;
        struct mode_spec mode; /* nr 0: none */
        struct timespec mtime; /* of everything, and the access time */
        bool reproducible;     /* SOURCE_DATE_EPOCH is set */
        int64_t epoch;         /* to that */
};

enum {
        OPT_OWNER = 0x2000,
        OPT_MODE,
        OPT_MTIME,
};

/* For a command's table of options. */
#define OVERRIDE_OPTIONS                                     \
        {"owner", required_argument, NULL, OPT_OWNER},       \
                {"mode", required_argument, NULL, OPT_MODE}, \
        {                                                    \
                "mtime", required_argument, NULL, OPT_MTIME  \
        }

#define OVERRIDE_USAGE                                                         \
        "      --mode=MODE        permissions of what is made, as for chmod\n" \
        "      --mtime=DATE       its times, as for touch\n"                   \
        "      --owner=UID[:GID]  its owner and group\n"

/* Looks at the environment; a usage error when SOURCE_DATE_EPOCH is not a number. */
void override_init(struct override *v, struct cli *cli);
void override_done(struct override *v);

/* Take one of the options: false when it is none of these. */
bool override_option(struct override *v, struct cli *cli, int opt, const char *value);

/* Change what a source has into what its copy gets. */
void override_apply(const struct override *v, struct uext4_stat *st);

#endif
