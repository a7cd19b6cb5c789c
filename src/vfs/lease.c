/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vfs/lease.h"

#include "util/alloc.h"

/* A thread is known by the address of a variable of its own. */
static const void *this_thread(void)
{
        static _Thread_local char me;

        return &me;
}

int vfs_lease_begin(const struct vfs_lease *want, struct vfs_lease **ret_lease)
{
        struct vfs_inode *inode = want->inode;
        struct vfs_lease *lease = mem_alloc(sizeof(*lease));

        if (!lease)
                return -ENOMEM;
        *lease = *want;
        lease->taker = this_thread();
        lease->recaller = NULL;
        lease->recalled = false;
        lease->refs = 1;
        mtx_lock(&inode->sb->lease_lock);
        LIST_INSERT_HEAD(&inode->leases, lease, link);
        mtx_unlock(&inode->sb->lease_lock);
        atomic_fetch_add(&inode->nr_write_leases, lease->writes);
        *ret_lease = lease;
        return 0;
}

static void put_locked(struct vfs_lease *lease)
{
        if (--lease->refs == 0)
                mem_free(lease);
}

void vfs_lease_end(struct vfs_lease *lease)
{
        struct vfs_inode *inode = lease->inode;
        struct vfs_super *sb = inode->sb;

        if (lease->writes) {
                vfs_written(inode); /* before it counts no more: fsync looks at both */
                atomic_fetch_sub(&inode->nr_write_leases, 1);
        }
        mtx_lock(&sb->lease_lock);
        LIST_REMOVE(lease, link);
        cond_broadcast(&sb->lease_ended);
        /* What recall() gets belongs to the holder, who is about to free it. */
        while (lease->recaller && lease->recaller != this_thread())
                cond_wait(&sb->lease_ended, &sb->lease_lock);
        put_locked(lease);
        mtx_unlock(&sb->lease_lock);
}

static bool overlaps(const struct vfs_lease *lease, uint64_t from, uint64_t to)
{
        return lease->pos < to && from < lease->end;
}

bool vfs_is_leased(struct vfs_inode *inode, uint64_t from, uint64_t to)
{
        struct vfs_lease *lease;
        bool found = false;

        mtx_lock(&inode->sb->lease_lock);
        LIST_FOREACH (lease, &inode->leases, link)
                found |= overlaps(lease, from, to);
        mtx_unlock(&inode->sb->lease_lock);
        return found;
}

/* What the leases of a range are waiting for. */
struct survey {
        struct vfs_lease *to_recall; /* one that nobody was asked for, or NULL */
        bool any, mine;
};

static struct survey survey_locked(struct vfs_inode *inode, uint64_t from, uint64_t to)
{
        struct survey s = {0};
        struct vfs_lease *lease;

        LIST_FOREACH (lease, &inode->leases, link) {
                if (!overlaps(lease, from, to))
                        continue;
                s.any = true;
                s.mine |= lease->taker == this_thread();
                if (lease->recall && !lease->recalled)
                        s.to_recall = lease;
        }
        return s;
}

/* Lets go of the lock meanwhile: recall() may end the lease. */
static void recall_locked(struct vfs_super *sb, struct vfs_lease *lease)
{
        lease->recalled = true;
        lease->recaller = this_thread();
        lease->refs++;
        mtx_unlock(&sb->lease_lock);
        lease->recall(lease->arg);
        mtx_lock(&sb->lease_lock);
        lease->recaller = NULL;
        cond_broadcast(&sb->lease_ended);
        put_locked(lease);
}

int vfs_lease_wait(struct vfs_inode *inode, uint64_t from, uint64_t to)
{
        struct vfs_super *sb = inode->sb;
        struct survey s;

        mtx_lock(&sb->lease_lock);
        while ((s = survey_locked(inode, from, to)).any) {
                if (s.to_recall)
                        recall_locked(sb, s.to_recall);
                else if (s.mine)
                        break;
                else
                        cond_wait(&sb->lease_ended, &sb->lease_lock);
        }
        mtx_unlock(&sb->lease_lock);
        return s.any ? -EDEADLK : 0;
}
