/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "run.h"

#include <unistd.h>

#include "../lib/host.h"
#include "actor.h"
#include "device.h"
#include "util/crc.h"

#define FEATURES                                                                            \
        "sparse_super,large_file,filetype,has_journal,extents,huge_file,flex_bg,dir_nlink," \
        "extra_isize,metadata_csum"
#define EXT4_1K "-b 1024 -I 256 -N 512 -J size=1 -O none,64bit," FEATURES
#define EXT4_4K "-b 4096 -I 256 -N 512 -J size=4 -O none,64bit," FEATURES
#define INLINE  "-b 1024 -I 1024 -N 512 -J size=1 -O none,64bit,inline_data," FEATURES
#define EXT3_1K                                                                          \
        "-b 1024 -N 512 -J size=1 -O none,has_journal,filetype,sparse_super,large_file," \
        "dir_index"

const struct run_config run_configs[] = {
        {"4k", EXT4_4K, "rw", .mib = 16},
        {"1k", EXT4_1K, "rw", .mib = 6},
        {"ext3", EXT3_1K, "rw", .mib = 6, .no_extents = true},
        {"nojournal", EXT4_1K ",^has_journal", "rw", .mib = 6, .no_journal = true},
        {"data-journal", EXT4_1K, "rw,data=journal", .mib = 6, .in_parts = true},
        {"data-writeback", EXT4_1K, "rw,data=writeback", .mib = 6},
        {"bigalloc", EXT4_1K ",bigalloc -C 4096", "rw", .mib = 6, .no_repair = true},
        {"inline", INLINE, "rw", .mib = 6, .in_parts = true},
        {"small-cache", EXT4_1K, "rw,page_cache=1M,commit=1", .mib = 6},
        {"orphan-file", EXT4_1K ",orphan_file", "rw,discard", .mib = 6},
        {"nodelalloc", EXT4_4K, "rw,nodelalloc", .mib = 16},
};

const unsigned run_nr_configs = ARRAY_LEN(run_configs);

/* ---- images ---- */

void run_image_make(const struct run_config *config, struct run_image *ret_image)
{
        char script[512] = "write /dev/null shared\\nset_inode_field shared size 49152\\n"
                           "mkdir s0\\nmkdir s1\\n";

        for (unsigned i = 0; i < MAX_ACTORS; i++) {
                size_t used = strlen(script);

                snprintf(script + used, sizeof(script) - used, "write /dev/null f%u\\n", i);
        }
        T_CHECK(SHARED_SECTORS * TRACK_SECTOR == 49152);
        ret_image->config = config;
        ret_image->img = rig_make((uint64_t)config->mib << 20, config->mkfs, NULL, script);
        ret_image->log_super = rig_find_log_super(&ret_image->img);
}

void run_image_free(struct run_image *image)
{
        t_image_free(&image->img);
}

/* ---- a run ---- */

struct run {
        const struct run_image *image;
        const struct run_config *config;
        uint64_t rand;
        unsigned nr_steps; /* of each actor */
        uint64_t max_pause_ns;
        struct device_params device;
        struct uext4_bdev *sim, *dev;
        struct rig_mount m;
        struct world w;
        struct actor actors[MAX_ACTORS];
        char *by_e2fsck; /* what it said of the image; NULL: it was not asked */
        bool is_clean;   /* nothing has failed, unmounting neither */
        struct run_result result;
};

static _Noreturn void complain(struct run *r, const char *image, const char *what)
{
        fprintf(stderr, "%s\n%s%s", what, r->m.log.text, r->by_e2fsck ? r->by_e2fsck : "");
        for (unsigned i = 0; i < r->w.nr_actors; i++)
                fprintf(stderr, "actor %u, %s: %s\n", i, r->actors[i].ops->name,
                        r->actors[i].what);
        if (image)
                rig_keep(r->config->name, image, r->image->img.size);
        abort();
}

/* ---- what happens: drawn from the seed ---- */

static void draw_device(struct run *r)
{
        static const uint64_t reads[] = {1000, 100000, 2000000},
                              writes[] = {1000, 20000, 500000, 20000000},
                              flushes[] = {1000, 500000, 5000000, 100000000};
        static const uint32_t faults[] = {1u << UEXT4_BDEV_WRITE, 1u << UEXT4_BDEV_FLUSH,
                                          1u << UEXT4_BDEV_READ, 7};

        r->device = (struct device_params){
                .seed = t_rand(&r->rand),
                .max_read_ns = reads[t_below(&r->rand, ARRAY_LEN(reads))],
                .max_write_ns = writes[t_below(&r->rand, ARRAY_LEN(writes))],
                .max_flush_ns = flushes[t_below(&r->rand, ARRAY_LEN(flushes))],
        };
        if (r->config->no_journal)
                return; /* nothing is promised then */
        switch (t_below(&r->rand, 4)) {
        case 0:
                break;
        case 1:
                r->device.cut_at = 60 + t_below(&r->rand, 100u << t_below(&r->rand, 7));
                break;
        default:
                r->device.cut_at_flush = 3 + t_below(&r->rand, 8u << t_below(&r->rand, 6));
                break;
        }
        if (t_below(&r->rand, 3) == 0) {
                r->device.fault_at = 60 + t_below(&r->rand, 50u << t_below(&r->rand, 5));
                r->device.fault_ops = faults[t_below(&r->rand, ARRAY_LEN(faults))];
                r->device.nr_faults = t_below(&r->rand, 3);
        }
}

static void draw_actors(struct run *r)
{
        static const struct actor_ops *const kinds[] = {
                &actor_mix,   &actor_mix,   &actor_share, &actor_share,
                &actor_share, &actor_names, &actor_save,  &actor_sync};
        static const uint64_t pauses[] = {0, 0, 1000, 1000000, 1000000000};

        r->nr_steps = 10 + (unsigned)t_below(&r->rand, 25u << t_below(&r->rand, 5));
        r->max_pause_ns = pauses[t_below(&r->rand, ARRAY_LEN(pauses))];
        r->w = (struct world){
                .has_extents = !r->config->no_extents,
                .may_be_short = r->config->in_parts || r->device.fault_at,
                .nr_actors = 2 + (unsigned)t_below(&r->rand, MAX_ACTORS - 2),
                .seed = t_rand(&r->rand),
        };
        for (unsigned i = 0; i < r->w.nr_actors; i++) {
                r->actors[i] = (struct actor){.ops = kinds[t_below(&r->rand, ARRAY_LEN(kinds))],
                                              .w = &r->w,
                                              .n = i,
                                              .rand = t_rand(&r->rand),
                                              .what = "nothing"};
                r->actors[i].ops->init(&r->actors[i]);
        }
}

static void open_device(struct run *r)
{
        const struct uext4_bdev_sim_params p = {
                .size = r->image->img.size,
                .image = r->image->img.data,
                .caps = UEXT4_BDEV_CAP_DISCARD |
                        (t_below(&r->rand, 3) ? UEXT4_BDEV_CAP_FUA : 0),
                .seed = t_rand(&r->rand),
        };

        T_CHECK(uext4_bdev_open_sim(&p, &r->sim) == 0);
        T_CHECK(device_open(r->sim, &r->device, &r->dev) == 0);
}

/* ---- what happens ---- */

/* Whether something was to fail. */
static bool has_failed(const struct run *r)
{
        return device_is_cut(r->dev) || device_faults(r->dev) > 0;
}

/*
 * An error must have a reason.  What could not be written back is not there any more, which the
 * next sync says; who reads before that may see what was there before.
 */
static void check_error(struct run *r, const struct actor *a, int ret)
{
        char text[64];

        snprintf(text, sizeof(text), "actor %u fails: %d", a->n, ret);
        if (!has_failed(r))
                complain(r, NULL, a->wrong ? a->wrong : text);
}

static struct run *the_run; /* there is one at a time */

static void *act(void *arg)
{
        struct run *r = the_run;
        struct actor *a = arg;
        int ret = 0;

        for (unsigned i = 0; i < r->nr_steps && ret == 0; i++) {
                if (r->max_pause_ns && actor_below(a, 4) == 0)
                        baton_sleep(1 + actor_below(a, r->max_pause_ns));
                ret = a->ops->step(a);
                baton_note(a->what, a->n, i, (uint64_t)-ret);
        }
        if (ret < 0)
                check_error(r, a, ret);
        a->ops->close(a);
        if (ret < 0)
                r->is_clean = false;
        return NULL;
}

static void act_all(struct run *r)
{
        pthread_t threads[MAX_ACTORS];

        for (unsigned i = 0; i < r->w.nr_actors; i++)
                T_CHECK(pthread_create(&threads[i], NULL, act, &r->actors[i]) == 0);
        for (unsigned i = 0; i < r->w.nr_actors; i++)
                pthread_join(threads[i], NULL);
}

static int open_all(struct run *r)
{
        int ret = 0;

        for (unsigned i = 0; i < r->w.nr_actors && ret == 0; i++)
                ret = r->actors[i].ops->open(&r->actors[i]);
        return ret;
}

/* The first thread of the run. */
static void play(void *arg)
{
        struct run *r = arg;
        int ret = rig_mount(&r->m, r->dev, r->config->options);

        r->is_clean = ret == 0;
        if (ret == 0) {
                r->w.fs = r->m.fs;
                ret = open_all(r);
                if (ret == 0)
                        act_all(r);
                else
                        for (unsigned i = 0; i < r->w.nr_actors; i++)
                                r->actors[i].ops->close(&r->actors[i]);
                r->is_clean &= ret == 0;
                ret = rig_unmount(&r->m);
        }
        if (ret < 0 && !has_failed(r))
                complain(r, NULL, "mounting, opening or unmounting fails");
        /* What could not be written back is told by the next sync, if there is one. */
        r->is_clean &= ret == 0 && !has_failed(r);
}

/* ---- what is left ---- */

/* What must be found; the image is replayed, and looked at by e2fsck. */
static void check_mounted(struct run *r, char *image, const char *options)
{
        struct uext4_bdev *dev;
        struct rig_mount m;

        T_CHECK(uext4_bdev_open_buffer(image, r->image->img.size, 0, &dev) == 0);
        if (rig_mount(&m, dev, options) < 0)
                complain(r, image, m.log.text);
        for (unsigned i = 0; i < r->w.nr_actors; i++) {
                struct actor *a = &r->actors[i];
                const char *wrong = a->ops->check(a, m.fs);

                if (wrong) {
                        fprintf(stderr, "actor %u: ", i);
                        complain(r, image, wrong);
                }
        }
        if (rig_unmount(&m) < 0)
                complain(r, image, m.log.text);
        uext4_bdev_close(dev);
}

static void check_by_us(struct run *r, char *image)
{
        char *text;

        check_mounted(r, image, RIG_OPTIONS);
        text = rig_fsck(image, r->image->img.size);
        if (text)
                complain(r, image, text);
}

/* e2fsck replays the journal, and we read what it has left. */
static void check_by_e2fsck(struct run *r, char *image)
{
        int status;

        r->by_e2fsck = host_repair(image, r->image->img.size, &status);
        if (status > 1)
                complain(r, image, "e2fsck cannot mend it");
        check_mounted(r, image, "ro");
        free(r->by_e2fsck);
        r->by_e2fsck = NULL;
}

/* Of one sector of a superblock nothing can be recovered: docs/crash-model.md. */
static void mend(struct run *r, char *image, const char *safe)
{
        if (!ext4_super_csum_ok((void *)(image + EXT4_SUPER_OFFSET)))
                memcpy(image + EXT4_SUPER_OFFSET, safe + EXT4_SUPER_OFFSET, 1024);
        if (r->image->log_super)
                memcpy(image + r->image->log_super, safe + r->image->log_super, 1024);
}

static void check_survivor(struct run *r, enum uext4_bdev_sim_mode mode, const char *safe,
                           void (*check)(struct run *r, char *image))
{
        const struct uext4_bdev_sim_survivor how = {.mode = mode, .seed = t_rand(&r->rand)};
        char *image = t_alloc(r->image->img.size);

        T_CHECK(uext4_bdev_sim_survivor(r->sim, &how, image) == 0);
        if (mode == UEXT4_BDEV_SIM_RANDOM)
                mend(r, image, safe);
        check(r, image);
        r->result.nr_images++;
        free(image);
}

static void check_survivors(struct run *r)
{
        static const enum uext4_bdev_sim_mode modes[] = {
                UEXT4_BDEV_SIM_RANDOM, UEXT4_BDEV_SIM_NONE, UEXT4_BDEV_SIM_ALL};
        /* It does not look at orphans where the journal has noted an error. */
        const bool by_e2fsck =
                t_below(&r->rand, 3) == 0 && !r->config->no_repair && !r->result.had_faults;
        const struct uext4_bdev_sim_survivor none = {.mode = UEXT4_BDEV_SIM_NONE};
        char *safe;

        if (r->is_clean) {
                check_survivor(r, UEXT4_BDEV_SIM_NONE, NULL, check_by_us);
                return;
        }
        safe = t_alloc(r->image->img.size);
        T_CHECK(uext4_bdev_sim_survivor(r->sim, &none, safe) == 0);
        check_survivor(r, UEXT4_BDEV_SIM_RANDOM, safe, check_by_us);
        check_survivor(r, modes[t_below(&r->rand, 3)], safe,
                       by_e2fsck ? check_by_e2fsck : check_by_us);
        free(safe);
}

/* ---- all of it ---- */

void run_one(const struct run_image *image, uint64_t seed, bool with_trace,
             struct run_result *ret_result)
{
        const struct baton_params params = {.seed = seed, .with_trace = with_trace};
        struct run *r = t_alloc(sizeof(*r));

        the_run = r;
        r->image = image;
        r->config = image->config;
        r->rand = seed ^ crc32c(0, r->config->name, strlen(r->config->name));
        draw_device(r);
        draw_actors(r);
        open_device(r);
        baton_run(&params, play, r, &r->result.order);
        r->result.was_cut = device_is_cut(r->dev);
        r->result.had_faults = device_faults(r->dev) > 0;
        r->result.nr_events = device_events(r->dev);
        uext4_bdev_sim_cut(r->sim);
        for (unsigned i = 0; i < r->w.nr_actors && r->is_clean; i++)
                r->actors[i].ops->settled(&r->actors[i]);
        check_survivors(r);
        for (unsigned i = 0; i < r->w.nr_actors; i++)
                r->actors[i].ops->done(&r->actors[i]);
        uext4_bdev_close(r->dev);
        *ret_result = r->result;
        free(r);
}
