/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * ls.c - `uext4 ls`: list directories as ls(1) does.
 *
 * As there, operands that are no directories come first, each directory follows under its name
 * when there is more than one thing to list, and what cannot be read is said while the rest
 * goes on.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/text.h"
#include "cli/walk.h"

struct options {
        bool all, directory, escape, inode, longer, recursive;
        time_t now;
};

/* One line of output. */
struct line {
        char *name;   /* as printed */
        char *target; /* as printed, NULL for none */
        uint64_t ino;
        bool known; /* st is valid */
        struct uext4_stat st;
};

struct lines {
        struct line *lines;
        size_t nr, room;
};

/* ---- collecting --------------------------------------------------------- */

static char *printed_name(const struct options *opt, const char *name, size_t len)
{
        char *copy;

        if (opt->escape)
                return text_escape(name, len);
        copy = cli_alloc(len + 1, 1);
        memcpy(copy, name, len);
        return copy;
}

static char *read_target(struct cli *cli, const struct options *opt, const char *path,
                         struct uext4_inode *inode)
{
        char target[4096];
        ssize_t len = uext4_readlink(inode, target, sizeof(target));

        if (len < 0) {
                cli_fail(cli, path, "cannot read symbolic link: %s", cli_strerror((int)len));
                return NULL;
        }
        if ((size_t)len > sizeof(target))
                len = sizeof(target);
        return printed_name(opt, target, (size_t)len);
}

/* Takes `name` over.  Without an inode only name and number are known. */
static void lines_add(struct cli *cli, struct lines *lines, const struct options *opt,
                      char *name, const char *path, uint64_t ino, struct uext4_inode *inode)
{
        struct line *line;

        if (lines->nr == lines->room) {
                lines->room = 2 * lines->room + 16;
                lines->lines = cli_realloc(lines->lines, lines->room, sizeof(*lines->lines));
        }
        line = &lines->lines[lines->nr++];
        memset(line, 0, sizeof(*line));
        line->name = name;
        line->ino = ino;
        if (!inode || uext4_stat(inode, &line->st) < 0)
                return;
        line->known = true;
        if (S_ISLNK(line->st.mode) && opt->longer)
                line->target = read_target(cli, opt, path, inode);
}

static void lines_done(struct lines *lines)
{
        for (size_t i = 0; i < lines->nr; i++) {
                free(lines->lines[i].name);
                free(lines->lines[i].target);
        }
        free(lines->lines);
}

/* ---- printing ----------------------------------------------------------- */

struct widths {
        int ino, nlink, uid, gid, size;
};

static int digits(uint64_t n)
{
        int nr = 1;

        while (n >= 10) {
                n /= 10;
                nr++;
        }
        return nr;
}

static void widen(int *width, int n)
{
        if (n > *width)
                *width = n;
}

static bool is_device(const struct line *line)
{
        return S_ISCHR(line->st.mode) || S_ISBLK(line->st.mode);
}

static struct widths find_widths(const struct lines *lines)
{
        struct widths w = {0};

        for (size_t i = 0; i < lines->nr; i++) {
                const struct line *line = &lines->lines[i];

                widen(&w.ino, digits(line->ino));
                if (!line->known)
                        continue;
                widen(&w.nlink, digits(line->st.nlink));
                widen(&w.uid, digits(line->st.uid));
                widen(&w.gid, digits(line->st.gid));
                if (is_device(line)) /* "major, minor" */
                        widen(&w.size,
                              digits(line->st.rdev_major) + 2 + digits(line->st.rdev_minor));
                else
                        widen(&w.size, digits(line->st.size));
        }
        return w;
}

static void print_long(const struct options *opt, const struct line *line,
                       const struct widths *w)
{
        char mode[TEXT_MODE_MAX], date[TEXT_TIME_MAX];
        const struct uext4_stat *st = &line->st;

        if (!line->known) {
                printf("?????????? %*s %*s %*s %*s            ? ", w->nlink, "?", w->uid, "?",
                       w->gid, "?", w->size, "?");
                return;
        }
        printf("%s %*" PRIu32 " %*" PRIu32 " %*" PRIu32 " ", text_mode(mode, st->mode),
               w->nlink, st->nlink, w->uid, st->uid, w->gid, st->gid);
        if (is_device(line))
                printf("%*" PRIu32 ", %" PRIu32, w->size - 2 - digits(st->rdev_minor),
                       st->rdev_major, st->rdev_minor);
        else
                printf("%*" PRIu64, w->size, st->size);
        printf(" %s ", text_time_short(date, st->mtime, opt->now));
}

static void print_lines(const struct options *opt, const struct lines *lines)
{
        struct widths w = find_widths(lines);

        for (size_t i = 0; i < lines->nr; i++) {
                const struct line *line = &lines->lines[i];

                if (opt->inode)
                        printf("%*" PRIu64 " ", w.ino, line->ino);
                if (opt->longer)
                        print_long(opt, line, &w);
                fputs(line->name, stdout);
                if (line->target)
                        printf(" -> %s", line->target);
                putchar('\n');
        }
}

static void print_total(const struct lines *lines)
{
        uint64_t sectors = 0;

        for (size_t i = 0; i < lines->nr; i++)
                if (lines->lines[i].known)
                        sectors += lines->lines[i].st.blocks;
        printf("total %" PRIu64 "\n", sectors / 2); /* KiB, as ls -l */
}

/* ---- directories -------------------------------------------------------- */

static bool is_hidden(const struct options *opt, const struct dirlist_entry *entry)
{
        return !opt->all && entry->name[0] == '.';
}

static struct lines collect(struct cli *cli, const struct options *opt, struct uext4_fs *fs,
                            const char *path, const struct dirlist *list)
{
        struct lines lines = {0};

        for (size_t i = 0; i < list->nr; i++) {
                const struct dirlist_entry *entry = &list->entries[i];
                struct uext4_inode *inode = NULL;
                char *full;
                int ret = 0;

                if (is_hidden(opt, entry))
                        continue;
                full = cli_printf("%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/",
                                  entry->name);
                if (opt->longer)
                        ret = uext4_inode_get(fs, entry->ino, 0, &inode);
                if (ret < 0)
                        cli_fail_errno(cli, full, ret);
                lines_add(cli, &lines, opt, printed_name(opt, entry->name, entry->name_len),
                          full, entry->ino, inode);
                uext4_inode_put(inode);
                free(full);
        }
        return lines;
}

static void print_directory(struct cli *cli, const struct options *opt, struct uext4_fs *fs,
                            const char *path, const struct dirlist *list)
{
        struct lines lines = collect(cli, opt, fs, path, list);

        if (opt->longer)
                print_total(&lines);
        print_lines(opt, &lines);
        lines_done(&lines);
}

/* "NAME:" over a directory's list, with an empty line between two things. */
static void print_heading(const struct options *opt, const char *path, bool *any)
{
        char *name = printed_name(opt, path, strlen(path));

        printf("%s%s:\n", *any ? "\n" : "", name);
        *any = true;
        free(name);
}

/* Does a part of this path begin with a dot, so that ls -R without -a leaves it out? */
static bool path_is_hidden(const struct options *opt, const char *path)
{
        return !opt->all && (path[0] == '.' || strstr(path, "/."));
}

/* A directory that the walk enters; with -a its list needs the dots that a walk leaves out. */
static void list_entered(struct cli *cli, const struct options *opt,
                         const struct cli_operand *op, const char *path,
                         const struct walk_item *item)
{
        struct dirlist dots;

        if (item->error < 0)
                cli_fail(cli, path, "reading directory: %s", cli_strerror(item->error));
        if (!opt->all) {
                print_directory(cli, opt, op->image->fs, path, item->list);
                return;
        }
        dirlist_read(item->inode, DIRLIST_DOTS, &dots); /* its error is item->error */
        print_directory(cli, opt, op->image->fs, path, &dots);
        dirlist_done(&dots);
}

static void list_recursive(struct cli *cli, const struct options *opt,
                           const struct cli_operand *op, bool *any)
{
        struct walk *walk = walk_new(op->image->fs, op->inode);
        struct walk_item item;

        while (walk_next(walk, &item) > 0) {
                char *path = cli_operand_name(op, item.path);
                bool hidden = path_is_hidden(opt, item.path);

                if (item.event == WALK_ENTER && hidden) {
                        walk_skip(walk);
                } else if (item.event == WALK_ENTER) {
                        print_heading(opt, path, any);
                        list_entered(cli, opt, op, path, &item);
                } else if (item.event == WALK_ERROR && !hidden) {
                        cli_fail(cli, path, "%s",
                                 item.what ? item.what : cli_strerror(item.error));
                }
                free(path);
        }
        walk_free(walk);
}

static void list_directory(struct cli *cli, const struct options *opt,
                           const struct cli_operand *op)
{
        struct dirlist list;
        int ret = dirlist_read(op->inode, opt->all ? DIRLIST_DOTS : DIRLIST_NO_DOTS, &list);

        if (ret < 0)
                cli_fail(cli, op->arg, "reading directory: %s", cli_strerror(ret));
        print_directory(cli, opt, op->image->fs, op->arg, &list);
        dirlist_done(&list);
}

/* ---- the command -------------------------------------------------------- */

static bool is_listed(const struct options *opt, const struct cli_operand *op)
{
        return S_ISDIR(op->st.mode) && !opt->directory;
}

/* The operands that are listed themselves, in one table.  True when there was one. */
static bool print_files(struct cli *cli, const struct options *opt,
                        const struct cli_operand *ops, size_t nr)
{
        struct lines lines = {0};
        bool any;

        for (size_t i = 0; i < nr; i++)
                if (!is_listed(opt, &ops[i]))
                        lines_add(cli, &lines, opt,
                                  printed_name(opt, ops[i].arg, strlen(ops[i].arg)), ops[i].arg,
                                  ops[i].st.ino, ops[i].inode);
        print_lines(opt, &lines);
        any = lines.nr > 0;
        lines_done(&lines);
        return any;
}

static void list_operands(struct cli *cli, const struct options *opt,
                          const struct cli_operand *ops, size_t nr, bool headings)
{
        bool any = print_files(cli, opt, ops, nr);

        for (size_t i = 0; i < nr; i++) {
                if (!is_listed(opt, &ops[i]))
                        continue;
                if (opt->recursive) {
                        list_recursive(cli, opt, &ops[i], &any);
                        continue;
                }
                if (headings)
                        print_heading(opt, ops[i].arg, &any);
                list_directory(cli, opt, &ops[i]);
        }
}

static void parse_option(int o, struct options *opt)
{
        switch (o) {
        case 'a':
                opt->all = true;
                break;
        case 'b':
                opt->escape = true;
                break;
        case 'd':
                opt->directory = true;
                break;
        case 'i':
                opt->inode = true;
                break;
        case 'l':
                opt->longer = true;
                break;
        case 'R':
                opt->recursive = true;
                break;
        }
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"all", no_argument, NULL, 'a'},       {"escape", no_argument, NULL, 'b'},
                {"directory", no_argument, NULL, 'd'}, {"inode", no_argument, NULL, 'i'},
                {"recursive", no_argument, NULL, 'R'}, CLI_LONG_OPTIONS,
        };
        struct options opt = {.escape = isatty(STDOUT_FILENO), .now = time(NULL)};
        struct cli_operand *ops;
        char **operands;
        size_t nr = 0;
        int o, nr_operands;

        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "abdilR", longs)) != -1)
                parse_option(o, &opt);
        operands = cli_operands(cli, argc, argv, &nr_operands);
        ops = cli_alloc((size_t)nr_operands, sizeof(*ops));
        for (int i = 0; i < nr_operands; i++) {
                /* As ls: a symlink that is given is followed, but not with -l or -d. */
                bool follow = !opt.longer && !opt.directory;

                if (cli_operand_open(cli, operands[i], follow ? CLI_FOLLOW : CLI_NOFOLLOW,
                                     &ops[nr]))
                        nr++;
        }
        list_operands(cli, &opt, ops, nr, nr_operands > 1);
        for (size_t i = 0; i < nr; i++)
                cli_operand_close(&ops[i]);
        free(ops);
}

const struct cli_command cli_ls = {
        .name = "ls",
        .summary = "list directories",
        .usage = "Usage: uext4 ls [OPTION]... IMAGE:/PATH...\n"
                 "List files, and what is in directories, sorted by name.\n"
                 "\n"
                 "  -a, --all              do not leave out names that begin with a dot\n"
                 "  -b, --escape           escape bytes that are not printable; so it is\n"
                 "                         always on a terminal\n"
                 "  -d, --directory        list directories themselves\n"
                 "  -i, --inode            print inode numbers\n"
                 "  -l                     long format: mode, links, owner, group, size, time\n"
                 "  -R, --recursive        list directories below, too\n",
        .run = run,
};
