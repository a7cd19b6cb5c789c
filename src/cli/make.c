/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* make.c - new things in directories of an image (see make.h). */
#include "cli/make.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct make_owner make_own(void)
{
        return (struct make_owner){.uid = getuid(), .gid = getgid()};
}

/* An identity says whom new things belong to; trusted, it is not asked for more. */
static struct uext4_cred identity(struct make_owner owner)
{
        return (struct uext4_cred){.uid = owner.uid,
                                   .gid = owner.gid,
                                   .caps = ~(uint64_t)0,
                                   .flags = UEXT4_CRED_TRUSTED};
}

int make_node(struct uext4_inode *dir, const char *name, uint32_t mode, uint32_t major,
              uint32_t minor, struct make_owner owner, struct uext4_inode **ret_inode)
{
        const struct uext4_cred cred = identity(owner), *before = uext4_cred_use(&cred);
        size_t len = strlen(name);
        int ret;

        if (S_ISDIR(mode))
                ret = uext4_mkdir(dir, name, len, mode & 07777, ret_inode);
        else
                ret = uext4_mknod(dir, name, len, mode, major, minor, ret_inode);
        uext4_cred_use(before);
        return ret;
}

int make_symlink(struct uext4_inode *dir, const char *name, const char *target,
                 struct make_owner owner, struct uext4_inode **ret_inode)
{
        const struct uext4_cred cred = identity(owner), *before = uext4_cred_use(&cred);
        int ret = uext4_symlink(dir, name, strlen(name), target, strlen(target), ret_inode);

        uext4_cred_use(before);
        return ret;
}
