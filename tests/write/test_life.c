/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A whole life of a file system: mounted, files written in all ways, names made, moved and
 * removed, attributes set, synced, unmounted.  Whatever fails on the way, request by request
 * and allocation by allocation (sweep.h), nothing crashes, hangs or leaks, and what was said
 * to be durable is found by the next mount.
 *
 * Each step below changes one fact that can be seen afterwards, in one transaction.  So what is
 * found must be what the steps up to some one of them have left, and that one is not before the
 * last sync that succeeded.  What the mixes have written is in track.h.
 */

#include "../change/sweep.h"
#include "mix.h"

#define FEATURES                                                                          \
        "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super," \
        "large_file,huge_file,dir_nlink,extra_isize,metadata_csum"
#define EXT4_1K "-b 1024 -I 256 -N 64 -J size=1 -O " FEATURES

struct config {
        const char *name, *mkfs, *options;
        bool has_extents, has_journal;
        unsigned mib;
};

static const struct config configs[] = {
        {"4k", "-b 4096 -I 256 -N 64 -J size=4 -O " FEATURES, "", true, true, 16},
        {"1k", EXT4_1K, "", true, true, 5},
        {"ext3",
         "-b 1024 -N 64 -J size=1 -O "
         "none,has_journal,ext_attr,dir_index,filetype,sparse_super,large_file",
         "", false, true, 5},
        {"nojournal",
         "-b 1024 -I 256 -N 64 -O none,ext_attr,dir_index,filetype,extent,sparse_super,"
         "large_file,metadata_csum",
         "", true, false, 5},
        {"data=journal", EXT4_1K, ",data=journal", true, true, 5},
        {"bigalloc", EXT4_1K ",bigalloc -C 4096", "", true, true, 5},
        {"inline", EXT4_1K ",inline_data", "", true, true, 5},
};

#define NR_FILES 2
#define NEW_SIZE 5000u
#define NEW_LESS 100u

/* What can be seen. */
enum fact {
        HAS_DIRECTORY,
        NEW_FILE, /* enum new_file */
        IS_MOVED, /* "from" is "to", in place of what that was */
        IS_GONE,
        ATTRIBUTE, /* 0, or the length of its value */
        NR_FACTS,
};

enum new_file {
        NEW_ABSENT,
        NEW_THERE, /* and has something of its contents */
        NEW_WHOLE,
        NEW_CUT,
};

struct life {
        struct sweep s;
        const struct config *config;
        struct rig_mount m;
        struct mix mixes[NR_FILES];
        struct uext4_inode *root;
        uint64_t seed;
        unsigned nr_begun, nr_done, nr_durable; /* steps */
};

static void complain(struct life *l, const struct t_image *img, const char *what)
{
        fprintf(stderr, "%s, seed %llu, %s: %s (%u steps begun, %u done, %u durable)\n%s\n",
                l->s.name, (unsigned long long)l->seed, l->s.what, what, l->nr_begun,
                l->nr_done, l->nr_durable, l->m.log.text);
        rig_keep("life", img->data, img->size);
        abort();
}

/* ---- the steps ---- */

#define NAME(text) (text), sizeof(text) - 1

static int make_directory(struct life *l)
{
        return uext4_mkdir(l->root, NAME("d"), 0755, NULL);
}

static int make_file(struct life *l)
{
        return uext4_create(l->root, NAME("new"), 0644, NULL);
}

/* And make it durable. */
static int write_file(struct life *l)
{
        struct uext4_file *file;
        char bytes[NEW_SIZE];
        int64_t n;
        int ret = uext4_open_path(l->m.fs, "/new", O_RDWR, &file);

        if (ret < 0)
                return ret;
        memset(bytes, 'n', sizeof(bytes));
        n = uext4_pwrite(file, bytes, sizeof(bytes), 0);
        ret = n < 0 ? (int)n : n < (int64_t)sizeof(bytes) ? -EIO : uext4_fsync(file);
        uext4_close(file);
        return ret;
}

static int cut_file(struct life *l)
{
        struct uext4_file *file;
        int ret = uext4_open_path(l->m.fs, "/new", O_RDWR, &file);

        if (ret < 0)
                return ret;
        ret = uext4_truncate(file, NEW_LESS);
        uext4_close(file);
        return ret;
}

static int move_over(struct life *l)
{
        return uext4_rename(l->root, NAME("from"), l->root, NAME("to"), 0);
}

static int remove_file(struct life *l)
{
        return uext4_unlink(l->root, NAME("gone"));
}

static int set_attribute(struct life *l, const char *name, size_t size)
{
        char value[1000];
        struct uext4_inode *inode;
        int ret = uext4_lookup(l->root, name, strlen(name), &inode);

        if (ret < 0)
                return ret;
        memset(value, 'v', size);
        ret = uext4_setxattr(inode, "user.life", value, size, 0);
        uext4_inode_put(inode);
        return ret;
}

static int set_small(struct life *l)
{
        return set_attribute(l, "from", 10);
}

static int set_large(struct life *l)
{
        return set_attribute(l, "to", 600);
}

static int sync_root(struct life *l)
{
        return uext4_fsync_inode(l->root);
}

static int sync_all(struct life *l)
{
        return uext4_syncfs(l->m.fs);
}

static const struct step {
        int (*act)(struct life *l);
        enum fact fact; /* NR_FACTS: none */
        int value;
        bool is_sync;
} steps[] = {
        {make_directory, HAS_DIRECTORY, 1, false},
        {make_file, NEW_FILE, NEW_THERE, false},
        {set_small, ATTRIBUTE, 10, false},
        {write_file, NEW_FILE, NEW_WHOLE, true},
        {move_over, IS_MOVED, 1, false},
        {sync_root, NR_FACTS, 0, true},
        {remove_file, IS_GONE, 1, false},
        {set_large, ATTRIBUTE, 600, false},
        {sync_all, NR_FACTS, 0, true},
        {cut_file, NEW_FILE, NEW_CUT, false},
};

/* ---- one life ---- */

static int mix_some(struct life *l, uint64_t *rand, unsigned nr)
{
        int ret = 0;

        for (unsigned i = 0; i < nr && ret == 0; i++)
                ret = mix_step(&l->mixes[t_below(rand, NR_FILES)]);
        return ret;
}

static int act(struct life *l)
{
        uint64_t rand = l->seed;
        int ret = uext4_inode_get(l->m.fs, UEXT4_ROOT_INO, 0, &l->root);

        for (unsigned i = 0; i < NR_FILES && ret == 0; i++)
                ret = mix_open(&l->mixes[i], l->m.fs, i == 0 ? "/f0" : "/f1");
        for (size_t i = 0; i < ARRAY_LEN(steps) && ret == 0; i++) {
                ret = mix_some(l, &rand, t_is_long() ? 6 : 2);
                if (ret < 0)
                        break;
                l->nr_begun++;
                ret = steps[i].act(l);
                if (ret < 0)
                        break;
                l->nr_done++;
                if (steps[i].is_sync)
                        l->nr_durable = l->nr_done;
        }
        for (unsigned i = 0; i < NR_FILES && ret == 0; i++)
                ret = mix_settle(&l->mixes[i]);
        return ret;
}

static int run(struct sweep *s, struct uext4_bdev *dev)
{
        struct life *l = container_of(s, struct life, s);
        char options[100];
        int ret, err;

        for (unsigned i = 0; i < NR_FILES; i++) {
                mix_init(&l->mixes[i], i, l->seed + i, l->config->has_extents);
                l->mixes[i].may_be_short = true;
        }
        l->nr_begun = l->nr_done = l->nr_durable = 0;
        l->root = NULL;
        snprintf(options, sizeof(options), "%s,discard%s", RIG_OPTIONS, l->config->options);
        ret = rig_mount(&l->m, dev, options);
        if (ret < 0)
                return ret;
        ret = act(l);
        for (unsigned i = 0; i < NR_FILES; i++)
                mix_close(&l->mixes[i]);
        if (l->root)
                uext4_inode_put(l->root);
        err = rig_unmount(&l->m);
        if (err == 0)
                l->nr_durable = l->nr_done;
        for (unsigned i = 0; i < NR_FILES && ret == 0 && err == 0; i++)
                track_synced(&l->mixes[i].t);
        return ret < 0 ? ret : err;
}

/* ---- what is found ---- */

static bool is_there(struct uext4_fs *fs, const char *path)
{
        struct uext4_inode *inode;
        int ret = uext4_resolve(fs, path, 0, &inode);

        T_CHECK(ret == 0 || ret == -ENOENT);
        if (ret == 0)
                uext4_inode_put(inode);
        return ret == 0;
}

/* Its size, when it has nothing but `byte`s in it; -1. */
static int size_of(struct uext4_fs *fs, const char *path, char byte)
{
        char bytes[NEW_SIZE + 1];
        struct uext4_file *file;
        int64_t n;

        T_CHECK(uext4_open_path(fs, path, O_RDONLY, &file) == 0);
        n = uext4_pread(file, bytes, sizeof(bytes), 0);
        T_CHECK(n >= 0);
        uext4_close(file);
        for (int64_t i = 0; i < n; i++)
                if (bytes[i] != byte)
                        return -1;
        return (int)n;
}

static int attribute_of(struct uext4_fs *fs, const char *path)
{
        struct uext4_inode *inode;
        char value[1000];
        ssize_t n;

        T_CHECK(uext4_resolve(fs, path, 0, &inode) == 0);
        n = uext4_getxattr(inode, "user.life", value, sizeof(value));
        T_CHECK(n >= 0 || n == -ENODATA);
        uext4_inode_put(inode);
        for (ssize_t i = 0; i < n; i++)
                T_CHECK(value[i] == 'v');
        return n < 0 ? 0 : (int)n;
}

/* The new file: its size plus one, or 0 when it is absent; -1 for what nobody wrote. */
static void find_facts(struct uext4_fs *fs, int found[NR_FACTS])
{
        const bool is_moved = !is_there(fs, "/from");

        found[HAS_DIRECTORY] = is_there(fs, "/d");
        found[NEW_FILE] = 0;
        if (is_there(fs, "/new")) {
                int size = size_of(fs, "/new", 'n');

                found[NEW_FILE] = size < 0 ? -1 : size + 1;
        }
        found[IS_MOVED] = is_moved;
        T_CHECK(size_of(fs, "/to", is_moved ? 'f' : 't') == 8);
        found[IS_GONE] = !is_there(fs, "/gone");
        found[ATTRIBUTE] = attribute_of(fs, is_moved ? "/to" : "/from");
}

static bool is_size_of(enum new_file state, int size)
{
        switch (state) {
        case NEW_ABSENT:
                return size < 0;
        case NEW_THERE:
                return size >= 0 && size <= (int)NEW_SIZE;
        case NEW_WHOLE:
                return size == (int)NEW_SIZE;
        default:
                return size == (int)NEW_LESS;
        }
}

/* Whether the first `nr` steps leave this. */
static bool leaves(unsigned nr, const int found[NR_FACTS])
{
        int want[NR_FACTS] = {0};

        for (unsigned i = 0; i < nr; i++)
                if (steps[i].fact < NR_FACTS)
                        want[steps[i].fact] = steps[i].value;
        for (unsigned f = 0; f < NR_FACTS; f++) {
                if (f == NEW_FILE ? found[f] == -1 ||
                                            !is_size_of((enum new_file)want[f], found[f] - 1)
                                  : found[f] != want[f])
                        return false;
        }
        return true;
}

static void check_facts(struct life *l, struct uext4_fs *fs, const struct t_image *img)
{
        int found[NR_FACTS];
        char text[200];

        find_facts(fs, found);
        for (unsigned nr = l->nr_durable; nr <= l->nr_begun; nr++)
                if (leaves(nr, found))
                        return;
        snprintf(text, sizeof(text),
                 "found: directory %d, new file %d, moved %d, gone %d, attribute %d",
                 found[HAS_DIRECTORY], found[NEW_FILE], found[IS_MOVED], found[IS_GONE],
                 found[ATTRIBUTE]);
        complain(l, img, text);
}

static void check_mount(struct life *l, struct uext4_fs *fs, const struct t_image *img)
{
        for (unsigned i = 0; i < NR_FILES; i++) {
                const char *wrong = l->mixes[i].wrong;

                if (!wrong)
                        wrong = mix_check_cut(&l->mixes[i], fs, i == 0 ? "/f0" : "/f1");
                if (wrong)
                        complain(l, img, wrong);
        }
        check_facts(l, fs, img);
}

/* Without a journal nothing is promised once something has failed, which the log says. */
static void look(struct sweep *s, struct t_image *img)
{
        struct life *l = container_of(s, struct life, s);
        const bool is_promised = l->config->has_journal ||
                                 (l->nr_durable == ARRAY_LEN(steps) && l->m.log.nr_lines == 0);
        struct uext4_bdev *dev = rig_open_image(img);
        struct rig_mount m;
        char *text;
        int ret = rig_mount(&m, dev, RIG_OPTIONS);

        if (ret == 0 && is_promised)
                check_mount(l, m.fs, img);
        if (ret == 0)
                ret = rig_unmount(&m);
        if (ret < 0 && is_promised)
                complain(l, img, m.log.text);
        for (unsigned i = 0; i < NR_FILES; i++)
                mix_done(&l->mixes[i]);
        uext4_bdev_close(dev);
        text = is_promised && (s->nr_runs % 4 == 0 || t_is_long())
                       ? rig_fsck(img->data, img->size)
                       : NULL;
        if (text)
                complain(l, img, text);
}

/* ---- the sweeps ---- */

static struct t_image make_image(const struct config *config)
{
        struct rig_tree tree;
        struct t_image img;

        rig_tree_init(&tree);
        rig_tree_file(&tree, "f0", "", 0);
        rig_tree_file(&tree, "f1", "", 0);
        rig_tree_file(&tree, "from", "ffffffff", 8);
        rig_tree_file(&tree, "to", "tttttttt", 8);
        rig_tree_file(&tree, "gone", "gggggggg", 8);
        img = rig_make((uint64_t)config->mib << 20, config->mkfs, tree.path, NULL);
        rig_tree_done(&tree);
        return img;
}

/* Of a quick run each `step`th, which is a prime number. */
static void sweep_configs(enum sweep_kind kind, uint64_t step)
{
        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                struct life l = {.config = &configs[i], .seed = t_seed() + i};

                l.s = (struct sweep){.name = configs[i].name,
                                     .img = make_image(&configs[i]),
                                     .run = run,
                                     .look = look};
                sweep_kind(&l.s, kind, t_is_long() ? 1 : step);
                t_image_free(&l.s.img);
        }
}

static void each_read_fails(void **state)
{
        sweep_configs(SWEEP_READS, 5);
}

static void each_write_fails(void **state)
{
        sweep_configs(SWEEP_WRITES, 7);
}

static void each_flush_fails(void **state)
{
        sweep_configs(SWEEP_FLUSHES, 5);
}

static void each_discard_fails(void **state)
{
        sweep_configs(SWEEP_DISCARDS, 1);
}

static void each_transfer_is_short(void **state)
{
        sweep_configs(SWEEP_SHORT_READS, 7);
        sweep_configs(SWEEP_SHORT_WRITES, 11);
}

static void each_allocation_fails(void **state)
{
        sweep_configs(SWEEP_MEMORY, 13);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_read_fails),
                cmocka_unit_test(each_write_fails),
                cmocka_unit_test(each_flush_fails),
                cmocka_unit_test(each_discard_fails),
                cmocka_unit_test(each_transfer_is_short),
                cmocka_unit_test(each_allocation_fails),
        };

        return cmocka_run_group_tests_name("write_life", tests, NULL, NULL);
}
