/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/xattr_value.h"

#include <string.h>
#include <sys/stat.h>

#include "ext4/ialloc.h"
#include "ext4/inode_raw.h"
#include "ext4/map_change.h"
#include "ext4/orphan.h"
#include "ext4/super_write.h"
#include "ext4/truncate.h"
#include "util/alloc.h"
#include "util/crc.h"

bool ext4_value_possible(const struct ext4_fs *fs)
{
        return ext4_has_incompat(fs, EXT4_INCOMPAT_EA_INODE) &&
               ext4_has_incompat(fs, EXT4_INCOMPAT_EXTENTS);
}

/* ---- references ---- */

static uint64_t count_of(const struct ext4_inode *value, const struct ext4_inode_disk *raw)
{
        return (uint64_t)(uint32_t)value->ctime.tv_sec << 32 | le32_get(raw->i_version_lo);
}

static void set_count(struct ext4_inode *value, struct ext4_inode_disk *raw, uint64_t count)
{
        value->ctime = (struct timespec){.tv_sec = (int32_t)(uint32_t)(count >> 32)};
        raw->i_version_lo = le32_make((uint32_t)count);
}

static int drop_locked(struct jbd2_handle *h, struct ext4_inode *value)
{
        struct ext4_iloc iloc;
        uint64_t count;
        int ret = ext4_inode_begin(h, value, &iloc);

        if (ret < 0)
                return ret;
        count = count_of(value, iloc.raw);
        if (count <= 1) {
                ret = ext4_orphan_add(h, value);
                if (ret < 0) {
                        ext4_iloc_put(&iloc);
                        return ret;
                }
                value->nlink = 0;
        }
        set_count(value, iloc.raw, count > 0 ? count - 1 : 0);
        ext4_inode_store(h, value, &iloc);
        return 0;
}

int ext4_value_drop(struct jbd2_handle *h, struct ext4_inode *value)
{
        int ret;

        rwsem_write_lock(&value->map_lock);
        ret = drop_locked(h, value);
        rwsem_write_unlock(&value->map_lock);
        return ret;
}

void ext4_value_share(struct jbd2_handle *h, struct ext4_inode *value, struct ext4_iloc *loc)
{
        rwsem_write_lock(&value->map_lock);
        set_count(value, loc->raw, count_of(value, loc->raw) + 1);
        ext4_inode_store(h, value, loc);
        rwsem_write_unlock(&value->map_lock);
}

int ext4_value_unshare(struct jbd2_handle *h, struct ext4_inode *value)
{
        struct ext4_iloc iloc;
        uint64_t count;
        int ret = ext4_inode_begin(h, value, &iloc);

        if (ret < 0)
                return ret;
        rwsem_write_lock(&value->map_lock);
        count = count_of(value, iloc.raw);
        set_count(value, iloc.raw, count > 0 ? count - 1 : 0);
        ext4_inode_store(h, value, &iloc);
        rwsem_write_unlock(&value->map_lock);
        return 0;
}

static int name_locked(struct jbd2_handle *h, struct ext4_inode *value)
{
        struct ext4_iloc iloc;
        int ret = ext4_inode_begin(h, value, &iloc);

        if (ret < 0)
                return ret;
        value->nlink = 1; /* one without links stays an orphan (B42) */
        ret = ext4_orphan_del(h, value);
        if (ret < 0) {
                value->nlink = 0;
                ext4_iloc_put(&iloc);
                return ret;
        }
        set_count(value, iloc.raw, 1);
        ext4_inode_store(h, value, &iloc);
        return 0;
}

int ext4_value_name(struct jbd2_handle *h, struct ext4_inode *value)
{
        int ret;

        rwsem_write_lock(&value->map_lock);
        ret = name_locked(h, value);
        rwsem_write_unlock(&value->map_lock);
        return ret;
}

/* ---- a new one ---- */

uint32_t ext4_value_hash(const struct ext4_inode *value)
{
        return (uint32_t)value->atime.tv_sec;
}

int ext4_value_find_lustre(const struct ext4_inode *owner, uint32_t ino, bool *ret_is_lustre)
{
        const struct ext4_inode_disk *raw;
        struct ext4_raw_place at;
        struct buf *buf;
        int ret = ext4_raw_find(owner->fs, ino, &at);

        if (ret == 0)
                ret = buf_read(owner->fs->bufs, at.blk, NULL, 0, &buf);
        if (ret < 0)
                return ret;
        raw = (const void *)((const char *)buf_bytes(buf) + at.offset);
        *ret_is_lustre = le32_get(raw->i_mtime) == ext4_ino(owner) &&
                         le32_get(raw->i_generation) == owner->generation;
        buf_put(buf);
        return 0;
}

static int make_orphan(struct jbd2_handle *h, struct ext4_inode *value, uint32_t hash)
{
        struct ext4_iloc iloc;
        int ret;

        value->nlink = 0;
        value->flags = (value->flags & EXT4_FL_EXTENTS) | EXT4_FL_EA_INODE;
        value->atime = (struct timespec){.tv_sec = (int32_t)hash};
        ret = ext4_orphan_add(h, value);
        if (ret == 0)
                ret = ext4_inode_begin(h, value, &iloc);
        if (ret < 0) {
                ext4_abort(value->fs, ret); /* it is allocated, and no orphan */
                return ret;
        }
        set_count(value, iloc.raw, 0);
        ext4_inode_store(h, value, &iloc);
        return 0;
}

static int alloc_value(struct ext4_inode *owner, uint32_t hash, struct ext4_inode **ret_value)
{
        const struct ext4_new_inode want = {
                .mode = S_IFREG | 0600,
                .uid = owner->uid,
                .gid = owner->gid,
                .now = ext4_now(owner->fs),
                .goal = ext4_ino(owner),
                .is_part = true,
        };
        struct jbd2_handle *h;
        int ret = jbd2_start(owner->fs->journal, EXT4_IALLOC_CREDITS + EXT4_ORPHAN_CREDITS, 0,
                             &h);

        if (ret < 0)
                return ret;
        ret = ext4_ialloc(h, owner, &want, ret_value);
        if (ret == 0)
                ret = make_orphan(h, *ret_value, hash);
        return first_error(ret, jbd2_stop(h));
}

/* The value as whole blocks, as the device wants memory. */
static void *padded_copy(const struct ext4_fs *fs, const void *data, uint32_t size,
                         uint32_t *ret_len)
{
        const struct uext4_bdev_geometry *geo = uext4_bdev_geometry(fs->vfs.dev);
        uint32_t len = (uint32_t)round_up_pow2((size_t)size, fs->block_size);
        char *mem = mem_alloc_aligned(max_t(uint32_t, geo->mem_align, 64), len);

        if (!mem)
                return NULL;
        memcpy(mem, data, size);
        memset(mem + size, 0, len - size);
        *ret_len = len;
        return mem;
}

/* Durable with the flush of the commit that has the entry. */
static int fill_piece(struct ext4_inode *value, const char *data, uint32_t lblk, uint32_t nr,
                      uint32_t *ret_nr)
{
        struct ext4_fs *fs = value->fs;
        const struct ext4_map_request req = {
                .lblk = lblk,
                .len = nr,
                .type = EXT4_MAP_WRITTEN,
                .alloc_flags = ext4_alloc_rights(fs),
        };
        struct jbd2_handle *h;
        struct ext4_map map;
        int ret = jbd2_start(fs->journal, ext4_map_alloc_credits(value), 0, &h);

        if (ret < 0)
                return ret;
        ret = ext4_map_alloc(h, value, &req, &map);
        if (ret == 0) {
                *ret_nr = (uint32_t)map.len;
                ret = uext4_bdev_write(fs->vfs.dev, data, (uint64_t)map.len << fs->block_bits,
                                       map.pblk << fs->block_bits, 0);
        }
        return first_error(ret, jbd2_stop(h));
}

static int fill(struct ext4_inode *value, const void *data, uint32_t size)
{
        const struct ext4_fs *fs = value->fs;
        uint32_t len, done = 0;
        char *mem = padded_copy(fs, data, size, &len);
        int ret = mem ? 0 : -ENOMEM;

        while (ret == 0 && done < len) {
                uint32_t nr = 0;

                ret = fill_piece(value, mem + done, done >> fs->block_bits,
                                 (len - done) >> fs->block_bits, &nr);
                done += nr << fs->block_bits;
        }
        mem_free(mem);
        if (ret < 0)
                return ret;
        ext4_set_size(value, size); /* stored when it gets its entry */
        return 0;
}

int ext4_value_new(struct ext4_inode *owner, const void *data, uint32_t size,
                   struct ext4_inode **ret_value)
{
        int ret = alloc_value(owner, crc32c(owner->fs->csum_seed, data, size), ret_value);

        if (ret < 0)
                return ret;
        rwsem_write_lock_nested(&(*ret_value)->vfs.lock, RANK_INODE_CHILD);
        ret = fill(*ret_value, data, size);
        rwsem_write_unlock(&(*ret_value)->vfs.lock);
        return ret;
}
