/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Promises of space to data in memory: who gets one, what it costs, and that it is kept.
 *
 * The files of an image of mke2fs; their data is of no interest.  After each step the mount's
 * counts must add up: what is free on disk is promised, or anybody's.
 */

#include <fcntl.h>
#include <sys/statvfs.h>

#include "ext4/balloc_group.h"
#include "ext4/delayed.h"
#include "ext4/extent_edit.h"
#include "ext4/map_change.h"
#include "lib/lib.h"
#include "t_write.h"
#include "uext4.h"
#include "util/alloc.h"

#define NR_FILES 4

static const struct t_config plain = {"plain", "-b 1024 -O " T_EXT4, 24};
static const struct t_config bigalloc = {"bigalloc", "-b 1024 -C 8192 -O bigalloc," T_EXT4, 64};
static const struct t_config ext3 = {"ext3", "-b 1024 -O has_journal", 24};

struct world {
        struct t_image img;
        struct t_write w;
        struct ext4_fs *fs;
        struct ext4_inode *files[NR_FILES];
        uint64_t nr_free;   /* in the beginning */
        unsigned nr_waits;  /* for a commit, to find space */
        int64_t fail_after; /* allocations of memory in the next call; < 0: none fails */
};

/* The last one is kept: making one is slow. */
static struct t_image new_image(const struct t_config *config)
{
        static const struct t_config *last;
        static struct t_image img;

        if (last != config) {
                t_image_free(&img);
                img = t_mkfs((uint64_t)config->mib << 20, config->options,
                             "write /dev/null 0\\nwrite /dev/null 1\\nwrite /dev/null 2\\n"
                             "write /dev/null 3\\n");
                last = config;
        }
        return t_image_copy(&img);
}

static void begin(struct world *w, const struct t_config *config)
{
        struct ext4_inode *root;

        memset(w, 0, sizeof(*w));
        w->img = new_image(config);
        t_write_begin(&w->w, &w->img);
        w->fs = w->w.fs;
        T_CHECK(ext4_iget(w->fs, EXT4_INO_ROOT, &root) == 0);
        for (unsigned i = 0; i < NR_FILES; i++) {
                char name = (char)('0' + i);
                uint32_t ino;

                T_CHECK(ext4_dir_lookup(root, &name, 1, &ino) == 0);
                T_CHECK(ext4_iget(w->fs, ino, &w->files[i]) == 0);
                w->files[i]->disk_size = 1ull << 32;
        }
        ext4_iput(root);
        w->nr_free = ext4_free_clusters(w->fs);
        w->fail_after = -1;
}

/* What is promised to files goes with them. */
static void end(struct world *w, const char *name)
{
        const char *complaint;

        for (unsigned i = 0; i < NR_FILES; i++)
                ext4_iput(w->files[i]);
        ext4_inode_table_trim(w->fs->inodes);
        t_assert_row(name, ext4_delayed_clusters(w->fs), 0);
        T_CHECK(jbd2_commit_all(w->fs->journal) == 0);
        t_assert_row(name, w->fs->balloc->ready, w->fs->balloc->free);
        t_assert_row(name, w->w.m.log.nr_lines, 0);
        T_CHECK(t_write_end(&w->w) == 0);
        complaint = t_fsck(&w->img, true); /* nobody has written the superblock's counts */
        if (complaint)
                fail_msg("%s: e2fsck: %s", name, complaint);
        t_image_free(&w->img);
}

/* ---- what is done to a file ---- */

static int reserve(struct ext4_inode *inode, ext4_lblk_t lblk, uint64_t len, unsigned rights)
{
        int ret;

        rwsem_write_lock(&inode->vfs.lock);
        ret = ext4_delayed_reserve(inode, lblk, len, rights);
        rwsem_write_unlock(&inode->vfs.lock);
        return ret;
}

/* Whether the block's cluster is promised. */
static bool is_delayed(struct ext4_inode *inode, ext4_lblk_t lblk)
{
        const uint32_t unit = 1u << inode->fs->cluster_bits;
        uint32_t len = unit;

        return ext4_delayed_cut(inode, round_down_pow2(lblk, unit), &len);
}

static int alloc_once(struct world *w, struct ext4_inode *inode, ext4_lblk_t lblk, uint64_t len,
                      unsigned rights, struct ext4_map *ret_map)
{
        const struct ext4_map_request req = {lblk, len, EXT4_MAP_UNWRITTEN, rights};
        const struct ext4_indirect_request ireq = {
                .lblk = lblk, .len = (uint32_t)len, .alloc_flags = EXT4_ALLOC_DATA | rights};
        bool has_extents = inode->flags & EXT4_FL_EXTENTS;
        struct jbd2_handle *h =
                t_start(&w->w,
                        has_extents ? ext4_map_alloc_credits(inode)
                                    : EXT4_INDIRECT_ALLOC_CREDITS + EXT4_INODE_CREDITS,
                        0);
        int ret = 0;

        if (w->fail_after >= 0)
                mem_fail_after(w->fail_after);
        if (has_extents) {
                ret = ext4_map_alloc(h, inode, &req, ret_map);
        } else {
                T_CHECK(ext4_map_lookup(inode, lblk, 0, ret_map) == 0);
                if (ret_map->type == EXT4_MAP_HOLE)
                        ret = ext4_map_alloc_indirect(h, inode, &ireq, ret_map);
        }
        if (w->fail_after >= 0)
                mem_fail_after(-1);
        T_CHECK(jbd2_stop(h) == 0);
        return ret;
}

/* As writeback does, and any other who allocates. */
static int alloc(struct world *w, struct ext4_inode *inode, ext4_lblk_t lblk, uint64_t len,
                 unsigned rights)
{
        const uint64_t to = lblk + len;
        int tries = 0;

        while (lblk < to) {
                struct ext4_map map;
                int ret = alloc_once(w, inode, lblk, to - lblk, rights, &map);

                if (ret == -ENOSPC && ext4_balloc_retry(w->fs, &tries) == 1) {
                        w->nr_waits++;
                        continue;
                }
                if (ret < 0)
                        return ret;
                lblk = (ext4_lblk_t)ext4_map_end(&map);
        }
        return 0;
}

static void unmap(struct world *w, struct ext4_inode *inode, uint64_t from, uint64_t to)
{
        struct jbd2_handle *h =
                t_start(&w->w, ext4_map_remove_credits(inode), ext4_map_remove_revokes(inode));

        T_CHECK(ext4_map_remove_all(h, inode, from, to, 0) == 0);
        T_CHECK(jbd2_stop(h) == 0);
}

/* Others have everything but `left` clusters.  It is given back by unmap(). */
static void fill(struct world *w, struct ext4_inode *inode, uint64_t left)
{
        uint64_t nr = ext4_free_clusters(w->fs);
        ext4_lblk_t lblk = 0;

        while (nr > left) {
                uint64_t len = min_t(uint64_t, nr - left, 8192) << w->fs->cluster_bits;
                struct ext4_map map;

                T_CHECK(alloc_once(w, inode, lblk, len, EXT4_ALLOC_POOL | EXT4_ALLOC_NO_WINDOW,
                                   &map) == 0);
                lblk = (ext4_lblk_t)ext4_map_end(&map);
                nr = ext4_free_clusters(w->fs);
        }
        T_CHECK(nr == left);
}

/* Whether it adds up, and to what. */
static void assert_counts(const char *row, struct world *w, uint64_t promised)
{
        struct ext4_free_counts n;
        struct statvfs st;
        uint64_t kept = ext4_reserved_blocks(w->fs);

        t_assert_row(row, ext4_delayed_clusters(w->fs), promised);
        T_CHECK(ext4_count_free(w->fs, &n) == 0);
        if (promised == 0)
                t_assert_row(row, ext4_delayed_map_clusters(w->fs), 0);
        promised += ext4_delayed_map_clusters(w->fs);
        n.blocks -= promised << w->fs->cluster_bits;
        t_assert_row(row, ext4_free_clusters(w->fs), n.blocks >> w->fs->cluster_bits);
        t_assert_row(row, w->fs->balloc->free,
                     w->fs->balloc->ready + w->fs->balloc->nr_pending);
        T_CHECK(ext4_statfs(w->fs, &st) == 0);
        t_assert_row(row, st.f_bfree, n.blocks);
        t_assert_row(row, st.f_bavail, n.blocks > kept ? n.blocks - kept : 0);
}

/* ---- one thing after another ---- */

enum op {
        END,
        RESERVE,
        ALLOC,
        UNMAP,
        CLEAR,
};

struct step {
        enum op op;
        uint64_t at, len;
        uint64_t promised; /* then */
        int ret;
};

static int reserve_patiently(struct world *w, struct ext4_inode *inode, const struct step *s)
{
        int tries = 0;
        int ret;

        do {
                ret = reserve(inode, (ext4_lblk_t)s->at, s->len, 0);
        } while (ret == -ENOSPC && ext4_balloc_retry(w->fs, &tries) == 1);
        return ret;
}

static int take_step(struct world *w, struct ext4_inode *inode, const struct step *s)
{
        switch (s->op) {
        case RESERVE:
                return reserve_patiently(w, inode, s);
        case ALLOC:
                return alloc(w, inode, (ext4_lblk_t)s->at, s->len, 0);
        case UNMAP:
                unmap(w, inode, s->at, s->at + s->len);
                break;
        case CLEAR:
                ext4_delayed_clear(inode);
                break;
        case END:
                break;
        }
        return 0;
}

#define LAST EXT4_MAX_LBLK

static const struct story {
        const char *name;
        const struct t_config *config;
        struct step steps[12];
} stories[] = {
        {"reserving twice",
         &plain,
         {{RESERVE, 10, 10, 10},
          {RESERVE, 10, 10, 10},
          {RESERVE, 15, 10, 15},
          {RESERVE, 0, 100, 100}}},
        {"allocating ends it", &plain, {{RESERVE, 0, 10, 10}, {ALLOC, 0, 10, 0}}},
        {"a part at a time",
         &plain,
         {{RESERVE, 0, 10, 10},
          {ALLOC, 4, 2, 8},
          {ALLOC, 0, 1, 7},
          {ALLOC, 9, 1, 6},
          {ALLOC, 0, 10, 0}}},
        {"allocating more than is promised",
         &plain,
         {{RESERVE, 10, 10, 10}, {RESERVE, 30, 10, 20}, {ALLOC, 0, 35, 5}, {ALLOC, 0, 50, 0}}},
        {"what is allocated is not promised",
         &plain,
         {{ALLOC, 5, 5, 0},
          {RESERVE, 0, 20, 15},
          {RESERVE, 5, 5, 15},
          {UNMAP, 5, 5, 15},
          {RESERVE, 0, 20, 20}}},
        {"clearing",
         &plain,
         {{CLEAR}, {RESERVE, 7, 9, 9}, {RESERVE, 5000, 1, 10}, {CLEAR}, {RESERVE, 7, 9, 9}}},
        {"over many chunks",
         &plain,
         {{RESERVE, 100, 5000, 5000},
          {RESERVE, LAST, 1, 5001},
          {RESERVE, 0, 5100, 5101},
          {ALLOC, 1000, 3000, 2101}}},
        {"the last block",
         &plain,
         {{RESERVE, LAST, 1, 1}, {RESERVE, LAST, 2, 1, -EFBIG}, {CLEAR}}},
        {"all or nothing",
         &plain,
         {{RESERVE, 5, 5, 5}, {RESERVE, 0, 1 << 20, 5, -ENOSPC}, {RESERVE, 0, 10, 10}}},

        {"a cluster for several blocks",
         &bigalloc,
         {{RESERVE, 3, 1, 1},
          {RESERVE, 0, 8, 1},
          {RESERVE, 7, 2, 2},
          {RESERVE, 15, 2, 3},
          {ALLOC, 9, 1, 2},
          {ALLOC, 0, 24, 0}}},
        {"edges that have blocks",
         &bigalloc,
         {{ALLOC, 4, 1, 0},
          {ALLOC, 28, 1, 0},
          {RESERVE, 0, 4, 0},
          {RESERVE, 5, 20, 2},
          {RESERVE, 16, 24, 3},
          {ALLOC, 5, 30, 0}}},

        {"an indirect map",
         &ext3,
         {{RESERVE, 0, 400, 400},
          {ALLOC, 5, 10, 390},
          {ALLOC, 300, 50, 340},
          {RESERVE, 0, 400, 340},
          {UNMAP, 0, 20, 340},
          {RESERVE, 0, 400, 350}}},
};

/* All of one kind of file system; then it is as before. */
static void tell_stories(const struct t_config *config)
{
        struct world w;

        begin(&w, config);
        for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
                const struct story *s = &stories[i];

                for (const struct step *step = s->steps; s->config == config && step->op;
                     step++) {
                        char row[80];

                        snprintf(row, sizeof(row), "%s, step %d", s->name,
                                 (int)(step - s->steps));
                        t_assert_row(row, take_step(&w, w.files[0], step), step->ret);
                        assert_counts(row, &w, step->promised);
                }
                ext4_delayed_clear(w.files[0]);
                unmap(&w, w.files[0], 0, EXT4_NR_LBLKS);
                t_assert_row(s->name, ext4_free_clusters(w.fs), w.nr_free);
        }
        end(&w, config->name);
}

static void steps_one_after_another(void **state)
{
        tell_stories(&plain);
        tell_stories(&bigalloc);
        tell_stories(&ext3);
}

/* ---- against a model ---- */

#define NR_LBLKS 6000u

struct model {
        struct world w;
        struct ext4_inode *inode;
        uint32_t unit;
        bool mapped[NR_LBLKS];
        bool promised[NR_LBLKS]; /* all blocks of a cluster are alike */
};

static bool has_blocks(const struct model *m, uint32_t lblk)
{
        for (uint32_t i = lblk / m->unit * m->unit; i < (lblk / m->unit + 1) * m->unit; i++) {
                if (m->mapped[i])
                        return true;
        }
        return false;
}

static void change_model(struct model *m, const struct step *s)
{
        uint64_t end = s->at + s->len;

        for (uint32_t lblk = 0; lblk < NR_LBLKS; lblk++) {
                uint64_t from = lblk / m->unit * m->unit, to = from + m->unit;
                bool touched = from < end && to > s->at;

                if (s->op == RESERVE && touched && !has_blocks(m, lblk))
                        m->promised[lblk] = true;
                if ((s->op == ALLOC && touched) || s->op == CLEAR)
                        m->promised[lblk] = false;
        }
        for (uint64_t lblk = s->at; lblk < end; lblk++) {
                if (s->op == ALLOC || s->op == UNMAP)
                        m->mapped[lblk] = s->op == ALLOC;
        }
}

static void compare(const char *name, struct model *m)
{
        uint64_t nr = 0;

        for (uint32_t lblk = 0; lblk < NR_LBLKS; lblk++) {
                if (is_delayed(m->inode, lblk) != m->promised[lblk])
                        fail_msg("%s: block %u", name, lblk);
                nr += m->promised[lblk];
        }
        assert_counts(name, &m->w, nr / m->unit);
}

static void random_step(struct model *m, uint64_t *rng)
{
        static const enum op ops[] = {RESERVE, RESERVE, RESERVE, ALLOC, ALLOC, UNMAP};
        uint64_t len = 1 + t_below(rng, 1u << t_below(rng, 12));
        struct step s = {
                .op = t_below(rng, 60) ? ops[t_below(rng, ARRAY_LEN(ops))] : CLEAR,
                .at = t_below(rng, NR_LBLKS),
        };

        s.len = min_t(uint64_t, len, NR_LBLKS - s.at);
        T_CHECK(take_step(&m->w, m->inode, &s) == 0);
        change_model(m, &s);
}

static void random_steps_equal_the_model(void **state)
{
        static const struct t_config *const configs[] = {&plain, &bigalloc, &ext3};
        const unsigned nr = t_is_long() ? 4000 : 300;
        uint64_t rng = t_seed();

        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                struct model *m = t_alloc(sizeof(*m));

                begin(&m->w, configs[i]);
                m->inode = m->w.files[0];
                m->unit = 1u << m->w.fs->cluster_bits;
                for (unsigned n = 0; n < nr; n++) {
                        random_step(m, &rng);
                        compare(configs[i]->name, m);
                }
                end(&m->w, configs[i]->name);
                free(m);
        }
}

/* ---- the last clusters ---- */

/* As many blocks as there is space for, with the map that they may need. */
static uint64_t reserve_most(struct ext4_inode *inode, unsigned rights)
{
        uint64_t nr = 0;

        for (uint64_t step = 4096; step > 0; step /= 2) {
                while (reserve(inode, (ext4_lblk_t)nr, step, rights) == 0)
                        nr += step;
        }
        return nr;
}

/* Promises leave what an allocation with the same rights would leave, to the cluster. */
static void reserves_are_for_whom_they_are(void **state)
{
        for (unsigned i = 0; i < 3; i++) {
                static const unsigned rights[] = {0, EXT4_ALLOC_RESERVED, EXT4_ALLOC_POOL};
                ext4_lblk_t nr_left;
                struct world w;
                uint64_t most;

                begin(&w, &plain);
                most = w.nr_free;
                most -= i < 2 ? w.fs->balloc->pool : 0;
                most -= i < 1 ? w.fs->balloc->reserved : 0;
                t_assert_row("one too many", reserve(w.files[0], 0, most + 1, rights[i]),
                             -ENOSPC);
                assert_counts("one too many", &w, 0);
                most = reserve_most(w.files[0], rights[i]);
                assert_counts("most", &w, most);
                /* What is left is less than a block and its map. */
                for (nr_left = 0; alloc(&w, w.files[1], nr_left, 1, rights[i]) == 0;)
                        nr_left++;
                assert_true(nr_left < 8);
                t_assert_row("one more", reserve(w.files[2], 0, 1, rights[i]), -ENOSPC);
                assert_counts("all", &w, most);
                ext4_delayed_clear(w.files[0]);
                t_assert_row("one again", alloc(&w, w.files[1], nr_left, 1, rights[i]), 0);
                end(&w, "reserves");
        }
}

/* With nothing left that is not promised each promise is kept. */
static void a_full_device_keeps_its_promises(void **state)
{
        static const struct t_config *const configs[] = {&plain, &bigalloc};

        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                struct world w;
                uint64_t unit, len;

                begin(&w, configs[i]);
                unit = 1u << w.fs->cluster_bits;
                fill(&w, w.files[3], 900);
                len = 600 * unit;
                assert_int_equal(reserve(w.files[0], 0, len, EXT4_ALLOC_POOL), 0);
                fill(&w, w.files[2], 0);
                assert_counts("full", &w, 600);
                assert_int_equal(alloc(&w, w.files[1], 0, 1, EXT4_ALLOC_POOL), -ENOSPC);
                assert_int_equal(alloc(&w, w.files[0], 0, (ext4_lblk_t)len, 0), 0);
                assert_counts("written", &w, 0);
                assert_int_equal(w.nr_waits, 0);
                end(&w, configs[i]->name);
        }
}

/* Windows of others are in the way, and are made while there is space. */
static void windows_do_not_keep_from_a_promise(void **state)
{
        struct world w;

        begin(&w, &plain);
        fill(&w, w.files[3], 700);
        assert_int_equal(alloc(&w, w.files[1], 300, 1, EXT4_ALLOC_POOL), 0);
        assert_int_equal(alloc(&w, w.files[2], 300, 1, EXT4_ALLOC_POOL), 0);
        assert_true(w.fs->balloc->nr_windows > 0);
        assert_int_equal(reserve(w.files[0], 0, 640, EXT4_ALLOC_POOL), 0);
        assert_int_equal(alloc(&w, w.files[0], 0, 640, 0), 0);
        assert_int_equal(w.nr_waits, 0);
        end(&w, "windows");
}

/* I2: what was freed a moment ago does not back a promise. */
static void freed_space_is_promised_when_it_is_durable(void **state)
{
        struct world w;
        int tries = 0;

        begin(&w, &plain);
        fill(&w, w.files[3], 21);
        unmap(&w, w.files[3], 0, 100);
        assert_int_equal(ext4_free_clusters(w.fs), 121);
        assert_int_equal(reserve(w.files[0], 0, 21, EXT4_ALLOC_POOL), -ENOSPC);
        assert_int_equal(reserve(w.files[0], 0, 20, EXT4_ALLOC_POOL), 0);
        /* What is pending is no use to anybody, and what is not is promised. */
        assert_int_equal(alloc_once(&w, w.files[1], 0, 1, EXT4_ALLOC_POOL,
                                    &(struct ext4_map){.lblk = 0}),
                         -ENOSPC);
        assert_int_equal(alloc(&w, w.files[0], 0, 20, 0), 0);
        assert_int_equal(w.nr_waits, 0);
        assert_int_equal(ext4_balloc_retry(w.fs, &tries), 1);
        assert_int_equal(reserve(w.files[0], 20, 90, EXT4_ALLOC_POOL), 0);
        assert_counts("durable", &w, 90);
        end(&w, "durable");
}

/* C33: who may use the pool finds it, whatever is pending. */
static void the_pool_is_there_without_a_commit(void **state)
{
        struct ext4_map map;
        struct world w;

        begin(&w, &plain);
        fill(&w, w.files[3], w.fs->balloc->pool);
        unmap(&w, w.files[3], 0, 1000);
        assert_int_equal(alloc_once(&w, w.files[0], 0, 1, EXT4_ALLOC_RESERVED, &map), -ENOSPC);
        assert_int_equal(reserve(w.files[0], 0, 1, EXT4_ALLOC_RESERVED), -ENOSPC);
        assert_int_equal(alloc_once(&w, w.files[0], 0, 100, EXT4_ALLOC_POOL, &map), 0);
        assert_int_equal(alloc(&w, w.files[0], 0, 200, EXT4_ALLOC_RESERVED), 0);
        assert_int_equal(w.nr_waits, 1);
        end(&w, "pool");
}

/* ---- failures ---- */

static void without_memory_nothing_is_promised(void **state)
{
        struct world w;
        int64_t n = 0;
        int ret;

        begin(&w, &plain);
        assert_int_equal(reserve(w.files[0], 600, 1, 0), 0);
        do {
                mem_fail_after(n++);
                ret = reserve(w.files[0], 0, 5000, 0);
                mem_fail_after(-1);
                assert_counts("no memory", &w, ret == 0 ? 5000 : 1);
        } while (ret == -ENOMEM);
        assert_int_equal(ret, 0);
        assert_true(n > 2);
        end(&w, "no memory");
}

/* What is promised to unwritten blocks stays until the write is over, and goes when it has made
 * nothing dirty. */
static void a_conversion_keeps_its_promise(void **state)
{
        struct ext4_inode *inode;
        struct ext4_map map;
        struct world w;
        uint64_t nr;
        int64_t n = 0;
        int ret;

        begin(&w, &plain);
        inode = w.files[0];
        assert_int_equal(alloc_once(&w, inode, 0, 2000, 0, &map), 0);
        rwsem_write_lock(&inode->vfs.lock);
        do {
                mem_fail_after(n++);
                ret = ext4_delayed_reserve_conversion(inode, 10, 1000, 0);
                mem_fail_after(-1);
                assert_true(ret == 0 || ext4_delayed_map_clusters(w.fs) == 0);
        } while (ret == -ENOMEM);
        assert_int_equal(ret, 0);
        assert_true(n > 1);
        nr = ext4_delayed_map_clusters(w.fs);
        assert_true(nr > 0);
        ext4_delayed_try_settle(inode); /* as who writes something else back */
        assert_int_equal(ext4_delayed_map_clusters(w.fs), nr);
        assert_int_equal(ext4_delayed_reserve_conversion(inode, 20, 500, 0), 0);
        assert_int_equal(ext4_delayed_map_clusters(w.fs), nr);
        ext4_delayed_settle(inode);
        assert_int_equal(ext4_delayed_map_clusters(w.fs), 0);
        assert_int_equal(ext4_delayed_reserve_conversion(inode, 20, 500, 0), 0);
        /* Used up it ends, too. */
        for (nr = 0; ext4_delayed_take_node(inode); nr++)
                ;
        assert_true(nr > 0);
        ext4_delayed_settle(inode);
        assert_int_equal(atomic_load(&inode->delayed.nr_unwritten), 0);
        for (; nr > 0; nr--)
                ext4_delayed_return_node(inode);
        rwsem_write_unlock(&inode->vfs.lock);
        assert_counts("conversion", &w, 0);
        end(&w, "conversion");
}

/* A promise outlives an allocation that fails, at whatever step. */
static void a_failed_allocation_leaves_the_promise(void **state)
{
        static const struct t_config *const configs[] = {&plain, &bigalloc, &ext3};

        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                const char *name = configs[i]->name;
                struct world w;

                begin(&w, configs[i]);
                for (ext4_lblk_t lblk = 0; lblk < 1600; lblk += 80) {
                        uint64_t nr = 24 >> w.fs->cluster_bits;
                        int64_t n = 0;
                        int ret;

                        assert_int_equal(reserve(w.files[0], lblk, 24, 0), 0);
                        do {
                                w.fail_after = n++;
                                ret = alloc(&w, w.files[0], lblk, 24, 0);
                                w.fail_after = -1;
                                assert_true(ret == 0 || ret == -ENOMEM);
                                t_assert_row(name, is_delayed(w.files[0], lblk + 23), ret < 0);
                                if (ret == 0 || is_delayed(w.files[0], lblk))
                                        assert_counts(name, &w, ret == 0 ? 0 : nr);
                        } while (ret < 0);
                }
                end(&w, name);
        }
}

/* ---- threads ---- */

struct race {
        struct world w;
        _Atomic uint64_t nr_promises;
        _Atomic uint64_t nr_denied;
        _Atomic unsigned nr_done;
        _Atomic uint64_t limit; /* blocks below it were reserved */
};

/* Each wants all of them. */
static void grab(void *arg, unsigned n)
{
        struct race *r = arg;
        ext4_lblk_t lblk = 0;

        while (reserve(r->w.files[n], lblk, 1 + n, EXT4_ALLOC_RESERVED) == 0) {
                lblk += 1 + n;
                atomic_fetch_add(&r->nr_promises, 1 + n);
        }
        while (reserve(r->w.files[n], lblk, 1, EXT4_ALLOC_RESERVED) == 0) {
                lblk++;
                atomic_fetch_add(&r->nr_promises, 1);
        }
        /* Nothing is left: but what is promised is there. */
        for (ext4_lblk_t at = 0; at < lblk; at += 50)
                T_CHECK(alloc(&r->w, r->w.files[n], at, min_t(uint64_t, 50, lblk - at), 0) ==
                        0);
}

static void threads_race_for_the_last_clusters(void **state)
{
        struct race *r = t_alloc(sizeof(*r));

        for (unsigned i = 0; i < 5; i++) {
                uint64_t most;

                begin(&r->w, &plain);
                fill(&r->w, r->w.files[3], r->w.fs->balloc->pool + 1000 + i);
                r->nr_promises = 0;
                most = ext4_free_clusters(r->w.fs) - r->w.fs->balloc->pool;
                t_run_threads(3, grab, r);
                /* Some were for maps. */
                assert_true(r->nr_promises <= most && r->nr_promises > most * 9 / 10);
                assert_counts("race", &r->w, 0);
                assert_int_equal(r->w.nr_waits, 0);
                end(&r->w, "race");
        }
        free(r);
}

/* Promise, and keep it or take it back; with less space than all of them want. */
static void work(struct race *r, unsigned n)
{
        const unsigned nr = t_is_long() ? 5000 : 500;
        struct ext4_inode *inode = r->w.files[n];
        uint64_t rng = n + 1;

        for (unsigned i = 0; i < nr; i++) {
                ext4_lblk_t lblk = (ext4_lblk_t)t_below(&rng, 1000);
                uint64_t len = 1 + t_below(&rng, 200);

                if (reserve(inode, lblk, len, 0) < 0) {
                        atomic_fetch_add(&r->nr_denied, 1);
                        ext4_delayed_clear(inode);
                        unmap(&r->w, inode, 0, 2000);
                        continue;
                }
                if (t_below(&rng, 4) == 0)
                        ext4_delayed_clear(inode);
                else
                        T_CHECK(alloc(&r->w, inode, lblk, len, 0) == 0);
        }
        ext4_delayed_clear(inode);
        atomic_fetch_add(&r->nr_done, 1);
}

/* Allocates without a promise, and says what is free. */
static void other(struct race *r)
{
        struct ext4_inode *inode = r->w.files[2];
        uint64_t rng = 99;

        while (r->nr_done < 2) {
                struct ext4_map map;
                int ret = alloc_once(&r->w, inode, (ext4_lblk_t)t_below(&rng, 1000),
                                     1 + t_below(&rng, 100), 0, &map);

                T_CHECK(ret == 0 || ret == -ENOSPC);
                if (ret < 0)
                        unmap(&r->w, inode, 0, 2000);
                if (t_below(&rng, 16) == 0)
                        T_CHECK(jbd2_commit_all(r->w.fs->journal) == 0);
                T_CHECK(ext4_free_clusters(r->w.fs) <= r->w.nr_free);
        }
}

static void work_or_not(void *arg, unsigned n)
{
        if (n < 2)
                work(arg, n);
        else
                other(arg);
}

static void promises_are_kept_under_pressure(void **state)
{
        static const struct t_config *const configs[] = {&plain, &bigalloc};
        struct race *r = t_alloc(sizeof(*r));

        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                uint64_t kept;

                begin(&r->w, configs[i]);
                kept = r->w.fs->balloc->pool + r->w.fs->balloc->reserved;
                fill(&r->w, r->w.files[3], kept + (1200 >> r->w.fs->cluster_bits));
                r->nr_done = 0;
                r->nr_denied = 0;
                t_run_threads(3, work_or_not, r);
                assert_true(r->nr_denied > 0);
                assert_counts("pressure", &r->w, 0);
                end(&r->w, configs[i]->name);
        }
        free(r);
}

#define RACE_LBLKS 6000u

/* One writes to the file, the other writes it back. */
static void write_or_write_back(void *arg, unsigned n)
{
        struct race *r = arg;
        struct ext4_inode *inode = r->w.files[0];
        uint64_t rng = n + 7;

        while (n == 0 && r->limit < RACE_LBLKS) {
                uint64_t len = 1 + t_below(&rng, 9);
                uint64_t back = t_below(&rng, 1 + min_t(uint64_t, r->limit, 20));

                T_CHECK(reserve(inode, (ext4_lblk_t)(r->limit - back), len + back, 0) == 0);
                atomic_fetch_add(&r->limit, len);
        }
        while (n == 1 && r->limit < RACE_LBLKS) {
                ext4_lblk_t lblk;

                if (r->limit == 0)
                        continue;
                lblk = (ext4_lblk_t)t_below(&rng, r->limit);
                if (is_delayed(inode, lblk))
                        T_CHECK(alloc(&r->w, inode, lblk, 1 + t_below(&rng, 4), 0) == 0);
        }
}

/* I1: what has blocks is not promised, whoever comes first. */
static void a_file_is_written_and_written_back(void **state)
{
        static const struct t_config *const configs[] = {&plain, &bigalloc};
        struct race *r = t_alloc(sizeof(*r));

        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                uint64_t nr = 0;
                uint32_t unit;

                begin(&r->w, configs[i]);
                unit = 1u << r->w.fs->cluster_bits;
                r->limit = 0;
                t_run_threads(2, write_or_write_back, r);
                for (ext4_lblk_t lblk = 0; lblk < RACE_LBLKS + 100; lblk += unit) {
                        struct ext4_map map;
                        bool mapped = false;

                        for (uint32_t k = 0; k < unit; k++) {
                                T_CHECK(ext4_map_lookup(r->w.files[0], lblk + k, 0, &map) == 0);
                                mapped |= map.type != EXT4_MAP_HOLE;
                        }
                        assert_false(mapped && is_delayed(r->w.files[0], lblk));
                        assert_true(mapped || is_delayed(r->w.files[0], lblk) ||
                                    lblk >= r->limit);
                        nr += is_delayed(r->w.files[0], lblk);
                }
                assert_counts("written back", &r->w, nr);
                end(&r->w, configs[i]->name);
        }
        free(r);
}

/* ---- through the page cache, to the last block ---- */

#define NR_SPOTS 20000u

struct spot {
        uint64_t pos;
        uint32_t len;
        uint8_t file;
};

struct disk {
        struct t_image img;
        struct t_log log;
        struct uext4_bdev *dev;
        struct uext4_fs *fs;
        struct uext4_file *files[NR_FILES];
        struct spot *spots; /* acknowledged */
        unsigned nr_spots;
};

static void mount_disk(struct disk *d, const char *options, int flags)
{
        struct uext4_mount_params params = {
                .options = options, .log = t_log_line, .log_arg = &d->log};

        t_log_init(&d->log);
        T_CHECK(uext4_bdev_open_buffer(d->img.data, d->img.size, 0, &d->dev) == 0);
        T_CHECK(uext4_mount_bdev(d->dev, &params, &d->fs) == 0);
        for (unsigned i = 0; i < NR_FILES; i++) {
                const char path[] = {'/', (char)('0' + i), '\0'};

                T_CHECK(uext4_open_path(d->fs, path, flags, &d->files[i]) == 0);
        }
}

static void unmount_disk(struct disk *d)
{
        for (unsigned i = 0; i < NR_FILES; i++)
                uext4_close(d->files[i]);
        T_CHECK(uext4_unmount(d->fs) == 0);
}

/* What a byte of a file is, if it was written. */
static uint8_t byte_at(unsigned file, uint64_t pos)
{
        return (uint8_t)(1 + (pos * 2654435761u >> 7) % 250 + file);
}

static void fill_bytes(uint8_t *buf, unsigned file, uint64_t pos, size_t len)
{
        for (size_t i = 0; i < len; i++)
                buf[i] = byte_at(file, pos + i);
}

/* Anywhere, a block or a few, or parts of them; *ret_denied: there is no space. */
static void write_somewhere(struct disk *d, uint64_t range, uint64_t *rng, bool *ret_denied)
{
        static uint8_t buf[1 << 15];
        const uint32_t bs = d->fs->ext4->block_size;
        struct spot s = {.pos = t_below(rng, range / bs) * bs,
                         .len = bs << t_below(rng, 3),
                         .file = (uint8_t)t_below(rng, NR_FILES)};
        ssize_t n;

        if (t_below(rng, 4) == 0) {
                s.pos += t_below(rng, bs);
                s.len = (uint32_t)(1 + t_below(rng, bs));
        }
        fill_bytes(buf, s.file, s.pos, s.len);
        n = uext4_pwrite(d->files[s.file], buf, s.len, s.pos);
        T_CHECK(n == -ENOSPC || (n > 0 && n <= (ssize_t)s.len));
        *ret_denied = n == -ENOSPC;
        if (n > 0) {
                s.len = (uint32_t)n;
                d->spots[d->nr_spots++] = s;
        }
}

static void assert_statfs(const char *name, struct disk *d)
{
        struct ext4_fs *fs = d->fs->ext4;
        struct statvfs st;

        T_CHECK(uext4_statfs(d->fs, &st) == 0);
        t_assert_row(name, st.f_bfree, ext4_free_clusters(fs) << fs->cluster_bits);
}

static void assert_spots(const char *name, struct disk *d)
{
        static uint8_t buf[1 << 15], want[1 << 15];

        for (unsigned i = 0; i < d->nr_spots; i++) {
                const struct spot *s = &d->spots[i];

                fill_bytes(want, s->file, s->pos, s->len);
                T_CHECK(uext4_pread(d->files[s->file], buf, s->len, s->pos) == (ssize_t)s->len);
                if (memcmp(buf, want, s->len) != 0)
                        fail_msg("%s: file %u: %u bytes at %llu", name, s->file, s->len,
                                 (unsigned long long)s->pos);
        }
}

/* Until nothing more gets in, over and over again. */
static void fill_disk(struct disk *d, uint64_t range, uint64_t *rng)
{
        unsigned nr_denied = 0;

        while (nr_denied < 40 && d->nr_spots < NR_SPOTS) {
                bool denied;

                write_somewhere(d, range, rng, &denied);
                nr_denied += denied;
                if (t_below(rng, 400) == 0) {
                        assert_statfs("filling", d);
                        T_CHECK(uext4_fsync(d->files[t_below(rng, NR_FILES)]) == 0);
                }
        }
        T_CHECK(nr_denied == 40);
}

static void settle_disk(const char *name, struct disk *d)
{
        struct ext4_fs *fs = d->fs->ext4;

        assert_statfs(name, d);
        for (unsigned i = 0; i < NR_FILES; i++)
                t_assert_row(name, uext4_fsync(d->files[i]), 0);
        t_assert_row(name, uext4_syncfs(d->fs), 0);
        t_assert_row(name, ext4_delayed_clusters(fs), 0);
        t_assert_row(name, ext4_delayed_map_clusters(fs), 0);
        assert_statfs(name, d);
}

static void fill_and_look(const struct t_config *config, const char *options, uint64_t range,
                          uint64_t seed)
{
        struct disk d = {.spots = t_alloc(NR_SPOTS * sizeof(struct spot))};
        const char *complaint;
        struct ext4_fs *fs;
        uint64_t rng = seed;

        d.img = new_image(config);
        mount_disk(&d, options, O_RDWR);
        fs = d.fs->ext4;
        fs->balloc->pool = 0; /* what is promised is enough */
        fill_disk(&d, range, &rng);
        settle_disk(config->name, &d);
        /* Not too much is kept from who writes: a path for each extent that a cluster can be.
         */
        if (ext4_free_clusters(fs) >= (fs->cluster_bits ? 48 : 16))
                fail_msg("%s: %llu clusters are left", config->name,
                         (unsigned long long)ext4_free_clusters(fs));
        unmount_disk(&d);
        uext4_bdev_close(d.dev);
        complaint = t_fsck(&d.img, false);
        if (complaint)
                fail_msg("%s: e2fsck: %s", config->name, complaint);
        mount_disk(&d, "ro", O_RDONLY);
        assert_spots(config->name, &d);
        unmount_disk(&d);
        uext4_bdev_close(d.dev);
        t_image_free(&d.img);
        free(d.spots);
}

static void scattered_writes_fill_a_device(void **state)
{
        static const struct t_config configs[] = {
                {"ext2, 1k", "-m 0 -b 1024 -O none", 4},
                {"ext3, 1k", "-m 0 -b 1024 -J size=1 -O has_journal", 6},
                {"ext3, 4k", "-m 0 -b 4096 -J size=4 -O has_journal", 12},
                {"ext4, 1k", "-m 0 -b 1024 -J size=1 -O " T_EXT4, 6},
                {"ext4, 4k", "-m 0 -b 4096 -J size=4 -O " T_EXT4, 12},
                {"bigalloc, 1k", "-m 0 -b 1024 -C 8192 -J size=1 -O bigalloc," T_EXT4, 12},
                {"bigalloc, 4k", "-m 0 -b 4096 -C 16384 -J size=4 -O bigalloc," T_EXT4, 16},
        };
        const unsigned nr = t_is_long() ? 20 : 1;
        uint64_t seed = t_seed();

        for (unsigned i = 0; i < nr * ARRAY_LEN(configs); i++) {
                const struct t_config *config = &configs[i / nr];

                for (unsigned k = 0; k < 2; k++)
                        fill_and_look(config, i % 2 ? "rw,commit=100000" : "rw",
                                      k ? 1ull << 31 : 8ull << 20, seed + i);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(scattered_writes_fill_a_device),
                cmocka_unit_test(steps_one_after_another),
                cmocka_unit_test(random_steps_equal_the_model),
                cmocka_unit_test(reserves_are_for_whom_they_are),
                cmocka_unit_test(a_full_device_keeps_its_promises),
                cmocka_unit_test(windows_do_not_keep_from_a_promise),
                cmocka_unit_test(freed_space_is_promised_when_it_is_durable),
                cmocka_unit_test(the_pool_is_there_without_a_commit),
                cmocka_unit_test(without_memory_nothing_is_promised),
                cmocka_unit_test(a_conversion_keeps_its_promise),
                cmocka_unit_test(a_failed_allocation_leaves_the_promise),
                cmocka_unit_test(threads_race_for_the_last_clusters),
                cmocka_unit_test(promises_are_kept_under_pressure),
                cmocka_unit_test(a_file_is_written_and_written_back),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
