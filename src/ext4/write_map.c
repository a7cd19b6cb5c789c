/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Where a write goes: the answers for iomap, and what allocation and conversion are for it.
 *
 * Direct writes allocate by the table of ext4_alloc_mode(), each mapping under a handle of its
 * own that is closed before the data is sent (B15).
 *
 * Buffered writes have space promised, no blocks.  Writing back allocates unwritten blocks and
 * converts them in end(), with the size.  A file without extents knows no unwritten blocks:
 * there the handle that has allocated stays open from begin() to end(), so that the transaction
 * cannot become durable before the data is on the device.
 */

#include "ext4/balloc.h"
#include "ext4/delayed.h"
#include "ext4/truncate.h"
#include "ext4/write_path.h"

/* B13: what one mapping allocates at most. */
#define MAX_ALLOC_BLOCKS 4096u

/* The same while a handle stays open across I/O. */
#define MAX_HELD_BYTES (256u << 10)

/* ---- looking ---- */

/* B5, B6: whether fdatasync would have metadata to write, after a write up to `end`. */
static bool is_dirty(struct ext4_inode *inode, uint64_t end)
{
        return end > inode->disk_size ||
               !jbd2_is_durable(inode->fs->journal, atomic_load(&inode->datasync_tid));
}

int ext4_write_look(struct ext4_inode *inode, uint64_t pos, uint64_t end, uint32_t op_flags,
                    struct iomap *ret_map)
{
        int ret;

        if (pos >> inode->fs->block_bits > EXT4_MAX_LBLK)
                return -EFBIG;
        ret = ext4_read_ops.begin(&inode->vfs, pos, end - pos, op_flags, ret_map);
        if (ret == 0 && is_dirty(inode, end))
                ret_map->flags |= IOMAP_F_DIRTY;
        return ret;
}

/* ---- allocating ---- */

static bool has_extents(const struct ext4_inode *inode)
{
        return inode->flags & EXT4_FL_EXTENTS;
}

/* Allocate under a handle, which is closed, or with `more` credits left open for the caller. */
enum handle_end {
        CLOSE_HANDLE,
        KEEP_HANDLE,
};

struct handle_need {
        uint32_t more, revokes;
        enum handle_end end;
};

static int alloc_once(struct ext4_inode *inode, const struct ext4_map_request *req,
                      const struct handle_need *need, struct ext4_map *ret_map)
{
        struct jbd2_handle *h;
        int ret = jbd2_start(inode->fs->journal, ext4_map_alloc_credits(inode) + need->more,
                             need->revokes, &h);

        if (ret < 0)
                return ret;
        ret = ext4_map_alloc(h, inode, req, ret_map);
        if (ret == 0)
                vfs_count(inode->vfs.sb, VFS_ALLOCATIONS);
        if (ret == 0 && need->end == KEEP_HANDLE)
                return 0;
        return first_error(ret, jbd2_stop(h));
}

/* A request for what [pos, pos + len) touches, of which at most `max` blocks. */
static struct ext4_map_request request_for(const struct ext4_inode *inode, uint64_t pos,
                                           uint64_t len, uint32_t max)
{
        const struct ext4_fs *fs = inode->fs;
        uint64_t lblk = pos >> fs->block_bits;

        return (struct ext4_map_request){
                .lblk = (ext4_lblk_t)lblk,
                .len = min_t(uint64_t, div_round_up(pos + len, fs->block_size) - lblk, max),
                .type = EXT4_MAP_UNWRITTEN, /* order: data before it can be seen (C41) */
                .alloc_flags = ext4_alloc_rights(fs),
        };
}

/* What was allocated, or was found after all, in the language of iomap. */
static void fill_new(const struct ext4_inode *inode, const struct ext4_map *map,
                     struct iomap *ret_map)
{
        const uint32_t bits = inode->fs->block_bits;

        *ret_map = (struct iomap){
                .addr = map->pblk << bits,
                .offset = (uint64_t)map->lblk << bits,
                .length = map->len << bits,
                .type = map->type == EXT4_MAP_WRITTEN ? IOMAP_MAPPED : IOMAP_UNWRITTEN,
                .flags = IOMAP_F_NEW | IOMAP_F_DIRTY,
        };
}

/* B16: space that was freed may be had once that is durable. */
static int allocate(struct ext4_inode *inode, const struct ext4_map_request *req,
                    const struct handle_need *need, struct iomap *ret_map)
{
        struct ext4_map map;
        int tries = 0;

        for (;;) {
                int ret = alloc_once(inode, req, need, &map);
                int again;

                if (ret == 0)
                        fill_new(inode, &map, ret_map);
                if (ret != -ENOSPC)
                        return ret;
                again = ext4_balloc_retry(inode->fs, &tries);
                if (again <= 0)
                        return again < 0 ? again : -ENOSPC;
        }
}

/* ---- direct ---- */

static int direct_allocate(struct ext4_inode *inode, uint64_t pos, uint64_t len,
                           struct iomap *ret_map)
{
        const struct handle_need need = {.end = CLOSE_HANDLE};
        struct ext4_map_request req = request_for(inode, pos, len, MAX_ALLOC_BLOCKS);

        switch (ext4_alloc_mode(inode, req.lblk)) {
        case EXT4_MODE_NONE:
                return -ENOTBLK; /* B12 */
        case EXT4_MODE_WRITTEN:
                req.type = EXT4_MAP_WRITTEN;
                break;
        case EXT4_MODE_UNWRITTEN:
                break;
        }
        return allocate(inode, &req, &need, ret_map);
}

static int direct_begin(struct vfs_inode *vfs, uint64_t pos, uint64_t len, uint32_t op_flags,
                        struct iomap *ret_map)
{
        struct ext4_inode *inode = ext4_inode_of(vfs);
        int ret = ext4_write_look(inode, pos, pos + len, op_flags, ret_map);

        if (ret < 0 || ret_map->type != IOMAP_HOLE)
                return ret;
        return op_flags & IOMAP_OP_NOWAIT ? -EAGAIN : direct_allocate(inode, pos, len, ret_map);
}

const struct iomap_ops ext4_write_ops = {.begin = direct_begin};

/* ---- by copying ---- */

/* What one mapping zeroes at most: the handle is open meanwhile. */
#define MAX_ZEROED_BYTES (4u << 20)

/* New blocks are written from the start.  Before the handle is closed they are zeros: no
 * commit can have them as they were. */
static int dax_allocate(struct ext4_inode *inode, uint64_t pos, uint64_t len,
                        struct iomap *ret_map)
{
        const struct handle_need need = {.end = KEEP_HANDLE};
        const uint32_t bits = inode->fs->block_bits;
        const uint32_t max = max_t(uint32_t, MAX_ZEROED_BYTES >> bits, 1);
        struct ext4_map_request req = request_for(inode, pos, len, max);
        int ret;

        req.type = EXT4_MAP_WRITTEN;
        ret = allocate(inode, &req, &need, ret_map);
        if (ret < 0)
                return ret;
        ret = ext4_zero_blocks(inode->fs, ret_map->addr >> bits, ret_map->length >> bits);
        if (ret < 0) /* of memory: never, unless the device is not what it was */
                ext4_abort(inode->fs, ret);
        return first_error(ret, jbd2_stop(jbd2_current(inode->fs->journal)));
}

/* Unwritten blocks: zeros first.  *map, which begins at the block of pos, becomes what of it is
 * written then. */
static int dax_convert(struct ext4_inode *inode, uint64_t pos, uint64_t len, struct iomap *map)
{
        const uint64_t most = max_t(uint64_t, MAX_ZEROED_BYTES, inode->fs->block_size);
        const uint64_t want = round_up_pow2(pos + len, inode->fs->block_size) - map->offset;
        const uint32_t bits = inode->fs->block_bits;
        struct jbd2_handle *h;
        int ret;

        map->length = min_t(uint64_t, map->length, min_t(uint64_t, want, most));
        ret = ext4_zero_blocks(inode->fs, map->addr >> bits, map->length >> bits);
        if (ret == 0)
                ret = jbd2_start(inode->fs->journal, ext4_map_convert_credits(inode), 0, &h);
        if (ret < 0)
                return ret;
        ret = ext4_write_convert(h, inode, map->offset, map->offset + map->length, 0);
        map->type = IOMAP_MAPPED;
        return first_error(ret, jbd2_stop(h));
}

static int dax_begin(struct vfs_inode *vfs, uint64_t pos, uint64_t len, uint32_t op_flags,
                     struct iomap *ret_map)
{
        struct ext4_inode *inode = ext4_inode_of(vfs);
        int ret = ext4_write_look(inode, pos, pos + len, op_flags, ret_map);

        if (ret < 0 || ret_map->type == IOMAP_MAPPED)
                return ret;
        if (op_flags & IOMAP_OP_NOWAIT)
                return -EAGAIN;
        return ret_map->type == IOMAP_HOLE ? dax_allocate(inode, pos, len, ret_map)
                                           : dax_convert(inode, pos, len, ret_map);
}

const struct iomap_ops ext4_dax_ops = {.begin = dax_begin};

/* ---- changes that follow the data ---- */

void ext4_note_written(struct ext4_inode *inode)
{
        /* Coarse: writers of one file meet here only a few times a second. */
        const struct timespec now = ext4_now(inode->fs);
        int64_t ns;

        ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
        if (atomic_load_explicit(&inode->written_at, memory_order_relaxed) == ns &&
            !ext4_is_version_seen(inode))
                return;
        ext4_count_version(inode);
        atomic_store_explicit(&inode->written_at, ns, memory_order_relaxed);
        atomic_store(&inode->times_due, true); /* after written_at */
}

/* alloc_flags, for nodes: EXT4_ALLOC_KEPT for data that comes out of the page cache: what is
 * promised to the map pays for them. */
static int convert(struct jbd2_handle *h, struct ext4_inode *inode, uint64_t pos, uint64_t end,
                   uint32_t keep, unsigned alloc_flags)
{
        struct ext4_extent_range range = {
                .from = pos >> inode->fs->block_bits,
                .to = div_round_up(end, inode->fs->block_size),
                .keep = keep + EXT4_INODE_CREDITS,
                .alloc_flags = alloc_flags,
        };
        int ret;

        while ((ret = ext4_map_convert(h, inode, &range, EXT4_MAP_WRITTEN)) > 0) {
                ret = jbd2_restart(h, ext4_map_convert_credits(inode) + keep, 0);
                if (ret < 0)
                        break;
        }
        return ret;
}

int ext4_write_convert(struct jbd2_handle *h, struct ext4_inode *inode, uint64_t pos,
                       uint64_t end, uint32_t keep)
{
        return convert(h, inode, pos, end, keep, 0);
}

/* ---- writing back, with extents ---- */

/* alloc_flags: EXT4_ALLOC_KEPT, or none. */
static int unwritten_allocate(struct ext4_inode *inode, uint64_t pos, uint64_t len,
                              unsigned alloc_flags, struct iomap *ret_map)
{
        const struct handle_need need = {.end = CLOSE_HANDLE};
        struct ext4_map_request req = request_for(inode, pos, len, MAX_ALLOC_BLOCKS);

        req.alloc_flags |= alloc_flags;
        return allocate(inode, &req, &need, ret_map);
}

/* Blocks become written, and the file as long as what was written: in one transaction, so that
 * there are no written blocks behind the size (C21). */
static int convert_and_grow(struct ext4_inode *inode, uint64_t pos, uint64_t end,
                            bool is_unwritten)
{
        const uint32_t rest = EXT4_GROW_CREDITS + EXT4_INODE_CREDITS;
        struct jbd2_handle *h;
        int ret = jbd2_start(inode->fs->journal, ext4_map_convert_credits(inode) + rest, 0, &h);

        if (ret < 0)
                return ret;
        if (is_unwritten)
                ret = convert(h, inode, pos, end, rest, EXT4_ALLOC_KEPT);
        if (ret == 0)
                ret = ext4_grow_on_disk(h, inode, end);
        return first_error(ret, jbd2_stop(h));
}

/* ---- writing back, without ---- */

static int held_allocate(struct ext4_inode *inode, uint64_t pos, uint64_t len,
                         struct iomap *ret_map)
{
        const struct handle_need need = {
                .more = ext4_map_remove_credits(inode) + EXT4_GROW_CREDITS + EXT4_INODE_CREDITS,
                .revokes = ext4_map_remove_revokes(inode),
                .end = KEEP_HANDLE,
        };
        const uint32_t max = max_t(uint32_t, MAX_HELD_BYTES >> inode->fs->block_bits, 1);
        struct ext4_map_request req = request_for(inode, pos, len, max);

        req.alloc_flags |= EXT4_ALLOC_KEPT;
        return allocate(inode, &req, &need, ret_map);
}

/* What the data did not get to is taken out again: nobody may see those blocks. */
static int remove_rest(struct jbd2_handle *h, struct ext4_inode *inode, uint64_t from,
                       uint64_t to)
{
        struct ext4_extent_range range = {
                .from = div_round_up(from, inode->fs->block_size),
                .to = to >> inode->fs->block_bits,
                .keep = EXT4_GROW_CREDITS + 2 * EXT4_INODE_CREDITS,
                .revokes = ext4_map_remove_revokes(inode),
        };
        int ret = range.from < range.to ? ext4_map_remove(h, inode, &range) : 0;

        if (ret == 0)
                return 0;
        ret = ret < 0 ? ret : -EIO; /* a run of one pointer block is one step */
        ext4_abort(inode->fs, ret);
        return ret;
}

static int held_end(struct ext4_inode *inode, uint64_t pos, uint64_t done,
                    const struct iomap *map)
{
        struct jbd2_handle *h = jbd2_current(inode->fs->journal);
        int ret = remove_rest(h, inode, done > 0 ? pos + done : map->offset,
                              map->offset + map->length);

        if (ret == 0 && done > 0)
                ret = ext4_grow_on_disk(h, inode, pos + done);
        return first_error(ret, jbd2_stop(h));
}

/* ---- writing back ---- */

static int writeback_begin(struct vfs_inode *vfs, uint64_t pos, uint64_t len, uint32_t op_flags,
                           struct iomap *ret_map)
{
        struct ext4_inode *inode = ext4_inode_of(vfs);
        int ret = ext4_write_look(inode, pos, pos + len, op_flags, ret_map);

        if (ret < 0 || ret_map->type != IOMAP_HOLE)
                return ret;
        return has_extents(inode)
                       ? unwritten_allocate(inode, pos, len, EXT4_ALLOC_KEPT, ret_map)
                       : held_allocate(inode, pos, len, ret_map);
}

static int writeback_end(struct vfs_inode *vfs, uint64_t pos, uint64_t len, uint64_t done,
                         uint32_t op_flags, const struct iomap *map)
{
        struct ext4_inode *inode = ext4_inode_of(vfs);

        if ((map->flags & IOMAP_F_NEW) && !has_extents(inode))
                return held_end(inode, pos, done, map);
        if (done == 0)
                return 0;
        if (map->type == IOMAP_UNWRITTEN || pos + done > inode->disk_size)
                return convert_and_grow(inode, pos, pos + done, map->type == IOMAP_UNWRITTEN);
        return 0;
}

const struct iomap_ops ext4_writeback_ops = {.begin = writeback_begin, .end = writeback_end};

/* ---- into the page cache ---- */

typedef int reserve_fn(struct ext4_inode *inode, ext4_lblk_t lblk, uint64_t len,
                       unsigned alloc_flags);

/* Promise space for some of the blocks from lblk on: `*nr` becomes how many. */
static int promise_some(struct ext4_inode *inode, reserve_fn *reserve, ext4_lblk_t lblk,
                        uint64_t *nr)
{
        const unsigned rights = ext4_alloc_rights(inode->fs);
        int ret;

        while ((ret = reserve(inode, lblk, *nr, rights)) == -ENOSPC && *nr > 1)
                *nr /= 2;
        return ret;
}

/* More is promised to maps than they will need: writing back gives it back.  False when there
 * is nothing to write. */
static bool write_some_back(struct ext4_inode *inode)
{
        bool any = vfs_has_dirty(&inode->vfs.pages);

        if (ext4_delayed_map_clusters(inode->fs) == 0)
                return false;
        if (any)
                (void)vfs_pages_flush(&inode->vfs, 0, UINT64_MAX); /* kept for fsync */
        ext4_delayed_settle(inode);
        return any || vfs_write_oldest(inode->vfs.sb);
}

/*
 * Of what is to be written inside the mapping, for as many blocks as can be.  B16: space may
 * come back from promises that turn out to be too many, and from what was freed.
 */
static int promise(struct ext4_inode *inode, reserve_fn *reserve, uint64_t pos, uint64_t len,
                   const struct iomap *map, uint64_t *ret_nr)
{
        const uint64_t first = pos >> inode->fs->block_bits;
        const uint64_t end = min_t(uint64_t, pos + len, map->offset + map->length);
        const uint64_t all = div_round_up(end, inode->fs->block_size) - first;
        int tries = 0;

        for (;;) {
                int ret, again;

                *ret_nr = all;
                ret = promise_some(inode, reserve, (ext4_lblk_t)first, ret_nr);
                if (ret != -ENOSPC)
                        return ret;
                if (write_some_back(inode))
                        continue;
                again = ext4_balloc_retry(inode->fs, &tries);
                if (again <= 0)
                        return again < 0 ? again : -ENOSPC;
        }
}

static int promise_space(struct ext4_inode *inode, uint64_t pos, uint64_t len,
                         struct iomap *map)
{
        const uint32_t bits = inode->fs->block_bits;
        uint64_t nr;
        int ret = promise(inode, ext4_delayed_reserve, pos, len, map, &nr);

        if (ret < 0)
                return ret;
        *map = (struct iomap){
                .addr = IOMAP_NULL_ADDR,
                .offset = pos >> bits << bits,
                .length = nr << bits,
                .type = IOMAP_DELALLOC,
                .flags = IOMAP_F_NEW | IOMAP_F_DIRTY,
        };
        return 0;
}

/* The blocks are there: nodes, for as much of the mapping as that is for (C33). */
static int promise_conversion(struct ext4_inode *inode, uint64_t pos, uint64_t len,
                              struct iomap *map)
{
        const uint32_t bits = inode->fs->block_bits;
        uint64_t nr;
        int ret = promise(inode, ext4_delayed_reserve_conversion, pos, len, map, &nr);

        if (ret == 0)
                map->length = (((pos >> bits) + nr) << bits) - map->offset;
        return ret;
}

static int buffered_begin(struct vfs_inode *vfs, uint64_t pos, uint64_t len, uint32_t op_flags,
                          struct iomap *ret_map)
{
        struct ext4_inode *inode = ext4_inode_of(vfs);
        int ret = ext4_write_look(inode, pos, pos + len, op_flags, ret_map);

        if (ret < 0)
                return ret;
        if (ret_map->type == IOMAP_HOLE) {
                if (!inode->fs->opts.nodelalloc || !has_extents(inode))
                        return promise_space(inode, pos, len, ret_map);
                ret = unwritten_allocate(inode, pos, len, 0, ret_map);
        }
        if (ret == 0 && ret_map->type == IOMAP_UNWRITTEN)
                ret = promise_conversion(inode, pos, len, ret_map);
        return ret;
}

/* Promises for what was not written in the end are taken back now, or when the rest of the file
 * has been written back. */
static int buffered_end(struct vfs_inode *vfs, uint64_t pos, uint64_t len, uint64_t done,
                        uint32_t op_flags, const struct iomap *map)
{
        if (done > 0)
                ext4_note_written(ext4_inode_of(vfs));
        ext4_delayed_settle(ext4_inode_of(vfs));
        return 0;
}

const struct iomap_ops ext4_buffered_ops = {.begin = buffered_begin, .end = buffered_end};
