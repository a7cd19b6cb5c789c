/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The orphan file: blocks full of inode numbers, each with a tail (J46).  Adding and deleting
 * touch one slot of one block, and no other inode.
 *
 * Where its blocks are is looked up once, at mounting: nobody can change the file, which no
 * directory names.  A block that is damaged is said and not used.
 */

#include <sys/stat.h>

#include "ext4/orphan_track.h"
#include "util/alloc.h"
#include "util/crc.h"

/* More than any tool makes; it bounds what mounting takes. */
#define MAX_BLOCKS 65536u

static uint32_t nr_slots(const struct ext4_fs *fs)
{
        return (uint32_t)((fs->block_size - sizeof(struct ext4_orphan_tail)) / sizeof(le32));
}

static struct ext4_orphan_tail *tail_of(const struct ext4_fs *fs, void *bytes)
{
        return (void *)((le32 *)bytes + nr_slots(fs));
}

/* ---- the block ---- */

static uint32_t block_csum(const struct ext4_orphans *os, uint64_t blk, const void *data)
{
        const le64 nr = le64_make(blk);
        uint32_t crc = crc32c(os->file.csum_seed, &nr, sizeof(nr));

        return crc32c(crc, data, nr_slots(os->fs) * sizeof(le32));
}

static int verify(const void *data, size_t size, uint64_t blk, const void *arg)
{
        const struct ext4_orphans *os = arg;
        const struct ext4_where at = {os->fs, os->file.ino, blk};
        const struct ext4_orphan_tail *tail =
                (const void *)((const char *)data + size - sizeof(*tail));

        if (le32_get(tail->ob_magic) != EXT4_ORPHAN_MAGIC)
                return ext4_corrupt(&at, "orphan file: magic %#x", le32_get(tail->ob_magic));
        if (ext4_verify_csums(os->fs) &&
            block_csum(os, blk, data) != le32_get(tail->ob_checksum))
                return ext4_bad_csum(&at, "block of the orphan file");
        return 0;
}

static int read_block(struct ext4_orphans *os, uint32_t nr, struct buf **ret_buf)
{
        const struct buf_check check = {
                .verify = verify,
                .arg = os,
                .owner = os->file.owner,
        };

        return buf_read(os->fs->bufs, os->file.blocks[nr].pblk, &check, 0, ret_buf);
}

static uint32_t count_free(const struct ext4_fs *fs, const le32 *slots)
{
        uint32_t n = 0;

        for (uint32_t i = 0; i < nr_slots(fs); i++)
                n += le32_get(slots[i]) == 0;
        return n;
}

/* ---- open and close ---- */

/* Damage is said, and leaves a block without free slots. */
static int look_at_block(struct ext4_orphans *os, struct ext4_inode *file, uint32_t nr)
{
        const struct ext4_where at = ext4_at(file, 0);
        struct ext4_map map;
        struct buf *buf;
        int ret = ext4_map_lookup(file, nr, 0, &map);

        if (ret == 0 && map.type != EXT4_MAP_WRITTEN)
                ret = ext4_corrupt(&at, "orphan file: no block %u", nr);
        if (ret < 0)
                return ret;
        os->file.blocks[nr].pblk = map.pblk;
        ret = read_block(os, nr, &buf);
        if (ret < 0)
                return ret;
        os->file.blocks[nr].nr_free = count_free(os->fs, buf->data);
        buf_put(buf);
        return 0;
}

static int look_at_blocks(struct ext4_orphans *os, struct ext4_inode *file)
{
        int ret = 0;

        rwsem_read_lock(&file->vfs.lock);
        for (uint32_t i = 0; i < os->file.nr_blocks && ret == 0; i++) {
                ret = look_at_block(os, file, i);
                if (ext4_is_damage(ret))
                        ret = 0;
        }
        rwsem_read_unlock(&file->vfs.lock);
        return ret;
}

static int check_file(const struct ext4_inode *file, uint64_t nr_blocks)
{
        const struct ext4_where at = ext4_at(file, 0);

        if (!S_ISREG(file->mode) || (file->flags & (EXT4_FL_INLINE_DATA | EXT4_FL_ENCRYPT)))
                return ext4_corrupt(&at, "the orphan file is no file of blocks");
        if (nr_blocks == 0 || nr_blocks > MAX_BLOCKS)
                return ext4_corrupt(&at, "the orphan file has %llu blocks",
                                    (unsigned long long)nr_blocks);
        return 0;
}

static int open_file(struct ext4_orphans *os, struct ext4_inode *file)
{
        uint64_t nr_blocks = vfs_size(&file->vfs) >> os->fs->block_bits;
        int ret = check_file(file, nr_blocks);

        if (ret < 0)
                return ret;
        os->file = (struct ext4_orphan_file){
                .ino = ext4_ino(file),
                .csum_seed = file->csum_seed,
                .owner = ext4_owner(file),
                .blocks = mem_array(nr_blocks, sizeof(os->file.blocks[0])),
                .nr_blocks = (uint32_t)nr_blocks,
        };
        return os->file.blocks ? look_at_blocks(os, file) : -ENOMEM;
}

int ext4_orphan_file_open(struct ext4_orphans *os)
{
        struct ext4_fs *fs = os->fs;
        uint32_t ino = le32_get(fs->sb.s_orphan_file_inum);
        const struct ext4_where at = {fs, ino, 0};
        struct ext4_inode *file;
        int ret;

        if (!ext4_has_compat(fs, EXT4_COMPAT_ORPHAN_FILE))
                return 0;
        ret = ext4_iget(fs, ino, &file);
        if (ret == -ESTALE)
                return ext4_corrupt(&at, "this inode should be the orphan file");
        if (ret < 0)
                return ret;
        ret = open_file(os, file);
        ext4_iput(file);
        return ret;
}

void ext4_orphan_file_close(struct ext4_orphans *os)
{
        mem_free(os->file.blocks);
        os->file = (struct ext4_orphan_file){0};
}

/* ---- slots ---- */

static int begin_block(struct jbd2_handle *h, struct ext4_orphans *os, uint32_t nr,
                       struct buf **ret_buf, le32 **ret_slots)
{
        struct buf *buf;
        void *bytes;
        int ret = read_block(os, nr, &buf);

        if (ret < 0)
                return ret;
        ret = jbd2_get_write(h, buf, &bytes);
        if (ret < 0) {
                buf_put(buf);
                return ret;
        }
        *ret_buf = buf;
        *ret_slots = bytes;
        return 0;
}

static void store_block(struct jbd2_handle *h, struct ext4_orphans *os, struct buf *buf,
                        le32 *slots)
{
        if (os->fs->has_metadata_csum)
                tail_of(os->fs, slots)->ob_checksum =
                        le32_make(block_csum(os, buf->blk, slots));
        jbd2_dirty(h, buf);
        buf_put(buf);
}

/* A block with a free slot; nr_blocks: there is none. */
static uint32_t find_block(const struct ext4_orphans *os)
{
        for (uint32_t i = 0; i < os->file.nr_blocks; i++) {
                uint32_t nr = (os->file.next_block + i) % os->file.nr_blocks;

                if (os->file.blocks[nr].nr_free > 0)
                        return nr;
        }
        return os->file.nr_blocks;
}

static uint32_t find_slot(const struct ext4_fs *fs, const le32 *slots)
{
        uint32_t slot = 0;

        while (slot < nr_slots(fs) && le32_get(slots[slot]) != 0)
                slot++;
        return slot;
}

/* Its free slots are gone: another block of the file is the same one. */
static void condemn_block(struct ext4_orphans *os, uint32_t nr)
{
        const struct ext4_where at = {os->fs, os->file.ino, os->file.blocks[nr].pblk};

        (void)ext4_corrupt(&at, "orphan file: block %u is full, and was not", nr);
        os->file.blocks[nr].nr_free = 0;
}

int ext4_orphan_file_add(struct jbd2_handle *h, struct ext4_orphans *os, struct ext4_orphan *o)
{
        struct buf *buf;
        le32 *slots;

        for (;;) {
                uint32_t nr = find_block(os);
                int ret = -ENOSPC;

                if (nr < os->file.nr_blocks)
                        ret = begin_block(h, os, nr, &buf, &slots);
                if (ret < 0)
                        return ret;
                o->block = nr;
                o->slot = find_slot(os->fs, slots);
                if (o->slot < nr_slots(os->fs))
                        break;
                buf_put(buf);
                condemn_block(os, nr);
        }
        slots[o->slot] = le32_make(o->ino);
        store_block(h, os, buf, slots);
        os->file.blocks[o->block].nr_free--;
        os->file.next_block = o->block;
        o->in_file = true;
        TAILQ_INSERT_TAIL(&os->in_file, o, link);
        return 0;
}

int ext4_orphan_file_del(struct jbd2_handle *h, struct ext4_orphans *os, struct ext4_orphan *o)
{
        struct buf *buf;
        le32 *slots;
        int ret = begin_block(h, os, o->block, &buf, &slots);

        if (ret < 0)
                return ret;
        slots[o->slot] = le32_make(0);
        store_block(h, os, buf, slots);
        os->file.blocks[o->block].nr_free++;
        TAILQ_REMOVE(&os->in_file, o, link);
        return 0;
}

/* From *slot on in one block: 1, 0. */
static int next_in_block(struct ext4_orphans *os, uint32_t block, uint32_t *slot,
                         uint32_t *ret_ino)
{
        const le32 *slots;
        struct buf *buf;
        int ret = read_block(os, block, &buf);

        if (ret < 0)
                return ret;
        slots = buf->data;
        while (*slot < nr_slots(os->fs) && le32_get(slots[*slot]) == 0)
                (*slot)++;
        ret = *slot < nr_slots(os->fs);
        if (ret)
                *ret_ino = le32_get(slots[*slot]);
        buf_put(buf);
        return ret;
}

int ext4_orphan_file_next(struct ext4_orphans *os, uint32_t *block, uint32_t *slot,
                          uint32_t *ret_ino)
{
        for (; *block < os->file.nr_blocks; (*block)++, *slot = 0) {
                int ret = 0;

                /* One without anything in it, or damaged, which was said. */
                if (os->file.blocks[*block].nr_free < nr_slots(os->fs) &&
                    os->file.blocks[*block].pblk)
                        ret = next_in_block(os, *block, slot, ret_ino);
                if (ext4_is_damage(ret))
                        ret = 0;
                if (ret != 0)
                        return ret;
        }
        return 0;
}
