/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* stat.c - `uext4 stat`: everything about a file that is not its contents. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/json.h"
#include "cli/object.h"
#include "cli/text.h"

/* What uext4_stat does not say. */
struct more {
        int nr_extents; /* -1: not a regular file, or not to be had */
        char *target;   /* of a symlink */
        char *xattrs;   /* names, each with its NUL; NULL for none */
        size_t xattrs_size;
};

static int count_extents(struct cli *cli, const struct cli_operand *op)
{
        struct uext4_file *file;
        int ret = uext4_open(op->inode, O_RDONLY | O_CLOEXEC, &file);

        if (ret == 0) {
                ret = uext4_fiemap(file, 0, FIEMAP_MAX_OFFSET, NULL, 0);
                uext4_close(file);
        }
        if (ret < 0 && ret != -ENOKEY)
                cli_fail(cli, op->arg, "cannot count extents: %s", cli_strerror(ret));
        return ret < 0 ? -1 : ret;
}

static char *read_target(struct cli *cli, const struct cli_operand *op)
{
        char buf[4096];
        ssize_t len = uext4_readlink(op->inode, buf, sizeof(buf) - 1);

        if (len < 0) {
                cli_fail(cli, op->arg, "cannot read symbolic link: %s", cli_strerror((int)len));
                return NULL;
        }
        buf[(size_t)len < sizeof(buf) ? (size_t)len : sizeof(buf) - 1] = '\0';
        return cli_strdup(buf);
}

static void list_xattrs(struct cli *cli, const struct cli_operand *op, struct more *more)
{
        const struct object o = object_of_image(op->image, op->inode, &op->st, op->arg);
        int ret = object_xattr_names(&o, &more->xattrs, &more->xattrs_size);

        if (ret < 0)
                cli_fail(cli, op->arg, "cannot list attributes: %s", cli_strerror(ret));
}

static struct more find_more(struct cli *cli, const struct cli_operand *op)
{
        struct more more = {.nr_extents = -1};

        if (S_ISREG(op->st.mode))
                more.nr_extents = count_extents(cli, op);
        if (S_ISLNK(op->st.mode))
                more.target = read_target(cli, op);
        list_xattrs(cli, op, &more);
        return more;
}

/* ---- for people --------------------------------------------------------- */

static void print_name(const struct cli_operand *op, const struct more *more)
{
        char *name = text_escape(op->arg, strlen(op->arg));

        printf("  File: %s", name);
        free(name);
        if (more->target) {
                char *target = text_escape(more->target, strlen(more->target));

                printf(" -> %s", target);
                free(target);
        }
        putchar('\n');
}

static void print_time(const char *label, struct timespec ts)
{
        char buf[TEXT_TIME_MAX];

        printf("%s: %s\n", label, text_time(buf, ts));
}

static void print_xattrs(const struct more *more)
{
        const char *name;

        printf("Xattrs:");
        for (size_t at = 0; (name = object_next_xattr(more->xattrs, more->xattrs_size, &at));) {
                char *escaped = text_escape(name, strlen(name));

                printf(" %s", escaped);
                free(escaped);
        }
        puts(more->xattrs_size ? "" : " -");
}

static void print_text(const struct cli_operand *op, const struct more *more)
{
        const struct uext4_stat *st = &op->st;
        char mode[TEXT_MODE_MAX], flags[TEXT_FLAGS_MAX];

        print_name(op, more);
        printf("  Size: %-15" PRIu64 " Blocks: %-10" PRIu64 " IO Block: %-6" PRIu32 " %s\n",
               st->size, st->blocks, st->blksize,
               S_ISREG(st->mode) && st->size == 0 ? "regular empty file"
                                                  : text_file_type(st->mode));
        printf(" Inode: %-15" PRIu64 " Links: %-11" PRIu32 " Generation: %" PRIu32, st->ino,
               st->nlink, st->generation);
        if (S_ISCHR(st->mode) || S_ISBLK(st->mode))
                printf("  Device type: %" PRIu32 ",%" PRIu32, st->rdev_major, st->rdev_minor);
        printf("\nAccess: (%04o/%s)  Uid: %" PRIu32 "  Gid: %" PRIu32 "  Project: %" PRIu32
               "\n",
               (unsigned)st->mode & 07777u, text_mode(mode, st->mode), st->uid, st->gid,
               st->projid);
        print_time("Access", st->atime);
        print_time("Modify", st->mtime);
        print_time("Change", st->ctime);
        if (st->btime.tv_sec || st->btime.tv_nsec)
                print_time(" Birth", st->btime);
        else
                puts(" Birth: -");
        printf(" Flags: %s\n", text_inode_flags(flags, st->flags));
        if (more->nr_extents >= 0)
                printf("Extents: %d\n", more->nr_extents);
        if (S_ISREG(st->mode) && st->dio_offset_align)
                printf("Direct I/O: memory aligned to %" PRIu32 ", offsets to %" PRIu32 "\n",
                       st->dio_mem_align, st->dio_offset_align);
        else if (S_ISREG(st->mode))
                puts("Direct I/O: served buffered");
        print_xattrs(more);
}

/* ---- JSON --------------------------------------------------------------- */

static void add_time(json_t *object, const char *key, struct timespec ts)
{
        json_t *time = json_object();

        json_add(time, "sec", json_integer(ts.tv_sec));
        json_add(time, "nsec", json_integer(ts.tv_nsec));
        json_add(object, key, time);
}

static json_t *flags_json(uint32_t flags)
{
        json_t *array = json_array();
        const char *name;
        bool set;

        for (size_t i = 0; (name = text_inode_flag_name(i, flags, &set)); i++)
                if (set)
                        json_push(array, json_text(name));
        return array;
}

static json_t *stat_json(const struct cli_operand *op, const struct more *more)
{
        const struct uext4_stat *st = &op->st;
        json_t *top = json_object(), *xattrs = json_array();
        const char *name;

        json_add_text(top, "name", op->arg);
        json_add_text(top, "type", text_file_type(st->mode));
        json_add_uint(top, "ino", st->ino);
        json_add_uint(top, "generation", st->generation);
        json_add_uint(top, "version", st->version);
        json_add_uint(top, "mode", st->mode);
        json_add_uint(top, "nlink", st->nlink);
        json_add_uint(top, "uid", st->uid);
        json_add_uint(top, "gid", st->gid);
        json_add_uint(top, "projid", st->projid);
        json_add_uint(top, "rdev_major", st->rdev_major);
        json_add_uint(top, "rdev_minor", st->rdev_minor);
        json_add_uint(top, "size", st->size);
        json_add_uint(top, "blocks", st->blocks);
        json_add_uint(top, "blksize", st->blksize);
        add_time(top, "atime", st->atime);
        add_time(top, "mtime", st->mtime);
        add_time(top, "ctime", st->ctime);
        if (st->btime.tv_sec || st->btime.tv_nsec)
                add_time(top, "btime", st->btime);
        json_add_uint(top, "flags", st->flags);
        json_add(top, "flag_names", flags_json(st->flags));
        json_add_uint(top, "dio_mem_align", st->dio_mem_align);
        json_add_uint(top, "dio_offset_align", st->dio_offset_align);
        if (more->nr_extents >= 0)
                json_add_uint(top, "extents", (uint64_t)more->nr_extents);
        if (more->target)
                json_add_text(top, "target", more->target);
        for (size_t at = 0; (name = object_next_xattr(more->xattrs, more->xattrs_size, &at));)
                json_push(xattrs, json_text(name));
        json_add(top, "xattrs", xattrs);
        return top;
}

/* ---- the command -------------------------------------------------------- */

enum {
        OPT_JSON = CLI_OPT_FIRST
};

/* With `array`, JSON goes there instead of to stdout. */
static void stat_one(struct cli *cli, const char *arg, enum cli_follow follow, json_t *array)
{
        struct cli_operand op;
        struct more more;

        if (!cli_operand_open(cli, arg, follow, &op))
                return;
        more = find_more(cli, &op);
        if (array)
                json_push(array, stat_json(&op, &more));
        else
                print_text(&op, &more);
        free(more.target);
        free(more.xattrs);
        cli_operand_close(&op);
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"dereference", no_argument, NULL, 'L'},
                {"json", no_argument, NULL, OPT_JSON},
                CLI_LONG_OPTIONS,
        };
        enum cli_follow follow = CLI_NOFOLLOW;
        json_t *array = NULL;
        int o;

        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "L", longs)) != -1) {
                if (o == 'L')
                        follow = CLI_FOLLOW;
                else if (!array)
                        array = json_array();
        }
        if (optind == argc)
                cli_usage_error(cli, "missing operand");
        for (int i = optind; i < argc; i++)
                stat_one(cli, argv[i], follow, array);
        if (array)
                json_print(array);
}

const struct cli_command cli_stat = {
        .name = "stat",
        .summary = "show everything about a file but its contents",
        .usage = "Usage: uext4 stat [OPTION]... IMAGE:/PATH...\n"
                 "Show attributes of files: those of stat(1), inode flags as lsattr(1) prints "
                 "them,\n"
                 "generation, project, extents, alignment for direct I/O, names of extended\n"
                 "attributes.\n"
                 "\n"
                 "  -L, --dereference      follow symbolic links\n"
                 "      --json             print a JSON array with one object for each file\n",
        .run = run,
};
