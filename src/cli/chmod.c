/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* chmod.c - `uext4 chmod`: change permissions, in the words of chmod(1). */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/change.h"
#include "cli/mode.h"
#include "cli/text.h"

static void change(struct cli *cli, const char *name, struct uext4_inode *inode,
                   const struct uext4_stat *st, void *arg)
{
        struct uext4_setattr set = {.mask = UEXT4_SET_MODE};
        int ret;

        if (S_ISLNK(st->mode)) /* met in a tree: it has no permissions of its own */
                return;
        set.mode = mode_apply(arg, st->mode) & 07777;
        ret = uext4_setattr(inode, &set);
        if (ret < 0) {
                cli_fail_change(cli, name, ret);
        } else if (cli->verbose) {
                char text[TEXT_MODE_MAX];

                cli_say_name(text_mode(text, (st->mode & S_IFMT) | set.mode), name, NULL);
        }
}

/*
 * "-w" is a mode, and would be taken for options: of these letters only the first "o" is ours,
 * and there it is an option.
 */
static bool is_minus_mode(const char *arg)
{
        return arg[0] == '-' && arg[1] && arg[1] != 'o' &&
               strspn(arg + 1, "rwxXstugo=,+-") == strlen(arg + 1);
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"recursive", no_argument, NULL, 'R'},
                CLI_LONG_OPTIONS,
        };
        struct cli_each each = {.change = change};
        struct mode_spec spec;
        const char *mode = NULL;
        int o;

        for (int i = 1; i < argc && !mode; i++) {
                if (!is_minus_mode(argv[i]) || strcmp(argv[i], "--") == 0)
                        continue;
                mode = argv[i];
                memmove(argv + i, argv + i + 1, (size_t)(argc - i) * sizeof(*argv));
                argc--;
        }
        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "R", longs)) != -1)
                each.recursive = true;
        if (!mode && optind < argc)
                mode = argv[optind++];
        if (!mode || optind == argc)
                cli_usage_error(cli, "missing operand");
        if (mode_parse(mode, cli_umask(), &spec) < 0)
                cli_usage_error(cli, "invalid mode: '%s'", mode);
        each.arg = &spec;
        cli_change_each(cli, &each, argv + optind, argc - optind);
        mode_done(&spec);
}

const struct cli_command cli_chmod = {
        .name = "chmod",
        .summary = "change permissions",
        .usage =
                "Usage: uext4 chmod [OPTION]... MODE IMAGE:/PATH...\n"
                "Change permissions.  MODE is octal, or as in u+rwX,go-w.  Symbolic links are\n"
                "followed; in a tree they are left alone.\n"
                "\n"
                "  -R, --recursive        all that is in directories, too\n"
                "  -v, --verbose          print a line for each\n",
        .run = run,
        .writes = true,
};
