/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/fallocate.h"

#include <linux/falloc.h>
#include <sys/stat.h>

#include "ext4/cache.h"
#include "ext4/fallocate_shift.h"
#include "ext4/inline_change.h"
#include "ext4/map_change.h"
#include "ext4/setattr.h"
#include "ext4/truncate.h"
#include "ext4/zero.h"

/*
 * Space is allocated unwritten, a piece and a transaction at a time, and the size follows
 * piece by piece: after a cut the file is as long as what it got.  So it is after -ENOSPC.
 *
 * Bytes at the two ends of a range that do not make a whole block are made zeros on the device.
 *
 * What the kernel does not do for files with an indirect map is not done here: all but
 * punching holes.
 */

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80
#endif

/* ---- the range ---- */

struct range {
        struct ext4_inode *inode;
        uint64_t pos, end; /* bytes */
        uint64_t new_size; /* 0: the size stays */
        unsigned alloc_flags;
};

static uint64_t lblk_down(const struct range *r, uint64_t pos)
{
        return pos >> r->inode->fs->block_bits;
}

static uint64_t lblk_up(const struct range *r, uint64_t pos)
{
        return div_round_up(pos, r->inode->fs->block_size);
}

/* ---- allocating ---- */

/* The size that the file has when all blocks before lblk are there. */
static uint64_t size_up_to(const struct range *r, uint64_t lblk)
{
        return min_t(uint64_t, r->new_size, lblk << r->inode->fs->block_bits);
}

/* Under a handle: sizes and times after blocks up to lblk have been allocated or converted. */
static int follow(struct jbd2_handle *h, const struct range *r, uint64_t lblk)
{
        return ext4_grow_and_store(h, r->inode, size_up_to(r, lblk));
}

/* The size is the new one, also when no block had to be changed for it. */
static int finish(const struct range *r)
{
        struct jbd2_handle *h;
        int ret = jbd2_start(r->inode->fs->journal, EXT4_INODE_CREDITS + EXT4_GROW_CREDITS, 0,
                             &h);

        if (ret < 0)
                return ret;
        ret = follow(h, r, EXT4_NR_LBLKS);
        return first_error(ret, jbd2_stop(h));
}

/* One piece from *lblk on: allocated where it is a hole.  *lblk moves behind it. */
static int allocate_piece(const struct range *r, uint64_t *lblk, uint64_t end)
{
        struct ext4_inode *inode = r->inode;
        const struct ext4_map_request req = {
                .lblk = (ext4_lblk_t)*lblk,
                .len = end - *lblk,
                .type = EXT4_MAP_UNWRITTEN,
                .alloc_flags = EXT4_ALLOC_NO_WINDOW | r->alloc_flags,
        };
        struct jbd2_handle *h;
        struct ext4_map map;
        int ret = jbd2_start(inode->fs->journal,
                             ext4_map_alloc_credits(inode) + EXT4_GROW_CREDITS, 0, &h);

        if (ret < 0)
                return ret;
        ret = ext4_map_alloc(h, inode, &req, &map);
        if (ret == 0)
                ret = follow(h, r, map.lblk + map.len);
        if (ret == 0)
                *lblk = map.lblk + map.len;
        return first_error(ret, jbd2_stop(h));
}

/* All blocks that the range touches. */
static int allocate(const struct range *r)
{
        uint64_t lblk = lblk_down(r, r->pos);
        const uint64_t end = lblk_up(r, r->end);
        int tries = 0;

        while (lblk < end) {
                uint64_t before = lblk;
                int ret = allocate_piece(r, &lblk, end);

                if (ret == -ENOSPC) {
                        ret = ext4_balloc_retry(r->inode->fs, &tries); /* B16 */
                        if (ret <= 0)
                                return ret < 0 ? ret : -ENOSPC;
                        continue;
                }
                if (ret < 0)
                        return ret;
                if (lblk > before)
                        tries = 0;
        }
        return 0;
}

/* What lies behind the end of the file must be zeros before the end moves (C23). */
static int prepare_to_grow(const struct range *r)
{
        uint64_t size = vfs_size(&r->inode->vfs);

        return r->new_size > size ? ext4_zero_tail(r->inode, size) : 0;
}

static int mode_allocate(const struct range *r)
{
        int ret = prepare_to_grow(r);

        return ret < 0 ? ret : allocate(r);
}

/* ---- ends of a range ---- */

/* The parts of the first and the last block that the range does not have as a whole. */
static int zero_ends(const struct range *r)
{
        const uint64_t size = r->inode->fs->block_size;
        uint64_t first = min_t(uint64_t, round_up_pow2(r->pos, size), r->end);
        uint64_t last = max_t(uint64_t, round_down_pow2(r->end, size), first);
        int ret = ext4_zero_range(r->inode, r->pos, first - r->pos);

        return ret < 0 ? ret : ext4_zero_range(r->inode, last, r->end - last);
}

/* ---- converting ---- */

/* Give whole blocks [from, to) another type, in as many transactions as it takes; the size
 * follows. */
static int convert(const struct range *r, uint64_t from, uint64_t to, enum ext4_map_type type)
{
        struct ext4_inode *inode = r->inode;
        const uint32_t more = EXT4_INODE_CREDITS + EXT4_GROW_CREDITS;
        struct ext4_extent_range range = {
                .from = from, .to = to, .keep = more, .alloc_flags = r->alloc_flags};
        struct jbd2_handle *h;
        int ret = jbd2_start(inode->fs->journal, ext4_map_convert_credits(inode) + more, 0, &h);
        int err;

        if (ret < 0)
                return ret;
        do {
                ret = ext4_map_convert(h, inode, &range, type);
                if (ret < 0)
                        break;
                err = follow(h, r, ret > 0 ? range.from : to);
                if (err == 0 && ret > 0)
                        err = jbd2_restart(h, ext4_map_convert_credits(inode) + more, 0);
                if (err < 0)
                        ret = err;
        } while (ret > 0);
        return first_error(ret, jbd2_stop(h));
}

/* ---- ZERO_RANGE ---- */

static int mode_zero_range(const struct range *r)
{
        uint64_t from = lblk_up(r, r->pos), to = lblk_down(r, r->end);
        int ret = prepare_to_grow(r);

        if (ret == 0)
                ret = allocate(r);
        if (ret == 0)
                ret = zero_ends(r);
        if (ret == 0 && from < to)
                ret = convert(r, from, to, EXT4_MAP_UNWRITTEN);
        return ret;
}

/* ---- WRITE_ZEROES ---- */

/*
 * Written blocks of zeros.  A piece of the map at a time: zeros to the device first, and when
 * they are there the blocks become written, with a size that covers them (C21).  A cut before
 * that is durable leaves unwritten blocks.
 */
static int write_zeroes_piece(const struct range *r, uint64_t *lblk, uint64_t end)
{
        struct ext4_inode *inode = r->inode;
        struct ext4_map map;
        int ret = ext4_map_lookup(inode, (ext4_lblk_t)*lblk, 0, &map);

        if (ret < 0)
                return ret;
        map.len = min_t(uint64_t, map.len, end - *lblk);
        if (map.type == EXT4_MAP_HOLE)
                return -EUCLEAN; /* it was allocated by this very call */
        ret = ext4_zero_blocks(inode->fs, map.pblk, map.len);
        vfs_written(&inode->vfs); /* order: behind them, or a flush in between would do (B49) */
        if (ret == 0 && map.type == EXT4_MAP_UNWRITTEN)
                ret = convert(r, *lblk, *lblk + map.len, EXT4_MAP_WRITTEN);
        *lblk += map.len;
        return ret;
}

static int mode_write_zeroes(const struct range *r)
{
        uint64_t from = lblk_up(r, r->pos), to = lblk_up(r, r->end);
        struct range space = *r;
        int ret = prepare_to_grow(r);

        space.new_size = 0;
        if (ret == 0 && ext4_journals_data(r->inode))
                return ext4_data_journal_fill(r->inode, r->pos, r->end - r->pos);
        if (ret == 0)
                ret = allocate(&space);
        if (ret == 0)
                ret = zero_ends(r);
        /* A block that only its end is asked of: zeros too, where it is behind the end of the
         * file; else its ends have just been zeroed, and it stays as it is. */
        if (r->end < vfs_size(&r->inode->vfs))
                to = lblk_down(r, r->end);
        while (ret == 0 && from < to)
                ret = write_zeroes_piece(r, &from, to);
        return ret < 0 ? ret : finish(r);
}

/* ---- PUNCH_HOLE ---- */

static int remove_blocks(struct ext4_inode *inode, uint64_t from, uint64_t to)
{
        struct jbd2_handle *h;
        struct ext4_iloc loc;
        int ret = jbd2_start(inode->fs->journal,
                             ext4_map_remove_credits(inode) + EXT4_INODE_CREDITS,
                             ext4_map_remove_revokes(inode), &h);

        if (ret < 0)
                return ret;
        ret = ext4_map_remove_all(h, inode, from, to, EXT4_INODE_CREDITS);
        if (ret == 0)
                ret = ext4_inode_begin(h, inode, &loc);
        if (ret == 0) {
                ext4_touch_changed(inode);
                ext4_inode_store(h, inode, &loc);
        }
        return first_error(ret, jbd2_stop(h));
}

static int mode_punch_hole(struct range *r)
{
        uint64_t size = round_up_pow2(vfs_size(&r->inode->vfs), r->inode->fs->block_size);
        int ret;

        if (r->pos >= vfs_size(&r->inode->vfs))
                return 0; /* what is behind the end stays, as in the kernel */
        r->end = min_t(uint64_t, r->end, size);
        ret = zero_ends(r);
        if (ret < 0)
                return ret;
        /* Also when there is no whole block: the times change. */
        return remove_blocks(r->inode, lblk_up(r, r->pos),
                             max_t(uint64_t, lblk_up(r, r->pos), lblk_down(r, r->end)));
}

/* ---- what may be ---- */

/* Modes that exist; one bit of these, or none, and KEEP_SIZE where it means something. */
static int check_mode(int mode)
{
        switch (mode & ~FALLOC_FL_KEEP_SIZE) {
        case 0:
        case FALLOC_FL_ZERO_RANGE:
                return 0;
        case FALLOC_FL_PUNCH_HOLE:
                return mode & FALLOC_FL_KEEP_SIZE ? 0 : -EOPNOTSUPP;
        case FALLOC_FL_COLLAPSE_RANGE:
        case FALLOC_FL_INSERT_RANGE:
        case FALLOC_FL_WRITE_ZEROES:
                return mode & FALLOC_FL_KEEP_SIZE ? -EOPNOTSUPP : 0;
        default:
                return -EOPNOTSUPP; /* UNSHARE_RANGE: nothing is ever shared */
        }
}

static int check_file(const struct ext4_inode *inode, int mode)
{
        int ret = ext4_may_change(inode);

        if (ret < 0)
                return ret == -EINVAL ? -ENODEV : ret;
        if ((inode->flags & EXT4_FL_APPEND) && (mode & ~FALLOC_FL_KEEP_SIZE))
                return -EPERM;
        return 0;
}

/* What is punched need not be written first, but for the last byte of the file, which moves the
 * size on disk (C22); what moves, or gets other blocks, must. */
static int leave_cache(const struct range *r, int mode)
{
        const bool shifts = mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE);
        const bool punches = mode & FALLOC_FL_PUNCH_HOLE;
        const uint64_t last = max_t(uint64_t, vfs_size(&r->inode->vfs), 1) - 1;

        return ext4_cache_leave(r->inode, punches ? r->pos : 0,
                                punches ? min_t(uint64_t, r->end, last) : 0, /* order: C22 */
                                r->pos, shifts ? UINT64_MAX : r->end);
}

static int run_mode(struct range *r, int mode)
{
        struct ext4_inode *inode = r->inode;

        if (!(inode->flags & EXT4_FL_EXTENTS) && !(mode & FALLOC_FL_PUNCH_HOLE))
                return -EOPNOTSUPP;
        switch (mode & ~FALLOC_FL_KEEP_SIZE) {
        case FALLOC_FL_PUNCH_HOLE:
                return mode_punch_hole(r);
        case FALLOC_FL_ZERO_RANGE:
                return mode_zero_range(r);
        case FALLOC_FL_WRITE_ZEROES:
                return mode_write_zeroes(r);
        case FALLOC_FL_COLLAPSE_RANGE:
                return ext4_collapse_range(inode, r->pos, r->end - r->pos);
        case FALLOC_FL_INSERT_RANGE:
                return ext4_insert_range(inode, r->pos, r->end - r->pos);
        default:
                return mode_allocate(r);
        }
}

/*
 * B16, for what takes a block for a node when an extent is cut in two: making zeros can be done
 * once more, and inserting has done nothing when it says -ENOSPC.
 */
static int run_retrying(struct range *r, int mode)
{
        const bool again = mode & (FALLOC_FL_ZERO_RANGE | FALLOC_FL_INSERT_RANGE);
        int tries = 0;
        int ret;

        do {
                ret = run_mode(r, mode);
        } while (ret == -ENOSPC && again && ext4_balloc_retry(r->inode->fs, &tries) > 0);
        return ret;
}

static int fallocate_locked(struct ext4_inode *inode, int mode, uint64_t pos, uint64_t len)
{
        struct range r = {
                .inode = inode,
                .pos = pos,
                .end = pos + len,
                .alloc_flags = ext4_alloc_rights(inode->fs),
        };
        int ret = check_file(inode, mode);

        if (ret < 0)
                return ret;
        /* What only takes away may reach as far as numbers do. */
        if (r.end > ext4_max_size(inode)) {
                if (!(mode & FALLOC_FL_PUNCH_HOLE))
                        return -EFBIG;
                r.end = max_t(uint64_t, pos, ext4_max_size(inode));
        }
        ret = ext4_drop_privileges(inode);
        if (ret < 0)
                return ret;
        if (inode->flags & EXT4_FL_INLINE_DATA) {
                ret = ext4_inline_to_blocks(inode);
                if (ret < 0)
                        return ret;
        }
        if (!(mode & FALLOC_FL_KEEP_SIZE))
                r.new_size = r.end;
        ret = leave_cache(&r, mode);
        return ret < 0 ? ret : run_retrying(&r, mode);
}

/* What gets another place, or none: the range, or all from there on. */
static int exclude(struct ext4_inode *inode, int mode, uint64_t pos, uint64_t len)
{
        switch (mode & ~FALLOC_FL_KEEP_SIZE) {
        case 0:
                ext4_io_exclude(inode);
                return 0;
        case FALLOC_FL_COLLAPSE_RANGE:
        case FALLOC_FL_INSERT_RANGE:
                return ext4_io_exclude_leases(inode, pos, UINT64_MAX);
        default:
                return ext4_io_exclude_leases(inode, pos, pos + len);
        }
}

int ext4_fallocate(struct ext4_inode *inode, int mode, uint64_t pos, uint64_t len)
{
        int ret;

        if (len == 0 || pos > INT64_MAX || len > INT64_MAX)
                return -EINVAL;
        ret = check_mode(mode);
        if (ret < 0)
                return ret;
        if (len > INT64_MAX - pos)
                return -EFBIG;
        ret = exclude(inode, mode, pos, len);
        if (ret < 0)
                return ret;
        ret = fallocate_locked(inode, mode, pos, len);
        ext4_io_admit(inode);
        return ret;
}
