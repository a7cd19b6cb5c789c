/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Mount, unmount, and what there is to know of a mount as a whole. */

#include <string.h>

#include "ext4/journal.h"
#include "ext4/super_write.h"
#include "lib/lib.h"
#include "util/alloc.h"

const char *uext4_version(void)
{
        return UEXT4_VERSION;
}

/* ---- mount ---- */

/* Text that, coming from a superblock, is not always terminated. */
static void copy_text(char *dst, size_t size, const char *src, size_t len)
{
        size_t n = strnlen(src, min_t(size_t, len, size - 1));

        memcpy(dst, src, n);
        dst[n] = '\0';
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

enum ownership {
        OWNS_DEVICE,
        BORROWS_DEVICE,
};

/* Put a private overlay in the place of a device. */
static int cover(struct uext4_bdev **dev, enum ownership whose)
{
        struct uext4_bdev *cow;
        int ret = uext4_bdev_open_cow(*dev, 0, &cow);

        if (ret < 0)
                return ret;
        if (whose == BORROWS_DEVICE)
                bdev_cow_borrow(cow);
        *dev = cow;
        return 0;
}

/* Recover and mount what cover() has put overlays on. */
static int mount_covered(const struct lib_devices *d, const struct lib_options *o,
                         const struct log_sink *log, struct uext4_fs **ret_fs)
{
        struct lib_options read_only = *o;
        struct jbd2_recovery stats;
        int ret = ext4_recover(d->dev, d->journal, &o->ext4, log, &stats);

        if (ret < 0) {
                log_say(log, LOG_ERR,
                        "the journal cannot be replayed; mount with "
                        "ro,noload to read the image without it");
                return ret;
        }
        read_only.ext4.read_only = true;
        ret = mount_device(d->dev, &read_only, log, ret_fs);
        if (ret == 0)
                log_say(log, LOG_INFO, "the journal was replayed in memory: %u transactions",
                        stats.nr_transactions);
        return ret;
}

/* Mount what must be recovered first: in memory, so that nothing is written. */
static int mount_recovered(const struct lib_devices *devices, enum ownership whose,
                           const struct lib_options *o, const struct log_sink *log,
                           struct uext4_fs **ret_fs)
{
        struct lib_devices d = *devices;
        int ret = cover(&d.dev, whose);

        if (ret < 0)
                return ret;
        if (d.journal)
                ret = cover(&d.journal, BORROWS_DEVICE);
        if (ret == 0)
                ret = mount_covered(&d, o, log, ret_fs);
        if (d.journal != devices->journal)
                uext4_bdev_close(d.journal);
        if (ret < 0) {
                bdev_cow_borrow(d.dev); /* the caller closes what is below */
                uext4_bdev_close(d.dev);
                return ret;
        }
        (*ret_fs)->own_dev = d.dev;
        return 0;
}

/* The same for a mount that was to write and must not: it says so. */
static int mount_not_to_write(const struct lib_devices *d, enum ownership whose,
                              const struct lib_options *o, const char *reason,
                              const struct log_sink *log, struct uext4_fs **ret_fs)
{
        int ret = mount_recovered(d, whose, o, log, ret_fs);

        if (ret == 0 && !o->ext4.read_only) {
                struct ext4_fs *fs = (*ret_fs)->ext4;

                log_say(log, LOG_WARNING, "mounted read-only: %s", reason);
                copy_text(fs->readonly_reason, sizeof(fs->readonly_reason), reason,
                          strlen(reason));
        }
        return ret;
}

/* On success the journal's device is the mount's. */
static int mount_on(const struct lib_devices *d, enum ownership whose, struct lib_options *o,
                    const struct log_sink *log, struct uext4_fs **ret_fs)
{
        char reason[256];
        int ret;

        o->ext4.journal_dev = d->journal;
        if (!o->ext4.noload && ext4_needs_recovery(d->dev, &o->ext4) &&
            !ext4_mount_would_write(d->dev, &o->ext4, reason, sizeof(reason))) {
                ret = mount_not_to_write(d, whose, o, reason, log, ret_fs);
        } else {
                ret = mount_device(d->dev, o, log, ret_fs);
                if (ret == 0 && whose == OWNS_DEVICE)
                        (*ret_fs)->own_dev = d->dev;
        }
        if (ret < 0)
                return ret;
        if (ext4_writable((*ret_fs)->ext4) == 0)
                (*ret_fs)->journal = d->journal;
        else
                uext4_bdev_close(d->journal); /* it was needed for recovery only */
        return 0;
}

/* How a mount opens its devices. */
static uint32_t open_flags(const struct lib_options *o)
{
        return o->ext4.read_only ? UEXT4_BDEV_OPEN_READONLY : 0;
}

int uext4_mount_bdev(struct uext4_bdev *dev, const struct uext4_mount_params *params,
                     struct uext4_fs **ret_fs)
{
        const struct log_sink log = sink_of(params);
        struct lib_devices d = {.dev = dev};
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
        ret = lib_open_journal(open_flags(&o), &o, &log, &d.journal);
        if (ret < 0)
                return ret;
        ret = mount_on(&d, BORROWS_DEVICE, &o, &log, ret_fs);
        if (ret < 0)
                uext4_bdev_close(d.journal);
        return ret;
}

/* A device that cannot be written is one to read; the mount says so. */
static int open_to_write_or_read(const char *uri, const struct lib_options *o,
                                 const struct log_sink *log, struct lib_devices *ret_devices)
{
        int ret = lib_open_devices(uri, open_flags(o), o, log, ret_devices);

        if (ret == -EROFS || ret == -EACCES || ret == -EPERM)
                ret = lib_open_devices(uri, UEXT4_BDEV_OPEN_READONLY, o, log, ret_devices);
        return ret;
}

int uext4_mount(const char *uri, const struct uext4_mount_params *params,
                struct uext4_fs **ret_fs)
{
        const struct log_sink log = sink_of(params);
        struct lib_devices d;
        struct lib_options o;
        int ret = lib_parse_options(params ? params->options : NULL, &log, &o);

        if (ret == 0)
                ret = open_to_write_or_read(uri, &o, &log, &d);
        if (ret < 0)
                return ret;
        ret = mount_on(&d, OWNS_DEVICE, &o, &log, ret_fs);
        if (ret < 0)
                lib_close_devices(&d);
        return ret;
}

int uext4_unmount(struct uext4_fs *fs)
{
        int ret = ext4_unmount(fs->ext4);

        if (ret == -EBUSY)
                return ret;
        uext4_bdev_close(fs->journal);
        uext4_bdev_close(fs->own_dev);
        mem_free(fs);
        return ret;
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

int uext4_get_info(struct uext4_fs *fs, struct uext4_info *ret_info)
{
        const struct ext4_fs *e = fs->ext4;
        const struct ext4_super_block *sb = &e->sb;
        struct ext4_free_counts n = ext4_super_free_counts(e);

        /* While it is written the superblock's own are old. */
        if (e->journal && ext4_count_free(fs->ext4, &n) < 0)
                n = ext4_super_free_counts(e);
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
        struct jbd2 *journal = fs->ext4->journal;
        struct buf_stats bufs;
        uint64_t commits = 0;

        if (journal) {
                struct jbd2_stats j;

                jbd2_get_stats(journal, &j);
                commits = j.nr_commits;
        }
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
                .direct_writes = vfs_counter_sum(sb, VFS_DIRECT_WRITES),
                .direct_write_bytes = vfs_counter_sum(sb, VFS_DIRECT_WRITE_BYTES),
                .device_writes = vfs_counter_sum(sb, VFS_DEVICE_WRITES),
                .fua_writes = vfs_counter_sum(sb, VFS_FUA_WRITES),
                .buffered_writes = vfs_counter_sum(sb, VFS_BUFFERED_WRITES),
                .overwrites = vfs_counter_sum(sb, VFS_OVERWRITES),
                .extends = vfs_counter_sum(sb, VFS_EXTENDS),
                .allocations = vfs_counter_sum(sb, VFS_ALLOCATIONS),
                .conversions = vfs_counter_sum(sb, VFS_CONVERSIONS),
                .fallback_hole = vfs_counter_sum(sb, VFS_FALLBACK_HOLE),
                .lock_restarts = vfs_counter_sum(sb, VFS_LOCK_RESTARTS),
                .finish_batches = vfs_counter_sum(sb, VFS_BATCHES),
                .syncs = vfs_counter_sum(sb, VFS_SYNCS),
                .flushes = vfs_counter_sum(sb, VFS_FLUSHES),
                .commits = commits,
                .dax_reads = vfs_counter_sum(sb, VFS_DAX_READS),
                .dax_writes = vfs_counter_sum(sb, VFS_DAX_WRITES),
                .extent_cache_hits = vfs_counter_sum(sb, VFS_MAP_CACHE_HITS),
                .extent_cache_misses = vfs_counter_sum(sb, VFS_MAP_CACHE_MISSES),
                .meta_reads = bufs.reads,
                .meta_cached_bytes = bufs.cached_bytes,
        };
}
