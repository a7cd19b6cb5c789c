/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Changing extended attributes. */

#include <sys/xattr.h>

#include "ext4/xattr_change.h"
#include "lib/lib.h"

int uext4_setxattr(struct uext4_inode *inode, const char *name, const void *value, size_t size,
                   int flags)
{
        unsigned how = 0;

        if (flags & ~(XATTR_CREATE | XATTR_REPLACE))
                return -EINVAL;
        if (flags & XATTR_CREATE)
                how |= EXT4_XATTR_CREATE;
        if (flags & XATTR_REPLACE)
                how |= EXT4_XATTR_REPLACE;
        return ext4_xattr_set(inode_in(inode), name, value, size, how);
}

int uext4_removexattr(struct uext4_inode *inode, const char *name)
{
        return ext4_xattr_remove(inode_in(inode), name);
}
