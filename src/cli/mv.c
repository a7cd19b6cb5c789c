/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* mv.c - `uext4 mv`: rename, in the words of mv(1). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/change.h"
#include "cli/place.h"

struct request {
        bool no_clobber, exchange, is_name;
};

static int rename_to(const struct place *from, const struct place *to, const char *name,
                     const struct request *r)
{
        unsigned flags = r->exchange ? RENAME_EXCHANGE : r->no_clobber ? RENAME_NOREPLACE : 0;

        return uext4_rename(from->dir, from->name, strlen(from->name), to->dir, name,
                            strlen(name), flags);
}

static void fail(struct cli *cli, const struct place *from, const char *target, int err)
{
        char *text;

        if (err == -EROFS) {
                cli_fail_change(cli, from->arg, err);
                return;
        }
        text = cli_quote(target);
        cli_fail(cli, from->arg, "cannot move to %s: %s", text,
                 err == -EINVAL ? "Is the directory itself, or in it" : cli_strerror(err));
        free(text);
}

/* Is it no directory, although a slash says so? */
static bool is_wrong(struct cli *cli, const struct place *from, const struct place *to)
{
        struct uext4_inode *inode;
        struct uext4_stat st;
        int ret = from->name ? place_find(from, &inode, &st) : -EBUSY;

        if (ret > 0)
                uext4_inode_put(inode);
        if (ret == 0)
                ret = -ENOENT;
        if (ret > 0 && !S_ISDIR(st.mode) && (from->slash || (to->name && to->slash)))
                ret = -ENOTDIR;
        if (ret < 0)
                cli_fail_errno(cli, from->arg, ret);
        return ret < 0;
}

static void move_one(struct cli *cli, const char *arg, const struct place *to,
                     const struct request *r)
{
        struct place from;
        const char *name;
        char *target;
        int ret;

        if (!place_open(cli, arg, &from))
                return;
        name = to->name ? to->name : from.name;
        target = place_text(to, name);
        if (from.image != to->image) {
                cli_fail(cli, from.arg,
                         "cannot move to another image; copy it (uext4 cp -r), then remove it");
        } else if (!is_wrong(cli, &from, to)) {
                ret = rename_to(&from, to, name, r);
                if (ret < 0 && !(ret == -EEXIST && r->no_clobber))
                        fail(cli, &from, target, ret);
                else if (ret == 0 && cli->verbose)
                        cli_say_name("renamed", from.arg, target);
        }
        free(target);
        place_close(&from);
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"exchange", no_argument, NULL, CLI_OPT_FIRST},
                {"no-clobber", no_argument, NULL, 'n'},
                {"no-target-directory", no_argument, NULL, 'T'},
                CLI_LONG_OPTIONS,
        };
        struct request r = {0};
        struct place to;
        bool found;
        int o, nr;

        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "nT", longs)) != -1) {
                r.no_clobber |= o == 'n';
                r.is_name |= o == 'T';
                r.exchange |= o == CLI_OPT_FIRST;
        }
        nr = argc - 1 - optind;
        if (nr < 1)
                cli_usage_error(cli, "missing operand");
        if (r.exchange && r.no_clobber)
                cli_usage_error(cli, "--exchange and -n exclude each other");
        if ((r.is_name || r.exchange) && nr > 1)
                cli_usage_error(cli, "extra operand");
        if (r.is_name || r.exchange)
                found = place_open_name(cli, argv[argc - 1], &to);
        else
                found = place_open_target(cli, argv[argc - 1], nr == 1, &to);
        if (!found)
                return;
        for (int i = optind; i < argc - 1; i++)
                move_one(cli, argv[i], &to, &r);
        place_close(&to);
}

const struct cli_command cli_mv = {
        .name = "mv",
        .summary = "rename files and directories",
        .usage = "Usage: uext4 mv [OPTION]... IMAGE:/PATH... IMAGE:/PATH\n"
                 "Rename a file or directory, or move some into a directory.  A file that has\n"
                 "the new name is replaced.  Each is one transaction: a power cut leaves the "
                 "old\n"
                 "names or the new ones.\n"
                 "\n"
                 "      --exchange         let two names, which exist, change places\n"
                 "  -n, --no-clobber       leave what exists, and say nothing\n"
                 "  -T, --no-target-directory  the last operand is the new name\n"
                 "  -v, --verbose          print a line for each\n",
        .run = run,
        .writes = true,
};
