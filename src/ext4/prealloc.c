/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Windows: clusters kept in memory for a file that grows, so that files which grow in turn do
 * not take each other's next block.
 *
 * A file has at most one.  It begins at a logical block and a cluster, and whatever the file
 * allocates inside of it takes the place that is meant for it; something outside ends it.
 * Its size follows the file's: the file is thought to double, up to WINDOW_MAX_BYTES.
 *
 * On disk a window is free space.  When space is short all of them are dropped.
 *
 * Who has the inode's map lock finds the window by inode->prealloc; who has the group's lock
 * finds it on the group's list, and may take it away: then nr is 0, and the owner learns of
 * it when he looks.
 */

#include <sys/stat.h>

#include "ext4/balloc_group.h"

#define WINDOW_MIN_BLOCKS 16
#define WINDOW_MAX_BYTES  (8u << 20)
#define WINDOW_SHARE      8 /* no window is more than that part of a group */

static uint64_t next_pow2(uint64_t x)
{
        return x <= 1 ? 1 : 1ull << (64 - __builtin_clzll(x - 1));
}

uint32_t ext4_window_want(const struct ext4_alloc *req, uint32_t need)
{
        const struct ext4_fs *fs = req->inode->fs;
        uint32_t most = fs->blocks_per_group >> fs->cluster_bits;
        uint64_t end = (uint64_t)req->lblk + req->len;
        uint64_t size = next_pow2(end);
        uint64_t want;

        if (!(req->flags & EXT4_ALLOC_DATA) || (req->flags & EXT4_ALLOC_NO_WINDOW) ||
            !S_ISREG(req->inode->mode))
                return need;
        size = min_t(uint64_t, size, max_t(uint64_t, WINDOW_MAX_BYTES >> fs->block_bits, 1));
        size = max_t(uint64_t, size, WINDOW_MIN_BLOCKS);
        end = round_up_pow2(end, size);
        want = div_round_up(end - req->lblk, 1ull << fs->cluster_bits);
        want = min_t(uint64_t, want, need + most / WINDOW_SHARE);
        return max_t(uint32_t, (uint32_t)want, need);
}

/* ---- with the group locked ---- */

static void give_back(struct ext4_fs *fs, ext4_group_t group, struct group_run run)
{
        group_space_add(&ext4_group_state(fs, group)->space, run);
        ext4_space_publish(fs, group);
}

/* It is empty: what is left of it is elsewhere. */
static void end_locked(struct ext4_fs *fs, ext4_group_t group, struct ext4_prealloc *pa)
{
        LIST_REMOVE(pa, link);
        pa->nr = 0;
        ext4_group_state(fs, group)->nr_promised--;
        atomic_fetch_sub_explicit(&fs->balloc->nr_windows, 1, memory_order_relaxed);
}

static void drop_locked(struct ext4_fs *fs, ext4_group_t group, struct ext4_prealloc *pa)
{
        struct group_run run = {pa->start, pa->nr};

        if (pa->nr == 0)
                return;
        end_locked(fs, group, pa);
        give_back(fs, group, run);
}

/* Cut `nr` clusters off the front. */
static struct group_run cut_locked(struct ext4_fs *fs, ext4_group_t group,
                                   struct ext4_prealloc *pa, uint32_t nr)
{
        struct group_run run = {pa->start, nr};

        if (nr == pa->nr) {
                end_locked(fs, group, pa);
                return run;
        }
        pa->start += nr;
        pa->lblk += nr << fs->cluster_bits;
        pa->nr -= nr;
        return run;
}

/* How far inside lblk is, in clusters; pa->nr or more when it is not. */
static uint32_t distance(const struct ext4_fs *fs, const struct ext4_prealloc *pa,
                         ext4_lblk_t lblk)
{
        return lblk < pa->lblk ? UINT32_MAX : (lblk - pa->lblk) >> fs->cluster_bits;
}

/* ---- for the allocator ---- */

bool ext4_window_take(const struct ext4_alloc *req, uint32_t need, ext4_group_t *ret_group,
                      struct group_run *ret_run)
{
        struct ext4_prealloc *pa = &req->inode->prealloc;
        struct ext4_fs *fs = req->inode->fs;
        ext4_group_t group = pa->group;
        uint32_t skip;

        if (!pa->on)
                return false;
        ext4_group_lock(fs, group);
        skip = distance(fs, pa, req->lblk);
        /* Three runs may come of one: the one skipped, the one taken, the rest. */
        if (skip >= pa->nr || ext4_space_reserve(fs, group, 2) < 0) {
                drop_locked(fs, group, pa);
                pa->on = false;
                ext4_group_unlock(fs, group);
                return false;
        }
        if (skip)
                give_back(fs, group, cut_locked(fs, group, pa, skip));
        *ret_run = cut_locked(fs, group, pa, min_t(uint32_t, need, pa->nr));
        *ret_group = group;
        pa->on = pa->nr > 0;
        return true;
}

void ext4_window_put(struct ext4_inode *inode, ext4_group_t group, struct group_run run,
                     ext4_lblk_t lblk)
{
        struct ext4_group_state *gs = ext4_group_state(inode->fs, group);
        struct ext4_prealloc *pa = &inode->prealloc;

        assert(!pa->on && run.len > 0);
        pa->on = true;
        pa->group = group;
        pa->lblk = lblk;
        pa->start = run.start;
        pa->nr = run.len;
        LIST_INSERT_HEAD(&gs->windows, pa, link);
        gs->nr_promised++;
        atomic_fetch_add_explicit(&inode->fs->balloc->nr_windows, 1, memory_order_relaxed);
}

void ext4_windows_drop_all(struct ext4_fs *fs)
{
        for (ext4_group_t group = 0; group < fs->nr_groups; group++) {
                struct ext4_group_state *gs = ext4_group_state(fs, group);

                ext4_group_lock(fs, group);
                while (!LIST_EMPTY(&gs->windows))
                        drop_locked(fs, group, LIST_FIRST(&gs->windows));
                ext4_group_unlock(fs, group);
        }
}

void ext4_prealloc_drop(struct ext4_inode *inode)
{
        struct ext4_prealloc *pa = &inode->prealloc;
        struct ext4_fs *fs = inode->fs;

        if (!pa->on)
                return;
        pa->on = false;
        if (!fs->balloc) /* which has dropped all of them before it went */
                return;
        ext4_group_lock(fs, pa->group);
        drop_locked(fs, pa->group, pa);
        ext4_group_unlock(fs, pa->group);
}
