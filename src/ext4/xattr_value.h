/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_XATTR_VALUE_H
#define EXT4_XATTR_VALUE_H

/*
 * Values of attributes in inodes of their own (ea_inode): made, shared, given up.
 *
 * Such an inode counts the entries that name it: i_version, and the seconds of ctime above
 * that.  Without any it is deleted.  The count is guarded by the inode's map lock, not by its
 * inode lock: it changes under a handle.
 */

#include "ext4/inode_store.h"

/* Whether values can be in inodes here. */
bool ext4_value_possible(const struct ext4_fs *fs);

/*
 * A new inode with this value, for an attribute of `owner`, whose lock is held.  In
 * transactions of its own, with no handle open.  No entry names it yet: it is an orphan, and
 * deleted by the last ext4_iput() unless ext4_value_name() was called.  After an error, too,
 * *ret_value is to be put, when no lock is held.  -ENOSPC.
 */
must_check int ext4_value_new(struct ext4_inode *owner, const void *data, uint32_t size,
                              struct ext4_inode **ret_value);

/* The hash of its bytes, which its entry's hash is made of. */
uint32_t ext4_value_hash(const struct ext4_inode *value);

/* Lustre made such inodes before there were hashes and counts: they name the owner instead, in
 * mtime and generation, and do not count as its blocks. */
static inline bool ext4_value_is_lustre(const struct ext4_inode *value,
                                        const struct ext4_inode *owner)
{
        return (uint32_t)value->mtime.tv_sec == ext4_ino(owner) &&
               value->generation == owner->generation;
}

/* The same of a value by its number, as it is on disk. */
must_check int ext4_value_find_lustre(const struct ext4_inode *owner, uint32_t ino,
                                      bool *ret_is_lustre);

/* The first entry names it, in this transaction.  Credits: EXT4_VALUE_CREDITS. */
must_check int ext4_value_name(struct jbd2_handle *h, struct ext4_inode *value);

/* One reference less.  Without any it is an orphan, which the last ext4_iput() deletes.  On an
 * error nothing has changed.  Credits: EXT4_VALUE_CREDITS. */
must_check int ext4_value_drop(struct jbd2_handle *h, struct ext4_inode *value);

/* One reference more: begin (1 credit), then share or ext4_iloc_put().  And that taken back, in
 * the same handle: others hold references meanwhile, so that the value stays. */
void ext4_value_share(struct jbd2_handle *h, struct ext4_inode *value, struct ext4_iloc *loc);
must_check int ext4_value_unshare(struct jbd2_handle *h, struct ext4_inode *value);

/* The inode, its orphan entry. */
#define EXT4_VALUE_CREDITS 3u

#endif
