/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef T_TREE_H
#define T_TREE_H

/* A file system in memory, mounted for writing by way of the public API; at its end e2fsck must
 * be content. */

#include <errno.h>

#include "lib/lib.h"
#include "t_write.h"

#define T_DIRS T_EXT4 ",dir_index,filetype,large_file,sparse_super"

struct t_tree {
        struct t_image img;
        struct uext4_bdev *dev;
        struct uext4_fs *fs; /* NULL: not mounted */
        struct t_log log;
};

static inline void t_tree_mount_as(struct t_tree *t, const char *options)
{
        struct uext4_mount_params params = {
                .options = options, .log = t_log_line, .log_arg = &t->log};

        t_log_init(&t->log);
        T_CHECK(uext4_bdev_open_buffer(t->img.data, t->img.size, 0, &t->dev) == 0);
        T_CHECK(uext4_mount_bdev(t->dev, &params, &t->fs) == 0);
        T_CHECK(t->fs->ext4->journal);
}

/* Commits are the test's own. */
static inline void t_tree_mount(struct t_tree *t)
{
        t_tree_mount_as(t, "rw,commit=100000");
}

static inline void t_tree_unmount(struct t_tree *t)
{
        T_CHECK(uext4_unmount(t->fs) == 0);
        uext4_bdev_close(t->dev);
        t->fs = NULL;
}

static inline void t_tree_begin(struct t_tree *t, const char *options, unsigned mib,
                                const char *script)
{
        *t = (struct t_tree){.img = t_mkfs((uint64_t)mib << 20, options, script)};
        t_tree_mount(t);
}

static inline void t_tree_check(struct t_tree *t, const char *row)
{
        const char *complaint = t_fsck(&t->img, false);

        if (complaint)
                fail_msg("%s: e2fsck: %s", row, complaint);
}

/* Unmount, look, mount. */
static inline void t_tree_again(struct t_tree *t, const char *row)
{
        t_tree_unmount(t);
        t_tree_check(t, row);
        t_tree_mount(t);
}

static inline void t_tree_end(struct t_tree *t, const char *row)
{
        if (t->fs)
                t_tree_unmount(t);
        t_tree_check(t, row);
        t_image_free(&t->img);
}

/* What is at a path, symlinks themselves; NULL when nothing is. */
static inline struct uext4_inode *t_tree_find(struct t_tree *t, const char *path)
{
        struct uext4_inode *inode = NULL;
        int ret = uext4_resolve(t->fs, path, UEXT4_NOFOLLOW, &inode);

        T_CHECK(ret == 0 || ret == -ENOENT);
        return inode;
}

static inline struct uext4_inode *t_tree_at(struct t_tree *t, const char *path)
{
        struct uext4_inode *inode = t_tree_find(t, path);

        if (!inode)
                fail_msg("%s is not there", path);
        return inode;
}

static inline struct uext4_stat t_tree_stat(struct uext4_inode *inode)
{
        struct uext4_stat st;

        T_CHECK(uext4_stat(inode, &st) == 0);
        return st;
}

/* Names of the directory, but "." and "..". */
static inline unsigned t_tree_count(struct uext4_inode *dir)
{
        struct uext4_dirent e;
        uint64_t cookie = 0;
        unsigned nr = 0;
        int ret;

        while ((ret = uext4_readdir(dir, &cookie, &e)) > 0)
                nr++;
        T_CHECK(ret == 0 && nr >= 2);
        return nr - 2;
}

#endif
