/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * extract.c - a file or a tree of an image becomes one of the host (see extract.h).
 *
 * The tree is walked once; directories are made on the way down and get their attributes on the
 * way up; files are created where the walk meets them and filled by the reader, which has
 * requests of several files under way, and get their attributes behind their last chunk.
 *
 * The image is hostile, and so may be what already lies at the target:
 *  G1  names come from the walk, which refuses those that are no single component;
 *
 *  G2  below the target each directory is opened by one name relative to its parent's
 *      descriptor, with O_NOFOLLOW: neither a symlink that was there nor one that we extracted
 *      leads us away;
 *
 *  G3  nothing that exists is written to: files are created with O_EXCL; with -f the old name
 *      is removed first; only directories are used as they are;
 *
 *  G4  a file is readable for nobody else, and set-user-ID for nobody, before it is complete
 *      and has its owner: created 0600 (directories 0700), chown, then attributes, then chmod.
 */
#include "cli/extract.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cli/attributes.h"
#include "cli/change.h"
#include "cli/copy.h"
#include "cli/links.h"
#include "cli/progress.h"
#include "cli/reader.h"
#include "cli/text.h"
#include "cli/walk.h"

struct get {
        struct cli *cli;
        const struct extract *to;
        const struct cli_operand *op;
        struct reader *reader;
        bool broken; /* the reader is */

        int *dirs; /* descriptors of the directories that the walk is in, the top one first */
        size_t nr_dirs, room_dirs;

        struct links links; /* the first names of files with several */
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
        if (g->to->no_clobber)
                return 0;
        if (g->to->force && !S_ISDIR(st.st_mode)) {
                if (unlinkat(dir, name, 0) == 0)
                        return 1;
                cli_fail(g->cli, source, "cannot replace: %s", strerror(errno));
                return 0;
        }
        cli_fail(g->cli, source, "cannot create: %s",
                 g->to->force ? "Is a directory" : "File exists (-f replaces it)");
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
        const struct object o = object_of_image(NULL, item->inode, &item->st, NULL);
        char target[PATH_MAX];
        int ret = o.ops->readlink(&o, target, sizeof(target));

        if (ret < 0)
                return ret;
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
        char *target = cli_printf("%s%s%s", g->to->local, *path ? "/" : "", path);

        cli_say_name(NULL, source, target);
        free(target);
}

/* Where an item is to be created. */
static int item_dir(const struct get *g)
{
        return g->nr_dirs > 0 ? g->dirs[g->nr_dirs - 1] : g->to->dir;
}

static const char *item_name(const struct get *g, const struct walk_item *item)
{
        return g->nr_dirs > 0 ? item->name : g->to->name;
}

static void get_file(struct get *g, const struct walk_item *item)
{
        char *source = cli_operand_name(g->op, item->path);
        const char *name = item_name(g, item);
        const struct link *link =
                item->st.nlink > 1
                        ? links_find(&g->links, (struct links_key){.ino = item->st.ino})
                        : NULL;
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
                links_add(&g->links, (struct links_key){.ino = item->st.ino}, item->path, 0);
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
        if (g->nr_dirs > 1 || g->to->name)
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

/* ---- all of it ---------------------------------------------------------- */

void extract_tree(struct cli *cli, const struct extract *to, const struct cli_operand *op)
{
        struct get get = {.cli = cli, .to = to, .op = op}, *g = &get;
        int ret = reader_new(op->image->fs, READER_DEPTH, READER_REQUEST, &g->reader);

        if (ret < 0) {
                cli_fail_errno(cli, op->arg, ret);
                return;
        }
        attributes_init(&g->attributes, cli);
        cli_raise_file_limit(); /* a directory keeps its descriptor while the walk is in it */
        if (progress_wanted())
                progress_start(copy_image_size(op));
        get_tree(g);
        progress_stop();
        reader_free(g->reader);
        links_done(&g->links);
        while (g->nr_dirs > 0)
                close(g->dirs[--g->nr_dirs]);
        free(g->dirs);
}
