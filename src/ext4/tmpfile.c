/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Files without a name.
 *
 * Inode and orphan entry are one transaction, so that after a crash the file is gone, with all
 * that was written to it.  Linking it is the opposite, in one transaction, too: the name, the
 * link, the end of the entry.
 */

#include "ext4/balloc.h"
#include "ext4/namei.h"

static int tmpfile_locked(const struct ext4_new_name *new, bool can_get_name,
                          struct ext4_inode **ret_inode)
{
        struct ext4_inode *dir = new->dir;
        struct jbd2_handle *h;
        int ret = ext4_may_change_dir(dir, EXT4_DIR_ENTER);

        if (ret == 0)
                ret = jbd2_start(dir->fs->journal, EXT4_MAKE_CREDITS, 0, &h);
        if (ret < 0)
                return ret;
        ret = ext4_make_inode(h, new, ret_inode);
        if (ret == 0) {
                (*ret_inode)->can_get_name = can_get_name;
                ext4_make_nameless(h, *ret_inode);
        }
        return first_error(ret, jbd2_stop(h));
}

int ext4_tmpfile(const struct ext4_new_name *new, bool can_get_name,
                 struct ext4_inode **ret_inode)
{
        struct ext4_fs *fs = new->dir->fs;
        int tries = 0;
        int ret;

        do {
                struct ext4_inode *inode = NULL;

                rwsem_write_lock(&new->dir->vfs.lock);
                ret = tmpfile_locked(new, can_get_name, &inode);
                rwsem_write_unlock(&new->dir->vfs.lock);
                if (ret == 0)
                        *ret_inode = inode;
                else
                        ext4_iput(inode);
        } while (ret == -ENOSPC && ext4_balloc_retry(fs, &tries) > 0);
        return ret;
}
