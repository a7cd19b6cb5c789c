/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Extent trees, the reading side.
 *
 * A node is a header and up to eh_max sorted entries: extents in a leaf, children above.  The
 * root is in the inode, and says how deep the tree is.  Every node is checked by itself (flat
 * list below) and, on the way down, against what its parent promised: its depth, and the range
 * of logical blocks it may speak of.  Depth falls with each step, so no damage makes a walk
 * endless.
 */

#include "ext4/extent_edit.h"
#include "util/crc.h"

/* ---- the verifier ---- */

static int check_leaf(const struct ext4_where *at, const struct ext4_extent_header *eh)
{
        uint64_t free_from = 0; /* the first logical block the next extent may have */

        for (unsigned i = 0; i < ext4_node_entries(eh); i++) {
                const struct ext4_map ex = ext4_node_extent(eh, i);

                if (ex.len == 0)
                        return ext4_corrupt(at, "extent %u is empty", i);
                if (ex.lblk < free_from)
                        return ext4_corrupt(at, "extent %u overlaps the one before", i);
                if (ext4_map_end(&ex) > EXT4_NR_LBLKS)
                        return ext4_corrupt(at, "extent %u ends beyond the largest file", i);
                if (!ext4_blocks_valid(at->fs, ex.pblk, ex.len))
                        return ext4_corrupt(at, "extent %u lies outside, at %llu + %u", i,
                                            (unsigned long long)ex.pblk, (uint32_t)ex.len);
                free_from = ext4_map_end(&ex);
        }
        return 0;
}

static int check_index(const struct ext4_where *at, const struct ext4_extent_header *eh)
{
        for (unsigned i = 0; i < ext4_node_entries(eh); i++) {
                const ext4_fsblk_t child = ext4_node_child(eh, i);

                if (i > 0 && ext4_node_key(eh, i) <= ext4_node_key(eh, i - 1))
                        return ext4_corrupt(at, "index entry %u is not in order", i);
                if (!ext4_blocks_valid(at->fs, child, 1))
                        return ext4_corrupt(at, "index entry %u leads outside, to %llu", i,
                                            (unsigned long long)child);
        }
        return 0;
}

/* The checksum stands behind the last possible entry; the caller knows that it is inside. */
static bool node_csum_ok(const void *node, size_t tail, uint32_t seed)
{
        const le32 *stored = (const void *)((const char *)node + tail);

        return crc32c(seed, node, tail) == le32_get(*stored);
}

void ext4_extent_note_depth(struct ext4_inode *inode)
{
        unsigned depth = ext4_node_depth((const void *)inode->block);

        /* Of an inode without extents, or a bad one, it is anything. */
        atomic_store_explicit(&inode->extent_depth,
                              min_t(unsigned, depth, EXT4_EXTENT_MAX_DEPTH),
                              memory_order_relaxed);
}

int ext4_extent_node_check(const struct ext4_where *at, const void *node, size_t size,
                           int depth, uint32_t csum_seed)
{
        const struct ext4_extent_header *eh = node;
        unsigned room = ext4_node_room(size);
        unsigned max = ext4_node_max(eh);
        unsigned entries = ext4_node_entries(eh);
        unsigned eh_depth = ext4_node_depth(eh);
        size_t tail = sizeof(*eh) + max * sizeof(struct ext4_extent_disk);

        if (le16_get(eh->eh_magic) != EXT4_EXTENT_MAGIC)
                return ext4_corrupt(at, "extent node: the magic is %04x",
                                    le16_get(eh->eh_magic));
        if (eh_depth > EXT4_EXTENT_MAX_DEPTH)
                return ext4_corrupt(at, "extent node: depth %u", eh_depth);
        if (depth >= 0 && eh_depth != (unsigned)depth)
                return ext4_corrupt(at, "extent node: depth %u where %d belongs", eh_depth,
                                    depth);
        if (max == 0 || max > room)
                return ext4_corrupt(at, "extent node: room for %u entries", max);
        if (entries > max)
                return ext4_corrupt(at, "extent node: %u of %u entries", entries, max);
        if (entries == 0 && eh_depth > 0)
                return ext4_corrupt(at, "extent node: an index without entries");
        if (at->blk && ext4_verify_csums(at->fs)) {
                if (tail + sizeof(le32) > size)
                        return ext4_corrupt(at, "extent node: no room for the checksum");
                if (!node_csum_ok(node, tail, csum_seed))
                        return ext4_bad_csum(at, "extent node");
        }
        return eh_depth == 0 ? check_leaf(at, eh) : check_index(at, eh);
}

/* ---- the walk ---- */

/* What a node may speak of. */
struct bounds {
        uint64_t from, to; /* logical blocks, `to` not included */
};

struct node_arg {
        struct ext4_inode *inode;
        int depth;
};

static int verify_node(const void *data, size_t size, uint64_t blk, const void *arg)
{
        const struct node_arg *na = arg;
        const struct ext4_where at = ext4_at(na->inode, blk);

        return ext4_extent_node_check(&at, data, size, na->depth, na->inode->csum_seed);
}

int ext4_extent_read_node(struct ext4_inode *inode, ext4_fsblk_t blk, int depth, unsigned flags,
                          struct buf **ret_buf)
{
        const struct node_arg arg = {inode, depth};
        const struct buf_check check = {verify_node, &arg, ext4_owner(inode)};
        const struct ext4_extent_header *eh;
        struct buf *buf;
        int ret;

        ret = buf_read(inode->fs->bufs, blk, &check, flags & EXT4_MAP_NOWAIT ? BUF_NOWAIT : 0,
                       &buf);
        if (ret < 0)
                return ret;
        /* The verdict is remembered per block and owner, but a hostile tree can lead to
         * the same block at another depth. */
        eh = buf->data;
        if (ext4_node_depth(eh) != (unsigned)depth) {
                const struct ext4_where at = ext4_at(inode, blk);

                buf_put(buf);
                return ext4_corrupt(&at, "extent node: in the tree more than once");
        }
        *ret_buf = buf;
        return 0;
}

static struct ext4_map hole_between(uint64_t from, uint64_t to)
{
        return (struct ext4_map){
                .lblk = (ext4_lblk_t)from,
                .len = to - from,
                .type = EXT4_MAP_HOLE,
        };
}

/* The mapping of lblk in a leaf: an extent, or the hole between two, inside the bounds. */
static int map_in_leaf(const struct ext4_where *at, const struct ext4_extent_header *eh,
                       ext4_lblk_t lblk, const struct bounds *b, struct ext4_map *ret_map)
{
        const unsigned nr = ext4_node_entries(eh);
        const int i = ext4_node_find(eh, lblk);
        const unsigned next = (unsigned)(i + 1);
        uint64_t hole_from = b->from;
        struct ext4_map ex;

        if (nr > 0) {
                ex = ext4_node_extent(eh, nr - 1);
                if (ext4_node_key(eh, 0) < b->from || ext4_map_end(&ex) > b->to)
                        return ext4_corrupt(
                                at, "extent leaf: extents outside of what the index says");
        }
        if (i >= 0) {
                ex = ext4_node_extent(eh, (unsigned)i);
                hole_from = ext4_map_end(&ex);
                if (lblk < hole_from) {
                        *ret_map = ex;
                        return 0;
                }
        }
        *ret_map = hole_between(hole_from, next < nr ? ext4_node_key(eh, next) : b->to);
        return 0;
}

/* Where to go from an index node; narrows the bounds.  1, or 0: lblk is before its first child.
 */
static int step_down(const struct ext4_where *at, const struct ext4_extent_header *eh,
                     ext4_lblk_t lblk, struct bounds *b, ext4_fsblk_t *ret_child)
{
        const unsigned nr = ext4_node_entries(eh);
        const int i = ext4_node_find(eh, lblk);
        const unsigned next = (unsigned)(i + 1);

        if (ext4_node_key(eh, 0) < b->from || ext4_node_key(eh, nr - 1) >= b->to)
                return ext4_corrupt(at, "extent index: children outside of what is above says");
        if (next < nr)
                b->to = ext4_node_key(eh, next);
        if (i < 0)
                return 0;
        b->from = ext4_node_key(eh, (unsigned)i);
        *ret_child = ext4_node_child(eh, (unsigned)i);
        return 1;
}

int ext4_extent_lookup(struct ext4_inode *inode, ext4_lblk_t lblk, unsigned flags,
                       struct ext4_map *ret_map)
{
        const struct ext4_extent_header *eh = (const void *)inode->block;
        struct bounds b = {0, EXT4_NR_LBLKS};
        struct ext4_where at = ext4_at(inode, 0);
        struct buf *buf = NULL; /* holds eh, but for the root */
        int ret = 1;

        for (int depth = (int)ext4_node_depth(eh); depth > 0; depth--) {
                struct buf *parent = buf;

                ret = step_down(&at, eh, lblk, &b, &at.blk);
                if (ret <= 0)
                        break;
                ret = ext4_extent_read_node(inode, at.blk, depth - 1, flags, &buf);
                if (ret < 0)
                        break;
                buf_put(parent);
                eh = buf->data;
                ret = 1;
        }
        if (ret > 0)
                ret = map_in_leaf(&at, eh, lblk, &b, ret_map);
        else if (ret == 0)
                *ret_map = hole_between(b.from, b.to);
        buf_put(buf);
        return ret;
}
