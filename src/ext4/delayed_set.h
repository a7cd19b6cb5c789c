/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef EXT4_DELAYED_SET_H
#define EXT4_DELAYED_SET_H

/*
 * Sets of a file's clusters: those that something is promised to (delayed.c alone).
 *
 * Clusters are bits in chunks, which are nodes of a tree.  So taking any of them out needs no
 * memory, and cannot fail; a range that would have to be cut in two would need some.  A chunk
 * is there as long as a bit of it is set.
 *
 * The lock of struct ext4_delayed is held, unless something else is said.
 */

#include "ext4/ext4.h"

#define EXT4_DELAYED_CHUNK 512u /* clusters */

/* What is promised. */
enum ext4_delayed_kind {
        EXT4_DELAYED_DATA,       /* space, to clusters without blocks */
        EXT4_DELAYED_CONVERSION, /* nodes, to blocks that are there, unwritten */
        EXT4_DELAYED_NR_KINDS,
};

struct ext4_delayed_chunk {
        RB_ENTRY(ext4_delayed_chunk) node;
        uint32_t index; /* of its first cluster, in chunks */
        uint32_t need;  /* of the map, ext4_delayed_need() of it */
        uint8_t promised[EXT4_DELAYED_NR_KINDS][EXT4_DELAYED_CHUNK / 8];
        uint8_t wanted[EXT4_DELAYED_CHUNK / 8]; /* by a reservation under way, for one kind */
};

/* Clusters. */
struct ext4_delayed_span {
        uint64_t from, to; /* `to` not included */
};

static inline uint64_t ext4_delayed_base(const struct ext4_delayed_chunk *c)
{
        return (uint64_t)c->index * EXT4_DELAYED_CHUNK;
}

/* The clusters that blocks touch.  No lock. */
struct ext4_delayed_span ext4_delayed_touched(const struct ext4_inode *inode, uint64_t from,
                                              uint64_t to);

/* The first chunk that has a cluster of the span, which then begins behind the chunk; NULL. */
struct ext4_delayed_chunk *ext4_delayed_next_chunk(struct ext4_delayed *d,
                                                   struct ext4_delayed_span *s);

/* The chunk goes if nothing is left in it. */
void ext4_delayed_chunk_put(struct ext4_delayed *d, struct ext4_delayed_chunk *c);

/* How many of a chunk are promised that kind. */
uint32_t ext4_delayed_count(const struct ext4_delayed_chunk *c, enum ext4_delayed_kind kind);

/* Where what is like the first cluster, promised space or not, ends. */
uint64_t ext4_delayed_run_end(struct ext4_delayed *d, struct ext4_delayed_span s,
                              bool *ret_promised);

/* Whether all of them are promised something. */
bool ext4_delayed_has_all(struct ext4_delayed *d, struct ext4_delayed_span s,
                          enum ext4_delayed_kind kind);

/* Take out of a chunk what it has of the span: how many. */
uint32_t ext4_delayed_take_out(struct ext4_delayed_chunk *c, struct ext4_delayed_span s,
                               enum ext4_delayed_kind kind);

/*
 * Mark as wanted what of the span is not promised that kind; *nr counts.  -ENOMEM: some are
 * marked.  The marks become promises, or go, chunk by chunk.
 */
must_check int ext4_delayed_want(struct ext4_delayed *d, struct ext4_delayed_span s,
                                 enum ext4_delayed_kind kind, uint64_t *nr);
void ext4_delayed_keep_wanted(struct ext4_delayed_chunk *c, enum ext4_delayed_kind kind);
void ext4_delayed_forget_wanted(struct ext4_delayed_chunk *c);

#endif
