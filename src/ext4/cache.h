/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_CACHE_H
#define EXT4_CACHE_H

/* The page cache of files (vfs/pages.h), as ext4 uses it. */

#include "ext4/ext4.h"

extern const struct vfs_pagecache_ops ext4_pagecache_ops;

/* Whether it is the page cache that has the file's data: it is neither in the inode, nor in the
 * buffer cache, nor copied from the device. */
bool ext4_has_pages(const struct ext4_inode *inode);

/*
 * Between ext4_io_exclude() and the change: nothing of the file is only in memory any more but
 * what lies wholly in [gone_from, gone_to), which is dropped; and no folio has a byte of
 * [from, to), which is about to change on the device.  An error of writing back, which fsync
 * tells, too: what could not be written is lost, and nothing is dirty any more.
 */
must_check int ext4_cache_leave(struct ext4_inode *inode, uint64_t gone_from, uint64_t gone_to,
                                uint64_t from, uint64_t to);

/*
 * Before direct I/O of [pos, end), under the inode lock: what is dirty there is on the device;
 * before a write nothing of it is in memory.  -EAGAIN under `nowait` if that takes waiting.  An
 * error of writing back.
 */
must_check int ext4_cache_before_read(struct ext4_inode *inode, uint64_t pos, uint64_t end,
                                      bool nowait);
must_check int ext4_cache_before_write(struct ext4_inode *inode, uint64_t pos, uint64_t end,
                                       bool nowait);

#endif
