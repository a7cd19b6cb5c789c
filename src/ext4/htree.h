/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_HTREE_H
#define EXT4_HTREE_H

/* The path through the index of a directory, for who looks up (htree.c) and who changes the
 * index (htree_change.c). */

#include "ext4/dir.h"

#define EXT4_DX_MAX_LEVELS 3 /* with large_dir; else 2 */

/* The upper four bits of a block number are set aside for a hint about how full it is. */
#define EXT4_DX_BLOCK_MASK 0x0fffffffu

struct ext4_dx_level {
        struct buf *buf;
        const struct ext4_dx_entry *entries;
        uint32_t count;
        uint32_t at;
};

struct ext4_dx_path {
        struct ext4_inode *dir;
        uint8_t version; /* of the hash, with its sign */
        uint32_t hash;
        unsigned nr_levels;
        struct ext4_dx_level levels[EXT4_DX_MAX_LEVELS];
        ext4_lblk_t leaves_left; /* H2 */
};

/* How many levels an index of this file system can have. */
uint32_t ext4_dx_max_levels(const struct ext4_fs *fs);

/* The hash of a directory that becomes a hashed one: as its root will have it, and with its
 * sign. */
uint8_t ext4_dx_new_version(const struct ext4_fs *fs);
uint8_t ext4_dx_default_version(const struct ext4_fs *fs);

/* The path of a name to the first leaf that may have it.  path->dir is set, the rest zeros; on
 * an error, too, ext4_dx_path_done() follows. */
must_check int ext4_dx_path_to(struct ext4_dx_path *path, const struct ext4_name *name);
void ext4_dx_path_done(struct ext4_dx_path *path);

/* The same by hash, in two steps, the second of which may be repeated with another hash. */
must_check int ext4_dx_path_begin(struct ext4_dx_path *path);
must_check int ext4_dx_path_go(struct ext4_dx_path *path, uint32_t hash);

/* To the next leaf, if names of the path's hash go on there: 1; 0 if not. */
must_check int ext4_dx_next_leaf(struct ext4_dx_path *path);

/* What the index says of the hashes in the leaf of a path: from <= hash < to, but for bit 0,
 * which says that names of that hash are in the leaf before as well. */
struct ext4_dx_range {
        uint64_t from, to; /* to: 1 << 32 for the last leaf */
};

struct ext4_dx_range ext4_dx_path_range(const struct ext4_dx_path *path);

static inline bool ext4_dx_in_range(const struct ext4_dx_range *range, uint32_t hash)
{
        return hash >= (range->from & ~1ull) && hash < range->to;
}

#define _cleanup_dx_path_ __attribute__((cleanup(ext4_dx_path_done)))

/* The logical block that the path goes on to from a level. */
static inline ext4_lblk_t ext4_dx_child(const struct ext4_dx_level *level)
{
        return le32_get(level->entries[level->at].block) & EXT4_DX_BLOCK_MASK;
}

/* Its leaf. */
static inline ext4_lblk_t ext4_dx_leaf(const struct ext4_dx_path *path)
{
        return ext4_dx_child(&path->levels[path->nr_levels - 1]);
}

/* A block of the directory that must be there, checked. */
must_check int ext4_dx_read_block(struct ext4_inode *dir, ext4_lblk_t lblk,
                                  int (*verify)(const void *, size_t, uint64_t, const void *),
                                  struct buf **ret_buf);

#endif
