/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/data_journal.h"

#include <string.h>

#include "util/alloc.h"

/* Reading out of the buffer cache, or, what is not there, from the device. */

int ext4_data_journal_peek(struct ext4_inode *inode, uint64_t addr, void *data, uint32_t len)
{
        const struct ext4_fs *fs = inode->fs;
        struct buf *buf;
        int ret = buf_read(fs->bufs, addr >> fs->block_bits, NULL, 0, &buf);

        if (ret < 0)
                return ret;
        memcpy(data, (const char *)buf->data + (addr & (fs->block_size - 1)), len);
        buf_put(buf);
        return 0;
}

/* Memory for blocks that are not cached: they are read in runs, and not kept. */
struct bounce {
        char *mem;
        uint32_t nr; /* blocks that have room */
};

#define BOUNCE_BYTES (256u << 10)

static int bounce_make(struct bounce *b, const struct ext4_fs *fs)
{
        const uint32_t align = uext4_bdev_geometry(fs->vfs.dev)->mem_align;

        if (b->mem)
                return 0;
        b->nr = max_t(uint32_t, BOUNCE_BYTES >> fs->block_bits, 1);
        b->mem = mem_alloc_aligned(max_t(uint32_t, align, 64), (size_t)b->nr << fs->block_bits);
        return b->mem ? 0 : -ENOMEM;
}

/* How many blocks from pblk on, `max` at most, are not cached; or the first one, if it is. */
static uint32_t uncached_run(struct ext4_fs *fs, ext4_fsblk_t pblk, uint64_t max,
                             struct buf **ret_buf)
{
        uint32_t n = 0;

        *ret_buf = NULL;
        while (n < max) {
                struct buf *buf;

                if (buf_find(fs->bufs, pblk + n, &buf)) {
                        if (n == 0)
                                *ret_buf = buf;
                        else
                                buf_put(buf);
                        break;
                }
                n++;
        }
        return n;
}

/* Bytes of one block, as read_blocks(), from the cache or into it.  flags: BUF_*. */
static int read_cached(struct ext4_fs *fs, struct iov_iter *iter, ext4_fsblk_t pblk,
                       uint32_t offset, uint64_t *len, unsigned flags)
{
        struct buf *buf;
        int ret = buf_read(fs->bufs, pblk, NULL, flags, &buf);

        if (ret < 0)
                return ret;
        *len = min_t(uint64_t, *len, fs->block_size - offset);
        iov_iter_copy_to(iter, (const char *)buf->data + offset, *len);
        buf_put(buf);
        return 0;
}

/* Bytes of written blocks from `offset` in block pblk on: *len, which is cut to what was read.
 */
static int read_blocks(struct ext4_fs *fs, struct bounce *b, struct iov_iter *iter,
                       ext4_fsblk_t pblk, uint32_t offset, uint64_t *len)
{
        const uint64_t nr = div_round_up(offset + *len, fs->block_size);
        struct buf *buf;
        uint32_t run;
        int ret = bounce_make(b, fs);

        if (ret < 0)
                return ret;
        run = uncached_run(fs, pblk, min_t(uint64_t, nr, b->nr), &buf);
        if (buf) { /* perhaps it has not been read so far */
                ret = read_cached(fs, iter, pblk, offset, len, 0);
                buf_put(buf);
                return ret;
        }
        *len = min_t(uint64_t, *len, ((uint64_t)run << fs->block_bits) - offset);
        ret = uext4_bdev_read(fs->vfs.dev, b->mem, (size_t)run << fs->block_bits,
                              pblk << fs->block_bits);
        if (ret == 0)
                iov_iter_copy_to(iter, b->mem + offset, *len);
        return ret;
}

/* What one mapping has of [pos, end); *ret_len bytes were read. */
static int read_mapping(struct ext4_inode *inode, struct bounce *b, struct iov_iter *iter,
                        const struct vfs_kiocb *iocb, uint64_t pos, uint64_t *len)
{
        struct ext4_fs *fs = inode->fs;
        const uint32_t offset = (uint32_t)(pos & (fs->block_size - 1));
        struct ext4_map map = {.type = EXT4_MAP_HOLE};
        int ret = 0;

        if (pos >> fs->block_bits <= EXT4_MAX_LBLK) {
                ret = ext4_map_lookup(inode, (ext4_lblk_t)(pos >> fs->block_bits),
                                      iocb->flags & VFS_NOWAIT ? EXT4_MAP_NOWAIT : 0, &map);
                *len = min_t(uint64_t, *len, (map.len << fs->block_bits) - offset);
        }
        if (ret < 0)
                return ret;
        if (map.type == EXT4_MAP_WRITTEN && (iocb->flags & VFS_NOWAIT))
                return read_cached(fs, iter, map.pblk, offset, len, BUF_NOWAIT);
        if (map.type == EXT4_MAP_WRITTEN)
                return read_blocks(fs, b, iter, map.pblk, offset, len);
        iov_iter_zero(iter, *len);
        return 0;
}

int64_t ext4_data_journal_read(struct vfs_kiocb *iocb, struct iov_iter *iter)
{
        struct ext4_inode *inode = ext4_inode_of(iocb->inode);
        const uint64_t size = vfs_size(&inode->vfs); /* B29 */
        struct bounce bounce = {.mem = NULL};
        uint64_t pos = iocb->pos;
        int ret = 0;

        if (inode->flags & EXT4_FL_INLINE_DATA)
                return iomap_uncached_read(iocb, iter, &ext4_read_ops);
        if (pos >= size)
                return 0;
        iov_iter_truncate(iter, size - pos);
        while (iter->count > 0 && ret == 0) {
                uint64_t len = iter->count;

                ret = read_mapping(inode, &bounce, iter, iocb, pos, &len);
                if (ret == 0)
                        pos += len;
        }
        mem_free(bounce.mem);
        return pos > iocb->pos ? (int64_t)(pos - iocb->pos) : ret;
}
