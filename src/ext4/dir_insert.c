/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/dir_insert.h"

#include <string.h>
#include <sys/stat.h>

#include "ext4/inline_change.h"
#include "ext4/super_write.h"
#include "util/alloc.h"

/*
 * Room for one more entry.
 *
 * A linear directory is searched from its first block for an unused entry, or one with space
 * behind its name, that is large enough; if there is none it gets one more block.  When the
 * first block is full, and the file system has indexes, it becomes a hashed directory instead.
 * An inline directory whose two runs are full gets a block, which everything moves to.
 *
 * Invariant
 *  DI1 Each step changes the directory from one that passes its verifiers to another one that
 *      does, with the same names: between two steps it may be left.  In a step the new block
 *      comes last of all that can fail.
 */

/* ---- a run ---- */

static uint32_t room_of(const struct ext4_dir_entry *entry, uint32_t rec_len)
{
        return le32_get(entry->inode) == 0 ? rec_len
                                           : rec_len - ext4_dir_entry_size(entry->name_len);
}

/* The entry with room for `need` bytes more: its place, -ENOSPC, -EUCLEAN. */
static int find_room(const struct ext4_inode *dir, const uint8_t *run, uint32_t size,
                     uint32_t need)
{
        struct ext4_dir_walk walk = ext4_dir_walk(dir, run, size);
        const struct ext4_dir_entry *entry;
        const struct ext4_where at = ext4_at(dir, 0);
        uint32_t pos = 0;

        while ((entry = ext4_dir_walk_next(&walk))) {
                if (walk.pos > size) /* where checksums are not looked at */
                        return ext4_corrupt(&at, "directory block: no checksum at its end");
                if (room_of(entry, walk.pos - pos) >= need)
                        return (int)pos;
                pos = walk.pos;
        }
        return -ENOSPC;
}

int ext4_dir_run_has_room(const struct ext4_inode *dir, const uint8_t *run, uint32_t size,
                          uint32_t need, uint32_t *ret_pos)
{
        int ret = find_room(dir, run, size, need);

        if (ret < 0)
                return ret == -ENOSPC ? 0 : ret;
        *ret_pos = (uint32_t)ret;
        return 1;
}

/* Where the entry with room is now: another one than before when some were taken out. */
static uint32_t place_in(const struct ext4_inode *dir, const struct ext4_dir_slot *slot,
                         const uint8_t *run, uint32_t need)
{
        int pos;

        if (slot->seq == dir->dir_seq)
                return slot->pos;
        pos = find_room(dir, run, slot->size, need);
        assert(pos >= 0); /* ext4_dir_make_room() has found it */
        return (uint32_t)pos;
}

static void write_entry(struct ext4_dir_entry *entry, uint32_t ino, uint8_t type,
                        const char *name, size_t len)
{
        entry->inode = le32_make(ino);
        entry->name_len = (uint8_t)len;
        entry->file_type = type;
        memcpy(entry + 1, name, len);
}

void ext4_dir_slot_put(struct ext4_dir_slot *slot)
{
        buf_put(slot->buf);
        slot->buf = NULL;
}

void ext4_dir_enter(struct jbd2_handle *h, struct ext4_inode *dir, struct ext4_dir_slot *slot,
                    const struct ext4_name *name, const struct ext4_inode *inode)
{
        const uint32_t block_size = dir->fs->block_size;
        uint8_t *run = (slot->buf ? slot->block : dir->inline_data) + slot->start;
        uint32_t pos = place_in(dir, slot, run, ext4_dir_entry_size(name->len));
        struct ext4_dir_entry *entry = (void *)(run + pos);

        if (le32_get(entry->inode) != 0) {
                uint32_t all = ext4_dir_rec_len(block_size, entry->rec_len);
                uint32_t used = ext4_dir_entry_size(entry->name_len);

                entry->rec_len = ext4_dir_rec_len_make(block_size, used);
                entry = (void *)(run + pos + used);
                entry->rec_len = ext4_dir_rec_len_make(block_size, all - used);
        }
        write_entry(entry, ext4_ino(inode), ext4_dir_type(dir->fs, inode->mode), name->text,
                    name->len);
        ext4_dir_changed(dir);
        if (slot->buf) {
                ext4_dir_seal(dir, slot->block);
                jbd2_dirty(h, slot->buf);
        } else {
                ext4_inline_put(dir);
        }
}

/* ---- a block ---- */

void ext4_dir_fill_one(struct ext4_dir_filler *f, uint32_t ino, uint8_t type, const char *name,
                       size_t len)
{
        struct ext4_dir_entry *entry = (void *)(f->block + f->pos);
        uint32_t size = ext4_dir_entry_size(len);

        memset(entry, 0, size);
        entry->rec_len = ext4_dir_rec_len_make(f->dir->fs->block_size, size);
        write_entry(entry, ino, type, name, len);
        f->last = f->pos;
        f->pos += size;
}

static void set_tail(struct ext4_dir_tail *tail)
{
        *tail = (struct ext4_dir_tail){
                .det_rec_len = le16_make(sizeof(*tail)),
                .det_reserved_ft = EXT4_FT_DIR_CSUM,
        };
}

void ext4_dir_fill_end(struct ext4_dir_filler *f)
{
        const struct ext4_fs *fs = f->dir->fs;
        uint32_t end = ext4_dir_leaf_end(fs);
        struct ext4_dir_entry *last = (void *)(f->block + f->last);

        memset(f->block + f->pos, 0, fs->block_size - f->pos);
        last->rec_len = ext4_dir_rec_len_make(fs->block_size, end - f->last);
        if (fs->has_metadata_csum)
                set_tail((void *)(f->block + end));
        ext4_dir_seal(f->dir, f->block);
}

/* ---- one block more ---- */

static int alloc_block(struct jbd2_handle *h, struct ext4_inode *inode, ext4_lblk_t lblk,
                       unsigned alloc_flags, ext4_fsblk_t *ret_pblk)
{
        const struct ext4_where at = ext4_at(inode, 0);
        const struct ext4_map_request req = {
                .lblk = lblk,
                .len = 1,
                .type = EXT4_MAP_WRITTEN,
                .alloc_flags = EXT4_ALLOC_NO_WINDOW | alloc_flags,
        };
        const struct ext4_indirect_request old_req = {
                .lblk = lblk,
                .len = 1,
                .alloc_flags = EXT4_ALLOC_META | alloc_flags,
        };
        struct ext4_map map;
        int ret;

        if (inode->flags & EXT4_FL_EXTENTS)
                ret = ext4_map_alloc(h, inode, &req, &map);
        else
                ret = ext4_map_alloc_indirect(h, inode, &old_req, &map);
        if (ret == -EEXIST || (ret == 0 && map.type != EXT4_MAP_WRITTEN))
                return ext4_corrupt(&at, "there is something behind its end");
        if (ret == 0)
                *ret_pblk = map.pblk;
        return ret;
}

/* Directories of 2 GiB and more are a feature; and the index has 28 bits for a block. */
static int check_size(const struct ext4_inode *dir, uint64_t lblk)
{
        bool large = ext4_has_incompat(dir->fs, EXT4_INCOMPAT_LARGEDIR);

        if (((lblk + 1) << dir->fs->block_bits) > INT32_MAX && !large)
                return -ENOSPC;
        return lblk >= (1u << 28) ? -ENOSPC : 0;
}

int ext4_append_block(struct jbd2_handle *h, struct ext4_inode *inode, unsigned alloc_flags,
                      struct ext4_new_block *ret_new)
{
        struct ext4_fs *fs = inode->fs;
        uint64_t lblk = vfs_size(&inode->vfs) >> fs->block_bits;
        ext4_fsblk_t pblk = 0;
        struct buf *buf = NULL;
        void *bytes;
        int ret = check_size(inode, lblk);

        if (ret == 0)
                ret = alloc_block(h, inode, (ext4_lblk_t)lblk, alloc_flags, &pblk);
        if (ret < 0)
                return ret;
        /* From here on only memory can be missing, or the journal has been aborted. */
        ret = buf_new(fs->bufs, pblk, &buf);
        if (ret == 0)
                ret = jbd2_get_create(h, buf, &bytes);
        if (ret == 0)
                ret = ext4_grow(h, inode, (lblk + 1) << fs->block_bits);
        if (ret == 0)
                ret = ext4_inode_dirty(h, inode);
        if (ret < 0) {
                ext4_abort(fs, ret);
                buf_put(buf);
                return ret;
        }
        *ret_new = (struct ext4_new_block){buf, bytes, (ext4_lblk_t)lblk};
        return 0;
}

static struct ext4_dir_slot slot_in_block(const struct ext4_inode *dir, struct buf *buf,
                                          void *bytes, uint32_t pos)
{
        return (struct ext4_dir_slot){
                .buf = buf,
                .block = bytes,
                .size = ext4_dir_leaf_end(dir->fs),
                .pos = pos,
                .seq = dir->dir_seq,
        };
}

static int append_leaf(struct jbd2_handle *h, struct ext4_inode *dir, unsigned alloc_flags,
                       struct ext4_dir_slot *ret_slot)
{
        struct ext4_new_block new;
        int ret = ext4_append_block(h, dir, alloc_flags, &new);

        if (ret < 0)
                return ret;
        ext4_dir_fill_end(&(struct ext4_dir_filler){.dir = dir, .block = new.bytes});
        jbd2_dirty(h, new.buf);
        *ret_slot = slot_in_block(dir, new.buf, new.bytes, 0);
        return 0;
}

/* ---- linear ---- */

/* 1 and the slot, when this block has room. */
static int try_block(struct jbd2_handle *h, struct ext4_inode *dir, ext4_lblk_t lblk,
                     uint32_t need, struct ext4_dir_slot *ret_slot)
{
        const struct buf_check check = ext4_dir_check(dir, ext4_dir_block_verify);
        const struct ext4_where at = ext4_at(dir, 0);
        struct buf *buf;
        uint32_t pos;
        void *bytes;
        int ret = ext4_read_block(dir, lblk, &check, &buf);

        if (ret < 0)
                return ret;
        if (!buf)
                return ext4_corrupt(&at, "the directory has a hole");
        ret = ext4_dir_run_has_room(dir, buf->data, ext4_dir_leaf_end(dir->fs), need, &pos);
        if (ret > 0) {
                int err = jbd2_get_write(h, buf, &bytes);

                if (err == 0) {
                        *ret_slot = slot_in_block(dir, buf, bytes, pos);
                        return 1;
                }
                ret = err;
        }
        buf_put(buf);
        return ret;
}

static int make_room_linear(struct jbd2_handle *h, struct ext4_inode *dir,
                            const struct ext4_name *name, unsigned alloc_flags,
                            struct ext4_dir_slot *ret_slot)
{
        ext4_lblk_t nr;
        int ret = ext4_dir_nr_blocks(dir, &nr);

        for (ext4_lblk_t i = 0; ret == 0 && i < nr; i++)
                ret = try_block(h, dir, i, ext4_dir_entry_size(name->len), ret_slot);
        if (ret != 0)
                return ret < 0 ? ret : 0;
        if (nr == 1 && ext4_has_compat(dir->fs, EXT4_COMPAT_DIR_INDEX)) {
                ret = ext4_htree_convert(h, dir, alloc_flags);
                if (ret < 0)
                        return ret;
                if (ret > 0)
                        return ext4_htree_make_room(h, dir, name, alloc_flags, ret_slot);
        }
        return append_leaf(h, dir, alloc_flags, ret_slot);
}

/* ---- inline ---- */

/* The entries of an inline directory as a block. */
static void unfold(const struct ext4_inode *dir, uint8_t *image)
{
        struct ext4_dir_filler f = {.dir = dir, .block = image};
        uint8_t type = ext4_dir_type(dir->fs, S_IFDIR);

        ext4_dir_fill_one(&f, ext4_ino(dir), type, ".", 1);
        ext4_dir_fill_one(&f, ext4_inline_parent(dir), type, "..", 2);
        for (unsigned which = 0; which < 2; which++) {
                struct ext4_inline_run run = ext4_inline_run(dir, which);
                struct ext4_dir_walk walk =
                        ext4_dir_walk(dir, dir->inline_data + run.start, run.size);
                const struct ext4_dir_entry *entry;

                while ((entry = ext4_dir_walk_next(&walk))) {
                        if (le32_get(entry->inode) != 0)
                                ext4_dir_fill_one(&f, le32_get(entry->inode), entry->file_type,
                                                  (const char *)(entry + 1), entry->name_len);
                }
        }
        ext4_dir_fill_end(&f);
}

/* They need no more than they have, and "." and "..", which an inode cannot have that fills a
 * block. */
static int leave_inode(struct jbd2_handle *h, struct ext4_inode *dir)
{
        const struct ext4_where at = ext4_at(dir, 0);
        _cleanup_mem_ uint8_t *image = NULL;

        if (dir->inline_size + 2u * ext4_dir_entry_size(2) > ext4_dir_leaf_end(dir->fs))
                return ext4_corrupt(&at, "inline directory of %u bytes", dir->inline_size);
        image = mem_zalloc(dir->fs->block_size);
        if (!image)
                return -ENOMEM;
        unfold(dir, image);
        ext4_dir_changed(dir);
        return ext4_inline_dir_to_block(h, dir, image);
}

static int make_room_inline(struct jbd2_handle *h, struct ext4_inode *dir,
                            const struct ext4_name *name, unsigned alloc_flags,
                            struct ext4_dir_slot *ret_slot)
{
        int ret = dir->inline_err;

        for (unsigned which = 0; ret == 0 && which < 2; which++) {
                struct ext4_inline_run run = ext4_inline_run(dir, which);
                uint32_t pos;

                ret = ext4_dir_run_has_room(dir, dir->inline_data + run.start, run.size,
                                            ext4_dir_entry_size(name->len), &pos);
                if (ret > 0)
                        *ret_slot = (struct ext4_dir_slot){.start = run.start,
                                                           .size = run.size,
                                                           .pos = pos,
                                                           .seq = dir->dir_seq};
        }
        if (ret == 0) {
                ret = leave_inode(h, dir);
                return ret < 0 ? ret : make_room_linear(h, dir, name, alloc_flags, ret_slot);
        }
        return ret < 0 ? ret : 0;
}

/* ---- all of them ---- */

int ext4_dir_make_room(struct jbd2_handle *h, struct ext4_inode *dir,
                       const struct ext4_name *name, unsigned alloc_flags,
                       struct ext4_dir_slot *ret_slot)
{
        if (dir->flags & EXT4_FL_INLINE_DATA)
                return make_room_inline(h, dir, name, alloc_flags, ret_slot);
        if (dir->flags & EXT4_FL_INDEX)
                return ext4_htree_make_room(h, dir, name, alloc_flags, ret_slot);
        return make_room_linear(h, dir, name, alloc_flags, ret_slot);
}

int ext4_dir_init(struct jbd2_handle *h, struct ext4_inode *dir, uint32_t parent,
                  unsigned alloc_flags)
{
        uint8_t type = ext4_dir_type(dir->fs, S_IFDIR);
        struct ext4_dir_filler f = {.dir = dir};
        struct ext4_new_block new;
        int ret = ext4_append_block(h, dir, alloc_flags, &new);

        if (ret < 0)
                return ret;
        f.block = new.bytes;
        ext4_dir_fill_one(&f, ext4_ino(dir), type, ".", 1);
        ext4_dir_fill_one(&f, parent, type, "..", 2);
        ext4_dir_fill_end(&f);
        jbd2_dirty(h, new.buf);
        buf_put(new.buf);
        return 0;
}

/* ---- empty? ---- */

static bool run_is_empty(const struct ext4_inode *dir, const uint8_t *run, uint32_t size)
{
        struct ext4_dir_walk walk = ext4_dir_walk(dir, run, size);
        const struct ext4_dir_entry *entry;

        while ((entry = ext4_dir_walk_next(&walk))) {
                const char *name = (const char *)(entry + 1);
                bool dots = name[0] == '.' &&
                            (entry->name_len == 1 || (entry->name_len == 2 && name[1] == '.'));

                if (le32_get(entry->inode) != 0 && !dots)
                        return false;
        }
        return true;
}

static int blocks_are_empty(struct ext4_inode *dir)
{
        const struct buf_check check = ext4_dir_check(dir, ext4_dir_block_verify);
        ext4_lblk_t nr;
        int ret = ext4_dir_nr_blocks(dir, &nr);

        for (ext4_lblk_t i = 0; ret == 0 && i < nr; i++) {
                _cleanup_buf_ struct buf *buf = NULL;

                ret = ext4_read_block(dir, i, &check, &buf);
                if (ret == 0 && buf && !run_is_empty(dir, buf->data, dir->fs->block_size))
                        return 0;
        }
        return ret < 0 ? ret : 1;
}

int ext4_dir_is_empty_locked(struct ext4_inode *dir)
{
        if (!(dir->flags & EXT4_FL_INLINE_DATA))
                return blocks_are_empty(dir);
        if (dir->inline_err < 0)
                return dir->inline_err;
        for (unsigned which = 0; which < 2; which++) {
                struct ext4_inline_run run = ext4_inline_run(dir, which);

                if (!run_is_empty(dir, dir->inline_data + run.start, run.size))
                        return 0;
        }
        return 1;
}
