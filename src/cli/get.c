/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * get.c - `uext4 get`: copy a file or a tree out of an image.
 *
 * The tree is walked once; directories are made on the way down and get their attributes on the
 * way up; files are created where the walk meets them and filled by the reader, which has
 * requests of several files under way, and get their attributes behind their last chunk.
 *
 * The image is hostile, and so may be what already lies at the target:
 *  G1  names come from the walk, which refuses those that are no single component;
 *  G2  below the target each directory is opened by one name relative to its parent's
 * descriptor, with O_NOFOLLOW: neither a symlink that was there nor one that we extracted leads
 * us away; G3  nothing that exists is written to: files are created with O_EXCL; with -f the
 * old name is removed first; only directories are used as they are; G4  a file is readable for
 * nobody else, and set-user-ID for nobody, before it is complete and has its owner: created
 * 0600 (directories 0700), chown, then attributes, then chmod.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cli/attributes.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "cli/reader.h"
#include "cli/text.h"
#include "cli/walk.h"

struct options {
        bool recursive, force, no_clobber;
};

/* The first name that an inode with several links got; in get->links by number. */
struct link {
        uint64_t ino;
        char *path; /* from the top directory */
};

struct get {
        struct cli *cli;
        const struct options *opt;
        struct cli_operand *op;
        struct reader *reader;
        bool broken; /* the reader is */

        /* The target: an entry `name` of the directory `parent`, or, with name NULL, `parent`
         * itself. */
        int parent;
        char *name;
        char *local; /* its path, for -v */

        int *dirs; /* descriptors of the directories that the walk is in, the top one first */
        size_t nr_dirs, room_dirs;

        void *links; /* tsearch() tree of struct link */
        struct attributes attributes;
};

/* A file on its way; owned by its reader job until the last chunk. */
struct pending {
        struct uext4_file *file;
        struct uext4_stat st;
        char *source; /* for messages */
        int fd;
        int write_error;
        int read_error; /* the first one */
        uint64_t read_error_pos;
        uint64_t lost; /* bytes that could not be read */
};

/* ---- contents ----------------------------------------------------------- */

static int write_at(int fd, const uint8_t *data, uint64_t len, uint64_t pos)
{
        while (len > 0) {
                ssize_t ret = pwrite(fd, data, len, (off_t)pos);

                if (ret < 0 && errno != EINTR)
                        return -errno;
                if (ret > 0) {
                        data += ret;
                        pos += (uint64_t)ret;
                        len -= (uint64_t)ret;
                }
        }
        return 0;
}

static void pending_free(struct pending *p)
{
        close(p->fd);
        free(p->source);
        free(p);
}

/* All data is written: the size, which a hole at the end needs, and the attributes. */
static void pending_finish(struct get *g, struct pending *p)
{
        const struct attributes_object object = {
                .fd = p->fd,
                .source = p->source,
                .st = &p->st,
                .inode = uext4_file_inode(p->file),
        };

        if (p->write_error == 0 && ftruncate(p->fd, (off_t)p->st.size) < 0)
                p->write_error = -errno;
        if (p->write_error)
                cli_fail(g->cli, p->source, "cannot write: %s", cli_strerror(p->write_error));
        if (p->read_error)
                cli_fail(g->cli, p->source,
                         "%s at byte %" PRIu64 "; %" PRIu64 " bytes lost, left as holes",
                         cli_strerror(p->read_error), p->read_error_pos, p->lost);
        if (p->write_error == 0) /* else it stays 0600: half a file must not look whole */
                attributes_set(&g->attributes, &object);
        pending_free(p);
}

static void handle_chunk(struct get *g, const struct reader_chunk *chunk)
{
        struct pending *p = chunk->user;

        if (chunk->error) {
                if (!p->read_error) {
                        p->read_error = chunk->error;
                        p->read_error_pos = chunk->pos;
                }
                p->lost += chunk->len;
        } else if (p->write_error == 0) {
                p->write_error = write_at(p->fd, chunk->data, chunk->len, chunk->pos);
        }
        progress_add(chunk->len);
        if (chunk->last)
                pending_finish(g, p);
}

/* Take chunks out with reader_make_room or, at the end, reader_next. */
static void drain(struct get *g,
                  int (*next)(struct reader *reader, struct reader_chunk *ret_chunk))
{
        struct reader_chunk chunk;
        int ret;

        while ((ret = next(g->reader, &chunk)) > 0)
                handle_chunk(g, &chunk);
        if (ret < 0) {
                cli_fail(g->cli, g->op->arg, "cannot go on reading: %s", cli_strerror(ret));
                g->broken = true;
        }
}

/* ---- creating ----------------------------------------------------------- */

/* May `name` be created?  With -f what is there is removed (G3).  1 yes, 0 no and all is said.
 */
static int make_room(struct get *g, int dir, const char *name, const char *source)
{
        struct stat st;

        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return 1; /* not there; another reason will come up when it is created */
        if (g->opt->no_clobber)
                return 0;
        if (g->opt->force && !S_ISDIR(st.st_mode)) {
                if (unlinkat(dir, name, 0) == 0)
                        return 1;
                cli_fail(g->cli, source, "cannot replace: %s", strerror(errno));
                return 0;
        }
        cli_fail(g->cli, source, "cannot create: %s",
                 g->opt->force ? "Is a directory" : "File exists (-f replaces it)");
        return 0;
}

static void fail_create(struct get *g, const char *source)
{
        cli_fail(g->cli, source, "cannot create: %s", strerror(errno));
}

/* Takes `source` over. */
static bool get_regular(struct get *g, const struct walk_item *item, int dir, const char *name,
                        char *source)
{
        struct pending *p;
        struct uext4_file *file;
        int fd, ret = reader_open(item->inode, &file);

        if (ret < 0) {
                cli_fail_errno(g->cli, source, ret);
                free(source);
                return false;
        }
        fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0) {
                fail_create(g, source);
                uext4_close(file);
                free(source);
                return false;
        }
        p = cli_alloc(1, sizeof(*p));
        p->file = file;
        p->st = item->st;
        p->source = source;
        p->fd = fd;
        reader_add(g->reader, file, READER_DATA, p);
        drain(g, reader_make_room);
        return true;
}

static int make_symlink(const struct walk_item *item, int dir, const char *name)
{
        char target[PATH_MAX];
        ssize_t len = uext4_readlink(item->inode, target, sizeof(target) - 1);

        if (len < 0)
                return (int)len;
        if ((size_t)len >= sizeof(target))
                return -ENAMETOOLONG;
        target[len] = '\0';
        if (strlen(target) != (size_t)len)
                return -EUCLEAN;
        return symlinkat(target, dir, name) < 0 ? -errno : 0;
}

static int make_special(const struct walk_item *item, int dir, const char *name)
{
        dev_t dev = makedev(item->st.rdev_major, item->st.rdev_minor);

        return mknodat(dir, name, (item->st.mode & S_IFMT) | 0600, dev) < 0 ? -errno : 0;
}

/* Symlinks, fifos, sockets, devices. */
static bool get_other(struct get *g, const struct walk_item *item, int dir, const char *name,
                      const char *source)
{
        const struct attributes_object object = {
                .fd = dir,
                .name = name,
                .source = source,
                .st = &item->st,
                .inode = item->inode,
        };
        int ret = S_ISLNK(item->st.mode) ? make_symlink(item, dir, name)
                                         : make_special(item, dir, name);

        if (ret < 0) {
                cli_fail(g->cli, source, "cannot create %s: %s", text_file_type(item->st.mode),
                         cli_strerror(ret));
                return false;
        }
        attributes_set(&g->attributes, &object);
        return true;
}

/* ---- hard links --------------------------------------------------------- */

static int link_compare(const void *a, const void *b)
{
        uint64_t x = ((const struct link *)a)->ino, y = ((const struct link *)b)->ino;

        return (x > y) - (x < y);
}

static const struct link *find_link(struct get *g, uint64_t ino)
{
        struct link key = {.ino = ino};
        struct link *const *found = tfind(&key, &g->links, link_compare);

        return found ? *found : NULL;
}

static void remember_link(struct get *g, uint64_t ino, const char *path)
{
        struct link *link = cli_alloc(1, sizeof(*link));

        link->ino = ino;
        link->path = cli_strdup(path);
        if (!tsearch(link, &g->links, link_compare)) { /* no memory: it will be a second copy */
                free(link->path);
                free(link);
        }
}

static void link_free(void *node)
{
        struct link *link = node;

        free(link->path);
        free(link);
}

/* Open the directory of `path`, which begins at the top directory, step by step (G2). */
static int open_parent(struct get *g, const char *path, const char **ret_name)
{
        int fd = fcntl(g->dirs[0], F_DUPFD_CLOEXEC, 0);
        const char *slash;

        while (fd >= 0 && (slash = strchr(path, '/'))) {
                char *step = strndup(path, (size_t)(slash - path));
                int next =
                        step ? openat(fd, step, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                             : -1;

                free(step);
                close(fd);
                fd = next;
                path = slash + 1;
        }
        *ret_name = path;
        return fd;
}

static void make_link(struct get *g, const struct link *link, int dir, const char *name,
                      const char *source)
{
        const char *old_name;
        int old = open_parent(g, link->path, &old_name);

        if (old < 0 || linkat(old, old_name, dir, name, 0) < 0)
                cli_fail(g->cli, source, "cannot link: %s", strerror(errno));
        if (old >= 0)
                close(old);
}

/* ---- the walk ----------------------------------------------------------- */

static void say_name(struct get *g, const char *source, const char *path)
{
        char *from = text_escape(source, strlen(source)), *to = text_escape(path, strlen(path));

        progress_hide();
        printf("'%s' -> '%s%s%s'\n", from, g->local, *path ? "/" : "", to);
        free(from);
        free(to);
}

/* Where an item is to be created. */
static int item_dir(const struct get *g)
{
        return g->nr_dirs > 0 ? g->dirs[g->nr_dirs - 1] : g->parent;
}

static const char *item_name(const struct get *g, const struct walk_item *item)
{
        return g->nr_dirs > 0 ? item->name : g->name;
}

static void get_file(struct get *g, const struct walk_item *item)
{
        char *source = cli_operand_name(g->op, item->path);
        const char *name = item_name(g, item);
        const struct link *link = item->st.nlink > 1 ? find_link(g, item->st.ino) : NULL;
        int dir = item_dir(g);
        bool made;

        if (!make_room(g, dir, name, source)) {
                free(source);
                return;
        }
        if (g->cli->verbose)
                say_name(g, source, item->path);
        if (link) {
                make_link(g, link, dir, name, source);
                free(source);
                return;
        }
        if (S_ISREG(item->st.mode)) {
                made = get_regular(g, item, dir, name, source);
        } else {
                made = get_other(g, item, dir, name, source);
                free(source);
        }
        if (made && item->st.nlink > 1 && g->nr_dirs > 0)
                remember_link(g, item->st.ino, item->path);
}

/* Make the directory, or take one that is there; its descriptor, or -errno. */
static int open_directory(struct get *g, const struct walk_item *item)
{
        const char *name = item_name(g, item);
        int dir = item_dir(g), fd;

        if (!name) /* the target itself: it was opened as what the user named */
                return fcntl(dir, F_DUPFD_CLOEXEC, 0);
        if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* False when the walk should not go in. */
static bool enter_directory(struct get *g, const struct walk_item *item)
{
        char *source = cli_operand_name(g->op, item->path);
        int fd = open_directory(g, item);

        if (fd < 0)
                cli_fail(g->cli, source, "cannot create directory: %s", cli_strerror(fd));
        else if (item->error < 0)
                cli_fail(g->cli, source, "reading directory: %s", cli_strerror(item->error));
        if (fd >= 0 && g->cli->verbose)
                say_name(g, source, item->path);
        free(source);
        if (fd < 0)
                return false;
        if (g->nr_dirs == g->room_dirs) {
                g->room_dirs = 2 * g->room_dirs + 16;
                g->dirs = cli_realloc(g->dirs, g->room_dirs, sizeof(*g->dirs));
        }
        g->dirs[g->nr_dirs++] = fd;
        return true;
}

/*
 * All that is in it has been created, though contents may still be on their way: writing to
 * files does not touch the directory's times.
 */
static void leave_directory(struct get *g, const struct walk_item *item)
{
        char *source = cli_operand_name(g->op, item->path);
        const struct attributes_object object = {
                .fd = g->dirs[g->nr_dirs - 1],
                .source = source,
                .st = &item->st,
                .inode = item->inode,
        };

        /* The user's own directory, into which the root's contents go, stays what it was. */
        if (g->nr_dirs > 1 || g->name)
                attributes_set(&g->attributes, &object);
        close(object.fd);
        g->nr_dirs--;
        free(source);
}

static void report_error(struct get *g, const struct walk_item *item)
{
        char *source = cli_operand_name(g->op, item->path);

        cli_fail(g->cli, source, "%s", item->what ? item->what : cli_strerror(item->error));
        free(source);
}

static void get_tree(struct get *g)
{
        struct walk *walk = walk_new(g->op->image->fs, g->op->inode);
        struct walk_item item;

        while (!g->broken && walk_next(walk, &item) > 0) {
                switch (item.event) {
                case WALK_FILE:
                        get_file(g, &item);
                        break;
                case WALK_ENTER:
                        if (!enter_directory(g, &item))
                                walk_skip(walk);
                        break;
                case WALK_LEAVE:
                        leave_directory(g, &item);
                        break;
                case WALK_ERROR:
                        report_error(g, &item);
                        break;
                }
        }
        if (!g->broken)
                drain(g, reader_next);
        walk_free(walk);
}

/* ---- how much there is to do -------------------------------------------- */

static uint64_t data_size(const struct uext4_stat *st)
{
        uint64_t allocated = st->blocks * 512;

        return allocated < st->size ? allocated : st->size;
}

static uint64_t tree_size(const struct cli_operand *op)
{
        struct walk *walk = walk_new(op->image->fs, op->inode);
        struct walk_item item;
        uint64_t size = 0;

        while (walk_next(walk, &item) > 0)
                if (item.event == WALK_FILE && S_ISREG(item.st.mode))
                        size += data_size(&item.st);
        walk_free(walk);
        return size;
}

/* ---- the target --------------------------------------------------------- */

/* The last component of a path without the slashes behind it; NULL for "/", "." and "..". */
static char *base_name(const char *path)
{
        size_t end = strlen(path), start;
        char *name;

        while (end > 0 && path[end - 1] == '/')
                end--;
        start = end;
        while (start > 0 && path[start - 1] != '/')
                start--;
        name = cli_alloc(end - start + 1, 1);
        memcpy(name, path + start, end - start);
        if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
                free(name);
                return NULL;
        }
        return name;
}

/* What lies before the last component: "." where there is nothing. */
static char *dir_name(const char *path)
{
        size_t end = strlen(path);
        char *dir;

        while (end > 1 && path[end - 1] == '/')
                end--;
        while (end > 0 && path[end - 1] != '/')
                end--;
        if (end == 0)
                return cli_strdup(".");
        dir = cli_strdup(path);
        dir[end] = '\0';
        return dir;
}

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
static bool find_target(struct get *g, const char *local)
{
        struct stat st;
        char *source = base_name(g->op->path);

        if (stat(local, &st) == 0 && S_ISDIR(st.st_mode)) {
                g->parent = open_target_dir(local);
                g->name = source;
                g->local = source ? cli_printf("%s/%s", local, source) : cli_strdup(local);
        } else {
                char *dir = dir_name(local);

                free(source);
                g->parent = open_target_dir(dir);
                g->name = base_name(local);
                g->local = cli_strdup(local);
                free(dir);
                if (g->parent >= 0 && (!g->name || (local[strlen(local) - 1] == '/' &&
                                                    !S_ISDIR(g->op->st.mode)))) {
                        cli_fail(g->cli, local, "Not a directory");
                        return false;
                }
        }
        if (g->parent < 0)
                cli_fail_errno(g->cli, local, g->parent);
        return g->parent >= 0;
}

/* ---- the command -------------------------------------------------------- */

/* A directory keeps its descriptor while the walk is in it: allow as deep a tree as the host
 * does. */
static void raise_file_limit(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;
                setrlimit(RLIMIT_NOFILE, &limit); /* without it, less deep trees */
        }
}

static void get_start(struct get *g)
{
        int ret = reader_new(g->op->image->fs, READER_DEPTH, READER_REQUEST, &g->reader);

        if (ret < 0) {
                cli_fail_errno(g->cli, g->op->arg, ret);
                return;
        }
        if (progress_wanted())
                progress_start(tree_size(g->op));
        get_tree(g);
        progress_stop();
        reader_free(g->reader);
        tdestroy(g->links, link_free);
        while (g->nr_dirs > 0)
                close(g->dirs[--g->nr_dirs]);
        free(g->dirs);
}

static void get_operand(struct cli *cli, const struct options *opt, struct cli_operand *op,
                        const char *local)
{
        struct get g = {.cli = cli, .opt = opt, .op = op, .parent = -1};

        if (S_ISDIR(op->st.mode) && !opt->recursive) {
                cli_fail(cli, op->arg, "-r not specified; omitting directory");
                return;
        }
        attributes_init(&g.attributes, cli);
        raise_file_limit();
        if (find_target(&g, local))
                get_start(&g);
        if (g.parent >= 0)
                close(g.parent);
        free(g.name);
        free(g.local);
}

static void run(struct cli *cli, int argc, char **argv)
{
        static const struct option longs[] = {
                {"recursive", no_argument, NULL, 'r'},
                {"force", no_argument, NULL, 'f'},
                {"no-clobber", no_argument, NULL, 'n'},
                CLI_LONG_OPTIONS,
        };
        struct options opt = {0};
        struct cli_operand op;
        int o;

        while ((o = cli_getopt(cli, argc, argv, CLI_SHORT_OPTIONS "fnr", longs)) != -1) {
                opt.recursive |= o == 'r';
                opt.force |= o == 'f';
                opt.no_clobber |= o == 'n';
        }
        if (argc - optind != 2)
                cli_usage_error(cli, "%s operand", argc - optind < 2 ? "missing" : "extra");
        if (opt.force && opt.no_clobber)
                cli_usage_error(cli, "-f and -n exclude each other");
        /* As cp: with -r a symlink is copied, without it is followed. */
        if (cli_operand_open(cli, argv[optind], opt.recursive ? CLI_NOFOLLOW : CLI_FOLLOW,
                             &op)) {
                get_operand(cli, &opt, &op, argv[optind + 1]);
                cli_operand_close(&op);
        }
}

const struct cli_command cli_get = {
        .name = "get",
        .summary = "copy files and trees out of an image",
        .usage = "Usage: uext4 get [OPTION]... IMAGE:/PATH LOCAL\n"
                 "Copy a file, or with -r a tree, to LOCAL, or into it when LOCAL is a "
                 "directory.\n"
                 "Mode, times, holes, hard links and extended attributes are kept, the owner\n"
                 "when you are root.\n"
                 "\n"
                 "  -f, --force            replace files that exist\n"
                 "  -n, --no-clobber       leave files that exist, and say nothing\n"
                 "  -r, --recursive        copy directories with all that is in them\n"
                 "  -v, --verbose          print the names, too\n",
        .run = run,
};
