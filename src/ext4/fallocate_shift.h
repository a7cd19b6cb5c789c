/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_FALLOCATE_SHIFT_H
#define EXT4_FALLOCATE_SHIFT_H

#include "ext4/ext4.h"

/*
 * Take [pos, pos + len) out of the file, or put a hole in there; what is behind moves.  Files
 * with extents only.  -EINVAL: not whole clusters, or the range reaches the end of the file.
 * -EFBIG: it would become too long.  The caller has excluded all other I/O.
 */
must_check int ext4_collapse_range(struct ext4_inode *inode, uint64_t pos, uint64_t len);
must_check int ext4_insert_range(struct ext4_inode *inode, uint64_t pos, uint64_t len);

#endif
