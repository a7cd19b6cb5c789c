/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The power goes while eight writes are under way, beside truncation, punching and syncs, on a
 * simulated device, at seeded requests.  What is found after recovery must be allowed by
 * track.h, and e2fsck -fn be content.  All free space holds a pattern to begin with, which no
 * version of any sector is.
 *
 * UEXT4_LONG=1 cuts 10 000 times instead of 100.  UEXT4_ONLY=NAME picks a configuration,
 * UEXT4_FIRST=N begins with the run N, UEXT4_RUNS=N makes so many.
 */

#include "mix.h"

#define FEATURES \
        "has_journal,extents,huge_file,flex_bg,64bit,dir_nlink,extra_isize,metadata_csum"
#define EXT4_1K \
        "-b 1024 -I 256 -N 64 -J size=1 -O none,sparse_super,large_file,filetype," FEATURES
#define EXT3_1K "-b 1024 -N 64 -J size=1 -O none,has_journal,filetype,sparse_super,large_file"

struct config {
        const char *name, *mkfs, *mount;
        unsigned mib;
        bool has_extents;
};

static const struct config configs[] = {
        {"1k", EXT4_1K, RIG_OPTIONS, 4, true},
        {"4k",
         "-b 4096 -I 256 -N 64 -J size=4 -O none,sparse_super,large_file,filetype," FEATURES,
         RIG_OPTIONS, 12, true},
        {"orphan-file", EXT4_1K ",orphan_file", RIG_OPTIONS, 4, true},
        {"ext3", EXT3_1K, RIG_OPTIONS, 4, false},
        {"writeback", EXT4_1K, RIG_OPTIONS ",data=writeback", 4, true},
        {"bigalloc", EXT4_1K ",bigalloc -C 4096", RIG_OPTIONS, 4, true},
        {"discard", EXT4_1K, RIG_OPTIONS ",discard", 4, true},
};

#define MAX_FILES 8

/* One run, up to one cut. */
struct run {
        const struct config *config;
        const struct t_image *img;
        size_t log_super; /* where the journal's superblock is */
        uint64_t seed, rand, number, cut_at;
        unsigned nr_files, nr_steps;
        struct uext4_bdev *sim;
        struct rig_mount m;
        struct mix mixes[MAX_FILES];
        uint64_t nr_cut, nr_images;
};

static void path_of(unsigned file, char *path, size_t size)
{
        snprintf(path, size, "/f%u", file);
}

/* ---- the image ---- */

static struct t_image make_image(const struct config *c)
{
        char script[512] = "";

        for (unsigned i = 0; i < MAX_FILES; i++) {
                size_t used = strlen(script);

                snprintf(script + used, sizeof(script) - used, "write /dev/null f%u\\n", i);
        }
        return rig_make((uint64_t)c->mib << 20, c->mkfs, NULL, script);
}

/* ---- what is left ---- */

static void complain(struct run *r, const char *image, const char *what, unsigned file)
{
        fprintf(stderr, "%s, run %llu, cut at %llu, file %u (%s): %s\n%s\n", r->config->name,
                (unsigned long long)r->number, (unsigned long long)r->cut_at, file,
                r->mixes[file].what, what, r->m.log.text);
        if (image)
                rig_keep(r->config->name, image, r->img->size);
        abort();
}

static void check_image(struct run *r, char *image, bool with_fsck)
{
        struct uext4_bdev *dev;
        struct rig_mount m;
        char path[16];
        char *text;

        T_CHECK(uext4_bdev_open_buffer(image, r->img->size, 0, &dev) == 0);
        if (rig_mount(&m, dev, r->config->mount) < 0)
                complain(r, image, m.log.text, 0);
        for (unsigned i = 0; i < r->nr_files; i++) {
                const char *wrong;

                path_of(i, path, sizeof(path));
                wrong = mix_check_cut(&r->mixes[i], m.fs, path);
                if (wrong)
                        complain(r, image, wrong, i);
        }
        T_CHECK(rig_unmount(&m) == 0);
        uext4_bdev_close(dev);
        r->nr_images++;
        text = with_fsck ? rig_fsck(image, r->img->size) : NULL;
        if (text)
                complain(r, image, text, 0);
}

/* Of one sector of a superblock nothing can be recovered: docs/crash-model.md. */
static void mend(struct run *r, char *image, const char *safe)
{
        if (!ext4_super_csum_ok((void *)(image + EXT4_SUPER_OFFSET)))
                memcpy(image + EXT4_SUPER_OFFSET, safe + EXT4_SUPER_OFFSET, 1024);
        memcpy(image + r->log_super, safe + r->log_super, 1024);
}

static void check_survivors(struct run *r)
{
        static const enum uext4_bdev_sim_mode modes[] = {
                UEXT4_BDEV_SIM_RANDOM, UEXT4_BDEV_SIM_NONE, UEXT4_BDEV_SIM_ALL};
        const struct uext4_bdev_sim_survivor none = {.mode = UEXT4_BDEV_SIM_NONE};
        char *image = t_alloc(r->img->size), *safe = t_alloc(r->img->size);

        T_CHECK(uext4_bdev_sim_survivor(r->sim, &none, safe) == 0);
        for (unsigned i = 0; i < 2; i++) {
                const struct uext4_bdev_sim_survivor how = {
                        .mode = i == 0 ? UEXT4_BDEV_SIM_RANDOM : modes[r->number % 3],
                        .seed = t_rand(&r->rand)};

                T_CHECK(uext4_bdev_sim_survivor(r->sim, &how, image) == 0);
                if (how.mode == UEXT4_BDEV_SIM_RANDOM)
                        mend(r, image, safe);
                check_image(r, image, i == 0);
        }
        free(image);
        free(safe);
}

/* ---- runs ---- */

static int open_files(struct run *r)
{
        char path[16];
        int ret = rig_mount(&r->m, r->sim, r->config->mount);

        for (unsigned i = 0; i < r->nr_files && ret == 0; i++) {
                path_of(i, path, sizeof(path));
                ret = mix_open(&r->mixes[i], r->m.fs, path);
        }
        return ret;
}

static void note_end(struct run *r, unsigned file)
{
        struct uext4_bdev_sim_state state;

        uext4_bdev_sim_state(r->sim, &state);
        if (r->mixes[file].wrong)
                complain(r, NULL, r->mixes[file].wrong, file);
        if (!state.is_cut)
                complain(r, NULL, "it fails", file);
}

/* In one thread: the same seed is the same run. */
static void act_alone(struct run *r)
{
        for (unsigned i = 0; i < r->nr_steps; i++) {
                unsigned file = (unsigned)t_below(&r->rand, r->nr_files);

                if (mix_step(&r->mixes[file]) < 0) {
                        note_end(r, file);
                        return;
                }
        }
}

static void act(void *arg, unsigned n)
{
        struct run *r = arg;

        for (unsigned i = 0; i < r->nr_steps; i++) {
                if (mix_step(&r->mixes[n]) < 0) {
                        note_end(r, n);
                        return;
                }
        }
}

static void open_sim(struct run *r)
{
        const struct uext4_bdev_sim_params p = {.size = r->img->size,
                                                .image = r->img->data,
                                                .caps = UEXT4_BDEV_CAP_FUA |
                                                        UEXT4_BDEV_CAP_DISCARD,
                                                .seed = t_rand(&r->rand)};

        T_CHECK(uext4_bdev_open_sim(&p, &r->sim) == 0);
        uext4_bdev_sim_cut_at(r->sim, r->cut_at);
}

static void run_one(struct run *r, void (*fn)(struct run *r))
{
        struct uext4_bdev_sim_state state;

        r->rand = r->seed * 1000003 + r->number;
        r->cut_at = 8 + t_below(&r->rand, 40 * r->nr_files + 200);
        open_sim(r);
        for (unsigned i = 0; i < r->nr_files; i++) {
                mix_init(&r->mixes[i], i, t_rand(&r->rand), r->config->has_extents);
                r->mixes[i].is_calm = r->number % 3 == 0;
        }
        if (open_files(r) == 0)
                fn(r);
        uext4_bdev_sim_state(r->sim, &state);
        r->nr_cut += state.is_cut ? 1 : 0;
        uext4_bdev_sim_cut(r->sim);
        check_survivors(r);
        for (unsigned i = 0; i < r->nr_files; i++) {
                mix_close(&r->mixes[i]);
                mix_done(&r->mixes[i]);
        }
        if (r->m.fs)
                (void)rig_unmount(&r->m); /* it fails */
        uext4_bdev_close(r->sim);
}

static void act_in_threads(struct run *r)
{
        t_run_threads(r->nr_files, act, r);
}

/* ---- all of them ---- */

static void run_config(struct run *r, const struct config *c, void (*fn)(struct run *r),
                       uint64_t nr)
{
        const uint64_t first = rig_number("UEXT4_FIRST", 0);
        struct t_image img = make_image(c);

        r->config = c;
        r->img = &img;
        r->log_super = rig_find_log_super(&img);
        r->nr_cut = r->nr_images = 0;
        for (r->number = first; r->number < first + nr; r->number++)
                run_one(r, fn);
        printf("# %s, %u files: %llu runs, %llu cut, %llu images\n", c->name, r->nr_files,
               (unsigned long long)nr, (unsigned long long)r->nr_cut,
               (unsigned long long)r->nr_images);
        fflush(stdout);
        t_image_free(&img);
}

static void run_configs(struct run *r, void (*fn)(struct run *r), uint64_t nr)
{
        const char *only = getenv("UEXT4_ONLY");

        r->seed = t_seed();
        nr = rig_number("UEXT4_RUNS", nr);
        for (size_t i = 0; i < ARRAY_LEN(configs); i++) {
                if (!only || strcmp(only, configs[i].name) == 0)
                        run_config(r, &configs[i], fn, div_round_up(nr, ARRAY_LEN(configs)));
        }
        free(r);
}

static void eight_writes_under_way(void **state)
{
        struct run *r = t_alloc(sizeof(*r));

        r->nr_files = 2;
        r->nr_steps = 160;
        run_configs(r, act_alone, t_is_long() ? 10000 : 105);
}

static void eight_threads(void **state)
{
        struct run *r = t_alloc(sizeof(*r));

        r->nr_files = MAX_FILES;
        r->nr_steps = 40;
        run_configs(r, act_in_threads, t_is_long() ? 2000 : 21);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(eight_writes_under_way),
                cmocka_unit_test(eight_threads),
        };

        return cmocka_run_group_tests_name("write_power", tests, NULL, NULL);
}
