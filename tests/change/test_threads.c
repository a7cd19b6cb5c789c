/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Threads that change files of one mount, each its own, each against a model of its own; the
 * journal's thread commits meanwhile.  They share groups, the journal, the orphans and a
 * directory that all of them take names from.
 */
#include "model.h"

#define KIB 1024ull
#define MIB (1024 * KIB)

#define NR_THREADS 4
#define NR_FILES   6

#define EXT4                                                                              \
        "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super," \
        "large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

struct team {
        struct rig_mount m;
        struct model models[NR_THREADS];
        unsigned nr_steps;
};

static void work(void *arg, unsigned n)
{
        struct team *team = arg;
        struct model *md = &team->models[n];
        struct statvfs st;
        char name[32];

        for (unsigned i = 0; i < team->nr_steps; i++) {
                model_step(md);
                if (i % 32 == 31) {
                        snprintf(name, sizeof(name), "n%u-%u", n, i / 32);
                        T_CHECK(op_unlink(&team->m, "/all", name) == 0);
                        T_CHECK(uext4_statfs(team->m.fs, &st) == 0);
                }
        }
        model_check_all(md);
        model_leave(md);
}

static void make_files(struct rig_tree *tree, char *bytes)
{
        char name[64];

        rig_tree_init(tree);
        rig_tree_dir(tree, "all");
        for (unsigned n = 0; n < NR_THREADS; n++) {
                snprintf(name, sizeof(name), "t%u", n);
                rig_tree_dir(tree, name);
                for (unsigned i = 0; i < NR_FILES; i++) {
                        snprintf(name, sizeof(name), "t%u/f%u", n, i);
                        rig_tree_file(tree, name, bytes, i * 7777);
                }
                for (unsigned i = 0; i < 64; i++) {
                        snprintf(name, sizeof(name), "all/n%u-%u", n, i);
                        rig_tree_file(tree, name, bytes, 5000);
                }
        }
}

static struct t_image make_image(uint64_t size, const char *options)
{
        char *bytes = t_alloc(65536);
        struct rig_tree tree;
        struct t_image img;

        for (unsigned i = 0; i < 65536; i++)
                bytes[i] = (char)(1 + (i * 7 + i / 253) % 255);
        make_files(&tree, bytes);
        img = rig_make(size, options, tree.path, NULL);
        rig_tree_done(&tree);
        free(bytes);
        return img;
}

static void run(uint64_t size, const char *options, const char *mount)
{
        struct team *team = t_alloc(sizeof(*team));
        struct t_image img = make_image(size, options);
        struct uext4_bdev *dev = rig_open_image(&img);
        const uint64_t seed = t_seed();

        T_CHECK(rig_mount(&team->m, dev, mount) == 0);
        T_CHECK(rig_fs(&team->m)->journal);
        team->nr_steps = t_is_long() ? 2000 : 160;
        for (unsigned n = 0; n < NR_THREADS; n++) {
                char dir[16];

                snprintf(dir, sizeof(dir), "/t%u", n);
                model_init(&team->models[n], &team->m, seed + n);
                model_add_dir(&team->models[n], dir);
                team->models[n].no_statfs = true;
                team->models[n].max_size = 200 * KIB;
        }
        t_run_threads(NR_THREADS, work, team);
        for (unsigned n = 0; n < NR_THREADS; n++)
                model_done(&team->models[n]);
        rig_end(&team->m, dev, &img);
        free(team);
}

static void files_of_one_mount(void **state)
{
        run(24 * MIB, "-b 1024 -I 256 -N 1000 -J size=1 -O " EXT4, "rw,commit=1");
}

static void files_of_one_mount_orphan_file(void **state)
{
        run(32 * MIB, "-b 4096 -I 256 -N 1000 -J size=4 -O " EXT4 ",orphan_file",
            "rw,commit=1");
}

static void a_disk_that_is_nearly_full(void **state)
{
        run(5 * MIB, "-b 1024 -I 256 -N 1000 -J size=1 -O " EXT4, "rw,commit=1");
}

static void without_a_journal(void **state)
{
        run(24 * MIB, "-b 1024 -I 256 -N 1000 -O none,ext_attr,filetype,extent,metadata_csum",
            "rw,commit=1");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(files_of_one_mount),
                cmocka_unit_test(files_of_one_mount_orphan_file),
                cmocka_unit_test(a_disk_that_is_nearly_full),
                cmocka_unit_test(without_a_journal),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
