/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef BUF_BUF_H
#define BUF_BUF_H

/*
 * The metadata block cache: the only way to metadata.
 *
 * A block is read once and checked once.  Who asks for a block says what it
 * should be (a struct buf_check); bytes reach the caller only after that check
 * has passed.  The cache remembers the verdict, also a bad one, per check and
 * owner, so that a damaged block is reported once and stays damaged as long as it
 * is cached.
 *
 * Invariants
 *  I1  A buffer with references is never evicted and its bytes never move.
 *  I2  Between buf_read() and buf_put() the caller may read the bytes with no lock.
 *  I3  Memory: the cache holds at most its bound, or what is referenced if that is more.
 */

#include "bdev/bdev.h"
#include "util/lock.h"

struct buf_cache;

/* What a block should be. */
struct buf_check {
        /*
         * Look at `size` bytes read from block `blk`.  0, or -EUCLEAN / -EBADMSG after
         * having said so.  Pure but for the log.  Called with the buffer's load lock held.
         */
        int (*verify)(const void *data, size_t size, uint64_t blk, const void *arg);
        const void *arg; /* for verify, valid during the call */
        uint64_t owner;  /* blocks of different owners (inode, generation) are checked anew */
};

struct buf {
        const void *data; /* the block's bytes [const while referenced] */
        uint64_t blk;     /* [const] */
};

/* The cache of a device's blocks of block_size bytes, bounded to max_bytes of block data. */
int buf_cache_new(struct uext4_bdev *dev, uint32_t block_size, uint64_t max_bytes,
                  struct buf_cache **ret_cache);

/* Nothing is referenced any more.  NULL is fine. */
void buf_cache_free(struct buf_cache *cache);

enum buf_flags {
        BUF_NOWAIT = 1u << 0, /* -EAGAIN instead of reading from the device */
};

/*
 * Get block `blk`, read and checked, with a reference.  Without a check (NULL) the caller
 * checks each piece that it uses: for blocks that hold many small structures, of which a
 * damaged one must not take its neighbours along.  -EIO and the like from the
 * device are not remembered; a verdict of the check is.
 */
must_check int buf_read(struct buf_cache *cache, uint64_t blk, const struct buf_check *check,
                        unsigned flags, struct buf **ret_buf);

/* Give a reference back.  NULL is fine. */
void buf_put(struct buf *buf);

static inline void buf_putp(struct buf **pbuf)
{
        buf_put(*pbuf);
}

#define _cleanup_buf_ __attribute__((cleanup(buf_putp)))

struct buf_stats {
        uint64_t reads;        /* blocks read from the device */
        uint64_t cached_bytes; /* block data held now */
};

void buf_cache_stats(struct buf_cache *cache, struct buf_stats *ret_stats);

#endif
