/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/map_change.h"

#include "ext4/delayed.h"
#include "ext4/extent_edit.h"
#include "ext4/super_write.h"

/*
 * Allocation asks the tree itself, not the cache, because the map lock is held anyway.
 *
 * With clusters (bigalloc) the unit of allocation is larger than the unit of the map.  A hole
 * may begin or end inside a cluster that the file has already, for the sake of its other
 * blocks.  Such a part of a hole is mapped to the cluster that is there, and nothing is
 * allocated: a cluster belongs to one place of one file.
 */

static _Atomic uint64_t *total_of(struct ext4_inode *inode)
{
        return &inode->fs->nr_cached_extents;
}

/* ---- where to allocate ---- */

static uint32_t cluster_blocks(const struct ext4_fs *fs)
{
        return 1u << fs->cluster_bits;
}

/*
 * Whether the file has the cluster that begins at logical block `first`: 1, with the block that
 * `first` is or would be mapped to; 0.
 */
static int find_cluster(struct ext4_inode *inode, uint64_t first, ext4_fsblk_t *ret_pblk)
{
        uint64_t end = min_t(uint64_t, first + cluster_blocks(inode->fs), EXT4_NR_LBLKS);
        uint64_t lblk = first;

        while (lblk < end) {
                struct ext4_map map;
                int ret = ext4_map_lookup_locked(inode, (ext4_lblk_t)lblk, 0, &map);

                if (ret < 0)
                        return ret;
                if (map.type != EXT4_MAP_HOLE) {
                        *ret_pblk = map.pblk - map.lblk + first;
                        return 1;
                }
                lblk = ext4_map_end(&map);
        }
        return 0;
}

/* Behind the block before, if there is one. */
static int find_goal(struct ext4_inode *inode, uint64_t first, ext4_fsblk_t *ret_goal)
{
        struct ext4_map map;
        int ret;

        *ret_goal = 0;
        if (first == 0)
                return 0;
        ret = ext4_map_lookup_locked(inode, (ext4_lblk_t)(first - 1), 0, &map);
        if (ret == 0 && map.type != EXT4_MAP_HOLE)
                *ret_goal = map.pblk + (first - map.lblk);
        return ret;
}

/* What alloc_hole() is about to do. */
struct plan {
        uint64_t first; /* logical block where the allocation begins: a cluster's start */
        uint64_t end;   /* of the new extent */
        bool have;      /* the cluster is the file's already, at pblk */
        ext4_fsblk_t pblk;
        bool is_paid; /* what is allocated had a promise */
};

/* `end`: of the hole, or of what is asked for. */
static int plan_hole(struct ext4_inode *inode, ext4_lblk_t lblk, uint64_t end,
                     struct plan *ret_plan)
{
        const uint32_t unit = cluster_blocks(inode->fs);
        struct plan p = {.first = round_down_pow2(lblk, unit), .end = end};
        uint64_t last = round_down_pow2(end, unit);
        ext4_fsblk_t pblk;
        int ret;

        if (unit > 1 && (p.first != lblk || end < p.first + unit)) {
                ret = find_cluster(inode, p.first, &p.pblk);
                if (ret < 0)
                        return ret;
                p.have = ret > 0;
                if (p.have)
                        p.end = min_t(uint64_t, end, p.first + unit);
        }
        /* The last cluster of a longer hole may be there for the blocks behind the hole. */
        if (!p.have && end != last && last > p.first) {
                ret = find_cluster(inode, last, &pblk);
                if (ret < 0)
                        return ret;
                if (ret > 0)
                        p.end = last;
        }
        *ret_plan = p;
        return 0;
}

/* ---- allocating ---- */

static uint64_t sectors(const struct ext4_fs *fs, uint64_t blocks)
{
        return blocks << (fs->block_bits - 9);
}

/* Get the blocks of a plan; *ret_len of them, whole clusters. */
static int get_blocks(struct jbd2_handle *h, struct ext4_inode *inode,
                      const struct ext4_map_request *req, struct plan *p, uint32_t *ret_len)
{
        const struct ext4_fs *fs = inode->fs;
        uint64_t len = round_up_pow2(p->end - p->first, cluster_blocks(fs));
        struct ext4_alloc a = {
                .inode = inode,
                .lblk = (ext4_lblk_t)p->first,
                .len = (uint32_t)len,
                .flags = EXT4_ALLOC_DATA | req->alloc_flags,
        };
        int ret;

        p->is_paid = ext4_delayed_cut(inode, a.lblk, &a.len);
        if (p->is_paid)
                a.flags |= EXT4_ALLOC_DELAYED;
        len = a.len;
        if (sectors(fs, len) > ext4_inode_max_blocks(fs) ||
            inode->blocks > ext4_inode_max_blocks(fs) - sectors(fs, len))
                return -EFBIG;
        ret = find_goal(inode, p->first, &a.goal);
        if (ret == 0)
                ret = ext4_balloc(h, &a, &p->pblk, ret_len);
        if (ret == 0)
                inode->blocks += sectors(fs, *ret_len);
        return ret;
}

/* The extent could not be entered: as if nothing had been allocated. */
static void give_back(struct jbd2_handle *h, struct ext4_inode *inode, const struct plan *p,
                      uint32_t len)
{
        int ret = ext4_bfree(h, inode, p->pblk, len, p->is_paid ? EXT4_FREE_DELAYED : 0);

        if (ret < 0)
                ext4_abort(inode->fs, ret);
        else
                inode->blocks -= sectors(inode->fs, len);
}

/* Allocate in the hole that ends at `end`. */
static int alloc_hole(struct jbd2_handle *h, struct ext4_inode *inode,
                      const struct ext4_map_request *req, uint64_t end,
                      struct ext4_map *ret_map)
{
        struct ext4_map new = {.lblk = req->lblk, .type = req->type};
        uint32_t got = 0;
        struct plan p;
        int ret;

        end = min_t(uint64_t, end,
                    req->lblk + min_t(uint64_t, req->len, ext4_extent_max_len(req->type)));
        ret = plan_hole(inode, req->lblk, end, &p);
        if (ret == 0 && !p.have)
                ret = get_blocks(h, inode, req, &p, &got);
        if (ret < 0)
                return ret;
        if (!p.have)
                p.end = min_t(uint64_t, p.end, p.first + got);
        new.pblk = p.pblk + (req->lblk - p.first);
        new.len = p.end - req->lblk;
        ret = ext4_extent_insert(h, inode, &new,
                                 req->alloc_flags | (p.is_paid ? EXT4_ALLOC_KEPT : 0));
        if (ret < 0) {
                if (got > 0)
                        give_back(h, inode, &p, got);
                return ret;
        }
        ext4_es_set(&inode->es, &new, total_of(inode));
        if (p.is_paid)
                ext4_delayed_spend(inode, (ext4_lblk_t)p.first, got);
        *ret_map = new;
        return 0;
}

/* The part of a mapping that was asked for. */
static struct ext4_map cut(const struct ext4_map *map, const struct ext4_map_request *req)
{
        uint64_t skip = req->lblk - map->lblk;

        return (struct ext4_map){
                .lblk = req->lblk,
                .len = min_t(uint64_t, map->len - skip, req->len),
                .pblk = map->pblk + skip,
                .type = map->type,
        };
}

static int alloc_indirect(struct jbd2_handle *h, struct ext4_inode *inode,
                          const struct ext4_map_request *req, struct ext4_map *ret_map)
{
        const struct ext4_indirect_request want = {
                .lblk = req->lblk,
                .len = (uint32_t)min_t(uint64_t, req->len, UINT32_MAX),
                .alloc_flags = EXT4_ALLOC_DATA | req->alloc_flags,
        };

        return ext4_map_alloc_indirect(h, inode, &want, ret_map);
}

int ext4_map_alloc(struct jbd2_handle *h, struct ext4_inode *inode,
                   const struct ext4_map_request *req, struct ext4_map *ret_map)
{
        struct ext4_iloc loc;
        struct ext4_map map;
        int ret;

        assert(req->len > 0 && req->type != EXT4_MAP_HOLE);
        if (!(inode->flags & EXT4_FL_EXTENTS))
                return alloc_indirect(h, inode, req, ret_map);
        ret = ext4_inode_begin(h, inode, &loc);
        if (ret < 0)
                return ret;
        rwsem_write_lock(&inode->map_lock);
        ret = ext4_map_lookup_locked(inode, req->lblk, 0, &map);
        if (ret < 0 || map.type != EXT4_MAP_HOLE) {
                ext4_iloc_put(&loc);
                if (ret == 0)
                        *ret_map = cut(&map, req);
        } else {
                ret = alloc_hole(h, inode, req, ext4_map_end(&map), ret_map);
                ext4_inode_map_changed(h, inode);
                ext4_inode_store(h, inode, &loc); /* after an error, too: nodes may be new */
        }
        rwsem_write_unlock(&inode->map_lock);
        return ret;
}

int ext4_map_alloc_indirect(struct jbd2_handle *h, struct ext4_inode *inode,
                            const struct ext4_indirect_request *req, struct ext4_map *ret_map)
{
        struct ext4_iloc loc;
        int ret = ext4_inode_begin(h, inode, &loc);

        if (ret < 0)
                return ret;
        rwsem_write_lock(&inode->map_lock);
        ret = ext4_indirect_alloc(h, inode, req, ret_map);
        if (ret == 0)
                ext4_es_set(&inode->es, ret_map, total_of(inode));
        ext4_inode_map_changed(h, inode);
        ext4_inode_store(h, inode, &loc);
        rwsem_write_unlock(&inode->map_lock);
        return ret;
}

enum ext4_alloc_mode ext4_alloc_mode(struct ext4_inode *inode, ext4_lblk_t lblk)
{
        /* i_size, not the size on disk: B10. */
        if ((uint64_t)lblk << inode->fs->block_bits >= vfs_size(&inode->vfs))
                return EXT4_MODE_WRITTEN;
        return inode->flags & EXT4_FL_EXTENTS ? EXT4_MODE_UNWRITTEN : EXT4_MODE_NONE;
}

/* ---- steps ---- */

uint32_t ext4_map_remove_credits(const struct ext4_inode *inode)
{
        uint32_t n = inode->flags & EXT4_FL_EXTENTS ? ext4_extent_remove_credits(inode)
                                                    : ext4_indirect_remove_credits(inode->fs);

        return n + EXT4_INODE_CREDITS;
}

uint32_t ext4_map_remove_revokes(const struct ext4_inode *inode)
{
        return inode->flags & EXT4_FL_EXTENTS ? ext4_extent_remove_revokes(inode)
                                              : EXT4_INDIRECT_REMOVE_REVOKES;
}

/* Before and after a step: access to the inode, and the map lock. */
static int step_begin(struct jbd2_handle *h, struct ext4_inode *inode,
                      struct ext4_iloc *ret_loc)
{
        int ret = ext4_inode_begin(h, inode, ret_loc);

        if (ret == 0)
                rwsem_write_lock(&inode->map_lock);
        return ret;
}

static void step_end(struct jbd2_handle *h, struct ext4_inode *inode, struct ext4_iloc *loc)
{
        ext4_inode_map_changed(h, inode);
        ext4_inode_store(h, inode, loc);
        rwsem_write_unlock(&inode->map_lock);
}

/* All of the extents that [from, to) touches: conversion may change what is beside it (C34). */
static int widen(struct ext4_inode *inode, uint64_t *from, uint64_t *to)
{
        struct ext4_map first, last;
        int ret = ext4_map_lookup_locked(inode, (ext4_lblk_t)*from, 0, &first);

        if (ret == 0)
                ret = ext4_map_lookup_locked(inode, (ext4_lblk_t)(*to - 1), 0, &last);
        if (ret == 0) {
                *from = first.lblk;
                *to = ext4_map_end(&last);
        }
        return ret;
}

int ext4_map_convert(struct jbd2_handle *h, struct ext4_inode *inode,
                     struct ext4_extent_range *range, enum ext4_map_type type)
{
        uint64_t from = range->from, to = range->to;
        struct ext4_iloc loc;
        int ret;

        if (from >= to)
                return 0;
        ret = step_begin(h, inode, &loc);
        if (ret < 0)
                return ret;
        ret = widen(inode, &from, &to);
        if (ret == 0) {
                ext4_es_forget(&inode->es, from, to, total_of(inode));
                ret = ext4_extent_convert(h, inode, range, type);
        }
        step_end(h, inode, &loc);
        return ret;
}

int ext4_map_remove(struct jbd2_handle *h, struct ext4_inode *inode,
                    struct ext4_extent_range *range)
{
        struct ext4_iloc loc;
        int ret = step_begin(h, inode, &loc);

        if (ret < 0)
                return ret;
        ext4_es_forget(&inode->es, range->from, range->to, total_of(inode));
        ext4_prealloc_drop(inode);
        if (inode->flags & EXT4_FL_EXTENTS)
                ret = ext4_extent_remove(h, inode, range);
        else
                ret = ext4_indirect_remove(h, inode, range);
        step_end(h, inode, &loc);
        return ret;
}

int ext4_map_shift(struct jbd2_handle *h, struct ext4_inode *inode,
                   struct ext4_extent_range *range, int64_t delta)
{
        struct ext4_iloc loc;
        int ret = step_begin(h, inode, &loc);

        if (ret < 0)
                return ret;
        ext4_es_forget(&inode->es, delta < 0 ? range->from + delta : range->from, EXT4_NR_LBLKS,
                       total_of(inode));
        ext4_prealloc_drop(inode);
        ret = ext4_extent_shift(h, inode, range, delta);
        step_end(h, inode, &loc);
        return ret;
}

int ext4_map_remove_all(struct jbd2_handle *h, struct ext4_inode *inode, uint64_t from,
                        uint64_t to, uint32_t keep)
{
        struct ext4_extent_range range = {
                .from = from,
                .to = to,
                .keep = keep + EXT4_INODE_CREDITS,
                .revokes = ext4_map_remove_revokes(inode),
        };
        int ret = 0;

        while (range.from < range.to && (ret = ext4_map_remove(h, inode, &range)) > 0) {
                range.revokes = ext4_map_remove_revokes(inode);
                ret = jbd2_restart(h, ext4_map_remove_credits(inode) + keep, range.revokes);
                if (ret < 0)
                        break;
        }
        return ret;
}
