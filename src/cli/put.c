/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * put.c - `uext4 put`: copy files into an image.
 *
 * Names are made one after the other; contents are written by the writer, which has requests of
 * several files under way.  Nothing that exists is written to: with -f the old name is removed
 * first.  A file whose contents could not all be written is removed again, for half a file
 * must not look whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/change.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "cli/writer.h"

struct options {
        bool force, no_clobber, buffered, sync;
};

struct put {
        struct cli *cli;
        const struct options *opt;
        struct writer *writer;
        bool broken; /* the writer is */

        /* The target: a directory of the image, and with `name` the new name in it, else each
         * source keeps its own. */
        struct cli_operand dir;
        char *name;
};

/* A file on its way; owned by the writer's job until its end. */
struct pending {
        struct put *put;
        struct uext4_inode *inode;
        char *source;
        char *name;   /* in the directory */
        char *target; /* for messages */
};

/* ---- names -------------------------------------------------------------- */

/* The last component of a path without the slashes behind it; NULL for "/", "." and "..". */
static char *base_name(const char *path)
{
        size_t end = strlen(path), start;
        char *name;

        while (end > 0 && path[end - 1] == '/')
                end--;
        for (start = end; start > 0 && path[start - 1] != '/';)
                start--;
        name = cli_printf("%.*s", (int)(end - start), path + start);
        if (*name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
                return name;
        free(name);
        return NULL;
}

/* What exists under a name: 1 and its attributes, 0, or -errno. */
static int find_name(struct put *p, const char *name, struct uext4_stat *ret_st)
{
        struct uext4_inode *inode;
        int ret = uext4_lookup(p->dir.inode, name, strlen(name), &inode);

        if (ret < 0)
                return ret == -ENOENT ? 0 : ret;
        ret = uext4_stat(inode, ret_st);
        uext4_inode_put(inode);
        return ret < 0 ? ret : 1;
}

/* May the name be created?  With -f what is there is removed. */
static bool make_room(struct put *p, const char *name, const char *target)
{
        struct uext4_stat st;
        int ret = find_name(p, name, &st);

        if (ret == 0)
                return true;
        if (ret > 0 && p->opt->no_clobber)
                return false;
        if (ret > 0 && S_ISDIR(st.mode))
                ret = -EISDIR;
        else if (ret > 0 && !p->opt->force)
                ret = -EEXIST;
        else if (ret > 0)
                ret = uext4_unlink(p->dir.inode, name, strlen(name));
        if (ret == -EEXIST)
                cli_fail(p->cli, target, "File exists (-f replaces it)");
        else if (ret < 0)
                cli_fail_change(p->cli, target, ret);
        return ret == 0;
}

/* ---- one file ----------------------------------------------------------- */

static void pending_free(struct pending *f)
{
        uext4_inode_put(f->inode);
        free(f->source);
        free(f->name);
        free(f->target);
        free(f);
}

/* The writer's call: all is written, or nothing of it shall stay. */
static void file_ended(void *arg, void *user, int error, bool reading)
{
        struct put *p = arg;
        struct pending *f = user;

        if (error && reading)
                cli_fail(p->cli, f->source, "cannot read: %s", cli_strerror(error));
        else if (error)
                cli_fail(p->cli, f->target, "cannot write: %s", cli_strerror(error));
        if (error) {
                int ret = uext4_unlink(p->dir.inode, f->name, strlen(f->name));

                if (ret < 0)
                        cli_fail(p->cli, f->target, "cannot remove what was written: %s",
                                 cli_strerror(ret));
        }
        pending_free(f);
}

/* Open a regular file of the host; its descriptor, or -1, and all is said. */
static int open_source(struct put *p, const char *source, struct stat *ret_st)
{
        /* Opening a fifo must not wait for somebody. */
        int fd = open(source, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

        if (fd < 0 || fstat(fd, ret_st) < 0) {
                cli_fail_errno(p->cli, source, -errno);
        } else if (S_ISREG(ret_st->st_mode)) {
                return fd;
        } else {
                cli_fail(p->cli, source,
                         S_ISDIR(ret_st->st_mode) ? "is a directory; only files are copied"
                                                  : "is not a regular file");
        }
        if (fd >= 0)
                close(fd);
        return -1;
}

static void say_name(const struct pending *f)
{
        char *from = text_escape(f->source, strlen(f->source)),
             *to = text_escape(f->target, strlen(f->target));

        progress_hide();
        printf("'%s' -> '%s'\n", from, to);
        free(from);
        free(to);
}

/* Make the name, with the owner of the host's file when that could be kept on the host, too. */
static int create(struct put *p, struct pending *f, const struct stat *st)
{
        const struct uext4_cred root = {st->st_uid, st->st_gid}, user = {getuid(), getgid()};
        const bool keep = geteuid() == 0;
        uint32_t mode = st->st_mode & (keep ? 07777 : 01777);

        return uext4_create(p->dir.inode, f->name, strlen(f->name), mode, keep ? &root : &user,
                            &f->inode);
}

static void put_open_file(struct put *p, const char *source, int fd, const struct stat *st)
{
        struct pending *f = cli_alloc(1, sizeof(*f));
        int ret;

        f->put = p;
        f->source = cli_strdup(source);
        f->name = p->name ? cli_strdup(p->name) : base_name(source);
        f->target = cli_operand_name(&p->dir, f->name);
        if (!make_room(p, f->name, f->target)) {
                close(fd);
                pending_free(f);
                return;
        }
        ret = create(p, f, st);
        if (ret < 0) {
                if (ret == -EROFS)
                        cli_fail_change(p->cli, f->target, ret);
                else
                        cli_fail(p->cli, f->target, "cannot create: %s", cli_strerror(ret));
                close(fd);
                pending_free(f);
                return;
        }
        if (p->cli->verbose)
                say_name(f);
        ret = writer_add(p->writer, f->inode, fd, (uint64_t)st->st_size, f);
        if (ret < 0) {
                cli_fail(p->cli, p->dir.arg, "cannot go on writing: %s", cli_strerror(ret));
                p->broken = true;
        }
}

static void put_file(struct put *p, const char *source)
{
        struct stat st;
        int fd = open_source(p, source, &st);

        if (fd >= 0)
                put_open_file(p, source, fd, &st);
}

/* ---- the target --------------------------------------------------------- */

/*
 * IMAGE:/PATH without its last component, "IMAGE:/" at least; *ret_name is that component. NULL
 * when there is none.
 */
static char *split_target(const char *arg, char **ret_name)
{
        size_t path = cli_operand_split(arg), end = strlen(arg);

        if (!arg[path] || !(*ret_name = base_name(arg + path + 1)))
                return NULL;
        while (arg[end - 1] == '/')
                end--;
        end -= strlen(*ret_name);
        return cli_printf("%.*s", (int)end, arg);
}

static bool target_is_dir(struct cli *cli, const char *arg, bool *ret_mounted)
{
        size_t split = cli_operand_split(arg);
        char *uri = cli_printf("%.*s", (int)split, arg);
        struct cli_image *image = cli_image_get(cli, uri);
        struct uext4_inode *inode;
        struct uext4_stat st = {0};

        free(uri);
        *ret_mounted = image != NULL;
        if (!image ||
            uext4_resolve(image->fs, arg[split] ? arg + split + 1 : "/", 0, &inode) < 0)
                return false;
        if (uext4_stat(inode, &st) < 0)
                st.mode = 0;
        uext4_inode_put(inode);
        return S_ISDIR(st.mode);
}

/* As cp: into DST when it is a directory, else DST is the new name of the only source. */
static bool find_target(struct put *p, const char *arg, int nr_sources)
{
        bool mounted, found;
        char *dir;

        if (target_is_dir(p->cli, arg, &mounted))
                return cli_operand_open(p->cli, arg, CLI_FOLLOW, &p->dir);
        if (!mounted)
                return false;
        dir = split_target(arg, &p->name);
        if (!dir || nr_sources > 1 || arg[strlen(arg) - 1] == '/') {
                cli_fail_errno(p->cli, arg, dir ? -ENOTDIR : -ENOENT);
                free(dir);
                return false;
        }
        found = cli_operand_open(p->cli, dir, CLI_FOLLOW, &p->dir);
        free(dir);
        return found;
}

/* ---- the command -------------------------------------------------------- */

static uint64_t sources_size(char **sources, int nr)
{
        uint64_t size = 0;
        struct stat st;

        for (int i = 0; i < nr; i++) {
                uint64_t allocated;

                if (stat(sources[i], &st) < 0 || !S_ISREG(st.st_mode))
                        continue;
                allocated = (uint64_t)st.st_blocks * 512;
                size += allocated < (uint64_t)st.st_size ? allocated : (uint64_t)st.st_size;
        }
        return size;
}

static void put_all(struct put *p, char **sources, int nr)
{
        const struct writer_params params = {
                .depth = WRITER_DEPTH,
                .request_size = WRITER_REQUEST,
                .buffered = p->opt->buffered,
                .sync = p->opt->sync,
                .ended = file_ended,
                .arg = p,
        };
        int ret = writer_new(p->dir.image->fs, &params, &p->writer);

        if (ret < 0) {
                cli_fail_errno(p->cli, p->dir.arg, ret);
                return;
        }
        if (progress_wanted())
                progress_start(sources_size(sources, nr));
        for (int i = 0; i < nr && !p->broken; i++)
                put_file(p, sources[i]);
        ret = p->broken ? 0 : writer_drain(p->writer);
        if (ret < 0)
                cli_fail(p->cli, p->dir.arg, "cannot go on writing: %s", cli_strerror(ret));
        progress_stop();
        writer_free(p->writer);
        if (p->opt->sync) {
                ret = uext4_fsync_inode(p->dir.inode);
                if (ret < 0)
                        cli_fail_change(p->cli, p->dir.arg, ret);
        }
}

static void run(struct cli *cli, int argc, char **argv)
{
        enum {
                OPT_DIRECT = CLI_OPT_FIRST,
                OPT_BUFFERED,
                OPT_FSYNC,
        };
        static const struct option longs[] = {
                {"force", no_argument, NULL, 'f'},
                {"no-clobber", no_argument, NULL, 'n'},
                {"direct", no_argument, NULL, OPT_DIRECT},
                {"buffered", no_argument, NULL, OPT_BUFFERED},
                {"fsync", no_argument, NULL, OPT_FSYNC},
                CLI_LONG_OPTIONS,
        };
        struct options opt = {0};
        struct put p = {.cli = cli, .opt = &opt};
        int o;

        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "fn", longs)) != -1) {
                opt.force |= o == 'f';
                opt.no_clobber |= o == 'n';
                opt.sync |= o == OPT_FSYNC;
                if (o == OPT_DIRECT || o == OPT_BUFFERED) /* the last one counts */
                        opt.buffered = o == OPT_BUFFERED;
        }
        if (argc - optind < 2)
                cli_usage_error(cli, "missing operand");
        if (opt.force && opt.no_clobber)
                cli_usage_error(cli, "-f and -n exclude each other");
        if (find_target(&p, argv[argc - 1], argc - 1 - optind)) {
                put_all(&p, argv + optind, argc - 1 - optind);
                cli_operand_close(&p.dir);
        }
        free(p.name);
}

const struct cli_command cli_put = {
        .name = "put",
        .summary = "copy files into an image",
        .usage = "Usage: uext4 put [OPTION]... FILE... IMAGE:/PATH\n"
                 "Copy files to PATH, or into it when it is a directory.  Mode and holes are\n"
                 "kept, the owner when you are root.\n"
                 "\n"
                 "      --buffered         write through files opened without O_DIRECT\n"
                 "      --direct           write by direct I/O (the default)\n"
                 "  -f, --force            replace files that exist\n"
                 "      --fsync            make each file durable before it counts as copied;\n"
                 "                         without, all are when the command ends\n"
                 "  -n, --no-clobber       leave files that exist, and say nothing\n"
                 "  -v, --verbose          print the names, too\n",
        .run = run,
        .writes = true,
};
