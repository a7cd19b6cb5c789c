/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* chown.c - `uext4 chown`: change owners and groups, in the words of chown(1). */
#include <sys/stat.h>

#include "cli/change.h"
#include "cli/owner.h"

static void change(struct cli *cli, const char *name, struct uext4_inode *inode,
                   const struct uext4_stat *st, void *arg)
{
        const struct owner *owner = arg;
        const struct uext4_setattr set = {
                .mask = (owner->has_uid ? UEXT4_SET_UID : 0u) |
                        (owner->has_gid ? UEXT4_SET_GID : 0u),
                .uid = owner->uid,
                .gid = owner->gid,
        };
        int ret = uext4_setattr(inode, &set);

        if (ret < 0)
                cli_fail_change(cli, name, ret);
        else if (cli->verbose)
                cli_say_name("changed owner of", name, NULL);
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"no-dereference", no_argument, NULL, 'h'},
                {"recursive", no_argument, NULL, 'R'},
                CLI_LONG_OPTIONS,
        };
        struct owner owner;
        struct cli_each each = {.change = change, .arg = &owner};
        int o;

        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "hR", longs)) != -1) {
                if (o == 'R')
                        each.recursive = true;
                else
                        each.follow = CLI_NOFOLLOW;
        }
        if (argc - optind < 2)
                cli_usage_error(cli, "missing operand");
        if (owner_parse(argv[optind], &owner) < 0)
                cli_usage_error(cli, "invalid owner: '%s'", argv[optind]);
        cli_change_each(cli, &each, argv + optind + 1, argc - optind - 1);
}

const struct cli_command cli_chown = {
        .name = "chown",
        .summary = "change owners and groups",
        .usage =
                "Usage: uext4 chown [OPTION]... OWNER[:[GROUP]] IMAGE:/PATH...\n"
                "  or:  uext4 chown [OPTION]... :GROUP IMAGE:/PATH...\n"
                "Change owner and group: numbers, or names of this host.  Set-user-ID,\n"
                "set-group-ID and capabilities go.\n"
                "\n"
                "  -h, --no-dereference   change symbolic links themselves; so it is in trees\n"
                "  -R, --recursive        all that is in directories, too\n"
                "  -v, --verbose          print a line for each\n",
        .run = run,
        .writes = true,
};
