/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rm.c - `uext4 rm`: remove names of files, in the words of rm(1). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/change.h"
#include "cli/text.h"

struct request {
        bool force; /* what does not exist is no failure */
};

/* A path, split into the directory and the last name. */
struct split_path {
        char *dir;
        char *name;
        bool is_dir; /* a slash behind the name, or no name: only a directory can be meant */
};

static struct split_path split_path(const char *path)
{
        size_t end = strlen(path), start;
        struct split_path s = {0};

        while (end > 0 && path[end - 1] == '/')
                end--;
        s.is_dir = path[end] != '\0' || end == 0;
        start = end;
        while (start > 0 && path[start - 1] != '/')
                start--;
        s.dir = cli_printf("%.*s", start > 0 ? (int)start : 1, start > 0 ? path : "/");
        s.name = cli_printf("%.*s", (int)(end - start), path + start);
        return s;
}

static int remove_name(struct cli_image *image, const struct split_path *s)
{
        struct uext4_inode *dir;
        int ret = uext4_resolve(image->fs, s->dir, 0, &dir);

        if (ret < 0)
                return ret;
        if (s->is_dir) {
                struct uext4_inode *inode;

                /* For the right words: it is none, or it is not there. */
                ret = s->name[0] ? uext4_lookup(dir, s->name, strlen(s->name), &inode)
                                 : -EISDIR;
                if (ret == 0) {
                        struct uext4_stat st;

                        ret = uext4_stat(inode, &st);
                        if (ret == 0)
                                ret = (st.mode & 0170000) == 0040000 ? -EISDIR : -ENOTDIR;
                        uext4_inode_put(inode);
                }
        } else {
                ret = uext4_unlink(dir, s->name, strlen(s->name));
        }
        uext4_inode_put(dir);
        return ret;
}

static void say_removed(const char *arg)
{
        char *text = text_escape(arg, strlen(arg));

        printf("removed '%s'\n", text);
        free(text);
}

static void rm_one(struct cli *cli, const char *arg, const struct request *r)
{
        size_t split = cli_operand_split(arg);
        struct cli_image *image;
        struct split_path s;
        char *uri;
        int ret;

        if (!arg[split]) {
                cli_fail(cli, arg, "an image; name a file in it: IMAGE:/PATH");
                return;
        }
        uri = cli_printf("%.*s", (int)split, arg);
        image = cli_image_get(cli, uri);
        free(uri);
        if (!image)
                return;
        s = split_path(arg + split + 1);
        ret = remove_name(image, &s);
        if (ret == 0 && cli->verbose)
                say_removed(arg);
        else if (ret < 0 && !(r->force && ret == -ENOENT))
                cli_fail_change(cli, arg, ret);
        free(s.dir);
        free(s.name);
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"force", no_argument, NULL, 'f'},
                CLI_LONG_OPTIONS,
        };
        struct request r = {0};

        while (cli_getopt(cli, argc, argv, "f" CLI_SHORT_OPTIONS, longs) != -1)
                r.force = true;
        if (optind == argc && !r.force)
                cli_usage_error(cli, "missing operand");
        for (int i = optind; i < argc; i++)
                rm_one(cli, argv[i], &r);
}

const struct cli_command cli_rm = {
        .name = "rm",
        .summary = "remove files",
        .usage = "Usage: uext4 rm [OPTION]... IMAGE:/PATH...\n"
                 "Remove files, symbolic links and other things that are no directories.\n"
                 "\n"
                 "  -f, --force            say nothing of files that do not exist\n",
        .run = run,
        .writes = true,
};
