/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ln.c - `uext4 ln`: more names for a file, and symbolic links, in the words of ln(1). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/change.h"
#include "cli/make.h"
#include "cli/place.h"
#include "cli/text.h"

struct request {
        bool symbolic, force, is_name;
};

/* The file that gets another name: a symlink itself, as ln -P. */
static int hard_link(struct cli *cli, const char *arg, const struct place *to, const char *name)
{
        struct cli_operand op;
        int ret;

        if (!cli_operand_open(cli, arg, CLI_NOFOLLOW, &op))
                return 1;
        if (op.image != to->image)
                ret = -EXDEV;
        else
                ret = uext4_link(op.inode, to->dir, name, strlen(name));
        cli_operand_close(&op);
        return ret;
}

static int link_once(struct cli *cli, const char *arg, const struct place *to, const char *name,
                     const struct request *r)
{
        if (r->symbolic)
                return make_symlink(to->dir, name, arg, make_own(), NULL);
        return hard_link(cli, arg, to, name);
}

static void fail(struct cli *cli, const char *target, const char *arg, int err)
{
        char *text;

        if (err == -EROFS) {
                cli_fail_change(cli, target, err);
                return;
        }
        text = cli_quote(arg);
        cli_fail(cli, target, "cannot link to %s: %s", text,
                 err == -EEXIST  ? "File exists (-f replaces it)"
                 : err == -EPERM ? "Operation not permitted (a directory has one name; ln -s)"
                                 : cli_strerror(err));
        free(text);
}

static void link_one(struct cli *cli, const char *arg, const struct place *to,
                     const struct request *r)
{
        char *base = to->name ? NULL : text_base_name(arg);
        const char *name = to->name ? to->name : base;
        char *target = place_text(to, name);
        int ret = name ? link_once(cli, arg, to, name, r) : -EEXIST;

        if (ret == -EEXIST && r->force && name) {
                ret = uext4_unlink(to->dir, name, strlen(name));
                if (ret == 0)
                        ret = link_once(cli, arg, to, name, r);
        }
        if (ret < 0)
                fail(cli, target, arg, ret);
        else if (ret == 0 && cli->verbose)
                cli_say_name(NULL, target, arg);
        free(target);
        free(base);
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"force", no_argument, NULL, 'f'},
                {"no-target-directory", no_argument, NULL, 'T'},
                {"symbolic", no_argument, NULL, 's'},
                CLI_LONG_OPTIONS,
        };
        struct request r = {0};
        struct place to;
        int o, nr;

        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "fsT", longs)) != -1) {
                r.force |= o == 'f';
                r.symbolic |= o == 's';
                r.is_name |= o == 'T';
        }
        nr = argc - 1 - optind;
        if (nr < 1)
                cli_usage_error(cli, "missing operand");
        if (r.is_name && nr > 1)
                cli_usage_error(cli, "extra operand");
        if (!(r.is_name ? place_open_name(cli, argv[argc - 1], &to)
                        : place_open_target(cli, argv[argc - 1], nr == 1, &to)))
                return;
        for (int i = optind; i < argc - 1; i++)
                link_one(cli, argv[i], &to, &r);
        place_close(&to);
}

const struct cli_command cli_ln = {
        .name = "ln",
        .summary = "make links",
        .usage = "Usage: uext4 ln [OPTION]... IMAGE:/PATH... IMAGE:/PATH\n"
                 "  or:  uext4 ln -s [OPTION]... TARGET... IMAGE:/PATH\n"
                 "Give a file one more name, or make a symbolic link with the text TARGET.  "
                 "When\n"
                 "the last operand is a directory links are made in it.\n"
                 "\n"
                 "  -f, --force            remove what has the name\n"
                 "  -s, --symbolic         make symbolic links\n"
                 "  -T, --no-target-directory  the last operand is the new name\n"
                 "  -v, --verbose          print a line for each\n",
        .run = run,
        .writes = true,
};
