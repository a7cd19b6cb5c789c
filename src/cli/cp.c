/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cp.c - `uext4 cp`: copy within an image and between images (see build.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/change.h"
#include "cli/copy.h"
#include "cli/progress.h"
#include "cli/text.h"

struct cp {
        struct cli *cli;
        struct build *build;
        struct place to;
        bool recursive;
};

/* Would the copy be in what is copied? */
static bool is_inside(struct cp *c, const struct cli_operand *op)
{
        int ret = op->image == c->to.image
                          ? place_is_below(op->image->fs, c->to.dir, op->st.ino)
                          : 0;

        if (ret < 0)
                cli_fail_errno(c->cli, c->to.arg, ret);
        else if (ret > 0)
                cli_fail(c->cli, op->arg, "cannot copy a directory into itself");
        return ret != 0;
}

static void copy_one(struct cp *c, const char *arg)
{
        struct copy_source from;
        struct copy_image state;
        struct cli_operand op;
        char *base, *target;
        const char *name;

        /* As cp: with -r a symlink is copied, without it is followed. */
        if (!cli_operand_open(c->cli, arg, c->recursive ? CLI_NOFOLLOW : CLI_FOLLOW, &op))
                return;
        base = text_base_name(op.path);
        name = c->to.name ? c->to.name : base;
        target = place_text(&c->to, name ? name : "");
        if (S_ISDIR(op.st.mode) && !c->recursive) {
                cli_fail(c->cli, op.arg, "-r not specified; omitting directory");
        } else if (!S_ISDIR(op.st.mode) && c->to.name && c->to.slash) {
                cli_fail_errno(c->cli, c->to.arg, -ENOTDIR);
        } else if (!S_ISDIR(op.st.mode) && !c->recursive && !S_ISREG(op.st.mode)) {
                cli_fail(c->cli, op.arg, "is not a regular file (-r copies it)");
        } else if (!S_ISDIR(op.st.mode) || !is_inside(c, &op)) {
                if (progress_wanted())
                        progress_start(copy_image_size(&op));
                from = copy_from_image(&state, &op);
                copy_tree(c->cli, c->build, &from, c->to.dir, name, target);
                copy_image_done(&state);
                build_flush(c->build);
                progress_stop();
        }
        free(target);
        free(base);
        cli_operand_close(&op);
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"force", no_argument, NULL, 'f'},
                {"no-clobber", no_argument, NULL, 'n'},
                {"recursive", no_argument, NULL, 'r'},
                OVERRIDE_OPTIONS,
                CLI_LONG_OPTIONS,
        };
        struct override override;
        struct build_options options = {.override = &override};
        struct cp c = {.cli = cli};
        int o, nr;

        override_init(&override, cli);
        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "fnr", longs)) != -1) {
                options.force |= o == 'f';
                options.no_clobber |= o == 'n';
                c.recursive |= o == 'r';
                override_option(&override, cli, o, optarg);
        }
        nr = argc - 1 - optind;
        if (nr < 1)
                cli_usage_error(cli, "missing operand");
        if (options.force && options.no_clobber)
                cli_usage_error(cli, "-f and -n exclude each other");
        if (place_open_target(cli, argv[argc - 1], nr == 1, &c.to)) {
                if (build_new(cli, c.to.image, &options, &c.build)) {
                        for (int i = optind; i < argc - 1 && !build_is_broken(c.build); i++)
                                copy_one(&c, argv[i]);
                        build_free(c.build);
                }
                place_close(&c.to);
        }
        override_done(&override);
}

const struct cli_command cli_cp = {
        .name = "cp",
        .summary = "copy within an image, or between images",
        .usage =
                "Usage: uext4 cp [OPTION]... IMAGE:/PATH... IMAGE:/PATH\n"
                "Copy files, or with -r trees, to a new name or into a directory, of the same\n"
                "image or of another one.  Owners, modes, times, holes, hard links and "
                "extended\n"
                "attributes are kept.\n"
                "\n"
                "  -f, --force            replace files that exist\n" OVERRIDE_USAGE
                "  -n, --no-clobber       leave files that exist, and say nothing\n"
                "  -r, --recursive        copy directories with all that is in them\n"
                "  -v, --verbose          print the names, too\n",
        .run = run,
        .writes = true,
};
