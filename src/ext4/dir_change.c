/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ext4/dir_change.h"

#include <string.h>

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

/* ---- entries (pure) ---- */

/* The inverse of ext4_dir_rec_len(). */
static le16 rec_len_make(uint32_t block_size, uint32_t len)
{
        if (block_size < 65536)
                return le16_make((uint16_t)len);
        if (len == 65536)
                return le16_make(65535);
        return le16_make((uint16_t)((len & 65532) | (len >> 16 & 3)));
}

/* Take the entry at `pos` out of a run; `prev` is the one before, or pos. */
static void take_out(uint32_t block_size, uint8_t *run, uint32_t pos, uint32_t prev)
{
        struct ext4_dir_entry *entry = (void *)(run + pos);
        struct ext4_dir_entry *before = (void *)(run + prev);
        uint32_t len = ext4_dir_rec_len(block_size, entry->rec_len);

        if (prev == pos) {
                memset(entry, 0, len);
                entry->rec_len = rec_len_make(block_size, len);
                return;
        }
        memset(entry, 0, len);
        before->rec_len =
                rec_len_make(block_size, ext4_dir_rec_len(block_size, before->rec_len) + len);
}

static void seal_leaf(const struct ext4_inode *dir, uint8_t *block)
{
        const uint32_t end = dir->fs->block_size - (uint32_t)sizeof(struct ext4_dir_tail);
        struct ext4_dir_tail *tail = (void *)(block + end);

        if (dir->fs->has_metadata_csum)
                tail->det_checksum = le32_make(crc32c(dir->csum_seed, block, end));
}

/* ---- changing ---- */

int ext4_dir_remove_locked(struct jbd2_handle *h, struct ext4_inode *dir,
                           const struct ext4_dir_place *place)
{
        const uint32_t block_size = dir->fs->block_size;
        struct ext4_iloc loc;
        void *bytes;
        int ret = ext4_inode_begin(h, dir, &loc);

        if (ret < 0)
                return ret;
        if (place->buf) {
                ret = jbd2_get_write(h, place->buf, &bytes);
                if (ret < 0) {
                        ext4_iloc_put(&loc);
                        return ret;
                }
                take_out(block_size, (uint8_t *)bytes + place->start, place->pos, place->prev);
                seal_leaf(dir, bytes);
                jbd2_dirty(h, place->buf);
        } else {
                take_out(block_size, dir->inline_data + place->start, place->pos, place->prev);
                ext4_inline_put(dir);
        }
        ext4_touch_changed(dir);
        ext4_inode_store(h, dir, &loc);
        return 0;
}
