/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_DELAYED_NEED_H
#define EXT4_DELAYED_NEED_H

/* What the map of a file may need for the data that is promised space (delayed.c alone). */

#include "ext4/ext4.h"

#define EXT4_DELAYED_CHUNK 512u /* clusters */

struct ext4_delayed_chunk {
        RB_ENTRY(ext4_delayed_chunk) node;
        uint32_t index; /* of its first cluster, in chunks */
        uint32_t need;  /* of the map, ext4_delayed_need() of it */
        uint8_t promised[EXT4_DELAYED_CHUNK / 8];
        uint8_t unwritten[EXT4_DELAYED_CHUNK / 8]; /* nodes are promised to their conversion */
        uint8_t wanted[EXT4_DELAYED_CHUNK /
                       8]; /* by a reservation under way: for one of both */
};

static inline uint64_t ext4_delayed_base(const struct ext4_delayed_chunk *c)
{
        return (uint64_t)c->index * EXT4_DELAYED_CHUNK;
}

/* The bits of a chunk that are set. */
uint32_t ext4_delayed_count(const uint8_t *bits);

/* The most extents that one cluster's blocks can become. */
uint64_t ext4_delayed_extents(const struct ext4_fs *fs);

/* Of one chunk: pointer blocks, or leaves that may have to be split. */
uint32_t ext4_delayed_need(const struct ext4_inode *inode, const struct ext4_delayed_chunk *c);

/* Blocks of the map, for that many clusters, promised and unwritten, whose chunks need that
 * much.  The map lock is held, for the depth. */
uint64_t ext4_delayed_need_in_all(const struct ext4_inode *inode, uint64_t nr,
                                  uint64_t nr_unwritten, uint64_t need);

#endif
