/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Adding extents to a tree, and changing their type.
 *
 * What happens in a leaf is planned as a splice (extent_edit.h); when that does not fit, room
 * is made step by step (extent_path.c), and the plan is made anew for the leaf that it is then.
 */

#include "ext4/extent_change.h"

#include <string.h>

#include "ext4/extent_path.h"

/* ---- one extent ---- */

static int plan(const struct ext4_extent_path *path, const struct ext4_leaf_change *c,
                struct ext4_splice *ret_splice)
{
        const struct ext4_extent_level *leaf = &path->level[path->depth];
        const struct ext4_where at = ext4_at(path->inode, leaf->buf ? leaf->buf->blk : 0);
        const struct ext4_map new = {(ext4_lblk_t)c->from, c->to - c->from, c->pblk, c->type};
        int i = ext4_node_find(leaf->eh, (ext4_lblk_t)c->from);
        struct ext4_map ex;

        if (c->op == EXT4_LEAF_INSERT) {
                if (c->to > leaf->to || ext4_splice_insert(leaf->eh, &new, ret_splice) < 0)
                        return ext4_corrupt(&at, "block %u is mapped twice", new.lblk);
                return 0;
        }
        if (i >= 0)
                ex = ext4_node_extent(leaf->eh, (unsigned)i);
        if (i < 0 || c->from < ex.lblk || c->to > ext4_map_end(&ex))
                return ext4_corrupt(&at, "block %u is not mapped", new.lblk);
        if (c->op == EXT4_LEAF_CONVERT)
                ext4_splice_convert(leaf->eh, (unsigned)i, c->from, c->to, c->type, ret_splice);
        else
                ext4_splice_cut(leaf->eh, (unsigned)i, c->from, ret_splice);
        return 0;
}

/* One try: 0 done, 1 the tree has another shape now. */
static int try_change(struct jbd2_handle *h, struct ext4_extent_path *path,
                      const struct ext4_leaf_change *c, unsigned alloc_flags)
{
        struct ext4_splice s;
        bool key_changes;
        int ret = plan(path, c, &s);

        if (ret < 0)
                return ret;
        if (!ext4_splice_fits(ext4_path_leaf(path), &s))
                return ext4_path_make_room(h, path, (unsigned)ext4_splice_growth(&s),
                                           s.at + s.nr_old, alloc_flags);
        key_changes = ext4_splice_changes_key(ext4_path_leaf(path), &s);
        ret = ext4_path_begin(h, path, path->depth,
                              key_changes ? EXT4_KEY_CHANGES : EXT4_KEY_STAYS);
        if (ret < 0)
                return ret;
        ext4_splice_apply(ext4_path_leaf(path), &s);
        ext4_path_end(h, path, path->depth);
        return 0;
}

int ext4_leaf_change(struct jbd2_handle *h, struct ext4_inode *inode,
                     const struct ext4_leaf_change *c, unsigned alloc_flags)
{
        int ret = 1;

        while (ret > 0) {
                struct ext4_extent_path path;

                ret = ext4_path_find(inode, (ext4_lblk_t)c->from, &path);
                if (ret < 0)
                        break;
                ret = try_change(h, &path, c, alloc_flags);
                ext4_path_put(&path);
        }
        return ret;
}

/* Whether it needs no node: 1, 0. */
static int change_fits(struct ext4_inode *inode, const struct ext4_leaf_change *c)
{
        struct ext4_extent_path path;
        struct ext4_splice s;
        int ret = ext4_path_find(inode, (ext4_lblk_t)c->from, &path);

        if (ret < 0)
                return ret;
        ret = plan(&path, c, &s);
        if (ret == 0)
                ret = ext4_splice_fits(ext4_path_leaf(&path), &s);
        ext4_path_put(&path);
        return ret;
}

/* ---- insert ---- */

void ext4_extent_init(struct ext4_inode *inode)
{
        memset(inode->block, 0, sizeof(inode->block));
        ext4_node_init((void *)inode->block, ext4_node_room(sizeof(inode->block)), 0);
        ext4_extent_note_depth(inode);
}

int ext4_extent_insert(struct jbd2_handle *h, struct ext4_inode *inode,
                       const struct ext4_map *new, unsigned alloc_flags)
{
        const struct ext4_leaf_change c = {
                .op = EXT4_LEAF_INSERT,
                .from = new->lblk,
                .to = ext4_map_end(new),
                .pblk = new->pblk,
                .type = new->type,
        };

        return ext4_leaf_change(h, inode, &c, alloc_flags);
}

/* ---- convert ---- */

/* The device reads zeros in these blocks of an extent, also after a power cut, so that they may
 * become written. */
static int zero_blocks(struct ext4_inode *inode, const struct ext4_map *ex, uint64_t from,
                       uint64_t to)
{
        const uint32_t bits = inode->fs->block_bits;
        struct uext4_bdev *dev = inode->fs->vfs.dev;

        if (from >= to)
                return 0;
        return uext4_bdev_write_zeroes(dev, (ex->pblk + (from - ex->lblk)) << bits,
                                       (to - from) << bits, 0);
}

/* Convert more than was asked for: what is too much is zeroed before.  -ENOSPC when that does
 * not fit, either. */
static int convert_more(struct jbd2_handle *h, struct ext4_inode *inode,
                        const struct ext4_map *ex, const struct ext4_leaf_change *asked,
                        const struct ext4_leaf_change *more)
{
        int ret;

        if (more->to - more->from > ext4_extent_max_len(more->type))
                return -ENOSPC;
        ret = change_fits(inode, more);
        if (ret == 0)
                return -ENOSPC;
        if (ret > 0)
                ret = zero_blocks(inode, ex, more->from, asked->from);
        if (ret == 0)
                ret = zero_blocks(inode, ex, asked->to, more->to);
        /* The zeros have to be durable before the transaction is, whatever its commit flushes.
         */
        if (ret == 0)
                ret = uext4_bdev_flush(inode->fs->vfs.dev);
        if (ret == 0)
                ret = ext4_leaf_change(h, inode, more, 0);
        return ret;
}

/*
 * [from, to) of the unwritten extent `ex` was written, and there is no block for a node that
 * would hold the pieces (C33).  Fewer pieces: zero the rest of the extent before, behind, or on
 * both sides, and have it written, too; the shorter side first.  Not behind the end of the
 * file, as the disk has it, where written blocks are damage (C21).
 */
static int convert_by_zeroing(struct jbd2_handle *h, struct ext4_inode *inode,
                              const struct ext4_map *ex, const struct ext4_leaf_change *asked)
{
        const uint64_t file_end = div_round_up(inode->disk_size, 1ull << inode->fs->block_bits);
        const uint64_t before = asked->from - ex->lblk;
        const uint64_t behind = ext4_map_end(ex) - asked->to;
        bool may_behind = ext4_map_end(ex) <= max_t(uint64_t, file_end, asked->to);
        bool behind_first = may_behind && behind < before;
        int ret = -ENOSPC;

        for (unsigned i = 0; i < 3 && ret == -ENOSPC; i++) {
                bool use_behind = i == 2 || (i == 0) == behind_first;
                bool use_before = i == 2 || !use_behind;
                struct ext4_leaf_change more = *asked;

                if (use_behind && !may_behind)
                        continue;
                if (use_before)
                        more.from = ex->lblk;
                if (use_behind)
                        more.to = ext4_map_end(ex);
                ret = convert_more(h, inode, ex, asked, &more);
        }
        return ret;
}

/*
 * Not where zeros would have to go through the journal; and not while anybody else may be
 * writing to the same extent: other direct requests, or who writes dirty pages back.  These are
 * counted before they look at the mapping, and it was forgotten before this: who is not counted
 * yet waits for the map lock, and then finds written blocks.  Writing back itself does not need
 * it, because it has promises for its nodes.
 */
static bool may_zero(struct ext4_inode *inode)
{
        return !ext4_journals_data(inode) && atomic_load(&inode->vfs.dio.nr) <= 1 &&
               !vfs_has_dirty(&inode->vfs.pages);
}

/* [from, to) of one extent. */
static int convert_part(struct jbd2_handle *h, struct ext4_inode *inode,
                        const struct ext4_map *ex, uint64_t from, uint64_t to,
                        enum ext4_map_type type, unsigned alloc_flags)
{
        const struct ext4_leaf_change c = {
                .op = EXT4_LEAF_CONVERT, .from = from, .to = to, .type = type};
        int ret;

        if (type == EXT4_MAP_WRITTEN)
                alloc_flags |= EXT4_ALLOC_POOL;
        ret = ext4_leaf_change(h, inode, &c, alloc_flags);

        if (ret == -ENOSPC && type == EXT4_MAP_WRITTEN && may_zero(inode))
                ret = convert_by_zeroing(h, inode, ex, &c);
        return ret;
}

/* What covers range->from; the range moves on behind it. */
static int convert_step(struct jbd2_handle *h, struct ext4_inode *inode,
                        struct ext4_extent_range *range, enum ext4_map_type type)
{
        const struct ext4_where at = ext4_at(inode, 0);
        struct ext4_map ex;
        uint64_t to;
        int ret = ext4_range_ensure(h, range, ext4_extent_change_credits(inode), 0);

        if (ret != 0)
                return ret;
        ret = ext4_extent_lookup(inode, (ext4_lblk_t)range->from, 0, &ex);
        if (ret < 0)
                return ret;
        if (ex.type == EXT4_MAP_HOLE && type == EXT4_MAP_WRITTEN)
                return ext4_corrupt(&at, "block %llu was written, but is not mapped",
                                    (unsigned long long)range->from);
        to = min_t(uint64_t, ext4_map_end(&ex), range->to);
        if (ex.type != EXT4_MAP_HOLE && ex.type != type) {
                to = min_t(uint64_t, to, range->from + ext4_extent_max_len(type));
                ret = convert_part(h, inode, &ex, range->from, to, type, range->alloc_flags);
        }
        if (ret == 0)
                range->from = to;
        return ret;
}

int ext4_extent_convert(struct jbd2_handle *h, struct ext4_inode *inode,
                        struct ext4_extent_range *range, enum ext4_map_type type)
{
        int ret = 0;

        assert(type != EXT4_MAP_HOLE && range->to <= EXT4_NR_LBLKS);
        while (ret == 0 && range->from < range->to)
                ret = convert_step(h, inode, range, type);
        return ret;
}
