/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/inline_change.h"

#include <string.h>

#include "ext4/map_change.h"
#include "ext4/super_write.h"
#include "ext4/truncate.h"
#include "ext4/xattr_edit.h"
#include "util/alloc.h"

static const char data_name[] = "data";

#define DATA_NAME_LEN (sizeof(data_name) - 1)

/* ---- the attribute "system.data" ---- */

/* Its value in inode->ibody, to be changed, and its length.  It is there: loading found it. */
static uint8_t *value_of(struct ext4_inode *inode, uint32_t *ret_len)
{
        const void *value = NULL;
        ssize_t len = ext4_xattr_ibody_find(inode, EXT4_XATTR_INDEX_SYSTEM, data_name,
                                            DATA_NAME_LEN, &value);

        assert(len >= 0);
        *ret_len = (uint32_t)len;
        return len > 0 ? inode->ibody + ((const uint8_t *)value - inode->ibody) : NULL;
}

/* ---- contents ---- */

void ext4_inline_put(struct ext4_inode *inode)
{
        uint32_t len;
        uint8_t *value = value_of(inode, &len);

        memcpy(inode->block, inode->inline_data, EXT4_I_BLOCK_SIZE);
        if (value)
                memcpy(value, inode->inline_data + EXT4_I_BLOCK_SIZE, len);
}

int ext4_inline_set_size(struct ext4_inode *inode, uint64_t size)
{
        uint32_t keep, len, space;

        (void)value_of(inode, &len);
        space = EXT4_I_BLOCK_SIZE + len;
        if (size > space)
                return -ERANGE;
        keep = (uint32_t)min_t(uint64_t, size, inode->inline_size);
        memset(inode->inline_data + keep, 0, space - keep); /* C23 */
        inode->inline_size = (uint32_t)size;
        ext4_inline_put(inode);
        return 0;
}

/* ---- to a map ---- */

/* What to_blocks() changes, to be put back. */
struct saved {
        uint32_t flags;
        uint64_t blocks;
        uint8_t block[EXT4_I_BLOCK_SIZE];
};

/* Write the data as the block that the file gets. */
static int write_data(struct ext4_inode *inode, ext4_fsblk_t pblk)
{
        const struct ext4_fs *fs = inode->fs;
        const struct uext4_bdev_geometry *geo = uext4_bdev_geometry(fs->vfs.dev);
        char *mem = mem_alloc_aligned(max_t(uint32_t, geo->mem_align, 64), fs->block_size);
        int ret;

        if (!mem)
                return -ENOMEM;
        memset(mem, 0, fs->block_size);
        memcpy(mem, inode->inline_data, inode->inline_size);
        /* Durable with the transaction's flush; until then the block is free for everybody. */
        ret = uext4_bdev_write(fs->vfs.dev, mem, fs->block_size, pblk << fs->block_bits, 0);
        mem_free(mem);
        return ret;
}

/* Enter the block into a map that is new. */
static int enter_block(struct jbd2_handle *h, struct ext4_inode *inode, ext4_fsblk_t pblk)
{
        const struct ext4_map map = {0, 1, pblk, EXT4_MAP_WRITTEN};
        const le32 direct = le32_make((uint32_t)pblk);

        if (inode->flags & EXT4_FL_EXTENTS)
                return ext4_extent_insert(h, inode, &map, 0); /* into the root */
        if (pblk > UINT32_MAX)
                return -ENOSPC; /* out of reach for an indirect map */
        memcpy(inode->block, &direct, sizeof(direct));
        return 0;
}

/* From here on the file is one with a map, which is empty. */
static void become_mapped(struct ext4_inode *inode)
{
        inode->flags &= ~(uint32_t)EXT4_FL_INLINE_DATA;
        memset(inode->block, 0, sizeof(inode->block));
        if (ext4_has_incompat(inode->fs, EXT4_INCOMPAT_EXTENTS)) {
                inode->flags |= EXT4_FL_EXTENTS;
                ext4_extent_init(inode);
        }
}

static void put_back(struct ext4_inode *inode, const struct saved *s)
{
        inode->flags = s->flags;
        inode->blocks = s->blocks;
        memcpy(inode->block, s->block, sizeof(inode->block));
}

/* The attribute space without the data.  Values that overlap pass the verifier when the inode
 * is read, but may need more room than there is. */
static int space_without_data(const struct ext4_inode *inode, uint8_t *space)
{
        const struct ext4_xattr_key key = {EXT4_XATTR_INDEX_SYSTEM, data_name, DATA_NAME_LEN};
        const struct ext4_where at = ext4_at(inode, 0);
        struct ext4_xattr_set set;
        int ret = ext4_xattr_set_of_ibody(&set, inode->ibody, inode->ibody_size);

        if (ret < 0)
                return ret;
        ext4_xattr_set_remove(&set, ext4_xattr_set_find(&set, &key, 0)); /* it is there */
        if (ext4_xattr_set_size(&set) > ext4_xattr_ibody_room(inode->ibody_size))
                ret = ext4_corrupt(&at, "attribute values overlap");
        else
                ext4_xattr_build_ibody(&set, space, inode->ibody_size);
        ext4_xattr_set_done(&set);
        return ret;
}

/* The file as one with a block that has been written, or without any: nr is 0. */
static int change_form(struct jbd2_handle *h, struct ext4_inode *inode, ext4_fsblk_t pblk,
                       uint32_t nr)
{
        struct saved old = {.flags = inode->flags, .blocks = inode->blocks};
        _cleanup_mem_ uint8_t *space = mem_alloc(inode->ibody_size);
        int ret = space ? space_without_data(inode, space) : -ENOMEM;

        if (ret < 0)
                return ret;
        memcpy(old.block, inode->block, sizeof(old.block));
        rwsem_write_lock(&inode->map_lock);
        become_mapped(inode);
        if (nr > 0) {
                inode->blocks += (uint64_t)nr << (inode->fs->block_bits - 9);
                ret = enter_block(h, inode, pblk);
        }
        if (ret < 0)
                put_back(inode, &old);
        else
                memcpy(inode->ibody, space, inode->ibody_size);
        ext4_es_forget(&inode->es, 0, EXT4_NR_LBLKS, &inode->fs->nr_cached_extents);
        rwsem_write_unlock(&inode->map_lock);
        return ret;
}

static int alloc_first(struct jbd2_handle *h, struct ext4_inode *inode, ext4_fsblk_t *ret_pblk,
                       uint32_t *ret_nr)
{
        const struct ext4_alloc a = {
                .inode = inode,
                .len = 1,
                .flags = EXT4_ALLOC_DATA | ext4_alloc_rights(inode->fs),
        };
        int ret;

        rwsem_write_lock(&inode->map_lock);
        ret = ext4_balloc(h, &a, ret_pblk, ret_nr);
        rwsem_write_unlock(&inode->map_lock);
        return ret;
}

static int alloc_and_write(struct jbd2_handle *h, struct ext4_inode *inode,
                           ext4_fsblk_t *ret_pblk, uint32_t *ret_nr)
{
        int ret = alloc_first(h, inode, ret_pblk, ret_nr);

        if (ret < 0)
                return ret;
        if (ext4_journals_data(inode))
                ret = ext4_data_journal_new_block(h, inode->fs, *ret_pblk, inode->inline_data,
                                                  inode->inline_size);
        else
                ret = write_data(inode, *ret_pblk);
        if (ret < 0)
                ext4_abort(inode->fs, ret); /* the device refuses to write */
        return ret;
}

static void forget_data(struct ext4_inode *inode)
{
        mem_free(inode->inline_data);
        inode->inline_data = NULL;
        inode->inline_size = 0;
}

static int to_blocks(struct jbd2_handle *h, struct ext4_inode *inode)
{
        ext4_fsblk_t pblk = 0;
        struct ext4_iloc loc;
        uint32_t nr = 0;
        int ret = ext4_inode_begin(h, inode, &loc);

        if (ret < 0)
                return ret;
        if (inode->inline_size > 0)
                ret = alloc_and_write(h, inode, &pblk, &nr);
        if (ret == 0) {
                ret = change_form(h, inode, pblk, nr);
                if (ret < 0 && nr > 0 && ext4_bfree(h, inode, pblk, nr, EXT4_FREE_FORGET) < 0)
                        ext4_abort(inode->fs, ret);
        }
        if (ret < 0) {
                ext4_iloc_put(&loc);
                return ret;
        }
        ext4_inode_map_changed(h, inode);
        ext4_inode_store(h, inode, &loc);
        forget_data(inode);
        return 0;
}

int ext4_inline_to_blocks(struct ext4_inode *inode)
{
        struct ext4_fs *fs = inode->fs;
        /* A tree without levels below its root, which has room. */
        const uint32_t credits = 2 * EXT4_BALLOC_CREDITS + 3 * EXT4_INODE_CREDITS +
                                 (ext4_journals_data(inode) ? 1 : 0);
        int tries = 0;
        int ret;

        do {
                struct jbd2_handle *h;

                ret = jbd2_start(fs->journal, credits, 0, &h);
                if (ret < 0)
                        return ret;
                ret = to_blocks(h, inode);
                ret = first_error(ret, jbd2_stop(h));
        } while (ret == -ENOSPC && ext4_balloc_retry(fs, &tries) > 0);
        return ret;
}

/* ---- a directory ---- */

/* Allocate, and have access to the block; then the inode.  What fails is undone. */
static int dir_to_block(struct jbd2_handle *h, struct ext4_inode *dir, struct buf **ret_buf,
                        void **ret_bytes)
{
        struct buf *buf = NULL;
        ext4_fsblk_t pblk;
        uint32_t nr;
        int ret = alloc_first(h, dir, &pblk, &nr);

        if (ret < 0)
                return ret;
        ret = buf_new(dir->fs->bufs, pblk, &buf);
        if (ret == 0)
                ret = jbd2_get_create(h, buf, ret_bytes);
        if (ret == 0)
                ret = change_form(h, dir, pblk, nr);
        if (ret == 0) {
                *ret_buf = buf;
                return 0;
        }
        if (ext4_bfree(h, dir, pblk, nr, EXT4_FREE_FORGET) < 0)
                ext4_abort(dir->fs, ret);
        buf_put(buf);
        return ret;
}

int ext4_inline_dir_to_block(struct jbd2_handle *h, struct ext4_inode *dir, const void *image)
{
        const uint32_t size = dir->fs->block_size;
        struct ext4_iloc loc;
        struct buf *buf = NULL;
        void *bytes = NULL;
        int ret = ext4_inode_begin(h, dir, &loc);

        if (ret < 0)
                return ret;
        ret = dir_to_block(h, dir, &buf, &bytes);
        if (ret < 0) {
                ext4_iloc_put(&loc);
                return ret;
        }
        memcpy(bytes, image, size);
        jbd2_dirty(h, buf);
        buf_put(buf);
        ext4_set_size(dir, size);
        ext4_inode_map_changed(h, dir);
        ext4_inode_store(h, dir, &loc);
        forget_data(dir);
        return 0;
}
