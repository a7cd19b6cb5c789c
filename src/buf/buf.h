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
 *
 * The bytes are changed through the journal only (jbd2/jbd2.h), which keeps a reference on
 * each buffer that differs from its block on the device.  What keeps a reader and a writer of
 * the same bytes apart is a lock of their owner: the map lock, the group's, the inode's.
 *
 *  I4  A buffer goes home, to its block, by buf_write_home() and by nothing else, and only in
 *      the state BUF_DIRTY: never while a transaction that is not durable has it (J21).
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

enum buf_state {
        BUF_CLEAN, /* as on the device */
        BUF_OPEN,  /* of a transaction that is not durable */
        BUF_DIRTY, /* to be written home */
};

struct buf {
        const void *data; /* the block's bytes [the place is const while referenced] */
        uint64_t blk;     /* [const] */

        /* The journal's, which holds a reference unless journal is NULL and state BUF_CLEAN. */
        void *journal;           /* [journal] */
        _Atomic(uint32_t) state; /* enum buf_state; changes under the journal's lock */
};

/* The cache of a device's blocks of block_size bytes, bounded to max_bytes of block data. */
int buf_cache_new(struct uext4_bdev *dev, uint32_t block_size, uint64_t max_bytes,
                  struct buf_cache **ret_cache);

uint32_t buf_cache_block_size(const struct buf_cache *cache);

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

/*
 * Get block `blk` with a reference, without reading it: what was there does not matter.  What
 * checks said about it is forgotten.  For jbd2_get_create(), which fills it with zeros.
 */
must_check int buf_new(struct buf_cache *cache, uint64_t blk, struct buf **ret_buf);

/* Get block `blk` if it is cached, whatever its bytes are. */
bool buf_find(struct buf_cache *cache, uint64_t blk, struct buf **ret_buf);

/* One more reference. */
void buf_get(struct buf *buf);

/* The bytes are what the caller makes them: what is on the device does not matter any more. */
void buf_set_known(struct buf *buf);

/*
 * The bytes have been changed by who keeps to what the block should be.  On a damaged image it
 * may have other roles, whose checks have passed: they will be asked again.
 */
void buf_changed(struct buf *buf);

/*
 * The block belongs to somebody else from now on: forget its bytes and verdicts, so that the
 * next who wants it reads it.  The caller has a reference, and nobody reads the bytes.
 */
void buf_forget(struct buf *buf);

/* Give a reference back.  NULL is fine. */
void buf_put(struct buf *buf);

static inline void buf_putp(struct buf **pbuf)
{
        buf_put(*pbuf);
}

#define _cleanup_buf_ __attribute__((cleanup(buf_putp)))

/* ---- for the journal ---- */

/* The bytes, for who has access to change them: see jbd2_get_write(). */
static inline void *buf_bytes(struct buf *buf)
{
        return (void *)(uintptr_t)buf->data;
}

/* A block on its way home: the buffer's bytes, or a copy of what they were. */
struct buf_home {
        struct buf *buf;
        const void *data; /* aligned as the device wants it */
};

/*
 * Write blocks home, neighbours in one request each; the order of `homes` becomes that of
 * block numbers.  -EBUSY, and nothing written, when one is not BUF_DIRTY (I4).  After another
 * error any of them may have been written.  The states stay as they are.
 */
must_check int buf_write_home(struct buf_cache *cache, struct buf_home *homes, size_t nr);

struct buf_stats {
        uint64_t reads;        /* blocks read from the device */
        uint64_t cached_bytes; /* block data held now */
};

void buf_cache_stats(struct buf_cache *cache, struct buf_stats *ret_stats);

#endif
