/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_TRUNCATE_H
#define EXT4_TRUNCATE_H

/*
 * The size of a file, and blocks behind it.
 *
 * Making it smaller is an orphan's work: one transaction has the new size and the orphan
 * entry; then the blocks behind it go, in as many transactions as it takes; the last of them
 * has the end of the orphan entry.  After a crash in between the orphan pass does the rest
 * (J48).
 */

#include "ext4/inode_store.h"

/*
 * Nobody else reads, writes or changes the file, and none of its requests is under way: what
 * takes blocks away, or gives bytes another place, is done between these two (C11, C39).  Lets
 * go of nothing when it waits: no lock above RANK_INVALIDATE and no handle may be held.
 */
void ext4_io_exclude(struct ext4_inode *inode);
void ext4_io_admit(struct ext4_inode *inode);

/*
 * The same for who changes the place of the bytes [from, to): nobody has a lease of them,
 * either (vfs/lease.h).  -EDEADLK, and nothing is locked: the caller itself has one.
 */
must_check int ext4_io_exclude_leases(struct ext4_inode *inode, uint64_t from, uint64_t to);

/* The largest size that the file can have. */
uint64_t ext4_max_size(const struct ext4_inode *inode);

/* The inode holds a part of the file system rather than somebody's data. */
bool ext4_is_own(const struct ext4_inode *inode);

/*
 * 0 when the file's contents may be changed: -EPERM for an immutable file, one of the
 * file system's own, or a verity file; -EROFS; -EISDIR, -EINVAL for what is no file.
 * The inode lock is held.
 */
must_check int ext4_may_change(const struct ext4_inode *inode);

/*
 * Set the size.  Takes the inode lock.  -EFBIG beyond the maximum; -EPERM also for
 * append-only.  -EIO and the like in the midst of it: the size is the new one, and the file
 * stays an orphan, for the next mount to complete.
 */
must_check int ext4_truncate(struct ext4_inode *inode, uint64_t size);

/*
 * The parts of it, for who holds the inode lock exclusive (or is the only one who knows the
 * inode) and no handle: nothing but blocks changes, not the size.
 *
 * ext4_truncate_tail: what lies behind the size goes: the rest of the last block becomes
 *      zeros, blocks behind it are freed.  Then the inode is no orphan any more (if it has
 *      links).  For the orphan pass.
 * ext4_truncate_all: all blocks that the map has go.  Of an inode without links.  Nothing
 *      happens to one without a map (a device, a short symlink, inline data).
 */
must_check int ext4_truncate_tail(struct ext4_inode *inode);
must_check int ext4_truncate_all(struct ext4_inode *inode);

/* The size, here and on disk; the inode is not stored.  The inode lock is held exclusive, or
 * nobody else can reach the inode. */
void ext4_set_size(struct ext4_inode *inode, uint64_t size);

/*
 * Under a handle: the file ends at `size` at least, here and on disk; says so in the
 * superblock when it is the first large file.  The inode is not stored.
 * Credits: EXT4_GROW_CREDITS.
 */
#define EXT4_GROW_CREDITS 1u
must_check int ext4_grow(struct jbd2_handle *h, struct ext4_inode *inode, uint64_t size);

/*
 * Under a handle: the file ends at `size` at least, its times are now, and it is stored.  Takes
 * the map lock.  Credits: EXT4_GROW_CREDITS + EXT4_INODE_CREDITS.
 */
must_check int ext4_grow_and_store(struct jbd2_handle *h, struct ext4_inode *inode,
                                   uint64_t size);

/* The same, but the times stay as they are: for data that was written before. */
must_check int ext4_grow_on_disk(struct jbd2_handle *h, struct ext4_inode *inode,
                                 uint64_t size);

/* mtime and ctime are now. */
void ext4_touch_changed(struct ext4_inode *inode);

/* The time of day, coarse as the kernel's (a few milliseconds), and the same for all changes:
 * of two the later one never has the earlier time.  With the mount option `epoch`, that. */
struct timespec ext4_now(const struct ext4_fs *fs);

#endif
