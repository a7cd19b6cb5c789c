/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/data_journal.h"

#include "ext4/cache.h"
#include "ext4/extent_edit.h"
#include "ext4/truncate.h"

/* Turning data journalling of a file on and off. */

void ext4_data_journal_forget(struct ext4_fs *fs, ext4_fsblk_t pblk, uint64_t len)
{
        for (uint64_t k = 0; k < len; k++) {
                struct buf *buf;

                if (buf_find(fs->bufs, pblk + k, &buf)) {
                        buf_forget(buf);
                        buf_put(buf);
                }
        }
}

/* What is cached of the file's blocks is not kept in step any more, or was not so far. */
static int forget_cached(struct ext4_inode *inode)
{
        uint64_t lblk = 0;

        while (lblk < EXT4_NR_LBLKS) {
                struct ext4_map map;
                int ret = ext4_map_lookup(inode, (ext4_lblk_t)lblk, 0, &map);

                if (ret < 0)
                        return ret;
                if (map.type != EXT4_MAP_HOLE)
                        ext4_data_journal_forget(inode->fs, map.pblk, map.len);
                lblk = ext4_map_end(&map);
        }
        return 0;
}

static int set_flag(struct ext4_inode *inode, bool on)
{
        struct ext4_iloc loc;
        struct jbd2_handle *h;
        int ret = jbd2_start(inode->fs->journal, EXT4_INODE_CREDITS, 0, &h);

        if (ret < 0)
                return ret;
        ret = ext4_inode_begin(h, inode, &loc);
        if (ret == 0) {
                rwsem_write_lock(&inode->map_lock);
                if (on)
                        inode->flags |= EXT4_FL_JOURNAL_DATA;
                else
                        inode->flags &= ~(uint32_t)EXT4_FL_JOURNAL_DATA;
                ext4_set_ctime(inode, ext4_now(inode->fs));
                ext4_inode_store(h, inode, &loc);
                rwsem_write_unlock(&inode->map_lock);
        }
        return first_error(ret, jbd2_stop(h));
}

int ext4_data_journal_change_locked(struct ext4_inode *inode, bool on)
{
        const bool has_map = !(inode->flags & EXT4_FL_INLINE_DATA);
        int ret = ext4_may_change(inode);

        if (ret < 0 || !(inode->flags & EXT4_FL_JOURNAL_DATA) == !on)
                return ret;
        ret = ext4_cache_leave(inode, 0, 0, 0, UINT64_MAX);
        if (ret == 0 && ext4_journals_data(inode))
                ret = jbd2_flush(inode->fs->journal); /* order: no copy comes back later */
        if (ret == 0 && has_map && inode->fs->opts.data != EXT4_DATA_JOURNAL)
                ret = forget_cached(inode); /* order: nothing older is read */
        return ret < 0 ? ret : set_flag(inode, on);
}
