/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* touch.c - `uext4 touch`: change times, or make empty files, in the words of touch(1). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/change.h"
#include "cli/date.h"
#include "cli/make.h"
#include "cli/place.h"

struct request {
        uint32_t mask; /* UEXT4_SET_ATIME, UEXT4_SET_MTIME */
        struct timespec atime, mtime;
        bool no_create;
        enum cli_follow follow;
};

static void set_times(struct cli *cli, const char *name, struct uext4_inode *inode,
                      const struct request *r)
{
        const struct uext4_setattr set = {
                .mask = r->mask, .atime = r->atime, .mtime = r->mtime};
        int ret = uext4_setattr(inode, &set);

        if (ret < 0)
                cli_fail_change(cli, name, ret);
}

static void create(struct cli *cli, const char *arg, const struct request *r)
{
        struct uext4_inode *inode;
        struct place p;
        int ret;

        if (!place_open_name(cli, arg, &p))
                return;
        ret = p.slash ? -ENOTDIR
                      : make_node(p.dir, p.name, S_IFREG | (0666 & ~cli_umask()), 0, 0,
                                  make_own(), &inode);
        if (ret == 0) {
                set_times(cli, p.arg, inode, r);
                uext4_inode_put(inode);
        } else if (ret == -EEXIST) {
                cli_fail(cli, p.arg, "a symbolic link to what does not exist");
        } else {
                cli_fail_change(cli, p.arg, ret);
        }
        place_close(&p);
}

static bool has_image(struct cli *cli, const char *arg)
{
        char *full = cli_operand_full(cli, arg);
        const char *path;
        bool has = cli_operand_image(cli, full, &path);

        free(full);
        return has;
}

static void touch_one(struct cli *cli, const char *arg, const struct request *r)
{
        struct cli_operand op;

        if (!has_image(cli, arg)) /* said, once */
                return;
        if (!cli_operand_exists(cli, arg, r->follow)) {
                if (!r->no_create)
                        create(cli, arg, r);
        } else if (cli_operand_open(cli, arg, r->follow, &op)) {
                set_times(cli, op.arg, op.inode, r);
                cli_operand_close(&op);
        }
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"date", required_argument, NULL, 'd'},
                {"no-create", no_argument, NULL, 'c'},
                {"no-dereference", no_argument, NULL, 'h'},
                {"reference", required_argument, NULL, 'r'},
                CLI_LONG_OPTIONS,
        };
        struct request r = {.follow = CLI_FOLLOW};
        const char *reference = NULL;
        struct uext4_stat st;
        int o;

        r.atime = r.mtime = date_now(cli);
        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "acd:hmr:", longs)) != -1) {
                if (o == 'a' || o == 'm')
                        r.mask |= o == 'a' ? UEXT4_SET_ATIME : UEXT4_SET_MTIME;
                else if (o == 'd' && date_parse(optarg, &r.mtime) < 0)
                        cli_usage_error(cli, "invalid date: '%s'", optarg);
                else if (o == 'd')
                        r.atime = r.mtime;
                else if (o == 'r')
                        reference = optarg;
                else if (o == 'h')
                        r.follow = CLI_NOFOLLOW;
                else
                        r.no_create = true;
        }
        if (r.mask == 0)
                r.mask = UEXT4_SET_ATIME | UEXT4_SET_MTIME;
        if (optind == argc)
                cli_usage_error(cli, "missing operand");
        if (reference) {
                if (!cli_reference(cli, reference, &st))
                        return;
                r.atime = st.atime;
                r.mtime = st.mtime;
        }
        for (int i = optind; i < argc; i++)
                touch_one(cli, argv[i], &r);
}

const struct cli_command cli_touch = {
        .name = "touch",
        .summary = "change times, or make empty files",
        .usage = "Usage: uext4 touch [OPTION]... IMAGE:/PATH...\n"
                 "Set access and modification times; what does not exist becomes an empty "
                 "file.\n"
                 "\n"
                 "  -a                     only the access time\n"
                 "  -c, --no-create        make no files\n"
                 "  -d, --date=DATE        this time instead of now: @SECONDS, or\n"
                 "                         \"YYYY-MM-DD[ HH:MM[:SS[.FRACTION]]][Z|+HH:MM]\"\n"
                 "  -h, --no-dereference   a symbolic link itself\n"
                 "  -m                     only the modification time\n"
                 "  -r, --reference=FILE   the times of FILE, of the host or IMAGE:/PATH\n",
        .run = run,
        .writes = true,
};
