/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tar_in.c - an archive becomes a tree of an image (see tar.h).
 *
 * Archives are hostile.  Names with ".." are refused, and each directory of a path is looked up
 * by one name, so that no symlink, neither one that was there nor one of the archive, leads
 * elsewhere.  What exists is replaced, directories are used as they are.
 *
 * Directories get their attributes at the end, the last one first: files come into them until
 * then.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/change.h"
#include "cli/make.h"
#include "cli/progress.h"
#include "cli/tar.h"

/* A directory that was in the archive. */
struct later {
        uint64_t ino;
        struct archive_entry *entry;
        char *target;
};

struct in {
        struct cli *cli;
        struct archive *a;
        const struct cli_operand *op;
        const struct build_options *options;
        struct build *build;
        struct later *later;
        size_t nr, room;

        /* The directory of the last entry: the next one is often in the same. */
        char *parent;
        struct uext4_inode *parent_inode;
};

/* ---- places ------------------------------------------------------------- */

/*
 * The path without empty parts and ".", to be freed: "" for the directory itself.  NULL when
 * it has "..".
 */
static char *clean_path(const char *path)
{
        char *clean = cli_alloc(strlen(path) + 1, 1);
        size_t len = 0;

        while (*path) {
                size_t part = strcspn(path, "/");

                if (part == 2 && memcmp(path, "..", 2) == 0) {
                        free(clean);
                        return NULL;
                }
                if (part > 0 && !(part == 1 && *path == '.')) {
                        if (len > 0)
                                clean[len++] = '/';
                        memcpy(clean + len, path, part);
                        len += part;
                }
                path += part;
                path += *path == '/';
        }
        return clean;
}

/* One step down; what is missing is made, for archives need not have every directory. */
static int step(struct uext4_inode *dir, const char *name, struct uext4_inode **ret_inode)
{
        int ret = build_find_directory(dir, name, ret_inode);

        if (ret != -ENOENT)
                return ret;
        return make_node(dir, name, S_IFDIR | 0755, 0, 0, (struct make_owner){0, 0}, ret_inode);
}

/* Go from the target directory down; `path` may be "". */
static int descend(struct in *in, const char *path, struct uext4_inode **ret_inode)
{
        struct uext4_inode *at, *next;
        int ret = uext4_inode_get(in->op->image->fs, in->op->st.ino, 0, &at);

        while (ret == 0 && *path) {
                size_t len = strcspn(path, "/");
                char *name = cli_printf("%.*s", (int)len, path);

                ret = step(at, name, &next);
                free(name);
                uext4_inode_put(at);
                at = next;
                path += len;
                path += *path == '/';
        }
        if (ret == 0)
                *ret_inode = at;
        return ret;
}

/* The directory that the clean path's last name is in, the caller's not to put. */
static int find_parent(struct in *in, const char *path, struct uext4_inode **ret_dir,
                       const char **ret_name)
{
        const char *slash = strrchr(path, '/');
        char *parent = cli_printf("%.*s", slash ? (int)(slash - path) : 0, path);
        int ret = 0;

        *ret_name = slash ? slash + 1 : path;
        if (!in->parent || strcmp(parent, in->parent) != 0) {
                uext4_inode_put(in->parent_inode);
                free(in->parent);
                in->parent_inode = NULL;
                in->parent = NULL;
                ret = descend(in, parent, &in->parent_inode);
                if (ret == 0)
                        in->parent = cli_strdup(parent);
        }
        free(parent);
        *ret_dir = in->parent_inode;
        return ret;
}

/* ---- entries ------------------------------------------------------------ */

static void remember_dir(struct in *in, struct uext4_inode *inode, struct archive_entry *entry,
                         const char *target)
{
        struct uext4_stat st;

        if (uext4_stat(inode, &st) < 0)
                return;
        if (in->nr == in->room) {
                in->room = 2 * in->room + 16;
                in->later = cli_realloc(in->later, in->room, sizeof(*in->later));
        }
        in->later[in->nr++] =
                (struct later){st.ino, archive_entry_clone(entry), cli_strdup(target)};
}

static void make_dir(struct in *in, const char *path, const struct object *o,
                     const char *target)
{
        struct uext4_inode *dir, *inode;
        const char *name;
        int ret = find_parent(in, path, &dir, &name);

        if (ret == 0 && *path) {
                inode = build_enter(in->build, dir, name, o, target);
                if (!inode)
                        return;
        } else if (ret == 0) { /* "." */
                ret = descend(in, "", &inode);
        }
        if (ret < 0) {
                cli_fail_change(in->cli, target, ret);
                return;
        }
        remember_dir(in, inode, o->entry, target);
        uext4_inode_put(inode);
}

/* Another name for an entry before. */
static int make_hard_link(struct in *in, const char *path, const char *of, const char *target)
{
        char *clean = clean_path(of);
        struct uext4_inode *dir, *inode;
        const char *name;
        int ret = clean && *clean ? find_parent(in, clean, &dir, &name) : -EINVAL;

        if (ret == 0)
                ret = uext4_lookup(dir, name, strlen(name), &inode);
        if (ret == 0) {
                ret = find_parent(in, path, &dir, &name);
                if (ret == 0)
                        build_link_inode(in->build, inode, dir, name, target);
                uext4_inode_put(inode);
        }
        free(clean);
        return ret;
}

static void make_file(struct in *in, const char *path, const struct object *o,
                      const char *target)
{
        const char *of = archive_entry_hardlink(o->entry), *name;
        struct uext4_inode *dir;
        int ret;

        if (!*path || (!of && !(o->st.mode & S_IFMT))) {
                ret = -EINVAL;
        } else if (of) {
                ret = make_hard_link(in, path, of, target);
        } else {
                ret = find_parent(in, path, &dir, &name);
                if (ret == 0)
                        build_file(in->build, dir, name, o, target);
        }
        if (ret < 0)
                cli_fail(in->cli, target, "cannot create: %s", cli_strerror(ret));
}

static void take(struct in *in, struct archive_entry *entry)
{
        const char *name = archive_entry_pathname(entry);
        char *path = name ? clean_path(name) : NULL, *target;
        struct object o;

        if (!path) {
                cli_fail(in->cli, name ? name : "(no name)",
                         "refused: not a name below the target");
                return;
        }
        o = tar_object(in->a, entry, path);
        target = cli_operand_name(in->op, path);
        if (S_ISDIR(o.st.mode) && !archive_entry_hardlink(entry))
                make_dir(in, path, &o, target);
        else if (S_ISREG(o.st.mode) && !archive_entry_size_is_set(entry) &&
                 !archive_entry_hardlink(entry))
                cli_fail(in->cli, path, "the archive does not say its size: left out");
        else
                make_file(in, path, &o, target);
        free(target);
        free(path);
}

/* ---- the end ------------------------------------------------------------ */

static void finish_dirs(struct in *in)
{
        while (in->nr > 0) {
                struct later *later = &in->later[--in->nr];
                struct object o = tar_object(in->a, later->entry, later->target);
                struct uext4_inode *inode;

                if (uext4_inode_get(in->op->image->fs, later->ino, 0, &inode) == 0) {
                        build_leave(in->build, inode, &o, later->target);
                        uext4_inode_put(inode);
                }
                archive_entry_free(later->entry);
                free(later->target);
        }
        free(in->later);
}

void tar_read(struct cli *cli, struct archive *a, const struct cli_operand *op,
              const struct build_options *options)
{
        struct in in = {.cli = cli, .a = a, .op = op, .options = options};
        struct archive_entry *entry;
        int ret;

        if (!build_new(cli, op->image, options, &in.build))
                return;
        while ((ret = archive_read_next_header(a, &entry)) != ARCHIVE_EOF &&
               !build_is_broken(in.build)) {
                if (ret < ARCHIVE_OK)
                        tar_fail(cli, "archive", "read", a);
                if (ret < ARCHIVE_WARN && ret != ARCHIVE_RETRY)
                        break;
                if (ret >= ARCHIVE_WARN)
                        take(&in, entry);
        }
        build_flush(in.build); /* files that fail are removed, which changes directories */
        finish_dirs(&in);
        build_free(in.build);
        uext4_inode_put(in.parent_inode);
        free(in.parent);
}
