/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CHANGE_OPS_H
#define CHANGE_OPS_H

/*
 * What the tests do to files.
 */

#include "rig.h"

/* Get a file by its path, absolute. */
int op_get(struct rig_mount *m, const char *path, struct ext4_inode **ret_inode);

/* The whole file, `size` bytes of it and no more; -EIO when it is shorter. */
int op_read(struct ext4_inode *inode, uint64_t pos, void *buf, size_t len);

int op_truncate(struct ext4_inode *inode, uint64_t size);
int op_fallocate(struct ext4_inode *inode, int mode, uint64_t pos, uint64_t len);

/* Give it the other kind of map. */
int op_migrate(struct ext4_inode *inode);

enum op_way {
        OP_BUFFERED,
        OP_DIRECT, /* where position and length allow that */
};

int op_write(struct ext4_inode *inode, uint64_t pos, const void *data, size_t len,
             enum op_way way);

/* Make everything durable. */
int op_sync(struct rig_mount *m);

/*
 * What is known in memory of free space is what is free on disk: in each group that has been
 * looked at, clusters to give out and in windows.  Makes everything durable first, because what
 * is not is kept back.  NULL, or what is wrong.
 */
const char *op_check_space(struct rig_mount *m, char *text, size_t size);

int op_unlink(struct rig_mount *m, const char *dir, const char *name);

/* Remove a directory, whatever is in it. */
int op_rmdir(struct rig_mount *m, const char *parent, const char *name);

/* A file without a name, near the directory `dir`. */
int op_tmpfile(struct rig_mount *m, const char *dir, struct ext4_inode **ret_inode);

#endif
