/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Whatever fails while files are written, nothing crashes, hangs or leaks; and the next mount
 * finds what track.h allows, as after a power cut, and leaves what e2fsck is content with.
 *
 * Each request of the device fails that a run of mix.h has, and each allocation of memory
 * (sweep.h).  UEXT4_LONG=1 makes longer runs, and more of them.
 */

#include "../change/sweep.h"
#include "mix.h"

#define FEATURES \
        "has_journal,extents,huge_file,flex_bg,64bit,dir_nlink,extra_isize,metadata_csum"
#define EXT4_1K \
        "-b 1024 -I 256 -N 64 -J size=1 -O none,sparse_super,large_file,filetype," FEATURES
#define EXT3_1K "-b 1024 -N 64 -J size=1 -O none,has_journal,filetype,sparse_super,large_file"

struct config {
        const char *name, *mkfs;
        bool has_extents;
};

static const struct config configs[] = {
        {"ext4", EXT4_1K, true},
        {"orphan-file", EXT4_1K ",orphan_file", true},
        {"ext3", EXT3_1K, false},
        {"bigalloc", EXT4_1K ",bigalloc -C 4096", true},
};

#define NR_FILES 2

struct writes {
        struct sweep s;
        struct rig_mount m;
        struct mix mixes[NR_FILES];
        unsigned nr_steps;
        bool has_extents;
        uint64_t seed;
};

static void path_of(unsigned file, char *path, size_t size)
{
        snprintf(path, size, "/f%u", file);
}

static void complain(struct writes *w, const struct t_image *img, const char *what)
{
        fprintf(stderr, "%s, seed %llu, %s: %s\n%s\n", w->s.name, (unsigned long long)w->seed,
                w->s.what, what, w->m.log.text);
        rig_keep("fault", img->data, img->size);
        abort();
}

/* ---- one run ---- */

static int act(struct writes *w)
{
        uint64_t rand = w->seed;
        char path[16];
        int ret = 0;

        for (unsigned i = 0; i < NR_FILES && ret == 0; i++) {
                path_of(i, path, sizeof(path));
                ret = mix_open(&w->mixes[i], w->m.fs, path);
        }
        for (unsigned i = 0; i < w->nr_steps && ret == 0; i++)
                ret = mix_step(&w->mixes[t_below(&rand, NR_FILES)]);
        for (unsigned i = 0; i < NR_FILES && ret == 0; i++)
                ret = mix_settle(&w->mixes[i]);
        return ret;
}

/* 0, or what has failed; everything is given back in any case. */
static int run(struct sweep *s, struct uext4_bdev *dev)
{
        struct writes *w = container_of(s, struct writes, s);
        int ret, err;

        for (unsigned i = 0; i < NR_FILES; i++) {
                mix_init(&w->mixes[i], i, w->seed + i, w->has_extents);
                w->mixes[i].may_be_short = true;
        }
        ret = rig_mount(&w->m, dev, RIG_OPTIONS);
        if (ret < 0)
                return ret;
        ret = act(w);
        for (unsigned i = 0; i < NR_FILES; i++)
                mix_close(&w->mixes[i]);
        err = rig_unmount(&w->m);
        for (unsigned i = 0; i < NR_FILES && ret == 0 && err == 0; i++)
                track_synced(&w->mixes[i].t);
        return ret < 0 ? ret : err;
}

/* What the run has left, without faults any more. */
static void look(struct sweep *s, struct t_image *img)
{
        struct writes *w = container_of(s, struct writes, s);
        struct uext4_bdev *dev = rig_open_image(img);
        struct rig_mount m;
        char path[16];
        char *text;

        if (rig_mount(&m, dev, RIG_OPTIONS) < 0)
                complain(w, img, m.log.text);
        for (unsigned i = 0; i < NR_FILES; i++) {
                const char *wrong = w->mixes[i].wrong;

                path_of(i, path, sizeof(path));
                if (!wrong)
                        wrong = mix_check_cut(&w->mixes[i], m.fs, path);
                if (wrong)
                        complain(w, img, wrong);
                mix_done(&w->mixes[i]);
        }
        T_CHECK(rig_unmount(&m) == 0);
        uext4_bdev_close(dev);
        text = w->s.nr_runs % 4 == 0 || t_is_long() ? rig_fsck(img->data, img->size) : NULL;
        if (text)
                complain(w, img, text);
}

/* ---- the sweeps ---- */

static void sweep_configs(enum sweep_kind kind)
{
        const uint64_t seed = t_seed(), nr_seeds = t_is_long() ? 10 : 1;

        for (size_t i = 0; i < ARRAY_LEN(configs) * nr_seeds; i++) {
                const struct config *config = &configs[i % ARRAY_LEN(configs)];
                struct writes w = {.nr_steps = t_is_long() ? 100 : 30,
                                   .has_extents = config->has_extents,
                                   .seed = seed + i};

                w.s = (struct sweep){.name = config->name, .run = run, .look = look};
                w.s.img = rig_make(4 << 20, config->mkfs, NULL,
                                   "write /dev/null f0\\nwrite /dev/null f1\\n");
                sweep_kind(&w.s, kind, 1);
                t_image_free(&w.s.img);
        }
}

static void each_write_fails_B40(void **state)
{
        sweep_configs(SWEEP_WRITES);
}

static void each_read_fails(void **state)
{
        sweep_configs(SWEEP_READS);
}

static void each_flush_fails(void **state)
{
        sweep_configs(SWEEP_FLUSHES);
}

static void each_allocation_fails(void **state)
{
        sweep_configs(SWEEP_MEMORY);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_write_fails_B40),
                cmocka_unit_test(each_read_fails),
                cmocka_unit_test(each_flush_fails),
                cmocka_unit_test(each_allocation_fails),
        };

        return cmocka_run_group_tests_name("write_faults", tests, NULL, NULL);
}
