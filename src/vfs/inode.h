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

        /* Raised under `lock`, lowered at completion (C12).  Zero with `lock` held
         * exclusive means that no direct I/O is or can get under way. */
        struct vfs_pending dio;
};

void vfs_inode_init(struct vfs_inode *inode, struct vfs_super *sb, uint64_t ino);
void vfs_inode_done(struct vfs_inode *inode);

static inline uint64_t vfs_size(struct vfs_inode *inode)
{
        return atomic_load_explicit(&inode->size, memory_order_acquire);
}

/* ---- one request ---- */

enum vfs_kiocb_flags {
        VFS_NOWAIT = 1u << 0, /* -EAGAIN rather than sleep for a lock or metadata */
};

/* In place of a result: the request goes on, complete() will be called. */
#define VFS_QUEUED (-529)

struct vfs_kiocb {
        struct vfs_inode *inode;
        uint64_t pos;
        uint32_t flags; /* VFS_* */

        /* With a queue the request may end later, through complete(); without, it is
         * synchronous. */
        struct uext4_bdev_queue *queue;
        void (*complete)(struct vfs_kiocb *iocb, int64_t result);
};

#endif
