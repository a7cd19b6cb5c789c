/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rm.c - `uext4 rm`: remove names, and with -r trees, in the words of rm(1). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/change.h"
#include "cli/place.h"
#include "cli/progress.h"
#include "cli/walk.h"

struct request {
        bool force; /* what does not exist is no failure */
        bool recursive;
};

static void removed(struct cli *cli, const char *name, int ret)
{
        if (ret < 0)
                cli_fail_change(cli, name, ret);
        else if (cli->verbose)
                cli_say_name("removed", name, NULL);
}

/* One item of a tree, the root of which has the name `top` in `top_dir`. */
static void remove_item(struct cli *cli, const struct place *top, const char *name,
                        const struct walk_item *item)
{
        struct uext4_inode *dir = item->dir ? item->dir : top->dir;
        const char *base = item->dir ? item->name : top->name;
        int ret = item->error;

        if (item->event == WALK_ERROR && item->what) {
                cli_fail(cli, name, "%s", item->what);
        } else if (item->event == WALK_FILE) {
                removed(cli, name, uext4_unlink(dir, base, strlen(base)));
        } else if (item->event == WALK_LEAVE) {
                removed(cli, name, uext4_rmdir(dir, base, strlen(base)));
        } else if (ret < 0) {
                cli_fail(cli, name, "cannot read: %s", cli_strerror(ret));
        }
}

/* All that is in it, and it. */
static void remove_tree(struct cli *cli, const struct place *p, struct uext4_inode *inode)
{
        const struct cli_operand op = {.arg = p->arg, .image = p->image};
        struct walk *walk = walk_new(p->image->fs, inode);
        struct walk_item item;

        if (progress_wanted())
                progress_start_files(walk_count(p->image->fs, inode));
        while (walk_next(walk, &item) > 0) {
                char *name = cli_operand_name(&op, item.path);

                remove_item(cli, p, name, &item);
                free(name);
                if (item.event == WALK_FILE || item.event == WALK_LEAVE)
                        progress_add(1);
        }
        progress_stop();
        walk_free(walk);
}

static void remove_found(struct cli *cli, const struct place *p, struct uext4_inode *inode,
                         const struct uext4_stat *st, const struct request *r)
{
        if (S_ISDIR(st->mode) && r->recursive)
                remove_tree(cli, p, inode);
        else if (S_ISDIR(st->mode))
                cli_fail(cli, p->arg, "%s (-r removes it)", cli_strerror(-EISDIR));
        else if (p->slash)
                cli_fail_errno(cli, p->arg, -ENOTDIR);
        else
                removed(cli, p->arg, uext4_unlink(p->dir, p->name, strlen(p->name)));
}

static void rm_one(struct cli *cli, const char *arg, const struct request *r)
{
        char *full = cli_operand_full(cli, arg);
        struct uext4_inode *inode;
        struct uext4_stat st;
        struct place p;
        int ret;

        if (!full[cli_operand_split(full)]) {
                cli_fail(cli, full, "an image; name a file in it: IMAGE:/PATH");
        } else if (r->force && !cli_operand_exists(cli, full, CLI_NOFOLLOW)) {
                /* nothing to do */
        } else if (place_open(cli, full, &p)) {
                ret = p.name ? place_find(&p, &inode, &st) : -EBUSY;
                if (ret > 0) {
                        remove_found(cli, &p, inode, &st, r);
                        uext4_inode_put(inode);
                } else if (ret == -EBUSY) {
                        cli_fail(cli, p.arg,
                                 "Is a directory without a name of its own: not removed");
                } else if (ret < 0 || !r->force) {
                        cli_fail_change(cli, p.arg, ret < 0 ? ret : -ENOENT);
                }
                place_close(&p);
        }
        free(full);
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"force", no_argument, NULL, 'f'},
                {"recursive", no_argument, NULL, 'r'},
                CLI_LONG_OPTIONS,
        };
        struct request r = {0};
        int o;

        while ((o = cli_getopt(cli, argc, argv, "frR" CLI_SHORT_OPTIONS, longs)) != -1) {
                r.force |= o == 'f';
                r.recursive |= o == 'r' || o == 'R';
        }
        if (optind == argc && !r.force)
                cli_usage_error(cli, "missing operand");
        for (int i = optind; i < argc; i++)
                rm_one(cli, argv[i], &r);
}

const struct cli_command cli_rm = {
        .name = "rm",
        .summary = "remove files and trees",
        .usage = "Usage: uext4 rm [OPTION]... IMAGE:/PATH...\n"
                 "Remove files, symbolic links and other things, and with -r directories.\n"
                 "\n"
                 "  -f, --force            say nothing of files that do not exist\n"
                 "  -r, -R, --recursive    remove directories with all that is in them\n"
                 "  -v, --verbose          print the names\n",
        .run = run,
        .writes = true,
};
