/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whatever fails, nothing crashes, hangs or leaks; and the next mount finds what the model
 * allows, as after a power cut, and leaves what e2fsck is content with.
 *
 * Each request of the device fails, and each allocation of memory (sweep.h).  UEXT4_LONG=1 asks
 * e2fsck each time.
 */
#include "cuts.h"
#include "ext4/extent_change.h"
#include "sweep.h"

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

struct change {
        struct sweep s;
        struct cutter cut; /* for its check of an image */
        struct rig_mount m;
        struct model md;
};

/* ---- what is done, until something fails ---- */

static struct model_file *file(struct change *c, const char *name)
{
        return model_find(&c->md, name);
}

static bool has_extents(struct change *c)
{
        return ext4_has_incompat(rig_fs(&c->m), EXT4_INCOMPAT_EXTENTS);
}

static int do_extents(struct change *c)
{
        struct model_file *a = file(c, "a"), *b = file(c, "b");
        int ret = model_fallocate(&c->md, a, 0, 5000, 100 * KIB);

        if (ret == 0)
                ret = model_write(&c->md, a, 30 * KIB, 9000, OP_BUFFERED);
        if (ret == 0)
                ret = model_fallocate(&c->md, a, FALLOC_FL_COLLAPSE_RANGE, 4 * KIB, 8 * KIB);
        if (ret == 0)
                ret = model_fallocate(&c->md, b, FALLOC_FL_INSERT_RANGE, 4 * KIB, 8 * KIB);
        if (ret == 0)
                ret = model_fallocate(&c->md, b, FALLOC_FL_ZERO_RANGE, 3000, 9000);
        return ret;
}

static int do_names(struct change *c)
{
        struct model_file *third = file(c, "c"), *fourth = file(c, "d");
        int ret = model_unlink(&c->md, third);

        if (ret == 0)
                ret = model_unlink(&c->md, fourth);
        if (ret == 0)
                ret = model_put(&c->md, fourth);
        if (ret == 0)
                ret = model_truncate(&c->md, third, 1234);
        if (ret == 0)
                ret = model_tmpfile(&c->md, "/m");
        if (ret == 0)
                ret = model_write(&c->md, &c->md.files[c->md.nr_files - 1], 0, 9999, OP_DIRECT);
        return ret;
}

static int do_all(struct change *c)
{
        struct model_file *a = file(c, "a"), *b = file(c, "b");
        int ret = model_enter(&c->md);

        if (ret == 0)
                ret = model_write(&c->md, a, 20000, 30000, OP_DIRECT);
        if (ret == 0)
                ret = model_truncate(&c->md, b, 1003);
        if (ret == 0)
                ret = model_truncate(&c->md, b, 40000);
        if (ret == 0)
                ret = model_fallocate(&c->md, a, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                      7000, 20000);
        if (ret == 0)
                ret = model_sync(&c->md);
        if (ret == 0 && has_extents(c))
                ret = do_extents(c);
        if (ret == 0)
                ret = do_names(c);
        return ret;
}

/* What is in the image, in the model. */
static void learn(struct change *c)
{
        struct uext4_bdev *dev = rig_open_image(&c->s.img);

        T_CHECK(rig_mount(&c->m, dev, "ro") == 0);
        model_init(&c->md, &c->m, 1);
        model_add_dir(&c->md, "/m");
        model_leave(&c->md);
        T_CHECK(rig_unmount(&c->m) == 0);
        uext4_bdev_close(dev);
        c->md.keep_states = true;
        c->md.may_fail = true;
}

static int mount_and_do(struct change *c, struct uext4_bdev *dev)
{
        int ret = rig_mount(&c->m, dev, RIG_OPTIONS);
        int err;

        if (ret < 0)
                return ret;
        if (!rig_fs(&c->m)->journal) {
                (void)rig_unmount(&c->m);
                return -EROFS;
        }
        ret = do_all(c);
        model_leave(&c->md);
        err = rig_unmount(&c->m);
        return ret < 0 ? ret : err;
}

static int run(struct sweep *s, struct uext4_bdev *dev)
{
        return mount_and_do(container_of(s, struct change, s), dev);
}

/* The next mount finds what the model allows; then there is a new one. */
static void look(struct sweep *s, struct t_image *img)
{
        struct change *c = container_of(s, struct change, s);

        memcpy(c->cut.image, img->data, img->size);
        c->cut.md = &c->md;
        cutter_check(&c->cut, img->data, false, s->what);
        c->cut.md = NULL;
        model_done(&c->md);
        learn(c);
}

/* ---- the sweeps ---- */

static struct t_image make_image(const struct config *config)
{
        static const size_t sizes[] = {20000, 45000, 30000, 70000, 50};
        char *bytes = t_alloc(100000);
        struct t_image img;
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
        img = rig_make(5 * MIB, config->mkfs, tree.path, NULL);
        rig_tree_done(&tree);
        free(bytes);
        return img;
}

static void sweep_configs(enum sweep_kind kind, uint64_t step)
{
        struct change *c = t_alloc(sizeof(*c));

        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                memset(c, 0, sizeof(*c));
                c->s = (struct sweep){.name = configs[i].name,
                                      .img = make_image(&configs[i]),
                                      .run = run,
                                      .look = look};
                c->cut.name = configs[i].name;
                c->cut.rand = t_seed();
                c->cut.fsck_one_in = t_is_long() ? 1 : 2;
                cutter_open(&c->cut, &c->s.img);
                learn(c);
                sweep_kind(&c->s, kind, step);
                model_done(&c->md);
                cutter_close(&c->cut);
                t_image_free(&c->s.img);
        }
        free(c);
}

static void each_write_fails(void **state)
{
        sweep_configs(SWEEP_WRITES, t_sweep_step(3));
}

static void each_read_fails(void **state)
{
        sweep_configs(SWEEP_READS, t_sweep_step(3));
}

static void each_flush_fails(void **state)
{
        sweep_configs(SWEEP_FLUSHES, t_sweep_step(3));
}

static void each_allocation_fails(void **state)
{
        sweep_configs(SWEEP_MEMORY, 1);
}

/* ---- a map of many nodes ---- */

#define NR_EXTENTS 300u /* of one block, with a hole behind each: four leaves */
#define EXTENTS_AT (2 * KIB)

/* Each block has its number. */
static void write_extents(struct t_image *img)
{
        struct uext4_bdev *dev = rig_open_image(img);
        struct ext4_inode *inode;
        uint32_t bytes[KIB / 4];
        struct rig_mount m;

        T_CHECK(rig_mount(&m, dev, RIG_OPTIONS) == 0 && op_get(&m, "/m", &inode) == 0);
        for (uint32_t i = 0; i < NR_EXTENTS; i++) {
                for (size_t k = 0; k < ARRAY_LEN(bytes); k++)
                        bytes[k] = i + 1;
                T_CHECK(op_write(inode, i * EXTENTS_AT, bytes, sizeof(bytes), OP_BUFFERED) ==
                        0);
        }
        T_CHECK(op_sync(&m) == 0 && ext4_extent_depth(inode) == 1);
        ext4_iput(inode);
        T_CHECK(rig_unmount(&m) == 0);
        uext4_bdev_close(dev);
}

static int insert(struct sweep *s, struct uext4_bdev *dev)
{
        struct ext4_inode *inode;
        struct rig_mount m;
        int ret = rig_mount(&m, dev, RIG_OPTIONS);
        int err;

        if (ret < 0)
                return ret;
        ret = op_get(&m, "/m", &inode);
        if (ret == 0) {
                ret = op_fallocate(inode, FALLOC_FL_INSERT_RANGE, EXTENTS_AT, EXTENTS_AT);
                ext4_iput(inode);
        }
        err = rig_unmount(&m);
        return ret < 0 ? ret : err;
}

/* All blocks are there, in their order, whatever has moved. */
static void find_extents(struct sweep *s, struct t_image *img)
{
        struct uext4_bdev *dev = rig_open_image(img);
        struct ext4_inode *inode;
        uint32_t nr = 0, *bytes;
        struct rig_mount m;
        uint64_t size;

        T_CHECK(rig_mount(&m, dev, RIG_OPTIONS) == 0 && op_get(&m, "/m", &inode) == 0);
        size = vfs_size(&inode->vfs);
        bytes = t_alloc(size);
        T_CHECK(op_read(inode, 0, bytes, size) == 0);
        for (uint64_t i = 0; i < size / 4; i += KIB / 4) {
                if (bytes[i] != 0)
                        t_assert_row(s->what, bytes[i], ++nr);
        }
        t_assert_row(s->what, nr, NR_EXTENTS);
        free(bytes);
        ext4_iput(inode);
        T_CHECK(rig_unmount(&m) == 0);
        uext4_bdev_close(dev);
        rig_must_be_clean(img->data, img->size);
}

static void insert_range_stops_in_its_midst(void **state)
{
        struct sweep s = {.name = "insert", .run = insert, .look = find_extents};

        s.img = rig_make(5 * MIB, configs[0].mkfs, NULL, "write /dev/null m\\n");
        write_extents(&s.img);
        sweep_kind(&s, SWEEP_READS, 1);
        t_image_free(&s.img);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_write_fails),
                cmocka_unit_test(each_read_fails),
                cmocka_unit_test(each_flush_fails),
                cmocka_unit_test(each_allocation_fails),
                cmocka_unit_test(insert_range_stops_in_its_midst),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
