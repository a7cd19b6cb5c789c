/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef IOMAP_IOMAP_H
#define IOMAP_IOMAP_H

/*
 * iomap: "where is this range of the file?", and the operations that follow from the answer.
 *
 * A file system fills a struct iomap through two functions; one iterator walks a range with
 * them; each operation (direct I/O, seek, fiemap, ...) is one file on top of the iterator.
 * iomap speaks bytes and knows no file system.
 */

#include "vfs/inode.h"

enum iomap_type {
        IOMAP_HOLE,      /* no space; reads as zeros */
        IOMAP_DELALLOC,  /* space reserved, data in memory only */
        IOMAP_MAPPED,    /* data at `addr` */
        IOMAP_UNWRITTEN, /* space at `addr`, reads as zeros */
        IOMAP_INLINE,    /* data in memory at `inline_data` */
};

enum iomap_map_flags {
        IOMAP_F_NEW = 1u << 0,   /* freshly allocated: parts not written must be zeroed (B4) */
        IOMAP_F_DIRTY = 1u << 1, /* metadata is not durable yet, or the size will change (B5) */
        IOMAP_F_SHARED = 1u << 2, /* the blocks belong to others too */
        IOMAP_F_MERGED = 1u << 3, /* may consist of several extents that lie in one piece */
};

#define IOMAP_NULL_ADDR UINT64_MAX

/* One mapping: a value. */
struct iomap {
        /* Bytes on the device; IOMAP_NULL_ADDR unless mapped or unwritten (B3), or reported
         * inline data, which lie somewhere too. */
        uint64_t addr;
        uint64_t offset; /* bytes in the file */
        uint64_t length; /* bytes, > 0 */
        enum iomap_type type;
        uint32_t flags;          /* IOMAP_F_* */
        const void *inline_data; /* INLINE: the bytes [offset, offset + length) of the file */
};

/* What the operation will do with the mapping. */
enum iomap_op_flags {
        IOMAP_OP_NOWAIT = 1u << 0, /* begin: -EAGAIN rather than sleep */
};

/*
 * A file system's answers.  There is a table per purpose (read, report, direct write, buffered
 * write), not one function that switches on flags.
 */
struct iomap_ops {
        /*
         * Find the mapping at `pos`.  It covers at least the byte `pos`; it may be shorter than
         * `len`, and longer: it does not know i_size (B9).  Called with the inode lock held,
         * shared at least; takes and drops the map lock; may read metadata.  On an error
         * nothing was begun and end is not called.
         *
         * For writing it allocates where there is a hole: the mapping is MAPPED or UNWRITTEN,
         * in whole blocks; IOMAP_F_NEW when the blocks hold whatever was on the device.
         * -ENOTBLK: not directly, the caller shall see to the rest (C27).
         */
        int (*begin)(struct vfs_inode *inode, uint64_t pos, uint64_t len, uint32_t op_flags,
                     struct iomap *ret_map);

        /*
         * The operation is done with a mapping that begin returned; `done` bytes of it, from
         * pos on, were used.  NULL: there is nothing to give back.
         */
        int (*end)(struct vfs_inode *inode, uint64_t pos, uint64_t len, uint64_t done,
                   uint32_t op_flags, const struct iomap *map);
};

/*
 * The iterator.
 *
 *      struct iomap_iter it = IOMAP_ITER(inode, pos, len, flags, ops);
 *
 *      while ((ret = iomap_iter_next(&it)) > 0)
 *              it.status = ...use it.map, iomap_iter_advance(&it, n)...;
 *
 * Advancing and failing are two things: a round may advance and then fail.  The loop ends
 * with 0 at the end of the range, or when a round neither advanced nor failed; with the
 * round's status when it failed, which wins over what end() says (C30).
 */
struct iomap_iter {
        struct vfs_inode *inode;
        const struct iomap_ops *ops;
        uint64_t pos; /* where the next byte is */
        uint64_t len; /* bytes left */
        uint32_t op_flags;
        int status;          /* set by the round: 0 or -errno */
        uint64_t given_back; /* up to here end() has said that all is well; 0: nowhere */

        bool has_first; /* `map` is set, and is that of the first round: begin is not called */

        struct iomap map; /* valid in a round; covers pos */
        uint64_t map_pos; /* pos and len when the round began */
        uint64_t map_len; /* 0: no mapping is held */
};

#define IOMAP_ITER(inode_, pos_, len_, op_flags_, ops_)                         \
        {                                                                       \
                .inode = (inode_), .ops = (ops_), .pos = (pos_), .len = (len_), \
                .op_flags = (op_flags_)                                         \
        }

static inline uint32_t iomap_op_flags(const struct vfs_kiocb *iocb)
{
        return iocb->flags & VFS_NOWAIT ? IOMAP_OP_NOWAIT : 0;
}

/* End the last mapping and begin the next: 1, 0 at the end, -errno. */
must_check int iomap_iter_next(struct iomap_iter *it);

/* n <= iomap_iter_length() */
void iomap_iter_advance(struct iomap_iter *it, uint64_t n);

/* Bytes from pos on that both the mapping and the range have. */
uint64_t iomap_iter_length(const struct iomap_iter *it);

/* Device position of `pos`; for mapped and unwritten mappings. */
static inline uint64_t iomap_addr_of(const struct iomap *map, uint64_t pos)
{
        return map->addr + (pos - map->offset);
}

/* ---- direct I/O ---- */

struct iomap_dio;

/* One device request of a direct I/O. */
struct iomap_bio {
        struct uext4_bdev_req req;
        struct iomap_dio *dio;
        struct iovec iov_inline; /* for the common vector of one element */
        struct iovec *iov_heap;  /* or NULL */
        bool is_heap;            /* the bio itself is */
};

/*
 * One direct I/O.  The caller gives the memory, which must stay until the result is there;
 * a request that becomes one device request with one buffer allocates nothing.
 */
struct iomap_dio {
        struct vfs_kiocb *iocb;
        uint64_t done;          /* bytes that count for the user, if there is no error */
        _Atomic uint32_t refs;  /* device requests under way, and one while submitting */
        _Atomic int error;      /* the first one */
        struct iomap_bio first; /* the first device request */
        bool first_used;

        uint32_t flags;          /* IOMAP_DIO_*; the submitter's, then the finisher's */
        struct vfs_queue *queue; /* of the device requests; NULL: synchronous */
        struct vfs_work work;
        int stopped; /* why it is shorter than asked for; 0 */
};

/* What a write has met, and what is to be done about it when its I/O is over. */
enum iomap_dio_flags {
        IOMAP_DIO_WRITE = 1u << 0,
        IOMAP_DIO_THROUGH = 1u << 1,   /* all of it is durable when its I/O is over (B7) */
        IOMAP_DIO_NEED_SYNC = 1u << 2, /* the user is told only when it is durable */
        IOMAP_DIO_UNWRITTEN = 1u << 3, /* blocks of it have to be converted (B40) */
        IOMAP_DIO_NEW = 1u << 4,       /* blocks were allocated for it */
};

/*
 * Direct read of iter->count bytes at iocb->pos.  The caller has checked alignment and holds
 * the inode lock, shared at least, for the time of the call.  Returns the bytes read or
 * -errno; VFS_QUEUED when iocb->queue is set and I/O is under way: then iocb->complete() will
 * be called, perhaps already was, and neither dio nor iocb may be touched (B32).
 *
 * The size is sampled once, at the start; the result ends there (B29).  Under VFS_NOWAIT a
 * range that would need a sleep is -EAGAIN, or a short count when something was read.
 */
int64_t iomap_dio_read(struct iomap_dio *dio, struct vfs_kiocb *iocb, struct iov_iter *iter,
                       const struct iomap_ops *ops);

/* How to write. */
struct iomap_dio_write {
        const struct iomap_ops *ops;
        const struct iomap *first; /* what ops->begin would say first, or NULL */
        bool wait;                 /* until the I/O is over, queue or not (R7) */
};

/*
 * Direct write of iter->count > 0 bytes at iocb->pos.  The caller has checked alignment and
 * limits, and holds the inode lock, shared at least, for the time of the call; exclusive, with
 * `wait` and nothing else under way, when part of a block may be met that is not written, or
 * that the size is moved behind: the rest of such blocks is zeroed (B4, C24).
 *
 * VFS_QUEUED: the I/O is under way, and nothing of the request may be touched (B32).  When it
 * is over, iocb->complete() is called if nothing else is to be done; else the dio is put on the
 * list of its queue, for vfs_super.finish.
 *
 * Any other result: the I/O is over, and it is for the caller to finish what dio->flags asks
 * for, and to call iomap_dio_end().  The result is the count of bytes that were written, or
 * -errno: then nothing may be converted.  A mapping that could not be had makes it shorter,
 * and dio->stopped says why, unless it was the first.
 *
 * The size is not changed here.
 */
must_check int64_t iomap_dio_write(struct iomap_dio *dio, struct vfs_kiocb *iocb,
                                   struct iov_iter *iter, const struct iomap_dio_write *how);

/* For who finishes a write: its result, an error in its place, and the end of its being
 * counted: from here on its inode may be truncated. */
int64_t iomap_dio_result(const struct iomap_dio *dio);
void iomap_dio_fail(struct iomap_dio *dio, int err);
void iomap_dio_end(struct iomap_dio *dio);

/* ---- buffered ---- */

/*
 * Read through the page cache, at any position.  The caller holds the inode lock, shared at
 * least.  The size is sampled once (B29); under VFS_NOWAIT only what is in memory is read: a
 * short count, or -EAGAIN.  Bytes read before an error are returned.
 */
int64_t iomap_buffered_read(struct vfs_kiocb *iocb, struct iov_iter *iter,
                            const struct iomap_ops *ops);

/* The folio that has the bytes from iocb->pos on, filled for `len` of them or as far as it
 * goes, with a reference.  The position is before the end of the file.  Lock as for reading. */
must_check int iomap_buffered_lend(struct vfs_kiocb *iocb, uint64_t len,
                                   const struct iomap_ops *ops, struct folio **ret_folio);

/* Fill the folio that has pos, of `size` bytes if there is none.  Where it ends; 0: at the end
 * of the file, or after an error.  Lock as for reading. */
uint64_t iomap_buffered_fill(struct vfs_inode *inode, uint64_t pos, uint32_t size,
                             const struct iomap_ops *ops);

/*
 * Write into the page cache: iter->count > 0 bytes at iocb->pos.  The caller holds the inode
 * lock exclusive and has waited for direct I/O; what lies between the size and pos is zeros on
 * the device and in memory.  begin() says what is there, or promises space (DELALLOC); the size
 * moves with the bytes.  The rest of blocks that are written in part is read by read_ops. Bytes
 * written before an error are returned.
 */
must_check int64_t iomap_buffered_write(struct vfs_kiocb *iocb, struct iov_iter *iter,
                                        const struct iomap_ops *ops,
                                        const struct iomap_ops *read_ops);

/*
 * Write back what is dirty of [from, to), rounded outwards to folios: begin() allocates, end()
 * converts, and moves the size on disk.  What others are writing is left to them; but what lies
 * behind `ordered`, the size on disk, is written in order: what they write there before it ends
 * first.  Each error is remembered for the inode (vfs_pages_set_error()); the first is
 * returned, and what could not be written is not dirty any more.  No handle is open, no folio
 * locked.
 */
must_check int iomap_writeback(struct vfs_inode *inode, uint64_t from, uint64_t to,
                               uint64_t ordered, const struct iomap_ops *ops);

/*
 * Read beside the page cache, for what has no pages: inline data, and values that are kept like
 * files.  Synchronous, through a bounce buffer.  Lock and size as for reading.
 */
int64_t iomap_uncached_read(struct vfs_kiocb *iocb, struct iov_iter *iter,
                            const struct iomap_ops *ops);

/* ---- a device that is memory (DAX) ---- */

/* Where [addr, addr + len) of the device is, or NULL behind its end.  vfs_super.map is there.
 */
void *iomap_dax_addr(struct vfs_super *sb, uint64_t addr, uint64_t len);

/* Read by copying, at any position; as iomap_buffered_read(). */
int64_t iomap_dax_read(struct vfs_kiocb *iocb, struct iov_iter *iter,
                       const struct iomap_ops *ops);

/*
 * Write by copying: iter->count > 0 bytes at iocb->pos, at any position.  What begin() gives is
 * MAPPED, and if it is new, zeros already.  The caller holds the inode lock: shared when all of
 * the range is mapped inside the size, else exclusive.  The size is not changed here.  Durable
 * after a sync.  Bytes written before an error are returned.
 */
must_check int64_t iomap_dax_write(struct vfs_kiocb *iocb, struct iov_iter *iter,
                                   const struct iomap_ops *ops);

/* ---- reports ---- */

/*
 * SEEK_DATA, SEEK_HOLE (lseek(2)): the position found, or -ENXIO.  Unwritten space is a hole.
 * The caller holds the inode lock, shared at least (B19).
 */
int64_t iomap_seek(struct vfs_inode *inode, uint64_t pos, int whence,
                   const struct iomap_ops *ops);

struct fiemap_extent;

/*
 * The extents that touch [pos, pos + len), the ends rounded outwards to whole extents; at most
 * `max`, or with max 0 only counted.  FIEMAP_EXTENT_LAST marks the file's last.  Same lock.
 */
int iomap_fiemap(struct vfs_inode *inode, uint64_t pos, uint64_t len,
                 struct fiemap_extent *extents, unsigned max, const struct iomap_ops *ops);

#endif
