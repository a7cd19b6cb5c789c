/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The list of orphans: s_last_orphan is the first inode, the i_dtime of each the next, 0 ends
 * it.  An insertion is at the head; a removal changes what leads to the orphan, which is the
 * superblock or the raw inode of the one before it (J45).  Each is in one transaction.
 */

#include "ext4/inode_raw.h"
#include "ext4/orphan_track.h"
#include "ext4/super_write.h"

int ext4_orphan_list_add(struct jbd2_handle *h, struct ext4_orphans *os, struct ext4_orphan *o)
{
        struct ext4_fs *fs = os->fs;
        struct ext4_super_loc super;
        struct ext4_iloc iloc;
        uint32_t next;
        int ret = ext4_iloc_begin(h, fs, o->ino, &iloc);

        if (ret < 0)
                return ret;
        ret = ext4_super_begin(h, fs, &super);
        if (ret < 0) {
                ext4_iloc_put(&iloc);
                return ret;
        }
        next = le32_get(super.sb->s_last_orphan);
        super.sb->s_last_orphan = le32_make(o->ino);
        ext4_super_store(h, fs, &super);
        ext4_iloc_store_dtime(h, fs, o->ino, &iloc, next);
        TAILQ_INSERT_HEAD(&os->list, o, link);
        return 0;
}

/* Let `ino` follow the orphan `prev`, or be the first if that is NULL. */
static int lead_to(struct jbd2_handle *h, struct ext4_orphans *os,
                   const struct ext4_orphan *prev, uint32_t ino)
{
        struct ext4_fs *fs = os->fs;
        struct ext4_super_loc super;
        struct ext4_iloc iloc;
        int ret;

        if (prev) {
                ret = ext4_iloc_begin(h, fs, prev->ino, &iloc);
                if (ret == 0)
                        ext4_iloc_store_dtime(h, fs, prev->ino, &iloc, ino);
                return ret;
        }
        ret = ext4_super_begin(h, fs, &super);
        if (ret == 0) {
                super.sb->s_last_orphan = le32_make(ino);
                ext4_super_store(h, fs, &super);
        }
        return ret;
}

int ext4_orphan_list_del(struct jbd2_handle *h, struct ext4_orphans *os, struct ext4_orphan *o)
{
        struct ext4_fs *fs = os->fs;
        struct ext4_iloc iloc;
        int ret = ext4_iloc_begin(h, fs, o->ino, &iloc);

        if (ret < 0)
                return ret;
        ret = lead_to(h, os, TAILQ_PREV(o, ext4_orphan_list, link),
                      le32_get(iloc.raw->i_dtime));
        if (ret < 0) {
                ext4_iloc_put(&iloc);
                return ret;
        }
        ext4_iloc_store_dtime(h, fs, o->ino, &iloc, 0);
        TAILQ_REMOVE(&os->list, o, link);
        return 0;
}

int ext4_orphan_list_cut(struct jbd2_handle *h, struct ext4_orphans *os)
{
        return lead_to(h, os, TAILQ_LAST(&os->list, ext4_orphan_list), 0);
}

int ext4_orphan_list_head(struct ext4_orphans *os, uint32_t *ret_ino)
{
        struct ext4_fs *fs = os->fs;
        const struct ext4_super_block *sb;
        struct buf *buf;
        int ret = buf_read(fs->bufs, fs->sb_fsblk, NULL, 0, &buf);

        if (ret < 0)
                return ret;
        sb = (const void *)((const char *)buf->data + EXT4_SUPER_OFFSET % fs->block_size);
        mtx_lock(&fs->super_lock);
        *ret_ino = le32_get(sb->s_last_orphan);
        mtx_unlock(&fs->super_lock);
        buf_put(buf);
        return 0;
}

int ext4_orphan_list_next(struct ext4_orphans *os, uint32_t ino, uint32_t *ret_ino)
{
        struct ext4_fs *fs = os->fs;
        const struct ext4_inode_disk *di;
        struct ext4_raw_place at;
        struct buf *buf;
        int ret = ext4_raw_find(fs, ino, &at);

        if (ret < 0)
                return ret;
        ret = buf_read(fs->bufs, at.blk, NULL, 0, &buf);
        if (ret < 0)
                return ret;
        di = (const void *)((const char *)buf->data + at.offset);
        *ret_ino = le32_get(di->i_dtime);
        buf_put(buf);
        return 0;
}
