/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/migrate.h"

#include <string.h>
#include <sys/stat.h>

#include "ext4/cache.h"
#include "ext4/extent_edit.h"
#include "ext4/map_change.h"
#include "ext4/namei.h"
#include "ext4/truncate.h"
#include "ext4/xattr_plan.h"
#include "util/alloc.h"
#include "util/crc.h"

/*
 * A second inode, without a name and an orphan from its first transaction on, gets a copy of
 * the data, in a map of the other kind, in as many transactions as it takes.  Then one
 * transaction swaps the two maps, and the second inode is deleted with the old one.  So each
 * block belongs to one inode at any time; a power cut leaves the old map or the new one, and
 * what is not the file's any more, or not yet, is an orphan's, which the next mount deletes.
 * The copy is on the device before the swap: the commit flushes.
 *
 * Nodes of an extent tree have checksums, into which number and generation of their inode go.
 * The second inode gets the generation with which its seed is that of the file.  There is
 * one: the CRC takes the four bytes of the generation into a register of 32 bits, and the
 * outcome depends on nothing but the exclusive or of both.
 */

#define CHUNK_BYTES (1u << 20)

struct migration {
        struct ext4_inode *inode;
        struct ext4_inode *copy;
        bool to_extents;
        char *mem;      /* a chunk */
        uint32_t chunk; /* blocks */
};

/* ---- may it be ---- */

static int check(struct ext4_inode *inode, bool to_extents)
{
        struct ext4_fs *fs = inode->fs;
        int ret;

        if (!S_ISREG(inode->mode) || (inode->flags & EXT4_FL_INLINE_DATA) ||
            !ext4_has_incompat(fs, EXT4_INCOMPAT_EXTENTS) ||
            (!to_extents && fs->cluster_bits > 0))
                return -EOPNOTSUPP;
        ret = ext4_may_change(inode);
        if (ret < 0)
                return ret;
        return !to_extents && vfs_size(&inode->vfs) > ext4_indirect_nr_lblks(fs)
                                                              << fs->block_bits
                       ? -EFBIG
                       : 0;
}

/* ---- the second inode ---- */

/* What the checksum's register holds before the generation. */
static uint32_t before_generation(const struct ext4_inode *inode)
{
        const struct ext4_fs *fs = inode->fs;
        const le32 nr = le32_make(ext4_ino(inode));

        return crc32c(fs->csum_seed, &nr, sizeof(nr));
}

static void take_seed(struct ext4_inode *copy, const struct ext4_inode *inode)
{
        copy->generation =
                inode->generation ^ before_generation(inode) ^ before_generation(copy);
        copy->csum_seed =
                ext4_inode_csum_seed(copy->fs, ext4_ino(copy), le32_make(copy->generation));
        assert(copy->csum_seed == inode->csum_seed);
}

static int make_copy_in(struct jbd2_handle *h, struct migration *m)
{
        struct ext4_inode *inode = m->inode;
        const struct ext4_new_inode want = {
                .mode = S_IFREG | 0600,
                .uid = inode->uid,
                .gid = inode->gid,
                .now = ext4_now(inode->fs),
                .goal = ext4_ino(inode),
                .is_part = true,
        };
        int ret = ext4_ialloc(h, inode, &want, &m->copy);

        if (ret < 0)
                return ret;
        take_seed(m->copy, inode);
        if (!m->to_extents) {
                m->copy->flags &= ~(uint32_t)EXT4_FL_EXTENTS;
                memset(m->copy->block, 0, sizeof(m->copy->block));
        }
        ext4_make_nameless(h, m->copy);
        return 0;
}

static int make_copy(struct migration *m)
{
        struct jbd2_handle *h;
        int ret = jbd2_start(m->inode->fs->journal, EXT4_MAKE_CREDITS, 0, &h);

        if (ret < 0)
                return ret;
        ret = make_copy_in(h, m);
        return first_error(ret, jbd2_stop(h));
}

/* ---- the data ---- */

static int allocate(struct migration *m, ext4_lblk_t lblk, uint32_t len,
                    struct ext4_map *ret_map)
{
        struct ext4_fs *fs = m->inode->fs;
        const struct ext4_map_request req = {.lblk = lblk,
                                             .len = len,
                                             .type = EXT4_MAP_WRITTEN,
                                             .alloc_flags = ext4_alloc_rights(fs)};
        int tries = 0;
        int ret;

        do {
                struct jbd2_handle *h;

                ret = jbd2_start(fs->journal, ext4_map_alloc_credits(m->copy), 0, &h);
                if (ret < 0)
                        return ret;
                ret = ext4_map_alloc(h, m->copy, &req, ret_map);
                ret = first_error(ret, jbd2_stop(h));
        } while (ret == -ENOSPC && ext4_balloc_retry(fs, &tries) > 0);
        return ret;
}

static int copy_blocks(struct migration *m, ext4_fsblk_t from, ext4_fsblk_t to, uint64_t len)
{
        const uint32_t bits = m->inode->fs->block_bits;
        struct uext4_bdev *dev = m->inode->fs->vfs.dev;
        int ret = uext4_bdev_read(dev, m->mem, len << bits, from << bits);

        /* What these blocks were before, which is not what will be read. */
        if (ext4_journals_data(m->inode))
                ext4_data_journal_forget(m->inode->fs, to, len);
        return ret < 0 ? ret : uext4_bdev_write(dev, m->mem, len << bits, to << bits, 0);
}

/* All of a mapping that is in the file. */
static int copy_mapping(struct migration *m, const struct ext4_map *map)
{
        for (uint64_t done = 0; done < map->len;) {
                struct ext4_map to;
                int ret = allocate(m, (ext4_lblk_t)(map->lblk + done),
                                   (uint32_t)min_t(uint64_t, map->len - done, m->chunk), &to);

                if (ret == 0)
                        ret = copy_blocks(m, map->pblk + done, to.pblk, to.len);
                if (ret < 0)
                        return ret;
                done += to.len;
        }
        return 0;
}

static int copy_data(struct migration *m)
{
        struct ext4_inode *inode = m->inode;
        const uint64_t end = div_round_up(vfs_size(&inode->vfs), inode->fs->block_size);
        uint64_t lblk = 0;

        while (lblk < end) {
                struct ext4_map map;
                int ret = ext4_map_lookup(inode, (ext4_lblk_t)lblk, 0, &map);

                if (ret < 0)
                        return ret;
                map.len = min_t(uint64_t, map.len, end - lblk);
                if (map.type == EXT4_MAP_WRITTEN)
                        ret = copy_mapping(m, &map);
                if (ret < 0)
                        return ret;
                lblk = ext4_map_end(&map);
        }
        return 0;
}

/* ---- the swap ---- */

/* `others`: what of the sectors of `a` is not its map's. */
static void swap_maps(struct ext4_inode *a, struct ext4_inode *b, uint64_t others)
{
        uint64_t map_sectors = a->blocks - min_t(uint64_t, others, a->blocks);
        uint8_t block[EXT4_I_BLOCK_SIZE];

        memcpy(block, a->block, sizeof(block));
        memcpy(a->block, b->block, sizeof(block));
        memcpy(b->block, block, sizeof(block));
        a->blocks = a->blocks - map_sectors + b->blocks;
        b->blocks = map_sectors;
        a->flags ^= EXT4_FL_EXTENTS;
        b->flags ^= EXT4_FL_EXTENTS;
        ext4_extent_note_depth(a);
        ext4_extent_note_depth(b);
        ext4_es_forget(&a->es, 0, EXT4_NR_LBLKS, &a->fs->nr_cached_extents);
        ext4_es_forget(&b->es, 0, EXT4_NR_LBLKS, &a->fs->nr_cached_extents);
}

static int swap_in(struct jbd2_handle *h, struct migration *m, uint64_t others)
{
        struct ext4_inode *inode = m->inode;
        struct ext4_iloc loc, copy_loc;
        int ret = ext4_inode_begin(h, inode, &loc);

        if (ret < 0)
                return ret;
        ret = ext4_inode_begin(h, m->copy, &copy_loc);
        if (ret < 0) {
                ext4_iloc_put(&loc);
                return ret;
        }
        /* Nobody else can reach the copy: one of the two locks will do. */
        rwsem_write_lock(&inode->map_lock);
        ext4_prealloc_drop(inode);
        ext4_prealloc_drop(m->copy);
        swap_maps(inode, m->copy, others);
        ext4_set_ctime(inode, ext4_now(inode->fs));
        ext4_inode_map_changed(h, inode);
        ext4_inode_map_changed(h, m->copy);
        ext4_inode_store(h, inode, &loc);
        ext4_inode_store(h, m->copy, &copy_loc);
        rwsem_write_unlock(&inode->map_lock);
        return 0;
}

static int swap(struct migration *m)
{
        struct ext4_inode *inode = m->inode;
        struct jbd2_handle *h;
        uint64_t others;
        int ret = ext4_xattr_sectors(inode, &others);

        if (ret == 0)
                ret = jbd2_start(inode->fs->journal, 2 * EXT4_INODE_CREDITS, 0, &h);
        if (ret < 0)
                return ret;
        ret = swap_in(h, m, others);
        return first_error(ret, jbd2_stop(h));
}

/* ---- the whole ---- */

static int migrate(struct migration *m)
{
        struct ext4_inode *inode = m->inode;
        int ret = ext4_cache_leave(inode, 0, 0, 0, UINT64_MAX);

        if (ret == 0 && ext4_journals_data(inode))
                ret = jbd2_flush(inode->fs->journal); /* order: what only it has is read, too */
        if (ret == 0)
                ret = make_copy(m);
        if (ret == 0)
                ret = copy_data(m);
        return ret < 0 ? ret : swap(m);
}

int ext4_migrate_locked(struct ext4_inode *inode, bool to_extents, struct ext4_inode **ret_old)
{
        const struct uext4_bdev_geometry *geo = uext4_bdev_geometry(inode->fs->vfs.dev);
        struct migration m = {.inode = inode, .to_extents = to_extents};
        int ret = check(inode, to_extents);

        *ret_old = NULL;
        if (ret < 0 || !(inode->flags & EXT4_FL_EXTENTS) == !to_extents)
                return ret;
        m.chunk = max_t(uint32_t, CHUNK_BYTES >> inode->fs->block_bits, 1);
        m.mem = mem_alloc_aligned(max_t(uint32_t, geo->mem_align, 64),
                                  (size_t)m.chunk << inode->fs->block_bits);
        if (!m.mem)
                return -ENOMEM;
        ret = migrate(&m);
        mem_free(m.mem);
        *ret_old = m.copy;
        return ret;
}
