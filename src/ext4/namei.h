/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_NAMEI_H
#define EXT4_NAMEI_H

/*
 * Names: giving them, taking them away, moving them.
 *
 *      namei.c   a new inode and its name; one more name for an inode
 *      unlink.c  a name goes
 *      rename.c  a name becomes another one
 *      tmpfile.c what has no name yet
 *
 * Each call is one transaction, and takes the inode locks that it needs.  When space is short
 * it is tried again after a commit has given some back (B16).
 *
 * -ENOTDIR; -ENOKEY for encrypted directories and -EOPNOTSUPP for casefolded ones, which are
 * not changed; -ENOENT for a directory that has been removed, or no such name; -ENAMETOOLONG;
 * -EPERM for what is immutable or append-only; -EROFS; -EUCLEAN, -EBADMSG, -EIO.  On an error
 * nothing has changed that anybody can see; a directory may have got larger.
 */

#include <sys/stat.h>

#include "ext4/dir_change.h"
#include "ext4/ialloc.h"
#include "ext4/orphan.h"

/* What a new inode is like, beside its type. */
struct ext4_new_name {
        struct ext4_inode *dir;
        struct ext4_name name;
        uint16_t mode;                   /* type and permissions */
        uint32_t rdev_major, rdev_minor; /* of a device */
        struct ext4_name target;         /* of a symlink */
};

/* -EEXIST; -ENOSPC for blocks and inodes; -EMLINK for directories.  The inode is returned with
 * a reference. */
must_check int ext4_create(const struct ext4_new_name *new, struct ext4_inode **ret_inode);

/*
 * A file without a name, an orphan: it goes with the last reference unless ext4_link() gives it
 * a name, which it does if that is to be possible.  new->dir: as if it were made there;
 * new->name is not looked at.
 */
must_check int ext4_tmpfile(const struct ext4_new_name *new, bool can_get_name,
                            struct ext4_inode **ret_inode);

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
        EXT4_RENAME_WHITEOUT = 1u << 2,  /* the old name stays: a character device 0, 0 */
};

/*
 * The old name goes, and the new one leads to what it led to; what the new one led to before
 * loses that name: -EISDIR, -ENOTDIR, -ENOTEMPTY.  Two names of the same thing stay as they
 * are.  -EINVAL for a directory into itself, -EBUSY for "." and "..", -EXDEV, -EMLINK.
 * flags: EXT4_RENAME_*, EXCHANGE without any other.
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

must_check int ext4_may_change_dir(struct ext4_inode *dir, enum ext4_dir_purpose purpose);

/* The part of it that comes before a name is looked up: -ENOTDIR, -ENOKEY, -ENOENT, -EACCES. */
must_check int ext4_may_search_dir(struct ext4_inode *dir);

/* Whether something can be called so: -ENAMETOOLONG, -ENOENT (empty), -EINVAL. */
must_check int ext4_check_name(const struct ext4_name *name);

/* Whether a directory can have one more, and counting it: beyond EXT4_LINK_MAX the number is 1,
 * which says nothing (dir_nlink). */
must_check int ext4_may_add_subdir(const struct ext4_inode *dir);
void ext4_count_subdir(struct ext4_inode *dir, int change);

/*
 * The lock of what is found in a directory whose lock is held: true.  False for a directory
 * that somebody else has locked: in an image that is damaged two may be in each other, so
 * nobody waits for one with the other locked.  Then, with no lock held: ext4_wait_for_child(),
 * and it all begins anew.
 */
must_check bool ext4_lock_child(struct ext4_inode *inode, enum lock_rank rank);
void ext4_wait_for_child(struct ext4_inode *inode);

/* Whether a directory that `dir` has a name for may go: -ENOTEMPTY; -EUCLEAN when its ".."
 * leads elsewhere.  The locks of both are held. */
must_check int ext4_may_remove_dir(const struct ext4_inode *dir, struct ext4_inode *victim);

/* The links of what has one name fewer: a directory has none then. */
static inline uint32_t ext4_links_left(const struct ext4_inode *inode)
{
        return S_ISDIR(inode->mode) || inode->nlink == 1 ? 0 : inode->nlink - 1;
}

/*
 * Store what a name led or leads to now, with these links, changed at `now`.  Completions of
 * direct writes, which nobody has waited for, store the inode, too: hence under the map lock,
 * which is taken.
 */
void ext4_store_links(struct jbd2_handle *h, struct ext4_inode *inode, struct ext4_iloc *loc,
                      uint32_t links, struct timespec now);

/*
 * Allocate an inode and what is in it from the beginning.  It has links and no name: the caller
 * enters it, or makes it nameless, which is done already if this fails.  *ret_inode: to be put,
 * also after an error, when no lock is held.  For a file or a device EXT4_MAKE_CREDITS.
 */
must_check int ext4_make_inode(struct jbd2_handle *h, const struct ext4_new_name *new,
                               struct ext4_inode **ret_inode);

/* Nobody will find it: it has no links, and is an orphan, which goes with its last reference.
 * The journal is aborted when that cannot be. */
void ext4_make_nameless(struct jbd2_handle *h, struct ext4_inode *inode);

#define EXT4_MAKE_CREDITS (EXT4_IALLOC_CREDITS + EXT4_INODE_CREDITS + EXT4_ORPHAN_CREDITS)

/* At the end of a change: durable at once, if the directory is to be. */
void ext4_dir_sync(struct jbd2_handle *h, const struct ext4_inode *dir);

#endif
