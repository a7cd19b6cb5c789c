/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Taking a range out of an extent tree, and freeing its blocks.
 *
 * It goes from the end to the start, leaf by leaf; in a leaf, piece by piece, each within one
 * block group: free the piece, take it out of its extent.  So the tree is good whenever the
 * credits are used up, what is left has its blocks, and the time is linear in the extents
 * removed.  A leaf is written once for all that is done in it, and is freed when it is empty.
 *
 * Clusters.  Logical and physical blocks agree modulo the cluster, so a cluster belongs to one
 * cluster of the file.  When its blocks are mapped by several extents, or only some of them are
 * removed, the cluster stays until nothing in it is mapped any more.
 */

#include "ext4/extent_change.h"
#include "ext4/extent_path.h"

/* ---- freeing a piece ---- */

/* The longest piece, in blocks. */
static uint32_t max_piece(const struct ext4_inode *inode)
{
        if (ext4_data_is_meta(inode))
                return max_t(uint32_t, EXT4_EXTENT_META_PIECE, ext4_node_blocks(inode->fs));
        return EXT4_MAX_WRITTEN;
}

/* A piece, and the rest of the clusters at its ends. */
static uint32_t piece_revokes(const struct ext4_inode *inode)
{
        return ext4_data_is_meta(inode) ? max_piece(inode) + 2 * ext4_node_blocks(inode->fs)
                                        : 0;
}

uint32_t ext4_extent_remove_revokes(const struct ext4_inode *inode)
{
        return piece_revokes(inode) +
               ext4_extent_depth_soon(inode) * ext4_node_blocks(inode->fs);
}

/* Whether any block of [from, to) is mapped: 1, 0. */
static int is_mapped(struct ext4_inode *inode, uint64_t from, uint64_t to)
{
        to = min_t(uint64_t, to, EXT4_NR_LBLKS);
        while (from < to) {
                struct ext4_map map;
                int ret = ext4_extent_lookup(inode, (ext4_lblk_t)from, 0, &map);

                if (ret < 0)
                        return ret;
                if (map.type != EXT4_MAP_HOLE)
                        return 1;
                from = ext4_map_end(&map);
        }
        return 0;
}

/* The blocks that may be freed with a piece: whole clusters that have nothing else in them. */
static int free_bounds(struct ext4_inode *inode, const struct ext4_map *piece,
                       ext4_fsblk_t *ret_from, ext4_fsblk_t *ret_to)
{
        const struct ext4_where at = ext4_at(inode, piece->pblk);
        const uint64_t size = ext4_node_blocks(inode->fs);
        const uint64_t end = ext4_map_end(piece);
        const ext4_fsblk_t pend = piece->pblk + piece->len;
        int before, behind;

        if ((piece->lblk ^ piece->pblk) & (size - 1))
                return ext4_corrupt(&at, "block %u is not at its place in the cluster",
                                    piece->lblk);
        before = is_mapped(inode, round_down_pow2(piece->lblk, size), piece->lblk);
        if (before < 0)
                return before;
        behind = is_mapped(inode, end, round_up_pow2(end, size));
        if (behind < 0)
                return behind;
        *ret_from =
                before ? round_up_pow2(piece->pblk, size) : round_down_pow2(piece->pblk, size);
        *ret_to = behind ? round_down_pow2(pend, size) : round_up_pow2(pend, size);
        return 0;
}

static int free_piece(struct jbd2_handle *h, struct ext4_inode *inode,
                      const struct ext4_map *piece, struct ext4_extent_range *range)
{
        unsigned flags = ext4_data_is_meta(inode) ? EXT4_FREE_META : 0;
        ext4_fsblk_t from = piece->pblk, to = piece->pblk + piece->len;
        int ret = 0;

        if (inode->fs->cluster_bits > 0)
                ret = free_bounds(inode, piece, &from, &to);
        if (ret < 0 || from >= to)
                return ret;
        ret = ext4_bfree(h, inode, from, (uint32_t)(to - from), flags);
        if (ret == 0) {
                uint32_t revokes = ext4_bfree_revokes((uint32_t)(to - from), flags);

                ext4_sub_blocks(inode, to - from);
                range->revokes -= min_t(uint32_t, revokes, range->revokes);
        }
        return ret;
}

/* ---- in a leaf ---- */

/* The last piece of [from, to) in an extent: within one group, so that two credits do. */
static struct ext4_map last_piece(struct ext4_inode *inode, const struct ext4_map *ex,
                                  uint64_t from, uint64_t to)
{
        const struct ext4_fs *fs = inode->fs;
        const ext4_fsblk_t last = ex->pblk + (to - 1 - ex->lblk);
        const uint64_t in_group = (last - fs->first_data_block) % fs->blocks_per_group + 1;
        uint64_t len = min_t(uint64_t, to - from, in_group);

        len = min_t(uint64_t, len, max_piece(inode));
        return (struct ext4_map){
                .lblk = (ext4_lblk_t)(to - len),
                .len = len,
                .pblk = last + 1 - len,
                .type = ex->type,
        };
}

/* Before each piece: for it, for the nodes of the path, and for freeing those. */
static int ensure_piece(struct jbd2_handle *h, const struct ext4_extent_path *path,
                        struct ext4_extent_range *range)
{
        return ext4_range_ensure(h, range, ext4_extent_remove_credits(path->inode),
                                 ext4_extent_remove_revokes(path->inode));
}

enum step {
        STEP_LEAF_DONE = 0,
        STEP_NO_CREDITS = 1,
        STEP_AGAIN, /* a piece is gone, there may be more */
        STEP_CUT,   /* the extent goes on behind the range: it has to be cut first */
};

/* Free the last piece that the range has in the leaf, to which there is access. */
static int remove_piece(struct jbd2_handle *h, struct ext4_extent_path *path,
                        struct ext4_extent_range *range)
{
        struct ext4_extent_header *leaf = ext4_path_leaf(path);
        int i = ext4_node_find(leaf, (ext4_lblk_t)(range->to - 1));
        struct ext4_map ex, piece;
        struct ext4_splice s;
        int ret;

        if (i < 0)
                return STEP_LEAF_DONE;
        ex = ext4_node_extent(leaf, (unsigned)i);
        if (ext4_map_end(&ex) <= range->from)
                return STEP_LEAF_DONE;
        piece = last_piece(path->inode, &ex, max_t(uint64_t, ex.lblk, range->from),
                           min_t(uint64_t, ext4_map_end(&ex), range->to));
        if (piece.lblk > ex.lblk && ext4_map_end(&piece) < ext4_map_end(&ex))
                return STEP_CUT;
        ret = ensure_piece(h, path, range);
        if (ret != 0)
                return ret;
        ret = free_piece(h, path->inode, &piece, range);
        if (ret < 0)
                return ret;
        ext4_splice_remove(leaf, (unsigned)i, piece.lblk, ext4_map_end(&piece), &s);
        ext4_splice_apply(leaf, &s);
        range->to = piece.lblk;
        return STEP_AGAIN;
}

/* All pieces of the range in this leaf. */
static int remove_pieces(struct jbd2_handle *h, struct ext4_extent_path *path,
                         struct ext4_extent_range *range)
{
        bool changed = false;
        int ret = STEP_AGAIN;

        while (ret == STEP_AGAIN && range->from < range->to) {
                ret = remove_piece(h, path, range);
                changed |= ret == STEP_AGAIN;
        }
        if (changed)
                ext4_path_end(h, path, path->depth);
        return ret == STEP_AGAIN ? STEP_LEAF_DONE : ret;
}

/* Make a border between two extents where the range ends in one. */
static int cut_at(struct jbd2_handle *h, struct ext4_inode *inode, uint64_t lblk)
{
        const struct ext4_leaf_change c = {.op = EXT4_LEAF_CUT, .from = lblk, .to = lblk};

        return ext4_leaf_change(h, inode, &c, EXT4_ALLOC_POOL);
}

/* Whether the first entry of the leaf may go or change. */
static bool reaches_key(struct ext4_extent_path *path, const struct ext4_extent_range *range)
{
        const struct ext4_extent_header *leaf = ext4_path_leaf(path);

        return ext4_node_entries(leaf) > 0 && ext4_node_key(leaf, 0) >= range->from &&
               ext4_node_key(leaf, 0) < range->to;
}

/* What the range has in the leaf in which it ends. */
static int remove_in_leaf(struct jbd2_handle *h, struct ext4_extent_path *path,
                          struct ext4_extent_range *range)
{
        uint64_t from = max_t(uint64_t, ext4_path_empty_from(path, range->to), range->from);
        int ret, dropped = 0;

        ret = ext4_path_begin(h, path, path->depth,
                              reaches_key(path, range) ? EXT4_KEY_CHANGES : EXT4_KEY_STAYS);
        if (ret < 0)
                return ret;
        ret = remove_pieces(h, path, range);
        /* Also after an error: the tree shall have no empty node (P2). */
        if (path->depth > 0 && ext4_node_entries(ext4_path_leaf(path)) == 0)
                dropped = ext4_path_drop_leaf(h, path, range);
        if (ret >= 0 && dropped < 0)
                return dropped;
        if (ret == STEP_LEAF_DONE)
                range->to = from;
        return ret;
}

static int remove_step(struct jbd2_handle *h, struct ext4_inode *inode,
                       struct ext4_extent_range *range)
{
        struct ext4_extent_path path;
        int ret = ext4_range_ensure(h, range, ext4_extent_remove_credits(inode),
                                    ext4_extent_remove_revokes(inode));

        if (ret != 0)
                return ret;
        ret = ext4_path_find(inode, (ext4_lblk_t)(range->to - 1), &path);
        if (ret < 0)
                return ret;
        ret = remove_in_leaf(h, &path, range);
        ext4_path_put(&path);
        return ret == STEP_CUT ? cut_at(h, inode, range->to) : ret;
}

int ext4_extent_remove(struct jbd2_handle *h, struct ext4_inode *inode,
                       struct ext4_extent_range *range)
{
        int ret = 0;

        assert(range->to <= EXT4_NR_LBLKS);
        while (ret == 0 && range->from < range->to)
                ret = remove_step(h, inode, range);
        if (ret == 0)
                ret = ext4_path_shrink(h, inode, range);
        return ret;
}
