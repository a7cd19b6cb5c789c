/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Allocating and freeing blocks, on images from mke2fs of many kinds.
 *
 * What has been allocated is held in a plain array with a byte for each cluster.  Nobody
 * refers to the blocks: while some are allocated e2fsck may say that, and nothing else; when
 * all were freed it must be content.
 */

#include <sys/stat.h>

#include "ext4/balloc_group.h"
#include "ext4/bitmap.h"
#include "t_write.h"

/* ---- a file system and what it has given out ---- */

enum owner {
        NOBODY,
        TAKEN,
        FREED,  /* by a transaction that is not durable */
        THEIRS, /* in use from the beginning */
};

struct piece {
        ext4_fsblk_t pblk;
        uint32_t len;
};

struct world {
        struct t_write w;
        struct ext4_fs *fs;
        struct ext4_inode inodes[8];
        uint8_t *owner; /* of each cluster of the device */
        struct piece *pieces;
        size_t nr_pieces, cap;
        uint64_t nr_free; /* clusters */
};

static void learn_bitmaps(struct world *w)
{
        uint8_t *bytes = t_alloc(w->fs->block_size);

        for (ext4_group_t group = 0; group < w->fs->nr_groups; group++) {
                uint32_t nr = ext4_bitmap_nr_bits(w->fs, group, EXT4_BLOCK_BITMAP);
                struct ext4_group g;

                T_CHECK(ext4_group_get(w->fs, group, 0, &g) == 0);
                T_CHECK(ext4_bitmap_load(w->fs, group, &g, EXT4_BLOCK_BITMAP, bytes) == 0);
                for (uint32_t i = 0; i < nr; i++) {
                        ext4_fsblk_t blk = ext4_cluster_block(w->fs, group, i);

                        if (bytes[i / 8] >> i % 8 & 1)
                                w->owner[blk >> w->fs->cluster_bits] = THEIRS;
                }
        }
        free(bytes);
}

static void world_begin(struct world *w, struct t_image *img)
{
        memset(w, 0, sizeof(*w));
        t_write_begin(&w->w, img);
        w->fs = w->w.fs;
        for (unsigned i = 0; i < ARRAY_LEN(w->inodes); i++) {
                t_inode_init(&w->inodes[i], w->fs, 12 + i);
                w->inodes[i].mode = S_IFREG | 0644;
        }
        w->owner = t_alloc((w->fs->nr_blocks >> w->fs->cluster_bits) + 1);
        w->nr_free = ext4_free_clusters(w->fs);
        learn_bitmaps(w);
}

static void world_end(struct world *w)
{
        for (unsigned i = 0; i < ARRAY_LEN(w->inodes); i++)
                t_inode_done(&w->inodes[i]);
        T_CHECK(t_write_end(&w->w) == 0);
        free(w->owner);
        free(w->pieces);
}

/* An image of one kind, and its world. */
static struct t_image begin(struct world *w, const char *options, unsigned mib)
{
        struct t_image img = t_mkfs((uint64_t)mib << 20, options, NULL);

        world_begin(w, &img);
        return img;
}

static void remember(struct world *w, struct piece p)
{
        if (w->nr_pieces == w->cap) {
                w->cap = w->cap * 2 + 64;
                w->pieces = realloc(w->pieces, w->cap * sizeof(*w->pieces));
                T_CHECK(w->pieces);
        }
        w->pieces[w->nr_pieces++] = p;
}

/* Every cluster of the piece changes hands. */
static void pass_on(struct world *w, struct piece p, enum owner from, enum owner to)
{
        for (uint32_t i = 0; i < p.len; i += 1u << w->fs->cluster_bits) {
                uint8_t *owner = &w->owner[(p.pblk + i) >> w->fs->cluster_bits];

                if (*owner != from)
                        fail_msg("block %llu is of owner %u, not %u",
                                 (unsigned long long)p.pblk + i, *owner, from);
                *owner = (uint8_t)to;
        }
}

static int alloc(struct world *w, struct ext4_alloc req, struct piece *ret_piece)
{
        struct jbd2_handle *h = t_start(&w->w, EXT4_BALLOC_CREDITS, 0);
        uint32_t cluster = 1u << w->fs->cluster_bits;
        struct piece p;
        int ret;

        if (!req.inode)
                req.inode = &w->inodes[0];
        ret = ext4_balloc(h, &req, &p.pblk, &p.len);
        T_CHECK(jbd2_stop(h) == 0);
        if (ret < 0)
                return ret;
        assert_true(p.len > 0 && p.len <= round_up_pow2(req.len, cluster));
        assert_int_equal((p.pblk | p.len) % cluster, 0);
        assert_true(ext4_blocks_valid(w->fs, p.pblk, p.len));
        assert_false(ext4_zones_overlap(&w->fs->balloc->zones, p.pblk, p.len));
        pass_on(w, p, NOBODY, TAKEN);
        w->nr_free -= p.len >> w->fs->cluster_bits;
        remember(w, p);
        if (ret_piece)
                *ret_piece = p;
        return 0;
}

static int try_free(struct world *w, ext4_fsblk_t pblk, uint32_t len, unsigned flags)
{
        struct jbd2_handle *h =
                t_start(&w->w, ext4_bfree_credits(w->fs, len), ext4_bfree_revokes(len, flags));
        int ret = ext4_bfree(h, &w->inodes[0], pblk, len, flags);

        T_CHECK(jbd2_stop(h) == 0);
        return ret;
}

static void free_piece(struct world *w, size_t i, unsigned flags)
{
        struct piece p = w->pieces[i];

        assert_int_equal(try_free(w, p.pblk, p.len, flags), 0);
        pass_on(w, p, TAKEN, FREED);
        w->nr_free += p.len >> w->fs->cluster_bits;
        w->pieces[i] = w->pieces[--w->nr_pieces];
}

static void commit(struct world *w)
{
        uint64_t nr = (w->fs->nr_blocks >> w->fs->cluster_bits) + 1;

        assert_int_equal(jbd2_commit_all(w->fs->journal), 0);
        for (uint64_t i = 0; i < nr; i++) {
                if (w->owner[i] == FREED)
                        w->owner[i] = NOBODY;
        }
}

static void free_all(struct world *w)
{
        while (w->nr_pieces)
                free_piece(w, w->nr_pieces - 1, 0);
}

static void assert_fsck(const char *name, const struct t_image *img, bool leaks_are_fine)
{
        const char *complaint = t_fsck(img, leaks_are_fine);

        if (complaint)
                fail_msg("%s: e2fsck: %s", name, complaint);
}

/* ---- all kinds of images ---- */

static void random_step(struct world *w, uint64_t *rng)
{
        static const unsigned flags[] = {EXT4_ALLOC_DATA, EXT4_ALLOC_META,
                                         EXT4_ALLOC_DATA | EXT4_ALLOC_NO_WINDOW};
        uint32_t mask = ~((1u << w->fs->cluster_bits) - 1);
        uint64_t what = t_below(rng, 100);
        int ret;

        if (what < 60) {
                struct ext4_alloc req = {
                        .inode = &w->inodes[t_below(rng, ARRAY_LEN(w->inodes))],
                        .lblk = (ext4_lblk_t)t_below(rng, 1u << t_below(rng, 20)) & mask,
                        .goal = t_below(rng, 2) ? t_below(rng, w->fs->nr_blocks) : 0,
                        .len = 1 + (uint32_t)t_below(rng, 1u << t_below(rng, 12)),
                        .flags = flags[t_below(rng, ARRAY_LEN(flags))] | EXT4_ALLOC_RESERVED,
                };

                ret = alloc(w, req, NULL);
                assert_true(ret == 0 || ret == -ENOSPC);
        } else if (what < 90 && w->nr_pieces) {
                free_piece(w, t_below(rng, w->nr_pieces), t_below(rng, 2) ? EXT4_FREE_META : 0);
        } else if (what < 93) {
                ext4_prealloc_drop(&w->inodes[t_below(rng, ARRAY_LEN(w->inodes))]);
        } else if (what < 96) {
                commit(w);
        }
        assert_int_equal(ext4_free_clusters(w->fs), w->nr_free);
}

/* The bitmaps on disk, read by nobody's memory, are the array. */
static void assert_bitmaps(struct world *w, const char *name, struct t_image *img)
{
        uint8_t *owner = w->owner;
        struct world again;
        uint64_t nr;

        world_begin(&again, img);
        nr = again.fs->nr_blocks >> again.fs->cluster_bits;
        for (uint64_t i = 0; i < nr; i++) {
                if ((again.owner[i] == THEIRS) != (owner[i] == TAKEN || owner[i] == THEIRS))
                        fail_msg("%s: cluster %llu is wrong", name, (unsigned long long)i);
        }
        t_assert_row(name, ext4_free_clusters(again.fs), w->nr_free);
        world_end(&again);
}

static void random_changes_on_every_kind(void **state)
{
        uint64_t rng = t_seed();

        for (size_t i = 0; i < ARRAY_LEN(t_configs); i += t_sweep_step(3)) {
                const char *name = t_configs[i].name;
                struct world w;
                struct t_image img = begin(&w, t_configs[i].options, t_configs[i].mib);

                for (unsigned step = 0; step < 1500; step++)
                        random_step(&w, &rng);
                t_assert_row(name, w.w.m.log.nr_lines, 0);
                for (unsigned n = 0; n < ARRAY_LEN(w.inodes); n++)
                        ext4_prealloc_drop(&w.inodes[n]);
                assert_int_equal(jbd2_flush(w.fs->journal), 0);
                assert_bitmaps(&w, name, &img);
                assert_fsck(name, &img, true);
                free_all(&w);
                world_end(&w);
                assert_fsck(name, &img, false);
                t_image_free(&img);
        }
}

/* ---- where blocks go ---- */

#define PLAIN "-b 1024 -O " T_EXT4

static void a_goal_that_is_free_is_met(void **state)
{
        struct ext4_alloc req = {.len = 5, .flags = EXT4_ALLOC_DATA | EXT4_ALLOC_NO_WINDOW};
        struct piece first, second, third;
        struct world w;
        struct t_image img = begin(&w, PLAIN, 48);

        assert_int_equal(alloc(&w, req, &first), 0);
        req.goal = first.pblk + 100;
        assert_int_equal(alloc(&w, req, &second), 0);
        assert_int_equal(second.pblk, first.pblk + 100);
        /* Up to what is in use, and no further. */
        req.goal = second.pblk - 3;
        assert_int_equal(alloc(&w, req, &third), 0);
        assert_int_equal(third.pblk, second.pblk - 3);
        assert_int_equal(third.len, 3);
        world_end(&w);
        t_image_free(&img);
}

static void metadata_fill_gaps(void **state)
{
        struct ext4_alloc req = {.len = 1, .flags = EXT4_ALLOC_DATA | EXT4_ALLOC_NO_WINDOW};
        struct piece data, meta;
        struct world w;
        struct t_image img = begin(&w, PLAIN, 48);

        assert_int_equal(alloc(&w, req, &data), 0);
        req.goal = data.pblk + 3; /* leaves a gap of two */
        assert_int_equal(alloc(&w, req, NULL), 0);
        req.goal = data.pblk; /* taken */
        req.flags = EXT4_ALLOC_META;
        req.len = 2;
        assert_int_equal(alloc(&w, req, &meta), 0);
        assert_int_equal(meta.pblk, data.pblk + 1);
        world_end(&w);
        t_image_free(&img);
}

/* What is known of a group's space may go when memory is short; it is learned again. */
static void what_is_known_of_space_makes_place_for_more(void **state)
{
        struct ext4_alloc req = {.len = 1, .flags = EXT4_ALLOC_META};
        const uint64_t much = 1ull << 40;
        struct piece first, second, third;
        struct ext4_balloc *b;
        struct world w;
        struct t_image img = begin(&w, PLAIN " -g 1024", 48);

        b = w.fs->balloc;
        req.goal = ext4_cluster_block(w.fs, 3, 500);
        assert_int_equal(alloc(&w, req, &first), 0);
        assert_true(b->groups[3].loaded);
        atomic_fetch_add(&b->space_bytes, much);
        req.goal = ext4_cluster_block(w.fs, 4, 500);
        assert_int_equal(alloc(&w, req, &second), 0);
        atomic_fetch_sub(&b->space_bytes, much);
        assert_false(b->groups[3].loaded);
        assert_true(b->groups[4].loaded); /* this one is needed */
        assert_true(b->space_bytes < much);
        req.goal = first.pblk;
        assert_int_equal(alloc(&w, req, &third), 0);
        assert_true(b->groups[3].loaded);
        assert_int_not_equal(third.pblk, first.pblk);
        world_end(&w);
        t_image_free(&img);
}

/* Eight files grow in turn by a block.  The pieces that each is in may double in size. */
static void appenders_in_turn_do_not_fragment_each_other(void **state)
{
        unsigned nr_extents[8] = {};
        ext4_fsblk_t last[8] = {};
        struct world w;
        struct t_image img = begin(&w, "-b 4096 -O " T_EXT4, 256);

        for (ext4_lblk_t lblk = 0; lblk < 4096; lblk++) {
                for (unsigned i = 0; i < 8; i++) {
                        struct ext4_alloc req = {.inode = &w.inodes[i],
                                                 .lblk = lblk,
                                                 .goal = last[i] ? last[i] + 1 : 0,
                                                 .len = 1,
                                                 .flags = EXT4_ALLOC_DATA};
                        struct piece p;

                        assert_int_equal(alloc(&w, req, &p), 0);
                        nr_extents[i] += p.pblk != last[i] + 1;
                        last[i] = p.pblk;
                }
        }
        /* 16, 16, 32, 64, ... 1024, 2048 blocks are nine. */
        for (unsigned i = 0; i < 8; i++)
                assert_true(nr_extents[i] <= 9);
        world_end(&w);
        t_image_free(&img);
}

static void a_window_goes_with_its_owner(void **state)
{
        struct ext4_alloc req = {.len = 1, .flags = EXT4_ALLOC_DATA};
        struct piece mine, theirs;
        struct world w;
        struct t_image img = begin(&w, PLAIN, 48);

        assert_int_equal(alloc(&w, req, &mine), 0);
        req.inode = &w.inodes[1];
        req.goal = mine.pblk + 1;
        assert_int_equal(alloc(&w, req, &theirs), 0);
        assert_true(theirs.pblk > mine.pblk + 8);
        ext4_prealloc_drop(&w.inodes[0]);
        ext4_prealloc_drop(&w.inodes[1]);
        assert_int_equal(alloc(&w, req, &theirs), 0);
        assert_int_equal(theirs.pblk, mine.pblk + 1);
        world_end(&w);
        t_image_free(&img);
}

/* ---- the end of space ---- */

static int fill(struct world *w, unsigned flags, uint32_t len)
{
        struct ext4_alloc req = {.len = len, .flags = flags};
        int ret;

        while ((ret = alloc(w, req, NULL)) == 0)
                req.lblk += len;
        return ret;
}

static void reserves_are_for_whom_they_are(void **state)
{
        struct world w;
        struct t_image img = begin(&w, PLAIN, 16);

        assert_true(w.fs->balloc->pool > 0 && w.fs->balloc->reserved > 0);
        assert_int_equal(fill(&w, EXT4_ALLOC_DATA, 100), -ENOSPC);
        assert_int_equal(ext4_free_clusters(w.fs), w.fs->balloc->pool + w.fs->balloc->reserved);
        assert_int_equal(fill(&w, EXT4_ALLOC_META | EXT4_ALLOC_RESERVED, 1), -ENOSPC);
        assert_int_equal(ext4_free_clusters(w.fs), w.fs->balloc->pool);
        assert_int_equal(fill(&w, EXT4_ALLOC_META | EXT4_ALLOC_POOL, 7), -ENOSPC);
        assert_int_equal(ext4_free_clusters(w.fs), 0);
        assert_int_equal(w.w.m.log.nr_lines, 0);
        free_all(&w);
        world_end(&w);
        assert_fsck("full", &img, false);
        t_image_free(&img);
}

static void the_reserve_has_a_user_and_a_group(void **state)
{
        struct world w;
        struct t_image img = t_mkfs(16 << 20, PLAIN, NULL);

        t_super(&img)->s_def_resuid = le16_make(7);
        t_super(&img)->s_def_resgid = le16_make(9);
        t_super_seal(t_super(&img));
        world_begin(&w, &img);
        assert_true(ext4_reserved_is_for(w.fs, 0, 1));
        assert_true(ext4_reserved_is_for(w.fs, 7, 1));
        assert_true(ext4_reserved_is_for(w.fs, 1, 9));
        assert_false(ext4_reserved_is_for(w.fs, 1, 1));
        assert_false(ext4_reserved_is_for(w.fs, 1, 0));
        world_end(&w);
        t_image_free(&img);
}

/* Freed is not yet usable; a commit makes it so, and who asks is told to try (B16, J22). */
static void freed_space_comes_back_with_the_commit(void **state)
{
        struct ext4_alloc req = {.len = 1, .flags = EXT4_ALLOC_META | EXT4_ALLOC_POOL};
        struct world w;
        struct t_image img = begin(&w, PLAIN, 16);
        int tries = 0;

        assert_int_equal(fill(&w, EXT4_ALLOC_DATA | EXT4_ALLOC_POOL, 1000), -ENOSPC);
        commit(&w);
        assert_int_equal(ext4_balloc_retry(w.fs, &tries), 0);
        free_piece(&w, 3, 0);
        assert_int_equal(alloc(&w, req, NULL), -ENOSPC);
        tries = 0;
        assert_int_equal(ext4_balloc_retry(w.fs, &tries), 1);
        commit(&w); /* of the array */
        assert_int_equal(alloc(&w, req, NULL), 0);
        tries = 3;
        free_piece(&w, 3, 0);
        assert_int_equal(ext4_balloc_retry(w.fs, &tries), 0);
        world_end(&w);
        t_image_free(&img);
}

static void windows_are_given_up_when_space_is_short(void **state)
{
        struct ext4_alloc req = {.len = 1, .flags = EXT4_ALLOC_DATA | EXT4_ALLOC_POOL};
        struct world w;
        struct t_image img = begin(&w, PLAIN, 16);

        req.inode = &w.inodes[1];
        req.lblk = 5000;
        assert_int_equal(alloc(&w, req, NULL), 0);
        assert_true(w.inodes[1].prealloc.nr > 100);
        assert_int_equal(fill(&w, EXT4_ALLOC_META | EXT4_ALLOC_POOL, 64), -ENOSPC);
        assert_int_equal(ext4_free_clusters(w.fs), 0);
        assert_int_equal(w.inodes[1].prealloc.nr, 0);
        req.lblk++;
        assert_int_equal(alloc(&w, req, NULL), -ENOSPC);
        world_end(&w);
        t_image_free(&img);
}

/* ---- what must not be freed ---- */

static ext4_fsblk_t journal_block(struct world *w)
{
        struct ext4_inode *inode;
        struct ext4_map map;

        T_CHECK(ext4_iget(w->fs, EXT4_INO_JOURNAL, &inode) == 0);
        rwsem_read_lock(&inode->vfs.lock);
        T_CHECK(ext4_map_lookup(inode, 100, 0, &map) == 0);
        rwsem_read_unlock(&inode->vfs.lock);
        ext4_iput(inode);
        return map.pblk;
}

static void wrong_frees_change_nothing(void **state)
{
        struct ext4_alloc req = {.len = 4, .flags = EXT4_ALLOC_DATA};
        struct ext4_group g;
        struct piece p;
        struct world w;
        struct t_image img = begin(&w, PLAIN, 48);
        uint64_t nr_free;

        assert_int_equal(alloc(&w, req, &p), 0);
        assert_int_equal(ext4_group_get(w.fs, 1, 0, &g), 0);
        nr_free = ext4_free_clusters(w.fs);
        assert_int_equal(try_free(&w, w.fs->nr_blocks - 1, 2, 0), -EUCLEAN);
        assert_int_equal(try_free(&w, 0, 1, 0), -EUCLEAN);
        assert_int_equal(try_free(&w, UINT64_MAX, 1, 0), -EUCLEAN);
        assert_int_equal(try_free(&w, g.inode_table, 1, 0), -EUCLEAN);
        assert_int_equal(try_free(&w, g.block_bitmap, 1, 0), -EUCLEAN);
        assert_int_equal(try_free(&w, journal_block(&w), 1, 0), -EUCLEAN);
        assert_int_equal(try_free(&w, 1, 1, 0), -EUCLEAN);          /* the superblock */
        assert_int_equal(try_free(&w, p.pblk + 4, 1, 0), -EUCLEAN); /* in the window */
        assert_int_equal(try_free(&w, p.pblk, 5, 0), -EUCLEAN);
        ext4_prealloc_drop(&w.inodes[0]);
        assert_int_equal(try_free(&w, p.pblk + 4, 1, 0), -EUCLEAN);
        assert_int_equal(ext4_free_clusters(w.fs), nr_free);
        free_piece(&w, 0, 0);
        assert_int_equal(try_free(&w, p.pblk, 4, 0), -EUCLEAN); /* in this transaction */
        commit(&w);
        assert_int_equal(try_free(&w, p.pblk, 4, 0), -EUCLEAN);
        assert_int_equal(jbd2_error(w.fs->journal), 0);
        world_end(&w);
        assert_fsck("wrong frees", &img, false);
        t_image_free(&img);
}

static void a_run_over_several_groups_is_freed_at_once(void **state)
{
        struct ext4_alloc req = {.len = 4096, .flags = EXT4_ALLOC_DATA | EXT4_ALLOC_NO_WINDOW};
        ext4_fsblk_t first = 0;
        uint32_t len = 0;
        struct world w;
        struct t_image img = begin(&w, "-b 1024 -g 2048 -G 16 -O " T_EXT4, 32);
        struct piece p;

        /* From a group's start on, groups that have nothing of their own. */
        req.goal = 1 + 2048 * 10;
        while (len < 3 * 2048) {
                assert_int_equal(alloc(&w, req, &p), 0);
                assert_true(first == 0 || p.pblk == first + len);
                if (first == 0)
                        first = p.pblk;
                len += p.len;
                req.goal = first + len;
        }
        assert_int_equal(try_free(&w, first, len, 0), 0);
        world_end(&w);
        assert_fsck("several groups", &img, false);
        t_image_free(&img);
}

/* ---- what can go wrong ---- */

static void without_memory_nothing_changes(void **state)
{
        struct ext4_alloc req = {.len = 3, .flags = EXT4_ALLOC_DATA};
        struct world w;
        struct t_image img = begin(&w, PLAIN, 48);
        unsigned nr_failed = 0;

        for (int64_t n = 0; n < 40; n++) {
                struct jbd2_handle *h = t_start(&w.w, 8, 0);
                struct ext4_inode *inode = &w.inodes[n % 8];
                uint64_t nr_free = ext4_free_clusters(w.fs);
                struct piece p;
                int ret;

                req.inode = inode;
                req.goal = t_below(&(uint64_t){(uint64_t)n}, w.fs->nr_blocks);
                mem_fail_after(n % 8);
                ret = ext4_balloc(h, &req, &p.pblk, &p.len);
                mem_fail_after(-1);
                if (ret < 0) {
                        assert_int_equal(ret, -ENOMEM);
                        assert_int_equal(ext4_free_clusters(w.fs), nr_free);
                        nr_failed++;
                } else {
                        mem_fail_after(n / 8);
                        ret = ext4_bfree(h, inode, p.pblk, p.len, 0);
                        mem_fail_after(-1);
                        assert_true(ret == 0 || ret == -ENOMEM);
                        if (ret < 0)
                                assert_int_equal(ext4_bfree(h, inode, p.pblk, p.len, 0), 0);
                        assert_int_equal(ext4_free_clusters(w.fs), nr_free);
                }
                T_CHECK(jbd2_stop(h) == 0);
        }
        assert_true(nr_failed > 0);
        assert_int_equal(w.w.m.log.nr_lines, 0);
        world_end(&w);
        assert_fsck("no memory", &img, false);
        t_image_free(&img);
}

static void after_an_abort_nothing_is_given_out(void **state)
{
        struct ext4_alloc req = {.len = 3, .flags = EXT4_ALLOC_DATA};
        struct world w;
        struct t_image img = begin(&w, PLAIN, 48);
        struct jbd2_handle *h = t_start(&w.w, 4, 0);
        struct piece p;

        req.inode = &w.inodes[0];
        assert_int_equal(ext4_balloc(h, &req, &p.pblk, &p.len), 0);
        jbd2_abort(w.fs->journal, -EIO);
        assert_int_equal(ext4_balloc(h, &req, &p.pblk, &p.len), -EROFS);
        assert_int_equal(ext4_bfree(h, req.inode, p.pblk, p.len, 0), -EROFS);
        assert_int_equal(ext4_free_clusters(w.fs), w.nr_free - p.len);
        assert_true(jbd2_stop(h) < 0);
        for (unsigned i = 0; i < ARRAY_LEN(w.inodes); i++)
                t_inode_done(&w.inodes[i]);
        assert_true(t_write_end(&w.w) < 0);
        free(w.owner);
        t_image_free(&img);
}

/* A group with a wrong bitmap is passed over, though the goal is in it. */
static void damaged_groups_are_passed_over(void **state)
{
        struct ext4_alloc req = {.len = 10, .flags = EXT4_ALLOC_DATA};
        struct t_image img = t_mkfs(12 << 20, "-b 1024 -g 1024 -O " T_EXT4 ",^flex_bg", NULL);
        struct ext4_group g;
        struct piece p;
        struct world w;

        world_begin(&w, &img);
        assert_int_equal(ext4_group_get(w.fs, 0, 0, &g), 0);
        world_end(&w);
        img.data[(g.block_bitmap << 10) + 100] ^= 1;
        t_write_begin(&w.w, &img);
        w.fs = w.w.fs;
        t_inode_init(&w.inodes[0], w.fs, 12);
        w.inodes[0].mode = S_IFREG;
        req.inode = &w.inodes[0];
        req.goal = 1000;
        for (unsigned i = 0; i < 3; i++) {
                struct jbd2_handle *h = t_start(&w.w, EXT4_BALLOC_CREDITS, 0);

                assert_int_equal(ext4_balloc(h, &req, &p.pblk, &p.len), 0);
                assert_true(ext4_group_of(w.fs, p.pblk) != 0);
                T_CHECK(jbd2_stop(h) == 0);
        }
        assert_true(t_log_has(&w.w.m.log, "group 0 is not used any more"));
        assert_int_equal(w.w.m.log.nr_lines, 2);
        t_inode_done(&w.inodes[0]);
        assert_int_equal(t_write_end(&w.w), 0);
        t_image_free(&img);
}

/* A window in a group that turns out to be damaged is left for another place. */
static void a_window_in_a_damaged_group_is_left(void **state)
{
        struct ext4_alloc req = {.len = 1, .flags = EXT4_ALLOC_DATA};
        struct piece p, next;
        struct world w;
        struct t_image img = begin(&w, PLAIN, 48);

        assert_int_equal(alloc(&w, req, &p), 0);
        assert_true(w.inodes[0].prealloc.nr > 0);
        ext4_group_lock(w.fs, ext4_group_of(w.fs, p.pblk));
        ext4_group_condemn(w.fs, ext4_group_of(w.fs, p.pblk));
        ext4_group_unlock(w.fs, ext4_group_of(w.fs, p.pblk));
        req.lblk = 1;
        req.goal = p.pblk + 1;
        assert_int_equal(alloc(&w, req, &next), 0);
        assert_true(ext4_group_of(w.fs, next.pblk) != ext4_group_of(w.fs, p.pblk));
        assert_int_equal(try_free(&w, p.pblk, 1, 0), -EUCLEAN);
        world_end(&w);
        t_image_free(&img);
}

/* Its bitmap gives an I/O error: others serve, and when none can the error is told. */
static void a_group_that_cannot_be_read_is_passed_over(void **state)
{
        struct ext4_alloc req = {.len = 1000, .flags = EXT4_ALLOC_DATA};
        struct t_image img = t_mkfs(12 << 20, "-b 1024 -O extents", NULL);
        struct uext4_bdev *buffer, *fault;
        struct uext4_bdev_fault rule = {.ops = 1u << UEXT4_BDEV_READ, .error = -EIO};
        struct ext4_inode inode;
        struct jbd2_handle *h;
        struct ext4_group g;
        struct t_write w;
        struct piece p;
        int ret;

        assert_int_equal(uext4_bdev_open_buffer(img.data, img.size, 0, &buffer), 0);
        assert_int_equal(uext4_bdev_open_fault(buffer, &fault), 0);
        t_write_begin_on(&w, fault, false);
        t_inode_init(&inode, w.fs, 12);
        inode.mode = S_IFREG;
        req.inode = &inode;
        req.goal = 5000;
        h = t_start(&w, 8, 0);
        assert_int_equal(ext4_group_get(w.fs, 0, 0, &g), 0);
        rule.pos = g.block_bitmap << 10;
        rule.len = 1024;
        assert_int_equal(uext4_bdev_fault_add(fault, &rule), 0);
        assert_int_equal(ext4_balloc(h, &req, &p.pblk, &p.len), 0);
        assert_int_equal(ext4_group_of(w.fs, p.pblk), 1);
        req.flags |= EXT4_ALLOC_POOL;
        while ((ret = ext4_balloc(h, &req, &p.pblk, &p.len)) == 0)
                req.lblk += p.len;
        assert_int_equal(ret, -EIO);
        uext4_bdev_fault_clear(fault);
        while ((ret = ext4_balloc(h, &req, &p.pblk, &p.len)) == 0)
                req.lblk += p.len;
        assert_int_equal(ret, -ENOSPC);
        assert_int_equal(ext4_free_clusters(w.fs), 0);
        T_CHECK(jbd2_stop(h) == 0);
        t_inode_done(&inode);
        assert_int_equal(t_write_end(&w), 0);
        t_image_free(&img);
}

/* ---- discard ---- */

/* Whether the trace has a discard of these bytes, behind all of its flushes. */
static bool discarded_last(struct uext4_bdev *trace, uint64_t pos, uint64_t len)
{
        struct uext4_bdev_trace_entry entries[64];
        size_t nr = uext4_bdev_trace_list(trace, entries, ARRAY_LEN(entries));
        bool found = false;

        for (size_t i = 0; i < nr; i++) {
                if (entries[i].op == UEXT4_BDEV_DISCARD)
                        found = entries[i].pos == pos && entries[i].len == len;
                else if (entries[i].op == UEXT4_BDEV_FLUSH || entries[i].flags)
                        found = false;
        }
        return found;
}

/* Before, a power cut could bring back a file whose blocks are gone. */
static void what_was_freed_is_discarded_once_that_is_durable(void **state)
{
        struct ext4_alloc req = {.len = 9, .flags = EXT4_ALLOC_META};
        struct t_image img = t_mkfs(48 << 20, PLAIN, NULL);
        const struct uext4_bdev_sim_params params = {
                .size = img.size, .image = img.data, .caps = UEXT4_BDEV_CAP_DISCARD};
        struct uext4_bdev *sim, *trace;
        struct ext4_inode inode;
        struct jbd2_handle *h;
        struct t_write w;
        struct piece p;

        assert_int_equal(uext4_bdev_open_sim(&params, &sim), 0);
        assert_int_equal(uext4_bdev_open_trace(sim, 64, &trace), 0);
        t_write_begin_on(&w, trace, true);
        t_inode_init(&inode, w.fs, 12);
        req.inode = &inode;
        h = t_start(&w, 4, 0);
        assert_int_equal(ext4_balloc(h, &req, &p.pblk, &p.len), 0);
        assert_int_equal(ext4_bfree(h, &inode, p.pblk, 4, 0), 0);
        assert_int_equal(ext4_bfree(h, &inode, p.pblk + 4, 5, 0), 0);
        T_CHECK(jbd2_stop(h) == 0);
        uext4_bdev_trace_reset(trace);
        assert_int_equal(jbd2_commit_all(w.fs->journal), 0);
        assert_true(discarded_last(trace, p.pblk << 10, 9 << 10));
        t_inode_done(&inode);
        assert_int_equal(t_write_end(&w), 0);
        t_image_free(&img);
}

/* ---- threads ---- */

#define NR_WORKERS 4

/* Most of the space is pending most of the time: whoever finds none asks for it. */
static void take(struct world *w, const struct ext4_alloc *req, struct piece *p)
{
        int tries = 0;
        int ret;

        do {
                struct jbd2_handle *h = t_start(&w->w, EXT4_BALLOC_CREDITS, 0);

                ret = ext4_balloc(h, req, &p->pblk, &p->len);
                T_CHECK(jbd2_stop(h) == 0);
        } while (ret == -ENOSPC && ext4_balloc_retry(w->fs, &tries) == 1);
        T_CHECK(ret == 0);
}

static void give(struct world *w, struct ext4_inode *inode, struct piece *p)
{
        struct jbd2_handle *h = t_start(&w->w, ext4_bfree_credits(w->fs, p->len), 0);

        T_CHECK(ext4_bfree(h, inode, p->pblk, p->len, 0) == 0);
        T_CHECK(jbd2_stop(h) == 0);
        p->len = 0;
}

/* Allocate and free what is one's own; the last thread commits and reads descriptors. */
static void work(struct world *w, unsigned n)
{
        struct ext4_inode *inode = &w->inodes[n];
        struct piece mine[32] = {};
        uint64_t rng = n + 1;

        for (unsigned step = 0; step < 1500; step++) {
                struct piece *p = &mine[t_below(&rng, ARRAY_LEN(mine))];
                struct ext4_alloc req = {.inode = inode,
                                         .lblk = step,
                                         .len = 1 + (uint32_t)t_below(&rng, 60),
                                         .flags = EXT4_ALLOC_DATA};

                if (p->len)
                        give(w, inode, p);
                else
                        take(w, &req, p);
        }
        for (unsigned i = 0; i < ARRAY_LEN(mine); i++) {
                if (mine[i].len)
                        give(w, inode, &mine[i]);
        }
        ext4_prealloc_drop(inode);
}

static void work_or_watch(void *arg, unsigned n)
{
        struct world *w = arg;

        if (n < NR_WORKERS) {
                work(w, n);
                return;
        }
        for (unsigned i = 0; i < 200; i++) {
                struct ext4_group g;

                for (ext4_group_t group = 0; group < w->fs->nr_groups; group++)
                        T_CHECK(ext4_group_get(w->fs, group, 0, &g) == 0);
                if (i % 8 == 0)
                        T_CHECK(jbd2_commit_all(w->fs->journal) == 0);
                if (i % 32 == 0)
                        ext4_windows_drop_all(w->fs);
        }
}

static void threads_share_groups(void **state)
{
        struct world w;
        struct t_image img = begin(&w, PLAIN, 48);

        t_run_threads(NR_WORKERS + 1, work_or_watch, &w);
        assert_int_equal(ext4_free_clusters(w.fs), w.nr_free);
        assert_int_equal(w.w.m.log.nr_lines, 0);
        world_end(&w);
        assert_fsck("threads", &img, false);
        t_image_free(&img);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_goal_that_is_free_is_met),
                cmocka_unit_test(metadata_fill_gaps),
                cmocka_unit_test(what_is_known_of_space_makes_place_for_more),
                cmocka_unit_test(appenders_in_turn_do_not_fragment_each_other),
                cmocka_unit_test(a_window_goes_with_its_owner),
                cmocka_unit_test(reserves_are_for_whom_they_are),
                cmocka_unit_test(the_reserve_has_a_user_and_a_group),
                cmocka_unit_test(freed_space_comes_back_with_the_commit),
                cmocka_unit_test(windows_are_given_up_when_space_is_short),
                cmocka_unit_test(wrong_frees_change_nothing),
                cmocka_unit_test(a_run_over_several_groups_is_freed_at_once),
                cmocka_unit_test(without_memory_nothing_changes),
                cmocka_unit_test(after_an_abort_nothing_is_given_out),
                cmocka_unit_test(damaged_groups_are_passed_over),
                cmocka_unit_test(a_window_in_a_damaged_group_is_left),
                cmocka_unit_test(a_group_that_cannot_be_read_is_passed_over),
                cmocka_unit_test(what_was_freed_is_discarded_once_that_is_durable),
                cmocka_unit_test(random_changes_on_every_kind),
                cmocka_unit_test(threads_share_groups),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
