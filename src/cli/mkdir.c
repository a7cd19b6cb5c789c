/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* mkdir.c - `uext4 mkdir`: make directories, in the words of mkdir(1). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/change.h"
#include "cli/make.h"
#include "cli/mode.h"
#include "cli/place.h"

struct request {
        bool parents;
        uint32_t mode; /* of what is named; parents are 0777 without the umask, and u+wx */
        uint32_t parent_mode;
};

static void fail(struct cli *cli, const char *name, int err)
{
        if (err == -EROFS)
                cli_fail_change(cli, name, err);
        else
                cli_fail(cli, name, "cannot create directory: %s", cli_strerror(err));
}

/* Make the directory `path` of the image; with `existing` it may be there. */
static int make_one(struct cli *cli, const char *arg, uint32_t mode, bool existing)
{
        struct uext4_inode *inode;
        struct uext4_stat st;
        struct place p;
        int ret;

        if (!place_open(cli, arg, &p))
                return -ENOENT;
        if (p.name) {
                ret = make_node(p.dir, p.name, S_IFDIR | mode, 0, 0, make_own(), NULL);
                if (ret == 0 && cli->verbose)
                        cli_say_name("created directory", arg, NULL);
        } else {
                ret = -EEXIST; /* the root, or what "." names */
        }
        if (ret == -EEXIST && existing) {
                ret = uext4_resolve(p.image->fs, p.arg + cli_operand_split(p.arg) + 1, 0,
                                    &inode);
                if (ret == 0) {
                        ret = uext4_stat(inode, &st);
                        uext4_inode_put(inode);
                }
                if (ret == 0 && !S_ISDIR(st.mode))
                        ret = -EEXIST;
        }
        if (ret < 0)
                fail(cli, p.arg, ret);
        place_close(&p);
        return ret;
}

/* -p: each component in turn, from the first. */
static void make_path(struct cli *cli, const char *arg, const struct request *r)
{
        size_t at = cli_operand_split(arg) + 1;

        while (arg[at]) {
                size_t end = at + strspn(arg + at, "/");
                bool last;
                char *part;
                int ret;

                end += strcspn(arg + end, "/");
                last = !arg[end + strspn(arg + end, "/")];
                part = cli_printf("%.*s", (int)end, arg);
                ret = make_one(cli, part, last ? r->mode : r->parent_mode, true);
                free(part);
                if (ret < 0)
                        return;
                at = last ? strlen(arg) : end;
        }
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"mode", required_argument, NULL, 'm'},
                {"parents", no_argument, NULL, 'p'},
                CLI_LONG_OPTIONS,
        };
        const uint32_t mask = cli_umask();
        struct request r = {.mode = 0777 & ~mask};
        struct mode_spec spec;
        int o;

        r.parent_mode = r.mode | 0300;
        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "m:p", longs)) != -1) {
                if (o == 'p') {
                        r.parents = true;
                } else {
                        if (mode_parse(optarg, mask, &spec) < 0)
                                cli_usage_error(cli, "invalid mode: '%s'", optarg);
                        r.mode = mode_apply(&spec, S_IFDIR | 0777) & 07777;
                        mode_done(&spec);
                }
        }
        if (optind == argc)
                cli_usage_error(cli, "missing operand");
        for (int i = optind; i < argc; i++) {
                char *arg = cli_operand_full(cli, argv[i]);

                if (!arg[cli_operand_split(arg)])
                        cli_fail(cli, arg, "an image; name a directory in it: IMAGE:/PATH");
                else if (r.parents)
                        make_path(cli, arg, &r);
                else
                        make_one(cli, arg, r.mode, false);
                free(arg);
        }
}

const struct cli_command cli_mkdir = {
        .name = "mkdir",
        .summary = "make directories",
        .usage = "Usage: uext4 mkdir [OPTION]... IMAGE:/PATH...\n"
                 "Make directories.  They are yours.\n"
                 "\n"
                 "  -m, --mode=MODE        permissions as for chmod; the default is a=rwx "
                 "without\n"
                 "                         the umask\n"
                 "  -p, --parents          make parents as needed; what exists is no failure\n"
                 "  -v, --verbose          print a line for each\n",
        .run = run,
        .writes = true,
};
