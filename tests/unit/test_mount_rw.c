/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A mount that writes: what it does to the superblock when, what forbids it, and what an error
 * leaves behind.
 */

#include <signal.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "ext4/journal.h"
#include "ext4/super_write.h"
#include "lib/lib.h"
#include "t_fs.h"
#include "util/alloc.h"

#define MIB (1u << 20)

static const struct ext4_mount_options rw = {
        .sb_block = 1,
        .meta_cache_bytes = MIB,
        .commit_ms = 3600 * 1000, /* no commit but those that are asked for */
};

static struct ext4_mount_options rw_with_errors(uint16_t errors)
{
        struct ext4_mount_options opts = rw;

        opts.errors = errors;
        opts.given = EXT4_GIVEN_ERRORS;
        return opts;
}

/* ---- kinds of images ---- */

static const struct kind {
        const char *name;
        const char *options;
        bool journal, csum, orphan_file;
} kinds[] = {
        {"ext4", "-t ext4 -b 1024 -O has_journal,extent,64bit,metadata_csum -J size=1", true,
         true, false},
        {"ext4-4k", "-b 4096 -O has_journal,extent,64bit,metadata_csum,orphan_file -J size=4",
         true, true, true},
        {"ext3", "-b 1024 -O ^extent,^64bit,^metadata_csum,has_journal -J size=1", true, false,
         false},
        {"ext2", "-b 1024 -O ^has_journal,^extent,^64bit,^metadata_csum", false, false, false},
        {"ext4 without journal", "-b 2048 -O ^has_journal,extent,64bit,metadata_csum", false,
         true, false},
        {"bigalloc",
         "-b 1024 -C 4096 -O has_journal,extent,64bit,metadata_csum,bigalloc -J size=1", true,
         true, false},
};

enum {
        EXT4,
        EXT4_4K,
        EXT3,
        EXT2
};

static struct t_image images[ARRAY_LEN(kinds)];

static int make_images(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
                images[i] = t_mkfs(24 * MIB, kinds[i].options,
                                   "mkdir dir\\nsymlink dir/link target\\n");
        return 0;
}

static int free_images(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
                t_image_free(&images[i]);
        return 0;
}

/* ---- helpers ---- */

static void fsck(const char *row, const struct t_image *img)
{
        char *text;
        int status;

        text = host_fsck(img->data, img->size, NULL, &status);
        if (status != 0)
                fail_msg("%s: e2fsck: %s", row, text);
        free(text);
}

static uint16_t state_of(struct t_image *img)
{
        return le16_get(t_super(img)->s_state);
}

static bool asks_for_recovery(struct t_image *img)
{
        return le32_get(t_super(img)->s_feature_incompat) & EXT4_INCOMPAT_RECOVER;
}

static bool says_orphans(struct t_image *img)
{
        return le32_get(t_super(img)->s_feature_ro_compat) & EXT4_RO_COMPAT_ORPHAN_PRESENT;
}

static void assert_sealed(const char *row, const struct kind *k, struct t_image *img)
{
        if (k->csum)
                t_assert_row(row, ext4_super_csum_ok(t_super(img)), true);
}

/* Wait until the thread that stores errors has done so. */
static void wait_for_error(struct t_image *img, struct ext4_fs *fs)
{
        for (int i = 0; i < 60000 && jbd2_error(fs->journal) == 0; i++)
                usleep(1000);
        for (int i = 0; i < 60000; i++) {
                if (__atomic_load_n(&t_super(img)->s_state.v, __ATOMIC_RELAXED) &
                    EXT4_STATE_ERROR)
                        return;
                usleep(1000);
        }
}

/* ---- mount and unmount ---- */

static void in_use_and_clean_again(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                const struct kind *k = &kinds[i];
                struct t_image img = t_image_copy(&images[i]);
                uint16_t mounts = le16_get(t_super(&img)->s_mnt_count);
                uint32_t before = (uint32_t)time(NULL);
                struct t_mount m;

                t_assert_row(k->name, t_mount(&m, &img, &rw), 0);
                assert_string_equal(m.fs->readonly_reason, "");
                t_assert_row(k->name, ext4_writable(m.fs), 0);
                t_assert_row(k->name, asks_for_recovery(&img), k->journal);
                t_assert_row(k->name, state_of(&img), k->journal ? EXT4_STATE_VALID : 0);
                t_assert_row(k->name, says_orphans(&img), k->orphan_file);
                t_assert_row(k->name, le16_get(t_super(&img)->s_mnt_count), mounts + 1);
                t_assert_row(k->name, le32_get(t_super(&img)->s_mtime) >= before, true);
                t_assert_row(k->name, le32_get(t_super(&img)->s_wtime) >= before, true);
                assert_sealed(k->name, k, &img);
                t_umount(&m);
                t_assert_row(k->name, asks_for_recovery(&img), false);
                t_assert_row(k->name, state_of(&img), EXT4_STATE_VALID);
                t_assert_row(k->name, says_orphans(&img), false);
                t_assert_row(k->name, le16_get(t_super(&img)->s_mnt_count), mounts + 1);
                assert_sealed(k->name, k, &img);
                t_assert_row(k->name, m.log.nr_lines, 0);
                fsck(k->name, &img);
                t_image_free(&img);
        }
}

/* Only e2fsck may say that an image that was not unmounted is in order. */
static void what_was_not_clean_does_not_become_so(void **state)
{
        struct t_image img = t_image_copy(&images[EXT2]);
        struct t_mount m;

        t_super(&img)->s_state = le16_make(0);
        assert_int_equal(t_mount(&m, &img, &rw), 0);
        assert_true(t_log_has(&m.log, "was not unmounted"));
        t_umount(&m);
        assert_int_equal(state_of(&img), 0);
        t_image_free(&img);

        img = t_image_copy(&images[EXT3]);
        t_super(&img)->s_state = le16_make(EXT4_STATE_VALID | EXT4_STATE_ERROR);
        assert_int_equal(t_mount(&m, &img, &rw), 0);
        assert_true(t_log_has(&m.log, "known errors"));
        t_umount(&m);
        assert_int_equal(state_of(&img), EXT4_STATE_VALID | EXT4_STATE_ERROR);
        t_image_free(&img);
}

/* The superblock's counts are the groups', whatever they were. */
static void free_counts_are_right_at_unmount(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                struct t_image img = t_image_copy(&images[i]);
                struct ext4_super_block *sb = t_super(&img);
                le32 blocks = sb->s_free_blocks_count_lo, inodes = sb->s_free_inodes_count;
                struct t_mount m;

                sb->s_free_blocks_count_lo = le32_make(7);
                sb->s_free_inodes_count = le32_make(5);
                t_super_seal(sb);
                if (!kinds[i].csum)
                        sb->s_checksum = le32_make(0);
                t_assert_row(kinds[i].name, t_mount(&m, &img, &rw), 0);
                t_umount(&m);
                t_assert_row(kinds[i].name, le32_get(sb->s_free_blocks_count_lo),
                             le32_get(blocks));
                t_assert_row(kinds[i].name, le32_get(sb->s_free_inodes_count),
                             le32_get(inodes));
                fsck(kinds[i].name, &img);
                t_image_free(&img);
        }
}

/* ---- a crash ---- */

/* Change the volume name in one transaction: what a crash may or may not leave. */
static int try_name(struct ext4_fs *fs, const char *name)
{
        struct ext4_super_loc loc;
        struct jbd2_handle *h;
        int ret = jbd2_start(fs->journal, EXT4_SUPER_CREDITS, 0, &h);

        if (ret < 0)
                return ret;
        ret = ext4_super_begin(h, fs, &loc);
        if (ret == 0) {
                memset(loc.sb->s_volume_name, 0, sizeof(loc.sb->s_volume_name));
                memcpy(loc.sb->s_volume_name, name, strlen(name));
                ext4_super_store(h, fs, &loc);
        }
        return first_error(ret, jbd2_stop(h));
}

static void change_name(struct ext4_fs *fs, const char *name, bool commit)
{
        assert_int_equal(try_name(fs, name), 0);
        if (commit)
                assert_int_equal(jbd2_commit_all(fs->journal), 0);
}

static void a_change_is_home_after_unmount(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                struct t_image img = t_image_copy(&images[i]);
                struct t_mount m;

                t_assert_row(kinds[i].name, t_mount(&m, &img, &rw), 0);
                change_name(m.fs, "changed", false);
                t_umount(&m);
                assert_string_equal(t_super(&img)->s_volume_name, "changed");
                assert_sealed(kinds[i].name, &kinds[i], &img);
                fsck(kinds[i].name, &img);
                t_image_free(&img);
        }
}

/* The image as it is in the midst of a mount, mounted again. */
static void a_crash_is_recovered_from(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                const struct kind *k = &kinds[i];
                struct t_image img = t_image_copy(&images[i]);
                struct t_image crash;
                struct t_mount m;

                t_assert_row(k->name, t_mount(&m, &img, &rw), 0);
                change_name(m.fs, "durable", true);
                change_name(m.fs, "lost", false);
                crash = t_image_copy(&img);
                t_umount(&m);
                t_assert_row(k->name, asks_for_recovery(&crash), k->journal);
                t_assert_row(k->name, !!(state_of(&crash) & EXT4_STATE_VALID), k->journal);

                t_assert_row(k->name, t_mount(&m, &crash, &rw), 0);
                t_assert_row(k->name, t_log_has(&m.log, "the journal was replayed"),
                             k->journal);
                t_assert_row(k->name, asks_for_recovery(&crash), k->journal);
                t_umount(&m);
                t_assert_row(k->name, strcmp(t_super(&crash)->s_volume_name, "durable"), 0);
                t_assert_row(k->name, asks_for_recovery(&crash), false);
                if (k->journal)
                        fsck(k->name, &crash);
                t_image_free(&crash);
                t_image_free(&img);
        }
}

/* ---- the power goes ---- */

enum {
        NOT_DURABLE,
        DURABLE,
        UNMOUNTED
};

/* Mount, change, unmount until the power goes at request `at`; how far it came. */
static int life(struct uext4_bdev *sim, uint64_t at)
{
        struct t_log log;
        const struct log_sink sink = t_log_sink(&log);
        int reached = NOT_DURABLE;
        struct ext4_fs *fs;

        t_log_init(&log);
        uext4_bdev_sim_cut_at(sim, at);
        if (ext4_mount(sim, &rw, &sink, &fs) < 0)
                return NOT_DURABLE;
        if (try_name(fs, "one") == 0 && jbd2_commit_all(fs->journal) == 0)
                reached = DURABLE;
        (void)try_name(fs, "two");
        return ext4_unmount(fs) == 0 ? UNMOUNTED : reached;
}

/* What the power left: in order after the next mount, with all that was durable. */
static void check_survivor(const struct kind *k, struct t_image *img, int reached)
{
        const char *name = t_super(img)->s_volume_name;
        struct t_mount m;

        t_assert_row(k->name, t_mount(&m, img, &rw), 0);
        t_umount(&m);
        if (reached == UNMOUNTED)
                t_assert_row(k->name, strcmp(name, "two"), 0);
        else if (reached == DURABLE)
                t_assert_row(k->name, !strcmp(name, "one") || !strcmp(name, "two"), true);
        else
                t_assert_row(k->name, !name[0] || !strcmp(name, "one"), true);
        fsck(k->name, img);
}

/* The superblock has two sectors of this device, and no copy that would be newer (the crash
 * model says what that means). */
static bool is_torn(const struct kind *k, struct t_image *img)
{
        return k->csum && !ext4_super_csum_ok(t_super(img));
}

static void check_torn(const struct kind *k, struct t_image *img)
{
        struct t_mount m;

        t_assert_row(k->name, t_mount(&m, img, &rw), -EBADMSG);
        t_umount(&m);
}

/* False when the life ended before request `at`. */
static bool cut_at(const struct kind *k, const struct t_image *from, uint64_t at)
{
        static const enum uext4_bdev_sim_mode modes[] = {
                UEXT4_BDEV_SIM_NONE, UEXT4_BDEV_SIM_ALL, UEXT4_BDEV_SIM_RANDOM};
        const struct uext4_bdev_sim_params params = {
                .size = from->size, .image = from->data, .seed = at};
        struct t_image img = t_image_copy(from);
        struct uext4_bdev_sim_state state;
        struct uext4_bdev *sim;
        int reached;

        assert_int_equal(uext4_bdev_open_sim(&params, &sim), 0);
        reached = life(sim, at);
        uext4_bdev_sim_state(sim, &state);
        for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
                const struct uext4_bdev_sim_survivor how = {.mode = modes[i], .seed = at};

                assert_int_equal(uext4_bdev_sim_survivor(sim, &how, img.data), 0);
                if (modes[i] == UEXT4_BDEV_SIM_RANDOM && is_torn(k, &img))
                        check_torn(k, &img);
                else
                        check_survivor(k, &img, reached);
        }
        uext4_bdev_close(sim);
        t_image_free(&img);
        return state.is_cut;
}

static void cut_at_every_request(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                struct t_image img;
                uint64_t at = 1;

                if (!kinds[i].journal)
                        continue;
                img = t_mkfs(16 * MIB, kinds[i].options, "mkdir dir\\n");
                while (cut_at(&kinds[i], &img, at))
                        at += t_sweep_step(4);
                t_assert_row(kinds[i].name, at > 10, true);
                t_image_free(&img);
        }
}

/* ---- the journal as somebody left it ---- */

/* The bytes of the journal's superblock in the image. */
static struct jbd2_super *journal_super(struct t_image *img)
{
        struct jbd2_journal j;
        struct jbd2_super *sb;
        struct t_mount m;
        const struct log_sink sink = t_log_sink(&m.log);

        t_log_init(&m.log);
        assert_int_equal(uext4_bdev_open_buffer(img->data, img->size, 0, &m.dev), 0);
        assert_int_equal(ext4_mount_for_recovery(m.dev, &t_mount_ro, &sink, &m.fs), 0);
        assert_int_equal(ext4_journal_open(m.fs, NULL, &j), 0);
        sb = (void *)(img->data + j.place.runs[0].pblk * m.fs->block_size);
        jbd2_close(&j);
        t_umount(&m);
        return sb;
}

/* An error that only the journal knows, as after an abort in which nothing else could be
 * written, comes to the superblock, and goes from the journal (J33). */
static void an_error_of_the_journal_comes_to_the_superblock(void **state)
{
        struct t_image img = t_image_copy(&images[EXT3]);
        struct jbd2_super *jsb = journal_super(&img);
        struct t_mount m;

        jsb->s_errno = be32_make((uint32_t)-EIO);
        assert_int_equal(t_mount(&m, &img, &rw), 0);
        assert_true(state_of(&img) & EXT4_STATE_ERROR);
        t_umount(&m);
        assert_int_equal(state_of(&img), EXT4_STATE_VALID | EXT4_STATE_ERROR);
        assert_int_equal(be32_get(journal_super(&img)->s_errno), 0);
        t_image_free(&img);
}

/* Blocks of the journal without number, all of which are the same few: no mount goes through
 * them all. */
static void a_journal_larger_than_the_file_system_is_damage(void **state)
{
        struct t_image img = t_image_copy(&images[EXT3]);
        const uint32_t last = (uint32_t)(img.size / 1024) - 1;
        struct ext4_inode_disk *raw;
        struct ext4_inode *inode;
        struct t_mount m;

        assert_int_equal(t_mount(&m, &img, &t_mount_ro), 0);
        assert_int_equal(ext4_iget(m.fs, EXT4_INO_JOURNAL, &inode), 0);
        raw = (void *)(img.data + inode->disk_pos);
        ext4_iput(inode);
        t_umount(&m);
        for (uint32_t level = 0; level < 3; level++) { /* pointers to what is a level below */
                le32 *pointers = (void *)(img.data + (uint64_t)(last - level) * 1024);
                const le32 blk = le32_make(last - level);

                for (unsigned i = 0; i < 256; i++)
                        pointers[i] = le32_make(last - level + 1 - (level == 0 ? 4 : 0));
                memcpy(raw->i_block + (size_t)(EXT4_IND_BLOCK + level) * 4, &blk, sizeof(blk));
        }
        raw->i_size_lo = le32_make(0);
        raw->i_size_hi = le32_make(4); /* 16 GiB */
        assert_int_equal(t_mount(&m, &img, &rw), -EUCLEAN);
        assert_true(t_log_has(&m.log, "larger than the file system"));
        t_umount(&m);
        t_image_free(&img);
}

/* ---- why a mount does not write ---- */

static void obstacles_are_named(void **state)
{
        static const struct {
                const char *name, *options;
                uint32_t sb_block, os, dev_flags, ro_compat;
                const char *want;
        } rows[] = {
                {"quota", "-b 1024 -O quota", 1, 0, 0, 0, "does not write images with: quota"},
                {"mmp", "-b 1024 -O mmp", 1, 0, 0, 0, "does not write images with: mmp"},
                {"both", "-b 1024 -O mmp,quota", 1, 0, 0, 0, "mmp quota"},
                {"shared blocks", "-b 1024 -O ^metadata_csum", 1, 0, 0,
                 EXT4_RO_COMPAT_SHARED_BLOCKS, "shared_blocks"},
                {"unknown", "-b 1024 -O ^metadata_csum", 1, 0, 0, 1u << 30, "FEATURE_R30"},
                {"backup", "-b 1024", 8193, 0, 0, 0, "sb="},
                {"hurd", "-b 1024 -O ^metadata_csum", 1, EXT4_OS_HURD, 0, 0, "Hurd"},
                {"device", "-b 1024", 1, 0, UEXT4_BDEV_OPEN_READONLY, 0,
                 "the device is read-only"},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct t_image img = t_mkfs(16 * MIB, rows[i].options, NULL), before;
                struct ext4_super_block *sb = t_super(&img);
                struct ext4_mount_options opts = rw;
                struct t_mount m;
                const struct log_sink sink = t_log_sink(&m.log);

                opts.sb_block = rows[i].sb_block;
                if (rows[i].os)
                        sb->s_creator_os = le32_make(rows[i].os);
                sb->s_feature_ro_compat =
                        le32_make(le32_get(sb->s_feature_ro_compat) | rows[i].ro_compat);
                before = t_image_copy(&img);
                t_log_init(&m.log);
                assert_int_equal(
                        uext4_bdev_open_buffer(img.data, img.size, rows[i].dev_flags, &m.dev),
                        0);
                t_assert_row(rows[i].name, ext4_mount(m.dev, &opts, &sink, &m.fs), 0);
                if (!strstr(m.fs->readonly_reason, rows[i].want))
                        fail_msg("%s: %s", rows[i].name, m.fs->readonly_reason);
                t_assert_row(rows[i].name, t_log_has(&m.log, rows[i].want), true);
                t_assert_row(rows[i].name, ext4_writable(m.fs), -EROFS);
                t_umount(&m);
                t_assert_row(rows[i].name, memcmp(img.data, before.data, img.size), 0);
                t_image_free(&before);
                t_image_free(&img);
        }
}

/* A journal to replay, in an image that must not be written: replayed in memory, and said. */
static void who_cannot_write_reads_what_the_journal_has(void **state)
{
        struct t_image img = t_mkfs(16 * MIB, "-b 1024 -J size=1 -O has_journal", NULL);
        struct ext4_super_block *sb = t_super(&img);
        struct uext4_mount_params params = {.options = "rw", .log = t_log_line};
        struct t_image before;
        struct uext4_bdev *dev;
        struct uext4_info info;
        struct uext4_fs *fs;
        struct t_log log;

        sb->s_feature_incompat =
                le32_make(le32_get(sb->s_feature_incompat) | EXT4_INCOMPAT_RECOVER);
        sb->s_feature_ro_compat = le32_make(le32_get(sb->s_feature_ro_compat) | 1u << 30);
        before = t_image_copy(&img);
        t_log_init(&log);
        params.log_arg = &log;
        assert_int_equal(uext4_bdev_open_buffer(img.data, img.size, 0, &dev), 0);
        if (uext4_mount_bdev(dev, &params, &fs) != 0)
                fail_msg("%s", log.text);
        assert_int_equal(uext4_get_info(fs, &info), 0);
        assert_non_null(strstr(info.readonly_reason, "FEATURE_R30"));
        assert_true(t_log_has(&log, "mounted read-only: "));
        assert_int_equal(uext4_unmount(fs), 0);
        uext4_bdev_close(dev);
        assert_memory_equal(img.data, before.data, img.size);
        t_image_free(&before);
        t_image_free(&img);
}

static void who_would_write_is_told_without_a_word(void **state)
{
        struct t_image img = t_image_copy(&images[EXT4]);
        struct ext4_mount_options opts = rw;
        struct uext4_bdev *dev;
        char reason[64];

        assert_int_equal(uext4_bdev_open_buffer(img.data, img.size, 0, &dev), 0);
        assert_true(ext4_mount_would_write(dev, &opts, reason, sizeof(reason)));
        assert_string_equal(reason, "");
        opts.read_only = true;
        assert_false(ext4_mount_would_write(dev, &opts, reason, sizeof(reason)));
        assert_string_equal(reason, "mounted with ro");
        t_super(&img)->s_magic = le16_make(0);
        assert_false(ext4_mount_would_write(dev, &rw, reason, sizeof(reason)));
        assert_string_equal(reason, "");
        uext4_bdev_close(dev);
        t_image_free(&img);
}

/* ---- options that the superblock has defaults for ---- */

static void the_superblock_has_defaults(void **state)
{
        static const struct {
                uint16_t errors;
                uint32_t opts;
                uint16_t want_errors;
                enum ext4_data_mode want_data;
                bool want_nobarrier, want_discard;
        } rows[] = {
                {1, 0, EXT4_ERRORS_CONTINUE, EXT4_DATA_ORDERED, false, false},
                {2, 0x40, EXT4_ERRORS_RO, EXT4_DATA_ORDERED, false, false},
                {3, 0x60, EXT4_ERRORS_PANIC, EXT4_DATA_WRITEBACK, false, false},
                {0, 0x20, EXT4_ERRORS_RO, EXT4_DATA_JOURNAL, false, false},
                {99, 0x500, EXT4_ERRORS_RO, EXT4_DATA_ORDERED, true, true},
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct t_image img = t_image_copy(&images[EXT3]);
                struct ext4_super_block *sb = t_super(&img);
                struct ext4_mount_options opts = rw;
                struct t_mount m;

                sb->s_errors = le16_make(rows[i].errors);
                sb->s_default_mount_opts = le32_make(rows[i].opts);
                sb->s_def_resuid = le16_make(17);
                sb->s_def_resgid = le16_make(18);
                assert_int_equal(t_mount(&m, &img, &rw), 0);
                assert_int_equal(m.fs->opts.errors, rows[i].want_errors);
                assert_int_equal(m.fs->opts.data, rows[i].want_data);
                assert_int_equal(m.fs->opts.nobarrier, rows[i].want_nobarrier);
                assert_int_equal(m.fs->opts.discard, rows[i].want_discard);
                assert_int_equal(m.fs->opts.resuid, 17);
                assert_int_equal(m.fs->opts.resgid, 18);
                t_umount(&m);

                opts.given = EXT4_GIVEN_ERRORS | EXT4_GIVEN_DATA | EXT4_GIVEN_BARRIER |
                             EXT4_GIVEN_DISCARD | EXT4_GIVEN_RESUID | EXT4_GIVEN_RESGID;
                opts.errors = EXT4_ERRORS_CONTINUE;
                opts.data = EXT4_DATA_WRITEBACK;
                opts.resuid = 100000;
                assert_int_equal(t_mount(&m, &img, &opts), 0);
                assert_int_equal(m.fs->opts.errors, EXT4_ERRORS_CONTINUE);
                assert_int_equal(m.fs->opts.data, EXT4_DATA_WRITEBACK);
                assert_false(m.fs->opts.nobarrier);
                assert_false(m.fs->opts.discard);
                assert_int_equal(m.fs->opts.resuid, 100000);
                assert_int_equal(m.fs->opts.resgid, 0);
                t_umount(&m);
                t_image_free(&img);
        }
}

static void a_data_mode_needs_a_journal(void **state)
{
        struct t_image img = t_image_copy(&images[EXT2]);
        struct ext4_mount_options opts = rw;
        struct t_mount m;

        opts.given = EXT4_GIVEN_DATA;
        assert_int_equal(t_mount(&m, &img, &opts), -EINVAL);
        assert_true(t_log_has(&m.log, "data= needs a journal"));
        t_umount(&m);
        assert_int_equal(memcmp(img.data, images[EXT2].data, img.size), 0);
        t_image_free(&img);
}

/* ---- errors ---- */

static void note(struct ext4_fs *fs, int err, uint64_t ino, uint64_t blk, uint32_t line)
{
        const struct ext4_error e = {err, ino, blk,
                                     "some_function_with_a_name_that_is_too_long", line};

        ext4_note_error(fs, &e);
}

static void errors_continue_are_remembered(void **state)
{
        const struct ext4_mount_options opts = rw_with_errors(EXT4_ERRORS_CONTINUE);

        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                struct t_image img = t_image_copy(&images[i]);
                struct ext4_super_block *sb = t_super(&img);
                struct t_mount m;

                t_assert_row(kinds[i].name, t_mount(&m, &img, &opts), 0);
                note(m.fs, -EUCLEAN, 12, 34, 56);
                note(m.fs, -EBADMSG, 1, 2, 3);
                note(m.fs, -EIO, 0, 0x100000005, 8);
                t_assert_row(kinds[i].name, ext4_writable(m.fs), 0);
                t_umount(&m);
                t_assert_row(kinds[i].name, state_of(&img),
                             EXT4_STATE_VALID | EXT4_STATE_ERROR);
                t_assert_row(kinds[i].name, le32_get(sb->s_error_count), 3);
                t_assert_row(kinds[i].name, le32_get(sb->s_first_error_ino), 12);
                t_assert_row(kinds[i].name, le64_get(sb->s_first_error_block), 34);
                t_assert_row(kinds[i].name, le32_get(sb->s_first_error_line), 56);
                t_assert_row(kinds[i].name, sb->s_first_error_errcode, 5);
                t_assert_row(kinds[i].name, le32_get(sb->s_first_error_time) != 0, true);
                assert_memory_equal(sb->s_first_error_func, "some_function_with_a_name_that_i",
                                    32);
                t_assert_row(kinds[i].name, le32_get(sb->s_last_error_ino), 0);
                t_assert_row(kinds[i].name, le64_get(sb->s_last_error_block), 0x100000005);
                t_assert_row(kinds[i].name, le32_get(sb->s_last_error_line), 8);
                t_assert_row(kinds[i].name, sb->s_last_error_errcode, 2);
                t_assert_row(kinds[i].name, asks_for_recovery(&img), false);
                assert_sealed(kinds[i].name, &kinds[i], &img);
                t_image_free(&img);
        }
}

/* Damage that is met while writing is such an error. */
static void damage_is_noted(void **state)
{
        const struct ext4_mount_options opts = rw_with_errors(EXT4_ERRORS_CONTINUE);
        struct t_image img = t_image_copy(&images[EXT4]);
        struct ext4_super_block *sb = t_super(&img);
        struct ext4_where at;
        struct t_mount m;

        assert_int_equal(t_mount(&m, &img, &opts), 0);
        at = (struct ext4_where){m.fs, 77, 88};
        assert_int_equal(ext4_corrupt(&at, "a test of %d", 1), -EUCLEAN);
        assert_int_equal(ext4_corrupt(&at, "a test of %d", 1), -EUCLEAN); /* said once */
        assert_int_equal(ext4_bad_csum(&at, "a test"), -EBADMSG);
        t_umount(&m);
        assert_int_equal(le32_get(sb->s_error_count), 2);
        assert_string_equal(sb->s_first_error_func, __func__);
        assert_int_equal(le32_get(sb->s_first_error_ino), 77);
        assert_int_equal(le64_get(sb->s_first_error_block), 88);
        assert_int_equal(sb->s_last_error_errcode, 4);
        t_image_free(&img);
}

/* No more writing; what was durable stays, and the next mount recovers and still knows. */
static void check_stopped(const struct kind *k, struct t_image *img, struct t_mount *m,
                          uint8_t code)
{
        struct ext4_super_block *sb = t_super(img);
        struct jbd2_handle *h;

        wait_for_error(img, m->fs);
        t_assert_row(k->name, ext4_writable(m->fs), -EROFS);
        t_assert_row(k->name, jbd2_start(m->fs->journal, 1, 0, &h), -EROFS);
        t_assert_row(k->name, ext4_unmount(m->fs) < 0, true);
        uext4_bdev_close(m->dev);
        t_assert_row(k->name, le32_get(sb->s_error_count), 1);
        t_assert_row(k->name, sb->s_last_error_errcode, code);
        t_assert_row(k->name, !!(state_of(img) & EXT4_STATE_ERROR), true);
        t_assert_row(k->name, asks_for_recovery(img), k->journal);

        t_assert_row(k->name, t_mount(m, img, &rw), 0);
        t_umount(m);
        t_assert_row(k->name, le32_get(sb->s_error_count), 1);
        t_assert_row(k->name, sb->s_last_error_errcode, code);
        t_assert_row(k->name, !!(state_of(img) & EXT4_STATE_ERROR), true);
        t_assert_row(k->name, asks_for_recovery(img), false);
        if (k->journal)
                t_assert_row(k->name, strcmp(sb->s_volume_name, "durable"), 0);
}

static void errors_remount_ro_ends_writing(void **state)
{
        const struct ext4_mount_options opts = rw_with_errors(EXT4_ERRORS_RO);

        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                struct t_image img = t_image_copy(&images[i]);
                struct t_mount m;

                t_assert_row(kinds[i].name, t_mount(&m, &img, &opts), 0);
                change_name(m.fs, "durable", true);
                change_name(m.fs, "lost", false);
                note(m.fs, -EUCLEAN, 12, 34, 56);
                check_stopped(&kinds[i], &img, &m, 5);
                t_image_free(&img);
        }
}

/* Whatever errors= says: a change that is half done cannot go on. */
static void abort_ends_writing(void **state)
{
        const struct ext4_mount_options opts = rw_with_errors(EXT4_ERRORS_CONTINUE);

        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                struct t_image img = t_image_copy(&images[i]);
                struct jbd2_handle *h;
                struct statvfs st;
                struct t_mount m;

                t_assert_row(kinds[i].name, t_mount(&m, &img, &opts), 0);
                assert_int_equal(ext4_statfs(m.fs, &st), 0);
                t_assert_row(kinds[i].name, st.f_flag & ST_RDONLY, 0);
                change_name(m.fs, "durable", true);
                assert_int_equal(jbd2_start(m.fs->journal, 2, 0, &h), 0);
                ext4_abort(m.fs, -ENOSPC);
                t_assert_row(kinds[i].name, ext4_writable(m.fs), -EROFS);
                assert_int_equal(ext4_statfs(m.fs, &st), 0);
                t_assert_row(kinds[i].name, st.f_flag & ST_RDONLY, ST_RDONLY);
                assert_true(jbd2_stop(h) < 0);
                ext4_abort(m.fs, -EIO); /* the first one counts */
                check_stopped(&kinds[i], &img, &m, 6);
                t_image_free(&img);
        }
}

/* As after a write error of the log. */
static void an_abort_of_the_journal_is_an_error(void **state)
{
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                struct t_image img = t_image_copy(&images[i]);
                struct t_mount m;

                t_assert_row(kinds[i].name, t_mount(&m, &img, &rw), 0);
                change_name(m.fs, "durable", true);
                change_name(m.fs, "lost", false);
                jbd2_abort(m.fs->journal, -EIO);
                assert_true(t_log_has(&m.log, "no more writing"));
                check_stopped(&kinds[i], &img, &m, 2);
                t_image_free(&img);
        }
}

static void panic_ends_the_process(void **state)
{
        const struct ext4_mount_options opts = rw_with_errors(EXT4_ERRORS_PANIC);
        pid_t pid = fork();
        int status;

        T_CHECK(pid >= 0);
        if (pid == 0) {
                struct t_image img = t_image_copy(&images[EXT4]);
                struct t_mount m;

                signal(SIGABRT, SIG_DFL);
                if (t_mount(&m, &img, &opts) == 0)
                        note(m.fs, -EUCLEAN, 1, 2, 3);
                sleep(20);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void who_reads_only_notes_nothing(void **state)
{
        struct t_image img = t_image_copy(&images[EXT4]);
        struct t_mount m;

        assert_int_equal(t_mount(&m, &img, &t_mount_ro), 0);
        note(m.fs, -EUCLEAN, 1, 2, 3);
        ext4_abort(m.fs, -EIO);
        t_umount(&m);
        assert_int_equal(memcmp(img.data, images[EXT4].data, img.size), 0);
        t_image_free(&img);
}

/* ---- what can fail ---- */

/* Every allocation in turn: an error, and an image that mounts. */
static void no_memory_at(const char *row, const struct t_image *from, int64_t nr, int *ret)
{
        struct t_image img = t_image_copy(from);
        struct t_mount m = {0};
        const struct log_sink sink = t_log_sink(&m.log);

        t_log_init(&m.log);
        assert_int_equal(uext4_bdev_open_buffer(img.data, img.size, 0, &m.dev), 0);
        mem_fail_after(nr);
        *ret = ext4_mount(m.dev, &rw, &sink, &m.fs);
        mem_fail_after(-1);
        t_assert_row(row, *ret == 0 || *ret == -ENOMEM, true);
        t_umount(&m);
        t_assert_row(row, t_mount(&m, &img, &rw), 0);
        t_umount(&m);
        if (nr % 8 == 0)
                fsck(row, &img);
        t_image_free(&img);
}

static void no_memory_is_an_error(void **state)
{
        static const int which[] = {EXT4_4K, EXT2};

        for (size_t i = 0; i < ARRAY_LEN(which); i++) {
                int ret = -ENOMEM;

                for (int64_t nr = 0; ret < 0; nr++) {
                        no_memory_at(kinds[which[i]].name, &images[which[i]], nr, &ret);
                        assert_true(nr < 1000);
                }
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(in_use_and_clean_again),
                cmocka_unit_test(what_was_not_clean_does_not_become_so),
                cmocka_unit_test(free_counts_are_right_at_unmount),
                cmocka_unit_test(a_change_is_home_after_unmount),
                cmocka_unit_test(a_crash_is_recovered_from),
                cmocka_unit_test(cut_at_every_request),
                cmocka_unit_test(an_error_of_the_journal_comes_to_the_superblock),
                cmocka_unit_test(a_journal_larger_than_the_file_system_is_damage),
                cmocka_unit_test(obstacles_are_named),
                cmocka_unit_test(who_cannot_write_reads_what_the_journal_has),
                cmocka_unit_test(who_would_write_is_told_without_a_word),
                cmocka_unit_test(the_superblock_has_defaults),
                cmocka_unit_test(a_data_mode_needs_a_journal),
                cmocka_unit_test(errors_continue_are_remembered),
                cmocka_unit_test(damage_is_noted),
                cmocka_unit_test(errors_remount_ro_ends_writing),
                cmocka_unit_test(abort_ends_writing),
                cmocka_unit_test(an_abort_of_the_journal_is_an_error),
                cmocka_unit_test(panic_ends_the_process),
                cmocka_unit_test(who_reads_only_notes_nothing),
                cmocka_unit_test(no_memory_is_an_error),
        };

        return cmocka_run_group_tests_name("mount_rw", tests, make_images, free_images);
}
