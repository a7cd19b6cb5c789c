/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_DELAYED_NEED_H
#define EXT4_DELAYED_NEED_H

/* What the map of a file may need for the data that is promised space (delayed.c alone). */

#include "ext4/delayed_set.h"

/* The most extents that one cluster's blocks can become. */
uint64_t ext4_delayed_extents(const struct ext4_fs *fs);

/* Of one chunk: pointer blocks, or leaves that may have to be split. */
uint32_t ext4_delayed_need(const struct ext4_inode *inode, const struct ext4_delayed_chunk *c);

/* Blocks of the map, for that many clusters, promised and unwritten, whose chunks need that
 * much.  The map lock is held, for the depth. */
uint64_t ext4_delayed_need_in_all(const struct ext4_inode *inode, uint64_t nr,
                                  uint64_t nr_unwritten, uint64_t need);

#endif
