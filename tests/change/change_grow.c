/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files that grow in turns: change_grow IMAGE fallocate|append FILES STEP TURNS makes each of
 * /g0 .. longer by STEP bytes, TURNS times.
 */
#include "ops.h"

#define MAX_FILES 64

static int grow(struct ext4_inode *inode, bool append, uint64_t step, const char *bytes)
{
        uint64_t pos = vfs_size(&inode->vfs);

        return append ? op_write(inode, pos, bytes, (size_t)step, OP_APPEND)
                      : op_fallocate(inode, 0, pos, step);
}

int main(int argc, char **argv)
{
        struct ext4_inode *inodes[MAX_FILES];
        struct uext4_bdev *dev;
        struct rig_mount m;
        char *bytes;

        if (argc != 6) {
                fprintf(stderr, "usage: change_grow IMAGE fallocate|append FILES STEP TURNS\n");
                return 2;
        }
        const bool append = strcmp(argv[2], "append") == 0;
        const unsigned nr = (unsigned)strtoul(argv[3], NULL, 0);
        const uint64_t step = strtoull(argv[4], NULL, 0);
        const unsigned turns = (unsigned)strtoul(argv[5], NULL, 0);

        T_CHECK(nr <= MAX_FILES);
        bytes = t_alloc((size_t)step);
        memset(bytes, 'g', (size_t)step);
        T_CHECK(uext4_bdev_open_mmap(argv[1], 0, &dev) == 0);
        T_CHECK(rig_mount(&m, dev, RIG_OPTIONS) == 0);
        for (unsigned n = 0; n < nr; n++) {
                char path[16];

                snprintf(path, sizeof(path), "/g%u", n);
                T_CHECK(op_get(&m, path, &inodes[n]) == 0);
        }
        for (unsigned i = 0; i < nr * turns; i++)
                T_CHECK(grow(inodes[i % nr], append, step, bytes) == 0);
        for (unsigned n = 0; n < nr; n++)
                ext4_iput(inodes[n]);
        T_CHECK(rig_unmount(&m) == 0);
        uext4_bdev_close(dev);
        free(bytes);
        return 0;
}
