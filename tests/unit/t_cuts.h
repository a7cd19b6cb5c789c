/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef T_CUTS_H
#define T_CUTS_H

/*
 * The power is cut at each request of the device while something is done, by way of the public
 * API: after recovery there is what was before or what is to be after, and what was made
 * durable is there.  e2fsck must be content.
 */

#include <errno.h>

#include "jbd2/format.h"
#include "lib/lib.h"
#include "t_write.h"

struct mount {
        struct uext4_fs *fs;
        struct t_log log;
};

static inline int do_mount(struct mount *m, struct uext4_bdev *dev)
{
        struct uext4_mount_params params = {
                .options = "rw,commit=100000", .log = t_log_line, .log_arg = &m->log};

        t_log_init(&m->log);
        return uext4_mount_bdev(dev, &params, &m->fs);
}

static inline struct uext4_inode *at(struct mount *m, const char *path)
{
        struct uext4_inode *inode;

        T_CHECK(uext4_resolve(m->fs, path, UEXT4_NOFOLLOW, &inode) == 0);
        return inode;
}

/* The same where the device may be dead. */
static inline struct uext4_inode *try_at(struct mount *m, const char *path)
{
        struct uext4_inode *inode;

        return uext4_resolve(m->fs, path, UEXT4_NOFOLLOW, &inode) == 0 ? inode : NULL;
}

/* ---- scenarios: what is there before, what is done, what is found (0 old, 1 new) ---- */

struct scenario {
        const char *name;
        void (*prepare)(struct mount *m);
        int (*run)(struct mount *m);  /* 1: done, and durable */
        int (*look)(struct mount *m); /* negative: neither */
};

/* ---- cutting ---- */

struct cut {
        const struct scenario *s;
        struct t_image start; /* prepared */
        size_t log_super;
        uint64_t rand;
        unsigned nr_images;
};

static inline struct uext4_bdev *open_sim(const struct t_image *img, uint64_t seed)
{
        const struct uext4_bdev_sim_params p = {
                .size = img->size,
                .image = img->data,
                .caps = UEXT4_BDEV_CAP_FUA,
                .seed = seed,
        };
        struct uext4_bdev *sim;

        T_CHECK(uext4_bdev_open_sim(&p, &sim) == 0);
        return sim;
}

static inline void survive(struct uext4_bdev *sim, enum uext4_bdev_sim_mode mode, uint64_t seed,
                           char *image)
{
        const struct uext4_bdev_sim_survivor how = {.mode = mode, .seed = seed};

        T_CHECK(uext4_bdev_sim_survivor(sim, &how, image) == 0);
}

/* Superblocks count on being written whole or not at all. */
static inline void mend(char *image, const char *safe, const char *all, size_t pos)
{
        if (memcmp(image + pos, safe + pos, 1024) != 0 &&
            memcmp(image + pos, all + pos, 1024) != 0)
                memcpy(image + pos, safe + pos, 1024);
}

static inline void check_image(struct cut *c, struct t_image *img, bool must_be_new,
                               uint64_t at_req)
{
        struct uext4_bdev *dev;
        const char *complaint;
        struct mount m;
        int found;

        T_CHECK(uext4_bdev_open_buffer(img->data, img->size, 0, &dev) == 0);
        T_CHECK(do_mount(&m, dev) == 0);
        found = c->s->look(&m);
        T_CHECK(uext4_unmount(m.fs) == 0);
        uext4_bdev_close(dev);
        if (found < 0 || (must_be_new && found != 1))
                fail_msg("%s: cut at request %llu: found %d%s", c->s->name,
                         (unsigned long long)at_req, found,
                         must_be_new ? ", and it was durable" : "");
        complaint = t_fsck(img, false);
        if (complaint)
                fail_msg("%s: cut at request %llu: %s", c->s->name, (unsigned long long)at_req,
                         complaint);
        c->nr_images++;
}

static inline void check_survivors(struct cut *c, struct uext4_bdev *sim, bool durable,
                                   uint64_t at_req)
{
        static const enum uext4_bdev_sim_mode modes[] = {
                UEXT4_BDEV_SIM_NONE, UEXT4_BDEV_SIM_ALL, UEXT4_BDEV_SIM_RANDOM};
        struct t_image img = {t_alloc(c->start.size), c->start.size};
        char *safe = t_alloc(img.size), *all = t_alloc(img.size);

        survive(sim, UEXT4_BDEV_SIM_NONE, 0, safe);
        survive(sim, UEXT4_BDEV_SIM_ALL, 0, all);
        for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
                if (!t_is_long() && i == at_req % 2) /* one of the first two */
                        continue;
                survive(sim, modes[i], t_rand(&c->rand), img.data);
                mend(img.data, safe, all, EXT4_SUPER_OFFSET);
                if (c->log_super)
                        mend(img.data, safe, all, c->log_super);
                check_image(c, &img, durable, at_req);
        }
        free(safe);
        free(all);
        t_image_free(&img);
}

/* Cut at request n after mounting; false when there were fewer. */
static inline bool cut_at(struct cut *c, uint64_t n)
{
        struct uext4_bdev *sim = open_sim(&c->start, n);
        struct uext4_bdev_sim_state before, after;
        bool durable;
        struct mount m;
        bool was_cut;
        int ret;

        T_CHECK(do_mount(&m, sim) == 0);
        uext4_bdev_sim_state(sim, &before);
        uext4_bdev_sim_cut_at(sim, before.requests + n);
        ret = c->s->run(&m);
        durable = ret > 0 || (ret == 0 && uext4_syncfs(m.fs) == 0);
        (void)!uext4_unmount(m.fs);
        uext4_bdev_sim_state(sim, &after);
        was_cut = after.requests >= before.requests + n;
        if (was_cut)
                check_survivors(c, sim, durable, n);
        uext4_bdev_close(sim);
        return was_cut;
}

static inline size_t find_log_super(const struct t_image *img)
{
        for (size_t pos = 1024; pos + 1024 <= img->size; pos += 1024) {
                const be32 *words = (const void *)(img->data + pos);

                if (be32_get(words[0]) == JBD2_MAGIC && be32_get(words[1]) == JBD2_SUPER_V2)
                        return pos;
        }
        return 0;
}

static inline void run_scenario(const struct scenario *s, const char *options)
{
        struct cut c = {.s = s, .start = t_mkfs(8u << 20, options, NULL), .rand = 1};
        struct uext4_bdev *dev;
        struct mount m;
        uint64_t n = 1;

        T_CHECK(uext4_bdev_open_buffer(c.start.data, c.start.size, 0, &dev) == 0);
        T_CHECK(do_mount(&m, dev) == 0);
        s->prepare(&m);
        T_CHECK(uext4_unmount(m.fs) == 0);
        uext4_bdev_close(dev);
        c.log_super = find_log_super(&c.start);
        T_CHECK(c.log_super);
        while (cut_at(&c, n))
                n += t_sweep_step(4);
        printf("# %s: %llu requests, %u images\n", s->name, (unsigned long long)n - 1,
               c.nr_images);
        fflush(stdout);
        assert_true(n > 3);
        t_image_free(&c.start);
}

#endif
