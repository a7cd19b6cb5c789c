/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_ZERO_H
#define EXT4_ZERO_H

/*
 * Zeros in blocks that a file keeps.
 *
 * They go to the device at once, past the journal, as file data do: completed when the call
 * returns, durable before any transaction that is committed later (its flush).  A power cut
 * shows each byte as it was or as zero.  Of a file whose data is journalled they are
 * transactions (data_journal.h).
 *
 * Only written blocks are touched: holes and unwritten blocks are zeros.  The caller holds the
 * inode lock exclusive and has waited for direct I/O; no handle is needed.
 */

#include "ext4/ext4.h"

/* Zero the bytes [pos, pos + len) of the file. */
must_check int ext4_zero_range(struct ext4_inode *inode, uint64_t pos, uint64_t len);

/* Zero whole blocks, wherever they belong to. */
must_check int ext4_zero_blocks(struct ext4_fs *fs, ext4_fsblk_t pblk, uint64_t len);

/*
 * Whether something other than zeros lies in [pos, end of the block of pos): 1, 0, -errno.
 * Reads the block if it is written.
 */
must_check int ext4_tail_is_dirty(struct ext4_inode *inode, uint64_t pos);

/*
 * Before the size grows: what lies behind `size`, the size now, up to the end of its block
 * must be zeros (C23, C24).  What the kernel, a crash or a mapping of the file left there would
 * be seen otherwise.
 */
must_check int ext4_zero_tail(struct ext4_inode *inode, uint64_t size);

#endif
