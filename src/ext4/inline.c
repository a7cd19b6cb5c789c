/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <string.h>
#include <sys/stat.h>

#include "ext4/dir.h"
#include "ext4/xattr.h"
#include "util/alloc.h"

/*
 * Inline data: the contents of a small file, directory or symlink in its inode, the first 60
 * bytes in i_block, the rest as the value of the attribute "system.data".
 *
 * They are gathered once, when the inode is loaded; a directory's entries are verified then,
 * too.  A directory that fails stays a file that has attributes: inline_err is for whoever
 * wants to look inside.
 */

static const char data_name[] = "data";

/* 0, -EUCLEAN: whether the size of the inode goes with the space that there is. */
static int check_size(const struct ext4_inode *inode, uint64_t size, uint64_t space)
{
        const struct ext4_where at = ext4_at(inode, 0);

        switch (inode->mode & S_IFMT) {
        case S_IFREG:
                return 0; /* a file that was extended by truncate(2): zeros up to its size */
        case S_IFDIR:
        case S_IFLNK:
                if (size > space)
                        return ext4_corrupt(&at, "inline data: %llu of %llu bytes",
                                            (unsigned long long)space,
                                            (unsigned long long)size);
                return 0;
        default:
                return ext4_corrupt(&at, "inline data in a special file");
        }
}

static int check_dir(const struct ext4_inode *dir)
{
        const struct ext4_where at = ext4_at(dir, 0);
        uint32_t parent = ext4_inline_parent(dir);

        if (parent == 0 || parent > dir->fs->nr_inodes)
                return ext4_corrupt(&at, "inline directory: no inode %u for its parent",
                                    parent);
        for (unsigned which = 0; which < 2; which++) {
                struct ext4_inline_run run = ext4_inline_run(dir, which);
                int ret = ext4_dir_check_entries(&at, dir->inline_data + run.start, run.size);

                if (ret < 0)
                        return ret;
        }
        return 0;
}

int ext4_inline_load(struct ext4_inode *inode)
{
        const struct ext4_where at = ext4_at(inode, 0);
        uint64_t size = vfs_size(&inode->vfs);
        const void *value;
        ssize_t len = ext4_xattr_ibody_find(inode, EXT4_XATTR_INDEX_SYSTEM, data_name,
                                            sizeof(data_name) - 1, &value);
        uint32_t space;
        int ret;

        if (len == -ENODATA)
                return ext4_corrupt(&at, "inline data: the attribute is missing");
        if (len < 0)
                return (int)len;
        space = EXT4_I_BLOCK_SIZE + (uint32_t)len; /* the value lies inside the inode */
        ret = check_size(inode, size, space);
        if (ret < 0)
                return ret;
        inode->inline_data = mem_alloc(space);
        if (!inode->inline_data)
                return -ENOMEM;
        memcpy(inode->inline_data, inode->block, EXT4_I_BLOCK_SIZE);
        memcpy(inode->inline_data + EXT4_I_BLOCK_SIZE, value, (size_t)len);
        inode->inline_size = space;
        inode->inline_err = 0;
        if (S_ISDIR(inode->mode)) {
                if (!(inode->flags & EXT4_FL_ENCRYPT)) /* never read, names are binary */
                        inode->inline_err = check_dir(inode);
        } else {
                inode->inline_size = (uint32_t)min_t(uint64_t, size, space);
        }
        return 0;
}
