/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* get.c - `uext4 get`: copy files and trees out of an image (see extract.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/extract.h"
#include "cli/text.h"

/* ---- the target --------------------------------------------------------- */

static int open_target_dir(const char *path)
{
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

/*
 * As cp: into LOCAL when it is a directory, else LOCAL is the new name.  A source without a
 * name of its own (the root) gives what is in it to LOCAL.  What the user names may be reached
 * by symlinks.
 */
static bool find_target(struct cli *cli, const struct cli_operand *op, const char *local,
                        bool single, struct extract *to)
{
        struct stat st;
        bool slash = *local && local[strlen(local) - 1] == '/';

        to->name = NULL;
        if (stat(local, &st) == 0 && S_ISDIR(st.st_mode)) {
                to->dir = open_target_dir(local);
                to->name = text_base_name(op->path);
                to->local = to->name ? cli_printf("%s%s%s", local, slash ? "" : "/", to->name)
                                     : cli_strdup(local);
        } else {
                char *dir = text_dir_name(local);

                to->dir = single ? open_target_dir(dir) : -ENOTDIR;
                to->name = text_base_name(local);
                to->local = cli_strdup(local);
                free(dir);
                if (to->dir >= 0 && (!to->name || (slash && !S_ISDIR(op->st.mode)))) {
                        close(to->dir);
                        to->dir = -ENOTDIR;
                }
        }
        if (to->dir < 0)
                cli_fail_errno(cli, local, to->dir);
        return to->dir >= 0;
}

/* ---- the command -------------------------------------------------------- */

struct request {
        bool recursive, single;
        struct extract to;
};

static void get_one(struct cli *cli, const char *arg, const char *local, struct request *r)
{
        struct cli_operand op;

        /* As cp: with -r a symlink is copied, without it is followed. */
        if (!cli_operand_open(cli, arg, r->recursive ? CLI_NOFOLLOW : CLI_FOLLOW, &op))
                return;
        if (S_ISDIR(op.st.mode) && !r->recursive) {
                cli_fail(cli, op.arg, "-r not specified; omitting directory");
        } else {
                if (find_target(cli, &op, local, r->single, &r->to)) {
                        extract_tree(cli, &r->to, &op);
                        close(r->to.dir);
                }
                free(r->to.name);
                free(r->to.local);
        }
        cli_operand_close(&op);
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"recursive", no_argument, NULL, 'r'},
                {"force", no_argument, NULL, 'f'},
                {"no-clobber", no_argument, NULL, 'n'},
                CLI_LONG_OPTIONS,
        };
        struct request r = {0};
        int o;

        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "fnr", longs)) != -1) {
                r.recursive |= o == 'r';
                r.to.force |= o == 'f';
                r.to.no_clobber |= o == 'n';
        }
        if (argc - optind < 2)
                cli_usage_error(cli, "missing operand");
        if (r.to.force && r.to.no_clobber)
                cli_usage_error(cli, "-f and -n exclude each other");
        r.single = argc - optind == 2;
        for (int i = optind; i < argc - 1; i++)
                get_one(cli, argv[i], argv[argc - 1], &r);
}

const struct cli_command cli_get = {
        .name = "get",
        .summary = "copy files and trees out of an image",
        .usage = "Usage: uext4 get [OPTION]... IMAGE:/PATH... LOCAL\n"
                 "Copy files, or with -r trees, to LOCAL, or into it when LOCAL is a "
                 "directory.\n"
                 "Modes, times, holes, hard links and extended attributes are kept, the owner\n"
                 "when you are root.\n"
                 "\n"
                 "  -f, --force            replace files that exist\n"
                 "  -n, --no-clobber       leave files that exist, and say nothing\n"
                 "  -r, --recursive        copy directories with all that is in them\n"
                 "  -v, --verbose          print the names, too\n",
        .run = run,
};
