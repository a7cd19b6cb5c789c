/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_FALLOCATE_H
#define EXT4_FALLOCATE_H

/*
 * fallocate(2).
 *
 *      fallocate.c         what is asked, and may it be; the modes that keep data in place
 *      fallocate_shift.c   those that move it: collapse and insert
 */

#include "ext4/ext4.h"

/*
 * `mode`: FALLOC_FL_*.  Takes the inode lock.  Errors are the kernel's: -EINVAL for an empty
 * or misaligned range; -EOPNOTSUPP for a combination of modes that does not exist, and for
 * what a file without extents cannot do; -EFBIG; -ENODEV for what is no file; -EPERM;
 * -ENOSPC: then what was allocated stays, and the size covers it, unless it is to be kept. What
 * of the file is in memory only is written back first; if that fails, its error: nothing has
 * been allocated, zeroed or moved.
 */
must_check int ext4_fallocate(struct ext4_inode *inode, int mode, uint64_t pos, uint64_t len);

#endif
