/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Opening the devices that a URI and mount options name. */

#include <string.h>

#include "lib/lib.h"

/*
 * Direct I/O with a device whose unit is larger than the file system's block cannot work
 * (a 1k-block image in a file on a 4k-sector disk): then the host's cache has to help.
 */
static bool needs_host_cache(struct uext4_bdev *dev, uint64_t super_pos)
{
        struct ext4_super_block sb;
        uint32_t unit = uext4_bdev_geometry(dev)->logical_block;
        int ret = uext4_bdev_read_bytes(dev, &sb, sizeof(sb), super_pos);

        if (ret < 0 || le16_get(sb.s_magic) != EXT4_SUPER_MAGIC)
                return false; /* the mount will say what is wrong */
        return unit > (uint32_t)EXT4_MIN_BLOCK_SIZE
                              << min_t(uint32_t, le32_get(sb.s_log_block_size), 6);
}

/* Open one device, without the host's cache where that can work.  A journal's has a superblock
 * of ext4, too. */
static int open_device(const char *uri, uint32_t flags, uint64_t super_pos,
                       const struct log_sink *log, struct uext4_bdev **ret_dev)
{
        struct uext4_bdev *dev;
        int ret = uext4_bdev_open(uri, flags, log->fn, log->arg, &dev);

        if (ret < 0)
                return ret;
        if (needs_host_cache(dev, super_pos)) {
                log_say(log, LOG_NOTICE, "%s: sectors are larger than blocks, no direct I/O",
                        uri);
                uext4_bdev_close(dev);
                ret = uext4_bdev_open(uri, flags | UEXT4_BDEV_OPEN_BUFFERED, log->fn, log->arg,
                                      &dev);
                if (ret < 0)
                        return ret;
        }
        *ret_dev = dev;
        return 0;
}

/* Cut the file system out of the device, which is handed over. */
static int cut(struct uext4_bdev *whole, uint64_t offset, const struct log_sink *log,
               struct uext4_bdev **ret_dev)
{
        int ret;

        if (offset == 0) {
                *ret_dev = whole;
                return 0;
        }
        ret = uext4_bdev_open_slice(whole, offset, 0, ret_dev);
        if (ret < 0) {
                log_say(log, LOG_ERR, "mount option offset=%llu: not possible here",
                        (unsigned long long)offset);
                uext4_bdev_close(whole);
        }
        return ret;
}

int lib_open_journal(uint32_t flags, const struct lib_options *o, const struct log_sink *log,
                     struct uext4_bdev **ret_dev)
{
        struct uext4_bdev *dev = NULL;
        int ret = 0;

        if (o->journal_path[0])
                ret = open_device(o->journal_path, flags, EXT4_SUPER_OFFSET, log, &dev);
        if (ret < 0) {
                log_say(log, LOG_ERR, "mount option journal_path=%s: %s", o->journal_path,
                        strerror(-ret));
                return ret;
        }
        *ret_dev = dev;
        return 0;
}

int lib_open_devices(const char *uri, uint32_t flags, const struct lib_options *o,
                     const struct log_sink *log, struct lib_devices *ret_devices)
{
        struct lib_devices d = {0};
        int ret = open_device(uri, flags, o->offset + o->ext4.sb_block * 1024, log, &d.dev);

        if (ret == 0)
                ret = cut(d.dev, o->offset, log, &d.dev);
        if (ret < 0)
                return ret;
        ret = lib_open_journal(flags, o, log, &d.journal);
        if (ret < 0) {
                uext4_bdev_close(d.dev);
                return ret;
        }
        *ret_devices = d;
        return 0;
}

void lib_close_devices(struct lib_devices *devices)
{
        uext4_bdev_close(devices->dev);
        uext4_bdev_close(devices->journal);
        *devices = (struct lib_devices){0};
}
