/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The power is cut at every request of short scenarios, and at seeded points of longer runs:
 * cuts.h says how, model.h what must be found.  All free space holds a pattern to begin with.
 *
 * UEXT4_LONG=1 looks at 10 000 points of random runs instead of 100, with more images each;
 * UEXT4_ONLY=NAME at one scenario.
 */
#include "cuts.h"
#include "ext4/balloc.h"

#define KIB 1024ull
#define MIB (1024 * KIB)

struct stage {
        struct cutter cut;
        struct rig_mount m;
        struct model md;
        struct t_image img;
};

struct scenario {
        const char *name;
        const char *mkfs; /* options */
        uint64_t size;
        void (*prepare)(struct stage *s); /* before the first cut */
        void (*run)(struct stage *s);     /* cut at every request */
};

static struct model_file *file(struct stage *s, const char *name)
{
        return model_find(&s->md, name);
}

#define must(call) must_be_done((call), #call, __LINE__)

static void must_be_done(int ret, const char *call, int line)
{
        if (ret == 0)
                return;
        fprintf(stderr, "%s:%d: %s: %d\n", __FILE__, line, call, ret);
        abort();
}

/* ---- building blocks ---- */

/* `nr` extents of three blocks, with a hole of a block between them. */
static void make_fragments(struct stage *s, const char *name, unsigned nr)
{
        struct model_file *f = file(s, name);
        const uint64_t bs = rig_fs(&s->m)->block_size;

        must(model_write(&s->md, f, 0, 4 * nr * bs, OP_DIRECT));
        for (unsigned i = 0; i < nr; i++)
                must(model_fallocate(&s->md, f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                     (4 * i + 3) * bs, bs));
        must(model_sync(&s->md));
}

/* Take all space but `left` bytes, by a file that has unwritten blocks only. */
static void fill_up(struct stage *s, const char *name, uint64_t left)
{
        struct model_file *f = file(s, name);
        struct statvfs st;
        uint64_t size;

        for (unsigned n = 0; n < 20; n++) {
                must(uext4_statfs(s->m.fs, &st));
                size = st.f_bfree * st.f_frsize;
                if (size <= left)
                        break;
                if (model_fallocate(&s->md, f, 0, model_now(f)->size,
                                    max_t(uint64_t, (size - left) / 2, st.f_frsize)) < 0)
                        break;
        }
        must(model_sync(&s->md));
}

/* ---- scenarios ---- */

static void run_append_truncate(struct stage *s)
{
        struct model_file *f = file(s, "a"), *g = file(s, "b");

        must(model_write(&s->md, f, 10000, 30000, OP_DIRECT));
        must(model_write(&s->md, g, 5000, 50000, OP_BUFFERED));
        must(model_truncate(&s->md, f, 12345));
        must(model_sync(&s->md));
        must(model_truncate(&s->md, f, 40000));
        must(model_truncate(&s->md, g, 100));
        must(model_write(&s->md, f, 40000, 5000, OP_DIRECT));
        must(model_truncate(&s->md, f, 0));
        must(model_truncate(&s->md, g, 30000));
        must(model_sync(&s->md));
}

/* 84 extents fill a leaf of 1 KiB. */
static void prepare_leaf(struct stage *s)
{
        make_fragments(s, "a", 84);
}

static void run_punch(struct stage *s)
{
        struct model_file *f = file(s, "a");

        for (unsigned i = 10; i < 84; i += 24)
                must(model_fallocate(&s->md, f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                     (4 * i + 1) * KIB, KIB));
        must(model_fallocate(&s->md, f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                             10 * KIB + 7, 200 * KIB));
        must(model_sync(&s->md));
}

static void prepare_two_leaves(struct stage *s)
{
        make_fragments(s, "a", 120);
}

static void run_collapse(struct stage *s)
{
        struct model_file *f = file(s, "a");

        must(model_fallocate(&s->md, f, FALLOC_FL_COLLAPSE_RANGE, 5 * KIB, 30 * KIB));
        must(model_fallocate(&s->md, f, FALLOC_FL_COLLAPSE_RANGE, 0, 300 * KIB));
        must(model_sync(&s->md));
        must(model_fallocate(&s->md, file(s, "b"), FALLOC_FL_COLLAPSE_RANGE, KIB, KIB));
        must(model_sync(&s->md));
}

static void run_insert(struct stage *s)
{
        struct model_file *f = file(s, "a");

        must(model_fallocate(&s->md, f, FALLOC_FL_INSERT_RANGE, 5 * KIB, 30 * KIB));
        must(model_fallocate(&s->md, f, FALLOC_FL_INSERT_RANGE, 300 * KIB, 7 * KIB));
        must(model_sync(&s->md));
        must(model_fallocate(&s->md, f, FALLOC_FL_INSERT_RANGE, 0, KIB));
        must(model_sync(&s->md));
}

static void run_unlink_open(struct stage *s)
{
        struct model_file *f = file(s, "a"), *g = file(s, "c");

        must(model_unlink(&s->md, f));
        must(model_sync(&s->md));
        must(model_write(&s->md, f, 0, 20000, OP_BUFFERED));
        must(model_truncate(&s->md, f, 7777));
        must(model_tmpfile(&s->md, "/m"));
        must(model_unlink(&s->md, g));
        must(model_put(&s->md, g));
        must(model_put(&s->md, f));
        must(model_sync(&s->md));
        must(model_put(&s->md, file(s, "(tmp 5)")));
        must(model_sync(&s->md));
}

#define DIR_NAMES 960 /* of /d, four to a block: more than the pool has */

static void dir_name(unsigned i, char *name, size_t size)
{
        snprintf(name, size, "%0220u", i);
}

/* Write to the file a until there is no space. */
static void use_up(struct stage *s)
{
        for (unsigned n = 0; n < 40; n++) {
                struct model_file *f = file(s, "a");

                if (model_write(&s->md, f, model_now(f)->size, 16 * KIB, OP_DIRECT) < 0)
                        break;
        }
}

static void prepare_dir(struct stage *s)
{
        fill_up(s, "b", 200 * KIB);
        use_up(s);
        must(model_sync(&s->md));
}

/* The physical blocks of a file or directory; how many. */
static size_t blocks_of(struct stage *s, const char *path, uint64_t *blocks, size_t max)
{
        struct ext4_inode *inode;
        size_t nr = 0;

        must(op_get(&s->m, path, &inode));
        for (uint64_t lblk = 0; lblk << 10 < vfs_size(&inode->vfs) && nr < max; lblk++) {
                struct ext4_map map;

                rwsem_read_lock(&inode->map_lock);
                must(ext4_map_lookup_locked(inode, (ext4_lblk_t)lblk, 0, &map));
                rwsem_read_unlock(&inode->map_lock);
                if (map.type != EXT4_MAP_HOLE)
                        blocks[nr++] = map.pblk + (lblk - map.lblk);
        }
        ext4_iput(inode);
        return nr;
}

/*
 * J39.  The blocks of a directory that is in the log are freed, given out again as data, and
 * written: replay must not write the directory over them.  So little is free that the data
 * must go there.
 */
static void run_dir_as_data(struct stage *s)
{
        uint64_t dir[256], data[2048];
        size_t nr_dir = blocks_of(s, "/d", dir, ARRAY_LEN(dir)), nr_data, nr_both = 0;
        char name[256];

        for (unsigned i = 0; i < DIR_NAMES; i += 4) {
                dir_name(i, name, sizeof(name));
                must(op_unlink(&s->m, "/d", name));
        }
        must(op_sync(&s->m));
        for (unsigned i = 0; i < DIR_NAMES; i++) {
                dir_name(i, name, sizeof(name));
                if (i % 4)
                        must(op_unlink(&s->m, "/d", name));
        }
        must(op_rmdir(&s->m, "/", "d"));
        must(op_sync(&s->m));
        use_up(s);
        must(model_sync(&s->md));
        nr_data = blocks_of(s, "/m/a", data, ARRAY_LEN(data));
        for (size_t i = 0; i < nr_dir; i++) {
                for (size_t k = 0; k < nr_data; k++)
                        nr_both += dir[i] == data[k];
        }
        printf("# of %zu blocks of the directory %zu have become data\n", nr_dir, nr_both);
        fflush(stdout);
        T_CHECK(nr_both > nr_dir / 4);
        must(model_truncate(&s->md, file(s, "a"), 3000));
        must(model_sync(&s->md));
}

static void prepare_full(struct stage *s)
{
        fill_up(s, "b", 700 * KIB);
}

static void run_full(struct stage *s)
{
        struct model_file *f = file(s, "a"), *g = file(s, "c");
        uint64_t allocated;

        must(model_write(&s->md, f, 0, 200 * KIB, OP_DIRECT));
        must(model_sync(&s->md));
        (void)model_fallocate(&s->md, g, 0, 0, 2000 * KIB);
        must(model_sync(&s->md));
        allocated = 512 * g->inode->blocks;
        must(model_truncate(&s->md, g, 0));
        must(model_write(&s->md, f, model_now(f)->size, allocated / 2, OP_DIRECT)); /* B16 */
        (void)model_fallocate(&s->md, f, FALLOC_FL_ZERO_RANGE, 1000, 300 * KIB);
        must(model_sync(&s->md));
}

/* A file in many groups, extents and leaves. */
static void prepare_big(struct stage *s)
{
        make_fragments(s, "a", 700);
}

static void run_truncate_big(struct stage *s)
{
        struct model_file *f = file(s, "a");

        must(model_truncate(&s->md, f, 1500 * KIB + 5));
        must(model_truncate(&s->md, f, 3));
        must(model_sync(&s->md));
}

static void run_convert(struct stage *s)
{
        struct model_file *f = file(s, "a"), *g = file(s, "b");

        must(model_fallocate(&s->md, f, 0, 5000, 100 * KIB));
        must(model_write(&s->md, f, 20 * KIB, 10 * KIB, OP_BUFFERED));
        must(model_sync(&s->md));
        must(model_write(&s->md, f, 50 * KIB + 7, 3000, OP_BUFFERED));
        must(model_fallocate(&s->md, g, FALLOC_FL_KEEP_SIZE, 0, 64 * KIB));
        must(model_write(&s->md, g, model_now(g)->size, 20 * KIB, OP_BUFFERED));
        must(model_fallocate(&s->md, f, FALLOC_FL_ZERO_RANGE, 22 * KIB + 1, 5000));
        must(model_fallocate(&s->md, f, FALLOC_FL_WRITE_ZEROES, 60 * KIB, 60 * KIB));
        must(model_sync(&s->md));
}

/* ---- the stage ---- */

/* Spelled out: nothing depends on the machine's mke2fs.conf. */
#define EXT4                                                                                 \
        "-O none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super," \
        "large_file,huge_file,dir_nlink,extra_isize,metadata_csum"
#define EXT4_1K "-m 0 -b 1024 -I 256 -N 256 -J size=1 " EXT4
#define EXT3_1K                                                                     \
        "-b 1024 -N 256 -J size=1 -O none,has_journal,ext_attr,dir_index,filetype," \
        "sparse_super,large_file"

static void make_tree(struct rig_tree *tree)
{
        static const size_t sizes[] = {20000, 3333, 45000, 100, 70000};
        char *bytes = t_alloc(100000);
        uint64_t state = 77;
        char name[256], first[256];

        rig_tree_init(tree);
        rig_tree_dir(tree, "m");
        rig_tree_dir(tree, "d");
        for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
                for (size_t at = 0; at < sizes[i]; at++)
                        bytes[at] = (char)(t_rand(&state) | 1);
                snprintf(name, sizeof(name), "m/%c", 'a' + i);
                rig_tree_file(tree, name, bytes, sizes[i]);
        }
        for (unsigned i = 0; i < DIR_NAMES; i++) {
                memcpy(name, "d/", 2);
                dir_name(i, name + 2, sizeof(name) - 2);
                if (i == 0)
                        rig_tree_file(tree, name, bytes, 0);
                else
                        rig_tree_link(tree, first, name);
                if (i == 0)
                        memcpy(first, name, sizeof(first));
        }
        free(bytes);
}

static struct t_image make_image(uint64_t size, const char *mkfs)
{
        struct rig_tree tree;
        struct t_image img;

        make_tree(&tree);
        img = rig_make(size, mkfs, tree.path, NULL);
        rig_tree_done(&tree);
        return img;
}

static void mount_on(struct stage *s, struct uext4_bdev *dev)
{
        int ret = rig_mount(&s->m, dev, RIG_OPTIONS);

        if (ret < 0 || !rig_fs(&s->m)->journal) {
                fprintf(stderr, "%s: mount: %d\n%s", s->cut.name, ret, s->m.log.text);
                abort();
        }
}

/* Run prepare() on the image, without cuts. */
static void prepare(struct stage *s, void (*fn)(struct stage *s))
{
        struct uext4_bdev *dev = rig_open_image(&s->img);
        char *text;

        mount_on(s, dev);
        model_init(&s->md, &s->m, s->cut.rand);
        model_add_dir(&s->md, "/m");
        if (fn)
                fn(s);
        model_check_all(&s->md);
        model_leave(&s->md);
        must(rig_unmount(&s->m));
        uext4_bdev_close(dev);
        text = rig_fsck(s->img.data, s->img.size);
        if (text)
                fail_msg("%s: before the first cut: %s", s->cut.name, text);
}

/* Mount and unmount are cut as well. */
static void act(struct stage *s, void (*run)(struct stage *s))
{
        cutter_open(&s->cut, &s->img);
        cutter_begin(&s->cut, &s->md);
        mount_on(s, s->cut.dev);
        (void)model_enter(&s->md);
        run(s);
        model_leave(&s->md);
        must(rig_unmount(&s->m));
        model_settle(&s->md);
        cutter_end(&s->cut);
}

static void end(struct stage *s)
{
        struct t_image last;

        cutter_begin(&s->cut, &s->md);
        cutter_take(&s->cut, UEXT4_BDEV_SIM_NONE, &last);
        s->cut.fsck_one_in = 1;
        cutter_check(&s->cut, last.data, false, "unmounted");
        cutter_end(&s->cut);
        t_image_free(&last);
        cutter_close(&s->cut);
        model_done(&s->md);
        t_image_free(&s->img);
}

static void set_looks(struct cutter *cut)
{
        cut->nr_random = t_is_long() ? 8 : 2;
        cut->fsck_one_in = t_is_long() ? 2 : 8;
        cut->second_one_in = t_is_long() ? 4 : 24;
}

static bool is_wanted(const char *name)
{
        const char *only = getenv("UEXT4_ONLY");

        return !only || strcmp(only, name) == 0;
}

static void play(const struct scenario *sc)
{
        struct stage *s = t_alloc(sizeof(*s));

        s->cut.name = sc->name;
        s->cut.rand = t_seed();
        set_looks(&s->cut);
        if (t_sweep_step(4) > 1)
                s->cut.one_in = 4;
        s->img = make_image(sc->size, sc->mkfs);
        prepare(s, sc->prepare);
        act(s, sc->run);
        end(s);
        free(s);
}

#define SCENARIO(fn, ...)                                        \
        static void fn(void **state)                             \
        {                                                        \
                static const struct scenario sc = {__VA_ARGS__}; \
                                                                 \
                if (is_wanted(sc.name))                          \
                        play(&sc);                               \
        }

SCENARIO(append_then_truncate, "append", EXT4_1K, 6 * MIB, NULL, run_append_truncate)
SCENARIO(append_then_truncate_ext3, "append-ext3", EXT3_1K, 6 * MIB, NULL, run_append_truncate)
SCENARIO(punch_over_a_leaf_split, "punch", EXT4_1K, 6 * MIB, prepare_leaf, run_punch)
SCENARIO(collapse, "collapse", EXT4_1K, 6 * MIB, prepare_two_leaves, run_collapse)
SCENARIO(insert, "insert", EXT4_1K, 6 * MIB, prepare_two_leaves, run_insert)
SCENARIO(unlink_of_open_files, "unlink", EXT4_1K, 6 * MIB, prepare_two_leaves, run_unlink_open)
SCENARIO(unlink_of_open_files_orphan_file, "unlink-orphan-file", EXT4_1K ",orphan_file",
         6 * MIB, prepare_two_leaves, run_unlink_open)
SCENARIO(directory_block_becomes_data, "dir-data", EXT4_1K, 6 * MIB, prepare_dir,
         run_dir_as_data)
SCENARIO(full_disk, "full", EXT4_1K, 6 * MIB, prepare_full, run_full)
SCENARIO(truncate_in_many_transactions, "truncate-big", EXT4_1K " -g 256", 8 * MIB, prepare_big,
         run_truncate_big)
SCENARIO(preallocate_and_convert, "convert", EXT4_1K, 6 * MIB, NULL, run_convert)

/* ---- the orphan pass ---- */

/* Unlinked files and a truncation that are durable, and no more. */
static void leave_orphans(struct stage *s)
{
        must(model_unlink(&s->md, file(s, "a")));
        must(model_unlink(&s->md, file(s, "c")));
        must(model_tmpfile(&s->md, "/m"));
        must(model_write(&s->md, file(s, "(tmp 5)"), 0, 30000, OP_DIRECT));
        must(model_sync(&s->md));
        must(model_truncate(&s->md, file(s, "b"), 17));
}

/*
 * The machine stops while unlinked files are open and a file is being truncated; the mounts
 * after that are cut at every request.
 */
static void orphans(const char *name, const char *mkfs)
{
        struct stage *s = t_alloc(sizeof(*s));
        struct t_image crashed;

        s->cut.name = name;
        s->cut.rand = t_seed();
        set_looks(&s->cut);
        s->img = make_image(6 * MIB, mkfs);
        prepare(s, prepare_two_leaves);
        cutter_open(&s->cut, &s->img);
        mount_on(s, s->cut.dev);
        s->md.keep_states = true;
        (void)model_enter(&s->md);
        leave_orphans(s);
        cutter_take(&s->cut, UEXT4_BDEV_SIM_ALL, &crashed);
        model_leave(&s->md);
        must(rig_unmount(&s->m));
        cutter_close(&s->cut);
        t_image_free(&s->img);

        s->img = crashed;
        s->cut.nr_points = s->cut.nr_looked = s->cut.nr_images = 0;
        s->cut.second_one_in = 4;
        cutter_open(&s->cut, &s->img);
        cutter_begin(&s->cut, &s->md);
        mount_on(s, s->cut.dev);
        must(rig_unmount(&s->m));
        cutter_end(&s->cut);
        end(s);
        free(s);
}

static void the_orphan_pass_is_cut(void **state)
{
        if (is_wanted("orphans"))
                orphans("orphans", EXT4_1K);
}

static void the_orphan_pass_is_cut_orphan_file(void **state)
{
        if (is_wanted("orphans-file"))
                orphans("orphans-file", EXT4_1K ",orphan_file");
}

/* ---- random runs ---- */

static const struct {
        const char *name, *mkfs;
        uint64_t size;
} runs[] = {
        {"ext4", EXT4_1K, 8 * MIB},
        {"ext3", EXT3_1K, 8 * MIB},
        {"orphan-file", EXT4_1K ",orphan_file", 8 * MIB},
        {"bigalloc", EXT4_1K ",bigalloc -C 4096", 8 * MIB},
        {"inline", EXT4_1K ",inline_data", 8 * MIB},
        {"no-csum", EXT4_1K ",^metadata_csum,^64bit", 8 * MIB},
        {"4k", "-b 4096 -I 256 -N 256 -J size=4 " EXT4, 16 * MIB},
        {"groups", EXT4_1K " -g 512", 6 * MIB},
};

static void steps(struct stage *s, uint64_t points)
{
        while (s->cut.nr_looked < points) {
                model_step(&s->md);
                if (t_below(&s->md.rand, 60))
                        continue;
                model_check_all(&s->md);
                model_leave(&s->md);
                must(rig_unmount(&s->m));
                model_settle(&s->md);
                mount_on(s, s->cut.dev);
                (void)model_enter(&s->md);
        }
}

static void random_run(unsigned which, uint64_t seed, uint64_t points)
{
        struct stage *s = t_alloc(sizeof(*s));

        s->cut.name = runs[which].name;
        s->cut.rand = seed;
        s->cut.nr_random = 2;
        s->cut.fsck_one_in = 8;
        s->cut.second_one_in = 24;
        s->cut.one_in = 10;
        s->img = make_image(runs[which].size, runs[which].mkfs);
        prepare(s, NULL);
        s->md.max_size = 120 * KIB;
        s->md.rand = seed;
        cutter_open(&s->cut, &s->img);
        cutter_begin(&s->cut, &s->md);
        mount_on(s, s->cut.dev);
        (void)model_enter(&s->md);
        steps(s, points);
        model_leave(&s->md);
        must(rig_unmount(&s->m));
        model_settle(&s->md);
        cutter_end(&s->cut);
        end(s);
        free(s);
}

static void seeded_points_of_random_runs(void **state)
{
        const uint64_t seed = t_seed();
        const uint64_t rounds = rig_number("UEXT4_ROUNDS", t_is_long() ? 50 : 1);
        const uint64_t points = t_is_long() ? 25 : 13;

        for (uint64_t n = 0; n < rounds; n++) {
                for (unsigned i = 0; i < ARRAY_LEN(runs); i++) {
                        if (is_wanted(runs[i].name) || is_wanted("random"))
                                random_run(i, seed + n, points);
                }
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(append_then_truncate),
                cmocka_unit_test(append_then_truncate_ext3),
                cmocka_unit_test(punch_over_a_leaf_split),
                cmocka_unit_test(collapse),
                cmocka_unit_test(insert),
                cmocka_unit_test(unlink_of_open_files),
                cmocka_unit_test(unlink_of_open_files_orphan_file),
                cmocka_unit_test(the_orphan_pass_is_cut),
                cmocka_unit_test(the_orphan_pass_is_cut_orphan_file),
                cmocka_unit_test(directory_block_becomes_data),
                cmocka_unit_test(full_disk),
                cmocka_unit_test(truncate_in_many_transactions),
                cmocka_unit_test(preallocate_and_convert),
                cmocka_unit_test(seeded_points_of_random_runs),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
