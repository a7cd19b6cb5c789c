/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_SYSTEM_ZONE_H
#define EXT4_SYSTEM_ZONE_H

/*
 * Where the file system's own blocks are: superblocks, descriptors and the room kept for more
 * of them, bitmaps, inode tables, the journal.  Whatever a bitmap or a file's map says, they
 * are never given out and never freed.
 */

#include "ext4/ext4.h"

struct ext4_zone {
        ext4_fsblk_t start;
        uint64_t len;
        ext4_group_t group; /* whose descriptor names it; EXT4_ZONE_NO_GROUP */
};

#define EXT4_ZONE_NO_GROUP UINT32_MAX

struct ext4_zones {
        struct ext4_zone *zones; /* sorted; do not overlap once ext4_zones_settle() is done */
        size_t nr;
        size_t cap;
};

void ext4_zones_done(struct ext4_zones *z);

/* Those at the fixed places of a group: super block and descriptors. */
must_check int ext4_zones_add_fixed(struct ext4_zones *z, const struct ext4_fs *fs,
                                    ext4_group_t group);

/* Those that its descriptor names. */
must_check int ext4_zones_add_group(struct ext4_zones *z, const struct ext4_fs *fs,
                                    ext4_group_t group, const struct ext4_group *g);

/* The blocks of the journal's inode, if it has one. */
must_check int ext4_zones_add_journal(struct ext4_zones *z, struct ext4_fs *fs);

/*
 * Sort, and join what touches.  Where two overlap, one of their descriptors is wrong: bad() is
 * told the groups of both.
 */
void ext4_zones_settle(struct ext4_zones *z, void (*bad)(void *arg, ext4_group_t group),
                       void *arg);

bool ext4_zones_overlap(const struct ext4_zones *z, ext4_fsblk_t blk, uint64_t nr);

/* The first zone that ends behind blk, or NULL; the next one is behind it. */
const struct ext4_zone *ext4_zones_from(const struct ext4_zones *z, ext4_fsblk_t blk);

#endif
