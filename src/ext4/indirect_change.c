/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Indirect maps (ext2, ext3), the changing side.
 *
 * A block gets its place with all pointer blocks that are missing on the way: they are
 * allocated and filled first, and hang in the air until the last step, one pointer in a block
 * that was there (or in the inode), joins them to the map.  Removing goes from the end, pointer
 * block by pointer block; one that has become empty goes with its last pointer, and so do those
 * above.
 */

#include "ext4/indirect_change.h"

#include <string.h>

#include "ext4/delayed.h"
#include "ext4/extent_path.h"
#include "ext4/super_write.h"

#define MAX_LEVELS 3

/* ---- the way to a block ---- */

struct step {
        struct buf *buf; /* NULL: the inode */
        le32 *ptr;       /* changed only with access */
        unsigned i;      /* the pointer that leads on */
};

struct walk {
        struct ext4_indirect_path path;
        struct step at[MAX_LEVELS + 1];
        unsigned depth; /* the last step that there is: its pointer is 0, or leads to data */
        unsigned bits;  /* log2 of the pointers in a block */
};

/* Logical blocks behind one pointer of step k. */
static uint64_t blocks_behind(const struct walk *w, unsigned k)
{
        return 1ull << (w->bits * (w->path.levels - k));
}

static unsigned index_at(const struct walk *w, unsigned k)
{
        return (unsigned)(w->path.index / blocks_behind(w, k) & ((1u << w->bits) - 1));
}

static void walk_put(struct walk *w)
{
        for (unsigned k = 1; k <= w->depth; k++)
                buf_put(w->at[k].buf);
}

/* A pointer block that is met twice would be freed twice. */
static bool is_on_way(const struct walk *w, uint32_t blk)
{
        for (unsigned k = 1; k <= w->depth; k++)
                if (w->at[k].buf->blk == blk)
                        return true;
        return false;
}

/* As far down as there are pointer blocks.  -EFBIG beyond three levels. */
static int walk_to(struct ext4_inode *inode, ext4_lblk_t lblk, struct walk *ret_walk)
{
        const struct ext4_where at = ext4_at(inode, 0);
        struct walk *w = ret_walk;

        *w = (struct walk){.bits = ext4_ptr_bits(inode->fs)};
        /* Clusters come with extents only. */
        if (inode->fs->cluster_bits > 0)
                return ext4_corrupt(&at, "an indirect map where there are clusters");
        if (!ext4_indirect_path(inode->fs, lblk, &w->path))
                return -EFBIG;
        w->at[0] = (struct step){NULL, (void *)inode->block, w->path.root};
        while (w->depth < w->path.levels) {
                struct step *up = &w->at[w->depth], *down = up + 1;
                uint32_t blk = le32_get(up->ptr[up->i]);
                int ret = 0;

                if (blk == 0)
                        break;
                if (!ext4_blocks_valid(inode->fs, blk, 1))
                        ret = ext4_corrupt(&at, "indirect pointer leads outside, to %u", blk);
                else if (is_on_way(w, blk))
                        ret = ext4_corrupt(&at, "pointer block %u leads to itself", blk);
                if (ret == 0)
                        ret = ext4_indirect_read(inode, blk, 0, &down->buf);
                if (ret < 0) {
                        walk_put(w);
                        return ret;
                }
                w->depth++;
                down->ptr = buf_bytes(down->buf);
                down->i = index_at(w, w->depth);
        }
        return 0;
}

static int get_access(struct jbd2_handle *h, struct step *s)
{
        void *bytes;
        int ret;

        if (!s->buf)
                return 0;
        ret = jbd2_get_write(h, s->buf, &bytes);
        if (ret == 0)
                s->ptr = bytes;
        return ret;
}

static void finish(struct jbd2_handle *h, struct step *s)
{
        if (s->buf)
                jbd2_dirty(h, s->buf);
}

/* How many pointers a step has. */
static unsigned nr_pointers(const struct walk *w, unsigned k)
{
        return k > 0 ? 1u << w->bits : EXT4_NR_DIRECT;
}

uint64_t ext4_indirect_nr_lblks(const struct ext4_fs *fs)
{
        uint64_t nr = EXT4_NR_DIRECT;

        for (unsigned levels = 1; levels <= MAX_LEVELS; levels++)
                nr += 1ull << (ext4_ptr_bits(fs) * levels);
        return min_t(uint64_t, nr, EXT4_NR_LBLKS);
}

/* ---- allocating ---- */

/* What is being allocated: new pointer blocks from the top down, and a run of data. */
struct branch {
        struct step new[MAX_LEVELS]; /* i: its first pointer that is set */
        ext4_fsblk_t blk[MAX_LEVELS];
        unsigned flags[MAX_LEVELS]; /* EXT4_ALLOC_*, they were allocated with */
        unsigned nr_blks;           /* allocated */
        unsigned nr_bufs;           /* of these with access */
        ext4_fsblk_t data;
        uint32_t len; /* 0: not yet */
        bool is_paid; /* with promises */
};

/* A pointer has 32 bits. */
static int balloc_32(struct jbd2_handle *h, const struct ext4_alloc *req,
                     ext4_fsblk_t *ret_pblk, uint32_t *ret_len)
{
        int ret = ext4_balloc(h, req, ret_pblk, ret_len);

        if (ret < 0 || *ret_pblk + *ret_len - 1 <= UINT32_MAX)
                return ret;
        ret = ext4_bfree(h, req->inode, *ret_pblk, *ret_len,
                         EXT4_FREE_FORGET |
                                 (req->flags & EXT4_ALLOC_DELAYED ? EXT4_FREE_DELAYED : 0));
        if (ret < 0)
                ext4_abort(req->inode->fs, ret);
        return -ENOSPC;
}

static int balloc_pointers(struct jbd2_handle *h, struct ext4_alloc *req,
                           ext4_fsblk_t *ret_pblk)
{
        uint32_t len;
        int ret = ext4_balloc_map(h, req, ret_pblk, &len);

        if (ret < 0 || *ret_pblk <= UINT32_MAX)
                return ret;
        ext4_bfree_map(h, req, *ret_pblk, len, -ENOSPC);
        return -ENOSPC;
}

/* Give back what was allocated; nobody has seen it. */
static void undo(struct jbd2_handle *h, struct ext4_inode *inode, struct branch *b)
{
        int ret = 0;

        for (unsigned k = 0; k < b->nr_bufs; k++)
                buf_put(b->new[k].buf);
        if (b->len > 0)
                ret = ext4_bfree(h, inode, b->data, b->len,
                                 EXT4_FREE_FORGET | (b->is_paid ? EXT4_FREE_DELAYED : 0));
        if (ret < 0)
                ext4_abort(inode->fs, ret);
        for (unsigned k = 0; k < b->nr_blks; k++) {
                const struct ext4_alloc req = {.inode = inode, .flags = b->flags[k]};

                ext4_bfree_map(h, &req, b->blk[k], 1, -EIO);
        }
}

/* Blocks for the pointers that are missing, and for the data. */
static int alloc_branch(struct jbd2_handle *h, struct ext4_inode *inode,
                        const struct ext4_alloc *data, unsigned nr_new, struct branch *b)
{
        struct ext4_alloc meta = *data;
        uint32_t len;
        int ret = 0;

        meta.len = 1;
        while (b->nr_blks < nr_new) {
                meta.flags = data->flags | (b->is_paid ? EXT4_ALLOC_KEPT : 0);
                ret = balloc_pointers(h, &meta, &b->blk[b->nr_blks]);
                if (ret < 0)
                        return ret;
                b->flags[b->nr_blks] = meta.flags;
                meta.goal = b->blk[b->nr_blks++] + 1;
        }
        ret = balloc_32(h, data, &b->data, &len);
        if (ret == 0)
                b->len = len;
        return ret;
}

/* Access to the new pointer blocks, which are zeros then. */
static int create_branch(struct jbd2_handle *h, struct ext4_inode *inode, struct branch *b)
{
        while (b->nr_bufs < b->nr_blks) {
                struct step *s = &b->new[b->nr_bufs];
                void *bytes;
                int ret = buf_new(inode->fs->bufs, b->blk[b->nr_bufs], &s->buf);

                if (ret < 0)
                        return ret;
                b->nr_bufs++;
                ret = jbd2_get_create(h, s->buf, &bytes);
                if (ret < 0)
                        return ret;
                s->ptr = bytes;
        }
        return 0;
}

/* Fill the new blocks, then join them to the map.  Cannot fail. */
static void join_branch(struct jbd2_handle *h, struct walk *w, struct branch *b)
{
        for (unsigned k = 0; k <= b->nr_bufs; k++) {
                struct step *s = k < b->nr_bufs ? &b->new[k] : &w->at[w->depth];
                unsigned level = k < b->nr_bufs ? w->depth + 1 + k : w->depth;

                /* The last level points to data, those before to the next one. */
                s->i = level > 0 ? index_at(w, level) : w->at[0].i;
                if (level == w->path.levels) {
                        for (uint32_t n = 0; n < b->len; n++)
                                s->ptr[s->i + n] = le32_make((uint32_t)b->data + n);
                } else {
                        s->ptr[s->i] = le32_make((uint32_t)b->blk[level - w->depth]);
                }
                finish(h, s);
        }
        for (unsigned k = 0; k < b->nr_bufs; k++)
                buf_put(b->new[k].buf);
}

/* Free pointers from the wanted one on, beside each other. */
static uint32_t room_for(const struct walk *w, uint32_t len)
{
        const struct step *s = &w->at[w->depth];
        unsigned levels = w->path.levels;
        uint32_t n = 0;

        if (w->depth < levels)
                return min_t(uint32_t, len, (1u << w->bits) - index_at(w, levels));
        while (n < len && s->i + n < nr_pointers(w, w->depth) &&
               le32_get(s->ptr[s->i + n]) == 0)
                n++;
        return n;
}

/* Behind the block before, or near the pointer block. */
static ext4_fsblk_t goal_for(const struct walk *w)
{
        const struct step *s = &w->at[w->depth];
        uint32_t before = 0;

        if (w->depth == w->path.levels && s->i > 0)
                before = le32_get(s->ptr[s->i - 1]);
        if (before == 0 && s->buf)
                before = (uint32_t)s->buf->blk;
        return before ? before + 1ull : 0;
}

static int alloc_at(struct jbd2_handle *h, struct ext4_inode *inode, struct walk *w,
                    const struct ext4_indirect_request *req, struct ext4_map *ret_map)
{
        struct branch b = {.nr_blks = 0};
        struct ext4_alloc data = {
                .inode = inode,
                .lblk = req->lblk,
                .goal = req->goal ? req->goal : goal_for(w),
                .len = room_for(w, req->len),
                .flags = req->alloc_flags,
        };
        int ret;

        if (data.len == 0)
                return -EEXIST;
        b.is_paid =
                (data.flags & EXT4_ALLOC_DATA) && ext4_delayed_cut(inode, data.lblk, &data.len);
        if (b.is_paid)
                data.flags |= EXT4_ALLOC_DELAYED;
        ret = get_access(h, &w->at[w->depth]);
        if (ret < 0)
                return ret;
        ret = alloc_branch(h, inode, &data, w->path.levels - w->depth, &b);
        if (ret == 0)
                ret = create_branch(h, inode, &b);
        if (ret < 0) {
                undo(h, inode, &b);
                return ret;
        }
        join_branch(h, w, &b);
        ext4_add_blocks(inode, b.nr_blks + b.len);
        if (b.is_paid)
                ext4_delayed_spend(inode, data.lblk, b.len);
        *ret_map = (struct ext4_map){req->lblk, b.len, b.data, EXT4_MAP_WRITTEN};
        return 0;
}

int ext4_indirect_alloc(struct jbd2_handle *h, struct ext4_inode *inode,
                        const struct ext4_indirect_request *req, struct ext4_map *ret_map)
{
        struct walk w;
        int ret;

        assert(req->len > 0);
        ret = walk_to(inode, req->lblk, &w);
        if (ret < 0)
                return ret;
        ret = alloc_at(h, inode, &w, req, ret_map);
        walk_put(&w);
        return ret;
}

/* ---- removing ---- */

/* The run of blocks that ends with pointer i, not before `first`: in one group. */
static uint32_t run_before(const struct ext4_inode *inode, const le32 *ptr, unsigned first,
                           unsigned i)
{
        const struct ext4_fs *fs = inode->fs;
        const uint32_t last = le32_get(ptr[i]);
        uint32_t max = ext4_data_is_meta(inode) ? EXT4_EXTENT_META_PIECE : UINT32_MAX;
        uint32_t n = 1;

        if (last < fs->first_data_block)
                return 1; /* outside: freeing it will say so */
        max = min_t(uint32_t, max,
                    (uint32_t)((last - fs->first_data_block) % fs->blocks_per_group + 1));
        while (n < max && i - n + 1 > first && le32_get(ptr[i - n]) == last - n)
                n++;
        return n;
}

static int ensure_piece(struct jbd2_handle *h, struct ext4_inode *inode,
                        struct ext4_extent_range *range)
{
        return ext4_range_ensure(h, range, ext4_indirect_remove_credits(inode->fs),
                                 EXT4_INDIRECT_REMOVE_REVOKES);
}

static int free_blocks(struct jbd2_handle *h, struct ext4_inode *inode, uint32_t blk,
                       uint32_t len, unsigned flags, struct ext4_extent_range *range)
{
        int ret = ext4_bfree(h, inode, blk, len, flags);

        if (ret < 0)
                return ret;
        ext4_sub_blocks(inode, len);
        range->revokes -= min_t(uint32_t, ext4_bfree_revokes(len, flags), range->revokes);
        return 0;
}

/* The data pointers of the range in one block, from the last one down. */
static int remove_pointers(struct jbd2_handle *h, struct ext4_inode *inode, struct walk *w,
                           struct ext4_extent_range *range)
{
        const unsigned flags = ext4_data_is_meta(inode) ? EXT4_FREE_META : 0;
        struct step *s = &w->at[w->depth];
        uint64_t block_from = range->to - 1 - s->i; /* logical block of pointer 0 */
        unsigned first = range->from > block_from ? (unsigned)(range->from - block_from) : 0;
        unsigned i = s->i + 1;

        while (i > first) {
                uint32_t len = 1;
                int ret;

                if (le32_get(s->ptr[i - 1]) != 0) {
                        len = run_before(inode, s->ptr, first, i - 1);
                        ret = ensure_piece(h, inode, range);
                        if (ret == 0)
                                ret = free_blocks(h, inode, le32_get(s->ptr[i - 1]) - (len - 1),
                                                  len, flags, range);
                        if (ret != 0)
                                return ret;
                        memset(&s->ptr[i - len], 0, len * sizeof(le32));
                }
                i -= len;
                range->to = block_from + i;
        }
        return 0;
}

static bool has_others(const struct walk *w, unsigned k, unsigned but)
{
        for (unsigned i = 0; i < nr_pointers(w, k); i++)
                if (i != but && le32_get(w->at[k].ptr[i]) != 0)
                        return true;
        return false;
}

/* The pointer block is empty: free it, and those above that would be. */
static int drop_empty(struct jbd2_handle *h, struct ext4_inode *inode, struct walk *w,
                      struct ext4_extent_range *range)
{
        unsigned k = w->depth; /* the highest that goes */
        struct step *up;
        int ret;

        while (k > 1 && !has_others(w, k - 1, w->at[k - 1].i))
                k--;
        up = &w->at[k - 1];
        ret = get_access(h, up);
        if (ret < 0)
                return ret;
        while (w->depth >= k) {
                uint32_t blk = (uint32_t)w->at[w->depth].buf->blk;
                bool first = w->depth == w->path.levels;

                buf_put(w->at[w->depth].buf);
                w->depth--;
                ret = free_blocks(h, inode, blk, 1, EXT4_FREE_META, range);
                if (ret < 0) {
                        if (!first)
                                ext4_abort(inode->fs, ret);
                        return ret;
                }
        }
        up->ptr[up->i] = le32_make(0);
        finish(h, up);
        return 0;
}

/* In the block that holds the last pointer of the range. */
static int remove_in_block(struct jbd2_handle *h, struct ext4_inode *inode, struct walk *w,
                           struct ext4_extent_range *range)
{
        struct step *s = &w->at[w->depth];
        int ret = get_access(h, s), dropped = 0;

        if (ret < 0)
                return ret;
        ret = remove_pointers(h, inode, w, range);
        finish(h, s);
        if (s->buf && !has_others(w, w->depth, nr_pointers(w, w->depth)))
                dropped = drop_empty(h, inode, w, range);
        return ret >= 0 && dropped < 0 ? dropped : ret;
}

static int remove_step(struct jbd2_handle *h, struct ext4_inode *inode,
                       struct ext4_extent_range *range)
{
        struct walk w;
        int ret = ensure_piece(h, inode, range);

        if (ret == 0)
                ret = walk_to(inode, (ext4_lblk_t)(range->to - 1), &w);
        if (ret != 0)
                return ret;
        if (w.depth < w.path.levels) {
                /* Nothing behind this pointer: on to what is before it. */
                uint64_t size = blocks_behind(&w, w.depth);
                uint64_t from = w.path.first + w.path.index / size * size;

                range->to = max_t(uint64_t, from, range->from);
        } else {
                ret = remove_in_block(h, inode, &w, range);
        }
        walk_put(&w);
        return ret;
}

int ext4_indirect_remove(struct jbd2_handle *h, struct ext4_inode *inode,
                         struct ext4_extent_range *range)
{
        int ret = 0;

        range->to = min_t(uint64_t, range->to,
                          max_t(uint64_t, range->from, ext4_indirect_nr_lblks(inode->fs)));
        while (ret == 0 && range->from < range->to)
                ret = remove_step(h, inode, range);
        return ret;
}
