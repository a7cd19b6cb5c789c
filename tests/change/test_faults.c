/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whatever fails, nothing crashes, hangs or leaks; and the next mount finds what the model
 * allows, as after a power cut, and leaves what e2fsck is content with.
 *
 * The Nth request of the device fails, or all from the Nth on, for each N that a run has; and
 * the Nth allocation of memory.  UEXT4_LONG=1 asks e2fsck each time.
 */
#include <unistd.h>

#include "cuts.h"

#define KIB 1024ull
#define MIB (1024 * KIB)

#define EXT4                                                                              \
        "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super," \
        "large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

struct config {
        const char *name, *mkfs;
};

static const struct config configs[] = {
        {"ext4", "-b 1024 -I 256 -N 256 -J size=1 -O " EXT4},
        {"ext3", "-b 1024 -N 256 -J size=1 -O "
                 "none,has_journal,ext_attr,dir_index,filetype,sparse_super,large_file"},
        {"orphan-file", "-b 1024 -I 256 -N 256 -J size=1 -O " EXT4 ",orphan_file"},
        {"inline", "-b 1024 -I 256 -N 256 -J size=1 -O " EXT4 ",inline_data"},
        {"bigalloc", "-b 1024 -I 256 -N 256 -J size=1 -O " EXT4 ",bigalloc -C 4096"},
};

struct sweep {
        const struct config *config;
        struct t_image img;
        struct cutter cut; /* for its check of an image */
        struct rig_mount m;
        struct model md;
        char what[128];
        uint64_t nr_runs, nr_failed;
};

/* ---- what is done, until something fails ---- */

static struct model_file *file(struct sweep *s, const char *name)
{
        return model_find(&s->md, name);
}

static bool has_extents(struct sweep *s)
{
        return ext4_has_incompat(rig_fs(&s->m), EXT4_INCOMPAT_EXTENTS);
}

static int do_extents(struct sweep *s)
{
        struct model_file *a = file(s, "a"), *b = file(s, "b");
        int ret = model_fallocate(&s->md, a, 0, 5000, 100 * KIB);

        if (ret == 0)
                ret = model_write(&s->md, a, 30 * KIB, 9000, OP_BUFFERED);
        if (ret == 0)
                ret = model_fallocate(&s->md, a, FALLOC_FL_COLLAPSE_RANGE, 4 * KIB, 8 * KIB);
        if (ret == 0)
                ret = model_fallocate(&s->md, b, FALLOC_FL_INSERT_RANGE, 4 * KIB, 8 * KIB);
        if (ret == 0)
                ret = model_fallocate(&s->md, b, FALLOC_FL_ZERO_RANGE, 3000, 9000);
        return ret;
}

static int do_names(struct sweep *s)
{
        struct model_file *c = file(s, "c"), *d = file(s, "d");
        int ret = model_unlink(&s->md, c);

        if (ret == 0)
                ret = model_unlink(&s->md, d);
        if (ret == 0)
                ret = model_put(&s->md, d);
        if (ret == 0)
                ret = model_truncate(&s->md, c, 1234);
        if (ret == 0)
                ret = model_tmpfile(&s->md, "/m");
        if (ret == 0)
                ret = model_write(&s->md, &s->md.files[s->md.nr_files - 1], 0, 9999, OP_DIRECT);
        return ret;
}

static int do_all(struct sweep *s)
{
        struct model_file *a = file(s, "a"), *b = file(s, "b");
        int ret = model_enter(&s->md);

        if (ret == 0)
                ret = model_write(&s->md, a, 20000, 30000, OP_DIRECT);
        if (ret == 0)
                ret = model_truncate(&s->md, b, 1003);
        if (ret == 0)
                ret = model_truncate(&s->md, b, 40000);
        if (ret == 0)
                ret = model_fallocate(&s->md, a, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                      7000, 20000);
        if (ret == 0)
                ret = model_sync(&s->md);
        if (ret == 0 && has_extents(s))
                ret = do_extents(s);
        if (ret == 0)
                ret = do_names(s);
        return ret;
}

/* 0, or what has failed; everything is given back in any case. */
static int run(struct sweep *s, struct uext4_bdev *dev)
{
        int ret = rig_mount(&s->m, dev, RIG_OPTIONS);
        int err;

        if (ret < 0)
                return ret;
        if (!rig_fs(&s->m)->journal) {
                (void)rig_unmount(&s->m);
                return -EROFS;
        }
        ret = do_all(s);
        model_leave(&s->md);
        err = rig_unmount(&s->m);
        return ret < 0 ? ret : err;
}

/* ---- images and models ---- */

static void make_image(struct sweep *s)
{
        static const size_t sizes[] = {20000, 45000, 30000, 70000, 50};
        char *bytes = t_alloc(100000);
        struct rig_tree tree;
        char name[16];

        rig_tree_init(&tree);
        rig_tree_dir(&tree, "m");
        for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
                for (size_t at = 0; at < sizes[i]; at++)
                        bytes[at] = (char)(1 + (at * 7 + i * 31 + at / 251) % 255);
                snprintf(name, sizeof(name), "m/%c", 'a' + i);
                rig_tree_file(&tree, name, bytes, sizes[i]);
        }
        s->img = rig_make(5 * MIB, s->config->mkfs, tree.path, NULL);
        rig_tree_done(&tree);
        free(bytes);
}

/* What is in the image, in the model. */
static void learn(struct sweep *s)
{
        struct uext4_bdev *dev = rig_open_image(&s->img);

        T_CHECK(rig_mount(&s->m, dev, "ro") == 0);
        model_init(&s->md, &s->m, 1);
        model_add_dir(&s->md, "/m");
        model_leave(&s->md);
        T_CHECK(rig_unmount(&s->m) == 0);
        uext4_bdev_close(dev);
        s->md.keep_states = true;
        s->md.may_fail = true;
}

/* What the run has left, without faults any more. */
static void look(struct sweep *s, struct t_image *img)
{
        memcpy(s->cut.image, img->data, img->size);
        s->cut.md = &s->md;
        cutter_check(&s->cut, img->data, false, s->what);
        s->cut.md = NULL;
        model_done(&s->md);
}

static void begin(struct sweep *s, const struct config *config)
{
        memset(s, 0, sizeof(*s));
        s->config = config;
        make_image(s);
        s->cut.name = config->name;
        s->cut.rand = t_seed();
        s->cut.fsck_one_in = t_is_long() ? 1 : 2;
        cutter_open(&s->cut, &s->img);
}

static void end(struct sweep *s, const char *of)
{
        printf("# %s, %s: %llu runs, %llu had something fail\n", s->config->name, of,
               (unsigned long long)s->nr_runs, (unsigned long long)s->nr_failed);
        cutter_close(&s->cut);
        t_image_free(&s->img);
}

#define SECONDS_OF_A_RUN 120 /* more is a hang */

/* ---- devices ---- */

/* Request `n` fails, and with `sticky` all later ones; whether there was one. */
static bool run_with_fault(struct sweep *s, uint32_t ops, uint64_t n, bool sticky)
{
        const struct uext4_bdev_fault rule = {
                .ops = ops, .skip = n, .count = sticky ? 0 : 1, .error = -EIO};
        struct t_image img = t_image_copy(&s->img);
        struct uext4_bdev *dev;
        uint64_t hits;

        snprintf(s->what, sizeof(s->what), "operations %#x: request %llu %s", ops,
                 (unsigned long long)n, sticky ? "and later ones fail" : "fails");
        learn(s);
        T_CHECK(uext4_bdev_open_fault(rig_open_image(&img), &dev) == 0);
        T_CHECK(uext4_bdev_fault_add(dev, &rule) == 0);
        alarm(SECONDS_OF_A_RUN);
        s->nr_runs++;
        s->nr_failed += run(s, dev) < 0;
        hits = uext4_bdev_fault_hits(dev);
        uext4_bdev_close(dev);
        look(s, &img);
        t_image_free(&img);
        return hits > 0;
}

static void sweep_device(uint32_t ops, const char *of)
{
        struct sweep *s = t_alloc(sizeof(*s));

        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                begin(s, &configs[i]);
                for (unsigned sticky = 0; sticky < 2; sticky++) {
                        uint64_t n = 0;

                        while (run_with_fault(s, ops, n, sticky))
                                n += t_sweep_step(3);
                }
                end(s, of);
        }
        alarm(0);
        free(s);
}

static void each_write_fails(void **state)
{
        sweep_device(1u << UEXT4_BDEV_WRITE | 1u << UEXT4_BDEV_WRITE_ZEROES, "writes");
}

static void each_read_fails(void **state)
{
        sweep_device(1u << UEXT4_BDEV_READ, "reads");
}

static void each_flush_fails(void **state)
{
        sweep_device(1u << UEXT4_BDEV_FLUSH, "flushes");
}

/* ---- memory ---- */

static void run_with_little_memory(struct sweep *s, uint64_t n)
{
        struct t_image img = t_image_copy(&s->img);
        struct uext4_bdev *dev = rig_open_image(&img);

        snprintf(s->what, sizeof(s->what), "allocation %llu fails", (unsigned long long)n);
        learn(s);
        alarm(SECONDS_OF_A_RUN);
        s->nr_runs++;
        mem_fail_after((int64_t)n);
        s->nr_failed += run(s, dev) < 0;
        mem_fail_after(-1);
        uext4_bdev_close(dev);
        look(s, &img);
        t_image_free(&img);
}

/* Allocations of a run without faults. */
static uint64_t count_allocations(struct sweep *s)
{
        struct t_image img = t_image_copy(&s->img);
        struct uext4_bdev *dev = rig_open_image(&img);
        uint64_t before;

        learn(s);
        before = mem_count();
        T_CHECK(run(s, dev) == 0);
        before = mem_count() - before;
        uext4_bdev_close(dev);
        model_done(&s->md);
        t_image_free(&img);
        return before;
}

static void each_allocation_fails(void **state)
{
        struct sweep *s = t_alloc(sizeof(*s));

        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                uint64_t nr;

                begin(s, &configs[i]);
                nr = count_allocations(s);
                for (uint64_t n = 0; n < nr; n++)
                        run_with_little_memory(s, n);
                printf("# %s: %llu allocations\n", configs[i].name, (unsigned long long)nr);
                end(s, "memory");
        }
        alarm(0);
        free(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_write_fails),
                cmocka_unit_test(each_read_fails),
                cmocka_unit_test(each_flush_fails),
                cmocka_unit_test(each_allocation_fails),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
