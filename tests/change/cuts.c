/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cuts.h"

/* ---- what is found ---- */

static void complain(struct cutter *cut, const char *image, const char *how, const char *what,
                     const struct t_log *log)
{
        fprintf(stderr, "%s: point %llu (%s), in operation %llu (%s): %s\n%s\n", cut->name,
                (unsigned long long)cut->nr_points, how, (unsigned long long)cut->md->nr_ops,
                cut->md->what, what, log ? log->text : "");
        rig_keep(cut->name, image, cut->size);
        rig_keep("before-recovery", cut->image, cut->size);
        abort();
}

static void ask_fsck(struct cutter *cut, const char *image, const char *how)
{
        char *text;

        if (t_below(&cut->rand, cut->fsck_one_in))
                return;
        cut->nr_fsck++;
        text = rig_fsck(image, cut->size);
        if (text)
                complain(cut, image, how, text, NULL);
        free(text);
}

static void check_mounted(struct cutter *cut, struct rig_mount *m, const char *image, bool junk,
                          const char *how)
{
        char text[2048];
        const char *wrong = NULL;

        if (!rig_fs(m)->journal)
                wrong = "mounted read-only";
        if (!wrong)
                wrong = model_check_cut(cut->md, m, junk, text, sizeof(text));
        if (wrong)
                complain(cut, image, how, wrong, &m->log);
}

static void mount_words(const struct cutter *cut, char *words, size_t size)
{
        snprintf(words, size, "%s%s%s", RIG_OPTIONS, cut->options ? "," : "",
                 cut->options ? cut->options : "");
}

void cutter_check(struct cutter *cut, char *image, bool junk, const char *how)
{
        struct uext4_bdev *dev;
        struct rig_mount m;
        char words[128];
        char text[64];
        int ret;

        mount_words(cut, words, sizeof(words));
        T_CHECK(uext4_bdev_open_buffer(image, cut->size, 0, &dev) == 0);
        ret = rig_mount(&m, dev, words);
        if (ret < 0) {
                snprintf(text, sizeof(text), "mounting fails: %d", ret);
                complain(cut, image, how, text, &m.log);
        }
        check_mounted(cut, &m, image, junk, how);
        ret = rig_unmount(&m);
        if (ret < 0) {
                snprintf(text, sizeof(text), "unmounting fails: %d", ret);
                complain(cut, image, how, text, &m.log);
        }
        uext4_bdev_close(dev);
        ask_fsck(cut, image, how);
}

/* ---- a second cut ---- */

static struct uext4_bdev *open_sim(const struct cutter *cut, const char *image, uint64_t seed)
{
        struct uext4_bdev_sim_params p = {
                .size = cut->size,
                .image = image,
                .caps = UEXT4_BDEV_CAP_FUA | UEXT4_BDEV_CAP_DISCARD,
                .seed = seed,
        };
        struct uext4_bdev *sim;

        T_CHECK(uext4_bdev_open_sim(&p, &sim) == 0);
        return sim;
}

/* Of a sector of the superblock alone nothing can be recovered: see mend(). */
static void mend_one(char *got, const char *safe, const char *all, size_t len)
{
        if (memcmp(got, safe, len) != 0 && memcmp(got, all, len) != 0)
                memcpy(got, safe, len);
}

/* What is in `image` is mounted, until request `at`. */
static void cut_recovery(struct cutter *cut, uint64_t at)
{
        struct uext4_bdev *sim = open_sim(cut, cut->image, t_rand(&cut->rand));
        struct uext4_bdev_sim_survivor how = {.mode = t_below(&cut->rand, 3),
                                              .seed = t_rand(&cut->rand)};
        struct uext4_bdev_sim_survivor none = {.mode = UEXT4_BDEV_SIM_NONE};
        char *safe = t_alloc(cut->size);
        struct rig_mount m;
        char words[128];

        mount_words(cut, words, sizeof(words));
        uext4_bdev_sim_cut_at(sim, at);
        if (rig_mount(&m, sim, words) == 0)
                (void)rig_unmount(&m); /* it fails, unless there were fewer requests */
        T_CHECK(uext4_bdev_sim_survivor(sim, &how, cut->work) == 0);
        T_CHECK(uext4_bdev_sim_survivor(sim, &none, safe) == 0);
        if (!ext4_super_csum_ok((void *)(cut->work + EXT4_SUPER_OFFSET)))
                memcpy(cut->work + EXT4_SUPER_OFFSET, safe + EXT4_SUPER_OFFSET, 1024);
        free(safe);
        uext4_bdev_close(sim);
}

static void check_second_cuts(struct cutter *cut, bool junk, const char *how)
{
        char text[96];

        for (unsigned n = 0; n < 3; n++) {
                uint64_t at = 1 + t_below(&cut->rand, n == 0 ? 30 : 200);

                snprintf(text, sizeof(text), "%s, mount cut at %llu", how,
                         (unsigned long long)at);
                cut_recovery(cut, at);
                cutter_check(cut, cut->work, junk, text);
                cut->nr_second++;
        }
}

/* ---- images ---- */

/*
 * A device that loses power while it writes a sector may leave junk there, or one of two
 * sectors that belong together.  No file system outlives that in the blocks that say where all
 * else is: they count on being written whole or not at all.
 */
static void mend_sectors(struct cutter *cut, size_t pos, size_t len)
{
        const size_t end = round_up_pow2(pos + len, 512);

        for (pos = round_down_pow2(pos, 512); pos < end; pos += 512)
                mend_one(cut->image + pos, cut->safe + pos, cut->all + pos, 512);
}

static void mend(struct cutter *cut)
{
        mend_one(cut->image + EXT4_SUPER_OFFSET, cut->safe + EXT4_SUPER_OFFSET,
                 cut->all + EXT4_SUPER_OFFSET, 1024);
        if (cut->log_super)
                mend_one(cut->image + cut->log_super, cut->safe + cut->log_super,
                         cut->all + cut->log_super, 1024);
        mend_sectors(cut, cut->groups, cut->groups_len);
        mend_sectors(cut, cut->log_inode, cut->log_inode_len);
}

static void look_at(struct cutter *cut, enum uext4_bdev_sim_mode mode, uint32_t junk_percent)
{
        struct uext4_bdev_sim_survivor how = {
                .mode = mode, .seed = t_rand(&cut->rand), .junk_percent = junk_percent};
        const char *text = mode == UEXT4_BDEV_SIM_NONE  ? "nothing survives"
                           : mode == UEXT4_BDEV_SIM_ALL ? "all survives"
                           : junk_percent               ? "some survives, and junk"
                                                        : "some survives";

        T_CHECK(uext4_bdev_sim_survivor(cut->sim, &how, cut->image) == 0);
        mend(cut);
        cut->nr_images++;
        memcpy(cut->work, cut->image, cut->size);
        cutter_check(cut, cut->work, junk_percent > 0, text);
        if (cut->second_one_in && t_below(&cut->rand, cut->second_one_in) == 0)
                check_second_cuts(cut, junk_percent > 0, text);
}

/* What is durable changes by flushes and FUA only. */
static bool is_new(struct cutter *cut)
{
        uint32_t crc = crc32c(1, cut->safe, cut->size);

        if (crc == cut->last_crc && cut->md->nr_ops == cut->last_ops)
                return false;
        cut->last_crc = crc;
        cut->last_ops = cut->md->nr_ops;
        return true;
}

static void *look_in_thread(void *arg)
{
        static const struct uext4_bdev_sim_survivor none = {.mode = UEXT4_BDEV_SIM_NONE};
        static const struct uext4_bdev_sim_survivor all = {.mode = UEXT4_BDEV_SIM_ALL};
        struct cutter *cut = arg;

        T_CHECK(uext4_bdev_sim_survivor(cut->sim, &none, cut->safe) == 0);
        T_CHECK(uext4_bdev_sim_survivor(cut->sim, &all, cut->all) == 0);
        if (is_new(cut))
                look_at(cut, UEXT4_BDEV_SIM_NONE, 0);
        look_at(cut, UEXT4_BDEV_SIM_ALL, 0);
        for (unsigned n = 0; n < cut->nr_random; n++)
                look_at(cut, UEXT4_BDEV_SIM_RANDOM, n % 3 == 2 ? 20 : 0);
        return NULL;
}

/*
 * Who writes holds locks of its own file system.  They have nothing to do with those of the
 * mounts that are made here, in another thread.
 */
static void look(void *arg, enum watch_when when, enum uext4_bdev_op op)
{
        struct cutter *cut = arg;
        pthread_t thread;

        if (!cut->md || (cut->max_looked && cut->nr_looked >= cut->max_looked))
                return;
        cut->nr_points++;
        if (cut->one_in && t_below(&cut->rand, cut->one_in))
                return;
        cut->nr_looked++;
        T_CHECK(pthread_create(&thread, NULL, look_in_thread, cut) == 0);
        pthread_join(thread, NULL);
}

/* ---- the device ---- */

#define JOURNAL_INO 8u

/* What leads to the journal: the group descriptors, and its inode. */
static void find_way_to_log(struct cutter *cut, const struct t_image *img)
{
        const struct ext4_super_block *sb = (const void *)(img->data + EXT4_SUPER_OFFSET);
        const size_t block = (size_t)1024 << le32_get(sb->s_log_block_size);
        const struct ext4_group_desc *gd;

        cut->groups = ((size_t)le32_get(sb->s_first_data_block) + 1) * block;
        cut->groups_len = block;
        gd = (const void *)(img->data + cut->groups);
        cut->log_inode_len = le16_get(sb->s_inode_size);
        cut->log_inode = (size_t)le32_get(gd->bg_inode_table_lo) * block +
                         (JOURNAL_INO - 1) * cut->log_inode_len;
}

void cutter_open(struct cutter *cut, const struct t_image *img)
{
        cut->size = img->size;
        find_way_to_log(cut, img);
        cut->log_super = rig_find_log_super(img);
        cut->image = t_alloc(img->size);
        cut->work = t_alloc(img->size);
        cut->safe = t_alloc(img->size);
        cut->all = t_alloc(img->size);
        pthread_mutex_init(&cut->lock, NULL);
        cut->hook = (struct watch_hook){look, cut, &cut->lock};
        cut->sim = open_sim(cut, img->data, cut->rand);
        T_CHECK(watch_open(cut->sim, &cut->hook, &cut->dev) == 0);
        if (!cut->fsck_one_in)
                cut->fsck_one_in = 1;
}

void cutter_close(struct cutter *cut)
{
        uext4_bdev_close(cut->dev);
        free(cut->image);
        free(cut->work);
        free(cut->safe);
        free(cut->all);
        pthread_mutex_destroy(&cut->lock);
        if (cut->nr_points > 0)
                printf("# %s: %llu points, %llu looked at, %llu images, %llu by e2fsck, %llu "
                       "second "
                       "cuts\n",
                       cut->name, (unsigned long long)cut->nr_points,
                       (unsigned long long)cut->nr_looked, (unsigned long long)cut->nr_images,
                       (unsigned long long)cut->nr_fsck, (unsigned long long)cut->nr_second);
        fflush(stdout);
}

void cutter_begin(struct cutter *cut, struct model *md)
{
        pthread_mutex_lock(&cut->lock);
        md->lock = &cut->lock;
        md->keep_states = true;
        cut->md = md;
        pthread_mutex_unlock(&cut->lock);
}

void cutter_end(struct cutter *cut)
{
        pthread_mutex_lock(&cut->lock);
        cut->md = NULL;
        pthread_mutex_unlock(&cut->lock);
}

void cutter_take(struct cutter *cut, enum uext4_bdev_sim_mode mode, struct t_image *img)
{
        struct uext4_bdev_sim_survivor how = {.mode = mode};

        img->size = cut->size;
        img->data = t_alloc(cut->size);
        T_CHECK(uext4_bdev_sim_survivor(cut->sim, &how, img->data) == 0);
}
