/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VFS_INODE_H
#define VFS_INODE_H

/*
 * The file in memory, as far as file I/O is concerned: its size, its lock, and the count of
 * direct I/O under way.  A file system embeds it in its own inode.
 */

#include "vfs/iov_iter.h"
#include "vfs/super.h"

struct vfs_inode {
        struct vfs_super *sb;  /* [const] */
        uint64_t ino;          /* [const] */
        _Atomic uint64_t size; /* i_size in bytes; changes under lock (exclusive) */

        struct rwsem lock; /* RANK_INODE: operation against operation (B25) */

        /* RANK_INVALIDATE: exclusive while blocks are taken away; who fills a cache with the
         * file's data holds it shared (C39). */
        struct rwsem invalidate_lock;

        /* Raised under `lock`, lowered at completion (C12).  Zero with `lock` held
         * exclusive means that no direct I/O is or can get under way. */
        struct vfs_pending dio;

        /* The flush that what was written to the file needs: see vfs_written(). */
        _Atomic uint64_t unflushed;

        struct vfs_pages pages; /* what of the file is in memory */

        LIST_HEAD(, vfs_lease) leases;    /* [sb.lease_lock; added to under `lock`] */
        _Atomic uint32_t nr_write_leases; /* as long as there are some, data may be written */
};

void vfs_inode_init(struct vfs_inode *inode, struct vfs_super *sb, uint64_t ino);
void vfs_inode_done(struct vfs_inode *inode);

static inline uint64_t vfs_size(const struct vfs_inode *inode)
{
        return atomic_load_explicit(&inode->size, memory_order_acquire);
}

/* Bytes of the smallest folio that the file may have. */
static inline uint32_t vfs_least_folio(const struct vfs_inode *inode)
{
        return max_t(uint32_t, FOLIO_MIN_SIZE, 1u << inode->sb->block_bits);
}

/*
 * Data of the file was written, completely, and is not durable: the next flush to begin makes
 * it so.  Before the request is counted down.
 */
static inline void vfs_written(struct vfs_inode *inode)
{
        uint64_t need = atomic_load(&inode->sb->flushes_begun) + 1;
        uint64_t old = atomic_load_explicit(&inode->unflushed, memory_order_relaxed);

        while (old < need && !atomic_compare_exchange_weak(&inode->unflushed, &old, need))
                ;
}

static inline bool vfs_needs_flush(struct vfs_inode *inode)
{
        return atomic_load(&inode->nr_write_leases) > 0 ||
               atomic_load(&inode->unflushed) > atomic_load(&inode->sb->flushes_done);
}

/* ---- one request ---- */

enum vfs_kiocb_flags {
        VFS_NOWAIT = 1u << 0,  /* -EAGAIN rather than sleep for a lock or metadata */
        VFS_DSYNC = 1u << 1,   /* writes: durable, and to be found, before the user hears */
        VFS_SYNC = 1u << 2,    /* with DSYNC: the times, too */
        VFS_APPEND = 1u << 3,  /* writes: at the end of the file, wherever that is */
        VFS_NOATIME = 1u << 4, /* reads: the access time stays */
        VFS_ATOMIC = 1u << 5,  /* direct writes: a power cut leaves all of it or nothing */
        VFS_FIXED = 1u << 6,   /* the memory is in buffer `buffer`, registered with the queue */
};

/* In place of a result: the request goes on, complete() will be called. */
#define VFS_QUEUED (-529)

/* How an open file is read: where the next read would go on, and how much was last read ahead.
 * Only a guess: threads that read the same file may spoil it for each other. */
struct vfs_readahead {
        _Atomic uint64_t next;
        _Atomic uint32_t window; /* bytes */
        _Atomic uint64_t ahead;  /* how far the thread was asked to go; 0: not since a jump */
        _Atomic bool was_asked;  /* the thread was, ever */

        /* What it is asked for [readers.lock]. */
        TAILQ_ENTRY(vfs_readahead) link;
        bool is_listed;
        struct vfs_inode *inode;
        uint64_t from, to;
        uint32_t unit; /* of a folio */
};

/* Let the thread fill [from, to) of the file, with folios of `unit` bytes. */
void vfs_readahead_ask(struct vfs_readahead *ra, struct vfs_inode *inode, uint64_t from,
                       uint64_t to, uint32_t unit);

/* The file is being closed: the thread does not know it any more.  No lock is held. */
void vfs_readahead_end(struct vfs_readahead *ra, struct vfs_inode *inode);

#define VFS_READAHEAD_FIRST (128u << 10)

struct vfs_kiocb {
        struct vfs_inode *inode;
        uint64_t pos;
        uint32_t flags;                  /* VFS_* */
        struct vfs_readahead *readahead; /* buffered reads; may be NULL */
        _Atomic uint64_t *error_seen;    /* writes: of the open file; may be NULL */

        /* With a queue the request may end later, through complete(); without, it is
         * synchronous. */
        struct vfs_queue *queue;
        void (*complete)(struct vfs_kiocb *iocb, int64_t result);
        uint32_t buffer; /* VFS_FIXED: its number */
};

#endif
