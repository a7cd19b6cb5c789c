/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/data_journal.h"

#include <string.h>

#include "ext4/extent_edit.h"
#include "ext4/map_change.h"
#include "ext4/super_write.h"
#include "ext4/truncate.h"

/*
 * Writing goes in pieces, each within one mapping.  In a piece all that can fail is done first:
 * the blocks are allocated, and access is had to all of their buffers.  Then the bytes are
 * copied.  A piece that fails is undone in its handle, so that no block is left written
 * with what was on the device before.
 */

#define PIECE_BLOCKS EXT4_EXTENT_META_PIECE

struct piece {
        struct ext4_map map;
        bool is_new;    /* allocated for it */
        uint64_t fresh; /* bit k: buffer k was not cached, and has not been read */
        uint32_t nr;    /* buffers that there is access to */
        struct buf *bufs[PIECE_BLOCKS];
        void *bytes[PIECE_BLOCKS];
};

struct change {
        struct ext4_inode *inode;
        struct iov_iter *iter; /* NULL: zeros */
        uint64_t pos, end;     /* bytes; pos moves */
        struct jbd2_handle *h;
};

static uint64_t map_end_pos(const struct change *c, const struct ext4_map *map)
{
        return ext4_map_end(map) << c->inode->fs->block_bits;
}

/* ---- buffers ---- */

/* All of block k comes from the caller. */
static bool is_whole(const struct change *c, const struct piece *p, uint32_t k)
{
        const uint64_t size = c->inode->fs->block_size;
        const uint64_t start = (p->map.lblk + (uint64_t)k) * size;

        return c->pos <= start && c->end >= start + size;
}

/* Of a block that is written: with its bytes, unless they do not matter. */
static int get_written(struct change *c, struct piece *p, uint32_t k, struct buf **ret_buf)
{
        struct buf_cache *bufs = c->inode->fs->bufs;
        const uint64_t blk = p->map.pblk + k;

        if (!is_whole(c, p, k))
                return buf_read(bufs, blk, NULL, 0, ret_buf);
        if (buf_find(bufs, blk, ret_buf)) {
                buf_put(*ret_buf);
                return buf_read(bufs, blk, NULL, 0, ret_buf);
        }
        p->fresh |= 1ull << k;
        return buf_new(bufs, blk, ret_buf);
}

static int get_buffer(struct change *c, struct piece *p, uint32_t k)
{
        const bool is_written = p->map.type == EXT4_MAP_WRITTEN && !p->is_new;
        struct buf *buf;
        int ret;

        if (is_written)
                ret = get_written(c, p, k, &buf);
        else
                ret = buf_new(c->inode->fs->bufs, p->map.pblk + k, &buf);
        if (ret < 0)
                return ret;
        if (is_written)
                ret = jbd2_get_write(c->h, buf, &p->bytes[k]);
        else
                ret = jbd2_get_create(c->h, buf, &p->bytes[k]);
        if (ret < 0) {
                if (!is_written || (p->fresh & 1ull << k))
                        buf_forget(buf);
                buf_put(buf);
                return ret;
        }
        p->bufs[k] = buf;
        p->nr++;
        return 0;
}

static int get_buffers(struct change *c, struct piece *p)
{
        int ret = 0;

        for (uint32_t k = 0; k < p->map.len && ret == 0; k++)
                ret = get_buffer(c, p, k);
        return ret;
}

static void put_buffers(struct piece *p)
{
        for (uint32_t k = 0; k < p->nr; k++)
                buf_put(p->bufs[k]);
        p->nr = 0;
}

/* The piece is not done after all, before its bytes were copied or, of blocks that are not
 * written, afterwards. */
static void drop_buffers(struct change *c, struct piece *p)
{
        for (uint32_t k = 0; k < p->nr; k++) {
                if (p->map.type == EXT4_MAP_UNWRITTEN)
                        jbd2_revoke(c->h, p->bufs[k]->blk, p->bufs[k]);
                else if (p->fresh & 1ull << k)
                        buf_forget(p->bufs[k]);
        }
        put_buffers(p);
}

/* Cannot fail. */
static void copy_bytes(struct change *c, struct piece *p)
{
        const uint32_t size = c->inode->fs->block_size;
        const uint64_t end = min_t(uint64_t, c->end, map_end_pos(c, &p->map));
        uint64_t pos = c->pos;

        for (uint32_t k = 0; k < p->nr; k++) {
                const uint32_t offset = (uint32_t)(pos & (size - 1));
                const uint32_t n = (uint32_t)min_t(uint64_t, size - offset, end - pos);
                char *to = (char *)p->bytes[k] + offset;

                if (c->iter)
                        iov_iter_copy_from(c->iter, to, n);
                else
                        memset(to, 0, n);
                jbd2_dirty(c->h, p->bufs[k]);
                pos += n;
        }
}

/* ---- blocks ---- */

/* What a piece may change beside its blocks: allocate or convert, undo that; and the size. */
static uint32_t piece_credits(const struct ext4_inode *inode)
{
        const uint32_t convert =
                inode->flags & EXT4_FL_EXTENTS ? ext4_map_convert_credits(inode) : 0;

        return max_t(uint32_t, ext4_map_alloc_credits(inode), convert) +
               ext4_map_remove_credits(inode) + EXT4_GROW_CREDITS + EXT4_INODE_CREDITS;
}

static uint32_t piece_revokes(const struct ext4_inode *inode)
{
        return max_t(uint32_t, ext4_map_remove_revokes(inode), PIECE_BLOCKS);
}

static int allocate(struct change *c, uint64_t lblk, uint64_t len, struct ext4_map *ret_map)
{
        const struct ext4_map_request req = {
                .lblk = (ext4_lblk_t)lblk,
                .len = len,
                .type = EXT4_MAP_WRITTEN,
                .alloc_flags = ext4_alloc_rights(c->inode->fs),
        };
        int ret = ext4_map_alloc(c->h, c->inode, &req, ret_map);

        if (ret == 0)
                vfs_count(c->inode->vfs.sb, VFS_ALLOCATIONS);
        return ret;
}

/* Blocks that were allocated for a piece go again: nobody may see what is in them. */
static void deallocate(struct change *c, const struct piece *p)
{
        struct ext4_extent_range range = {
                .from = p->map.lblk,
                .to = ext4_map_end(&p->map),
                .keep = EXT4_GROW_CREDITS + EXT4_INODE_CREDITS,
                .revokes = ext4_map_remove_revokes(c->inode),
        };
        int ret = ext4_map_remove(c->h, c->inode, &range);

        if (ret != 0) /* one step is enough for a piece */
                ext4_abort(c->inode->fs, ret < 0 ? ret : -EIO);
}

/* The mapping at c->pos, not longer than the change. */
static int find_mapping(struct change *c, struct ext4_map *ret_map)
{
        const struct ext4_fs *fs = c->inode->fs;
        const uint64_t lblk = c->pos >> fs->block_bits;
        int ret;

        if (lblk > EXT4_MAX_LBLK)
                return -EFBIG;
        ret = ext4_map_lookup(c->inode, (ext4_lblk_t)lblk, 0, ret_map);
        if (ret == 0)
                ret_map->len = min_t(uint64_t, ret_map->len,
                                     div_round_up(c->end, fs->block_size) - lblk);
        return ret;
}

/* Blocks that were preallocated become written.  1: not all of them, the handle has no room. */
static int convert(struct change *c, struct piece *p)
{
        struct ext4_extent_range range = {
                .from = p->map.lblk,
                .to = ext4_map_end(&p->map),
                .keep = EXT4_GROW_CREDITS + EXT4_INODE_CREDITS,
        };
        int ret = ext4_map_convert(c->h, c->inode, &range, EXT4_MAP_WRITTEN);

        if (ret != 0)
                p->map.len = range.from - p->map.lblk; /* of which this much is */
        return ret;
}

/* ---- a piece of a write ---- */

/* After convert(): blocks behind p->map are to be as if they had not been touched. */
static void drop_behind(struct change *c, struct piece *p)
{
        for (uint32_t k = (uint32_t)p->map.len; k < p->nr; k++)
                jbd2_revoke(c->h, p->bufs[k]->blk, p->bufs[k]);
}

/* The buffers are there.  c->pos moves behind what is done.  1: the handle has no room. */
static int fill_piece(struct change *c, struct piece *p)
{
        const uint64_t pos = c->pos;
        struct iov_iter at;
        int ret = 0;

        if (c->iter)
                at = *c->iter;
        copy_bytes(c, p);
        if (p->map.type == EXT4_MAP_UNWRITTEN) {
                ret = convert(c, p);
                drop_behind(c, p);
        }
        c->pos = min_t(uint64_t, c->end, max_t(uint64_t, pos, map_end_pos(c, &p->map)));
        if (c->iter) { /* it has gone as far as the bytes did that were copied */
                *c->iter = at;
                iov_iter_advance(c->iter, c->pos - pos);
        }
        put_buffers(p);
        return ret;
}

/* Blocks that a piece may have now. */
static uint32_t piece_room(const struct change *c)
{
        const uint32_t other = piece_credits(c->inode), have = jbd2_credits(c->h);

        return have > other ? min_t(uint32_t, have - other, PIECE_BLOCKS) : 0;
}

/* 0, 1: done as far as the handle has room; -errno: nothing was done. */
static int write_piece(struct change *c)
{
        struct piece p = {.nr = 0};
        int ret = find_mapping(c, &p.map);

        if (ret < 0)
                return ret;
        p.map.len = min_t(uint64_t, p.map.len, piece_room(c));
        if (p.map.len == 0)
                return 1;
        if (p.map.type == EXT4_MAP_HOLE) {
                ret = allocate(c, p.map.lblk, p.map.len, &p.map);
                if (ret < 0)
                        return ret;
                p.is_new = true;
        }
        ret = get_buffers(c, &p);
        if (ret < 0) {
                drop_buffers(c, &p);
                if (p.is_new)
                        deallocate(c, &p); /* order: before others see what was there (B4) */
                return ret;
        }
        return fill_piece(c, &p);
}

/* ---- a transaction ---- */

/* Size, times, and what fsync waits for: with the bytes. */
static int publish(struct change *c, uint64_t start)
{
        int ret;

        if (c->pos == start)
                return 0;
        ret = ext4_grow_and_store(c->h, c->inode, c->pos);
        if (ret < 0 && c->pos > vfs_size(&c->inode->vfs))
                ext4_abort(c->inode->fs, ret);  /* blocks behind the end that nobody frees */
        ext4_inode_map_changed(c->h, c->inode); /* order: fdatasync waits for the bytes (B6) */
        return ret;
}

/* Pieces that the rest of the write is known to have, as far as it is worth knowing. */
#define MAX_KNOWN_PIECES 16u

static uint32_t count_pieces(const struct change *c)
{
        struct change rest = *c;
        uint32_t nr = 0;

        while (rest.pos < rest.end && nr < MAX_KNOWN_PIECES) {
                struct ext4_map map;

                if (find_mapping(&rest, &map) < 0)
                        break; /* who writes there will say so */
                nr += (uint32_t)div_round_up(map.len, PIECE_BLOCKS);
                nr += map.type == EXT4_MAP_HOLE; /* what is allocated may be in two places */
                rest.pos = map_end_pos(&rest, &map);
        }
        return min_t(uint32_t, max_t(uint32_t, nr, 1), MAX_KNOWN_PIECES);
}

/* Credits of a handle for all of it, or as many as there can be. */
static uint32_t handle_credits(const struct change *c)
{
        const struct ext4_fs *fs = c->inode->fs;
        const uint32_t revokes = (uint32_t)div_round_up(piece_revokes(c->inode), 64);
        const uint64_t nr = div_round_up(c->end, fs->block_size) - (c->pos >> fs->block_bits);
        const uint32_t max = jbd2_max_credits(fs->journal);

        return (uint32_t)min_t(uint64_t, nr + count_pieces(c) * piece_credits(c->inode),
                               max - min_t(uint32_t, max, revokes));
}

/* Whether the handle is enough for one more piece.  1: it is. */
static int has_room(struct change *c)
{
        const struct ext4_fs *fs = c->inode->fs;
        const uint64_t nr = div_round_up(c->end, fs->block_size) - (c->pos >> fs->block_bits);
        const uint32_t need =
                piece_credits(c->inode) + (uint32_t)min_t(uint64_t, nr, PIECE_BLOCKS);
        const uint32_t have = jbd2_credits(c->h);
        int ret = have >= need ? 0 : jbd2_extend(c->h, need - have, 0);

        return ret < 0 ? ret : ret == 0;
}

/* As many pieces as one handle has room for: at least one.  c->pos moves. */
static int write_transaction(struct change *c)
{
        const struct ext4_fs *fs = c->inode->fs;
        const uint64_t start = c->pos;
        int ret = jbd2_start(fs->journal, handle_credits(c), piece_revokes(c->inode), &c->h);
        int err;

        if (ret < 0)
                return ret;
        do {
                ret = write_piece(c);
        } while (ret == 0 && c->pos < c->end && (ret = has_room(c)) > 0);
        err = publish(c, start);
        err = first_error(err, jbd2_stop(c->h));
        if (err < 0)
                return err;
        if (c->pos > start)
                return 0;               /* what is wrong comes again */
        return ret > 0 ? -ENOSPC : ret; /* a whole transaction is not enough */
}

/* All of it.  B16: after -ENOSPC space may come back with a commit. */
static int write_all(struct change *c)
{
        int tries = 0;

        while (c->pos < c->end) {
                const uint64_t before = c->pos;
                int ret = write_transaction(c);

                if (ret == -ENOSPC) {
                        ret = ext4_balloc_retry(c->inode->fs, &tries);
                        if (ret == 0)
                                ret = -ENOSPC;
                }
                if (ret < 0)
                        return ret;
                if (c->pos > before)
                        tries = 0;
        }
        return 0;
}

int64_t ext4_data_journal_write(struct vfs_kiocb *iocb, struct iov_iter *iter)
{
        struct change c = {
                .inode = ext4_inode_of(iocb->inode),
                .iter = iter,
                .pos = iocb->pos,
                .end = iocb->pos + iter->count,
        };
        int ret = write_all(&c);

        return c.pos > iocb->pos ? (int64_t)(c.pos - iocb->pos) : ret;
}

int ext4_data_journal_fill(struct ext4_inode *inode, uint64_t pos, uint64_t len)
{
        struct change c = {.inode = inode, .pos = pos, .end = pos + len};

        return write_all(&c);
}

/* ---- zeros ---- */

/* A piece of written blocks, in a transaction of its own. */
static int zero_piece(struct change *c, struct piece *p)
{
        struct jbd2 *j = c->inode->fs->journal;
        const uint32_t max = min_t(uint32_t, PIECE_BLOCKS, jbd2_max_credits(j) / 2);
        int ret;

        p->map.len = min_t(uint64_t, p->map.len, max);
        ret = jbd2_start(j, (uint32_t)p->map.len, 0, &c->h);
        if (ret < 0)
                return ret;
        ret = get_buffers(c, p);
        if (ret == 0) {
                copy_bytes(c, p);
                ext4_inode_map_changed(c->h, c->inode);
                put_buffers(p);
        } else {
                drop_buffers(c, p);
        }
        return first_error(ret, jbd2_stop(c->h));
}

int ext4_data_journal_zero(struct ext4_inode *inode, uint64_t pos, uint64_t len)
{
        struct change c = {.inode = inode, .pos = pos, .end = pos + len};

        while (c.pos < c.end && c.pos >> inode->fs->block_bits <= EXT4_MAX_LBLK) {
                struct piece p = {.nr = 0};
                int ret = find_mapping(&c, &p.map);

                if (ret == 0 && p.map.type == EXT4_MAP_WRITTEN)
                        ret = zero_piece(&c, &p);
                if (ret < 0)
                        return ret;
                c.pos = min_t(uint64_t, c.end, map_end_pos(&c, &p.map));
        }
        return 0;
}

/* ---- a first block ---- */

int ext4_data_journal_new_block(struct jbd2_handle *h, struct ext4_fs *fs, ext4_fsblk_t pblk,
                                const void *data, uint32_t len)
{
        _cleanup_buf_ struct buf *buf = NULL;
        void *bytes;
        int ret = buf_new(fs->bufs, pblk, &buf);

        if (ret < 0)
                return ret;
        ret = jbd2_get_create(h, buf, &bytes);
        if (ret < 0) {
                buf_forget(buf);
                return ret;
        }
        memcpy(bytes, data, len);
        jbd2_dirty(h, buf);
        return 0;
}
