/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Telling the device what is free: fstrim(8).
 *
 * Groups are visited in turn, and of each the free runs.  While one is discarded it is out of
 * its group's space, so that nobody can be given a part of it; the counts stay, because it
 * comes back whatever the device says.  So an allocation can find nothing though its claim was
 * good: then it searches again with the lock of who trims (ext4_trim_pause()), when nothing is
 * out.
 *
 * What is in a window, or was freed by a transaction that is not durable, is not in the space,
 * and left alone (J22).
 */

#include "ext4/balloc_group.h"
#include "ext4/super_write.h"

struct trimming {
        struct ext4_fs *fs;
        ext4_fsblk_t from, end; /* of all groups */
        uint32_t least;         /* clusters */
        uint64_t nr_trimmed;    /* clusters */
};

void ext4_trim_pause(struct ext4_fs *fs)
{
        mtx_lock(&fs->balloc->trim_lock);
}

void ext4_trim_resume(struct ext4_fs *fs)
{
        mtx_unlock(&fs->balloc->trim_lock);
}

int ext4_discard_run(struct ext4_fs *fs, ext4_group_t group, struct group_run run)
{
        uint64_t pos = ext4_cluster_block(fs, group, run.start) << fs->block_bits;
        uint64_t len = (uint64_t)run.len << (fs->cluster_bits + fs->block_bits);
        uint64_t end = fs->nr_blocks << fs->block_bits;

        return uext4_bdev_discard(fs->vfs.dev, pos, min_t(uint64_t, len, end - pos));
}

/* ---- one group ---- */

/* The clusters of the group that are wholly in the range. */
static struct group_run range_in(const struct trimming *t, ext4_group_t group)
{
        const ext4_fsblk_t first = ext4_group_first_block(t->fs, group);
        uint64_t start = t->from > first ? t->from - first : 0;
        uint64_t stop = min_t(uint64_t, t->fs->blocks_per_group, t->end - first);

        start = div_round_up(start, 1ull << t->fs->cluster_bits);
        stop >>= t->fs->cluster_bits;
        return (struct group_run){(uint32_t)start, stop > start ? (uint32_t)(stop - start) : 0};
}

/* The next run that is long enough, cut to the range, goes out of the space: 1.  0: none. */
static int take_locked(struct trimming *t, ext4_group_t group, struct group_run *range,
                       struct group_run *ret_run)
{
        struct ext4_group_state *gs = ext4_group_state(t->fs, group);
        int ret = ext4_space_load(t->fs, group);

        if (ret == 0)
                ret = ext4_space_reserve(t->fs, group, 2); /* it, and the gap cut */
        while (ret == 0 && range->len >= t->least) {
                struct group_run run = group_space_next(&gs->space, *range);

                if (run.len == 0)
                        break;
                range->len -= run.start + run.len - range->start;
                range->start = run.start + run.len;
                if (run.len < t->least)
                        continue;
                group_space_take(&gs->space, run);
                gs->nr_promised++;
                *ret_run = run;
                return 1;
        }
        return ret;
}

static void give_back(struct ext4_fs *fs, ext4_group_t group, struct group_run run)
{
        struct ext4_group_state *gs = ext4_group_state(fs, group);

        ext4_group_lock(fs, group);
        group_space_add(&gs->space, run);
        gs->nr_promised--;
        ext4_space_publish(fs, group);
        ext4_group_unlock(fs, group);
}

/* As take_locked(), and the run is discarded. */
static int trim_next(struct trimming *t, ext4_group_t group, struct group_run *range)
{
        struct group_run run;
        int ret, err;

        ext4_group_lock(t->fs, group);
        ret = take_locked(t, group, range, &run);
        ext4_group_unlock(t->fs, group);
        if (ret <= 0)
                return ret;
        err = ext4_discard_run(t->fs, group, run);
        give_back(t->fs, group, run);
        if (err == 0)
                t->nr_trimmed += run.len;
        return err < 0 ? err : ret;
}

static int trim_group(struct trimming *t, ext4_group_t group)
{
        struct group_run range = range_in(t, group);
        int ret = 1;

        while (ret > 0 && ext4_group_state(t->fs, group)->longest >= t->least) {
                ext4_trim_pause(t->fs); /* another one who trims waits, too */
                ret = trim_next(t, group, &range);
                ext4_trim_resume(t->fs);
        }
        return ret == -EUCLEAN ? 0 : min_t(int, ret, 0); /* a bad group has been said */
}

/* ---- all ---- */

static int check(struct trimming *t, uint64_t start, uint64_t len, uint64_t least)
{
        struct ext4_fs *fs = t->fs;
        const uint32_t bits = fs->cluster_bits + fs->block_bits;
        const uint64_t size = fs->nr_blocks << fs->block_bits;
        int ret = ext4_writable(fs);

        if (ret < 0)
                return ret;
        if (!(uext4_bdev_geometry(fs->vfs.dev)->caps & UEXT4_BDEV_CAP_DISCARD))
                return -EOPNOTSUPP;
        if (start >= size || len < fs->block_size ||
            least > (uint64_t)fs->blocks_per_group << fs->block_bits)
                return -EINVAL;
        t->least = max_t(uint32_t, (uint32_t)div_round_up(least, 1ull << bits), 1);
        t->from =
                max_t(ext4_fsblk_t, div_round_up(start, fs->block_size), fs->first_data_block);
        t->end = (start + min_t(uint64_t, len, size - start)) >> fs->block_bits;
        return 0;
}

int ext4_trim(struct ext4_fs *fs, uint64_t start, uint64_t len, uint64_t least,
              uint64_t *ret_bytes)
{
        struct trimming t = {.fs = fs};
        int ret = check(&t, start, len, least);

        if (ret < 0)
                return ret;
        for (ext4_group_t group = 0; ret == 0 && group < fs->nr_groups; group++) {
                const ext4_fsblk_t first = ext4_group_first_block(fs, group);

                if (first < t.end && first + fs->blocks_per_group > t.from)
                        ret = trim_group(&t, group);
        }
        if (ret == 0)
                *ret_bytes = t.nr_trimmed << (fs->cluster_bits + fs->block_bits);
        return ret;
}
