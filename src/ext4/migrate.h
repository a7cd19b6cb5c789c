/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_MIGRATE_H
#define EXT4_MIGRATE_H

#include "ext4/ext4.h"

/*
 * The map of a regular file becomes an extent tree (EXT4_FL_EXTENTS), or one of indirect
 * blocks. Its bytes and holes stay as they are; what is preallocated is given back.  The data
 * gets other blocks: as many must be free.
 *
 * Between ext4_io_exclude_leases() and ext4_io_admit(), without a handle.  *ret_old is to be
 * put after that, also after an error, when no lock is held; it may be NULL.
 *
 * -EOPNOTSUPP: no file, or without a map (inline data), or the file system has no such maps;
 * -EFBIG: the file is too long for indirect blocks; -ENOSPC; as ext4_may_change(); -EIO and the
 * like: the file is as it was.
 */
must_check int ext4_migrate_locked(struct ext4_inode *inode, bool to_extents,
                                   struct ext4_inode **ret_old);

#endif
