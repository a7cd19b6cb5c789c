/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* chattr.c - `uext4 chattr`: change flags and projects, in the words of chattr(1). */
#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/change.h"
#include "cli/text.h"

struct request {
        uint32_t add, remove;
        bool has_set; /* "=": all others that can be named go */
        bool has_project;
        uint32_t project;
};

/* What can be named; the library says what of it can be. */
static const struct {
        char letter;
        uint32_t flag;
} letters[] = {
        {'a', FS_APPEND_FL},      {'A', FS_NOATIME_FL},   {'c', FS_COMPR_FL},
        {'d', FS_NODUMP_FL},      {'D', FS_DIRSYNC_FL},   {'e', FS_EXTENT_FL},
        {'F', FS_CASEFOLD_FL},    {'i', FS_IMMUTABLE_FL}, {'j', FS_JOURNAL_DATA_FL},
        {'P', FS_PROJINHERIT_FL}, {'s', FS_SECRM_FL},     {'S', FS_SYNC_FL},
        {'t', FS_NOTAIL_FL},      {'T', FS_TOPDIR_FL},    {'u', FS_UNRM_FL},
        {'x', FS_DAX_FL},
};

/* Those that "=" leaves alone: the map of a file is changed when that is asked for. */
#define NOT_BY_SET FS_EXTENT_FL

static uint32_t all_letters(void)
{
        uint32_t all = 0;

        for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++)
                all |= letters[i].flag;
        return all;
}

/* False: a letter that is none. */
static bool flags_of(const char *text, uint32_t *ret_flags)
{
        *ret_flags = 0;
        for (; *text; text++) {
                size_t i = 0;

                while (i < sizeof(letters) / sizeof(letters[0]) && letters[i].letter != *text)
                        i++;
                if (i == sizeof(letters) / sizeof(letters[0]))
                        return false;
                *ret_flags |= letters[i].flag;
        }
        return true;
}

static bool is_change(const char *arg)
{
        uint32_t flags;

        return (*arg == '+' || *arg == '-' || *arg == '=') && (arg[1] || *arg == '=') &&
               flags_of(arg + 1, &flags);
}

static void take_change(struct request *r, const char *arg)
{
        uint32_t flags = 0;

        (void)flags_of(arg + 1, &flags);
        if (*arg == '-') {
                r->remove |= flags;
                return;
        }
        r->add |= flags;
        r->has_set |= *arg == '=';
}

/* ---- one file ---- */

static void fail(struct cli *cli, const char *name, const struct request *r, int err)
{
        const uint32_t asked = r->add | r->remove;

        if (err == -EOPNOTSUPP)
                cli_fail(cli, name,
                         r->has_project && !asked && !r->has_set
                                 ? "this file system keeps no projects"
                                 : "it cannot have these flags, or cannot lose them");
        else if (err == -ENOSPC && (asked & FS_EXTENT_FL))
                cli_fail(cli, name,
                         "No space left on device (a second copy is made of the data)");
        else if (err == -EFBIG)
                cli_fail(cli, name, "too long for a file without extents");
        else if (err == -ENOTTY)
                cli_fail(cli, name, "only files and directories have flags");
        else
                cli_fail_change(cli, name, err);
}

static int set_flags(struct uext4_inode *inode, const struct request *r)
{
        uint32_t flags, old;
        int ret = uext4_get_flags(inode, &flags);

        if (ret < 0)
                return ret;
        old = flags;
        if (r->has_set)
                flags &= ~all_letters() | NOT_BY_SET;
        flags = (flags & ~r->remove) | r->add;
        return flags == old ? 0 : uext4_set_flags(inode, flags);
}

static int set_project(struct uext4_inode *inode, uint32_t project)
{
        struct fsxattr x;
        int ret = uext4_get_fsxattr(inode, &x);

        if (ret < 0)
                return ret;
        x.fsx_projid = project;
        return uext4_set_fsxattr(inode, &x);
}

static void change(struct cli *cli, const char *name, struct uext4_inode *inode,
                   const struct uext4_stat *st, void *arg)
{
        const struct request *r = arg;
        char text[TEXT_FLAGS_MAX];
        uint32_t flags;
        int ret = 0;

        /* What lifts a restriction comes before what it would forbid. */
        if (r->add || r->remove || r->has_set)
                ret = set_flags(inode, r);
        if (ret == 0 && r->has_project)
                ret = set_project(inode, r->project);
        if (ret < 0)
                fail(cli, name, r, ret);
        else if (cli->verbose && uext4_get_flags(inode, &flags) == 0)
                cli_say_name(text_inode_flags(text, flags), name, NULL);
}

/* In a tree other things are left alone, and the maps of directories are not meant. */
static void change_in_tree(struct cli *cli, const char *name, struct uext4_inode *inode,
                           const struct uext4_stat *st, void *arg)
{
        struct request r = *(const struct request *)arg;

        if (S_ISDIR(st->mode)) {
                r.add &= ~(uint32_t)FS_EXTENT_FL;
                r.remove &= ~(uint32_t)FS_EXTENT_FL;
        }
        if (S_ISREG(st->mode) || S_ISDIR(st->mode))
                change(cli, name, inode, st, &r);
}

/* ---- the command ---- */

/* "-i" is a change, and would be taken for an option: it is taken out before. */
static int take_changes(struct request *r, int argc, char **argv)
{
        int nr = 1;

        for (int i = 1; i < argc; i++) {
                if (is_change(argv[i]))
                        take_change(r, argv[i]);
                else
                        argv[nr++] = argv[i];
        }
        argv[nr] = NULL;
        return nr;
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"project", required_argument, NULL, 'p'},
                {"recursive", no_argument, NULL, 'R'},
                CLI_LONG_OPTIONS,
        };
        struct request r = {0};
        struct cli_each each = {.change = change, .arg = &r};
        int o;

        argc = take_changes(&r, argc, argv);
        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "p:R", longs)) != -1) {
                if (o == 'R') {
                        each.recursive = true;
                        each.change = change_in_tree;
                } else {
                        r.project = (uint32_t)cli_option_size(cli, "project", optarg, 0,
                                                              UINT32_MAX);
                        r.has_project = true;
                }
        }
        if (optind == argc)
                cli_usage_error(cli, "missing operand");
        if (strchr("+=", argv[optind][0]))
                cli_usage_error(cli, "invalid flags: '%s'", argv[optind]);
        if (!r.add && !r.remove && !r.has_set && !r.has_project)
                cli_usage_error(cli, "nothing to change: give +LETTERS, -LETTERS, =LETTERS or "
                                     "--project");
        if (r.add & r.remove)
                cli_usage_error(cli, "the same flag is to be set and to be removed");
        cli_change_each(cli, &each, argv + optind, argc - optind);
}

const struct cli_command cli_chattr = {
        .name = "chattr",
        .summary = "change flags and projects",
        .usage =
                "Usage: uext4 chattr [OPTION]... [+LETTERS] [-LETTERS] [=LETTERS] "
                "IMAGE:/PATH...\n"
                "Set flags, remove them, or set just these, as chattr(1); `uext4 stat` shows "
                "them.\n"
                "\n"
                "  a append only      A no access times    d no dump     D synchronous "
                "directory\n"
                "  e extents          i immutable          j journalled  P project inherited\n"
                "  S synchronous      T top of a hierarchy x DAX         c, s, t, u kept only\n"
                "\n"
                "  -p, --project=N        set the project, too\n"
                "  -R, --recursive        all that is in directories, too\n"
                "  -v, --verbose          print a line for each\n"
                "\n"
                "With -e the data gets a map of indirect blocks, as in ext3, and with +e "
                "extents;\n"
                "it is copied, and needs the space a second time meanwhile.\n",
        .run = run,
        .writes = true,
};
