/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Inodes as they come from disk: checked, then turned into the fields of struct ext4_inode. */

#include <string.h>

#include "ext4/balloc.h"
#include "ext4/delayed.h"
#include "ext4/dir_read.h"
#include "ext4/inode_raw.h"
#include "ext4/inode_store.h"
#include "ext4/xattr.h"
#include "util/alloc.h"

/* ---- where it lies ---- */

int ext4_raw_find(struct ext4_fs *fs, uint32_t ino, struct ext4_raw_place *ret_at)
{
        struct ext4_group group;
        uint64_t pos;
        int ret;

        ret = ext4_group_get(fs, (ino - 1) / fs->inodes_per_group, 0, &group);
        if (ret < 0)
                return ret;
        pos = (group.inode_table << fs->block_bits) +
              (uint64_t)((ino - 1) % fs->inodes_per_group) * fs->inode_size;
        *ret_at = (struct ext4_raw_place){
                .blk = pos >> fs->block_bits,
                .offset = (uint32_t)(pos & (fs->block_size - 1)),
        };
        return 0;
}

/* The block that holds the inode, with a reference, and the raw bytes in it. */
static int read_raw(struct ext4_inode *inode, struct buf **ret_buf, const void **ret_raw)
{
        struct ext4_fs *fs = inode->fs;
        struct ext4_raw_place at;
        int ret = ext4_raw_find(fs, ext4_ino(inode), &at);

        if (ret < 0)
                return ret;
        inode->disk_pos = (at.blk << fs->block_bits) + at.offset;
        ret = buf_read(fs->bufs, at.blk, NULL, 0, ret_buf);
        if (ret < 0)
                return ret;
        *ret_raw = (const char *)(*ret_buf)->data + at.offset;
        return 0;
}

/* ---- fields that need more than one place ---- */

static ext4_fsblk_t file_acl_of(const struct ext4_fs *fs, const struct ext4_inode_disk *di)
{
        if (!ext4_has_file_acl_hi(fs))
                return le32_get(di->i_file_acl_lo);
        return le48_join(di->i_file_acl_lo, di->i_file_acl_hi);
}

/* The seconds are signed; two bits of the extra field carry them on to the year 2446. */
static struct timespec time_of(le32 seconds, le32 extra)
{
        uint32_t x = le32_get(extra);

        return (struct timespec){
                .tv_sec = (int32_t)le32_get(seconds) + ((int64_t)(x & 3) << 32),
                .tv_nsec = min_t(uint32_t, x >> 2, 999999999),
        };
}

/* Two encodings of a device number, the old one in the first word. */
static void set_rdev(struct ext4_inode *inode, const struct ext4_inode_disk *di)
{
        le32 words[2];
        uint32_t v;

        memcpy(words, di->i_block, sizeof(words));
        v = le32_get(words[0]);
        if (v) {
                inode->rdev_major = v >> 8 & 0xff;
                inode->rdev_minor = v & 0xff;
                return;
        }
        v = le32_get(words[1]);
        inode->rdev_major = v >> 8 & 0xfff;
        inode->rdev_minor = (v & 0xff) | (v >> 12 & 0xfff00);
}

/* ---- the verifier ---- */

static bool is_known_type(uint32_t mode)
{
        return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISCHR(mode) ||
               S_ISBLK(mode) || S_ISFIFO(mode) || S_ISSOCK(mode);
}

/* Whether i_block holds the root of an extent tree. */
static bool has_extent_root(const struct ext4_inode_disk *di)
{
        uint32_t mode = le16_get(di->i_mode);
        uint32_t flags = le32_get(di->i_flags);

        return (S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode)) && (flags & EXT4_FL_EXTENTS) &&
               !(flags & EXT4_FL_INLINE_DATA);
}

/* With the lock: an orphan's link to the next one is changed, and the checksum with it, by who
 * takes that one off the list. */
static bool has_good_csum(struct ext4_fs *fs, uint32_t ino, const void *raw)
{
        struct mtx *raw_lock = ext4_inode_raw_lock(fs->inodes, ino);
        bool is_good;

        mtx_lock(raw_lock);
        is_good = ext4_inode_csum_ok(fs, ino, raw);
        mtx_unlock(raw_lock);
        return is_good;
}

/* What holds for one without links, too. */
static int check_fields(struct ext4_fs *fs, uint32_t ino, const void *raw)
{
        const struct ext4_where at = {fs, ino, 0};
        const struct ext4_inode_disk *di = raw;
        uint32_t mode = le16_get(di->i_mode);
        uint32_t flags = le32_get(di->i_flags);
        uint32_t extra = ext4_raw_extra(fs, di);
        ext4_fsblk_t acl = file_acl_of(fs, di);

        if (ext4_verify_csums(fs) && !has_good_csum(fs, ino, raw))
                return ext4_bad_csum(&at, "inode");
        if (!is_known_type(mode))
                return ext4_corrupt(&at, "the file type %o is unknown", mode & S_IFMT);
        if (extra > fs->inode_size - EXT4_GOOD_OLD_INODE_SIZE || extra % 4 != 0)
                return ext4_corrupt(&at, "the extra size %u is impossible", extra);
        if (ext4_raw_size(fs, di) > INT64_MAX)
                return ext4_corrupt(&at, "the size is negative");
        if (acl != 0 && !ext4_blocks_valid(fs, acl, 1))
                return ext4_corrupt(&at, "the attribute block %llu is outside",
                                    (unsigned long long)acl);
        if ((flags & EXT4_FL_INLINE_DATA) && !ext4_has_incompat(fs, EXT4_INCOMPAT_INLINE_DATA))
                return ext4_corrupt(&at, "inline data without the feature");
        if ((flags & EXT4_FL_INLINE_DATA) && extra == 0)
                return ext4_corrupt(&at, "inline data without attribute space");
        if (has_extent_root(di))
                return ext4_extent_node_check(&at, di->i_block, sizeof(di->i_block), -1, 0);
        return 0;
}

int ext4_inode_check(struct ext4_fs *fs, uint32_t ino, const void *raw)
{
        const struct ext4_inode_disk *di = raw;

        if (le16_get(di->i_links_count) == 0)
                return -ESTALE; /* free, or an orphan that waits for its last close */
        return check_fields(fs, ino, raw);
}

/* Its links do not matter; one that never was a file has no mode. */
static int check_orphan(struct ext4_fs *fs, uint32_t ino, const void *raw)
{
        const struct ext4_inode_disk *di = raw;

        return le16_get(di->i_mode) == 0 ? -ESTALE : check_fields(fs, ino, raw);
}

/* ---- loading ---- */

static int load_ibody(struct ext4_inode *inode, const void *raw)
{
        const struct ext4_where at = ext4_at(inode, 0);
        const struct ext4_fs *fs = inode->fs;
        uint32_t extra = ext4_raw_extra(fs, raw);
        uint32_t start = EXT4_GOOD_OLD_INODE_SIZE + extra;

        if (extra == 0 || start == fs->inode_size)
                return 0; /* there is none */
        inode->ibody_size = fs->inode_size - start;
        inode->ibody = mem_alloc(inode->ibody_size);
        if (!inode->ibody)
                return -ENOMEM;
        memcpy(inode->ibody, (const char *)raw + start, inode->ibody_size);
        return ext4_xattr_ibody_check(&at, inode->ibody, inode->ibody_size);
}

/* What holds the value of an attribute names no values: each would be deleted in the midst of
 * the one before, however many there are. */
static int check_value(const struct ext4_inode *inode)
{
        const struct ext4_where at = ext4_at(inode, 0);

        if (inode->file_acl == 0 && !ext4_xattr_ibody_outside(inode->ibody, inode->ibody_size))
                return 0;
        return ext4_corrupt(&at, "the value of an attribute has attributes itself");
}

static void load_times(struct ext4_inode *inode, const struct ext4_inode_disk *di)
{
        const struct ext4_fs *fs = inode->fs;
        const le32 none = le32_make(0);

        inode->ctime = time_of(di->i_ctime,
                               EXT4_RAW_HAS(fs, di, i_ctime_extra) ? di->i_ctime_extra : none);
        inode->mtime = time_of(di->i_mtime,
                               EXT4_RAW_HAS(fs, di, i_mtime_extra) ? di->i_mtime_extra : none);
        inode->atime = time_of(di->i_atime,
                               EXT4_RAW_HAS(fs, di, i_atime_extra) ? di->i_atime_extra : none);
        if (EXT4_RAW_HAS(fs, di, i_crtime))
                inode->btime = time_of(di->i_crtime, EXT4_RAW_HAS(fs, di, i_crtime_extra)
                                                             ? di->i_crtime_extra
                                                             : none);
}

/* It counts as asked for: nobody knows who did before. */
static void load_version(struct ext4_inode *inode, const struct ext4_inode_disk *di)
{
        const struct ext4_fs *fs = inode->fs;
        uint64_t version = le32_get(di->i_version_lo);

        if (EXT4_RAW_HAS(fs, di, i_version_hi))
                version |= (uint64_t)le32_get(di->i_version_hi) << 32;
        inode->version = ext4_has_version(fs, inode->flags) ? version << 1 | 1 : 0;
}

static void load_fields(struct ext4_inode *inode, const struct ext4_inode_disk *di)
{
        const struct ext4_fs *fs = inode->fs;

        inode->mode = le16_get(di->i_mode);
        inode->flags = le32_get(di->i_flags);
        inode->is_dax = inode->flags & EXT4_FL_DAX;
        inode->generation = le32_get(di->i_generation);
        inode->nlink = le16_get(di->i_links_count);
        inode->uid = le32_join(di->i_uid_lo, di->i_uid_hi);
        inode->gid = le32_join(di->i_gid_lo, di->i_gid_hi);
        inode->projid = 0;
        if (ext4_has_projid(fs, di))
                inode->projid = le32_get(di->i_projid);
        inode->blocks = ext4_raw_blocks(fs, di);
        inode->file_acl = file_acl_of(fs, di);
        inode->csum_seed = ext4_inode_csum_seed(fs, ext4_ino(inode), di->i_generation);
        memcpy(inode->block, di->i_block, sizeof(inode->block));
        ext4_extent_note_depth(inode);
        if (S_ISCHR(inode->mode) || S_ISBLK(inode->mode))
                set_rdev(inode, di);
        load_times(inode, di);
        load_version(inode, di);
        inode->disk_size = ext4_raw_size(fs, di);
        inode->tail_known = false;
        atomic_store_explicit(&inode->vfs.size, inode->disk_size, memory_order_release);
}

static int load(struct ext4_inode *inode,
                int (*check)(struct ext4_fs *fs, uint32_t ino, const void *raw))
{
        struct ext4_fs *fs = inode->fs;
        const void *raw;
        struct buf *buf;
        int ret;

        if (inode->vfs.ino == 0 || inode->vfs.ino > fs->nr_inodes)
                return -ESTALE;
        ret = read_raw(inode, &buf, &raw);
        if (ret < 0)
                return ret;
        ret = check(fs, ext4_ino(inode), raw);
        if (ret == 0) {
                load_fields(inode, raw);
                ret = load_ibody(inode, raw);
        }
        buf_put(buf);
        if (ret == 0 && (inode->flags & EXT4_FL_EA_INODE))
                ret = check_value(inode);
        if (ret == 0 && (inode->flags & EXT4_FL_INLINE_DATA))
                ret = ext4_inline_load(inode);
        if (ret < 0)
                ext4_inode_unload(inode);
        return ret;
}

int ext4_inode_load(struct ext4_inode *inode)
{
        return load(inode, ext4_inode_check);
}

int ext4_inode_load_orphan(struct ext4_inode *inode)
{
        return load(inode, check_orphan);
}

void ext4_inode_unload(struct ext4_inode *inode)
{
        ext4_prealloc_drop(inode);
        ext4_dir_forget_batch(inode);
        /* Nobody else can reach it. */
        if (!RB_EMPTY(&inode->delayed.tree) || inode->delayed.nr_map > 0)
                ext4_delayed_clear(inode);
        mem_free(inode->ibody);
        inode->ibody = NULL;
        inode->ibody_size = 0;
        mem_free(inode->inline_data);
        inode->inline_data = NULL;
        inode->inline_size = 0;
}
