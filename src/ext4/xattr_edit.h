/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_XATTR_EDIT_H
#define EXT4_XATTR_EDIT_H

/*
 * Runs of attributes (xattr.c) taken to pieces and put together again.  Pure: memory only.
 *
 * A set is the entries of one run, as they are to be.  Building a run from it packs the values
 * at the end, so that free space is one piece, and what does not overlap in a set can overlap
 * nowhere.
 */

#include "ext4/xattr.h"

struct ext4_xattr_item {
        struct ext4_xattr_key key;
        const void *value; /* NULL: in inode inum */
        uint32_t size;
        uint32_t inum;
        uint32_t hash;
};

/* The memory that items point to outlives the set. */
struct ext4_xattr_set {
        struct ext4_xattr_item *items;
        size_t nr, room;
};

/* All of a checked inode's space, or of a checked block.  -ENOMEM.  One more fits. */
must_check int ext4_xattr_set_of_ibody(struct ext4_xattr_set *set, const void *ibody,
                                       size_t size);
must_check int ext4_xattr_set_of_block(struct ext4_xattr_set *set, const void *data,
                                       size_t size);
void ext4_xattr_set_done(struct ext4_xattr_set *set);

/* The first of this name at or behind `from`, or set->nr. */
size_t ext4_xattr_set_find(const struct ext4_xattr_set *set, const struct ext4_xattr_key *key,
                           size_t from);
void ext4_xattr_set_remove(struct ext4_xattr_set *set, size_t i);
void ext4_xattr_set_add(struct ext4_xattr_set *set, const struct ext4_xattr_item *item);

/* What the set needs; what there is. */
size_t ext4_xattr_set_size(const struct ext4_xattr_set *set);
static inline size_t ext4_xattr_ibody_room(size_t size)
{
        return size < sizeof(struct ext4_xattr_ibody_header) + sizeof(le32)
                       ? 0
                       : size - sizeof(struct ext4_xattr_ibody_header) - sizeof(le32);
}

static inline size_t ext4_xattr_block_room(size_t size)
{
        return size - sizeof(struct ext4_xattr_header) - sizeof(le32);
}

/*
 * Build the run, which fits.  An empty one in an inode is zeros.  A block has its entries
 * sorted, as who reads them expects, one reference, and its hash; the checksum is the caller's.
 */
void ext4_xattr_build_ibody(const struct ext4_xattr_set *set, void *ibody, size_t size);
void ext4_xattr_build_block(struct ext4_xattr_set *set, void *data, size_t size);

/* The hash in an entry: of its name, and of its value or the hash of that. */
uint32_t ext4_xattr_hash_value(const struct ext4_xattr_key *key, const void *value,
                               size_t size);
uint32_t ext4_xattr_hash_outside(const struct ext4_xattr_key *key, uint32_t value_hash);

#endif
