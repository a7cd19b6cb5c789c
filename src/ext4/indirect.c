/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Indirect maps (ext2, ext3), the reading side.
 *
 * Twelve direct pointers in the inode, then the roots of trees with one, two and three levels
 * of pointer blocks.  A pointer of 0 is a hole of everything below it.
 */

#include "ext4/ext4.h"

bool ext4_indirect_path(const struct ext4_fs *fs, ext4_lblk_t lblk,
                        struct ext4_indirect_path *ret_path)
{
        uint64_t first = EXT4_NR_DIRECT;

        if (lblk < EXT4_NR_DIRECT) {
                *ret_path = (struct ext4_indirect_path){lblk, 0, lblk, 0};
                return true;
        }
        for (unsigned levels = 1; levels <= 3; levels++) {
                uint64_t nr = 1ull << (ext4_ptr_bits(fs) * levels);

                if (lblk - first < nr) {
                        *ret_path = (struct ext4_indirect_path){EXT4_IND_BLOCK + levels - 1,
                                                                levels, first, lblk - first};
                        return true;
                }
                first += nr;
        }
        return false;
}

/* ---- pointer blocks ---- */

static int verify_pointers(const void *data, size_t size, uint64_t blk, const void *arg)
{
        const struct ext4_where at = ext4_at(arg, blk);
        const le32 *ptr = data;

        for (size_t i = 0; i < size / sizeof(*ptr); i++) {
                uint32_t to = le32_get(ptr[i]);

                if (to != 0 && !ext4_blocks_valid(at.fs, to, 1))
                        return ext4_corrupt(
                                &at, "indirect block: pointer %zu leads outside, to %u", i, to);
        }
        return 0;
}

int ext4_indirect_read(struct ext4_inode *inode, ext4_fsblk_t blk, unsigned flags,
                       struct buf **ret_buf)
{
        const struct buf_check check = {verify_pointers, inode, ext4_owner(inode)};

        return buf_read(inode->fs->bufs, blk, &check, flags & EXT4_MAP_NOWAIT ? BUF_NOWAIT : 0,
                        ret_buf);
}

/* Pointers that continue ptr[i]: neighbours on disk, or holes if it is one. */
static uint64_t run_length(const le32 *ptr, uint64_t i, uint64_t nr)
{
        uint32_t start = le32_get(ptr[i]);
        uint64_t n = 1;

        while (i + n < nr && le32_get(ptr[i + n]) == (start ? start + n : 0))
                n++;
        return n;
}

static struct ext4_map run_map(const le32 *ptr, uint64_t i, uint64_t nr, uint64_t lblk,
                               uint64_t blocks_per_ptr)
{
        uint32_t start = le32_get(ptr[i]);

        return (struct ext4_map){
                .lblk = (ext4_lblk_t)lblk,
                .len = run_length(ptr, i, nr) * blocks_per_ptr,
                .pblk = start,
                .type = start ? EXT4_MAP_WRITTEN : EXT4_MAP_HOLE,
        };
}

/* ---- lookup ---- */

/* Among the direct pointers. */
static int map_direct(struct ext4_inode *inode, const le32 *i_block, ext4_lblk_t lblk,
                      struct ext4_map *ret_map)
{
        const struct ext4_where at = ext4_at(inode, 0);
        struct ext4_map map = run_map(i_block, lblk, EXT4_NR_DIRECT, lblk, 1);

        if (map.type == EXT4_MAP_WRITTEN && !ext4_blocks_valid(inode->fs, map.pblk, map.len))
                return ext4_corrupt(&at, "direct pointer %u leads outside, to %llu", lblk,
                                    (unsigned long long)map.pblk);
        *ret_map = map;
        return 0;
}

/* Down the tree whose top pointer is `top`. */
static int map_tree(struct ext4_inode *inode, const struct ext4_indirect_path *path,
                    uint32_t top, unsigned flags, struct ext4_map *ret_map)
{
        const unsigned bits = ext4_ptr_bits(inode->fs);
        const uint64_t nr = 1ull << bits;
        uint64_t lblk = path->first; /* where the subtree of `top` begins */
        uint64_t index = path->index;

        for (unsigned level = path->levels; top != 0; level--) {
                uint64_t blocks_per_ptr = 1ull << (bits * (level - 1));
                uint64_t i = index >> (bits * (level - 1));
                struct buf *buf;
                const le32 *ptr;
                int ret = ext4_indirect_read(inode, top, flags, &buf);

                if (ret < 0)
                        return ret;
                ptr = buf->data;
                lblk += i * blocks_per_ptr;
                index &= blocks_per_ptr - 1;
                top = le32_get(ptr[i]);
                if (level == 1 || top == 0) {
                        *ret_map = run_map(ptr, i, nr, lblk, blocks_per_ptr);
                        buf_put(buf);
                        return 0;
                }
                buf_put(buf);
        }
        *ret_map = (struct ext4_map){
                .lblk = (ext4_lblk_t)lblk,
                .len = 1ull << (bits * path->levels),
                .type = EXT4_MAP_HOLE,
        };
        return 0;
}

int ext4_indirect_lookup(struct ext4_inode *inode, ext4_lblk_t lblk, unsigned flags,
                         struct ext4_map *ret_map)
{
        const le32 *i_block = (const void *)inode->block;
        const struct ext4_where at = ext4_at(inode, 0);
        struct ext4_indirect_path path;
        uint32_t top;
        int ret;

        if (!ext4_indirect_path(inode->fs, lblk, &path)) {
                *ret_map = (struct ext4_map){
                        .lblk = lblk, .len = EXT4_NR_LBLKS - lblk, .type = EXT4_MAP_HOLE};
                return 0;
        }
        if (path.levels == 0)
                return map_direct(inode, i_block, lblk, ret_map);
        top = le32_get(i_block[path.root]);
        if (top != 0 && !ext4_blocks_valid(inode->fs, top, 1))
                return ext4_corrupt(&at, "indirect root %u leads outside, to %u", path.root,
                                    top);
        ret = map_tree(inode, &path, top, flags, ret_map);
        /* With large blocks the third level reaches further than a file may. */
        if (ret == 0 && ret_map->len > EXT4_NR_LBLKS - ret_map->lblk)
                ret_map->len = EXT4_NR_LBLKS - ret_map->lblk;
        return ret;
}
