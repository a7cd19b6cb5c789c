/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VFS_FOLIO_H
#define VFS_FOLIO_H

/*
 * A folio: a piece of one file in memory, a power of two of bytes at a multiple of them, in one
 * piece.  It knows of each of its blocks whether its bytes are the file's (uptodate) and
 * whether the device does not have them yet (dirty).
 *
 * Who wants the bytes of blocks that are not uptodate, or changes bytes or states, holds the
 * folio's lock.  Who copies uptodate bytes out needs only a reference, and something that keeps
 * writers away: the inode lock, shared.
 *
 * What is being written to the device does not change until it is there (folio_lock_stable).
 */

#include <bsd/sys/tree.h>
#include <sys/queue.h>

#include "util/lock.h"

struct vfs_inode;
struct vfs_pagecache;

#define FOLIO_MIN_SIZE 4096u
#define FOLIO_MAX_SIZE (1u << 20)

struct folio {
        struct vfs_inode *inode; /* [const] good as long as the folio is of the file */
        uint64_t pos;            /* of its first byte in the file [const] */
        uint32_t size;           /* bytes [const] */
        uint32_t block_bits;     /* [const] */
        char *data;              /* [const] */

        struct vfs_pagecache *cache; /* whose memory it is, also when it is no file's [const] */
        uint32_t piece;              /* how much of it [const] */

        _Atomic uint32_t refs;     /* one is the file's, until it is removed */
        _Atomic bool is_uptodate;  /* all blocks are; never again not */
        _Atomic bool was_used;     /* since reclaim last looked */
        _Atomic bool is_writeback; /* changes under the lock of the inode's pages */
        bool is_removed; /* no longer the file's [lock, for changes also pages.lock] */
        bool is_dirty;   /* is in the tree of dirty folios [pages.lock] */

        struct mtx lock; /* RANK_PAGE */

        RB_ENTRY(folio) dirty_link; /* [pages.lock] */
        TAILQ_ENTRY(folio) lru;     /* [pagecache.lock] */

        uint32_t nr_words; /* of each map [const] */
        uint64_t bits[];   /* [lock] two maps of a bit per block: uptodate, dirty */
};

/* Make one, not of any file yet, with one reference and no contents.  NULL: no memory, for one
 * as large as that. */
must_check struct folio *folio_new(struct vfs_inode *inode, uint64_t pos, uint32_t size);

static inline void folio_get(struct folio *f)
{
        atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
}

/* Give a reference back; the last one frees it. */
void folio_put(struct folio *f);

static inline uint64_t folio_end(const struct folio *f)
{
        return f->pos + f->size;
}

static inline char *folio_at(const struct folio *f, uint64_t pos)
{
        return f->data + (pos - f->pos);
}

/* ---- states of blocks; positions are of the file, in the folio; its lock is held ---- */

/* All blocks that [from, to) touches. */
bool folio_is_uptodate(const struct folio *f, uint64_t from, uint64_t to);
void folio_set_uptodate(struct folio *f, uint64_t from, uint64_t to);
void folio_set_dirty(struct folio *f, uint64_t from, uint64_t to);
void folio_clear_dirty(struct folio *f);

/* The first run of blocks at or behind `from` and before `to` that are not uptodate; are dirty.
 * False: there is none.  The run ends at `to`, rounded up to blocks, at the latest. */
bool folio_next_missing(const struct folio *f, uint64_t from, uint64_t to, uint64_t *ret_from,
                        uint64_t *ret_to);
bool folio_next_dirty(const struct folio *f, uint64_t from, uint64_t to, uint64_t *ret_from,
                      uint64_t *ret_to);

#endif
