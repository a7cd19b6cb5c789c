/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Mount, unmount, and what there is to know of a mount as a whole. */

#include <string.h>

#include "lib/lib.h"
#include "util/alloc.h"

const char *uext4_version(void)
{
        return UEXT4_VERSION;
}

/* ---- mount ---- */

static struct log_sink sink_of(const struct uext4_mount_params *params)
{
        if (!params)
                return (struct log_sink){0};
        return (struct log_sink){params->log, params->log_arg};
}

static int mount_device(struct uext4_bdev *dev, const struct lib_options *o,
                        const struct log_sink *log, struct uext4_fs **ret_fs)
{
        struct uext4_fs *fs = mem_zalloc(sizeof(*fs));
        int ret;

        if (!fs)
                return -ENOMEM;
        ret = ext4_mount(dev, &o->ext4, log, &fs->ext4);
        if (ret < 0) {
                mem_free(fs);
                return ret;
        }
        *ret_fs = fs;
        return 0;
}

int uext4_mount_bdev(struct uext4_bdev *dev, const struct uext4_mount_params *params,
                     struct uext4_fs **ret_fs)
{
        const struct log_sink log = sink_of(params);
        struct lib_options o;
        int ret = lib_parse_options(params ? params->options : NULL, &log, &o);

        if (ret < 0)
                return ret;
        if (o.offset != 0) {
                log_say(&log, LOG_ERR,
                        "mount option offset needs a device that uext4 opens; "
                        "use uext4_bdev_open_slice()");
                return -EINVAL;
        }
        return mount_device(dev, &o, &log, ret_fs);
}

/*
 * Direct I/O with a device whose unit is larger than the file system's block cannot work
 * (a 1k-block image in a file on a 4k-sector disk): then the host's cache has to help.
 */
static bool needs_host_cache(struct uext4_bdev *dev, const struct lib_options *o)
{
        struct ext4_super_block sb;
        uint32_t unit = uext4_bdev_geometry(dev)->logical_block;
        int ret = uext4_bdev_read_bytes(dev, &sb, sizeof(sb),
                                        o->offset + o->ext4.sb_block * 1024);

        if (ret < 0 || le16_get(sb.s_magic) != EXT4_SUPER_MAGIC)
                return false; /* the mount will say what is wrong */
        return unit > (uint32_t)EXT4_MIN_BLOCK_SIZE
                              << min_t(uint32_t, le32_get(sb.s_log_block_size), 6);
}

static int open_device(const char *uri, const struct lib_options *o, const struct log_sink *log,
                       struct uext4_bdev **ret_dev)
{
        uint32_t flags = UEXT4_BDEV_OPEN_READONLY; /* this version never writes */
        struct uext4_bdev *dev;
        int ret = uext4_bdev_open(uri, flags, log->fn, log->arg, &dev);

        if (ret < 0)
                return ret;
        if (needs_host_cache(dev, o)) {
                log_say(log, LOG_NOTICE, "%s: sectors are larger than blocks, no direct I/O",
                        uri);
                uext4_bdev_close(dev);
                ret = uext4_bdev_open(uri, flags | UEXT4_BDEV_OPEN_BUFFERED, log->fn, log->arg,
                                      &dev);
                if (ret < 0)
                        return ret;
        }
        if (o->offset != 0) {
                struct uext4_bdev *whole = dev;

                ret = uext4_bdev_open_slice(whole, o->offset, 0, &dev);
                if (ret < 0) {
                        log_say(log, LOG_ERR, "mount option offset=%llu: not possible here",
                                (unsigned long long)o->offset);
                        uext4_bdev_close(whole);
                        return ret;
                }
        }
        *ret_dev = dev;
        return 0;
}

int uext4_mount(const char *uri, const struct uext4_mount_params *params,
                struct uext4_fs **ret_fs)
{
        const struct log_sink log = sink_of(params);
        struct uext4_bdev *dev;
        struct uext4_fs *fs;
        struct lib_options o;
        int ret = lib_parse_options(params ? params->options : NULL, &log, &o);

        if (ret < 0)
                return ret;
        ret = open_device(uri, &o, &log, &dev);
        if (ret < 0)
                return ret;
        ret = mount_device(dev, &o, &log, &fs);
        if (ret < 0) {
                uext4_bdev_close(dev);
                return ret;
        }
        fs->own_dev = dev;
        *ret_fs = fs;
        return 0;
}

int uext4_unmount(struct uext4_fs *fs)
{
        if (ext4_unmount(fs->ext4))
                return -EBUSY;
        uext4_bdev_close(fs->own_dev);
        mem_free(fs);
        return 0;
}

/* ---- what a mount knows ---- */

int uext4_statfs(struct uext4_fs *fs, struct statvfs *ret_st)
{
        return ext4_statfs(fs->ext4, ret_st);
}

static int64_t time40(le32 lo, uint8_t hi)
{
        return (int64_t)le32_get(lo) | (int64_t)hi << 32;
}

/* Text of the superblock: not always terminated there. */
static void copy_text(char *dst, size_t size, const char *src, size_t len)
{
        size_t n = strnlen(src, min_t(size_t, len, size - 1));

        memcpy(dst, src, n);
        dst[n] = '\0';
}

int uext4_get_info(struct uext4_fs *fs, struct uext4_info *ret_info)
{
        const struct ext4_fs *e = fs->ext4;
        const struct ext4_super_block *sb = &e->sb;
        struct ext4_free_counts n = ext4_super_free_counts(e);

        *ret_info = (struct uext4_info){
                .block_size = e->block_size,
                .cluster_size = e->block_size << e->cluster_bits,
                .inode_size = e->inode_size,
                .nr_groups = e->nr_groups,
                .inodes_per_group = e->inodes_per_group,
                .blocks_per_group = e->blocks_per_group,
                .nr_blocks = e->nr_blocks,
                .nr_blocks_free = n.blocks,
                .nr_blocks_reserved = ext4_reserved_blocks(e),
                .nr_inodes = e->nr_inodes,
                .nr_inodes_free = n.inodes,
                .first_inode = e->first_ino,
                .revision = le32_get(sb->s_rev_level),
                .state = le16_get(sb->s_state),
                .mount_count = le16_get(sb->s_mnt_count),
                .needs_recovery = ext4_has_incompat(e, EXT4_INCOMPAT_RECOVER),
                .mkfs_time = time40(sb->s_mkfs_time, sb->s_mkfs_time_hi),
                .mount_time = time40(sb->s_mtime, sb->s_mtime_hi),
                .write_time = time40(sb->s_wtime, sb->s_wtime_hi),
        };
        memcpy(ret_info->uuid, sb->s_uuid, sizeof(ret_info->uuid));
        copy_text(ret_info->label, sizeof(ret_info->label), sb->s_volume_name,
                  sizeof(sb->s_volume_name));
        copy_text(ret_info->last_mounted, sizeof(ret_info->last_mounted), sb->s_last_mounted,
                  sizeof(sb->s_last_mounted));
        ext4_feature_names(sb, ret_info->features, sizeof(ret_info->features));
        copy_text(ret_info->readonly_reason, sizeof(ret_info->readonly_reason),
                  e->readonly_reason, sizeof(e->readonly_reason));
        return 0;
}

void uext4_get_stats(struct uext4_fs *fs, struct uext4_stats *ret_stats)
{
        struct vfs_super *sb = &fs->ext4->vfs;
        struct buf_stats bufs;

        buf_cache_stats(fs->ext4->bufs, &bufs);
        *ret_stats = (struct uext4_stats){
                .direct_reads = vfs_counter_sum(sb, VFS_DIRECT_READS),
                .direct_read_bytes = vfs_counter_sum(sb, VFS_DIRECT_READ_BYTES),
                .device_reads = vfs_counter_sum(sb, VFS_DEVICE_READS),
                .buffered_reads = vfs_counter_sum(sb, VFS_BUFFERED_READS),
                .fallback_inline = vfs_counter_sum(sb, VFS_FALLBACK_INLINE),
                .fallback_data_journal = vfs_counter_sum(sb, VFS_FALLBACK_DATA_JOURNAL),
                .fallback_verity = vfs_counter_sum(sb, VFS_FALLBACK_VERITY),
                .nowait_again = vfs_counter_sum(sb, VFS_NOWAIT_AGAIN),
                .extent_cache_hits = vfs_counter_sum(sb, VFS_MAP_CACHE_HITS),
                .extent_cache_misses = vfs_counter_sum(sb, VFS_MAP_CACHE_MISSES),
                .meta_reads = bufs.reads,
                .meta_cached_bytes = bufs.cached_bytes,
        };
}
