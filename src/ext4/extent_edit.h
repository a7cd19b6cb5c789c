/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_EXTENT_EDIT_H
#define EXT4_EXTENT_EDIT_H

/*
 * Arithmetic on one extent node: no I/O, no allocation, nothing that can fail on the way.
 *
 * A change of a leaf is planned first, as a splice: `nr_old` entries from `at` on give way to
 * the extents in `new`.  A plan says how many entries the leaf gains, so that room can be made
 * before anything changes; then it is applied.
 *
 * The nodes have been verified (ext4_extent_node_check): what is wrong here is our mistake.
 *
 *  I1  Entries are sorted, extents do not overlap, none is empty.
 *  I2  A written extent has at most 32768 blocks, an unwritten one 32767 (B18).
 *  I3  A splice changes nothing of what lies outside of the range it was planned for:
 *      neighbours may become one with the new extents, with the same blocks behind them.
 */

#include "ext4/ext4.h"

#define EXT4_MAX_WRITTEN   32768u
#define EXT4_MAX_UNWRITTEN 32767u

/* The longest extent of a type. */
static inline uint32_t ext4_extent_max_len(enum ext4_map_type type)
{
        return type == EXT4_MAP_UNWRITTEN ? EXT4_MAX_UNWRITTEN : EXT4_MAX_WRITTEN;
}

/* ---- looking, also for the reading side and its verifier ---- */

static inline unsigned ext4_node_entries(const struct ext4_extent_header *eh)
{
        return le16_get(eh->eh_entries);
}

static inline unsigned ext4_node_max(const struct ext4_extent_header *eh)
{
        return le16_get(eh->eh_max);
}

static inline unsigned ext4_node_depth(const struct ext4_extent_header *eh)
{
        return le16_get(eh->eh_depth);
}

/* Entries that a node of `size` bytes has room for; behind them in a block is the checksum. */
static inline unsigned ext4_node_room(size_t size)
{
        return (unsigned)((size - sizeof(struct ext4_extent_header)) /
                          sizeof(struct ext4_extent_disk));
}

/* The first logical block of entry i, of a leaf or above. */
ext4_lblk_t ext4_node_key(const struct ext4_extent_header *eh, unsigned i);

/* The last entry whose key is <= lblk, or -1. */
int ext4_node_find(const struct ext4_extent_header *eh, ext4_lblk_t lblk);

/* Where child i of an index node is. */
ext4_fsblk_t ext4_node_child(const struct ext4_extent_header *eh, unsigned i);

/* Extent i of a leaf. */
struct ext4_map ext4_node_extent(const struct ext4_extent_header *eh, unsigned i);

static inline uint64_t ext4_map_end(const struct ext4_map *map)
{
        return map->lblk + map->len;
}

/* ---- planning ---- */

#define EXT4_SPLICE_MAX_NEW 3u

struct ext4_splice {
        unsigned at;
        unsigned nr_old;
        unsigned nr_new;
        struct ext4_map new[EXT4_SPLICE_MAX_NEW];
};

/* Entries that the leaf gains (or loses). */
static inline int ext4_splice_growth(const struct ext4_splice *s)
{
        return (int)s->nr_new - (int)s->nr_old;
}

static inline bool ext4_splice_fits(const struct ext4_extent_header *eh,
                                    const struct ext4_splice *s)
{
        return (int)ext4_node_entries(eh) + ext4_splice_growth(s) <= (int)ext4_node_max(eh);
}

/* Whether the key of the node changes with it. */
bool ext4_splice_changes_key(const struct ext4_extent_header *eh, const struct ext4_splice *s);

/*
 * Add an extent, no longer than its type allows, where there is a hole.  -EEXIST, where there
 * is none.
 */
must_check int ext4_splice_insert(const struct ext4_extent_header *eh,
                                  const struct ext4_map *new, struct ext4_splice *ret_splice);

/* Give [from, to), which lies in extent i, another type.  No more than an extent of that type
 * can hold. */
void ext4_splice_convert(const struct ext4_extent_header *eh, unsigned i, uint64_t from,
                         uint64_t to, enum ext4_map_type type, struct ext4_splice *ret_splice);

/* Take [from, to), which lies in extent i, out of it. */
void ext4_splice_remove(const struct ext4_extent_header *eh, unsigned i, uint64_t from,
                        uint64_t to, struct ext4_splice *ret_splice);

/* Make two extents of extent i: [.., at) and [at, ..).  at lies inside. */
void ext4_splice_cut(const struct ext4_extent_header *eh, unsigned i, uint64_t at,
                     struct ext4_splice *ret_splice);

/* ---- changing ---- */

/* It fits. */
void ext4_splice_apply(struct ext4_extent_header *eh, const struct ext4_splice *s);

/* An empty node with room for `max` entries. */
void ext4_node_init(struct ext4_extent_header *eh, unsigned max, unsigned depth);

/* Forget `nr` entries from `i` on. */
void ext4_node_remove(struct ext4_extent_header *eh, unsigned i, unsigned nr);

/* Entry i of an index node, before what is there now, which has room. */
void ext4_node_insert_child(struct ext4_extent_header *eh, unsigned i, ext4_lblk_t key,
                            ext4_fsblk_t child);

void ext4_node_set_key(struct ext4_extent_header *eh, unsigned i, ext4_lblk_t key);

/* All entries from `i` on go over to the empty node `to` of the same depth. */
void ext4_node_move_tail(struct ext4_extent_header *from, unsigned i,
                         struct ext4_extent_header *to);

/* `to` says what `from` says, of another size, but with room for that. */
void ext4_node_replace(struct ext4_extent_header *to, const struct ext4_extent_header *from);

/* How many entries shall stay in the left one of two nodes that are made of this one because
 * entries are to come in at `pos`.  1 .. entries - 1; there are two at least. */
unsigned ext4_node_split_point(const struct ext4_extent_header *eh, unsigned pos);

/*
 * Move `nr` extents from `i` on by `delta` logical blocks, and make one of them and the one
 * before if that continues it.  There is place for them.
 */
void ext4_node_shift(struct ext4_extent_header *eh, unsigned i, unsigned nr, int64_t delta);

#endif
