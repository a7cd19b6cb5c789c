/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Whatever fails while files are written, nothing crashes, hangs or leaks; and the next mount
 * finds what track.h allows, as after a power cut, and leaves what e2fsck is content with.
 *
 * The Nth request of the device fails, or all from the Nth on, for each N that a run of mix.h
 * has; and the Nth allocation of memory.  UEXT4_LONG=1 makes longer runs, and more of them.
 */

#include <unistd.h>

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

#define NR_FILES         2
#define SECONDS_OF_A_RUN 120 /* more is a hang */

struct sweep {
        const struct config *config;
        struct t_image img;
        struct rig_mount m;
        struct mix mixes[NR_FILES];
        unsigned nr_steps;
        uint64_t seed, nr_runs, nr_failed;
        char what[128]; /* fails */
};

static void path_of(unsigned file, char *path, size_t size)
{
        snprintf(path, size, "/f%u", file);
}

static void complain(struct sweep *s, const struct t_image *img, const char *what)
{
        fprintf(stderr, "%s, seed %llu, %s: %s\n%s\n", s->config->name,
                (unsigned long long)s->seed, s->what, what, s->m.log.text);
        rig_keep("fault", img->data, img->size);
        abort();
}

/* ---- one run ---- */

static int act(struct sweep *s)
{
        uint64_t rand = s->seed;
        char path[16];
        int ret = 0;

        for (unsigned i = 0; i < NR_FILES && ret == 0; i++) {
                path_of(i, path, sizeof(path));
                ret = mix_open(&s->mixes[i], s->m.fs, path);
        }
        for (unsigned i = 0; i < s->nr_steps && ret == 0; i++)
                ret = mix_step(&s->mixes[t_below(&rand, NR_FILES)]);
        for (unsigned i = 0; i < NR_FILES && ret == 0; i++)
                ret = mix_settle(&s->mixes[i]);
        return ret;
}

/* 0, or what has failed; everything is given back in any case. */
static int run(struct sweep *s, struct uext4_bdev *dev)
{
        int ret, err;

        for (unsigned i = 0; i < NR_FILES; i++) {
                mix_init(&s->mixes[i], i, s->seed + i, s->config->has_extents);
                s->mixes[i].may_be_short = true;
        }
        alarm(SECONDS_OF_A_RUN);
        s->nr_runs++;
        ret = rig_mount(&s->m, dev, RIG_OPTIONS);
        if (ret < 0)
                return ret;
        ret = act(s);
        for (unsigned i = 0; i < NR_FILES; i++)
                mix_close(&s->mixes[i]);
        err = rig_unmount(&s->m);
        for (unsigned i = 0; i < NR_FILES && ret == 0 && err == 0; i++)
                track_synced(&s->mixes[i].t);
        return ret < 0 ? ret : err;
}

/* What the run has left, without faults any more. */
static void look(struct sweep *s, struct t_image *img)
{
        struct uext4_bdev *dev = rig_open_image(img);
        struct rig_mount m;
        char path[16];
        char *text;

        if (rig_mount(&m, dev, RIG_OPTIONS) < 0)
                complain(s, img, m.log.text);
        for (unsigned i = 0; i < NR_FILES; i++) {
                const char *wrong = s->mixes[i].wrong;

                path_of(i, path, sizeof(path));
                if (!wrong)
                        wrong = mix_check_cut(&s->mixes[i], m.fs, path);
                if (wrong)
                        complain(s, img, wrong);
                mix_done(&s->mixes[i]);
        }
        T_CHECK(rig_unmount(&m) == 0);
        uext4_bdev_close(dev);
        text = s->nr_runs % 4 == 0 || t_is_long() ? rig_fsck(img->data, img->size) : NULL;
        if (text)
                complain(s, img, text);
}

/* ---- devices ---- */

/* Request `n` fails, and with `sticky` all later ones; whether there was one. */
static bool run_with_fault(struct sweep *s, uint32_t ops, uint64_t n, bool sticky)
{
        const struct uext4_bdev_fault rule = {
                .ops = ops, .skip = n, .count = sticky ? 0 : 1, .error = -EIO};
        struct t_image img = t_image_copy(&s->img);
        struct uext4_bdev *dev;
        bool hit;

        snprintf(s->what, sizeof(s->what), "operations %#x: request %llu %s", ops,
                 (unsigned long long)n, sticky ? "and later ones fail" : "fails");
        T_CHECK(uext4_bdev_open_fault(rig_open_image(&img), &dev) == 0);
        T_CHECK(uext4_bdev_fault_add(dev, &rule) == 0);
        s->nr_failed += run(s, dev) < 0 ? 1 : 0;
        hit = uext4_bdev_fault_hits(dev) > 0;
        uext4_bdev_close(dev);
        look(s, &img);
        t_image_free(&img);
        return hit;
}

static void begin(struct sweep *s, const struct config *config, uint64_t seed)
{
        *s = (struct sweep){.config = config, .nr_steps = t_is_long() ? 100 : 30, .seed = seed};
        s->img = rig_make(4 << 20, config->mkfs, NULL,
                          "write /dev/null f0\\nwrite /dev/null f1\\n");
}

static void end(struct sweep *s, const char *of)
{
        printf("# %s, %s: %llu runs, %llu had something fail\n", s->config->name, of,
               (unsigned long long)s->nr_runs, (unsigned long long)s->nr_failed);
        fflush(stdout);
        t_image_free(&s->img);
        alarm(0);
}

static void sweep_device(uint32_t ops, const char *of)
{
        const uint64_t seed = t_seed(), nr_seeds = t_is_long() ? 10 : 1;
        struct sweep s;

        for (size_t i = 0; i < ARRAY_LEN(configs) * nr_seeds; i++) {
                begin(&s, &configs[i % ARRAY_LEN(configs)], seed + i);
                for (unsigned sticky = 0; sticky < 2; sticky++) {
                        uint64_t n = 0;

                        while (run_with_fault(&s, ops, n, sticky))
                                n++;
                }
                end(&s, of);
        }
}

static void each_write_fails_B40(void **state)
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
        mem_fail_after((int64_t)n);
        s->nr_failed += run(s, dev) < 0 ? 1 : 0;
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
        uint64_t before = mem_count();

        snprintf(s->what, sizeof(s->what), "nothing fails");
        if (run(s, dev) < 0)
                complain(s, &img, "but it does");
        before = mem_count() - before;
        uext4_bdev_close(dev);
        look(s, &img);
        t_image_free(&img);
        return before;
}

static void each_allocation_fails(void **state)
{
        const uint64_t seed = t_seed(), nr_seeds = t_is_long() ? 10 : 1;
        struct sweep s;

        for (size_t i = 0; i < ARRAY_LEN(configs) * nr_seeds; i++) {
                uint64_t nr;

                begin(&s, &configs[i % ARRAY_LEN(configs)], seed + i);
                nr = count_allocations(&s);
                for (uint64_t n = 0; n < nr; n++)
                        run_with_little_memory(&s, n);
                end(&s, "memory");
        }
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
