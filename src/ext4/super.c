/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Mounting: the superblock is read, checked field by field, and turned into the constants of
 * struct ext4_fs.  Of the rest only the root inode is read, so that the cost does not grow with
 * the device.
 */

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "ext4/ext4.h"
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

/* ---- the journal ---- */

/* Who mounts has replayed the journal before (journal.c), or wants the image as it is. */
static int check_journal(struct ext4_fs *fs)
{
        if (!ext4_has_incompat(fs, EXT4_INCOMPAT_RECOVER) || fs->opts.noload)
                return 0;
        log_say(&fs->vfs.log, LOG_ERR,
                "the journal must be replayed first; "
                "mount with ro,noload to read the image as it is");
        return -EROFS;
}

/* ---- mount ---- */

static void set_readonly_reason(struct ext4_fs *fs, const char *gate)
{
        const char *why = "this version of uext4 does not write";

        if (fs->opts.read_only)
                why = "mounted with ro";
        else if (gate[0])
                why = gate;
        else if (uext4_bdev_geometry(fs->vfs.dev)->caps & UEXT4_BDEV_CAP_READONLY)
                why = "the device is read-only";
        snprintf(fs->readonly_reason, sizeof(fs->readonly_reason), "%s", why);
        if (!fs->opts.read_only)
                log_say(&fs->vfs.log, LOG_WARNING, "mounted read-only: %s", why);
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
        if (ret == 0)
                ret = check_journal(fs);
        if (ret < 0)
                return ret;
        fs->sb_fsblk = fs->opts.sb_block * 1024 >> fs->block_bits;
        fs->vfs.block_bits = fs->block_bits;
        init_hash(fs);
        set_readonly_reason(fs, gate);
        return 0;
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
        buf_cache_free(fs->bufs);
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

int ext4_mount(struct uext4_bdev *dev, const struct ext4_mount_options *opts,
               const struct log_sink *log, struct ext4_fs **ret_fs)
{
        struct ext4_fs *fs;
        int ret = mount_fs(dev, opts, log, &fs);

        if (ret < 0)
                return ret;
        if (ext4_has_incompat(fs, EXT4_INCOMPAT_RECOVER))
                log_say(log, LOG_WARNING,
                        "the journal is not replayed (noload): recent changes are missing");
        ret = check_root(fs);
        if (ret < 0) {
                free_fs(fs);
                return ret;
        }
        *ret_fs = fs;
        return 0;
}

int ext4_mount_for_recovery(struct uext4_bdev *dev, const struct ext4_mount_options *opts,
                            const struct log_sink *log, struct ext4_fs **ret_fs)
{
        struct ext4_mount_options o = *opts;

        o.read_only = true;
        o.noload = true;
        return mount_fs(dev, &o, log, ret_fs);
}

bool ext4_unmount(struct ext4_fs *fs)
{
        if (!ext4_inode_table_idle(fs->inodes) || !LIST_EMPTY(&fs->vfs.queues))
                return true;
        free_fs(fs);
        return false;
}

/* ---- statfs ---- */

/* Blocks that no file can ever have: superblocks, descriptors, bitmaps, inode tables, journal.
 */
static uint64_t overhead_blocks(const struct ext4_fs *fs)
{
        return (uint64_t)le32_get(fs->sb.s_overhead_blocks) << fs->cluster_bits;
}

struct ext4_free_counts ext4_super_free_counts(const struct ext4_fs *fs)
{
        const struct ext4_super_block *sb = &fs->sb;
        struct ext4_free_counts n = {
                .blocks = le32_get(sb->s_free_blocks_count_lo),
                .inodes = le32_get(sb->s_free_inodes_count),
        };

        if (ext4_has_incompat(fs, EXT4_INCOMPAT_64BIT))
                n.blocks |= (uint64_t)le32_get(sb->s_free_blocks_count_hi) << 32;
        return n;
}

ext4_fsblk_t ext4_reserved_blocks(const struct ext4_fs *fs)
{
        ext4_fsblk_t n = le32_get(fs->sb.s_r_blocks_count_lo);

        if (ext4_has_incompat(fs, EXT4_INCOMPAT_64BIT))
                n |= (uint64_t)le32_get(fs->sb.s_r_blocks_count_hi) << 32;
        return n;
}

/*
 * While a file system is mounted for writing only the group descriptors are kept up to date,
 * and after a crash nothing tells that the superblock's counts are old ones.
 */
static int free_of_groups(struct ext4_fs *fs, struct ext4_free_counts *ret_n)
{
        struct ext4_free_counts n = {0};

        for (ext4_group_t g = 0; g < fs->nr_groups; g++) {
                struct ext4_group group;
                int ret = ext4_group_get(fs, g, 0, &group);

                if (ret < 0)
                        return ret;
                n.blocks += (uint64_t)group.free_clusters << fs->cluster_bits;
                n.inodes += group.free_inodes;
        }
        *ret_n = n;
        return 0;
}

int ext4_statfs(struct ext4_fs *fs, struct statvfs *ret_st)
{
        const struct ext4_super_block *sb = &fs->sb;
        uint64_t overhead = overhead_blocks(fs);
        uint64_t reserved = ext4_reserved_blocks(fs);
        struct ext4_free_counts n;
        int ret = free_of_groups(fs, &n);

        if (ret < 0)
                return ret;
        n.blocks = min_t(uint64_t, n.blocks, fs->nr_blocks);
        n.inodes = min_t(uint64_t, n.inodes, fs->nr_inodes);
        *ret_st = (struct statvfs){
                .f_bsize = fs->block_size,
                .f_frsize = fs->block_size,
                .f_blocks = fs->nr_blocks - min_t(uint64_t, overhead, fs->nr_blocks),
                .f_bfree = n.blocks,
                .f_bavail = n.blocks > reserved ? n.blocks - reserved : 0,
                .f_files = fs->nr_inodes,
                .f_ffree = n.inodes,
                .f_favail = n.inodes,
                .f_flag = ST_RDONLY,
                .f_namemax = EXT4_NAME_LEN,
        };
        memcpy(&ret_st->f_fsid, sb->s_uuid, min_t(size_t, sizeof(ret_st->f_fsid), 16));
        return 0;
}
