/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* build.c - copies in an image (see build.h). */
#include "cli/build.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/change.h"
#include "cli/make.h"
#include "cli/writer.h"

struct build {
        struct cli *cli;
        struct cli_image *image;
        const struct build_options *options;
        struct writer *writer;
        struct links links; /* files with several names: the inodes of their copies */
        bool broken;        /* the writer is */
};

/* A file on its way; owned by the writer's job until its end. */
struct pending {
        struct uext4_inode *inode;
        struct uext4_inode *dir;
        char *name;   /* in the directory */
        char *source; /* for messages */
        char *target;
        struct uext4_stat want;
        struct links_key key;
};

static void pending_free(struct pending *f)
{
        uext4_inode_put(f->inode);
        uext4_inode_put(f->dir);
        free(f->name);
        free(f->source);
        free(f->target);
        free(f);
}

/* One more reference. */
static int inode_again(struct build *b, struct uext4_inode *inode,
                       struct uext4_inode **ret_inode)
{
        struct uext4_stat st;
        int ret = uext4_stat(inode, &st);

        return ret < 0 ? ret : uext4_inode_get(b->image->fs, st.ino, 0, ret_inode);
}

/* ---- the writer's end --------------------------------------------------- */

static void remove_half(struct build *b, struct pending *f)
{
        int ret = uext4_unlink(f->dir, f->name, strlen(f->name));

        links_remove(&b->links, f->key);
        if (ret < 0)
                cli_fail(b->cli, f->target, "cannot remove what was written: %s",
                         cli_strerror(ret));
}

/* The writer's call: all is written, or nothing of it shall stay. */
static void file_ended(void *arg, void *user, int error, bool reading)
{
        struct build *b = arg;
        struct pending *f = user;

        if (error && reading)
                cli_fail(b->cli, f->source, "cannot read: %s", cli_strerror(error));
        else if (error)
                cli_fail(b->cli, f->target, "cannot write: %s", cli_strerror(error));
        if (error)
                remove_half(b, f);
        else
                build_set_stat(b->cli, f->inode, &f->want, f->target);
        pending_free(f);
}

bool build_new(struct cli *cli, struct cli_image *image, const struct build_options *options,
               struct build **ret_build)
{
        struct build *b = cli_alloc(1, sizeof(*b));
        const struct writer_params params = {
                /* Where blocks go depends on the order in which writes end: one at a time. */
                .depth =
                        options->override && options->override->reproducible ? 1 : WRITER_DEPTH,
                .request_size = WRITER_REQUEST,
                .buffered = options->buffered,
                .sync = options->sync,
                .ended = file_ended,
                .arg = b,
        };
        int ret = writer_new(image->fs, &params, &b->writer);

        if (ret < 0) {
                cli_fail_errno(cli, image->uri, ret);
                free(b);
                return false;
        }
        b->cli = cli;
        b->image = image;
        b->options = options;
        *ret_build = b;
        return true;
}

static void set_broken(struct build *b, int err)
{
        cli_fail(b->cli, b->image->uri, "cannot go on writing: %s", cli_strerror(err));
        b->broken = true;
}

void build_flush(struct build *b)
{
        int ret = b->broken ? 0 : writer_drain(b->writer);

        if (ret < 0)
                set_broken(b, ret);
}

/* What is in the page cache may fail only now. */
static void sync_all(struct build *b)
{
        int ret = b->broken ? 0 : uext4_syncfs(b->image->fs);

        if (ret < 0)
                set_broken(b, ret);
}

void build_free(struct build *b)
{
        build_flush(b);
        sync_all(b);
        writer_free(b->writer);
        links_done(&b->links);
        free(b);
}

bool build_is_broken(const struct build *b)
{
        return b->broken;
}

/* ---- names -------------------------------------------------------------- */

/*
 * The name is taken: 1 when it was removed (with -f), 0 when it shall stay, -errno.  What is to
 * be copied is not removed before.
 */
static int make_room(struct build *b, struct uext4_inode *dir, const char *name,
                     const struct object *o)
{
        struct uext4_inode *inode;
        struct uext4_stat st;
        int ret;

        if (b->options->no_clobber)
                return 0;
        ret = uext4_lookup(dir, name, strlen(name), &inode);
        if (ret < 0)
                return ret;
        ret = uext4_stat(inode, &st);
        uext4_inode_put(inode);
        if (ret < 0)
                return ret;
        if (S_ISDIR(st.mode))
                return -EISDIR;
        if (!b->options->force ||
            (o && o->key.dev == (uintptr_t)b->image && o->key.ino == st.ino))
                return -EEXIST;
        ret = uext4_unlink(dir, name, strlen(name));
        return ret < 0 ? ret : 1;
}

static void fail_create(struct build *b, const char *target, int err)
{
        if (err == -EROFS)
                cli_fail_change(b->cli, target, err);
        else if (err == -EEXIST)
                cli_fail(b->cli, target,
                         b->options->force ? "is the source itself"
                                           : "File exists (-f replaces it)");
        else
                cli_fail(b->cli, target, "cannot create: %s", cli_strerror(err));
}

/* ---- files -------------------------------------------------------------- */

static int create(struct uext4_inode *dir, const char *name, const struct object *o,
                  const struct uext4_stat *want, struct uext4_inode **ret_inode)
{
        const struct make_owner owner = {want->uid, want->gid};
        char target[PATH_MAX];
        int ret;

        if (!S_ISLNK(want->mode))
                return make_node(dir, name, want->mode, want->rdev_major, want->rdev_minor,
                                 owner, ret_inode);
        ret = o->ops->readlink(o, target, sizeof(target));
        return ret < 0 ? ret : make_symlink(dir, name, target, owner, ret_inode);
}

/* Create the name; with -f, where something else has it.  1, or 0 and all is said. */
static bool create_name(struct build *b, struct uext4_inode *dir, const char *name,
                        const struct object *o, const struct uext4_stat *want,
                        const char *target, struct uext4_inode **ret_inode)
{
        int ret = create(dir, name, o, want, ret_inode);

        if (ret == -EEXIST) {
                ret = make_room(b, dir, name, o);
                if (ret == 0)
                        return false;
                if (ret > 0)
                        ret = create(dir, name, o, want, ret_inode);
        }
        if (ret < 0)
                fail_create(b, target, ret);
        return ret == 0;
}

/* Hand the contents to the writer, which gives the rest of the attributes at their end. */
static void write_contents(struct build *b, struct pending *f, const struct object *o)
{
        struct content content = {0};
        int ret = o->ops->open(o, &content);

        if (ret < 0) {
                file_ended(b, f, ret, true);
                return;
        }
        ret = writer_add(b->writer, f->inode, &content, o->st.size, f);
        if (ret < 0)
                set_broken(b, ret);
        content_close(&content);
}

void build_file(struct build *b, struct uext4_inode *dir, const char *name,
                const struct object *o, const char *target)
{
        const struct uext4_stat want = build_wanted(b->options, o);
        struct uext4_inode *inode;
        struct uext4_stat st;
        struct pending *f;

        if (o->st.nlink > 1 && build_link(b, o->key, dir, name, target))
                return;
        if (!create_name(b, dir, name, o, &want, target, &inode))
                return;
        if (b->cli->verbose)
                cli_say_name(NULL, o->source, target);
        if (o->st.nlink > 1 && uext4_stat(inode, &st) == 0)
                links_add(&b->links, o->key, NULL, st.ino);
        build_set_xattrs(b->cli, inode, o, target);
        if (!S_ISREG(want.mode)) {
                build_set_stat(b->cli, inode, &want, target);
                uext4_inode_put(inode);
                return;
        }
        f = cli_alloc(1, sizeof(*f));
        f->inode = inode;
        f->name = cli_strdup(name);
        f->source = cli_strdup(o->source);
        f->target = cli_strdup(target);
        f->want = want;
        f->key = o->key;
        if (inode_again(b, dir, &f->dir) < 0) { /* it was just written to */
                cli_fail(b->cli, target, "its directory is gone");
                pending_free(f);
                return;
        }
        write_contents(b, f, o);
}

/* ---- hard links --------------------------------------------------------- */

void build_link_inode(struct build *b, struct uext4_inode *inode, struct uext4_inode *dir,
                      const char *name, const char *target)
{
        int ret;

        build_flush(b); /* its contents may fail yet, and it be removed */
        ret = uext4_link(inode, dir, name, strlen(name));
        if (ret == -EEXIST) {
                ret = make_room(b, dir, name, NULL);
                if (ret == 0)
                        return;
                if (ret > 0)
                        ret = uext4_link(inode, dir, name, strlen(name));
        }
        if (ret < 0)
                fail_create(b, target, ret);
}

bool build_link(struct build *b, struct links_key key, struct uext4_inode *dir,
                const char *name, const char *target)
{
        const struct link *link = links_find(&b->links, key);
        struct uext4_inode *inode;

        if (!link)
                return false;
        build_flush(b);
        link = links_find(&b->links, key);
        if (!link || uext4_inode_get(b->image->fs, link->ino, 0, &inode) < 0)
                return b->broken;
        build_link_inode(b, inode, dir, name, target);
        uext4_inode_put(inode);
        return true;
}

/* ---- directories -------------------------------------------------------- */

int build_find_directory(struct uext4_inode *dir, const char *name,
                         struct uext4_inode **ret_inode)
{
        struct uext4_stat st;
        int ret = uext4_lookup(dir, name, strlen(name), ret_inode);

        if (ret < 0)
                return ret;
        ret = uext4_stat(*ret_inode, &st);
        if (ret == 0 && !S_ISDIR(st.mode))
                ret = -ENOTDIR;
        if (ret < 0)
                uext4_inode_put(*ret_inode);
        return ret;
}

struct uext4_inode *build_enter(struct build *b, struct uext4_inode *dir, const char *name,
                                const struct object *o, const char *target)
{
        const struct uext4_stat want = build_wanted(b->options, o);
        const struct make_owner owner = {want.uid, want.gid};
        struct uext4_inode *inode;
        int ret = make_node(dir, name, S_IFDIR | (want.mode & 07777), 0, 0, owner, &inode);

        if (ret == 0 && b->cli->verbose)
                cli_say_name(NULL, o->source, target);
        if (ret == -EEXIST)
                ret = build_find_directory(dir, name, &inode);
        if (ret < 0) {
                fail_create(b, target, ret);
                return NULL;
        }
        return inode;
}

void build_leave(struct build *b, struct uext4_inode *inode, const struct object *o,
                 const char *target)
{
        const struct uext4_stat want = build_wanted(b->options, o);

        build_set_xattrs(b->cli, inode, o, target);
        build_set_stat(b->cli, inode, &want, target);
        if (b->options->sync) {
                int ret = uext4_fsync_inode(inode);

                if (ret < 0)
                        cli_fail_change(b->cli, target, ret);
        }
}
