/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Where new inodes go.
 *
 * A file goes into its directory's group, so that what is used together is together.  A
 * directory decides where all of its files will be: those directly under the root are
 * spread, others stay near their parent unless that place is crowded (Orlov's scheme).  The
 * unit of this is the flex group, whose inode tables and bitmaps lie together.
 *
 * A unit is crowded when it has far fewer free inodes or clusters, or far more directories than
 * the average: by a quarter of a unit's inodes or clusters, a sixteenth for directories.
 */

#include <sys/stat.h>

#include "ext4/balloc.h"
#include "ext4/ialloc_group.h"

struct unit_counts {
        uint64_t free_inodes;
        uint64_t free_clusters;
        uint64_t dirs;
};

/* ---- counts ---- */

void ext4_ialloc_count(struct ext4_ialloc *ia, ext4_group_t group, const struct ext4_group *old,
                       const struct ext4_group *new)
{
        struct ext4_ialloc_group *g = &ia->groups[group];

        atomic_store(&g->used_dirs, new->used_dirs);
        atomic_fetch_add(&ia->used_dirs, (uint64_t) new->used_dirs - old->used_dirs);
        if (atomic_load(&g->bad))
                return;
        atomic_store(&g->free_inodes, new->free_inodes);
        atomic_fetch_add(&ia->free_inodes, (uint64_t) new->free_inodes - old->free_inodes);
}

void ext4_ialloc_set_bad(struct ext4_ialloc *ia, ext4_group_t group)
{
        uint32_t had;

        ext4_group_lock(ia->fs, group);
        had = atomic_exchange(&ia->groups[group].free_inodes, 0);
        atomic_store(&ia->groups[group].bad, true);
        ext4_group_unlock(ia->fs, group);
        atomic_fetch_sub(&ia->free_inodes, had);
}

/* splitmix64. */
uint32_t ext4_ialloc_random(struct ext4_ialloc *ia)
{
        const uint64_t step = 0x9e3779b97f4a7c15u;
        uint64_t z = atomic_fetch_add(&ia->random, step) + step;

        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        return (uint32_t)(z >> 32);
}

static uint32_t nr_units(const struct ext4_ialloc *ia)
{
        return (uint32_t)div_round_up(ia->fs->nr_groups, ia->groups_per_flex);
}

static struct unit_counts count_unit(const struct ext4_ialloc *ia, uint32_t unit)
{
        ext4_group_t first = unit * ia->groups_per_flex;
        ext4_group_t end =
                min_t(ext4_group_t, ia->fs->nr_groups - first, ia->groups_per_flex) + first;
        struct unit_counts n = {0};

        for (ext4_group_t g = first; g < end; g++) {
                n.free_inodes += atomic_load(&ia->groups[g].free_inodes);
                n.dirs += atomic_load(&ia->groups[g].used_dirs);
                n.free_clusters += ext4_group_free_clusters(ia->fs, g);
        }
        return n;
}

static struct unit_counts average(const struct ext4_ialloc *ia)
{
        uint32_t nr = nr_units(ia);

        return (struct unit_counts){
                .free_inodes = atomic_load(&ia->free_inodes) / nr,
                .free_clusters = ext4_free_clusters(ia->fs) / nr,
                .dirs = atomic_load(&ia->used_dirs) / nr,
        };
}

/* The first group of the unit that has a free inode, or its first. */
static ext4_group_t group_of_unit(const struct ext4_ialloc *ia, uint32_t unit)
{
        ext4_group_t first = unit * ia->groups_per_flex;

        for (ext4_group_t g = first; g < ia->fs->nr_groups && g - first < ia->groups_per_flex;
             g++) {
                if (atomic_load(&ia->groups[g].free_inodes) > 0)
                        return g;
        }
        return first;
}

/* ---- directories ---- */

/* Of the units no worse than the average the one with the fewest directories; from a random
 * one on, so that equals are all used. */
static bool spread(struct ext4_ialloc *ia, uint32_t *ret_unit)
{
        const struct unit_counts avg = average(ia);
        uint32_t nr = nr_units(ia);
        uint32_t start = ext4_ialloc_random(ia) % nr;
        uint64_t fewest = UINT64_MAX;

        for (uint32_t i = 0; i < nr; i++) {
                uint32_t unit = (start + i) % nr;
                const struct unit_counts n = count_unit(ia, unit);

                if (n.free_inodes == 0 || n.free_inodes < avg.free_inodes ||
                    n.free_clusters < avg.free_clusters || n.dirs >= fewest)
                        continue;
                fewest = n.dirs;
                *ret_unit = unit;
        }
        return fewest != UINT64_MAX;
}

static uint64_t less(uint64_t a, uint64_t b)
{
        return a > b ? a - b : 0;
}

/* The first unit from the parent's on that is not crowded. */
static bool stay_near(struct ext4_ialloc *ia, uint32_t parent, uint32_t *ret_unit)
{
        const struct ext4_fs *fs = ia->fs;
        const struct unit_counts avg = average(ia);
        uint64_t inodes = (uint64_t)fs->inodes_per_group * ia->groups_per_flex;
        uint64_t clusters =
                ((uint64_t)fs->blocks_per_group >> fs->cluster_bits) * ia->groups_per_flex;
        const struct unit_counts limit = {
                .free_inodes = max_t(uint64_t, less(avg.free_inodes, inodes / 4), 1),
                .free_clusters = less(avg.free_clusters, clusters / 4),
                .dirs = avg.dirs + inodes / 16,
        };
        uint32_t nr = nr_units(ia);

        for (uint32_t i = 0; i < nr; i++) {
                uint32_t unit = (uint32_t)(((uint64_t)parent + i) % nr);
                const struct unit_counts n = count_unit(ia, unit);

                if (n.free_inodes >= limit.free_inodes &&
                    n.free_clusters >= limit.free_clusters && n.dirs <= limit.dirs) {
                        *ret_unit = unit;
                        return true;
                }
        }
        return false;
}

static ext4_group_t choose_for_dir(struct ext4_ialloc *ia, const struct ext4_inode *parent,
                                   ext4_group_t parent_group)
{
        bool top = ext4_ino(parent) == EXT4_INO_ROOT || (parent->flags & EXT4_FL_TOPDIR);
        uint32_t parent_unit = parent_group / ia->groups_per_flex;
        uint32_t unit;

        if (top && spread(ia, &unit))
                return group_of_unit(ia, unit);
        if (stay_near(ia, parent_unit, &unit))
                return group_of_unit(ia, unit);
        return parent_group;
}

/* ---- all ---- */

ext4_group_t ext4_ialloc_choose(struct ext4_ialloc *ia, const struct ext4_inode *dir,
                                const struct ext4_new_inode *want)
{
        const struct ext4_fs *fs = ia->fs;
        ext4_group_t parent_group = (ext4_ino(dir) - 1) / fs->inodes_per_group;

        if (want->goal != 0 && want->goal <= fs->nr_inodes)
                return (want->goal - 1) / fs->inodes_per_group;
        if (S_ISDIR(want->mode))
                return choose_for_dir(ia, dir, parent_group);
        if (atomic_load(&ia->groups[parent_group].free_inodes) > 0)
                return parent_group;
        return group_of_unit(ia, parent_group / ia->groups_per_flex);
}
