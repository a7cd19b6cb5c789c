/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Raw inodes from struct ext4_inode: the reverse of inode.c.
 *
 * What is on disk already is the base, so that everything the struct does not know stays:
 * i_dtime, the count in a value of an attribute, the place of fields that the inode's size or
 * features do not give it.  An inode that is loaded and stored is the same bytes.
 *
 * One raw inode may be changed by two threads at a time: its own, and one that changes the
 * orphan list and with it i_dtime.  Both change the checksum: hence ext4_inode_raw_lock().
 */

#include <string.h>

#include "ext4/inode_raw.h"
#include "ext4/inode_store.h"
#include "ext4/super_write.h"

#define MAX_BLOCKS_LO 0xffffffffull
#define MAX_BLOCKS_HI 0xffffffffffffull /* in both parts */

/* ---- fields ---- */

uint64_t ext4_inode_max_blocks(const struct ext4_fs *fs)
{
        if (!ext4_has_ro_compat(fs, EXT4_RO_COMPAT_HUGE_FILE))
                return MAX_BLOCKS_LO;
        return MAX_BLOCKS_HI << (fs->block_bits - 9);
}

/* Two units, and a flag that says which (huge_file). */
static void put_flags_and_blocks(const struct ext4_inode *inode, struct ext4_inode_disk *di)
{
        const struct ext4_fs *fs = inode->fs;
        uint32_t flags = inode->flags;
        uint64_t n = inode->blocks;

        if (ext4_has_ro_compat(fs, EXT4_RO_COMPAT_HUGE_FILE)) {
                flags &= ~EXT4_FL_HUGE_FILE;
                if (n > MAX_BLOCKS_HI) {
                        flags |= EXT4_FL_HUGE_FILE;
                        n >>= fs->block_bits - 9;
                }
                di->i_blocks_hi = le16_make((uint16_t)(n >> 32));
        }
        di->i_blocks_lo = le32_make((uint32_t)n);
        di->i_flags = le32_make(flags);
}

static void put_size(const struct ext4_inode *inode, struct ext4_inode_disk *di)
{
        di->i_size_lo = le32_make((uint32_t)inode->disk_size);
        if (ext4_has_size_hi(inode->fs, inode->mode))
                di->i_size_hi = le32_make((uint32_t)(inode->disk_size >> 32));
}

static void put_owner(const struct ext4_inode *inode, struct ext4_inode_disk *di)
{
        di->i_uid_lo = le16_make((uint16_t)inode->uid);
        di->i_uid_hi = le16_make((uint16_t)(inode->uid >> 16));
        di->i_gid_lo = le16_make((uint16_t)inode->gid);
        di->i_gid_hi = le16_make((uint16_t)(inode->gid >> 16));
        if (ext4_has_projid(inode->fs, di))
                di->i_projid = le32_make(inode->projid);
}

static void put_file_acl(const struct ext4_inode *inode, struct ext4_inode_disk *di)
{
        di->i_file_acl_lo = le32_make((uint32_t)inode->file_acl);
        if (ext4_has_file_acl_hi(inode->fs))
                di->i_file_acl_hi = le16_make((uint16_t)(inode->file_acl >> 32));
}

struct timespec ext4_time_fit(struct timespec t, bool has_extra)
{
        int64_t max = has_extra ? INT32_MAX + (3ll << 32) : INT32_MAX;

        if (t.tv_sec < INT32_MIN)
                return (struct timespec){.tv_sec = INT32_MIN};
        if (t.tv_sec > max)
                return (struct timespec){.tv_sec = max};
        return (struct timespec){t.tv_sec, has_extra ? t.tv_nsec : 0};
}

/* Seconds are signed 32 bits, and with the extra field 34, of which the upper two count on from
 * there.  `extra` is NULL where there is none. */
static void put_time(struct timespec t, le32 *seconds, le32 *extra)
{
        uint32_t epoch;
        int64_t sec;

        t = ext4_time_fit(t, extra);
        sec = t.tv_sec;
        epoch = (uint32_t)((uint64_t)(sec - (int32_t)(uint32_t)sec) >> 32);
        *seconds = le32_make((uint32_t)sec);
        if (extra)
                *extra = le32_make((uint32_t)t.tv_nsec << 2 | (epoch & 3));
}

static void put_times(const struct ext4_inode *inode, struct ext4_inode_disk *di)
{
        const struct ext4_fs *fs = inode->fs;

        put_time(ext4_ctime(inode), &di->i_ctime,
                 EXT4_RAW_HAS(fs, di, i_ctime_extra) ? &di->i_ctime_extra : NULL);
        put_time(ext4_mtime(inode), &di->i_mtime,
                 EXT4_RAW_HAS(fs, di, i_mtime_extra) ? &di->i_mtime_extra : NULL);
        put_time(ext4_atime(inode), &di->i_atime,
                 EXT4_RAW_HAS(fs, di, i_atime_extra) ? &di->i_atime_extra : NULL);
        if (EXT4_RAW_HAS(fs, di, i_crtime))
                put_time(inode->btime, &di->i_crtime,
                         EXT4_RAW_HAS(fs, di, i_crtime_extra) ? &di->i_crtime_extra : NULL);
}

/* ---- the version ---- */

void ext4_count_version(struct ext4_inode *inode)
{
        uint64_t old = atomic_load_explicit(&inode->version, memory_order_relaxed);

        while (!atomic_compare_exchange_weak(&inode->version, &old, (old | 1) + 1))
                ;
}

void ext4_set_ctime(struct ext4_inode *inode, struct timespec ctime)
{
        inode->ctime = ctime;
        ext4_count_version(inode);
}

uint64_t ext4_get_version(struct ext4_inode *inode)
{
        if (!ext4_is_version_seen(inode))
                atomic_fetch_or(&inode->version, 1);
        return atomic_load(&inode->version) >> 1;
}

static void put_version(const struct ext4_inode *inode, struct ext4_inode_disk *di)
{
        uint64_t version = atomic_load(&inode->version) >> 1;

        if (!ext4_has_version(inode->fs, inode->flags))
                return;
        di->i_version_lo = le32_make((uint32_t)version);
        if (EXT4_RAW_HAS(inode->fs, di, i_version_hi))
                di->i_version_hi = le32_make((uint32_t)(version >> 32));
}

/* ---- the whole ---- */

void ext4_inode_encode(const struct ext4_inode *inode, struct ext4_inode_disk *raw)
{
        const struct ext4_fs *fs = inode->fs;

        raw->i_mode = le16_make(inode->mode);
        raw->i_links_count = le16_make((uint16_t)inode->nlink);
        raw->i_generation = le32_make(inode->generation);
        put_owner(inode, raw);
        put_size(inode, raw);
        put_flags_and_blocks(inode, raw);
        put_file_acl(inode, raw);
        put_times(inode, raw);
        put_version(inode, raw);
        memcpy(raw->i_block, inode->block, sizeof(raw->i_block));
        if (inode->ibody)
                memcpy((char *)raw + fs->inode_size - inode->ibody_size, inode->ibody,
                       inode->ibody_size);
        ext4_inode_seal(fs, ext4_ino(inode), raw);
}

/* ---- under a handle ---- */

static int begin_at(struct jbd2_handle *h, struct ext4_fs *fs, const struct ext4_raw_place *at,
                    struct ext4_iloc *ret_loc)
{
        struct buf *buf;
        void *bytes;
        int ret = buf_read(fs->bufs, at->blk, NULL, 0, &buf);

        if (ret < 0)
                return ret;
        ret = jbd2_get_write(h, buf, &bytes);
        if (ret < 0) {
                buf_put(buf);
                return ret;
        }
        *ret_loc = (struct ext4_iloc){.buf = buf, .raw = (void *)((char *)bytes + at->offset)};
        return 0;
}

int ext4_iloc_begin(struct jbd2_handle *h, struct ext4_fs *fs, uint32_t ino,
                    struct ext4_iloc *ret_loc)
{
        struct ext4_raw_place at;
        int ret = ext4_raw_find(fs, ino, &at);

        return ret < 0 ? ret : begin_at(h, fs, &at, ret_loc);
}

int ext4_inode_begin(struct jbd2_handle *h, struct ext4_inode *inode, struct ext4_iloc *ret_loc)
{
        struct ext4_fs *fs = inode->fs;
        const struct ext4_raw_place at = {
                .blk = inode->disk_pos >> fs->block_bits,
                .offset = (uint32_t)(inode->disk_pos & (fs->block_size - 1)),
        };

        return begin_at(h, fs, &at, ret_loc);
}

void ext4_iloc_put(struct ext4_iloc *loc)
{
        buf_put(loc->buf);
        loc->buf = NULL;
}

/* Whether the stored inode differs from the struct in what fdatasync must make durable: what it
 * takes to find the data again. */
static bool changes_data(const struct ext4_inode *inode, const struct ext4_inode_disk *di)
{
        return ext4_raw_size(inode->fs, di) != inode->disk_size ||
               ext4_raw_blocks(inode->fs, di) != inode->blocks ||
               memcmp(di->i_block, inode->block, sizeof(di->i_block)) != 0 ||
               ((inode->flags & EXT4_FL_INLINE_DATA) && inode->ibody &&
                memcmp((const char *)di + inode->fs->inode_size - inode->ibody_size,
                       inode->ibody, inode->ibody_size) != 0);
}

void ext4_inode_map_changed(struct jbd2_handle *h, struct ext4_inode *inode)
{
        atomic_store(&inode->sync_tid, jbd2_tid(h));
        atomic_store(&inode->datasync_tid, jbd2_tid(h));
}

void ext4_inode_store(struct jbd2_handle *h, struct ext4_inode *inode, struct ext4_iloc *loc)
{
        struct ext4_fs *fs = inode->fs;
        struct mtx *raw_lock = ext4_inode_raw_lock(fs->inodes, inode->vfs.ino);

        /* Whoever adds blocks looks at ext4_inode_max_blocks() first. */
        if (inode->blocks > ext4_inode_max_blocks(fs))
                ext4_abort(fs, -EFBIG);
        atomic_store(&inode->sync_tid, jbd2_tid(h));
        atomic_store(&inode->times_due, false); /* before written_at, accessed_at are read */
        mtx_lock(raw_lock);
        if (changes_data(inode, loc->raw))
                atomic_store(&inode->datasync_tid, jbd2_tid(h));
        ext4_inode_encode(inode, loc->raw);
        mtx_unlock(raw_lock);
        jbd2_dirty(h, loc->buf);
        ext4_iloc_put(loc);
}

int ext4_inode_dirty(struct jbd2_handle *h, struct ext4_inode *inode)
{
        struct ext4_iloc loc;
        int ret = ext4_inode_begin(h, inode, &loc);

        if (ret == 0)
                ext4_inode_store(h, inode, &loc);
        return ret;
}

void ext4_iloc_store_dtime(struct jbd2_handle *h, struct ext4_fs *fs, uint32_t ino,
                           struct ext4_iloc *loc, uint32_t dtime)
{
        struct mtx *raw_lock = ext4_inode_raw_lock(fs->inodes, ino);

        mtx_lock(raw_lock);
        loc->raw->i_dtime = le32_make(dtime);
        ext4_inode_seal(fs, ino, loc->raw);
        mtx_unlock(raw_lock);
        jbd2_dirty(h, loc->buf);
        ext4_iloc_put(loc);
}
