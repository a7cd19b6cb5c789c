/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vfs/inode.h"

void vfs_inode_init(struct vfs_inode *inode, struct vfs_super *sb, uint64_t ino)
{
        inode->sb = sb;
        inode->ino = ino;
        atomic_init(&inode->size, 0);
        atomic_init(&inode->dio.nr, 0);
        atomic_init(&inode->unflushed, 0);
        vfs_pages_init(&inode->pages);
        LIST_INIT(&inode->leases);
        atomic_init(&inode->nr_write_leases, 0);
        rwsem_init(&inode->lock, RANK_INODE);
        rwsem_init(&inode->invalidate_lock, RANK_INVALIDATE);
}

void vfs_inode_done(struct vfs_inode *inode)
{
        assert(atomic_load(&inode->dio.nr) == 0);
        assert(LIST_EMPTY(&inode->leases));
        vfs_pages_done(&inode->pages);
        rwsem_done(&inode->invalidate_lock);
        rwsem_done(&inode->lock);
}
