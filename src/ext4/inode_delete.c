/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The end of an inode that has no links any more.
 *
 * Each step is a transaction, or several, after which the inode is a smaller orphan, so that
 * the orphan pass can go on from there after a crash:
 *
 *      1  its blocks go
 *      2  values of attributes that are in other inodes lose this reference, one by one, each
 *         together with the entry that names it
 *      3  the attribute block, the orphan entry and the inode go, in one transaction
 *
 * Nobody else can reach the inode: the table calls it dying, or it was never entered.
 */

#include "ext4/balloc.h"
#include "ext4/delayed.h"
#include "ext4/ialloc.h"
#include "ext4/orphan.h"
#include "ext4/truncate.h"
#include "ext4/xattr.h"
#include "ext4/xattr_value.h"

/* ---- values in other inodes ---- */

/* What names a value: an entry in the inode, or in its attribute block. */
struct owner {
        struct ext4_inode *inode;
        struct buf *block; /* NULL: in the inode */
};

/* The entry has no value any more. */
static void clear_entry(struct ext4_xattr_entry *entry)
{
        entry->e_value_inum = le32_make(0);
        entry->e_value_size = le32_make(0);
}

/* `value` NULL: there is none that could be good. */
static int release_in_block(struct jbd2_handle *h, const struct owner *o,
                            struct ext4_inode *value)
{
        struct ext4_fs *fs = o->inode->fs;
        void *bytes;
        int ret = jbd2_get_write(h, o->block, &bytes);

        if (ret == 0 && value)
                ret = ext4_value_drop(h, value);
        if (ret < 0)
                return ret;
        clear_entry(ext4_xattr_block_outside(bytes, fs->block_size));
        ext4_xattr_block_seal(fs, o->block->blk, bytes);
        jbd2_dirty(h, o->block);
        return 0;
}

static int release_in_inode(struct jbd2_handle *h, const struct owner *o,
                            struct ext4_inode *value)
{
        struct ext4_inode *inode = o->inode;
        struct ext4_iloc iloc;
        int ret = ext4_inode_begin(h, inode, &iloc);

        if (ret < 0)
                return ret;
        if (value)
                ret = ext4_value_drop(h, value);
        if (ret < 0) {
                ext4_iloc_put(&iloc);
                return ret;
        }
        clear_entry(ext4_xattr_ibody_outside(inode->ibody, inode->ibody_size));
        ext4_inode_store(h, inode, &iloc);
        return 0;
}

/* The block or the inode with the entry; the value. */
#define RELEASE_CREDITS (1u + EXT4_VALUE_CREDITS)

static int release_in_handle(const struct owner *o, struct ext4_inode *value)
{
        struct jbd2_handle *h;
        int ret = jbd2_start(o->inode->fs->journal, RELEASE_CREDITS, 0, &h);

        if (ret < 0)
                return ret;
        ret = o->block ? release_in_block(h, o, value) : release_in_inode(h, o, value);
        return first_error(ret, jbd2_stop(h));
}

static int release_value(const struct owner *o, uint32_t ino)
{
        const struct ext4_where at = ext4_at(o->inode, 0);
        struct ext4_inode *value = NULL;
        int ret = ext4_iget(o->inode->fs, ino, &value);

        if (ret == 0 && !(value->flags & EXT4_FL_EA_INODE)) {
                (void)!ext4_corrupt(&at, "attribute value in inode %u, which is none", ino);
                ext4_iput(value);
                value = NULL;
        } else if (ret < 0 && ret != -ESTALE && !ext4_is_damage(ret)) {
                return ret;
        }
        ret = release_in_handle(o, value);
        ext4_iput(value); /* which deletes it, if that was the last reference */
        return ret;
}

static int release_values(const struct owner *o)
{
        struct ext4_inode *inode = o->inode;
        const struct ext4_xattr_entry *entry;
        int ret = 0;

        while (ret == 0) {
                if (o->block)
                        entry = ext4_xattr_block_outside(buf_bytes(o->block),
                                                         inode->fs->block_size);
                else
                        entry = ext4_xattr_ibody_outside(inode->ibody, inode->ibody_size);
                if (!entry)
                        break;
                ret = release_value(o, le32_get(entry->e_value_inum));
        }
        return ret;
}

/* ---- the attribute block ---- */

static int read_block(struct ext4_inode *inode, struct buf **ret_buf)
{
        const struct buf_check check = {.verify = ext4_xattr_block_verify, .arg = inode->fs};

        return buf_read(inode->fs->bufs, inode->file_acl, &check, 0, ret_buf);
}

static bool is_shared(const struct buf *block)
{
        const struct ext4_xattr_header *header = block->data;

        return le32_get(header->h_refcount) > 1;
}

/* Values belong to the block: they stay as long as it does. */
static int release_values_of_block(struct ext4_inode *inode)
{
        struct owner o = {.inode = inode};
        int ret;

        if (inode->file_acl == 0 || !ext4_has_incompat(inode->fs, EXT4_INCOMPAT_EA_INODE))
                return 0;
        ret = read_block(inode, &o.block);
        if (ret < 0)
                return ret;
        if (!is_shared(o.block))
                ret = release_values(&o);
        buf_put(o.block);
        return ret;
}

bool ext4_xattr_block_unshare(struct ext4_fs *fs, uint64_t blk, void *bytes)
{
        struct mtx *lock = ext4_inode_raw_lock(fs->inodes, blk);
        struct ext4_xattr_header *header = bytes;
        bool shared;

        mtx_lock(lock);
        shared = le32_get(header->h_refcount) > 1;
        if (shared) {
                header->h_refcount = le32_make(le32_get(header->h_refcount) - 1);
                ext4_xattr_block_seal(fs, blk, bytes);
        }
        mtx_unlock(lock);
        return shared;
}

int ext4_xattr_block_free(struct jbd2_handle *h, struct ext4_inode *inode, ext4_fsblk_t blk)
{
        uint32_t len = 1u << inode->fs->cluster_bits;

        return ext4_bfree(h, inode,
                          round_down_pow2(blk - inode->fs->first_data_block, len) +
                                  inode->fs->first_data_block,
                          len, EXT4_FREE_META);
}

static int let_go_of_block(struct jbd2_handle *h, struct ext4_inode *inode)
{
        struct ext4_fs *fs = inode->fs;
        ext4_fsblk_t blk = inode->file_acl;
        struct buf *block;
        void *bytes;
        int ret = read_block(inode, &block);

        if (ret < 0)
                return ret;
        ret = jbd2_get_write(h, block, &bytes);
        if (ret == 0 && ext4_xattr_block_unshare(fs, blk, bytes)) {
                jbd2_dirty(h, block);
                buf_put(block);
                return 0;
        }
        if (ret == 0 && ext4_has_incompat(fs, EXT4_INCOMPAT_EA_INODE) &&
            ext4_xattr_block_outside(bytes, fs->block_size))
                ret = -EAGAIN; /* it was shared when its values were to be released */
        buf_put(block);
        return ret < 0 ? ret : ext4_xattr_block_free(h, inode, blk);
}

/* The inode has no attribute block any more.  On an error nothing has changed. */
static int drop_block(struct jbd2_handle *h, struct ext4_inode *inode)
{
        uint64_t sectors = (uint64_t)inode->fs->block_size >> 9 << inode->fs->cluster_bits;
        struct ext4_iloc iloc;
        int ret;

        if (inode->file_acl == 0)
                return 0;
        ret = ext4_inode_begin(h, inode, &iloc);
        if (ret < 0)
                return ret;
        ret = let_go_of_block(h, inode);
        if (ret < 0) {
                ext4_iloc_put(&iloc);
                return ret;
        }
        inode->file_acl = 0;
        inode->blocks -= min_t(uint64_t, inode->blocks, sectors);
        ext4_inode_store(h, inode, &iloc);
        return 0;
}

/* ---- the inode ---- */

/* Free it, after it has left the orphans: the list is chained through the field where the time
 * of deletion goes. */
static int free_inode(struct jbd2_handle *h, struct ext4_inode *inode)
{
        int ret = ext4_orphan_del_freed(h, inode);

        if (ret < 0)
                return ret;
        ret = ext4_ifree(h, inode);
        /* The blocks that this changes are the handle's already.  If it fails as well the
         * inode is lost, which e2fsck will find; the first error is the one that counts. */
        if (ret < 0)
                return first_error(ret, ext4_orphan_add(h, inode));
        return 0;
}

static int delete_last(struct ext4_inode *inode)
{
        struct ext4_fs *fs = inode->fs;
        uint32_t cluster = 1u << fs->cluster_bits;
        /* The attribute block is written or freed, not both. */
        uint32_t credits = max_t(uint32_t, 1, ext4_bfree_credits(fs, cluster)) +
                           EXT4_ORPHAN_CREDITS + EXT4_IFREE_CREDITS;
        struct jbd2_handle *h;
        int ret = jbd2_start(fs->journal, credits, ext4_bfree_revokes(cluster, EXT4_FREE_META),
                             &h);

        if (ret < 0)
                return ret;
        ret = drop_block(h, inode);
        if (ret == 0)
                ret = free_inode(h, inode);
        return first_error(ret, jbd2_stop(h));
}

int ext4_inode_delete(struct ext4_inode *inode)
{
        const struct owner in_inode = {.inode = inode};
        int ret;

        assert(inode->nlink == 0);
        assert(!jbd2_current(inode->fs->journal));
        vfs_pages_discard(&inode->vfs, 0, UINT64_MAX);
        vfs_pages_forget_error(&inode->vfs);
        ext4_delayed_clear(inode);
        /* Who truncates holds it (J48).  Whoever had the value of an attribute may hold his. */
        rwsem_write_lock_nested(&inode->vfs.lock, RANK_INODE_CHILD2);
        ret = ext4_truncate_all(inode);
        rwsem_write_unlock(&inode->vfs.lock);

        if (ret == 0)
                ret = release_values(&in_inode);
        if (ret < 0)
                return ret;
        do {
                ret = release_values_of_block(inode);
                if (ret == 0)
                        ret = delete_last(inode);
        } while (ret == -EAGAIN); /* once: nothing makes a block shared again */
        return ret;
}
