/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The journal of a file system: finding it, and recovery.
 *
 * Order of recovery, each step durable before the next (J31, J33):
 *
 *   copies of the log in their places -> an error that the journal remembers is in the
 *   superblock -> the log is empty -> the superblock no longer asks for recovery, and has the
 *   free counts of the groups
 *
 * Cut between two steps, the next recovery does the rest.
 */

#include <string.h>
#include <sys/stat.h>

#include "ext4/journal.h"
#include "ext4/super_write.h"
#include "util/alloc.h"

/* ---- where it lies ---- */

static int refuse(const struct ext4_fs *fs, int err, const char *why)
{
        log_say(&fs->vfs.log, LOG_ERR, "journal: %s", why);
        return err;
}

/* Append the run that begins at journal block `first`. */
static int add_run(struct jbd2_place *place, uint32_t first, uint32_t len, uint64_t pblk)
{
        uint32_t room = place->nr_runs;

        /* The room is a power of two, full when the number is one. */
        if (room == 0 || is_pow2(room)) {
                struct jbd2_run *runs = mem_array(room ? 2u * room : 1u, sizeof(*runs));

                if (!runs)
                        return -ENOMEM;
                if (room)
                        memcpy(runs, place->runs, room * sizeof(*runs));
                mem_free(place->runs);
                place->runs = runs;
        }
        place->runs[place->nr_runs++] = (struct jbd2_run){first, len, pblk};
        return 0;
}

static int map_inode(struct ext4_inode *inode, struct jbd2_place *place)
{
        const struct ext4_where at = ext4_at(inode, 0);
        uint32_t lblk = 0;

        while (lblk < place->nr_blocks) {
                uint32_t left = place->nr_blocks - lblk;
                struct ext4_map map;
                int ret = ext4_map_lookup(inode, lblk, 0, &map);

                if (ret < 0)
                        return ret;
                if (map.type != EXT4_MAP_WRITTEN)
                        return ext4_corrupt(&at, "the journal has a hole at block %u", lblk);
                map.len = min_t(uint64_t, map.len, left);
                ret = add_run(place, lblk, (uint32_t)map.len, map.pblk);
                if (ret < 0)
                        return ret;
                lblk += (uint32_t)map.len;
        }
        return 0;
}

/* A map may lead to the same few blocks without end: its size bounds who goes through it. */
static int place_in_inode(struct ext4_fs *fs, uint32_t ino, struct jbd2_place *place)
{
        struct ext4_inode *inode;
        uint64_t nr_blocks;
        int ret = ext4_iget(fs, ino, &inode);

        if (ret == -ESTALE)
                return refuse(fs, -EUCLEAN, "its inode is free");
        if (ret < 0)
                return ret;
        nr_blocks = vfs_size(&inode->vfs) >> fs->block_bits;
        place->dev = fs->vfs.dev;
        place->block_size = fs->block_size;
        place->nr_blocks = (uint32_t)min_t(uint64_t, nr_blocks, INT32_MAX);
        rwsem_read_lock(&inode->vfs.lock);
        if (!S_ISREG(inode->mode) || (inode->flags & EXT4_FL_INLINE_DATA))
                ret = refuse(fs, -EUCLEAN, "its inode is no plain file");
        else if (nr_blocks > fs->nr_blocks)
                ret = refuse(fs, -EUCLEAN, "its inode is larger than the file system");
        else
                ret = map_inode(inode, place);
        rwsem_read_unlock(&inode->vfs.lock);
        ext4_iput(inode);
        return ret;
}

/*
 * A journal device begins with an ext4 superblock, and the journal's superblock is behind it;
 * block numbers in the journal are those of the device.
 */
static int place_on_device(struct ext4_fs *fs, struct uext4_bdev *dev, struct jbd2_place *place)
{
        struct ext4_super_block sb;
        uint64_t nr_blocks;
        int ret;

        if (!dev)
                return refuse(fs, -EINVAL,
                              "it is on another device; name that with journal_path=");
        ret = uext4_bdev_read_bytes(dev, &sb, sizeof(sb), EXT4_SUPER_OFFSET);
        if (ret < 0)
                return ret;
        if (le16_get(sb.s_magic) != EXT4_SUPER_MAGIC ||
            !(le32_get(sb.s_feature_incompat) & EXT4_INCOMPAT_JOURNAL_DEV))
                return refuse(fs, -EINVAL, "the device named is no journal");
        if (memcmp(sb.s_uuid, fs->sb.s_journal_uuid, sizeof(sb.s_uuid)) != 0)
                return refuse(fs, -EINVAL, "the device named is another file system's journal");
        if (le32_get(sb.s_log_block_size) != fs->block_bits - 10)
                return refuse(fs, -EUCLEAN, "its device has another block size");
        nr_blocks = min_t(uint64_t, le32_get(sb.s_blocks_count_lo),
                          uext4_bdev_geometry(dev)->size >> fs->block_bits);
        place->dev = dev;
        place->block_size = fs->block_size;
        place->nr_blocks = (uint32_t)nr_blocks;
        place->super_blk = EXT4_MIN_BLOCK_SIZE / fs->block_size + 1;
        return add_run(place, 0, place->nr_blocks, 0);
}

int ext4_journal_open(struct ext4_fs *fs, struct uext4_bdev *journal_dev,
                      struct jbd2_journal *ret_journal)
{
        uint32_t ino = le32_get(fs->sb.s_journal_inum);
        struct jbd2_place place = {0};
        int ret;

        if (!ext4_has_compat(fs, EXT4_COMPAT_HAS_JOURNAL))
                return refuse(fs, -ENODATA, "this file system has none");
        if (ino)
                ret = place_in_inode(fs, ino, &place);
        else
                ret = place_on_device(fs, journal_dev, &place);
        if (ret < 0) {
                mem_free(place.runs);
                return ret;
        }
        return jbd2_open(&place, &fs->vfs.log, ret_journal);
}

/* ---- the superblock ---- */

bool ext4_needs_recovery(struct uext4_bdev *dev, const struct ext4_mount_options *opts)
{
        struct ext4_super_block sb;

        return uext4_bdev_read_bytes(dev, &sb, sizeof(sb), opts->sb_block * 1024) == 0 &&
               le16_get(sb.s_magic) == EXT4_SUPER_MAGIC &&
               (le32_get(sb.s_feature_incompat) & EXT4_INCOMPAT_RECOVER);
}

/*
 * What a superblock that replay has brought back may have forgotten, and the superblock from
 * before knew (J33).
 */
struct known_error {
        const struct ext4_super_block *before;
        bool in_journal;
};

/* The fields of the error that the one with the higher count remembers. */
static void carry_errors(struct ext4_super_block *sb, const struct ext4_super_block *before)
{
        const size_t from = offsetof(struct ext4_super_block, s_error_count);
        const size_t to = offsetof(struct ext4_super_block, s_mount_opts);

        if (le32_get(before->s_error_count) <= le32_get(sb->s_error_count))
                return;
        memcpy((char *)sb + from, (const char *)before + from, to - from);
        sb->s_first_error_time_hi = before->s_first_error_time_hi;
        sb->s_last_error_time_hi = before->s_last_error_time_hi;
        sb->s_first_error_errcode = before->s_first_error_errcode;
        sb->s_last_error_errcode = before->s_last_error_errcode;
}

static void remember_error(struct ext4_super_block *sb, void *arg)
{
        const struct known_error *known = arg;
        uint16_t state = le16_get(sb->s_state);

        state |= le16_get(known->before->s_state) & EXT4_STATE_ERROR;
        if (known->in_journal)
                state |= EXT4_STATE_ERROR;
        sb->s_state = le16_make(state);
        carry_errors(sb, known->before);
}

static bool has_error(const struct ext4_fs *fs, const struct jbd2_journal *j)
{
        return be32_get(j->sb.s_errno) != 0 || le32_get(fs->sb.s_error_count) != 0 ||
               (le16_get(fs->sb.s_state) & EXT4_STATE_ERROR);
}

static int save_error(struct ext4_fs *fs, const struct jbd2_journal *j)
{
        struct known_error known = {&fs->sb, be32_get(j->sb.s_errno) != 0};

        return has_error(fs, j) ? ext4_super_write_home(fs, remember_error, &known) : 0;
}

static void mark_recovered(struct ext4_super_block *sb, void *arg)
{
        const struct ext4_free_counts *counted = arg;

        sb->s_feature_incompat =
                le32_make(le32_get(sb->s_feature_incompat) & ~EXT4_INCOMPAT_RECOVER);
        if (counted)
                ext4_super_set_free(sb, counted);
}

static bool is_damage(int err)
{
        return ext4_is_damage(err) || err == -EINVAL || err == -EOPNOTSUPP;
}

/*
 * The free blocks and inodes of the groups as replay has left them.  `fs` is from before and
 * may have older blocks in its cache, so another one is needed.  1, or 0 when they cannot be
 * told: a backup of the superblock comes with the old descriptors beside it, and what is
 * damaged there is not recovery's to mend.
 */
static int count_anew(struct ext4_fs *fs, struct ext4_free_counts *ret_n)
{
        struct ext4_fs *now;
        int ret;

        if (fs->opts.sb_block != 1)
                return 0;
        ret = ext4_mount_for_recovery(fs->vfs.dev, &fs->opts, &fs->vfs.log, &now);
        if (ret == 0) {
                ret = ext4_count_free(now, ret_n);
                ext4_unmount(now);
        }
        if (!is_damage(ret))
                return ret < 0 ? ret : 1;
        log_say(&fs->vfs.log, LOG_WARNING,
                "the superblock's free counts may be old: the groups are damaged");
        return 0;
}

static int finish_recovery(struct ext4_fs *fs)
{
        struct ext4_free_counts n;
        int ret = count_anew(fs, &n);

        if (ret < 0)
                return ret;
        return ext4_super_write_home(fs, mark_recovered, ret ? &n : NULL);
}

/* ---- recovery ---- */

/*
 * A power cut may have torn the superblock, of which one half is in another sector than the
 * checksum, on its way home from the log: then the log has it whole.
 */
static int check_torn_super(struct ext4_fs *fs, struct jbd2_journal *j,
                            const struct jbd2_extent_of_log *extent)
{
        int ret;

        if (!fs->super_is_torn)
                return 0;
        ret = jbd2_has_copy(j, extent, fs->sb_fsblk);
        if (ret != 0)
                return ret < 0 ? ret : 0;
        return refuse(fs, -EBADMSG,
                      "the superblock's checksum does not match, nor has the log one");
}

/* What replay has brought in its place. */
static int reread_torn_super(struct ext4_fs *fs)
{
        int ret;

        if (!fs->super_is_torn)
                return 0;
        ret = uext4_bdev_read_bytes(fs->vfs.dev, &fs->sb, sizeof(fs->sb),
                                    fs->opts.sb_block * 1024);
        if (ret < 0)
                return ret;
        if (!ext4_super_csum_ok(&fs->sb))
                return refuse(fs, -EBADMSG, "the superblock's checksum does not match");
        log_say(&fs->vfs.log, LOG_WARNING, "the superblock was torn: the log had it whole");
        return 0;
}

static int recover_from(struct ext4_fs *fs, struct jbd2_journal *j,
                        struct jbd2_recovery *ret_recovery)
{
        struct jbd2_extent_of_log extent;
        int ret = jbd2_scan(j, &extent);

        if (ret == 0)
                ret = check_torn_super(fs, j, &extent);
        if (ret == 0 && !jbd2_is_empty(j)) /* fast commits follow on a full one */
                ret = ext4_fast_commit_check(j, extent.end_tid);
        if (ret == 0)
                ret = jbd2_replay(j, &extent, fs->vfs.dev, fs->nr_blocks, ret_recovery);
        if (ret == 0)
                ret = reread_torn_super(fs);
        if (ret == 0)
                ret = save_error(fs, j);
        if (ret == 0 && (!jbd2_is_empty(j) || be32_get(j->sb.s_errno) != 0))
                ret = jbd2_reset_log(j, extent.end_tid);
        return ret == 0 ? finish_recovery(fs) : ret;
}

int ext4_journal_tidy(struct ext4_fs *fs, struct jbd2_journal *j)
{
        struct jbd2_extent_of_log extent;
        int ret;

        if (jbd2_is_empty(j) && be32_get(j->sb.s_errno) == 0)
                return 0;
        ret = jbd2_scan(j, &extent);
        if (ret == 0)
                ret = save_error(fs, j);
        if (ret == 0 && be32_get(j->sb.s_errno) != 0)
                fs->sb.s_state = le16_make(le16_get(fs->sb.s_state) | EXT4_STATE_ERROR);
        return ret == 0 ? jbd2_reset_log(j, extent.end_tid) : ret;
}

int ext4_recover(struct uext4_bdev *dev, struct uext4_bdev *journal_dev,
                 const struct ext4_mount_options *opts, const struct log_sink *log,
                 struct jbd2_recovery *ret_recovery)
{
        struct jbd2_recovery stats = {0};
        struct jbd2_journal journal;
        struct ext4_fs *fs;
        int ret = ext4_mount_for_recovery(dev, opts, log, &fs);

        if (ret < 0)
                return ret;
        if (!ext4_has_incompat(fs, EXT4_INCOMPAT_RECOVER)) {
                if (fs->super_is_torn)
                        ret = refuse(fs, -EBADMSG, "the superblock's checksum does not match");
        } else {
                if (ext4_has_compat(fs, EXT4_COMPAT_HAS_JOURNAL))
                        ret = ext4_journal_open(fs, journal_dev, &journal);
                else
                        ret = refuse(fs, -EUCLEAN, "recovery is asked for, and there is none");
                if (ret == 0) {
                        ret = recover_from(fs, &journal, &stats);
                        jbd2_close(&journal);
                }
        }
        ext4_unmount(fs);
        if (ret == 0)
                *ret_recovery = stats;
        return ret;
}
