/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Paths of an extent tree, and changes of its shape.
 *
 * Room is made from the top down, in steps: a full node whose parent has room is split in two;
 * when there is none up to the root, the root moves down into a new node first.  Every step
 * takes one block and leaves a good tree that says the same as before.  So the step that finds
 * no block has nothing to undo.  In the other direction a node goes with its last entry, and
 * the root takes the place of its only child when it has the room.
 *
 * In each step what can fail comes first: access to the nodes that change, then the new block.
 */

#include "ext4/extent_path.h"

#include <string.h>

#include "ext4/delayed.h"
#include "ext4/super_write.h"
#include "util/crc.h"

/* ---- down ---- */

/* A node's entries keep to what its parent says. */
static int check_bounds(const struct ext4_extent_path *path,
                        const struct ext4_extent_level *level)
{
        const struct ext4_where at = ext4_at(path->inode, level->buf ? level->buf->blk : 0);
        unsigned nr = ext4_node_entries(level->eh);
        uint64_t end;

        if (nr == 0)
                return 0;
        end = ext4_node_key(level->eh, nr - 1) + 1ull;
        if (ext4_node_depth(level->eh) == 0) {
                struct ext4_map last = ext4_node_extent(level->eh, nr - 1);

                end = ext4_map_end(&last);
        }
        if (ext4_node_key(level->eh, 0) < level->from || end > level->to)
                return ext4_corrupt(&at, "extent node: entries outside of what is above says");
        return 0;
}

/* From an index node to the child for lblk; one before all of them belongs to the first. */
static int step_down(struct ext4_extent_path *path, unsigned k, ext4_lblk_t lblk)
{
        struct ext4_extent_level *up = &path->level[k];
        struct ext4_extent_level *down = &path->level[k + 1];
        int i = ext4_node_find(up->eh, lblk);
        int ret;

        up->at = i < 0 ? 0 : (unsigned)i;
        ret = ext4_extent_read_node(path->inode, ext4_node_child(up->eh, up->at),
                                    (int)(path->depth - k - 1), 0, &down->buf);
        if (ret < 0)
                return ret;
        down->eh = buf_bytes(down->buf);
        down->from = ext4_node_key(up->eh, up->at);
        down->to = up->at + 1 < ext4_node_entries(up->eh) ? ext4_node_key(up->eh, up->at + 1)
                                                          : up->to;
        return check_bounds(path, down);
}

int ext4_path_find(struct ext4_inode *inode, ext4_lblk_t lblk,
                   struct ext4_extent_path *ret_path)
{
        struct ext4_extent_path *path = ret_path;
        int ret;

        *path = (struct ext4_extent_path){.inode = inode,
                                          .depth = ext4_node_depth((const void *)inode->block)};
        path->level[0].eh = (void *)inode->block;
        path->level[0].to = EXT4_NR_LBLKS;
        ret = check_bounds(path, &path->level[0]);
        for (unsigned k = 0; ret == 0 && k < path->depth; k++)
                ret = step_down(path, k, lblk);
        if (ret < 0)
                ext4_path_put(path);
        return ret;
}

void ext4_path_put(struct ext4_extent_path *path)
{
        for (unsigned k = 0; k <= path->depth; k++) {
                buf_put(path->level[k].buf);
                path->level[k].buf = NULL;
        }
}

uint64_t ext4_path_empty_from(const struct ext4_extent_path *path, uint64_t lblk)
{
        unsigned k = path->depth;

        while (k > 0 && path->level[k].from >= lblk)
                k--;
        return path->level[k].from;
}

/* ---- changing a node of it ---- */

static int get_access(struct jbd2_handle *h, struct ext4_extent_level *level)
{
        void *bytes;
        int ret;

        if (!level->writable && level->buf) {
                ret = jbd2_get_write(h, level->buf, &bytes);
                if (ret < 0)
                        return ret;
                level->eh = bytes;
        }
        level->writable = true;
        return 0;
}

int ext4_path_begin(struct jbd2_handle *h, struct ext4_extent_path *path, unsigned level,
                    enum ext4_path_key key)
{
        int ret = get_access(h, &path->level[level]);

        /* Upwards as long as the way leads through first entries. */
        while (ret == 0 && key == EXT4_KEY_CHANGES && level > 0) {
                level--;
                ret = get_access(h, &path->level[level]);
                if (path->level[level].at > 0)
                        break;
        }
        return ret;
}

/* The bytes of a node go to the journal; the root's go with the inode. */
static void finish(struct jbd2_handle *h, struct ext4_inode *inode, struct buf *buf,
                   struct ext4_extent_header *eh)
{
        size_t tail = sizeof(*eh) + ext4_node_max(eh) * sizeof(struct ext4_extent_disk);
        le32 crc;

        if (!buf)
                return;
        if (inode->fs->has_metadata_csum) {
                crc = le32_make(crc32c(inode->csum_seed, eh, tail));
                memcpy((char *)eh + tail, &crc, sizeof(crc));
        }
        jbd2_dirty(h, buf);
}

void ext4_path_end(struct jbd2_handle *h, struct ext4_extent_path *path, unsigned level)
{
        struct ext4_extent_level *l = &path->level[level];

        assert(l->writable);
        finish(h, path->inode, l->buf, l->eh);
        for (; level > 0 && ext4_node_entries(l->eh) > 0; level--) {
                struct ext4_extent_level *up = l - 1;
                ext4_lblk_t key = ext4_node_key(l->eh, 0);

                if (!up->writable || ext4_node_key(up->eh, up->at) == key)
                        break;
                ext4_node_set_key(up->eh, up->at, key);
                finish(h, path->inode, up->buf, up->eh);
                l = up;
        }
}

/* ---- new nodes ---- */

struct new_node {
        struct buf *buf;
        struct ext4_extent_header *eh;
};

/* Access to a block that has just been allocated. */
static int create_node(struct jbd2_handle *h, struct ext4_fs *fs, ext4_fsblk_t blk,
                       unsigned depth, struct new_node *ret_node)
{
        struct buf *buf;
        void *bytes;
        int ret = buf_new(fs->bufs, blk, &buf);

        if (ret < 0)
                return ret;
        ret = jbd2_get_create(h, buf, &bytes);
        if (ret < 0) {
                buf_put(buf);
                return ret;
        }
        ext4_node_init(bytes, ext4_node_room(fs->block_size), depth);
        *ret_node = (struct new_node){buf, bytes};
        return 0;
}

int ext4_balloc_map(struct jbd2_handle *h, struct ext4_alloc *req, ext4_fsblk_t *ret_pblk,
                    uint32_t *ret_len)
{
        unsigned flags = EXT4_ALLOC_META | (req->flags & EXT4_ALLOC_RIGHTS);
        int ret;

        if (req->flags & EXT4_ALLOC_KEPT)
                flags |= ext4_delayed_take_node(req->inode) ? EXT4_ALLOC_DELAYED
                                                            : EXT4_ALLOC_POOL;
        req->flags = flags;
        ret = ext4_balloc(h, req, ret_pblk, ret_len);
        if (ret < 0 && (flags & EXT4_ALLOC_DELAYED))
                ext4_delayed_return_node(req->inode);
        return ret;
}

void ext4_bfree_map(struct jbd2_handle *h, const struct ext4_alloc *req, ext4_fsblk_t pblk,
                    uint32_t len, int err)
{
        const bool is_paid = req->flags & EXT4_ALLOC_DELAYED;
        int ret = ext4_bfree(h, req->inode, pblk, len,
                             EXT4_FREE_FORGET | (is_paid ? EXT4_FREE_DELAYED : 0));

        if (ret < 0)
                ext4_abort(req->inode->fs, err);
        if (is_paid)
                ext4_delayed_return_node(req->inode);
}

/* A block of the path that is said to be free: writing another node there would change what the
 * caller stands on. */
static int check_not_on_path(const struct ext4_extent_path *path, ext4_fsblk_t blk)
{
        const struct ext4_where at = ext4_at(path->inode, blk);

        for (unsigned k = 1; k <= path->depth; k++)
                if (path->level[k].buf->blk == blk)
                        return ext4_corrupt(&at, "extent node: its block was free");
        return 0;
}

/* Allocate a node near the block `goal`.  When it fails nothing has changed, but that a block
 * which is in use is not free any more. */
static int new_node(struct jbd2_handle *h, struct ext4_extent_path *path, ext4_fsblk_t goal,
                    unsigned depth, unsigned alloc_flags, struct new_node *ret_node)
{
        struct ext4_inode *inode = path->inode;
        struct ext4_alloc req = {.inode = inode, .goal = goal, .len = 1, .flags = alloc_flags};
        ext4_fsblk_t blk;
        uint32_t len;
        int ret = ext4_balloc_map(h, &req, &blk, &len);

        if (ret == 0)
                ret = check_not_on_path(path, blk);
        if (ret < 0)
                return ret;
        ret = create_node(h, inode->fs, blk, depth, ret_node);
        if (ret < 0) {
                ext4_bfree_map(h, &req, blk, len, ret);
                return ret;
        }
        ext4_add_blocks(inode, len);
        return 0;
}

/* ---- making room ---- */

static bool is_full(const struct ext4_extent_level *level, unsigned need)
{
        return ext4_node_entries(level->eh) + need > ext4_node_max(level->eh);
}

/*
 * Nodes are made with room for four entries and more.  With fewer, splitting might not help,
 * and the credits would not be enough.
 */
static int check_rooms(const struct ext4_extent_path *path)
{
        for (unsigned k = 0; k <= path->depth; k++) {
                const struct ext4_extent_level *level = &path->level[k];
                const struct ext4_where at =
                        ext4_at(path->inode, level->buf ? level->buf->blk : 0);

                if (ext4_node_max(level->eh) < 4)
                        return ext4_corrupt(&at, "extent node: room for %u entries",
                                            ext4_node_max(level->eh));
        }
        return 0;
}

/* One level more: the root's entries move into a new node, which becomes its only child. */
static int grow(struct jbd2_handle *h, struct ext4_extent_path *path, unsigned alloc_flags)
{
        struct ext4_extent_header *root = path->level[0].eh;
        ext4_fsblk_t goal = path->depth > 0 ? path->level[1].buf->blk : 0;
        ext4_lblk_t key = ext4_node_key(root, 0);
        struct new_node node;
        int ret;

        if (path->depth == EXT4_EXTENT_MAX_DEPTH)
                return -EFBIG;
        ret = new_node(h, path, goal, path->depth, alloc_flags, &node);
        if (ret < 0)
                return ret;
        ext4_node_move_tail(root, 0, node.eh);
        root->eh_depth = le16_make((uint16_t)(path->depth + 1));
        ext4_extent_note_depth(path->inode);
        ext4_node_insert_child(root, 0, key, node.buf->blk);
        finish(h, path->inode, node.buf, node.eh);
        buf_put(node.buf);
        return 1;
}

/* Split the node below level k, which has room for one entry more. */
static int split_below(struct jbd2_handle *h, struct ext4_extent_path *path, unsigned k,
                       unsigned pos, unsigned alloc_flags)
{
        struct ext4_extent_level *up = &path->level[k];
        struct ext4_extent_level *down = &path->level[k + 1];
        struct new_node node;
        int ret = ext4_path_begin(h, path, k, EXT4_KEY_STAYS);

        if (ret == 0)
                ret = ext4_path_begin(h, path, k + 1, EXT4_KEY_STAYS);
        if (ret == 0)
                ret = new_node(h, path, down->buf->blk, ext4_node_depth(down->eh), alloc_flags,
                               &node);
        if (ret < 0)
                return ret;
        ext4_node_move_tail(down->eh, ext4_node_split_point(down->eh, pos), node.eh);
        ext4_node_insert_child(up->eh, up->at + 1, ext4_node_key(node.eh, 0), node.buf->blk);
        finish(h, path->inode, node.buf, node.eh);
        finish(h, path->inode, down->buf, down->eh);
        finish(h, path->inode, up->buf, up->eh);
        buf_put(node.buf);
        return 1;
}

int ext4_path_make_room(struct jbd2_handle *h, struct ext4_extent_path *path, unsigned need,
                        unsigned pos, unsigned alloc_flags)
{
        unsigned k = path->depth;
        int ret;

        assert(need <= 2);
        if (!is_full(&path->level[k], need))
                return 0;
        ret = check_rooms(path);
        if (ret < 0)
                return ret;
        /* The lowest node above that has room for one entry more. */
        while (k > 0 && is_full(&path->level[k - 1], 1))
                k--;
        if (k == 0)
                return grow(h, path, alloc_flags);
        /* An index node gets its new entry behind the one that the path takes. */
        if (k < path->depth)
                pos = path->level[k].at + 1;
        return split_below(h, path, k - 1, pos, alloc_flags);
}

/* ---- taking away ---- */

/* Free a node's block, which nobody refers to any more. */
static int free_node(struct jbd2_handle *h, struct ext4_inode *inode, ext4_fsblk_t blk,
                     struct ext4_extent_range *range)
{
        uint32_t len = ext4_node_blocks(inode->fs);
        int ret = ext4_bfree(h, inode, round_down_pow2(blk, len), len, EXT4_FREE_META);

        if (ret == 0) {
                ext4_sub_blocks(inode, len);
                range->revokes -= min_t(uint32_t, len, range->revokes);
        }
        return ret;
}

/* Free the nodes from level k down; what is above does not lead there after this. */
static int free_nodes(struct jbd2_handle *h, struct ext4_extent_path *path, unsigned k,
                      struct ext4_extent_range *range)
{
        for (unsigned i = path->depth; i >= k; i--) {
                ext4_fsblk_t blk = path->level[i].buf->blk;
                int ret;

                buf_put(path->level[i].buf);
                path->level[i].buf = NULL;
                ret = free_node(h, path->inode, blk, range);
                if (ret < 0) {
                        /* The first one: nothing has happened. */
                        if (i < path->depth)
                                ext4_abort(path->inode->fs, ret);
                        return ret;
                }
        }
        return 0;
}

int ext4_path_drop_leaf(struct jbd2_handle *h, struct ext4_extent_path *path,
                        struct ext4_extent_range *range)
{
        struct ext4_extent_level *up;
        unsigned k = path->depth;
        int ret;

        assert(k > 0 && ext4_node_entries(ext4_path_leaf(path)) == 0);
        /* Level k is the highest that goes. */
        while (k > 1 && ext4_node_entries(path->level[k - 1].eh) == 1)
                k--;
        up = &path->level[k - 1];
        ret = ext4_path_begin(h, path, k - 1, up->at == 0 ? EXT4_KEY_CHANGES : EXT4_KEY_STAYS);
        if (ret == 0)
                ret = free_nodes(h, path, k, range);
        if (ret == 0) {
                ext4_node_remove(up->eh, up->at, 1);
                if (k == 1 && ext4_node_entries(up->eh) == 0) {
                        up->eh->eh_depth = le16_make(0);
                        ext4_extent_note_depth(path->inode);
                }
                ext4_path_end(h, path, k - 1);
        }
        return ret;
}

/* The root's only child, if the root has room for what is in it: 1, 0. */
static int only_child(struct ext4_inode *inode, struct buf **ret_buf)
{
        const struct ext4_extent_header *root = (const void *)inode->block;
        unsigned depth = ext4_node_depth(root);
        int ret;

        if (depth == 0 || ext4_node_entries(root) != 1)
                return 0;
        ret = ext4_extent_read_node(inode, ext4_node_child(root, 0), (int)depth - 1, 0,
                                    ret_buf);
        if (ret < 0)
                return ret;
        if (ext4_node_entries((*ret_buf)->data) <= ext4_node_max(root))
                return 1;
        buf_put(*ret_buf);
        return 0;
}

/* Free a child whose bytes are in the new root already. */
static int pull_up(struct jbd2_handle *h, struct ext4_inode *inode, struct buf *child,
                   struct ext4_extent_range *range)
{
        uint8_t block[EXT4_I_BLOCK_SIZE];
        struct ext4_extent_header *root = (void *)block;
        ext4_fsblk_t blk = child->blk;
        int ret;

        memcpy(block, inode->block, sizeof(block));
        ext4_node_replace(root, child->data);
        buf_put(child);
        ret = free_node(h, inode, blk, range);
        if (ret == 0) {
                memcpy(inode->block, block, sizeof(block));
                ext4_extent_note_depth(inode);
        }
        return ret;
}

int ext4_path_shrink(struct jbd2_handle *h, struct ext4_inode *inode,
                     struct ext4_extent_range *range)
{
        const uint32_t nr = ext4_node_blocks(inode->fs);
        struct buf *child;
        int ret;

        while ((ret = only_child(inode, &child)) > 0) {
                ret = ext4_range_ensure(h, range, ext4_bfree_credits(inode->fs, nr), nr);
                if (ret != 0) {
                        buf_put(child);
                        return ret;
                }
                ret = pull_up(h, inode, child, range);
                if (ret < 0)
                        return ret;
        }
        return ret;
}

/* ---- credits ---- */

int ext4_range_ensure(struct jbd2_handle *h, struct ext4_extent_range *range, uint32_t credits,
                      uint32_t revokes)
{
        uint32_t have = jbd2_credits(h);
        uint32_t want = credits + range->keep;
        uint32_t more_blocks = want > have ? want - have : 0;
        uint32_t more_revokes = revokes > range->revokes ? revokes : 0;
        int ret;

        if (more_blocks == 0 && more_revokes == 0)
                return 0;
        ret = jbd2_extend(h, more_blocks, more_revokes);
        if (ret == 0)
                range->revokes += more_revokes;
        return ret;
}
