/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_INODE_STORE_H
#define EXT4_INODE_STORE_H

/*
 * Inodes on their way to disk.
 *
 *      ext4_inode_begin(h, inode, &loc)        may fail: before the first change
 *      ... change the fields of the inode ...
 *      ext4_inode_store(h, inode, &loc)        cannot fail
 *
 * or, where nothing must be undone when it fails, ext4_inode_dirty(h, inode) at the end.
 *
 * The caller holds what guards the fields: the inode lock exclusive, or the map lock for what
 * belongs to the map (blocks, block, disk_size).
 */

#include "ext4/ext4.h"
#include "jbd2/jbd2.h"

/* The block of the inode table that the inode lies in. */
#define EXT4_INODE_CREDITS 1u

/* A raw inode that may be written. */
struct ext4_iloc {
        struct buf *buf;
        struct ext4_inode_disk *raw; /* fs->inode_size bytes */
};

/* -EIO and the like, -EROFS, -ENOMEM: nothing has happened. */
must_check int ext4_inode_begin(struct jbd2_handle *h, struct ext4_inode *inode,
                                struct ext4_iloc *ret_loc);

/*
 * All fields of the inode to disk, with its checksum; lets go.  Keeps what the struct does not
 * have: i_dtime, which belongs to orphan_list.c and ialloc.c, and the count in a value of an
 * attribute (xattr_value.c).  Of i_size it is disk_size that is stored.
 */
void ext4_inode_store(struct jbd2_handle *h, struct ext4_inode *inode, struct ext4_iloc *loc);

/* Nothing was changed: let go. */
void ext4_iloc_put(struct ext4_iloc *loc);

/* Begin and store. */
must_check int ext4_inode_dirty(struct jbd2_handle *h, struct ext4_inode *inode);

/*
 * The map of the inode has changed in this transaction, below the root perhaps, where the
 * inode itself does not show it: fdatasync must wait for it (B5, B6).  Called by who changes
 * maps; ext4_inode_store() sees all other reasons itself.
 */
void ext4_inode_map_changed(struct jbd2_handle *h, struct ext4_inode *inode);

/* The largest i_blocks, in units of 512 bytes, that an inode of this file system can hold. */
uint64_t ext4_inode_max_blocks(const struct ext4_fs *fs);

/*
 * The version of the file: a number that is another one whenever something has changed that
 * ctime tells of, and somebody has asked for it since it last became another; time need not
 * have moved on.  Stored with the inode (i_version).  In the struct it has one more bit, below:
 * it was asked for.
 *
 * ext4_count_version: something has changed.  ext4_set_ctime: the same, and when.
 * ext4_is_version_seen: somebody has asked since.  ext4_get_version: ask.
 */
void ext4_count_version(struct ext4_inode *inode);
void ext4_set_ctime(struct ext4_inode *inode, struct timespec ctime);
uint64_t ext4_get_version(struct ext4_inode *inode);

static inline bool ext4_is_version_seen(const struct ext4_inode *inode)
{
        return atomic_load_explicit(&inode->version, memory_order_relaxed) & 1;
}

/* Where inodes have none: GNU Hurd has a translator there, and values of attributes a count. */
static inline bool ext4_has_version(const struct ext4_fs *fs, uint32_t flags)
{
        return le32_get(fs->sb.s_creator_os) != EXT4_OS_HURD && !(flags & EXT4_FL_EA_INODE);
}

/* ---- by number, for who has no object: orphan_list.c, ialloc.c ---- */

must_check int ext4_iloc_begin(struct jbd2_handle *h, struct ext4_fs *fs, uint32_t ino,
                               struct ext4_iloc *ret_loc);

/* Set i_dtime of the raw inode, which is the next orphan or the time of deletion; lets go. */
void ext4_iloc_store_dtime(struct jbd2_handle *h, struct ext4_fs *fs, uint32_t ino,
                           struct ext4_iloc *loc, uint32_t dtime);

/* A time as an inode can keep it, with the extra field of that time or without: what is outside
 * becomes the nearest that is inside. */
struct timespec ext4_time_fit(struct timespec t, bool has_extra);

/* The raw inode from the struct's fields (pure, but for the checksum's seed). */
void ext4_inode_encode(const struct ext4_inode *inode, struct ext4_inode_disk *raw);

#endif
