/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/zero.h"

#include <string.h>

#include "ext4/data_journal.h"
#include "util/alloc.h"

/* ---- bytes of the device ---- */

/* Zero a part of one logical block of the device. */
static int zero_part(struct uext4_bdev *dev, uint64_t pos, uint64_t len)
{
        const struct uext4_bdev_geometry *geo = uext4_bdev_geometry(dev);
        uint64_t start = round_down_pow2(pos, geo->logical_block);
        char *mem = mem_alloc_aligned(max_t(uint32_t, geo->mem_align, 64), geo->logical_block);
        int ret;

        if (!mem)
                return -ENOMEM;
        ret = uext4_bdev_read(dev, mem, geo->logical_block, start);
        if (ret == 0) {
                memset(mem + (pos - start), 0, len);
                ret = uext4_bdev_write(dev, mem, geo->logical_block, start, 0);
        }
        mem_free(mem);
        return ret;
}

/* The part of [pos, end) that lies in the first logical block, if that is not all in it. */
static uint64_t part_at_start(uint64_t unit, uint64_t pos, uint64_t end)
{
        uint64_t next = round_up_pow2(pos, unit);

        if (pos != next)
                return min_t(uint64_t, next, end) - pos;
        return end - pos < unit ? end - pos : 0;
}

/* Of memory, just these: what is beside them may be changing under a lease (vfs/lease.h). */
static int zero_memory(struct vfs_super *sb, uint64_t pos, uint64_t len)
{
        void *mem = iomap_dax_addr(sb, pos, len);

        if (!mem)
                return -ENXIO;
        memset(mem, 0, len);
        return 0;
}

static int zero_bytes(struct vfs_super *sb, uint64_t pos, uint64_t len)
{
        struct uext4_bdev *dev = sb->dev;
        const uint64_t unit = uext4_bdev_geometry(dev)->logical_block;
        const uint64_t end = pos + len;

        if (sb->map)
                return zero_memory(sb, pos, len);
        while (pos < end) {
                uint64_t n = part_at_start(unit, pos, end);
                int ret;

                if (n > 0) {
                        ret = zero_part(dev, pos, n);
                } else {
                        n = round_down_pow2(end - pos, unit);
                        ret = uext4_bdev_write_zeroes(dev, pos, n, 0);
                }
                if (ret < 0)
                        return ret;
                pos += n;
        }
        return 0;
}

int ext4_zero_blocks(struct ext4_fs *fs, ext4_fsblk_t pblk, uint64_t len)
{
        return uext4_bdev_write_zeroes(fs->vfs.dev, pblk << fs->block_bits,
                                       len << fs->block_bits, 0);
}

/* ---- bytes of a file ---- */

/*
 * The bytes from pos on that one mapping covers, at most `len`, with their place on the device;
 * *ret_addr is IOMAP_NULL_ADDR when nothing is written there.
 */
static int locate(struct ext4_inode *inode, uint64_t pos, uint64_t *len, uint64_t *ret_addr)
{
        const uint32_t bits = inode->fs->block_bits;
        const uint64_t offset = pos & (inode->fs->block_size - 1);
        struct ext4_map map;
        int ret;

        *ret_addr = IOMAP_NULL_ADDR;
        if (pos >> bits > EXT4_MAX_LBLK)
                return 0; /* there is nothing (B8) */
        ret = ext4_map_lookup(inode, (ext4_lblk_t)(pos >> bits), 0, &map);
        if (ret < 0)
                return ret;
        *len = min_t(uint64_t, *len, (map.len << bits) - offset);
        if (map.type == EXT4_MAP_WRITTEN)
                *ret_addr = (map.pblk << bits) + offset;
        return 0;
}

int ext4_zero_range(struct ext4_inode *inode, uint64_t pos, uint64_t len)
{
        const uint64_t end = pos + len;

        if (ext4_journals_data(inode))
                return ext4_data_journal_zero(inode, pos, len);
        while (pos < end) {
                uint64_t n = end - pos;
                uint64_t addr;
                int ret = locate(inode, pos, &n, &addr);

                if (ret == 0 && addr != IOMAP_NULL_ADDR)
                        ret = zero_bytes(inode->vfs.sb, addr, n);
                if (ret < 0)
                        return ret;
                pos += n;
        }
        vfs_written(&inode->vfs);
        return 0;
}

/* ---- the tail of a block ---- */

/* Bytes from pos to the end of its block; 0 when it is a block's start. */
static uint32_t tail_of(const struct ext4_inode *inode, uint64_t pos)
{
        return (uint32_t)(round_up_pow2(pos, inode->fs->block_size) - pos);
}

static bool is_zero(const char *mem, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                if (mem[i] != 0)
                        return false;
        }
        return true;
}

int ext4_tail_is_dirty(struct ext4_inode *inode, uint64_t pos)
{
        _cleanup_mem_ char *mem = NULL;
        uint64_t len = tail_of(inode, pos);
        uint64_t addr;
        int ret;

        if (len == 0)
                return 0;
        ret = locate(inode, pos, &len, &addr);
        if (ret < 0 || addr == IOMAP_NULL_ADDR)
                return ret;
        if (inode->vfs.sb->map && !ext4_journals_data(inode)) {
                const char *at = iomap_dax_addr(inode->vfs.sb, addr, len);

                return at ? !is_zero(at, len) : -ENXIO;
        }
        mem = mem_alloc(len);
        if (!mem)
                return -ENOMEM;
        if (ext4_journals_data(inode))
                ret = ext4_data_journal_peek(inode, addr, mem, (uint32_t)len);
        else
                ret = uext4_bdev_read_bytes(inode->vfs.sb->dev, mem, len, addr);
        if (ret < 0)
                return ret;
        return !is_zero(mem, len);
}

int ext4_zero_tail(struct ext4_inode *inode, uint64_t size)
{
        int ret = ext4_tail_is_dirty(inode, size);

        /* Mostly it is zeros, and nothing is written. */
        return ret > 0 ? ext4_zero_range(inode, size, tail_of(inode, size)) : ret;
}
