/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VFS_LEASE_H
#define VFS_LEASE_H

/*
 * Ranges of a file that somebody uses as memory.
 *
 * As long as a lease is held, its bytes stay where they are on the device.  Who is about to
 * give them another place, or to take it away, looks under the inode lock (exclusive) whether a
 * lease is in the way.  If so he lets go of his locks, has the holders asked to end it
 * (`recall`), waits, and begins anew: holders may use the file in any way until they have done.
 *
 * A lease is entered under the inode lock, shared at least, so that none can come up behind who
 * has looked.
 */

#include "vfs/inode.h"

struct vfs_lease {
        LIST_ENTRY(vfs_lease) link; /* of its inode's [sb.lease_lock] */
        struct vfs_inode *inode;    /* [const] */
        uint64_t pos, end;          /* bytes of the file [const] */
        bool writes;                /* [const] */
        void (*recall)(void *arg);  /* [const] NULL: nobody is asked */
        void *arg;
        const void *taker;    /* the thread that began it [const] */
        const void *recaller; /* the thread that is in recall() [sb.lease_lock] */
        bool recalled;        /* [sb.lease_lock] */
        uint32_t refs;        /* the holder's, and recall's [sb.lease_lock] */
};

/* Begin what `want` says (inode, pos, end, writes, recall, arg).  -ENOMEM. */
must_check int vfs_lease_begin(const struct vfs_lease *want, struct vfs_lease **ret_lease);

/* The memory is used no more.  Waits for a recall() under way in another thread.  The inode has
 * a reference of the caller's. */
void vfs_lease_end(struct vfs_lease *lease);

/* Whether a lease has a byte of [from, to).  The inode lock is held exclusive. */
bool vfs_is_leased(struct vfs_inode *inode, uint64_t from, uint64_t to);

/*
 * Ask for and wait for the end of the leases that have a byte of [from, to).  No lock is held.
 * -EDEADLK: this thread holds one itself.
 */
must_check int vfs_lease_wait(struct vfs_inode *inode, uint64_t from, uint64_t to);

#endif
