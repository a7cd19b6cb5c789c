/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_INLINE_CHANGE_H
#define EXT4_INLINE_CHANGE_H

/*
 * Changing inline data.  The caller holds the inode lock exclusive.  The gathered copy in
 * inode->inline_data is what is changed; ext4_inline_put() spreads it to where it lies.
 */

#include "ext4/inode_store.h"

/* The contents of inode->inline_data to i_block and the attribute; the inode is not stored. */
void ext4_inline_put(struct ext4_inode *inode);

/*
 * Under a handle: make a file of `size` bytes.  What is behind it becomes zeros.  A size that
 * does not fit in the inode is -ERANGE: ext4_inline_to_blocks() first.  The inode is not
 * stored.
 */
must_check int ext4_inline_set_size(struct ext4_inode *inode, uint64_t size);

/*
 * Give the file a map, with a block for its data if it has any.  No handle is open.
 * -ENOSPC and others: it is as it was.
 */
must_check int ext4_inline_to_blocks(struct ext4_inode *inode);

/*
 * Under a handle: a directory leaves its inode, for one block that is `image`, which is
 * journalled.  Stores the inode.  -ENOSPC and others: it is as it was.  Credits: an allocation,
 * its failure undone (same blocks), the block, the inode.
 */
must_check int ext4_inline_dir_to_block(struct jbd2_handle *h, struct ext4_inode *dir,
                                        const void *image);

#endif
