/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Where a file's bytes are: the extent status cache in front, the two kinds of map behind it,
 * and the answer in the language of iomap.
 */

#include "ext4/ext4.h"

/* All entries of a mount together; about 50 bytes each. */
#define MAX_CACHED_EXTENTS (256u << 10)

/* How many of one inode go at a time: enough that it is rare, and so few that it takes no time
 * that somebody would notice. */
#define FORGOTTEN_AT_ONCE 1024

/* ---- blocks ---- */

/* The mapping from lblk on. */
static void begin_at(struct ext4_map *map, ext4_lblk_t lblk)
{
        uint32_t skip = lblk - map->lblk;

        map->lblk = lblk;
        map->len -= skip;
        if (map->type != EXT4_MAP_HOLE)
                map->pblk += skip;
}

int ext4_map_lookup_locked(struct ext4_inode *inode, ext4_lblk_t lblk, unsigned flags,
                           struct ext4_map *ret_map)
{
        if (inode->flags & EXT4_FL_EXTENTS)
                return ext4_extent_lookup(inode, lblk, flags, ret_map);
        return ext4_indirect_lookup(inode, lblk, flags, ret_map);
}

/* Keep the mount's memory bounded: first what unused inodes know goes, then some of what this
 * one knows. */
static void bound_cache(struct ext4_inode *inode)
{
        struct ext4_fs *fs = inode->fs;

        if (atomic_load_explicit(&fs->nr_cached_extents, memory_order_relaxed) <
            MAX_CACHED_EXTENTS)
                return;
        ext4_inode_table_trim(fs->inodes);
        if (atomic_load_explicit(&fs->nr_cached_extents, memory_order_relaxed) >=
            MAX_CACHED_EXTENTS)
                ext4_es_shrink(&inode->es, FORGOTTEN_AT_ONCE, &fs->nr_cached_extents);
}

/* Ask the map itself, and remember the answer while the map cannot change. */
static int lookup_uncached(struct ext4_inode *inode, ext4_lblk_t lblk, unsigned flags,
                           struct ext4_map *ret_map)
{
        int ret;

        if (flags & EXT4_MAP_NOWAIT) {
                if (!rwsem_read_trylock(&inode->map_lock))
                        return -EAGAIN;
        } else {
                bound_cache(inode);
                rwsem_read_lock(&inode->map_lock);
        }
        ret = ext4_map_lookup_locked(inode, lblk, flags, ret_map);
        if (ret == 0)
                ext4_es_insert(&inode->es, ret_map, &inode->fs->nr_cached_extents);
        rwsem_read_unlock(&inode->map_lock);
        return ret;
}

int ext4_map_lookup(struct ext4_inode *inode, ext4_lblk_t lblk, unsigned flags,
                    struct ext4_map *ret_map)
{
        int ret;

        if (likely(ext4_es_lookup(&inode->es, lblk, ret_map))) {
                vfs_count(inode->vfs.sb, VFS_MAP_CACHE_HITS);
        } else {
                vfs_count(inode->vfs.sb, VFS_MAP_CACHE_MISSES);
                ret = lookup_uncached(inode, lblk, flags, ret_map);
                if (ret < 0)
                        return ret;
        }
        begin_at(ret_map, lblk);
        return 0;
}

/* ---- the language of iomap ---- */

static void fill_iomap(const struct ext4_inode *inode, const struct ext4_map *map,
                       struct iomap *ret_map)
{
        static const enum iomap_type types[] = {
                [EXT4_MAP_HOLE] = IOMAP_HOLE,
                [EXT4_MAP_WRITTEN] = IOMAP_MAPPED,
                [EXT4_MAP_UNWRITTEN] = IOMAP_UNWRITTEN, /* B1: wins over mapped */
        };
        uint32_t bits = inode->fs->block_bits;

        *ret_map = (struct iomap){
                .addr = map->type == EXT4_MAP_HOLE ? IOMAP_NULL_ADDR : map->pblk << bits,
                .offset = (uint64_t)map->lblk << bits,
                .length = map->len << bits,
                .type = types[map->type],
        };
        /* The cache joins neighbours; an indirect map knows single blocks only. */
        if (map->type != EXT4_MAP_HOLE && !(inode->flags & EXT4_FL_EXTENTS))
                ret_map->flags |= IOMAP_F_MERGED;
}

/* Beyond the last logical block there is nothing, whatever the size says (B8, C43). */
static void fill_beyond(uint64_t pos, struct iomap *ret_map)
{
        *ret_map = (struct iomap){
                .addr = IOMAP_NULL_ADDR,
                .offset = pos,
                .length = (uint64_t)INT64_MAX - pos + 1,
                .type = IOMAP_HOLE,
        };
}

static int map_blocks(struct ext4_inode *inode, uint64_t pos, uint32_t op_flags,
                      struct iomap *ret_map)
{
        uint64_t lblk = pos >> inode->fs->block_bits;
        struct ext4_map map;
        int ret;

        if (lblk > EXT4_MAX_LBLK) {
                fill_beyond(pos, ret_map);
                return 0;
        }
        ret = ext4_map_lookup(inode, (ext4_lblk_t)lblk,
                              op_flags & IOMAP_OP_NOWAIT ? EXT4_MAP_NOWAIT : 0, &map);
        if (ret == 0)
                fill_iomap(inode, &map, ret_map);
        return ret;
}

/* Behind inline data there is nothing: a file that was extended reads as zeros there (B20). */
static void fill_inline(const struct ext4_inode *inode, uint64_t pos, struct iomap *ret_map)
{
        if (pos >= inode->inline_size) {
                fill_beyond(pos, ret_map);
                return;
        }
        *ret_map = (struct iomap){
                .addr = IOMAP_NULL_ADDR,
                .offset = 0,
                .length = inode->inline_size,
                .type = IOMAP_INLINE,
                .inline_data = inode->inline_data,
        };
}

/* For data. */
static int read_begin(struct vfs_inode *vfs, uint64_t pos, uint64_t len, uint32_t op_flags,
                      struct iomap *ret_map)
{
        struct ext4_inode *inode = ext4_inode_of(vfs);

        if (!(inode->flags & EXT4_FL_INLINE_DATA))
                return map_blocks(inode, pos, op_flags, ret_map);
        fill_inline(inode, pos, ret_map);
        return 0;
}

/* A hole, when [from, to) is the first behind pos that is only in memory: the data at pos, or
 * the hole before it (B21). */
static void fill_delayed(uint64_t pos, uint64_t from, uint64_t to, struct iomap *map)
{
        const uint64_t end = map->offset + map->length;

        map->offset = pos;
        map->length = min_t(uint64_t, end, from > pos ? from : to) - pos;
        if (from == pos)
                map->type = IOMAP_DELALLOC;
}

/* For seek and fiemap, which also say where inline data lie: the first of them, in the inode.
 */
static int report_begin(struct vfs_inode *vfs, uint64_t pos, uint64_t len, uint32_t op_flags,
                        struct iomap *ret_map)
{
        struct ext4_inode *inode = ext4_inode_of(vfs);
        uint64_t from, to;
        /* First this: what is written back meanwhile is in the mapping then. */
        const bool has_dirty = vfs_pages_next_dirty(vfs, pos, UINT64_MAX, &from, &to);
        int ret = read_begin(vfs, pos, len, op_flags, ret_map);

        if (ret == 0 && ret_map->type == IOMAP_HOLE && has_dirty)
                fill_delayed(pos, from, to, ret_map);
        if (ret == 0 && ret_map->type == IOMAP_INLINE)
                ret_map->addr = inode->disk_pos + offsetof(struct ext4_inode_disk, i_block);
        return ret;
}

const struct iomap_ops ext4_read_ops = {.begin = read_begin};
const struct iomap_ops ext4_report_ops = {.begin = report_begin};

/* ---- whole blocks of metadata that lies in files ---- */

int ext4_read_block(struct ext4_inode *inode, ext4_lblk_t lblk, const struct buf_check *check,
                    struct buf **ret_buf)
{
        struct ext4_map map;
        int ret = ext4_map_lookup(inode, lblk, 0, &map);

        if (ret < 0)
                return ret;
        if (map.type != EXT4_MAP_WRITTEN) {
                *ret_buf = NULL;
                return 0;
        }
        return buf_read(inode->fs->bufs, map.pblk, check, 0, ret_buf);
}

int ext4_read_data(struct ext4_inode *inode, uint64_t pos, void *data, size_t len)
{
        const struct iovec iov = {data, len};
        struct vfs_kiocb iocb = {.inode = &inode->vfs, .pos = pos};
        struct iov_iter iter;
        int64_t n;
        int ret = iov_iter_init(&iter, &iov, 1);

        if (ret < 0)
                return ret;
        n = iomap_uncached_read(&iocb, &iter, &ext4_read_ops);
        if (n < 0)
                return (int)n;
        return (size_t)n == len ? 0 : -EIO;
}
