/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/dir_change.h"

#include <string.h>
#include <sys/stat.h>

#include "ext4/inline_change.h"
#include "ext4/truncate.h"
#include "util/crc.h"

/*
 * Taking entries out.  A run of entries has no gaps (dir.c): the space of one that goes becomes
 * part of the entry before it, or, of the first in its run, an unused entry.  What was in it is
 * wiped.  An index (htree.c) need not know: it says where names would be.
 *
 * Invariant
 *  DC1 The bytes of a block change only while the directory's lock is held exclusive, and after
 *      each change they pass ext4_dir_block_verify(), checksum included.
 */

/* ---- finding ---- */

void ext4_dir_place_put(struct ext4_dir_place *place)
{
        buf_put(place->buf);
        place->buf = NULL;
}

/* The bytes of the run that the place is in. */
static const uint8_t *run_of(const struct ext4_inode *dir, const struct ext4_dir_place *place)
{
        return place->buf ? (const uint8_t *)place->buf->data + place->start
                          : dir->inline_data + place->start;
}

/* Find the name in the place's run: 0, -ENOENT. */
static int find_in_run(const struct ext4_inode *dir, const struct ext4_name *name,
                       struct ext4_dir_place *place)
{
        struct ext4_dir_walk walk = ext4_dir_walk(dir, run_of(dir, place), place->size);
        uint32_t prev = 0;

        for (;;) {
                uint32_t pos = walk.pos;
                const struct ext4_dir_entry *entry = ext4_dir_walk_next(&walk);

                if (!entry)
                        return -ENOENT;
                if (le32_get(entry->inode) != 0 && entry->name_len == name->len &&
                    memcmp(entry + 1, name->text, name->len) == 0) {
                        place->pos = pos;
                        place->prev = prev;
                        place->ino = le32_get(entry->inode);
                        return 0;
                }
                prev = pos;
        }
}

static int find_inline(struct ext4_inode *dir, const struct ext4_name *name,
                       struct ext4_dir_place *ret_place)
{
        for (unsigned which = 0; which < 2; which++) {
                struct ext4_inline_run run = ext4_inline_run(dir, which);
                struct ext4_dir_place place = {.start = run.start, .size = run.size};

                if (find_in_run(dir, name, &place) == 0) {
                        *ret_place = place;
                        return 0;
                }
        }
        return -ENOENT; /* "." and "..", which are no entries */
}

static int find_in_block(struct ext4_inode *dir, const struct ext4_name *name, ext4_lblk_t lblk,
                         struct ext4_dir_place *ret_place)
{
        const struct buf_check check = ext4_dir_check(dir, ext4_dir_block_verify);
        struct ext4_dir_place place = {.size = dir->fs->block_size};
        int ret = ext4_read_block(dir, lblk, &check, &place.buf);

        if (ret < 0)
                return ret;
        ret = place.buf ? find_in_run(dir, name, &place) : -ENOENT;
        if (ret < 0)
                ext4_dir_place_put(&place);
        else
                *ret_place = place;
        return ret;
}

int ext4_dir_find_locked(struct ext4_inode *dir, const struct ext4_name *name,
                         struct ext4_dir_place *ret_place)
{
        struct ext4_dir_hit hit;
        int ret = ext4_dir_lookup_locked(dir, name, &hit);

        if (ret < 0)
                return ret;
        if (dir->flags & EXT4_FL_INLINE_DATA)
                return find_inline(dir, name, ret_place);
        return find_in_block(dir, name, hit.lblk, ret_place);
}

/* An inline directory has the number of its parent, and no entry for it. */
int ext4_dir_find_parent_locked(struct ext4_inode *dir, const struct ext4_inode *parent,
                                struct ext4_dir_place *ret_place)
{
        static const struct ext4_name dotdot = {"..", 2};
        const struct ext4_where at = ext4_at(dir, 0);
        struct ext4_dir_place place = {0};
        int ret = dir->inline_err;

        if (dir->flags & EXT4_FL_INLINE_DATA)
                place.ino = ext4_inline_parent(dir);
        else
                ret = ext4_dir_find_locked(dir, &dotdot, &place);
        if (ret < 0 && ret != -ENOENT)
                return ret;
        if (place.ino == ext4_ino(parent)) {
                *ret_place = place;
                return 0;
        }
        ext4_dir_place_put(&place);
        return ext4_corrupt(&at, "\"..\" leads to inode %u, not %u", place.ino,
                            ext4_ino(parent));
}

/* ---- entries (pure) ---- */

le16 ext4_dir_rec_len_make(uint32_t block_size, uint32_t len)
{
        if (block_size < 65536)
                return le16_make((uint16_t)len);
        if (len == 65536)
                return le16_make(65535);
        return le16_make((uint16_t)((len & 65532) | (len >> 16 & 3)));
}

uint8_t ext4_dir_type(const struct ext4_fs *fs, uint32_t mode)
{
        if (!ext4_has_incompat(fs, EXT4_INCOMPAT_FILETYPE))
                return EXT4_FT_UNKNOWN;
        switch (mode & S_IFMT) {
        case S_IFREG:
                return EXT4_FT_REG_FILE;
        case S_IFDIR:
                return EXT4_FT_DIR;
        case S_IFCHR:
                return EXT4_FT_CHRDEV;
        case S_IFBLK:
                return EXT4_FT_BLKDEV;
        case S_IFIFO:
                return EXT4_FT_FIFO;
        case S_IFSOCK:
                return EXT4_FT_SOCK;
        case S_IFLNK:
                return EXT4_FT_SYMLINK;
        default:
                return EXT4_FT_UNKNOWN;
        }
}

/* Take the entry at `pos` out of a run; `prev` is the one before, or pos. */
static void take_out(uint32_t block_size, uint8_t *run, uint32_t pos, uint32_t prev)
{
        struct ext4_dir_entry *entry = (void *)(run + pos);
        struct ext4_dir_entry *before = (void *)(run + prev);
        uint32_t len = ext4_dir_rec_len(block_size, entry->rec_len);

        memset(entry, 0, len);
        if (prev == pos)
                entry->rec_len = ext4_dir_rec_len_make(block_size, len);
        else
                before->rec_len = ext4_dir_rec_len_make(
                        block_size, ext4_dir_rec_len(block_size, before->rec_len) + len);
}

static void seal_leaf(const struct ext4_inode *dir, uint8_t *block)
{
        const uint32_t end = ext4_dir_leaf_end(dir->fs);
        struct ext4_dir_tail *tail = (void *)(block + end);

        tail->det_checksum = le32_make(crc32c(dir->csum_seed, block, end));
}

void ext4_dir_seal(const struct ext4_inode *dir, uint8_t *block)
{
        enum ext4_dir_form form = EXT4_DIR_LEAF;

        if (!dir->fs->has_metadata_csum)
                return;
        if (dir->flags & EXT4_FL_INDEX)
                form = ext4_dir_form(block, dir->fs->block_size);
        if (form == EXT4_DIR_LEAF)
                seal_leaf(dir, block);
        else
                ext4_dx_seal(dir, block,
                             form == EXT4_DX_ROOT ? EXT4_DX_ROOT_OFFSET : EXT4_DX_NODE_OFFSET);
}

/* ---- changing ---- */

int ext4_dir_place_begin(struct jbd2_handle *h, struct ext4_dir_place *place)
{
        return place->buf ? jbd2_get_write(h, place->buf, &place->bytes) : 0;
}

static uint8_t *run_to_change(struct ext4_inode *dir, const struct ext4_dir_place *place)
{
        return place->buf ? (uint8_t *)place->bytes + place->start
                          : dir->inline_data + place->start;
}

static void run_changed(struct jbd2_handle *h, struct ext4_inode *dir,
                        const struct ext4_dir_place *place)
{
        ext4_dir_changed(dir);
        if (place->buf) {
                ext4_dir_seal(dir, place->bytes);
                jbd2_dirty(h, place->buf);
        } else {
                ext4_inline_put(dir);
        }
}

void ext4_dir_take_out(struct jbd2_handle *h, struct ext4_inode *dir,
                       const struct ext4_dir_place *place)
{
        take_out(dir->fs->block_size, run_to_change(dir, place), place->pos, place->prev);
        run_changed(h, dir, place);
}

void ext4_dir_lead_to(struct jbd2_handle *h, struct ext4_inode *dir,
                      const struct ext4_dir_place *place, const struct ext4_inode *inode)
{
        if (!place->buf && place->size == 0) { /* the parent of an inline directory */
                const le32 parent = le32_make(ext4_ino(inode));

                memcpy(dir->inline_data, &parent, sizeof(parent));
        } else {
                struct ext4_dir_entry *entry = (void *)(run_to_change(dir, place) + place->pos);

                entry->inode = le32_make(ext4_ino(inode));
                entry->file_type = ext4_dir_type(dir->fs, inode->mode);
        }
        run_changed(h, dir, place);
}
