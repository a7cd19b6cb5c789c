/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_DELAYED_H
#define EXT4_DELAYED_H

/*
 * Delayed allocation: space that is promised to data in memory, which has no blocks yet.
 *
 *      delayed.c       promises: made, spent, taken back
 *      delayed_set.c   the clusters of a file that have one
 *      delayed_need.c  what the map may need for them
 *
 * A promise is for one cluster of one file.  The mount's count of free clusters is less by it,
 * so that nobody else gets the space: not another promise, not an ordinary allocation, not one
 * from the pool.  Which free clusters it will be is not known before the data is written.
 *
 *  I1  What is promised is not allocated: a cluster of a file has a promise, or blocks, or
 *      neither.
 *
 *  I2  Each promise is backed by a cluster that can be given out at once: not by one that was
 *      freed by a transaction that is not durable.
 *
 * ext4_map_alloc() and ext4_map_alloc_indirect() keep I1 by themselves, whoever calls them:
 * what they allocate for a cluster with a promise is paid for by that, needs no flag, and does
 * not fail for want of space; the promise is gone when they return.  If they fail the promise
 * is there as before.
 *
 * Entering the data in the map may take blocks, too: with the promises for the data come
 * others for its map (nr_map), as many as the worst places on the device could make necessary:
 * each cluster an extent of its own; each node on its way full.  Both are claimed at once.
 * Blocks of the map are paid for with these when the allocation is for what has a promise, or
 * says EXT4_ALLOC_KEPT.  The rest is given back when no promise for data is left and nothing of
 * the file is dirty, or being written: until then there may be something to convert, or a block
 * more of a cluster that is there.
 *
 * Who writes to the page cache makes the promise before the folio is dirty, all under the inode
 * lock, exclusive.  So who holds that, and sees nothing dirty, knows that no promise is needed:
 * those that a short write or a failed one has left are taken back then.
 *
 * Which clusters of a file are promised is changed under its map lock, by who allocates, or
 * under the inode lock; the leaf lock of struct ext4_delayed guards the set itself.
 */

#include "ext4/ext4.h"

void ext4_delayed_init(struct ext4_delayed *d);
void ext4_delayed_done(struct ext4_delayed *d); /* it is empty */

/*
 * Promise space to what is to be written to [lblk, lblk + len), len > 0: to each cluster that
 * it touches and that has neither blocks nor a promise.  All or nothing.  alloc_flags:
 * EXT4_ALLOC_RIGHTS.
 *
 * The caller holds the inode lock exclusive, and no map lock, which is taken shared.  The file
 * has a map: its data is not inline.
 *
 * -ENOSPC (see ext4_balloc_retry()), -EFBIG, -ENOMEM; what looking at the map may say: -EIO,
 * -EUCLEAN, -EBADMSG.
 */
must_check int ext4_delayed_reserve(struct ext4_inode *inode, ext4_lblk_t lblk, uint64_t len,
                                    unsigned alloc_flags);

/*
 * The same for blocks that are there, and unwritten: they need no space, but what of the map
 * their conversion may need.  It stays promised until nothing of the file is dirty; until
 * ext4_delayed_settle() also before anything is dirty.
 */
must_check int ext4_delayed_reserve_conversion(struct ext4_inode *inode, ext4_lblk_t lblk,
                                               uint64_t len, unsigned alloc_flags);

/* Take all promises back, because the data is gone.  There need not be any; it cannot fail. */
void ext4_delayed_clear(struct ext4_inode *inode);

/*
 * Take back what is promised to nothing, if nothing is dirty.  Under the inode lock, exclusive,
 * by who has no promise that is still to be used; or only when the lock can be had at once:
 * with any locks held, but that of the pages.
 */
void ext4_delayed_settle(struct ext4_inode *inode);
void ext4_delayed_try_settle(struct ext4_inode *inode);

/* All promises of the mount, in clusters: to data; to the maps of that data. */
uint64_t ext4_delayed_clusters(const struct ext4_fs *fs);
uint64_t ext4_delayed_map_clusters(const struct ext4_fs *fs);

/* ---- for who allocates; the map lock is held exclusive ---- */

/*
 * Whether the cluster that begins at lblk is promised.  *len, in blocks, is cut to what is
 * alike behind it: ext4_balloc() is then called with EXT4_ALLOC_DELAYED, or without.
 */
bool ext4_delayed_cut(struct ext4_inode *inode, ext4_lblk_t lblk, uint32_t *len);

/* The promises for these blocks have become blocks, by EXT4_ALLOC_DELAYED. */
void ext4_delayed_spend(struct ext4_inode *inode, ext4_lblk_t lblk, uint32_t len);

/* Take one of the promises for the map, to allocate a block of it with EXT4_ALLOC_DELAYED;
 * false when there is none.  It is returned when that fails, or is undone with
 * EXT4_FREE_DELAYED. */
must_check bool ext4_delayed_take_node(struct ext4_inode *inode);
void ext4_delayed_return_node(struct ext4_inode *inode);

#endif
