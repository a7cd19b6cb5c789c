/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_NAMEI_H
#define EXT4_NAMEI_H

/*
 * Names: giving them, taking them away, moving them.
 *
 *      namei.c   a new inode and its name; one more name for an inode
 *      unlink.c  a name goes
 *      rename.c  a name becomes another one
 *
 * Each call is one transaction, and takes the inode locks that it needs.  When space is short
 * it is tried again after a commit has given some back (B16).
 *
 * -ENOTDIR; -ENOKEY for encrypted directories and -EOPNOTSUPP for casefolded ones, which are
 * not changed; -ENOENT for a directory that has been removed, or no such name; -ENAMETOOLONG;
 * -EPERM for what is immutable or append-only; -EROFS; -EUCLEAN, -EBADMSG, -EIO.  On an error
 * nothing has changed that anybody can see; a directory may have got larger.
 */

#include "ext4/dir_change.h"
#include "ext4/ialloc.h"

/* What a new inode is like, beside its type. */
struct ext4_new_name {
        struct ext4_inode *dir;
        struct ext4_name name;
        uint16_t mode;     /* type and permissions */
        uint32_t uid, gid; /* of the owner; a directory with S_ISGID passes on its group */
        uint32_t rdev_major, rdev_minor; /* of a device */
        struct ext4_name target;         /* of a symlink */
};

/* -EEXIST; -ENOSPC for blocks and inodes; -EMLINK for directories.  The inode is returned with
 * a reference. */
must_check int ext4_create(const struct ext4_new_name *new, struct ext4_inode **ret_inode);

/* -EPERM for a directory, -EMLINK, -EXDEV for another project than the directory's. */
must_check int ext4_link(struct ext4_inode *dir, const struct ext4_name *name,
                         struct ext4_inode *inode);

/*
 * Remove a name of something that is no directory, and a link of that.  What has no links any
 * more lives until the last reference goes.  -EISDIR.
 */
must_check int ext4_unlink(struct ext4_inode *dir, const struct ext4_name *name);

/* Remove an empty directory: -ENOTEMPTY, -ENOTDIR, -EINVAL for ".". */
must_check int ext4_rmdir(struct ext4_inode *dir, const struct ext4_name *name);

enum ext4_rename_flags {
        EXT4_RENAME_NOREPLACE = 1u << 0, /* -EEXIST when the new name is there */
        EXT4_RENAME_EXCHANGE = 1u << 1,  /* both names are there and lead to the other's */
};

/*
 * The old name goes, and the new one leads to what it led to; what the new one led to before
 * loses that name: -EISDIR, -ENOTDIR, -ENOTEMPTY.  Two names of the same thing stay as they
 * are.  -EINVAL for a directory into itself, -EBUSY for "." and "..", -EXDEV, -EMLINK.
 * flags: EXT4_RENAME_*, one at most.
 */
must_check int ext4_rename(struct ext4_inode *old_dir, const struct ext4_name *old_name,
                           struct ext4_inode *new_dir, const struct ext4_name *new_name,
                           unsigned flags);

/* ---- what these files share ---- */

/* One more link to a file: -EMLINK. */
#define EXT4_LINK_MAX 65000

/* "." and "..", which are nobody's to change. */
static inline bool ext4_is_dots(const struct ext4_name *name)
{
        return name->len > 0 && name->text[0] == '.' &&
               (name->len == 1 || (name->len == 2 && name->text[1] == '.'));
}

/* 0 when names may be entered into this directory; with EXT4_DIR_DELETE also removed. */
enum ext4_dir_purpose {
        EXT4_DIR_ENTER,
        EXT4_DIR_DELETE,
};

must_check int ext4_may_change_dir(const struct ext4_inode *dir, enum ext4_dir_purpose purpose);

/* Whether something can be called so: -ENAMETOOLONG, -ENOENT (empty), -EINVAL. */
must_check int ext4_check_name(const struct ext4_name *name);

/* Whether a directory can have one more, and counting it: beyond EXT4_LINK_MAX the number is 1,
 * which says nothing (dir_nlink). */
must_check int ext4_may_add_subdir(const struct ext4_inode *dir);
void ext4_count_subdir(struct ext4_inode *dir, int change);

/* Who may use the space that is reserved, as for writing: the caller, whoever owns the file. */
unsigned ext4_names_alloc_flags(const struct ext4_fs *fs);

/* At the end of a change: durable at once, if the directory is to be. */
void ext4_dir_sync(struct jbd2_handle *h, const struct ext4_inode *dir);

#endif
