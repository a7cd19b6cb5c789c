/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who asks. */

#include <sys/stat.h>
#include <unistd.h>

#include "ext4/perm.h"
#include "ext4/super_write.h"
#include "lib/lib.h"

/* Of this thread: the caller's structure, and the same in the form of the layer below. */
static _Thread_local const struct uext4_cred *used;
static _Thread_local struct ext4_cred current;

const struct uext4_cred *uext4_cred_use(const struct uext4_cred *cred)
{
        const struct uext4_cred *before = used;

        used = cred;
        if (!cred) {
                ext4_cred_set(NULL);
                return before;
        }
        current = (struct ext4_cred){
                .uid = cred->uid,
                .gid = cred->gid,
                .groups = cred->groups,
                .nr_groups = cred->nr_groups,
                .umask = cred->umask,
                .caps = cred->caps,
                .trusted = cred->flags & UEXT4_CRED_TRUSTED,
        };
        ext4_cred_set(&current);
        return before;
}

int uext4_access(struct uext4_inode *handle, int mask)
{
        struct ext4_inode *inode = inode_in(handle);

        if (mask & ~(R_OK | W_OK | X_OK))
                return -EINVAL;
        if (mask & W_OK) {
                int ret = S_ISREG(inode->mode) || S_ISDIR(inode->mode) || S_ISLNK(inode->mode)
                                  ? ext4_writable(inode->fs)
                                  : 0;

                if (ret < 0)
                        return ret;
                if (inode->flags & EXT4_FL_IMMUTABLE)
                        return -EPERM;
        }
        return ext4_permission(inode, (mask & R_OK ? EXT4_MAY_READ : 0) |
                                              (mask & W_OK ? EXT4_MAY_WRITE : 0) |
                                              (mask & X_OK ? EXT4_MAY_EXEC : 0));
}
