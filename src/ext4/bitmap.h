/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_BITMAP_H
#define EXT4_BITMAP_H

/*
 * A group's two bitmaps.  Bit n of the block bitmap is cluster n of the group, bit n of the
 * inode bitmap is the group's nth inode; set bits are in use, and so are, by rule, all
 * bits behind the last.  The checksum of each is kept in the group's descriptor.
 *
 * A bitmap may be uninitialised (EXT4_BG_BLOCK_UNINIT, _INODE_UNINIT; only with checksums of
 * descriptors).  Then nothing on disk counts: the block bitmap is what system zones make of
 * it, the inode bitmap is empty.
 *
 * The caller of everything that takes a struct ext4_group holds the group's lock, and got the
 * descriptor under it.
 */

#include "ext4/balloc.h"

enum ext4_bitmap_kind {
        EXT4_BLOCK_BITMAP,
        EXT4_INODE_BITMAP,
};

/* Bits of it that mean something. */
uint32_t ext4_bitmap_nr_bits(const struct ext4_fs *fs, ext4_group_t group,
                             enum ext4_bitmap_kind kind);

/* Whether it is on disk at all. */
bool ext4_bitmap_is_init(const struct ext4_fs *fs, const struct ext4_group *g,
                         enum ext4_bitmap_kind kind);

/*
 * Copy the bitmap, checked, to `bytes` (one block).  -EUCLEAN or -EBADMSG, said, when it
 * cannot be what the descriptor says.
 */
must_check int ext4_bitmap_load(struct ext4_fs *fs, ext4_group_t group,
                                const struct ext4_group *g, enum ext4_bitmap_kind kind,
                                void *bytes);

/* A bitmap that may be written. */
struct ext4_bitmap_loc {
        enum ext4_bitmap_kind kind;
        struct buf *buf;
        uint8_t *bytes;
};

/*
 * Access to a bitmap; an uninitialised one is initialised.  The last thing to fail: the
 * bitmap must then be stored, which seals it in *g, clears the flag there and dirties the
 * block, and *g by ext4_group_store().  Only of one that was initialised may the caller let go
 * instead, with ext4_bitmap_put().  Credit: 1.
 */
must_check int ext4_bitmap_begin(struct jbd2_handle *h, const struct ext4_group_loc *at,
                                 const struct ext4_group *g, enum ext4_bitmap_kind kind,
                                 struct ext4_bitmap_loc *ret_loc);
void ext4_bitmap_store(struct jbd2_handle *h, const struct ext4_group_loc *at,
                       struct ext4_bitmap_loc *loc, struct ext4_group *g);
void ext4_bitmap_put(struct ext4_bitmap_loc *loc);

/* ---- bits (pure) ---- */

/* The next set bit in [from, end), or end.  The next clear one. */
uint32_t ext4_bits_next_set(const uint8_t *bytes, uint32_t from, uint32_t end);
uint32_t ext4_bits_next_clear(const uint8_t *bytes, uint32_t from, uint32_t end);

void ext4_bits_set(uint8_t *bytes, uint32_t from, uint32_t nr);
void ext4_bits_clear(uint8_t *bytes, uint32_t from, uint32_t nr);
uint32_t ext4_bits_count_clear(const uint8_t *bytes, uint32_t nr);

#endif
