/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_WRITE_PATH_H
#define EXT4_WRITE_PATH_H

/* Between write.c, write_map.c and write_end.c; and for dax.c. */

#include "ext4/fsync.h"
#include "ext4/map_change.h"
#include "ext4/orphan.h"
#include "ext4/setattr.h"
#include "ext4/super_write.h"
#include "ext4/truncate.h"
#include "ext4/write.h"
#include "ext4/zero.h"

/* ---- write.c ---- */

/*
 * Under the inode lock: may it be written (B33), and where (B35)?  VFS_APPEND sets iocb->pos,
 * for which the lock must be exclusive; nothing goes behind `max` bytes.  1: go on; 0: it asks
 * for nothing; -EFBIG; and as ext4_may_change().
 */
must_check int ext4_write_check(struct ext4_inode *inode, struct vfs_kiocb *iocb,
                                struct iov_iter *iter, uint64_t max, bool is_exclusive);

/* Whether it will end behind the size: a guess, before the lock (C7). */
bool ext4_write_will_extend(const struct vfs_kiocb *iocb, const struct iov_iter *iter);

/* ---- write_map.c ---- */

extern const struct iomap_ops ext4_write_ops;     /* direct */
extern const struct iomap_ops ext4_buffered_ops;  /* into the page cache: space is promised */
extern const struct iomap_ops ext4_writeback_ops; /* out of it: space is allocated */
extern const struct iomap_ops ext4_dax_ops;       /* by copying (dax.h): written blocks */

/* What is at pos, for a write that ends at `end`: nothing is allocated.  op_flags: IOMAP_OP_*.
 * -EFBIG: no map reaches that far. */
must_check int ext4_write_look(struct ext4_inode *inode, uint64_t pos, uint64_t end,
                               uint32_t op_flags, struct iomap *ret_map);

/* Data was written just now: mtime and ctime, without a transaction. */
void ext4_note_written(struct ext4_inode *inode);

/* Under a handle: blocks that [pos, end) touches become written.  The handle has credits for
 * a conversion and `keep` others, which are left in the end. */
must_check int ext4_write_convert(struct jbd2_handle *h, struct ext4_inode *inode, uint64_t pos,
                                  uint64_t end, uint32_t keep);

/* ---- write_end.c ---- */

/*
 * The I/O of a direct write is over, in the thread that submitted it, which holds the inode
 * lock: what iomap_dio_write() returned becomes the result.  Its blocks are converted and it
 * is counted down; it is not made durable.
 */
must_check int64_t ext4_end_write(struct iomap_dio *dio, int64_t result);

/* The same for one that ends behind the size; is_orphan: ext4_begin_extend() made it one. */
must_check int64_t ext4_end_extend(struct iomap_dio *dio, int64_t result, bool is_orphan);

/* Before blocks are allocated behind the size: the inode becomes an orphan (B38). */
must_check int ext4_begin_extend(struct ext4_inode *inode);

/* What a write that ends behind the size has done. */
struct ext4_extension {
        struct ext4_inode *inode;
        uint64_t pos, end; /* the bytes that were written */
        bool is_unwritten; /* their blocks have to be converted */
        bool has_new;      /* blocks were allocated for it */
        bool is_short;     /* it got less far than it was to */
        bool is_orphan;    /* ext4_begin_extend() made it one */
};

/* Size, conversion and orphan entry of a write of any kind with this result (bytes or -errno),
 * under the exclusive inode lock: what becomes of the result. */
must_check int64_t ext4_end_extension(const struct ext4_extension *x, int64_t result);

#endif
