/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One group's free space: from the bitmap into memory, and changes on disk.
 *
 * Memory: a space stays loaded as long as something is promised to it.  Others are dropped when
 * all spaces together take more than SPACE_BYTES, and built again when needed.
 */

#include "ext4/balloc_group.h"

#include "ext4/bitmap.h"
#include "util/alloc.h"

#define SPACE_BYTES (64u << 20)
#define TRIM_GROUPS 64 /* looked at for memory at a time */

/* ---- memory ---- */

static uint64_t bytes_of(const struct group_space *s)
{
        return (uint64_t)s->cap * sizeof(*s->runs);
}

static void unload(struct ext4_balloc *b, struct ext4_group_state *gs)
{
        atomic_fetch_sub_explicit(&b->space_bytes, bytes_of(&gs->space), memory_order_relaxed);
        group_space_done(&gs->space);
        gs->loaded = false;
}

/*
 * A group is locked already: the others are tried only, which cannot deadlock.  What they know
 * of `longest` stays true, since the disk does not change while they are not loaded.
 */
static void trim(struct ext4_fs *fs, const struct ext4_group_state *keep)
{
        struct ext4_balloc *b = fs->balloc;

        for (unsigned i = 0; i < TRIM_GROUPS && b->space_bytes > SPACE_BYTES; i++) {
                uint32_t hand =
                        atomic_fetch_add_explicit(&b->trim_hand, 1, memory_order_relaxed);
                struct ext4_group_state *gs = &b->groups[hand % fs->nr_groups];

                if (gs == keep || !gs->loaded || !mtx_trylock(&gs->lock))
                        continue;
                if (gs->loaded && gs->nr_promised == 0)
                        unload(b, gs);
                mtx_unlock(&gs->lock);
        }
}

int ext4_space_reserve(struct ext4_fs *fs, ext4_group_t group, uint32_t more)
{
        struct ext4_group_state *gs = ext4_group_state(fs, group);
        uint64_t before = bytes_of(&gs->space);
        int ret = group_space_reserve(&gs->space, gs->nr_promised + more);

        atomic_fetch_add_explicit(&fs->balloc->space_bytes, bytes_of(&gs->space) - before,
                                  memory_order_relaxed);
        return ret;
}

void ext4_space_publish(struct ext4_fs *fs, ext4_group_t group)
{
        struct ext4_group_state *gs = ext4_group_state(fs, group);
        uint32_t longest = gs->bad ? 0 : group_space_longest(&gs->space);

        atomic_store_explicit(&gs->longest, longest, memory_order_relaxed);
}

/* ---- loading ---- */

int ext4_group_condemn(struct ext4_fs *fs, ext4_group_t group)
{
        struct ext4_group_state *gs = ext4_group_state(fs, group);

        if (gs->bad)
                return -EUCLEAN;
        gs->bad = true;
        gs->longest = 0;
        /* What is pending of it comes to `ready` with its transaction, and then makes it up. */
        ext4_clusters_charge(fs->balloc, atomic_exchange(&gs->free, 0));
        log_say(&fs->vfs.log, LOG_ERR, "group %u is not used any more", group);
        return -EUCLEAN;
}

/* The clusters that may be given out: all bits but that of a cluster that the end of the file
 * system cuts. */
static uint32_t nr_whole_clusters(const struct ext4_fs *fs, ext4_group_t group)
{
        uint64_t blocks = min_t(uint64_t, fs->blocks_per_group,
                                fs->nr_blocks - ext4_group_first_block(fs, group));

        return (uint32_t)(blocks >> fs->cluster_bits);
}

static int build(struct ext4_fs *fs, ext4_group_t group)
{
        struct ext4_group_state *gs = ext4_group_state(fs, group);
        _cleanup_mem_ uint8_t *bytes = mem_alloc(fs->block_size);
        struct ext4_where at = {fs, 0, 0};
        struct ext4_group g;
        uint32_t nr_free;
        int ret;

        if (!bytes)
                return -ENOMEM;
        ret = ext4_group_get(fs, group, 0, &g);
        if (ret == 0)
                ret = ext4_bitmap_load(fs, group, &g, EXT4_BLOCK_BITMAP, bytes);
        if (ret < 0)
                return ret;
        at.blk = g.block_bitmap;
        nr_free =
                ext4_bits_count_clear(bytes, ext4_bitmap_nr_bits(fs, group, EXT4_BLOCK_BITMAP));
        if (nr_free != g.free_clusters || nr_free != gs->free)
                return ext4_corrupt(&at, "group %u: %u clusters are free, not %u", group,
                                    nr_free, g.free_clusters);
        ret = group_space_build(&gs->space, bytes, nr_whole_clusters(fs, group));
        if (ret < 0)
                return ret;
        atomic_fetch_add_explicit(&fs->balloc->space_bytes, bytes_of(&gs->space),
                                  memory_order_relaxed);
        return 0;
}

int ext4_space_load(struct ext4_fs *fs, ext4_group_t group)
{
        struct ext4_group_state *gs = ext4_group_state(fs, group);
        int ret;

        if (gs->bad)
                return -EUCLEAN;
        if (gs->loaded)
                return 0;
        ret = build(fs, group);
        if (ext4_is_damage(ret))
                return ext4_group_condemn(fs, group);
        if (ret < 0)
                return ret;
        gs->loaded = true;
        ext4_space_publish(fs, group);
        trim(fs, gs);
        return 0;
}

/* ---- changes on disk ---- */

/* Whether the run's bits are as they must be before the change. */
static bool bits_fit(const struct ext4_bitmap_loc *bm, struct group_run run,
                     enum ext4_change change)
{
        uint32_t end = run.start + run.len;

        if (change == EXT4_CHANGE_TAKE)
                return ext4_bits_next_set(bm->bytes, run.start, end) == end;
        return ext4_bits_next_clear(bm->bytes, run.start, end) == end;
}

/* The same for the count, and for a bitmap that is not there: nothing of it can be freed. */
static bool count_fits(const struct ext4_fs *fs, ext4_group_t group, const struct ext4_group *g,
                       struct group_run run, enum ext4_change change)
{
        uint32_t nr_bits = ext4_bitmap_nr_bits(fs, group, EXT4_BLOCK_BITMAP);

        if (g->free_clusters != ext4_group_state(fs, group)->free || g->free_clusters > nr_bits)
                return false;
        if (change == EXT4_CHANGE_TAKE)
                return run.len <= g->free_clusters;
        return run.len <= nr_bits - g->free_clusters &&
               ext4_bitmap_is_init(fs, g, EXT4_BLOCK_BITMAP);
}

static int say_misfit(const struct ext4_group_loc *at, struct group_run run,
                      enum ext4_change change)
{
        const struct ext4_where where = {at->fs, 0,
                                         ext4_cluster_block(at->fs, at->group, run.start)};

        if (change == EXT4_CHANGE_TAKE)
                return ext4_corrupt(&where, "group %u: taking %u clusters that are in use",
                                    at->group, run.len);
        return ext4_corrupt(&where, "group %u: freeing %u clusters that are free", at->group,
                            run.len);
}

static void store_change(struct jbd2_handle *h, struct ext4_group_loc *at, struct ext4_group *g,
                         struct ext4_bitmap_loc *bm, struct group_run run,
                         enum ext4_change change)
{
        if (change == EXT4_CHANGE_TAKE) {
                ext4_bits_set(bm->bytes, run.start, run.len);
                g->free_clusters -= run.len;
        } else {
                ext4_bits_clear(bm->bytes, run.start, run.len);
                g->free_clusters += run.len;
        }
        ext4_group_state(at->fs, at->group)->free = g->free_clusters;
        ext4_bitmap_store(h, at, bm, g);
        ext4_group_store(h, at, g);
}

int ext4_space_change(struct jbd2_handle *h, struct ext4_fs *fs, ext4_group_t group,
                      struct group_run run, enum ext4_change change)
{
        struct ext4_bitmap_loc bm;
        struct ext4_group_loc at;
        struct ext4_group g;
        bool was_init;
        int ret;

        if (ext4_group_state(fs, group)->bad)
                return -EUCLEAN;
        ret = ext4_group_begin(h, fs, group, &at, &g);
        if (ret < 0)
                return ret;
        was_init = ext4_bitmap_is_init(fs, &g, EXT4_BLOCK_BITMAP);
        if (!count_fits(fs, group, &g, run, change))
                ret = say_misfit(&at, run, change);
        if (ret == 0)
                ret = ext4_bitmap_begin(h, &at, &g, EXT4_BLOCK_BITMAP, &bm);
        if (ret == 0 && was_init && !bits_fit(&bm, run, change)) {
                ext4_bitmap_put(&bm);
                ret = say_misfit(&at, run, change);
        }
        if (ret < 0) {
                ext4_group_loc_put(&at);
                return ret;
        }
        store_change(h, &at, &g, &bm, run, change);
        return 0;
}
