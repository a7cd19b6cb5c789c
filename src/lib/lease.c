/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Files as memory.  An uext4_lease is a vfs_lease by another name, with a reference to its
 * inode. */

#include "ext4/dax.h"
#include "ext4/write.h"
#include "lib/lib.h"

ssize_t uext4_map_lease(struct uext4_file *file, const struct uext4_lease_params *params,
                        void **ret_addr, struct uext4_lease **ret_lease)
{
        struct vfs_lease want = {
                .inode = &file->inode->vfs,
                .pos = params->pos,
                .writes = params->flags & UEXT4_LEASE_WRITE,
                .recall = params->recall,
                .arg = params->arg,
        };
        struct vfs_lease *lease;
        int ret = lib_check_up(file->inode);

        if (ret < 0)
                return ret;
        if ((params->flags & ~UEXT4_LEASE_WRITE) || params->len == 0 || params->pos > INT64_MAX)
                return -EINVAL;
        if (want.writes ? !file->writes : !file->reads)
                return -EBADF;
        want.end = want.pos + min_t(uint64_t, params->len, INT64_MAX - params->pos);
        ext4_iget_again(file->inode); /* the lease's */
        ret = ext4_dax_lease(&want, ret_addr, &lease);
        if (ret < 0) {
                ext4_iput(file->inode);
                return ret;
        }
        if (want.writes)
                ext4_writer_open(file->inode); /* who writes may outlive the open file */
        *ret_lease = (struct uext4_lease *)(void *)lease;
        return (ssize_t)(lease->end - lease->pos);
}

void uext4_unmap_lease(struct uext4_lease *handle)
{
        struct vfs_lease *lease = (struct vfs_lease *)(void *)handle;
        struct ext4_inode *inode;
        bool writes;

        if (!lease)
                return;
        inode = ext4_inode_of(lease->inode);
        writes = lease->writes;
        ext4_dax_end_lease(lease);
        if (writes)
                ext4_writer_close(inode);
        ext4_iput(inode);
}
