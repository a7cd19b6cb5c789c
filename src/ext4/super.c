/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Mounting: the superblock is read, checked field by field, and turned into the constants of
 * struct ext4_fs.  Of the rest a mount that reads needs only the root inode, so that its cost
 * does not grow with the device; what a mount that writes needs is in writing.c.
 */

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ext4/cache.h"
#include "ext4/dax.h"
#include "ext4/journal.h"
#include "ext4/super_write.h"
#include "ext4/write.h"
#include "util/alloc.h"
#include "util/crc.h"

/* ---- the superblock's own consistency ---- */

static int refuse(const struct ext4_fs *fs, const char *why)
{
        log_say(&fs->vfs.log, LOG_ERR, "superblock: %s", why);
        return -EUCLEAN;
}

static bool is_dynamic_rev(const struct ext4_super_block *sb)
{
        return le32_get(sb->s_rev_level) > 0;
}

/* Sizes by which everything else is measured. */
static int check_sizes(struct ext4_fs *fs)
{
        const struct ext4_super_block *sb = &fs->sb;
        uint32_t log_block = le32_get(sb->s_log_block_size);
        uint32_t log_cluster = le32_get(sb->s_log_cluster_size);

        if (log_block > 6)
                return refuse(fs, "the block size is more than 64 KiB");
        fs->block_bits = 10 + log_block;
        fs->block_size = 1u << fs->block_bits;
        fs->cluster_bits = 0;
        if (ext4_has_ro_compat(fs, EXT4_RO_COMPAT_BIGALLOC)) {
                if (log_cluster < log_block || log_cluster > EXT4_MAX_CLUSTER_LOG - 10)
                        return refuse(fs, "the cluster size is impossible");
                fs->cluster_bits = log_cluster - log_block;
        }
        fs->inode_size = EXT4_GOOD_OLD_INODE_SIZE;
        fs->first_ino = EXT4_OLD_FIRST_INO;
        if (is_dynamic_rev(sb)) {
                fs->inode_size = le16_get(sb->s_inode_size);
                fs->first_ino = le32_get(sb->s_first_ino);
        }
        if (fs->inode_size < EXT4_GOOD_OLD_INODE_SIZE || !is_pow2(fs->inode_size) ||
            fs->inode_size > fs->block_size)
                return refuse(fs, "the inode size is impossible");
        if (fs->first_ino < EXT4_OLD_FIRST_INO)
                return refuse(fs, "the first inode number is too small");
        fs->desc_size = EXT4_MIN_DESC_SIZE;
        if (ext4_has_incompat(fs, EXT4_INCOMPAT_64BIT)) {
                fs->desc_size = le16_get(sb->s_desc_size);
                if (fs->desc_size < EXT4_MIN_DESC_SIZE_64BIT ||
                    fs->desc_size > EXT4_MAX_DESC_SIZE || !is_pow2(fs->desc_size))
                        return refuse(fs, "the group descriptor size is impossible");
        }
        fs->descs_per_block = fs->block_size / fs->desc_size;
        return 0;
}

static int check_groups(struct ext4_fs *fs)
{
        const struct ext4_super_block *sb = &fs->sb;
        bool is_64bit = ext4_has_incompat(fs, EXT4_INCOMPAT_64BIT);
        uint32_t clusters_per_group = le32_get(sb->s_clusters_per_group);
        uint64_t nr_groups;

        fs->nr_blocks = is_64bit ? le64_join(sb->s_blocks_count_lo, sb->s_blocks_count_hi)
                                 : le32_get(sb->s_blocks_count_lo);
        fs->first_data_block = le32_get(sb->s_first_data_block);
        fs->blocks_per_group = le32_get(sb->s_blocks_per_group);
        fs->inodes_per_group = le32_get(sb->s_inodes_per_group);
        fs->nr_inodes = le32_get(sb->s_inodes_count);

        if (fs->nr_blocks > UINT64_MAX >> fs->block_bits >> 1)
                return refuse(fs, "the block count overflows");
        if (fs->first_data_block >= fs->nr_blocks || fs->first_data_block > 1 ||
            (fs->block_size > 1024 && fs->first_data_block != 0))
                return refuse(fs, "the first data block is impossible");
        if (fs->cluster_bits == 0)
                clusters_per_group = fs->blocks_per_group;
        if (clusters_per_group == 0 || clusters_per_group > fs->block_size * 8 ||
            (uint64_t)clusters_per_group << fs->cluster_bits != fs->blocks_per_group)
                return refuse(fs, "the number of blocks per group is impossible");
        if (fs->inodes_per_group == 0 || fs->inodes_per_group > fs->block_size * 8)
                return refuse(fs, "the number of inodes per group is impossible");

        nr_groups = div_round_up(fs->nr_blocks - fs->first_data_block, fs->blocks_per_group);
        if (nr_groups > UINT32_MAX / fs->inodes_per_group + 1u)
                return refuse(fs, "there are more groups than inode numbers");
        if (nr_groups * fs->inodes_per_group != fs->nr_inodes)
                return refuse(fs, "inode count and group count do not fit together");
        fs->nr_groups = (ext4_group_t)nr_groups;
        return 0;
}

static int check_csums(struct ext4_fs *fs)
{
        const struct ext4_super_block *sb = &fs->sb;

        fs->has_metadata_csum = ext4_has_ro_compat(fs, EXT4_RO_COMPAT_METADATA_CSUM);
        fs->has_gdt_csum = ext4_has_ro_compat(fs, EXT4_RO_COMPAT_GDT_CSUM);
        if (fs->has_metadata_csum && sb->s_checksum_type != 1) {
                log_say(&fs->vfs.log, LOG_ERR, "superblock: unknown checksum type %u",
                        sb->s_checksum_type);
                return -EOPNOTSUPP;
        }
        /* Values of ea_inode attributes have a checksum with or without the feature. */
        if (ext4_has_incompat(fs, EXT4_INCOMPAT_CSUM_SEED))
                fs->csum_seed = le32_get(sb->s_checksum_seed);
        else
                fs->csum_seed = crc32c(~0u, sb->s_uuid, sizeof(sb->s_uuid));
        return 0;
}

/* The device must hold what the superblock promises. */
static int check_device(const struct ext4_fs *fs)
{
        const struct uext4_bdev_geometry *geo = uext4_bdev_geometry(fs->vfs.dev);
        uint64_t need = fs->nr_blocks << fs->block_bits;

        if (geo->size < need) {
                log_say(&fs->vfs.log, LOG_ERR,
                        "the file system has %llu bytes, the device only %llu: truncated?",
                        (unsigned long long)need, (unsigned long long)geo->size);
                return -EINVAL;
        }
        if (geo->logical_block > fs->block_size) {
                log_say(&fs->vfs.log, LOG_ERR,
                        "the device transfers %u bytes at a time, a block has only %u",
                        geo->logical_block, fs->block_size);
                return -EINVAL;
        }
        return 0;
}

/* ---- reading it ---- */

static int read_super(struct ext4_fs *fs)
{
        uint64_t pos = fs->opts.sb_block * 1024;
        int ret;

        ret = uext4_bdev_read_bytes(fs->vfs.dev, &fs->sb, sizeof(fs->sb), pos);
        if (ret == -ENXIO || (ret == 0 && le16_get(fs->sb.s_magic) != EXT4_SUPER_MAGIC)) {
                log_say(&fs->vfs.log, LOG_ERR,
                        "no ext4 superblock at byte %llu; a backup can be named with sb=",
                        (unsigned long long)pos);
                return -EINVAL;
        }
        if (ret < 0)
                return ret;
        if (ext4_has_ro_compat(fs, EXT4_RO_COMPAT_METADATA_CSUM) && !fs->opts.nocsum &&
            !ext4_super_csum_ok(&fs->sb)) {
                fs->super_is_torn = true;
                if (fs->opts.for_recovery)
                        return 0; /* the log may have a good one */
                log_say(&fs->vfs.log, LOG_ERR, "superblock: the checksum does not match");
                return -EBADMSG;
        }
        return 0;
}

/*
 * Directory hashes know plain char as signed or as unsigned, by the machine that made them;
 * the superblock says which.  Where it does not, the image was made where char was signed.
 */
static void init_hash(struct ext4_fs *fs)
{
        fs->hash_version = fs->sb.s_def_hash_version;
        fs->hash_unsigned = le32_get(fs->sb.s_flags) & EXT4_SUPER_UNSIGNED_HASH;
}

/* ---- mount ---- */

static void set_readonly_reason(struct ext4_fs *fs, const char *gate)
{
        const char *why = ext4_super_write_obstacle(fs);

        if (fs->opts.read_only)
                why = "mounted with ro";
        else if (gate[0])
                why = gate;
        snprintf(fs->readonly_reason, sizeof(fs->readonly_reason), "%s", why ? why : "");
}

static bool writes(const struct ext4_fs *fs)
{
        return fs->readonly_reason[0] == '\0';
}

/* Who mounts to read has replayed the journal before (journal.c), or wants the image as it is;
 * who writes recovers it. */
static int check_journal(struct ext4_fs *fs)
{
        if (!ext4_has_incompat(fs, EXT4_INCOMPAT_RECOVER) || fs->opts.noload || writes(fs))
                return 0;
        log_say(&fs->vfs.log, LOG_ERR,
                "the journal must be replayed first; "
                "mount with ro,noload to read the image as it is");
        return -EROFS;
}

static enum ext4_data_mode default_data_mode(const struct ext4_super_block *sb)
{
        switch (le32_get(sb->s_default_mount_opts) & EXT4_DEFAULT_DATA_MASK) {
        case EXT4_DEFAULT_DATA_JOURNAL:
                return EXT4_DATA_JOURNAL;
        case EXT4_DEFAULT_DATA_WRITEBACK:
                return EXT4_DATA_WRITEBACK;
        default:
                return EXT4_DATA_ORDERED;
        }
}

/* What the caller has left open is as the superblock says. */
static int resolve_options(struct ext4_fs *fs)
{
        const struct ext4_super_block *sb = &fs->sb;
        struct ext4_mount_options *o = &fs->opts;
        uint32_t defaults = le32_get(sb->s_default_mount_opts);
        uint16_t errors = le16_get(sb->s_errors);

        if (!(o->given & EXT4_GIVEN_BARRIER))
                o->nobarrier = defaults & EXT4_DEFAULT_NOBARRIER;
        if (!(o->given & EXT4_GIVEN_DISCARD))
                o->discard = defaults & EXT4_DEFAULT_DISCARD;
        if (!(o->given & EXT4_GIVEN_RESUID))
                o->resuid = le16_get(sb->s_def_resuid);
        if (!(o->given & EXT4_GIVEN_RESGID))
                o->resgid = le16_get(sb->s_def_resgid);
        if (!(o->given & EXT4_GIVEN_ERRORS)) {
                bool known = errors == EXT4_ERRORS_CONTINUE || errors == EXT4_ERRORS_PANIC;

                o->errors = known ? errors : EXT4_ERRORS_RO;
        }
        if (!(o->given & EXT4_GIVEN_DATA)) {
                o->data = default_data_mode(sb);
        } else if (writes(fs) && !ext4_has_compat(fs, EXT4_COMPAT_HAS_JOURNAL)) {
                log_say(&fs->vfs.log, LOG_ERR, "mount option data= needs a journal");
                return -EINVAL;
        }
        return 0;
}

static int load_super(struct ext4_fs *fs)
{
        char gate[256];
        int ret = read_super(fs);

        if (ret == 0)
                ret = ext4_feature_gate(&fs->sb, &fs->vfs.log, gate, sizeof(gate));
        if (ret == 0)
                ret = check_sizes(fs);
        if (ret == 0)
                ret = check_groups(fs);
        if (ret == 0)
                ret = check_csums(fs);
        if (ret == 0)
                ret = check_device(fs);
        if (ret < 0)
                return ret;
        set_readonly_reason(fs, gate);
        ret = check_journal(fs);
        if (ret < 0)
                return ret;
        fs->sb_fsblk = fs->opts.sb_block * 1024 >> fs->block_bits;
        fs->vfs.block_bits = fs->block_bits;
        init_hash(fs);
        return resolve_options(fs);
}

/* Without its root nothing can be reached: better said now than at the first lookup. */
static int check_root(struct ext4_fs *fs)
{
        const struct ext4_where at = {fs, EXT4_INO_ROOT, 0};
        struct ext4_inode *root;
        int ret = ext4_iget(fs, EXT4_INO_ROOT, &root);

        if (ret == -ESTALE)
                return ext4_corrupt(&at, "the root directory is a free inode");
        if (ret < 0)
                return ret;
        if (!S_ISDIR(root->mode))
                ret = ext4_corrupt(&at, "the root directory is no directory");
        ext4_iput(root);
        return ret;
}

static void free_fs(struct ext4_fs *fs)
{
        ext4_inode_table_free(fs->inodes);
        ext4_free_writing(fs);
        buf_cache_free(fs->bufs);
        mtx_done(&fs->super_lock);
        mtx_done(&fs->rename_lock);
        vfs_super_done(&fs->vfs);
        mem_free(fs);
}

static int mount_fs(struct uext4_bdev *dev, const struct ext4_mount_options *opts,
                    const struct log_sink *log, struct ext4_fs **ret_fs)
{
        struct ext4_fs *fs = mem_alloc_aligned(CACHE_LINE, sizeof(*fs));
        int ret;

        if (!fs)
                return -ENOMEM;
        memset(fs, 0, sizeof(*fs));
        fs->opts = *opts;
        vfs_super_init(&fs->vfs, dev, log);
        fs->vfs.finish = ext4_finish_writes;
        fs->vfs.pagecache.ops = &ext4_pagecache_ops;
        fs->vfs.pagecache.limit = opts->page_cache_bytes;
        mtx_init(&fs->super_lock, RANK_SUPER);
        mtx_init(&fs->rename_lock, RANK_RENAME);
        ret = load_super(fs);
        if (ret == 0)
                ret = buf_cache_new(dev, fs->block_size, opts->meta_cache_bytes, &fs->bufs);
        if (ret == 0)
                ret = ext4_inode_table_new(fs, &fs->inodes);
        if (ret < 0) {
                free_fs(fs);
                return ret;
        }
        *ret_fs = fs;
        return 0;
}

/* Recover the image that `*pfs` has been loaded from, and load it again. */
static int recover_and_reload(struct ext4_fs **pfs)
{
        struct ext4_fs *fs = *pfs;
        struct uext4_bdev *dev = fs->vfs.dev;
        const struct ext4_mount_options opts = fs->opts;
        const struct log_sink log = fs->vfs.log;
        struct jbd2_recovery stats;
        int ret;

        free_fs(fs);
        *pfs = NULL;
        ret = ext4_recover(dev, opts.journal_dev, &opts, &log, &stats);
        if (ret < 0)
                return ret;
        log_say(&log, LOG_INFO, "the journal was replayed: %u transactions",
                stats.nr_transactions);
        return mount_fs(dev, &opts, &log, pfs);
}

static int begin(struct ext4_fs *fs)
{
        const struct log_sink *log = &fs->vfs.log;
        int ret;

        if (!writes(fs)) {
                if (!fs->opts.read_only)
                        log_say(log, LOG_WARNING, "mounted read-only: %s", fs->readonly_reason);
                if (ext4_has_incompat(fs, EXT4_INCOMPAT_RECOVER))
                        log_say(log, LOG_WARNING,
                                "the journal is not replayed (noload): recent changes are "
                                "missing");
        }
        ret = ext4_dax_init(fs);
        if (ret == 0)
                ret = check_root(fs);
        return ret == 0 && writes(fs) ? ext4_start_writing(fs) : ret;
}

int ext4_mount(struct uext4_bdev *dev, const struct ext4_mount_options *opts,
               const struct log_sink *log, struct ext4_fs **ret_fs)
{
        struct ext4_fs *fs;
        int ret = mount_fs(dev, opts, log, &fs);

        if (ret == 0 && writes(fs) && ext4_has_incompat(fs, EXT4_INCOMPAT_RECOVER))
                ret = recover_and_reload(&fs);
        if (ret < 0)
                return ret;
        ret = begin(fs);
        if (ret < 0) {
                free_fs(fs);
                return ret;
        }
        *ret_fs = fs;
        return 0;
}

static void say_nothing(void *arg, int level, const char *text)
{
}

bool ext4_mount_would_write(struct uext4_bdev *dev, const struct ext4_mount_options *opts,
                            char *ret_reason, size_t size)
{
        const struct log_sink quiet = {say_nothing, NULL};
        struct ext4_mount_options o = *opts;
        struct ext4_fs *fs;
        bool yes;

        ret_reason[0] = '\0';
        o.noload = true;
        if (mount_fs(dev, &o, &quiet, &fs) < 0)
                return false;
        yes = writes(fs);
        snprintf(ret_reason, size, "%s", fs->readonly_reason);
        free_fs(fs);
        return yes;
}

int ext4_mount_for_recovery(struct uext4_bdev *dev, const struct ext4_mount_options *opts,
                            const struct log_sink *log, struct ext4_fs **ret_fs)
{
        struct ext4_mount_options o = *opts;

        o.read_only = true;
        o.noload = true;
        o.for_recovery = true;
        return mount_fs(dev, &o, log, ret_fs);
}

int ext4_unmount(struct ext4_fs *fs)
{
        int ret, err;

        vfs_flusher_stop(&fs->vfs); /* it has references; begun again when need be */
        err = vfs_write_all(&fs->vfs);
        if (!ext4_inode_table_idle(fs->inodes) || !LIST_EMPTY(&fs->vfs.queues))
                return -EBUSY;
        vfs_flusher_stop(&fs->vfs); /* others may have begun it again, and closed their files */
        if (vfs_has_untold_error(&fs->vfs))
                err = first_error(err, -EIO);
        ret = ext4_stop_writing(fs);
        if (!ext4_is_down(fs)) /* else what cannot be written is meant to be lost */
                ret = first_error(err, ret);
        free_fs(fs);
        return ret == -EBUSY ? -EIO : ret;
}
