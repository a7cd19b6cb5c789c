/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Freeing blocks.
 *
 * On disk a block is free with the transaction that frees it.  It must not be given out before
 * that is durable (J22): after a power cut it would still be part of the old file, with the new
 * one's bytes in it.  So each group remembers for each transaction what that has freed
 * (struct ext4_freed), and the journal's callback brings it back into the group's space.
 * In between it may be discarded: nobody can want the old bytes, nobody has written new ones.
 */

#include "ext4/balloc_group.h"
#include "util/alloc.h"

/* ---- when the transaction is durable ---- */

static void discard(const struct ext4_freed *f)
{
        struct ext4_fs *fs = f->fs;

        for (uint32_t i = 0; i < f->clusters.nr && !fs->balloc->no_discard; i++) {
                int ret = ext4_discard_run(fs, f->group, f->clusters.runs[i]);

                if (ret == -EOPNOTSUPP)
                        fs->balloc->no_discard = true;
                /* Other errors: the blocks are free whatever the device thinks of them. */
        }
}

static void freed_is_durable(struct jbd2_callback *callback, int err)
{
        struct ext4_freed *f = container_of(callback, struct ext4_freed, callback);
        struct ext4_group_state *gs = ext4_group_state(f->fs, f->group);
        struct ext4_fs *fs = f->fs;

        if (err == 0 && fs->opts.discard)
                discard(f);
        mtx_lock(&gs->lock);
        if (gs->freed == f)
                gs->freed = NULL;
        /* After an abort nothing is given out any more: it stays promised for ever. */
        for (uint32_t i = 0; err == 0 && i < f->clusters.nr; i++) {
                group_space_add(&gs->space, f->clusters.runs[i]);
                gs->nr_promised--;
        }
        ext4_space_publish(fs, f->group);
        mtx_unlock(&gs->lock);
        if (err == 0)
                atomic_fetch_add(&fs->balloc->ready, f->clusters.total);
        atomic_fetch_sub(&fs->balloc->nr_pending, f->clusters.total);
        group_space_done(&f->clusters);
        mem_free(f);
}

/* ---- one group ---- */

/* The record of the handle's transaction, with room for one more run. */
static int get_record(struct jbd2_handle *h, struct ext4_fs *fs, ext4_group_t group,
                      struct ext4_freed **ret_freed)
{
        struct ext4_freed *f = ext4_group_state(fs, group)->freed;
        bool is_new = !f || f->tid != jbd2_tid(h);
        int ret;

        if (is_new) {
                f = mem_zalloc(sizeof(*f));
                if (!f)
                        return -ENOMEM;
                f->callback.fn = freed_is_durable;
                f->fs = fs;
                f->group = group;
                f->tid = jbd2_tid(h);
        }
        ret = group_space_reserve(&f->clusters, 1);
        if (ret < 0 && is_new)
                mem_free(f);
        if (ret == 0)
                *ret_freed = f;
        return ret;
}

static int check_run_locked(struct ext4_fs *fs, ext4_group_t group, struct group_run run)
{
        const struct ext4_where at = {fs, 0, ext4_cluster_block(fs, group, run.start)};
        int ret = ext4_space_load(fs, group);

        if (ret == 0 && group_space_overlaps(&ext4_group_state(fs, group)->space, run))
                ret = ext4_corrupt(&at, "group %u: freeing %u clusters that are free", group,
                                   run.len);
        return ret;
}

/* 1: *ret_freed is new, and to be handed to the journal. */
static int free_run_locked(struct jbd2_handle *h, struct ext4_fs *fs, ext4_group_t group,
                           struct group_run run, struct ext4_freed **ret_freed)
{
        struct ext4_group_state *gs = ext4_group_state(fs, group);
        struct ext4_freed *f = NULL;
        uint32_t nr_before;
        bool is_new;
        int ret = check_run_locked(fs, group, run);

        if (ret == 0)
                ret = ext4_space_reserve(fs, group, 1);
        if (ret == 0)
                ret = get_record(h, fs, group, &f);
        if (ret < 0)
                return ret;
        is_new = f != gs->freed;
        ret = ext4_space_change(h, fs, group, run, EXT4_CHANGE_FREE);
        if (ret < 0) {
                if (is_new) {
                        group_space_done(&f->clusters);
                        mem_free(f);
                }
                return ret;
        }
        nr_before = f->clusters.nr;
        group_space_add(&f->clusters, run);
        gs->nr_promised += f->clusters.nr - nr_before;
        gs->freed = f;
        atomic_fetch_add(&fs->balloc->nr_pending, run.len);
        *ret_freed = f;
        return is_new;
}

/* What was freed counts at once, and can be given out when that is durable.  When it was paid
 * for with a promise, that is to be backed again by what can be given out. */
static void count_run(struct ext4_balloc *b, uint32_t nr, unsigned flags)
{
        if (flags & EXT4_FREE_DELAYED)
                atomic_fetch_sub(&b->ready, nr);
        else
                atomic_fetch_add(&b->free, nr);
}

static int free_run(struct jbd2_handle *h, struct ext4_fs *fs, ext4_group_t group,
                    struct group_run run, unsigned flags)
{
        struct ext4_freed *f = NULL;
        int ret;

        ext4_group_lock(fs, group);
        ret = free_run_locked(h, fs, group, run, &f);
        ext4_group_unlock(fs, group);
        if (ret >= 0)
                count_run(fs->balloc, run.len, flags);
        /* The transaction cannot end while the handle is open: nobody misses it so far. */
        if (ret > 0)
                jbd2_on_commit(h, &f->callback);
        return min_t(int, ret, 0);
}

/* ---- a range ---- */

struct piece {
        ext4_group_t group;
        struct group_run run;
};

/* The part of [*pblk, end) that is in one group; moves on.  False at the end. */
static bool next_piece(const struct ext4_fs *fs, ext4_fsblk_t *pblk, ext4_fsblk_t end,
                       struct piece *ret_piece)
{
        ext4_group_t group;
        ext4_fsblk_t stop;

        if (*pblk >= end)
                return false;
        group = ext4_group_of(fs, *pblk);
        stop = min_t(ext4_fsblk_t, end,
                     ext4_group_first_block(fs, group) + fs->blocks_per_group);
        ret_piece->group = group;
        ret_piece->run.start = ext4_cluster_of(fs, *pblk);
        ret_piece->run.len = (uint32_t)div_round_up(stop - *pblk, 1ull << fs->cluster_bits);
        *pblk = stop;
        return true;
}

static int check_range(const struct ext4_inode *inode, ext4_fsblk_t pblk, uint32_t len)
{
        const struct ext4_where at = ext4_at(inode, pblk);
        const struct ext4_fs *fs = inode->fs;
        uint64_t in_cluster = (1ull << fs->cluster_bits) - 1;

        if (!ext4_blocks_valid(fs, pblk, len))
                return ext4_corrupt(&at, "freeing %u blocks, not all inside", len);
        if (ext4_zones_overlap(&fs->balloc->zones, pblk, len))
                return ext4_corrupt(
                        &at, "freeing %u blocks, some of them the file system's own", len);
        if ((pblk & in_cluster) || ((len & in_cluster) && pblk + len != fs->nr_blocks))
                return ext4_corrupt(&at, "freeing %u blocks, not whole clusters", len);
        return 0;
}

/* Whether all groups of a range seem fit, before the first one changes. */
static int check_pieces(struct ext4_fs *fs, ext4_fsblk_t pblk, ext4_fsblk_t end)
{
        struct piece p;

        while (next_piece(fs, &pblk, end, &p)) {
                int ret;

                ext4_group_lock(fs, p.group);
                ret = check_run_locked(fs, p.group, p.run);
                ext4_group_unlock(fs, p.group);
                if (ret < 0)
                        return ret;
        }
        return 0;
}

static int free_pieces(struct jbd2_handle *h, struct ext4_fs *fs, ext4_fsblk_t pblk,
                       ext4_fsblk_t end, unsigned flags)
{
        bool is_changed = false;
        struct piece p;

        while (next_piece(fs, &pblk, end, &p)) {
                int ret = free_run(h, fs, p.group, p.run, flags);

                if (ret < 0 && is_changed)
                        jbd2_abort(jbd2_of(h), ret);
                if (ret < 0)
                        return ret;
                is_changed = true;
        }
        return 0;
}

/* What the journal has of the blocks is void. */
static void forget_block(struct jbd2_handle *h, struct ext4_fs *fs, ext4_fsblk_t blk,
                         unsigned flags)
{
        struct buf *buf;

        if (flags & EXT4_FREE_META) {
                jbd2_revoke(h, blk, NULL);
        } else if (buf_find(fs->bufs, blk, &buf)) {
                jbd2_forget(h, buf);
                buf_put(buf);
        }
}

int ext4_bfree(struct jbd2_handle *h, struct ext4_inode *inode, ext4_fsblk_t pblk, uint32_t len,
               unsigned flags)
{
        struct ext4_fs *fs = inode->fs;
        int ret = check_range(inode, pblk, len);

        if (ret == 0)
                ret = check_pieces(fs, pblk, pblk + len);
        if (ret == 0)
                ret = free_pieces(h, fs, pblk, pblk + len, flags);
        if (ret < 0)
                return ret;
        if (flags & (EXT4_FREE_META | EXT4_FREE_FORGET)) {
                for (uint32_t i = 0; i < len; i++)
                        forget_block(h, fs, pblk + i, flags);
        }
        return 0;
}
